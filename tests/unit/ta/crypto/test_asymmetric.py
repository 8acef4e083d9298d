# SPDX-License-Identifier: BSD-2-Clause
"""Asymmetric encryption, signatures and derivation under their GlobalPlatform names."""

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from gentee.abi.gp import TEE_ERROR_BAD_PARAMETERS, TEE_ERROR_BAD_STATE
from gentee.errors import BadParameters, ShortBuffer, SignatureInvalid, TaPanic
from gentee.ta import Memref
from gentee.ta.crypto import (
    OPTEE_ATTR_HKDF_INFO,
    OPTEE_ATTR_HKDF_SALT,
    TEE_ALG_CONCAT_KDF_SHA256_DERIVE_KEY,
    TEE_ALG_DH_DERIVE_SHARED_SECRET,
    TEE_ALG_ECDH_DERIVE_SHARED_SECRET,
    TEE_ALG_ECDSA_SHA256,
    TEE_ALG_ED25519,
    TEE_ALG_HKDF_SHA256_DERIVE_KEY,
    TEE_ALG_PBKDF2_HMAC_SHA1_DERIVE_KEY,
    TEE_ALG_RSA_NOPAD,
    TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA256,
    TEE_ALG_RSAES_PKCS1_V1_5,
    TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256,
    TEE_ALG_RSASSA_PKCS1_V1_5_SHA256,
    TEE_ALG_SM2_DSA_SM3,
    TEE_ALG_SM2_KEP,
    TEE_ALG_SM2_PKE,
    TEE_ALG_X448,
    TEE_ALG_X25519,
    TEE_ATTR_CONCAT_KDF_DKM_LENGTH,
    TEE_ATTR_CONCAT_KDF_OTHER_INFO,
    TEE_ATTR_CONCAT_KDF_Z,
    TEE_ATTR_DH_BASE,
    TEE_ATTR_DH_PRIME,
    TEE_ATTR_DH_PUBLIC_VALUE,
    TEE_ATTR_ECC_CURVE,
    TEE_ATTR_ECC_EPHEMERAL_PUBLIC_VALUE_X,
    TEE_ATTR_ECC_EPHEMERAL_PUBLIC_VALUE_Y,
    TEE_ATTR_ECC_PUBLIC_VALUE_X,
    TEE_ATTR_ECC_PUBLIC_VALUE_Y,
    TEE_ATTR_ED25519_PRIVATE_VALUE,
    TEE_ATTR_ED25519_PUBLIC_VALUE,
    TEE_ATTR_EDDSA_CTX,
    TEE_ATTR_EDDSA_PREHASH,
    TEE_ATTR_HKDF_IKM,
    TEE_ATTR_HKDF_OKM_LENGTH,
    TEE_ATTR_PBKDF2_DKM_LENGTH,
    TEE_ATTR_PBKDF2_ITERATION_COUNT,
    TEE_ATTR_PBKDF2_PASSWORD,
    TEE_ATTR_PBKDF2_SALT,
    TEE_ATTR_RSA_MODULUS,
    TEE_ATTR_RSA_OAEP_LABEL,
    TEE_ATTR_RSA_PSS_SALT_LENGTH,
    TEE_ATTR_RSA_PUBLIC_EXPONENT,
    TEE_ATTR_SECRET_VALUE,
    TEE_ATTR_SM2_ID_INITIATOR,
    TEE_ATTR_SM2_ID_RESPONDER,
    TEE_ATTR_SM2_KEP_CONFIRMATION_IN,
    TEE_ATTR_SM2_KEP_CONFIRMATION_OUT,
    TEE_ATTR_SM2_KEP_USER,
    TEE_ATTR_X448_PUBLIC_VALUE,
    TEE_ATTR_X25519_PRIVATE_VALUE,
    TEE_ATTR_X25519_PUBLIC_VALUE,
    TEE_ECC_CURVE_NIST_P256,
    TEE_MODE_DECRYPT,
    TEE_MODE_DERIVE,
    TEE_MODE_ENCRYPT,
    TEE_MODE_SIGN,
    TEE_MODE_VERIFY,
    TEE_TYPE_AES,
    TEE_TYPE_CONCAT_KDF_Z,
    TEE_TYPE_DH_KEYPAIR,
    TEE_TYPE_ECDH_KEYPAIR,
    TEE_TYPE_ECDSA_KEYPAIR,
    TEE_TYPE_ECDSA_PUBLIC_KEY,
    TEE_TYPE_ED25519_KEYPAIR,
    TEE_TYPE_GENERIC_SECRET,
    TEE_TYPE_HKDF_IKM,
    TEE_TYPE_PBKDF2_PASSWORD,
    TEE_TYPE_RSA_KEYPAIR,
    TEE_TYPE_SM2_DSA_KEYPAIR,
    TEE_TYPE_SM2_DSA_PUBLIC_KEY,
    TEE_TYPE_SM2_KEP_KEYPAIR,
    TEE_TYPE_SM2_PKE_KEYPAIR,
    TEE_TYPE_SM2_PKE_PUBLIC_KEY,
    TEE_TYPE_X448_KEYPAIR,
    TEE_TYPE_X25519_KEYPAIR,
    ObjectHandle,
    OperationHandle,
    TEE_AllocateOperation,
    TEE_AllocateTransientObject,
    TEE_AsymmetricDecrypt,
    TEE_AsymmetricEncrypt,
    TEE_AsymmetricSignDigest,
    TEE_AsymmetricVerifyDigest,
    TEE_Attribute,
    TEE_CopyObjectAttributes1,
    TEE_DeriveKey,
    TEE_GenerateKey,
    TEE_GetObjectBufferAttribute,
    TEE_InitRefAttribute,
    TEE_InitValueAttribute,
    TEE_PopulateTransientObject,
    TEE_SetOperationKey,
    TEE_SetOperationKey2,
)
from tests.ta_crypto import panics, secret

