# SPDX-License-Identifier: BSD-2-Clause
"""Transient objects: what each call checks, in which order, and what it leaves behind."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gentee.abi import gp_crypto as gp
from gentee.crypto import object_types as types
from gentee.crypto.objects import Attribute, CryptObject
from gentee.errors import (
    BadFormat,
    BadParameters,
    BadState,
    CorruptObject,
    ExcessData,
    ItemNotFound,
    NotImplementedByTee,
    NotSupported,
    OutOfMemory,
    SecurityError,
    TeeError,
)

SECRET = gp.TEE_ATTR_SECRET_VALUE
CURVE = gp.TEE_ATTR_ECC_CURVE
X, Y, D = (
    gp.TEE_ATTR_ECC_PUBLIC_VALUE_X,
    gp.TEE_ATTR_ECC_PUBLIC_VALUE_Y,
    gp.TEE_ATTR_ECC_PRIVATE_VALUE,
)
N, E, RSA_D = (
    gp.TEE_ATTR_RSA_MODULUS,
    gp.TEE_ATTR_RSA_PUBLIC_EXPONENT,
    gp.TEE_ATTR_RSA_PRIVATE_EXPONENT,
)
CRT = (
    gp.TEE_ATTR_RSA_PRIME1,
    gp.TEE_ATTR_RSA_PRIME2,
    gp.TEE_ATTR_RSA_EXPONENT1,
    gp.TEE_ATTR_RSA_EXPONENT2,
    gp.TEE_ATTR_RSA_COEFFICIENT,
)

_25519 = Attribute(gp.TEE_ATTR_ED25519_PUBLIC_VALUE, bytes(range(32)))


def number(attr: int, value: int, size: int = 0) -> Attribute:
    """An attribute that is a number, of at least ``size`` bytes."""
    return Attribute(attr, value.to_bytes(max(size, (value.bit_length() + 7) // 8), "big"))


def rsa(bits: int = 512, crt: bool = False) -> list[Attribute]:
    """What an RSA key of this size is populated with: not a key that works."""
    given = [number(N, 1 << (bits - 1)), number(E, 65537), number(RSA_D, 77)]
    return given + [number(attr, 11) for attr in CRT] if crt else given


def ecc(curve: int = gp.TEE_ECC_CURVE_NIST_P256) -> list[Attribute]:
    return [number(D, 5), number(X, 6), number(Y, 7), Attribute(CURVE, b"", curve)]


def populated(obj_type: int, size: int, *attributes: Attribute) -> CryptObject:
    made = CryptObject(obj_type, size)
    made.populate(attributes)
    return made


def aes(data: bytes = bytes(range(16)), size: int = 256) -> CryptObject:
    return populated(gp.TEE_TYPE_AES, size, Attribute(SECRET, data))


# Allocation


@pytest.mark.parametrize("obj_type", types.TYPES)
def test_new_object(obj_type: int) -> None:
    props = types.TYPES[obj_type]
    for size in {props.min_size, props.max_size}:
        made = CryptObject(obj_type, size)
        assert (made.obj_type, made.obj_size, made.max_obj_size) == (obj_type, 0, size)
        assert (made.obj_usage, made.handle_flags) == (0xFFFFFFFF, 0)
        assert (made.data_size, made.data_pos, made.busy) == (0, 0, False)
        assert not made.is_initialized
        with pytest.raises(BadParameters):
            made.get_attr(props.attrs[0].id)


@pytest.mark.parametrize(
    ("obj_type", "size"),
    [
        (gp.TEE_TYPE_AES, 0),
        (gp.TEE_TYPE_AES, 127),
        (gp.TEE_TYPE_AES, 129),
        (gp.TEE_TYPE_AES, 320),
        (gp.TEE_TYPE_AES, 1 << 32 | 128),
        (gp.TEE_TYPE_RSA_KEYPAIR, 255),
        (gp.TEE_TYPE_RSA_KEYPAIR, 4097),
        (gp.TEE_TYPE_GENERIC_SECRET, 4104),
        (gp.TEE_TYPE_GENERIC_SECRET, 9),
        (gp.TEE_TYPE_DATA, 8),
        (gp.TEE_TYPE_X25519_PUBLIC_KEY, 256),
        (gp.TEE_TYPE_ED448_KEYPAIR, 448),
        (gp.TEE_TYPE_HKDF, 256),
        (gp.TEE_TYPE_CORRUPTED_OBJECT, 0),
        (0, 0),
        (0xA0000012, 128),
        (gp.TEE_TYPE_ILLEGAL_VALUE, 128),
    ],
)
def test_no_such_object(obj_type: int, size: int) -> None:
    with pytest.raises(NotSupported):
        CryptObject(obj_type, size)


def test_data_object() -> None:
    made = CryptObject(gp.TEE_TYPE_DATA, 0)
    with pytest.raises(NotImplementedByTee):
        made.populate(())
    with pytest.raises(NotSupported):
        made.generate(0)
    assert (made.is_secret, made.is_one_secret, made.secret_size, made.has(SECRET)) == (
        False, False, 0, False,
    )  # fmt: skip
    made.copy(aes())  # OP-TEE does not look at what it copies there
    assert made.is_initialized
    assert made.obj_size == 128
    with pytest.raises(BadState):
        made.get_attr(SECRET)


# Populating


def test_secret() -> None:
    key = aes()
    assert key.is_initialized
    assert (key.obj_size, key.max_obj_size) == (128, 256)
    assert key.secret() == key.get_attr(SECRET) == bytes(range(16))
    assert key.has(SECRET)
    assert key.is_secret
    assert key.is_one_secret
    assert not populated(gp.TEE_TYPE_ED25519_PUBLIC_KEY, 256, _25519).is_one_secret


@pytest.mark.parametrize(
    ("obj_type", "attr"),
    [
        (gp.TEE_TYPE_HKDF_IKM, gp.TEE_ATTR_HKDF_IKM),
        (gp.TEE_TYPE_CONCAT_KDF_Z, gp.TEE_ATTR_CONCAT_KDF_Z),
        (gp.TEE_TYPE_PBKDF2_PASSWORD, gp.TEE_ATTR_PBKDF2_PASSWORD),
    ],
)
def test_input_of_a_derivation(obj_type: int, attr: int) -> None:
    key = populated(obj_type, 4096, Attribute(attr, b"secret"))
    assert key.secret() == b"secret"
    assert key.obj_size == 48
    assert (key.is_secret, key.is_one_secret) == (False, True)
    empty = populated(obj_type, 4096, Attribute(attr, b""))
    assert (empty.secret(), empty.obj_size, empty.is_initialized) == (b"", 0, True)
    with pytest.raises(ItemNotFound):
        populated(obj_type, 4096, Attribute(SECRET, b"secret"))


def test_rsa_keys() -> None:
    key = populated(gp.TEE_TYPE_RSA_KEYPAIR, 1024, *rsa(512))
    assert key.obj_size == 512
    assert key.number(E) == 65537
    assert key.get_attr(E) == b"\1\0\1"
    assert not key.has(CRT[0])
    assert key.number(CRT[0]) == 0
    with pytest.raises(ItemNotFound):
        key.get_attr(CRT[0])
    key = populated(gp.TEE_TYPE_RSA_KEYPAIR, 1024, *reversed(rsa(1024, crt=True)))
    assert key.obj_size == 1024
    assert all(key.has(attr) and key.get_attr(attr) == b"\x0b" for attr in CRT)
    public = populated(gp.TEE_TYPE_RSA_PUBLIC_KEY, 512, *rsa(512)[:2])
    assert public.number(N) == 1 << 511


def test_zeros_before_a_number_count_for_its_size_only() -> None:
    key = populated(gp.TEE_TYPE_RSA_PUBLIC_KEY, 4096, number(N, 3, 128), number(E, 0, 9))
    assert key.obj_size == 1024
    assert (key.number(N), key.get_attr(N)) == (3, b"\3")
    assert (key.number(E), key.get_attr(E)) == (0, b"")


def test_ecc_keys() -> None:
    key = populated(gp.TEE_TYPE_ECDSA_KEYPAIR, 521, *ecc())
    assert key.obj_size == 256
    assert key.value(CURVE) == key.get_attr(CURVE) == (3, 0)
    assert (key.number(D), key.number(X), key.number(Y)) == (5, 6, 7)
    # Only the first value counts, and of that 32 bits
    key = populated(
        gp.TEE_TYPE_ECDH_PUBLIC_KEY, 256, *ecc()[1:3], Attribute(CURVE, b"", 1 << 32 | 1, 99)
    )
    assert (key.obj_size, key.get_attr(CURVE)) == (192, (1, 0))


def test_sm2_keys_have_a_curve_that_is_no_attribute() -> None:
    for obj_type in types.SM2_TYPES:
        key = CryptObject(obj_type, 256)
        assert key.value(CURVE) == (gp.TEE_ECC_CURVE_SM2, 0)
        given = ecc()[0 if obj_type in types.SM2_KEYPAIRS else 1 : 3]
        key.populate(given)
        assert key.obj_size == 0  # no attribute says it
        with pytest.raises(ItemNotFound):
            key.get_attr(CURVE)
        key.reset()
        assert key.value(CURVE) == (gp.TEE_ECC_CURVE_SM2, 0)
        with pytest.raises(ItemNotFound):
            key.populate((*given, Attribute(CURVE, b"", gp.TEE_ECC_CURVE_SM2)))


def test_keys_of_fixed_length() -> None:
    key = populated(gp.TEE_TYPE_ED25519_PUBLIC_KEY, 256, _25519)
    assert key.octets(_25519.id) == key.get_attr(_25519.id) == bytes(range(32))
    assert key.obj_size == 0
    pair = populated(
        gp.TEE_TYPE_X448_KEYPAIR,
        448,
        Attribute(gp.TEE_ATTR_X448_PRIVATE_VALUE, bytes(56)),
        Attribute(gp.TEE_ATTR_X448_PUBLIC_VALUE, bytes(56)),
    )
    assert pair.get_attr(gp.TEE_ATTR_X448_PRIVATE_VALUE) == bytes(56)  # zeros are kept


@pytest.mark.parametrize(
    ("obj_type", "size", "attributes", "error"),
    [
        # Which attributes
        (gp.TEE_TYPE_AES, 128, [], ItemNotFound),
        (gp.TEE_TYPE_AES, 128, [Attribute(gp.TEE_ATTR_HKDF_IKM, bytes(16))], ItemNotFound),
        (gp.TEE_TYPE_AES, 128, [Attribute(SECRET, bytes(16))] * 2, ItemNotFound),
        (gp.TEE_TYPE_RSA_KEYPAIR, 512, rsa(512)[:2], ItemNotFound),
        (gp.TEE_TYPE_RSA_KEYPAIR, 512, rsa(512, crt=True)[:-1], ItemNotFound),
        (gp.TEE_TYPE_RSA_KEYPAIR, 512, [*rsa(512), number(CRT[0], 11)], ItemNotFound),
        (gp.TEE_TYPE_RSA_PUBLIC_KEY, 512, rsa(512), ItemNotFound),
        (gp.TEE_TYPE_ECDSA_KEYPAIR, 256, ecc()[:3], ItemNotFound),
        # X_BITS is for generation only
        (
            gp.TEE_TYPE_DH_KEYPAIR,
            256,
            [
                number(gp.TEE_ATTR_DH_PRIME, 1 << 255),
                number(gp.TEE_ATTR_DH_BASE, 2),
                number(gp.TEE_ATTR_DH_PUBLIC_VALUE, 2),
                number(gp.TEE_ATTR_DH_PRIVATE_VALUE, 2),
                Attribute(gp.TEE_ATTR_DH_X_BITS, b"", 8),
            ],
            ItemNotFound,
        ),
        # Which sizes
        (gp.TEE_TYPE_AES, 128, [Attribute(SECRET, bytes(24))], BadState),
        (gp.TEE_TYPE_AES, 256, [Attribute(SECRET, bytes(33))], SecurityError),
        (gp.TEE_TYPE_AES, 256, [Attribute(SECRET, bytes(8))], BadParameters),
        (gp.TEE_TYPE_AES, 256, [Attribute(SECRET, bytes(17))], BadParameters),
        (gp.TEE_TYPE_AES, 256, [Attribute(SECRET, b"")], BadParameters),
        (gp.TEE_TYPE_DES3, 192, [Attribute(SECRET, bytes(8))], BadParameters),
        (gp.TEE_TYPE_HMAC_SM3, 1024, [Attribute(SECRET, bytes(65))], SecurityError),
        (gp.TEE_TYPE_GENERIC_SECRET, 4096, [Attribute(SECRET, bytes(513))], SecurityError),
        (gp.TEE_TYPE_GENERIC_SECRET, 0, [Attribute(SECRET, bytes(1))], BadState),
        (gp.TEE_TYPE_RSA_PUBLIC_KEY, 512, rsa(520)[:2], BadState),
        (gp.TEE_TYPE_RSA_PUBLIC_KEY, 512, rsa(248)[:2], BadParameters),
        (gp.TEE_TYPE_RSA_PUBLIC_KEY, 512, [number(N, 5, 4097), number(E, 3)], OutOfMemory),
        (gp.TEE_TYPE_RSA_PUBLIC_KEY, 512, [number(N, 5, 64), number(E, 3, 4097)], OutOfMemory),
        (gp.TEE_TYPE_ECDSA_KEYPAIR, 192, ecc(), BadState),
        (gp.TEE_TYPE_ECDSA_KEYPAIR, 521, ecc(0), NotSupported),
        (gp.TEE_TYPE_ECDSA_KEYPAIR, 521, ecc(6), NotSupported),
        (gp.TEE_TYPE_ED25519_PUBLIC_KEY, 256, [_25519._replace(data=bytes(31))], SecurityError),
        (gp.TEE_TYPE_ED25519_PUBLIC_KEY, 256, [_25519._replace(data=bytes(33))], SecurityError),
        (gp.TEE_TYPE_ED25519_PUBLIC_KEY, 256, [_25519._replace(data=b"")], SecurityError),
        # DSA: numbers are not longer than the object may be, but for the subprime
        (
            gp.TEE_TYPE_DSA_PUBLIC_KEY,
            512,
            [
                number(gp.TEE_ATTR_DSA_PRIME, 1 << 511),
                number(gp.TEE_ATTR_DSA_SUBPRIME, 1 << 600),
                number(gp.TEE_ATTR_DSA_BASE, 1 << 512),
                number(gp.TEE_ATTR_DSA_PUBLIC_VALUE, 1),
            ],
            BadState,
        ),
        (
            gp.TEE_TYPE_DSA_PUBLIC_KEY,
            1024,
            [
                number(gp.TEE_ATTR_DSA_PRIME, 1 << 519),  # 65 bytes: no multiple of 64 bits
                number(gp.TEE_ATTR_DSA_SUBPRIME, 3),
                number(gp.TEE_ATTR_DSA_BASE, 2),
                number(gp.TEE_ATTR_DSA_PUBLIC_VALUE, 1),
            ],
            BadParameters,
        ),
    ],
)
def test_what_cannot_be_populated(
    obj_type: int, size: int, attributes: Sequence[Attribute], error: type[TeeError]
) -> None:
    made = CryptObject(obj_type, size)
    with pytest.raises(error):
        made.populate(attributes)
    assert not made.is_initialized
    assert made.obj_size == 0
    assert made.have_attrs == 0
    with pytest.raises(BadParameters):
        made.get_attr(types.TYPES[obj_type].attrs[0].id)


def test_a_long_subprime_is_taken() -> None:
    key = populated(
        gp.TEE_TYPE_DSA_PUBLIC_KEY,
        1024,
        number(gp.TEE_ATTR_DSA_PRIME, (1 << 512) - 1),
        number(gp.TEE_ATTR_DSA_SUBPRIME, 1 << 32767),
        number(gp.TEE_ATTR_DSA_BASE, 2),
        number(gp.TEE_ATTR_DSA_PUBLIC_VALUE, (1 << 1024) - 1),
    )
    assert key.obj_size == 512


def test_attributes_are_there_before_the_one_that_fails() -> None:
    # OP-TEE does not take them back either: a key with its primes is used with them.
    key = CryptObject(gp.TEE_TYPE_RSA_KEYPAIR, 512)
    with pytest.raises(OutOfMemory):
        key.populate([*reversed(rsa(512, crt=True)[1:]), number(N, 1, 5000)])
    key.populate(rsa(512))
    assert key.number(CRT[0]) == 11
    assert not key.has(CRT[0])
    key.reset()
    key.populate(rsa(512))
    assert key.number(CRT[0]) == 0


@pytest.mark.parametrize(
    ("obj_type", "max_size", "size", "obj_size"),
    [
        (gp.TEE_TYPE_DES, 64, 8, 64),
        (gp.TEE_TYPE_DES, 56, 8, 49),  # less the parity bits, twice
        (gp.TEE_TYPE_DES3, 192, 24, 192),
        (gp.TEE_TYPE_DES3, 192, 16, 128),
        (gp.TEE_TYPE_DES3, 168, 24, 147),
        (gp.TEE_TYPE_DES3, 168, 16, 98),
        (gp.TEE_TYPE_DES3, 112, 16, 98),
    ],
)
def test_des_sizes_of_version_1_0(obj_type: int, max_size: int, size: int, obj_size: int) -> None:
    key = populated(obj_type, max_size, Attribute(SECRET, bytes(size)))
    assert key.obj_size == obj_size
    assert len(key.secret()) == size


def test_an_object_is_populated_once() -> None:
    key = aes()
    with pytest.raises(BadParameters):
        key.populate([])  # before anything is wrong with the attributes
    key.reset()
    key.populate([Attribute(SECRET, bytes(32))])
    assert key.obj_size == 256


@given(st.data())
@settings(max_examples=200)
def test_what_is_put_in_comes_out(data: st.DataObject) -> None:
    obj_type = data.draw(st.sampled_from(sorted(types.TYPES)))
    props = types.TYPES[obj_type]
    size = min(props.max_size, 2048) // 64 * 64
    made = CryptObject(obj_type, props.max_size)
    given = []
    for attr in props.attrs:
        if attr.flags & (types.REQUIRED | types.OPTIONAL_GROUP):
            length = attr.size or (size // 8 if attr.flags & types.SIZE_INDICATOR else 20)
            if attr.kind == types.SECRET:
                length = min(length, props.secret_size)
            content = data.draw(st.binary(min_size=length, max_size=length))
            given.append(Attribute(attr.id, content, data.draw(st.integers(1, 5))))
    made.populate(data.draw(st.permutations(given)))
    for each in given:
        got = made.get_attr(each.id)
        if each.id & gp.TEE_ATTR_FLAG_VALUE:
            assert got == (each.a, 0)
        elif props.attrs[props.place[each.id]].kind == types.BIGNUM:
            assert got == bytes(each.data).lstrip(b"\0")
        else:
            assert got == each.data
    other = CryptObject(obj_type, props.max_size)
    other.from_binary(made.to_binary())
    assert other.to_binary() == made.to_binary()
    third = CryptObject(obj_type, props.max_size)
    third.copy(made)
    assert third.to_binary() == made.to_binary()
    assert third.have_attrs == made.have_attrs


# Usage


def test_usage() -> None:
    key = aes()
    key.restrict_usage(gp.TEE_USAGE_ENCRYPT | gp.TEE_USAGE_EXTRACTABLE)
    key.restrict_usage(gp.TEE_USAGE_EXTRACTABLE | gp.TEE_USAGE_MAC)
    assert key.obj_usage == gp.TEE_USAGE_EXTRACTABLE
    assert key.get_attr(SECRET)
    key.restrict_usage(~gp.TEE_USAGE_EXTRACTABLE & 0xFFFFFFFF)
    with pytest.raises(BadParameters):
        key.get_attr(SECRET)
    with pytest.raises(BadParameters):
        key.get_attr(D)  # private, even though this object has no such attribute
    with pytest.raises(ItemNotFound):
        key.get_attr(X)
    assert key.secret() == bytes(range(16))  # operations may
    pair = populated(gp.TEE_TYPE_RSA_KEYPAIR, 512, *rsa(512))
    pair.restrict_usage(0)
    assert pair.get_attr(N)
    with pytest.raises(BadParameters):
        pair.get_attr(RSA_D)


def test_reset() -> None:
    key = aes()
    key.restrict_usage(0)
    key.reset()
    assert (key.obj_usage, key.obj_size, key.handle_flags) == (0xFFFFFFFF, 0, 0)
    assert key.max_obj_size == 256
    assert key.secret() == b""
    key.handle_flags |= gp.TEE_HANDLE_FLAG_PERSISTENT
    with pytest.raises(BadParameters):
        key.reset()


def test_secrets_are_overwritten() -> None:
    key = aes(bytes(range(32)))
    held = key._bytes[SECRET]
    key.wipe()
    assert held == bytes(32)
    key = CryptObject(gp.TEE_TYPE_AES, 128)
    key.set_secret(b"0123456789abcdef")
    held = key._bytes[SECRET]
    key.set_secret(b"another one, new")
    assert held == bytes(16)


# Copying


@pytest.mark.parametrize(("public", "pair"), types.PUBLIC_OF.items())
def test_public_key_of_a_pair(public: int, pair: int) -> None:
    size = types.TYPES[pair].max_size
    if pair in (gp.TEE_TYPE_RSA_KEYPAIR, gp.TEE_TYPE_DSA_KEYPAIR):
        size = 512
    source = CryptObject(pair, size)
    props = types.TYPES[pair]
    source.populate(
        [
            Attribute(attr.id, bytes([7]) * (attr.size or size // 8), gp.TEE_ECC_CURVE_NIST_P521)
            for attr in props.attrs
            if attr.flags & types.REQUIRED
        ]
    )
    source.restrict_usage(gp.TEE_USAGE_VERIFY)
    made = CryptObject(public, size)
    made.copy(source)
    assert (made.obj_size, made.obj_usage) == (source.obj_size, gp.TEE_USAGE_VERIFY)
    assert made.is_initialized
    for attr in types.TYPES[public].attrs:
        assert made.get_attr(attr.id) == source.get_attr(attr.id)
    back = CryptObject(pair, size)
    with pytest.raises(BadParameters):
        back.copy(made)


@pytest.mark.parametrize(
    ("to", "source"),
    [
        (gp.TEE_TYPE_SM4, gp.TEE_TYPE_AES),
        (gp.TEE_TYPE_ECDH_KEYPAIR, gp.TEE_TYPE_ECDSA_KEYPAIR),
        (gp.TEE_TYPE_ECDH_PUBLIC_KEY, gp.TEE_TYPE_ECDSA_KEYPAIR),
        (gp.TEE_TYPE_ECDSA_PUBLIC_KEY, gp.TEE_TYPE_ECDH_PUBLIC_KEY),
        (gp.TEE_TYPE_RSA_KEYPAIR, gp.TEE_TYPE_RSA_PUBLIC_KEY),
        (gp.TEE_TYPE_SM2_DSA_PUBLIC_KEY, gp.TEE_TYPE_SM2_PKE_KEYPAIR),
        (gp.TEE_TYPE_AES, gp.TEE_TYPE_DATA),
    ],
)
def test_types_that_are_not_copied(to: int, source: int) -> None:
    def least(obj_type: int) -> int:
        return types.TYPES[obj_type].min_size if obj_type in types.TYPES else 0

    other = CryptObject(source, least(source))
    other.handle_flags |= gp.TEE_HANDLE_FLAG_INITIALIZED
    made = CryptObject(to, least(to))
    with pytest.raises(BadParameters):
        made.copy(other)
    assert not made.is_initialized


def test_copies() -> None:
    key = aes()
    copy = CryptObject(gp.TEE_TYPE_AES, 128)
    copy.copy(key)
    assert copy.secret() == key.secret()
    key.reset()
    assert copy.secret() == bytes(range(16))
    with pytest.raises(BadParameters):
        copy.copy(aes())  # it is initialized
    with pytest.raises(BadParameters):
        key.copy(CryptObject(gp.TEE_TYPE_AES, 128))  # and that is not
    # A longer one than it was allocated for: libutee looks after that
    copy.reset()
    copy.copy(aes(bytes(32)))
    assert (copy.obj_size, copy.max_obj_size) == (256, 128)


def test_copy_of_optional_attributes() -> None:
    key = populated(gp.TEE_TYPE_RSA_KEYPAIR, 512, *rsa(512, crt=True))
    copy = CryptObject(gp.TEE_TYPE_RSA_KEYPAIR, 512)
    copy.copy(key)
    assert copy.has(CRT[4])
    copy.reset()
    copy.copy(populated(gp.TEE_TYPE_RSA_KEYPAIR, 512, *rsa(512)))
    assert not copy.has(CRT[4])
    assert copy.number(CRT[4]) == 0


def test_persistent_objects_are_not_written_to() -> None:
    key = CryptObject(gp.TEE_TYPE_AES, 128)
    key.handle_flags |= gp.TEE_HANDLE_FLAG_PERSISTENT
    with pytest.raises(BadParameters):
        key.populate([Attribute(SECRET, bytes(16))])
    with pytest.raises(BadParameters):
        key.copy(aes())
    with pytest.raises(BadState):
        key.generate(128)


# Stored objects


def test_stored_form() -> None:
    pair = populated(gp.TEE_TYPE_ECDSA_KEYPAIR, 521, *ecc())
    assert pair.to_binary().hex() == "00000001050000000106000000010700000003"
    assert aes(b"k" * 16).to_binary() == b"\0\0\0\x10" + b"k" * 16
    assert populated(gp.TEE_TYPE_RSA_KEYPAIR, 512, *rsa(512)).to_binary().endswith(bytes(20))
    assert CryptObject(gp.TEE_TYPE_DATA, 0).to_binary() == b""
    CryptObject(gp.TEE_TYPE_DATA, 0).from_binary(b"anything")
    key = CryptObject(gp.TEE_TYPE_ED25519_PUBLIC_KEY, 256)
    key.from_binary(b"\0\0\0\2ab, and what follows")
    assert key.octets(_25519.id) == b"ab" + bytes(30)


@pytest.mark.parametrize(
    ("obj_type", "size", "data"),
    [
        (gp.TEE_TYPE_AES, 128, b""),
        (gp.TEE_TYPE_AES, 128, b"\0\0\0"),
        (gp.TEE_TYPE_AES, 128, b"\0\0\0\2a"),
        (gp.TEE_TYPE_AES, 128, b"\0\0\0\x21" + bytes(40)),
        (gp.TEE_TYPE_ED25519_PUBLIC_KEY, 256, b"\0\0\0\x21" + bytes(40)),
        (gp.TEE_TYPE_RSA_PUBLIC_KEY, 256, b"\0\0\0\1a\xff\xff\xff\xff"),
        (gp.TEE_TYPE_ECDH_PUBLIC_KEY, 256, bytes(11)),
    ],
)
def test_corrupt_stored_form(obj_type: int, size: int, data: bytes) -> None:
    with pytest.raises(CorruptObject):
        CryptObject(obj_type, size).from_binary(data)


# New keys


@pytest.mark.parametrize(
    ("obj_type", "max_size", "size", "length"),
    [
        (gp.TEE_TYPE_AES, 256, 192, 24),
        (gp.TEE_TYPE_AES, 128, 256, 32),  # libutee looks after that
        (gp.TEE_TYPE_DES, 64, 64, 8),
        (gp.TEE_TYPE_DES, 56, 56, 8),
        (gp.TEE_TYPE_DES3, 168, 112, 16),
        (gp.TEE_TYPE_DES3, 192, 168, 24),
        (gp.TEE_TYPE_HMAC_SHA512, 1024, 1024, 128),
        (gp.TEE_TYPE_HMAC_SM3, 1024, 512, 64),
        (gp.TEE_TYPE_GENERIC_SECRET, 4096, 8, 1),
        (gp.TEE_TYPE_GENERIC_SECRET, 4096, 0, 0),
    ],
)
def test_new_secret(obj_type: int, max_size: int, size: int, length: int) -> None:
    key = CryptObject(obj_type, max_size)
    key.generate(size)
    assert (key.obj_size, len(key.secret()), key.is_initialized) == (size, length, True)
    assert key.get_attr(SECRET) == key.secret()
    if length >= 8:
        other = CryptObject(obj_type, max_size)
        other.generate(size)
        assert other.secret() != key.secret()
    with pytest.raises(BadState):
        key.generate(size)


@pytest.mark.parametrize(
    ("obj_type", "size", "bits"),
    [
        (gp.TEE_TYPE_ECDSA_KEYPAIR, gp.TEE_ECC_CURVE_NIST_P192, 192),
        (gp.TEE_TYPE_ECDH_KEYPAIR, gp.TEE_ECC_CURVE_NIST_P521, 521),
        (gp.TEE_TYPE_ECDSA_KEYPAIR, gp.TEE_ECC_CURVE_SM2, 256),
    ],
)
def test_new_ecc_key(obj_type: int, size: int, bits: int) -> None:
    key = CryptObject(obj_type, 521)
    key.generate(bits, [Attribute(CURVE, b"", size)])
    assert key.obj_size == bits
    assert all(key.has(attr) for attr in (X, Y, D, CURVE))
    assert bits - 30 < key.number(X).bit_length() <= bits


@pytest.mark.parametrize("obj_type", types.SM2_KEYPAIRS)
def test_new_sm2_key(obj_type: int) -> None:
    key = CryptObject(obj_type, 256)
    key.generate(256)
    assert all(key.has(attr) for attr in (X, Y, D))


def test_new_rsa_key() -> None:
    key = CryptObject(gp.TEE_TYPE_RSA_KEYPAIR, 1024)
    key.generate(512)
    assert (key.obj_size, key.number(E)) == (512, 65537)
    assert all(key.has(attr) for attr in (N, E, RSA_D, *CRT))
    assert key.number(CRT[0]) * key.number(CRT[1]) == key.number(N)
    key.reset()
    key.generate(256, [number(E, (1 << 254) + 1)])
    assert key.number(E) == (1 << 254) + 1


def test_new_dh_key() -> None:
    p = (1 << 521) - 1
    given = [number(gp.TEE_ATTR_DH_PRIME, p), number(gp.TEE_ATTR_DH_BASE, 3)]
    key = CryptObject(gp.TEE_TYPE_DH_KEYPAIR, 1024)
    key.generate(528, given)
    private, public = gp.TEE_ATTR_DH_PRIVATE_VALUE, gp.TEE_ATTR_DH_PUBLIC_VALUE
    assert pow(3, key.number(private), p) == key.number(public)
    assert key.get_attr(gp.TEE_ATTR_DH_X_BITS) == (0, 0)
    assert not key.has(gp.TEE_ATTR_DH_SUBPRIME)
    key.reset()
    key.generate(528, [*given, Attribute(gp.TEE_ATTR_DH_X_BITS, b"", 64)])
    assert key.number(private).bit_length() <= 64
    assert key.get_attr(gp.TEE_ATTR_DH_X_BITS) == (64, 0)
    key.reset()
    key.generate(528, [*given, number(gp.TEE_ATTR_DH_SUBPRIME, (1 << 89) - 1)])
    assert key.number(private) < 1 << 89
    assert key.has(gp.TEE_ATTR_DH_SUBPRIME)


def test_new_dsa_key() -> None:
    p, q, g = (1 << 521) - 1, (1 << 89) - 1, 3
    key = CryptObject(gp.TEE_TYPE_DSA_KEYPAIR, 1024)
    domain = [
        number(gp.TEE_ATTR_DSA_PRIME, p, 72),
        number(gp.TEE_ATTR_DSA_SUBPRIME, q),
        number(gp.TEE_ATTR_DSA_BASE, g),
    ]
    with pytest.raises(BadParameters):
        key.generate(576, domain)  # the prime is not of this size
    assert key.obj_size == 576
    domain[0] = number(gp.TEE_ATTR_DSA_PRIME, p | 1 << 575)
    key.generate(576, domain)
    x, y = key.number(gp.TEE_ATTR_DSA_PRIVATE_VALUE), key.number(gp.TEE_ATTR_DSA_PUBLIC_VALUE)
    assert y == pow(g, x, p | 1 << 575)
    assert key.have_attrs == 0b11111


@pytest.mark.parametrize(
    ("obj_type", "size", "private"),
    [
        (gp.TEE_TYPE_ED25519_KEYPAIR, 256, gp.TEE_ATTR_ED25519_PRIVATE_VALUE),
        (gp.TEE_TYPE_X25519_KEYPAIR, 256, gp.TEE_ATTR_X25519_PRIVATE_VALUE),
        (gp.TEE_TYPE_X448_KEYPAIR, 448, gp.TEE_ATTR_X448_PRIVATE_VALUE),
    ],
)
def test_new_key_of_fixed_length(obj_type: int, size: int, private: int) -> None:
    key = CryptObject(obj_type, size)
    key.generate(size)
    assert (key.obj_size, key.have_attrs) == (size, 3)
    assert len(key.octets(private)) == size // 8


@pytest.mark.parametrize(
    ("obj_type", "max_size", "size", "attributes", "error"),
    [
        (gp.TEE_TYPE_AES, 128, 0, [], NotSupported),
        (gp.TEE_TYPE_AES, 128, 64, [], NotSupported),
        (gp.TEE_TYPE_AES, 128, 128, [Attribute(SECRET, bytes(16))], ItemNotFound),
        (gp.TEE_TYPE_HMAC_SM3, 1024, 520, [], ExcessData),
        (gp.TEE_TYPE_HKDF_IKM, 256, 256, [], BadFormat),
        (gp.TEE_TYPE_PBKDF2_PASSWORD, 256, 256, [], BadFormat),
        (gp.TEE_TYPE_RSA_PUBLIC_KEY, 512, 512, [], BadFormat),
        (gp.TEE_TYPE_RSA_PUBLIC_KEY, 512, 512, [number(E, 3)], ItemNotFound),
        (gp.TEE_TYPE_ED25519_PUBLIC_KEY, 256, 256, [], BadFormat),
        (gp.TEE_TYPE_RSA_KEYPAIR, 512, 520, [], BadParameters),
        (gp.TEE_TYPE_RSA_KEYPAIR, 512, 513, [], BadParameters),
        (gp.TEE_TYPE_RSA_KEYPAIR, 512, 512, [number(E, 3)], BadParameters),
        (gp.TEE_TYPE_RSA_KEYPAIR, 512, 512, [number(E, 65535)], BadParameters),
        (gp.TEE_TYPE_RSA_KEYPAIR, 512, 512, [number(E, 65538)], BadParameters),
        (gp.TEE_TYPE_RSA_KEYPAIR, 512, 512, [number(E, 0)], BadParameters),
        (gp.TEE_TYPE_RSA_KEYPAIR, 512, 512, [number(E, (1 << 255) + 1)], BadParameters),
        (gp.TEE_TYPE_RSA_KEYPAIR, 512, 512, [number(E, (1 << 256) + 1)], BadParameters),
        (gp.TEE_TYPE_RSA_KEYPAIR, 512, 512, [number(N, 1 << 511)], ItemNotFound),
        (gp.TEE_TYPE_ECDSA_KEYPAIR, 256, 256, [], ItemNotFound),
        (gp.TEE_TYPE_ECDSA_KEYPAIR, 521, 256, [Attribute(CURVE, b"", 4)], BadParameters),
        (gp.TEE_TYPE_ECDSA_KEYPAIR, 256, 256, [Attribute(CURVE, b"", 4)], BadState),
        (gp.TEE_TYPE_ECDSA_KEYPAIR, 256, 256, [Attribute(CURVE, b"", 0x300)], NotSupported),
        (gp.TEE_TYPE_ECDSA_KEYPAIR, 256, 256, [Attribute(CURVE, b"", 7)], NotSupported),
        (gp.TEE_TYPE_SM2_PKE_KEYPAIR, 256, 256, [Attribute(CURVE, b"", 0x400)], ItemNotFound),
        (gp.TEE_TYPE_DH_KEYPAIR, 512, 512, [number(gp.TEE_ATTR_DH_BASE, 2)], ItemNotFound),
    ],
)
def test_no_new_key(
    obj_type: int,
    max_size: int,
    size: int,
    attributes: Sequence[Attribute],
    error: type[TeeError],
) -> None:
    key = CryptObject(obj_type, max_size)
    with pytest.raises(error):
        key.generate(size, attributes)
    assert not key.is_initialized


def test_derived_secret() -> None:
    key = CryptObject(gp.TEE_TYPE_GENERIC_SECRET, 4096)
    key.set_secret(b"derived")
    assert (key.is_initialized, key.get_attr(SECRET), key.obj_size) == (True, b"derived", 0)
