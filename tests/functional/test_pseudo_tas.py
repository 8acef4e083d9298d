# SPDX-License-Identifier: BSD-2-Clause
"""Pseudo TAs, called by clients and by services: OP-TEE's system, device and stats PTAs, and those
of a run. Services are real, in processes of their own.
"""

import hashlib
import hmac
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from gentee.abi import optee_pta as pta
from gentee.abi.gp import (
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_NOT_IMPLEMENTED,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_ERROR_SHORT_BUFFER,
    TEE_ERROR_TARGET_DEAD,
    TEE_ORIGIN_TRUSTED_APP,
)
from gentee.abi.optee_rpc import (
    OPTEE_RPC_CMD_SHM_ALLOC,
    OPTEE_RPC_CMD_SHM_FREE,
    OPTEE_RPC_CMD_SUPP_PLUGIN,
)
from gentee.client import INPUT, OUTPUT, Operation, Out, Session, TempRef, Value
from gentee.core.host import LOG_ERROR
from gentee.errors import TeeError
from tests.functional.test_services import Tee
from tests.helpers import (
    META,
    Client,
    Param,
    ServiceHost,
    in_threads,
    open_descriptors,
    value_in,
    value_inout,
    wait_until,
)

A = "4bd4c3f0-7a0c-4c1b-9f0e-1d2c3b4a5f60"

SYSTEM, DEVICE, STATS = pta.PTA_SYSTEM_UUID, pta.PTA_DEVICE_UUID, pta.STATS_UUID
TESTS = pta.PTA_INVOKE_TESTS_UUID
META_VALUE = META[0] | 3


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture
def tee(host: ServiceHost, tmp_path: Path) -> Iterator[Tee]:
    tee = Tee(host, tmp_path)
    yield tee
    tee.close()
    assert not host.bugs


def caller(tee: Tee, body: str, *, flags: str = "", uuid: str = A, name: str = "caller") -> None:
    """A service whose commands do ``body``, with a session of the pseudo TA ``self.pta``."""
    lines = "\n".join(f"        {line}" for line in body.strip("\n").splitlines())
    tee.put(
        f"""
    SYSTEM, TESTS = "{SYSTEM}", "{TESTS}"

    def ask(self, handle, command, *params):
        types, given = 0, []
        for index, param in enumerate(params):
            kind, value = param
            types |= kind << 4 * index
            given.append(Memref(None) if value is None else value)
        TEE_InvokeTACommand(handle, TEE_TIMEOUT_INFINITE, command, types, given)

    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        IN, OUT, INOUT = (
            TEE_PARAM_TYPE_MEMREF_INPUT, TEE_PARAM_TYPE_MEMREF_OUTPUT, TEE_PARAM_TYPE_MEMREF_INOUT)
        V_IN, V_OUT, V_INOUT = (
            TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_VALUE_INOUT)
{lines}
""",
        flags=flags,
        uuid=uuid,
        name=name,
    )


def failure(call: Callable[[], object]) -> tuple[int, int | None]:
    with pytest.raises(TeeError) as caught:
        call()
    return caught.value.code, caught.value.origin


def refused(session: Session, command: int, *params: object) -> int:
    """The code of a pseudo TA's refusal."""
    code, origin = failure(lambda: session.invoke(command, *params))  # type: ignore[arg-type]
    assert origin == TEE_ORIGIN_TRUSTED_APP
    return code


# Calls of services


def test_a_service_calls_one(tee: Tee) -> None:
    caller(
        tee,
        """
handle = TEE_OpenTASession(self.TESTS)
both = Value(20, 22)
self.ask(handle, 1, (V_INOUT, both))
data = bytearray(b"\\x01\\x02\\x03")
self.ask(handle, 1, (INOUT, data))
TEE_CloseTASession(handle)
params[0].a, params[0].b = both.a, data[0]
""",
    )
    value = Value()
    tee.open(A).invoke(0, value)
    assert (value.a, value.b) == (42, 6)


def test_what_a_service_passes_on(tee: Tee) -> None:
    """The memory of its client, by the service to the pseudo TA."""
    caller(
        tee,
        """
handle = TEE_OpenTASession(self.TESTS)
self.ask(handle, 1, (INOUT, params[0]))
""",
    )
    data = bytearray(b"\x05" * 30)
    tee.open(A).invoke(0, TempRef(data))
    assert data == bytes([150]) + b"\x05" * 29


