# SPDX-License-Identifier: BSD-2-Clause
"""The types of objects, against OP-TEE's table."""

import pytest

from gentee.abi import gp_crypto as gp
from gentee.crypto import algorithms
from gentee.crypto import object_types as types

# Type, step, least and greatest size in bits, bytes of a secret
SECRETS = [
    (gp.TEE_TYPE_AES, 64, 128, 256, 32),
    (gp.TEE_TYPE_DES, 64, 64, 64, 8),
    (gp.TEE_TYPE_DES3, 64, 128, 192, 24),
    (gp.TEE_TYPE_SM4, 128, 128, 128, 16),
    (gp.TEE_TYPE_HMAC_MD5, 8, 64, 512, 64),
    (gp.TEE_TYPE_HMAC_SHA1, 8, 80, 512, 64),
    (gp.TEE_TYPE_HMAC_SHA224, 8, 112, 512, 64),
    (gp.TEE_TYPE_HMAC_SHA256, 8, 192, 1024, 128),
    (gp.TEE_TYPE_HMAC_SHA384, 8, 256, 1024, 128),
    (gp.TEE_TYPE_HMAC_SHA512, 8, 256, 1024, 128),
    (gp.TEE_TYPE_HMAC_SHA3_224, 8, 192, 1024, 128),
    (gp.TEE_TYPE_HMAC_SHA3_256, 8, 256, 1024, 128),
    (gp.TEE_TYPE_HMAC_SHA3_384, 8, 256, 1024, 128),
    (gp.TEE_TYPE_HMAC_SHA3_512, 8, 256, 1024, 128),
    (gp.TEE_TYPE_HMAC_SM3, 8, 80, 1024, 64),
    (gp.TEE_TYPE_GENERIC_SECRET, 8, 0, 4096, 512),
    (gp.TEE_TYPE_HKDF_IKM, 8, 0, 4096, 512),
    (gp.TEE_TYPE_CONCAT_KDF_Z, 8, 0, 4096, 512),
    (gp.TEE_TYPE_PBKDF2_PASSWORD, 8, 0, 4096, 512),
]
KEYS = [
    (gp.TEE_TYPE_RSA_PUBLIC_KEY, 1, 256, 4096, 2),
    (gp.TEE_TYPE_RSA_KEYPAIR, 1, 256, 4096, 8),
    (gp.TEE_TYPE_DSA_PUBLIC_KEY, 64, 512, 3072, 4),
    (gp.TEE_TYPE_DSA_KEYPAIR, 64, 512, 3072, 5),
    (gp.TEE_TYPE_DH_KEYPAIR, 1, 256, 2048, 6),
    (gp.TEE_TYPE_ECDSA_PUBLIC_KEY, 1, 192, 521, 3),
    (gp.TEE_TYPE_ECDSA_KEYPAIR, 1, 192, 521, 4),
    (gp.TEE_TYPE_ECDH_PUBLIC_KEY, 1, 192, 521, 3),
    (gp.TEE_TYPE_ECDH_KEYPAIR, 1, 192, 521, 4),
    (gp.TEE_TYPE_SM2_DSA_PUBLIC_KEY, 1, 256, 256, 2),
    (gp.TEE_TYPE_SM2_DSA_KEYPAIR, 1, 256, 256, 3),
    (gp.TEE_TYPE_SM2_PKE_PUBLIC_KEY, 1, 256, 256, 2),
    (gp.TEE_TYPE_SM2_PKE_KEYPAIR, 1, 256, 256, 3),
    (gp.TEE_TYPE_SM2_KEP_PUBLIC_KEY, 1, 256, 256, 2),
    (gp.TEE_TYPE_SM2_KEP_KEYPAIR, 1, 256, 256, 3),
    (gp.TEE_TYPE_X25519_KEYPAIR, 1, 256, 256, 2),
    (gp.TEE_TYPE_X448_KEYPAIR, 1, 448, 448, 2),
    (gp.TEE_TYPE_ED25519_PUBLIC_KEY, 1, 256, 256, 1),
    (gp.TEE_TYPE_ED25519_KEYPAIR, 1, 256, 256, 2),
]


