# SPDX-License-Identifier: BSD-2-Clause
"""A TEE in a file: what ``gentee storage export`` writes and ``import`` reads.

::

    header: magic, version, log2 of scrypt's N, salt      every frame is bound to it
    frames: u32 size, AES-256-GCM of up to 1 MiB          the nonce is the number, and 1 in the last
    in the frames, one after the other, rows of tables    u8 table, u16 columns, the columns

The key is scrypt (RFC 7914) of a passphrase or of what a key file has. As each archive has a salt
of its own it has a key of its own, so frames can be numbered. One that is changed, moved, left out
or added does not open, and a file that was cut has no last frame. Nothing that is read is believed
before the frame that it is in was opened.
"""

import os
from struct import Struct
from struct import error as StructError

from gentee.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    Column = None | int | bytes | str
    Row = tuple[int, tuple[Column, ...]]

MAGIC = b"gentee\x00x"
VERSION = 1

_HEADER = Struct("<8sHBB16s")  # magic, version, log2 N, 0, salt
HEADER_SIZE = _HEADER.size
KEY_SIZE = 32
LEAST_SECRET = 8  # bytes of a passphrase or a key file
_LOG_N = 15  # 32 MiB, a tenth of a second
_MOST_LOG_N = 20
_R, _P = 8, 1

_FRAME = 1 << 20
_TAG = 16
_SIZE = Struct("<I")
_NONCE = Struct("<QHBB")  # number, 0, 0, whether it is the last
_ROW = Struct("<BH")
_INT = Struct("<q")
_MOST_COLUMN = 64 << 20  # bytes; the largest is an image of a service


class ArchiveError(UserError):
    """A file that is no archive, or not the one it was, or another key."""


def new_header() -> bytes:
    """The header of a new archive."""
    return _HEADER.pack(MAGIC, VERSION, _LOG_N, 0, os.urandom(16))


def check_header(data: bytes) -> tuple[int, bytes]:
    """Log2 of N and the salt of a header; ArchiveError if it is none."""
    if len(data) < _HEADER.size or not data.startswith(MAGIC):
        raise ArchiveError("not an archive of a TEE", "'gentee storage export FILE' makes one")
    _magic, version, log_n, zero, salt = _HEADER.unpack(data[: _HEADER.size])
    if version != VERSION:
        raise ArchiveError(
            f"an archive of version {version}; this gentee reads version {VERSION}",
            "use the gentee that wrote it, or a newer one",
        )
    if zero or not 1 <= log_n <= _MOST_LOG_N:
        raise ArchiveError("the archive's header is damaged")
    return log_n, salt


def derive_key(header: bytes, secret: bytes) -> bytes:
    """The key of the archive with this header."""
    from hashlib import scrypt

    log_n, salt = check_header(header)
    n = 1 << log_n
    return scrypt(secret, salt=salt, n=n, r=_R, p=_P, maxmem=192 * n * _R, dklen=KEY_SIZE)


def _nonce(number: int, last: bool) -> bytes:
    return _NONCE.pack(number, 0, 0, last)


class Writer:
    """Writes an archive; :meth:`close` makes it whole.

    :param file: at its beginning.
    """

    def __init__(self, file: "BinaryIO", header: bytes, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        check_header(header)
        self._file = file
        self._header = header
        self._cipher = AESGCM(key)
        self._number = 0
        self._pending = bytearray()
        file.write(header)

    def row(self, table: int, columns: "tuple[Column, ...]") -> None:
        """One row of a table."""
        self._put(_ROW.pack(table, len(columns)))
        for column in columns:
            if column is None:
                self._put(b"n")
            elif isinstance(column, int):
                self._put(b"i" + _INT.pack(column))
            else:
                data = column.encode() if isinstance(column, str) else column
                self._put((b"t" if isinstance(column, str) else b"b") + _SIZE.pack(len(data)))
                self._put(data)

    def _put(self, data: bytes) -> None:
        self._pending += data
        while len(self._pending) > _FRAME:
            self._frame(bytes(self._pending[:_FRAME]), last=False)
            del self._pending[:_FRAME]

    def _frame(self, data: bytes, *, last: bool) -> None:
        sealed = self._cipher.encrypt(_nonce(self._number, last), data, self._header)
        self._file.write(_SIZE.pack(len(sealed)))
        self._file.write(sealed)
        self._number += 1

    def close(self) -> None:
        """Write what is left."""
        self._frame(bytes(self._pending), last=True)
        self._file.flush()


class Reader:
    """Reads an archive.

    :param file: at its beginning.
    :raises ArchiveError: it is none.
    """

    def __init__(self, file: "BinaryIO", header: bytes, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._file = file
        self._header = header
        self._cipher = AESGCM(key)
        self._number = 0
        self._pending = bytearray()
        self._at = 0
        self._last = False
        if file.read(HEADER_SIZE) != header:
            raise ArchiveError("the archive has changed")

    def rows(self) -> "Iterator[Row]":
        """Table and columns of each row, to the end of a whole archive.

        :raises ArchiveError: it is damaged, cut, or the key is another one.
        """
        while self._more():
            table, count = _ROW.unpack(self._take(_ROW.size))
            yield table, tuple(self._column() for _ in range(count))

    def _column(self) -> "Column":
        kind = self._take(1)
        if kind == b"n":
            return None
        if kind == b"i":
            number: int = _INT.unpack(self._take(_INT.size))[0]
            return number
        (size,) = _SIZE.unpack(self._take(_SIZE.size))
        if kind not in (b"b", b"t") or size > _MOST_COLUMN:
            raise ArchiveError("the archive has what no gentee writes")
        data = self._take(size)
        if kind == b"b":
            return data
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise ArchiveError("the archive has what no gentee writes") from None

    def _more(self) -> bool:
        while self._at == len(self._pending):
            if self._last:
                if self._file.read(1):
                    raise ArchiveError("the archive has something behind its end")
                return False
            self._frame()
        return True

    def _take(self, size: int) -> bytes:
        while len(self._pending) - self._at < size:
            if self._last:
                raise ArchiveError("the archive ends inside a row")
            self._frame()
        data = bytes(self._pending[self._at : self._at + size])
        self._at += size
        return data

    def _frame(self) -> None:
        from cryptography.exceptions import InvalidTag

        del self._pending[: self._at]
        self._at = 0
        try:
            (size,) = _SIZE.unpack(self._file.read(_SIZE.size))
        except StructError:
            raise ArchiveError("the archive is cut") from None
        if not _TAG <= size <= _FRAME + _TAG:
            raise ArchiveError("the archive is damaged")
        sealed = self._file.read(size)
        if len(sealed) != size:
            raise ArchiveError("the archive is cut")
        for last in (False, True):
            try:
                data = self._cipher.decrypt(_nonce(self._number, last), sealed, self._header)
            except InvalidTag:
                continue
            self._last = last
            self._number += 1
            self._pending += data
            return
        if self._number == 0:
            raise ArchiveError(
                "the archive does not open: another passphrase or key, or it is damaged"
            )
        raise ArchiveError("the archive is damaged")
