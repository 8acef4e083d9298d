# SPDX-License-Identifier: BSD-2-Clause
"""TAs that want all of the machine's memory: TEE_ERROR_OUT_OF_MEMORY, and they may go on."""

from struct import pack, unpack_from

import pytest

from gentee.abi import elf
from gentee.abi import optee_pta as pta
from gentee.abi import optee_ta as abi
from gentee.abi.gp import TEE_ERROR_OUT_OF_MEMORY
from gentee.errors import OutOfMemory
from gentee.secure.service import parse_uuid
from gentee.ta.svc.properties import native_uuid
from tests import arm_tas
from tests.elfwriter import DATA, ElfWriter, Shdr
from tests.helpers import wait_until
from tests.security.arm_captive import (
    FOREVER,
    MAP_ALL,
    PAGE,
    ArmCaptive,
    Hostile,
    MakeArmCaptive,
    SystemCall,
    arch,
    arm_captive,
    service_host,
)
from tests.security.test_ta_system_calls import CODES

__all__ = ["arch", "arm_captive", "service_host"]

LIMIT = 24  # MiB
MIB = 1 << 20

KEEP_FIRST, KEEP_SECOND = 2, 4  # flags of MAP_ALL


def resident(captive: ArmCaptive) -> int:
    """MiB of the largest of its processes."""
    (tee,) = captive.tee.driver.tees
    found = []
    for instance in tee.instances():
        wait_until(lambda: instance.pid)  # noqa: B023 (now)
        with open(f"/proc/{instance.pid}/status", encoding="ascii") as file:
            found += [int(line.split()[1]) >> 10 for line in file if line.startswith("VmRSS")]
    return max(found)


def open_system(hostile: Hostile) -> int:
    """The number of a session with the system pseudo TA."""
    where = hostile.where()
    hostile.fill(native_uuid(parse_uuid(pta.PTA_SYSTEM_UUID)) + bytes(16))
    args = (where.scratch, FOREVER, 0, where.scratch + 16, where.scratch + 20)
    (answer,) = hostile.call(SystemCall(abi.TEE_SCN_OPEN_TA_SESSION, args))
    assert answer.result == 0
    return 1


def map_all(hostile: Hostile, session: int, size: int, flags: int) -> tuple[int, int, int]:
    """Bytes, how often, and the result that ended it."""
    hostile.invoke(MAP_ALL, size, flags, session)
    got, times, result, _origin = unpack_from("<4Q", hostile.memory.buffer)
    return got, times, result


@pytest.mark.parametrize(("size", "flags"), [(PAGE, 0), (MIB, 0), (MIB, 1), (8 * MIB - 1, 1)])
def test_mappings_until_there_are_no_more(
    arm_captive: MakeArmCaptive, arch: str, size: int, flags: int
) -> None:
    captive = arm_captive(arch, memory_limit=LIMIT)
    hostile = captive.hostile
    got, _times, result = map_all(hostile, open_system(hostile), size, flags)
    assert result == TEE_ERROR_OUT_OF_MEMORY
    assert 450 * PAGE < got <= LIMIT * MIB
    assert resident(captive) < 2 * LIMIT + 40
    again, _times, result = map_all(hostile, 1, size, flags)
    assert (again, result) == (0, TEE_ERROR_OUT_OF_MEMORY)
    captive.others_go_on()
    # What it had is gone with it.
    hostile.session.close()
    fresh = captive.fresh()
    assert map_all(fresh, open_system(fresh), size, flags)[0] == got
    captive.others_go_on()


def test_holes_without_end(arm_captive: MakeArmCaptive, arch: str) -> None:
    """One mapping in pieces is many: there are only so many."""
    captive = arm_captive(arch, memory_limit=LIMIT)
    hostile = captive.hostile
    _got, _times, result = map_all(hostile, open_system(hostile), 5 * MIB, KEEP_SECOND)
    assert result == TEE_ERROR_OUT_OF_MEMORY
    assert hostile.where().scratch
    captive.others_go_on()


def test_memory_that_is_given_back_in_parts(arm_captive: MakeArmCaptive, arch: str) -> None:
    """What is gone is gone: so much can be mapped again, and not more."""
    captive = arm_captive(arch, memory_limit=LIMIT)
    hostile = captive.hostile
    _got, times, result = map_all(hostile, open_system(hostile), MIB, KEEP_FIRST)
    assert result == TEE_ERROR_OUT_OF_MEMORY
    assert times > 450
    assert resident(captive) < 2 * LIMIT + 40
    captive.others_go_on()


def test_an_image_of_relocations(arm_captive: MakeArmCaptive) -> None:
    """What its loading takes is in the limit, too: it is refused in a line."""
    captive = arm_captive("arm", memory_limit=16)
    size = 6 * MIB
    writer = ElfWriter("arm", data_size=size, data_memory=size)
    count = (size - PAGE) // 8
    writer.patches[DATA + PAGE] = pack("<II", DATA, 2) * count  # R_ARM_ABS32
    writer.more_shdrs.append(Shdr(elf.SHT_REL, DATA + PAGE, 8 * count, 1, 8))
    uuid = arm_tas.uuid_of(99)
    arm_tas.sign_into(captive.folder, uuid, writer.build())
    with pytest.raises(OutOfMemory):
        captive.tee.open(uuid)
    assert [line for line in captive.lines if "--memory-limit" in line]
    captive.others_go_on()


def test_calls_with_all_of_its_memory(arm_captive: MakeArmCaptive, arch: str) -> None:
    """A system call has no room left to copy what it is given: an answer, and no death."""
    captive = arm_captive(arch, memory_limit=64)
    hostile = captive.hostile
    size = 20 * MIB
    _got, times, _result = map_all(hostile, open_system(hostile), size, 1)
    assert times == 3
    (address,) = unpack_from("<Q", hostile.memory.buffer, 32)
    scratch = hostile.where().scratch
    create = (1, scratch, 4, 0x7, 0, address, size, scratch + 64)
    calls = [SystemCall(abi.TEE_SCN_STORAGE_OBJ_CREATE, create)]
    for number in range(abi.TEE_SCN_GET_PROPERTY, abi.TEE_SCN_MAX + 1):
        if number != abi.TEE_SCN_WAIT:
            calls.append(SystemCall(number, 4 * (address, size)))
            calls.append(SystemCall(number, (0, *3 * (address, size))))
    for start in range(0, len(calls), 64):
        for answer in hostile.call(*calls[start : start + 64]):
            assert answer.done == 1
            assert answer.result in CODES
    captive.others_go_on()