DIGEST = hashlib.sha256(b"sample").digest()
P256 = TEE_InitValueAttribute(TEE_ATTR_ECC_CURVE, TEE_ECC_CURVE_NIST_P256)


def operation(algorithm: int, mode: int, key: ObjectHandle, size: int) -> OperationHandle:
    made = TEE_AllocateOperation(algorithm, mode, size)
    TEE_SetOperationKey(made, key)
    return made


def generated(object_type: int, size: int, *params: TEE_Attribute) -> ObjectHandle:
    key = TEE_AllocateTransientObject(object_type, size)
    TEE_GenerateKey(key, size, params)
    return key


def public_of(key: ObjectHandle, object_type: int, size: int) -> ObjectHandle:
    public = TEE_AllocateTransientObject(object_type, size)
    TEE_CopyObjectAttributes1(public, key)
    return public


def octets(key: ObjectHandle, attribute: int) -> bytes:
    return TEE_GetObjectBufferAttribute(key, attribute)


def number(key: ObjectHandle, attribute: int) -> int:
    return int.from_bytes(octets(key, attribute), "big")


def populated(object_type: int, size: int, values: dict[int, bytes]) -> ObjectHandle:
    key = TEE_AllocateTransientObject(object_type, size)
    attributes = [TEE_InitRefAttribute(name, value) for name, value in values.items()]
    if object_type in (TEE_TYPE_ECDSA_PUBLIC_KEY, TEE_TYPE_ECDSA_KEYPAIR):
        attributes.append(P256)
    TEE_PopulateTransientObject(key, attributes)
    return key


# RSA


@pytest.fixture(scope="module")
def rsa_key() -> ObjectHandle:
    return generated(TEE_TYPE_RSA_KEYPAIR, 2048)


@pytest.fixture(scope="module")
def rsa_public(rsa_key: ObjectHandle) -> rsa.RSAPublicKey:
    e, n = (
        number(rsa_key, attribute)
        for attribute in (TEE_ATTR_RSA_PUBLIC_EXPONENT, TEE_ATTR_RSA_MODULUS)
    )
    return rsa.RSAPublicNumbers(e, n).public_key()


