# SPDX-License-Identifier: BSD-2-Clause
"""Messages of the control socket: what is not exactly as described is no message."""

import os
import socket
from collections.abc import Iterator

import pytest

from gentee.device import control
from gentee.device.control import ProtocolError
from tests.helpers import PATIENCE, open_descriptors

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both ends of a connection; no descriptor is left behind."""
    before = open_descriptors()
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine, theirs:
        for sock in (mine, theirs):
            sock.settimeout(PATIENCE)
        yield mine, theirs
    assert open_descriptors() == before


def test_a_message_and_back() -> None:
    assert control.decode(control.encode(control.OK, b"names")) == (control.OK, b"names")
    text = control.encode_text(control.REFUSED, "é" * 2000)
    code, payload = control.decode(text)
    assert code == control.REFUSED
    assert len(payload) == control.MAX_TEXT


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "without a header"),
        (b"GTEE\x01\x00\x01", "without a header"),
        (b"GTEF\x01\x00\x01\x00", "not a message"),
        (b"GTEE\x02\x00\x01\x00", "version 2"),
        (b"GTEE\x00\x00\x01\x00", "version 0"),
    ],
)
def test_what_is_no_message(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        control.decode(data)


@pytest.mark.parametrize(
    ("code", "size", "fds"),
    [
        (control.JOIN, 16, 0),
        (control.LISTEN, 1, 1),
        (control.LISTEN, 1, control.MAX_FDS),
        (control.LEAVE, 0, 0),
        (control.STATUS, 0, 0),
        (control.LIST, 0, 0),
        (control.LOAD, 0, 1),
        (control.UNLOAD, 16, 0),
        (control.STOP, 0, 0),
    ],
)
def test_requests(code: int, size: int, fds: int) -> None:
    message = control.encode(code, bytes(size))
    assert control.decode_request(message, fds) == (code, bytes(size))
    with pytest.raises(ProtocolError, match="bytes"):
        control.decode_request(message + b"\0", fds)
    if size:
        with pytest.raises(ProtocolError, match="bytes"):
            control.decode_request(message[:-1], fds)
    if fds != 1:
        with pytest.raises(ProtocolError, match="descriptors"):
            control.decode_request(message, fds + 1)
    else:
        with pytest.raises(ProtocolError, match="descriptors"):
            control.decode_request(message, 0)


@pytest.mark.parametrize("code", [0, 11, 0xFF, control.OK, control.REFUSED, control.READER, 0xFFFF])
def test_no_request(code: int) -> None:
    with pytest.raises(ProtocolError, match="no request"):
        control.decode_request(control.encode(code), 0)


def test_descriptors_come_closed_for_exec(pair: Pair) -> None:
    mine, theirs = pair
    socket.send_fds(mine, [b"data"], [0, 1])
    data, fds = control.receive(theirs)
    assert data == b"data"
    assert len(fds) == 2
    assert not any(os.get_inheritable(fd) for fd in fds)
    control.close_all(fds)
    assert fds == []


def test_too_long(pair: Pair) -> None:
    mine, theirs = pair
    mine.send(bytes(control.MAX_MESSAGE + 1))
    with pytest.raises(ProtocolError, match="too long"):
        control.receive(theirs)


@pytest.mark.parametrize("count", [control.MAX_FDS + 1, control.MAX_FDS + 2, 200])
def test_too_many_descriptors(pair: Pair, count: int) -> None:
    mine, theirs = pair
    socket.send_fds(mine, [b"data"], [0] * count)
    with pytest.raises(ProtocolError, match="too long"):
        control.receive(theirs)


def ask(pair: Pair, *answer: bytes, fds: tuple[int, ...] = ()) -> tuple[bytes, list[int]]:
    """What the asking side makes of an answer."""
    mine, theirs = pair
    if answer:
        socket.send_fds(theirs, list(answer), fds)
    else:
        theirs.shutdown(socket.SHUT_WR)
    return control.Connection(mine).ask(control.STATUS)


def test_an_answer(pair: Pair) -> None:
    assert ask(pair, control.encode(control.OK, b"tee0")) == (b"tee0", [])


def test_a_refusal(pair: Pair) -> None:
    with pytest.raises(control.Refused, match="not you"):
        ask(pair, control.encode_text(control.REFUSED, "not you"), fds=(0,))


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request", b"GTEE\x07\x00\x00\x01", b"G"])
def test_no_gentee_answers(pair: Pair, answer: bytes) -> None:
    with pytest.raises(control.Refused, match="of another version of gentee, or none") as caught:
        ask(pair, answer, fds=(0, 1))
    assert caught.value.hint


def test_no_answer(pair: Pair) -> None:
    with pytest.raises(control.Refused, match="ended the connection"):
        ask(pair)
