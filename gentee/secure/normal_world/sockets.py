# SPDX-License-Identifier: BSD-2-Clause
"""TCP and UDP for services: what OP-TEE's tee-supplicant does (optee_client, tee_socket.c).

Nothing waits. An operation is tried at once; where it would block, the events thread is told when
it will not, and it is tried again in a thread of the pool. So any number of services wait, and each
wait can be ended from outside. Only the look-up of a name blocks, in a few threads of its own.

Results are those of tee-supplicant, also where GlobalPlatform's TEE Sockets API would have another
one: the end of a TCP connection is a success of 0 bytes, most errors are BAD_PARAMETERS.
"""

import errno
import os
import resource
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable

from gentee.abi import gp_socket as gp
from gentee.abi.gp import TEE_ERROR_CANCEL, TEE_ERROR_GENERIC
from gentee.abi.optee_pta import PTA_SOCKET_TIMEOUT_BLOCKING
from gentee.core.workers import WORKERS, Workers
from gentee.errors import (
    AccessDenied,
    BadParameters,
    Busy,
    CommunicationError,
    GenericError,
    NotSupported,
    TeeError,
)
from gentee.secure.normal_world.network import (
    NetworkPolicy,
    address_of,
    is_localhost,
    normal_host,
    option_for,
)
from gentee.secure.pta.pseudo_ta import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.host import Host
    from gentee.linux.events import Timer

# As tee-supplicant looks ahead for the size of a datagram (SUPP_MAX_PEEK_LEN).
_MAX_PEEK = 4096
MAX_SOCKETS = 1024  # of all services of a TEE
_MAX_TOLD = 16  # lines about what a service may not reach
_MAX_LOOKING = 256  # names that are looked up, or are to be
_INT = struct.Struct("=i")
_PORT = struct.Struct("=H")

_FAMILIES = {
    gp.TEE_IP_VERSION_DC: socket.AF_UNSPEC,
    gp.TEE_IP_VERSION_4: socket.AF_INET,
    gp.TEE_IP_VERSION_6: socket.AF_INET6,
}
_TYPES = {
    gp.TEE_ISOCKET_PROTOCOLID_TCP: socket.SOCK_STREAM,
    gp.TEE_ISOCKET_PROTOCOLID_UDP: socket.SOCK_DGRAM,
}
_LOCALHOST = ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1"))
_NO_ROOM = (errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.ENFILE)
_IN_PROGRESS = (errno.EINPROGRESS, errno.EALREADY, errno.EINTR)

# Names are looked up by the C library, which may take as long as it likes.
_RESOLVERS = Workers(8)

Address = tuple[int, "tuple[object, ...]"]  # family, and what connect() takes


