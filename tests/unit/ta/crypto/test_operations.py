# SPDX-License-Identifier: BSD-2-Clause
"""Operations, their keys and states under their GlobalPlatform names."""

import gc

import pytest

from gentee.abi.gp import TEE_ERROR_BAD_PARAMETERS, TEE_ERROR_BAD_STATE
from gentee.errors import NotSupported, SecurityError, TaPanic
from gentee.ta.crypto import (
    OPTEE_ALG_ECDSA_P256,
    TEE_ALG_AES_CBC_NOPAD,
    TEE_ALG_AES_CTR,
    TEE_ALG_AES_CTS,
    TEE_ALG_AES_GCM,
    TEE_ALG_AES_XTS,
    TEE_ALG_DH_DERIVE_SHARED_SECRET,
    TEE_ALG_DSA_SHA1,
    TEE_ALG_DSA_SHA224,
    TEE_ALG_DSA_SHA256,
    TEE_ALG_ECDH_DERIVE_SHARED_SECRET,
    TEE_ALG_ECDSA_SHA3_256,
    TEE_ALG_ECDSA_SHA256,
    TEE_ALG_ECDSA_SHA512,
    TEE_ALG_ED25519,
    TEE_ALG_GET_CLASS,
    TEE_ALG_HMAC_SHA256,
    TEE_ALG_MD5SHA1,
    TEE_ALG_RSA_NOPAD,
    TEE_ALG_RSASSA_PKCS1_V1_5_SHA256,
    TEE_ALG_SHA256,
    TEE_ALG_SM2_KEP,
    TEE_ALG_SM2_PKE,
    TEE_ALG_SM4_XTS,
    TEE_ALG_X448,
    TEE_ALG_X25519,
    TEE_ATTR_SECRET_VALUE,
    TEE_ECC_CURVE_25519,
    TEE_ECC_CURVE_NIST_P256,
    TEE_ECC_CURVE_NIST_P384,
    TEE_HANDLE_FLAG_EXPECT_TWO_KEYS,
    TEE_HANDLE_FLAG_INITIALIZED,
    TEE_HANDLE_FLAG_KEY_SET,
    TEE_MODE_DECRYPT,
    TEE_MODE_DERIVE,
    TEE_MODE_DIGEST,
    TEE_MODE_ENCRYPT,
    TEE_MODE_MAC,
    TEE_MODE_SIGN,
    TEE_MODE_VERIFY,
    TEE_OPERATION_CIPHER,
    TEE_OPERATION_DIGEST,
    TEE_OPERATION_STATE_ACTIVE,
    TEE_OPERATION_STATE_INITIAL,
    TEE_TYPE_AES,
    TEE_TYPE_RSA_KEYPAIR,
    TEE_USAGE_DECRYPT,
    TEE_USAGE_DEFAULT,
    TEE_USAGE_ENCRYPT,
    OperationHandle,
    TEE_AEInit,
    TEE_AllocateOperation,
    TEE_AllocateTransientObject,
    TEE_AsymmetricEncrypt,
    TEE_AsymmetricSignDigest,
    TEE_CipherInit,
    TEE_CipherUpdate,
    TEE_CopyOperation,
    TEE_DeriveKey,
    TEE_DigestUpdate,
    TEE_FreeOperation,
    TEE_GenerateKey,
    TEE_GetOperationInfo,
    TEE_GetOperationInfoMultiple,
    TEE_IsAlgorithmSupported,
    TEE_MACInit,
    TEE_OperationInfo,
    TEE_OperationInfoKey,
    TEE_OperationInfoMultiple,
    TEE_ResetOperation,
    TEE_RestrictObjectUsage1,
    TEE_SetOperationKey,
    TEE_SetOperationKey2,
)
from gentee.ta.crypto.algorithms import MAX_KEY_SIZES, TWO_KEYS, USES
from tests.ta_crypto import keyed, panics, secret

KEY = bytes(range(16))
ALL_MODES = range(TEE_MODE_ENCRYPT, TEE_MODE_DERIVE + 2)
SIZES = (0, 64, 128, 192, 224, 256, 384, 448, 512, 521, 1024, 2048)


