# SPDX-License-Identifier: BSD-2-Clause
"""Sockets of services: the socket pseudo TA, by gentee itself and by a supplicant.

Results are those of OP-TEE with its tee-supplicant. The service is tests/services/sockets.py, which
passes on what its client says.
"""

import os
import select
import shlex
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gentee.abi.gp import (
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_CANCEL,
    TEE_ERROR_COMMUNICATION,
    TEE_ERROR_NOT_IMPLEMENTED,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_TARGET_DEAD,
    TEE_SUCCESS,
)
from gentee.abi.gp_socket import (
    TEE_IP_VERSION_4,
    TEE_IP_VERSION_6,
    TEE_IP_VERSION_DC,
    TEE_ISOCKET_ERROR_HOSTNAME,
    TEE_ISOCKET_ERROR_OUT_OF_RESOURCES,
    TEE_ISOCKET_ERROR_TIMEOUT,
    TEE_ISOCKET_PROTOCOLID_TCP,
    TEE_ISOCKET_PROTOCOLID_UDP,
    TEE_TCP_SET_RECVBUF,
    TEE_TCP_SET_SENDBUF,
    TEE_UDP_CHANGEADDR,
    TEE_UDP_CHANGEPORT,
)
from gentee.abi.optee_pta import (
    PTA_SOCKET_CLOSE,
    PTA_SOCKET_IOCTL,
    PTA_SOCKET_OPEN,
    PTA_SOCKET_RECV,
    PTA_SOCKET_SEND,
    PTA_SOCKET_TIMEOUT_BLOCKING,
    PTA_SOCKET_UUID,
)
from gentee.abi.optee_rpc import (
    OPTEE_RPC_CMD_SHM_ALLOC,
    OPTEE_RPC_CMD_SHM_FREE,
    OPTEE_RPC_CMD_SOCKET,
    OPTEE_RPC_SOCKET_CLOSE_ALL,
    OPTEE_RPC_SOCKET_IOCTL,
    OPTEE_RPC_SOCKET_OPEN,
    OPTEE_RPC_SOCKET_RECV,
    OPTEE_RPC_SOCKET_SEND,
)
from gentee.client import INPUT, OUTPUT, Session, TempRef, Value
from gentee.errors import TeeError
from gentee.secure.pta.sockets import MAX_SOCKETS
from tests import arm_tas
from tests.functional.conftest import GenteeRun
from tests.functional.test_pseudo_tas import META_VALUE
from tests.functional.test_services import Call, Tee
from tests.helpers import (
    PATIENCE,
    Client,
    Param,
    ServiceHost,
    in_threads,
    open_descriptors,
    wait_until,
)
from tests.services.sockets import CLOSE_SESSION, DIE, SHORTLY, UNMASKED
from tests.ta_build import ARCHES
from tests.ta_clients import AT_ADDRESS, IN_PARAMETER, ArmTee, Caller

SERVICES = Path(__file__).parents[1] / "services"
SERVICE = "50c4e700-5b6c-4d7e-8f90-a1b2c3d4e505"
TCP, UDP = TEE_ISOCKET_PROTOCOLID_TCP, TEE_ISOCKET_PROTOCOLID_UDP
BLOCKING = PTA_SOCKET_TIMEOUT_BLOCKING


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture
def tee(host: ServiceHost) -> Iterator[Tee]:
    tee = Tee(host, SERVICES, allow_net=["loopback"])
    yield tee
    tee.close()
    assert not host.bugs


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        yield server


@pytest.fixture
def datagrams() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE)
        yield sock


def code_of(call: Callable[[], object]) -> int:
    """The result of a call, success or not."""
    try:
        call()
    except TeeError as error:
        return error.code
    return TEE_SUCCESS


