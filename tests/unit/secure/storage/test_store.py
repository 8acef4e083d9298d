# SPDX-License-Identifier: BSD-2-Clause
"""Objects in the state file: kept from one start to the next, within limits, each on its own."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gentee.errors import (
    AccessConflict,
    CorruptObject,
    ItemNotFound,
    StorageNoSpace,
    StorageNotAvailable,
)
from gentee.secure.state import FILE, State
from gentee.secure.storage import store as store_module
from gentee.secure.storage.content import CHUNK, FANOUT, MAX_SIZE
from gentee.secure.storage.head import Head, ObjectType
from gentee.secure.storage.seal import SECRET_FILE
from gentee.secure.storage.store import REE, RPMB, ObjectStore, StoredObject

TA, OTHER = bytes(16), bytes(range(16))
KIND = ObjectType(0xA00000BF, 1, 2, 3, 4, b"attributes")
NOTHING = memoryview(b"")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


class Kept:
    """A store that can be stopped and started."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.start()

    def start(self) -> None:
        self.state = State(str(self.folder) if self.folder else None)
        self.store = ObjectStore(lambda: self.state)

    def restart(self) -> ObjectStore:
        self.state.close()
        self.start()
        return self.store

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Of the stopped store."""
        self.state.close()
        connection = sqlite3.connect((self.folder or Path()) / FILE)
        with connection:
            rows = connection.execute(statement, values).fetchall()
        connection.close()
        self.start()
        return rows

    def behind_the_index(self, statement: str) -> None:
        """The same, while the index of slots stays what it was."""
        name = "name = 'object_slots'"
        ((root, text),) = self.sql(f"SELECT rootpage, sql FROM sqlite_master WHERE {name}")
        self._schema(f"DELETE FROM sqlite_master WHERE {name}")
        self.sql(statement)
        self._schema(
            "INSERT INTO sqlite_master VALUES ('index', 'object_slots', 'objects', ?, ?)",
            root, text,
        )  # fmt: skip

    def _schema(self, statement: str, *values: object) -> None:
        self.state.close()
        connection = sqlite3.connect((self.folder or Path()) / FILE)
        connection.execute("PRAGMA writable_schema = ON")
        with connection:
            connection.execute(statement, values)
        connection.close()
        self.start()


@pytest.fixture
def kept(folder: Path) -> Iterator[Kept]:
    kept = Kept(folder)
    yield kept
    kept.state.close()


def create(store: ObjectStore, name: bytes, data: bytes = b"", area: int = REE) -> StoredObject:
    return store.create(area, TA, name, KIND, memoryview(data))


def content(store: ObjectStore, stored: StoredObject, position: int = 0) -> bytes:
    out = bytearray(max(stored.head.data_size - position, 0))
    assert store.read(stored, position, memoryview(out)) == len(out)
    return bytes(out)


def test_heads() -> None:
    head = Head(b"name", KIND, 1234)
    head.data_size = 1 << 33
    head.version = 77
    head.changed = 2345
    head.levels = 1
    head.versions.extend([0, 5, 1 << 60])
    for other in (Head.decode(head.encode()), head.copy()):
        for field in ("name", "created", "changed", "data_size", "version", "levels", "versions"):
            assert getattr(other, field) == getattr(head, field)
        for field in KIND.__slots__:
            assert getattr(other.kind, field) == getattr(KIND, field)
    data = head.encode()
    for damaged in (b"", data[:20], data[:-1], b"\x02" + data[1:], data[:2] + b"\xff" + data[3:]):
        with pytest.raises(CorruptObject):
            Head.decode(damaged)


def test_from_one_start_to_the_next(kept: Kept) -> None:
    create(kept.store, b"name", b"some data")
    store = kept.restart()
    found = store.find(REE, TA, b"name")
    assert (found.head.name, found.head.kind.attrs) == (b"name", b"attributes")
    assert content(store, found) == b"some data"
    for area, ta, name in ((RPMB, TA, b"name"), (REE, OTHER, b"name"), (REE, TA, b"Name")):
        with pytest.raises(ItemNotFound):
            store.find(area, ta, name)


def test_nothing_of_an_object_can_be_read_in_the_file(kept: Kept, folder: Path) -> None:
    secret = b"this is a secret, that is long enough not to be there by chance"
    create(kept.store, secret, secret * 100)
    kept.restart()
    kept.state.close()
    for path in folder.iterdir():
        assert secret[:20] not in path.read_bytes()
        assert b"attributes" not in path.read_bytes()


def test_without_its_secret_a_store_is_not_used(kept: Kept, folder: Path) -> None:
    create(kept.store, b"name", b"data")
    secret = (folder / SECRET_FILE).read_bytes()
    (folder / SECRET_FILE).unlink()
    with pytest.raises(StorageNotAvailable, match="missing"):
        kept.restart().find(REE, TA, b"name")
    (folder / SECRET_FILE).write_bytes(bytes(32))
    (folder / SECRET_FILE).chmod(0o600)
    with pytest.raises(StorageNotAvailable, match="another device secret"):
        kept.store.find(REE, TA, b"name")
    (folder / SECRET_FILE).write_bytes(secret)
    assert content(kept.store, kept.store.find(REE, TA, b"name")) == b"data"


def test_a_lost_check_is_not_made_anew(kept: Kept, folder: Path) -> None:
    create(kept.store, b"name", b"data")
    (row,) = kept.sql("SELECT secret_check FROM storage_key")
    kept.sql("DELETE FROM storage_key")
    for _ in range(2):
        with pytest.raises(StorageNotAvailable, match="lost"):
            kept.store.find(REE, TA, b"name")
    kept.sql("INSERT INTO storage_key VALUES (1, ?)", *row)
    assert content(kept.store, kept.store.find(REE, TA, b"name")) == b"data"


def test_without_a_folder(tmp_path: Path) -> None:
    kept = Kept(None)
    create(kept.store, b"name", b"data")
    assert content(kept.store, kept.store.find(REE, TA, b"name")) == b"data"
    with pytest.raises(ItemNotFound):
        kept.restart().find(REE, TA, b"name")
    assert not list(tmp_path.iterdir())


def test_levels(kept: Kept) -> None:
    """Beyond FANOUT chunks the head has versions of nodes, until there is nothing left."""
    store = kept.store
    stored = create(store, b"x", b"start")
    last = FANOUT * CHUNK
    store.write(stored, last - 1, memoryview(b"ab"))
    assert stored.head.levels == 1
    store.write(stored, 3 * last + 5, memoryview(b"end"))
    store.write(stored, MAX_SIZE - 3, memoryview(b"MAX"))
    store = kept.restart()
    stored = store.find(REE, TA, b"x")
    assert stored.head.data_size == MAX_SIZE
    for position, expected in (
        (0, b"start\0"),
        (last - 2, b"\0ab\0"),
        (3 * last + 4, b"\0end\0"),
        (MAX_SIZE - 4, b"\0MAX"),
        (2 * last, bytes(10)),
    ):
        out = bytearray(len(expected))
        assert store.read(stored, position, memoryview(out)) == len(out)
        assert out == expected
    store.check(stored)
    with pytest.raises(StorageNoSpace):
        store.write(stored, MAX_SIZE - 1, memoryview(b"ab"))
    with pytest.raises(StorageNoSpace):
        store.truncate(stored, MAX_SIZE + 1)
    store.truncate(stored, last + 1)
    store.check(stored)
    assert content(store, stored, last - 3) == b"\0\0ab"
    store.truncate(stored, 3)
    store.check(stored)
    assert content(store, stored) == b"sta"
    store.truncate(stored, 0)
    assert stored.head.levels == 0
    assert stored.room == 1
    store.write(stored, 2, memoryview(b"x"))
    assert content(store, stored) == b"\0\0x"
    store.check(stored)
    assert len(kept.sql("SELECT id FROM object_chunks")) == 1


def test_a_part_costs_what_it_costs(kept: Kept) -> None:
    """A byte in 4 MiB: its chunk and the head are written, nothing else."""
    stored = create(kept.store, b"x", bytes(4 << 20))
    before = dict(kept.sql("SELECT id, chunk FROM object_chunks"))
    stored = kept.store.find(REE, TA, b"x")
    kept.store.write(stored, 2 << 20, memoryview(b"x"))
    after = dict(kept.sql("SELECT id, chunk FROM object_chunks"))
    assert [row for row in after if after[row] != before[row]] == [
        (stored.row << 20) + (2 << 20) // CHUNK
    ]


def test_renamed(kept: Kept) -> None:
    store = kept.store
    one = create(store, b"one", b"1")
    two = create(store, b"two", b"2")
    with pytest.raises(AccessConflict):
        store.rename(one, b"two")
    store.rename(one, b"three")
    store.write(one, 1, memoryview(b"!"))
    store = kept.restart()
    assert content(store, store.find(REE, TA, b"three")) == b"1!"
    with pytest.raises(ItemNotFound):
        store.find(REE, TA, b"one")
    store.delete(REE, TA, b"two")
    with pytest.raises(ItemNotFound):
        store.rename(two, b"four")
    with pytest.raises(ItemNotFound):
        store.delete(REE, TA, b"two")


def test_what_has_no_name_any_more_goes_at_the_next_start(kept: Kept) -> None:
    store = kept.store
    old = create(store, b"x", b"old")
    store.create(REE, TA, b"x", KIND, memoryview(b"new"), overwrite=True, keep=True)
    old.lookup = None
    store.write(old, 3, memoryview(b"er"))
    assert content(store, old) == b"older"
    gone = create(store, b"gone", b"data")
    store.delete(REE, TA, b"gone", keep=True)
    gone.lookup = None
    assert content(store, gone) == b"data"
    assert len(kept.sql("SELECT id FROM objects")) == 3
    found = kept.store.find(REE, TA, b"x")
    assert content(kept.store, found) == b"new"
    assert len(kept.sql("SELECT id FROM objects")) == 1
    assert len(kept.sql("SELECT id FROM object_chunks")) == 1


def test_forgotten(kept: Kept) -> None:
    store = kept.store
    old = create(store, b"x", bytes(100000))
    store.delete(REE, TA, b"x", keep=True)
    old.lookup = None
    store.forget(old)
    assert kept.sql("SELECT id FROM objects") == kept.sql("SELECT id FROM object_chunks") == []


def test_room(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_TA_ROOM", 10)
    monkeypatch.setattr(store_module, "_ROOM", 15)
    for _ in range(2):  # what is there is counted at the start
        store = kept.restart()
        stored = create(store, b"x", bytes(CHUNK))
        with pytest.raises(StorageNoSpace):
            store.write(stored, CHUNK, memoryview(bytes(9 * CHUNK)))
        assert content(store, stored) == bytes(CHUNK)
        store.write(stored, CHUNK, memoryview(bytes(8 * CHUNK)))
        store = kept.restart()
        stored = store.find(REE, TA, b"x")
        with pytest.raises(StorageNoSpace):
            create(store, b"y")
        store.write(stored, 0, memoryview(bytes(9 * CHUNK)))  # nothing more than there was
        other = store.create(REE, OTHER, b"x", KIND, memoryview(bytes(4 * CHUNK)))
        with pytest.raises(StorageNoSpace):
            store.write(other, 4 * CHUNK, memoryview(b"x"))
        store.delete(REE, OTHER, b"x")
        store.truncate(stored, 1)
        store.write(stored, 0, memoryview(bytes(9 * CHUNK)))
        store.delete(REE, TA, b"x")


def test_objects(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_OBJECTS", 3)
    for name in (b"a", b"b", b"c"):
        create(kept.store, name)
    with pytest.raises(StorageNoSpace):
        create(kept.store, b"d")
    kept.store.create(REE, TA, b"c", KIND, NOTHING, overwrite=True)
    kept.store.create(REE, OTHER, b"d", KIND, NOTHING)


def test_the_write_counter(kept: Kept) -> None:
    store = kept.store
    assert (store.writes(REE), store.writes(RPMB)) == (0, 0)
    stored = create(store, b"x", b"data", RPMB)
    before = store.writes(RPMB)
    store.write(stored, 0, memoryview(bytes(1024)))
    assert store.writes(RPMB) == before + 4
    assert store.writes(REE) == 0
    kept.sql("UPDATE storage_areas SET writes = 4294967295 WHERE area = 1")
    with pytest.raises(StorageNotAvailable, match="write counter"):
        create(kept.store, b"y", b"data", RPMB)
    with pytest.raises(ItemNotFound):
        kept.store.find(RPMB, TA, b"y")
    create(kept.store, b"y", b"data", REE)


@pytest.mark.parametrize("column", ["area", "ta", "slot", "seal", "lookup", "head", "room"])
@pytest.mark.parametrize("value", [None, -1, 7, 1 << 62, "text", b"", b"x" * 16, 1.5])
def test_damaged_rows(kept: Kept, column: str, value: object) -> None:
    """Whatever a row has, its object alone is corrupt or gone, and can be made anew."""
    for name in (b"a", b"b", b"c"):
        create(kept.store, name, name * 5)
    try:
        kept.sql(f"UPDATE objects SET {column} = ? WHERE slot = 1", value)
    except sqlite3.IntegrityError:
        return  # SQLite would have found that itself
    store = kept.store
    for name in (b"a", b"c"):
        assert content(store, store.find(REE, TA, name)) == name * 5
    try:
        found = store.find(REE, TA, b"b")
    except (CorruptObject, ItemNotFound):
        store.create(REE, TA, b"b", KIND, memoryview(b"new"), overwrite=True)
        assert content(store, store.find(REE, TA, b"b")) == b"new"
    else:
        assert column == "room"
        assert content(store, found) == b"b" * 5
    for name in (b"a", b"b", b"c"):
        store.delete(REE, TA, name)
    assert store.after(REE, TA, -1) is None or column in ("lookup", "slot")


@pytest.mark.parametrize("row", [-5, 0, 1 << 42, (1 << 63) - 1])
def test_damaged_numbers(kept: Kept, row: int) -> None:
    """A row's number that no object has: chunks would have none in 64 bits."""
    for name in (b"a", b"b", b"c"):
        create(kept.store, name, name * 5)
    kept.sql("UPDATE objects SET id = ? WHERE slot = 1", row)
    store = kept.store
    with pytest.raises(CorruptObject):
        store.find(REE, TA, b"b")
    create(store, b"d", b"more")
    store.delete(REE, TA, b"b")
    store.delete_row(row)
    assert store.after(REE, TA, 0) == (2, store.find(REE, TA, b"c").lookup)
    for name, data in ((b"a", b"a" * 5), (b"c", b"c" * 5), (b"d", b"more")):
        assert content(store, store.find(REE, TA, name)) == data
    assert store.find(REE, TA, b"d").slot == 3


