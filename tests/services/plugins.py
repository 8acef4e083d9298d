# SPDX-License-Identifier: BSD-2-Clause
"""Plugins: calls a plugin of the normal world, as libutee's tee_invoke_supp_plugin() does."""

import uuid
from typing import Any

from gentee.ta import (
    TEE_PARAM_TYPE_MEMREF_INOUT,
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_VALUE_OUTPUT,
    TEE_PARAM_TYPES,
    TEE_TIMEOUT_INFINITE,
    Memref,
    Params,
    TEE_InvokeTACommand,
    TEE_OpenTASession,
    TrustedApplication,
    Value,
)

SYSTEM_PTA = "3a2f8978-5dc0-11e8-9c2d-fa7ae01bbebc"
SUPP_PLUGIN_INVOKE = 13


class Plugins(TrustedApplication):
    """Its command is the plugin's: last byte of the UUID, and command, in the first value, the
    sub-command in the second one, which gets the length; then the data.
    """

    uuid = "50c4e700-5b6c-4d7e-8f90-a1b2c3d4e506"
    name = "plugins"

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        first, second, data = params[0], params[1], params[2]
        assert isinstance(first, Value)
        assert isinstance(second, Value)
        assert isinstance(data, Memref)
        system = TEE_OpenTASession(SYSTEM_PTA)
        octets = bytes.fromhex("70c4e7005b6c4d7e8f90a1b2c3d4e5") + bytes([first.a])
        length = Value()
        types = TEE_PARAM_TYPES(
            TEE_PARAM_TYPE_MEMREF_INPUT,
            TEE_PARAM_TYPE_VALUE_INPUT,
            TEE_PARAM_TYPE_MEMREF_INOUT,
            TEE_PARAM_TYPE_VALUE_OUTPUT,
        )
        name = Memref(bytearray(uuid.UUID(bytes=octets).bytes_le))
        command = Value(first.b, second.a)
        try:
            TEE_InvokeTACommand(
                system, TEE_TIMEOUT_INFINITE, SUPP_PLUGIN_INVOKE, types,
                [name, command, data, length],
            )  # fmt: skip
        finally:
            second.a = length.a
