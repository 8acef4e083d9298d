# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures of the contract's tests."""

from collections.abc import Iterator

import pytest

from tests.contract.drivers import CASES, DriverUnderTest


@pytest.fixture(params=CASES)
def tee_driver(request: pytest.FixtureRequest) -> Iterator[DriverUnderTest]:
    """Each driver in turn."""
    driver = DriverUnderTest(CASES[request.param])
    yield driver
    driver.close()
