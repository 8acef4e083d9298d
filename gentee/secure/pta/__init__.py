# SPDX-License-Identifier: BSD-2-Clause
"""Pseudo TAs: trusted applications that are part of the TEE itself (OP-TEE core/pta).

They run in gentee's own process and are trusted as it is. Clients and services reach them as any
other TA, by their UUID; as in OP-TEE it comes before that of a service.
:mod:`gentee.secure.pta.pseudo_ta` has what one is made of, docs/writing-a-pseudo-ta.md how.
"""

import importlib
import threading

from gentee.errors import UserError
from gentee.secure.service import parse_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from gentee.core.host import Host
    from gentee.secure.pta.instance import PseudoInstance
    from gentee.secure.pta.pseudo_ta import PseudoTa
    from gentee.secure.tee import SoftTee

# UUID, and where its class is: what nobody opens is not imported.
PSEUDO_TAS = {
    "3a2f8978-5dc0-11e8-9c2d-fa7ae01bbebc": "gentee.secure.pta.system:SystemPta",
    "7011a688-ddde-4053-a5a9-7b3c4ddf13b8": "gentee.secure.pta.device:DevicePta",
    "d96a5b40-e2c7-b1af-8794-1002a5d5c61b": "gentee.secure.pta.stats:StatsPta",
    "d96a5b40-c3e5-21e3-8794-1002a5d5c61b": "gentee.secure.pta.invoke_tests:InvokeTestsPta",
    "6e256cba-fc4d-4941-ad09-2ca1860342dd": "gentee.secure.pta.secstor_ta_mgmt:SecstorTaMgmtPta",
    "3b996a7d-2c2b-4a49-a896-e1fb5766d2f4": "gentee.secure.pta.sockets:SocketPta",
}


class PseudoTas:
    """The pseudo TAs of one TEE: those above, and what was added.

    :param added: further ones, as ``"module:Class"``.
    :raises UserError: one of these cannot be had.
    """

    def __init__(self, tee: "SoftTee", host: "Host", added: "Iterable[str]" = ()) -> None:
        self._tee = tee
        self._host = host
        # Protects both. Nobody takes anything away, so who only looks for a UUID needs no lock.
        self._lock = threading.Lock()
        self._rows = {parse_uuid(uuid): row for uuid, row in PSEUDO_TAS.items()}
        self._instances: dict[bytes, PseudoInstance] = {}
        for name in added:
            self._add(name)

    def __contains__(self, uuid: bytes) -> bool:
        return uuid in self._rows

    def instance(self, uuid: bytes) -> "PseudoInstance":
        """The one instance of a pseudo TA that there is; it may be imported just now."""
        with self._lock:
            return self._instance(uuid)

    def all(self) -> "list[PseudoTa]":
        """Each of them."""
        with self._lock:
            return [self._instance(uuid).pta for uuid in self._rows]

    def instances(self) -> "list[PseudoInstance]":
        """Those that somebody has opened, or that were added."""
        with self._lock:
            return list(self._instances.values())

    def _instance(self, uuid: bytes) -> "PseudoInstance":
        found = self._instances.get(uuid)
        if found is None:
            found = self._make(self._rows[uuid])
            if found.service.uuid != uuid:
                raise ValueError(f"{found.service.name} has another UUID than its row")
            self._instances[uuid] = found
        return found

    def _make(self, row: str) -> "PseudoInstance":
        from gentee.secure.pta.instance import PseudoInstance
        from gentee.secure.pta.pseudo_ta import PseudoTa

        module, _, name = row.partition(":")
        pta = getattr(importlib.import_module(module), name)
        if not isinstance(pta, type) or not issubclass(pta, PseudoTa):
            raise TypeError(f"{name} is no PseudoTa")
        return PseudoInstance(self._host, pta(self._tee, self._host))

    def _add(self, row: str) -> None:
        try:
            found = self._make(row)
        except Exception as error:  # somebody else's module: anything can come out of it
            raise UserError(
                f"pseudo TA {row!r} cannot be loaded: {type(error).__name__}: {error}",
                "it is named as module:Class, and derives from PseudoTa",
            ) from error
        uuid = found.service.uuid
        if uuid in self._rows:
            raise UserError(f"pseudo TA {row!r} has the UUID of another one, {self._rows[uuid]!r}")
        self._rows[uuid] = row
        self._instances[uuid] = found
