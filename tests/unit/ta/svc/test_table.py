# SPDX-License-Identifier: BSD-2-Clause
"""The table, and the page that shows it."""

import re
from pathlib import Path

from gentee.abi import optee_ta as abi
from gentee.abi.gp import TEE_ERROR_NOT_SUPPORTED
from gentee.ta.svc.table import (
    DEPRECATED,
    HANDLERS,
    MAX_TOLD,
    SUPPORTED,
    TABLE,
    not_supported,
)
from tests.svc_ta import TestedTa, everything

DOCS = Path(__file__).parents[4] / "docs" / "system-calls.md"

# What OP-TEE's numbers are called where its own name for a call is another one.
RENAMED = {
    "storage_alloc_enum": "storage_enum_alloc",
    "storage_free_enum": "storage_enum_free",
    "storage_reset_enum": "storage_enum_reset",
    "storage_start_enum": "storage_enum_start",
    "storage_next_enum": "storage_enum_next",
}


def test_a_row_for_each_number() -> None:
    assert [row.number for row in TABLE] == list(range(abi.TEE_SCN_MAX + 1))
    assert tuple(row.handler for row in TABLE) == HANDLERS
    assert len({row.name for row in TABLE}) == len(TABLE)
    for row in TABLE:
        name = "TEE_SCN_" + RENAMED.get(row.name, row.name).upper()
        if row.level != DEPRECATED:
            assert getattr(abi, name) == row.number
        count = len(row.parameters.split(", ")) if row.parameters else 0
        assert count <= abi.TEE_SVC_MAX_ARGS


def test_levels() -> None:
    assert {row.number for row in TABLE if row.level == DEPRECATED} == set(range(55, 70))
    assert all(row.level in (SUPPORTED, DEPRECATED) for row in TABLE)


def test_what_is_not_supported(ta: TestedTa) -> None:
    before = everything(ta)
    for row in TABLE:
        if row.level == SUPPORTED:
            continue
        ta.lines.clear()
        for _ in range(3):
            assert ta.call(row.number, *range(8)) == TEE_ERROR_NOT_SUPPORTED
        # One line for each number and instance.
        assert ta.lines == [(2, f"system call {row.number} ({row.name}) is not supported")]
    assert everything(ta) == before


def test_numbers_that_are_no_system_call(ta: TestedTa) -> None:
    before = everything(ta)
    for number in (71, 1 << 31, (1 << 64) - 1):
        ta.lines.clear()
        for _ in range(3):
            assert not_supported(ta, number) == TEE_ERROR_NOT_SUPPORTED
        assert ta.lines == [(2, f"system call {number} is not supported")]
    ta.lines.clear()
    for number in range(100, 300):
        assert not_supported(ta, number) == TEE_ERROR_NOT_SUPPORTED
    assert len(ta.lines) == MAX_TOLD - 3
    assert everything(ta) == before


def test_the_page_is_the_table() -> None:
    lines = DOCS.read_text().splitlines()
    rows = [line for line in lines if re.match(r"\| \d", line)]
    expected = [
        f"| {row.number} | {row.name} | {f'`{row.parameters}`' if row.parameters else ''} "
        f"| {row.level} |"
        for row in TABLE
    ]
    assert rows == expected, "it should have these rows:\n" + "\n".join(expected)
