# SPDX-License-Identifier: BSD-2-Clause
"""What the operator asks of a TEE's storage: ``gentee storage``.

It is the same for a TEE that runs, where each step waits for its turn among the requests of
services, and for one that does not. A request is a table of JSON, and so is the answer.
"""

import sqlite3

from gentee.errors import CorruptObject, ItemNotFound, TaImageError, TeeError
from gentee.secure.service import format_uuid, parse_uuid
from gentee.secure.storage.content import CHUNK, ROW_SHIFT
from gentee.secure.storage.store import REE, RPMB, RPMB_BLOCK, StoredObject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO, Protocol, TypeVar

    from gentee.secure.storage.door import StorageDoor
    from gentee.secure.storage.store import ObjectStore
    from gentee.secure.store import TaStore

    T = TypeVar("T")

    class Turns(Protocol):
        """How the objects are reached."""

        def run(self, job: "Callable[[ObjectStore], T]") -> "T":
            """Do a job, while nobody else uses them."""

        def wipe(self, row: int) -> None:
            """Delete the object of a row, whoever has it open."""


STORAGES = {REE: "private", RPMB: "rpmb"}
MAX_FINDINGS = 1000  # of damage that is told
_DAMAGED_PAGES = 20  # likewise, of the file itself


class BadRequest(ValueError):
    """A request that no gentee makes."""


class StoppedTurns:
    """The objects of a TEE that does not run."""

    def __init__(self, objects: "ObjectStore") -> None:
        self._objects = objects

    def run(self, job: "Callable[[ObjectStore], T]") -> "T":
        return job(self._objects)

    def wipe(self, row: int) -> None:
        self._objects.delete_row(row)


class RunningTurns:
    """The objects of a TEE that runs."""

    def __init__(self, door: "StorageDoor") -> None:
        self._door = door

    def run(self, job: "Callable[[ObjectStore], T]") -> "T":
        return self._door.run(lambda storage: job(storage.objects))

    def wipe(self, row: int) -> None:
        self._door.run(lambda storage: storage.wipe(row))


class _Wanted:
    """Which objects a request is about: all, those of some TAs, those of some names."""

    def __init__(self, request: "dict[str, Any]") -> None:
        self._tas = {_uuid(text) for text in _list(request, "tas")}
        self._names = {_hex(text) for text in _list(request, "ids")}

    @property
    def is_all(self) -> bool:
        return not self._tas and not self._names

    def ta(self, ta: object) -> bool:
        return not self._tas or ta in self._tas

    def name(self, name: bytes | None) -> bool:
        """None: of an object that is damaged."""
        return not self._names or (name is not None and name in self._names)


def administer(
    turns: "Turns", services: "TaStore", request: object, file: "BinaryIO | None" = None
) -> "dict[str, Any]":
    """Do what a request asks for.

    :param services: of the same TEE.
    :param file: what is exported to, or imported from.
    :raises BadRequest: it is none.
    :raises TeeError: the TEE's state cannot be used. Also UserError, TaImageError and OSError.
    """
    if not isinstance(request, dict):
        raise BadRequest("a request is a table")
    what = request.get("do")
    if what == "ls":
        return {"objects": _list_objects(turns, services, _Wanted(request))}
    if what == "check":
        return _check(turns, services, _Wanted(request))
    if what == "wipe":
        return {"objects": _wipe(turns, services, _Wanted(request))}
    if what in ("export", "import") and file is not None:
        from gentee.secure.storage import transfer

        header, key = _hex(request.get("header")), _hex(request.get("key"))
        if what == "export":
            return {"rows": turns.run(lambda objects: transfer.export(objects, file, header, key))}
        try:
            return {"rows": turns.run(lambda objects: transfer.restore(objects, file, header, key))}
        finally:
            services.reload()
    raise BadRequest(f"no request {what!r}")


# Listing


def _list_objects(turns: "Turns", services: "TaStore", wanted: _Wanted) -> "list[dict[str, Any]]":
    names = _names_of_services(services)
    return [
        found
        for row, ta in turns.run(_rows)
        if wanted.ta(ta) and (found := _listed(turns, row, ta, names, wanted)) is not None
    ]


