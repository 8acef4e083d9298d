# SPDX-License-Identifier: BSD-2-Clause
"""Bytes in and bytes out: what functions take, and where their output goes."""

from gentee.abi.gp import TEE_ERROR_ACCESS_DENIED
from gentee.errors import ShortBuffer, TaPanic
from gentee.linux.buffers import address_of
from gentee.ta.api import Memref

Data = bytes | bytearray | memoryview | Memref
Into = bytearray | memoryview | Memref


def view_of(data: Data) -> bytes | memoryview:
    """The bytes of what a function was given, where they are."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, Memref):
        return b"" if data.buffer is None else data.buffer[: data.size]
    view = memoryview(data)
    if not view.c_contiguous:
        return view.tobytes()
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def copy_of(data: Data) -> bytes:
    """A copy of them: what is looked at more than once must not change."""
    return bytes(view_of(data))


class Output:
    """Where the output of a function goes: into a buffer of the caller's, or into a new one.

    :ivar view: at least as many bytes as the output may have.
    :ivar spare: a new buffer, with the spare bytes; None of the caller's.

    :param into: the caller's, or None.
    :param size: bytes that the output may have.
    :param spare: bytes that a new buffer has behind it.
    :raises ShortBuffer: the caller's buffer has less room. ``size`` of the error says what is
        needed, and so does that of a Memref.
    """

    __slots__ = ("_into", "spare", "view")

    def __init__(self, into: Into | None, size: int, spare: int = 0) -> None:
        self._into = into
        self.spare: memoryview | None = None
        if into is None:
            self.spare = memoryview(bytearray(size + spare))
            self.view = self.spare[:size]
            return
        view = room(into)
        if size > len(view):
            if isinstance(into, Memref):
                into.size = size
            raise ShortBuffer(f"{size} bytes into {len(view)}", size=size)
        self.view = view

    def source(self, data: bytes | memoryview, in_place: bool) -> bytes | memoryview:
        """``data`` as it can be read while the output is written: a copy where the two overlap.

        :param in_place: they may be the same memory.
        """
        if self._into is None or not len(data) or not len(self.view):
            return data
        distance = address_of(self.view) - address_of(data)
        if -len(self.view) < distance < len(data) and (distance or not in_place):
            return bytes(data)
        return data

    def result(self, size: int) -> bytes | int:
        """What the function returns, with ``size`` bytes of output: the bytes, or how many."""
        if self._into is None:
            return self.view[:size].tobytes()
        if isinstance(self._into, Memref):
            self._into.size = size
        return size


def room(into: Into) -> memoryview:
    """All of the caller's buffer, to be written."""
    buffer = into.buffer if isinstance(into, Memref) else into
    view = memoryview(b"" if buffer is None else buffer).cast("B")
    if view.readonly and len(view):
        raise TaPanic(TEE_ERROR_ACCESS_DENIED, "an output that cannot be written")
    return view


def put(data: bytes, into: Into | None) -> bytes | int:
    """Return output that is there: the bytes themselves, or how many went into the caller's buffer.

    :raises ShortBuffer: as Output.
    """
    if into is None:
        return data
    output = Output(into, len(data))
    output.view[: len(data)] = data
    return output.result(len(data))
