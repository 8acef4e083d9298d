# SPDX-License-Identifier: BSD-2-Clause
"""``gentee run``: a program, its threads and its children, with TEE devices."""

import errno
import gc
import sys
from collections.abc import Sequence

from gentee.cli.options import Command, Option
from gentee.cli.tee_options import TEE_OPTIONS, Settings, examples_folder, service_folder
from gentee.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.cli.options import Given

COMMAND = Command(
    "run",
    "Run a program that sees /dev/tee0, unmodified, with all that it starts.",
    [
        *TEE_OPTIONS,
        Option(
            "--tee",
            "use the TEE of this name, which 'gentee serve' keeps, or that of this state folder",
            metavar="NAME",
        ),
        Option(
            "--device-way",
            "how the program gets its devices: files in a /dev of its own, or answers to its "
            "opens; auto takes the first that works here, 'gentee doctor' says which",
            choices=("auto", "namespace", "open"),
        ),
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
    if given.has("--tee"):
        return _join(given)
    settings = Settings(given)
    way = given.value("--device-way", "auto")
    check_machine()
    # Collecting garbage while modules are loaded costs a tenth of their time and finds nothing.
    gc.disable()
    from gentee.device.trapped_root import fork_root, signals_to_restore, ways_to_try

    # As early as can be: it makes its /dev while the rest is loaded here.
    root = fork_root(given.words, ways_to_try(way)[0], signals_to_restore())
    from gentee.device.host import TerminalLog
    from gentee.device.run import Run

    notes: list[str] = []
    # Not before the trapped root is there: that outlives this process a little, and would have the
    # lock as long.
    state = settings.own_state(notes.append)
    try:
        drivers = settings.drivers(state.path if state is not None else None)
        gc.enable()
        gc.freeze()
        settings.tell_problems(TerminalLog().warn)
        run = Run(
            given.words,
            drivers,
            way=way,
            log_level=settings.log_level,
            verbose=settings.verbose,
            root=root,
            notes=notes,
        )
        status = run.run()
    except OSError as error:
        if error.errno not in _SHORT_OF:
            raise
        raise UserError(
            f"the machine has run short of something: {error.strerror}",
            "'gentee doctor' shows the limits",
        ) from error
    finally:
        if state is not None:
            state.close()
    # What is left need not be looked through when the interpreter ends: an eighth of a start.
    gc.freeze()
    return status


def _join(given: "Given") -> int:
    """Run the program in a TEE that runs already."""
    for option in TEE_OPTIONS:
        if given.has(option.name) and option.name != "--verbose":
            raise COMMAND.error(
                f"{option.name} is for a TEE that is started, and with --tee it runs already",
                "give it to 'gentee serve'",
            )
    way = given.value("--device-way", "auto")
    check_machine()
    from gentee.device.trapped_root import fork_root, signals_to_restore, ways_to_try

    root = fork_root(given.words, ways_to_try(way)[0], signals_to_restore())
    from gentee.device.join import JoinedRun

    run = JoinedRun(
        given.words, given.value("--tee", ""), way=way, verbose=given.has("--verbose"), root=root
    )
    return run.run()


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


__all__ = ["COMMAND", "check_machine", "examples_folder", "main", "service_folder"]