def test_what_it_refuses_a_service(tee: Tee) -> None:
    caller(
        tee,
        """
handle = TEE_OpenTASession(self.TESTS)
try:
    self.ask(handle, 99)
except TeeError as error:
    params[0].a, params[0].b = error.code, error.origin
""",
    )
    value = Value()
    tee.open(A).invoke(0, value)
    assert (value.a, value.b) == (TEE_ERROR_BAD_PARAMETERS, TEE_ORIGIN_TRUSTED_APP)


def test_from_the_deepest_call(tee: Tee) -> None:
    """Four services inside each other are as many as there may be; a pseudo TA is none of them."""
    caller(
        tee,
        """
handle = TEE_OpenTASession(self.uuid if params[0].a > 1 else self.TESTS)
value = Value(params[0].a - 1, 41)
self.ask(handle, 0 if params[0].a > 1 else 1, (V_INOUT, value))
params[0].a = value.a
""",
    )
    value = Value(4)
    tee.open(A).invoke(0, value)
    assert value.a == 41
    code, _origin = failure(lambda: tee.open(A).invoke(0, Value(5)))
    assert code == 0xFFFF_000C  # OUT_OF_MEMORY


def test_sessions_of_a_service_end_with_it(tee: Tee) -> None:
    caller(tee, "TEE_OpenTASession(self.TESTS)\nif command_id:\n    os._exit(1)")
    session = tee.open(A)
    session.invoke(0)
    session.invoke(0)
    (soft,) = tee.driver.tees
    (instance,) = soft.pseudo_tas.instances()
    assert len(instance.sessions) == 2
    assert failure(lambda: session.invoke(1))[0] == TEE_ERROR_TARGET_DEAD
    wait_until(lambda: not instance.sessions)
    wait_until(lambda: not instance._open)


def test_many_at_once(tee: Tee) -> None:
    caller(
        tee,
        """
handle = TEE_OpenTASession(self.TESTS)
for number in range(20):
    both = Value(number, params[0].a)
    self.ask(handle, 1, (V_INOUT, both))
    assert both.a == number + params[0].a
""",
    )

    def client() -> None:
        context = tee.context()
        with context.open_session(TESTS) as mine, context.open_session(A) as service:
            for number in range(20):
                both = Value(number, 1)
                mine.invoke(1, both)
                assert both.a == number + 1
            service.invoke(0, Value(1000))

    in_threads(*[client] * 6)


def test_nothing_is_left(tee: Tee) -> None:
    with tee.open(TESTS) as session:
        session.invoke(1, TempRef(bytearray(5000)))
    before = open_descriptors()
    for _ in range(20):
        with tee.open(TESTS) as session:
            session.invoke(1, TempRef(bytearray(5000)))
            with pytest.raises(TeeError):
                session.invoke(99)
        tee.contexts.pop().finalize()
    wait_until(lambda: len(open_descriptors()) <= len(before))


# The system pseudo TA


def test_clients_may_not_use_it(tee: Tee) -> None:
    expected = (TEE_ERROR_ACCESS_DENIED, TEE_ORIGIN_TRUSTED_APP)
    assert failure(lambda: tee.open(SYSTEM)) == expected


DERIVE = """
handle = TEE_OpenTASession(self.SYSTEM)
self.ask(handle, 1, (IN, params[0] if params[0].size else None), (OUT, params[1]))
"""


def unique_key(extra: bytes, size: int, huk: bytes = bytes(16)) -> bytes:
    """As core/pta/system.c and core/kernel/huk_subkey.c have it."""
    native = UUID(A).bytes_le
    return hmac.new(huk, b"\x03\0\0\0" + native + extra, hashlib.sha256).digest()[:size]


@pytest.mark.parametrize(("extra", "size"), [(b"", 16), (b"more", 32), (b"x" * 1024, 17)])
def test_unique_keys(tee: Tee, extra: bytes, size: int) -> None:
    caller(tee, DERIVE)
    key = Out(size)
    tee.open(A).invoke(0, TempRef(extra, INPUT), key)
    assert key.data == unique_key(extra, size)


def test_unique_keys_of_a_machine_with_one(host: ServiceHost, tmp_path: Path) -> None:
    (tmp_path / "huk").write_text("000102030405060708090a0b0c0d0e0f\n")
    tee = Tee(host, tmp_path, huk=str(tmp_path / "huk"))
    caller(tee, DERIVE)
    key = Out(32)
    tee.open(A).invoke(0, TempRef(b"e", INPUT), key)
    assert key.data == unique_key(b"e", 32, bytes(range(16)))
    tee.close()


