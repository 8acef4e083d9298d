# SPDX-License-Identifier: BSD-2-Clause
"""Measures gentee against the budgets of docs/performance.md.

Each figure has its reference beside it, measured in the same run and in alternation (A B A B), for
the machine may be shared: the ratio is the median of the ratios of neighbours. ``idle`` is with
nothing else to do, ``loaded`` with a busy loop on each CPU. Figures over budget are shown, not
failed; the exit status is 1 only where a benchmark itself did not run.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.performance.arm_rows import ArmRows
from tests.performance.measuring import (
    COUNTER,
    COUNTER_RESET,
    ECHO,
    ECHO_NOTHING,
    IDLE,
    MIB,
    ROOT,
    STATES,
    Client,
    Row,
    progress,
)
from tests.performance.service_rows import ServiceRows


class Bench(ServiceRows, ArmRows):
    """The benchmarks. Methods without underscore are named as ``--only`` names them."""

    # Round trips against the floor.

    def version(self) -> None:
        """TEE_IOC_VERSION."""
        with self._gentee() as gentee, self._with_floor() as floor:
            for state in STATES:
                with self._load(state):
                    mine, theirs = self._alternate(
                        lambda: gentee.ask("version 5000"),
                        lambda: floor.ask("version 10000"),
                        seconds=6,
                    )
                self._add("version", "TEE_IOC_VERSION", state, mine, theirs, "C floor", budget=2)

    def invoke(self) -> None:
        """TEE_IOC_INVOKE without parameters."""
        with self._gentee(f"sessions {ECHO} 1") as gentee, self._with_floor() as floor:
            for state in STATES:
                with self._load(state):
                    mine, theirs = self._alternate(
                        lambda: gentee.ask(f"invoke {ECHO_NOTHING} 2000 1"),
                        lambda: floor.ask("version 10000"),
                        seconds=6,
                    )
                what = "invoke, no parameters"
                self._add("invoke", what, state, mine, theirs, "C floor", budget=6)

    # Memory.

    def shared(self) -> None:
        """Invoke with shared memory, small and large."""
        preparations = (f"sessions {IDLE} 1", "buffers 4096 1", f"buffers {16 * MIB} 2")
        with self._gentee(*preparations) as gentee, self._with_floor() as floor:
            for state in STATES:
                with self._load(state):
                    small, large, lowest = self._alternate(
                        lambda: gentee.ask("memref 0 2000 1 0"),
                        lambda: gentee.ask("memref 0 2000 1 1"),
                        lambda: floor.ask("version 5000"),
                        seconds=8,
                    )
                what = "invoke, 4 KiB shared"
                self._add("shared", what, state, small, lowest, "C floor")
                what = "invoke, 16 MiB shared"
                self._add("shared", what, state, large, small, "4 KiB shared", budget=1.1)

    def registered(self) -> None:
        """Registered memory, which is copied both ways."""
        size = 16 * MIB
        with self._gentee(f"sessions {IDLE} 1", f"register {size}") as gentee:
            for state in STATES:
                with self._load(state):
                    inout, pair, plain = self._alternate(
                        lambda: gentee.ask("memref 0 4 1 0"),
                        lambda: gentee.ask("pair 0 4"),
                        lambda: gentee.ask(f"memcpy {size} 4"),
                        seconds=8,
                    )
                for what, samples in (
                    ("registered 16 MiB, inout", inout),
                    ("registered 16 MiB, in + out", pair),
                ):
                    self._add(
                        "registered",
                        what,
                        state,
                        samples,
                        plain,
                        "2 x memcpy 16 MiB",
                        unit="ms",
                        scale=1e-6,
                        budget=3,
                    )

    # Starting.

    def start(self) -> None:
        """A whole ``gentee run``."""

        # As installed: with bytecode, which the first round writes if it is not there.
        environment = {**os.environ}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def wall(*argv: str) -> float:
            begin = time.perf_counter()
            subprocess.run([sys.executable, *argv], cwd=ROOT, env=environment, check=True)
            return (time.perf_counter() - begin) * 1e9

        for state in STATES:
            with self._load(state):
                mine, theirs = self._alternate(
                    lambda: wall("-m", "gentee", "run", "--", "true"),
                    lambda: wall("-c", "pass"),
                    seconds=10,
                )
            self._add(
                "start",
                "gentee run -- true",
                state,
                mine,
                theirs,
                "python3 -c pass",
                unit="ms",
                scale=1e-6,
                budget=5,
            )

    # Many.

    def scale(self) -> None:
        """A call among many contexts, sessions, buffers."""
        contexts = ("contexts /dev/tee0 1000", f"sessions {COUNTER} 1000")
        sessions = (f"sessions {COUNTER} 1000",)
        buffers = (f"sessions {IDLE} 1", "buffers 4096 1000")
        call = f"invoke {COUNTER_RESET} 2000"
        for noun, preparations, line in (
            ("contexts, a session each", contexts, f"{call} {{}}"),
            ("sessions of one context", sessions, f"{call} {{}}"),
            ("shared buffers", buffers, "memref 0 2000 {} 0"),
        ):
            with self._gentee(*preparations) as gentee:
                for state in STATES:
                    with self._load(state):
                        self._scale_row(gentee, noun, line, state)

    def _scale_row(self, gentee: Client, noun: str, line: str, state: str) -> None:
        one, hundred, thousand = self._alternate(
            lambda: gentee.ask(line.format(1)),
            lambda: gentee.ask(line.format(100)),
            lambda: gentee.ask(line.format(1000)),
            seconds=8,
        )
        for number, samples in ((100, hundred), (1000, thousand)):
            what = f"invoke over {number} {noun}"
            self._add("scale", what, state, samples, one, "over 1 of them", budget=1.1)

    def parallel(self) -> None:
        """Two clients against one, in calls per second."""
        length = 100
        for pinned in (False, True):
            with (
                self._gentee(f"sessions {IDLE} 1", workers=2) as gentee,
                self._with_floor(workers=2) as floor,
            ):
                if pinned:
                    for client in (gentee, floor):
                        for worker, cpu in enumerate(sorted(os.sched_getaffinity(0))[:2]):
                            client.ask(f"pin {cpu}", worker)
                for state in STATES:
                    for what, client, line, budget in (
                        ("VERSION", gentee, f"version_rate {length}", 1.5),
                        ("invoke", gentee, f"invoke_rate 0 {length}", 1.5),
                        ("invoke of 200 us", gentee, f"invoke_rate 200 {length}", 1.5),
                        ("VERSION, C floor", floor, f"version_rate {length}", None),
                    ):
                        where = "pinned" if pinned else "not pinned"
                        with self._load(state):
                            self._parallel_row(f"{what}, {where}", client, line, state, budget)

    def _parallel_row(
        self, what: str, client: Client, line: str, state: str, budget: float | None
    ) -> None:
        two, one = self._alternate(
            lambda: sum(client.ask_both(line)),
            lambda: client.ask(line),
            seconds=4,
        )
        self._add(
            "parallel",
            f"two clients, {what}",
            state,
            two,
            one,
            "one client",
            unit="k/s",
            budget=budget,
            at_least=True,
        )

    # For information.

    def info(self) -> None:
        """Sessions, and opens in the open way."""
        firsts = []
        for _ in range(5):
            with self._gentee() as gentee:
                firsts.append(gentee.ask(f"sessions {ECHO} 1"))
        what = "first session, from the open device"
        self._row(Row("info", what, "idle", statistics.median(firsts) * 1e-6, "ms"))
        with self._gentee(f"sessions {ECHO} 1") as gentee, self._with_floor() as floor:
            pairs, lowest = self._alternate(
                lambda: gentee.ask(f"session {ECHO} 20"),
                lambda: floor.ask("version 5000"),
                seconds=4,
            )
            what = "open_session + close_session"
            self._add("info", what, "idle", pairs, lowest, "C floor")
        with self._gentee(way="open") as gentee, Client([], self._client) as plain:
            trapped, free = self._alternate(
                lambda: gentee.ask("files /etc/passwd 2000"),
                lambda: plain.ask("files /etc/passwd 2000"),
                seconds=3,
            )
            what = "open + close of a file, way open"
            self._add("info", what, "idle", trapped, free, "not trapped")


BENCHMARKS = (
    *("version", "invoke", "shared", "registered", "start", "scale", "parallel", "info"),
    *("memory", "birth", "task", "installed", "alive", "joined"),
    *("arm_open", "arm_calls", "arm_loop", "arm_memory", "arm_parallel", "arm_crypto"),
)


def print_table(rows: list[Row]) -> None:
    lines = [("what", "state", "figure", "reference", "", "ratio", "budget", "")]
    for row in rows:
        reference = "" if row.reference is None else f"{row.reference:.4g} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        budget = ""
        if row.budget is not None:
            budget = f"{'>=' if row.at_least else '<='} {row.budget:g}"
        figure = f"{row.figure:.4g} {row.unit}"
        line = (row.what, row.state, figure, reference, row.against, ratio, budget, row.verdict)
        lines.append(line)
    widths = [max(len(line[column]) for line in lines) for column in range(8)]
    left = (0, 1, 4, 7)
    for line in lines:
        cells = [
            text.ljust(widths[column]) if column in left else text.rjust(widths[column])
            for column, text in enumerate(line)
        ]
        print("  ".join(cells).rstrip())


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure gentee against its budgets.")
    parser.add_argument("--json", metavar="FILE", default="bench.json", help="where figures go")
    parser.add_argument("--quick", action="store_true", help="a quarter of the time")
    parser.add_argument("--only", metavar="NAME", choices=BENCHMARKS, action="append")
    options = parser.parse_args()
    failed = {}
    with tempfile.TemporaryDirectory(prefix="gentee-bench-") as folder:
        # Nothing that the user has installed, and no other gentee, is measured along.
        os.environ["XDG_STATE_HOME"] = folder
        bench = Bench(Path(folder), quick=options.quick)
        for name in options.only or BENCHMARKS:
            benchmark: Callable[[], None] = getattr(bench, name)
            progress(f"{name}: {benchmark.__doc__}")
            try:
                benchmark()
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                progress(f"{name} did not run: {error}")
                failed[name] = str(error)
    print_table(bench.rows)
    result = {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "failed": failed,
        "rows": [{**asdict(row), "verdict": row.verdict} for row in bench.rows],
    }
    Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
