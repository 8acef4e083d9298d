# SPDX-License-Identifier: BSD-2-Clause
"""After many rounds and killed clients, descriptors, processes and memory are as before.

``make soak`` runs it whole (GENTEE_SOAK_SCALE=1: 100,000 rounds, 1,000 killed clients); otherwise a
hundredth of it runs.
"""

import os
from collections.abc import Iterator

import pytest

from tests.functional.conftest import SERVICES, CompileClient
from tests.security.conftest import StartGentee

SCALE = float(os.environ.get("GENTEE_SOAK_SCALE", "0.01"))
ROUNDS = int(100_000 * SCALE)
KILLS = max(20, int(1_000 * SCALE))

COUNTER = "b5c6c8f4-8c5f-4b7e-9d35-61b7a3d6f2a4"  # one instance for all
ECHO = "3f1b8f5e-6a3d-4c0e-8f0b-2d9c1a7e5b10"  # an instance for each session
MEMORY = "3e304217-6a0d-4f6b-8f6a-1b2c3d4e5f02"  # the same, of the tests' own services

WARM_UP = 200  # rounds before the first look: caches, threads and free lists are filled
LAST_EVENTS = 8  # descriptors that events still under way hold
RSS_BOUND = 4096  # KiB


def portions(total: int, most: int) -> Iterator[int]:
    """``total`` in portions: a client's case has half a minute."""
    while total > 0:
        yield min(total, most)
        total -= most


@pytest.mark.slow
@pytest.mark.parametrize("way", ["auto", "open"])
@pytest.mark.parametrize(
    ("service", "func", "share"), [(COUNTER, 0, 1.0), (ECHO, 1, 0.1)], ids=["counter", "echo"]
)
def test_rounds(
    start_gentee: StartGentee,
    compile_client: CompileClient,
    way: str,
    service: str,
    func: int,
    share: float,
) -> None:
    gentee = start_gentee("--log-level", "error", way=way)
    client = compile_client("soak.c")

    def rounds(count: int) -> None:
        environment = f"TEE_CLIENT_SERVICE={service} TEE_CLIENT_FUNC={func} "
        environment += f"TEE_CLIENT_COUNT={count}"
        assert gentee.run(f"{environment} {client} rounds", patience=3600) == ["ok rounds"]

    rounds(WARM_UP)
    before = gentee.state()
    for count in portions(int(ROUNDS * share), 2_000):
        rounds(count)
    after = gentee.wait_state(before, fds=LAST_EVENTS)
    assert after.rss <= before.rss + RSS_BOUND, (before, after)
    print(f"{int(ROUNDS * share)} rounds, {way}: {before} -> {after}")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["auto", "open"])
@pytest.mark.parametrize("service", ["", MEMORY], ids=["loopback", "memory"])
def test_killed_clients(
    start_gentee: StartGentee, compile_client: CompileClient, way: str, service: str
) -> None:
    options = (
        ["--log-level", "error", "--ta-dir", SERVICES] if service else ["--driver", "loopback"]
    )
    gentee = start_gentee(*options, way=way)
    client = compile_client("hostile_kills.c")

    def kills(count: int, seed: int) -> None:
        environment = f"TEE_CLIENT_SEED={seed} TEE_CLIENT_COUNT={count}"
        if service:
            environment += f" TEE_CLIENT_SERVICE={service}"
        assert gentee.run(f"{environment} {client} kills", patience=3600) == ["ok kills"]

    kills(20, 1)
    before = gentee.state()
    for seed, count in enumerate(portions(KILLS, 50)):
        kills(count, 2 + seed)
    after = gentee.wait_state(before, fds=LAST_EVENTS)
    assert after.rss <= before.rss + RSS_BOUND, (before, after)
    print(f"{KILLS} killed clients, {service or 'loopback'}, {way}: {before} -> {after}")
