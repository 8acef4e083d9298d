# SPDX-License-Identifier: BSD-2-Clause
"""Descriptors closed and replaced under a call, and device files that are locked and abused."""

from collections.abc import Callable

import pytest


@pytest.mark.client("hostile_descriptors.c", "--driver", "loopback")
def test_descriptors(attack: Callable[[], None]) -> None:
    attack()
