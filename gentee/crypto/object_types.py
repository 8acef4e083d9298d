# SPDX-License-Identifier: BSD-2-Clause
"""Types of cryptographic objects: their sizes, and the attributes that they consist of.

OP-TEE: ``tee_cryp_obj_props`` in ``core/tee/tee_svc_cryp.c``, with the defaults of its build, that
is without CFG_HMAC_64_1024_RANGE and with 4096 bits as CFG_CORE_BIGNUM_MAX_BITS. X448 is there
only for those who add it; here it is there.
"""

from typing import NamedTuple

from gentee.abi import gp_crypto as gp

# What an attribute is.
SECRET = 0  # bytes, as many as the type has room for
BIGNUM = 1  # a number, big-endian
VALUE = 2  # the first of two 32-bit values
OCTETS = 3  # a key of a fixed length

# When an attribute must or may be there. A group of optional ones must be there as a whole.
REQUIRED = 1 << 1  # to populate
OPTIONAL_GROUP = 1 << 2  # to populate
SIZE_INDICATOR = 1 << 3  # it says the size of the object
GEN_KEY_OPT = 1 << 4  # to generate
GEN_KEY_REQ = 1 << 5  # to generate
BIGNUM_MAXBITS = 1 << 6  # not longer than the object may be

BIGNUM_MAX_BITS = 4096

_25519_SIZE = 32
_448_SIZE = 56


class TypeAttr(NamedTuple):
    """An attribute that objects of a type have.

    :ivar kind: SECRET, BIGNUM, VALUE or OCTETS.
    :ivar size: bytes of OCTETS.
    """

    id: int
    kind: int
    flags: int
    size: int = 0


class TypeProps(NamedTuple):
    """A type of objects. Sizes are in bits.

    :ivar quanta: sizes are multiples of this.
    :ivar secret_size: bytes that there is room for, of the types that are one secret.
    :ivar attrs: in the order in which an object has them.
    :ivar place: of each of them, by its identifier.
    """

    obj_type: int
    quanta: int
    min_size: int
    max_size: int
    secret_size: int
    attrs: tuple[TypeAttr, ...]
    place: dict[int, int]


def _secret(attr: int) -> tuple[TypeAttr, ...]:
    return (TypeAttr(attr, SECRET, REQUIRED | SIZE_INDICATOR),)


# Keys of symmetric algorithms: also the only types that a key can be derived into.
SECRET_VALUE = _secret(gp.TEE_ATTR_SECRET_VALUE)

_HKDF_IKM = _secret(gp.TEE_ATTR_HKDF_IKM)
_CONCAT_KDF_Z = _secret(gp.TEE_ATTR_CONCAT_KDF_Z)
_PBKDF2_PASSWORD = _secret(gp.TEE_ATTR_PBKDF2_PASSWORD)

_RSA_PUBLIC_KEY = (
    TypeAttr(gp.TEE_ATTR_RSA_MODULUS, BIGNUM, REQUIRED | SIZE_INDICATOR),
    TypeAttr(gp.TEE_ATTR_RSA_PUBLIC_EXPONENT, BIGNUM, REQUIRED),
)

_RSA_KEYPAIR = (
    TypeAttr(gp.TEE_ATTR_RSA_MODULUS, BIGNUM, REQUIRED | SIZE_INDICATOR),
    TypeAttr(gp.TEE_ATTR_RSA_PUBLIC_EXPONENT, BIGNUM, REQUIRED | GEN_KEY_OPT),
    TypeAttr(gp.TEE_ATTR_RSA_PRIVATE_EXPONENT, BIGNUM, REQUIRED),
    TypeAttr(gp.TEE_ATTR_RSA_PRIME1, BIGNUM, OPTIONAL_GROUP),
    TypeAttr(gp.TEE_ATTR_RSA_PRIME2, BIGNUM, OPTIONAL_GROUP),
    TypeAttr(gp.TEE_ATTR_RSA_EXPONENT1, BIGNUM, OPTIONAL_GROUP),
    TypeAttr(gp.TEE_ATTR_RSA_EXPONENT2, BIGNUM, OPTIONAL_GROUP),
    TypeAttr(gp.TEE_ATTR_RSA_COEFFICIENT, BIGNUM, OPTIONAL_GROUP),
)

