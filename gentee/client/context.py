# SPDX-License-Identifier: BSD-2-Clause
"""TEEC_Context: GP TEE Client API 1.0 §4.3 and §4.5."""

import threading
from os import PathLike
from typing import TYPE_CHECKING

from gentee.abi.gentee_tee import TEE_MAX_TS_IMAGE_SIZE, TEE_TS_API_SIZE, TEE_TS_NAME_SIZE
from gentee.abi.gp import (
    TEE_SUCCESS,
    TEEC_LOGIN_GROUP,
    TEEC_LOGIN_GROUP_APPLICATION,
    TEEC_LOGIN_PUBLIC,
    TEEC_ORIGIN_API,
)
from gentee.client.blocks import MemorySource, SessionMemory
from gentee.client.device_door import DeviceDoor
from gentee.client.doors import Door, Version, comms_error
from gentee.client.memory import INOUT, SharedMemory
from gentee.client.operation import Operation
from gentee.client.services import ServiceInfo
from gentee.client.session import Session, choose_operation, close_session
from gentee.errors import BadParameters, BadState, ItemNotFound, TeeError

if TYPE_CHECKING:
    from types import TracebackType
    from uuid import UUID

    from _typeshed import ReadableBuffer

    from gentee.client.params import Parameter


class Context:
    """TEEC_Context, from TEEC_InitializeContext on: the connection of a program to a TEE.

    :param name: None for the first TEE that speaks GlobalPlatform, ``optee-tz`` for the first
        OP-TEE in a TrustZone, or the path of a device, such as ``/dev/tee1``.
    :param door: instead of a name, the TEE itself: a DeviceDoor or a KernelDoor. It belongs to
        this context from now on.
    :raises TeeError: ItemNotFound (origin API) when there is no such TEE.

    A context manager: it finalizes the context. Any thread may use it, several at once.
    """

    def __init__(self, name: str | None = None, *, door: Door | None = None) -> None:
        if door is None:
            door = DeviceDoor.find(name)
        elif name is not None:
            raise TypeError("give a name or a door, not both")
        self._door = door
        self._lock = threading.Lock()  # protects the two below
        self._open = True
        self._parts: set[Session | SharedMemory] = set()

    @property
    def door(self) -> Door:
        """The road to the TEE. BadState (origin API) after :meth:`finalize`."""
        if not self._open:
            raise BadState("the context is finalized", TEEC_ORIGIN_API)
        return self._door

    @property
    def version(self) -> Version:
        """Of the TEE: (impl_id, impl_caps, gen_caps), see <linux/tee.h>."""
        return self._door.version

    def open_session(
        self,
        uuid: "UUID | str | bytes",
        *params: "Parameter | SharedMemory | ReadableBuffer | None",
        login: int = TEEC_LOGIN_PUBLIC,
        group: int | None = None,
        operation: Operation | None = None,
    ) -> Session:
        """TEEC_OpenSession.

        :param uuid: of the trusted service: a UUID, its usual text, or 16 bytes.
        :param params: as for :class:`Operation`; results are written into them.
        :param login: TEEC_LOGIN_*: as who the service shall see this program.
        :param group: the connection data of the group logins: a group id of this program.
        :param operation: instead of ``params``, where another thread may want to cancel.
        :raises TeeError: the result, with its origin.
        """
        door = self.door
        uuid_octets = _uuid_octets(uuid)
        data = _connection_data(login, group)
        operation = choose_operation(params, operation)
        memory = SessionMemory(door)
        opened = 0

        def call(cancel_id: int, words: list[int]) -> tuple[int, int]:
            nonlocal opened
            ret, ret_origin, session_id = door.open_session(
                uuid_octets, login, data, cancel_id, words
            )
            if ret == TEE_SUCCESS:
                opened = session_id
            return ret, ret_origin

        try:
            ret, ret_origin = operation.run(memory, 0, call)
            if ret != TEE_SUCCESS:
                raise TeeError.from_code(ret, ret_origin)
            session = Session(self, opened, memory)
            self._remember(session)
        except BaseException:
            # The TEE may have opened it, and then a result could not be taken.
            if opened:
                close_session(door, opened)
            memory.close()
            raise
        return session

    # Of <gentee/tee.h>. A TEE without these operations is BadParameters, origin COMMS.

    def task(
        self,
        service: "UUID | str | bytes",
        command: int,
        *params: "Parameter | SharedMemory | ReadableBuffer | None",
        login: int = TEEC_LOGIN_PUBLIC,
        group: int | None = None,
        operation: Operation | None = None,
    ) -> None:
        """Open a session, invoke one command and close the session, in one call.

        :param service: its UUID as for :meth:`open_session`, or its name.
        :param params: of the command, as for :class:`Operation`; results are written into them.
        :param operation: instead of ``params``, where another thread may want to cancel.
        :raises TeeError: the result, with its origin: of the open if that failed, else of the
            command.
        """
        door = self.door
        try:
            uuid = _uuid_octets(service)
        except ValueError:
            if not isinstance(service, str):
                raise
            uuid = self.find(name=service).bytes
        if not 0 <= command <= 0xFFFF_FFFF:
            raise BadParameters("a command has 32 bits", TEEC_ORIGIN_API)
        data = _connection_data(login, group)
        operation = choose_operation(params, operation)
        ret, ret_origin = operation.run(
            MemorySource(door),
            0,
            lambda cancel_id, words: door.task(uuid, command, login, data, cancel_id, words),
        )
        if ret != TEE_SUCCESS:
            raise TeeError.from_code(ret, ret_origin)

    def load(self, image: "ReadableBuffer | PathLike[str] | str") -> "tuple[UUID, int]":
        """Have the TEE verify and install the service of a signed image.

        :param image: its bytes, or the path of its file.
        :returns: the service's UUID and version.
        :raises TeeError: the result, such as SecurityError, or AccessConflict for a version lower
            than one before.
        :raises OSError: the file cannot be read.
        """
        from uuid import UUID

        door = self.door
        if isinstance(image, str | PathLike):
            with open(image, "rb") as file:
                octets = file.read(TEE_MAX_TS_IMAGE_SIZE + 1)
        else:
            octets = bytes(image)
        if not 0 < len(octets) <= TEE_MAX_TS_IMAGE_SIZE:
            raise BadParameters("an image has 1 byte to 16 MiB", TEEC_ORIGIN_API)
        try:
            ret, ret_origin, uuid, version = door.load_ts(octets)
        except OSError as error:
            raise comms_error(error) from error
        if ret != TEE_SUCCESS:
            raise TeeError.from_code(ret, ret_origin)
        return UUID(bytes=uuid), version

    def services(self, *, name: str = "", api: str = "") -> list[ServiceInfo]:
        """The trusted services that the TEE has.

        :param name: only those of this name; all if it is empty.
        :param api: only those that offer this API, such as ``GP_TEEv1.3``; all if it is empty.
        """
        octets = name.encode(), api.encode()
        if len(octets[0]) >= TEE_TS_NAME_SIZE or len(octets[1]) >= TEE_TS_API_SIZE:
            return []  # no service can have it
        if b"\0" in name.encode() + api.encode():
            raise BadParameters("a name with a 0 in it", TEEC_ORIGIN_API)
        try:
            ret, ret_origin, entries = self.door.get_ts_list(*octets)
        except OSError as error:
            raise comms_error(error) from error
        if ret != TEE_SUCCESS:
            raise TeeError.from_code(ret, ret_origin)
        return [ServiceInfo(entry) for entry in entries]

    def find(self, *, name: str = "", api: str = "") -> "UUID":
        """The UUID of the first service with this name, or that offers this API, or both.

        :raises ItemNotFound: there is none (origin API).
        """
        if not name and not api:
            raise TypeError("give a name or an API")
        for service in self.services(name=name, api=api):
            return service.uuid
        raise ItemNotFound(f"no service {name or api}", TEEC_ORIGIN_API)

    def map(self, buffer: "ReadableBuffer", direction: int = INOUT) -> SharedMemory:
        """``SharedMemory.map(self, buffer, direction)``."""
        return SharedMemory.map(self, buffer, direction)

    def finalize(self) -> None:
        """TEEC_FinalizeContext, after closing what of the context is still open.

        Not while another thread is in a call. Twice is once.
        """
        with self._lock:
            parts = list(self._parts)
        # Sessions before memory, so that no service still has it.
        for part in parts:
            if isinstance(part, Session):
                part.close()
        for part in parts:
            if isinstance(part, SharedMemory):
                part.release()
        with self._lock:
            self._open = False
        self._door.close()

    def _remember(self, part: Session | SharedMemory) -> None:
        with self._lock:
            if not self._open:
                raise BadState("the context is finalized", TEEC_ORIGIN_API)
            self._parts.add(part)

    def _forget(self, part: Session | SharedMemory) -> None:
        with self._lock:
            self._parts.discard(part)

    def __enter__(self) -> "Context":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        self.finalize()

    def __repr__(self) -> str:
        return f"<Context of {self._door.name}{'' if self._open else ', finalized'}>"


def _connection_data(login: int, group: int | None) -> bytes:
    """The 16 bytes that go with a login. BadParameters (origin API) for what cannot be."""
    if not 0 <= login <= 0xFFFF_FFFF:
        raise BadParameters("login", TEEC_ORIGIN_API)
    needs_group = login in (TEEC_LOGIN_GROUP, TEEC_LOGIN_GROUP_APPLICATION)
    if needs_group != (group is not None):
        raise BadParameters("a group is for the group logins", TEEC_ORIGIN_API)
    if group is not None and not 0 <= group <= 0xFFFF_FFFF:
        raise BadParameters("group", TEEC_ORIGIN_API)
    return (group or 0).to_bytes(16, "little")


def _uuid_octets(uuid: "UUID | str | bytes") -> bytes:
    """The 16 bytes of a UUID in the order of RFC 9562, which is the ioctl's.

    :raises ValueError: it is none.
    """
    if isinstance(uuid, str):
        octets = bytes.fromhex(uuid.replace("-", ""))
    elif isinstance(uuid, bytes):
        octets = uuid
    else:
        octets = uuid.bytes
    if len(octets) != 16:
        raise ValueError(f"not a UUID: {uuid!r}")
    return octets
