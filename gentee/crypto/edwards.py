# SPDX-License-Identifier: BSD-2-Clause
"""Ed25519: ``core/lib/libtomcrypt/ed25519.c`` of OP-TEE, down to its codes.

Without context and prehash it is pyca/cryptography's, else :mod:`gentee.crypto.own.ed25519`. Both
are stricter than libtomcrypt: the second half of a signature must be below the order of the base
point, as RFC 8032 wants, and the public key in a signature is that of the private key, whatever the
object says.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519

from gentee.abi import gp_crypto as gp
from gentee.crypto.own import ed25519 as own
from gentee.errors import BadParameters, ShortBuffer, SignatureInvalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.crypto.objects import CryptObject

SIGNATURE_SIZE = 64
MAX_CONTEXT_SIZE = 255  # TEE_ED25519_CTX_MAX_LENGTH


def sign(
    key: "CryptObject", data: bytes | None, room: int, prehash: bool = False, context: bytes = b""
) -> bytes:
    """``crypto_acipher_ed25519_sign()`` and ``crypto_acipher_ed25519ctx_sign()``.

    :raises ShortBuffer: there is no room for the signature.
    :raises BadParameters: there is no message, or the key has no private value.
    """
    if room < SIGNATURE_SIZE:
        raise ShortBuffer(f"{room} bytes for {SIGNATURE_SIZE}", size=SIGNATURE_SIZE)
    if data is None:
        raise BadParameters("no message")
    if key.obj_type != gp.TEE_TYPE_ED25519_KEYPAIR:
        raise BadParameters("a signature with a public key")
    if prehash or context:
        private = key.octets(gp.TEE_ATTR_ED25519_PRIVATE_VALUE)
        return own.sign(private, data, prehash, context)
    prepared = key.prepared
    if not isinstance(prepared, ed25519.Ed25519PrivateKey):
        prepared = key.prepared = ed25519.Ed25519PrivateKey.from_private_bytes(
            key.octets(gp.TEE_ATTR_ED25519_PRIVATE_VALUE)
        )
    return prepared.sign(data)


def verify(
    key: "CryptObject",
    data: bytes | None,
    signature: bytes,
    prehash: bool = False,
    context: bytes = b"",
) -> None:
    """``crypto_acipher_ed25519_verify()`` and ``crypto_acipher_ed25519ctx_verify()``.

    :raises BadParameters: there is no message, the signature has another size than all have, or
        the key is none.
    :raises SignatureInvalid: the signature is not that of the message.
    """
    if data is None or len(signature) != SIGNATURE_SIZE:
        raise BadParameters(f"{len(signature)} bytes of a signature, or no message")
    public = key.octets(gp.TEE_ATTR_ED25519_PUBLIC_VALUE)
    if prehash or context:
        is_valid = own.is_valid(public, data, signature, prehash, context)
    else:
        prepared = key.prepared
        if not isinstance(prepared, ed25519.Ed25519PublicKey):
            prepared = key.prepared = ed25519.Ed25519PublicKey.from_public_bytes(public)
        try:
            prepared.verify(signature, data)
            is_valid = True
        except InvalidSignature:
            is_valid = False
    if not is_valid:
        if own.decode(public) is None:
            raise BadParameters("a public key that is no point")
        raise SignatureInvalid("not the signature of this message")
