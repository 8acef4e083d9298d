# SPDX-License-Identifier: BSD-2-Clause
"""The address space of a TA, on a real engine."""

import mmap
from collections.abc import Iterator
from itertools import pairwise

import pytest

from gentee.errors import OutOfMemory
from gentee.ta.engine import space as space_module
from gentee.ta.engine.base import AARCH64, GUARDED_LOW, EngineError
from gentee.ta.engine.native import NativeEngine
from gentee.ta.engine.space import GUARD, LENT, LOW, AddressSpace, BadAddress

PAGE = 4096


@pytest.fixture
def space() -> Iterator[AddressSpace]:
    engine = NativeEngine(AARCH64)
    yield AddressSpace(engine, limit=1 << 20)
    engine.close()


def add(space: AddressSpace, address: int, pages: int = 1, prot: int = 3) -> None:
    memory = space.allocate(pages * PAGE)
    memory[:] = bytes([address >> 12 & 0xFF]) * len(memory)
    space.map(address, memory, prot, "test")


def test_read_and_write(space: AddressSpace) -> None:
    add(space, 0x20001000)
    add(space, 0x20002000, prot=1)
    assert space.read(0x20001FFE, 4) == b"\1\1\2\2"
    assert space.read(0x20001000, 0) == b""
    space.write(0x20001FFC, b"abcd")
    assert bytes(space.view(0x20001FFC, 4)) == b"abcd"
    with pytest.raises(BadAddress):
        space.write(0x20001FFE, b"abcd")  # the second page is read-only
    assert space.read(0x20001FFE, 2) == b"cd"  # and nothing was written


@pytest.mark.parametrize(
    ("address", "size"),
    [
        (0x20000FFF, 1),
        (0x20000FFF, 2),
        (0x20002000, 1),
        (0x20001000, PAGE + 1),
        (0x20001000, 1 << 64),
        (0x20001000, -1),
        ((1 << 64) - 1, 2),
        (0, 1),
    ],
)
def test_ranges_that_are_not_mapped(space: AddressSpace, address: int, size: int) -> None:
    add(space, 0x20001000)
    with pytest.raises(BadAddress):
        space.read(address, size)
    with pytest.raises(BadAddress):
        space.view(address, size)


def test_no_overlap(space: AddressSpace) -> None:
    add(space, 0x20001000, pages=4)
    for address in (0x20001000, 0x20000000, 0x20003000):
        with pytest.raises(BadAddress):
            space.map(address, space.allocate(2 * PAGE), 3, "again")
    with pytest.raises(EngineError):
        space.engine.map(0x20001000, space.allocate(PAGE), 3)


def test_memory_is_limited(space: AddressSpace) -> None:
    memory = space.allocate(1 << 19)
    region = space.map(space.place(len(memory)), memory, 3, "half")
    with pytest.raises(OutOfMemory):
        space.allocate((1 << 19) + 1)
    space.unmap(region, own=True)
    assert space.used == 0
    space.allocate(1 << 20)
    with pytest.raises(BadAddress):
        space.unmap(region)


def test_places_are_apart_and_random(space: AddressSpace) -> None:
    places = []
    for _ in range(40):
        address = space.place(PAGE)
        add(space, address)
        places.append(address)
    places.sort()
    assert places[0] >= LOW + GUARD
    assert places[-1] < GUARDED_LOW
    gaps = [high - low for low, high in pairwise(places)]
    assert min(gaps) >= PAGE + GUARD
    assert len(set(gaps)) > 30


def test_what_is_lent_is_apart(space: AddressSpace) -> None:
    """However many small regions a TA has, there is room for a large buffer."""
    for _ in range(40):
        address = space.place(PAGE)
        assert address + PAGE + GUARD <= LENT
        add(space, address)
    large = 1 << 30
    assert LENT < space.place(large, lent=True) <= GUARDED_LOW - large - GUARD
    # What does not fit into its part goes where there is room.
    assert space.place(LENT) > LOW
    assert space.place(GUARDED_LOW - LENT - GUARD, lent=True) <= LENT


def test_a_crowded_space() -> None:
    engine = NativeEngine(AARCH64)
    space = AddressSpace(engine, random=lambda _limit: 0)
    first = space.place(PAGE)
    add(space, first)
    second = space.place(PAGE)
    assert second == first + PAGE + GUARD
    with pytest.raises(OutOfMemory):
        space.place(1 << 32)
    engine.close()


def test_memory_of_somebody_else(space: AddressSpace) -> None:
    """A client's memory: the same pages, not a copy."""
    shared = mmap.mmap(-1, 2 * PAGE)
    region = space.map(0x30000000, memoryview(shared), 3, "client")
    space.write(0x30000000, b"from the TA")
    assert shared[:11] == b"from the TA"
    with pytest.raises(BufferError):
        shared.resize(PAGE)
    space.unmap(region)
    assert space.used == 0


def test_regions_are_limited(space: AddressSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs the engine memory and time; what is there stays as it is."""
    monkeypatch.setattr(space_module, "MAX_REGIONS", len(list(space)) + 2)
    for _ in range(2):
        memory = space.allocate(PAGE)
        space.map(space.place(PAGE), memory, 1, "x")
    used = space.used
    with pytest.raises(OutOfMemory):
        space.allocate(PAGE)
    with pytest.raises(OutOfMemory):
        space.map(space.place(PAGE), memory, 1, "x")
    assert space.used == used
    space.unmap(next(iter(space)))
    space.allocate(PAGE)
