# SPDX-License-Identifier: BSD-2-Clause
"""The log of a service: what arrives in its pipe, as lines for a person."""

import os
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi.ta_channel import LOG_LINE_MAX, REPORT_MARK, REPORT_MAX
from gentee.core.host import LOG_DEBUG, LOG_ERROR, LOG_FLOW, LOG_INFO
from gentee.secure.log import ServiceLog
from tests.helpers import PATIENCE, LocalHost, open_descriptors, wait_until


class Writer:
    """The service's end of a log."""

    def __init__(self, host: LocalHost) -> None:
        self.host = host
        self.log = ServiceLog(host, "some")
        self.fd = os.dup(self.log.writer)
        self.log.started()

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.fd, data) :]

    def drain(self) -> None:
        """Let what was written so far be read."""
        done = threading.Event()
        self.host.events.call_soon(self.log.drain)
        self.host.events.call_soon(done.set)
        assert done.wait(PATIENCE)

    def end(self) -> None:
        os.close(self.fd)
        self.fd = -1

    @property
    def lines(self) -> list[str]:
        return [text for _, _, text in self.host.logged]

    def wait(self, count: int) -> list[tuple[int, str]]:
        """Level and text of the first ``count`` lines, of which there are no more."""
        wait_until(lambda: len(self.host.logged) >= count)
        done = threading.Event()
        self.host.events.call_soon(done.set)
        assert done.wait(PATIENCE)
        assert all(source == "some" for source, _, _ in self.host.logged)
        assert len(self.host.logged) == count, self.host.logged
        return [(level, text) for _, level, text in self.host.logged]


@pytest.fixture
def host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


@pytest.fixture
def writer(host: LocalHost) -> Iterator[Writer]:
    writer = Writer(host)
    yield writer
    if writer.fd >= 0:
        writer.end()
    done = threading.Event()
    host.events.call_soon(writer.log.close)
    host.events.call_soon(done.set)
    assert done.wait(PATIENCE)


def test_lines(writer: Writer) -> None:
    writer.write(b"one\ntwo\n\nfour\n")
    assert writer.wait(4) == [(LOG_INFO, text) for text in ("one", "two", "", "four")]


def test_lines_in_pieces(writer: Writer) -> None:
    for piece in (b"spl", b"it", b" line\nand", b" an", b"other\n"):
        writer.write(piece)
        writer.drain()
    assert writer.wait(2) == [(LOG_INFO, "split line"), (LOG_INFO, "and another")]


def test_levels(writer: Writer) -> None:
    writer.write(b"\x011error\n\x012info\n\x013debug\n\x014flow\nplain\n\x01\n\x01x\n\x010low\n")
    assert writer.wait(8) == [
        (LOG_ERROR, "error"),
        (LOG_INFO, "info"),
        (LOG_DEBUG, "debug"),
        (LOG_FLOW, "flow"),
        (LOG_INFO, "plain"),
        (LOG_INFO, "\x01"),
        (LOG_FLOW, ""),  # what is no level is the nearest one
        (LOG_ERROR, "low"),
    ]


def test_what_is_no_text(writer: Writer) -> None:
    writer.write("Grüße\n".encode() + b"\xff\xfe\x00\x1b[31mred\r\n")
    assert writer.wait(2) == [
        (LOG_INFO, "Grüße"),
        (LOG_INFO, "\ufffd\ufffd\x00\x1b[31mred\r"),  # the terminal shows them escaped
    ]


@pytest.mark.parametrize("size", [LOG_LINE_MAX, LOG_LINE_MAX + 1, 100_000, 1 << 20])
def test_long_lines_are_cut(writer: Writer, size: int) -> None:
    writer.write(b"\x011" + b"x" * size + b"\nnext\n")
    (level, text), following = writer.wait(2)
    assert level == LOG_ERROR
    assert text == "x" * LOG_LINE_MAX
    assert following == (LOG_INFO, "next")


def test_a_long_line_in_pieces_is_one(writer: Writer) -> None:
    for _ in range(50):
        writer.write(b"x" * 1000)
        writer.drain()
    writer.write(b"\nnext\n")
    assert writer.wait(2) == [(LOG_INFO, "x" * LOG_LINE_MAX), (LOG_INFO, "next")]


def test_a_longest_line_in_two_pieces(writer: Writer) -> None:
    writer.write(b"\x011" + b"x" * LOG_LINE_MAX)
    writer.drain()
    writer.write(b"\nnext\n")
    assert writer.wait(2) == [(LOG_ERROR, "x" * LOG_LINE_MAX), (LOG_INFO, "next")]


def test_no_newline_at_the_end(writer: Writer) -> None:
    writer.write(b"first\n\x011last words")
    writer.end()
    assert writer.wait(2) == [(LOG_INFO, "first"), (LOG_ERROR, "last words")]


