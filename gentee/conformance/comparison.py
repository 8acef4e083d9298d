# SPDX-License-Identifier: BSD-2-Clause
"""A run beside its baseline: what is worse, and how much there is of everything."""

from collections.abc import Sequence
from typing import NamedTuple

from gentee.conformance.baseline import Baseline, Expected
from gentee.conformance.xtest_output import CRASHED, FAILED, HUNG, OK, UNFINISHED, Case, suite_of
from gentee.conformance.xtest_run import Outcome, in_order

MISSING = "missing"  # in the baseline, and not run

_SAID = {
    FAILED: "it fails",
    CRASHED: "xtest ended in the middle of it",
    HUNG: "it took too long",
    UNFINISHED: "its result never came",
    MISSING: "it was not run",
}


class Row(NamedTuple):
    """One case: as it ran, or None; as the baseline has it, or None; and what is worse."""

    name: str
    case: Case | None
    expected: Expected | None
    worse: list[str]

    @property
    def result(self) -> str:
        return MISSING if self.case is None else self.case.result


class Summary(NamedTuple):
    """Numbers of a run.

    :ivar failed: cases without the result OK, and those that the baseline has and the run has not;
        ``known`` of them are no better in the baseline.
    :ivar fewer: cases with fewer subtests than the baseline's; ``skipping`` those with more lines
        that say skip.
    :ivar subtests: of the whole run, None where xtest did not say; ``expected_subtests`` those of
        the same cases in the baseline, None where it does not say.
    """

    cases: int
    ok: int
    failed: int
    known: int
    fewer: int
    skipping: int
    subtests: int | None
    expected_subtests: int | None
    seconds: float


class Comparison(NamedTuple):
    """All of it. :ivar problems: what is wrong with the run as a whole, a line each."""

    rows: list[Row]
    summary: Summary
    problems: list[str]

    @property
    def worse(self) -> bool:
        return bool(self.problems) or any(row.worse for row in self.rows)


def compare(
    outcome: Outcome,
    baseline: Baseline | None,
    suites: Sequence[str],
    patterns: Sequence[str],
    seconds: float,
) -> Comparison:
    """Compare the cases of some suites; of the baseline those count that were asked for."""
    cases = {case.name: case for case in outcome.cases}
    expected = {
        name: row
        for name, row in (baseline.cases if baseline else {}).items()
        if suite_of(name) in suites and (not patterns or any(part in name for part in patterns))
    }
    names = in_order({*cases, *expected}, suites)
    rows = [_row(name, cases.get(name), expected.get(name)) for name in names]
    problems = list(outcome.problems)
    total = _expected_total(rows, expected, baseline, outcome)
    if total is not None and outcome.subtests is not None and outcome.subtests < total:
        known = all(row.case is None or row.case.subtests is not None for row in rows)
        if not known:  # otherwise the rows say it
            problems.append(
                f"{outcome.subtests} subtests, and {total} in the baseline; --each tells of which "
                "cases"
            )
    if not cases:
        problems.append("no case was run")
    summary = Summary(
        cases=len(rows),
        ok=sum(row.result == OK for row in rows),
        failed=sum(row.result != OK for row in rows),
        known=sum(
            row.result != OK and not _is_worse_result(row.case, row.expected) for row in rows
        ),
        fewer=sum(_fewer(row.case, row.expected) for row in rows),
        skipping=sum(_skips_more(row.case, row.expected) for row in rows),
        subtests=outcome.subtests,
        expected_subtests=total,
        seconds=seconds,
    )
    return Comparison(rows, summary, problems)


def _expected_total(
    rows: Sequence[Row],
    expected: dict[str, Expected],
    baseline: Baseline | None,
    outcome: Outcome,
) -> int | None:
    """The baseline's subtests of the cases that ran; None if it does not know those of each."""
    ran = [row.name for row in rows if row.case is not None]
    if any(name not in expected for name in ran):
        return None
    counts = [expected[name].subtests for name in ran]
    known = [count for count in counts if count is not None]
    if len(known) == len(counts):
        return sum(known) if known else None
    if baseline is not None and set(ran) == set(baseline.cases):
        return baseline.subtests
    return None


def _row(name: str, case: Case | None, expected: Expected | None) -> Row:
    worse = []
    if _is_worse_result(case, expected):
        worse.append(_SAID[MISSING if case is None else case.result])
    if _fewer(case, expected):
        assert case is not None
        assert expected is not None
        worse.append(f"{case.subtests} subtests instead of {expected.subtests}")
    if _skips_more(case, expected):
        assert case is not None
        assert expected is not None
        lines = "line says" if case.skips == 1 else "lines say"
        worse.append(f"{case.skips} {lines} skip instead of {expected.skips}")
    return Row(name, case, expected, worse)


def _is_worse_result(case: Case | None, expected: Expected | None) -> bool:
    if case is not None and case.result == OK:
        return False
    return expected is None or expected.result == OK


def _fewer(case: Case | None, expected: Expected | None) -> bool:
    if case is None or expected is None or case.subtests is None or expected.subtests is None:
        return False
    return case.subtests < expected.subtests


def _skips_more(case: Case | None, expected: Expected | None) -> bool:
    if case is None or expected is None or expected.skips is None:
        return False
    return case.skips > expected.skips
