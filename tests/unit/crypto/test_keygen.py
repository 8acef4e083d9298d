# SPDX-License-Identifier: BSD-2-Clause
"""New keys as numbers. That OpenSSL takes a key says that its parts belong together."""

import os
from math import gcd, lcm

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import gp_crypto as gp
from gentee.crypto import keygen
from gentee.crypto.own.curves import SM2
from gentee.crypto.own.primes import is_probable_prime
from gentee.errors import BadParameters, NotSupported

# RFC 2409 section 6.2: 1024 bits, a safe prime
P1024 = int(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd"
    "ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed"
    "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece65381ffffffffffffffff",
    16,
)
Q1024 = (P1024 - 1) // 2

# FIPS 186-3 example of DSA, L = 1024 and N = 160 (csrc.nist.gov, DSA_1024)
DSA_P = int(
    "e0a67598cd1b763bc98c8abb333e5dda0cd3aa0e5e1fb5ba8a7b4eabc10ba338fae06dd4b90fda70d7cf0cb0c638be33"
    "41bec0af8a7330a3307ded2299a0ee606df035177a239c34a912c202aa5f83b9c4a7cf0235b5316bfc6efb9a24841125"
    "8b30b839af172440f32563056cb67a861158ddd90e6a894c72a5bbef9e286c6b",
    16,
)
DSA_Q = 0xE950511EAB424B9A19A2AEB4E159B7844C589C4F
DSA_G = int(
    "d29d5121b0423c2769ab21843e5a3240ff19cacc792264e3bb6be4f78edd1b15c4dff7f1d905431f0ab16790e1f773b5"
    "ce01c804e509066a9919f5195f4abc58189fd9ff987389cb5bedf21b4dab4f8b76a055ffe2770988fe2ec2de11ad9221"
    "9f0b351869ac24da3d7ba87011a701ce8ee7bfe49486ed4527b7186ca4610a75",
    16,
)

# FIPS 186-2 appendix 5: L = 512
SHORT_P = int(
    "8df2a494492276aa3d25759bb06869cbeac0d83afb8d0cf7cbb8324f0d7882e5d0762fc5b7210eafc2e9adac32ab7aac"
    "49693dfbf83724c2ec0736ee31c80291",
    16,
)
SHORT_Q = 0xC773218C737EC8EE993B4F2DED30F48EDACE915F
SHORT_G = int(
    "626d027839ea0a13413163a55b4cb500299d5522956cefcb3bff10f399ce2c2e71cb9de5fa24babf58e5b79521925c9c"
    "c42e9f6f464b088cc572af53e6d78802",
    16,
)


def check_rsa(key: keygen.RsaKey, bits: int, e: int) -> None:
    assert key.n.bit_length() == bits
    assert key.p * key.q == key.n
    assert is_probable_prime(key.p)
    assert is_probable_prime(key.q)
    assert key.p != key.q
    assert e * key.d % lcm(key.p - 1, key.q - 1) == 1
    assert (key.dp, key.dq) == (key.d % (key.p - 1), key.d % (key.q - 1))
    assert key.q * key.qp % key.p == 1


@pytest.mark.parametrize("bits", [256, 272, 512, 1008])
@pytest.mark.parametrize("e", [65537, 65539, 3])
def test_short_rsa_keys_are_gentees(bits: int, e: int) -> None:
    check_rsa(keygen.rsa_key(bits, e), bits, e)


@pytest.mark.parametrize(
    ("bits", "e"),
    [(1024, 65537), (1040, 65537), (2048, 65537), (1024, 65539), (1040, (1 << 254) + 1)],
)
def test_long_rsa_keys_are_openssls(bits: int, e: int) -> None:
    key = keygen.rsa_key(bits, e)
    check_rsa(key, bits, e)
    if e < 1 << 64:  # OpenSSL takes no longer one with a short modulus
        public = rsa.RSAPublicNumbers(e, key.n)
        rsa.RSAPrivateNumbers(key.p, key.q, key.d, key.dp, key.dq, key.qp, public).private_key()


