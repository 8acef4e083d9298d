# SPDX-License-Identifier: BSD-2-Clause
"""Calls into a TEE: their arguments, their completion, and the checks that all devices share.

A call is an object that lives from the client's ioctl to its answer. Its fields are those of the
ioctl's argument; ``done`` is whoever asked. The specific driver fills ``ret``, ``ret_origin`` and
the output parameters and lets :meth:`CallArg.complete` report it, at once or later.
"""

import errno
from collections.abc import Callable

from gentee.abi.gp import TEE_ERROR_OUT_OF_MEMORY, TEE_ORIGIN_TEE, TEE_SUCCESS
from gentee.core.context import TeeContext, TeeSession, end_session
from gentee.core.driver import PENDING, OpResult
from gentee.core.params import TeeParam
from gentee.core.workers import WORKERS, Workers
from gentee.errors import TeeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gentee.core.driver import TeeDriverOps

Done = Callable[["Any"], None]

# As the session of a call: none that a client can name. Such a call is made of others.
NO_SESSION = -1


class CallArg:
    """What every call has. ``error`` is an errno when the ioctl itself failed, else 0."""

    __slots__ = (
        "abandoned", "cancel", "cancel_id", "ctx", "done", "door", "error", "owner", "params",
        "priv", "ret", "ret_origin", "session",
    )  # fmt: skip

    def __init__(
        self, ctx: TeeContext, session: int, cancel_id: int, params: list[TeeParam], done: Done
    ) -> None:
        self.ctx = ctx
        self.session = session
        self.cancel_id = cancel_id
        self.params = params
        self.done = done
        self.ret = TEE_SUCCESS
        self.ret_origin = TEE_ORIGIN_TEE
        self.error = 0
        self.priv: Any = None  # the driver's: of the session for invoke, to be set for open
        self.door: Any = None  # the door's, to find its caller again
        self.owner: Any = None  # the process that called, as far as a door knows one
        self.cancel: Callable[[], None] | None = None  # the driver's: asked to end early
        self.abandoned = False  # nobody waits any more

    def fail(self, error: TeeError) -> None:
        """Set result and origin from an exception."""
        self.ret = error.code
        self.ret_origin = error.origin if error.origin is not None else TEE_ORIGIN_TEE

    def complete(self) -> None:
        """The call is done: tell whoever asked. Once, from any thread."""
        ctx = self.ctx
        ctx.pending.discard(self)
        self.done(self)
        if ctx.idle is not None:
            ctx.call_idle()

    def abandon(self) -> None:
        """Nobody waits for the answer any more: ask the driver to end the call early."""
        self.abandoned = True
        cancel = self.cancel  # looked at once: a call that ends meanwhile may take it away
        if cancel is not None:
            cancel()

    def run(self, operation: Callable[..., OpResult], *args: "Any") -> None:
        """Call a driver's operation and complete unless it is pending."""
        ctx = self.ctx
        ctx.pending.add(self)
        if ctx.releasing:
            # The last descriptor went while this call came. Whoever closes the context may have
            # gone through its pending calls before this one was among them.
            self.error = errno.EBADF
            self.complete()
            return
        if ctx.teedev.ops.blocking:
            self._submit(WORKERS, lambda: self._run(operation, *args))
        else:
            self._run(operation, *args)

    def run_in(self, workers: Workers, operation: Callable[[], OpResult]) -> None:
        """As :meth:`run`, in a thread of ``workers``: for what may wait in any driver."""
        self.ctx.pending.add(self)
        if self.ctx.releasing:
            self.error = errno.EBADF
            self.complete()
        else:
            self._submit(workers, lambda: self._run(operation))

    def _submit(self, workers: Workers, job: Callable[[], None]) -> None:
        try:
            workers.submit(job)
        except OSError as failure:  # no thread can be had
            self.error = failure.errno or errno.EIO
            self.complete()

    def _run(self, operation: Callable[..., OpResult], *args: "Any") -> None:
        try:
            if operation(*args) is PENDING:
                return
        except TeeError as failure:
            self.fail(failure)
        except OSError as failure:
            self.error = failure.errno or errno.EIO
        except Exception:
            self.error = errno.EIO
            self.complete()
            raise
        self.complete()


