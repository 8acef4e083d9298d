# SPDX-License-Identifier: BSD-2-Clause
"""Properties of service, client and TEE: GP TEE Internal Core API 1.3.1 sections 4.4 and 4.7.

Names, types and order are OP-TEE's (core/tee/tee_svc.c, ta/user_ta_header.c,
lib/libutee/tee_api_property.c), and so are the values where they say what a service can rely on.
Who made the TEE is gentee's to say, and what it does not offer yet is not claimed.

A property has one type. As OP-TEE, getting it as another one is TEE_ERROR_BAD_FORMAT, but for
strings: every property has a form as string.
"""

from base64 import b64encode
from collections.abc import Iterator
from uuid import UUID

import gentee
from gentee.abi.gp import (
    TEE_ERROR_BAD_PARAMETERS,
    TEE_PROPSET_CURRENT_CLIENT,
    TEE_PROPSET_CURRENT_TA,
    TEE_PROPSET_TEE_IMPLEMENTATION,
)
from gentee.errors import BadFormat, ItemNotFound, TaPanic
from gentee.ta.api import TASK
from gentee.ta.types import TEE_Identity

U32 = "u32"
U64 = "u64"
BOOL = "bool"
STRING = "string"
BINARY_BLOCK = "binary block"
TYPE_UUID = "UUID"
IDENTITY = "identity"

Property = tuple[str, object]  # type and value

# TEE_CORE_API_VERSION: major, minor, maintenance of the document.
_CORE_API_VERSION = 1 << 24 | 3 << 16 | 1 << 8
# What OP-TEE has without a hardware unique key: the SHA-256 of "OPTEE" and the die id derived from
# 16 zero bytes, in the form of a UUID.
_DEVICE_ID = UUID("94e9ab89-4c43-56ea-8b35-45dc07226830")

# Levels of protection, section 4.7: 100 is what the normal world could change.
_PROTECTION = 100

# Of the TEE: what services in Python and OP-TEE's TAs see. The latter get those in
# OPTEE_TEE_PROPERTIES from the core, and have the first two in their libutee.
TEE_PROPERTIES: dict[str, Property] = {
    "gpd.tee.arith.maxBigIntSize": (U32, 2048),
    "gpd.tee.internalCore.version": (U32, _CORE_API_VERSION),
    "gpd.tee.apiversion": (STRING, "GPD-1.1-dev"),
    "gpd.tee.description": (STRING, "OPTEE"),
    "gpd.tee.deviceID": (TYPE_UUID, _DEVICE_ID),
    "gpd.tee.systemTime.protectionLevel": (U32, _PROTECTION),
    "gpd.tee.TAPersistentTime.protectionLevel": (U32, _PROTECTION),
    # Whether all elements of a source are there: NIST's curves are. Of the IETF's Ed448 is missing,
    # of the OCTA's SM4 with padding.
    "gpd.tee.cryptography.ecc": (BOOL, True),
    "gpd.tee.cryptography.nist": (BOOL, True),
    "gpd.tee.cryptography.bsi-r": (BOOL, False),
    "gpd.tee.cryptography.bsi-t": (BOOL, False),
    "gpd.tee.cryptography.ietf": (BOOL, False),
    "gpd.tee.cryptography.octa": (BOOL, False),
    "gpd.tee.cryptography.sec": (BOOL, False),
    "gpd.tee.trustedStorage.antiRollback.protectionLevel": (U32, _PROTECTION),
    "gpd.tee.trustedStorage.rollbackDetection.protectionLevel": (U32, _PROTECTION),
    "gpd.tee.trustedos.implementation.version": (STRING, f"gentee {gentee.__version__}"),
    "gpd.tee.trustedos.implementation.binaryversion": (U32, 0),
    "gpd.tee.trustedos.manufacturer": (STRING, "gentee"),
    "gpd.tee.firmware.implementation.version": (STRING, "FW_IMPL_UNDEF"),
    "gpd.tee.firmware.implementation.binaryversion": (U32, 0),
    "gpd.tee.firmware.manufacturer": (STRING, "FW_MAN_UNDEF"),
    "gpd.tee.event.maxSources": (U32, 0),
}

