# SPDX-License-Identifier: BSD-2-Clause
"""The system pseudo TA, as far as it works on the caller's address space."""

from collections.abc import Callable
from typing import Any

import pytest

from gentee.abi import optee_pta as pta
from gentee.abi import optee_ta as abi
from gentee.abi import ta_channel as ch
from gentee.abi.gp import (
    TEE_ERROR_ACCESS_CONFLICT,
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_NOT_IMPLEMENTED,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_SECURITY,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_PARAM_TYPES,
    TEE_SUCCESS,
)
from gentee.errors import ItemNotFound, OutOfMemory, TaImageError
from gentee.ta.client_memory import SHARED
from gentee.ta.engine.space import HIGH, LOW, Region
from gentee.ta.svc import system_pta
from gentee.ta.svc.memory import MAP_ZI
from gentee.ta.svc.sessions import MAX_SESSIONS
from tests.svc_ta import DATA, LENT, NATIVE_UUID, PAGE, STACK, UUID, FakeTee, TestedTa

PARAMS, SESS, ORIGIN, DEST = DATA + 0x100, DATA + 0x200, DATA + 0x204, DATA
VALUE_IN, VALUE_OUT, VALUE_INOUT = 1, 2, 3
MEMREF_IN, MEMREF_OUT = 5, 6
SHAREABLE = 1
FIXED = 0x50000000

MAP_ZI_TYPES = TEE_PARAM_TYPES(VALUE_IN, VALUE_INOUT, VALUE_IN, 0)
UNMAP_TYPES = TEE_PARAM_TYPES(VALUE_IN, VALUE_IN, 0, 0)


def open_system(ta: TestedTa) -> int:
    uuid = bytes.fromhex("78892f3ac05de8119c2dfa7ae01bbebc")  # PTA_SYSTEM_UUID as in memory
    ta.write(DEST, uuid)
    return ta.call(abi.TEE_SCN_OPEN_TA_SESSION, DEST, 0xFFFFFFFF, 0, SESS, ORIGIN)


@pytest.fixture
def opened(ta: TestedTa) -> TestedTa:
    """It has session 1 with the system pseudo TA."""
    assert open_system(ta) == TEE_SUCCESS
    assert (ta.u32(SESS), ta.u32(ORIGIN)) == (1, TEE_ORIGIN_TRUSTED_APP)
    assert ta.tee.asked == []  # the TEE need not know
    return ta


def invoke(ta: TestedTa, cmd: int, types: int, *vals: int) -> tuple[int, tuple[int, ...]]:
    ta.write(PARAMS, abi.UTEE_PARAMS.pack(types, *vals, *(0,) * (8 - len(vals))))
    result = ta.call(abi.TEE_SCN_INVOKE_TA_COMMAND, 1, 0xFFFFFFFF, cmd, PARAMS, ORIGIN)
    return result, abi.UTEE_PARAMS.unpack(ta.read(PARAMS, abi.UTEE_PARAMS.size))[1:]


def map_zi(
    ta: TestedTa, size: int, flags: int = 0, address: int = 0, before: int = 0, after: int = 0
) -> tuple[int, int]:
    """The result, and the address."""
    high, low = address >> 32, address & 0xFFFFFFFF
    result, vals = invoke(
        ta, pta.PTA_SYSTEM_MAP_ZI, MAP_ZI_TYPES, size, flags, high, low, before, after
    )
    assert ta.u32(ORIGIN) == TEE_ORIGIN_TRUSTED_APP
    return result, vals[2] << 32 | vals[3]


def unmap(ta: TestedTa, address: int, size: int, flags: int = 0) -> int:
    high, low = address >> 32, address & 0xFFFFFFFF
    result = invoke(ta, pta.PTA_SYSTEM_UNMAP, UNMAP_TYPES, size, flags, high, low)[0]
    assert ta.u32(ORIGIN) == TEE_ORIGIN_TRUSTED_APP
    return result


def test_map_and_unmap(opened: TestedTa) -> None:
    used = opened.space.used
    for flags in (0, SHAREABLE):
        result, address = map_zi(opened, PAGE + 1, flags)
        assert result == TEE_SUCCESS
        assert opened.read(address, 2 * PAGE) == bytes(2 * PAGE)
        opened.write(address, b"\xff" * 2 * PAGE)
        region = opened.space.find(address)
        assert region is not None
        assert (region.size, region.name) == (2 * PAGE, MAP_ZI)
        assert (region.owner == SHARED) == (flags == SHAREABLE)
        assert opened.space.used == used + 2 * PAGE
        assert unmap(opened, address, PAGE + 1) == TEE_SUCCESS
        assert opened.space.find(address) is None
        assert opened.space.used == used
        assert unmap(opened, address, PAGE) == TEE_ERROR_BAD_PARAMETERS


