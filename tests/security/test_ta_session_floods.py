# SPDX-License-Identifier: BSD-2-Clause
"""TAs that open sessions without end, with others and with themselves: limits, and all is gone."""

import os
import signal

import pytest

from gentee.abi import optee_pta as pta
from gentee.abi import optee_ta as abi
from gentee.abi.gp import (
    TEE_ERROR_BUSY,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_TARGET_DEAD,
)
from gentee.errors import OutOfMemory, TeeError
from gentee.secure import nested
from gentee.secure.service import parse_uuid
from gentee.ta.svc.properties import native_uuid
from tests import arm_tas
from tests.functional.test_services import Call
from tests.helpers import wait_until
from tests.security.arm_captive import (
    CALLS,
    FOREVER,
    HONEST,
    HOSTILE,
    PING,
    ArmCaptive,
    Hostile,
    MakeArmCaptive,
    SystemCall,
    arch,
    arm_captive,
    ping,
    service_host,
)

__all__ = ["arch", "arm_captive", "service_host"]

SINGLE = "(TA_FLAG_SINGLE_INSTANCE|TA_FLAG_MULTI_SESSION)"
MANY = 2000


def opening(hostile: Hostile, uuid: str, times: int = MANY) -> SystemCall:
    """Open sessions with a TA, as long as it works."""
    scratch = hostile.where().scratch
    hostile.fill(native_uuid(parse_uuid(uuid)) + bytes(64))
    args = (scratch, FOREVER, 0, scratch + 16, scratch + 20)
    return SystemCall(abi.TEE_SCN_OPEN_TA_SESSION, args, times=times)


def all_gone(captive: ArmCaptive, before: int) -> None:
    wait_until(lambda: captive.instances() <= before, "instances are left")
    captive.others_go_on()


def test_sessions_with_another_one(arm_captive: MakeArmCaptive, arch: str) -> None:
    """Each is an instance; there are so many of one caller, and then so many of a TEE."""
    captive = arm_captive(arch, max_instances=12)
    before = captive.instances()
    hostile = captive.fresh()
    (answer,) = hostile.call(opening(hostile, arm_tas.uuid_of(HONEST)))
    assert answer.result == TEE_ERROR_OUT_OF_MEMORY
    assert 3 < answer.done <= 12
    captive.honest()
    hostile.session.close()
    all_gone(captive, before)


def test_sessions_with_a_single_instance(arm_captive: MakeArmCaptive, arch: str) -> None:
    """They take no process; an instance still has so many."""
    captive = arm_captive(arch, flags=SINGLE)
    caller = captive.fresh_honest()
    (answer,) = caller.call(opening(caller, arm_tas.uuid_of(HOSTILE)))
    assert (answer.done, answer.result) == (nested.MAX_SESSIONS + 1, TEE_ERROR_OUT_OF_MEMORY)
    captive.others_go_on()
    # Numbers that it closed are free again.
    closing = [SystemCall(abi.TEE_SCN_CLOSE_TA_SESSION, (number,)) for number in range(1, 101)]
    assert {answer.result for answer in caller.call(*closing)} == {0}
    (answer,) = caller.call(opening(caller, arm_tas.uuid_of(HOSTILE)))
    assert answer.done == 101
    caller.session.close()
    captive.others_go_on()


@pytest.mark.parametrize(
    "uuid", [pta.PTA_SYSTEM_UUID, pta.STATS_UUID], ids=["in its process", "in gentee"]
)
def test_sessions_with_a_pseudo_ta(arm_captive: MakeArmCaptive, arch: str, uuid: str) -> None:
    captive = arm_captive(arch)
    (answer,) = captive.hostile.call(opening(captive.hostile, uuid))
    assert (answer.done, answer.result) == (nested.MAX_SESSIONS + 1, TEE_ERROR_OUT_OF_MEMORY)
    captive.others_go_on()


def test_sessions_that_are_opened_and_closed(arm_captive: MakeArmCaptive, arch: str) -> None:
    captive = arm_captive(arch)
    before = captive.instances()
    hostile = captive.hostile
    for _ in range(20):
        opened = opening(hostile, arm_tas.uuid_of(HONEST), times=1)
        close = SystemCall(abi.TEE_SCN_CLOSE_TA_SESSION, (1,))
        assert [answer.result for answer in hostile.call(opened, close, close)] == [
            0, 0, TEE_ERROR_ITEM_NOT_FOUND,
        ]  # fmt: skip
    all_gone(captive, before)


def test_itself(arm_captive: MakeArmCaptive, arch: str) -> None:
    """As a multi-instance TA it is another one; as a single instance it would wait for itself."""
    captive = arm_captive(arch, max_instances=8)
    before = captive.instances()
    (answer,) = captive.hostile.call(opening(captive.hostile, arm_tas.uuid_of(HOSTILE)))
    assert answer.result == TEE_ERROR_OUT_OF_MEMORY
    captive.hostile.session.close()
    wait_until(lambda: captive.instances() < before)
    captive.others_go_on()
    single = arm_captive(arch, flags=SINGLE)
    (answer,) = single.hostile.call(opening(single.hostile, arm_tas.uuid_of(HOSTILE)))
    assert (answer.done, answer.result) == (1, TEE_ERROR_BUSY)
    single.others_go_on()


def test_its_death_closes_all(arm_captive: MakeArmCaptive, arch: str) -> None:
    """By a panic, and by a kill while it opens."""
    captive = arm_captive(arch, max_instances=40)
    before = captive.instances()
    hostile = captive.fresh()
    opened = opening(hostile, arm_tas.uuid_of(HONEST), times=10)
    hostile.start(opened, SystemCall(abi.TEE_SCN_PANIC, (7,)))
    with pytest.raises(TeeError) as raised:
        hostile.invoke(CALLS, 2)
    assert raised.value.code == TEE_ERROR_TARGET_DEAD
    assert hostile.answers(1)[0].done == 10
    all_gone(captive, before)
    hostile = captive.fresh()
    hostile.start(opening(hostile, arm_tas.uuid_of(HONEST)))
    (tee,) = captive.tee.driver.tees
    newest = max(tee.instances(), key=lambda instance: max(instance.sessions, default=0))
    wait_until(lambda: newest.pid)
    call = Call(hostile.session, CALLS, *hostile.params(1))
    wait_until(lambda: captive.instances() > before + 3)
    os.kill(newest.pid, signal.SIGKILL)
    wait_until(lambda: call.is_done)
    all_gone(captive, before)


def test_clients_without_end(arm_captive: MakeArmCaptive) -> None:
    """A client's flood of opens is refused, and the sessions that there are go on."""
    captive = arm_captive("aarch64", max_instances=10)
    room = 10 - captive.instances()
    sessions = [captive.tee.open(arm_tas.uuid_of(HOSTILE)) for _ in range(room)]
    for _ in range(20):
        with pytest.raises(OutOfMemory):
            captive.tee.open(arm_tas.uuid_of(HOSTILE))
    captive.honest()
    for session in sessions:
        ping(session)
        session.close()
    wait_until(lambda: captive.instances() <= 10 - room)
    assert captive.hostile.invoke(PING, 1) == 2
    captive.others_go_on()
