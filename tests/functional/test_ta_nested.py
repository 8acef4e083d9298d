# SPDX-License-Identifier: BSD-2-Clause
"""Arm TAs that call other services, and that are called by them.

The caller is tests/tas/actor.c without flags, which makes the calls that a test describes.
"""

from collections.abc import Iterator

import pytest

from gentee.abi.gp import (
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_BUSY,
    TEE_ERROR_CANCEL,
    TEE_ERROR_GENERIC,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_SHORT_BUFFER,
    TEE_ERROR_TARGET_DEAD,
    TEE_LOGIN_TRUSTED_APP,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_SUCCESS,
)
from gentee.client import SharedMemory, Value
from gentee.core.host import LOG_INFO
from tests import arm_tas
from tests.arm_tas import ALIVE, MEMORY, MULTI, OTHER, SESSIONS, SINGLE, uuid_of
from tests.functional.test_services import Call, is_dead
from tests.helpers import ServiceHost, wait_until
from tests.ta_build import ARCHES
from tests.ta_clients import (
    AT_ADDRESS,
    IN_PARAMETER,
    IN_PRIVATE,
    INVOKE,
    OPEN,
    UNMASKED,
    ArmTee,
    Caller,
    Die,
    Do,
    Memory,
    Request,
    Who,
    native_uuid,
)

PYTHON = "4bd4c3f0-7a0c-4c1b-9f0e-1d2c3b4a5f60"
NOBODY = "00000000-0000-0000-0000-00000000dead"

