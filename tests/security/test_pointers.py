# SPDX-License-Identifier: BSD-2-Clause
"""Bad addresses and lengths, everywhere that a client can give one."""

from collections.abc import Callable

import pytest

from tests.functional.conftest import SERVICES, CompileClient
from tests.security.conftest import StartGentee

MEMORY_SERVICE = "3e304217-6a0d-4f6b-8f6a-1b2c3d4e5f02"


@pytest.mark.client("hostile_pointers.c", "--driver", "loopback")
def test_pointers(attack: Callable[[], None]) -> None:
    attack()


def test_a_session_whose_outputs_have_no_place_is_closed(
    start_gentee: StartGentee, compile_client: CompileClient
) -> None:
    gentee = start_gentee("--ta-dir", SERVICES)
    before = gentee.state()
    running = gentee.begin(
        f"TEE_CLIENT_SERVICE={MEMORY_SERVICE} TEE_CLIENT_WAITS=1 "
        f"{compile_client('hostile_pointers.c')} opened_without_a_place"
    )
    assert running.first == "open"
    # The warm parent, its process ahead, and one for each of the two sessions that are open.
    gentee.wait_state(before, fds=100, processes=4)
    running.finish()
