# SPDX-License-Identifier: BSD-2-Clause
"""Runs beside baselines: what is worse, and the three forms that say it."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from gentee.conformance.baseline import Baseline, Expected, read_baseline
from gentee.conformance.comparison import Comparison, compare
from gentee.conformance.report import as_json, as_junit, summary, table
from gentee.conformance.xtest_output import FAILED, HUNG, OK, Case
from gentee.conformance.xtest_run import Outcome

SUITES = ["a", "b"]
HEADS = ["CASE", "RESULT", "SUBTESTS", "OF", "SKIPS", "OF", "SECONDS", "OF", "WORSE"]


def case(
    name: str,
    result: str = OK,
    subtests: int | None = 5,
    skip_lines: tuple[str, ...] = (),
    lines: tuple[str, ...] = (),
) -> Case:
    made = Case(name, f"title of {name}")
    made.result = result
    made.subtests, made.failed_subtests = subtests, 0
    made.skip_lines = list(skip_lines)
    made.skips = len(skip_lines)
    made.lines.extend(lines)
    made.seconds = 1.5
    return made


def compared(
    cases: list[Case],
    expected: list[Expected] | None,
    subtests: int | None = None,
    patterns: tuple[str, ...] = (),
    problems: tuple[str, ...] = (),
) -> Comparison:
    baseline = None if expected is None else Baseline({row.name: row for row in expected})
    return compare(Outcome(cases, subtests, list(problems)), baseline, SUITES, patterns, 2.0)


def worse(comparison: Comparison) -> dict[str, list[str]]:
    return {row.name: row.worse for row in comparison.rows if row.worse}


def test_the_same() -> None:
    comparison = compared([case("a_1")], [Expected("a_1", OK, 5, 0, 3.0)], 5)
    assert not comparison.worse
    assert comparison.summary.expected_subtests == 5


@pytest.mark.parametrize(
    ("ran", "expected", "said"),
    [
        (case("a_1", FAILED), Expected("a_1"), "it fails"),
        (case("a_1", HUNG), Expected("a_1"), "it took too long"),
        (case("a_1", FAILED), Expected("a_1", FAILED), None),
        (case("a_1"), Expected("a_1", FAILED), None),
        (case("a_1", subtests=4), Expected("a_1", OK, 5), "4 subtests instead of 5"),
        (case("a_1", subtests=6), Expected("a_1", OK, 5), None),
        (case("a_1", subtests=None), Expected("a_1", OK, 5), None),
        (case("a_1"), Expected("a_1", OK, None), None),
        (case("a_1", skip_lines=("skip",)), Expected("a_1", skips=0), "1 line says skip"),
        (case("a_1", skip_lines=("s", "s")), Expected("a_1", skips=1), "2 lines say skip"),
        (case("a_1", skip_lines=("skip",)), Expected("a_1", skips=1), None),
        (case("a_1"), Expected("a_1", skips=1), None),
        (case("a_1", skip_lines=("skip",)), Expected("a_1"), None),
    ],
)
def test_a_case(ran: Case, expected: Expected, said: str | None) -> None:
    comparison = compared([ran], [expected])
    assert comparison.worse == (said is not None)
    if said:
        assert said in worse(comparison)["a_1"][0]


def test_without_a_baseline_all_have_to_be_ok() -> None:
    comparison = compared([case("a_1"), case("b_1", FAILED), case("b_2", skip_lines=("s",))], None)
    assert worse(comparison) == {"b_1": ["it fails"]}


def test_a_case_that_was_not_run() -> None:
    """Only where it was asked for: of these suites, with this in its name."""
    expected = [Expected("a_1"), Expected("a_22"), Expected("c_1"), Expected("b_2", FAILED)]
    comparison = compared([case("a_1")], expected)
    assert worse(comparison) == {"a_22": ["it was not run"]}
    assert [row.name for row in comparison.rows] == ["a_1", "a_22", "b_2"]
    assert not compared([case("a_1")], expected, patterns=("_1",)).worse


def test_a_new_case_is_not_worse() -> None:
    assert not compared([case("a_1"), case("a_2")], [Expected("a_1")]).worse
    assert compared([case("a_1"), case("a_2", FAILED)], [Expected("a_1")]).worse


def test_subtests_of_all_together() -> None:
    cases = [case("a_1", subtests=None), case("a_2", subtests=None)]
    expected = [Expected("a_1", OK, 5), Expected("a_2", OK, 6)]
    assert not compared(cases, expected, 11).worse
    short = compared(cases, expected, 10)
    assert short.problems == ["10 subtests, and 11 in the baseline; --each tells of which cases"]
    # Where one case has none to compare with, the sum says nothing.
    assert not compared(cases, expected[:1], 1).worse


def test_nothing_was_run() -> None:
    assert compared([], None).problems == ["no case was run"]


MIXED = compared(
    [
        case("a_1"),
        case("a_2", FAILED, 3, lines=("\x1b[31mred\x00 <&>", "last \ud800")),
        case("a_3", skip_lines=("skip ]]> this",), subtests=0),
        case("b_1", FAILED),
    ],
    [
        Expected("a_1", OK, 5, 0, 3.25),
        Expected("a_2", OK, 5),
        Expected("a_3", OK, 0, 1),
        Expected("b_1", FAILED),
        Expected("b_2"),
    ],
    problems=("xtest <ended>",),
)


def test_table() -> None:
    text = table(MIXED, with_baseline=True, bold=str, red=lambda line: f"!{line}")
    lines = text.splitlines()
    assert lines[0].split() == HEADS
    assert lines[1].split() == ["a_1", "ok", "5", "5", "0", "0", "1.5", "3.2"]
    assert lines[2].startswith("!a_2")
    assert lines[2].endswith("it fails; 3 subtests instead of 5")
    assert lines[5].split()[:3] == ["!b_2", "missing", "-"]
    plain = table(MIXED, with_baseline=False, bold=str, red=str)
    assert plain.splitlines()[0].split() == [head for head in HEADS if head != "OF"]


def test_summary() -> None:
    lines = summary(MIXED, with_baseline=True, verdict=str).splitlines()
    assert lines == [
        "5 cases, 2 OK, 3 failed (1 of them in the baseline too)",
        "1 case with fewer subtests than the baseline, 0 that skip more",
        "2.0 s",
        "problem: xtest <ended>",
        "some of it is worse than the baseline",
    ]


def test_json_is_a_baseline(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(as_json(MIXED, {"suite": "a+b"})))
    found = json.loads(path.read_text())
    assert (found["suite"], found["summary"]["worse"]) == ("a+b", True)
    assert found["cases"][1]["lines"][0] == "\x1b[31mred\x00 <&>"
    assert found["cases"][1]["baseline"]["subtests"] == 5
    assert list(read_baseline(str(path)).cases.values()) == [
        Expected("a_1", OK, 5, 0, 1.5),
        Expected("a_2", FAILED, 3, 0, 1.5),
        Expected("a_3", OK, 0, 1, 1.5),
        Expected("b_1", FAILED, 5, 0, 1.5),
    ]


def test_junit() -> None:
    """A document whatever the cases printed; only what is worse is a failure."""
    root = ElementTree.fromstring(as_junit(MIXED).encode())
    suites = {suite.attrib["name"]: suite.attrib for suite in root}
    assert [suites["a"][key] for key in ("tests", "failures", "skipped")] == ["3", "1", "1"]
    assert [suites["b"][key] for key in ("tests", "failures", "skipped")] == ["2", "1", "1"]
    assert suites["run"]["failures"] == "1"
    cases = {found.attrib["name"]: found for found in root.iter("testcase")}
    assert list(cases["a_1"]) == []
    failure = cases["a_2"].find("failure")
    assert failure is not None
    assert failure.attrib["message"] == "it fails; 3 subtests instead of 5"
    assert failure.text == "\ufffd[31mred\ufffd <&>\nlast \ufffd"
    skipped = cases["a_3"].find("skipped")
    assert skipped is not None
    assert skipped.attrib["message"] == "skip ]]> this"
    assert cases["b_1"].find("skipped") is not None
    assert cases["b_2"].find("failure") is not None
