# SPDX-License-Identifier: BSD-2-Clause
"""Heaps of OP-TEE's TAs (CFG_TA_STATS): by the stats pseudo TA, and what becomes of TAs that do not
answer. And Arm TAs in the enumeration of devices.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from gentee.abi import optee_pta as pta
from gentee.abi.optee_ta import TA_FLAG_DEVICE_ENUM, TA_FLAG_SINGLE_INSTANCE
from gentee.client import Out, Session, Value
from gentee.secure.statistics import heaps_of
from tests import arm_tas
from tests.arm_tas import uuid_of
from tests.functional.test_services import Tee
from tests.helpers import ServiceHost, in_threads, wait_until
from tests.ta_build import ARCHES
from tests.ta_clients import ArmTee

HEAP = 0x60
ANSWER, REFUSE, DIE, HANG = range(4)  # tests/tas/heap.c
FIRST = (100, 100, 4096, 1, 5000, 50)


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture(params=ARCHES)
def tee(request: pytest.FixtureRequest, host: ServiceHost, tmp_path: Path) -> Iterator[ArmTee]:
    arm_tas.install(tmp_path, HEAP, "heap", request.param)
    tee = ArmTee(host, tmp_path, request.param)
    yield tee
    tee.close()
    assert not host.bugs


def heap_of(tee: Tee, panicked: int = 0) -> tuple[int, ...]:
    """The heap of the only instance, as the pseudo TA tells it."""
    with tee.open(pta.STATS_UUID) as session:
        output = Out(pta.PTA_STATS_TA.size)
        session.invoke(pta.STATS_CMD_TA_STATS, output)
    uuid, has_panicked, sessions, heap = pta.PTA_STATS_TA.unpack(output.data)
    assert uuid == UUID(uuid_of(HEAP)).bytes_le
    assert (has_panicked, sessions) == (panicked, 1)
    desc, free2_sum, *numbers = pta.PTA_STATS_ALLOC.unpack(heap)
    assert (desc, free2_sum) == (bytes(32), 0)
    return tuple(numbers)


def test_heap(tee: ArmTee) -> None:
    session = tee.open(uuid_of(HEAP))
    assert heap_of(tee) == FIRST
    session.invoke(0, Value(3000))
    session.invoke(0, Value(200))
    assert heap_of(tee) == (200, 3000, *FIRST[2:])


def test_a_ta_without_statistics(tee: ArmTee) -> None:
    session = tee.open(uuid_of(HEAP))
    session.invoke(1, Value(REFUSE))
    assert heap_of(tee) == (0,) * 6
    session.invoke(1, Value(ANSWER))
    assert heap_of(tee) == FIRST


def test_a_ta_that_dies_of_it(tee: ArmTee) -> None:
    session = tee.open(uuid_of(HEAP))
    session.invoke(1, Value(DIE))
    assert heap_of(tee, panicked=1) == (0,) * 6
    wait_until(lambda: not tee.instances())


def test_a_ta_that_does_not_answer(tee: ArmTee) -> None:
    """Who asks goes on, and who asks again does not wait for it."""
    session = tee.open(uuid_of(HEAP))
    session.invoke(1, Value(HANG))
    (soft,) = tee.driver.tees
    (instance,) = soft.instances()
    assert heaps_of([instance], patience=0.1) == {}
    assert not instance.is_free
    assert heap_of(tee) == (0,) * 6
    instance.kill()


def test_a_ta_that_rests_is_woken(tee: ArmTee) -> None:
    tee.open(uuid_of(HEAP))
    (soft,) = tee.driver.tees
    (instance,) = soft.instances()
    wait_until(instance.rest)
    assert heap_of(tee) == FIRST


def test_many_who_ask(tee: ArmTee) -> None:
    session = tee.open(uuid_of(HEAP))
    sessions: list[Session] = [tee.open(pta.STATS_UUID) for _ in range(4)]

    def ask(session: Session) -> None:
        for _ in range(10):
            output = Out(pta.PTA_STATS_TA.size)
            session.invoke(pta.STATS_CMD_TA_STATS, output)
            # What it says, or that it is at work just now.
            assert struct.unpack_from("<I", output.data, 64)[0] in (0, 100)

    def use() -> None:
        for _ in range(50):
            session.invoke(0, Value(100))

    in_threads(use, *(lambda one=one: ask(one) for one in sessions))


def test_arm_tas_are_enumerated(host: ServiceHost, tmp_path: Path) -> None:
    flags = TA_FLAG_SINGLE_INSTANCE | TA_FLAG_DEVICE_ENUM
    uuid = arm_tas.install(tmp_path, HEAP + 1, "heap", "aarch64", f"-DFLAGS={flags}")
    tee = ArmTee(host, tmp_path, "aarch64")
    with tee.open(pta.PTA_DEVICE_UUID) as session:
        found = Out(64)
        session.invoke(pta.PTA_CMD_GET_DEVICES, found)
    assert UUID(uuid).bytes in (found.data[:16], found.data[16:])
    tee.close()
