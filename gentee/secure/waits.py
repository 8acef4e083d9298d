# SPDX-License-Identifier: BSD-2-Clause
"""The waits of a service: TA_IOC_WAIT, which is answered when its time is up or it is cancelled.

A service waits in one trapped call at a time. Nothing here waits: a timer of the events thread
answers the call, or who cancels it does.
"""

from gentee.core.host import Host
from gentee.linux.events import Timer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.linux.notify import Notifier

_FOR_EVER = 0xFFFF_FFFF  # TEE_TIMEOUT_INFINITE


class Waits:
    """The wait of one instance's service, where it is in one."""

    __slots__ = ("_host", "_notifier", "_tid", "_timer", "notify_id")

    def __init__(self, host: Host, notifier: "Notifier") -> None:
        self._host = host
        self._notifier = notifier
        self._tid = 0
        self._timer: Timer | None = None
        self.notify_id = 0  # of the trapped call that it waits in

    def begin(self, notify_id: int, tid: int, milliseconds: int) -> None:
        """Receiving thread: the thread ``tid`` waits; 32 bits of ``milliseconds`` count."""
        self._tid = tid
        self.notify_id = notify_id
        milliseconds &= 0xFFFF_FFFF
        if milliseconds != _FOR_EVER:
            self._timer = self._host.events.call_later(
                milliseconds / 1000, lambda: self.end(0, notify_id)
            )

    def end(self, value: int, only: int = 0) -> None:
        """Events thread: answer the wait, if there is one, with ``value``.

        :param only: the notification that is meant; another wait goes on.
        """
        notify_id = self.notify_id
        if not notify_id or (only and only != notify_id):
            return
        self.notify_id = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._notifier.wake_ups.begin(self._tid)
        self._notifier.answer(notify_id, value)

    def close(self) -> None:
        """Events thread: the process is gone."""
        if self._timer is not None:
            self._timer.cancel()
