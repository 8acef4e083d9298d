# SPDX-License-Identifier: BSD-2-Clause
"""Moving a TEE: its device secret, objects, installed services, versions and times.

An archive has rows of the tables of the state (:mod:`gentee.secure.state`), sealed objects as they
are, and the device secret that they are sealed with. So what one TEE writes another reads without a
look at what is inside.
"""

from gentee.abi.gp import TEE_ERROR_ACCESS_CONFLICT
from gentee.errors import BadState, TaImageError, TeeError
from gentee.secure.storage.archive import ArchiveError, Reader, Writer
from gentee.secure.storage.seal import SECRET_SIZE, Keys, replace_secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import BinaryIO

    from gentee.secure.storage.archive import Column
    from gentee.secure.storage.store import ObjectStore

_SECRET = 0
_COUNTS = 1  # how many rows each table has, in their order
# Tables by their number in an archive, with their columns and what these are.
_TABLES: dict[int, tuple[str, tuple[tuple[str, type], ...]]] = {
    2: (
        "services",
        (
            ("uuid", bytes), ("name", str), ("version", int), ("manifest", str), ("signer", str),
            ("installed", int), ("image", bytes),
        ),
    ),
    3: ("versions", (("uuid", bytes), ("version", int))),
    4: ("subkey_versions", (("uuid", bytes), ("version", int))),
    5: ("ta_time", (("uuid", bytes), ("offset_ms", int))),
    6: ("storage_areas", (("area", int), ("writes", int))),
    7: (
        "objects",
        (
            ("id", int), ("area", int), ("ta", bytes), ("slot", int), ("room", int),
            ("seal", bytes), ("lookup", bytes), ("head", bytes),
        ),
    ),
    8: ("object_chunks", (("id", int), ("chunk", bytes))),
}  # fmt: skip
# What counts where both have a row.
_INSERT = {
    "versions": "ON CONFLICT (uuid) DO UPDATE SET version = max(version, excluded.version)",
    "subkey_versions": "ON CONFLICT (uuid) DO UPDATE SET version = max(version, excluded.version)",
    "ta_time": "ON CONFLICT (uuid) DO UPDATE SET offset_ms = excluded.offset_ms",
    "storage_areas": "ON CONFLICT (area) DO UPDATE SET writes = max(writes, excluded.writes)",
    "services": (
        "ON CONFLICT (uuid) DO UPDATE SET name = excluded.name, version = excluded.version, "
        "manifest = excluded.manifest, signer = excluded.signer, installed = excluded.installed, "
        "image = excluded.image"
    ),
    "objects": "",
    "object_chunks": "",
}


def export(objects: "ObjectStore", file: "BinaryIO", header: bytes, key: bytes) -> dict[str, int]:
    """Write a TEE to a file; how many rows of each table. TeeError, or OSError of the file."""
    objects.open()
    secret = objects.keys.export()

    def write(connection: "sqlite3.Connection") -> dict[str, int]:
        file.seek(0)
        writer = Writer(file, header, key)
        writer.row(_SECRET, (secret,))
        counts: dict[str, int] = {}
        for table, _columns in _TABLES.values():
            # Of an object that was deleted, and is only open still, nothing goes along.
            (counts[table],) = connection.execute(f"SELECT count(*) {_from(table)}").fetchone()
        writer.row(_COUNTS, tuple(counts.values()))
        for number, (table, columns) in _TABLES.items():
            names = ", ".join(name for name, _type in columns)
            for row in connection.execute(f"SELECT {names} {_from(table)} ORDER BY 1"):
                writer.row(number, row)
        writer.close()
        return counts

    counts: dict[str, int] = objects.run(write)
    return counts


def _from(table: str) -> str:
    if table == "objects":
        return "FROM objects WHERE slot NOT NULL"
    if table == "object_chunks":
        return "FROM object_chunks WHERE id >> 20 IN (SELECT id FROM objects WHERE slot NOT NULL)"
    return f"FROM {table}"


