# SPDX-License-Identifier: BSD-2-Clause
"""gentee.drivers.loopback: what its table promises beyond the driver contract."""

import errno
import threading
from collections.abc import Iterator

import pytest

from gentee.abi import gp
from gentee.abi import linux_tee as tee
from gentee.core.calls import InvokeArg, SuppRecvArg, invoke
from gentee.core.device import DeviceRegistry, TeeDevice
from gentee.core.params import TeeParam
from gentee.core.shm import tee_shm_register
from gentee.drivers.loopback import driver
from gentee.drivers.loopback.call import (
    CLIENT,
    COPY,
    ECHO,
    ERRNO,
    FILL,
    RELEASE,
    RETURN,
    SUPPLICANT,
    WAIT,
)
from gentee.drivers.loopback.core import LOOPBACK_IMPL_ID
from tests.helpers import (
    META,
    NONE,
    PATIENCE,
    Call,
    Client,
    LocalHost,
    Param,
    memref_in,
    memref_out,
    value_in,
    value_inout,
    value_out,
)

UUID = bytes(range(16))
BAD_PARAMETERS = (gp.TEE_ERROR_BAD_PARAMETERS, gp.TEE_ORIGIN_TRUSTED_APP)
SUCCESS = (gp.TEE_SUCCESS, gp.TEE_ORIGIN_TRUSTED_APP)
NOT_SUPPORTED = (gp.TEE_ERROR_NOT_SUPPORTED, gp.TEE_ORIGIN_TRUSTED_APP)


@pytest.fixture
def devices() -> Iterator[list[TeeDevice]]:
    host, registry = LocalHost(), DeviceRegistry()
    yield [registry.tee_device_register(desc) for desc in driver.probe(host, {})]
    for device in registry.all():
        registry.tee_device_unregister(device)
    host.close()


@pytest.fixture
def client(devices: list[TeeDevice]) -> Client:
    return Client(devices[0])


@pytest.fixture
def session(client: Client) -> int:
    return client.open_session(UUID)


def test_no_client_takes_it_for_another_tee(devices: list[TeeDevice]) -> None:
    assert [device.name for device in devices] == ["tee0", "teepriv0"]
    caps = tee.TEE_GEN_CAP_GP | tee.TEE_GEN_CAP_MEMREF_NULL | tee.TEE_GEN_CAP_OBJREF
    assert devices[0].version == (LOOPBACK_IMPL_ID, 0, caps)
    assert devices[1].version == (LOOPBACK_IMPL_ID, 0, caps | tee.TEE_GEN_CAP_PRIVILEGED)
    assert LOOPBACK_IMPL_ID.to_bytes(4, "big") == b"LOOP"


@pytest.mark.parametrize(("reg_mem", "cap"), [(True, tee.TEE_GEN_CAP_REG_MEM), (False, 0)])
def test_reg_mem(reg_mem: bool, cap: int) -> None:
    host = LocalHost()
    for desc in driver.probe(host, {"reg_mem": reg_mem, "unknown": 1}):
        assert desc.gen_caps & tee.TEE_GEN_CAP_REG_MEM == cap
    host.close()


def test_all_operations_are_there(devices: list[TeeDevice]) -> None:
    everything = devices[0].operations | devices[1].operations
    assert {
        "get_version", "get_tee_revision", "open", "close_context", "release", "open_session",
        "close_session", "system_session", "invoke_func", "object_invoke_func", "cancel_req",
        "supp_recv", "supp_send", "load_ts", "get_ts_list", "shm_register", "shm_unregister",
    } == everything  # fmt: skip
    for device in devices:
        assert device.ops.get_tee_revision(device).startswith("loopback ")


def test_system_session(client: Client, session: int) -> None:
    found = client.ctx.sessions[session]
    assert not found.system
    client.device.ops.system_session(client.ctx, found)
    assert found.system


def test_two_probes_are_two_tees(client: Client, session: int) -> None:
    host, registry = LocalHost(), DeviceRegistry()
    device = registry.tee_device_register(next(iter(driver.probe(host, {}))))
    waiting = client.invoke(session, WAIT)
    with Client(device) as other:
        call = other.invoke(other.open_session(UUID), RELEASE, [value_out()])
        assert call.result == SUCCESS
        assert call.params[0][1] == 0
    assert not waiting.is_done
    host.close()


@pytest.mark.parametrize("func", [FILL, RETURN, SUPPLICANT, ERRNO])
@pytest.mark.parametrize("first", [None, NONE, value_out()])
def test_first_parameter_must_be_a_value(
    client: Client, session: int, func: int, first: Param | None
) -> None:
    params = [] if first is None else [first]
    assert client.invoke(session, func, params).result == BAD_PARAMETERS


@pytest.mark.parametrize(
    ("func", "params"),
    [
        (COPY, []),
        (COPY, [value_out()]),
        (COPY, [value_in(1), memref_out(None)]),
        (COPY, [memref_in(None), value_out()]),
        (COPY, [memref_in(None, 0, 1), memref_out(None, 0, 1)]),
        (FILL, [value_in(256)]),
        (ERRNO, [value_in(0)]),
        (ERRNO, [value_in(4096)]),
        (SUPPLICANT, [value_in(1), memref_in(None)]),
    ],
)
def test_wrong_parameters(client: Client, session: int, func: int, params: list[Param]) -> None:
    assert client.invoke(session, func, params).result == BAD_PARAMETERS


