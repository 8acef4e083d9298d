# SPDX-License-Identifier: BSD-2-Clause
"""Single: one instance at a time, so that an open waits until the one before has ended."""

from typing import Any

from gentee.ta import Params, TrustedApplication


class Single(TrustedApplication):
    uuid = "0d0f9a56-5f0b-4c3a-9a52-7f0d9c1b6e02"
    name = "single"
    description = "does nothing, in a process of its own for each session"
    single_instance = True

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        pass