def _listed(
    turns: "Turns", row: int, ta: object, names: dict[bytes, str], wanted: _Wanted
) -> "dict[str, Any] | None":
    """An object in words; None if it is gone, or not wanted."""
    listed = {
        "ta": format_uuid(ta) if isinstance(ta, bytes) and len(ta) == 16 else None,
        "service": names.get(ta, "") if isinstance(ta, bytes) else "",
    }
    try:
        stored = turns.run(lambda objects: objects.at_row(row))
    except ItemNotFound:
        return None
    except CorruptObject as error:
        if not wanted.name(None):
            return None
        return {**listed, "id": None, "damage": error.detail}
    if not wanted.name(stored.head.name):
        return None
    return {**listed, **_described(stored)}


def _described(stored: StoredObject) -> "dict[str, Any]":
    head = stored.head
    unit = CHUNK if stored.area == REE else RPMB_BLOCK
    return {
        "id": head.name.hex(),
        "storage": STORAGES[stored.area],
        "type": head.kind.obj_type,
        "size": head.data_size,
        "attributes": len(head.kind.attrs),
        "room": stored.room * unit,
        "created": head.created,
        "changed": head.changed,
        "damage": "",
    }


def _names_of_services(services: "TaStore") -> dict[bytes, str]:
    try:
        return {service.uuid: service.name for service in services.all()}
    except TeeError:  # whoever lists objects need not know the names of their TAs
        return {}


def _rows(objects: "ObjectStore") -> list[tuple[int, object]]:
    """Row and TA of each object with a name, in the order of TAs and of directories.

    What of the table cannot be read is looked for in its index, and the other way round.
    """

    def select(connection: "sqlite3.Connection") -> list[tuple[int, object]]:
        found: dict[int, tuple[bytes, object, int]] = {}
        for how in ("NOT INDEXED", "INDEXED BY object_slots"):
            try:
                for row, area, ta, slot in connection.execute(
                    f"SELECT id, area, ta, slot FROM objects {how} WHERE slot NOT NULL"
                ):
                    key = ta if isinstance(ta, bytes) else b""
                    place = slot if isinstance(slot, int) else 0
                    found.setdefault(row, (key + bytes((area == RPMB,)), ta, place))
            except sqlite3.DatabaseError:  # a check says so
                continue
        ordered = sorted(found.items(), key=lambda item: (item[1][0], item[1][2], item[0]))
        return [(row, ta) for row, (_key, ta, _slot) in ordered]

    rows: list[tuple[int, object]] = objects.run(select) if _is_used(objects) else []
    return rows


def _is_used(objects: "ObjectStore") -> bool:
    """Whether anything was ever stored: looking at a TEE makes no device secret."""
    state = objects.state

    def select(connection: "sqlite3.Connection") -> bool:
        return connection.execute("SELECT 1 FROM storage_key").fetchone() is not None

    if not state.exists():
        return False
    used: bool = state.run(select, write=False)
    return used


# Checking


