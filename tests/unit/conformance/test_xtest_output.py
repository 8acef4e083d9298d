# SPDX-License-Identifier: BSD-2-Clause
"""Lines in xtest's form, and what is made of them."""

import random
import time

import pytest

from gentee.conformance.xtest_output import (
    CRASHED,
    FAILED,
    HUNG,
    OK,
    UNFINISHED,
    Case,
    XtestOutput,
    case_order,
    suite_of,
)

WHOLE = """\
some words of the beginning
* alpha_1001 First one
o alpha_1001.1 a part
nothing to see: Skipping it
  alpha_1001.1 OK
o alpha_1001.2 another
cannot do this, skip
SKIPPED for good
  alpha_1001.2 OK
  alpha_1001 OK

* alpha_1002_rsa Second one
o alpha_1002_rsa.1 a part
somewhere.c:10: r has an unexpected value
o alpha_1002_rsa.1.1 a part of it
  alpha_1002_rsa.1.1 FAILED
  alpha_1002_rsa.1 FAILED
  alpha_1002_rsa FAILED
+---
alpha_1001 OK
alpha_1002_rsa.1 FAILED first error at /src/somewhere.c:10
alpha_1002_rsa FAILED first error at /src/somewhere.c:11
+---
17 subtests of which 3 failed
2 test cases of which 1 failed
4 test cases were skipped
"""


def read(text: str, result: str = CRASHED) -> XtestOutput:
    """The output, a second for each line."""
    output = XtestOutput()
    lines = text.splitlines()
    for number, line in enumerate(lines):
        output.line(line, float(number))
    output.ended(result, float(len(lines)))
    return output


def test_a_whole_run() -> None:
    output = read(WHOLE)
    first, second = output.cases
    assert output.complete
    assert (output.subtests, output.failed_subtests, output.case_count) == (17, 3, 2)
    assert (first.name, first.title, first.result) == ("alpha_1001", "First one", OK)
    assert first.seconds == 8.0
    assert (second.name, second.result) == ("alpha_1002_rsa", FAILED)
    assert second.failed_parts == ["alpha_1002_rsa.1.1", "alpha_1002_rsa.1"]
    assert second.first_error == "/src/somewhere.c:10"
    assert "somewhere.c:10: r has an unexpected value" in second.lines
    # Which of the two cases they belong to is not said.
    assert (first.subtests, second.subtests) == (None, None)


def test_lines_that_say_skip() -> None:
    """Of a case only: neither titles nor the summary's."""
    output = read(WHOLE)
    assert [case.skips for case in output.cases] == [3, 0]
    assert output.cases[0].skip_lines[0] == "nothing to see: Skipping it"


def test_subtests_of_a_lone_case() -> None:
    output = read("* a_1 x\n  a_1 OK\n1 subtest of which 0 failed\n1 test case of which 0 failed\n")
    (case,) = output.cases
    assert (case.result, case.subtests, case.failed_subtests) == (OK, 1, 0)


def test_a_result_behind_text_without_a_newline() -> None:
    (case,) = read("* a_1 x\nhalf a line  a_1.1 FAILED\nand more of it  a_1 OK").cases
    assert (case.result, case.failed_parts) == (OK, ["a_1.1"])


@pytest.mark.parametrize("result", [CRASHED, HUNG])
def test_an_output_that_stops(result: str) -> None:
    """Wherever it is cut, what came before counts."""
    lines = WHOLE.splitlines()
    for count in range(len(lines)):
        output = read("\n".join(lines[:count]), result)
        results = [case.result for case in output.cases]
        if count < 2:
            assert results == []
        elif count < 10:
            assert results == [result]
        elif count < 12:
            assert results == [OK]
        elif count < 18:
            assert results == [OK, result]
        else:
            assert results == [OK, FAILED]
        assert output.complete == (count >= len(lines) - 1)


def test_a_case_that_never_ends() -> None:
    first, second = read("* a_1 x\nwords\n* a_2 y\n  a_2 OK").cases
    assert (first.result, first.seconds) == (UNFINISHED, 2.0)
    assert second.result == OK


@pytest.mark.parametrize(
    "line",
    [
        "  a_2 OK",  # of another case
        "  a_1x OK",
        "  a_1.x OK",
        " a_1 OK",
        "a_1 OK",
        "  a_1 OKAY",
        "  a_1 OK again",
        "  OK",
        "OK",
        "* no name of a case",
        "o a_1.1 a part",
        "12 subtests of which 0 failed",
    ],
)
def test_lines_that_end_nothing(line: str) -> None:
    output = XtestOutput()
    output.line("* a_1 x", 0)
    assert output.line(line, 1) is None
    assert output.current is output.cases[0]
    assert not output.complete


def test_standard_error_says_no_results() -> None:
    """What a TA logs goes into the report of its case, and is not believed."""
    output = XtestOutput()
    output.other_line("early")
    output.line("* a_1 x", 0)
    output.other_line("  a_1 OK")
    output.other_line("skip")
    assert output.current is not None
    assert (list(output.current.lines), output.current.skips) == (["  a_1 OK", "skip"], 0)
    assert list(output.lines) == ["early"]


def test_what_is_kept_is_bounded() -> None:
    output = XtestOutput()
    for number in range(10_000):
        output.line(f"outside {number}", 0)
        output.other_line(f"outside {number}")
    output.line("* a_1 x", 0)
    for number in range(10_000):
        output.line(f"o a_1.{number} part", 0)
        output.line(f"skip {number}", 0)
        output.line(f"  a_1.{number} FAILED", 0)
    (case,) = output.cases
    assert case.skips == 10_000
    kept: list[int] = [
        len(some) for some in (case.lines, case.skip_lines, case.failed_parts, output.lines)
    ]
    assert max(kept) <= 100


def test_any_lines() -> None:
    """Mixed and broken lines end in results, and none takes long."""
    words = ["* ", "o ", "  ", "a_1", ".1", " OK", " FAILED", "skip", "_1", "é\0", "3 subtests"]
    dice = random.Random(7)
    started = time.process_time()
    for _ in range(300):
        lines = ["".join(dice.choices(words, k=dice.randrange(9))) for _ in range(40)]
        output = read("\n".join(lines))
        assert all(case.result for case in output.cases)
    read("* " + "a_1" * 1365 + "!\n* a_1 x\n  " + "a_1" * 1365)
    assert time.process_time() - started < 10


def test_names() -> None:
    assert suite_of("regression_4006_rsa") == "regression"
    assert suite_of("two_words_1000") == "two_words"
    names = ["a_1000", "a_20", "a_20_b", "a_3"]
    assert sorted(names, key=case_order) == ["a_3", "a_20", "a_20_b", "a_1000"]
    assert Case("a_1").result == UNFINISHED
