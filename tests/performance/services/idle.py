# SPDX-License-Identifier: BSD-2-Clause
"""Idle: takes any parameters and does nothing with them; what is left is the road itself."""

from time import perf_counter
from typing import Any

from gentee.ta import Params, TrustedApplication


class Idle(TrustedApplication):
    uuid = "0d0f9a56-5f0b-4c3a-9a52-7f0d9c1b6e01"
    name = "idle"
    description = "computes for as many microseconds as the command's number says"

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        if command_id:
            end = perf_counter() + command_id * 1e-6
            while perf_counter() < end:
                pass