def test_an_exponent_that_fits_few_primes() -> None:
    e = 3 * 5 * 7 * 11 * 13 * 17 * 19 * 23 * 29 * 31 * 37
    key = keygen.rsa_key(1024, e)
    check_rsa(key, 1024, e)
    assert gcd(key.p - 1, e) == gcd(key.q - 1, e) == 1


@pytest.mark.parametrize(
    ("bits", "e"),
    [
        (1025, 65537),
        (1032, 65537),  # of whole bytes, and its primes are not
        (264, 65537),
        (1024, 65536),
        (1024, 1),
        (1024, 0),
        (1024, (1 << 255) + 1),
    ],
)
def test_no_rsa_key(bits: int, e: int) -> None:
    with pytest.raises(BadParameters):
        keygen.rsa_key(bits, e)


@pytest.mark.parametrize("g", [DSA_G, pow(DSA_G, 2, DSA_P)])
def test_dsa_key(g: int) -> None:
    x, y = keygen.dsa_key(1024, DSA_P, DSA_Q, g)
    assert 0 < x < DSA_Q
    assert y == pow(g, x, DSA_P)
    assert keygen.dsa_key(1024, DSA_P, DSA_Q, g) != (x, y)


def test_dsa_key_of_a_size_that_openssl_has_not() -> None:
    x, y = keygen.dsa_key(512, SHORT_P, SHORT_Q, SHORT_G)
    assert 0 < x < SHORT_Q
    assert y == pow(SHORT_G, x, SHORT_P)
    assert pow(y, SHORT_Q, SHORT_P) == 1


def test_dsa_numbers_that_are_no_domain() -> None:
    # As in OP-TEE, whatever is given is computed with. OpenSSL refuses these.
    p = int.from_bytes(os.urandom(128), "big") | 1 << 1023 | 1
    for q in ((1 << 160) - 1, (1 << 159), (1 << 256) - 1, 2, 3, 1 << 2000):
        for g in (0, 1, 2, p - 1, p, 1 << 1023):
            x, y = keygen.dsa_key(1024, p, q, g)
            assert 0 < x < q
            assert y == pow(g, x, p)


@pytest.mark.parametrize(
    ("bits", "p", "q"),
    [(1024, DSA_P >> 8, DSA_Q), (1032, DSA_P, DSA_Q), (1024, DSA_P, 1), (1024, DSA_P, 0),
     (1024, DSA_P - 1, DSA_Q), (0, 0, DSA_Q)],
)  # fmt: skip
def test_no_dsa_key(bits: int, p: int, q: int) -> None:
    with pytest.raises(BadParameters):
        keygen.dsa_key(bits, p, q, DSA_G)


@pytest.mark.parametrize(
    ("q", "xbits", "most"),
    [
        (None, 0, 1024),
        (None, 160, 160),
        (None, 8, 8),
        (None, 1024, 1024),
        (DSA_Q, 0, 160),
        (DSA_Q, 160, 160),
        (DSA_Q, 64, 64),
        (Q1024, 0, 1024),  # as many bytes as p: not reduced
        (Q1024, 512, 512),
    ],
)
def test_dh_key(q: int | None, xbits: int, most: int) -> None:
    for _ in range(4):
        x, y = keygen.dh_key(1024, P1024, 2, q, xbits)
        assert x.bit_length() <= most
        assert y == pow(2, x, P1024)


@pytest.mark.parametrize(
    ("bits", "p", "q", "xbits"),
    [
        (1024, P1024 >> 8, None, 0),
        (1016, P1024, None, 0),
        (1024, P1024 - 1, None, 0),
        (1024, P1024, None, 12),
        (1024, P1024, None, 1032),
        (1024, P1024, None, 0xFFFFFFF8),
        (1024, P1024, DSA_Q, 168),
        (1024, P1024, 0, 0),
        (1024, P1024, 0, 8),
        (0, 0, None, 0),
    ],
)
def test_no_dh_key(bits: int, p: int, q: int | None, xbits: int) -> None:
    with pytest.raises(BadParameters):
        keygen.dh_key(bits, p, 2, q, xbits)


