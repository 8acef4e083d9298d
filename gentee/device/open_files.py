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
- Duplicates made before still are the plain file. To know them again, its position is set to a
  secret number: duplicates share it, and whoever cannot read the client's descriptors cannot guess
  it. Any client can open the file, lock its bytes and move about in an open file of its own, so
  nothing that a stranger can do to the file may say whose context it is.
- To know when the last duplicate is gone, one byte is locked with a lock that belongs to the *open
  file* (F_OFD_SETLK): our own descriptor sees it as locked while any duplicate lives. A stranger
  who locks the same byte, at a place that it cannot guess either, prolongs a context at most.
"""

import errno
import fcntl
import os
import select
import threading
from collections.abc import Callable
from struct import Struct

from gentee.core.context import TeeContext, teedev_close_context, teedev_open
from gentee.core.device import TeeDevice
from gentee.linux.events import EventLoop, HangUps
from gentee.linux.shm import CloseWatch
from gentee.linux.task import Task

_FLOCK = Struct("hh4xqqi4x")  # l_type l_whence l_start l_len l_pid
_F_OFD_GETLK = 36
_F_OFD_SETLK = 37
_F_SETPIPE_SZ = 1031


class OpenFile:
    """An open device file of a client."""

    __slots__ = ("byte", "ctx", "link", "plain", "position", "readers", "writer")

    def __init__(self, ctx: TeeContext, link: bytes, writer: int) -> None:
        self.ctx = ctx
        self.link = link
        self.writer = writer
        self.readers = True  # somebody has the read end, as far as we were told
        self.plain: DeviceFile | None = None  # where duplicates of a plain file are left
        self.position = -1  # of that open file
        self.byte = -1  # what of it is locked, if anything could be


class DeviceFile:
    """A file in the clients' ``/dev`` that stands for a device."""

    __slots__ = ("fd", "name")

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd  # open for reading and writing, our own open file

    def identity(self) -> tuple[int, int]:
        status = os.fstat(self.fd)
        return (status.st_dev, status.st_ino)

    def byte_is_locked(self, byte: int) -> bool:
        """Whether a client's open file has just ``byte`` locked."""
        query = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        found = _FLOCK.unpack(fcntl.fcntl(self.fd, _F_OFD_GETLK, query))
        kind, _whence, start, length, _pid = found
        return bool(kind != fcntl.F_UNLCK and start == byte and length == 1)


