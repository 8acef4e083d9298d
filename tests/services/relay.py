# SPDX-License-Identifier: BSD-2-Clause
"""Relay: a client of other services. Each command opens a session of its own."""

from typing import Any

from gentee.ta import (
    TEE_TIMEOUT_INFINITE,
    BadParameters,
    Busy,
    Memref,
    OutOfMemory,
    Params,
    TEE_CloseTASession,
    TEE_InvokeTACommand,
    TEE_OpenTASession,
    TEE_UnmaskCancellation,
    TeeError,
    TrustedApplication,
    Value,
)

ECHO = "3f1b8f5e-6a3d-4c0e-8f0b-2d9c1a7e5b10"
ECHO_COPY = 0
WAITER = "aa17e500-3c1d-4b52-a5f0-90c1d2e3f403"

RELAY_ECHO = 0  # memref in, memref out: what the example echo answers
RELAY_DEEPER = 1  # value out: a = how many relays are inside each other, b = why no more
RELAY_WAIT = 2  # memref in/out: the waiter's, until it is cancelled
RELAY_DEADLINE = 3  # the same, for 20 ms
RELAY_PANIC = 4  # value out: what a called service's panic is: a = result, b = origin
RELAY_DIE = 5  # a panic of its own


class Relay(TrustedApplication):
    uuid = "7e1a4000-5b6c-4d7e-8f90-a1b2c3d4e505"
    name = "relay"

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        first, second = params[0], params[1]
        if command_id == RELAY_ECHO and isinstance(second, Memref):
            echo = TEE_OpenTASession(ECHO)
            try:
                TEE_InvokeTACommand(echo, TEE_TIMEOUT_INFINITE, ECHO_COPY, param_types, params)
            finally:
                TEE_CloseTASession(echo)
        elif command_id == RELAY_DEEPER and isinstance(first, Value):
            below = Value()
            try:
                other = TEE_OpenTASession(self.uuid)
                TEE_InvokeTACommand(other, TEE_TIMEOUT_INFINITE, RELAY_DEEPER, 2, [below])
            except (OutOfMemory, Busy) as error:
                below.b = error.code
            first.a, first.b = below.a + 1, below.b
        elif command_id in (RELAY_WAIT, RELAY_DEADLINE) and isinstance(first, Memref):
            if command_id == RELAY_WAIT:
                TEE_UnmaskCancellation()
            timeout = 20 if command_id == RELAY_DEADLINE else TEE_TIMEOUT_INFINITE
            waiter = TEE_OpenTASession(WAITER)
            assert first.buffer is not None
            first.buffer[1] = 1
            TEE_InvokeTACommand(waiter, timeout, 0, 7, [first])
        elif command_id == RELAY_PANIC and isinstance(first, Value):
            other = TEE_OpenTASession(self.uuid)
            try:
                TEE_InvokeTACommand(other, TEE_TIMEOUT_INFINITE, RELAY_DIE)
            except TeeError as error:
                first.a, first.b = error.code, error.origin or 0
        elif command_id == RELAY_DIE:
            raise RuntimeError("as it was told")
        else:
            raise BadParameters(f"command {command_id}")
