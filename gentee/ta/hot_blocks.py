# SPDX-License-Identifier: BSD-2-Clause
"""Which code a TA has run: noted by its first instance, for the template of those after it.

Translating is most of what the first entry of a TA costs. So what one instance had translated is
translated in the template that later ones are forked from (:mod:`gentee.secure.templates`). It
travels through memory that both map. All that is there is a hint, and was written by a process that
the TA may have taken over: it is read once, and only code that is mapped gets translated.
"""

import mmap
import os
from collections.abc import Iterator
from struct import Struct

from gentee.ta.engine.space import PROT_EXEC, AddressSpace
from gentee.ta.loader.link import Module

SIZE = 1 << 16  # bytes
# Offset in the module; in bits 1 and up the module, counted from 1, and in bit 0 whether Thumb. New
# memory is zero, so an entry without a module ends the list.
_ENTRY = Struct("<II")
_MOST = SIZE // _ENTRY.size - 1


class HotBlocks:
    """The list, in shared memory of SIZE bytes. The descriptor is closed."""

    def __init__(self, fd: int, modules: list[Module], space: AddressSpace) -> None:
        self._modules = modules
        self._space = space
        self._count = 0
        try:
            self._memory = mmap.mmap(fd, SIZE)
        finally:
            os.close(fd)

    def add(self, address: int, is_thumb: bool) -> None:
        """Note a block, as long as there is room."""
        if self._count == _MOST:
            return
        for number, module in enumerate(self._modules, 1):
            if module.load_addr <= address < module.regions[-1].end:
                offset = address - module.load_addr
                place = self._count * _ENTRY.size
                _ENTRY.pack_into(self._memory, place, offset, number << 1 | is_thumb)
                self._count += 1
                return

    def __iter__(self) -> Iterator[tuple[int, bool]]:
        """Address and whether Thumb of what was noted and is code of the TA's."""
        for offset, where in _ENTRY.iter_unpack(self._memory[:]):
            number = where >> 1
            if not 1 <= number <= len(self._modules):
                return
            address = offset + self._modules[number - 1].load_addr
            region = self._space.find(address)
            if region is not None and region.prot & PROT_EXEC:
                yield address, bool(where & 1)
