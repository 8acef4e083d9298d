# SPDX-License-Identifier: BSD-2-Clause
"""ELF files for the tests of the loader, written field by field, right or wrong.

:class:`ElfWriter` starts as a small TA that loads; a test changes what it wants to be wrong and
calls :meth:`~ElfWriter.build`. Layout: a page of headers, a page of code, constants and tables, a
page of data, the section headers.
"""

from dataclasses import dataclass, field
from struct import Struct, pack

from gentee.abi import elf
from gentee.abi import optee_ta as ta

PAGE = 4096
CODE = 0x100  # where code starts in the first segment
DATA = PAGE  # where the second segment starts
NAMES = 0x400
SYMBOLS = 0x600
HASH = 0x800
RELOCATIONS = 0xA00
DYNAMIC = DATA + 0x400


@dataclass
class Phdr:
    type: int
    flags: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int
    align: int = PAGE


@dataclass
class Shdr:
    type: int
    addr: int
    size: int
    link: int = 0
    entsize: int = 0


@dataclass
class Sym:
    name: str
    value: int = 0
    bind: int = elf.STB_GLOBAL
    type: int = elf.STT_OBJECT
    shndx: int = 1


@dataclass
class Rel:
    type: int
    offset: int
    symbol: int = 0
    addend: int = 0


