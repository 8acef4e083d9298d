# SPDX-License-Identifier: BSD-2-Clause
"""GCM whose state can be copied: NIST SP 800-38D.

pyca/cryptography has GCM, in steps too. It lacks nonces of less than 8 or more than 128 bytes, tags
of less than 4, and a way to copy a context. All three come from GHASH being linear:

- A nonce of 16 bytes gives any first counter block that one wants, so a context can be made that
  begins in the middle of a message.
- The tag of a context says what its hash was. One block of additional data gives another context
  that hash to begin with.
- What the tag of such a context has too much or too little, lengths and first counter block, is
  known, and comes out by an exclusive or.

To copy ends the context and makes two, 0.1 to 0.3 ms whatever was done before.

A context costs 3 us to make, as long as 30 KiB take. So none is made before it is needed, and a
message whose payload comes at once needs none: pyca's AESGCM keeps what follows from the key.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import (
    AEADCipherContext,
    AEADEncryptionContext,
    Cipher,
    modes,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from gentee.crypto.constant_time import compare_digest
from gentee.crypto.own.gf128 import gcm_inverse, gcm_multiply

_BLOCK = 16
_U32 = 0xFFFFFFFF
_CHUNK = 64 << 10  # bytes that are copied at once, so that both halves see the same ones
_AAD_KEPT = 4096  # bytes of additional data that are kept while there is no context
_AT_ONCE_MAX = (1 << 31) - 1  # bytes that AESGCM takes

TAG_SIZE = 16


class GcmKey:
    """A key, for any number of messages."""

    __slots__ = ("_aead", "algorithm")

    def __init__(self, key: bytes) -> None:
        self.algorithm = AES(key)
        self._aead: AESGCM | None = None

    def is_of(self, key: bytes) -> bool:
        """Whether it is this key."""
        return compare_digest(self.algorithm.key, key)

    @property
    def aead(self) -> AESGCM:
        """What seals a message at once."""
        if self._aead is None:
            self._aead = AESGCM(self.algorithm.key)
        return self._aead


class _Nonce:
    """A key and a nonce: the contexts that begin at a block of their message."""

    def __init__(self, key: GcmKey, nonce: bytes) -> None:
        self.algorithm = key.algorithm
        self.nonce = nonce
        self.is_plain = 8 <= len(nonce) <= 128  # pyca takes it
        self._prepared = False
        self.h = 0  # the hash key, and its inverse
        self.h_inverse = 0
        self._first = 0  # the first counter block; it hides the tag

    def _encrypt(self, block: int) -> int:
        encryptor = Cipher(self.algorithm, modes.ECB()).encryptor()
        return int.from_bytes(encryptor.update(block.to_bytes(_BLOCK, "big")), "big")

    def prepare(self) -> None:
        """Find out what is only needed for contexts that are not plain."""
        if self._prepared:
            return
        self._prepared = True
        self.h = h = self._encrypt(0)
        self.h_inverse = gcm_inverse(h)
        nonce = self.nonce
        if len(nonce) == 12:
            self._first = int.from_bytes(nonce, "big") << 32 | 1
            return
        first = 0
        for start in range(0, len(nonce), _BLOCK):
            block = nonce[start : start + _BLOCK].ljust(_BLOCK, b"\0")
            first = gcm_multiply(first ^ int.from_bytes(block, "big"), h)
        self._first = gcm_multiply(first ^ len(nonce) * 8, h)

    def _counter(self, block: int) -> int:
        """The counter block that comes before that of a block of the message."""
        return self._first & ~_U32 | self._first + block & _U32

    def context(self, block: int) -> AEADEncryptionContext:
        """A context whose key stream begins at a block of the message."""
        nonce = self.nonce
        if block or not self.is_plain:
            self.prepare()
            hashed = gcm_multiply(self._counter(block), self.h_inverse) ^ _BLOCK * 8
            nonce = gcm_multiply(hashed, self.h_inverse).to_bytes(_BLOCK, "big")
        return Cipher(self.algorithm, modes.GCM(nonce)).encryptor()

    def mask(self, block: int) -> int:
        """What hides the tag of the context that begins at a block."""
        return self._encrypt(self._counter(block))


class _Hash:
    """A context of pyca's, and what of a message it has seen.

    :ivar block: of the message, where its key stream begins.
    :ivar fed: bytes of additional data that it has counted, and of payload.
    """

    __slots__ = ("_nonce", "block", "context", "fed_aad", "fed_payload")

    def __init__(self, nonce: _Nonce, block: int = 0, hashed: int = 0) -> None:
        """:param hashed: the hash of what it has not seen."""
        self._nonce = nonce
        self.block = block
        self.context = nonce.context(block)
        self.fed_aad = self.fed_payload = 0
        if hashed:
            first = gcm_multiply(hashed, nonce.h_inverse)
            self.aad(first.to_bytes(_BLOCK, "big"))

    def aad(self, data: bytes | memoryview) -> None:
        self.context.authenticate_additional_data(data)
        self.fed_aad += len(data)

    def _lengths(self) -> int:
        return self.fed_aad << 67 | self.fed_payload << 3

    def end(self) -> int:
        """The hash of all so far, filled up with zeros to whole blocks. The context is gone."""
        nonce = self._nonce
        nonce.prepare()
        self.context.finalize()
        tag = int.from_bytes(self.context.tag, "big")
        return gcm_multiply(tag ^ nonce.mask(self.block), nonce.h_inverse) ^ self._lengths()

    def tag(self, aad_size: int, payload_size: int) -> bytes:
        """The tag of a message with these lengths. The context is gone."""
        self.context.finalize()
        tag = self.context.tag
        nonce = self._nonce
        exact = self.fed_aad == aad_size and self.fed_payload == payload_size
        if exact and not self.block and nonce.is_plain:
            return tag
        nonce.prepare()
        lengths = self._lengths() ^ (aad_size << 67 | payload_size << 3)
        change = gcm_multiply(lengths, nonce.h)
        change ^= nonce.mask(self.block) ^ nonce.mask(0)
        return (int.from_bytes(tag, "big") ^ change).to_bytes(_BLOCK, "big")

    def split(self, tail: bytes) -> int:
        """The hash of all so far but ``tail``, the bytes of the last block if it is not whole.

        The context is gone.
        """
        hashed = self.end()
        if tail:
            block = int.from_bytes(tail.ljust(_BLOCK, b"\0"), "big")
            hashed = gcm_multiply(hashed, self._nonce.h_inverse) ^ block
        return hashed


class GcmEncryption:
    """An authenticated encryption that is being made.

    :ivar aad_size: bytes of additional data so far.
    :ivar payload_size: bytes of payload so far.
    """

    def __init__(self, key: GcmKey, nonce: bytes) -> None:
        self._key = key
        self._nonce = _Nonce(key, nonce)
        self._aad = b""  # all additional data, as long as there is no context
        self._hash: _Hash | None = None
        self.aad_size = 0
        self.payload_size = 0
        # Of the last block, if it is not whole: additional data, then payload; and cipher text.
        self._tail = b""
        self._cipher_tail = b""

    def _hashing(self) -> _Hash:
        if self._hash is None:
            self._hash = _Hash(self._nonce)
            if self._aad:
                self._hash.aad(self._aad)
                self._aad = b""
        return self._hash

    def update_aad(self, data: bytes | memoryview) -> None:
        """Take more additional data; there was no payload yet."""
        size = len(data)
        total = self.aad_size + size
        rest = total % _BLOCK
        if rest:
            data = bytes(data)
            self._tail = data[size - rest :] if size >= rest else self._tail + data
        else:
            self._tail = b""
        if self._hash is None and total <= _AAD_KEPT:
            self._aad += data
        else:
            self._hashing().aad(data)
        self.aad_size = total

    def end_aad(self) -> None:
        """Fill up the last block of additional data, as payload of no bytes does in OP-TEE."""
        if not self.payload_size and self._tail:
            self._hashing().aad(bytes(_BLOCK - len(self._tail)))
            self._tail = b""

    def update_into(self, src: bytes | memoryview, dst: memoryview) -> None:
        """Encrypt a part of the payload."""
        size = len(src)
        if not size:
            self.end_aad()
            return
        before = self.payload_size
        if not before:
            self._tail = b""
        hash = self._hashing()
        if not (before | size) & _BLOCK - 1:
            hash.context.update_into(src, dst)
        else:
            rest = (before + size) % _BLOCK
            start = size - rest  # of the last block, if that is not whole
            if start < 0:
                start = 0
            else:
                hash.context.update_into(src[:start], dst)
                self._tail = self._cipher_tail = b""
            data = bytes(src[start:])
            result = hash.context.update(data)
            dst[start:size] = result
            self._tail += data
            self._cipher_tail += result
        hash.fed_payload += size
        self.payload_size = before + size

    def final(self) -> bytes:
        """The tag, all 16 bytes of it. Nothing can be done with this object afterwards."""
        return self._hashing().tag(self.aad_size, self.payload_size)

    def final_into(
        self, src: bytes | memoryview, dst: memoryview, spare: memoryview | None = None
    ) -> bytes:
        """Encrypt the rest of the payload; the tag, as :meth:`final`.

        :param spare: ``dst`` and at least 16 bytes behind it, which nobody else reads or writes
            meanwhile. They are as they were afterwards.
        """
        size = len(src)
        if (
            spare is not None
            and self._hash is None
            and self._nonce.is_plain
            and size <= _AT_ONCE_MAX
        ):
            end = size + TAG_SIZE
            whole = spare[:end]
            kept = bytes(whole[size:])
            self._key.aead.encrypt_into(self._nonce.nonce, src, self._aad or None, whole)
            tag = bytes(whole[size:])
            whole[size:] = kept
            return tag
        if size:
            self.update_into(src, dst)
        return self.final()

    def copy(self) -> "GcmEncryption":
        """Another one in the same state."""
        other = GcmEncryption.__new__(GcmEncryption)
        other._key = self._key
        other._nonce = self._nonce
        other._aad = self._aad
        other._hash = None
        other.aad_size = self.aad_size
        other.payload_size = self.payload_size
        other._tail = self._tail
        other._cipher_tail = self._cipher_tail
        if self._hash is None:
            return other
        hashed = self._hash.split(self._cipher_tail if self.payload_size else self._tail)
        self._begin(hashed)
        other._begin(hashed)
        return other

    def _begin(self, hashed: int) -> None:
        self._hash = hash = _Hash(self._nonce, self.payload_size // _BLOCK, hashed)
        if not self.payload_size:
            hash.aad(self._tail)
        elif self._tail:
            hash.context.update(self._tail)
            hash.fed_payload = len(self._tail)


class GcmDecryption:
    """An authenticated decryption that is being made.

    pyca's context for decryption does not tell the tag, which one must know to copy it. It serves
    where all payload comes at the end, when nothing is left to be copied. Otherwise one context
    hashes the cipher text, as additional data, and another one decrypts it.

    :ivar aad_size: bytes of additional data so far.
    :ivar payload_size: bytes of payload so far.
    """

    def __init__(self, key: GcmKey, nonce: bytes) -> None:
        self._nonce = _Nonce(key, nonce)
        self.aad_size = 0
        self.payload_size = 0
        self._aad: bytes | None = b""  # all additional data, until it is too much
        self._hash: _Hash | None = None
        self._stream: AEADCipherContext | None = None
        self._tail = b""  # of the last block, if it is not whole: additional data, then cipher text

    def _hashing(self) -> _Hash:
        if self._hash is None:
            self._hash = _Hash(self._nonce)
            if self._aad:
                self._hash.aad(self._aad)
            self._aad = None
        return self._hash

    def update_aad(self, data: bytes | memoryview) -> None:
        """Take more additional data; there was no payload yet."""
        size = len(data)
        if not size:
            return
        total = self.aad_size + size
        rest = total % _BLOCK
        data = bytes(data)
        self._tail = data[size - rest :] if size >= rest else self._tail + data
        self.aad_size = total
        if self._aad is not None and total <= _AAD_KEPT:
            self._aad += data
        else:
            self._hashing().aad(data)

    def end_aad(self) -> None:
        """Fill up the last block of additional data, as payload of no bytes does in OP-TEE."""
        if not self.payload_size and self._tail:
            self._hashing().aad(bytes(_BLOCK - len(self._tail)))
            self._tail = b""

    def update_into(self, src: bytes | memoryview, dst: memoryview) -> None:
        """Decrypt a part of the payload."""
        self.end_aad()
        size = len(src)
        hash = self._hashing()
        if self._stream is None:
            self._stream = self._nonce.context(0)
        for start in range(0, size, _CHUNK):
            data = bytes(src[start : start + _CHUNK])
            hash.aad(data)
            self._stream.update_into(data, dst[start:])
            self.payload_size += len(data)
            rest = self.payload_size % _BLOCK
            self._tail = data[len(data) - rest :] if len(data) >= rest else self._tail + data

    def final_into(self, src: bytes | memoryview, dst: memoryview, tag: bytes) -> bool:
        """Decrypt the rest of the payload, and say whether ``tag``, 0 to 16 bytes, is right.

        Nothing can be done with this object afterwards.
        """
        if self._aad is not None and self._nonce.is_plain and len(tag) >= 4:
            mode = modes.GCM(self._nonce.nonce, None, len(tag))
            context = Cipher(self._nonce.algorithm, mode).decryptor()
            context.authenticate_additional_data(self._aad)
            context.update_into(src, dst)
            try:
                context.finalize_with_tag(tag)
            except InvalidTag:
                return False
            return True
        self.update_into(src, dst)
        right = self._hashing().tag(self.aad_size, self.payload_size)
        return compare_digest(right[: len(tag)], tag)

    def copy(self) -> "GcmDecryption":
        """Another one in the same state."""
        other = GcmDecryption.__new__(GcmDecryption)
        other._nonce = self._nonce
        other.aad_size = self.aad_size
        other.payload_size = self.payload_size
        other._aad = self._aad
        other._tail = self._tail
        other._hash = other._stream = None
        if self._hash is not None:
            hashed = self._hash.split(self._tail)
            self._begin(hashed)
            other._begin(hashed)
        if self._stream is not None:
            blocks, rest = divmod(self.payload_size, _BLOCK)
            other._stream = self._nonce.context(blocks)
            other._stream.update(bytes(rest))
        return other

    def _begin(self, hashed: int) -> None:
        self._hash = _Hash(self._nonce, 0, hashed)
        self._hash.aad(self._tail)
