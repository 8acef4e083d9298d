# SPDX-License-Identifier: BSD-2-Clause
"""One ELF file, read and checked: everything about it that does not depend on addresses.

The checks and their order are those of OP-TEE's ldelf (``ldelf/ta_elf.c``), with its result codes.
Where ldelf would go on with something that makes no sense (a name outside the string table, an
entry point in data, a table that lies in no segment) the file is refused: BAD_FORMAT.
"""

from struct import Struct
from typing import NamedTuple

from gentee.abi import elf, gp
from gentee.abi import optee_ta as ta
from gentee.errors import TaImageError
from gentee.ta.loader import relocations
from gentee.ta.loader.segments import ProgramHeader, Segment, load_segments
from gentee.ta.loader.symbols import SymbolTable, bad_format

# What a file's segments may span. OP-TEE's own limit is the secure memory of the board.
MEMORY_LIMIT = 64 << 20


class TaHead(NamedTuple):
    """``struct ta_head`` of a TA. ``uuid`` is 16 bytes in the order of RFC 4122."""

    uuid: bytes
    stack_size: int
    flags: int
    depr_entry: int
    vaddr: int


class Section(NamedTuple):
    """A section header, as far as the loader reads it."""

    type: int
    addr: int
    offset: int
    size: int
    link: int
    entsize: int


class Tls(NamedTuple):
    """The PT_TLS of a file."""

    vaddr: int
    filesz: int
    memsz: int


