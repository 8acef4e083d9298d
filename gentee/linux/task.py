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
- A write through ``/proc/TID/mem`` ignores page protection. ``process_vm_writev`` does not.
- Neither is a given: with Yama's ptrace_scope 1 only descendants may be read, and a program that
  is not dumpable (or not readable) only by the superuser. That is EACCES or EPERM here, and the
  caller's call fails with EFAULT.
"""

import ctypes
import errno
import itertools
import os
import resource
import select
import threading
from collections.abc import Callable, Sequence
from struct import Struct

from gentee.linux import arch
from gentee.linux.libc import libc, oserror, syscall

_process_vm_readv = libc.process_vm_readv
_process_vm_writev = libc.process_vm_writev
for _function in (_process_vm_readv, _process_vm_writev):
    _function.restype = ctypes.c_ssize_t
    _function.argtypes = (
        ctypes.c_int,  # pid
        ctypes.c_void_p,  # local iovec[]
        ctypes.c_ulong,
        ctypes.c_void_p,  # remote iovec[]
        ctypes.c_ulong,
        ctypes.c_ulong,  # flags
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

# The same function once more, for _ScatterWriter's arguments, which have their C types already.
_scatter = libc["process_vm_writev"]
_scatter.restype = ctypes.c_ssize_t

_Iovec = ctypes.c_uint64 * 2  # base, length

_MAX_PIECES = 32  # of one scattered write: a result and three words for each parameter fit
_MAX_SCATTER = 4096  # bytes

_PIDFD_THREAD = os.O_EXCL  # <linux/pidfd.h>, since Linux 6.9
_KCMP_FILE = 0
_KCMP_VM = 1


class _ScatterWriter:
    """Prepared iovecs of one thread, so that a write costs one system call and no allocation."""

    __slots__ = ("_anchors", "arguments", "count", "data", "local", "remote", "tid")

    def __init__(self) -> None:
        self.data = bytearray(_MAX_SCATTER)
        anchor = (ctypes.c_char * _MAX_SCATTER).from_buffer(self.data)
        local = _Iovec(ctypes.addressof(anchor), 0)
        remote = (_Iovec * _MAX_PIECES)()
        self._anchors = (anchor, local, remote)
        self.local = memoryview(local).cast("B").cast("Q")
        self.remote = memoryview(remote).cast("B").cast("Q")
        # Arguments that need no conversion: a quarter of what the call costs.
        self.tid = ctypes.c_int()
        self.count = ctypes.c_ulong()
        self.arguments = (
            self.tid,
            ctypes.c_void_p(ctypes.addressof(local)),
            ctypes.c_ulong(1),
            ctypes.c_void_p(ctypes.addressof(remote)),
            self.count,
            ctypes.c_ulong(0),
        )


_of_thread = threading.local()
_NO_RIGHT = (errno.EPERM, errno.EACCES)


class NotPermitted(OSError):
    """EFAULT because this program has no right to the memory, whatever is there."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.EFAULT, f"{name}: not permitted")


def write_memory(tid: int, pieces: Sequence[tuple[int, bytes]]) -> None:
    """Write each ``(address, bytes)`` into the memory of ``tid``, respecting page protection.

    One system call, or more where there are more pieces than one takes. No piece is larger than
    4096 bytes. Raises ``OSError`` EFAULT where any byte could not be written.
    """
    if len(pieces) > _MAX_PIECES:
        for first in range(0, len(pieces), _MAX_PIECES):
            write_memory(tid, pieces[first : first + _MAX_PIECES])
        return
    try:
        writer: _ScatterWriter = _of_thread.writer
    except AttributeError:
        writer = _of_thread.writer = _ScatterWriter()
    data, remote = writer.data, writer.remote
    position = index = 0
    try:
        for address, piece in pieces:
            size = len(piece)
            data[position : position + size] = piece
            remote[index] = address
            remote[index + 1] = size
            position += size
            index += 2
    except BufferError:
        # Together they are more than the buffer has room for, and it cannot grow.
        if len(pieces) == 1:
            raise
        for each in pieces:
            write_memory(tid, (each,))
        return
    writer.local[1] = position
    writer.tid.value = tid
    writer.count.value = index >> 1
    done = _scatter(*writer.arguments)
    if done != position:
        if done < 0 and ctypes.get_errno() in _NO_RIGHT:
            raise NotPermitted("process_vm_writev")
        raise OSError(errno.EFAULT, "process_vm_writev")


