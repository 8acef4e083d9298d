# SPDX-License-Identifier: BSD-2-Clause
"""Shared memory that ends with its last descriptor and mapping: memfd, seals, inotify, leases.

Some facts about noticing that nobody has a file open
=====================================================

- A memfd that its holder can truncate kills every process that maps it with SIGBUS. Sealed against
  shrinking, growing and further seals it cannot be.
- A descriptor of the same *open file* would make our own ends and the client's one. So the client
  gets an open of its own (through ``/proc/self/fd``), and what it duplicates or maps counts there.
- inotify on the inode says when an open file of it ends (its last descriptor and mapping), but
  not whether another one is left: a client can open ``/proc/self/fd/N`` again, read-only too.
- A write lease on our own open succeeds only while no other open file of the inode exists. It
  asks the inode's counts, so it answers exactly, and costs one call.
- Whoever opens a file on which somebody holds a lease makes the kernel send SIGIO to the holder,
  whose default is the end of the program. A client can do so with a descriptor that counts as no
  open (O_PATH), so a program that calls :func:`only_open` ignores SIGIO.
- The kernel tells of a close before it has taken the file out of those counts. Who asks at once may
  come too early, and no further event follows: so who is told that a file is in use asks again.
- inotify's queue can overflow (IN_Q_OVERFLOW) and watches can run out (ENOSPC). Then every buffer
  is asked.
"""

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from struct import Struct

from gentee.linux.libc import libc, oserror

_inotify_init1 = libc.inotify_init1
_inotify_init1.restype = ctypes.c_int
_inotify_init1.argtypes = (ctypes.c_int,)
_inotify_add_watch = libc.inotify_add_watch
_inotify_add_watch.restype = ctypes.c_int
_inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_inotify_rm_watch = libc.inotify_rm_watch
_inotify_rm_watch.restype = ctypes.c_int
_inotify_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)

IN_CLOSE_WRITE = 0x8
IN_CLOSE_NOWRITE = 0x10
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
_EVENT = Struct("<iIII")  # wd mask cookie len

PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
WRITE_SEALS = fcntl.F_SEAL_WRITE | 0x10  # F_SEAL_FUTURE_WRITE
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

_TMPFS_MAGIC = 0x01021994
_PROC_MAGIC = 0x9FA0  # PROC_SUPER_MAGIC
_statfs_buffer = ctypes.c_long * 32  # struct statfs has less; f_type is its first word
_fstatfs = libc.fstatfs
_fstatfs.restype = ctypes.c_int
_fstatfs.argtypes = (ctypes.c_int, _statfs_buffer)


def page_align(size: int) -> int:
    """``size`` rounded up to whole pages."""
    return (size + PAGE_SIZE - 1) & -PAGE_SIZE


def create_shm(size: int, name: str = "tee_shm") -> int:
    """A new memfd of ``size`` bytes that cannot change its size; raises OSError ENOMEM.

    The descriptor is of an open of its own, so that leases on it count other opens only.
    """
    memfd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(memfd, size)
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, SEALS)
        return reopen(memfd, os.O_RDWR)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        raise OSError(errno.ENOMEM, "shared memory") from error
    finally:
        os.close(memfd)


def reopen(fd: int, flags: int) -> int:
    """Another open file of the same inode."""
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)


def readonly_copy(data: bytes, name: str) -> int:
    """A descriptor of a new memfd with these bytes, at least one, that can only be read."""
    fd = create_shm(max(1, len(data)), name)
    try:
        os.pwrite(fd, data, 0)
        return reopen(fd, os.O_RDONLY)
    finally:
        os.close(fd)


def memory_file_seals(fd: int) -> int | None:
    """The seals of a memory file (memfd, or a file of a tmpfs); None for any other file.

    Huge pages do not count: they can run out, which is SIGBUS for whoever maps them.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)  # of tmpfs and hugetlbfs only
    except OSError:
        return None
    return seals if _file_system(fd) == _TMPFS_MAGIC else None


def is_of_proc(fd: int) -> bool:
    """Whether ``fd`` is a file of procfs. A file system of somebody's own may take its time."""
    return _file_system(fd) == _PROC_MAGIC


