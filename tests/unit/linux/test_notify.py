# SPDX-License-Identifier: BSD-2-Clause
"""The receiving end, with real callers: a child installs the filter and makes trapped calls."""

import errno
import fcntl
import os
import queue
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from struct import Struct
from types import TracebackType
from typing import NamedTuple, Self

import pytest

from gentee.abi.ta_channel import TA_IOC_HELLO, TA_IOC_NEXT
from gentee.device.trapped_root import tee_filter
from gentee.linux import arch
from gentee.linux.libc import syscall
from gentee.linux.notify import Notifier
from gentee.linux.seccomp import install_filter
from tests.helpers import PATIENCE, Child, wait_until

# What the child does when asked: an ioctl on /dev/null, or what its own descriptors are.
ASK = Struct("<cQQ")  # what, command, argument
ANSWER = Struct("<qq")  # value or -errno; then whatever
IOCTL = 0xA400
NAME = "test-receive"  # of the thread: other tests may have left theirs running


class Seen(NamedTuple):
    """A call as the handler gets it."""

    notify_id: int
    tid: int
    nr: int
    arch: int
    arg0: int
    arg1: int
    arg2: int
    arg3: int


def trapped(sock: socket.socket) -> None:
    """The child: installs the filter, sends the listener, does as it is told."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 100)
    received = []
    signal.signal(signal.SIGUSR1, lambda number, _frame: received.append(number))
    listener = install_filter(tee_filter(trap_open=False))
    socket.send_fds(sock, [b"L"], [listener])
    os.close(listener)
    while request := sock.recv(64):
        what, command, argument = ASK.unpack(request)
        value = extra = 0
        try:
            if what == b"I":
                value = syscall("ioctl", arch.NATIVE["ioctl"], 100, command, argument)
            elif what == b"F":  # inode and close-on-exec flag of a descriptor
                value = os.fstat(argument).st_ino
                extra = fcntl.fcntl(argument, fcntl.F_GETFD)
            elif what == b"N":
                value, extra = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (argument, extra))
            elif what == b"S":
                value = len(received)
            elif what == b"P":  # a process of its own that calls and does not come back
                value = os.fork()
                if not value:
                    try:
                        syscall("ioctl", arch.NATIVE["ioctl"], 100, command, argument)
                    finally:
                        os._exit(1)
            elif what == b"W":
                value = os.waitpid(argument, 0)[1]
        except OSError as error:
            value = -(error.errno or 0)
        sock.send(ANSWER.pack(value, extra))


class Caller:
    """A child below a filter, and the receiving end of it."""

    def __init__(self) -> None:
        self.child = Child(trapped)
        _, (listener,), _, _ = socket.recv_fds(self.child.socket, 16, 1)
        self.bugs: list[BaseException] = []
        self.notifier = Notifier(listener, self.bugs.append)
        self.seen: queue.SimpleQueue[Seen] = queue.SimpleQueue()
        self.notifier.calls = lambda *call: self.handle(*call)

    def handle(self, *call: int) -> None:
        """Parked, until the test answers."""
        self.seen.put(Seen(*call))

    def __enter__(self) -> Self:
        self.notifier.start(NAME)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A stuck receiver ends with the last task that has the filter.
        if kind is not None:
            self.child.kill()
        self.notifier.stop()
        if kind is None:
            self.child.wait()

    def ask(self, what: bytes, command: int = 0, argument: int = 0) -> None:
        """Let the child do it; see ``answer``."""
        self.child.socket.send(ASK.pack(what, command, argument))

    def answer(self) -> tuple[int, int]:
        """What the child got."""
        value, extra = ANSWER.unpack(self.child.socket.recv(64))
        return value, extra

    def do(self, what: bytes, argument: int = 0) -> tuple[int, int]:
        self.ask(what, 0, argument)
        return self.answer()

    def call(self, command: int = IOCTL, argument: int = 0) -> Seen:
        """The child's call, which waits for its answer."""
        self.ask(b"I", command, argument)
        return self.seen.get(timeout=PATIENCE)