@pytest.mark.parametrize(("extra", "size"), [(1025, 16), (0, 15), (0, 33), (0, 0)])
def test_keys_that_there_are_not(tee: Tee, extra: int, size: int) -> None:
    caller(tee, DERIVE)
    given = TempRef(bytes(extra), INPUT)
    output = TempRef(bytearray(size) if size else None, OUTPUT)
    assert refused(tee.open(A), 0, given, output) == TEE_ERROR_BAD_PARAMETERS


def test_entropy(tee: Tee) -> None:
    caller(
        tee,
        """
handle = TEE_OpenTASession(self.SYSTEM)
self.ask(handle, 0, (IN, b"something that nobody knows"))
for wrong in ([(IN, b"")], [(IN, None)], [], [(OUT, bytearray(8))], [(V_IN, Value(1, 2))]):
    try:
        self.ask(handle, 0, *wrong)
    except BadParameters as error:
        assert error.origin == TEE_ORIGIN_TRUSTED_APP
    else:
        raise AssertionError(wrong)
""",
    )
    tee.open(A).invoke(0)


# MAP_ZI, UNMAP, DLOPEN, DLSYM; OPEN_TA_BINARY and others that OP-TEE has given up; unknown ones.
@pytest.mark.parametrize(
    ("command", "code"),
    [
        *((number, TEE_ERROR_NOT_SUPPORTED) for number in (2, 3, 10, 11)),
        *((number, TEE_ERROR_NOT_IMPLEMENTED) for number in (4, 5, 6, 7, 8, 9, 14, 0xFFFF_FFFF)),
    ],
)
def test_commands_that_are_not_there(tee: Tee, command: int, code: int) -> None:
    caller(tee, "self.ask(TEE_OpenTASession(self.SYSTEM), params[0].a)")
    assert refused(tee.open(A), 0, Value(command)) == code


def test_no_event_log(tee: Tee) -> None:
    caller(
        tee,
        "self.ask(TEE_OpenTASession(self.SYSTEM), 12, (IN if command_id else OUT, bytearray(64)))",
    )
    session = tee.open(A)
    assert refused(session, 0) == TEE_ERROR_NOT_SUPPORTED
    assert refused(session, 1) == TEE_ERROR_BAD_PARAMETERS


# Plugins of a supplicant

PLUGIN = UUID("96bcf744-4f72-4866-bf1d-8634fd9c65e5")

INVOKE_PLUGIN = f"""
handle = TEE_OpenTASession(self.SYSTEM)
uuid = bytes({list(PLUGIN.bytes_le)})
length = Value()
data = bytearray(bytes(params[0])) if params[0].size else None
try:
    self.ask(handle, 13, (IN, uuid), (V_IN, Value(5, 6)), (INOUT, data), (V_OUT, length))
finally:
    params[1].a = length.a
    if data:
        params[0].buffer[:] = data
"""


class Supplicant:
    """The normal world's side, by the privileged device."""

    def __init__(self, tee: Tee) -> None:
        self.client = Client(tee.devices[1])

    def receive(self) -> tuple[int, int, list[Param]]:
        """Function, id and parameters of the next request."""
        call = self.client.supp_recv().wait_done()
        return call.arg.func, call.params[0][1], call.params[1 : len(call.arg.params)]

    def answer(self, number: int, *params: Param, ret: int = 0) -> None:
        self.client.supp_send(ret, [(META_VALUE, number, 0, 0), *params])


def test_a_plugin(tee: Tee) -> None:
    caller(tee, INVOKE_PLUGIN)
    supplicant = Supplicant(tee)
    data, length = bytearray(b"question"), Value()
    session = tee.open(A)

    def serve() -> None:
        func, number, params = supplicant.receive()
        assert (func, params) == (OPTEE_RPC_CMD_SHM_ALLOC, [value_inout(0, 8)])
        shm = supplicant.client.shm_alloc(8)
        supplicant.answer(number, value_inout(0, 8, shm.id))
        func, number, params = supplicant.receive()
        words = struct.unpack("<4I", PLUGIN.bytes)  # octets, as little-endian words
        assert func == OPTEE_RPC_CMD_SUPP_PLUGIN
        assert params[:3] == [value_in(0, words[0], words[1]), value_in(words[2], words[3], 5),
                              value_inout(6)]  # fmt: skip
        assert params[3][1:] == (0, 8, shm.id)
        assert bytes(shm.view()[:8]) == b"question"
        shm.view()[:6] = b"answer"
        supplicant.answer(number, *params[:2], value_inout(6, 6), params[3])
        func, number, params = supplicant.receive()
        assert (func, params[0][1:3]) == (OPTEE_RPC_CMD_SHM_FREE, (0, shm.id))
        supplicant.answer(number, value_in())
        shm.put()

    in_threads(serve, lambda: session.invoke(0, TempRef(data), length))
    assert (bytes(data), length.a) == (b"answeron", 6)
    supplicant.client.close()


