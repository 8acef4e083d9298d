# SPDX-License-Identifier: BSD-2-Clause
"""Stored objects, in the tables of the TEE's state file.

There are two areas, as in OP-TEE built with both: files of the normal world (tee_ree_fs.c), which
TEE_STORAGE_PRIVATE is too, and the RPMB of an eMMC (tee_rpmb_fs.c), which is small. What a TA sees
of them is that: the order in which objects are enumerated, how much fits.

Every method is one transaction: it happens whole, and is on disk when the method returns, or not at
all. One thread at a time uses a store.
"""

import heapq
import os
import time
from struct import Struct

from gentee.abi.gp_storage import (
    TEE_STORAGE_PRIVATE,
    TEE_STORAGE_PRIVATE_REE,
    TEE_STORAGE_PRIVATE_RPMB,
)
from gentee.errors import (
    AccessConflict,
    CorruptObject,
    GenericError,
    ItemNotFound,
    StorageNoSpace,
    StorageNotAvailable,
)
from gentee.secure.storage.content import CHUNK, ROW_SHIFT, Change, Content, first_row
from gentee.secure.storage.head import Head, ObjectType
from gentee.secure.storage.seal import SEAL_SIZE, Keys, Sealer, load_secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from typing import Any

    from gentee.secure.state import State

REE, RPMB = range(2)

# tee_svc_storage_file_ops()
AREAS = {
    TEE_STORAGE_PRIVATE: REE,
    TEE_STORAGE_PRIVATE_REE: REE,
    TEE_STORAGE_PRIVATE_RPMB: RPMB,
}

# Limits of the area REE, in chunks: a TA is not trusted with the disk of its machine. An object
# counts one chunk besides those of its data.
MAX_OBJECTS = 1 << 16  # of a TA
_MAX_SLOTS = 1 << 24  # of all TAs, which have no room for so many
_TA_ROOM = (1 << 30) // CHUNK
_ROOM = (4 << 30) // CHUNK
_TA_ROOM_IN_MEMORY = (256 << 20) // CHUNK
_ROOM_IN_MEMORY = (512 << 20) // CHUNK

# The area RPMB is as large as the one that tee-supplicant makes up for a board that has none
# (EMU_RPMB_SIZE_MULT), in blocks. What lies where is not kept: fragments are no reason for
# TEE_ERROR_STORAGE_NO_SPACE.
RPMB_BLOCK = 256
RPMB_BLOCKS = 2 * (128 << 10) // RPMB_BLOCK
_RPMB_BEFORE_FAT = 2  # RPMB_FS_FAT_START_ADDRESS
_RPMB_MAX_WRITES = 0xFFFF_FFFF  # then the device takes no more: JESD84-B51 section 6.6.22

# What numbers of objects may be: within SQLite's 64 bits, with those of their chunks.
_ROWS = range(1, 1 << (62 - ROW_SHIFT))

_PLACE = Struct("<cB16sQ16s")  # "h", area, TA, slot, lookup


class StoredObject:
    """An object that there is, or was: it goes on without a name while somebody has it open.

    :ivar area: REE or RPMB.
    :ivar ta: UUID of the TA whose it is.
    :ivar slot: its place in the directory.
    :ivar room: what it counts in its area: chunks, or blocks of the RPMB.
    :ivar lookup: what its name is found by; None if it has none any more.
    :ivar head: never changed, but replaced when a change of it is on disk.
    :ivar opens: how many handles it has.
    :ivar deleted: whether nothing of it is left.
    """

    __slots__ = (
        "area", "deleted", "head", "lookup", "opens", "room", "row", "sealer", "slot", "ta",
    )  # fmt: skip

    def __init__(
        self, area: int, ta: bytes, row: int, slot: int, room: int, lookup: bytes, sealer: Sealer
    ) -> None:
        self.area = area
        self.ta = ta
        self.row = row
        self.slot = slot
        self.room = room
        self.lookup: bytes | None = lookup
        self.sealer = sealer
        self.opens = 0
        self.deleted = False
        self.head: Head


