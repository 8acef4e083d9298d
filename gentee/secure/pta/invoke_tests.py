# SPDX-License-Identifier: BSD-2-Clause
"""The self-test pseudo TA (OP-TEE core/pta/tests/invoke.c), which OP-TEE's test program calls.

Its commands about parameters and memory are OP-TEE's. Its self tests are of what gentee has
(:mod:`gentee.secure.pta.self_tests`), its locks those of :mod:`gentee.secure.pta.rwlock`. What
tests a part of OP-TEE's core that is not here says so: TEE_ERROR_NOT_SUPPORTED.
"""

import threading
import time

from gentee.abi import optee_pta as pta
from gentee.abi.gp import (
    TEE_NUM_PARAMS,
    TEE_PARAM_TYPE_GET,
    TEE_PARAM_TYPE_MEMREF_INOUT,
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_MEMREF_OUTPUT,
    TEE_PARAM_TYPE_VALUE_INOUT,
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_VALUE_OUTPUT,
)
from gentee.abi.optee_ta import (
    TA_FLAG_CONCURRENT,
    TA_FLAG_DEVICE_ENUM,
    TA_FLAG_SECURE_DATA_PATH,
)
from gentee.core.host import LOG_ERROR, LOG_INFO
from gentee.errors import BadParameters, BadState, GenericError, NotSupported, ShortBuffer
from gentee.secure.pta.pseudo_ta import (
    MemRef,
    Param,
    PseudoTa,
    PtaSession,
    Value,
    expect,
    memref,
    value,
)
from gentee.secure.pta.rwlock import ReadWriteLock

# What tests a part of OP-TEE's core that gentee has not: lock dependencies, the hash tree of files,
# ciphers in the core, lists that a boot loader hands over.
_ABSENT = (
    pta.PTA_INVOKE_TESTS_CMD_FS_HTREE,
    pta.PTA_INVOKE_TESTS_CMD_LOCKDEP,
    pta.PTA_INVOKE_TEST_CMD_AES_PERF,
    pta.PTA_INVOKE_TESTS_CMD_TRANSFER_LIST_TESTS,
)

_MOST_ROUNDS = 1 << 18  # of a test of locks; OP-TEE's program asks for 65536
_MOST_BYTES = 1 << 20  # whose sum is asked for; OP-TEE's program asks for that of 16384

# What is long is done in pieces, one at a time of all calls, with a breath after each: so the other
# threads of gentee have the interpreter soon, however many call.
_PIECE = 1 << 11  # rounds, of 40 ns
_PIECE_BYTES = 1 << 12
_NEGATIVES = bytes(-number & 0xFF for number in range(256))
_BREATH = 50e-6  # seconds
_turn = threading.Lock()


class InvokeTestsPta(PseudoTa):
    """Sessions of anybody, served at the same time."""

    uuid = pta.PTA_INVOKE_TESTS_UUID
    name = "invoke_tests.pta"
    flags = (
        pta.PTA_DEFAULT_FLAGS | TA_FLAG_SECURE_DATA_PATH | TA_FLAG_CONCURRENT | TA_FLAG_DEVICE_ENUM
    )

    def create(self) -> None:
        self._mutex = MutexTest()

    def invoke_command(
        self, session: PtaSession, command: int, param_types: int, params: list[Param]
    ) -> None:
        if command == pta.PTA_INVOKE_TESTS_CMD_TRACE:
            self.host.log(self.name, LOG_INFO, f'pseudo TA "{self.name}" says "Hello world !"')
        elif command == pta.PTA_INVOKE_TESTS_CMD_PARAMS:
            _test_params(param_types, params)
        elif command == pta.PTA_INVOKE_TESTS_CMD_SELF_TESTS:
            self._self_tests()
        elif command == pta.PTA_INVOKE_TESTS_CMD_MEMREF_NULL:
            expect(param_types, TEE_PARAM_TYPE_MEMREF_INOUT)
            if memref(params, 0).buffer is not None or memref(params, 0).size:
                raise BadParameters("not a NULL reference")
        elif command == pta.PTA_INVOKE_TESTS_CMD_MUTEX:
            expect(param_types, TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_VALUE_OUTPUT)
            self._mutex.run(value(params, 0), value(params, 1))
        elif command == pta.PTA_INVOKE_TESTS_CMD_DT_DRIVER_TESTS:
            # As an OP-TEE without CFG_DT_DRIVER_EMBEDDED_TEST.
            self.host.log(self.name, LOG_INFO, "dt_driver tests are not embedded")
        elif command in (
            pta.PTA_INVOKE_TESTS_CMD_COPY_NSEC_TO_SEC,
            pta.PTA_INVOKE_TESTS_CMD_COPY_SEC_TO_NSEC,
        ):
            expect(param_types, TEE_PARAM_TYPE_MEMREF_INPUT, TEE_PARAM_TYPE_MEMREF_OUTPUT)
            source, destination = memref(params, 0), memref(params, 1)
            if destination.size < source.size:
                destination.size = source.size
                raise ShortBuffer(f"{source.size} bytes")
            inject = command == pta.PTA_INVOKE_TESTS_CMD_COPY_NSEC_TO_SEC
            normal, protected = (source, destination) if inject else (destination, source)
            _check_memory(normal, protected)
            if source.buffer is not None and destination.buffer is not None:
                destination.buffer[: source.size] = source.buffer
        elif command == pta.PTA_INVOKE_TESTS_CMD_READ_MODIFY_SEC:
            expect(param_types, TEE_PARAM_TYPE_MEMREF_INOUT)
            _check_memory(None, memref(params, 0))
            _negate_bytes(memref(params, 0))
        elif command in _ABSENT:
            raise NotSupported(f"self test {command}")
        else:
            raise BadParameters(f"command {command}")

    def _self_tests(self) -> None:
        from gentee.secure.pta.self_tests import TESTS, failures

        found = []
        for test in TESTS:
            with _turn:
                found += failures(test)
                time.sleep(_BREATH)
        for line in found:
            self.host.log(self.name, LOG_ERROR, line)
        if found:
            raise GenericError(f"{len(found)} self tests failed")


