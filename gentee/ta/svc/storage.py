# SPDX-License-Identifier: BSD-2-Clause
"""Persistent objects: the system calls 41 to 53 of OP-TEE's ``core/tee/tee_svc_storage.c``.

Here are arguments, handles and the memory of the TA, in OP-TEE's order of checks. Objects are those
of :mod:`gentee.crypto.objects`, with a place in the TEE's storage (:mod:`gentee.ta.stored`); their
position in the data is only known here, and what their size was when this handle last saw it.

What differs: an object that is found corrupt while it is opened leaves no handle behind, also if
the TA has TA_FLAG_DONT_CLOSE_HANDLE_ON_CORRUPT_OBJECT, since nobody could close it.
"""

import contextlib
from collections.abc import Sequence
from struct import Struct

from gentee.abi import gp_crypto as gp
from gentee.abi import gp_storage as gps
from gentee.abi import optee_ta as abi
from gentee.abi.gp import TEE_ERROR_OVERFLOW
from gentee.abi.ta_channel import MAX_CALL_WINDOW
from gentee.crypto.objects import CryptObject
from gentee.errors import (
    AccessConflict,
    BadParameters,
    BadState,
    CorruptObject,
    GenericError,
    ItemNotFound,
    StorageNoSpace,
    TeeError,
)
from gentee.ta.engine.space import BadAddress
from gentee.ta.stored import Found, StorageRequests, Stored
from gentee.ta.svc.cryp_obj import close_object
from gentee.ta.svc.memory import check_access_rights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.user_ta import UserTa

_U32 = 0xFFFF_FFFF
_U64 = Struct("<Q")
_HANDLE = Struct("<I")

_OPEN_FLAGS = (
    gps.TEE_DATA_FLAG_ACCESS_READ
    | gps.TEE_DATA_FLAG_ACCESS_WRITE
    | gps.TEE_DATA_FLAG_ACCESS_WRITE_META
    | gps.TEE_DATA_FLAG_SHARE_READ
    | gps.TEE_DATA_FLAG_SHARE_WRITE
)
_CREATE_FLAGS = _OPEN_FLAGS | gps.TEE_DATA_FLAG_OVERWRITE
_STORED = gp.TEE_HANDLE_FLAG_PERSISTENT | gp.TEE_HANDLE_FLAG_INITIALIZED
_STORAGES = (
    gps.TEE_STORAGE_PRIVATE,
    gps.TEE_STORAGE_PRIVATE_REE,
    gps.TEE_STORAGE_PRIVATE_RPMB,
)


def _storage(number: int) -> int:
    """tee_svc_storage_file_ops()."""
    if number & _U32 not in _STORAGES:
        raise ItemNotFound(f"no storage {number:#x}")
    return number & _U32


def _name(ta: "UserTa", address: int, size: int) -> bytes:
    return ta.read_private(address, size) if size else b""


def _object(ta: "UserTa", handle: int) -> CryptObject:
    found = ta.objects.get(handle & _U32)
    if found is None:
        raise BadState(f"no object {handle & _U32:#x}")
    return found


def _persistent(ta: "UserTa", handle: int) -> tuple[CryptObject, Stored]:
    found = _object(ta, handle)
    if not found.handle_flags & gp.TEE_HANDLE_FLAG_PERSISTENT:
        raise BadState("a transient object")
    return found, ta.stored[handle & _U32]


def _source(ta: "UserTa", address: int, size: int) -> bytes | memoryview:
    """Bytes that the TA may read: the memory itself where one region has it; BadAddress."""
    if not size:
        return b""
    try:
        return ta.space.view(address, size)
    except BadAddress:
        return ta.read(address, size)


def _remove_corrupt(ta: "UserTa", handle: int) -> None:
    """remove_corrupt_obj()"""
    with contextlib.suppress(TeeError):
        ta.stored[handle & _U32].delete()
    if not ta.flags & abi.TA_FLAG_DONT_CLOSE_HANDLE_ON_CORRUPT_OBJECT:
        close_object(ta, handle)


