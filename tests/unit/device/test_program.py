# SPDX-License-Identifier: BSD-2-Clause
"""A program that is run, where the test plays the trapped root."""

import os
import signal
import socket
import threading

import pytest

from gentee.device.program import EXIT_NOT_FOUND, Program
from gentee.device.trapped_root import NUMBER, WAY_OPEN
from gentee.errors import UserError
from tests.helpers import Child, wait_until


class Root:
    """The other end of the trapped root's socket, in a thread."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.program = Program(["./client"], way=WAY_OPEN, root=self.ours)
        self._early = self.program._early
        reader, writer = os.pipe()
        socket.send_fds(self._theirs, [b"L"], [reader])
        for fd in (reader, writer, *self.program.listen(["tee0"])):
            os.close(fd)
        assert self._theirs.recv(100) == b"tee0"
        self.program.take_signals()

    def starts(self, *messages: bytes, after: tuple[signal.Signals, ...] = ()) -> None:
        """Say ``messages`` when it is asked to run, and when the signals have come."""

        def play() -> None:
            assert self._theirs.recv(100) == b"R"
            for number in after:
                os.kill(os.getpid(), number)
            wait_until(lambda: len(self._early) == len(after), "the signals")
            for message in messages:
                self._theirs.send(message)

        threading.Thread(target=play, daemon=True).start()


def waiting_child() -> int:
    pid = os.fork()
    if pid == 0:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        while True:
            signal.pause()
    return pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_comes_early(number: signal.Signals) -> None:
    """The program may run, and be known to others, before its number has come here."""

    def job(sock: socket.socket) -> None:
        root = Root()
        root.starts(b"C" + NUMBER.pack(waiting_child()), after=(number,))
        assert root.program.run() == 128 + number

    with Child(job):
        pass


def test_it_cannot_be_run() -> None:
    def job(sock: socket.socket) -> None:
        root = Root()
        pid = os.fork()
        if pid == 0:
            os._exit(1)
        root.starts(b"E" + NUMBER.pack(2), b"C" + NUMBER.pack(pid))
        with pytest.raises(UserError, match=r"cannot run './client'") as error:
            root.program.run()
        assert error.value.status == EXIT_NOT_FOUND

    with Child(job):
        pass