class ElfImage:
    """A checked file. It is never changed: instances of a TA share it.

    :ivar arch: ``"aarch64"`` or ``"arm"``.
    :ivar entry: e_entry.
    :ivar segments: what is mapped, in ascending order.
    :ivar span: the size of the range from the first to the last byte, whole pages.
    :ivar phoff, phnum: where the program headers are in the file.
    :ivar needed: the UUIDs of DT_NEEDED, 16 bytes each.
    :ivar soname: the address of the file's name in its string table, or None.
    :ivar init_array, fini_array: address and size in bytes, zeros if there is none.
    :ivar is_bti: built with branch target identification.
    :ivar head: of a main program only.
    """

    def __init__(self, data: bytes, is_main: bool, limit: int) -> None:
        self.data = data
        self._read_size = 0
        self.is_main = is_main
        self._read_header(data)
        headers = self._program_headers(data)
        self.segments = load_segments(headers, len(data), limit, is_main)
        self.span = self.segments[-1].end + ta.SMALL_PAGE_SIZE - 1 & -ta.SMALL_PAGE_SIZE
        self._tls_headers(headers)
        self.needed: list[bytes] = []
        self.soname: int | None = None
        self.init_array = (0, 0)
        self.fini_array = (0, 0)
        self._dynamic(headers)
        self._sections = self._section_headers(data)
        self._tables: dict[int, SymbolTable] = {}
        self.symbols = self._dynamic_symbols()
        self.is_bti = not self.is_32bit and any(map(self._has_bti, headers))
        self.head: TaHead | None = None
        if is_main:
            self.head = self._ta_head()
        self.is_legacy = self.head is not None and self.head.depr_entry != ta.DEPR_ENTRY_NONE
        if is_main and not self.is_legacy:
            self.check_entry(self.entry)
        self.relocations = self._relocations()

    def _read_header(self, data: bytes) -> None:
        if len(data) < elf.Elf64_Ehdr.size or data[:4] != elf.ELFMAG:
            raise bad_format("not an ELF file")
        self.is_32bit = data[elf.EI_CLASS] == elf.ELFCLASS32
        layout = elf.Elf32_Ehdr if self.is_32bit else elf.Elf64_Ehdr
        (
            ident, type, machine, _version, entry, phoff, shoff, flags,
            _ehsize, phentsize, phnum, shentsize, shnum, _shstrndx,
        ) = layout.unpack_from(data)  # fmt: skip
        if ident[elf.EI_CLASS] not in (elf.ELFCLASS32, elf.ELFCLASS64):
            raise bad_format("neither a 32-bit nor a 64-bit ELF file")
        if ident[elf.EI_DATA] != elf.ELFDATA2LSB or ident[elf.EI_VERSION] != elf.EV_CURRENT:
            raise bad_format("not a little-endian ELF file of version 1")
        if type != elf.ET_DYN:
            raise bad_format("not a shared object")
        osabi = ident[elf.EI_OSABI]
        if self.is_32bit:
            self.arch = "arm"
            expected, sizes = elf.EM_ARM, (elf.Elf32_Phdr.size, elf.Elf32_Shdr.size)
            versions = {
                elf.ELFOSABI_NONE: elf.EF_ARM_ABI_V5,
                elf.ELFOSABI_ARM: elf.EF_ARM_ABI_UNKNOWN,
            }
            abi_is_right = versions.get(osabi) == flags & elf.EF_ARM_ABIMASK
        else:
            self.arch = "aarch64"
            expected, sizes = elf.EM_AARCH64, (elf.Elf64_Phdr.size, elf.Elf64_Shdr.size)
            abi_is_right = osabi == elf.ELFOSABI_NONE and not flags
        if machine != expected:
            raise bad_format(f"for another machine ({machine})")
        if not abi_is_right:
            raise bad_format(f"for another ABI (OSABI {osabi}, flags {flags:#x})")
        if (phentsize, shentsize) != sizes:
            raise bad_format("headers have an unknown size")
        self.entry: int = entry
        self.phoff = phoff
        self.phnum = phnum
        self._shoff = shoff
        self._shnum = shnum

    def _program_headers(self, data: bytes) -> list[ProgramHeader]:
        layout = elf.Elf32_Phdr if self.is_32bit else elf.Elf64_Phdr
        end = self.phoff + self.phnum * layout.size
        if end > ta.SMALL_PAGE_SIZE:
            raise TaImageError(
                "program headers are not in the first page", gp.TEE_ERROR_NOT_SUPPORTED
            )
        if end > len(data):
            raise bad_format("program headers are beyond the end")
        headers = []
        for fields in layout.iter_unpack(data[self.phoff : end]):
            if self.is_32bit:
                type, offset, vaddr, _paddr, filesz, memsz, flags, align = fields
            else:
                type, flags, offset, vaddr, _paddr, filesz, memsz, align = fields
            headers.append(ProgramHeader(type, flags, offset, vaddr, filesz, memsz, align))
        return headers

    def _tls_headers(self, headers: list[ProgramHeader]) -> None:
        found = [header for header in headers if header.type == elf.PT_TLS]
        if len(found) > 1:
            raise bad_format("more than one PT_TLS")
        self.tls: Tls | None = None
        for header in found:
            if header.memsz < header.filesz:
                raise bad_format("PT_TLS is smaller than its data")
            self._check_range("PT_TLS", header.vaddr, header.filesz)
            self.tls = Tls(header.vaddr, header.filesz, header.memsz)

    def _check_range(self, name: str, vaddr: int, size: int) -> None:
        if vaddr + size > self.span:
            raise bad_format(f"{name} is out of range")

    def segment_at(self, vaddr: int) -> Segment | None:
        """The segment that has this address."""
        for segment in self.segments:
            if segment.vaddr <= vaddr < segment.end:
                return segment
        return None

    def read(self, name: str, vaddr: int, size: int) -> bytes:
        """Bytes of the file as they will be in memory, before relocation; raises TaImageError.

        They have to come from the file: tables of zeros are of no use to anybody.
        """
        self._read_size += size
        if self._read_size > 16 * len(self.data):  # many headers over the same bytes
            raise bad_format("tables overlap")
        for segment in self.segments:
            offset = vaddr - segment.vaddr
            if offset >= 0 and offset + size <= segment.filesz:
                start = segment.offset + offset
                return self.data[start : start + size]
        raise bad_format(f"{name} is out of range")

    def _dynamic(self, headers: list[ProgramHeader]) -> None:
        found = [header for header in headers if header.type == elf.PT_DYNAMIC]
        if len(found) > 1:
            raise bad_format("more than one PT_DYNAMIC")
        for header in found:
            layout = elf.Elf32_Dyn if self.is_32bit else elf.Elf64_Dyn
            if header.memsz % layout.size:
                raise TaImageError("PT_DYNAMIC has a fraction of an entry", gp.TEE_ERROR_GENERIC)
            data = self.read("PT_DYNAMIC", header.vaddr, header.memsz)
            self._dynamic_entries(list(layout.iter_unpack(data)))

    def _dynamic_entries(self, entries: list[tuple[int, int]]) -> None:
        first: dict[int, int] = {}
        for tag, value in entries:
            first.setdefault(tag, value)
        strings, size = first.get(elf.DT_STRTAB, 0), first.get(elf.DT_STRSZ, 0)
        wanted = [value for tag, value in entries if tag == elf.DT_NEEDED]
        if wanted or elf.DT_SONAME in first:
            table = self.read("DT_STRTAB", strings, size)
            for value in wanted:
                uuid = parse_uuid(table[value : value + 37])
                if uuid not in self.needed:
                    self.needed.append(uuid)
            if elf.DT_SONAME in first:
                if table.find(b"\0", first[elf.DT_SONAME]) < 0:
                    raise bad_format("DT_SONAME is out of range")
                self.soname = strings + first[elf.DT_SONAME]
        self.init_array = self._array("DT_INIT_ARRAY", first, elf.DT_INIT_ARRAY)
        self.fini_array = self._array("DT_FINI_ARRAY", first, elf.DT_FINI_ARRAY)

    def _array(self, name: str, first: dict[int, int], tag: int) -> tuple[int, int]:
        address, size = first.get(tag, 0), first.get(tag + 2, 0)
        if size:
            self._check_range(name, address, size)
        return address, size

    def _section_headers(self, data: bytes) -> list[Section]:
        layout = elf.Elf32_Shdr if self.is_32bit else elf.Elf64_Shdr
        end = self._shoff + self._shnum * layout.size
        if end > len(data):
            raise bad_format("section headers are beyond the end")
        sections = []
        for fields in layout.iter_unpack(data[self._shoff : end]):
            _name, type, _flags, addr, offset, size, link, _info, _align, entsize = fields
            sections.append(Section(type, addr, offset, size, link, entsize))
        return sections

    def _dynamic_symbols(self) -> SymbolTable | None:
        hash_table = gnu_hash_table = None
        for section in self._sections:
            if section.type == elf.SHT_HASH:
                hash_table = self._words("DT_HASH", section)
            elif section.type == elf.SHT_GNU_HASH:
                gnu_hash_table = self._words("DT_GNU_HASH", section)
        for index, section in enumerate(self._sections):
            if section.type == elf.SHT_DYNSYM:
                if section.addr % (4 if self.is_32bit else 8):
                    raise bad_format("the symbol table is not aligned")
                return self._symbol_table(index, hash_table, gnu_hash_table)
        return None

    def _words(self, name: str, section: Section) -> bytes:
        if section.addr % 4:
            raise bad_format(f"{name} is not aligned")
        return self.read(name, section.addr, section.size)

    def _symbol_table(
        self, index: int, hash_table: bytes | None = None, gnu_hash_table: bytes | None = None
    ) -> SymbolTable:
        known = self._tables.get(index)
        if known is not None:
            return known
        section = self._sections[index]
        if section.link >= len(self._sections):
            raise bad_format("the index of a string table is out of range")
        strings = self._sections[section.link]
        table = SymbolTable(
            self.is_32bit,
            self.read("the symbol table", section.addr, section.size),
            self.read("the string table", strings.addr, strings.size),
            self.span,
            hash_table,
            gnu_hash_table,
        )
        self._tables[index] = table
        return table

    def _relocations(self) -> relocations.Relocations:
        wanted = elf.SHT_REL if self.is_32bit else elf.SHT_RELA
        size = elf.Elf32_Rel.size if self.is_32bit else elf.Elf64_Rela.size
        symbol_size = elf.Elf32_Sym.size if self.is_32bit else elf.Elf64_Sym.size
        tables: list[tuple[bytes, SymbolTable | None]] = []
        total = 0
        for section in self._sections:
            if section.type != wanted:
                continue
            if section.entsize != size:
                raise TaImageError("relocations have an unknown size", gp.TEE_ERROR_GENERIC)
            if section.link >= len(self._sections):
                raise bad_format("the index of a symbol table is out of range")
            if section.link and self._sections[section.link].entsize != symbol_size:
                raise TaImageError("symbols have an unknown size", gp.TEE_ERROR_GENERIC)
            table = self.read("a relocation table", section.addr, section.size // size * size)
            total += len(table)
            if total > len(self.data):  # sections over the same bytes, again and again
                raise bad_format("more relocations than the file has room for")
            if table:
                symbols = self._symbol_table(section.link) if section.link else None
                tables.append((table, symbols))
        read = relocations.read_rel if self.is_32bit else relocations.read_rela
        return read(tables, self.segments, self.span, self.is_legacy)

    def _has_bti(self, header: ProgramHeader) -> bool:
        """Whether a PT_GNU_PROPERTY asks for BTI; one that cannot be read does not."""
        if header.type != elf.PT_GNU_PROPERTY or not header.vaddr:
            return False
        align = header.align
        if align < 4 or align & (align - 1) or align > 16 or header.memsz < 16:
            return False
        note = self.read("PT_GNU_PROPERTY", header.vaddr, header.memsz)
        name_size, size, type = elf.ELF_NOTE.unpack_from(note)
        if type != elf.NT_GNU_PROPERTY_TYPE_0 or name_size != 4 or note[12:16] != elf.ELF_NOTE_GNU:
            return False
        properties = note[16 : 16 + size]
        if len(properties) != size:
            return False
        position = 0
        found = False
        while position + elf.ELF_PROPERTY.size <= size:
            type, length = elf.ELF_PROPERTY.unpack_from(properties, position)
            value = properties[position + 8 : position + 8 + length]
            if type == elf.GNU_PROPERTY_AARCH64_FEATURE_1_AND and len(value) == length == 4:
                found = found or bool(value[0] & elf.GNU_PROPERTY_AARCH64_FEATURE_1_BTI)
            position += 8 + (length + align - 1 & -align)
        return found

    def _ta_head(self) -> TaHead:
        vaddr = 0
        if self.symbols is not None:
            symbol = self.symbols.lookup(b"ta_head")
            if symbol is not None:
                vaddr = symbol.value
        fields = ta.TA_HEAD.unpack(self.read("ta_head", vaddr, ta.TA_HEAD.size))
        if vaddr and fields[-1] != ta.DEPR_ENTRY_NONE:
            # A legacy TA: ldelf loads it anew, and takes what is at its load address.
            vaddr = 0
            fields = ta.TA_HEAD.unpack(self.read("ta_head", vaddr, ta.TA_HEAD.size))
            if fields[-1] == ta.DEPR_ENTRY_NONE:
                raise TaImageError("a legacy ta_head that is not first", gp.TEE_ERROR_GENERIC)
        low, mid, high, node, stack_size, flags, depr_entry = fields
        alignment = 8 if self.is_32bit else 16
        if not stack_size or stack_size % alignment:
            raise bad_format(f"invalid stack size {stack_size}")
        if flags & ~ta.TA_FLAGS_MASK or flags & ta.TA_FLAG_CONCURRENT:
            raise bad_format(f"invalid TA flags {flags:#x}")
        uuid = _UUID_BE.pack(low, mid, high) + node
        return TaHead(uuid, stack_size, flags, depr_entry, vaddr)

    def check_entry(self, entry: int) -> None:
        """Refuse an entry point, relative to the file, that is not in code."""
        segment = self.segment_at(entry & ~1 if self.is_32bit else entry)
        if segment is None or segment.flags & (elf.PF_X | elf.PF_W) != elf.PF_X:
            raise bad_format(f"the entry point {entry:#x} is not in code")
        if entry & 3 and not (self.is_32bit and entry & 1):
            raise bad_format(f"the entry point {entry:#x} is not aligned")


_UUID_BE = Struct(">IHH")


def parse_uuid(text: bytes) -> bytes:
    """The 16 octets of a library's name in DT_NEEDED, which is its UUID; raises TaImageError."""
    name = text[:36].decode("ascii", "replace")
    digits = name.replace("-", "")
    is_uuid = len(text) == 37 and not text[36] and len(digits) == 32
    if not is_uuid or [name.find("-", at) for at in (0, 9, 14, 19, 24)] != [8, 13, 18, 23, -1]:
        raise TaImageError(f"needs {name!r}, which is no UUID", gp.TEE_ERROR_BAD_FORMAT)
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise bad_format(f"needs {name!r}, which is no UUID") from None


def parse_image(data: bytes, is_main: bool = True, limit: int = MEMORY_LIMIT) -> ElfImage:
    """Read and check a TA, or a library that TAs use; raises TaImageError."""
    return ElfImage(bytes(data), is_main, limit)