# What OP-TEE's core has, in its order (tee_propset_tee of core/tee/tee_svc.c). Two values are not
# those of an OP-TEE on a board: the protection level of system time is 1000 there, where a counter
# keeps it that the normal world cannot set; and the makers' names are a board's to say. In the API
# version OP-TEE has stayed with version 1.1 of the document, "GPD-1.1-dev", and so does gentee;
# gpd.tee.internalCore.version is the newer property for it.
OPTEE_TEE_PROPERTIES = (
    "gpd.tee.apiversion",
    "gpd.tee.description",
    "gpd.tee.deviceID",
    "gpd.tee.systemTime.protectionLevel",
    "gpd.tee.TAPersistentTime.protectionLevel",
    "gpd.tee.cryptography.ecc",
    "gpd.tee.trustedStorage.antiRollback.protectionLevel",
    "gpd.tee.trustedos.implementation.version",
    "gpd.tee.trustedos.implementation.binaryversion",
    "gpd.tee.trustedos.manufacturer",
    "gpd.tee.firmware.implementation.version",
    "gpd.tee.firmware.implementation.binaryversion",
    "gpd.tee.firmware.manufacturer",
)


def _own() -> dict[str, Property]:
    service = TASK.service
    found: dict[str, Property] = {
        "gpd.ta.singleInstance": (BOOL, service.single_instance),
        "gpd.ta.multiSession": (BOOL, service.multi_session),
        "gpd.ta.instanceKeepAlive": (BOOL, service.keep_alive),
        "optee.ta.instanceKeepCrashed": (BOOL, False),
        "gpd.ta.dataSize": (U32, TASK.data_size),
        "gpd.ta.stackSize": (U32, TASK.stack_size),
        "gpd.ta.version": (STRING, str(service.version)),
        "gpd.ta.description": (STRING, service.description),
        "gpd.ta.endian": (U32, 0),
        "gpd.ta.doesNotCloseHandleOnCorruptObject": (BOOL, False),
    }
    for name, value in service.properties.items():
        found.setdefault(name, (_type_of(value), value))
    found["gpd.ta.appID"] = (TYPE_UUID, UUID(service.uuid))
    return found


def _type_of(value: object) -> str:
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return U32 if value < 1 << 32 else U64
    return STRING if isinstance(value, str) else BINARY_BLOCK


def _client() -> dict[str, Property]:
    client = TASK.clients.get(TASK.session)
    if client is None:  # the instance is created or destroyed: there is no session
        return {}
    login, uuid = client
    return {
        "gpd.client.identity": (IDENTITY, TEE_Identity(login, UUID(bytes=uuid))),
        "gpd.client.endian": (U32, 0),
    }


def _set(handle: int) -> dict[str, Property]:
    if handle == TEE_PROPSET_TEE_IMPLEMENTATION:
        return TEE_PROPERTIES
    if handle == TEE_PROPSET_CURRENT_TA:
        return _own()
    if handle == TEE_PROPSET_CURRENT_CLIENT:
        return _client()
    raise ItemNotFound(f"no property set {handle:#x}")


class PropertyEnumerator:
    """The properties of one set, one after the other (section 4.4.8 and on). An iterator too."""

    def __init__(self) -> None:
        self._left: list[tuple[str, Property]] | None = None
        self._freed = False

    def start(self, handle: int) -> None:
        self._used()
        # What it was when it was started: a set changes with the session that is called.
        self._left = list(reversed(_set(handle).items()))

    def reset(self) -> None:
        self._used()
        self._left = None

    def free(self) -> None:
        self._used()
        self._freed = True

    def current(self) -> tuple[str, Property]:
        self._used()
        if not self._left:
            raise ItemNotFound("no property")
        return self._left[-1]

    def advance(self) -> None:
        self.current()
        assert self._left is not None
        self._left.pop()
        if not self._left:
            raise ItemNotFound("that was the last property")

    def _used(self) -> None:
        if self._freed:
            raise TaPanic(TEE_ERROR_BAD_PARAMETERS, "a freed property enumerator")

    def __iter__(self) -> Iterator[str]:
        """The names from the current one on."""
        while self._left:
            yield self._left[-1][0]
            self._left.pop()


