# SPDX-License-Identifier: BSD-2-Clause
"""Programs that are measured, and rows of the table."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

ECHO = "3f1b8f5e-6a3d-4c0e-8f0b-2d9c1a7e5b10"
ECHO_NOTHING = 2
COUNTER = "b5c6c8f4-8c5f-4b7e-9d35-61b7a3d6f2a4"
COUNTER_RESET = 1
IDLE = "0d0f9a56-5f0b-4c3a-9a52-7f0d9c1b6e01"  # its command N computes for N microseconds

MIB = 1 << 20
STATES = ("idle", "loaded")


@dataclass
class Row:
    """One line of the table. ``budget`` bounds ``ratio``: from above, or below for a rate."""

    name: str
    what: str
    state: str
    figure: float
    unit: str
    reference: float | None = None
    against: str = ""
    ratio: float | None = None
    budget: float | None = None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        if self.ratio is None or self.budget is None:
            return ""
        good = self.ratio >= self.budget if self.at_least else self.ratio <= self.budget
        return "ok" if good else "over"


class Client:
    """The C client under some supervisor: questions in, numbers out, one line each."""

    def __init__(self, before: list[str], program: Path, workers: int = 1) -> None:
        pipes = [(os.pipe(), os.pipe()) for _ in range(workers)]
        theirs = [fd for down, up in pipes for fd in (down[0], up[1])]
        argv = [*before, str(program), *map(str, theirs)]
        self._process = subprocess.Popen(argv, pass_fds=theirs, cwd=ROOT)
        for fd in theirs:
            os.close(fd)
        self._down = [os.fdopen(down[1], "w", buffering=1) for down, _ in pipes]
        self._up = [os.fdopen(up[0]) for _, up in pipes]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for file in (*self._down, *self._up):
            with contextlib.suppress(OSError):
                file.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self._process.pid

    def ask(self, line: str, worker: int = 0) -> float:
        self._down[worker].write(line + "\n")
        return self._answer(worker, line)

    def ask_both(self, line: str) -> list[float]:
        """The same of all workers at once."""
        for file in self._down:
            file.write(line + "\n")
        return [self._answer(worker, line) for worker in range(len(self._up))]

    def ask_each(self, lines: Sequence[str]) -> list[float]:
        """Of each worker its own, at once."""
        for file, line in zip(self._down, lines, strict=True):
            file.write(line + "\n")
        return [self._answer(worker, line) for worker, line in enumerate(lines)]

    def ask_all(self, *lines: str) -> Self:
        """Each line of each worker; for preparations."""
        for worker in range(len(self._up)):
            for line in lines:
                self.ask(line, worker)
        return self

    def _answer(self, worker: int, line: str) -> float:
        reply = self._up[worker].readline()
        if not reply or reply.startswith("error"):
            raise RuntimeError(f"{line!r}: {reply.strip() or 'the client ended'}")
        return float(reply)


class Load:
    """Each block runs in one state: loaded means a busy loop on every CPU, none of them niced."""

    def __init__(self, program: Path) -> None:
        self._program = program

    @contextlib.contextmanager
    def __call__(self, state: str) -> Iterator[None]:
        spinners = []
        if state == "loaded":
            for cpu in sorted(os.sched_getaffinity(0)):
                spinners.append(subprocess.Popen([str(self._program), "spin", str(cpu)]))
            time.sleep(0.2)
        try:
            yield
        finally:
            for process in spinners:
                process.kill()
                process.wait()


Measure = Callable[[], float]


class Measuring:
    """What benchmarks are made of: programs to compile and to run, rows to add."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.rows: list[Row] = []
        self._quick = quick
        self._folder = folder
        self._client = self._compile("client")
        self._floor = self._compile("floor")
        self._load = Load(self._client)

    def _compile(self, name: str) -> Path:
        program = self._folder / name
        flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"]
        include = f"-I{ROOT}/gentee/include"
        subprocess.run(["cc", *flags, include, "-o", program, HERE / f"{name}.c"], check=True)
        return program

    def _gentee(
        self, *preparations: str, workers: int = 1, way: str = "auto", **options: object
    ) -> Client:
        own = options.pop("folders", [f"{ROOT}/gentee/examples", f"{HERE}/services"])
        options["ta_dirs"] = own
        before = [sys.executable, str(HERE / "serve.py"), way, json.dumps(options)]
        return Client(before, self._client, workers).ask_all("contexts /dev/tee0 1", *preparations)

    def _with_floor(self, *, workers: int = 1) -> Client:
        client = Client([str(self._floor)], self._client, workers)
        return client.ask_all("contexts /dev/null 1")

    def _alternate(self, *measures: Measure, seconds: float) -> list[list[float]]:
        """Samples of each, taken in turn for about ``seconds``, after one round for warming up."""
        for measure in measures:
            measure()
        samples: list[list[float]] = [[] for _ in measures]
        end = time.monotonic() + (seconds / 4 if self._quick else seconds)
        while len(samples[0]) < 5 or time.monotonic() < end:
            for measure, mine in zip(measures, samples, strict=True):
                mine.append(measure())
        return samples

    def _add(
        self,
        name: str,
        what: str,
        state: str,
        figures: list[float],
        references: list[float],
        against: str,
        *,
        unit: str = "us",
        scale: float = 1e-3,
        budget: float | None = None,
        at_least: bool = False,
    ) -> None:
        ratios = [a / b for a, b in zip(figures, references, strict=True)]
        self._row(
            Row(
                name,
                what,
                state,
                statistics.median(figures) * scale,
                unit,
                statistics.median(references) * scale,
                against,
                statistics.median(ratios),
                budget,
                at_least,
            )
        )

    def _row(self, row: Row) -> None:
        self.rows.append(row)
        progress(f"  {row.what}, {row.state}: {row.figure:.4g} {row.unit} {row.verdict}")


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
