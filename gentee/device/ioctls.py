# SPDX-License-Identifier: BSD-2-Clause
"""The ioctls of a TEE device, one function each, one table at the end (tee_core.c).

Each reads the client's bytes once, decodes the copy and checks in the kernel's order: operation
present, buf_data, buf_len, argument, num_params, parameters, then login. What it returns the client
gets; ``None`` means that the answer was given or will be, by :mod:`gentee.device.answers`.

Those of <gentee/tee.h> are in :mod:`gentee.device.ioctls_ext`.
"""

import errno
from collections.abc import Callable
from struct import Struct

from gentee.abi.dma_heap import DMA_HEAP_IOCTL_ALLOC
from gentee.abi.gentee_tee import (
    TEE_IOC_GET_TS_LIST,
    TEE_IOC_LOAD_TS,
    TEE_IOC_MEM_MAP,
    TEE_IOC_MEM_UNMAP,
    TEE_IOC_SHM_FREE,
    TEE_IOC_TASK,
)
from gentee.abi.linux_tee import (
    TEE_IOC_CANCEL,
    TEE_IOC_CLOSE_SESSION,
    TEE_IOC_INVOKE,
    TEE_IOC_OBJECT_INVOKE,
    TEE_IOC_OPEN_SESSION,
    TEE_IOC_SHM_ALLOC,
    TEE_IOC_SHM_REGISTER,
    TEE_IOC_SHM_REGISTER_FD,
    TEE_IOC_SUPPL_RECV,
    TEE_IOC_SUPPL_SEND,
    TEE_IOC_VERSION,
    TEE_IOCL_SUPP_RECV_ARG,
    TEE_IOCL_SUPP_SEND_ARG,
    TEE_IOCTL_BUF_DATA,
    TEE_IOCTL_CANCEL_ARG,
    TEE_IOCTL_CLOSE_SESSION_ARG,
    TEE_IOCTL_INVOKE_ARG,
    TEE_IOCTL_LOGIN_REE_KERNEL_MAX,
    TEE_IOCTL_LOGIN_REE_KERNEL_MIN,
    TEE_IOCTL_OBJECT_INVOKE_ARG,
    TEE_IOCTL_OPEN_SESSION_ARG,
    TEE_IOCTL_SHM_ALLOC_DATA,
    TEE_IOCTL_SHM_REGISTER_DATA,
    TEE_IOCTL_SHM_REGISTER_FD_DATA,
    TEE_MAX_ARG_SIZE,
)
from gentee.core import calls
from gentee.core.context import TeeContext
from gentee.core.login import tee_session_calc_client_uuid
from gentee.core.params import PARAM_SIZE, params_from_supp, params_from_user, params_put
from gentee.core.shm import TeeShm, tee_shm_alloc_user_buf
from gentee.device import client_memory
from gentee.linux.task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.device.answers import Answers

Handler = Callable[["Answers", int, Task, TeeContext, int], int | None]

# libteec and most others have the argument beside its buf_data on the stack, so that one read
# usually brings both. It is a whole INVOKE with four parameters, and some way to it.
_FIRST_READ = 512

_SIZE_ID = Struct("<Q4xi")  # of shm_alloc_data: flags are not written
_BUF_DATA = TEE_IOCTL_BUF_DATA.unpack_from


def read_arg(task: Task, uarg: int, fixed: Struct) -> tuple[bytes, int, int, int]:
    """The argument that a struct tee_ioctl_buf_data points to.

    Returns bytes that hold it, where in them it starts, its length and its address in the client.
    EINVAL where ``buf_len`` cannot be right, EFAULT where memory is not there. Behind the fixed
    part the bytes may end early: Linux looks at ``num_params`` before it reads parameters.
    """
    data = task.read_some(uarg, _FIRST_READ)
    if len(data) < 16:
        raise OSError(errno.EFAULT, "buf_data")
    buf_ptr, buf_len = _BUF_DATA(data)
    if buf_len > TEE_MAX_ARG_SIZE or buf_len < fixed.size:
        raise OSError(errno.EINVAL, "buf_len")
    offset = buf_ptr - uarg
    if offset >= 0 and offset + buf_len <= len(data):
        return data, offset, buf_len, buf_ptr
    data = task.read_some(buf_ptr, buf_len)
    if len(data) < fixed.size:
        raise OSError(errno.EFAULT, "argument")
    return data, 0, buf_len, buf_ptr


