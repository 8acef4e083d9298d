# SPDX-License-Identifier: BSD-2-Clause
"""The drivers that the contract's tests run against, each as a user would get it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest

from gentee.abi.gp import TEE_ORIGIN_TRUSTED_APP, TEE_SUCCESS
from gentee.core.device import DeviceRegistry, TeeDevice
from gentee.core.driver import TeeDesc
from gentee.core.registry import load_driver
from tests.helpers import LocalHost

TRUSTED_APP = TEE_ORIGIN_TRUSTED_APP
SUCCESS = (TEE_SUCCESS, TRUSTED_APP)  # ret and ret_origin


def fails(number: int, call: Callable[[], object]) -> None:
    """The ioctl fails with this errno."""
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == number


class Case(NamedTuple):
    """A driver, how to start it, and a trusted service of it to talk to.

    The service has functions of gentee/drivers/loopback/call.py, by those numbers. A test that
    needs one that the service lacks is skipped.
    """

    driver: str
    options: Mapping[str, Any]
    uuid: bytes
    functions: frozenset[int]
    objects: bool = False


CASES = {
    "loopback": Case("loopback", {}, bytes(range(16)), frozenset(range(9)), objects=True),
    "loopback-reg_mem": Case(
        "loopback", {"reg_mem": True}, b"\xff" * 16, frozenset(range(9)), objects=True
    ),
}


class DriverUnderTest:
    """A probed driver with its devices registered."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.uuid = case.uuid
        self.host = LocalHost()
        self.driver = load_driver(case.driver)
        self.descs: list[TeeDesc] = list(self.driver.probe(self.host, case.options))
        self.registry = DeviceRegistry()
        self.devices = [self.registry.tee_device_register(desc) for desc in self.descs]

    @property
    def device(self) -> TeeDevice:
        """The first one, for clients."""
        return self.devices[0]

    @property
    def priv(self) -> TeeDevice:
        """The supplicant's; the test is skipped where there is none."""
        for device in self.devices:
            if device.desc.privileged:
                return device
        pytest.skip("no privileged device")

    def need(self, *functions: int) -> None:
        """Skip the test unless the service has these functions."""
        if not self.case.functions.issuperset(functions):
            pytest.skip(f"the service lacks one of the functions {functions}")

    def close(self) -> None:
        """Unregister everything. What a test left behind in a device fails it."""
        for device in self.devices:
            self.registry.tee_device_unregister(device)
            assert device.wait_no_users(0), device
            assert device.shm_bytes == 0, "shared memory was leaked"
            assert device.session_ids.alloc() == 1, "a session was leaked"
        self.driver.remove()
        self.host.close()
