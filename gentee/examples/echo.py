# SPDX-License-Identifier: BSD-2-Clause
"""Echo: what the client shares comes back, through the client's own pages."""

from typing import Any

from gentee.ta import IMSG, BadParameters, Memref, Params, TrustedApplication

ECHO_COPY = 0  # memref in, memref out: the output gets the input's bytes
ECHO_UPPER = 1  # memref in/out: ASCII letters become capitals, in place
ECHO_NOTHING = 2  # no parameters


class Echo(TrustedApplication):
    uuid = "3f1b8f5e-6a3d-4c0e-8f0b-2d9c1a7e5b10"
    name = "echo"
    description = "gives back what it gets over shared memory"

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        if command_id == ECHO_NOTHING:
            return
        if command_id == ECHO_COPY and param_types == 0x65:
            source, target = params[0], params[1]
            assert isinstance(source, Memref)
            assert isinstance(target, Memref)
            target.write(source.buffer if source.buffer is not None else b"")
            IMSG(f"{target.size} bytes echoed")
        elif command_id == ECHO_UPPER and param_types == 0x7:
            text = params[0]
            assert isinstance(text, Memref)
            if text.buffer is not None:
                text.buffer[:] = bytes(text.buffer).upper()
        else:
            raise BadParameters(f"command {command_id} with types {param_types:#06x}")
