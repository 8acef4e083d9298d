# SPDX-License-Identifier: BSD-2-Clause
"""Shared memory: it ends with its last descriptor and mapping."""

from collections.abc import Callable

import pytest


@pytest.mark.client("shm_lifetime.c", "--driver", "loopback")
def test_shm_lifetime(run_case: Callable[[], None]) -> None:
    run_case()
