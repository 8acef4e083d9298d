# SPDX-License-Identifier: BSD-2-Clause
"""Sockets: passes its commands on to the socket pseudo TA, with the client's own parameters."""

import os
from typing import Any

from gentee.ta import (
    TEE_TIMEOUT_INFINITE,
    Params,
    TEE_CloseTASession,
    TEE_InvokeTACommand,
    TEE_OpenTASession,
    TEE_UnmaskCancellation,
    TrustedApplication,
)

SOCKET_PTA = "3b996a7d-2c2b-4a49-a896-e1fb5766d2f4"

DIE = 0x100
CLOSE_SESSION = 0x101  # of the pseudo TA; the next command opens another one
UNMASKED = 0x200  # added to a command of the pseudo TA
SHORTLY = 0x400  # the same: with a timeout of the call itself, 50 ms


class Sockets(TrustedApplication):
    uuid = "50c4e700-5b6c-4d7e-8f90-a1b2c3d4e505"
    name = "sockets"

    def TA_OpenSessionEntryPoint(self, param_types: int, params: Params) -> Any:
        self._pta = TEE_OpenTASession(SOCKET_PTA)

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        if command_id == DIE:
            os._exit(1)
        if command_id == CLOSE_SESSION:
            TEE_CloseTASession(self._pta)
            self._pta = TEE_OpenTASession(SOCKET_PTA)
            return
        if command_id & UNMASKED:
            TEE_UnmaskCancellation()
        timeout = 50 if command_id & SHORTLY else TEE_TIMEOUT_INFINITE
        TEE_InvokeTACommand(self._pta, timeout, command_id & 0xFF, param_types, params)
