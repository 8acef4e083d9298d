# SPDX-License-Identifier: BSD-2-Clause
"""Running xtest: one process for all cases or one for each, and none that is waited for forever.

Each process is ``gentee run -- xtest``, in a process group of its own. One whose case takes longer
than a case may is stopped, one that crashes leaves the case that ran; both times the rest follows
in another process. Which cases there are stands in xtest itself: it has no option that lists them,
but their names are strings of its ELF file.
"""

import mmap
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO, NamedTuple

from gentee.conformance.xtest_output import CRASHED, HUNG, Case, XtestOutput, case_order, suite_of
from gentee.errors import UserError

# Any Python finds the package so, from a checkout too, and none in the current folder instead.
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from gentee.cli.main import main; "
_START += "sys.exit(main())"

_MOST_LINE = 4096  # characters; what is longer counts as several lines
_GRACE = 5.0  # seconds between asking gentee to end, and ending it
_DRAIN = 1.0  # seconds for output that comes after the end of the process


class Ending(NamedTuple):
    """How a process ended: its exit status, negative for a signal; whether it had to be stopped."""

    status: int
    stopped: bool

    def __str__(self) -> str:
        if self.stopped:
            return "it took too long and was stopped"
        number = -self.status if self.status < 0 else self.status - 128
        if self.status < 0 or 0 < number < signal.NSIG:
            try:
                return f"ended by {signal.Signals(number).name}"
            except ValueError:
                return f"ended by signal {number}"
        return f"exit status {self.status}"