_DSA_PUBLIC_KEY = (
    TypeAttr(gp.TEE_ATTR_DSA_PRIME, BIGNUM, REQUIRED | BIGNUM_MAXBITS | SIZE_INDICATOR),
    TypeAttr(gp.TEE_ATTR_DSA_SUBPRIME, BIGNUM, REQUIRED),
    TypeAttr(gp.TEE_ATTR_DSA_BASE, BIGNUM, REQUIRED | BIGNUM_MAXBITS),
    TypeAttr(gp.TEE_ATTR_DSA_PUBLIC_VALUE, BIGNUM, REQUIRED | BIGNUM_MAXBITS),
)

_DSA_KEYPAIR = (
    TypeAttr(
        gp.TEE_ATTR_DSA_PRIME, BIGNUM, REQUIRED | GEN_KEY_REQ | BIGNUM_MAXBITS | SIZE_INDICATOR
    ),
    TypeAttr(gp.TEE_ATTR_DSA_SUBPRIME, BIGNUM, REQUIRED | GEN_KEY_REQ),
    TypeAttr(gp.TEE_ATTR_DSA_BASE, BIGNUM, REQUIRED | GEN_KEY_REQ | BIGNUM_MAXBITS),
    TypeAttr(gp.TEE_ATTR_DSA_PRIVATE_VALUE, BIGNUM, REQUIRED | BIGNUM_MAXBITS),
    TypeAttr(gp.TEE_ATTR_DSA_PUBLIC_VALUE, BIGNUM, REQUIRED | BIGNUM_MAXBITS),
)

_DH_KEYPAIR = (
    TypeAttr(gp.TEE_ATTR_DH_PRIME, BIGNUM, REQUIRED | SIZE_INDICATOR | GEN_KEY_REQ),
    TypeAttr(gp.TEE_ATTR_DH_BASE, BIGNUM, REQUIRED | GEN_KEY_REQ),
    TypeAttr(gp.TEE_ATTR_DH_PUBLIC_VALUE, BIGNUM, REQUIRED),
    TypeAttr(gp.TEE_ATTR_DH_PRIVATE_VALUE, BIGNUM, REQUIRED),
    TypeAttr(gp.TEE_ATTR_DH_SUBPRIME, BIGNUM, OPTIONAL_GROUP | GEN_KEY_OPT),
    TypeAttr(gp.TEE_ATTR_DH_X_BITS, VALUE, GEN_KEY_OPT),
)

_SM2_PUBLIC_KEY = (
    TypeAttr(gp.TEE_ATTR_ECC_PUBLIC_VALUE_X, BIGNUM, REQUIRED),
    TypeAttr(gp.TEE_ATTR_ECC_PUBLIC_VALUE_Y, BIGNUM, REQUIRED),
)
_SM2_KEYPAIR = (TypeAttr(gp.TEE_ATTR_ECC_PRIVATE_VALUE, BIGNUM, REQUIRED), *_SM2_PUBLIC_KEY)

_ECC_PUBLIC_KEY = (
    *_SM2_PUBLIC_KEY,
    TypeAttr(gp.TEE_ATTR_ECC_CURVE, VALUE, REQUIRED | SIZE_INDICATOR),
)
_ECC_KEYPAIR = (
    *_SM2_KEYPAIR,
    TypeAttr(gp.TEE_ATTR_ECC_CURVE, VALUE, REQUIRED | SIZE_INDICATOR | GEN_KEY_REQ),
)

_X25519_KEYPAIR = (
    TypeAttr(gp.TEE_ATTR_X25519_PRIVATE_VALUE, OCTETS, REQUIRED, _25519_SIZE),
    TypeAttr(gp.TEE_ATTR_X25519_PUBLIC_VALUE, OCTETS, REQUIRED, _25519_SIZE),
)
_X448_KEYPAIR = (
    TypeAttr(gp.TEE_ATTR_X448_PRIVATE_VALUE, OCTETS, REQUIRED, _448_SIZE),
    TypeAttr(gp.TEE_ATTR_X448_PUBLIC_VALUE, OCTETS, REQUIRED, _448_SIZE),
)
_ED25519_PUBLIC_KEY = (TypeAttr(gp.TEE_ATTR_ED25519_PUBLIC_VALUE, OCTETS, REQUIRED, _25519_SIZE),)
_ED25519_KEYPAIR = (
    TypeAttr(gp.TEE_ATTR_ED25519_PRIVATE_VALUE, OCTETS, REQUIRED, _25519_SIZE),
    TypeAttr(gp.TEE_ATTR_ED25519_PUBLIC_VALUE, OCTETS, REQUIRED, _25519_SIZE),
)