@pytest.fixture(autouse=True)
def wake_signal() -> Iterator[None]:
    before = signal.getsignal(signal.SIGURG)
    yield
    signal.signal(signal.SIGURG, before)


@pytest.fixture
def caller() -> Iterator[Caller]:
    with Caller() as caller:
        yield caller
        assert not caller.bugs, caller.bugs


# Answers


def test_what_is_seen_of_a_call(caller: Caller) -> None:
    seen = caller.call(IOCTL | 7, 0xFEDC_BA98_7654_3210)
    assert seen[1:7] == (
        caller.child.pid,
        arch.NATIVE["ioctl"],
        arch.ARCHES[0],
        100,
        IOCTL | 7,
        0xFEDC_BA98_7654_3210,
    )
    assert caller.notifier.answer(seen.notify_id, 0)
    assert caller.answer()[0] == 0


@pytest.mark.parametrize("value", [0, 1, 0x7FFF_FFFF, 0x1234_5678_9ABC_DEF0])
def test_a_value(caller: Caller, value: int) -> None:
    assert caller.notifier.answer(caller.call().notify_id, value)
    assert caller.answer()[0] == value


@pytest.mark.parametrize("number", [errno.EPERM, errno.EFAULT, errno.ENOSYS, 524])
def test_an_errno(caller: Caller, number: int) -> None:
    assert caller.notifier.answer(caller.call().notify_id, 0, number)
    assert caller.answer()[0] == -number


def test_go_on_as_if_not_trapped(caller: Caller) -> None:
    assert caller.notifier.continue_(caller.call().notify_id)
    assert caller.answer()[0] == -errno.ENOTTY


def test_one_answer_each(caller: Caller) -> None:
    first = caller.call()
    assert caller.notifier.is_valid(first.notify_id)
    assert caller.notifier.answer(first.notify_id, 1)
    assert caller.answer()[0] == 1
    assert not caller.notifier.is_valid(first.notify_id)
    assert not caller.notifier.answer(first.notify_id, 2)
    second = caller.call()
    assert second.notify_id != first.notify_id
    assert not caller.notifier.continue_(first.notify_id)
    assert caller.notifier.answer(second.notify_id, 3)
    assert caller.answer()[0] == 3


def test_any_thread_may_answer(caller: Caller) -> None:
    seen = caller.call()
    thread = threading.Thread(target=caller.notifier.answer, args=(seen.notify_id, 5))
    thread.start()
    assert caller.answer()[0] == 5
    thread.join()


def test_a_signal_does_not_end_a_wait(caller: Caller) -> None:
    """WAIT_KILLABLE_RECV, Linux 5.19: a handler runs when the call is back."""
    seen = caller.call()
    os.kill(caller.child.pid, signal.SIGUSR1)
    assert caller.notifier.is_valid(seen.notify_id)
    assert caller.notifier.answer(seen.notify_id, 9)
    assert caller.answer()[0] == 9
    assert caller.do(b"S")[0] == 1


# Descriptors


def inode(fd: int) -> int:
    return os.fstat(fd).st_ino


def test_a_descriptor_as_answer(caller: Caller) -> None:
    reader, writer = os.pipe()
    for fd, flags in ((reader, 0), (writer, os.O_CLOEXEC)):
        assert caller.notifier.answer_fd(caller.call().notify_id, fd, flags)
        number = caller.answer()[0]
        assert number >= 0
        cloexec = fcntl.FD_CLOEXEC if flags else 0
        assert caller.do(b"F", number) == (inode(fd), cloexec)
    os.close(reader)
    os.close(writer)


