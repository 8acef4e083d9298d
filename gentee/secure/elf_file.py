# SPDX-License-Identifier: BSD-2-Clause
"""An ELF file of a TA as far as gentee's own process reads it: to know what it is, and to show it.

Nothing is loaded and nothing of it runs here; the loader in the TA's own process looks at all the
rest (:mod:`gentee.ta.loader`). Damage is a :class:`TaImageError` with TEE_ERROR_BAD_FORMAT. Work is
bounded by the size of the file.
"""

from gentee.abi import elf
from gentee.abi.gp import TEE_ERROR_BAD_FORMAT
from gentee.errors import TaImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHES = {elf.EM_ARM: "arm", elf.EM_AARCH64: "aarch64"}
_CLASSES = {elf.EM_ARM: elf.ELFCLASS32, elf.EM_AARCH64: elf.ELFCLASS64}

_MAX_HEADERS = 4096  # program headers or section headers; a TA has some thirty
_MAX_NOTES = 64 << 10  # bytes of notes that are looked through, of all together
_MAX_STRING = 256  # bytes of a name that are looked at


def bad_format(detail: str) -> TaImageError:
    """The error for damage in an ELF file."""
    return TaImageError(f"ELF: {detail}", TEE_ERROR_BAD_FORMAT)


class Segment:
    """A program header. ``flags`` are PF_R, PF_W and PF_X."""

    __slots__ = ("filesz", "flags", "memsz", "offset", "type", "vaddr")

    def __init__(
        self, type: int, flags: int, offset: int, vaddr: int, filesz: int, memsz: int
    ) -> None:
        self.type = type
        self.flags = flags
        self.offset = offset
        self.vaddr = vaddr
        self.filesz = filesz
        self.memsz = memsz


class Section:
    """A section header."""

    __slots__ = ("link", "offset", "size", "type")

    def __init__(self, type: int, offset: int, size: int, link: int) -> None:
        self.type = type
        self.offset = offset
        self.size = size
        self.link = link


class Symbol:
    """A dynamic symbol that the file defines. ``value`` and ``size`` are in bytes."""

    __slots__ = ("name", "size", "value")

    def __init__(self, name: bytes, value: int, size: int) -> None:
        self.name = name
        self.value = value
        self.size = size


