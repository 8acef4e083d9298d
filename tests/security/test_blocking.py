# SPDX-License-Identifier: BSD-2-Clause
"""Clients whose memory or files never answer: everybody else is served all the same."""

from collections.abc import Callable

import pytest


@pytest.mark.client("hostile_blocking.c", "--driver", "loopback")
def test_blocking(attack: Callable[[], None]) -> None:
    attack()
