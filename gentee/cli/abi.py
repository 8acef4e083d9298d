# SPDX-License-Identifier: BSD-2-Clause
"""``gentee abi``: what clients and trusted applications find, as tables; docs/ has the same."""

import sys
from collections.abc import Sequence

from gentee.cli.options import Command, Option, columns, similar

TABLES = {
    "algorithms": "algorithms of the GlobalPlatform API and OP-TEE's own, and what does them",
    "types": "types of cryptographic objects, and their sizes in bits",
    "system-calls": "what an OP-TEE TA can ask for, by number",
    "ioctls": "what a client can ask the device for, by number",
    "pseudo-tas": "trusted applications that are part of the TEE itself",
}

# ioctls of which a driver has the operation of struct tee_driver_ops, or not.
_OPERATIONS = {
    "TEE_IOC_OPEN_SESSION": "open_session",
    "TEE_IOC_INVOKE": "invoke_func",
    "TEE_IOC_OBJECT_INVOKE": "object_invoke_func",
    "TEE_IOC_CANCEL": "cancel_req",
    "TEE_IOC_CLOSE_SESSION": "close_session",
    "TEE_IOC_SUPPL_RECV": "supp_recv",
    "TEE_IOC_SUPPL_SEND": "supp_send",
    "TEE_IOC_TASK": "invoke_func",
    "TEE_IOC_LOAD_TS": "load_ts",
    "TEE_IOC_GET_TS_LIST": "get_ts_list",
}

COMMAND = Command(
    "abi",
    "Print a table of what clients and trusted applications find here.",
    [
        Option("--json", "for programs"),
        Option("--markdown", "as docs/abi.md has it"),
    ],
    " | ".join(TABLES),
    mixed=True,
)

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]  # heads, and rows


def main(arguments: Sequence[str]) -> int:
    given = COMMAND.parse(arguments)
    if given.has("--help"):
        lines = columns(list(TABLES.items()))
        sys.stdout.write(COMMAND.help("\n".join(["tables:", *lines])))
        return 0
    if len(given.words) != 1:
        raise COMMAND.error("which table?", f"they are {', '.join(TABLES)}")
    (name,) = given.words
    if name not in TABLES:
        near = similar(name, list(TABLES))
        hint = f"did you mean {near}?" if near else f"the tables are {', '.join(TABLES)}"
        raise COMMAND.error(f"no table {name!r}", hint)
    heads, rows = table(name)
    if given.has("--json"):
        import json

        keys = [head.replace(" ", "_") for head in heads]
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2))
    elif given.has("--markdown"):
        sys.stdout.write(markdown(heads, rows))
    else:
        _print(heads, rows)
    return 0


def table(name: str) -> Table:
    """One of TABLES."""
    return {
        "algorithms": _algorithms,
        "types": _types,
        "system-calls": _system_calls,
        "ioctls": _ioctls,
        "pseudo-tas": _pseudo_tas,
    }[name]()


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for docs/abi.md and docs/compatibility.md."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _algorithms() -> Table:
    from gentee.abi.gp_crypto import type_name
    from gentee.crypto import algorithms

    heads = ("id", "name", "class", "keys", "bits", "by", "note")
    rows: list[tuple[str, ...]] = []
    for row in algorithms.table():
        keys = ", ".join(map(type_name, row.keys))
        by = row.implementation
        rows.append(
            (f"{row.id:#010x}", row.name, row.class_name, keys, row.key_sizes, by, row.note)
        )
    return heads, rows


def _types() -> Table:
    from gentee.abi.gp_crypto import type_name
    from gentee.crypto.algorithms import type_sizes
    from gentee.crypto.object_types import TYPES

    heads = ("id", "name", "bits")
    return heads, [
        (f"{number:#010x}", type_name(number), type_sizes(number)) for number in sorted(TYPES)
    ]


def _system_calls() -> Table:
    from gentee.ta.svc.table import TABLE

    heads = ("number", "name", "parameters", "support")
    return heads, [(str(row.number), row.name, row.parameters, row.level) for row in TABLE]


def _ioctls() -> Table:
    from gentee.abi import gentee_tee, linux_tee
    from gentee.core.driver import TeeDriverOps
    from gentee.device.ioctls import IOCTLS
    from gentee.drivers.soft.call import SoftOps
    from gentee.drivers.soft.supp import SoftSuppOps

    devices = {"/dev/tee0": SoftOps, "/dev/teepriv0": SoftSuppOps}
    heads = ("number", "name", "header", "of the software TEE")
    rows: list[tuple[str, ...]] = []
    for header, module in (("<linux/tee.h>", linux_tee), ("<gentee/tee.h>", gentee_tee)):
        names = {
            number: name
            for name, number in vars(module).items()
            if name.startswith("TEE_IOC_") and number in IOCTLS
        }
        for number in sorted(names, key=lambda number: number & 0xFF):
            operation = _OPERATIONS.get(names[number], "get_version")
            having = [
                path
                for path, ops in devices.items()
                if getattr(ops, operation) is not getattr(TeeDriverOps, operation)
            ]
            support = ", ".join(having) or "EINVAL, as of OP-TEE's driver"
            rows.append((f"{number:#010x}", names[number], header, support))
    return heads, rows


def _pseudo_tas() -> Table:
    import importlib

    from gentee.secure.pta import PSEUDO_TAS

    rows: list[tuple[str, ...]] = []
    for uuid, place in PSEUDO_TAS.items():
        module_name, _, class_name = place.partition(":")
        module = importlib.import_module(module_name)
        # The first sentence of such a module names it, and OP-TEE's source of the same.
        first, _, _ = (module.__doc__ or "").partition("\n\n")
        about = " ".join(first.replace("``", "").split()).partition(". ")[0].removesuffix(".")
        rows.append((uuid, getattr(module, class_name).name, about))
    return ("uuid", "name", "what"), rows


def _print(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from gentee.cli.terminal import Style

    style = Style(sys.stdout)
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(text.rstrip() if number else style.bold(text.rstrip()))
