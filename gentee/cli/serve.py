# SPDX-License-Identifier: BSD-2-Clause
"""``gentee serve``: a TEE that several programs share."""

import os
import sys
from collections.abc import Sequence

from gentee.cli.options import USAGE_STATUS, Command, Option
from gentee.cli.run import check_machine
from gentee.cli.tee_options import TEE_OPTIONS, Settings
from gentee.device.state_dir import DEFAULT_NAME, check_name, folder_of, own_state
from gentee.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.device.state_dir import StateDir

COMMAND = Command(
    "serve",
    "Keep a TEE for the programs that 'gentee run --tee NAME' runs, until it is told to end.",
    [
        *TEE_OPTIONS,
        Option(
            "--group",
            "members of this group may use the TEE as well, by the path of its state folder",
            metavar="NAME",
        ),
        Option(
            "--ready-fd",
            "write a line to this descriptor, and close it, when programs can join",
            metavar="NUMBER",
        ),
        Option("--stop", "end the TEE of this name instead"),
    ],
    "[NAME]",
    mixed=True,
)

_DETAILS = """\
NAME has letters, digits, - _ and . ; without it the TEE is that of plain 'gentee run'. SIGTERM and
Ctrl-C end it too. The exit status is then 0.

  gentee serve keys                       in one terminal
  gentee run --tee keys -- ./client       in others, at the same time: one TEE"""


def main(arguments: Sequence[str]) -> int:
    given = COMMAND.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(COMMAND.help(_DETAILS))
        return 0
    if len(given.words) > 1:
        raise COMMAND.error(f"what to do with {given.words[1]!r}?", "a TEE has one name")
    name = check_name(given.words[0]) if given.words else DEFAULT_NAME
    if given.has("--stop"):
        return _stop(given.value("--state", name))
    settings = Settings(given)
    group = group_id(given.value("--group", settings.group))
    ready_fd = _ready_fd(given.value("--ready-fd", ""))
    check_machine()
    from gentee.device.host import TerminalLog
    from gentee.device.serve import Serve

    terminal = TerminalLog()
    state = own_state(settings.state or folder_of(name))
    try:
        drivers = settings.drivers(state.path if settings.keeps_state else None)
        settings.tell_problems(terminal.warn)
        serve = Serve(state, drivers, group=group, log_level=settings.log_level)

        def ready(devices: list[str]) -> None:
            terminal.warn(
                f"TEE {_shown(name, state, settings)} is ready with {', '.join(devices)}: "
                f"gentee run --tee {_shown(name, state, settings)} -- PROGRAM"
            )
            if ready_fd >= 0:
                _tell_ready(ready_fd)

        serve.run(ready)
    finally:
        state.close()
    return 0


def _stop(name: str) -> int:
    from gentee.device import control
    from gentee.device.join import connect

    connection = connect(name)
    try:
        _answer, fds = connection.ask(control.STOP)
        control.close_all(fds)
        connection.wait_end()
    finally:
        connection.close()
    return 0


def _shown(name: str, state: "StateDir", settings: Settings) -> str:
    return state.path if settings.state else name


def group_id(text: str) -> int | None:
    """The id of a group, by name or number; None for no text."""
    if not text:
        return None
    import grp

    try:
        gid = int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        raise UserError(f"no group {text!r}", "'getent group' lists them") from None
    if os.geteuid() != 0 and gid not in (os.getegid(), *os.getgroups()):
        raise UserError(
            f"you are not in the group {text!r}", "only its members can let its members in"
        )
    return gid


def _ready_fd(text: str) -> int:
    if not text:
        return -1
    try:
        fd = int(text)
        os.fstat(fd)
    except (ValueError, OverflowError, OSError):
        raise UserError(
            f"--ready-fd {text}: not an open descriptor",
            "such as: gentee serve --ready-fd 3 keys 3>&1",
            USAGE_STATUS,
        ) from None
    os.set_inheritable(fd, False)
    return fd


def _tell_ready(fd: int) -> None:
    try:
        os.write(fd, b"ready\n")
    except OSError:  # nobody waits for it any more
        pass
    finally:
        os.close(fd)
