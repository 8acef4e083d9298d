# SPDX-License-Identifier: BSD-2-Clause
"""log and panic."""

import pytest

from gentee.abi import optee_ta as abi
from gentee.errors import TaPanic
from gentee.ta.svc.control import MAX_LOG, flush_log
from tests.svc_ta import DATA, LENT, NOWHERE, PAGE, TestedTa


def log(ta: TestedTa, text: bytes, address: int = DATA) -> None:
    ta.write(address, text)
    assert ta.call(abi.TEE_SCN_LOG, address, len(text)) == 0


@pytest.mark.parametrize(
    ("text", "level", "line"),
    [
        (b"E/TA:  TA_CreateEntryPoint:12 no memory\n", 1, "TA_CreateEntryPoint:12 no memory"),
        (b"I/TA: hello\n", 2, "hello"),
        (b"D/TA:  f:1 a: b\n", 3, "f:1 a: b"),
        (b"F/OTHER:  f:1\n", 4, "f:1"),
        (b"M/TA: raw\n", 2, "raw"),
        (b"plain text\n", 2, "plain text"),
        (b"X/TA: no level\n", 2, "X/TA: no level"),
        (b"E/no colon\n", 2, "E/no colon"),
        (b"E/\n", 2, "E/"),
        (b"\n", 2, ""),
        (b"E/TA:\n", 1, ""),
        (b"carriage return\r\n", 2, "carriage return"),
        (b"\xc3\xa4 \xff \x1b[31m\n", 2, "ä \\xff \x1b[31m"),
        (b"before\n\0after\n", 2, "before"),
    ],
)
def test_levels_and_lines(ta: TestedTa, text: bytes, level: int, line: str) -> None:
    log(ta, text)
    assert ta.lines == [(level, line)]


def test_several_lines(ta: TestedTa) -> None:
    log(ta, b"E/TA: one\nD/TA: two\nthree")
    assert ta.lines == [(1, "one"), (3, "two")]
    log(ta, b", still three")
    assert len(ta.lines) == 2
    flush_log(ta)
    flush_log(ta)
    assert ta.lines[2:] == [(2, "three, still three")]


def test_a_line_by_pieces(ta: TestedTa) -> None:
    for piece in (b"E/", b"TA", b": in", b"\n"):
        log(ta, piece, LENT)
    assert ta.lines == [(1, "in")]


def test_a_line_without_an_end(ta: TestedTa) -> None:
    for _ in range(2 * MAX_LOG // PAGE + 1):
        log(ta, b"x" * PAGE)
        assert len(ta.log_rest) <= MAX_LOG
    assert ta.lines


def test_nothing_to_log(ta: TestedTa) -> None:
    assert ta.call(abi.TEE_SCN_LOG, NOWHERE, 0) == 0
    assert ta.call(abi.TEE_SCN_LOG, NOWHERE, 10) == 0
    assert ta.call(abi.TEE_SCN_LOG, DATA + 2 * PAGE - 1, 2) == 0
    assert ta.call(abi.TEE_SCN_LOG, DATA, (1 << 64) - 1) == 0  # of which there are too few
    assert ta.lines == []
    assert ta.log_rest == b""


def test_panic(ta: TestedTa) -> None:
    with pytest.raises(TaPanic) as panic:
        ta.call(abi.TEE_SCN_PANIC, 0x1FFFF0009, DATA + 64)
    assert panic.value.code == 0xFFFF0009
    assert ta.panic_registers == DATA + 64
