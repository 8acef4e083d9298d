# SPDX-License-Identifier: BSD-2-Clause
"""Damaged stores: bits that flip, pages in each other's place, files that are cut.

Each opens, and what of its objects is not what it was is said to be damaged; or it is refused with
a reason. Nothing that was never stored comes out.
"""

import contextlib
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gentee.errors import CorruptObject, ItemNotFound, StorageNotAvailable, TeeError
from gentee.secure.state import FILE
from gentee.secure.storage.head import ObjectType
from gentee.secure.storage.seal import SECRET_FILE
from gentee.secure.storage.store import REE
from tests.crash.conftest import ALL
from tests.crash.script import (
    KIND,
    SERVICE,
    Kept,
    Key,
    Store,
    findings,
    found_in,
    models,
    names_of,
    steps,
)

COUNT = 1000 if ALL else 50  # of each kind of store
_STEPS = 150
_PAGE = 4096
_WAL = f"{FILE}-wal"

Damage = Callable[[Path, random.Random], str]


def _flip(path: Path, draw: random.Random) -> str:
    data = bytearray(path.read_bytes())
    places = [draw.randrange(len(data)) for _ in range(draw.choice([1, 1, 1, 4, 32]))]
    for place in places:
        data[place] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    return f"bits flipped at {places}"


