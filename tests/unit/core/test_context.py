# SPDX-License-Identifier: BSD-2-Clause
"""gentee.core.context: opening, closing, and in which order a context comes apart."""

import errno
import os

import pytest

from gentee.core.calls import InvokeArg, OpenSessionArg
from gentee.core.context import TeeContext, TeeSession, teedev_close_context, teedev_open
from gentee.core.driver import PENDING, OpResult
from gentee.core.params import TeeParam
from tests.helpers import Client, MinimalOps, make_device, memref_in

UUID = bytes(range(16))


class RecordingOps(MinimalOps):
    """Writes down what it is asked for, in order. Calls wait until they are abandoned."""

    def __init__(self) -> None:
        self.said: list[tuple[str, object]] = []

    def open(self, ctx: TeeContext) -> None:
        self.said.append(("open", ctx))
        ctx.data = "mine"

    def close_context(self, ctx: TeeContext) -> None:
        self.said.append(("close_context", ctx))

    def release(self, ctx: TeeContext) -> None:
        self.said.append(("release", ctx))

    def open_session(
        self, ctx: TeeContext, arg: OpenSessionArg, params: list[TeeParam]
    ) -> OpResult:
        arg.priv = object()
        return None

    def close_session(self, ctx: TeeContext, session: TeeSession) -> None:
        self.said.append(("close_session", session.id))

    def invoke_func(self, ctx: TeeContext, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
        def cancelled() -> None:
            self.said.append(("cancelled", arg.session))
            arg.complete()

        arg.cancel = cancelled
        return PENDING


def test_open_and_close() -> None:
    ops = RecordingOps()
    device = make_device(ops)
    ctx = teedev_open(device)
    assert device.contexts == {ctx}
    assert (ctx.teedev, ctx.data, ctx.supp_nowait, ctx.releasing) == (device, "mine", False, False)
    teedev_close_context(ctx)
    teedev_close_context(ctx)  # the second time does nothing
    assert ops.said == [("open", ctx), ("close_context", ctx), ("release", ctx)]
    assert device.contexts == set()


def test_the_driver_refuses_to_open() -> None:
    class Refusing(RecordingOps):
        def open(self, ctx: TeeContext) -> None:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    ops = Refusing()
    device = make_device(ops)
    with pytest.raises(OSError) as caught:
        teedev_open(device)
    assert caught.value.errno == errno.EBUSY
    assert ops.said == []  # as in the kernel: what was not opened is not released
    assert device.contexts == set()
    device.registered(False)
    assert device.wait_no_users(0)


def test_most_contexts_at_once() -> None:
    device = make_device(max_contexts=2)
    first, second = teedev_open(device), teedev_open(device)
    with pytest.raises(OSError) as caught:
        teedev_open(device)
    assert caught.value.errno == errno.ENOMEM
    teedev_close_context(first)
    third = teedev_open(device)
    assert device.contexts == {second, third}


def test_a_context_comes_apart_in_order() -> None:
    ops = RecordingOps()
    client = Client(make_device(ops))
    one, two = client.open_session(UUID), client.open_session(UUID)
    shm = client.shm_alloc(1)
    call = client.invoke(two, 0, [memref_in(shm)])
    shm.put()  # the client closed its descriptor, the call holds the buffer
    assert set(client.ctx.shms) == {shm.id}
    client.close()
    assert ops.said[1:] == [
        ("cancelled", two),
        ("close_session", one),
        ("close_session", two),
        ("close_context", client.ctx),
        ("release", client.ctx),
    ]
    assert call.wait_done().arg.abandoned
    assert client.ctx.shms == {}
    assert client.ctx.pending == set()
    assert client.device.session_ids.alloc() == 1


def test_release_comes_even_if_close_context_fails() -> None:
    class Failing(RecordingOps):
        def close_context(self, ctx: TeeContext) -> None:
            raise OSError(errno.EIO, "bug")

    ops = Failing()
    device = make_device(ops)
    ctx = teedev_open(device)
    with pytest.raises(OSError):
        teedev_close_context(ctx)
    assert ops.said[-1] == ("release", ctx)
    device.registered(False)
    assert device.wait_no_users(0)


class NoCloseSessionOps(MinimalOps):
    def open_session(
        self, ctx: TeeContext, arg: OpenSessionArg, params: list[TeeParam]
    ) -> OpResult:
        return None


def test_a_driver_without_close_session_ends_sessions_in_release() -> None:
    client = Client(make_device(NoCloseSessionOps()))
    session = client.open_session(UUID)
    with pytest.raises(OSError) as caught:
        client.close_session(session)
    assert caught.value.errno == errno.EINVAL
    assert set(client.ctx.sessions) == {session}
    client.close()
    assert client.device.session_ids.alloc() == session


def test_nothing_begins_in_a_context_that_was_closed() -> None:
    # An ioctl can be on its way when another thread closes the last descriptor.
    client = Client(make_device(RecordingOps()))
    session = client.open_session(UUID)
    shm = client.shm_alloc(1)
    kept = client.ctx.sessions[session]
    client.close()
    client.ctx.sessions[session] = kept  # as if invoke() had just found it
    for call in (
        client.invoke(session, 0, [memref_in(shm)]),
        client.begin_open_session(UUID, [memref_in(shm)]),
    ):
        with pytest.raises(OSError) as caught:
            call.wait_done()
        assert caught.value.errno == errno.EBADF
    assert shm.refcount == 1
    assert client.ctx.pending == set()


def test_ids_of_another_context_are_unknown() -> None:
    device = make_device(RecordingOps())
    with Client(device) as one, Client(device) as other:
        session = one.open_session(UUID)
        shm = one.shm_alloc(1)
        with pytest.raises(OSError) as caught:
            other.ctx.shm_get_from_id(shm.id)
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(OSError) as caught:
            other.close_session(session)
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(OSError) as caught:
            other.invoke(session, 0).wait_done()
        assert caught.value.errno == errno.EINVAL
        # Ids are the device's: no two contexts ever mean different things by one number.
        assert other.open_session(UUID) != session
        assert other.shm_alloc(1).id != shm.id
