# SPDX-License-Identifier: BSD-2-Clause
"""Services that crash, each in its own way."""

import pytest

from tests.security.captive import MakeCaptive, captive, service_host

__all__ = ["captive", "service_host"]


@pytest.mark.parametrize(
    "crash",
    [
        "import ctypes; ctypes.string_at(0)",
        "import ctypes; ctypes.memset(1 << 46, 0, 1)",
        "os.abort()",
        "os._exit(0)",
        "sys.exit()",
        "import faulthandler; faulthandler._stack_overflow()",
        "import signal; signal.raise_signal(signal.SIGKILL)\n        os.abort()",
        "raise KeyboardInterrupt",
    ],
)
def test_a_crash(captive: MakeCaptive, crash: str) -> None:
    hostile = captive(f"\n    def attack(self, command, params):\n        {crash}\n")
    hostile.dies(1)
