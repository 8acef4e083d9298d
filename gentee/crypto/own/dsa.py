# SPDX-License-Identifier: BSD-2-Clause
"""DSA on integers: for the sizes and numbers that pyca/cryptography refuses; FIPS 186-4 section 4.

The digest is cut to whole bytes of q, as libtomcrypt does. Python's integers take a time that
depends on their values.
"""

from math import gcd
from typing import NamedTuple

from gentee.crypto.own.primes import random_below

# Numbers that are no key may give no signature whatever the random number is.
_TRIES = 64


class DsaNumbers(NamedTuple):
    """A key; ``x`` is 0 in a public one, and ``y`` is not needed to sign."""

    p: int
    q: int
    g: int
    y: int
    x: int = 0

    @property
    def size(self) -> int:
        """Bytes of q."""
        return (self.q.bit_length() + 7) // 8

    def sign(self, digest: bytes) -> tuple[int, int]:
        """r and s; raises ValueError: the key is none."""
        p, q, g, _, x = self
        if not p & 1 or q < 2:
            raise ValueError("an even prime, or a short one")
        number = int.from_bytes(digest[: self.size], "big")
        for _ in range(_TRIES):
            k = random_below(q)
            if gcd(k, q) != 1:
                continue
            r = pow(g, k, p) % q
            s = (number + x * r) * pow(k, -1, q) % q
            if r and s:
                return r, s
        raise ValueError("numbers that are no key")

    def is_valid(self, digest: bytes, r: int, s: int) -> bool:
        """Whether r and s are the signature of a digest; raises ValueError: the key is none."""
        p, q, g, y, _ = self
        if not (0 < r < q and 0 < s < q):
            return False
        if not p & 1:
            raise ValueError("an even prime")
        w = pow(s, -1, q)
        number = int.from_bytes(digest[: self.size], "big")
        return pow(g, number * w % q, p) * pow(y, r * w % q, p) % p % q == r