class Xtest:
    """A given xtest, and how to call it.

    :param path: the program.
    :param suite: for its ``-t``.
    :param level: for its ``-l``.
    :param options: of ``gentee run``.
    :param timeout: seconds that one case may take.
    :param log: where all output goes, too; None for nowhere.
    """

    def __init__(
        self,
        path: str,
        suite: str,
        level: int,
        options: Sequence[str],
        timeout: float,
        log: BinaryIO | None = None,
    ) -> None:
        self.path = path
        self.suite = suite
        self.level = level
        self.options = list(options)
        self.timeout = timeout
        self._log = log
        self._lock = threading.Lock()  # of the log, and of what runs
        self._running: set[int] = set()
        self._closed = False

    def run(
        self,
        selection: Sequence[str],
        options: Sequence[str] = (),
        on_case: Callable[[Case], None] = lambda case: None,
    ) -> tuple[XtestOutput, Ending]:
        """One process.

        :param selection: xtest's words for which cases.
        :param options: further ones of ``gentee run``.
        :param on_case: is called with each case at its beginning and at its end.
        """
        package_parent = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
        xtest = [self.path, "-t", self.suite, "-l", str(self.level), *selection]
        argv = [sys.executable, "-P", "-c", _START, package_parent, "run"]
        argv += [*self.options, *options, "--", *xtest]
        with self._lock:
            if self._closed:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
            self._running.add(process.pid)
        try:
            return self._follow(process, on_case)
        finally:
            with self._lock:
                if process.returncode is None:
                    _kill_group(process.pid)
                    process.wait()
                self._running.discard(process.pid)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def stop(self) -> None:
        """End what runs, and start nothing more."""
        with self._lock:
            self._closed = True
            for pid in self._running:
                _kill_group(pid)

    def _follow(
        self, process: "subprocess.Popen[bytes]", on_case: Callable[[Case], None]
    ) -> tuple[XtestOutput, Ending]:
        output = XtestOutput()
        lines = [_Lines(), _Lines()]
        since = time.monotonic()
        stopped = 0.0  # when it was asked to end
        gone: float | None = None  # when it did
        pidfd = os.pidfd_open(process.pid)
        selector = selectors.DefaultSelector()
        try:
            for number, stream in enumerate((process.stdout, process.stderr)):
                assert stream is not None
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, number)
            selector.register(pidfd, selectors.EVENT_READ, None)
            while selector.get_map():
                now = time.monotonic()
                if gone is not None:
                    end = gone + _DRAIN
                    if now >= end:  # somebody that outlives it has its output
                        break
                elif stopped:
                    end = stopped + _GRACE
                    if now >= end:
                        _kill_group(process.pid)
                        stopped = now
                else:
                    end = since + self.timeout
                    if now >= end:
                        stopped = now
                        _signal(process.pid, signal.SIGTERM)
                for key, _events in selector.select(max(0.0, end - now)):
                    if key.data is None:
                        selector.unregister(pidfd)
                        gone = time.monotonic()
                        continue
                    data = _read(key.fd)
                    now = time.monotonic()
                    if data:
                        self._keep(data)
                    else:
                        selector.unregister(key.fileobj)
                    for text in lines[key.data].split(data):
                        if key.data:
                            output.other_line(text)
                        elif case := output.line(text, now):
                            since = now
                            on_case(case)
        finally:
            selector.close()
            os.close(pidfd)
        ending = Ending(process.wait(), bool(stopped))
        interrupted = output.current
        output.ended(HUNG if stopped else CRASHED, time.monotonic())
        if interrupted is not None:
            interrupted.lines.append(f"({ending})")
            on_case(interrupted)
        return output, ending

    def _keep(self, data: bytes) -> None:
        if self._log is not None:
            with self._lock:
                self._log.write(data)

    def names(self) -> list[str]:
        """The names of the suites' cases that stand in the program, in order; none in a script."""
        suites = self.suite.split("+")
        pattern = rb"(?<=\0)((?:%s)_\d\w*)(?=\0)" % b"|".join(
            re.escape(suite.encode()) for suite in suites
        )
        with open(self.path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return []
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                found = {match[1].decode("ascii") for match in re.finditer(pattern, data)}
        return in_order(found, suites)


class _Lines:
    """Lines of bytes that come in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def split(self, data: bytes) -> list[str]:
        """The whole lines after more data; no data is the end, and gives what is left."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) >= _MOST_LINE or not data:
            whole.append(self._rest)
            self._rest = b""
            if not data and not whole[-1]:
                whole.pop()
        lines = [line.decode("utf-8", "replace").removesuffix("\r") for line in whole]
        return [
            line[at : at + _MOST_LINE]
            for line in lines
            for at in range(0, max(1, len(line)), _MOST_LINE)
        ]


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:  # pragma: no cover - select said otherwise
        return b""


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def in_order(names: Iterable[str], suites: Sequence[str]) -> list[str]:
    """Names in the order of the suites, and of the numbers in them."""
    place = {suite: number for number, suite in enumerate(suites)}
    return sorted(names, key=lambda name: (place.get(suite_of(name), len(place)), case_order(name)))


class Outcome(NamedTuple):
    """What a whole run gave.

    :ivar cases: each once.
    :ivar subtests: of all together; None if a process did not come to its summary.
    :ivar problems: what went wrong outside of cases, a line each.
    """

    cases: list[Case]
    subtests: int | None
    problems: list[str]


def run_together(
    xtest: Xtest,
    patterns: Sequence[str],
    on_case: Callable[[Case], None],
    known: Sequence[str] = (),
) -> Outcome:
    """All cases in one process; after a crash or a case that hangs, the rest in another one.

    :param patterns: parts of names, for xtest; empty for all cases.
    :param known: names of cases that fit the patterns, as far as they are known.
    """
    cases: list[Case] = []
    problems: list[str] = []
    subtests: int | None = 0
    while True:
        without = _without({case.name for case in cases}, known)
        output, ending = xtest.run([*patterns, *without], on_case=on_case)
        cases += output.cases
        if output.complete:
            assert output.subtests is not None
            subtests = None if subtests is None else subtests + output.subtests
            problems += _after_summary(output, ending)
            break
        subtests = None
        if not output.cases:
            raise_or_note(cases, output, ending, problems)
            break
        if output.cases[-1].result not in (CRASHED, HUNG):
            problems.append(f"xtest ended without its summary after {cases[-1].name}: {ending}")
    return Outcome(cases, subtests, problems)


def _without(done: set[str], known: Sequence[str]) -> list[str]:
    """Words for xtest that leave out what is done, and nothing that has such a name in its own.

    Of the words that fit a name, the last one counts: longer ones stand behind.
    """
    inside = {name for name in known if name not in done and any(part in name for part in done)}
    words = []
    for name in sorted(done | inside, key=lambda name: (len(name), name)):
        words += ["-x", name] if name in done else [name]
    return words


def run_each(
    xtest: Xtest,
    names: Sequence[str],
    on_case: Callable[[Case], None],
    jobs: int = 1,
    own_options: Callable[[int], Sequence[str]] = lambda job: (),
) -> Outcome:
    """Each case in a process of its own, which tells its subtests.

    :param names: the cases, in full; those that xtest does not have are left out.
    :param jobs: how many at once, each with the options that ``own_options`` gives for its number.
    """
    results: dict[str, Case] = {}
    problems: list[str] = []
    errors: list[BaseException] = []
    waiting = list(reversed(names))
    lock = threading.Lock()

    def told(case: Case) -> None:
        with lock:
            on_case(case)

    def work(job: int) -> None:
        while not errors:
            with lock:
                if not waiting:
                    return
                name = waiting.pop()
            # A name is also found inside of longer ones.
            others = [word for other in names if name in other != name for word in ("-x", other)]
            output, ending = xtest.run([name, *others], own_options(job), told)
            with lock:
                own = [case for case in output.cases if case.name == name]
                if own:
                    results[name] = own[0]
                    if output.complete:
                        problems.extend(
                            f"{name}: {text}" for text in _after_summary(output, ending)
                        )
                elif not output.complete:
                    raise_or_note(list(results.values()), output, ending, problems)

    def guarded(job: int) -> None:
        try:
            work(job)
        except BaseException as error:
            errors.append(error)

    if jobs == 1:
        work(0)
    else:
        threads = [threading.Thread(target=guarded, args=(job,)) for job in range(jobs)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            xtest.stop()
            raise
        finally:
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if errors:
            raise errors[0]
    cases = [results[name] for name in names if name in results]
    counts = [case.subtests for case in cases]
    known = [count for count in counts if count is not None]
    return Outcome(cases, sum(known) if len(known) == len(counts) else None, problems)


def _after_summary(output: XtestOutput, ending: Ending) -> list[str]:
    """What is wrong with the end of a process whose results are all there."""
    bad = sum(case.result != "ok" for case in output.cases)
    if ending.stopped:
        return [f"xtest did not end after its summary: {ending}"]
    if ending.status and not bad:
        return [f"xtest ended badly though no case failed: {ending}"]
    return []


def raise_or_note(
    cases: Sequence[Case], output: XtestOutput, ending: Ending, problems: list[str]
) -> None:
    """A process came to no case: the first one's is the user's error, a later one's a problem."""
    last = next((line.strip() for line in reversed(output.lines) if line.strip()), "")
    message = f"xtest came to no case: {ending}"
    if cases:
        problems.append(f"{message}: {last}" if last else message)
        return
    raise UserError(message, last or "it printed nothing")
