# SPDX-License-Identifier: BSD-2-Clause
"""Ciphertext stealing: CBC-CS3 of the addendum to NIST SP 800-38A, the end of a message in it.

CS3 swaps the last two blocks always, so that the last one may have any number of bytes from 1 on.
OP-TEE: ``core/crypto/aes-cts.c``, after GlobalPlatform.
"""

from collections.abc import Callable

_BLOCK = 16


def steal(
    encrypt: bool, cbc: Callable[[bytes], bytes], ecb: Callable[[bytes], bytes], data: bytes
) -> bytes:
    """Encrypt or decrypt the last two blocks of a message, 17 to 32 bytes.

    :param cbc: of one block, as all before them were.
    :param ecb: of one block, with the same key.
    """
    first, last = data[:_BLOCK], data[_BLOCK:]
    size = len(last)
    if encrypt:
        stolen = cbc(first)
        return cbc(last.ljust(_BLOCK, b"\0")) + stolen[:size]
    stolen = ecb(first)
    whole = cbc(last + stolen[size:])
    return whole + cbc(first)[:size]