class _Findings:
    """What is damaged: of which TA, which object, and what."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    def add(self, what: str, ta: object = None, name: bytes | None = None) -> None:
        if len(self.found) < MAX_FINDINGS:
            self.found.append(
                {
                    "ta": format_uuid(ta) if isinstance(ta, bytes) and len(ta) == 16 else None,
                    "id": name.hex() if name is not None else None,
                    "what": what,
                }
            )


def _check(turns: "Turns", services: "TaStore", wanted: _Wanted) -> "dict[str, Any]":
    """Open every seal. With no TA and no name also what belongs to none."""
    findings = _Findings()
    checked = size = 0
    rows = turns.run(_rows)
    slots: set[tuple[int, int]] = set()
    for row, ta in rows:
        if not wanted.ta(ta):
            continue
        stored = _checked(turns, row, ta, wanted, findings)
        if stored is None:
            continue
        checked += 1
        size += stored.head.data_size
        if (stored.area, stored.slot) in slots:
            findings.add("another object has its place", ta, stored.head.name)
        slots.add((stored.area, stored.slot))
    images = 0
    if wanted.is_all:
        turns.run(lambda objects: _check_file(objects, findings))
        images = _check_images(services, findings)
    return {"objects": checked, "bytes": size, "images": images, "findings": findings.found}


def _checked(
    turns: "Turns", row: int, ta: object, wanted: _Wanted, findings: _Findings
) -> StoredObject | None:
    """Check one object; None where it is gone, not wanted, or its head is damaged."""

    def check(objects: "ObjectStore") -> "tuple[StoredObject, str] | None":
        try:
            stored = objects.at_row(row)
        except ItemNotFound:
            return None
        if not wanted.name(stored.head.name):
            return None
        try:
            if objects.keys.lookup(stored.area, stored.ta, stored.head.name) != stored.lookup:
                return stored, "it is not found by its name"
            if objects.find(stored.area, stored.ta, stored.head.name).row != row:
                return stored, "another object is found by its name"
            objects.check(stored)
        except ItemNotFound:
            return stored, "it is not found by its name"
        except CorruptObject as error:
            return stored, error.detail
        return stored, ""

    try:
        found = turns.run(check)
    except CorruptObject as error:
        if wanted.name(None):
            findings.add(error.detail, ta)
        return None
    if found is None:
        return None
    stored, damage = found
    if damage:
        findings.add(damage, ta, stored.head.name)
    return stored


def _check_file(objects: "ObjectStore", findings: _Findings) -> None:
    """What no object stands for: the pages of the file, and chunks of nobody's."""
    state = objects.state
    if not state.exists():
        return

    def pages(connection: "sqlite3.Connection") -> list[str]:
        try:
            lines = connection.execute(f"PRAGMA integrity_check({_DAMAGED_PAGES})").fetchall()
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return [str(line) for (line,) in lines if line != "ok"]

    def orphans(connection: "sqlite3.Connection") -> list[int]:
        rows = connection.execute(
            f"SELECT DISTINCT id >> {ROW_SHIFT} FROM object_chunks "
            f"WHERE id >> {ROW_SHIFT} NOT IN (SELECT id FROM objects)"
        )
        return [row for (row,) in rows]

    for line in state.run(pages, write=False):
        findings.add(f"the file: {line}")
    try:
        for row in state.run(orphans, write=False):
            findings.add(f"chunks of an object {row} that there is not")
    except CorruptObject:  # which the pages have said
        pass


def _check_images(services: "TaStore", findings: _Findings) -> int:
    """Verify the images of installed services; how many."""
    from gentee.secure.opening import described_by, open_image

    state = services.state
    try:
        rows = state.services()
    except TeeError as error:
        findings.add(f"installed services: {error.detail}")
        return 0
    for row in rows:
        try:
            described_by(row.manifest)
            opened = open_image(state.image(row.uuid), services.keys, row.uuid)
            if opened.service.version != row.version:
                findings.add("an installed image of another version", row.uuid)
        except TaImageError as error:
            findings.add(f"the installed image: {error}", row.uuid)
        except TeeError as error:
            findings.add(f"the installed image: {error.detail}", row.uuid)
    return len(rows)


# Wiping


def _wipe(turns: "Turns", services: "TaStore", wanted: _Wanted) -> "list[dict[str, Any]]":
    """Delete objects; those that were."""
    names = _names_of_services(services)
    wiped = []
    for row, ta in turns.run(_rows):
        if not wanted.ta(ta):
            continue
        listed = _listed(turns, row, ta, names, wanted)
        if listed is not None:
            turns.wipe(row)
            wiped.append(listed)
    return wiped


# Requests


def _list(request: "dict[str, Any]", key: str) -> list[object]:
    value = request.get(key, [])
    if not isinstance(value, list):
        raise BadRequest(f"{key} is no list")
    return value


def _uuid(text: object) -> bytes:
    try:
        return parse_uuid(text if isinstance(text, str) else "")
    except ValueError as error:
        raise BadRequest("no UUID") from error


def _hex(text: object) -> bytes:
    try:
        return bytes.fromhex(text if isinstance(text, str) else "-")
    except ValueError as error:
        raise BadRequest("no bytes") from error
