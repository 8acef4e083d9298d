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
- inotify's queue can overflow (IN_Q_OVERFLOW) and watches can run out (ENOSPC). Then every buffer
  is asked.
"""

import ctypes
import errno
import fcntl
import os
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


def memory_file_seals(fd: int) -> int | None:
    """The seals of a memory file (memfd, or a file of a tmpfs); None for any other file."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return None


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

    ``add`` belongs to whoever makes files, ``read`` to the events thread.
    """

    def __init__(self) -> None:
        self.fd = _inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            raise oserror("inotify_init1")
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._unwatched: dict[int, Callable[[], None]] = {}  # by file descriptor

    def add(self, fd: int, callback: Callable[[], None]) -> int:
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

    def remove(self, handle: int) -> None:
        """Stop watching; before the watched descriptor is closed."""
        if handle < 0:
            self._unwatched.pop(-handle - 1, None)
        elif self._callbacks.pop(handle, None) is not None:
            _inotify_rm_watch(self.fd, handle)

    def sweep(self) -> None:
        """Call every callback whose file has no watch."""
        for callback in tuple(self._unwatched.values()):
            callback()

    def read(self) -> None:
        """Take the events that are there and call back for each file once."""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return
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
            callback = self._callbacks.get(watch)
            if callback is not None:
                callback()
        self.sweep()

    def close(self) -> None:
        os.close(self.fd)
