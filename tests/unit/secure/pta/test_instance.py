# SPDX-License-Identifier: BSD-2-Clause
"""gentee.secure.pta.instance: how calls reach a pseudo TA, and what becomes of them."""

import errno
import threading
from collections.abc import Callable

import pytest

from gentee.abi.gp import (
    TEE_ERROR_BAD_FORMAT,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_BAD_STATE,
    TEE_ERROR_BUSY,
    TEE_ERROR_CANCEL,
    TEE_ERROR_GENERIC,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_SUCCESS,
)
from gentee.abi.optee_pta import PTA_DEFAULT_FLAGS
from gentee.abi.optee_ta import TA_FLAG_CACHE_MAINTENANCE, TA_FLAG_CONCURRENT
from gentee.errors import BadFormat, BadState, Busy, TeeError
from gentee.secure.pta.instance import PseudoInstance
from gentee.secure.pta.pseudo_ta import Later, Param, PtaSession, Value
from gentee.secure.service import parse_uuid
from tests.helpers import NONE, PATIENCE, value_inout, value_out, wait_until
from tests.pta_rig import UUID, Rig, ScriptedPta

CONCURRENT = PTA_DEFAULT_FLAGS | TA_FLAG_CONCURRENT
GOOD = (TEE_SUCCESS, TEE_ORIGIN_TRUSTED_APP)


