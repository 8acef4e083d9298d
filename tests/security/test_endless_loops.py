# SPDX-License-Identifier: BSD-2-Clause
"""Services that never come back are ended when their time is over."""

import pytest

from gentee.abi.gp import TEE_ERROR_TARGET_DEAD
from gentee.core.host import LOG_ERROR
from gentee.errors import TeeError
from tests.helpers import wait_until
from tests.security.captive import MakeCaptive, captive, service_host

__all__ = ["captive", "service_host"]

LOOPS = "4bd4c3f0-7a0c-4c1b-9f0e-1d2c3b4a5f70"


def test_an_endless_loop(captive: MakeCaptive) -> None:
    """It ends with a line that says which service, which command and which limit."""
    hostile = captive(
        """
    def attack(self, command, params):
        while True:
            pass
""",
        cpu_limit=0.3,
    )
    hostile.dies(7)
    text = "command 7 took more than 0.3 seconds of CPU time (--cpu-limit); the instance is ended"
    assert ("hostile", LOG_ERROR, text) in hostile.tee.logged


def test_an_endless_loop_that_catches_everything(captive: MakeCaptive) -> None:
    hostile = captive(
        """
    def attack(self, command, params):
        import signal
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass
""",
        cpu_limit=0.3,
    )
    hostile.dies(1)


def test_a_loop_before_there_is_an_instance(captive: MakeCaptive) -> None:
    """In the module itself, and in the creation of an instance."""
    hostile = captive("\n    def attack(self, command, params): pass\n", cpu_limit=0.3)
    for body in (
        "\nwhile True: pass\n",
        "\n    def TA_CreateEntryPoint(self):\n        while True: pass\n",
    ):
        hostile.tee.put(body, name="loops", uuid=LOOPS)
        with pytest.raises(TeeError) as raised:
            hostile.tee.open(LOOPS)
        assert raised.value.code == TEE_ERROR_TARGET_DEAD
        hostile.others_go_on()
    assert sum("the creation of an instance took" in line for line in hostile.said()) == 2


def test_a_sleeper_that_nobody_waits_for(captive: MakeCaptive) -> None:
    """Its client closed the session, and it does not come back from that."""
    hostile = captive(
        """
    def TA_CloseSessionEntryPoint(self, session):
        time.sleep(86400)
    def attack(self, command, params): pass
""",
        cpu_limit=0.2,
    )
    before = hostile.tee.instances()
    hostile.session.close()
    wait_until(lambda: hostile.tee.instances() < before)
    assert any("with no client left" in line for line in hostile.said())


def test_a_long_sleep_is_no_cpu_time(captive: MakeCaptive) -> None:
    hostile = captive(
        """
    def attack(self, command, params):
        TEE_Wait(700)
""",
        cpu_limit=0.1,
    )
    hostile.session.invoke(1)
    hostile.others_go_on()


def test_no_limit(captive: MakeCaptive) -> None:
    hostile = captive(
        """
    def attack(self, command, params):
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
""",
        cpu_limit=0,
    )
    hostile.session.invoke(1)
