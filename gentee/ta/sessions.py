# SPDX-License-Identifier: BSD-2-Clause
"""Calls to other services: GP TEE Internal Core API 1.3.1 section 4.9.

What a service passes by reference is its private memory, or its client's. The called service gets a
copy, and what it wrote to outputs comes back: of each, at most the size that it returned. Buffers
that overlap do so in the called service too.
"""

from collections.abc import Sequence

from gentee.abi import ta_channel as ch
from gentee.abi.gp import (
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_BUSY,
    TEE_ERROR_CANCEL,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_TARGET_DEAD,
    TEE_NUM_PARAMS,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_PARAM_TYPE_GET,
    TEE_PARAM_TYPE_MEMREF_INOUT,
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_MEMREF_OUTPUT,
    TEE_PARAM_TYPE_NONE,
    TEE_PARAM_TYPE_VALUE_INOUT,
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_VALUE_OUTPUT,
    TEE_SUCCESS,
)
from gentee.errors import OutOfMemory, TaPanic, TeeError
from gentee.linux.buffers import address_of
from gentee.ta.api import TASK, TEE_TIMEOUT_INFINITE, Memref, Value
from gentee.ta.requests import CHANNEL
from gentee.ta.types import UuidLike, uuid_bytes

Buffer = bytes | bytearray | memoryview
CallParam = Value | Memref | Buffer | None

_VALUES_IN = (TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_VALUE_INOUT)
_VALUES_OUT = (TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_VALUE_INOUT)
_MEMREFS = (
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_MEMREF_OUTPUT,
    TEE_PARAM_TYPE_MEMREF_INOUT,
)
_ALIGNMENT = 16  # of each reference's place, as OP-TEE's libutee

# What a call that did not reach the other service may raise; the rest is misuse, and a panic.
_RAISED = (
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_TARGET_DEAD,
    TEE_ERROR_BUSY,
    TEE_ERROR_CANCEL,
)


class TASessionHandle:
    """A session of this service with another one (TEE_TASessionHandle)."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def __repr__(self) -> str:
        return f"TASessionHandle({self._number or 'closed'})"


TEE_HANDLE_NULL = None


def TEE_OpenTASession(
    destination: UuidLike,
    cancellation_request_timeout: int = TEE_TIMEOUT_INFINITE,
    param_types: int = 0,
    params: Sequence[CallParam] = (),
) -> TASessionHandle:
    """Open a session with the service ``destination`` (section 4.9.1).

    :param cancellation_request_timeout: milliseconds after which the cancellation flag of the
        called service is set, TEE_TIMEOUT_INFINITE never.
    :param params: up to four: a Value, a Memref or buffer of bytes, or None, as ``param_types``
        says. Values and the sizes of Memrefs are updated.
    :raises TeeError: with ``origin`` TEE_ORIGIN_TEE if the service could not be reached
        (ITEM_NOT_FOUND, BUSY, OUT_OF_MEMORY, TARGET_DEAD), TEE_ORIGIN_TRUSTED_APP if it refused.
    """
    uuid = uuid_bytes(destination)
    call = _Call(param_types, params)
    _timeout(cancellation_request_timeout)
    CHANNEL[ch.Q_UUID] = int.from_bytes(uuid[:8], "little")
    CHANNEL[ch.Q_UUID + 1] = int.from_bytes(uuid[8:], "little")
    call.make(ch.RQ_OPEN_TA_SESSION)
    return TASessionHandle(CHANNEL[ch.Q_SESSION])


def TEE_CloseTASession(session: TASessionHandle | None) -> None:
    """Close a session; None is TEE_HANDLE_NULL, and nothing happens (section 4.9.2)."""
    if session is None:
        return
    CHANNEL[ch.Q_SESSION], session._number = session._number, 0
    result = CHANNEL.ask(ch.RQ_CLOSE_TA_SESSION)
    if result != TEE_SUCCESS:
        raise TaPanic(result, "TEE_CloseTASession: no open session")


def TEE_InvokeTACommand(
    session: TASessionHandle,
    cancellation_request_timeout: int,
    command_id: int,
    param_types: int = 0,
    params: Sequence[CallParam] = (),
) -> None:
    """Invoke a command in a session with another service (section 4.9.3).

    Parameters are those of :func:`TEE_OpenTASession`.

    :raises TeeError: with ``origin`` TEE_ORIGIN_TRUSTED_APP what the service answered, with
        TEE_ORIGIN_TEE one of OUT_OF_MEMORY, TARGET_DEAD, BUSY (the call could only wait for
        itself) and CANCEL (while it waited for its turn). Any other failure is a panic.
    """
    if not 0 <= command_id < 1 << 32:
        raise TaPanic(TEE_ERROR_BAD_PARAMETERS, "a command has 32 bits")
    call = _Call(param_types, params)
    _timeout(cancellation_request_timeout)
    CHANNEL[ch.Q_SESSION] = session._number
    CHANNEL[ch.Q_FUNC] = command_id
    try:
        call.make(ch.RQ_INVOKE_TA_COMMAND)
    except TeeError as error:
        if error.origin != TEE_ORIGIN_TRUSTED_APP and error.code not in _RAISED:
            raise TaPanic(error.code, "TEE_InvokeTACommand") from error
        raise


def _timeout(milliseconds: int) -> None:
    if not 0 <= milliseconds <= TEE_TIMEOUT_INFINITE:
        raise TaPanic(TEE_ERROR_BAD_PARAMETERS, "a timeout has 32 bits")
    CHANNEL[ch.Q_TIMEOUT] = milliseconds
    CHANNEL[ch.Q_UNMASKED] = not TASK.masked


class _Reference:
    """A memory reference on its way: ``view`` is the caller's bytes, ``place`` theirs there."""

    __slots__ = ("address", "kind", "memref", "place", "view")

    def __init__(self, kind: int, view: memoryview, memref: Memref | None) -> None:
        self.kind = kind
        self.view = view
        self.memref = memref
        self.address = address_of(view) if len(view) else 0
        self.place = 0