class Gate:
    """An entry point that waits until the test lets it go on, and how many are inside."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self._lock = threading.Lock()
        self._open = threading.Event()

    def __call__(self, *_arguments: object) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self._open.wait(PATIENCE)
        with self._lock:
            self.inside -= 1

    def open(self) -> None:
        self._open.set()


# Sessions


def test_life(rig: Rig) -> None:
    pta = rig.add()
    one = rig.open()
    two = rig.open()
    assert pta.told == ["create", ("open", 1), ("open", 2)]
    one.close()
    wait_until(lambda: ("close", 1) in pta.told)
    two.close()
    wait_until(lambda: pta.told[-1] == "destroy")
    rig.open()
    assert pta.told[-2:] == ["create", ("open", 3)]


def test_a_client_that_ends_ends_its_sessions(rig: Rig) -> None:
    pta = rig.add()
    rig.open().client.close()
    wait_until(lambda: pta.told == ["create", ("open", 1), ("close", 1), "destroy"])


def test_a_session_has_a_context_of_its_own(rig: Rig) -> None:
    pta = rig.add()

    def count(session: PtaSession, command: int, types: int, params: list[Param]) -> None:
        session.context = (session.context or 0) + 1
        assert isinstance(params[0], Value)
        params[0].a = session.context

    pta.invoke = count
    one, two = rig.open(), rig.open()
    seen = [session.invoke(0, value_out()).wait_done().params[0][1] for session in (one, two, one)]
    assert seen == [1, 1, 2]


def test_who_opens_it(rig: Rig) -> None:
    pta = rig.add()
    seen: list[PtaSession] = []
    pta.open = lambda session, types, params: seen.append(session)
    rig.open()
    (session,) = seen
    assert session.client == (0, bytes(16))
    assert session.caller is None
    assert not session.is_from_ta


def test_a_refused_session(rig: Rig) -> None:
    pta = rig.add()

    def refuse(session: PtaSession, types: int, params: list[Param]) -> None:
        assert isinstance(params[0], Value)
        params[0].a = 7
        raise BadFormat("not you")

    pta.open = refuse
    call = rig.client().begin_open_session(parse_uuid(UUID), [value_inout(1, 2)])
    assert call.result == (TEE_ERROR_BAD_FORMAT, TEE_ORIGIN_TRUSTED_APP)
    assert call.params[0][1:3] == (7, 2)
    assert pta.told == ["create", ("open", 1), "destroy"]
    assert not rig.tee.pseudo_tas.instance(parse_uuid(UUID)).sessions


def test_it_cannot_be_created(rig: Rig) -> None:
    pta = rig.add()

    def fail() -> None:
        raise Busy("no hardware")

    pta.creation = fail
    client = rig.client()
    expected = (TEE_ERROR_BUSY, TEE_ORIGIN_TRUSTED_APP)
    assert client.begin_open_session(parse_uuid(UUID)).result == expected
    assert pta.told == ["create"]
    pta.creation = lambda: None
    rig.open()
    assert pta.told == ["create", "create", ("open", 2)]


def test_nobody_has_that_uuid(rig: Rig) -> None:
    call = rig.client().begin_open_session(parse_uuid(UUID))
    assert call.result == (TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TEE)


def test_sessions_of_others(rig: Rig) -> None:
    rig.add()
    mine, other = rig.open(), rig.open()
    call = other.client.invoke(mine.session, 0)
    call.wait_end()
    assert call.arg.error == errno.EINVAL
    with pytest.raises(OSError) as caught:
        other.client.close_session(mine.session)
    assert caught.value.errno == errno.EINVAL


# Results


def test_success(rig: Rig) -> None:
    rig.add()
    assert rig.open().invoke().result == GOOD


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BadFormat("what"), (TEE_ERROR_BAD_FORMAT, TEE_ORIGIN_TRUSTED_APP)),
        (TeeError(0x1234), (0x1234, TEE_ORIGIN_TRUSTED_APP)),
        (BadState("not here", TEE_ORIGIN_TEE), (TEE_ERROR_BAD_STATE, TEE_ORIGIN_TEE)),
    ],
)
def test_an_error_is_the_result(rig: Rig, error: TeeError, expected: tuple[int, int]) -> None:
    pta = rig.add()

    def fail(*_arguments: object) -> None:
        raise error

    session = rig.open()
    pta.invoke = fail
    assert session.invoke().result == expected


def test_a_bug_costs_its_call_only(rig: Rig) -> None:
    pta = rig.add()

    def fail(session: PtaSession, command: int, types: int, params: list[Param]) -> None:
        assert isinstance(params[0], Value)
        params[0].a = 99
        raise ZeroDivisionError("a bug")

    session = rig.open()
    pta.invoke = fail
    call = session.invoke(0, value_inout(1, 2))
    assert call.result == (TEE_ERROR_GENERIC, TEE_ORIGIN_TEE)
    assert call.params[0][1:3] == (1, 2)
    assert [str(bug) for bug in rig.host.bugs] == ["a bug"]
    rig.host.bugs.clear()
    pta.invoke = lambda *arguments: None
    assert session.invoke().result == GOOD


def test_a_bug_in_open_and_close(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    pta = rig.add()

    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    pta.open = fail
    call = rig.client().begin_open_session(parse_uuid(UUID))
    assert call.result == (TEE_ERROR_GENERIC, TEE_ORIGIN_TEE)
    pta.open = lambda *arguments: None
    monkeypatch.setattr(pta, "close_session", fail)
    rig.open().close()
    wait_until(lambda: len(rig.host.bugs) == 2)
    wait_until(lambda: pta.told[-1] == "destroy")
    rig.host.bugs.clear()
    monkeypatch.undo()
    assert rig.open().invoke().result == GOOD


@pytest.mark.parametrize("returned", [0, "later", {}])
def test_what_is_no_result(rig: Rig, returned: object) -> None:
    pta = rig.add()
    session = rig.open()
    pta.invoke = lambda *arguments: returned  # type: ignore[assignment]
    assert session.invoke().result == (TEE_ERROR_GENERIC, TEE_ORIGIN_TEE)
    assert [type(bug) for bug in rig.host.bugs] == [TypeError]
    rig.host.bugs.clear()


def test_an_output_that_is_no_number(rig: Rig) -> None:
    pta = rig.add()
    session = rig.open()

    def wrong(session: PtaSession, command: int, types: int, params: list[Param]) -> None:
        assert isinstance(params[0], Value)
        params[0].a = "7"  # type: ignore[assignment]

    pta.invoke = wrong
    assert session.invoke(0, value_out()).result == (TEE_ERROR_GENERIC, TEE_ORIGIN_TEE)
    assert [type(bug) for bug in rig.host.bugs] == [TypeError]
    rig.host.bugs.clear()


def test_one_that_would_end_the_program(rig: Rig) -> None:
    pta = rig.add()
    session = rig.open()

    def leave(*_arguments: object) -> None:
        raise SystemExit(1)

    pta.invoke = leave
    assert session.invoke().result == (TEE_ERROR_GENERIC, TEE_ORIGIN_TEE)
    pta.invoke = lambda *arguments: None
    assert session.invoke().result == GOOD
    rig.host.bugs.clear()


def test_a_bug_in_destroy(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    pta = rig.add()

    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(pta, "destroy", fail)
    pta.open = fail  # refused, so the only session is gone before it was there
    call = rig.client().begin_open_session(parse_uuid(UUID))
    assert call.result == (TEE_ERROR_GENERIC, TEE_ORIGIN_TEE)
    assert len(rig.host.bugs) == 2
    rig.host.bugs.clear()


# Order


def test_without_the_flag_one_call_after_the_other(rig: Rig) -> None:
    pta = rig.add()
    sessions = [rig.open() for _ in range(4)]
    gate = Gate()
    pta.invoke = gate
    calls = [session.invoke() for session in sessions]
    wait_until(lambda: gate.inside == 1)
    gate.open()
    assert [call.result for call in calls] == [GOOD] * 4
    assert gate.most == 1


def test_with_the_flag_sessions_at_the_same_time(rig: Rig) -> None:
    pta = rig.add(flags=CONCURRENT)
    sessions = [rig.open() for _ in range(4)]
    gate = Gate()
    pta.invoke = gate
    calls = [session.invoke() for session in sessions for _ in range(2)]
    wait_until(lambda: gate.inside == 4)
    gate.open()
    assert [call.result for call in calls] == [GOOD] * 8
    assert gate.most == 4  # the calls of each session one after the other


def test_a_close_comes_after_the_calls_before_it(rig: Rig) -> None:
    pta = rig.add(flags=CONCURRENT)
    session = rig.open()
    gate = Gate()
    pta.invoke = gate
    call = session.invoke()
    wait_until(lambda: gate.inside == 1)
    session.close()
    assert ("close", 1) not in pta.told
    gate.open()
    assert call.result == GOOD
    wait_until(lambda: ("close", 1) in pta.told)


def test_a_call_that_comes_after_the_close(rig: Rig) -> None:
    pta = rig.add(flags=CONCURRENT)
    session = rig.open()
    core_session = session.client.ctx.sessions[session.session]
    session.close()
    wait_until(lambda: ("close", 1) in pta.told)
    # As if it had been looked up just before.
    session.client.ctx.sessions[session.session] = core_session
    call = session.invoke()
    assert call.result == (TEE_ERROR_BAD_PARAMETERS, TEE_ORIGIN_TEE)
    del session.client.ctx.sessions[session.session]
    assert not rig.tee.pseudo_tas.instance(parse_uuid(UUID))._lanes


# Cancellation, and results that come later


def test_a_call_that_waits_its_turn_is_taken_back(rig: Rig) -> None:
    pta = rig.add()
    one, two = rig.open(), rig.open()
    gate = Gate()
    pta.invoke = gate
    running, waiting = one.invoke(cancel_id=1), two.invoke(cancel_id=2)
    wait_until(lambda: gate.inside == 1)
    two.cancel(2)
    assert waiting.result == (TEE_ERROR_CANCEL, TEE_ORIGIN_TEE)
    one.cancel(1)  # which goes on, as those of OP-TEE do
    assert not running.is_done
    gate.open()
    assert running.result == GOOD


class LaterPta(ScriptedPta):
    """Each command has its result when the test says so."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.laters: list[Later] = []
        self.cancelled: list[int] = []
        self.invoke = self._later

    def _later(
        self, session: PtaSession, command: int, types: int, params: list[Param]
    ) -> Later | None:
        if params[0] is not None:
            assert isinstance(params[0], Value)
            params[0].a += 1
        number = len(self.laters)
        self.laters.append(Later(lambda: self.cancelled.append(number)))
        return self.laters[-1]


