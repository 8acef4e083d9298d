# SPDX-License-Identifier: BSD-2-Clause
"""Persistent time of services: GP TEE Internal Core API 1.3.1 sections 7.2.3 and 7.2.4.

It goes on while the TEE is off, so it is kept as an offset to the time of the normal world, which
whoever sets the machine's clock can move: protection level 100, as OP-TEE's. A time that so came
before zero, or whose record is damaged, is TEE_ERROR_TIME_NEEDS_RESET.

System time and the normal world's time a service knows by itself.
"""

import time

from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_ERROR_TIME_NEEDS_RESET, TEE_ERROR_TIME_NOT_SET, TEE_SUCCESS
from gentee.core.workers import WORKERS
from gentee.errors import BadParameters, CorruptObject, TeeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from gentee.secure.requests import Request

    class TimeRecords(Protocol):
        """Where offsets are kept, in milliseconds to Unix time, by UUID."""

        def ta_time(self, uuid: bytes) -> int | None: ...

        def set_ta_time(self, uuid: bytes, offset: int) -> None: ...


_MILLIS = 1000


def _now() -> int:
    return time.time_ns() // 1_000_000


class Clock:
    """Answers requests for persistent time. The record may be on a disk: a worker reads it.

    :param records: called by a worker; gives where offsets are kept.
    :param now: milliseconds, Unix time.
    """

    def __init__(
        self, records: "Callable[[], TimeRecords]", now: "Callable[[], int]" = _now
    ) -> None:
        self._records = records
        self._now = now

    def get_persistent_time(self, request: "Request") -> None:
        """TEE_GetTAPersistentTime: seconds in 64 bits, so that the service sees an overflow."""
        WORKERS.submit(lambda: request.run(self._get))

    def set_persistent_time(self, request: "Request") -> None:
        """TEE_SetTAPersistentTime.

        :raises BadParameters: more than 32 bits of seconds, or more milliseconds than a second has.
        """
        if request.word(ch.Q_SECONDS) >= 1 << 32 or request.word(ch.Q_MILLIS) >= _MILLIS:
            raise BadParameters("no TEE_Time")
        WORKERS.submit(lambda: request.run(self._set))

    def _get(self, request: "Request") -> None:
        try:
            offset = self._records().ta_time(request.instance.service.uuid)
        except CorruptObject as error:
            raise TeeError(TEE_ERROR_TIME_NEEDS_RESET, detail=error.detail) from error
        if offset is None:
            raise TeeError(TEE_ERROR_TIME_NOT_SET)
        millis = self._now() + offset
        if millis < 0:
            raise TeeError(TEE_ERROR_TIME_NEEDS_RESET, detail="the machine's clock was set back")
        seconds, millis = divmod(millis, _MILLIS)
        request.reply(TEE_SUCCESS, (ch.Q_SECONDS, seconds), (ch.Q_MILLIS, millis))

    def _set(self, request: "Request") -> None:
        millis = request.word(ch.Q_SECONDS) * _MILLIS + request.word(ch.Q_MILLIS)
        self._records().set_ta_time(request.instance.service.uuid, millis - self._now())
        request.reply(TEE_SUCCESS)
