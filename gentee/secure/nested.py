# SPDX-License-Identifier: BSD-2-Clause
"""Calls between services: TEE_OpenTASession, TEE_InvokeTACommand, TEE_CloseTASession.

A caller asks by a request and stays parked; what it asked for becomes a command of the called
instance, with a :class:`NestedCall` where a client's call would be; the command's end answers the
request. Nothing waits, and to the called service it is a call like any other, but for its client's
identity: TEE_LOGIN_TRUSTED_APP and the caller's UUID (GP TEE Internal Core API 1.3.1 section 4.9).

Memory that the caller passes is in its *call window*, which the TEE has mapped too. The called
service sees a copy in its own window, as it does of registered memory of a client: so no service
has a page in common with another one, and none sees what was passed to a third.

As in OP-TEE (core/kernel/tee_ta_manager.c, user_ta.c): a call from a client is the first of at most
four that are inside each other; one that could only wait for itself is TEE_ERROR_BUSY.
"""

import errno
import mmap
import os
import threading

from gentee.abi import ta_channel as ch
from gentee.abi.gp import (
    TEE_LOGIN_TRUSTED_APP,
    TEE_NUM_PARAMS,
    TEE_ORIGIN_TEE,
    TEE_PARAM_TYPE_GET,
    TEE_PARAM_TYPE_MEMREF_INOUT,
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_MEMREF_OUTPUT,
    TEE_PARAM_TYPE_NONE,
    TEE_PARAM_TYPE_VALUE_INOUT,
    TEE_PARAM_TYPE_VALUE_OUTPUT,
    TEE_SUCCESS,
)
from gentee.core.params import TeeParam
from gentee.core.shm import TEE_SHM_PROTECTED, TEE_SHM_SECURE, Backing, TeeShm
from gentee.core.workers import WORKERS
from gentee.errors import BadParameters, Busy, CommunicationError, OutOfMemory, TeeError
from gentee.linux.shm import create_shm
from gentee.secure.commands import Command, InvokeCommand, OpenCommand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.host import Host
    from gentee.linux.events import Timer
    from gentee.secure.instance import Instance
    from gentee.secure.pta.instance import PseudoInstance
    from gentee.secure.requests import Request
    from gentee.secure.tee import ServiceSession, SoftTee

MAX_RECURSION = 4  # CFG_CORE_MAX_SYSCALL_RECURSION, which counts the call from outside
MAX_SESSIONS = 256  # of one instance with others at a time; each may be a process
_TIMEOUT_INFINITE = 0xFFFF_FFFF
_SMALLEST_WINDOW = 1 << 16

_MEMREFS = (
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_MEMREF_OUTPUT,
    TEE_PARAM_TYPE_MEMREF_INOUT,
)


class CallWindow(Backing):
    """Memory that a service and the TEE map, and that carries what the service passes on."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.fd = create_shm(size, "tee_call_window")
        try:
            self._map = mmap.mmap(self.fd, size)  # it has a descriptor of its own
        except BaseException:
            self.close()
            raise
        self._view = memoryview(self._map)

    def copy_in(self, offset: int, view: memoryview) -> None:
        view[:] = self._view[offset : offset + len(view)]

    def copy_out(self, offset: int, view: memoryview) -> None:
        self._view[offset : offset + len(view)] = view

    def view(self, offset: int, size: int) -> memoryview:
        """Some of its bytes, which the service can change at any time."""
        return self._view[offset : offset + size]

    def close(self) -> None:
        """The service has the descriptor; the maps hold the pages."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def discard(self) -> None:
        """Nobody got it: what it takes is given back now, not when the collector comes by."""
        self.close()
        self._view.release()
        self._map.close()


class _WindowShm(TeeShm):
    """A call window where a call has a client's shared memory. No context counts it."""

    __slots__ = ()

    def __init__(self, window: CallWindow, flags: int) -> None:
        self.backing = window
        self.size = window.size
        self.fd = -1
        self.flags = flags


