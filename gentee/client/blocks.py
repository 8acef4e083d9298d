# SPDX-License-Identifier: BSD-2-Clause
"""Bytes that a client and a TEE share, on the roads of libteec.

The TEE's capabilities decide how memory gets there. With TEE_GEN_CAP_REG_MEM the TEE is told of the
client's own memory, where it is. Without it, memory is allocated by the TEE and mapped; what a
client registers then has a shadow there, and bytes are copied around each call that uses it.

libteec makes the memory of a temporary reference for one call. That costs a client and its TEE many
times what the call itself does, so here each session keeps a few small pieces of memory for its
next calls. They never serve another session: a TA can see whole pages, and what an earlier call
left in them is then its own.
"""

import errno
import mmap
import sys
import threading
from typing import TYPE_CHECKING

from gentee.abi.gp import TEEC_ORIGIN_API
from gentee.abi.linux_tee import TEE_GEN_CAP_REG_MEM
from gentee.client.doors import Door, DoorMemory, comms_error
from gentee.errors import GenericError, OutOfMemory

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# There is no shared memory of no bytes: what is empty gets as many, as in libteec.
_LEAST = 8


class MemorySource:
    """Gives memory that is new, and ends with its use."""

    def __init__(self, door: Door) -> None:
        self.door = door

    def take(self, size: int) -> DoorMemory:
        """At least ``size`` bytes, that many of them zero; OSError as the door fails."""
        if size > sys.maxsize:
            raise OSError(errno.ENOMEM, "more than there can be")
        size = max(size, _LEAST)
        if self.door.version[2] & TEE_GEN_CAP_REG_MEM:
            return _OwnPages(self.door, size)
        return self.door.shm_alloc(size)

    def give_back(self, memory: DoorMemory, *, reuse: bool) -> None:
        """It is not used any more. Not ``reuse``: a call may still be writing to it."""
        memory.release()


class SessionMemory(MemorySource):
    """Gives the calls of one session the same memory again.

    At most ``_MAX_KEPT`` pieces wait for a call, none of them larger than ``_MAX_SIZE`` bytes.
    """

    _MAX_KEPT = 8
    _MAX_SIZE = 65536
    _PAGE = 4096

    def __init__(self, door: Door) -> None:
        super().__init__(door)
        self._lock = threading.Lock()  # protects the two below
        self._kept: list[DoorMemory] = []
        self._closed = False

    def take(self, size: int) -> DoorMemory:
        if size > self._MAX_SIZE:
            return super().take(size)
        with self._lock:
            for at, memory in enumerate(self._kept):
                if memory.view.nbytes >= size:
                    del self._kept[at]
                    break
            else:
                memory = None
        if memory is None:
            # A power of two, so that one piece does for calls of many sizes.
            return super().take(max(self._PAGE, 1 << (size - 1).bit_length() if size else 0))
        memory.view[:size] = bytes(size)
        return memory

    def give_back(self, memory: DoorMemory, *, reuse: bool) -> None:
        if reuse and memory.view.nbytes <= self._MAX_SIZE:
            with self._lock:
                if not self._closed and len(self._kept) < self._MAX_KEPT:
                    self._kept.append(memory)
                    return
        memory.release()

    def close(self) -> None:
        """The session ended. Memory of a call that is under way ends with the call."""
        with self._lock:
            self._closed = True
            kept, self._kept = self._kept, []
        for memory in kept:
            memory.release()


class _OwnPages(DoorMemory):
    """New pages of this process, registered."""

    def __init__(self, door: Door, size: int) -> None:
        self._map = mmap.mmap(-1, size)
        try:
            self._registered = door.shm_register(self._map)
        except BaseException:
            self._map.close()
            raise
        self.id = self._registered.id
        self.view = memoryview(self._map)

    def free(self) -> None:
        self._registered.free()

    def release(self) -> None:
        self._registered.release()
        try:
            self.view.release()
            self._map.close()
        except BufferError:  # a slice of it is still in use, and keeps it
            pass


class Block:
    """The bytes behind a memory reference.

    ``buffer`` is the client's view of ``size`` bytes, ``shadow`` the TEE's where they are not the
    same. Nobody tracks a block: whoever makes it releases it.
    """

    __slots__ = ("_memory", "_source", "buffer", "id", "shadow", "size")

    def __init__(
        self,
        memory: DoorMemory,
        buffer: memoryview,
        shadow: memoryview | None,
        source: MemorySource | None,
    ) -> None:
        self._memory: DoorMemory | None = memory
        self._source = source  # where the memory came from, unless it is the client's
        self.buffer = buffer
        self.shadow = shadow
        self.size = buffer.nbytes
        self.id = memory.id

    @classmethod
    def allocate(cls, source: MemorySource, size: int) -> "Block":
        """``size`` zero bytes; OutOfMemory (origin API) as in libteec, whatever the reason."""
        try:
            memory = source.take(size)
        except OSError as error:
            raise OutOfMemory(error.strerror or str(error), TEEC_ORIGIN_API) from error
        return cls(memory, memory.view[:size], None, source)

    @classmethod
    def register(cls, source: MemorySource, buffer: "ReadableBuffer") -> "Block":
        """Memory of the client. What is read-only is never shown to a TEE, only a copy of it."""
        view = memoryview(buffer).cast("B")
        can_register = bool(source.door.version[2] & TEE_GEN_CAP_REG_MEM)
        if can_register and view.nbytes and not view.readonly:
            try:
                return cls(source.door.shm_register(view), view, None, None)
            except OSError:
                # As libteec: the kernel may not like this memory, and likes other.
                pass
        try:
            memory = source.take(view.nbytes)
        except OSError as error:
            detail = error.strerror or str(error)
            if can_register and error.errno != errno.ENOMEM:
                raise GenericError(detail, TEEC_ORIGIN_API) from error
            raise OutOfMemory(detail, TEEC_ORIGIN_API) from error
        return cls(memory, view, memory.view[: view.nbytes], source)

    @classmethod
    def map(cls, door: Door, buffer: "ReadableBuffer", flags: int) -> "Block":
        """Memory of the client, where it is; OutOfMemory or BadParameters (origin API)."""
        view = memoryview(buffer).cast("B")
        try:
            return cls(door.mem_map(view, flags), view, None, None)
        except OSError as error:
            raise comms_error(error, TEEC_ORIGIN_API) from error

    def free(self) -> None:
        """The TEE forgets the memory now. OSError as the door fails."""
        if self._memory is not None:
            self._memory.free()

    def copy_in(self, offset: int, size: int) -> None:
        """Before a call: the TEE's bytes become the client's."""
        if self.shadow is not None:
            self.shadow[offset : offset + size] = self.buffer[offset : offset + size]

    def copy_out(self, offset: int, size: int) -> None:
        """After a call: the client's bytes become the TEE's."""
        if self.shadow is not None and not self.buffer.readonly:
            self.buffer[offset : offset + size] = self.shadow[offset : offset + size]

    def release(self, *, reuse: bool = True) -> None:
        """The TEE needs the memory no more. Twice is once.

        :param reuse: False where a call was left, and may still be writing to it.
        """
        memory, self._memory = self._memory, None
        if memory is None:
            return
        for view in (self.buffer, self.shadow):
            if view is not None:
                try:
                    view.release()
                except BufferError:  # its holder keeps it
                    pass
        if self._source is None:
            memory.release()
        else:
            self._source.give_back(memory, reuse=reuse)
