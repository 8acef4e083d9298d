# SPDX-License-Identifier: BSD-2-Clause
"""Signed images of trusted services: what OP-TEE checks, in its order, with its codes.

optee_os core/kernel/ree_fs_ta.c and core/crypto/signed_hdr.c. The signature of the header is looked
at before anything that the header says is acted on, and the payload is handed out only after its
digest holds. Versions, those of subkeys too, are for :class:`gentee.secure.state.State` to compare:
OP-TEE does so as soon as a subkey is read, gentee when all else holds and the image is to be used.
"""

import hashlib

from gentee.abi.gp import TEE_ERROR_OUT_OF_MEMORY
from gentee.abi.shdr import (
    SHDR_BOOTSTRAP_TA,
    SHDR_ENCRYPTED_TA,
    SHDR_SUBKEY,
    SHDR_TA,
    SIGNATURE_ALGORITHMS,
    TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256,
    U32_MAX,
    Shdr,
    ShdrBootstrapTa,
    ShdrEncryptedTa,
    ShdrError,
    img_type_name,
)
from gentee.errors import TaImageError
from gentee.secure import ta_encryption
from gentee.secure.keys import AcceptedKeys, PublicKey, sign_digest, verify_by
from gentee.secure.service import format_uuid
from gentee.secure.subkeys import MAX_SUBKEYS, Subkey, check_uuid, read_subkey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

MAX_IMAGE = 16 << 20  # bytes, as TEE_IOC_LOAD_TS takes; a board has less for a TA


class Image:
    """An image whose signature and digest hold.

    :ivar uuid: None in the legacy form, whose header has none, unless a subkey says it.
    :ivar version: of the TA; 0 in the legacy form, whose header has none.
    :ivar signer: the accepted key that signed the first header.
    :ivar subkeys: in their order; the last one signed the TA.
    :ivar payload: what the image has inside, decrypted.
    """

    __slots__ = ("img_type", "payload", "shdr", "signer", "subkeys", "uuid", "version")

    def __init__(
        self,
        shdr: Shdr,
        bootstrap: ShdrBootstrapTa | None,
        signer: PublicKey,
        subkeys: list[Subkey],
        payload: bytes,
    ) -> None:
        self.shdr = shdr
        self.img_type = shdr.img_type
        self.uuid = subkeys[-1].next_uuid if subkeys else None
        self.version = 0
        if bootstrap is not None:
            self.uuid = bootstrap.uuid
            self.version = bootstrap.ta_version
        self.signer = signer
        self.subkeys = tuple(subkeys)
        self.payload = payload

    @property
    def subkey_versions(self) -> tuple[tuple[bytes, int], ...]:
        """UUID and version of each subkey."""
        return tuple((subkey.uuid, subkey.version) for subkey in self.subkeys)


def verify(data: bytes, keys: AcceptedKeys, uuid: bytes | None = None) -> Image:
    """The image that ``data`` is.

    :param uuid: which service it has to be, where that is known: by the name of its file.
    :raises TaImageError: it is not, with the code that a client gets.
    """
    if len(data) > MAX_IMAGE:
        raise TaImageError(f"larger than {MAX_IMAGE} bytes", TEE_ERROR_OUT_OF_MEMORY)
    try:
        return _verify(data, keys, uuid)
    except ShdrError as error:
        raise TaImageError(str(error)) from None


