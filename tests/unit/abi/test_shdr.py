# SPDX-License-Identifier: BSD-2-Clause
"""gentee.abi.shdr: each structure both ways, each field wrong, each length cut."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import shdr as abi
from gentee.abi.shdr import Shdr, ShdrBootstrapTa, ShdrEncryptedTa, ShdrError, ShdrSubkey

u16_bytes = st.binary(max_size=80)
u32s = st.integers(0, 0xFFFF_FFFF)
uuids = st.binary(min_size=16, max_size=16)


def header(**changed: int) -> Shdr:
    fields = {
        "img_type": abi.SHDR_BOOTSTRAP_TA,
        "img_size": 100,
        "algo": abi.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256,
        "hash_size": 32,
        "sig_size": 256,
        "magic": abi.SHDR_MAGIC,
    }
    fields.update(changed)
    hash_size, sig_size = fields.pop("hash_size"), fields.pop("sig_size")
    return Shdr(hash_=b"h" * hash_size, sig=b"s" * sig_size, **fields)


def test_the_layout_is_the_headers() -> None:
    """core/include/signed_hdr.h, field by field."""
    data = header().build()
    assert data[:20] == struct.pack("<IIIIHH", 0x4F545348, 1, 100, 0x70414930, 32, 256)
    assert data[:4] == b"HSTO"
    assert data[20:] == b"h" * 32 + b"s" * 256
    assert header().size == len(data) == 308
    uuid = bytes(range(16))
    assert ShdrBootstrapTa(uuid, 7).build() == uuid + b"\x07\0\0\0"
    assert ShdrEncryptedTa(0x40000810, 1, b"i" * 12, b"t" * 16).build() == (
        struct.pack("<IIHH", 0x40000810, 1, 12, 16) + b"i" * 12 + b"t" * 16
    )
    subkey = ShdrSubkey(uuid, 64, 3, 2, 0x70414930, {0xD0000130: b"mod", 0xD0000230: b"e"})
    assert subkey.build() == (
        uuid
        + struct.pack("<IIIII", 64, 3, 2, 0x70414930, 2)
        + struct.pack("<IIIIII", 0xD0000130, 60, 3, 0xD0000230, 63, 1)
        + b"mode"
    )


# Both ways


@given(u32s, u32s, u32s, u32s, u16_bytes, u16_bytes, u16_bytes, u16_bytes)
def test_shdr_both_ways(
    magic: int, img_type: int, img_size: int, algo: int, hash_: bytes, sig: bytes, before: bytes,
    after: bytes,
) -> None:  # fmt: skip
    data = Shdr(img_type, img_size, algo, hash_, sig, magic).build()
    parsed = Shdr.parse(before + data + after, len(before))
    assert (parsed.magic, parsed.img_type, parsed.img_size) == (magic, img_type, img_size)
    assert (parsed.algo, parsed.hash, parsed.sig) == (algo, hash_, sig)
    assert parsed.build() == data
    assert parsed.size == len(data)
    assert parsed.fixed == data[:20]


@given(uuids, u32s)
def test_bootstrap_both_ways(uuid: bytes, version: int) -> None:
    parsed = ShdrBootstrapTa.parse(b"x" + ShdrBootstrapTa(uuid, version).build(), 1)
    assert (parsed.uuid, parsed.ta_version) == (uuid, version)


@given(u32s, u32s, u16_bytes, u16_bytes)
def test_encrypted_both_ways(enc_algo: int, flags: int, iv: bytes, tag: bytes) -> None:
    made = ShdrEncryptedTa(enc_algo, flags, iv, tag)
    parsed = ShdrEncryptedTa.parse(made.build() + b"rest", 0)
    assert (parsed.enc_algo, parsed.flags) == (enc_algo, flags)
    assert (parsed.iv, parsed.tag, parsed.size) == (iv, tag, len(made.build()))


@given(uuids, u32s, u32s, u32s, u32s, st.dictionaries(u32s, u16_bytes, max_size=16))
def test_subkey_both_ways(
    uuid: bytes, name_size: int, version: int, depth: int, algo: int, attrs: dict[int, bytes]
) -> None:
    parsed = ShdrSubkey.parse(ShdrSubkey(uuid, name_size, version, depth, algo, attrs).build())
    assert (parsed.uuid, parsed.name_size, parsed.subkey_version) == (uuid, name_size, version)
    assert (parsed.max_depth, parsed.algo, parsed.attrs) == (depth, algo, attrs)


# Wrong fields


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("magic", 0, "magic 0x00000000"),
        ("magic", 0x4853544F, "magic 0x4853544f"),  # the other byte order
        ("magic", abi.SHDR_MAGIC ^ 1, "magic"),
        ("algo", 0, "no RSA"),
        ("algo", 0x70003041, "no RSA"),  # ECDSA
        ("algo", 0x70001830, "too weak"),  # PKCS1 v1.5 with MD5
        ("algo", 0x70002830, "too weak"),  # SHA-1
        ("algo", 0x70003830, "too weak"),  # SHA-224
        ("algo", 0x70212930, "too weak"),  # PSS with SHA-1
        ("algo", 0x60000130, "unknown"),  # RSAES, which signs nothing
        ("algo", 0x70414931, "no RSA"),
        ("algo", abi.TEE_ALG_RSASSA_PKCS1_V1_5_SHA384, "hash_size 32 is not the 48"),
        ("algo", abi.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA512, "hash_size 32 is not the 64"),
        ("hash_size", 0, "hash_size 0 is not the 32"),
        ("hash_size", 20, "hash_size 20"),
        ("hash_size", 33, "hash_size 33"),
        ("hash_size", 0xFFFF, "hash_size 65535"),
    ],
)
def test_a_field_that_is_wrong(field: str, value: int, complaint: str) -> None:
    made = header(**{field: value})
    with pytest.raises(ShdrError, match=complaint):
        made.check()
    # It is a header all the same, for whoever wants to show it.
    assert Shdr.parse(made.build()).build() == made.build()


def test_what_is_right() -> None:
    assert header().check().name == "TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256"
    for algorithm in abi.SIGNATURE_ALGORITHMS.values():
        found = header(algo=algorithm.number, hash_size=algorithm.digest_size).check()
        assert found is algorithm
    assert len(abi.SIGNATURE_ALGORITHMS) == 6
    assert abi.algorithm_name(0x70004830) == "TEE_ALG_RSASSA_PKCS1_V1_5_SHA256"
    assert abi.algorithm_name(0x12) == "0x00000012"
    assert abi.img_type_name(3) == "SHDR_SUBKEY"
    assert abi.img_type_name(9) == "9"


@pytest.mark.parametrize(
    ("enc_algo", "flags", "iv", "tag", "complaint"),
    [
        (0x40000710, 0, 12, 16, "enc_algo"),
        (0x40000810, 2, 12, 16, "flags 0x2"),
        (0x40000810, 0, 11, 16, "iv_size 11"),
        (0x40000810, 0, 16, 16, "iv_size 16"),
        (0x40000810, 0, 12, 15, "tag_size 15"),
        (0x40000810, 0, 12, 0, "tag_size 0"),
    ],
)
def test_encryption_that_is_wrong(
    enc_algo: int, flags: int, iv: int, tag: int, complaint: str
) -> None:
    with pytest.raises(ShdrError, match=complaint):
        ShdrEncryptedTa(enc_algo, flags, bytes(iv), bytes(tag)).check()
    ShdrEncryptedTa(0x40000810, 1, bytes(12), bytes(16)).check()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Shdr(1 << 32, 0, 0, b"", b""),
        lambda: Shdr(0, 1 << 32, 0, b"", b""),
        lambda: Shdr(0, 0, 1 << 32, b"", b""),
        lambda: Shdr(0, 0, 0, b"", b"", 1 << 32),
        lambda: Shdr(0, -1, 0, b"", b""),
        lambda: Shdr(0, 0, 0, bytes(1 << 16), b""),
        lambda: Shdr(0, 0, 0, b"", bytes(1 << 16)),
        lambda: ShdrBootstrapTa(bytes(15), 0),
        lambda: ShdrBootstrapTa(bytes(16), 1 << 32),
        lambda: ShdrBootstrapTa(bytes(16), -1),
        lambda: ShdrEncryptedTa(1 << 32, 0, b"", b""),
        lambda: ShdrEncryptedTa(0, 1 << 32, b"", b""),
        lambda: ShdrEncryptedTa(0, 0, bytes(1 << 16), b""),
        lambda: ShdrEncryptedTa(0, 0, b"", bytes(1 << 16)),
        lambda: ShdrSubkey(bytes(17), 0, 0, 0, 0, {}),
        lambda: ShdrSubkey(bytes(16), 1 << 32, 0, 0, 0, {}),
        lambda: ShdrSubkey(bytes(16), 0, 1 << 32, 0, 0, {}),
        lambda: ShdrSubkey(bytes(16), 0, 0, 1 << 32, 0, {}),
        lambda: ShdrSubkey(bytes(16), 0, 0, 0, 1 << 32, {}),
    ],
    ids=range(19),
)
def test_what_does_not_fit_is_not_built(make: Callable[[], object]) -> None:
    with pytest.raises(ShdrError):
        make()


# Lengths


def test_cut_at_every_length() -> None:
    data = header().build()
    for size in range(len(data)):
        with pytest.raises(ShdrError, match="left"):
            Shdr.parse(data[:size])
    bootstrap = ShdrBootstrapTa(bytes(16), 1).build()
    for size in range(len(bootstrap)):
        with pytest.raises(ShdrError, match="left"):
            ShdrBootstrapTa.parse(bootstrap[:size], 0)
    encrypted = ShdrEncryptedTa(0, 0, bytes(12), bytes(16)).build()
    for size in range(len(encrypted)):
        with pytest.raises(ShdrError, match="left"):
            ShdrEncryptedTa.parse(encrypted[:size], 0)
    subkey = ShdrSubkey(bytes(16), 0, 0, 0, 0, {1: b"one", 2: b"two"}).build()
    for size in range(len(subkey)):
        with pytest.raises(ShdrError, match="left"):
            ShdrSubkey.parse(subkey[:size])


def test_offsets_that_are_none() -> None:
    data = header().build()
    for offset in (-1, len(data) - 307, len(data), 1 << 40):
        with pytest.raises(ShdrError):
            Shdr.parse(data, offset)


@pytest.mark.parametrize(
    ("count", "offs", "size", "complaint"),
    [
        (17, 0, 0, "more than 16"),
        (0xFFFF_FFFF, 0, 0, "more than 16"),
        (2, 48, 0, "attributes"),
        (1, 49, 0, "attribute 0x00000001"),
        (1, 0, 49, "attribute 0x00000001"),
        (1, 0xFFFF_FFFF, 0xFFFF_FFFF, "attribute"),
    ],
)
def test_attributes_outside_the_image(count: int, offs: int, size: int, complaint: str) -> None:
    image = struct.pack("<16sIIIII", bytes(16), 0, 0, 0, 0, count) + struct.pack(
        "<III", 1, offs, size
    )
    with pytest.raises(ShdrError, match=complaint):
        ShdrSubkey.parse(image)


def test_the_first_attribute_counts() -> None:
    """find_attr() takes the first of an id."""
    image = struct.pack("<16sIIIII", bytes(16), 0, 0, 0, 0, 2)
    image += struct.pack("<IIIIII", 1, 60, 1, 1, 61, 1) + b"ab"
    assert ShdrSubkey.parse(image).attrs == {1: b"a"}
