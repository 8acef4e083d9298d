# SPDX-License-Identifier: BSD-2-Clause
"""The services of a running TEE, as who administers it over the control socket sees them."""

import os

from gentee.abi.gentee_tee import TEE_TS_INSTALLED
from gentee.errors import ItemNotFound, NotSupported, TaImageError, TeeError, UserError
from gentee.secure.service import format_uuid
from gentee.secure.tee import SoftTee

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, BinaryIO

    from gentee.core.driver import TeeDriver
    from gentee.core.trusted_services import TsInfo
    from gentee.secure.service import Service
    from gentee.secure.statistics import HeapStats, MemoryStats


class ServiceManager:
    """Of the software TEEs of one program. Methods may wait for a disk."""

    def __init__(self, tees: "Sequence[SoftTee]") -> None:
        self._tees = list(tees)

    @classmethod
    def of_drivers(cls, drivers: "Sequence[TeeDriver]") -> "ServiceManager":
        """Of those drivers that are software TEEs."""
        from gentee.drivers.soft.core import SoftDriver

        tees: list[SoftTee] = []
        for driver in {id(driver): driver for driver in drivers}.values():
            if isinstance(driver, SoftDriver):
                tees += driver.tees
        return cls(tees)

    def list(self) -> "list[dict[str, Any]]":
        """All services of the first software TEE; of others what they have besides."""
        found: dict[bytes, dict[str, Any]] = {}
        for tee in self._tees:
            services = {service.uuid: service for service in tee.store.all()}
            for info in tee.list_ts():
                found.setdefault(info.uuid, _row(info, services.get(info.uuid)))
        return [*found.values()]

    def instances(self) -> int:
        return sum(len(tee.instances()) for tee in self._tees)

    def stats(self) -> "dict[str, Any]":
        """What is alive: instances of services with their sessions, memory and heaps, and sessions
        of pseudo TAs. Heaps are asked for, which may take two seconds.
        """
        from gentee.secure.statistics import heaps_of, memory_of

        instances = [one for tee in self._tees for one in tee.instances() if not one.dead]
        heaps = heaps_of(instances)
        services: dict[bytes, dict[str, Any]] = {}
        for instance in instances:
            service = instance.service
            row = services.setdefault(
                service.uuid,
                {
                    "uuid": format_uuid(service.uuid),
                    "name": service.name,
                    "arch": service.arch,
                    "instances": [],
                },
            )
            row["instances"].append(
                {
                    "pid": instance.pid,
                    "sessions": len(instance.sessions),
                    "memory": _words(memory_of(instance.pid)),
                    "heap": _words(heaps[instance]) if instance in heaps else None,
                }
            )
        pseudo_tas = [
            {
                "uuid": format_uuid(pseudo.service.uuid),
                "name": pseudo.service.name,
                "sessions": len(pseudo.sessions),
            }
            for tee in self._tees
            for pseudo in tee.pseudo_tas.instances()
        ]
        return {
            "services": [*services.values()],
            "pseudo_tas": pseudo_tas,
            "tee": {"pid": os.getpid(), "memory": _words(memory_of("self"))},
        }

    def load(self, image: bytes) -> tuple[bytes, int]:
        """Install in the first software TEE; UUID and version. TeeError with the reason."""
        if not self._tees:
            raise NotSupported("this TEE has no driver that loads services")
        service = self._tees[0].load_ts(image)
        return service.uuid, service.version

    def unload(self, uuid: bytes) -> None:
        """Forget what is installed; TeeError with the reason."""
        error: TeeError = ItemNotFound(f"{format_uuid(uuid)} is not installed")
        for tee in self._tees:
            try:
                tee.unload_ts(uuid)
            except ItemNotFound as missing:
                error = missing
            else:
                return
        raise error

    def storage(self, request: object, file: "BinaryIO | None" = None) -> "dict[str, Any]":
        """What the operator asks of the objects of the first software TEE
        (:mod:`gentee.secure.storage.admin`).

        :raises UserError: with the reason; so is TeeError.
        """
        from gentee.secure.storage.admin import BadRequest

        if not self._tees:
            raise NotSupported("this TEE has no driver that stores objects")
        try:
            return self._tees[0].administer_storage(request, file)
        except BadRequest as error:
            raise UserError(f"a request that is none: {error}") from error
        except TaImageError as error:
            raise UserError(str(error)) from error


def _words(stats: "HeapStats | MemoryStats") -> "dict[str, int | None]":
    return {name: getattr(stats, name) for name in stats.__slots__}


def _row(info: "TsInfo", service: "Service | None") -> "dict[str, Any]":
    row: dict[str, Any] = {
        "uuid": format_uuid(info.uuid),
        "name": info.name,
        "version": info.version,
        "installed": bool(info.flags & TEE_TS_INSTALLED),
        "state": info.state,
        "instances": info.instances,
        "sessions": info.sessions,
        "apis": list(info.apis),
        "signer": "",
        "flags": [],
        "description": "",
        "file": "",
    }
    if service is not None:
        row["signer"], row["file"] = service.signer, service.path
        row["description"] = service.description
        named = {
            "single": service.single_instance,
            "multi": service.multi_session,
            "keep": service.keep_alive,
        }
        row["flags"] = [name for name, is_set in named.items() if is_set]
    return row
