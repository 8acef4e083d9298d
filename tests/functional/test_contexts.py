# SPDX-License-Identifier: BSD-2-Clause
"""Contexts: they end with their last descriptor, wherever it went."""

from collections.abc import Callable
from pathlib import Path

import pytest

SERVICES = str(Path(__file__).parents[1] / "services")


@pytest.mark.client("contexts.c", "--ta-dir", SERVICES)
def test_contexts(run_case: Callable[[], None]) -> None:
    run_case()