PropSetHandle = int | PropertyEnumerator


def _get(handle: PropSetHandle, name: str | None) -> Property:
    if isinstance(handle, PropertyEnumerator):
        return handle.current()[1]
    if not isinstance(name, str):
        raise TaPanic(TEE_ERROR_BAD_PARAMETERS, "a property without a name")
    found = _set(handle).get(name)
    if found is None:
        raise ItemNotFound(f"no property {name}")
    return found


def _get_as(handle: PropSetHandle, name: str | None, type_: str) -> object:
    found, value = _get(handle, name)
    if found != type_:
        raise BadFormat(f"{name} is a {found}, no {type_}")
    return value


# Each takes one of the sets TEE_PROPSET_* and a name, or an enumerator, whose current property it
# then is. ItemNotFound: there is no such property; BadFormat: it has another type.


def TEE_GetPropertyAsString(handle: PropSetHandle, name: str | None = None) -> str:
    """A property in its form as string (section 4.4.1).

    Numbers are decimal, bools ``true`` or ``false``, an identity ``login:UUID``, binary Base64.
    """
    type_, value = _get(handle, name)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, TEE_Identity):
        return f"{value.login}:{value.uuid}"
    if type_ == BINARY_BLOCK:
        assert isinstance(value, bytes)
        return b64encode(value).decode()
    return str(value)


def TEE_GetPropertyAsBool(handle: PropSetHandle, name: str | None = None) -> bool:
    """A property of type bool (section 4.4.2)."""
    value = _get_as(handle, name, BOOL)
    assert isinstance(value, bool)
    return value


def TEE_GetPropertyAsU32(handle: PropSetHandle, name: str | None = None) -> int:
    """A number of 32 bits (section 4.4.3)."""
    value = _get_as(handle, name, U32)
    assert isinstance(value, int)
    return value


def TEE_GetPropertyAsU64(handle: PropSetHandle, name: str | None = None) -> int:
    """A number of 64 bits (section 4.4.4)."""
    value = _get_as(handle, name, U64)
    assert isinstance(value, int)
    return value


def TEE_GetPropertyAsBinaryBlock(handle: PropSetHandle, name: str | None = None) -> bytes:
    """Bytes (section 4.4.5)."""
    value = _get_as(handle, name, BINARY_BLOCK)
    assert isinstance(value, bytes)
    return value


def TEE_GetPropertyAsUUID(handle: PropSetHandle, name: str | None = None) -> UUID:
    """A UUID (section 4.4.6)."""
    value = _get_as(handle, name, TYPE_UUID)
    assert isinstance(value, UUID)
    return value


def TEE_GetPropertyAsIdentity(handle: PropSetHandle, name: str | None = None) -> TEE_Identity:
    """A client's login and UUID (section 4.4.7)."""
    value = _get_as(handle, name, IDENTITY)
    assert isinstance(value, TEE_Identity)
    return value


def TEE_AllocatePropertyEnumerator() -> PropertyEnumerator:
    """An enumerator, not started (section 4.4.8)."""
    return PropertyEnumerator()


def TEE_FreePropertyEnumerator(enumerator: PropertyEnumerator) -> None:
    """Any further use is a panic (section 4.4.9). Python does not need it."""
    enumerator.free()


def TEE_StartPropertyEnumerator(enumerator: PropertyEnumerator, handle: int) -> None:
    """Go to the first property of a set (section 4.4.10)."""
    enumerator.start(handle)


def TEE_ResetPropertyEnumerator(enumerator: PropertyEnumerator) -> None:
    """Back to before the start (section 4.4.11)."""
    enumerator.reset()


def TEE_GetPropertyName(enumerator: PropertyEnumerator) -> str:
    """The name of the current property (section 4.4.12); ItemNotFound if there is none."""
    return enumerator.current()[0]


def TEE_GetNextProperty(enumerator: PropertyEnumerator) -> None:
    """Go on to the next property (section 4.4.13); ItemNotFound after the last one."""
    enumerator.advance()
