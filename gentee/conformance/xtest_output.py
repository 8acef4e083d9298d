# SPDX-License-Identifier: BSD-2-Clause
"""What xtest prints, read line by line: optee_test, ``host/xtest/adbg``.

A case begins with ``* NAME title`` and ends with ``  NAME OK`` or ``  NAME FAILED``; its parts do
so with ``o NAME.1 title`` and ``  NAME.1 OK``. What is between is the case's own. At the end of a
process there is a summary: all cases again, failed ones with the place of their first error, then
the numbers of *subtests* (checks that were made) and of cases. Nothing says the subtests of one
case, except that a process ran no other.

Everything else is let through: lines that belong to nothing, cases that never end, a summary that
is not there, text without a newline in front of a result.
"""

import re
from collections import deque

OK = "ok"
FAILED = "failed"
CRASHED = "crashed"  # the process ended in the middle of it
HUNG = "hung"  # it had to be stopped
UNFINISHED = "unfinished"  # another one began before this one's result came
RESULTS = (OK, FAILED, CRASHED, HUNG, UNFINISHED)

_NAME = r"[A-Za-z]\w*?_\d\w*"
_BEGIN = re.compile(rf"\* ({_NAME})(?: (.*))?")
_PART = re.compile(rf"o ({_NAME})((?:\.\d+)+)(?: .*)?")
_NUMBERS = re.compile(r"(?:\.\d+)*")
_FIRST_ERROR = re.compile(rf"({_NAME})((?:\.\d+)*) FAILED first error at (.+)")
_SUBTESTS = re.compile(r"(\d+) subtests? of which (\d+) failed")
_CASES = re.compile(r"(\d+) test cases? of which (\d+) failed")
_SKIP = re.compile("skip", re.IGNORECASE)

_KEPT_LINES = 40  # the last ones of a case, for the report of one that fails
_KEPT_SKIPS = 20  # lines that say skip; all are counted
_KEPT_PARTS = 100


class Case:
    """One case, and what became of it.

    :ivar result: one of RESULTS; UNFINISHED while it runs.
    :ivar subtests: how many checks it made, and ``failed_subtests`` how many of them failed; None
        where the output does not tell.
    :ivar skips: how many of its lines say "skip".
    :ivar seconds: between the lines of its beginning and its end.
    :ivar failed_parts: names of failed parts, such as ``regression_2001.2``.
    :ivar first_error: file and line of xtest's source, empty if unknown.
    :ivar lines: the last ones that were printed meanwhile.
    """

    __slots__ = (
        "failed_parts", "failed_subtests", "first_error", "lines", "name", "result", "seconds",
        "skip_lines", "skips", "started", "subtests", "title",
    )  # fmt: skip

    def __init__(self, name: str, title: str = "", started: float = 0.0) -> None:
        self.name = name
        self.title = title
        self.started = started
        self.result = UNFINISHED
        self.subtests: int | None = None
        self.failed_subtests: int | None = None
        self.skips = 0
        self.skip_lines: list[str] = []
        self.seconds = 0.0
        self.failed_parts: list[str] = []
        self.first_error = ""
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)

    def end(self, result: str, now: float) -> None:
        self.result = result
        self.seconds = max(0.0, now - self.started)


class XtestOutput:
    """The output of one process of xtest.

    :ivar cases: in their order; of two of one name both are there.
    :ivar current: the one that runs.
    :ivar subtests: of the summary, None before it; so are ``failed_subtests`` and ``case_count``.
    :ivar lines: the last ones outside of cases, for a process that ends before its first.
    """

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.current: Case | None = None
        self.subtests: int | None = None
        self.failed_subtests: int | None = None
        self.case_count: int | None = None
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)

    @property
    def complete(self) -> bool:
        """Whether the summary came: nothing follows that matters."""
        return self.subtests is not None and self.case_count is not None

    def line(self, text: str, now: float) -> Case | None:
        """Take one line of the standard output.

        :param now: seconds of a monotonic clock.
        :return: the case that began or ended with it.
        """
        if text.startswith("* ") and (match := _BEGIN.fullmatch(text)):
            if self.current is not None:
                self.current.end(UNFINISHED, now)
            self.current = Case(match[1], match[2] or "", now)
            self.cases.append(self.current)
            return self.current
        case = self.current
        if case is None:
            self._outside(text)
            return None
        if ended := _ended(text, case.name):
            name, failed = ended
            if name == case.name:
                case.end(FAILED if failed else OK, now)
                self.current = None
                return case
            if failed and len(case.failed_parts) < _KEPT_PARTS:
                case.failed_parts.append(name)
            return None
        if (match := _PART.fullmatch(text)) and match[1] == case.name:
            case.lines.append(text)
            return None
        case.lines.append(text)
        if _SKIP.search(text):
            case.skips += 1
            if len(case.skip_lines) < _KEPT_SKIPS:
                case.skip_lines.append(text)
        return None

    def other_line(self, text: str) -> None:
        """Take a line of the standard error: what TAs log, and gentee."""
        (self.lines if self.current is None else self.current.lines).append(text)

    def _outside(self, text: str) -> None:
        if match := _SUBTESTS.fullmatch(text):
            self.subtests, self.failed_subtests = int(match[1]), int(match[2])
        elif match := _CASES.fullmatch(text):
            self.case_count = int(match[1])
        elif match := _FIRST_ERROR.fullmatch(text):
            for case in self.cases:
                if case.name == match[1] and not case.first_error:
                    case.first_error = match[3]
        if text.strip():
            self.lines.append(text)

    def ended(self, result: str, now: float) -> None:
        """The process is gone: whatever ran has that result; a lone case has all subtests."""
        if self.current is not None:
            self.current.end(result, now)
            self.current = None
        if len(self.cases) == 1 and self.complete:
            (case,) = self.cases
            case.subtests, case.failed_subtests = self.subtests, self.failed_subtests


def _ended(text: str, case: str) -> tuple[str, bool] | None:
    """The name in a line that ends ``case`` or a part of it, and whether it failed."""
    words = text.rsplit(" ", 2)
    if len(words) != 3 or words[2] not in ("OK", "FAILED"):
        return None
    before, name, result = words
    # A program that prints without a newline leaves its text in front of the two spaces.
    if not before.endswith(" ") or not name.startswith(case):
        return None
    if not _NUMBERS.fullmatch(name[len(case) :]):
        return None
    return name, result == "FAILED"


def suite_of(name: str) -> str:
    """``regression`` of ``regression_4006_rsa``."""
    match = re.match(r"(.+?)_\d", name)
    return match[1] if match else name


def case_order(name: str) -> tuple[object, ...]:
    """A key to sort names by: numbers in them count as such."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in name.split("_"))
