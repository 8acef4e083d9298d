# SPDX-License-Identifier: BSD-2-Clause
"""Imports inside gentee point one way: from a folder to those below it.

The ground is abi, errors and trace. Above it linux; then crypto; then core; then secure and ta,
side by side; then drivers; then device and client; then cli. Two rules are stricter than the order:
core knows no driver (drivers register with it), and ta takes only the ground, linux and crypto, so
that the untrusted process carries little code.

Every import counts, also inside functions and under TYPE_CHECKING, and so does a module's name
given as a literal to importlib.import_module(). Only secure, which starts ta, may name it so.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "gentee"

GROUND = {"abi", "errors", "trace"}
BELOW_SECURE = GROUND | {"linux", "crypto", "core"}
BELOW_DEVICE = BELOW_SECURE | {"secure", "ta", "drivers"}
BELOW_CLI = BELOW_DEVICE | {"device", "client"}

# What each folder or module of gentee/ may import besides itself. A new one needs a row here.
MAY_IMPORT: dict[str, set[str]] = {
    "abi": set(),
    "errors": {"abi"},
    "trace": {"abi", "errors"},
    "linux": GROUND,
    "crypto": GROUND | {"linux"},
    "core": GROUND | {"linux", "crypto"},
    "ta": GROUND | {"linux", "crypto"},
    "secure": BELOW_SECURE,
    "drivers": BELOW_SECURE | {"secure", "ta"},
    "device": BELOW_DEVICE,
    "client": BELOW_DEVICE | {"device"},  # a client comes in through a door
    "conformance": {"errors"},  # it runs the gentee command, and reads what comes
    "cli": BELOW_CLI | {"conformance"},
    "examples": BELOW_CLI,  # programs and TAs as a user would write them
    "__main__": {"cli"},
    "__init__": set(),
}

# The same, for import_module("gentee.ta...") and nothing else.
MAY_NAME: dict[str, set[str]] = {"secure": {"ta"}}


class Import(NamedTuple):
    """One imported module: its full name, where, and whether an import statement names it."""

    module: str
    line: int
    is_statement: bool


def module_name(path: Path, root: Path) -> str:
    """gentee/core/shm.py -> gentee.core.shm, gentee/core/__init__.py -> gentee.core.__init__."""
    return ".".join(path.relative_to(root).with_suffix("").parts)


def part_of(module: str) -> str:
    """The folder or module of gentee/ that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports_of(source: str, module: str) -> Iterator[Import]:
    """The modules of gentee that a source imports, wherever in the file."""
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, True)
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                base = package[: len(package) - node.level + 1] + base
            if base == [PACKAGE]:
                # from gentee import core, __version__: the first is a module, the second is not.
                for alias in node.names:
                    known = alias.name in MAY_IMPORT
                    yield Import(f"{PACKAGE}.{alias.name}" if known else PACKAGE, node.lineno, True)
            else:
                yield Import(".".join(base), node.lineno, True)
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = node.func.id if isinstance(node.func, ast.Name) else called
            name = node.args[0]
            if (
                called in ("import_module", "__import__")
                and isinstance(name, ast.Constant)
                and isinstance(name.value, str)
            ):
                yield Import(name.value, node.lineno, False)


def wrong_imports(root: Path) -> list[str]:
    """A line "file:line: what is wrong" for each import that breaks the rules."""
    wrong = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        where = path.relative_to(root)
        module = module_name(path, root)
        part = part_of(module)
        if part not in MAY_IMPORT:
            wrong.append(f"{where}:1: gentee/{part} is new: give it a row in MAY_IMPORT")
            continue
        for found in imports_of(path.read_text(encoding="utf-8"), module):
            if found.module != PACKAGE and not found.module.startswith(f"{PACKAGE}."):
                continue
            target = part_of(found.module)
            allowed = MAY_IMPORT[part] | {part, "__init__"}
            if not found.is_statement:
                allowed |= MAY_NAME.get(part, set())
            if target not in allowed:
                wrong.append(f"{where}:{found.line}: {part} may not import {found.module}")
    return wrong


def test_imports_point_one_way() -> None:
    wrong = wrong_imports(ROOT)
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_table_has_no_cycle() -> None:
    rows = {part: set(below) for part, below in MAY_IMPORT.items()}
    while rows:
        free = {part for part, below in rows.items() if not below & rows.keys()}
        assert free, f"these import each other: {sorted(rows)}"
        rows = {part: below for part, below in rows.items() if part not in free}


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("core/shm.py", "import os\nimport gentee.drivers.soft\n", "2: core may not import"),
        ("core/shm.py", "def f():\n    from gentee.device import x\n", "2: core may not import"),
        ("core/shm.py", "from gentee import abi, drivers\n", "1: core may not import"),
        ("core/shm.py", "from .. import drivers\n", "1: core may not import"),
        ("core/__init__.py", "from ..drivers import soft\n", "1: core may not import"),
        ("core/a.py", 'import_module("gentee.drivers.soft")\n', "1: core may not import"),
        ("linux/memory.py", "from gentee.core.shm import Shm\n", "1: linux may not import"),
        ("ta/svc/hash.py", "from gentee.core import shm\n", "1: ta may not import"),
        ("ta/svc/hash.py", "from ...secure import store\n", "1: ta may not import"),
        ("secure/ta.py", "import gentee.ta.engine\n", "1: secure may not import"),
        ("abi/gp.py", "from gentee.errors import TeeError\n", "1: abi may not import"),
        ("errors.py", "from gentee import trace\n", "1: errors may not import"),
        ("crypto/ae.py", "from gentee.core import shm\n", "1: crypto may not import"),
        ("drivers/soft/core.py", "import gentee.device.agent\n", "1: drivers may not import"),
        ("device/agent.py", "import gentee.cli.main\n", "1: device may not import"),
        ("news/a.py", "", "1: gentee/news is new"),
        (
            "core/shm.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import gentee.secure\n",
            "3: core may not import",
        ),
    ],
)
def test_wrong_import_is_found(tmp_path: Path, file: str, source: str, complaint: str) -> None:
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    (found,) = wrong_imports(tmp_path)
    assert found.startswith(f"{PACKAGE}/{file}:{complaint}")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("core/shm.py", "import os\nfrom gentee import __version__\nfrom gentee.abi import gp\n"),
        ("core/shm.py", "from . import params\nfrom ..linux import memfd\n"),
        ("core/__init__.py", "from .shm import Shm\nfrom . import shm\n"),
        ("ta/svc/hash.py", "from gentee.crypto import hashes\nfrom ..engine import run\n"),
        ("secure/instance.py", 'importlib.import_module("gentee.ta.main")\n'),
        ("client/context.py", "from gentee.device import inproc\n"),
        ("cli/main.py", "import gentee.device.agent, gentee.client, gentee.ta\n"),
        ("__main__.py", "from gentee.cli.main import main\n"),
    ],
)
def test_right_import_is_let_through(tmp_path: Path, file: str, source: str) -> None:
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert wrong_imports(tmp_path) == []
