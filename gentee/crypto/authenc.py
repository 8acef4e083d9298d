# SPDX-License-Identifier: BSD-2-Clause
"""Authenticated encryption: ``crypto_authenc_*()`` of OP-TEE's ``core/crypto/crypto.c``.

An operation that has given its tag takes no more data (BAD_STATE). A decryption answers
TEE_ERROR_MAC_INVALID to further tags, as it most likely does in OP-TEE, which goes on to compute.
"""

from gentee.abi import gp_crypto as gp
from gentee.crypto.blocks import block_cipher
from gentee.crypto.constant_time import compare_digest
from gentee.crypto.own.ccm import Ccm
from gentee.crypto.own.gcm import TAG_SIZE, GcmDecryption, GcmEncryption, GcmKey
from gentee.errors import (
    BadParameters,
    BadState,
    MacInvalid,
    NotImplementedByTee,
    NotSupported,
    ShortBuffer,
)

_Bytes = bytes | memoryview

_INT_MAX = 0x7FFFFFFF
_NONCE_MAX = 13  # of CCM
_TAG_MAX = 16
SPARE = TAG_SIZE
_GCM_PAYLOAD_MAX = 0xFFFFFFFE * gp.TEE_AES_BLOCK_SIZE


class ShortTag(ShortBuffer):
    """There is no room for the tag.

    :ivar reported: as what is needed: the tag's bytes or, as OP-TEE does with GCM, the room.
    """

    def __init__(self, reported: int) -> None:
        super().__init__("the tag does not fit")
        self.reported = reported


class AuthEnc:
    """An operation. Data goes from ``src`` into ``dst``, as with :mod:`gentee.crypto.ciphers`."""

    def update_aad(self, data: _Bytes | None) -> None:
        """Take more additional data; None where the TA passed no address, and so no bytes."""
        raise NotImplementedError

    def update_into(self, src: _Bytes, dst: memoryview) -> None:
        """Encrypt or decrypt a part of the payload."""
        raise NotImplementedError

    def encrypt_final(
        self, src: _Bytes, dst: memoryview, room: int, spare: memoryview | None = None
    ) -> bytes:
        """Encrypt the rest of the payload. The tag.

        :param room: bytes that there are for it.
        :param spare: ``dst`` and SPARE bytes behind it, which nobody else reads or writes
            meanwhile. They are as they were afterwards. It spares GCM a context.
        :raises ShortTag: they are too few.
        """
        raise NotImplementedError

    def decrypt_final(self, src: _Bytes, dst: memoryview, tag: bytes | memoryview) -> None:
        """Decrypt the rest of the payload and check its tag.

        :raises MacInvalid: it is another one. ``dst`` has what was decrypted, all the same.
        """
        raise NotImplementedError

    def copy(self) -> "AuthEnc":
        """Another one in the same state."""
        raise NotImplementedError


class _Gcm(AuthEnc):
    """OP-TEE: ``core/crypto/aes-gcm.c``."""

    __slots__ = ("_context", "_decryption", "_encryption", "_tag_size", "key")

    def __init__(self, encrypt: bool, key: GcmKey, nonce: bytes, tag_size: int) -> None:
        if tag_size > _TAG_MAX:
            raise BadParameters(f"a tag of {tag_size} bytes")
        self.key = key
        self._tag_size = tag_size
        self._encryption = GcmEncryption(key, nonce) if encrypt else None
        self._decryption = None if encrypt else GcmDecryption(key, nonce)
        self._context: GcmEncryption | GcmDecryption | None = self._encryption or self._decryption

    def _active(self) -> GcmEncryption | GcmDecryption:
        if self._context is None:
            raise BadState("the tag was made")
        return self._context

    def _end(self) -> None:
        self._context = self._encryption = self._decryption = None

    def _check_room(self, context: GcmEncryption | GcmDecryption, size: int) -> None:
        if context.payload_size + size > _GCM_PAYLOAD_MAX:
            raise BadParameters("more payload than GCM takes")

    def update_aad(self, data: _Bytes | None) -> None:
        context = self._active()
        if context.payload_size:
            raise BadParameters("additional data behind payload")
        if data is not None:
            context.update_aad(data)

    def update_into(self, src: _Bytes, dst: memoryview) -> None:
        context = self._active()
        self._check_room(context, len(src))
        context.update_into(src, dst)

    def encrypt_final(
        self, src: _Bytes, dst: memoryview, room: int, spare: memoryview | None = None
    ) -> bytes:
        if room < self._tag_size:
            raise ShortTag(room)
        context = self._active()
        assert self._encryption is not None
        self._check_room(context, len(src))
        tag = self._encryption.final_into(src, dst, spare)[: self._tag_size]
        self._end()
        return tag

    def decrypt_final(self, src: _Bytes, dst: memoryview, tag: bytes | memoryview) -> None:
        if len(tag) != self._tag_size or self._context is None:
            raise MacInvalid("a tag of another size, or a second one")
        assert self._decryption is not None
        self._check_room(self._context, len(src))
        valid = self._decryption.final_into(src, dst, bytes(tag))
        self._end()
        if not valid:
            raise MacInvalid("GCM")

    def copy(self) -> AuthEnc:
        other = _Gcm.__new__(_Gcm)
        other.key = self.key
        other._tag_size = self._tag_size
        other._encryption = self._encryption and self._encryption.copy()
        other._decryption = self._decryption and self._decryption.copy()
        other._context = other._encryption or other._decryption
        return other


