# SPDX-License-Identifier: BSD-2-Clause
"""RSA encryption and signatures: ``core/lib/libtomcrypt/rsa.c`` of OP-TEE, down to its codes.

pyca/cryptography does what it can. :mod:`gentee.crypto.own.rsa` does the rest: RSA_NOPAD; OAEP with
MD5; and keys that pyca/cryptography refuses. OpenSSL answers a wrong padding of PKCS #1 v1.5 with
bytes that look random, and OP-TEE with TEE_ERROR_BAD_PARAMETERS:
:mod:`gentee.crypto.own.implicit_rejection` tells these bytes from a message.

``data`` is None where a TA passed the address 0. ``room`` is what there is room for, in bytes.
"""

from functools import lru_cache

from cryptography.exceptions import InternalError, InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed

from gentee.abi import gp_crypto as gp
from gentee.crypto.constant_time import compare_digest
from gentee.crypto.digests import HASHES
from gentee.crypto.own import implicit_rejection
from gentee.crypto.own import rsa as own
from gentee.errors import (
    BadParameters,
    GenericError,
    NotSupported,
    OutOfMemory,
    ShortBuffer,
    SignatureInvalid,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.crypto.objects import CryptObject

    _Padding = padding.PKCS1v15 | padding.PSS

_RSASSA_PKCS1 = {
    gp.TEE_ALG_RSASSA_PKCS1_V1_5_MD5: gp.TEE_ALG_MD5,
    gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA1: gp.TEE_ALG_SHA1,
    gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA224: gp.TEE_ALG_SHA224,
    gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA256: gp.TEE_ALG_SHA256,
    gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA384: gp.TEE_ALG_SHA384,
    gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA512: gp.TEE_ALG_SHA512,
}
_RSASSA_PSS = {
    gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_MD5: gp.TEE_ALG_MD5,
    gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA1: gp.TEE_ALG_SHA1,
    gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA224: gp.TEE_ALG_SHA224,
    gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256: gp.TEE_ALG_SHA256,
    gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA384: gp.TEE_ALG_SHA384,
    gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA512: gp.TEE_ALG_SHA512,
}
_OAEP = {
    gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_MD5: gp.TEE_ALG_MD5,
    gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA1: gp.TEE_ALG_SHA1,
    gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA224: gp.TEE_ALG_SHA224,
    gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA256: gp.TEE_ALG_SHA256,
    gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA384: gp.TEE_ALG_SHA384,
    gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA512: gp.TEE_ALG_SHA512,
}
_DIGESTS = (
    gp.TEE_ALG_MD5,
    gp.TEE_ALG_SHA1,
    gp.TEE_ALG_SHA224,
    gp.TEE_ALG_SHA256,
    gp.TEE_ALG_SHA384,
    gp.TEE_ALG_SHA512,
)
# tee_algo_to_ltc_hashindex(): it also takes algorithms that have one of these digests.
_HASH_OF = {**{algo: algo for algo in _DIGESTS}, **_RSASSA_PKCS1, **_RSASSA_PSS, **_OAEP}
_NO_HASH = (gp.TEE_ALG_RSASSA_PKCS1_V1_5, gp.TEE_ALG_RSAES_PKCS1_V1_5)

# SEQUENCE { SEQUENCE { OID, NULL }, OCTET STRING } of RFC 8017 section 9.2, without the digest.
# The second form lacks the NULL: libtomcrypt takes it, too.
_OIDS = {
    gp.TEE_ALG_MD5: "2a864886f70d0205",
    gp.TEE_ALG_SHA1: "2b0e03021a",
    gp.TEE_ALG_SHA224: "608648016503040204",
    gp.TEE_ALG_SHA256: "608648016503040201",
    gp.TEE_ALG_SHA384: "608648016503040202",
    gp.TEE_ALG_SHA512: "608648016503040203",
}

_PKCS1_OVERHEAD = 11
_PKCS1 = padding.PKCS1v15()
_RAW = NoDigestInfo()
_PREHASHED = {algo: Prehashed(HASHES[algo]) for algo in _DIGESTS}

# OpenSSL takes no longer exponents than these for a modulus of more bits than those.
_LONG_MODULUS_BITS = 3072
_LONG_MODULUS_MAX_E_BITS = 64


class _Rsa:
    """A key that is ready for use.

    :ivar public: pyca/cryptography's, or None where it refuses the key. So with private.
    """

    __slots__ = ("numbers", "private", "public", "size")

    def __init__(self, numbers: own.RsaNumbers) -> None:
        self.numbers = numbers
        self.size = numbers.size
        self.public: rsa.RSAPublicKey | None = None
        self.private: rsa.RSAPrivateKey | None = None
        e, n = numbers.e, numbers.n
        if not n & 1:
            return
        if n.bit_length() > _LONG_MODULUS_BITS and e.bit_length() > _LONG_MODULUS_MAX_E_BITS:
            return
        try:
            public = rsa.RSAPublicNumbers(e, n)
            self.public = public.public_key()
            private = _private_numbers(numbers, public)
            if private is not None:
                self.private = private.private_key(unsafe_skip_rsa_key_validation=True)
        except ValueError:
            pass  # own.RsaNumbers does what OP-TEE does with such numbers


def _private_numbers(
    key: own.RsaNumbers, public: rsa.RSAPublicNumbers
) -> rsa.RSAPrivateNumbers | None:
    """The private numbers of a key, with primes; None where it has none that fit.

    :raises ValueError: it has no such numbers.
    """
    n, e, d, p, q, dp, dq, qp = key
    if p and q and dp and dq and qp:
        fit = (
            p > 2 < q
            and p * q == n
            and e * dp % (p - 1) == 1
            and e * dq % (q - 1) == 1
            and q * qp % p == 1
        )
        return rsa.RSAPrivateNumbers(p, q, d, dp, dq, qp, public) if fit else None
    # Without this a search for primes that do not exist would go on for a long time.
    if not d or pow(pow(2, e, n), d, n) != 2:
        return None
    p, q = rsa.rsa_recover_prime_factors(n, e, d)
    return rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)


