# SPDX-License-Identifier: BSD-2-Clause
"""The socket pseudo TA: TCP and UDP for TAs (OP-TEE core/tee/socket.c).

Under GlobalPlatform's TEE Sockets API, which libutee has. A supplicant serves it where one is
there, otherwise gentee does (:mod:`gentee.secure.normal_world.sockets`). Sockets belong to an
instance of a TA: they end with it, and with a session of it here. A socket is served to its end by
whoever opened it.
"""

import threading
from collections.abc import Callable

from gentee.abi import gp_socket, optee_rpc
from gentee.abi import optee_pta as pta
from gentee.abi.gp import (
    TEE_ERROR_CANCEL,
    TEE_PARAM_TYPE_MEMREF_INOUT,
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_MEMREF_OUTPUT,
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_VALUE_OUTPUT,
    TEE_SUCCESS,
)
from gentee.abi.linux_tee import (
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT,
)
from gentee.abi.optee_ta import TA_FLAG_CONCURRENT
from gentee.core.params import TeeParam
from gentee.errors import (
    AccessDenied,
    BadParameters,
    GenericError,
    NotImplementedByTee,
    OutOfMemory,
    TeeError,
)
from gentee.secure.pta.pseudo_ta import (
    Later,
    MemRef,
    Param,
    PseudoTa,
    PtaSession,
    expect,
    memref,
    value,
)
from gentee.secure.rpc import Payload, Rpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.host import Host
    from gentee.secure.instance import Instance
    from gentee.secure.normal_world.sockets import LocalSocket
    from gentee.secure.tee import SoftTee

MAX_SOCKETS = 64  # of one instance at a time

# Handles of ours have this bit; those of a supplicant, which counts them from 0, have not.
_OURS = 0x8000_0000
_32_BITS = 0xFFFF_FFFF
_VALUE_IN = TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT


