# SPDX-License-Identifier: BSD-2-Clause
"""Memory that changes while a call runs: lengths, numbers, ids, pages."""

from collections.abc import Callable

import pytest


@pytest.mark.client("hostile_flips.c", "--driver", "loopback")
def test_flips(attack: Callable[[], None]) -> None:
    attack()
