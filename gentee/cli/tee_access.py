# SPDX-License-Identifier: BSD-2-Clause
"""The TEE that a command means: one that runs, one that only has a state folder, or a device.

``gentee load``, ``unload`` and ``ls`` ask each of them for the same things. A running TEE is asked
through the control socket in its state folder (:mod:`gentee.device.control`). Where none runs, the
command locks the folder, as a TEE would, and works on what is kept there.
"""

import os
import socket
import time

from gentee.cli.options import Option
from gentee.device import control
from gentee.device.state_dir import StateDir, folder_of
from gentee.errors import TaImageError, TeeError, UserError
from gentee.secure.service import format_uuid, parse_uuid
from gentee.secure.store import TaStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, BinaryIO

    from gentee.cli.options import Command, Given
    from gentee.client import Context
    from gentee.secure.service import Service
    from gentee.secure.ta_encryption import EncryptionKeys

TEE = Option("--tee", "the TEE of this name, whether it runs or not", metavar="NAME")
STATE = Option("--state", "the TEE whose state is in this folder", metavar="DIR")
KEY = Option(
    "--key",
    "a PEM file with a key that images may be signed with",
    metavar="FILE",
    repeat=True,
)
STRICT = Option("--strict", "these keys only, not OP-TEE's public development keys")
COUNTER = Option("--counter", "the counter of a TEE that does not run", metavar="FILE")

_DEVICE = "/dev/tee0"
_SOCKET_PATIENCE = 1.0  # seconds: a TEE that starts has its lock a moment before its socket
_SOCKET_INTERVAL = 0.02
_ANSWER_PATIENCE = 120.0  # seconds; installing a service waits for a disk

STATES = ("ready", "active", "busy")  # by TEE_TS_STATE_*


class Row:
    """A service as a command shows it.

    ``state`` is one of STATES, empty if nothing runs; ``signer`` a fingerprint, empty if it is not
    known; ``file`` is empty for what is installed.
    """

    __slots__ = (
        "apis", "description", "file", "flags", "installed", "name", "sessions", "signer", "state",
        "uuid", "version",
    )  # fmt: skip

    def __init__(self, uuid: bytes, name: str, version: int) -> None:
        self.uuid = uuid
        self.name = name
        self.version = version
        self.installed = False
        self.signer = ""
        self.state = ""
        self.sessions = 0
        self.flags: list[str] = []
        self.description = ""
        self.file = ""
        self.apis: list[str] = []

    @classmethod
    def of_service(cls, service: "Service") -> "Row":
        row = cls(service.uuid, service.name, service.version)
        row.installed = service.installed
        row.signer = service.signer
        row.flags = flags(service)
        row.description = service.description
        row.file = service.path
        row.apis = list(service.apis)
        return row

    def as_json(self) -> "dict[str, Any]":
        return {
            "uuid": format_uuid(self.uuid),
            "name": self.name,
            "version": self.version,
            "flags": self.flags,
            "description": self.description,
            "file": self.file,
            "apis": self.apis,
            "installed": self.installed,
            "signer": self.signer,
            "state": self.state,
            "sessions": self.sessions,
        }


def flags(service: "Service") -> list[str]:
    """What of GP's properties is set, in a word each."""
    named = {
        "single": service.single_instance,
        "multi": service.multi_session,
        "keep": service.keep_alive,
    }
    return [name for name, is_set in named.items() if is_set]


class StoppedTee:
    """A TEE that does not run, by its locked state folder; None for one that keeps nothing.

    :param ta_dirs: folders of services besides what is installed.
    :param warn: told what a person should know, a line each.
    """

    running = False

    def __init__(
        self,
        state_dir: StateDir | None,
        ta_dirs: "Sequence[str]" = (),
        keys: "Sequence[str]" = (),
        *,
        strict: bool = False,
        encryption: "EncryptionKeys | None" = None,
        allow_unsigned: bool = False,
        counter: str = "",
        warn: "Callable[[str], None] | None" = None,
    ) -> None:
        from gentee.secure.counter import Counter
        from gentee.secure.keys import AcceptedKeys
        from gentee.secure.state import State

        self._state_dir = state_dir
        accepted = AcceptedKeys(keys, strict=strict, encryption=encryption)
        accepted.all()  # a file that holds no key is the command's error, not the image's
        accepted.encryption.check_files()
        state = None
        if state_dir is not None:
            counted = Counter(counter, warn) if counter else None
            if counted is not None:
                counted.check()
            state = State(state_dir.path, counted)
            state.check()
        self.store = TaStore(
            ta_dirs, state=state, keys=accepted, allow_unsigned=allow_unsigned, warn=warn
        )

    def services(self) -> list[Row]:
        try:
            return [Row.of_service(service) for service in self.store.all()]
        except TeeError as error:
            raise UserError(error.detail or str(error)) from error

    def install(self, image: bytes) -> tuple[bytes, int]:
        """UUID and version of what was installed; TeeError with the reason."""
        try:
            service = self.store.install(image)
        except TaImageError as error:
            raise TeeError.from_code(error.code, detail=str(error)) from error
        return service.uuid, service.version

    def uninstall(self, uuid: bytes) -> None:
        self.store.uninstall(uuid)

    def storage(self, request: "dict[str, Any]", file: "BinaryIO | None" = None) -> "Any":
        """What of stored objects is asked for (:mod:`gentee.secure.storage.admin`)."""
        from gentee.secure.storage.admin import StoppedTurns, administer
        from gentee.secure.storage.store import ObjectStore

        objects = ObjectStore(lambda: self.store.state)
        try:
            return administer(StoppedTurns(objects), self.store, request, file)
        except (TeeError, TaImageError) as error:
            detail = error.detail if isinstance(error, TeeError) else ""
            raise UserError(detail or str(error)) from error

    def close(self) -> None:
        self.store.close()
        if self._state_dir is not None:
            self._state_dir.close()


