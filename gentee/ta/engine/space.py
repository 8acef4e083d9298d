# SPDX-License-Identifier: BSD-2-Clause
"""The address space of a TA: which memory is where, and the road to it from outside.

All addresses are below 4 GiB, for both architectures: OP-TEE's are, too. Places are random, in
whole pages, with unmapped pages around every block of regions, so that running off the end of
one faults.
"""

import mmap
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator

from gentee.abi.optee_ta import SMALL_PAGE_SIZE
from gentee.errors import AccessDenied, OutOfMemory
from gentee.ta.engine.base import (
    GUARDED_HIGH,
    GUARDED_LOW,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    Engine,
)

LOW = 0x10000000
HIGH = GUARDED_LOW
LENT = 0x30000000  # from here memory of others, if it fits; below it the TA's own
GUARD = 4 * SMALL_PAGE_SIZE  # unmapped on both sides of a block

# Regions of one TA. Each takes 13 KiB of the engine's memory, and time with the square of their
# number: this many take 0.15 seconds to map one by one.
MAX_REGIONS = 512

_TRIES = 16


def round_up(size: int) -> int:
    """``size`` in bytes, rounded up to whole pages."""
    return (size + SMALL_PAGE_SIZE - 1) & -SMALL_PAGE_SIZE


def random_below(limit: int) -> int:
    """An unpredictable number from 0 to ``limit`` - 1."""
    return int.from_bytes(os.urandom(8), "little") % limit


class BadAddress(AccessDenied):
    """A TA passed a range that is not mapped, or not for this use: TEE_ERROR_ACCESS_DENIED."""


class Region:
    """Memory that is mapped at one range of addresses with one protection.

    :ivar memory: the bytes, writable whatever ``prot`` says: this is the trusted side.
    :ivar name: what it is, for the person who reads a panic: ``"stack"``.
    :ivar owner: for whoever mapped it; the space does not look at it.
    """

    __slots__ = ("address", "end", "memory", "name", "owner", "prot", "size")

    def __init__(
        self, address: int, memory: memoryview, prot: int, name: str, owner: object
    ) -> None:
        self.address = address
        self.size = len(memory)
        self.end = address + self.size
        self.memory = memory
        self.prot = prot
        self.name = name
        self.owner = owner

    def __repr__(self) -> str:
        flags = "".join(c if self.prot & 1 << i else "-" for i, c in enumerate("rwx"))
        return f"<{self.address:#x}-{self.end:#x} {flags} {self.name}>"


