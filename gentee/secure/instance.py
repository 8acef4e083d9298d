# SPDX-License-Identifier: BSD-2-Clause
"""An instance of a trusted service: a process, its mailbox, and one command at a time.

::

    born ──hello──> starting ──created──> idle <──> busy
                        └──────────── dead ───────────┘

While an instance is idle its process is parked in a trapped call, under a notification id. A
command goes out by answering that call, and comes back as the process's next trapped call, in the
receiving thread. Nothing here waits.
"""

import errno
import mmap
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from gentee.abi import ta_channel as ch
from gentee.abi.gp import (
    TEE_ERROR_CANCEL,
    TEE_ERROR_GENERIC,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
)
from gentee.abi.linux_tee import (
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT,
)
from gentee.core.host import Host
from gentee.core.params import TeeParam
from gentee.core.shm import TeeShm
from gentee.core.workers import WORKERS
from gentee.errors import TargetDead, TeeError
from gentee.linux.buffers import address_of
from gentee.linux.events import Timer
from gentee.linux.futex import futex_wake
from gentee.linux.shm import create_shm, reopen
from gentee.secure.commands import CallCommand, Command
from gentee.secure.log import ServiceLog
from gentee.secure.store import Service
from gentee.secure.warm_parent import Birth, WarmParent
from gentee.secure.window import Layout, Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from gentee.linux.notify import Notifier
    from gentee.secure.nested import CallWindow, NestedCall
    from gentee.secure.tee import ServiceSession

    class InstanceOwner(Protocol):
        """What an instance tells the TEE about itself."""

        def instance_parked(self, instance: "Instance") -> None:
            """Its process is one of those that wait in a trapped call now."""

        def instance_ended(self, instance: "Instance") -> None:
            """Its process is gone."""

        def session_refused(self, instance: "Instance") -> None:
            """A session that it was to have was not opened."""

        def request(self, instance: "Instance", notify_id: int, code: int) -> None:
            """Receiving thread: its service asks for something and waits for the reply."""


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


class CreateCommand(Command):
    """Load the service and create the instance; what follows waits until it is done."""

    __slots__ = ("depth",)

    def __init__(self, depth: int) -> None:
        super().__init__(ch.TA_CREATE)
        self.depth = depth

    def write(self, instance: "Instance") -> int:
        super().write(instance)
        fd = instance.install_source()
        words = instance.words
        words[ch.M_FUNC] = fd
        words[ch.M_UUID] = int.from_bytes(instance.service.uuid[:8], "little")
        words[ch.M_UUID + 1] = int.from_bytes(instance.service.uuid[8:], "little")
        words[ch.M_MEMORY_LIMIT] = instance.memory_limit << 20
        return self.op

    def done(self, instance: "Instance") -> None:
        instance.created(instance.words[ch.M_RET] & 0xFFFF_FFFF, TEE_ORIGIN_TRUSTED_APP)

    def failed(self, instance: "Instance", error: OSError | TeeError) -> None:
        code = error.code if isinstance(error, TeeError) else TEE_ERROR_OUT_OF_MEMORY
        instance.created(code, TEE_ORIGIN_TEE)


class DestroyCommand(Command):
    """Call the destroy entry point; the process ends by itself."""

    __slots__ = ("depth",)

    def __init__(self, depth: int) -> None:
        super().__init__(ch.TA_DESTROY)
        # That of the create entry point: else instances whose ends make others would never end.
        self.depth = depth

    def done(self, instance: "Instance") -> None:
        # It came back for more: not ours any more, and what waits for its end would wait for ever.
        instance.kill()


