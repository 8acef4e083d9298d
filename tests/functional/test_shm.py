# SPDX-License-Identifier: BSD-2-Clause
"""Shared memory: allocated, registered, and brought as a file."""

from collections.abc import Callable

import pytest


@pytest.mark.client("shm.c", "--driver", "loopback")
def test_shm(run_case: Callable[[], None]) -> None:
    run_case()
