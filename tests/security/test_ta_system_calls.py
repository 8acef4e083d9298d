# SPDX-License-Identifier: BSD-2-Clause
"""Each system call of a TA with bad pointers, lengths and handles: it has an answer, every time.

An answer is a result code that there is, in the register for it; all other registers stay as they
are. A panic is for what asks for one.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from gentee.abi import gp
from gentee.abi import optee_ta as abi
from gentee.abi.gp import TEE_ERROR_TARGET_DEAD
from gentee.abi.optee_pta import PTA_SYSTEM_UUID
from gentee.client import Value
from gentee.secure.service import parse_uuid
from gentee.ta.svc.properties import native_uuid
from gentee.ta.svc.table import DEPRECATED, TABLE
from tests import arm_tas
from tests.functional.test_services import Call
from tests.helpers import ServiceHost, wait_until
from tests.security.arm_captive import (
    CALLS,
    FOREVER,
    FREE,
    HONEST,
    PAGE,
    PING,
    SCRATCH,
    Answer,
    ArmCaptive,
    SystemCall,
    Where,
    service_host,
)
from tests.security.raw import result_of
from tests.ta_build import ARCHES

__all__ = ["service_host"]

ALL_ONES = (1 << 64) - 1
CODES = {value for name, value in vars(gp).items() if name.startswith("TEE_ERROR_") or value == 0}
ENDING = (abi.TEE_SCN_RETURN, abi.TEE_SCN_PANIC)
NUMBERS = [number for number in range(abi.TEE_SCN_MAX + 1) if number not in ENDING]


@pytest.fixture(scope="module", params=ARCHES)
def captive(
    request: pytest.FixtureRequest,
    service_host: ServiceHost,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ArmCaptive]:
    folder: Path = tmp_path_factory.mktemp("tas")
    captive = ArmCaptive(service_host, folder, str(request.param))
    yield captive
    captive.tee.close()
    assert not service_host.bugs


T = TypeVar("T")


def batched(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[at : at + size] for at in range(0, len(items), size)]


def is_answer(answer: Answer) -> bool:
    return answer.result in CODES and not answer.high and answer.kept and answer.done == 1


def pointers(where: Where, is_32bit: bool) -> list[int]:
    """Addresses of each kind, and such as there are not."""
    free = where.client + FREE
    found = [
        0, 1, PAGE - 1, 0x10000000, 0x7FFFFFF8, 0xC0000000, 0xFFFFF000, 0xFFFFFFFF,
        where.code, where.constant, where.data, where.head,
        where.scratch, where.scratch + 1, where.scratch + SCRATCH - 1, where.scratch + SCRATCH,
        (where.params & -PAGE) + PAGE - 1, (where.params & -PAGE) + PAGE,
        free, free + 3, free + PAGE - 1, free + PAGE,
    ]  # fmt: skip
    if not is_32bit:
        beyond = (1 << 32, 1 << 40, 1 << 47, 1 << 63, ALL_ONES - 4095, ALL_ONES)
        found += [*beyond, where.scratch | 1 << 32, where.scratch | 0xFF << 56]
    return found


def test_numbers_with_the_same_in_all_arguments(captive: ArmCaptive) -> None:
    """Every number, with the same hostile word as pointer, length and handle."""
    hostile = captive.hostile
    for word in pointers(hostile.where(), captive.is_32bit):
        numbers = [n for n in NUMBERS if n != abi.TEE_SCN_WAIT or word < 2]
        answers = hostile.call(*(SystemCall(number, 8 * [word]) for number in numbers))
        for number, answer in zip(numbers, answers, strict=True):
            assert is_answer(answer), (TABLE[number].name, hex(word), answer)
    captive.others_go_on()


def test_numbers_that_there_are_not(captive: ArmCaptive) -> None:
    hostile = captive.hostile
    numbers = [*range(71, 90), 255, 256, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
    if not captive.is_32bit:
        numbers += [1 << 32, 1 << 32 | 13, 1 << 63, ALL_ONES]
    for word in (0, 0x1234, hostile.where().scratch, ALL_ONES):
        for answer in hostile.call(*(SystemCall(number, 8 * [word]) for number in numbers)):
            assert answer.result == gp.TEE_ERROR_NOT_SUPPORTED
            assert is_answer(answer)
    captive.others_go_on()


def test_what_is_not_supported_is_said_once(captive: ArmCaptive) -> None:
    """A line for a number, however often it is called."""
    numbers = [*(row.number for row in TABLE if row.level == DEPRECATED), 71, 1 << 31]
    fresh = captive.fresh()
    before = len(captive.lines)
    for _ in range(3):
        answers = fresh.call(*(SystemCall(number) for number in numbers))
        assert {answer.result for answer in answers} == {gp.TEE_ERROR_NOT_SUPPORTED}
    lines = captive.lines[before:]
    assert len(lines) == len(numbers)


def test_the_table_is_whole(captive: ArmCaptive) -> None:
    assert [row.number for row in TABLE] == list(range(abi.TEE_SCN_MAX + 1))


def test_ranges_that_wrap(captive: ArmCaptive) -> None:
    """Address and size pass the end of all addresses, of 32 bits or of 64."""
    hostile = captive.hostile
    where = hostile.where()
    word = 1 << 32 if captive.is_32bit else 1 << 64
    ranges = []
    for address in (where.scratch, where.client + FREE, where.code, 0xFFFFF000, word - 1):
        for end in (word, word + 1, word + where.scratch, word + address):
            ranges.append((address, min(end - address, word - 1)))
        ranges += [(address, (1 << 32) - address), (address, (1 << 32) - 1), (address, word - 1)]
    any_owner = abi.TEE_MEMORY_ACCESS_ANY_OWNER | abi.TEE_MEMORY_ACCESS_READ
    for address, size in ranges:
        answers = hostile.call(
            SystemCall(abi.TEE_SCN_CHECK_ACCESS_RIGHTS, (any_owner, address, size)),
            SystemCall(abi.TEE_SCN_CHECK_ACCESS_RIGHTS, (1, address, size)),
            SystemCall(abi.TEE_SCN_CRYP_RANDOM_NUMBER_GENERATE, (address, size)),
            SystemCall(abi.TEE_SCN_LOG, (address, size)),
            SystemCall(abi.TEE_SCN_CACHE_OPERATION, (address, size, 1)),
            SystemCall(
                abi.TEE_SCN_GET_PROPERTY_NAME_TO_INDEX,
                (abi.TEE_PROPSET_TEE_IMPLEMENTATION, address, size, where.scratch),
            ),
        )
        assert all(map(is_answer, answers)), (hex(address), hex(size), answers)
        results = [answer.result for answer in answers]
        assert results[:3] == 3 * [gp.TEE_ERROR_ACCESS_DENIED], (hex(address), hex(size))
        assert results[5] != gp.TEE_SUCCESS
    captive.others_go_on()


def test_ends_of_regions(captive: ArmCaptive) -> None:
    """A private output must be in one private region, to its last byte."""
    hostile = captive.hostile
    where = hostile.where()
    stack_top = (where.params & -PAGE) + PAGE
    denied = [
        where.client + FREE, where.client, where.code, where.constant, where.head,
        stack_top, stack_top - 4, stack_top - 7, 0, 4, 0xFFFFFFFC, 0xFFFFFFF8,
    ]  # fmt: skip
    granted = [where.scratch, where.data, stack_top - 8, where.scratch + SCRATCH - 8]
    get_time = abi.TEE_SCN_GET_TIME
    results = [
        answer.result
        for answer in hostile.call(*(SystemCall(get_time, (0, at)) for at in denied + granted))
    ]
    assert results == len(denied) * [gp.TEE_ERROR_ACCESS_DENIED] + len(granted) * [0]
    captive.others_go_on()


def _params(where: Where, is_32bit: bool, types: int) -> list[bytes]:
    """struct utee_params with each pointer in all places."""
    found = []
    for word in pointers(where, is_32bit):
        for size in (0, 1, PAGE, 0xFFFFFFFF, -word & ALL_ONES):
            found.append(abi.UTEE_PARAMS.pack(types, *(4 * (word, size))))
    return found


@pytest.mark.parametrize("types", [*range(8), 15, 0x7777, 0x5615, 0xFFFF, 0x10005, 0xFFFFFFFF])
def test_parameters_for_others(captive: ArmCaptive, types: int) -> None:
    """To the system pseudo TA, which works in the caller's memory, and to nobody: nothing opens
    there, and sessions have numbers.
    """
    hostile = captive.fresh()
    where = hostile.where()
    session = where.scratch + 64
    block = 128
    for params in batched(_params(where, captive.is_32bit, types), 100):
        uuids = native_uuid(parse_uuid(PTA_SYSTEM_UUID)) + bytes(16)
        hostile.fill(uuids.ljust(block, b"\0") + b"".join(one.ljust(80) for one in params))
        for uuid in (where.scratch, where.scratch + 16):
            calls = [
                SystemCall(
                    abi.TEE_SCN_OPEN_TA_SESSION,
                    (uuid, 0, where.scratch + block + 80 * index, session, session + 4),
                )
                for index in range(len(params))
            ]
            assert all(map(is_answer, hostile.call(*calls)))
        for command in (0, 1, 2, 3, 10, 11, 12, 13, 99):
            calls = [
                SystemCall(
                    abi.TEE_SCN_INVOKE_TA_COMMAND,
                    (1, 0, command, where.scratch + block + 80 * index, session),
                )
                for index in range(len(params))
            ]
            assert all(map(is_answer, hostile.call(*calls)))
    captive.others_go_on()


@pytest.mark.parametrize("types", [5, 6, 0x7777])
def test_private_memory_for_another_ta(captive: ArmCaptive, types: int) -> None:
    """Refused: what another TA gets is its client's, and that only as far as one region goes."""
    hostile = captive.fresh()
    where = hostile.where()
    free = where.client + FREE
    uuid = native_uuid(parse_uuid(arm_tas.uuid_of(HONEST)))
    ranges = [
        (where.scratch, 1), (where.stack, 8), (where.code, 4), (where.head, 1),
        (free, PAGE + 1), (free + PAGE, 1), (free - PAGE, 1 << 31), (0, 1), (free, 16), (free, 0),
    ]  # fmt: skip
    params = b"".join(abi.UTEE_PARAMS.pack(types, *(4 * pair)) for pair in ranges)
    hostile.fill(uuid.ljust(64, b"\0") + params)
    results = []
    for index in range(len(ranges)):
        at = where.scratch + 64 + 72 * index
        args = (where.scratch, FOREVER, at, where.scratch + 32, where.scratch + 36)
        (answer,) = hostile.call(SystemCall(abi.TEE_SCN_OPEN_TA_SESSION, args))
        assert is_answer(answer)
        results.append(answer.result)
    denied, bad = gp.TEE_ERROR_ACCESS_DENIED, gp.TEE_ERROR_BAD_PARAMETERS
    written = [bad, bad, denied, denied] if types != 5 else 4 * [bad]
    assert results == [*written, denied, denied, denied, bad, 0, 0]
    captive.others_go_on()


