# SPDX-License-Identifier: BSD-2-Clause
"""Device enumeration: the TAs for which the normal world is to have a device (OP-TEE
core/pta/device.c). On a board Linux asks it for what to put on its TEE bus.

Which they are says ta_head.flags of a TA in the store, and the flags of a pseudo TA.
"""

from gentee.abi import optee_pta as pta
from gentee.abi.gp import TEE_PARAM_TYPE_MEMREF_OUTPUT
from gentee.abi.optee_ta import (
    TA_FLAG_DEVICE_ENUM,
    TA_FLAG_DEVICE_ENUM_SUPP,
    TA_FLAG_DEVICE_ENUM_TEE_STORAGE_PRIVATE,
)
from gentee.core.host import LOG_ERROR
from gentee.errors import NotImplementedByTee, ShortBuffer
from gentee.secure.pta.pseudo_ta import Param, PseudoTa, PtaSession, expect, memref
from gentee.secure.service import format_uuid, parse_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_FLAGS = TA_FLAG_DEVICE_ENUM | TA_FLAG_DEVICE_ENUM_SUPP | TA_FLAG_DEVICE_ENUM_TEE_STORAGE_PRIVATE

# Of which TAs a command tells. Private storage is there once a supplicant is, as in an OP-TEE with
# CFG_REE_FS; there is no RPMB to wait for.
_WANTED = {
    pta.PTA_CMD_GET_DEVICES: TA_FLAG_DEVICE_ENUM,
    pta.PTA_CMD_GET_DEVICES_SUPP: (
        TA_FLAG_DEVICE_ENUM_SUPP | TA_FLAG_DEVICE_ENUM_TEE_STORAGE_PRIVATE
    ),
    pta.PTA_CMD_GET_DEVICES_RPMB: 0,
}


class DevicePta(PseudoTa):
    """Its commands put UUIDs into a buffer, each as 16 octets, and say how many bytes."""

    uuid = pta.PTA_DEVICE_UUID
    name = "device.pta"

    def invoke_command(
        self, session: PtaSession, command: int, param_types: int, params: list[Param]
    ) -> None:
        if command not in _WANTED:
            raise NotImplementedByTee(f"command {command}")
        expect(param_types, TEE_PARAM_TYPE_MEMREF_OUTPUT)
        wanted = _WANTED[command]
        found = b"".join(uuid for uuid, flags in self._tas() if flags & wanted)
        output = memref(params, 0)
        if output.buffer is not None:
            # As many as there is room for, also where that is too little.
            fitting = found[: output.size // 16 * 16]
            output.buffer[: len(fitting)] = fitting
        room, output.size = output.size, len(found)
        if len(found) > room:
            raise ShortBuffer(f"{len(found)} bytes")

    def _tas(self) -> "Iterator[tuple[bytes, int]]":
        """UUID and flags of all TAs of which one of the commands tells."""
        named = [(parse_uuid(ta.uuid), ta.flags) for ta in self.tee.pseudo_tas.all()]
        theirs = {uuid for uuid, _ in named}
        for service in self.tee.store.all():
            if service.uuid not in theirs:  # it cannot be reached by this UUID
                named.append((service.uuid, service.ta_flags))
        for uuid, flags in named:
            flags &= _FLAGS
            if flags & flags - 1:
                text = f"TA {format_uuid(uuid)} left out: inconsistent flags {flags:#x}"
                self.host.log(self.name, LOG_ERROR, text)
            elif flags:
                yield uuid, flags
