# SPDX-License-Identifier: BSD-2-Clause
"""Damaged ELF files: refused with a reason, or loaded; never another exception, never for long.

What gentee's own process reads of a file, before the loader does, takes any bytes as well.
"""

import json
import time
from collections.abc import Iterator
from struct import error

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from gentee.abi import elf
from gentee.cli.ta_report_elf import elf_report
from gentee.errors import TaImageError, TeeError
from gentee.secure.elf_service import describe_elf, manifest_of
from gentee.ta.engine.base import Engine
from gentee.ta.engine.space import AddressSpace
from gentee.ta.loader.image import ElfImage, parse_image
from gentee.ta.loader.link import Loader
from tests.elfwriter import DATA, PAGE, ElfWriter, Phdr, Rel, Shdr, Sym
from tests.ta_build import ARCHES
from tests.ta_run import LIBRARY, LIBRARY2, LIBRARY_TLS, UUID, library_path, ta_bytes, uuid_text

SECONDS = 1.0  # of CPU time for a file, far above what any takes
LIMIT = 8 << 20


class NoEngine(Engine):
    """Takes mappings and runs nothing: the loader is what is tested."""

    word = 8

    def __init__(self, arch: str) -> None:
        super().__init__()
        self.arch = arch

    def map(self, address: int, memory: memoryview, prot: int) -> None:
        assert not address & 4095
        assert not len(memory) & 4095
        assert address + len(memory) <= 1 << 32

    def unmap(self, address: int, size: int) -> None:
        pass

    def protect(self, address: int, size: int, prot: int) -> None:
        pass

    def guard_branches(self) -> None:
        pass


def look_at(data: bytes) -> None:
    """What gentee's own process reads of it, for a session and for who inspects it."""
    before = time.process_time()
    try:
        service = describe_elf(data, UUID)
        assert len(manifest_of(service)) < 1000
        json.dumps(elf_report(data))
    except TaImageError:
        pass
    finally:
        assert time.process_time() - before < SECONDS


def try_to_load(data: bytes, arch: str, is_main: bool = True) -> bool:
    """Whether it loads; anything but a refusal is a failure of the test."""
    look_at(data)
    before = time.process_time()
    try:
        image = parse_image(data, is_main, LIMIT)
        space = AddressSpace(NoEngine(arch), LIMIT)

        def library(uuid: bytes) -> ElfImage:
            if uuid not in (LIBRARY, LIBRARY2, LIBRARY_TLS):
                raise TaImageError("no such library")
            return parse_image(library_path(arch, uuid).read_bytes(), is_main=False)

        if is_main:
            Loader(space, library).load(UUID, image)
    except (TaImageError, TeeError):
        return False
    finally:
        assert time.process_time() - before < SECONDS
    return True


def samples(arch: str) -> Iterator[bytes]:
    yield ta_bytes("hello", arch)
    yield ta_bytes("linked", arch, str(library_path(arch, LIBRARY)))
    yield ta_bytes("tls", arch, str(library_path(arch, LIBRARY_TLS)), "-DWITH_LIBRARY", tls=True)
    yield ta_bytes("legacy", arch, "-Wl,-z,notext")


def interesting(data: bytearray) -> list[int]:
    """Where damage tells: headers, tables and section headers, not code."""
    if len(data) < 4096 * 2:
        return list(range(len(data)))
    return [*range(256), *range(4096, 4096 + 32), *range(4096 + 0x100, len(data))]


EDGES = st.sampled_from(
    [0, 1, 2, 4, 7, 8, 255, 4095, 4096, 0x7FFFFFFF, 0x80000000, 0xFFFFF000, 0xFFFFFFFF]
)


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("number", range(4))
@given(data=st.data())
@settings(deadline=None)
def test_damaged_words(arch: str, number: int, data: st.DataObject) -> None:
    sample = bytearray(list(samples(arch))[number])
    places = interesting(sample)
    for _ in range(data.draw(st.integers(1, 6))):
        at = places[data.draw(st.integers(0, len(places) - 1))] & ~3
        value = data.draw(EDGES | st.integers(0, 0xFFFFFFFF))
        size = data.draw(st.sampled_from([1, 2, 4]))
        sample[at : at + size] = value.to_bytes(4, "little")[:size]
    try_to_load(bytes(sample), arch)


@pytest.mark.parametrize("arch", ARCHES)
@given(data=st.data())
@settings(deadline=None)
def test_damaged_libraries(arch: str, data: st.DataObject) -> None:
    sample = bytearray(library_path(arch, LIBRARY).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(sample) - 1))
        sample[at] = data.draw(st.integers(0, 255))
    try_to_load(bytes(sample), arch, is_main=False)


