# SPDX-License-Identifier: BSD-2-Clause
"""More of everything than a client needs: the limits answer, others are served, nothing is left."""

import sys

import pytest

from tests.functional.conftest import SERVICES, CompileClient
from tests.security.conftest import StartGentee

MEMORY_SERVICE = "3e304217-6a0d-4f6b-8f6a-1b2c3d4e5f02"

AT_ONCE = 20  # threads of the client that are there at the same time
KEPT_OF_A_THREAD = 4  # descriptors

LAST_EVENTS = 4


# gentee run with few instances.
RUN_WITH_FEW_INSTANCES = """
import sys
from gentee.device.run import Run
from gentee.drivers.soft import driver
options = {"ta_dirs": [sys.argv[1]], "max_instances": 40}
sys.exit(Run(["sh"], [(driver, options)]).run())
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["auto", "open"])
def test_thousands_of_contexts(
    start_gentee: StartGentee, compile_client: CompileClient, way: str
) -> None:
    gentee = start_gentee("--driver", "loopback", way=way)
    before = gentee.state()
    running = gentee.begin(f"{compile_client('hostile_numbers.c')} contexts")
    if running.first.startswith("contexts"):
        assert gentee.state().fds >= before.fds + 5000
    running.finish()
    gentee.wait_state(before)


@pytest.mark.slow
def test_contexts_from_a_usual_shell(
    start_gentee: StartGentee, compile_client: CompileClient
) -> None:
    """The usual soft limit is 1024, which gentee raises for itself and leaves to its clients."""
    gentee = start_gentee("--driver", "loopback", descriptors=1024)
    before = gentee.state()
    assert gentee.run("ulimit -S -n") == ["1024"]
    running = gentee.begin(f"TEE_CLIENT_COUNT=2000 {compile_client('hostile_numbers.c')} contexts")
    running.finish()
    gentee.wait_state(before)


@pytest.mark.slow
def test_sessions(start_gentee: StartGentee, compile_client: CompileClient) -> None:
    program = compile_client("hostile_numbers.c")
    gentee = start_gentee("--driver", "loopback")
    before = gentee.state()
    flood = gentee.begin(f"{program} sessions")
    # The limit is the context's: another one has sessions of its own.
    healthy = gentee.begin(f"{program} healthy")
    assert healthy.first == "healthy"
    healthy.let_end()
    flood.finish()
    gentee.wait_state(before)


@pytest.mark.slow
def test_instances(start_gentee: StartGentee, compile_client: CompileClient) -> None:
    """Each session has a process of its own: the limit is the TEE's."""
    program = f"TEE_CLIENT_SERVICE={MEMORY_SERVICE} {compile_client('hostile_numbers.c')}"
    gentee = start_gentee(run=[sys.executable, "-c", RUN_WITH_FEW_INSTANCES, str(SERVICES)])
    before = gentee.state()
    for _ in range(3):
        healthy = gentee.begin(f"{program} healthy")
        assert healthy.first == "healthy"
        flood = gentee.begin(f"{program} sessions")
        assert flood.first == "sessions 39"
        assert gentee.state().processes >= before.processes + 40
        # Who has a session is served as ever.
        flood.let_end()
        healthy.finish()
        # The warm parent stays; and the last events' instances, as long as no other event comes.
        gentee.wait_state(before, fds=1 + LAST_EVENTS, processes=2)


def test_memory(start_gentee: StartGentee, compile_client: CompileClient) -> None:
    program = compile_client("hostile_numbers.c")
    gentee = start_gentee("--driver", "loopback")
    before = gentee.state()
    flood = gentee.begin(f"{program} memory")
    healthy = gentee.begin(f"{program} healthy")
    assert healthy.first == "healthy"
    healthy.let_end()
    flood.finish()
    gentee.wait_state(before)
    gentee.begin(f"{program} memory_again").finish()
    gentee.wait_state(before)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["auto", "open"])
def test_short_threads(start_gentee: StartGentee, compile_client: CompileClient, way: str) -> None:
    """10,000 threads, a call each: gentee keeps nothing of a thread that ended."""
    gentee = start_gentee("--driver", "loopback", way=way)
    running = gentee.begin(f"{compile_client('hostile_numbers.c')} threads")
    before = gentee.state()
    assert running.go_on() == "threads 10000"
    # The client still is there; of its last threads something may be.
    assert gentee.state().fds <= before.fds + AT_ONCE * KEPT_OF_A_THREAD
    running.finish()
    gentee.wait_state(before)


@pytest.mark.slow
def test_short_processes(start_gentee: StartGentee, compile_client: CompileClient) -> None:
    gentee = start_gentee("--driver", "loopback")
    running = gentee.begin(f"{compile_client('hostile_numbers.c')} processes")
    before = gentee.state()
    assert running.go_on() == "processes 1000"
    gentee.wait_state(before)
    running.finish()


@pytest.mark.slow
def test_many_threads_at_once(start_gentee: StartGentee, compile_client: CompileClient) -> None:
    """More threads than gentee remembers: each is served."""
    gentee = start_gentee("--driver", "loopback")
    before = gentee.state()
    gentee.begin(f"{compile_client('hostile_numbers.c')} threads_at_once").finish()
    gentee.wait_state(before)