class _Owner:
    """An instance of a TA, and its sockets by handle: None for one of the supplicant."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sessions = 0
        self.sockets: dict[int, LocalSocket | None] = {}
        self.last_handle = _OURS


class SocketPta(PseudoTa):
    """``session.context`` is the owner. An instance has one call under way at a time."""

    uuid = pta.PTA_SOCKET_UUID
    name = "socket"  # as in OP-TEE
    flags = pta.PTA_DEFAULT_FLAGS | TA_FLAG_CONCURRENT

    def __init__(self, tee: "SoftTee", host: "Host") -> None:
        super().__init__(tee, host)
        self._lock = threading.Lock()  # protects all below, and the owners
        self._owners: dict[Instance, _Owner] = {}
        self._last_owner = 0

    def open_session(self, session: PtaSession, param_types: int, params: list[Param]) -> None:
        if not session.is_from_ta or session.caller is None:
            raise AccessDenied("only TAs have sockets")
        with self._lock:
            owner = self._owners.get(session.caller)
            if owner is None:
                self._last_owner += 1
                owner = self._owners[session.caller] = _Owner(self._last_owner & _32_BITS)
            owner.sessions += 1
        session.context = owner

    def close_session(self, session: PtaSession) -> None:
        """All sockets of the instance end, as in OP-TEE, whichever session opened them."""
        owner: _Owner = session.context
        with self._lock:
            owner.sessions -= 1
            if not owner.sessions and session.caller is not None:
                self._owners.pop(session.caller, None)
            sockets, owner.sockets = owner.sockets, {}
        for sock in sockets.values():
            if sock is not None:
                sock.close()
        if None in sockets.values():
            call = _SupplicantCall(self, owner)
            call.begin(optee_rpc.OPTEE_RPC_SOCKET_CLOSE_ALL)

    def invoke_command(
        self, session: PtaSession, command: int, param_types: int, params: list[Param]
    ) -> Later | None:
        owner: _Owner = session.context
        if command == pta.PTA_SOCKET_OPEN:
            return self._open(session, owner, param_types, params)
        if command not in _COMMANDS:
            raise NotImplementedByTee(f"command {command}")
        kinds, entry = _COMMANDS[command]
        expect(param_types, *kinds)
        handle = value(params, 0).a
        with self._lock:
            if handle not in owner.sockets:
                # A supplicant is not asked either: one of OP-TEE's ends over such a handle.
                raise BadParameters(f"no socket {handle:#x}")
            sock = owner.sockets[handle]
        return entry(self, owner, handle, sock, params)

    def _open(
        self, session: PtaSession, owner: _Owner, param_types: int, params: list[Param]
    ) -> Later:
        expect(
            param_types,
            TEE_PARAM_TYPE_VALUE_INPUT,
            TEE_PARAM_TYPE_MEMREF_INPUT,
            TEE_PARAM_TYPE_VALUE_INPUT,
            TEE_PARAM_TYPE_VALUE_OUTPUT,
        )
        where, protocol = value(params, 0), value(params, 2)
        server = _some(params, 1).read()
        with self._lock:
            if len(owner.sockets) >= MAX_SOCKETS:
                raise TeeError.from_code(gp_socket.TEE_ISOCKET_ERROR_OUT_OF_RESOURCES)
        if self.tee.supplicant is not None and self.tee.supplicant.is_there:
            return self._open_there(owner, where.a, where.b, server, protocol.a, params)

        def opened(sock: "LocalSocket") -> None:
            with self._lock:
                owner.last_handle = _OURS | (owner.last_handle + 1 & _32_BITS)
                while owner.last_handle in owner.sockets:
                    owner.last_handle = _OURS | (owner.last_handle + 1 & _32_BITS)
                owner.sockets[owner.last_handle] = sock
                value(params, 3).a = owner.last_handle

        assert session.caller is not None
        sockets = self.tee.normal_world.sockets
        who = session.caller.service.name
        return sockets.open(who, where.a, server, where.b, protocol.a, opened)

    def _open_there(
        self, owner: _Owner, ip_version: int, port: int, server: bytes, protocol: int,
        params: list[Param],
    ) -> Later:  # fmt: skip
        call = _SupplicantCall(self, owner)

        def answered(answers: list[TeeParam], payload: Payload) -> None:
            handle = answers[3].a & _32_BITS
            with self._lock:
                if handle & _OURS or handle in owner.sockets:
                    raise GenericError("the supplicant has mixed up its handles")
                owner.sockets[handle] = None
            value(params, 3).a = handle

        def asked(payload: Payload) -> list[TeeParam]:
            return [
                TeeParam(_VALUE_IN, port, protocol, ip_version),
                payload.param(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT),
                TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT),
            ]

        return call.begin(optee_rpc.OPTEE_RPC_SOCKET_OPEN, 0, server, asked, answered)

    def _close(
        self, owner: _Owner, handle: int, sock: "LocalSocket | None", params: list[Param]
    ) -> Later | None:
        with self._lock:
            owner.sockets.pop(handle, None)
        if sock is not None:
            sock.close()
            return None
        return _SupplicantCall(self, owner).begin(optee_rpc.OPTEE_RPC_SOCKET_CLOSE, handle)

    def _send(
        self, owner: _Owner, handle: int, sock: "LocalSocket | None", params: list[Param]
    ) -> Later:
        data, timeout, count = _some(params, 1), value(params, 0).b, value(params, 2)

        def sent(size: int) -> None:
            count.a = size

        if sock is not None:
            assert data.buffer is not None
            return sock.send(data.buffer, timeout, sent)

        def asked(payload: Payload) -> list[TeeParam]:
            return [
                payload.param(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT),
                TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT, timeout),
            ]

        def answered(answers: list[TeeParam], payload: Payload) -> None:
            sent(min(answers[2].b, data.size))

        call = _SupplicantCall(self, owner)
        return call.begin(optee_rpc.OPTEE_RPC_SOCKET_SEND, handle, data.read(), asked, answered)

    def _recv(
        self, owner: _Owner, handle: int, sock: "LocalSocket | None", params: list[Param]
    ) -> Later:
        output, timeout = memref(params, 1), value(params, 0).b

        def received(size: int) -> None:
            output.size = size

        if sock is not None:
            return sock.recv(output.buffer, timeout, received)
        room = output.size

        def asked(payload: Payload) -> list[TeeParam]:
            return [
                payload.param(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT),
                TeeParam(_VALUE_IN, timeout),
            ]

        def answered(answers: list[TeeParam], payload: Payload) -> None:
            output.size = answers[1].b
            size = min(answers[1].b, room)
            if output.buffer is not None and size:
                output.buffer[:size] = payload.read(size)

        call = _SupplicantCall(self, owner)
        return call.begin(optee_rpc.OPTEE_RPC_SOCKET_RECV, handle, room, asked, answered)

    def _ioctl(
        self, owner: _Owner, handle: int, sock: "LocalSocket | None", params: list[Param]
    ) -> Later | None:
        data, command = _some(params, 1), value(params, 0).b
        if sock is not None:
            return sock.ioctl(command, data.read())
        room = data.size

        def asked(payload: Payload) -> list[TeeParam]:
            return [
                payload.param(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT),
                TeeParam(_VALUE_IN, command),
            ]

        def answered(answers: list[TeeParam], payload: Payload) -> None:
            data.size = answers[1].b
            if data.buffer is not None and data.size <= room:
                data.buffer[: data.size] = payload.read(data.size)

        call = _SupplicantCall(self, owner)
        return call.begin(optee_rpc.OPTEE_RPC_SOCKET_IOCTL, handle, data.read(), asked, answered)


class _SupplicantCall:
    """OPTEE_RPC_CMD_SOCKET: one request to the supplicant, in memory of its own."""

    def __init__(self, pseudo_ta: SocketPta, owner: _Owner) -> None:
        self._rpc = Rpc(pseudo_ta.tee.supplicant, pseudo_ta.host, self._failed)
        self._later = Later(self._cancel, ends_early=True)
        self._owner = owner
        self._cancelled = False

    def begin(
        self,
        what: int,
        handle: int = 0,
        data: bytes | int = b"",
        asked: Callable[[Payload], list[TeeParam]] = lambda payload: [],
        answered: Callable[[list[TeeParam], Payload], None] = lambda answers, payload: None,
    ) -> Later:
        """
        :param data: what the memory has before, or how many bytes it is to have.
        :param asked: the parameters after the first one.
        :param answered: gets all of them once they are back, if the supplicant says TEE_SUCCESS.
        """

        def allocated(payload: Payload) -> None:
            if not isinstance(data, int):
                payload.write(data)
            first = TeeParam(_VALUE_IN, what, self._owner.number, handle)

            def back(ret: int, answers: list[TeeParam]) -> None:
                try:
                    if ret == TEE_SUCCESS:
                        answered(answers, payload)
                finally:
                    self._rpc.free(payload)
                if ret != TEE_SUCCESS:
                    raise TeeError.from_code(ret & _32_BITS)
                self._later.done(None)

            self._rpc.call(optee_rpc.OPTEE_RPC_CMD_SOCKET, [first, *asked(payload)], back)

        self._rpc.alloc(data if isinstance(data, int) else len(data), allocated)
        return self._later

    def _cancel(self) -> None:
        self._cancelled = True
        self._rpc.cancel()

    def _failed(self, error: TeeError) -> None:
        if self._cancelled:
            error = TeeError.from_code(TEE_ERROR_CANCEL)
        self._later.done(error)


def _some(params: list[Param], index: int) -> MemRef:
    """Memory that OP-TEE copies: of no bytes it cannot allocate a copy."""
    given = memref(params, index)
    if given.buffer is None:
        raise OutOfMemory("no bytes")
    return given


# Of open sockets: the types of the parameters, and what is done.
_COMMANDS = {
    pta.PTA_SOCKET_CLOSE: ((TEE_PARAM_TYPE_VALUE_INPUT,), SocketPta._close),
    pta.PTA_SOCKET_SEND: (
        (TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_MEMREF_INPUT, TEE_PARAM_TYPE_VALUE_OUTPUT),
        SocketPta._send,
    ),
    pta.PTA_SOCKET_RECV: (
        (TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_MEMREF_OUTPUT),
        SocketPta._recv,
    ),
    pta.PTA_SOCKET_IOCTL: (
        (TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_MEMREF_INOUT),
        SocketPta._ioctl,
    ),
}
