# SPDX-License-Identifier: BSD-2-Clause
"""Clients that the TEE may not look at itself: their joiner does (:mod:`gentee.device.reader`).

Each task is first tried directly, and its joiner is asked where that is refused. A joiner that does
not answer is like a client whose memory does not: a receiving thread that waits for it is replaced
(:mod:`gentee.linux.notify`). It may lie, about its own program's tasks only: who they are the
kernel says.
"""

import errno
import os
import socket
import threading
from collections.abc import Sequence

from gentee.device import control, reader
from gentee.linux.process_memory import NotPermitted, write_memory
from gentee.linux.shm import is_of_proc, memory_file_seals
from gentee.linux.task import AddressSpace, Process, Task, read_maps

_PATIENCE = 10.0  # seconds for an answer
_MAX_CHANNELS = 32
_STEP = 32 << 10  # bytes of one write
_MAX_MAPS = 64 << 20


class Bringer:
    """Asks the joiner of one program.

    :param connection: the control socket that the program joined by: channels are sent there.
    :param always: ask it even where the TEE may look itself.
    """

    def __init__(self, connection: socket.socket, *, always: bool = False) -> None:
        self.always = always
        self.needed = always  # something was refused
        self._connection = connection
        self._lock = threading.Lock()  # protects the two below
        self._free: list[socket.socket] = []
        self._channels: set[socket.socket] = set()
        self._room = threading.BoundedSemaphore(_MAX_CHANNELS)
        self._closed = False

    def ask(self, operation: int, tid: int, argument: int = 0, data: bytes = b"") -> bytes:
        """One request; OSError as the joiner says, or EPERM if it says nothing."""
        answer, fds = self._request(operation, tid, argument, data)
        control.close_all(fds)
        return answer

    def _request(
        self, operation: int, tid: int, argument: int, data: bytes = b""
    ) -> tuple[bytes, list[int]]:
        self.needed = True
        if not self._room.acquire(timeout=_PATIENCE):
            raise OSError(errno.EPERM, "the joiner does not answer")
        try:
            return self._ask(reader.REQUEST.pack(operation, tid, argument) + data)
        finally:
            self._room.release()

    def _ask(self, request: bytes) -> tuple[bytes, list[int]]:
        channel = self._take()
        try:
            channel.send(request)
            answer, fds, flags, _address = socket.recv_fds(channel, reader.MAX_ANSWER, 1)
            fds = list(fds)
            if len(answer) < reader.ANSWER.size or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                control.close_all(fds)
                raise OSError(errno.EPERM, "the joiner's answer is none")
        except OSError as error:
            # It may come late, and must not be taken for another's.
            self._drop(channel)
            raise OSError(errno.EPERM, "the joiner does not answer") from error
        with self._lock:
            self._free.append(channel)
        (number,) = reader.ANSWER.unpack_from(answer)
        if number:
            control.close_all(fds)
            raise OSError(number if 0 < number < 4096 else errno.EIO, "as the joiner says")
        return answer[reader.ANSWER.size :], fds

    def ask_fd(self, operation: int, tid: int, argument: int = 0) -> int:
        """A request that is answered by a descriptor."""
        _data, fds = self._request(operation, tid, argument)
        if not fds:
            raise OSError(errno.EPERM, "the joiner's answer is none")
        return fds[0]

    def _take(self) -> socket.socket:
        with self._lock:
            if self._closed:
                raise OSError(errno.EPERM, "the joiner is gone")
            if self._free:
                return self._free.pop()
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                mine.settimeout(_PATIENCE)
                message = control.encode(control.READER)
                socket.send_fds(self._connection, [message], [theirs.fileno()], socket.MSG_DONTWAIT)
            except OSError as error:
                mine.close()
                raise OSError(errno.EPERM, "the joiner is gone") from error
        with self._lock:
            self._channels.add(mine)
        return mine

    def _drop(self, channel: socket.socket) -> None:
        with self._lock:
            self._channels.discard(channel)
        channel.close()

    def close(self) -> None:
        """Who waits for an answer gets EPERM."""
        with self._lock:
            self._closed = True
            channels, self._channels = self._channels, set()
            self._free.clear()
        for channel in channels:
            try:
                channel.shutdown(socket.SHUT_RDWR)
            except OSError:  # dropped just now
                pass
            channel.close()

    # Memory.

    def open_memory(self, tid: int) -> int:
        """A descriptor to read a task's memory from."""
        fd = self.ask_fd(reader.MEMORY, tid)
        # Any other file could be one that never answers, and is kept. The name alone says nothing:
        # it is that of the joiner's own mounts.
        name = os.readlink(f"/proc/self/fd/{fd}")
        if not (name.startswith("/proc/") and name.endswith("/mem") and is_of_proc(fd)):
            os.close(fd)
            raise OSError(errno.EPERM, "the joiner's answer is none")
        return fd

    def write(self, tid: int, pieces: Sequence[tuple[int, bytes]]) -> None:
        """As :func:`gentee.linux.process_memory.write_memory`."""
        data = b"".join(reader.PIECE.pack(at, len(piece)) + piece for at, piece in pieces)
        try:
            try:
                self.ask(reader.WRITE, tid, 0, data)
            except ProcessLookupError:  # it is not known there, or another has the number by now
                self.ask(reader.OPEN, tid)
                self.ask(reader.WRITE, tid, 0, data)
        except OSError as error:
            raise OSError(errno.EFAULT, "client memory") from error

    def write_memory(self, tid: int, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Write into a task's memory, directly or not; OSError EFAULT."""
        if not self.always:
            try:
                write_memory(tid, pieces)
                return
            except NotPermitted:
                pass
        self.write(tid, pieces)

    def make_task(self, tid: int, process: Process) -> Task:
        return BroughtTask(tid, process, self)


class BroughtSpace(AddressSpace):
    """Memory that is read through a descriptor which the joiner opened."""

    __slots__ = ("_bringer",)

    def __init__(self, process: Process, mem: int, bringer: Bringer) -> None:
        super().__init__(process, mem)
        self._bringer = bringer

    def read_into(self, address: int, view: memoryview) -> None:
        if not self._bringer.needed:
            super().read_into(address, view)
            return
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._mem, [view[done:]], address + done)
            except (OSError, OverflowError) as error:
                raise OSError(errno.EFAULT, "client memory") from error
            if not count:
                raise OSError(errno.EFAULT, "client memory")
            done += count

    def write_from(self, address: int, view: memoryview) -> None:
        if not self._bringer.needed:
            super().write_from(address, view)
            return
        for start in range(0, len(view), _STEP):
            piece = bytes(view[start : start + _STEP])
            self._bringer.write(self.process.pid, ((address + start, piece),))


