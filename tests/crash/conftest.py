# SPDX-License-Identifier: BSD-2-Clause
"""Storage that is ended, or fails, at each system call that writes.

``make crash`` does all of it (GENTEE_CRASH=all); otherwise a sample is done, the same each time.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ALL = os.environ.get("GENTEE_CRASH") == "all"
STEPS = 300


def points(count: int, sample: int, seed: str) -> list[int]:
    """Those of ``count`` points that are looked at."""
    if ALL or count <= sample:
        return list(range(count))
    return sorted(random.Random(seed).sample(range(count), sample))


class Driver:
    """The process that runs the script, with fault.c preloaded."""

    def __init__(self, shim: Path, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        preload = [str(shim), os.environ.get("LD_PRELOAD", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "LD_PRELOAD": " ".join(preload).strip(), "PYTHONPATH": str(ROOT)},
        )

    def run(self, mode: str, at: int = -1, **other: object) -> "tuple[dict[str, Any], Path]":
        """How one run ended, and its folder."""
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir(mode=0o700)
        request = {"folder": str(folder), "steps": STEPS, "at": at, "mode": mode, **other}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer, folder

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="session")
def in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is one: what a disk does is none of its concern here."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path_factory.mktemp("crash")
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gentee-crash-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def driver(in_memory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    folder = tmp_path_factory.mktemp("fault")  # /dev/shm may hold no code
    compiler = shutil.which("gcc") or pytest.skip("there is no gcc")
    shim = folder / "fault.so"
    source = Path(__file__).with_name("fault.c")
    command = [compiler, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, str(source), "-o", str(shim), "-ldl"], check=True)
    runs = in_memory / "runs"
    runs.mkdir()
    driver = Driver(shim, runs)
    yield driver
    driver.close()
