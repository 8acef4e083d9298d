# SPDX-License-Identifier: BSD-2-Clause
"""An instance of a trusted service: a process, its mailbox, and one command at a time.

::

    born ──hello──> starting ──created──> idle <──> busy
                        └──────────── dead ───────────┘

While an instance is idle its process is parked in a trapped call, under a notification id. A
command goes out by answering that call, and comes back as the process's next trapped call, in the
receiving thread. Nothing here waits.

Beside it are its process from birth to end (:mod:`gentee.secure.process`), what that has mapped
(:mod:`gentee.secure.instance_memory`) and what its service waits for (:mod:`gentee.secure.waits`).
Those know no instance: see :class:`gentee.secure.process.ServiceProcess`.
"""

import errno
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_ERROR_CANCEL, TEE_ERROR_GENERIC, TEE_ORIGIN_TEE
from gentee.core.host import Host
from gentee.core.shm import TeeShm
from gentee.core.workers import WORKERS
from gentee.errors import TeeError
from gentee.linux.buffers import address_of
from gentee.linux.futex import futex_wake
from gentee.secure.commands import CallCommand, Command, CreateCommand, DestroyCommand
from gentee.secure.instance_memory import InstanceMemory
from gentee.secure.process import ServiceProcess
from gentee.secure.service import Service
from gentee.secure.waits import Waits
from gentee.secure.warm_parent import ProcessParent
from gentee.secure.window import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.linux.notify import Notifier
    from gentee.secure.instance_owner import InstanceOwner
    from gentee.secure.nested import CallWindow, NestedCall
    from gentee.secure.storage.handles import Owner
    from gentee.secure.tee import ServiceSession

# More bytes than this are copied by a thread of their own: the receiving thread serves everybody.
_COPY_INLINE = 256 << 10

# Whether the process rests: waits for a word of its mailbox and not in a trapped call.
AWAKE, RESTING, WOKEN = range(3)


def _elsewhere(job: Callable[[], None]) -> None:
    """Do in another thread what answers a client: its memory may not answer, and the events thread
    is not replaced when it is stuck, as a receiving one is.
    """
    try:
        WORKERS.submit(job)
    except OSError:  # no thread can be had
        job()


