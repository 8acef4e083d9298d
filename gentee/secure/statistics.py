# SPDX-License-Identifier: BSD-2-Clause
"""What instances take: memory of their processes, and the heaps of OP-TEE's TAs."""

import os
import threading
import time
from functools import partial

from gentee.secure.commands import DumpMemStatsCommand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from gentee.secure.instance import Instance

_HEAP_PATIENCE = 2.0  # seconds, for all TAs together: they answer by code of their own
_PAGE = os.sysconf("SC_PAGE_SIZE")

# Lines of /proc/PID/smaps_rollup, in KiB
_PROPORTIONAL = ("Pss",)
_PRIVATE = ("Private_Clean", "Private_Dirty", "Private_Hugetlb")


class HeapStats:
    """The heap of an OP-TEE TA, in bytes and numbers (struct pta_stats_alloc)."""

    __slots__ = (
        "allocated", "biggest_alloc_fail", "biggest_alloc_fail_used", "max_allocated",
        "num_alloc_fail", "size",
    )  # fmt: skip

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self.allocated, self.max_allocated, self.size = numbers[:3]
        self.num_alloc_fail, self.biggest_alloc_fail, self.biggest_alloc_fail_used = numbers[3:]


class MemoryStats:
    """The memory of a process, in bytes; None for what this user may not look at.

    ``resident`` counts what it shares with the process that it was forked from, ``private`` does
    not (USS), ``proportional`` does by its share (PSS).
    """

    __slots__ = ("private", "proportional", "resident")

    def __init__(self) -> None:
        self.resident: int | None = None
        self.proportional: int | None = None
        self.private: int | None = None


def memory_of(pid: int | str) -> MemoryStats:
    """That of a process, by its number or ``"self"``. One that has ended has none."""
    found = MemoryStats()
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            found.resident = int(file.read().split()[1]) * _PAGE
        # A service's process is closed to all but root.
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            lines = file.read().decode("ascii", "replace").splitlines()
    except (OSError, IndexError, ValueError):
        return found
    sizes = {}
    for line in lines:
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
            sizes[name] = int(words[0]) << 10
    if "Pss" in sizes:
        found.proportional = sum(sizes.get(name, 0) for name in _PROPORTIONAL)
        found.private = sum(sizes.get(name, 0) for name in _PRIVATE)
    return found


def heaps_of(
    instances: "Iterable[Instance]", patience: float = _HEAP_PATIENCE
) -> "dict[Instance, HeapStats]":
    """The heaps of those instances that say something about them.

    A TA says it if it was built with CFG_TA_STATS. One that is at work is not asked, as in OP-TEE,
    where it may be the one that asks.
    """
    found: dict[Instance, HeapStats] = {}
    lock = threading.Lock()
    left = threading.Semaphore(0)

    def answer(instance: "Instance", numbers: tuple[int, ...] | None) -> None:
        if numbers is not None:
            with lock:
                found[instance] = HeapStats(numbers)
        left.release()

    asked = 0
    for instance in instances:
        if instance.service.is_elf and instance.is_free:
            instance.submit(DumpMemStatsCommand(partial(answer, instance)))
            asked += 1
    end = time.monotonic() + patience
    for _ in range(asked):
        if not left.acquire(timeout=max(0.0, end - time.monotonic())):
            break
    with lock:
        return dict(found)
