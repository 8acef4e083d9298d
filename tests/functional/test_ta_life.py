# SPDX-License-Identifier: BSD-2-Clause
"""The life of Arm TAs: instances, sessions, panics; GP TEE Internal Core API 1.3.1 section 2.1.3.

TAs are tests/tas/actor.c with different flags, for both architectures. What makes their entry
points is in the TA, as libutee does it.
"""

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import UUID, uuid5

import pytest

from gentee.abi.gp import (
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_BUSY,
    TEE_ERROR_CANCEL,
    TEE_ERROR_GENERIC,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_ERROR_SHORT_BUFFER,
    TEE_ERROR_TARGET_DEAD,
    TEE_LOGIN_PUBLIC,
    TEE_LOGIN_USER,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
)
from gentee.abi.optee_ta import (
    TA_FLAG_INSTANCE_KEEP_ALIVE,
    TA_FLAG_INSTANCE_KEEP_CRASHED,
    TA_FLAG_MULTI_SESSION,
    TA_FLAG_SINGLE_INSTANCE,
    USER_TA_PROP_TYPE_IDENTITY,
)
from gentee.client import INPUT, TEEC_LOGIN_USER, Out, Session, SharedMemory, Value
from gentee.core.host import LOG_ERROR, LOG_INFO
from tests import arm_tas
from tests.arm_tas import ALIVE, CRASHED, MEMORY_MULTI, MULTI, NO_CREATE, SESSIONS, SINGLE, uuid_of
from tests.functional.test_services import Call, fails, is_dead
from tests.helpers import ServiceHost, wait_until
from tests.ta_build import ARCHES
from tests.ta_clients import TIMEOUT_INFINITE, ArmTee, Die, Do, Memory, Who, native_uuid


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
def shared_tee(host: ServiceHost, arch: str) -> Iterator[ArmTee]:
    tee = ArmTee(host, arm_tas.all_of(arch), arch)
    yield tee
    tee.close()


@pytest.fixture
def tee(host: ServiceHost, shared_tee: ArmTee) -> Iterator[ArmTee]:
    """One TEE for all tests of an architecture, which leave no instance behind."""
    shared_tee.begin()
    yield shared_tee
    shared_tee.end()
    assert not host.bugs


@pytest.fixture
def own_tee(host: ServiceHost, arch: str) -> Iterator[ArmTee]:
    """A TEE of the test's own, for instances that stay."""
    tee = ArmTee(host, arm_tas.all_of(arch), arch)
    yield tee
    tee.close()
    assert not host.bugs


def said(tee: ArmTee) -> list[str]:
    """What TAs said. Reports of those that died are errors, and come when they are ready."""
    return [text for _, level, text in tee.logged if level == LOG_INFO]


def logged(tee: ArmTee, *expected: str) -> None:
    """The TAs have said this, or will have when all is told."""
    wait_until(lambda: len(said(tee)) >= len(expected))
    assert said(tee) == list(expected)


# Instances and sessions


def test_each_session_has_an_instance(tee: ArmTee) -> None:
    sessions = [tee.actor(MULTI) for _ in range(3)]
    whos = [Who(session) for session in sessions]
    assert len({who.instance for who in whos}) == 3
    assert [who.sessions for who in whos] == [1, 1, 1]
    assert tee.instances() == 3
    sessions[1].close()
    wait_until(lambda: tee.instances() == 2)
    assert Who(sessions[2]).instance == whos[2].instance


def test_one_context_opens_many(tee: ArmTee) -> None:
    context = tee.context()
    sessions = [context.open_session(uuid_of(MULTI)) for _ in range(3)]
    assert len({Who(session).instance for session in sessions}) == 3


def test_one_session_at_a_time(tee: ArmTee) -> None:
    first = tee.actor(SINGLE)
    before = Who(first)
    fails(TEE_ERROR_BUSY, TEE_ORIGIN_TEE, lambda: tee.actor(SINGLE))
    assert Who(first).instance == before.instance
    first.close()
    assert Who(tee.actor(SINGLE)).instance != before.instance


