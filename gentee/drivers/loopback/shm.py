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
from collections.abc import Sequence

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


class _Piece:
    """A memory reference into copied memory: where it is there, and the bytes that it has here."""

    __slots__ = ("backing", "end", "is_output", "number", "offset", "start", "window")

    def __init__(self, number: int, param: TeeParam, backing: Backing, base: int) -> None:
        self.number = number  # of the parameter
        self.backing = backing
        self.offset = param.a  # in the backing
        self.start = base + param.a  # in its address space or file
        self.end = self.start + param.b
        self.is_output = param.type != TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT
        self.window = memoryview(b"")


class OpenWindows:
    """``with OpenWindows(params) as windows``: the bytes of each memory reference.

    :raises OSError: EFAULT where registered memory is not there (any more).
    """

    def __init__(self, params: Sequence[TeeParam]) -> None:
        self._windows: Windows = [None] * len(params)
        self._pieces: list[_Piece] = []
        spaces: dict[object, list[_Piece]] = {}
        for number, param in enumerate(params):
            shm = param.shm
            if not param.is_memref() or shm is None:
                continue
            if shm.backing is None:
                self._windows[number] = shm.view()[param.a : param.a + param.b]
            else:
                space, base = shm.backing.identity()
                piece = _Piece(number, param, shm.backing, base)
                spaces.setdefault(space, []).append(piece)
                self._pieces.append(piece)
        for in_space in spaces.values():
            _lay_out(in_space)

    def __enter__(self) -> Windows:
        for piece in self._pieces:
            if piece.window:
                piece.backing.copy_in(piece.offset, piece.window)
            self._windows[piece.number] = piece.window
        return self._windows

    def __exit__(self, *_: object) -> None:
        # By now the driver may have set another size: the window still has the one passed in.
        for piece in self._pieces:
            if piece.window and piece.is_output:
                piece.backing.copy_out(piece.offset, piece.window)


def _lay_out(pieces: list[_Piece]) -> None:
    """Give each piece its window; pieces that overlap get slices of one buffer."""
    pieces.sort(key=lambda piece: piece.start)
    first = 0
    while first < len(pieces):
        start, end = pieces[first].start, pieces[first].end
        last = first + 1
        while last < len(pieces) and pieces[last].start < end:
            end = max(end, pieces[last].end)
            last += 1
        buffer = memoryview(bytearray(end - start))
        for piece in pieces[first:last]:
            piece.window = buffer[piece.start - start : piece.end - start]
        first = last
