# SPDX-License-Identifier: BSD-2-Clause
"""ELF files that are right, and each way in which they can be wrong."""

from collections.abc import Callable
from struct import pack

import pytest

from gentee.abi import elf, gp
from gentee.abi import optee_ta as ta
from gentee.errors import TaImageError
from gentee.ta.loader.image import ElfImage, parse_image, parse_uuid
from tests.elfwriter import CODE, DATA, DYNAMIC, HASH, PAGE, ElfWriter, Phdr, Rel, Shdr, Sym

ARCHES = ("aarch64", "arm")


def parse(writer: ElfWriter, limit: int = 1 << 20) -> ElfImage:
    return parse_image(writer.build(), writer.is_main, limit)


@pytest.mark.parametrize("arch", ARCHES)
def test_a_ta(arch: str) -> None:
    image = parse(ElfWriter(arch, head={"flags": 0x0C}))
    assert image.arch == arch
    assert image.entry == CODE
    assert image.head is not None
    assert image.head.uuid == bytes.fromhex("0000000100020003") + b"abcdefgh"
    assert image.head.stack_size == 4096
    assert image.head.flags == 0x0C
    assert not image.is_legacy
    assert image.span == 3 * PAGE
    shapes = [(s.vaddr, s.offset, s.filesz, s.memsz, s.flags) for s in image.segments]
    assert shapes == [(0, PAGE, PAGE, PAGE, 5), (PAGE, 2 * PAGE, PAGE, 2 * PAGE, 6)]


@pytest.mark.parametrize("arch", ARCHES)
def test_a_library(arch: str) -> None:
    image = parse(ElfWriter(arch, is_main=False, symbols=[Sym("f", CODE)]))
    assert image.head is None
    assert image.segments[0].offset == 0
    assert image.symbols is not None
    assert image.symbols.lookup(b"f") == (CODE, False)


@pytest.mark.parametrize("arch", ARCHES)
def test_needed_and_names(arch: str) -> None:
    first = "87bb6ae8-4b1d-49fe-9986-2b966132c309"
    second = "4B3D937E-D57E-418B-8673-1C04F2420226"
    writer = ElfWriter(arch, needed=[first, second, first])
    writer.dynamic = [
        (elf.DT_SONAME, 1),
        (elf.DT_INIT_ARRAY, DATA + 8),
        (elf.DT_INIT_ARRAYSZ, 16),
    ]
    image = parse(writer)
    assert [uuid.hex() for uuid in image.needed] == [
        first.replace("-", ""),
        second.replace("-", "").lower(),
    ]
    assert image.soname is not None
    assert image.init_array == (DATA + 8, 16)
    assert image.fini_array == (0, 0)


Change = Callable[[ElfWriter], object]


def header(**fields: int) -> Change:
    return lambda writer: writer.header.update(fields)


def head(**fields: int) -> Change:
    return lambda writer: writer.head.update(fields)


def ident(position: int, value: int) -> Change:
    return lambda writer: writer.ident.update({position: value})


def segment(number: int, **fields: int) -> Change:
    def change(writer: ElfWriter) -> None:
        for name, value in fields.items():
            setattr(writer.phdrs[number], name, value)

    return change


def phdr(*fields: int) -> Change:
    return lambda writer: writer.more_phdrs.append(Phdr(*fields))


def shdr(*fields: int) -> Change:
    return lambda writer: writer.more_shdrs.append(Shdr(*fields))


def rel(type: int, offset: int, symbol: int = 0) -> Change:
    return lambda writer: writer.relocations.append(Rel(type, offset, symbol))


def dynamic(tag: int, value: int) -> Change:
    return lambda writer: writer.dynamic.append((tag, value))


def hash_table(*words: int) -> Change:
    return lambda writer: setattr(writer, "hash_table", pack(f"<{len(words)}I", *words))


BAD, GENERIC = gp.TEE_ERROR_BAD_FORMAT, gp.TEE_ERROR_GENERIC
UNSUPPORTED, MEMORY = gp.TEE_ERROR_NOT_SUPPORTED, gp.TEE_ERROR_OUT_OF_MEMORY

