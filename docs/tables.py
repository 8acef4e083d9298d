# SPDX-License-Identifier: BSD-2-Clause
"""Writes the tables of abi.md and compatibility.md anew: ``make compatibility``.

Between ``<!-- gentee abi NAME -->`` and ``<!-- end -->`` stands that table of ``gentee abi``. With
the JSON of runs of ``gentee conformance xtest`` on TAs of both architectures, what stands behind
``<!-- xtest -->`` is the table of those::

    python docs/tables.py arm64.json arm32.json
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gentee.cli import abi

PAGES = [Path(__file__).with_name(name) for name in ("abi.md", "compatibility.md")]

_BLOCK = re.compile(r"(<!-- (gentee abi ([a-z-]+)|xtest) -->\n).*?(<!-- end -->)", re.DOTALL)


def renewed(text: str, xtest: Callable[[], str] | None = None) -> str:
    """A page with its tables as they are now; that of xtest only if there is another one."""

    def block(match: re.Match[str]) -> str:
        if match[3]:
            return f"{match[1]}{abi.markdown(*abi.table(match[3]))}{match[4]}"
        return match[0] if xtest is None else f"{match[1]}{xtest()}{match[4]}"

    return _BLOCK.sub(block, text)


def xtest_table(runs: Sequence[dict[str, Any]]) -> str:
    """Two runs, of 64-bit and 32-bit TAs, case by case, beside the baseline of the first."""
    by_name = [{row["case"]: row for row in run["cases"]} for run in runs]
    heads = ["case", "reference", "64-bit", "s", "32-bit", "s", "skips"]
    rows = [
        [
            name,
            str(row.get("baseline", {}).get("subtests", "")),
            *(cell for rows in by_name for cell in _cells(rows.get(name))),
            _skips(rows.get(name) for rows in by_name),
        ]
        for name, row in by_name[0].items()
    ]
    return abi.markdown(heads, rows)


def _cells(row: dict[str, Any] | None) -> tuple[str, str]:
    if row is None or row["result"] == "missing":
        return "not run", ""
    subtests = str(row["subtests"])
    if row["result"] != "ok":
        subtests = f"**{row['result']}**, {row['failed_subtests']} of {subtests}"
    return subtests, f"{row['seconds']:.1f}"


def _skips(rows: Any) -> str:
    counts = [str(row["skips"]) if row and row.get("skips") else "" for row in rows]
    return counts[0] if len(set(counts)) == 1 else ", ".join(count or "0" for count in counts)


def main(arguments: Sequence[str]) -> None:
    runs = [json.loads(Path(path).read_text(encoding="utf-8")) for path in arguments]
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(renewed(text, (lambda: xtest_table(runs)) if runs else None), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
