# SPDX-License-Identifier: BSD-2-Clause
"""Ed25519ctx and Ed25519ph on integers, which pyca/cryptography lacks: RFC 8032 section 5.1.

Points are in extended coordinates (X, Y, Z, T): x = X/Z, y = Y/Z, xy = T/Z. Python's integers take
a time that depends on their values.
"""

from cryptography.hazmat.primitives import hashes

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
_SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)

_Point = tuple[int, int, int, int]
_NEUTRAL: _Point = (0, 1, 1, 0)

_PREFIX = b"SigEd25519 no Ed25519 collisions"


def dom2(prehash: bool, context: bytes) -> bytes:
    """What is digested first; ``context`` has at most 255 bytes."""
    return _PREFIX + bytes((prehash, len(context))) + context


def _sha512(*parts: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA512())
    for part in parts:
        digest.update(part)
    return digest.finalize()


def _number(*parts: bytes) -> int:
    return int.from_bytes(_sha512(*parts), "little") % L


def _add(first: _Point, second: _Point) -> _Point:
    x1, y1, z1, t1 = first
    x2, y2, z2, t2 = second
    a = (y1 - x1) * (y2 - x2) % P
    b = (y1 + x1) * (y2 + x2) % P
    c = 2 * D * t1 * t2 % P
    d = 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _multiply(factor: int, point: _Point) -> _Point:
    """A factor below 2**256 times a point, in the same steps for every factor."""
    result = _NEUTRAL
    for bit in range(255, -1, -1):
        if factor >> bit & 1:
            result, point = _add(result, point), _add(point, point)
        else:
            result, point = _add(result, result), _add(result, point)
    return result


def decode(data: bytes) -> _Point | None:
    """The point of a public key (5.1.3), whose y may be above P; None where there is none."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, (y & (1 << 255) - 1) % P
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P != u:
        x = x * _SQRT_MINUS_1 % P
        if v * x * x % P != u:
            return None
    if x & 1 != sign:
        x = -x % P
    return x, y, 1, x * y % P


def encode(point: _Point) -> bytes:
    """A point as 32 bytes (5.1.2)."""
    x, y, z, _ = point
    inverse = pow(z, -1, P)
    x, y = x * inverse % P, y * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


_base = decode(b"\x58" + 31 * b"\x66")
assert _base is not None
BASE = _base


def public_key(private: bytes) -> bytes:
    """The public key of 32 private bytes (5.1.5)."""
    return encode(_multiply(_secret(private)[0], BASE))


def _secret(private: bytes) -> tuple[int, bytes]:
    digest = _sha512(private)
    number = int.from_bytes(digest[:32], "little")
    return number & ((1 << 254) - 8) | 1 << 254, digest[32:]


def sign(private: bytes, message: bytes, prehash: bool, context: bytes) -> bytes:
    """The signature of a message, which is digested first if ``prehash`` (5.1.6)."""
    start = dom2(prehash, context)
    if prehash:
        message = _sha512(message)
    number, prefix = _secret(private)
    public = encode(_multiply(number, BASE))
    r = _number(start, prefix, message)
    point = encode(_multiply(r, BASE))
    k = _number(start, point, public, message)
    return point + ((r + k * number) % L).to_bytes(32, "little")


def is_valid(
    public: bytes, message: bytes, signature: bytes, prehash: bool, context: bytes
) -> bool:
    """Whether 64 bytes are the signature of a message (5.1.7)."""
    point = decode(public)
    s = int.from_bytes(signature[32:], "little")
    if point is None or s >= L:
        return False
    if prehash:
        message = _sha512(message)
    k = _number(dom2(prehash, context), signature[:32], public, message)
    x, y, z, t = _multiply(k, point)
    return encode(_add(_multiply(s, BASE), (-x % P, y, z, -t % P))) == signature[:32]
