# SPDX-License-Identifier: BSD-2-Clause
"""What a joiner lends to a TEE, and a TEE whose joiner does not do as it should."""

import ctypes
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gentee.device.brought
from gentee.device import control, reader
from gentee.device.brought import Bringer, BroughtTask
from gentee.device.reader import Reader, is_below
from gentee.linux.process_memory import NotPermitted
from gentee.linux.task import Process
from tests.helpers import Child, open_descriptors, wait_until

TEXT = b"what a client has in its memory"


class Joiner:
    """The other end of a control connection. ``serve`` gets each channel."""

    def __init__(self, serve: Callable[[socket.socket], object]) -> None:
        self.ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._serve = serve
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            data, fds = control.receive(self._theirs)
            if not data:
                return
            assert control.decode(data)[0] == control.READER
            self._serve(socket.socket(fileno=fds[0]))

    def close(self) -> None:
        self.ours.close()
        self._thread.join(10)
        self._theirs.close()


@pytest.fixture
def bringer() -> Iterator[Bringer]:
    """One that asks for everything, and a reader that answers for this process's children."""
    joiner = Joiner(Reader().serve)
    bringer = Bringer(joiner.ours, always=True)
    yield bringer
    bringer.close()
    joiner.close()


@pytest.fixture
def client() -> Iterator[tuple[int, int]]:
    """A child, and where in its memory (and ours) TEXT is."""
    buffer = ctypes.create_string_buffer(TEXT, 8192)
    with Child(lambda sock: sock.recv(1)) as child:
        yield child.pid, ctypes.addressof(buffer)


@pytest.fixture
def task(bringer: Bringer, client: tuple[int, int]) -> Iterator[BroughtTask]:
    process = Process(client[0])
    task = BroughtTask(client[0], process, bringer)
    yield task
    task.close()
    process.close()


def test_memory(task: BroughtTask, client: tuple[int, int]) -> None:
    _pid, address = client
    assert task.read(address, len(TEXT)) == TEXT
    task.write(((address, b"WHAT"), (address + 5, b"A")))
    assert task.read(address, 8) == b"WHAT A c"
    for bad in (0, 1 << 60, (1 << 64) - 8):
        with pytest.raises(OSError, match=r".") as error:
            task.read(bad, 8)
        assert error.value.errno == errno.EFAULT
        with pytest.raises(OSError, match=r".") as error:
            task.write(((bad, b"x"),))
        assert error.value.errno == errno.EFAULT


def test_memory_of_a_space(task: BroughtTask, client: tuple[int, int]) -> None:
    address = client[1]
    space = task.address_space()
    view = memoryview(bytearray(len(TEXT)))
    space.check_current(address)
    space.read_into(address, view)
    assert bytes(view) == TEXT
    view[:] = bytes(reversed(TEXT))
    space.write_from(address, view)
    assert task.read(address, len(TEXT)) == TEXT[::-1]
    space.put()


def test_all_that_is_asked_of_a_task(task: BroughtTask, client: tuple[int, int]) -> None:
    pid, address = client
    assert task.is_alive()
    assert task.is_readable()
    assert task.exe() == os.readlink(f"/proc/{pid}/exe")
    assert task.link(0) == os.readlink(f"/proc/{pid}/fd/0").encode()
    status, dev = Path(f"/proc/{pid}/fd/0").stat(), Path("/dev").stat()
    assert task.file_identity(0) == (status.st_dev, status.st_ino)
    assert task.path_identity(b"../root/dev") == (dev.st_dev, dev.st_ino)
    assert task.fdinfo(0).startswith(b"pos:")
    assert task.status()["Tgid"] == str(pid)
    assert any(start <= address < end for start, end, _ in task.maps())
    duplicate = task.get_fd(0)
    assert os.fstat(duplicate).st_ino == status.st_ino
    os.close(duplicate)
    for ask in (task.link, task.fdinfo, task.get_fd):
        with pytest.raises(OSError, match=r"."):
            ask(9999)


def test_it_ends(bringer: Bringer) -> None:
    with Child(lambda sock: sock.recv(1)) as child:
        process = Process(child.pid)
        task = BroughtTask(child.pid, process, bringer)
        assert task.is_alive()
    assert not task.is_alive()
    with pytest.raises((ProcessLookupError, FileNotFoundError)):
        task.link(0)
    task.close()
    process.close()


@pytest.mark.parametrize(
    "pid", [1, os.getpid(), os.getppid()], ids=["the first", "its parent", "and its parent"]
)
def test_nobody_else(bringer: Bringer, pid: int) -> None:
    """A TEE may be another user's: it sees what it serves, nothing else of the joiner's user."""
    assert not is_below(pid)
    process = Process(pid)
    with pytest.raises(PermissionError):
        BroughtTask(pid, process, bringer)
    process.close()
    for operation in (reader.LINK, reader.MEMORY, reader.WRITE, reader.GET_FD, reader.MAPS):
        with pytest.raises(ProcessLookupError):
            bringer.ask(operation, pid)


