# SPDX-License-Identifier: BSD-2-Clause
"""The driver contract, the rest: the supplicant's device, objects, and drivers of third parties."""

import errno
import sys
from pathlib import Path

import pytest

from gentee.abi import gp
from gentee.abi import linux_tee as tee
from gentee.core.device import DeviceRegistry
from gentee.core.driver import ENOTSUPP
from gentee.core.registry import load_driver
from gentee.drivers.loopback.call import ECHO, NOP, SUPPLICANT
from tests.contract.drivers import SUCCESS, TRUSTED_APP, DriverUnderTest, fails
from tests.helpers import (
    META,
    NONE,
    Call,
    Client,
    LocalHost,
    OwnMemory,
    Param,
    memref_in,
    value_in,
    value_inout,
    value_out,
)

COMMUNICATION = (gp.TEE_ERROR_COMMUNICATION, TRUSTED_APP)


def answer(received: Call, *params: Param) -> list[Param]:
    """What SUPPL_SEND takes for an answer: the META value of the request, then parameters."""
    return [received.wait_done().params[0], *params]


# The supplicant's device


def test_one_supplicant(tee_driver: DriverUnderTest) -> None:
    device = tee_driver.priv
    first = Client(device)
    fails(errno.EBUSY, lambda: Client(device))
    fails(errno.EBUSY, lambda: Client(device))
    first.close()
    Client(device).close()


def test_room_for_a_request(tee_driver: DriverUnderTest) -> None:
    with Client(tee_driver.priv) as supp:
        for room in ([], [NONE], [value_in()], [META, value_inout()]):
            fails(errno.EINVAL, supp.supp_recv(room).wait_done)
        fails(errno.EINVAL, lambda: supp.supp_send(0, []))
        fails(errno.EINVAL, lambda: supp.supp_send(0, [META]))
        fails(errno.ENOENT, lambda: supp.supp_send(0, [(META[0] | value_inout()[0], 9, 0, 0)]))


def test_the_supplicants_memory_is_its_own(tee_driver: DriverUnderTest) -> None:
    with Client(tee_driver.priv) as supp, Client(tee_driver.device) as client:
        shm = supp.shm_alloc(1)
        session = client.open_session(tee_driver.uuid)
        fails(errno.EINVAL, lambda: client.invoke(session, NOP, [memref_in(shm)]))
        shm.put()


