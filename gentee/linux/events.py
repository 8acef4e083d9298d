# SPDX-License-Identifier: BSD-2-Clause
"""Slow events: one thread, one epoll, timers, and work handed over from other threads."""

import heapq
import itertools
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

Callback = Callable[[], None]


class Timer:
    """A pending :meth:`EventLoop.call_later`; ``cancel`` it at any time."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class EventLoop:
    """Hang-ups, file events, children's ends, logs: all that is not on the road of a call.

    ``add``, ``remove``, ``call_soon`` and ``call_later`` may be called from any thread; callbacks
    run in the loop's own. One that fails is reported and the loop goes on.
    """

    def __init__(self, on_bug: Callable[[BaseException], None]) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        self._soon: deque[Callback] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_lock = threading.Lock()  # protects _timers
        self._order = itertools.count()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._on_bug = on_bug
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self, name: str = "gentee-events") -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after what is queued has run."""
        self._stopping = True
        self.wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._epoll.close()
        os.close(self._wake)

    def wake(self) -> None:
        os.eventfd_write(self._wake, 1)

    def add(self, fd: int, callback: Callback, events: int = select.EPOLLIN) -> None:
        """Call back while ``fd`` has one of ``events``, a hang-up or an error."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, events)

    def remove(self, fd: int) -> None:
        """Forget ``fd``; before it is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_soon(self, callback: Callback) -> None:
        """Call back once, in the loop's thread."""
        self._soon.append(callback)
        self.wake()

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Call back once, ``seconds`` from now."""
        timer = Timer(callback)
        with self._timer_lock:
            due = time.monotonic() + seconds
            heapq.heappush(self._timers, (due, next(self._order), timer))
            first = self._timers[0][2] is timer
        if first:
            self.wake()
        return timer

    def in_loop(self) -> bool:
        return threading.current_thread() is self._thread

    def run(self) -> None:
        """Serve until :meth:`stop`."""
        while True:
            timeout = self._run_timers()
            if self._soon:
                timeout = 0
            for fd, _mask in self._epoll.poll(timeout):
                if fd == self._wake:
                    os.eventfd_read(self._wake)
                    continue
                callback = self._callbacks.get(fd)
                if callback is not None:
                    self._call(callback)
            while self._soon:
                self._call(self._soon.popleft())
            if self._stopping:
                return

    def _run_timers(self) -> float | None:
        while True:
            with self._timer_lock:
                if not self._timers:
                    return None
                due, _, timer = self._timers[0]
                left = due - time.monotonic()
                if timer.callback is not None and left > 0:
                    return left
                heapq.heappop(self._timers)
            if timer.callback is not None:
                self._call(timer.callback)

    def _call(self, callback: Callback) -> None:
        try:
            callback()
        except Exception as error:  # our own bug: report it and keep serving
            self._on_bug(error)
