# SPDX-License-Identifier: BSD-2-Clause
"""Programs that outlive their ``gentee run``: daemons that the program left in the background.

Their filter stays, and a trapped call that nobody answers is ENOSYS. In the open way that would be
every open. So a small process stays for them that lets the kernel run each call as it is: the TEE
is gone, all else works. It ends with the last of them.
"""

import errno
import fcntl
import os
import select
import signal

from gentee.linux.libc import set_process_name
from gentee.linux.seccomp import (
    SECCOMP_IOCTL_NOTIF_ID_VALID,
    SECCOMP_IOCTL_NOTIF_RECV,
    SECCOMP_IOCTL_NOTIF_SEND,
    SECCOMP_NOTIF_RESP,
    SECCOMP_USER_NOTIF_FLAG_CONTINUE,
)


def let_calls_go_on(listener: int, first_id: int | None = None) -> None:
    """Fork the process, for ``listener``. Nobody else may receive from it any more.

    :param first_id: of the earliest call that another program received and, ending, left without
        an answer. There is no other way to know which they are than to ask for each number: the
        kernel counts them up.
    """
    if os.fork():
        return
    try:
        os.setsid()
        set_process_name("gentee-left")
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        # Nobody may wait for a stream or a descriptor that we hold.
        os.dup2(listener, 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        _serve(3, first_id)
    finally:
        os._exit(0)


_AT_ONCE = 10_000  # numbers asked for between two looks at the listener
_ID_MASK = (1 << 64) - 1


def _serve(listener: int, first_id: int | None) -> None:
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    left = None if first_id is None else _LeftCalls(listener, first_id)
    while True:
        searching = left is not None and left.below is not None
        events = poller.poll(0 if searching else None)
        if any(mask & select.POLLHUP for _, mask in events):
            return
        if not events:
            if left is not None and not left.search():
                left = None
            continue
        notification = bytearray(80)
        try:
            fcntl.ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, notification)
            notify_id = int.from_bytes(notification[:8], "little")
            if left is not None and left.below is None:
                left.below = notify_id
            _continue(listener, notify_id)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINTR):
                return


def _continue(listener: int, notify_id: int) -> None:
    answer = SECCOMP_NOTIF_RESP.pack(notify_id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE)
    fcntl.ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, bytearray(answer))


class _LeftCalls:
    """Calls that were received by a program that ended. The youngest are found first.

    Each number costs a system call, a small part of what a trapped call costs, so at worst it takes
    a hundredth of the time that all the calls of that program took.
    """

    def __init__(self, listener: int, first_id: int) -> None:
        self.below: int | None = None  # the lowest number that is known not to be one
        self._listener = listener
        self._first = first_id

    def search(self) -> bool:
        """Look for some; whether there can be more."""
        assert self.below is not None
        number = self.below
        for _ in range(_AT_ONCE):
            if number == self._first:
                return False
            number = (number - 1) & _ID_MASK
            try:
                fcntl.ioctl(
                    self._listener, SECCOMP_IOCTL_NOTIF_ID_VALID, number.to_bytes(8, "little")
                )
                _continue(self._listener, number)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EINPROGRESS):
                    raise
        self.below = number
        return True
