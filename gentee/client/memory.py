# SPDX-License-Identifier: BSD-2-Clause
"""TEEC_SharedMemory: GP TEE Client API 1.0 §4.3 and §4.5, on the roads of libteec.

The TEE's capabilities decide how memory gets there. With TEE_GEN_CAP_REG_MEM the TEE is told of the
client's own memory, where it is. Without it, memory is allocated by the TEE and mapped; what a
client registers then has a shadow there, and bytes are copied around each call that uses it.
"""

import errno
import mmap
import sys
from typing import TYPE_CHECKING

from gentee.abi.gp import TEEC_MEM_INPUT, TEEC_MEM_OUTPUT, TEEC_ORIGIN_API
from gentee.abi.linux_tee import TEE_GEN_CAP_REG_MEM
from gentee.client.doors import Door, DoorMemory
from gentee.errors import BadParameters, BadState, GenericError, OutOfMemory

if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed import ReadableBuffer

    from gentee.client.context import Context

INPUT = TEEC_MEM_INPUT  # client to TA
OUTPUT = TEEC_MEM_OUTPUT  # TA to client
INOUT = TEEC_MEM_INPUT | TEEC_MEM_OUTPUT

# There is no shared memory of no bytes: what is empty gets as many, as in libteec.
_LEAST = 8


def check_direction(direction: int) -> None:
    """BadParameters (origin API) unless ``direction`` is INPUT, OUTPUT or both."""
    if direction not in (INPUT, OUTPUT, INOUT):
        raise BadParameters("direction", TEEC_ORIGIN_API)


class Block:
    """Bytes of a client that a TEE knows; what the kinds of memory reference are made of.

    ``buffer`` is the client's view of ``size`` bytes, ``shadow`` the TEE's where they are not the
    same. Nobody tracks a block: whoever makes it releases it.
    """

    __slots__ = ("_memory", "_own", "buffer", "shadow", "size")

    def __init__(
        self,
        memory: DoorMemory,
        buffer: memoryview,
        shadow: memoryview | None,
        own: mmap.mmap | None,
    ) -> None:
        self._memory = memory
        self._own = own  # what was made here to be registered
        self.buffer = buffer
        self.shadow = shadow
        self.size = buffer.nbytes

    @property
    def id(self) -> int:
        """Of the shared memory, as ioctls know it."""
        return self._memory.id

    @classmethod
    def allocate(cls, door: Door, size: int) -> "Block":
        """New memory of ``size`` bytes; OutOfMemory as in libteec, whatever the reason."""
        try:
            return cls._make(door, size)
        except OSError as error:
            raise OutOfMemory(error.strerror or str(error), TEEC_ORIGIN_API) from error

    @classmethod
    def _make(cls, door: Door, size: int) -> "Block":
        if size > sys.maxsize:
            raise OSError(errno.ENOMEM, "more than there can be")
        if not door.version[2] & TEE_GEN_CAP_REG_MEM:
            memory = door.shm_alloc(max(size, _LEAST))
            return cls(memory, memory.view[:size], None, None)
        own = mmap.mmap(-1, max(size, _LEAST))
        try:
            memory = door.shm_register(own)
        except BaseException:
            own.close()
            raise
        return cls(memory, memoryview(own)[:size], None, own)

    @classmethod
    def register(cls, door: Door, buffer: "ReadableBuffer") -> "Block":
        """Memory of the client. What is read-only is never shown to a TEE, only a copy of it."""
        view = memoryview(buffer).cast("B")
        can_register = bool(door.version[2] & TEE_GEN_CAP_REG_MEM)
        if can_register and view.nbytes and not view.readonly:
            try:
                return cls(door.shm_register(view), view, None, None)
            except OSError:
                # As libteec: the kernel may not like this memory, and likes other.
                pass
        try:
            block = cls._make(door, view.nbytes)
        except OSError as error:
            detail = error.strerror or str(error)
            if can_register and error.errno != errno.ENOMEM:
                raise GenericError(detail, TEEC_ORIGIN_API) from error
            raise OutOfMemory(detail, TEEC_ORIGIN_API) from error
        block.shadow = block.buffer
        block.buffer = view
        return block

    def copy_in(self, offset: int, size: int) -> None:
        """Before a call: the TEE's bytes become the client's."""
        if self.shadow is not None:
            self.shadow[offset : offset + size] = self.buffer[offset : offset + size]

    def copy_out(self, offset: int, size: int) -> None:
        """After a call: the client's bytes become the TEE's."""
        if self.shadow is not None and not self.buffer.readonly:
            self.buffer[offset : offset + size] = self.shadow[offset : offset + size]

    def release(self) -> None:
        """The TEE forgets the memory. Twice is once."""
        for view in (self.buffer, self.shadow):
            if view is not None:
                try:
                    view.release()
                except BufferError:  # its holder keeps it
                    pass
        self._memory.release()
        if self._own is not None:
            try:
                self._own.close()
            except BufferError:  # a slice of it is still in use, and keeps it
                pass


class SharedMemory:
    """TEEC_SharedMemory. Made by :meth:`allocate` or :meth:`register`; a context manager.

    ``size`` is in bytes; ``flags`` say which way data may go: INPUT, OUTPUT or INOUT.
    """

    def __init__(self, context: "Context", block: Block, flags: int) -> None:
        self.context = context
        self.flags = flags
        self.size = block.size
        self._block: Block | None = block
        try:
            context._remember(self)
        except BaseException:
            block.release()
            raise

    @classmethod
    def allocate(cls, context: "Context", size: int, flags: int = INOUT) -> "SharedMemory":
        """TEEC_AllocateSharedMemory: new memory, zeroed, shared without copies.

        :param size: in bytes; may be 0.
        :raises TeeError: OutOfMemory, BadParameters for the flags; origin API.
        """
        check_direction(flags)
        if size < 0:
            raise BadParameters("size", TEEC_ORIGIN_API)
        return cls(context, Block.allocate(context.door, size), flags)

    @classmethod
    def register(
        cls, context: "Context", buffer: "ReadableBuffer", flags: int = INOUT
    ) -> "SharedMemory":
        """TEEC_RegisterSharedMemory: memory that the program has already.

        It can be neither resized nor closed until :meth:`release`. In a call the TEE sees its bytes
        as they are at the start of the call; whether it sees later changes depends on the TEE.

        :param buffer: contiguous; writable unless ``flags`` are INPUT.
        :raises TeeError: OutOfMemory, BadParameters for the flags; origin API.
        """
        check_direction(flags)
        if flags & OUTPUT and memoryview(buffer).readonly:
            raise BadParameters("output into a read-only buffer", TEEC_ORIGIN_API)
        return cls(context, Block.register(context.door, buffer), flags)

    @property
    def block(self) -> Block:
        """For memory references: what the TEE knows. BadState (origin API) after release."""
        if self._block is None:
            raise BadState("shared memory that was released", TEEC_ORIGIN_API)
        return self._block

    @property
    def buffer(self) -> memoryview:
        """The bytes, ``size`` of them."""
        return self.block.buffer

    def release(self) -> None:
        """TEEC_ReleaseSharedMemory. Slices of ``buffer`` that are still in use stay readable.

        Not while a call uses the memory. Twice is once.
        """
        block, self._block = self._block, None
        if block is not None:
            self.context._forget(self)
            block.release()

    def __enter__(self) -> "SharedMemory":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        state = "released" if self._block is None else f"id {self._block.id}"
        return f"<SharedMemory {self.size} bytes, {state}>"