class Sockets:
    """A session of the service."""

    def __init__(self, tee: Tee, more: int = 0) -> None:
        self.session: Session = tee.open(SERVICE)
        self.more = more  # added to commands

    def open(
        self, port: int, host: bytes = b"127.0.0.1\0", protocol: int = TCP, version: int = 0
    ) -> int:
        """The handle of a new socket."""
        handle = Value(0, 0, OUTPUT)
        self.session.invoke(
            PTA_SOCKET_OPEN,
            Value(version, port, INPUT),
            TempRef(host, INPUT),
            Value(protocol, 0, INPUT),
            handle,
        )
        return handle.a

    def send(self, handle: int, data: bytes, timeout: int = BLOCKING) -> int:
        count = Value(7, 7, OUTPUT)
        where = Value(handle, timeout, INPUT)
        try:
            self.session.invoke(PTA_SOCKET_SEND, where, TempRef(data, INPUT), count)
        except TeeError:
            assert count.a == 0
            raise
        return count.a

    def recv(self, handle: int, room: int, timeout: int = BLOCKING) -> tuple[bytes, int]:
        """What came, and the size that was said."""
        buffer = bytearray(room)
        output = TempRef(buffer if room else None, OUTPUT)
        where = Value(handle, timeout, INPUT)
        self.session.invoke(PTA_SOCKET_RECV | self.more, where, output)
        return bytes(buffer[: output.out_size]), output.out_size

    def begin_recv(self, handle: int) -> Call:
        """A receive that waits without end."""
        output = TempRef(bytearray(8), OUTPUT)
        where = Value(handle, BLOCKING, INPUT)
        return Call(self.session, PTA_SOCKET_RECV | self.more, where, output)

    def ioctl(self, handle: int, command: int, data: bytes) -> None:
        where = Value(handle, command, INPUT)
        self.session.invoke(PTA_SOCKET_IOCTL, where, TempRef(bytearray(data)))

    def close(self, handle: int) -> None:
        self.session.invoke(PTA_SOCKET_CLOSE, Value(handle, 0, INPUT))


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def has_ended(peer: socket.socket) -> bool:
    """Whether the other end is closed."""
    ready, _, _ = select.select([peer], [], [], 0)
    try:
        return bool(ready) and not peer.recv(1, socket.MSG_PEEK)
    except ConnectionResetError:
        return True


# Streams


def test_a_stream(tee: Tee, server: socket.socket) -> None:
    service = Sockets(tee)
    handle = service.open(port_of(server))
    peer, _ = server.accept()
    with peer:
        assert service.send(handle, b"question") == 8
        assert peer.recv(100) == b"question"
        peer.sendall(b"the answer")
        assert service.recv(handle, 4) == (b"the ", 4)
        assert service.recv(handle, 100) == (b"answer", 6)
        service.close(handle)
        wait_until(lambda: has_ended(peer))
    assert code_of(lambda: service.send(handle, b"x")) == TEE_ERROR_BAD_PARAMETERS


def test_a_receive_waits_for_what_comes(tee: Tee, server: socket.socket) -> None:
    service = Sockets(tee)
    handle = service.open(port_of(server))
    peer, _ = server.accept()
    with peer:
        (soft,) = tee.driver.tees
        call = service.begin_recv(handle)
        wait_until(lambda: is_waiting(soft))
        peer.sendall(b"at last")
        call.wait()
    assert call.operation.params[1].out_size == 7  # type: ignore[union-attr]


def is_waiting(soft: object) -> bool:
    """Whether an operation of a socket waits."""
    instance = soft.pseudo_tas.instance(bytes.fromhex(PTA_SOCKET_UUID.replace("-", "")))  # type: ignore[attr-defined]
    return any(later.ends_early and not later.is_done for later in instance._later.values())


def test_timeouts(tee: Tee, server: socket.socket) -> None:
    service = Sockets(tee)
    handle = service.open(port_of(server))
    for timeout in (0, 1, 30):
        assert code_of(lambda t=timeout: service.recv(handle, 8, t)) == TEE_ISOCKET_ERROR_TIMEOUT  # type: ignore[misc]
    # The peer takes nothing: buffers are full in the end, and nothing more goes out.
    data = bytes(1 << 18)
    codes = [code_of(lambda: service.send(handle, data, 0)) for _ in range(200)]
    assert set(codes) == {TEE_SUCCESS, TEE_ISOCKET_ERROR_TIMEOUT}
    assert code_of(lambda: service.send(handle, data, 5)) == TEE_ISOCKET_ERROR_TIMEOUT


def test_how_much_is_there(tee: Tee, server: socket.socket) -> None:
    """A receive of no bytes: it never waits, and takes nothing away."""
    service = Sockets(tee)
    handle = service.open(port_of(server))
    assert service.recv(handle, 0) == (b"", 0)
    peer, _ = server.accept()
    with peer:
        peer.sendall(b"12345")
        wait_until(lambda: service.recv(handle, 0)[1] == 5)
        assert service.recv(handle, 8) == (b"12345", 5)


