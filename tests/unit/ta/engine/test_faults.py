# SPDX-License-Identifier: BSD-2-Clause
"""What a TA must not do ends it with a fault that says what it did, on both engines alike."""

from collections.abc import Callable, Iterator

import pytest

from gentee.abi import gp
from gentee.ta.engine import pages
from gentee.ta.engine.base import AARCH64, ARM, Fault, FaultKind
from tests.ta_build import ARCHES
from tests.ta_run import ENGINES, RunningTa, ta_image

(
    READ, WRITE, JUMP, READ_NULL, WRITE_CODE, RUN_DATA, OVERFLOW, UNDEFINED, BREAKPOINT,
    EXCLUSIVE, PRIVILEGED, SUPERVISOR, WAIT, UNALIGNED,
) = range(14)  # fmt: skip

UNMAPPED = 0x0F000000


@pytest.fixture(params=[(arch, engine) for arch in ARCHES for engine in ENGINES], ids="-".join)
def faults(request: pytest.FixtureRequest) -> Iterator[RunningTa]:
    arch, engine = request.param
    running = RunningTa(ta_image("faults", arch), engine)
    yield running
    running.end()


def fault_of(running: RunningTa, command: int, *vals: int) -> Fault:
    with pytest.raises(Fault) as caught:
        running.invoke(command, *vals)
    fault = caught.value
    assert fault.registers["pc"] == fault.pc
    return fault


def in_code(running: RunningTa, pc: int) -> bool:
    region = running.space.find(pc)
    return region is not None and bool(region.prot & 4)


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (READ, FaultKind.READ_UNMAPPED),
        (WRITE, FaultKind.WRITE_UNMAPPED),
        (JUMP, FaultKind.FETCH_UNMAPPED),
    ],
)
@pytest.mark.parametrize("address", [UNMAPPED, 0, 0xFFFFF000])
def test_unmapped(faults: RunningTa, command: int, kind: FaultKind, address: int) -> None:
    fault = fault_of(faults, command, address)
    assert fault.kind is kind
    assert fault.address == address
    assert (fault.pc == address) if command == JUMP else in_code(faults, fault.pc)


@pytest.mark.parametrize("address", [pages.ADDRESS, 1 << 40, 1 << 60, 0xFFFF_FFFF_FFFF_F000])
@pytest.mark.parametrize("engine", ENGINES)
def test_wild_64_bit_addresses(engine: str, address: int) -> None:
    running = RunningTa(ta_image("faults", AARCH64), engine)
    fault = fault_of(running, READ, address)
    if address >> 48:
        assert (fault.kind, fault.address) == (FaultKind.DATA_ABORT, None)
    else:
        assert (fault.kind, fault.address) == (FaultKind.READ_UNMAPPED, address)
    assert in_code(running, fault.pc)
    fault = fault_of(running, JUMP, address)
    assert (fault.kind, fault.address) == (FaultKind.FETCH_UNMAPPED, address)
    running.end()


def test_code_is_read_only(faults: RunningTa) -> None:
    fault = fault_of(faults, WRITE_CODE)
    assert fault.kind is FaultKind.WRITE_PROTECTED
    assert fault.address is not None
    assert in_code(faults, fault.address)


def test_data_is_not_executed(faults: RunningTa) -> None:
    fault = fault_of(faults, RUN_DATA)
    assert fault.kind is FaultKind.FETCH_PROTECTED
    assert fault.address == fault.pc
    assert not in_code(faults, fault.pc)


def test_stack_overflow(faults: RunningTa) -> None:
    fault = fault_of(faults, OVERFLOW)
    assert fault.kind is FaultKind.STACK_OVERFLOW
    assert fault.address is not None
    assert fault.address < faults.ta.stack
    assert fault.registers["sp"] < faults.ta.stack + 4096


@pytest.mark.parametrize("command", [UNDEFINED, PRIVILEGED, SUPERVISOR])
def test_undefined(faults: RunningTa, command: int) -> None:
    fault = fault_of(faults, command)
    assert fault.kind is FaultKind.UNDEFINED
    assert fault.address is None
    assert in_code(faults, fault.pc)
    # A jump to the same instruction is the same fault, whatever stands before it.
    thumb = faults.engine.arch == ARM and fault.registers["cpsr"] >> 5 & 1
    again = fault_of(faults, JUMP, fault.pc | thumb)
    assert (again.kind, again.pc) == (FaultKind.UNDEFINED, fault.pc)


def test_breakpoint(faults: RunningTa) -> None:
    fault = fault_of(faults, BREAKPOINT)
    assert fault.kind is FaultKind.BREAKPOINT
    assert in_code(faults, fault.pc)


def test_exclusive_access_must_be_aligned(faults: RunningTa) -> None:
    fault = fault_of(faults, EXCLUSIVE)
    assert fault.kind is FaultKind.ALIGNMENT
    assert fault.address is not None
    assert fault.address & 3 == 1


def test_other_accesses_need_not_be(faults: RunningTa) -> None:
    assert faults.invoke(UNALIGNED)[0] == 0


def test_hints_are_no_fault(faults: RunningTa) -> None:
    assert faults.invoke(WAIT)[0] == gp.TEE_SUCCESS


def test_misaligned_jump(faults: RunningTa) -> None:
    if faults.engine.arch == ARM:
        pytest.skip("bit 0 selects Thumb, bit 1 is ignored or unpredictable")
    fault = fault_of(faults, JUMP, faults.ta.entry + 2)
    assert fault.kind is FaultKind.ALIGNMENT
    assert fault.address == faults.ta.entry + 2


@pytest.mark.parametrize("way", ["protect", "unmap"])
def test_memory_that_goes_away(faults: RunningTa, way: str) -> None:
    space = faults.space
    memory = space.allocate(8192)
    memory[:4] = b"\x07\0\0\0"
    region = space.map(space.place(8192), memory, 3, "buffer")
    assert faults.invoke(READ, region.address)[0] == 7
    assert faults.invoke(WRITE, region.address)[0] == 0
    assert bytes(memory[:4]) == b"\1\0\0\0"
    take_away: dict[str, Callable[[], None]] = {
        "protect": lambda: space.protect(region, 0),
        "unmap": lambda: space.unmap(region, own=True),
    }
    take_away[way]()
    fault = fault_of(faults, READ, region.address)
    expected = FaultKind.READ_PROTECTED if way == "protect" else FaultKind.READ_UNMAPPED
    assert (fault.kind, fault.address) == (expected, region.address)
    if way == "protect":
        space.protect(region, 1)
        assert faults.invoke(READ, region.address)[0] == 1
        assert fault_of(faults, WRITE, region.address).kind is FaultKind.WRITE_PROTECTED


def test_code_that_is_replaced(faults: RunningTa) -> None:
    """Translated code does not outlive its mapping."""
    space = faults.space
    is_arm = faults.engine.arch == ARM
    # return 5 (mov w0, #5; ret), and an undefined instruction
    five = b"\x05\x00\xa0\xe3\x1e\xff\x2f\xe1" if is_arm else b"\xa0\x00\x80\x52\xc0\x03\x5f\xd6"
    memory = space.allocate(4096)
    memory[:8] = five
    address = space.place(4096)
    region = space.map(address, memory, 5, "code")
    assert faults.invoke(JUMP, address)[0] == 0
    space.unmap(region, own=True)
    other = space.allocate(4096)
    other[:4] = b"\xf0\x00\xf0\xe7" if is_arm else b"\0\0\0\0"
    space.map(address, other, 5, "other code")
    fault = fault_of(faults, JUMP, address)
    assert (fault.kind, fault.pc) == (FaultKind.UNDEFINED, address)
