# SPDX-License-Identifier: BSD-2-Clause
"""API for other parts of a Python program: the operations of <gentee/tee.h>, as kernel.py's.

The facts that :mod:`gentee.device.kernel` states hold here as well.
"""

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gentee.abi.gentee_tee import (
    TEE_MAX_TS_IMAGE_SIZE,
    TEE_MEM_MAP_READ,
    TEE_MEM_MAP_WRITE,
    TEE_TS_API_SIZE,
    TEE_TS_NAME_SIZE,
)
from gentee.abi.gp import TEE_ORIGIN_TEE, TEE_SUCCESS
from gentee.abi.linux_tee import TEE_IOCTL_LOGIN_PUBLIC
from gentee.core import tasks, trusted_services
from gentee.core.context import TeeContext
from gentee.core.login import NIL_UUID, tee_session_calc_client_uuid
from gentee.core.params import TeeParam
from gentee.core.shm import (
    TEE_SHM_NO_READ,
    TEE_SHM_NO_WRITE,
    Backing,
    TeeShm,
    tee_shm_free_user,
    tee_shm_map,
    tee_shm_unmap,
)
from gentee.core.trusted_services import TsInfo
from gentee.device.kernel import BufferMemory, ProcessCredentials
from gentee.device.kernel_call import Waiter, check_open, drop, hold
from gentee.errors import TeeError
from gentee.linux.buffers import address_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "TeeIoctlTaskArg",
    "TeeIoctlLoadTsData",
    "tee_client_shm_free",
    "tee_client_mem_map",
    "tee_client_mem_unmap",
    "tee_client_task",
    "tee_client_load_ts",
    "tee_client_get_ts_list",
]


class TeeIoctlTaskArg:
    """struct tee_ioctl_task_arg.

    :param uuid: of the trusted service, 16 bytes in the order of RFC 9562.
    :param func: of the service.
    :param clnt_login: TEE_IOCTL_LOGIN_*.
    :param clnt_uuid: connection data, 16 bytes: the first four a gid for the group logins.
    :param cancel_id: by which a cancellation with session 0 means this call.

    ``ret`` and ``ret_origin`` are set by the call.
    """

    __slots__ = ("cancel_id", "clnt_login", "clnt_uuid", "func", "ret", "ret_origin", "uuid")

    def __init__(
        self,
        uuid: bytes,
        func: int,
        clnt_login: int = TEE_IOCTL_LOGIN_PUBLIC,
        clnt_uuid: bytes = NIL_UUID,
        cancel_id: int = 0,
    ) -> None:
        if len(uuid) != 16 or len(clnt_uuid) != 16:
            raise ValueError("a UUID has 16 bytes")
        self.uuid = uuid
        self.func = func
        self.clnt_login = clnt_login
        self.clnt_uuid = clnt_uuid
        self.cancel_id = cancel_id
        self.ret = TEE_SUCCESS
        self.ret_origin = TEE_ORIGIN_TEE


class TeeIoctlLoadTsData:
    """struct tee_ioctl_load_ts_data: the image; ``uuid`` and ``version`` of what was loaded."""

    __slots__ = ("image", "ret", "ret_origin", "uuid", "version")

    def __init__(self, image: bytes) -> None:
        self.image = image
        self.uuid = NIL_UUID
        self.version = 0
        self.ret = TEE_SUCCESS
        self.ret_origin = TEE_ORIGIN_TEE


def tee_client_shm_free(shm: TeeShm) -> None:
    """Free shared memory that the caller may still use: no further call finds it.

    The caller's view ends with :func:`~gentee.device.kernel.tee_shm_free`, which is still due.

    :raises OSError: EINVAL if it was freed already.
    """
    tee_shm_free_user(shm.ctx, shm.id)


class ReadOnlyMemory(Backing):
    """A buffer of this program that is only read."""

    __slots__ = ("_address", "_view")

    def __init__(self, buffer: "ReadableBuffer") -> None:
        self._view = memoryview(buffer).cast("B")  # holds the buffer in its place
        self._address = address_of(self._view)

    def copy_in(self, offset: int, view: memoryview) -> None:
        view[:] = self._view[offset : offset + len(view)]

    def copy_out(self, offset: int, view: memoryview) -> None:
        raise OSError(errno.EFAULT, "memory that is only read")

    def identity(self) -> tuple[object, int]:
        return (BufferMemory, self._address)

    def close(self) -> None:
        self._view.release()


class WriteOnlyBuffer(BufferMemory):
    """A buffer of this program that the TEE may not see: it starts from zeros."""

    __slots__ = ()

    def copy_in(self, offset: int, view: memoryview) -> None:
        view[:] = bytes(len(view))

    def identity(self) -> tuple[object, int]:
        # Never one window with memory that may be seen.
        return (WriteOnlyBuffer, super().identity()[1])


