# SPDX-License-Identifier: BSD-2-Clause
"""The supplicant's end: gentee.core.supp does it all, here is who it belongs to."""

from gentee.core.calls import SuppRecvArg
from gentee.core.context import TeeContext
from gentee.core.driver import OpResult
from gentee.core.params import TeeParam
from gentee.drivers.loopback.call import Loopback


def open_supplicant(tee: Loopback, ctx: TeeContext) -> None:
    """The privileged device was opened; EBUSY for a second one."""
    tee.supplicant.open(ctx)


def release_supplicant(tee: Loopback, ctx: TeeContext) -> None:
    """It was closed: what clients asked of it ends with TEE_ERROR_COMMUNICATION."""
    tee.supplicant.close(ctx)


def supp_recv(tee: Loopback, arg: SuppRecvArg) -> OpResult:
    return tee.supplicant.recv(arg)


def supp_send(tee: Loopback, ret: int, params: list[TeeParam]) -> None:
    tee.supplicant.send(ret, params)
