# SPDX-License-Identifier: BSD-2-Clause
"""Waiter: commands that last until something happens. How far they are is seen in shared memory.

Each takes one memref in/out. Its first byte becomes ENTERED when the command runs, and tells at
the end how it ended. To open a session with such a memref waits as WAITER_WAIT does.
"""

from typing import Any

from gentee.ta import (
    BadParameters,
    Cancel,
    Memref,
    Params,
    TEE_GetCancellationFlag,
    TEE_UnmaskCancellation,
    TEE_Wait,
    TrustedApplication,
)

WAITER_WAIT = 0  # waits for ever, until it is cancelled: TEE_ERROR_CANCEL
WAITER_POLL = 1  # looks at the cancellation flag until it is set: success
WAITER_MASKED = 2  # waits 50 ms with cancellation masked: success, whatever is asked meanwhile
WAITER_ANSWER = 3  # waits for the client to write to the second byte, and copies it to the third

ENTERED = 1
CANCELLED = 2
DONE = 3


class Waiter(TrustedApplication):
    uuid = "aa17e500-3c1d-4b52-a5f0-90c1d2e3f403"
    name = "waiter"

    def TA_OpenSessionEntryPoint(self, param_types: int, params: Params) -> None:
        if params[0] is not None:
            self.TA_InvokeCommandEntryPoint(None, WAITER_WAIT, param_types, params)

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        memref = params[0]
        if not isinstance(memref, Memref) or memref.buffer is None or len(memref.buffer) < 3:
            raise BadParameters("one memref")
        state = memref.buffer
        if command_id != WAITER_MASKED:
            TEE_UnmaskCancellation()
        state[0] = ENTERED
        try:
            if command_id == WAITER_WAIT:
                TEE_Wait(0xFFFFFFFF)
            elif command_id == WAITER_POLL:
                while not TEE_GetCancellationFlag():
                    pass
            elif command_id == WAITER_MASKED:
                TEE_Wait(50)
            elif command_id == WAITER_ANSWER:
                while not state[1]:
                    TEE_Wait(1)
                state[2] = state[1]
            else:
                raise BadParameters(f"command {command_id}")
        except Cancel:
            state[0] = CANCELLED
            raise
        state[0] = DONE
