# SPDX-License-Identifier: BSD-2-Clause
"""gentee.secure.normal_world.sockets: what costs an operation its wait, and names without end."""

import errno
import socket
import threading
from collections.abc import Iterator

import pytest

from gentee.abi.gp_socket import (
    TEE_IP_VERSION_DC,
    TEE_ISOCKET_ERROR_HOSTNAME,
    TEE_ISOCKET_ERROR_OUT_OF_RESOURCES,
    TEE_ISOCKET_PROTOCOLID_TCP,
)
from gentee.abi.optee_pta import PTA_SOCKET_TIMEOUT_BLOCKING
from gentee.core.workers import Workers
from gentee.errors import TeeError
from gentee.secure.normal_world import sockets as module
from gentee.secure.normal_world.sockets import LocalSocket, Sockets
from gentee.secure.pta.pseudo_ta import Later
from tests.helpers import PATIENCE, LocalHost, wait_until

BLOCKING = PTA_SOCKET_TIMEOUT_BLOCKING


@pytest.fixture
def host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


def result_of(later: Later) -> int:
    """The code of what comes; 0 for success."""
    done = threading.Event()
    errors: list[TeeError | None] = []

    def then(error: TeeError | None) -> None:
        errors.append(error)
        done.set()

    later.when_done(then)
    assert done.wait(PATIENCE)
    return errors[0].code if errors[0] is not None else 0


@pytest.mark.parametrize("timeout", [BLOCKING, 60_000])
def test_no_descriptor_can_be_watched(
    host: LocalHost, monkeypatch: pytest.MonkeyPatch, timeout: int
) -> None:
    """The user's other processes may have all of what epoll gives (max_user_watches)."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    sock = LocalSocket(Sockets(host, []), "service", ours, "127.0.0.1")
    sizes: list[int] = []
    buffer = memoryview(bytearray(8))

    def add(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    with theirs:
        with monkeypatch.context() as patch:
            patch.setattr(host.events, "add", add)
            later = sock.recv(buffer, timeout, sizes.append)
            assert result_of(later) == TEE_ISOCKET_ERROR_OUT_OF_RESOURCES
        theirs.send(b"later")  # and it is not busy with what has failed
        assert result_of(sock.recv(buffer, timeout, sizes.append)) == 0
        assert (sizes, bytes(buffer[:5])) == ([5], b"later")
        sock.close()


def test_names_that_nobody_waits_for(host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up that does not end is cancelled by who asks, again and again."""
    go_on = threading.Event()

    def getaddrinfo(*_arguments: object) -> list[object]:
        assert go_on.wait(PATIENCE)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(module, "_RESOLVERS", resolvers := Workers(2))
    sockets = Sockets(host, ["slow.test:1"])

    def begin() -> Later:
        return sockets.open(
            "service", TEE_IP_VERSION_DC, b"slow.test\0", 1, TEE_ISOCKET_PROTOCOLID_TCP,
            lambda sock: pytest.fail("there is none"),
        )  # fmt: skip

    most = module._MAX_LOOKING
    for _ in range(most):
        later = begin()
        assert not later.is_done
        assert later.cancel is not None
        later.cancel()
    assert result_of(begin()) == TEE_ISOCKET_ERROR_HOSTNAME
    assert resolvers._unfinished == most
    go_on.set()
    wait_until(lambda: sockets._looking == 0)
    assert result_of(begin()) == TEE_ISOCKET_ERROR_HOSTNAME
    assert sockets._count == 0
