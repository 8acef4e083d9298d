# SPDX-License-Identifier: BSD-2-Clause
"""Threads for what may wait: drivers that block, and copies that are long."""

import errno
import os
import queue
import threading
from collections.abc import Callable


class Workers:
    """A pool that grows with what waits, up to a limit; idle threads end by themselves.

    Below the limit every job has a thread: one may wait for what another one does.
    """

    _IDLE_SECONDS = 5.0

    def __init__(self, limit: int = 128) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()  # protects _threads and _unfinished
        self._threads = 0
        self._unfinished = 0  # jobs that wait or run
        self._limit = limit

    def submit(self, job: Callable[[], None]) -> None:
        """Run ``job`` in one of the threads, soon. OSError EAGAIN where no thread can be had."""
        with self._lock:
            if self._unfinished >= self._threads and self._threads < self._limit:
                try:
                    threading.Thread(target=self._work, name="gentee-worker", daemon=True).start()
                except RuntimeError as error:  # the machine has no more: those there are must do
                    if not self._threads:
                        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
                else:
                    self._threads += 1
            self._unfinished += 1
            self._jobs.put(job)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    # submit() may have counted on this thread a moment ago.
                    if not self._jobs.empty():
                        continue
                    self._threads -= 1
                    return
            try:
                job()
            except BaseException as error:  # reported as any thread's: threading.excepthook
                threading.excepthook(
                    threading.ExceptHookArgs(
                        (type(error), error, error.__traceback__, threading.current_thread())
                    )
                )
            finally:
                del job  # what it holds is not kept for as long as the thread is idle
                with self._lock:
                    self._unfinished -= 1


WORKERS = Workers()
