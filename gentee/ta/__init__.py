# SPDX-License-Identifier: BSD-2-Clause
"""For trusted services written in Python: the TEE Internal Core API under its own names.

A service is a file with one class::

    from gentee.ta import BadParameters, TrustedApplication, Value

    class Adder(TrustedApplication):
        uuid = "7d5a9b0e-3f3c-4a55-9a3a-0d3f2f0b8d11"
        name = "adder"

        def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
            ...
"""

from gentee.errors import (
    AccessDenied,
    BadParameters,
    BadState,
    Busy,
    Cancel,
    ItemNotFound,
    NotSupported,
    OutOfMemory,
    ShortBuffer,
    TaPanic,
    TeeError,
)
from gentee.ta.api import (
    DMSG,
    EMSG,
    FMSG,
    IMSG,
    Memref,
    Param,
    Params,
    TEE_GetCancellationFlag,
    TEE_MaskCancellation,
    TEE_Panic,
    TEE_UnmaskCancellation,
    TEE_Wait,
    TrustedApplication,
    Value,
)

__all__ = [
    "DMSG", "EMSG", "FMSG", "IMSG",
    "AccessDenied", "BadParameters", "BadState", "Busy", "Cancel", "ItemNotFound",
    "Memref", "NotSupported", "OutOfMemory", "Param", "Params", "ShortBuffer",
    "TEE_GetCancellationFlag", "TEE_MaskCancellation", "TEE_Panic", "TEE_UnmaskCancellation",
    "TEE_Wait", "TaPanic", "TeeError", "TrustedApplication", "Value",
]  # fmt: skip
