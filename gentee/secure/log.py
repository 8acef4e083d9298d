# SPDX-License-Identifier: BSD-2-Clause
"""What a service writes, as lines for the person at the terminal.

Descriptors 1 and 2 of the process are one pipe, so that ``print``, a traceback and a message of the
C library's all arrive here. A line that the service's log functions wrote starts with a byte that
says its level; any other is shown as information.
"""

import os

from gentee.abi.ta_channel import LOG_LINE_MAX
from gentee.core.host import LOG_ERROR, LOG_FLOW, LOG_INFO, Host


class ServiceLog:
    """The reading end. Everything but ``started`` belongs to the events thread."""

    def __init__(self, host: Host, source: str) -> None:
        self._host = host
        self._source = source
        self._rest = b""
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)

    def started(self) -> None:
        """The process has its end; ours of it is closed, so that its end shows."""
        os.close(self.writer)
        self.writer = -1
        self._host.events.add(self._reader, self.drain)

    def drain(self) -> None:
        """Take what is there."""
        if self._reader < 0:
            return
        while True:
            try:
                data = os.read(self._reader, 65536)
            except BlockingIOError:
                return
            if not data:
                self._finish()
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._line(line)
            if len(self._rest) > LOG_LINE_MAX:
                self._line(self._rest)
                self._rest = b""
            if len(data) < 65536:
                return

    def _line(self, line: bytes) -> None:
        level = LOG_INFO
        if line[:1] == b"\x01" and len(line) >= 2:
            level = min(max(line[1] - 0x30, LOG_ERROR), LOG_FLOW)
            line = line[2:]
        self._host.log(self._source, level, line[:LOG_LINE_MAX].decode("utf-8", "replace"))

    def _finish(self) -> None:
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        self._host.events.remove(self._reader)
        os.close(self._reader)
        self._reader = -1

    def close(self) -> None:
        """The process is gone: take the rest and forget it."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1
        self.drain()
        if self._reader >= 0:
            self._finish()
