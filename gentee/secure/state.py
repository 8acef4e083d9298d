# SPDX-License-Identifier: BSD-2-Clause
"""What a TEE keeps: installed services, the version tables, the time of each service.

A SQLite file ``tee.db`` in the TEE's state folder, or memory for a TEE without one
(docs/decisions/0005-state-in-sqlite.md). One program has it open at a time. What changes it is one
transaction, on disk when the method returns: whenever the program is killed, all of it happened or
nothing. SQLite is imported, and the file opened, at the first need; methods wait for the disk, so
the receiving thread calls none of them but :meth:`State.floor`.
"""

import os
import stat
import threading

from gentee.abi.gp import TEE_ERROR_ACCESS_CONFLICT, TEE_ERROR_SECURITY
from gentee.errors import (
    CorruptObject,
    GenericError,
    ItemNotFound,
    StorageNoSpace,
    TaImageError,
    UserError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from typing import Any

    from gentee.secure.counter import Counter

    Subkeys = tuple[tuple[bytes, int], ...]

FILE = "tee.db"
APPLICATION_ID = 0x67656E74  # "gent", in the file's header

# Each row brings the schema from its index to the next number. Rows are never changed, only added.
MIGRATIONS = (
    """
    CREATE TABLE meta (version INTEGER PRIMARY KEY, applied INTEGER NOT NULL);
    CREATE TABLE services (
        uuid BLOB PRIMARY KEY CHECK (length(uuid) = 16),
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        manifest TEXT NOT NULL,
        signer TEXT NOT NULL,
        installed INTEGER NOT NULL,
        image BLOB NOT NULL -- the last, so that whoever lists the others need not read it
    );
    CREATE TABLE versions (
        uuid BLOB PRIMARY KEY CHECK (length(uuid) = 16),
        version INTEGER NOT NULL
    );
    CREATE TABLE ta_time (
        uuid BLOB PRIMARY KEY CHECK (length(uuid) = 16),
        offset_ms INTEGER NOT NULL
    );
    """,
    """
    CREATE TABLE subkey_versions (
        uuid BLOB PRIMARY KEY CHECK (length(uuid) = 16),
        version INTEGER NOT NULL
    );
    """,
    # Trusted storage, gentee.secure.storage
    """
    CREATE TABLE storage_key (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        secret_check BLOB NOT NULL
    );
    CREATE TABLE storage_areas (
        area INTEGER PRIMARY KEY,
        writes INTEGER NOT NULL -- as the write counter of an RPMB
    );
    CREATE TABLE objects (
        id INTEGER PRIMARY KEY,
        area INTEGER NOT NULL,
        ta BLOB NOT NULL CHECK (length(ta) = 16),
        slot INTEGER, -- its place in the directory, NULL when it has no name any more
        room INTEGER NOT NULL, -- what it counts in its area
        seal BLOB NOT NULL CHECK (length(seal) = 16),
        lookup BLOB UNIQUE, -- what its name is found by
        head BLOB NOT NULL
    );
    CREATE INDEX object_slots ON objects (area, ta, slot);
    CREATE TABLE object_chunks (
        id INTEGER PRIMARY KEY, -- of the object and its number there
        chunk BLOB NOT NULL
    );
    """,
    # gentee.secure.counter
    """
    CREATE TABLE state_counter (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        state BLOB NOT NULL, -- what its counter knows it by
        changes INTEGER NOT NULL
    );
    """,
)
SCHEMA = len(MIGRATIONS)

# Offsets in the header of the file: the SQLite documentation, "Database File Format", section 1.3.
_HEADER = 100
_MAGIC = b"SQLite format 3\0"
_USER_VERSION = 60
_APPLICATION_ID = 68

_BUSY_SECONDS = 2.0

# Limits: an image may be signed with a key that everybody has.
MAX_SERVICES = 4096
MAX_BYTES = 512 << 20  # of all images together
MAX_VERSIONS = 1 << 16


class InstalledService:
    """A row of the table of services, without its image. ``installed`` is in seconds, Unix time."""

    __slots__ = ("installed", "manifest", "name", "signer", "uuid", "version")

    def __init__(
        self, uuid: bytes, name: str, version: int, manifest: str, signer: str, installed: int
    ) -> None:
        self.uuid = uuid
        self.name = name
        self.version = version
        self.manifest = manifest
        self.signer = signer
        self.installed = installed


class State:
    """The state of one TEE.

    :param folder: its state folder, which exists; None keeps everything in memory.
    :param counter: what tells an older copy of it.
    """

    def __init__(self, folder: str | None = None, counter: "Counter | None" = None) -> None:
        self.folder = folder
        self._counter = counter
        self.path = os.path.join(folder, FILE) if folder is not None else ":memory:"
        self._lock = threading.RLock()  # protects the connection and what is kept of its tables
        self._connection: sqlite3.Connection | None = None
        self._floors: dict[bytes, int] = {}
        self._subkey_floors: dict[bytes, int] = {}
        self._closed = False

    # Opening

    def exists(self) -> bool:
        """Whether anything may be kept there, without opening it."""
        if self._connection is not None or self._counter is not None:
            return True  # where the counter is a file that is missing would be an older copy
        return self.folder is not None and _size(self.path) > 0

    def check(self) -> None:
        """Look at folder and file as far as it costs next to nothing.

        :raises UserError: they cannot be used; they are left as they are.
        """
        if self.folder is None:
            return
        try:
            _check_folder(self.folder)
            header = _check_file(self.path)
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}", _HINT) from error
        if not header:
            return
        if len(header) < _HEADER or not header.startswith(_MAGIC):
            raise UserError(f"{self.path}: not a TEE's state, or damaged", _HINT)
        application = int.from_bytes(header[_APPLICATION_ID : _APPLICATION_ID + 4], "big")
        schema = int.from_bytes(header[_USER_VERSION : _USER_VERSION + 4], "big")
        # Both are 0 while the first transaction of a new file is in the journal only.
        if application not in (0, APPLICATION_ID):
            raise UserError(f"{self.path}: a database of something else", _HINT)
        if schema > SCHEMA:
            raise _newer(self.path, schema)

    def open(self) -> None:
        """Open it, and bring an older schema up to date. More calls do nothing.

        :raises UserError: it cannot be used; it is left as it is.
        :raises RolledBack: it is older than its counter says.
        :raises StorageNotAvailable: the counter cannot be used.
        """
        with self._lock:
            if self._connection is not None:
                return
            if self._closed:
                raise UserError(f"{self.path}: the TEE has ended")
            self.check()
            try:
                self._open()
            except OSError as error:
                raise UserError(f"{self.path}: {error.strerror}") from error

    def _open(self) -> None:
        import sqlite3

        if self.folder is not None:
            _create(self.folder, self.path)
        try:
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        except CorruptObject as error:
            raise UserError(f"{self.path}: damaged: {error.detail}", _HINT) from error
        except sqlite3.DatabaseError as error:
            code = _code(error)
            if code == sqlite3.SQLITE_BUSY:
                raise UserError(
                    f"{self.path}: another program has it open",
                    "a TEE's state belongs to one TEE at a time",
                ) from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
                raise UserError(f"{self.path}: damaged: {error}", _HINT) from error
            raise UserError(f"{self.path}: {error}") from error
        self._connection = connection

    def _prepare(self, connection: "sqlite3.Connection") -> None:
        # Before WAL: then there is no file of shared memory, and nobody else gets in.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.text_factory = _text
        self._migrate(connection)
        if self._counter is not None:
            self._counter.attach(connection)
        self._read_floors(connection)

    def _read_floors(self, connection: "sqlite3.Connection") -> None:
        self._floors = _versions(connection, "versions")
        self._subkey_floors = _versions(connection, "subkey_versions")

    def reload(self) -> None:
        """Much of it was replaced by :meth:`run`."""
        with self._lock:
            self._run(self._read_floors, write=False)

    def _migrate(self, connection: "sqlite3.Connection") -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            if schema > SCHEMA:
                raise _newer(self.path, schema)
            if application != (APPLICATION_ID if schema else 0):
                raise UserError(f"{self.path}: a database of something else", _HINT)
            if schema == 0:
                (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                if tables:
                    raise UserError(f"{self.path}: a database of something else", _HINT)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for version in range(schema, SCHEMA):
                # Not executescript(): it would end the transaction.
                for statement in MIGRATIONS[version].split(";"):
                    connection.execute(statement)
                connection.execute("INSERT INTO meta VALUES (?, ?)", (version + 1, _now()))
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close it for good."""
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
            if self._counter is not None:
                self._counter.close()

    # Using it

    def run(self, operation: "Callable[[sqlite3.Connection], Any]", *, write: bool) -> "Any":
        """Do ``operation`` in one transaction, for tables of :mod:`gentee.secure.storage`.

        :raises StorageNoSpace: the disk is full.
        :raises CorruptObject: pages of the file are damaged.
        :raises RolledBack: it is older than its counter says.
        :raises StorageNotAvailable: the counter cannot be used, so nothing is changed.
        :raises GenericError: it cannot be opened, read or written.
        """
        return self._run(operation, write=write)

    def _run(self, operation: "Callable[[sqlite3.Connection], Any]", *, write: bool) -> "Any":
        """Do ``operation`` in one transaction."""
        import sqlite3

        from gentee.secure.counter import count

        with self._lock:
            try:
                self.open()
            except UserError as error:
                raise GenericError(error.message) from error
            connection = self._connection
            assert connection is not None
            counter, changes = self._counter, 0
            if write and counter is not None:
                counter.ready()
            try:
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    result = operation(connection)
                    if write:
                        changes = count(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except sqlite3.DatabaseError as error:
                detail = f"{self.path}: {error}"
                code = _code(error)
                if code == sqlite3.SQLITE_FULL:
                    raise StorageNoSpace(detail) from error
                if code in (
                    sqlite3.SQLITE_CORRUPT,
                    sqlite3.SQLITE_NOTADB,
                    # Nothing here breaks a constraint, or is so long, but what a damaged file has.
                    sqlite3.SQLITE_CONSTRAINT,
                    sqlite3.SQLITE_MISMATCH,
                    sqlite3.SQLITE_TOOBIG,
                ):
                    raise CorruptObject(detail) from error
                raise GenericError(detail) from error
            if changes and counter is not None:
                counter.committed(changes)
            return result

    def floor(self, uuid: bytes) -> int:
        """The highest version that this service ever had here, 0 if none; without waiting."""
        return self._floors.get(uuid, 0)

    def subkey_floor(self, uuid: bytes) -> int:
        """The highest version of this subkey that was ever used here, 0 if none."""
        return self._subkey_floors.get(uuid, 0)

    def services(self) -> list[InstalledService]:
        """What is installed."""

        def select(connection: "sqlite3.Connection") -> list[InstalledService]:
            rows = connection.execute(
                "SELECT uuid, name, version, manifest, signer, installed FROM services"
            )
            return [InstalledService(*_typed(row, _SERVICE_TYPES)) for row in rows]

        if not self.exists():
            return []
        found: list[InstalledService] = self._run(select, write=False)
        return found

    def image(self, uuid: bytes) -> bytes:
        """The signed image of an installed service; ItemNotFound without one."""

        def select(connection: "sqlite3.Connection") -> bytes:
            row = connection.execute(
                "SELECT image FROM services WHERE uuid = ?", (uuid,)
            ).fetchone()
            if row is None:
                raise ItemNotFound("not installed")
            image: bytes = _typed(row, (bytes,))[0]
            return image

        found: bytes = self._run(select, write=False)
        return found

    def admit(self, uuid: bytes, version: int, subkeys: "Subkeys" = ()) -> None:
        """An image of this version is about to be used: check_update_version().

        :param subkeys: UUID and version of each subkey on the way to it.
        :raises TaImageError: a higher version was there before, TEE_ERROR_ACCESS_CONFLICT; of a
            subkey, TEE_ERROR_SECURITY.
        """
        with self._lock:
            self._run(lambda connection: _admit(connection, uuid, version, subkeys), write=True)
            self._admitted(uuid, version, subkeys)

    def _admitted(self, uuid: bytes, version: int, subkeys: "Subkeys") -> None:
        self._subkey_floors.update(subkeys)
        self._floors[uuid] = version

    def install(
        self,
        uuid: bytes,
        name: str,
        version: int,
        manifest: str,
        image: bytes,
        signer: str,
        subkeys: "Subkeys" = (),
    ) -> None:
        """Install a service, in the place of an earlier version.

        :raises TaImageError: a higher version was there before: as :meth:`admit`.
        :raises StorageNoSpace: there is no room for more.
        """

        def insert(connection: "sqlite3.Connection") -> None:
            _admit(connection, uuid, version, subkeys)
            count, size = connection.execute(
                "SELECT count(*), coalesce(sum(length(image)), 0) FROM services WHERE uuid != ?",
                (uuid,),
            ).fetchone()
            if count >= MAX_SERVICES or size + len(image) > MAX_BYTES:
                raise StorageNoSpace(f"{count} services of {size} bytes are installed")
            connection.execute(
                "INSERT OR REPLACE INTO services VALUES (?, ?, ?, ?, ?, ?, ?)",
                (uuid, name, version, manifest, signer, _now(), image),
            )

        with self._lock:
            self._run(insert, write=True)
            self._admitted(uuid, version, subkeys)

    def uninstall(self, uuid: bytes) -> None:
        """Forget a service; its version stays known. ItemNotFound if it is not installed."""

        def delete(connection: "sqlite3.Connection") -> None:
            if connection.execute("DELETE FROM services WHERE uuid = ?", (uuid,)).rowcount == 0:
                raise ItemNotFound("not installed")

        if not self.exists():
            raise ItemNotFound("not installed")
        self._run(delete, write=True)

    # The persistent time of a service: Internal Core API section 7.4.

    def ta_time(self, uuid: bytes) -> int | None:
        """What a service's persistent time is ahead of REE time, in milliseconds; None: not set."""

        def select(connection: "sqlite3.Connection") -> int | None:
            row = connection.execute(
                "SELECT offset_ms FROM ta_time WHERE uuid = ?", (uuid,)
            ).fetchone()
            return _typed(row, (int,))[0] if row is not None else None

        if not self.exists():
            return None
        found: int | None = self._run(select, write=False)
        return found

    def set_ta_time(self, uuid: bytes, offset: int) -> None:
        """Set it, in milliseconds. A negative offset is a time before REE time."""
        self._run(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO ta_time VALUES (?, ?)", (uuid, offset)
            ),
            write=True,
        )


