# SPDX-License-Identifier: BSD-2-Clause
"""Ed25519 with context and prehash: RFC 8032 section 7, and OpenSSL without both."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gentee.crypto.own import ed25519

# Private key, public key, message, context, signature; the last one is of a prehash.
VECTORS = [
    (
        "0305334e381af78f141cb666f6199f57bc3495335a256a95bd2a55bf546663f6",
        "dfc9425e4f968f7f0c29f0259cf5f9aed6851c2bb4ad8bfb860cfee0ab248292",
        "f726936d19c800494e3fdaff20b276a8",
        "666f6f",
        "55a4cc2f70a54e04288c5f4cd1e45a7bb520b36292911876cada7323198dd87a"
        "8b36950b95130022907a7fb7c4e9b2d5f6cca685a587b4b21f4b888e4e7edb0d",
        False,
    ),
    (
        "0305334e381af78f141cb666f6199f57bc3495335a256a95bd2a55bf546663f6",
        "dfc9425e4f968f7f0c29f0259cf5f9aed6851c2bb4ad8bfb860cfee0ab248292",
        "f726936d19c800494e3fdaff20b276a8",
        "626172",
        "fc60d5872fc46b3aa69f8b5b4351d5808f92bcc044606db097abab6dbcb1aee3"
        "216c48e8b3b66431b5b186d1d28f8ee15a5ca2df6668346291c2043d4eb3e90d",
        False,
    ),
    (
        "0305334e381af78f141cb666f6199f57bc3495335a256a95bd2a55bf546663f6",
        "dfc9425e4f968f7f0c29f0259cf5f9aed6851c2bb4ad8bfb860cfee0ab248292",
        "508e9e6882b979fea900f62adceaca35",
        "666f6f",
        "8b70c1cc8310e1de20ac53ce28ae6e7207f33c3295e03bb5c0732a1d20dc6490"
        "8922a8b052cf99b7c4fe107a5abb5b2c4085ae75890d02df26269d8945f84b0b",
        False,
    ),
    (
        "ab9c2853ce297ddab85c993b3ae14bcad39b2c682beabc27d6d4eb20711d6560",
        "0f1d1274943b91415889152e893d80e93275a1fc0b65fd71b4b0dda10ad7d772",
        "f726936d19c800494e3fdaff20b276a8",
        "666f6f",
        "21655b5f1aa965996b3f97b3c849eafba922a0a62992f73b3d1b73106a84ad85"
        "e9b86a7b6005ea868337ff2d20a7f5fbd4cd10b0be49a68da2b2e0dc0ad8960f",
        False,
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "616263",
        "",
        "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41"
        "31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406",
        True,
    ),
]


@pytest.mark.parametrize(("key", "public", "message", "context", "signature", "prehash"), VECTORS)
def test_vectors(
    key: str, public: str, message: str, context: str, signature: str, prehash: bool
) -> None:
    parts = [bytes.fromhex(text) for text in (key, public, message, context, signature)]
    private, encoded, data, ctx, signed = parts
    assert ed25519.public_key(private) == encoded
    assert ed25519.sign(private, data, prehash, ctx) == signed
    assert ed25519.is_valid(encoded, data, signed, prehash, ctx)
    assert not ed25519.is_valid(encoded, data, signed, not prehash, ctx)
    assert not ed25519.is_valid(encoded, data, signed, prehash, ctx + b"x")
    assert not ed25519.is_valid(encoded, data + b"x", signed, prehash, ctx)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200))
def test_without_context_as_openssl(
    monkeypatch: pytest.MonkeyPatch, key: bytes, message: bytes
) -> None:
    """All but the prefix is what OpenSSL does without one."""
    monkeypatch.setattr(ed25519, "dom2", lambda prehash, context: b"")
    private = Ed25519PrivateKey.from_private_bytes(key)
    public = private.public_key().public_bytes_raw()
    assert ed25519.public_key(key) == public
    signature = private.sign(message)
    assert ed25519.sign(key, message, False, b"") == signature
    assert ed25519.is_valid(public, message, signature, False, b"")
    for bit in (0, 255, 256, 511):
        wrong = bytearray(signature)
        wrong[bit // 8] ^= 1 << bit % 8
        assert not ed25519.is_valid(public, message, bytes(wrong), False, b"")


def test_malleable_signatures_are_refused() -> None:
    _, public, message, context, signature, _ = VECTORS[0]
    signed = bytes.fromhex(signature)
    number = int.from_bytes(signed[32:], "little") + ed25519.L
    other = signed[:32] + number.to_bytes(32, "little")
    data, ctx = bytes.fromhex(message), bytes.fromhex(context)
    assert not ed25519.is_valid(bytes.fromhex(public), data, other, False, ctx)


def test_points() -> None:
    assert ed25519.encode(ed25519.BASE) == b"\x58" + b"\x66" * 31
    assert ed25519.decode(b"\2" + bytes(31)) is None  # no x has this y
    neutral = ed25519.decode(b"\1" + bytes(31))
    assert neutral is not None
    assert ed25519.encode(neutral) == b"\1" + bytes(31)
