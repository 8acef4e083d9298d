# SPDX-License-Identifier: BSD-2-Clause
"""A warm parent whose templates answer with anything when they are to fork.

As if somebody had got out of the engine where a template translates what the TA would run. What it
may do then is in gentee.ta.confine.lock_template().
"""

import os
import time
from collections.abc import Callable

from gentee.abi import ta_channel as ch
from gentee.ta import arm_parent, user_process
from gentee.ta.process import introduce
from tests.security.escaped_parent import ANY, native, raw

EPERM = 1


class Lying(user_process.UserProcess):
    """A TA's process; as a template it lies about each second fork, as the TA's UUID says."""

    _forks = 0

    def fork(self) -> int:
        assert self._ta is not None
        Lying._forks += 1
        lie = LIES[self._ta.uuid[3] % len(LIES)]
        return lie(self) if Lying._forks % 2 == 0 else super().fork()

    def _named(self, pid: int) -> int:
        """Some process is the forked one."""
        self._words[ch.M_SESSION] = pid
        return 0

    def _itself(self) -> int:
        """It introduces itself as the one that it was to fork."""
        if raw(ch.TA_IOC_HELLO, self._words[ch.M_FUNC]) >= 0:
            os._exit(3)
        return self._named(os.getpid())

    def _two(self) -> int:
        """Two with one token."""
        for _ in range(2):
            pid = os.fork()
            if not pid:
                try:
                    introduce(self._words[ch.M_FUNC])
                    raw(ch.TA_IOC_NEXT)
                finally:
                    os._exit(1)
        return self._named(pid)

    def _one_that_ends(self) -> int:
        """The forked one is gone, and its number perhaps somebody else's."""
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        return self._named(pid)

    def _grandchild(self) -> int:
        """The one that introduces itself is no child of the template."""
        pid = os.fork()
        if not pid:
            if os.fork():
                time.sleep(60)
                os._exit(0)
            introduce(self._words[ch.M_FUNC])
            raw(ch.TA_IOC_NEXT)
            os._exit(0)
        return self._named(pid)

    def _reaches(self) -> int:
        """No files, no sockets, no other processes; a line says what it could all the same."""
        tries: dict[str, Callable[[], int]] = {
            "openat": lambda: native("openat", -100),
            "socket": lambda: native("socket", 1, 1),
            "sendto": lambda: native("sendto", 3),
            "recvfrom": lambda: native("recvfrom", 3),
            "read": lambda: native("read"),
            "statx": lambda: native("statx", -100),
            "ptrace": lambda: native("ptrace"),
            "kill": lambda: native("kill", 1),
            "execve": lambda: native("execve"),
            "a thread": lambda: native("clone", 0x10F00),
            "a namespace": lambda: native("clone", 0x1000_0000 | 17),
            "mprotect": lambda: native("mprotect", 0, 0, 7),
            "executable memory": lambda: native("mmap", 0, 4096, 7, 0x22, -1, 0),
        }
        found = [what for what, call in tries.items() if call() != -EPERM]
        os.write(1, f"a template reaches {found}\n".encode())
        return super().fork()


LIES: tuple[Callable[[Lying], int], ...] = (
    lambda self: self._named(os.getppid()),
    lambda self: self._named(1),
    lambda self: self._named(os.getpid()),
    lambda self: self._named(0),
    lambda self: self._named(0x7FFF_FFFF),
    lambda self: self._named(ANY),
    lambda self: 12,  # it cannot, it says
    lambda self: ANY,
    Lying._itself,
    Lying._two,
    Lying._one_that_ends,
    Lying._grandchild,
    Lying._reaches,
)


def main(socket_fd: int) -> None:
    """Serve the socket to its end."""
    user_process.UserProcess = Lying  # type: ignore[misc]
    arm_parent.main(socket_fd)
