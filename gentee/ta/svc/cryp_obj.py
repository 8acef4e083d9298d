# SPDX-License-Identifier: BSD-2-Clause
"""Transient objects: the ``syscall_cryp_obj_*`` functions of ``core/tee/tee_svc_cryp.c``.

What they do is in gentee.crypto.objects. Here are arguments, handles and the memory of the TA.
"""

from collections.abc import Sequence
from struct import Struct

from gentee.abi import optee_ta as abi
from gentee.abi.gp import TEE_ERROR_SHORT_BUFFER, TEE_SUCCESS
from gentee.crypto.objects import CryptObject
from gentee.errors import BadState, ItemNotFound
from gentee.ta.svc.attributes import copy_in_attrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.user_ta import UserTa

_U32 = 0xFFFF_FFFF
_HANDLE = Struct("<I")
_SIZE = Struct("<Q")
_VALUE = Struct("<II")


def get_object(ta: "UserTa", handle: int) -> CryptObject:
    """The object of a handle; tee_obj_get(). Of a handle in a long register the low half counts.

    :raises BadState: there is none.
    """
    found = ta.objects.get(handle & _U32)
    if found is None:
        raise BadState(f"no object {handle & _U32:#x}")
    _look_at_usage(ta, handle, found)
    return found


def _look_at_usage(ta: "UserTa", handle: int, found: CryptObject) -> None:
    """The usage of a persistent object can be restricted by whoever has it open as well."""
    stored = ta.stored.get(handle & _U32)
    if stored is not None and stored.is_shared:
        found.obj_usage = stored.usage()


def close_object(ta: "UserTa", handle: int) -> None:
    """Forget an object that there is, and its secrets; tee_obj_close()."""
    ta.objects.pop(handle & _U32).wipe()
    stored = ta.stored.pop(handle & _U32, None)
    if stored is not None:
        stored.close()


def syscall_cryp_obj_get_info(ta: "UserTa", args: Sequence[int]) -> None:
    found = get_object(ta, args[0])
    info = abi.UTEE_OBJECT_INFO.pack(
        found.obj_type,
        found.obj_size,
        found.max_obj_size,
        found.obj_usage,
        found.data_size & _U32,
        found.data_pos & _U32,
        found.handle_flags,
    )
    ta.write_private(args[1], info)


def syscall_cryp_obj_restrict_usage(ta: "UserTa", args: Sequence[int]) -> None:
    found = get_object(ta, args[0])
    stored = ta.stored.get(args[0] & _U32)
    if stored is not None:
        found.obj_usage = stored.restrict_usage(args[1] & _U32)
    else:
        found.restrict_usage(args[1] & _U32)


def syscall_cryp_obj_get_attr(ta: "UserTa", args: Sequence[int]) -> int:
    """Write an attribute to ``args[2]``, where there are as many bytes as the u64 at ``args[3]``.

    That becomes the size of the attribute, unless it is a value. A number without bytes is none.

    :raises ItemNotFound: there is no such object, or it has no such attribute.
    """
    found = ta.objects.get(args[0] & _U32)
    if found is None:
        raise ItemNotFound(f"no object {args[0] & _U32:#x}")
    _look_at_usage(ta, args[0], found)
    content = found.get_attr(args[1] & _U32)
    buffer, size = args[2], args[3]
    (room,) = _SIZE.unpack(ta.read(size, _SIZE.size))
    if isinstance(content, tuple):
        data = _VALUE.pack(*content)
    else:
        data = content
        ta.write(size, _SIZE.pack(len(data)))
        if not data and not found.is_one_secret:
            return TEE_SUCCESS
    if room < len(data) or not buffer:
        return TEE_ERROR_SHORT_BUFFER
    if data:
        ta.write(buffer, data)
    return TEE_SUCCESS


def syscall_cryp_obj_alloc(ta: "UserTa", args: Sequence[int]) -> None:
    made = CryptObject(args[0] & _U32, args[1])
    handle = ta.new_handle()
    ta.write_private(args[2], _HANDLE.pack(handle))
    ta.objects[handle] = made


def syscall_cryp_obj_close(ta: "UserTa", args: Sequence[int]) -> None:
    """Close an object; raises ItemNotFound for one that belongs to an operation."""
    if get_object(ta, args[0]).busy:
        raise ItemNotFound(f"object {args[0] & _U32:#x} is a key of an operation")
    close_object(ta, args[0])


def syscall_cryp_obj_reset(ta: "UserTa", args: Sequence[int]) -> None:
    get_object(ta, args[0]).reset()


def syscall_cryp_obj_populate(ta: "UserTa", args: Sequence[int]) -> None:
    found = get_object(ta, args[0])
    found.may_populate()
    found.populate(copy_in_attrs(ta, args[1], args[2]))


def syscall_cryp_obj_copy(ta: "UserTa", args: Sequence[int]) -> None:
    to = get_object(ta, args[0])
    to.copy(get_object(ta, args[1]))


def syscall_obj_generate_key(ta: "UserTa", args: Sequence[int]) -> None:
    found = get_object(ta, args[0])
    found.may_generate(args[1])
    found.generate(args[1], copy_in_attrs(ta, args[2], args[3]))


ROWS = {
    abi.TEE_SCN_CRYP_OBJ_GET_INFO: syscall_cryp_obj_get_info,
    abi.TEE_SCN_CRYP_OBJ_RESTRICT_USAGE: syscall_cryp_obj_restrict_usage,
    abi.TEE_SCN_CRYP_OBJ_GET_ATTR: syscall_cryp_obj_get_attr,
    abi.TEE_SCN_CRYP_OBJ_ALLOC: syscall_cryp_obj_alloc,
    abi.TEE_SCN_CRYP_OBJ_CLOSE: syscall_cryp_obj_close,
    abi.TEE_SCN_CRYP_OBJ_RESET: syscall_cryp_obj_reset,
    abi.TEE_SCN_CRYP_OBJ_POPULATE: syscall_cryp_obj_populate,
    abi.TEE_SCN_CRYP_OBJ_COPY: syscall_cryp_obj_copy,
    abi.TEE_SCN_CRYP_OBJ_GENERATE_KEY: syscall_obj_generate_key,
}
