# SPDX-License-Identifier: BSD-2-Clause
"""The store of trusted services: finds them in folders, by UUID, without running them.

A Python service is a file ``*.py`` with one class that derives from ``TrustedApplication`` and
says what it is in literal class attributes. They are read from the syntax tree: the code of a
service runs in its own process only.
"""

import os
from collections.abc import Iterable

from gentee.errors import TaImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _T = TypeVar("_T")

_UUID_GROUPS = [8, 4, 4, 4, 12]  # digits of each
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_MAX_SOURCE = 16 << 20  # bytes; what is larger is no service

# Literal attributes of a service's class, with their defaults.
_ATTRIBUTES: dict[str, object] = {
    "uuid": None,
    "name": "",
    "version": 0,
    "description": "",
    "single_instance": False,
    "multi_session": False,
    "keep_alive": False,
}


def parse_uuid(text: str) -> bytes:
    """The 16 bytes of a UUID in its usual form; ValueError for anything else."""
    groups = text.split("-")
    digits = "".join(groups)
    if [len(group) for group in groups] != _UUID_GROUPS or not _HEX_DIGITS.issuperset(digits):
        raise ValueError(f"not a UUID: {text!r}")
    return bytes.fromhex(digits)


def format_uuid(uuid: bytes) -> str:
    """The usual form of a UUID's 16 bytes."""
    h = uuid.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


class Service:
    """A trusted service as its file describes it (GP TEE Internal Core API 1.3.1 section 4.5)."""

    __slots__ = (
        "class_name", "description", "keep_alive", "multi_session", "name", "path", "signature",
        "single_instance", "uuid", "version",
    )  # fmt: skip

    def __init__(self, path: str, class_name: str, attributes: dict[str, object]) -> None:
        self.path = path
        self.class_name = class_name
        self.uuid = parse_uuid(_typed(attributes, "uuid", str))
        self.name: str = _typed(attributes, "name", str) or class_name.lower()
        self.version: int = _typed(attributes, "version", int)
        self.description: str = _typed(attributes, "description", str)
        self.single_instance: bool = _typed(attributes, "single_instance", bool)
        self.multi_session: bool = _typed(attributes, "multi_session", bool)
        self.keep_alive: bool = _typed(attributes, "keep_alive", bool)
        # GP: both flags mean something for single instances only.
        if not self.single_instance and (self.multi_session or self.keep_alive):
            raise TaImageError(f"{path}: multi_session and keep_alive need single_instance")
        self.signature: tuple[int, int, int] = (0, 0, 0)

    def read(self) -> bytes:
        """The source, as it is now."""
        with open(self.path, "rb") as file:
            return file.read(_MAX_SOURCE)


def _typed(attributes: dict[str, object], name: str, kind: "type[_T]") -> "_T":
    value = attributes.get(name, _ATTRIBUTES[name])
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} must be a {kind.__name__}")
    return value


def describe(path: str, source: bytes) -> Service | None:
    """The service that ``source`` defines, None if it defines none.

    Raises :class:`TaImageError` where it says that it is one, but not which.
    """
    import ast  # only who looks for a service pays for it

    try:
        tree = ast.parse(source, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TaImageError(f"{path}: {error}") from error
    found: list[ast.ClassDef] = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
                if name == "TrustedApplication":
                    found.append(node)
                    break
    if not found:
        return None
    if len(found) > 1:
        raise TaImageError(f"{path}: more than one TrustedApplication in one file")
    attributes: dict[str, object] = {}
    for statement in found[0].body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, value = statement.target, statement.value
        else:
            continue
        if isinstance(target, ast.Name) and target.id in _ATTRIBUTES:
            try:
                attributes[target.id] = ast.literal_eval(value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                raise TaImageError(f"{path}: {target.id} must be a literal") from None
    try:
        return Service(path, found[0].name, attributes)
    except ValueError as error:
        raise TaImageError(f"{path}: {error}") from error


class TaStore:
    """The services of some folders; where two have one UUID the earlier folder wins.

    A folder is read again when it changed, so that a service dropped there is found at the next
    open of a session.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        self._folders = [os.path.abspath(folder) for folder in folders]
        self._files: dict[str, tuple[tuple[int, int, int], Service | None]] = {}
        self._problems: dict[str, str] = {}
        self._index: dict[bytes, Service] = {}
        self._seen: list[int] = []

    def find(self, uuid: bytes) -> Service | None:
        """The service with this UUID. A stat per folder and one of its file, as long as known."""
        if self._signature(self._folders) == self._seen:
            service = self._index.get(uuid)
            if service is not None and self._described(service.path) is service:
                return service
        return next((service for service in self.all() if service.uuid == uuid), None)

    def all(self) -> list[Service]:
        """All services, each UUID once."""
        services: dict[bytes, Service] = {}
        self._seen = self._signature(self._folders)
        gone = {*self._files, *self._problems}
        for folder in self._folders:
            for path in self._listed(folder):
                gone.discard(path)
                service = self._described(path)
                if service is not None:
                    services.setdefault(service.uuid, service)
        for path in gone:
            self._files.pop(path, None)
            self._problems.pop(path, None)
        self._index = services
        return list(services.values())

    @staticmethod
    def _signature(folders: list[str]) -> list[int]:
        return [os.stat(folder).st_mtime_ns if os.path.isdir(folder) else 0 for folder in folders]

    def problems(self) -> list[str]:
        """One line for each file that wants to be a service and cannot."""
        self.all()
        return list(self._problems.values())

    def _listed(self, folder: str) -> list[str]:
        try:
            names = os.listdir(folder)
        except OSError:
            return []
        return [os.path.join(folder, name) for name in sorted(names) if name.endswith(".py")]

    def _described(self, path: str) -> Service | None:
        try:
            status = os.stat(path)
        except OSError:
            return None
        signature = (status.st_mtime_ns, status.st_size, status.st_ino)
        known = self._files.get(path)
        if known is not None and known[0] == signature:
            return known[1]
        service: Service | None = None
        self._problems.pop(path, None)
        try:
            with open(path, "rb") as file:
                service = describe(path, file.read(_MAX_SOURCE))
            if service is not None:
                service.signature = signature
        except TaImageError as error:
            self._problems[path] = str(error)
        except OSError as error:  # which says nothing about the next time
            self._problems[path] = str(error)
            return None
        self._files[path] = (signature, service)
        return service