SHA256 = hashes.SHA256()
SIGNATURES = {
    TEE_ALG_RSASSA_PKCS1_V1_5_SHA256: padding.PKCS1v15(),
    TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256: padding.PSS(padding.MGF1(SHA256), 20),
}
SALT = TEE_InitValueAttribute(TEE_ATTR_RSA_PSS_SALT_LENGTH, 20)


@pytest.mark.parametrize("algorithm", SIGNATURES)
def test_rsa_signature(rsa_key: ObjectHandle, rsa_public: rsa.RSAPublicKey, algorithm: int) -> None:
    params = [SALT] if algorithm == TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256 else []
    sign = operation(algorithm, TEE_MODE_SIGN, rsa_key, 2048)
    signature = TEE_AsymmetricSignDigest(sign, params, DIGEST)
    rsa_public.verify(signature, DIGEST, SIGNATURES[algorithm], Prehashed(SHA256))
    verify = operation(algorithm, TEE_MODE_VERIFY, rsa_key, 2048)
    TEE_AsymmetricVerifyDigest(verify, params, DIGEST, signature)
    for digest, wrong in ((DIGEST, signature[::-1]), (DIGEST[::-1], signature), (DIGEST, b"")):
        with pytest.raises(SignatureInvalid):
            TEE_AsymmetricVerifyDigest(verify, params, digest, wrong)


def test_a_signature_into_a_buffer(rsa_key: ObjectHandle) -> None:
    sign = operation(TEE_ALG_RSASSA_PKCS1_V1_5_SHA256, TEE_MODE_SIGN, rsa_key, 2048)
    small = Memref(bytearray(255))
    with pytest.raises(ShortBuffer) as caught:
        TEE_AsymmetricSignDigest(sign, [], DIGEST, small)
    assert (caught.value.size, small.size, bytes(small)) == (256, 256, bytes(255))
    output = Memref(bytearray(300))
    assert TEE_AsymmetricSignDigest(sign, [], DIGEST, output) == output.size == 256
    assert bytes(output)[:256] == TEE_AsymmetricSignDigest(sign, [], Memref(DIGEST))


@pytest.mark.parametrize(
    "algorithm", [TEE_ALG_RSAES_PKCS1_V1_5, TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA256]
)
def test_rsa_encryption(
    rsa_key: ObjectHandle, rsa_public: rsa.RSAPublicKey, algorithm: int
) -> None:
    params = []
    scheme: padding.AsymmetricPadding = padding.PKCS1v15()
    if algorithm == TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA256:
        params = [TEE_InitRefAttribute(TEE_ATTR_RSA_OAEP_LABEL, b"label")]
        scheme = padding.OAEP(padding.MGF1(SHA256), SHA256, b"label")
    encrypt = operation(algorithm, TEE_MODE_ENCRYPT, rsa_key, 2048)
    decrypt = operation(algorithm, TEE_MODE_DECRYPT, rsa_key, 2048)
    text = TEE_AsymmetricEncrypt(encrypt, params, b"secret")
    assert TEE_AsymmetricDecrypt(decrypt, params, text) == b"secret"
    assert TEE_AsymmetricDecrypt(decrypt, params, rsa_public.encrypt(b"x", scheme)) == b"x"
    with pytest.raises(ShortBuffer):
        TEE_AsymmetricDecrypt(decrypt, params, text, bytearray(5))
    for wrong in (text[:-1], text[:-1] + bytes((text[-1] ^ 1,)), b""):
        with pytest.raises(BadParameters):
            TEE_AsymmetricDecrypt(decrypt, params, wrong)
    with pytest.raises(BadParameters):
        TEE_AsymmetricEncrypt(encrypt, params, bytes(256))


def test_rsa_without_padding(rsa_key: ObjectHandle, rsa_public: rsa.RSAPublicKey) -> None:
    numbers = rsa_public.public_numbers()
    encrypt = operation(TEE_ALG_RSA_NOPAD, TEE_MODE_ENCRYPT, rsa_key, 2048)
    decrypt = operation(TEE_ALG_RSA_NOPAD, TEE_MODE_DECRYPT, rsa_key, 2048)
    text = TEE_AsymmetricEncrypt(encrypt, [], b"\x05")
    assert int.from_bytes(text, "big") == pow(5, numbers.e, numbers.n)
    assert TEE_AsymmetricDecrypt(decrypt, [], text) == b"\x05"


