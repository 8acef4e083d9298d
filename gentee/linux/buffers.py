# SPDX-License-Identifier: BSD-2-Clause
"""Buffers of this program by their address: what an ioctl wants that takes a pointer."""

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class PinnedBuffer:
    """A writable buffer object that cannot move, shrink or go away until :meth:`release`.

    ``address`` is that of its first byte, ``size`` counts bytes. A ``bytearray`` that is pinned
    answers BufferError to whoever resizes it, an ``mmap`` to whoever closes it.

    :param buffer: contiguous and not empty.
    :raises TypeError: the buffer is read-only or not contiguous.
    :raises ValueError: the buffer is empty, so that it has no address.
    """

    __slots__ = ("_anchor", "_view", "address", "size")

    def __init__(self, buffer: "WriteableBuffer") -> None:
        self._view = memoryview(buffer).cast("B")
        self.size = self._view.nbytes
        if not self.size:
            raise ValueError("an empty buffer has no address")
        # The array holds an export of the buffer, which is what keeps it in its place.
        self._anchor: ctypes.Array[ctypes.c_char] | None = (ctypes.c_char * self.size).from_buffer(
            self._view
        )
        self.address = ctypes.addressof(self._anchor)

    @property
    def view(self) -> memoryview:
        """The bytes; not after :meth:`release`."""
        return self._view

    def release(self) -> None:
        """The address is no longer used. Twice is once."""
        self._anchor = None
        self._view.release()
