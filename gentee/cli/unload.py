# SPDX-License-Identifier: BSD-2-Clause
"""``gentee unload``: installed services are forgotten, their versions are not."""

import sys
from collections.abc import Sequence

from gentee.cli import tee_access
from gentee.cli.options import Command, Option
from gentee.errors import ItemNotFound, TeeError, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gentee.cli.options import Given
    from gentee.cli.tee_access import AnyTee, Row

COMMAND = Command(
    "unload",
    "Remove installed services. Sessions that are open go on, new ones find them no more.",
    [
        tee_access.TEE,
        tee_access.STATE,
        Option("--json", "for programs"),
    ],
    "UUID|NAME...",
    mixed=True,
)

_DETAILS = """\
Without --tee and --state it is the TEE of plain 'gentee run'. A device has no operation for it.

The highest version of a service stays known: a lower one is refused also afterwards. The exit
status is 0 if all were removed, 1 if one was not."""


def main(arguments: Sequence[str]) -> int:
    given = COMMAND.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(COMMAND.help(_DETAILS))
        return 0
    if not given.words:
        raise COMMAND.error("no service to unload", "such as: gentee unload NAME")
    tee = _tee(given)
    failed = False
    found: list[dict[str, Any]] = []
    try:
        for word in given.words:
            try:
                row = _unload(tee, word)
            except UserError as error:
                failed = True
                found.append({"service": word, "error": error.message, "hint": error.hint})
                if not given.has("--json"):
                    from gentee.cli.main import report

                    sys.stdout.flush()
                    report(error)
                continue
            found.append({"service": word, **_as_json(row)})
            if not given.has("--json"):
                print(_line(row))
    finally:
        tee.close()
    if given.has("--json"):
        import json

        print(json.dumps(found, indent=2))
    return 1 if failed else 0


def _tee(given: "Given") -> "AnyTee":
    from gentee.device.state_dir import DEFAULT_NAME, folder_of

    folder = tee_access.named_folder(COMMAND, given) or folder_of(DEFAULT_NAME)
    return tee_access.tee_of(folder)


def _unload(tee: "AnyTee", word: str) -> "Row":
    """Remove one service; UserError where that cannot be."""
    from gentee.secure.service import format_uuid, parse_uuid

    try:
        uuid = parse_uuid(word)
        named = [row for row in tee.services() if row.uuid == uuid]
    except ValueError:
        named = [row for row in tee.services() if row.name == word]
    found = [row for row in named if row.installed]
    if tee.running:  # it says itself what is not installed
        found = found or named
    if not found:
        hint = "'gentee ls' shows what is installed; with --tee or --state, as here"
        raise UserError(f"{word}: not installed", hint)
    if len(found) > 1:
        uuids = ", ".join(format_uuid(row.uuid) for row in found)
        raise UserError(f"{word}: {len(found)} services have this name", f"say which: {uuids}")
    try:
        tee.uninstall(found[0].uuid)
    except ItemNotFound as error:  # somebody else was quicker
        raise UserError(f"{word}: not installed any more") from error
    except TeeError as error:
        raise UserError(f"{word}: {error.detail or error}") from error
    return found[0]


def _as_json(row: "Row") -> "dict[str, Any]":
    from gentee.secure.service import format_uuid

    return {"uuid": format_uuid(row.uuid), "name": row.name, "version": row.version}


def _line(row: "Row") -> str:
    from gentee.device.host import printable
    from gentee.secure.service import format_uuid

    return f"{format_uuid(row.uuid)} {printable(row.name)}, version {row.version}: unloaded"