def test_a_descriptor_before_the_answer(caller: Caller) -> None:
    fd = os.memfd_create("installed")
    seen = caller.call()
    number = caller.notifier.install_fd(seen.notify_id, fd, os.O_CLOEXEC)
    assert number is not None
    assert caller.notifier.is_valid(seen.notify_id)
    caller.notifier.answer(seen.notify_id, 77)
    assert caller.answer()[0] == 77
    assert caller.do(b"F", number) == (inode(fd), fcntl.FD_CLOEXEC)
    os.close(fd)


def test_a_descriptor_in_place_of_another(caller: Caller) -> None:
    fd = os.memfd_create("in its place")
    before = caller.do(b"F", 100)
    seen = caller.call()
    assert caller.notifier.replace_fd(seen.notify_id, fd, 100, os.O_CLOEXEC)
    caller.notifier.answer(seen.notify_id, 0)
    assert caller.answer()[0] == 0
    assert before != caller.do(b"F", 100) == (inode(fd), fcntl.FD_CLOEXEC)
    os.close(fd)


def test_a_caller_without_room_for_a_descriptor(caller: Caller) -> None:
    caller.do(b"N", 3)  # 0, 1 and 2 are taken
    seen = caller.call()
    for install in (caller.notifier.answer_fd, caller.notifier.install_fd):
        with pytest.raises(OSError) as caught:
            install(seen.notify_id, 0)
        assert caught.value.errno == errno.EMFILE
    # It still waits, so it can be told.
    assert caller.notifier.answer(seen.notify_id, 0, errno.EMFILE)
    assert caller.answer()[0] == -errno.EMFILE


# Callers that are gone


def test_nobody_waits_any_more(caller: Caller) -> None:
    caller.ask(b"P", IOCTL)
    process = caller.answer()[0]
    seen = caller.seen.get(timeout=PATIENCE)
    assert seen.tid == process
    assert caller.notifier.is_valid(seen.notify_id)
    os.kill(process, signal.SIGKILL)
    assert caller.do(b"W", process)[0] == signal.SIGKILL
    notifier = caller.notifier
    assert not notifier.is_valid(seen.notify_id)
    assert not notifier.answer(seen.notify_id, 0)
    assert not notifier.continue_(seen.notify_id)
    assert not notifier.answer_fd(seen.notify_id, 0)
    assert not notifier.replace_fd(seen.notify_id, 0, 100, 0)
    assert notifier.install_fd(seen.notify_id, 0) is None
    # Others are served.
    notifier.answer(caller.call().notify_id, 3)
    assert caller.answer()[0] == 3


def receiving_thread() -> threading.Thread:
    return next(thread for thread in threading.enumerate() if thread.name == NAME)


def test_serving_ends_with_the_last_task(caller: Caller) -> None:
    """By itself since Linux 6.11; before, ``stop`` does it."""
    receiver = receiving_thread()
    caller.child.kill()
    version = tuple(int(part) for part in os.uname().release.split(".")[:2])
    receiver.join(PATIENCE if version >= (6, 11) else 0)
    if version < (6, 11):
        caller.notifier.stop()
    assert not receiver.is_alive()


# Who is served by what


def test_without_a_handler() -> None:
    caller = Caller()
    caller.notifier.calls = Notifier(caller.notifier.listener, caller.bugs.append).calls
    with caller:
        caller.ask(b"I", IOCTL)
        assert caller.answer()[0] == -errno.ENOSYS


