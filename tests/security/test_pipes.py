# SPDX-License-Identifier: BSD-2-Clause
"""The pipe that a context is: written to, flooded, opened again, sent away."""

import pytest

from tests.functional.conftest import CompileClient
from tests.security.conftest import StartGentee


@pytest.mark.parametrize("way", ["auto", "open"])
@pytest.mark.parametrize("case", ["flooded", "other_pipes", "settings"])
def test_pipes(
    start_gentee: StartGentee, compile_client: CompileClient, way: str, case: str
) -> None:
    gentee = start_gentee("--driver", "loopback", way=way)
    before = gentee.state()
    gentee.begin(f"{compile_client('hostile_pipes.c')} {case}").finish()
    gentee.wait_state(before)


@pytest.mark.parametrize("way", ["auto", "open"])
def test_a_context_ends_though_it_can_be_written(
    start_gentee: StartGentee, compile_client: CompileClient, way: str
) -> None:
    gentee = start_gentee("--driver", "loopback", way=way)
    before = gentee.state()
    running = gentee.begin(f"{compile_client('hostile_pipes.c')} writers_left")
    if running.first == "closed":
        # 50 contexts, of which only the process and its thread are left.
        gentee.wait_state(before, fds=10)
    running.finish()
    gentee.wait_state(before)


@pytest.mark.parametrize("way", ["auto", "open"])
def test_a_context_lives_in_a_message(
    start_gentee: StartGentee, compile_client: CompileClient, way: str
) -> None:
    gentee = start_gentee("--driver", "loopback", way=way)
    before = gentee.state()
    gentee.begin(f"{compile_client('hostile_pipes.c')} readers_left").finish()
    gentee.wait_state(before)