class RunningTee:
    """A TEE that runs, by its control socket."""

    running = True

    def __init__(self, connection: control.Connection) -> None:
        self._connection = connection

    def services(self) -> list[Row]:
        return rows_of(self._connection.ask_json(control.LIST))

    def statistics(self) -> object:
        """What is alive and what it takes, as JSON."""
        return self._connection.ask_json(control.STATS)

    def install(self, image: bytes) -> tuple[bytes, int]:
        """UUID and version of what was installed; Refused with the reason."""
        fd = os.memfd_create("image", os.MFD_CLOEXEC)
        with open(fd, "w+b") as file:
            file.write(image)
            file.flush()
            file.seek(0)
            answer, fds = self._connection.ask(control.LOAD, fds=(fd,))
        control.close_all(fds)
        if len(answer) != control.IMAGE.size:
            raise control.Refused("the TEE did not answer as expected")
        uuid, version = control.IMAGE.unpack(answer)
        return uuid, version

    def uninstall(self, uuid: bytes) -> None:
        _answer, fds = self._connection.ask(control.UNLOAD, uuid)
        control.close_all(fds)

    def storage(self, request: "dict[str, Any]", file: "BinaryIO | None" = None) -> "Any":
        """What of stored objects is asked for; Refused with the reason."""
        import json

        # It may look through all that is stored.
        self._connection.socket.settimeout(None)
        with open(os.memfd_create("request", os.MFD_CLOEXEC), "w+b") as asked:
            asked.write(json.dumps(request).encode())
            asked.flush()
            fds = (asked.fileno(),) if file is None else (asked.fileno(), file.fileno())
            return self._connection.ask_json(control.STORAGE, fds)

    def close(self) -> None:
        self._connection.close()


class DeviceTee:
    """The TEE behind a device, which can load services and list them, and unload none."""

    running = True

    def __init__(self, context: "Context") -> None:
        self.context = context

    def services(self) -> list[Row]:
        rows = []
        try:
            infos = self.context.services()
        except TeeError as error:
            raise UserError(f"{self.context.door.name}: {error}") from error
        for info in infos:
            row = Row(info.uuid.bytes, info.name, info.version)
            row.installed = info.installed
            row.state = STATES[info.state] if info.state < len(STATES) else str(info.state)
            row.sessions = info.sessions
            row.apis = list(info.apis)
            rows.append(row)
        return rows

    def install(self, image: bytes) -> tuple[bytes, int]:
        """UUID and version of what was installed; TeeError with the result."""
        uuid, version = self.context.load(image)
        return uuid.bytes, version

    def uninstall(self, uuid: bytes) -> None:
        raise UserError("a device has no operation to unload a service")

    def close(self) -> None:
        self.context.finalize()


AnyTee = StoppedTee | RunningTee | DeviceTee


def rows_of(answer: object) -> list[Row]:
    """What a running TEE lists, as JSON; Refused for anything else."""
    rows = []
    try:
        entries: Any = answer
        if isinstance(entries, dict):
            entries = entries["services"]
        for entry in entries:
            row = Row(parse_uuid(entry["uuid"]), str(entry["name"]), int(entry["version"]))
            row.installed = bool(entry["installed"])
            row.signer = str(entry.get("signer") or "")
            row.state = str(entry.get("state") or "")
            if isinstance(entry.get("state"), int):
                row.state = STATES[entry["state"]]
            row.sessions = int(entry.get("sessions", 0))
            row.flags = [str(flag) for flag in entry.get("flags", ())]
            row.description = str(entry.get("description") or "")
            row.file = str(entry.get("file") or "")
            row.apis = [str(api) for api in entry.get("apis", ())]
            rows.append(row)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise control.Refused("the TEE did not answer as expected") from error
    return rows