def restore(objects: "ObjectStore", file: "BinaryIO", header: bytes, key: bytes) -> dict[str, int]:
    """Read a TEE from a file, into one that has no objects; how many rows of each table.

    The whole archive is looked at before anything is changed. What has to be there when it is used
    is then made in an order in which every end leaves the TEE without objects, or with all.

    :raises ArchiveError: it is damaged, or of another key.
    :raises BadState: the TEE has objects, or keeps nothing.
    :raises TaImageError: it has a service in a higher version.
    """
    folder = objects.state.folder
    if folder is None:
        raise BadState("a TEE that keeps nothing")
    state = objects.state
    state.run(_check_empty, write=False)
    file.seek(0)
    secret, counts = _read(Reader(file, header, key), None)
    file.seek(0)
    state.run(_forget_key, write=True)
    objects.reset()
    replace_secret(folder, secret)

    def insert(connection: "sqlite3.Connection") -> None:
        _check_empty(connection)
        again, counted = _read(Reader(file, header, key), connection)
        if (again, counted) != (secret, counts):
            raise ArchiveError("the archive has changed")
        connection.execute("INSERT INTO storage_key VALUES (1, ?)", (Keys(secret).check,))

    try:
        state.run(insert, write=True)
    finally:
        state.reload()
    return counts


def _check_empty(connection: "sqlite3.Connection") -> None:
    (count,) = connection.execute("SELECT count(*) FROM objects").fetchone()
    if count:
        raise BadState(f"{count} objects are stored in it already")


def _forget_key(connection: "sqlite3.Connection") -> None:
    _check_empty(connection)
    # Chunks of objects that are gone would be in the way of new ones.
    connection.execute("DELETE FROM object_chunks")
    connection.execute("DELETE FROM storage_key")


def _read(reader: Reader, connection: "sqlite3.Connection | None") -> tuple[bytes, dict[str, int]]:
    """Look at each row, and put it into its table; the secret and how many rows there are."""
    rows = reader.rows()
    table, columns = next(rows, (None, ()))
    if table != _SECRET or not _fits(columns, (bytes,)):
        raise ArchiveError("the archive has no device secret")
    secret = columns[0]
    assert isinstance(secret, bytes)
    if len(secret) != SECRET_SIZE:
        raise ArchiveError("the archive has no device secret")
    table, columns = next(rows, (None, ()))
    if table != _COUNTS or not _fits(columns, (int,) * len(_TABLES)):
        raise ArchiveError("the archive does not say what it has")
    said = columns
    counts = dict.fromkeys((name for name, _columns in _TABLES.values()), 0)
    for number, values in rows:
        if number not in _TABLES:
            raise ArchiveError("the archive has what no gentee writes")
        name, wanted = _TABLES[number]
        if not _fits(values, tuple(kind for _name, kind in wanted)):
            raise ArchiveError(f"the archive has a wrong row of {name}")
        counts[name] += 1
        if connection is not None:
            _insert(connection, name, wanted, values)
    if tuple(counts.values()) != said:
        raise ArchiveError("the archive has not what it says")
    return secret, counts


def _fits(values: "tuple[Column, ...]", kinds: tuple[type, ...]) -> bool:
    return len(values) == len(kinds) and all(map(isinstance, values, kinds))


def _insert(
    connection: "sqlite3.Connection",
    name: str,
    wanted: tuple[tuple[str, type], ...],
    values: "tuple[Column, ...]",
) -> None:
    if name == "services":
        floor = connection.execute(
            "SELECT version FROM versions WHERE uuid = ?", (values[0],)
        ).fetchone()
        version = values[2]
        assert isinstance(version, int)
        if floor is not None and floor[0] > version:
            raise TaImageError(
                f"service {values[1]!r}: version {version} is lower than {floor[0]}, which was "
                "here before",
                TEE_ERROR_ACCESS_CONFLICT,
            )
    names = ", ".join(column for column, _kind in wanted)
    places = ", ".join("?" * len(wanted))
    connection.execute(f"INSERT INTO {name} ({names}) VALUES ({places}) {_INSERT[name]}", values)


def reason(error: TeeError | TaImageError | OSError) -> str:
    """What went wrong, in words."""
    if isinstance(error, TeeError):
        return error.detail or str(error)
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


__all__ = ["export", "reason", "restore"]
