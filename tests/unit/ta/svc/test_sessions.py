# SPDX-License-Identifier: BSD-2-Clause
"""Sessions with other TAs: what goes to the TEE, and what comes back to the TA."""

import pytest

from gentee.abi import optee_ta as abi
from gentee.abi import ta_channel as ch
from gentee.abi.gp import (
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_BUSY,
    TEE_ERROR_CANCEL,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_SHORT_BUFFER,
    TEE_ERROR_TARGET_DEAD,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_PARAM_TYPES,
    TEE_SUCCESS,
)
from gentee.ta.client_memory import SHARED
from gentee.ta.svc.sessions import Session
from tests.svc_ta import (
    CODE,
    DATA,
    LENT,
    LENT2,
    NATIVE_UUID,
    NOWHERE,
    PAGE,
    RW,
    STACK,
    STACK2,
    UUID,
    FakeTee,
    TestedTa,
    everything,
)

OPEN, CLOSE = abi.TEE_SCN_OPEN_TA_SESSION, abi.TEE_SCN_CLOSE_TA_SESSION
INVOKE = abi.TEE_SCN_INVOKE_TA_COMMAND
DEST, PARAMS, SESS, ORIGIN = DATA, DATA + 0x100, DATA + 0x200, DATA + 0x204
NONE, VALUE_IN, VALUE_OUT, VALUE_INOUT = range(4)
MEMREF_IN, MEMREF_OUT, MEMREF_INOUT = 5, 6, 7
UNTOUCHED = 0x55555555


def put_params(ta: TestedTa, types: int, *vals: int, address: int = PARAMS) -> None:
    ta.write(address, abi.UTEE_PARAMS.pack(types, *vals, *(0,) * (8 - len(vals))))


def get_params(ta: TestedTa) -> tuple[int, ...]:
    return abi.UTEE_PARAMS.unpack(ta.read(PARAMS, abi.UTEE_PARAMS.size))[1:]


def answer(ta: TestedTa, code: int, result: int, *words: tuple[int, int]) -> list[dict[int, int]]:
    """Answer a request with a result and words; the blocks that came with it."""
    blocks: list[dict[int, int]] = []

    def serve(tee: FakeTee) -> int:
        blocks.append({index: tee[index] for index in range(ch.Q_BLOCK, ch.Q_BLOCK + ch.Q_WORDS)})
        for index, value in words:
            tee[index] = value
        return result

    ta.tee.answers[code] = serve
    return blocks


def do_open(ta: TestedTa, params: int = 0, timeout: int = 0xFFFFFFFF) -> int:
    ta.write(DEST, NATIVE_UUID)
    ta.put_u32(SESS, UNTOUCHED)
    ta.put_u32(ORIGIN, UNTOUCHED)
    return ta.call(OPEN, DEST, timeout, params, SESS, ORIGIN)


def do_invoke(ta: TestedTa, params: int = 0, session: int = 3, timeout: int = 0xFFFFFFFF) -> int:
    ta.put_u32(ORIGIN, UNTOUCHED)
    return ta.call(INVOKE, session, timeout, 42, params, ORIGIN)


@pytest.fixture
def opened(ta: TestedTa) -> TestedTa:
    """It has session 3, which the TEE knows as 30."""
    ta.open_sessions[3] = Session(30)
    return ta


def test_open(ta: TestedTa) -> None:
    blocks = answer(ta, ch.RQ_OPEN_TA_SESSION, TEE_SUCCESS, (ch.Q_SESSION, 77))
    assert do_open(ta, timeout=1500) == TEE_SUCCESS
    assert (ta.u32(SESS), ta.u32(ORIGIN)) == (1, TEE_ORIGIN_TRUSTED_APP)
    (block,) = blocks
    assert (
        block[ch.Q_UUID].to_bytes(8, "little") + block[ch.Q_UUID + 1].to_bytes(8, "little") == UUID
    )
    assert block[ch.Q_TIMEOUT] == 1500
    assert block[ch.Q_UNMASKED] == 0
    assert block[ch.Q_PARAM_TYPES] == 0
    assert ta.open_sessions[1].number == 77
    assert not ta.open_sessions[1].is_pseudo


