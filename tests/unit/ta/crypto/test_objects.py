# SPDX-License-Identifier: BSD-2-Clause
"""Transient objects under their GlobalPlatform names: what is returned, what is a panic."""

import gc

import pytest

from gentee.abi.gp import (
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_BAD_STATE,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_NOT_SUPPORTED,
)
from gentee.errors import BadParameters, ItemNotFound, NotSupported, TaPanic
from gentee.ta import Memref, crypto
from gentee.ta.crypto import (
    TEE_ATTR_DH_X_BITS,
    TEE_ATTR_ECC_CURVE,
    TEE_ATTR_ECC_PRIVATE_VALUE,
    TEE_ATTR_ECC_PUBLIC_VALUE_X,
    TEE_ATTR_ECC_PUBLIC_VALUE_Y,
    TEE_ATTR_RSA_MODULUS,
    TEE_ATTR_RSA_PUBLIC_EXPONENT,
    TEE_ATTR_SECRET_VALUE,
    TEE_ECC_CURVE_NIST_P192,
    TEE_ECC_CURVE_NIST_P256,
    TEE_HANDLE_FLAG_INITIALIZED,
    TEE_TYPE_AES,
    TEE_TYPE_DATA,
    TEE_TYPE_ECDSA_KEYPAIR,
    TEE_TYPE_ECDSA_PUBLIC_KEY,
    TEE_TYPE_GENERIC_SECRET,
    TEE_TYPE_HMAC_SHA256,
    TEE_TYPE_RSA_KEYPAIR,
    TEE_TYPE_RSA_PUBLIC_KEY,
    TEE_USAGE_DEFAULT,
    TEE_USAGE_ENCRYPT,
    TEE_USAGE_EXTRACTABLE,
    TEE_AllocateTransientObject,
    TEE_CloseObject,
    TEE_CopyObjectAttributes1,
    TEE_FreeTransientObject,
    TEE_GenerateKey,
    TEE_GenerateRandom,
    TEE_GetObjectBufferAttribute,
    TEE_GetObjectInfo1,
    TEE_GetObjectValueAttribute,
    TEE_InitRefAttribute,
    TEE_InitValueAttribute,
    TEE_ObjectInfo,
    TEE_PopulateTransientObject,
    TEE_ResetTransientObject,
    TEE_RestrictObjectUsage1,
)
from tests.ta_crypto import panics, secret

KEY = bytes(range(32))
P256 = TEE_InitValueAttribute(TEE_ATTR_ECC_CURVE, TEE_ECC_CURVE_NIST_P256)


def test_a_new_object() -> None:
    key = TEE_AllocateTransientObject(TEE_TYPE_AES, 192)
    assert TEE_GetObjectInfo1(key) == TEE_ObjectInfo(
        TEE_TYPE_AES, 0, 192, TEE_USAGE_DEFAULT, 0, 0, 0
    )
    assert repr(key) == "ObjectHandle(TEE_TYPE_AES, not initialized)"
    panics(lambda: TEE_GetObjectBufferAttribute(key, TEE_ATTR_SECRET_VALUE))


@pytest.mark.parametrize(
    ("object_type", "size"),
    [(TEE_TYPE_AES, 100), (TEE_TYPE_AES, 512), (TEE_TYPE_DATA, 0), (0xA0000099, 128), (0, 0)],
)
def test_no_such_object(object_type: int, size: int) -> None:
    with pytest.raises(NotSupported):
        TEE_AllocateTransientObject(object_type, size)


def test_populate() -> None:
    key = secret(TEE_TYPE_AES, KEY)
    info = TEE_GetObjectInfo1(key)
    assert (info.object_size, info.handle_flags) == (256, TEE_HANDLE_FLAG_INITIALIZED)
    assert TEE_GetObjectBufferAttribute(key, TEE_ATTR_SECRET_VALUE) == KEY
    assert repr(key) == "ObjectHandle(TEE_TYPE_AES, 256 bits)"


def test_populate_that_is_refused() -> None:
    """Of the attributes only their size may be wrong; the rest is misuse."""
    attribute = TEE_InitRefAttribute(TEE_ATTR_SECRET_VALUE, bytes(20))
    key = TEE_AllocateTransientObject(TEE_TYPE_AES, 256)
    with pytest.raises(BadParameters):
        TEE_PopulateTransientObject(key, [attribute])
    panics(lambda: TEE_PopulateTransientObject(key, []), TEE_ERROR_ITEM_NOT_FOUND)
    panics(lambda: TEE_PopulateTransientObject(key, [P256]), TEE_ERROR_ITEM_NOT_FOUND)
    short = TEE_AllocateTransientObject(TEE_TYPE_AES, 128)
    whole = TEE_InitRefAttribute(TEE_ATTR_SECRET_VALUE, KEY)
    panics(lambda: TEE_PopulateTransientObject(short, [whole]), TEE_ERROR_BAD_STATE)
    # With a value it is misuse, whatever the attributes.
    again = secret(TEE_TYPE_AES, KEY)
    panics(lambda: TEE_PopulateTransientObject(again, [attribute]), TEE_ERROR_BAD_PARAMETERS)


