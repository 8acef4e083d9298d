# SPDX-License-Identifier: BSD-2-Clause
"""Hostile: a service that does what it must not, to the TEE that runs it."""

import os
import signal
import threading
from typing import Any

from gentee.abi import ta_channel as ch
from gentee.ta import Memref, Params, TrustedApplication, Value
from gentee.ta.api import TASK

EXIT = 0
ABORT = 1
STOP_AND_DIE = 2  # in the middle of its answer
SCRIBBLE = 3  # over all of the mailbox
SCRIBBLE_ON = 4  # from another thread, also when it is parked
WAITS = 5  # without end, and with its cancellation set by itself
UNKNOWN = 6  # commands of its channel that are not for it, or are none
LOG = 7  # more than anybody reads
NEXT = 8  # takes its next command in the middle of this one
CLOSE = 9  # all descriptors
SIZES = 10  # that cannot be
OTHER_THREADS = 11  # speak on its channel
FORK = 12  # children, that speak on its channel


def words() -> Any:
    """The mailbox, as the runtime has it."""
    return TASK.log.__self__._words


def ioctl(command: int, argument: int = 0) -> int:
    import fcntl

    try:
        return fcntl.ioctl(0, command, argument)
    except OSError as error:
        return -(error.errno or 1)


def scribble(turns: int) -> None:
    mailbox = words()
    for turn in range(turns):
        for index in range(len(mailbox)):
            mailbox[index] = (turn * 0x9E3779B97F4A7C15 + index) & 0xFFFF_FFFF_FFFF_FFFF


class Hostile(TrustedApplication):
    uuid = "0b57111e-7a3c-4f0d-9b7e-5c2d1f3a4b60"
    name = "hostile"

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        if command_id == EXIT:
            os._exit(0)
        elif command_id == ABORT:
            os.abort()
        elif command_id == STOP_AND_DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        elif command_id == SCRIBBLE:
            scribble(20)
        elif command_id == SCRIBBLE_ON:
            threading.Thread(target=scribble, args=(2000,), daemon=True).start()
        elif command_id == WAITS:
            self._waits()
        elif command_id == UNKNOWN:
            for command in (ch.TA_IOC_HELLO, 0xA4F3, 0xA4FF, 0x800CA400):
                for argument in (0, 1, -1, 1 << 30):
                    ioctl(command, argument)
        elif command_id == LOG:
            for _ in range(200):
                os.write(1, b"x" * 5000 + b"\n\x01\xff\x01" + bytes(range(256)))
        elif command_id == NEXT:
            ioctl(ch.TA_IOC_NEXT)
        elif command_id == CLOSE:
            os.closerange(0, 1024)
        elif command_id == SIZES:
            self._sizes(params)
        elif command_id == OTHER_THREADS:
            threads = [threading.Thread(target=self._speak) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        elif command_id == FORK:
            child = os.fork()
            if child == 0:
                self._speak()
                os._exit(0)
            os.waitpid(child, 0)

    def _waits(self) -> None:
        mailbox = words()
        for turn in range(300):
            mailbox[ch.M_CANCEL] = turn & 1
            ioctl(ch.TA_IOC_WAIT, turn & 3)

    def _sizes(self, params: Params) -> None:
        for param in params:
            if isinstance(param, Memref):
                param.size = (1 << 64) - 1
            elif isinstance(param, Value):
                param.a = param.b = (1 << 64) - 1

    def _speak(self) -> None:
        for _ in range(50):
            ioctl(ch.TA_IOC_HELLO, 1)
            ioctl(ch.TA_IOC_NEXT)
            ioctl(ch.TA_IOC_WAIT, 1)
