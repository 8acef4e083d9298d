# SPDX-License-Identifier: BSD-2-Clause
"""What operations there are: the checks of TEE_AllocateOperation in OP-TEE's libutee
(lib/libutee/tee_api_operations.c), as tables.

Algorithms that only newer versions of the document have, such as signatures with SHA-3, are not
OP-TEE's. X448 is there besides: OP-TEE's core has the calls for it.
"""

from collections.abc import Container
from typing import NamedTuple

from gentee.abi import gp_crypto as gp


class Use(NamedTuple):
    """What an operation in one mode wants of its key.

    :ivar usage: TEE_USAGE_* that the key must have.
    :ivar private: whether it is one half of a key pair that is not public.
    """

    usage: int
    private: bool = False


_CIPHER = {
    gp.TEE_MODE_ENCRYPT: Use(gp.TEE_USAGE_ENCRYPT),
    gp.TEE_MODE_DECRYPT: Use(gp.TEE_USAGE_DECRYPT),
}
_SIGNATURE = {
    gp.TEE_MODE_SIGN: Use(gp.TEE_USAGE_SIGN, True),
    gp.TEE_MODE_VERIFY: Use(gp.TEE_USAGE_VERIFY),
}
_ENCRYPTION = {
    gp.TEE_MODE_ENCRYPT: Use(gp.TEE_USAGE_ENCRYPT),
    gp.TEE_MODE_DECRYPT: Use(gp.TEE_USAGE_DECRYPT, True),
}
_RSA_NOPAD = {
    gp.TEE_MODE_ENCRYPT: Use(gp.TEE_USAGE_ENCRYPT | gp.TEE_USAGE_VERIFY),
    gp.TEE_MODE_DECRYPT: Use(gp.TEE_USAGE_DECRYPT | gp.TEE_USAGE_SIGN, True),
}
_DERIVATION = {gp.TEE_MODE_DERIVE: Use(gp.TEE_USAGE_DERIVE, True)}
_DIGEST = {gp.TEE_MODE_DIGEST: Use(0)}
_MAC = {gp.TEE_MODE_MAC: Use(gp.TEE_USAGE_MAC)}

