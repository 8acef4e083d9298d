# SPDX-License-Identifier: BSD-2-Clause
"""Message authentication codes: ``crypto_mac_*()`` of OP-TEE's ``core/crypto/crypto.c``."""

from collections.abc import Callable

from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hmac import HMAC

from gentee.abi import gp_crypto as gp
from gentee.crypto.blocks import block_cipher
from gentee.crypto.digests import HASHES
from gentee.crypto.own.cbc_mac import CbcMac
from gentee.errors import BadState, NotSupported

_HMACS = {gp.TEE_ALG_HMAC_ALGO(algo & 0xFF): HASHES[algo] for algo in HASHES}
_CMACS = (gp.TEE_ALG_AES_CMAC, gp.TEE_ALG_DES3_CMAC)
CBC_MACS = {
    gp.TEE_ALG_AES_CBC_MAC_NOPAD: False,
    gp.TEE_ALG_AES_CBC_MAC_PKCS5: True,
    gp.TEE_ALG_DES_CBC_MAC_NOPAD: False,
    gp.TEE_ALG_DES_CBC_MAC_PKCS5: True,
    gp.TEE_ALG_DES3_CBC_MAC_NOPAD: False,
    gp.TEE_ALG_DES3_CBC_MAC_PKCS5: True,
}
MACS = (*_HMACS, *_CMACS, *CBC_MACS)


class Mac:
    """An HMAC or a CMAC that is being made.

    :ivar update: takes more data: anything with bytes in it, which is read once.
    """

    __slots__ = ("_mac", "update")

    def __init__(self, context: HMAC | CMAC) -> None:
        self._mac = context
        self.update: Callable[[bytes | memoryview], None] = context.update  # type: ignore[assignment]

    def final(self) -> bytes:
        """The MAC. Nothing can be done with this object afterwards."""
        return self._mac.finalize()

    def copy(self) -> "Mac":
        """Another one in the same state."""
        return Mac(self._mac.copy())


def check_mac(algo: int) -> None:
    """``crypto_mac_alloc_ctx()``: raises NotSupported where there is no such MAC."""
    if algo not in MACS:
        raise NotSupported(f"MAC {algo:#x}")


def new_mac(algo: int, key: bytes) -> Mac | CbcMac:
    """A MAC of nothing so far, of an algorithm that :func:`check_mac` knows.

    :raises BadState: there are no keys of this size.
    """
    algorithm = _HMACS.get(algo)
    if algorithm is not None:
        if not key and algo != gp.TEE_ALG_HMAC_SM3:  # OP-TEE's own SM3 takes an empty key
            raise BadState("an empty key")
        return Mac(HMAC(key, algorithm))
    cipher = block_cipher(gp.TEE_ALG_GET_MAIN_ALG(algo), key)
    if algo in _CMACS:
        return Mac(CMAC(cipher))
    return CbcMac(cipher, CBC_MACS[algo])


def warm_up() -> None:
    """Have OpenSSL fetch all MACs."""
    for algo in MACS:
        size = 8 if gp.TEE_ALG_GET_MAIN_ALG(algo) == gp.TEE_MAIN_ALGO_DES else 24
        new_mac(algo, bytes(size)).update(bytes(16))
