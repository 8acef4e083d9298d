# SPDX-License-Identifier: BSD-2-Clause
"""Ciphertext stealing: RFC 3962 appendix B, and what it is made of."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import gp_crypto as gp
from gentee.crypto.ciphers import new_cipher
from gentee.errors import BadState

KEY = b"chicken teriyaki"
TEXT = b"I would like the General Gau's Chicken, please, and wonton soup."
RFC3962 = (
    "c6353568f2bf8cb4d8a580362da7ff7f97",
    "fc00783e0efdb2c1d445d4c8eff7ed2297687268d6ecccc0c07b25e25ecfe5",
    "39312523a78662d5be7fcbcc98ebf5a897687268d6ecccc0c07b25e25ecfe584",
    "97687268d6ecccc0c07b25e25ecfe584b3fffd940c16a18c1b5549d2f838029e39312523a78662d5be7fcbcc98ebf5",
    "97687268d6ecccc0c07b25e25ecfe5849dad8bbb96c4cdc03bc103e1a194bbd8"
    "39312523a78662d5be7fcbcc98ebf5a8",
    "97687268d6ecccc0c07b25e25ecfe58439312523a78662d5be7fcbcc98ebf5a8"
    "4807efe836ee89a526730dbc2f7bc8409dad8bbb96c4cdc03bc103e1a194bbd8",
)


def cts(mode: int, key: bytes, iv: bytes, data: bytes, cut: int = 0) -> bytes:
    cipher = new_cipher(gp.TEE_ALG_AES_CTS, mode, key, b"", iv)
    out = memoryview(bytearray(len(data)))
    if cut:
        cipher.update_into(data[:cut], out, False)
    cipher.update_into(data[cut:], out[cut:], True)
    return bytes(out)


@pytest.mark.parametrize("expected", RFC3962)
def test_rfc3962(expected: str) -> None:
    cipher = bytes.fromhex(expected)
    plain = TEXT[: len(cipher)]
    assert cts(gp.TEE_MODE_ENCRYPT, KEY, bytes(16), plain) == cipher
    assert cts(gp.TEE_MODE_DECRYPT, KEY, bytes(16), cipher) == plain


@given(st.binary(min_size=17, max_size=200), st.binary(min_size=16, max_size=16), st.integers(0, 9))
def test_cs3_by_its_definition(data: bytes, iv: bytes, blocks: int) -> None:
    """CBC of the data filled up with zeros, its last two blocks swapped, cut to the length."""
    cut = min(blocks, (len(data) - 17) // 16) * 16
    context = Cipher(AES(KEY), modes.CBC(iv)).encryptor()
    whole = context.update(data + bytes(-len(data) % 16))
    expected = (whole[:-32] + whole[-16:] + whole[-32:-16])[: len(data)]
    assert cts(gp.TEE_MODE_ENCRYPT, KEY, iv, data, cut) == expected
    assert cts(gp.TEE_MODE_DECRYPT, KEY, iv, expected, cut) == data


@pytest.mark.parametrize("size", [1, 15, 16])
def test_a_single_block_is_too_little(size: int) -> None:
    with pytest.raises(BadState):
        cts(gp.TEE_MODE_ENCRYPT, KEY, bytes(16), bytes(size))
