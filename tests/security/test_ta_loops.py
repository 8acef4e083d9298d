# SPDX-License-Identifier: BSD-2-Clause
"""TAs that never come back: the watchdog ends them with its line, and others go on meanwhile."""

import pytest

from gentee.abi import optee_ta as abi
from gentee.abi.gp import TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE
from gentee.client import Value
from gentee.core.host import LOG_ERROR
from gentee.errors import TeeError
from tests.functional.test_services import Call
from tests.helpers import wait_until
from tests.security.arm_captive import (
    CALL_FOR_EVER,
    CALLS,
    FOREVER,
    LOG_FOR_EVER,
    LOOP,
    PING,
    MakeArmCaptive,
    SystemCall,
    arch,
    arm_captive,
    ping,
    service_host,
)

__all__ = ["arch", "arm_captive", "service_host"]


@pytest.mark.parametrize("command", [LOOP, CALL_FOR_EVER, LOG_FOR_EVER])
def test_an_endless_command(arm_captive: MakeArmCaptive, arch: str, command: int) -> None:
    """In its own code, in system calls, in its log: the line says command and limit."""
    captive = arm_captive(arch, cpu_limit=0.2)
    error = captive.during(lambda: captive.hostile.invoke(command))
    assert isinstance(error, TeeError)
    assert (error.code, error.origin) == (TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE)
    text = f"command {command} took more than 0.2 seconds of CPU time (--cpu-limit)"
    name = captive.name
    assert (name, LOG_ERROR, f"{text}; the instance is ended") in captive.tee.logged


def test_calls_that_wait_behind_a_loop(arm_captive: MakeArmCaptive, arch: str) -> None:
    """A single instance: who waits for its turn gets the end of the instance as well."""
    captive = arm_captive(
        arch, cpu_limit=0.3, flags="(TA_FLAG_SINGLE_INSTANCE|TA_FLAG_MULTI_SESSION)"
    )
    other = captive.fresh()
    loop = Call(captive.hostile.session, LOOP)
    behind = Call(other.session, PING, Value(1))
    captive.honest()
    for call in (loop, behind):
        with pytest.raises(TeeError) as raised:
            call.wait()
        assert raised.value.code == TEE_ERROR_TARGET_DEAD
    captive.others_go_on()


def test_a_wait_that_cannot_be_cancelled(arm_captive: MakeArmCaptive, arch: str) -> None:
    """Masked, and for ever: its client may go at any time, and then it is ended."""
    captive = arm_captive(arch, cpu_limit=0.2)
    before = captive.instances()
    hostile = captive.fresh()
    hostile.start(SystemCall(abi.TEE_SCN_WAIT, (FOREVER,)))
    call = Call(hostile.session, CALLS, Value(1), hostile.memory)
    wait_until(lambda: captive.instances() > before)
    for _ in range(20):
        call.operation.cancel()
        captive.honest()
    assert not call.is_done
    hostile.context.finalize()
    wait_until(lambda: captive.instances() == before)
    assert any("with no client left" in line for line in captive.lines)
    captive.others_go_on()


def test_many_that_loop(arm_captive: MakeArmCaptive) -> None:
    """More of them than the machine has processors."""
    captive = arm_captive("aarch64", cpu_limit=0.2)
    loops = [Call(captive.fresh().session, LOOP) for _ in range(6)]
    for _ in range(10):
        captive.honest()
    for loop in loops:
        with pytest.raises(TeeError) as raised:
            loop.wait()
        assert raised.value.code == TEE_ERROR_TARGET_DEAD
    captive.others_go_on()
    ping(captive.hostile.session)
