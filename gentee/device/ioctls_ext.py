# SPDX-License-Identifier: BSD-2-Clause
"""The ioctls of <gentee/tee.h>, one function each, one table at the end.

They keep to the rules of :mod:`gentee.device.ioctls`: the client's bytes are read once, the copy is
checked in the kernel's order. Operation present, argument, flags and reserved fields, lengths;
then what the argument points to.
"""

import errno
from struct import Struct

from gentee.abi.gentee_tee import (
    TEE_IOC_GET_TS_LIST,
    TEE_IOC_LOAD_TS,
    TEE_IOC_MEM_MAP,
    TEE_IOC_MEM_UNMAP,
    TEE_IOC_SHM_FREE,
    TEE_IOC_TASK,
    TEE_IOCTL_GET_TS_LIST_DATA,
    TEE_IOCTL_LOAD_TS_DATA,
    TEE_IOCTL_MEM_MAP_DATA,
    TEE_IOCTL_MEM_UNMAP_DATA,
    TEE_IOCTL_SHM_FREE_DATA,
    TEE_IOCTL_TASK_ARG,
    TEE_MAX_TS_IMAGE_SIZE,
    TEE_MEM_MAP_READ,
    TEE_MEM_MAP_WRITE,
    TEE_TS_INFO,
)
from gentee.abi.gp import TEE_ERROR_SHORT_BUFFER, TEE_ORIGIN_TEE, TEE_SUCCESS
from gentee.abi.linux_tee import TEE_IOCTL_LOGIN_REE_KERNEL_MAX, TEE_IOCTL_LOGIN_REE_KERNEL_MIN
from gentee.core import tasks, trusted_services
from gentee.core.context import TeeContext
from gentee.core.login import tee_session_calc_client_uuid
from gentee.core.params import USER_ADDRESS_MAX, params_from_user, params_put, params_to_user
from gentee.core.shm import (
    TEE_SHM_NO_READ,
    TEE_SHM_NO_WRITE,
    tee_shm_free_user,
    tee_shm_unmap,
)
from gentee.device import client_memory
from gentee.device.ioctls import Handler, check_num_params, id_bytes, need, read_arg, settled
from gentee.linux.task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.device.answers import Answers

_MAX_ENTRY_SIZE = 4096
_PIECE = 4096  # bytes that write_memory() takes at once
_RET_ORIGIN = Struct("<II").pack
_VERSION_UUID_RET_ORIGIN = Struct("<I16sII").pack
_COUNT_RET_ORIGIN = Struct("<III").pack
_U32 = 0xFFFF_FFFF


