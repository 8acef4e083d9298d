# SPDX-License-Identifier: BSD-2-Clause
"""A running gentee, seen from outside: its descriptors, processes, threads and memory in /proc.

Its program is a shell. A test has it start clients, and knows by an answer of the shell's that they
are done.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

PATIENCE = 60.0  # seconds; what takes so long has failed
_TURN = 0.005  # between two looks at something that has no descriptor to wait for


class State(NamedTuple):
    """What gentee has now."""

    fds: int
    threads: int
    processes: int  # below it, without the program and what that started
    rss: int  # KiB


def wait_until(condition: Callable[[], bool], what: str = "", patience: float = PATIENCE) -> None:
    """Look until ``condition`` is true; AssertionError when that takes too long."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"it never came: {what or condition}"
        select.select([], [], [], _TURN)


class Running:
    """A case of a client that was begun in the background; ``first`` is what it said first."""

    def __init__(self, gentee: "Gentee", gate: int) -> None:
        self._gentee = gentee
        self._gate = gate
        self.first = gentee.read_line()

    def go_on(self) -> str:
        """It waits: let it go on; the next line that it writes."""
        os.write(self._gate, b".")
        return self._gentee.read_line()

    def let_end(self) -> None:
        """It does not have to wait any more."""
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1

    def finish(self) -> None:
        """Let it end. It must have passed; its test is skipped if it says so."""
        self.let_end()
        lines = [self.first, *self._gentee.run("wait")]
        results = [line for line in lines if line.startswith(("ok ", "not ok "))]
        assert results, f"{lines}\n{self._gentee.messages()}"
        for line in results:
            assert line.startswith("ok "), f"{line}\n{self._gentee.messages()}"
            if "# SKIP" in line:
                pytest.skip(line.partition("# SKIP ")[2])


def check_messages(messages: str) -> None:
    """gentee found no bug in itself."""
    for text in ("bug in gentee", "Traceback", "trapped root:"):
        assert text not in messages, messages


class Gentee:
    """``gentee run`` with a shell in it.

    :param messages: file for what gentee, its services and the clients write to standard error.
    :param options: of ``gentee run``.
    :param run: the command that runs gentee with the shell, instead of that.
    :param descriptors: the soft limit of gentee and its clients.
    """

    def __init__(
        self,
        messages: Path,
        options: Sequence[str | Path] = (),
        *,
        run: Sequence[str] = (),
        descriptors: int | None = None,
    ) -> None:
        self._messages = messages
        command = run or [
            *(sys.executable, "-m", "gentee", "run", *map(str, options), "--", "sh"),
        ]
        if descriptors is not None:
            command = ["sh", "-c", f'ulimit -S -n {descriptors} && exec "$@"', "sh", *command]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with messages.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                process_group=0,
            )
        self._count = 0
        self._pending = b""
        try:
            self.shell = int(self.run("echo $$")[0])
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """gentee's own."""
        return self.process.pid

    # The shell.

    def send(self, line: str) -> None:
        """Let the shell run ``line`` and do not wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def run(self, line: str, patience: float = PATIENCE) -> list[str]:
        """Let the shell run ``line`` to its end: the lines it wrote. It must succeed."""
        lines, status = self.run_status(line, patience)
        assert status == 0, f"{line}: status {status}\n{lines}\n{self.messages()}"
        return lines

    def run_status(self, line: str, patience: float = PATIENCE) -> tuple[list[str], int]:
        """As ``run``: the lines and the exit status."""
        self._count += 1
        mark = f"--{self._count}--"
        self.send(f"{line}\nprintf '\\n%s %d\\n' {mark} $?")
        lines: list[str] = []
        while True:
            text = self.read_line(patience)
            if text.startswith(mark):
                return [line for line in lines if line], int(text.split()[1])
            lines.append(text)

    def begin(self, command: str) -> "Running":
        """Let the shell start a program in the background that waits for the test now and then.

        Its descriptor 9 is a pipe, whose other end is in the result.
        """
        self._count += 1
        fifo = self._messages.with_name(f"{self._messages.name}-{self._count}")
        os.mkfifo(fifo)
        self.send(f"{command} 9<{fifo} &")
        return Running(self, os.open(fifo, os.O_WRONLY))

    def read_line(self, patience: float = PATIENCE) -> str:
        """The next line that the shell or one of its programs wrote."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        deadline = time.monotonic() + patience
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([fd], [], [], max(left, 0))
            assert readable, f"no answer; so far {self._pending!r}\n{self.messages()}"
            data = os.read(fd, 65536)
            assert data, f"the shell ended\n{self.messages()}"
            self._pending += data
        line, self._pending = self._pending.split(b"\n", 1)
        return line.decode()

    # From outside.

    def messages(self) -> str:
        """All that was written to standard error so far."""
        return self._messages.read_text(encoding="utf-8", errors="replace")

    def lines_with(self, text: str) -> list[str]:
        """The messages that contain ``text``."""
        return [line for line in self.messages().splitlines() if text in line]

    def check_messages(self) -> None:
        """gentee found no bug in itself."""
        check_messages(self.messages())

    def state(self) -> State:
        """What gentee has right now."""
        status = _status(self.pid)
        return State(
            fds=len(_names(f"/proc/{self.pid}/fd")),
            threads=int(status["Threads"]),
            processes=len(self._below()),
            rss=int(status["VmRSS"].split()[0]),
        )

    def _below(self) -> list[int]:
        """The processes below gentee that are its own: not the program's."""
        children: dict[int, list[int]] = {}
        for name in _names("/proc"):
            if name.isdigit():
                try:
                    stat = Path(f"/proc/{name}/stat").read_text()
                except OSError:  # gone meanwhile
                    continue
                parent = int(stat.rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
        found = []
        left = [pid for pid in children.get(self.pid, []) if pid != self.shell]
        while left:
            pid = left.pop()
            found.append(pid)
            left += children.get(pid, [])
        return found

    def wait_state(self, before: State, *, fds: int = 0, processes: int = 0) -> State:
        """Wait until gentee has no more than ``before``, give or take; how it is then."""
        last = self.state()

        def is_back() -> bool:
            nonlocal last
            last = self.state()
            return last.fds <= before.fds + fds and last.processes <= before.processes + processes

        try:
            wait_until(is_back, patience=PATIENCE / 2)
        except AssertionError:
            names = [_link(self.pid, fd) for fd in _names(f"/proc/{self.pid}/fd")]
            raise AssertionError(f"before {before}\nnow {last}\n{sorted(names)}") from None
        return last

    # The end.

    def end(self) -> None:
        """Let the shell exit; gentee must follow with status 0."""
        assert self.process.poll() is None, f"gentee ended\n{self.messages()}"
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            status = self.process.wait(PATIENCE / 2)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"gentee does not end\n{self.messages()}") from None
        assert status == 0, f"status {status}\n{self.messages()}"

    def kill(self) -> None:
        """Whatever is left."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                pass
        self.process.wait()


def _status(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def _names(folder: str) -> list[str]:
    return [path.name for path in Path(folder).iterdir()]


def _link(pid: int, fd: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return "gone"
