# SPDX-License-Identifier: BSD-2-Clause
"""Opens with a path that changes, has no end, or is no path."""

from collections.abc import Callable

import pytest


@pytest.mark.client("hostile_paths.c", "--driver", "loopback")
def test_paths(attack: Callable[[], None]) -> None:
    attack()