# The modes of each algorithm.
USES: dict[int, dict[int, Use]] = {
    **dict.fromkeys(
        (
            gp.TEE_ALG_AES_ECB_NOPAD,
            gp.TEE_ALG_AES_CBC_NOPAD,
            gp.TEE_ALG_AES_CTR,
            gp.TEE_ALG_AES_CTS,
            gp.TEE_ALG_AES_XTS,
            gp.TEE_ALG_AES_CCM,
            gp.TEE_ALG_AES_GCM,
            gp.TEE_ALG_DES_ECB_NOPAD,
            gp.TEE_ALG_DES_CBC_NOPAD,
            gp.TEE_ALG_DES3_ECB_NOPAD,
            gp.TEE_ALG_DES3_CBC_NOPAD,
            gp.TEE_ALG_SM4_ECB_NOPAD,
            gp.TEE_ALG_SM4_CBC_NOPAD,
            gp.TEE_ALG_SM4_CTR,
            gp.TEE_ALG_SM4_XTS,
        ),
        _CIPHER,
    ),
    **dict.fromkeys(
        (
            gp.TEE_ALG_RSASSA_PKCS1_V1_5,
            gp.TEE_ALG_RSASSA_PKCS1_V1_5_MD5,
            gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA1,
            gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA224,
            gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA256,
            gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA384,
            gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA512,
            gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_MD5,
            gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA1,
            gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA224,
            gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256,
            gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA384,
            gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA512,
            gp.TEE_ALG_DSA_SHA1,
            gp.TEE_ALG_DSA_SHA224,
            gp.TEE_ALG_DSA_SHA256,
            gp.TEE_ALG_ECDSA_SHA1,
            gp.TEE_ALG_ECDSA_SHA224,
            gp.TEE_ALG_ECDSA_SHA256,
            gp.TEE_ALG_ECDSA_SHA384,
            gp.TEE_ALG_ECDSA_SHA512,
            gp.OPTEE_ALG_ECDSA_P192,
            gp.OPTEE_ALG_ECDSA_P224,
            gp.OPTEE_ALG_ECDSA_P256,
            gp.OPTEE_ALG_ECDSA_P384,
            gp.OPTEE_ALG_ECDSA_P521,
            gp.TEE_ALG_SM2_DSA_SM3,
            gp.TEE_ALG_ED25519,
        ),
        _SIGNATURE,
    ),
    **dict.fromkeys(
        (
            gp.TEE_ALG_RSAES_PKCS1_V1_5,
            gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_MD5,
            gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA1,
            gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA224,
            gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA256,
            gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA384,
            gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA512,
            gp.TEE_ALG_SM2_PKE,
        ),
        _ENCRYPTION,
    ),
    gp.TEE_ALG_RSA_NOPAD: _RSA_NOPAD,
    **dict.fromkeys(
        (
            gp.TEE_ALG_DH_DERIVE_SHARED_SECRET,
            gp.TEE_ALG_ECDH_DERIVE_SHARED_SECRET,
            gp.OPTEE_ALG_ECDH_P192,
            gp.OPTEE_ALG_ECDH_P224,
            gp.OPTEE_ALG_ECDH_P256,
            gp.OPTEE_ALG_ECDH_P384,
            gp.OPTEE_ALG_ECDH_P521,
            gp.TEE_ALG_HKDF_MD5_DERIVE_KEY,
            gp.TEE_ALG_HKDF_SHA1_DERIVE_KEY,
            gp.TEE_ALG_HKDF_SHA224_DERIVE_KEY,
            gp.TEE_ALG_HKDF_SHA256_DERIVE_KEY,
            gp.TEE_ALG_HKDF_SHA384_DERIVE_KEY,
            gp.TEE_ALG_HKDF_SHA512_DERIVE_KEY,
            gp.TEE_ALG_CONCAT_KDF_SHA1_DERIVE_KEY,
            gp.TEE_ALG_CONCAT_KDF_SHA224_DERIVE_KEY,
            gp.TEE_ALG_CONCAT_KDF_SHA256_DERIVE_KEY,
            gp.TEE_ALG_CONCAT_KDF_SHA384_DERIVE_KEY,
            gp.TEE_ALG_CONCAT_KDF_SHA512_DERIVE_KEY,
            gp.TEE_ALG_PBKDF2_HMAC_SHA1_DERIVE_KEY,
            gp.TEE_ALG_PBKDF2_HMAC_SHA224_DERIVE_KEY,
            gp.TEE_ALG_PBKDF2_HMAC_SHA256_DERIVE_KEY,
            gp.TEE_ALG_PBKDF2_HMAC_SHA384_DERIVE_KEY,
            gp.TEE_ALG_PBKDF2_HMAC_SHA512_DERIVE_KEY,
            gp.TEE_ALG_PBKDF2_HMAC_SM3_DERIVE_KEY,
            gp.TEE_ALG_SM2_KEP,
            gp.TEE_ALG_X25519,
            gp.TEE_ALG_X448,
        ),
        _DERIVATION,
    ),
    **dict.fromkeys(
        (
            gp.TEE_ALG_MD5,
            gp.TEE_ALG_SHA1,
            gp.TEE_ALG_SHA224,
            gp.TEE_ALG_SHA256,
            gp.TEE_ALG_SHA384,
            gp.TEE_ALG_SHA512,
            gp.TEE_ALG_SHA3_224,
            gp.TEE_ALG_SHA3_256,
            gp.TEE_ALG_SHA3_384,
            gp.TEE_ALG_SHA3_512,
            gp.TEE_ALG_SHAKE128,
            gp.TEE_ALG_SHAKE256,
            gp.TEE_ALG_SM3,
        ),
        _DIGEST,
    ),
    **dict.fromkeys(
        (
            gp.TEE_ALG_AES_CBC_MAC_NOPAD,
            gp.TEE_ALG_AES_CBC_MAC_PKCS5,
            gp.TEE_ALG_AES_CMAC,
            gp.TEE_ALG_DES_CBC_MAC_NOPAD,
            gp.TEE_ALG_DES_CBC_MAC_PKCS5,
            gp.TEE_ALG_DES3_CBC_MAC_NOPAD,
            gp.TEE_ALG_DES3_CBC_MAC_PKCS5,
            gp.TEE_ALG_DES3_CMAC,
            gp.TEE_ALG_HMAC_MD5,
            gp.TEE_ALG_HMAC_SHA1,
            gp.TEE_ALG_HMAC_SHA224,
            gp.TEE_ALG_HMAC_SHA256,
            gp.TEE_ALG_HMAC_SHA384,
            gp.TEE_ALG_HMAC_SHA512,
            gp.TEE_ALG_HMAC_SHA3_224,
            gp.TEE_ALG_HMAC_SHA3_256,
            gp.TEE_ALG_HMAC_SHA3_384,
            gp.TEE_ALG_HMAC_SHA3_512,
            gp.TEE_ALG_HMAC_SM3,
        ),
        _MAC,
    ),
}

