# SPDX-License-Identifier: BSD-2-Clause
"""TAs that touch and run what they may not: each ends, with the reason, and nobody else."""

from struct import unpack_from

import pytest

from gentee.client import MemRef, SharedMemory, Value
from gentee.ta.engine.base import FaultKind
from tests.helpers import wait_until
from tests.security.arm_captive import (
    DEEPER,
    JUMP,
    KEEP,
    MODIFY,
    PAGE,
    PEEK,
    PING,
    POKE,
    RUN_STACK,
    SCRATCH,
    STACK,
    USE_KEPT,
    WHERE,
    WRITE_CODE,
    ArmCaptive,
    MakeArmCaptive,
    Where,
    arch,
    arm_captive,
    service_host,
)

__all__ = ["arch", "arm_captive", "service_host"]


def said(captive: ArmCaptive, kind: FaultKind, times: int = 1) -> None:
    """The deaths have their lines, so often with this reason."""
    wait_until(
        lambda: sum(f", {kind.value}" in line for line in captive.lines) == times,
        f"{times} times {kind.value}",
    )


def dies(captive: ArmCaptive, command: int, *values: int) -> None:
    captive.dies(lambda: captive.hostile.invoke(command, *values))


def test_execution_of_data(arm_captive: MakeArmCaptive, arch: str) -> None:
    """Instructions that it wrote are data, wherever they are: its own memory, its client's."""
    captive = arm_captive(arch)
    for place in ("data", "scratch", "client", "params"):
        dies(captive, JUMP, getattr(captive.hostile.where(), place), True)
    dies(captive, RUN_STACK)
    said(captive, FaultKind.FETCH_PROTECTED, 5)


def test_code_is_read_only(arm_captive: MakeArmCaptive, arch: str) -> None:
    """Also what it has run already."""
    captive = arm_captive(arch)
    dies(captive, WRITE_CODE)
    dies(captive, MODIFY, captive.hostile.where().code)
    for place in ("code", "constant", "head"):
        dies(captive, POKE, getattr(captive.hostile.where(), place))
    said(captive, FaultKind.WRITE_PROTECTED, 4)


def test_addresses_that_there_are_not(arm_captive: MakeArmCaptive, arch: str) -> None:
    """Around its stack and its client's memory, and at the ends of all addresses."""
    captive = arm_captive(arch)
    for command, kind in (
        (PEEK, FaultKind.READ_UNMAPPED),
        (POKE, FaultKind.WRITE_UNMAPPED),
        (JUMP, FaultKind.FETCH_UNMAPPED),
    ):
        for address in (0, PAGE - 4, 0x0FFF_FFFC, 0x8000_0000, 0xC000_0000, 0xFFFF_FFFC):
            dies(captive, command, address)
        where = captive.hostile.where()
        dies(captive, command, (where.params & -PAGE) + PAGE)
        where = captive.hostile.where()
        dies(captive, command, where.client - 4)
        said(captive, kind, 8)


def test_the_end_of_the_stack(arm_captive: MakeArmCaptive, arch: str) -> None:
    """It is called what it is."""
    captive = arm_captive(arch)
    dies(captive, DEEPER)
    bottom = (captive.hostile.where().params & -PAGE) + PAGE - STACK
    dies(captive, POKE, bottom - 4)
    said(captive, FaultKind.STACK_OVERFLOW, 2)


@pytest.mark.parametrize("reg_mem", [False, True], ids=["shared", "copied"])
def test_memory_of_an_earlier_call(arm_captive: MakeArmCaptive, arch: str, reg_mem: bool) -> None:
    """A pointer that a TA keeps leads nowhere once another call has entered it."""
    captive = arm_captive(arch, reg_mem=reg_mem)
    hostile = captive.hostile
    hostile.invoke(KEEP)
    assert bytes(hostile.memory.buffer[:4]) == b"tpek"
    # The same memory again is the same memory.
    assert hostile.invoke(USE_KEPT) == 0x6B657074
    hostile.session.invoke(PING, Value(1))
    hostile.memory.buffer[:4] = b"gone"
    captive.dies(lambda: hostile.session.invoke(USE_KEPT, Value(0)))
    said(captive, FaultKind.READ_UNMAPPED)


def test_memory_of_another_call(arm_captive: MakeArmCaptive, arch: str) -> None:
    """Nor does it lead to what another call brings: that has an address of its own."""
    captive = arm_captive(arch)
    hostile = captive.hostile
    hostile.invoke(KEEP)
    kept = hostile.where().client
    other = SharedMemory.allocate(hostile.context, hostile.memory.size)
    hostile.session.invoke(WHERE, Value(0), other, Value(0, 0))
    assert kept not in unpack_from("<8Q", other.buffer)
    captive.dies(lambda: hostile.session.invoke(USE_KEPT, Value(0), other, Value(0, 0)))
    said(captive, FaultKind.READ_UNMAPPED)


@pytest.mark.parametrize("command", [PEEK, POKE, JUMP])
def test_pages_around_a_reference(arm_captive: MakeArmCaptive, arch: str, command: int) -> None:
    """Whole pages are seen, as in OP-TEE; those of the same buffer before and after are not."""
    captive = arm_captive(arch)
    for beyond in (-1, 0):
        hostile = captive.hostile
        memory = SharedMemory.allocate(hostile.context, 8 * PAGE)
        reference = MemRef(memory, offset=3 * PAGE + 16, size=PAGE)
        hostile.session.invoke(WHERE, Value(0), reference, Value(0, 0))
        first = Where(*unpack_from("<8Q", memory.buffer, 3 * PAGE + 16)).client - 16
        if command != JUMP:
            for inside in (first, first + 2 * PAGE - 1):
                hostile.session.invoke(command, Value(inside, 0), reference)
        bad = first - 4 if beyond else first + 2 * PAGE
        captive.dies(
            lambda: hostile.session.invoke(command, Value(bad, 0), reference)  # noqa: B023 (now)
        )


@pytest.mark.parametrize("command", [PEEK, POKE])
def test_memory_of_the_honest_one(arm_captive: MakeArmCaptive, arch: str, command: int) -> None:
    """Each has an address space of its own: an address of the one is nothing in the other."""
    captive = arm_captive(arch)
    theirs = captive.fresh().where().scratch
    mine = captive.hostile.where().scratch
    if not mine <= theirs < mine + SCRATCH:
        dies(captive, command, theirs)
