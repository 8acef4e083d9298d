# SPDX-License-Identifier: BSD-2-Clause
"""The store of trusted services: finds them by UUID, without running them.

A Python service is a file ``*.py`` with one class that derives from ``TrustedApplication`` and
says what it is in literal class attributes. They are read from the syntax tree: the code of a
service runs in its own process only. A signed image has a manifest that says the same
(:mod:`gentee.secure.package`).
"""

import os
import threading
from collections.abc import Iterable

from gentee.abi.gp import TEE_ERROR_BUSY, TEE_ERROR_GENERIC
from gentee.errors import TaImageError, TeeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from gentee.secure.keys import AcceptedKeys
    from gentee.secure.state import State

    _T = TypeVar("_T")

_UUID_GROUPS = [8, 4, 4, 4, 12]  # digits of each
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_MAX_SOURCE = 16 << 20  # bytes; what is larger is no service
_MAX_IMAGE = 16 << 20  # bytes: gentee.secure.images.MAX_IMAGE
_MAX_PAYLOADS = 64 << 20  # bytes of verified images that are kept

# stat.S_IFMT and S_IFREG
_S_IFMT = 0o170000
_S_IFREG = 0o100000

IMAGE_END = ".ta"  # of the names of signed images

# Literal attributes of a service's class, with their defaults.
_ATTRIBUTES: dict[str, object] = {
    "uuid": None,
    "name": "",
    "version": 0,
    "description": "",
    "single_instance": False,
    "multi_session": False,
    "keep_alive": False,
    "apis": ("GP_TEEv1.3",),
    "properties": {},
}

# TEE_TS_MAX_APIS, and TEE_TS_API_SIZE with its NUL: gentee.abi.gentee_tee.
_MAX_APIS = 8
_MAX_API = 31

_MAX_PROPERTIES = 64
_MAX_PROPERTY_NAME = 128  # bytes
_MAX_PROPERTY = 4096  # bytes of a value
_RESERVED = "gpd."  # Internal Core API section 4.4: names that GlobalPlatform gives


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
    """A trusted service as its file describes it (GP TEE Internal Core API 1.3.1 section 4.5).

    :param path: its file; empty if it is installed.
    :param class_name: the class in a source; empty if a manifest describes it.
    """

    __slots__ = (
        "admitted", "apis", "class_name", "description", "installed", "keep_alive",
        "multi_session", "name", "path", "payload", "properties", "signature", "signed", "signer",
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
        self.apis = _apis(attributes.get("apis", _ATTRIBUTES["apis"]))
        self.properties = _properties(attributes.get("properties", {}))
        self.signature: tuple[int, int, int] = (0, 0, 0)
        self.installed = False  # in the TEE's own state, not in a folder
        self.signed = False  # it came in a signed image
        self.admitted = False  # its version was compared with those before
        self.signer = ""  # the fingerprint of the key
        self.payload: bytes | None = None  # of a signed image that was verified in this run

    def read(self) -> bytes:
        """The source, as it is now, or the package of a signed image."""
        payload = self.payload  # looked at once: it may be let go of meanwhile
        if payload is not None:
            return payload
        if self.signed:
            raise TaImageError(f"{self.name}: its image was let go of just now", TEE_ERROR_BUSY)
        with open(self.path, "rb") as file:
            return file.read(_MAX_SOURCE)


def _typed(attributes: dict[str, object], name: str, kind: "type[_T]") -> "_T":
    value = attributes.get(name, _ATTRIBUTES[name])
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} must be a {kind.__name__}")
    return value


def _apis(value: object) -> tuple[str, ...]:
    if not isinstance(value, tuple | list) or len(value) > _MAX_APIS:
        raise ValueError(f"apis must be up to {_MAX_APIS} names")
    for name in value:
        is_name = isinstance(name, str) and name.isascii() and name.isprintable()
        if not is_name or not 0 < len(name) <= _MAX_API or " " in name:
            raise ValueError(f"apis: a name has 1 to {_MAX_API} characters and no space")
    return tuple(value)


