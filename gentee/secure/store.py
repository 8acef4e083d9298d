# SPDX-License-Identifier: BSD-2-Clause
"""The store of trusted services: finds them by UUID, without running them.

Installed services and versions are in the TEE's state (:mod:`gentee.secure.state`); a folder has
sources ``*.py`` and signed images ``*.ta``. What a service is, its file says without being run
(:mod:`gentee.secure.service`, :mod:`gentee.secure.opening`).
"""

import os
import threading
from collections.abc import Iterable

from gentee.abi.gp import TEE_ERROR_GENERIC, TEE_ERROR_OUT_OF_MEMORY
from gentee.errors import ItemNotFound, TaImageError, TeeError, UserError
from gentee.secure.service import (
    ELF_END,
    IMAGE_END,
    MAX_SOURCE,
    Service,
    describe,
    format_uuid,
    parse_uuid,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gentee.secure.keys import AcceptedKeys
    from gentee.secure.state import State

_MAX_IMAGE = 16 << 20  # bytes: gentee.secure.images.MAX_IMAGE
_MAX_PAYLOADS = 64 << 20  # bytes of verified images that are kept

# stat.S_IFMT and S_IFREG
_S_IFMT = 0o170000
_S_IFREG = 0o100000


class TaStore:
    """The services of a TEE: those that are installed, then those of some folders.

    As in OP-TEE, where secure storage comes before the file system of the REE; of two folders the
    earlier wins. A folder is read again when it changed, so that a service dropped there is found
    at the next open of a session. A file ``*.ta`` is a signed image: it is verified when it is
    first looked at and when it changed, and its version is compared when it is to be used.

    :param state: where installed services and versions are; by default in memory.
    :param keys: who may have signed an image.
    :param allow_unsigned: whether an ELF file without a signed header is a TA too.
    :param warn: told what a person should know, a line each.
    """

    def __init__(
        self,
        folders: Iterable[str],
        *,
        state: "State | None" = None,
        keys: "AcceptedKeys | None" = None,
        allow_unsigned: bool = False,
        warn: "Callable[[str], None] | None" = None,
    ) -> None:
        self._folders = [os.path.abspath(folder) for folder in folders]
        self._given_state = state
        self._given_keys = keys
        self._allow_unsigned = allow_unsigned
        self._warn = warn
        self._told_development = False
        self._told_state = ""
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
        self._is_warm = not any(map(_has_images, self._folders))
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
        if service.is_library or (service.signed and not self._is_ready(service)):
            return None
        return service

    def find(self, uuid: bytes) -> Service | None:
        """The service with this UUID, ready to be used. It may wait for a disk.

        :raises TaImageError: there is an image of this name, and it is refused.
        :raises TeeError: the TEE's state cannot be used.
        """
        service = self.known(uuid)
        if service is not None:
            return service
        with self._lock:
            service = self._ready(uuid)
        return service if service is not None and not service.is_library else None

    def binary(self, uuid: bytes) -> tuple[Service, bytes]:
        """A TA or a library of TAs, with its ELF file, verified. It may wait for a disk.

        :raises ItemNotFound: there is none.
        :raises TaImageError: there is an image of this name, and it is refused.
        :raises TeeError: the TEE's state cannot be used.
        """
        with self._lock:  # so that its payload is not let go of before it is read
            service = self._ready(uuid)
            if service is None or not service.is_elf:
                raise ItemNotFound(f"no TA or library {format_uuid(uuid)}")
            return service, service.read()

    def is_current(self, service: Service) -> bool:
        """Whether ``service`` is still what its UUID stands for, as far as a stat of its file can
        tell.
        """
        installed = self._installed.get(service.uuid)
        if installed is not None:
            return installed is service
        if self._index.get(service.uuid) is not service:
            return False
        return self._signature_of(service.path) == service.signature

    def _ready(self, uuid: bytes) -> Service | None:
        """The service or library with this UUID, ready to be used."""
        self._load()
        service = self._installed.get(uuid)
        if service is None:
            self._scan(only=uuid)
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
        """All services, each UUID once; of the libraries of TAs those that are installed."""
        with self._lock:
            self._load()
            self._scan()
            found = {**self._index, **self._installed}.values()
            return [each for each in found if each.installed or not each.is_library]

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
        """Whether all is there that the first session needs: :meth:`prepare`."""
        return self._is_loaded and self._is_warm

    @property
    def may_have_tas(self) -> bool:
        """Whether it looks as if there were TAs of OP-TEE's. No file is opened for it."""
        if any(service.is_elf for service in tuple(self._installed.values())):
            return True
        return any(map(_has_images, self._folders))

    def prepare(self) -> None:
        """Read which services are installed, and load what verifies images where there are any.

        :raises TeeError: the TEE's state cannot be used.
        """
        self._load()
        if self._installed or not self._is_warm:
            import gentee.secure.opening  # noqa: F401

            try:
                self.keys.all()
            except UserError:  # whoever opens a session with an image gets it
                pass
            self._is_warm = True

    def _load(self) -> None:
        if self._is_loaded:
            return
        from gentee.secure.opening import described_by

        with self._lock:
            installed: dict[bytes, Service] = {}
            try:
                rows = self.state.services()
            except TeeError as error:
                # Once, and not at each session that cannot be opened.
                if error.detail != self._told_state:
                    self._told_state = error.detail
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
        from gentee.secure.opening import open_image

        opened = open_image(image, self.keys)
        service = opened.service
        with self._lock:
            self._load()
            self.state.install(
                service.uuid,
                service.name,
                service.version,
                opened.manifest,
                image,
                service.signer,
                service.subkeys,
            )
            service.installed = service.admitted = True
            before = self._installed.get(service.uuid)
            if before is not None:
                self._forget_payload(before)
            self._installed[service.uuid] = service
            self._keep_payload(service)
        self._tell_signer(service, opened.image.signer.development)
        return service

    def reload(self) -> None:
        """What is installed was replaced in the state."""
        with self._lock:
            for service in self._installed.values():
                self._forget_payload(service)
            self._installed = {}
            self._is_loaded = False

    def uninstall(self, uuid: bytes) -> None:
        """Forget an installed service, not its version. ItemNotFound if it is not installed."""
        with self._lock:
            self._load()
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
            and all(self.state.subkey_floor(uuid) <= least for uuid, least in service.subkeys)
        )

    def _make_ready(self, service: Service) -> None:
        """Verify it again, and compare its version: check_update_version() at each load."""
        from gentee.secure.opening import open_image

        if service.payload is None:
            if service.installed:
                image = self.state.image(service.uuid)
            else:
                image = _read_image(service.path)
            opened = open_image(image, self.keys, service.uuid)
            if opened.service.version != service.version:
                raise TaImageError("the image is another than before")
            self._tell_signer(service, opened.image.signer.development)
            service.subkeys = opened.service.subkeys
            service.payload = opened.service.payload
            self._keep_payload(service)
        self.state.admit(service.uuid, service.version, service.subkeys)
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
        """Once for a TEE: with OP-TEE's own TAs all images would say the same."""
        if development and not self._told_development:
            self._told_development = True
            self._tell(
                f"{service.name}: signed with OP-TEE's public development key, which everybody "
                "has; such images are accepted; --strict refuses them"
            )

    def _tell(self, line: str) -> None:
        if self._warn is not None:
            self._warn(line)

    # Folders

    def _scan(self, *, images: bool = True, only: bytes | None = None) -> None:
        """Read what is new or changed in the folders.

        :param only: one service is looked for: files that are named by another UUID can wait.
        """
        services: dict[bytes, Service] = {}
        refused: dict[bytes, TaImageError] = {}
        waiting: set[bytes] = set()
        seen = self._signature(self._folders)
        gone = {*self._files, *self._problems}
        for folder in self._folders:
            for path in self._listed(folder, images):
                gone.discard(path)
                named = _uuid_in_name(path)
                if only is not None and named not in (None, only) and path not in self._files:
                    waiting.add(named or b"")
                    continue
                service = self._described(path)
                if service is not None:
                    # An image that is refused is not replaced by what a later folder has; one that
                    # waits might be refused.
                    if service.uuid not in refused and service.uuid not in waiting:
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
        ends: tuple[str, ...] = (".py", IMAGE_END) if images else (".py",)
        found = [name for name in sorted(names) if name.endswith(ends)]
        if images and self._allow_unsigned:  # behind all that is signed
            found += [name for name in sorted(names) if name.endswith(ELF_END)]
        return [os.path.join(folder, name) for name in found]

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
            if path.endswith((IMAGE_END, ELF_END)):
                service = self._open_image(path)
            else:
                with open(path, "rb") as file:
                    service = describe(path, file.read(MAX_SOURCE))
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

    def _open_image(self, path: str) -> Service | None:
        named = _uuid_in_name(path)
        if named is None and path.endswith(ELF_END):
            return None
        from gentee.abi.elf import ELFMAG

        data = _read_image(path)
        try:
            if data.startswith(ELFMAG):
                return self._open_unsigned(path, data, named)
            from gentee.secure.opening import open_image

            opened = open_image(data, self.keys, named)
        except TaImageError as error:
            self._tell(f"not offered: {path}: {error}")
            raise TaImageError(f"{path}: {error}", error.code) from error
        service = opened.service
        service.path = path
        self._keep_payload(service)
        self._tell_signer(service, opened.image.signer.development)
        return service

    def _open_unsigned(self, path: str, data: bytes, named: bytes | None) -> Service:
        from gentee.secure.elf_service import describe_elf

        if not self._allow_unsigned:
            raise TaImageError("an ELF file that is not signed; --allow-unsigned takes it")
        if len(data) > _MAX_IMAGE:
            raise TaImageError(f"larger than {_MAX_IMAGE} bytes", TEE_ERROR_OUT_OF_MEMORY)
        if named is None:
            raise TaImageError("an ELF file that is not signed must be called by its UUID")
        service = describe_elf(data, named)
        service.path = path
        service.payload = data
        self._keep_payload(service)
        self._tell(f"{path}: not signed, accepted by --allow-unsigned")
        return service


def _has_images(folder: str) -> bool:
    try:
        return any(name.endswith(IMAGE_END) for name in os.listdir(folder))
    except OSError:
        return False


def _read_image(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MAX_IMAGE + 1)  # one more, so that it is seen to be too large


def _uuid_in_name(path: str) -> bytes | None:
    """The UUID that a file UUID.ta or UUID.elf is named by, None for other names."""
    name, dot, end = os.path.basename(path).rpartition(".")
    if dot + end not in (IMAGE_END, ELF_END):
        return None
    try:
        return parse_uuid(name)
    except ValueError:
        return None
