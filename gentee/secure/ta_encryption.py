# SPDX-License-Identifier: BSD-2-Clause
"""Encrypted images of TAs: AES-GCM with 256 bits, by a key of the device or of its class.

optee_os core/tee/tee_ta_enc_manager.c. The default key is the one that core/kernel/otp_stubs.c
derives on a board without a hardware unique key of its own, from 16 bytes of zeros and the modulus
of the root key; everybody can. scripts/sign_encrypt.py takes a key by ``--enc-key``.
"""

import os

from gentee.abi.gp import TEE_ERROR_NOT_IMPLEMENTED
from gentee.abi.shdr import (
    ENC_IV_SIZE,
    ENC_TAG_SIZE,
    SHDR_ENC_KEY_CLASS_WIDE,
    SHDR_ENC_KEY_DEV_SPECIFIC,
    SHDR_ENC_KEY_TYPE_MASK,
    TEE_ALG_AES_GCM,
    ShdrEncryptedTa,
)
from gentee.errors import TaImageError, UserError
from gentee.secure.huk import DEVELOPMENT_HUK, HUK_SUBKEY_TA_ENC, huk_subkey_derive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

KEY_SIZE = 32  # bytes: TEE_TA_ENC_KEY_SIZE

_MAX_FILE = 1024  # bytes of a file with a key


class EncryptionKeys:
    """The keys of a TEE that images may be encrypted with. Files are read at the first need.

    :param device: a file with the device's own key; empty for OP-TEE's default.
    :param class_wide: a file with the key of all devices of a class; empty for the device's own, as
        OP-TEE's default implementation takes one key for both.
    :param huk: the TEE's hardware unique key, from which the default follows.
    """

    def __init__(
        self, device: str = "", class_wide: str = "", *, huk: bytes = DEVELOPMENT_HUK
    ) -> None:
        self.device = device
        self.class_wide = class_wide
        self.huk = huk

    def check_files(self) -> None:
        """Read them: UserError for one that holds no key."""
        for path in (self.device, self.class_wide):
            if path:
                load_key(path)

    def key(self, flags: int, root: "RSAPublicKey") -> bytes:
        """The key for an image with these ``flags``, whose first header ``root`` signed.

        :raises TaImageError: the file of the key has none.
        """
        is_class_wide = flags & SHDR_ENC_KEY_TYPE_MASK == SHDR_ENC_KEY_CLASS_WIDE
        path = (self.class_wide if is_class_wide else "") or self.device
        if not path:
            return default_key(root, self.huk)
        try:
            return load_key(path)
        except UserError as error:
            raise TaImageError(error.message) from error


def default_key(root: "RSAPublicKey", huk: bytes = DEVELOPMENT_HUK) -> bytes:
    """OP-TEE's default: it follows from the hardware unique key and the root key's modulus."""
    modulus = root.public_numbers().n.to_bytes((root.key_size + 7) // 8, "big")
    return huk_subkey_derive(HUK_SUBKEY_TA_ENC, modulus, KEY_SIZE, huk)


def load_key(path: str) -> bytes:
    """The key in a file: 32 bytes, or 64 hexadecimal digits as ``--enc-key`` takes them.

    :raises UserError: there is none.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "it should be a key for AES-256") from error
    if len(data) == KEY_SIZE:
        return data
    text = data.strip()
    try:
        if len(text) == 2 * KEY_SIZE:
            return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        pass
    raise UserError(
        f"{path}: no key for AES-256", "it has 64 hexadecimal digits, or 32 bytes and nothing else"
    )


def check(encrypted: ShdrEncryptedTa) -> None:
    """What can be said of the header without a key: tee_ta_decrypt_init().

    :raises ShdrError: a field is wrong.
    :raises TaImageError: another algorithm, TEE_ERROR_NOT_IMPLEMENTED.
    """
    if encrypted.enc_algo != TEE_ALG_AES_GCM:
        raise TaImageError(
            f"enc_algo 0x{encrypted.enc_algo:08x} is not TEE_ALG_AES_GCM", TEE_ERROR_NOT_IMPLEMENTED
        )
    encrypted.check()


def decrypt(encrypted: ShdrEncryptedTa, key: bytes, data: bytes) -> bytes:
    """The plain text of ``data``.

    :raises TaImageError: the tag does not hold, TEE_ERROR_SECURITY.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(encrypted.iv, data + encrypted.tag, None)
    except InvalidTag:
        raise TaImageError("cannot be decrypted: encrypted with another key, or damaged") from None


def encrypt(
    payload: bytes, key: bytes, *, class_wide: bool = False
) -> tuple[ShdrEncryptedTa, bytes]:
    """The header and the cipher text of ``payload``, with a fresh initialization vector."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    iv = os.urandom(ENC_IV_SIZE)
    sealed = AESGCM(key).encrypt(iv, payload, None)
    flags = SHDR_ENC_KEY_CLASS_WIDE if class_wide else SHDR_ENC_KEY_DEV_SPECIFIC
    tag = sealed[-ENC_TAG_SIZE:]
    return ShdrEncryptedTa(TEE_ALG_AES_GCM, flags, iv, tag), sealed[:-ENC_TAG_SIZE]
