# SPDX-License-Identifier: BSD-2-Clause
"""Hosts of drivers: a program that runs clients, or one that only asks services itself."""

import os
import socket
import sys
import threading
from abc import abstractmethod
from collections.abc import Sequence

from gentee.core.host import LOG_ERROR, LOG_LEVEL_NAMES, Host
from gentee.device.trapped_root import WAY_SERVICES, TrappedRoot
from gentee.linux.events import EventLoop
from gentee.linux.notify import Notifier

_COLOURS = {"ERROR": "31", "INFO": "36", "DEBUG": "2", "FLOW": "2"}


class TerminalLog:
    """Lines for the person at the terminal, on one stream. Colour only where it is one."""

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._colour = os.isatty(fd) and "NO_COLOR" not in os.environ
        self._lock = threading.Lock()  # one line is one write

    def line(self, text: str) -> None:
        data = (text + "\n").encode("utf-8", "backslashreplace")
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError:  # nobody reads it any more: a log must not end a TEE
                return

    def service(self, source: str, level: int, text: str, more: Sequence[str] = ()) -> None:
        """A line of a service's; ``more`` follow it, with nothing in between."""
        name = LOG_LEVEL_NAMES.get(level, str(level))
        source = printable(source)
        if self._colour:
            tag = f"\x1b[{_COLOURS.get(name, '0')}m[{source}] {name}:\x1b[0m"
        else:
            tag = f"[{source}] {name}:"
        self.line("\n".join((f"{tag} {printable(text)}", *map(printable, more))))

    def warn(self, text: str) -> None:
        self.line(f"gentee: {text}")


def printable(text: str) -> str:
    """``text`` without what a terminal would act on: a service must not drive it."""
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in text)


class BaseHost(Host):
    """What all hosts share: the events thread and the log."""

    def __init__(self, *, log_level: int = 3) -> None:
        self.terminal = TerminalLog()
        self.log_level = log_level
        self.events = EventLoop(self.bug)
        self.has_spawned = False
        self._told: set[str] = set()

    def log(self, source: str, level: int, text: str) -> None:
        if level <= self.log_level:
            self.terminal.service(source, level, text)

    def log_block(self, source: str, level: int, lines: Sequence[str]) -> None:
        if level <= self.log_level:
            self.terminal.service(source, level, lines[0], lines[1:])

    def warn(self, text: str) -> None:
        if text not in self._told:
            if len(self._told) > 1000:
                self._told.clear()
            self._told.add(text)
            self.terminal.warn(text)

    def bug(self, error: BaseException) -> None:
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1:]
        key = f"{type(error).__name__} {where}"
        if key in self._told:
            return
        self._told.add(key)
        text = "".join(traceback.format_exception(error)).rstrip()
        self.terminal.warn("this is a bug in gentee, please report it:\n" + text)

    @abstractmethod
    def _root_socket(self) -> socket.socket:
        """The socket of the trapped root."""

    def spawn_trapped(self, module: str, socket_fd: int) -> None:
        self.has_spawned = True
        socket.send_fds(self._root_socket(), [b"S" + module.encode()], [socket_fd])

    def _end_spawned(self, sock: socket.socket) -> None:
        """Let the trapped root at ``sock`` kill what it spawned."""
        if not self.has_spawned:
            return
        try:
            sock.send(b"E")
            sock.settimeout(2.0)
            while sock.recv(64)[:1] not in (b"K", b""):
                pass
        except OSError:  # gone, or stopped by somebody
            pass


class LocalHost(BaseHost):
    """For a program that uses services itself: no clients, but services need a listener too.

    The trapped root is started by a fresh interpreter at the first need, since a program with
    threads cannot be forked safely.
    """

    def __init__(self, *, log_level: int = 3) -> None:
        super().__init__(log_level=log_level)
        self._lock = threading.Lock()  # protects the three below
        self._notifier: Notifier | None = None
        self._socket: socket.socket | None = None
        self.events.start()

    def _root_socket(self) -> socket.socket:
        self.notifier()
        assert self._socket is not None
        return self._socket

    def notifier(self) -> Notifier:
        with self._lock:
            if self._notifier is None:
                self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    _spawn_root(theirs.fileno())
                self._notifier = Notifier(receive_listener(self._socket)[0], self.bug)
                self._notifier.start()
            return self._notifier

    def close(self) -> None:
        """End the trapped root and the threads; services end with them."""
        with self._lock:
            if self._socket is not None:
                self._end_spawned(self._socket)
                self._socket.close()
            if self._notifier is not None:
                self._notifier.stop()
        self.events.stop()


def receive_listener(sock: socket.socket) -> list[int]:
    """From the trapped root: descriptors, the listener first, then device files.

    Raises ``OSError``: EBUSY where the program is listened to already.
    """
    message, fds, _flags, _address = socket.recv_fds(sock, 4096, 64)
    if message[:1] == b"N":
        error = int.from_bytes(message[1:9], "little", signed=True)
        raise OSError(error, message[9:].decode("utf-8", "replace"))
    if message[:1] != b"L" or not fds:
        raise OSError(0, "the trapped root ended early")
    return list(fds)


def _spawn_root(socket_fd: int) -> None:
    """A fresh interpreter as trapped root. It is waited for: it forks itself away."""
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = (
        "import sys; sys.path.append(sys.argv[1]); "
        "from gentee.device.host import root_main; root_main(int(sys.argv[2]))"
    )
    argv = [sys.executable, "-I", "-c", code, package_parent, str(socket_fd)]
    actions = [(os.POSIX_SPAWN_DUP2, socket_fd, socket_fd)]  # clears close-on-exec
    pid = os.posix_spawn(sys.executable, argv, {}, file_actions=actions)
    os.waitpid(pid, 0)


def root_main(socket_fd: int) -> None:
    """The trapped root of a :class:`LocalHost`."""
    if os.fork():
        os._exit(0)
    sock = socket.socket(fileno=socket_fd)
    sock.set_inheritable(False)
    TrappedRoot(sock, [], WAY_SERVICES, []).main()


__all__ = ["LOG_ERROR", "BaseHost", "LocalHost", "TerminalLog", "printable", "receive_listener"]
