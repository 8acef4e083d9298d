# SPDX-License-Identifier: BSD-2-Clause
"""Statistics of the TEE (OP-TEE core/pta/stats.c): ``xtest --stats`` asks for them.

What is not there is said as OP-TEE says it: no pager has no pages, a pool that is not in use is
named so. There are no clocks and no regulators (TEE_ERROR_NOT_SUPPORTED).
"""

import gc
import os
import resource
import sys
import time

from gentee.abi import optee_pta as pta
from gentee.abi.gp import (
    TEE_PARAM_TYPE_MEMREF_OUTPUT,
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_VALUE_OUTPUT,
)
from gentee.core.host import LOG_INFO
from gentee.errors import BadParameters, ItemNotFound, NotSupported, ShortBuffer
from gentee.secure.pta.pseudo_ta import MemRef, Param, PseudoTa, PtaSession, expect, memref, value
from gentee.secure.pta.uuids import to_struct
from gentee.secure.statistics import HeapStats, MemoryStats, heaps_of, memory_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.host import Host
    from gentee.secure.tee import SoftTee

_MOST = 0xFFFF_FFFF  # of what is counted in 32 bits
_DRIVERS = (pta.STATS_DRIVER_TYPE_CLOCK, pta.STATS_DRIVER_TYPE_REGULATOR)

# Pools that gentee has none of, in OP-TEE's words.
_EMPTY_POOLS = {
    pta.ALLOC_ID_PUBLIC_DDR: "Public DDR (deprecated)",
    pta.ALLOC_ID_NEXUS_HEAP: "KHeap (disabled)",
    pta.ALLOC_ID_RPMB: "RPMB secure storage (no data)",
}


class _Pool:
    """A pool of memory, and the most of it that was taken whenever somebody looked."""

    def __init__(self, desc: str) -> None:
        self._desc = desc
        self._most = 0

    def pack(self, allocated: int, size: int, *, reset: bool) -> bytes:
        self._most = max(self._most, allocated)
        packed = _pack_alloc(self._desc, allocated, self._most, size)
        if reset:
            self._most = 0
        return packed


class StatsPta(PseudoTa):
    """Serves one call after the other, so a TA that does not answer holds one thread at most."""

    uuid = pta.STATS_UUID
    name = "stats.pta"

    def __init__(self, tee: "SoftTee", host: "Host") -> None:
        super().__init__(tee, host)
        self._heap = _Pool("Heap")
        self._ta_ram = _Pool("Physical TA memory")

    def invoke_command(
        self, session: PtaSession, command: int, param_types: int, params: list[Param]
    ) -> None:
        if command == pta.STATS_CMD_PAGER_STATS:
            out = TEE_PARAM_TYPE_VALUE_OUTPUT
            expect(param_types, out, out, out)  # without a pager all are 0
        elif command == pta.STATS_CMD_ALLOC_STATS:
            self._alloc_stats(param_types, params)
        elif command == pta.STATS_CMD_MEMLEAK_STATS:
            expect(param_types)
            self._memleak_stats()
        elif command == pta.STATS_CMD_TA_STATS:
            expect(param_types, TEE_PARAM_TYPE_MEMREF_OUTPUT)
            self._ta_stats(memref(params, 0))
        elif command == pta.STATS_CMD_GET_TIME:
            expect(param_types, TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_VALUE_OUTPUT)
            # The clocks of TEE_GetREETime and TEE_GetSystemTime.
            for index, nanoseconds in enumerate((time.time_ns(), time.monotonic_ns())):
                seconds, rest = divmod(nanoseconds // 1_000_000, 1000)
                value(params, index).a, value(params, index).b = seconds, rest
        elif command == pta.STATS_CMD_PRINT_DRIVER_INFO:
            expect(param_types, TEE_PARAM_TYPE_VALUE_INPUT)
            if value(params, 0).a not in _DRIVERS:
                raise BadParameters(f"driver type {value(params, 0).a}")
            raise NotSupported("no clocks and no regulators")
        else:
            raise BadParameters(f"command {command}")

    def _alloc_stats(self, param_types: int, params: list[Param]) -> None:
        expect(param_types, TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_MEMREF_OUTPUT)
        pool, reset = value(params, 0).a, value(params, 0).b != 0
        if pool > pta.STATS_NB_POOLS:
            raise BadParameters(f"pool {pool}")
        pools = range(1, pta.STATS_NB_POOLS + 1) if pool == pta.ALLOC_ID_ALL else (pool,)
        _put(memref(params, 1), len(pools) * pta.PTA_STATS_ALLOC.size)
        buffer = memref(params, 1).buffer
        assert buffer is not None
        buffer[: memref(params, 1).size] = b"".join(self._pool(number, reset) for number in pools)

    def _pool(self, number: int, reset: bool) -> bytes:
        if number == pta.ALLOC_ID_HEAP:
            limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            size = total if limit == resource.RLIM_INFINITY else min(limit, total)
            return self._heap.pack(_own(memory_of("self")), size, reset=reset)
        if number == pta.ALLOC_ID_TA_RAM:
            instances = self.tee.instances()
            taken = sum(_own(memory_of(instance.pid)) for instance in instances if instance.pid)
            return self._ta_ram.pack(taken, self.tee.memory_limit, reset=reset)
        return _pack_alloc(_EMPTY_POOLS[number])

    def _memleak_stats(self) -> None:
        instances = self.tee.instances()
        sessions = sum(len(instance.sessions) for instance in instances)
        for line in (
            f"{sys.getallocatedblocks()} blocks of memory in use",
            f"{len(gc.garbage)} objects that cannot be collected",
            f"{len(instances)} instances with {sessions} sessions",
        ):
            self.host.log(self.name, LOG_INFO, line)

    def _ta_stats(self, output: MemRef) -> None:
        instances = [instance for instance in self.tee.instances() if not instance.dead]
        if not instances:
            raise ItemNotFound("no TA is loaded")
        _put(output, len(instances) * pta.PTA_STATS_TA.size)
        heaps = heaps_of(instances)
        packed = b""
        for instance in instances:
            heap = heaps.get(instance)
            packed += pta.PTA_STATS_TA.pack(
                to_struct(instance.service.uuid),
                instance.dead,
                len(instance.sessions),
                _pack_alloc("", heap=heap),
            )
        assert output.buffer is not None
        output.buffer[: output.size] = packed


def _put(output: MemRef, size: int) -> None:
    """TEE_ERROR_SHORT_BUFFER unless ``output`` has room for ``size`` bytes, which it has then."""
    room, output.size = output.size, size
    if output.buffer is None or room < size:
        raise ShortBuffer(f"{size} bytes")


def _own(memory: MemoryStats) -> int:
    """Bytes that a process takes, as exactly as this user may know."""
    if memory.private is not None:
        return memory.private
    return memory.resident or 0


def _pack_alloc(
    desc: str, allocated: int = 0, most: int = 0, size: int = 0, heap: HeapStats | None = None
) -> bytes:
    numbers = [allocated, most, size, 0, 0, 0]
    if heap is not None:
        numbers = [heap.allocated, heap.max_allocated, heap.size]
        numbers += [heap.num_alloc_fail, heap.biggest_alloc_fail, heap.biggest_alloc_fail_used]
    capped = [min(number, _MOST) for number in numbers]
    return pta.PTA_STATS_ALLOC.pack(desc.encode(), 0, *capped)
