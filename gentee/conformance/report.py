# SPDX-License-Identifier: BSD-2-Clause
"""A comparison as text, as JSON, and as JUnit XML for the CI systems that show it.

The JSON is a baseline for later runs. In the XML a case that is worse is a failure; one that fails
in the baseline too, or makes no checks and says that it skips, is skipped.
"""

import re
from collections.abc import Callable
from xml.sax.saxutils import escape, quoteattr

from gentee.conformance.comparison import Comparison, Row
from gentee.conformance.xtest_output import OK, suite_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Paint = Callable[[str], str]

_HEADS = ("CASE", "RESULT", "SUBTESTS", "OF", "SKIPS", "OF", "SECONDS", "OF", "WORSE")
_RIGHT = range(2, 8)  # columns of numbers

# What XML 1.0 allows in a document.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def cells(row: Row, *, with_baseline: bool) -> list[str]:
    """A row of the table; the baseline's numbers stand right of the run's."""
    ours = (row.case.subtests, row.case.skips, row.case.seconds) if row.case else (None,) * 3
    theirs = row.expected[2:] if row.expected else (None,) * 3
    pairs = [(_cell(own), _cell(other)) for own, other in zip(ours, theirs, strict=True)]
    numbers = [cell for pair in pairs for cell in (pair if with_baseline else pair[:1])]
    return [row.name, row.result, *numbers, "; ".join(row.worse)]


def table(comparison: Comparison, *, with_baseline: bool, bold: Paint, red: Paint) -> str:
    """The table for people."""
    heads = [head for at, head in enumerate(_HEADS) if with_baseline or at not in (3, 5, 7)]
    rows = [cells(row, with_baseline=with_baseline) for row in comparison.rows]
    widths = [max(len(line[at]) for line in [heads, *rows]) for at in range(len(heads))]
    last = len(heads) - 1
    lines = []
    for number, line in enumerate([heads, *rows]):
        text = "  ".join(
            f"{cell:>{width}}" if 2 <= at < last else f"{cell:<{width}}"
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        if not number:
            text = bold(text)
        elif comparison.rows[number - 1].worse:
            text = red(text)
        lines.append(text)
    return "\n".join(lines) + "\n"


def summary(comparison: Comparison, *, with_baseline: bool, verdict: Paint) -> str:
    """A few lines with the numbers, and at the end whether anything is worse."""
    numbers = comparison.summary
    lines = [f"{_of(numbers.cases, 'case')}, {numbers.ok} OK, {numbers.failed} failed"]
    if numbers.known:
        lines[0] += f" ({numbers.known} of them in the baseline too)"
    if numbers.subtests is not None:
        text = _of(numbers.subtests, "subtest")
        if numbers.expected_subtests is not None:
            text += f", {numbers.expected_subtests} in the baseline"
        lines.append(text)
    if with_baseline:
        lines.append(
            f"{_of(numbers.fewer, 'case')} with fewer subtests than the baseline, "
            f"{numbers.skipping} that skip more"
        )
    lines.append(f"{numbers.seconds:.1f} s")
    lines += [f"problem: {problem}" for problem in comparison.problems]
    what = "worse than the baseline" if with_baseline else "not as it should be"
    lines.append(verdict(f"some of it is {what}" if comparison.worse else f"nothing is {what}"))
    return "\n".join(lines) + "\n"


def as_json(comparison: Comparison, about: "dict[str, Any]") -> "dict[str, Any]":
    """For programs, and for ``--baseline``. :param about: what was run, for the first keys."""
    return {
        **about,
        "summary": {**comparison.summary._asdict(), "worse": comparison.worse},
        "problems": comparison.problems,
        "cases": [_json_row(row) for row in comparison.rows],
    }


def _json_row(row: Row) -> "dict[str, Any]":
    case, expected = row.case, row.expected
    found: dict[str, Any] = {"case": row.name, "result": row.result}
    if case is not None:
        found |= {
            "title": case.title,
            "subtests": case.subtests,
            "failed_subtests": case.failed_subtests,
            "skips": case.skips,
            "seconds": round(case.seconds, 3),
        }
        if case.result != OK:
            found |= {
                "failed_parts": case.failed_parts,
                "first_error": case.first_error,
                "lines": list(case.lines),
            }
    found["worse"] = row.worse
    if expected is not None:
        found["baseline"] = {
            "result": expected.result,
            "subtests": expected.subtests,
            "skips": expected.skips,
            "seconds": expected.seconds,
        }
    return found


def as_junit(comparison: Comparison) -> str:
    """JUnit XML: a suite of xtest is a ``testsuite``, a case a ``testcase``."""
    suites: dict[str, list[Row]] = {}
    for row in comparison.rows:
        suites.setdefault(suite_of(row.name), []).append(row)
    parts = ['<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="xtest">\n']
    for name, rows in suites.items():
        parts.append(_junit_suite(name, [_junit_case(row) for row in rows], _time_of(rows)))
    if comparison.problems:
        text = "\n".join(comparison.problems)
        failure = f"<failure message={_attribute(comparison.problems[0])}>{_text(text)}</failure>"
        case = f'<testcase classname="xtest" name="run" time="0">{failure}</testcase>'
        parts.append(_junit_suite("run", [case], 0.0))
    return "".join([*parts, "</testsuites>\n"])


def _junit_suite(name: str, cases: list[str], seconds: float) -> str:
    failures = sum("<failure " in case for case in cases)
    skipped = sum("<skipped " in case for case in cases)
    head = (
        f'<testsuite name={_attribute(name)} tests="{len(cases)}" failures="{failures}" '
        f'errors="0" skipped="{skipped}" time="{seconds:.3f}">\n'
    )
    return "".join([head, *(f"  {case}\n" for case in cases), "</testsuite>\n"])


def _junit_case(row: Row) -> str:
    case = row.case
    seconds = case.seconds if case is not None else 0.0
    inside = ""
    if row.worse:
        detail = _failure_text(row)
        inside = f"<failure message={_attribute('; '.join(row.worse))}>{_text(detail)}</failure>"
    elif row.result != OK:
        inside = f"<skipped message={_attribute(f'{row.result}, as in the baseline')}/>"
    elif case is not None and case.skips and case.subtests == 0:
        inside = f"<skipped message={_attribute(case.skip_lines[0].strip())}/>"
    if case is not None and case.skip_lines and "<skipped " not in inside:
        text = "\n".join(case.skip_lines)
        inside += f"<system-out>{_text(text)}</system-out>"
    return (
        f"<testcase classname={_attribute(suite_of(row.name))} name={_attribute(row.name)} "
        f'time="{seconds:.3f}">{inside}</testcase>'
    )


def _failure_text(row: Row) -> str:
    case = row.case
    if case is None:
        return ""
    lines = [f"first error at {case.first_error}"] if case.first_error else []
    if case.failed_parts:
        lines.append(f"failed: {', '.join(case.failed_parts)}")
    if case.result != OK:
        lines += case.lines
    return "\n".join(lines)


def _time_of(rows: list[Row]) -> float:
    return sum(row.case.seconds for row in rows if row.case is not None)


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text))


def _attribute(text: str) -> str:
    return quoteattr(_NOT_XML.sub("\ufffd", text))


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.1f}"


def _of(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
