# SPDX-License-Identifier: BSD-2-Clause
"""Clients of a loopback TEE inside the test's own process, on each of libteec's roads."""

from collections.abc import Iterator

import pytest

from gentee.client import Context, Session
from gentee.client.kernel_door import KernelDoor
from gentee.core.device import DeviceRegistry
from gentee.drivers.loopback import driver
from tests.helpers import PATIENCE, LocalHost


@pytest.fixture(params=[False, True], ids=["shm-alloc", "reg-mem"])
def registry(request: pytest.FixtureRequest) -> Iterator[DeviceRegistry]:
    """tee0 and teepriv0. At the end no memory of a client may be left."""
    host, registry = LocalHost(), DeviceRegistry()
    options = {"reg_mem": request.param}
    devices = [registry.tee_device_register(desc) for desc in driver.probe(host, options)]
    yield registry
    for device in devices:
        registry.tee_device_unregister(device)
        assert device.wait_no_users(PATIENCE)
        assert not device.shm_bytes
    host.close()


@pytest.fixture
def context(registry: DeviceRegistry) -> Iterator[Context]:
    with Context(door=KernelDoor(registry)) as context:
        yield context


@pytest.fixture
def session(context: Context) -> Session:
    return context.open_session(bytes(range(16)))