def test_what_a_panic_says() -> None:
    with pytest.raises(TaPanic, match=r"TEE_PopulateTransientObject: an attribute is missing"):
        TEE_PopulateTransientObject(TEE_AllocateTransientObject(TEE_TYPE_AES, 256), [])


def test_attributes() -> None:
    buffer = bytearray(KEY)
    attribute = TEE_InitRefAttribute(TEE_ATTR_SECRET_VALUE, memoryview(buffer)[:16])
    buffer[:] = bytes(32)
    assert attribute.data == KEY[:16]
    assert TEE_InitRefAttribute(TEE_ATTR_SECRET_VALUE, Memref(KEY, 5)).data == KEY[:5]
    assert TEE_InitRefAttribute(TEE_ATTR_SECRET_VALUE, Memref(None)).data == b""
    assert TEE_InitRefAttribute(TEE_ATTR_SECRET_VALUE, memoryview(KEY)[::-1]).data == KEY[::-1]
    assert P256[2:] == (TEE_ECC_CURVE_NIST_P256, 0)
    panics(lambda: TEE_InitRefAttribute(TEE_ATTR_ECC_CURVE, b""), TEE_ERROR_BAD_PARAMETERS)
    panics(lambda: TEE_InitValueAttribute(TEE_ATTR_SECRET_VALUE, 1), TEE_ERROR_BAD_PARAMETERS)
    for values in ((-1, 0), (0, 1 << 32)):
        panics(lambda values=values: TEE_InitValueAttribute(TEE_ATTR_ECC_CURVE, *values))  # type: ignore[misc]


def test_reset() -> None:
    key = secret(TEE_TYPE_AES, KEY)
    TEE_RestrictObjectUsage1(key, TEE_USAGE_ENCRYPT)
    TEE_ResetTransientObject(key)
    assert TEE_GetObjectInfo1(key)[1:] == (0, 256, TEE_USAGE_DEFAULT, 0, 0, 0)
    TEE_PopulateTransientObject(key, [TEE_InitRefAttribute(TEE_ATTR_SECRET_VALUE, KEY[:16])])
    assert TEE_GetObjectInfo1(key).object_size == 128
    TEE_ResetTransientObject(None)


@pytest.mark.parametrize("free", [TEE_FreeTransientObject, TEE_CloseObject])
def test_free(free: object) -> None:
    assert callable(free)
    key = secret(TEE_TYPE_AES, KEY)
    free(key)
    assert repr(key) == "ObjectHandle(freed)"
    for use in (free, TEE_GetObjectInfo1, TEE_ResetTransientObject):
        panics(lambda use=use: use(key), TEE_ERROR_BAD_STATE)  # type: ignore[misc]
    free(None)


def test_secrets_are_wiped_when_an_object_goes() -> None:
    key = secret(TEE_TYPE_AES, KEY)
    assert key._object is not None
    kept = key._object._bytes[TEE_ATTR_SECRET_VALUE]
    assert kept == KEY
    del key
    gc.collect()
    assert kept == bytes(32)


def test_usage() -> None:
    key = secret(TEE_TYPE_AES, KEY)
    TEE_RestrictObjectUsage1(key, TEE_USAGE_ENCRYPT | TEE_USAGE_EXTRACTABLE)
    TEE_RestrictObjectUsage1(key, TEE_USAGE_DEFAULT ^ TEE_USAGE_EXTRACTABLE)
    assert TEE_GetObjectInfo1(key).object_usage == TEE_USAGE_ENCRYPT
    panics(lambda: TEE_GetObjectBufferAttribute(key, TEE_ATTR_SECRET_VALUE))


def test_attributes_of_an_object() -> None:
    key = TEE_AllocateTransientObject(TEE_TYPE_ECDSA_KEYPAIR, 256)
    TEE_GenerateKey(key, 256, [P256])
    assert TEE_GetObjectValueAttribute(key, TEE_ATTR_ECC_CURVE) == (TEE_ECC_CURVE_NIST_P256, 0)
    assert 0 < len(TEE_GetObjectBufferAttribute(key, TEE_ATTR_ECC_PRIVATE_VALUE)) <= 32
    for missing in (TEE_ATTR_RSA_MODULUS, TEE_ATTR_SECRET_VALUE):
        with pytest.raises(ItemNotFound):
            TEE_GetObjectBufferAttribute(key, missing)
    with pytest.raises(ItemNotFound):
        TEE_GetObjectValueAttribute(key, TEE_ATTR_DH_X_BITS)
    panics(lambda: TEE_GetObjectBufferAttribute(key, TEE_ATTR_ECC_CURVE))
    panics(lambda: TEE_GetObjectValueAttribute(key, TEE_ATTR_ECC_PRIVATE_VALUE))
    TEE_RestrictObjectUsage1(key, 0)
    panics(lambda: TEE_GetObjectBufferAttribute(key, TEE_ATTR_ECC_PRIVATE_VALUE))
    assert TEE_GetObjectBufferAttribute(key, TEE_ATTR_ECC_PUBLIC_VALUE_X)


