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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class SoftDriver(TeeDriver):
    """One software TEE a ``probe``.

    Options: ``ta_dirs`` (folders of services, the earlier wins), ``reg_mem`` (advertise
    TEE_GEN_CAP_REG_MEM, so that libteec registers its memory instead of sharing pages),
    ``max_instances``.
    """

    name = "soft"

    def __init__(self) -> None:
        self._tees: list[SoftTee] = []

    def probe(self, host: Host, options: "Mapping[str, Any]") -> Iterable[TeeDesc]:
        store = TaStore(options.get("ta_dirs", ()))
        tee = SoftTee(host, store, max_instances=int(options.get("max_instances", 1024)))
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

    def remove(self) -> None:
        for tee in self._tees:
            tee.close()
        self._tees.clear()