@pytest.mark.parametrize("algorithm", USES, ids=hex)
def test_each_algorithm(algorithm: int) -> None:
    """With some size of keys, and in its modes only."""
    made = 0
    for mode in ALL_MODES:
        for size in SIZES:
            try:
                operation = TEE_AllocateOperation(algorithm, mode, size)
            except NotSupported:
                continue
            assert mode in USES[algorithm]
            info = TEE_GetOperationInfo(operation)
            assert (info.algorithm, info.mode, info.max_key_size) == (algorithm, mode, size)
            assert info.operation_class == TEE_ALG_GET_CLASS(algorithm)
            made += 1
            TEE_FreeOperation(operation)
    assert made >= len(USES[algorithm])


@pytest.mark.parametrize(
    ("algorithm", "mode", "sizes"),
    [
        (TEE_ALG_DSA_SHA1, TEE_MODE_SIGN, (512, 576, 1024)),
        (TEE_ALG_DSA_SHA224, TEE_MODE_SIGN, (2048,)),
        (TEE_ALG_DSA_SHA256, TEE_MODE_VERIFY, (2048, 3072)),
        (TEE_ALG_ECDSA_SHA256, TEE_MODE_SIGN, (256,)),
        (OPTEE_ALG_ECDSA_P256, TEE_MODE_SIGN, (256,)),
        (TEE_ALG_ECDSA_SHA512, TEE_MODE_SIGN, (521,)),
        (TEE_ALG_SM2_PKE, TEE_MODE_DECRYPT, (256,)),
        (TEE_ALG_SM2_KEP, TEE_MODE_DERIVE, (512,)),
        (TEE_ALG_ED25519, TEE_MODE_SIGN, (256,)),
        (TEE_ALG_X25519, TEE_MODE_DERIVE, (256,)),
        (TEE_ALG_X448, TEE_MODE_DERIVE, (448,)),
        (TEE_ALG_AES_CTR, TEE_MODE_ENCRYPT, (128, 192, 256)),
        (TEE_ALG_AES_XTS, TEE_MODE_ENCRYPT, (256, 384, 512)),
    ],
)
def test_key_sizes(algorithm: int, mode: int, sizes: tuple[int, ...]) -> None:
    tried = {1, 100, 255, 257, 320, 448, 449, 520, 522, 1025, 1088, 2047, 4096, *SIZES}
    for size in tried - set(sizes):
        if algorithm in TWO_KEYS and size // 2 * 2 in sizes:
            continue
        with pytest.raises(NotSupported):
            TEE_AllocateOperation(algorithm, mode, size)
    for size in sizes:
        TEE_AllocateOperation(algorithm, mode, size)


@pytest.mark.parametrize("algorithm", [0, TEE_ALG_MD5SHA1, TEE_ALG_ECDSA_SHA3_256, 1 << 40])
def test_no_such_algorithm(algorithm: int) -> None:
    for mode in ALL_MODES:
        with pytest.raises(NotSupported):
            TEE_AllocateOperation(algorithm, mode, 256)
    assert not TEE_IsAlgorithmSupported(algorithm)


def test_is_algorithm_supported() -> None:
    assert TEE_IsAlgorithmSupported(TEE_ALG_AES_GCM)
    assert TEE_IsAlgorithmSupported(TEE_ALG_AES_GCM, 0)
    assert not TEE_IsAlgorithmSupported(TEE_ALG_AES_GCM, TEE_ECC_CURVE_NIST_P256)
    assert TEE_IsAlgorithmSupported(TEE_ALG_ECDSA_SHA256, TEE_ECC_CURVE_NIST_P256)
    assert not TEE_IsAlgorithmSupported(TEE_ALG_ECDSA_SHA256, TEE_ECC_CURVE_NIST_P384)
    assert not TEE_IsAlgorithmSupported(TEE_ALG_ECDSA_SHA256)
    assert TEE_IsAlgorithmSupported(TEE_ALG_ECDH_DERIVE_SHARED_SECRET, TEE_ECC_CURVE_NIST_P384)
    assert TEE_IsAlgorithmSupported(TEE_ALG_X25519, TEE_ECC_CURVE_25519)
    assert set(MAX_KEY_SIZES) | set(TWO_KEYS) <= set(USES)


