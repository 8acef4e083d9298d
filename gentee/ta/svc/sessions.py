# SPDX-License-Identifier: BSD-2-Clause
"""Sessions with other TAs: ``syscall_open_ta_session()`` and on, ``core/tee/tee_svc.c``.

OP-TEE maps the memory that a TA passes on into the called one. Here the two have no page in common:
what is behind a reference goes into the call window (:mod:`gentee.ta.requests`) and from there to
the called TA, and what that made of outputs comes back, all of it, after the call. References that
overlap or lie in neighbouring pages do so there too, at the same offsets in their pages. A
reference without bytes is NULL for the called TA, as in OP-TEE.

Refused with TEE_ERROR_BAD_PARAMETERS, where OP-TEE passes them on: types that the document does not
know, and bits above those of four parameters.
"""

from collections.abc import Sequence
from struct import Struct

from gentee.abi import optee_ta as abi
from gentee.abi import ta_channel as ch
from gentee.abi.gp import (
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_CANCEL,
    TEE_ERROR_TARGET_DEAD,
    TEE_NUM_PARAMS,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_PARAM_TYPE_MEMREF_INOUT,
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_MEMREF_OUTPUT,
    TEE_PARAM_TYPE_VALUE_INOUT,
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_VALUE_OUTPUT,
    TEE_SUCCESS,
)
from gentee.errors import BadParameters, ItemNotFound, OutOfMemory, TeeError
from gentee.ta.client_memory import NORMAL_MEMORY, PROTECTED_MEMORY, SHARED
from gentee.ta.engine.space import BadAddress, round_up
from gentee.ta.svc import system_pta
from gentee.ta.svc.memory import check_access_rights
from gentee.ta.svc.properties import uuid_octets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.user_ta import UserTa

MAX_SESSIONS = 256  # as gentee.secure.nested has it for those that it knows

_U32 = Struct("<I")
_U64 = Struct("<Q")
_PAIR = Struct("<QQ")
_MASK32 = 0xFFFFFFFF
_PAGE = abi.SMALL_PAGE_SIZE
_READ = abi.TEE_MEMORY_ACCESS_READ | abi.TEE_MEMORY_ACCESS_ANY_OWNER
_READ_WRITE = _READ | abi.TEE_MEMORY_ACCESS_WRITE

_VALUES_IN = (TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_VALUE_INOUT)
_VALUES_OUT = (TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_VALUE_INOUT)
_MEMREFS_OUT = (TEE_PARAM_TYPE_MEMREF_OUTPUT, TEE_PARAM_TYPE_MEMREF_INOUT)
_MEMREFS = (TEE_PARAM_TYPE_MEMREF_INPUT, *_MEMREFS_OUT)


class Session:
    """A session of the TA with another one.

    :ivar number: by which the TEE knows it. 0: it is with the system pseudo TA, and nothing was
        asked so far that is not done in this process.
    :ivar is_pseudo: a pseudo TA works in the caller's memory, also in what is private.
    """

    __slots__ = ("is_pseudo", "is_system", "number")

    def __init__(self, number: int, is_pseudo: bool = False, is_system: bool = False) -> None:
        self.number = number
        self.is_pseudo = is_pseudo
        self.is_system = is_system


