# SPDX-License-Identifier: BSD-2-Clause
"""Probe, descriptions and the tables of operations.

As OP-TEE's driver, this one has two devices with different operations: one for clients, and a
privileged one for the supplicant.
"""

from collections.abc import Iterable, Mapping

from gentee import __version__
from gentee.abi.linux_tee import (
    TEE_GEN_CAP_GP,
    TEE_GEN_CAP_MEMREF_NULL,
    TEE_GEN_CAP_OBJREF,
    TEE_GEN_CAP_REG_MEM,
)
from gentee.core.driver import OpResult, TeeDesc, TeeDriver, TeeDriverOps
from gentee.drivers.loopback import call, shm, supp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gentee.core.calls import InvokeArg, ObjectInvokeArg, OpenSessionArg, SuppRecvArg
    from gentee.core.context import TeeContext, TeeSession
    from gentee.core.device import TeeDevice
    from gentee.core.host import Host
    from gentee.core.params import TeeParam
    from gentee.core.shm import TeeShm
    from gentee.core.trusted_services import LoadTsArg, TsInfo

# "LOOP". Linux's drivers have 1 to 4, so no client takes this for a TEE that it knows.
LOOPBACK_IMPL_ID = 0x4C4F4F50


class LoopbackOps(TeeDriverOps):
    """What a client can do."""

    def __init__(self, tee: call.Loopback, gen_caps: int) -> None:
        self._tee = tee
        self._gen_caps = gen_caps

    def get_version(self, teedev: "TeeDevice") -> tuple[int, int, int]:
        return LOOPBACK_IMPL_ID, 0, self._gen_caps

    def get_tee_revision(self, teedev: "TeeDevice") -> str:
        return f"loopback {__version__}"

    def open(self, ctx: "TeeContext") -> None:
        """Any number of clients; nothing is kept of one but its sessions."""

    def close_context(self, ctx: "TeeContext") -> None:
        """Its sessions and pending calls have ended by now."""

    def release(self, ctx: "TeeContext") -> None:
        """Its shared memory may live on."""

    def open_session(
        self, ctx: "TeeContext", arg: "OpenSessionArg", params: "list[TeeParam]"
    ) -> OpResult:
        return call.open_session(self._tee, arg)

    def close_session(self, ctx: "TeeContext", session: "TeeSession") -> None:
        call.close_session(self._tee, session)

    def system_session(self, ctx: "TeeContext", session: "TeeSession") -> None:
        session.system = True

    def invoke_func(
        self, ctx: "TeeContext", arg: "InvokeArg", params: "list[TeeParam]"
    ) -> OpResult:
        return call.invoke_func(self._tee, arg)

    def object_invoke_func(
        self, ctx: "TeeContext", arg: "ObjectInvokeArg", params: "list[TeeParam]"
    ) -> OpResult:
        return call.object_invoke_func(arg)

    def cancel_req(self, ctx: "TeeContext", cancel_id: int, session: int) -> None:
        call.cancel_req(ctx, cancel_id, session)

    def load_ts(self, ctx: "TeeContext", arg: "LoadTsArg") -> OpResult:
        self._tee.services.load(arg)
        return None

    def get_ts_list(self, ctx: "TeeContext") -> "list[TsInfo]":
        return self._tee.services.list()

    def shm_register(self, ctx: "TeeContext", shm_: "TeeShm") -> None:
        shm.shm_register(shm_)

    def shm_unregister(self, ctx: "TeeContext", shm_: "TeeShm") -> None:
        shm.shm_unregister(shm_)


class LoopbackSuppOps(TeeDriverOps):
    """What the supplicant can do."""

    def __init__(self, tee: call.Loopback, gen_caps: int) -> None:
        self._tee = tee
        self._gen_caps = gen_caps

    def get_version(self, teedev: "TeeDevice") -> tuple[int, int, int]:
        return LOOPBACK_IMPL_ID, 0, self._gen_caps

    def get_tee_revision(self, teedev: "TeeDevice") -> str:
        return f"loopback {__version__}"

    def open(self, ctx: "TeeContext") -> None:
        supp.open_supplicant(self._tee, ctx)

    def release(self, ctx: "TeeContext") -> None:
        supp.release_supplicant(self._tee, ctx)

    def supp_recv(self, ctx: "TeeContext", arg: "SuppRecvArg") -> OpResult:
        return supp.supp_recv(self._tee, arg)

    def supp_send(self, ctx: "TeeContext", ret: int, params: "list[TeeParam]") -> None:
        supp.supp_send(self._tee, ret, params)

    def shm_register(self, ctx: "TeeContext", shm_: "TeeShm") -> None:
        shm.shm_register(shm_)

    def shm_unregister(self, ctx: "TeeContext", shm_: "TeeShm") -> None:
        shm.shm_unregister(shm_)


class LoopbackDriver(TeeDriver):
    """The specific driver. Each probe makes a TEE of its own."""

    name = "loopback"

    def probe(self, host: "Host", options: "Mapping[str, Any]") -> Iterable[TeeDesc]:
        """One device for clients, one for a supplicant.

        :param options: ``reg_mem`` (bool): answer TEE_GEN_CAP_REG_MEM, upon which libteec
            registers its memory instead of asking for some. Registering works either way.
        """
        tee = call.Loopback()
        gen_caps = TEE_GEN_CAP_GP | TEE_GEN_CAP_MEMREF_NULL | TEE_GEN_CAP_OBJREF
        if options.get("reg_mem", False):
            gen_caps |= TEE_GEN_CAP_REG_MEM
        return (
            TeeDesc(
                self.name,
                LoopbackOps(tee, gen_caps),
                impl_id=LOOPBACK_IMPL_ID,
                gen_caps=gen_caps,
                takes_ubuf=True,
                takes_objref=True,
            ),
            TeeDesc(
                self.name,
                LoopbackSuppOps(tee, gen_caps),
                impl_id=LOOPBACK_IMPL_ID,
                gen_caps=gen_caps,
                privileged=True,
            ),
        )


driver = LoopbackDriver()