def _swap(path: Path, draw: random.Random) -> str:
    data = bytearray(path.read_bytes())
    pages = max(len(data) // _PAGE, 2)
    one, other = (_PAGE * number for number in draw.sample(range(pages), 2))
    data[one : one + _PAGE], data[other : other + _PAGE] = (
        data[other : other + _PAGE],
        data[one : one + _PAGE],
    )
    path.write_bytes(data)
    return f"pages at {one} and {other} swapped"


def _clear(path: Path, draw: random.Random) -> str:
    data = bytearray(path.read_bytes())
    page = _PAGE * draw.randrange(max(len(data) // _PAGE, 1))
    data[page : page + _PAGE] = bytes(len(data[page : page + _PAGE]))
    path.write_bytes(data)
    return f"page at {page} cleared"


def _cut(path: Path, draw: random.Random) -> str:
    size = path.stat().st_size
    left = draw.choice([draw.randrange(size), draw.randrange(0, size, min(_PAGE, size)), 0])
    with path.open("r+b") as file:
        file.truncate(left)
    return f"cut at {left} of {size}"


def _remove(path: Path, draw: random.Random) -> str:
    path.unlink()
    return "removed"


_DAMAGES: list[Damage] = [_flip, _flip, _flip, _swap, _swap, _clear, _cut, _remove]


class Base(NamedTuple):
    """A store in a folder, what was in it after each operation, and whether these are counted."""

    folder: Path
    kept: list[Kept]
    counter: bool


@pytest.fixture(scope="module", params=["closed", "killed", "closed, counter", "killed, counter"])
def base(request: pytest.FixtureRequest, in_memory: Path) -> Iterator[Base]:
    """A store. One that was killed has most of it in the log still."""
    folder = in_memory / "base"
    folder.mkdir(mode=0o700)
    counter = "counter" in request.param
    store = Store(folder, counter=counter)
    script = steps(_STEPS)
    for _name, do, _expect in script:
        do(store)
    copy = in_memory / "copy"
    if "killed" in request.param:
        shutil.copytree(folder, copy)
    store.close()
    if not copy.exists():
        shutil.copytree(folder, copy)
    shutil.rmtree(folder)
    yield Base(copy, models(script), counter)
    shutil.rmtree(copy)


def _look(folder: Path, base: Base) -> str:
    """What becomes of a damaged store; what may not be fails.

    :return: ``refused``, ``reported``, ``whole``, or ``older``: as it once was.
    """
    store = Store(folder, counter=base.counter)
    try:
        try:
            store.objects.open()
            found = findings(store)
        except TeeError as error:
            return "refused" if error.detail else "without a reason"
        keys = names_of(base.kept)
        wrong = [key for key in keys if not _is_right(store, key, base.kept)]
        if found:
            seen = "reported"
        elif not wrong:
            seen = "whole"
        else:
            assert not base.counter, f"nobody says that {wrong} are damaged"
            assert found_in(store, keys) in base.kept
            seen = "older"
        _use(store, keys)
        return seen
    finally:
        store.close()


def _use(store: Store, keys: set[Key]) -> None:
    """Go on with a damaged store. An operation fails as one, or has happened."""
    for area, ta in {key[:2] for key in keys}:
        slot, numbers = -1, 0
        with contextlib.suppress(TeeError):
            while (following := store.objects.after(area, ta, slot)) is not None:
                slot, lookup = following
                numbers += 1
                assert numbers < 1000, "an enumeration without an end"
                with contextlib.suppress(TeeError):
                    assert store.objects.at(area, ta, lookup).ta == ta
        with contextlib.suppress(TeeError):
            store.objects.lookups(area, ta)
        with contextlib.suppress(TeeError):
            store.objects.writes(area)
    for key in sorted(keys):
        data = b"after the damage" * 3_000 if key[0] == REE else b"after the damage"
        with contextlib.suppress(TeeError):
            stored = store.objects.find(*key)
            store.objects.write(stored, 3, memoryview(data))
            store.objects.truncate(stored, 30)
            store.objects.set_usage(stored, 1)
        with contextlib.suppress(TeeError):
            kind = ObjectType(KIND, attrs=b"new")
            made = store.objects.create(*key, kind, memoryview(data), overwrite=True)
            out = bytearray(len(data))
            store.objects.read(made, 0, memoryview(out))
            assert out == data
            store.objects.rename(made, b"another name")
            store.objects.delete(key[0], key[1], b"another name")
        with contextlib.suppress(TeeError):
            store.objects.delete(*key)
    with contextlib.suppress(TeeError):
        store.state.install(SERVICE, "service", 1 << 20, "{}", bytes(3_000), "signer")
    with contextlib.suppress(TeeError):
        findings(store)


def _is_right(store: Store, key: Key, kept: list[Kept]) -> bool:
    """Whether an object is as it was last, or is not, as then."""
    try:
        stored = store.objects.find(*key)
        data = bytearray(stored.head.data_size)
        store.objects.read(stored, 0, memoryview(data))
    except ItemNotFound:
        return key not in kept[-1].objects
    except (CorruptObject, StorageNotAvailable) as error:
        return not error.detail
    content = stored.head.kind.attrs, bytes(data), stored.head.kind.obj_usage
    once = [each.objects.get(key) for each in kept]
    assert content in once, f"{key} has what was never stored"
    return content == once[-1]


def test_damaged_stores(base: Base, in_memory: Path) -> None:
    seen: Counter[str] = Counter()
    for number in range(COUNT):
        draw = random.Random(number)
        folder = in_memory / f"damaged-{base.counter}-{number}"
        shutil.copytree(base.folder, folder)
        names = [path.name for path in folder.iterdir() if path.stat().st_size]
        names += [name for name in (FILE, _WAL) if name in names] * 3
        path = folder / draw.choice(sorted(names))
        done = draw.choice(_DAMAGES)(path, draw)
        try:
            seen[_look(folder, base)] += 1
        except BaseException as error:
            error.add_note(f"{number}: {path.name}: {done}")
            raise
        finally:
            shutil.rmtree(folder)
    # Not all of it was refused as a whole, and some was no damage to what is stored.
    assert set(seen) <= {"refused", "reported", "whole", "older"}, seen
    assert min(seen["refused"], seen["reported"], seen["whole"]) > 0, seen


def test_neighbours_of_a_damaged_object(tmp_path: Path) -> None:
    """A damaged chunk is found where it is, and other objects stay what they were."""
    tmp_path.chmod(0o700)
    store = Store(tmp_path)
    script = steps(60)
    kept = models(script)
    for _name, do, _expect in script:
        do(store)
    wanted = [key for key, (_attrs, data, _usage) in kept[-1].objects.items() if len(data) > 100]
    assert len(wanted) > 3
    for key in wanted:
        row = store.objects.find(*key).row << 20
        before = _set_chunk(store, row, None)
        wrong = {other for other in kept[-1].objects if not _is_right(store, other, kept)}
        assert wrong == {key}
        assert findings(store) == ["a seal does not hold"]
        _set_chunk(store, row, before)
    assert findings(store) == []
    store.close()


def _set_chunk(store: Store, row: int, chunk: bytes | None) -> bytes:
    """Put bytes into a chunk's row, or zeros; what was there."""

    def put(connection: sqlite3.Connection) -> bytes:
        select = "SELECT chunk FROM object_chunks WHERE id = ?"
        before: bytes = connection.execute(select, (row,)).fetchone()[0]
        now = bytes(len(before)) if chunk is None else chunk
        connection.execute("UPDATE object_chunks SET chunk = ? WHERE id = ?", (now, row))
        return before

    found: bytes = store.state.run(put, write=True)
    return found


def test_another_secret(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    store = Store(tmp_path)
    for _name, do, _expect in steps(20):
        do(store)
    store.close()
    (tmp_path / SECRET_FILE).write_bytes(bytes(32))
    store = Store(tmp_path)
    with pytest.raises(StorageNotAvailable, match="another device secret"):
        store.objects.open()
    store.close()
