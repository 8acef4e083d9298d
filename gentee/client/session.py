# SPDX-License-Identifier: BSD-2-Clause
"""TEEC_Session: GP TEE Client API 1.0 §4.3 and §4.5."""

from typing import TYPE_CHECKING

from gentee.abi.gp import TEE_SUCCESS, TEEC_ORIGIN_API
from gentee.client.blocks import SessionMemory
from gentee.client.doors import Door
from gentee.client.operation import Operation
from gentee.errors import BadParameters, BadState, TeeError

if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed import ReadableBuffer

    from gentee.client.context import Context
    from gentee.client.memory import SharedMemory
    from gentee.client.params import Parameter


class Session:
    """TEEC_Session: a conversation with one trusted service. Made by Context.open_session().

    A context manager: it closes the session. Several threads may invoke at once.
    """

    def __init__(self, context: "Context", session_id: int, memory: SessionMemory) -> None:
        self.context = context
        self.id = session_id
        self._memory = memory
        self._open = True

    def invoke(
        self,
        command: int,
        *params: "Parameter | SharedMemory | ReadableBuffer | None",
        operation: Operation | None = None,
    ) -> None:
        """TEEC_InvokeCommand: returns when the service has answered with success.

        :param command: the number of the command, 32 bits, the service's own.
        :param params: as for :class:`Operation`; results are written into them.
        :param operation: instead of ``params``, where another thread may want to cancel the call.
        :raises TeeError: the result, with its origin: API for what is wrong here, COMMS for a TEE
            that cannot be reached, TEE or TRUSTED_APP for what those say.
        """
        if not self._open:
            raise BadState("the session is closed", TEEC_ORIGIN_API)
        if not 0 <= command <= 0xFFFF_FFFF:
            raise BadParameters("a command has 32 bits", TEEC_ORIGIN_API)
        operation = choose_operation(params, operation)
        door, session_id = self.context.door, self.id
        ret, ret_origin = operation.run(
            self._memory,
            session_id,
            lambda cancel_id, words: door.invoke(session_id, command, cancel_id, words),
        )
        if ret != TEE_SUCCESS:
            raise TeeError.from_code(ret, ret_origin)

    def close(self) -> None:
        """TEEC_CloseSession. Twice is once; it cannot fail."""
        if not self._open:
            return
        self._open = False
        self.context._forget(self)
        close_session(self.context.door, self.id)
        self._memory.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session {self.id} of {self.context.door.name}{'' if self._open else ', closed'}>"


def close_session(door: Door, session_id: int) -> None:
    """TEE_IOC_CLOSE_SESSION, which nobody can do anything about when it fails."""
    try:
        door.close_session(session_id)
    except OSError:  # the TEE is gone, and the session with it
        pass


def choose_operation(
    params: "tuple[Parameter | SharedMemory | ReadableBuffer | None, ...]",
    operation: Operation | None,
) -> Operation:
    """The operation that a call was given, in one way or the other."""
    if operation is None:
        return Operation(*params)
    if params:
        raise TypeError("give parameters or an operation, not both")
    return operation
