# SPDX-License-Identifier: BSD-2-Clause
"""A driver with little: for what the generic driver decides by a specific driver's description.

It is the loopback driver's services without cancellation, objects, NULL references and registered
memory, with room for little shared memory, few contexts and few sessions. Being found by its entry
point it also is a third party's driver. No trusted service, though it is in their folder.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gentee.abi.linux_tee import TEE_GEN_CAP_GP
from gentee.core.driver import OpResult, ShmNeeds, TeeDesc, TeeDriver, TeeDriverOps
from gentee.drivers.loopback import call

if TYPE_CHECKING:
    from gentee.core.calls import InvokeArg, OpenSessionArg
    from gentee.core.context import TeeContext, TeeSession
    from gentee.core.device import TeeDevice
    from gentee.core.host import Host
    from gentee.core.params import TeeParam

LIMITED_IMPL_ID = 0x4C494D49


class LimitedOps(TeeDriverOps):
    """The operations that every driver has, and sessions."""

    def __init__(self) -> None:
        self._tee = call.Loopback()

    def get_version(self, teedev: "TeeDevice") -> tuple[int, int, int]:
        return LIMITED_IMPL_ID, 0, TEE_GEN_CAP_GP

    def open(self, ctx: "TeeContext") -> None:
        """Nothing is kept of a client."""

    def release(self, ctx: "TeeContext") -> None:
        """Nothing was kept."""

    def open_session(
        self, ctx: "TeeContext", arg: "OpenSessionArg", params: "list[TeeParam]"
    ) -> OpResult:
        return call.open_session(self._tee, arg)

    def close_session(self, ctx: "TeeContext", session: "TeeSession") -> None:
        call.close_session(self._tee, session)

    def invoke_func(
        self, ctx: "TeeContext", arg: "InvokeArg", params: "list[TeeParam]"
    ) -> OpResult:
        return call.invoke_func(self._tee, arg)


class LimitedDriver(TeeDriver):
    name = "limited"

    def probe(self, host: "Host", options: Mapping[str, Any]) -> Iterable[TeeDesc]:
        yield TeeDesc(
            self.name,
            LimitedOps(),
            impl_id=LIMITED_IMPL_ID,
            gen_caps=TEE_GEN_CAP_GP,
            shm=ShmNeeds(
                smallest=8192,
                largest=65536,
                alignment=8192,
                per_context=65536,
                per_device=98304,
                registered=False,
            ),
            max_contexts=3,
            max_sessions=2,
        )


driver = LimitedDriver()
