# SPDX-License-Identifier: BSD-2-Clause
"""``gentee ls --stats``: what is alive in a TEE that runs, and what it takes.

A TEE of ``gentee serve`` is asked through its control socket. A program under ``gentee run`` asks
the TEE behind its device, by the statistics that OP-TEE has for it (its stats pseudo TA): they know
of sessions and heaps, not of processes.
"""

import sys
from struct import error as StructError

from gentee.cli import tee_access
from gentee.cli.tee_access import DeviceTee, RunningTee
from gentee.cli.terminal import Style
from gentee.device import control
from gentee.device.host import printable
from gentee.errors import ItemNotFound, ShortBuffer, TeeError, UserError
from gentee.secure.service import format_uuid, parse_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gentee.cli.options import Command, Given

    Stats = dict[str, Any]

HELP = """\
with --stats, of each instance that is alive, in bytes:
       private  memory of its process alone (USS), and shared ones by their share (PSS):
                only root may look at that
       resident all that it has mapped and uses, most of it shared with others
       heap     of an OP-TEE TA built with CFG_TA_STATS: in use, the most so far, and its size"""

_TRIES = 10
_HEAP = (
    "allocated", "max_allocated", "size", "num_alloc_fail", "biggest_alloc_fail",
    "biggest_alloc_fail_used",
)  # fmt: skip
_MEMORY = ("resident", "proportional", "private")


def main(command: "Command", given: "Given") -> int:
    for option in ("--ta-dir", "--key", "--strict"):
        if given.has(option):
            raise command.error(f"--stats is about a TEE that runs, which has its {option} already")
    stats = _stats(command, given)
    if given.has("--json"):
        import json

        print(json.dumps(stats, indent=2))
        return 0
    style = Style(sys.stdout)
    lines = _table(stats, style) or ["no instance is alive"]
    print("\n".join(lines))
    return 0


def _stats(command: "Command", given: "Given") -> "Stats":
    folder = tee_access.named_folder(command, given)
    if folder is not None:
        tee = tee_access.tee_of(folder)
        try:
            if isinstance(tee, RunningTee):
                return _checked(tee.statistics())
        finally:
            tee.close()
        raise UserError("this TEE does not run", "'gentee serve NAME' starts one")
    device = tee_access.device_tee()
    if device is None:
        raise command.error("--stats of which TEE?", "add --tee NAME, of one that is served")
    try:
        return _of_device(device)
    finally:
        device.close()


def _of_device(tee: DeviceTee) -> "Stats":
    from gentee.abi import optee_pta as pta
    from gentee.abi.optee_ta import TEE_UUID
    from gentee.client import Out

    names = {row.uuid: row.name for row in tee.services()}
    try:
        with tee.context.open_session(pta.STATS_UUID) as session:
            output = Out(0)
            for _ in range(_TRIES):
                try:
                    session.invoke(pta.STATS_CMD_TA_STATS, output)
                    break
                except ItemNotFound:
                    return {"services": []}
                except ShortBuffer:
                    # Others may come meanwhile.
                    output = Out(output.out_size + 2 * pta.PTA_STATS_TA.size)
            else:
                raise UserError("instances come faster than they can be counted")
    except TeeError as error:
        raise UserError(f"{tee.context.door.name}: {error}") from error
    services: dict[bytes, Stats] = {}
    try:
        for packed, _panicked, sessions, heap in pta.PTA_STATS_TA.iter_unpack(output.data):
            first, second, third, rest = TEE_UUID.unpack(packed)
            uuid = first.to_bytes(4, "big") + second.to_bytes(2, "big") + third.to_bytes(2, "big")
            uuid += rest
            row = services.setdefault(
                uuid, {"uuid": format_uuid(uuid), "name": names.get(uuid, ""), "instances": []}
            )
            _desc, _free2, *numbers = pta.PTA_STATS_ALLOC.unpack(heap)
            found = dict(zip(_HEAP, numbers, strict=True)) if any(numbers) else None
            row["instances"].append({"sessions": sessions, "heap": found})
    except StructError as error:
        raise UserError(f"{tee.context.door.name}: statistics that are none of OP-TEE's") from error
    return {"services": [*services.values()]}


def _checked(answer: object) -> "Stats":
    """What a running TEE says, as far as it is known here; Refused for anything else."""
    try:
        given: Any = answer
        services = []
        for row in given["services"]:
            instances = []
            for one in row["instances"]:
                heap = one["heap"]
                instances.append(
                    {
                        "pid": int(one["pid"]),
                        "sessions": int(one["sessions"]),
                        "memory": {name: _number(one["memory"][name]) for name in _MEMORY},
                        "heap": heap and {name: int(heap[name]) for name in _HEAP},
                    }
                )
            uuid = format_uuid(parse_uuid(row["uuid"]))
            name, arch = str(row["name"]), str(row["arch"])
            services.append({"uuid": uuid, "name": name, "arch": arch, "instances": instances})
        pseudo_tas = [
            {
                "uuid": format_uuid(parse_uuid(row["uuid"])),
                "name": str(row["name"]),
                "sessions": int(row["sessions"]),
            }
            for row in given["pseudo_tas"]
        ]
        own = {
            "pid": int(given["tee"]["pid"]),
            "memory": {name: _number(given["tee"]["memory"][name]) for name in _MEMORY},
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise control.Refused("the TEE did not answer as expected") from error
    return {"services": services, "pseudo_tas": pseudo_tas, "tee": own}


def _number(value: object) -> int | None:
    if value is not None and not isinstance(value, int):
        raise ValueError("no number")
    return value


_HEAD = (
    "UUID", "NAME", "ARCH", "SESSIONS", "PID", "PRIVATE", "PSS", "RESIDENT", "HEAP", "HEAP MAX",
    "HEAP SIZE", "FAILED",
)  # fmt: skip
_FIRST_NUMBER = 3


def _table(stats: "Stats", style: Style) -> list[str]:
    cells: list[list[str]] = []
    for row in stats["services"]:
        for one in row["instances"]:
            memory, heap = one.get("memory") or {}, one.get("heap") or {}
            cells.append(
                [
                    row["uuid"],
                    printable(row["name"]),
                    printable(row.get("arch", "")),
                    str(one["sessions"]),
                    str(one.get("pid") or ""),
                    *(_shown(memory.get(name)) for name in reversed(_MEMORY)),
                    *(_shown(heap.get(name)) for name in _HEAP[:4]),
                ]
            )
    for row in stats.get("pseudo_tas", ()):
        if row["sessions"]:
            cells.append([row["uuid"], printable(row["name"]), "", str(row["sessions"])])
            cells[-1] += [""] * (len(_HEAD) - len(cells[-1]))
    if not cells:
        return []
    full = [at for at in range(len(_HEAD)) if any(row[at] for row in cells)]
    widths = {at: max(len(_HEAD[at]), *(len(row[at]) for row in cells)) for at in full}

    def line(row: "tuple[str, ...] | list[str]", *, bold: bool = False) -> str:
        shown = []
        for at in full:
            text = f"{row[at]:<{widths[at]}}" if at < _FIRST_NUMBER else f"{row[at]:>{widths[at]}}"
            shown.append(style.bold(text) if bold and at == 1 else text)
        return "  ".join(shown).rstrip()

    return [style.dim(line(_HEAD)), *(line(row, bold=True) for row in cells)]


def _shown(number: int | None) -> str:
    return "" if number is None else str(number)