def tee_ioctl_shm_free(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> int:
    shm_id, flags = TEE_IOCTL_SHM_FREE_DATA.unpack(task.read(uarg, TEE_IOCTL_SHM_FREE_DATA.size))
    if flags:
        raise OSError(errno.EINVAL, "flags")
    tee_shm_free_user(ctx, shm_id)
    return 0


def tee_ioctl_mem_map(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> int:
    need(ctx, "shm_register")
    if not ctx.teedev.desc.shm.registered:
        raise OSError(errno.EINVAL, "this TEE takes no memory of clients")
    addr, length, flags, _id = TEE_IOCTL_MEM_MAP_DATA.unpack(
        task.read(uarg, TEE_IOCTL_MEM_MAP_DATA.size)
    )
    if not flags or flags & ~(TEE_MEM_MAP_READ | TEE_MEM_MAP_WRITE):
        raise OSError(errno.EINVAL, "flags")
    limits = 0 if flags & TEE_MEM_MAP_READ else TEE_SHM_NO_READ
    limits |= 0 if flags & TEE_MEM_MAP_WRITE else TEE_SHM_NO_WRITE
    shm = settled(door, lambda: client_memory.map_user_buf(ctx, task, addr, length, limits))
    try:
        task.write(((uarg + 8, shm.size.to_bytes(8, "little")), (uarg + 20, id_bytes(shm.id))))
    except BaseException:
        shm.put_owner()
        raise
    return 0


def tee_ioctl_mem_unmap(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> int:
    need(ctx, "shm_unregister")
    shm_id, flags = TEE_IOCTL_MEM_UNMAP_DATA.unpack(task.read(uarg, TEE_IOCTL_MEM_UNMAP_DATA.size))
    if flags:
        raise OSError(errno.EINVAL, "flags")
    tee_shm_unmap(ctx, shm_id)
    return 0


def tee_ioctl_task(door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int) -> None:
    if not ctx.teedev.operations >= tasks.OPERATIONS:
        raise OSError(errno.EINVAL, "task")
    fixed = TEE_IOCTL_TASK_ARG
    data, offset, buf_len, address = read_arg(task, uarg, fixed)
    uuid, clnt_uuid, login, cancel_id, func, flags, _ret, _origin, num_params, reserved = (
        fixed.unpack_from(data, offset)
    )
    if flags or reserved:
        raise OSError(errno.EINVAL, "flags")
    check_num_params(fixed, num_params, buf_len)
    params = params_from_user(ctx, data, offset + fixed.size, num_params)
    try:
        if TEE_IOCTL_LOGIN_REE_KERNEL_MIN <= login <= TEE_IOCTL_LOGIN_REE_KERNEL_MAX:
            raise OSError(errno.EPERM, "login of the kernel")
        identity = tee_session_calc_client_uuid(
            login, clnt_uuid, client_memory.TaskCredentials(task)
        )
    except BaseException:
        params_put(params)
        raise

    def done(arg: tasks.TaskArg) -> None:
        pieces = [(address + 48, _RET_ORIGIN(arg.ret, arg.ret_origin))]
        pieces += params_to_user(arg.params, address + fixed.size)
        door.finish(arg, pieces)
        params_put(arg.params)

    arg = tasks.TaskArg(ctx, uuid, identity, login, func, cancel_id, params, done)
    arg.door = (notify_id, task.tid, address)
    arg.owner = task.process
    tasks.task(ctx.teedev.ops, arg)


def tee_ioctl_load_ts(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> None:
    need(ctx, "load_ts")
    image_ptr, image_len, flags, _version, _uuid, _ret, _origin = TEE_IOCTL_LOAD_TS_DATA.unpack(
        task.read(uarg, TEE_IOCTL_LOAD_TS_DATA.size)
    )
    if flags:
        raise OSError(errno.EINVAL, "flags")
    if not 0 < image_len <= TEE_MAX_TS_IMAGE_SIZE:
        raise OSError(errno.EINVAL, "image_len")
    if image_ptr + image_len > USER_ADDRESS_MAX:
        raise OSError(errno.EFAULT, "image")
    space = task.address_space()

    def fetch() -> bytes:
        image = bytearray(image_len)
        client_memory.ClientMemory(space, image_ptr).copy_in(0, memoryview(image))
        return bytes(image)

    def done(arg: trusted_services.LoadTsArg) -> None:
        space.put()
        uuid, version = (arg.uuid, arg.version) if arg.ret == TEE_SUCCESS else (bytes(16), 0)
        answer = _VERSION_UUID_RET_ORIGIN(version & _U32, uuid, arg.ret, arg.ret_origin)
        door.finish(arg, [(uarg + 20, answer)])

    arg = trusted_services.LoadTsArg(ctx, fetch, done)
    arg.door = (notify_id, task.tid, uarg)
    arg.owner = task.process
    trusted_services.load_ts(ctx.teedev.ops, arg)


def tee_ioctl_get_ts_list(
    door: "Answers", notify_id: int, task: Task, ctx: TeeContext, uarg: int
) -> None:
    need(ctx, "get_ts_list")
    fixed = TEE_IOCTL_GET_TS_LIST_DATA
    buf_ptr, buf_len, flags, entry_size, _count, _ret, _origin, reserved, name, api = fixed.unpack(
        task.read(uarg, fixed.size)
    )
    if flags or reserved:
        raise OSError(errno.EINVAL, "flags")
    if entry_size % 8 or not TEE_TS_INFO.size <= entry_size <= _MAX_ENTRY_SIZE:
        raise OSError(errno.EINVAL, "entry_size")
    name, name_end, _ = name.partition(b"\0")
    api, api_end, _ = api.partition(b"\0")
    if not name_end or not api_end:
        raise OSError(errno.EINVAL, "name")

    def done(arg: trusted_services.GetTsListArg) -> None:
        entries = b"".join(info.pack().ljust(entry_size, b"\0") for info in arg.services)
        pieces: list[tuple[int, bytes]] = []
        if len(entries) > buf_len:
            arg.ret, arg.ret_origin = TEE_ERROR_SHORT_BUFFER, TEE_ORIGIN_TEE
        elif buf_ptr + len(entries) > USER_ADDRESS_MAX:
            arg.error = errno.EFAULT
        else:
            for start in range(0, len(entries), _PIECE):
                pieces.append((buf_ptr + start, entries[start : start + _PIECE]))
        pieces.append((uarg + 8, len(entries).to_bytes(8, "little")))
        answer = _COUNT_RET_ORIGIN(len(arg.services), arg.ret, arg.ret_origin)
        door.finish(arg, [*pieces, (uarg + 24, answer)])

    arg = trusted_services.GetTsListArg(ctx, name, api, done)
    arg.door = (notify_id, task.tid, uarg)
    arg.owner = task.process
    trusted_services.get_ts_list(ctx.teedev.ops, arg)


EXTENSION: dict[int, Handler] = {
    TEE_IOC_SHM_FREE: tee_ioctl_shm_free,
    TEE_IOC_MEM_MAP: tee_ioctl_mem_map,
    TEE_IOC_MEM_UNMAP: tee_ioctl_mem_unmap,
    TEE_IOC_TASK: tee_ioctl_task,
    TEE_IOC_LOAD_TS: tee_ioctl_load_ts,
    TEE_IOC_GET_TS_LIST: tee_ioctl_get_ts_list,
}
