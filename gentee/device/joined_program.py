# SPDX-License-Identifier: BSD-2-Clause
"""A program that has joined a TEE: a listener and a door of its own over the TEE's devices."""

import fcntl
import os
import socket
import stat
import threading
import time

from gentee.core.device import DeviceRegistry
from gentee.core.host import Host
from gentee.device import control
from gentee.device.answers import Ends
from gentee.device.brought import Bringer
from gentee.device.door import Door
from gentee.linux.notify import Notifier
from gentee.linux.peer import Peer
from gentee.linux.shm import memory_file_seals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.context import TeeContext

_LISTENER_LINK = "anon_inode:seccomp notify"


class JoinedProgram:
    """A program that joined: its listener, its door, and how it is left.

    :param listener: ours from now on.
    :param way: "namespace" or "open".
    :param sock: to whoever joined it, who is ``peer``.
    """

    def __init__(
        self,
        host: Host,
        registry: DeviceRegistry,
        ends: Ends,
        contexts: "dict[bytes, TeeContext]",
        listener: int,
        way: str,
        sock: socket.socket,
        peer: Peer,
        *,
        look: bool,
    ) -> None:
        self.peer = peer
        self.way = way
        self.since = time.monotonic()
        self.notifier = Notifier(listener, host.bug)
        self.device_files: list[int] = []
        self._lock = threading.Lock()  # protects _closed
        self._closed = False
        try:
            self.bringer = Bringer(sock, always=not look)
            self.door = Door(self.notifier, host, registry, ends, contexts, self.bringer.make_task)
            self.door.write_memory = self.bringer.write_memory
            # The services are woken by another listener than the clients.
            self._wake_ups = host.notifier().wake_ups
        except BaseException:
            self.notifier.stop()
            raise

    def start(self, names: list[str], files: list[int]) -> None:
        """Serve it. ``files``, ours from now on, are the devices ``names``, if there are any."""
        self.device_files = files
        for name, fd in zip(names, files, strict=False):
            self.door.files.add_device_file(name, fd)
        self._wake_ups.add(self.notifier.listener)
        self.notifier.start("gentee-joined")

    def close(self) -> None:
        """Nothing of it is kept. It may take a while, so it is no job for the events thread."""
        self.leave()
        self._wake_ups.remove(self.notifier.listener)
        self.notifier.stop()

    def leave(self) -> None:
        """Its clients have no TEE any more, but their calls go on. It may take a while."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.bringer.close()
        self.door.close()
        control.close_all(self.device_files)


def is_listener(fd: int) -> bool:
    """Whether ``fd`` is the listener of a seccomp filter."""
    return os.readlink(f"/proc/self/fd/{fd}") == _LISTENER_LINK


def is_device_file(fd: int) -> bool:
    """Whether ``fd`` can stand for a device: a regular file of a tmpfs, open for both ways.

    Any other file system could be one that never answers. F_GET_SEALS asks none.
    """
    try:
        if memory_file_seals(fd) is None:
            return False
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_PATH)
        return access == os.O_RDWR and stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        return False


__all__ = ["JoinedProgram", "is_device_file", "is_listener"]