class NestedCall:
    """A call that a service makes; for commands it stands in a client's place (CallArg).

    ``depth`` is that of the called command: a call from a client has 1.
    """

    __slots__ = (
        "abandoned", "cancel", "clnt_login", "clnt_uuid", "command", "depth", "error", "func",
        "params", "priv", "request", "ret", "ret_origin", "target", "timer", "unmasked", "_calls",
    )  # fmt: skip

    def __init__(
        self, calls: "NestedCalls", request: "Request", target: "ServiceSession", depth: int
    ) -> None:
        self._calls = calls
        self.request = request
        self.target = target
        self.depth = depth
        self.params: list[TeeParam] = []
        self.func = request.func
        self.clnt_login = TEE_LOGIN_TRUSTED_APP
        self.clnt_uuid = request.instance.service.uuid
        self.unmasked = request.unmasked
        self.ret = TEE_SUCCESS
        self.ret_origin = TEE_ORIGIN_TEE
        self.error = 0
        self.priv = None
        self.cancel = None  # of commands; a nested call is cancelled by its target
        self.abandoned = False
        self.command: NestedOpen | NestedInvoke | None = None
        self.timer: Timer | None = None

    def fail(self, error: TeeError) -> None:
        """Set result and origin from an exception."""
        self.ret = error.code
        self.ret_origin = error.origin if error.origin is not None else TEE_ORIGIN_TEE

    def complete(self) -> None:
        """The called command is done, or never will be. Once, from any thread."""
        self._calls.finish(self)

    def caller_cancelled(self) -> None:
        """The caller's own command is cancelled; unless masked, what it waits for is too.

        What a pseudo TA can end early it also does where the client is gone: nobody would ever hear
        of it, and what it waits for may never come.
        """
        if self.unmasked:
            self.end_early()
            return
        current = self.request.instance.current
        command = self.command
        if command is not None and self.target.is_pseudo and not (current and current.is_wanted()):
            self.target.instance.cancel(command, take_back=False)

    def end_early(self) -> None:
        """Take it back if it still waits for its turn, else set its cancellation flag."""
        command = self.command  # looked at once: it goes when the call is done
        if command is not None:
            self.target.instance.cancel(command)

    def deadline(self) -> None:
        """Its time is up: the flag is set, also for a call that still waits for its turn."""
        command = self.command
        if command is not None:
            self.target.instance.cancel(command, take_back=False)


class NestedOpen(OpenCommand):
    """TA_OpenSessionEntryPoint for another service."""

    __slots__ = ("depth",)


class NestedInvoke(InvokeCommand):
    """TA_InvokeCommandEntryPoint for another service."""

    __slots__ = ("depth",)


class NestedClose(Command):
    """TA_CloseSessionEntryPoint for another service."""

    __slots__ = ("depth",)

    def __init__(self, session: int, depth: int) -> None:
        super().__init__(ch.TA_CLOSE_SESSION, session)
        self.depth = depth