class _Params:
    """The parameters of one call, read once from ``struct utee_params`` and checked.

    :ivar vals: two for each of the four: a and b, or address and bytes of a reference.
    """

    __slots__ = ("_address", "_places", "_window", "types", "vals")

    def __init__(self, ta: "UserTa", address: int, is_pseudo: bool) -> None:
        """Read those at ``address``; there are none at 0.

        :raises BadAddress: the TA has not the memory that it passes.
        :raises BadParameters: it may not pass that, or only with another size.
        """
        self._address = address
        self._places: list[int] | None = None  # of references in the window, by parameter
        self._window = memoryview(b"")
        self.types = 0
        self.vals: list[int] = [0] * (2 * TEE_NUM_PARAMS)
        if not address:
            return
        check_access_rights(ta, _READ_WRITE, address, abi.UTEE_PARAMS.size)
        types, *self.vals = abi.UTEE_PARAMS.unpack(ta.read(address, abi.UTEE_PARAMS.size))
        self.types = types & _MASK32
        for index, kind in enumerate(self.kinds()):
            a, b = self.vals[2 * index], self.vals[2 * index + 1]
            if kind in _MEMREFS:
                if not a:
                    if b:
                        raise BadParameters("a NULL reference with a size")
                else:
                    check_access_rights(
                        ta, _READ if kind not in _MEMREFS_OUT else _READ_WRITE, a, b
                    )
            elif kind in _VALUES_IN:
                self.vals[2 * index], self.vals[2 * index + 1] = a & _MASK32, b & _MASK32
            else:
                self.vals[2 * index] = self.vals[2 * index + 1] = 0
        if is_pseudo:
            return
        for _index, _kind, start, size in self.references():
            region = ta.space.find(start)
            if region is None or region.owner != SHARED or start + size > region.end:
                raise BadParameters("private memory, or more than one region, for another TA")

    def kinds(self) -> tuple[int, ...]:
        """The type of each parameter."""
        types = self.types
        return types & 0xF, types >> 4 & 0xF, types >> 8 & 0xF, types >> 12 & 0xF

    def references(self) -> list[tuple[int, int, int, int]]:
        """Those that have bytes: index, kind, address and size."""
        if not self.types & 0x4444:
            return []
        return [
            (index, kind, self.vals[2 * index], self.vals[2 * index + 1])
            for index, kind in enumerate(self.kinds())
            if kind in _MEMREFS and self.vals[2 * index + 1]
        ]

    def send(self, ta: "UserTa") -> None:
        """Put them into window and request block; raises OutOfMemory."""
        channel, vals = ta.channel, self.vals
        references = self.references()
        places = self._place(references) if references else None
        if places is not None:
            # Before the block: this may make a request of its own.
            window = channel.window(max(places[i] + size for i, _k, _a, size in references))
            if window is None:
                raise OutOfMemory("no room for what is passed to another TA")
            for index, _kind, address, size in references:
                place = places[index]
                window[place : place + size] = _bytes(ta, address, size)
            self._window = window
        self._places = places
        channel[ch.Q_PARAM_TYPES] = self.types
        if not self.types:
            return
        for index, kind in enumerate(self.kinds()):
            base = ch.Q_PARAMS + 3 * index
            a, b = vals[2 * index], vals[2 * index + 1]
            if kind not in _MEMREFS:
                channel[base], channel[base + 1] = a, b
            elif b and places is not None:
                channel[base], channel[base + 1] = places[index], b
                channel[base + 2] = _mark(ta, a)
            else:
                channel[base] = channel[base + 1] = channel[base + 2] = 0

    def _place(self, references: list[tuple[int, int, int, int]]) -> list[int]:
        places = [0] * TEE_NUM_PARAMS
        used = start = 0  # bytes of the window; the address that its first byte stands for
        end = -_PAGE
        for index, _kind, address, size in sorted(references, key=lambda other: other[2]):
            if address & -_PAGE > round_up(end):
                start = (address & -_PAGE) - used
            end = max(end, address + size)
            places[index] = address - start
            used = max(used, round_up(end) - start)
        return places

    def take_memory(self, ta: "UserTa") -> None:
        """What the called TA made of outputs, after a call that it had."""
        if self._places is None:
            return
        for index, kind, address, size in self.references():
            if kind in _MEMREFS_OUT:
                place = self._places[index]
                ta.write(address, self._window[place : place + size])

    def take_values(self, ta: "UserTa") -> None:
        """Values and sizes of outputs, from the block."""
        if not self.types:
            return
        for index, kind in enumerate(self.kinds()):
            base = ch.Q_PARAMS + 3 * index
            if kind in _VALUES_OUT:
                self.vals[2 * index] = ta.channel[base] & _MASK32
                self.vals[2 * index + 1] = ta.channel[base + 1] & _MASK32
            elif kind in _MEMREFS_OUT:
                self.vals[2 * index + 1] = ta.channel[base + 1]

    def update(self, ta: "UserTa") -> None:
        """Write outputs to the TA's ``struct utee_params``; raises BadAddress."""
        if not self.types:
            return
        for index, kind in enumerate(self.kinds()):
            at = self._address + 8 + 16 * index
            if kind in _VALUES_OUT:
                ta.write(at, _PAIR.pack(self.vals[2 * index], self.vals[2 * index + 1]))
            elif kind in _MEMREFS_OUT:
                ta.write(at + 8, _U64.pack(self.vals[2 * index + 1]))


