# SPDX-License-Identifier: BSD-2-Clause
"""What tests/tas/measured_crypto.c does, in pyca/cryptography called directly.

A line with what, KiB and how often is answered with the nanoseconds of one.
"""

import sys
import time
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_KEY = bytes(32)
_IV = bytes(16)
_HASH = bytes(32)


def sha256(data: bytearray) -> None:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    digest.finalize()


def _encrypt(mode: modes.CBC | modes.CTR | modes.GCM, data: bytearray, out: bytearray) -> None:
    encryptor = Cipher(algorithms.AES(_KEY), mode).encryptor()
    encryptor.update_into(data, out)
    encryptor.finalize()


def p256_numbers() -> tuple[int, int, int]:
    """A new key as the attributes of GlobalPlatform have it."""
    numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    return numbers.private_value, numbers.public_numbers.x, numbers.public_numbers.y


def rsa_numbers() -> tuple[int, ...]:
    """The same."""
    numbers = rsa.generate_private_key(65537, 2048).private_numbers()
    primes = numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp
    return numbers.public_numbers.n, numbers.d, *primes


def main() -> int:
    rsa_key = rsa.generate_private_key(65537, 2048)
    ecc_key = ec.generate_private_key(ec.SECP256R1())
    digest = Prehashed(hashes.SHA256())
    out = bytearray((1 << 20) + 16)
    jobs: dict[str, Callable[[bytearray], object]] = {
        "sha256": sha256,
        "cbc": lambda data: _encrypt(modes.CBC(_IV), data, out),
        "ctr": lambda data: _encrypt(modes.CTR(_IV), data, out),
        "gcm": lambda data: _encrypt(modes.GCM(_IV[:12]), data, out),
        "rsa": lambda _: rsa_key.sign(_HASH, padding.PKCS1v15(), digest),
        "ecdsa": lambda _: ecc_key.sign(_HASH, ec.ECDSA(digest)),
        "p256_key": lambda _: ec.generate_private_key(ec.SECP256R1()),
        "p256_key_and_numbers": lambda _: p256_numbers(),
        "rsa_key_and_numbers": lambda _: rsa_numbers(),
    }
    for line in sys.stdin:
        what, kib, count = line.split()
        data, job, times = bytearray(int(kib) << 10), jobs[what], int(count)
        begin = time.perf_counter()
        for _ in range(times):
            job(data)
        print((time.perf_counter() - begin) * 1e9 / times, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
