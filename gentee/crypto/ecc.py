# SPDX-License-Identifier: BSD-2-Clause
"""ECDSA and ECDH on NIST's curves: ``core/lib/libtomcrypt/ecc.c`` of OP-TEE, down to its codes.

All of it is pyca/cryptography's. Private values are taken modulo the order of the curve, and public
ones of a key pair are not looked at by private operations, as in OP-TEE. A public key that is no
point of its curve verifies nothing.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from gentee.abi import gp_crypto as gp
from gentee.crypto.keygen import PYCA_CURVES
from gentee.errors import (
    BadParameters,
    GenericError,
    NotImplementedByTee,
    NotSupported,
    ShortBuffer,
    SignatureInvalid,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.crypto.objects import CryptObject

# ecc_get_curve_info(): the algorithm says the curve, and nothing of the digest.
ALGORITHMS = {
    gp.TEE_ECC_CURVE_NIST_P192: gp.TEE_ALG_ECDSA_SHA1,
    gp.TEE_ECC_CURVE_NIST_P224: gp.TEE_ALG_ECDSA_SHA224,
    gp.TEE_ECC_CURVE_NIST_P256: gp.TEE_ALG_ECDSA_SHA256,
    gp.TEE_ECC_CURVE_NIST_P384: gp.TEE_ALG_ECDSA_SHA384,
    gp.TEE_ECC_CURVE_NIST_P521: gp.TEE_ALG_ECDSA_SHA512,
}
_ORDERS = {
    gp.TEE_ECC_CURVE_NIST_P192: 0xFFFFFFFFFFFFFFFFFFFFFFFF99DEF836146BC9B1B4D22831,
    gp.TEE_ECC_CURVE_NIST_P224: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFF16A2E0B8F03E13DD29455C5C2A3D,
    gp.TEE_ECC_CURVE_NIST_P256: int(
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16
    ),
    gp.TEE_ECC_CURVE_NIST_P384: int(
        "ffffffffffffffffffffffffffffffffffffffffffffffff"
        "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
        16,
    ),
    gp.TEE_ECC_CURVE_NIST_P521: int(
        "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa"
        "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
        16,
    ),
}

_ECDH = ec.ECDH()

# Digests are made before: this one is only a name for bytes, as many as a digest is to have.
_DIGESTS = {size: ec.ECDSA(Prehashed(hashes.SHAKE128(size))) for size in (24, 28, 32, 48, 65, 66)}


class _Ecc:
    """A key that is ready for use.

    :ivar size: bytes of a coordinate and of the order.
    :ivar short: bytes of the longest digest that is a number below the order as it is.
    :ivar private: None where there is none, or it is 0.
    """

    __slots__ = ("_point", "_public", "algo", "curve", "private", "short", "size")

    def __init__(self, curve: int, d: int, x: int, y: int) -> None:
        known = PYCA_CURVES[curve]
        self.curve = curve
        self.algo = ALGORITHMS[curve]
        self.size = (known.key_size + 7) // 8
        self.short = known.key_size // 8
        d %= _ORDERS[curve]
        self.private = ec.derive_private_key(d, known) if d else None
        self._point = x, y
        self._public: ec.EllipticCurvePublicKey | None = None

    def public(self) -> ec.EllipticCurvePublicKey | None:
        """The public key; None where it is no point of the curve."""
        if self._public is None:
            self._public = public_key(self.curve, *self._point)
        return self._public

    def digest(self, data: bytes) -> tuple[bytes, ec.ECDSA]:
        """The bytes of a digest that count, as many as pyca/cryptography then wants."""
        size = self.size
        if len(data) >= size:
            data = data[:size]
        else:
            size = self.short
            data = data.rjust(size, b"\0")
        return data, _DIGESTS[size]


def public_key(curve: int, x: int, y: int) -> ec.EllipticCurvePublicKey | None:
    """The public key with these coordinates; None where they are no point of the curve."""
    try:
        return ec.EllipticCurvePublicNumbers(x, y, PYCA_CURVES[curve]).public_key()
    except ValueError:
        return None


def _of(key: "CryptObject", algo: int) -> _Ecc:
    """A key for an algorithm, 0 for any.

    :raises NotSupported: its curve is none.
    :raises BadParameters: the algorithm is not that of its curve.
    """
    prepared = key.prepared
    if not isinstance(prepared, _Ecc):
        curve = key.value(gp.TEE_ATTR_ECC_CURVE)[0]
        if curve not in PYCA_CURVES:
            if curve == gp.TEE_ECC_CURVE_SM2:
                raise BadParameters(f"algorithm {algo:#x} on {curve=:#x}")
            raise NotSupported(f"{curve=:#x}")
        prepared = key.prepared = _Ecc(
            curve,
            key.number(gp.TEE_ATTR_ECC_PRIVATE_VALUE),
            key.number(gp.TEE_ATTR_ECC_PUBLIC_VALUE_X),
            key.number(gp.TEE_ATTR_ECC_PUBLIC_VALUE_Y),
        )
    if algo and algo != prepared.algo:
        raise BadParameters(f"algorithm {algo:#x} on curve {prepared.curve:#x}")
    return prepared


def sign(key: "CryptObject", algo: int, data: bytes | None, room: int) -> bytes:
    """``crypto_acipher_ecc_sign()``: r and s, each as long as the order. Digests of any size.

    :raises NotSupported: the curve of the key is none.
    :raises BadParameters: the algorithm is not that of its curve, or it has no private value.
    :raises ShortBuffer: there is no room for the signature.
    :raises GenericError: there is no data, or the private value is 0.
    """
    ecc_key = _of(key, algo)
    size = ecc_key.size
    if room < 2 * size:
        raise ShortBuffer(f"{room} bytes for {2 * size}", size=2 * size)
    if data is None:
        raise GenericError("no data")
    private = ecc_key.private
    if private is None:
        if key.obj_type != gp.TEE_TYPE_ECDSA_KEYPAIR:
            raise BadParameters("a signature with a public key")
        raise GenericError("the private value is 0")
    signature = private.sign(*ecc_key.digest(data))
    # SEQUENCE { INTEGER r, INTEGER s }, with two bytes of length where there are more than 127.
    start = 4 if signature[1] < 0x80 else 5
    end = start + signature[start - 1]
    r, s = signature[start:end], signature[end + 2 :]
    return r[-size:].rjust(size, b"\0") + s[-size:].rjust(size, b"\0")


def verify(key: "CryptObject", algo: int, data: bytes | None, signature: bytes) -> None:
    """``crypto_acipher_ecc_verify()``.

    :raises NotSupported: the curve of the key is none.
    :raises BadParameters: the algorithm is not that of its curve, or the signature is not as long
        as two of its numbers.
    :raises SignatureInvalid: the signature is not that of the digest.
    :raises GenericError: there is no data.
    """
    ecc_key = _of(key, algo)
    size = ecc_key.size
    if len(signature) != 2 * size:
        raise BadParameters(f"{len(signature)} bytes of a signature")
    if data is None:
        raise GenericError("no data")
    public = ecc_key.public()
    if public is None:
        raise SignatureInvalid("the key is not on its curve")
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    try:
        public.verify(encode_dss_signature(r, s), *ecc_key.digest(data))
    except InvalidSignature:
        raise SignatureInvalid("not the signature of this digest") from None


def shared_secret(key: "CryptObject", x: int, y: int, room: int) -> bytes:
    """``crypto_acipher_ecc_shared_secret()``: the first coordinate of the shared point.

    :param x: the other's public key, and ``y``.
    :raises NotImplementedByTee: the curve of the key is none.
    :raises BadParameters: the other's key is no point of this curve, there is no room for the
        secret, or the key has no private value.
    """
    curve = key.value(gp.TEE_ATTR_ECC_CURVE)[0]
    if curve not in PYCA_CURVES:
        raise NotImplementedByTee(f"{curve=:#x}")
    ecc_key = _of(key, 0)
    peer = public_key(curve, x, y)
    if peer is None:
        raise BadParameters("the public key is not on the curve")
    if ecc_key.private is None:
        raise BadParameters("the private value is 0")
    if room < ecc_key.size:
        raise BadParameters(f"{room} bytes for {ecc_key.size}")
    return ecc_key.private.exchange(_ECDH, peer)