def _mark(ta: "UserTa", address: int) -> int:
    """Whose memory it is that the TA passes on, for the request block."""
    region = ta.space.find(address)
    if region is None or region.owner != SHARED:
        return ch.Q_GIVEN
    if region.name == PROTECTED_MEMORY:
        return ch.Q_GIVEN | ch.Q_PROTECTED
    return ch.Q_GIVEN | ch.Q_NORMAL if region.name == NORMAL_MEMORY else ch.Q_GIVEN


def _bytes(ta: "UserTa", address: int, size: int) -> memoryview | bytes:
    try:
        return ta.space.view(address, size)
    except BadAddress:  # more than one region
        return ta.read(address, size)


def _put_private(ta: "UserTa", address: int, value: int) -> None:
    """Write a ``u32``, or do not where the TA has not the memory: OP-TEE does not look."""
    try:
        ta.write_private(address, _U32.pack(value))
    except BadAddress:
        return


def _ask(ta: "UserTa", code: int, timeout: int, params: _Params) -> tuple[int, int]:
    """Make the request; result and origin. Outputs are taken where the called TA had the call."""
    channel = ta.channel
    channel[ch.Q_TIMEOUT] = timeout & _MASK32
    channel[ch.Q_UNMASKED] = not ta.masked
    result = channel.ask(code)
    origin = TEE_ORIGIN_TRUSTED_APP if result == TEE_SUCCESS else channel[ch.Q_ORIGIN]
    if origin == TEE_ORIGIN_TRUSTED_APP:
        params.take_memory(ta)
    params.take_values(ta)
    return result, origin


def _set_uuid(ta: "UserTa", uuid: bytes) -> None:
    ta.channel[ch.Q_UUID] = int.from_bytes(uuid[:8], "little")
    ta.channel[ch.Q_UUID + 1] = int.from_bytes(uuid[8:], "little")


def syscall_open_ta_session(ta: "UserTa", args: Sequence[int]) -> int:
    """Open a session with the TA whose UUID is at ``args[0]``, in private memory.

    Its number goes to ``args[3]`` and the origin of the result to ``args[4]``, both in private
    memory or nowhere. Parameters are updated only where it succeeds.
    """
    dest, timeout, params_address, sess, ret_orig = args[:5]
    origin = TEE_ORIGIN_TEE
    try:
        result, origin, session = _open(ta, dest, timeout, params_address)
        if session is not None:
            _put_private(ta, sess, session)
    except TeeError as error:
        result = error.code
    _put_private(ta, ret_orig, origin)
    return result


