# SPDX-License-Identifier: BSD-2-Clause
"""Installing TAs into secure storage (OP-TEE core/pta/secstor_ta_mgmt.c): ``xtest --install-ta``.

What it installs is an installed service, as by ``gentee load``: on disk when the command returns,
and what the next session is opened with. Where OP-TEE takes the bootstrap form of the signed header
alone, each form is taken here that has the UUID of its TA in it; a service in Python is, too.
"""

from gentee.abi import optee_pta as pta
from gentee.abi.gp import TEE_PARAM_TYPE_MEMREF_INPUT
from gentee.errors import NotImplementedByTee, OutOfMemory
from gentee.secure.pta.pseudo_ta import Param, PseudoTa, PtaSession, expect, memref

_MAX_IMAGE = 16 << 20  # bytes: gentee.secure.images.MAX_IMAGE


class SecstorTaMgmtPta(PseudoTa):
    """Its one command takes a signed image."""

    uuid = pta.PTA_SECSTOR_TA_MGMT_UUID
    name = "secstor_ta_mgmt"

    def invoke_command(
        self, session: PtaSession, command: int, param_types: int, params: list[Param]
    ) -> None:
        if command != pta.PTA_SECSTOR_TA_MGMT_BOOTSTRAP:
            raise NotImplementedByTee(f"command {command}")
        expect(param_types, TEE_PARAM_TYPE_MEMREF_INPUT)
        image = memref(params, 0)
        if image.size > _MAX_IMAGE:
            raise OutOfMemory(f"an image of {image.size} bytes")
        self.tee.load_ts(image.read())