def test_nothing_stays_open(client: tuple[int, int]) -> None:
    before = open_descriptors()
    joiner = Joiner(Reader().serve)
    bringer = Bringer(joiner.ours, always=True)
    process = Process(client[0])
    for _ in range(20):
        task = BroughtTask(client[0], process, bringer)
        task.read(client[1], 8)
        os.close(task.get_fd(0))
        task.maps()
        task.close()
    process.close()
    bringer.close()
    joiner.close()
    wait_until(lambda: open_descriptors() <= before, "closed descriptors")


@given(st.one_of(st.binary(max_size=64), st.binary(min_size=16, max_size=16)))
def test_any_request(request: bytes) -> None:
    """It is answered, if only by an errno, or ends the channel; never with another's task."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine:
        mine.settimeout(20)
        Reader().serve(theirs)
        mine.send(request or b"\0")
        answer, fds, _flags, _address = socket.recv_fds(mine, reader.MAX_ANSWER, 4)
        assert not fds
        if len(request) < reader.REQUEST.size:
            assert not answer
        elif int.from_bytes(request[:4], "little") != reader.CLOSE:
            assert reader.ANSWER.unpack(answer)[0] > 0


@pytest.mark.parametrize("pieces", [b"x", reader.PIECE.pack(0, 100), reader.PIECE.pack(8, 1)])
def test_half_pieces(bringer: Bringer, client: tuple[int, int], pieces: bytes) -> None:
    bringer.ask(reader.OPEN, client[0])
    with pytest.raises(OSError, match=r".") as error:
        bringer.ask(reader.WRITE, client[0], 0, pieces)
    assert error.value.errno == errno.EINVAL


# Joiners that do not do as they should.


def answering(data: bytes, make_fd: Callable[[], int] | None = None) -> Joiner:
    """A joiner that says this to everything."""

    def serve(channel: socket.socket) -> None:
        with channel:
            while channel.recv(reader.MAX_REQUEST):
                if make_fd is None:
                    channel.send(data)
                    continue
                fd = make_fd()
                socket.send_fds(channel, [data], [fd])
                os.close(fd)

    return Joiner(lambda channel: threading.Thread(target=serve, args=(channel,)).start())


GOOD = reader.ANSWER.pack(0)


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (b"x", errno.EPERM),
        (reader.ANSWER.pack(errno.ENOENT), errno.ENOENT),
        (reader.ANSWER.pack(-1), errno.EIO),
        (reader.ANSWER.pack(1 << 30), errno.EIO),
    ],
)
def test_answers_that_are_none(data: bytes, number: int) -> None:
    joiner = answering(data)
    bringer = Bringer(joiner.ours)
    for _ in range(3):
        with pytest.raises(OSError, match=r".") as error:
            bringer.ask(reader.LINK, 1)
        assert error.value.errno == number
    bringer.close()
    joiner.close()


def read_end() -> int:
    end, writer = os.pipe()
    os.close(writer)
    return end


def zeros() -> int:
    return os.open("/dev/zero", os.O_RDONLY)


@pytest.mark.parametrize("make_fd", [None, read_end, zeros])
def test_memory_that_is_none(make_fd: Callable[[], int] | None) -> None:
    """Only a file of /proc is read from: a pipe would not answer."""
    before = open_descriptors()
    joiner = answering(GOOD, make_fd)
    bringer = Bringer(joiner.ours, always=True)
    process = Process(os.getpid())
    task = BroughtTask(os.getpid(), process, bringer)
    with pytest.raises(NotPermitted):
        task.read(4096, 8)
    with pytest.raises(OSError, match=r"."):
        task.path_identity(b"0")
    with pytest.raises(OSError, match=r"."):
        task.maps()
    assert not task.is_readable()
    task.close()
    process.close()
    bringer.close()
    joiner.close()
    wait_until(lambda: open_descriptors() <= before, "closed descriptors")


def test_a_joiner_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request waits so long and no longer, and a late answer is nobody's."""
    monkeypatch.setattr(gentee.device.brought, "_PATIENCE", 0.05)
    channels: list[socket.socket] = []
    joiner = Joiner(channels.append)
    bringer = Bringer(joiner.ours)
    for _ in range(3):
        with pytest.raises(PermissionError):
            bringer.ask(reader.LINK, 1)
    assert len(channels) == 3
    bringer.close()
    joiner.close()
    for channel in channels:
        channel.close()


def test_a_joiner_that_has_gone() -> None:
    joiner = Joiner(Reader().serve)
    bringer = Bringer(joiner.ours)
    joiner.close()
    with pytest.raises(PermissionError):
        bringer.ask(reader.ALIVE, 1)
    bringer.close()
    with pytest.raises(PermissionError):
        bringer.ask(reader.ALIVE, 1)
