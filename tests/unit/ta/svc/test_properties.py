# SPDX-License-Identifier: BSD-2-Clause
"""get_property and get_property_name_to_index."""

import pytest

import gentee
from gentee.abi import optee_ta as abi
from gentee.abi.gp import (
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_SHORT_BUFFER,
    TEE_LOGIN_PUBLIC,
)
from gentee.ta.svc.properties import SETS, native_uuid, uuid_octets
from tests.svc_ta import CLIENT, CODE, DATA, LENT, NATIVE_UUID, NOWHERE, UUID, TestedTa, everything

TEE = abi.TEE_PROPSET_TEE_IMPLEMENTATION
OWN = abi.TEE_PROPSET_CURRENT_TA
CURRENT_CLIENT = abi.TEE_PROPSET_CURRENT_CLIENT
GET, INDEX = abi.TEE_SCN_GET_PROPERTY, abi.TEE_SCN_GET_PROPERTY_NAME_TO_INDEX

# Where the calls of these tests have their things.
NAME, NAME_LEN, BUF, BLEN, KIND = DATA, DATA + 0x100, DATA + 0x200, DATA + 0x400, DATA + 0x500

BOOL, U32, TYPE_UUID, IDENTITY, STRING = range(5)

# core/tee/tee_svc.c, in its order.
TEE_TABLE = [
    ("gpd.tee.apiversion", STRING, b"GPD-1.1-dev\0"),
    ("gpd.tee.description", STRING, b"OPTEE\0"),
    (
        "gpd.tee.deviceID",
        TYPE_UUID,
        bytes.fromhex("89abe994434cea568b3545dc07226830"),
    ),
    ("gpd.tee.systemTime.protectionLevel", U32, b"\x64\0\0\0"),
    ("gpd.tee.TAPersistentTime.protectionLevel", U32, b"\x64\0\0\0"),
    ("gpd.tee.cryptography.ecc", BOOL, None),
    ("gpd.tee.trustedStorage.antiRollback.protectionLevel", U32, b"\x64\0\0\0"),
    (
        "gpd.tee.trustedos.implementation.version",
        STRING,
        f"gentee {gentee.__version__}\0".encode(),
    ),
    ("gpd.tee.trustedos.implementation.binaryversion", U32, bytes(4)),
    ("gpd.tee.trustedos.manufacturer", STRING, b"gentee\0"),
    ("gpd.tee.firmware.implementation.version", STRING, b"FW_IMPL_UNDEF\0"),
    ("gpd.tee.firmware.implementation.binaryversion", U32, bytes(4)),
    ("gpd.tee.firmware.manufacturer", STRING, b"FW_MAN_UNDEF\0"),
    ("org.trustedfirmware.optee.cpu.feat_bti_implemented", BOOL, None),
    ("org.trustedfirmware.optee.cpu.feat_pauth_implemented", BOOL, None),
]
CLIENT_TABLE = [
    (
        "gpd.client.identity",
        IDENTITY,
        TEE_LOGIN_PUBLIC.to_bytes(4, "little")
        + bytes((3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15)),
    ),
    ("gpd.client.endian", U32, bytes(4)),
]
OWN_TABLE = [("gpd.ta.appID", TYPE_UUID, NATIVE_UUID)]


def get(ta: TestedTa, which: int, index: int) -> tuple[str, int, bytes]:
    ta.put_u32(NAME_LEN, 0x100)
    ta.put_u32(BLEN, 0x200)
    assert ta.call(GET, which, index, NAME, NAME_LEN, BUF, BLEN, KIND) == 0
    name = ta.read(NAME, ta.u32(NAME_LEN))
    assert name.endswith(b"\0")
    return name[:-1].decode(), ta.u32(KIND), ta.read(BUF, ta.u32(BLEN))


def index_of(ta: TestedTa, which: int, name: bytes) -> int:
    ta.write(NAME, name)
    return ta.call(INDEX, which, NAME, len(name), KIND)


@pytest.mark.parametrize(
    ("which", "table"), [(TEE, TEE_TABLE), (CURRENT_CLIENT, CLIENT_TABLE), (OWN, OWN_TABLE)]
)
def test_all(ta: TestedTa, which: int, table: list[tuple[str, int, bytes | None]]) -> None:
    for number, (name, kind, data) in enumerate(table):
        found_name, found_kind, found = get(ta, which, number)
        assert (found_name, found_kind) == (name, kind)
        assert len(found) == 1 if data is None else found == data
        assert index_of(ta, which, name.encode() + b"\0") == 0
        assert ta.u32(KIND) == number
    for number in (len(table), len(table) + 1, 0xFFFFFFFF, 1 << 63):
        before = everything(ta)
        result = ta.call(GET, which, number, NAME, NAME_LEN, BUF, BLEN, KIND)
        assert result == TEE_ERROR_ITEM_NOT_FOUND
        assert everything(ta) == before


def test_what_the_cpu_has(ta: TestedTa) -> None:
    has = b"\1" if ta.arch == "aarch64" else b"\0"
    assert get(ta, TEE, 13)[2] == get(ta, TEE, 14)[2] == has
    memtag = b"org.trustedfirmware.optee.cpu.feat_memtag_implemented\0"
    assert index_of(ta, TEE, memtag) == TEE_ERROR_ITEM_NOT_FOUND


