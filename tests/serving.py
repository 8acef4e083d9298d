# SPDX-License-Identifier: BSD-2-Clause
"""A TEE of ``gentee serve``, and programs that join it, for tests."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gentee.device import control
from gentee.device.state_dir import SOCKET, folder_of
from tests.outside import PATIENCE, ROOT, check_messages, wait_until


def environment() -> dict[str, str]:
    """That of this process as it is now, and gentee of this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


# As where Yama forbids it: nothing of a joined program is looked at directly.
_WITHOUT_LOOKING = (
    "import functools, sys; import gentee.device.serve as serve; "
    "serve.Serve = functools.partial(serve.Serve, look=False); "
    "from gentee.cli.main import main; sys.exit(main())"
)


class Served:
    """``gentee serve NAME``. When the block is left it is asked to end, and must have said nothing
    of a bug.

    :param messages: file for its standard error.
    :param look: whether it may look at the tasks of joined programs itself.
    """

    def __init__(
        self,
        messages: Path,
        name: str = "test",
        options: Sequence[str | Path] = (),
        *,
        look: bool = True,
    ) -> None:
        self.name = name
        self.folder = Path(folder_of(name))
        self._messages = messages
        ready, writer = os.pipe()
        gentee = ["-m", "gentee"] if look else ["-c", _WITHOUT_LOOKING]
        command = [sys.executable, *gentee, "serve", *map(str, options)]
        command += ["--ready-fd", str(writer), name]
        with messages.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=environment(),
                pass_fds=(writer,),
                process_group=0,
            )
        os.close(writer)
        with open(ready, "rb") as pipe:
            said = pipe.read()
        if not said:
            self.process.wait(PATIENCE)
            raise AssertionError(f"it did not start\n{self.messages()}")

    @property
    def pid(self) -> int:
        return self.process.pid

    def messages(self) -> str:
        return self._messages.read_text(encoding="utf-8", errors="replace")

    def socket(self) -> socket.socket:
        """A new connection to its control socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(str(self.folder / SOCKET))  # which waits while the backlog is full
        sock.settimeout(PATIENCE)
        return sock

    def ask(self, code: int, payload: bytes = b"", fds: tuple[int, ...] = ()) -> bytes:
        """The answer to one request on a connection of its own; control.Refused otherwise."""
        connection = control.Connection(self.socket())
        try:
            answer, received = connection.ask(code, payload, fds)
            control.close_all(received)
            return answer
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        connection = control.Connection(self.socket())
        try:
            answer = connection.ask_json(control.STATUS)
        finally:
            connection.close()
        assert isinstance(answer, dict)
        return answer

    def descriptors(self) -> int:
        """How many it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def wait_left(self) -> None:
        """Wait until nothing of any program is left."""

        def is_left() -> bool:
            status = self.status()
            contexts = sum(device["contexts"] for device in status["devices"])
            return not status["programs"] and not contexts and not status["sessions"]

        wait_until(is_left, "programs that have ended")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and wait for its end; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.end()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if error is not None:
                sys.stderr.write(self.messages())
        check_messages(self.messages())


class Joined(subprocess.Popen[str]):
    """``gentee run --tee NAME -- argv``; its standard input is a pipe, its messages are kept."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        way: str = "auto",
    ) -> None:
        command = [sys.executable, "-m", "gentee", "run", "--tee", name]
        command += ["--device-way", way, "--", *map(str, argv)]
        super().__init__(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            process_group=0,
        )

    def line(self) -> str:
        """The next line of its output."""
        assert self.stdout is not None
        return self.stdout.readline().rstrip("\n")

    def finish(self) -> tuple[str, str]:
        """End its input; output and messages to the end."""
        try:
            return self.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            raise
