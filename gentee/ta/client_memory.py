# SPDX-License-Identifier: BSD-2-Clause
"""Memory of clients in the address space of an OP-TEE TA, for the time of one call.

OP-TEE: vm_map_param() and vm_clean_param() (core/mm/vm.c). References are mapped by whole pages;
ranges of one buffer that overlap or touch are one mapping. All can be read and written, whatever
the kind of the reference is.

Mapping costs many times a call. So what one call had stays in place as long as nothing else enters
the TA, and is taken up again if the next call has the same; all else goes before the TA runs.
"""

import os
from typing import NamedTuple

from gentee.abi import ta_channel as ch
from gentee.abi.optee_ta import SMALL_PAGE_SIZE
from gentee.linux import maps
from gentee.ta.engine.space import PROT_READ, PROT_WRITE, AddressSpace, Region, round_up

# Region.owner of what is not the TA's private memory.
SHARED = "shared"

# Region.name of what was passed, by whose it is (TEE_MATTR_SECURE; CORE_MEM_SDP_MEM).
NORMAL_MEMORY = "client memory"
SECURE_MEMORY = "memory of another TA"
PROTECTED_MEMORY = "protected memory"


class _Buffer(NamedTuple):
    """A map in this process."""

    address: int
    size: int
    view: memoryview


class Reference(NamedTuple):
    """A memory reference of a call: a part of the buffer ``key``, in bytes.

    The key has KEY_* with it: what differs in these is mapped apart, though it be neighbours.
    """

    key: int
    offset: int
    size: int


_Range = tuple[int, int, int]  # key, first byte and end, whole pages


class ClientMemory:
    """The buffers that this process has mapped, and which parts of them the TA sees now."""

    def __init__(self, space: AddressSpace) -> None:
        self._space = space
        self._buffers: dict[int, _Buffer] = {}
        self._seen: dict[_Range, Region] = {}

    def add(self, key: int, fd: int, size: int) -> None:
        """Map a descriptor's memory as ``key``, in place of what was that; the descriptor goes."""
        self.drop(key)
        try:
            size = round_up(size)
            address = maps.map_shared(fd, size)
        finally:
            os.close(fd)
        self._buffers[key] = _Buffer(address, size, maps.view(address, size))

    def drop(self, key: int) -> None:
        """Let go of a buffer, if it is there."""
        buffer = self._buffers.pop(key, None)
        if buffer is None:
            return
        for seen in [seen for seen in self._seen if seen[0] & ch.KEY_MASK == key]:
            self._space.unmap(self._seen.pop(seen))
        buffer.view.release()
        maps.unmap(buffer.address, buffer.size)

    def show(self, references: list[Reference]) -> list[int]:
        """Let the TA see these and nothing else of clients; where each of them is.

        :raises OutOfMemory: there are no addresses for them.
        """
        wanted = self._ranges(references)
        seen = self._seen
        if seen.keys() != wanted.keys():
            for gone in [old for old in seen if old not in wanted]:
                self._space.unmap(seen.pop(gone))
            for key, start, end in wanted:
                if (key, start, end) not in seen:
                    seen[key, start, end] = self._map(key, start, end)
        return [self._address(reference, wanted) for reference in references]

    def hide(self) -> None:
        """Let the TA see nothing of clients."""
        if self._seen:
            for region in self._seen.values():
                self._space.unmap(region)
            self._seen.clear()

    def _ranges(self, references: list[Reference]) -> dict[_Range, None]:
        if len(references) == 1:
            reference = references[0]
            return {(reference.key, *self._pages(reference)): None}
        parts: dict[int, list[tuple[int, int]]] = {}
        for reference in references:
            parts.setdefault(reference.key, []).append(self._pages(reference))
        wanted: dict[_Range, None] = {}
        for key, pages in parts.items():
            pages.sort()
            start, end = pages[0]
            for next_start, next_end in pages[1:]:
                if next_start > end:
                    wanted[key, start, end] = None
                    start = next_start
                end = max(end, next_end)
            wanted[key, start, end] = None
        return wanted

    def _pages(self, reference: Reference) -> tuple[int, int]:
        # At least one page, and that inside the buffer: also a reference without bytes has an
        # address. At the very end of a buffer it is that of the byte behind its last page.
        most = self._buffers[reference.key & ch.KEY_MASK].size
        start = min(reference.offset & -SMALL_PAGE_SIZE, most - SMALL_PAGE_SIZE)
        return start, round_up(max(reference.offset + reference.size, start + 1))

    def _map(self, key: int, start: int, end: int) -> Region:
        memory = self._buffers[key & ch.KEY_MASK].view[start:end]
        address = self._space.place(end - start, lent=True)
        name = NORMAL_MEMORY
        if key & ch.KEY_PROTECTED:
            name = PROTECTED_MEMORY
        elif key & ch.KEY_SECURE:
            name = SECURE_MEMORY
        return self._space.map(address, memory, PROT_READ | PROT_WRITE, name, SHARED)

    def _address(self, reference: Reference, wanted: dict[_Range, None]) -> int:
        key, offset = reference.key, reference.offset
        for found in wanted:
            if found[0] == key and found[1] <= offset <= found[2]:
                return self._seen[found].address + offset - found[1]
        raise ValueError("a reference outside of what was mapped for it")
