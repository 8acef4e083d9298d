# SPDX-License-Identifier: BSD-2-Clause
"""The system pseudo TA's commands on the caller's own address space: ``core/pta/system.c``.

They are done where that address space is, in the TA's process. What else the pseudo TA does is
gentee's (:mod:`gentee.secure.pta`).

A TA can take away what it has mapped itself, also a part of it. In OP-TEE it can do so with its
image and stack as well; here that is TEE_ERROR_ACCESS_DENIED.
"""

from collections.abc import Callable

from gentee.abi import optee_pta as pta
from gentee.abi import optee_ta as abi
from gentee.abi.gp import (
    TEE_ERROR_SECURITY,
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_MEMREF_OUTPUT,
    TEE_PARAM_TYPE_NONE,
    TEE_PARAM_TYPE_VALUE_INOUT,
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_VALUE_OUTPUT,
    TEE_PARAM_TYPES,
    TEE_SUCCESS,
)
from gentee.errors import (
    AccessConflict,
    AccessDenied,
    BadParameters,
    OutOfMemory,
    TaImageError,
    TeeError,
)
from gentee.ta.client_memory import SHARED
from gentee.ta.engine.base import PROT_READ, PROT_WRITE
from gentee.ta.engine.space import HIGH, LOW, Region, round_up
from gentee.ta.svc.control import ERROR
from gentee.ta.svc.memory import MAP_ZI, check_access_rights
from gentee.ta.svc.properties import uuid_octets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.user_ta import UserTa

UUID = bytes.fromhex(pta.PTA_SYSTEM_UUID.replace("-", ""))

MAP_FLAG_SHAREABLE = 1 << 0  # PTA_SYSTEM_MAP_FLAG_SHAREABLE

_PAGE = abi.SMALL_PAGE_SIZE
_MASK32 = 0xFFFFFFFF
_MAX_SYMBOL = 4096
_SECURE_OUTPUT = (
    abi.TEE_MEMORY_ACCESS_WRITE | abi.TEE_MEMORY_ACCESS_ANY_OWNER | abi.TEE_MEMORY_ACCESS_SECURE
)

_MAP_ZI_TYPES = TEE_PARAM_TYPES(
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_VALUE_INOUT,
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_NONE,
)
_UNMAP_TYPES = TEE_PARAM_TYPES(
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_NONE,
    TEE_PARAM_TYPE_NONE,
)
_DLOPEN_TYPES = TEE_PARAM_TYPES(
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_NONE,
    TEE_PARAM_TYPE_NONE,
)
_DLSYM_TYPES = TEE_PARAM_TYPES(
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_VALUE_OUTPUT,
    TEE_PARAM_TYPE_NONE,
)
_DERIVE_TYPES = TEE_PARAM_TYPES(
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_MEMREF_OUTPUT,
    TEE_PARAM_TYPE_NONE,
    TEE_PARAM_TYPE_NONE,
)


def invoke(ta: "UserTa", cmd: int, types: int, vals: list[int]) -> int | None:
    """Do a command; its result, or None for one that gentee does.

    :param vals: two for each parameter, as :mod:`gentee.ta.svc.sessions` checked them. Outputs are
        updated in place.
    """
    command = _COMMANDS.get(cmd)
    if command is None:
        return None
    try:
        return command(ta, types, vals)
    except TeeError as error:
        return error.code


def _map_zi(ta: "UserTa", types: int, vals: list[int]) -> int:
    """Map zeroed memory, private or shareable, at an address that the TA wants or at any."""
    if types != _MAP_ZI_TYPES:
        raise BadParameters(f"parameter types {types:#x}")
    size, flags, high, low, pad_begin, pad_end = vals[:6]
    if flags & ~MAP_FLAG_SHAREABLE or not size:
        raise BadParameters("size or flags")
    owner = SHARED if flags & MAP_FLAG_SHAREABLE else None
    space = ta.space
    size = round_up(size)
    wanted = high << 32 | low
    # OP-TEE allocates before it looks for a place.
    if space.used + size > space.limit:
        raise OutOfMemory(f"{size} bytes of TA memory, {space.limit - space.used} are left")
    if (wanted | pad_begin | pad_end) & (_PAGE - 1):
        raise AccessConflict("not whole pages")
    if wanted:
        _check_free(ta, wanted, size, pad_begin, pad_end, owner)
        address = wanted
    else:
        try:
            address = space.place(pad_begin + size + pad_end) + pad_begin
        except OutOfMemory as error:
            raise AccessConflict(error.detail) from error
    memory = space.allocate(size)
    try:
        space.map(address, memory, PROT_READ | PROT_WRITE, MAP_ZI, owner)
    except BaseException:
        space.used -= size
        raise
    vals[2], vals[3] = address >> 32, address & _MASK32
    return TEE_SUCCESS