# The maxKeySize, in bits, that algorithms take; others take what their type of keys does.
MAX_KEY_SIZES: dict[int, Container[int]] = {
    gp.TEE_ALG_DSA_SHA1: range(512, 1024 + 1, 64),
    gp.TEE_ALG_DSA_SHA224: (2048,),
    gp.TEE_ALG_DSA_SHA256: (2048, 3072),
    **dict.fromkeys(
        (gp.TEE_ALG_ECDSA_SHA1, gp.OPTEE_ALG_ECDSA_P192, gp.OPTEE_ALG_ECDH_P192), (192,)
    ),
    **dict.fromkeys(
        (gp.TEE_ALG_ECDSA_SHA224, gp.OPTEE_ALG_ECDSA_P224, gp.OPTEE_ALG_ECDH_P224), (224,)
    ),
    **dict.fromkeys(
        (gp.TEE_ALG_ECDSA_SHA256, gp.OPTEE_ALG_ECDSA_P256, gp.OPTEE_ALG_ECDH_P256), (256,)
    ),
    **dict.fromkeys(
        (gp.TEE_ALG_ECDSA_SHA384, gp.OPTEE_ALG_ECDSA_P384, gp.OPTEE_ALG_ECDH_P384), (384,)
    ),
    **dict.fromkeys(
        (gp.TEE_ALG_ECDSA_SHA512, gp.OPTEE_ALG_ECDSA_P521, gp.OPTEE_ALG_ECDH_P521), (521,)
    ),
    gp.TEE_ALG_ECDH_DERIVE_SHARED_SECRET: range(521 + 1),
    gp.TEE_ALG_SM2_PKE: (256,),
    gp.TEE_ALG_SM2_DSA_SM3: (256,),
    gp.TEE_ALG_SM2_KEP: (512,),  # of two keys
    gp.TEE_ALG_ED25519: (256,),
    gp.TEE_ALG_X25519: (256,),
}

TWO_KEYS = (gp.TEE_ALG_AES_XTS, gp.TEE_ALG_SM4_XTS, gp.TEE_ALG_SM2_KEP)
NO_IV = (
    gp.TEE_ALG_AES_ECB_NOPAD,
    gp.TEE_ALG_DES_ECB_NOPAD,
    gp.TEE_ALG_DES3_ECB_NOPAD,
    gp.TEE_ALG_SM4_ECB_NOPAD,
)
# All data must be in whole blocks.
NO_PADDING = (
    *NO_IV,
    gp.TEE_ALG_AES_CBC_NOPAD,
    gp.TEE_ALG_DES_CBC_NOPAD,
    gp.TEE_ALG_DES3_CBC_NOPAD,
    gp.TEE_ALG_SM4_CBC_NOPAD,
)

