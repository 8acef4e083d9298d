# SPDX-License-Identifier: BSD-2-Clause
"""Operations of the software TEE's privileged device, for a supplicant."""

from gentee.abi.linux_tee import TEE_IMPL_ID_OPTEE, TEE_OPTEE_CAP_TZ
from gentee.core.calls import SuppRecvArg
from gentee.core.context import TeeContext
from gentee.core.device import TeeDevice
from gentee.core.driver import OpResult, TeeDriverOps
from gentee.core.params import TeeParam
from gentee.core.shm import TeeShm
from gentee.core.supp import Supplicant


class SoftSuppOps(TeeDriverOps):
    """One supplicant at a time waits here for what the TEE asks of the normal world."""

    def __init__(self, supplicant: Supplicant, gen_caps: int) -> None:
        self.supplicant = supplicant
        self._version = (TEE_IMPL_ID_OPTEE, TEE_OPTEE_CAP_TZ, gen_caps)

    def get_version(self, teedev: TeeDevice) -> tuple[int, int, int]:
        return self._version

    def open(self, ctx: TeeContext) -> None:
        self.supplicant.open(ctx)

    def release(self, ctx: TeeContext) -> None:
        self.supplicant.close(ctx)

    def supp_recv(self, ctx: TeeContext, arg: SuppRecvArg) -> OpResult:
        return self.supplicant.recv(arg)

    def supp_send(self, ctx: TeeContext, ret: int, params: list[TeeParam]) -> None:
        self.supplicant.send(ret, params)

    def shm_register(self, ctx: TeeContext, shm: TeeShm) -> None:
        pass  # as optee_shm_register_supp(): what is in it only the supplicant says

    def shm_unregister(self, ctx: TeeContext, shm: TeeShm) -> None:
        pass
