# SPDX-License-Identifier: BSD-2-Clause
"""The package of a service in Python: a ZIP file with a manifest (docs/images.md).

The limits and the names of the manifest's parts are in :mod:`gentee.abi.service_package`. A package
is written in one way only: entries sorted, stored, all with the same date, so that the same source
gives the same bytes wherever it is packed. It is read strictly; nothing of it runs.
"""

import io
import os

from gentee.abi.gp import TEE_ERROR_BAD_FORMAT
from gentee.abi.service_package import (
    FORMAT,
    MAGIC,
    MANIFEST,
    MANIFEST_KEYS,
    MAX_FILES,
    MAX_MANIFEST,
    MAX_NAME,
    MAX_PACKAGE,
    name_problem,
)
from gentee.errors import TaImageError
from gentee.secure.service import Service, describe, format_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from zipfile import ZipFile, ZipInfo

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP file can say
_MODE = 0o100644 << 16  # a regular file, as Unix writes it there
_UNIX = 3
_UTF8 = 0x800  # the one flag that an entry may have: its name is UTF-8

_END = 22  # bytes of the end of central directory record without a comment
_END_MAGIC = b"PK\x05\x06"
_ZIP64_LOCATOR = 20  # bytes
_ZIP64_MAGIC = b"PK\x06\x07"
_EXTRA_SIZE = 28  # where a file's own header has the size of its extra fields
_ENTRY = 46  # bytes of an entry of the central directory, besides its name

_MAX_NAME_OF_SERVICE = 63  # bytes: TEE_TS_NAME_SIZE with its NUL
_MAX_DESCRIPTION = 1024  # characters

_PRIVATE_KEY = b"PRIVATE KEY-----"  # the end of the first line of a PEM file that has one

# What is in a folder of sources and not part of the service.
_LEFT_OUT_FOLDERS = ("__pycache__",)
_LEFT_OUT_ENDS = (".pyc", ".pyo", "~")


class Package:
    """A package that was read: the service that it is, and its files by name."""

    __slots__ = ("files", "main", "manifest", "service")

    def __init__(
        self, service: Service, main: str, manifest: "dict[str, object]", files: "dict[str, bytes]"
    ) -> None:
        self.service = service
        self.main = main
        self.manifest = manifest
        self.files = files


def _refuse(detail: str) -> TaImageError:
    return TaImageError(f"package: {detail}", TEE_ERROR_BAD_FORMAT)


# Reading


def read(data: bytes) -> Package:
    """The package that ``data`` is.

    :raises TaImageError: it is none, TEE_ERROR_BAD_FORMAT.
    """
    _check_frame(data)
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = dict(_files(archive, data))
    # What zipfile raises for damage is not only BadZipFile.
    except (zipfile.BadZipFile, EOFError, ValueError, OverflowError, NotImplementedError) as error:
        raise _refuse(f"no ZIP file that can be read: {error}") from error
    for name in files:
        parts = name.split("/")
        if any("/".join(parts[:depth]) in files for depth in range(1, len(parts))):
            raise _refuse(f"{name!r}: a file is also a folder")
    text = files.get(MANIFEST)
    if text is None:
        raise _refuse(f"no {MANIFEST}")
    manifest = _manifest(text)
    main = manifest["main"]
    if (
        not isinstance(main, str)
        or main not in files
        or not main.endswith(".py")
        or not main.removesuffix(".py").isidentifier()
    ):
        raise _refuse(f"{MANIFEST}: main must name a module of the package")
    return Package(_service(manifest), main, manifest, files)


def _check_frame(data: bytes) -> None:
    """Look at both ends, so that the reader's work is bounded before it starts."""
    if len(data) > MAX_PACKAGE:
        raise _refuse(f"larger than {MAX_PACKAGE} bytes")
    if len(data) < _END or data[:4] != MAGIC:
        raise _refuse("no ZIP file")
    end = data[-_END:]
    count = int.from_bytes(end[10:12], "little")
    size = int.from_bytes(end[12:16], "little")
    offset = int.from_bytes(end[16:20], "little")
    if end[:4] != _END_MAGIC or end[20:22] != b"\0\0":
        raise _refuse("something follows the ZIP file, or its end is missing")
    if end[4:8] != b"\0\0\0\0" or end[8:10] != end[10:12]:
        raise _refuse("a ZIP file in several parts")
    if data[-_END - _ZIP64_LOCATOR :].startswith(_ZIP64_MAGIC):
        raise _refuse("a ZIP64 file")
    if not 0 < count <= MAX_FILES:
        raise _refuse(f"{count} files; there may be {MAX_FILES}")
    if size > count * (_ENTRY + MAX_NAME) or offset + size != len(data) - _END:
        raise _refuse("the directory is not where it should be")
    # zipfile takes a last entry that is longer than the directory, and fewer entries than it says.
    position, last = offset, offset + size
    for _ in range(count):
        entry = data[position : min(position + _ENTRY, last)]
        if len(entry) < _ENTRY:
            raise _refuse("the directory is cut")
        position += _ENTRY + sum(
            int.from_bytes(entry[at : at + 2], "little") for at in (28, 30, 32)
        )
    if position != last:
        raise _refuse("the directory has another size than its entries")


