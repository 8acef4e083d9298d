# SPDX-License-Identifier: BSD-2-Clause
"""A file's relocations, read once: what has to be done when it gets an address.

ldelf finds them through the section headers, so here too: DT_RELA is wrong in TAs that OP-TEE's
linker script made. Nearly all are relative, which come out as two lists per segment, ready for
one loop. The others keep the name that they ask for.
"""

from array import array
from enum import Enum
from typing import NamedTuple

from gentee.abi import elf, gp
from gentee.errors import TaImageError
from gentee.ta.loader.segments import Segment
from gentee.ta.loader.symbols import SymbolTable, bad_format


class Kind(Enum):
    """What a relocation stores, in a word of the file's class unless it says otherwise."""

    ADD = "what is there plus the load address plus addend"
    ADD_CONSTANT = "what is there plus addend"
    RELATIVE = "the load address plus addend"
    SYMBOL = "the symbol's value; the addend is ignored"
    TLS_TPREL = "the symbol's offset from the thread pointer, plus addend"
    TLS_DESC = "two words: a resolver, and what TLS_TPREL stores"
    TLS_MODULE = "the number of the symbol's file"
    TLS_OFFSET = "the symbol's value, or 0"


class Relocation(NamedTuple):
    """One relocation that is not plain: at ``offset`` in ``segment``.

    :ivar name: the symbol to resolve; None: the file itself.
    :ivar optional: no such symbol means 0.
    """

    kind: Kind
    segment: int
    offset: int
    name: bytes | None
    optional: bool
    addend: int


class Relatives(NamedTuple):
    """Aligned relative relocations of one segment: word numbers in it, and addends.

    ``addends`` is None in 32-bit files: what is there is the addend.
    """

    segment: int
    slots: list[int]
    addends: list[int] | None


class Relocations(NamedTuple):
    """All relocations of a file."""

    relatives: list[Relatives]
    others: list[Relocation]


class _Collector:
    def __init__(self, is_32bit: bool, segments: list[Segment], span: int, writable: bool) -> None:
        self.word = 4 if is_32bit else 8
        self.span = span
        self.segments = segments
        self.writable = writable
        self.slots: list[list[int]] = [[] for _ in segments]
        self.addends: list[list[int]] = [[] for _ in segments]
        self.others: list[Relocation] = []

    def target(self, offset: int, size: int) -> int:
        """The segment that a relocation may write to; refuses any other place."""
        if offset + size >= self.span:
            raise bad_format("a relocation is out of range")
        for index, segment in enumerate(self.segments):
            if segment.vaddr <= offset and offset + size <= (segment.end + 4095 & -4096):
                if self.writable or segment.flags & elf.PF_W:
                    return index
                break
        raise TaImageError(
            f"a relocation at {offset:#x} is not in writable memory", gp.TEE_ERROR_GENERIC
        )

    def add(self, kind: Kind, offset: int, name: bytes | None, optional: bool, addend: int) -> None:
        size = self.word * 2 if kind is Kind.TLS_DESC else self.word
        index = self.target(offset, size)
        at = offset - self.segments[index].vaddr
        self.others.append(Relocation(kind, index, at, name, optional, addend))

    def add_relatives(self, offsets: list[int], addends: list[int] | None) -> bool:
        """All of them at once, if they are aligned and in one segment."""
        low, high = min(offsets), max(offsets)
        index = self.target(low, self.word)
        if self.target(high, self.word) != index:
            return False
        shift = 2 if self.word == 4 else 3
        base = self.segments[index].vaddr
        bits = 0
        for offset in offsets:
            bits |= offset
        if bits & (self.word - 1):
            return False
        base >>= shift
        self.slots[index] += [(offset >> shift) - base for offset in offsets]
        if addends is not None:
            self.addends[index] += addends
        return True


def read_rela(
    tables: list[tuple[bytes, SymbolTable | None]],
    segments: list[Segment],
    span: int,
    is_legacy: bool,
) -> Relocations:
    """The SHT_RELA sections of an AArch64 file, each with its symbols."""
    collector = _Collector(False, segments, span, is_legacy)
    for table, symbols in tables:
        words = array("Q", table)
        offsets, infos, addends = list(words[0::3]), list(words[1::3]), list(words[2::3])
        if not offsets:
            continue
        plain = infos.count(elf.R_AARCH64_RELATIVE) == len(infos)
        if not plain or not collector.add_relatives(offsets, addends):
            for offset, info, addend in zip(offsets, infos, addends, strict=True):
                _rela(collector, symbols, offset, info, addend)
    return _collected(collector, with_addends=True)


