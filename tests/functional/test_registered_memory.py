# SPDX-License-Identifier: BSD-2-Clause
"""Registered memory: copied, and yet as if shared."""

from collections.abc import Callable
from pathlib import Path

import pytest

SERVICES = str(Path(__file__).parents[1] / "services")


@pytest.mark.client("registered.c", "--ta-dir", SERVICES)
def test_registered_memory(run_case: Callable[[], None]) -> None:
    run_case()


@pytest.mark.client("registered.c", "--ta-dir", SERVICES, "--reg-mem")
def test_registered_memory_where_the_device_advertises_it(run_case: Callable[[], None]) -> None:
    run_case()