WRONG: list[tuple[Change, int, str]] = [
    (ident(0, 0), BAD, "not an ELF"),
    (ident(elf.EI_CLASS, 3), BAD, "neither"),
    (ident(elf.EI_DATA, 2), BAD, "little-endian"),
    (ident(elf.EI_VERSION, 0), BAD, "version 1"),
    (ident(elf.EI_OSABI, 3), BAD, "another ABI"),
    (header(type=2), BAD, "not a shared object"),
    (header(machine=62), BAD, "another machine"),
    (header(phentsize=57), BAD, "unknown size"),
    (header(shentsize=0), BAD, "unknown size"),
    (header(phnum=200), UNSUPPORTED, "not in the first page"),
    (header(phoff=PAGE), UNSUPPORTED, "not in the first page"),
    (header(phnum=0), BAD, "no loadable"),
    (header(shnum=0xFFFF), BAD, "section headers are beyond"),
    (header(shoff=0x7FFFFFFF), BAD, "section headers are beyond"),
    (header(entry=DATA), BAD, "entry point"),
    (header(entry=PAGE * 9), BAD, "entry point"),
    (header(entry=CODE + 2), BAD, "entry point"),
    (segment(0, align=1024), GENERIC, "less than a page"),
    (segment(1, align=2 * PAGE), GENERIC, "differ in alignment"),
    (segment(1, vaddr=PAGE + 4), GENERIC, "do not match"),
    (segment(0, vaddr=PAGE), GENERIC, "overlap or descend"),
    (segment(1, vaddr=0), GENERIC, "overlap or descend"),
    (segment(1, offset=0), GENERIC, "descend in the file"),
    (segment(1, memsz=16), BAD, "smaller than its data"),
    (segment(1, memsz=0x7FFFF000), MEMORY, "more than"),
    (segment(1, vaddr=0x7FFFF000), MEMORY, "more than"),
    (segment(1, filesz=2 * PAGE), BAD, "beyond the end"),
    (segment(0, filesz=0, memsz=0), BAD, "empty segment"),
    (segment(0, flags=4 | 1, filesz=16), BAD, "read-only segment has zeros"),
    (segment(0, flags=1), UNSUPPORTED, "not readable"),
    (segment(0, offset=0), GENERIC, "ELF header of a TA"),
    (segment(0, flags=4), BAD, "entry point"),
    (segment(0, flags=7), BAD, "entry point"),
    (head(stack_size=0), BAD, "stack size"),
    (head(stack_size=1028), BAD, "stack size"),
    (head(flags=1 << 14), BAD, "flags"),
    (head(flags=ta.TA_FLAG_CONCURRENT), BAD, "flags"),
    (lambda writer: setattr(writer.symbols[0], "value", PAGE * 4), BAD, "out of range"),
    (lambda writer: setattr(writer.symbols[0], "value", PAGE * 2), BAD, "ta_head is out"),
    (lambda writer: setattr(writer.symbols[0], "type", 10), UNSUPPORTED, "symbol type 10"),
    (phdr(elf.PT_TLS, 4, 0, DATA, 8, 4), BAD, "PT_TLS is smaller"),
    (phdr(elf.PT_TLS, 4, 0, PAGE * 3, 8, 8), BAD, "PT_TLS is out"),
    (phdr(elf.PT_DYNAMIC, 4, 0, DYNAMIC, 12, 12), GENERIC, "fraction"),
    (phdr(elf.PT_DYNAMIC, 4, 0, PAGE * 8, 16, 16), BAD, "PT_DYNAMIC is out"),
    (dynamic(elf.DT_NEEDED, 1), BAD, "no UUID"),
    (dynamic(elf.DT_NEEDED, 0x7FFFFFFF), BAD, "no UUID"),
    (dynamic(elf.DT_SONAME, 4000), BAD, "DT_SONAME"),
    (dynamic(elf.DT_INIT_ARRAYSZ, 0x7FFFFFFF), BAD, "DT_INIT_ARRAY"),
    (shdr(elf.SHT_HASH, PAGE * 8, 8), BAD, "DT_HASH is out"),
    (shdr(elf.SHT_HASH, HASH + 2, 16), BAD, "not aligned"),
    (shdr(elf.SHT_HASH, HASH, 4), BAD, "too small"),
    (hash_table(9, 9, 0), BAD, "larger than its section"),
    (hash_table(1, 2, 5, 0, 0), BAD, "out of its chains"),
    (hash_table(1, 3, 1, 0, 2, 1), BAD, "no end|out of range"),
    (shdr(elf.SHT_GNU_HASH, HASH, 8), BAD, "too small"),
    (rel(999 & 0xFF, DATA, 0), BAD, "unknown relocation|needs symbols"),
]


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize(("change", "code", "text"), WRONG)
def test_wrong(arch: str, change: Change, code: int, text: str) -> None:
    writer = ElfWriter(arch)
    change(writer)
    with pytest.raises(TaImageError, match=text) as caught:
        parse(writer)
    assert caught.value.code == code


@pytest.mark.parametrize("size", [0, 3, 51, 63, 100, PAGE, 2 * PAGE, 3 * PAGE])
@pytest.mark.parametrize("arch", ARCHES)
def test_truncated(arch: str, size: int) -> None:
    with pytest.raises(TaImageError):
        parse_image(ElfWriter(arch).build()[:size])


def test_flags_of_the_header() -> None:
    for arch, flags, osabi in (("aarch64", 1, 0), ("arm", 0x04000000, 0), ("arm", 0x05000000, 97)):
        with pytest.raises(TaImageError, match="another ABI"):
            parse(ElfWriter(arch, header={"flags": flags}, ident={elf.EI_OSABI: osabi}))
    parse(ElfWriter("arm", header={"flags": 0}, ident={elf.EI_OSABI: elf.ELFOSABI_ARM}))
    parse(ElfWriter("arm", header={"flags": 0x05000400}))


