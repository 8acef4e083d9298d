# SPDX-License-Identifier: BSD-2-Clause
"""New keys, as numbers and bytes: what ``core/lib/libtomcrypt`` of OP-TEE does to generate one.

Objects are elsewhere, and so is every check of an argument that OP-TEE does before. Numbers that a
TA gives are hostile: OP-TEE does not look whether a prime is one, and whatever they are, a call
ends, with a key or with an error.
"""

import os
from math import gcd, lcm
from typing import NamedTuple

from cryptography.exceptions import InternalError
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gentee.abi import gp_crypto as gp
from gentee.crypto.own import curves
from gentee.crypto.own.primes import random_below, random_prime
from gentee.errors import BadParameters, NotSupported

PYCA_RSA_MIN_BITS = 1024  # pyca/cryptography makes no shorter RSA keys
_RSA_USUAL_E = 65537
_RSA_MAX_E_BITS = 255  # rsa_make_key_bn_e()

PYCA_CURVES: dict[int, ec.EllipticCurve] = {
    gp.TEE_ECC_CURVE_NIST_P192: ec.SECP192R1(),
    gp.TEE_ECC_CURVE_NIST_P224: ec.SECP224R1(),
    gp.TEE_ECC_CURVE_NIST_P256: ec.SECP256R1(),
    gp.TEE_ECC_CURVE_NIST_P384: ec.SECP384R1(),
    gp.TEE_ECC_CURVE_NIST_P521: ec.SECP521R1(),
}

# Sizes that pyca/cryptography takes for DSA, in bits
_PYCA_DSA_P = (1024, 2048, 3072)
_PYCA_DSA_Q = (160, 224, 256)


class RsaKey(NamedTuple):
    """An RSA key: modulus, exponents, primes, and what the Chinese remainder theorem wants."""

    n: int
    d: int
    p: int
    q: int
    dp: int
    dq: int
    qp: int


def rsa_key(bits: int, e: int) -> RsaKey:
    """A new RSA key with the public exponent ``e``.

    :raises BadParameters: no key of this size can be made, or none with this exponent.
    """
    # libtomcrypt makes both primes of whole bytes, and then finds the modulus too short.
    if bits % 16 or not 1 < e.bit_length() <= _RSA_MAX_E_BITS or not e & 1:
        raise BadParameters(f"an RSA key of {bits} bits with exponent {e:#x}")
    if bits >= PYCA_RSA_MIN_BITS and e == _RSA_USUAL_E:
        made = rsa.generate_private_key(e, bits).private_numbers()
        n = made.public_numbers.n
        return RsaKey(n, made.d, made.p, made.q, made.dmp1, made.dmq1, made.iqmp)
    fitting: list[int] = []
    while len(fitting) < 2:
        for prime in _rsa_primes(bits):
            if gcd(prime - 1, e) == 1 and prime not in fitting:
                fitting.append(prime)
    p, q = fitting[:2]
    d = pow(e, -1, lcm(p - 1, q - 1))
    return RsaKey(p * q, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))


def _rsa_primes(bits: int) -> tuple[int, int]:
    """Two primes whose product has ``bits`` bits; of long keys those that OpenSSL finds."""
    if bits < PYCA_RSA_MIN_BITS:
        return random_prime(bits // 2), random_prime(bits // 2)
    made = rsa.generate_private_key(_RSA_USUAL_E, bits).private_numbers()
    return made.p, made.q


def dsa_key(bits: int, p: int, q: int, g: int) -> tuple[int, int]:
    """The private and the public value of a new DSA key.

    :raises BadParameters: p is not of this size in whole bytes, q leaves no room for a private
        value, or p is even.
    """
    if bits != (p.bit_length() + 7) // 8 * 8 or q < 2 or not p & 1:
        raise BadParameters(f"a DSA key of {bits} bits")
    if p.bit_length() in _PYCA_DSA_P and q.bit_length() in _PYCA_DSA_Q and 1 < g < p:
        try:
            made = dsa.DSAParameterNumbers(p, q, g).parameters().generate_private_key()
        except InternalError:
            pass  # OpenSSL looks whether g generates what it should; OP-TEE does not
        else:
            numbers = made.private_numbers()
            return numbers.x, numbers.public_numbers.y
    x = random_below(q)
    return x, pow(g, x, p)


def dh_key(bits: int, p: int, g: int, q: int | None, xbits: int) -> tuple[int, int]:
    """The private and the public value of a new Diffie-Hellman key; dh_make_key().

    On integers: with pyca/cryptography one cannot say how long the private value is.

    :param q: the order of the subgroup, or None.
    :param xbits: most bits of the private value; 0: as many as there can be.
    :raises BadParameters: p is not of this size in whole bytes, or is even; the private value is to
        be longer than p or q, or not of whole bytes; or q is 0.
    """
    size = (p.bit_length() + 7) // 8
    if bits != 8 * size or not p & 1 or xbits % 8:
        raise BadParameters(f"a DH key of {bits} bits with a private value of {xbits}")
    modulus, most = p, size
    if q is not None:
        q_size = (q.bit_length() + 7) // 8
        most = min(size, q_size)
        if q_size < size:
            modulus = q
    x_size = xbits // 8 or most
    if x_size > most or not modulus:
        raise BadParameters(f"a private value of {xbits} bits")
    x = int.from_bytes(os.urandom(x_size), "big") % modulus
    return x, pow(g, x, p)


def ecc_key(bits: int, curve: int) -> tuple[int, int, int]:
    """The private value of a new key and the coordinates of its point.

    :param curve: TEE_ECC_CURVE_*
    :raises NotSupported: there is no such curve for keys.
    :raises BadParameters: its size is not ``bits``.
    """
    if curve == gp.TEE_ECC_CURVE_SM2:
        return _sm2_key(bits)
    known = PYCA_CURVES.get(curve)
    if known is None:
        raise NotSupported(f"curve {curve:#x}")
    if bits != known.key_size:
        raise BadParameters(f"a key of {bits} bits on {known.name}")
    made = ec.generate_private_key(known).private_numbers()
    return made.private_value, made.public_numbers.x, made.public_numbers.y


def _sm2_key(bits: int) -> tuple[int, int, int]:
    curve = curves.SM2
    if bits != curve.p.bit_length():
        raise BadParameters(f"a key of {bits} bits on {curve.name}")
    d = random_below(curve.n)
    point = curve.multiply(d, curve.base)
    assert point is not None  # for 0 < d < n
    return d, *point


def ed25519_key() -> tuple[bytes, bytes]:
    """A new private key and its public key."""
    private = os.urandom(32)
    return private, Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def x25519_key() -> tuple[bytes, bytes]:
    """A new private key, all bits of it random as in OP-TEE, and its public key."""
    private = os.urandom(32)
    return private, X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def x448_key() -> tuple[bytes, bytes]:
    """The same for X448."""
    private = os.urandom(56)
    return private, X448PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def warm_up() -> None:
    """Load what pyca/cryptography loads when it makes its first keys."""
    x25519_key()
    x448_key()
    ed25519_key()
    for curve, known in PYCA_CURVES.items():
        ecc_key(known.key_size, curve)