def named_folder(command: "Command", given: "Given") -> str | None:
    """The state folder that ``--tee`` or ``--state`` means; None if neither was given."""
    if given.has("--tee") and given.has("--state"):
        raise command.error("--tee and --state both say which TEE", "give one of them")
    if given.has("--tee"):
        return folder_of(given.value("--tee", ""))
    if given.has("--state"):
        path = given.value("--state", "")
        if not path:
            raise command.error("--state '' is no folder")
        return os.path.abspath(path)
    return None


def given_encryption(given: "Given") -> "EncryptionKeys | None":
    """The keys to decrypt images with that were given; None if none was."""
    if not (given.has("--ta-enc-key") or given.has("--ta-class-key")):
        return None
    from gentee.secure.ta_encryption import EncryptionKeys

    return EncryptionKeys(given.value("--ta-enc-key", ""), given.value("--ta-class-key", ""))


def connect(state_dir: StateDir) -> RunningTee:
    """The TEE that has the folder; UserError if it takes no commands."""
    end = time.monotonic() + _SOCKET_PATIENCE
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(state_dir.address())
            sock.settimeout(_ANSWER_PATIENCE)
            return RunningTee(control.Connection(sock))
        except OSError as error:
            sock.close()
            missing = isinstance(error, FileNotFoundError | ConnectionRefusedError)
            if not missing or time.monotonic() > end:
                raise _takes_no_commands(state_dir, error) from error
        time.sleep(_SOCKET_INTERVAL)


def _takes_no_commands(state_dir: StateDir, error: OSError) -> UserError:
    holder = state_dir.holder()
    who = f"process {holder}" if holder else "another process"
    return UserError(
        f"state folder {state_dir.path}: the TEE that has it, {who}, takes no commands: "
        f"{error.strerror or error}",
        "one that is started by 'gentee serve' does; this one ends with its program",
    )


def tee_of(
    folder: str,
    ta_dirs: "Sequence[str]" = (),
    keys: "Sequence[str]" = (),
    *,
    strict: bool = False,
    encryption: "EncryptionKeys | None" = None,
    allow_unsigned: bool = False,
    counter: str = "",
    create: bool = False,
    warn: "Callable[[str], None] | None" = None,
) -> StoppedTee | RunningTee:
    """The TEE whose state is in ``folder``.

    :param keys: whose images are accepted, ``encryption`` what they may be encrypted with, and
        ``ta_dirs`` what else there is, also what is not signed if ``allow_unsigned``: for a TEE
        that does not run.
    :param counter: the file with the counter of a TEE that does not run, empty for none.
    :param create: make the folder where it is missing.
    :raises UserError: it cannot be asked, and why.
    """
    if not create:
        try:
            os.lstat(folder)
        except FileNotFoundError:
            raise UserError(
                f"state folder {folder}: there is none", "so nothing is installed in that TEE"
            ) from None
        except OSError as error:  # a folder above it is closed
            raise UserError(f"state folder {folder}: {error.strerror}") from None
    try:
        state_dir = StateDir(folder, create=create)
    except OSError as error:
        raise UserError(f"state folder {folder}: {error.strerror or error}") from error
    locked = False
    try:
        try:
            locked = state_dir.lock()
        except OSError as error:
            raise UserError(f"state folder {folder}: {error.strerror or error}") from error
        if locked:
            return StoppedTee(
                state_dir,
                ta_dirs,
                keys,
                strict=strict,
                encryption=encryption,
                allow_unsigned=allow_unsigned,
                counter=counter,
                warn=warn,
            )
        if keys or strict or encryption is not None:
            raise UserError(
                "the TEE runs already, and its keys were given when it was started",
                "leave out the keys and --strict; 'gentee serve --key FILE' accepts a key",
            )
        if counter:
            raise UserError(
                "the TEE runs already, and its counter was given when it was started",
                "leave out --counter",
            )
        return connect(state_dir)
    except BaseException:
        state_dir.close()
        raise
    finally:
        if not locked:
            state_dir.close()


def device_tee(path: str = _DEVICE) -> DeviceTee | None:
    """The TEE behind a device that can load and list services; None without one."""
    # By an open, since where opens are answered nothing else finds it.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return None
    from gentee.client import Context, DeviceDoor

    try:
        door = DeviceDoor(path)
    except OSError:
        return None
    try:
        door.get_ts_list(b"", b"")
    except OSError:  # a TEE of another kind, such as one in hardware: EINVAL
        door.close()
        return None
    return DeviceTee(Context(door=door))


def shown_signer(signer: str) -> str:
    """A fingerprint as far as people compare it."""
    return signer[:16]
