# SPDX-License-Identifier: BSD-2-Clause
"""Rows of the table of algorithms: asymmetric encryption, signatures and derivation of keys."""

from collections.abc import Iterable

from gentee.abi import gp_crypto as gp
from gentee.crypto.algorithms import BOTH, GENTEE, PYCA, Row
from gentee.crypto.ecc import ALGORITHMS as ECDSA_OF
from gentee.crypto.object_types import CURVE_BITS
from gentee.crypto.states_asymmetric import DSA, RSAES, RSASSA

_RSA_KEYS = gp.TEE_TYPE_RSA_KEYPAIR, gp.TEE_TYPE_RSA_PUBLIC_KEY
_DSA_KEYS = gp.TEE_TYPE_DSA_KEYPAIR, gp.TEE_TYPE_DSA_PUBLIC_KEY
_ECDSA_KEYS = gp.TEE_TYPE_ECDSA_KEYPAIR, gp.TEE_TYPE_ECDSA_PUBLIC_KEY
_ED25519_KEYS = gp.TEE_TYPE_ED25519_KEYPAIR, gp.TEE_TYPE_ED25519_PUBLIC_KEY
_SM2_DSA_KEYS = gp.TEE_TYPE_SM2_DSA_KEYPAIR, gp.TEE_TYPE_SM2_DSA_PUBLIC_KEY
_SM2_PKE_KEYS = gp.TEE_TYPE_SM2_PKE_KEYPAIR, gp.TEE_TYPE_SM2_PKE_PUBLIC_KEY
_SM2_KEP_KEYS = (gp.TEE_TYPE_SM2_KEP_KEYPAIR,)

_SM3 = "the digest is pyca's"
_RSAES_NOTES = {
    gp.TEE_ALG_RSAES_PKCS1_V1_5: (BOTH, "gentee's: whether a padding is wrong"),
    gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_MD5: (GENTEE, "the digest is pyca's"),
}
_KDFS = {
    gp.TEE_TYPE_HKDF_IKM: (
        gp.TEE_ALG_HKDF,
        gp.TEE_ALG_HKDF_MD5_DERIVE_KEY,
        gp.TEE_ALG_HKDF_SHA1_DERIVE_KEY,
        gp.TEE_ALG_HKDF_SHA224_DERIVE_KEY,
        gp.TEE_ALG_HKDF_SHA256_DERIVE_KEY,
        gp.TEE_ALG_HKDF_SHA384_DERIVE_KEY,
        gp.TEE_ALG_HKDF_SHA512_DERIVE_KEY,
    ),
    gp.TEE_TYPE_CONCAT_KDF_Z: (
        gp.TEE_ALG_CONCAT_KDF_SHA1_DERIVE_KEY,
        gp.TEE_ALG_CONCAT_KDF_SHA224_DERIVE_KEY,
        gp.TEE_ALG_CONCAT_KDF_SHA256_DERIVE_KEY,
        gp.TEE_ALG_CONCAT_KDF_SHA384_DERIVE_KEY,
        gp.TEE_ALG_CONCAT_KDF_SHA512_DERIVE_KEY,
    ),
    gp.TEE_TYPE_PBKDF2_PASSWORD: (
        gp.TEE_ALG_PBKDF2_HMAC_SHA1_DERIVE_KEY,
        gp.TEE_ALG_PBKDF2_HMAC_SHA224_DERIVE_KEY,
        gp.TEE_ALG_PBKDF2_HMAC_SHA256_DERIVE_KEY,
        gp.TEE_ALG_PBKDF2_HMAC_SHA384_DERIVE_KEY,
        gp.TEE_ALG_PBKDF2_HMAC_SHA512_DERIVE_KEY,
        gp.TEE_ALG_PBKDF2_HMAC_SM3_DERIVE_KEY,
    ),
}


def _rows() -> Iterable[Row]:
    yield Row(gp.TEE_ALG_RSA_NOPAD, _RSA_KEYS, GENTEE)
    for algo in RSAES:
        yield Row(algo, _RSA_KEYS, *_RSAES_NOTES.get(algo, (PYCA, "")))
    for algo in RSASSA:
        yield Row(algo, _RSA_KEYS, PYCA)
    for algo in DSA:
        note = "gentee's: keys of other sizes than 1024, 2048 and 3072 bits"
        yield Row(algo, _DSA_KEYS, BOTH, note)
    for curve, algo in ECDSA_OF.items():
        yield Row(algo, _ECDSA_KEYS, PYCA, f"on P-{CURVE_BITS[curve]}", str(CURVE_BITS[curve]))
    yield Row(gp.TEE_ALG_ED25519, _ED25519_KEYS, BOTH, "gentee's: with a context or a prehash")
    yield Row(gp.TEE_ALG_SM2_DSA_SM3, _SM2_DSA_KEYS, GENTEE)
    yield Row(gp.TEE_ALG_SM2_PKE, _SM2_PKE_KEYS, GENTEE, _SM3)
    yield Row(gp.TEE_ALG_SM2_KEP, _SM2_KEP_KEYS, GENTEE, _SM3)
    yield Row(gp.TEE_ALG_DH_DERIVE_SHARED_SECRET, (gp.TEE_TYPE_DH_KEYPAIR,), GENTEE)
    curves = ", ".join(str(CURVE_BITS[curve]) for curve in ECDSA_OF)
    ecdh = (gp.TEE_TYPE_ECDH_KEYPAIR,)
    yield Row(gp.TEE_ALG_ECDH_DERIVE_SHARED_SECRET, ecdh, PYCA, sizes=curves)
    yield Row(gp.TEE_ALG_X25519, (gp.TEE_TYPE_X25519_KEYPAIR,), PYCA)
    yield Row(gp.TEE_ALG_X448, (gp.TEE_TYPE_X448_KEYPAIR,), PYCA, "OP-TEE itself has none")
    for obj_type, algorithms in _KDFS.items():
        for algo in algorithms:
            yield Row(algo, (obj_type,), PYCA)


ROWS = tuple(_rows())
