# SPDX-License-Identifier: BSD-2-Clause
"""Other tasks: their memory, their descriptors, who they are.

Some facts about tasks
======================

- A thread id can be used again as soon as the thread is gone. What we keep of a task is therefore
  a descriptor of its ``/proc/TID/fd`` folder: it belongs to that very task and answers ESRCH or
  ENOENT afterwards, whoever has the number by then. The look-up that every call needs anyway
  (which file is descriptor N?) goes through it, so the check costs nothing.
- ``/proc/TID/mem`` belongs to the address space that it was opened on. After an ``execve`` it
  reads nothing, without an error: a short read means open it again.
- An address space can have several processes: a child of ``vfork`` (``posix_spawn``), or of
  ``clone`` with CLONE_VM, has its parent's. When it calls ``execve`` the old one lives on in the
  parent, and a kept descriptor would go on reading that. So of such a child none is kept.
"""

import ctypes
import errno
import os
import select
import threading
from collections.abc import Sequence
from struct import Struct

from gentee.linux import arch
from gentee.linux.libc import libc, oserror, syscall
from gentee.linux.process_memory import (
    NotPermitted,
    read_memory_into,
    write_memory,
    write_memory_from,
)

# struct statx: stx_ino is at 32, stx_dev_major and stx_dev_minor at 136.
_statx_buffer = ctypes.c_char * 256
_STATX_FLAGS = 0x800 | 0x4000  # AT_NO_AUTOMOUNT, AT_STATX_DONT_SYNC
_STATX_INO = 0x100
_STATX_INODE = Struct("<Q")
_STATX_DEVICE = Struct("<II")
_statx = libc.statx
_statx.restype = ctypes.c_int
_statx.argtypes = (
    ctypes.c_int,  # dirfd
    ctypes.c_char_p,  # path
    ctypes.c_int,  # flags
    ctypes.c_uint,  # mask
    _statx_buffer,
)

_PIDFD_THREAD = os.O_EXCL  # <linux/pidfd.h>, since Linux 6.9
_KCMP_FILE = 0
_KCMP_VM = 1


class Process:
    """A client process: what is kept of it while it lives."""

    __slots__ = ("_sharer", "ended", "pid", "pidfd", "slow", "tasks", "told")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)  # readable when the process ends
        self.tasks: set[int] = set()
        self._sharer = -1  # whose address space it has as well; 0: it has its own; -1: not known
        self.ended = False
        self.slow = 0  # not 0: it made the receiving thread wait
        self.told = False  # its user was told that its memory cannot be read

    def has_ended(self) -> bool:
        """Whether the process has ended: its number may be another's by now."""
        if self.ended:
            return True
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(0))

    def check_alive(self) -> None:
        """OSError EFAULT once the process has ended."""
        if self.has_ended():
            raise OSError(errno.EFAULT, "the process has ended")

    def shares_memory(self) -> bool:
        """Whether the address space is its parent's too; that ends with its execve."""
        if self._sharer < 0:
            self._sharer = parent_of(self.pid)
        if self._sharer and not same_memory(self.pid, self._sharer):
            self._sharer = 0
        return self._sharer != 0

    def close(self) -> None:
        self.ended = True
        os.close(self.pidfd)


class AddressSpace:
    """The memory of a process as it is at one time. After an ``execve`` it is nobody's any more."""

    __slots__ = ("_lock", "_mem", "_users", "process")

    def __init__(self, process: Process, mem: int) -> None:
        self.process = process
        self._mem = os.dup(mem)
        self._users = 1
        self._lock = threading.Lock()  # protects _users

    def get(self) -> "AddressSpace":
        """Take a reference."""
        with self._lock:
            self._users += 1
        return self

    def put(self) -> None:
        """Drop a reference."""
        with self._lock:
            self._users -= 1
            last = not self._users
        if last:
            os.close(self._mem)

    def check_current(self, address: int) -> None:
        """OSError EFAULT once the process has ended or runs another program."""
        self.process.check_alive()
        try:
            if not os.pread(self._mem, 1, address):
                raise OSError(errno.EFAULT, "the process runs another program")
        except OSError as error:
            raise OSError(errno.EFAULT, "client memory") from error

    def read_into(self, address: int, view: memoryview) -> None:
        """Fill ``view`` from ``address``; OSError EFAULT if any byte is out."""
        read_memory_into(self.process.pid, address, view)

    def write_from(self, address: int, view: memoryview) -> None:
        """Copy ``view`` to ``address``; OSError EFAULT if any byte cannot be written."""
        write_memory_from(self.process.pid, address, view)