def _properties(value: object) -> dict[str, "str | int | bool | bytes"]:
    if not isinstance(value, dict) or len(value) > _MAX_PROPERTIES:
        raise ValueError(f"properties must be a dict of up to {_MAX_PROPERTIES}")
    for name, content in value.items():
        if not isinstance(name, str) or not name.isprintable():
            raise ValueError("properties: a name must be printable text")
        if not 0 < len(name.encode()) <= _MAX_PROPERTY_NAME or name.startswith(_RESERVED):
            raise ValueError(f"properties: {name[:_MAX_PROPERTY_NAME]!r} cannot be a name")
        if isinstance(content, str | bytes):
            size = len(content.encode() if isinstance(content, str) else content)
            if size > _MAX_PROPERTY or (isinstance(content, str) and "\0" in content):
                raise ValueError(f"properties: {name!r} has more than {_MAX_PROPERTY} bytes")
        elif not isinstance(content, int) or not 0 <= content < 1 << 64:
            raise ValueError(f"properties: {name!r} must be text, a number, a bool or bytes")
    return dict(value)


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
    """The services of a TEE: those that are installed, then those of some folders.

    As in OP-TEE, where secure storage comes before the file system of the REE; of two folders the
    earlier wins. A folder is read again when it changed, so that a service dropped there is found
    at the next open of a session. A file ``*.ta`` is a signed image: it is verified when it is
    first looked at and when it changed, and its version is compared when it is to be used.

    :param state: where installed services and versions are; by default in memory.
    :param keys: who may have signed an image.
    :param warn: told what a person should know, a line each.
    """

    def __init__(
        self,
        folders: Iterable[str],
        *,
        state: "State | None" = None,
        keys: "AcceptedKeys | None" = None,
        warn: "Callable[[str], None] | None" = None,
    ) -> None:
        self._folders = [os.path.abspath(folder) for folder in folders]
        self._given_state = state
        self._given_keys = keys
        self._warn = warn
        # Protects all below. known() looks at them without it: each is replaced as a whole, or has
        # one entry put or taken.
        self._lock = threading.RLock()
        self._files: dict[str, tuple[tuple[int, int, int], Service | None]] = {}
        self._problems: dict[str, str] = {}
        self._refusals: dict[str, TaImageError] = {}  # by path
        self._refused: dict[bytes, TaImageError] = {}  # by the UUID of the file's name
        self._index: dict[bytes, Service] = {}
        self._seen: list[int] = []
        self._installed: dict[bytes, Service] = {}
        self._is_loaded = state is None or not state.exists()
        self._payloads: dict[Service, int] = {}  # verified and kept, the latest last

    @property
    def state(self) -> "State":
        """Where installed services and versions are."""
        if self._given_state is None:
            from gentee.secure.state import State

            self._given_state = State()
        return self._given_state

    @property
    def keys(self) -> "AcceptedKeys":
        """Who may have signed an image."""
        if self._given_keys is None:
            from gentee.secure.keys import AcceptedKeys

            self._given_keys = AcceptedKeys()
        return self._given_keys

    def known(self, uuid: bytes) -> Service | None:
        """The service with this UUID if nothing has to be read to say so, else None.

        A stat per folder and one of its file; neither waits nor grows with the number of services.
        """
        if not self._is_loaded:
            return None
        service = self._installed.get(uuid)
        if service is None:
            if self._signature(self._folders) != self._seen:
                return None
            service = self._index.get(uuid)
            if service is None or self._signature_of(service.path) != service.signature:
                return None
        return service if not service.signed or self._is_ready(service) else None

    def find(self, uuid: bytes) -> Service | None:
        """The service with this UUID, ready to be used. It may wait for a disk.

        :raises TaImageError: there is an image of this name, and it is refused.
        :raises TeeError: the TEE's state cannot be used.
        """
        service = self.known(uuid)
        if service is not None:
            return service
        with self._lock:
            self.prepare()
            service = self._installed.get(uuid)
            if service is None:
                self._scan()
                service = self._index.get(uuid)
            if service is None:
                refused = self._refused.get(uuid)
                if refused is not None:
                    raise TaImageError(refused.detail, refused.code)
                return None
            if service.signed and not self._is_ready(service):
                self._make_ready(service)
            return service

    def all(self) -> list[Service]:
        """All services, each UUID once."""
        with self._lock:
            self.prepare()
            self._scan()
            return list({**self._index, **self._installed}.values())

    def problems(self, *, images: bool = True) -> list[str]:
        """One line for each file that wants to be a service and cannot.

        :param images: whether signed images are looked at too, which takes the time to verify them.
        """
        with self._lock:
            self._scan(images=images)
            return list(self._problems.values())

    def close(self) -> None:
        """The TEE ends."""
        if self._given_state is not None:
            self._given_state.close()

    # Installed services

    @property
    def is_prepared(self) -> bool:
        """Whether it is known which services are installed."""
        return self._is_loaded

    def prepare(self) -> None:
        """Read which services are installed, if that was not done yet."""
        if self._is_loaded:
            return
        from gentee.secure.package import described_by

        with self._lock:
            installed: dict[bytes, Service] = {}
            try:
                rows = self.state.services()
            except TeeError as error:
                self._tell(f"the TEE's state cannot be used: {error.detail}")
                raise
            for row in rows:
                try:
                    service = described_by(row.manifest)
                except TaImageError as error:
                    self._tell(f"installed service {row.name}: {error}")
                    continue
                service.version = row.version
                service.signer = row.signer
                service.signed = service.installed = True
                installed[row.uuid] = service
            self._installed = installed
            self._is_loaded = True

    def install(self, image: bytes) -> Service:
        """Install the service of a signed image, in the place of an earlier version.

        On disk when this returns. The next instance is of this version.

        :raises TaImageError: it is refused, with the code that a client gets.
        :raises TeeError: the TEE's state cannot be used.
        """
        from gentee.abi.service_package import MANIFEST
        from gentee.secure.package import open_image

        service, package, opened = open_image(image, self.keys)
        manifest = package.files[MANIFEST].decode()
        with self._lock:
            self.prepare()
            self.state.install(
                service.uuid, service.name, service.version, manifest, image, service.signer
            )
            service.installed = service.admitted = True
            before = self._installed.get(service.uuid)
            if before is not None:
                self._forget_payload(before)
            self._installed[service.uuid] = service
            self._keep_payload(service)
        self._tell_signer(service, opened.signer.development)
        return service

    def uninstall(self, uuid: bytes) -> None:
        """Forget an installed service, not its version. ItemNotFound if it is not installed."""
        with self._lock:
            self.prepare()
            self.state.uninstall(uuid)
            service = self._installed.pop(uuid, None)
            if service is not None:
                self._forget_payload(service)

    # Signed images

    def _is_ready(self, service: Service) -> bool:
        """Verified, and of a version that may be used."""
        return (
            service.payload is not None
            and service.admitted
            and self.state.floor(service.uuid) <= service.version
        )

    def _make_ready(self, service: Service) -> None:
        """Verify it again, and compare its version: check_update_version() at each load."""
        from gentee.secure.package import open_image

        if service.payload is None:
            if service.installed:
                image = self.state.image(service.uuid)
            else:
                image = _read_image(service.path)
            again, _package, opened = open_image(image, self.keys, service.uuid)
            if again.version != service.version:
                raise TaImageError("the image is another than before")
            self._tell_signer(service, opened.signer.development)
            service.payload = again.payload
            self._keep_payload(service)
        self.state.admit(service.uuid, service.version)
        service.admitted = True

    def _keep_payload(self, service: Service) -> None:
        """Payloads are kept up to a sum; whose was not used for long is verified again."""
        self._payloads[service] = len(service.payload or b"")
        while sum(self._payloads.values()) > _MAX_PAYLOADS:
            oldest = next(iter(self._payloads))
            if oldest is service:
                break
            self._forget_payload(oldest)

    def _forget_payload(self, service: Service) -> None:
        self._payloads.pop(service, None)
        service.payload = None

    def _tell_signer(self, service: Service, development: bool) -> None:
        if development:
            self._tell(
                f"{service.name}: signed with OP-TEE's public development key, which everybody "
                "has; --strict refuses it"
            )

    def _tell(self, line: str) -> None:
        if self._warn is not None:
            self._warn(line)

    # Folders

    def _scan(self, *, images: bool = True) -> None:
        """Read what is new or changed in the folders."""
        services: dict[bytes, Service] = {}
        refused: dict[bytes, TaImageError] = {}
        seen = self._signature(self._folders)
        gone = {*self._files, *self._problems}
        for folder in self._folders:
            for path in self._listed(folder, images):
                gone.discard(path)
                service = self._described(path)
                named = _uuid_in_name(path)
                if service is not None:
                    # An image that is refused is not replaced by what a later folder has.
                    if service.uuid not in refused:
                        services.setdefault(service.uuid, service)
                elif named is not None and path in self._problems and named not in services:
                    refused[named] = self._refusals[path]
        for path in gone:
            self._files.pop(path, None)
            self._problems.pop(path, None)
            self._refusals.pop(path, None)
        self._index = services
        self._refused = refused
        self._seen = seen

    @staticmethod
    def _signature(folders: list[str]) -> list[int]:
        return [os.stat(folder).st_mtime_ns if os.path.isdir(folder) else 0 for folder in folders]

    @staticmethod
    def _signature_of(path: str) -> tuple[int, int, int]:
        """What a regular file is known by; (0, 0, 0) where there is none."""
        try:
            status = os.stat(path)
        except OSError:
            return (0, 0, 0)
        if status.st_mode & _S_IFMT != _S_IFREG:  # a pipe: whoever opened it would wait
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)

    def _listed(self, folder: str, images: bool) -> list[str]:
        try:
            names = os.listdir(folder)
        except OSError:
            return []
        ends = (".py", IMAGE_END) if images else (".py",)
        return [os.path.join(folder, name) for name in sorted(names) if name.endswith(ends)]

    def _described(self, path: str) -> Service | None:
        signature = self._signature_of(path)
        if signature == (0, 0, 0):
            return None
        known = self._files.get(path)
        if known is not None and known[0] == signature:
            return known[1]
        service: Service | None = None
        self._problems.pop(path, None)
        self._refusals.pop(path, None)
        try:
            if path.endswith(IMAGE_END):
                service = self._open_image(path)
            else:
                with open(path, "rb") as file:
                    service = describe(path, file.read(_MAX_SOURCE))
            if service is not None:
                service.signature = signature
        except TaImageError as error:
            self._problems[path] = str(error)
            self._refusals[path] = error
        except OSError as error:  # which says nothing about the next time
            self._problems[path] = str(error)
            self._refusals[path] = TaImageError(str(error), TEE_ERROR_GENERIC)
            return None
        self._files[path] = (signature, service)
        return service

    def _open_image(self, path: str) -> Service:
        from gentee.secure.package import open_image

        try:
            service, _package, opened = open_image(
                _read_image(path), self.keys, _uuid_in_name(path)
            )
        except TaImageError as error:
            self._tell(f"not offered: {path}: {error}")
            raise TaImageError(f"{path}: {error}", error.code) from error
        service.path = path
        self._keep_payload(service)
        self._tell_signer(service, opened.signer.development)
        return service


def _read_image(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MAX_IMAGE + 1)  # one more, so that it is seen to be too large


def _uuid_in_name(path: str) -> bytes | None:
    """The UUID that a file UUID.ta is named by, None for other names."""
    name = os.path.basename(path)
    if not name.endswith(IMAGE_END):
        return None
    try:
        return parse_uuid(name.removesuffix(IMAGE_END))
    except ValueError:
        return None