def _verify(data: bytes, keys: AcceptedKeys, uuid: bytes | None) -> Image:
    shdr = Shdr.parse(data)
    signer = keys.verify(shdr)
    offset = shdr.size
    subkeys: list[Subkey] = []
    while shdr.img_type == SHDR_SUBKEY:
        if len(subkeys) == MAX_SUBKEYS:
            raise TaImageError(f"more than {MAX_SUBKEYS} subkeys")
        before = subkeys[-1] if subkeys else None
        expected = before.next_uuid if before is not None else None
        max_depth = before.max_depth if before is not None else U32_MAX
        subkey = read_subkey(data, offset, shdr, expected, max_depth)
        subkeys.append(subkey)
        shdr = Shdr.parse(data, subkey.end)
        verify_by(subkey.key, shdr)
        offset = subkey.end + shdr.size
    if shdr.img_type not in (SHDR_TA, SHDR_BOOTSTRAP_TA, SHDR_ENCRYPTED_TA):
        raise TaImageError(f"img_type {shdr.img_type} is unknown")
    if subkeys and uuid is not None:
        check_uuid(subkeys[-1], uuid)
    digest = hashlib.new(SIGNATURE_ALGORITHMS[shdr.algo].digest, shdr.fixed)
    bootstrap: ShdrBootstrapTa | None = None
    encrypted: ShdrEncryptedTa | None = None
    if shdr.img_type != SHDR_TA:
        bootstrap = ShdrBootstrapTa.parse(data, offset)
        if uuid is not None and bootstrap.uuid != uuid:
            found, wanted = format_uuid(bootstrap.uuid), format_uuid(uuid)
            raise TaImageError(f"the header's UUID is {found}, not {wanted}")
        if subkeys:  # nobody said which it has to be, so that the first check did not
            check_uuid(subkeys[-1], bootstrap.uuid)
        digest.update(bootstrap.build())
        offset += bootstrap.size
    if shdr.img_type == SHDR_ENCRYPTED_TA:
        encrypted = ShdrEncryptedTa.parse(data, offset)
        digest.update(encrypted.build())
        offset += encrypted.size
    if len(data) - offset != shdr.img_size:
        raise TaImageError(f"img_size {shdr.img_size} is not the {len(data) - offset} that follow")
    payload = data[offset:]
    if encrypted is not None:
        ta_encryption.check(encrypted)
        key = keys.encryption.key(encrypted.flags, signer.key)
        payload = ta_encryption.decrypt(encrypted, key, payload)
    digest.update(payload)
    if digest.digest() != shdr.hash:  # public on both sides: nothing to keep from a clock
        raise TaImageError("the digest is another: header or payload are damaged")
    return Image(shdr, bootstrap, signer, subkeys, payload)


def sign(
    payload: bytes,
    key: "RSAPrivateKey",
    uuid: bytes,
    version: int,
    algo: int = TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256,
    *,
    enc_key: bytes | None = None,
    class_wide: bool = False,
) -> bytes:
    """``payload`` in the bootstrap or the encrypted form: scripts/sign_encrypt.py sign-enc.

    :param enc_key: what to encrypt it with, 32 bytes; None: not at all.
    :param class_wide: whether that is the key of a class of devices.
    :raises ShdrError: a value does not fit its field.
    """
    subheader = ShdrBootstrapTa(uuid, version).build()
    content = payload
    img_type = SHDR_BOOTSTRAP_TA
    if enc_key is not None:
        img_type = SHDR_ENCRYPTED_TA
        encrypted, content = ta_encryption.encrypt(payload, enc_key, class_wide=class_wide)
        subheader += encrypted.build()
    algorithm = SIGNATURE_ALGORITHMS[algo]
    size = (key.key_size + 7) // 8
    blank = Shdr(img_type, len(payload), algo, bytes(algorithm.digest_size), bytes(size))
    digest = hashlib.new(algorithm.digest, blank.fixed + subheader + payload).digest()
    signature = sign_digest(key, algorithm, digest)
    shdr = Shdr(img_type, len(payload), algo, digest, signature)
    return shdr.build() + subheader + content


def form(img_type: int) -> str:
    """The form of an image in a word: legacy, bootstrap, encrypted, subkey."""
    names = {
        SHDR_TA: "legacy",
        SHDR_BOOTSTRAP_TA: "bootstrap",
        SHDR_ENCRYPTED_TA: "encrypted",
        SHDR_SUBKEY: "subkey",
    }
    return names.get(img_type) or img_type_name(img_type)
