# SPDX-License-Identifier: BSD-2-Clause
"""Properties: ``syscall_get_property()`` and its neighbour in ``core/tee/tee_svc.c``.

These are the ones that OP-TEE's core has. All others of a TA and of the API are in its libutee,
which asks here for what it does not know, and so enumerates its own first.
"""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from gentee.abi import optee_ta as abi
from gentee.abi.gp import TEE_ERROR_SHORT_BUFFER, TEE_LOGIN_PUBLIC, TEE_SUCCESS
from gentee.errors import BadParameters, ItemNotFound, OutOfMemory
from gentee.ta import properties
from gentee.ta.engine.base import AARCH64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.user_ta import UserTa

_MAX_NAME = 4096  # bytes of a name that are looked at; OP-TEE has a heap for it

_U32 = Struct("<I")
_OCTETS = Struct(">IHH8s")  # a UUID as the octets of RFC 4122
_NOBODY = (TEE_LOGIN_PUBLIC, bytes(16))


class Property(NamedTuple):
    """A property: its name with a NUL, USER_TA_PROP_TYPE_*, its bytes or what gives them."""

    name: bytes
    type: int
    data: bytes
    get: Callable[["UserTa"], bytes] | None = None


def native_uuid(octets: bytes) -> bytes:
    """The TEE_UUID of a UUID's octets."""
    return abi.TEE_UUID.pack(*_OCTETS.unpack(octets))


def uuid_octets(native: bytes) -> bytes:
    """The octets of a TEE_UUID."""
    return _OCTETS.pack(*abi.TEE_UUID.unpack(native))


def _client_identity(ta: "UserTa") -> bytes:
    login, uuid = ta.clients.get(ta.session, _NOBODY)
    return _U32.pack(login) + native_uuid(uuid)


def _app_id(ta: "UserTa") -> bytes:
    return native_uuid(ta.uuid)


def _is_aarch64(ta: "UserTa") -> bytes:
    # A 32-bit TA asks as well; OP-TEE answers it for the CPU. The engine's 32-bit CPU has neither.
    return b"\1" if ta.arch == AARCH64 else b"\0"


def _of_tee(name: str) -> Property:
    kind, value = properties.TEE_PROPERTIES[name]
    text = name.encode() + b"\0"
    if kind == properties.U32 and isinstance(value, int):
        return Property(text, abi.USER_TA_PROP_TYPE_U32, _U32.pack(value))
    if kind == properties.BOOL:
        return Property(text, abi.USER_TA_PROP_TYPE_BOOL, b"\1" if value else b"\0")
    if isinstance(value, UUID):
        return Property(text, abi.USER_TA_PROP_TYPE_UUID, native_uuid(value.bytes))
    if isinstance(value, str):
        return Property(text, abi.USER_TA_PROP_TYPE_STRING, value.encode() + b"\0")
    raise ValueError(f"{name} has a type that OP-TEE's core does not have")


SETS: dict[int, tuple[Property, ...]] = {
    abi.TEE_PROPSET_CURRENT_CLIENT: (
        Property(
            b"gpd.client.identity\0",
            abi.USER_TA_PROP_TYPE_IDENTITY,
            bytes(abi.TEE_IDENTITY.size),
            _client_identity,
        ),
        Property(b"gpd.client.endian\0", abi.USER_TA_PROP_TYPE_U32, bytes(4)),
    ),
    abi.TEE_PROPSET_CURRENT_TA: (
        Property(b"gpd.ta.appID\0", abi.USER_TA_PROP_TYPE_UUID, bytes(16), _app_id),
    ),
    abi.TEE_PROPSET_TEE_IMPLEMENTATION: (
        *map(_of_tee, properties.OPTEE_TEE_PROPERTIES),
        # CFG_TA_BTI and CFG_TA_PAUTH; memory tagging is not there (MEMTAG_IS_ENABLED).
        Property(
            b"org.trustedfirmware.optee.cpu.feat_bti_implemented\0",
            abi.USER_TA_PROP_TYPE_BOOL,
            b"\0",
            _is_aarch64,
        ),
        Property(
            b"org.trustedfirmware.optee.cpu.feat_pauth_implemented\0",
            abi.USER_TA_PROP_TYPE_BOOL,
            b"\0",
            _is_aarch64,
        ),
    ),
}

_INDEX = {
    number: {each.name[:-1]: index for index, each in enumerate(members)}
    for number, members in SETS.items()
}


def syscall_get_property(ta: "UserTa", args: Sequence[int]) -> int:
    """Type, value and name of property ``args[1]`` of a set, each where there is a pointer for it.

    :raises ItemNotFound: the set has no such index, or there is no such set.
    """
    members = SETS.get(args[0], ())
    index, name, name_len, buf, blen, kind = args[1:7]
    if index >= len(members):
        raise ItemNotFound("no such property")
    found = members[index]
    if kind:
        ta.write(kind, _U32.pack(found.type))
    if buf and blen:
        result = _give(ta, buf, blen, found.data if found.get is None else found.get(ta))
        if result != TEE_SUCCESS:
            return result
    if name and name_len:
        return _give(ta, name, name_len, found.name)
    return TEE_SUCCESS


def _give(ta: "UserTa", buffer: int, length: int, data: bytes) -> int:
    """Write ``data`` to a buffer whose ``u32`` length is at ``length``; that becomes data's.

    A short buffer stays as it is. The length is written also where the buffer cannot be.
    """
    (room,) = _U32.unpack(ta.read(length, 4))
    size = _U32.pack(len(data))
    if room < len(data):
        ta.write(length, size)
        return TEE_ERROR_SHORT_BUFFER
    try:
        ta.write(buffer, data)
    finally:
        ta.write(length, size)
    return TEE_SUCCESS


def syscall_get_property_name_to_index(ta: "UserTa", args: Sequence[int]) -> None:
    """The index of the property with the name of ``args[2]`` bytes, NUL included, at ``args[1]``.

    Whatever the last byte is counts as NUL.
    """
    names = _INDEX.get(args[0])
    if names is None:
        raise ItemNotFound("no such property set")
    address, size = args[1], args[2]
    if not address or not size:
        raise BadParameters("a property without a name")
    if size > _MAX_NAME:
        raise OutOfMemory(f"{size} bytes of a property's name")
    name = ta.read(address, size)[:-1].partition(b"\0")[0]
    index = names.get(name)
    if index is None:
        raise ItemNotFound("no such property")
    ta.write(args[3], _U32.pack(index))


ROWS = {
    abi.TEE_SCN_GET_PROPERTY: syscall_get_property,
    abi.TEE_SCN_GET_PROPERTY_NAME_TO_INDEX: syscall_get_property_name_to_index,
}