def test_there_are_no_others() -> None:
    assert list(types.TYPES) == [row[0] for row in SECRETS + KEYS]


@pytest.mark.parametrize(("obj_type", "quanta", "least", "most", "room"), SECRETS)
def test_secret(obj_type: int, quanta: int, least: int, most: int, room: int) -> None:
    props = types.TYPES[obj_type]
    assert props[1:5] == (quanta, least, most, room)
    assert [(attr.kind, attr.flags) for attr in props.attrs] == [
        (types.SECRET, types.REQUIRED | types.SIZE_INDICATOR)
    ]


@pytest.mark.parametrize(("obj_type", "quanta", "least", "most", "attributes"), KEYS)
def test_key(obj_type: int, quanta: int, least: int, most: int, attributes: int) -> None:
    props = types.TYPES[obj_type]
    assert props[1:5] == (quanta, least, most, 0)
    assert len(props.attrs) == len(props.place) == attributes
    for attr in props.attrs:
        assert (attr.kind == types.VALUE) == (attr.id & gp.TEE_ATTR_FLAG_VALUE != 0)
        assert (attr.kind == types.OCTETS) == (attr.size != 0)
        assert props.attrs[props.place[attr.id]] is attr
    indicators = [attr for attr in props.attrs if attr.flags & types.SIZE_INDICATOR]
    assert len(indicators) == (0 if least == most else 1)


def test_public_keys_have_attributes_of_their_key_pairs() -> None:
    for public, pair in types.PUBLIC_OF.items():
        assert types.TYPES[public].place.keys() < types.TYPES[pair].place.keys()


@pytest.mark.parametrize(
    ("obj_type", "sizes"),
    [
        (gp.TEE_TYPE_AES, [128, 192, 256]),
        (gp.TEE_TYPE_DES, [56, 64]),
        (gp.TEE_TYPE_DES3, [112, 128, 168, 192]),
        (gp.TEE_TYPE_SM4, [128]),
        (gp.TEE_TYPE_HMAC_SHA1, list(range(80, 513, 8))),
        (gp.TEE_TYPE_DSA_KEYPAIR, list(range(512, 3073, 64))),
        (gp.TEE_TYPE_RSA_KEYPAIR, list(range(256, 4097))),
        (gp.TEE_TYPE_X448_KEYPAIR, [448]),
    ],
)
def test_key_sizes(obj_type: int, sizes: list[int]) -> None:
    props = types.TYPES[obj_type]
    assert [size for size in range(5000) if types.is_key_size(props, size)] == sizes
    assert not types.is_key_size(props, sizes[-1] + (1 << 32))


def test_sizes_as_text() -> None:
    assert algorithms.type_sizes(gp.TEE_TYPE_AES) == "128, 192, 256"
    assert algorithms.type_sizes(gp.TEE_TYPE_SM4) == "128"
    assert algorithms.type_sizes(gp.TEE_TYPE_RSA_KEYPAIR) == "256 to 4096"
    assert algorithms.type_sizes(gp.TEE_TYPE_DSA_KEYPAIR) == "512 to 3072 in steps of 64"


def test_row_of_an_algorithm() -> None:
    row = algorithms.Row(gp.TEE_ALG_AES_CTR, (gp.TEE_TYPE_AES,), algorithms.PYCA)
    assert (row.name, row.class_name) == ("TEE_ALG_AES_CTR", "cipher")
    assert row.key_sizes == "128, 192, 256"
    assert algorithms.Row(gp.TEE_ALG_SHA1, (), algorithms.PYCA).key_sizes == ""
    rows = algorithms.table()
    assert [row.id for row in rows] == sorted({row.id for row in rows})