def test_a_plugin_that_wants_no_data(tee: Tee) -> None:
    caller(tee, INVOKE_PLUGIN)
    supplicant = Supplicant(tee)
    session = tee.open(A)

    def serve() -> None:
        func, number, params = supplicant.receive()
        assert func == OPTEE_RPC_CMD_SUPP_PLUGIN
        assert params[3][2] == 0
        # More bytes than there is room for.
        supplicant.answer(number, *params[:2], value_inout(6, 1 << 32 | 100), params[3])

    length = Value()
    in_threads(serve, lambda: session.invoke(0, TempRef(None), length))
    assert length.a == 100
    supplicant.client.close()


@pytest.mark.parametrize("ret", [TEE_ERROR_ITEM_NOT_FOUND, 0x1234_5678])
def test_a_plugin_that_refuses(tee: Tee, ret: int) -> None:
    caller(tee, INVOKE_PLUGIN)
    supplicant = Supplicant(tee)
    session = tee.open(A)

    def serve() -> None:
        _func, number, params = supplicant.receive()
        supplicant.answer(number, *params, ret=ret)

    def ask() -> None:
        assert refused(session, 0, TempRef(None), Value()) == ret

    in_threads(serve, ask)
    supplicant.client.close()


def test_no_supplicant(tee: Tee) -> None:
    """gentee serves itself, and has no such plugin."""
    caller(tee, INVOKE_PLUGIN)
    session = tee.open(A)
    assert refused(session, 0, TempRef(None), Value()) == TEE_ERROR_ITEM_NOT_FOUND
    assert refused(session, 0, TempRef(bytearray(8)), Value()) == TEE_ERROR_ITEM_NOT_FOUND


def test_a_supplicant_that_dies_at_it(tee: Tee) -> None:
    caller(tee, INVOKE_PLUGIN)
    supplicant = Supplicant(tee)
    session = tee.open(A)

    def die() -> None:
        supplicant.receive()
        supplicant.client.close()

    def ask() -> None:
        assert refused(session, 0, TempRef(None), Value()) == 0xFFFF_000E

    in_threads(die, ask)


def test_a_supplicant_keeps_nobody_but_who_asks(tee: Tee) -> None:
    """More of them wait for it than there are threads, and others are served."""
    caller(tee, INVOKE_PLUGIN)
    supplicant = Supplicant(tee)
    operations = [Operation(TempRef(None), Value()) for _ in range(24)]
    sessions = [tee.open(A) for _ in operations]
    results: list[int] = []

    def ask(session: Session, operation: Operation) -> None:
        results.append(failure(lambda: session.invoke(0, operation=operation))[0])

    def others() -> None:
        received = [supplicant.receive() for _ in operations]
        assert {func for func, _, _ in received} == {OPTEE_RPC_CMD_SUPP_PLUGIN}
        both = Value(1, 1)
        tee.open(TESTS).invoke(1, both)
        assert both.a == 2
        supplicant.client.close()

    in_threads(
        others,
        *(
            lambda session=session, operation=operation: ask(session, operation)
            for session, operation in zip(sessions, operations, strict=True)
        ),
    )
    assert results == [0xFFFF_000E] * len(operations)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "(IN, uuid)",
        "(IN, uuid[:15]), (V_IN, Value()), (INOUT, None), (V_OUT, Value())",
        "(IN, uuid + b'x'), (V_IN, Value()), (INOUT, None), (V_OUT, Value())",
        "(IN, None), (V_IN, Value()), (INOUT, None), (V_OUT, Value())",
        "(IN, uuid), (V_IN, Value()), (IN, b''), (V_OUT, Value())",
        "(IN, uuid), (V_IN, Value()), (INOUT, None), (V_INOUT, Value())",
    ],
)
def test_plugins_with_other_parameters(tee: Tee, wrong: str) -> None:
    caller(
        tee,
        f"""
uuid = bytes(16)
self.ask(TEE_OpenTASession(self.SYSTEM), 13, {wrong})
""",
    )
    assert refused(tee.open(A), 0) == TEE_ERROR_BAD_PARAMETERS


