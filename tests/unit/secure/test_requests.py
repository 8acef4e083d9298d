# SPDX-License-Identifier: BSD-2-Clause
"""Requests of services: any block of words is decoded or refused, and answered once."""

from collections.abc import Iterable
from struct import Struct
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import ta_channel as ch
from gentee.abi.gp import (
    TEE_ERROR_BUSY,
    TEE_ERROR_GENERIC,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_ERROR_TIME_NEEDS_RESET,
    TEE_ERROR_TIME_NOT_SET,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_SUCCESS,
)
from gentee.core.host import Host
from gentee.errors import BadParameters, Busy, CorruptObject, TeeError
from gentee.secure.clock import Clock
from gentee.secure.instance import Instance
from gentee.secure.nested import CallWindow, _params
from gentee.secure.requests import Request, Requests
from tests.helpers import LocalHost, wait_until

UUID = bytes(range(16))


class Service:
    uuid = UUID


class Caller:
    """What a request uses of an instance."""

    def __init__(self, words: dict[int, int] | None = None, window: CallWindow | None = None):
        self.mailbox = bytearray(ch.MAILBOX_SIZE)
        self.call_window = window
        self.service = Service
        self.replies: list[tuple[int, int, dict[int, int]]] = []
        for index, value in (words or {}).items():
            Struct("<Q").pack_into(self.mailbox, 8 * index, value)

    def reply(self, notify_id: int, result: int, words: Iterable[tuple[int, int]]) -> None:
        self.replies.append((notify_id, result, dict(words)))

    def request(self) -> Request:
        return Request(cast(Instance, self), 7)


