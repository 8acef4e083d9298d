# SPDX-License-Identifier: BSD-2-Clause
"""Page tables that map memory onto itself, and say which pages have no code.

Memory is flat without them. They are there for two facts of Unicorn:

- A page that may be executed, as the CPU sees it, is one whose translated code a store could make
  stale. So each store to it leaves the quick path, and without page tables the CPU may execute
  everything: a TA's stores cost ten times what they cost here. Pages of code alone are executable
  in these tables.
- Only page tables can say that branch targets are guarded (bit GP).

What a TA may do with its memory is not said here: those protections stay Unicorn's own, which name
a fault with its address.

Both architectures have the same descriptors: AArch64 with 39 bits of addresses, AArch32 in the
long format (Arm ARM, D8.3 and G5.5). The first level has blocks of 1 GiB; the first 4 GiB, where
all of a TA is, have a table of 2 MiB blocks each, and those with code one of 4 KiB pages.
"""

from struct import pack_into, unpack_from

from gentee.ta.engine.base import GUARDED_HIGH, GUARDED_LOW

PAGE = 4096
ADDRESS = 1 << 39  # where the tables are: the CPU reads them, no address of a TA leads there

_ENTRIES = 512
_SECOND = 4  # tables of the second level
_THIRD = 64  # of the third: a TA with code in more places has some of its data the slow way
PAGES = 1 + _SECOND + _THIRD
SIZE = PAGES * PAGE

_TABLE = 3
_BLOCK = 1
_PAGE = 3
_ATTRIBUTES = 1 << 6 | 3 << 8 | 1 << 10  # read and write at EL0, inner shareable, accessed
_GUARDED = 1 << 50
_NO_CODE = 1 << 54 | 1 << 53


def _level(shift: int, base: int, kind: int, attributes: int) -> bytes:
    table = bytearray(PAGE)
    for index in range(_ENTRIES):
        pack_into("<Q", table, index * 8, base + (index << shift) | kind | attributes)
    return bytes(table)


_FIRST = (
    b"".join(
        (ADDRESS + PAGE * (1 + index) | _TABLE).to_bytes(8, "little") for index in range(_SECOND)
    )
    + _level(30, 0, _BLOCK, _ATTRIBUTES | _NO_CODE)[8 * _SECOND :]
)
_START = _FIRST + b"".join(
    _level(21, index << 30, _BLOCK, _ATTRIBUTES | _NO_CODE) for index in range(_SECOND)
)


class PageTables:
    """The tables of one CPU, in memory of :data:`SIZE` bytes that is zero."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        memory[: len(_START)] = _START
        self._third: dict[int, int] = {}  # of which 2 MiB, where in the memory
        self._guarded = False

    def guard(self) -> None:
        """Guard the branches into the guarded window, whose code comes later."""
        self._guarded = True

    def set_code(self, address: int, size: int, *, code: bool) -> None:
        """Say of whole pages whether they have code."""
        end = min(address + size, _SECOND << 30)
        while address < end:
            block = address >> 21
            part = min(end, (block + 1) << 21)
            self._set(block, address, part, code)
            address = part

    def _set(self, block: int, address: int, end: int, code: bool) -> None:
        attributes = _ATTRIBUTES
        if self._guarded and GUARDED_LOW <= address < GUARDED_HIGH:
            attributes |= _GUARDED
        entry = PAGE + block * 8
        table = self._third.get(block)
        if table is None:
            if not code:
                return
            if len(self._third) == _THIRD:
                descriptor = block << 21 | _BLOCK | attributes
                pack_into("<Q", self._memory, entry, descriptor)
                return
            table = (1 + _SECOND + len(self._third)) * PAGE
            self._third[block] = table
            self._memory[table : table + PAGE] = _level(
                12, block << 21, _PAGE, _ATTRIBUTES | _NO_CODE
            )
            pack_into("<Q", self._memory, entry, ADDRESS + table | _TABLE)
        if not code:
            attributes |= _NO_CODE
        for page in range(address >> 12, end >> 12):
            place = table + (page % _ENTRIES) * 8
            pack_into("<Q", self._memory, place, page << 12 | _PAGE | attributes)

    def is_code(self, address: int) -> bool:
        """Whether the CPU may execute a page; for tests."""
        if address >= _SECOND << 30:
            return False
        block = address >> 21
        table = self._third.get(block)
        place = PAGE + block * 8 if table is None else table + (address >> 12) % _ENTRIES * 8
        (descriptor,) = unpack_from("<Q", self._memory, place)
        return not descriptor & _NO_CODE