def _type(
    obj_type: int,
    quanta: int,
    min_size: int,
    max_size: int,
    attrs: tuple[TypeAttr, ...],
    secret_bits: int = 0,
) -> TypeProps:
    place = {attr.id: number for number, attr in enumerate(attrs)}
    return TypeProps(obj_type, quanta, min_size, max_size, secret_bits // 8, attrs, place)


def _key(
    obj_type: int,
    quanta: int,
    min_size: int,
    max_size: int,
    attrs: tuple[TypeAttr, ...] = SECRET_VALUE,
) -> TypeProps:
    return _type(obj_type, quanta, min_size, max_size, attrs, max_size)


_PROPS = (
    _key(gp.TEE_TYPE_AES, 64, 128, 256),
    _key(gp.TEE_TYPE_DES, 64, 64, 64),  # the parity bits counted
    _key(gp.TEE_TYPE_DES3, 64, 128, 192),
    _key(gp.TEE_TYPE_SM4, 128, 128, 128),
    _key(gp.TEE_TYPE_HMAC_MD5, 8, 64, 512),
    _key(gp.TEE_TYPE_HMAC_SHA1, 8, 80, 512),
    _key(gp.TEE_TYPE_HMAC_SHA224, 8, 112, 512),
    _key(gp.TEE_TYPE_HMAC_SHA256, 8, 192, 1024),
    _key(gp.TEE_TYPE_HMAC_SHA384, 8, 256, 1024),
    _key(gp.TEE_TYPE_HMAC_SHA512, 8, 256, 1024),
    _key(gp.TEE_TYPE_HMAC_SHA3_224, 8, 192, 1024),
    _key(gp.TEE_TYPE_HMAC_SHA3_256, 8, 256, 1024),
    _key(gp.TEE_TYPE_HMAC_SHA3_384, 8, 256, 1024),
    _key(gp.TEE_TYPE_HMAC_SHA3_512, 8, 256, 1024),
    # Objects of 1024 bits can be had, and there is room for 512 in them.
    _type(gp.TEE_TYPE_HMAC_SM3, 8, 80, 1024, SECRET_VALUE, secret_bits=512),
    _key(gp.TEE_TYPE_GENERIC_SECRET, 8, 0, 4096),
    _key(gp.TEE_TYPE_HKDF_IKM, 8, 0, 4096, _HKDF_IKM),
    _key(gp.TEE_TYPE_CONCAT_KDF_Z, 8, 0, 4096, _CONCAT_KDF_Z),
    _key(gp.TEE_TYPE_PBKDF2_PASSWORD, 8, 0, 4096, _PBKDF2_PASSWORD),
    _type(gp.TEE_TYPE_RSA_PUBLIC_KEY, 1, 256, BIGNUM_MAX_BITS, _RSA_PUBLIC_KEY),
    _type(gp.TEE_TYPE_RSA_KEYPAIR, 1, 256, BIGNUM_MAX_BITS, _RSA_KEYPAIR),
    _type(gp.TEE_TYPE_DSA_PUBLIC_KEY, 64, 512, 3072, _DSA_PUBLIC_KEY),
    _type(gp.TEE_TYPE_DSA_KEYPAIR, 64, 512, 3072, _DSA_KEYPAIR),
    _type(gp.TEE_TYPE_DH_KEYPAIR, 1, 256, 2048, _DH_KEYPAIR),
    _type(gp.TEE_TYPE_ECDSA_PUBLIC_KEY, 1, 192, 521, _ECC_PUBLIC_KEY),
    _type(gp.TEE_TYPE_ECDSA_KEYPAIR, 1, 192, 521, _ECC_KEYPAIR),
    _type(gp.TEE_TYPE_ECDH_PUBLIC_KEY, 1, 192, 521, _ECC_PUBLIC_KEY),
    _type(gp.TEE_TYPE_ECDH_KEYPAIR, 1, 192, 521, _ECC_KEYPAIR),
    _type(gp.TEE_TYPE_SM2_DSA_PUBLIC_KEY, 1, 256, 256, _SM2_PUBLIC_KEY),
    _type(gp.TEE_TYPE_SM2_DSA_KEYPAIR, 1, 256, 256, _SM2_KEYPAIR),
    _type(gp.TEE_TYPE_SM2_PKE_PUBLIC_KEY, 1, 256, 256, _SM2_PUBLIC_KEY),
    _type(gp.TEE_TYPE_SM2_PKE_KEYPAIR, 1, 256, 256, _SM2_KEYPAIR),
    _type(gp.TEE_TYPE_SM2_KEP_PUBLIC_KEY, 1, 256, 256, _SM2_PUBLIC_KEY),
    _type(gp.TEE_TYPE_SM2_KEP_KEYPAIR, 1, 256, 256, _SM2_KEYPAIR),
    _type(gp.TEE_TYPE_X25519_KEYPAIR, 1, 256, 256, _X25519_KEYPAIR),
    _type(gp.TEE_TYPE_X448_KEYPAIR, 1, 448, 448, _X448_KEYPAIR),
    _type(gp.TEE_TYPE_ED25519_PUBLIC_KEY, 1, 256, 256, _ED25519_PUBLIC_KEY),
    _type(gp.TEE_TYPE_ED25519_KEYPAIR, 1, 256, 256, _ED25519_KEYPAIR),
)

TYPES: dict[int, TypeProps] = {props.obj_type: props for props in _PROPS}

# The public half of a key pair can be copied into these.
PUBLIC_OF: dict[int, int] = {
    gp.TEE_TYPE_RSA_PUBLIC_KEY: gp.TEE_TYPE_RSA_KEYPAIR,
    gp.TEE_TYPE_DSA_PUBLIC_KEY: gp.TEE_TYPE_DSA_KEYPAIR,
    gp.TEE_TYPE_ECDSA_PUBLIC_KEY: gp.TEE_TYPE_ECDSA_KEYPAIR,
    gp.TEE_TYPE_ECDH_PUBLIC_KEY: gp.TEE_TYPE_ECDH_KEYPAIR,
    gp.TEE_TYPE_SM2_DSA_PUBLIC_KEY: gp.TEE_TYPE_SM2_DSA_KEYPAIR,
    gp.TEE_TYPE_SM2_PKE_PUBLIC_KEY: gp.TEE_TYPE_SM2_PKE_KEYPAIR,
    gp.TEE_TYPE_SM2_KEP_PUBLIC_KEY: gp.TEE_TYPE_SM2_KEP_KEYPAIR,
    gp.TEE_TYPE_ED25519_PUBLIC_KEY: gp.TEE_TYPE_ED25519_KEYPAIR,
}

SM2_KEYPAIRS = (
    gp.TEE_TYPE_SM2_DSA_KEYPAIR,
    gp.TEE_TYPE_SM2_PKE_KEYPAIR,
    gp.TEE_TYPE_SM2_KEP_KEYPAIR,
)
SM2_TYPES = (
    *SM2_KEYPAIRS,
    gp.TEE_TYPE_SM2_DSA_PUBLIC_KEY,
    gp.TEE_TYPE_SM2_PKE_PUBLIC_KEY,
    gp.TEE_TYPE_SM2_KEP_PUBLIC_KEY,
)

CURVE_BITS = {
    gp.TEE_ECC_CURVE_NIST_P192: 192,
    gp.TEE_ECC_CURVE_NIST_P224: 224,
    gp.TEE_ECC_CURVE_NIST_P256: 256,
    gp.TEE_ECC_CURVE_NIST_P384: 384,
    gp.TEE_ECC_CURVE_NIST_P521: 521,
    gp.TEE_ECC_CURVE_SM2: 256,
    gp.TEE_ECC_CURVE_25519: 256,
}


def is_gp_legacy_des_key_size(obj_type: int, size: int) -> bool:
    """Whether a size of DES or DES3 leaves the parity bits out, as version 1.0 of the API did."""
    return (obj_type == gp.TEE_TYPE_DES and size == 56) or (
        obj_type == gp.TEE_TYPE_DES3 and size in (112, 168)
    )


def is_key_size(props: TypeProps, size: int) -> bool:
    """Whether objects of a type can have this size in bits."""
    if is_gp_legacy_des_key_size(props.obj_type, size):
        size += size // 7
    return size % props.quanta == 0 and props.min_size <= size <= props.max_size
