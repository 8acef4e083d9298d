# SPDX-License-Identifier: BSD-2-Clause
"""Shared memory and its end: real files, mappings and processes that hold them."""

import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct

import pytest

from gentee.linux.namespaces import CLONE_NEWUSER, unshare
from gentee.linux.shm import (
    IN_CLOSE_WRITE,
    IN_IGNORED,
    IN_Q_OVERFLOW,
    PAGE_SIZE,
    SEALS,
    CloseWatch,
    create_shm,
    memory_file_seals,
    only_open,
    page_align,
    reopen,
)
from tests.helpers import Child, open_descriptors, stepwise, wait_until

EVENT = Struct("<iIII")  # struct inotify_event without a name


@pytest.fixture(autouse=True)
def no_sigio() -> Iterator[None]:
    """As every program that asks with leases."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, before)


@pytest.fixture
def shm() -> Iterator[int]:
    fd = create_shm(PAGE_SIZE)
    yield fd
    os.close(fd)


# Files


@pytest.mark.parametrize(
    ("size", "aligned"),
    [(0, 0), (1, PAGE_SIZE), (PAGE_SIZE, PAGE_SIZE), (PAGE_SIZE + 1, 2 * PAGE_SIZE)],
)
def test_page_align(size: int, aligned: int) -> None:
    assert page_align(size) == aligned


@pytest.mark.parametrize("size", [1, 100, PAGE_SIZE, 1 << 40])
def test_size_and_seals(size: int) -> None:
    fd = create_shm(size, "of this name")
    assert os.fstat(fd).st_size == size
    assert "/memfd:of this name" in os.readlink(f"/proc/self/fd/{fd}")
    assert not os.get_inheritable(fd)
    assert memory_file_seals(fd) == SEALS
    for other in (0, size - 1, size + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, other)
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    with pytest.raises(OSError):
        os.posix_fallocate(fd, 0, size + 1)
    with mmap.mmap(fd, min(size, PAGE_SIZE)) as pages:
        pages[:1] = b"x"
    assert os.pread(fd, 1, 0) == b"x"
    os.close(fd)


@pytest.mark.parametrize("size", [-1, 1 << 63, 1 << 64])
def test_impossible_sizes(size: int) -> None:
    before = open_descriptors()
    with pytest.raises(OSError) as caught:
        create_shm(size)
    assert caught.value.errno == errno.ENOMEM
    assert open_descriptors() <= before


@pytest.mark.parametrize("room", [0, 1])
def test_no_descriptor_left(room: int) -> None:
    def run(_socket: socket.socket) -> None:
        used = max(open_descriptors())
        for number in range(used):  # no holes
            try:
                os.fstat(number)
            except OSError:
                os.dup2(0, number)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + room, hard))
        with pytest.raises(OSError) as caught:
            create_shm(1)
        assert caught.value.errno == errno.EMFILE

    with Child(run):
        pass


def test_another_open_of_the_same_file(shm: int) -> None:
    other, reader = reopen(shm, os.O_RDWR), reopen(shm, os.O_RDONLY)
    os.write(other, b"shared")
    assert os.lseek(shm, 0, os.SEEK_CUR) == 0
    assert os.read(reader, 6) == b"shared"
    with pytest.raises(OSError):
        os.write(reader, b"x")
    with pytest.raises(PermissionError):
        mmap.mmap(reader, PAGE_SIZE)
    for fd in (other, reader):
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_what_a_memory_file_is(tmp_path: Path) -> None:
    unsealed = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    assert memory_file_seals(unsealed) == 0
    fixed = os.memfd_create("fixed")
    assert memory_file_seals(fixed) == fcntl.F_SEAL_SEAL
    reader, writer = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    proc = os.open("/proc/self/stat", os.O_RDONLY)
    for fd in (reader, writer, null, proc):
        assert memory_file_seals(fd) is None
    for fd in (unsealed, fixed, reader, writer, null, proc):
        os.close(fd)
    try:
        huge = os.memfd_create("huge", os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
    except OSError:  # none on this machine
        return
    assert memory_file_seals(huge) is None
    os.close(huge)


# Who has it


def test_only_ours(shm: int) -> None:
    assert only_open(shm)
    own = os.dup(shm)  # the same open file
    pages = mmap.mmap(shm, PAGE_SIZE)
    assert only_open(shm)
    assert only_open(own)
    pages.close()
    os.close(own)
    assert only_open(shm)


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDONLY, os.O_WRONLY])
def test_somebody_elses_open(shm: int, flags: int) -> None:
    other = reopen(shm, flags)
    assert not only_open(shm)
    again = os.dup(other)
    os.close(other)
    assert not only_open(shm)
    os.close(again)
    assert only_open(shm)


@pytest.mark.parametrize(
    ("flags", "protection"),
    [(os.O_RDWR, mmap.PROT_READ | mmap.PROT_WRITE), (os.O_RDONLY, mmap.PROT_READ)],
)
def test_somebody_elses_mapping(shm: int, flags: int, protection: int) -> None:
    other = reopen(shm, flags)
    pages = mmap.mmap(other, PAGE_SIZE, prot=protection)  # with a descriptor of its own
    os.close(other)
    assert not only_open(shm)
    pages.close()
    assert only_open(shm)


def test_a_descriptor_under_way(shm: int) -> None:
    other = reopen(shm, os.O_RDWR)
    one, two = socket.socketpair()
    socket.send_fds(one, [b"x"], [other])
    os.close(other)
    assert not only_open(shm)
    one.close()
    assert not only_open(shm)
    two.close()
    assert only_open(shm)


def test_a_mere_path_is_no_open(shm: int) -> None:
    other = os.open(f"/proc/self/fd/{shm}", os.O_PATH)
    assert only_open(shm)
    os.close(other)


def test_a_forked_holder(shm: int) -> None:
    other = reopen(shm, os.O_RDWR)
    pages = mmap.mmap(other, PAGE_SIZE)
    with Child(stepwise(lambda: os.close(other), lambda: os.execv("/bin/sh", ["sh"]))) as child:
        os.close(other)
        pages.close()
        assert not only_open(shm)
        child.step()  # mappings of its own are left to it
        assert not only_open(shm)
        child.socket.send(b".")
        wait_until(lambda: only_open(shm))
        child.kill()


# The watch


class Counter:
    """A callback that counts; it says whether the file has ended."""

    def __init__(self, fd: int = -1) -> None:
        self.calls = 0
        self.fd = fd

    def __call__(self) -> bool:
        self.calls += 1
        return self.fd < 0 or only_open(self.fd)


@pytest.fixture
def watch() -> Iterator[CloseWatch]:
    watch = CloseWatch()
    yield watch
    watch.close()


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDONLY])
def test_an_end_is_told(watch: CloseWatch, shm: int, flags: int) -> None:
    ended = Counter(shm)
    watch.add(shm, ended)
    watch.read()
    other = reopen(shm, flags)
    again = os.dup(other)
    os.close(other)
    watch.read()
    assert ended.calls == 0
    os.close(again)
    watch.read()
    assert ended.calls == 1
    watch.read()
    assert ended.calls == 1


def test_the_end_of_a_mapping_is_told(watch: CloseWatch, shm: int) -> None:
    ended = Counter()
    watch.add(shm, ended)
    other = reopen(shm, os.O_RDWR)
    with mmap.mmap(other, PAGE_SIZE):
        os.close(other)
        watch.read()
        assert ended.calls == 0
    watch.read()
    assert ended.calls == 1


def test_many_ends_are_told_once(watch: CloseWatch, shm: int) -> None:
    ended = Counter()
    other = create_shm(PAGE_SIZE)
    watch.add(shm, ended)
    watch.add(other, Counter())
    for _ in range(10):
        for fd in (shm, other):
            os.close(reopen(fd, os.O_RDWR))
    watch.read()
    assert ended.calls == 1
    os.close(other)


def test_each_file_has_its_callback(watch: CloseWatch) -> None:
    files = [create_shm(1) for _ in range(5)]
    counters = [Counter() for _ in files]
    handles = [watch.add(fd, counter) for fd, counter in zip(files, counters, strict=True)]
    assert len(set(handles)) == 5
    for number in (1, 3):
        os.close(reopen(files[number], os.O_RDWR))
    watch.read()
    assert [counter.calls for counter in counters] == [0, 1, 0, 1, 0]
    # One that was removed is not told, not even of what had happened before.
    for number in (1, 2):
        os.close(reopen(files[number], os.O_RDWR))
    watch.remove(handles[1])
    watch.remove(handles[1])
    watch.read()
    assert [counter.calls for counter in counters] == [0, 1, 1, 1, 0]
    for fd in files:
        os.close(fd)


def test_a_callback_may_remove_its_watch(watch: CloseWatch, shm: int) -> None:
    calls = []

    def ended() -> bool:
        calls.append(only_open(shm))
        watch.remove(handle)
        return True

    handle = watch.add(shm, ended)
    os.close(reopen(shm, os.O_RDWR))
    watch.read()
    os.close(reopen(shm, os.O_RDWR))
    watch.read()
    assert calls == [True]


def test_a_second_holder(watch: CloseWatch, shm: int) -> None:
    """Each end is told; whether it was the last, a lease says."""
    last = []

    def ended() -> bool:
        last.append(only_open(shm))
        return last[-1]

    watch.add(shm, ended)
    one, two = reopen(shm, os.O_RDWR), reopen(shm, os.O_RDONLY)
    os.close(one)
    watch.read()
    assert last == [False]
    os.close(two)
    watch.read()
    assert last == [False, True]


def test_asked_again_while_it_has_not_ended(shm: int) -> None:
    """A task may be held up between the event and the end."""
    todo: list[Callable[[], None]] = []
    watch = CloseWatch(lambda _seconds, job: todo.append(job))
    held, ended = reopen(shm, os.O_RDWR), Counter(shm)
    watch.add(shm, ended)
    os.close(reopen(shm, os.O_RDWR))
    watch.read()
    assert ended.calls == 1
    todo.pop()()
    assert ended.calls == 2
    os.close(held)
    todo.pop()()
    assert ended.calls == 3
    assert not todo
    watch.settle()
    watch.settle()
    assert ended.calls == 4  # of the event
    watch.close()


def test_settle_asks_what_was_in_use(watch: CloseWatch, shm: int) -> None:
    held, ended = reopen(shm, os.O_RDWR), Counter(shm)
    watch.add(shm, ended)
    watch.settle()
    assert ended.calls == 0
    os.close(reopen(shm, os.O_RDWR))
    watch.read()
    watch.settle()
    assert ended.calls == 2
    os.close(held)
    watch.settle()
    calls = ended.calls
    watch.settle()
    assert ended.calls == calls


def test_in_two_threads(watch: CloseWatch, shm: int) -> None:
    """Who returns from ``read`` has seen the end of what other threads found."""
    inside, go_on = threading.Event(), threading.Event()

    def ended() -> bool:
        inside.set()
        return go_on.wait()

    watch.add(shm, ended)
    os.close(reopen(shm, os.O_RDWR))
    first = threading.Thread(target=watch.read)
    first.start()
    inside.wait()
    second = threading.Thread(target=watch.read)
    second.start()
    second.join(0.01)
    assert second.is_alive()
    go_on.set()
    second.join()
    first.join()


# When the queue is full, and when watches run out


def feed(watch: CloseWatch, *events: tuple[int, int]) -> None:
    """Put events where the kernel's would be."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.write(writer, b"".join(EVENT.pack(handle, mask, 0, 0) for handle, mask in events))
    os.dup2(reader, watch.fd)
    os.close(reader)
    os.close(writer)


