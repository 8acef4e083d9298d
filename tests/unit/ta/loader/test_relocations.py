# SPDX-License-Identifier: BSD-2-Clause
"""What each relocation stores, looked at in memory."""

from struct import pack, unpack_from

import pytest

from gentee.abi import elf, gp
from gentee.errors import TaImageError
from gentee.ta.engine.native import NativeEngine
from gentee.ta.engine.space import AddressSpace
from gentee.ta.loader.image import ElfImage, parse_image
from gentee.ta.loader.link import Loader
from tests.elfwriter import CODE, DATA, ElfWriter, Phdr, Rel, Sym
from tests.ta_run import LIBRARY, UUID, uuid_text

LATE = DATA + 0x20  # a second place for a relocation


def load(
    writer: ElfWriter, library: ElfWriter | None = None
) -> tuple[Loader, AddressSpace, NativeEngine]:
    engine = NativeEngine(writer.arch)
    space = AddressSpace(engine)

    def fetch(_uuid: bytes) -> ElfImage:
        assert library is not None
        return parse_image(library.build(), is_main=False)

    loader = Loader(space, fetch)
    loader.load(UUID, parse_image(writer.build()))
    return loader, space, engine


def words(writer: ElfWriter, library: ElfWriter | None = None) -> tuple[list[int], list[int]]:
    """Four words at the start of the TA's data and where its files are."""
    loader, _space, engine = load(writer, library)
    layout = "<4I" if writer.is_32bit else "<4Q"
    values = list(unpack_from(layout, loader.modules[0].regions[1].memory))
    bases = [module.load_addr for module in loader.modules]
    engine.close()
    return values, bases


def test_aarch64_without_symbols_of_others() -> None:
    writer = ElfWriter(symbols=[Sym("here", DATA + 0x30)])
    writer.patches[DATA] = pack("<4Q", 1, 2, 3, 4)
    writer.relocations = [
        Rel(elf.R_AARCH64_RELATIVE, DATA, 0, 0x1234),
        Rel(elf.R_AARCH64_ABS64, DATA + 8, 2, 5),
        Rel(elf.R_AARCH64_GLOB_DAT, DATA + 16, 2, 7),  # the addend is ignored
        Rel(elf.R_AARCH64_NONE, DATA + 24),
    ]
    values, (base,) = words(writer)
    assert values == [base + 0x1234, base + DATA + 0x35, base + DATA + 0x30, 4]


def test_aarch64_relative_that_is_not_aligned() -> None:
    writer = ElfWriter(relocations=[Rel(elf.R_AARCH64_RELATIVE, DATA + 4, 0, -8)])
    loader, _space, engine = load(writer)
    (value,) = unpack_from("<Q", loader.modules[0].regions[1].memory, 4)
    assert value == loader.modules[0].load_addr - 8
    engine.close()


def test_arm_without_symbols_of_others() -> None:
    writer = ElfWriter("arm", symbols=[Sym("here", DATA + 0x30)])
    writer.patches[DATA] = pack("<4I", 0x1234, 5, 100, 4)
    writer.relocations = [
        Rel(elf.R_ARM_RELATIVE, DATA),
        Rel(elf.R_ARM_ABS32, DATA + 4, 2),
        Rel(elf.R_ARM_REL32, DATA + 8, 2),
        Rel(elf.R_ARM_NONE, DATA + 12),
    ]
    values, (base,) = words(writer)
    assert values == [base + 0x1234, base + DATA + 0x35, 100 + 0x30 - 8, 4]


@pytest.mark.parametrize("arch", ["aarch64", "arm"])
def test_symbols_of_a_library(arch: str) -> None:
    kinds = (
        (elf.R_ARM_GLOB_DAT, elf.R_ARM_JUMP_SLOT, elf.R_ARM_ABS32)
        if arch == "arm"
        else (elf.R_AARCH64_GLOB_DAT, elf.R_AARCH64_JUMP_SLOT, elf.R_AARCH64_ABS64)
    )
    size = 4 if arch == "arm" else 8
    writer = ElfWriter(arch, needed=[uuid_text(LIBRARY)])
    writer.symbols += [Sym("f", shndx=0), Sym("maybe", bind=elf.STB_WEAK, shndx=0)]
    writer.relocations = [Rel(kind, DATA + n * size, 2, 99) for n, kind in enumerate(kinds)] + [
        Rel(kinds[0], DATA + 3 * size, 3)
    ]
    writer.patches[DATA] = b"\xff" * 4 * size
    library = ElfWriter(arch, is_main=False, symbols=[Sym("f", CODE | 1, type=elf.STT_FUNC)])
    values, (_base, other) = words(writer, library)
    assert values == [other + CODE + 1] * 3 + [0]


