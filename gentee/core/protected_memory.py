# SPDX-License-Identifier: BSD-2-Clause
"""Protected memory: a client allocates it and passes it on, and never sees it (tee_heap.c).

On Linux a DMA heap gives out dma-bufs whose pages are the TEE's, and that cannot be mapped. Here a
buffer is a memfd that stays with us; the client has a pipe's end that stands for it, of which its
name is known (see :mod:`gentee.device.open_files`). There is nothing behind that descriptor: to
map it is ENODEV, and to open it again, to read, splice or send it leads to the same pipe.
"""

import errno
import fcntl
import os
import threading

from gentee.abi.dma_heap import PROTECTED_HEAP
from gentee.core.driver import TeeDriverOps
from gentee.linux.shm import create_shm, page_align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.context import TeeContext
    from gentee.core.device import TeeDevice

_F_SETPIPE_SZ = 1031


class ProtectedBuffer:
    """Bytes of a heap. ``writer`` is our end of the pipe whose other end stands for them."""

    __slots__ = ("fd", "link", "size", "writer")

    def __init__(self, fd: int, size: int, writer: int, link: bytes) -> None:
        self.fd = fd
        self.size = size
        self.writer = writer
        self.link = link


class ProtectedHeap:
    """A heap of protected memory, of at most ``limit`` bytes at a time."""

    def __init__(self, limit: int, name: str = PROTECTED_HEAP) -> None:
        self.name = name
        self.limit = limit
        self._used = 0
        self._lock = threading.Lock()  # protects both
        self._buffers: dict[bytes, ProtectedBuffer] = {}

    def allocate(self, size: int) -> tuple[ProtectedBuffer, int]:
        """A new buffer of ``size`` bytes in whole pages, zeros, and the client's descriptor.

        :raises OSError: EINVAL for no bytes, ENOMEM where there are not as many.
        """
        size = page_align(size)
        if not size:
            raise OSError(errno.EINVAL, "no bytes")
        with self._lock:
            if self._used + size > self.limit:
                raise OSError(errno.ENOMEM, f"more than {self.limit} bytes of protected memory")
            self._used += size
        opened: list[int] = []
        try:
            opened.append(create_shm(size, "tee_protected"))
            opened += os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            fd, reader, writer = opened
            try:
                fcntl.fcntl(writer, _F_SETPIPE_SZ, 4096)
            except OSError:  # pipes of this user are many: it stays as it is
                pass
            link = b"pipe:[%d]" % os.fstat(reader).st_ino
        except BaseException:
            for fd in opened:
                os.close(fd)
            with self._lock:
                self._used -= size
            raise
        buffer = ProtectedBuffer(fd, size, writer, link)
        with self._lock:
            self._buffers[link] = buffer
        return buffer, reader

    def free(self, buffer: ProtectedBuffer) -> None:
        """No client has it any more. What was registered of it lasts until that ends."""
        # The name first, the pipe last: its inode may be used again at once.
        with self._lock:
            if self._buffers.pop(buffer.link, None) is None:
                return
            self._used -= buffer.size
        os.close(buffer.fd)
        os.close(buffer.writer)

    def open(self, link: bytes) -> tuple[int, int] | None:
        """A descriptor of the bytes that a client's descriptor stands for, and their size."""
        with self._lock:
            buffer = self._buffers.get(link)
            if buffer is None:
                return None
            return fcntl.fcntl(buffer.fd, fcntl.F_DUPFD_CLOEXEC, 3), buffer.size

    def close(self) -> None:
        """All of it ends, whatever clients have."""
        with self._lock:
            buffers = list(self._buffers.values())
        for buffer in buffers:
            self.free(buffer)


class HeapOps(TeeDriverOps):
    """The heap's own device. It is no TEE, and has no operation of one."""

    def get_version(self, teedev: "TeeDevice") -> tuple[int, int, int]:
        return (0, 0, 0)

    def open(self, ctx: "TeeContext") -> None:
        pass

    def release(self, ctx: "TeeContext") -> None:
        pass
