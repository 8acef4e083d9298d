# SPDX-License-Identifier: BSD-2-Clause
"""What every specific driver must do, and what the generic driver does for each (driver.py).

Each test runs against every driver of drivers.py. The rules are those of drivers/tee of Linux
where they are not gentee's own: docs/device-abi.md. Here: versions, sessions, values, results and
ends; memory, the supplicant and objects have files of their own.
"""

import errno
from collections.abc import Callable
from functools import partial

from gentee.abi import gp
from gentee.abi import linux_tee as tee
from gentee.core.driver import ENOTSUPP
from gentee.core.shm import TeeShm
from gentee.drivers.loopback.call import (
    COPY,
    ECHO,
    ERRNO,
    INCREMENT,
    NOP,
    RELEASE,
    RETURN,
    WAIT,
)
from tests.contract.drivers import SUCCESS, TRUSTED_APP, DriverUnderTest, fails
from tests.helpers import (
    META,
    NONE,
    Call,
    Client,
    in_threads,
    memref_in,
    value_in,
    value_inout,
    value_out,
)

ALL_CAPS = (
    tee.TEE_GEN_CAP_GP
    | tee.TEE_GEN_CAP_PRIVILEGED
    | tee.TEE_GEN_CAP_REG_MEM
    | tee.TEE_GEN_CAP_MEMREF_NULL
    | tee.TEE_GEN_CAP_OBJREF
)


# Versions, capabilities, operations


def test_versions_and_capabilities(tee_driver: DriverUnderTest) -> None:
    for device in tee_driver.devices:
        impl_id, impl_caps, gen_caps = device.version
        assert (impl_id, impl_caps) == (device.desc.impl_id, device.desc.impl_caps)
        assert 0 < impl_id < 2**32
        assert gen_caps & ~ALL_CAPS == 0
        privileged = tee.TEE_GEN_CAP_PRIVILEGED if device.desc.privileged else 0
        assert gen_caps == device.desc.gen_caps | privileged
        assert device.ops.get_version(device) == (impl_id, impl_caps, device.desc.gen_caps)
        assert tee.TEE_IOCTL_VERSION_DATA.unpack(device.version_data) == device.version


def test_what_is_promised_is_there(tee_driver: DriverUnderTest) -> None:
    for device in tee_driver.devices:
        caps, has = device.version[2], device.operations
        assert {"get_version", "open", "release"} <= has
        assert ("shm_register" in has) == ("shm_unregister" in has)
        assert ("supp_recv" in has) == ("supp_send" in has)
        if caps & tee.TEE_GEN_CAP_REG_MEM:
            assert "shm_register" in has
            assert device.desc.shm.registered
        if caps & tee.TEE_GEN_CAP_OBJREF and not device.desc.privileged:
            assert "object_invoke_func" in has
            assert device.desc.takes_objref
    assert {"open_session", "close_session", "invoke_func"} <= tee_driver.device.operations


def test_clients_devices_come_first(tee_driver: DriverUnderTest) -> None:
    assert not tee_driver.device.desc.privileged
    assert [d.desc.privileged for d in tee_driver.devices] == sorted(
        desc.privileged for desc in tee_driver.descs
    )
    assert tee_driver.device.name == "tee0"


def test_revision_is_one_line(tee_driver: DriverUnderTest) -> None:
    device = tee_driver.device
    if "get_tee_revision" in device.operations:
        revision = device.ops.get_tee_revision(device)
        assert revision.isprintable()
        assert revision
    else:
        fails(errno.ENODEV, lambda: device.ops.get_tee_revision(device))


def test_absent_operations(tee_driver: DriverUnderTest) -> None:
    for device in tee_driver.devices:
        with Client(device) as client:
            calls: dict[str, Callable[[], object]] = {
                "open_session": partial(client.begin_open_session, tee_driver.uuid),
                "object_invoke_func": partial(client.object_invoke, 1, ECHO),
                "supp_recv": client.supp_recv,
            }
            for operation, begin in calls.items():
                if operation not in device.operations:
                    call = begin()
                    assert isinstance(call, Call)
                    fails(errno.EINVAL, call.wait_done)
            calls = {
                "close_session": partial(client.close_session, 1),
                "cancel_req": partial(client.cancel, 0, 0),
                "supp_send": partial(client.supp_send, 0, [META]),
            }
            for operation, call_at_once in calls.items():
                if operation not in device.operations:
                    fails(errno.EINVAL, call_at_once)