class _Directory:
    """What is kept in memory of an area: what is in which slot, and how full it is."""

    def __init__(self) -> None:
        self.end = 0  # behind the highest slot there was
        self.room = 0
        self.room_of: dict[bytes, int] = {}
        self.objects_of: dict[bytes, int] = {}
        self._at: dict[int, tuple[bytes, int]] = {}
        self._free: list[int] = []  # a heap

    def load(self, slot: int, ta: bytes, room: int) -> None:
        """There is an object; :meth:`loaded` follows."""
        if slot not in self._at:
            self.end = max(self.end, slot + 1)
            self.put(slot, ta, room)

    def loaded(self) -> None:
        self._free = [slot for slot in range(self.end) if slot not in self._at]

    def has(self, slot: object, ta: bytes) -> bool:
        """Whether there is an object of a TA."""
        return isinstance(slot, int) and slot in self._at and self._at[slot][0] == ta

    def lowest(self) -> int:
        """The slot that the next object takes."""
        return self._free[0] if self._free else self.end

    def put(self, slot: int, ta: bytes, room: int) -> None:
        """There is an object now, in the lowest slot or in one that has one."""
        old = self._at.get(slot)
        if old is not None:
            self._count(old[0], -1, -old[1])
        elif slot == self.end:
            self.end += 1
        elif self._free and slot == self._free[0]:
            heapq.heappop(self._free)
        self._at[slot] = (ta, room)
        self._count(ta, 1, room)

    def room_at(self, slot: object, ta: bytes) -> int:
        """What the object of a TA counts that is in a slot."""
        return self._at[slot][1] if isinstance(slot, int) and self.has(slot, ta) else 0

    def remove(self, slot: object, ta: bytes) -> None:
        """There is none any more. A damaged object has whatever there is for a slot."""
        if isinstance(slot, int) and self.has(slot, ta):
            _ta, room = self._at.pop(slot)
            self._count(ta, -1, -room)
            heapq.heappush(self._free, slot)

    def without_slot(self, ta: bytes, more: int) -> None:
        """Count an object that has no name any more."""
        self._count(ta, 0, more)

    def _count(self, ta: bytes, objects: int, room: int) -> None:
        self.room += room
        self.room_of[ta] = self.room_of.get(ta, 0) + room
        self.objects_of[ta] = self.objects_of.get(ta, 0) + objects


