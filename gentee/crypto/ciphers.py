# SPDX-License-Identifier: BSD-2-Clause
"""Symmetric ciphers: ``crypto_cipher_*()`` of OP-TEE's ``core/crypto/crypto.c``.

pyca/cryptography cannot copy the state of a cipher. A cipher here is told by its key and by what
follows from its position: CBC by the last block of cipher text, CTR by the counter, XTS by the
tweak, ECB by nothing. So a copy is a new context, which costs about 3 us whatever was done before.

Data goes from ``src`` into ``dst``, which may be the same memory; if they overlap in another way
the result is undefined. ``dst`` may be longer than ``src``, and only as many bytes are written.
"""

from gentee.abi import gp_crypto as gp
from gentee.crypto.blocks import (
    AES,
    BlockCipherAlgorithm,
    CipherContext,
    block_cipher,
    block_size,
    decryptor,
    encryptor,
    modes,
)
from gentee.crypto.constant_time import compare_digest
from gentee.crypto.own.cts import steal
from gentee.crypto.own.gf128 import times_x
from gentee.crypto.own.xts import xts_into
from gentee.errors import BadParameters, BadState, NotImplementedByTee, NotSupported

_Bytes = bytes | memoryview

_AES_BLOCK = gp.TEE_AES_BLOCK_SIZE
_XTS_MAX = 1 << 20  # bytes that are passed at once


class _Ecb:
    """ECB."""

    __slots__ = ("_algorithm", "_context", "_encrypt", "_room", "_size")

    def __init__(self, algorithm: BlockCipherAlgorithm, encrypt: bool, iv: bytes) -> None:
        self._algorithm = algorithm
        self._encrypt = encrypt
        self._size = size = block_size(algorithm)
        self._room = size - 1  # which pyca wants behind the output, and does not write to
        self._context = self._start(iv)

    def _start(self, iv: bytes) -> CipherContext:
        mode = modes.ECB()
        return (encryptor if self._encrypt else decryptor)(self._algorithm, mode)

    def update_into(self, src: _Bytes, dst: memoryview, last: bool) -> None:
        """Encrypt or decrypt whole blocks."""
        size = len(src)
        if size % self._size:
            raise BadParameters(f"{size} bytes are not in whole blocks")
        self._blocks(src, dst, size)

    def _blocks(self, src: _Bytes, dst: memoryview, size: int) -> None:
        if len(dst) - size >= self._room:
            self._context.update_into(src, dst)
            return
        last = size - self._size
        if last > 0:
            self._context.update_into(src[:last], dst)
        dst[last:size] = self._context.update(src[last:])

    def block(self, data: bytes) -> bytes:
        """Encrypt or decrypt one block."""
        return self._context.update(data)

    def copy(self) -> "_Ecb":
        """Another one in the same state."""
        return _Ecb(self._algorithm, self._encrypt, b"")


class _Cbc(_Ecb):
    """CBC. The last block of cipher text is noted."""

    __slots__ = ("chain",)

    def _start(self, iv: bytes) -> CipherContext:
        if len(iv) != self._size:
            raise BadParameters(f"an initialisation vector of {len(iv)} bytes")
        self.chain = iv
        mode = modes.CBC(iv)
        return (encryptor if self._encrypt else decryptor)(self._algorithm, mode)

    def _blocks(self, src: _Bytes, dst: memoryview, size: int) -> None:
        last = size - self._size
        block = bytes(src[last:])
        if last > 0:
            self._context.update_into(src[:last], dst)
        dst[last:size] = self.block(block)

    def block(self, data: bytes) -> bytes:
        result = self._context.update(data)
        self.chain = result if self._encrypt else data
        return result

    def copy(self) -> "_Cbc":
        """Another one in the same state."""
        return _Cbc(self._algorithm, self._encrypt, self.chain)


class _Ctr:
    """CTR with a counter of 128 bits. Its last bytes may be any number, and then it goes on."""

    __slots__ = ("_algorithm", "_context", "_count", "_iv")

    def __init__(self, algorithm: BlockCipherAlgorithm, encrypt: bool, iv: bytes) -> None:
        if len(iv) != _AES_BLOCK:
            raise BadParameters(f"a counter of {len(iv)} bytes")
        self._algorithm = algorithm
        self._iv = iv
        self._count = 0  # bytes
        self._context = encryptor(algorithm, modes.CTR(iv))

    def restart(self, key: bytes, iv: bytes) -> bool:
        """Begin anew, which takes a tenth of the time of a new context; False with another key."""
        if len(iv) != _AES_BLOCK or not compare_digest(self._algorithm.key, key):
            return False
        self._context.reset_nonce(iv)
        self._iv = iv
        self._count = 0
        return True

    def update_into(self, src: _Bytes, dst: memoryview, last: bool) -> None:
        """Encrypt or decrypt, which is the same."""
        self._count += self._context.update_into(src, dst)

    def copy(self) -> "_Ctr":
        """Another one in the same state."""
        blocks, rest = divmod(self._count, _AES_BLOCK)
        counter = (int.from_bytes(self._iv, "big") + blocks) % (1 << 128)
        other = type(self)(self._algorithm, True, counter.to_bytes(_AES_BLOCK, "big"))
        other._count = len(other._context.update(bytes(rest)))
        return other


