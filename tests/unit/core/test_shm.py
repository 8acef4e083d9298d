# SPDX-License-Identifier: BSD-2-Clause
"""gentee.core.shm: sizes, limits, references, and what is given back at the end."""

import errno
import mmap
import os

import pytest

from gentee.core.context import TeeContext
from gentee.core.driver import ENOTSUPP, ShmNeeds
from gentee.core.shm import (
    TEE_SHM_DMA_BUF,
    TEE_SHM_DYNAMIC,
    TEE_SHM_POOL,
    TEE_SHM_USER_MAPPED,
    TeeShm,
    TeeShmPool,
    rounded_size,
    tee_shm_alloc_user_buf,
    tee_shm_register,
)
from gentee.linux.shm import PAGE_SIZE, SIZE_SEALS, create_shm, memory_file_seals
from tests.helpers import Client, MinimalOps, OwnMemory, in_threads, make_device

USER = TEE_SHM_DYNAMIC | TEE_SHM_USER_MAPPED


class RegisterOps(MinimalOps):
    """Takes registered memory and remembers what was said about it."""

    def __init__(self) -> None:
        self.said: list[tuple[str, TeeShm]] = []
        self.refuse = 0

    def shm_register(self, ctx: TeeContext, shm: TeeShm) -> None:
        self.said.append(("register", shm))
        if self.refuse:
            raise OSError(self.refuse, os.strerror(self.refuse))

    def shm_unregister(self, ctx: TeeContext, shm: TeeShm) -> None:
        self.said.append(("unregister", shm))


def totals(client: Client) -> tuple[int, int, int]:
    return len(client.ctx.shms), client.ctx.shm_bytes, client.device.shm_bytes


@pytest.mark.parametrize(
    ("asked", "given"),
    [(1, PAGE_SIZE), (PAGE_SIZE, PAGE_SIZE), (PAGE_SIZE + 1, 2 * PAGE_SIZE), (1 << 30, 1 << 30)],
)
def test_sizes_are_whole_pages(asked: int, given: int) -> None:
    assert rounded_size(ShmNeeds(), asked) == given


def test_sizes_follow_the_drivers_needs() -> None:
    needs = ShmNeeds(smallest=3 * PAGE_SIZE, alignment=4 * PAGE_SIZE, largest=8 * PAGE_SIZE)
    assert rounded_size(needs, 1) == 4 * PAGE_SIZE
    assert rounded_size(needs, 4 * PAGE_SIZE + 1) == 8 * PAGE_SIZE
    fine = ShmNeeds(alignment=64)
    assert rounded_size(fine, 65) == PAGE_SIZE


@pytest.mark.parametrize("asked", [0, (1 << 30) + 1, 1 << 62, 2**64 - 1])
def test_impossible_sizes(asked: int) -> None:
    with Client(make_device()) as client:
        with pytest.raises(OSError) as caught:
            client.shm_alloc(asked)
        assert caught.value.errno == errno.ENOMEM
        assert totals(client) == (0, 0, 0)


def test_needs_that_contradict_themselves() -> None:
    for alignment in (0, 3, -4096):
        with pytest.raises(ValueError, match="power of two"):
            ShmNeeds(alignment=alignment)
    for smallest, largest in ((0, 1), (2, 1), (1, 1 << 40)):
        with pytest.raises(ValueError, match="smallest <= largest"):
            ShmNeeds(smallest=smallest, largest=largest)


def test_allocated_memory_is_real_and_sealed() -> None:
    with Client(make_device()) as client:
        shm = client.shm_alloc(5000, b"hello")
        assert shm.flags == TEE_SHM_DYNAMIC | TEE_SHM_POOL
        seals = memory_file_seals(shm.fd)
        assert seals is not None
        assert seals & SIZE_SEALS == SIZE_SEALS
        with mmap.mmap(shm.fd, shm.size) as pages:  # as a client would
            assert pages[:5] == b"hello"
            pages[5:7] = b" !"
        view = shm.view()
        assert (len(view), bytes(view[:7])) == (2 * PAGE_SIZE, b"hello !")
        shm.put()