def test_numbers_of_sessions(ta: TestedTa) -> None:
    answer(ta, ch.RQ_OPEN_TA_SESSION, TEE_SUCCESS, (ch.Q_SESSION, 77))
    answer(ta, ch.RQ_CLOSE_TA_SESSION, TEE_SUCCESS)
    for number in (1, 2, 3):
        assert do_open(ta) == TEE_SUCCESS
        assert ta.u32(SESS) == number
    assert ta.call(CLOSE, 2) == TEE_SUCCESS
    assert do_open(ta) == TEE_SUCCESS
    assert ta.u32(SESS) == 4  # one more than the last
    assert ta.call(CLOSE, 4) == TEE_SUCCESS
    assert do_open(ta) == TEE_SUCCESS
    assert ta.u32(SESS) == 4
    ta.open_sessions[0xFFFFFFFF] = Session(1)
    assert do_open(ta) == TEE_SUCCESS
    assert ta.u32(SESS) == 2  # 0 is none, 1 is taken


def test_open_is_refused(ta: TestedTa) -> None:
    for origin in (TEE_ORIGIN_TEE, TEE_ORIGIN_TRUSTED_APP):
        answer(ta, ch.RQ_OPEN_TA_SESSION, TEE_ERROR_BUSY, (ch.Q_ORIGIN, origin))
        put_params(ta, VALUE_INOUT, 5, 6)
        before = get_params(ta)
        assert do_open(ta, PARAMS) == TEE_ERROR_BUSY
        assert (ta.u32(SESS), ta.u32(ORIGIN)) == (UNTOUCHED, origin)
        assert get_params(ta) == before
        assert not ta.open_sessions


def test_the_uuid_is_private(ta: TestedTa) -> None:
    for address in (0, LENT, NOWHERE, STACK + PAGE - 8):
        ta.put_u32(ORIGIN, UNTOUCHED)
        assert ta.call(OPEN, address, 0, 0, SESS, ORIGIN) == TEE_ERROR_ACCESS_DENIED
        assert ta.u32(ORIGIN) == TEE_ORIGIN_TEE
    assert ta.tee.asked == []


def test_results_that_cannot_be_written(ta: TestedTa) -> None:
    """OP-TEE does not look: the session is open, and the TA does not know its number."""
    answer(ta, ch.RQ_OPEN_TA_SESSION, TEE_SUCCESS, (ch.Q_SESSION, 77))
    ta.write(DEST, NATIVE_UUID)
    for sess, origin in ((0, 0), (LENT, LENT + 4), (CODE, CODE), (STACK + PAGE - 2, NOWHERE)):
        before = everything(ta)
        assert ta.call(OPEN, DEST, 0, 0, sess, origin) == TEE_SUCCESS
        assert everything(ta) == before
    assert len(ta.open_sessions) == 4


def test_close(opened: TestedTa) -> None:
    blocks = answer(opened, ch.RQ_CLOSE_TA_SESSION, TEE_SUCCESS)
    assert opened.call(CLOSE, 4) == TEE_ERROR_ITEM_NOT_FOUND
    assert opened.call(CLOSE, 0) == TEE_ERROR_ITEM_NOT_FOUND
    assert blocks == []
    assert opened.call(CLOSE, 3) == TEE_SUCCESS
    assert blocks[0][ch.Q_SESSION] == 30
    assert opened.call(CLOSE, 3) == TEE_ERROR_ITEM_NOT_FOUND


def test_invoke(opened: TestedTa) -> None:
    opened.masked = False
    blocks = answer(opened, ch.RQ_INVOKE_TA_COMMAND, TEE_SUCCESS)
    assert do_invoke(opened, timeout=7) == TEE_SUCCESS
    assert opened.u32(ORIGIN) == TEE_ORIGIN_TRUSTED_APP
    (block,) = blocks
    assert (block[ch.Q_SESSION], block[ch.Q_FUNC]) == (30, 42)
    assert (block[ch.Q_TIMEOUT], block[ch.Q_UNMASKED], block[ch.Q_PARAM_TYPES]) == (7, 1, 0)


def test_no_such_session(opened: TestedTa) -> None:
    assert do_invoke(opened, session=4) == TEE_ERROR_BAD_PARAMETERS
    assert opened.u32(ORIGIN) == UNTOUCHED
    assert opened.tee.asked == []