@pytest.mark.parametrize("arch", ARCHES)
@given(data=st.data())
@settings(deadline=None)
def test_cut_and_moved(arch: str, data: st.DataObject) -> None:
    sample = ta_bytes("hello", arch)
    cut = data.draw(st.integers(0, len(sample)))
    again = data.draw(st.integers(0, len(sample)))
    try_to_load(sample[:cut] + sample[again:], arch)


@given(
    data=st.binary(max_size=512),
    start=st.sampled_from([b"", b"\x7fELF\x01\x01\x01", b"\x7fELF\x02\x01\x01"]),
)
@settings(deadline=None)
def test_noise(data: bytes, start: bytes) -> None:
    assert not try_to_load(start + data, "arm")


PLACES = st.one_of(
    st.sampled_from([0, 1, 4, 0x100, 0x400, 0x600, 0x800, 0xA00, DATA, DATA + 0x400, 2 * PAGE]),
    st.integers(0, 3 * PAGE),
    EDGES,
)
SIZES = st.one_of(st.sampled_from([0, 1, 2, 8, 12, 16, 24, 40, 4096]), st.integers(0, PAGE), EDGES)
SMALL = st.integers(0, 12)
NAMES = st.sampled_from(["ta_head", "__elf_phdr_info", "__init_fini_info", "f", "", 300 * "n"])


@st.composite
def files(draw: st.DrawFn, arch: str, is_main: bool) -> bytes:
    """Files that are right but for what is drawn: nothing of it needs to fit."""
    writer = ElfWriter(arch, is_main=is_main)
    kinds = st.sampled_from(range(5))
    for _ in range(draw(st.integers(0, 4))):
        symbol = Sym(draw(NAMES), draw(PLACES), draw(SMALL), draw(SMALL), draw(SMALL))
        writer.symbols.append(symbol)
    for _ in range(draw(st.integers(0, 6))):
        type = draw(st.integers(0, 255) | st.integers(1024, 1034))
        # What 32-bit files have no room for is cut by the writer's mask of its fields.
        writer.relocations.append(
            Rel(
                type & 0xFF if arch == "arm" else type,
                draw(PLACES),
                draw(st.integers(0, 6)),
                draw(st.integers(-8, 8)),
            )
        )
    for _ in range(draw(st.integers(0, 5))):
        tag = draw(st.sampled_from([1, 4, 5, 6, 7, 10, 11, 14, 17, 25, 26, 27, 28, 0x6FFFFEF5]))
        writer.dynamic.append((tag, draw(PLACES)))
    if draw(st.booleans()):
        writer.needed.append(draw(st.sampled_from([uuid_text(LIBRARY), "no", 36 * "-"])))
    for _ in range(draw(st.integers(0, 2))):
        type = draw(st.sampled_from([elf.PT_LOAD, elf.PT_DYNAMIC, elf.PT_TLS, elf.PT_NOTE, 99]))
        writer.more_phdrs.append(
            Phdr(
                type,
                draw(st.integers(0, 7)),
                draw(PLACES),
                draw(PLACES),
                draw(SIZES),
                draw(SIZES),
                draw(st.sampled_from([0, 1, 4096, 65536])),
            )
        )
    for _ in range(draw(st.integers(0, 2))):
        type = draw(st.sampled_from([2, 4, 5, 9, 11, 0x6FFFFFF6]))
        writer.more_shdrs.append(
            Shdr(type, draw(PLACES), draw(SIZES), draw(SMALL), draw(st.sampled_from([0, 8, 24])))
        )
    if draw(st.booleans()):
        words = draw(st.lists(st.integers(0, 8) | EDGES, max_size=12))
        writer.hash_table = b"".join(word.to_bytes(4, "little") for word in words)
    for name in draw(st.sets(st.sampled_from(["entry", "phnum", "shnum", "shoff", "phoff"]))):
        if draw(kinds) == 0:
            most = 0xFFFF if name.endswith("num") else 0xFFFFFFFF
            writer.header[name] = min(draw(PLACES), most)
    if draw(kinds) == 0:
        segment = writer.phdrs[draw(st.integers(0, 1))]
        setattr(
            segment, draw(st.sampled_from(["vaddr", "memsz", "filesz", "offset"])), draw(PLACES)
        )
    if is_main and draw(kinds) == 0:
        writer.head["stack_size"] = draw(EDGES)
        writer.head["depr_entry"] = draw(PLACES | st.just((1 << 64) - 1))
    try:
        return writer.build()
    except (OverflowError, error):  # more than a field takes
        reject()


@pytest.mark.parametrize("is_main", [True, False])
@pytest.mark.parametrize("arch", ARCHES)
@given(data=st.data())
@settings(deadline=None)
def test_files_field_by_field(arch: str, is_main: bool, data: st.DataObject) -> None:
    try_to_load(data.draw(files(arch, is_main)), arch, is_main)


@pytest.mark.parametrize("arch", ARCHES)
def test_the_undamaged_ones_load(arch: str) -> None:
    assert all(try_to_load(sample, arch) for sample in samples(arch))
