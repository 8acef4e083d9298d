# SPDX-License-Identifier: BSD-2-Clause
"""The system calls of transient objects: arguments, handles and the memory of the TA."""

import pytest

from gentee.abi import gp_crypto as gp
from gentee.abi import optee_ta as abi
from gentee.abi.gp import (
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_BAD_STATE,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_OVERFLOW,
    TEE_ERROR_SECURITY,
    TEE_ERROR_SHORT_BUFFER,
    TEE_SUCCESS,
)
from gentee.ta import user_ta
from gentee.ta.svc.attributes import copy_in_attrs
from tests.svc_ta import CODE, DATA, LENT, NOWHERE, PAGE, RW, STACK, TestedTa, everything

OK = TEE_SUCCESS
DENIED = TEE_ERROR_ACCESS_DENIED
SECRET = gp.TEE_ATTR_SECRET_VALUE
HANDLE = DATA  # where a handle is written to
ATTRS = DATA + 64  # where attributes are
BYTES = DATA + 1024  # and what they refer to
SIZE = STACK
KEY = bytes(range(100, 116))

Attr = tuple[int, bytes] | tuple[int, int, int]


def alloc(ta: TestedTa, obj_type: int, size: int) -> int:
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_ALLOC, obj_type, size, HANDLE) == OK
    return ta.u32(HANDLE)


def put(ta: TestedTa, *attributes: Attr) -> tuple[int, int]:
    """Write an array of attributes and what they refer to; its address and length."""
    data = b""
    at = BYTES
    for attr in attributes:
        if isinstance(attr[1], bytes):
            ta.write(at, attr[1])
            data += abi.UTEE_ATTRIBUTE.pack(at, len(attr[1]), attr[0])
            at += len(attr[1])
        else:
            assert len(attr) == 3
            data += abi.UTEE_ATTRIBUTE.pack(attr[1], attr[2], attr[0])
    ta.write(ATTRS, data)
    return ATTRS, len(attributes)


def populate(ta: TestedTa, handle: int, *attributes: Attr) -> int:
    return ta.call(abi.TEE_SCN_CRYP_OBJ_POPULATE, handle, *put(ta, *attributes))


def aes(ta: TestedTa) -> int:
    handle = alloc(ta, gp.TEE_TYPE_AES, 256)
    assert populate(ta, handle, (SECRET, KEY)) == OK
    return handle


def info(ta: TestedTa, handle: int) -> tuple[int, ...]:
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_GET_INFO, handle, DATA) == OK
    return abi.UTEE_OBJECT_INFO.unpack(ta.read(DATA, abi.UTEE_OBJECT_INFO.size))


def get_attr(ta: TestedTa, handle: int, attr: int, buffer: int, room: int) -> tuple[int, int]:
    """The result, and the size that it says."""
    ta.write(SIZE, room.to_bytes(8, "little"))
    result = ta.call(abi.TEE_SCN_CRYP_OBJ_GET_ATTR, handle, attr, buffer, SIZE)
    return result, int.from_bytes(ta.read(SIZE, 8), "little")


def test_handles(ta: TestedTa) -> None:
    first, second = aes(ta), aes(ta)
    assert 0 not in (first, second)
    assert first != second
    assert ta.objects.keys() == {first, second}
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_CLOSE, 1 << 32 | first) == OK  # the low half counts
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_CLOSE, first) == TEE_ERROR_BAD_STATE
    assert alloc(ta, gp.TEE_TYPE_DATA, 0) not in (first, second)


def test_handles_go_round(ta: TestedTa) -> None:
    kept = aes(ta)
    ta._last_handle = 0xFFFFFFFE
    assert [alloc(ta, gp.TEE_TYPE_SM4, 128) for _ in range(3)] == [0xFFFFFFFF, kept + 1, kept + 2]


def test_there_are_not_too_many(ta: TestedTa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_ta, "MAX_HANDLES", 3)
    handles = [aes(ta) for _ in range(3)]
    args = (gp.TEE_TYPE_AES, 128, HANDLE)
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_ALLOC, *args) == TEE_ERROR_OUT_OF_MEMORY
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_CLOSE, handles[0]) == OK
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_ALLOC, *args) == OK


@pytest.mark.parametrize("address", [LENT, CODE, NOWHERE, 0, STACK + 2 * PAGE - 2])
def test_a_handle_goes_to_private_memory(ta: TestedTa, address: int) -> None:
    before = everything(ta)
    result = ta.call(abi.TEE_SCN_CRYP_OBJ_ALLOC, gp.TEE_TYPE_AES, 128, address)
    assert result == DENIED
    assert everything(ta) == before
    assert not ta.objects