def _overflow() -> TeeError:
    return TeeError(TEE_ERROR_OVERFLOW, detail="a position of more than 64 bits")


def _add(ta: "UserTa", address: int, made: CryptObject, stored: Stored) -> None:
    """Give the TA a handle; what is stored is closed where it cannot have one."""
    try:
        handle = ta.new_handle()
        ta.write_private(address, _HANDLE.pack(handle))
    except TeeError:
        stored.close()
        raise
    ta.objects[handle] = made
    ta.stored[handle] = stored


def syscall_storage_obj_open(ta: "UserTa", args: Sequence[int]) -> None:
    flags = args[3]
    if flags & ~_OPEN_FLAGS:
        raise BadParameters(f"flags {flags:#x}")
    storage = _storage(args[0])
    if args[2] > gps.TEE_OBJECT_ID_MAX_LEN:
        raise BadParameters(f"an identifier of {args[2]} bytes")
    name = _name(ta, args[1], args[2])
    found, stored = StorageRequests(ta.channel).open(storage, name, flags)
    try:
        made = found.object(flags)
    except CorruptObject:
        with contextlib.suppress(TeeError):
            stored.delete()
        stored.close()
        raise
    except TeeError:
        stored.close()
        raise
    _add(ta, args[4], made, stored)


def syscall_storage_obj_create(ta: "UserTa", args: Sequence[int]) -> None:
    flags, data_size, obj = args[3], args[6], args[7]
    if flags & ~_CREATE_FLAGS:
        raise BadParameters(f"flags {flags:#x}")
    storage = _storage(args[0])
    if args[2] > gps.TEE_OBJECT_ID_MAX_LEN:
        raise BadParameters(f"an identifier of {args[2]} bytes")
    if data_size and not args[5]:
        raise BadParameters("data at address 0")
    name = _name(ta, args[1], args[2])
    requests = StorageRequests(ta.channel)
    try:
        attr = _initialized(ta, args[4]) if args[4] else None
        data = _source(ta, args[5], data_size)
    except TeeError:
        requests.may_create(storage, name, flags)  # OP-TEE has looked at that before
        raise
    if attr is not None and not obj and not attr.handle_flags & gp.TEE_HANDLE_FLAG_PERSISTENT:
        # The object that the attributes are taken from becomes the persistent one. OP-TEE does not
        # call tee_pobj_create_final() then.
        ta.stored[args[4] & _U32] = requests.create(
            storage, name, flags, attr, attr.obj_usage, data, creating=True
        )
        attr.handle_flags = _STORED | flags
        attr.data_size = data_size
        return
    made = _like(attr)
    stored = requests.create(storage, name, flags, made, made.obj_usage, data)
    made.handle_flags = _STORED | flags
    made.data_size = data_size
    if obj:
        _add(ta, obj, made, stored)
    else:
        stored.close()


def _initialized(ta: "UserTa", handle: int) -> CryptObject:
    attr = _object(ta, handle)
    if not attr.is_initialized:
        raise BadParameters("the object with the attributes is not initialized")
    return attr


def _like(attr: CryptObject | None) -> CryptObject:
    """An object with the attributes of another one, or with data alone."""
    if attr is None:
        return CryptObject(gp.TEE_TYPE_DATA, 0)
    made = CryptObject(attr.obj_type, attr.max_obj_size)
    made.copy(attr)
    if attr.handle_flags & gp.TEE_HANDLE_FLAG_PERSISTENT:
        # OP-TEE takes the usage of the handle, where that of a persistent object is not.
        made.obj_usage = 0
    return made


def syscall_storage_obj_del(ta: "UserTa", args: Sequence[int]) -> None:
    found = _object(ta, args[0])
    if not found.handle_flags & gps.TEE_DATA_FLAG_ACCESS_WRITE_META:
        raise AccessConflict("the handle may not delete")
    try:
        ta.stored[args[0] & _U32].delete()
    finally:
        close_object(ta, args[0])


