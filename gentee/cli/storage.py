# SPDX-License-Identifier: BSD-2-Clause
"""``gentee storage``: what services have stored in a TEE, whether it runs or not."""

import sys
from collections.abc import Sequence

from gentee.cli import tee_access
from gentee.cli.options import USAGE_STATUS, Command, Option, columns, similar
from gentee.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gentee.cli.options import Given
    from gentee.cli.tee_access import RunningTee, StoppedTee

TA = Option("--ta", "objects of this TA only", metavar="UUID|NAME", repeat=True)
JSON = Option("--json", "for programs")
_TEE = [tee_access.TEE, tee_access.STATE, tee_access.COUNTER]

LS = Command("storage ls", "List stored objects.", [*_TEE, TA, JSON], "[ID...]", mixed=True)
CHECK = Command(
    "storage check",
    "Open every seal of stored objects, and verify what is installed.",
    [*_TEE, TA, tee_access.KEY, tee_access.STRICT, JSON],
    "[ID...]",
    mixed=True,
)
WIPE = Command(
    "storage wipe",
    "Delete stored objects for good: all, those of a TA, or those of some names.",
    [*_TEE, TA, Option("--yes", "do not ask", short="-y"), JSON],
    "[ID...]",
    mixed=True,
)

_COMMANDS = {
    "ls": "list stored objects, with sizes and times",
    "check": "open every seal, and say which object is damaged",
    "export": "write a TEE to a file: its secret, its objects, its services",
    "import": "read one from a file",
    "wipe": "delete stored objects",
}

_DETAILS = """\
Without --tee and --state it is the TEE of plain 'gentee run'. An ID is text, or 0x and hexadecimal
digits for bytes that are none."""

_CHECK_DETAILS = f"""\
{_DETAILS} The exit status is 0 if nothing is damaged, 1 if something is. With a TA or an ID only
those objects are looked at, otherwise the file itself and what is installed, too."""

_SHOWN = frozenset(range(0x21, 0x7F))  # bytes of an ID that are shown as text


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        (sys.stdout if arguments else sys.stderr).write(_help())
        return 0 if arguments else USAGE_STATUS
    name, *rest = arguments
    if name == "ls":
        return _ls(rest)
    if name == "check":
        return _check(rest)
    if name == "wipe":
        return _wipe(rest)
    if name in ("export", "import"):
        from gentee.cli import storage_archive

        return storage_archive.export(rest) if name == "export" else storage_archive.import_(rest)
    near = similar(name, list(_COMMANDS))
    hint = f"did you mean 'gentee storage {near}'?" if near else f"there are {', '.join(_COMMANDS)}"
    raise UserError(f"storage: no command {name!r}", hint, USAGE_STATUS)


def _help() -> str:
    lines = [
        "usage: gentee storage COMMAND [OPTIONS]",
        "",
        "What trusted services have stored, in a TEE that runs or in the state of one that does",
        "not.",
        "",
        "commands:",
        *columns(list(_COMMANDS.items())),
        "",
        "'gentee storage COMMAND --help' says more about one of them.",
    ]
    return "\n".join(lines) + "\n"


def tee_of(command: Command, given: "Given", *, create: bool = False) -> "StoppedTee | RunningTee":
    """The TEE that a command means."""
    from gentee.device.state_dir import DEFAULT_NAME, folder_of

    if given.has("--strict") and not given.has("--key"):
        raise command.error("--strict without --key accepts nothing", "add --key FILE")
    return tee_access.tee_of(
        tee_access.named_folder(command, given) or folder_of(DEFAULT_NAME),
        keys=given.all("--key"),
        strict=given.has("--strict"),
        counter=given.value("--counter", ""),
        create=create,
    )


def _request(command: Command, given: "Given", tee: "StoppedTee | RunningTee") -> "dict[str, Any]":
    return {
        "tas": [_ta(tee, word) for word in given.all("--ta")],
        "ids": [_id(command, word).hex() for word in given.words],
    }


def _ta(tee: "StoppedTee | RunningTee", word: str) -> str:
    """The UUID of a TA that is named by it or by its name."""
    from gentee.secure.service import format_uuid, parse_uuid

    try:
        return format_uuid(parse_uuid(word))
    except ValueError:
        pass
    found = [row.uuid for row in tee.services() if row.name == word]
    if len(found) == 1:
        return format_uuid(found[0])
    if found:
        uuids = ", ".join(map(format_uuid, found))
        raise UserError(f"{word}: {len(found)} services have this name", f"say which: {uuids}")
    raise UserError(f"{word}: no service of this name", "--ta takes a UUID, too")


