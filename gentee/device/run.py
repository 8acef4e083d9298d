# SPDX-License-Identifier: BSD-2-Clause
"""Running a program with TEE devices: the processes and threads of ``gentee run``.

::

    gentee (this process: receive thread, events thread, main thread)
    ├── trapped root      has the filter; forks on request
    ├── the program       and its children, threads, orphans
    └── warm parent       of trusted services, where a driver has any
        └── services

The main thread waits for the program and passes signals on; it is a child subreaper, so it collects
orphans as well.
"""

import errno
import os
import signal
import socket
from collections.abc import Sequence

from gentee.core.device import DeviceRegistry
from gentee.core.driver import TeeDesc, TeeDriver
from gentee.device.door import Door
from gentee.device.host import BaseHost, receive_listener
from gentee.device.trapped_root import (
    NUMBER,
    TERMINAL_SIGNALS,
    WAY_AUTO,
    WAY_OPEN,
    fork_root,
    signals_to_restore,
    ways_to_try,
)
from gentee.errors import UserError
from gentee.linux.libc import PR_SET_CHILD_SUBREAPER, prctl, raise_limit
from gentee.linux.notify import Notifier

EXIT_CANNOT_RUN = 126
EXIT_NOT_FOUND = 127


class RunHost(BaseHost):
    """The host of ``gentee run``: a trapped root with clients below it."""

    def __init__(self, *, log_level: int = 3) -> None:
        super().__init__(log_level=log_level)
        self._socket: socket.socket | None = None
        self._listener: Notifier | None = None
        self._device_files: list[int] = []
        self.watch_fds: list[int] = []  # inotify instances
        self.serves_opens = False  # programs need somebody who answers, also after the end

    def _root_socket(self) -> socket.socket:
        assert self._socket is not None, "before the trapped root has sent its listener"
        return self._socket

    root_socket = _root_socket

    def spawn_client(self) -> None:
        """Let the trapped root start the program."""
        self._root_socket().send(b"R")

    def end(self) -> None:
        """End the trapped root and what it spawned, then stop the threads."""
        if self._listener is not None and self._socket is not None:
            # First of all: an interpreter that is just starting would complain on the terminal when
            # its opens are not answered any more.
            self._end_spawned(self._socket)
            kept = os.dup(self._listener.listener) if self.serves_opens else -1
            self._listener.stop()
            self.events.stop()
            if kept >= 0:
                from gentee.device.left_behind import let_calls_go_on

                let_calls_go_on(kept)
                os.close(kept)
            # Who leaves the last file of the clients' /dev waits until the kernel has taken it
            # down, and who closes an inotify instance until nobody can be looking at it: either
            # can take longer than a whole run. Nobody waits for the trapped root, so that does it.
            for fd in self._device_files:
                os.close(fd)
            try:
                socket.send_fds(self._socket, [b"H"], self.watch_fds)
            except OSError:  # it is gone
                pass
            self._socket.close()

    def notifier(self) -> Notifier:
        assert self._listener is not None, "before the trapped root has sent its listener"
        return self._listener

    def listen(self, sock: socket.socket) -> list[int]:
        """Take the listener from the trapped root at ``sock``; descriptors of device files."""
        fds = receive_listener(sock)
        self._socket = sock
        self._listener = Notifier(fds[0], self.bug)
        self._device_files = fds[1:]
        return self._device_files


class Run:
    """One ``gentee run``.

    :param argv: the program and its arguments; the program is looked for in PATH.
    :param drivers: the drivers whose devices it sees, with the options for their ``probe``.
    :param way: ``auto``, ``namespace`` or ``open`` (docs/design.md).
    :param root: the socket of a trapped root that was forked before, for the first way to try.
    """

    def __init__(
        self,
        argv: Sequence[str],
        drivers: Sequence[tuple[TeeDriver, dict[str, object]]],
        *,
        way: str = WAY_AUTO,
        log_level: int = 3,
        verbose: bool = False,
        root: socket.socket | None = None,
    ) -> None:
        self._argv = list(argv)
        self._drivers = list(drivers)
        self._way = way
        self._log_level = log_level
        self._verbose = verbose
        self._root = root
        self._client = 0
        self._exec_error = 0
        self.registry = DeviceRegistry()
        self.host: RunHost | None = None
        self.door: Door | None = None

    def run(self) -> int:
        """Run the program to its end; its exit status, 128 + N if signal N ended it."""
        restore = signals_to_restore()
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.host = RunHost(log_level=self._log_level)
        descs: list[TeeDesc] = []
        for driver, options in self._drivers:
            descs += driver.probe(self.host, options)
        for desc in descs:
            self.registry.tee_device_register(desc)
        try:
            return self._serve(self.host, restore)
        finally:
            self._end(self.host)

    def _listen(self, host: RunHost, names: list[str], restore: list[int]) -> tuple[list[int], str]:
        """Start a trapped root; descriptors of the device files that it made, and its way."""
        ways = ways_to_try(self._way)
        for way in ways:
            mine, self._root = self._root, None
            if mine is None:
                mine = fork_root(self._argv, way, restore)
            try:
                mine.send("\n".join(names).encode())
                return host.listen(mine), way
            except OSError as error:
                mine.close()
                if error.errno == errno.EBUSY or way == ways[-1]:
                    raise _cannot_listen(error) from error
                if self._verbose:
                    host.terminal.warn(f"no mount namespace: {error.strerror or error}")
        raise AssertionError("unreachable")

    def _serve(self, host: RunHost, restore: list[int]) -> int:
        names = [device.name for device in self.registry.all()]
        files, way = self._listen(host, names, restore)
        raise_limit()  # the clients' processes were forked before, and keep theirs
        self.door = Door(host.notifier(), host, self.registry)
        for name, fd in zip(names, files, strict=False):
            self.door.files.add_device_file(name, fd)
        host.watch_fds = self.door.watch_fds()
        host.serves_opens = way == WAY_OPEN
        if self._verbose:
            host.terminal.warn(f"devices {', '.join(names)} by way of {way}")
        # SIGIO: of leases (gentee.linux.shm).
        for number in (*TERMINAL_SIGNALS[:2], signal.SIGIO):
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._forward)
        host.notifier().start()
        host.events.start()
        host.spawn_client()
        status = self._wait_for_client(host)
        if self._exec_error:
            text = os.strerror(self._exec_error)
            found = self._exec_error not in (2, 20)
            raise UserError(
                f"cannot run {self._argv[0]!r}: {text}",
                hint=None if found else "is it in PATH, or should it start with ./ ?",
                status=EXIT_CANNOT_RUN if found else EXIT_NOT_FOUND,
            )
        return status

    def _forward(self, number: int, _frame: object) -> None:
        if self._client:
            os.kill(self._client, number)

    def _wait_for_client(self, host: RunHost) -> int:
        sock = host.root_socket()
        while not self._client:
            message = sock.recv(4096)
            if not message:
                raise UserError("the trapped root ended; this is a bug in gentee, please report it")
            if message[:1] == b"C":
                (self._client,) = NUMBER.unpack(message[1:])
            elif message[:1] == b"E":
                (self._exec_error,) = NUMBER.unpack(message[1:])
        while True:
            pid, wait_status = os.waitpid(-1, 0)
            if pid == self._client:
                break
        self._read_late_messages(sock)
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

    def _end(self, host: RunHost) -> None:
        """Close devices, let drivers end their services, then stop the threads."""
        for device in self.registry.all():
            self.registry.tee_device_unregister(device)
        for driver, _options in self._drivers:
            driver.remove()
        host.end()


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
