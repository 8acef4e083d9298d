# SPDX-License-Identifier: BSD-2-Clause
"""``gentee ls``: the services that ``gentee run`` would offer, and the drivers."""

import sys
from collections.abc import Callable, Sequence

from gentee.cli.options import Command, Option
from gentee.cli.run import examples_folder, service_folder
from gentee.cli.terminal import Style
from gentee.core.registry import available_drivers
from gentee.device.host import TerminalLog, printable
from gentee.secure.store import Service, TaStore, format_uuid

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
        Option("--json", "for programs"),
    ],
)

_DETAILS = """\
flags: single   one instance, whose sessions follow each other
       multi    that instance takes several sessions at once
       keep     and outlives the last of them"""


def main(arguments: Sequence[str]) -> int:
    given = COMMAND.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(COMMAND.help(_DETAILS))
        return 0
    store = TaStore([*map(service_folder, given.all("--ta-dir")), examples_folder()])
    services = store.all()
    problems = store.problems()
    if given.has("--json"):
        import json

        found = {
            "services": [_as_json(service) for service in services],
            "drivers": available_drivers(),
            "problems": problems,
        }
        print(json.dumps(found, indent=2))
        return 0
    sys.stdout.write(_table(services, Style(sys.stdout)))
    print(f"\ndrivers: {', '.join(printable(name) for name in available_drivers())}")
    sys.stdout.flush()
    terminal = TerminalLog()
    for problem in problems:
        terminal.warn(f"not offered: {printable(problem)}")
    return 0


def flags(service: Service) -> list[str]:
    """What of GP's properties is set, in a word each."""
    named = {
        "single": service.single_instance,
        "multi": service.multi_session,
        "keep": service.keep_alive,
    }
    return [name for name, is_set in named.items() if is_set]


def _as_json(service: Service) -> dict[str, object]:
    return {
        "uuid": format_uuid(service.uuid),
        "name": service.name,
        "version": service.version,
        "flags": flags(service),
        "description": service.description,
        "file": service.path,
    }


def _table(services: Sequence[Service], style: Style) -> str:
    head = ("UUID", "NAME", "VERSION", "FLAGS", "DESCRIPTION", "FILE")
    rows = [
        (
            format_uuid(service.uuid),
            printable(service.name),
            str(service.version),
            ",".join(flags(service)) or "-",
            printable(service.description),
            printable(service.path),
        )
        for service in services
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [style.dim(_line(head, widths))]
    lines += [_line(row, widths, style.bold) for row in rows]
    return "\n".join(lines) + "\n"


def _line(row: Sequence[str], widths: Sequence[int], name_style: Callable[[str], str] = str) -> str:
    cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
    cells[1] = name_style(cells[1])
    return "  ".join(cells).rstrip()
