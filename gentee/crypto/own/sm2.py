# SPDX-License-Identifier: BSD-2-Clause
"""SM2 on integers, which pyca/cryptography lacks: GB/T 32918-2016, and GM/T 0003.1-2012 with the
same steps. Part 2 is signatures, part 3 the exchange of keys, part 4 encryption.

Digests of identities and messages (Z and e) are those that the caller made, but for the exchange of
keys. Points that come from outside are on the curve: the caller looks. Python's integers take a
time that depends on their values.
"""

from cryptography.hazmat.primitives import hashes

from gentee.crypto.own.curves import SM2, Point
from gentee.crypto.own.primes import random_below

SIZE = 32  # bytes of a coordinate, of the order, and of SM3

_W = 127  # ceil(ceil(log2(n)) / 2) - 1 of part 3
_A = SM2.p - 3


def sm3(*parts: bytes) -> bytes:
    """The digest of some bytes."""
    digest = hashes.Hash(hashes.SM3())
    for part in parts:
        digest.update(part)
    return digest.finalize()


def octets(number: int) -> bytes:
    """A number as 32 bytes."""
    return number.to_bytes(SIZE, "big")


def point_octets(point: Point) -> bytes:
    """Both coordinates of a point."""
    return octets(point[0]) + octets(point[1])


def kdf(shared: bytes, size: int) -> bytes:
    """``size`` bytes of the key derivation function (part 3 section 5.4.3, part 4 the same)."""
    blocks = range(1, (size + SIZE - 1) // SIZE + 1)
    return b"".join(sm3(shared, count.to_bytes(4, "big")) for count in blocks)[:size]


def xor(first: bytes, second: bytes) -> bytes:
    """The exclusive or of bytes of the same length."""
    number = int.from_bytes(first, "big") ^ int.from_bytes(second, "big")
    return number.to_bytes(len(first), "big")


# Part 2: signatures.


def sign(private: int, e: int) -> tuple[int, int]:
    """r and s for the digest e (section 6.1); raises ValueError: the private value is n - 1."""
    n = SM2.n
    inverse = pow(1 + private, -1, n)
    while True:
        k = random_below(n)
        point = SM2.multiply(k, SM2.base)
        assert point is not None  # for 0 < k < n
        r = (e + point[0]) % n
        if not r or r + k == n:
            continue
        s = inverse * (k - r * private) % n
        if s:
            return r, s


def is_valid(public: Point, e: int, r: int, s: int) -> bool:
    """Whether r and s are the signature of the digest e (section 7.1)."""
    n = SM2.n
    t = (r + s) % n
    if not (0 < r < n and 0 < s < n and t):
        return False
    point = SM2.add(SM2.multiply(s, SM2.base), SM2.multiply(t, public))
    return point is not None and (e + point[0]) % n == r


# Part 4: encryption.


def encrypt(public: Point, message: bytes) -> tuple[bytes, bytes, bytes] | None:
    """C1, C2 and C3 of a message (section 6.1); None where the key stream is all 0, as it is of no
    message.
    """
    k = random_below(SM2.n)
    first, shared = SM2.multiply(k, SM2.base), SM2.multiply(k, public)
    assert first is not None  # for 0 < k < n
    assert shared is not None
    stream = kdf(point_octets(shared), len(message))
    if not any(stream):
        return None
    x, y = octets(shared[0]), octets(shared[1])
    return b"\x04" + point_octets(first), xor(message, stream), sm3(x, message, y)


def decrypt(shared: Point, encrypted: bytes) -> tuple[bytes, bytes] | None:
    """The message in C2 and what C3 should be (section 7.1); None where the key stream is all 0.

    :param shared: the private value times C1.
    """
    stream = kdf(point_octets(shared), len(encrypted))
    if not any(stream):
        return None
    message = xor(encrypted, stream)
    return message, sm3(octets(shared[0]), message, octets(shared[1]))


# Part 3: exchange of keys.


def identity_digest(identity: bytes, public: Point) -> bytes:
    """Z of an identity with its public key (part 2 section 5.5). Of its length in bits 16 count."""
    size = (8 * len(identity) & 0xFFFF).to_bytes(2, "big")
    curve = octets(_A) + octets(SM2.b) + point_octets(SM2.base)
    return sm3(size, identity, curve, point_octets(public))


def _short(x: int) -> int:
    return (1 << _W) | x & ((1 << _W) - 1)


def exchange(
    private: int, ephemeral: int, ephemeral_x: int, peer: Point, peer_ephemeral: Point
) -> Point | None:
    """The shared point (section 6.1, steps A4 to A7); None is the point at infinity.

    :param ephemeral: the own private value of this exchange; ``ephemeral_x``: of its point.
    """
    t = (private + _short(ephemeral_x) * ephemeral) % SM2.n
    other = SM2.add(peer, SM2.multiply(_short(peer_ephemeral[0]), peer_ephemeral))
    return None if other is None else SM2.multiply(t, other)


def confirmation(
    is_from_responder: bool, shared: Point, digests: bytes, initiator: Point, responder: Point
) -> bytes:
    """What one side sends to prove that it has the key (S1 = SB, S2 = SA of section 6.1).

    :param digests: Z of the initiator and of the responder.
    :param initiator: its public key of this exchange.
    """
    inner = sm3(octets(shared[0]), digests, point_octets(initiator), point_octets(responder))
    return sm3(b"\2" if is_from_responder else b"\3", octets(shared[1]), inner)
