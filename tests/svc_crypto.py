# SPDX-License-Identifier: BSD-2-Clause
"""Operations as a TA does them: by system calls, with its data in memory of its own."""

from collections.abc import Sequence

from gentee.abi import gp_crypto as gp
from gentee.abi import optee_ta as abi
from gentee.abi.gp import TEE_SUCCESS
from gentee.ta.engine.base import AARCH64
from tests.svc_ta import DATA, RW, TestedTa

HANDLE = DATA  # where a system call puts a handle
SIZE = DATA + 8  # a u64: how much there is room for, how much it is
TAG_SIZE = DATA + 16
ATTRIBUTES = DATA + 32
TAG = DATA + 128
IV = DATA + 512
IN = 0x58000000  # and no number of an algorithm
OUT = 0x5A000000
PAGES = 72  # of each of the two


class CallFailed(Exception):
    """A system call gave another code than TEE_SUCCESS.

    :ivar code: which.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"{code:#x}")
        self.code = code


class CryptoCalls:
    """The system calls of whatever has :meth:`call`, and memory at the addresses above."""

    def call(self, number: int, *args: int) -> int:
        """The code of a system call; arguments that are not given are 0."""
        raise NotImplementedError

    def read(self, address: int, size: int) -> bytes:
        """Bytes of its memory."""
        raise NotImplementedError

    def write(self, address: int, data: bytes) -> None:
        """Put bytes there."""
        raise NotImplementedError

    def place(self, address: int) -> int:
        """An address as it is written into memory."""
        return address

    def must(self, number: int, *args: int) -> None:
        """A system call that is to work; raises CallFailed."""
        code = self.call(number, *args)
        if code != TEE_SUCCESS:
            raise CallFailed(code)

    def u32(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), "little")

    def u64(self, address: int) -> int:
        return int.from_bytes(self.read(address, 8), "little")

    def put_u64(self, address: int, value: int) -> None:
        self.write(address, value.to_bytes(8, "little"))

    # Keys and operations.

    def key(self, obj_type: int, secret: bytes, bits: int | None = None) -> int:
        """An object with a secret; its handle."""
        bits = len(secret) * 8 if bits is None else bits
        self.must(abi.TEE_SCN_CRYP_OBJ_ALLOC, obj_type, bits, HANDLE)
        handle = self.u32(HANDLE)
        self.write(IN, secret)
        attribute = (self.place(IN), len(secret), gp.TEE_ATTR_SECRET_VALUE)
        self.write(ATTRIBUTES, b"".join(word.to_bytes(8, "little") for word in attribute))
        try:
            self.must(abi.TEE_SCN_CRYP_OBJ_POPULATE, handle, ATTRIBUTES, 1)
        except CallFailed:
            self.must(abi.TEE_SCN_CRYP_OBJ_CLOSE, handle)
            raise
        return handle

    def state(self, algo: int, mode: int, key1: int = 0, key2: int = 0) -> int:
        """An operation; its handle."""
        self.must(abi.TEE_SCN_CRYP_STATE_ALLOC, algo, mode, key1, key2, HANDLE)
        return self.u32(HANDLE)

    def keyed(self, algo: int, mode: int, key1: bytes, key2: bytes | None = None) -> int:
        """An operation with new keys; its handle."""
        obj_type = gp.TEE_ALG_GET_KEY_TYPE(algo, False)
        first = self.key(obj_type, key1)
        return self.state(algo, mode, first, 0 if key2 is None else self.key(obj_type, key2))

    def copy(self, target: int, source: int) -> None:
        self.must(abi.TEE_SCN_CRYP_STATE_COPY, target, source)

    def free(self, *states: int) -> None:
        for state in states:
            self.must(abi.TEE_SCN_CRYP_STATE_FREE, state)

    # Digests and MACs.

    def hash_init(self, state: int) -> None:
        self.must(abi.TEE_SCN_HASH_INIT, state, 0, 0)

    def hash_update(self, state: int, data: bytes) -> None:
        self.write(IN, data)
        self.must(abi.TEE_SCN_HASH_UPDATE, state, IN, len(data))

    def hash_final(self, state: int, data: bytes = b"", room: int = 64) -> bytes:
        self.write(IN, data)
        self.put_u64(SIZE, room)
        self.must(abi.TEE_SCN_HASH_FINAL, state, IN, len(data), OUT, SIZE)
        return self.read(OUT, self.u64(SIZE))

    def hash(self, state: int, chunks: Sequence[bytes], room: int = 64) -> bytes:
        """All of it."""
        self.hash_init(state)
        for chunk in chunks:
            self.hash_update(state, chunk)
        return self.hash_final(state, room=room)

    # Ciphers.

    def cipher_init(self, state: int, iv: bytes = b"") -> None:
        self.write(IV, iv)
        self.must(abi.TEE_SCN_CIPHER_INIT, state, IV, len(iv))

    def cipher_update(
        self, state: int, data: bytes, last: bool = False, spare: int = 0, out: int = OUT
    ) -> bytes:
        """:param spare: bytes that the output has room for besides.
        :param out: where it goes.
        """
        size = len(data)
        self.write(IN, data)
        self.put_u64(SIZE, size + spare)
        number = abi.TEE_SCN_CIPHER_FINAL if last else abi.TEE_SCN_CIPHER_UPDATE
        self.must(number, state, IN, size, out, SIZE)
        assert self.u64(SIZE) == size
        return self.read(out, size)

    # Authenticated encryption.

    def authenc_init(
        self, state: int, nonce: bytes, tag_size: int, aad_size: int = 0, payload_size: int = 0
    ) -> None:
        self.write(IV, nonce)
        number = abi.TEE_SCN_AUTHENC_INIT
        self.must(number, state, IV, len(nonce), tag_size, aad_size, payload_size)

    def authenc_aad(self, state: int, data: bytes) -> None:
        self.write(IN, data)
        self.must(abi.TEE_SCN_AUTHENC_UPDATE_AAD, state, IN, len(data))

    def authenc_update(self, state: int, data: bytes, out: int = OUT) -> bytes:
        self.write(IN, data)
        self.put_u64(SIZE, len(data))
        self.must(abi.TEE_SCN_AUTHENC_UPDATE_PAYLOAD, state, IN, len(data), out, SIZE)
        assert self.u64(SIZE) == len(data)
        return self.read(out, len(data))

    def authenc_enc_final(
        self, state: int, data: bytes = b"", room: int = 16, out: int = OUT
    ) -> tuple[bytes, bytes]:
        """The rest of the cipher text, and the tag."""
        self.write(IN, data)
        self.put_u64(SIZE, len(data))
        self.put_u64(TAG_SIZE, room)
        number = abi.TEE_SCN_AUTHENC_ENC_FINAL
        self.must(number, state, IN, len(data), out, SIZE, TAG, TAG_SIZE)
        return self.read(out, self.u64(SIZE)), self.read(TAG, self.u64(TAG_SIZE))

    def authenc_dec_final(self, state: int, data: bytes, tag: bytes, out: int = OUT) -> bytes:
        """The rest of the plain text."""
        self.write(IN, data)
        self.write(TAG, tag)
        self.put_u64(SIZE, len(data))
        number = abi.TEE_SCN_AUTHENC_DEC_FINAL
        self.must(number, state, IN, len(data), out, SIZE, TAG, len(tag))
        return self.read(out, self.u64(SIZE))


class CryptoTa(TestedTa, CryptoCalls):
    """A TA with memory for bulk data."""

    __test__ = False

    def __init__(self, arch: str = AARCH64) -> None:
        super().__init__(arch)
        self.add(IN, PAGES, RW, "heap", None)
        self.add(OUT, PAGES, RW, "heap", None)
