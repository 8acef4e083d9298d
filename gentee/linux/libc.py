# SPDX-License-Identifier: BSD-2-Clause
"""The C library through ctypes: the one handle and the one way from errno to an exception.

Each wrapper in ``gentee.linux`` binds its function once at import, with the argument types of
that one signature, carries the system call's own name and raises ``OSError`` through
:func:`oserror`. Nothing outside ``gentee.linux`` (and the engine) uses ctypes.
"""

import ctypes
import os
import resource

libc = ctypes.CDLL(None, use_errno=True)


def oserror(name: str, path: str | None = None) -> OSError:
    """The ``OSError`` for the errno that the last failed call left, naming that call."""
    err = ctypes.get_errno()
    text = f"{name}: {os.strerror(err)}"
    return OSError(err, text, path) if path is not None else OSError(err, text)


# ``syscall`` for what the C library has no wrapper for. Not for hot paths (about 1 us).
_syscall = libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long,) * 7


def syscall(name: str, number: int, *args: int) -> int:
    """Raw system call ``number`` with up to six integer arguments; raises ``OSError``."""
    padded = args + (0,) * (6 - len(args))
    ret: int = _syscall(number, *padded)
    if ret < 0:
        raise oserror(name)
    return ret


_prctl = libc.prctl
_prctl.restype = ctypes.c_int
_prctl.argtypes = (ctypes.c_int,) + (ctypes.c_ulong,) * 4

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2) for the options whose arguments are integers."""
    ret: int = _prctl(option, arg2, arg3, arg4, arg5)
    if ret < 0:
        raise oserror("prctl")
    return ret


def set_process_name(name: str) -> None:
    """Name the calling thread, at most 15 bytes, as ``ps`` and ``top`` show it."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    prctl(PR_SET_NAME, ctypes.addressof(buffer))


# struct sigaction of glibc and musl: sa_handler, sa_mask, sa_flags, sa_restorer
_sigaction_buffer = ctypes.c_void_p * 19
_sigaction = libc.sigaction
_sigaction.restype = ctypes.c_int
_sigaction.argtypes = (ctypes.c_int, _sigaction_buffer, ctypes.c_void_p)


def interrupt_on(number: int) -> None:
    """From now on signal ``number`` only interrupts the thread that it is sent to (EINTR).

    Any thread may ask for it; ``signal.signal()`` is for the main thread alone.
    """
    # A handler must call something: abs() takes a number too, and does nothing.
    handler = ctypes.cast(libc.abs, ctypes.c_void_p).value
    if _sigaction(number, _sigaction_buffer(handler), None) < 0:
        raise oserror("sigaction")


def raise_limit() -> None:
    """Let this process have as many descriptors as it may: its clients' number is not its own."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # no limit at all, or one above the machine's own
        pass