_SERVICE_TYPES = (bytes, str, int, str, str, int)


def _text(data: bytes) -> str:
    """Text of a damaged file need not be text: the row is, whatever it has there."""
    return data.decode(errors="replace")


def _typed(row: "tuple[Any, ...]", types: "tuple[type, ...]") -> "tuple[Any, ...]":
    """A row of a table whose columns have these types; SQLite gives what a damaged file has."""
    if not all(map(isinstance, row, types)):
        raise CorruptObject("a row with values of the wrong types")
    return row


def _versions(connection: "sqlite3.Connection", table: str) -> dict[bytes, int]:
    rows = connection.execute(f"SELECT uuid, version FROM {table}")
    return dict(_typed(row, (bytes, int)) for row in rows)


_HINT = "gentee leaves it as it is; move it away to start with an empty state"


def _admit(connection: "sqlite3.Connection", uuid: bytes, version: int, subkeys: "Subkeys") -> None:
    # As OP-TEE, which answers TEE_ERROR_SECURITY to whatever check_update_version() says of a
    # subkey, and its own code of a TA.
    for subkey, its_version in subkeys:
        floor = _update_version(connection, "subkey_versions", subkey, its_version)
        if floor is not None:
            raise TaImageError(
                f"version {its_version} of a subkey is lower than {floor}, which was there before",
                TEE_ERROR_SECURITY,
            )
    floor = _update_version(connection, "versions", uuid, version)
    if floor is not None:
        raise TaImageError(
            f"version {version} is lower than {floor}, which was there before",
            TEE_ERROR_ACCESS_CONFLICT,
        )


