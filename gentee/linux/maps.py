# SPDX-License-Identifier: BSD-2-Clause
"""Maps of shared memory by their address, and views of them that keep nothing alive.

The ``mmap`` module's objects stay mapped as long as any view of them lives, and every view leads
back to the whole of it. Who lends memory for a time wants it the other way round: the map ends when
its owner says so.
"""

import ctypes
import mmap

from gentee.linux.libc import libc, oserror

_MAP_FIXED = 0x10  # <asm-generic/mman-common.h>
_MREMAP_MAYMOVE = 1  # <linux/mman.h>
_MREMAP_FIXED = 2
_PROT_NONE = 0
_FAILED = ctypes.c_void_p(-1).value

_mmap = libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_mremap = libc.mremap
_mremap.restype = ctypes.c_void_p
_mremap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_void_p,
)
_munmap = libc.munmap
_munmap.restype = ctypes.c_int
_munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)

# A prototype of our own: pythonapi's functions are shared by all of the process.
_view_of = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)(
    ("PyMemoryView_FromMemory", ctypes.pythonapi)
)
_PYBUF_WRITE = 0x200


def map_shared(fd: int, size: int) -> int:
    """Map ``size`` bytes of ``fd``, shared, to read and write; the address."""
    address: int = _mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    if address == _FAILED:
        raise oserror("mmap")
    return address


def unmap(address: int, size: int) -> None:
    """End a map. Who still looks at it ends with SIGSEGV, or sees what comes to this place next."""
    if _munmap(address, size) < 0:
        raise oserror("munmap")


def move_away(address: int, size: int) -> int:
    """Move a map to another address, which is returned; what looks at the old one gets SIGSEGV.

    The old place stays taken, without access, so that nothing else comes there.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    place = _mmap(None, size, _PROT_NONE, flags, -1, 0)
    if place == _FAILED:
        raise oserror("mmap")
    if _mremap(address, size, size, _MREMAP_MAYMOVE | _MREMAP_FIXED, place) == _FAILED:
        raise oserror("mremap")
    if _mmap(address, size, _PROT_NONE, flags | _MAP_FIXED, -1, 0) == _FAILED:
        raise oserror("mmap")
    return int(place)


def view(address: int, size: int) -> memoryview:
    """A view of memory that belongs to somebody else, and that it does not keep alive."""
    area: memoryview = _view_of(address, size, _PYBUF_WRITE)
    return area
