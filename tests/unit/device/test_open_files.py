# SPDX-License-Identifier: BSD-2-Clause
"""Open device files, with this very process as the client: a pipe takes the place of a descriptor
by dup2() here, where the door has the kernel do it in another process.
"""

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from struct import Struct

import pytest

from gentee.core.calls import CallArg
from gentee.core.context import TeeContext
from gentee.core.device import DeviceRegistry
from gentee.core.driver import TeeDesc
from gentee.device.open_files import OpenFiles
from gentee.linux.events import HangUps
from gentee.linux.task import Process, Task
from tests.helpers import (
    PATIENCE,
    Child,
    LocalHost,
    MinimalOps,
    open_descriptors,
    stepwise,
    wait_until,
)

FLOCK = Struct("hh4xqqi4x")
F_OFD_SETLK = 37


class Ops(MinimalOps):
    """Counts contexts, and refuses what it is told to refuse."""

    def __init__(self) -> None:
        self.opened = 0
        self.released: list[TeeContext] = []
        self.refuse: list[int] = []

    def open(self, ctx: TeeContext) -> None:
        if self.refuse:
            raise OSError(self.refuse.pop(), "refused")
        self.opened += 1

    def release(self, ctx: TeeContext) -> None:
        self.released.append(ctx)


class Client:
    """This process with two devices, and the file that stands for each in its /dev."""

    def __init__(self) -> None:
        self.host = LocalHost()
        self.ops = Ops()
        self.registry = DeviceRegistry()
        for _ in range(2):
            self.registry.tee_device_register(TeeDesc("test", self.ops, impl_id=7))
        self.orphans: list[TeeContext] = []
        self.files = OpenFiles(
            self.host.events, HangUps(self.host.events), self.registry.get, self.orphans.append
        )
        # Files of a tmpfs, as those in a /dev of our own are.
        self.device_files = {name: os.memfd_create(name) for name in ("tee0", "tee1")}
        for name, fd in self.device_files.items():
            self.files.add_device_file(name, fd)
        self.process = Process(os.getpid())
        self.task = Task(os.getpid(), self.process)
        self.replaced: list[tuple[int, int]] = []

    def open(self, name: str = "tee0", flags: int = os.O_RDWR) -> int:
        """What open("/dev/tee0") gives: the plain file."""
        return os.open(f"/proc/self/fd/{self.device_files[name]}", flags)

    def ioctl(self, fd: int) -> TeeContext | None:
        """The first ioctl on a descriptor that is no context's."""

        def replace(reader: int, flags: int) -> bool:
            os.dup2(reader, fd, inheritable=not flags)
            self.replaced.append((fd, flags))
            return True

        return self.files.first_ioctl(self.task, fd, replace)

    def link(self, fd: int) -> bytes:
        return self.task.link(fd)

    def settle(self) -> None:
        """Let what has happened be noticed, by the events thread too."""
        self.host.events.settle()
        done = threading.Event()
        self.host.events.call_soon(done.set)
        assert done.wait(PATIENCE)

    def wait_count(self, count: int) -> None:
        """Wait until as many contexts are open, and no fewer."""
        wait_until(lambda: self.files.count() <= count)
        self.settle()
        assert self.files.count() == len(self.files.contexts) == count

    def close(self) -> None:
        self.wait_count(0)
        assert len(self.ops.released) == self.ops.opened
        self.task.close()
        self.process.close()
        for fd in self.device_files.values():
            os.close(fd)
        self.host.close()


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.close()


def wait_for(event: threading.Event) -> None:
    assert event.wait(PATIENCE)


# Opened by name


def test_open_and_close(client: Client) -> None:
    ctx, reader = client.files.open("tee0")
    client.files.watch(ctx)
    assert ctx.teedev.name == "tee0"
    assert client.files.contexts[client.link(reader)] is ctx
    assert client.files.has_readers(ctx)
    # As a file it is good for nothing.
    for use in (lambda: os.read(reader, 1), lambda: os.write(reader, b"x")):
        with pytest.raises(OSError) as caught:
            use()
        assert caught.value.errno in (errno.EAGAIN, errno.EBADF)
    again = os.dup(reader)
    os.close(reader)
    client.settle()
    assert client.files.count() == 1
    os.close(again)
    client.wait_count(0)
    assert client.ops.released == [ctx]


