# SPDX-License-Identifier: BSD-2-Clause
"""Client memory in a TA's address space: for the time of one call, page by page, merged."""

import os
from collections.abc import Iterator

import pytest

from gentee.abi.optee_ta import SMALL_PAGE_SIZE as PAGE
from gentee.errors import OutOfMemory
from gentee.linux.shm import create_shm
from gentee.ta.client_memory import SHARED, ClientMemory, Reference
from gentee.ta.engine.base import PROT_READ, PROT_WRITE
from gentee.ta.engine.native import NativeEngine
from gentee.ta.engine.space import AddressSpace, BadAddress


class Rig:
    def __init__(self, arch: str) -> None:
        self.engine = NativeEngine(arch)
        self.space = AddressSpace(self.engine)
        self.memory = ClientMemory(self.space)
        self.fds: dict[int, int] = {}

    def add(self, key: int, size: int, content: bytes = b"") -> None:
        fd = create_shm(size)
        os.pwrite(fd, content, 0)
        self.fds[key] = os.dup(fd)
        self.memory.add(key, fd, size)

    def show(self, *references: tuple[int, int, int]) -> list[int]:
        return self.memory.show([Reference(*reference) for reference in references])

    def seen(self) -> list[tuple[int, int]]:
        return [(region.address, region.size) for region in self.space]


@pytest.fixture(params=["aarch64", "arm"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    rig = Rig(request.param)
    yield rig
    rig.engine.close()
    for fd in rig.fds.values():
        os.close(fd)


def test_the_bytes_are_the_buffers_own(rig: Rig) -> None:
    rig.add(5, 3 * PAGE, b"x" * 10 + b"inside")
    (address,) = rig.show((5, 10, 6))
    assert address % PAGE == 10
    assert rig.space.read(address, 6) == b"inside"
    rig.space.write(address, b"INSIDE")
    assert os.pread(rig.fds[5], 6, 10) == b"INSIDE"


def test_whole_pages_and_no_more(rig: Rig) -> None:
    rig.add(5, 4 * PAGE)
    (address,) = rig.show((5, PAGE + 100, PAGE))
    start = address - 100
    assert rig.seen() == [(start, 2 * PAGE)]
    for outside in (start - 1, start + 2 * PAGE):
        with pytest.raises(BadAddress):
            rig.space.read(outside, 1)


def test_all_of_it_can_be_written_and_none_is_private(rig: Rig) -> None:
    rig.add(5, PAGE)
    rig.show((5, 0, 1))
    (region,) = rig.space
    assert region.prot == PROT_READ | PROT_WRITE
    assert region.owner == SHARED


@pytest.mark.parametrize(
    ("first", "second", "pages"),
    [
        ((0, 10), (10, 10), 1),  # the same page
        ((0, PAGE), (PAGE, PAGE), 2),  # they touch
        ((0, PAGE + 1), (PAGE, PAGE), 2),  # they overlap
        ((2 * PAGE, 1), (0, PAGE), None),  # a page between them
    ],
)
def test_ranges_of_one_buffer_are_merged(
    rig: Rig, first: tuple[int, int], second: tuple[int, int], pages: int | None
) -> None:
    rig.add(5, 4 * PAGE)
    one, two = rig.show((5, *first), (5, *second))
    if pages is None:
        assert len(rig.seen()) == 2
    else:
        assert two - one == second[0] - first[0]
        assert [size for _, size in rig.seen()] == [pages * PAGE]


def test_a_range_inside_another(rig: Rig) -> None:
    rig.add(5, 4 * PAGE)
    one, two, three = rig.show((5, 0, 3 * PAGE), (5, PAGE, 1), (5, 3 * PAGE, 1))
    assert (two - one, three - one) == (PAGE, 3 * PAGE)
    assert [size for _, size in rig.seen()] == [4 * PAGE]


def test_two_buffers_are_two(rig: Rig) -> None:
    rig.add(5, PAGE, b"five")
    rig.add(6, PAGE, b"six")
    one, two = rig.show((5, 0, 4), (6, 0, 3))
    assert (rig.space.read(one, 4), rig.space.read(two, 3)) == (b"five", b"six")
    assert len(rig.seen()) == 2


def test_no_bytes_have_an_address(rig: Rig) -> None:
    rig.add(5, 2 * PAGE)
    start, middle, end = rig.show((5, 0, 0), (5, PAGE, 0), (5, 2 * PAGE, 0))
    assert (middle - start, end - start) == (PAGE, 2 * PAGE)
    assert rig.seen() == [(start, 2 * PAGE)]


def test_the_end_alone_maps_the_last_page(rig: Rig) -> None:
    rig.add(5, 2 * PAGE)
    (end,) = rig.show((5, 2 * PAGE, 0))
    assert rig.seen() == [(end - PAGE, PAGE)]


def test_the_same_again_stays_where_it_was(rig: Rig) -> None:
    rig.add(5, 2 * PAGE)
    assert rig.show((5, 8, 8)) == rig.show((5, 8, 8))
    assert rig.show((5, 8, 8)) == rig.show((5, 8, 100))


def test_what_is_no_parameter_any_more_is_gone(rig: Rig) -> None:
    rig.add(5, PAGE)
    rig.add(6, PAGE)
    (old,) = rig.show((5, 0, 8))
    rig.show((6, 0, 8))
    with pytest.raises(BadAddress):
        rig.space.read(old, 1)
    (other,) = rig.show((6, 0, 8))
    rig.memory.hide()
    assert rig.seen() == []
    with pytest.raises(BadAddress):
        rig.space.read(other, 1)


def test_a_dropped_buffer_is_gone(rig: Rig) -> None:
    rig.add(5, PAGE)
    rig.show((5, 0, 8))
    rig.memory.drop(5)
    assert rig.seen() == []
    rig.memory.drop(5)  # twice is once


def test_a_key_can_be_used_again(rig: Rig) -> None:
    rig.add(5, PAGE, b"old")
    rig.show((5, 0, 3))
    os.close(rig.fds[5])
    rig.add(5, PAGE, b"new")
    (address,) = rig.show((5, 0, 3))
    assert rig.space.read(address, 3) == b"new"


def test_no_addresses_left(rig: Rig) -> None:
    size = 1 << 30  # of the space below 2 GiB, 1.75 are for data
    rig.add(5, size)
    rig.add(6, size)
    rig.show((5, 0, size))
    with pytest.raises(OutOfMemory):
        rig.show((5, 0, size), (6, 0, size))