def test_no_such_type(ta: TestedTa) -> None:
    call = abi.TEE_SCN_CRYP_OBJ_ALLOC
    for obj_type, size in ((0, 0), (gp.TEE_TYPE_AES, 100), (gp.TEE_TYPE_AES, 1 << 32 | 128)):
        # What is wrong with the object comes before what is wrong with the address
        assert ta.call(call, obj_type, size, NOWHERE) == TEE_ERROR_NOT_SUPPORTED
    assert ta.call(call, 1 << 32 | gp.TEE_TYPE_AES, 128, HANDLE) == OK  # uint32_t obj_type


def test_info(ta: TestedTa) -> None:
    handle = aes(ta)
    assert info(ta, handle) == (gp.TEE_TYPE_AES, 128, 256, 0xFFFFFFFF, 0, 0, 0x20000)
    usage = (0xAB << 32) | gp.TEE_USAGE_ENCRYPT
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_RESTRICT_USAGE, handle, usage) == OK
    assert info(ta, handle)[3] == gp.TEE_USAGE_ENCRYPT
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_RESET, handle) == OK
    assert info(ta, handle) == (gp.TEE_TYPE_AES, 0, 256, 0xFFFFFFFF, 0, 0, 0)
    for address in (LENT, CODE, NOWHERE):
        assert ta.call(abi.TEE_SCN_CRYP_OBJ_GET_INFO, handle, address) == DENIED


@pytest.mark.parametrize(
    ("number", "result"),
    [
        (abi.TEE_SCN_CRYP_OBJ_GET_INFO, TEE_ERROR_BAD_STATE),
        (abi.TEE_SCN_CRYP_OBJ_RESTRICT_USAGE, TEE_ERROR_BAD_STATE),
        (abi.TEE_SCN_CRYP_OBJ_GET_ATTR, TEE_ERROR_ITEM_NOT_FOUND),
        (abi.TEE_SCN_CRYP_OBJ_CLOSE, TEE_ERROR_BAD_STATE),
        (abi.TEE_SCN_CRYP_OBJ_RESET, TEE_ERROR_BAD_STATE),
        (abi.TEE_SCN_CRYP_OBJ_POPULATE, TEE_ERROR_BAD_STATE),
        (abi.TEE_SCN_CRYP_OBJ_COPY, TEE_ERROR_BAD_STATE),
        (abi.TEE_SCN_CRYP_OBJ_GENERATE_KEY, TEE_ERROR_BAD_STATE),
    ],
)
def test_no_such_object(ta: TestedTa, number: int, result: int) -> None:
    aes(ta)
    for handle in (0, 77, 0xFFFFFFFF):
        assert ta.call(number, handle, NOWHERE, NOWHERE, NOWHERE) == result


def test_keys_of_operations_are_not_closed(ta: TestedTa) -> None:
    handle = aes(ta)
    ta.objects[handle].busy = True
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_CLOSE, handle) == TEE_ERROR_ITEM_NOT_FOUND
    assert handle in ta.objects


def test_closed_secrets_are_overwritten(ta: TestedTa) -> None:
    handle = aes(ta)
    key = ta.objects[handle]
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_CLOSE, handle) == OK
    assert key.secret() == b""


# Attributes out


@pytest.mark.parametrize("buffer", [DATA + 100, LENT + PAGE - 8, CODE - 1 + PAGE + 1])
def test_get_secret(ta: TestedTa, buffer: int) -> None:
    handle = aes(ta)
    assert get_attr(ta, handle, SECRET, buffer, 16) == (OK, 16)
    assert ta.read(buffer, 16) == KEY
    ta.write(buffer, bytes(20))
    assert get_attr(ta, handle, 0xFF << 32 | SECRET, buffer, 17) == (OK, 16)
    assert ta.read(buffer, 17) == KEY + b"\0"


def test_short_buffer(ta: TestedTa) -> None:
    handle = aes(ta)
    for buffer, room in ((DATA, 15), (DATA, 0), (0, 16), (0, 1 << 63), (NOWHERE, 15)):
        memory = everything(ta)[f"{DATA:#x}"]
        assert get_attr(ta, handle, SECRET, buffer, room) == (TEE_ERROR_SHORT_BUFFER, 16)
        assert everything(ta)[f"{DATA:#x}"] == memory


def test_bad_buffer(ta: TestedTa) -> None:
    handle = aes(ta)
    for buffer in (CODE, NOWHERE, DATA - 8, LENT + 3 * PAGE - 8):
        assert get_attr(ta, handle, SECRET, buffer, 16) == (DENIED, 16)  # the size is written
    call = abi.TEE_SCN_CRYP_OBJ_GET_ATTR
    for size in (CODE, NOWHERE, 0, STACK - 4):
        assert ta.call(call, handle, SECRET, DATA, size) == DENIED


