# SPDX-License-Identifier: BSD-2-Clause
"""``gentee conformance``: somebody else's tests of a TEE, run here and compared.

The one there is: ``xtest``, OP-TEE's own test program (optee_test), which the user has built.
"""

import os
import sys
from collections.abc import Sequence

from gentee.cli.options import USAGE_STATUS, Command, Option, columns, similar
from gentee.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from gentee.cli.options import Given
    from gentee.cli.terminal import Style
    from gentee.conformance.baseline import Baseline
    from gentee.conformance.comparison import Comparison
    from gentee.conformance.xtest_output import Case
    from gentee.conformance.xtest_run import Outcome, Xtest

XTEST = Command(
    "conformance xtest",
    "Run OP-TEE's xtest on the TEE of 'gentee run', and say what is worse than it was elsewhere.",
    [
        Option("--xtest", "the program, as you have built it", metavar="FILE"),
        Option("--ta-dir", "a folder with its TAs", metavar="DIR", repeat=True),
        Option(
            "--baseline",
            "what to compare with: a table (case, subtests, skips, seconds), or the JSON of a run",
            metavar="FILE",
        ),
        Option("--suite", "suites of xtest, by default regression+pkcs11", metavar="SUITES"),
        Option("--cases", "only cases with this in their names", metavar="PATTERN", repeat=True),
        Option("--level", "how much xtest tests, 0 to 15, by default 0", metavar="LEVEL"),
        Option(
            "--each",
            "a process for each case, which tells how many subtests it has; by default one for all",
        ),
        Option("--jobs", "with --each: how many at once, by default 1", metavar="COUNT"),
        Option("--timeout", "seconds that one case may take, by default 300", metavar="SECONDS"),
        Option("--json", "write it all as JSON; - is the standard output", metavar="FILE"),
        Option("--junit", "write JUnit XML; - is the standard output", metavar="FILE"),
        Option("--log", "write what xtest and the TAs print", metavar="FILE"),
    ],
    "[-- OPTIONS OF 'gentee run']",
)

_COMMANDS = {"xtest": "OP-TEE's test program"}

_DETAILS = """\
The exit status is 0 if nothing is worse than the baseline, otherwise 1. Worse is a case that is not
OK, or was not run, and is OK in the baseline; one with fewer subtests; one with more lines that say
skip. Without a baseline every case has to be OK. Where xtest crashes, or a case takes too long, the
other cases follow in a new process.

The TEE keeps its state in a folder that is removed, and lets TAs reach this machine's own network
addresses, unless the options of 'gentee run' say otherwise.

  gentee conformance xtest --xtest ./xtest --ta-dir ./tas --each --json today.json
  gentee conformance xtest --xtest ./xtest --ta-dir ./tas --baseline today.json --cases _4
  gentee conformance xtest --xtest ./xtest --ta-dir ./tas -- --reg-mem"""

# Options of 'gentee run' after which the TEE is none of ours to set up.
_OWN_STATE = ("--state", "--ephemeral", "--manifest", "--tee", "--counter")


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        (sys.stdout if arguments else sys.stderr).write(_help())
        return 0 if arguments else USAGE_STATUS
    name, *rest = arguments
    if name == "xtest":
        return xtest(rest)
    near = similar(name, list(_COMMANDS))
    hint = f"did you mean 'gentee conformance {near}'?" if near else "there is xtest"
    raise UserError(f"conformance: no command {name!r}", hint, USAGE_STATUS)


def _help() -> str:
    lines = [
        "usage: gentee conformance COMMAND [OPTIONS]",
        "",
        "Other people's tests of a TEE, which you have built, run here.",
        "",
        "commands:",
        *columns(list(_COMMANDS.items())),
        "",
        "'gentee conformance COMMAND --help' says more about one of them.",
    ]
    return "\n".join(lines) + "\n"