def test_a_damaged_index(kept: Kept) -> None:
    """SQLite returns the rows that an index names: another TA's, in any order, of any type."""
    create(kept.store, b"a", b"mine")
    theirs = kept.store.create(REE, OTHER, b"b", KIND, memoryview(b"theirs"))
    swap = f"UPDATE objects SET ta = CASE ta WHEN x'{TA.hex()}' THEN x'{OTHER.hex()}'"
    swap += f" ELSE x'{TA.hex()}' END"
    kept.sql(swap)
    kept.behind_the_index(swap)
    store = kept.store
    found = store.after(REE, TA, -1)
    assert found == (1, theirs.lookup)
    with pytest.raises(CorruptObject):
        store.at(REE, TA, found[1])
    assert content(store, store.find(REE, TA, b"a")) == b"mine"


@pytest.mark.parametrize("slot", ["text", b"bytes", 2.5])
def test_enumeration_of_damaged_slots(kept: Kept, slot: object) -> None:
    create(kept.store, b"a")
    create(kept.store, b"b")
    kept.sql("UPDATE objects SET slot = ? WHERE slot = 1", slot)
    store = kept.store
    assert store.after(REE, TA, -1) == (0, store.find(REE, TA, b"a").lookup)
    with pytest.raises(CorruptObject):
        store.after(REE, TA, 0)