def test_copy() -> None:
    pair = TEE_AllocateTransientObject(TEE_TYPE_ECDSA_KEYPAIR, 256)
    TEE_GenerateKey(pair, 256, [P256])
    TEE_RestrictObjectUsage1(pair, TEE_USAGE_EXTRACTABLE)
    public = TEE_AllocateTransientObject(TEE_TYPE_ECDSA_PUBLIC_KEY, 256)
    TEE_CopyObjectAttributes1(public, pair)
    for attribute in (TEE_ATTR_ECC_PUBLIC_VALUE_X, TEE_ATTR_ECC_PUBLIC_VALUE_Y):
        one, other = (TEE_GetObjectBufferAttribute(key, attribute) for key in (public, pair))
        assert one == other
    with pytest.raises(ItemNotFound):
        TEE_GetObjectBufferAttribute(public, TEE_ATTR_ECC_PRIVATE_VALUE)
    assert TEE_GetObjectInfo1(public).object_usage == TEE_USAGE_EXTRACTABLE


def test_copy_that_is_misuse() -> None:
    full, empty = secret(TEE_TYPE_AES, KEY), TEE_AllocateTransientObject(TEE_TYPE_AES, 256)
    panics(lambda: TEE_CopyObjectAttributes1(full, full))
    panics(lambda: TEE_CopyObjectAttributes1(full, empty))
    panics(lambda: TEE_CopyObjectAttributes1(empty, empty))
    other = TEE_AllocateTransientObject(TEE_TYPE_HMAC_SHA256, 256)
    panics(lambda: TEE_CopyObjectAttributes1(other, full), TEE_ERROR_BAD_PARAMETERS)
    TEE_FreeTransientObject(full)
    panics(lambda: TEE_CopyObjectAttributes1(empty, full), TEE_ERROR_BAD_STATE)


@pytest.mark.parametrize("size", [128, 192, 256])
def test_generate(size: int) -> None:
    keys = [TEE_AllocateTransientObject(TEE_TYPE_AES, 256) for _ in range(2)]
    for key in keys:
        TEE_GenerateKey(key, size)
        assert TEE_GetObjectInfo1(key).object_size == size
    one, other = (TEE_GetObjectBufferAttribute(key, TEE_ATTR_SECRET_VALUE) for key in keys)
    assert len(one) == size // 8
    assert one != other


def test_generate_rsa() -> None:
    key = TEE_AllocateTransientObject(TEE_TYPE_RSA_KEYPAIR, 1024)
    exponent = TEE_InitRefAttribute(TEE_ATTR_RSA_PUBLIC_EXPONENT, b"\x03")
    with pytest.raises(BadParameters):
        TEE_GenerateKey(key, 1024, [exponent])
    key = TEE_AllocateTransientObject(TEE_TYPE_RSA_KEYPAIR, 1024)
    TEE_GenerateKey(key, 1024)
    modulus = int.from_bytes(TEE_GetObjectBufferAttribute(key, TEE_ATTR_RSA_MODULUS), "big")
    assert modulus.bit_length() == 1024


def test_generate_that_is_refused() -> None:
    key = TEE_AllocateTransientObject(TEE_TYPE_ECDSA_KEYPAIR, 256)
    p192 = TEE_InitValueAttribute(TEE_ATTR_ECC_CURVE, TEE_ECC_CURVE_NIST_P192)
    with pytest.raises(BadParameters):
        TEE_GenerateKey(key, 256, [p192])
    with pytest.raises(BadParameters):
        TEE_GenerateKey(key, -1)
    panics(lambda: TEE_GenerateKey(key, 256), TEE_ERROR_ITEM_NOT_FOUND)
    panics(lambda: TEE_GenerateKey(key, 100, [P256]), TEE_ERROR_NOT_SUPPORTED)
    full = secret(TEE_TYPE_AES, KEY)
    panics(lambda: TEE_GenerateKey(full, 256), TEE_ERROR_BAD_STATE)
    public = TEE_AllocateTransientObject(TEE_TYPE_RSA_PUBLIC_KEY, 1024)
    panics(lambda: TEE_GenerateKey(public, 1024))


def test_random() -> None:
    assert len(TEE_GenerateRandom(33)) == 33
    assert TEE_GenerateRandom(16) != TEE_GenerateRandom(16)
    panics(lambda: TEE_GenerateRandom(-1), TEE_ERROR_BAD_PARAMETERS)


def test_what_a_star_brings() -> None:
    names = crypto.__all__
    assert {"TEE_GenerateKey", "TEE_ALG_AES_GCM", "ObjectHandle"} <= set(names)
    assert all(name.startswith("TEE_") or name.endswith("Handle") for name in names)
    assert "TEE_HANDLE_NULL" not in names  # gentee.ta has it


def test_a_secret_of_no_bytes() -> None:
    empty = secret(TEE_TYPE_GENERIC_SECRET, b"")
    assert TEE_GetObjectBufferAttribute(empty, TEE_ATTR_SECRET_VALUE) == b""
