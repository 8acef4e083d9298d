# SPDX-License-Identifier: BSD-2-Clause
"""The TEE Internal Core API 1.3.1 for services in Python: entry points, parameters, cancellation.

Functions carry the names of the document. Where C returns a TEE_Result, Python raises
:class:`~gentee.errors.TeeError`; output comes back as value, or in the parameter it belongs to.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from gentee.abi.gp import TEE_ERROR_GENERIC
from gentee.errors import BadParameters, ShortBuffer, TaPanic


class Value:
    """A value parameter: two numbers of 32 bits (section 4.3.5). Outputs are written in place."""

    __slots__ = ("a", "b")

    def __init__(self, a: int = 0, b: int = 0) -> None:
        self.a = a
        self.b = b

    def __repr__(self) -> str:
        return f"Value({self.a:#x}, {self.b:#x})"


class Memref:
    """A memory reference: the client's own pages, for the duration of the call.

    ``buffer`` is a memoryview of bytes, read-only for an input, None for a NULL reference. ``size``
    is what goes back to the client of an output: the bytes written, or needed.

    For a call to another service make one of any buffer: ``Memref(bytearray(100))``.
    """

    __slots__ = ("buffer", "size")

    def __init__(
        self, buffer: memoryview | bytearray | bytes | None, size: int | None = None
    ) -> None:
        view = buffer if buffer is None or type(buffer) is memoryview else memoryview(buffer)
        self.buffer: memoryview | None = view
        self.size = size if size is not None else 0 if view is None else len(view)

    def __bytes__(self) -> bytes:
        return b"" if self.buffer is None else bytes(self.buffer)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Fill the output with ``data`` and set ``size``.

        :raises ShortBuffer: nothing was written, and ``size`` is what is needed (section 3.4.4).
        """
        needed = len(data)
        room = 0 if self.buffer is None else len(self.buffer)
        self.size = needed
        if needed > room:
            raise ShortBuffer(f"{needed} bytes into {room}")
        if self.buffer is not None:
            self.buffer[:needed] = data

    def __repr__(self) -> str:
        return f"Memref({self.size} bytes{' NULL' if self.buffer is None else ''})"


Param = Value | Memref | None
Params = Sequence[Param]


def expect_param_types(param_types: int, expected: int) -> None:
    """BadParameters unless the client passed exactly the types that a command takes."""
    if param_types != expected:
        raise BadParameters(f"parameter types {param_types:#06x}, expected {expected:#06x}")


class TrustedApplication:
    """A service. Subclass it, say what it is in literal attributes, and override entry points.

    An object is an instance in GlobalPlatform's sense and has a process of its own. Attributes are
    read without running the code, so they must be literals:

    - ``uuid``: by which clients open it. Required.
    - ``name``, ``version``, ``description``: for people.
    - ``single_instance``: all sessions share one instance, one after the other;
    - ``multi_session``: and at the same time;
    - ``keep_alive``: and it outlives the last of them;
    - ``apis``: names of interfaces that it offers, by which clients can find it;
    - ``properties``: its own, by name: text, numbers, bools, bytes (section 4.4).

    Any exception but :class:`~gentee.errors.TeeError` is a panic (section 2.3.3): the instance dies
    and its clients get TEE_ERROR_TARGET_DEAD. Its traceback appears in the log.
    """

    uuid = ""
    name = ""
    version = 0
    description = ""
    single_instance = False
    multi_session = False
    keep_alive = False
    apis: tuple[str, ...] = ("GP_TEEv1.3",)
    properties: Mapping[str, str | int | bool | bytes] = {}

    def TA_CreateEntryPoint(self) -> None:
        """The instance was created (section 4.3.1). A TeeError refuses it."""

    def TA_DestroyEntryPoint(self) -> None:
        """The instance is about to end (section 4.3.2). Not called after a panic."""

    def TA_OpenSessionEntryPoint(self, param_types: int, params: Params) -> Any:
        """A client opens a session (section 4.3.3). What it returns is the session's context."""
        return None

    def TA_CloseSessionEntryPoint(self, session: Any) -> None:
        """The session is closed (section 4.3.4). Cannot fail."""

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        """A client invokes a command (section 4.3.5). A TeeError is its result."""
        raise BadParameters(f"no command {command_id}")


class _Task:
    """The command that runs now. The runtime fills it."""

    def __init__(self) -> None:
        self.cancelled: Any = lambda: False
        self.wait: Any = None
        self.log: Any = None
        self.masked = True
        self.service = TrustedApplication
        self.session = 0  # whose command it is; 0 while the instance is created or destroyed
        self.clients: dict[int, tuple[int, bytes]] = {}  # login and UUID of each session's client
        self.data_size = 64 << 20  # bytes that the service may have
        self.stack_size = 8 << 20


TASK = _Task()


def TEE_GetCancellationFlag() -> bool:
    """Whether the client asked to cancel, unless cancellation is masked (section 4.10.1)."""
    return not TASK.masked and bool(TASK.cancelled())


def TEE_UnmaskCancellation() -> bool:
    """Let cancellation be seen; whether it was masked before (section 4.10.2).

    Each call of an entry point starts masked.
    """
    before, TASK.masked = TASK.masked, False
    return before


def TEE_MaskCancellation() -> bool:
    """Hide cancellation; whether it was masked before (section 4.10.3)."""
    before, TASK.masked = TASK.masked, True
    return before


TEE_TIMEOUT_INFINITE = 0xFFFFFFFF


def TEE_Wait(timeout: int) -> None:
    """Wait for ``timeout`` milliseconds, TEE_TIMEOUT_INFINITE for ever (section 7.2.2).

    :raises Cancel: cancellation is not masked, and was asked for.
    """
    if not 0 <= timeout <= TEE_TIMEOUT_INFINITE:
        raise BadParameters("timeout has 32 bits")
    TASK.wait(timeout, TASK.masked)


def TEE_Panic(panic_code: int = TEE_ERROR_GENERIC) -> NoReturn:
    """End this instance at once (section 4.8.1)."""
    raise TaPanic(panic_code)


def EMSG(text: str) -> None:
    """Log an error. The four levels and names are those of OP-TEE's TAs (trace.h)."""
    TASK.log(1, text)


def IMSG(text: str) -> None:
    """Log information."""
    TASK.log(2, text)


def DMSG(text: str) -> None:
    """Log what helps to debug."""
    TASK.log(3, text)


def FMSG(text: str) -> None:
    """Log the flow of the program."""
    TASK.log(4, text)
