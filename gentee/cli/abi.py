# SPDX-License-Identifier: BSD-2-Clause
"""``gentee abi``: what a trusted application finds, as tables: algorithms, and system calls."""

import sys
from collections.abc import Sequence

from gentee.cli.options import Command, Option, columns, similar

TABLES = {
    "algorithms": "algorithms of the GlobalPlatform API and OP-TEE's own, and what does them",
    "types": "types of cryptographic objects, and their sizes in bits",
    "system-calls": "what an OP-TEE TA can ask for, by number",
}

COMMAND = Command(
    "abi",
    "Print a table of what a trusted application finds here.",
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
    return {"algorithms": _algorithms, "types": _types, "system-calls": _system_calls}[name]()


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for docs/abi.md."""
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


def _print(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from gentee.cli.terminal import Style

    style = Style(sys.stdout)
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(text.rstrip() if number else style.bold(text.rstrip()))