def _rela(
    collector: _Collector, symbols: SymbolTable | None, offset: int, info: int, addend: int
) -> None:
    index, type = info >> 32, info & 0xFFFFFFFF
    if type == elf.R_AARCH64_RELATIVE:
        collector.add(Kind.RELATIVE, offset, None, False, addend)
    elif type == elf.R_AARCH64_NONE:
        if offset + 8 >= collector.span:
            raise bad_format("a relocation is out of range")
    elif type in (elf.R_AARCH64_TLS_TPREL, elf.R_AARCH64_TLSDESC):
        kind = Kind.TLS_TPREL if type == elf.R_AARCH64_TLS_TPREL else Kind.TLS_DESC
        if index:
            name, optional = _named(symbols, index)
            collector.add(kind, offset, name, optional, addend)
        else:
            collector.add(kind, offset, None, False, addend)
    elif type in (elf.R_AARCH64_GLOB_DAT, elf.R_AARCH64_JUMP_SLOT):
        name, optional = _named(symbols, index)
        collector.add(Kind.SYMBOL, offset, name, optional, 0)
    elif type == elf.R_AARCH64_ABS64:
        if symbols is None:
            raise bad_format("a symbol index is out of range")
        entry = symbols.entry(index)
        if entry.shndx == elf.SHN_UNDEF:
            name, optional = _named(symbols, index)
            collector.add(Kind.SYMBOL, offset, name, optional, 0)
        else:
            collector.add(Kind.RELATIVE, offset, None, False, addend + entry.value)
    else:
        raise bad_format(f"unknown relocation type {type}")


def read_rel(
    tables: list[tuple[bytes, SymbolTable | None]],
    segments: list[Segment],
    span: int,
    is_legacy: bool,
) -> Relocations:
    """The SHT_REL sections of an AArch32 file, each with its symbols."""
    collector = _Collector(True, segments, span, is_legacy)
    for table, symbols in tables:
        words = array("I", table)
        offsets, infos = list(words[0::2]), list(words[1::2])
        if not offsets:
            continue
        plain = infos.count(elf.R_ARM_RELATIVE) == len(infos)
        if not plain or not collector.add_relatives(offsets, None):
            for offset, info in zip(offsets, infos, strict=True):
                _rel(collector, symbols, offset, info)
    return _collected(collector, with_addends=False)


def _rel(collector: _Collector, symbols: SymbolTable | None, offset: int, info: int) -> None:
    index, type = info >> 8, info & 0xFF
    if type == elf.R_ARM_RELATIVE:
        collector.add(Kind.ADD, offset, None, False, 0)
    elif type == elf.R_ARM_NONE:
        if offset + 4 >= collector.span:
            raise bad_format("a relocation is out of range")
    elif symbols is None:
        raise bad_format("a relocation needs symbols, and there are none")
    elif type == elf.R_ARM_ABS32:
        entry = symbols.entry(index)
        if entry.shndx == elf.SHN_UNDEF:
            name, optional = _named(symbols, index)
            collector.add(Kind.SYMBOL, offset, name, optional, 0)
        else:
            collector.add(Kind.ADD, offset, None, False, entry.value)
    elif type == elf.R_ARM_REL32:
        value = symbols.entry(index).value - offset
        collector.add(Kind.ADD_CONSTANT, offset, None, False, value)
    elif type in (elf.R_ARM_GLOB_DAT, elf.R_ARM_JUMP_SLOT):
        name, optional = _named(symbols, index)
        collector.add(Kind.SYMBOL, offset, name, optional, 0)
    elif type == elf.R_ARM_TLS_DTPMOD32:
        entry = symbols.entry(index)
        module = None if not index or entry.shndx != elf.SHN_UNDEF else symbols.name(entry)
        collector.add(Kind.TLS_MODULE, offset, module, True, 0)
    elif type == elf.R_ARM_TLS_DTPOFF32:
        name, _ = _named(symbols, index)
        collector.add(Kind.TLS_OFFSET, offset, name, True, 0)
    else:
        raise bad_format(f"unknown relocation type {type}")


def _named(symbols: SymbolTable | None, index: int) -> tuple[bytes, bool]:
    """The name that symbol ``index`` asks for, and whether it may stay undefined."""
    if symbols is None:
        raise bad_format("a relocation needs symbols, and there are none")
    entry = symbols.entry(index)
    optional = entry.shndx == elf.SHN_UNDEF and entry.bind == elf.STB_WEAK
    return symbols.name(entry), optional


def _collected(collector: _Collector, with_addends: bool) -> Relocations:
    relatives = [
        Relatives(index, slots, collector.addends[index] if with_addends else None)
        for index, slots in enumerate(collector.slots)
        if slots
    ]
    return Relocations(relatives, collector.others)