def xtest(arguments: Sequence[str]) -> int:
    """``gentee conformance xtest``."""
    given = XTEST.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(XTEST.help(_DETAILS))
        return 0
    if given.words and not given.words[0].startswith("-"):
        raise XTEST.error(
            f"what to do with {given.words[0]!r}?", "options of 'gentee run' stand behind --"
        )
    program = _program(given)
    suites = _suites(given)
    level = _whole(given, "--level", 0, 0, 15)
    jobs = _whole(given, "--jobs", 1, 1, 256)
    timeout = _whole(given, "--timeout", 300, 1, 1 << 20)
    if jobs > 1 and not given.has("--each"):
        raise XTEST.error("--jobs is for a process for each case", "add --each")
    if given.value("--json", "") == "-" == given.value("--junit", ""):
        raise XTEST.error("two forms on one standard output", "give one of them a file")
    for option in ("--json", "--junit"):
        if given.value(option, "-") != "-":
            _check_writable(given.value(option, ""))
    options = _run_options(given, jobs)

    import tempfile
    import time
    from contextlib import ExitStack

    from gentee.conformance.baseline import read_baseline
    from gentee.conformance.comparison import compare
    from gentee.conformance.xtest_run import Xtest

    baseline = read_baseline(given.value("--baseline", "")) if given.has("--baseline") else None
    patterns = given.all("--cases")
    with ExitStack() as stack:
        log: BinaryIO | None = None
        if given.has("--log"):
            log = stack.enter_context(_open(given.value("--log", "")))
        state = ""
        if not _names_one_of(given.words, _OWN_STATE):
            state = stack.enter_context(tempfile.TemporaryDirectory(prefix="gentee-xtest-"))
        program_of = Xtest(program, "+".join(suites), level, options, timeout, log)
        started = time.monotonic()
        outcome = _run(program_of, given, baseline, patterns, jobs, state)
        seconds = time.monotonic() - started
    comparison = compare(outcome, baseline, suites, patterns, seconds)
    _report(given, comparison, baseline is not None, program, level)
    return 1 if comparison.worse else 0


def _run(
    program: "Xtest",
    given: "Given",
    baseline: "Baseline | None",
    patterns: Sequence[str],
    jobs: int,
    state: str,
) -> "Outcome":
    from gentee.cli.terminal import Style
    from gentee.conformance.xtest_output import suite_of
    from gentee.conformance.xtest_run import in_order, run_each, run_together

    def state_of(job: int) -> list[str]:
        return ["--state", os.path.join(state, str(job))] if state else []

    suites = program.suite.split("+")
    names = program.names()
    if baseline is not None:
        known = [name for name in baseline.cases if suite_of(name) in suites]
        names = in_order({*names, *known}, suites)
    if given.has("--each") and not names:
        raise UserError(
            f"{program.path} has no names of cases in it, as a program would",
            "name them with --baseline FILE, or leave out --each",
        )
    if patterns:
        names = [name for name in names if any(part in name for part in patterns)]
    progress = _Progress(Style(sys.stderr), len(names))
    try:
        if given.has("--each"):
            return run_each(program, names, progress.case, jobs, state_of)
        program.options += state_of(0)
        return run_together(program, patterns, progress.case, names)
    finally:
        progress.close()


