# SPDX-License-Identifier: BSD-2-Clause
"""The dynamic symbols of one file, looked up through its hash tables as ldelf does.

The tables decide what is found: a symbol that no table leads to does not exist. DT_GNU_HASH goes
before DT_HASH; the first has no undefined symbols, the second has, and there an undefined weak
symbol is found, with the value 0, although a later file may define it.
"""

from struct import Struct
from typing import NamedTuple

from gentee.abi import elf, gp
from gentee.errors import TaImageError

_GNU_HASH = Struct("<4I")  # nbuckets symoffset bloom_size bloom_shift
_WORD = Struct("<I")

# For one file each time it is linked: steps along hash chains and bytes of names. A TA with a
# thousand imports takes some ten thousand.
WORK_LIMIT = 8 << 20


def bad_format(detail: str) -> TaImageError:
    """The error for damage that ldelf answers TEE_ERROR_BAD_FORMAT to."""
    return TaImageError(detail, gp.TEE_ERROR_BAD_FORMAT)


class Symbol(NamedTuple):
    """A symbol as found: ``value`` is relative to the file, or, if ``absolute``, final."""

    value: int
    absolute: bool


class Entry(NamedTuple):
    """An entry of the symbol table."""

    name: int
    value: int
    bind: int
    type: int
    shndx: int