class OpenSessionArg(CallArg):
    """struct tee_ioctl_open_session_arg. ``clnt_uuid`` is the identity that was worked out."""

    __slots__ = ("clnt_login", "clnt_uuid", "uuid")

    def __init__(
        self,
        ctx: TeeContext,
        uuid: bytes,
        clnt_uuid: bytes,
        clnt_login: int,
        cancel_id: int,
        params: list[TeeParam],
        done: Done,
    ) -> None:
        super().__init__(ctx, 0, cancel_id, params, done)
        self.uuid = uuid
        self.clnt_uuid = clnt_uuid
        self.clnt_login = clnt_login

    def complete(self) -> None:
        ctx = self.ctx
        ctx.pending.discard(self)
        if self.ret == TEE_SUCCESS and not self.error:
            teedev = ctx.teedev
            session = TeeSession(ctx, teedev.session_ids.alloc(), self.uuid, self.priv)
            with teedev.mutex:
                if ctx.releasing:
                    self.error = errno.EBADF
                elif len(ctx.sessions) >= teedev.desc.max_sessions:
                    # Others were opened meanwhile.
                    self.ret, self.ret_origin = TEE_ERROR_OUT_OF_MEMORY, TEE_ORIGIN_TEE
                else:
                    ctx.sessions[session.id] = session
                    self.session = session.id
            if not self.session:
                end_session(ctx, session)
        self.done(self)
        if ctx.idle is not None:
            ctx.call_idle()


class InvokeArg(CallArg):
    """struct tee_ioctl_invoke_arg."""

    __slots__ = ("func",)

    def __init__(
        self,
        ctx: TeeContext,
        func: int,
        session: int,
        cancel_id: int,
        params: list[TeeParam],
        done: Done,
    ) -> None:
        super().__init__(ctx, session, cancel_id, params, done)
        self.func = func


class ObjectInvokeArg(CallArg):
    """struct tee_ioctl_object_invoke_arg. ``id`` fits 32 bits; ``ret`` is the object's."""

    __slots__ = ("id", "op")

    def __init__(
        self, ctx: TeeContext, object_id: int, op: int, params: list[TeeParam], done: Done
    ) -> None:
        super().__init__(ctx, 0, 0, params, done)
        self.id = object_id
        self.op = op


class SuppRecvArg(CallArg):
    """struct tee_iocl_supp_recv_arg: ``params`` as the supplicant offers, then as it receives."""

    __slots__ = ("func",)

    def __init__(self, ctx: TeeContext, params: list[TeeParam], done: Done) -> None:
        super().__init__(ctx, 0, 0, params, done)
        self.func = 0


def open_session(ops: "TeeDriverOps", arg: OpenSessionArg) -> None:
    """TEE_IOC_OPEN_SESSION after all checks of the client's bytes."""
    ctx = arg.ctx
    if len(ctx.sessions) >= ctx.teedev.desc.max_sessions:
        arg.ret = TEE_ERROR_OUT_OF_MEMORY
        arg.complete()
        return
    arg.run(ops.open_session, ctx, arg, arg.params)


def invoke(ops: "TeeDriverOps", arg: InvokeArg) -> None:
    """TEE_IOC_INVOKE after all checks of the client's bytes; EINVAL for an unknown session."""
    ctx = arg.ctx
    session = ctx.sessions.get(arg.session)
    if session is None:
        arg.error = errno.EINVAL
        arg.complete()
        return
    arg.priv = session.priv
    arg.run(ops.invoke_func, ctx, arg, arg.params)


def close_session(ctx: TeeContext, session_id: int) -> None:
    """TEE_IOC_CLOSE_SESSION; EINVAL for a session that is not this context's."""
    if "close_session" not in ctx.teedev.operations:
        raise OSError(errno.EINVAL, "close_session")
    with ctx.teedev.mutex:
        session = ctx.sessions.pop(session_id, None)
    if session is None:
        raise OSError(errno.EINVAL, "session")
    end_session(ctx, session)


def cancel(ctx: TeeContext, cancel_id: int, session_id: int) -> None:
    """TEE_IOC_CANCEL; EINVAL for an unknown session.

    ``session_id`` 0 means an open that is under way, or a task in whichever phase.
    """
    if session_id and session_id not in ctx.sessions:
        raise OSError(errno.EINVAL, "session")
    ctx.teedev.ops.cancel_req(ctx, cancel_id, session_id)
    if not session_id:
        for task in find_pending(ctx, cancel_id, NO_SESSION):
            if task.cancel is not None:
                task.cancel()


def find_pending(ctx: TeeContext, cancel_id: int, session_id: int) -> list[CallArg]:
    """The calls under way that a cancellation means; for drivers' ``cancel_req``."""
    return [
        arg
        for arg in tuple(ctx.pending)
        if arg.cancel_id == cancel_id and arg.session == session_id
    ]