def test_pads(opened: TestedTa) -> None:
    _, address = map_zi(opened, PAGE, 0, 0, 2 * PAGE, 3 * PAGE)
    assert map_zi(opened, PAGE, 0, address - 2 * PAGE)[0] == TEE_SUCCESS  # they are not kept free
    assert map_zi(opened, PAGE, 0, 0, 1, 0)[0] == TEE_ERROR_ACCESS_CONFLICT
    assert map_zi(opened, PAGE, 0, 0, 0, 0xFFFFF000)[0] == TEE_ERROR_ACCESS_CONFLICT


def test_at_an_address(opened: TestedTa) -> None:
    assert map_zi(opened, 2 * PAGE, 0, FIXED) == (TEE_SUCCESS, FIXED)
    for address in (FIXED, FIXED + PAGE, FIXED - PAGE):
        assert map_zi(opened, 2 * PAGE, 0, address)[0] == TEE_ERROR_ACCESS_CONFLICT
    # Neighbours, but for the page between what can be shared and what cannot.
    assert map_zi(opened, PAGE, SHAREABLE, FIXED + 2 * PAGE)[0] == TEE_ERROR_ACCESS_CONFLICT
    assert map_zi(opened, PAGE, SHAREABLE, FIXED - PAGE)[0] == TEE_ERROR_ACCESS_CONFLICT
    assert map_zi(opened, PAGE, SHAREABLE, FIXED + 3 * PAGE)[0] == TEE_SUCCESS
    assert map_zi(opened, PAGE, 0, FIXED - PAGE)[0] == TEE_SUCCESS
    # A pad that somebody is in.
    assert map_zi(opened, PAGE, 0, FIXED - 3 * PAGE, 0, 2 * PAGE)[0] == TEE_ERROR_ACCESS_CONFLICT
    assert map_zi(opened, PAGE, 0, FIXED - 3 * PAGE, 0, PAGE)[0] == TEE_SUCCESS


@pytest.mark.parametrize(
    "address", [FIXED + 1, LOW - PAGE, HIGH - PAGE, HIGH, 1 << 32, 0xFFFFFFFFFFFFF000, STACK, LENT]
)
def test_no_such_address(opened: TestedTa, address: int) -> None:
    used = opened.space.used
    assert map_zi(opened, 2 * PAGE, 0, address)[0] == TEE_ERROR_ACCESS_CONFLICT
    assert opened.space.used == used


def test_too_much(opened: TestedTa) -> None:
    assert map_zi(opened, 0xFFFFFFFF)[0] == TEE_ERROR_OUT_OF_MEMORY
    left = opened.space.limit - opened.space.used
    assert map_zi(opened, left + 1)[0] == TEE_ERROR_OUT_OF_MEMORY
    result, address = map_zi(opened, left)
    assert result == TEE_SUCCESS
    assert map_zi(opened, 1)[0] == TEE_ERROR_OUT_OF_MEMORY
    assert unmap(opened, address, left) == TEE_SUCCESS
    assert map_zi(opened, 1)[0] == TEE_SUCCESS


def test_wrong_arguments(opened: TestedTa) -> None:
    bad = TEE_ERROR_BAD_PARAMETERS
    assert map_zi(opened, 0)[0] == bad
    assert map_zi(opened, PAGE, 2)[0] == bad
    assert invoke(opened, pta.PTA_SYSTEM_MAP_ZI, UNMAP_TYPES, PAGE)[0] == bad
    assert invoke(opened, pta.PTA_SYSTEM_UNMAP, MAP_ZI_TYPES, PAGE)[0] == bad
    assert invoke(opened, pta.PTA_SYSTEM_DLOPEN, UNMAP_TYPES, PAGE)[0] == bad
    assert invoke(opened, pta.PTA_SYSTEM_DLSYM, UNMAP_TYPES, PAGE)[0] == bad
    _, address = map_zi(opened, 2 * PAGE)
    assert unmap(opened, address, 2 * PAGE, flags=1) == bad
    assert unmap(opened, address, 0) == bad
    assert unmap(opened, address + 1, PAGE) == bad
    assert unmap(opened, address, 3 * PAGE) == bad
    assert unmap(opened, 0xFFFFFFFFFFFFF000, 2 * PAGE) == bad
    assert unmap(opened, address, 2 * PAGE) == TEE_SUCCESS


