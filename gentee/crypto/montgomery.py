# SPDX-License-Identifier: BSD-2-Clause
"""X25519 and X448: ``core/lib/libtomcrypt/x25519.c`` of OP-TEE, down to its codes.

All of it is pyca/cryptography's. OP-TEE has the calls for X448 and no library behind them; here
they work as those of X25519 do.
"""

from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from gentee.abi import gp_crypto as gp
from gentee.errors import BadParameters, SecurityError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.crypto.objects import CryptObject

X25519_SIZE = 32
X448_SIZE = 56


def x25519(key: "CryptObject", public: bytes, room: int) -> bytes:
    """``crypto_acipher_x25519_shared_secret()`` with the public key of the other, 32 bytes.

    :raises BadParameters: there is no room for the secret.
    :raises SecurityError: the secret is 0, as it is with a public key of low order.
    """
    if room < X25519_SIZE:
        raise BadParameters(f"{room} bytes for {X25519_SIZE}")
    prepared = key.prepared
    if not isinstance(prepared, X25519PrivateKey):
        prepared = key.prepared = X25519PrivateKey.from_private_bytes(
            key.octets(gp.TEE_ATTR_X25519_PRIVATE_VALUE) or bytes(X25519_SIZE)
        )
    try:
        return prepared.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise SecurityError("a shared secret of 0") from None


def x448(key: "CryptObject", public: bytes, room: int) -> bytes:
    """``crypto_acipher_x448_shared_secret()`` with the public key of the other, 56 bytes.

    :raises BadParameters: there is no room for the secret.
    :raises SecurityError: the secret is 0, as it is with a public key of low order.
    """
    if room < X448_SIZE:
        raise BadParameters(f"{room} bytes for {X448_SIZE}")
    prepared = key.prepared
    if not isinstance(prepared, X448PrivateKey):
        prepared = key.prepared = X448PrivateKey.from_private_bytes(
            key.octets(gp.TEE_ATTR_X448_PRIVATE_VALUE) or bytes(X448_SIZE)
        )
    try:
        return prepared.exchange(X448PublicKey.from_public_bytes(public))
    except ValueError:
        raise SecurityError("a shared secret of 0") from None