def test_the_end_of_a_stream(tee: Tee, server: socket.socket) -> None:
    service = Sockets(tee)
    handle = service.open(port_of(server))
    server.accept()[0].close()
    assert service.recv(handle, 8) == (b"", 0)
    wait_until(lambda: code_of(lambda: service.send(handle, b"x")) == TEE_ERROR_BAD_PARAMETERS)


def test_nobody_listens(tee: Tee) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = port_of(server)
    assert code_of(lambda: Sockets(tee).open(port)) == TEE_ERROR_COMMUNICATION


@pytest.mark.parametrize(
    "name",
    [b"localhost\0", b"LocalHost.\0", b"0.0.0.0\0", b"::ffff:127.0.0.1\0", b"127.0.0.1\0x\0"],
)
def test_names_of_this_machine(tee: Tee, server: socket.socket, name: bytes) -> None:
    Sockets(tee).open(port_of(server), name)
    server.accept()[0].close()


def test_ip_versions(tee: Tee, server: socket.socket) -> None:
    service = Sockets(tee)
    assert service.open(port_of(server), version=TEE_IP_VERSION_4)
    assert service.open(port_of(server), b"localhost\0", version=TEE_IP_VERSION_DC)
    other = code_of(lambda: service.open(port_of(server), version=TEE_IP_VERSION_6))
    assert other == TEE_ISOCKET_ERROR_HOSTNAME


def test_buffers_of_a_stream(tee: Tee, server: socket.socket) -> None:
    service = Sockets(tee)
    handle = service.open(port_of(server))
    for command in (TEE_TCP_SET_RECVBUF, TEE_TCP_SET_SENDBUF):
        service.ioctl(handle, command, struct.pack("=i", 4096))
        short = code_of(lambda c=command: service.ioctl(handle, c, b"123"))  # type: ignore[misc]
        assert short == TEE_ERROR_BAD_PARAMETERS
    other = code_of(lambda: service.ioctl(handle, TEE_UDP_CHANGEPORT, bytes(2)))
    assert other == TEE_ERROR_NOT_SUPPORTED


# Datagrams


def test_datagrams(tee: Tee, datagrams: socket.socket) -> None:
    service = Sockets(tee)
    handle = service.open(port_of(datagrams), protocol=UDP)
    assert service.send(handle, b"question") == 8
    data, address = datagrams.recvfrom(100)
    assert data == b"question"
    datagrams.sendto(b"a long answer", address)
    datagrams.sendto(b"and another", address)
    wait_until(lambda: service.recv(handle, 0)[1] == 13)
    assert service.recv(handle, 6) == (b"a long", 13)  # cut off, and what it was
    assert service.recv(handle, 100) == (b"and another", 11)
    assert code_of(lambda: service.recv(handle, 8, 0)) == TEE_ISOCKET_ERROR_TIMEOUT
    assert code_of(lambda: service.send(handle, bytes(70_000))) == TEE_ERROR_BAD_PARAMETERS


def test_a_datagram_larger_than_the_look_ahead(tee: Tee, datagrams: socket.socket) -> None:
    service = Sockets(tee)
    handle = service.open(port_of(datagrams), protocol=UDP)
    service.send(handle, b"x")
    address = datagrams.recvfrom(1)[1]
    datagrams.sendto(bytes(9000), address)
    wait_until(lambda: service.recv(handle, 0)[1] == 4097)
    assert service.recv(handle, 100)[1] == 4097


def test_another_peer(tee: Tee, datagrams: socket.socket) -> None:
    service = Sockets(tee)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        other.settimeout(PATIENCE)
        handle = service.open(port_of(datagrams), protocol=UDP)
        service.ioctl(handle, TEE_UDP_CHANGEPORT, struct.pack("=H", port_of(other)))
        service.ioctl(handle, TEE_UDP_CHANGEADDR, b"127.0.0.2\0")
        service.send(handle, b"here")
        assert other.recv(100) == b"here"
    for command, data, code in (
        (TEE_UDP_CHANGEADDR, b"127.0.0.2", TEE_ISOCKET_ERROR_HOSTNAME),
        (TEE_UDP_CHANGEADDR, b"\0", TEE_ISOCKET_ERROR_HOSTNAME),
        (TEE_UDP_CHANGEADDR, b"192.0.2.1\0", TEE_ERROR_ACCESS_DENIED),
        (TEE_UDP_CHANGEPORT, b"123", TEE_ERROR_BAD_PARAMETERS),
        (TEE_TCP_SET_RECVBUF, bytes(4), TEE_ERROR_NOT_SUPPORTED),
    ):
        assert code_of(lambda c=command, d=data: service.ioctl(handle, c, d)) == code  # type: ignore[misc]


