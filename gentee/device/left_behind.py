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
    SECCOMP_IOCTL_NOTIF_RECV,
    SECCOMP_IOCTL_NOTIF_SEND,
    SECCOMP_NOTIF_RESP,
    SECCOMP_USER_NOTIF_FLAG_CONTINUE,
)


def let_calls_go_on(listener: int) -> None:
    """Fork the process, for ``listener``. No other thread may receive from it any more."""
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
        _serve(3)
    finally:
        os._exit(0)


def _serve(listener: int) -> None:
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    while True:
        if any(mask & select.POLLHUP for _, mask in poller.poll()):
            return
        notification = bytearray(80)
        try:
            fcntl.ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, notification)
            notify_id = int.from_bytes(notification[:8], "little")
            answer = SECCOMP_NOTIF_RESP.pack(notify_id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE)
            fcntl.ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, bytearray(answer))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINTR):
                return
