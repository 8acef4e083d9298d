# SPDX-License-Identifier: BSD-2-Clause
"""XTS of our own: NIST's vectors for AES, OpenSSL's for SM4, and pyca's XTS."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import gp_crypto as gp
from gentee.crypto.ciphers import new_cipher
from gentee.crypto.own.gf128 import gcm_inverse, gcm_multiply, times_x
from gentee.crypto.own.xts import tweaks, xts_into
from tests.vector_files import nist

elements = st.integers(0, (1 << 128) - 1)


def own(key: bytes, tweak: bytes, data: bytes, decrypt: bool) -> bytes:
    """AES-XTS without pyca's."""
    half = len(key) // 2
    first = Cipher(AES(key[half:]), modes.ECB()).encryptor().update(tweak)
    ecb = Cipher(AES(key[:half]), modes.ECB())
    context = ecb.decryptor() if decrypt else ecb.encryptor()
    out = memoryview(bytearray(len(data)))
    xts_into(context, decrypt, int.from_bytes(first, "little"), data, out)
    return bytes(out)


@pytest.mark.parametrize("bits", [128, 256])
def test_nist(bits: int) -> None:
    done = 0
    for vector in nist(f"ciphers/AES/XTS/tweak-128hexstr/XTSGenAES{bits}.rsp"):
        if int(vector["dataunitlen"]) % 8:
            continue
        key, tweak, plain, cipher = (bytes.fromhex(vector[n]) for n in ("key", "i", "pt", "ct"))
        assert own(key, tweak, plain, False) == cipher
        assert own(key, tweak, cipher, True) == plain
        done += 1
    assert done > 100


@given(st.binary(min_size=16, max_size=3000), st.binary(min_size=16, max_size=16))
def test_as_pyca(data: bytes, tweak: bytes) -> None:
    key = bytes(range(64))
    expected = Cipher(AES(key), modes.XTS(tweak)).encryptor().update(data)
    assert own(key, tweak, data, False) == expected
    assert own(key, tweak, expected, True) == data


def test_sm4() -> None:
    """test/recipes/30-test_evp_data/evpciph_sm4.txt of OpenSSL, that of IEEE 1619."""
    keys = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"), bytes(range(16))
    tweak = bytes(range(0xF0, 0x100))
    plain = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17"
    )
    cipher = bytes.fromhex(
        "e9538251c71d7b80bbe4483fef497bd1b3db1a3e60408c575d63ff7db39f8326"
        "0869f9e2585fec9f0b863bf8fd784b8627d16c0db6d2cfc7"
    )
    for mode, data, expected in (
        (gp.TEE_MODE_ENCRYPT, plain, cipher),
        (gp.TEE_MODE_DECRYPT, cipher, plain),
    ):
        out = memoryview(bytearray(len(data)))
        new_cipher(gp.TEE_ALG_SM4_XTS, mode, *keys, tweak).update_into(data, out, True)
        assert bytes(out) == expected


def test_equal_keys() -> None:
    """IEEE 1619 vector 1 has them: both are 0. OpenSSL refuses them, OP-TEE does not."""
    out = memoryview(bytearray(32))
    cipher = new_cipher(gp.TEE_ALG_AES_XTS, gp.TEE_MODE_ENCRYPT, bytes(16), bytes(16), bytes(16))
    cipher.update_into(bytes(32), out, True)
    assert out.hex() == "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e"


@given(elements, st.integers(0, 5000), st.integers(1, 300))
def test_powers_of_x(element: int, power: int, count: int) -> None:
    expected = element
    for _ in range(power % 500):
        expected = times_x(expected)
    assert times_x(element, power % 500) == expected
    assert times_x(times_x(element, power), 777) == times_x(element, power + 777)
    expected = element
    made = tweaks(element, count)
    for start in range(0, 16 * count, 16):
        assert int.from_bytes(made[start : start + 16], "little") == expected
        expected = times_x(expected)


@given(elements, elements, elements)
def test_the_field_of_gcm(a: int, b: int, c: int) -> None:
    one = 1 << 127
    assert gcm_multiply(a, b) == gcm_multiply(b, a)
    assert gcm_multiply(a, b ^ c) == gcm_multiply(a, b) ^ gcm_multiply(a, c)
    assert gcm_multiply(gcm_multiply(a, b), c) == gcm_multiply(a, gcm_multiply(b, c))
    assert gcm_multiply(a, one) == a
    if a:
        assert gcm_multiply(a, gcm_inverse(a)) == one
