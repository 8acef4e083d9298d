# SPDX-License-Identifier: BSD-2-Clause
"""``gentee run``: a program, its threads and its children, with TEE devices."""

import errno
import gc
import os
import sys
from collections.abc import Sequence

from gentee.cli.options import Command, Option
from gentee.errors import UserError

LOG_LEVELS = ("error", "info", "debug", "flow")  # as in gentee.core.host, from 1 on

COMMAND = Command(
    "run",
    "Run a program that sees /dev/tee0, unmodified, with all that it starts.",
    [
        Option(
            "--driver",
            "the driver of the next device, by default soft; 'gentee ls' lists them",
            metavar="NAME",
            repeat=True,
        ),
        Option(
            "--ta-dir",
            "a folder with trusted services, before the examples that come with gentee",
            metavar="DIR",
            repeat=True,
        ),
        Option(
            "--reg-mem",
            "say that the TEE takes registered memory: libteec then registers its own instead of "
            "sharing pages",
        ),
        Option(
            "--device-way",
            "how the program gets its devices: files in a /dev of its own, or answers to its "
            "opens; auto takes the first that works here, 'gentee doctor' says which",
            choices=("auto", "namespace", "open"),
        ),
        Option(
            "--memory-limit",
            "MiB of private memory that each service may have, by default 64",
            metavar="MIB",
        ),
        Option(
            "--cpu-limit",
            "seconds of CPU time that one command of a service may take, by default 60; 0 for no "
            "limit",
            metavar="SECONDS",
        ),
        Option(
            "--log-level",
            "the least important lines of services to show, by default debug",
            choices=LOG_LEVELS,
        ),
        Option("--quiet", "show no lines of services at all", short="-q"),
        Option("--verbose", "say which devices there are, and how", short="-v"),
    ],
    "-- PROGRAM [ARGUMENTS]",
)

_DETAILS = """\
The exit status is the program's; 128 + N if signal N ended it, 127 if there is no such program,
126 if it cannot be run, 1 if gentee itself cannot work here.

  gentee run -- ./client                      a program of yours
  gentee run --ta-dir services -- ./client    with services of yours
  gentee run -- sh                            everything that you start in that shell"""

# Errors that say that something of the machine is used up, rather than that gentee is wrong.
_SHORT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC)


def main(arguments: Sequence[str]) -> int:
    given = COMMAND.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(COMMAND.help(_DETAILS))
        return 0
    if not given.words:
        raise COMMAND.error("no program to run", "such as: gentee run -- ./client")
    ta_dirs = [*map(service_folder, given.all("--ta-dir")), examples_folder()]
    limits = service_limits(given.value("--memory-limit", ""), given.value("--cpu-limit", ""))
    level = given.value("--log-level", "debug")
    way = given.value("--device-way", "auto")
    check_machine()
    # Collecting garbage while modules are loaded costs a tenth of their time and finds nothing.
    gc.disable()
    from gentee.device.trapped_root import fork_root, signals_to_restore, ways_to_try

    # As early as can be: it makes its /dev while the rest is loaded here.
    root = fork_root(given.words, ways_to_try(way)[0], signals_to_restore())
    from gentee.core.registry import load_driver
    from gentee.device.run import Run

    drivers = [load_driver(name) for name in given.all("--driver") or ["soft"]]
    gc.enable()
    gc.freeze()
    if given.has("--ta-dir"):
        _tell_problems(ta_dirs)
    options: dict[str, object] = {"ta_dirs": ta_dirs, "reg_mem": given.has("--reg-mem"), **limits}
    run = Run(
        given.words,
        [(driver, options) for driver in drivers],
        way=way,
        log_level=0 if given.has("--quiet") else LOG_LEVELS.index(level) + 1,
        verbose=given.has("--verbose"),
        root=root,
    )
    try:
        status = run.run()
    except OSError as error:
        if error.errno not in _SHORT_OF:
            raise
        raise UserError(
            f"the machine has run short of something: {error.strerror}",
            "'gentee doctor' shows the limits",
        ) from error
    # What is left need not be looked through when the interpreter ends: an eighth of a start.
    gc.freeze()
    return status


def check_machine() -> None:
    """UserError where this interpreter or machine is none that the filter is written for."""
    from gentee.linux import arch

    if not arch.ARCHES:
        raise UserError(
            f"gentee does not know the system calls of {arch.MACHINE}",
            "it works on 64-bit x86 and Arm (x86_64, aarch64)",
        )
    if sys.maxsize < 1 << 32:
        raise UserError(
            "this Python is a 32-bit program",
            "use one that is built for the machine's 64 bits; it can run 32-bit programs too",
        )


def examples_folder() -> str:
    """The services that come with gentee."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return os.path.join(package, "examples")


def service_folder(folder: str) -> str:
    """``folder`` if it is one; UserError otherwise."""
    try:
        os.listdir(folder)
    except OSError as error:
        raise UserError(
            f"--ta-dir {folder}: {error.strerror}",
            "it wants a folder with services, files such as echo.py",
        ) from error
    return folder


_LEAST_MEMORY = 16  # MiB: the interpreter's own, and some room


def service_limits(memory: str, cpu: str) -> dict[str, object]:
    """The driver's options for limits that were given; UserError for what is none."""
    limits: dict[str, object] = {}
    if memory:
        if not memory.isdecimal() or not _LEAST_MEMORY <= int(memory) < 1 << 20:
            raise UserError(
                f"--memory-limit {memory}: not a number of MiB from {_LEAST_MEMORY} up",
                "such as: --memory-limit 128",
            )
        limits["memory_limit"] = int(memory)
    if cpu:
        whole, _, part = cpu.partition(".")
        if not (whole + part).isdecimal() or len(cpu) > 9:
            raise UserError(
                f"--cpu-limit {cpu}: not a number of seconds", "such as: --cpu-limit 5; 0 for none"
            )
        limits["cpu_limit"] = float(cpu)
    return limits


def _tell_problems(ta_dirs: Sequence[str]) -> None:
    from gentee.device.host import TerminalLog, printable
    from gentee.secure.store import TaStore

    terminal = TerminalLog()
    for problem in TaStore(ta_dirs).problems(images=False):
        terminal.warn(f"not offered: {printable(problem)}")