def syscall_storage_obj_rename(ta: "UserTa", args: Sequence[int]) -> None:
    if args[2] > gps.TEE_OBJECT_ID_MAX_LEN:
        raise BadParameters(f"an identifier of {args[2]} bytes")
    found, stored = _persistent(ta, args[0])
    if not found.handle_flags & gps.TEE_DATA_FLAG_ACCESS_WRITE_META:
        raise BadState("the handle may not rename")
    stored.rename(_name(ta, args[1], args[2]))


# Enumerations


def _enumeration(ta: "UserTa", handle: int) -> int:
    if handle & _U32 not in ta.enumerations:
        raise BadParameters(f"no enumeration {handle & _U32:#x}")
    return handle & _U32


def _stop(ta: "UserTa", number: int) -> None:
    if ta.enumerations[number]:
        ta.enumerations[number] = False
        StorageRequests(ta.channel).stop_enum(number)


def syscall_storage_alloc_enum(ta: "UserTa", args: Sequence[int]) -> None:
    if not args[0]:
        raise BadParameters("no place for a handle")
    handle = ta.new_handle()
    ta.write_private(args[0], _HANDLE.pack(handle))
    ta.enumerations[handle] = False


def syscall_storage_free_enum(ta: "UserTa", args: Sequence[int]) -> None:
    number = _enumeration(ta, args[0])
    _stop(ta, number)
    del ta.enumerations[number]


def syscall_storage_reset_enum(ta: "UserTa", args: Sequence[int]) -> None:
    _stop(ta, _enumeration(ta, args[0]))


def syscall_storage_start_enum(ta: "UserTa", args: Sequence[int]) -> None:
    number = _enumeration(ta, args[0])
    _stop(ta, number)
    StorageRequests(ta.channel).start_enum(number, _storage(args[1]))
    ta.enumerations[number] = True


def syscall_storage_next_enum(ta: "UserTa", args: Sequence[int]) -> None:
    number = _enumeration(ta, args[0])
    write = abi.TEE_MEMORY_ACCESS_WRITE
    check_access_rights(ta, write, args[1], abi.UTEE_OBJECT_INFO.size)
    check_access_rights(ta, write, args[2], gps.TEE_OBJECT_ID_MAX_LEN)
    if not ta.enumerations[number]:
        raise ItemNotFound("an enumeration that was not started")
    found: Found = StorageRequests(ta.channel).next_enum(number)
    made = found.object(found.flags)
    made.wipe()
    info = abi.UTEE_OBJECT_INFO.pack(
        made.obj_type,
        made.obj_size,
        made.max_obj_size,
        made.obj_usage,
        made.data_size & _U32,
        0,
        made.handle_flags,
    )
    ta.write(args[1], info)
    ta.write(args[2], found.name)
    ta.write_private(args[3], _U64.pack(len(found.name)))


# Data


def syscall_storage_obj_read(ta: "UserTa", args: Sequence[int]) -> None:
    found, stored = _persistent(ta, args[0])
    address, size = args[1], args[2]
    if not found.handle_flags & gps.TEE_DATA_FLAG_ACCESS_READ:
        raise AccessConflict("the handle may not read")
    if found.data_pos + size >> 64:
        raise _overflow()
    try:
        count = _read(ta, stored, found.data_pos, address, size)
    except CorruptObject:
        _remove_corrupt(ta, args[0])
        raise
    found.data_pos += count
    ta.write_private(args[3], _U64.pack(count))


def _read(ta: "UserTa", stored: Stored, position: int, address: int, size: int) -> int:
    """Read to the TA's memory, to address 0 nothing; how much there was."""
    count = 0
    while count < size:
        data = stored.read(position + count, size - count)
        if address and len(data):
            if stored.storage == gps.TEE_STORAGE_PRIVATE_RPMB:
                write = abi.TEE_MEMORY_ACCESS_WRITE
                check_access_rights(ta, write, address + count, len(data))
            ta.write(address + count, data)
        count += len(data)
        if len(data) < MAX_CALL_WINDOW:
            break
    return count


