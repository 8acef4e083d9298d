# SPDX-License-Identifier: BSD-2-Clause
"""``gentee conformance xtest`` with a program that prints what an xtest would.

The program is a script under ``gentee run``, so everything but the tests themselves is real. It
takes words as xtest does: ``-t``, ``-l``, parts of names, and ``-x`` with parts to leave out.
"""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tests.functional.test_cli import ESCAPE, PATIENCE, environment, gentee

# Each case: its name, and Python that does it; ``n`` counts subtests, ``bad`` failed ones.
PROGRAM = """\
import os, signal, sys, time
CASES = {cases!r}
words = sys.argv[1:]
assert words[0] == "-t" and words[2] == "-l", words
words = words[4:]
def chosen(name):
    match = not words or words[0] == "-x"
    rest = iter(words)
    for word in rest:
        if word == "-x":
            left_out = next(rest)
            match = match and left_out not in name
        elif word in name:
            match = True
    return match
def say(*text):
    print(*text, flush=True)
tee = os.path.exists("/dev/tee0")
total = failed = count = wrong = 0
for name, code in CASES.items():
    if not chosen(name):
        continue
    say(" ")
    say("*", name, "title")
    n, bad = 1, 0
    exec(code)
    say(f"  {{name}}", "FAILED" if bad else "OK")
    total, failed, count, wrong = total + n, failed + bad, count + 1, wrong + bool(bad)
say("+---")
say(f"{{total}} subtests of which {{failed}} failed")
say(f"{{count}} test cases of which {{wrong}} failed")
say("0 test cases were skipped")
sys.exit(wrong)
"""

GOOD = {
    "regression_1001": "n = 3 if tee else 0",
    "regression_1002": "say('not here, skipping'); n = 0",
    "regression_1002_more": "n = 7",
    "pkcs11_1001": "n = 5",
}
TABLE = "case\tsubtests\tlines_saying_skip\tseconds\n"
BASELINE = (
    "regression_1001\t3\t0\t1\nregression_1002\t0\t1\t1\n"
    "regression_1002_more\t7\t0\t1\npkcs11_1001\t5\t0\t1\n"
)
CRASH = "os.kill(os.getpid(), signal.SIGSEGV)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tas").mkdir()
    (tmp_path / "baseline.tsv").write_text(TABLE + BASELINE)
    return tmp_path


def xtest_of(folder: Path, cases: dict[str, str]) -> Path:
    path = folder / "xtest"
    path.write_text(f"#!{sys.executable} -I\n{PROGRAM.format(cases=cases)}")
    path.chmod(0o755)
    return path


def arguments(folder: Path, cases: dict[str, str], *more: str) -> list[str]:
    xtest = xtest_of(folder, cases)
    return ["conformance", "xtest", "--xtest", str(xtest), "--ta-dir", str(folder / "tas"), *more]