def test_numbers_have_32_bits(opened: TestedTa) -> None:
    blocks = answer(opened, ch.RQ_INVOKE_TA_COMMAND, TEE_SUCCESS)
    high = 0xABC << 32
    assert opened.call(INVOKE, high | 3, high | 9, high | 42, 0, 0) == TEE_SUCCESS
    block = blocks[0]
    assert (block[ch.Q_SESSION], block[ch.Q_FUNC], block[ch.Q_TIMEOUT]) == (30, 42, 9)


def test_values(opened: TestedTa) -> None:
    blocks = answer(
        opened,
        ch.RQ_INVOKE_TA_COMMAND,
        TEE_ERROR_SHORT_BUFFER,  # outputs are taken with an error as well
        (ch.Q_ORIGIN, TEE_ORIGIN_TRUSTED_APP),
        (ch.Q_PARAMS + 3, 30), (ch.Q_PARAMS + 4, 40),
        (ch.Q_PARAMS + 6, 50), (ch.Q_PARAMS + 7, 1 << 40 | 60),
    )  # fmt: skip
    types = TEE_PARAM_TYPES(VALUE_IN, VALUE_OUT, VALUE_INOUT, NONE)
    high = 0xABC << 32
    put_params(opened, types, high | 1, 2, 3, 4, 5, 6, 7, 8)
    assert do_invoke(opened, PARAMS) == TEE_ERROR_SHORT_BUFFER
    assert get_params(opened) == (high | 1, 2, 30, 40, 50, 60, 7, 8)
    block = blocks[0]
    assert block[ch.Q_PARAM_TYPES] == types
    sent = [block[ch.Q_PARAMS + 3 * n + m] for n in range(3) for m in range(2)]
    assert sent == [1, 2, 0, 0, 5, 6]


def test_a_call_that_did_not_reach_it(opened: TestedTa) -> None:
    """As OP-TEE: outputs are 0 then, what goes both ways is as it was."""
    answer(opened, ch.RQ_INVOKE_TA_COMMAND, TEE_ERROR_BUSY, (ch.Q_ORIGIN, TEE_ORIGIN_TEE))
    put_params(opened, TEE_PARAM_TYPES(VALUE_OUT, VALUE_INOUT, MEMREF_OUT, 0), 1, 2, 3, 4, LENT, 5)
    opened.write(LENT, b"abcde")
    assert do_invoke(opened, PARAMS) == TEE_ERROR_BUSY
    assert get_params(opened) == (0, 0, 3, 4, LENT, 5, 0, 0)
    assert opened.u32(ORIGIN) == TEE_ORIGIN_TEE
    assert opened.read(LENT, 5) == b"abcde"


def test_cancelled(opened: TestedTa) -> None:
    """Also before it began: libutee panics where the origin of that is the TEE."""
    for origin in (TEE_ORIGIN_TEE, TEE_ORIGIN_TRUSTED_APP):
        answer(opened, ch.RQ_INVOKE_TA_COMMAND, TEE_ERROR_CANCEL, (ch.Q_ORIGIN, origin))
        assert do_invoke(opened) == TEE_ERROR_CANCEL
        assert opened.u32(ORIGIN) == TEE_ORIGIN_TRUSTED_APP


def test_dead(opened: TestedTa) -> None:
    answer(opened, ch.RQ_INVOKE_TA_COMMAND, TEE_ERROR_TARGET_DEAD, (ch.Q_ORIGIN, TEE_ORIGIN_TEE))
    put_params(opened, VALUE_OUT, 1, 2)
    assert do_invoke(opened, PARAMS) == TEE_ERROR_TARGET_DEAD
    assert get_params(opened)[:2] == (1, 2)
    assert opened.u32(ORIGIN) == TEE_ORIGIN_TEE


def serve_memory(ta: TestedTa, data: bytes, result: int = TEE_SUCCESS) -> list[tuple[int, ...]]:
    """Write ``data`` at each reference, and say that it has 1000 bytes; the blocks' parameters."""
    seen: list[tuple[int, ...]] = []

    def serve(tee: FakeTee) -> int:
        assert tee.memory is not None
        words = tuple(tee[ch.Q_PARAMS + n] for n in range(12))
        seen.append(words)
        for index in range(4):
            if tee[ch.Q_PARAM_TYPES] >> 4 * index & 0xF in (MEMREF_IN, MEMREF_OUT, MEMREF_INOUT):
                place, size, exists = words[3 * index : 3 * index + 3]
                if exists and size:
                    piece = data[:size]
                    tee.memory[place : place + len(piece)] = piece
                tee[ch.Q_PARAMS + 3 * index + 1] = 1000
        tee[ch.Q_ORIGIN] = TEE_ORIGIN_TRUSTED_APP
        return result

    ta.tee.answers[ch.RQ_INVOKE_TA_COMMAND] = serve
    return seen


