# SPDX-License-Identifier: BSD-2-Clause
"""The events thread: descriptors, timers, work from other threads, and mistakes in callbacks."""

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from gentee.linux.events import EventLoop, HangUps
from tests.helpers import PATIENCE, in_threads, open_descriptors, wait_until


@pytest.fixture
def bugs() -> list[BaseException]:
    return []


@pytest.fixture
def loop(bugs: list[BaseException]) -> Iterator[EventLoop]:
    loop = EventLoop(bugs.append)
    loop.start()
    yield loop
    loop.stop()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield pipe
    for fd in pipe:
        try:
            os.close(fd)
        except OSError:  # the test has done so
            pass


def run_in(loop: EventLoop, job: Callable[[], object]) -> None:
    """Run ``job`` in the loop and wait for it; its error is raised here."""
    done = threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)
        done.set()

    loop.call_soon(run)
    assert done.wait(PATIENCE)
    if errors:
        raise errors[0]


def wait_for(event: threading.Event) -> None:
    assert event.wait(PATIENCE)


# Work from other threads


def test_call_soon_keeps_the_order(loop: EventLoop) -> None:
    seen: list[int] = []
    for number in range(100):
        loop.call_soon(partial(seen.append, number))
    run_in(loop, lambda: None)
    assert seen == list(range(100))


def test_call_soon_from_many_threads(loop: EventLoop) -> None:
    seen: list[tuple[int, int]] = []
    threads: set[threading.Thread] = set()

    def job(thread: int) -> None:
        for number in range(200):

            def callback(call: tuple[int, int] = (thread, number)) -> None:
                seen.append(call)
                threads.add(threading.current_thread())

            loop.call_soon(callback)

    in_threads(*[partial(job, thread) for thread in range(5)])
    run_in(loop, lambda: None)
    assert len(seen) == 1000
    for thread in range(5):
        assert [number for owner, number in seen if owner == thread] == list(range(200))
    assert len(threads) == 1


def test_in_loop(loop: EventLoop) -> None:
    assert not loop.in_loop()
    answers: list[bool] = []
    run_in(loop, lambda: answers.append(loop.in_loop()))
    assert answers == [True]