def _transfer(function: object, name: str, tid: int, address: int, view: memoryview) -> None:
    size = view.nbytes
    if not size:
        return
    if view.readonly:
        view = memoryview(bytearray(view))
    anchor = ctypes.c_char.from_buffer(view)  # a type for each size would cost more
    local_base = ctypes.addressof(anchor)
    done = 0
    while done < size:
        # The kernel takes at most 2 GiB - 4 KiB at once.
        step = min(size - done, 1 << 30)
        local = _Iovec(local_base + done, step)
        remote = _Iovec(address + done, step)
        moved = function(tid, local, 1, remote, 1, 0)  # type: ignore[operator]
        if moved < 0:
            error = oserror(name)
            if error.errno in _NO_RIGHT:
                raise NotPermitted(name)
            raise OSError(errno.EFAULT, str(error))
        if moved == 0:
            raise OSError(errno.EFAULT, name)
        done += moved


def read_memory_into(tid: int, address: int, view: memoryview) -> None:
    """Fill ``view`` (writable) from ``address`` of ``tid``; OSError EFAULT if any byte is out."""
    _transfer(_process_vm_readv, "process_vm_readv", tid, address, view)


def write_memory_from(tid: int, address: int, view: memoryview) -> None:
    """Copy ``view`` to ``address`` of ``tid``; OSError EFAULT if any byte cannot be written."""
    _transfer(_process_vm_writev, "process_vm_writev", tid, address, view)


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


class TaskTable:
    """The tasks that made a call, by thread id, and their processes.

    ``tasks`` may be looked up by any thread; all changes are made here, under a lock. Dead threads
    tell nobody of their end, so each new one has some old ones looked after.

    :param in_use: whether somebody is at work for the task of a thread id: it is not closed then.
    :param make_task: the task of a thread id and its process.
    """

    _MAX_TASKS = 1024
    _SHARE = 8  # of all descriptors that this program may have, as many are tasks at most
    _LOOKED_AFTER = 2  # old tasks for each new one

    def __init__(
        self,
        in_use: Callable[[int], bool] = lambda _tid: False,
        make_task: Callable[[int, Process], Task] = Task,
    ) -> None:
        limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._max_tasks = self._MAX_TASKS
        if limit != resource.RLIM_INFINITY:
            self._max_tasks = max(1, min(self._MAX_TASKS, limit // self._SHARE))
        self.tasks: dict[int, Task] = {}
        self.processes: dict[int, Process] = {}
        self._in_use = in_use
        self._make_task = make_task
        self._lock = threading.Lock()  # protects both, and which tasks a process has

    def add(self, tid: int) -> tuple[Task, bool]:
        """The task of ``tid``, new in the table, and whether its process is new too."""
        pid = thread_group(tid)
        with self._lock:
            known = self.tasks.get(tid)
            if known is not None:
                if known.is_alive():
                    return known, False
                self._discard(tid)
            process = self.processes.get(pid)
            if process is not None and process.has_ended():
                process = None  # its end was not yet noticed, and its number is another's already
            is_new = process is None
            if process is None:
                process = Process(pid)
            try:
                task = self._new_task(tid, process)
            except OSError:
                if is_new:
                    process.close()
                raise
            if is_new:
                self.processes[pid] = process
            self._look_after()
            process.tasks.add(tid)
            self.tasks[tid] = task
        return task, is_new

    def _new_task(self, tid: int, process: Process) -> Task:
        try:
            return self._make_task(tid, process)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        # No descriptor left: those of the oldest tasks are the easiest to do without.
        for old in tuple(itertools.islice(self.tasks, len(self.tasks) // 2 + 1)):
            if not self._in_use(old):
                self._discard(old)
        return self._make_task(tid, process)

    def _look_after(self) -> None:
        for tid in tuple(itertools.islice(self.tasks, self._LOOKED_AFTER)):
            if self._in_use(tid):
                continue
            task = self.tasks[tid]
            # A program may start threads without end. Forgetting one that lives costs its next call
            # a look-up.
            if len(self.tasks) >= self._max_tasks or not task.is_alive():
                self._discard(tid)
            else:
                del self.tasks[tid]  # to the end of the order
                self.tasks[tid] = task

    def discard(self, tid: int) -> None:
        """Forget a task: it is gone, or its number belongs to another by now."""
        with self._lock:
            self._discard(tid)

    def _discard(self, tid: int) -> None:
        task = self.tasks.pop(tid, None)
        if task is not None:
            task.process.tasks.discard(tid)
            task.close()

    def pop_process(self, process: Process) -> list[Task]:
        """Forget a process that ended; its tasks, which the caller closes, and the process too."""
        with self._lock:
            if self.processes.get(process.pid) is process:
                del self.processes[process.pid]
            tasks = (self.tasks.get(tid) for tid in process.tasks)
            mine = [task for task in tasks if task is not None and task.process is process]
            for task in mine:
                del self.tasks[task.tid]
            process.tasks.clear()
        return mine
