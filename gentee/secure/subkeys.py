# SPDX-License-Identifier: BSD-2-Clause
"""Subkeys: keys that a signed header hands on to whoever signs the next one.

optee_os core/crypto/signed_hdr.c and scripts/sign_encrypt.py. A subkey has a UUID, which is a
namespace: what it signs has a UUID that follows from its own and from a name, or its own UUID where
there is no room for a name (an identity subkey). ``max_depth`` bounds how many may follow.
"""

import hashlib

from gentee.abi.shdr import (
    RSA_ATTRS,
    SHDR_SUBKEY,
    SIGNATURE_ALGORITHMS,
    STRUCT_SHDR_SUBKEY,
    TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256,
    TEE_MAIN_ALGO_RSA,
    U32_MAX,
    Shdr,
    ShdrError,
    ShdrSubkey,
)
from gentee.errors import TaImageError
from gentee.secure.keys import PublicKey, rsa_public_key, sign_digest
from gentee.secure.service import format_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

MAX_NAME = 64 << 10  # bytes of a name in a file to sign with; an image's ends with the image
MAX_SUBKEYS = 16  # in one image: our own limit, each costs the check of a signature

_VERSION_BYTE = 6  # of a UUID's octets: time_hi_and_version begins
_VARIANT_BYTE = 8  # clock_seq_hi_and_reserved


class Subkey:
    """A subkey whose header holds.

    :ivar next_uuid: of the subkey or the TA that it signed.
    :ivar end: where the next header is.
    """

    __slots__ = (
        "end", "key", "max_depth", "name", "name_size", "next_uuid", "uuid", "version",
    )  # fmt: skip

    def __init__(self, subkey: ShdrSubkey, name: bytes, key: PublicKey, end: int) -> None:
        self.uuid = subkey.uuid
        self.version = subkey.subkey_version
        self.max_depth = subkey.max_depth
        self.name_size = subkey.name_size
        self.name = name.partition(b"\0")[0]
        self.next_uuid = next_uuid(subkey.uuid, name)
        self.key = key
        self.end = end


def next_uuid(uuid: bytes, name: bytes) -> bytes:
    """The UUID of what a subkey signed: calc_next_uuid().

    As a UUID of version 5 is made (RFC 4122 section 4.3), with SHA-512 in the place of SHA-1.

    :param name: the whole field, up to whose first NUL the name reaches; empty: no room for one.
    """
    if not name:
        return uuid
    digest = bytearray(hashlib.sha512(uuid + name.partition(b"\0")[0]).digest()[:16])
    digest[_VERSION_BYTE] = digest[_VERSION_BYTE] & 0x0F | 0x50
    digest[_VARIANT_BYTE] = digest[_VARIANT_BYTE] & 0x3F | 0x80
    return bytes(digest)


def read_subkey(
    data: bytes, offset: int, shdr: Shdr, expected: bytes | None, max_depth: int
) -> Subkey:
    """The subkey whose header ``shdr``, of which the signature holds, ends at ``offset``.

    shdr_load_pub_key().

    :param expected: the UUID that it has to have; None for the first.
    :param max_depth: that of the one before.
    :raises TaImageError: it cannot be used, TEE_ERROR_SECURITY.
    :raises ShdrError: a field does not fit.
    """
    if shdr.img_size < STRUCT_SHDR_SUBKEY.size:
        raise ShdrError(f"img_size {shdr.img_size} is too small for a subkey")
    end = offset + shdr.img_size
    if end > len(data):
        raise ShdrError(f"img_size {shdr.img_size} is more than the {len(data) - offset} left")
    image = data[offset:end]
    digest = hashlib.new(SIGNATURE_ALGORITHMS[shdr.algo].digest, shdr.fixed + image).digest()
    if digest != shdr.hash:
        raise TaImageError("the digest of a subkey is another: it is damaged")
    subkey = ShdrSubkey.parse(image)
    if subkey.max_depth >= max_depth:
        raise TaImageError(
            f"a subkey's max_depth {subkey.max_depth} is not less than the {max_depth} before"
        )
    if expected is not None and subkey.uuid != expected:
        raise TaImageError(_not_expected("a subkey's", subkey.uuid, expected))
    after = end + subkey.name_size
    if after > len(data):
        raise ShdrError(f"name_size {subkey.name_size} is more than the {len(data) - end} left")
    if subkey.algo & 0xFF != TEE_MAIN_ALGO_RSA:
        raise ShdrError(f"a subkey's algo 0x{subkey.algo:08x} is no RSA signature")
    key = PublicKey(f"subkey {format_uuid(subkey.uuid)}", _key(subkey))
    return Subkey(subkey, data[end:after], key, after)


