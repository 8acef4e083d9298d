# SPDX-License-Identifier: BSD-2-Clause
"""The window: how memory that only can be copied looks to a service as if it were shared.

On Linux the pages of registered memory are the client's own. Here a service sees them through one
area that both map, kept from call to call. What is behind a reference, output or input, is there
when the call starts; when it ends exactly the length that the client passed goes back, for outputs,
whatever the result and the size that the service returned. References to the same bytes share them,
and those in the same or neighbouring pages are as far apart as the client's.

A TA sees whole pages. What is in them beside the references is not the client's, as it would be on
Linux, but zero: never what an earlier call left there, which may have been another client's.
"""

import mmap
import os
import threading
from collections import deque
from collections.abc import Callable

from gentee.abi.linux_tee import TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT
from gentee.core.params import TeeParam
from gentee.core.shm import Backing
from gentee.core.workers import WORKERS
from gentee.linux.shm import PAGE_SIZE, create_shm, page_align

# The kernel copies between processes at a third of memcpy's pace, for it looks up page by page. So
# long copies are done by a few threads, in pieces of at least this many bytes.
_PIECE = 1 << 20
_MAX_THREADS = 4

Copy = tuple[Callable[[int, memoryview], None], int, memoryview]  # function, offset, view


class Range:
    """Bytes of one space that one or more references use, and their place in the window."""

    __slots__ = ("backing", "end", "offset", "parts", "place", "space", "start")

    def __init__(self, backing: Backing, offset: int, size: int) -> None:
        self.backing = backing
        self.offset = offset  # of start, in the backing
        self.space, base = backing.identity()
        self.start = base + offset  # in the space: an address, or a position in a file
        self.end = self.start + size
        # By which backing each byte can be had: (backing, offset in it, start, end).
        self.parts = [(backing, offset, self.start, self.end)]
        self.place = 0


class Layout:
    """Where in a window the references of one call are.

    ``size`` is what the window must hold, ``total`` what is copied in; ``outputs`` are (backing,
    offset in it, place, bytes), ``gaps`` starts and ends of what belongs to no reference.
    """

    __slots__ = ("_places", "gaps", "outputs", "ranges", "size", "total")

    def __init__(self, params: list[TeeParam]) -> None:
        self.outputs: list[tuple[Backing, int, int, int]] = []
        self.gaps: list[tuple[int, int]] = []
        self.size = self.total = 0
        self._places: dict[TeeParam, int] = {}
        pieces: list[tuple[TeeParam, Range]] = []
        for param in params:
            if param.shm is not None and param.shm.backing is not None:
                pieces.append((param, Range(param.shm.backing, param.a, param.b)))
        self.ranges = _merge([piece for _, piece in pieces])
        last: Range | None = None
        used = 0  # where the last one ends
        for merged in self.ranges:
            # The same offset in the page as the client's, so that alignment is preserved.
            merged.place = self.size + merged.start % PAGE_SIZE
            if last is not None and last.space == merged.space:
                place = last.place + merged.start - last.start
                if place < merged.place:  # in the last one's pages, or at the start of the next
                    merged.place = place
            if merged.place > used:
                self.gaps.append((used, merged.place))
            used = merged.place + merged.end - merged.start
            # At least a page: a reference without bytes needs a place as well.
            self.size = page_align(max(used, merged.place + 1))
            self.total += merged.end - merged.start
            last = merged
        if used < self.size:
            self.gaps.append((used, self.size))
        for param, piece in pieces:
            place = next(
                r.place + piece.start - r.start
                for r in self.ranges
                if r.space == piece.space and r.start <= piece.start and piece.end <= r.end
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
    spaces: dict[object, list[Range]] = {}
    for piece in pieces:
        spaces.setdefault(piece.space, []).append(piece)
    for in_space in spaces.values():
        last: Range | None = None
        for piece in sorted(in_space, key=lambda piece: piece.start):
            if last is None or piece.start >= last.end:
                last = Range(piece.backing, piece.offset, piece.end - piece.start)
                merged.append(last)
            elif piece.end > last.end:
                offset = piece.offset + last.end - piece.start
                last.parts.append((piece.backing, offset, last.end, piece.end))
                last.end = piece.end
    return merged


class _Pieces:
    """Long copies, cut into pieces for several threads."""

    def __init__(self, copies: list[Copy], total: int) -> None:
        self._threads = min(len(os.sched_getaffinity(0)), _MAX_THREADS)
        size = max(_PIECE, page_align(total // (2 * self._threads)))
        self._left: deque[Copy] = deque()
        for copy, offset, view in copies:
            for start in range(0, len(view), size):
                self._left.append((copy, offset + start, view[start : start + size]))
        self._lock = threading.Lock()  # protects _unfinished
        self._unfinished = len(self._left)
        self._finished = threading.Event()
        self._error: Exception | None = None

    def run(self) -> None:
        """Return when all are done; the error of one of them is raised."""
        for _ in range(min(self._unfinished, self._threads) - 1):
            try:
                WORKERS.submit(self._work)
            except OSError:  # no thread can be had: this one does it all
                break
        # A helper that comes late finds nothing to do, and nobody waits for it.
        self._work()
        self._finished.wait()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while True:
            try:
                copy, offset, view = self._left.popleft()
            except IndexError:
                return
            try:
                copy(offset, view)
            except Exception as error:  # for run() to raise, in the caller's thread
                self._error = error
            with self._lock:
                self._unfinished -= 1
                if not self._unfinished:
                    self._finished.set()


def _run(copies: list[Copy]) -> None:
    """Do ``copies``, which are independent of each other; OSError where one of them fails."""
    total = sum(len(view) for _, _, view in copies)
    if total > _PIECE:
        _Pieces(copies, total).run()
        return
    for copy, offset, view in copies:
        copy(offset, view)


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
        # Powers of two, so that growing stays rare.
        size = max(1 << 16, 1 << (size - 1).bit_length())
        fd = create_shm(size, "tee_window")
        try:
            area = mmap.mmap(fd, size)
        except BaseException:
            os.close(fd)
            raise
        self.mapped()
        self.size, self.fd, self._map = size, fd, area

    def mapped(self) -> None:
        """The service has it: the descriptor is not needed any more, the map holds the pages."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        # The service may die before it has it, while another thread is at work for it: so only the
        # last of them knows that nobody needs the descriptor.
        self.mapped()

    def view(self, place: int, size: int) -> memoryview:
        """Some of the area's bytes, for code inside this program. They last as long as the view."""
        return memoryview(self._map)[place : place + size]  # type: ignore[arg-type]

    def copy_in(self, layout: Layout) -> None:
        """Bring the client's bytes; OSError EFAULT where they are not there any more."""
        view = memoryview(self._map)  # type: ignore[arg-type]
        for start, end in layout.gaps:
            view[start:end] = bytes(end - start)
        _run(
            [
                (backing.copy_in, offset, view[r.place + start - r.start : r.place + end - r.start])
                for r in layout.ranges
                for backing, offset, start, end in r.parts
                if start != end
            ]
        )

    def copy_out(self, layout: Layout) -> None:
        """Take the outputs back; OSError EFAULT where the client cannot be written."""
        view = memoryview(self._map)  # type: ignore[arg-type]
        _run(
            [
                (backing.copy_out, offset, view[place : place + size])
                for backing, offset, place, size in layout.outputs
            ]
        )