class AddressSpace:
    """The regions of one TA, in an engine.

    :param limit: how many bytes of own memory the TA may have; more is OutOfMemory.
    :param random: a number from 0 to its argument - 1; tests give a predictable one.
    """

    def __init__(
        self,
        engine: Engine,
        limit: int = 256 << 20,
        random: Callable[[int], int] = random_below,
    ) -> None:
        self.engine = engine
        self.limit = limit
        self.used = 0  # bytes of own memory
        self._random = random
        self._starts: list[int] = []  # sorted
        self._regions: list[Region] = []  # in the same order
        self._guarded = False

    def __iter__(self) -> Iterator[Region]:
        return iter(self._regions)

    def allocate(self, size: int) -> memoryview:
        """Zeroed memory of ``size`` bytes, rounded up to pages; raises OutOfMemory."""
        self.check_regions()
        size = round_up(size)
        if not size or self.used + size > self.limit:
            raise OutOfMemory(f"{size} bytes of TA memory, {self.limit - self.used} are left")
        try:
            memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise OutOfMemory(f"{size} bytes of TA memory") from error
        self.used += size
        return memoryview(memory)

    def check_regions(self) -> None:
        """Whoever is about to make one more region asks; raises OutOfMemory."""
        if len(self._regions) >= MAX_REGIONS:
            raise OutOfMemory(f"more than {MAX_REGIONS} regions")

    def place(self, size: int, guarded: bool = False, lent: bool = False) -> int:
        """A random free address for ``size`` bytes, with free pages on both sides of it.

        :param guarded: in the window where branch targets are checked; switches checks on.
        :param lent: for memory of others. It is apart from the TA's own, which so does not cut its
            addresses into pieces: a client's buffer may be large.
        """
        if guarded and not self._guarded:
            self.engine.guard_branches()
            self._guarded = True
        size = round_up(size)
        first = (GUARDED_LOW, GUARDED_HIGH) if guarded else (LENT, HIGH) if lent else (LOW, LENT)
        address = self._place(*first, size)
        if not address and not guarded:
            address = self._place(LOW, HIGH, size)
        if not address:
            raise OutOfMemory(f"no addresses for {size} bytes")
        return address

    def _place(self, low: int, high: int, size: int) -> int:
        """An address between these; 0 if there is none."""
        pages = (high - low - size - 2 * GUARD) // SMALL_PAGE_SIZE
        if pages <= 0:
            return 0
        for _ in range(_TRIES):
            address = low + GUARD + self._random(pages) * SMALL_PAGE_SIZE
            if self._is_free(address - GUARD, address + size + GUARD):
                return address
        address = low + GUARD  # crowded: the first place that fits
        for region in self._regions:
            if region.end <= low:
                continue
            if address + size + GUARD <= region.address:
                break
            address = region.end + GUARD
        return address if address + size + GUARD <= high else 0

    def map(
        self, address: int, memory: memoryview, prot: int, name: str, owner: object = None
    ) -> Region:
        """Map memory, whole pages, at an address that is free; raises OutOfMemory, BadAddress."""
        self.check_regions()
        if not self._is_free(address, address + len(memory)):
            raise BadAddress(f"{address:#x} is taken")
        region = Region(address, memory, prot, name, owner)
        self.engine.map(address, memory, prot)
        index = bisect_left(self._starts, address)
        self._starts.insert(index, address)
        self._regions.insert(index, region)
        return region

    def unmap(self, region: Region, own: bool = False) -> None:
        """Take a region away. ``own``: its memory came from :meth:`allocate` and ends here."""
        index = bisect_left(self._starts, region.address)
        if index == len(self._regions) or self._regions[index] is not region:
            raise BadAddress(f"{region.address:#x} is not mapped")
        self.engine.unmap(region.address, region.size)
        del self._starts[index], self._regions[index]
        if own:
            self.used -= region.size

    def protect(self, region: Region, prot: int) -> None:
        """Change what the TA may do with a region."""
        if region.prot != prot:
            self.engine.protect(region.address, region.size, prot)
            region.prot = prot

    def find(self, address: int) -> Region | None:
        """The region that an address is in."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        region = self._regions[index]
        return region if address < region.end else None

    def view(self, address: int, size: int, prot: int = PROT_READ) -> memoryview:
        """The bytes themselves, where one region has them all; raises BadAddress.

        The TA has no other thread, but a client may write to shared memory at any time: what is
        checked must be copied first.
        """
        index = bisect_right(self._starts, address) - 1
        if index >= 0:
            region = self._regions[index]
            offset = address - region.address
            if 0 <= size <= region.size - offset and region.prot & prot == prot:
                return region.memory[offset : offset + size]
        raise BadAddress(f"{size} bytes at {address:#x}")

    def read(self, address: int, size: int) -> bytes:
        """A copy of bytes that the TA may read, across neighbouring regions; BadAddress."""
        try:
            return bytes(self.view(address, size))
        except BadAddress:
            return b"".join(bytes(part) for part in self._parts(address, size, PROT_READ))

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write where the TA may write, across neighbouring regions; BadAddress: nothing is."""
        size = len(data)
        try:
            self.view(address, size, PROT_READ | PROT_WRITE)[:] = data
        except BadAddress:
            position = 0
            for part in self._parts(address, size, PROT_READ | PROT_WRITE):
                part[:] = data[position : position + len(part)]
                position += len(part)

    def _parts(self, address: int, size: int, prot: int) -> list[memoryview]:
        parts = []
        while size > 0:
            region = self.find(address)
            if region is None or region.prot & prot != prot:
                raise BadAddress(f"{size} bytes at {address:#x}")
            count = min(size, region.end - address)
            offset = address - region.address
            parts.append(region.memory[offset : offset + count])
            address += count
            size -= count
        if size < 0:
            raise BadAddress("negative size")
        return parts

    def _is_free(self, low: int, high: int) -> bool:
        index = bisect_left(self._starts, high)
        return index == 0 or self._regions[index - 1].end <= low

    def close(self) -> None:
        """Unmap everything."""
        for region in tuple(self._regions):
            self.unmap(region)
        self.used = 0


__all__ = [
    "GUARD",
    "MAX_REGIONS",
    "PROT_EXEC",
    "PROT_READ",
    "PROT_WRITE",
    "AddressSpace",
    "BadAddress",
    "Region",
    "random_below",
    "round_up",
]