def test_an_overflow_asks_all(watch: CloseWatch, shm: int) -> None:
    other = create_shm(1)
    counters = [Counter(), Counter()]
    handle = watch.add(shm, counters[0])
    watch.add(other, counters[1])
    feed(watch, (handle, IN_CLOSE_WRITE), (-1, IN_Q_OVERFLOW))
    watch.read()
    assert [counter.calls for counter in counters] == [1, 1]
    os.close(other)


def test_events_of_nobody(watch: CloseWatch, shm: int) -> None:
    counter = Counter()
    handle = watch.add(shm, counter)
    feed(watch, (handle + 1, IN_CLOSE_WRITE), (handle, IN_IGNORED))
    watch.read()
    assert counter.calls == 0


def test_a_real_overflow(watch: CloseWatch, shm: int) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 1 << 17:
        pytest.skip(f"{most} events fit into the queue")
    noise = [create_shm(1), create_shm(1)]
    for fd in noise:
        watch.add(fd, Counter())
    ended = Counter()
    watch.add(shm, ended)
    for _ in range(most // 2 + 1):
        for fd in noise:
            os.close(reopen(fd, os.O_RDONLY))
    os.close(reopen(shm, os.O_RDWR))  # this one is lost
    for _ in range(most * EVENT.size // 65536 + 2):
        watch.read()
    assert ended.calls == 1
    for fd in noise:
        os.close(fd)


def test_without_watches() -> None:
    def run(_: socket.socket) -> None:
        try:
            unshare(CLONE_NEWUSER)
            Path("/proc/sys/user/max_inotify_watches").write_text("1")
        except OSError as error:
            pytest.skip(f"no limit of our own: {error}")
        watch = CloseWatch()
        files = [create_shm(1) for _ in range(3)]
        counters = [Counter() for _ in files]
        handles = [watch.add(fd, counter) for fd, counter in zip(files, counters, strict=True)]
        assert [handle < 0 for handle in handles] == [False, True, True]
        assert len(set(handles)) == 3
        # Asked at any event, and when somebody sweeps.
        os.close(reopen(files[1], os.O_RDWR))
        watch.read()
        assert counters[0].calls == 0
        os.close(reopen(files[0], os.O_RDWR))
        watch.read()
        assert counters[0].calls == 1
        calls = [counter.calls for counter in counters]
        assert min(calls) >= 1
        watch.sweep()
        assert [counter.calls for counter in counters] == [1, calls[1] + 1, calls[2] + 1]
        watch.remove(handles[1])
        watch.remove(handles[0])
        watch.sweep()
        assert [counter.calls for counter in counters] == [1, calls[1] + 1, calls[2] + 2]
        # There is room for one again.
        assert watch.add(files[0], counters[0]) >= 0

    with Child(run):
        pass