def test_a_service_asks_the_supplicant(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(SUPPLICANT)
    with Client(tee_driver.priv) as supp, Client(tee_driver.device) as client:
        session = client.open_session(tee_driver.uuid)
        params = [value_in(77), value_inout(1, 2, 3), value_out()]
        call = client.invoke(session, SUPPLICANT, params)
        received = supp.supp_recv().wait_done()
        assert received.arg.func == 77
        assert received.params[1:3] == [value_inout(1, 2, 3), value_out()]
        assert not call.is_done
        attr_out = value_out()[0]
        supp.supp_send(5, answer(received, value_inout(4, 5, 6), (attr_out, 7, 8, 9)))
        assert call.result == (5, TRUSTED_APP)
        assert call.params == [value_in(77), value_inout(4, 5, 6), (attr_out, 7, 8, 9)]


def test_two_clients_and_a_supplicant_of_many_threads(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(SUPPLICANT)
    with Client(tee_driver.priv) as supp:
        waiting = [supp.supp_recv() for _ in range(3)]
        clients = [Client(tee_driver.device) for _ in range(2)]
        calls = [
            client.invoke(client.open_session(tee_driver.uuid), SUPPLICANT, [value_in(func)])
            for func, client in enumerate(clients)
        ]
        first, second = (call.wait_done() for call in waiting[:2])
        assert (first.arg.func, second.arg.func, waiting[2].is_done) == (0, 1, False)
        supp.supp_send(21, answer(second))
        supp.supp_send(20, answer(first))
        assert [call.result[0] for call in calls] == [20, 21]
        for client in clients:
            client.close()


def test_without_a_supplicant(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(SUPPLICANT)
    device = tee_driver.priv
    with Client(tee_driver.device) as client:
        session = client.open_session(tee_driver.uuid)
        # Programs wait for one to come; callers inside this program do not.
        call = client.invoke(session, SUPPLICANT, [value_in(3)])
        assert not call.is_done
        client.ctx.supp_nowait = True
        assert client.invoke(session, SUPPLICANT, [value_in(3)]).result == COMMUNICATION
        with Client(device) as supp:
            supp.supp_send(0, answer(supp.supp_recv()))
            assert call.result == SUCCESS


def test_the_supplicant_dies(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(SUPPLICANT)
    supp = Client(tee_driver.priv)
    with Client(tee_driver.device) as client:
        session = client.open_session(tee_driver.uuid)
        calls = [client.invoke(session, SUPPLICANT, [value_in(func)]) for func in range(3)]
        supp.supp_recv().wait_done()  # it has one of them
        supp.close()
        assert [call.result for call in calls] == [COMMUNICATION] * 3


def test_a_client_gives_up(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(SUPPLICANT)
    with Client(tee_driver.priv) as supp, Client(tee_driver.device) as client:
        one, two = (client.open_session(tee_driver.uuid) for _ in range(2))
        calls = [
            client.invoke(one, SUPPLICANT, [value_in(1)], cancel_id=1),
            client.invoke(one, SUPPLICANT, [value_in(2)], cancel_id=2),
            client.invoke(two, SUPPLICANT, [value_in(3)]),
            client.invoke(one, SUPPLICANT, [value_in(4)], cancel_id=4),
        ]
        taken = supp.supp_recv().wait_done()
        client.cancel(1, one)
        client.cancel(2, one)
        client.close_session(two)
        assert calls[0].result == calls[1].result == (gp.TEE_ERROR_CANCEL, TRUSTED_APP)
        assert calls[2].result == (gp.TEE_ERROR_TARGET_DEAD, gp.TEE_ORIGIN_TEE)
        # What it had not seen it never sees; what it has is nobody's any more.
        received = supp.supp_recv().wait_done()
        assert received.arg.func == 4
        fails(errno.ENOENT, lambda: supp.supp_send(0, answer(taken)))
        supp.supp_send(0, answer(received))
        assert calls[3].result == SUCCESS


def test_a_receiver_dies_with_the_request(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(SUPPLICANT)
    with Client(tee_driver.priv) as supp, Client(tee_driver.device) as client:
        call = client.invoke(client.open_session(tee_driver.uuid), SUPPLICANT, [value_in(8)])
        dead = supp.supp_recv().wait_done()
        dead.arg.abandon()
        received = supp.supp_recv().wait_done()
        assert received.arg.func == 8
        supp.supp_send(0, answer(received))
        assert call.result == SUCCESS


def test_unregistering_the_supplicants_device(tee_driver: DriverUnderTest) -> None:
    device = tee_driver.priv
    supp = Client(device)
    waiting = supp.supp_recv()
    tee_driver.registry.tee_device_unregister(device)
    fails(errno.EINTR, waiting.wait_done)
    assert device.wait_no_users(0)


# Objects


def test_objects(tee_driver: DriverUnderTest) -> None:
    if not tee_driver.case.objects:
        pytest.skip("no objects")
    into, out = (
        tee.TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT,
        tee.TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_OUTPUT,
    )
    inout = tee.TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INOUT
    ubuf_in, ubuf_out = (
        tee.TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT,
        tee.TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_OUTPUT,
    )
    with Client(tee_driver.device) as client:
        call = client.object_invoke(
            7,
            ECHO,
            [
                (into, 5, 1, 99),
                (out, 0, 0, 99),
                (inout, 6, 2, 99),
                (ubuf_in, 0x1000, 10, 99),
                (ubuf_out, 0x2000, 4, 99),
            ],
        )
        assert call.result[0] == gp.TEE_SUCCESS
        assert call.params == [
            (into, 5, 1, 99),
            (out, 5, 1, 99),
            (inout, 6, 2, 99),
            (ubuf_in, 0x1000, 10, 99),
            (ubuf_out, 0x2000, 10, 99),  # larger than it is: unclamped, as a memref's size
        ]
        shm = client.shm_alloc(1)
        assert client.object_invoke(7, 12345, [memref_in(shm)]).result[0] != gp.TEE_SUCCESS
        assert shm.refcount == 1
        shm.put()


# Drivers of third parties

PLUGIN = """
from gentee.core.driver import ShmNeeds, TeeDesc, TeeDriver, TeeDriverOps


class Ops(TeeDriverOps):
    def get_version(self, teedev):
        return 0xACE, 3, 0

    def open(self, ctx):
        ctx.data = []

    def release(self, ctx):
        ctx.data.append("released")


class Acme(TeeDriver):
    name = "acme"
    removed = 0

    def probe(self, host, options):
        host.warn("acme protects nothing")
        shm = ShmNeeds(largest=options["largest"], alignment=1 << 16)
        yield TeeDesc("acme", Ops(), impl_id=0xACE, impl_caps=3, shm=shm)
        yield TeeDesc("acme", Ops(), impl_id=0xACE, impl_caps=3, privileged=True)

    def remove(self):
        Acme.removed += 1


driver = Acme
"""


def test_a_third_partys_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed as pip does, with the three operations that are mandatory and nothing else."""
    info = tmp_path / "acme_contract-1.0.dist-info"
    info.mkdir()
    (tmp_path / "acme_contract.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-contract\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gentee.drivers]\nacme = acme_contract:driver\n")
    monkeypatch.syspath_prepend(tmp_path)
    host, registry = LocalHost(), DeviceRegistry()
    loopback = [
        registry.tee_device_register(desc) for desc in load_driver("loopback").probe(host, {})
    ]
    driver = load_driver("acme")
    device, priv = (
        registry.tee_device_register(desc) for desc in driver.probe(host, {"largest": 1 << 17})
    )
    assert host.warnings == ["acme protects nothing"]
    # It stands beside the others, under names of its own.
    assert [d.name for d in registry.all()] == ["tee0", "tee1", "teepriv0", "teepriv1"]
    assert [d.name for d in (device, priv)] == ["tee1", "teepriv1"]
    assert device.version == (0xACE, 3, 0)
    assert priv.version == (0xACE, 3, tee.TEE_GEN_CAP_PRIVILEGED)
    client = Client(device)
    for call in (client.begin_open_session(bytes(16)), client.object_invoke(1, 0)):
        fails(errno.EINVAL, call.wait_done)
    fails(errno.EINVAL, client.supp_recv().wait_done)
    fails(errno.EINVAL, lambda: client.supp_send(0, [META]))
    fails(errno.EINVAL, lambda: client.cancel(0, 0))
    fails(errno.EINVAL, lambda: client.close_session(1))
    fails(errno.ENODEV, lambda: device.ops.get_tee_revision(device))
    fails(ENOTSUPP, lambda: client.shm_register(OwnMemory(b"x"), 1))
    fails(errno.ENOMEM, lambda: client.shm_alloc((1 << 17) + 1))
    shm = client.shm_alloc(1)
    assert shm.size == 1 << 16
    shm.put()
    data = client.ctx.data
    client.close()
    assert data == ["released"]
    for each in (device, priv, *loopback):
        registry.tee_device_unregister(each)
        assert each.wait_no_users(0)
    driver.remove()
    assert sys.modules["acme_contract"].Acme.removed == 1
    monkeypatch.delitem(sys.modules, "acme_contract")
    host.close()
