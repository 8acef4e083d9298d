# SPDX-License-Identifier: BSD-2-Clause
"""Properties, time and the rest of the framework, as far as it needs no service's process."""

import mmap
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from gentee import ta
from gentee.abi.gp import (
    TEE_ERROR_BAD_PARAMETERS,
    TEE_LOGIN_TRUSTED_APP,
    TEE_PROPSET_CURRENT_CLIENT,
    TEE_PROPSET_CURRENT_TA,
    TEE_PROPSET_TEE_IMPLEMENTATION,
)
from gentee.errors import AccessDenied, BadFormat, ItemNotFound, TaPanic
from gentee.ta import TEE_Identity, TEE_Time, TrustedApplication, types
from gentee.ta.api import TASK
from gentee.ta.sessions import _Call

OWN = UUID("4bd4c3f0-7a0c-4c1b-9f0e-1d2c3b4a5f60")
CLIENT = UUID("12345678-1234-5678-1234-567812345678")


class Service(TrustedApplication):
    uuid = str(OWN)
    version = 7
    description = "says what it is"
    single_instance = True
    keep_alive = True
    properties = {
        "com.example.text": "text",
        "com.example.small": 42,
        "com.example.large": 1 << 40,
        "com.example.yes": True,
        "com.example.bytes": b"\0\xff",
        "gpd.ta.version": "of no effect",
    }


@pytest.fixture(autouse=True)
def task() -> Iterator[None]:
    before = dict(vars(TASK))
    TASK.service = Service
    TASK.clients = {3: (TEE_LOGIN_TRUSTED_APP, CLIENT.bytes)}
    TASK.session = 3
    yield
    vars(TASK).update(before)


# Internal Core API 1.3.1 section 4.7, and what OP-TEE adds: name, type, value, form as string.
OWN_TABLE = [
    ("gpd.ta.singleInstance", "Bool", True, "true"),
    ("gpd.ta.multiSession", "Bool", False, "false"),
    ("gpd.ta.instanceKeepAlive", "Bool", True, "true"),
    ("optee.ta.instanceKeepCrashed", "Bool", False, "false"),
    ("gpd.ta.dataSize", "U32", 64 << 20, "67108864"),
    ("gpd.ta.stackSize", "U32", 8 << 20, "8388608"),
    ("gpd.ta.version", "String", "7", "7"),
    ("gpd.ta.description", "String", "says what it is", "says what it is"),
    ("gpd.ta.endian", "U32", 0, "0"),
    ("gpd.ta.doesNotCloseHandleOnCorruptObject", "Bool", False, "false"),
    ("com.example.text", "String", "text", "text"),
    ("com.example.small", "U32", 42, "42"),
    ("com.example.large", "U64", 1 << 40, "1099511627776"),
    ("com.example.yes", "Bool", True, "true"),
    ("com.example.bytes", "BinaryBlock", b"\0\xff", "AP8="),
    ("gpd.ta.appID", "UUID", OWN, str(OWN)),
]
CLIENT_TABLE = [
    (
        "gpd.client.identity",
        "Identity",
        TEE_Identity(TEE_LOGIN_TRUSTED_APP, CLIENT),
        f"{TEE_LOGIN_TRUSTED_APP}:{CLIENT}",
    ),
    ("gpd.client.endian", "U32", 0, "0"),
]
TEE_TABLE = [
    ("gpd.tee.arith.maxBigIntSize", "U32", 2048, "2048"),
    ("gpd.tee.internalCore.version", "U32", 0x01030100, "16974080"),
    ("gpd.tee.apiversion", "String", "GPD-1.1-dev", "GPD-1.1-dev"),
    ("gpd.tee.description", "String", "OPTEE", "OPTEE"),
    ("gpd.tee.systemTime.protectionLevel", "U32", 100, "100"),
    ("gpd.tee.TAPersistentTime.protectionLevel", "U32", 100, "100"),
    ("gpd.tee.cryptography.ecc", "Bool", True, "true"),
    ("gpd.tee.trustedStorage.antiRollback.protectionLevel", "U32", 100, "100"),
    ("gpd.tee.trustedos.implementation.binaryversion", "U32", 0, "0"),
    ("gpd.tee.firmware.implementation.version", "String", "FW_IMPL_UNDEF", "FW_IMPL_UNDEF"),
    ("gpd.tee.firmware.manufacturer", "String", "FW_MAN_UNDEF", "FW_MAN_UNDEF"),
]
ALL = [
    (handle, *row)
    for handle, table in (
        (TEE_PROPSET_CURRENT_TA, OWN_TABLE),
        (TEE_PROPSET_CURRENT_CLIENT, CLIENT_TABLE),
        (TEE_PROPSET_TEE_IMPLEMENTATION, TEE_TABLE),
    )
    for row in table
]
TYPES = ("String", "Bool", "U32", "U64", "BinaryBlock", "UUID", "Identity")


