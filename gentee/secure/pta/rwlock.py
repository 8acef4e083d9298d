# SPDX-License-Identifier: BSD-2-Clause
"""A lock that several readers have at once, or one writer (OP-TEE core/kernel/mutex.c)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ReadWriteLock:
    """Writers go first: a reader that comes while one waits lets it pass, so none waits for ever.

    It cannot be taken twice by one thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()  # protects all below
        self._readers = 0
        self._waiting_writers = 0
        self._is_written = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Have it with other readers."""
        with self._changed:
            while self._is_written or self._waiting_writers:
                self._changed.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                if not self._readers:
                    self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Have it alone."""
        with self._changed:
            self._waiting_writers += 1
            while self._is_written or self._readers:
                self._changed.wait()
            self._waiting_writers -= 1
            self._is_written = True
        try:
            yield
        finally:
            with self._changed:
                self._is_written = False
                self._changed.notify_all()