def test_introductions(caller: Caller) -> None:
    notifier, child = caller.notifier, caller.child
    hellos: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    served: queue.SimpleQueue[tuple[int, int, int]] = queue.SimpleQueue()
    notifier.introductions[0x1234] = lambda *hello: hellos.put(hello)
    # With another token it is a client like any.
    stranger = caller.call(TA_IOC_HELLO, 0x1235)
    notifier.answer(stranger.notify_id, 0, errno.EINVAL)
    assert caller.answer()[0] == -errno.EINVAL

    caller.ask(b"I", TA_IOC_HELLO, 0x1234)
    notify_id, tid = hellos.get(timeout=PATIENCE)
    assert tid == child.pid
    notifier.services[tid] = lambda *call: served.put(call)
    notifier.answer(notify_id, 1)
    assert caller.answer()[0] == 1
    # A token is for once, and for the one who has it; whatever a service calls is its own.
    assert not notifier.introductions
    for command, argument in ((TA_IOC_NEXT, 5), (TA_IOC_HELLO, 0x1234), (IOCTL, 0)):
        caller.ask(b"I", command, argument)
        notify_id, *call = served.get(timeout=PATIENCE)
        assert call == [command, argument]
        notifier.answer(notify_id, 2)
        assert caller.answer()[0] == 2
    del notifier.services[tid]
    notifier.answer(caller.call(TA_IOC_NEXT).notify_id, 3)
    assert caller.answer()[0] == 3
    assert caller.seen.empty()


# Mistakes of our own


def test_a_handler_that_raises() -> None:
    mistakes: list[Exception] = [ValueError("one"), OSError(errno.EBADF, "two"), KeyError(3)]
    todo = list(mistakes)

    class Mistaken(Caller):
        def handle(self, *call: int) -> None:
            if todo:
                raise todo.pop(0)
            super().handle(*call)

    with Mistaken() as caller:
        for _ in mistakes:
            caller.ask(b"I", IOCTL)
            assert caller.answer()[0] == -errno.EIO
        assert caller.bugs == mistakes
        caller.notifier.answer(caller.call().notify_id, 4)
        assert caller.answer()[0] == 4


def test_a_handler_that_answers_and_then_raises() -> None:
    class Mistaken(Caller):
        def handle(self, *call: int) -> None:
            self.notifier.answer(call[0], call[6])
            raise ValueError(call[6])

    with Mistaken() as caller:
        for argument in range(20):
            caller.ask(b"I", IOCTL, argument)
            assert caller.answer()[0] == argument
        wait_until(lambda: len(caller.bugs) == 20)


# The end


def test_stop_lets_callers_go(caller: Caller) -> None:
    caller.ask(b"P", IOCTL)
    process = caller.answer()[0]
    waiting = [caller.seen.get(timeout=PATIENCE), caller.call()]
    assert waiting[0].tid == process
    receiver = receiving_thread()
    caller.notifier.stop()
    assert not receiver.is_alive()
    assert caller.answer()[0] == -errno.ENOSYS
    # And so does who calls from now on.
    assert caller.do(b"W", process)[0] == 1 << 8
    caller.ask(b"I", IOCTL)
    assert caller.answer()[0] == -errno.ENOSYS


def test_answers_after_the_end(caller: Caller) -> None:
    """Other threads may still be at work for callers."""
    seen = caller.call()
    caller.notifier.stop()
    caller.notifier.stop()
    assert not caller.notifier.is_valid(seen.notify_id)
    assert not caller.notifier.answer(seen.notify_id, 0)
    assert not caller.notifier.continue_(seen.notify_id)
    assert not caller.notifier.answer_fd(seen.notify_id, 0)
    assert not caller.notifier.replace_fd(seen.notify_id, 0, 100, 0)
    assert caller.notifier.install_fd(seen.notify_id, 0) is None
    assert caller.answer()[0] == -errno.ENOSYS


def in_a_thread(job: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=job, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return thread


@pytest.mark.parametrize("stop_in_thread", [False, True])
def test_started_in_another_thread(stop_in_thread: bool) -> None:
    """As the first session of a program may be opened by any of its threads."""
    caller = Caller()
    try:
        in_a_thread(lambda: caller.notifier.start(NAME))
        receiver = receiving_thread()
        caller.call()
        if stop_in_thread:
            stopping = in_a_thread(caller.notifier.stop)
            assert not stopping.is_alive()
        else:
            caller.notifier.stop()
        assert not receiver.is_alive()
        assert caller.answer()[0] == -errno.ENOSYS
    finally:
        caller.child.kill()