def test_unmap_a_part(opened: TestedTa) -> None:
    ta = opened
    assert map_zi(ta, 5 * PAGE, 0, FIXED)[0] == TEE_SUCCESS
    ta.write(FIXED, b"".join(bytes([n]) * PAGE for n in range(5)))
    used = ta.space.used
    assert unmap(ta, FIXED + PAGE, PAGE) == TEE_SUCCESS
    assert unmap(ta, FIXED + 4 * PAGE, PAGE) == TEE_SUCCESS
    assert ta.space.used == used - 2 * PAGE
    for number in (1, 4):
        assert ta.space.find(FIXED + number * PAGE) is None
    assert ta.read(FIXED, PAGE) == bytes(PAGE)
    assert ta.read(FIXED + 2 * PAGE, 2 * PAGE) == b"\2" * PAGE + b"\3" * PAGE
    assert unmap(ta, FIXED, 2 * PAGE) == TEE_ERROR_BAD_PARAMETERS  # with a hole
    assert map_zi(ta, PAGE, 0, FIXED + PAGE)[0] == TEE_SUCCESS
    # Neighbours at once, which are three regions now.
    assert unmap(ta, FIXED + 0, 3 * PAGE) == TEE_SUCCESS
    assert unmap(ta, FIXED + 3 * PAGE, PAGE) == TEE_SUCCESS
    assert ta.space.used == used - 5 * PAGE


def test_no_room_for_one_region_more(opened: TestedTa, monkeypatch: pytest.MonkeyPatch) -> None:
    ta = opened
    assert map_zi(ta, 3 * PAGE, 0, FIXED)[0] == TEE_SUCCESS
    ta.write(FIXED, b"\xff" * 3 * PAGE)
    used, map_ = ta.space.used, ta.space.map

    def refuse(address: int, *args: Any) -> Region:
        if address == FIXED + 2 * PAGE:
            raise OutOfMemory("no more regions")
        return map_(address, *args)

    monkeypatch.setattr(ta.space, "map", refuse)
    assert unmap(ta, FIXED + PAGE, PAGE) == TEE_ERROR_OUT_OF_MEMORY
    assert ta.read(FIXED, 3 * PAGE) == b"\xff" * 3 * PAGE
    assert ta.space.used == used
    assert unmap(ta, FIXED, 3 * PAGE) == TEE_SUCCESS


@pytest.mark.parametrize(("address", "size"), [(DATA, PAGE), (STACK, 2 * PAGE), (LENT, PAGE)])
def test_not_its_own(opened: TestedTa, address: int, size: int) -> None:
    assert unmap(opened, address, size) == TEE_ERROR_ACCESS_DENIED
    assert opened.space.find(address) is not None


class FakeLoader:
    def __init__(self, error: Exception | None = None) -> None:
        self.seen: list[tuple[bytes, object]] = []
        self.error = error

    def dlopen(self, uuid: bytes, flags: int) -> None:
        self.seen.append((uuid, flags))
        if self.error is not None:
            raise self.error

    def dlsym(self, uuid: bytes, name: bytes) -> int:
        self.seen.append((uuid, name))
        if self.error is not None:
            raise self.error
        return 0x80001234


def test_dlopen(opened: TestedTa) -> None:
    opened.loader = loader = FakeLoader()  # type: ignore[assignment]
    opened.write(LENT, NATIVE_UUID)
    types = TEE_PARAM_TYPES(MEMREF_IN, VALUE_IN, 0, 0)

    def dlopen(address: int = LENT, size: int = 16) -> int:
        return invoke(opened, pta.PTA_SYSTEM_DLOPEN, types, address, size, 0x1102)[0]

    assert dlopen() == TEE_SUCCESS
    assert loader.seen == [(UUID, 0x1102)]
    assert dlopen(0, 0) == dlopen(LENT, 15) == dlopen(LENT, 17) == TEE_ERROR_BAD_PARAMETERS
    loader.error = ItemNotFound("no such library")
    assert dlopen() == TEE_ERROR_ITEM_NOT_FOUND
    loader.error = TaImageError("it is for the other architecture", TEE_ERROR_SECURITY)
    assert dlopen() == TEE_ERROR_SECURITY
    assert opened.lines == [(1, "dlopen: it is for the other architecture")]
    assert opened.u32(ORIGIN) == TEE_ORIGIN_TRUSTED_APP


def test_dlsym(opened: TestedTa) -> None:
    opened.loader = loader = FakeLoader()  # type: ignore[assignment]
    opened.write(LENT, NATIVE_UUID + b"symbol\0more")
    types = TEE_PARAM_TYPES(MEMREF_IN, MEMREF_IN, VALUE_OUT, 0)

    def dlsym(name: int = LENT + 16, size: int = 11) -> tuple[int, tuple[int, ...]]:
        return invoke(opened, pta.PTA_SYSTEM_DLSYM, types, LENT, 16, name, size, 5, 5)

    result, vals = dlsym()
    assert (result, vals[4:6]) == (TEE_SUCCESS, (0, 0x80001234))
    assert dlsym(LENT + 16, 3)[0] == TEE_SUCCESS
    assert loader.seen == [(UUID, b"symbol"), (UUID, b"sym")]
    assert dlsym(0, 0)[0] == dlsym(LENT, 0)[0] == TEE_ERROR_BAD_PARAMETERS
    loader.error = ItemNotFound("dlsym")
    result, vals = dlsym()
    assert (result, vals[4:6]) == (TEE_ERROR_ITEM_NOT_FOUND, (0, 0))


