# SPDX-License-Identifier: BSD-2-Clause
"""The receiving end of a seccomp listener: one thread, one blocking receive, two kinds of caller.

Trusted services wait for their next command in a trapped call of the same listener that serves
the clients, so that one receive serves both and a call stays on the CPU of its client. A service
is told from a client by its thread id, before anything of the notification is decoded.

The thread that runs :meth:`Notifier.serve` never waits for anything else: whoever cannot be
answered at once stays parked under its notification id, and any thread may answer it later.

There is one thing that it cannot help to wait for: memory of a client whose pages come from a place
that does not answer, a file system that the client itself serves (FUSE) or its own page faults
(userfaultfd). A second thread looks at it every few milliseconds, as long as there are calls; if it
finds the same call twice it starts another receiver, and the one that is stuck ends with its call.
"""

import errno
import fcntl
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from struct import Struct

from gentee.abi.ta_channel import TA_IOC_HELLO
from gentee.linux import arch
from gentee.linux.libc import interrupt_on
from gentee.linux.seccomp import (
    SECCOMP_ADDFD_FLAG_SEND,
    SECCOMP_ADDFD_FLAG_SETFD,
    SECCOMP_IOCTL_NOTIF_ADDFD,
    SECCOMP_IOCTL_NOTIF_ID_VALID,
    SECCOMP_IOCTL_NOTIF_RECV,
    SECCOMP_IOCTL_NOTIF_SEND,
    SECCOMP_NOTIF_ADDFD,
    SECCOMP_NOTIF_RESP,
    SECCOMP_USER_NOTIF_FLAG_CONTINUE,
    set_sync_wake_up,
)

NotifyId = int

# id tid nr arch arg0..arg3: what of ``struct seccomp_notif`` is looked at.
_RECEIVED = Struct("<QI4xiI8xQQQQ16x")

# A client's call: (id, tid, nr, arch, arg0, arg1, arg2, arg3).
CallHandler = Callable[[int, int, int, int, int, int, int, int], None]
# A service's call: (id, command, argument).
ServiceHandler = Callable[[int, int, int], None]

# Sent to the receiving thread to get it out of a blocked receive on kernels before 6.11.
_WAKE_SIGNAL = signal.SIGURG

_WORTH_A_CPU = 60e-6  # seconds; to wake an idle CPU takes up to half of it, each way
_CROWD_LASTS = 64  # commands

_LOOK_SECONDS = 0.02  # between two looks at a receiver
_STOP_SECONDS = 2.0
_MAX_STUCK = 256  # receivers; with more of them stuck, calls wait


class WakeUps:
    """Who chooses the CPU of a wake-up: the one who wakes, or the scheduler.

    With FD_SYNC_WAKE_UP client, receiver and service wake each other on the current CPU. For one
    call at a time that is best by far, since no idle CPU has to be woken. But services that compute
    for several clients at once it holds on one CPU, while the others idle. So where commands
    overlap, and take long enough to be worth the waking of a CPU, the scheduler chooses.
    """

    __slots__ = ("_crowd", "_listeners", "_lock", "_mean", "begun", "running", "supported")

    def __init__(self, listener: int) -> None:
        self.supported = set_sync_wake_up(listener)
        self.running: set[int] = set()  # services that have a command, by thread id
        self.begun: dict[int, float] = {}  # when, of those that overlap with others
        self._listeners = [listener]  # whose wake-ups are chosen alike
        self._lock = threading.Lock()  # protects the two below, and the flag
        self._mean = 0.0  # seconds that overlapping commands take
        self._crowd = 0  # the flag is off for so many more commands

    def add(self, listener: int) -> None:
        """Choose for ``listener`` as well: its callers ask the same services."""
        with self._lock:
            self._listeners.append(listener)
            if self.supported:
                set_sync_wake_up(listener, self._crowd == 0)

    def remove(self, listener: int) -> None:
        """Forget ``listener``; before it is closed."""
        with self._lock:
            self._listeners = [other for other in self._listeners if other != listener]

    def begin(self, tid: int) -> None:
        """The service ``tid`` is about to get a command, or to go on with it."""
        self.running.add(tid)
        if len(self.running) > 1 or self._crowd:
            self._choose(tid)

    def end(self, tid: int) -> None:
        """The service ``tid`` has come back, or is gone."""
        self.running.discard(tid)
        begun = self.begun.pop(tid, None)
        if begun is not None:
            self._mean += (time.monotonic() - begun - self._mean) / 8

    def _choose(self, tid: int) -> None:
        if not self.supported:
            return
        with self._lock:
            before = self._crowd
            if len(self.running) > 1:
                self.begun[tid] = time.monotonic()
                if self._mean > _WORTH_A_CPU:
                    self._crowd = _CROWD_LASTS
            if before and self._crowd == before:
                self._crowd -= 1
            if (before > 0) != (self._crowd > 0):
                for listener in self._listeners:
                    try:
                        set_sync_wake_up(listener, self._crowd == 0)
                    except OSError:  # it is closed: the end is near
                        pass


