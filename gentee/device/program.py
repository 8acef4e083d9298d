# SPDX-License-Identifier: BSD-2-Clause
"""The program that ``gentee run`` runs: its trapped root, its signals and its end."""

import errno
import os
import signal
import socket
from collections.abc import Callable, Sequence

from gentee.device.host import receive_listener
from gentee.device.trapped_root import (
    NUMBER,
    TERMINAL_SIGNALS,
    WAY_OPEN,
    fork_root,
    signals_to_restore,
    ways_to_try,
)
from gentee.errors import UserError
from gentee.linux.libc import PR_SET_CHILD_SUBREAPER, prctl

EXIT_CANNOT_RUN = 126
EXIT_NOT_FOUND = 127

_NOT_FOUND_HINT = "is it in PATH, or should it start with ./ ?"
_CANNOT_RUN_HINTS = {
    errno.ENOENT: _NOT_FOUND_HINT,
    errno.ENOTDIR: _NOT_FOUND_HINT,
    errno.EACCES: "'chmod +x' makes a file a program; a script can be named after its interpreter",
    errno.ENOEXEC: "it is a program of another machine, or a script without a first line #!...",
}


class Program:
    """A program and all that it starts, as seen by the process that waits for it.

    :param argv: the program and its arguments; the program is looked for in PATH.
    :param way: ``auto``, ``namespace`` or ``open`` (docs/design.md).
    :param root: the socket of a trapped root that was forked before, for the first way to try.
    :param warn: told what is only worth telling to who wants to know all.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        way: str,
        root: socket.socket | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self._argv = list(argv)
        self._asked_way = way
        self._root = root
        self._warn = warn
        self._socket: socket.socket | None = None
        self._client = 0
        self._early: list[int] = []  # signals that came before its number was known
        self._exec_error = 0
        self._restore = signals_to_restore()
        self.way = ""  # the one that worked
        prctl(PR_SET_CHILD_SUBREAPER, 1)

    @property
    def root_socket(self) -> socket.socket:
        """That of the trapped root."""
        assert self._socket is not None, "before the trapped root has sent its listener"
        return self._socket

    @property
    def serves_opens(self) -> bool:
        """Whether its opens are trapped: somebody must answer, also after the end."""
        return self.way == WAY_OPEN

    def listen(self, names: Sequence[str]) -> list[int]:
        """Let a trapped root make the devices ``names``: the listener, then the device files."""
        ways = ways_to_try(self._asked_way)
        for way in ways:
            mine, self._root = self._root, None
            if mine is None:
                mine = fork_root(self._argv, way, self._restore)
            try:
                mine.send("\n".join(names).encode())
                fds = receive_listener(mine)
            except OSError as error:
                mine.close()
                if error.errno == errno.EBUSY or way == ways[-1]:
                    raise _cannot_listen(error) from error
                if self._warn is not None:
                    self._warn(f"no mount namespace: {error.strerror or error}")
            else:
                self._socket, self.way = mine, way
                return fds
        raise AssertionError("unreachable")

    def take_signals(self) -> None:
        """From now on signals are for the program. In the main thread, before others start."""
        # SIGIO: of leases (gentee.linux.shm).
        for number in (*TERMINAL_SIGNALS[:2], signal.SIGIO):
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._forward)

    def _forward(self, number: int, _frame: object) -> None:
        if self._client:
            os.kill(self._client, number)
        else:  # it may run already, and who has heard of it sends it a signal
            self._early.append(number)

    def run(self) -> int:
        """Start it and wait for its end: the exit status, 128 + N if signal N ended it."""
        sock = self.root_socket
        sock.send(b"R")
        while not self._client:
            message = sock.recv(4096)
            if not message:
                raise UserError("the trapped root ended; this is a bug in gentee, please report it")
            if message[:1] == b"C":
                (self._client,) = NUMBER.unpack(message[1:])
                # Handlers run in this thread: none comes in between any more.
                for number in self._early:
                    os.kill(self._client, number)
            elif message[:1] == b"E":
                (self._exec_error,) = NUMBER.unpack(message[1:])
        while True:
            pid, wait_status = os.waitpid(-1, 0)
            if pid == self._client:
                break
        self._read_late_messages(sock)
        if self._exec_error:
            text = os.strerror(self._exec_error)
            found = self._exec_error not in (errno.ENOENT, errno.ENOTDIR)
            raise UserError(
                f"cannot run {self._argv[0]!r}: {text}",
                hint=_CANNOT_RUN_HINTS.get(self._exec_error),
                status=EXIT_CANNOT_RUN if found else EXIT_NOT_FOUND,
            )
        if os.WIFSIGNALED(wait_status):
            return 128 + os.WTERMSIG(wait_status)
        return os.WEXITSTATUS(wait_status)

    def _read_late_messages(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            while message := sock.recv(4096):
                if message[:1] == b"E":
                    (self._exec_error,) = NUMBER.unpack(message[1:])
        except BlockingIOError:
            pass
        finally:
            sock.setblocking(True)

    def probe(self) -> None:
        """Let the trapped root open a file: where opens are trapped, a call that shows."""
        self.root_socket.send(b"P")

    def close(self, hold: Sequence[int] = ()) -> None:
        """Let the trapped root end; descriptors of ``hold`` are closed by it, not by us.

        Who leaves the last file of the clients' /dev waits until the kernel has taken it down, and
        who closes an inotify instance until nobody can be looking at it: either can take longer
        than a whole run. Nobody waits for the trapped root, so that does it.
        """
        sock, self._socket = self._socket, None
        if sock is None:
            return
        try:
            if hold:
                socket.send_fds(sock, [b"H"], list(hold))
        except OSError:  # it is gone
            pass
        sock.close()


def _cannot_listen(error: OSError) -> UserError:
    if error.errno == errno.EBUSY:
        return UserError(
            "another program already listens to this one's system calls (seccomp notification)",
            hint="gentee cannot run inside another gentee, nor in a container whose runtime "
            "listens; 'gentee doctor' tells more",
        )
    return UserError(
        f"this kernel or container refuses what gentee needs: {error.strerror or error}",
        hint="'gentee doctor' says what is missing",
    )
