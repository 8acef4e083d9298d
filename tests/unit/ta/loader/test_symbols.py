# SPDX-License-Identifier: BSD-2-Clause
"""Symbol tables with both kinds of hash tables, and damaged ones."""

from struct import pack

import pytest

from gentee.abi import elf
from gentee.errors import TaImageError
from gentee.ta.loader import symbols as module
from gentee.ta.loader.symbols import SymbolTable
from tests.ta_build import ARCHES
from tests.ta_run import LIBRARY, library_image

SPAN = 0x10000


def table(
    names: list[bytes], hash_table: bytes | None = None, gnu_hash_table: bytes | None = None
) -> SymbolTable:
    """64-bit symbols, values 0x100, 0x200 and so on."""
    strings = b"\0"
    entries = bytes(24)
    for number, name in enumerate(names, 1):
        entries += elf.Elf64_Sym.pack(len(strings), 0x11, 0, 1, number * 0x100, 0)
        strings += name + b"\0"
    return SymbolTable(False, entries, strings, SPAN, hash_table, gnu_hash_table)


def one_chain(count: int) -> bytes:
    chain = [0, *range(2, count + 1), 0]
    return pack(f"<{3 + len(chain)}I", 1, count + 1, 1, *chain)


def gnu_table(names: list[bytes], bloom: int = (1 << 64) - 1) -> bytes:
    hashes = [elf.gnu_hash(name) & ~1 for name in names]
    hashes[-1] |= 1
    return pack("<4IQI", 1, 1, 1, 6, bloom, 1) + pack(f"<{len(names)}I", *hashes)


NAMES = [b"first", b"second", b"fir", b"third"]


@pytest.mark.parametrize("kind", ["hash", "gnu"])
def test_lookup(kind: str) -> None:
    if kind == "hash":
        found = table(NAMES, hash_table=one_chain(4))
    else:
        found = table(NAMES, gnu_hash_table=gnu_table(NAMES))
    for number, name in enumerate(NAMES, 1):
        assert found.lookup(name) == (number * 0x100, False)
    for name in (b"", b"firs", b"first\0second", b"fourth"):
        assert found.lookup(name) is None


def test_the_hash_table_decides() -> None:
    assert table(NAMES).lookup(b"first") is None  # no table, no symbols
    assert table(NAMES, hash_table=one_chain(2)).lookup(b"third") is None
    both = table(NAMES, hash_table=one_chain(4), gnu_hash_table=gnu_table(NAMES[:2]))
    assert both.lookup(b"second") is not None
    assert both.lookup(b"third") is None
    assert table(NAMES, gnu_hash_table=gnu_table(NAMES, bloom=0)).lookup(b"first") is None


@pytest.mark.parametrize("arch", ARCHES)
def test_a_linkers_tables(arch: str) -> None:
    image = library_image(arch, LIBRARY)
    assert image.symbols is not None
    found = {name: image.symbols.lookup(name) for name in (b"both", b"lib_add", b"lib_value")}
    assert all(symbol is not None and not symbol.absolute for symbol in found.values())
    assert image.symbols.lookup(b"main_value") is None  # undefined there


@pytest.mark.parametrize(
    "words", [(0, 1, 1, 6, 0), (1, 1, 0, 6, 0), (1, 1, 1, 64, 0, 0, 0), (9, 1, 1, 6, 0, 0)]
)
def test_a_damaged_gnu_hash_table(words: tuple[int, ...]) -> None:
    with pytest.raises(TaImageError):
        table(NAMES, gnu_hash_table=pack(f"<{len(words)}I", *words))


def test_a_gnu_chain_past_the_symbols() -> None:
    strange = pack("<4IQI", 1, 1, 1, 6, (1 << 64) - 1, 1) + pack("<I", elf.gnu_hash(b"x") & ~1) * 9
    with pytest.raises(TaImageError, match="index is out of range"):
        table([b"a"], gnu_hash_table=strange).lookup(b"x")


def test_an_endless_chain() -> None:
    endless = pack("<6I", 1, 3, 1, 0, 2, 1)
    with pytest.raises(TaImageError, match="no end"):
        table([b"a", b"b"], hash_table=endless).lookup(b"c")


def test_work_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORK_LIMIT", 10)
    found = table(NAMES, hash_table=one_chain(4))
    found.lookup(b"a")
    found.lookup(b"b")
    with pytest.raises(TaImageError, match="too long"):
        found.lookup(b"c")
    found.begin()
    assert found.lookup(b"third") is not None


def test_values_have_bounds() -> None:
    strings = b"\0x\0"
    entries = bytes(24) + elf.Elf64_Sym.pack(1, 0x11, 0, 1, SPAN + 1, 0)
    with pytest.raises(TaImageError, match="out of range"):
        SymbolTable(False, entries, strings, SPAN, one_chain(1)).lookup(b"x")
    entries = bytes(24) + elf.Elf64_Sym.pack(9, 0x11, 0, 1, 0, 0)
    with pytest.raises(TaImageError, match="name is out of range"):
        SymbolTable(False, entries, strings, SPAN, one_chain(1)).lookup(b"x")