class _Operation:
    """Something that is done with a socket, now or when it can be.

    :param attempt: does it, or raises BlockingIOError. TeeError is the result, other errors of the
        system are BAD_PARAMETERS.
    :param mask: what of the socket to wait for.
    :param timeout: milliseconds, or PTA_SOCKET_TIMEOUT_BLOCKING.
    """

    def __init__(
        self,
        host: "Host",
        sock: socket.socket | None,
        attempt: Callable[["_Operation"], None],
        mask: int,
        timeout: int = PTA_SOCKET_TIMEOUT_BLOCKING,
    ) -> None:
        self._host = host
        self.sock = sock
        self._attempt = attempt
        self._mask = mask
        self._due = None
        if timeout != PTA_SOCKET_TIMEOUT_BLOCKING:
            self._due = time.monotonic() + timeout / 1000
        # Held while it is tried, so what it works with is still there.
        self._lock = threading.Lock()
        self._over = False
        self._watched = -1
        self._timer: Timer | None = None
        self.later = Later(self.cancel, ends_early=True)
        self.ended: Callable[[], None] | None = None

    def run(self) -> None:
        """Try; the result is in ``later``, now or later."""
        error: TeeError | None = None
        with self._lock:
            if self._over:
                return
            try:
                if self._is_to_wait():
                    return
            except TeeError as failure:
                error = failure
            except OSError as failure:
                error = BadParameters(str(failure))
            except BaseException as bug:  # ours; nobody is to wait for ever
                self._host.bug(bug)
                error = GenericError("a bug")
            self._end()
        self._done(error)

    def _is_to_wait(self) -> bool:
        """Try it; True if it would block, and will be tried again. The lock is held."""
        try:
            self._attempt(self)
        except BlockingIOError:
            pass
        else:
            return False
        try:
            if self._wait():
                return True
        except OSError as failure:  # no room for another descriptor to watch
            code = gp.TEE_ISOCKET_ERROR_OUT_OF_RESOURCES
            raise TeeError.from_code(code, detail=str(failure)) from failure
        raise TeeError.from_code(gp.TEE_ISOCKET_ERROR_TIMEOUT)

    def cancel(self) -> None:
        """Nobody wants it any more. Any thread."""
        self.end(TeeError.from_code(TEE_ERROR_CANCEL))

    def end(self, error: TeeError) -> None:
        """It is over with ``error``, unless it is over already."""
        with self._lock:
            if self._over:
                return
            self._end()
        self._done(error)

    def unwatch(self) -> None:
        """Before its socket is closed. From inside an attempt, or when it is over."""
        if self._watched >= 0:
            self._host.events.remove(self._watched)
            self._watched = -1

    def _wait(self) -> bool:
        """Be told when it can go on; False if its time is up. The lock is held."""
        if self._due is not None:
            left = self._due - time.monotonic()
            if left <= 0:
                return False
            if self._timer is None:
                self._timer = self._host.events.call_later(left, self._expired)
        assert self.sock is not None
        self.unwatch()
        self._host.events.add(
            self.sock.fileno(), lambda: _elsewhere(self.run), self._mask | select.EPOLLONESHOT
        )
        self._watched = self.sock.fileno()
        return True

    def _expired(self) -> None:
        """Events thread, which is not to wait for an attempt."""
        _elsewhere(lambda: self.end(TeeError.from_code(gp.TEE_ISOCKET_ERROR_TIMEOUT)))

    def _end(self) -> None:
        self._over = True
        self.unwatch()
        if self._timer is not None:
            self._timer.cancel()

    def _done(self, error: TeeError | None) -> None:
        if self.ended is not None:
            self.ended()
        self.later.done(error)
        # They refer to this: the collector of cycles need not find that out.
        self._attempt, self.ended = _nothing, None


def _nothing(_operation: _Operation) -> None:
    """What is left to try of an operation that is over."""


def _elsewhere(job: Callable[[], None]) -> None:
    try:
        WORKERS.submit(job)
    except OSError:  # no thread can be had; attempts do not block
        job()