# Sessions and contexts


def test_open_and_close_sessions(tee_driver: DriverUnderTest) -> None:
    with Client(tee_driver.device) as client:
        sessions = [client.open_session(tee_driver.uuid) for _ in range(3)]
        assert len(set(sessions)) == 3
        assert all(0 < session < 2**32 for session in sessions)
        client.close_session(sessions[1])
        fails(errno.EINVAL, lambda: client.close_session(sessions[1]))
        fails(errno.EINVAL, lambda: client.invoke(sessions[1], NOP).wait_done())
        assert client.invoke(sessions[2], NOP).result == SUCCESS
        client.close_session(sessions[0])
        # The third ends with the context; the fixture looks whether it did.


def test_no_such_service(tee_driver: DriverUnderTest) -> None:
    with Client(tee_driver.device) as client:
        shm = client.shm_alloc(1)
        call = client.begin_open_session(bytes(16), [memref_in(shm)])
        assert call.result == (gp.TEE_ERROR_ITEM_NOT_FOUND, gp.TEE_ORIGIN_TEE)
        assert call.arg.session == 0
        assert client.ctx.sessions == {}
        assert shm.refcount == 1
        shm.put()


def test_ids_belong_to_their_context(tee_driver: DriverUnderTest) -> None:
    with Client(tee_driver.device) as one, Client(tee_driver.device) as other:
        session = one.open_session(tee_driver.uuid)
        shm = one.shm_alloc(1)
        mine = other.open_session(tee_driver.uuid)
        fails(errno.EINVAL, lambda: other.invoke(session, NOP).wait_done())
        fails(errno.EINVAL, lambda: other.close_session(session))
        fails(errno.EINVAL, lambda: other.cancel(0, session))
        fails(errno.EINVAL, lambda: other.invoke(mine, NOP, [memref_in(shm)]))
        fails(errno.EINVAL, lambda: other.begin_open_session(tee_driver.uuid, [memref_in(shm)]))
        assert one.invoke(session, NOP, [memref_in(shm)]).result == SUCCESS
        shm.put()


def test_most_sessions(tee_driver: DriverUnderTest) -> None:
    tee_driver.device.desc.max_sessions = 2
    with Client(tee_driver.device) as client, Client(tee_driver.device) as other:
        sessions = [client.open_session(tee_driver.uuid) for _ in range(2)]
        call = client.begin_open_session(tee_driver.uuid)
        assert call.result == (gp.TEE_ERROR_OUT_OF_MEMORY, gp.TEE_ORIGIN_TEE)
        other.open_session(tee_driver.uuid)
        client.close_session(sessions[0])
        client.open_session(tee_driver.uuid)


# Values and results


