# SPDX-License-Identifier: BSD-2-Clause
"""gentee.core.calls: how a call ends, who learns of it, and what is undone."""

import errno
import threading
from collections.abc import Callable

import pytest

from gentee.abi import gp
from gentee.core.calls import InvokeArg, OpenSessionArg, find_pending
from gentee.core.context import TeeContext, TeeSession
from gentee.core.driver import PENDING, OpResult
from gentee.core.params import TeeParam
from gentee.errors import BadParameters, ItemNotFound, TeeError
from tests.helpers import PATIENCE, Client, MinimalOps, make_device, memref_in, value_inout

UUID = bytes(range(16))

Body = Callable[[OpenSessionArg | InvokeArg], OpResult]


def at_once(arg: OpenSessionArg | InvokeArg) -> OpResult:
    return None


def later(arg: OpenSessionArg | InvokeArg) -> OpResult:
    return PENDING


class BodyOps(MinimalOps):
    """Opens and invokes as the test says."""

    def __init__(self) -> None:
        self.open_body: Body = at_once
        self.invoke_body: Body = at_once
        self.closed: list[object] = []
        self.cancelled: list[tuple[int, int]] = []

    def open_session(
        self, ctx: TeeContext, arg: OpenSessionArg, params: list[TeeParam]
    ) -> OpResult:
        assert params is arg.params
        arg.priv = object()
        return self.open_body(arg)

    def close_session(self, ctx: TeeContext, session: TeeSession) -> None:
        self.closed.append(session.priv)

    def invoke_func(self, ctx: TeeContext, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
        assert params is arg.params
        return self.invoke_body(arg)

    def cancel_req(self, ctx: TeeContext, cancel_id: int, session: int) -> None:
        self.cancelled.append((cancel_id, session))


def raising(error: BaseException) -> Body:
    def body(arg: OpenSessionArg | InvokeArg) -> OpResult:
        raise error

    return body


@pytest.fixture
def ops() -> BodyOps:
    return BodyOps()


@pytest.fixture
def client(ops: BodyOps) -> Client:
    return Client(make_device(ops, max_sessions=3))


def test_invoke_carries_what_the_session_has(ops: BodyOps, client: Client) -> None:
    session = client.open_session(UUID)
    seen: list[InvokeArg] = []

    def body(arg: OpenSessionArg | InvokeArg) -> OpResult:
        assert isinstance(arg, InvokeArg)
        seen.append(arg)
        arg.params[0].a += 1
        arg.ret, arg.ret_origin = 7, gp.TEE_ORIGIN_TRUSTED_APP
        return None

    ops.invoke_body = body
    call = client.invoke(session, 42, [value_inout(5)], cancel_id=9)
    assert call.result == (7, gp.TEE_ORIGIN_TRUSTED_APP)
    assert call.params == [value_inout(6)]
    (arg,) = seen
    assert (arg.func, arg.session, arg.cancel_id) == (42, session, 9)
    assert arg.priv is client.ctx.sessions[session].priv
    assert client.ctx.sessions[session].uuid == UUID


def test_default_result_is_success_of_the_tee(client: Client) -> None:
    call = client.invoke(client.open_session(UUID), 0)
    assert call.result == (gp.TEE_SUCCESS, gp.TEE_ORIGIN_TEE)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (BadParameters("x"), (gp.TEE_ERROR_BAD_PARAMETERS, gp.TEE_ORIGIN_TEE)),
        (ItemNotFound("x", gp.TEE_ORIGIN_TRUSTED_APP), (gp.TEE_ERROR_ITEM_NOT_FOUND, 4)),
        (TeeError(0x1234, gp.TEE_ORIGIN_COMMS), (0x1234, gp.TEE_ORIGIN_COMMS)),
    ],
)
def test_tee_errors_are_results(
    ops: BodyOps, client: Client, error: TeeError, result: tuple[int, int]
) -> None:
    session = client.open_session(UUID)
    ops.invoke_body = ops.open_body = raising(error)
    shm = client.shm_alloc(1)
    assert client.invoke(session, 0, [memref_in(shm)]).result == result
    opening = client.begin_open_session(UUID, [memref_in(shm)])
    assert opening.result == result
    assert opening.arg.session == 0
    assert set(client.ctx.sessions) == {session}
    assert shm.refcount == 1


@pytest.mark.parametrize(
    ("error", "number"),
    [(OSError(errno.EPERM, "x"), errno.EPERM), (OSError("no number"), errno.EIO)],
)
def test_oserrors_fail_the_ioctl(ops: BodyOps, client: Client, error: OSError, number: int) -> None:
    session = client.open_session(UUID)
    ops.invoke_body = ops.open_body = raising(error)
    for call in (client.invoke(session, 0), client.begin_open_session(UUID)):
        with pytest.raises(OSError) as caught:
            call.wait_done()
        assert caught.value.errno == number
    assert set(client.ctx.sessions) == {session}


