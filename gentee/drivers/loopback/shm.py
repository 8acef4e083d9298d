# SPDX-License-Identifier: BSD-2-Clause
"""Shared memory: registering it, and the bytes behind the memory references of a call.

Some facts about windows
========================

- Allocated memory and sealed files are real shared pages: a window is a slice of them.
- Memory that a client registered Linux shares as well, by pinning its pages. Here it is copied, and
  must look as if shared. So a window holds the client's bytes from the start, those of an output
  too; afterwards exactly the length that was passed in goes back, also when the call failed and
  whatever size it reports.
- Two parameters over the same bytes see one another's writes, be they of one buffer or of two that
  overlap. So what overlaps is one window.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from gentee.abi.linux_tee import TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT
from gentee.core.params import TeeParam
from gentee.core.shm import Backing, TeeShm

# One for each parameter. None: no memory reference, or a NULL one.
Windows = list[memoryview | None]


def shm_register(shm: TeeShm) -> None:
    """Any memory will do, as long as its bytes can be reached."""
    if shm.backing is None and shm.fd < 0:
        raise OSError(errno.EINVAL, "neither a file nor a backing")


def shm_unregister(shm: TeeShm) -> None:
    """Nothing was done for it. May come after its context was released."""


class _Piece(NamedTuple):
    """A memory reference into copied memory, by where it is in its address space or file."""

    start: int
    end: int
    number: int  # of the parameter
    backing: Backing
    offset: int  # in the backing
    is_output: bool


@contextmanager
def open_windows(params: Sequence[TeeParam]) -> Iterator[Windows]:
    """The bytes of each memory reference, as long as the ``with`` block runs.

    :raises OSError: EFAULT where registered memory is not there (any more).
    """
    windows: Windows = [None] * len(params)
    spaces: dict[object, list[_Piece]] = {}
    for number, param in enumerate(params):
        shm = param.shm
        if not param.is_memref() or shm is None:
            continue
        start, end = param.a, param.a + param.b
        if shm.backing is None:
            windows[number] = shm.view()[start:end]
        else:
            space, base = shm.backing.identity()
            is_output = param.type != TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT
            piece = _Piece(base + start, base + end, number, shm.backing, start, is_output)
            spaces.setdefault(space, []).append(piece)
    pieces = [piece for in_space in spaces.values() for piece in in_space]
    for in_space in spaces.values():
        _lay_out(in_space, windows)
    for piece in pieces:
        window = windows[piece.number]
        if window:
            piece.backing.copy_in(piece.offset, window)
    try:
        yield windows
    finally:
        # By now the driver may have set another size: the window still has the one passed in.
        for piece in pieces:
            window = windows[piece.number]
            if window and piece.is_output:
                piece.backing.copy_out(piece.offset, window)


def _lay_out(pieces: list[_Piece], windows: Windows) -> None:
    """Give each piece its window; pieces that overlap get slices of one buffer."""
    pieces.sort()
    first = 0
    while first < len(pieces):
        start, end = pieces[first].start, pieces[first].end
        last = first + 1
        while last < len(pieces) and pieces[last].start < end:
            end = max(end, pieces[last].end)
            last += 1
        buffer = memoryview(bytearray(end - start))
        for piece in pieces[first:last]:
            windows[piece.number] = buffer[piece.start - start : piece.end - start]
        first = last
