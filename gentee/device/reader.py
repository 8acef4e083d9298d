# SPDX-License-Identifier: BSD-2-Clause
"""What a joiner lends to the TEE: a look at its program's tasks, where the TEE may not look itself.

With Yama's ptrace_scope 1 a process may read its descendants only, and the TEE that a program
joined is none of its ancestors; likewise where the TEE is another user's. The joiner is an ancestor
of all that it runs. It answers on sockets that the TEE sends it, a thread for each, one request at
a time, for tasks below it and for nobody else.

A request is a header and the bytes of its operation; the answer is an errno and bytes, or a
descriptor. Where memory is read the answer is a descriptor of ``/proc/TID/mem`` to read from: the
right to do so was looked at when it was opened. Writing is done here, since a write through that
file would ignore page protection.
"""

import errno
import os
import socket
import threading
from struct import Struct

from gentee.linux.process_memory import write_memory_from
from gentee.linux.task import Process, Task, parent_of, thread_group

REQUEST = Struct("<IIQ")  # operation tid argument
ANSWER = Struct("<i")  # errno

OPEN = 1  # begin to look at a task; what was known of that number is forgotten
CLOSE = 2
LINK = 3  # argument: descriptor. Answer: what it is, as /proc names it
IDENTITY = 4  # bytes: a path from the folder of descriptors. Answer: device, inode
FDINFO = 5  # argument: descriptor
MEMORY = 6  # answer: a descriptor to read memory from
WRITE = 7  # bytes: pieces, each PIECE and its bytes
GET_FD = 8  # argument: descriptor. Answer: a duplicate
MAPS = 9
EXE = 10
ALIVE = 11

PIECE = Struct("<QI")  # address size
DEVICE_INODE = Struct("<QQ")

MAX_REQUEST = 64 << 10
MAX_ANSWER = 128 << 10
_MAX_TASKS = 4096
_MAX_DEPTH = 4096  # of a process tree


class Reader:
    """Answers for the tasks below this process."""

    def __init__(self) -> None:
        self._tasks: dict[int, Task] = {}
        self._lock = threading.Lock()  # protects _tasks

    def serve(self, sock: socket.socket) -> None:
        """Answer on ``sock`` in a thread of its own, until the other side closes it."""
        threading.Thread(
            target=self._serve, args=(sock,), name="gentee-reader", daemon=True
        ).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            while True:
                try:
                    request = sock.recv(MAX_REQUEST)
                    if len(request) < REQUEST.size:
                        return
                    data, fd = self._answer(request)
                    if fd < 0:
                        sock.send(data)
                        continue
                    try:
                        socket.send_fds(sock, [data], [fd])
                    finally:
                        os.close(fd)
                except OSError:  # the TEE has gone
                    return

    def _answer(self, request: bytes) -> tuple[bytes, int]:
        operation, tid, argument = REQUEST.unpack_from(request)
        try:
            data, fd = self._do(operation, tid, argument, request[REQUEST.size :])
        except OSError as error:
            return ANSWER.pack(error.errno or errno.EIO), -1
        except (ValueError, OverflowError):
            return ANSWER.pack(errno.EINVAL), -1
        return ANSWER.pack(0) + data, fd

    def _do(self, operation: int, tid: int, argument: int, data: bytes) -> tuple[bytes, int]:
        if operation == OPEN:
            self._open(tid)
            return b"", -1
        if operation == CLOSE:
            self._close(tid)
            return b"", -1
        with self._lock:
            task = self._tasks.get(tid)
        if task is None:
            raise OSError(errno.ESRCH, "no such task")
        if operation == LINK:
            return os.readlink(b"%d" % argument, dir_fd=task.fd_dir), -1
        if operation == IDENTITY:
            return DEVICE_INODE.pack(*task.path_identity(data)), -1
        if operation == FDINFO:
            return task.fdinfo(argument), -1
        if operation == MEMORY:
            flags = os.O_RDONLY | os.O_CLOEXEC
            return b"", os.open("../mem", flags, dir_fd=task.fd_dir)
        if operation == WRITE:
            _write(task, data)
            return b"", -1
        if operation == GET_FD:
            return b"", task.get_fd(argument)
        if operation == MAPS:
            return b"", _whole_file(task, "../maps")
        if operation == EXE:
            return os.fsencode(task.exe()), -1
        if operation == ALIVE:
            if not task.is_alive():
                raise OSError(errno.ESRCH, "no such task")
            return b"", -1
        raise OSError(errno.EINVAL, "operation")

    def _open(self, tid: int) -> None:
        pid = thread_group(tid)
        if not is_below(pid):
            raise OSError(errno.EPERM, "not a task of this program")
        process = Process(pid)
        try:
            task = Task(tid, process)
        except BaseException:
            process.close()
            raise
        with self._lock:
            if len(self._tasks) >= _MAX_TASKS and tid not in self._tasks:
                oldest = next(iter(self._tasks))
                _forget(self._tasks.pop(oldest))
            old, self._tasks[tid] = self._tasks.get(tid), task
        if old is not None:
            _forget(old)

    def _close(self, tid: int) -> None:
        with self._lock:
            task = self._tasks.pop(tid, None)
        if task is not None:
            _forget(task)


def _forget(task: Task) -> None:
    task.close()
    task.process.close()


def is_below(pid: int) -> bool:
    """Whether ``pid`` is a descendant of this process, which is a child subreaper."""
    own = os.getpid()
    for _ in range(_MAX_DEPTH):
        pid = parent_of(pid)
        if pid == own:
            return True
        if pid <= 1:
            return False
    return False


def _write(task: Task, data: bytes) -> None:
    # Written one by one, as they may be larger than what a scattered write takes.
    if not task.is_alive():
        raise OSError(errno.ESRCH, "no such task")
    view = memoryview(bytearray(data))
    position = 0
    while position < len(view):
        if len(view) - position < PIECE.size:
            raise OSError(errno.EINVAL, "piece")
        address, size = PIECE.unpack_from(view, position)
        position += PIECE.size
        if size > len(view) - position:
            raise OSError(errno.EINVAL, "piece")
        write_memory_from(task.tid, address, view[position : position + size])
        position += size


def _whole_file(task: Task, name: str) -> int:
    """A memory file with what a file of /proc says: it can be more than a message holds."""
    source = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=task.fd_dir)
    fd = os.memfd_create("answer", os.MFD_CLOEXEC)
    try:
        while data := os.read(source, 1 << 16):
            os.write(fd, data)
    except BaseException:
        os.close(fd)
        raise
    finally:
        os.close(source)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