def test_work_that_makes_work_lets_others_in(loop: EventLoop, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    readable = threading.Event()
    loop.add(reader, readable.set)

    def again() -> None:
        if not readable.is_set():
            loop.call_soon(again)

    loop.call_soon(again)
    os.write(writer, b"x")
    assert readable.wait(PATIENCE)
    run_in(loop, lambda: loop.remove(reader))


# Timers


def test_timers_in_order(loop: EventLoop) -> None:
    seen: list[int] = []
    done = threading.Event()

    def start() -> None:  # in the loop, so that none runs before all are there
        for order in (3, 1, 4, 0, 2):
            loop.call_later(order / 1000, partial(seen.append, order))
        loop.call_later(0.005, done.set)

    run_in(loop, start)
    assert done.wait(PATIENCE)
    assert seen == [0, 1, 2, 3, 4]


def test_timers_of_one_moment_in_the_order_of_their_calls(loop: EventLoop) -> None:
    seen: list[int] = []
    done = threading.Event()

    def start() -> None:
        for number in range(50):
            loop.call_later(0, partial(seen.append, number))
        loop.call_later(0, done.set)

    run_in(loop, start)
    assert done.wait(PATIENCE)
    assert seen == list(range(50))


def test_a_timer_is_not_early(loop: EventLoop) -> None:
    before = time.monotonic()
    when: list[float] = []
    loop.call_later(0.02, lambda: when.append(time.monotonic()))
    wait_until(lambda: when)
    assert when[0] - before >= 0.02


def test_an_earlier_timer_wakes_the_loop(loop: EventLoop) -> None:
    late = loop.call_later(3600, lambda: None)
    done = threading.Event()
    loop.call_later(0.001, done.set)
    assert done.wait(PATIENCE)
    late.cancel()


def test_cancelled_timers(loop: EventLoop) -> None:
    seen: list[str] = []
    done = threading.Event()

    def start() -> None:
        first = loop.call_later(0.001, lambda: seen.append("cancelled by another"))
        loop.call_later(0, first.cancel)
        second = loop.call_later(0, lambda: seen.append("cancelled at once"))
        second.cancel()
        second.cancel()
        loop.call_later(0.002, done.set)

    run_in(loop, start)
    assert done.wait(PATIENCE)
    assert seen == []


def test_cancelled_timers_are_forgotten(loop: EventLoop) -> None:
    keep = loop.call_later(3600, lambda: None)
    for _ in range(5000):
        loop.call_later(7200, lambda: None).cancel()
    assert len(loop._timers) < 1000
    keep.cancel()


def test_timers_from_many_threads(loop: EventLoop) -> None:
    seen: list[int] = []

    def job() -> None:
        for number in range(100):
            loop.call_later(number % 3 / 1000, partial(seen.append, number))

    in_threads(*[job] * 4)
    wait_until(lambda: len(seen) == 400)


# Descriptors


def test_a_descriptor_is_called_while_it_is_ready(loop: EventLoop, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    seen = b""
    done = threading.Event()

    def read() -> None:
        nonlocal seen
        seen += os.read(reader, 1)  # a byte each time
        if len(seen) == 5:
            done.set()

    loop.add(reader, read)
    os.write(writer, b"hello")
    assert done.wait(PATIENCE)
    assert seen == b"hello"
    run_in(loop, lambda: None)
    assert seen == b"hello"
    loop.remove(reader)
    os.write(writer, b"unheard")
    run_in(loop, lambda: None)
    assert seen == b"hello"
    loop.remove(reader)


def test_a_hang_up_needs_no_events(loop: EventLoop, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    gone = threading.Event()

    def hang_up() -> None:
        loop.remove(writer)
        gone.set()

    loop.add(writer, hang_up, 0)
    os.write(writer, b"no event")
    run_in(loop, lambda: None)
    assert not gone.is_set()
    os.close(reader)
    assert gone.wait(PATIENCE)


def test_add_and_remove_in_callbacks(loop: EventLoop) -> None:
    """Each callback removes itself and adds the next."""
    pipes = [os.pipe() for _ in range(10)]
    seen: list[int] = []
    done = threading.Event()

    def arrive(number: int) -> None:
        seen.append(number)
        loop.remove(pipes[number][0])
        if number + 1 == len(pipes):
            done.set()
        else:
            loop.add(pipes[number + 1][0], lambda: arrive(number + 1))

    for _, writer in pipes:
        os.write(writer, b"x")
    loop.add(pipes[0][0], lambda: arrive(0))
    assert done.wait(PATIENCE)
    assert seen == list(range(10))
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


def ready_together(loop: EventLoop, jobs: dict[int, Callable[[], None]]) -> None:
    """Let all of the descriptors become known to the loop at once; all are readable."""

    def add() -> None:
        for fd, job in jobs.items():
            loop.add(fd, job)

    run_in(loop, add)


def test_one_removes_another_that_is_ready(loop: EventLoop) -> None:
    pipes = [os.pipe() for _ in range(2)]
    readers = [reader for reader, _ in pipes]
    seen: list[int] = []

    def first_removes_second(mine: int, other: int) -> None:
        seen.append(mine)
        for reader in readers:
            loop.remove(reader)

    for _, writer in pipes:
        os.write(writer, b"x")
    one, two = readers
    ready_together(
        loop,
        {one: lambda: first_removes_second(one, two), two: lambda: first_removes_second(two, one)},
    )
    wait_until(lambda: seen)
    run_in(loop, lambda: None)
    assert len(seen) == 1
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


def test_a_number_that_is_used_again_at_once(loop: EventLoop, pipe: tuple[int, int]) -> None:
    """What was ready under a number has nothing to do with who has the number now."""
    silent, _ = pipe
    pipes = [os.pipe() for _ in range(2)]
    for _, writer in pipes:
        os.write(writer, b"x")
    one, two = (reader for reader, _ in pipes)
    seen: list[int] = []
    wrong: list[int] = []

    def take_the_place_of(other: int) -> None:
        seen.append(other)
        for fd in (one, two):
            loop.remove(fd)
        os.dup2(silent, other)
        loop.add(other, lambda: wrong.append(other))

    ready_together(loop, {one: lambda: take_the_place_of(two), two: lambda: take_the_place_of(one)})
    wait_until(lambda: seen)
    run_in(loop, lambda: None)
    assert len(seen) == 1
    assert wrong == []
    loop.remove(seen[0])
    for each in pipes:
        for fd in each:
            os.close(fd)


# Mistakes


def test_a_callback_that_fails_is_reported(
    loop: EventLoop, bugs: list[BaseException], pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    mistakes = [ValueError("soon"), KeyError("later"), OSError("descriptor")]

    def fail(error: Exception) -> None:
        raise error

    def fail_to_read() -> None:
        loop.remove(reader)
        fail(mistakes[2])

    loop.call_soon(lambda: fail(mistakes[0]))
    run_in(loop, lambda: None)
    loop.call_later(0, lambda: fail(mistakes[1]))
    wait_until(lambda: len(bugs) == 2)
    loop.add(reader, fail_to_read)
    os.write(writer, b"x")
    wait_until(lambda: len(bugs) == 3)
    assert bugs == mistakes
    run_in(loop, lambda: None)


# The end


def test_what_is_queued_runs_before_the_end(bugs: list[BaseException]) -> None:
    loop = EventLoop(bugs.append)
    loop.start("of this test")
    seen: list[int] = []
    hold = threading.Event()
    loop.call_soon(lambda: wait_for(hold))
    for number in range(10):
        loop.call_soon(partial(seen.append, number))
    hold.set()
    loop.stop()
    assert seen == list(range(10))
    assert not [t for t in threading.enumerate() if t.name == "of this test"]


def test_nothing_is_left_behind(bugs: list[BaseException]) -> None:
    before = open_descriptors()
    loop = EventLoop(bugs.append)
    loop.start("of this name")
    assert [t for t in threading.enumerate() if t.name == "of this name"]
    loop.call_later(3600, lambda: None)
    loop.stop()
    assert open_descriptors() <= before
    # A loop that was never started ends as well.
    EventLoop(bugs.append).stop()
    assert open_descriptors() <= before


@pytest.mark.parametrize("how", ["soon", "later"])
def test_a_callback_may_end_it(bugs: list[BaseException], how: str) -> None:
    loop = EventLoop(bugs.append)
    loop.start("ends itself")
    if how == "soon":
        loop.call_soon(loop.stop)
    else:
        loop.call_later(0, loop.stop)
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "ends itself"])
    assert not bugs


def test_after_the_end(bugs: list[BaseException], pipe: tuple[int, int]) -> None:
    """Threads that are late do no harm, in particular to who has the loop's descriptor now."""
    loop = EventLoop(bugs.append)
    loop.start()
    wake = loop._wake
    loop.stop()
    reader, writer = pipe
    os.dup2(writer, wake)
    loop.call_soon(lambda: None)
    loop.call_later(0, lambda: None)
    loop.wake()
    loop.stop()
    with pytest.raises(BlockingIOError):
        os.read(reader, 8)
    os.close(wake)


# Hang-ups


def test_hang_ups(loop: EventLoop) -> None:
    hang_ups = HangUps(loop)
    pipes = [os.pipe() for _ in range(3)]
    ended: list[int] = []
    for _, writer in pipes:
        hang_ups.add(writer, partial(ended.append, writer))
    os.close(os.dup(pipes[1][0]))
    run_in(loop, lambda: None)
    assert ended == []
    again = os.dup(pipes[1][0])
    os.close(pipes[1][0])
    run_in(loop, lambda: None)
    assert ended == []
    os.close(again)
    wait_until(lambda: ended == [pipes[1][1]])
    run_in(loop, lambda: None)
    assert ended == [pipes[1][1]]  # once
    os.close(pipes[0][0])
    os.close(pipes[2][0])
    wait_until(lambda: len(ended) == 3)
    for _, writer in pipes:
        os.close(writer)


def test_a_callback_that_waits_for_the_next_hang_up(loop: EventLoop) -> None:
    """Somebody opened the pipe again meanwhile."""
    hang_ups = HangUps(loop)
    reader, writer = os.pipe()
    readers: list[int] = []

    def hang_up() -> None:
        if not readers:
            readers.append(os.open(f"/proc/self/fd/{writer}", os.O_RDONLY | os.O_NONBLOCK))
            hang_ups.add(writer, hang_up)
        else:
            readers.append(-1)

    hang_ups.add(writer, hang_up)
    os.close(reader)
    wait_until(lambda: len(readers) == 1)
    run_in(loop, lambda: None)
    assert len(readers) == 1
    os.close(readers[0])
    wait_until(lambda: len(readers) == 2)
    os.close(writer)


def test_settle_looks_at_once(loop: EventLoop, bugs: list[BaseException]) -> None:
    """In the thread that asks, while the loop's own is busy."""
    hang_ups = HangUps(loop)
    busy, inside = threading.Event(), threading.Event()

    def be_busy() -> None:
        inside.set()
        busy.wait(PATIENCE)

    loop.call_soon(be_busy)
    assert inside.wait(PATIENCE)
    reader, writer = os.pipe()
    ended: list[threading.Thread] = []
    hang_ups.add(writer, lambda: ended.append(threading.current_thread()))
    loop.settle()
    assert ended == []
    os.close(reader)
    loop.settle()
    assert ended == [threading.current_thread()]
    busy.set()
    run_in(loop, lambda: None)
    assert len(ended) == 1
    os.close(writer)
    assert not bugs


def test_epoll_of_the_loop_is_its_own(loop: EventLoop) -> None:
    """A descriptor that cannot be waited for is refused, and leaves nothing behind."""
    fd = os.memfd_create("always ready")
    with pytest.raises(PermissionError):
        loop.add(fd, lambda: None, select.EPOLLIN)
    loop.remove(fd)
    os.close(fd)
