# SPDX-License-Identifier: BSD-2-Clause
"""Block ciphers with a key: AES, DES, triple DES, SM4."""

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import (
    BlockCipherAlgorithm,
    Cipher,
    CipherContext,
    modes,
)
from cryptography.hazmat.primitives.ciphers.algorithms import AES, SM4

from gentee.abi import gp_crypto as gp
from gentee.errors import BadState

PlainMode = modes.ECB | modes.CBC | modes.CTR | modes.XTS  # which have no tag

AES_KEY_SIZES = (16, 24, 32)


def block_cipher(main_alg: int, key: bytes) -> BlockCipherAlgorithm:
    """The block cipher TEE_MAIN_ALGO_* with a key.

    Single DES is triple DES with three equal keys, and that with two keys uses the first one twice.

    :raises BadState: there are no keys of this size; as OP-TEE says it.
    """
    size = len(key)
    if main_alg == gp.TEE_MAIN_ALGO_AES and size in AES_KEY_SIZES:
        return AES(key)
    if main_alg == gp.TEE_MAIN_ALGO_SM4 and size == 16:
        return SM4(key)
    if main_alg == gp.TEE_MAIN_ALGO_DES and size == 8:
        return TripleDES(key * 3)
    if main_alg == gp.TEE_MAIN_ALGO_DES3 and size in (16, 24):
        return TripleDES((key + key[:8])[:24])
    raise BadState(f"a key of {size} bytes")


def block_size(algorithm: BlockCipherAlgorithm) -> int:
    """In bytes."""
    return algorithm.block_size // 8


def encryptor(algorithm: BlockCipherAlgorithm, mode: PlainMode) -> CipherContext:
    """A context that encrypts."""
    return Cipher(algorithm, mode).encryptor()


def decryptor(algorithm: BlockCipherAlgorithm, mode: PlainMode) -> CipherContext:
    """A context that decrypts."""
    return Cipher(algorithm, mode).decryptor()


__all__ = [
    "AES",
    "BlockCipherAlgorithm",
    "CipherContext",
    "block_cipher",
    "block_size",
    "decryptor",
    "encryptor",
    "modes",
]
