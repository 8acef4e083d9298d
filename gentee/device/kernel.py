# SPDX-License-Identifier: BSD-2-Clause
"""API for other parts of a Python program: the client API inside the kernel, under its names.

It follows tee_client_*() of Linux's drivers/tee/tee_core.c and tee_shm_*_kernel_buf() of tee_shm.c:
what user space reaches through ``/dev/teeN``, a part of this program reaches by these functions.

Some facts about them
=====================

- A call returns when it is done, whichever thread completes it. Any thread may call, also several
  at once in one context and session; only not one that the driver needs to complete the call.
- Two channels, as everywhere: ``OSError`` where the call itself could not be made, ``arg.ret`` and
  ``arg.ret_origin`` for the result of the operation.
- Linux trusts its own modules. Here parameters are checked as those of user space are, because an
  offset that is wrong should not become an exception in a specific driver.
- A thread that is interrupted while it waits (KeyboardInterrupt) leaves its call: the driver is
  asked to end it, and a session that it still opens is closed.
- Logins of the kernel (REE_KERNEL) are allowed. The others identify this very process.
"""

import errno
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gentee.abi.gp import TEE_ORIGIN_TEE, TEE_SUCCESS
from gentee.abi.linux_tee import TEE_IOCTL_LOGIN_PUBLIC
from gentee.core import calls
from gentee.core.context import TeeContext, teedev_close_context, teedev_open
from gentee.core.device import DeviceRegistry, TeeDevice
from gentee.core.login import NIL_UUID, Credentials, tee_session_calc_client_uuid
from gentee.core.params import TeeParam
from gentee.core.shm import (
    TEE_SHM_DYNAMIC,
    Backing,
    TeeShm,
    tee_shm_alloc_user_buf,
    tee_shm_register,
)
from gentee.device.kernel_call import Waiter, check_open, drop, hold
from gentee.linux.buffers import PinnedBuffer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "TeeIoctlOpenSessionArg",
    "TeeIoctlInvokeArg",
    "TeeIoctlCancelArg",
    "tee_client_open_context",
    "tee_client_close_context",
    "tee_client_get_version",
    "tee_client_open_session",
    "tee_client_close_session",
    "tee_client_system_session",
    "tee_client_invoke_func",
    "tee_client_cancel_req",
    "tee_shm_alloc_kernel_buf",
    "tee_shm_register_kernel_buf",
    "tee_shm_free",
]

Version = tuple[int, int, int]  # impl_id, impl_caps, gen_caps


class TeeIoctlOpenSessionArg:
    """struct tee_ioctl_open_session_arg.

    :param uuid: of the trusted service, 16 bytes in the order of RFC 9562.
    :param clnt_login: TEE_IOCTL_LOGIN_*.
    :param clnt_uuid: connection data, 16 bytes: the first four a gid for the group logins.
    :param cancel_id: by which :func:`tee_client_cancel_req` means this call.

    ``session``, ``ret`` and ``ret_origin`` are set by the call.
    """

    __slots__ = ("cancel_id", "clnt_login", "clnt_uuid", "ret", "ret_origin", "session", "uuid")

    def __init__(
        self,
        uuid: bytes,
        clnt_login: int = TEE_IOCTL_LOGIN_PUBLIC,
        clnt_uuid: bytes = NIL_UUID,
        cancel_id: int = 0,
    ) -> None:
        if len(uuid) != 16 or len(clnt_uuid) != 16:
            raise ValueError("a UUID has 16 bytes")
        self.uuid = uuid
        self.clnt_login = clnt_login
        self.clnt_uuid = clnt_uuid
        self.cancel_id = cancel_id
        self.session = 0
        self.ret = TEE_SUCCESS
        self.ret_origin = TEE_ORIGIN_TEE