def need(ctx: TeeContext, operation: str) -> None:
    """EINVAL where the specific driver lacks an operation."""
    if operation not in ctx.teedev.operations:
        raise OSError(errno.EINVAL, operation)


def need_tee(ctx: TeeContext) -> None:
    """ENOTTY on a heap of protected memory, which is no TEE."""
    if ctx.teedev.desc.is_heap:
        raise OSError(errno.ENOTTY, "a heap")


def check_num_params(fixed: Struct, num_params: int, buf_len: int) -> None:
    if fixed.size + PARAM_SIZE * num_params != buf_len:
        raise OSError(errno.EINVAL, "num_params")


def tee_ioctl_version(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> int:
    need_tee(ctx)
    door.write_memory(task.tid, ((uarg, ctx.teedev.version_data),))
    return 0


def settled(door: "Answers", make_shm: Callable[[], TeeShm]) -> TeeShm:
    """New shared memory. Where there is no room for it, what clients have closed makes some."""
    try:
        return make_shm()
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
    door.events.settle()
    return make_shm()


def tee_ioctl_shm_alloc(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> None:
    need_tee(ctx)
    size, flags, _id = TEE_IOCTL_SHM_ALLOC_DATA.unpack(
        task.read(uarg, TEE_IOCTL_SHM_ALLOC_DATA.size)
    )
    if flags:
        raise OSError(errno.EINVAL, "flags")
    shm = settled(door, lambda: tee_shm_alloc_user_buf(ctx, size))
    try:
        # size, then (flags are not written) id.
        task.write(((uarg, shm.size.to_bytes(8, "little")), (uarg + 12, id_bytes(shm.id))))
        door.answer_shm_file(notify_id, shm)
    except BaseException:
        shm.put_owner()
        raise


def tee_ioctl_shm_register(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> None:
    need_tee(ctx)
    addr, length, flags, _id = TEE_IOCTL_SHM_REGISTER_DATA.unpack(
        task.read(uarg, TEE_IOCTL_SHM_REGISTER_DATA.size)
    )
    if flags:
        raise OSError(errno.EINVAL, "flags")
    shm = settled(door, lambda: client_memory.register_user_buf(ctx, task, addr, length))
    try:
        task.write(((uarg + 8, shm.size.to_bytes(8, "little")), (uarg + 20, id_bytes(shm.id))))
        door.answer_shm_handle(notify_id, shm)
    except BaseException:
        shm.put_owner()
        raise


def tee_ioctl_shm_register_fd(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> None:
    need_tee(ctx)
    fd, _size, flags, _id = TEE_IOCTL_SHM_REGISTER_FD_DATA.unpack(
        task.read(uarg, TEE_IOCTL_SHM_REGISTER_FD_DATA.size)
    )
    if flags:
        raise OSError(errno.EINVAL, "flags")
    try:
        shm = settled(door, lambda: client_memory.register_fd(ctx, task, fd))
    except OSError as error:
        raise OSError(errno.EINVAL, "SHM_REGISTER_FD") from error
    try:
        size = shm.size.to_bytes(8, "little")
        tail = shm.flags.to_bytes(4, "little") + id_bytes(shm.id)
        task.write(((uarg + 8, size + tail),))
        door.answer_shm_handle(notify_id, shm)
    except BaseException:
        shm.put_owner()
        raise


def id_bytes(number: int) -> bytes:
    return number.to_bytes(4, "little")


def tee_ioctl_open_session(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> None:
    ops = ctx.teedev.ops
    need(ctx, "open_session")
    data, offset, buf_len, address = read_arg(task, uarg, TEE_IOCTL_OPEN_SESSION_ARG)
    uuid, clnt_uuid, login, cancel_id, _session, _ret, _origin, num_params = (
        TEE_IOCTL_OPEN_SESSION_ARG.unpack_from(data, offset)
    )
    check_num_params(TEE_IOCTL_OPEN_SESSION_ARG, num_params, buf_len)
    params = params_from_user(ctx, data, offset + TEE_IOCTL_OPEN_SESSION_ARG.size, num_params)
    try:
        if TEE_IOCTL_LOGIN_REE_KERNEL_MIN <= login <= TEE_IOCTL_LOGIN_REE_KERNEL_MAX:
            raise OSError(errno.EPERM, "login of the kernel")
        identity = tee_session_calc_client_uuid(
            login, clnt_uuid, client_memory.TaskCredentials(task)
        )
    except BaseException:
        params_put(params)
        raise
    arg = calls.OpenSessionArg(ctx, uuid, identity, login, cancel_id, params, door.opened)
    arg.door = (notify_id, task.tid, address)
    arg.owner = task.process
    calls.open_session(ops, arg)


def tee_ioctl_invoke(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> None:
    # read_arg() and its checks, written out: this is the road that everything is measured by.
    teedev = ctx.teedev
    if "invoke_func" not in teedev.operations:
        raise OSError(errno.EINVAL, "invoke_func")
    data = task.read_some(uarg, _FIRST_READ)
    if len(data) < 16:
        raise OSError(errno.EFAULT, "buf_data")
    address, buf_len = _BUF_DATA(data)
    if buf_len > TEE_MAX_ARG_SIZE or buf_len < 24:
        raise OSError(errno.EINVAL, "buf_len")
    offset = address - uarg
    if offset < 0 or offset + buf_len > len(data):
        data, offset = task.read_some(address, buf_len), 0
        if len(data) < 24:
            raise OSError(errno.EFAULT, "argument")
    func, session, cancel_id, _ret, _origin, num_params = _INVOKE_ARG(data, offset)
    if 24 + 32 * num_params != buf_len:
        raise OSError(errno.EINVAL, "num_params")
    params = params_from_user(ctx, data, offset + 24, num_params) if num_params else []
    arg = calls.InvokeArg(ctx, func, session, cancel_id, params, door.invoked)
    arg.door = (notify_id, task.tid, address)
    arg.owner = task.process
    calls.invoke(teedev.ops, arg)


_INVOKE_ARG = TEE_IOCTL_INVOKE_ARG.unpack_from


def tee_ioctl_object_invoke(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> None:
    ops = ctx.teedev.ops
    need(ctx, "object_invoke_func")
    data, offset, buf_len, address = read_arg(task, uarg, TEE_IOCTL_OBJECT_INVOKE_ARG)
    fixed = TEE_IOCTL_OBJECT_INVOKE_ARG
    object_id, op, _ret, num_params = fixed.unpack_from(data, offset)
    check_num_params(fixed, num_params, buf_len)
    params = params_from_user(ctx, data, offset + fixed.size, num_params)
    if object_id > 0xFFFF_FFFF:  # ids of user space have 32 bits
        params_put(params)
        raise OSError(errno.EINVAL, "object id")
    arg = calls.ObjectInvokeArg(ctx, object_id, op, params, door.object_invoked)
    arg.door = (notify_id, task.tid, address)
    arg.owner = task.process
    arg.run(ops.object_invoke_func, ctx, arg, params)


def tee_ioctl_cancel(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> int:
    need(ctx, "cancel_req")
    cancel_id, session = TEE_IOCTL_CANCEL_ARG.unpack(task.read(uarg, TEE_IOCTL_CANCEL_ARG.size))
    calls.cancel(ctx, cancel_id, session)
    return 0


def tee_ioctl_close_session(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> int:
    need(ctx, "close_session")
    (session,) = TEE_IOCTL_CLOSE_SESSION_ARG.unpack(
        task.read(uarg, TEE_IOCTL_CLOSE_SESSION_ARG.size)
    )
    calls.close_session(ctx, session)
    return 0


def tee_ioctl_supp_recv(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> None:
    ops = ctx.teedev.ops
    need(ctx, "supp_recv")
    data, offset, buf_len, address = read_arg(task, uarg, TEE_IOCL_SUPP_RECV_ARG)
    fixed = TEE_IOCL_SUPP_RECV_ARG
    _func, num_params = fixed.unpack_from(data, offset)
    check_num_params(fixed, num_params, buf_len)
    params = params_from_user(ctx, data, offset + fixed.size, num_params)
    # The supplicant offers room, not memory: references are the driver's business from here.
    params_put(params)
    arg = calls.SuppRecvArg(ctx, params, door.supp_received)
    arg.door = (notify_id, task.tid, address)
    arg.owner = task.process
    arg.run(ops.supp_recv, ctx, arg)


def tee_ioctl_supp_send(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> int:
    ops = ctx.teedev.ops
    need(ctx, "supp_send")
    data, offset, buf_len, _address = read_arg(task, uarg, TEE_IOCL_SUPP_SEND_ARG)
    fixed = TEE_IOCL_SUPP_SEND_ARG
    ret, num_params = fixed.unpack_from(data, offset)
    # Only room is asked for here: the one ioctl whose buf_len may be larger.
    if fixed.size + PARAM_SIZE * num_params > buf_len:
        raise OSError(errno.EINVAL, "num_params")
    ops.supp_send(ctx, ret, params_from_supp(data, offset + fixed.size, num_params))
    return 0


def _dma_heap_ioctl_allocate(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> int | None:
    from gentee.device.heap import dma_heap_ioctl_allocate  # few runs have a heap

    return dma_heap_ioctl_allocate(door, notify_id, task, ctx, uarg)


def _extension(cmd: int) -> Handler:
    """An ioctl of <gentee/tee.h>. Its module is loaded by the first of them that is called."""

    def first(
        door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
    ) -> int | None:
        from gentee.device.ioctls_ext import EXTENSION

        IOCTLS.update(EXTENSION)
        return EXTENSION[cmd](door, notify_id, task, ctx, uarg)

    return first


IOCTLS: dict[int, Handler] = {
    TEE_IOC_VERSION: tee_ioctl_version,
    TEE_IOC_SHM_ALLOC: tee_ioctl_shm_alloc,
    TEE_IOC_SHM_REGISTER: tee_ioctl_shm_register,
    TEE_IOC_SHM_REGISTER_FD: tee_ioctl_shm_register_fd,
    TEE_IOC_OPEN_SESSION: tee_ioctl_open_session,
    TEE_IOC_INVOKE: tee_ioctl_invoke,
    TEE_IOC_OBJECT_INVOKE: tee_ioctl_object_invoke,
    TEE_IOC_CANCEL: tee_ioctl_cancel,
    TEE_IOC_CLOSE_SESSION: tee_ioctl_close_session,
    TEE_IOC_SUPPL_RECV: tee_ioctl_supp_recv,
    TEE_IOC_SUPPL_SEND: tee_ioctl_supp_send,
    TEE_IOC_SHM_FREE: _extension(TEE_IOC_SHM_FREE),
    TEE_IOC_MEM_MAP: _extension(TEE_IOC_MEM_MAP),
    TEE_IOC_MEM_UNMAP: _extension(TEE_IOC_MEM_UNMAP),
    TEE_IOC_TASK: _extension(TEE_IOC_TASK),
    TEE_IOC_LOAD_TS: _extension(TEE_IOC_LOAD_TS),
    TEE_IOC_GET_TS_LIST: _extension(TEE_IOC_GET_TS_LIST),
    DMA_HEAP_IOCTL_ALLOC: _dma_heap_ioctl_allocate,
}
