# SPDX-License-Identifier: BSD-2-Clause
"""The tables of docs/ are those of the code: ``make compatibility`` writes them."""

from pathlib import Path
from typing import Any

import pytest

from docs.tables import PAGES, renewed, xtest_table


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_is_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<!-- gentee abi" in text
    assert renewed(text) == text


def test_what_is_between_the_marks_is_replaced() -> None:
    text = (
        "a\n<!-- gentee abi ioctls -->\nold\n<!-- end -->\nb\n<!-- xtest -->\nkept\n<!-- end -->\n"
    )
    new = renewed(text)
    assert "old" not in new
    assert "| TEE_IOC_VERSION |" in new
    assert new.endswith("<!-- end -->\nb\n<!-- xtest -->\nkept\n<!-- end -->\n")
    assert "kept" not in renewed(text, lambda: "| new |\n")


def test_table_of_two_runs() -> None:
    def row(name: str, result: str = "ok", **more: Any) -> dict[str, Any]:
        found = {"case": name, "result": result, "subtests": 5, "failed_subtests": 0}
        return {**found, "skips": 0, "seconds": 1.26, **more}

    first = [
        row("a_1", baseline={"subtests": 5}),
        row("a_2", "failed", failed_subtests=2, skips=1),
        row("a_3", skips=1),
    ]
    runs = [{"cases": first}, {"cases": [row("a_1"), row("a_2"), row("a_3", skips=1)]}]
    assert xtest_table(runs).splitlines()[2:] == [
        "| a_1 | 5 | 5 | 1.3 | 5 | 1.3 |  |",
        "| a_2 |  | **failed**, 2 of 5 | 1.3 | 5 | 1.3 | 1, 0 |",
        "| a_3 |  | 5 | 1.3 | 5 | 1.3 | 1 |",
    ]
    assert "| not run |  |" in xtest_table([runs[0], {"cases": []}])
