# SPDX-License-Identifier: BSD-2-Clause
"""gentee.secure.pta.rwlock, and the self tests."""

import os
import threading

import pytest

from gentee.secure.pta import self_tests
from gentee.secure.pta.rwlock import ReadWriteLock
from tests.helpers import PATIENCE, in_threads, wait_until


def test_readers_have_it_together() -> None:
    lock = ReadWriteLock()
    together = threading.Barrier(3)

    def read() -> None:
        with lock.reading():
            together.wait(PATIENCE)

    in_threads(read, read, read)


def test_a_writer_has_it_alone() -> None:
    lock = ReadWriteLock()
    inside: list[int] = []
    most: list[int] = []

    def write() -> None:
        for _ in range(100):
            with lock.writing():
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    def read() -> None:
        for _ in range(100):
            with lock.reading():
                most.append(len(inside) + 1)

    in_threads(write, write, read, read)
    assert set(most) == {1}


def test_a_reader_lets_a_waiting_writer_pass() -> None:
    lock = ReadWriteLock()
    order: list[str] = []
    go_on = threading.Event()

    def first() -> None:
        with lock.reading():
            assert go_on.wait(PATIENCE)

    def write() -> None:
        with lock.writing():
            order.append("writer")

    def later() -> None:
        with lock.reading():
            order.append("reader")

    threads = [threading.Thread(target=first, daemon=True)]
    threads[0].start()
    wait_until(lambda: lock._readers == 1)
    threads.append(threading.Thread(target=write, daemon=True))
    threads[1].start()
    wait_until(lambda: lock._waiting_writers == 1)
    threads.append(threading.Thread(target=later, daemon=True))
    threads[2].start()
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == ["writer", "reader"]


def test_an_error_lets_go_of_it() -> None:
    lock = ReadWriteLock()
    for having in (lock.writing, lock.reading):
        with pytest.raises(ZeroDivisionError), having():
            raise ZeroDivisionError
    with lock.writing():
        pass


@pytest.mark.parametrize("test", self_tests.TESTS)
def test_self_tests(test: object) -> None:
    test()  # type: ignore[operator]


def test_a_self_test_that_fails_is_said() -> None:
    def test_arithmetic() -> None:
        self_tests._require(1 + 1 == 3, "one and one")

    def test_other() -> None:
        raise OSError(12, "no memory")

    assert self_tests.failures(test_arithmetic, test_other, self_tests.test_ids) == [
        "test_arithmetic: AssertionError: one and one",
        "test_other: OSError: [Errno 12] no memory",
    ]


@pytest.mark.parametrize(
    ("name", "replacement"),
    [
        ("huk_subkey_derive", lambda *arguments: bytes(32)),
        ("to_struct", lambda octets: octets),
        ("create_shm", lambda size, name: os.memfd_create(name)),
    ],
)
def test_self_tests_find_what_is_broken(
    monkeypatch: pytest.MonkeyPatch, name: str, replacement: object
) -> None:
    monkeypatch.setattr(self_tests, name, replacement)
    assert len(self_tests.failures(*self_tests.TESTS)) == 1