class NestedCalls:
    """All calls between the services of one TEE."""

    def __init__(self, tee: "SoftTee", host: "Host") -> None:
        self._tee = tee
        self._host = host
        # Protects who waits for whom (Instance.nested), the nested sessions of all instances, and
        # whether an instance still can have any (Instance.nested_over).
        self._lock = threading.Lock()

    # Requests, in the receiving thread.

    def call_window(self, request: "Request") -> None:
        """Give the caller a window of at least as many bytes as it asks for, in place of its old.

        :raises OutOfMemory: more than MAX_CALL_WINDOW, or there are none.
        """
        caller, size = request.instance, request.func
        if size > ch.MAX_CALL_WINDOW:
            raise OutOfMemory(f"more than {ch.MAX_CALL_WINDOW} bytes in one call")
        size = max(_SMALLEST_WINDOW, 1 << (size - 1).bit_length())
        # It may keep each one, and such pages are not counted as its own. Who asks for a larger one
        # only, and each twice the size of the one before, never gets to this limit.
        if caller.call_window_bytes + size > 2 * ch.MAX_CALL_WINDOW:
            raise OutOfMemory("more call windows than a service can need")
        try:
            window = CallWindow(size)
            try:
                number = caller.install_for(request.notify_id, window.fd)
            except BaseException:
                window.discard()
                raise
            window.close()
        except OSError as error:
            raise OutOfMemory(f"call window: {error}") from error
        caller.call_window = window
        caller.call_window_bytes += size
        request.reply(TEE_SUCCESS, (ch.Q_FUNC, number), (ch.Q_SIZE, size))

    def open(self, request: "Request") -> None:
        """TEE_OpenTASession."""
        if self._tee.store.known(request.uuid) is None:
            # Files are to be read, perhaps verified: nothing for the receiving thread.
            WORKERS.submit(lambda: request.run(self._open))
        else:
            self._open(request)

    def _open(self, request: "Request") -> None:
        params = _params(request)
        depth = self._depth(request.instance, is_pseudo=request.uuid in self._tee.pseudo_tas)
        if len(request.instance.nested_sessions) >= MAX_SESSIONS:
            raise OutOfMemory(f"more than {MAX_SESSIONS} sessions of one instance with others")
        try:
            session = self._tee.new_session(request.uuid, depth)
        except OSError as error:
            raise _code_of(error.errno) from error
        call = NestedCall(self, request, session, depth)
        call.params = params
        command = NestedOpen(ch.TA_OPEN_SESSION, session.instance, session.id, call)
        command.depth = depth
        try:
            self._begin(call, command)
        except TeeError:
            session.instance.session_refused(session.id)
            raise

    def invoke(self, request: "Request") -> None:
        """TEE_InvokeTACommand."""
        caller = request.instance
        with self._lock:
            session = caller.nested_sessions.get(request.session)
        if session is None:
            raise BadParameters("no session of this service")
        params = _params(request)
        depth = self._depth(caller, is_pseudo=session.is_pseudo)
        call = NestedCall(self, request, session, depth)
        call.params = params
        command = NestedInvoke(ch.TA_INVOKE, session.instance, session.id, call)
        command.depth = depth
        self._begin(call, command)

    def close(self, request: "Request") -> None:
        """TEE_CloseTASession."""
        caller = request.instance
        with self._lock:
            session = caller.nested_sessions.pop(request.session, None)
        if session is None:
            raise BadParameters("no session of this service")
        self._close(session, caller.depth + 1)
        request.reply(TEE_SUCCESS)

    def _depth(self, caller: "Instance", *, is_pseudo: bool) -> int:
        depth = caller.depth + 1
        # OP-TEE counts entries into user TAs: a pseudo TA can be called from the deepest.
        if depth > MAX_RECURSION and not is_pseudo:
            raise OutOfMemory(f"more than {MAX_RECURSION} calls inside each other")
        return depth

    def _begin(self, call: NestedCall, command: NestedOpen | NestedInvoke) -> None:
        caller, target = call.request.instance, call.target.instance
        call.command = command
        with self._lock:
            if self._waits_for(target, caller):
                raise Busy(f"{target.service.name} waits for {caller.service.name} itself")
            caller.nested = call
        timeout = call.request.timeout
        if timeout != _TIMEOUT_INFINITE:
            call.timer = self._host.events.call_later(timeout / 1000, call.deadline)
        target.submit(command)
        if caller.command_cancelled:  # before that: nobody else will pass it on
            call.caller_cancelled()
        if caller.nested_over:  # the same for its end
            call.end_early()

    def await_end(self, waiter: "Instance", other: "Instance") -> bool:
        """``waiter`` is to wait for another instance's end; False if that one waits for it."""
        with self._lock:
            possible = not self._waits_for(other, waiter)
            if possible:
                waiter.awaited = other
        return possible

    def _waits_for(self, one: "Instance | PseudoInstance | None", other: "Instance") -> bool:
        """Whether ``one`` goes on only after ``other`` does. The lock is held."""
        while one is not None and one is not other:
            nested = one.nested
            one = nested.target.instance if nested is not None else one.predecessor()
        return one is other

    # Answers, in any thread.

    def finish(self, call: NestedCall) -> None:
        """The call is done: answer its caller's request."""
        request, caller = call.request, call.request.instance
        timer = call.timer
        if timer is not None:
            timer.cancel()
        if call.error:
            call.fail(_code_of(call.error))
        opened = isinstance(call.command, NestedOpen) and call.ret == TEE_SUCCESS
        with self._lock:
            if caller.nested is call:
                caller.nested = None
            nobody = caller.nested_over
            number = 0
            if opened and not nobody:
                caller.last_nested_session += 1
                number = caller.last_nested_session
                caller.nested_sessions[number] = call.target
        # Call and command refer to each other: the collector of cycles need not find that out.
        call.command = None
        if nobody:
            if opened:
                self._close(call.target, call.depth)
            return
        results: list[tuple[int, int]] = []
        if opened:
            results = [(ch.Q_SESSION, number), (ch.Q_IS_PSEUDO, int(call.target.is_pseudo))]
        for index, param in enumerate(call.params):
            base = ch.Q_PARAMS + 3 * index
            if param.attr in (TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_VALUE_INOUT):
                results += [(base, param.a), (base + 1, param.b)]
            elif param.attr in (TEE_PARAM_TYPE_MEMREF_OUTPUT, TEE_PARAM_TYPE_MEMREF_INOUT):
                results.append((base + 1, param.b))
        request.reply(call.ret, (ch.Q_ORIGIN, call.ret_origin), *results)

    def instance_ended(self, instance: "Instance") -> None:
        """Events thread: what ``instance`` waited for is abandoned, its sessions are closed."""
        with self._lock:
            instance.nested_over = True
            call, instance.nested = instance.nested, None
            sessions = list(instance.nested_sessions.values())
            instance.nested_sessions.clear()
        if call is not None:
            call.end_early()
        for session in sessions:
            self._close(session, MAX_RECURSION)

    def _close(self, session: "ServiceSession", depth: int) -> None:
        self._tee.end_session(session, NestedClose(session.id, depth))


