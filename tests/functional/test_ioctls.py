# SPDX-License-Identifier: BSD-2-Clause
"""The eleven ioctls: Linux's checks in Linux's order, with Linux's errno values."""

from collections.abc import Callable

import pytest


@pytest.mark.client("ioctls.c", "--driver", "loopback")
def test_ioctls(run_case: Callable[[], None]) -> None:
    run_case()
