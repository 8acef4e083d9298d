# SPDX-License-Identifier: BSD-2-Clause
"""SM2: ``core/lib/libtomcrypt/sm2-dsa.c``, ``sm2-pke.c`` and ``sm2-kep.c`` of OP-TEE, down to their
codes. :mod:`gentee.crypto.own.sm2` does it.

Public keys that are no point of the curve are refused, also where OP-TEE would compute with them.
"""

from typing import NamedTuple

from gentee.abi import gp_crypto as gp
from gentee.crypto.constant_time import compare_digest
from gentee.crypto.own import sm2 as own
from gentee.crypto.own.curves import SM2, Point
from gentee.errors import (
    BadParameters,
    BadState,
    CiphertextInvalid,
    NotImplementedByTee,
    NotSupported,
    ShortBuffer,
    SignatureInvalid,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.crypto.objects import CryptObject

SIZE = own.SIZE
_POINT_SIZE = 1 + 2 * SIZE
_UNCOMPRESSED = 4
_OTHER_FORMS = (2, 3, 6, 7)  # compressed, and both at once


def _point(key: "CryptObject") -> Point:
    return key.number(gp.TEE_ATTR_ECC_PUBLIC_VALUE_X), key.number(gp.TEE_ATTR_ECC_PUBLIC_VALUE_Y)


def _private(key: "CryptObject") -> int:
    if not key.has(gp.TEE_ATTR_ECC_PRIVATE_VALUE):
        raise BadParameters("a private operation with a public key")
    return key.number(gp.TEE_ATTR_ECC_PRIVATE_VALUE) % SM2.n


def sign(key: "CryptObject", data: bytes, room: int) -> bytes:
    """``sm2_ltc_dsa_sign()``: r and s for a digest of any size.

    :raises ShortBuffer: there is no room for the signature.
    :raises BadState: the private value is one less than the order.
    :raises BadParameters: there is none.
    """
    if room < 2 * SIZE:
        raise ShortBuffer(f"{room} bytes for {2 * SIZE}", size=2 * SIZE)
    try:
        r, s = own.sign(_private(key), int.from_bytes(data, "big"))
    except ValueError as error:
        raise BadState(str(error)) from None
    return own.octets(r) + own.octets(s)


def verify(key: "CryptObject", data: bytes, signature: bytes) -> None:
    """``sm2_ltc_dsa_verify()``.

    :raises BadParameters: the signature is not as long as all are.
    :raises SignatureInvalid: it is not that of the digest.
    """
    if len(signature) != 2 * SIZE:
        raise BadParameters(f"{len(signature)} bytes of a signature")
    public = _point(key)
    r, s = int.from_bytes(signature[:SIZE], "big"), int.from_bytes(signature[SIZE:], "big")
    if not SM2.has(public) or not own.is_valid(public, int.from_bytes(data, "big"), r, s):
        raise SignatureInvalid("not the signature of this digest")


def encrypt(key: "CryptObject", data: bytes, room: int) -> bytes:
    """``sm2_ltc_pke_encrypt()``: C1, C2 and C3. Where the room is short, OP-TEE writes C1 all the
    same; here nothing is.

    :raises NotImplementedByTee: this is no key for encryption.
    :raises BadState: the key is none, or there is not even room for C1.
    :raises CiphertextInvalid: there is no data, or the key stream is 0.
    :raises ShortBuffer: there is no room for the result.
    """
    if key.obj_type != gp.TEE_TYPE_SM2_PKE_PUBLIC_KEY:
        raise NotImplementedByTee("a key for another algorithm")
    public = _point(key)
    if not SM2.has(public):
        raise BadState("the public key is not on the curve")
    parts = own.encrypt(public, data)
    if parts is None:
        raise CiphertextInvalid("a key stream of 0, or no data")
    size = _POINT_SIZE + len(data) + SIZE
    if room < _POINT_SIZE:
        raise BadState(f"{room} bytes for {size}")
    if room < size:
        raise ShortBuffer(f"{room} bytes for {size}", size=size)
    return b"".join(parts)


def decrypt(key: "CryptObject", data: bytes, room: int) -> bytes:
    """``sm2_ltc_pke_decrypt()``. As in OP-TEE, a message is cut where there is no room for it.

    :raises BadParameters: C1 is no point of the curve, something is missing, or the key is none.
    :raises NotSupported: C1 is compressed.
    :raises BadState: the private value is 0.
    :raises CiphertextInvalid: C3 is wrong, or the key stream is 0.
    """
    if not data:
        raise BadParameters("no data")
    if data[0] in _OTHER_FORMS:
        raise NotSupported("a point that is compressed")
    if data[0] != _UNCOMPRESSED or len(data) < _POINT_SIZE:
        raise BadParameters("no point")
    point = int.from_bytes(data[1 : 1 + SIZE], "big"), int.from_bytes(data[1 + SIZE : 65], "big")
    if not SM2.has(point):
        raise BadParameters("a point that is not on the curve")
    shared = SM2.multiply(_private(key), point)
    if shared is None:
        raise BadState("the private value is 0")
    if len(data) <= _POINT_SIZE + SIZE:
        raise BadParameters("no message")
    opened = own.decrypt(shared, data[_POINT_SIZE:-SIZE])
    if opened is None:
        raise CiphertextInvalid("a key stream of 0")
    message, digest = opened
    if not compare_digest(digest, data[-SIZE:]):
        raise CiphertextInvalid("C3 is wrong")
    return message[:room]


class KepParams(NamedTuple):
    """The parameters of an exchange of keys (struct sm2_kep_parms, and keys of the other).

    :ivar confirmation_in: what the other sent to prove that it has the key, or None.
    :ivar confirmation_size: bytes of room for what to send to it, or None.
    """

    is_initiator: bool
    peer: Point
    peer_ephemeral: Point
    initiator_id: bytes
    responder_id: bytes
    confirmation_in: bytes | None = None
    confirmation_size: int | None = None


def exchange(
    key: "CryptObject", ephemeral: "CryptObject", params: KepParams, size: int
) -> tuple[bytes, bytes]:
    """``crypto_acipher_sm2_kep_derive()``: a key of ``size`` bytes, and a confirmation or nothing.

    :raises BadState: a public key of the other is no point of the curve, the shared point is at
        infinity, or the confirmation of the other is wrong.
    :raises BadParameters: a confirmation is too short, or a key has no private value.
    """
    own_point, own_ephemeral = _point(key), _point(ephemeral)
    if not SM2.has(params.peer_ephemeral) or not SM2.has(params.peer):
        raise BadState("a public key that is not on the curve")
    if not SM2.has(own_point) or not SM2.has(own_ephemeral):
        raise BadState("an own public key that is not on the curve")
    private, number = _private(key), _private(ephemeral)
    shared = own.exchange(private, number, own_ephemeral[0], params.peer, params.peer_ephemeral)
    if shared is None:
        raise BadState("the point at infinity")
    pairs = (own_point, own_ephemeral), (params.peer, params.peer_ephemeral)
    initiator, responder = pairs if params.is_initiator else pairs[::-1]
    digests = own.identity_digest(params.initiator_id, initiator[0])
    digests += own.identity_digest(params.responder_id, responder[0])
    derived = own.kdf(own.point_octets(shared) + digests, size)

    def confirmation(is_from_responder: bool) -> bytes:
        ephemerals = initiator[1], responder[1]
        return own.confirmation(is_from_responder, shared, digests, *ephemerals)

    given = params.confirmation_in
    if given is not None:
        if len(given) < SIZE:
            raise BadParameters(f"{len(given)} bytes of a confirmation")
        if not compare_digest(confirmation(params.is_initiator), given[:SIZE]):
            raise BadState("the confirmation is wrong")
    if params.confirmation_size is None:
        return derived, b""
    if params.confirmation_size < SIZE:
        raise BadParameters(f"room for {params.confirmation_size} bytes of a confirmation")
    return derived, confirmation(not params.is_initiator)
