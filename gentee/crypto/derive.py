# SPDX-License-Identifier: BSD-2-Clause
"""Keys from other keys: ``core/tee/tee_cryp_hkdf.c``, ``tee_cryp_concat_kdf.c``,
``tee_cryp_pbkdf2.c`` and ``core/lib/libtomcrypt/dh.c`` of OP-TEE, down to their codes.

All but Diffie-Hellman over finite fields is pyca/cryptography's, which will drop that.
"""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from gentee.abi import gp_crypto as gp
from gentee.crypto.digests import HASHES
from gentee.errors import BadParameters, BadState, NotImplementedByTee

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.crypto.objects import CryptObject

_HKDF_MAX_BLOCKS = 255


def dh(key: "CryptObject", public: int) -> bytes:
    """``crypto_acipher_dh_shared_secret()``: without zeros before the number.

    On integers, see :func:`gentee.crypto.keygen.dh_key`. As in OP-TEE, any public value will do.

    :raises BadParameters: the prime of the key is even.
    """
    p = key.number(gp.TEE_ATTR_DH_PRIME)
    if not p & 1:
        raise BadParameters("an even prime")
    secret = pow(public, key.number(gp.TEE_ATTR_DH_PRIVATE_VALUE), p)
    return secret.to_bytes((secret.bit_length() + 7) // 8, "big")


def _hash(algo: int) -> hashes.HashAlgorithm:
    """The digest TEE_ALG_*; raises NotImplementedByTee."""
    found = HASHES.get(algo)
    if found is None:
        raise NotImplementedByTee(f"digest {algo:#x}")
    return found


def hkdf(algo: int, secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """``tee_cryp_hkdf()``: RFC 5869 with the digest TEE_ALG_*.

    :raises NotImplementedByTee: there is no such digest.
    :raises BadParameters: so many bytes cannot be derived.
    """
    digest = _hash(algo)
    if size > _HKDF_MAX_BLOCKS * digest.digest_size:
        raise BadParameters(f"{size} bytes of a key")
    return HKDF(digest, size, salt or None, info).derive(secret) if size else b""


def concat_kdf(algo: int, secret: bytes, info: bytes, size: int) -> bytes:
    """``tee_cryp_concat_kdf()``: NIST SP 800-56A section 5.8.1 with the digest TEE_ALG_*.

    :raises NotImplementedByTee: there is no such digest.
    """
    digest = _hash(algo)
    return ConcatKDFHash(digest, size, info).derive(secret) if size else b""


def pbkdf2(algo: int, password: bytes, salt: bytes, iterations: int, size: int) -> bytes:
    """``tee_cryp_pbkdf2()``: RFC 8018 section 5.2 with HMAC and the digest TEE_ALG_*.

    Without iterations the key is 0, as in OP-TEE.

    :raises NotImplementedByTee: there is no such digest.
    :raises BadState: the password is empty; OP-TEE has no HMAC with such a key, but for SM3.
    """
    digest = _hash(algo)
    if not size or not iterations:
        return bytes(size)
    if not password and algo != gp.TEE_ALG_SM3:
        raise BadState("no password")
    return PBKDF2HMAC(digest, size, salt, iterations).derive(password)
