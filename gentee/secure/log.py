# SPDX-License-Identifier: BSD-2-Clause
"""What a service writes, as lines for the person at the terminal.

Descriptors 1 and 2 of the process are one pipe, so that ``print``, a traceback and a message of the
C library's all arrive here. A line that the service's log functions wrote starts with a byte that
says its level; any other is shown as information. A TA of OP-TEE that dies writes a crash report as
its last line, which is for somebody else to read.
"""

import os
from collections.abc import Callable

from gentee.abi.ta_channel import LOG_LINE_MAX, REPORT_MARK, REPORT_MAX
from gentee.core.host import LOG_ERROR, LOG_FLOW, LOG_INFO, Host

_PIPE_SIZE = 65536
_MARK_SIZE = 2


class ServiceLog:
    """The reading end. Everything but ``started`` belongs to the events thread.

    :param crashed: is given the crash report, if one comes: any bytes, up to REPORT_MAX. A
        process dies once, so a second one is a line as any other.
    """

    def __init__(
        self, host: Host, source: str, crashed: Callable[[bytes], None] | None = None
    ) -> None:
        self._host = host
        self._source = source
        self._crashed = crashed
        self._rest = b""
        self._cut = False  # what comes up to the next newline belongs to a line that was cut
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)

    def started(self) -> None:
        """The process has its end; ours of it is closed, so that its end shows."""
        os.close(self.writer)
        self.writer = -1
        self._host.events.add(self._reader, self.drain)

    def drain(self) -> None:
        """Take what is there, as much as a pipe holds: a service may write without end."""
        if self._reader < 0:
            return
        try:
            data = os.read(self._reader, _PIPE_SIZE)
        except BlockingIOError:
            return
        if not data:
            self._finish()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._cut and lines:
            self._cut = False
            del lines[0]
        for line in lines:
            self._line(line)
        if self._cut:
            self._rest = b""
        elif len(self._rest) > self._longest(self._rest):
            self._line(self._rest)
            self._rest = b""
            self._cut = True

    def _longest(self, line: bytes) -> int:
        """How long a line may be whose beginning is ``line``."""
        if self._crashed is not None and line[:1] == REPORT_MARK:
            return len(REPORT_MARK) + REPORT_MAX
        return _MARK_SIZE + LOG_LINE_MAX

    def _line(self, line: bytes) -> None:
        crashed = self._crashed
        if crashed is not None and line[:1] == REPORT_MARK and len(line) <= self._longest(line):
            self._crashed = None
            crashed(line[len(REPORT_MARK) :])
            return
        level = LOG_INFO
        if line[:1] == b"\x01" and len(line) >= _MARK_SIZE:
            level = min(max(line[1] - 0x30, LOG_ERROR), LOG_FLOW)
            line = line[_MARK_SIZE:]
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
