# SPDX-License-Identifier: BSD-2-Clause
"""CBC-MAC: FIPS 113, ISO/IEC 9797-1 MAC algorithm 1, without padding or with that of PKCS#5.

OP-TEE: ``core/crypto/cbc-mac.c``. A MAC is the last block of a CBC encryption with a zero IV.
"""

from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, modes

from gentee.errors import BadState

_CHUNK = 4096  # bytes that are encrypted at once, into memory that nobody reads


class CbcMac:
    """A CBC-MAC that is being made.

    :param pad: PKCS#5: 1 to 8, or 16, bytes that say how many they are.
    :param chain: the last block so far, where the MAC goes on from another one.
    :param rest: bytes behind that block.
    """

    __slots__ = ("_algorithm", "_chain", "_context", "_pad", "_rest", "_size", "_started")

    def __init__(
        self,
        algorithm: BlockCipherAlgorithm,
        pad: bool,
        chain: bytes | None = None,
        rest: bytes = b"",
    ) -> None:
        self._algorithm = algorithm
        self._pad = pad
        self._size = size = algorithm.block_size // 8
        self._started = chain is not None
        self._chain = bytes(size) if chain is None else chain
        self._rest = rest
        self._context = Cipher(algorithm, modes.CBC(self._chain)).encryptor()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take more data."""
        size = self._size
        rest = self._rest
        view = memoryview(data)
        if rest:
            missing = size - len(rest)
            rest += bytes(view[:missing])
            if len(rest) < size:
                self._rest = rest
                return
            self._blocks(rest)
            view = view[missing:]
        whole = len(view) & -size
        for start in range(0, whole, _CHUNK):
            self._blocks(view[start : min(start + _CHUNK, whole)])
        self._rest = bytes(view[whole:])

    def _blocks(self, data: bytes | memoryview) -> None:
        self._chain = self._context.update(data)[-self._size :]
        self._started = True

    def pad_zero(self) -> None:
        """Fill the last block with zeros, where it is not whole."""
        if self._rest:
            self.update(bytes(self._size - len(self._rest)))

    def final(self) -> bytes:
        """The MAC.

        :raises BadState: without padding, and the data is empty or not in whole blocks.
        """
        if self._pad:
            missing = self._size - len(self._rest)
            self.update(bytes((missing,)) * missing)
        if not self._started or self._rest:
            raise BadState("not in whole blocks")
        return self._chain

    def copy(self) -> "CbcMac":
        """Another one in the same state."""
        chain = self._chain if self._started else None
        return CbcMac(self._algorithm, self._pad, chain, self._rest)
