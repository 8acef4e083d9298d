# SPDX-License-Identifier: BSD-2-Clause
"""Shared memory (tee_shm.c): allocated by the TEE, registered by the client, or brought as a file.

``TeeShm`` counts references as the kernel does: one for the client's descriptor, one for each call
that uses it. A client can give memory back before it closes the descriptor (:func:`free`). What its
bytes are depends on the kind:

- allocated, or a sealed memfd: real shared pages. ``fd`` can be mapped by who serves the call;
- registered client memory, or a file that is not sealed: ``fd`` is -1, and whoever serves a call
  copies with ``copy_in`` before and ``copy_out`` after.
"""

import errno
import mmap
import os
from abc import ABC, abstractmethod

from gentee.core.driver import ENOTSUPP, ShmNeeds
from gentee.linux.shm import create_shm, page_align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.context import TeeContext

# Kinds and properties, names of tee_core.h.
TEE_SHM_DYNAMIC = 1 << 0
TEE_SHM_USER_MAPPED = 1 << 1
TEE_SHM_POOL = 1 << 2
TEE_SHM_PRIV = 1 << 3
TEE_SHM_DMA_BUF = 1 << 4

# Of our own: memory that is mapped (TEE_IOC_MEM_MAP), and what the TEE may not do with it.
TEE_SHM_MAPPING = 1 << 16
TEE_SHM_NO_READ = 1 << 17
TEE_SHM_NO_WRITE = 1 << 18
TEE_SHM_LIMITED = TEE_SHM_NO_READ | TEE_SHM_NO_WRITE

# Whose the bytes are, where they are no client's: of a secure data path (gentee.device.heap), or a
# service's that passes them on. What has neither is the normal world's.
TEE_SHM_PROTECTED = 1 << 19
TEE_SHM_SECURE = 1 << 20
TEE_SHM_NOT_NORMAL = TEE_SHM_PROTECTED | TEE_SHM_SECURE


