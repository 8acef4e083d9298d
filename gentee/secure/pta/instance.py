# SPDX-License-Identifier: BSD-2-Clause
"""A pseudo TA where a call has an instance of a service: the same commands, without a process.

Calls wait in *lanes*: one for each session, or one for all of a pseudo TA that serves nobody at the
same time (no TA_FLAG_CONCURRENT; OP-TEE core/kernel/tee_ta_manager.c, tee_ta_try_set_busy()). A
thread works a lane until it is empty, or until a command's result comes :class:`later
<gentee.secure.pta.pseudo_ta.Later>`. The threads are a pool of their own, so calls that are long
leave the TEE's others to the TEE.

Memory of a client that must be copied may never answer. So it is brought before a call is in its
lane, and taken back when the call has left it, by threads of which others do without.
"""

import threading
from collections import deque
from collections.abc import Callable
from errno import EFAULT

from gentee.abi import ta_channel as ch
from gentee.abi.gp import (
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_CANCEL,
    TEE_ERROR_GENERIC,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_SUCCESS,
)
from gentee.abi.optee_pta import PTA_ALLOWED_FLAGS, PTA_MANDATORY_FLAGS
from gentee.abi.optee_ta import TA_FLAG_CONCURRENT
from gentee.core.shm import TEE_SHM_PROTECTED
from gentee.core.workers import Workers
from gentee.errors import TeeError
from gentee.secure.commands import CallCommand, Command, InvokeCommand, OpenCommand
from gentee.secure.nested import NestedCall
from gentee.secure.pta.memory import CallParams
from gentee.secure.pta.pseudo_ta import Later, PseudoTa, PtaSession
from gentee.secure.service import parse_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.calls import CallArg
    from gentee.core.host import Host

_MAX_THREADS = 16
# Bytes of clients' memory that are brought at a time, and of one call for which there is room.
_MAX_BROUGHT = 256 << 20
_FEW_BYTES = 64 << 10

WORKERS = Workers(_MAX_THREADS)
_COPIERS = Workers(128)

_BUG = TeeError(TEE_ERROR_GENERIC, TEE_ORIGIN_TEE, "a bug of a pseudo TA")


class PtaService:
    """What of a pseudo TA stands where a call has a service."""

    single_instance = True
    multi_session = True
    keep_alive = True
    keep_crashed = False
    is_elf = False

    def __init__(self, uuid: bytes, name: str) -> None:
        self.uuid = uuid
        self.name = name


class _Lane:
    """Commands that come one after the other."""

    __slots__ = ("is_worked", "queue")

    def __init__(self) -> None:
        self.queue: deque[Command] = deque()
        self.is_worked = False


class _Call:
    """A call under way: ``session`` is the one that it is made in, ``opening`` the one it opens."""

    __slots__ = ("command", "is_broken", "opening", "params", "session")

    def __init__(
        self, command: CallCommand, params: CallParams, session: PtaSession | None
    ) -> None:
        self.command = command
        self.params = params
        self.session = session
        self.opening: PtaSession | None = None
        self.is_broken = False  # nothing of its outputs goes back


