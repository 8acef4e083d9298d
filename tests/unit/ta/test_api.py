# SPDX-License-Identifier: BSD-2-Clause
"""The API of services, without a service's process: parameters, cancellation, log, panic."""

from collections.abc import Iterator

import pytest

from gentee import ta
from gentee.abi.gp import TEE_ERROR_BAD_PARAMETERS, TEE_ERROR_GENERIC, TEE_ERROR_SHORT_BUFFER
from gentee.errors import BadParameters, ShortBuffer, TaPanic
from gentee.ta.api import (
    DMSG,
    EMSG,
    FMSG,
    IMSG,
    TASK,
    Memref,
    TEE_GetCancellationFlag,
    TEE_MaskCancellation,
    TEE_Panic,
    TEE_UnmaskCancellation,
    TEE_Wait,
    TrustedApplication,
    Value,
    expect_param_types,
)

# Parameters


def output(size: int) -> Memref:
    return Memref(memoryview(bytearray(b"." * size)), size)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_write(kind: type) -> None:
    memref = output(10)
    memref.write(kind(b"hello"))
    assert bytes(memref) == b"hello....."
    assert memref.size == 5
    memref.write(kind(b"0123456789"))
    assert (bytes(memref), memref.size) == (b"0123456789", 10)
    memref.write(kind(b""))
    assert (bytes(memref), memref.size) == (b"0123456789", 0)


def test_write_of_too_much() -> None:
    memref = output(3)
    with pytest.raises(ShortBuffer) as caught:
        memref.write(b"four")
    assert caught.value.code == TEE_ERROR_SHORT_BUFFER
    assert (bytes(memref), memref.size) == (b"...", 4)


def test_null_references() -> None:
    memref = Memref(None, 0)
    assert bytes(memref) == b""
    memref.write(b"")
    assert memref.size == 0
    with pytest.raises(ShortBuffer):
        memref.write(b"x")
    assert memref.size == 1


def test_write_to_an_input() -> None:
    memref = Memref(memoryview(b"read-only"), 9)
    with pytest.raises(TypeError):
        memref.write(b"x")
    assert bytes(memref) == b"read-only"


def test_what_they_look_like() -> None:
    assert repr(Value(10, 255)) == "Value(0xa, 0xff)"
    assert repr(output(3)) == "Memref(3 bytes)"
    assert repr(Memref(None, 0)) == "Memref(0 bytes NULL)"


def test_expected_types() -> None:
    expect_param_types(0x65, 0x65)
    with pytest.raises(BadParameters, match="0x0065, expected 0x0007"):
        expect_param_types(0x65, 0x7)


# Cancellation and time


class Task:
    """What the runtime would do."""

    def __init__(self) -> None:
        self.cancelled = False
        self.waits: list[tuple[int, bool]] = []
        self.logged: list[tuple[int, str]] = []
        TASK.masked = True
        TASK.cancelled = lambda: self.cancelled
        TASK.wait = lambda timeout, masked: self.waits.append((timeout, masked))
        TASK.log = lambda level, text: self.logged.append((level, text))


@pytest.fixture
def task() -> Iterator[Task]:
    before = dict(vars(TASK))
    yield Task()
    vars(TASK).update(before)


def test_a_call_starts_masked(task: Task) -> None:
    assert not TEE_GetCancellationFlag()
    task.cancelled = True
    assert not TEE_GetCancellationFlag()
    assert TEE_UnmaskCancellation() is True
    assert TEE_GetCancellationFlag()
    assert TEE_UnmaskCancellation() is False
    assert TEE_MaskCancellation() is False
    assert not TEE_GetCancellationFlag()
    assert TEE_MaskCancellation() is True


def test_wait_knows_the_mask(task: Task) -> None:
    TEE_Wait(5)
    TEE_UnmaskCancellation()
    TEE_Wait(0xFFFF_FFFF)
    TEE_Wait(0)
    TEE_MaskCancellation()
    TEE_Wait(7)
    assert task.waits == [(5, True), (0xFFFF_FFFF, False), (0, False), (7, True)]


@pytest.mark.parametrize("timeout", [-1, 1 << 32])
def test_wait_has_32_bits(task: Task, timeout: int) -> None:
    with pytest.raises(BadParameters) as caught:
        TEE_Wait(timeout)
    assert caught.value.code == TEE_ERROR_BAD_PARAMETERS
    assert task.waits == []


# The rest


def test_levels_of_the_log(task: Task) -> None:
    for level, log in enumerate((EMSG, IMSG, DMSG, FMSG), start=1):
        log(f"level {level}")
    assert task.logged == [(level, f"level {level}") for level in range(1, 5)]


def test_panic() -> None:
    with pytest.raises(TaPanic) as caught:
        TEE_Panic(7)
    assert caught.value.code == 7
    with pytest.raises(TaPanic) as caught:
        TEE_Panic()
    assert caught.value.code == TEE_ERROR_GENERIC


def test_entry_points_by_default() -> None:
    service = TrustedApplication()
    service.TA_CreateEntryPoint()
    assert service.TA_OpenSessionEntryPoint(0, [None] * 4) is None
    service.TA_CloseSessionEntryPoint(None)
    service.TA_DestroyEntryPoint()
    with pytest.raises(BadParameters):
        service.TA_InvokeCommandEntryPoint(None, 0, 0, [None] * 4)


def test_what_a_service_imports() -> None:
    assert set(ta.__all__) <= set(vars(ta))
