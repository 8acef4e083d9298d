# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures of the contract's tests."""

from collections.abc import Iterator

import pytest

from tests.contract.drivers import CASES, DriverUnderTest
from tests.helpers import ServiceHost


@pytest.fixture(scope="session")
def service_host() -> Iterator[ServiceHost]:
    """For the drivers that start processes, one after the other."""
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture(params=CASES)
def tee_driver(request: pytest.FixtureRequest) -> Iterator[DriverUnderTest]:
    """Each driver in turn."""
    case = CASES[request.param]
    driver = DriverUnderTest(
        case, request.getfixturevalue("service_host") if case.processes else None
    )
    yield driver
    driver.close()
