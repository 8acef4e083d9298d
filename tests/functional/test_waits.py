# SPDX-License-Identifier: BSD-2-Clause
"""Commands that last: cancellation, and callers that are gone."""

from collections.abc import Callable
from pathlib import Path

import pytest

SERVICES = str(Path(__file__).parents[1] / "services")


@pytest.mark.client(
    "waits.c",
    *("--quiet", "--driver", "soft", "--ta-dir", SERVICES),
    *("--driver", "loopback"),
)
def test_waits(run_case: Callable[[], None]) -> None:
    run_case()
