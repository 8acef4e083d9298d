# SPDX-License-Identifier: BSD-2-Clause
"""The ioctls of <gentee/tee.h>, by clients that race with themselves."""

from collections.abc import Callable

import pytest


@pytest.mark.client("hostile_extension.c", "--driver", "loopback")
def test_extension(attack: Callable[[], None]) -> None:
    attack()