class BroughtTask(Task):
    """A task that its joiner looks at, as far as this program may not."""

    __slots__ = ("_bringer", "_is_known")

    def __init__(self, tid: int, process: Process, bringer: Bringer) -> None:
        self._bringer = bringer
        self._is_known = False  # to the joiner
        if not bringer.always:
            try:
                super().__init__(tid, process)
                return
            except PermissionError:
                pass
        self.tid = tid
        self.process = process
        self.fd_dir = -1  # it is closed to us
        self.links = {}
        self._mem = -1
        self._space = None
        self._bringer.ask(reader.OPEN, tid)
        self._is_known = True

    def close(self) -> None:
        if self.fd_dir >= 0:
            super().close()
        else:
            self._close_mem()
        if self._is_known:
            try:
                self._bringer.ask(reader.CLOSE, self.tid)
            except OSError:  # the joiner has gone, and what it knew
                pass

    def _ask(self, operation: int, argument: int = 0, data: bytes = b"") -> bytes:
        self._make_known()
        return self._bringer.ask(operation, self.tid, argument, data)

    def _make_known(self) -> None:
        if not self._is_known:
            self._bringer.ask(reader.OPEN, self.tid)
            # As this one still is, that is the one which the joiner found by its number.
            if not super().is_alive():
                raise OSError(errno.ESRCH, "no such task")
            self._is_known = True

    def link(self, fd: int) -> bytes:
        if self.fd_dir >= 0:
            return super().link(fd)
        return self._ask(reader.LINK, fd)

    def path_identity(self, name: bytes) -> tuple[int, int]:
        if self.fd_dir >= 0:
            return super().path_identity(name)
        answer = self._ask(reader.IDENTITY, 0, name)
        if len(answer) != reader.DEVICE_INODE.size:
            raise OSError(errno.EPERM, "the joiner's answer is none")
        device, inode = reader.DEVICE_INODE.unpack(answer)
        return device, inode

    def fdinfo(self, fd: int) -> bytes:
        if self.fd_dir >= 0:
            return super().fdinfo(fd)
        return self._ask(reader.FDINFO, fd)

    def _reopen(self) -> None:
        if not self._bringer.always:
            try:
                if self.fd_dir >= 0:
                    super()._reopen()
                    return
            except NotPermitted:
                pass
        self._close_mem()
        try:
            self._make_known()
            self._mem = self._bringer.open_memory(self.tid)
        except PermissionError as error:
            raise NotPermitted("open") from error

    def _new_space(self, mem: int) -> AddressSpace:
        return BroughtSpace(self.process, mem, self._bringer)

    def is_readable(self) -> bool:
        if self.fd_dir >= 0 and super().is_readable():
            return True
        try:
            self._make_known()
            os.close(self._bringer.open_memory(self.tid))
        except PermissionError:
            return False
        except OSError:  # it has ended
            pass
        return True

    def write(self, pieces: Sequence[tuple[int, bytes]]) -> None:
        self._bringer.write_memory(self.tid, pieces)

    def get_fd(self, fd: int) -> int:
        if not self._bringer.always:
            try:
                return super().get_fd(fd)
            except PermissionError:
                pass
        self._make_known()
        return self._bringer.ask_fd(reader.GET_FD, self.tid, fd)

    def is_alive(self) -> bool:
        if self.fd_dir >= 0:
            return super().is_alive()
        try:
            self._ask(reader.ALIVE)
        except OSError:
            return False
        return True

    def status(self) -> dict[str, str]:
        if self.fd_dir >= 0:
            return super().status()
        # Everybody may read it, and who the caller is its joiner must not say.
        with open(f"/proc/{self.tid}/status", encoding="utf-8", errors="replace") as lines:
            found = dict(line.rstrip("\n").split(":\t", 1) for line in lines if ":\t" in line)
        if not self.is_alive() or self.process.has_ended():
            raise OSError(errno.ESRCH, "no such task")
        return found

    def exe(self) -> str:
        if self.fd_dir >= 0:
            return super().exe()
        return os.fsdecode(self._ask(reader.EXE))

    def maps(self) -> list[tuple[int, int, str]]:
        if self.fd_dir >= 0:
            return super().maps()
        self._make_known()
        fd = self._bringer.ask_fd(reader.MAPS, self.tid)
        try:
            if memory_file_seals(fd) is None or os.fstat(fd).st_size > _MAX_MAPS:
                raise OSError(errno.EPERM, "the joiner's answer is none")
            return read_maps(os.dup(fd))
        except ValueError as error:
            raise OSError(errno.EPERM, "the joiner's answer is none") from error
        finally:
            os.close(fd)
