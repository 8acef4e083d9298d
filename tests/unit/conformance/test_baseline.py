# SPDX-License-Identifier: BSD-2-Clause
"""Baselines: tables, and JSON of earlier runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from gentee.conformance.baseline import Expected, read_baseline
from gentee.errors import UserError

HEADS = "case\tsubtests\tlines_saying_skip\tseconds_under_qemu\n"


def test_a_table(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text(f"# where it is from\n\n{HEADS}a_1\t12\t0\t0.5\na_2\t-\t3\t\n")
    assert read_baseline(str(path)).cases == {
        "a_1": Expected("a_1", "ok", 12, 0, 0.5),
        "a_2": Expected("a_2", "ok", None, 3, None),
    }


def test_a_table_with_results(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("case\tresult\na_1\tFAILED\n")
    assert read_baseline(str(path)).cases["a_1"] == Expected("a_1", "failed")


def test_a_run(tmp_path: Path) -> None:
    rows = [
        {"case": "a_1", "result": "ok", "subtests": 3, "skips": 1, "seconds": 0.25},
        {"case": "a_2", "result": "hung", "subtests": None, "skips": 0, "seconds": 9},
        {"case": "a_3", "result": "missing"},
    ]
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"cases": rows, "summary": {"subtests": 9}}))
    baseline = read_baseline(str(path))
    assert baseline.subtests == 9
    assert list(baseline.cases.values()) == [
        Expected("a_1", "ok", 3, 1, 0.25),
        Expected("a_2", "hung", None, 0, 9.0),
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "has no cases"),
        (b"# nothing\n", "has no cases"),
        (HEADS.encode(), "has no cases"),
        (b"name\tsubtests\na\t1\n", "line 1 has no head 'case'"),
        (b"case\tsubtests\na_1\n", "line 2 has 1 columns, the heads are 2"),
        (b"case\tsubtests\na_1\tx\n", "line 2: 'x' is no number"),
        (b"case\tsubtests\na_1\t-1\n", "line 2: '-1' is no number"),
        (b"case\tsubtests\na_1\t\xc2\xb2\n", "is no number"),
        (b"case\tseconds\na_1\tnan\n", "are no seconds"),
        (b"case\tseconds\na_1\tsoon\n", "line 2: could not convert"),
        (b"case\tresult\na_1\tgreat\n", "'great' is no result"),
        (b"case\na_1\na_1\n", "line 3: a second a_1"),
        (b"case\n\xff\n", "is no baseline"),
        (b"{", "is no baseline"),
        (b"[" * 100_000, "is no baseline"),
        (b"[]", "no list 'cases'"),
        (b'{"cases": {}}', "no list 'cases'"),
        (b'{"cases": []}', "has no cases"),
        (b'{"cases": [{"result": "ok"}]}', "without its name"),
        (b'{"cases": [{"case": "a", "subtests": "3"}]}', "subtests cannot be '3'"),
        (b'{"cases": [{"case": "a", "subtests": true}]}', "subtests cannot be True"),
        (b'{"cases": [{"case": "a", "skips": -1}]}', "skips cannot be -1"),
        (b'{"cases": [{"case": "a", "seconds": "1"}]}', "are no seconds"),
        (b'{"cases": [{"case": "a", "seconds": 1e400}]}', "are no seconds"),
        (b'{"cases": [{"case": "a", "result": 1}]}', "is no result"),
    ],
)
def test_what_is_none(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "baseline"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_baseline(str(path))
    assert why in str(caught.value)
    assert caught.value.hint


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_baseline(str(tmp_path / "none"))
    with pytest.raises(UserError, match="Is a directory"):
        read_baseline(str(tmp_path))


def test_any_json(tmp_path: Path) -> None:
    """Whatever stands in the places of values, it is a baseline or a UserError."""
    path = tmp_path / "run.json"
    values: list[Any] = [None, True, 0, -1, 1.5, 1 << 80, "", "ok", [], {}, [1], {"a": 1}]
    for key in ("case", "result", "subtests", "skips", "seconds"):
        for value in values:
            row = {"case": "a_1", "result": "ok", "subtests": 1, "skips": 0, "seconds": 1}
            path.write_text(json.dumps({"cases": [{**row, key: value}], "summary": value}))
            try:
                assert read_baseline(str(path)).cases
            except UserError:
                pass