def _prepare(key: "CryptObject") -> _Rsa:
    number = key.number
    prepared = _Rsa(
        own.RsaNumbers(
            number(gp.TEE_ATTR_RSA_MODULUS),
            number(gp.TEE_ATTR_RSA_PUBLIC_EXPONENT),
            number(gp.TEE_ATTR_RSA_PRIVATE_EXPONENT),
            number(gp.TEE_ATTR_RSA_PRIME1),
            number(gp.TEE_ATTR_RSA_PRIME2),
            number(gp.TEE_ATTR_RSA_EXPONENT1),
            number(gp.TEE_ATTR_RSA_EXPONENT2),
            number(gp.TEE_ATTR_RSA_COEFFICIENT),
        )
    )
    key.prepared = prepared
    return prepared


def _of(key: "CryptObject", private: bool = False) -> _Rsa:
    prepared = key.prepared
    if not isinstance(prepared, _Rsa):
        prepared = _prepare(key)
    if private and key.obj_type != gp.TEE_TYPE_RSA_KEYPAIR:
        raise BadParameters("a private operation with a public key")
    return prepared


def _public(key: _Rsa, number: int) -> int:
    """rsa_exptmod() with the public exponent.

    :raises BadParameters: the number is longer than the modulus.
    :raises GenericError: the key is none.
    """
    if number > key.numbers.n:
        raise BadParameters("more than the modulus")
    try:
        return key.numbers.public(number)
    except ValueError as error:
        raise GenericError(str(error)) from None


def _private(key: _Rsa, number: int) -> int:
    """The same with the private exponent."""
    if number > key.numbers.n:
        raise BadParameters("more than the modulus")
    try:
        return key.numbers.private(number)
    except ValueError as error:
        raise GenericError(str(error)) from None


def _fits(result: bytes, room: int) -> bytes:
    if room < len(result):
        raise ShortBuffer(f"{room} bytes for {len(result)}", size=len(result))
    return result


# Without a padding.