@pytest.fixture
def host() -> Iterable[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


def handle(host: Host, caller: Caller, handlers: dict[int, Any], code: int) -> tuple[int, int]:
    """Result and origin of the one reply."""
    Requests(host, handlers).handle(cast(Instance, caller), 7, code)
    ((notify_id, result, words),) = caller.replies
    assert notify_id == 7
    return result, words.get(ch.Q_ORIGIN, 0)


def test_fields() -> None:
    low, high = Struct("<QQ").unpack(UUID)
    words = {
        ch.Q_SESSION: 1 << 40, ch.Q_FUNC: 2, ch.Q_TIMEOUT: (1 << 32) + 3, ch.Q_UNMASKED: 1,
        ch.Q_UUID: low, ch.Q_UUID + 1: high, ch.Q_PARAM_TYPES: 5, ch.Q_PARAMS + 11: 6,
        ch.Q_SIZE: 9,
    }  # fmt: skip
    request = Caller(words).request()
    assert (request.session, request.func, request.timeout) == (1 << 40, 2, 3)
    assert (request.unmasked, request.uuid, request.param_types) == (True, UUID, 5)
    assert request.params == (0,) * 11 + (6,)
    assert request.word(ch.Q_SIZE) == 9


def test_the_block_is_read_once() -> None:
    caller = Caller({ch.Q_FUNC: 1})
    request = caller.request()
    Struct("<Q").pack_into(caller.mailbox, 8 * ch.Q_FUNC, 2)
    assert request.func == 1


def test_the_block_is_apart_from_the_command() -> None:
    assert max(ch.M_UUID + 1, ch.M_MEMORY_LIMIT) < ch.Q_BLOCK
    assert ch.Q_BLOCK + ch.Q_WORDS <= ch.MAILBOX_SIZE // 8


def test_results_and_origins(host: LocalHost) -> None:
    def busy(_request: Request) -> None:
        raise Busy()

    def other(_request: Request) -> None:
        raise TeeError(0xDEAD, TEE_ORIGIN_TRUSTED_APP)

    def done(request: Request) -> None:
        request.reply(TEE_SUCCESS)

    handlers = {1: busy, 2: other, 3: done}
    assert handle(host, Caller(), handlers, 1) == (TEE_ERROR_BUSY, TEE_ORIGIN_TEE)
    assert handle(host, Caller(), handlers, 2) == (0xDEAD, TEE_ORIGIN_TRUSTED_APP)
    assert handle(host, Caller(), handlers, 3) == (TEE_SUCCESS, 0)


@pytest.mark.parametrize("code", [0, 4, 1 << 31, -1])
def test_unknown_requests(host: LocalHost, code: int) -> None:
    assert handle(host, Caller(), {1: print}, code) == (TEE_ERROR_NOT_SUPPORTED, TEE_ORIGIN_TEE)


def test_a_bug_costs_one_request(host: LocalHost) -> None:
    assert handle(host, Caller(), {1: lambda _: 1 / 0}, 1) == (TEE_ERROR_GENERIC, TEE_ORIGIN_TEE)
    assert [type(bug) for bug in host.bugs] == [ZeroDivisionError]
    host.bugs.clear()


# Parameters

WORDS = st.one_of(
    st.integers(0, (1 << 64) - 1), st.sampled_from([0, 1, 0xFFFF, 0x10000, 0x10001, (1 << 64) - 1])
)
TYPES = st.one_of(
    st.integers(0, 0xFFFF),
    st.lists(st.sampled_from([0, 1, 2, 3, 5, 6, 7]), min_size=4, max_size=4).map(
        lambda kinds: sum(kind << 4 * index for index, kind in enumerate(kinds))
    ),
    WORDS,
)


@given(types=TYPES, words=st.lists(WORDS, min_size=12, max_size=12), mapped=st.booleans())
def test_any_parameters(types: int, words: list[int], mapped: bool) -> None:
    """What is decoded is inside the window; everything else is BAD_PARAMETERS."""
    window = CallWindow(1 << 16) if mapped else None
    block = {ch.Q_PARAM_TYPES: types}
    block.update({ch.Q_PARAMS + index: word for index, word in enumerate(words)})
    try:
        params = _params(Caller(block, window).request())
    except BadParameters:
        pass
    else:
        assert len(params) == (4 if types else 0)
        for index, param in enumerate(params):
            assert param.attr == types >> 4 * index & 0xF
            if param.attr >= 5:
                assert param.shm is not None or param.b == 0
                assert param.a + param.b <= 1 << 16
            else:
                assert max(param.a, param.b) < 1 << 32
    finally:
        if window is not None:
            window.close()


@pytest.mark.parametrize(
    ("types", "words"),
    [
        (4, (0, 0, 0)),
        (8, (0, 0, 0)),
        (0xF, (0, 0, 0)),
        (1 << 16, (0, 0, 0)),
        (5, (0, 1, 0)),  # NULL with bytes
        (5, (0, (1 << 16) + 1, 1)),
        (5, (1 << 16, 1, 1)),
        (6, ((1 << 64) - 1, 2, 1)),
        (7, (1, (1 << 64) - 1, 1)),
    ],
)
def test_wrong_parameters(types: int, words: tuple[int, int, int]) -> None:
    window = CallWindow(1 << 16)
    window.close()
    block = {ch.Q_PARAM_TYPES: types}
    block.update({ch.Q_PARAMS + index: word for index, word in enumerate(words)})
    with pytest.raises(BadParameters):
        _params(Caller(block, window).request())


def test_memory_without_a_window() -> None:
    with pytest.raises(BadParameters):
        _params(Caller({ch.Q_PARAM_TYPES: 5, ch.Q_PARAMS + 2: 1}).request())


# Persistent time


class Records:
    def __init__(self, offset: int | None = None, damaged: bool = False) -> None:
        self.offset = offset
        self.damaged = damaged

    def ta_time(self, uuid: bytes) -> int | None:
        assert uuid == UUID
        if self.damaged:
            raise CorruptObject("tee.db")
        return self.offset

    def set_ta_time(self, uuid: bytes, offset: int) -> None:
        assert uuid == UUID
        self.offset = offset


def answered(caller: Caller) -> tuple[int, dict[int, int]]:
    wait_until(lambda: caller.replies)
    ((_, result, words),) = caller.replies
    return result, words


@pytest.mark.parametrize(
    ("offset", "result", "seconds", "millis"),
    [
        (None, TEE_ERROR_TIME_NOT_SET, None, None),
        (0, TEE_SUCCESS, 1000, 500),
        (-1_000_500, TEE_SUCCESS, 0, 0),
        (-1_000_501, TEE_ERROR_TIME_NEEDS_RESET, None, None),
        (((1 << 32) - 1000) * 1000, TEE_SUCCESS, 1 << 32, 500),  # the service makes it OVERFLOW
    ],
)
def test_persistent_time(
    offset: int | None, result: int, seconds: int | None, millis: int | None
) -> None:
    caller, records = Caller(), Records(offset)
    Clock(lambda: records, lambda: 1_000_500).get_persistent_time(caller.request())
    got, words = answered(caller)
    assert got == result
    assert (words.get(ch.Q_SECONDS), words.get(ch.Q_MILLIS)) == (seconds, millis)


def test_damaged_time() -> None:
    caller, records = Caller(), Records(damaged=True)
    Clock(lambda: records).get_persistent_time(caller.request())
    assert answered(caller)[0] == TEE_ERROR_TIME_NEEDS_RESET


def test_set_time() -> None:
    caller, records = Caller({ch.Q_SECONDS: 5, ch.Q_MILLIS: 999}), Records()
    Clock(lambda: records, lambda: 1_000_500).set_persistent_time(caller.request())
    assert answered(caller)[0] == TEE_SUCCESS
    assert records.offset == 5_999 - 1_000_500


@pytest.mark.parametrize(("seconds", "millis"), [(1 << 32, 0), (0, 1000), ((1 << 64) - 1, 5)])
def test_no_time(seconds: int, millis: int) -> None:
    caller, records = Caller({ch.Q_SECONDS: seconds, ch.Q_MILLIS: millis}), Records()
    with pytest.raises(BadParameters):
        Clock(lambda: records).set_persistent_time(caller.request())