def _files(archive: "ZipFile", data: bytes) -> "Iterator[tuple[str, bytes]]":
    entries = archive.infolist()
    left = len(data)
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        problem = name_problem(name) or _entry_problem(entry)
        at = entry.header_offset + _EXTRA_SIZE
        if any(data[at : at + 2]):
            problem = "extra fields"
        if name in seen:
            problem = "twice there"
        seen.add(name)
        left -= entry.file_size
        if left < 0:
            problem = "the files are larger than the package"
        elif name == MANIFEST and entry.file_size > MAX_MANIFEST:
            problem = f"larger than {MAX_MANIFEST} bytes"
        if problem:
            raise _refuse(f"{name[:MAX_NAME]!r}: {problem}")
    for entry in entries:
        yield entry.filename, archive.read(entry)


def _entry_problem(entry: "ZipInfo") -> str:
    if entry.orig_filename != entry.filename:
        return "a name with a NUL"
    if entry.flag_bits & 1:
        return "encrypted"
    if entry.flag_bits & ~_UTF8:
        return f"flags 0x{entry.flag_bits:x}"
    if not entry.flag_bits and not entry.filename.isascii():
        return "a name that is not UTF-8"  # of which the service's process would know nothing
    if entry.compress_type != 0 or entry.compress_size != entry.file_size:
        return "compressed; entries must be stored"
    if entry.extra or entry.comment:
        return "extra fields"
    if entry.external_attr >> 16 and (entry.external_attr >> 28) != 0o10:
        return "no regular file"
    return ""


def _once(pairs: "list[tuple[str, object]]") -> "dict[str, object]":
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no number")


def described_by(manifest: str) -> Service:
    """The service that the text of a manifest describes; TaImageError if it is none."""
    return _service(_manifest(manifest.encode()))


def parse_json(text: bytes) -> "dict[str, object]":
    """The object that a text in JSON is.

    :raises ValueError: it is none, or not plain: a name twice, a number that is none.
    """
    import json

    found = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _manifest(text: bytes) -> "dict[str, object]":

    try:
        manifest = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise _refuse(f"{MANIFEST}: {error}") from error
    if manifest.get("format") is True or manifest.get("format") != FORMAT:
        raise _refuse(f"{MANIFEST}: format {manifest.get('format')!r} is not {FORMAT}")
    for key in MANIFEST_KEYS:
        if key not in manifest:
            raise _refuse(f"{MANIFEST}: {key} is missing")
    for key in manifest:
        if key not in MANIFEST_KEYS:
            raise _refuse(f"{MANIFEST}: {key!r} is unknown")
    return manifest


def _service(manifest: "dict[str, object]") -> Service:
    attributes = {key: manifest[key] for key in MANIFEST_KEYS if key not in ("format", "main")}
    properties = manifest["properties"]
    try:
        if not isinstance(properties, dict):
            raise ValueError("properties must be an object")
        attributes["properties"] = {
            name: _from_json(name, value) for name, value in properties.items()
        }
        service = Service("", "", attributes)
    except (ValueError, TaImageError) as error:
        raise _refuse(f"{MANIFEST}: {str(error).removeprefix(': ')}") from error
    name = service.name
    if not name or not name.isprintable() or len(name.encode()) > _MAX_NAME_OF_SERVICE:
        raise _refuse(f"{MANIFEST}: name must have 1 to {_MAX_NAME_OF_SERVICE} printable bytes")
    if len(service.description) > _MAX_DESCRIPTION:
        raise _refuse(f"{MANIFEST}: description has more than {_MAX_DESCRIPTION} characters")
    return service


# A property that is bytes is written {"base64": "..."}: GP's textual form of binary properties.