def test_sessions_of_one_instance(tee: ArmTee) -> None:
    sessions = [tee.actor(SESSIONS) for _ in range(4)]
    whos = [Who(session) for session in sessions]
    assert len({who.instance for who in whos}) == 1
    assert [who.sessions for who in whos] == [4] * 4
    assert tee.instances() == 1
    sessions.pop().close()
    # A close has no answer: the next call comes after it.
    assert Who(sessions[0]).sessions == 3
    for session in sessions:
        session.close()
    wait_until(lambda: not tee.instances())
    assert Who(tee.actor(SESSIONS)).instance != whos[0].instance


def test_kept_alive(own_tee: ArmTee) -> None:
    tee = own_tee
    first = tee.actor(ALIVE)
    before = Who(first)
    first.close()
    second = tee.actor(ALIVE)
    after = Who(second)
    assert (after.instance, after.sessions, after.created) == (before.instance, 1, 1)
    second.close()
    assert tee.instances() == 1


def test_instances_have_nothing_in_common(tee: ArmTee) -> None:
    """Also where they are forked from one that was loaded before."""
    sessions = [tee.actor(MEMORY_MULTI)]
    sessions[0].invoke(Memory.GROWN, Value())
    tee.wait_template(MEMORY_MULTI)
    sessions += [tee.actor(MEMORY_MULTI), tee.actor(MEMORY_MULTI)]
    for expected in (2, 1, 1), (3, 2, 2):
        for session, count in zip(sessions, expected, strict=True):
            value = Value()
            session.invoke(Memory.GROWN, value)
            assert value.a == count
    tee.actor(MULTI)
    tee.wait_template(MULTI)
    assert len({Who(tee.actor(MULTI)).instance for _ in range(4)}) == 4


def test_order_of_entry_points(tee: ArmTee) -> None:
    first = tee.actor(SESSIONS)
    second = tee.actor(SESSIONS)
    first.close()
    second.close()
    logged(tee, "create", "open", "open", "close", "close", "destroy")
    assert {source for source, level, _ in tee.logged if level == LOG_INFO} == {"00000012"}


def test_kept_alive_is_not_destroyed(own_tee: ArmTee) -> None:
    tee = own_tee
    for _ in range(2):
        tee.actor(ALIVE).close()
    logged(tee, "create", "open", "close", "open", "close")
    tee.close()
    assert len(tee.lines) == 5


def test_a_context_that_ends_closes(tee: ArmTee) -> None:
    context = tee.context()
    context.open_session(uuid_of(SESSIONS))
    context.open_session(uuid_of(SESSIONS))
    context.finalize()
    logged(tee, "create", "open", "open", "close", "close", "destroy")
    wait_until(lambda: not tee.instances())


def test_lines_of_the_log(own_tee: ArmTee) -> None:
    own_tee.actor(MULTI).invoke(Do.LOG_LINES)
    assert [(level, text) for _, level, text in own_tee.logged] == [
        (LOG_INFO, "create"),
        (LOG_INFO, "open"),
        (LOG_INFO, "one"),
        (LOG_ERROR, "two"),
        (LOG_INFO, "three"),
    ]


# Errors and their origins


def test_errors_of_open(tee: ArmTee) -> None:
    fails(TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TEE, lambda: tee.actor(0xDEAD))
    for code in TEE_ERROR_GENERIC, TEE_ERROR_TARGET_DEAD, 0x1234, 0x80000001:
        value = Value(code, Die.LIVE, INPUT)
        fails(code, TEE_ORIGIN_TRUSTED_APP, partial(tee.actor, MULTI, value))
    wait_until(lambda: not tee.instances())
    logged(tee, *["create", "open", "destroy"] * 4)


def test_a_refused_open_leaves_other_sessions(tee: ArmTee) -> None:
    first = tee.actor(SESSIONS)
    before = Who(first)
    value = Value(TEE_ERROR_ACCESS_DENIED, Die.LIVE, INPUT)
    fails(TEE_ERROR_ACCESS_DENIED, TEE_ORIGIN_TRUSTED_APP, lambda: tee.actor(SESSIONS, value))
    after = Who(first)
    assert (after.instance, after.sessions) == (before.instance, 1)


def test_no_create(tee: ArmTee) -> None:
    """libutee calls the create entry point at the first open, which is so the TA's own answer."""
    for _ in range(2):
        fails(TEE_ERROR_ACCESS_DENIED, TEE_ORIGIN_TRUSTED_APP, lambda: tee.actor(NO_CREATE))
    wait_until(lambda: not tee.instances())
    logged(tee, "no create", "no create")


