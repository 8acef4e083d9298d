# SPDX-License-Identifier: BSD-2-Clause
"""Contract: the functions of loopback's services that a service of the software TEE can have.

The numbers and meanings are those of gentee/drivers/loopback/call.py. SUPPLICANT, ERRNO and CLIENT
are not a service's to do, and RELEASE would have to reach other instances.
"""

from typing import Any

from gentee.ta import (
    BadParameters,
    Memref,
    NotSupported,
    Params,
    ShortBuffer,
    TEE_UnmaskCancellation,
    TEE_Wait,
    TeeError,
    TrustedApplication,
    Value,
)

NOP = 0
COPY = 1
INCREMENT = 2
FILL = 3
RETURN = 4
WAIT = 5

_VALUE_INPUT, _VALUE_INOUT, _MEMREF_INPUT, _MEMREF_INOUT = 1, 3, 5, 7  # GP types of parameters
_INPUTS = (_VALUE_INPUT, _VALUE_INOUT, _MEMREF_INPUT, _MEMREF_INOUT)
_OUTPUTS = (2, 3, 6, 7)


class Contract(TrustedApplication):
    uuid = "c0117ac7-5d0e-4b7f-8a1e-6f2d3c4b5a04"
    name = "contract"

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        kinds = [param_types >> 4 * at & 0xF for at in range(4)]
        if command_id == NOP:
            return
        if command_id == COPY:
            copy(kinds, params)
        elif command_id == INCREMENT:
            for kind, param in zip(kinds, params, strict=True):
                if kind == _VALUE_INOUT and isinstance(param, Value):
                    param.a += 1
                    param.b += 1
        elif command_id == FILL:
            fill(kinds, params)
        elif command_id == RETURN:
            code = first_value(kinds, params).a
            if code:
                raise TeeError(code)
        elif command_id == WAIT:
            TEE_UnmaskCancellation()
            TEE_Wait(0xFFFF_FFFF)
        else:
            raise NotSupported(f"command {command_id}")


def first_value(kinds: list[int], params: Params) -> Value:
    """The value that comes in as the first parameter."""
    value = params[0]
    if kinds[0] not in (_VALUE_INPUT, _VALUE_INOUT) or not isinstance(value, Value):
        raise BadParameters("params[0] must be a value that comes in")
    return value


def copy(kinds: list[int], params: Params) -> None:
    """The first input to every other parameter that is an output."""
    source = next((at for at in range(4) if kinds[at] in _INPUTS), None)
    if source is None:
        raise BadParameters("nothing comes in")
    given = params[source]
    outputs = [params[at] for at in range(4) if at != source and kinds[at] in _OUTPUTS]
    short = False
    # Bytes, since an output may lie over the input.
    data = bytes(given) if isinstance(given, Memref) else b""
    for output in outputs:
        if isinstance(given, Value) and isinstance(output, Value):
            output.a, output.b = given.a, given.b
        elif isinstance(given, Memref) and isinstance(output, Memref):
            try:
                output.write(data)
            except ShortBuffer:
                short = True
        else:
            raise BadParameters("values and memrefs do not mix")
    if short:
        raise ShortBuffer(f"{len(data)} bytes")


def fill(kinds: list[int], params: Params) -> None:
    """Every memref that is an output with one byte."""
    byte = first_value(kinds, params).a
    if byte > 0xFF:
        raise BadParameters("no byte")
    for kind, param in zip(kinds, params, strict=True):
        if kind in _OUTPUTS and isinstance(param, Memref) and param.buffer is not None:
            param.buffer[:] = bytes([byte]) * len(param.buffer)
