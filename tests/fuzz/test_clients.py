# SPDX-License-Identifier: BSD-2-Clause
"""Random calls of real clients: gentee survives them, serves others, and keeps nothing."""

import os

import pytest

from tests.functional.conftest import SERVICES, CompileClient
from tests.security.conftest import StartGentee

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SEEDS = range(60) if LONG else range(2)
CALLS = 20_000 if LONG else 1_500  # of each of three threads

MEMORY = "3e304217-6a0d-4f6b-8f6a-1b2c3d4e5f02"
LAST_EVENTS = 10  # descriptors of instances that the last events in gentee still hold


@pytest.mark.slow
@pytest.mark.parametrize("way", ["auto", "open"])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_calls(
    start_gentee: StartGentee, compile_client: CompileClient, way: str, seed: int
) -> None:
    gentee = start_gentee("--driver", "loopback", way=way)
    before = gentee.state()
    healthy = gentee.begin(f"{compile_client('hostile_numbers.c')} healthy")
    environment = f"TEE_CLIENT_SEED={seed} TEE_CLIENT_COUNT={CALLS}"
    fuzzer = f"{environment} {compile_client('fuzz_ioctls.c')} random_calls"
    assert gentee.run(fuzzer) == ["ok random_calls"]
    healthy.finish()
    gentee.wait_state(before)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_random_calls_of_services(
    start_gentee: StartGentee, compile_client: CompileClient, seed: int
) -> None:
    gentee = start_gentee("--quiet", "--ta-dir", SERVICES)
    before = gentee.state()
    environment = f"TEE_CLIENT_SERVICE={MEMORY}"
    healthy = gentee.begin(f"{environment} {compile_client('hostile_numbers.c')} healthy")
    environment += f" TEE_CLIENT_SEED={seed} TEE_CLIENT_COUNT={CALLS // 4}"
    fuzzer = f"{environment} {compile_client('fuzz_ioctls.c')} random_calls"
    assert gentee.run(fuzzer) == ["ok random_calls"]
    healthy.finish()
    # The warm parent stays, and the process that it keeps ahead.
    gentee.wait_state(before, fds=1 + LAST_EVENTS, processes=2)