def test_info() -> None:
    operation = TEE_AllocateOperation(TEE_ALG_AES_CBC_NOPAD, TEE_MODE_DECRYPT, 256)
    common = TEE_ALG_AES_CBC_NOPAD, TEE_OPERATION_CIPHER, TEE_MODE_DECRYPT, 0, 256
    assert TEE_GetOperationInfo(operation) == TEE_OperationInfo(*common, 0, TEE_USAGE_DECRYPT, 0)
    TEE_SetOperationKey(operation, secret(TEE_TYPE_AES, KEY))
    TEE_CipherInit(operation, bytes(16))
    flags = TEE_HANDLE_FLAG_KEY_SET | TEE_HANDLE_FLAG_INITIALIZED
    info = TEE_GetOperationInfo(operation)
    assert info == TEE_OperationInfo(*common, 128, TEE_USAGE_DECRYPT, flags)
    assert TEE_GetOperationInfoMultiple(operation) == TEE_OperationInfoMultiple(
        *common,
        flags,
        TEE_OPERATION_STATE_ACTIVE,
        (TEE_OperationInfoKey(128, TEE_USAGE_DECRYPT),),
    )


def test_info_of_a_digest() -> None:
    operation = TEE_AllocateOperation(TEE_ALG_SHA256, TEE_MODE_DIGEST)
    flags = TEE_HANDLE_FLAG_KEY_SET | TEE_HANDLE_FLAG_INITIALIZED
    info = TEE_GetOperationInfo(operation)
    assert info == (TEE_ALG_SHA256, TEE_OPERATION_DIGEST, TEE_MODE_DIGEST, 32, 0, 0, 0, flags)
    multiple = TEE_GetOperationInfoMultiple(operation)
    assert (multiple.key_information, multiple.operation_state) == ((), TEE_OPERATION_STATE_INITIAL)


def test_info_of_two_keys() -> None:
    operation = keyed(TEE_ALG_AES_XTS, TEE_MODE_ENCRYPT, KEY, KEY[::-1])
    info = TEE_GetOperationInfo(operation)
    assert (info.max_key_size, info.key_size, info.required_key_usage) == (256, 0, 0)
    assert info.handle_state == TEE_HANDLE_FLAG_KEY_SET | TEE_HANDLE_FLAG_EXPECT_TWO_KEYS
    key = TEE_OperationInfoKey(128, TEE_USAGE_ENCRYPT)
    assert TEE_GetOperationInfoMultiple(operation).key_information == (key, key)


def test_rsa_without_padding_wants_two_usages() -> None:
    operation = TEE_AllocateOperation(TEE_ALG_RSA_NOPAD, TEE_MODE_DECRYPT, 1024)
    key = TEE_AllocateTransientObject(TEE_TYPE_RSA_KEYPAIR, 1024)
    TEE_GenerateKey(key, 1024)
    TEE_RestrictObjectUsage1(key, TEE_USAGE_DECRYPT)
    panics(lambda: TEE_SetOperationKey(operation, key), TEE_ERROR_BAD_PARAMETERS)


# Keys


def test_the_key_is_a_copy() -> None:
    key = secret(TEE_TYPE_AES, KEY)
    operation = TEE_AllocateOperation(TEE_ALG_AES_CTR, TEE_MODE_ENCRYPT, 128)
    TEE_SetOperationKey(operation, key)
    del key
    gc.collect()
    TEE_CipherInit(operation, bytes(16))
    expected = keyed(TEE_ALG_AES_CTR, TEE_MODE_ENCRYPT, KEY)
    TEE_CipherInit(expected, bytes(16))
    assert TEE_CipherUpdate(operation, KEY) == TEE_CipherUpdate(expected, KEY)


