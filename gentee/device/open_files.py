# SPDX-License-Identifier: BSD-2-Clause
"""Open device files: which descriptor is which context, and when a context ends.

Some facts about ends
=====================

- The client's descriptor is the read end of a pipe that nobody ever writes to. We hold the write
  end and poll it for nothing: the error condition comes when the last duplicate of the read end is
  gone, wherever duplicates went (dup, fork, exec, a message on a socket).
- ``/proc/TID/fd/N`` names the pipe by its inode, which cannot be used again while we hold an end.
- Where ``/dev/tee0`` is a file of a mount namespace, an open gives the client that plain file. At
  its first ioctl the pipe takes the descriptor's place, same number and same close-on-exec flag.
- Duplicates made before still are the plain file. To know them again, and to know when the last of
  them is gone, the plain open file is marked with a lock that belongs to the *open file*
  (F_OFD_SETLK): one byte per context. Our own descriptor sees the byte as locked while any
  duplicate lives; a latecomer that is a duplicate sees no conflict, for the lock is its own.
"""

import errno
import fcntl
import os
import select
from collections.abc import Callable
from struct import Struct

from gentee.core.context import TeeContext, teedev_close_context, teedev_open
from gentee.core.device import TeeDevice
from gentee.linux.events import EventLoop
from gentee.linux.shm import CloseWatch
from gentee.linux.task import Task

_FLOCK = Struct("hh4xqqi4x")  # l_type l_whence l_start l_len l_pid
_F_OFD_GETLK = 36
_F_OFD_SETLK = 37
_F_SETPIPE_SZ = 1031


class OpenFile:
    """An open device file of a client."""

    __slots__ = ("byte", "ctx", "link", "plain", "readers", "writer")

    def __init__(self, ctx: TeeContext, link: bytes, writer: int) -> None:
        self.ctx = ctx
        self.link = link
        self.writer = writer
        self.readers = True  # somebody has the read end, as far as we were told
        self.plain: DeviceFile | None = None  # where duplicates of a plain file are left
        self.byte = -1


class DeviceFile:
    """A file in the clients' ``/dev`` that stands for a device."""

    __slots__ = ("fd", "name")

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd  # open for reading and writing, our own open file

    def identity(self) -> tuple[int, int]:
        status = os.fstat(self.fd)
        return (status.st_dev, status.st_ino)

    def byte_is_locked(self, fd: int, byte: int) -> bool:
        """Whether, seen from ``fd``, somebody else's open file has ``byte`` locked."""
        query = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        kind = _FLOCK.unpack(fcntl.fcntl(fd, _F_OFD_GETLK, query))[0]
        return bool(kind != fcntl.F_UNLCK)