class _Ccm(AuthEnc):
    """OP-TEE: ``core/lib/libtomcrypt/ccm.c``."""

    __slots__ = ("_context", "_ended", "_tag_size")

    def __init__(
        self,
        encrypt: bool,
        key: bytes,
        nonce: bytes,
        tag_size: int,
        aad_size: int,
        payload_size: int,
    ) -> None:
        if len(nonce) > _NONCE_MAX or payload_size > _INT_MAX or aad_size > _INT_MAX:
            raise BadParameters(f"nonce {len(nonce)}, payload {payload_size}, data {aad_size}")
        if not 4 <= tag_size <= _TAG_MAX or tag_size % 2:
            raise NotSupported(f"a tag of {tag_size} bytes")
        algorithm = block_cipher(gp.TEE_MAIN_ALGO_AES, key)
        self._tag_size = tag_size
        self._context = Ccm(algorithm, encrypt, nonce, tag_size, aad_size, payload_size)
        self._ended = False

    def update_aad(self, data: _Bytes | None) -> None:
        if data is None or self._ended:
            raise BadState("no additional data, or the tag was made")
        self._context.update_aad(data)

    def update_into(self, src: _Bytes, dst: memoryview) -> None:
        if self._ended:
            raise BadState("the tag was made")
        self._context.update_into(src, dst)

    def encrypt_final(
        self, src: _Bytes, dst: memoryview, room: int, spare: memoryview | None = None
    ) -> bytes:
        self.update_into(src, dst)
        if room < self._tag_size:
            raise ShortTag(self._tag_size)
        tag = self._context.final()[: self._tag_size]
        self._ended = True
        return tag

    def decrypt_final(self, src: _Bytes, dst: memoryview, tag: bytes | memoryview) -> None:
        if not len(tag):
            raise ShortTag(0)
        if len(tag) > _TAG_MAX:
            raise BadState(f"a tag of {len(tag)} bytes")
        if self._ended and not len(src):
            raise MacInvalid("a second tag")
        self.update_into(src, dst)
        made = self._context.final()
        self._ended = True
        # As many bytes as the caller gives. That they are enough, libutee checks.
        if not compare_digest(made[: len(tag)], bytes(tag)):
            raise MacInvalid("CCM")

    def copy(self) -> AuthEnc:
        other = _Ccm.__new__(_Ccm)
        other._tag_size = self._tag_size
        other._context = self._context.copy()
        other._ended = self._ended
        return other


AUTHENCS = (gp.TEE_ALG_AES_CCM, gp.TEE_ALG_AES_GCM)


def check_authenc(algo: int) -> None:
    """``crypto_authenc_alloc_ctx()``: raises NotImplementedByTee where there is no such one."""
    if algo not in AUTHENCS:
        raise NotImplementedByTee(f"authenticated encryption {algo:#x}")


def new_authenc(
    algo: int,
    mode: int,
    key: bytes,
    nonce: bytes,
    tag_size: int,
    aad_size: int,
    payload_size: int,
    old: AuthEnc | None = None,
) -> AuthEnc:
    """``crypto_authenc_init()`` of an algorithm that :func:`check_authenc` knows.

    :param mode: anything but TEE_MODE_ENCRYPT decrypts.
    :param old: one of before, most likely with the same key, which nobody uses on.
    :param aad_size: bytes of additional data that will come; GCM does not look at it.
    :param payload_size: likewise.
    :raises BadParameters: the nonce or the tag is too long, or CCM is to take 2**31 bytes.
    :raises NotSupported: CCM has no such tags.
    :raises BadState: CCM has no so short nonces.
    """
    encrypt = mode == gp.TEE_MODE_ENCRYPT
    if algo == gp.TEE_ALG_AES_GCM:
        if isinstance(old, _Gcm) and old.key.is_of(key):
            return _Gcm(encrypt, old.key, nonce, tag_size)
        return _Gcm(encrypt, GcmKey(key), nonce, tag_size)
    return _Ccm(encrypt, key, nonce, tag_size, aad_size, payload_size)


def warm_up() -> None:
    """Have OpenSSL fetch what all of these take."""
    out = memoryview(bytearray(16 + SPARE))
    for algo in AUTHENCS:
        for size in (16, 24, 32):
            for mode in (gp.TEE_MODE_ENCRYPT, gp.TEE_MODE_DECRYPT):
                context = new_authenc(algo, mode, bytes(size), bytes(12), 16, 0, 16)
                context.update_into(bytes(16), out)
            sealing = new_authenc(algo, gp.TEE_MODE_ENCRYPT, bytes(size), bytes(12), 16, 0, 16)
            sealing.encrypt_final(bytes(16), out, 16, out)
