# SPDX-License-Identifier: BSD-2-Clause
"""Sessions, shared memory and calls of other contexts and other processes, by their ids."""

from collections.abc import Callable

import pytest


@pytest.mark.client("hostile_ids.c", "--driver", "loopback")
def test_ids(attack: Callable[[], None]) -> None:
    attack()