class Task:
    """A thread of a client: its descriptors and its memory."""

    __slots__ = ("_mem", "_space", "fd_dir", "links", "process", "tid")

    _MAX_LINKS = 8  # descriptors kept open for the look-up of as many of the task's

    def __init__(self, tid: int, process: Process) -> None:
        self.tid = tid
        self.process = process
        self.fd_dir = os.open(f"/proc/{tid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.links: dict[int, int] = {}
        self._mem = -1
        self._space: AddressSpace | None = None

    def close(self) -> None:
        os.close(self.fd_dir)
        for handle in self.links.values():
            os.close(handle)
        self.links.clear()
        self._close_mem()

    def link(self, fd: int) -> bytes:
        """What the kernel calls the file of descriptor ``fd``, such as ``b"pipe:[4711]"``.

        The first few descriptors are asked through a kept handle of the symbolic link itself: it
        names the number, not the file, so it always tells what the number means now, a quarter
        faster than a path does.
        """
        handle = self.links.get(fd)
        if handle is None:
            name = b"%d" % fd
            if len(self.links) >= self._MAX_LINKS:
                return os.readlink(name, dir_fd=self.fd_dir)
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                handle = os.open(name, flags, dir_fd=self.fd_dir)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                return os.readlink(name, dir_fd=self.fd_dir)
            self.links[fd] = handle
        return os.readlink(b"", dir_fd=handle)

    def file_identity(self, fd: int) -> tuple[int, int]:
        """(device, inode) of the file of descriptor ``fd``."""
        return self.path_identity(b"%d" % fd)

    def path_identity(self, name: bytes) -> tuple[int, int]:
        """(device, inode) of a file by its path, from the folder of the task's descriptors.

        Its file system is not asked for it: it may be one that the client itself serves (FUSE), and
        which never answers.
        """
        buffer = _statx_buffer()
        if _statx(self.fd_dir, name, _STATX_FLAGS, _STATX_INO, buffer) < 0:
            raise oserror("statx")
        (inode,) = _STATX_INODE.unpack_from(buffer, 32)
        return os.makedev(*_STATX_DEVICE.unpack_from(buffer, 136)), inode

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``; OSError EFAULT if any of them cannot be read."""
        data = self.read_some(address, size)
        if len(data) != size:
            raise OSError(errno.EFAULT, "short read of client memory")
        return data

    def read_some(self, address: int, size: int) -> bytes:
        """At most ``size`` bytes at ``address``, fewer where the mapping ends; EFAULT for none."""
        try:
            data = os.pread(self._mem, size, address)
        except (OSError, OverflowError) as error:
            if self._mem >= 0:
                raise OSError(errno.EFAULT, "client memory") from error
            data = b""
        if not data and size:
            # Not open yet, or the address space was left behind by execve.
            self._reopen()
            try:
                data = os.pread(self._mem, size, address)
            except (OSError, OverflowError) as error:
                raise OSError(errno.EFAULT, "client memory") from error
            finally:
                if self.process.shares_memory():
                    self._close_mem()
            if not data:
                raise OSError(errno.EFAULT, "client memory")
        return data

    def _reopen(self) -> None:
        self._close_mem()
        # Through the kept folder, so that it is the memory of this very task.
        try:
            self._mem = os.open("../mem", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd_dir)
        except PermissionError as error:
            raise NotPermitted("open") from error

    def _close_mem(self) -> None:
        if self._mem >= 0:
            os.close(self._mem)
            self._mem = -1
        if self._space is not None:
            self._space.put()
            self._space = None

    def address_space(self) -> AddressSpace:
        """The memory as it is now, by a new reference: what ``read`` last read."""
        if self._mem < 0:
            self._reopen()
        if self._space is None:
            self._space = self._new_space(self._mem)
        return self._space.get()

    def _new_space(self, mem: int) -> AddressSpace:
        return AddressSpace(self.process, mem)

    def is_readable(self) -> bool:
        """Whether this program has the right to read the task's memory, now."""
        try:
            os.close(os.open("../mem", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd_dir))
        except PermissionError:
            return False
        except OSError:  # it has ended
            pass
        return True

    def write(self, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Write each ``(address, bytes)``, respecting page protection; OSError EFAULT."""
        write_memory(self.tid, pieces)

    def fdinfo(self, fd: int) -> bytes:
        """/proc/TID/fdinfo/N: position, flags and more of descriptor ``fd``."""
        info = os.open(f"../fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd_dir)
        try:
            return os.read(info, 4096)
        finally:
            os.close(info)

    def get_fd(self, fd: int) -> int:
        """A duplicate, in this process, of the task's descriptor: the same open file."""
        if self.tid == self.process.pid:
            return pidfd_getfd(self.process.pidfd, fd)
        # A thread can have descriptors of its own (CLONE_FILES not set).
        try:
            pidfd = os.pidfd_open(self.tid, _PIDFD_THREAD)
        except OSError:  # before Linux 6.9 only processes have pidfds
            return pidfd_getfd(self.process.pidfd, fd)
        try:
            return pidfd_getfd(pidfd, fd)
        finally:
            os.close(pidfd)

    def is_alive(self) -> bool:
        """Whether this very task still exists, zombies included."""
        try:
            os.stat("../comm", dir_fd=self.fd_dir)
        except OSError:
            return False
        return True

    def open_file(self, path: str, flags: int) -> int:
        """Open ``path`` as this task would name it, relative to its root folder."""
        return os.open(f"../root/{path.lstrip('/')}", flags | os.O_CLOEXEC, dir_fd=self.fd_dir)

    def status(self) -> dict[str, str]:
        """/proc/TID/status; ids in it are those of our own user namespace."""
        fd = os.open("../status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd_dir)
        with open(fd, encoding="utf-8", errors="replace") as lines:
            return dict(line.rstrip("\n").split(":\t", 1) for line in lines if ":\t" in line)

    def exe(self) -> str:
        """The path of the program that the task runs."""
        return os.readlink("../exe", dir_fd=self.fd_dir)

    def maps(self) -> list[tuple[int, int, str]]:
        """The mappings of the address space: (start, end, permissions), ascending."""
        return read_maps(os.open("../maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd_dir))


def read_maps(fd: int) -> list[tuple[int, int, str]]:
    """What /proc/TID/maps says, from its descriptor, which is closed: as :meth:`Task.maps`."""
    result = []
    with open(fd, "rb") as lines:
        for line in lines:
            span, permissions, _rest = line.split(b" ", 2)
            start, end = span.split(b"-")
            result.append((int(start, 16), int(end, 16), permissions.decode()))
    return result


def thread_group(tid: int) -> int:
    """The process that thread ``tid`` belongs to; raises ``OSError`` when it is gone."""
    return _status_number(tid, b"Tgid:")


def parent_of(pid: int) -> int:
    """The parent of a process; raises ``OSError`` when it is gone."""
    return _status_number(pid, b"PPid:")


def _status_number(tid: int, field: bytes) -> int:
    with open(f"/proc/{tid}/status", "rb") as lines:
        for line in lines:
            if line.startswith(field):
                return int(line[len(field) :])
    raise OSError(errno.ESRCH, "no such task")


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """pidfd_getfd(2): a duplicate of descriptor ``fd`` of another process."""
    duplicate = syscall("pidfd_getfd", arch.NATIVE["pidfd_getfd"], pidfd, fd, 0)
    os.set_inheritable(duplicate, False)
    return duplicate


def same_file(tid: int, fd: int, own_fd: int) -> bool:
    """kcmp(2) KCMP_FILE: whether two descriptors are duplicates of one open file."""
    number = arch.NATIVE["kcmp"]
    return syscall("kcmp", number, tid, os.getpid(), _KCMP_FILE, fd, own_fd) == 0


def same_memory(pid: int, other: int) -> bool:
    """kcmp(2) KCMP_VM: whether two processes have one address space. True if nobody may know."""
    try:
        return syscall("kcmp", arch.NATIVE["kcmp"], pid, other, _KCMP_VM, 0, 0) == 0
    except OSError as error:
        return error.errno != errno.ESRCH
