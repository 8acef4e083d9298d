# SPDX-License-Identifier: BSD-2-Clause
"""Elliptic curves over prime fields, on integers: for SM2, which pyca/cryptography lacks.

Curves are y² = x³ - 3x + b. Points are pairs of coordinates (affine), and inside triples (Jacobian
coordinates: x = X/Z², y = Y/Z³). Formulas: the Explicit-Formulas Database, "dbl-2001-b" and
"add-2007-bl". Every multiplication does the same steps, whatever the factor is; Python's integers
still take a time that depends on their values.
"""

from typing import NamedTuple

Point = tuple[int, int]
_Jacobian = tuple[int, int, int]

_INFINITY: _Jacobian = (1, 1, 0)


class Curve(NamedTuple):
    """A curve: its field, its coefficient, the order of its base point, which has cofactor 1."""

    name: str
    p: int
    b: int
    n: int
    gx: int
    gy: int

    @property
    def base(self) -> Point:
        """The base point."""
        return self.gx, self.gy

    @property
    def size(self) -> int:
        """Bytes of a coordinate."""
        return (self.p.bit_length() + 7) // 8

    def has(self, point: Point) -> bool:
        """Whether a point is on the curve. The point at infinity is no pair of coordinates."""
        x, y = point
        if not (0 <= x < self.p and 0 <= y < self.p):
            return False
        return (y * y - (x * x - 3) * x - self.b) % self.p == 0

    def multiply(self, factor: int, point: Point) -> Point | None:
        """``factor`` times a point of the curve; None is the point at infinity.

        :param factor: taken modulo the order.
        """
        bits = self.n.bit_length()
        factor = factor % self.n + self.n
        if not factor >> bits:
            factor += self.n
        # Montgomery's ladder: other - result is the point at every step. The first bit is done.
        result: _Jacobian = (*point, 1)
        other = self._double(result)
        for bit in range(bits - 1, -1, -1):
            if factor >> bit & 1:
                result, other = self._add(result, other), self._double(other)
            else:
                other, result = self._add(result, other), self._double(result)
        return self._affine(result)

    def add(self, first: Point | None, second: Point | None) -> Point | None:
        """The sum of two points of the curve; None is the point at infinity."""
        if first is None or second is None:
            return second if first is None else first
        return self._affine(self._add((*first, 1), (*second, 1)))

    def _affine(self, point: _Jacobian) -> Point | None:
        x, y, z = point
        if not z:
            return None
        inverse = pow(z, -1, self.p)
        square = inverse * inverse % self.p
        return x * square % self.p, y * square * inverse % self.p

    def _double(self, point: _Jacobian) -> _Jacobian:
        x, y, z = point
        p = self.p
        if not z or not y:
            return _INFINITY
        delta = z * z % p
        gamma = y * y % p
        beta = x * gamma % p
        alpha = 3 * (x - delta) * (x + delta) % p
        x3 = (alpha * alpha - 8 * beta) % p
        y3 = (alpha * (4 * beta - x3) - 8 * gamma * gamma) % p
        return x3, y3, 2 * y * z % p

    def _add(self, first: _Jacobian, second: _Jacobian) -> _Jacobian:
        x1, y1, z1 = first
        x2, y2, z2 = second
        p = self.p
        if not z1:
            return second
        if not z2:
            return first
        z1z1 = z1 * z1 % p
        z2z2 = z2 * z2 % p
        u1 = x1 * z2z2 % p
        h = (x2 * z1z1 - u1) % p
        s1 = y1 * z2 * z2z2 % p
        r = 2 * (y2 * z1 * z1z1 - s1) % p
        if not h:
            return _INFINITY if r else self._double(first)
        i = 4 * h * h % p
        j = h * i % p
        v = u1 * i % p
        x3 = (r * r - j - 2 * v) % p
        y3 = (r * (v - x3) - 2 * s1 * j) % p
        return x3, y3, 2 * z1 * z2 * h % p


# GB/T 32918.5-2017, also in RFC 8998 section 3.2.1 and draft-shen-sm2-ecdsa appendix D
SM2 = Curve(
    "SM2",
    p=0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF,
    b=0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93,
    n=0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123,
    gx=0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
    gy=0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0,
)