def syscall_storage_obj_write(ta: "UserTa", args: Sequence[int]) -> None:
    found, stored = _persistent(ta, args[0])
    address, size = args[1], args[2]
    if not found.handle_flags & gps.TEE_DATA_FLAG_ACCESS_WRITE:
        raise AccessConflict("the handle may not write")
    if found.data_pos + size >> 64:
        raise _overflow()
    try:
        _write(ta, stored, found.data_pos, address, size)
    except CorruptObject:
        _remove_corrupt(ta, args[0])
        raise
    found.data_pos += size
    found.data_size = max(found.data_size, found.data_pos)


def _write(ta: "UserTa", stored: Stored, position: int, address: int, size: int) -> None:
    """Write the TA's memory; from address 0 OP-TEE writes zeros, to the RPMB nothing."""
    if not size:
        return
    rpmb = stored.storage == gps.TEE_STORAGE_PRIVATE_RPMB
    if not address and rpmb:
        return
    if size > MAX_CALL_WINDOW:
        raise StorageNoSpace(f"{size} bytes in one call")
    if not address:
        stored.write(position, bytes(size))
        return
    if rpmb:
        check_access_rights(ta, abi.TEE_MEMORY_ACCESS_READ, address, size)
    stored.write(position, _source(ta, address, size))


def syscall_storage_obj_trunc(ta: "UserTa", args: Sequence[int]) -> None:
    """Set the size of the data; TEE_ERROR_GENERIC for whatever else goes wrong than damage."""
    found, stored = _persistent(ta, args[0])
    if not found.handle_flags & gps.TEE_DATA_FLAG_ACCESS_WRITE:
        raise AccessConflict("the handle may not write")
    if len(found.to_binary()) + args[1] >> 64:
        raise _overflow()
    try:
        stored.truncate(args[1])
    except CorruptObject:
        _remove_corrupt(ta, args[0])
        raise
    except TeeError as error:
        raise GenericError(str(error)) from error
    found.data_size = args[1]


def syscall_storage_obj_seek(ta: "UserTa", args: Sequence[int]) -> None:
    found, _stored = _persistent(ta, args[0])
    offset = args[1] & _U32
    if offset >> 31:
        offset -= 1 << 32
    if args[2] == gps.TEE_DATA_SEEK_SET:
        position = offset
    elif args[2] == gps.TEE_DATA_SEEK_CUR:
        position = found.data_pos + offset
    elif args[2] == gps.TEE_DATA_SEEK_END:
        position = found.data_size + offset
    else:
        raise BadParameters(f"whence {args[2]:#x}")
    position = max(position, 0)
    if position > gps.TEE_DATA_MAX_POSITION:
        raise BadParameters(f"position {position:#x}")
    found.data_pos = position


ROWS = {
    abi.TEE_SCN_STORAGE_OBJ_OPEN: syscall_storage_obj_open,
    abi.TEE_SCN_STORAGE_OBJ_CREATE: syscall_storage_obj_create,
    abi.TEE_SCN_STORAGE_OBJ_DEL: syscall_storage_obj_del,
    abi.TEE_SCN_STORAGE_OBJ_RENAME: syscall_storage_obj_rename,
    abi.TEE_SCN_STORAGE_ENUM_ALLOC: syscall_storage_alloc_enum,
    abi.TEE_SCN_STORAGE_ENUM_FREE: syscall_storage_free_enum,
    abi.TEE_SCN_STORAGE_ENUM_RESET: syscall_storage_reset_enum,
    abi.TEE_SCN_STORAGE_ENUM_START: syscall_storage_start_enum,
    abi.TEE_SCN_STORAGE_ENUM_NEXT: syscall_storage_next_enum,
    abi.TEE_SCN_STORAGE_OBJ_READ: syscall_storage_obj_read,
    abi.TEE_SCN_STORAGE_OBJ_WRITE: syscall_storage_obj_write,
    abi.TEE_SCN_STORAGE_OBJ_TRUNC: syscall_storage_obj_trunc,
    abi.TEE_SCN_STORAGE_OBJ_SEEK: syscall_storage_obj_seek,
}