def test_without_a_client(ta: TestedTa) -> None:
    ta.session = 0
    assert get(ta, CURRENT_CLIENT, 0)[2] == bytes(20)


@pytest.mark.parametrize("which", [0, 0xFFFFFFFC, 0xFFFFFFFFFFFFFFFE, 1 << 32 | TEE])
def test_no_such_set(ta: TestedTa, which: int) -> None:
    assert ta.call(GET, which, 0, 0, 0, 0, 0, 0) == TEE_ERROR_ITEM_NOT_FOUND
    assert index_of(ta, which, b"gpd.ta.appID\0") == TEE_ERROR_ITEM_NOT_FOUND
    assert ta.call(INDEX, which, 0, 0, KIND) == TEE_ERROR_ITEM_NOT_FOUND


@pytest.mark.parametrize("room", [0, 1, 11])
def test_short_buffers(ta: TestedTa, room: int) -> None:
    ta.write(BUF, b"\xff" * 16)
    ta.put_u32(BLEN, room)
    ta.put_u32(NAME_LEN, 0)
    result = ta.call(GET, TEE, 0, NAME, NAME_LEN, BUF, BLEN, KIND)
    assert result == TEE_ERROR_SHORT_BUFFER
    assert ta.u32(BLEN) == 12
    assert ta.read(BUF, 16) == b"\xff" * 16
    assert ta.u32(NAME_LEN) == 0  # the name comes after the value
    assert ta.call(GET, TEE, 0, NAME, NAME_LEN, 0, 0, 0) == TEE_ERROR_SHORT_BUFFER
    assert ta.u32(NAME_LEN) == len("gpd.tee.apiversion") + 1
    assert ta.call(GET, TEE, 0, NAME, NAME_LEN, 0, 0, 0) == 0


def test_only_what_there_is_a_pointer_for(ta: TestedTa) -> None:
    before = everything(ta)
    for args in ((0, 0, 0, 0, 0), (NAME, 0, 0, 0, 0), (0, NAME_LEN, 0, 0, 0), (0, 0, BUF, 0, 0)):
        assert ta.call(GET, TEE, 0, *args) == 0
        assert everything(ta) == before
    assert ta.call(GET, TEE, 0, 0, 0, 0, 0, KIND) == 0
    assert ta.u32(KIND) == STRING


def test_shared_memory_will_do(ta: TestedTa) -> None:
    ta.put_u32(LENT + 0x100, 64)
    assert ta.call(GET, TEE, 1, 0, 0, LENT, LENT + 0x100, LENT + 0x200) == 0
    assert ta.read(LENT, 6) == b"OPTEE\0"


def test_bad_pointers(ta: TestedTa) -> None:
    denied = TEE_ERROR_ACCESS_DENIED
    ta.put_u32(BLEN, 64)
    ta.put_u32(NAME_LEN, 64)
    assert ta.call(GET, TEE, 0, 0, 0, BUF, BLEN, CODE) == denied
    assert ta.read(BUF, 4) == bytes(4)  # the type comes first
    assert ta.call(GET, TEE, 0, 0, 0, BUF, NOWHERE, 0) == denied
    assert ta.call(GET, TEE, 0, NOWHERE, NAME_LEN, 0, 0, 0) == denied
    assert ta.u32(NAME_LEN) == 19  # the length is written all the same
    assert ta.call(GET, TEE, 0, 0, 0, NOWHERE, BLEN, 0) == denied
    assert ta.u32(BLEN) == 12
    assert ta.call(GET, TEE, 0, 0, 0, BUF, CODE, 0) == denied  # a length that cannot be written


def test_names(ta: TestedTa) -> None:
    assert index_of(ta, OWN, b"gpd.ta.appID\0and more\0") == 0
    assert index_of(ta, OWN, b"gpd.ta.appIDx") == 0  # the last byte is taken for the NUL
    assert index_of(ta, OWN, b"gpd.ta.appID") == TEE_ERROR_ITEM_NOT_FOUND
    assert index_of(ta, OWN, b"gpd.ta.appid\0") == TEE_ERROR_ITEM_NOT_FOUND
    assert index_of(ta, OWN, b"\0") == TEE_ERROR_ITEM_NOT_FOUND
    assert ta.call(INDEX, OWN, 0, 4, KIND) == TEE_ERROR_BAD_PARAMETERS
    assert ta.call(INDEX, OWN, NAME, 0, KIND) == TEE_ERROR_BAD_PARAMETERS
    assert ta.call(INDEX, OWN, NOWHERE, 4, KIND) == TEE_ERROR_ACCESS_DENIED
    assert ta.call(INDEX, OWN, NAME, 1 << 40, KIND) == TEE_ERROR_OUT_OF_MEMORY
    ta.write(NAME, b"gpd.ta.appID\0")
    assert ta.call(INDEX, OWN, NAME, 13, CODE) == TEE_ERROR_ACCESS_DENIED


def test_uuids() -> None:
    assert native_uuid(UUID) == NATIVE_UUID
    assert uuid_octets(NATIVE_UUID) == UUID
    assert uuid_octets(native_uuid(CLIENT)) == CLIENT


def test_sizes_do_not_depend_on_who_asks() -> None:
    for members in SETS.values():
        for each in members:
            assert each.name.endswith(b"\0")
            assert len(each.data) > 0