def unverified_chain(data: bytes) -> list[Subkey]:
    """The subkeys of a file that has nothing else, without the name that is to follow the last.

    For whoever signs with the last of them: the signature of the first is not looked at.

    :raises TaImageError: the file is none.
    :raises ShdrError: a field does not fit.
    """
    found: list[Subkey] = []
    offset, end = 0, len(data)
    while offset < end:
        shdr = Shdr.parse(data, offset)
        shdr.check()
        if shdr.img_type != SHDR_SUBKEY or len(found) == MAX_SUBKEYS:
            raise TaImageError("something else than subkeys")
        start = offset + shdr.size
        before = found[-1] if found else None
        if start + shdr.img_size == end:  # the last: the name is still to come
            name_size = ShdrSubkey.parse(data[start:end]).name_size
            if name_size > MAX_NAME:
                raise ShdrError(f"name_size {name_size} is more than {MAX_NAME}")
            data += bytes(name_size)
        if before is None:
            subkey = read_subkey(data, start, shdr, None, U32_MAX)
        else:
            subkey = read_subkey(data, start, shdr, before.next_uuid, before.max_depth)
        found.append(subkey)
        offset = subkey.end
    if not found:
        raise TaImageError("an empty file")
    return found


def check_uuid(subkey: Subkey, uuid: bytes) -> None:
    """Whether a TA of this UUID is what ``subkey`` may sign; TaImageError otherwise."""
    if uuid != subkey.next_uuid:
        raise TaImageError(_not_expected("the TA's", uuid, subkey.next_uuid))


def _not_expected(whose: str, uuid: bytes, expected: bytes) -> str:
    return f"{whose} UUID is {format_uuid(uuid)}, not the subkey's {format_uuid(expected)}"


def _key(subkey: ShdrSubkey) -> "RSAPublicKey":
    """load_rsa_key(). A key of fewer bits than a root key may have is refused here."""
    try:
        modulus, exponent = (subkey.attrs[attr] for attr in RSA_ATTRS)
    except KeyError as error:
        raise ShdrError(f"a subkey without attribute 0x{error.args[0]:08x}") from None
    try:
        return rsa_public_key(modulus, exponent)
    except ValueError as error:
        raise TaImageError(f"a subkey's key cannot be used: {error}") from None


def sign_subkey(
    key: "RSAPrivateKey",
    public: "RSAPublicKey",
    uuid: bytes,
    *,
    version: int = 0,
    max_depth: int = 0,
    name_size: int = 0,
    algo: int = TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256,
) -> bytes:
    """The subkey ``public`` signed by ``key``: scripts/sign_encrypt.py sign-subkey.

    What follows it is a name of ``name_size`` bytes and another header.

    :raises ShdrError: a value does not fit its field.
    """
    numbers = public.public_numbers()
    values = (numbers.n, numbers.e)
    attrs = {
        attr: value.to_bytes((value.bit_length() + 7) // 8, "big")
        for attr, value in zip(RSA_ATTRS, values, strict=True)
    }
    image = ShdrSubkey(uuid, name_size, version, max_depth, algo, attrs).build()
    algorithm = SIGNATURE_ALGORITHMS[algo]
    size = (key.key_size + 7) // 8
    blank = Shdr(SHDR_SUBKEY, len(image), algo, bytes(algorithm.digest_size), bytes(size))
    digest = hashlib.new(algorithm.digest, blank.fixed + image).digest()
    signature = sign_digest(key, algorithm, digest)
    return Shdr(SHDR_SUBKEY, len(image), algo, digest, signature).build() + image