def test_open_what_is_not_there(client: Client) -> None:
    with pytest.raises(OSError) as caught:
        client.files.open("tee7")
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("number", [errno.EBUSY, errno.ENOMEM, errno.EPERM])
def test_a_driver_that_refuses(client: Client, number: int) -> None:
    before = open_descriptors()
    client.ops.refuse = [number, number]
    with pytest.raises(OSError) as caught:
        client.files.open("tee0")
    assert caught.value.errno == number
    assert open_descriptors() <= before
    assert client.files.count() == 0


def test_what_is_about_to_be_closed_is_waited_for(client: Client) -> None:
    """In the kernel close() returns when all is done; here it is noticed a little later."""
    client.registry.all()[0].desc.max_contexts = 1
    busy, inside = threading.Event(), threading.Event()
    client.host.events.call_soon(inside.set)
    client.host.events.call_soon(lambda: wait_for(busy))
    assert inside.wait(PATIENCE)
    ctx, reader = client.files.open("tee0")
    client.files.watch(ctx)
    with pytest.raises(OSError) as caught:
        client.files.open("tee0")
    assert caught.value.errno == errno.ENOMEM
    os.close(reader)
    ctx, reader = client.files.open("tee0")
    client.files.watch(ctx)
    os.close(reader)
    busy.set()


def test_nobody_took_it(client: Client) -> None:
    ctx, reader = client.files.open("tee0")
    os.close(reader)
    client.settle()
    assert client.files.count() == 1  # until it is said that the client should have it by now
    client.files.watch(ctx)
    client.wait_count(0)


def test_a_call_holds_its_context(client: Client) -> None:
    ctx, reader = client.files.open("tee0")
    client.files.watch(ctx)
    arg = CallArg(ctx, 0, 0, [], lambda _arg: None)
    ctx.pending.add(arg)
    os.close(reader)
    wait_until(lambda: client.orphans)
    client.settle()
    assert client.files.count() == 1
    assert not client.ops.released
    arg.complete()
    client.wait_count(0)
    assert set(client.orphans) == {ctx}


# The plain file


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDONLY, os.O_WRONLY])
@pytest.mark.parametrize("inheritable", [True, False])
def test_the_first_ioctl(client: Client, flags: int, inheritable: bool) -> None:
    fd = client.open("tee1", flags)
    os.set_inheritable(fd, inheritable)
    plain = client.link(fd)
    ctx = client.ioctl(fd)
    assert ctx is not None
    assert ctx.teedev.name == "tee1"
    assert client.link(fd) != plain
    assert client.files.contexts[client.link(fd)] is ctx
    assert client.replaced == [(fd, 0 if inheritable else os.O_CLOEXEC)]
    os.close(fd)
    client.wait_count(0)


def test_what_is_no_device(client: Client) -> None:
    reader, writer = os.pipe()
    other = os.memfd_create("another")
    path = client.open(flags=os.O_PATH)
    for fd in (reader, writer, other, path):
        before = client.link(fd)
        assert client.ioctl(fd) is None
        assert client.link(fd) == before
        os.close(fd)
    with pytest.raises(OSError):
        client.ioctl(1000)
    assert client.ops.opened == 0
    # Without any device file nothing is looked at.
    files = OpenFiles(
        client.host.events, HangUps(client.host.events), client.registry.get, lambda _ctx: None
    )
    assert files.first_ioctl(client.task, 1000, lambda _reader, _flags: True) is None


def test_each_open_is_a_context(client: Client) -> None:
    fds = [client.open() for _ in range(5)]
    contexts = [client.ioctl(fd) for fd in fds]
    assert len(set(contexts)) == 5
    os.close(fds[2])
    client.wait_count(4)
    assert client.ops.released == [contexts[2]]
    for fd in fds[:2] + fds[3:]:
        os.close(fd)


def test_a_duplicate_from_before(client: Client) -> None:
    fd = client.open()
    others = [os.dup(fd) for _ in range(3)]
    ctx = client.ioctl(fd)
    for other in others[:2]:
        assert client.ioctl(other) is ctx
        assert client.link(other) == client.link(fd)
    assert client.files.count() == 1
    # It ends with the last of them, used or not.
    for each in (fd, *others[:2]):
        os.close(each)
    client.settle()
    assert client.files.count() == 1
    os.close(others[2])
    client.wait_count(0)
    assert client.ops.opened == 1