def _update_version(
    connection: "sqlite3.Connection", table: str, uuid: bytes, version: int
) -> int | None:
    """Keep ``version`` if none is higher: check_update_version(). None, or the higher one."""
    row = connection.execute(f"SELECT version FROM {table} WHERE uuid = ?", (uuid,)).fetchone()
    if row is not None and _typed(row, (int,))[0] > version:
        floor: int = row[0]
        return floor
    if row is None:
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        if count >= MAX_VERSIONS:
            raise StorageNoSpace(f"{count} versions are kept")
    if row is None or row[0] != version:
        connection.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (uuid, version))
    return None


def _code(error: "sqlite3.DatabaseError") -> int:
    """SQLite's primary result code; 0 where Python itself found fault."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _now() -> int:
    from time import time

    return int(time())


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _newer(path: str, schema: int) -> UserError:
    return UserError(
        f"{path}: schema {schema} is newer than this gentee's, {SCHEMA}",
        "use the gentee that wrote it, or a newer one",
    )


def _check_folder(folder: str) -> None:
    status = os.stat(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise UserError(f"{folder}: not a folder", "a TEE's state is a folder of its own")
    if status.st_uid != os.geteuid():
        raise UserError(f"{folder}: belongs to somebody else", "a TEE's state is its owner's alone")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UserError(f"{folder}: others may write there", f"chmod 700 {folder}")


def _check_file(path: str) -> bytes:
    """The first bytes of the file; empty if it is not there yet."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise UserError(f"{path}: no file of yours", _HINT)
        if status.st_mode & 0o077:
            raise UserError(f"{path}: others may read it or write to it", f"chmod 600 {path}")
        return os.pread(fd, _HEADER, 0)
    finally:
        os.close(fd)


def _create(folder: str, path: str) -> None:
    """Make the file where it is missing: SQLite would take the modes of the umask."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        os.close(os.open(path, flags, 0o600))
    except FileExistsError:
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)  # its name is on disk too
    finally:
        os.close(fd)