# How much is held back: bytes of a block, and whether it is two of them, for the mode treats the
# last two in another way.
_BLOCK_SIZES = {
    gp.TEE_MAIN_ALGO_AES: gp.TEE_AES_BLOCK_SIZE,
    gp.TEE_MAIN_ALGO_SM4: gp.TEE_SM4_BLOCK_SIZE,
    gp.TEE_MAIN_ALGO_DES: gp.TEE_DES_BLOCK_SIZE,
    gp.TEE_MAIN_ALGO_DES3: gp.TEE_DES_BLOCK_SIZE,
}
TWO_BLOCKS = (gp.TEE_ALG_AES_CTS, gp.TEE_ALG_AES_XTS, gp.TEE_ALG_SM4_XTS)
_NO_BLOCKS = (gp.TEE_ALG_AES_CTR, gp.TEE_ALG_AES_GCM)


def block_size(algorithm: int) -> int:
    """Bytes of the blocks in which the data of an algorithm is processed; 1 for any size."""
    if USES.get(algorithm) is not _CIPHER or algorithm in _NO_BLOCKS:
        return 1
    return _BLOCK_SIZES[gp.TEE_ALG_GET_MAIN_ALG(algorithm)]


_NONE = (gp.TEE_CRYPTO_ELEMENT_NONE,)
_P192 = (gp.TEE_ECC_CURVE_NIST_P192,)
_P224 = (gp.TEE_ECC_CURVE_NIST_P224,)
_P256 = (gp.TEE_ECC_CURVE_NIST_P256,)
_P384 = (gp.TEE_ECC_CURVE_NIST_P384,)
_P521 = (gp.TEE_ECC_CURVE_NIST_P521,)
_SM2 = (gp.TEE_ECC_CURVE_SM2,)
_25519 = (gp.TEE_ECC_CURVE_25519,)
_ELEMENTS = {
    gp.TEE_ALG_ECDH_DERIVE_SHARED_SECRET: (*_P192, *_P224, *_P256, *_P384, *_P521),
    gp.TEE_ALG_ECDSA_SHA1: _P192,
    gp.OPTEE_ALG_ECDSA_P192: _P192,
    gp.OPTEE_ALG_ECDH_P192: _P192,
    gp.TEE_ALG_ECDSA_SHA224: _P224,
    gp.OPTEE_ALG_ECDSA_P224: _P224,
    gp.OPTEE_ALG_ECDH_P224: _P224,
    gp.TEE_ALG_ECDSA_SHA256: _P256,
    gp.OPTEE_ALG_ECDSA_P256: _P256,
    gp.OPTEE_ALG_ECDH_P256: _P256,
    gp.TEE_ALG_ECDSA_SHA384: _P384,
    gp.OPTEE_ALG_ECDSA_P384: _P384,
    gp.OPTEE_ALG_ECDH_P384: _P384,
    gp.TEE_ALG_ECDSA_SHA512: _P521,
    gp.OPTEE_ALG_ECDSA_P521: _P521,
    gp.OPTEE_ALG_ECDH_P521: _P521,
    gp.TEE_ALG_SM2_DSA_SM3: _SM2,
    gp.TEE_ALG_SM2_KEP: _SM2,
    gp.TEE_ALG_SM2_PKE: _SM2,
    gp.TEE_ALG_ED25519: _25519,
    gp.TEE_ALG_X25519: _25519,
}


def TEE_IsAlgorithmSupported(alg_id: int, element: int = gp.TEE_CRYPTO_ELEMENT_NONE) -> bool:
    """Whether there are operations of an algorithm (section 6.2.9).

    OP-TEE's libutee names TEE_ALG_MD5SHA1 and the signatures with it, of which there are none, and
    not its own extensions, such as HKDF. Here it is what TEE_AllocateOperation takes.

    :param element: the curve TEE_ECC_CURVE_* of an algorithm on curves, else 0.
    """
    return alg_id in USES and element in _ELEMENTS.get(alg_id, _NONE)