def serve(ta: TestedTa, result: int, origin: int) -> list[tuple[int, int]]:
    """Play the TEE that has the other commands."""
    seen: list[tuple[int, int]] = []

    def open_(tee: FakeTee) -> int:
        assert tee[ch.Q_UUID].to_bytes(8, "little") == system_pta.UUID[:8]
        assert tee[ch.Q_PARAM_TYPES] == 0
        tee[ch.Q_SESSION] = 9
        return TEE_SUCCESS

    def command(tee: FakeTee) -> int:
        seen.append((tee[ch.Q_SESSION], tee[ch.Q_FUNC]))
        tee[ch.Q_ORIGIN] = origin
        return result

    ta.tee.answers.update({ch.RQ_OPEN_TA_SESSION: open_, ch.RQ_INVOKE_TA_COMMAND: command})
    return seen


def test_other_commands_are_the_tees(opened: TestedTa) -> None:
    seen = serve(opened, TEE_ERROR_NOT_IMPLEMENTED, TEE_ORIGIN_TRUSTED_APP)
    for cmd in (0, 4, 99):
        assert invoke(opened, cmd, MEMREF_IN, STACK, 3)[0] == TEE_ERROR_NOT_IMPLEMENTED
        assert opened.u32(ORIGIN) == TEE_ORIGIN_TRUSTED_APP
    assert seen == [(9, 0), (9, 4), (9, 99)]
    assert opened.tee.asked.count(ch.RQ_OPEN_TA_SESSION) == 1
    opened.tee.answers[ch.RQ_CLOSE_TA_SESSION] = lambda tee: TEE_SUCCESS
    assert opened.call(abi.TEE_SCN_CLOSE_TA_SESSION, 1) == TEE_SUCCESS
    assert opened.tee.asked[-1] == ch.RQ_CLOSE_TA_SESSION


def test_there_is_no_system_pta(opened: TestedTa) -> None:
    def refuse(tee: FakeTee) -> int:
        tee[ch.Q_ORIGIN] = TEE_ORIGIN_TEE
        return TEE_ERROR_ITEM_NOT_FOUND

    opened.tee.answers[ch.RQ_OPEN_TA_SESSION] = refuse
    assert invoke(opened, 0, MEMREF_IN, STACK, 3)[0] == TEE_ERROR_ITEM_NOT_FOUND
    assert opened.u32(ORIGIN) == TEE_ORIGIN_TEE
    assert opened.call(abi.TEE_SCN_CLOSE_TA_SESSION, 1) == TEE_SUCCESS  # which nobody hears of


def test_a_key_does_not_go_where_clients_see_it(opened: TestedTa) -> None:
    seen = serve(opened, TEE_SUCCESS, TEE_ORIGIN_TRUSTED_APP)
    types = TEE_PARAM_TYPES(MEMREF_IN, MEMREF_OUT, 0, 0)
    cmd = pta.PTA_SYSTEM_DERIVE_TA_UNIQUE_KEY
    shareable = map_zi(opened, PAGE, SHAREABLE)[1]
    assert invoke(opened, cmd, types, DATA, 4, LENT, 16)[0] == TEE_ERROR_SECURITY
    assert seen == []
    for place in (STACK, shareable):
        assert invoke(opened, cmd, types, DATA, 4, place, 32)[0] == TEE_SUCCESS
    # Sizes are what the TEE looks at first.
    assert invoke(opened, cmd, types, DATA, 4, LENT, 15)[0] == TEE_SUCCESS
    assert invoke(opened, cmd, types, DATA, 1025, LENT, 16)[0] == TEE_SUCCESS
    assert len(seen) == 4


def test_sessions_end_somewhere(ta: TestedTa) -> None:
    for _ in range(MAX_SESSIONS):
        assert open_system(ta) == TEE_SUCCESS
    assert open_system(ta) == TEE_ERROR_OUT_OF_MEMORY
    assert ta.u32(ORIGIN) == TEE_ORIGIN_TEE


def test_regions_stay_whole(opened: TestedTa, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that has no room leaves no memory counted."""
    used = opened.space.used

    def refuse(*args: object) -> Callable[[], None]:
        raise MemoryError

    monkeypatch.setattr(opened.space, "map", refuse)
    with pytest.raises(MemoryError):
        map_zi(opened, PAGE)
    assert opened.space.used == used