def test_last_reference_releases() -> None:
    with Client(make_device()) as client:
        shm = client.shm_alloc(1)
        fd = shm.fd
        assert shm.get() is shm
        shm.put()
        assert client.ctx.shm_get_from_id(shm.id) is shm
        shm.put()
        assert totals(client) == (1, PAGE_SIZE, PAGE_SIZE)
        shm.put()
        assert totals(client) == (0, 0, 0)
        with pytest.raises(OSError) as caught:
            os.fstat(fd)
        assert caught.value.errno == errno.EBADF
        with pytest.raises(OSError) as caught:
            client.ctx.shm_get_from_id(shm.id)
        assert caught.value.errno == errno.EINVAL


def test_a_view_outlives_its_buffer() -> None:
    with Client(make_device()) as client:
        shm = client.shm_alloc(1, b"x")
        view = shm.view()
        shm.put()
        assert bytes(view[:1]) == b"x"


def test_ids_are_used_again() -> None:
    with Client(make_device()) as client:
        first, second = client.shm_alloc(1), client.shm_alloc(1)
        assert (first.id, second.id) == (1, 2)
        first.put()
        third = client.shm_alloc(1)
        assert third.id == 1
        second.put()
        third.put()


def test_total_of_a_context() -> None:
    needs = ShmNeeds(largest=2 * PAGE_SIZE, per_context=4 * PAGE_SIZE, per_device=6 * PAGE_SIZE)
    device = make_device(RegisterOps(), shm=needs)
    with Client(device) as client, Client(device) as other:
        with pytest.raises(OSError) as caught:
            client.shm_alloc(2 * PAGE_SIZE + 1)
        assert caught.value.errno == errno.ENOMEM
        shms = [client.shm_alloc(2 * PAGE_SIZE)]
        # Registered memory counts as well, by its bytes.
        shms.append(client.shm_register(OwnMemory(bytes(PAGE_SIZE)), PAGE_SIZE))
        with pytest.raises(OSError) as caught:
            client.shm_alloc(PAGE_SIZE + 1)
        assert caught.value.errno == errno.ENOMEM
        shms.append(client.shm_alloc(PAGE_SIZE))
        with pytest.raises(OSError) as caught:
            client.shm_register(OwnMemory(b"x"), 1)
        assert caught.value.errno == errno.ENOMEM
        # And the device's total, for all contexts.
        shms.append(other.shm_alloc(2 * PAGE_SIZE))
        with pytest.raises(OSError) as caught:
            other.shm_alloc(1)
        assert caught.value.errno == errno.ENOMEM
        shms.pop(0).put()
        shms.append(other.shm_alloc(1))
        for shm in shms:
            shm.put()
        assert totals(client) == totals(other) == (0, 0, 0)


def test_many_threads_share_the_totals() -> None:
    with Client(make_device(shm=ShmNeeds(largest=4096, per_context=64 * 4096))) as client:

        def use() -> None:
            for _ in range(50):
                client.shm_alloc(1).put()

        in_threads(*[use] * 8)
        assert totals(client) == (0, 0, 0)
        assert client.device.shm_ids.alloc() <= 8


class OwnPool(TeeShmPool):
    """Gives 16 pages whatever is asked."""

    def __init__(self) -> None:
        self.freed: list[TeeShm] = []
        self.fail = False

    def alloc(self, shm: TeeShm, size: int, align: int) -> None:
        shm.size = 16 * PAGE_SIZE
        if self.fail:
            raise OSError(errno.ENOMEM, "the pool is empty")
        shm.fd = create_shm(shm.size)

    def free(self, shm: TeeShm) -> None:
        self.freed.append(shm)


def test_a_pool_of_the_drivers_own() -> None:
    pool = OwnPool()
    with Client(make_device(pool=pool)) as client:
        shm = client.shm_alloc(1)
        assert len(shm.view()) == shm.size == 16 * PAGE_SIZE
        # What it gave counts, not what was asked; and just as much is given back.
        assert totals(client) == (1, 16 * PAGE_SIZE, 16 * PAGE_SIZE)
        shm.put()
        assert pool.freed == [shm]
        assert totals(client) == (0, 0, 0)


