# SPDX-License-Identifier: BSD-2-Clause
"""A counter of changes that is kept elsewhere than the TEE's state, so that an older copy of the
state is found out: OP-TEE's counter of the REE file system (nv_counter_incr_ree_fs_to()).

The state counts its changes in the transactions that make them, and the file follows when a
transaction is on disk, before anybody is told. So the state is never behind the file, however a
program ends; where it is, an older one was put back. A state that is ahead is one whose program was
killed between the two, or that was changed without the counter: the file follows then.

The file has two records, in sectors of their own, which are written in turn. If one is torn the
other is that of the change before.
"""

import contextlib
import fcntl
import os
import stat
from hashlib import sha256
from struct import Struct

from gentee.errors import SecurityError, StorageNotAvailable, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

_MAGIC = b"gentee#1"
_RECORD = Struct("<8s16sQ")  # magic, which state, changes
_CHECK = 16  # bytes of the record's SHA-256 behind it
_SECTOR = 512
_SIZE = 2 * _SECTOR
_ID = 16
_MOST = 1 << 62


class RolledBack(SecurityError):
    """The state is older than its counter says, or is of another one."""


class Counter:
    """The counter of one state.

    :param path: its file, which is made where state and file are new.
    :param warn: told what a person should know, a line each.
    """

    def __init__(self, path: str, warn: "Callable[[str], None] | None" = None) -> None:
        self.path = os.path.abspath(path)
        self._warn = warn
        self._fd = -1
        self._id = b""
        self._value = 0  # in the file
        self._due = 0  # what should be there

    def check(self) -> None:
        """UserError where the file cannot be used; it need not be there yet."""
        try:
            status = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            folder = os.path.dirname(self.path)
            if not os.path.isdir(folder):
                raise UserError(
                    f"counter {self.path}: there is no folder {folder}",
                    "a counter is a file elsewhere than the state, such as on another disk",
                ) from None
            return
        except OSError as error:
            raise UserError(f"counter {self.path}: {error.strerror}") from error
        problem = _problem(status)
        if problem:
            raise UserError(f"counter {self.path}: {problem}")

    def attach(self, connection: "sqlite3.Connection") -> None:
        """Compare it with a state that was just opened, and make it where both are new.

        :raises RolledBack: the state is older, or the file is none of this state.
        :raises StorageNotAvailable: the file cannot be used.
        """
        try:
            self._attach(connection)
        except OSError as error:
            self.close()
            raise StorageNotAvailable(f"counter {self.path}: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise

    def _attach(self, connection: "sqlite3.Connection") -> None:
        row = connection.execute("SELECT state, changes FROM state_counter").fetchone()
        if row is not None and not (
            isinstance(row[0], bytes) and isinstance(row[1], int) and 0 < row[1] < _MOST
        ):
            raise RolledBack("what the state has of its counter is damaged")
        if not self._open():
            if row is not None:
                raise RolledBack(f"its counter {self.path} is missing")
            self._make()
        if row is None:
            if self._value:
                raise RolledBack(
                    f"an older copy, or another one, than its counter {self.path} belongs to"
                )
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO state_counter VALUES (1, ?, 1)", (self._id,))
            connection.execute("COMMIT")
            row = self._id, 1
        state, changes = row
        if state != self._id:
            raise RolledBack(f"the counter {self.path} belongs to another state")
        if changes < self._value:
            raise RolledBack(
                f"an older copy was put back: it has {changes} changes, and its counter "
                f"{self.path} knows of {self._value}"
            )
        if changes > self._value:
            self._write(changes)

    def ready(self) -> None:
        """There is to be another change; StorageNotAvailable if the file is behind, and stays so.

        Otherwise more than one change could be taken back.
        """
        if self._due > self._value:
            try:
                self._write(self._due)
            except OSError as error:
                raise StorageNotAvailable(
                    f"counter {self.path}: {error.strerror}; nothing is changed without it"
                ) from error

    def committed(self, changes: int) -> None:
        """A change is on disk; now the file follows.

        If it cannot the change has happened all the same, and is the last one.
        """
        self._due = changes
        try:
            self._write(changes)
        except OSError as error:
            if self._warn is not None:
                self._warn(f"counter {self.path}: {error.strerror}; the state is ahead of it")

    def close(self) -> None:
        """Let go of the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                fcntl.flock(fd, fcntl.LOCK_UN)  # also for processes that were forked meanwhile
            finally:
                os.close(fd)

    # The file

    def _open(self) -> bool:
        """Open and read it; False if there is none."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        self._fd = fd
        problem = _problem(os.fstat(fd))
        if problem:
            raise StorageNotAvailable(f"counter {self.path}: {problem}")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageNotAvailable(f"counter {self.path}: another TEE has it") from None
        data = os.pread(fd, _SIZE + 1, 0)
        records = [_parse(data[at : at + _SECTOR]) for at in (0, _SECTOR)]
        found = [record for record in records if record is not None]
        if len(data) != _SIZE or not found:
            raise RolledBack(f"the counter {self.path} is damaged, or none")
        self._value, self._id = max((value, state) for state, value in found)
        self._due = 0
        return True

    def _make(self) -> None:
        """Make it so that it is there whole, on disk, or not at all."""
        new = f"{self.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)  # of one who did not come to the end
        record = _build(os.urandom(_ID), 0).ljust(_SECTOR, b"\0")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if os.write(fd, 2 * record) != _SIZE:
                raise StorageNotAvailable(f"{new}: no space")
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(new, self.path)
        fd = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self._open()

    def _write(self, changes: int) -> None:
        record = _build(self._id, changes)
        if os.pwrite(self._fd, record, changes % 2 * _SECTOR) != len(record):
            raise OSError(0, "a record that was not written whole")
        os.fdatasync(self._fd)
        self._value = changes


def count(connection: "sqlite3.Connection") -> int:
    """One change more, in the transaction that makes it; 0 for a state that nobody counts."""
    row = connection.execute(
        "UPDATE state_counter SET changes = changes + 1 RETURNING changes"
    ).fetchone()
    return row[0] if row is not None else 0


def _build(state: bytes, changes: int) -> bytes:
    record = _RECORD.pack(_MAGIC, state, changes)
    return record + sha256(record).digest()[:_CHECK]


def _parse(sector: bytes) -> tuple[bytes, int] | None:
    """Which state, and its changes; None if the record is torn, or none."""
    record, check = sector[: _RECORD.size], sector[_RECORD.size : _RECORD.size + _CHECK]
    if len(record) != _RECORD.size or sha256(record).digest()[:_CHECK] != check:
        return None
    magic, state, changes = _RECORD.unpack(record)
    return (state, changes) if magic == _MAGIC and changes < _MOST else None


def _problem(status: os.stat_result) -> str:
    """Why a file cannot be a counter; empty if it can."""
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        return "no file of yours"
    if status.st_mode & 0o022:
        return "others may write to it"
    return ""