def _id(command: Command, word: str) -> bytes:
    if not word.startswith("0x"):
        return word.encode("utf-8", "surrogateescape")
    try:
        return bytes.fromhex(word[2:])
    except ValueError:
        raise command.error(f"{word} is no ID", "0x is followed by pairs of digits") from None


def shown_id(identifier: object) -> str:
    """An ID, given as hexadecimal digits, as :func:`_id` takes it."""
    if identifier is None:
        return "?"
    data = bytes.fromhex(str(identifier))
    if data and _SHOWN.issuperset(data) and not data.startswith((b"0x", b"-")):
        return data.decode("ascii")
    return f"0x{data.hex()}"


def counted(number: int, what: str) -> str:
    """A number of things, in words."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def _ls(arguments: Sequence[str]) -> int:
    given = LS.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(LS.help(_DETAILS))
        return 0
    tee = tee_of(LS, given)
    try:
        answer = tee.storage({"do": "ls", **_request(LS, given, tee)})
    finally:
        tee.close()
    if given.has("--json"):
        _print_json(answer)
    else:
        sys.stdout.write(_table(answer["objects"]))
    return 0


def _print_json(answer: object) -> None:
    import json

    print(json.dumps(answer, indent=2))


def _table(objects: "list[dict[str, Any]]") -> str:
    from gentee.cli.terminal import Style
    from gentee.device.host import printable

    if not objects:
        return "nothing is stored\n"
    style = Style(sys.stdout)
    head = ["TA", "ID", "STORAGE", "SIZE", "CREATED", "CHANGED"]
    cells = []
    for found in objects:
        ta = f"{found['ta']} {printable(found['service'])}".rstrip()
        if found["damage"]:
            cells.append([ta, shown_id(found["id"]), f"damaged: {found['damage']}", "", "", ""])
            continue
        times = [_shown_time(found["created"]), _shown_time(found["changed"])]
        size = str(found["size"])
        cells.append([ta, shown_id(found["id"]), found["storage"], size, *times])
    widths = [
        max(len(row[at]) for row in [head, *cells] if at != 2 or not row[2].startswith("damaged"))
        for at in range(len(head))
    ]
    lines = [style.dim(_line(head, widths))]
    lines += [_line(row, widths) for row in cells]
    return "\n".join(lines) + "\n"


def _line(row: list[str], widths: list[int]) -> str:
    cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
    cells[3] = f"{row[3]:>{widths[3]}}"
    return "  ".join(cells).rstrip()


def _shown_time(seconds: int) -> str:
    import time

    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # of a clock that was far off
        return str(seconds)


def _check(arguments: Sequence[str]) -> int:
    given = CHECK.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(CHECK.help(_CHECK_DETAILS))
        return 0
    tee = tee_of(CHECK, given)
    try:
        answer = tee.storage({"do": "check", **_request(CHECK, given, tee)})
    finally:
        tee.close()
    findings = answer["findings"]
    if given.has("--json"):
        _print_json(answer)
        return 1 if findings else 0
    for finding in findings:
        print(_finding(finding))
    checked = f"{counted(answer['objects'], 'object')} with {counted(answer['bytes'], 'byte')}"
    if answer["images"]:
        checked += f" and {counted(answer['images'], 'installed service')}"
    verdict = counted(len(findings), "finding") if findings else "all seals hold"
    print(f"{checked}: {verdict}")
    return 1 if findings else 0


def _finding(finding: "dict[str, Any]") -> str:
    from gentee.device.host import printable

    where = ""
    if finding["ta"] is not None:
        where = f"TA {finding['ta']}: "
        if finding["id"] is not None:
            where = f"TA {finding['ta']}, object {shown_id(finding['id'])}: "
    return f"damaged: {where}{printable(finding['what'])}"


def _wipe(arguments: Sequence[str]) -> int:
    given = WIPE.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(WIPE.help(_DETAILS))
        return 0
    tee = tee_of(WIPE, given)
    try:
        request = _request(WIPE, given, tee)
        if not given.has("--yes"):
            count = len(tee.storage({"do": "ls", **request})["objects"])
            if count and not _agrees(f"Delete {counted(count, 'object')} for good?"):
                print("nothing was deleted")
                return 1
        answer = tee.storage({"do": "wipe", **request})
    finally:
        tee.close()
    if given.has("--json"):
        _print_json(answer)
    else:
        print(f"{counted(len(answer['objects']), 'object')} deleted")
    return 0


def _agrees(question: str) -> bool:
    if not sys.stdin or not sys.stdin.isatty():
        raise UserError(f"storage wipe asks: {question}", "--yes says yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
