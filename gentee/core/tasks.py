# SPDX-License-Identifier: BSD-2-Clause
"""Tasks (TEE_IOC_TASK): open a session, invoke one function, close the session, in one call.

For clients that keep no state ("fire and forget", as the design thread says). A task is made of the
driver's own operations, so every driver with ``open_session``, ``invoke_func`` and
``close_session`` has it.

Some facts about its phases
===========================

- The task is among the context's pending calls from its begin to its end, so that neither a
  cancellation nor the end of its caller can fall between two phases. The call of the phase that
  runs is there as well, with the same owner.
- Each phase begins where the one before completes, in whatever thread that is. Nobody waits.
- The session is closed before the caller has its answer. So the caller's next task finds a service
  that has but one session free again.
- A request to cancel is remembered. If it did not end the open, the function is not begun.
"""

import errno

from gentee.abi.gp import TEE_ERROR_CANCEL, TEE_ORIGIN_TEE, TEE_SUCCESS
from gentee.core import calls
from gentee.core.context import TeeContext
from gentee.core.params import TeeParam

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.driver import TeeDriverOps

OPERATIONS = frozenset(("open_session", "invoke_func", "close_session"))


class TaskArg(calls.CallArg):
    """struct tee_ioctl_task_arg. ``clnt_uuid`` is the identity that was worked out.

    ``params`` are those of the function; the session is opened without any.
    """

    __slots__ = ("_call", "_cancelled", "clnt_login", "clnt_uuid", "func", "uuid")

    def __init__(
        self,
        ctx: TeeContext,
        uuid: bytes,
        clnt_uuid: bytes,
        clnt_login: int,
        func: int,
        cancel_id: int,
        params: list[TeeParam],
        done: calls.Done,
    ) -> None:
        super().__init__(ctx, calls.NO_SESSION, cancel_id, params, done)
        self.uuid = uuid
        self.clnt_uuid = clnt_uuid
        self.clnt_login = clnt_login
        self.func = func
        self._call: calls.CallArg | None = None  # of the phase that runs
        self._cancelled = False
        self.cancel = self._cancel

    def abandon(self) -> None:
        """Nobody waits for the answer any more: end the phase that runs, and begin no other."""
        self.abandoned = True
        # _next() sets the call before it looks at the mark: one of us sees the other.
        call = self._call
        if call is not None:
            call.abandon()

    def _cancel(self) -> None:
        """TEE_IOC_CANCEL. An open the driver was asked for already, as any other."""
        self._cancelled = True
        call = self._call
        if call is not None and call.session and call in self.ctx.pending:
            self.ctx.teedev.ops.cancel_req(self.ctx, self.cancel_id, call.session)

    def _next(self, call: calls.CallArg) -> bool:
        """Make ``call`` the phase that runs; False if none is wanted any more."""
        call.door, call.owner = self.door, self.owner
        self._call = call
        return not (self._cancelled or self.abandoned)

    def _opened(self, call: calls.OpenSessionArg) -> None:
        """The first phase is over."""
        self.ret, self.ret_origin, self.error = call.ret, call.ret_origin, call.error
        session = call.session
        if call.error or call.ret != TEE_SUCCESS:
            self.complete()
            return
        ctx = self.ctx
        invoke = calls.InvokeArg(
            ctx, self.func, session, self.cancel_id, self.params, self._invoked
        )
        if not self._next(invoke):
            self.ret, self.ret_origin = TEE_ERROR_CANCEL, TEE_ORIGIN_TEE
            self._close(session)
            return
        calls.invoke(ctx.teedev.ops, invoke)
        if self._cancelled and invoke in ctx.pending:
            # Asked for while the call was on its way to the driver, which may not have known it.
            try:
                ctx.teedev.ops.cancel_req(ctx, self.cancel_id, session)
            except OSError:  # it ended just now, or cannot be cancelled
                pass

    def _invoked(self, call: calls.InvokeArg) -> None:
        """The second phase is over."""
        self.ret, self.ret_origin, self.error = call.ret, call.ret_origin, call.error
        self._close(call.session)

    def _close(self, session: int) -> None:
        try:
            calls.close_session(self.ctx, session)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # The context was closed meanwhile, and the session with it.
        finally:
            self.complete()


def task(ops: "TeeDriverOps", arg: TaskArg) -> None:
    """TEE_IOC_TASK after all checks of the client's bytes."""
    ctx = arg.ctx
    ctx.pending.add(arg)
    if ctx.releasing:
        # As CallArg.run(): whoever closes the context may have missed this call.
        arg.error = errno.EBADF
        arg.complete()
        return
    first = calls.OpenSessionArg(
        ctx, arg.uuid, arg.clnt_uuid, arg.clnt_login, arg.cancel_id, [], arg._opened
    )
    arg._next(first)
    calls.open_session(ops, first)