class OpenFiles:
    """All open device files. ``contexts`` is what each call looks up, by the link's name."""

    def __init__(
        self,
        events: EventLoop,
        hang_ups: HangUps,
        find_device: Callable[[str], TeeDevice | None],
        abandon_orphans: Callable[[TeeContext], None],
        make_watch: Callable[[], CloseWatch] | None = None,
        contexts: dict[bytes, TeeContext] | None = None,
    ) -> None:
        # Of all doors together: a client can send its descriptor to one of another door.
        self.contexts: dict[bytes, TeeContext] = {} if contexts is None else contexts
        self._closed = False
        self._files: dict[TeeContext, OpenFile] = {}
        self._events = events
        self._hang_ups = hang_ups
        self._abandon_orphans = abandon_orphans
        self._find_device = find_device
        self._device_files: dict[tuple[int, int], DeviceFile] = {}
        self._plain: dict[int, OpenFile] = {}  # by position
        # Held to join a context and to decide that one ends: it does not while a latecomer joins.
        self._lock = threading.Lock()
        self._watch: CloseWatch | None = None
        self._make_watch = make_watch if make_watch is not None else self._new_watch
        self._handles: list[int] = []  # of the watch

    def _new_watch(self) -> CloseWatch:
        watch = CloseWatch(self._events.call_later)
        self._events.add(watch.fd, watch.read, settle=watch.settle)
        return watch

    def add_device_file(self, name: str, fd: int) -> None:
        """The clients see the file of ``fd`` as the device ``name``."""
        file = DeviceFile(name, fd)
        self._device_files[file.identity()] = file
        if self._watch is None:
            self._watch = self._make_watch()
        self._handles.append(self._watch.add(fd, self._sweep_plain))

    def open(self, name: str) -> tuple[TeeContext, int]:
        """Open device ``name``: the context, and the descriptor that the client gets.

        The caller closes the descriptor once it is installed; if it never was, that ends the
        context. OSError as the driver's ``open`` says, ENOENT without such a device.
        """
        device = self._find_device(name)
        if device is None:
            raise OSError(errno.ENOENT, name)
        try:
            ctx = teedev_open(device)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOMEM):
                raise
            # Who had it may have closed it already.
            self._events.settle()
            ctx = teedev_open(device)
        try:
            reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            teedev_close_context(ctx)
            raise
        try:
            # One page instead of sixteen: pipes of an ordinary user are counted.
            fcntl.fcntl(writer, _F_SETPIPE_SZ, 4096)
        except OSError:  # then it stays as it is
            pass
        link = b"pipe:[%d]" % os.fstat(reader).st_ino
        file = OpenFile(ctx, link, writer)
        self._files[ctx] = file
        self.contexts[link] = ctx
        if self._closed:  # meanwhile, by another thread
            self.close()
        return ctx, reader

    def watch(self, ctx: TeeContext) -> None:
        """The client has its descriptor: from now on its end is the context's end."""
        with self._lock:
            file = self._files.get(ctx)
            if file is not None:  # else the door is closed
                self._watch_readers(file)

    def _watch_readers(self, file: OpenFile) -> None:
        self._hang_ups.add(file.writer, lambda: self._hang_up(file))

    def _hang_up(self, file: OpenFile) -> None:
        with self._lock:
            if file.ctx not in self._files:
                return
            if self._has_readers(file):
                self._watch_readers(file)  # a latecomer joined it meanwhile
                return
            file.readers = False
            if self._plain_is_left(file):
                return
            self._forget_plain(file)
        self._release(file)

    def _release(self, file: OpenFile) -> None:
        if file.ctx.pending:
            self._abandon_orphans(file.ctx)
        if file.ctx.wait_idle(lambda: self._events.call_soon(lambda: self._release(file))):
            return
        with self._lock:
            if self._files.pop(file.ctx, None) is None:  # the door was closed
                return
        self._end(file)

    def _end(self, file: OpenFile) -> None:
        # The name first, the pipe last: its inode may be used again at once.
        self.contexts.pop(file.link, None)
        try:
            teedev_close_context(file.ctx)
        finally:
            os.close(file.writer)

    def close(self) -> None:
        """End all contexts, whoever has descriptors of them; the device files are forgotten."""
        self._closed = True
        if self._watch is not None:
            for handle in self._handles:
                self._watch.remove(handle)
        with self._lock:
            files = list(self._files.values())
            self._files.clear()
            self._plain.clear()
        for file in files:
            self._hang_ups.remove(file.writer)
            self._end(file)

    def first_ioctl(
        self, task: Task, fd: int, replace: Callable[[int, int], bool]
    ) -> TeeContext | None:
        """Descriptor ``fd`` of ``task`` is not a context's: is it the plain file of a device?

        Then ``replace(reader, flags)`` puts the pipe in its place. None: it is none of ours.
        """
        if not self._device_files:
            return None
        device_file = self._device_files.get(task.file_identity(fd))
        if device_file is None:
            return None
        plain = task.get_fd(fd)
        try:
            flags = fcntl.fcntl(plain, fcntl.F_GETFL)
            if flags & os.O_PATH:
                return None
            cloexec = _cloexec_flag(task, fd)
            ctx = self._join(device_file, plain, lambda reader: replace(reader, cloexec))
            if ctx is None:
                ctx = self._replace_first(
                    device_file, plain, flags, lambda reader: replace(reader, cloexec)
                )
            return ctx
        finally:
            os.close(plain)

    def _join(
        self, device_file: DeviceFile, plain: int, replace: Callable[[int], bool]
    ) -> TeeContext | None:
        """A plain file that is the duplicate of another one gets that one's pipe."""
        with self._lock:
            file = self._plain.get(os.lseek(plain, 0, os.SEEK_CUR))
            if file is None or file.plain is not device_file:
                return None
            path = f"/proc/self/fd/{file.writer}"
            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                self._replace(replace, reader)
            finally:
                if not file.readers:
                    file.readers = True
                    self._watch_readers(file)
                os.close(reader)
            return file.ctx

    @staticmethod
    def _replace(replace: Callable[[int], bool], reader: int) -> None:
        try:
            replace(reader)
        except OSError as error:
            # The number is beyond what the client may open, since it lowered RLIMIT_NOFILE. The
            # plain file stays: it joins its context again at each call.
            if error.errno != errno.EBADF:
                raise

    def _replace_first(
        self,
        device_file: DeviceFile,
        plain: int,
        flags: int,
        replace: Callable[[int], bool],
    ) -> TeeContext:
        ctx, reader = self.open(device_file.name)
        file = self._files.get(ctx)
        if file is None:  # the door was closed meanwhile
            os.close(reader)
            raise OSError(errno.ENODEV, device_file.name)
        try:
            # Usually the descriptor to be replaced is the only one. Its file ends when the client
            # is back from this call: the watch says so.
            self._mark(file, device_file, plain, flags)
            self._replace(replace, reader)
        finally:
            os.close(reader)
            self.watch(ctx)
        return ctx

    def _mark(self, file: OpenFile, device_file: DeviceFile, plain: int, flags: int) -> None:
        """Give the plain file what its duplicates are known by."""
        position, byte = (int.from_bytes(os.urandom(8), "little") >> 2 for _ in range(2))
        kind = fcntl.F_RDLCK if flags & os.O_ACCMODE == os.O_RDONLY else fcntl.F_WRLCK
        try:
            fcntl.fcntl(plain, _F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
            file.byte = byte
        except OSError:
            # A stranger has locked all of the file. Then nobody knows of duplicates after the end.
            pass
        os.lseek(plain, position, os.SEEK_SET)
        file.position = position
        file.plain = device_file
        self._plain[position] = file

    def _plain_is_left(self, file: OpenFile) -> bool:
        """Whether a duplicate of the plain file is left, which may still be used."""
        if file.plain is None or file.byte < 0:
            return False
        return file.plain.byte_is_locked(file.byte)

    def _forget_plain(self, file: OpenFile) -> None:
        file.plain = None
        self._plain.pop(file.position, None)

    def _sweep_plain(self) -> bool:
        """Some plain file was closed: forget those of which no duplicate is left.

        Whether no context is left that only duplicates keep.
        """
        for file in tuple(self._plain.values()):
            with self._lock:
                if file.plain is None or file.byte < 0 or self._plain_is_left(file):
                    continue
                self._forget_plain(file)
                ended = not file.readers
            if ended:
                self._release(file)
        return all(file.readers for file in tuple(self._plain.values()))

    def watch_fds(self) -> list[int]:
        """The descriptors of watches."""
        return [self._watch.fd] if self._watch is not None else []

    def count(self) -> int:
        """How many contexts are open."""
        return len(self._files)

    def has_readers(self, ctx: TeeContext) -> bool:
        """Whether a client holds a descriptor of ``ctx`` right now."""
        return self._has_readers(self._files[ctx])

    @staticmethod
    def _has_readers(file: OpenFile) -> bool:
        poller = select.poll()
        poller.register(file.writer, 0)
        return not any(mask & select.POLLERR for _, mask in poller.poll(0))


def _cloexec_flag(task: Task, fd: int) -> int:
    """The close-on-exec flag of another task's descriptor, as flag for ADDFD."""
    for line in task.fdinfo(fd).splitlines():
        if line.startswith(b"flags:"):
            return int(line.split()[1], 8) & os.O_CLOEXEC
    return 0