NUMBERS = st.one_of(st.integers(0, 9), st.integers(0, 1 << 300))


@given(NUMBERS, NUMBERS, NUMBERS, st.integers(0, 40))
def test_any_numbers_of_dh_and_dsa(p: int, g: int, q: int, xsize: int) -> None:
    bits = (p.bit_length() + 7) // 8 * 8
    for order in (None, q):
        try:
            x, y = keygen.dh_key(bits, p, g, order, 8 * xsize)
        except BadParameters:
            continue
        assert 0 <= x < p
        assert y == pow(g, x, p)
    try:
        x, y = keygen.dsa_key(bits, p, q, g)
    except BadParameters:
        return
    assert 0 < x < q
    assert y == pow(g, x, p)


@pytest.mark.parametrize(
    ("curve", "openssl"),
    [
        (gp.TEE_ECC_CURVE_NIST_P192, ec.SECP192R1()),
        (gp.TEE_ECC_CURVE_NIST_P224, ec.SECP224R1()),
        (gp.TEE_ECC_CURVE_NIST_P256, ec.SECP256R1()),
        (gp.TEE_ECC_CURVE_NIST_P384, ec.SECP384R1()),
        (gp.TEE_ECC_CURVE_NIST_P521, ec.SECP521R1()),
    ],
)
def test_ecc_key(curve: int, openssl: ec.EllipticCurve) -> None:
    d, x, y = keygen.ecc_key(openssl.key_size, curve)
    numbers = ec.derive_private_key(d, openssl).public_key().public_numbers()
    assert (numbers.x, numbers.y) == (x, y)
    with pytest.raises(BadParameters):
        keygen.ecc_key(openssl.key_size + 1, curve)


def test_sm2_key() -> None:
    d, x, y = keygen.ecc_key(256, gp.TEE_ECC_CURVE_SM2)
    assert 0 < d < SM2.n
    assert SM2.has((x, y))
    assert SM2.multiply(d, SM2.base) == (x, y)
    with pytest.raises(BadParameters):
        keygen.ecc_key(255, gp.TEE_ECC_CURVE_SM2)


@pytest.mark.parametrize("curve", [0, gp.TEE_ECC_CURVE_25519, 6, 0xFFFFFFFF])
def test_no_such_curve(curve: int) -> None:
    with pytest.raises(NotSupported):
        keygen.ecc_key(256, curve)


def test_keys_of_fixed_length() -> None:
    private, public = keygen.ed25519_key()
    signature = Ed25519PrivateKey.from_private_bytes(private).sign(b"m")
    Ed25519PrivateKey.from_private_bytes(private).public_key().verify(signature, b"m")
    assert Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw() == public
    private, public = keygen.x25519_key()
    assert X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw() == public
    private, public = keygen.x448_key()
    assert X448PrivateKey.from_private_bytes(private).public_key().public_bytes_raw() == public


def test_x25519_keys_are_random_in_all_bits() -> None:
    # OP-TEE stores them as they come, and OpenSSL would not.
    seen = [keygen.x25519_key()[0] for _ in range(64)]
    assert {key[0] & 7 for key in seen} != {0}
    assert {key[31] >> 6 for key in seen} != {1}


def test_two_forks_of_a_process_make_different_keys() -> None:
    keygen.warm_up()
    keys = {keygen.ecc_key(256, gp.TEE_ECC_CURVE_NIST_P256)[0].to_bytes(32, "big")}
    for _ in range(3):
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                key = keygen.ecc_key(256, gp.TEE_ECC_CURVE_NIST_P256)[0]
                os.write(writing, key.to_bytes(32, "big"))
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        os.close(writing)
        keys.add(os.read(reading, 32))
        os.close(reading)
    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}