def tee_client_mem_map(ctx: TeeContext, buffer: "ReadableBuffer", flags: int) -> TeeShm:
    """Map memory of this program, until :func:`tee_client_mem_unmap` or the context ends.

    :param buffer: contiguous, not empty; writable unless ``flags`` are TEE_MEM_MAP_READ.
    :param flags: TEE_MEM_MAP_READ, TEE_MEM_MAP_WRITE or both: a call that goes against them fails
        with EACCES.
    :raises OSError: EINVAL for flags, and from a TEE that takes no memory of clients; ENOMEM for no
        bytes or over a limit.
    :raises TypeError: the buffer is not contiguous, or read-only.
    """
    check_open(ctx)
    if "shm_register" not in ctx.teedev.operations or not ctx.teedev.desc.shm.registered:
        raise OSError(errno.EINVAL, "this TEE takes no memory of clients")
    if not flags or flags & ~(TEE_MEM_MAP_READ | TEE_MEM_MAP_WRITE):
        raise OSError(errno.EINVAL, "flags")
    size = memoryview(buffer).nbytes
    if not size:
        raise OSError(errno.ENOMEM, "mapped memory of no bytes")
    if not flags & TEE_MEM_MAP_WRITE:
        return tee_shm_map(ctx, size, TEE_SHM_NO_WRITE, ReadOnlyMemory(buffer))
    if not flags & TEE_MEM_MAP_READ:
        return tee_shm_map(ctx, size, TEE_SHM_NO_READ, WriteOnlyBuffer(memoryview(buffer)))
    return tee_shm_map(ctx, size, 0, BufferMemory(memoryview(buffer)))


def tee_client_mem_unmap(shm: TeeShm) -> None:
    """End a mapping; a call under way that uses it keeps it. OSError EINVAL if it has ended."""
    tee_shm_unmap(shm.ctx, shm.id)


def tee_client_task(ctx: TeeContext, arg: TeeIoctlTaskArg, param: Sequence[TeeParam] = ()) -> None:
    """Open a session to ``arg.uuid``, invoke ``arg.func`` there and close it, in one call.

    :param param: parameters of the function, updated in place.
    :raises OSError: as tee_client_open_session() and tee_client_invoke_func(); EINVAL from a driver
        without sessions.
    """
    if not ctx.teedev.operations >= tasks.OPERATIONS:
        raise OSError(errno.EINVAL, "task")
    shms = hold(ctx, param)
    try:
        identity = tee_session_calc_client_uuid(arg.clnt_login, arg.clnt_uuid, ProcessCredentials())
    except BaseException:
        drop(shms)
        raise
    waiter = Waiter(shms)
    call = tasks.TaskArg(
        ctx,
        arg.uuid,
        identity,
        arg.clnt_login,
        arg.func,
        arg.cancel_id,
        list(param),
        waiter.done,
    )
    waiter.run(tasks.task, call)
    arg.ret, arg.ret_origin = call.ret, call.ret_origin


def tee_client_load_ts(ctx: TeeContext, arg: TeeIoctlLoadTsData) -> None:
    """Have the TEE verify and install the service of a signed image.

    :raises OSError: EINVAL for an image of no bytes or more than TEE_MAX_TS_IMAGE_SIZE, and from a
        driver without the operation.
    """
    if "load_ts" not in ctx.teedev.operations:
        raise OSError(errno.EINVAL, "load_ts")
    image = bytes(arg.image)
    if not 0 < len(image) <= TEE_MAX_TS_IMAGE_SIZE:
        raise OSError(errno.EINVAL, "image_len")
    waiter = Waiter([])
    call = trusted_services.LoadTsArg(ctx, lambda: image, waiter.done)
    waiter.run(trusted_services.load_ts, call)
    arg.ret, arg.ret_origin = call.ret, call.ret_origin
    if call.ret == TEE_SUCCESS:
        arg.uuid, arg.version = call.uuid, call.version


def tee_client_get_ts_list(ctx: TeeContext, name: str = "", api: str = "") -> list[TsInfo]:
    """The trusted services that there are.

    :param name: only those of this name; all if it is empty.
    :param api: only those that offer this API; all if it is empty.
    :raises OSError: EINVAL from a driver without the operation, or what the driver says.
    :raises TeeError: likewise.
    """
    if "get_ts_list" not in ctx.teedev.operations:
        raise OSError(errno.EINVAL, "get_ts_list")
    wanted = name.encode(), api.encode()
    if len(wanted[0]) >= TEE_TS_NAME_SIZE or len(wanted[1]) >= TEE_TS_API_SIZE:
        raise OSError(errno.EINVAL, "name")
    waiter = Waiter([])
    call = trusted_services.GetTsListArg(ctx, *wanted, waiter.done)
    waiter.run(trusted_services.get_ts_list, call)
    if call.ret != TEE_SUCCESS:
        raise TeeError.from_code(call.ret, call.ret_origin)
    return call.services
