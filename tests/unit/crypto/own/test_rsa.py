# SPDX-License-Identifier: BSD-2-Clause
"""RSA on integers: NIST's signatures, and that OpenSSL undoes and does the same."""

import hashlib
from math import lcm

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed
from hypothesis import given
from hypothesis import strategies as st

from gentee.crypto.own.primes import random_prime
from gentee.crypto.own.rsa import (
    RsaNumbers,
    mgf1,
    oaep_decode,
    oaep_encode,
    pkcs1_decode,
    pkcs1_encode,
    pkcs1_signed,
    pss_encode,
    pss_is_valid,
)
from tests.vector_files import chosen, nist

SHA1, SHA256 = hashes.SHA1(), hashes.SHA256()
ALGORITHMS: dict[str, hashes.HashAlgorithm] = {
    "SHA1": SHA1,
    "SHA224": hashes.SHA224(),
    "SHA256": SHA256,
    "SHA384": hashes.SHA384(),
    "SHA512": hashes.SHA512(),
}


def numbers_of(key: rsa.RSAPrivateKey) -> RsaNumbers:
    n = key.private_numbers()
    public = n.public_numbers
    return RsaNumbers(public.n, public.e, n.d, n.p, n.q, n.dmp1, n.dmq1, n.iqmp)


KEY = rsa.generate_private_key(65537, 1024)
NUMBERS = numbers_of(KEY)


def small_key(p: int, q: int, e: int = 65537) -> RsaNumbers:
    d = pow(e, -1, lcm(p - 1, q - 1))
    return RsaNumbers(p * q, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))


@given(st.integers(0, NUMBERS.n - 1))
def test_private_undoes_public(number: int) -> None:
    assert NUMBERS.private(NUMBERS.public(number)) == number
    assert NUMBERS[:3] + (0,) * 5 == tuple(NUMBERS._replace(p=0, q=0, dp=0, dq=0, qp=0))
    assert NUMBERS._replace(p=0).private(NUMBERS.public(number)) == number
    assert NUMBERS.public(NUMBERS.private(number)) == number