class MutexTest:
    """Readers and writers of two numbers, which is always the second twice the first.

    How many wait for the lock and have it, as a caller finds it, says what the lock does: of
    writers only one has it, of readers several may.
    """

    def __init__(self) -> None:
        self._lock = ReadWriteLock()
        self._counts = threading.Lock()  # protects the next one
        self._there = {"waiting readers": 0, "readers": 0, "waiting writers": 0, "writers": 0}
        self._one = self._two = 0

    def run(self, what: Value, found: Value) -> None:
        """One test: PTA_MUTEX_TEST_* and rounds in; how many waited and how many had the lock."""
        rounds = what.b
        if rounds > _MOST_ROUNDS:
            raise BadParameters(f"{rounds} rounds")
        if what.a == pta.PTA_MUTEX_TEST_WRITER:
            found.a = self._count("waiting writers", 1)
            with self._lock.writing():
                self._count("waiting writers", -1)
                found.b = self._count("writers", 1)
                self._write(rounds)
                self._count("writers", -1)
        elif what.a == pta.PTA_MUTEX_TEST_READER:
            found.a = self._count("waiting readers", 1)
            with self._lock.reading():
                self._count("waiting readers", -1)
                found.b = self._count("readers", 1)
                agreed = self._read(rounds)
                self._count("readers", -1)
            if not agreed:
                raise BadState("a reader saw what a writer had half done")
        else:
            raise BadParameters(f"test {what.a}")

    def _count(self, which: str, change: int) -> int:
        with self._counts:
            self._there[which] += change
            return self._there[which]

    def _write(self, rounds: int) -> None:
        for start in range(0, rounds, _PIECE):
            count = min(_PIECE, rounds - start)
            with _turn:
                for _ in range(count):
                    self._one += 1
                time.sleep(_BREATH)  # half done
            with _turn:
                for _ in range(count):
                    self._two += 2
                time.sleep(_BREATH)

    def _read(self, rounds: int) -> bool:
        agreed = True
        for start in range(0, rounds, _PIECE):
            with _turn:
                for _ in range(min(_PIECE, rounds - start)):
                    agreed = agreed and self._one * 2 == self._two
                time.sleep(_BREATH)
        return agreed


def _check_memory(normal: MemRef | None, protected: MemRef) -> None:
    """As OP-TEE's tests of a secure data path: what is copied from or to it is no secret."""
    if normal is not None and normal.is_secure:
        raise BadParameters("not memory of the normal world")
    if not protected.is_protected and protected.size:
        raise BadParameters("no memory of a secure data path")


def _negate_bytes(reference: MemRef) -> None:
    """Each byte becomes its negative, OP-TEE's test_transform_sdp()."""
    buffer = reference.buffer
    if buffer is None:
        return
    if len(buffer) > _MOST_BYTES:
        raise BadParameters(f"{len(buffer)} bytes")
    buffer[:] = bytes(buffer).translate(_NEGATIVES)


def _test_params(param_types: int, params: list[Param]) -> None:
    """OP-TEE's test_entry_params(), by the types of the parameters:

    - one value in and out: its first number becomes the sum of both;
    - three values in and one out, which becomes the sum of these;
    - one reference in and out: its first byte becomes the sum of all.
    """
    kinds = sorted(TEE_PARAM_TYPE_GET(param_types, index) for index in range(TEE_NUM_PARAMS))
    if kinds == [0, 0, 0, TEE_PARAM_TYPE_VALUE_INOUT]:
        (both,) = [param for param in params if isinstance(param, Value)]
        both.a += both.b
    elif kinds == [TEE_PARAM_TYPE_VALUE_INPUT] * 3 + [TEE_PARAM_TYPE_VALUE_OUTPUT]:
        values = [param for param in params if isinstance(param, Value)]
        for index, output in enumerate(values):
            if TEE_PARAM_TYPE_GET(param_types, index) == TEE_PARAM_TYPE_VALUE_OUTPUT:
                # It was 0.
                output.a, output.b = sum(v.a for v in values), sum(v.b for v in values)
                break
    elif kinds == [0, 0, 0, TEE_PARAM_TYPE_MEMREF_INOUT]:
        (reference,) = [param for param in params if isinstance(param, MemRef)]
        _sum_bytes(reference)
    else:
        raise BadParameters("unexpected parameters")


def _sum_bytes(reference: MemRef) -> None:
    buffer = reference.buffer
    if buffer is None:  # OP-TEE writes to address 0 here
        raise BadParameters("no bytes")
    if len(buffer) > _MOST_BYTES:
        raise BadParameters(f"{len(buffer)} bytes")
    total = 0
    for start in range(0, len(buffer), _PIECE_BYTES):
        with _turn:
            if start:
                time.sleep(_BREATH)
            total += sum(buffer[start : start + _PIECE_BYTES])
    buffer[0] = total & 0xFF
