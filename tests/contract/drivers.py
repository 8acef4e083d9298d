# SPDX-License-Identifier: BSD-2-Clause
"""The drivers that the contract's tests run against, each as a user would get it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gentee.abi.gp import TEE_ORIGIN_TRUSTED_APP, TEE_SUCCESS
from gentee.core.device import DeviceRegistry, TeeDevice
from gentee.core.driver import TeeDesc
from gentee.core.registry import load_driver
from gentee.drivers.loopback.call import COPY, FILL, INCREMENT, NOP, RETURN, WAIT
from tests.helpers import LocalHost, ServiceHost

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
    processes: bool = False  # it starts some


# Of tests/services/contract.py. A service is not asked for an errno, nor can it end other waits.
SOFT_UUID = bytes.fromhex("c0117ac75d0e4b7f8a1e6f2d3c4b5a04")
SOFT_FUNCTIONS = frozenset((NOP, COPY, INCREMENT, FILL, RETURN, WAIT))
SERVICES = [str(Path(__file__).parents[1] / "services")]

CASES = {
    "loopback": Case("loopback", {}, bytes(range(16)), frozenset(range(9)), objects=True),
    "loopback-reg_mem": Case(
        "loopback", {"reg_mem": True}, b"\xff" * 16, frozenset(range(9)), objects=True
    ),
    "soft": Case("soft", {"ta_dirs": SERVICES}, SOFT_UUID, SOFT_FUNCTIONS, processes=True),
    "soft-reg_mem": Case(
        "soft", {"ta_dirs": SERVICES, "reg_mem": True}, SOFT_UUID, SOFT_FUNCTIONS, processes=True
    ),
}


class DriverUnderTest:
    """A probed driver with its devices registered.

    :param host: of a program that starts processes, which outlives the driver; otherwise the driver
        gets one of its own.
    """

    def __init__(self, case: Case, host: ServiceHost | None = None) -> None:
        self.case = case
        self.uuid = case.uuid
        self._own_host = LocalHost() if host is None else None
        self.host = host or self._own_host
        assert self.host is not None
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
        if self._own_host is not None:
            self._own_host.close()
        else:
            assert self.host is not None
            assert not self.host.bugs, self.host.bugs
