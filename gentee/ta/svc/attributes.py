# SPDX-License-Identifier: BSD-2-Clause
"""Attributes that a TA passes: copy_in_attrs() of ``core/tee/tee_svc_cryp.c``."""

from gentee.abi import optee_ta as abi
from gentee.abi.gp import TEE_ERROR_OVERFLOW
from gentee.abi.gp_crypto import TEE_ATTR_FLAG_VALUE
from gentee.crypto.objects import BOUNCE_BUFFER_SIZE, Attribute
from gentee.errors import OutOfMemory, TeeError
from gentee.ta.engine.space import BadAddress
from gentee.ta.svc.memory import check_access_rights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.user_ta import UserTa

_ATTRIBUTE = abi.UTEE_ATTRIBUTE
_U32 = 0xFFFF_FFFF
_READ = abi.TEE_MEMORY_ACCESS_READ | abi.TEE_MEMORY_ACCESS_ANY_OWNER


def copy_in_attrs(ta: "UserTa", address: int, count: int) -> list[Attribute]:
    """The ``struct utee_attribute`` array at an address, read once.

    Bytes of attributes are copied, too, but for long ones in one region: see Attribute.data.

    :raises BadAddress: the TA may not read the array, or what one of them refers to.
    :raises OutOfMemory: there are more than OP-TEE has room for.
    """
    size = count * _ATTRIBUTE.size
    if size >> 64:
        raise TeeError(TEE_ERROR_OVERFLOW, detail=f"{count} attributes")
    if size > BOUNCE_BUFFER_SIZE:
        raise OutOfMemory(f"{count} attributes")
    attributes = []
    for a, b, number in _ATTRIBUTE.iter_unpack(ta.read(address, size) if size else b""):
        if number & TEE_ATTR_FLAG_VALUE:
            attributes.append(Attribute(number, b"", a & _U32, b & _U32))
        else:
            attributes.append(Attribute(number, _reference(ta, a, b)))
    return attributes


def _reference(ta: "UserTa", address: int, size: int) -> bytes | memoryview:
    if not size:
        return b""
    if size <= BOUNCE_BUFFER_SIZE:
        return ta.read(address, size)
    try:
        return ta.space.view(address, size)
    except BadAddress:
        # Nothing that OP-TEE takes is so long, but for a label: it must be in one piece here.
        check_access_rights(ta, _READ, address, size)
        raise OutOfMemory(f"{size} bytes of an attribute in several regions") from None
