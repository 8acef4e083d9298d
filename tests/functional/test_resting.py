# SPDX-License-Identifier: BSD-2-Clause
"""Instances beyond those that wait in a trapped call: they rest, and come back for a command."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gentee.abi.gp import TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE
from gentee.client import OUTPUT, SharedMemory, TempRef, Value
from gentee.secure.parking import MOST
from tests.functional.test_services import OTHER, UUID, Tee, fails
from tests.helpers import ServiceHost, wait_until

COUNTING = """
    def TA_CreateEntryPoint(self):
        self.calls = 0

    def TA_DestroyEntryPoint(self):
        IMSG(f"destroyed after {self.calls}")

    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        self.calls += 1
        if command_id == 0:
            params[0].a = self.calls
        else:
            params[0].buffer[:4] = self.calls.to_bytes(4, "little")
"""

# It never rests, whatever it is told.
RESTLESS = """
    def TA_CreateEntryPoint(self):
        from gentee.ta import process
        process.futex_wait = self.awake

    def awake(self, address, value):
        import ctypes
        ctypes.c_uint64.from_address(address).value = 0

    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].a = 1
"""

MANY = MOST + 16


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture
def tee(host: ServiceHost, tmp_path: Path) -> Iterator[Tee]:
    tee = Tee(host, tmp_path)
    yield tee
    tee.close()
    assert not host.bugs


def parked(tee: Tee) -> int:
    (soft,) = tee.driver._tees
    return len(soft._parking._places)


def test_each_keeps_what_it_knows(tee: Tee) -> None:
    tee.put(COUNTING)
    context = tee.context()
    sessions = [context.open_session(UUID) for _ in range(MANY)]
    assert tee.instances() == MANY
    for round_ in range(1, 4):
        for session in sessions:
            value = Value(0, 0, OUTPUT)
            session.invoke(0, value)
            assert value.a == round_
    wait_until(lambda: parked(tee) <= MOST)
    for session in sessions:
        session.close()
    wait_until(lambda: tee.instances() == 0)
    assert tee.lines.count("destroyed after 3") == MANY
    assert parked(tee) == 0


def test_memory_of_a_client_that_rests(tee: Tee) -> None:
    tee.put(COUNTING)
    context = tee.context()
    sessions = [context.open_session(UUID) for _ in range(MANY)]
    with SharedMemory.allocate(context, 4096) as memory:
        for session in sessions:
            session.invoke(1, memory)
            assert bytes(memory.buffer[:4]) == b"\x01\0\0\0"
    # It is gone from those that rest too: they were woken for that, and answer as before.
    for session in sessions:
        buffer = bytearray(4)
        session.invoke(1, TempRef(buffer))
        assert buffer == b"\x02\0\0\0"


def test_one_that_does_not_rest_ends(tee: Tee) -> None:
    tee.put(RESTLESS)
    tee.put(COUNTING, uuid=OTHER, name="counting")
    context = tee.context()
    restless = context.open_session(UUID)
    value = Value(0, 0, OUTPUT)
    restless.invoke(0, value)
    assert value.a == 1
    others = [context.open_session(OTHER) for _ in range(MANY)]
    for session in others:
        session.invoke(0, value)
        assert value.a == 1
    wait_until(lambda: tee.instances() == MANY)
    fails(TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE, lambda: restless.invoke(0, value))
    fresh = context.open_session(UUID)
    fresh.invoke(0, value)