def test_a_pool_that_has_no_more() -> None:
    pool = OwnPool()
    pool.fail = True
    with Client(make_device(pool=pool)) as client:
        with pytest.raises(OSError) as caught:
            client.shm_alloc(1)
        assert caught.value.errno == errno.ENOMEM
        assert totals(client) == (0, 0, 0)
        assert pool.freed == []
        assert client.device.shm_ids.alloc() == 1


def test_registered_memory() -> None:
    ops = RegisterOps()
    memory = OwnMemory(b"client")
    with Client(make_device(ops)) as client:
        shm = client.shm_register(memory, 6)
        assert ops.said == [("register", shm)]
        assert (shm.size, shm.fd, shm.flags) == (6, -1, USER)  # not rounded
        assert shm.backing is memory
        with pytest.raises(OSError) as caught:
            shm.view()
        assert caught.value.errno == errno.EINVAL
        shm.put()
        assert ops.said[1:] == [("unregister", shm)]
        assert memory.closed == 1
        assert totals(client) == (0, 0, 0)


def test_registered_file_is_mapped() -> None:
    with Client(make_device(RegisterOps())) as client:
        fd = create_shm(100)
        flags = TEE_SHM_DYNAMIC | TEE_SHM_DMA_BUF
        shm = tee_shm_register(client.ctx, 100, flags, fd=fd)
        os.pwrite(fd, b"file", 96)
        assert bytes(shm.view()[-4:]) == b"file"
        shm.put()
        with pytest.raises(OSError) as caught:
            os.fstat(fd)
        assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize("size", [0, (1 << 30) + 1, 2**64 - 1])
def test_impossible_registrations(size: int) -> None:
    ops, memory = RegisterOps(), OwnMemory(b"")
    with Client(make_device(ops)) as client:
        with pytest.raises(OSError) as caught:
            client.shm_register(memory, size)
        assert caught.value.errno == errno.ENOMEM
        assert totals(client) == (0, 0, 0)
    assert ops.said == []
    assert memory.closed == 0


def test_the_driver_refuses_a_registration() -> None:
    ops, memory = RegisterOps(), OwnMemory(b"x")
    ops.refuse = errno.EPERM
    with Client(make_device(ops)) as client:
        with pytest.raises(OSError) as caught:
            client.shm_register(memory, 1)
        assert caught.value.errno == errno.EPERM
        assert totals(client) == (0, 0, 0)
    assert [what for what, _ in ops.said] == ["register"]
    assert memory.closed == 0  # still the caller's


class RegisterOnlyOps(MinimalOps):
    def shm_register(self, ctx: TeeContext, shm: TeeShm) -> None:
        raise AssertionError("half of the pair is none")


@pytest.mark.parametrize("ops", [MinimalOps(), RegisterOnlyOps()])
def test_registering_needs_both_operations(ops: MinimalOps) -> None:
    with Client(make_device(ops)) as client:
        with pytest.raises(OSError) as caught:
            client.shm_register(OwnMemory(b"x"), 1)
        assert caught.value.errno == ENOTSUPP


def test_a_driver_that_wants_no_registered_memory() -> None:
    ops = RegisterOps()
    with Client(make_device(ops, shm=ShmNeeds(registered=False))) as client:
        with pytest.raises(OSError) as caught:
            client.shm_register(OwnMemory(b"x"), 1)
        assert caught.value.errno == ENOTSUPP
        client.shm_alloc(1).put()
    assert ops.said == []


def test_memory_outlives_its_context() -> None:
    ops, memory = RegisterOps(), OwnMemory(b"x")
    device = make_device(ops)
    client = Client(device)
    allocated = tee_shm_alloc_user_buf(client.ctx, 1)
    registered = client.shm_register(memory, 1)
    client.close()
    allocated.view()[0] = 1
    assert ops.said == [("register", registered)]
    allocated.put()
    registered.put()
    assert ops.said[1:] == [("unregister", registered)]
    assert totals(client) == (0, 0, 0)