class Receiver:
    """A thread that handles calls, seen by the others. Each attribute is written by it alone."""

    __slots__ = ("count", "retired", "thread", "tid")

    def __init__(self) -> None:
        self.tid = 0  # whose call it is at work for; set before anything of it is looked at
        self.count = 0  # calls so far
        self.retired = False  # another one took its place
        self.thread: threading.Thread | None = None


class Notifier:
    """Serves one listener.

    ``services`` maps the thread id of a trusted service to its handler; a new one introduces itself
    with the secret token of ``introductions``; everything else goes to ``calls``.
    """

    def __init__(self, listener: int, on_bug: Callable[[BaseException], None]) -> None:
        self.listener = listener
        self.services: dict[int, ServiceHandler] = {}
        self.calls: CallHandler = self._refuse
        self.introductions: dict[int, Callable[[int, int], None]] = {}  # (id, tid), by token
        self.wake_ups = WakeUps(listener)
        # Told of the thread id of a call that takes long, by the thread that looks.
        self.stuck: Callable[[int], None] = lambda _tid: None
        self._on_bug = on_bug
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # protects the lists; both are replaced, never changed
        self._receivers: list[Receiver] = []  # the last one receives, those before it are stuck
        self._helpers: list[Receiver] = []  # at work for calls that another thread has received
        self._watched = False
        self._calls = threading.Semaphore(0)  # released when there are calls after a pause

    def start(self, name: str = "gentee-receive") -> None:
        """Serve in a thread of its own."""
        interrupt_on(_WAKE_SIGNAL)
        self._add_receiver(name)
        threading.Thread(target=self._watch, name=f"{name}-watch", daemon=True).start()

    def _add_receiver(self, name: str) -> None:
        receiver = Receiver()
        receiver.thread = threading.Thread(
            target=self._serve, args=(receiver,), name=name, daemon=True
        )
        with self._lock:
            self._receivers = [*self._receivers, receiver]
        receiver.thread.start()

    def stop(self) -> None:
        """End the receiving thread; callers that still wait get ENOSYS once the listener closes."""
        self._stopping.set()
        self._calls.release()
        # A receiver that is stuck is left: the listener's end is the end of its call.
        thread = self._receivers[-1].thread if self._receivers else None
        deadline = time.monotonic() + _STOP_SECONDS
        while thread is not None and thread.is_alive() and thread.ident is not None:
            signal.pthread_kill(thread.ident, _WAKE_SIGNAL)
            thread.join(0.01)
            if time.monotonic() > deadline:
                break
        # Whoever is stuck must not receive from what gets the listener's number next.
        for receiver in self._receivers:
            receiver.retired = True
        listener, self.listener = self.listener, -1
        if listener >= 0:
            os.close(listener)

    def is_at_work_for(self, tid: int) -> bool:
        """Whether a thread handles a call of ``tid`` right now."""
        receivers, helpers = self._receivers, self._helpers
        return any(r.tid == tid for r in receivers) or any(h.tid == tid for h in helpers)

    def help(self, notify_id: int, tid: int, job: Callable[[], None]) -> None:
        """Do ``job``, which handles a call of ``tid``, as a receiver does: in any other thread."""
        helper = Receiver()
        helper.tid = tid
        with self._lock:
            self._helpers = [*self._helpers, helper]
        try:
            job()
        except Exception as error:
            self._bug(error, notify_id)
        finally:
            with self._lock:
                self._helpers = [other for other in self._helpers if other is not helper]

    def _watch(self) -> None:
        """Look at the receiver while there are calls; put another in its place when it is stuck."""
        while not self._stopping.is_set():
            self._calls.acquire()
            receiver, count = self._receivers[-1], -1
            while not self._stopping.wait(_LOOK_SECONDS):
                if receiver.count != count:
                    count = receiver.count
                elif (tid := receiver.tid) != 0:
                    if len(self._receivers) <= _MAX_STUCK:
                        receiver.retired = True
                        self.stuck(tid)
                        self._add_receiver("gentee-receive")
                        receiver, count = self._receivers[-1], -1
                else:
                    self._watched = False
                    # A call that came just now may have seen that it is watched.
                    if receiver.count == count:
                        break
                    self._watched = True

    def _bug(self, error: BaseException, notify_id: int) -> None:
        """Our own bug: report it, answer, keep serving."""
        if self.listener < 0:  # stopped while it was stuck
            return
        self._on_bug(error)
        try:
            self.answer(notify_id, 0, errno.EIO)
        except OSError:  # it was answered before
            pass

    def serve(self) -> None:
        """Receive and dispatch until :meth:`stop`, or until no task has the filter any more."""
        receiver = Receiver()
        with self._lock:
            self._receivers = [*self._receivers, receiver]
        self._watched = True  # by nobody: there is no other thread
        self._serve(receiver)

    def _serve(self, me: Receiver) -> None:
        try:
            self._receive(me)
        finally:
            if me.retired:
                with self._lock:
                    self._receivers = [other for other in self._receivers if other is not me]

    def _receive(self, me: Receiver) -> None:
        ioctl, unpack, services = fcntl.ioctl, _RECEIVED.unpack_from, self.services
        listener, calls = self.listener, self.calls
        wake_ups, running = self.wake_ups, self.wake_ups.running
        native_ioctl = arch.NATIVE["ioctl"]
        zero, buffer = bytes(80), bytearray(80)
        stopping = self._stopping.is_set
        while not me.retired:
            buffer[:] = zero
            try:
                ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, buffer)
            except OSError as error:
                if error.errno == errno.EINTR and not stopping():
                    continue
                # ENOENT: this caller is gone; or, with the hang-up, all of them are.
                if error.errno == errno.ENOENT and not self._hung_up():
                    continue
                if not stopping() and not self._hung_up():
                    self._on_bug(error)
                return
            notify_id, tid, nr, audit_arch, arg0, arg1, arg2, arg3 = unpack(buffer)
            me.tid = tid
            me.count += 1
            if not self._watched:
                self._watched = True
                self._calls.release()
            try:
                service = services.get(tid)
                if service is not None and nr == native_ioctl:
                    if tid in running:
                        wake_ups.end(tid)
                    service(notify_id, arg1, arg2)
                elif service is not None:  # it opens a file, where opens are trapped
                    self.continue_(notify_id)
                elif arg1 == TA_IOC_HELLO and arg2 in self.introductions:
                    hello = self.introductions.pop(arg2, None)
                    if hello is not None:  # else it was forgotten just now, with its process
                        hello(notify_id, tid)
                else:
                    calls(notify_id, tid, nr, audit_arch, arg0, arg1, arg2, arg3)
            except Exception as error:
                self._bug(error, notify_id)
            me.tid = 0
            service = hello = None  # one that ends is not kept until the next call comes

    def _hung_up(self) -> bool:
        poller = select.poll()
        poller.register(self.listener, 0)
        return any(mask & select.POLLHUP for _, mask in poller.poll(0))

    def _refuse(self, notify_id: int, *_call: int) -> None:
        self.answer(notify_id, 0, errno.ENOSYS)

    def answer(self, notify_id: int, value: int, error: int = 0) -> bool:
        """Let the call return ``value``, or fail with errno ``error``. False: nobody waits."""
        # A bytearray: half the cost of bytes, which fcntl.ioctl copies twice.
        try:
            fcntl.ioctl(
                self.listener,
                SECCOMP_IOCTL_NOTIF_SEND,
                bytearray(SECCOMP_NOTIF_RESP.pack(notify_id, value, -error, 0)),
            )
        except (OSError, ValueError) as failure:
            return self._gone(failure)
        return True

    def continue_(self, notify_id: int) -> bool:
        """Let the kernel run the call as if it had not been trapped.

        Never used to *permit* something: the caller can change its arguments meanwhile.
        """
        try:
            fcntl.ioctl(
                self.listener,
                SECCOMP_IOCTL_NOTIF_SEND,
                SECCOMP_NOTIF_RESP.pack(notify_id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE),
            )
        except (OSError, ValueError) as failure:
            return self._gone(failure)
        return True

    def answer_fd(self, notify_id: int, fd: int, newfd_flags: int = 0) -> bool:
        """Install ``fd`` in the caller and answer with its number, in one step.

        False: nobody waits, nothing was installed. Raises ``OSError`` where the caller cannot
        take another descriptor (EMFILE).
        """
        return self._addfd(notify_id, SECCOMP_ADDFD_FLAG_SEND, fd, 0, newfd_flags) is not None

    def install_fd(self, notify_id: int, fd: int, newfd_flags: int = 0) -> int | None:
        """Install ``fd`` in the caller, who goes on waiting; its number there, None if gone."""
        return self._addfd(notify_id, 0, fd, 0, newfd_flags)

    def replace_fd(self, notify_id: int, fd: int, newfd: int, newfd_flags: int) -> bool:
        """Put ``fd`` in the place of the caller's descriptor ``newfd``. False: nobody waits."""
        flags = SECCOMP_ADDFD_FLAG_SETFD
        return self._addfd(notify_id, flags, fd, newfd, newfd_flags) is not None

    def _addfd(self, notify_id: int, flags: int, fd: int, newfd: int, nflags: int) -> int | None:
        try:
            number: int = fcntl.ioctl(
                self.listener,
                SECCOMP_IOCTL_NOTIF_ADDFD,
                bytearray(SECCOMP_NOTIF_ADDFD.pack(notify_id, flags, fd, newfd, nflags)),
            )
            return number
        except (OSError, ValueError) as failure:
            self._gone(failure)
            return None

    def is_valid(self, notify_id: int) -> bool:
        """Whether the caller still waits for this answer."""
        try:
            fcntl.ioctl(
                self.listener, SECCOMP_IOCTL_NOTIF_ID_VALID, notify_id.to_bytes(8, "little")
            )
        except (OSError, ValueError) as failure:
            return self._gone(failure)
        return True

    def _gone(self, failure: OSError | ValueError) -> bool:
        # ENOENT: gone or interrupted. EBADF, and ValueError of descriptor -1: we are stopping.
        # EINPROGRESS: answered already, by a program that joined and kept its listener, since here
        # each id is answered once.
        number = failure.errno if isinstance(failure, OSError) else errno.EBADF
        if number in (errno.ENOENT, errno.EINPROGRESS):
            return False
        if number == errno.EBADF and self._stopping.is_set():
            return False
        raise failure
