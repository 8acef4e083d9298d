# SPDX-License-Identifier: BSD-2-Clause
"""futex(2): waiting for a word of memory that two processes share."""

from gentee.linux import arch
from gentee.linux.libc import syscall

_FUTEX_WAIT = 0
_FUTEX_WAKE = 1


def futex_wait(address: int, value: int) -> None:
    """Wait while the 32-bit word at ``address`` is ``value``; may return before. Look again."""
    try:
        syscall("futex", arch.NATIVE["futex"], address, _FUTEX_WAIT, value, 0)
    except (BlockingIOError, InterruptedError):  # it is another value already; a signal
        pass


def futex_wake(address: int, count: int = 1) -> None:
    """Wake ``count`` of those that wait for the word at ``address``."""
    syscall("futex", arch.NATIVE["futex"], address, _FUTEX_WAKE, count)
