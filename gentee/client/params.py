# SPDX-License-Identifier: BSD-2-Clause
"""TEEC_Parameter: values and the three kinds of memory reference, GP TEE Client API 1.0 §4.3.

======================  ================================  =========================================
here                    Client API                        type in paramTypes
======================  ================================  =========================================
``Value``               TEEC_Value                        TEEC_VALUE_*
``TempRef``, ``Out``    TEEC_TempMemoryReference          TEEC_MEMREF_TEMP_*
``MemRef(shm)``         TEEC_RegisteredMemoryReference    TEEC_MEMREF_WHOLE
``MemRef(shm, ...)``    TEEC_RegisteredMemoryReference    TEEC_MEMREF_PARTIAL_*
``None``                                                  TEEC_NONE
======================  ================================  =========================================

Results are written back into the objects. A reference keeps the size that it passes in and the size
that came back apart (``size``, ``out_size``), so that the same object can be used for call after
call. Two calls at the same time need objects of their own.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from gentee.abi.gp import TEEC_ORIGIN_API
from gentee.abi.linux_tee import (
    TEE_GEN_CAP_MEMREF_NULL,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT,
    TEE_MEMREF_NULL,
)
from gentee.client.blocks import Block, MemorySource
from gentee.client.memory import INOUT, INPUT, OUTPUT, SharedMemory, check_direction
from gentee.errors import BadParameters, BadState

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_VALUE_ATTR = {
    INPUT: TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT,
    OUTPUT: TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT,
    INOUT: TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT,
}
_MEMREF_ATTR = {
    INPUT: TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT,
    OUTPUT: TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT,
    INOUT: TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
}
_U32 = 0xFFFF_FFFF


class Parameter(ABC):
    """One parameter of an operation.

    A call begins each of its parameters, in order, and ends each with the numbers that came back.
    ``words`` holds attr, a, b, c of all parameters; this one's start at index ``at``.
    """

    __slots__ = ()

    @abstractmethod
    def begin(self, source: MemorySource, words: list[int], at: int) -> Block | None:
        """Fill in the numbers. A block that is returned is given to ``end`` and then released.

        :param source: of memory for the call; its door is the TEE that is called.
        """

    @abstractmethod
    def end(self, words: list[int], at: int, block: Block | None) -> None:
        """Take the results, also of an operation that failed."""


class Value(Parameter):
    """TEEC_Value: two numbers of 32 bits, ``a`` and ``b``, updated in place."""

    __slots__ = ("a", "b", "direction")

    def __init__(self, a: int = 0, b: int = 0, direction: int = INOUT) -> None:
        check_direction(direction)
        self.a = a
        self.b = b
        self.direction = direction

    def begin(self, source: MemorySource, words: list[int], at: int) -> Block | None:
        if not (0 <= self.a <= _U32 and 0 <= self.b <= _U32):
            raise BadParameters("a value has 32 bits", TEEC_ORIGIN_API)
        words[at : at + 3] = _VALUE_ATTR[self.direction], self.a, self.b
        return None

    def end(self, words: list[int], at: int, block: Block | None) -> None:
        if self.direction & OUTPUT:
            self.a = words[at + 1] & _U32
            self.b = words[at + 2] & _U32

    def __repr__(self) -> str:
        return f"Value({self.a:#x}, {self.b:#x}, {_direction_name(self.direction)})"


class TempRef(Parameter):
    """TEEC_TempMemoryReference: a buffer that the TEE knows for one call.

    :param buffer: contiguous; writable unless ``direction`` is INPUT. None is the NULL reference.
    :param direction: INPUT, OUTPUT or INOUT; by default INOUT, and INPUT for what is read-only.

    ``size`` is that of the buffer, in bytes. ``out_size`` is what the call left: larger than
    ``size`` with ShortBuffer, where it is the size that would do.
    """

    __slots__ = ("buffer", "direction", "out_size", "size")

    def __init__(self, buffer: "ReadableBuffer | None", direction: int | None = None) -> None:
        view = memoryview(buffer).cast("B") if buffer is not None else None
        if direction is None:
            direction = INPUT if view is not None and view.readonly else INOUT
        check_direction(direction)
        if direction & OUTPUT and view is not None and view.readonly:
            raise BadParameters("output into a read-only buffer", TEEC_ORIGIN_API)
        self.buffer = view
        self.direction = direction
        self.size = view.nbytes if view is not None else 0
        self.out_size = self.size

    @property
    def data(self) -> memoryview:
        """The part of the buffer that the call left as its result."""
        return self.buffer[: self.out_size] if self.buffer is not None else memoryview(b"")

    def begin(self, source: MemorySource, words: list[int], at: int) -> Block | None:
        self.out_size = self.size
        attr, size = _MEMREF_ATTR[self.direction], self.size
        if self.buffer is not None:
            block = Block.register(source, self.buffer)
            block.copy_in(0, size)
        elif source.door.version[2] & TEE_GEN_CAP_MEMREF_NULL:
            words[at : at + 4] = attr, 0, size, TEE_MEMREF_NULL
            return None
        else:
            block = Block.allocate(source, size)
        words[at : at + 4] = attr, 0, size, block.id
        return block

    def end(self, words: list[int], at: int, block: Block | None) -> None:
        if self.direction & OUTPUT:
            self.out_size = words[at + 2]
            if block is not None and self.buffer is not None:
                block.copy_out(0, min(self.out_size, self.size))

    def __repr__(self) -> str:
        what = f"{self.size} bytes" if self.buffer is not None else "NULL"
        return f"TempRef({what}, {_direction_name(self.direction)})"


class Out(Parameter):
    """A TEEC_TempMemoryReference for output alone, with a buffer of its own.

    :param size: room for the output, in bytes.

    After the call ``data`` is the output, and ``out_size`` its size: larger than ``size`` with
    ShortBuffer, where it is the size that would do.
    """

    __slots__ = ("data", "out_size", "size")

    def __init__(self, size: int) -> None:
        if size < 0:
            raise BadParameters("size", TEEC_ORIGIN_API)
        self.size = size
        self.out_size = 0
        self.data = b""

    def begin(self, source: MemorySource, words: list[int], at: int) -> Block | None:
        self.data, self.out_size = b"", 0
        block = Block.allocate(source, self.size)
        words[at : at + 4] = TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT, 0, self.size, block.id
        return block

    def end(self, words: list[int], at: int, block: Block | None) -> None:
        assert block is not None
        self.out_size = words[at + 2]
        self.data = bytes(block.buffer[: self.out_size])

    def __repr__(self) -> str:
        return f"Out({self.size})"


class MemRef(Parameter):
    """TEEC_RegisteredMemoryReference: a SharedMemory, the whole of it or a part.

    :param shm: the shared memory (``parent`` in C).
    :param offset: where the part starts, in bytes.
    :param size: of the part, in bytes; by default all that follows ``offset``.
    :param direction: INPUT, OUTPUT or INOUT, as far as the shared memory's flags allow it; by
        default those flags.

    ``out_size`` is what the call left: larger than ``size`` with ShortBuffer.
    """

    __slots__ = ("direction", "offset", "out_size", "shm", "size")

    def __init__(
        self,
        shm: SharedMemory,
        offset: int = 0,
        size: int | None = None,
        direction: int | None = None,
    ) -> None:
        if size is None:
            size = shm.size - offset
        if direction is None:
            direction = shm.flags
        check_direction(direction)
        if direction & ~shm.flags:
            raise BadParameters("direction against the memory's flags", TEEC_ORIGIN_API)
        if offset < 0 or size < 0 or offset + size > shm.size:
            raise BadParameters("beyond the shared memory", TEEC_ORIGIN_API)
        self.shm = shm
        self.offset = offset
        self.size = size
        self.direction = direction
        self.out_size = size

    @property
    def data(self) -> memoryview:
        """The part of the shared memory that the call left as its result."""
        return self.shm.buffer[self.offset : self.offset + min(self.out_size, self.size)]

    def begin(self, source: MemorySource, words: list[int], at: int) -> Block | None:
        block = self.shm.block
        if self.shm.context.door is not source.door:
            raise BadState("shared memory of another context", TEEC_ORIGIN_API)
        self.out_size = self.size
        if self.direction & INPUT:
            block.copy_in(self.offset, self.size)
        words[at : at + 4] = _MEMREF_ATTR[self.direction], self.offset, self.size, block.id
        return None

    def end(self, words: list[int], at: int, block: Block | None) -> None:
        if self.direction & OUTPUT:
            self.out_size = words[at + 2]
            if self.out_size <= self.size:
                self.shm.block.copy_out(self.offset, self.out_size)

    def __repr__(self) -> str:
        return (
            f"MemRef({self.shm!r}, {self.offset}, {self.size}, {_direction_name(self.direction)})"
        )


def as_parameter(given: "Parameter | SharedMemory | ReadableBuffer | None") -> Parameter | None:
    """What a call was given, as a parameter: SharedMemory whole, a buffer as temporary memory.

    :raises TypeError: it is none of these.
    """
    if given is None or isinstance(given, Parameter):
        return given
    if isinstance(given, SharedMemory):
        return MemRef(given)
    try:
        return TempRef(given)
    except TypeError:
        raise TypeError(
            f"not a parameter: {type(given).__name__}; "
            "give a Value, a TempRef, an Out, a MemRef, a SharedMemory, a buffer or None"
        ) from None


def _direction_name(direction: int) -> str:
    return {INPUT: "INPUT", OUTPUT: "OUTPUT", INOUT: "INOUT"}[direction]
