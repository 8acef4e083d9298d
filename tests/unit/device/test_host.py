# SPDX-License-Identifier: BSD-2-Clause
"""Hosts: what a person sees on the terminal, and a LocalHost that leaves nothing behind."""

import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.core.host import LOG_DEBUG, LOG_ERROR, LOG_FLOW, LOG_INFO
from gentee.device.host import BaseHost, LocalHost, TerminalLog, printable, receive_listener
from gentee.device.trapped_root import tee_filter
from gentee.linux.libc import PR_SET_CHILD_SUBREAPER, prctl
from gentee.linux.seccomp import install_filter
from tests.helpers import PATIENCE, Child, in_threads, open_descriptors, wait_until

# Lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, Grüße, 漢字", "plain text, Grüße, 漢字"),
        ("a\ttab", "a\ttab"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("two\nlines\r", "two\\x0alines\\x0d"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("\u202eleft", "\\x202eleft"),
        ("\ufeff\u2028", "\\xfeff\\x2028"),
        ("", ""),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_nothing_that_a_terminal_acts_on(text: str) -> None:
    assert printable(text).replace("\t", "").isprintable()
    if text.isprintable():
        assert printable(text) == text


class Screen:
    """A stream that is read back."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def read(self) -> str:
        os.set_blocking(self.reader, False)
        try:
            return os.read(self.reader, 1 << 20).decode()
        except BlockingIOError:
            return ""


@pytest.fixture
def screen() -> Iterator[Screen]:
    screen = Screen()
    yield screen
    for fd in (screen.reader, screen.writer):
        try:
            os.close(fd)
        except OSError:  # the test has
            pass


def test_lines_of_services(screen: Screen) -> None:
    log = TerminalLog(screen.writer)
    log.service("echo", LOG_ERROR, "went wrong")
    log.service("echo", LOG_FLOW, "\x1b[2J")
    log.service("echo", 77, "level")
    log.warn("be careful")
    assert screen.read() == (
        "[echo] ERROR: went wrong\n[echo] FLOW: \\x1b[2J\n[echo] 77: level\ngentee: be careful\n"
    )


def test_a_service_with_a_name_that_acts(screen: Screen) -> None:
    TerminalLog(screen.writer).service("\x1b[2J\ngentee", LOG_INFO, "text")
    assert screen.read() == "[\\x1b[2J\\x0agentee] INFO: text\n"


def test_lines_that_belong_together(screen: Screen) -> None:
    host = SomeHost(screen, LOG_ERROR)
    host.log_block("vault", LOG_ERROR, ["died", "  of \x1b[2J", "  this\nor that"])
    host.log_block("vault", LOG_INFO, ["not important"])
    assert screen.read() == "[vault] ERROR: died\n  of \\x1b[2J\n  this\\x0aor that\n"
    host.events.stop()


def test_colour_on_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        master, slave = os.openpty()
    except OSError as error:
        pytest.skip(f"no terminals here: {error}")
    monkeypatch.delenv("NO_COLOR", raising=False)
    TerminalLog(slave).service("echo", LOG_ERROR, "wrong \x1b[0m")
    assert os.read(master, 1000) == b"\x1b[31m[echo] ERROR:\x1b[0m wrong \\x1b[0m\r\n"
    monkeypatch.setenv("NO_COLOR", "1")
    TerminalLog(slave).service("echo", LOG_ERROR, "wrong")
    assert os.read(master, 1000) == b"[echo] ERROR: wrong\r\n"
    os.close(master)
    os.close(slave)


def test_a_stream_that_nobody_reads(screen: Screen) -> None:
    log = TerminalLog(screen.writer)
    os.close(screen.reader)
    log.warn("unheard")
    os.close(screen.writer)
    log.warn("not even a stream")


def test_lines_of_many_threads_stay_whole(screen: Screen) -> None:
    log = TerminalLog(screen.writer)
    lines = [f"{number}" * 500 for number in range(4)]

    def write(line: str) -> None:
        for _ in range(5):
            log.line(line)

    in_threads(*[partial(write, line) for line in lines])
    assert sorted(screen.read().splitlines()) == sorted(lines * 5)


# What a host says


class SomeHost(BaseHost):
    """Its terminal is a pipe."""

    def __init__(self, screen: Screen, log_level: int) -> None:
        super().__init__(log_level=log_level)
        self.terminal = TerminalLog(screen.writer)

    def notifier(self) -> None:  # type: ignore[override]
        raise NotImplementedError

    def _root_socket(self) -> socket.socket:
        raise NotImplementedError


@pytest.mark.parametrize("level", [0, LOG_ERROR, LOG_INFO, LOG_DEBUG, LOG_FLOW])
def test_log_level(screen: Screen, level: int) -> None:
    host = SomeHost(screen, level)
    for each in (LOG_ERROR, LOG_INFO, LOG_DEBUG, LOG_FLOW):
        host.log("x", each, f"{each}")
    assert [line[-1] for line in screen.read().splitlines()] == [
        str(each) for each in range(1, level + 1)
    ]
    host.events.stop()


def test_a_warning_is_said_once(screen: Screen) -> None:
    host = SomeHost(screen, 3)
    for _ in range(3):
        host.warn("one")
        host.warn("two")
    assert screen.read() == "gentee: one\ngentee: two\n"
    # What is remembered has a limit.
    for number in range(3000):
        host.warn(f"{number}")
        screen.read()
    host.warn("one")
    assert screen.read() == "gentee: one\n"
    host.events.stop()


def test_a_bug_is_told_once_a_place(screen: Screen) -> None:
    host = SomeHost(screen, 3)

    def mistake(kind: type[Exception]) -> None:
        try:
            raise kind("as planned")
        except Exception as error:
            host.bug(error)

    for _ in range(3):
        mistake(ValueError)
    text = screen.read()
    assert text.startswith("gentee: this is a bug in gentee, please report it:\nTraceback")
    assert text.endswith("ValueError: as planned\n")
    assert text.count("Traceback") == 1
    mistake(KeyError)
    assert "KeyError" in screen.read()
    host.events.stop()


# LocalHost


def children() -> list[int]:
    """Of this process; orphans come to it too."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            stat = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat[1]) == os.getpid():
            found.append(int(process.name))
    return found


def in_clean_process(job: Callable[[], None]) -> None:
    """Run ``job`` in a child that must have nothing left at its end but its main thread."""

    def run(_: socket.socket) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        descriptors = open_descriptors()
        job()
        assert open_descriptors() <= descriptors
        # The receiver's companion sees the end a moment later.
        wait_until(lambda: threading.active_count() == 1)
        wait_until(no_children)

    with Child(run):
        pass


def no_children() -> bool:
    """Whether all have ended; collects those that have."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def test_a_host_that_is_not_used() -> None:
    def job() -> None:
        host = LocalHost()
        assert children() == []
        done = threading.Event()
        host.events.call_soon(done.set)
        assert done.wait(PATIENCE)
        host.close()

    in_clean_process(job)


def test_a_host_with_a_trapped_root() -> None:
    def job() -> None:
        host = LocalHost()
        notifier = host.notifier()
        assert host.notifier() is notifier
        (root,) = children()
        arguments = Path(f"/proc/{root}/cmdline").read_bytes().split(b"\0")
        assert b"-I" in arguments
        assert Path(f"/proc/{root}/environ").read_bytes() == b""
        host.close()

    in_clean_process(job)


def test_a_host_is_asked_by_many_threads() -> None:
    def job() -> None:
        host = LocalHost()
        notifiers = []
        in_threads(*[lambda: notifiers.append(host.notifier())] * 5)
        assert len(notifiers) == 5
        assert len({id(notifier) for notifier in notifiers}) == 1
        assert len(children()) == 1
        host.close()

    in_clean_process(job)


def test_a_host_whose_root_is_killed() -> None:
    def job() -> None:
        host = LocalHost()
        host.notifier()
        (root,) = children()
        os.kill(root, signal.SIGKILL)
        os.waitpid(root, 0)
        host.close()

    in_clean_process(job)


def test_the_root_ends_with_its_program() -> None:
    """However that ends."""

    def start(sock: socket.socket) -> None:
        LocalHost().notifier()
        sock.send(b".")
        sock.recv(1)

    def run(_: socket.socket) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        program = Child(start)
        program.socket.recv(1)
        program.kill()
        wait_until(no_children)

    with Child(run):
        pass


def test_a_program_that_is_listened_to() -> None:
    """As inside another gentee: services cannot be had, and nothing is left of the attempt."""

    def job() -> None:
        listener = install_filter(tee_filter(trap_open=False))
        host = LocalHost()
        for _ in range(3):
            with pytest.raises(OSError) as caught:
                host.notifier()
            assert caught.value.errno == errno.EBUSY
        host.close()
        os.close(listener)

    in_clean_process(job)


@pytest.mark.parametrize("message", [b"", b"L", b"X"])
def test_a_root_that_ends_early(message: bytes) -> None:
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if message:
        theirs.send(message)
    theirs.close()
    with pytest.raises(OSError, match="ended early"):
        receive_listener(mine)
    mine.close()


def test_a_root_that_cannot_listen() -> None:
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.send(b"N" + errno.EPERM.to_bytes(8, "little") + "no way, Grüße".encode())
    with pytest.raises(PermissionError, match="no way, Grüße"):
        receive_listener(mine)
    mine.close()
    theirs.close()
