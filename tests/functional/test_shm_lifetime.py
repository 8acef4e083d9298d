# SPDX-License-Identifier: BSD-2-Clause
"""Shared memory: it ends with its last descriptor and mapping."""

from collections.abc import Callable
from pathlib import Path

import pytest

SERVICES = str(Path(__file__).parents[1] / "services")


@pytest.mark.client(
    "shm_lifetime.c",
    *("--quiet", "--driver", "loopback"),
    *("--driver", "soft", "--ta-dir", SERVICES),
)
def test_shm_lifetime(run_case: Callable[[], None]) -> None:
    run_case()
