# SPDX-License-Identifier: BSD-2-Clause
"""The supplicant: requests go round between two processes and a TEE."""

from collections.abc import Callable

import pytest


@pytest.mark.client("supplicant.c", "--quiet", "--driver", "loopback", "--driver", "soft")
def test_supplicant(run_case: Callable[[], None]) -> None:
    run_case()