class SymbolTable:
    """Symbols, names and hash tables of a file; each may be empty.

    :param span: the size of the file's memory, which values must not exceed.
    """

    def __init__(
        self,
        is_32bit: bool,
        symbols: bytes,
        names: bytes,
        span: int,
        hash_table: bytes | None = None,
        gnu_hash_table: bytes | None = None,
    ) -> None:
        self._is_32bit = is_32bit
        self._symbols = symbols
        self._names = names
        self._span = span
        self._struct = elf.Elf32_Sym if is_32bit else elf.Elf64_Sym
        if len(symbols) % self._struct.size:
            raise bad_format("the symbol table has a fraction of a symbol")
        self.count = len(symbols) // self._struct.size
        self._work = 0
        self._found: dict[bytes, Symbol | None] = {}
        self._hash = hash_table
        self._gnu_hash = gnu_hash_table
        if hash_table is not None:
            self._check_hash(hash_table)
        if gnu_hash_table is not None:
            self._check_gnu_hash(gnu_hash_table)

    def _check_hash(self, table: bytes) -> None:
        if len(table) < 8:
            raise bad_format("DT_HASH is too small")
        buckets, chains = Struct("<II").unpack_from(table)
        if (2 + buckets + chains) * 4 > len(table):
            raise bad_format("DT_HASH is larger than its section")

    def _check_gnu_hash(self, table: bytes) -> None:
        if len(table) < _GNU_HASH.size:
            raise bad_format("DT_GNU_HASH is too small")
        buckets, _offset, bloom, shift = _GNU_HASH.unpack_from(table)
        size = 16 + buckets * 4 + bloom * (4 if self._is_32bit else 8)
        if size > len(table):
            raise bad_format("DT_GNU_HASH is larger than its section")
        if not buckets or not bloom or shift > 63:
            raise bad_format("DT_GNU_HASH has no buckets")

    def begin(self) -> None:
        """Work is counted from here: a file is linked anew, or a TA asks for a symbol."""
        self._work = 0
        if len(self._found) > 1 << 16:  # a TA that asks for ever new names
            self._found.clear()

    def entry(self, index: int) -> Entry:
        """Entry ``index`` of the table."""
        if index >= self.count:
            raise bad_format("a symbol index is out of range")
        fields = self._struct.unpack_from(self._symbols, index * self._struct.size)
        if self._is_32bit:
            name, value, _size, info, _other, shndx = fields
        else:
            name, info, _other, shndx, value, _size = fields
        return Entry(name, value, info >> 4, info & 15, shndx)

    def name(self, entry: Entry) -> bytes:
        """The name of an entry, as a relocation against it asks for."""
        if entry.name >= len(self._names):
            raise bad_format("a symbol's name is out of range")
        end = self._names.find(b"\0", entry.name)
        if end < 0:
            raise bad_format("a symbol's name does not end")
        self._spend(end - entry.name + 1)
        return self._names[entry.name : end]

    def lookup(self, name: bytes) -> Symbol | None:
        """A global symbol of this name, else a weak one, else None."""
        try:
            return self._found[name]
        except KeyError:
            pass
        if b"\0" in name:
            return None
        if self._gnu_hash is not None:
            candidates = self._gnu_candidates(self._gnu_hash, name)
        elif self._hash is not None:
            candidates = self._hash_candidates(self._hash, name)
        else:
            candidates = []
        named = [entry for entry in map(self.entry, candidates) if self._is_named(entry, name)]
        symbol = self._pick(named, weak=False) or self._pick(named, weak=True)
        self._found[name] = symbol
        return symbol

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > WORK_LIMIT:
            raise bad_format("the symbol tables take too long to search")

    def _is_named(self, entry: Entry, name: bytes) -> bool:
        if not entry.name:
            return False
        if entry.name > len(self._names):
            raise bad_format("a symbol's name is out of range")
        end = entry.name + len(name)
        return self._names[entry.name : end] == name and self._names[end : end + 1] == b"\0"

    def _pick(self, named: list[Entry], weak: bool) -> Symbol | None:
        for entry in named:
            if entry.bind != elf.STB_GLOBAL and not (weak and entry.bind == elf.STB_WEAK):
                continue
            if entry.shndx == elf.SHN_UNDEF and entry.bind == elf.STB_WEAK:
                return Symbol(0, True)
            if entry.shndx in (elf.SHN_UNDEF, elf.SHN_XINDEX):
                continue
            if entry.type in (elf.STT_NOTYPE, elf.STT_OBJECT, elf.STT_FUNC):
                if entry.value > self._span:
                    raise bad_format("a symbol is out of range")
                return Symbol(entry.value, False)
            if entry.type == elf.STT_TLS:
                return Symbol(entry.value, True)
            raise TaImageError(
                f"symbol type {entry.type} is not supported", gp.TEE_ERROR_NOT_SUPPORTED
            )
        return None

    def _gnu_candidates(self, table: bytes, name: bytes) -> list[int]:
        buckets, offset, bloom_size, shift = _GNU_HASH.unpack_from(table)
        value = elf.gnu_hash(name)
        bits = 32 if self._is_32bit else 64
        at = 16 + value // bits % bloom_size * (bits // 8)
        word = int.from_bytes(table[at : at + bits // 8], "little")
        mask = 1 << value % bits | 1 << (value >> shift) % bits
        if word & mask != mask:
            return []
        at = 16 + bloom_size * (bits // 8)
        (index,) = _WORD.unpack_from(table, at + value % buckets * 4)
        if index < offset:
            return []
        found = []
        at += buckets * 4 + (index - offset) * 4
        while at + 4 <= len(table):
            (hashed,) = _WORD.unpack_from(table, at)
            if hashed | 1 == value | 1:
                found.append(index)
            self._spend(1)
            if hashed & 1:
                break
            index += 1
            at += 4
        return found

    def _hash_candidates(self, table: bytes, name: bytes) -> list[int]:
        buckets, chains = Struct("<II").unpack_from(table)
        if not buckets:
            return []
        (index,) = _WORD.unpack_from(table, 8 + elf.elf_hash(name) % buckets * 4)
        found: list[int] = []
        while index:
            if index >= chains:
                raise bad_format("DT_HASH leads out of its chains")
            if len(found) == chains:
                raise bad_format("a chain of DT_HASH has no end")
            found.append(index)
            self._spend(1)
            (index,) = _WORD.unpack_from(table, 8 + (buckets + index) * 4)
        return found
