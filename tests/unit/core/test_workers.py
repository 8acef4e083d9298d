# SPDX-License-Identifier: BSD-2-Clause
"""gentee.core.workers: every job has a thread, and threads do not stay for ever."""

import threading

import pytest

from gentee.core.workers import Workers
from tests.helpers import PATIENCE


def test_jobs_that_wait_for_one_another() -> None:
    # One thread too few, and the first jobs wait for the last one for ever.
    for _ in range(50):
        workers = Workers()
        barrier = threading.Barrier(9)
        for _ in range(8):
            workers.submit(lambda barrier=barrier: barrier.wait(PATIENCE))  # type: ignore[misc]
        barrier.wait(PATIENCE)
        assert not barrier.broken


def test_no_more_threads_than_the_limit() -> None:
    workers = Workers(limit=2)
    lock = threading.Lock()
    running = most = 0
    done = threading.Semaphore(0)

    def job() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1
        done.release()

    for _ in range(100):
        workers.submit(job)
    for _ in range(100):
        assert done.acquire(timeout=PATIENCE)
    assert most <= 2


def test_a_job_that_fails_is_reported_and_its_thread_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    workers = Workers(limit=1)
    done = threading.Event()
    workers.submit(lambda: 1 // 0)  # type: ignore[arg-type]
    workers.submit(done.set)
    assert done.wait(PATIENCE)
    assert [report.exc_type for report in reported] == [ZeroDivisionError]


def test_idle_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workers, "_IDLE_SECONDS", 0.001)
    workers = Workers()
    threads: list[threading.Thread] = []
    for _ in range(3):
        done = threading.Event()

        def job(done: threading.Event = done) -> None:
            threads.append(threading.current_thread())
            done.set()

        workers.submit(job)
        assert done.wait(PATIENCE)
        threads[-1].join(PATIENCE)
        assert not threads[-1].is_alive()


def test_a_thread_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is refused, or done by the threads there are; later ones are not miscounted."""
    workers = Workers()
    start = threading.Thread.start

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(OSError, match="temporarily"):
        workers.submit(print)
    monkeypatch.setattr(threading.Thread, "start", start)
    done, go_on = threading.Semaphore(0), threading.Event()

    def first() -> None:
        go_on.wait(PATIENCE)
        done.release()

    workers.submit(first)
    monkeypatch.setattr(threading.Thread, "start", fail)
    workers.submit(done.release)
    go_on.set()
    for _ in range(2):
        assert done.acquire(timeout=PATIENCE)


def test_a_job_that_ends_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends itself, not the thread that others count on."""
    reported: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_type))
    workers = Workers()

    def end() -> None:
        raise SystemExit

    done = threading.Semaphore(0)
    for _ in range(3):
        workers.submit(end)
        workers.submit(done.release)
        assert done.acquire(timeout=PATIENCE)
    assert set(reported) <= {SystemExit}
