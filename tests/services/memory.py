# SPDX-License-Identifier: BSD-2-Clause
"""Memory: fills and looks at what it is given, and says any size and result of it."""

from typing import Any

from gentee.ta import BadParameters, Memref, Params, ShortBuffer, TrustedApplication, Value

MEMORY_FILL = 0  # value in: a = byte, b = size to report; memref out: all of it is filled
MEMORY_FILL_AND_FAIL = 1  # the same, and the result is TEE_ERROR_BAD_PARAMETERS
MEMORY_ASK = 2  # value in: a = size; memref out: TEE_ERROR_SHORT_BUFFER, nothing is written
MEMORY_LOOK = 3  # value out: a = first byte, b = last byte of; any memref
MEMORY_THROUGH = 4  # value in/out: a = byte to write to the first; memref in/out; any memref,
# whose first byte is then b


class Memory(TrustedApplication):
    uuid = "3e304217-6a0d-4f6b-8f6a-1b2c3d4e5f02"
    name = "memory"

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        value, memref = params[0], params[1]
        if not isinstance(value, Value) or not isinstance(memref, Memref):
            raise BadParameters("a value and a memref")
        buffer = memref.buffer if memref.buffer is not None else memoryview(b"")
        if command_id in (MEMORY_FILL, MEMORY_FILL_AND_FAIL):
            buffer[:] = bytes([value.a]) * len(buffer)
            memref.size = value.b
            if command_id == MEMORY_FILL_AND_FAIL:
                raise BadParameters("as asked")
        elif command_id == MEMORY_ASK:
            memref.size = value.a
            raise ShortBuffer("as asked")
        elif command_id == MEMORY_LOOK:
            value.a, value.b = buffer[0], buffer[-1]
        elif command_id == MEMORY_THROUGH:
            other = params[2]
            if not isinstance(other, Memref) or other.buffer is None:
                raise BadParameters("a second memref")
            buffer[:] = bytes([value.a]) * len(buffer)
            value.b = other.buffer[0]
        else:
            raise BadParameters(f"command {command_id}")
