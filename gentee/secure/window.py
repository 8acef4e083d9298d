# SPDX-License-Identifier: BSD-2-Clause
"""The window: how memory that only can be copied looks to a service as if it were shared.

On Linux the pages of registered memory are the client's own. Here a service sees them through one
area that both map, kept from call to call. What is behind a reference, output or input, is there
when the call starts; when it ends exactly the length that the client passed goes back, for outputs,
whatever the result and the size that the service returned. References to the same bytes share them.
"""

import mmap
import os

from gentee.abi.linux_tee import TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT
from gentee.core.params import TeeParam
from gentee.core.shm import Backing
from gentee.linux.shm import PAGE_SIZE, create_shm, page_align


class Range:
    """Bytes of one backing that one or more references use, and their place in the window."""

    __slots__ = ("backing", "end", "offset", "place", "space", "start")

    def __init__(self, backing: Backing, offset: int, size: int) -> None:
        self.backing = backing
        self.offset = offset  # of start, in the backing
        self.space, base = backing.identity()
        self.start = base + offset  # in the space: an address, or a position in a file
        self.end = self.start + size
        self.place = 0


class Layout:
    """Where in a window the references of one call are.

    ``size`` is what the window must hold, ``total`` what is copied in; ``outputs`` are (backing,
    offset in it, place, bytes).
    """

    __slots__ = ("_places", "outputs", "ranges", "size", "total")

    def __init__(self, params: list[TeeParam]) -> None:
        self.outputs: list[tuple[Backing, int, int, int]] = []
        self.size = self.total = 0
        self._places: dict[TeeParam, int] = {}
        pieces: list[tuple[TeeParam, Range]] = []
        for param in params:
            if param.shm is not None and param.shm.backing is not None:
                pieces.append((param, Range(param.shm.backing, param.a, param.b)))
        self.ranges = _merge([piece for _, piece in pieces])
        for merged in self.ranges:
            # The same offset in the page as the client's, so that alignment is preserved.
            merged.place = self.size + merged.start % PAGE_SIZE
            # At least a page: a reference without bytes needs a place as well.
            self.size = page_align(merged.place + max(1, merged.end - merged.start))
            self.total += merged.end - merged.start
        for param, piece in pieces:
            place = next(
                r.place + piece.start - r.start
                for r in self.ranges
                if r.space is piece.space and r.start <= piece.start and piece.end <= r.end
            )
            self._places[param] = place
            if param.type != TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT and param.b:
                self.outputs.append((piece.backing, piece.offset, place, param.b))

    def place_of(self, param: TeeParam) -> int:
        """The offset in the window of a reference."""
        return self._places[param]


def _merge(pieces: list[Range]) -> list[Range]:
    """Ranges without overlaps in one space, that cover all ``pieces``."""
    merged: list[Range] = []
    for piece in sorted(pieces, key=lambda piece: (id(piece.space), piece.start)):
        last = merged[-1] if merged else None
        if last is not None and last.space is piece.space and piece.start < last.end:
            last.end = max(last.end, piece.end)
        else:
            merged.append(Range(piece.backing, piece.offset, piece.end - piece.start))
    return merged


class Window:
    """The area of one service's instance."""

    def __init__(self) -> None:
        self.fd = -1
        self.size = 0
        self._map: mmap.mmap | None = None

    def fit(self, size: int) -> None:
        """Make room for ``size`` bytes. A new area has ``fd`` set until :meth:`mapped`."""
        if size <= self.size:
            return
        self.mapped()
        # Powers of two, so that growing stays rare.
        self.size = max(1 << 16, 1 << (size - 1).bit_length())
        self.fd = create_shm(self.size, "tee_window")
        self._map = mmap.mmap(self.fd, self.size)

    def mapped(self) -> None:
        """The service has it: the descriptor is not needed any more, the map holds the pages."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def copy_in(self, layout: Layout) -> None:
        """Bring the client's bytes; OSError EFAULT where they are not there any more."""
        with memoryview(self._map) as view:  # type: ignore[arg-type]
            for piece in layout.ranges:
                size = piece.end - piece.start
                if size:
                    with view[piece.place : piece.place + size] as part:
                        piece.backing.copy_in(piece.offset, part)

    def copy_out(self, layout: Layout) -> None:
        """Take the outputs back; OSError EFAULT where the client cannot be written."""
        with memoryview(self._map) as view:  # type: ignore[arg-type]
            for backing, offset, place, size in layout.outputs:
                with view[place : place + size] as part:
                    backing.copy_out(offset, part)