def test_a_library_without_its_header() -> None:
    writer = ElfWriter(is_main=False)
    for load in writer.phdrs:
        load.offset += PAGE
    with pytest.raises(TaImageError, match="library is in no segment"):
        parse_image(writer.build() + bytes(PAGE), is_main=False)


def test_segments_that_share_a_page() -> None:
    """The page gets the rights of both: ldelf's case 1. A TA could not start there."""
    writer = ElfWriter(is_main=False)
    writer.phdrs[0].filesz = writer.phdrs[0].memsz = 0xF00
    writer.phdrs[1].offset -= 0x80
    writer.phdrs[1].vaddr -= 0x80
    image = parse(writer)
    (segment,) = image.segments
    assert (segment.vaddr, segment.flags) == (0, 7)
    assert segment.end == DATA - 0x80 + writer.data_memory


def test_segments_that_share_a_page_of_the_file() -> None:
    """Only a writable one may have what another one has, too: ldelf's case 2."""
    writer = ElfWriter(data_size=0xF00)
    writer.phdrs[0].filesz = writer.phdrs[0].memsz = 0xF00
    second = writer.phdrs[1]
    second.offset, second.vaddr = 2 * PAGE - 0x80, 2 * PAGE - 0x80
    assert [s.vaddr for s in parse(writer).segments] == [0, PAGE]
    writer.data_memory = second.memsz = second.filesz
    second.flags = 4
    with pytest.raises(TaImageError, match="share a page of the file"):
        parse(writer)


@pytest.mark.parametrize("arch", ARCHES)
def test_relocations_have_bounds(arch: str) -> None:
    relative = elf.R_ARM_RELATIVE if arch == "arm" else elf.R_AARCH64_RELATIVE
    for offset, text in ((CODE, "not in writable"), (3 * PAGE - 2, "out of range")):
        with pytest.raises(TaImageError, match=text):
            parse(ElfWriter(arch, relocations=[Rel(relative, offset)]))
    with pytest.raises(TaImageError, match="not in writable"):
        parse(ElfWriter(arch, relocations=[Rel(relative, DATA), Rel(relative, DATA - 2)]))
    word = elf.R_ARM_ABS32 if arch == "arm" else elf.R_AARCH64_ABS64
    with pytest.raises(TaImageError, match="symbol index"):
        parse(ElfWriter(arch, relocations=[Rel(word, DATA, 9)]))


@pytest.mark.parametrize("arch", ARCHES)
def test_the_head_of_a_legacy_ta_is_first(arch: str) -> None:
    """Where the symbol is says that it is one; what it says is at the load address."""
    writer = ElfWriter(arch, head={"stack_size": 8192, "depr_entry": CODE})
    writer.symbols[0].value = 0x40
    writer.patches[0x40] = ta.TA_HEAD.pack(9, 9, 9, bytes(8), 4096, 0, CODE)
    head = parse(writer).head
    assert head is not None
    assert (head.vaddr, head.stack_size, head.uuid[:4]) == (0, 8192, bytes([0, 0, 0, 1]))
    writer.head = {}
    with pytest.raises(TaImageError, match="not first") as caught:
        parse(writer)
    assert caught.value.code == GENERIC


def test_relocation_sections_have_bounds() -> None:
    def sections(*wrong: Shdr) -> ElfWriter:
        writer = ElfWriter()
        writer.more_shdrs = list(wrong)
        return writer

    with pytest.raises(TaImageError, match="unknown size"):
        parse(sections(Shdr(elf.SHT_RELA, 0x200, 24, 1, 16)))
    with pytest.raises(TaImageError, match="symbols have an unknown size"):
        parse(sections(Shdr(elf.SHT_RELA, 0x200, 24, 2, 24)))
    with pytest.raises(TaImageError, match="symbol table is out"):
        parse(sections(Shdr(elf.SHT_RELA, 0x200, 24, 99, 24)))
    with pytest.raises(TaImageError, match="relocation table is out"):
        parse(sections(Shdr(elf.SHT_RELA, 0x200, 24 * 4096, 1, 24)))


def test_many_sections_over_the_same_bytes() -> None:
    writer = ElfWriter()
    writer.more_shdrs = [Shdr(elf.SHT_RELA, 0xB00, 960, 1, 24)] * 2000
    with pytest.raises(TaImageError, match=r"room for|overlap"):
        parse(writer)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"87bb6ae8-4b1d-49fe-9986-2b966132c309",
        b"87bb6ae8-4b1d-49fe-9986-2b966132c309x",
        b"87bb6ae8-4b1d-49fe-9986+2b966132c309\0",
        b"87bb6ae8-4b1d-49fe-9986-2b966132c30g\0",
        b"87bb6ae84-b1d-49fe-9986-2b966132c309\0",
        b"\xff" * 36 + b"\0",
    ],
)
def test_no_uuid(text: bytes) -> None:
    with pytest.raises(TaImageError, match="no UUID"):
        parse_uuid(text)