def test_a_key_is_taken_away() -> None:
    operation = keyed(TEE_ALG_AES_CTR, TEE_MODE_ENCRYPT, KEY)
    TEE_SetOperationKey(operation, None)
    panics(lambda: TEE_CipherInit(operation, bytes(16)), TEE_ERROR_BAD_STATE)
    panics(lambda: TEE_ResetOperation(operation))
    TEE_SetOperationKey(operation, secret(TEE_TYPE_AES, KEY))
    TEE_CipherInit(operation, bytes(16))
    two = keyed(TEE_ALG_AES_XTS, TEE_MODE_ENCRYPT, KEY, KEY[::-1])
    TEE_SetOperationKey2(two, None, None)
    panics(lambda: TEE_CipherInit(two, bytes(16)))
    assert not TEE_GetOperationInfo(two).handle_state & TEE_HANDLE_FLAG_KEY_SET


def test_keys_that_are_misuse() -> None:
    def operation() -> OperationHandle:
        return TEE_AllocateOperation(TEE_ALG_AES_CTR, TEE_MODE_ENCRYPT, 128)

    key, long = secret(TEE_TYPE_AES, KEY), secret(TEE_TYPE_AES, KEY * 2)
    restricted = secret(TEE_TYPE_AES, KEY)
    TEE_RestrictObjectUsage1(restricted, TEE_USAGE_DEFAULT ^ TEE_USAGE_ENCRYPT)
    empty = TEE_AllocateTransientObject(TEE_TYPE_AES, 128)
    other = TEE_AllocateTransientObject(TEE_TYPE_RSA_KEYPAIR, 1024)
    for wrong in (long, restricted, empty, other):
        panics(lambda wrong=wrong: TEE_SetOperationKey(operation(), wrong))  # type: ignore[misc]
    panics(lambda: TEE_SetOperationKey2(operation(), key, restricted))
    digest = TEE_AllocateOperation(TEE_ALG_SHA256, TEE_MODE_DIGEST)
    panics(lambda: TEE_SetOperationKey(digest, key))
    panics(lambda: TEE_SetOperationKey(digest, None))
    started = keyed(TEE_ALG_AES_CTR, TEE_MODE_ENCRYPT, KEY)
    TEE_CipherInit(started, bytes(16))
    panics(lambda: TEE_SetOperationKey(started, key))


@pytest.mark.parametrize("algorithm", [TEE_ALG_AES_XTS, TEE_ALG_SM4_XTS])
def test_two_keys_that_are_misuse(algorithm: int) -> None:
    operation = TEE_AllocateOperation(algorithm, TEE_MODE_ENCRYPT, 256)
    key, other = secret(TEE_TYPE_AES, KEY), secret(TEE_TYPE_AES, KEY * 2)
    with pytest.raises(SecurityError):
        TEE_SetOperationKey2(operation, key, key)
    panics(lambda: TEE_SetOperationKey(operation, key))
    panics(lambda: TEE_SetOperationKey2(operation, key, None))
    panics(lambda: TEE_SetOperationKey2(operation, None, key))
    panics(lambda: TEE_SetOperationKey2(operation, key, other))


def test_equal_keys_in_two_objects() -> None:
    """As in OP-TEE: only the same object twice is refused."""
    operation = keyed(TEE_ALG_AES_XTS, TEE_MODE_ENCRYPT, KEY, KEY)
    TEE_CipherInit(operation, bytes(16))
    assert len(TEE_CipherUpdate(operation, bytes(64))) == 32


# Copies and the end


def test_copy_takes_key_and_state() -> None:
    source = keyed(TEE_ALG_AES_CBC_NOPAD, TEE_MODE_ENCRYPT, KEY)
    TEE_CipherInit(source, bytes(16))
    assert len(TEE_CipherUpdate(source, bytes(20))) == 16
    copy = TEE_AllocateOperation(TEE_ALG_AES_CBC_NOPAD, TEE_MODE_ENCRYPT, 256)
    TEE_CopyOperation(copy, source)
    assert TEE_CipherUpdate(copy, bytes(44)) == TEE_CipherUpdate(source, bytes(44))
    info = TEE_GetOperationInfo(copy)
    assert (info.key_size, info.max_key_size) == (128, 256)
    # Without a key, the copy has none either.
    TEE_CopyOperation(copy, TEE_AllocateOperation(TEE_ALG_AES_CBC_NOPAD, TEE_MODE_ENCRYPT, 128))
    panics(lambda: TEE_CipherInit(copy, bytes(16)))


