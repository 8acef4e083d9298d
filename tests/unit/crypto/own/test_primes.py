# SPDX-License-Identifier: BSD-2-Clause
"""Primes and random numbers."""

import pytest

from gentee.crypto.own.primes import is_probable_prime, random_below, random_bits, random_prime
from tests.vector_files import chosen, wycheproof

# Mersenne primes (OEIS A000043), and the prime of P-256 (FIPS 186-4 D.1.2.3)
PRIMES = [
    2,
    3,
    5,
    7,
    997,
    1009,
    2**61 - 1,
    2**89 - 1,
    2**521 - 1,
    2**256 - 2**224 + 2**192 + 2**96 - 1,
]

# Carmichael numbers (OEIS A002997), strong pseudoprimes to the first bases (OEIS A014233), and
# products of two primes
COMPOSITES = [
    0,
    1,
    4,
    561,
    1105,
    41041,
    825265,
    3215031751,
    3825123056546413051,
    318665857834031151167461,
    3317044064679887385961981,
    1009 * 1013,
    (2**61 - 1) * (2**89 - 1),
    2**67 - 1,
    2**521 + 1,
]  # fmt: skip


@pytest.mark.parametrize("number", PRIMES)
def test_prime(number: int) -> None:
    assert is_probable_prime(number)


@pytest.mark.parametrize("number", COMPOSITES)
def test_composite(number: int) -> None:
    assert not is_probable_prime(number)


def test_primes_of_wycheproof() -> None:
    results = set()
    for _group, test in chosen(wycheproof("primality"), 60):
        number = int.from_bytes(bytes.fromhex(test["value"]), "big", signed=True)
        if number <= 1 and test["result"] == "acceptable":
            continue
        expected = test["result"] == "valid"
        assert is_probable_prime(number) is expected, test
        results.add(expected)
    assert results == {True, False}


def test_small_numbers() -> None:
    primes = [n for n in range(2000) if all(n % d for d in range(2, n)) and n > 1]
    assert [n for n in range(2000) if is_probable_prime(n)] == primes


@pytest.mark.parametrize("bits", [16, 128, 200, 504])
def test_random_prime(bits: int) -> None:
    first, second = random_prime(bits), random_prime(bits)
    for prime in (first, second):
        assert is_probable_prime(prime)
        assert prime >> (bits - 2) == 3
    assert (first * second).bit_length() == 2 * bits


def test_random_numbers_reach_all_values() -> None:
    assert {random_below(2) for _ in range(8)} == {1}
    assert {random_below(8) for _ in range(1000)} == set(range(1, 8))
    assert {random_bits(3) for _ in range(1000)} == set(range(8))
    assert max(random_bits(521) for _ in range(100)).bit_length() in range(500, 522)