def test_weak_and_global() -> None:
    """A file's global symbol goes before its weak one; a weak one of a file before goes first."""
    writer = ElfWriter(needed=[uuid_text(LIBRARY)])
    writer.symbols += [
        Sym("f", 0x200, bind=elf.STB_WEAK),
        Sym("f", 0x300),
        Sym("g", 0x400, bind=elf.STB_WEAK),
        Sym("h", shndx=0, bind=elf.STB_WEAK),
    ]
    writer.relocations = [
        Rel(elf.R_AARCH64_GLOB_DAT, DATA + n * 8, symbol) for n, symbol in enumerate((2, 4, 5))
    ]
    library = ElfWriter(is_main=False, symbols=[Sym("f", 0x500), Sym("g", 0x600), Sym("h", 0x700)])
    values, (base, _other) = words(writer, library)
    # DT_HASH has undefined symbols, too: an undefined weak one hides the library's.
    assert values[:3] == [base + 0x300, base + 0x400, 0]


def test_an_undefined_symbol() -> None:
    writer = ElfWriter(symbols=[Sym("nowhere", shndx=0)])
    writer.relocations = [Rel(elf.R_AARCH64_JUMP_SLOT, DATA, 2)]
    with pytest.raises(TaImageError, match="symbol nowhere is not found") as caught:
        load(writer)
    assert caught.value.code == gp.TEE_ERROR_ITEM_NOT_FOUND


def test_thread_local_offsets() -> None:
    writer = ElfWriter(needed=[uuid_text(LIBRARY)])
    writer.more_phdrs = [Phdr(elf.PT_TLS, 4, DATA + 4096, DATA, 4, 12)]
    writer.symbols += [Sym("mine", 4, type=elf.STT_TLS), Sym("theirs", shndx=0)]
    writer.relocations = [
        Rel(elf.R_AARCH64_TLS_TPREL, DATA, 0, 3),
        Rel(elf.R_AARCH64_TLS_TPREL, DATA + 8, 2, 0),
        Rel(elf.R_AARCH64_TLS_TPREL, DATA + 16, 3, 1),
        Rel(elf.R_AARCH64_TLSDESC, LATE, 3, 2),
    ]
    library = ElfWriter(is_main=False, symbols=[Sym("theirs", 8, type=elf.STT_TLS)])
    library.more_phdrs = [Phdr(elf.PT_TLS, 4, DATA, DATA, 4, 20)]
    loader, space, engine = load(writer, library)
    memory = loader.modules[0].regions[1].memory
    # Two words of the TCB, then the blocks in load order, without alignment
    assert unpack_from("<3Q", memory) == (16 + 3, 16 + 4, 16 + 12 + 8 + 1)
    resolver, offset = unpack_from("<2Q", memory, LATE - DATA)
    assert offset == 16 + 12 + 8 + 2
    region = space.find(resolver)
    assert region is not None
    assert region.prot == 5
    assert loader.modules[1].tls_offset == 28
    engine.close()


def test_thread_local_modules() -> None:
    writer = ElfWriter("arm", needed=[uuid_text(LIBRARY)])
    writer.more_phdrs = [Phdr(elf.PT_TLS, 4, DATA + 4096, DATA, 4, 12)]
    writer.symbols += [Sym("mine", 4, type=elf.STT_TLS), Sym("theirs", shndx=0)]
    writer.relocations = [
        Rel(elf.R_ARM_TLS_DTPMOD32, DATA, 0),
        Rel(elf.R_ARM_TLS_DTPMOD32, DATA + 4, 3),
        Rel(elf.R_ARM_TLS_DTPOFF32, DATA + 8, 3),
        Rel(elf.R_ARM_TLS_DTPOFF32, DATA + 12, 2),
    ]
    library = ElfWriter("arm", is_main=False, symbols=[Sym("theirs", 8, type=elf.STT_TLS)])
    library.more_phdrs = [Phdr(elf.PT_TLS, 4, DATA, DATA, 4, 20)]
    values, _bases = words(writer, library)
    assert values == [1, 2, 8, 4]


def test_init_fini_info_of_old_tas() -> None:
    writer = ElfWriter(symbols=[Sym("__init_fini_info", DATA + 0x80)])
    writer.dynamic = [
        (elf.DT_INIT_ARRAY, DATA + 0x100),
        (elf.DT_INIT_ARRAYSZ, 24),
        (elf.DT_FINI_ARRAY, DATA + 0x140),
        (elf.DT_FINI_ARRAYSZ, 8),
    ]
    loader, space, engine = load(writer)
    base = loader.modules[0].load_addr
    reserved, size, pad, ifs = unpack_from("<IHHQ", space.read(base + DATA + 0x80, 16))
    assert (reserved, size, pad) == (0, 1, 0)
    entry = unpack_from("<IHHQQ", space.read(ifs, 24))
    assert entry == (1, 3, 1, base + DATA + 0x100, base + DATA + 0x140)
    engine.close()
