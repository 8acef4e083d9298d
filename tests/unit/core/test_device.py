# SPDX-License-Identifier: BSD-2-Clause
"""gentee.core.device: names, versions, registration and its end."""

import errno
import threading

import pytest

from gentee.abi import linux_tee as tee
from gentee.core.context import teedev_close_context, teedev_open
from gentee.core.device import DeviceRegistry, IdAllocator, TeeDevice
from gentee.core.driver import TeeDesc
from tests.helpers import PATIENCE, Client, MinimalOps, in_threads, make_device


def desc(*, privileged: bool = False) -> TeeDesc:
    return TeeDesc("test", MinimalOps(), impl_id=1, privileged=privileged)


def test_names_are_the_lowest_free_ones() -> None:
    registry = DeviceRegistry()
    tee0 = registry.tee_device_register(desc())
    priv0 = registry.tee_device_register(desc(privileged=True))
    tee1 = registry.tee_device_register(desc())
    assert [d.name for d in (tee0, priv0, tee1)] == ["tee0", "teepriv0", "tee1"]
    assert registry.get("tee1") is tee1
    assert registry.get("tee2") is None
    assert registry.all() == [tee0, tee1, priv0]
    registry.tee_device_unregister(tee0)
    assert registry.get("tee0") is None
    assert registry.tee_device_register(desc()).name == "tee0"


def test_sixteen_of_each_kind() -> None:
    registry = DeviceRegistry()
    for privileged in (False, True):
        for _ in range(16):
            registry.tee_device_register(desc(privileged=privileged))
        with pytest.raises(OSError) as caught:
            registry.tee_device_register(desc(privileged=privileged))
        assert caught.value.errno == errno.ENOMEM
    names = [device.name for device in registry.all()]
    assert names == [f"{kind}{n}" for kind in ("tee", "teepriv") for n in range(16)]


def test_the_generic_driver_says_privileged() -> None:
    for privileged, caps in ((False, 0), (True, tee.TEE_GEN_CAP_PRIVILEGED)):
        device = TeeDevice(desc(privileged=privileged))
        assert device.version == (MinimalOps.version[0], 0, caps)
        assert tee.TEE_IOCTL_VERSION_DATA.unpack(device.version_data) == device.version


def test_operations_are_those_that_the_driver_has() -> None:
    assert make_device().operations == {"get_version", "open", "release"}


def test_nothing_opens_before_and_after() -> None:
    registry = DeviceRegistry()
    device = TeeDevice(desc())
    assert repr(device) == "<TeeDevice (unregistered) test>"
    with pytest.raises(OSError) as caught:
        teedev_open(device)
    assert caught.value.errno == errno.ENODEV
    device = registry.tee_device_register(desc())
    assert repr(device) == "<TeeDevice tee0 test>"
    ctx = teedev_open(device)
    registry.tee_device_unregister(device)
    assert ctx.releasing
    with pytest.raises(OSError) as caught:
        teedev_open(device)
    assert caught.value.errno == errno.ENODEV


def test_wait_no_users() -> None:
    device = make_device()
    ctx = teedev_open(device)
    device.registered(False)
    assert not device.wait_no_users(0)
    waited = threading.Event()

    def wait() -> None:
        assert device.wait_no_users(PATIENCE)
        waited.set()

    thread = threading.Thread(target=wait)
    thread.start()
    teedev_close_context(ctx)
    thread.join()
    assert waited.is_set()


def test_a_device_that_nobody_opened_has_no_users() -> None:
    device = make_device()
    device.registered(False)
    assert device.wait_no_users(0)


def test_unregistering_closes_every_context() -> None:
    registry = DeviceRegistry()
    device = registry.tee_device_register(desc())
    clients = [Client(device) for _ in range(3)]
    shm = clients[0].shm_alloc(1)
    registry.tee_device_unregister(device)
    assert device.contexts == set()
    assert device.wait_no_users(0)
    assert all(client.ctx.releasing for client in clients)
    shm.put()  # what a client still has mapped goes with the client
    assert device.shm_bytes == 0


def test_ids_are_the_lowest_free_ones() -> None:
    ids = IdAllocator()
    assert [ids.alloc() for _ in range(4)] == [1, 2, 3, 4]
    ids.free(3)
    ids.free(1)
    assert [ids.alloc() for _ in range(3)] == [1, 3, 5]


def test_no_id_is_given_twice() -> None:
    ids = IdAllocator()
    given: list[int] = []

    def take() -> None:
        mine = [ids.alloc() for _ in range(500)]
        for number in mine[::2]:
            ids.free(number)
        given.extend(mine[1::2])

    in_threads(*[take] * 6)
    assert len(set(given)) == len(given) == 1500
