# SPDX-License-Identifier: BSD-2-Clause
"""What the program that hosts a driver lends to it: threads, trapped processes, the log."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from gentee.linux.events import EventLoop
from gentee.linux.notify import Notifier

# Levels of a trusted service's log, as in OP-TEE's TRACE_* (trace_levels.h).
LOG_ERROR = 1
LOG_INFO = 2
LOG_DEBUG = 3
LOG_FLOW = 4
LOG_LEVEL_NAMES = {LOG_ERROR: "ERROR", LOG_INFO: "INFO", LOG_DEBUG: "DEBUG", LOG_FLOW: "FLOW"}


class Host(ABC):
    """The surroundings of a driver. One per program; all devices of it share one."""

    events: EventLoop

    @abstractmethod
    def notifier(self) -> Notifier:
        """The receiving end that processes started by :meth:`spawn_trapped` are trapped by."""

    @abstractmethod
    def spawn_trapped(self, module: str, socket_fd: int) -> None:
        """Start ``module`` in a fresh interpreter whose TEE ioctls come to :meth:`notifier`.

        Its ``main(socket_fd)`` is called with a duplicate of ``socket_fd``. It keeps nothing else
        of this program: no descriptor, an empty environment, an end with the program's end.
        """

    @abstractmethod
    def log(self, source: str, level: int, text: str) -> None:
        """One line from a trusted service, for the person who runs the program."""

    def log_block(self, source: str, level: int, lines: Sequence[str]) -> None:
        """Lines that belong together; the first one says what they are about."""
        for line in lines:
            self.log(source, level, line)

    @abstractmethod
    def warn(self, text: str) -> None:
        """One plain line for the person who runs the program."""

    @abstractmethod
    def bug(self, error: BaseException) -> None:
        """An exception that should not have been: report it once, with its traceback."""
