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

import os
import socket
from collections.abc import Sequence

from gentee.core.device import DeviceRegistry
from gentee.core.driver import TeeDesc, TeeDriver
from gentee.device.door import Door
from gentee.device.host import BaseHost
from gentee.device.program import Program
from gentee.device.trapped_root import WAY_AUTO
from gentee.linux.libc import raise_limit
from gentee.linux.notify import Notifier


class RunHost(BaseHost):
    """The host of ``gentee run``: a trapped root with clients below it."""

    def __init__(self, *, log_level: int = 3) -> None:
        super().__init__(log_level=log_level)
        self._program: Program | None = None
        self._listener: Notifier | None = None
        self._device_files: list[int] = []
        self.watch_fds: list[int] = []  # inotify instances

    def _root_socket(self) -> socket.socket:
        assert self._program is not None, "before the trapped root has sent its listener"
        return self._program.root_socket

    def notifier(self) -> Notifier:
        assert self._listener is not None, "before the trapped root has sent its listener"
        return self._listener

    def listen(self, program: Program, names: Sequence[str]) -> list[int]:
        """Let ``program`` have the devices ``names``; descriptors of its device files."""
        listener, *self._device_files = program.listen(names)
        self._program = program
        self._listener = Notifier(listener, self.bug)
        return self._device_files

    def end(self) -> None:
        """End the trapped root and what it spawned, then stop the threads."""
        program = self._program
        if self._listener is None or program is None:
            return
        # First of all: an interpreter that is just starting would complain on the terminal when
        # its opens are not answered any more.
        self._end_spawned(program.root_socket)
        kept = os.dup(self._listener.listener) if program.serves_opens else -1
        self._listener.stop()
        self.events.stop()
        if kept >= 0:
            from gentee.device.left_behind import let_calls_go_on

            let_calls_go_on(kept)
            os.close(kept)
        for fd in self._device_files:
            os.close(fd)
        program.close(self.watch_fds)


class Run:
    """One ``gentee run``.

    :param argv: the program and its arguments; the program is looked for in PATH.
    :param drivers: the drivers whose devices it sees, with the options for their ``probe``.
    :param way: ``auto``, ``namespace`` or ``open`` (docs/design.md).
    :param root: the socket of a trapped root that was forked before, for the first way to try.
    :param notes: lines to say once it is certain that the program can run here.
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
        notes: Sequence[str] = (),
    ) -> None:
        self._argv = list(argv)
        self._drivers = list(drivers)
        self._way = way
        self._log_level = log_level
        self._verbose = verbose
        self._root = root
        self._notes = notes
        self.registry = DeviceRegistry()
        self.host: RunHost | None = None
        self.door: Door | None = None

    def run(self) -> int:
        """Run the program to its end; its exit status, 128 + N if signal N ended it."""
        self.host = host = RunHost(log_level=self._log_level)
        warn = host.terminal.warn if self._verbose else None
        program = Program(self._argv, way=self._way, root=self._root, warn=warn)
        descs: list[TeeDesc] = []
        for driver, options in self._drivers:
            descs += driver.probe(host, options)
        for desc in descs:
            self.registry.tee_device_register(desc)
        try:
            return self._serve(host, program)
        finally:
            self._end(host)

    def _serve(self, host: RunHost, program: Program) -> int:
        names = [device.name for device in self.registry.all()]
        files = host.listen(program, names)
        raise_limit()  # the clients' processes were forked before, and keep theirs
        self.door = Door(host.notifier(), host, self.registry)
        self.door.serve_ta_files(
            [str(one) for _driver, options in self._drivers for one in _folders(options)]
        )
        for name, fd in zip(names, files, strict=False):
            self.door.files.add_device_file(name, fd)
        host.watch_fds = self.door.watch_fds()
        for note in self._notes:
            host.terminal.warn(note)
        if self._verbose:
            host.terminal.warn(f"devices {', '.join(names)} by way of {program.way}")
        program.take_signals()
        host.notifier().start()
        host.events.start()
        return program.run()

    def _end(self, host: RunHost) -> None:
        """Close devices, let drivers end their services, then stop the threads."""
        for device in self.registry.all():
            self.registry.tee_device_unregister(device)
        for driver, _options in self._drivers:
            driver.remove()
        host.end()


def _folders(options: dict[str, object]) -> list[object]:
    """The folders of TAs that a driver has."""
    folders = options.get("ta_dirs")
    return folders if isinstance(folders, list) else []
