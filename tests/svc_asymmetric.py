# SPDX-License-Identifier: BSD-2-Clause
"""Asymmetric algorithms and derivation of keys as a TA uses them: by system calls."""

from gentee.abi import gp_crypto as gp
from gentee.abi import optee_ta as abi
from tests.svc_crypto import ATTRIBUTES, HANDLE, IN, OUT, SIZE, CryptoTa

Attr = tuple[int, bytes] | tuple[int, int] | tuple[int, int, int]

BYTES = IN + 0x10000  # what attributes refer to
SIGNATURE = IN + 0x20000


class AsymmetricTa(CryptoTa):
    """A TA with keys of every type."""

    __test__ = False

    def put_attributes(self, *attributes: Attr) -> tuple[int, int]:
        """Write attributes: bytes, or one or two values; address and count."""
        packed = b""
        at = BYTES
        for attr in attributes:
            content = attr[1]
            if isinstance(content, bytes):
                self.write(at, content)
                packed += abi.UTEE_ATTRIBUTE.pack(at, len(content), attr[0])
                at += len(content)
            else:
                second = attr[2] if len(attr) == 3 else 0
                packed += abi.UTEE_ATTRIBUTE.pack(content, second, attr[0])
        self.write(ATTRIBUTES, packed)
        return ATTRIBUTES, len(attributes)

    def alloc(self, obj_type: int, bits: int) -> int:
        """An object without attributes; its handle."""
        self.must(abi.TEE_SCN_CRYP_OBJ_ALLOC, obj_type, bits, HANDLE)
        return self.u32(HANDLE)

    def object(self, obj_type: int, bits: int, *attributes: Attr) -> int:
        """An object with attributes; its handle."""
        handle = self.alloc(obj_type, bits)
        self.must(abi.TEE_SCN_CRYP_OBJ_POPULATE, handle, *self.put_attributes(*attributes))
        return handle

    def generate(self, obj_type: int, bits: int, *attributes: Attr) -> int:
        """A new key; its handle."""
        handle = self.alloc(obj_type, bits)
        attrs = self.put_attributes(*attributes)
        self.must(abi.TEE_SCN_CRYP_OBJ_GENERATE_KEY, handle, bits, *attrs)
        return handle

    def copy_of(self, handle: int, obj_type: int, bits: int) -> int:
        """A copy of a key, or of its public half."""
        copy = self.alloc(obj_type, bits)
        self.must(abi.TEE_SCN_CRYP_OBJ_COPY, copy, handle)
        return copy

    def attribute(self, handle: int, attr: int) -> bytes:
        self.put_u64(SIZE, 1024)
        self.must(abi.TEE_SCN_CRYP_OBJ_GET_ATTR, handle, attr, OUT, SIZE)
        return self.read(OUT, self.u64(SIZE))

    def operate(self, state: int, data: bytes, *attributes: Attr, room: int = 1024) -> bytes:
        """Encrypt, decrypt or sign."""
        self.write(IN, data)
        self.put_u64(SIZE, room)
        attrs = self.put_attributes(*attributes)
        self.must(abi.TEE_SCN_ASYMM_OPERATE, state, *attrs, IN, len(data), OUT, SIZE)
        return self.read(OUT, self.u64(SIZE))

    def verify(self, state: int, data: bytes, signature: bytes, *attributes: Attr) -> None:
        self.write(IN, data)
        self.write(SIGNATURE, signature)
        attrs = self.put_attributes(*attributes)
        number = abi.TEE_SCN_ASYMM_VERIFY
        self.must(number, state, *attrs, IN, len(data), SIGNATURE, len(signature))

    def derive(
        self,
        state: int,
        *attributes: Attr,
        obj_type: int = gp.TEE_TYPE_GENERIC_SECRET,
        bits: int = 4096,
    ) -> bytes:
        """A derived key."""
        derived = self.alloc(obj_type, bits)
        try:
            attrs = self.put_attributes(*attributes)
            self.must(abi.TEE_SCN_CRYP_DERIVE_KEY, state, *attrs, derived)
            return self.attribute(derived, gp.TEE_ATTR_SECRET_VALUE)
        finally:
            self.must(abi.TEE_SCN_CRYP_OBJ_CLOSE, derived)
