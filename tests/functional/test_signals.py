# SPDX-License-Identifier: BSD-2-Clause
"""Signals: no command is lost, none is done twice."""

from collections.abc import Callable
from pathlib import Path

import pytest

SERVICES = str(Path(__file__).parents[1] / "services")


@pytest.mark.client("signals.c", "--quiet", "--ta-dir", SERVICES)
def test_signals(run_case: Callable[[], None]) -> None:
    run_case()