def _check_free(
    ta: "UserTa", address: int, size: int, pad_begin: int, pad_end: int, owner: object
) -> None:
    """AccessConflict unless nothing is in a range and its pads, as ``select_va_in_range()``.

    What can be shared and what cannot have a page between them.
    """
    start, end = address - pad_begin, address + size + pad_end
    if start < LOW or end > HIGH:
        raise AccessConflict(f"{address:#x} is out of range")
    for region in ta.space:
        gap = _PAGE if (region.owner == SHARED) != (owner == SHARED) else 0
        if region.address < end + gap and start < region.end + gap:
            raise AccessConflict(f"{address:#x} is taken by {region.name}")


def _unmap(ta: "UserTa", types: int, vals: list[int]) -> int:
    """Take away mappings of :func:`_map_zi`: one, neighbouring ones, or a part."""
    if types != _UNMAP_TYPES:
        raise BadParameters(f"parameter types {types:#x}")
    size, flags, high, low = vals[:4]
    address, size = high << 32 | low, round_up(size)
    end = address + size
    if flags or not size or address % _PAGE:
        raise BadParameters("flags, or not whole pages")
    regions: list[Region] = []
    at = address
    while at < end:
        region = ta.space.find(at)
        if region is None or (regions and region.owner != regions[0].owner):
            raise BadParameters(f"{at:#x} is not mapped as what is before it")
        regions.append(region)
        at = region.end
    if any(region.name != MAP_ZI for region in regions):
        raise AccessDenied(f"{address:#x}: not the TA's to take away")
    for region in regions:
        _cut(ta, region, max(address, region.address), min(end, region.end))
    return TEE_SUCCESS


def _cut(ta: "UserTa", region: Region, start: int, end: int) -> None:
    """Take a part of a region away; what is before it and behind it stays.

    What stays is copied: else it would keep the memory of the whole.

    :raises OutOfMemory: one region more than there is room for. All stays as it was.
    """
    space = ta.space
    kept = [(low, high) for low, high in ((region.address, start), (end, region.end)) if low < high]
    if len(kept) > 1:
        space.check_regions()
    copies: list[tuple[int, memoryview]] = []
    before = space.used
    space.used -= region.size
    is_mapped = True
    parts: list[Region] = []
    try:
        for low, high in kept:
            memory = space.allocate(high - low)
            memory[:] = region.memory[low - region.address : high - region.address]
            copies.append((low, memory))
        space.unmap(region)
        is_mapped = False
        for low, memory in copies:
            parts.append(space.map(low, memory, region.prot, region.name, region.owner))
    except OutOfMemory:
        space.used = before
        for part in parts:
            space.unmap(part)
        if not is_mapped:
            space.map(region.address, region.memory, region.prot, region.name, region.owner)
        raise


def _uuid(ta: "UserTa", vals: list[int]) -> bytes:
    if not vals[0] or vals[1] != abi.TEE_UUID.size:
        raise BadParameters("no UUID")
    return uuid_octets(ta.read(vals[0], abi.TEE_UUID.size))


def _dlopen(ta: "UserTa", types: int, vals: list[int]) -> int:
    """Load a library."""
    if types != _DLOPEN_TYPES:
        raise BadParameters(f"parameter types {types:#x}")
    try:
        ta.loader.dlopen(_uuid(ta, vals), vals[2])
    except TaImageError as error:
        ta.log(ERROR, f"dlopen: {error}")
        return error.code
    return TEE_SUCCESS


def _dlsym(ta: "UserTa", types: int, vals: list[int]) -> int:
    """Find a symbol."""
    if types != _DLSYM_TYPES:
        raise BadParameters(f"parameter types {types:#x}")
    uuid = _uuid(ta, vals)
    if not vals[2] or not vals[3]:
        raise BadParameters("no symbol")
    # No symbol has a name that is as long as what OP-TEE has room for.
    name = ta.read(vals[2], min(vals[3], _MAX_SYMBOL)).partition(b"\0")[0]
    address = ta.loader.dlsym(uuid, name)
    vals[4], vals[5] = address >> 32 & _MASK32, address & _MASK32
    return TEE_SUCCESS


def _derive_ta_unique_key(ta: "UserTa", types: int, vals: list[int]) -> int | None:
    """The key must not go where clients see it; that only this process can tell."""
    if types != _DERIVE_TYPES or vals[1] > pta.TA_DERIVED_EXTRA_DATA_MAX_SIZE:
        return None
    if not pta.TA_DERIVED_KEY_MIN_SIZE <= vals[3] <= pta.TA_DERIVED_KEY_MAX_SIZE:
        return None
    try:
        check_access_rights(ta, _SECURE_OUTPUT, vals[2], vals[3])
    except TeeError:
        return TEE_ERROR_SECURITY
    return None


_COMMANDS: dict[int, Callable[["UserTa", int, list[int]], int | None]] = {
    pta.PTA_SYSTEM_DERIVE_TA_UNIQUE_KEY: _derive_ta_unique_key,
    pta.PTA_SYSTEM_MAP_ZI: _map_zi,
    pta.PTA_SYSTEM_UNMAP: _unmap,
    pta.PTA_SYSTEM_DLOPEN: _dlopen,
    pta.PTA_SYSTEM_DLSYM: _dlsym,
}