def test_arguments_on_the_stack(captive: ArmCaptive) -> None:
    """AArch32: r6 words at r5. Too many, or where there is nothing: the call is refused."""
    if not captive.is_32bit:
        pytest.skip("64-bit TAs have all in registers")
    hostile = captive.hostile
    where = hostile.where()
    top = (where.params & -PAGE) + PAGE

    def result(on_stack: int, stack: int = 0) -> int:
        (answer,) = hostile.call(
            SystemCall(abi.TEE_SCN_CHECK_ACCESS_RIGHTS, (5, where.scratch, 1), on_stack, stack)
        )
        assert is_answer(answer)
        return answer.result

    assert [result(count) for count in range(9)] == 9 * [gp.TEE_SUCCESS]
    for count in (9, 10, 255, 1 << 16, 0x20000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        assert result(count) == gp.TEE_ERROR_GENERIC
    for bad in (1, 4, PAGE, top - 28, top, 0xFFFFFFFF, 0xFFFFFFE4):
        assert result(8, bad) == gp.TEE_ERROR_ACCESS_DENIED
    for good in (where.scratch + 1, top - 32, where.client + FREE, where.code):
        assert result(8, good) == gp.TEE_SUCCESS
    captive.others_go_on()


def test_a_return_with_any_registers(captive: ArmCaptive) -> None:
    """Its word is the result, as a TA's."""
    hostile = captive.hostile
    for word in (1, 0xFFFF0006, TEE_ERROR_TARGET_DEAD, 0xFFFFFFFF, 0):
        hostile.start(SystemCall(abi.TEE_SCN_RETURN, 8 * [word | 0xABCD << 32]))
        expected = (word, gp.TEE_ORIGIN_TRUSTED_APP if word else None)
        assert result_of(hostile.session, CALLS, Value(1), hostile.memory) == expected
        hostile.session.invoke(PING, Value(1))
    captive.others_go_on()


def test_a_panic_with_any_registers(captive: ArmCaptive) -> None:
    for word in (*pointers(captive.hostile.where(), captive.is_32bit)[-8:], ALL_ONES):
        hostile = captive.hostile
        hostile.start(SystemCall(abi.TEE_SCN_PANIC, 8 * [word]))
        captive.dies(lambda: captive.hostile.invoke(CALLS, 1))


def test_waits_of_any_length(captive: ArmCaptive) -> None:
    """More than 32 bits of milliseconds are for ever; a cancellation ends it, if it may."""
    lengths = [FOREVER, 0xFFFFFFFE, 0x80000000]
    if not captive.is_32bit:
        lengths += [1 << 32, 1 << 63, ALL_ONES]
    for length in lengths:
        hostile = captive.fresh()
        hostile.fill(bytes(8))
        unmask = SystemCall(abi.TEE_SCN_UNMASK_CANCELLATION, (hostile.where().scratch,))
        log = SystemCall(abi.TEE_SCN_LOG, (hostile.where().scratch, 8))
        hostile.start(unmask, log, SystemCall(abi.TEE_SCN_WAIT, (length,)))
        call = Call(hostile.session, CALLS, Value(3), hostile.memory, Value(0, 0))
        captive.others_go_on()

        def ended(call: Call = call) -> bool:
            call.operation.cancel()
            return call.is_done

        wait_until(ended)
        call.wait()
        assert hostile.answers(3)[2].result == gp.TEE_ERROR_CANCEL
