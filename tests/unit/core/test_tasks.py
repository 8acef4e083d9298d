# SPDX-License-Identifier: BSD-2-Clause
"""Tasks: each phase cancelled, abandoned or refused, in drivers that block and that do not."""

import errno
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gentee.abi.gp import TEE_ERROR_BUSY, TEE_ERROR_CANCEL, TEE_ORIGIN_TEE, TEE_SUCCESS
from gentee.core import calls, tasks
from gentee.core.context import TeeContext, TeeSession, teedev_close_context, teedev_open
from gentee.core.driver import PENDING, OpResult
from gentee.core.params import TeeParam
from gentee.errors import TeeError
from tests.helpers import MinimalOps, make_device, wait_until


class PhasedOps(MinimalOps):
    """Phases end when the test says so; what was asked is on record."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.opening: calls.OpenSessionArg | None = None
        self.invoked: calls.InvokeArg | None = None
        self.cancels: list[tuple[int, int]] = []

    def open_session(
        self, ctx: TeeContext, arg: calls.OpenSessionArg, params: list[TeeParam]
    ) -> OpResult:
        assert not params
        self.asked.append("open")
        self.opening = arg
        return PENDING

    def invoke_func(
        self, ctx: TeeContext, arg: calls.InvokeArg, params: list[TeeParam]
    ) -> OpResult:
        assert [param.a for param in params] == [5]
        self.asked.append("invoke")
        self.invoked = arg
        return PENDING

    def close_session(self, ctx: TeeContext, session: TeeSession) -> None:
        self.asked.append("close")

    def cancel_req(self, ctx: TeeContext, cancel_id: int, session: int) -> None:
        self.cancels.append((cancel_id, session))


class Running:
    """A task that began."""

    def __init__(self, ops: MinimalOps) -> None:
        self.ctx = teedev_open(make_device(ops))
        self.done: list[tasks.TaskArg] = []
        uuid = bytes(range(16))
        params = [TeeParam(1, 5)]
        self.arg = tasks.TaskArg(self.ctx, uuid, bytes(16), 0, 3, 9, params, self.done.append)
        tasks.task(ops, self.arg)

    def check(self, ret: int, error: int = 0) -> None:
        """It is over, with this result, and left nothing behind."""
        assert self.done == [self.arg]
        assert (self.arg.ret, self.arg.error) == (ret, error)
        assert not self.ctx.pending
        assert not self.ctx.sessions


@pytest.fixture
def ops() -> PhasedOps:
    return PhasedOps()


@pytest.fixture
def running(ops: PhasedOps) -> Running:
    return Running(ops)


def opened(ops: PhasedOps) -> None:
    assert ops.opening is not None
    ops.opening.complete()


def invoked(ops: PhasedOps) -> calls.InvokeArg:
    opened(ops)
    assert ops.invoked is not None
    return ops.invoked


def test_phases(ops: PhasedOps, running: Running) -> None:
    assert not running.done
    invoke = invoked(ops)
    assert running.ctx.pending == {running.arg, invoke}
    assert (invoke.func, invoke.cancel_id) == (3, 9)
    invoke.ret, invoke.ret_origin = TEE_ERROR_BUSY, 77
    invoke.complete()
    running.check(TEE_ERROR_BUSY)
    assert running.arg.ret_origin == 77
    assert ops.asked == ["open", "invoke", "close"]


def test_an_open_that_fails(ops: PhasedOps, running: Running) -> None:
    assert ops.opening is not None
    ops.opening.ret = TEE_ERROR_BUSY
    ops.opening.complete()
    running.check(TEE_ERROR_BUSY)
    assert ops.asked == ["open"]


def test_an_errno_of_the_function(ops: PhasedOps, running: Running) -> None:
    invoke = invoked(ops)
    invoke.error = errno.EFAULT
    invoke.complete()
    running.check(TEE_SUCCESS, errno.EFAULT)
    assert ops.asked[-1] == "close"


def test_cancelled_while_it_opens(ops: PhasedOps, running: Running) -> None:
    calls.cancel(running.ctx, 9, 0)
    assert ops.cancels == [(9, 0)]
    opened(ops)  # the service did not heed it
    running.check(TEE_ERROR_CANCEL)
    assert running.arg.ret_origin == TEE_ORIGIN_TEE
    assert ops.asked == ["open", "close"]


def test_cancelled_while_it_runs(ops: PhasedOps, running: Running) -> None:
    invoke = invoked(ops)
    calls.cancel(running.ctx, 8, 0)
    assert ops.cancels == [(8, 0)]
    calls.cancel(running.ctx, 9, 0)
    assert ops.cancels[1:] == [(9, 0), (9, invoke.session)]
    invoke.complete()
    running.check(TEE_SUCCESS)


def test_abandoned_while_it_opens(ops: PhasedOps, running: Running) -> None:
    running.arg.abandon()
    assert ops.opening is not None
    assert ops.opening.abandoned
    opened(ops)
    running.check(TEE_ERROR_CANCEL)
    assert ops.asked == ["open", "close"]


def test_abandoned_while_it_runs(ops: PhasedOps, running: Running) -> None:
    invoke = invoked(ops)
    asked: list[bool] = []
    invoke.cancel = lambda: asked.append(True)
    running.arg.abandon()
    assert invoke.abandoned
    assert asked == [True]
    invoke.complete()
    running.check(TEE_SUCCESS)


@pytest.mark.parametrize("phase", [opened, invoked])
def test_the_context_closes(
    ops: PhasedOps, running: Running, phase: Callable[[PhasedOps], Any]
) -> None:
    call = phase(ops) if phase is invoked else None
    teedev_close_context(running.ctx)
    if call is None:
        opened(ops)
        running.check(TEE_SUCCESS, errno.EBADF)
    else:
        call.complete()
        running.check(TEE_SUCCESS)
    assert ops.asked.count("close") == 1


def test_the_context_waits_for_the_whole_task(ops: PhasedOps, running: Running) -> None:
    idle: list[bool] = []
    assert running.ctx.wait_idle(lambda: idle.append(True))
    invoke = invoked(ops)
    assert not idle
    invoke.complete()
    assert idle == [True]


def test_a_blocking_driver() -> None:
    threads = set()

    class BlockingOps(MinimalOps):
        blocking = True

        def open_session(self, *_: object) -> None:
            threads.add(threading.current_thread())

        def invoke_func(self, *_: object) -> None:
            threads.add(threading.current_thread())
            raise TeeError(TEE_ERROR_BUSY)

        def close_session(self, *_: object) -> None:
            pass

    running = Running(BlockingOps())
    wait_until(lambda: running.done and not running.ctx.pending, "the end of the task")
    running.check(TEE_ERROR_BUSY)
    assert threading.main_thread() not in threads