@pytest.mark.parametrize("bits", [256, 384, 512, 776])
def test_short_keys(bits: int) -> None:
    key = small_key(random_prime(bits // 2), random_prime(bits // 2))
    assert (key.bits, key.size) == (bits, bits // 8)
    assert key.private(key.public(12345)) == 12345


def test_numbers_that_do_not_belong_together() -> None:
    for wrong in (
        NUMBERS._replace(dp=NUMBERS.dp + 2),
        NUMBERS._replace(qp=NUMBERS.qp + 1),
        NUMBERS._replace(p=NUMBERS.q),
        NUMBERS._replace(p=NUMBERS.p + 1),
    ):
        with pytest.raises(ValueError, match=r"belong together|even prime"):
            wrong.private(5)
    with pytest.raises(ValueError, match="even modulus"):
        RsaNumbers(12, 5, 5).private(3)
    with pytest.raises(ValueError, match="even modulus"):
        RsaNumbers(12, 5, 5).public(3)
    with pytest.raises(ValueError, match="even modulus"):
        RsaNumbers(1, 5, 5).private(0)


def test_mgf1() -> None:
    """Its bytes begin with those of a shorter mask, and are digests of seed and counter."""
    mask = mgf1(SHA1, b"foo", 50)
    assert mask[:20] == hashlib.sha1(b"foo\0\0\0\0").digest()
    assert mask[20:40] == hashlib.sha1(b"foo\0\0\0\1").digest()
    assert (len(mask), mgf1(SHA1, b"foo", 5), mgf1(SHA1, b"foo", 0)) == (50, mask[:5], b"")


@pytest.mark.parametrize("size", [0, 1, 30, 62])
@pytest.mark.parametrize("label", [b"", b"label"])
def test_oaep(size: int, label: bytes) -> None:
    message = bytes(range(size))
    scheme = padding.OAEP(padding.MGF1(SHA1), SHA256, label or None)
    encoded = oaep_encode(message, label, 128, SHA256, SHA1)
    encrypted = NUMBERS.public(int.from_bytes(encoded, "big")).to_bytes(128, "big")
    assert KEY.decrypt(encrypted, scheme) == message
    back = NUMBERS.private(int.from_bytes(KEY.public_key().encrypt(message, scheme), "big"))
    assert oaep_decode(back.to_bytes(128, "big"), label, SHA256, SHA1) == message
    for wrong in (b"\1" + encoded[1:], encoded[:-1] + bytes((encoded[-1] ^ 1,)), bytes(128)):
        with pytest.raises(ValueError, match="decryption error"):
            oaep_decode(wrong, label, SHA256, SHA1)
    with pytest.raises(ValueError, match="decryption error"):
        oaep_decode(encoded, label + b"x", SHA256, SHA1)


@pytest.mark.parametrize("size", [0, 1, 60, 117])
def test_pkcs1(size: int) -> None:
    message = bytes(range(size))
    encoded = pkcs1_encode(message, 128)
    assert len(encoded) == 128
    assert pkcs1_decode(encoded) == message
    encrypted = NUMBERS.public(int.from_bytes(encoded, "big")).to_bytes(128, "big")
    assert KEY.decrypt(encrypted, padding.PKCS1v15()) == message
    sealed = KEY.public_key().encrypt(message, padding.PKCS1v15())
    back = NUMBERS.private(int.from_bytes(sealed, "big"))
    assert pkcs1_decode(back.to_bytes(128, "big")) == message


@pytest.mark.parametrize(
    "encoded",
    [
        b"\0\2" + b"x" * 7 + b"\0" + b"message",
        b"\0\1" + b"x" * 8 + b"\0" + b"message",
        b"\1\2" + b"x" * 8 + b"\0" + b"message",
        b"\0\2" + b"x" * 20,
        b"\0\2\0" + b"x" * 20,
        bytes(20),
    ],
)
def test_wrong_paddings(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="decryption error"):
        pkcs1_decode(encoded)


def test_padding_of_signatures() -> None:
    signature = KEY.sign(b"digest", padding.PKCS1v15(), NoDigestInfo())
    encoded = NUMBERS.public(int.from_bytes(signature, "big")).to_bytes(128, "big")
    assert encoded == pkcs1_signed(b"digest", 128)


@pytest.mark.parametrize("bits", [1024, 1025, 1031])
@pytest.mark.parametrize("salt", [0, 5, 32])
def test_pss(bits: int, salt: int) -> None:
    """Of moduli with a bit more than whole bytes, too."""
    key = KEY if bits == 1024 else rsa.generate_private_key(65537, bits)
    numbers = numbers_of(key)
    digest = hashlib.sha256(b"message").digest()
    scheme = padding.PSS(padding.MGF1(SHA256), salt)
    encoded = pss_encode(digest, salt, bits, SHA256)
    size = (bits + 7) // 8
    signature = numbers.private(int.from_bytes(encoded, "big")).to_bytes(size, "big")
    key.public_key().verify(signature, digest, scheme, Prehashed(SHA256))
    other = key.sign(digest, scheme, Prehashed(SHA256))
    encoded = numbers.public(int.from_bytes(other, "big")).to_bytes((bits + 6) // 8, "big")
    assert pss_is_valid(encoded, digest, salt, bits, SHA256)
    assert not pss_is_valid(encoded, digest, salt + 1, bits, SHA256)
    assert not pss_is_valid(encoded, bytes(32), salt, bits, SHA256)
    assert not pss_is_valid(encoded[:-1] + b"\xbd", digest, salt, bits, SHA256)


def test_pss_of_nist() -> None:
    results = set()
    for vector in chosen(nist("asymmetric/RSA/FIPS_186-2/SigVerPSS_186-3.rsp"), 100):
        key = RsaNumbers(int(vector["n"], 16), int(vector["e"], 16))
        digest = hashlib.new(vector["shaalg"].lower(), bytes.fromhex(vector["msg"])).digest()
        number = key.public(int(vector["s"], 16)) if int(vector["s"], 16) < key.n else 0
        salt = len(bytes.fromhex(vector["saltval"]))
        good = not number >> 8 * key.size and pss_is_valid(
            number.to_bytes(key.size, "big"), digest, salt, key.bits, ALGORITHMS[vector["shaalg"]]
        )
        assert good is vector["result"].startswith("P")
        results.add(good)
    assert results == {True, False}