def nopad(key: "CryptObject", data: bytes | None, room: int, private: bool) -> bytes:
    """``crypto_acipher_rsanopad_encrypt()`` and ``_decrypt()``: without zeros before the number.

    :raises GenericError: there is no data, or the key is none.
    :raises BadParameters: the number is longer than the modulus.
    """
    rsa_key = _of(key, private)
    if data is None:
        raise GenericError("no data")
    number = int.from_bytes(data, "big")
    result = _private(rsa_key, number) if private else _public(rsa_key, number)
    return _fits(result.to_bytes(max(1, (result.bit_length() + 7) // 8), "big"), room)


# Encryption.


def _mgf(algo: int) -> hashes.HashAlgorithm:
    """The digest of a mask generation function.

    :raises BadParameters: there is no such digest.
    :raises GenericError: the algorithm has none.
    """
    found = _HASH_OF.get(algo)
    if found is None:
        if algo in _NO_HASH:
            raise GenericError(f"a mask generation function with {algo:#x}")
        raise BadParameters(f"a mask generation function with {algo:#x}")
    return HASHES[found]


@lru_cache(32)
def _oaep(algo: int, mgf_algo: int, label: bytes) -> padding.OAEP:
    return padding.OAEP(padding.MGF1(HASHES[mgf_algo]), HASHES[algo], label or None)


def encrypt(
    key: "CryptObject", algo: int, data: bytes | None, room: int, label: bytes, mgf_algo: int
) -> bytes:
    """``crypto_acipher_rsaes_encrypt()``.

    :param label: of OAEP.
    :param mgf_algo: TEE_ALG_* of the digest of OAEP's mask generation function.
    :raises ShortBuffer: there is less room than the modulus takes.
    :raises BadParameters: too much data for the modulus, or no such mask generation function.
    :raises GenericError: the key is none.
    """
    rsa_key = _of(key)
    size = rsa_key.size
    if room < size:
        raise ShortBuffer(f"{room} bytes for {size}", size=size)
    data = data or b""
    if algo == gp.TEE_ALG_RSAES_PKCS1_V1_5:
        if len(data) + _PKCS1_OVERHEAD > size:
            raise BadParameters(f"{len(data)} bytes for a modulus of {size}")
        if rsa_key.public is not None:
            return rsa_key.public.encrypt(data, _PKCS1)
        encoded = own.pkcs1_encode(data, size)
    else:
        mgf = _mgf(mgf_algo)
        digest = HASHES[_OAEP[algo]]
        most = size - 2 * digest.digest_size - 2
        if most <= 0 or len(data) > most:
            raise BadParameters(f"{len(data)} bytes for a modulus of {size}")
        if rsa_key.public is not None and "md5" not in (digest.name, mgf.name):
            oaep = _oaep(_OAEP[algo], _HASH_OF[mgf_algo], label)
            return rsa_key.public.encrypt(data, oaep)
        encoded = own.oaep_encode(data, label, size, digest, mgf)
    return _public(rsa_key, int.from_bytes(encoded, "big")).to_bytes(size, "big")


def _pkcs1_decrypt(key: _Rsa, data: bytes) -> bytes:
    """The message in a ciphertext as long as the modulus; raises BadParameters, GenericError.

    OpenSSL does not say that a padding is wrong: it gives the message of the implicit rejection.
    That a real message is the same has a chance that nobody lives to see.
    """
    number = int.from_bytes(data, "big")
    # OpenSSL takes no other exponents for that, whatever the primes are. Of the modulus itself
    # OP-TEE says something else than of other ciphertexts that are wrong.
    fits = 0 < key.numbers.d.bit_length() <= 8 * key.size and number < key.numbers.n
    try:
        if key.private is None or not fits or not implicit_rejection.is_done():
            return own.pkcs1_decode(_private(key, number).to_bytes(key.size, "big"))
        message = key.private.decrypt(data, _PKCS1)
        rejected = implicit_rejection.message(key.numbers.d, data)
    except ValueError as error:
        raise BadParameters(str(error)) from None
    if compare_digest(message, rejected):
        raise BadParameters("decryption error")
    return message


def decrypt(
    key: "CryptObject", algo: int, data: bytes | None, room: int, label: bytes, mgf_algo: int
) -> bytes:
    """``crypto_acipher_rsaes_decrypt()``. What is wrong with a padding is not said.

    :raises BadParameters: the data is not as long as the modulus, or greater; its padding is
        wrong; the modulus is too short; or there is no such mask generation function.
    :raises ShortBuffer: there is no room for the result.
    :raises GenericError: there is no data, or the key is none.
    """
    rsa_key = _of(key, True)
    size = rsa_key.size
    is_pkcs1 = algo == gp.TEE_ALG_RSAES_PKCS1_V1_5
    if is_pkcs1:
        if size < _PKCS1_OVERHEAD:
            raise OutOfMemory(f"a modulus of {size} bytes")
    elif mgf_algo not in _NO_HASH:
        _mgf(mgf_algo)
    if data is None:
        raise GenericError("no data")
    if is_pkcs1:
        if len(data) != size:
            raise BadParameters(f"{len(data)} bytes for a modulus of {size}")
        return _fits(_pkcs1_decrypt(rsa_key, data), room)
    mgf = _mgf(mgf_algo)
    if len(data) != size:
        raise BadParameters(f"{len(data)} bytes for a modulus of {size}")
    digest = HASHES[_OAEP[algo]]
    number = int.from_bytes(data, "big")
    try:
        if 2 * digest.digest_size >= size - 2:
            raise ValueError(f"a modulus of {size} bytes")
        # Of the modulus itself OP-TEE says something else than of other encodings that are wrong.
        is_short = number < rsa_key.numbers.n
        if rsa_key.private is not None and is_short and "md5" not in (digest.name, mgf.name):
            oaep = _oaep(_OAEP[algo], _HASH_OF[mgf_algo], label)
            return _fits(rsa_key.private.decrypt(data, oaep), room)
        encoded = _private(rsa_key, number).to_bytes(size, "big")
        return _fits(own.oaep_decode(encoded, label, digest, mgf), room)
    except ValueError as error:
        raise BadParameters(str(error)) from None


# Signatures.


@lru_cache(32)
def _pss(algo: int, salt_size: int) -> padding.PSS:
    return padding.PSS(padding.MGF1(HASHES[algo]), salt_size)


def _digest_info(digest_algo: int, digest: bytes, with_null: bool = True) -> bytes:
    oid = bytes.fromhex(_OIDS[digest_algo])
    algorithm = b"\x06" + bytes((len(oid),)) + oid + (b"\x05\0" if with_null else b"")
    info = b"\x30" + bytes((len(algorithm),)) + algorithm
    info += b"\x04" + bytes((len(digest),)) + digest
    return b"\x30" + bytes((len(info),)) + info


def _pss_fits(key: _Rsa, digest_size: int, salt_size: int) -> bool:
    return (key.numbers.bits + 6) // 8 >= digest_size + salt_size + 2


def sign(key: "CryptObject", algo: int, salt_size: int, data: bytes | None, room: int) -> bytes:
    """``crypto_acipher_rsassa_sign()``: the signature of a digest.

    :param salt_size: of PSS.
    :raises BadParameters: the digest has another size, it is too long for the modulus, or the key
        is none.
    :raises ShortBuffer: there is no room for the signature.
    """
    rsa_key = _of(key, True)
    digest_algo = _RSASSA_PKCS1.get(algo)
    is_pss = False
    if digest_algo is None:
        digest_algo = _RSASSA_PSS.get(algo)
        is_pss = digest_algo is not None
        if not is_pss and algo != gp.TEE_ALG_RSASSA_PKCS1_V1_5:
            raise BadParameters(f"no signature algorithm: {algo:#x}")
    size = rsa_key.size
    if digest_algo is not None and len(data or b"") != HASHES[digest_algo].digest_size:
        raise BadParameters(f"{len(data or b'')} bytes of a digest")
    if room < size:
        raise ShortBuffer(f"{room} bytes for {size}", size=size)
    if data is None:
        raise BadParameters("no data")
    try:
        if rsa_key.private is not None:
            return _pyca_sign(rsa_key, rsa_key.private, digest_algo, is_pss, salt_size, data)
        encoded = _encode(rsa_key, digest_algo, is_pss, salt_size, data)
        return rsa_key.numbers.private(int.from_bytes(encoded, "big")).to_bytes(size, "big")
    except (ValueError, InternalError) as error:
        raise BadParameters(str(error)) from None


def _pyca_sign(
    key: _Rsa,
    private: rsa.RSAPrivateKey,
    digest_algo: int | None,
    is_pss: bool,
    salt_size: int,
    data: bytes,
) -> bytes:
    if digest_algo is None:
        if len(data) + _PKCS1_OVERHEAD > key.size:
            raise ValueError(f"{len(data)} bytes for a modulus of {key.size}")
        return private.sign(data, _PKCS1, _RAW)
    if is_pss:
        if not _pss_fits(key, len(data), salt_size):
            raise ValueError(f"a salt of {salt_size} bytes")
        return private.sign(data, _pss(digest_algo, salt_size), _PREHASHED[digest_algo])
    return private.sign(data, _PKCS1, _PREHASHED[digest_algo])


def _encode(key: _Rsa, digest_algo: int | None, is_pss: bool, salt_size: int, data: bytes) -> bytes:
    """What to raise to the private exponent; raises ValueError where it does not fit."""
    if is_pss:
        assert digest_algo is not None
        if not _pss_fits(key, len(data), salt_size):
            raise ValueError(f"a salt of {salt_size} bytes")
        return own.pss_encode(data, salt_size, key.numbers.bits, HASHES[digest_algo])
    info = data if digest_algo is None else _digest_info(digest_algo, data)
    if len(info) + _PKCS1_OVERHEAD > key.size:
        raise ValueError(f"{len(info)} bytes for a modulus of {key.size}")
    return own.pkcs1_signed(info, key.size)


def verify(
    key: "CryptObject", algo: int, salt_size: int | None, data: bytes | None, signature: bytes
) -> None:
    """``crypto_acipher_rsassa_verify()``, and what ``syscall_asymm_verify()`` does before it.

    :param salt_size: of PSS; None: as many bytes as the digest has.
    :raises NotSupported: the algorithm has no digest.
    :raises BadParameters: the digest has another size, or this is no algorithm for signatures.
    :raises SignatureInvalid: the signature is not that of the digest.
    :raises GenericError: there is no data.
    """
    digest_algo = None
    if algo != gp.TEE_ALG_RSASSA_PKCS1_V1_5:
        digest_size = gp.TEE_ALG_GET_DIGEST_SIZE(gp.TEE_DIGEST_HASH_TO_ALGO(algo))
        if not digest_size:
            raise NotSupported(f"no signature algorithm: {algo:#x}")
        if len(data or b"") != digest_size:
            raise BadParameters(f"{len(data or b'')} bytes of a digest")
        if salt_size is None:
            salt_size = digest_size
    rsa_key = _of(key)
    if len(signature) < rsa_key.size:
        raise SignatureInvalid(f"{len(signature)} bytes")
    if algo != gp.TEE_ALG_RSASSA_PKCS1_V1_5:
        digest_algo = _RSASSA_PKCS1.get(algo) or _RSASSA_PSS.get(algo)
        if digest_algo is None:
            raise BadParameters(f"no signature algorithm: {algo:#x}")
    if data is None:
        raise GenericError("no data")
    if not _is_valid(
        rsa_key, digest_algo, salt_size if algo in _RSASSA_PSS else None, data, signature
    ):
        raise SignatureInvalid("not the signature of this digest")


def _is_valid(
    key: _Rsa, digest_algo: int | None, salt_size: int | None, data: bytes, signature: bytes
) -> bool:
    """Whether this is the signature of ``data``; ``salt_size`` is None except for PSS."""
    if len(signature) != key.size:
        return False
    if salt_size is not None and not _pss_fits(key, len(data), salt_size):
        return False
    if key.public is not None and digest_algo is not None:
        scheme: _Padding = _PKCS1 if salt_size is None else _pss(digest_algo, salt_size)
        try:
            key.public.verify(signature, data, scheme, _PREHASHED[digest_algo])
            return True
        except InvalidSignature:
            if salt_size is not None:
                return False
    number = int.from_bytes(signature, "big")
    if number > key.numbers.n:
        return False
    try:
        encoded = key.numbers.public(number).to_bytes(key.size, "big")
    except ValueError as error:
        raise GenericError(str(error)) from None
    if salt_size is not None:
        assert digest_algo is not None
        bits = key.numbers.bits
        if bits % 8 == 1:
            if encoded[0]:
                return False
            encoded = encoded[1:]
        return own.pss_is_valid(encoded, data, salt_size, bits, HASHES[digest_algo])
    if digest_algo is None:
        infos = [data]
    else:
        infos = [_digest_info(digest_algo, data, null) for null in (True, False)]
    return any(
        len(info) + _PKCS1_OVERHEAD <= key.size and encoded == own.pkcs1_signed(info, key.size)
        for info in infos
    )
