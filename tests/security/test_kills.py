# SPDX-License-Identifier: BSD-2-Clause
"""Clients killed at any moment: nothing of them is left, and a healthy one does not notice."""

import pytest

from tests.functional.conftest import SERVICES, CompileClient
from tests.security.conftest import StartGentee

MEMORY_SERVICE = "3e304217-6a0d-4f6b-8f6a-1b2c3d4e5f02"
LAST_EVENTS = 8  # descriptors of instances that the last events in gentee still hold


@pytest.mark.slow
@pytest.mark.parametrize("way", ["auto", "open"])
@pytest.mark.parametrize("seed", [1, 2])
def test_kills(
    start_gentee: StartGentee, compile_client: CompileClient, way: str, seed: int
) -> None:
    gentee = start_gentee("--driver", "loopback", way=way)
    before = gentee.state()
    healthy = gentee.begin(f"{compile_client('hostile_numbers.c')} healthy")
    assert healthy.first == "healthy"
    killer = f"TEE_CLIENT_SEED={seed} {compile_client('hostile_kills.c')} kills"
    assert gentee.run(killer) == ["ok kills"]
    healthy.finish()
    gentee.wait_state(before)


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--reg-mem"]], ids=["shared", "registered"])
def test_kills_in_services(
    start_gentee: StartGentee, compile_client: CompileClient, options: list[str]
) -> None:
    """Each session has a process of its own, which ends with its client."""
    gentee = start_gentee("--ta-dir", SERVICES, *options)
    before = gentee.state()
    environment = f"TEE_CLIENT_SERVICE={MEMORY_SERVICE}"
    healthy = gentee.begin(f"{environment} {compile_client('hostile_numbers.c')} healthy")
    assert healthy.first == "healthy"
    killer = f"{environment} TEE_CLIENT_SEED=3 {compile_client('hostile_kills.c')} kills"
    assert gentee.run(killer) == ["ok kills"]
    healthy.finish()
    # The warm parent stays, and the process that it keeps ahead.
    gentee.wait_state(before, fds=1 + LAST_EVENTS, processes=2)
