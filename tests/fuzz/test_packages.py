# SPDX-License-Identifier: BSD-2-Clause
"""Both readers of packages, the TEE's and the one in a service's process, see the same files.

What the TEE takes the service's process takes, with the same names and bytes: else something would
run that nobody has looked at. Anything else is one error of one kind.
"""

import json
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gentee.abi.service_package import MANIFEST, MANIFEST_KEYS
from gentee.errors import TaImageError
from gentee.secure import package
from gentee.ta import loading
from tests.unit.secure.test_package import MAIN, manifest, zipped

FILES = (
    (MANIFEST, manifest()),
    ("service.py", MAIN),
    ("rooms/__init__.py", b""),
    ("rooms/cellar.py", b"x = 1\n"),
    ("räume.txt", b"text"),
)


@cache
def good() -> bytes:
    return zipped(*FILES)


def look(data: bytes) -> bool:
    """Whether the TEE takes ``data``."""
    try:
        files = loading.read_package(data)
    except TaImageError:
        files = {}
    try:
        loading.read(data, "<service>")
    except TaImageError:
        pass
    try:
        taken = package.read(data)
    except TaImageError:
        return False
    assert taken.files == files
    code = loading.read(data, "<service>")
    assert f"{code.main}.py" == taken.main
    assert code.modules[code.main].text == taken.files[taken.main]
    assert json.loads(files[MANIFEST]) == taken.manifest
    return True


def test_a_good_one() -> None:
    assert look(good())


def test_a_name_in_another_encoding() -> None:
    """What is not said to be UTF-8 each reader could take for something else."""
    data = bytearray(zipped(*FILES[:2], ("notes.txt", b"")))
    for magic, at in ((b"PK\x03\x04", 30), (b"PK\x01\x02", 46)):
        data[data.rindex(magic) + at] = 0x82
    assert not look(bytes(data))


@given(st.binary(max_size=300))
@example(b"PK\x03\x04")
def test_any_bytes(data: bytes) -> None:
    assert not look(data)
    assert not look(b"PK\x03\x04" + data)
    look(good() + data)
    look(data + good())


@given(st.data())
def test_damage(data: st.DataObject) -> None:
    """A few bytes anywhere, most of them in the headers, where they mean something."""
    content = bytearray(good())
    starts = [at for at in range(len(content)) if content[at : at + 2] == b"PK"]
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.sampled_from(starts))
        at = min(start + data.draw(st.integers(0, 60)), len(content) - 1)
        if data.draw(st.booleans()):
            content[at] = data.draw(st.sampled_from([0, 1, 8, 0x20, 0x2E, 0x2F, 0x80, 0xFF]))
        else:
            content[at : at + 4] = data.draw(
                st.one_of(st.integers(0, len(content) + 30), st.sampled_from([0xFFFFFFFF, 1 << 31]))
            ).to_bytes(4, "little")
    look(bytes(content))


@given(st.data())
def test_pieces(data: st.DataObject) -> None:
    """The parts of a package in any order, each any number of times."""
    content = good()
    cuts = [at for at in range(len(content)) if content[at : at + 2] == b"PK"] + [len(content)]
    parts = [content[start:end] for start, end in pairwise(cuts)]
    chosen = data.draw(st.lists(st.sampled_from(parts), max_size=14))
    look(b"".join(chosen) + parts[-1])


_PARTS = ["a", "b.py", "..", ".", "", "\\", "c:", "__init__.py"]
_NAMES = st.one_of(
    st.text(max_size=12),
    st.lists(st.sampled_from(_PARTS), max_size=10).map("/".join),
    st.sampled_from([MANIFEST, "service.py", "service.py/x"]),
)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@given(st.lists(st.tuples(_NAMES, st.binary(max_size=20)), max_size=6))
def test_any_names(files: list[tuple[str, bytes]]) -> None:
    look(zipped(*FILES[:2], *files))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*MANIFEST_KEYS, "other"]), _VALUES, max_size=3))
def test_any_manifest(changed: dict[str, object]) -> None:
    look(zipped((MANIFEST, manifest(**changed)), FILES[1]))


@given(st.text(max_size=40))
def test_any_text_as_a_manifest(text: str) -> None:
    assert not look(zipped((MANIFEST, text.encode("utf-8", "surrogatepass")), FILES[1]))
