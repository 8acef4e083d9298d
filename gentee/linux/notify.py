# SPDX-License-Identifier: BSD-2-Clause
"""The receiving end of a seccomp listener: one thread, one blocking receive, two kinds of caller.

Trusted services wait for their next command in a trapped call of the same listener that serves
the clients, so that one receive serves both and a call stays on the CPU of its client. A service
is told from a client by its thread id, before anything of the notification is decoded.

The thread that runs :meth:`Notifier.serve` never waits for anything else: whoever cannot be
answered at once stays parked under its notification id, and any thread may answer it later.
"""

import errno
import fcntl
import os
import select
import signal
import threading
from collections.abc import Callable
from struct import Struct

from gentee.abi.ta_channel import TA_IOC_HELLO
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
        self.sync_wake_up = set_sync_wake_up(listener)
        self._on_bug = on_bug
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self, name: str = "gentee-receive") -> None:
        """Serve in a thread of its own."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(_WAKE_SIGNAL, lambda _number, _frame: None)
        self._thread = threading.Thread(target=self.serve, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the receiving thread; callers that still wait get ENOSYS once the listener closes."""
        self._stopping = True
        thread = self._thread
        while thread is not None and thread.is_alive() and thread.ident is not None:
            signal.pthread_kill(thread.ident, _WAKE_SIGNAL)
            thread.join(0.01)
        if self.listener >= 0:
            os.close(self.listener)
            self.listener = -1

    def serve(self) -> None:
        """Receive and dispatch until :meth:`stop`, or until no task has the filter any more."""
        ioctl, unpack, services = fcntl.ioctl, _RECEIVED.unpack_from, self.services
        listener, calls = self.listener, self.calls
        zero, buffer = bytes(80), bytearray(80)
        while not self._stopping:
            buffer[:] = zero
            try:
                ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, buffer)
            except OSError as error:
                if error.errno == errno.EINTR:
                    continue
                # ENOENT: this caller is gone; or, with the hang-up, all of them are.
                if error.errno == errno.ENOENT and not self._hung_up():
                    continue
                if not self._stopping and not self._hung_up():
                    self._on_bug(error)
                return
            notify_id, tid, nr, audit_arch, arg0, arg1, arg2, arg3 = unpack(buffer)
            try:
                service = services.get(tid)
                if service is not None:
                    service(notify_id, arg1, arg2)
                elif arg1 == TA_IOC_HELLO and arg2 in self.introductions:
                    self.introductions.pop(arg2)(notify_id, tid)
                else:
                    calls(notify_id, tid, nr, audit_arch, arg0, arg1, arg2, arg3)
            except Exception as error:  # our own bug: report it, answer, keep serving
                self._on_bug(error)
                self.answer(notify_id, 0, errno.EIO)

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
        except OSError as failure:
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
        except OSError as failure:
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
        except OSError as failure:
            self._gone(failure)
            return None

    def is_valid(self, notify_id: int) -> bool:
        """Whether the caller still waits for this answer."""
        try:
            fcntl.ioctl(
                self.listener, SECCOMP_IOCTL_NOTIF_ID_VALID, notify_id.to_bytes(8, "little")
            )
        except OSError as failure:
            return self._gone(failure)
        return True

    def _gone(self, failure: OSError) -> bool:
        # ENOENT: gone or interrupted. EBADF and ENODEV: we are stopping. EINPROGRESS cannot be:
        # each id is answered once.
        if failure.errno == errno.ENOENT or (self._stopping and failure.errno == errno.EBADF):
            return False
        raise failure
