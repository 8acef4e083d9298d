# SPDX-License-Identifier: BSD-2-Clause
"""Limits of services, and the watchdog that ends what takes more than its share of CPU time.

It looks now and then, in the events thread, while there are instances; calls cost nothing more for
it. What a command has taken is the difference of what its process had taken at two looks.
"""

import time

from gentee.core.host import LOG_ERROR, Host
from gentee.secure.commands import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gentee.secure.instance import Instance

MEMORY_LIMIT = 64  # MiB
CPU_LIMIT = 60.0  # seconds

_LOOK_SECONDS = 1.0  # between two looks; less where the limit is short
_LOOKS = 8  # in the time of a limit, at least
_LEAST_LOOK = 0.02


class Limits:
    """What each service's process may use.

    :param memory: MiB of private memory, with the interpreter's own ten or so.
    :param cpu: seconds of CPU time that a command may take, 0 for no limit.
    """

    __slots__ = ("cpu", "memory")

    def __init__(self, memory: int = MEMORY_LIMIT, cpu: float = CPU_LIMIT) -> None:
        self.memory = memory
        self.cpu = cpu


def cpu_time(pid: int) -> float:
    """Seconds of CPU time that a process has taken; raises OSError when it is gone.

    By the clock that clock_getcpuclockid(3) names: it needs no file, and no permission.
    """
    return time.clock_gettime(~pid << 3 | 2)


class _Seen:
    """A command that was under way at an earlier look."""

    __slots__ = ("command", "cpu", "unwanted_since")

    def __init__(self, command: Command, cpu: float) -> None:
        self.command = command
        self.cpu = cpu
        self.unwanted_since = 0.0


class Watchdog:
    """Watches the instances of one TEE.

    :param instances: those that are alive; called in the events thread.
    """

    def __init__(
        self, host: Host, limits: Limits, instances: "Callable[[], list[Instance]]"
    ) -> None:
        self._host = host
        self._limit = limits.cpu
        self._instances = instances
        self._seen: dict[Instance, _Seen] = {}
        self._running = False
        self._pause = _LOOK_SECONDS
        if limits.cpu:
            self._pause = max(min(_LOOK_SECONDS, limits.cpu / _LOOKS), _LEAST_LOOK)
        # A command that nobody waits for may still take as long as a command may.
        self._grace = limits.cpu or CPU_LIMIT

    def watch(self) -> None:
        """There is an instance now: look, until there is none. One thread at a time."""
        if not self._running:
            self._running = True
            self._host.events.call_later(self._pause, self._look)

    def _look(self) -> None:
        instances = self._instances()
        if not instances:
            self._seen.clear()
            self._running = False
            if self._instances():  # it came just now, and saw that we were still looking
                self.watch()
            return
        self._host.events.call_later(self._pause, self._look)
        seen, self._seen = self._seen, {}
        for instance in instances:
            command = instance.current
            if command is None or not instance.pid:
                continue
            try:
                cpu = cpu_time(instance.pid)
            except OSError:  # it has just ended
                continue
            before = seen.get(instance)
            if before is None or before.command is not command:
                before = _Seen(command, cpu)
            self._seen[instance] = before
            self._judge(instance, before, cpu - before.cpu)

    def _judge(self, instance: "Instance", seen: _Seen, used: float) -> None:
        if self._limit and used > self._limit:
            self._end(instance, seen, f"took more than {self._limit:g} seconds of CPU time")
        elif instance.is_wanted():
            seen.unwanted_since = 0.0
        elif not seen.unwanted_since:
            seen.unwanted_since = time.monotonic()
        elif time.monotonic() - seen.unwanted_since > self._grace:
            self._end(instance, seen, f"went on for {self._grace:g} seconds with no client left")

    def _end(self, instance: "Instance", seen: _Seen, why: str) -> None:
        what = seen.command.describe()
        text = f"{what} {why} (--cpu-limit); the instance is ended"
        self._host.log(instance.service.name, LOG_ERROR, text)
        instance.kill()
