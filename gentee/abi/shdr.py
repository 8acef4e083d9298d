# SPDX-License-Identifier: BSD-2-Clause
"""Signed header of trusted applications: optee_os core/include/signed_hdr.h, 4.10.

::

    legacy     shdr hash sig                                                   image
    bootstrap  shdr hash sig  shdr_bootstrap_ta                                image
    encrypted  shdr hash sig  shdr_bootstrap_ta  shdr_encrypted_ta iv tag      image
    subkey     shdr hash sig  shdr_subkey attrs   name[name_size]   and another header

Integers are little-endian and not padded; a UUID is its 16 octets as RFC 4122 writes them. What is
read here is only measured: a structure that does not fit is a :class:`ShdrError`, and so is a field
for which :meth:`Shdr.check` knows no meaning. Whether a signature or digest holds is for
:mod:`gentee.secure.images` to say.
"""

from struct import Struct

SHDR_MAGIC = 0x4F545348

# enum shdr_img_type
SHDR_TA = 0
SHDR_BOOTSTRAP_TA = 1
SHDR_ENCRYPTED_TA = 2
SHDR_SUBKEY = 3

# enum shdr_enc_key_type
SHDR_ENC_KEY_TYPE_MASK = 0x1
SHDR_ENC_KEY_DEV_SPECIFIC = 0
SHDR_ENC_KEY_CLASS_WIDE = 1

STRUCT_SHDR = Struct("<IIIIHH")  # magic img_type img_size algo hash_size sig_size
STRUCT_SHDR_BOOTSTRAP_TA = Struct("<16sI")  # uuid ta_version
STRUCT_SHDR_ENCRYPTED_TA = Struct("<IIHH")  # enc_algo flags iv_size tag_size
STRUCT_SHDR_SUBKEY = Struct("<16sIIIII")  # uuid name_size subkey_version max_depth algo attr_count
STRUCT_SHDR_SUBKEY_ATTR = Struct("<III")  # id offs size

# TEE Internal Core API 1.3.1 section 6.11.1: what a header can be signed by. OP-TEE goes by the
# parts of the number: RSA, and any digest of 256 bits or more (is_weak_hash_algo).
TEE_ALG_RSASSA_PKCS1_V1_5_SHA256 = 0x70004830
TEE_ALG_RSASSA_PKCS1_V1_5_SHA384 = 0x70005830
TEE_ALG_RSASSA_PKCS1_V1_5_SHA512 = 0x70006830
TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256 = 0x70414930
TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA384 = 0x70515930
TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA512 = 0x70616930
TEE_ALG_AES_GCM = 0x40000810

TEE_ATTR_RSA_MODULUS = 0xD0000130
TEE_ATTR_RSA_PUBLIC_EXPONENT = 0xD0000230
RSA_ATTRS = (TEE_ATTR_RSA_MODULUS, TEE_ATTR_RSA_PUBLIC_EXPONENT)  # what a subkey must have

TEE_MAIN_ALGO_RSA = 0x30

U32_MAX = 0xFFFF_FFFF
U16_MAX = 0xFFFF

# scripts/sign_encrypt.py: what it makes, and all that the core takes.
ENC_IV_SIZE = 12
ENC_TAG_SIZE = 16

SUBKEY_ATTRS_MAX = 16  # our own limit; an RSA key has two

_IMG_TYPE_NAMES = {
    SHDR_TA: "SHDR_TA",
    SHDR_BOOTSTRAP_TA: "SHDR_BOOTSTRAP_TA",
    SHDR_ENCRYPTED_TA: "SHDR_ENCRYPTED_TA",
    SHDR_SUBKEY: "SHDR_SUBKEY",
}


class SignatureAlgorithm:
    """A signature algorithm: its TEE_ALG name, its digest by hashlib's name, and the padding."""

    __slots__ = ("digest", "digest_size", "name", "number", "pss")

    def __init__(self, number: int, name: str, digest: str, digest_size: int, pss: bool) -> None:
        self.number = number
        self.name = name
        self.digest = digest
        self.digest_size = digest_size
        self.pss = pss


