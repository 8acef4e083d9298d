# SPDX-License-Identifier: BSD-2-Clause
"""Message digests: ``crypto_hash_*()`` of OP-TEE's ``core/crypto/crypto.c``."""

import sys
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes

from gentee.abi import gp_crypto as gp
from gentee.errors import BadState, NotImplementedByTee

_CHUNK = 64 << 10  # bytes of an extendable output that are made at once

HASHES: dict[int, hashes.HashAlgorithm] = {
    gp.TEE_ALG_MD5: hashes.MD5(),
    gp.TEE_ALG_SHA1: hashes.SHA1(),
    gp.TEE_ALG_SHA224: hashes.SHA224(),
    gp.TEE_ALG_SHA256: hashes.SHA256(),
    gp.TEE_ALG_SHA384: hashes.SHA384(),
    gp.TEE_ALG_SHA512: hashes.SHA512(),
    gp.TEE_ALG_SHA3_224: hashes.SHA3_224(),
    gp.TEE_ALG_SHA3_256: hashes.SHA3_256(),
    gp.TEE_ALG_SHA3_384: hashes.SHA3_384(),
    gp.TEE_ALG_SHA3_512: hashes.SHA3_512(),
    gp.TEE_ALG_SM3: hashes.SM3(),
}
XOFS: dict[int, hashes.ExtendableOutputFunction] = {
    gp.TEE_ALG_SHAKE128: hashes.SHAKE128(sys.maxsize),
    gp.TEE_ALG_SHAKE256: hashes.SHAKE256(sys.maxsize),
}

# Digests of nothing: to copy one takes a quarter of the time that making one does.
_FRESH: dict[int, hashes.Hash] = {}


class Digest:
    """A digest that is being made.

    :ivar update: takes more data: anything with bytes in it, which is read once.
    """

    __slots__ = ("_hash", "update")

    def __init__(self, context: hashes.Hash) -> None:
        self._hash = context
        self.update: Callable[[bytes | memoryview], None] = context.update

    def final(self) -> bytes:
        """The digest. Nothing can be done with this object afterwards."""
        return self._hash.finalize()

    def copy(self) -> "Digest":
        """Another one in the same state."""
        return Digest(self._hash.copy())


class Xof:
    """An extendable-output function: SHAKE128, SHAKE256.

    Data is taken until the first bytes have been put out.

    :ivar extracting: whether they have been.
    """

    __slots__ = ("_hash", "extracting")

    def __init__(self, context: hashes.XOFHash, extracting: bool = False) -> None:
        self._hash = context
        self.extracting = extracting

    def update(self, data: bytes | memoryview) -> None:
        """Take more data.

        :raises BadState: output was extracted.
        """
        if self.extracting:
            raise BadState("output was extracted")
        self._hash.update(data)

    def extract_into(self, out: memoryview) -> None:
        """Fill ``out`` with the next bytes of the output; none change nothing."""
        for start in range(0, len(out), _CHUNK):
            part = out[start : start + _CHUNK]
            part[:] = self._hash.squeeze(len(part))
            self.extracting = True

    def copy(self) -> "Xof":
        """Another one in the same state."""
        return Xof(self._hash.copy(), self.extracting)


def check_digest(algo: int) -> None:
    """``crypto_hash_alloc_ctx()``: raises NotImplementedByTee where there is no such digest."""
    if algo not in HASHES and algo not in XOFS:
        raise NotImplementedByTee(f"digest {algo:#x}")


def new_digest(algo: int) -> Digest | Xof:
    """A digest of nothing so far, of an algorithm that :func:`check_digest` knows."""
    fresh = _FRESH.get(algo)
    if fresh is None:
        if algo in XOFS:
            return Xof(hashes.XOFHash(XOFS[algo]))
        fresh = _FRESH[algo] = hashes.Hash(HASHES[algo])
    return Digest(fresh.copy())
