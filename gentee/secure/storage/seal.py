# SPDX-License-Identifier: BSD-2-Clause
"""Keys of trusted storage, and what is sealed with them: OP-TEE core/tee/tee_fs_key_manager.c.

::

    device secret ──> key of a TA ──> key for its names
                                  └─> key of an object, by 16 random bytes

Each arrow is HKDF-Expand with SHA-256 (RFC 5869 section 2.3) for one block. The device secret is 32
random bytes, made when the first object is stored, in a file of the state folder that its owner
alone may read. It never leaves this process.

Sealed is with AES-256-GCM under the key of an object, with a random nonce: there are far fewer than
2**32 seals of one object. What is sealed is bound to its place: see who calls :meth:`Sealer.seal`.
"""

import contextlib
import hmac
import os
import stat
from hashlib import sha256

from gentee.errors import CorruptObject, StorageNotAvailable

SECRET_FILE = "device-secret"
SECRET_SIZE = 32
SEAL_SIZE = 16  # bytes that an object's key comes from
OVERHEAD = 12 + 16  # a nonce before, a tag behind

_NONCE = 12
_TAG = 16
_LOOKUP = 16


def _expand(key: bytes, info: bytes) -> bytes:
    return hmac.digest(key, info + b"\x01", sha256)


class Sealer:
    """Seals and opens with one key."""

    __slots__ = ("_cipher", "_invalid")

    def __init__(self, key: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(key)
        self._invalid = InvalidTag

    def seal(self, place: bytes, data: bytes | bytearray | memoryview) -> bytearray:
        """Data for a place."""
        sealed = bytearray(len(data) + OVERHEAD)
        nonce = os.urandom(_NONCE)
        sealed[:_NONCE] = nonce
        self._cipher.encrypt_into(nonce, data, place, memoryview(sealed)[_NONCE:])
        return sealed

    def open(self, place: bytes, sealed: bytes) -> bytes:
        """What was sealed for a place; CorruptObject if it is not what it was."""
        if len(sealed) < OVERHEAD:
            raise CorruptObject("shorter than a seal")
        try:
            return self._cipher.decrypt(sealed[:_NONCE], memoryview(sealed)[_NONCE:], place)
        except self._invalid:
            raise CorruptObject("a seal does not hold") from None

    def open_into(self, place: bytes, sealed: bytes, out: memoryview) -> None:
        """The same, to a buffer of exactly the size of what was sealed."""
        if len(sealed) != len(out) + OVERHEAD:
            raise CorruptObject("not as long as it was")
        try:
            self._cipher.decrypt_into(sealed[:_NONCE], memoryview(sealed)[_NONCE:], place, out)
        except self._invalid:
            out[:] = bytes(len(out))
            raise CorruptObject("a seal does not hold") from None


class Keys:
    """All keys of a TEE's storage.

    :param secret: the device secret.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def export(self) -> bytes:
        """The device secret itself, for an archive that is sealed."""
        return self._secret

    @property
    def check(self) -> bytes:
        """Bytes that tell this secret from another one, and nothing else about it."""
        return _expand(self._secret, b"gentee storage check")

    def _of_ta(self, ta: bytes) -> bytes:
        return _expand(self._secret, b"gentee storage TA" + ta)

    def lookup(self, area: int, ta: bytes, name: bytes) -> bytes:
        """What the object of a name is found by, without telling its name."""
        key = _expand(self._of_ta(ta), b"names")
        return hmac.digest(key, bytes((area,)) + name, sha256)[:_LOOKUP]

    def sealer(self, ta: bytes, seal: bytes) -> Sealer:
        """The key of a TA's object."""
        return Sealer(_expand(self._of_ta(ta), b"object" + seal))


def load_secret(folder: str | None, *, may_make: bool) -> bytes:
    """The device secret of a state folder; without a folder a new one.

    :param may_make: whether to make it where there is none yet. It is on disk then.
    :raises StorageNotAvailable: there is none, or none to be used.
    """
    if folder is None:
        return os.urandom(SECRET_SIZE)
    path = os.path.join(folder, SECRET_FILE)
    try:
        secret = _read(path)
        if secret is None and may_make:
            _make(folder, path, os.urandom(SECRET_SIZE))
            secret = _read(path)
    except OSError as error:
        raise StorageNotAvailable(f"{path}: {error.strerror}") from error
    if secret is None:
        raise StorageNotAvailable(f"{path} is missing, and stored objects were sealed with it")
    return secret


def _read(path: str) -> bytes | None:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise StorageNotAvailable(f"{path}: no file of yours")
        if status.st_mode & 0o077:
            raise StorageNotAvailable(f"{path}: others may read it or write to it")
        secret = os.read(fd, SECRET_SIZE + 1)
    finally:
        os.close(fd)
    if len(secret) != SECRET_SIZE:
        raise StorageNotAvailable(f"{path}: it should have {SECRET_SIZE} bytes")
    return secret


def replace_secret(folder: str, secret: bytes) -> None:
    """Another device secret in the place of the one that there is, if any; OSError if it cannot."""
    _make(folder, os.path.join(folder, SECRET_FILE), secret)


def _make(folder: str, path: str, secret: bytes) -> None:
    """Make it so that it is there whole, on disk, or not at all."""
    new = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)  # of one who did not come to the end
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.write(fd, secret) != SECRET_SIZE:
            raise StorageNotAvailable(f"{new}: no space")
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(new, path)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
