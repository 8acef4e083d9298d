# SPDX-License-Identifier: BSD-2-Clause
"""Time: GP TEE Internal Core API 1.3.1 chapter 7. TEE_Wait is with cancellation in api."""

import time

from gentee.abi import ta_channel as ch
from gentee.abi.gp import (
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_OVERFLOW,
    TEE_ERROR_STORAGE_NO_SPACE,
    TEE_ERROR_TIME_NEEDS_RESET,
    TEE_ERROR_TIME_NOT_SET,
    TEE_ORIGIN_TEE,
    TEE_SUCCESS,
)
from gentee.errors import TaPanic, TeeError
from gentee.ta.requests import CHANNEL
from gentee.ta.types import TEE_Time

_MILLIS = 1000
_SECONDS = 1 << 32

_GET = (TEE_ERROR_TIME_NOT_SET, TEE_ERROR_TIME_NEEDS_RESET, TEE_ERROR_OUT_OF_MEMORY)
_SET = (TEE_ERROR_OUT_OF_MEMORY, TEE_ERROR_STORAGE_NO_SPACE)


class TimeOverflow(TeeError):
    """TEE_ERROR_OVERFLOW: persistent time has more than 32 bits of seconds; ``time`` has 32."""

    def __init__(self, time_: TEE_Time) -> None:
        super().__init__(TEE_ERROR_OVERFLOW, TEE_ORIGIN_TEE, "persistent time")
        self.time = time_


def _of(nanoseconds: int) -> TEE_Time:
    seconds, rest = divmod(nanoseconds // 1_000_000, _MILLIS)
    return TEE_Time(seconds % _SECONDS, rest)


def TEE_GetSystemTime() -> TEE_Time:
    """Time since an arbitrary moment, that never goes back while the machine is up (7.2.1)."""
    return _of(time.monotonic_ns())


def TEE_GetREETime() -> TEE_Time:
    """The time of the normal world, as trustworthy as that: Unix time (section 7.2.5)."""
    return _of(time.time_ns())


def TEE_GetTAPersistentTime() -> TEE_Time:
    """This service's own time, which goes on while the TEE is off (section 7.2.3).

    :raises TeeError: TIME_NOT_SET before the first TEE_SetTAPersistentTime, TIME_NEEDS_RESET when
        it cannot be trusted any more.
    :raises TimeOverflow: it has more than 32 bits of seconds.
    """
    result = CHANNEL.ask(ch.RQ_GET_PERSISTENT_TIME)
    if result in _GET:
        raise TeeError.from_code(result, TEE_ORIGIN_TEE)
    if result != TEE_SUCCESS:
        raise TaPanic(result, "TEE_GetTAPersistentTime")
    seconds, millis = CHANNEL[ch.Q_SECONDS], CHANNEL[ch.Q_MILLIS]
    if seconds >= _SECONDS:
        raise TimeOverflow(TEE_Time(seconds % _SECONDS, millis))
    return TEE_Time(seconds, millis)


def TEE_SetTAPersistentTime(time_: TEE_Time) -> None:
    """Set this service's own time, for all its instances (section 7.2.4).

    :raises TeeError: OUT_OF_MEMORY or STORAGE_NO_SPACE: it stays as it was.
    """
    if not (0 <= time_.seconds < _SECONDS and 0 <= time_.millis < _MILLIS):
        raise TaPanic(TEE_ERROR_BAD_PARAMETERS, f"no TEE_Time: {time_}")
    CHANNEL[ch.Q_SECONDS], CHANNEL[ch.Q_MILLIS] = time_.seconds, time_.millis
    result = CHANNEL.ask(ch.RQ_SET_PERSISTENT_TIME)
    if result in _SET:
        raise TeeError.from_code(result, TEE_ORIGIN_TEE)
    if result != TEE_SUCCESS:
        raise TaPanic(result, "TEE_SetTAPersistentTime")
