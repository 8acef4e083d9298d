# SPDX-License-Identifier: BSD-2-Clause
"""The self-test pseudo TA, as OP-TEE's test program calls it, and as nobody should."""

import pytest

from gentee.abi import optee_pta as pta
from gentee.abi.gp import (
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_BAD_STATE,
    TEE_ERROR_GENERIC,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_ERROR_SHORT_BUFFER,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_SUCCESS,
)
from gentee.core.host import LOG_ERROR, LOG_INFO
from gentee.secure.pta import self_tests
from gentee.secure.pta.invoke_tests import InvokeTestsPta
from gentee.secure.service import parse_uuid
from tests.helpers import (
    NONE,
    Param,
    in_threads,
    memref_in,
    memref_inout,
    memref_out,
    value_in,
    value_inout,
    value_out,
)
from tests.pta_rig import Opened, Rig

TA = TEE_ORIGIN_TRUSTED_APP
PARAMS = pta.PTA_INVOKE_TESTS_CMD_PARAMS
MUTEX = pta.PTA_INVOKE_TESTS_CMD_MUTEX


@pytest.fixture
def session(rig: Rig) -> Opened:
    return rig.open(pta.PTA_INVOKE_TESTS_UUID)


def test_trace(rig: Rig, session: Opened) -> None:
    assert session.invoke(pta.PTA_INVOKE_TESTS_CMD_TRACE, value_in()).result == (TEE_SUCCESS, TA)
    assert rig.host.logged == [
        ("invoke_tests.pta", LOG_INFO, 'pseudo TA "invoke_tests.pta" says "Hello world !"')
    ]


@pytest.mark.parametrize("place", range(4))
def test_one_value(session: Opened, place: int) -> None:
    params = [NONE] * 4
    params[place] = value_inout(0xFFFF_FFFF, 3)
    call = session.invoke(PARAMS, *params)
    assert call.result == (TEE_SUCCESS, TA)
    assert call.params[place][1:3] == (2, 3)


@pytest.mark.parametrize("place", range(4))
def test_three_values(session: Opened, place: int) -> None:
    params = [value_in(number, 10 * number) for number in range(1, 5)]
    params[place] = value_out()
    call = session.invoke(PARAMS, *params)
    assert call.result == (TEE_SUCCESS, TA)
    assert call.params[place][1:3] == (10 - (place + 1), 100 - 10 * (place + 1))


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("size", [1, 16 << 10, 40001])
def test_memory(session: Opened, place: int, size: int) -> None:
    data = bytes(number + 1 & 0xFF for number in range(size))
    shm = session.client.shm_alloc(size, data)
    params = [NONE] * 4
    params[place] = memref_inout(shm, 0, size)
    call = session.invoke(PARAMS, *params)
    assert call.result == (TEE_SUCCESS, TA)
    assert bytes(shm.view()[:size]) == bytes([sum(data) & 0xFF]) + data[1:]
    shm.put()


def test_too_much_memory(session: Opened) -> None:
    """It would keep everybody waiting."""
    shm = session.client.shm_alloc((1 << 20) + 1)
    call = session.invoke(PARAMS, memref_inout(shm, 0, (1 << 20) + 1))
    assert call.result == (TEE_ERROR_BAD_PARAMETERS, TA)
    shm.put()


@pytest.mark.parametrize(
    "params",
    [
        [],
        [value_in()],
        [value_out()],
        [value_inout(), value_inout()],
        [value_in(), value_in(), value_in(), value_in()],
        [value_out(), value_out(), value_in(), value_in()],
        [memref_inout(None)],
        [memref_in(None)],
        [memref_inout(None), value_inout()],
    ],
)
def test_other_parameters(session: Opened, params: list[Param]) -> None:
    assert session.invoke(PARAMS, *params).result == (TEE_ERROR_BAD_PARAMETERS, TA)


def test_null_reference(session: Opened) -> None:
    command = pta.PTA_INVOKE_TESTS_CMD_MEMREF_NULL
    shm = session.client.shm_alloc(4096)
    assert session.invoke(command, memref_inout(None)).result == (TEE_SUCCESS, TA)
    assert session.invoke(command, memref_inout(shm, 0, 0)).result == (TEE_SUCCESS, TA)
    for params in ([], [memref_in(None)], [memref_inout(shm, 0, 1)], [memref_inout(None)] * 2):
        assert session.invoke(command, *params).result == (TEE_ERROR_BAD_PARAMETERS, TA)
    shm.put()


