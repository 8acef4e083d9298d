# SPDX-License-Identifier: BSD-2-Clause
"""Buffers of this program by their address: what an ioctl wants that takes a pointer."""

import ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class _PyBuffer(ctypes.Structure):
    """Py_buffer (Include/pybuffer.h): what is looked at, and room for the rest."""

    _fields_ = (("buf", ctypes.c_void_p), ("rest", ctypes.c_void_p * 15))


# Prototypes of our own: pythonapi's functions are shared by all of the process.
_get_buffer = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int
)(("PyObject_GetBuffer", ctypes.pythonapi))
_release_buffer = ctypes.PYFUNCTYPE(None, ctypes.POINTER(_PyBuffer))(
    ("PyBuffer_Release", ctypes.pythonapi)
)
_PYBUF_SIMPLE = 0


def address_of(buffer: bytes | bytearray | memoryview) -> int:
    """Where the first byte of a contiguous buffer is, read-only ones included.

    Whoever uses it keeps the buffer from moving meanwhile, or only compares addresses.
    """
    found = _PyBuffer()
    _get_buffer(buffer, ctypes.byref(found), _PYBUF_SIMPLE)
    address = int(found.buf or 0)
    _release_buffer(ctypes.byref(found))
    return address


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
