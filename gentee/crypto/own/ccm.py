# SPDX-License-Identifier: BSD-2-Clause
"""CCM in steps: NIST SP 800-38C, RFC 3610. pyca/cryptography has it for whole messages only.

OP-TEE: ``core/lib/libtomcrypt/ccm.c`` and ``src/encauth/ccm/`` there, down to what it makes of a
nonce that leaves no room for the length of the payload: it takes as much of the nonce as there is
room for.
"""

from cryptography.hazmat.primitives.ciphers import (
    BlockCipherAlgorithm,
    Cipher,
    CipherContext,
    modes,
)

from gentee.crypto.own.cbc_mac import CbcMac
from gentee.errors import BadState

_BLOCK = 16
_CHUNK = 64 << 10  # bytes that are copied at once, so that both halves see the same ones


class Ccm:
    """An authenticated encryption or decryption that is being made.

    :param tag_size: in bytes: 4, 6, ... 16.
    :param aad_size: bytes of additional data that will come, below 2**31.
    :param payload_size: likewise.
    :raises BadState: the nonce is shorter than 7 bytes.
    """

    def __init__(
        self,
        algorithm: BlockCipherAlgorithm,
        encrypt: bool,
        nonce: bytes,
        tag_size: int,
        aad_size: int,
        payload_size: int,
    ) -> None:
        width = max((payload_size.bit_length() + 7) // 8, 2, 15 - len(nonce))  # L of RFC 3610
        if width > 8:
            raise BadState(f"a nonce of {len(nonce)} bytes")
        self._algorithm = algorithm
        self._encrypt = encrypt
        self._aad_missing = aad_size
        self._payload_missing = payload_size
        nonce = nonce[: 15 - width]
        flags = (64 if aad_size else 0) | (tag_size - 2) // 2 << 3 | width - 1
        self._mac = CbcMac(algorithm, False)
        self._mac.update(bytes((flags,)) + nonce + payload_size.to_bytes(width, "big"))
        if aad_size >= (1 << 16) - (1 << 8):
            self._mac.update(b"\xff\xfe" + aad_size.to_bytes(4, "big"))
        elif aad_size:
            self._mac.update(aad_size.to_bytes(2, "big"))
        self._start = bytes((width - 1,)) + nonce + bytes(width)  # counter 0
        self._used = 0  # bytes of the key stream behind it
        self._stream = self._stream_at(0)

    def _stream_at(self, used: int) -> CipherContext:
        blocks, rest = divmod(used, _BLOCK)
        counter = int.from_bytes(self._start, "big") + 1 + blocks
        mode = modes.CTR(counter.to_bytes(_BLOCK, "big"))
        stream = Cipher(self._algorithm, mode).encryptor()
        stream.update(bytes(rest))
        return stream

    def update_aad(self, data: bytes | memoryview) -> None:
        """Take more additional data.

        :raises BadState: it is more than was said.
        """
        size = len(data)
        if size > self._aad_missing:
            raise BadState(f"{size} bytes of additional data, {self._aad_missing} are missing")
        self._mac.update(data)
        self._aad_missing -= size
        if not self._aad_missing:
            self._mac.pad_zero()

    def update_into(self, src: bytes | memoryview, dst: memoryview) -> None:
        """Encrypt or decrypt a part of the payload.

        :raises BadState: it is more than was said, or additional data is missing.
        """
        size = len(src)
        if self._aad_missing or size > self._payload_missing:
            raise BadState(f"{size} bytes of payload, {self._payload_missing} are missing")
        self._payload_missing -= size
        self._used += size
        for start in range(0, size, _CHUNK):
            data = bytes(src[start : start + _CHUNK])
            result = self._stream.update(data)
            self._mac.update(data if self._encrypt else result)
            dst[start : start + len(data)] = result

    def final(self) -> bytes:
        """The tag, all 16 bytes of it.

        :raises BadState: payload or additional data is missing.
        """
        if self._payload_missing:
            raise BadState(f"{self._payload_missing} bytes of payload are missing")
        self._mac.pad_zero()
        mask = Cipher(self._algorithm, modes.ECB()).encryptor().update(self._start)
        mac = int.from_bytes(self._mac.final(), "big") ^ int.from_bytes(mask, "big")
        return mac.to_bytes(_BLOCK, "big")

    def copy(self) -> "Ccm":
        """Another one in the same state."""
        other = Ccm.__new__(Ccm)
        other._algorithm = self._algorithm
        other._encrypt = self._encrypt
        other._aad_missing = self._aad_missing
        other._payload_missing = self._payload_missing
        other._mac = self._mac.copy()
        other._start = self._start
        other._used = self._used
        other._stream = other._stream_at(self._used)
        return other
