# SPDX-License-Identifier: BSD-2-Clause
"""CBC-MAC: FIPS 113 appendix 2, ISO/IEC 9797-1 annex B, and pyca's CBC."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import gp_crypto as gp
from gentee.crypto.blocks import block_cipher
from gentee.crypto.own.cbc_mac import CbcMac
from gentee.errors import BadState

DES_KEY = bytes.fromhex("0123456789abcdef")


def mac(main_alg: int, key: bytes, pad: bool, *chunks: bytes) -> bytes:
    context = CbcMac(block_cipher(main_alg, key), pad)
    for chunk in chunks:
        context = context.copy()
        context.update(chunk)
    return context.final()


def test_fips113() -> None:
    text = b"7654321 Now is the time for "
    expected = bytes.fromhex("f1d30f6849312ca4")
    assert mac(gp.TEE_MAIN_ALGO_DES, DES_KEY, False, text + bytes(4)) == expected


def test_iso9797() -> None:
    """MAC algorithm 1 with padding method 1."""
    text = b"Now is the time for all "
    expected = bytes.fromhex("70a30640cc76dd8b")
    assert mac(gp.TEE_MAIN_ALGO_DES, DES_KEY, False, text[:5], text[5:]) == expected


@given(st.lists(st.binary(max_size=100), max_size=6))
def test_the_last_block_of_cbc(chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    missing = 16 - len(data) % 16
    context = Cipher(AES(bytes(16)), modes.CBC(bytes(16))).encryptor()
    expected = context.update(data + bytes((missing,)) * missing)[-16:]
    assert mac(gp.TEE_MAIN_ALGO_AES, bytes(16), True, *chunks) == expected
    if data and missing == 16:
        context = Cipher(AES(bytes(16)), modes.CBC(bytes(16))).encryptor()
        assert mac(gp.TEE_MAIN_ALGO_AES, bytes(16), False, *chunks) == context.update(data)[-16:]
    else:
        with pytest.raises(BadState):
            mac(gp.TEE_MAIN_ALGO_AES, bytes(16), False, *chunks)


def test_long_data() -> None:
    data = bytes(range(256)) * 100
    context = Cipher(AES(bytes(32)), modes.CBC(bytes(16))).encryptor()
    expected = context.update(data)[-16:]
    assert mac(gp.TEE_MAIN_ALGO_AES, bytes(32), False, data[:33], data[33:]) == expected
