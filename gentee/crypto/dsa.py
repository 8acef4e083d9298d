# SPDX-License-Identifier: BSD-2-Clause
"""DSA: ``core/lib/libtomcrypt/dsa.c`` of OP-TEE, down to its codes.

pyca/cryptography does it for the sizes that it takes, :mod:`gentee.crypto.own.dsa` for others.
"""

from cryptography.exceptions import InternalError, InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from gentee.abi import gp_crypto as gp
from gentee.crypto.own.dsa import DsaNumbers
from gentee.errors import (
    BadParameters,
    GenericError,
    NotImplementedByTee,
    NotSupported,
    SecurityError,
    ShortBuffer,
    SignatureInvalid,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.crypto.objects import CryptObject

_ALGORITHMS = (gp.TEE_ALG_DSA_SHA1, gp.TEE_ALG_DSA_SHA224, gp.TEE_ALG_DSA_SHA256)

_MAX_SIZE = 512  # LTC_MDSA_MAX_GROUP: bytes that q is shorter than


class _Dsa:
    """A key that is ready for use.

    :ivar public: pyca/cryptography's, or None where it refuses the key. So with private.
    """

    __slots__ = ("numbers", "private", "public")

    def __init__(self, numbers: DsaNumbers) -> None:
        self.numbers = numbers
        self.public: dsa.DSAPublicKey | None = None
        self.private: dsa.DSAPrivateKey | None = None
        p, q, g, y, x = numbers
        try:
            public = dsa.DSAPublicNumbers(y, dsa.DSAParameterNumbers(p, q, g))
            self.public = public.public_key()
            if x:
                self.private = dsa.DSAPrivateNumbers(x, public).private_key()
        except (ValueError, InternalError):
            pass  # DsaNumbers does what OP-TEE does with such numbers


def _of(key: "CryptObject") -> _Dsa:
    prepared = key.prepared
    if not isinstance(prepared, _Dsa):
        prepared = key.prepared = _Dsa(
            DsaNumbers(
                key.number(gp.TEE_ATTR_DSA_PRIME),
                key.number(gp.TEE_ATTR_DSA_SUBPRIME),
                key.number(gp.TEE_ATTR_DSA_BASE),
                key.number(gp.TEE_ATTR_DSA_PUBLIC_VALUE),
                key.number(gp.TEE_ATTR_DSA_PRIVATE_VALUE),
            )
        )
    return prepared


def _prehashed(digest: bytes) -> Prehashed:
    # Only a name for bytes, as many as the digest has.
    return Prehashed(hashes.SHAKE128(len(digest)))


def sign(key: "CryptObject", algo: int, data: bytes | None, room: int) -> bytes:
    """``crypto_acipher_dsa_sign()``: r and s, each as long as q.

    :param data: as many bytes as the digest of the algorithm has, or q where that is shorter.
    :raises NotImplementedByTee: there is no such algorithm.
    :raises SecurityError: the digest has another size.
    :raises ShortBuffer: there is no room for the signature.
    :raises BadParameters: the key has no private value.
    :raises GenericError: the key is none.
    """
    if algo not in _ALGORITHMS:
        raise NotImplementedByTee(f"algorithm {algo:#x}")
    dsa_key = _of(key)
    data = data or b""
    size = dsa_key.numbers.size
    if len(data) != min(size, gp.TEE_ALG_GET_DIGEST_SIZE(gp.TEE_DIGEST_HASH_TO_ALGO(algo))):
        raise SecurityError(f"{len(data)} bytes of a digest")
    if room < 2 * size:
        raise ShortBuffer(f"{room} bytes for {2 * size}", size=2 * size)
    if key.obj_type != gp.TEE_TYPE_DSA_KEYPAIR:
        raise BadParameters("a signature with a public key")
    if not data or size >= _MAX_SIZE:
        raise GenericError(f"{size=} of q")
    try:
        if dsa_key.private is not None:
            r, s = decode_dss_signature(dsa_key.private.sign(data, _prehashed(data)))
        else:
            r, s = dsa_key.numbers.sign(data)
    except (ValueError, InternalError) as error:
        raise GenericError(str(error)) from None
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def verify(key: "CryptObject", algo: int, data: bytes | None, signature: bytes) -> None:
    """``crypto_acipher_dsa_verify()``, and what ``syscall_asymm_verify()`` does before it.

    The first half of the signature is r and the second one s, however long they are.

    :raises NotSupported: the algorithm has no digest.
    :raises BadParameters: the digest has another size than the algorithm's, or than q.
    :raises NotImplementedByTee: there is no such algorithm.
    :raises SignatureInvalid: the signature is not that of the digest.
    :raises GenericError: the key is none.
    """
    digest_size = gp.TEE_ALG_GET_DIGEST_SIZE(gp.TEE_DIGEST_HASH_TO_ALGO(algo))
    if not digest_size:
        raise NotSupported(f"algorithm {algo:#x}")
    dsa_key = _of(key)
    data = data or b""
    if len(data) not in (digest_size, dsa_key.numbers.size):
        raise BadParameters(f"{len(data)} bytes of a digest")
    if algo not in _ALGORITHMS:
        raise NotImplementedByTee(f"algorithm {algo:#x}")
    half = len(signature) // 2
    r = int.from_bytes(signature[:half], "big")
    s = int.from_bytes(signature[half : 2 * half], "big")
    if dsa_key.public is not None and data:
        try:
            dsa_key.public.verify(encode_dss_signature(r, s), data, _prehashed(data))
        except InvalidSignature:
            raise SignatureInvalid("not the signature of this digest") from None
        return
    try:
        is_valid = dsa_key.numbers.is_valid(data, r, s)
    except ValueError as error:
        raise GenericError(str(error)) from None
    if not is_valid:
        raise SignatureInvalid("not the signature of this digest")
