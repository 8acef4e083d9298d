# SPDX-License-Identifier: BSD-2-Clause
"""The field of 2**128 elements, twice: with the bit order of XTS and with that of GCM.

Both reduce by x**128 + x**7 + x**2 + x + 1. Elements are integers, and bit n stands for x**n. XTS
(IEEE 1619) writes them as little-endian bytes. GCM (NIST SP 800-38D) writes the lowest power as the
highest bit of the first byte: there an element is kept as the big-endian integer of its bytes.
"""

_BITS = 128
_MASK = (1 << _BITS) - 1
_POLYNOMIAL = 1 << _BITS | 0x87
_GCM_R = 0xE1 << 120  # the polynomial, in GCM's order of bits


def times_x(element: int, power: int = 1) -> int:
    """``element * x**power``, in XTS's order."""
    while power >= 2048:  # x**2048 is (x**7 + x**2 + x + 1)**16
        element ^= times_x(element, 16) ^ times_x(element, 32) ^ times_x(element, 112)
        power -= 2048
    while power > 120:
        element = times_x(element, 120)
        power -= 120
    element <<= power
    high = element >> _BITS
    return element & _MASK ^ high ^ high << 1 ^ high << 2 ^ high << 7


def _reversed(element: int) -> int:
    """The 128 bits the other way round."""
    return int(f"{element:0128b}"[::-1], 2)


def gcm_multiply(a: int, b: int) -> int:
    """The product of two elements, in GCM's order."""
    product = 0
    while b:
        if b >> 127:
            product ^= a
        b = b << 1 & _MASK
        a = a >> 1 ^ (_GCM_R if a & 1 else 0)
    return product


def gcm_inverse(element: int) -> int:
    """The inverse of an element that is not 0, in GCM's order: Euclid's algorithm."""
    u, v = _reversed(element), _POLYNOMIAL
    g, h = 1, 0
    while u != 1:
        shift = u.bit_length() - v.bit_length()
        if shift < 0:
            u, v = v, u
            g, h = h, g
            shift = -shift
        u ^= v << shift
        g ^= h << shift
    while g > _MASK:
        g ^= _POLYNOMIAL << g.bit_length() - _BITS - 1
    return _reversed(g)
