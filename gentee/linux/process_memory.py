# SPDX-License-Identifier: BSD-2-Clause
"""The memory of other processes: process_vm_readv(2), process_vm_writev(2).

- A write through ``/proc/TID/mem`` ignores page protection. ``process_vm_writev`` does not.
- Neither is a given: with Yama's ptrace_scope 1 only descendants may be read, and a program that
  is not dumpable (or not readable) only by the superuser. That is EACCES or EPERM here, and the
  caller's call fails with EFAULT.
"""

import ctypes
import errno
import threading
from collections.abc import Sequence

from gentee.linux.libc import libc, oserror

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

# The same function once more, for _ScatterWriter's arguments, which have their C types already.
_scatter = libc["process_vm_writev"]
_scatter.restype = ctypes.c_ssize_t

_Iovec = ctypes.c_uint64 * 2  # base, length

_MAX_PIECES = 32  # of one scattered write: a result and three words for each parameter fit
_MAX_SCATTER = 4096  # bytes


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