class _Progress:
    """A line for each case on the terminal, when it ends; the ones that run stand below."""

    def __init__(self, style: "Style", count: int) -> None:
        self._style = style
        self._shows = sys.stderr is not None and sys.stderr.isatty()
        self._count = count  # 0 if unknown
        self._done = 0
        self._running: dict[str, None] = {}
        self._begun: set[int] = set()

    def case(self, case: "Case") -> None:
        """A case began, or ended."""
        if not self._shows:
            return
        from gentee.device.host import printable

        if id(case) not in self._begun:
            self._begun.add(id(case))
            self._running[case.name] = None
            self._below()
            return
        self._running.pop(case.name, None)
        self._done += 1
        total = f"{self._done}/{self._count}" if self._count >= self._done else str(self._done)
        result = case.result.upper() if case.result == "ok" else case.result
        paint = self._style.green if case.result == "ok" else self._style.red
        title = printable(case.title)[:60]
        sys.stderr.write(
            f"\r\x1b[K{total:>8}  {case.name:<28} {paint(f'{result:<10}')} {case.seconds:7.1f} s"
            f"  {self._style.dim(title)}\n"
        )
        self._below()

    def _below(self) -> None:
        names = " ".join(list(self._running)[:3])
        sys.stderr.write(f"\r\x1b[K          {self._style.dim(names)}" if names else "\r\x1b[K")
        sys.stderr.flush()

    def close(self) -> None:
        if self._shows:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _report(
    given: "Given", comparison: "Comparison", with_baseline: bool, program: str, level: int
) -> None:
    import json

    from gentee import __version__
    from gentee.cli.terminal import Style
    from gentee.conformance import report

    about = {
        "gentee": __version__,
        "machine": os.uname().machine,
        "xtest": program,
        "ta_dirs": given.all("--ta-dir"),
        "options": given.words,
        "suite": given.value("--suite", "regression+pkcs11"),
        "level": level,
        "each": given.has("--each"),
    }
    texts = {}
    if given.has("--json"):
        texts["--json"] = json.dumps(report.as_json(comparison, about), indent=2) + "\n"
    if given.has("--junit"):
        texts["--junit"] = report.as_junit(comparison)
    for option, text in texts.items():
        path = given.value(option, "")
        if path == "-":
            sys.stdout.write(text)
        else:
            with _open(path) as file:
                file.write(text.encode("utf-8", "backslashreplace"))
    style = Style(sys.stdout)
    if not any(given.value(option, "") == "-" for option in texts):
        sys.stdout.write(
            report.table(comparison, with_baseline=with_baseline, bold=style.bold, red=style.red)
        )
        verdict: Callable[[str], str] = style.red if comparison.worse else style.green
        lines = report.summary(comparison, with_baseline=with_baseline, verdict=verdict)
        sys.stdout.write(f"\n{lines}")


def _check_writable(path: str) -> None:
    """UserError now, rather than after a run of minutes."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UserError(f"{path}: there is no folder {folder}")
    if not os.access(path if os.path.exists(path) else folder, os.W_OK) or os.path.isdir(path):
        raise UserError(f"{path} cannot be written")


def _open(path: str) -> "BinaryIO":
    try:
        return open(path, "wb")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _program(given: "Given") -> str:
    from shutil import which

    name = given.value("--xtest", "")
    if not name:
        raise XTEST.error("which xtest?", "--xtest FILE: the one that you have built")
    found = which(name)
    if found is None:
        if os.path.exists(name):
            raise UserError(f"{name} is no program", "it has to be a file that may be executed")
        raise UserError(f"there is no program {name}")
    return os.path.abspath(found)


def _suites(given: "Given") -> list[str]:
    suites = given.value("--suite", "regression+pkcs11").split("+")
    if not all(suite.isascii() and suite.isidentifier() for suite in suites):
        raise XTEST.error(
            f"--suite cannot be {given.value('--suite', '')!r}", "such as regression+pkcs11"
        )
    return suites


def _whole(given: "Given", option: str, default: int, least: int, most: int) -> int:
    text = given.value(option, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise XTEST.error(f"{option} cannot be {text!r}", f"it is a number, {least} to {most}")
    return int(text)


def _names_one_of(words: Sequence[str], options: Sequence[str]) -> bool:
    return any(word.partition("=")[0] in options for word in words)


def _run_options(given: "Given", jobs: int) -> list[str]:
    """The options of ``gentee run``, but for its state folder."""
    words = list(given.words)
    if "--" in words:
        raise XTEST.error("a second --", "behind the first there are options of 'gentee run'")
    joins = _names_one_of(words, ("--tee",))
    if joins and given.has("--ta-dir"):
        raise XTEST.error("a TEE that runs has its TAs", "leave out --ta-dir, or --tee")
    if not given.has("--ta-dir") and not _names_one_of(words, ("--tee", "--manifest", "--ta-dir")):
        raise XTEST.error("where are its TAs?", "--ta-dir DIR: a folder with UUID.ta files")
    if jobs > 1 and _names_one_of(words, ("--state", "--counter")):
        raise XTEST.error("a state is one TEE's at a time", "leave out --jobs or --state")
    from gentee.cli.tee_options import service_folder

    for folder in given.all("--ta-dir"):
        service_folder(folder)
    options = [word for folder in given.all("--ta-dir") for word in ("--ta-dir", folder)]
    if not _names_one_of(words, ("--tee", "--manifest", "--allow-net")):
        options += ["--allow-net", "loopback"]
    return [*options, *words]