def _open(ta: "UserTa", dest: int, timeout: int, address: int) -> tuple[int, int, int | None]:
    """Result, origin and the number of the session."""
    uuid = uuid_octets(ta.read_private(dest, abi.TEE_UUID.size))
    params = _Params(ta, address, is_pseudo=False)
    if uuid == system_pta.UUID:
        if len(ta.open_sessions) >= MAX_SESSIONS:
            raise OutOfMemory(f"more than {MAX_SESSIONS} sessions")
        result, origin = TEE_SUCCESS, TEE_ORIGIN_TRUSTED_APP
        session = Session(0, is_pseudo=True, is_system=True)
    else:
        params.send(ta)
        _set_uuid(ta, uuid)
        ta.channel[ch.Q_IS_PSEUDO] = 0
        result, origin = _ask(ta, ch.RQ_OPEN_TA_SESSION, timeout, params)
        if result != TEE_SUCCESS:
            return result, origin, None
        session = Session(ta.channel[ch.Q_SESSION], is_pseudo=ta.channel[ch.Q_IS_PSEUDO] != 0)
    number = _new_session_id(ta)
    ta.open_sessions[number] = session
    try:
        params.update(ta)
    except BadAddress as error:  # the session stays open, as OP-TEE's does
        return error.code, origin, None
    return result, origin, number


def _new_session_id(ta: "UserTa") -> int:
    """One more than that of the last session, or the next that is free; never 0."""
    sessions = ta.open_sessions
    number = next(reversed(sessions), 0)
    while True:
        number = (number + 1 & _MASK32) or 1
        if number not in sessions:
            return number


def syscall_close_ta_session(ta: "UserTa", args: Sequence[int]) -> int:
    session = ta.open_sessions.pop(args[0] & _MASK32, None)
    if session is None:
        raise ItemNotFound("no such session")
    if session.number:
        ta.channel[ch.Q_SESSION] = session.number
        ta.channel.ask(ch.RQ_CLOSE_TA_SESSION)
    return TEE_SUCCESS


def syscall_invoke_ta_command(ta: "UserTa", args: Sequence[int]) -> int:
    """Invoke command ``args[2]`` in session ``args[0]``.

    The origin goes to ``args[4]``, in private memory or nowhere; not if there is no such session.
    Parameters are updated unless the called TA is dead.
    """
    number, timeout, cmd, params_address, ret_orig = args[:5]
    session = ta.open_sessions.get(number & _MASK32)
    if session is None:
        return TEE_ERROR_BAD_PARAMETERS
    origin = TEE_ORIGIN_TEE
    try:
        params = _Params(ta, params_address, session.is_pseudo)
        result, origin = _invoke(ta, session, timeout, cmd & _MASK32, params)
        if result != TEE_ERROR_TARGET_DEAD:
            params.update(ta)
    except TeeError as error:
        result, origin = error.code, TEE_ORIGIN_TEE
    _put_private(ta, ret_orig, origin)
    return result


def _invoke(
    ta: "UserTa", session: Session, timeout: int, cmd: int, params: _Params
) -> tuple[int, int]:
    if session.is_system:
        result = system_pta.invoke(ta, cmd, params.types, params.vals)
        if result is not None:
            return result, TEE_ORIGIN_TRUSTED_APP
        if not session.number:
            _set_uuid(ta, system_pta.UUID)
            result, origin = _ask(ta, ch.RQ_OPEN_TA_SESSION, _MASK32, _no_params(ta))
            if result != TEE_SUCCESS:
                return result, origin
            session.number = ta.channel[ch.Q_SESSION]
    params.send(ta)
    ta.channel[ch.Q_SESSION] = session.number
    ta.channel[ch.Q_FUNC] = cmd
    result, origin = _ask(ta, ch.RQ_INVOKE_TA_COMMAND, timeout, params)
    if result == TEE_ERROR_CANCEL:
        # Taken back while it waited for its turn, which OP-TEE does not do: its libutee would
        # panic. To the caller it is as if the called TA had ended it.
        origin = TEE_ORIGIN_TRUSTED_APP
    return result, origin


def _no_params(ta: "UserTa") -> _Params:
    params = _Params(ta, 0, is_pseudo=False)
    params.send(ta)
    return params


ROWS = {
    abi.TEE_SCN_OPEN_TA_SESSION: syscall_open_ta_session,
    abi.TEE_SCN_CLOSE_TA_SESSION: syscall_close_ta_session,
    abi.TEE_SCN_INVOKE_TA_COMMAND: syscall_invoke_ta_command,
}