@pytest.mark.parametrize(
    "code", [TEE_ERROR_GENERIC, TEE_ERROR_TARGET_DEAD, TEE_ERROR_SHORT_BUFFER, 1]
)
def test_errors_of_invoke(tee: ArmTee, code: int) -> None:
    session = tee.actor(MULTI)
    fails(code, TEE_ORIGIN_TRUSTED_APP, lambda: session.invoke(Do.RETURN, Value(code)))
    session.invoke(Do.RETURN, Value(0))
    unknown = 0xFFFF_FFFF
    fails(TEE_ERROR_NOT_SUPPORTED, TEE_ORIGIN_TRUSTED_APP, lambda: session.invoke(unknown))


# Panics


DEATHS = [
    (Do.PANIC, 0x1234),
    (Do.PANIC, TEE_ERROR_TARGET_DEAD),
    (Do.FAULT, 0),
    (Do.FAULT, 0xFFFFF000),
]


@pytest.mark.parametrize(("command", "argument"), DEATHS)
def test_a_panic_is_its_own(tee: ArmTee, command: Do, argument: int) -> None:
    first, second = tee.actor(MULTI), tee.actor(MULTI)
    other = Who(second).instance
    is_dead(lambda: first.invoke(command, Value(argument)))
    is_dead(lambda: first.invoke(Do.WHO, Value(), Value()))
    is_dead(lambda: first.invoke(Do.RETURN, Value(0)))
    wait_until(lambda: tee.instances() == 1)
    assert Who(second).instance == other
    first.close()
    assert Who(second).instance == other
    assert Who(tee.actor(MULTI)).sessions == 1
    # The dead one was neither closed nor destroyed.
    logged(tee, *["create", "open"] * 3)


@pytest.mark.parametrize("number", [SINGLE, SESSIONS, ALIVE])
def test_a_fresh_instance_after_a_panic(own_tee: ArmTee, number: int) -> None:
    """Even if sessions of the dead one are still open, which stay dead."""
    tee = own_tee
    old = [tee.actor(number)] if number == SINGLE else [tee.actor(number), tee.actor(number)]
    before = Who(old[0]).instance
    is_dead(lambda: old[0].invoke(Do.PANIC, Value(1)))
    fresh = tee.actor(number)
    after = Who(fresh)
    assert after.instance != before
    assert (after.sessions, after.created) == (1, 1)
    for session in old:
        is_dead(partial(session.invoke, Do.RETURN, Value(0)))
        session.close()
    # The close of a dead session is none of the fresh one's.
    assert (Who(fresh).instance, Who(fresh).sessions) == (after.instance, 1)


def test_kept_crashed(own_tee: ArmTee) -> None:
    tee = own_tee
    first, second = tee.actor(CRASHED), tee.actor(CRASHED)
    is_dead(lambda: first.invoke(Do.PANIC, Value(1)))
    for session in first, second:
        is_dead(partial(session.invoke, Do.RETURN, Value(0)))
        session.close()
    for _ in range(2):
        is_dead(lambda: tee.actor(CRASHED))


@pytest.fixture
def tee_of(host: ServiceHost, arch: str, tmp_path: Path) -> Iterator[Callable[[int], ArmTee]]:
    """``tee_of(flags)``: a TEE with an actor that has these flags."""
    tees: list[ArmTee] = []

    def tee_of(flags: int) -> ArmTee:
        arm_tas.install(tmp_path, MULTI, "actor", arch, f"-DFLAGS={flags}")
        tees.append(ArmTee(host, tmp_path, arch))
        return tees[-1]

    yield tee_of
    for tee in tees:
        tee.close()
    assert not host.bugs


def test_flags_of_single_instances_only(tee_of: Callable[[int], ArmTee]) -> None:
    """Without TA_FLAG_SINGLE_INSTANCE the other flags mean nothing."""
    tee = tee_of(
        TA_FLAG_MULTI_SESSION | TA_FLAG_INSTANCE_KEEP_ALIVE | TA_FLAG_INSTANCE_KEEP_CRASHED
    )
    first, second = tee.actor(MULTI), tee.actor(MULTI)
    assert Who(first).instance != Who(second).instance
    is_dead(lambda: first.invoke(Do.PANIC, Value(1)))
    second.close()
    wait_until(lambda: not tee.instances())
    assert Who(tee.actor(MULTI)).sessions == 1