class PseudoInstance:
    """The one instance of a pseudo TA in a TEE.

    :raises ValueError: it has no UUID or name, or flags that a pseudo TA cannot have.
    """

    # Of gentee.secure.nested: a pseudo TA waits for no other TA.
    nested: None = None

    def __init__(self, host: "Host", pta: PseudoTa) -> None:
        if not pta.name:
            raise ValueError("a pseudo TA without a name")
        if pta.flags & PTA_MANDATORY_FLAGS != PTA_MANDATORY_FLAGS or pta.flags & ~PTA_ALLOWED_FLAGS:
            raise ValueError(f"{pta.name}: flags {pta.flags:#x} cannot be those of a pseudo TA")
        self.service = PtaService(parse_uuid(pta.uuid), pta.name)
        self.pta = pta
        self.sessions: set[int] = set()  # numbers, of gentee.secure.tee
        self._host = host
        # Protects the lanes, who is in which, and what comes later.
        self._lock = threading.Lock()
        self._lane = None if pta.flags & TA_FLAG_CONCURRENT else _Lane()
        self._lanes: dict[int, _Lane] = {}
        self._later: dict[CallCommand, Later] = {}
        self._bringing: dict[CallCommand, bool] = {}  # whether it is to be taken back
        self._brought: dict[CallCommand, CallParams] = {}  # of commands in lanes
        self._brought_bytes = 0  # of calls that are not over
        # Protects the sessions, and whether the pseudo TA was created.
        self._life = threading.Lock()
        self._open: dict[int, PtaSession] = {}
        self._opening = 0
        self._created = False

    def predecessor(self) -> None:
        """It waits for nobody's end."""

    def session_refused(self, session: int) -> None:
        """A session was not opened after all."""
        self.sessions.discard(session)
        with self._lock:
            self._lanes.pop(session, None)

    # Commands come.

    def submit(self, command: Command) -> None:
        """Do ``command`` in another thread, after those before it. Any thread."""
        if isinstance(command, CallCommand) and _is_foreign(command):
            text = "pseudo TAs have no secure data path with clients"
            command.failed(self, TeeError(TEE_ERROR_BAD_PARAMETERS, TEE_ORIGIN_TEE, text))
        elif isinstance(command, CallCommand) and _is_copied(command):
            self._begin_to_bring(command)
        else:
            self._enqueue(command)

    def _enqueue(self, command: Command) -> None:
        with self._lock:
            lane = self._lane_of(command.session)
            lane.queue.append(command)
            if lane.is_worked:
                return
            lane.is_worked = True
        self._start(lane)

    def _lane_of(self, session: int) -> _Lane:
        if self._lane is not None:
            return self._lane
        return self._lanes.setdefault(session, _Lane())

    def _start(self, lane: _Lane) -> None:
        try:
            WORKERS.submit(lambda: self._work(lane))
        except OSError as error:  # no thread can be had
            with self._lock:
                commands = list(lane.queue)
                lane.queue.clear()
                lane.is_worked = False
            for command in commands:
                if isinstance(command, CallCommand):
                    self._fail(command, error)
                else:
                    self._close(command.session)

    def _begin_to_bring(self, command: CallCommand) -> None:
        size = command.bulk()
        with self._lock:
            is_full = size > _FEW_BYTES and 0 < self._brought_bytes > _MAX_BROUGHT - size
            if not is_full:
                self._brought_bytes += size
                self._bringing[command] = False
        if is_full:
            error = TeeError(TEE_ERROR_OUT_OF_MEMORY, TEE_ORIGIN_TEE, "too much memory to copy")
            command.failed(self, error)
        else:
            _in(_COPIERS, lambda: self._bring(command))

    def _bring(self, command: CallCommand) -> None:
        """Copy what the call refers to, and let it wait for its turn."""
        error: OSError | TeeError | None = None
        params: CallParams | None = None
        try:
            params = CallParams(command.arg.params, command.layout)
        except OSError as failure:
            error = failure
        except Exception as bug:
            self._host.bug(bug)
            error = _BUG
        with self._lock:
            if self._bringing.pop(command) and error is None:
                error = TeeError(TEE_ERROR_CANCEL, TEE_ORIGIN_TEE)
            if params is not None:
                self._brought[command] = params
        if error is None:
            self._enqueue(command)
        else:
            self._fail(command, error)

    def _fail(self, command: CallCommand, error: OSError | TeeError) -> None:
        """It is over, and was never entered."""
        with self._lock:
            params = self._brought.pop(command, None)
        self._over(command, params)
        command.failed(self, error)

    def _over(self, command: CallCommand, params: CallParams | None) -> None:
        """What was brought for a command is not needed any more."""
        if params is not None:
            params.release()
        if _is_copied(command):
            with self._lock:
                self._brought_bytes -= command.bulk()

    def cancel(self, command: CallCommand, *, take_back: bool = True) -> None:
        """Somebody asks to end ``command`` early. Any thread.

        One that waits for its turn is taken back. One under way goes on, as pseudo TAs of OP-TEE
        do, unless nobody is left who waits for it, or its result comes later and it says so.
        """
        with self._lock:
            command.cancelled = True
            lane = self._lane if self._lane is not None else self._lanes.get(command.session)
            queued = lane is not None and command in lane.queue
            if queued and lane is not None and take_back:
                lane.queue.remove(command)
            later = self._later.get(command)
            if command in self._bringing and take_back:
                self._bringing[command] = True
        if queued:
            if take_back:
                self._fail(command, TeeError(TEE_ERROR_CANCEL, TEE_ORIGIN_TEE))
            return
        cancel = later.cancel if later is not None else None  # looked at once: it goes when done
        if later is None or cancel is None:
            return
        if later.ends_early or not _is_wanted(command.arg):
            try:
                cancel()
            except Exception as bug:  # ours; the result is still to come
                self._host.bug(bug)

    # And are done, in threads of the pool.

    def _work(self, lane: _Lane) -> None:
        while True:
            with self._lock:
                if not lane.queue:
                    lane.is_worked = False
                    return
                command = lane.queue.popleft()
            try:
                if not self._do(command, lane):
                    return
            except Exception as bug:  # ours; the rest of the lane is not to wait for ever
                self._host.bug(bug)

    def _do(self, command: Command, lane: _Lane) -> bool:
        """Do ``command``; False if its result comes later, and the rest of the lane after it."""
        if not isinstance(command, CallCommand):
            if command.op == ch.TA_CLOSE_SESSION:
                self._close(command.session)
            return True
        opened = self._open.get(command.session)
        if opened is None and not isinstance(command, OpenCommand):
            # Closed while this call was on its way.
            self.session_refused(command.session)
            with self._lock:
                given = self._brought.pop(command, None)
            self._over(command, given)
            command.answer(self, TEE_ERROR_BAD_PARAMETERS, TEE_ORIGIN_TEE)
            return True
        try:
            with self._lock:
                given = self._brought.pop(command, None)
            params = given or CallParams(command.arg.params, command.layout)
        except OSError as error:
            command.failed(self, error)
            return True
        except Exception as bug:
            self._host.bug(bug)
            command.failed(self, _BUG)
            return True
        call = _Call(command, params, None if isinstance(command, OpenCommand) else opened)
        try:
            later = self._enter(call)
        except TeeError as error:
            self._finish(call, error)
            return True
        except BaseException as bug:  # ours, and it costs this call only
            self._host.bug(bug)
            call.is_broken = True
            self._finish(call, _BUG)
            return True
        if later is None:
            self._finish(call, None)
            return True
        with self._lock:
            self._later[command] = later
        later.when_done(lambda error: self._came(call, error, lane))
        # Who gave up before that found nothing to cancel.
        if command.cancelled:
            self.cancel(command)
        return False

    def _enter(self, call: "_Call") -> Later | None:
        later = self._entry_point(call)
        if later is not None and not isinstance(later, Later):
            raise TypeError(f"{self.service.name} returned {later!r}")
        return later

    def _entry_point(self, call: "_Call") -> Later | None:
        command, params = call.command, call.params
        if call.session is not None:
            assert isinstance(command, InvokeCommand)
            func = command.arg.func
            return self.pta.invoke_command(call.session, func, params.types, params.params)
        assert isinstance(command, OpenCommand)
        arg = command.arg
        caller = arg.request.instance if isinstance(arg, NestedCall) else None
        session = PtaSession(command.session, (arg.clnt_login, arg.clnt_uuid), caller)
        call.opening = session
        with self._life:
            self._opening += 1
            if not self._created:
                self.pta.create()
                self._created = True
        return self.pta.open_session(session, params.types, params.params)

    def _came(self, call: "_Call", error: TeeError | None, lane: _Lane) -> None:
        """Any thread, also one that must not wait: the result is there."""

        def go_on() -> None:
            try:
                self._finish(call, error)
            except Exception as bug:  # ours
                self._host.bug(bug)
            self._work(lane)

        with self._lock:
            self._later.pop(call.command, None)
        _in(WORKERS, go_on)

    def _finish(self, call: "_Call", error: TeeError | None) -> None:
        """The entry point is done."""
        command = call.command
        if not call.is_broken:
            try:
                call.params.put()
            except Exception as bug:  # an output that is no number
                self._host.bug(bug)
                error, call.is_broken = _BUG, True
        if call.opening is not None:
            self._opened(call.opening, error is None)
        if call.is_broken or not call.params.has_copies:
            self._answer(call, error)
        elif _is_copied(command):
            _in(_COPIERS, lambda: self._take_back(call, error))
        else:
            self._take_back(call, error)

    def _take_back(self, call: "_Call", error: TeeError | None) -> None:
        """Copy the outputs, and answer."""
        try:
            call.params.copy_out()
        except OSError as failure:
            call.command.arg.error = failure.errno or EFAULT
        except Exception as bug:
            self._host.bug(bug)
            error = _BUG
        self._answer(call, error)

    def _answer(self, call: "_Call", error: TeeError | None) -> None:
        command = call.command
        self._over(command, call.params)
        if error is None:
            command.answer(self, TEE_SUCCESS, TEE_ORIGIN_TRUSTED_APP)
        else:
            origin = error.origin if error.origin is not None else TEE_ORIGIN_TRUSTED_APP
            command.answer(self, error.code, origin)

    # Sessions.

    def _opened(self, session: PtaSession, is_open: bool) -> None:
        with self._life:
            self._opening -= 1
            if is_open:
                self._open[session.id] = session
            self._destroy_unused()

    def _close(self, number: int) -> None:
        with self._lock:
            self._lanes.pop(number, None)
        session = self._open.get(number)
        if session is None:
            return
        try:
            self.pta.close_session(session)
        finally:
            with self._life:
                del self._open[number]
                self._destroy_unused()

    def _destroy_unused(self) -> None:
        """With ``_life`` held."""
        if self._created and not self._open and not self._opening:
            self._created = False
            try:
                self.pta.destroy()
            except Exception as bug:  # ours, and nobody waits for it
                self._host.bug(bug)


def _is_wanted(arg: "CallArg | NestedCall") -> bool:
    """Whether who made the call is still there to take its result."""
    if isinstance(arg, NestedCall):
        return not arg.request.instance.nested_over
    return not arg.abandoned


def _is_copied(command: CallCommand) -> bool:
    """Whether it refers to memory of a client that is copied; that of a service always answers."""
    return command.layout is not None and not isinstance(command.arg, NestedCall)


def _is_foreign(command: CallCommand) -> bool:
    """Whether a client passes memory of a secure data path, which OP-TEE's core has not mapped.

    A TA that has it can pass it on: core/kernel/pseudo_ta.c, copy_in_param().
    """
    arg = command.arg
    return not isinstance(arg, NestedCall) and any(
        param.shm is not None and param.shm.flags & TEE_SHM_PROTECTED for param in arg.params
    )


def _in(workers: Workers, job: Callable[[], None]) -> None:
    try:
        workers.submit(job)
    except OSError:  # no thread can be had
        job()


__all__ = ["PseudoInstance"]
