# SPDX-License-Identifier: BSD-2-Clause
"""The probes of ``gentee doctor`` for what holds a trusted service's process in."""

import os
import signal
import socket
from collections.abc import Callable

from gentee.cli.probes import LIMITED, MISSING, OK, Check, why
from gentee.linux import landlock

_ROOM = 32 << 20  # bytes that a locked process may have besides what it has


def confinement() -> list[Check]:
    """What holds a service's process in, each part tried in one."""
    from gentee.ta import confine

    checks = []
    try:
        said = in_locked_child(_confined)
    except OSError as error:
        checks.append(
            Check(
                "services, calls",
                MISSING,
                f"no service can be locked in, so none is started: {why(error)}",
                "in a container, let its seccomp profile permit seccomp(2) and prctl(2)",
            )
        )
    else:
        permitted = sum(1 for row in confine.TABLE if row.locked)
        text = f"a service may make {permitted} system calls, without files, network or processes"
        result = OK if said == "held" else MISSING
        checks.append(Check("services, calls", result, text if said == "held" else said))
    version = landlock.abi_version()
    if version:
        text = f"a second wall around files, Landlock's ABI version {version}"
        checks.append(Check("services, Landlock", OK, text))
    else:
        checks.append(
            Check(
                "services, Landlock",
                LIMITED,
                "none here: services are held by the filter of system calls alone",
                "Linux 5.13 and later with landlock in lsm=; in a container, permit its calls",
            )
        )
    return checks


def in_locked_child(probe: Callable[[], str]) -> str:
    """What ``probe`` returns, which locks a process of its own in; it can write to 1 and 2 only.

    :raises OSError: what ``probe`` raised.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = "bug"
        try:
            os.dup2(writer, 1)
            answer = probe()
        except OSError as error:
            answer = f"!{error.strerror or error}"
        except BaseException as error:  # nothing may unwind into the parent's own stack
            answer = f"!{error!r}"
        finally:
            try:
                os.write(1, answer.encode())
            finally:
                os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answers:
        answer = answers.read().decode()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        raise OSError(0, f"the kernel ended it with {signal.Signals(os.WTERMSIG(status)).name}")
    if answer.startswith("!") or not answer:
        raise OSError(0, answer[1:] or "it ended early")
    return answer


def _confined() -> str:
    """Lock this process in as a service's; "held", or what it could do all the same."""
    from gentee.ta import confine

    with open("/proc/self/status", encoding="ascii") as status:
        used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData:"))
    confine.restrict(1)
    confine.limit_memory(used + _ROOM)
    confine.lock()
    attempts: list[tuple[str, Callable[[], object]]] = [
        ("open a file", lambda: os.open("/", os.O_RDONLY)),
        ("make a socket", socket.socket),
        ("start a process", os.fork),
        ("signal a process", lambda: os.kill(os.getppid(), 0)),
    ]
    for what, attempt in attempts:
        try:
            attempt()
        except OSError:
            continue
        return f"a locked service can {what}"
    try:
        bytearray(2 * _ROOM)
    except MemoryError:
        return "held"
    return "a locked service has more memory than its limit"
