# SPDX-License-Identifier: BSD-2-Clause
"""``gentee load``, ``unload``, ``ls`` and ``task`` on a TEE that ``gentee serve`` keeps."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.signing import UUID, key, key_file, signed, source

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds
NAME = "served"

Finished = subprocess.CompletedProcess[str]


def environment() -> dict[str, str]:
    paths = [os.environ.get("PYTHONPATH", ""), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def gentee(*arguments: str | Path) -> Finished:
    return subprocess.run(
        [sys.executable, "-m", "gentee", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
    )


class Served:
    """A TEE that runs, by the name NAME."""

    def __init__(self, *options: str) -> None:
        reader, writer = os.pipe()
        command = [sys.executable, "-m", "gentee", "serve", *options, "--quiet"]
        self.process = subprocess.Popen(
            [*command, "--ready-fd", str(writer), NAME],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            pass_fds=[writer],
        )
        os.close(writer)
        with open(reader) as ready:
            if ready.read() != "ready\n":
                self.stop()
                pytest.fail(f"it did not start: {self.messages}")

    def stop(self) -> None:
        self.process.terminate()
        _out, self.messages = self.process.communicate(timeout=PATIENCE)


@pytest.fixture
def public(tmp_path: Path) -> str:
    return key_file(tmp_path)


@pytest.fixture
def served(public: str) -> Iterator[Served]:
    served = Served("--key", public)
    yield served
    served.stop()


def write_image(folder: Path, version: int) -> Path:
    path = folder / f"signed-{version}.ta"
    path.write_bytes(signed(source(version=version)))
    return path


def rows() -> dict[str, dict[str, object]]:
    finished = gentee("ls", "--tee", NAME, "--json")
    assert finished.returncode == 0, finished.stderr
    return {row["name"]: row for row in json.loads(finished.stdout)["services"]}


def test_task(served: Served) -> None:
    """Each call is a program of its own, and they meet in one TEE."""
    for number in (1, 2):
        finished = gentee("task", "--tee", NAME, "counter", "0", "value-out")
        assert (finished.returncode, finished.stderr) == (0, "")
        assert finished.stdout == f"0: value 1 (0x1), {number} (0x{number:x})\n"
    assert rows()["counter"]["state"] == "active"
    finished = gentee("task", "--tee", NAME, "--json", "echo", "9")
    assert finished.returncode == 1
    assert json.loads(finished.stdout)["result_name"] == "TEE_ERROR_BAD_PARAMETERS"


def test_load_and_unload(served: Served, tmp_path: Path) -> None:
    first, second = write_image(tmp_path, 1), write_image(tmp_path, 2)
    for path, end in ((first, "installed"), (second, "replaced version 1")):
        finished = gentee("load", "--tee", NAME, path)
        assert (finished.returncode, finished.stderr) == (0, "")
        assert finished.stdout.endswith(f": {end}\n")
    finished = gentee("task", "--tee", NAME, "signed", "0", "value-out")
    assert finished.stdout == "0: value 2 (0x2), 0 (0x0)\n"
    row = rows()["signed"]
    assert (row["uuid"], row["version"], row["installed"]) == (UUID, 2, True)

    finished = gentee("load", "--tee", NAME, first)
    assert finished.returncode == 1
    assert "version 1 is lower than 2" in finished.stderr
    stranger = tmp_path / "stranger.ta"
    stranger.write_bytes(signed(source(version=3), private=key(2048, 1)))
    finished = gentee("load", "--tee", NAME, stranger)
    assert finished.returncode == 1
    assert "accepted key" in finished.stderr

    finished = gentee("unload", "--tee", NAME, "signed")
    assert finished.stdout == f"{UUID} signed, version 2: unloaded\n"
    assert "signed" not in rows()


def test_it_has_its_folders(served: Served, tmp_path: Path) -> None:
    for option in (["--ta-dir", tmp_path], ["--allow-unsigned"]):
        finished = gentee("ls", "--tee", NAME, *option)
        assert (finished.returncode, finished.stdout) == (2, "")
        assert f"leave out {option[0]}" in finished.stderr


def test_installed_before_it_started(public: str, tmp_path: Path) -> None:
    """What was loaded into the state of a TEE is there, and can be removed, when it runs."""
    assert gentee("load", "--tee", NAME, write_image(tmp_path, 1), "--key", public).returncode == 0
    served = Served("--key", public)
    try:
        row = rows()["signed"]
        assert (row["version"], row["installed"], bool(row["signer"])) == (1, True, True)
        assert gentee("unload", "--tee", NAME, "signed").returncode == 0
    finally:
        served.stop()
    assert "signed" not in rows()


def test_a_tee_that_does_not_run() -> None:
    finished = gentee("task", "--tee", NAME, "echo", "2")
    assert finished.returncode == 1
    assert finished.stderr.startswith("gentee: ")
    assert "Traceback" not in finished.stderr


def test_not_installed(served: Served) -> None:
    """A service of a folder cannot be removed."""
    for word in ("echo", "nobody"):
        finished = gentee("unload", "--tee", NAME, word)
        assert (finished.returncode, finished.stdout) == (1, "")
        assert "not installed" in finished.stderr
    assert "echo" in rows()