def test_self_tests(rig: Rig, session: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    command = pta.PTA_INVOKE_TESTS_CMD_SELF_TESTS
    assert session.invoke(command).result == (TEE_SUCCESS, TA)
    monkeypatch.setattr(self_tests, "to_struct", lambda octets: octets)
    assert session.invoke(command).result == (TEE_ERROR_GENERIC, TA)
    assert rig.host.logged == [
        ("invoke_tests.pta", LOG_ERROR, "test_uuids: AssertionError: TEE_UUID")
    ]


def test_no_device_tree(rig: Rig, session: Opened) -> None:
    call = session.invoke(pta.PTA_INVOKE_TESTS_CMD_DT_DRIVER_TESTS)
    assert call.result == (TEE_SUCCESS, TA)
    assert rig.host.logged == [("invoke_tests.pta", LOG_INFO, "dt_driver tests are not embedded")]


@pytest.mark.parametrize("command", [6, 8, 9, 12])
def test_what_is_not_there(session: Opened, command: int) -> None:
    assert session.invoke(command).result == (TEE_ERROR_NOT_SUPPORTED, TA)


@pytest.mark.parametrize("command", [13, 0xFFFF_FFFF])
def test_unknown_commands(session: Opened, command: int) -> None:
    assert session.invoke(command).result == (TEE_ERROR_BAD_PARAMETERS, TA)


def test_there_is_no_secure_data_path(session: Opened) -> None:
    shm = session.client.shm_alloc(4096)
    bad = (TEE_ERROR_BAD_PARAMETERS, TA)
    for command in (
        pta.PTA_INVOKE_TESTS_CMD_COPY_NSEC_TO_SEC,
        pta.PTA_INVOKE_TESTS_CMD_COPY_SEC_TO_NSEC,
    ):
        assert session.invoke(command, memref_in(shm, 0, 8), memref_out(shm, 8, 8)).result == bad
        assert session.invoke(command, memref_out(shm, 0, 8), memref_in(shm, 8, 8)).result == bad
        call = session.invoke(command, memref_in(shm, 0, 8), memref_out(shm, 8, 7))
        assert call.result == (TEE_ERROR_SHORT_BUFFER, TA)
        assert call.params[1][2] == 8
    command = pta.PTA_INVOKE_TESTS_CMD_READ_MODIFY_SEC
    assert session.invoke(command, memref_inout(shm)).result == bad
    assert session.invoke(command, memref_in(shm)).result == bad
    shm.put()


def test_locks(rig: Rig) -> None:
    """As regression_1003: readers and writers of several sessions."""
    waited: list[int] = []
    readers: list[int] = []
    writers: list[int] = []

    def calls(test: int, had: list[int]) -> None:
        session = rig.open(pta.PTA_INVOKE_TESTS_UUID)
        for _ in range(5):
            call = session.invoke(MUTEX, value_in(test, 3000), value_out())
            assert call.result == (TEE_SUCCESS, TA)
            waited.append(call.params[1][1])
            had.append(call.params[1][2])

    def read() -> None:
        calls(pta.PTA_MUTEX_TEST_READER, readers)

    def write() -> None:
        calls(pta.PTA_MUTEX_TEST_WRITER, writers)

    in_threads(read, read, write, read, read, write)
    assert set(writers) == {1}
    assert 1 <= min(readers) <= max(readers) <= 4
    assert min(waited) >= 1


def test_a_lock_that_does_not_hold_is_found(rig: Rig, session: Opened) -> None:
    instance = rig.tee.pseudo_tas.instance(parse_uuid(pta.PTA_INVOKE_TESTS_UUID))
    tested = instance.pta
    assert isinstance(tested, InvokeTestsPta)
    tested._mutex._two += 1  # as a reader beside a writer would see it
    call = session.invoke(MUTEX, value_in(pta.PTA_MUTEX_TEST_READER, 10), value_out())
    assert call.result == (TEE_ERROR_BAD_STATE, TA)
    tested._mutex._two -= 1
    call = session.invoke(MUTEX, value_in(pta.PTA_MUTEX_TEST_READER, 10), value_out())
    assert call.result == (TEE_SUCCESS, TA)
    assert call.params[1][1:3] == (1, 1)


@pytest.mark.parametrize(
    "params",
    [
        [],
        [value_in(0, 1)],
        [value_out(), value_in(0, 1)],
        [value_in(2, 1), value_out()],
        [value_in(0, 0xFFFF_FFFF), value_out()],  # it would keep everybody waiting
        [value_in(0, 1), value_out(), value_in()],
    ],
)
def test_locks_with_other_parameters(session: Opened, params: list[Param]) -> None:
    assert session.invoke(MUTEX, *params).result == (TEE_ERROR_BAD_PARAMETERS, TA)