def test_text_that_is_none(kept: Kept) -> None:
    """It costs its own object, and not the start."""
    create(kept.store, b"a", b"data")
    create(kept.store, b"b", b"data")
    for column in ("ta", "lookup", "head"):
        kept.sql(f"UPDATE objects SET {column} = CAST(x'{'ff' * 16}' AS TEXT) WHERE slot = 1")
        assert content(kept.store, kept.store.find(REE, TA, b"a")) == b"data"
        with pytest.raises((CorruptObject, ItemNotFound)):
            kept.store.find(REE, TA, b"b")


def test_checks(kept: Kept) -> None:
    stored = create(kept.store, b"x", bytes(3 * CHUNK))
    kept.store.check(stored)
    row = (stored.row << 20) + 7
    kept.sql("INSERT INTO object_chunks VALUES (?, x'00')", row)
    found = kept.store.find(REE, TA, b"x")
    assert content(kept.store, found) == bytes(3 * CHUNK)  # nobody looks there
    with pytest.raises(CorruptObject):
        kept.store.check(found)
    kept.sql("DELETE FROM object_chunks WHERE id = ?", row)
    kept.store.check(kept.store.find(REE, TA, b"x"))
    kept.sql("UPDATE object_chunks SET chunk = x'00' WHERE id = ?", row - 6)
    with pytest.raises(CorruptObject):
        kept.store.check(kept.store.find(REE, TA, b"x"))


def test_a_full_disk_changes_nothing(kept: Kept) -> None:
    store = kept.store
    stored = create(store, b"x", b"data")
    kept.state.run(lambda connection: connection.execute("PRAGMA max_page_count = 30"), write=False)
    changes: list[Callable[[], object]] = [
        lambda: store.write(stored, 0, memoryview(bytes(1 << 20))),
        lambda: create(store, b"y", bytes(1 << 20)),
    ]
    for change in changes:
        with pytest.raises(StorageNoSpace):
            change()
    assert content(store, stored) == b"data"
    with pytest.raises(ItemNotFound):
        store.find(REE, TA, b"y")
    store.write(stored, 0, memoryview(b"DATA"))
    assert content(kept.restart(), kept.store.find(REE, TA, b"x")) == b"DATA"


def test_slots_are_used_again(kept: Kept) -> None:
    names = [bytes((n,)) for n in range(20)]
    for name in names:
        create(kept.store, name)
    store = kept.restart()
    for name in names[::3]:
        store.delete(REE, TA, name)
    store = kept.restart()
    assert [create(store, b"new" + name).slot for name in names[::3]] == list(range(0, 20, 3))
    assert create(store, b"one more").slot == 20
