# SPDX-License-Identifier: BSD-2-Clause
"""Single: one instance, and it takes one session at a time."""

from typing import Any

from gentee.ta import Params, TrustedApplication


class Single(TrustedApplication):
    uuid = "51261e00-7d3b-4e0f-9a5c-3c2b1a0f9e04"
    name = "single"
    single_instance = True

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        """Nothing is asked of it but to be there."""
