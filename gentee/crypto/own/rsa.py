# SPDX-License-Identifier: BSD-2-Clause
"""RSA on integers: what pyca/cryptography lacks or does not take.

It has no RSA without padding, does not say that a PKCS #1 v1.5 padding is wrong, and refuses OAEP
with MD5 and some keys that OP-TEE takes. RFC 8017 has all of this; numbers in the comments are its
sections. Private operations are blinded and checked as in libtomcrypt's ``rsa_exptmod.c``. Python's
integers still take a time that depends on their values.
"""

from math import gcd
from os import urandom
from typing import NamedTuple

from cryptography.hazmat.primitives import hashes

from gentee.crypto.constant_time import compare_digest
from gentee.crypto.own.primes import random_below


class RsaNumbers(NamedTuple):
    """A key. Numbers that it does not have are 0: ``d`` of a public key, the last five of others.

    :ivar qp: the inverse of q modulo p.
    """

    n: int
    e: int
    d: int = 0
    p: int = 0
    q: int = 0
    dp: int = 0
    dq: int = 0
    qp: int = 0

    @property
    def bits(self) -> int:
        """Bits of the modulus."""
        return self.n.bit_length()

    @property
    def size(self) -> int:
        """Bytes of the modulus."""
        return (self.n.bit_length() + 7) // 8

    def public(self, number: int) -> int:
        """RSAEP, RSAVP1 (5.1.1, 5.2.2) for a number up to the modulus; raises ValueError."""
        if not self.n & 1:
            raise ValueError("an even modulus")
        return pow(number, self.e, self.n)

    def private(self, number: int) -> int:
        """RSADP, RSASP1 (5.1.2, 5.2.1) for a number up to the modulus.

        :raises ValueError: the key is none, or its numbers do not belong together.
        """
        n = self.n
        if not n & 1 or n < 3:
            raise ValueError("an even modulus, or a short one")
        blind = random_below(n)
        if gcd(blind, n) != 1:
            raise ValueError("the modulus has a known factor")
        blinded = number * pow(blind, self.e, n) % n
        crt = bool(self.p and self.q and self.dp and self.dq and self.qp)
        if not crt:
            result = pow(blinded, self.d, n)
        elif not self.p & self.q & 1:
            raise ValueError("an even prime")
        else:
            second = pow(blinded, self.dq, self.q)
            first = (pow(blinded, self.dp, self.p) - second) * self.qp % self.p
            result = second + first * self.q
        result = result * pow(blind, -1, n) % n
        if crt and pow(result, self.e, n) != number:
            raise ValueError("primes and exponents that do not belong together")
        return result


def mgf1(algorithm: hashes.HashAlgorithm, seed: bytes, size: int) -> bytes:
    """``size`` bytes of the mask generation function (B.2.1)."""
    start = hashes.Hash(algorithm)
    start.update(seed)
    mask = b""
    for counter in range((size + algorithm.digest_size - 1) // algorithm.digest_size):
        part = start.copy()
        part.update(counter.to_bytes(4, "big"))
        mask += part.finalize()
    return mask[:size]


def digest(algorithm: hashes.HashAlgorithm, *parts: bytes) -> bytes:
    """The digest of some bytes."""
    context = hashes.Hash(algorithm)
    for part in parts:
        context.update(part)
    return context.finalize()


def xor(first: bytes, second: bytes) -> bytes:
    """The exclusive or of bytes of the same length."""
    number = int.from_bytes(first, "big") ^ int.from_bytes(second, "big")
    return number.to_bytes(len(first), "big")


def oaep_encode(
    message: bytes,
    label: bytes,
    size: int,
    algorithm: hashes.HashAlgorithm,
    mgf: hashes.HashAlgorithm,
) -> bytes:
    """EME-OAEP (7.1.1) for a modulus of ``size`` bytes; the message is not too long for that."""
    count = algorithm.digest_size
    start = digest(algorithm, label)
    block = start + bytes(size - len(message) - 2 * count - 2) + b"\1" + message
    seed = urandom(count)
    block = xor(block, mgf1(mgf, seed, len(block)))
    return b"\0" + xor(seed, mgf1(mgf, block, count)) + block


def oaep_decode(
    encoded: bytes, label: bytes, algorithm: hashes.HashAlgorithm, mgf: hashes.HashAlgorithm
) -> bytes:
    """The message of EME-OAEP (7.1.2); raises ValueError, and does not say what is wrong."""
    count = algorithm.digest_size
    block = encoded[1 + count :]
    seed = xor(encoded[1 : 1 + count], mgf1(mgf, block, count))
    block = xor(block, mgf1(mgf, seed, len(block)))
    rest = block[count:].lstrip(b"\0")
    good = compare_digest(block[:count], digest(algorithm, label))
    good &= encoded[0] == 0
    good &= rest[:1] == b"\1"
    if not good:
        raise ValueError("decryption error")
    return rest[1:]


def pkcs1_encode(message: bytes, size: int) -> bytes:
    """EME-PKCS1-v1_5 (7.2.1) of a message at least 11 bytes shorter than the modulus."""
    count = size - len(message) - 3
    padding = b""
    while len(padding) < count:
        padding += urandom(count - len(padding)).replace(b"\0", b"")
    return b"\0\2" + padding + b"\0" + message


def pkcs1_decode(encoded: bytes) -> bytes:
    """The message of EME-PKCS1-v1_5 (7.2.2); raises ValueError, and does not say what is wrong."""
    end = encoded.find(b"\0", 2)
    good = encoded[0] == 0
    good &= encoded[1] == 2
    good &= end >= 10
    if not good:
        raise ValueError("decryption error")
    return encoded[end + 1 :]


def pkcs1_signed(info: bytes, size: int) -> bytes:
    """EMSA-PKCS1-v1_5 (9.2) around a DigestInfo, at least 11 bytes shorter than the modulus."""
    return b"\0\1" + b"\xff" * (size - len(info) - 3) + b"\0" + info


def pss_encode(
    message_digest: bytes, salt_size: int, bits: int, algorithm: hashes.HashAlgorithm
) -> bytes:
    """EMSA-PSS (9.1.1) for a modulus of ``bits`` bits; the salt is not too long for that."""
    size = (bits + 6) // 8
    salt = urandom(salt_size)
    inner = digest(algorithm, bytes(8), message_digest, salt)
    count = size - len(inner) - 1
    block = (b"\1" + salt).rjust(count, b"\0")
    block = xor(block, mgf1(algorithm, inner, count))
    first = block[0] & 0xFF >> (8 * size - bits + 1)
    return bytes((first,)) + block[1:] + inner + b"\xbc"


def pss_is_valid(
    encoded: bytes,
    message_digest: bytes,
    salt_size: int,
    bits: int,
    algorithm: hashes.HashAlgorithm,
) -> bool:
    """EMSA-PSS (9.1.2): whether ``encoded``, of one byte less than the modulus where that has a
    multiple of eight bits and one, is the encoding of a digest.
    """
    count = len(encoded) - algorithm.digest_size - 1
    block, inner = encoded[:count], encoded[count:-1]
    unused = 8 * len(encoded) - bits + 1
    if encoded[-1] != 0xBC or block[0] & ~(0xFF >> unused) & 0xFF:
        return False
    block = xor(block, mgf1(algorithm, inner, count))
    block = bytes((block[0] & 0xFF >> unused,)) + block[1:]
    salt = block[count - salt_size :]
    if block != (b"\1" + salt).rjust(count, b"\0"):
        return False
    return compare_digest(digest(algorithm, bytes(8), message_digest, salt), inner)
