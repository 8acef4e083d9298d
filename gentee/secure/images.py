# SPDX-License-Identifier: BSD-2-Clause
"""Signed images of trusted services: what OP-TEE checks, in its order, with its codes.

optee_os core/kernel/ree_fs_ta.c and core/crypto/signed_hdr.c. The signature of the header is looked
at before anything that the header says is acted on, and the payload is handed out only after its
digest holds. Versions are for :class:`gentee.secure.state.State` to compare.
"""

import hashlib

from gentee.abi.gp import TEE_ERROR_NOT_SUPPORTED, TEE_ERROR_OUT_OF_MEMORY
from gentee.abi.shdr import (
    SHDR_BOOTSTRAP_TA,
    SHDR_ENCRYPTED_TA,
    SHDR_SUBKEY,
    SHDR_TA,
    SIGNATURE_ALGORITHMS,
    TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256,
    Shdr,
    ShdrBootstrapTa,
    ShdrError,
    img_type_name,
)
from gentee.errors import TaImageError
from gentee.secure.keys import AcceptedKeys, PublicKey, sign_digest
from gentee.secure.store import format_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

MAX_IMAGE = 16 << 20  # bytes, as TEE_IOC_LOAD_TS takes; a board has less for a TA


class Image:
    """An image whose signature and digest hold.

    ``uuid`` is None and ``version`` 0 in the legacy form, whose header has neither.
    """

    __slots__ = ("img_type", "payload", "shdr", "signer", "uuid", "version")

    def __init__(
        self,
        shdr: Shdr,
        bootstrap: ShdrBootstrapTa | None,
        signer: PublicKey,
        payload: bytes,
    ) -> None:
        self.shdr = shdr
        self.img_type = shdr.img_type
        self.uuid = bootstrap.uuid if bootstrap is not None else None
        self.version = bootstrap.ta_version if bootstrap is not None else 0
        self.signer = signer
        self.payload = payload


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
    if shdr.img_type in (SHDR_SUBKEY, SHDR_ENCRYPTED_TA):
        what = "signed by a subkey" if shdr.img_type == SHDR_SUBKEY else "encrypted"
        raise TaImageError(f"an image that is {what} is not supported yet", TEE_ERROR_NOT_SUPPORTED)
    if shdr.img_type not in (SHDR_TA, SHDR_BOOTSTRAP_TA):
        raise TaImageError(f"img_type {shdr.img_type} is unknown")
    digest = hashlib.new(SIGNATURE_ALGORITHMS[shdr.algo].digest, shdr.fixed)
    bootstrap: ShdrBootstrapTa | None = None
    if shdr.img_type == SHDR_BOOTSTRAP_TA:
        bootstrap = ShdrBootstrapTa.parse(data, offset)
        if uuid is not None and bootstrap.uuid != uuid:
            found, wanted = format_uuid(bootstrap.uuid), format_uuid(uuid)
            raise TaImageError(f"the header's UUID is {found}, not {wanted}")
        digest.update(bootstrap.build())
        offset += bootstrap.size
    if len(data) - offset != shdr.img_size:
        raise TaImageError(f"img_size {shdr.img_size} is not the {len(data) - offset} that follow")
    payload = data[offset:]
    digest.update(payload)
    if digest.digest() != shdr.hash:  # public on both sides: nothing to keep from a clock
        raise TaImageError("the digest is another: header or payload are damaged")
    return Image(shdr, bootstrap, signer, payload)


def sign(
    payload: bytes,
    key: "RSAPrivateKey",
    uuid: bytes,
    version: int,
    algo: int = TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256,
) -> bytes:
    """``payload`` in the bootstrap form: scripts/sign_encrypt.py sign-enc.

    :raises ShdrError: a value does not fit its field.
    """
    algorithm = SIGNATURE_ALGORITHMS[algo]
    blank = Shdr(
        SHDR_BOOTSTRAP_TA,
        len(payload),
        algo,
        bytes(algorithm.digest_size),
        bytes((key.key_size + 7) // 8),
    )
    bootstrap = ShdrBootstrapTa(uuid, version).build()
    digest = hashlib.new(algorithm.digest, blank.fixed + bootstrap + payload).digest()
    signature = sign_digest(key, algorithm, digest)
    shdr = Shdr(SHDR_BOOTSTRAP_TA, len(payload), algo, digest, signature)
    return shdr.build() + bootstrap + payload


def form(img_type: int) -> str:
    """The form of an image in a word: legacy, bootstrap, encrypted, subkey."""
    names = {
        SHDR_TA: "legacy",
        SHDR_BOOTSTRAP_TA: "bootstrap",
        SHDR_ENCRYPTED_TA: "encrypted",
        SHDR_SUBKEY: "subkey",
    }
    return names.get(img_type) or img_type_name(img_type)
