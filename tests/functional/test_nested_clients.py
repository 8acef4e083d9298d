# SPDX-License-Identifier: BSD-2-Clause
"""Calls between services, as a client in C sees them."""

from collections.abc import Callable
from pathlib import Path

import pytest

SERVICES = str(Path(__file__).parents[1] / "services")


@pytest.mark.client("nested.c", "--quiet", "--ta-dir", SERVICES)
def test_nested(run_case: Callable[[], None]) -> None:
    run_case()