class OpenFiles:
    """All open device files. ``contexts`` is what each call looks up, by the link's name."""

    def __init__(self, events: EventLoop, find_device: Callable[[str], TeeDevice | None]) -> None:
        self.contexts: dict[bytes, TeeContext] = {}
        self._files: dict[TeeContext, OpenFile] = {}
        self._events = events
        self._find_device = find_device
        self._device_files: dict[tuple[int, int], DeviceFile] = {}
        self._plain: set[OpenFile] = set()
        self._watch: CloseWatch | None = None
        self._next_byte = 0

    def add_device_file(self, name: str, fd: int) -> None:
        """The clients see the file of ``fd`` as the device ``name``."""
        file = DeviceFile(name, fd)
        self._device_files[file.identity()] = file
        if self._watch is None:
            self._watch = CloseWatch()
            self._events.add(self._watch.fd, self._watch.read)
        self._watch.add(fd, self._sweep_plain)

    def open(self, name: str) -> tuple[TeeContext, int]:
        """Open device ``name``: the context, and the descriptor that the client gets.

        The caller closes the descriptor once it is installed; if it never was, that ends the
        context. OSError as the driver's ``open`` says, ENOENT without such a device.
        """
        device = self._find_device(name)
        if device is None:
            raise OSError(errno.ENOENT, name)
        ctx = teedev_open(device)
        try:
            reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            teedev_close_context(ctx)
            raise
        # One page instead of sixteen: pipes of an ordinary user are counted.
        fcntl.fcntl(writer, _F_SETPIPE_SZ, 4096)
        link = b"pipe:[%d]" % os.fstat(reader).st_ino
        file = OpenFile(ctx, link, writer)
        self._files[ctx] = file
        self.contexts[link] = ctx
        return ctx, reader

    def watch(self, ctx: TeeContext) -> None:
        """The client has its descriptor: from now on its end is the context's end."""
        file = self._files[ctx]
        self._events.add(file.writer, lambda: self._hang_up(file), 0)

    def _hang_up(self, file: OpenFile) -> None:
        self._events.remove(file.writer)
        file.readers = False
        if file.plain is not None and file.plain.byte_is_locked(file.plain.fd, file.byte):
            return  # a duplicate of the plain file is left, and may still be used
        self._release(file)

    def _release(self, file: OpenFile) -> None:
        if file.ctx.wait_idle(lambda: self._events.call_soon(lambda: self._release(file))):
            return
        self._forget_plain(file)
        del self._files[file.ctx]
        # The name first, the pipe last: its inode may be used again at once.
        self.contexts.pop(file.link, None)
        try:
            teedev_close_context(file.ctx)
        finally:
            os.close(file.writer)

    def first_ioctl(
        self, task: Task, fd: int, replace: Callable[[int, int], bool]
    ) -> TeeContext | None:
        """Descriptor ``fd`` of ``task`` is not a context's: is it the plain file of a device?

        Then ``replace(reader, flags)`` puts the pipe in its place. None: it is none of ours.
        """
        if not self._device_files:
            return None
        status = task.stat(fd)
        device_file = self._device_files.get((status.st_dev, status.st_ino))
        if device_file is None:
            return None
        plain = task.get_fd(fd)
        try:
            flags = fcntl.fcntl(plain, fcntl.F_GETFL)
            if flags & os.O_PATH:
                return None
            file = self._known_duplicate(device_file, plain)
            if file is not None:
                return self._replace_duplicate(file, task, fd, replace)
            return self._replace_first(device_file, plain, flags, task, fd, replace)
        finally:
            os.close(plain)

    def _known_duplicate(self, device_file: DeviceFile, plain: int) -> OpenFile | None:
        for file in self._plain:
            if file.plain is device_file:
                held = device_file.byte_is_locked(device_file.fd, file.byte)
                if held and not device_file.byte_is_locked(plain, file.byte):
                    return file
        return None

    def _replace_duplicate(
        self, file: OpenFile, task: Task, fd: int, replace: Callable[[int, int], bool]
    ) -> TeeContext:
        path = f"/proc/self/fd/{file.writer}"
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            replace(reader, _cloexec_flag(task, fd))
        finally:
            os.close(reader)
        if not file.readers:
            file.readers = True
            self._events.add(file.writer, lambda: self._hang_up(file), 0)
        return file.ctx

    def _replace_first(
        self,
        device_file: DeviceFile,
        plain: int,
        flags: int,
        task: Task,
        fd: int,
        replace: Callable[[int, int], bool],
    ) -> TeeContext:
        ctx, reader = self.open(device_file.name)
        file = self._files[ctx]
        self._next_byte += 1
        file.byte = self._next_byte
        kind = fcntl.F_RDLCK if flags & os.O_ACCMODE == os.O_RDONLY else fcntl.F_WRLCK
        try:
            fcntl.fcntl(plain, _F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, file.byte, 1, 0))
            replace(reader, _cloexec_flag(task, fd))
        finally:
            os.close(reader)
            # Usually the descriptor just replaced was the only one. Its file ends when the client
            # is back from this call: the watch says so.
            file.plain = device_file
            self._plain.add(file)
            self.watch(ctx)
        return ctx

    def _forget_plain(self, file: OpenFile) -> None:
        file.plain = None
        self._plain.discard(file)

    def _sweep_plain(self) -> None:
        """Some plain file was closed: forget those of which no duplicate is left."""
        for file in tuple(self._plain):
            device_file = file.plain
            if device_file is None or device_file.byte_is_locked(device_file.fd, file.byte):
                continue
            self._forget_plain(file)
            if not file.readers:
                self._release(file)

    def count(self) -> int:
        """How many contexts are open."""
        return len(self._files)

    def has_readers(self, ctx: TeeContext) -> bool:
        """Whether a client holds a descriptor of ``ctx`` right now."""
        poller = select.poll()
        poller.register(self._files[ctx].writer, 0)
        return not any(mask & select.POLLERR for _, mask in poller.poll(0))


def _cloexec_flag(task: Task, fd: int) -> int:
    """The close-on-exec flag of another task's descriptor, as flag for ADDFD."""
    for line in task.fdinfo(fd).splitlines():
        if line.startswith(b"flags:"):
            return int(line.split()[1], 8) & os.O_CLOEXEC
    return 0