@pytest.mark.parametrize("func", [99, 2**32 - 1])
def test_no_such_function(client: Client, session: int, func: int) -> None:
    assert client.invoke(session, func).result == NOT_SUPPORTED


def test_the_service_knows_its_client(client: Client) -> None:
    call = client.begin_open_session(UUID, login=tee.TEE_IOCTL_LOGIN_USER).wait_done()
    # The identity was worked out by the door, which gives nil here.
    session = client.invoke(call.arg.session, CLIENT, [value_out(), value_in(5)])
    assert session.result == SUCCESS
    assert session.params == [(value_out()[0], 0, 0, tee.TEE_IOCTL_LOGIN_USER), value_in(5)]


def test_objects(client: Client) -> None:
    assert client.object_invoke(0, 1).result == NOT_SUPPORTED
    for alone in (
        tee.TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_OUTPUT,
        tee.TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_OUTPUT,
    ):
        assert client.object_invoke(0, ECHO, [(alone, 0, 0, 0)]).result == BAD_PARAMETERS


def test_every_output_gets_the_input_as_it_was(client: Client, session: int) -> None:
    # The first output lies over the input.
    shm = client.shm_alloc(1, b"abcdef")
    params = [memref_in(shm, 0, 6), memref_out(shm, 2, 6), memref_out(shm, 100, 6)]
    assert client.invoke(session, COPY, params).result == SUCCESS
    assert bytes(shm.view()[:8]) == b"ababcdef"
    assert bytes(shm.view()[100:106]) == b"abcdef"
    shm.put()


def test_release_counts(client: Client, session: int) -> None:
    waiting = [client.invoke(session, WAIT) for _ in range(3)]
    call = client.invoke(session, RELEASE, [value_out()])
    assert call.params[0][1] == 3
    assert [wait.result for wait in waiting] == [SUCCESS] * 3
    assert client.invoke(session, RELEASE, [value_inout(7)]).params[0][1] == 7


def test_release_leaves_requests_to_the_supplicant_alone(client: Client, session: int) -> None:
    call = client.invoke(session, SUPPLICANT, [value_in(1)])
    assert client.invoke(session, RELEASE, [value_out()]).params[0][1] == 0
    assert not call.is_done


def test_memory_that_is_nowhere(client: Client) -> None:
    with pytest.raises(OSError) as caught:
        tee_shm_register(client.ctx, 1, 0)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("func", [WAIT, SUPPLICANT])
def test_a_call_that_comes_while_its_session_closes(
    client: Client, session: int, func: int
) -> None:
    found = client.ctx.sessions[session]
    client.close_session(session)
    client.ctx.sessions[session] = found  # as if invoke() had found it just before
    call = client.invoke(session, func, [value_in(1)])
    assert call.result == (gp.TEE_ERROR_TARGET_DEAD, gp.TEE_ORIGIN_TEE)
    del client.ctx.sessions[session]


@pytest.mark.parametrize("func", [WAIT, SUPPLICANT])
def test_a_call_that_is_abandoned_before_it_waits(client: Client, session: int, func: int) -> None:
    call = Call([value_in(1)])
    params = [TeeParam(tee.TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT, 1)]
    call.arg = InvokeArg(client.ctx, func, session, 0, params, call.done)
    call.arg.abandon()
    invoke(client.device.ops, call.arg)
    assert call.result == (gp.TEE_ERROR_CANCEL, gp.TEE_ORIGIN_TRUSTED_APP)


def test_a_session_that_closes_while_the_supplicant_is_asked(
    devices: list[TeeDevice], client: Client, session: int
) -> None:
    supp = Client(devices[1])
    received = Call([META, NONE])

    def close_first(arg: SuppRecvArg) -> None:
        # In the thread of the asking call, which does not know its request yet.
        client.close_session(session)
        received.received(arg)

    offered = [TeeParam(META[0]), TeeParam()]
    received.arg = SuppRecvArg(supp.ctx, offered, close_first)
    received.arg.run(devices[1].ops.supp_recv, supp.ctx, received.arg)
    call = client.invoke(session, SUPPLICANT, [value_in(1)])
    assert call.result == (gp.TEE_ERROR_TARGET_DEAD, gp.TEE_ORIGIN_TEE)
    with pytest.raises(OSError) as caught:
        supp.supp_send(0, [received.wait_done().params[0]])
    assert caught.value.errno == errno.ENOENT


def test_cancel_and_answer_at_the_same_time(
    devices: list[TeeDevice], client: Client, session: int
) -> None:
    """Whoever is first, the call is answered once, and the supplicant goes on."""
    supp = Client(devices[1])
    for cancel_id in range(1, 100):
        call = client.invoke(session, SUPPLICANT, [value_in(1)], cancel_id=cancel_id)
        received = supp.supp_recv().wait_done()
        thread = threading.Thread(target=client.cancel, args=(cancel_id, session))
        thread.start()
        try:
            supp.supp_send(0, [received.params[0]])
        except OSError as error:
            late = error.errno
        else:
            late = errno.ENOENT
        assert late == errno.ENOENT
        thread.join(PATIENCE)
        assert call.result[0] in (gp.TEE_SUCCESS, gp.TEE_ERROR_CANCEL)
