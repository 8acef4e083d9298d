# SPDX-License-Identifier: BSD-2-Clause
"""Opening a device: names, flags, numbers, close-on-exec."""

from collections.abc import Callable

import pytest


@pytest.mark.client("descriptors.c")
def test_descriptors(run_case: Callable[[], None]) -> None:
    run_case()