class _Call:
    """The parameters of one call: into block and window, and back."""

    def __init__(self, param_types: int, params: Sequence[CallParam]) -> None:
        """Put the parameters into block and window.

        :raises TaPanic: they are not what ``param_types`` says.
        """
        self._types = param_types
        self._params = [*params, *[None] * (TEE_NUM_PARAMS - len(params))]
        self._references: dict[int, _Reference] = {}
        self._window: memoryview | None = None
        if len(params) > TEE_NUM_PARAMS or not 0 <= param_types < 1 << 4 * TEE_NUM_PARAMS:
            raise TaPanic(TEE_ERROR_BAD_PARAMETERS, "more than four parameters")
        for index, param in enumerate(self._params):
            self._check(index, TEE_PARAM_TYPE_GET(param_types, index), param)
        self._fill()  # before the block: it may make a request of its own
        CHANNEL[ch.Q_PARAM_TYPES] = param_types
        for index, param in enumerate(self._params):
            base = ch.Q_PARAMS + 3 * index
            reference = self._references.get(index)
            if isinstance(param, Value):
                CHANNEL[base] = param.a & 0xFFFF_FFFF
                CHANNEL[base + 1] = param.b & 0xFFFF_FFFF
            elif reference is not None:
                CHANNEL[base], CHANNEL[base + 1] = reference.place, len(reference.view)
                CHANNEL[base + 2] = 1
            elif isinstance(param, Memref):
                CHANNEL[base], CHANNEL[base + 1], CHANNEL[base + 2] = 0, param.size, 0

    def _check(self, index: int, kind: int, param: CallParam) -> None:
        if kind == TEE_PARAM_TYPE_NONE:
            return
        if kind in _VALUES_IN or kind in _VALUES_OUT:
            if isinstance(param, Value):
                return
        elif kind in _MEMREFS:
            if isinstance(param, Memref):
                if param.buffer is None:
                    return
                view = param.buffer[: param.size]
                self._references[index] = _Reference(kind, view, param)
            elif isinstance(param, Buffer):
                self._references[index] = _Reference(kind, memoryview(param).cast("B"), None)
            if index in self._references:
                if kind == TEE_PARAM_TYPE_MEMREF_INPUT or not self._references[index].view.readonly:
                    return
                raise TaPanic(TEE_ERROR_BAD_PARAMETERS, f"parameter {index} cannot be written")
        raise TaPanic(TEE_ERROR_BAD_PARAMETERS, f"parameter {index} is no {kind:#x}")

    def _fill(self) -> None:
        size = start = 0
        end = -1
        for reference in sorted(self._references.values(), key=lambda other: other.address):
            if reference.address >= end or not len(reference.view):
                # Where the last one does not reach: a place of its own.
                size = (size + _ALIGNMENT - 1) & -_ALIGNMENT
                start = reference.address - size
            reference.place = reference.address - start
            end = max(end, reference.address + len(reference.view))
            size = max(size, reference.place + len(reference.view))
        if not self._references:
            return
        window = CHANNEL.window(size)
        if window is None:
            raise OutOfMemory(f"{size} bytes for a call", TEE_ORIGIN_TEE)
        self._window = window
        # Outputs first: one that overlaps with an input has its bytes.
        for reference in self._references.values():
            if reference.kind == TEE_PARAM_TYPE_MEMREF_OUTPUT:
                place = reference.place
                window[place : place + len(reference.view)] = bytes(len(reference.view))
        for reference in self._references.values():
            if reference.kind != TEE_PARAM_TYPE_MEMREF_OUTPUT:
                place = reference.place
                window[place : place + len(reference.view)] = reference.view

    def make(self, code: int) -> None:
        """Make the call, and take back what is the called service's to give."""
        try:
            result = CHANNEL.ask(code)
            origin = TEE_ORIGIN_TRUSTED_APP if result == TEE_SUCCESS else CHANNEL[ch.Q_ORIGIN]
            if origin == TEE_ORIGIN_TRUSTED_APP:
                self._take_back()
        finally:
            for reference in self._references.values():
                reference.view.release()
        if result != TEE_SUCCESS:
            raise TeeError.from_code(result, origin)

    def _take_back(self) -> None:
        for index, param in enumerate(self._params):
            kind = TEE_PARAM_TYPE_GET(self._types, index)
            base = ch.Q_PARAMS + 3 * index
            if kind in _VALUES_OUT and isinstance(param, Value):
                param.a, param.b = CHANNEL[base], CHANNEL[base + 1]
            elif kind in _MEMREFS and kind != TEE_PARAM_TYPE_MEMREF_INPUT:
                size = CHANNEL[base + 1]
                reference = self._references.get(index)
                if reference is not None and self._window is not None:
                    count = min(size, len(reference.view))
                    place = reference.place
                    reference.view[:count] = self._window[place : place + count]
                if isinstance(param, Memref):
                    param.size = size