class ElfFile:
    """An ELF file for Arm: ``arch`` is "aarch64" or "arm".

    :raises TaImageError: it is none.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        if len(data) < elf.Elf32_Ehdr.size or data[:4] != elf.ELFMAG:
            raise bad_format("not an ELF file")
        self.is_32bit = data[elf.EI_CLASS] == elf.ELFCLASS32
        if not self.is_32bit and data[elf.EI_CLASS] != elf.ELFCLASS64:
            raise bad_format("neither of 32 nor of 64 bits")
        layout = elf.Elf32_Ehdr if self.is_32bit else elf.Elf64_Ehdr
        if len(data) < layout.size:
            raise bad_format("its header is cut")
        (
            ident, type, self.machine, _version, self.entry, self._phoff, self._shoff, _flags,
            _ehsize, phentsize, self._phnum, shentsize, self._shnum, _shstrndx,
        ) = layout.unpack_from(data)  # fmt: skip
        if ident[elf.EI_DATA] != elf.ELFDATA2LSB:
            raise bad_format("not little-endian")
        if self.machine not in ARCHES or _CLASSES[self.machine] != ident[elf.EI_CLASS]:
            raise bad_format(f"for another machine ({self.machine})")
        if type != elf.ET_DYN:
            raise bad_format("not a shared object, nor a position-independent program")
        self._phdr = elf.Elf32_Phdr if self.is_32bit else elf.Elf64_Phdr
        self._shdr = elf.Elf32_Shdr if self.is_32bit else elf.Elf64_Shdr
        if self._phnum and phentsize != self._phdr.size:
            raise bad_format("program headers of an unknown size")
        if self._shnum and shentsize != self._shdr.size:
            raise bad_format("section headers of an unknown size")
        self.segments = self._read_segments()
        self.sections = self._read_sections()

    @property
    def arch(self) -> str:
        """The architecture: "aarch64" or "arm"."""
        return ARCHES[self.machine]

    def _table(self, what: str, offset: int, count: int, size: int) -> bytes:
        if count > _MAX_HEADERS:
            raise bad_format(f"{count} {what}")
        end = offset + count * size
        if end > len(self.data):
            raise bad_format(f"{what} beyond the end of the file")
        return self.data[offset:end]

    def _read_segments(self) -> list[Segment]:
        table = self._table("program headers", self._phoff, self._phnum, self._phdr.size)
        found = []
        for fields in self._phdr.iter_unpack(table):
            if self.is_32bit:
                type, offset, vaddr, _paddr, filesz, memsz, flags, _align = fields
            else:
                type, flags, offset, vaddr, _paddr, filesz, memsz, _align = fields
            found.append(Segment(type, flags, offset, vaddr, filesz, memsz))
        return found

    def _read_sections(self) -> list[Section]:
        table = self._table("section headers", self._shoff, self._shnum, self._shdr.size)
        return [
            Section(fields[1], fields[4], fields[5], fields[6])
            for fields in self._shdr.iter_unpack(table)
        ]

    def loaded(self) -> list[Segment]:
        """The segments that are mapped."""
        return [segment for segment in self.segments if segment.type == elf.PT_LOAD]

    def read(self, vaddr: int, size: int) -> bytes | None:
        """Bytes at an address, as the file has them; None where it has none."""
        for segment in self.loaded():
            at = vaddr - segment.vaddr
            if at >= 0 and at + size <= segment.filesz:
                start = segment.offset + at
                found = self.data[start : start + size]
                return found if len(found) == size else None
        return None

    def _content(self, section: Section) -> bytes:
        return self.data[section.offset : section.offset + section.size]

    def symbols(self, table: int = elf.SHT_DYNSYM) -> "Iterator[Symbol]":
        """The symbols that the file defines: global and weak ones.

        :param table: SHT_DYNSYM, those that others may use; SHT_SYMTAB: all, if not stripped.
        """
        for name, value, size, names in self._symbols(table):
            yield Symbol(_string(names, name), value, size)

    def _symbols(self, table: int) -> "Iterator[tuple[int, int, int, bytes]]":
        """Place of the name, value and size of each, and the table of names."""
        layout = elf.Elf32_Sym if self.is_32bit else elf.Elf64_Sym
        for section in self.sections:
            if section.type != table:
                continue
            if section.link >= len(self.sections):
                raise bad_format("the symbols have no table of names")
            data = self._content(section)
            names = self._content(self.sections[section.link])
            for fields in layout.iter_unpack(data[: len(data) // layout.size * layout.size]):
                if self.is_32bit:
                    name, value, size, info, _other, shndx = fields
                else:
                    name, info, _other, shndx, value, size = fields
                if shndx != elf.SHN_UNDEF and info >> 4 in (elf.STB_GLOBAL, elf.STB_WEAK):
                    yield name, value, size, names
            return

    def symbol(self, wanted: bytes) -> Symbol | None:
        """The dynamic symbol ``wanted`` if the file defines it."""
        text = wanted + b"\0"
        for name, value, size, names in self._symbols(elf.SHT_DYNSYM):
            if names.startswith(text, name):
                return Symbol(wanted, value, size)
        return None

    def any_symbols(self, *names: bytes) -> dict[bytes, Symbol]:
        """Those of the symbols ``names`` that either table has."""
        found: dict[bytes, Symbol] = {}
        for table in (elf.SHT_DYNSYM, elf.SHT_SYMTAB):
            for symbol in self.symbols(table):
                if symbol.name in names:
                    found.setdefault(symbol.name, symbol)
        return found

    @property
    def is_stripped(self) -> bool:
        """Whether it has no symbols besides the dynamic ones."""
        return all(section.type != elf.SHT_SYMTAB for section in self.sections)

    def pointers(self, start: int, size: int) -> dict[int, int]:
        """By address, what the relocations of the file put into ``size`` bytes at ``start``.

        Pointers into the file itself only, as R_AARCH64_RELATIVE and R_ARM_RELATIVE make them.
        """
        found: dict[int, int] = {}
        left = len(self.data)  # sections may lie over each other, again and again
        for section in self.sections:
            if section.type not in (elf.SHT_REL, elf.SHT_RELA):
                continue
            left -= min(section.size, len(self.data))
            if left < 0:
                raise bad_format("more relocations than the file has room for")
            if section.type == elf.SHT_RELA and not self.is_32bit:
                table = self._content(section)
                whole = table[: len(table) // elf.Elf64_Rela.size * elf.Elf64_Rela.size]
                for offset, info, addend in elf.Elf64_Rela.iter_unpack(whole):
                    if 0 <= offset - start < size and info == elf.R_AARCH64_RELATIVE:
                        found[offset] = addend
            elif section.type == elf.SHT_REL and self.is_32bit:
                table = self._content(section)
                whole = table[: len(table) // elf.Elf32_Rel.size * elf.Elf32_Rel.size]
                for offset, info in elf.Elf32_Rel.iter_unpack(whole):
                    if 0 <= offset - start < size and info == elf.R_ARM_RELATIVE:
                        word = self.read(offset, 4)
                        if word is not None:
                            found[offset] = int.from_bytes(word, "little")
        return found

    def text(self, vaddr: int) -> bytes | None:
        """The string at an address, at most so long as a name may be; None where there is none."""
        for segment in self.loaded():
            at = vaddr - segment.vaddr
            if 0 <= at < segment.filesz:
                start = segment.offset + at
                size = min(segment.filesz - at, _MAX_STRING)
                return self.data[start : start + size].partition(b"\0")[0]
        return None

    def needed(self) -> list[bytes]:
        """The names of DT_NEEDED: for a TA, each the text of a UUID."""
        return self._dynamic_strings(elf.DT_NEEDED)

    def soname(self) -> bytes:
        """DT_SONAME; empty without one."""
        return next(iter(self._dynamic_strings(elf.DT_SONAME)), b"")

    def _dynamic_strings(self, wanted: int) -> list[bytes]:
        layout = elf.Elf32_Dyn if self.is_32bit else elf.Elf64_Dyn
        for segment in self.segments:
            if segment.type != elf.PT_DYNAMIC:
                continue
            table = self.data[segment.offset : segment.offset + segment.filesz]
            table = table[: len(table) // layout.size * layout.size]
            values: list[int] = []
            strings = size = 0
            for tag, value in layout.iter_unpack(table):
                if tag == elf.DT_NULL:
                    break
                if tag == wanted:
                    values.append(value)
                elif tag == elf.DT_STRTAB:
                    strings = value
                elif tag == elf.DT_STRSZ:
                    size = value
            if not values:
                return []
            names = self.read(strings, size)
            if names is None or len(values) > _MAX_HEADERS:
                raise bad_format("DT_STRTAB is not in the file")
            return [_string(names, value) for value in values]
        return []

    def build_id(self) -> bytes:
        """The GNU build ID; empty without one."""
        places = [(one.offset, one.filesz) for one in self.segments if one.type == elf.PT_NOTE]
        places += [(one.offset, one.size) for one in self.sections if one.type == elf.SHT_NOTE]
        left = _MAX_NOTES  # they may lie over each other, again and again
        for offset, size in places:
            notes = self.data[offset : offset + min(size, left)]
            left -= len(notes)
            found = _build_id(notes)
            if found:
                return found
        return b""


def _string(table: bytes, offset: int) -> bytes:
    """The text at ``offset``, at most so long as a name may be."""
    end = table.find(b"\0", offset, offset + _MAX_STRING)
    return table[offset : end if end >= 0 else offset + _MAX_STRING]


def _build_id(notes: bytes) -> bytes:
    at = 0
    while at + elf.ELF_NOTE.size <= len(notes):
        namesz, descsz, type = elf.ELF_NOTE.unpack_from(notes, at)
        at += elf.ELF_NOTE.size
        name = notes[at : at + namesz]
        at += namesz + 3 & -4
        if type == elf.NT_GNU_BUILD_ID and name == elf.ELF_NOTE_GNU:
            return notes[at : at + descsz]
        at += descsz + 3 & -4
    return b""