class Backing(ABC):
    """Bytes that are not ours to map: memory of a client, or a file that may change its size."""

    @abstractmethod
    def copy_in(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``; OSError EFAULT where the bytes are not there."""

    @abstractmethod
    def copy_out(self, offset: int, view: memoryview) -> None:
        """Write ``view`` to ``offset``; OSError EFAULT where that is not possible."""

    def identity(self) -> tuple[object, int]:
        """(address space or file, start in it): by it, overlapping buffers are recognised."""
        return (self, 0)

    def close(self) -> None:
        """The buffer ended."""


class TeeShm:
    """A shared memory object (struct tee_shm). ``size`` is in bytes, ``id`` at least 1."""

    __slots__ = (
        "_map", "backing", "ctx", "fd", "flags", "freed", "id", "owned", "pool", "priv",
        "refcount", "size",
    )  # fmt: skip

    def __init__(self, ctx: "TeeContext", size: int, flags: int) -> None:
        self.ctx = ctx
        self.size = size
        self.flags = flags
        self.id = -1
        self.refcount = 1  # protected by the device's mutex, as are the next two
        self.owned = False  # the client has it, and its reference is among them
        self.freed = False  # the client freed it, no further call will use it
        self.fd = -1
        self.backing: Backing | None = None
        self.pool: TeeShmPool | None = None
        self.priv: object = None  # the specific driver's own
        self._map: mmap.mmap | None = None

    def get(self) -> "TeeShm":
        """Take a reference."""
        with self.ctx.teedev.mutex:
            self.refcount += 1
        return self

    def put(self) -> None:
        """Drop a reference; the last one releases the memory."""
        ctx = self.ctx
        with ctx.teedev.mutex:
            self.refcount -= 1
            if self.refcount:
                # Of freed pages the last reference is the client's, for as long as it maps them.
                if not self.freed or self.refcount > 1 or not self.owned or self.pool is None:
                    return
                end = self._withdraw
            else:
                ctx.forget_shm(self)
                end = self._release
        end()

    def put_owner(self) -> None:
        """Drop the client's reference. Twice is once."""
        with self.ctx.teedev.mutex:
            owned, self.owned = self.owned, False
        if owned:
            self.put()

    @property
    def is_mapping(self) -> bool:
        """Whether it came by TEE_IOC_MEM_MAP."""
        return bool(self.flags & TEE_SHM_MAPPING)

    def _withdraw(self) -> None:
        """Freed pages that no call uses any more, while the client still has them."""
        assert self.pool is not None
        self.pool.withdraw(self)

    def view(self) -> memoryview:
        """The bytes, for code inside this program. Only of real shared pages."""
        if self._map is None:
            if self.fd < 0:  # mmap() would take it for anonymous memory
                raise OSError(errno.EINVAL, "no shared pages")
            self._map = mmap.mmap(self.fd, self.size)
        return memoryview(self._map)[: self.size]

    def _release(self) -> None:
        ctx = self.ctx
        try:
            if self.flags & TEE_SHM_POOL:
                assert self.pool is not None
                self.pool.free(self)
            else:
                ctx.teedev.ops.shm_unregister(ctx, self)
        finally:
            if self._map is not None:
                try:
                    self._map.close()
                except BufferError:  # a view is still in use: it goes with its last user
                    pass
                self._map = None
            if self.backing is not None:
                self.backing.close()
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1


class TeeShmPool:
    """Allocates shared memory for a device (struct tee_shm_pool_ops). The default: memfds.

    A driver with special needs passes its own to :class:`~gentee.core.driver.TeeDesc`.
    """

    def alloc(self, shm: TeeShm, size: int, align: int) -> None:
        """Give ``shm`` its pages: set ``fd`` and ``size``. OSError ENOMEM when there are none."""
        shm.fd = create_shm(size)
        shm.size = size

    def withdraw(self, shm: TeeShm) -> None:
        """The client freed ``shm`` and may still have it mapped: let go, no call will use it.

        :meth:`free` follows when the client's mapping ends.
        """

    def free(self, shm: TeeShm) -> None:
        """``shm`` ends; its descriptor is closed afterwards."""


def rounded_size(needs: ShmNeeds, size: int) -> int:
    """The size that a request for ``size`` bytes gets, or ENOMEM."""
    if size == 0:
        raise OSError(errno.ENOMEM, "no bytes asked")
    size = page_align(max(size, needs.smallest))
    size = (size + needs.alignment - 1) & -needs.alignment
    if size > needs.largest:
        raise OSError(errno.ENOMEM, f"more than {needs.largest} bytes")
    return size


def tee_shm_alloc_user_buf(ctx: "TeeContext", size: int) -> TeeShm:
    """Allocate shared memory for a client (TEE_IOC_SHM_ALLOC).

    :param size: bytes, at least 1; ``shm.size`` is rounded up to pages and the driver's needs.
    :raises OSError: ENOMEM beyond the driver's limits.
    """
    desc = ctx.teedev.desc
    size = rounded_size(desc.shm, size)
    shm = TeeShm(ctx, size, TEE_SHM_DYNAMIC | TEE_SHM_POOL)
    shm.pool = ctx.teedev.pool
    ctx.remember_shm(shm)
    try:
        shm.pool.alloc(shm, size, desc.shm.alignment)
    except BaseException:
        shm.size = size
        with ctx.teedev.mutex:
            ctx.forget_shm(shm)
        raise
    if shm.size != size:
        # A pool may give more than was asked: what is given back later counts as much.
        with ctx.teedev.mutex:
            ctx.shm_bytes += shm.size - size
            ctx.teedev.shm_bytes += shm.size - size
    shm.owned = True
    return shm


def tee_shm_register(
    ctx: "TeeContext", size: int, flags: int, *, backing: Backing | None = None, fd: int = -1
) -> TeeShm:
    """Register memory that the client brings: ``backing`` to copy, or ``fd`` to map.

    :raises OSError: ENOTSUPP where the driver takes none, ENOMEM for no bytes or over a limit. The
        caller then still owns ``backing`` and ``fd``.
    """
    teedev = ctx.teedev
    needs = teedev.desc.shm
    if not needs.registered or not {"shm_register", "shm_unregister"} <= teedev.operations:
        raise OSError(ENOTSUPP, "shm_register")
    if size == 0 or size > needs.largest:
        raise OSError(errno.ENOMEM, "size of registered memory")
    shm = TeeShm(ctx, size, flags)
    shm.backing, shm.fd = backing, fd
    ctx.remember_shm(shm)
    try:
        teedev.ops.shm_register(ctx, shm)
    except BaseException:
        with teedev.mutex:
            ctx.forget_shm(shm)
        raise
    shm.owned = True
    return shm


def tee_shm_free_user(ctx: "TeeContext", shm_id: int) -> None:
    """Free shared memory before its descriptor is closed (TEE_IOC_SHM_FREE).

    No further call finds it. What the client registered ends with the last call that uses it. Pages
    that were allocated are the client's, and counted, until it has neither a descriptor nor a
    mapping of them; the TEE lets go of them (``TeeShmPool.withdraw``) after that last call.

    :raises OSError: EINVAL for an id that is not this context's, or that of a mapping.
    """
    with ctx.teedev.mutex:
        shm = ctx.shms.get(shm_id)
        if shm is None or shm.is_mapping or not shm.owned:
            raise OSError(errno.EINVAL, "shm id")
        ctx.forget_shm_id(shm)
        shm.freed = True
        withdraw = shm.pool is not None and shm.refcount == 1
    if shm.pool is None:
        shm.put_owner()
    elif withdraw:
        shm._withdraw()


def tee_shm_map(ctx: "TeeContext", size: int, flags: int, backing: Backing) -> TeeShm:
    """Map memory of the client (TEE_IOC_MEM_MAP), until :func:`tee_shm_unmap` or the context ends.

    :param flags: TEE_SHM_NO_READ or TEE_SHM_NO_WRITE, for what the TEE may not do.
    :param backing: closed at the end of the mapping, and where this fails.
    :raises OSError: as :func:`tee_shm_register`; EBADF when the context ends meanwhile.
    """
    flags |= TEE_SHM_DYNAMIC | TEE_SHM_MAPPING
    try:
        shm = tee_shm_register(ctx, size, flags, backing=backing)
    except BaseException:
        backing.close()
        raise
    if ctx.releasing:
        # Whoever closes the context may have gone through its mappings before this was one.
        shm.put_owner()
        raise OSError(errno.EBADF, "the context is closed")
    return shm


def tee_shm_unmap(ctx: "TeeContext", shm_id: int) -> None:
    """End a mapping (TEE_IOC_MEM_UNMAP); a call under way that uses it keeps it.

    :raises OSError: EINVAL for an id that is not this context's, or not of a mapping.
    """
    with ctx.teedev.mutex:
        shm = ctx.shms.get(shm_id)
        if shm is None or not shm.is_mapping or not shm.owned:
            raise OSError(errno.EINVAL, "id of a mapping")
        ctx.forget_shm_id(shm)
    shm.put_owner()
