# SPDX-License-Identifier: BSD-2-Clause
"""The door to trusted storage: requests are done one after the other, in a thread of WORKERS.

That thread may wait for the disk; commands of clients go on meanwhile. What does the work is
imported by the first request.
"""

import contextlib
import threading
from collections import deque
from functools import partial

from gentee.abi import ta_channel as ch
from gentee.core.workers import WORKERS
from gentee.errors import OutOfMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from gentee.core.host import Host
    from gentee.secure.instance import Instance
    from gentee.secure.nested import NestedCalls
    from gentee.secure.requests import Request
    from gentee.secure.state import State
    from gentee.secure.storage.service import Storage

    T = TypeVar("T")

_CODES = range(ch.RQ_STORAGE_OPEN, ch.RQ_STORAGE_STOP_ENUM + 1)


class StorageDoor:
    """Where requests come in.

    :param state: called by the thread that does them, when it is needed.
    """

    def __init__(self, host: "Host", state: "Callable[[], State]", nested: "NestedCalls") -> None:
        self._host = host
        self._state = state
        self._nested = nested
        self._storage: Storage | None = None  # of the one thread
        self._lock = threading.Lock()  # protects the two below
        self._jobs: deque[Callable[[Storage], None]] = deque()
        self._at_work = False
        self.handlers: dict[int, Callable[[Request], None]] = {
            code: partial(self._request, code) for code in _CODES
        }

    def _request(self, code: int, request: "Request") -> None:
        """Receiving thread: a service asks."""
        request.instance.uses_storage = True
        try:
            self._submit(lambda storage: storage.serve(request, code))
        except OSError as error:
            raise OutOfMemory("no thread") from error

    def again(self, request: "Request", code: int) -> None:
        """Any thread: what a request had to wait for is over."""
        try:
            self._request(code, request)
        except OutOfMemory as error:
            request.fail(error)

    def run(self, job: "Callable[[Storage], T]") -> "T":
        """Have a job done when those before it are, and wait for what it returns or raises.

        :raises OSError: no thread can be had.
        """
        found: list[T] = []
        failed: list[BaseException] = []
        done = threading.Event()

        def run(storage: "Storage") -> None:
            try:
                found.append(job(storage))
            except BaseException as error:
                failed.append(error)
            finally:
                done.set()

        self._submit(run)
        done.wait()
        if failed:
            raise failed[0]
        return found[0]

    def instance_ended(self, instance: "Instance") -> None:
        """Events thread: what an instance has open is released."""
        if instance.uses_storage:
            with contextlib.suppress(OSError):
                self._submit(lambda storage: storage.release(instance), keep=True)

    def _submit(self, job: "Callable[[Storage], None]", *, keep: bool = False) -> None:
        """Do a job when those before it are done.

        :param keep: also where no thread can be had now: then with the next one.
        :raises OSError: no thread can be had.
        """
        with self._lock:
            self._jobs.append(job)
            start = not self._at_work
            self._at_work = True
        if start:
            try:
                WORKERS.submit(self._work)
            except OSError:
                with self._lock:
                    self._at_work = False
                    if not keep:
                        self._jobs.remove(job)
                raise

    def _work(self) -> None:
        storage = self._storage
        if storage is None:
            from gentee.secure.storage.service import Storage

            storage = self._storage = Storage(self._host, self, self._state, self._nested)
        while True:
            with self._lock:
                if not self._jobs:
                    self._at_work = False
                    return
                job = self._jobs.popleft()
            try:
                job(storage)
            except Exception as error:  # a bug of ours costs this job only
                self._host.bug(error)