def test_later(rig: Rig) -> None:
    pta = rig.add(LaterPta)
    assert isinstance(pta, LaterPta)
    one, two = rig.open(), rig.open()
    first = one.invoke(0, value_inout(5))
    wait_until(lambda: len(pta.laters) == 1)
    second = two.invoke()
    assert not first.is_done
    pta.laters[0].done()
    assert first.result == GOOD
    assert first.params[0][1] == 6
    wait_until(lambda: len(pta.laters) == 2)  # the lane was kept until then
    pta.laters[1].done(BadFormat("late"))
    assert second.result == (TEE_ERROR_BAD_FORMAT, TEE_ORIGIN_TRUSTED_APP)


def test_later_is_done_before_it_is_returned(rig: Rig) -> None:
    pta = rig.add()

    def now(*_arguments: object) -> Later:
        later = Later()
        later.done(Busy("at once"))
        return later

    session = rig.open()
    pta.invoke = now
    assert session.invoke().result == (TEE_ERROR_BUSY, TEE_ORIGIN_TRUSTED_APP)


def test_later_is_done_once() -> None:
    later = Later()
    later.done()
    with pytest.raises(RuntimeError):
        later.done()


def test_later_of_an_open(rig: Rig) -> None:
    pta = rig.add()
    laters: list[Later] = []

    def later(*_arguments: object) -> Later:
        laters.append(Later())
        return laters[-1]

    pta.open = later
    client = rig.client()
    call = client.begin_open_session(parse_uuid(UUID))
    wait_until(lambda: laters)
    assert not call.is_done
    laters[0].done()
    assert call.result == GOOD
    assert client.invoke(call.arg.session, 0).result == GOOD


