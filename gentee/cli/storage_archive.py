# SPDX-License-Identifier: BSD-2-Clause
"""``gentee storage export`` and ``import``: a TEE in a file, to move it."""

import contextlib
import os
import sys
from collections.abc import Sequence

from gentee.cli import tee_access
from gentee.cli.options import Command, Option
from gentee.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gentee.cli.options import Given

_SECRETS = [
    Option("--passphrase-file", "a file whose first line is the passphrase", metavar="FILE"),
    Option("--key-file", "a file whose bytes are the key", metavar="FILE"),
]
_JSON = Option("--json", "for programs")
_TEE = [tee_access.TEE, tee_access.STATE, tee_access.COUNTER]

EXPORT = Command(
    "storage export",
    "Write a TEE to a new file: its device secret, all objects, installed services, versions.",
    [*_TEE, *_SECRETS, _JSON],
    "FILE",
    mixed=True,
)
IMPORT = Command(
    "storage import",
    "Read a TEE from a file, into one without objects.",
    [*_TEE, *_SECRETS, _JSON],
    "FILE",
    mixed=True,
)

_EXPORT_DETAILS = """\
Without --tee and --state it is the TEE of plain 'gentee run'. The file is encrypted and
authenticated, with a passphrase that is asked for, or one of the two files. Whoever has file and
passphrase has all that the TEE's services have stored."""

_IMPORT_DETAILS = """\
Without --tee and --state it is the TEE of plain 'gentee run'. It gets the device secret of the one
in the file. Services come besides those that are installed; none replaces a higher version. The
whole file is verified before anything is changed."""

_MAX_SECRET = 4096  # bytes


def export(arguments: Sequence[str]) -> int:
    given = EXPORT.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(EXPORT.help(_EXPORT_DETAILS))
        return 0
    from gentee.cli.storage import tee_of
    from gentee.secure.storage.archive import derive_key, new_header

    path = _the_file(EXPORT, given)
    if os.path.lexists(path):
        raise UserError(f"{path}: it is there already", "an export is a new file")
    tee = tee_of(EXPORT, given)
    try:
        header = new_header()
        key = derive_key(header, _secret(EXPORT, given, twice=True))
        part = f"{path}.part"
        with _problems(part):
            fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with _problems(part), open(fd, "r+b") as file:
                request = {"do": "export", "header": header.hex(), "key": key.hex()}
                answer = tee.storage(request, file)
                os.fsync(file.fileno())
            with _problems(path):
                os.rename(part, path)
                _sync_folder(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            raise
    finally:
        tee.close()
    return _done(given, path, "exported", answer)


def import_(arguments: Sequence[str]) -> int:
    given = IMPORT.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(IMPORT.help(_IMPORT_DETAILS))
        return 0
    from gentee.cli.storage import tee_of
    from gentee.secure.storage.archive import HEADER_SIZE, check_header, derive_key

    path = _the_file(IMPORT, given)
    with _problems(path), open(path, "rb") as file:
        header = file.read(HEADER_SIZE)
        check_header(header)
        key = derive_key(header, _secret(IMPORT, given, twice=False))
        tee = tee_of(IMPORT, given, create=True)
        try:
            answer = tee.storage({"do": "import", "header": header.hex(), "key": key.hex()}, file)
        finally:
            tee.close()
    return _done(given, path, "imported", answer)


@contextlib.contextmanager
def _problems(path: str) -> "Any":
    """An OSError is told as one of the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error


def _the_file(command: Command, given: "Given") -> str:
    if len(given.words) != 1:
        raise command.error("one file is to be named", f"such as: gentee {command.name} tee.gentee")
    return given.words[0]


def _secret(command: Command, given: "Given", *, twice: bool) -> bytes:
    """What the key comes from."""
    from gentee.secure.storage.archive import LEAST_SECRET

    if given.has("--passphrase-file") and given.has("--key-file"):
        raise command.error("a passphrase and a key", "give one of them")
    if given.has("--key-file"):
        path = given.value("--key-file", "")
        secret = _read(path)
    elif given.has("--passphrase-file"):
        path = given.value("--passphrase-file", "")
        secret = _read(path).split(b"\n", 1)[0]
    else:
        path = "passphrase"
        secret = _ask(twice=twice)
    if len(secret) < LEAST_SECRET:
        raise UserError(f"{path}: too short", f"it wants {LEAST_SECRET} bytes or more")
    return secret


def _read(path: str) -> bytes:
    with _problems(path), open(path, "rb") as file:
        data = file.read(_MAX_SECRET + 1)
    if len(data) > _MAX_SECRET:
        raise UserError(f"{path}: larger than {_MAX_SECRET} bytes", "no key is")
    return data


def _ask(*, twice: bool) -> bytes:
    import getpass

    if not sys.stdin or not sys.stdin.isatty():
        raise UserError("a passphrase is asked for, and nobody is there", "--passphrase-file FILE")
    secret = getpass.getpass("Passphrase: ")
    if twice and getpass.getpass("Once more: ") != secret:
        raise UserError("the passphrases differ")
    return secret.encode("utf-8", "surrogateescape")


def _sync_folder(path: str) -> None:
    fd = os.open(
        os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    )
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _done(given: "Given", path: str, done: str, answer: "dict[str, Any]") -> int:
    from gentee.cli.storage import counted

    rows = answer["rows"]
    if given.has("--json"):
        import json

        print(json.dumps({"file": path, **answer}, indent=2))
    else:
        found = f"{counted(rows['objects'], 'object')} and {counted(rows['services'], 'service')}"
        print(f"{path}: {found} {done}")
    return 0
