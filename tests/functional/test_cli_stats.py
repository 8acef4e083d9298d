# SPDX-License-Identifier: BSD-2-Clause
"""``gentee ls --stats``, on a TEE that is served and from inside of ``gentee run``."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import arm_tas
from tests.arm_tas import uuid_of
from tests.functional.test_cli_served import PATIENCE, ROOT, Served, environment, gentee
from tests.signing import key_file

HEAP = 0x60
COUNTER = "b5c6c8f4-8c5f-4b7e-9d35-61b7a3d6f2a4"
TESTS = "d96a5b40-c3e5-21e3-8794-1002a5d5c61b"

# A client with sessions that runs a command: the words behind it.
CLIENT = """
import subprocess, sys
from gentee.client import Context, Value
with Context() as context:
    sessions = [context.open_session(uuid) for uuid in sys.argv[1].split(",")]
    done = subprocess.run(sys.argv[2:])
sys.exit(done.returncode)
"""


@pytest.fixture
def served(tmp_path: Path) -> Any:
    arm_tas.install(tmp_path, HEAP, "heap", "aarch64")
    served = Served("--key", key_file(tmp_path), "--ta-dir", str(tmp_path))
    yield served
    served.stop()
    assert "Traceback" not in served.messages


def run(options: list[str], uuids: list[str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of gentee's inside of a client that has sessions."""
    client = [sys.executable, "-c", CLIENT, ",".join(uuids)]
    return subprocess.run(
        [sys.executable, "-m", "gentee", "run", *options, "--", *client, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
    )


LS = [sys.executable, "-m", "gentee", "ls", "--stats"]


def test_nothing_is_alive(served: Served) -> None:
    finished = gentee("ls", "--stats", "--tee", "served")
    assert (finished.returncode, finished.stdout) == (0, "no instance is alive\n")
    found = json.loads(gentee("ls", "--stats", "--tee", "served", "--json").stdout)
    assert found["services"] == found["pseudo_tas"] == []
    assert found["tee"]["pid"] == served.process.pid
    assert found["tee"]["memory"]["private"] > 1 << 20


def test_what_is_alive(served: Served) -> None:
    uuids = [uuid_of(HEAP), uuid_of(HEAP), COUNTER, TESTS]
    finished = run(["--tee", "served"], uuids, *LS, "--tee", "served", "--json")
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    rows = {row["uuid"]: row for row in found["services"]}
    assert set(rows) == {uuid_of(HEAP), COUNTER}
    (heap,) = rows[uuid_of(HEAP)]["instances"]
    assert (rows[uuid_of(HEAP)]["arch"], heap["sessions"]) == ("aarch64", 2)
    assert heap["heap"] == {
        "allocated": 100,
        "max_allocated": 100,
        "size": 4096,
        "num_alloc_fail": 1,
        "biggest_alloc_fail": 5000,
        "biggest_alloc_fail_used": 50,
    }
    (counter,) = rows[COUNTER]["instances"]
    assert (rows[COUNTER]["name"], rows[COUNTER]["arch"]) == ("counter", "")
    assert (counter["sessions"], counter["heap"]) == (1, None)
    for memory in (heap["memory"], counter["memory"]):
        assert memory["resident"] > 1 << 20
        if os.geteuid() == 0:
            assert 1 << 16 < memory["private"] <= memory["proportional"] <= memory["resident"]
        else:
            assert memory["private"] is memory["proportional"] is None
    assert len({heap["pid"], counter["pid"], served.process.pid}) == 3
    assert found["pseudo_tas"] == [{"uuid": TESTS, "name": "invoke_tests.pta", "sessions": 1}]


def test_as_a_table(served: Served) -> None:
    uuids = [uuid_of(HEAP), TESTS]
    finished = run(["--tee", "served"], uuids, *LS, "--tee", "served")
    assert finished.returncode == 0, finished.stderr
    head, heap, tests = (line.split() for line in finished.stdout.splitlines())
    assert head[:5] == ["UUID", "NAME", "ARCH", "SESSIONS", "PID"]
    assert head[-7:] == ["HEAP", "HEAP", "MAX", "HEAP", "SIZE", "FAILED"][-7:] or "HEAP" in head
    assert (heap[0], heap[2:4]) == (uuid_of(HEAP), ["aarch64", "1"])
    assert heap[-4:] == ["100", "100", "4096", "1"]
    assert tests == [TESTS, "invoke_tests.pta", "1"]


def test_from_inside(tmp_path: Path) -> None:
    """A program under gentee run asks its device, by the statistics that OP-TEE has."""
    arm_tas.install(tmp_path, HEAP, "heap", "arm")
    options = ["--ephemeral", "--key", key_file(tmp_path), "--ta-dir", str(tmp_path)]
    finished = run(options, [uuid_of(HEAP), COUNTER], *LS, "--json")
    assert finished.returncode == 0, finished.stderr
    rows = {row["uuid"]: row for row in json.loads(finished.stdout)["services"]}
    assert rows[COUNTER]["name"] == "counter"
    assert rows[COUNTER]["instances"] == [{"sessions": 1, "heap": None}]
    (heap,) = rows[uuid_of(HEAP)]["instances"]
    assert heap["heap"]["size"] == 4096
    finished = run(options, [TESTS], *LS)
    assert (finished.returncode, finished.stdout) == (0, "no instance is alive\n")


def test_which_tee() -> None:
    finished = gentee("ls", "--stats")
    assert finished.returncode == 2
    assert "add --tee NAME" in finished.stderr
    finished = gentee("ls", "--stats", "--tee", "nobody")
    assert finished.returncode == 1
    assert "there is none" in finished.stderr
    finished = gentee("ls", "--stats", "--ta-dir", str(ROOT))
    assert finished.returncode == 2
    for words in (["--strict"], ["--key", "x.pem"]):
        assert gentee("ls", "--stats", *words).returncode == 2


def test_a_tee_that_does_not_run(served: Served) -> None:
    served.stop()
    finished = gentee("ls", "--stats", "--tee", "served")
    assert finished.returncode == 1
    assert "does not run" in finished.stderr