def test_get_value(ta: TestedTa) -> None:
    handle = alloc(ta, gp.TEE_TYPE_ECDSA_PUBLIC_KEY, 521)
    x, y, curve = (
        gp.TEE_ATTR_ECC_PUBLIC_VALUE_X,
        gp.TEE_ATTR_ECC_PUBLIC_VALUE_Y,
        gp.TEE_ATTR_ECC_CURVE,
    )
    given: tuple[Attr, ...] = ((x, b"\0\0\5"), (y, b""), (curve, 2, 9))
    assert populate(ta, handle, *given) == OK
    assert info(ta, handle)[1] == 224
    ta.write(DATA, b"\xff" * 16)
    # The size of a value is neither said nor changed
    assert get_attr(ta, handle, curve, DATA, 9) == (OK, 9)
    assert ta.read(DATA, 9) == b"\2\0\0\0\0\0\0\0\xff"
    assert get_attr(ta, handle, curve, DATA, 7) == (TEE_ERROR_SHORT_BUFFER, 7)
    assert get_attr(ta, handle, curve, 0, 8) == (TEE_ERROR_SHORT_BUFFER, 8)
    assert get_attr(ta, handle, x, DATA, 8) == (OK, 1)
    assert ta.read(DATA, 1) == b"\5"
    # A number that is 0 has no bytes, and needs no buffer for them
    assert get_attr(ta, handle, y, 0, 0) == (OK, 0)
    assert get_attr(ta, handle, gp.TEE_ATTR_RSA_MODULUS, DATA, 8) == (TEE_ERROR_ITEM_NOT_FOUND, 8)


def test_get_empty_secret(ta: TestedTa) -> None:
    handle = alloc(ta, gp.TEE_TYPE_GENERIC_SECRET, 0)
    assert populate(ta, handle, (SECRET, b"")) == OK
    assert get_attr(ta, handle, SECRET, NOWHERE, 0) == (OK, 0)
    assert get_attr(ta, handle, SECRET, 0, 0) == (TEE_ERROR_SHORT_BUFFER, 0)


def test_what_is_not_given(ta: TestedTa) -> None:
    handle = alloc(ta, gp.TEE_TYPE_AES, 128)
    assert get_attr(ta, handle, SECRET, DATA, 16) == (TEE_ERROR_BAD_PARAMETERS, 16)
    handle = aes(ta)
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_RESTRICT_USAGE, handle, gp.TEE_USAGE_MAC) == OK
    assert get_attr(ta, handle, SECRET, DATA, 16) == (TEE_ERROR_BAD_PARAMETERS, 16)


# Attributes in


def test_attributes_from_shared_memory(ta: TestedTa) -> None:
    handle = alloc(ta, gp.TEE_TYPE_AES, 128)
    ta.write(LENT + PAGE, KEY)
    ta.write(LENT, abi.UTEE_ATTRIBUTE.pack(LENT + PAGE, 16, SECRET))
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_POPULATE, handle, LENT, 1) == OK
    ta.write(LENT + PAGE, bytes(16))
    assert ta.objects[handle].secret() == KEY


@pytest.mark.parametrize(
    ("address", "size", "result"),
    [
        (NOWHERE, 16, DENIED),
        (DATA + 2 * PAGE - 15, 16, DENIED),
        (0, 16, DENIED),
        (CODE, 16, OK),  # it can be read
        (CODE + PAGE - 8, 16, OK),  # over two regions
        (NOWHERE, 1 << 32, DENIED),
        (DATA, (1 << 64) - 1, DENIED),
        (DATA, PAGE + 1, TEE_ERROR_SECURITY),  # it can be read, and does not fit
        (STACK, PAGE + 1, TEE_ERROR_OUT_OF_MEMORY),  # over two regions, and longer than any key
        (DATA, 17, TEE_ERROR_BAD_PARAMETERS),
    ],
)
def test_what_an_attribute_refers_to(ta: TestedTa, address: int, size: int, result: int) -> None:
    handle = alloc(ta, gp.TEE_TYPE_AES, 256)
    attrs = put(ta, (SECRET, KEY))
    ta.write(ATTRS, abi.UTEE_ATTRIBUTE.pack(address, size, SECRET))
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_POPULATE, handle, *attrs) == result
    assert ta.objects[handle].is_initialized == (result == OK)


def test_a_reference_comes_before_what_is_wrong_with_the_attribute(ta: TestedTa) -> None:
    handle = alloc(ta, gp.TEE_TYPE_AES, 256)
    modulus = gp.TEE_ATTR_RSA_MODULUS
    ta.write(ATTRS, abi.UTEE_ATTRIBUTE.pack(NOWHERE, 1, modulus))
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_POPULATE, handle, ATTRS, 1) == DENIED
    ta.write(ATTRS, abi.UTEE_ATTRIBUTE.pack(NOWHERE, 0, modulus))  # no bytes are anywhere
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_POPULATE, handle, ATTRS, 1) == TEE_ERROR_ITEM_NOT_FOUND


