# SPDX-License-Identifier: BSD-2-Clause
"""Times, and random numbers."""

import time

import pytest

from gentee.abi import optee_ta as abi
from gentee.abi import ta_channel as ch
from gentee.abi.gp import (
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_OVERFLOW,
    TEE_ERROR_STORAGE_NO_SPACE,
    TEE_ERROR_TIME_NOT_SET,
    TEE_SUCCESS,
)
from gentee.ta.svc.time import REE, SYSTEM, TA_PERSISTENT
from tests.svc_ta import CODE, DATA, LENT, NOWHERE, PAGE, STACK, FakeTee, TestedTa, everything

PLACES = [0, NOWHERE, CODE, LENT, STACK + PAGE - 4]


def get(ta: TestedTa, category: int) -> tuple[int, int]:
    assert ta.call(abi.TEE_SCN_GET_TIME, category, DATA) == TEE_SUCCESS
    return abi.TEE_TIME.unpack(ta.read(DATA, 8))


def test_times(ta: TestedTa) -> None:
    before = time.monotonic()
    seconds, millis = get(ta, SYSTEM)
    assert before - 0.002 <= seconds + millis / 1000 <= time.monotonic()
    before = time.time()
    seconds, millis = get(ta, REE)
    assert before - 0.002 <= seconds + millis / 1000 <= time.time()


@pytest.mark.parametrize("category", [3, 1 << 32, (1 << 64) - 1])
def test_no_such_time(ta: TestedTa, category: int) -> None:
    assert ta.call(abi.TEE_SCN_GET_TIME, category, DATA) == TEE_ERROR_BAD_PARAMETERS


@pytest.mark.parametrize("address", PLACES)
def test_private_memory_only(ta: TestedTa, address: int) -> None:
    before = everything(ta)
    assert ta.call(abi.TEE_SCN_GET_TIME, SYSTEM, address) == TEE_ERROR_ACCESS_DENIED
    assert everything(ta) == before
    if address != CODE:  # from which can be read
        assert ta.call(abi.TEE_SCN_SET_TA_TIME, address) == TEE_ERROR_ACCESS_DENIED
    assert ta.tee.asked == []


def test_persistent_time(ta: TestedTa) -> None:
    def answer(tee: FakeTee) -> int:
        tee[ch.Q_SECONDS], tee[ch.Q_MILLIS] = 77, 999
        return TEE_SUCCESS

    ta.tee.answers[ch.RQ_GET_PERSISTENT_TIME] = answer
    assert get(ta, TA_PERSISTENT) == (77, 999)


def test_persistent_time_has_more_than_32_bits(ta: TestedTa) -> None:
    def answer(tee: FakeTee) -> int:
        tee[ch.Q_SECONDS], tee[ch.Q_MILLIS] = (1 << 32) + 5, 1
        return TEE_SUCCESS

    ta.tee.answers[ch.RQ_GET_PERSISTENT_TIME] = answer
    assert ta.call(abi.TEE_SCN_GET_TIME, TA_PERSISTENT, DATA) == TEE_ERROR_OVERFLOW
    assert abi.TEE_TIME.unpack(ta.read(DATA, 8)) == (5, 1)
    assert ta.call(abi.TEE_SCN_GET_TIME, TA_PERSISTENT, LENT) == TEE_ERROR_ACCESS_DENIED


def test_persistent_time_is_not_set(ta: TestedTa) -> None:
    ta.tee.answers[ch.RQ_GET_PERSISTENT_TIME] = lambda tee: TEE_ERROR_TIME_NOT_SET
    assert ta.call(abi.TEE_SCN_GET_TIME, TA_PERSISTENT, LENT) == TEE_ERROR_TIME_NOT_SET


def test_persistent_time_is_set(ta: TestedTa) -> None:
    seen = []

    def answer(tee: FakeTee) -> int:
        seen.append((tee[ch.Q_SECONDS], tee[ch.Q_MILLIS]))
        return TEE_SUCCESS if len(seen) == 1 else TEE_ERROR_STORAGE_NO_SPACE

    ta.tee.answers[ch.RQ_SET_PERSISTENT_TIME] = answer
    ta.write(DATA, abi.TEE_TIME.pack(0xFFFFFFFF, 999))
    assert ta.call(abi.TEE_SCN_SET_TA_TIME, DATA) == TEE_SUCCESS
    assert ta.call(abi.TEE_SCN_SET_TA_TIME, DATA) == TEE_ERROR_STORAGE_NO_SPACE
    ta.write(DATA, abi.TEE_TIME.pack(1, 1000))
    assert ta.call(abi.TEE_SCN_SET_TA_TIME, DATA) == TEE_ERROR_BAD_PARAMETERS
    assert seen == [(0xFFFFFFFF, 999)] * 2


def test_random_numbers(ta: TestedTa) -> None:
    random = abi.TEE_SCN_CRYP_RANDOM_NUMBER_GENERATE
    for address in (DATA, LENT):
        assert ta.call(random, address + 1, 64) == TEE_SUCCESS
        data = ta.read(address, 66)
        assert data[0] == data[65] == 0
        assert len(set(data)) > 16
    assert ta.call(random, NOWHERE, 0) == TEE_SUCCESS
    before = everything(ta)
    for address, size in ((CODE, 1), (DATA + 2 * PAGE - 1, 2), (DATA, 1 << 40), (NOWHERE, 1)):
        assert ta.call(random, address, size) == TEE_ERROR_ACCESS_DENIED
    assert everything(ta) == before


def test_many_random_numbers(ta: TestedTa) -> None:
    ta.add(NOWHERE, 33, 3, "many", None)
    size = 33 * PAGE - 8
    assert ta.call(abi.TEE_SCN_CRYP_RANDOM_NUMBER_GENERATE, NOWHERE, size) == TEE_SUCCESS
    data = ta.read(NOWHERE, 33 * PAGE)
    assert data[-8:] == bytes(8)
    assert all(any(data[at : at + 16]) for at in range(0, size - 16, 16))
