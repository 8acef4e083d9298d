# SPDX-License-Identifier: BSD-2-Clause
"""Probe and description of the software TEE's devices."""

from collections.abc import Iterable, Mapping

from gentee.abi.linux_tee import (
    TEE_GEN_CAP_GP,
    TEE_GEN_CAP_MEMREF_NULL,
    TEE_GEN_CAP_REG_MEM,
    TEE_IMPL_ID_OPTEE,
    TEE_OPTEE_CAP_TZ,
)
from gentee.core.driver import ShmNeeds, TeeDesc, TeeDriver
from gentee.core.host import Host
from gentee.core.supp import Supplicant
from gentee.drivers.soft.call import SoftOps
from gentee.drivers.soft.shm import SoftShmPool
from gentee.drivers.soft.supp import SoftSuppOps
from gentee.secure.store import TaStore
from gentee.secure.tee import SoftTee
from gentee.secure.watchdog import CPU_LIMIT, MEMORY_LIMIT, Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class SoftDriver(TeeDriver):
    """One software TEE a ``probe``.

    Options: ``ta_dirs`` (folders of services, the earlier wins), ``reg_mem`` (advertise
    TEE_GEN_CAP_REG_MEM, so that libteec registers its memory instead of sharing pages),
    ``max_instances``; ``state`` (the TEE's state folder; None keeps nothing), ``keys`` (PEM files
    of keys that images may be signed with), ``strict`` (these keys only); ``memory_limit`` (MiB of
    private memory for a service's process), ``cpu_limit`` (seconds of CPU time for a command).
    """

    name = "soft"

    def __init__(self) -> None:
        self._tees: list[SoftTee] = []

    def probe(self, host: Host, options: "Mapping[str, Any]") -> Iterable[TeeDesc]:
        store = self._store(host, options)
        limits = Limits(
            int(options.get("memory_limit", MEMORY_LIMIT)),
            float(options.get("cpu_limit", CPU_LIMIT)),
        )
        max_instances = int(options.get("max_instances", 1024))
        tee = SoftTee(host, store, max_instances=max_instances, limits=limits)
        self._tees.append(tee)
        gen_caps = TEE_GEN_CAP_GP | TEE_GEN_CAP_MEMREF_NULL
        if options.get("reg_mem"):
            gen_caps |= TEE_GEN_CAP_REG_MEM
        supplicant = Supplicant()
        yield TeeDesc(
            "soft",
            SoftOps(tee, gen_caps),
            impl_id=TEE_IMPL_ID_OPTEE,
            impl_caps=TEE_OPTEE_CAP_TZ,
            gen_caps=gen_caps,
            shm=ShmNeeds(),
            pool=SoftShmPool(tee),
        )
        yield TeeDesc(
            "soft",
            SoftSuppOps(supplicant, gen_caps),
            impl_id=TEE_IMPL_ID_OPTEE,
            impl_caps=TEE_OPTEE_CAP_TZ,
            gen_caps=gen_caps,
            privileged=True,
        )

    @staticmethod
    def _store(host: Host, options: "Mapping[str, Any]") -> TaStore:
        folder = options.get("state")
        files = options.get("keys", ())
        strict = bool(options.get("strict"))
        state = keys = None
        # What nobody needs is not imported either.
        if folder is not None:
            from gentee.secure.state import State

            state = State(folder)
            state.check()
        if files or strict:
            from gentee.secure.keys import AcceptedKeys

            keys = AcceptedKeys(files, strict=strict)
            keys.check_files()
        return TaStore(options.get("ta_dirs", ()), state=state, keys=keys, warn=host.warn)

    @property
    def tees(self) -> tuple[SoftTee, ...]:
        """Those that were made by ``probe``."""
        return tuple(self._tees)

    def remove(self) -> None:
        for tee in self._tees:
            tee.close()
        self._tees.clear()
