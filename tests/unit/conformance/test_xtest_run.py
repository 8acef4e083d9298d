# SPDX-License-Identifier: BSD-2-Clause
"""Names of cases in a program, words for xtest, lines in pieces, and how processes end."""

import random
from pathlib import Path

import pytest

from gentee.conformance.xtest_run import Ending, Xtest, _Lines, _without, in_order

WORDS = ["regression_1", "regression_10", "regression_10_more", "regression_2", "pkcs11_1"]


def names(tmp_path: Path, content: bytes, suite: str = "regression+pkcs11") -> list[str]:
    path = tmp_path / "program"
    path.write_bytes(content)
    return Xtest(str(path), suite, 0, [], 1.0).names()


def test_names_in_a_program(tmp_path: Path) -> None:
    content = (
        b"\x7fELF\0regression_1002_b\0regression_1002\0pkcs11_1000\0benchmark_1\0"
        b"regression_1000.c\0a regression_1003\0regression_\0regression_x\0regression_1002\0end"
    )
    assert names(tmp_path, content) == ["regression_1002", "regression_1002_b", "pkcs11_1000"]
    assert names(tmp_path, content, "pkcs11") == ["pkcs11_1000"]


def test_no_names(tmp_path: Path) -> None:
    assert names(tmp_path, b"") == []
    assert names(tmp_path, b"#!/bin/sh\nregression_1000\n") == []


def chosen(words: list[str], name: str) -> bool:
    """What xtest does with its words (optee_test, ADBG_RunSuite())."""
    match = not words or words[0] == "-x"
    rest = iter(words)
    for word in rest:
        if word == "-x":
            left_out = next(rest)
            match = match and left_out not in name
        elif word in name:
            match = True
    return match


@pytest.mark.parametrize("seed", range(20))
def test_what_is_done_is_left_out_and_nothing_else(seed: int) -> None:
    done = set(random.Random(seed).sample(WORDS, seed % len(WORDS)))
    words = _without(done, WORDS)
    assert {name for name in WORDS if not chosen(words, name)} == done


def test_order() -> None:
    suites = ["regression", "pkcs11"]
    assert in_order(reversed(WORDS), suites) == [
        "regression_1",
        "regression_2",
        "regression_10",
        "regression_10_more",
        "pkcs11_1",
    ]


def test_lines_in_pieces() -> None:
    text = "one\r\n\ntwo\nthr\u00e9e\nlast".encode()
    for size in range(1, len(text) + 1):
        lines = _Lines()
        found: list[str] = []
        for at in range(0, len(text), size):
            found += lines.split(text[at : at + size])
        assert [*found, *lines.split(b"")] == ["one", "", "two", "thr\u00e9e", "last"]


def test_a_line_without_end_is_cut() -> None:
    lines = _Lines()
    found = [line for _ in range(100) for line in lines.split(b"x" * 10_000)]
    found += lines.split(b"")
    assert sum(map(len, found)) == 1_000_000
    assert max(map(len, found)) == 4096
    assert lines.split(b"\xff\n") == ["\ufffd"]


@pytest.mark.parametrize(
    ("status", "stopped", "text"),
    [
        (0, False, "exit status 0"),
        (3, False, "exit status 3"),
        (255, False, "exit status 255"),
        (139, False, "ended by SIGSEGV"),
        (-9, False, "ended by SIGKILL"),
        (128 + 33, False, "ended by signal 33"),
        (143, True, "it took too long and was stopped"),
    ],
)
def test_endings(status: int, stopped: bool, text: str) -> None:
    assert str(Ending(status, stopped)) == text
