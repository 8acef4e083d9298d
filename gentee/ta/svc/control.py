# SPDX-License-Identifier: BSD-2-Clause
"""Return, log and panic: ``core/kernel/scall.c``, ``core/tee/tee_svc.c``."""

from collections.abc import Sequence

from gentee.abi import optee_ta as abi
from gentee.errors import TaPanic, TeeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.user_ta import UserTa

MAX_LOG = 16 << 10  # bytes that are taken of one call, and of one line

ERROR, INFO, DEBUG, FLOW = 1, 2, 3, 4

# What a line of libutils' trace_printf() starts with: its level, "/", the TA's prefix, ":".
_LEVELS = {ord("E"): ERROR, ord("I"): INFO, ord("D"): DEBUG, ord("F"): FLOW, ord("M"): INFO}
_MAX_PREFIX = 32


def syscall_sys_return(ta: "UserTa", args: Sequence[int]) -> None:
    """Leave the TA. It ends the entry, so whoever runs the TA looks for it before the table."""
    raise RuntimeError("a return is no call")


def syscall_log(ta: "UserTa", args: Sequence[int]) -> None:
    """Write to the log what ``args[1]`` bytes at ``args[0]`` say, to the first NUL.

    A line begun by one call may be ended by another one: printf() and puts() do so.
    """
    size = args[1]
    if not size:
        return
    try:
        data = ta.read(args[0], size if size < MAX_LOG else MAX_LOG)
    except TeeError:
        return
    end = data.find(b"\0")
    if end >= 0:
        data = data[:end]
    if ta.log_rest:
        data = ta.log_rest + data
    *lines, rest = data.split(b"\n")
    ta.log_rest = rest
    for line in lines:
        _log_line(ta, line)
    if len(rest) > MAX_LOG:
        flush_log(ta)


def flush_log(ta: "UserTa") -> None:
    """Log a line that has no end: the TA returns, or is dead."""
    rest, ta.log_rest = ta.log_rest, b""
    if rest:
        _log_line(ta, rest)


def _log_line(ta: "UserTa", line: bytes) -> None:
    """Log one line, with the level that it says; the function and line number in it stay."""
    level = INFO
    if line[1:2] == b"/":
        colon = line.find(b":", 2, _MAX_PREFIX)
        if colon >= 0 and line[0] in _LEVELS:
            level = _LEVELS[line[0]]
            line = line[colon + 1 :].lstrip(b" ")
    ta.log(level, line.rstrip(b"\r").decode("utf-8", "backslashreplace"))


def syscall_panic(ta: "UserTa", args: Sequence[int]) -> None:
    """End the instance with the panic code ``args[0]``. Registers are saved at ``args[1]``."""
    ta.panic_registers = args[1]
    raise TaPanic(args[0] & 0xFFFFFFFF)


ROWS = {
    abi.TEE_SCN_RETURN: syscall_sys_return,
    abi.TEE_SCN_LOG: syscall_log,
    abi.TEE_SCN_PANIC: syscall_panic,
}