class LocalSocket:
    """A socket of a service. One operation at a time; another one meanwhile is TEE_ERROR_BUSY."""

    def __init__(self, sockets: "Sockets", who: str, sock: socket.socket, host: str) -> None:
        self._sockets = sockets
        self._who = who
        self._sock = sock
        self._host = host  # a normal host: where it is connected to
        self._is_datagram = sock.type == socket.SOCK_DGRAM
        self._lock = threading.Lock()  # protects the two below
        self._operation: _Operation | None = None
        self._closed = False

    def close(self) -> None:
        """What waits for it ends with TEE_ERROR_CANCEL. Twice is once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            operation = self._operation
        if operation is not None:
            operation.cancel()
        self._sock.close()
        self._sockets.gone()

    def send(self, data: memoryview, timeout: int, sent: Callable[[int], None]) -> Later:
        """Send some of ``data``, all of it if it is a datagram; ``sent`` is told how much."""

        def attempt(_operation: _Operation) -> None:
            try:
                count = self._sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except InterruptedError:
                raise BlockingIOError from None
            sent(count)

        return self._begin(attempt, select.EPOLLOUT, timeout)

    def recv(
        self, buffer: memoryview | None, timeout: int, received: Callable[[int], None]
    ) -> Later:
        """Receive what is there, and wait only if that is nothing.

        :param buffer: None for no bytes: how many are there, without waiting.
        :param received: told how many; more than there was room for if a datagram was cut off.
        """

        def attempt(_operation: _Operation) -> None:
            if buffer is None:
                try:
                    count = self._peek()
                except BlockingIOError:
                    count = 0
            else:
                count = self._receive(buffer)
            received(count)

        return self._begin(attempt, select.EPOLLIN, timeout)

    def _peek(self) -> int:
        """How many bytes wait, one more than _MAX_PEEK of a longer datagram."""
        data, _, flags, _ = self._sock.recvmsg(_MAX_PEEK, 0, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return len(data) + bool(flags & socket.MSG_TRUNC)

    def _receive(self, buffer: memoryview) -> int:
        ahead = 0
        if self._is_datagram and len(buffer) < _MAX_PEEK:
            ahead = self._peek()
        count, _, flags, _ = self._sock.recvmsg_into([buffer], 0, socket.MSG_DONTWAIT)
        if self._is_datagram and flags & socket.MSG_TRUNC:
            return ahead if ahead > count else count + 1
        return count

    def ioctl(self, command: int, data: bytes) -> Later | None:
        """TEE_TCP_* and TEE_UDP_* of gentee.abi.gp_socket."""
        if self._is_datagram:
            return self._ioctl_udp(command, data)
        options = {
            gp.TEE_TCP_SET_RECVBUF: socket.SO_RCVBUF,
            gp.TEE_TCP_SET_SENDBUF: socket.SO_SNDBUF,
        }
        if command not in options:
            raise NotSupported(f"ioctl {command:#x}")
        try:
            size = _INT.unpack_from(data)[0]
            self._sock.setsockopt(socket.SOL_SOCKET, options[command], size)
        except (OSError, struct.error) as error:
            raise BadParameters(str(error)) from error
        return None

    def _ioctl_udp(self, command: int, data: bytes) -> Later | None:
        try:
            peer = self._sock.getpeername()
        except OSError as error:
            raise BadParameters(str(error)) from error
        if command == gp.TEE_UDP_CHANGEPORT:
            if len(data) != _PORT.size:
                raise BadParameters("no port")
            (port,) = _PORT.unpack(data)
            self._sockets.check(self._who, self._host, port)
            try:
                self._sock.connect((peer[0], port, *peer[2:]))
            except OSError as error:
                raise GenericError(str(error)) from error
            return None
        if command == gp.TEE_UDP_CHANGEADDR:
            host = _host_of(data)
            self._sockets.check(self._who, host, peer[1])
            return self._change_address(host, peer[1])
        raise NotSupported(f"ioctl {command:#x}")

    def _change_address(self, host: str, port: int) -> Later:
        addresses: list[Address] = []

        def attempt(operation: _Operation) -> None:
            error: TeeError = TeeError.from_code(gp.TEE_ISOCKET_ERROR_HOSTNAME)
            for _family, address in addresses:
                number = self._sock.connect_ex(address)
                if not number:
                    self._host = host
                    return
                error = _connect_error(number)
            raise error

        operation = self._operation_for(attempt, select.EPOLLOUT, PTA_SOCKET_TIMEOUT_BLOCKING)

        def found(there: list[Address]) -> None:
            addresses.extend(there)
            operation.run()

        family = self._sock.family
        self._sockets.look_up(host, port, family, socket.SOCK_DGRAM, found)
        return operation.later

    def _begin(self, attempt: Callable[[_Operation], None], mask: int, timeout: int) -> Later:
        operation = self._operation_for(attempt, mask, timeout)
        operation.run()
        return operation.later

    def _operation_for(
        self, attempt: Callable[[_Operation], None], mask: int, timeout: int
    ) -> _Operation:
        operation = _Operation(self._sockets.host, self._sock, attempt, mask, timeout)

        def ended() -> None:
            with self._lock:
                self._operation = None

        operation.ended = ended
        with self._lock:
            if self._closed:
                raise BadParameters("closed")
            if self._operation is not None:
                raise Busy("the socket is at work for another call")
            self._operation = operation
        return operation


class Sockets:
    """Sockets for the services of one TEE.

    :param rules: of :mod:`.network`.
    """

    def __init__(self, host: "Host", rules: Iterable[str]) -> None:
        self.host = host
        self._policy = NetworkPolicy(rules)
        self._lock = threading.Lock()  # protects the three below
        self._told: dict[str, int] = {}  # lines, by service
        self._count = 0  # of sockets, and of those that are being opened
        self._looking = 0  # names that are looked up, for operations that may be over
        # Each is a descriptor, and the TEE needs some for all else.
        self._most = min(MAX_SOCKETS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)

    def open(
        self,
        who: str,
        ip_version: int,
        server: bytes,
        port: int,
        protocol: int,
        opened: Callable[[LocalSocket], None],
    ) -> Later:
        """Connect to a server; ``opened`` gets the socket before the result is there.

        :param who: the service, for the person who runs the TEE.
        :param server: the host, ending in NUL.
        """
        if not server.endswith(b"\0"):
            raise TeeError.from_code(gp.TEE_ISOCKET_ERROR_HOSTNAME)
        if ip_version not in _FAMILIES or protocol not in _TYPES:
            raise BadParameters("neither this IP version nor that protocol")
        host = _host_of(server)
        port &= 0xFFFF
        self.check(who, host, port)
        with self._lock:
            if self._count >= self._most:
                raise TeeError.from_code(gp.TEE_ISOCKET_ERROR_OUT_OF_RESOURCES)
            self._count += 1
        addresses: list[Address] = []
        is_open = False
        kind = _TYPES[protocol]
        result: TeeError = TeeError.from_code(TEE_ERROR_GENERIC)

        def attempt(operation: _Operation) -> None:
            """connect() as often as there are addresses: it says itself how far it is."""
            nonlocal result, is_open
            while addresses:
                family, address = addresses[0]
                try:
                    if operation.sock is None:
                        operation.sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
                    number = operation.sock.connect_ex(address)
                except OSError as error:
                    number = error.errno or errno.EIO
                    code = TEE_ERROR_GENERIC
                    if number in _NO_ROOM:
                        code = gp.TEE_ISOCKET_ERROR_OUT_OF_RESOURCES
                    result = TeeError.from_code(code, detail=os.strerror(number))
                else:
                    if number in (0, errno.EISCONN):
                        operation.unwatch()
                        sock, operation.sock = operation.sock, None
                        is_open = True
                        opened(LocalSocket(self, who, sock, host))
                        return
                    if number in _IN_PROGRESS:
                        raise BlockingIOError
                    result = _connect_error(number)
                if operation.sock is not None:
                    operation.unwatch()
                    operation.sock.close()
                    operation.sock = None
                addresses.pop(0)
            raise result

        operation = _Operation(self.host, None, attempt, select.EPOLLOUT)

        def ended() -> None:
            if operation.sock is not None:
                operation.sock.close()
            if not is_open:
                self.gone()

        operation.ended = ended

        def found(there: list[Address]) -> None:
            nonlocal result
            if not there:
                result = TeeError.from_code(gp.TEE_ISOCKET_ERROR_HOSTNAME)
            addresses.extend(there)
            operation.run()

        self.look_up(host, port, _FAMILIES[ip_version], kind, found)
        return operation.later

    def gone(self) -> None:
        """A socket is closed, or could not be opened."""
        with self._lock:
            self._count -= 1

    def check(self, who: str, host: str, port: int) -> None:
        """AccessDenied for what no rule allows, and a line that says which one would."""
        if self._policy.allows(host, port):
            return
        with self._lock:
            count = self._told[who] = self._told.get(who, 0) + 1
        if count <= _MAX_TOLD:
            # The host is the service's own words: nothing in it may drive a terminal.
            self.host.warn(
                f"service {who!a} may not reach {host!a} port {port}; "
                f"this would allow it: {ascii(option_for(host, port))[1:-1]}"
            )
        raise AccessDenied(f"no --allow-net for {host!a} port {port}")

    def look_up(
        self, host: str, port: int, family: int, kind: int, found: Callable[[list[Address]], None]
    ) -> None:
        """Find the addresses of a host that is allowed; ``found`` gets none if there are none."""
        if is_localhost(host):
            wanted = [row for row in _LOCALHOST if family in (socket.AF_UNSPEC, row[0])]
            found([(row_family, (address, port)) for row_family, address in wanted])
            return
        is_number = address_of(host) is not None
        flags = socket.AI_NUMERICHOST if is_number else 0

        def look() -> list[Address]:
            try:
                rows = socket.getaddrinfo(host.encode(), port, family, kind, 0, flags)
            except (OSError, UnicodeError):
                return []
            return [(row[0], row[4]) for row in rows]

        if is_number:
            found(look())
            return

        def look_elsewhere() -> None:
            addresses = look()
            self._looked()
            found(addresses)

        # A look-up cannot be ended: those that nobody waits for any more count as well.
        with self._lock:
            is_full = self._looking >= _MAX_LOOKING
            self._looking += not is_full
        if is_full:
            found([])
            return
        try:
            _RESOLVERS.submit(look_elsewhere)
        except OSError:  # no thread can be had
            self._looked()
            found([])

    def _looked(self) -> None:
        with self._lock:
            self._looking -= 1


def _host_of(data: bytes) -> str:
    """The normal host in a string of C's, which the last byte ends at the latest."""
    name = data.partition(b"\0")[0]
    if not data.endswith(b"\0") or not name or len(name) > 253 or not name.isascii():
        raise TeeError.from_code(gp.TEE_ISOCKET_ERROR_HOSTNAME)
    return normal_host(name.decode("ascii"))


def _connect_error(number: int) -> TeeError:
    if number == errno.ETIMEDOUT:
        return TeeError.from_code(gp.TEE_ISOCKET_ERROR_TIMEOUT)
    return CommunicationError(os.strerror(number))


__all__ = ["LocalSocket", "Sockets"]