# What may be reached


@pytest.mark.parametrize(
    "where", [b"192.0.2.1\0", b"example.org\0", b"127.1\0", b"2130706433\0", b"255.255.255.255\0"]
)
def test_not_beyond_this_machine(tee: Tee, where: bytes) -> None:
    service = Sockets(tee)
    for protocol in (TCP, UDP):
        found = code_of(lambda p=protocol: service.open(53, where, p))  # type: ignore[misc]
        assert found == TEE_ERROR_ACCESS_DENIED
    name = where[:-1].decode()
    (told,) = set(tee.warnings)
    assert told == (
        f"service 'sockets' may not reach '{name}' port 53; "
        f"this would allow it: --allow-net {name}:53"
    )


def test_nothing_by_default(host: ServiceHost, server: socket.socket) -> None:
    tee = Tee(host, SERVICES)
    service = Sockets(tee)
    assert code_of(lambda: service.open(port_of(server))) == TEE_ERROR_ACCESS_DENIED
    assert "this would allow it: --allow-net loopback" in tee.warnings[0]
    tee.close()


def test_one_place(host: ServiceHost, server: socket.socket, datagrams: socket.socket) -> None:
    tee = Tee(host, SERVICES, allow_net=[f"127.0.0.1:{port_of(server)}"])
    service = Sockets(tee)
    service.open(port_of(server))
    assert code_of(lambda: service.open(port_of(datagrams))) == TEE_ERROR_ACCESS_DENIED
    handle = service.open(port_of(server), protocol=UDP)
    port = struct.pack("=H", port_of(datagrams))
    denied = code_of(lambda: service.ioctl(handle, TEE_UDP_CHANGEPORT, port))
    assert denied == TEE_ERROR_ACCESS_DENIED
    tee.close()


