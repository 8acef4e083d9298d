# SPDX-License-Identifier: BSD-2-Clause
"""Time: ``core/tee/tee_svc.c``, ``core/tee/tee_time_generic.c``."""

from collections.abc import Sequence
from time import monotonic_ns, time_ns

from gentee.abi import optee_ta as abi
from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_ERROR_OVERFLOW, TEE_SUCCESS
from gentee.errors import BadParameters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.user_ta import UserTa

SYSTEM, TA_PERSISTENT, REE = range(3)  # enum utee_time_category

_MILLIS = 1000
_SECONDS = 0xFFFFFFFF
_NANOSECONDS = 1_000_000_000


def syscall_get_time(ta: "UserTa", args: Sequence[int]) -> int:
    """A time of category ``args[0]`` to the TEE_Time at ``args[1]``, in private memory."""
    category = args[0]
    result = TEE_SUCCESS
    if category in (SYSTEM, REE):
        now = monotonic_ns() if category == SYSTEM else time_ns()
        seconds, rest = divmod(now, _NANOSECONDS)
        millis = rest // 1_000_000
    elif category == TA_PERSISTENT:
        result = ta.channel.ask(ch.RQ_GET_PERSISTENT_TIME)
        if result != TEE_SUCCESS:
            return result
        seconds, millis = ta.channel[ch.Q_SECONDS], ta.channel[ch.Q_MILLIS]
        if seconds > _SECONDS:
            result = TEE_ERROR_OVERFLOW
    else:
        raise BadParameters(f"time of category {category}")
    ta.write_private(args[1], abi.TEE_TIME.pack(seconds & _SECONDS, millis))
    return result


def syscall_set_ta_time(ta: "UserTa", args: Sequence[int]) -> int:
    """Set the TA's persistent time to the TEE_Time at ``args[0]``, in private memory."""
    seconds, millis = abi.TEE_TIME.unpack(ta.read_private(args[0], abi.TEE_TIME.size))
    if millis >= _MILLIS:
        raise BadParameters(f"{millis} milliseconds in a TEE_Time")
    ta.channel[ch.Q_SECONDS], ta.channel[ch.Q_MILLIS] = seconds, millis
    return ta.channel.ask(ch.RQ_SET_PERSISTENT_TIME)


ROWS = {
    abi.TEE_SCN_GET_TIME: syscall_get_time,
    abi.TEE_SCN_SET_TA_TIME: syscall_set_ta_time,
}
