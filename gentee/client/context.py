# SPDX-License-Identifier: BSD-2-Clause
"""TEEC_Context: GP TEE Client API 1.0 §4.3 and §4.5."""

import threading
from typing import TYPE_CHECKING

from gentee.abi.gp import (
    TEE_SUCCESS,
    TEEC_LOGIN_GROUP,
    TEEC_LOGIN_GROUP_APPLICATION,
    TEEC_LOGIN_PUBLIC,
    TEEC_ORIGIN_API,
)
from gentee.client.blocks import SessionMemory
from gentee.client.device_door import DeviceDoor
from gentee.client.doors import Door, Version
from gentee.client.memory import SharedMemory
from gentee.client.operation import Operation
from gentee.client.session import Session, choose_operation, close_session
from gentee.errors import BadParameters, BadState, TeeError

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
        if not 0 <= login <= 0xFFFF_FFFF:
            raise BadParameters("login", TEEC_ORIGIN_API)
        needs_group = login in (TEEC_LOGIN_GROUP, TEEC_LOGIN_GROUP_APPLICATION)
        if needs_group != (group is not None):
            raise BadParameters("a group is for the group logins", TEEC_ORIGIN_API)
        if group is not None and not 0 <= group <= 0xFFFF_FFFF:
            raise BadParameters("group", TEEC_ORIGIN_API)
        data = (group or 0).to_bytes(16, "little")
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