@pytest.mark.parametrize(
    ("count", "result"),
    [
        (0, TEE_ERROR_ITEM_NOT_FOUND),
        (170, TEE_ERROR_ITEM_NOT_FOUND),  # what fits into OP-TEE's buffer
        (171, TEE_ERROR_OUT_OF_MEMORY),
        (1 << 59, TEE_ERROR_OUT_OF_MEMORY),
        (1 << 63, TEE_ERROR_OVERFLOW),
    ],
)
def test_number_of_attributes(ta: TestedTa, count: int, result: int) -> None:
    handle = alloc(ta, gp.TEE_TYPE_AES, 256)
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_POPULATE, handle, DATA, count) == result


def test_array_that_cannot_be_read(ta: TestedTa) -> None:
    handle = alloc(ta, gp.TEE_TYPE_AES, 256)
    for address in (0, NOWHERE, DATA + 2 * PAGE - 8):
        assert ta.call(abi.TEE_SCN_CRYP_OBJ_POPULATE, handle, address, 1) == DENIED
        args = (handle, 128, address, 1)
        assert ta.call(abi.TEE_SCN_CRYP_OBJ_GENERATE_KEY, *args) == DENIED
    # It is not looked at where the object cannot be populated
    handle = aes(ta)
    bad = TEE_ERROR_BAD_PARAMETERS
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_POPULATE, handle, NOWHERE, 1) == bad
    args = (handle, 128, NOWHERE, 1)
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_GENERATE_KEY, *args) == TEE_ERROR_BAD_STATE


def test_long_attributes_are_not_copied(ta: TestedTa) -> None:
    ta.add(NOWHERE, 8, RW, "heap", None)
    label = gp.TEE_ATTR_RSA_OAEP_LABEL
    ta.write(ATTRS, abi.UTEE_ATTRIBUTE.pack(NOWHERE + 1, 8 * PAGE - 1, label))
    (attr,) = copy_in_attrs(ta, ATTRS, 1)
    assert isinstance(attr.data, memoryview)
    assert len(attr.data) == 8 * PAGE - 1
    ta.write(ATTRS, abi.UTEE_ATTRIBUTE.pack(NOWHERE, PAGE, label))
    (attr,) = copy_in_attrs(ta, ATTRS, 1)
    assert isinstance(attr.data, bytes)
    ta.write(ATTRS, abi.UTEE_ATTRIBUTE.pack(1 << 32 | 5, 1 << 33 | 6, gp.TEE_ATTR_ECC_CURVE))
    (attr,) = copy_in_attrs(ta, ATTRS, 1)
    assert (attr.a, attr.b) == (5, 6)


# Whole lives


def test_copy(ta: TestedTa) -> None:
    source = aes(ta)
    to = alloc(ta, gp.TEE_TYPE_AES, 128)
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_COPY, to, source) == OK
    assert get_attr(ta, to, SECRET, DATA, 16) == (OK, 16)
    assert ta.read(DATA, 16) == KEY
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_COPY, to, source) == TEE_ERROR_BAD_PARAMETERS
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_COPY, to, 99) == TEE_ERROR_BAD_STATE
    other = alloc(ta, gp.TEE_TYPE_SM4, 128)
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_COPY, other, source) == TEE_ERROR_BAD_PARAMETERS


def test_generate(ta: TestedTa) -> None:
    call = abi.TEE_SCN_CRYP_OBJ_GENERATE_KEY
    handle = alloc(ta, gp.TEE_TYPE_RSA_KEYPAIR, 1024)
    exponent: Attr = (gp.TEE_ATTR_RSA_PUBLIC_EXPONENT, b"\1\0\1")
    assert ta.call(call, handle, 256, *put(ta, exponent, exponent)) == TEE_ERROR_ITEM_NOT_FOUND
    assert ta.call(call, handle, 1 << 32 | 256, 0, 0) == TEE_ERROR_NOT_SUPPORTED
    assert ta.call(call, handle, 256, *put(ta, exponent)) == OK
    assert info(ta, handle)[1] == 256
    assert get_attr(ta, handle, gp.TEE_ATTR_RSA_MODULUS, DATA, 64) == (OK, 32)
    modulus = int.from_bytes(ta.read(DATA, 32), "big")
    assert get_attr(ta, handle, gp.TEE_ATTR_RSA_PRIME1, DATA, 64) == (OK, 16)
    assert modulus % int.from_bytes(ta.read(DATA, 16), "big") == 0
    public = alloc(ta, gp.TEE_TYPE_RSA_PUBLIC_KEY, 256)
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_COPY, public, handle) == OK
    assert info(ta, public)[1] == 256
    assert ta.call(call, handle, 256, 0, 0) == TEE_ERROR_BAD_STATE
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_RESET, handle) == OK
    assert ta.call(call, handle, 256, 0, 0) == OK