def _file_system(fd: int) -> int:
    buffer = _statfs_buffer()
    if _fstatfs(fd, buffer) < 0:
        raise oserror("fstatfs")
    return buffer[0]


def only_open(fd: int) -> bool:
    """Whether ``fd`` is the only open file of its inode: nobody else has or maps it."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


class CloseWatch:
    """Calls back when the last foreign open file of a watched descriptor's inode may have ended.

    A callback answers whether the file has ended; if not it is called again a few times, and by
    :meth:`settle`. ``add`` belongs to whoever makes files, the others may be called in any thread.

    :param later: calls a function after so many seconds, as ``EventLoop.call_later``.
    """

    _AGAIN = (0.001, 0.01, 0.1, 1.0)  # seconds: a task that closes a file can be held up

    def __init__(self, later: Callable[[float, Callable[[], None]], object] | None = None) -> None:
        self.fd = _inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            raise oserror("inotify_init1")
        self._later = later
        self._callbacks: dict[int, Callable[[], bool]] = {}
        self._unwatched: dict[int, Callable[[], bool]] = {}  # by file descriptor
        self._in_use: set[int] = set()  # handles of which something was closed, but not the last
        self._lock = threading.RLock()  # held while callbacks run

    def add(self, fd: int, callback: Callable[[], bool]) -> int:
        """Watch the inode of ``fd``; a handle for :meth:`remove`."""
        watch = _inotify_add_watch(
            self.fd, b"/proc/self/fd/%d" % fd, IN_CLOSE_WRITE | IN_CLOSE_NOWRITE
        )
        if watch < 0:
            if ctypes.get_errno() not in (errno.ENOSPC, errno.ENOMEM):
                raise oserror("inotify_add_watch")
            # No watches left: such files are asked whenever any event comes, and by sweep().
            self._unwatched[fd] = callback
            return -fd - 1
        self._callbacks[watch] = callback
        return int(watch)

    def remove(self, handle: int) -> bool:
        """Stop watching; before the watched descriptor is closed. Whether it was watched.

        When it returns the callback does not run, unless it is the caller.
        """
        with self._lock:
            if handle < 0:
                return self._unwatched.pop(-handle - 1, None) is not None
            if self._callbacks.pop(handle, None) is None:
                return False
            self._in_use.discard(handle)
            _inotify_rm_watch(self.fd, handle)
            return True

    def sweep(self) -> None:
        """Call every callback whose file has no watch."""
        with self._lock:
            for callback in tuple(self._unwatched.values()):
                callback()

    def read(self) -> None:
        """Take the events that are there and call back for each file once."""
        with self._lock:
            if self._read():
                self.sweep()

    def settle(self) -> None:
        """Call back for every file that has ended by now."""
        with self._lock:
            self._read()
            for handle in tuple(self._in_use):
                self._ask(handle, len(self._AGAIN))
            self.sweep()

    def _ask(self, handle: int, attempt: int = 0) -> None:
        with self._lock:
            callback = self._callbacks.get(handle)
            if callback is None or callback():
                self._in_use.discard(handle)
                return
            self._in_use.add(handle)
        if self._later is not None and attempt < len(self._AGAIN):
            self._later(self._AGAIN[attempt], lambda: self._ask(handle, attempt + 1))

    def _read(self) -> bool:
        if self.fd < 0:  # it was closed while somebody was on the way here
            return False
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return False
        seen: set[int] = set()
        overflow = False
        position = 0
        while position < len(data):
            watch, mask, _cookie, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size + length
            if mask & IN_Q_OVERFLOW:
                overflow = True
            elif not mask & IN_IGNORED:
                seen.add(watch)
        for watch in tuple(self._callbacks) if overflow else tuple(seen):
            self._ask(watch)
        return True

    def close(self) -> None:
        """Call back no more. It can take some milliseconds."""
        with self._lock:
            self._callbacks.clear()
            self._unwatched.clear()
            self._in_use.clear()
            fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
