# SPDX-License-Identifier: BSD-2-Clause
"""``gentee ls``: the services that ``gentee run`` would offer, or those of a TEE; the drivers."""

import os
import sys
from collections.abc import Callable, Sequence

from gentee.cli import tee_access
from gentee.cli.options import Command, Option
from gentee.cli.tee_access import Row, StoppedTee, shown_signer
from gentee.cli.tee_options import (
    ALLOW_UNSIGNED,
    TA_CLASS_KEY,
    TA_ENC_KEY,
    examples_folder,
    service_folder,
)
from gentee.cli.terminal import Style
from gentee.core.registry import available_drivers
from gentee.device.host import TerminalLog, printable
from gentee.device.state_dir import DEFAULT_NAME, StateDir, folder_of
from gentee.errors import UserError
from gentee.secure.service import format_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.cli.options import Given

COMMAND = Command(
    "ls",
    "List the trusted services that 'gentee run' would offer, and the drivers that there are.",
    [
        Option(
            "--ta-dir",
            "a folder with trusted services, as for 'gentee run'",
            metavar="DIR",
            repeat=True,
        ),
        tee_access.TEE,
        tee_access.STATE,
        tee_access.KEY,
        tee_access.STRICT,
        TA_ENC_KEY,
        TA_CLASS_KEY,
        ALLOW_UNSIGNED,
        Option("--stats", "instead, what is alive in a TEE that runs, and what it takes"),
        Option("--json", "for programs"),
    ],
)

_DETAILS = """\
flags: single   one instance, whose sessions follow each other
       multi    that instance takes several sessions at once
       keep     and outlives the last of them
state, of a TEE that runs:
       ready    no instance is alive
       active   an instance is alive
       busy     likewise, and it takes no further session now"""


def main(arguments: Sequence[str]) -> int:
    given = COMMAND.parse(arguments)
    if given.has("--help"):
        from gentee.cli import ls_stats

        sys.stdout.write(COMMAND.help(f"{_DETAILS}\n{ls_stats.HELP}"))
        return 0
    if given.has("--stats"):
        from gentee.cli import ls_stats

        return ls_stats.main(COMMAND, given)
    if given.has("--strict") and not given.has("--key"):
        raise COMMAND.error("--strict without --key accepts nothing", "add --key FILE")
    if given.has("--strict") and given.has("--allow-unsigned"):
        raise COMMAND.error("--strict and --allow-unsigned contradict each other", "keep one")
    rows, problems = _services(given)
    if given.has("--json"):
        import json

        found = {
            "services": [row.as_json() for row in rows],
            "drivers": available_drivers(),
            "problems": problems,
        }
        print(json.dumps(found, indent=2))
        return 0
    sys.stdout.write(_table(rows, Style(sys.stdout)))
    print(f"\ndrivers: {', '.join(printable(name) for name in available_drivers())}")
    sys.stdout.flush()
    terminal = TerminalLog()
    for problem in problems:
        terminal.warn(f"not offered: {printable(problem)}")
    return 0


def _services(given: "Given") -> tuple[list[Row], list[str]]:
    """What there is, and a line for each file that wants to be a service and cannot."""
    folder = tee_access.named_folder(COMMAND, given)
    ta_dirs = [*map(service_folder, given.all("--ta-dir")), examples_folder()]
    keys, strict = given.all("--key"), given.has("--strict")
    encryption = tee_access.given_encryption(given)
    unsigned = given.has("--allow-unsigned")
    if folder is not None:
        tee = tee_access.tee_of(
            folder, ta_dirs, keys, strict=strict, encryption=encryption, allow_unsigned=unsigned
        )
        for option in ("--ta-dir", "--allow-unsigned"):
            if tee.running and given.has(option):
                tee.close()
                raise COMMAND.error(
                    "the TEE runs already, and has its folders", f"leave out {option} to see them"
                )
    else:
        state_dir = _default_state()
        try:
            tee = StoppedTee(
                state_dir,
                ta_dirs,
                keys,
                strict=strict,
                encryption=encryption,
                allow_unsigned=unsigned,
            )
        except BaseException:
            if state_dir is not None:
                state_dir.close()
            raise
    try:
        rows = tee.services()
        problems = tee.store.problems() if isinstance(tee, StoppedTee) else []
    finally:
        tee.close()
    return rows, problems


def _default_state() -> StateDir | None:
    """What plain ``gentee run`` would have: the default state, unless a TEE has it already."""
    try:
        folder = folder_of(DEFAULT_NAME)
        if not os.path.lexists(folder):
            return None
        state_dir = StateDir(folder, create=False)
        try:
            locked = state_dir.lock()
        except BaseException:
            state_dir.close()
            raise
    except OSError as error:
        raise UserError(f"state folder {folder}: {error.strerror or error}") from error
    if locked:
        return state_dir
    state_dir.close()
    TerminalLog().warn(
        "a TEE has the default state: 'gentee ls --tee default' asks it what is installed"
    )
    return None


def _file(row: Row) -> str:
    if not row.installed:
        return printable(row.file)
    return f"installed, signed by {shown_signer(row.signer)}" if row.signer else "installed"


def _table(rows: Sequence[Row], style: Style) -> str:
    head = ["UUID", "NAME", "VERSION", "FLAGS", "STATE", "DESCRIPTION", "FILE"]
    cells = [
        [
            format_uuid(row.uuid),
            printable(row.name),
            str(row.version),
            ",".join(map(printable, row.flags)) or "-",
            printable(row.state),
            printable(row.description),
            _file(row),
        ]
        for row in rows
    ]
    # A column that says nothing of any service is left out: where nothing runs, the state.
    full = [at for at in range(len(head)) if at < 3 or any(row[at] != "" for row in cells)]
    head = [head[at] for at in full]
    cells = [[row[at] for at in full] for row in cells]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    lines = [style.dim(_line(head, widths))]
    lines += [_line(row, widths, style.bold) for row in cells]
    return "\n".join(lines) + "\n"


def _line(row: Sequence[str], widths: Sequence[int], name_style: Callable[[str], str] = str) -> str:
    cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
    cells[1] = name_style(cells[1])
    return "  ".join(cells).rstrip()
