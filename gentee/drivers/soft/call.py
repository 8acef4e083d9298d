# SPDX-License-Identifier: BSD-2-Clause
"""Operations of the software TEE's client device."""

from gentee.abi.linux_tee import TEE_IMPL_ID_OPTEE, TEE_OPTEE_CAP_TZ
from gentee.core.calls import InvokeArg, OpenSessionArg, find_pending
from gentee.core.context import TeeContext, TeeSession
from gentee.core.device import TeeDevice
from gentee.core.driver import OpResult, TeeDriverOps
from gentee.core.params import TeeParam
from gentee.core.shm import TeeShm
from gentee.secure.tee import SoftTee

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.trusted_services import LoadTsArg, TsInfo


class SoftOps(TeeDriverOps):
    """Passes the calls of contexts on to the TEE."""

    def __init__(self, tee: SoftTee, gen_caps: int) -> None:
        self.tee = tee
        self._version = (TEE_IMPL_ID_OPTEE, TEE_OPTEE_CAP_TZ, gen_caps)

    def get_version(self, teedev: TeeDevice) -> tuple[int, int, int]:
        return self._version

    def get_tee_revision(self, teedev: TeeDevice) -> str:
        return "gentee software TEE (protects nothing from the owner of this machine)"

    def open(self, ctx: TeeContext) -> None:
        self.tee.warm_up()

    def release(self, ctx: TeeContext) -> None:
        pass

    def open_session(
        self, ctx: TeeContext, arg: OpenSessionArg, params: list[TeeParam]
    ) -> OpResult:
        return self.tee.open_session(arg)

    def close_session(self, ctx: TeeContext, session: TeeSession) -> None:
        self.tee.close_session(session)

    def system_session(self, ctx: TeeContext, session: TeeSession) -> None:
        session.system = True

    def invoke_func(self, ctx: TeeContext, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
        return self.tee.invoke(arg)

    def cancel_req(self, ctx: TeeContext, cancel_id: int, session: int) -> None:
        for arg in find_pending(ctx, cancel_id, session):
            self.tee.cancel(arg)

    def load_ts(self, ctx: TeeContext, arg: "LoadTsArg") -> OpResult:
        service = self.tee.load_ts(arg.image)
        arg.uuid, arg.version = service.uuid, service.version
        return None

    def get_ts_list(self, ctx: TeeContext) -> "list[TsInfo]":
        return self.tee.list_ts()

    def shm_register(self, ctx: TeeContext, shm: TeeShm) -> None:
        pass  # nothing to prepare: a service maps or copies at the first call

    def shm_unregister(self, ctx: TeeContext, shm: TeeShm) -> None:
        self.tee.forget_shm(shm)