def conformance(
    folder: Path, cases: dict[str, str], *more: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """A run with the JSON that it wrote."""
    file = folder / "run.json"
    options, behind = list(more), []
    if "--" in options:
        at = options.index("--")
        options, behind = options[:at], options[at:]
    finished = gentee(*arguments(folder, cases, "--json", str(file), *options), *behind)
    assert "Traceback" not in finished.stderr
    return finished, json.loads(file.read_text()) if file.exists() else {}


def results(found: dict[str, Any]) -> dict[str, str]:
    return {row["case"]: row["result"] for row in found["cases"]}


def test_all_in_one_process(folder: Path) -> None:
    finished, found = conformance(folder, GOOD, "--baseline", str(folder / "baseline.tsv"))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout.endswith("nothing is worse than the baseline\n")
    assert finished.stderr == ""  # no terminal, no progress
    assert set(results(found).values()) == {"ok"}
    assert (found["summary"]["subtests"], found["summary"]["expected_subtests"]) == (15, 15)
    assert {row["case"]: row["skips"] for row in found["cases"]}["regression_1002"] == 1


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_each_tells_its_subtests(folder: Path, jobs: str) -> None:
    """A case is run alone also where its name is a part of another one's."""
    cases = {**GOOD, "regression_1001": "n = 2"}
    table = str(folder / "baseline.tsv")
    finished, found = conformance(folder, cases, "--each", "--jobs", jobs, "--baseline", table)
    assert finished.returncode == 1
    subtests = {row["case"]: row["subtests"] for row in found["cases"]}
    assert subtests == {
        "regression_1001": 2,
        "regression_1002": 0,
        "regression_1002_more": 7,
        "pkcs11_1001": 5,
    }
    worse = [row for row in found["cases"] if row["worse"]]
    assert [row["worse"] for row in worse] == [["2 subtests instead of 3"]]
    assert "regression_1001" in finished.stdout


def test_fewer_subtests_of_all_together(folder: Path) -> None:
    cases = {**GOOD, "regression_1001": "n = 2"}
    finished, _ = conformance(folder, cases, "--baseline", str(folder / "baseline.tsv"))
    assert finished.returncode == 1
    assert "14 subtests, and 15 in the baseline; --each tells of which cases" in finished.stdout


def test_a_case_that_fails(folder: Path) -> None:
    cases = {**GOOD, "regression_1002": "say('some.c:1: not as expected'); bad = 1"}
    junit = folder / "junit.xml"
    finished, found = conformance(folder, cases, "--junit", str(junit))
    assert finished.returncode == 1
    assert results(found)["regression_1002"] == "failed"
    failures = list(ElementTree.parse(junit).iter("failure"))
    assert [failure.text for failure in failures] == ["some.c:1: not as expected"]
    # The same again is no worse than that.
    earlier = folder / "earlier.json"
    earlier.write_text(json.dumps(found))
    finished, found = conformance(folder, cases, "--baseline", str(earlier))
    assert finished.returncode == 0
    assert "1 failed (1 of them in the baseline too)" in finished.stdout


def test_the_rest_follows_a_crash(folder: Path) -> None:
    cases = {**GOOD, "regression_1002": f"say('the last words'); {CRASH}"}
    baseline = str(folder / "baseline.tsv")
    finished, found = conformance(folder, cases, "--baseline", baseline)
    assert finished.returncode == 1
    assert results(found) == {
        "regression_1001": "ok",
        "regression_1002": "crashed",
        # That name has the crashed one's in it, which xtest is told to leave out.
        "regression_1002_more": "ok",
        "pkcs11_1001": "ok",
    }
    (crashed,) = (row for row in found["cases"] if row["result"] == "crashed")
    assert crashed["lines"] == ["the last words", "(ended by SIGSEGV)"]
    assert found["summary"]["subtests"] is None


def test_the_rest_follows_a_case_that_hangs(folder: Path) -> None:
    """Even one that does not want to end."""
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(1000)"
    cases = {"regression_1001": stubborn, "regression_1002": "n = 1"}
    started = time.monotonic()
    finished, found = conformance(folder, cases, "--timeout", "2")
    assert finished.returncode == 1
    assert results(found) == {"regression_1001": "hung", "regression_1002": "ok"}
    assert time.monotonic() - started < 40


def test_a_program_that_it_left_behind(folder: Path) -> None:
    """It has the output, and nobody waits for it."""
    pid_file = folder / "pid"
    code = (
        "pid = os.fork()\n"
        f"if not pid: os.setsid(); open({str(pid_file)!r}, 'w').write(str(os.getpid())); "
        "time.sleep(1000)\n"
        f"while not os.path.exists({str(pid_file)!r}): time.sleep(0.01)"
    )
    try:
        finished, found = conformance(folder, {"regression_1001": code})
        assert (finished.returncode, results(found)) == (0, {"regression_1001": "ok"})
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_an_output_that_stops(folder: Path) -> None:
    """Between two cases: what came is believed, and what follows is run."""
    cases = {"regression_1001": "n = 1", "regression_1002": "os._exit(0)", "pkcs11_1001": "n = 2"}
    finished, found = conformance(folder, cases)
    assert finished.returncode == 1
    assert list(results(found).values()) == ["ok", "crashed", "ok"]


def test_a_bad_end(folder: Path) -> None:
    cases = {"regression_1001": "import atexit; atexit.register(os._exit, 9)"}
    finished, found = conformance(folder, cases)
    assert finished.returncode == 1
    assert found["problems"] == ["xtest ended badly though no case failed: exit status 9"]


def test_no_case_at_all(folder: Path) -> None:
    finished, found = conformance(folder, GOOD, "--cases", "nothing_like_it")
    assert (finished.returncode, found["problems"]) == (1, ["no case was run"])
    path = folder / "mute"
    path.write_text("#!/bin/sh\necho no TEE context >&2\nexit 255\n")
    path.chmod(0o755)
    finished = gentee("conformance", "xtest", "--xtest", path, "--ta-dir", folder)
    assert finished.returncode == 1
    assert finished.stderr.splitlines() == [
        "gentee: xtest came to no case: exit status 255",
        "        no TEE context",
    ]


def test_a_case_that_is_not_there_any_more(folder: Path) -> None:
    cases = {name: code for name, code in GOOD.items() if name != "pkcs11_1001"}
    for each in ((), ("--each",)):
        finished, found = conformance(
            folder, cases, "--baseline", str(folder / "baseline.tsv"), *each
        )
        assert finished.returncode == 1
        assert results(found)["pkcs11_1001"] == "missing"


def test_suites_levels_and_options_reach_the_program(folder: Path) -> None:
    code = "say(sys.argv[1:5]); n = 0; bad = 1"
    log = folder / "log"
    options = ["--suite", "regression", "--level", "15", "--log", str(log), "--", "--verbose"]
    _, found = conformance(folder, {"regression_1001": code}, *options)
    assert found["cases"][0]["lines"] == ["['-t', 'regression', '-l', '15']"]
    assert b"gentee: devices tee0" in log.read_bytes()  # of --verbose


def test_the_state_is_of_this_run_alone(folder: Path) -> None:
    """And all processes of it have it, one after the other; it is gone afterwards."""
    mark = folder / "marks"
    code = f"open({str(mark)!r}, 'a').write('x')"
    home = folder / "home"
    home.mkdir()
    env = {**environment(), "HOME": str(home), "TMPDIR": str(folder)}
    env.pop("XDG_STATE_HOME", None)
    command = arguments(folder, {"regression_1001": code, "pkcs11_1001": code}, "--each")
    command += ["--baseline", str(folder / "baseline.tsv")]
    subprocess.run(
        [sys.executable, "-m", "gentee", *command], env=env, timeout=PATIENCE, capture_output=True
    )
    assert mark.read_text() == "xx"
    assert list(home.iterdir()) == []
    assert list(folder.glob("gentee-xtest-*")) == []


def test_json_on_the_standard_output(folder: Path) -> None:
    finished = gentee(*arguments(folder, GOOD, "--json", "-"))
    assert json.loads(finished.stdout)["summary"]["ok"] == 4
    finished = gentee(*arguments(folder, GOOD, "--junit", "-"))
    assert len(list(ElementTree.fromstring(finished.stdout).iter("testcase"))) == 4


def test_progress_on_a_terminal(folder: Path) -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gentee", *arguments(folder, GOOD)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        env=environment(),
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            data = os.read(controller, 4096)
        except OSError:  # EIO: the other side is closed
            break
        if not data:
            break
        shown += data
    os.close(controller)
    assert process.wait(PATIENCE) == 0
    text = shown.decode()
    ended = re.findall(r"\d  (\w+) +\x1b\[32mOK", text)
    assert ended == list(GOOD)
    assert ESCAPE in text


def test_interrupted(folder: Path) -> None:
    """Nothing is left of a run that its user ends."""
    pid_file = folder / "pid"
    code = (
        f"open({str(pid_file)!r} + '.new', 'w').write(str(os.getpid())); "
        f"os.rename({str(pid_file)!r} + '.new', {str(pid_file)!r}); time.sleep(1000)"
    )
    for more in ([], ["--each", "--jobs", "2", "--baseline", str(folder / "baseline.tsv")]):
        pid_file.unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "gentee", *arguments(folder, {"regression_1001": code}, *more)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**environment(), "TMPDIR": str(folder)},
        )
        deadline = time.monotonic() + PATIENCE
        while not pid_file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        pid = int(pid_file.read_text())
        while _alive(pid):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert list(folder.glob("gentee-xtest-*")) == []


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "which xtest?"),
        (["--xtest", "/no/such"], "there is no program /no/such"),
        (["--xtest", "/etc/passwd"], "/etc/passwd is no program"),
        (["--xtest", "/bin/true"], "where are its TAs?"),
        (["--xtest", "/bin/true", "--ta-dir", "."], "xtest came to no case: exit status 0"),
        (["--xtest", "/bin/true", "--ta-dir", ".", "--each"], "has no names of cases"),
        (["--xtest", "/bin/true", "--ta-dir", ".", "--jobs", "2"], "a process for each case"),
        (["--xtest", "/bin/true", "--ta-dir", ".", "--level", "16"], "--level cannot be '16'"),
        (["--xtest", "/bin/true", "--ta-dir", ".", "--suite", "a b"], "--suite cannot be 'a b'"),
        (["--xtest", "/bin/true", "--ta-dir", ".", "--json", "/no/such"], "there is no folder"),
        (["--xtest", "/bin/true", "--ta-dir", ".", "--baseline", "/no"], "No such file"),
        (["--xtest", "/bin/true", "--ta-dir", ".", "words"], "what to do with 'words'?"),
        (["--xtest", "/bin/true", "--ta-dir", ".", "--", "--tee", "x"], "a TEE that runs has its"),
    ],
)
def test_what_cannot_be(options: list[str], message: str) -> None:
    finished = gentee("conformance", "xtest", *options)
    assert finished.returncode in (1, 2)
    assert message in finished.stderr
    assert len(finished.stderr.splitlines()) <= 2


def test_help() -> None:
    assert "usage: gentee conformance xtest" in gentee("conformance", "xtest", "-h").stdout
    assert "xtest" in gentee("conformance", "--help").stdout
    finished = gentee("conformance", "xtst")
    assert "did you mean 'gentee conformance xtest'?" in finished.stderr
