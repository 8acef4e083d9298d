# SPDX-License-Identifier: BSD-2-Clause
"""SPECIFICATION.md names tests that exist, and numbers its promises without a gap."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "SPECIFICATION.md").read_text(encoding="utf-8")


def test_named_tests_exist() -> None:
    named = re.findall(r"`([a-z_/]+/test_\w+\.py)(?:::(test_\w+))?`", TEXT)
    assert len(named) > 30
    missing = []
    for file, test in named:
        path = ROOT / "tests" / file.removeprefix("tests/")
        if not path.is_file():
            missing.append(file)
        elif test and not re.search(rf"^\s*def {test}\(", path.read_text(encoding="utf-8"), re.M):
            missing.append(f"{file}::{test}")
    assert not missing


def test_promises_are_numbered() -> None:
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", TEXT, re.M)]
    assert numbers == list(range(1, len(numbers) + 1))