# Curves


def test_ecdsa() -> None:
    key = generated(TEE_TYPE_ECDSA_KEYPAIR, 256, P256)
    sign = operation(TEE_ALG_ECDSA_SHA256, TEE_MODE_SIGN, key, 256)
    signature = TEE_AsymmetricSignDigest(sign, [], DIGEST)
    x, y = (
        number(key, attribute)
        for attribute in (TEE_ATTR_ECC_PUBLIC_VALUE_X, TEE_ATTR_ECC_PUBLIC_VALUE_Y)
    )
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    public.verify(encode_dss_signature(r, s), DIGEST, ec.ECDSA(Prehashed(SHA256)))


def test_ecdsa_of_rfc_6979() -> None:
    """Section A.2.5, "sample" with SHA-256; and a signature of pyca/cryptography's."""
    x = "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    y = "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
    signature = bytes.fromhex(
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    )
    values = {
        TEE_ATTR_ECC_PUBLIC_VALUE_X: bytes.fromhex(x),
        TEE_ATTR_ECC_PUBLIC_VALUE_Y: bytes.fromhex(y),
    }
    key = populated(TEE_TYPE_ECDSA_PUBLIC_KEY, 256, values)
    verify = operation(TEE_ALG_ECDSA_SHA256, TEE_MODE_VERIFY, key, 256)
    TEE_AsymmetricVerifyDigest(verify, [], DIGEST, signature)
    with pytest.raises(SignatureInvalid):
        TEE_AsymmetricVerifyDigest(verify, [], DIGEST, signature[32:] + signature[:32])
    private = ec.generate_private_key(ec.SECP256R1())
    numbers = private.public_key().public_numbers()
    values = {
        TEE_ATTR_ECC_PUBLIC_VALUE_X: numbers.x.to_bytes(32, "big"),
        TEE_ATTR_ECC_PUBLIC_VALUE_Y: numbers.y.to_bytes(32, "big"),
    }
    r, s = decode_dss_signature(private.sign(b"sample", ec.ECDSA(SHA256)))
    key = populated(TEE_TYPE_ECDSA_PUBLIC_KEY, 256, values)
    verify = operation(TEE_ALG_ECDSA_SHA256, TEE_MODE_VERIFY, key, 256)
    TEE_AsymmetricVerifyDigest(verify, [], DIGEST, r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def test_ed25519_of_rfc_8032() -> None:
    """Section 7.1, test 2; section 7.2 with the context "foo"."""
    key = populated(
        TEE_TYPE_ED25519_KEYPAIR,
        256,
        {
            TEE_ATTR_ED25519_PRIVATE_VALUE: bytes.fromhex(
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
            ),
            TEE_ATTR_ED25519_PUBLIC_VALUE: bytes.fromhex(
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
            ),
        },
    )
    sign = operation(TEE_ALG_ED25519, TEE_MODE_SIGN, key, 256)
    signature = TEE_AsymmetricSignDigest(sign, [], b"\x72")
    assert signature.hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    verify = operation(TEE_ALG_ED25519, TEE_MODE_VERIFY, key, 256)
    TEE_AsymmetricVerifyDigest(verify, [], b"\x72", signature)
    context = [
        TEE_InitValueAttribute(TEE_ATTR_EDDSA_PREHASH, 0),
        TEE_InitRefAttribute(TEE_ATTR_EDDSA_CTX, b"foo"),
    ]
    signature = TEE_AsymmetricSignDigest(sign, context, b"\x72")
    TEE_AsymmetricVerifyDigest(verify, context, b"\x72", signature)
    with pytest.raises(SignatureInvalid):
        TEE_AsymmetricVerifyDigest(verify, [], b"\x72", signature)


def test_sm2() -> None:
    key = generated(TEE_TYPE_SM2_DSA_KEYPAIR, 256)
    sign = operation(TEE_ALG_SM2_DSA_SM3, TEE_MODE_SIGN, key, 256)
    signature = TEE_AsymmetricSignDigest(sign, [], DIGEST)
    public = public_of(key, TEE_TYPE_SM2_DSA_PUBLIC_KEY, 256)
    verify = operation(TEE_ALG_SM2_DSA_SM3, TEE_MODE_VERIFY, public, 256)
    TEE_AsymmetricVerifyDigest(verify, [], DIGEST, signature)
    key = generated(TEE_TYPE_SM2_PKE_KEYPAIR, 256)
    public = public_of(key, TEE_TYPE_SM2_PKE_PUBLIC_KEY, 256)
    encrypt = operation(TEE_ALG_SM2_PKE, TEE_MODE_ENCRYPT, public, 256)
    decrypt = operation(TEE_ALG_SM2_PKE, TEE_MODE_DECRYPT, key, 256)
    text = TEE_AsymmetricEncrypt(encrypt, [], b"secret")
    assert TEE_AsymmetricDecrypt(decrypt, [], text) == b"secret"


def test_asymmetric_operations_that_are_misuse(rsa_key: ObjectHandle) -> None:
    sign = operation(TEE_ALG_RSASSA_PKCS1_V1_5_SHA256, TEE_MODE_SIGN, rsa_key, 2048)
    panics(lambda: TEE_AsymmetricSignDigest(sign, [], b"short"), TEE_ERROR_BAD_PARAMETERS)
    panics(lambda: TEE_AsymmetricVerifyDigest(sign, [], DIGEST, b""), TEE_ERROR_BAD_PARAMETERS)
    panics(lambda: TEE_AsymmetricEncrypt(sign, [], DIGEST))
    panics(lambda: TEE_AsymmetricDecrypt(sign, [], DIGEST))
    without = TEE_AllocateOperation(TEE_ALG_ECDSA_SHA256, TEE_MODE_SIGN, 256)
    panics(lambda: TEE_AsymmetricSignDigest(without, [], DIGEST))
    verify = operation(TEE_ALG_RSASSA_PKCS1_V1_5_SHA256, TEE_MODE_VERIFY, rsa_key, 2048)
    panics(lambda: TEE_AsymmetricSignDigest(verify, [], DIGEST))
    encrypt = operation(TEE_ALG_RSAES_PKCS1_V1_5, TEE_MODE_ENCRYPT, rsa_key, 2048)
    panics(lambda: TEE_AsymmetricDecrypt(encrypt, [], bytes(256)), TEE_ERROR_BAD_PARAMETERS)


# Derivation


def derived(
    algorithm: int, key: ObjectHandle, size: int, room: int, *params: TEE_Attribute
) -> bytes:
    """The secret that comes out. ``size`` of the key and ``room`` for the secret are in bits."""
    made = TEE_AllocateTransientObject(TEE_TYPE_GENERIC_SECRET, room)
    derive = operation(algorithm, TEE_MODE_DERIVE, key, size)
    assert TEE_DeriveKey(derive, params, made) == b""
    return octets(made, TEE_ATTR_SECRET_VALUE)


def test_hkdf_of_rfc_5869() -> None:
    key = secret(TEE_TYPE_HKDF_IKM, b"\x0b" * 22, TEE_ATTR_HKDF_IKM)
    made = derived(
        TEE_ALG_HKDF_SHA256_DERIVE_KEY,
        key,
        22 * 8,
        42 * 8,
        TEE_InitRefAttribute(OPTEE_ATTR_HKDF_SALT, bytes(range(13))),
        TEE_InitRefAttribute(OPTEE_ATTR_HKDF_INFO, bytes(range(0xF0, 0xFA))),
        TEE_InitValueAttribute(TEE_ATTR_HKDF_OKM_LENGTH, 42),
    )
    assert made.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_pbkdf2_of_rfc_6070() -> None:
    key = secret(TEE_TYPE_PBKDF2_PASSWORD, b"password", TEE_ATTR_PBKDF2_PASSWORD)
    made = derived(
        TEE_ALG_PBKDF2_HMAC_SHA1_DERIVE_KEY,
        key,
        64,
        160,
        TEE_InitRefAttribute(TEE_ATTR_PBKDF2_SALT, b"salt"),
        TEE_InitValueAttribute(TEE_ATTR_PBKDF2_ITERATION_COUNT, 2),
        TEE_InitValueAttribute(TEE_ATTR_PBKDF2_DKM_LENGTH, 20),
    )
    assert made == hashlib.pbkdf2_hmac("sha1", b"password", b"salt", 2)


def test_concat_kdf() -> None:
    key = secret(TEE_TYPE_CONCAT_KDF_Z, b"shared", TEE_ATTR_CONCAT_KDF_Z)
    made = derived(
        TEE_ALG_CONCAT_KDF_SHA256_DERIVE_KEY,
        key,
        48,
        320,
        TEE_InitRefAttribute(TEE_ATTR_CONCAT_KDF_OTHER_INFO, b"info"),
        TEE_InitValueAttribute(TEE_ATTR_CONCAT_KDF_DKM_LENGTH, 40),
    )
    blocks = [hashlib.sha256(bytes((0, 0, 0, n)) + b"sharedinfo").digest() for n in (1, 2)]
    assert made == b"".join(blocks)[:40]


def test_x25519_of_rfc_7748() -> None:
    """Section 5.2."""
    values = {
        TEE_ATTR_X25519_PRIVATE_VALUE: bytes.fromhex(
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"
        ),
        TEE_ATTR_X25519_PUBLIC_VALUE: bytes(32),
    }
    public = "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"
    made = derived(
        TEE_ALG_X25519,
        populated(TEE_TYPE_X25519_KEYPAIR, 256, values),
        256,
        256,
        TEE_InitRefAttribute(TEE_ATTR_X25519_PUBLIC_VALUE, bytes.fromhex(public)),
    )
    assert made.hex() == "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"


def test_ecdh_of_two() -> None:
    keys = [generated(TEE_TYPE_ECDH_KEYPAIR, 256, P256) for _ in range(2)]
    secrets = []
    for key, other in (keys, keys[::-1]):
        params = [
            TEE_InitRefAttribute(attribute, octets(other, attribute))
            for attribute in (TEE_ATTR_ECC_PUBLIC_VALUE_X, TEE_ATTR_ECC_PUBLIC_VALUE_Y)
        ]
        secrets.append(derived(TEE_ALG_ECDH_DERIVE_SHARED_SECRET, key, 256, 256, *params))
    assert secrets[0] == secrets[1]
    assert len(secrets[0]) == 32


def test_x25519_and_x448_of_two() -> None:
    for algorithm, object_type, size, attribute in (
        (TEE_ALG_X25519, TEE_TYPE_X25519_KEYPAIR, 256, TEE_ATTR_X25519_PUBLIC_VALUE),
        (TEE_ALG_X448, TEE_TYPE_X448_KEYPAIR, 448, TEE_ATTR_X448_PUBLIC_VALUE),
    ):
        keys = [generated(object_type, size) for _ in range(2)]
        one, other = (
            derived(
                algorithm, key, size, size, TEE_InitRefAttribute(attribute, octets(peer, attribute))
            )
            for key, peer in (keys, keys[::-1])
        )
        assert one == other
        assert len(one) == size // 8


# RFC 2409 section 6.2
DH_PRIME = bytes.fromhex(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a0879"
    "8e3404ddef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b"
    "0bff5cb6f406b7edee386bfb5a899fa5ae9f24117c4b1fe649286651ece65381ffffffffffffffff"
)


def test_dh_of_two() -> None:
    params = [
        TEE_InitRefAttribute(TEE_ATTR_DH_PRIME, DH_PRIME),
        TEE_InitRefAttribute(TEE_ATTR_DH_BASE, b"\x02"),
    ]
    keys = [generated(TEE_TYPE_DH_KEYPAIR, 1024, *params) for _ in range(2)]
    one, other = (
        derived(
            TEE_ALG_DH_DERIVE_SHARED_SECRET,
            key,
            1024,
            1024,
            TEE_InitRefAttribute(TEE_ATTR_DH_PUBLIC_VALUE, octets(peer, TEE_ATTR_DH_PUBLIC_VALUE)),
        )
        for key, peer in (keys, keys[::-1])
    )
    assert one == other


def test_sm2_key_exchange() -> None:
    """Both have the same secret, and each can tell that the other has it."""
    keys = [[generated(TEE_TYPE_SM2_KEP_KEYPAIR, 256) for _ in range(2)] for _ in range(2)]

    def side(user: int, *confirmations: TEE_Attribute) -> tuple[bytes, bytes]:
        (own, own_ephemeral), (peer, peer_ephemeral) = keys[user], keys[1 - user]
        derive = TEE_AllocateOperation(TEE_ALG_SM2_KEP, TEE_MODE_DERIVE, 512)
        TEE_SetOperationKey2(derive, own, own_ephemeral)
        x, y = TEE_ATTR_ECC_PUBLIC_VALUE_X, TEE_ATTR_ECC_PUBLIC_VALUE_Y
        ephemeral_x = TEE_ATTR_ECC_EPHEMERAL_PUBLIC_VALUE_X
        ephemeral_y = TEE_ATTR_ECC_EPHEMERAL_PUBLIC_VALUE_Y
        made = TEE_AllocateTransientObject(TEE_TYPE_GENERIC_SECRET, 128)
        confirmation = TEE_DeriveKey(
            derive,
            [
                TEE_InitValueAttribute(TEE_ATTR_SM2_KEP_USER, user),
                TEE_InitRefAttribute(x, octets(peer, x)),
                TEE_InitRefAttribute(y, octets(peer, y)),
                TEE_InitRefAttribute(ephemeral_x, octets(peer_ephemeral, x)),
                TEE_InitRefAttribute(ephemeral_y, octets(peer_ephemeral, y)),
                TEE_InitRefAttribute(TEE_ATTR_SM2_ID_INITIATOR, b"initiator"),
                TEE_InitRefAttribute(TEE_ATTR_SM2_ID_RESPONDER, b"responder"),
                TEE_InitRefAttribute(TEE_ATTR_SM2_KEP_CONFIRMATION_OUT, bytes(32)),
                *confirmations,
            ],
            made,
        )
        return octets(made, TEE_ATTR_SECRET_VALUE), confirmation

    one, confirmation = side(0)
    incoming = TEE_InitRefAttribute(TEE_ATTR_SM2_KEP_CONFIRMATION_IN, confirmation)
    other, _ = side(1, incoming)
    assert one == other
    assert len(confirmation) == 32
    wrong = TEE_InitRefAttribute(TEE_ATTR_SM2_KEP_CONFIRMATION_IN, bytes(32))
    with pytest.raises(TaPanic):
        side(1, wrong)


def test_derivations_that_are_misuse() -> None:
    key = generated(TEE_TYPE_X25519_KEYPAIR, 256)
    public = TEE_InitRefAttribute(
        TEE_ATTR_X25519_PUBLIC_VALUE, octets(key, TEE_ATTR_X25519_PUBLIC_VALUE)
    )
    derive = operation(TEE_ALG_X25519, TEE_MODE_DERIVE, key, 256)
    made = TEE_AllocateTransientObject(TEE_TYPE_GENERIC_SECRET, 256)
    aes = TEE_AllocateTransientObject(TEE_TYPE_AES, 256)
    panics(lambda: TEE_DeriveKey(derive, [public], aes), TEE_ERROR_BAD_PARAMETERS)
    panics(lambda: TEE_DeriveKey(derive, [], made), TEE_ERROR_BAD_PARAMETERS)
    TEE_DeriveKey(derive, [public], made)
    panics(lambda: TEE_DeriveKey(derive, [public], made), TEE_ERROR_BAD_PARAMETERS)
    without = TEE_AllocateOperation(TEE_ALG_X25519, TEE_MODE_DERIVE, 256)
    other = TEE_AllocateTransientObject(TEE_TYPE_GENERIC_SECRET, 256)
    panics(lambda: TEE_DeriveKey(without, [public], other), TEE_ERROR_BAD_STATE)