def _algorithms() -> dict[int, SignatureAlgorithm]:
    found = {}
    for name, number in globals().items():
        if name.startswith("TEE_ALG_RSASSA_"):
            bits = int(name[-3:])
            pss = "_PSS_" in name
            found[number] = SignatureAlgorithm(number, name, f"sha{bits}", bits // 8, pss)
    return found


SIGNATURE_ALGORITHMS: dict[int, SignatureAlgorithm] = _algorithms()


class ShdrError(ValueError):
    """A header that is none; the text says which field, and what is wrong with it."""


def img_type_name(img_type: int) -> str:
    """An image type by its name, such as ``SHDR_BOOTSTRAP_TA``, or its number."""
    return _IMG_TYPE_NAMES.get(img_type) or str(img_type)


def algorithm_name(algo: int) -> str:
    """A signature or encryption algorithm by its name, or in hexadecimal."""
    known = SIGNATURE_ALGORITHMS.get(algo)
    if known is not None:
        return known.name
    return "TEE_ALG_AES_GCM" if algo == TEE_ALG_AES_GCM else f"0x{algo:08x}"


def _need(data: bytes, offset: int, size: int, what: str) -> int:
    """The end of ``size`` bytes at ``offset``, which must be there."""
    end = offset + size
    if offset < 0 or end > len(data):
        left = max(0, len(data) - offset)
        raise ShdrError(f"{what} takes {size} bytes, {left} are left")
    return end


def _fits(value: int, most: int, what: str) -> int:
    if not 0 <= value <= most:
        raise ShdrError(f"{what} {value} does not fit its field")
    return value


class Shdr:
    """struct shdr with the hash and the signature that follow it."""

    __slots__ = ("algo", "hash", "img_size", "img_type", "magic", "sig")

    def __init__(
        self,
        img_type: int,
        img_size: int,
        algo: int,
        hash_: bytes,
        sig: bytes,
        magic: int = SHDR_MAGIC,
    ) -> None:
        self.magic = _fits(magic, U32_MAX, "magic")
        self.img_type = _fits(img_type, U32_MAX, "img_type")
        self.img_size = _fits(img_size, U32_MAX, "img_size")
        self.algo = _fits(algo, U32_MAX, "algo")
        self.hash = hash_
        self.sig = sig
        _fits(len(hash_), U16_MAX, "hash_size")
        _fits(len(sig), U16_MAX, "sig_size")

    @classmethod
    def parse(cls, data: bytes, offset: int = 0) -> "Shdr":
        """The header at ``offset``; the lengths that it says must be there, nothing else is asked.

        :raises ShdrError: it does not fit.
        """
        start = _need(data, offset, STRUCT_SHDR.size, "struct shdr")
        magic, img_type, img_size, algo, hash_size, sig_size = STRUCT_SHDR.unpack_from(data, offset)
        middle = _need(data, start, hash_size, "hash")
        end = _need(data, middle, sig_size, "signature")
        return cls(img_type, img_size, algo, data[start:middle], data[middle:end], magic)

    @property
    def fixed(self) -> bytes:
        """struct shdr itself, the part of the header that its own hash covers."""
        return STRUCT_SHDR.pack(
            self.magic, self.img_type, self.img_size, self.algo, len(self.hash), len(self.sig)
        )

    @property
    def size(self) -> int:
        """Bytes with hash and signature: SHDR_GET_SIZE()."""
        return STRUCT_SHDR.size + len(self.hash) + len(self.sig)

    def build(self) -> bytes:
        """The bytes that :meth:`parse` reads."""
        return self.fixed + self.hash + self.sig

    def check(self) -> SignatureAlgorithm:
        """The algorithm, where all that can be said without a key is in order.

        The checks of shdr_verify_signature(), in its order.

        :raises ShdrError: for the first field that is wrong.
        """
        if self.magic != SHDR_MAGIC:
            raise ShdrError(f"magic 0x{self.magic:08x} is not 0x{SHDR_MAGIC:08x}")
        if self.algo & 0xFF != TEE_MAIN_ALGO_RSA:
            raise ShdrError(f"algo 0x{self.algo:08x} is no RSA signature")
        algorithm = SIGNATURE_ALGORITHMS.get(self.algo)
        if algorithm is None:
            raise ShdrError(f"algo 0x{self.algo:08x} is unknown, or its digest too weak")
        if len(self.hash) != algorithm.digest_size:
            raise ShdrError(
                f"hash_size {len(self.hash)} is not the {algorithm.digest_size} of {algorithm.name}"
            )
        return algorithm


class ShdrBootstrapTa:
    """struct shdr_bootstrap_ta."""

    __slots__ = ("ta_version", "uuid")

    size = STRUCT_SHDR_BOOTSTRAP_TA.size

    def __init__(self, uuid: bytes, ta_version: int) -> None:
        if len(uuid) != 16:
            raise ShdrError(f"a UUID has 16 bytes, not {len(uuid)}")
        self.uuid = uuid
        self.ta_version = _fits(ta_version, U32_MAX, "ta_version")

    @classmethod
    def parse(cls, data: bytes, offset: int) -> "ShdrBootstrapTa":
        """The structure at ``offset``."""
        _need(data, offset, cls.size, "struct shdr_bootstrap_ta")
        return cls(*STRUCT_SHDR_BOOTSTRAP_TA.unpack_from(data, offset))

    def build(self) -> bytes:
        """The bytes that :meth:`parse` reads."""
        return STRUCT_SHDR_BOOTSTRAP_TA.pack(self.uuid, self.ta_version)


class ShdrEncryptedTa:
    """struct shdr_encrypted_ta with the initialization vector and the tag that follow it."""

    __slots__ = ("enc_algo", "flags", "iv", "tag")

    def __init__(self, enc_algo: int, flags: int, iv: bytes, tag: bytes) -> None:
        self.enc_algo = _fits(enc_algo, U32_MAX, "enc_algo")
        self.flags = _fits(flags, U32_MAX, "flags")
        self.iv = iv
        self.tag = tag
        _fits(len(iv), U16_MAX, "iv_size")
        _fits(len(tag), U16_MAX, "tag_size")

    @classmethod
    def parse(cls, data: bytes, offset: int) -> "ShdrEncryptedTa":
        """The structure at ``offset``; the lengths that it says must be there."""
        start = _need(data, offset, STRUCT_SHDR_ENCRYPTED_TA.size, "struct shdr_encrypted_ta")
        enc_algo, flags, iv_size, tag_size = STRUCT_SHDR_ENCRYPTED_TA.unpack_from(data, offset)
        middle = _need(data, start, iv_size, "initialization vector")
        end = _need(data, middle, tag_size, "tag")
        return cls(enc_algo, flags, data[start:middle], data[middle:end])

    @property
    def size(self) -> int:
        """Bytes with vector and tag: SHDR_ENC_GET_SIZE()."""
        return STRUCT_SHDR_ENCRYPTED_TA.size + len(self.iv) + len(self.tag)

    def build(self) -> bytes:
        """The bytes that :meth:`parse` reads."""
        fixed = STRUCT_SHDR_ENCRYPTED_TA.pack(
            self.enc_algo, self.flags, len(self.iv), len(self.tag)
        )
        return fixed + self.iv + self.tag

    def check(self) -> None:
        """:raises ShdrError: for the first field that tee_ta_decrypt_init() would not take."""
        if self.enc_algo != TEE_ALG_AES_GCM:
            raise ShdrError(f"enc_algo 0x{self.enc_algo:08x} is not TEE_ALG_AES_GCM")
        if self.flags & ~SHDR_ENC_KEY_TYPE_MASK:
            raise ShdrError(f"flags 0x{self.flags:x} are unknown")
        if len(self.iv) != ENC_IV_SIZE:
            raise ShdrError(f"iv_size {len(self.iv)} is not {ENC_IV_SIZE}")
        if len(self.tag) != ENC_TAG_SIZE:
            raise ShdrError(f"tag_size {len(self.tag)} is not {ENC_TAG_SIZE}")


class ShdrSubkey:
    """struct shdr_subkey, the image of a header of type SHDR_SUBKEY.

    ``attrs`` has the value of each attribute by its id.
    """

    __slots__ = ("algo", "attrs", "max_depth", "name_size", "subkey_version", "uuid")

    def __init__(
        self,
        uuid: bytes,
        name_size: int,
        subkey_version: int,
        max_depth: int,
        algo: int,
        attrs: dict[int, bytes],
    ) -> None:
        if len(uuid) != 16:
            raise ShdrError(f"a UUID has 16 bytes, not {len(uuid)}")
        self.uuid = uuid
        self.name_size = _fits(name_size, U32_MAX, "name_size")
        self.subkey_version = _fits(subkey_version, U32_MAX, "subkey_version")
        self.max_depth = _fits(max_depth, U32_MAX, "max_depth")
        self.algo = _fits(algo, U32_MAX, "algo")
        self.attrs = attrs

    @classmethod
    def parse(cls, image: bytes) -> "ShdrSubkey":
        """The structure that ``image``, exactly img_size bytes, starts with: check_attrs()."""
        offset = _need(image, 0, STRUCT_SHDR_SUBKEY.size, "struct shdr_subkey")
        uuid, name_size, version, depth, algo, attr_count = STRUCT_SHDR_SUBKEY.unpack_from(image)
        if attr_count > SUBKEY_ATTRS_MAX:
            raise ShdrError(f"attr_count {attr_count} is more than {SUBKEY_ATTRS_MAX}")
        end = _need(image, offset, attr_count * STRUCT_SHDR_SUBKEY_ATTR.size, "attributes")
        attrs: dict[int, bytes] = {}
        for attr_id, offs, size in STRUCT_SHDR_SUBKEY_ATTR.iter_unpack(image[offset:end]):
            stop = _need(image, offs, size, f"attribute 0x{attr_id:08x}")
            attrs.setdefault(attr_id, image[offs:stop])  # find_attr() takes the first
        return cls(uuid, name_size, version, depth, algo, attrs)

    def build(self) -> bytes:
        """An image that :meth:`parse` reads, laid out as scripts/sign_encrypt.py does."""
        offs = STRUCT_SHDR_SUBKEY.size + len(self.attrs) * STRUCT_SHDR_SUBKEY_ATTR.size
        table = b""
        for attr_id, value in self.attrs.items():
            table += STRUCT_SHDR_SUBKEY_ATTR.pack(attr_id, offs, len(value))
            offs += len(value)
        fixed = STRUCT_SHDR_SUBKEY.pack(
            self.uuid,
            self.name_size,
            self.subkey_version,
            self.max_depth,
            self.algo,
            len(self.attrs),
        )
        return fixed + table + b"".join(self.attrs.values())