@dataclass
class ElfWriter:
    """A TA; ``is_main`` False: a library, whose headers are in its first segment."""

    arch: str = "aarch64"
    is_main: bool = True
    header: dict[str, int] = field(default_factory=dict)
    ident: dict[int, int] = field(default_factory=dict)
    head: dict[str, int] = field(default_factory=dict)
    symbols: list[Sym] = field(default_factory=list)
    relocations: list[Rel] = field(default_factory=list)
    dynamic: list[tuple[int, int]] = field(default_factory=list)
    needed: list[str] = field(default_factory=list)
    code: bytes = b""
    more_phdrs: list[Phdr] = field(default_factory=list)
    more_shdrs: list[Shdr] = field(default_factory=list)
    patches: dict[int, bytes] = field(default_factory=dict)  # in memory, by address
    hash_table: bytes | None = None
    data_size: int = PAGE
    data_memory: int = 2 * PAGE

    def __post_init__(self) -> None:
        self.is_32bit = self.arch == "arm"
        if self.is_main:
            self.symbols = [Sym("ta_head", 0), *self.symbols]
        self.base = PAGE if self.is_main else 0  # of the first segment in the file
        self.phdrs = [
            Phdr(elf.PT_LOAD, elf.PF_R | elf.PF_X, self.base, 0, PAGE, PAGE),
            Phdr(
                elf.PT_LOAD, elf.PF_R | elf.PF_W, self.base + PAGE, DATA,
                self.data_size, self.data_memory,
            ),
        ]  # fmt: skip
        self.shdrs: list[Shdr] | None = None

    def build(self) -> bytes:
        """The file."""
        memory = bytearray(PAGE + max(self.data_size, PAGE))
        names = bytearray(b"\0")
        symbols = self._symbol_struct().pack(*(0,) * 6)
        offsets = []
        for symbol in self.symbols:
            offsets.append(len(names))
            names += symbol.name.encode() + b"\0"
        for symbol, name in zip(self.symbols, offsets, strict=True):
            symbols += self._symbol(symbol, name)
        dynamic = list(self.dynamic)
        for needed in self.needed:
            dynamic.append((elf.DT_NEEDED, len(names)))
            names += needed.encode() + b"\0"
        relocations = b"".join(map(self._relocation, self.relocations))
        table = self.hash_table if self.hash_table is not None else self._hash()

        def put(at: int, data: bytes) -> None:
            memory[at : at + len(data)] = data

        if self.is_main:
            put(0, self._ta_head())
        put(CODE, self.code)
        put(NAMES, bytes(names))
        put(SYMBOLS, symbols)
        put(HASH, table)
        put(RELOCATIONS, relocations)
        phdrs = [*self.phdrs, *self.more_phdrs]
        if dynamic:
            dynamic += [(elf.DT_STRTAB, NAMES), (elf.DT_STRSZ, len(names)), (elf.DT_NULL, 0)]
            layout = elf.Elf32_Dyn if self.is_32bit else elf.Elf64_Dyn
            data = b"".join(layout.pack(*entry) for entry in dynamic)
            put(DYNAMIC, data)
            phdrs.append(
                Phdr(elf.PT_DYNAMIC, 6, self.base + DYNAMIC, DYNAMIC, len(data), len(data), 8)
            )
        for address, data in self.patches.items():
            put(address, data)
        entsize = 8 if self.is_32bit else 24
        shdrs = self.shdrs
        if shdrs is None:
            kind = elf.SHT_REL if self.is_32bit else elf.SHT_RELA
            shdrs = [
                Shdr(0, 0, 0),
                Shdr(elf.SHT_DYNSYM, SYMBOLS, len(symbols), 2, self._symbol_struct().size),
                Shdr(3, NAMES, len(names)),
                Shdr(elf.SHT_HASH, HASH, len(table), 1, 4),
                Shdr(kind, RELOCATIONS, len(relocations), 1, entsize),
            ]
        shdrs = [*shdrs, *self.more_shdrs]
        start = self.base + len(memory)
        headers = self._headers(start, phdrs, len(shdrs))
        sections = b"".join(map(self._section, shdrs))
        if self.is_main:
            return headers.ljust(PAGE, b"\0") + bytes(memory) + sections
        memory[: len(headers)] = headers
        return bytes(memory) + sections

    def _headers(self, shoff: int, phdrs: list[Phdr], shnum: int) -> bytes:
        ident = bytearray(elf.ELFMAG + bytes(12))
        ident[elf.EI_CLASS] = elf.ELFCLASS32 if self.is_32bit else elf.ELFCLASS64
        ident[elf.EI_DATA] = elf.ELFDATA2LSB
        ident[elf.EI_VERSION] = elf.EV_CURRENT
        for position, value in self.ident.items():
            ident[position] = value
        layout = elf.Elf32_Ehdr if self.is_32bit else elf.Elf64_Ehdr
        fields = {
            "type": elf.ET_DYN,
            "machine": elf.EM_ARM if self.is_32bit else elf.EM_AARCH64,
            "version": 1,
            "entry": CODE,
            "phoff": layout.size,
            "shoff": shoff,
            "flags": elf.EF_ARM_ABI_V5 if self.is_32bit else 0,
            "ehsize": layout.size,
            "phentsize": 32 if self.is_32bit else 56,
            "phnum": len(phdrs),
            "shentsize": 40 if self.is_32bit else 64,
            "shnum": shnum,
            "shstrndx": 0,
        }
        fields.update(self.header)
        data = layout.pack(bytes(ident), *fields.values())
        for phdr in phdrs:
            where = (phdr.vaddr, phdr.vaddr, phdr.filesz, phdr.memsz)
            if self.is_32bit:
                data += elf.Elf32_Phdr.pack(phdr.type, phdr.offset, *where, phdr.flags, phdr.align)
            else:
                data += elf.Elf64_Phdr.pack(phdr.type, phdr.flags, phdr.offset, *where, phdr.align)
        return data

    def _section(self, shdr: Shdr) -> bytes:
        layout = elf.Elf32_Shdr if self.is_32bit else elf.Elf64_Shdr
        offset = self.base + shdr.addr & 0xFFFFFFFF
        return layout.pack(
            0, shdr.type, 2, shdr.addr, offset, shdr.size, shdr.link, 0, 8, shdr.entsize
        )

    def _ta_head(self) -> bytes:
        fields = {"stack_size": 4096, "flags": 0, "depr_entry": ta.DEPR_ENTRY_NONE, **self.head}
        return ta.TA_HEAD.pack(1, 2, 3, b"abcdefgh", *fields.values())

    def _symbol_struct(self) -> Struct:
        return elf.Elf32_Sym if self.is_32bit else elf.Elf64_Sym

    def _symbol(self, symbol: Sym, name: int) -> bytes:
        info = symbol.bind << 4 | symbol.type
        if self.is_32bit:
            return elf.Elf32_Sym.pack(name, symbol.value, 0, info, 0, symbol.shndx)
        return elf.Elf64_Sym.pack(name, info, 0, symbol.shndx, symbol.value, 0)

    def _relocation(self, rel: Rel) -> bytes:
        if self.is_32bit:
            return elf.Elf32_Rel.pack(rel.offset, rel.symbol << 8 | rel.type)
        return elf.Elf64_Rela.pack(rel.offset, rel.symbol << 32 | rel.type, rel.addend)

    def _hash(self) -> bytes:
        """DT_HASH with one bucket: a chain through all symbols."""
        count = len(self.symbols) + 1
        chain = [0] + [n + 1 if n + 1 < count else 0 for n in range(1, count)]
        first = 1 if count > 1 else 0
        return pack(f"<{3 + count}I", 1, count, first, *chain)
