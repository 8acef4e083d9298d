# SPDX-License-Identifier: BSD-2-Clause
"""A service's code: what it imports, and packages that no honest tool wrote."""

import ast
import io
import json
import zipfile

import pytest

from gentee.abi.service_package import MANIFEST, MAX_FILES
from gentee.errors import TaImageError
from gentee.ta import loading


def pack(files: dict[str, bytes], *, main: str = "keeper.py", compression: int = 0) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        archive.writestr(MANIFEST, json.dumps({"format": 1, "main": main}))
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


PACKAGE = {
    "keeper.py": b"import rooms.cellar\n",
    "rooms/__init__.py": b"",
    "rooms/cellar.py": b"x = 1",
    "notes.txt": b"text",
}


def test_plain_source() -> None:
    code = loading.read(b"x = 1\n\0", "<service>")
    assert (code.main, code.modules["service"].text, code.files) == ("service", b"x = 1\n", {})


def test_package() -> None:
    code = loading.read(pack(PACKAGE), "")
    assert code.main == "keeper"
    assert sorted(code.modules) == ["keeper", "rooms", "rooms.cellar"]
    assert code.modules["rooms"].is_package
    assert code.files["notes.txt"] == b"text"


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("import os", [("os", ())]),
        ("import os.path as p, json", [("os.path", ()), ("json", ())]),
        ("from os import path, sep", [("os", ("path", "sep"))]),
        ("from os import *", [("os", ("*",))]),
        ("from . import x", []),
        ("from .x import y", []),
        ("def f():\n  import a", [("a", ())]),
        ("async def f():\n  async with x:\n    import a", [("a", ())]),
        ("class C:\n  def f(self):\n    if 1:\n      pass\n    else:\n      import a", [("a", ())]),
        ("try:\n  import a\nexcept E:\n  import b\nelse:\n  import c\nfinally:\n  import d",
         [("a", ()), ("b", ()), ("c", ()), ("d", ())]),
        ("match x:\n  case 1:\n    import a", [("a", ())]),
        ("for x in y:\n  while x:\n    import a", [("a", ())]),
        ("x = lambda: __import__('a')", []),
    ],
)  # fmt: skip
def test_imports(source: str, wanted: list[tuple[str, tuple[str, ...]]]) -> None:
    found = [(w.name, tuple(w.parts)) for w in loading.imports_of(ast.parse(source))]
    assert sorted(found) == sorted(wanted)


def test_imports_that_fail_are_told_of() -> None:
    code = loading.read(b"import json\nimport no_such_module\n", "")
    assert loading.import_outside(code) == {
        "no_such_module": "ModuleNotFoundError: No module named 'no_such_module'"
    }


@pytest.mark.parametrize(
    "name",
    ["../x.py", "/etc/passwd", "a//b", "a/./b", "a\\b", "c:x", "a\nb", "x" * 300, "a/" * 9 + "b"],
)
def test_names_that_lead_elsewhere(name: str) -> None:
    with pytest.raises(TaImageError):
        loading.read_package(pack({name: b""}))


def test_a_name_twice() -> None:
    data = pack({"keeper.py": b"1", "keepes.py": b"2"}).replace(b"keepes.py", b"keeper.py")
    with pytest.raises(TaImageError, match="twice"):
        loading.read_package(data)


def test_compressed() -> None:
    with pytest.raises(TaImageError, match="stored"):
        loading.read_package(pack({"bomb": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED))


def test_too_many() -> None:
    with pytest.raises(TaImageError, match="there may be"):
        loading.read_package(pack({f"f{number}": b"" for number in range(MAX_FILES)}))


def test_entries_that_share_their_bytes() -> None:
    """The bomb of overlapping files: larger than the package in sum."""
    data = bytearray(pack({"a": bytes(4000), "b": bytes(4000), "c": bytes(4000)}))
    first = data.index(b"PK\x01\x02", 4)
    entry, last = data[first : first + 46 + len(MANIFEST)], data[-22:]
    last[8:12] = 2 * (40).to_bytes(2, "little")
    last[12:16] = (40 * len(entry)).to_bytes(4, "little")
    with pytest.raises(TaImageError):
        loading.read_package(bytes(data[:first] + 40 * entry + last))


def test_every_byte_that_is_wrong() -> None:
    """A damaged package is refused, or has the same names; never another exception."""
    data = pack(PACKAGE)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        try:
            loading.read(bytes(damaged), "")
        except TaImageError:
            pass
        try:
            loading.read(data[:position], "")
        except TaImageError:
            pass


@pytest.mark.parametrize("main", ["missing.py", "notes.txt", "", "../keeper.py"])
def test_no_main(main: str) -> None:
    with pytest.raises(TaImageError, match="main"):
        loading.read(pack(PACKAGE, main=main), "")


def test_a_module_with_a_name_of_pythons() -> None:
    code = loading.read(pack({"keeper.py": b"", "json.py": b""}), "")
    with pytest.raises(TaImageError, match="json"):
        loading.run(code, lambda: pytest.fail("locked"))