@pytest.mark.parametrize("result", [TEE_SUCCESS, TEE_ERROR_SHORT_BUFFER])
def test_references(opened: TestedTa, result: int) -> None:
    ta = opened
    seen = serve_memory(ta, b"changed", result)
    first = LENT + PAGE + 16
    ta.write(first, b"the input")
    ta.write(LENT2 + 5, b"the output")
    types = TEE_PARAM_TYPES(MEMREF_IN, MEMREF_OUT, MEMREF_INOUT, MEMREF_INOUT)
    put_params(ta, types, first, 9, LENT2 + 5, 10, 0, 0, LENT, 0)
    assert do_invoke(ta, PARAMS) == result
    (words,) = seen
    assert words[:3] == (16, 9, ch.Q_GIVEN | ch.Q_NORMAL)
    # Neighbouring pages stay neighbours.
    assert words[3:6] == (PAGE + 5, 10, ch.Q_GIVEN | ch.Q_NORMAL)
    assert words[6:9] == words[9:12] == (0, 0, 0)  # NULL, and one of no bytes
    assert ta.read(first, 9) == b"the input"
    assert ta.read(LENT2 + 5, 10) == b"changedput"
    assert get_params(ta) == (first, 9, LENT2 + 5, 1000, 0, 1000, LENT, 1000)


def test_what_the_called_ta_sees(opened: TestedTa) -> None:
    """The bytes that are there, of outputs as well: OP-TEE maps the memory itself."""
    ta = opened
    ta.write(LENT, bytes(range(200)))

    def serve(tee: FakeTee) -> int:
        assert tee.memory is not None
        for index, kept in enumerate((range(3, 103), range(50, 150), range(0, 20))):
            place, size = tee[ch.Q_PARAMS + 3 * index], tee[ch.Q_PARAMS + 3 * index + 1]
            assert bytes(tee.memory[place : place + size]) == bytes(kept)
        # They overlap as they do in the caller.
        assert tee[ch.Q_PARAMS + 3] - tee[ch.Q_PARAMS] == 47
        assert tee[ch.Q_PARAMS] - tee[ch.Q_PARAMS + 6] == 3
        return TEE_SUCCESS

    ta.tee.answers[ch.RQ_INVOKE_TA_COMMAND] = serve
    types = TEE_PARAM_TYPES(MEMREF_IN, MEMREF_OUT, MEMREF_INOUT, NONE)
    put_params(ta, types, LENT + 3, 100, LENT + 50, 100, LENT, 20)
    assert do_invoke(ta, PARAMS) == TEE_SUCCESS


def test_places_far_apart(opened: TestedTa) -> None:
    ta = opened
    ta.add(NOWHERE, 3, RW, "map_zi", SHARED)
    seen = serve_memory(ta, b"x")
    types = TEE_PARAM_TYPES(MEMREF_IN, MEMREF_IN, MEMREF_IN, NONE)
    put_params(ta, types, NOWHERE + 0x2010, 1, LENT + 0x20, 1, NOWHERE + 0x30, PAGE)
    assert do_invoke(ta, PARAMS) == TEE_SUCCESS
    assert [seen[0][0], seen[0][3], seen[0][6]] == [PAGE + 0x2010, 0x20, PAGE + 0x30]


