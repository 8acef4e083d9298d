# SPDX-License-Identifier: BSD-2-Clause
"""A TA of each architecture."""

from collections.abc import Iterator

import pytest

from gentee.ta.engine.base import AARCH64, ARM
from tests.svc_ta import TestedTa


@pytest.fixture(params=[AARCH64, ARM])
def ta(request: pytest.FixtureRequest) -> Iterator[TestedTa]:
    tested = TestedTa(request.param)
    yield tested
    tested.end()
