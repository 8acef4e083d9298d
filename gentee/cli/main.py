# SPDX-License-Identifier: BSD-2-Clause
"""Entry of the ``gentee`` command: finds the command, and says plainly what goes wrong."""

import errno
import os
import sys
from collections.abc import Sequence

from gentee.errors import UserError

# The modules of the same name in this package, each with a ``main`` that takes the arguments.
COMMANDS = {
    "run": "run a program that sees /dev/tee0",
    "serve": "keep a TEE that several programs share",
    "ls": "list the trusted services and the drivers that there are",
    "load": "install signed images of trusted services",
    "unload": "remove installed services",
    "storage": "list, check, move and delete what services have stored",
    "task": "have a service do one command",
    "ta": "pack, sign and inspect images of trusted services; make keys",
    "conformance": "run OP-TEE's test program, and say what is worse than it was elsewhere",
    "abi": "print tables of what a trusted application finds: algorithms, system calls",
    "doctor": "say what this machine has, what it lacks, and what to do about it",
    "include-dir": "print the folder of the C header gentee/tee.h",
    "version": "print the versions of gentee, Python and the kernel",
}

_EXIT_INTERRUPTED = 130  # as a shell says it: 128 + SIGINT
_EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that ``arguments`` (by default ``sys.argv``) say; the exit status."""
    try:
        _take_standard_streams()
        status = _command(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
        return status
    except UserError as error:
        report(error)
        return error.status
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough. The interpreter flushes once more at its end: not into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _EXIT_BROKEN_PIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # as above
        report(UserError(f"{error.filename or 'output'}: {error.strerror}"))
        return 1


def _take_standard_streams() -> None:
    """Open what is closed of 0, 1 and 2, or something else would get the number and our messages.

    Programs that are run find it closed all the same: Python opens with close-on-exec.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # The interpreter has no objects for those that were closed; what commands write goes nowhere.
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _command(arguments: list[str]) -> int:
    if not arguments:
        sys.stderr.write(_help())
        return 2
    name, *rest = arguments
    if name in ("-h", "--help", "help"):
        if name == "help" and rest and rest[0] in COMMANDS:
            name, rest = rest[0], ["--help"]
        else:
            sys.stdout.write(_help())
            return 0
    if name in ("-V", "--version"):
        name = "version"
    if sys.platform != "linux":
        raise UserError("gentee needs Linux", "it answers the system calls of Linux programs")
    # Named one by one, so that tools which follow imports see them.
    if name == "run":
        from gentee.cli.run import main as command
    elif name == "serve":
        from gentee.cli.serve import main as command
    elif name == "ls":
        from gentee.cli.ls import main as command
    elif name == "load":
        from gentee.cli.load import main as command
    elif name == "unload":
        from gentee.cli.unload import main as command
    elif name == "storage":
        from gentee.cli.storage import main as command
    elif name == "task":
        from gentee.cli.task import main as command
    elif name == "ta":
        from gentee.cli.ta import main as command
    elif name == "abi":
        from gentee.cli.abi import main as command
    elif name == "conformance":
        from gentee.cli.conformance import main as command
    elif name == "doctor":
        from gentee.cli.doctor import main as command
    elif name == "include-dir":
        from gentee.cli.include_dir import main as command
    elif name == "version":
        from gentee.cli.version import main as command
    else:
        raise _unknown(name)
    return command(rest)


def _unknown(name: str) -> UserError:
    from shutil import which

    from gentee.cli.options import USAGE_STATUS, similar

    near = similar(name, list(COMMANDS))
    hint = f"the commands are {', '.join(COMMANDS)}"
    if near:
        hint = f"did you mean 'gentee {near}'?"
    elif which(name):
        hint = f"to run it: gentee run -- {name}"
    return UserError(f"no command {name!r}", hint, USAGE_STATUS)


def _help() -> str:
    from gentee.cli.options import columns

    lines = [
        "usage: gentee COMMAND [OPTIONS]",
        "",
        "The generic TEE driver in user space: programs find /dev/tee0 and the services behind it.",
        "It is software and protects nothing from the owner of the machine.",
        "",
        "commands:",
        *columns(list(COMMANDS.items())),
        "",
        "'gentee COMMAND --help' says more about one of them.",
    ]
    return "\n".join(lines) + "\n"


def report(error: UserError) -> None:
    """Print it, with its hint."""
    # Names in a message come from anywhere: a terminal must not act on them.
    from gentee.device.host import printable

    lines = f"gentee: {printable(error.message)}\n"
    if error.hint:
        lines += f"        {printable(error.hint)}\n"
    try:
        os.write(2, lines.encode("utf-8", "backslashreplace"))
    except OSError:  # nobody listens; the status still says it
        pass