def _code_of(number: int | None) -> TeeError:
    """What a service gets where an ioctl of a client's would fail with an errno."""
    if number in (errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        return OutOfMemory(os.strerror(number))
    return CommunicationError(os.strerror(number or errno.EIO))


def _params(request: "Request") -> list[TeeParam]:
    """The parameters of a request, checked; none at all where all are NONE.

    :raises BadParameters: types that there are not, or memory outside the call window.
    """
    types = request.param_types
    if not types:
        return []
    if types >> 4 * TEE_NUM_PARAMS:
        raise BadParameters(f"parameter types {types:#x}")
    window = request.instance.call_window
    params: list[TeeParam] = []
    for index in range(TEE_NUM_PARAMS):
        kind = TEE_PARAM_TYPE_GET(types, index)
        a, b, c = request.params[3 * index : 3 * index + 3]
        if kind in _MEMREFS:
            if not c:
                if b:
                    raise BadParameters("a NULL reference has no bytes")
                params.append(TeeParam(kind))
            elif window is None or a + b > window.size:
                raise BadParameters("memory outside the call window")
            else:
                params.append(TeeParam(kind, a, b, shm=_WindowShm(window, _flags(c))))
        elif kind in (TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_VALUE_OUTPUT):
            params.append(TeeParam(kind))
        elif kind <= TEE_PARAM_TYPE_VALUE_INOUT:
            params.append(TeeParam(kind, a & 0xFFFF_FFFF, b & 0xFFFF_FFFF))
        else:
            raise BadParameters(f"parameter types {types:#x}")
    return params


def _flags(word: int) -> int:
    """TEE_SHM_* of what a service passes on. It says so itself, and has seen the bytes anyway."""
    if word & ch.Q_PROTECTED:
        return TEE_SHM_PROTECTED
    return 0 if word & ch.Q_NORMAL else TEE_SHM_SECURE
