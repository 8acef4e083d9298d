# SPDX-License-Identifier: BSD-2-Clause
"""What the README promises: the demo, and its examples as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DEMO = ROOT / "examples" / "demo.py"
PATIENCE = 120  # seconds; with a compiler in it

needs_compiler = pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc")), reason="there is no C compiler"
)


def blocks(language: str) -> list[str]:
    """The fenced blocks of the README in a language."""
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run_demo(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DEMO],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, **variables},
    )


@needs_compiler
@pytest.mark.slow
def test_demo() -> None:
    finished = run_demo()
    assert finished.returncode == 0, finished.stdout
    shown = finished.stdout.splitlines()
    for line in (
        'echo: sent "Hello from the normal world", got "Hello from the normal world" back',
        'echo: in capitals, in place: "HELLO FROM THE NORMAL WORLD"',
        "counter: the first session has 2 calls of 2 in all",
        "counter: the second session has 1 call of 3 in all",
        "[echo] INFO: 27 bytes echoed",
        "[counter] INFO: session 2 closed after 1 calls",
        "stored demo",
        "forgot demo",
        "What happened",
        "Try next",
    ):
        assert line in shown
    assert "\x1b" not in finished.stdout
    # It fits on a screen.
    assert len(shown) < 35
    assert max(map(len, shown)) <= 100
    # The README shows its first lines.
    (promised,) = blocks("text")
    for line in promised.splitlines():
        assert line in shown


def test_demo_without_a_compiler(tmp_path: Path) -> None:
    finished = run_demo(PATH=str(tmp_path))
    assert finished.returncode == 1
    assert finished.stdout.startswith("demo: there is no C compiler\n")


@pytest.mark.slow
def test_examples_of_the_readme(tmp_path: Path) -> None:
    service, client = blocks("python")
    assert len(service.splitlines()) <= 20
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "adder.py").write_text(service)
    (tmp_path / "client.py").write_text(client)
    paths = [os.environ.get("PYTHONPATH", ""), str(ROOT)]
    finished = subprocess.run(
        [
            *[sys.executable, "-m", "gentee", "run", "--ta-dir", "services", "--"],
            *[sys.executable, "client.py"],
        ],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
    )
    assert (finished.returncode, finished.stdout) == (0, "42\n")
    assert finished.stderr == "".join(f"[adder] INFO: {n} so far\n" for n in (1, 3, 42))