def test_a_name_that_a_rule_has(
    host: ServiceHost, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked up, and no other one is."""
    asked: list[bytes] = []
    port = port_of(server)

    def getaddrinfo(name: bytes, *_: object) -> list[tuple[object, ...]]:
        asked.append(name)
        if name == b"nobody.test":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    tee = Tee(host, SERVICES, allow_net=[f"Some.Test:{port}", f"nobody.test:{port}"])
    service = Sockets(tee)
    service.open(port, b"some.test\0")
    nobody = code_of(lambda: service.open(port, b"nobody.test\0"))
    assert nobody == TEE_ISOCKET_ERROR_HOSTNAME
    assert code_of(lambda: service.open(port, b"secret.other.test\0")) == TEE_ERROR_ACCESS_DENIED
    assert asked == [b"some.test", b"nobody.test"]
    tee.close()


def test_lines_about_refusals_have_an_end(tee: Tee) -> None:
    service = Sockets(tee)
    for port in range(1, 60):
        assert code_of(lambda p=port: service.open(p, b"\x1b[2Jx\0")) == TEE_ERROR_ACCESS_DENIED  # type: ignore[misc]
    assert len(tee.warnings) == 16
    assert not any("\x1b" in line for line in tee.warnings)


# Ends


def test_a_cancelled_receive(tee: Tee, server: socket.socket) -> None:
    service = Sockets(tee, more=UNMASKED)
    handle = service.open(port_of(server))
    call = service.begin_recv(handle)
    wait_until(lambda: is_waiting(tee.driver.tees[0]))
    call.operation.cancel()
    assert code_of(call.wait) == TEE_ERROR_CANCEL
    peer, _ = server.accept()
    with peer:  # nothing was lost
        peer.sendall(b"later")
        assert service.recv(handle, 8) == (b"later", 5)


def test_a_masked_receive_goes_on(tee: Tee, server: socket.socket) -> None:
    service = Sockets(tee)
    handle = service.open(port_of(server))
    call = service.begin_recv(handle)
    wait_until(lambda: is_waiting(tee.driver.tees[0]))
    call.operation.cancel()
    peer, _ = server.accept()
    with peer:
        peer.sendall(b"later")
        call.wait()


def test_a_receive_whose_time_is_up(tee: Tee, server: socket.socket) -> None:
    """The timeout of the call, not of the socket."""
    service = Sockets(tee, more=SHORTLY)
    handle = service.open(port_of(server))
    assert code_of(lambda: service.recv(handle, 8)) == TEE_ERROR_CANCEL


def test_sockets_end_with_their_service(tee: Tee, server: socket.socket) -> None:
    service = Sockets(tee)
    service.open(port_of(server))
    peer, _ = server.accept()
    with peer:
        assert not has_ended(peer)
        assert code_of(lambda: service.session.invoke(DIE)) == TEE_ERROR_TARGET_DEAD
        wait_until(lambda: has_ended(peer))


def test_a_service_that_is_killed_while_it_waits(tee: Tee, server: socket.socket) -> None:
    service = Sockets(tee)
    handle = service.open(port_of(server))
    peer, _ = server.accept()
    with peer:
        call = service.begin_recv(handle)
        soft = tee.driver.tees[0]
        wait_until(lambda: is_waiting(soft))
        (instance,) = soft.instances()
        instance.kill()
        assert code_of(call.wait) == TEE_ERROR_TARGET_DEAD
        wait_until(lambda: has_ended(peer))
        wait_until(lambda: not is_waiting(soft))


def test_sockets_end_with_their_session(tee: Tee, server: socket.socket) -> None:
    service = Sockets(tee)
    handle = service.open(port_of(server))
    peer, _ = server.accept()
    with peer:
        service.session.invoke(CLOSE_SESSION)
        wait_until(lambda: has_ended(peer))
    assert code_of(lambda: service.close(handle)) == TEE_ERROR_BAD_PARAMETERS


def test_many_wait_at_once(tee: Tee, server: socket.socket) -> None:
    """More than there are threads; others are served meanwhile."""
    services = [Sockets(tee) for _ in range(20)]
    handles = [service.open(port_of(server)) for service in services]
    peers = [server.accept()[0] for _ in services]
    calls = [one.begin_recv(handle) for one, handle in zip(services, handles, strict=True)]
    one = Sockets(tee)
    handle = one.open(port_of(server))
    assert code_of(lambda: one.recv(handle, 8, 1)) == TEE_ISOCKET_ERROR_TIMEOUT
    for peer in peers:
        peer.sendall(b"x")
    for call in calls:
        call.wait()
    for peer in peers:
        peer.close()


def test_nothing_is_left(tee: Tee, server: socket.socket) -> None:
    Sockets(tee).session.close()
    wait_until(lambda: not tee.instances())
    before = len(open_descriptors())
    for _ in range(10):
        service = Sockets(tee)
        handle = service.open(port_of(server))
        assert code_of(lambda h=handle: service.recv(h, 8, 1)) == TEE_ISOCKET_ERROR_TIMEOUT  # type: ignore[misc]  # noqa: B023
        server.accept()[0].close()
        tee.contexts.pop().finalize()
    wait_until(lambda: not tee.instances())
    wait_until(lambda: len(open_descriptors()) <= before)


# Hostile parameters, limits


def test_only_so_many(tee: Tee, datagrams: socket.socket) -> None:
    service = Sockets(tee)
    handles = [service.open(port_of(datagrams), protocol=UDP) for _ in range(MAX_SOCKETS)]
    assert len(set(handles)) == MAX_SOCKETS
    more = code_of(lambda: service.open(port_of(datagrams), protocol=UDP))
    assert more == TEE_ISOCKET_ERROR_OUT_OF_RESOURCES
    Sockets(tee).open(port_of(datagrams), protocol=UDP)  # another service's are its own
    service.close(handles[7])
    service.open(port_of(datagrams), protocol=UDP)


def test_only_so_many_of_all(
    host: ServiceHost, datagrams: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that could not be opened, and one that is closed, make room."""
    monkeypatch.setattr("gentee.secure.normal_world.sockets.MAX_SOCKETS", 3)
    tee = Tee(host, SERVICES, allow_net=["loopback"])
    one, two = Sockets(tee), Sockets(tee)
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = port_of(server)
    for _ in range(5):
        assert code_of(lambda: one.open(nobody)) == TEE_ERROR_COMMUNICATION
    handles = [sockets.open(port_of(datagrams), protocol=UDP) for sockets in (one, one, two)]
    for sockets in (one, two):
        more = code_of(lambda s=sockets: s.open(port_of(datagrams), protocol=UDP))  # type: ignore[misc]
        assert more == TEE_ISOCKET_ERROR_OUT_OF_RESOURCES
    one.close(handles[0])
    two.open(port_of(datagrams), protocol=UDP)
    tee.close()


@pytest.mark.parametrize("handle", [0, 1, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0002, 0xFFFF_FFFF])
def test_handles_that_are_none(tee: Tee, datagrams: socket.socket, handle: int) -> None:
    Sockets(tee).open(port_of(datagrams), protocol=UDP)
    service = Sockets(tee)
    service.open(port_of(datagrams), protocol=UDP)
    for call in (
        lambda: service.recv(handle, 8, 0),
        lambda: service.send(handle, b"x"),
        lambda: service.ioctl(handle, TEE_UDP_CHANGEPORT, bytes(2)),
        lambda: service.close(handle),
    ):
        assert code_of(call) == TEE_ERROR_BAD_PARAMETERS


@pytest.mark.parametrize(
    ("server_name", "version", "protocol", "code"),
    [
        (b"127.0.0.1", 0, TCP, TEE_ISOCKET_ERROR_HOSTNAME),  # without its end
        (b"\0", 0, TCP, TEE_ISOCKET_ERROR_HOSTNAME),
        (b"\xff\xfe\0", 0, TCP, TEE_ISOCKET_ERROR_HOSTNAME),
        (b"a" * 5000 + b"\0", 0, TCP, TEE_ISOCKET_ERROR_HOSTNAME),
        (b"127.0.0.1\0", 3, TCP, TEE_ERROR_BAD_PARAMETERS),
        (b"127.0.0.1\0", 0, 0, TEE_ERROR_BAD_PARAMETERS),
        (b"127.0.0.1\0", 0, 0xFFFF_FFFF, TEE_ERROR_BAD_PARAMETERS),
    ],
)
def test_opens_that_are_none(
    tee: Tee, server_name: bytes, version: int, protocol: int, code: int
) -> None:
    assert code_of(lambda: Sockets(tee).open(1, server_name, protocol, version)) == code


def test_other_parameters(tee: Tee) -> None:
    session = Sockets(tee).session
    for command in (PTA_SOCKET_OPEN, PTA_SOCKET_CLOSE, PTA_SOCKET_RECV, PTA_SOCKET_IOCTL):
        assert code_of(lambda c=command: session.invoke(c)) == TEE_ERROR_BAD_PARAMETERS  # type: ignore[misc]
    for command in (0, 6, 0xFF):
        assert code_of(lambda c=command: session.invoke(c)) == TEE_ERROR_NOT_IMPLEMENTED  # type: ignore[misc]


def test_no_bytes(tee: Tee, datagrams: socket.socket) -> None:
    """OP-TEE cannot allocate memory for no bytes, and says so."""
    service = Sockets(tee)
    handle = service.open(port_of(datagrams), protocol=UDP)
    assert code_of(lambda: service.send(handle, b"")) == TEE_ERROR_OUT_OF_MEMORY
    assert code_of(lambda: service.ioctl(handle, 0, b"")) == TEE_ERROR_OUT_OF_MEMORY
    assert code_of(lambda: service.open(1, b"")) == TEE_ERROR_OUT_OF_MEMORY


def test_not_for_clients(tee: Tee) -> None:
    assert code_of(lambda: tee.open(PTA_SOCKET_UUID)) == TEE_ERROR_ACCESS_DENIED


# By a supplicant


class SocketSupplicant:
    """The normal world's side: answers requests about sockets as a test says."""

    def __init__(self, tee: Tee) -> None:
        self.client = Client(tee.devices[1])
        self.seen: list[tuple[int, int, bytes]] = []  # what, handle, and the memory's bytes
        self.results: dict[int, int] = {}  # by what
        self.handle = 5
        self.received = b"from afar"
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._closing:
            try:
                call = self.client.supp_recv()
                call.wait_end()
                if call.arg.error:
                    return
                func, number = call.arg.func, call.params[0][1]
                ret, answers = self._answer(func, call.params[1 : len(call.arg.params)])
                self.client.supp_send(ret, [(META_VALUE, number, 0, 0), *answers])
            except (OSError, KeyError):  # the context is gone, and all that it had
                if not self._closing:
                    raise

    def close(self) -> None:
        self._closing = True
        self.client.close()
        self._thread.join(PATIENCE)

    def _answer(self, func: int, params: list[Param]) -> tuple[int, list[Param]]:
        if func == OPTEE_RPC_CMD_SHM_ALLOC:
            attr, kind, size, _ = params[0]
            shm = self.client.shm_alloc(size)
            return 0, [(attr, kind, size, shm.id)]
        if func == OPTEE_RPC_CMD_SHM_FREE:
            self.client.ctx.shms[params[0][2]].put()
            return 0, params
        assert func == OPTEE_RPC_CMD_SOCKET
        _, what, _owner, handle = params[0]
        places = {OPTEE_RPC_SOCKET_OPEN: 2}
        data = b""
        answers = list(params)
        if what in (
            OPTEE_RPC_SOCKET_OPEN, OPTEE_RPC_SOCKET_SEND, OPTEE_RPC_SOCKET_RECV,
            OPTEE_RPC_SOCKET_IOCTL,
        ):  # fmt: skip
            place = places.get(what, 1)
            attr, offset, size, number = params[place]
            view = self.client.ctx.shms[number].view()
            data = bytes(view[:size])
            if what == OPTEE_RPC_SOCKET_RECV:
                view[: len(self.received)] = self.received
                answers[place] = attr, offset, len(self.received), number
        if what == OPTEE_RPC_SOCKET_OPEN:
            answers[3] = (params[3][0], self.handle, 0, 0)
        elif what == OPTEE_RPC_SOCKET_SEND:
            answers[2] = (params[2][0], params[2][1], len(data) - 1, 0)
        self.seen.append((what, handle, data))
        return self.results.get(what, 0), answers


def test_a_supplicant_serves(tee: Tee) -> None:
    supplicant = SocketSupplicant(tee)
    service = Sockets(tee)
    handle = service.open(80, b"anywhere.test\0")
    assert handle == 5
    assert service.send(handle, b"hello") == 4
    assert service.recv(handle, 64) == (b"from afar", 9)
    assert service.recv(handle, 9) == (b"from afar", 9)
    service.ioctl(handle, TEE_TCP_SET_SENDBUF, b"1234")
    service.close(handle)
    assert code_of(lambda: service.recv(handle, 8)) == TEE_ERROR_BAD_PARAMETERS
    service.open(80, b"anywhere.test\0")
    service.session.close()
    wait_until(lambda: supplicant.seen[-1][0] == OPTEE_RPC_SOCKET_CLOSE_ALL)
    assert supplicant.seen[:2] == [
        (OPTEE_RPC_SOCKET_OPEN, 0, b"anywhere.test\0"),
        (OPTEE_RPC_SOCKET_SEND, 5, b"hello"),
    ]
    assert not tee.warnings
    supplicant.close()


def test_what_a_supplicant_refuses(tee: Tee) -> None:
    supplicant = SocketSupplicant(tee)
    supplicant.results = {OPTEE_RPC_SOCKET_OPEN: TEE_ISOCKET_ERROR_HOSTNAME}
    service = Sockets(tee)
    assert code_of(lambda: service.open(80, b"x\0")) == TEE_ISOCKET_ERROR_HOSTNAME
    supplicant.results = {OPTEE_RPC_SOCKET_RECV: TEE_ISOCKET_ERROR_TIMEOUT}
    handle = service.open(80, b"x\0")
    assert code_of(lambda: service.recv(handle, 8)) == TEE_ISOCKET_ERROR_TIMEOUT
    supplicant.handle = 0x8000_0001  # as if it were one of gentee's
    assert code_of(lambda: service.open(80, b"x\0")) != TEE_SUCCESS
    supplicant.close()
    assert code_of(lambda: service.recv(handle, 8)) == TEE_ERROR_OUT_OF_MEMORY


def test_a_socket_is_served_by_who_opened_it(tee: Tee, server: socket.socket) -> None:
    service = Sockets(tee)
    mine = service.open(port_of(server))
    supplicant = SocketSupplicant(tee)
    theirs = service.open(80, b"x\0")
    peer, _ = server.accept()
    with peer:
        peer.sendall(b"from here")
        assert service.recv(mine, 64) == (b"from here", 9)
    assert service.recv(theirs, 64) == (b"from afar", 9)
    supplicant.close()


# An Arm TA, and the command line


@pytest.mark.parametrize("arch", ARCHES)
def test_an_arm_ta(host: ServiceHost, server: socket.socket, arch: str) -> None:
    folder = arm_tas.all_of(arch)
    tee = ArmTee(host, folder, arch, allow_net=["loopback"])
    caller = Caller(tee.open(arm_tas.uuid_of(arm_tas.MULTI)))
    pta = caller.must_open(PTA_SOCKET_UUID)
    name = bytearray(b"127.0.0.1\0")
    opened = caller.invoke(
        pta, PTA_SOCKET_OPEN, 0x2151, (0, port_of(server), 0, len(name), TCP, 0, 0, 0),
        (AT_ADDRESS, IN_PARAMETER), memory=name,
    )  # fmt: skip
    assert opened.result == TEE_SUCCESS
    handle = opened.vals[6]
    peer, _ = server.accept()
    with peer:
        data = bytearray(b"from Arm")
        sent = caller.invoke(
            pta, PTA_SOCKET_SEND, 0x251, (handle, BLOCKING, 0, len(data), 0, 0),
            (AT_ADDRESS, IN_PARAMETER), memory=data,
        )  # fmt: skip
        assert (sent.result, sent.vals[4]) == (TEE_SUCCESS, 8)
        assert peer.recv(100) == b"from Arm"
        peer.sendall(b"to Arm")
        got = caller.invoke(
            pta, PTA_SOCKET_RECV, 0x61, (handle, BLOCKING, 0, len(data)),
            (AT_ADDRESS, IN_PARAMETER), memory=data,
        )  # fmt: skip
        assert (got.result, got.vals[3]) == (TEE_SUCCESS, 6)
        assert data == b"to Armrm"
        caller.session.close()
        wait_until(lambda: has_ended(peer))
    tee.close()


CLIENT = """
import sys
from gentee.client import *
from gentee.errors import TeeError
with Context() as context, context.open_session(sys.argv[1]) as session:
    handle = Value(0, 0, OUTPUT)
    try:
        session.invoke(1, Value(0, int(sys.argv[2]), INPUT), TempRef(b"localhost\\0", INPUT),
                       Value(0x65, 0, INPUT), handle)
        session.invoke(3, Value(handle.a, 1000, INPUT), TempRef(b"hello", INPUT),
                       Value(0, 0, OUTPUT))
    except TeeError as error:
        sys.exit(hex(error.code))
"""


def test_the_option(gentee_run: GenteeRun, way: str, server: socket.socket) -> None:
    argv = [sys.executable, "-c", CLIENT, SERVICE, str(port_of(server))]
    options = ["--ephemeral", "--ta-dir", str(SERVICES)]
    finished = gentee_run(argv, options=[*options, "--allow-net", "loopback"], way=way)
    assert finished.returncode == 0, finished.stderr
    peer, _ = server.accept()
    with peer:
        assert peer.recv(5, socket.MSG_WAITALL) == b"hello"
    refused = gentee_run(argv, options=options, way=way)
    assert hex(TEE_ERROR_ACCESS_DENIED) in refused.stderr
    assert "--allow-net loopback" in refused.stderr


def test_an_option_that_says_nothing(gentee_run: GenteeRun) -> None:
    finished = gentee_run(["true"], options=["--allow-net", "everywhere"])
    assert finished.returncode == 2
    assert "neither loopback nor HOST:PORT" in finished.stderr
    assert "such as: --allow-net loopback" in finished.stderr


WAITING_CLIENT = """
import os, sys
from gentee.client import *
with Context() as context, context.open_session(sys.argv[1]) as session:
    handle = Value(0, 0, OUTPUT)
    session.invoke(1, Value(0, int(sys.argv[2]), INPUT), TempRef(b"localhost\\0", INPUT),
                   Value(0x65, 0, INPUT), handle)
    pid = b"%8d" % os.getpid()
    session.invoke(3, Value(handle.a, 1000, INPUT), TempRef(pid, INPUT), Value(0, 0, OUTPUT))
    session.invoke(4, Value(handle.a, 0xffffffff, INPUT), TempRef(bytearray(4), OUTPUT))
"""

# Stays until the test has seen enough.
STAYING = """
import socket, sys
socket.create_connection(("127.0.0.1", int(sys.argv[2]))).recv(1)
"""


def test_a_client_that_is_killed_while_its_service_waits(
    gentee_run: GenteeRun, server: socket.socket
) -> None:
    """A masked receive without a timeout would have no end: it ends with the client."""
    ended: list[bytes] = []

    def serve() -> None:
        waiting, _ = server.accept()
        with waiting:
            waiting.settimeout(PATIENCE)
            os.kill(int(waiting.recv(8, socket.MSG_WAITALL)), signal.SIGKILL)
            staying, _ = server.accept()
            with staying:
                ended.append(waiting.recv(1))

    commands = [
        shlex.join([sys.executable, "-c", program, SERVICE, str(port_of(server))])
        for program in (WAITING_CLIENT, STAYING)
    ]
    options = ["--ephemeral", "--ta-dir", str(SERVICES), "--allow-net", "loopback"]
    in_threads(serve, lambda: gentee_run(["sh", "-c", "; ".join(commands)], options=options))
    assert ended == [b""]
