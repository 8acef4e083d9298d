# SPDX-License-Identifier: BSD-2-Clause
"""Who chooses the CPU of a wake-up: the one who wakes, or the scheduler.

``FD_SYNC_WAKE_UP`` makes caller and listener wake each other on the current CPU. For one caller at a
time that is best by far, since no idle CPU has to be woken. Several callers at once it holds on one
CPU, while the others idle.

In the first state a crowd shows as callers that alternate. Then wake-ups are left to the scheduler
for a trial: with a real crowd the next notification is usually there before the last one is
answered, no CPU gets to sleep, and the state stays. Where nobody waits the alternating callers
wait for each other instead (one hands over to the next), and the first state is the better one;
the next trial then comes twice as late.
"""

import select

from gentee.linux.seccomp import set_sync_wake_up

SAMPLE = 16  # notifications in a sample
_TRIAL = 16  # samples in a trial
_PATIENCE = 4  # samples with alternating callers before a trial
_PATIENCE_MAX = 1 << 14


class WakeUpPolicy:
    """Of one listener; used by its receiving thread alone."""

    def __init__(self, listener: int) -> None:
        self.supported = set_sync_wake_up(listener)
        self._listener = listener
        self._on_one_cpu = self.supported
        self._poller = select.poll()
        self._poller.register(listener, select.POLLIN)
        self._alternating = 0
        self._patience = _PATIENCE
        self._samples = 0
        self._waiting = 0

    def sample(self, changes: int) -> None:
        """After :data:`SAMPLE` notifications, of which ``changes`` had a new caller."""
        if self._on_one_cpu:
            self._alternating = self._alternating + 1 if changes * 4 >= SAMPLE else 0
            if self._alternating >= self._patience:
                self._set(False)
        elif self.supported:
            self._samples += 1
            self._waiting += bool(self._poller.poll(0))
            if self._samples == _TRIAL:
                if self._waiting * 4 < _TRIAL:
                    self._patience = min(2 * self._patience, _PATIENCE_MAX)
                    self._set(True)
                else:
                    self._patience = _PATIENCE
                self._samples = self._waiting = 0

    def _set(self, on_one_cpu: bool) -> None:
        self._on_one_cpu = on_one_cpu
        self._alternating = 0
        set_sync_wake_up(self._listener, on_one_cpu)
