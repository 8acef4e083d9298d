# SPDX-License-Identifier: BSD-2-Clause
"""Damaged ELF files: refused with a reason, or loaded; never another exception, never for long."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gentee.errors import TaImageError, TeeError
from gentee.ta.engine.base import Engine
from gentee.ta.engine.space import AddressSpace
from gentee.ta.loader.image import ElfImage, parse_image
from gentee.ta.loader.link import Loader
from tests.ta_build import ARCHES
from tests.ta_run import LIBRARY, LIBRARY2, LIBRARY_TLS, UUID, library_path, ta_bytes

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


def try_to_load(data: bytes, arch: str, is_main: bool = True) -> bool:
    """Whether it loads; anything but a refusal is a failure of the test."""
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


@pytest.mark.parametrize("arch", ARCHES)
def test_the_undamaged_ones_load(arch: str) -> None:
    assert all(try_to_load(sample, arch) for sample in samples(arch))