class Instance:
    """One instance.

    :param owner: is told, once and in the events thread, when its process is gone.
    :param after: an instance that must have ended before this one starts, where a service has at
        most one at a time.
    :param depth: of the call that it is made for (:mod:`gentee.secure.nested`).
    :param memory_limit: MiB of private memory.
    """

    def __init__(
        self,
        host: Host,
        warm_parent: WarmParent,
        service: Service,
        source: bytes,
        owner: "InstanceOwner",
        after: "Instance | None" = None,
        depth: int = 1,
        memory_limit: int = 64,
    ) -> None:
        self.service = service
        self.memory_limit = memory_limit
        self.sessions: set[int] = set()
        self.window = Window()
        self.pid = 0
        self.dead = False
        self.create_error = self.create_origin = 0
        # Of gentee.secure.nested, whose lock protects them.
        self.call_window: CallWindow | None = None
        self.nested: NestedCall | None = None  # what its service waits for
        self.nested_sessions: dict[int, ServiceSession] = {}
        self.call_window_bytes = 0  # of all that its service got
        self.last_nested_session = 0
        self.nested_over = False
        self._first_depth = depth
        self._after = after
        self._requesting = False
        self._doomed = False
        self._successors: list[Callable[[], None]] = []
        self._birth: Birth | None = None
        self._host = host
        self._warm_parent = warm_parent
        self._source = source
        self._owner = owner
        self._tid = 0
        self._pidfd = -1
        # Protects _current, _queue, _idle, _unmaps and dead.
        self._lock = threading.Lock()
        self._current: Command | None = CreateCommand(depth)
        self._queue: deque[Command] = deque()
        self._idle = False  # parked, and free for a command
        self._started = False
        self.touched = False  # it was used; for gentee.secure.parking
        self._rest = AWAKE
        self._parked = 0  # the notification that the next answer goes to
        self._wait_id = 0
        self._wait_timer: Timer | None = None
        self._maps: dict[TeeShm, int] = {}
        self._unmaps: list[int] = []
        self._next_key = ch.WINDOW_KEY
        self._log: ServiceLog | None = None
        self._page = create_shm(ch.MAILBOX_SIZE, "tee_mailbox")
        try:
            self.mailbox = mmap.mmap(self._page, ch.MAILBOX_SIZE)
        except OSError:  # it takes a descriptor too
            os.close(self._page)
            raise
        self.words = memoryview(self.mailbox).cast("Q")
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
        self._birth = Birth(self._hello, self._pid_known, self._spawn_failed)
        self._warm_parent.spawn(self._birth)

    def _hello(self, notify_id: int, tid: int) -> None:
        """Receiving thread: the new process introduces itself and gets log and mailbox."""
        notifier = self._notifier
        with self._lock:
            if self.dead:  # it was killed right after this call; its number may be used again
                return
            try:
                self._log = ServiceLog(self._host, self.service.name)
            except OSError as error:  # no descriptor left: then it ends
                notifier.answer(notify_id, 0, error.errno or errno.EMFILE)
                return
            self._tid = tid
            notifier.services[tid] = self._trapped
            for number in (1, 2):
                notifier.replace_fd(notify_id, self._log.writer, number, 0)
            self._log.started()
            notifier.answer_fd(notify_id, self._page, os.O_CLOEXEC)
            os.close(self._page)
            self._page = -1

    def _pid_known(self, pid: int) -> None:
        """Events thread. The process is not collected before we say so, so the pid is its own."""
        self.pid = pid
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:  # no descriptor left: its end would not be noticed, so it comes now
            os.kill(pid, signal.SIGKILL)
            self._ended()
            return
        self._host.events.add(self._pidfd, self._process_ended)
        if self._doomed:  # before it was known
            self.kill()

    def _spawn_failed(self) -> None:
        self._host.events.call_soon(self._die)

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
            WORKERS.submit(lambda: self._write_and_go(command))
        else:
            self._write_and_go(command)

    def _write_and_go(self, command: Command) -> None:
        while True:
            try:
                op = command.write(self)
                if self._unmaps:
                    self._write_unmaps()
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
                if not self._notifier.answer(self._parked, op):
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
                    self._parked = notify_id
            return  # else its end is known already: the notification is void
        if not self._started:
            # Its first one: nothing was done yet.
            self._started = True
            self._parked = notify_id
            self._owner.instance_parked(self)
            self._dispatch(command)
        elif self.words[ch.M_FLAGS] & ch.R_LOGGED:
            # Its lines go to the terminal before the client goes on. Never in this thread.
            self.words[ch.M_FLAGS] = 0
            self._host.events.call_soon(lambda: self._finish_logged(notify_id, command))
        elif command.bulk() > _COPY_INLINE:
            WORKERS.submit(lambda: self._finish(notify_id, command))
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
        self._notifier.answer(self._parked, ch.TA_REST)
        return True

    def _rested(self, notify_id: int) -> None:
        """Receiving thread: the process is back."""
        with self._lock:
            woken, self._rest = self._rest == WOKEN, AWAKE
        if not woken:
            self.kill()  # nobody called it: its code is not ours any more
            return
        self._parked = notify_id
        self._owner.instance_parked(self)
        following = self._next()
        if following is not None:
            self._dispatch(following)

    def _finish_logged(self, notify_id: int, command: Command) -> None:
        if self._log is not None:
            self._log.drain()
        if isinstance(command, CallCommand):
            _elsewhere(lambda: self._finish(notify_id, command))
        else:
            self._finish(notify_id, command, may_wait=False)

    def _finish(self, notify_id: int, command: Command, may_wait: bool = True) -> None:
        if not self._claim(command):
            return  # it died meanwhile, and the command with it
        self._parked = notify_id
        try:
            command.done(self)
        finally:
            following = self._next()
            if following is not None:
                self._dispatch(following, may_wait)

    # Memory.

    def write_params(self, params: list[TeeParam], layout: Layout | None) -> None:
        """Put parameters into the mailbox, and map what the process has not mapped yet."""
        words = self.words
        types = 0
        new_maps = 0
        if layout is not None:
            self.window.fit(layout.size)
            self.window.copy_in(layout)  # may fail, so before anything is given to the process
            if self.window.fd >= 0:
                new_maps = self._map(new_maps, ch.WINDOW_KEY, self.window.fd, self.window.size)
                self.window.mapped()
        for index, param in enumerate(params):
            kind = param.attr
            types |= kind << 4 * index
            base = ch.M_PARAMS + 3 * index
            words[base + 1] = param.b
            if kind < TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT:
                words[base] = param.a & 0xFFFF_FFFF
                words[base + 1] = param.b & 0xFFFF_FFFF
                continue
            shm = param.shm
            if shm is None:
                words[base], words[base + 2] = 0, ch.NULL_KEY
            elif shm.backing is not None:
                assert layout is not None
                words[base], words[base + 2] = layout.place_of(param), ch.WINDOW_KEY
            else:
                key = self._maps.get(shm)
                if key is None:
                    self._next_key += 1
                    key = self._next_key
                    new_maps = self._map(new_maps, key, shm.fd, shm.size)
                    self._maps[shm] = key
                    if shm.priv is None:
                        shm.priv = set()
                    assert isinstance(shm.priv, set)
                    shm.priv.add(self)  # who is told when it ends
                words[base], words[base + 2] = param.a, key
        words[ch.M_NUM_MAPS] = new_maps
        words[ch.M_PARAM_TYPES] = types

    def _map(self, count: int, key: int, fd: int, size: int) -> int:
        number = self._notifier.install_fd(self._parked, fd, os.O_CLOEXEC)
        if number is None:
            raise TargetDead("the instance is gone", TEE_ORIGIN_TEE)
        base = ch.M_MAPS + 3 * count
        words = self.words
        words[base], words[base + 1], words[base + 2] = key, number, size
        return count + 1

    def _write_unmaps(self) -> None:
        with self._lock:
            keys, self._unmaps = self._unmaps[: ch.MAX_UNMAPS], self._unmaps[ch.MAX_UNMAPS :]
        words = self.words
        words[ch.M_NUM_UNMAPS] = len(keys)
        for index, key in enumerate(keys):
            words[ch.M_UNMAPS + index] = key

    def forget_shm(self, shm: TeeShm) -> None:
        """``shm`` ended: the process drops its map, at once if it is idle, else when it is."""
        with self._lock:
            key = self._maps.pop(shm, None)
            if key is None:
                return
            self._unmaps.append(key)
        self.submit(Command(ch.TA_UNMAP))

    def install_source(self) -> int:
        """Hand the service's source over as a descriptor that can only be read; its number."""
        fd = create_shm(max(1, len(self._source)), "tee_service")
        try:
            os.pwrite(fd, self._source, 0)
            readonly = reopen(fd, os.O_RDONLY)
        finally:
            os.close(fd)
        try:
            number = self._notifier.install_fd(self._parked, readonly, os.O_CLOEXEC)
        finally:
            os.close(readonly)
        if number is None:
            raise TargetDead("the instance is gone", TEE_ORIGIN_TEE)
        return number

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
        if self._log is not None:
            self._log.drain()
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
        number = self._notifier.install_fd(notify_id, fd, os.O_CLOEXEC)
        if number is None:
            raise TargetDead("the instance is gone", TEE_ORIGIN_TEE)
        return number

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

    def predecessor(self) -> "Instance | None":
        """The instance whose end this one waits for before it starts."""
        after = self._after
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
        self._wait_id = notify_id
        milliseconds &= 0xFFFF_FFFF
        if milliseconds != 0xFFFF_FFFF:
            self._wait_timer = self._host.events.call_later(
                milliseconds / 1000, lambda: self._end_wait(0, notify_id)
            )
        command = self._current
        if isinstance(command, CallCommand) and command.cancelled:
            self._host.events.call_soon(lambda: self._cancel_wait(command))

    def _cancel_wait(self, command: CallCommand) -> None:
        """Events thread: ``command`` is cancelled. What came after it waits as long as it likes."""
        if self._current is command:
            self._end_wait(1)
            nested = self.nested
            if nested is not None:
                nested.caller_cancelled()

    def _end_wait(self, value: int, only: int = 0) -> None:
        """Events thread: time is up, or the wait is cancelled."""
        notify_id = self._wait_id
        if not notify_id or (only and only != notify_id):
            return
        self._wait_id = 0
        if self._wait_timer is not None:
            self._wait_timer.cancel()
            self._wait_timer = None
        self._notifier.wake_ups.begin(self._tid)
        self._notifier.answer(notify_id, value)

    # Sessions, and the end.

    def created(self, result: int, origin: int) -> None:
        """The create entry point returned ``result``; unless it is success the instance ends."""
        if result:
            self.create_error, self.create_origin = result, origin
            with self._lock:
                self._queue.appendleft(DestroyCommand(self._first_depth))

    def session_refused(self, session: int) -> None:
        """The session was not opened after all."""
        self.sessions.discard(session)
        self._owner.session_refused(self)

    def destroy(self) -> None:
        """The last session is closed: let the instance end by itself."""
        self.submit(DestroyCommand(self._first_depth))

    def kill(self) -> None:
        """End the process at once."""
        self._doomed = True
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _process_ended(self) -> None:
        """Events thread: the process is gone."""
        self._host.events.remove(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._ended()

    def _ended(self) -> None:
        assert self._birth is not None
        self._warm_parent.forget(self._birth)
        self._birth = None  # it knows this instance, which is to go with its last user
        self._die()
        # From here on its number may be used again.
        self._warm_parent.reap(self.pid)

    def _die(self) -> None:
        with self._lock:
            if self.dead:
                return
            self.dead = True
            commands = [self._current] if self._current is not None else []
            commands += self._queue
            self._current = None
            self._queue.clear()
            maps, self._maps = self._maps, {}
        self._notifier.services.pop(self._tid, None)
        self._notifier.wake_ups.end(self._tid)
        if self._log is not None:
            self._log.close()
        if self._wait_timer is not None:
            self._wait_timer.cancel()
        for command in commands:
            _elsewhere(partial(command.died, self))
        # Mailbox and window are left to the last reference: another thread may be using them.
        for shm in maps:
            assert isinstance(shm.priv, set)
            shm.priv.discard(self)
        if self._page >= 0:
            os.close(self._page)
            self._page = -1
        self._owner.instance_ended(self)
        for start in self._successors:
            start()