def test_a_process_that_says_nothing(writer: Writer) -> None:
    writer.end()
    assert writer.wait(0) == []


def test_the_end_takes_what_is_there(writer: Writer) -> None:
    """The process is known to be gone, but one that it started still has the pipe."""
    done = threading.Event()

    def close() -> None:
        writer.write(b"one\ntwo")
        writer.log.close()
        writer.log.close()
        writer.log.drain()
        done.set()

    writer.host.events.call_soon(close)
    assert done.wait(PATIENCE)
    assert writer.wait(2) == [(LOG_INFO, "one"), (LOG_INFO, "two")]
    with pytest.raises(BrokenPipeError):
        writer.write(b"nobody listens")


def test_a_process_that_never_came(host: LocalHost) -> None:
    before = open_descriptors()
    log = ServiceLog(host, "some")
    log.started()
    wait_until(lambda: open_descriptors() <= before)
    log.close()
    assert host.logged == []


class Flood(LocalHost):
    """For each line that is shown there are more: the pipe is always full."""

    fd = -1

    def log(self, source: str, level: int, text: str) -> None:
        super().log(source, level, text)
        try:
            while self.fd >= 0:
                os.write(self.fd, b"x" * 4095 + b"\n")  # whole pages, so that it gets quite full
        except BlockingIOError:
            pass


@pytest.mark.parametrize("how", ["drain", "close"])
def test_a_flood_lets_others_in(how: str) -> None:
    host = Flood()
    writer = Writer(host)
    os.set_blocking(writer.fd, False)
    host.fd = writer.fd
    os.write(writer.fd, b"it begins\n")
    wait_until(lambda: len(host.logged) > 20)
    done = threading.Event()

    def call() -> None:
        if how == "close":
            writer.log.close()
        done.set()

    host.events.call_soon(call)
    was_done = done.wait(PATIENCE / 4)
    host.fd = -1
    host.events.call_soon(writer.log.close)
    host.close()
    os.close(writer.fd)
    assert was_done


class TestCrashReports:
    """A line that starts with REPORT_MARK is for somebody else, once."""

    @pytest.fixture
    def reports(self, writer: Writer) -> list[bytes]:
        found: list[bytes] = []
        writer.log._crashed = found.append
        return found

    @pytest.mark.parametrize("size", [0, 2, LOG_LINE_MAX + 3, REPORT_MAX])
    def test_a_report(self, writer: Writer, reports: list[bytes], size: int) -> None:
        writer.write(b"before\n" + REPORT_MARK + b"r" * size + b"\nafter\n")
        assert [text for _, text in writer.wait(2)] == ["before", "after"]
        assert reports == [b"r" * size]

    def test_in_pieces(self, writer: Writer, reports: list[bytes]) -> None:
        data = REPORT_MARK + b"r" * REPORT_MAX + b"\nafter\n"
        for start in range(0, len(data), 5000):
            writer.write(data[start : start + 5000])
            writer.drain()
        assert writer.wait(1) == [(LOG_INFO, "after")]
        assert reports == [b"r" * REPORT_MAX]

    def test_the_end_comes_first(
        self, host: LocalHost, writer: Writer, reports: list[bytes]
    ) -> None:
        writer.write(REPORT_MARK + b"half of a rep")
        writer.end()
        wait_until(lambda: reports)
        assert reports == [b"half of a rep"]
        assert host.logged == []

    def test_one_that_is_too_long_is_a_line(self, writer: Writer, reports: list[bytes]) -> None:
        writer.write(REPORT_MARK + b"r" * (REPORT_MAX + 1) + b"\nafter\n")
        (level, text), after = writer.wait(2)
        assert (level, len(text)) == (LOG_INFO, LOG_LINE_MAX)
        assert after == (LOG_INFO, "after")
        assert reports == []

    def test_a_process_dies_once(self, writer: Writer, reports: list[bytes]) -> None:
        writer.write((REPORT_MARK + b"report\n") * 3)
        assert [text for _, text in writer.wait(2)] == ["\x02report"] * 2
        assert reports == [b"report"]

    def test_of_other_services_it_is_a_line(self, writer: Writer) -> None:
        writer.write(REPORT_MARK + b"report\n")
        assert writer.wait(1) == [(LOG_INFO, "\x02report")]


@given(lines=st.lists(st.text(st.characters(blacklist_characters="\n\x01"), max_size=30)))
def test_any_lines(lines: list[str]) -> None:
    host = LocalHost()
    writer = Writer(host)
    data = "".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass")
    for start in range(0, len(data), 7):
        writer.write(data[start : start + 7])
        if start % 3 == 0:
            writer.drain()
    writer.end()
    expected = data.decode("utf-8", "replace").split("\n")[:-1]
    assert [text for _, text in writer.wait(len(expected))] == expected
    host.close()