def test_copy_of_two_keys() -> None:
    source = keyed(TEE_ALG_AES_XTS, TEE_MODE_ENCRYPT, KEY, KEY[::-1])
    TEE_CipherInit(source, bytes(16))
    TEE_CipherUpdate(source, bytes(50))
    copy = TEE_AllocateOperation(TEE_ALG_AES_XTS, TEE_MODE_ENCRYPT, 256)
    TEE_CopyOperation(copy, source)
    assert TEE_CipherUpdate(copy, bytes(44)) == TEE_CipherUpdate(source, bytes(44))
    panics(lambda: TEE_CopyOperation(copy, source))  # as in OP-TEE, only into one not started


def test_copies_that_are_misuse() -> None:
    source = keyed(TEE_ALG_AES_CTR, TEE_MODE_ENCRYPT, KEY * 2)
    for algorithm, mode, size in (
        (TEE_ALG_AES_CTS, TEE_MODE_ENCRYPT, 256),
        (TEE_ALG_AES_CTR, TEE_MODE_DECRYPT, 256),
        (TEE_ALG_AES_CTR, TEE_MODE_ENCRYPT, 128),
    ):
        other = TEE_AllocateOperation(algorithm, mode, size)
        panics(lambda other=other: TEE_CopyOperation(other, source))  # type: ignore[misc]
    panics(lambda: TEE_CopyOperation(source, source))
    signs = [
        TEE_AllocateOperation(TEE_ALG_RSASSA_PKCS1_V1_5_SHA256, TEE_MODE_SIGN, 1024)
        for _ in range(2)
    ]
    panics(lambda: TEE_CopyOperation(*signs), TEE_ERROR_BAD_STATE)


def test_free() -> None:
    operation = keyed(TEE_ALG_AES_CTR, TEE_MODE_ENCRYPT, KEY)
    kept = operation.keys[0]._bytes[TEE_ATTR_SECRET_VALUE]
    assert repr(operation) == "OperationHandle(TEE_ALG_AES_CTR)"
    TEE_FreeOperation(operation)
    assert kept == bytes(16)
    assert repr(operation) == "OperationHandle(freed)"
    panics(lambda: TEE_FreeOperation(operation))
    panics(lambda: TEE_GetOperationInfo(operation))
    panics(lambda: TEE_CipherInit(operation, bytes(16)))
    TEE_FreeOperation(None)


def test_an_operation_that_nobody_has_is_freed() -> None:
    operation = keyed(TEE_ALG_AES_CTR, TEE_MODE_ENCRYPT, KEY)
    kept = operation.keys[0]._bytes[TEE_ATTR_SECRET_VALUE]
    del operation
    gc.collect()
    assert kept == bytes(16)


def test_functions_of_another_class() -> None:
    """Each is for one class of operations."""
    digest = TEE_AllocateOperation(TEE_ALG_SHA256, TEE_MODE_DIGEST)
    mac = keyed(TEE_ALG_HMAC_SHA256, TEE_MODE_MAC, KEY * 2)
    verify = TEE_AllocateOperation(TEE_ALG_ECDSA_SHA256, TEE_MODE_VERIFY, 256)
    dh = TEE_AllocateOperation(TEE_ALG_DH_DERIVE_SHARED_SECRET, TEE_MODE_DERIVE, 1024)
    key = secret(TEE_TYPE_AES, KEY)
    for call in (
        lambda: TEE_DigestUpdate(mac, b"x"),
        lambda: TEE_CipherInit(digest, bytes(16)),
        lambda: TEE_MACInit(digest),
        lambda: TEE_AEInit(mac, bytes(12), 128),
        lambda: TEE_AsymmetricEncrypt(verify, (), b"x"),
        lambda: TEE_AsymmetricSignDigest(verify, (), bytes(32)),
        lambda: TEE_AsymmetricSignDigest(dh, (), bytes(32)),
        lambda: TEE_DeriveKey(verify, (), key),
        lambda: TEE_DeriveKey(dh, (), key),
    ):
        with pytest.raises(TaPanic):
            call()
