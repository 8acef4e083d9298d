# SPDX-License-Identifier: BSD-2-Clause
"""Rights of access, and caches: ``vm_check_access_rights()`` of ``core/mm/vm.c``, ``svc_cache.c``.

A TA's private memory is what it does not share: its image, its stack, what the loader gave it, and
what it maps without PTA_SYSTEM_MAP_FLAG_SHAREABLE. Its client's memory is not, and that of a client
of the normal world is the only one that is not secure.
"""

from collections.abc import Sequence

from gentee.abi import optee_ta as abi
from gentee.errors import NotSupported
from gentee.ta.client_memory import NORMAL_MEMORY, SHARED
from gentee.ta.engine.base import PROT_READ, PROT_WRITE
from gentee.ta.engine.space import BadAddress, Region

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.user_ta import UserTa

MAP_ZI = "map_zi"  # Region.name of what the TA mapped itself

CACHE_CLEAN, CACHE_FLUSH, CACHE_INVALIDATE = range(3)  # enum utee_cache_operation

_RIGHTS = (0, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE)
_SECURITY = abi.TEE_MEMORY_ACCESS_SECURE | abi.TEE_MEMORY_ACCESS_NONSECURE


def check_access_rights(ta: "UserTa", flags: int, address: int, size: int) -> None:
    """Check that the TA has ``size`` bytes at ``address`` with the rights TEE_MEMORY_ACCESS_*.

    Without TEE_MEMORY_ACCESS_ANY_OWNER they must be in one region of its private memory.

    :raises BadAddress: it has not.
    """
    if flags & _SECURITY == _SECURITY:
        raise BadAddress("secure and not secure")
    if not size:
        return
    region = ta.space.find(address)
    if region is None:
        raise BadAddress(f"{address:#x} is not mapped")
    prot = _RIGHTS[flags & 3]
    private = not flags & abi.TEE_MEMORY_ACCESS_ANY_OWNER
    end = address + size
    if private and (region.owner == SHARED or end > region.end):
        raise BadAddress(f"{size} bytes at {address:#x} are not the TA's own")
    while True:
        if region.prot & prot != prot:
            raise BadAddress(f"{size} bytes at {address:#x}")
        if flags & _SECURITY:
            secure = flags & abi.TEE_MEMORY_ACCESS_SECURE != 0
            if is_secure(region) is not secure:
                raise BadAddress(f"{size} bytes at {address:#x}: {secure=}")
        if end <= region.end:
            return
        region = ta.space.find(region.end)
        if region is None:
            raise BadAddress(f"{size} bytes at {address:#x}")


def is_secure(region: Region) -> bool:
    """Whether it is the TEE's memory, or of a secure data path, whoever passed it."""
    return region.owner != SHARED or region.name != NORMAL_MEMORY


def syscall_check_access_rights(ta: "UserTa", args: Sequence[int]) -> None:
    check_access_rights(ta, args[0] & 0xFFFFFFFF, args[1], args[2])


def syscall_cache_operation(ta: "UserTa", args: Sequence[int]) -> None:
    """Do to caches nothing, for there are none between a TA and its clients.

    :raises NotSupported: the TA has no TA_FLAG_CACHE_MAINTENANCE, or the operation does not exist.
    """
    if not ta.flags & abi.TA_FLAG_CACHE_MAINTENANCE:
        raise NotSupported("the TA has no TA_FLAG_CACHE_MAINTENANCE")
    address, size, operation = args[0], args[1], args[2] & 0xFFFFFFFF
    end = address + size
    region = ta.space.find(address)
    # Of private memory not a byte. Whatever follows the first region must be mapped as well.
    while region is not None and (region.owner == SHARED or not size):
        if end <= region.end:
            if operation > CACHE_INVALIDATE:
                raise NotSupported(f"cache operation {operation}")
            return
        region = ta.space.find(region.end)
    raise BadAddress(f"{size} bytes at {address:#x}")


ROWS = {
    abi.TEE_SCN_CHECK_ACCESS_RIGHTS: syscall_check_access_rights,
    abi.TEE_SCN_CACHE_OPERATION: syscall_cache_operation,
}
