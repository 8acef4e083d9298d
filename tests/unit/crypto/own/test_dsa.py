# SPDX-License-Identifier: BSD-2-Clause
"""DSA on integers: the example of FIPS 186-2 (512 bits), NIST's signatures, and OpenSSL's."""

import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from gentee.crypto.own.dsa import DsaNumbers
from tests.vector_files import chosen, nist

# FIPS 186-2 appendix 5
EXAMPLE = DsaNumbers(
    p=int(
        "8df2a494492276aa3d25759bb06869cbeac0d83afb8d0cf7cbb8324f0d7882e5"
        "d0762fc5b7210eafc2e9adac32ab7aac49693dfbf83724c2ec0736ee31c80291",
        16,
    ),
    q=0xC773218C737EC8EE993B4F2DED30F48EDACE915F,
    g=int(
        "626d027839ea0a13413163a55b4cb500299d5522956cefcb3bff10f399ce2c2e"
        "71cb9de5fa24babf58e5b79521925c9cc42e9f6f464b088cc572af53e6d78802",
        16,
    ),
    y=int(
        "19131871d75b1612a819f29d78d1b0d7346f7aa77bb62a859bfd6c5675da9d21"
        "2d3a36ef1672ef660b8c7c255cc0ec74858fba33f44c06699630a76b030ee333",
        16,
    ),
    x=0x2070B3223DBA372FDE1C0FFC7B2E3B498B260614,
)
R = 0x8BAC1AB66410435CB7181F95B16AB97C92B341C0
S = 0x41E2345F1F56DF2458F426D155B4BA2DB6DCD8C8


def test_example() -> None:
    digest = hashlib.sha1(b"abc").digest()
    assert pow(EXAMPLE.g, EXAMPLE.x, EXAMPLE.p) == EXAMPLE.y
    assert EXAMPLE.is_valid(digest, R, S)
    for r, s in ((R + 1, S), (R, S + 1), (0, S), (R, 0), (EXAMPLE.q, S), (R, EXAMPLE.q)):
        assert not EXAMPLE.is_valid(digest, r, s)
    for data in (digest, hashlib.sha256(b"abc").digest(), b"", b"\xff" * 20):
        assert EXAMPLE.is_valid(data, *EXAMPLE.sign(data))


def test_signatures_of_nist() -> None:
    results = set()
    for vector in chosen(nist("asymmetric/DSA/FIPS_186-2/SigVer.rsp"), 30):
        key = DsaNumbers(*(int(vector[name], 16) for name in ("p", "q", "g", "y")))
        digest = hashlib.sha1(bytes.fromhex(vector["msg"])).digest()
        good = key.is_valid(digest, int(vector["r"], 16), int(vector["s"], 16))
        assert good is vector["result"].startswith("P")
        results.add(good)
    assert results == {True, False}


def test_as_openssl() -> None:
    key = dsa.generate_private_key(1024)
    numbers = key.private_numbers()
    public = numbers.public_numbers
    params = public.parameter_numbers
    own = DsaNumbers(params.p, params.q, params.g, public.y, numbers.x)
    sha1, sha256 = Prehashed(hashes.SHA1()), Prehashed(hashes.SHA256())
    for size, algorithm in ((20, sha1), (32, sha256)):
        data = bytes(range(size))
        assert own.is_valid(data, *decode_dss_signature(key.sign(data, algorithm)))
        r, s = own.sign(data)
        key.public_key().verify(encode_dss_signature(r, s), data, algorithm)
        with pytest.raises(InvalidSignature):
            key.public_key().verify(encode_dss_signature(s, r), data, algorithm)


@pytest.mark.parametrize(
    "key",
    [
        DsaNumbers(0, 0, 0, 0),
        DsaNumbers(22, 7, 2, 4, 2),
        DsaNumbers(23, 1, 2, 4, 2),
        DsaNumbers(23, 11, 0, 4, 2),
        DsaNumbers(23, 11, 23, 4, 2),
    ],
)
def test_no_keys(key: DsaNumbers) -> None:
    """Whatever the numbers are, a call ends."""
    with pytest.raises(ValueError, match=r"."):
        key.sign(b"12")


def test_verification_with_no_keys() -> None:
    with pytest.raises(ValueError, match="even"):
        DsaNumbers(22, 7, 2, 4).is_valid(b"1", 1, 1)
    with pytest.raises(ValueError, match="not invertible"):
        DsaNumbers(23, 12, 2, 4).is_valid(b"1", 1, 6)
    assert not DsaNumbers(0, 0, 0, 0).is_valid(b"1", 1, 1)
