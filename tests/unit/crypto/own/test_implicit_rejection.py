# SPDX-License-Identifier: BSD-2-Clause
"""Wrong paddings of PKCS #1 v1.5 as OpenSSL answers them."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gentee.abi import gp_crypto as gp
from gentee.crypto import rsa as gentee_rsa
from gentee.crypto.objects import Attribute, CryptObject
from gentee.crypto.own import implicit_rejection
from gentee.crypto.own import rsa as own
from gentee.errors import BadParameters

SIZE = 128
PKCS1 = gp.TEE_ALG_RSAES_PKCS1_V1_5


@pytest.fixture(scope="module")
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 8 * SIZE)


@pytest.fixture(scope="module")
def key(private: rsa.RSAPrivateKey) -> CryptObject:
    numbers = private.private_numbers()
    found = CryptObject(gp.TEE_TYPE_RSA_KEYPAIR, 8 * SIZE)
    found.populate(
        [
            Attribute(attr, number.to_bytes(SIZE, "big"))
            for attr, number in (
                (gp.TEE_ATTR_RSA_MODULUS, numbers.public_numbers.n),
                (gp.TEE_ATTR_RSA_PUBLIC_EXPONENT, numbers.public_numbers.e),
                (gp.TEE_ATTR_RSA_PRIVATE_EXPONENT, numbers.d),
            )
        ]
    )
    return found


# Encoded messages that are none: the first bytes, eight bytes of padding, the byte behind it.
WRONG = (
    b"\1\2" + b"\xff" * (SIZE - 4) + b"\0m",
    b"\0\1" + b"\xff" * (SIZE - 4) + b"\0m",
    b"\0\2" + b"\xff" * (SIZE - 2),
    b"\0\2" + b"\xff" * 7 + b"\0" + b"m" * (SIZE - 10),
    b"\0\2\0" + b"m" * (SIZE - 3),
    bytes(SIZE),
)


def sealed(private: rsa.RSAPrivateKey, encoded: bytes) -> bytes:
    numbers = private.public_key().public_numbers()
    number = int.from_bytes(encoded, "big") % numbers.n
    return pow(number, numbers.e, numbers.n).to_bytes(SIZE, "big")


@pytest.mark.parametrize("encoded", WRONG)
def test_a_wrong_padding(private: rsa.RSAPrivateKey, key: CryptObject, encoded: bytes) -> None:
    data = sealed(private, encoded)
    message = implicit_rejection.message(private.private_numbers().d, data)
    assert private.decrypt(data, padding.PKCS1v15()) == message
    with pytest.raises(BadParameters):
        gentee_rsa.decrypt(key, PKCS1, data, SIZE, b"", 0)


@pytest.mark.parametrize("size", [0, 1, SIZE - 11])
def test_a_right_one(
    private: rsa.RSAPrivateKey, key: CryptObject, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = b"m" * size
    data = sealed(private, own.pkcs1_encode(message, SIZE))
    assert gentee_rsa.decrypt(key, PKCS1, data, SIZE, b"", 0) == message

    def fails(*_: Any) -> int:
        raise AssertionError("on integers")

    # OpenSSL does it, whose time says nothing of the key.
    monkeypatch.setattr(own.RsaNumbers, "private", fails)
    assert gentee_rsa.decrypt(key, PKCS1, data, SIZE, b"", 0) == message


def test_an_openssl_that_says_it(
    private: rsa.RSAPrivateKey, key: CryptObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(implicit_rejection, "is_done", lambda: False)
    data = sealed(private, own.pkcs1_encode(b"message", SIZE))
    assert gentee_rsa.decrypt(key, PKCS1, data, SIZE, b"", 0) == b"message"
    for encoded in WRONG:
        with pytest.raises(BadParameters):
            gentee_rsa.decrypt(key, PKCS1, sealed(private, encoded), SIZE, b"", 0)


def test_it_is_done() -> None:
    assert implicit_rejection.is_done()
