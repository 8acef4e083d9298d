# SPDX-License-Identifier: BSD-2-Clause
"""Cancellation and waiting: Internal Core API 1.3.1 sections 4.10 and 7.2.2."""

from collections.abc import Sequence

from gentee.abi import optee_ta as abi
from gentee.errors import Cancel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.user_ta import UserTa

_NO, _YES = bytes(4), b"\1\0\0\0"  # u32
_FOR_EVER = 0xFFFFFFFF


def syscall_get_cancellation_flag(ta: "UserTa", args: Sequence[int]) -> None:
    ta.write(args[0], _YES if not ta.masked and ta.cancelled() else _NO)


def syscall_unmask_cancellation(ta: "UserTa", args: Sequence[int]) -> None:
    before, ta.masked = ta.masked, False
    ta.write(args[0], _YES if before else _NO)


def syscall_mask_cancellation(ta: "UserTa", args: Sequence[int]) -> None:
    before, ta.masked = ta.masked, True
    ta.write(args[0], _YES if before else _NO)


def syscall_wait(ta: "UserTa", args: Sequence[int]) -> None:
    """Wait for ``args[0]`` milliseconds, more than 32 bits of them for ever; raises Cancel."""
    if not ta.masked and ta.cancelled():
        raise Cancel("cancelled by the client")
    milliseconds = args[0]
    if milliseconds:
        ta.wait(milliseconds if milliseconds < _FOR_EVER else _FOR_EVER, ta.masked)


ROWS = {
    abi.TEE_SCN_GET_CANCELLATION_FLAG: syscall_get_cancellation_flag,
    abi.TEE_SCN_UNMASK_CANCELLATION: syscall_unmask_cancellation,
    abi.TEE_SCN_MASK_CANCELLATION: syscall_mask_cancellation,
    abi.TEE_SCN_WAIT: syscall_wait,
}