def _from_json(name: str, value: object) -> object:
    if not isinstance(value, dict):
        return value
    text = value.get("base64")
    if len(value) != 1 or not isinstance(text, str):
        raise ValueError(f"property {name!r} must be text, a number, a truth value or base64")
    from base64 import b64decode

    return b64decode(text, validate=True)


def _to_json(value: object) -> object:
    if not isinstance(value, bytes):
        return value
    from base64 import b64encode

    return {"base64": b64encode(value).decode()}


# Writing


def write(main: str, service: Service, files: "Mapping[str, bytes]") -> bytes:
    """The package of ``service``, whose module ``main`` is among ``files``.

    :raises TaImageError: it would not be taken.
    """
    import json
    import zipfile

    manifest: dict[str, object] = {
        "format": FORMAT,
        "main": main,
        "uuid": format_uuid(service.uuid),
        "name": service.name,
        "version": service.version,
        "description": service.description,
        "single_instance": service.single_instance,
        "multi_session": service.multi_session,
        "keep_alive": service.keep_alive,
        "apis": list(service.apis),
        "properties": {name: _to_json(value) for name, value in service.properties.items()},
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    try:
        entries = [(MANIFEST, text.encode("utf-8")), *sorted(files.items())]
    except UnicodeEncodeError as error:
        raise _refuse(f"{MANIFEST}: {error}") from error
    for name, _ in entries:
        problem = name_problem(name)
        if problem:
            raise _refuse(f"{name[:MAX_NAME]!r}: {problem}")
    if sum(len(content) for _, content in entries) > MAX_PACKAGE:
        raise _refuse(f"larger than {MAX_PACKAGE} bytes")
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = _UNIX
            entry.external_attr = _MODE
            archive.writestr(entry, content)
    data = target.getvalue()
    read(data)  # whoever packs hears what whoever loads would say
    return data


def pack(path: str) -> tuple[Service, bytes]:
    """The service in a file, or in a folder with a main module, and its package.

    :raises TaImageError: there is none, or it cannot be packed.
    :raises OSError: a file cannot be read.
    """
    if not os.path.isdir(path):
        with open(path, "rb") as file:
            source = file.read(MAX_PACKAGE + 1)
        service = describe(path, source)
        if service is None:
            raise TaImageError(f"{path}: no class in it derives from TrustedApplication")
        main = os.path.basename(path)
        if not main.endswith(".py") or not main.removesuffix(".py").isidentifier():
            raise TaImageError(f"{path}: cannot be the name of a module")
        return service, write(main, service, {main: source})
    files = dict(_sources(path))
    found: list[tuple[str, Service]] = []
    for name, content in files.items():
        if name.endswith(".py") and "/" not in name:
            service = describe(os.path.join(path, name), content)
            if service is not None:
                found.append((name, service))
    if not found:
        raise TaImageError(f"{path}: no module there has a class that is a TrustedApplication")
    if len(found) > 1:
        names = ", ".join(name for name, _ in found)
        raise TaImageError(f"{path}: more than one main module: {names}")
    ((main, service),) = found
    return service, write(main, service, files)


def _sources(folder: str) -> "Iterator[tuple[str, bytes]]":
    """What is in a folder, hidden files and compiled modules left out."""
    count = size = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if name[0] != "." and name not in _LEFT_OUT_FOLDERS
        )
        for name in folders:
            if os.path.islink(os.path.join(parent, name)):
                raise TaImageError(f"{os.path.join(parent, name)}: a link to a folder")
        for name in sorted(names):
            path = os.path.join(parent, name)
            inside = os.path.relpath(path, folder)
            if name[0] == "." or name.endswith(_LEFT_OUT_ENDS):
                continue
            if inside == MANIFEST:
                raise TaImageError(f"{path}: packing writes a {MANIFEST} of its own")
            if not os.path.isfile(path):
                raise TaImageError(f"{path}: no regular file")
            count += 1
            with open(path, "rb") as file:
                content = file.read(MAX_PACKAGE + 1)
            size += len(content)
            if count >= MAX_FILES or size > MAX_PACKAGE:
                limit = f"{MAX_FILES} files and {MAX_PACKAGE >> 20} MiB"
                raise TaImageError(f"{folder}: more than a package takes, {limit}")
            if _PRIVATE_KEY in content and not name.endswith(".py"):
                raise TaImageError(f"{path}: a private key, and whoever has a package can read it")
            yield inside, content
