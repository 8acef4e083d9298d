# SPDX-License-Identifier: BSD-2-Clause
"""The client's memory inside a service: maps that are kept, and views that are lent for a call.

GP TEE Internal Core API 1.3.1 section 4.3.6.3: a memory reference is the service's for the duration
of the call only. A map is kept from call to call, since making one costs more than a call; the
views are taken away.

Some facts about taking views away
==================================

- ``release()`` ends one view. Slices, casts and copies of it live on: they share a *managed buffer*
  with it. So one managed buffer is kept for each map, and when a call has ended its reference count
  says whether anything is left. On the normal road that is all that is looked at.
- What is left is found among the objects that refer to the managed buffer, and released.
- Some of it cannot be: a ctypes object or an array of a library's keeps the plain address. So if
  anything was left, the map moves to another address, and nothing can be read at the old one: who
  looks there ends, and with it this service alone.
- A view that was released stays an object, and one that the service keeps would be counted at each
  later call. So a managed buffer with such views is replaced.

This is for services that are careless. One that works against us with native code has the map as
long as it has its process: see docs/threat-model.md.
"""

import gc
import os
from sys import getrefcount

from gentee.linux import maps


class _Area:
    """A map, and what views are made of."""

    __slots__ = ("address", "buffer", "count", "readonly", "size", "whole")

    def __init__(self, address: int, size: int) -> None:
        self.size = size
        self.place(address)

    def place(self, address: int) -> None:
        """It is at ``address`` from now on. Views that were made before do not count any more."""
        self.address = address
        self.whole = maps.view(address, self.size)
        self.readonly = self.whole.toreadonly()
        (self.buffer,) = gc.get_referents(self.whole)
        self.count = getrefcount(self.buffer)

    def clear(self) -> None:
        """Views are left: release them, and let no address that somebody kept lead here."""
        extra = getrefcount(self.buffer) - self.count
        left = [
            found
            for found in gc.get_referrers(self.buffer)
            if isinstance(found, memoryview) and not (found is self.whole or found is self.readonly)
        ]
        must_move = len(left) != extra  # somebody hides them from the collector
        for found in left:
            if not _is_released(found):
                must_move = True
                try:
                    found.release()
                except BufferError:  # an object of a library's looks through it
                    pass
        self.place(maps.move_away(self.address, self.size) if must_move else self.address)

    def end(self) -> None:
        self.whole.release()
        self.readonly.release()
        maps.unmap(self.address, self.size)


def _is_released(view: memoryview) -> bool:
    try:
        view.nbytes  # noqa: B018 (it is asked for its exception)
    except ValueError:
        return True
    return False


class Memory:
    """The maps of one service, by the key that the TEE gave them.

    ``lent`` is what :meth:`take_back` has to take back.
    """

    __slots__ = ("_areas", "lent")

    def __init__(self) -> None:
        self._areas: dict[int, _Area] = {}
        self.lent: list[tuple[_Area, memoryview]] = []

    def map(self, key: int, fd: int, size: int) -> None:
        """Map a descriptor's memory as ``key``, in place of what was that; the descriptor goes."""
        self.unmap(key)
        try:
            self._areas[key] = _Area(maps.map_shared(fd, size), size)
        finally:
            os.close(fd)

    def unmap(self, key: int) -> None:
        """Let go of a map, if it is there. No view of it is lent."""
        area = self._areas.pop(key, None)
        if area is not None:
            area.end()

    def lend(self, key: int, offset: int, size: int, readonly: bool) -> memoryview:
        """A view of a part of a map, until :meth:`take_back`."""
        area = self._areas[key]
        view = (area.readonly if readonly else area.whole)[offset : offset + size]
        self.lent.append((area, view))
        return view

    def take_back(self) -> None:
        """The call has ended, and its objects are gone: what was lent cannot be used any more."""
        lent = self.lent
        areas = []
        while lent:
            area, view = lent.pop()
            areas.append(area)
            try:
                view.release()
            except BufferError:  # it is left, and found below
                pass
            del view
        for area in areas:
            if getrefcount(area.buffer) != area.count:
                area.clear()
