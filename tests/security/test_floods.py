# SPDX-License-Identifier: BSD-2-Clause
"""A service that floods its log, or wants threads without end."""

import pytest

from gentee.abi.gp import TEE_ERROR_TARGET_DEAD
from gentee.errors import TeeError
from tests.functional.test_services import Call
from tests.security.captive import MakeCaptive, captive, service_host

__all__ = ["captive", "service_host"]


def test_a_log_without_end(captive: MakeCaptive) -> None:
    """It waits for who reads; the others' calls go on meanwhile, and its time runs out."""
    hostile = captive(
        """
    def attack(self, command, params):
        while True:
            os.write(1, 4096 * b"x" + b"\\n")
""",
        cpu_limit=0.3,
    )
    call = Call(hostile.session, 1)
    for _ in range(50):
        hostile.others_go_on()
    with pytest.raises(TeeError) as raised:
        call.wait()
    assert raised.value.code == TEE_ERROR_TARGET_DEAD
    hostile.others_go_on()


def test_threads_without_end(captive: MakeCaptive) -> None:
    hostile = captive(
        """
    def attack(self, command, params):
        import threading
        started = 0
        for _ in range(1000):
            try:
                threading.Thread(target=print).start()
                started += 1
            except RuntimeError:
                pass
        IMSG(f"{started} threads")
"""
    )
    hostile.session.invoke(1)
    assert hostile.said() == ["0 threads"]
    hostile.others_go_on()