class TeeIoctlInvokeArg:
    """struct tee_ioctl_invoke_arg: function, session; ``ret`` and ``ret_origin`` are the answer."""

    __slots__ = ("cancel_id", "func", "ret", "ret_origin", "session")

    def __init__(self, func: int, session: int, cancel_id: int = 0) -> None:
        self.func = func
        self.session = session
        self.cancel_id = cancel_id
        self.ret = TEE_SUCCESS
        self.ret_origin = TEE_ORIGIN_TEE


class TeeIoctlCancelArg:
    """struct tee_ioctl_cancel_arg. ``session`` 0 means an open that is under way."""

    __slots__ = ("cancel_id", "session")

    def __init__(self, cancel_id: int, session: int) -> None:
        self.cancel_id = cancel_id
        self.session = session


class ProcessCredentials(Credentials):
    """Who this process is, asked anew each time: a process may change its ids."""

    def euid(self) -> int:
        return os.geteuid()

    def in_egroup(self, gid: int) -> bool:
        return gid == os.getegid() or gid in os.getgroups()

    def exe(self) -> str:
        return os.readlink("/proc/self/exe")


def tee_client_open_context(
    registry: DeviceRegistry,
    match: Callable[[Version, Any], object],
    data: object = None,
    start: TeeContext | None = None,
) -> TeeContext:
    """Open the first device whose version ``match`` accepts.

    Devices are asked in the registry's order, those for supplicants last: ``match`` sees their
    TEE_GEN_CAP_PRIVILEGED. As in Linux, a device that matches and refuses is passed over, unless
    memory ran out, and services do not wait for a supplicant that is not there (``supp_nowait``).

    :param match: called with (impl_id, impl_caps, gen_caps) and ``data``; true for a match.
    :param start: begin behind the device of this context instead of with the first.
    :raises OSError: ENOENT where nothing is left that matches, ENOMEM from the device.
    """
    for teedev in _devices_after(registry, start):
        if not match(teedev.version, data):
            continue
        try:
            ctx = teedev_open(teedev)
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise
            continue
        ctx.supp_nowait = True
        return ctx
    raise OSError(errno.ENOENT, "no TEE device matches")


def _devices_after(registry: DeviceRegistry, start: TeeContext | None) -> list[TeeDevice]:
    devices = [device for device in registry.all() if not device.desc.is_heap]
    if start is not None and start.teedev in devices:
        return devices[devices.index(start.teedev) + 1 :]
    # A device that is gone has no place any more: from the beginning, as klist_iter_init_node().
    return devices


def tee_client_close_context(ctx: TeeContext) -> None:
    """Close a context: its sessions end, calls under way are asked to end. Twice is once."""
    teedev_close_context(ctx)


def tee_client_get_version(ctx: TeeContext) -> Version:
    """The version of the context's device: (impl_id, impl_caps, gen_caps)."""
    return ctx.teedev.version


def tee_client_open_session(
    ctx: TeeContext, arg: TeeIoctlOpenSessionArg, param: Sequence[TeeParam] = ()
) -> None:
    """Open a session to the trusted service ``arg.uuid``; ``arg.session`` is its id.

    :param param: parameters of the open, updated in place.
    :raises OSError: EINVAL for parameters or a login that cannot be, EPERM for a group that this
        process is not in, EBADF when the context is closed meanwhile, or what the driver says.
    """
    shms = hold(ctx, param)
    try:
        identity = tee_session_calc_client_uuid(arg.clnt_login, arg.clnt_uuid, ProcessCredentials())
    except BaseException:
        drop(shms)
        raise
    waiter = Waiter(shms)
    call = calls.OpenSessionArg(
        ctx, arg.uuid, identity, arg.clnt_login, arg.cancel_id, list(param), waiter.done
    )
    waiter.run(calls.open_session, call)
    arg.session, arg.ret, arg.ret_origin = call.session, call.ret, call.ret_origin


def tee_client_close_session(ctx: TeeContext, session: int) -> None:
    """Close a session; OSError EINVAL for one that the context does not have."""
    calls.close_session(ctx, session)


