# SPDX-License-Identifier: BSD-2-Clause
"""Random numbers and primes: for private values, and RSA keys too short for pyca/cryptography.

Candidates are tested with divisors below 1000, then with the test of Miller and Rabin (Knuth, The
Art of Computer Programming, volume 2, section 4.5.4, algorithm P) and random bases.
"""

import os

# Bases for one candidate. That a composite number passes all of them has a chance of 2**-80.
ROUNDS = 40

_SMALL = tuple(n for n in range(3, 1000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2)))


def random_bits(bits: int) -> int:
    """A number below ``1 << bits``. Not from the module secrets, which loads a second OpenSSL."""
    return int.from_bytes(os.urandom((bits + 7) // 8), "big") >> -bits % 8


def random_below(limit: int) -> int:
    """A number from 1 to ``limit`` - 1, for limits above 1."""
    while True:
        number = random_bits(limit.bit_length())
        if 0 < number < limit:
            return number


def is_probable_prime(number: int, rounds: int = ROUNDS) -> bool:
    """Whether a number has no divisor but itself, but for a chance of ``4**-rounds``."""
    if number < 2 or number % 2 == 0:
        return number == 2
    for divisor in _SMALL:
        if number % divisor == 0:
            return number == divisor
    odd = number - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    return all(_passes(number, random_below(number - 2) + 1, odd, twos) for _ in range(rounds))


def _passes(number: int, base: int, odd: int, twos: int) -> bool:
    power = pow(base, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False


def random_prime(bits: int) -> int:
    """A prime of ``bits`` bits, four or more, the first two of them ones.

    The product of two of them has twice as many bits, never one less.
    """
    while True:
        candidate = random_bits(bits) | 3 << (bits - 2) | 1
        if is_probable_prime(candidate):
            return candidate