class ObjectStore:
    """All objects of a TEE. What it opens it opens at the first need, and then once.

    :param state: called then.
    """

    def __init__(self, state: "Callable[[], State]") -> None:
        self._get_state = state
        self._state: State | None = None
        self._keys: Keys
        self._areas = (_Directory(), _Directory())
        self._in_memory = False

    # Opening

    def open(self) -> None:
        """Find the keys, and what there is.

        :raises StorageNotAvailable: it cannot be used. Nothing is changed, and the next call tries
            again.
        """
        if self._state is not None:
            return
        state = self._get_state()
        try:
            self._keys = self._run_on(state, lambda connection: self._find_keys(state, connection))
            self._areas = self._run_on(state, self._find_objects)
        except CorruptObject as error:  # no object is, but what all of them need
            raise StorageNotAvailable(error.detail) from error
        self._in_memory = state.folder is None
        self._state = state

    def _find_keys(self, state: "State", connection: "sqlite3.Connection") -> Keys:
        row = connection.execute("SELECT secret_check FROM storage_key").fetchone()
        if row is None and connection.execute("SELECT 1 FROM objects").fetchone():
            raise StorageNotAvailable("which device secret objects were stored with is lost")
        keys = Keys(load_secret(state.folder, may_make=row is None))
        if row is None:
            connection.execute("INSERT INTO storage_key VALUES (1, ?)", (keys.check,))
        elif row[0] != keys.check:
            # With keys that are not theirs all objects would be corrupt, and so deleted.
            raise StorageNotAvailable("objects were stored with another device secret")
        return keys

    def _find_objects(self, connection: "sqlite3.Connection") -> tuple[_Directory, _Directory]:
        # Those that somebody had open when this state was last used.
        nameless = "SELECT id FROM objects WHERE slot IS NULL AND lookup IS NULL"
        for (row,) in connection.execute(nameless).fetchall():
            _delete_rows(connection, row)
        areas = (_Directory(), _Directory())
        for area, ta, slot, room in connection.execute("SELECT area, ta, slot, room FROM objects"):
            # What is damaged is found when the object is wanted: its head says where it belongs.
            if (
                area in (REE, RPMB)
                and isinstance(ta, bytes)
                and isinstance(slot, int)
                and isinstance(room, int)
                and 0 <= slot < _MAX_SLOTS
                and 0 <= room < _MAX_SLOTS
            ):
                areas[area].load(slot, ta, room)
        for directory in areas:
            directory.loaded()
        return areas

    def _run_on(
        self, state: "State", operation: "Callable[[sqlite3.Connection], Any]", write: bool = True
    ) -> "Any":
        try:
            return state.run(operation, write=write)
        except GenericError as error:
            raise StorageNotAvailable(error.detail) from error

    def _run(
        self, operation: "Callable[[sqlite3.Connection], Any]", *, write: bool = False
    ) -> "Any":
        self.open()
        assert self._state is not None
        return self._run_on(self._state, operation, write)

    # Directory

    def find(self, area: int, ta: bytes, name: bytes) -> StoredObject:
        """The object of a name.

        :raises ItemNotFound: there is none.
        :raises CorruptObject: it is damaged.
        """
        self.open()
        lookup = self._keys.lookup(area, ta, name)
        found: StoredObject = self._run(lambda connection: self._find(connection, lookup))
        if (found.area, found.ta, found.head.name) != (area, ta, name):
            raise CorruptObject("the directory of objects is damaged")
        return found

    def _find(self, connection: "sqlite3.Connection", lookup: bytes) -> StoredObject:
        row = connection.execute(
            "SELECT id, area, ta, slot, room, seal, lookup, head FROM objects WHERE lookup = ?",
            (lookup,),
        ).fetchone()
        if row is None:
            raise ItemNotFound("no such object")
        return self._load(row)

    def _load(self, columns: "tuple[Any, ...]") -> StoredObject:
        row, area, ta, slot, room, seal, lookup, head = columns
        if not (
            row in _ROWS
            and area in (REE, RPMB)
            and isinstance(slot, int)
            and 0 <= slot < _MAX_SLOTS
            and isinstance(room, int)
            and 0 <= room < _MAX_SLOTS
            and all(isinstance(blob, bytes) for blob in (ta, seal, lookup, head))
        ):
            raise CorruptObject("an object of the wrong form")
        found = StoredObject(area, ta, row, slot, room, lookup, self._keys.sealer(ta, seal))
        found.head = Head.decode(found.sealer.open(_place(found), head))
        return found

    def after(self, area: int, ta: bytes, slot: int) -> "tuple[int, bytes] | None":
        """The slot and what is found by ``lookup``: of the TA's first object behind a slot.

        :raises CorruptObject: the directory is damaged, and what follows cannot be told.
        """

        def select(connection: "sqlite3.Connection") -> "tuple[int, bytes] | None":
            row: tuple[int, bytes] | None = connection.execute(
                "SELECT slot, lookup FROM objects WHERE area = ? AND ta = ? AND slot > ? "
                "ORDER BY slot LIMIT 1",
                (area, ta, slot),
            ).fetchone()
            if row is not None and not (isinstance(row[0], int) and row[0] > slot):
                raise CorruptObject("the directory of objects is damaged")
            return row

        found: tuple[int, bytes] | None = self._run(select)
        return found

    def lookups(self, area: int, ta: bytes) -> list[bytes]:
        """What the objects of a TA are found by, in the order of their slots.

        As in OP-TEE's RPMB, one whose name is empty is not among them.
        """
        self.open()
        nameless = self._keys.lookup(area, ta, b"")

        def select(connection: "sqlite3.Connection") -> list[bytes]:
            rows = connection.execute(
                "SELECT lookup FROM objects WHERE area = ? AND ta = ? AND slot >= 0 "
                "ORDER BY slot LIMIT ?",
                (area, ta, RPMB_BLOCKS),
            )
            return [lookup for (lookup,) in rows if lookup != nameless]

        found: list[bytes] = self._run(select)
        return found

    def at(self, area: int, ta: bytes, lookup: bytes) -> StoredObject:
        """The object of a TA that :meth:`after` found; raises as :meth:`find` does."""
        found: StoredObject = self._run(lambda connection: self._find(connection, lookup))
        if (found.area, found.ta) != (area, ta):  # a damaged index led to another TA's
            raise CorruptObject("the directory of objects is damaged")
        return found

    def create(
        self,
        area: int,
        ta: bytes,
        name: bytes,
        kind: ObjectType,
        data: memoryview,
        *,
        overwrite: bool = False,
        keep: bool = False,
    ) -> StoredObject:
        """Make an object, with data.

        :param overwrite: in the place of the one that has this name.
        :param keep: that one goes on without a name.
        :raises AccessConflict: there is one, and it is not to be overwritten.
        :raises StorageNoSpace: it does not fit.
        """
        self.open()
        directory = self._areas[area]
        lookup = self._keys.lookup(area, ta, name)
        now = int(time.time())

        def insert(
            connection: "sqlite3.Connection",
        ) -> "tuple[StoredObject, tuple[int, object] | None]":
            old = connection.execute(
                "SELECT id, slot FROM objects WHERE lookup = ?", (lookup,)
            ).fetchone()
            if old is not None and not overwrite:
                raise AccessConflict("there is an object of this name")
            # In OP-TEE a file replaces another one in the same entry of the directory; in the RPMB
            # it is whole in an entry of its own before the other one goes.
            same = area == REE and old is not None and directory.has(old[1], ta)
            slot = old[1] if same else directory.lowest()
            if old is not None:
                if keep:
                    connection.execute(
                        "UPDATE objects SET slot = NULL, lookup = NULL WHERE id = ?", (old[0],)
                    )
                else:
                    _delete_rows(connection, old[0])
            seal = os.urandom(SEAL_SIZE)
            (row,) = connection.execute(
                "SELECT coalesce(max(id), 0) + 1 FROM objects WHERE id BETWEEN ? AND ?",
                (_ROWS[0], _ROWS[-1]),
            ).fetchone()
            if row not in _ROWS:
                raise StorageNoSpace("no numbers for objects are left")
            made = StoredObject(area, ta, row, slot, 0, lookup, self._keys.sealer(ta, seal))
            head = Head(name, kind, now)
            change = Change(connection, row, made.sealer, head)
            change.write(0, data)
            change.write_back()
            made.room = _blocks(head) if area == RPMB else 1 + change.chunks
            if area == RPMB:
                self._check_blocks(directory, made.room, max(directory.end, slot + 1))
            else:
                if old is None and directory.objects_of.get(ta, 0) >= MAX_OBJECTS:
                    raise StorageNoSpace(f"{MAX_OBJECTS} objects of one TA")
                self._check_room(directory, ta, made.room)
            connection.execute(
                "INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (row, area, ta, slot, made.room, seal, lookup, _sealed(made, head)),
            )
            made.head = head
            self._count_write(connection, area, head.optee_size)
            return made, old

        made, old = self._run(insert, write=True)
        old_room = 0 if old is None else directory.room_at(old[1], ta)
        directory.put(made.slot, ta, made.room)
        if old is not None and made.slot != old[1]:
            directory.remove(old[1], ta)
        if keep:
            directory.without_slot(ta, old_room)
        created: StoredObject = made
        return created

    def delete(self, area: int, ta: bytes, name: bytes, *, keep: bool = False) -> None:
        """Delete the object of a name, whatever state it is in; ItemNotFound if there is none.

        :param keep: it goes on without a name.
        """
        self.open()
        directory = self._areas[area]
        lookup = self._keys.lookup(area, ta, name)

        def delete(connection: "sqlite3.Connection") -> object:
            row = connection.execute(
                "SELECT id, slot FROM objects WHERE lookup = ?", (lookup,)
            ).fetchone()
            if row is None:
                raise ItemNotFound("no such object")
            if keep:
                connection.execute(
                    "UPDATE objects SET slot = NULL, lookup = NULL WHERE id = ?", (row[0],)
                )
            else:
                _delete_rows(connection, row[0])
            self._count_write(connection, area, RPMB_BLOCK)
            return row[1]

        slot = self._run(delete, write=True)
        room = directory.room_at(slot, ta)
        directory.remove(slot, ta)
        if keep:
            directory.without_slot(ta, room)

    def forget(self, stored: StoredObject) -> None:
        """Delete an object that has no name any more: nobody has it open."""
        self._run(lambda connection: _delete_rows(connection, stored.row), write=True)
        self._areas[stored.area].without_slot(stored.ta, -stored.room)

    def rename(self, stored: StoredObject, name: bytes) -> None:
        """Give an object another name.

        :raises AccessConflict: there is an object of that name.
        :raises ItemNotFound: this one has been deleted.
        """
        self.open()
        lookup = self._keys.lookup(stored.area, stored.ta, name)

        def rename(connection: "sqlite3.Connection") -> Head:
            if connection.execute("SELECT 1 FROM objects WHERE lookup = ?", (lookup,)).fetchone():
                raise AccessConflict("there is an object of this name")
            head = stored.head.copy()
            head.name = name
            head.version += 1
            renamed = StoredObject(
                stored.area, stored.ta, stored.row, stored.slot, 0, lookup, stored.sealer
            )
            changed = connection.execute(
                "UPDATE objects SET lookup = ?, head = ? WHERE id = ? AND lookup = ?",
                (lookup, _sealed(renamed, head), stored.row, stored.lookup),
            )
            if changed.rowcount != 1:
                raise ItemNotFound("it was deleted")
            self._count_write(connection, stored.area, RPMB_BLOCK)
            return head

        head = self._run(rename, write=True)
        stored.head, stored.lookup = head, lookup

    # Objects that were found

    def read(self, stored: StoredObject, position: int, out: memoryview) -> int:
        """Read data to the buffer, as much as there is; how much that was.

        :raises CorruptObject: it is damaged.
        """
        size = min(len(out), max(stored.head.data_size - position, 0))
        if size:
            self._run(
                lambda connection: Content(connection, stored.row, stored.sealer, stored.head).read(
                    position, out[:size]
                )
            )
        return size

    def write(self, stored: StoredObject, position: int, data: memoryview) -> None:
        """Write data. Behind the end zeros come first.

        :raises StorageNoSpace: there is not so much room.
        :raises CorruptObject: it is damaged.
        """
        if len(data):
            self._change(stored, len(data), lambda change, head: change.write(position, data))

    def truncate(self, stored: StoredObject, size: int) -> None:
        """Cut the data, or let zeros follow it.

        :raises StorageNoSpace: there is not so much room.
        :raises CorruptObject: it is damaged.
        """
        if size != stored.head.data_size:
            self._change(stored, RPMB_BLOCK, lambda change, head: change.truncate(size))

    def set_usage(self, stored: StoredObject, usage: int) -> None:
        """Set TEE_USAGE_* of an object."""

        def set_usage(change: Change, head: Head) -> None:
            old = head.kind
            head.kind = ObjectType(
                old.obj_type, old.obj_size, old.max_obj_size, usage, old.have_attrs, old.attrs
            )

        self._change(stored, 4, set_usage)  # sizeof(objectUsage)

    def check(self, stored: StoredObject) -> None:
        """Open every seal of an object; CorruptObject if one does not hold."""
        self._run(
            lambda connection: Content(connection, stored.row, stored.sealer, stored.head).check()
        )

    def _change(
        self, stored: StoredObject, size: int, how: "Callable[[Change, Head], None]"
    ) -> None:
        directory = self._areas[stored.area]

        def update(connection: "sqlite3.Connection") -> tuple[Head, int]:
            head = stored.head.copy()
            head.changed = int(time.time())
            change = Change(connection, stored.row, stored.sealer, head)
            how(change, head)
            change.write_back()
            if stored.area == REE:
                room = stored.room + change.chunks
                self._check_room(directory, stored.ta, change.chunks)
            else:
                room = _blocks(head)
                # rpmb_fs_write_primitive(): what is more than a block goes to another place first.
                if room > stored.room or size > RPMB_BLOCK:
                    self._check_blocks(directory, room, directory.end)
            changed = connection.execute(
                "UPDATE objects SET room = ?, head = ? WHERE id = ?",
                (room, _sealed(stored, head), stored.row),
            )
            if changed.rowcount != 1:
                raise CorruptObject("it is gone")
            self._count_write(connection, stored.area, size)
            return head, room

        head, room = self._run(update, write=True)
        if stored.lookup is not None:
            directory.put(stored.slot, stored.ta, room)
        else:
            directory.without_slot(stored.ta, room - stored.room)
        stored.head, stored.room = head, room

    # How full an area is

    def _check_room(self, directory: _Directory, ta: bytes, more: int) -> None:
        """Whether a TA may have so many chunks more."""
        all_, of_ta = (
            (_ROOM_IN_MEMORY, _TA_ROOM_IN_MEMORY) if self._in_memory else (_ROOM, _TA_ROOM)
        )
        if more > 0 and (
            directory.room + more > all_ or directory.room_of.get(ta, 0) + more > of_ta
        ):
            raise StorageNoSpace("the room for objects is used up")

    def _check_blocks(self, directory: _Directory, blocks: int, entries: int) -> None:
        """Whether there are so many free blocks in the RPMB, besides a FAT of ``entries``."""
        if _RPMB_BEFORE_FAT + entries + 1 + directory.room + blocks > RPMB_BLOCKS:
            raise StorageNoSpace("the RPMB is full")

    def _count_write(self, connection: "sqlite3.Connection", area: int, size: int) -> None:
        """As the counter of authenticated writes of an RPMB: by one for each block."""
        if area != RPMB:  # it has none, and each page that is changed costs its time
            return
        writes = -(-size // RPMB_BLOCK) or 1
        (count,) = connection.execute(
            "INSERT INTO storage_areas VALUES (?, ?) "
            "ON CONFLICT (area) DO UPDATE SET writes = writes + excluded.writes RETURNING writes",
            (area, writes),
        ).fetchone()
        if count > _RPMB_MAX_WRITES:
            raise StorageNotAvailable("the write counter of the RPMB is at its end")

    def writes(self, area: int) -> int:
        """How many writes an area has seen; 0 for one that does not count them."""

        def select(connection: "sqlite3.Connection") -> int:
            row = connection.execute(
                "SELECT writes FROM storage_areas WHERE area = ?", (area,)
            ).fetchone()
            if row is None:
                return 0
            if not isinstance(row[0], int):
                raise CorruptObject("the counter of writes is damaged")
            return row[0]

        count: int = self._run(select)
        return count

    # For the operator (gentee.secure.storage.admin)

    @property
    def keys(self) -> Keys:
        """Of a store that is open."""
        return self._keys

    @property
    def state(self) -> "State":
        """Where the objects are, whether the store is open or not."""
        return self._state if self._state is not None else self._get_state()

    def run(
        self, operation: "Callable[[sqlite3.Connection], Any]", *, write: bool = False
    ) -> "Any":
        """Do ``operation`` in one transaction, of a store that is open."""
        return self._run(operation, write=write)

    def at_row(self, row: int) -> StoredObject:
        """The object of a row; raises as :meth:`find` does."""

        def select(connection: "sqlite3.Connection") -> StoredObject:
            found = connection.execute(
                "SELECT id, area, ta, slot, room, seal, lookup, head FROM objects WHERE id = ?",
                (row,),
            ).fetchone()
            if found is None:
                raise ItemNotFound("no such object")
            return self._load(found)

        found: StoredObject = self._run(select)
        return found

    def delete_row(self, row: int, *, keep: bool = False) -> None:
        """Delete the object of a row, whatever state it is in.

        :param keep: it goes on without a name.
        """
        self.open()

        def delete(connection: "sqlite3.Connection") -> "tuple[Any, ...] | None":
            found: tuple[Any, ...] | None = connection.execute(
                "SELECT area, ta, slot FROM objects WHERE id = ?", (row,)
            ).fetchone()
            if found is not None and keep:
                connection.execute(
                    "UPDATE objects SET slot = NULL, lookup = NULL WHERE id = ?", (row,)
                )
            else:
                _delete_rows(connection, row)
            return found

        found = self._run(delete, write=True)
        if found is not None and found[0] in (REE, RPMB):
            area, ta, slot = found
            directory = self._areas[area]
            room = directory.room_at(slot, ta)
            directory.remove(slot, ta)
            if keep:
                directory.without_slot(ta, room)

    def reset(self) -> None:
        """Everything is to be found anew, by who comes next: the state has been replaced."""
        self._state = None


def _blocks(head: Head) -> int:
    return -(-head.optee_size // RPMB_BLOCK)


def _place(stored: StoredObject) -> bytes:
    """What a head is bound to. Without a name it is not read again."""
    return _PLACE.pack(b"h", stored.area, stored.ta, stored.slot, stored.lookup or b"")


def _sealed(stored: StoredObject, head: Head) -> bytearray:
    return stored.sealer.seal(_place(stored), head.encode())


def _delete_rows(connection: "sqlite3.Connection", row: int) -> None:
    if row in _ROWS:
        rows = first_row(row)
        connection.execute(
            "DELETE FROM object_chunks WHERE id >= ? AND id < ?", (rows, rows + (1 << ROW_SHIFT))
        )
    connection.execute("DELETE FROM objects WHERE id = ?", (row,))


__all__ = ["AREAS", "MAX_OBJECTS", "REE", "RPMB", "ObjectStore", "StoredObject"]
