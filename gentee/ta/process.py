# SPDX-License-Identifier: BSD-2-Clause
"""What the processes of all trusted services share: commands in, results out, log and waiting."""

import fcntl
import mmap
import os
import time
from collections.abc import Callable

from gentee.abi import ta_channel as ch
from gentee.errors import Cancel
from gentee.linux import arch
from gentee.linux.buffers import address_of
from gentee.linux.futex import futex_wait
from gentee.linux.libc import syscall
from gentee.ta.requests import CHANNEL


class Process:
    """The one service of this process. A kind of services says what each command does."""

    def __init__(self, mailbox: mmap.mmap) -> None:
        self._words = memoryview(mailbox).cast("Q")
        self._resting = address_of(memoryview(mailbox)) + 8 * ch.M_RESTING
        CHANNEL.attach(self._words)

    def run(self) -> None:
        """Serve commands until the instance is destroyed."""
        ioctl, words, call = fcntl.ioctl, self._words, self.call
        next_command = ch.TA_IOC_NEXT
        entry_points = {
            ch.TA_OPEN_SESSION: self.open_session,
            ch.TA_CLOSE_SESSION: self.close_session,
            ch.TA_CREATE: self.create,
            ch.TA_FORK: self.fork,
            ch.TA_REAP: self.reap,
            ch.TA_DUMP_MEMSTATS: self.dump_memstats,
        }
        while True:
            op = ioctl(0, next_command, 0)
            if op == ch.TA_INVOKE:
                words[ch.M_RET] = call(self.invoke)
            elif op in entry_points:
                words[ch.M_RET] = call(entry_points[op])
            elif op == ch.TA_DESTROY:
                self.destroy()
                os._exit(0)
            elif op == ch.TA_REST:
                while words[ch.M_RESTING]:
                    futex_wait(self._resting, 1)
                continue
            if words[ch.M_NUM_UNMAPS]:
                for key in words[ch.M_UNMAPS : ch.M_UNMAPS + words[ch.M_NUM_UNMAPS]].tolist():
                    self.unmap(key)
                words[ch.M_NUM_UNMAPS] = 0

    def new_maps(self) -> None:
        """Map what came with the command."""
        words = self._words
        for index in range(words[ch.M_NUM_MAPS]):
            key, fd, size = words[ch.M_MAPS + 3 * index : ch.M_MAPS + 3 * index + 3]
            self.map(key, fd, size)
        words[ch.M_NUM_MAPS] = 0

    # Of each kind of services.

    def call(self, entry_point: Callable[[], int | None]) -> int:
        """Call ``entry_point``; the command's result. What is a panic ends the process."""
        raise NotImplementedError

    def create(self) -> int | None:
        """Load the service that the command brings, and create the instance."""
        raise NotImplementedError

    def open_session(self) -> int | None:
        raise NotImplementedError

    def invoke(self) -> int | None:
        raise NotImplementedError

    def close_session(self) -> int | None:
        raise NotImplementedError

    def dump_memstats(self) -> int | None:
        raise NotImplementedError

    def fork(self) -> int | None:
        """Fork a process that introduces itself; 0, or an errno."""
        raise NotImplementedError

    def reap(self) -> int | None:
        """Collect a process that was forked and has ended."""
        raise NotImplementedError

    def destroy(self) -> None:
        """The process ends when this returns."""
        raise NotImplementedError

    def map(self, key: int, fd: int, size: int) -> None:
        """Map a descriptor's memory as ``key``, in place of what was that; the descriptor goes."""
        raise NotImplementedError

    def unmap(self, key: int) -> None:
        """Let go of a map, if it is there."""
        raise NotImplementedError

    # What services ask for.

    def log(self, level: int, text: str) -> None:
        """Write lines to the log."""
        self._words[ch.M_FLAGS] |= ch.R_LOGGED
        mark = b"\x01%d" % level
        data = b"".join(
            mark + line.encode("utf-8", "backslashreplace")[: ch.LOG_LINE_MAX] + b"\n"
            for line in str(text).split("\n")
        )
        self._write(data)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(1, data) :]

    def wait(self, milliseconds: int, masked: bool) -> None:
        """TEE_Wait: raises Cancel where the client asks for it, unless ``masked``."""
        if masked:  # then only the end of the process ends one for ever
            while milliseconds == 0xFFFF_FFFF:
                time.sleep(86400)
            time.sleep(milliseconds / 1000)
            return
        argument = milliseconds - (1 << 32) if milliseconds >= 1 << 31 else milliseconds
        if fcntl.ioctl(0, ch.TA_IOC_WAIT, argument) == 1:
            raise Cancel("cancelled by the client")

    def cancelled(self) -> bool:
        """Whether the client asks to end the command that runs."""
        return self._words[ch.M_CANCEL] != 0


def introduce(token: int) -> mmap.mmap:
    """Introduce this process with its token; its mailbox."""
    page = syscall("hello", arch.NATIVE["ioctl"], 0, ch.TA_IOC_HELLO, token)
    mailbox = mmap.mmap(page, ch.MAILBOX_SIZE)
    os.close(page)
    return mailbox
