# SPDX-License-Identifier: BSD-2-Clause
"""TEEC_SharedMemory: GP TEE Client API 1.0 §4.3 and §4.5."""

from typing import TYPE_CHECKING

from gentee.abi.gentee_tee import TEE_MEM_MAP_READ, TEE_MEM_MAP_WRITE
from gentee.abi.gp import TEEC_MEM_INPUT, TEEC_MEM_OUTPUT, TEEC_ORIGIN_API
from gentee.client.blocks import Block, MemorySource
from gentee.client.doors import comms_error
from gentee.errors import BadParameters, BadState

if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed import ReadableBuffer

    from gentee.client.context import Context

INPUT = TEEC_MEM_INPUT  # client to TA
OUTPUT = TEEC_MEM_OUTPUT  # TA to client
INOUT = TEEC_MEM_INPUT | TEEC_MEM_OUTPUT


def check_direction(direction: int) -> None:
    """BadParameters (origin API) unless ``direction`` is INPUT, OUTPUT or both."""
    if direction not in (INPUT, OUTPUT, INOUT):
        raise BadParameters("direction", TEEC_ORIGIN_API)


class SharedMemory:
    """TEEC_SharedMemory. Made by :meth:`allocate` or :meth:`register`; a context manager.

    ``size`` is in bytes; ``flags`` say which way data may go: INPUT, OUTPUT or INOUT.
    """

    def __init__(self, context: "Context", block: Block, flags: int) -> None:
        self.context = context
        self.flags = flags
        self.size = block.size
        self._block: Block | None = block
        self._freed = False
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
        return cls(context, Block.allocate(MemorySource(context.door), size), flags)

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
        return cls(context, Block.register(MemorySource(context.door), buffer), flags)

    @classmethod
    def map(
        cls, context: "Context", buffer: "ReadableBuffer", flags: int = INOUT
    ) -> "SharedMemory":
        """TEE_IOC_MEM_MAP of <gentee/tee.h>: as :meth:`register`, with directions that are kept.

        The TEE reads of it only what ``flags`` allow (INPUT), and writes likewise (OUTPUT).

        :param buffer: contiguous, not empty; writable unless ``flags`` are INPUT.
        :raises TeeError: OutOfMemory; BadParameters for the flags, and from a TEE without the
            operation; origin API.
        """
        check_direction(flags)
        if flags & OUTPUT and memoryview(buffer).readonly:
            raise BadParameters("output into a read-only buffer", TEEC_ORIGIN_API)
        map_flags = TEE_MEM_MAP_READ if flags & INPUT else 0
        map_flags |= TEE_MEM_MAP_WRITE if flags & OUTPUT else 0
        return cls(context, Block.map(context.door, buffer, map_flags), flags)

    @property
    def block(self) -> Block:
        """For memory references: what the TEE knows. BadState (origin API) after release."""
        if self._block is None or self._freed:
            raise BadState("shared memory that was released", TEEC_ORIGIN_API)
        return self._block

    @property
    def buffer(self) -> memoryview:
        """The bytes, ``size`` of them."""
        if self._block is None:
            raise BadState("shared memory that was released", TEEC_ORIGIN_API)
        return self._block.buffer

    def free(self) -> None:
        """TEE_IOC_SHM_FREE of <gentee/tee.h>: the TEE lets go, ``buffer`` stays until `release`.

        A call under way that uses the memory keeps it until it ends. Twice is once. For a mapping
        there is only :meth:`release`.

        :raises TeeError: BadParameters (origin API) from a TEE without the operation.
        """
        if self._freed or self._block is None:
            return
        try:
            self._block.free()
        except OSError as error:
            raise comms_error(error, TEEC_ORIGIN_API) from error
        self._freed = True

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
        if self._block is None:
            state = "released"
        else:
            state = "freed" if self._freed else f"id {self._block.id}"
        return f"<SharedMemory {self.size} bytes, {state}>"
