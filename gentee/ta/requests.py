# SPDX-License-Identifier: BSD-2-Clause
"""Requests: what a service asks of the TEE, seen from the service (gentee.secure.requests).

The one system call is an ioctl that is trapped, so that a confined process can make requests.
"""

import fcntl
import mmap
import os

from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_SUCCESS


class Channel:
    """The request block of this process, and the call window behind it. One thread uses it."""

    def __init__(self) -> None:
        self._words: memoryview | None = None
        self._window: mmap.mmap | None = None
        self._window_size = 0

    def attach(self, words: memoryview) -> None:
        """Use the mailbox ``words``."""
        self._words = words

    def __getitem__(self, index: int) -> int:
        """A word of the block, Q_*."""
        assert self._words is not None
        word: int = self._words[index]
        return word

    def __setitem__(self, index: int, value: int) -> None:
        assert self._words is not None
        self._words[index] = value

    def ask(self, code: int) -> int:
        """Make the request ``code`` with what is in the block, and wait for its result."""
        fcntl.ioctl(0, ch.TA_IOC_REQUEST, code)
        return self[ch.Q_RET]

    def window(self, size: int) -> memoryview | None:
        """A view of the call window, of at least ``size`` bytes; None if the TEE has no room."""
        if size > self._window_size or self._window is None:
            self[ch.Q_FUNC] = size
            if self.ask(ch.RQ_CALL_WINDOW) != TEE_SUCCESS:
                return None
            fd, self._window_size = self[ch.Q_FUNC], self[ch.Q_SIZE]
            try:
                self._window = mmap.mmap(fd, self._window_size)
            except OSError:
                self._window_size = 0
                return None
            finally:
                os.close(fd)
        return memoryview(self._window)


CHANNEL = Channel()