VALUE_IN, VALUE_OUT, VALUE_INOUT, MEMREF_IN, MEMREF_OUT, MEMREF_INOUT = 1, 2, 3, 5, 6, 7


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture(scope="module", params=ARCHES)
def arch(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def shared_tee(
    host: ServiceHost, arch: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ArmTee]:
    folder = tmp_path_factory.mktemp("python")
    tas = arm_tas.all_of(arch)
    tee = ArmTee(host, tas, arch, ta_dirs=[str(tas), str(folder)])
    tee.folder = folder  # where services in Python are put
    tee.put(PYTHON_SERVICE, uuid=PYTHON, name="python")
    yield tee
    tee.close()


@pytest.fixture
def tee(host: ServiceHost, shared_tee: ArmTee) -> Iterator[ArmTee]:
    shared_tee.begin()
    yield shared_tee
    shared_tee.end()
    assert not host.bugs


@pytest.fixture
def caller(tee: ArmTee) -> Caller:
    return Caller(tee.actor(MULTI))


def said(tee: ArmTee, source: int) -> list[str]:
    """What the TA of this number has said."""
    return [
        text
        for name, level, text in tee.logged
        if level == LOG_INFO and name == uuid_of(source)[:8]
    ]


# Parameters and identity


def test_who_calls(caller: Caller) -> None:
    called = caller.must_open(uuid_of(OTHER))
    uuid = bytearray(16)
    got = caller.invoke(
        called, Do.CLIENT, VALUE_OUT | MEMREF_OUT << 4, (0, 0, 0, 16), (0, IN_PARAMETER),
        memory=uuid,
    )  # fmt: skip
    assert (got.result, got.origin) == (TEE_SUCCESS, TEE_ORIGIN_TRUSTED_APP)
    assert got.vals[0] == TEE_LOGIN_TRUSTED_APP
    assert bytes(uuid) == native_uuid(uuid_of(MULTI))


def test_sessions_have_numbers_from_one(caller: Caller) -> None:
    first, second = caller.must_open(uuid_of(OTHER)), caller.must_open(uuid_of(OTHER))
    assert (first, second) == (1, 2)
    assert caller.close(first).result == TEE_SUCCESS
    got = caller.invoke(second, Do.WHO, VALUE_OUT | VALUE_OUT << 4)
    assert (got.result, got.vals[1]) == (TEE_SUCCESS, 1)  # one session is left


def test_values_and_memory(caller: Caller) -> None:
    called = caller.must_open(uuid_of(OTHER))
    memory = bytearray(range(100))
    types = MEMREF_INOUT | VALUE_INOUT << 4
    got = caller.invoke(
        called, Do.TWICE, types, (10, 20, 21, 0x8000_0001), (IN_PARAMETER,), memory=memory
    )
    assert (got.result, got.vals[1:4]) == (TEE_SUCCESS, (20, 42, 2))
    before = bytes(range(100))
    turned = bytes(byte ^ 0xFF for byte in before[10:30])
    assert bytes(memory) == before[:10] + turned + before[30:]


def test_inputs_stay_the_callers(caller: Caller) -> None:
    """What the called TA makes of an input is not seen by the caller; OP-TEE shows it."""
    called = caller.must_open(uuid_of(OTHER))
    memory = bytearray(100)
    got = caller.invoke(
        called, Do.TWICE, MEMREF_IN | VALUE_IN << 4, (0, 100, 7, 8), (IN_PARAMETER,), memory=memory
    )
    assert (got.result, got.vals[2:4]) == (TEE_SUCCESS, (7, 8))
    assert bytes(memory) == bytes(100)


@pytest.mark.parametrize("size", [1, 4096, 65_537, 1 << 20])
def test_large_memory(caller: Caller, size: int) -> None:
    called = caller.must_open(uuid_of(OTHER))
    memory = bytearray(b"\x0f" * (size + 10))
    got = caller.invoke(
        called, Do.TWICE, MEMREF_INOUT | VALUE_IN << 4, (5, size), (IN_PARAMETER,), memory=memory
    )
    assert got.result == TEE_SUCCESS
    assert memory == b"\x0f" * 5 + b"\xf0" * size + b"\x0f" * 5


def test_overlapping_memory(caller: Caller) -> None:
    called = caller.must_open(uuid_of(MEMORY))
    types = MEMREF_INOUT | MEMREF_IN << 4 | VALUE_OUT << 8 | VALUE_OUT << 12
    for second in 0, 100, 5000, 8192, 12288:
        got = caller.invoke(
            called, Memory.LOOK, types, (0, 6000, second, 500), (IN_PARAMETER, IN_PARAMETER),
            memory=bytearray(20000),
        )  # fmt: skip
        assert (got.result, got.vals[6:8]) == (TEE_SUCCESS, (6000, 500))
        if second < 8192 + 4096:  # pages of both are one range
            assert got.vals[4] == second


def test_sizes_come_back(caller: Caller) -> None:
    called = caller.must_open(uuid_of(MEMORY))
    types = MEMREF_OUT | VALUE_IN << 4
    for size, result in (7, TEE_SUCCESS), (100, TEE_ERROR_SHORT_BUFFER), (0, TEE_SUCCESS):
        got = caller.invoke(
            called, Memory.SET_SIZE, types, (0, 50, size, result), (IN_PARAMETER,),
            memory=bytearray(50),
        )  # fmt: skip
        assert (got.result, got.origin) == (result, TEE_ORIGIN_TRUSTED_APP)
        assert got.vals[1] == size


def test_null(caller: Caller) -> None:
    called = caller.must_open(uuid_of(MEMORY))
    types = MEMREF_INOUT | MEMREF_IN << 4 | VALUE_OUT << 8 | VALUE_OUT << 12
    got = caller.invoke(called, Memory.LOOK, types)
    assert (got.result, got.vals[4:8]) == (TEE_SUCCESS, (0, 3, 0, 0))
    got = caller.invoke(called, Memory.LOOK, types, (0, 1))
    assert (got.result, got.origin) == (TEE_ERROR_BAD_PARAMETERS, TEE_ORIGIN_TEE)


def test_private_memory_is_refused(caller: Caller) -> None:
    called = caller.must_open(uuid_of(OTHER))
    got = caller.invoke(called, Do.TWICE, MEMREF_INOUT, (0, 16), (IN_PRIVATE,))
    assert (got.result, got.origin) == (TEE_ERROR_BAD_PARAMETERS, TEE_ORIGIN_TEE)
    got = caller.open(uuid_of(OTHER), MEMREF_IN, (0, 16), (IN_PRIVATE,))
    assert (got.result, got.origin) == (TEE_ERROR_BAD_PARAMETERS, TEE_ORIGIN_TEE)


def test_memory_that_is_not_there(caller: Caller) -> None:
    called = caller.must_open(uuid_of(OTHER))
    for address, size in (0x1000, 16), (0xFFFF_F000, 0x2000), ((1 << 64) - 8, 16):
        got = caller.invoke(called, Do.TWICE, MEMREF_INOUT, (address, size), (AT_ADDRESS,))
        assert (got.result, got.origin) == (TEE_ERROR_ACCESS_DENIED, TEE_ORIGIN_TEE), hex(address)


def test_memory_that_the_caller_shares(caller: Caller) -> None:
    called = caller.must_open(uuid_of(OTHER))
    size, address = Value(8192), Value()
    caller.session.invoke(Do.SHAREABLE, size, address)
    place = address.a << 32 | address.b
    assert place
    assert place % 4096 == 0
    types = MEMREF_INOUT | VALUE_IN << 4
    for expected in 0xFF, 0:
        got = caller.invoke(called, Do.TWICE, types, (place + 4000, 200), (AT_ADDRESS,))
        assert got.result == TEE_SUCCESS
        # The called one sees what is left there, and so its sum.
        memory = caller.must_open(uuid_of(MEMORY))
        got = caller.invoke(
            memory, Memory.SUM, MEMREF_IN | VALUE_OUT << 12, (place + 4000, 200), (AT_ADDRESS,)
        )
        total = 0
        for _ in range(200):
            total = (total * 31 + expected) & 0xFFFF_FFFF
        assert (got.result, got.vals[6]) == (TEE_SUCCESS, total)


def test_nobody_sees_what_another_caller_passed(tee: ArmTee, caller: Caller) -> None:
    """The called one sees whole pages; what is in them besides is zero."""
    called = caller.must_open(uuid_of(MEMORY))
    secret = bytearray(b"secret" * 3000)
    types = MEMREF_IN | VALUE_OUT << 12
    got = caller.invoke(called, Memory.SUM, types, (0, len(secret)), (IN_PARAMETER,), memory=secret)
    assert got.result == TEE_SUCCESS
    other = Caller(tee.actor(MULTI))
    called = other.must_open(uuid_of(MEMORY))
    types = MEMREF_IN | VALUE_IN << 4 | MEMREF_OUT << 8
    memory = bytearray(b"m" * 8192)
    got = other.invoke(
        called, Memory.PEEK, types, (0, 10, 0, 0, 4096, 4096), (IN_PARAMETER, 0, IN_PARAMETER),
        memory=memory,
    )  # fmt: skip
    assert got.result == TEE_SUCCESS
    seen = bytes(memory[4096:])
    assert seen.count(b"m") == 10
    assert set(seen) == {0, ord("m")}


# Errors and their origins


@pytest.mark.parametrize(
    ("number", "told", "result", "origin"),
    [
        (0xDEAD, (0, 0), TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TEE),
        (OTHER, (TEE_ERROR_GENERIC, Die.LIVE), TEE_ERROR_GENERIC, TEE_ORIGIN_TRUSTED_APP),
        (OTHER, (0, Die.NOW), TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE),
        (OTHER, (0, Die.BY_FAULT), TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE),
    ],
)
def test_refused_sessions(
    tee: ArmTee, caller: Caller, number: int, told: tuple[int, int], result: int, origin: int
) -> None:
    for _ in range(2):
        got = caller.open(uuid_of(number), VALUE_IN, told)
        assert (got.result, got.origin, got.session) == (result, origin, 0)
    wait_until(lambda: tee.instances() == 1)


def test_one_session_at_a_time(caller: Caller) -> None:
    first = caller.must_open(uuid_of(SINGLE))
    got = caller.open(uuid_of(SINGLE))
    assert (got.result, got.origin) == (TEE_ERROR_BUSY, TEE_ORIGIN_TEE)
    caller.close(first)
    caller.must_open(uuid_of(SINGLE))


def test_errors_of_commands(caller: Caller) -> None:
    called = caller.must_open(uuid_of(OTHER))
    for code in TEE_ERROR_GENERIC, TEE_ERROR_BUSY, 5:
        got = caller.invoke(called, Do.RETURN, VALUE_IN, (code,))
        assert (got.result, got.origin) == (code, TEE_ORIGIN_TRUSTED_APP)


def test_sessions_that_are_not_there(caller: Caller) -> None:
    mine = caller.must_open(uuid_of(OTHER))
    for number in 0, mine + 1, 0xFFFF_FFFF:
        assert caller.invoke(number, Do.WHO).result == TEE_ERROR_BAD_PARAMETERS
        assert caller.close(number).result == TEE_ERROR_ITEM_NOT_FOUND
    caller.close(mine)
    assert caller.invoke(mine, Do.WHO).result == TEE_ERROR_BAD_PARAMETERS


def test_panic_of_the_called(tee: ArmTee, caller: Caller) -> None:
    called = caller.must_open(uuid_of(OTHER))
    for do in Do.PANIC, Do.RETURN:
        got = caller.invoke(called, do, VALUE_IN, (3,))
        assert (got.result, got.origin) == (TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE)
    assert caller.close(called).result == TEE_SUCCESS
    fresh = caller.must_open(uuid_of(OTHER))
    assert caller.invoke(fresh, Do.RETURN, VALUE_IN, (0,)).result == TEE_SUCCESS
    assert Who(caller.session).sessions == 1


def test_panic_of_the_caller(tee: ArmTee, caller: Caller) -> None:
    """The sessions that it had are closed."""
    caller.must_open(uuid_of(OTHER))
    caller.must_open(uuid_of(OTHER))
    is_dead(lambda: caller.session.invoke(Do.PANIC, Value(1)))
    wait_until(lambda: not tee.instances())
    assert said(tee, OTHER) == ["create", "open", "open", "close", "close", "destroy"]


def test_end_of_the_caller(tee: ArmTee, caller: Caller) -> None:
    caller.must_open(uuid_of(OTHER))
    caller.session.close()
    wait_until(lambda: not tee.instances())
    assert said(tee, OTHER) == ["create", "open", "close", "destroy"]
    assert said(tee, MULTI) == ["create", "open", "close", "destroy"]


# Calls inside each other


def test_recursion(tee: ArmTee, caller: Caller) -> None:
    """A client's call is the first of four."""
    value = Value()
    for _ in range(2):
        caller.session.invoke(Do.DEEPER, value)
        assert (value.a, value.b) == (4, TEE_ERROR_OUT_OF_MEMORY)
    wait_until(lambda: tee.instances() == 1)


def test_a_call_that_could_only_wait_for_itself(tee: ArmTee) -> None:
    caller = Caller(tee.actor(SESSIONS))
    got = caller.open(uuid_of(SESSIONS))
    assert (got.result, got.origin) == (TEE_ERROR_BUSY, TEE_ORIGIN_TEE)
    assert Who(caller.session).sessions == 1


def test_a_ring_of_calls(tee: ArmTee) -> None:
    """A calls B, which calls A."""
    caller = Caller(tee.actor(SESSIONS))
    other = caller.must_open(uuid_of(OTHER))
    inner = Request(OPEN, uuid_of(SESSIONS), 0, 0)
    size = len(inner.memory)
    got = caller.invoke(
        other, Do.CALL, MEMREF_INOUT, (0, size), (IN_PARAMETER,), memory=inner.memory
    )
    assert got.result == TEE_SUCCESS
    assert (inner.result().result, inner.result().origin) == (TEE_ERROR_BUSY, TEE_ORIGIN_TEE)


def test_three_in_a_row(caller: Caller) -> None:
    """A calls B with memory of its client's, B calls C with the same."""
    middle = caller.must_open(uuid_of(SESSIONS))
    inner = Request(OPEN, uuid_of(OTHER), 0, 0)
    size = len(inner.memory)
    types, vals, where = MEMREF_INOUT, (0, size), (IN_PARAMETER,)
    assert caller.invoke(middle, Do.CALL, types, vals, where, memory=inner.memory).result == 0
    memory = bytearray(b"abcd" * 100)
    request = Request(
        INVOKE, "", inner.result().session, Do.TWICE, MEMREF_INOUT | VALUE_INOUT << 4,
        (4, 300, 6, 7), (IN_PARAMETER,),
    )  # fmt: skip
    both = request.memory + memory
    got = caller.invoke(
        middle, Do.CALL, MEMREF_INOUT | MEMREF_INOUT << 4, (0, size, size, len(memory)),
        (IN_PARAMETER, IN_PARAMETER), memory=both,
    )  # fmt: skip
    assert got.result == TEE_SUCCESS
    request.memory[:] = both[:size]
    assert request.result().result == TEE_SUCCESS
    assert request.result().vals[1:4] == (300, 12, 14)
    turned = bytes(byte ^ 0xFF for byte in memory[4:304])
    assert both[size:] == memory[:4] + turned + memory[304:]


# Cancellation


def test_deadline(caller: Caller) -> None:
    called = caller.must_open(uuid_of(OTHER))
    state = SharedMemory.allocate(caller.session.context, 4096)
    types, vals = VALUE_IN | MEMREF_INOUT << 4, (0xFFFF_FFFF, 1, 0, 4096)
    got = caller.invoke(called, Do.WAIT, types, vals, (0, IN_PARAMETER), timeout=20, memory=state)
    assert (got.result, got.origin) == (TEE_ERROR_CANCEL, TEE_ORIGIN_TRUSTED_APP)
    assert state.buffer[1] == 0b11
    got = caller.invoke(called, Do.POLL, types, vals, (0, IN_PARAMETER), timeout=20, memory=state)
    assert (got.result, got.origin) == (TEE_SUCCESS, TEE_ORIGIN_TRUSTED_APP)
    assert state.buffer[1] == 0b11
    # The flag is gone with the call.
    got = caller.invoke(called, Do.WAIT, types, (0, 1, 0, 4096), (0, IN_PARAMETER), memory=state)
    assert (got.result, state.buffer[1]) == (TEE_SUCCESS, 0b10)


def cancelled_call(tee: ArmTee, caller: Caller, what: int, milliseconds: int) -> Request:
    called = caller.must_open(uuid_of(OTHER))
    types, vals = VALUE_IN, (milliseconds, 1)
    request = Request(what, "", called, Do.WAIT, types, vals)
    waits = Call(caller.session, Do.CALL, request.memory)
    (soft,) = tee.driver._tees
    wait_until(lambda: any(instance.nested is not None for instance in soft.instances()))
    waits.operation.cancel()
    waits.wait()
    return request


def test_cancellation_is_passed_on(tee: ArmTee, caller: Caller) -> None:
    got = cancelled_call(tee, caller, INVOKE | UNMASKED, 0xFFFF_FFFF).result()
    assert got.result == TEE_ERROR_CANCEL


def test_cancellation_is_masked(tee: ArmTee, caller: Caller) -> None:
    got = cancelled_call(tee, caller, INVOKE, 100).result()
    assert got.result == TEE_SUCCESS


# Services in Python


PYTHON_SERVICE = f"""
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        if command_id == 1:  # turn memory, double a value, and tell who calls
            client = TEE_GetPropertyAsIdentity(TEE_PROPSET_CURRENT_CLIENT, "gpd.client.identity")
            print(hex(client.login), client.uuid)
            params[0].buffer[:] = bytes(byte ^ 0xff for byte in params[0].buffer)
            params[1].a *= 2
        elif command_id == 2:
            raise ValueError("as asked")
        elif command_id == 3:  # call a TA
            other = TEE_OpenTASession("{uuid_of(OTHER)}")
            value = Value(21, 5)
            turned = bytearray(params[0].buffer)
            TEE_InvokeTACommand(other, TEE_TIMEOUT_INFINITE, {Do.TWICE}, 0x37, [turned, value])
            assert bytes(turned) == bytes(byte ^ 0xff for byte in params[0].buffer)
            params[0].buffer[:] = turned
            login, uuid = Value(), Memref(bytearray(16))
            TEE_InvokeTACommand(
                other, TEE_TIMEOUT_INFINITE, {Do.CLIENT}, 0x62, [login, uuid])
            print(hex(login.a), bytes(uuid).hex())
            params[1].a, params[1].b = value.a, value.b
            try:
                TEE_InvokeTACommand(other, TEE_TIMEOUT_INFINITE, {Do.PANIC}, 1, [Value(1)])
            except TargetDead as error:
                print("dead", error.origin)
"""


def test_a_python_service_is_called(tee: ArmTee, caller: Caller) -> None:
    called = caller.must_open(PYTHON)
    memory = bytearray(b"\x0f" * 300)
    got = caller.invoke(
        called, 1, MEMREF_INOUT | VALUE_INOUT << 4, (100, 100, 21), (IN_PARAMETER,), memory=memory
    )
    assert (got.result, got.origin, got.vals[2]) == (TEE_SUCCESS, TEE_ORIGIN_TRUSTED_APP, 42)
    assert memory == b"\x0f" * 100 + b"\xf0" * 100 + b"\x0f" * 100
    assert f"{TEE_LOGIN_TRUSTED_APP:#x} {uuid_of(MULTI)}" in tee.lines
    got = caller.invoke(called, 2)
    assert (got.result, got.origin) == (TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE)


def test_a_python_service_calls(tee: ArmTee) -> None:
    session = tee.open(PYTHON)
    memory, value = bytearray(b"\x55" * 5000), Value()
    session.invoke(3, memory, value)
    assert (value.a, value.b) == (42, 10)
    assert memory == b"\xaa" * 5000
    assert f"{TEE_LOGIN_TRUSTED_APP:#x} {native_uuid(PYTHON).hex()}" in tee.lines
    assert f"dead {TEE_ORIGIN_TEE}" in tee.lines


def test_depth_counts_both_kinds(tee: ArmTee, caller: Caller) -> None:
    """TA, Python service, TA: the third may call one more."""
    called = caller.must_open(PYTHON)
    memory = bytearray(64)
    got = caller.invoke(
        called, 3, MEMREF_INOUT | VALUE_OUT << 4, (0, 64), (IN_PARAMETER,), memory=memory
    )
    assert (got.result, got.vals[2]) == (TEE_SUCCESS, 42)


def test_kept_alive_by_a_session(tee: ArmTee, caller: Caller) -> None:
    called = caller.must_open(uuid_of(SESSIONS))
    first = caller.invoke(called, Do.WHO, VALUE_OUT | VALUE_OUT << 4).vals
    mine = tee.actor(SESSIONS)
    assert (Who(mine).instance, Who(mine).sessions) == (first[0], 2)
    caller.close(called)
    assert (Who(mine).instance, Who(mine).sessions) == (first[0], 1)
    assert ALIVE != SESSIONS
