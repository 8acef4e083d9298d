# SPDX-License-Identifier: BSD-2-Clause
"""The driver contract, shared memory: real pages, limits, references, and what clients register.

What Linux shares by pinning pages is copied here, and must look the same to both sides: DESIGN
"Registered memory".
"""

import errno
import fcntl
import os
from collections.abc import Iterator

import pytest

from gentee.abi import gp
from gentee.abi import linux_tee as tee
from gentee.core.driver import ENOTSUPP
from gentee.core.shm import (
    TEE_SHM_DMA_BUF,
    TEE_SHM_DYNAMIC,
    Backing,
    TeeShm,
    tee_shm_register,
)
from gentee.drivers.loopback.call import COPY, FILL, RELEASE, RETURN, WAIT
from gentee.linux.shm import create_shm
from tests.contract.drivers import SUCCESS, TRUSTED_APP, DriverUnderTest, fails
from tests.helpers import (
    Client,
    OwnMemory,
    memref_in,
    memref_inout,
    memref_out,
    value_in,
)

# Shared memory


def test_shared_pages_both_ways(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(COPY)
    with Client(tee_driver.device) as client:
        session = client.open_session(tee_driver.uuid)
        source = client.shm_alloc(8192, b"0123456789")
        target = client.shm_alloc(1, b"." * 16)
        call = client.invoke(session, COPY, [memref_in(source, 2, 5), memref_out(target, 3, 9)])
        assert call.result == SUCCESS
        assert bytes(target.view()[:16]) == b"...23456........"
        assert call.params == [memref_in(source, 2, 5), memref_out(target, 3, 5)]
        # Within one buffer, over itself, and to its very end.
        call = client.invoke(session, COPY, [memref_in(source, 0, 6), memref_inout(source, 2, 6)])
        assert call.result == SUCCESS
        assert bytes(source.view()[:10]) == b"0101234589"
        call = client.invoke(session, COPY, [memref_in(source, 0, 4), memref_out(source, 8188)])
        assert call.result == SUCCESS
        assert bytes(source.view()[-4:]) == b"0101"
        source.put()
        target.put()


def test_sizes_go_back_unclamped(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(COPY)
    with Client(tee_driver.device) as client:
        session = client.open_session(tee_driver.uuid)
        source, target = client.shm_alloc(3 * 4096), client.shm_alloc(1, b"kept")
        params = [memref_in(source), memref_out(target, 0, 4), memref_inout(target, 4096)]
        call = client.invoke(session, COPY, params)
        assert call.result == (gp.TEE_ERROR_SHORT_BUFFER, TRUSTED_APP)
        # More than the buffer has: that is the size to come back with.
        assert [param[2] for param in call.params] == [3 * 4096] * 3
        assert bytes(target.view()[:4]) == b"kept"
        source.put()
        target.put()


def test_null_memrefs(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(COPY)
    with Client(tee_driver.device) as client:
        session = client.open_session(tee_driver.uuid)
        source = client.shm_alloc(1)
        params = [memref_in(source, 0, 100), memref_out(None)]
        if not tee_driver.device.version[2] & tee.TEE_GEN_CAP_MEMREF_NULL:
            fails(errno.EINVAL, lambda: client.invoke(session, COPY, params))
        else:
            call = client.invoke(session, COPY, params)
            assert call.result == (gp.TEE_ERROR_SHORT_BUFFER, TRUSTED_APP)
            assert call.params[1] == memref_out(None, 0, 100)
            call = client.invoke(session, COPY, [memref_in(None), memref_out(source)])
            assert call.result == SUCCESS
            assert call.params[1][2] == 0
        source.put()


def test_the_drivers_limits_hold(tee_driver: DriverUnderTest) -> None:
    needs = tee_driver.device.desc.shm
    clients = [Client(tee_driver.device)]
    shms: list[TeeShm] = []
    fails(errno.ENOMEM, lambda: clients[0].shm_alloc(0))
    fails(errno.ENOMEM, lambda: clients[0].shm_alloc(needs.largest + 1))
    # memfds take no memory before they are written.
    while needs.per_device - tee_driver.device.shm_bytes >= needs.largest:
        client = clients[-1]
        if needs.per_context - client.ctx.shm_bytes < needs.largest:
            fails(errno.ENOMEM, lambda: client.shm_alloc(needs.largest))  # noqa: B023
            clients.append(Client(tee_driver.device))
            continue
        shms.append(client.shm_alloc(needs.largest))
        assert shms[-1].size == needs.largest
    fails(errno.ENOMEM, lambda: clients[-1].shm_alloc(needs.largest))
    assert len({shm.id for shm in shms}) == len(shms)
    for shm in shms:
        shm.put()
    small = clients[0].shm_alloc(1)
    assert small.size >= needs.smallest
    assert small.size % needs.alignment == small.size % 4096 == 0
    small.put()
    for client in clients:
        client.close()


def test_a_buffer_lives_until_its_calls_end(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(WAIT, RELEASE)
    with Client(tee_driver.device) as client:
        session = client.open_session(tee_driver.uuid)
        shm = client.shm_alloc(1)
        call = client.invoke(session, WAIT, [memref_in(shm), memref_out(shm)])
        shm.put()  # the client closes and unmaps it
        assert client.ctx.shms == {shm.id: shm}
        assert shm.fd >= 0
        assert client.invoke(session, RELEASE).result == SUCCESS
        assert call.result == SUCCESS
        assert client.ctx.shms == {}
        assert shm.fd < 0


def test_fill(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(FILL)
    with Client(tee_driver.device) as client:
        session = client.open_session(tee_driver.uuid)
        shm = client.shm_alloc(1, b"." * 8)
        params = [
            value_in(0x78),
            memref_out(shm, 2, 3),
            memref_in(shm, 5, 2),
            memref_inout(shm, 7, 1),
        ]
        assert client.invoke(session, FILL, params).result == SUCCESS
        assert bytes(shm.view()[:8]) == b"..xxx..x"
        shm.put()


# Memory that clients register


@pytest.fixture
def client(tee_driver: DriverUnderTest) -> Iterator[Client]:
    with Client(tee_driver.device) as client:
        yield client


@pytest.fixture
def session(tee_driver: DriverUnderTest, client: Client) -> int:
    if not client.device.desc.shm.registered:
        pytest.skip("the driver takes no registered memory")
    tee_driver.need(COPY, FILL)
    return client.open_session(tee_driver.uuid)


class File(Backing):
    """A file that is not sealed."""

    def __init__(self, size: int) -> None:
        self.fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)

    def copy_in(self, offset: int, view: memoryview) -> None:
        if os.preadv(self.fd, [view], offset) != len(view):
            raise OSError(errno.EFAULT, "truncated")

    def copy_out(self, offset: int, view: memoryview) -> None:
        os.pwritev(self.fd, [view], offset)

    def close(self) -> None:
        os.close(self.fd)


def test_registering_or_not(tee_driver: DriverUnderTest) -> None:
    for device in tee_driver.devices:
        with Client(device) as client:
            memory = OwnMemory(b"client")
            if device.desc.shm.registered and "shm_register" in device.operations:
                shm = client.shm_register(memory, 6)
                assert (shm.size, shm.refcount) == (6, 1)
                shm.put()
                assert memory.closed == 1
                fails(errno.ENOMEM, lambda: client.shm_register(memory, 0))  # noqa: B023
            else:
                fails(ENOTSUPP, lambda: client.shm_register(memory, 6))  # noqa: B023


def test_registered_memory_both_ways(client: Client, session: int) -> None:
    source, target = OwnMemory(b"0123456789"), OwnMemory(b"." * 5000)
    shm_in, shm_out = client.shm_register(source, 10), client.shm_register(target, 5000)
    call = client.invoke(session, COPY, [memref_in(shm_in, 1, 8), memref_out(shm_out, 4992, 8)])
    assert call.result == SUCCESS
    assert target.data == b"." * 4992 + b"12345678"
    assert source.data == b"0123456789"
    shm_in.put()
    shm_out.put()


def test_what_the_service_left_alone_is_kept(client: Client, session: int) -> None:
    target = OwnMemory(b"abcdefgh")
    shm = client.shm_register(target, 8)
    source = client.shm_alloc(1, b"XY")
    call = client.invoke(session, COPY, [memref_in(source, 0, 2), memref_out(shm, 1, 6)])
    assert call.result == SUCCESS
    assert call.params[1] == memref_out(shm, 1, 2)
    # Beyond the size that came back: the client's own bytes, not zeroes.
    assert target.data == b"aXYdefgh"
    source.put()
    shm.put()


def test_registered_memory_and_errors(
    tee_driver: DriverUnderTest, client: Client, session: int
) -> None:
    tee_driver.need(RETURN)
    target = OwnMemory(b"abcd")
    shm = client.shm_register(target, 4)
    source = client.shm_alloc(1)
    call = client.invoke(session, COPY, [memref_in(source, 0, 99), memref_out(shm)])
    assert call.result == (gp.TEE_ERROR_SHORT_BUFFER, TRUSTED_APP)
    assert call.params[1][2] == 99
    assert target.data == b"abcd"
    # One output is too small, the other is not: what was written is there for the client.
    params = [memref_in(source, 0, 3), memref_out(shm, 0, 3), memref_out(source, 8, 2)]
    assert client.invoke(session, COPY, params).result[0] == gp.TEE_ERROR_SHORT_BUFFER
    assert target.data == b"\0\0\0d"
    source.put()
    shm.put()


def test_two_references_to_the_same_bytes(client: Client, session: int) -> None:
    memory = OwnMemory(b"abcdefgh")
    one = client.shm_register(memory, 8)
    # Another registration, of the middle of the same memory.
    other = client.shm_register(OwnMemoryPart(memory, 2), 4)
    params = [value_in(0x2A), memref_out(one, 1, 3), memref_inout(other, 1, 2)]
    assert client.invoke(session, FILL, params).result == SUCCESS
    assert memory.data == b"a****fgh"
    # Whichever is written back last must not undo the other.
    params = [memref_in(one, 5, 2), memref_out(other, 0, 4), memref_out(one, 0, 4)]
    assert client.invoke(session, COPY, params).result == SUCCESS
    assert memory.data == b"fgfg*fgh"
    params = [value_in(0x2B), memref_in(one, 2, 2), memref_out(one, 0, 8)]
    assert client.invoke(session, FILL, params).result == SUCCESS
    assert memory.data == b"++++++++"
    # One that contains two others, which do not touch one another.
    source = client.shm_alloc(1, b"XY")
    params = [
        memref_in(source, 0, 2),
        memref_out(one, 2, 2),
        memref_out(other, 3, 1),
        memref_out(one, 0, 8),
    ]
    assert client.invoke(session, COPY, params).result[0] == gp.TEE_ERROR_SHORT_BUFFER
    assert memory.data == b"XYXY++++"
    source.put()
    one.put()
    other.put()


class InputOnly(OwnMemory):
    """Memory that nobody may write to."""

    def copy_out(self, offset: int, view: memoryview) -> None:
        raise OSError(errno.EFAULT, "read-only")


def test_nothing_is_written_to_inputs(client: Client, session: int) -> None:
    shm = client.shm_register(InputOnly(b"ab"), 2)
    target = client.shm_alloc(1)
    call = client.invoke(session, COPY, [memref_in(shm), memref_out(target)])
    assert call.result == SUCCESS
    fails(
        errno.EFAULT,
        client.invoke(session, COPY, [memref_in(target, 0, 2), memref_out(shm)]).wait_done,
    )
    shm.put()
    target.put()


class OwnMemoryPart(OwnMemory):
    """Memory that another object has, from an offset on."""

    def __init__(self, whole: OwnMemory, offset: int) -> None:
        super().__init__(b"", whole.address + offset)


def test_memory_that_went_away(client: Client, session: int) -> None:
    nowhere = OwnMemory(b"", address=0x1000)  # below mmap_min_addr: nothing is ever there
    shm = client.shm_register(nowhere, 4)
    source = client.shm_alloc(1)
    for params in (
        [memref_in(shm), memref_out(source)],
        [memref_in(source, 0, 1), memref_out(shm)],
    ):
        fails(errno.EFAULT, client.invoke(session, COPY, params).wait_done)
    assert (shm.refcount, source.refcount) == (1, 1)
    # Nothing is read of a reference without bytes.
    call = client.invoke(session, COPY, [memref_in(shm, 4, 0), memref_out(source)])
    assert call.result == SUCCESS
    source.put()
    shm.put()


@pytest.mark.parametrize("size", [100, 4096, 5000])
def test_a_file_that_cannot_change(client: Client, session: int, size: int) -> None:
    fd = create_shm(size)
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
    os.pwrite(fd, b"end", size - 3)
    shm = tee_shm_register(client.ctx, size, TEE_SHM_DYNAMIC | TEE_SHM_DMA_BUF, fd=fd)
    call = client.invoke(session, COPY, [memref_in(shm, size - 3), memref_out(shm, 1, 3)])
    assert call.result == SUCCESS
    assert os.pread(fd, 5, 0) == b"\0end\0"
    shm.put()


def test_a_file_that_can_change(client: Client, session: int) -> None:
    file = File(5000)
    os.pwrite(file.fd, b"end", 4997)
    flags = TEE_SHM_DYNAMIC | TEE_SHM_DMA_BUF
    shm = tee_shm_register(client.ctx, 5000, flags, backing=file)
    call = client.invoke(session, COPY, [memref_in(shm, 4997), memref_out(shm, 1, 3)])
    assert call.result == SUCCESS
    assert os.pread(file.fd, 5, 0) == b"\0end\0"
    os.ftruncate(file.fd, 10)
    fails(errno.EFAULT, client.invoke(session, COPY, [memref_in(shm)]).wait_done)
    assert os.fstat(file.fd).st_size == 10
    shm.put()


def test_registered_memory_outlives_its_context(
    tee_driver: DriverUnderTest, client: Client, session: int
) -> None:
    memory = OwnMemory(b"x")
    shm = client.shm_register(memory, 1)
    client.close()
    assert memory.closed == 0
    shm.put()
    assert memory.closed == 1
