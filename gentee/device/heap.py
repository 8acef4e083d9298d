# SPDX-License-Identifier: BSD-2-Clause
"""The ioctl of a heap of protected memory (Linux drivers/dma-buf/dma-heap.c)."""

import errno
import os

from gentee.abi.dma_heap import DMA_HEAP_ALLOCATION_DATA, DMA_HEAP_VALID_FD_FLAGS
from gentee.core.context import TeeContext
from gentee.core.protected_memory import ProtectedBuffer, ProtectedHeap
from gentee.linux.task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.device.answers import Answers


def dma_heap_ioctl_allocate(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> int | None:
    """DMA_HEAP_IOCTL_ALLOC: a descriptor that stands for protected memory.

    EINVAL on a device that is no heap, for no bytes, flags that do not exist, and a descriptor
    given; ENOMEM beyond the heap's limit.
    """
    desc = ctx.teedev.desc
    if desc.heap is None or not desc.is_heap:
        raise OSError(errno.EINVAL, "no heap")
    length, fd, fd_flags, heap_flags = DMA_HEAP_ALLOCATION_DATA.unpack(
        task.read(uarg, DMA_HEAP_ALLOCATION_DATA.size)
    )
    if fd or fd_flags & ~DMA_HEAP_VALID_FD_FLAGS or heap_flags:
        raise OSError(errno.EINVAL, "flags")
    heap = desc.heap
    buffer, reader = _allocate(door, heap, length)
    try:
        number = door.notifier.install_fd(notify_id, reader, fd_flags & os.O_CLOEXEC)
        if number is not None:
            task.write(((uarg + 8, number.to_bytes(4, "little")),))
    finally:
        # If the client did not take it this was the last descriptor, and the buffer ends.
        os.close(reader)
        door.hang_ups.add(buffer.writer, lambda: heap.free(buffer))
    return None if number is None else 0


def _allocate(door: "Answers", heap: ProtectedHeap, size: int) -> tuple[ProtectedBuffer, int]:
    """A new buffer. Where there is no room for it, what clients have closed makes some."""
    try:
        return heap.allocate(size)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
    door.events.settle()
    return heap.allocate(size)
