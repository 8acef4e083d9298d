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

_MANY_TIMERS = 256


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
        self._settle: dict[int, Callback] = {}  # by descriptor
        self._soon: deque[Callback] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_lock = threading.Lock()  # protects _timers
        self._many_timers = _MANY_TIMERS
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
        # Threads that are late must not write to whatever gets the number next.
        wake, self._wake = self._wake, -1
        if wake >= 0:
            os.close(wake)

    def wake(self) -> None:
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def add(
        self,
        fd: int,
        callback: Callback,
        events: int = select.EPOLLIN,
        *,
        settle: Callback | None = None,
    ) -> None:
        """Call back while ``fd`` has one of ``events``, a hang-up or an error.

        :param settle: called by :meth:`settle`, so in any thread, and with nothing to do as well.
        """
        self._callbacks[fd] = callback
        try:
            self._epoll.register(fd, events)
        except BaseException:
            del self._callbacks[fd]
            raise
        if settle is not None:
            self._settle[fd] = settle

    def remove(self, fd: int) -> None:
        """Forget ``fd``; before it is closed."""
        self._settle.pop(fd, None)
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def settle(self) -> None:
        """Look now, in this thread: what clients have closed has ended when this returns.

        For whoever is about to refuse something because it is in use. In the kernel close() returns
        when all is done; here it returns first.
        """
        for callback in tuple(self._settle.values()):
            self._call(callback)

    def call_soon(self, callback: Callback) -> None:
        """Call back once, in the loop's thread."""
        self._soon.append(callback)
        self.wake()

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Call back once, ``seconds`` from now."""
        timer = Timer(callback)
        with self._timer_lock:
            if len(self._timers) >= self._many_timers:
                # Cancelled ones are left until they are due, which may be never.
                self._timers = [entry for entry in self._timers if entry[2].callback is not None]
                heapq.heapify(self._timers)
                self._many_timers = max(_MANY_TIMERS, 2 * len(self._timers))
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
            if self._epoll.closed:  # stopped by a callback
                return
            if self._soon:
                timeout = 0
            self._dispatch(self._epoll.poll(timeout))
            stopping = self._stopping  # looked at first: what was queued before the end still runs
            # Those that come meanwhile have their turn after the next look at descriptors.
            for _ in range(len(self._soon)):
                self._call(self._soon.popleft())
            if stopping:
                return

    def _dispatch(self, events: list[tuple[int, int]]) -> None:
        # Who is meant is settled before any callback runs: one of them may close a descriptor whose
        # number another thread then gives to something new.
        ready = [(fd, self._callbacks.get(fd)) for fd, _mask in events]
        for fd, callback in ready:
            if fd == self._wake:
                os.eventfd_read(self._wake)
            elif callback is not None and self._callbacks.get(fd) is callback:
                self._call(callback)

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


class HangUps:
    """Pipes that are held at their writing end, so that the end of the last reader shows.

    Each callback is called once, in the loop's thread or in that of :meth:`EventLoop.settle`.
    """

    def __init__(self, events: EventLoop) -> None:
        self._events = events
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        # Held while callbacks run: who comes second waits until what ended has ended.
        self._lock = threading.Lock()
        events.add(self._epoll.fileno(), self.read, settle=self.read)

    def add(self, writer: int, callback: Callback) -> None:
        """Call back when nobody has a reading end any more; it may close ``writer``."""
        self._callbacks[writer] = callback
        self._epoll.register(writer, 0)

    def remove(self, writer: int) -> bool:
        """Forget ``writer``, before it is closed; False if it is not known, or not any more."""
        with self._lock:
            if self._callbacks.pop(writer, None) is None:
                return False
            self._epoll.unregister(writer)
            return True

    def read(self) -> None:
        """Call back for those that are there."""
        with self._lock:
            for writer, _mask in self._epoll.poll(0):
                self._epoll.unregister(writer)
                self._events._call(self._callbacks.pop(writer))