class Instance:
    """One instance.

    :param owner: is told, once and in the events thread, when its process is gone.
    :param after: an instance that must have ended before this one starts, where a service has at
        most one at a time.
    :param depth: of the call that it is made for (:mod:`gentee.secure.nested`).
    :param memory_limit: MiB of private memory.
    :param create: how it is created, if not in the usual way.
    """

    def __init__(
        self,
        host: Host,
        warm_parent: ProcessParent,
        service: Service,
        source: bytes,
        owner: "InstanceOwner",
        after: "Instance | None" = None,
        depth: int = 1,
        memory_limit: int = 64,
        create: CreateCommand | None = None,
    ) -> None:
        self.service = service
        self.source = source
        self.memory_limit = memory_limit
        self.sessions: set[int] = set()
        self.window = Window()
        self.memory = InstanceMemory(warm_parent.notifier)
        self._unmaps = self.memory.unmaps  # the same list: each command looks at it
        self.waits = Waits(host, warm_parent.notifier)
        self.dead = False
        self.is_ready = False  # it was created
        self.create_error = self.create_origin = 0
        # Of gentee.secure.nested, whose lock protects them.
        self.call_window: CallWindow | None = None
        self.nested: NestedCall | None = None  # what its service waits for
        self.nested_sessions: dict[int, ServiceSession] = {}
        self.call_window_bytes = 0  # of all that its service got
        self.binary_bytes = 0  # of gentee.secure.binaries: the same
        self.binaries: list[Service] = []  # libraries that its TA was given
        self.uses_storage = False
        self.storage: Owner | None = None  # what it has open, of gentee.secure.storage
        self.awaited: Instance | None = None  # whose end a request of it waits for
        self.ending = False  # it is asked to end
        self.last_nested_session = 0
        self.nested_over = False
        self._first_depth = depth
        self._after = after
        self._requesting = False
        self._successors: list[Callable[[], None]] = []
        self._host = host
        self._owner = owner
        self._tid = 0
        # Protects _current, _queue, _idle and dead.
        self._lock = threading.Lock()
        self._current: Command | None = create or CreateCommand(depth)
        self._queue: deque[Command] = deque()
        self._idle = False  # parked, and free for a command
        self._started = False
        self.touched = False  # it was used; for gentee.secure.parking
        self._rest = AWAKE
        self.parked = 0  # the notification that the next answer goes to
        crashed = partial(owner.crashed, service) if service.is_elf else None
        self._process = ServiceProcess(host, warm_parent, service.name, crashed)
        self.mailbox = self._process.mailbox
        self.words = self._process.words
        self._resting = address_of(self.words) + 8 * ch.M_RESTING
        self._notifier: Notifier = warm_parent.notifier
        if after is None or not after.start_after(self._spawn):
            self._spawn()

    # The process comes to life.

    def start_after(self, start: Callable[[], None]) -> bool:
        """Call ``start`` when this instance has ended; False if it has already."""
        with self._lock:
            if not self.dead:
                self._successors.append(start)
            return not self.dead

    def _spawn(self) -> None:
        self._after = None
        self._process.spawn(self._introduced, self._trapped, self._die)

    def _introduced(self, tid: int) -> None:
        """Any thread: the process is there, and ``tid`` is who is woken by an answer."""
        self._tid = tid

    @property
    def pid(self) -> int:
        """Of its process; 0 as long as it is not known."""
        return self._process.pid

    # Commands go out and come back.

    def submit(self, command: Command) -> None:
        """Give ``command``, now or when those before it are done. Any thread."""
        with self._lock:
            dead = self.dead
            ready = self._idle and not dead
            if ready:
                self._idle = False
                self._current = command
                self.touched = True
            elif not dead:
                self._queue.append(command)
                if self._rest == RESTING:
                    self._rest = WOKEN
                    self.words[ch.M_RESTING] = 0
                    futex_wake(self._resting)
        if ready:
            self._dispatch(command)
        elif dead:
            command.died(self)

    def _dispatch(self, command: Command, may_wait: bool = True) -> None:
        """The process is parked, and ``command`` is the current one.

        :param may_wait: False in the events thread, which nobody replaces when it is stuck in
            memory of a client that does not answer.
        """
        if command.bulk() > _COPY_INLINE or not (may_wait or command.layout is None):
            _elsewhere(lambda: self._write_and_go(command))
        else:
            self._write_and_go(command)

    def _write_and_go(self, command: Command) -> None:
        while True:
            try:
                op = command.write(self)
                if self._unmaps:
                    self.memory.write_unmaps(self.words)
            except (OSError, TeeError) as error:
                if not self._claim(command):
                    return
                command.failed(self, error)
                following = self._next()
                if following is None:
                    return
                if following.layout is not None:
                    self._dispatch(following, may_wait=False)
                    return
                command = following
            except Exception as bug:  # ours, and it costs this command only
                self._host.bug(bug)
                if not self._claim(command):
                    return
                command.failed(self, TeeError(TEE_ERROR_GENERIC, TEE_ORIGIN_TEE))
                following = self._next()
                if following is not None:
                    self._dispatch(following, may_wait=False)
                return
            else:
                # False: it was killed while parked. Its end follows, and takes the command along.
                self._notifier.wake_ups.begin(self._tid)
                if not self._notifier.answer(self.parked, op):
                    self._notifier.wake_ups.end(self._tid)
                return

    def _claim(self, command: Command) -> bool:
        """Whether ``command`` is still the current one; then it is the caller's to finish."""
        with self._lock:
            mine = self._current is command
            if mine:
                self._current = None
            return mine

    def _next(self) -> Command | None:
        """The process is parked and nothing is current: take the next command, or be idle."""
        with self._lock:
            following = self._queue.popleft() if self._queue else None
            self._current = following
            self._idle = following is None
            return following

    def _trapped(self, notify_id: int, request: int, argument: int) -> None:
        """Receiving thread: the process made a trapped call."""
        if request == ch.TA_IOC_NEXT:
            self._came_back(notify_id)
        elif request == ch.TA_IOC_WAIT:
            self._wait(notify_id, argument)
        elif request == ch.TA_IOC_REQUEST:
            self._request(notify_id, argument)
        else:
            self._notifier.answer(notify_id, 0, errno.EINVAL)

    def _came_back(self, notify_id: int) -> None:
        command = self._current
        if command is None:
            if self._rest:
                self._rested(notify_id)
                return
            with self._lock:
                if self._idle:  # a signal interrupted it (before Linux 5.19), and it asks anew
                    self.parked = notify_id
            return  # else its end is known already: the notification is void
        if not self._started:
            # Its first one: nothing was done yet.
            self._started = True
            self.parked = notify_id
            self._owner.instance_parked(self)
            if isinstance(command, CreateCommand) and command.is_forked:
                self._finish(notify_id, command)  # there is nothing to do
            else:
                self._dispatch(command)
        elif self.words[ch.M_FLAGS] & ch.R_LOGGED:
            # Its lines go to the terminal before the client goes on. Never in this thread.
            self.words[ch.M_FLAGS] &= ~ch.R_LOGGED
            self._host.events.call_soon(lambda: self._finish_logged(notify_id, command))
        elif command.bulk() > _COPY_INLINE:
            _elsewhere(lambda: self._finish(notify_id, command))
        else:
            self._finish(notify_id, command)

    def rest(self) -> bool:
        """Let an idle instance's process wait outside of a trapped call; False if it is at work."""
        with self._lock:
            if not self._idle:
                return False
            self._idle = False
            self._rest = RESTING
            self.words[ch.M_RESTING] = 1
        # Who has a command for it from here on wakes it, even before it has begun to rest.
        self._notifier.answer(self.parked, ch.TA_REST)
        return True

    def _rested(self, notify_id: int) -> None:
        """Receiving thread: the process is back."""
        with self._lock:
            woken, self._rest = self._rest == WOKEN, AWAKE
        if not woken:
            self.kill()  # nobody called it: its code is not ours any more
            return
        self.parked = notify_id
        self._owner.instance_parked(self)
        following = self._next()
        if following is not None:
            self._dispatch(following)

    def _finish_logged(self, notify_id: int, command: Command) -> None:
        self._process.drain_log()
        if isinstance(command, CallCommand):
            _elsewhere(lambda: self._finish(notify_id, command))
        else:
            self._finish(notify_id, command, may_wait=False)

    def _finish(self, notify_id: int, command: Command, may_wait: bool = True) -> None:
        if not self._claim(command):
            return  # it died meanwhile, and the command with it
        self.parked = notify_id
        try:
            command.done(self)
        finally:
            following = self._next()
            if following is not None:
                self._dispatch(following, may_wait)

    def forget_shm(self, shm: TeeShm) -> None:
        """``shm`` ended: the process drops its map, at once if it is idle, else when it is."""
        if self.memory.forget(shm):
            self.submit(Command(ch.TA_UNMAP))

    # Requests.

    def _request(self, notify_id: int, code: int) -> None:
        """Receiving thread: the service asks for something, with its command under way."""
        with self._lock:
            if self.dead:
                return
            broken = self._current is None or not self._started or self._requesting
            self._requesting = True
        if broken:
            self.kill()
        elif self.words[ch.M_FLAGS] & ch.R_LOGGED:
            # What it said comes before what another service says.
            self._host.events.call_soon(lambda: self._request_logged(notify_id, code))
        else:
            self._owner.request(self, notify_id, code)

    def _request_logged(self, notify_id: int, code: int) -> None:
        self._process.drain_log()
        self._owner.request(self, notify_id, code)

    def reply(self, notify_id: int, result: int, words: Iterable[tuple[int, int]]) -> None:
        """Answer a request: ``result``, and words of the block by their index. Any thread."""
        with self._lock:
            if self.dead:  # its number may be used again
                return
            mailbox = self.words
            for index, value in words:
                mailbox[index] = value
            mailbox[ch.Q_RET] = result
            self._requesting = False
            self._notifier.wake_ups.begin(self._tid)
            self._notifier.answer(notify_id, 0)

    def install_for(self, notify_id: int, fd: int) -> int:
        """Hand a descriptor to the service, which waits for a reply; its number there."""
        return self.memory.install(notify_id, fd)

    @property
    def depth(self) -> int:
        """How many calls are inside each other, with the one that is under way here."""
        command = self._current
        return command.depth if command is not None else 1

    @property
    def command_cancelled(self) -> bool:
        """Whether what is under way here was cancelled."""
        command = self._current
        return isinstance(command, CallCommand) and command.cancelled

    @property
    def current(self) -> Command | None:
        """The command that is under way, for a look from another thread.

        Also the one that a process was woken for: it may never come for it.
        """
        command = self._current
        if command is None and self._rest == WOKEN:
            with self._lock:
                command = self._queue[0] if self._queue else None
        return command

    def is_wanted(self) -> bool:
        """Whether anybody waits for what is under way or queued."""
        with self._lock:
            command = self._current
            if command is not None and command.is_wanted():
                return True
            return any(command.is_wanted() for command in self._queue)

    @property
    def is_free(self) -> bool:
        """Whether nothing is under way or queued: a command would be given at once."""
        with self._lock:
            return not self.dead and self._current is None and not self._queue

    def predecessor(self) -> "Instance | None":
        """The instance whose end this one waits for, before it starts or with a request."""
        after = self._after or self.awaited
        return after if after is not None and not after.dead else None

    # Cancellation and waiting.

    def cancel(self, command: CallCommand, *, take_back: bool = True) -> None:
        """The client asks to end ``command`` early (TEEC_RequestCancellation). Any thread.

        :param take_back: end it at once where it still waits for its turn.
        """
        with self._lock:
            # Also of one that was not given yet: a deadline can be over before.
            command.cancelled = True
            queued = command in self._queue
            if queued and not take_back:
                return
            if queued:
                self._queue.remove(command)
            running = self._current is command
            if running:
                self.words[ch.M_CANCEL] = 1
        if queued:
            command.failed(self, TeeError(TEE_ERROR_CANCEL, TEE_ORIGIN_TEE))
        elif running:
            self._host.events.call_soon(lambda: self._cancel_wait(command))

    def _wait(self, notify_id: int, milliseconds: int) -> None:
        """Receiving thread: the service waits, with its command under way."""
        self.waits.begin(notify_id, self._tid, milliseconds)
        command = self._current
        if isinstance(command, CallCommand) and command.cancelled:
            self._host.events.call_soon(lambda: self._cancel_wait(command))

    def _cancel_wait(self, command: CallCommand) -> None:
        """Events thread: ``command`` is cancelled. What came after it waits as long as it likes."""
        if self._current is command:
            self.waits.end(1)
            nested = self.nested
            if nested is not None:
                nested.caller_cancelled()

    # Sessions, and the end.

    def created(self, result: int, origin: int) -> None:
        """The create entry point returned ``result``; unless it is success the instance ends."""
        if result:
            self.create_error, self.create_origin = result, origin
            with self._lock:
                self._queue.appendleft(DestroyCommand(self._first_depth))
        else:
            self.is_ready = True

    def noted(self) -> None:
        """Its TA is loaded, and what it runs is noted."""
        self._owner.instance_noted(self)

    def session_refused(self, session: int) -> None:
        """The session was not opened after all."""
        self.sessions.discard(session)
        self._owner.session_refused(self)

    def destroy(self) -> None:
        """The last session is closed: let the instance end by itself."""
        self.ending = True
        self.submit(DestroyCommand(self._first_depth))

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def _die(self) -> None:
        with self._lock:
            if self.dead:
                return
            self.dead = True
            commands = [self._current] if self._current is not None else []
            commands += self._queue
            self._current = None
            self._queue.clear()
        self._process.close()
        self.waits.close()
        for command in commands:
            _elsewhere(partial(command.died, self))
        # The window is left to the last reference: another thread may be using it.
        self.memory.close(self)
        self._owner.instance_ended(self)
        for start in self._successors:
            start()