# Enumeration of devices


def test_devices(tee: Tee) -> None:
    session = tee.open(DEVICE)
    uuids = Out(64)
    session.invoke(0, uuids)
    assert uuids.data == UUID(TESTS).bytes  # octets, in the order of the text
    for command in (1, 2):
        session.invoke(command, uuids)
        assert uuids.data == b""


def test_devices_of_the_store(tee: Tee) -> None:
    first, second, third, wrong = (f"4bd4c3f0-7a0c-4c1b-9f0e-1d2c3b4a5f7{n}" for n in range(4))
    for number, uuid in enumerate((first, second, third, wrong)):
        caller(tee, "pass", uuid=uuid, name=f"service{number}")
    (soft,) = tee.driver.tees
    flags = {first: 1 << 9, second: 1 << 10, third: 1 << 12, wrong: 1 << 9 | 1 << 10}
    services = {str(UUID(bytes=service.uuid)): service for service in soft.store.all()}
    for uuid, value in flags.items():
        services[uuid].ta_flags = value | 1 << 2  # as ta_head of an OP-TEE TA would say
    session = tee.open(DEVICE)
    found = Out(256)
    session.invoke(0, found)
    assert {found.data[:16], found.data[16:]} == {UUID(TESTS).bytes, UUID(first).bytes}
    session.invoke(1, found)
    assert {found.data[:16], found.data[16:]} == {UUID(second).bytes, UUID(third).bytes}
    session.invoke(2, found)
    assert found.data == b""
    told = [(level, text) for source, level, text in tee.logged if source == "device.pta"]
    text = f"TA {wrong} left out: inconsistent flags 0x600"
    assert told == [(LOG_ERROR, text)] * 3


@pytest.mark.parametrize("room", [None, 0, 1, 15])
def test_too_little_room_for_devices(tee: Tee, room: int | None) -> None:
    session = tee.open(DEVICE)
    buffer = bytearray(b"." * (room or 0))
    uuids = TempRef(None if room is None else buffer, OUTPUT)
    assert refused(session, 0, uuids) == TEE_ERROR_SHORT_BUFFER
    assert uuids.out_size == 16
    assert buffer == b"." * (room or 0)


@pytest.mark.parametrize(
    ("command", "params", "code"),
    [
        (0, (), TEE_ERROR_BAD_PARAMETERS),
        (1, (Value(),), TEE_ERROR_BAD_PARAMETERS),
        (2, (TempRef(b"x", INPUT),), TEE_ERROR_BAD_PARAMETERS),
        (0, (TempRef(bytearray(64)),), TEE_ERROR_BAD_PARAMETERS),
        (0, (Out(64), Value()), TEE_ERROR_BAD_PARAMETERS),
        (3, (Out(64),), TEE_ERROR_NOT_IMPLEMENTED),
    ],
)
def test_devices_with_other_parameters(
    tee: Tee, command: int, params: tuple[object, ...], code: int
) -> None:
    assert refused(tee.open(DEVICE), command, *params) == code


# Statistics


def test_pager(tee: Tee) -> None:
    values = [Value(9, 9, OUTPUT) for _ in range(3)]
    tee.open(STATS).invoke(0, *values)
    assert [(value.a, value.b) for value in values] == [(0, 0)] * 3


def pools(data: bytes) -> dict[str, tuple[int, ...]]:
    """allocated, most, size, failures of each pool by its name."""
    return {
        desc.rstrip(b"\0").decode(): tuple(numbers[1:])
        for desc, *numbers in pta.PTA_STATS_ALLOC.iter_unpack(data)
    }


