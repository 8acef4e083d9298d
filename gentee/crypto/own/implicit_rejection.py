# SPDX-License-Identifier: BSD-2-Clause
"""What OpenSSL puts out for a PKCS #1 v1.5 encryption whose padding is wrong.

OpenSSL does not say that a padding is wrong: it puts out a message that follows from the private
exponent and the ciphertext, so that nobody else can tell it from a real one (implicit rejection,
draft-irtf-cfrg-rsa-guidance section 7.2; ``ossl_rsa_padding_check_PKCS1_type_2()``). OP-TEE does
say it. Who has the key can compute that message, and so tell.
"""

from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hmac import HMAC

_LENGTHS = 128  # tries for a length that fits
_LENGTH_SIZE = 2
_LEAST_PADDING = 10  # 00 02 and eight bytes; the byte 00 after these is counted otherwise


def _prf(key: HMAC, label: bytes, size: int) -> bytes:
    result = b""
    for count in range((size + 31) // 32):
        part = key.copy()
        part.update(count.to_bytes(2, "big") + label + (8 * size).to_bytes(2, "big"))
        result += part.finalize()
    return result[:size]


def message(private_exponent: int, ciphertext: bytes) -> bytes:
    """The message for a ciphertext as long as the modulus.

    :raises OverflowError: the exponent is longer than the modulus.
    """
    size = len(ciphertext)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(private_exponent.to_bytes(size, "big"))
    derived = HMAC(digest.finalize(), hashes.SHA256())
    derived.update(ciphertext)
    key = HMAC(derived.finalize(), hashes.SHA256())
    synthetic = _prf(key, b"message", size)
    lengths = _prf(key, b"length", _LENGTHS * _LENGTH_SIZE)
    most = size - _LEAST_PADDING
    mask = (1 << most.bit_length()) - 1
    length = 0
    for at in range(0, len(lengths), _LENGTH_SIZE):
        candidate = int.from_bytes(lengths[at : at + _LENGTH_SIZE], "big") & mask
        if candidate < most:
            length = candidate
    return synthetic[size - length :]


@cache
def is_done() -> bool:
    """Whether this OpenSSL does that: found out once, with a key of its own, in a few ms."""
    key = rsa.generate_private_key(65537, 1024)
    ciphertext = bytes(127) + b"\1"  # the number 1 has no such padding
    try:
        put_out = key.decrypt(ciphertext, padding.PKCS1v15())
    except ValueError:
        return False
    return put_out == message(key.private_numbers().d, ciphertext)
