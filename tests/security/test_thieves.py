# SPDX-License-Identifier: BSD-2-Clause
"""A client that may trace others: stolen descriptors, calls that are stopped and interrupted."""

from collections.abc import Callable

import pytest


@pytest.mark.client("hostile_thieves.c", "--driver", "loopback")
def test_thieves(attack: Callable[[], None]) -> None:
    attack()