def test_nobody_is_left_who_waits(rig: Rig) -> None:
    pta = rig.add(LaterPta)
    assert isinstance(pta, LaterPta)
    session = rig.open()
    call = session.invoke(cancel_id=3)
    wait_until(lambda: pta.laters)
    session.cancel(3)  # somebody still waits
    assert not pta.cancelled
    session.client.close()
    wait_until(lambda: pta.cancelled == [0])
    pta.laters[0].done(BadFormat("nobody"))
    call.wait_end()
    wait_until(lambda: ("close", 1) in pta.told)


@pytest.mark.parametrize("ends_early", [False, True])
def test_what_ends_early_is_told_of_a_cancellation(rig: Rig, ends_early: bool) -> None:
    pta = rig.add()
    told = threading.Event()
    laters: list[Later] = []

    def later(*_arguments: object) -> Later:
        laters.append(Later(told.set, ends_early=ends_early))
        return laters[-1]

    session = rig.open()
    pta.invoke = later
    call = session.invoke(cancel_id=3)
    wait_until(lambda: rig.tee.pseudo_tas.instance(parse_uuid(UUID))._later)
    session.cancel(3)
    assert told.is_set() == ends_early
    laters[0].done()
    assert call.result == GOOD
    assert laters[0].cancel is None


def test_a_bug_in_cancel(rig: Rig) -> None:
    pta = rig.add()
    laters: list[Later] = []

    def fail() -> None:
        raise ZeroDivisionError("a bug")

    def later(*_arguments: object) -> Later:
        laters.append(Later(fail))
        return laters[-1]

    session = rig.open()
    pta.invoke = later
    call = session.invoke()
    wait_until(lambda: laters)
    wait_until(lambda: rig.tee.pseudo_tas.instance(parse_uuid(UUID))._later)
    session.client.close()
    wait_until(lambda: len(rig.host.bugs) == 1)
    rig.host.bugs.clear()
    laters[0].done()
    call.wait_end()


def test_whoever_waits_is_gone_at_once(rig: Rig) -> None:
    pta = rig.add(LaterPta)
    assert isinstance(pta, LaterPta)
    session = rig.open()
    entered, go_on = threading.Event(), threading.Event()
    later = pta.invoke

    def slow(session: PtaSession, command: int, types: int, params: list[Param]) -> Later | None:
        entered.set()
        assert go_on.wait(PATIENCE)
        return later(session, command, types, params)

    pta.invoke = slow
    call = session.invoke()
    assert entered.wait(PATIENCE)
    call.arg.abandon()  # while it is on its way to the result that comes later
    go_on.set()
    wait_until(lambda: pta.cancelled == [0])
    pta.laters[0].done()
    call.wait_end()


# What cannot be a pseudo TA


@pytest.mark.parametrize(
    "change",
    [
        lambda pta: setattr(pta, "flags", 0),
        lambda pta: setattr(pta, "flags", PTA_DEFAULT_FLAGS | TA_FLAG_CACHE_MAINTENANCE),
        lambda pta: setattr(pta, "name", ""),
        lambda pta: setattr(pta, "uuid", "none"),
    ],
)
def test_wrong_heads(rig: Rig, change: Callable[[ScriptedPta], None]) -> None:
    pta = ScriptedPta(rig.tee, rig.host)
    change(pta)
    with pytest.raises(ValueError, match=r"scripted|UUID|name"):
        PseudoInstance(rig.host, pta)


def test_five_parameters(rig: Rig) -> None:
    rig.add()
    session = rig.open()
    assert session.invoke(0, NONE, NONE, NONE, NONE, NONE).result == GOOD
    call = session.invoke(0, NONE, NONE, NONE, NONE, value_out())
    assert call.result == (TEE_ERROR_BAD_PARAMETERS, TEE_ORIGIN_TEE)