class _Sm4Ctr(_Ctr):
    """CTR as OP-TEE has it for SM4: in whole blocks only."""

    __slots__ = ()

    def update_into(self, src: _Bytes, dst: memoryview, last: bool) -> None:
        if len(src) % _AES_BLOCK:
            if last:
                raise NotSupported("a last block that is not whole")
            raise BadParameters(f"{len(src)} bytes are not in whole blocks")
        super().update_into(src, dst, last)


class _Cts:
    """CBC with ciphertext stealing."""

    __slots__ = ("_cbc", "_ecb", "_encrypt")

    def __init__(self, algorithm: BlockCipherAlgorithm, encrypt: bool, iv: bytes) -> None:
        self._encrypt = encrypt
        self._ecb = _Ecb(algorithm, encrypt, b"")
        self._cbc = _Cbc(algorithm, encrypt, iv)

    def update_into(self, src: _Bytes, dst: memoryview, last: bool) -> None:
        """Encrypt or decrypt whole blocks; the last time, more than one block of any size."""
        if not last:
            self._cbc.update_into(src, dst, False)
            return
        size = len(src)
        start = (size - 1) // _AES_BLOCK * _AES_BLOCK - _AES_BLOCK  # of the last two blocks
        if start < 0:
            raise BadState(f"{size} bytes are not more than a block")
        end = bytes(src[start:])
        if start:
            self._cbc.update_into(src[:start], dst, False)
        dst[start:size] = steal(self._encrypt, self._cbc.block, self._ecb.block, end)

    def copy(self) -> "_Cts":
        """Another one in the same state."""
        other = _Cts.__new__(_Cts)
        other._encrypt = self._encrypt
        other._ecb = self._ecb.copy()
        other._cbc = self._cbc.copy()
        return other


class _Xts:
    """XTS. OP-TEE goes on with the next tweak at the next update, as if all were one data unit.

    OP-TEE: ``core/lib/libtomcrypt/xts.c``, ``core/crypto/sm4-xts.c``. Two equal keys are taken.

    :param tweak: not encrypted.
    """

    __slots__ = (
        "_algorithm",
        "_blocks",
        "_decrypt_tweak",
        "_encrypt",
        "_encrypt_tweak",
        "_keys",
        "_own",
        "_tweak",
        "_tweak_algorithm",
    )

    def __init__(
        self, main_alg: int, key1: bytes, key2: bytes, encrypt: bool, tweak: bytes
    ) -> None:
        if len(key1) != len(key2) or len(tweak) != _AES_BLOCK:
            error = BadState if main_alg == gp.TEE_MAIN_ALGO_SM4 else BadParameters
            raise error(f"keys of {len(key1)}, {len(key2)} bytes, tweak of {len(tweak)}")
        self._algorithm = block_cipher(main_alg, key1)
        self._tweak_algorithm = block_cipher(main_alg, key2)
        self._encrypt = encrypt
        self._tweak = tweak
        self._blocks = 0  # of which the tweaks are used up
        self._keys: AES | None = None
        self._own: CipherContext | None = None
        self._encrypt_tweak: CipherContext | None = None
        self._decrypt_tweak: CipherContext | None = None
        if main_alg == gp.TEE_MAIN_ALGO_AES and len(key1) != 24 and key1 != key2:
            self._keys = AES(key1 + key2)

    def update_into(self, src: _Bytes, dst: memoryview, last: bool) -> None:
        """Encrypt or decrypt whole blocks; the last time, at least one block of any size."""
        size = len(src)
        whole, rest = divmod(size, _AES_BLOCK)
        if rest and not last:
            raise BadParameters(f"{size} bytes are not in whole blocks")
        if not whole:
            raise BadState(f"{size} bytes are not a block")
        if self._keys is None:
            self._own_into(src, dst)
            self._blocks += whole
        else:
            # pyca takes a data unit of 2**20 blocks, which is what the standard says.
            for start in range(0, whole * _AES_BLOCK, _XTS_MAX):
                end = start + _XTS_MAX
                part = src[start : end if end + _AES_BLOCK <= size else size]
                mode = modes.XTS(self._next_tweak())
                context = (encryptor if self._encrypt else decryptor)(self._keys, mode)
                context.update_into(part, dst[start:])
                self._blocks += len(part) // _AES_BLOCK
                if len(part) > _XTS_MAX:
                    break
        if rest:
            self._blocks += 1

    def _own_into(self, src: _Bytes, dst: memoryview) -> None:
        if self._own is None:
            begin = encryptor if self._encrypt else decryptor
            self._own = begin(self._algorithm, modes.ECB())
        xts_into(self._own, not self._encrypt, self._first(), src, dst)

    def _first(self) -> int:
        """The encrypted tweak of the next block."""
        if self._encrypt_tweak is None:
            self._encrypt_tweak = encryptor(self._tweak_algorithm, modes.ECB())
        encrypted = self._encrypt_tweak.update(self._tweak)
        return times_x(int.from_bytes(encrypted, "little"), self._blocks)

    def _next_tweak(self) -> bytes:
        """That tweak before it was encrypted: who starts anew goes on with it."""
        if self._blocks:
            encrypted = self._first().to_bytes(_AES_BLOCK, "little")
            if self._decrypt_tweak is None:
                self._decrypt_tweak = decryptor(self._tweak_algorithm, modes.ECB())
            self._tweak = self._decrypt_tweak.update(encrypted)
            self._blocks = 0
        return self._tweak

    def copy(self) -> "_Xts":
        """Another one in the same state."""
        other = _Xts.__new__(_Xts)
        other._algorithm = self._algorithm
        other._tweak_algorithm = self._tweak_algorithm
        other._encrypt = self._encrypt
        other._keys = self._keys
        other._own = other._encrypt_tweak = other._decrypt_tweak = None
        other._tweak = self._next_tweak()
        other._blocks = 0
        return other


