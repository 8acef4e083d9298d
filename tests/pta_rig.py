# SPDX-License-Identifier: BSD-2-Clause
"""A software TEE without services, and pseudo TAs of a test's own in it."""

from collections.abc import Callable
from functools import partial

from gentee.core.context import TeeContext
from gentee.core.device import TeeDevice
from gentee.core.supp import Supplicant
from gentee.drivers.soft.call import SoftOps
from gentee.drivers.soft.supp import SoftSuppOps
from gentee.secure.pta.instance import PseudoInstance
from gentee.secure.pta.pseudo_ta import Later, Param, PseudoTa, PtaSession
from gentee.secure.service import parse_uuid
from gentee.secure.store import TaStore
from gentee.secure.tee import SoftTee
from tests.helpers import Call, Client, LocalHost, make_device, wait_until
from tests.helpers import Param as Words

UUID = "9d3c0f6e-1f5b-4a7e-8f0d-3c2b1a0f9e55"
OTHER = "9d3c0f6e-1f5b-4a7e-8f0d-3c2b1a0f9e56"

Entry = Callable[[PtaSession, int, int, list[Param]], Later | None]


class ScriptedPta(PseudoTa):
    """``invoke`` and ``open`` are the test's; ``told`` is what it was called for."""

    uuid = UUID
    name = "scripted.pta"

    def __init__(self, tee: SoftTee, host: LocalHost) -> None:
        super().__init__(tee, host)
        self.told: list[object] = []
        self.invoke: Entry = lambda session, command, types, params: None
        self.open: Callable[[PtaSession, int, list[Param]], Later | None] = lambda *args: None
        self.creation: Callable[[], None] = lambda: None

    def create(self) -> None:
        self.told.append("create")
        self.creation()

    def destroy(self) -> None:
        self.told.append("destroy")

    def open_session(
        self, session: PtaSession, param_types: int, params: list[Param]
    ) -> Later | None:
        self.told.append(("open", session.id))
        return self.open(session, param_types, params)

    def close_session(self, session: PtaSession) -> None:
        self.told.append(("close", session.id))

    def invoke_command(
        self, session: PtaSession, command: int, param_types: int, params: list[Param]
    ) -> Later | None:
        return self.invoke(session, command, param_types, params)


class _Ops(SoftOps):
    def open(self, ctx: TeeContext) -> None:
        """No warm parent: nothing here needs a process."""


class Rig:
    """A TEE, its device, and clients."""

    def __init__(self) -> None:
        self.host = LocalHost()
        self.supplicant = Supplicant()
        self.tee = SoftTee(self.host, TaStore([]), supplicant=self.supplicant)
        self.device: TeeDevice = make_device(_Ops(self.tee, 1 | 1 << 3))
        self.privileged = make_device(SoftSuppOps(self.supplicant, 1), privileged=True)
        self.clients: list[Client] = []

    def add(self, kind: type[ScriptedPta] = ScriptedPta, flags: int | None = None) -> ScriptedPta:
        """A pseudo TA of the test's."""
        pta = kind(self.tee, self.host)
        if flags is not None:
            pta.flags = flags
        self.tee.pseudo_tas._rows[parse_uuid(pta.uuid)] = "the test's"
        self.tee.pseudo_tas._instances[parse_uuid(pta.uuid)] = PseudoInstance(self.host, pta)
        return pta

    def client(self) -> Client:
        client = Client(self.device)
        self.clients.append(client)
        return client

    def open(self, uuid: str = UUID) -> "Opened":
        """A session in a context of its own."""
        client = self.client()
        return Opened(client, client.open_session(parse_uuid(uuid)))

    def supp(self) -> Client:
        client = Client(self.privileged)
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for device in (self.device, self.privileged):
            wait_until(partial(_is_unused, device))
        self.host.close()


def _is_unused(device: TeeDevice) -> bool:
    return not device.contexts and not device.shm_bytes


class Opened:
    """A session of a client."""

    def __init__(self, client: Client, session: int) -> None:
        self.client = client
        self.session = session

    def invoke(self, command: int = 0, *params: Words, cancel_id: int = 0) -> Call:
        return self.client.invoke(self.session, command, params, cancel_id=cancel_id)

    def cancel(self, cancel_id: int) -> None:
        self.client.cancel(cancel_id, self.session)

    def close(self) -> None:
        self.client.close_session(self.session)
