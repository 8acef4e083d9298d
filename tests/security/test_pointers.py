# SPDX-License-Identifier: BSD-2-Clause
"""Bad addresses and lengths, everywhere that a client can give one."""

from collections.abc import Callable

import pytest


@pytest.mark.client("hostile_pointers.c", "--driver", "loopback")
def test_pointers(attack: Callable[[], None]) -> None:
    attack()
