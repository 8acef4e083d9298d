# SPDX-License-Identifier: BSD-2-Clause
"""The TEE Client API in Python on ``/dev/tee0``: real ioctls, served by ``gentee run``.

This file is also the program that runs there: each ``client_*`` function below is one client.
"""

import errno
import gc
import importlib.util
import mmap
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from gentee.abi.gp import TEE_ORIGIN_TRUSTED_APP, TEEC_ORIGIN_API, TEEC_ORIGIN_COMMS
from gentee.abi.linux_tee import TEE_GEN_CAP_GP, TEE_GEN_CAP_REG_MEM
from gentee.client import (
    INPUT,
    OUTPUT,
    TEEC_LOGIN_GROUP,
    TEEC_LOGIN_USER,
    Context,
    DeviceDoor,
    MemRef,
    Operation,
    Out,
    SharedMemory,
    TempRef,
    Value,
)
from gentee.errors import (
    BadParameters,
    BadState,
    Cancel,
    GenericError,
    ItemNotFound,
    OutOfMemory,
    ShortBuffer,
    TeeError,
)

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds for a whole run; one that takes so long has failed
UUID = bytes(range(16))
NOP, COPY, INCREMENT, FILL, RETURN, WAIT, RELEASE, SUPPLICANT, ERRNO = range(9)


def client_finds_its_tee() -> None:
    with Context() as context:
        assert context.version[2] & TEE_GEN_CAP_GP
    with Context("/dev/tee0") as context, context.open_session(UUID) as session:
        session.invoke(NOP)
    # Loopback is no OP-TEE, and the other numbers have no device.
    with pytest.raises(ItemNotFound, match="another kind"):
        Context("optee-tz")
    with pytest.raises(ItemNotFound, match="/dev/tee9"):
        Context("/dev/tee9")


def client_passes_values() -> None:
    with Context() as context, context.open_session(UUID, Value(1, 2, INPUT)) as session:
        value = Value(41, 0xFFFF_FFFF)
        session.invoke(INCREMENT, value)
        assert (value.a, value.b) == (42, 0)


def client_passes_temporary_memory() -> None:
    with Context() as context, context.open_session(UUID) as session:
        for size in (0, 1, 4095, 4096, 4097, 300_000):
            data = os.urandom(size)
            out, whole, part = Out(size), bytearray(size), mmap.mmap(-1, size + 100)
            with memoryview(part)[50 : 50 + size] as inner:
                session.invoke(COPY, data, out, TempRef(whole, OUTPUT), TempRef(inner, OUTPUT))
            assert data == out.data == whole == part[50 : 50 + size]
        small = Out(3)
        with pytest.raises(ShortBuffer) as error:
            session.invoke(COPY, b"hello", small)
        assert error.value.origin == TEE_ORIGIN_TRUSTED_APP
        assert small.out_size == 5
        null = TempRef(None, OUTPUT)
        with pytest.raises(ShortBuffer):
            session.invoke(COPY, b"hello", null)
        assert null.out_size == 5


def client_shares_memory() -> None:
    with Context() as context, context.open_session(UUID) as session:
        buffer = bytearray(9000)
        registered = SharedMemory.register(context, memoryview(buffer)[17:])
        allocated = SharedMemory.allocate(context, 9000)
        for memory in (allocated, registered):
            memory.buffer[:10] = b"0123456789"
            part = MemRef(memory, 4090, 100, OUTPUT)
            session.invoke(COPY, MemRef(memory, 2, 4, INPUT), part)
            assert bytes(memory.buffer[4090:4096]) == b"2345\0\0"
            assert part.out_size == 4
            session.invoke(FILL, Value(ord("x"), 0, INPUT), memory)
            assert bytes(memory.buffer) == b"x" * memory.size
        assert buffer == bytes(17) + b"x" * (9000 - 17)
        registered.release()
        allocated.release()
        with pytest.raises(BadState):
            session.invoke(NOP, MemRef(registered))
        with SharedMemory.register(context, b"constant", INPUT) as constant:
            out = Out(8)
            session.invoke(COPY, constant, out)
            assert out.data == b"constant"