@pytest.mark.parametrize(
    ("kind", "address", "size", "result"),
    [
        (MEMREF_IN, DATA, 1, TEE_ERROR_BAD_PARAMETERS),  # private
        (MEMREF_IN, CODE, 1, TEE_ERROR_BAD_PARAMETERS),
        (MEMREF_OUT, CODE, 1, TEE_ERROR_ACCESS_DENIED),
        (MEMREF_IN, LENT + PAGE, 2 * PAGE, TEE_ERROR_BAD_PARAMETERS),  # two regions
        (MEMREF_IN, LENT2, PAGE + 1, TEE_ERROR_ACCESS_DENIED),
        (MEMREF_INOUT, NOWHERE, 1, TEE_ERROR_ACCESS_DENIED),
        (MEMREF_IN, 0, 1, TEE_ERROR_BAD_PARAMETERS),
        (MEMREF_IN, LENT, (1 << 64) - 1, TEE_ERROR_ACCESS_DENIED),
        (MEMREF_IN, (1 << 64) - 1, 2, TEE_ERROR_ACCESS_DENIED),
    ],
)
def test_memory_that_may_not_be_passed(
    opened: TestedTa, kind: int, address: int, size: int, result: int
) -> None:
    put_params(opened, kind << 8, 0, 0, 0, 0, address, size)
    assert do_invoke(opened, PARAMS) == result
    assert opened.u32(ORIGIN) == TEE_ORIGIN_TEE
    assert do_open(opened, PARAMS) == result
    assert (opened.u32(SESS), opened.u32(ORIGIN)) == (UNTOUCHED, TEE_ORIGIN_TEE)
    assert opened.tee.asked == []


def test_private_memory_for_a_pseudo_ta(ta: TestedTa) -> None:
    answer(ta, ch.RQ_OPEN_TA_SESSION, TEE_SUCCESS, (ch.Q_SESSION, 5), (ch.Q_IS_PSEUDO, 1))
    assert do_open(ta) == TEE_SUCCESS
    seen = serve_memory(ta, b"changed")
    ta.write(STACK2 - 4, b"abcdefgh")  # across two regions
    put_params(ta, TEE_PARAM_TYPES(MEMREF_INOUT, MEMREF_IN, 0, 0), STACK2 - 4, 8, CODE, 4)
    assert do_invoke(ta, PARAMS, session=1) == TEE_SUCCESS
    assert [words[1:3] for words in seen] == [(8, 1)]
    assert ta.read(STACK2 - 4, 8) == b"changedh"
    put_params(ta, MEMREF_OUT, CODE, 4)
    assert do_invoke(ta, PARAMS, session=1) == TEE_ERROR_ACCESS_DENIED


def test_no_window(opened: TestedTa) -> None:
    opened.tee.memory = None
    put_params(opened, MEMREF_IN, LENT, 1)
    assert do_invoke(opened, PARAMS) == TEE_ERROR_OUT_OF_MEMORY
    assert opened.u32(ORIGIN) == TEE_ORIGIN_TEE
    assert opened.tee.asked == []


@pytest.mark.parametrize("address", [NOWHERE, CODE, DATA + 2 * PAGE - 71, (1 << 64) - 8])
def test_parameters_that_cannot_be_read(opened: TestedTa, address: int) -> None:
    assert do_invoke(opened, address) == TEE_ERROR_ACCESS_DENIED
    assert opened.u32(ORIGIN) == TEE_ORIGIN_TEE
    assert do_open(opened, address) == TEE_ERROR_ACCESS_DENIED


def test_parameters_may_be_anywhere(opened: TestedTa) -> None:
    answer(opened, ch.RQ_INVOKE_TA_COMMAND, TEE_SUCCESS, (ch.Q_PARAMS, 9))
    put_params(opened, VALUE_OUT, address=LENT2 - 8)
    assert do_invoke(opened, LENT2 - 8) == TEE_SUCCESS
    assert opened.read(LENT2, 1) == b"\x09"


def test_outputs_are_not_taken_twice(opened: TestedTa) -> None:
    """The parameters are the client's to change meanwhile; what counts was read once."""
    ta = opened

    def serve(tee: FakeTee) -> int:
        put_params(ta, MEMREF_OUT, DATA, 0x1000, address=LENT)
        tee[ch.Q_PARAMS], tee[ch.Q_PARAMS + 1] = 7, 8
        return TEE_SUCCESS

    ta.tee.answers[ch.RQ_INVOKE_TA_COMMAND] = serve
    put_params(ta, VALUE_OUT, address=LENT)
    before = ta.read(DATA, PAGE)[:0x200]
    assert do_invoke(ta, LENT) == TEE_SUCCESS
    assert ta.read(DATA, PAGE)[:0x200] == before
    assert abi.UTEE_PARAMS.unpack(ta.read(LENT, 72))[:3] == (MEMREF_OUT, 7, 8)