def test_kept_crashed_needs_kept_alive(tee_of: Callable[[int], ArmTee]) -> None:
    tee = tee_of(TA_FLAG_SINGLE_INSTANCE | TA_FLAG_INSTANCE_KEEP_CRASHED)
    first = tee.actor(MULTI)
    is_dead(lambda: first.invoke(Do.PANIC, Value(1)))
    assert Who(tee.actor(MULTI)).sessions == 1


def test_kept_crashed_with_its_one_session(tee_of: Callable[[int], ArmTee]) -> None:
    tee = tee_of(
        TA_FLAG_SINGLE_INSTANCE | TA_FLAG_INSTANCE_KEEP_ALIVE | TA_FLAG_INSTANCE_KEEP_CRASHED
    )
    first = tee.actor(MULTI)
    is_dead(lambda: first.invoke(Do.PANIC, Value(1)))
    fails(TEE_ERROR_BUSY, TEE_ORIGIN_TEE, lambda: tee.actor(MULTI))
    first.close()
    is_dead(lambda: tee.actor(MULTI))


def test_panic_in_open(tee: ArmTee) -> None:
    for how in Die.NOW, Die.BY_FAULT:
        is_dead(partial(tee.actor, MULTI, Value(0, how, INPUT)))
    wait_until(lambda: not tee.instances())


def test_panic_in_open_takes_all_sessions(tee: ArmTee) -> None:
    first = tee.actor(SESSIONS)
    is_dead(lambda: tee.actor(SESSIONS, Value(0, Die.NOW, INPUT)))
    is_dead(lambda: first.invoke(Do.RETURN, Value(0)))
    assert Who(tee.actor(SESSIONS)).sessions == 1


def test_panic_in_close(tee: ArmTee) -> None:
    first = tee.actor(SESSIONS)
    second = tee.actor(SESSIONS, Value(0, Die.AT_CLOSE, INPUT))
    second.close()
    is_dead(lambda: first.invoke(Do.RETURN, Value(0)))
    first.close()
    assert Who(tee.actor(SESSIONS)).sessions == 1


def test_panic_in_destroy(tee: ArmTee) -> None:
    session = tee.actor(SESSIONS, Value(0, Die.AT_DESTROY, INPUT))
    before = Who(session).instance
    session.close()
    after = Who(tee.actor(SESSIONS))
    assert after.instance != before
    assert after.created == 1


def queued(tee: ArmTee) -> int:
    """How many commands wait for their turn, of all instances."""
    (soft,) = tee.driver._tees
    return sum(len(instance._queue) for instance in soft.instances())


def test_a_panic_answers_who_waits_for_its_turn(tee: ArmTee) -> None:
    first, second = tee.actor(SESSIONS), tee.actor(SESSIONS)
    state = SharedMemory.allocate(first.context, 4096)
    polls = Call(first, Do.POLL, Value(0, 0), state)
    wait_until(lambda: state.buffer[0] == 1)
    panics = Call(second, Do.PANIC, Value(7))
    wait_until(lambda: queued(tee) == 1)
    last = Call(second, Do.RETURN, Value(0))
    wait_until(lambda: queued(tee) == 2)
    state.buffer[2] = 1
    polls.wait()
    is_dead(panics.wait)
    is_dead(last.wait)


def test_calls_of_one_instance_take_turns(tee: ArmTee) -> None:
    first, second = tee.actor(SESSIONS), tee.actor(SESSIONS)
    state = SharedMemory.allocate(first.context, 4096)
    polls = Call(first, Do.POLL, Value(0, 0), state)
    wait_until(lambda: state.buffer[0] == 1)
    value = Value(21, 4)
    doubles = Call(second, Do.TWICE, bytearray(1), value)
    wait_until(lambda: queued(tee) == 1)
    assert not doubles.is_done
    state.buffer[2] = 1
    polls.wait()
    doubles.wait()
    assert (value.a, value.b) == (42, 8)