def getter(type_: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(ta, f"TEE_GetPropertyAs{type_}")
    return function


@pytest.mark.parametrize(("handle", "name", "type_", "value", "text"), ALL)
def test_values(handle: int, name: str, type_: str, value: object, text: str) -> None:
    found = getter(type_)(handle, name)
    assert found == value
    assert type(found) is type(value)
    assert ta.TEE_GetPropertyAsString(handle, name) == text


@pytest.mark.parametrize(("handle", "name", "type_", "value", "text"), ALL)
def test_other_types(handle: int, name: str, type_: str, value: object, text: str) -> None:
    for other in TYPES[1:]:
        if other != type_:
            with pytest.raises(BadFormat):
                getter(other)(handle, name)


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("name", ["", "gpd", "gpd.ta.nothing", "gpd.tee.description "])
def test_unknown_names(type_: str, name: str) -> None:
    for handle in (
        TEE_PROPSET_CURRENT_TA,
        TEE_PROPSET_CURRENT_CLIENT,
        TEE_PROPSET_TEE_IMPLEMENTATION,
        0,
    ):
        with pytest.raises(ItemNotFound):
            getter(type_)(handle, name)


def test_all_of_own_properties() -> None:
    enumerator = ta.TEE_AllocatePropertyEnumerator()
    ta.TEE_StartPropertyEnumerator(enumerator, TEE_PROPSET_CURRENT_TA)
    assert list(enumerator) == [row[0] for row in OWN_TABLE]


def test_all_of_the_tees_properties() -> None:
    enumerator = ta.TEE_AllocatePropertyEnumerator()
    ta.TEE_StartPropertyEnumerator(enumerator, TEE_PROPSET_TEE_IMPLEMENTATION)
    names = list(enumerator)
    assert set(names) >= {row[0] for row in TEE_TABLE}
    for name in names:
        assert ta.TEE_GetPropertyAsString(TEE_PROPSET_TEE_IMPLEMENTATION, name) is not None
    mandatory = """
        gpd.tee.internalCore.version gpd.tee.description gpd.tee.deviceID gpd.tee.apiversion
        gpd.tee.systemTime.protectionLevel gpd.tee.TAPersistentTime.protectionLevel
        gpd.tee.arith.maxBigIntSize gpd.tee.cryptography.ecc gpd.tee.cryptography.nist
        gpd.tee.trustedos.implementation.version gpd.tee.trustedos.manufacturer
        gpd.tee.firmware.implementation.version gpd.tee.firmware.manufacturer
        gpd.tee.event.maxSources
    """
    assert set(mandatory.split()) <= set(names)


def test_enumerator_step_by_step() -> None:
    enumerator = ta.TEE_AllocatePropertyEnumerator()
    for function in (
        ta.TEE_GetPropertyName,
        ta.TEE_GetNextProperty,
        ta.TEE_GetPropertyAsString,
    ):
        with pytest.raises(ItemNotFound):
            function(enumerator)
    ta.TEE_StartPropertyEnumerator(enumerator, TEE_PROPSET_CURRENT_CLIENT)
    assert ta.TEE_GetPropertyName(enumerator) == "gpd.client.identity"
    assert ta.TEE_GetPropertyAsIdentity(enumerator).uuid == CLIENT
    with pytest.raises(BadFormat):
        ta.TEE_GetPropertyAsU32(enumerator)
    ta.TEE_GetNextProperty(enumerator)
    assert ta.TEE_GetPropertyAsU32(enumerator, "ignored") == 0
    for _ in range(2):
        with pytest.raises(ItemNotFound):
            ta.TEE_GetNextProperty(enumerator)
    ta.TEE_StartPropertyEnumerator(enumerator, TEE_PROPSET_CURRENT_CLIENT)
    ta.TEE_ResetPropertyEnumerator(enumerator)
    with pytest.raises(ItemNotFound):
        ta.TEE_GetPropertyName(enumerator)
    ta.TEE_FreePropertyEnumerator(enumerator)
    with pytest.raises(TaPanic):
        ta.TEE_StartPropertyEnumerator(enumerator, TEE_PROPSET_CURRENT_TA)


def test_no_client_without_a_session() -> None:
    TASK.session = 0
    with pytest.raises(ItemNotFound):
        ta.TEE_GetPropertyAsIdentity(TEE_PROPSET_CURRENT_CLIENT, "gpd.client.identity")


def test_a_property_needs_a_name() -> None:
    with pytest.raises(TaPanic):
        ta.TEE_GetPropertyAsString(TEE_PROPSET_CURRENT_TA)


# Time


def test_system_time_does_not_go_back() -> None:
    times = [ta.TEE_GetSystemTime() for _ in range(100)]
    assert times == sorted(times)
    assert all(0 <= time.millis < 1000 for time in times)


@pytest.mark.parametrize("time", [(-1, 0), (1 << 32, 0), (0, 1000), (0, -1)])
def test_no_time(time: tuple[int, int]) -> None:
    with pytest.raises(TaPanic) as caught:
        ta.TEE_SetTAPersistentTime(TEE_Time(*time))
    assert caught.value.code == TEE_ERROR_BAD_PARAMETERS


# Memory, random, instance data


def test_access_rights() -> None:
    read, write, any_owner = (
        ta.TEE_MEMORY_ACCESS_READ,
        ta.TEE_MEMORY_ACCESS_WRITE,
        ta.TEE_MEMORY_ACCESS_ANY_OWNER,
    )
    ta.TEE_CheckMemoryAccessRights(read, b"x")
    ta.TEE_CheckMemoryAccessRights(read | write, bytearray(b"x"))
    ta.TEE_CheckMemoryAccessRights(write, b"")
    with pytest.raises(AccessDenied):
        ta.TEE_CheckMemoryAccessRights(write, b"x")
    with pytest.raises(AccessDenied):
        ta.TEE_CheckMemoryAccessRights(write, memoryview(bytearray(b"x")).toreadonly())
    with mmap.mmap(-1, 4096) as area, memoryview(area) as view, view[:10] as part:
        ta.TEE_CheckMemoryAccessRights(read | write | any_owner, part)
        with pytest.raises(AccessDenied):
            ta.TEE_CheckMemoryAccessRights(read, part)
    with pytest.raises(TaPanic):
        ta.TEE_CheckMemoryAccessRights(8, b"x")


def test_compare() -> None:
    assert ta.TEE_MemCompare(b"same", bytearray(b"same")) == 0
    assert ta.TEE_MemCompare(b"same", b"sane") == 1
    with pytest.raises(TaPanic):
        ta.TEE_MemCompare(b"short", b"longer")


def test_random() -> None:
    assert len(ta.TEE_GenerateRandom(32)) == 32
    assert ta.TEE_GenerateRandom(32) != ta.TEE_GenerateRandom(32)
    assert ta.TEE_GenerateRandom(0) == b""
    with pytest.raises(TaPanic):
        ta.TEE_GenerateRandom(-1)


def test_instance_data() -> None:
    assert ta.TEE_GetInstanceData() is None
    ta.TEE_SetInstanceData([1])
    assert ta.TEE_GetInstanceData() == [1]
    ta.TEE_SetInstanceData(None)


@pytest.mark.parametrize("uuid", [OWN, str(OWN), OWN.bytes])
def test_forms_of_a_uuid(uuid: types.UuidLike) -> None:
    assert types.uuid_bytes(uuid) == OWN.bytes


@pytest.mark.parametrize("uuid", ["", "4bd4c3f0", bytes(15), None, 7])
def test_no_uuid(uuid: Any) -> None:
    with pytest.raises(TaPanic):
        types.uuid_bytes(uuid)


def test_too_many_parameters() -> None:
    with pytest.raises(TaPanic):
        _Call(0, [None] * 5)