def test_a_duplicate_that_comes_late(client: Client) -> None:
    """All that had the pipe are gone; the context lives by its plain file alone."""
    fd = client.open()
    late = os.dup(fd)
    ctx = client.ioctl(fd)
    assert ctx is not None
    for _ in range(3):
        os.close(fd)
        client.settle()
        assert client.files.count() == 1
        assert not client.files.has_readers(ctx)
        fd = os.dup(late)
        assert client.ioctl(fd) is ctx
        assert client.files.has_readers(ctx)
    os.close(late)
    client.settle()
    assert client.files.count() == 1
    os.close(fd)
    client.wait_count(0)


def test_duplicates_in_another_process(client: Client) -> None:
    fd = client.open()
    with Child(stepwise(lambda: os.close(fd))) as child:
        ctx = client.ioctl(fd)
        os.close(fd)
        client.settle()
        assert client.files.count() == 1
        child.step()
        client.wait_count(0)
    assert client.ops.released == [ctx]


def test_an_end_by_a_process_that_dies(client: Client) -> None:
    fd = client.open()
    ctx = client.ioctl(fd)
    with Child(stepwise()) as child:
        os.close(fd)
        client.settle()
        assert client.files.count() == 1
        child.kill()
        client.wait_count(0)
    assert client.ops.released == [ctx]


def test_a_client_that_is_gone_meanwhile(client: Client) -> None:
    fd = client.open()
    assert client.files.first_ioctl(client.task, fd, lambda _reader, _flags: False) is not None
    client.settle()
    assert client.files.count() == 1  # the plain file is still open here
    os.close(fd)
    client.wait_count(0)


def test_a_client_that_takes_no_descriptor(client: Client) -> None:
    def refuse(_reader: int, _flags: int) -> bool:
        raise OSError(errno.EMFILE, "no room")

    fd = client.open()
    with pytest.raises(OSError) as caught:
        client.files.first_ioctl(client.task, fd, refuse)
    assert caught.value.errno == errno.EMFILE
    # It can try again, and means the same context.
    ctx = client.ioctl(fd)
    assert ctx is not None
    assert client.ops.opened == 1
    os.close(fd)
    client.wait_count(0)


def test_a_number_beyond_the_clients_limit(client: Client) -> None:
    """It cannot be replaced, so each of its calls joins the context again."""

    def beyond(_reader: int, _flags: int) -> bool:
        raise OSError(errno.EBADF, "beyond RLIMIT_NOFILE")

    fd = client.open()
    ctx = client.files.first_ioctl(client.task, fd, beyond)
    assert ctx is not None
    for _ in range(3):
        assert client.files.first_ioctl(client.task, fd, beyond) is ctx
        client.settle()
    os.close(fd)
    client.wait_count(0)


# Strangers, who can open the file as well


def lock_all(fd: int, kind: int) -> None:
    fcntl.fcntl(fd, F_OFD_SETLK, FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0))


def test_a_stranger_with_a_position_of_its_own(client: Client) -> None:
    fd = client.open()
    ctx = client.ioctl(fd)
    for position in (0, 1, 77, 2**62 - 1):
        stranger = client.open()
        os.lseek(stranger, position, os.SEEK_SET)
        other = client.ioctl(stranger)
        assert other not in (None, ctx)
        os.close(stranger)
        client.wait_count(1)
    os.close(fd)


def test_a_stranger_that_has_locked_all(client: Client) -> None:
    """Then duplicates of others are not known after the end, and that is all."""
    stranger = client.open()
    lock_all(stranger, fcntl.F_WRLCK)
    fd = client.open()
    late = os.dup(fd)
    ctx = client.ioctl(fd)
    joined = os.dup(late)
    assert client.ioctl(joined) is ctx
    os.close(fd)
    os.close(joined)
    client.wait_count(0)
    other = client.ioctl(late)
    assert other not in (None, ctx)
    os.close(late)
    client.wait_count(0)
    os.close(stranger)


def test_a_stranger_that_locks_afterwards(client: Client) -> None:
    fd = client.open()
    ctx = client.ioctl(fd)
    late = client.open()
    stranger = client.open()
    for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK):
        try:
            lock_all(stranger, kind)
        except OSError:  # a byte is another's
            pass
    other = client.ioctl(late)
    assert other not in (None, ctx)
    os.close(fd)
    os.close(late)
    client.wait_count(0)
    os.close(stranger)