def test_a_process_that_is_killed(tee: ArmTee) -> None:
    session = tee.actor(MULTI)
    other = tee.actor(MULTI)
    Who(session)
    (soft,) = tee.driver._tees
    pids = {instance.pid for instance in soft.instances()}
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for dead in session, other:
        is_dead(partial(dead.invoke, Do.RETURN, Value(0)))
    wait_until(lambda: not tee.instances())
    assert Who(tee.actor(MULTI)).sessions == 1


def test_more_instances_than_wait_in_a_call(tee: ArmTee) -> None:
    """The others rest, and come back for what is asked of them."""
    sessions = [tee.actor(MULTI) for _ in range(40)]
    first = [Who(session).instance for session in sessions]
    assert len(set(first)) == 40
    assert [Who(session).instance for session in sessions] == first


# Cancellation


def test_cancel_a_wait(tee: ArmTee) -> None:
    session = tee.actor(MULTI)
    state = SharedMemory.allocate(session.context, 4096)
    call = Call(session, Do.WAIT, Value(TIMEOUT_INFINITE, 1), state)
    wait_until(lambda: state.buffer[0] == 1)
    call.operation.cancel()
    fails(TEE_ERROR_CANCEL, TEE_ORIGIN_TRUSTED_APP, call.wait)
    # The flag was set, and the mask was there before.
    assert state.buffer[1] == 0b11
    # Flag and mask of the next call are its own.
    state.buffer[:2] = bytes(2)
    session.invoke(Do.WAIT, Value(1, 0), state)
    assert state.buffer[1] == 0
    session.invoke(Do.WAIT, Value(1, 1), state)
    assert state.buffer[1] == 0b10


def test_a_masked_wait_is_not_cancelled(tee: ArmTee) -> None:
    session = tee.actor(MULTI)
    state = SharedMemory.allocate(session.context, 4096)
    call = Call(session, Do.WAIT, Value(50, 0), state)
    wait_until(lambda: state.buffer[0] == 1)
    call.operation.cancel()
    call.wait()
    assert state.buffer[1] == 0  # masked, the flag does not show


def test_cancel_what_looks_at_the_flag(tee: ArmTee) -> None:
    session = tee.actor(MULTI)
    state = SharedMemory.allocate(session.context, 4096)
    call = Call(session, Do.POLL, Value(0, 1), state)
    wait_until(lambda: state.buffer[0] == 1)
    call.operation.cancel()
    call.wait()
    assert state.buffer[1] == 0b11


def test_cancel_what_waits_for_its_turn(tee: ArmTee) -> None:
    first, second = tee.actor(SESSIONS), tee.actor(SESSIONS)
    state = SharedMemory.allocate(first.context, 4096)
    polls = Call(first, Do.POLL, Value(0, 0), state)
    wait_until(lambda: state.buffer[0] == 1)
    call = Call(second, Do.PANIC, Value(1))
    wait_until(lambda: queued(tee) == 1)
    call.operation.cancel()
    fails(TEE_ERROR_CANCEL, TEE_ORIGIN_TEE, call.wait)
    state.buffer[2] = 1
    polls.wait()
    assert Who(second).sessions == 2


# Identity


def client_of(session: Session) -> tuple[int, bytes]:
    """Login and UUID of the client, as the TA knows it."""
    value, uuid = Value(), Out(16)
    session.invoke(Do.CLIENT, value, uuid)
    assert value.b == USER_TA_PROP_TYPE_IDENTITY
    return value.a, uuid.data


def test_identity_of_a_client(tee: ArmTee) -> None:
    public = tee.actor(MULTI)
    user = tee.context().open_session(uuid_of(MULTI), login=TEEC_LOGIN_USER)
    assert client_of(public) == (TEE_LOGIN_PUBLIC, bytes(16))
    login, uuid = client_of(user)
    assert login == TEE_LOGIN_USER
    name = f"uid={os.geteuid():x}"
    space = UUID("58ac9ca0-2086-4683-a1b8-ec4bc08e01b6")  # drivers/tee/tee_core.c
    expected = uuid5(space, name)
    assert uuid == native_uuid(str(expected))


def test_identity_is_that_of_the_session(tee: ArmTee) -> None:
    public = tee.actor(SESSIONS)
    user = tee.context().open_session(uuid_of(SESSIONS), login=TEEC_LOGIN_USER)
    for _ in range(2):
        assert client_of(public)[0] == TEE_LOGIN_PUBLIC
        assert client_of(user)[0] == TEE_LOGIN_USER