Cipher = _Ecb | _Ctr | _Cts | _Xts

_CIPHERS: dict[int, type[_Ecb] | type[_Ctr] | type[_Cts]] = {
    gp.TEE_ALG_AES_ECB_NOPAD: _Ecb,
    gp.TEE_ALG_AES_CBC_NOPAD: _Cbc,
    gp.TEE_ALG_AES_CTR: _Ctr,
    gp.TEE_ALG_AES_CTS: _Cts,
    gp.TEE_ALG_DES_ECB_NOPAD: _Ecb,
    gp.TEE_ALG_DES_CBC_NOPAD: _Cbc,
    gp.TEE_ALG_DES3_ECB_NOPAD: _Ecb,
    gp.TEE_ALG_DES3_CBC_NOPAD: _Cbc,
    gp.TEE_ALG_SM4_ECB_NOPAD: _Ecb,
    gp.TEE_ALG_SM4_CBC_NOPAD: _Cbc,
    gp.TEE_ALG_SM4_CTR: _Sm4Ctr,
}
_DES = (gp.TEE_MAIN_ALGO_DES, gp.TEE_MAIN_ALGO_DES3)
_KEY_SIZES = {
    gp.TEE_MAIN_ALGO_AES: (16, 24, 32),
    gp.TEE_MAIN_ALGO_DES: (8,),
    gp.TEE_MAIN_ALGO_DES3: (24,),
    gp.TEE_MAIN_ALGO_SM4: (16,),
}
_XTS = (gp.TEE_ALG_AES_XTS, gp.TEE_ALG_SM4_XTS)
CIPHERS = (*_CIPHERS, *_XTS)


def check_cipher(algo: int) -> None:
    """``crypto_cipher_alloc_ctx()``: raises NotImplementedByTee where there is no such cipher."""
    if algo not in CIPHERS:
        raise NotImplementedByTee(f"cipher {algo:#x}")


def new_cipher(
    algo: int, mode: int, key1: bytes, key2: bytes, iv: bytes, old: Cipher | None = None
) -> Cipher:
    """``crypto_cipher_init()`` of an algorithm that :func:`check_cipher` knows.

    :param key2: of XTS.
    :param old: one of the same algorithm and mode, which nobody uses on.
    :param iv: what the mode takes: initialisation vector, counter or tweak. ECB takes any.
    :raises BadParameters: the mode is neither TEE_MODE_ENCRYPT nor TEE_MODE_DECRYPT, or ``iv`` has
        another size.
    """
    if mode not in (gp.TEE_MODE_ENCRYPT, gp.TEE_MODE_DECRYPT):
        raise BadParameters(f"mode {mode:#x}")
    if isinstance(old, _Ctr) and old.restart(key1, iv):
        return old
    encrypt = mode == gp.TEE_MODE_ENCRYPT
    main_alg = gp.TEE_ALG_GET_MAIN_ALG(algo)
    if algo in _XTS:
        return _Xts(main_alg, key1, key2, encrypt, iv)
    return _CIPHERS[algo](block_cipher(main_alg, key1), encrypt, iv)


def warm_up() -> None:
    """Have OpenSSL fetch all ciphers."""
    out = memoryview(bytearray(32))
    for algo in CIPHERS:
        iv = bytes(8 if gp.TEE_ALG_GET_MAIN_ALG(algo) in _DES else 16)
        for size in _KEY_SIZES[gp.TEE_ALG_GET_MAIN_ALG(algo)]:
            for mode in (gp.TEE_MODE_ENCRYPT, gp.TEE_MODE_DECRYPT):
                cipher = new_cipher(algo, mode, bytes(size), bytes(range(size)), iv)
                cipher.update_into(bytes(32), out, True)