def client_gets_errors() -> None:
    with Context() as context:
        with pytest.raises(ItemNotFound):
            context.open_session(bytes(16))
        with context.open_session(UUID) as session:
            with pytest.raises(TeeError) as own:
                session.invoke(RETURN, Value(0x1234, 9, INPUT))
            assert (own.value.code, own.value.origin) == (0x1234, 9)
            kinds: dict[int, type[TeeError]] = {
                errno.ENOMEM: OutOfMemory,
                errno.EINVAL: BadParameters,
                errno.EIO: GenericError,
            }
            for number, kind in kinds.items():
                with pytest.raises(kind) as error:
                    session.invoke(ERRNO, Value(number, 0, INPUT))
                assert error.value.origin == TEEC_ORIGIN_COMMS
        with pytest.raises(OutOfMemory) as too_much:
            SharedMemory.allocate(context, 1 << 45)
        assert too_much.value.origin == TEEC_ORIGIN_API


def client_logs_in() -> None:
    with Context() as context:
        context.open_session(UUID, login=TEEC_LOGIN_USER)
        context.open_session(UUID, login=TEEC_LOGIN_GROUP, group=os.getegid())
        # EPERM: not a group of this process, and a login of the kernel's.
        with pytest.raises(GenericError):
            context.open_session(UUID, login=TEEC_LOGIN_GROUP, group=0xFFFF_FFFF)
        with pytest.raises(GenericError):
            context.open_session(UUID, login=0x8000_0000)


def client_cancels() -> None:
    with Context() as context, context.open_session(UUID) as session:
        operation = Operation()
        results: list[BaseException] = []

        def wait() -> None:
            try:
                session.invoke(WAIT, operation=operation)
            except TeeError as error:
                results.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while thread.is_alive():
            # The first request may overtake the call.
            operation.cancel()
            thread.join(0.01)
        (result,) = results
        assert isinstance(result, Cancel)


def client_has_threads() -> None:
    with Context() as context, context.open_session(UUID) as shared:
        failures: list[BaseException] = []

        def use(number: int) -> None:
            try:
                with context.open_session(UUID) as own:
                    for one in (own, shared) * 10:
                        value, out = Value(number, number), Out(5000)
                        one.invoke(INCREMENT, value)
                        one.invoke(COPY, bytes([number]) * 5000, out)
                        assert value.a == value.b == number + 1
                        assert out.data == bytes([number]) * 5000
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures


def client_leaves_nothing_behind() -> None:
    def descriptors() -> list[str]:
        return sorted(path.name for path in Path("/proc/self/fd").iterdir())

    before = descriptors()
    for _ in range(3):
        context = Context()
        session = context.open_session(UUID)
        SharedMemory.allocate(context, 10)
        SharedMemory.register(context, bytearray(10))
        session.invoke(COPY, b"in", Out(10), bytearray(10))
        context.finalize()
    assert descriptors() == before
    # A door that is forgotten is closed too, and Python says so.
    door: DeviceDoor | None = DeviceDoor("/dev/tee0")
    assert door is not None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        door = None
        gc.collect()
    assert [one.category for one in caught] == [ResourceWarning]
    assert descriptors() == before


def client_takes_the_road_of(capabilities: int) -> None:
    with Context() as context:
        assert context.version[2] & TEE_GEN_CAP_REG_MEM == capabilities


CLIENTS = [
    client_finds_its_tee,
    client_passes_values,
    client_passes_temporary_memory,
    client_shares_memory,
    client_gets_errors,
    client_logs_in,
    client_cancels,
    client_has_threads,
    client_leaves_nothing_behind,
]

needs_cli = pytest.mark.skipif(
    importlib.util.find_spec("gentee.cli.main") is None,
    reason="there is no 'gentee run' yet: gentee.cli.main cannot be imported",
)


@needs_cli
@pytest.mark.slow
@pytest.mark.parametrize("reg_mem", [False, True], ids=["shm-alloc", "reg-mem"])
def test_clients_under_gentee_run(reg_mem: bool) -> None:
    command = [sys.executable, "-m", "gentee", "run", "--driver", "loopback"]
    if reg_mem:
        command.append("--reg-mem")
    command += ["--", sys.executable, __file__, str(int(reg_mem))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [client.__name__ for client in CLIENTS]
    assert "bug in gentee" not in done.stderr


def main() -> None:
    client_takes_the_road_of(TEE_GEN_CAP_REG_MEM if int(sys.argv[1]) else 0)
    for client in CLIENTS:
        client()
        print(client.__name__, flush=True)


if __name__ == "__main__":
    main()
