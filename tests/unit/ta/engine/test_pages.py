# SPDX-License-Identifier: BSD-2-Clause
"""Page tables: walked here as the CPU walks them."""

from struct import unpack_from

import pytest

from gentee.ta.engine import pages
from gentee.ta.engine.base import AARCH64, GUARDED_HIGH, GUARDED_LOW
from gentee.ta.engine.native import NativeEngine
from gentee.ta.engine.pages import PAGE, SIZE, PageTables
from tests.ta_run import RunningTa, ta_image

MIB = 1 << 20
EXECUTE_NEVER, GUARDED = 1 << 54, 1 << 50


class Walker:
    def __init__(self) -> None:
        self.memory = memoryview(bytearray(SIZE))
        self.tables = PageTables(self.memory)

    def descriptor(self, address: int) -> int:
        """That of an address, which is mapped onto itself; for 39 bits."""
        table, shift = 0, 30
        while True:
            index = (address >> shift) % 512
            (descriptor,) = unpack_from("<Q", self.memory, table + index * 8)
            assert descriptor & 1
            assert isinstance(descriptor, int)
            output = descriptor & 0xFF_FFFF_F000
            if not descriptor & 2 or shift == 12:
                assert output == address >> shift << shift
                assert descriptor & (1 << 10 | 1 << 6) == 1 << 10 | 1 << 6  # accessed, of EL0 too
                return descriptor
            table, shift = output - pages.ADDRESS, shift - 9

    def is_code(self, address: int) -> bool:
        code = not self.descriptor(address) & EXECUTE_NEVER
        assert self.tables.is_code(address) is code
        return code


@pytest.fixture
def walker() -> Walker:
    return Walker()


@pytest.mark.parametrize("address", [0, PAGE, 0xFFFFF000, 1 << 32, (1 << 39) - PAGE])
def test_nothing_is_code_at_first(walker: Walker, address: int) -> None:
    assert not walker.is_code(address)


def test_code_comes_and_goes(walker: Walker) -> None:
    start, size = 4 * MIB - 2 * PAGE, 2 * MIB + 4 * PAGE  # from one table into a third
    walker.tables.set_code(start, size, code=True)
    for address in (start, 4 * MIB, 6 * MIB - PAGE, 6 * MIB, start + size - PAGE):
        assert walker.is_code(address)
    for address in (start - PAGE, start + size):
        assert not walker.is_code(address)
    walker.tables.set_code(start, size, code=False)
    for address in range(start - PAGE, start + size + PAGE, PAGE):
        assert not walker.is_code(address)


def test_more_code_than_there_are_tables(walker: Walker) -> None:
    """What has no table is executable as a whole: it is slow, and what may be done is Unicorn's."""
    for block in range(100):
        walker.tables.set_code(block * 4 * MIB, PAGE, code=True)
    assert all(walker.is_code(block * 4 * MIB) for block in range(100))
    assert not walker.is_code(PAGE)
    assert walker.is_code(99 * 4 * MIB + PAGE)
    assert not walker.is_code(98 * 4 * MIB + 2 * MIB)


def test_code_beyond_4_gib_has_no_place(walker: Walker) -> None:
    walker.tables.set_code((4 << 30) - PAGE, 2 * PAGE, code=True)
    assert walker.is_code((4 << 30) - PAGE)
    assert not walker.is_code(4 << 30)


def test_branches_are_guarded_in_the_window(walker: Walker) -> None:
    walker.tables.guard()
    for address, guarded in [
        (GUARDED_LOW - PAGE, False),
        (GUARDED_LOW, True),
        (GUARDED_HIGH - PAGE, True),
        (GUARDED_HIGH, False),
    ]:
        walker.tables.set_code(address, PAGE, code=True)
        assert bool(walker.descriptor(address) & GUARDED) is guarded


@pytest.mark.parametrize("arch", [AARCH64, "arm"])
def test_only_code_of_a_ta_is_executable(arch: str) -> None:
    running = RunningTa(ta_image("faults", arch), "native")
    engine = running.engine
    assert isinstance(engine, NativeEngine)
    regions = running.space._regions
    assert any(region.prot & 4 for region in regions)
    for region in regions:
        for address in range(region.address, region.end, PAGE):
            assert engine._tables.is_code(address) is bool(region.prot & 4)
    running.end()