def test_a_bug_of_the_driver_is_eio_and_shows(ops: BodyOps, client: Client) -> None:
    session = client.open_session(UUID)
    shm = client.shm_alloc(1)
    ops.invoke_body = raising(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        client.invoke(session, 0, [memref_in(shm)])
    assert shm.refcount == 1  # the client was answered nevertheless
    assert client.ctx.pending == set()


def test_pending_until_completed_from_another_thread(ops: BodyOps, client: Client) -> None:
    session = client.open_session(UUID)
    ops.invoke_body = later
    shm = client.shm_alloc(1)
    call = client.invoke(session, 0, [memref_in(shm)])
    assert not call.is_done
    assert client.ctx.pending == {call.arg}
    assert shm.refcount == 2
    thread = threading.Thread(target=call.arg.complete)
    thread.start()
    call.wait_done()
    thread.join()
    assert client.ctx.pending == set()
    assert shm.refcount == 1


def test_completed_before_it_returns_pending(ops: BodyOps, client: Client) -> None:
    def body(arg: OpenSessionArg | InvokeArg) -> OpResult:
        arg.complete()
        return PENDING

    ops.invoke_body = ops.open_body = body
    session = client.open_session(UUID)
    assert client.invoke(session, 0).result[0] == gp.TEE_SUCCESS
    assert client.ctx.pending == set()


def test_a_driver_that_waits_is_called_in_other_threads() -> None:
    class WaitingOps(BodyOps):
        blocking = True

    ops = WaitingOps()
    meeting = threading.Barrier(4)

    def body(arg: OpenSessionArg | InvokeArg) -> OpResult:
        meeting.wait(PATIENCE)  # all of them at once, or none gets on
        return None

    ops.invoke_body = body
    with Client(make_device(ops)) as client:
        session = client.open_session(UUID)
        pending = [client.invoke(session, 0) for _ in range(3)]
        assert client.ctx.pending == {call.arg for call in pending}
        meeting.wait(PATIENCE)
        for call in pending:
            assert call.result[0] == gp.TEE_SUCCESS


def test_most_sessions_at_once(ops: BodyOps, client: Client) -> None:
    sessions = [client.open_session(UUID) for _ in range(3)]
    ops.open_body = raising(AssertionError("the driver is not even asked"))
    refused = client.begin_open_session(UUID)
    assert refused.result == (gp.TEE_ERROR_OUT_OF_MEMORY, gp.TEE_ORIGIN_TEE)
    ops.open_body = at_once
    client.close_session(sessions[1])
    assert client.open_session(UUID) == sessions[1]


def test_most_sessions_also_for_those_that_open_together(ops: BodyOps, client: Client) -> None:
    ops.open_body = later
    opening = [client.begin_open_session(UUID) for _ in range(5)]
    for call in opening:
        call.arg.complete()
    results = [call.result[0] for call in opening]
    assert results == [gp.TEE_SUCCESS] * 3 + [gp.TEE_ERROR_OUT_OF_MEMORY] * 2
    # The driver had opened those two.
    assert ops.closed == [call.arg.priv for call in opening[3:]]
    assert client.device.session_ids.alloc() == 4


def test_a_session_that_opens_into_a_closed_context(ops: BodyOps, client: Client) -> None:
    ops.open_body = later
    call = client.begin_open_session(UUID)
    client.close()
    assert call.arg.abandoned
    call.arg.complete()
    with pytest.raises(OSError) as caught:
        call.wait_done()
    assert caught.value.errno == errno.EBADF
    assert ops.closed == [call.arg.priv]
    assert client.ctx.sessions == {}
    assert client.device.session_ids.alloc() == 1


def test_close_session(ops: BodyOps, client: Client) -> None:
    session = client.open_session(UUID)
    priv = client.ctx.sessions[session].priv
    client.close_session(session)
    assert ops.closed == [priv]
    for number in (session, 0, 2**32 - 1):
        with pytest.raises(OSError) as caught:
            client.close_session(number)
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError) as caught:
        client.invoke(session, 0).wait_done()
    assert caught.value.errno == errno.EINVAL
    client.close()
    assert ops.closed == [priv]


def test_the_id_of_a_session_is_free_only_when_the_driver_closed_it(
    ops: BodyOps, client: Client
) -> None:
    session = client.open_session(UUID)
    meanwhile: list[int] = []

    def close_session(ctx: TeeContext, session: TeeSession) -> None:
        meanwhile.append(client.device.session_ids.alloc())

    ops.close_session = close_session  # type: ignore[method-assign]
    client.close_session(session)
    assert session not in meanwhile
    assert client.device.session_ids.alloc() == session


def test_cancel(ops: BodyOps, client: Client) -> None:
    session = client.open_session(UUID)
    client.cancel(5, session)
    client.cancel(6, 0)  # an open that is under way
    assert ops.cancelled == [(5, session), (6, 0)]
    with pytest.raises(OSError) as caught:
        client.cancel(5, session + 1)
    assert caught.value.errno == errno.EINVAL


def test_find_pending(ops: BodyOps, client: Client) -> None:
    one, two = client.open_session(UUID), client.open_session(UUID)
    ops.invoke_body = ops.open_body = later
    first = client.invoke(one, 0, cancel_id=5).arg
    second = client.invoke(one, 0, cancel_id=5).arg
    client.invoke(one, 0, cancel_id=6)
    client.invoke(two, 0, cancel_id=5)
    opening = client.begin_open_session(UUID, cancel_id=5).arg
    assert set(find_pending(client.ctx, 5, one)) == {first, second}
    assert find_pending(client.ctx, 5, 0) == [opening]
    assert find_pending(client.ctx, 7, one) == []
    first.complete()
    assert find_pending(client.ctx, 5, one) == [second]


def test_abandon_asks_the_driver_to_end_the_call(ops: BodyOps, client: Client) -> None:
    session = client.open_session(UUID)
    ops.invoke_body = later
    call = client.invoke(session, 0)
    call.arg.abandon()  # the driver gave no way: it ends at its own time
    assert (call.arg.abandoned, call.is_done) == (True, False)
    call.arg.cancel = call.arg.complete
    call.arg.abandon()
    call.wait_done()