def test_values(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(COPY, INCREMENT)
    big = 2**32 - 1
    with Client(tee_driver.device) as client:
        session = client.open_session(tee_driver.uuid)
        call = client.invoke(session, INCREMENT, [value_inout(1, 2), value_in(3, 4), NONE])
        assert call.result == SUCCESS
        assert call.params == [value_inout(2, 3), value_in(3, 4), NONE]
        call = client.invoke(session, COPY, [value_in(big, 7), value_out(), value_inout(1, 1)])
        assert call.result == SUCCESS
        assert call.params[1][1:3] == call.params[2][1:3] == (big, 7)


def test_results_of_the_service(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(RETURN)
    with Client(tee_driver.device) as client:
        session = client.open_session(tee_driver.uuid)
        for code in (gp.TEE_SUCCESS, gp.TEE_ERROR_BUSY, 0x80001234, 1):
            call = client.invoke(session, RETURN, [value_in(code, TRUSTED_APP)])
            assert call.result == (code, TRUSTED_APP)
        ret, origin = client.invoke(session, 0x7FFF_FFFF).result
        assert (ret == gp.TEE_SUCCESS, origin) == (False, TRUSTED_APP)
        assert client.invoke(session, NOP).result == SUCCESS


def test_errno_of_the_driver(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(ERRNO)
    with Client(tee_driver.device) as client:
        session = client.open_session(tee_driver.uuid)
        shm = client.shm_alloc(1)
        for number in (errno.EPERM, errno.EINTR, ENOTSUPP):
            params = [value_in(number), memref_in(shm)]
            fails(number, client.invoke(session, ERRNO, params).wait_done)
        assert shm.refcount == 1
        shm.put()


# Cancellation and ends


def begin_wait(client: Client, session: int, cancel_id: int = 0) -> Call:
    """A call that waits, and has begun to."""
    call = client.invoke(session, WAIT, cancel_id=cancel_id)
    assert not call.is_done
    return call


def test_cancel_means_one_call(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(WAIT, RELEASE)
    with Client(tee_driver.device) as client:
        one, two = (client.open_session(tee_driver.uuid) for _ in range(2))
        waiting = [
            begin_wait(client, one, 5),
            begin_wait(client, one, 6),
            begin_wait(client, two, 5),
        ]
        client.cancel(7, one)  # nothing there: no error, nothing happens
        client.cancel(5, one)
        assert waiting[0].result == (gp.TEE_ERROR_CANCEL, TRUSTED_APP)
        assert [call.is_done for call in waiting] == [True, False, False]
        fails(errno.EINVAL, lambda: client.cancel(5, one + two))
        assert client.invoke(two, RELEASE).result == SUCCESS
        assert [call.result for call in waiting[1:]] == [SUCCESS] * 2
        client.cancel(5, one)  # too late


def test_an_abandoned_call_ends(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(WAIT)
    with Client(tee_driver.device) as client:
        session = client.open_session(tee_driver.uuid)
        call = begin_wait(client, session)
        call.arg.abandon()
        call.wait_done()
        assert client.ctx.pending == set()
        assert client.invoke(session, NOP).result == SUCCESS


def test_closing_a_session_ends_its_calls(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(WAIT, RELEASE)
    with Client(tee_driver.device) as client:
        one, two = (client.open_session(tee_driver.uuid) for _ in range(2))
        ends, stays = begin_wait(client, one), begin_wait(client, two)
        client.close_session(one)
        assert ends.result == (gp.TEE_ERROR_TARGET_DEAD, gp.TEE_ORIGIN_TEE)
        assert not stays.is_done
        client.invoke(two, RELEASE)
        assert stays.result == SUCCESS


def test_closing_a_context_ends_its_calls(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(WAIT, RELEASE)
    with Client(tee_driver.device) as other:
        stays = begin_wait(other, other.open_session(tee_driver.uuid))
        client = Client(tee_driver.device)
        shm = client.shm_alloc(1, b"alive")
        ends = client.invoke(client.open_session(tee_driver.uuid), WAIT, [memref_in(shm)])
        client.close()
        assert ends.wait_done().arg.ret != gp.TEE_SUCCESS
        assert not stays.is_done
        assert bytes(shm.view()[:5]) == b"alive"  # until it is unmapped itself
        shm.put()


def test_closing_a_context_while_calls_begin(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(WAIT)
    for _ in range(30):
        client = Client(tee_driver.device)
        session = client.open_session(tee_driver.uuid)
        shm = client.shm_alloc(1)
        begun: list[Call] = []

        def invoke(
            client: Client = client,
            session: int = session,
            shm: TeeShm = shm,
            begun: list[Call] = begun,
        ) -> None:
            for _ in range(5):
                begun.append(client.invoke(session, WAIT, [memref_in(shm)]))

        in_threads(invoke, client.close, invoke)
        for call in begun:
            call.wait_end()
        assert shm.refcount == 1
        assert client.ctx.pending == set()
        shm.put()


def test_unregistering_with_open_contexts(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(WAIT)
    device = tee_driver.device
    clients = [Client(device) for _ in range(3)]
    waiting = [begin_wait(client, client.open_session(tee_driver.uuid)) for client in clients]
    shm = clients[0].shm_alloc(1)
    tee_driver.registry.tee_device_unregister(device)
    for call in waiting:
        assert call.wait_done().arg.ret != gp.TEE_SUCCESS
    assert device.wait_no_users(0)
    assert device.contexts == set()
    fails(errno.ENODEV, lambda: Client(device))
    clients[0].close()  # its own end comes too late to matter
    shm.put()
