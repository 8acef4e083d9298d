# SPDX-License-Identifier: BSD-2-Clause
"""What a run is compared with: numbers of another one, from a table or from its JSON."""

import json
from typing import NamedTuple

from gentee.conformance.xtest_output import OK, RESULTS
from gentee.errors import UserError

_MOST = 64 << 20  # bytes of a file that is read
_FORMS = (
    "a table with tabs and a line of heads (case, subtests, skips, seconds), or the JSON of a run"
)

# Heads of columns, by what they begin with.
_HEADS = {"lines_saying_skip": "skips", "skip": "skips", "second": "seconds", "sub": "subtests"}


class Expected(NamedTuple):
    """A case in the baseline; None where it does not say."""

    name: str
    result: str = OK
    subtests: int | None = None
    skips: int | None = None
    seconds: float | None = None


class Baseline(NamedTuple):
    """All of them by name, and the subtests of the whole run where only that is known."""

    cases: dict[str, Expected]
    subtests: int | None = None


def read_baseline(path: str) -> Baseline:
    """The baseline in a file; UserError if it is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if len(data) > _MOST:
        raise UserError(f"{path} is too large for a baseline", f"it is {_FORMS}")
    try:
        text = data.decode("utf-8")
        baseline = _of_json(text) if text.lstrip()[:1] in ("{", "[") else _of_table(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no baseline: {error}", f"it is {_FORMS}") from error
    if not baseline.cases:
        raise UserError(f"{path} has no cases", f"a baseline is {_FORMS}")
    return baseline


def _of_table(text: str) -> Baseline:
    heads: list[str] = []
    cases: dict[str, Expected] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if not heads:
            heads = [_head(cell) for cell in cells]
            if "case" not in heads:
                raise ValueError(f"line {number} has no head 'case'")
            continue
        if len(cells) != len(heads):
            raise ValueError(f"line {number} has {len(cells)} columns, the heads are {len(heads)}")
        row = dict(zip(heads, cells, strict=True))
        try:
            found = Expected(
                row["case"],
                _result(row.get("result") or OK),
                _number(row.get("subtests")),
                _number(row.get("skips")),
                _seconds(row.get("seconds")),
            )
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if found.name in cases:
            raise ValueError(f"line {number}: a second {found.name}")
        cases[found.name] = found
    return Baseline(cases)


def _head(cell: str) -> str:
    name = cell.lower()
    return next((ours for begin, ours in _HEADS.items() if name.startswith(begin)), name)


def _result(text: object) -> str:
    if not isinstance(text, str) or text.lower() not in RESULTS:
        raise ValueError(f"{text!r} is no result")
    return text.lower()


def _number(cell: str | None) -> int | None:
    if cell is None or cell in ("", "-"):
        return None
    if not (cell.isascii() and cell.isdigit() and len(cell) < 10):
        raise ValueError(f"{cell!r} is no number")
    return int(cell)


def _seconds(cell: str | None) -> float | None:
    if cell is None or cell in ("", "-"):
        return None
    return _finite(float(cell))


def _finite(value: float) -> float:
    if not 0 <= value < 1e9:
        raise ValueError(f"{value} are no seconds")
    return value


def _of_json(text: str) -> Baseline:
    top = json.loads(text)
    rows = top.get("cases") if isinstance(top, dict) else None
    if not isinstance(rows, list):
        raise ValueError("it has no list 'cases'")
    cases: dict[str, Expected] = {}
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("case"), str):
            raise ValueError("a case is without its name")
        if row.get("result") == "missing":
            continue
        found = Expected(
            row["case"],
            _result(row.get("result", OK)),
            _count(row, "subtests"),
            _count(row, "skips"),
            None if row.get("seconds") is None else _finite(_float(row["seconds"])),
        )
        cases[found.name] = found
    summary = top.get("summary")
    return Baseline(cases, _count(summary, "subtests") if isinstance(summary, dict) else None)


def _count(row: dict[str, object], key: str) -> int | None:
    value = row.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{key} cannot be {value!r}")
    return value


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} are no seconds")
    return float(value)