def tee_client_system_session(ctx: TeeContext, session: int) -> None:
    """Declare a session as a system session: its calls go before those of others.

    :raises OSError: EINVAL for a session that the context does not have, and from a driver that
        makes no such difference.
    """
    found = ctx.sessions.get(session)
    if found is None:
        raise OSError(errno.EINVAL, "session")
    ctx.teedev.ops.system_session(ctx, found)
    found.system = True


def tee_client_invoke_func(
    ctx: TeeContext, arg: TeeIoctlInvokeArg, param: Sequence[TeeParam] = ()
) -> None:
    """Invoke function ``arg.func`` of the trusted service behind a session.

    :param param: updated in place; a memref's ``b`` is the size as the TEE set it, which may be
        more than the buffer has.
    :raises OSError: EINVAL for an unknown session or parameters that cannot be, or what the driver
        says.
    """
    waiter = Waiter(hold(ctx, param))
    call = calls.InvokeArg(ctx, arg.func, arg.session, arg.cancel_id, list(param), waiter.done)
    waiter.run(calls.invoke, call)
    arg.ret, arg.ret_origin = call.ret, call.ret_origin


def tee_client_cancel_req(ctx: TeeContext, arg: TeeIoctlCancelArg) -> None:
    """Ask for the cancellation of a call that another thread waits for.

    :raises OSError: EINVAL for an unknown session; what the driver says about the rest.
    """
    calls.cancel(ctx, arg.cancel_id, arg.session)


def tee_shm_alloc_kernel_buf(ctx: TeeContext, size: int) -> TeeShm:
    """Allocate shared memory: real shared pages, ``shm.view()`` is their bytes.

    :param size: bytes; ``shm.size`` is rounded up to pages and to the driver's needs.
    :raises OSError: ENOMEM for no bytes or beyond the driver's limits.
    """
    check_open(ctx)
    return tee_shm_alloc_user_buf(ctx, size)


def tee_shm_register_kernel_buf(ctx: TeeContext, buffer: "WriteableBuffer") -> TeeShm:
    """Register memory of this program: whoever serves a call copies to and from it.

    The buffer stays where it is until :func:`tee_shm_free`: it cannot be resized or closed.

    :param buffer: writable, contiguous, not empty.
    :raises OSError: ENOTSUPP (524) where the driver takes none, ENOMEM for no bytes or over a
        limit.
    :raises TypeError: the buffer is read-only or not contiguous.
    """
    check_open(ctx)
    try:
        backing = BufferMemory(buffer)
    except ValueError as error:
        raise OSError(errno.ENOMEM, "registered memory of no bytes") from error
    try:
        return tee_shm_register(ctx, backing.size, TEE_SHM_DYNAMIC, backing=backing)
    except BaseException:
        backing.close()
        raise


def tee_shm_free(shm: TeeShm) -> None:
    """Drop the caller's reference: the memory ends with the last call that uses it."""
    shm.put_owner()


class BufferMemory(Backing):
    """Memory of this program, as a client's memory is for the device door."""

    __slots__ = ("_pinned",)

    def __init__(self, buffer: "WriteableBuffer") -> None:
        self._pinned = PinnedBuffer(buffer)

    @property
    def size(self) -> int:
        """In bytes."""
        return self._pinned.size

    def copy_in(self, offset: int, view: memoryview) -> None:
        view[:] = self._slice(offset, view.nbytes)

    def copy_out(self, offset: int, view: memoryview) -> None:
        self._slice(offset, view.nbytes)[:] = view

    def _slice(self, offset: int, size: int) -> memoryview:
        if offset < 0 or offset + size > self._pinned.size:
            raise OSError(errno.EFAULT, "registered memory")
        try:
            return self._pinned.view[offset : offset + size]
        except ValueError as error:  # released
            raise OSError(errno.EFAULT, "registered memory") from error

    def identity(self) -> tuple[object, int]:
        # All buffers of this program are in one address space, which the class stands for.
        return (BufferMemory, self._pinned.address)

    def close(self) -> None:
        self._pinned.release()
