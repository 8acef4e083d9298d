# SPDX-License-Identifier: BSD-2-Clause
"""Whatever a TA passes, it is answered, and touches nothing but what it may write."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gentee.abi import optee_pta as pta
from gentee.abi import optee_ta as abi
from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_ERROR_NOT_SUPPORTED, TEE_SUCCESS
from gentee.errors import TaPanic
from gentee.ta.engine.base import AARCH64, ARM
from gentee.ta.svc.memory import MAP_ZI
from gentee.ta.svc.sessions import Session
from gentee.ta.svc.table import SUPPORTED, TABLE
from tests.svc_ta import (
    CODE,
    DATA,
    LENT,
    LENT2,
    NATIVE_UUID,
    NOWHERE,
    PAGE,
    STACK,
    STACK2,
    FakeTee,
    TestedTa,
)
from tests.ta_run import ta_image

pytestmark = pytest.mark.slow

T = TypeVar("T")

EXAMPLES = settings().max_examples // 3  # of each call and command

ENDS_THE_ENTRY = (abi.TEE_SCN_RETURN, abi.TEE_SCN_PANIC)
BUSY = [r.number for r in TABLE if r.level == SUPPORTED and r.number not in ENDS_THE_ENTRY]

PLACES = [0, CODE, DATA, STACK, STACK2, LENT, LENT2, NOWHERE, 0x50000000]
SIZES = [0, 1, 4, 8, 16, 64, 72, PAGE, 2 * PAGE, 3 * PAGE, 1 << 31, 1 << 32]
ENDS = [(1 << 32) - 1, 1 << 32, 1 << 63, (1 << 64) - PAGE, (1 << 64) - 1]


def mostly(usual: st.SearchStrategy[T], *others: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """Mostly the first one: one_of() would take each as often."""
    return st.integers(0, 7).flatmap(lambda n: others[n % len(others)] if n >= 6 else usual)


addresses = st.one_of(
    st.sampled_from([DATA, DATA + 0x100, DATA + 0x300, STACK, LENT, LENT + 0x200]),
    st.builds(
        lambda place, offset: (place + offset) & ((1 << 64) - 1),
        st.sampled_from([*PLACES, DATA + 2 * PAGE, LENT + 3 * PAGE, STACK + 2 * PAGE]),
        st.sampled_from([0, 0, 0, 1, 8, 0x100, 0x200, PAGE - 1, -1, -4, -8, -72]),
    ),
)
anything = st.one_of(
    addresses,
    st.sampled_from(SIZES),
    st.sampled_from(ENDS),
    st.sampled_from([abi.TEE_PROPSET_TEE_IMPLEMENTATION, abi.TEE_PROPSET_CURRENT_CLIENT]),
    st.integers(0, 8),
    st.integers(0, (1 << 64) - 1),
)
words = mostly(st.one_of(addresses, st.integers(0, 4)), anything)
params = st.builds(
    lambda types, vals: abi.UTEE_PARAMS.pack(types, *vals),
    st.one_of(
        st.integers(0, 0xFFFF),
        st.sampled_from([0x131, 0x11, 0x15, 0x255, 0x5, 0x6, 0x7, 0x7777, 0x5555]),
        st.integers(0, (1 << 64) - 1),
    ),
    st.lists(words, min_size=8, max_size=8),
)


def _answer(tee: FakeTee) -> int:
    """A TEE that succeeds, and says of sizes and values what nobody expects."""
    for index in range(ch.Q_SESSION, ch.Q_BLOCK + ch.Q_WORDS):
        if index not in (ch.Q_IS_PSEUDO, ch.Q_SESSION):
            tee[index] = 0xFFFFFFFFFFFFFFFF
    return TEE_SUCCESS


def _answer_time(tee: FakeTee) -> int:
    tee[ch.Q_SECONDS], tee[ch.Q_MILLIS] = (1 << 64) - 1, 999
    return TEE_SUCCESS


def _prepare(ta: TestedTa) -> None:
    for code in range(ch.RQ_OPEN_TA_SESSION, ch.RQ_OPEN_BIN + 1):
        ta.tee.answers[code] = _answer
    ta.tee.answers[ch.RQ_GET_PERSISTENT_TIME] = _answer_time
    ta.flags = abi.TA_FLAG_CACHE_MAINTENANCE
    ta.open_sessions.update(
        {1: Session(0, is_pseudo=True, is_system=True), 2: Session(20), 3: Session(30, True)}
    )


@pytest.fixture(scope="module", params=[AARCH64, ARM])
def hostile(request: pytest.FixtureRequest) -> Iterator[TestedTa]:
    ta = TestedTa(request.param)
    _prepare(ta)
    yield ta
    ta.end()


def _what_is_not_its_own(ta: TestedTa) -> list[tuple[int, bytes]]:
    """Memory that a system call may not write: what the TA may not write."""
    return [(r.address, bytes(r.memory)) for r in ta.space if not r.prot & 2]


def _pseudo_params(types: int, *vals: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    """Parameters of a command of the system pseudo TA: of its types, and any others."""
    filled = (*vals, *(st.just(0),) * (8 - len(vals)))
    right = st.builds(lambda *values: abi.UTEE_PARAMS.pack(types, *values), *filled)
    return mostly(right, params)


_bytes = mostly(st.sampled_from([0, 1, PAGE, 2 * PAGE, 3 * PAGE, 0xFFFFFFFF]), words)
_flags = mostly(st.just(0), st.just(1), words)
_high = mostly(st.just(0), words)
_low = mostly(
    st.builds(lambda page: 0x50000000 + page * PAGE, st.integers(0, 7)), st.just(0), addresses
)
_pad = mostly(st.just(0), st.just(PAGE), words)

SYSTEM = {
    pta.PTA_SYSTEM_ADD_RNG_ENTROPY: params,
    pta.PTA_SYSTEM_DERIVE_TA_UNIQUE_KEY: _pseudo_params(
        0x65, addresses, _bytes, addresses, st.integers(0, 64)
    ),
    pta.PTA_SYSTEM_MAP_ZI: _pseudo_params(0x131, _bytes, _flags, _high, _low, _pad, _pad),
    pta.PTA_SYSTEM_UNMAP: _pseudo_params(0x11, _bytes, _flags, _high, _low),
    pta.PTA_SYSTEM_DLOPEN: _pseudo_params(0x15, addresses, st.just(16), words),
    pta.PTA_SYSTEM_DLSYM: _pseudo_params(0x255, addresses, st.just(16), addresses, _bytes),
    (1 << 64) - 1: params,
}


@pytest.mark.parametrize("number", BUSY)
@settings(max_examples=EXAMPLES)
@given(
    args=st.lists(words, min_size=8, max_size=8),
    where=st.sampled_from([DATA, DATA + 0x100, LENT, LENT2 - 8, STACK2 - 16]),
    content=params,
)
def test_any_call(
    hostile: TestedTa, number: int, args: Sequence[int], where: int, content: bytes
) -> None:
    ta = hostile
    if ta.is_32bit:
        args = [value & 0xFFFFFFFF for value in args]
    before = _what_is_not_its_own(ta)
    ta.write(where, content)
    ta.write(DATA + 0x300, NATIVE_UUID)
    result = ta.call(number, *args)
    assert 0 <= result < 1 << 32
    assert _what_is_not_its_own(ta) == before
    if len(ta.open_sessions) > 200:
        ta.open_sessions.clear()
    _prepare(ta)


@given(
    number=st.sampled_from([abi.TEE_SCN_OPEN_TA_SESSION, abi.TEE_SCN_INVOKE_TA_COMMAND]),
    session=st.integers(0, 4),
    content=params,
    place=st.one_of(st.just(DATA), addresses),
    outputs=st.tuples(addresses, addresses),
)
def test_any_parameters(
    hostile: TestedTa,
    number: int,
    session: int,
    content: bytes,
    place: int,
    outputs: tuple[int, int],
) -> None:
    """Calls of other TAs, with parameters that make sense or do not."""
    ta = hostile
    before = _what_is_not_its_own(ta)
    ta.write(DATA, content)
    ta.write(DATA + 0x300, NATIVE_UUID)
    if number == abi.TEE_SCN_OPEN_TA_SESSION:
        result = ta.call(number, DATA + 0x300, 5, place, *outputs)
    else:
        result = ta.call(number, session, 5, 42, place, outputs[0])
    assert 0 <= result < 1 << 32
    assert _what_is_not_its_own(ta) == before
    ta.open_sessions.clear()
    _prepare(ta)


@pytest.mark.parametrize("cmd", SYSTEM)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_any_command_of_the_system_pta(hostile: TestedTa, cmd: int, data: st.DataObject) -> None:
    ta = hostile
    before = _what_is_not_its_own(ta)
    places = {region.address for region in ta.space if region.name != MAP_ZI}
    for _ in range(4):
        ta.write(DATA, data.draw(SYSTEM[cmd]))
        if cmd == pta.PTA_SYSTEM_UNMAP:  # something to take away
            ta.call(abi.TEE_SCN_INVOKE_TA_COMMAND, 1, 5, cmd, DATA, 0)
            content = abi.UTEE_PARAMS.pack(0x131, 3 * PAGE, 0, 0, 0x50001000, *(0,) * 4)
            ta.write(DATA + 0x100, content)
            ta.call(abi.TEE_SCN_INVOKE_TA_COMMAND, 1, 5, pta.PTA_SYSTEM_MAP_ZI, DATA + 0x100, 0)
        result = ta.call(abi.TEE_SCN_INVOKE_TA_COMMAND, 1, 5, cmd, DATA, DATA + 0x200)
        assert 0 <= result < 1 << 32
    assert _what_is_not_its_own(ta) == before
    assert places == {region.address for region in ta.space if region.name != MAP_ZI}
    own = [region for region in ta.space if region.name == MAP_ZI]
    assert ta.space.used == 8 * PAGE + sum(region.size for region in own)
    for region in own:
        ta.space.unmap(region, own=True)


@pytest.fixture(scope="module", params=[AARCH64, ARM])
def loaded(request: pytest.FixtureRequest) -> Iterator[TestedTa]:
    ta = TestedTa(request.param)
    ta.load(ta_image("any_call", request.param))
    _prepare(ta)
    yield ta
    ta.end()


def _enter(ta: TestedTa, number: int, args: Sequence[int]) -> int:
    return ta.enter(abi.UTEE_ENTRY_FUNC_INVOKE_COMMAND, number, 0x3333, tuple(args))


@given(
    number=st.one_of(st.sampled_from(BUSY), st.integers(1, 100), st.integers(0, (1 << 32) - 1)),
    args=st.lists(words, min_size=8, max_size=8),
)
def test_any_call_from_inside(loaded: TestedTa, number: int, args: Sequence[int]) -> None:
    """Through the engine: the TA gets a TEE_Result where the number or an argument was."""
    ta = loaded
    if number in ENDS_THE_ENTRY:
        return
    mask = 0xFFFFFFFF if ta.is_32bit else (1 << 64) - 1
    wanted = ta.call(number, *(value & mask for value in args)) if number <= 70 else 0
    result = _enter(ta, number, args)
    if number > abi.TEE_SCN_MAX:
        assert result == TEE_ERROR_NOT_SUPPORTED
    elif number not in (abi.TEE_SCN_OPEN_TA_SESSION, abi.TEE_SCN_INVOKE_TA_COMMAND):
        # The same call, the same answer: those two depend on the stack, where parameters may be.
        assert (result == TEE_SUCCESS) == (wanted == TEE_SUCCESS) or number == 6


def test_the_way_in_and_out(loaded: TestedTa) -> None:
    ta = loaded
    is_32bit = ta.is_32bit
    ta.enter(abi.UTEE_ENTRY_FUNC_OPEN_SESSION, 0, 0, (0,) * 8)
    scratch, code, place = ta.params()[:3]
    assert _enter(ta, abi.TEE_SCN_CHECK_ACCESS_RIGHTS, (3, scratch, 4096, 0, 0, 0, 0, 0)) == 0
    assert _enter(ta, abi.TEE_SCN_CHECK_ACCESS_RIGHTS, (3, code & ~1, 4, 0, 0, 0, 0, 0)) != 0
    assert _enter(ta, abi.TEE_SCN_CHECK_ACCESS_RIGHTS, (3, place, 72, 0, 0, 0, 0, 0)) == 0
    # Seven arguments: three of them on the stack of a 32-bit TA.
    ta.put_u32(scratch + 0x100, 64)
    ta.put_u32(scratch + 0x200, 64)
    tee = abi.TEE_PROPSET_TEE_IMPLEMENTATION
    args = (tee, 1, scratch, scratch + 0x100, scratch + 0x300, scratch + 0x200, scratch + 0x400, 0)
    assert _enter(ta, abi.TEE_SCN_GET_PROPERTY, args) == 0
    assert ta.read(scratch, 20) == b"gpd.tee.description\0"
    assert ta.read(scratch + 0x300, 6) == b"OPTEE\0"
    assert ta.u32(scratch + 0x400) == abi.USER_TA_PROP_TYPE_STRING
    with pytest.raises(TaPanic) as panic:
        _enter(ta, abi.TEE_SCN_PANIC, (0xFFFF0003, scratch, 0, 0, 0, 0, 0, 0))
    assert panic.value.code == 0xFFFF0003
    assert ta.panic_registers == scratch
    assert is_32bit == (ta.arch == ARM)