def test_pools(tee: Tee) -> None:
    caller(tee, "pass")
    session = tee.open(STATS)
    nothing = TempRef(None, OUTPUT)
    assert refused(session, 1, Value(0, 0, INPUT), nothing) == TEE_ERROR_SHORT_BUFFER
    assert nothing.out_size == 5 * 64
    output = Out(5 * 64 + 10)
    session.invoke(1, Value(0, 0, INPUT), output)
    assert output.out_size == 5 * 64
    found = pools(output.data)
    assert list(found) == [
        "Heap", "Public DDR (deprecated)", "Physical TA memory", "KHeap (disabled)",
        "RPMB secure storage (no data)",
    ]  # fmt: skip
    allocated, most, size, *failed = found["Heap"]
    assert 1 << 20 < allocated <= most <= size
    assert failed == [0, 0, 0]
    assert found["Physical TA memory"][:2] == (0, 0)
    assert found["KHeap (disabled)"] == (0,) * 6
    with tee.open(A):
        (soft,) = tee.driver.tees
        (instance,) = soft.instances()
        wait_until(lambda: instance.pid)
        session.invoke(1, Value(3, 1, INPUT), output)  # that one, and its most is forgotten
        ((name, ram),) = pools(output.data).items()
        assert name == "Physical TA memory"
        assert ram[0] == ram[1] > 1 << 16
        session.invoke(1, Value(3, 0, INPUT), output)
    wait_until(lambda: not tee.instances())
    session.invoke(1, Value(3, 0, INPUT), output)
    ((_name, after),) = pools(output.data).items()
    assert after[0] == 0
    assert after[1] > 1 << 16


def test_instances(tee: Tee) -> None:
    session = tee.open(STATS)
    assert refused(session, 3, Out(0)) == TEE_ERROR_ITEM_NOT_FOUND
    caller(tee, "pass", flags="single_instance, multi_session, ")
    services = [tee.open(A) for _ in range(3)]
    nothing = Out(0)
    assert refused(session, 3, nothing) == TEE_ERROR_SHORT_BUFFER
    assert nothing.out_size == 88
    output = Out(100)
    session.invoke(3, output)
    assert output.data[:16] == UUID(A).bytes_le
    assert struct.unpack_from("<II", output.data, 16) == (0, len(services))
    assert output.data[24:] == bytes(64)  # the heap of an OP-TEE TA


def test_time(tee: Tee) -> None:
    before = time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000
    ree, system = Value(0, 0, OUTPUT), Value(0, 0, OUTPUT)
    tee.open(STATS).invoke(4, ree, system)
    after = time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000
    for index, value in enumerate((ree, system)):
        assert before[index] <= value.a * 1000 + value.b <= after[index]
        assert value.b < 1000


def test_leaks(tee: Tee) -> None:
    tee.open(STATS).invoke(2)
    told = [text for source, _level, text in tee.logged if source == "stats.pta"]
    assert len(told) == 3
    assert told[0].endswith("blocks of memory in use")
    assert told[2] == "0 instances with 0 sessions"


@pytest.mark.parametrize(
    ("command", "params", "code"),
    [
        (0, (), TEE_ERROR_BAD_PARAMETERS),
        (0, (Value(), Value(), Value()), TEE_ERROR_BAD_PARAMETERS),
        (1, (Value(0, 0, INPUT),), TEE_ERROR_BAD_PARAMETERS),
        (1, (Value(6, 0, INPUT), Out(1000)), TEE_ERROR_BAD_PARAMETERS),
        (1, (Value(0xFFFF_FFFF, 0, INPUT), Out(1000)), TEE_ERROR_BAD_PARAMETERS),
        (1, (Value(2, 0, INPUT), Out(63)), TEE_ERROR_SHORT_BUFFER),
        (2, (Value(),), TEE_ERROR_BAD_PARAMETERS),
        (3, (), TEE_ERROR_BAD_PARAMETERS),
        (3, (TempRef(b"x", INPUT),), TEE_ERROR_BAD_PARAMETERS),
        (4, (Value(0, 0, OUTPUT),), TEE_ERROR_BAD_PARAMETERS),
        (5, (), TEE_ERROR_BAD_PARAMETERS),
        (5, (Value(0, 0, INPUT),), TEE_ERROR_NOT_SUPPORTED),
        (5, (Value(1, 0, INPUT),), TEE_ERROR_NOT_SUPPORTED),
        (5, (Value(2, 0, INPUT),), TEE_ERROR_BAD_PARAMETERS),
        (6, (), TEE_ERROR_BAD_PARAMETERS),
    ],
)
def test_statistics_with_other_parameters(
    tee: Tee, command: int, params: tuple[object, ...], code: int
) -> None:
    assert refused(tee.open(STATS), command, *params) == code


# Over the real door


@pytest.mark.client("pseudo_tas.c")
def test_clients(run_case: Callable[[], None]) -> None:
    run_case()


@pytest.mark.client("pseudo_tas.c", "--reg-mem")
def test_clients_of_registered_memory(run_case: Callable[[], None]) -> None:
    run_case()


def test_a_start_imports_none() -> None:
    code = (
        "import sys; import gentee.drivers.soft; "
        "print([name for name in sys.modules if name.startswith('gentee.secure.pta.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
