# SPDX-License-Identifier: BSD-2-Clause
"""``gentee abi``: tables, as text, JSON and Markdown; docs/abi.md is the last."""

import json
from pathlib import Path

import pytest

from gentee.cli import abi
from gentee.crypto import algorithms
from gentee.errors import UserError
from gentee.ta.svc.table import TABLE

PAGE = Path(__file__).parents[3] / "docs" / "abi.md"


@pytest.mark.parametrize("name", abi.TABLES)
def test_each_has_rows_as_wide_as_its_heads(name: str) -> None:
    heads, rows = abi.table(name)
    assert rows
    assert {len(row) for row in rows} == {len(heads)}


def test_algorithms_are_those_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert abi.main(["algorithms", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [int(row["id"], 16) for row in rows] == [row.id for row in algorithms.table()]
    assert all(row["name"].startswith("TEE_ALG_") for row in rows)


def test_system_calls_are_those_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert abi.main(["system-calls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(TABLE) + 1
    assert lines[1].split()[:2] == ["0", "return"]


@pytest.mark.parametrize("name", ["algorithms", "types"])
def test_the_page_is_the_table(name: str) -> None:
    assert abi.markdown(*abi.table(name)) in PAGE.read_text(encoding="utf-8")


def test_no_such_table() -> None:
    with pytest.raises(UserError, match="no table 'algoritms'") as caught:
        abi.main(["algoritms"])
    assert caught.value.hint == "did you mean algorithms?"
    with pytest.raises(UserError, match="which table"):
        abi.main([])
