# SPDX-License-Identifier: BSD-2-Clause
"""New keys in objects: ``tee_svc_obj_generate_key_*()`` of OP-TEE's ``core/tee/tee_svc_cryp.c``.

An object has the attributes that were given for it, such as primes or a curve.
"""

from collections.abc import Callable

from gentee.abi import gp_crypto as gp
from gentee.crypto import keygen
from gentee.errors import BadParameters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.crypto.objects import CryptObject


def _rsa(key: "CryptObject", key_size: int) -> None:
    if not key.has(gp.TEE_ATTR_RSA_PUBLIC_EXPONENT):
        key.set_number(gp.TEE_ATTR_RSA_PUBLIC_EXPONENT, 65537)
    e = key.number(gp.TEE_ATTR_RSA_PUBLIC_EXPONENT)
    # check_pub_rsa_key() without CFG_RSA_PUB_EXPONENT_3: NIST SP 800-56B
    if not 65537 <= e < 1 << 256 or not e & 1:
        raise BadParameters(f"public exponent {e:#x}")
    made = keygen.rsa_key(key_size, e)
    key.set_number(gp.TEE_ATTR_RSA_MODULUS, made.n)
    key.set_number(gp.TEE_ATTR_RSA_PRIVATE_EXPONENT, made.d)
    key.set_number(gp.TEE_ATTR_RSA_PRIME1, made.p)
    key.set_number(gp.TEE_ATTR_RSA_PRIME2, made.q)
    key.set_number(gp.TEE_ATTR_RSA_EXPONENT1, made.dp)
    key.set_number(gp.TEE_ATTR_RSA_EXPONENT2, made.dq)
    key.set_number(gp.TEE_ATTR_RSA_COEFFICIENT, made.qp)


def _dsa(key: "CryptObject", key_size: int) -> None:
    p = key.number(gp.TEE_ATTR_DSA_PRIME)
    q = key.number(gp.TEE_ATTR_DSA_SUBPRIME)
    x, y = keygen.dsa_key(key_size, p, q, key.number(gp.TEE_ATTR_DSA_BASE))
    key.set_number(gp.TEE_ATTR_DSA_PRIVATE_VALUE, x)
    key.set_number(gp.TEE_ATTR_DSA_PUBLIC_VALUE, y)


def _dh(key: "CryptObject", key_size: int) -> None:
    q = None
    xbits = 0
    if key.has(gp.TEE_ATTR_DH_SUBPRIME):
        q = key.number(gp.TEE_ATTR_DH_SUBPRIME)
    if key.has(gp.TEE_ATTR_DH_X_BITS):
        xbits = key.value(gp.TEE_ATTR_DH_X_BITS)[0]
    p, g = key.number(gp.TEE_ATTR_DH_PRIME), key.number(gp.TEE_ATTR_DH_BASE)
    x, y = keygen.dh_key(key_size, p, g, q, xbits)
    key.set_number(gp.TEE_ATTR_DH_PRIVATE_VALUE, x)
    key.set_number(gp.TEE_ATTR_DH_PUBLIC_VALUE, y)
    assert key.props is not None
    key.have_attrs |= 1 << key.props.place[gp.TEE_ATTR_DH_X_BITS]


def _ecc(key: "CryptObject", key_size: int) -> None:
    d, x, y = keygen.ecc_key(key_size, key.value(gp.TEE_ATTR_ECC_CURVE)[0])
    key.set_number(gp.TEE_ATTR_ECC_PRIVATE_VALUE, d)
    key.set_number(gp.TEE_ATTR_ECC_PUBLIC_VALUE_X, x)
    key.set_number(gp.TEE_ATTR_ECC_PUBLIC_VALUE_Y, y)


def _ed25519(key: "CryptObject", key_size: int) -> None:
    private, public = keygen.ed25519_key()
    key.set_octets(gp.TEE_ATTR_ED25519_PRIVATE_VALUE, private)
    key.set_octets(gp.TEE_ATTR_ED25519_PUBLIC_VALUE, public)


def _x25519(key: "CryptObject", key_size: int) -> None:
    private, public = keygen.x25519_key()
    key.set_octets(gp.TEE_ATTR_X25519_PRIVATE_VALUE, private)
    key.set_octets(gp.TEE_ATTR_X25519_PUBLIC_VALUE, public)


def _x448(key: "CryptObject", key_size: int) -> None:
    private, public = keygen.x448_key()
    key.set_octets(gp.TEE_ATTR_X448_PRIVATE_VALUE, private)
    key.set_octets(gp.TEE_ATTR_X448_PUBLIC_VALUE, public)


# What makes a key of a type, with a size in bits. Secrets are not here: they are random bytes.
GENERATE: dict[int, Callable[["CryptObject", int], None]] = {
    gp.TEE_TYPE_RSA_KEYPAIR: _rsa,
    gp.TEE_TYPE_DSA_KEYPAIR: _dsa,
    gp.TEE_TYPE_DH_KEYPAIR: _dh,
    gp.TEE_TYPE_ECDSA_KEYPAIR: _ecc,
    gp.TEE_TYPE_ECDH_KEYPAIR: _ecc,
    gp.TEE_TYPE_SM2_DSA_KEYPAIR: _ecc,
    gp.TEE_TYPE_SM2_KEP_KEYPAIR: _ecc,
    gp.TEE_TYPE_SM2_PKE_KEYPAIR: _ecc,
    gp.TEE_TYPE_ED25519_KEYPAIR: _ed25519,
    gp.TEE_TYPE_X25519_KEYPAIR: _x25519,
    gp.TEE_TYPE_X448_KEYPAIR: _x448,
}
