# SPDX-License-Identifier: BSD-2-Clause
"""Asymmetric encryption, signatures and derivation of keys: TEE Internal Core API 1.3.1 sections
6.7 and 6.8, as OP-TEE's libutee has them (lib/libutee/tee_api_operations.c).
"""

from collections.abc import Sequence
from typing import overload

from gentee.abi import gp_crypto as gp
from gentee.abi.gp import (
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_CIPHERTEXT_INVALID,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_ERROR_SHORT_BUFFER,
    TEE_ERROR_SIGNATURE_INVALID,
)
from gentee.crypto import states_asymmetric, states_derive
from gentee.errors import ShortBuffer
from gentee.ta.api import Memref
from gentee.ta.crypto.buffers import Data, Into, copy_of, put, room
from gentee.ta.crypto.objects import ObjectHandle, TEE_Attribute, object_of
from gentee.ta.crypto.operations import OperationHandle, operation_of
from gentee.ta.crypto.results import bad_parameters, bad_state, results

__all__ = [
    "TEE_AsymmetricDecrypt",
    "TEE_AsymmetricEncrypt",
    "TEE_AsymmetricSignDigest",
    "TEE_AsymmetricVerifyDigest",
    "TEE_DeriveKey",
]

_ROOM = 1 << 32  # for output that is returned

_CIPHER_RESULTS = (
    TEE_ERROR_SHORT_BUFFER,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_CIPHERTEXT_INVALID,
    TEE_ERROR_NOT_SUPPORTED,
)


def _operate(
    operation: OperationHandle,
    operation_class: int,
    mode: int,
    params: Sequence[TEE_Attribute],
    data: Data,
    into: Into | None,
) -> bytes | int:
    found = operation_of(operation, operation_class)
    if found.mode != mode:
        raise bad_parameters(f"an operation in mode {found.mode:#x}")
    space = _ROOM if into is None else len(room(into))
    try:
        result = states_asymmetric.operate(found.state, params, copy_of(data), space)
    except ShortBuffer as short:
        if isinstance(into, Memref) and short.size is not None:
            into.size = short.size
        raise
    return put(result, into)


@overload
def TEE_AsymmetricEncrypt(
    operation: OperationHandle, params: Sequence[TEE_Attribute], src: Data
) -> bytes: ...
@overload
def TEE_AsymmetricEncrypt(
    operation: OperationHandle, params: Sequence[TEE_Attribute], src: Data, into: Into
) -> int: ...
@results(*_CIPHER_RESULTS)
def TEE_AsymmetricEncrypt(
    operation: OperationHandle,
    params: Sequence[TEE_Attribute],
    src: Data,
    into: Into | None = None,
) -> bytes | int:
    """Encrypt (section 6.7.1).

    :param params: such as TEE_ATTR_RSA_OAEP_LABEL.
    :param into: where the output goes, if it is not to be returned.
    :raises BadParameters: the data is too long for the key, or the operation has no key.
    :raises ShortBuffer: ``into`` has too little room.
    """
    return _operate(
        operation,
        gp.TEE_OPERATION_ASYMMETRIC_CIPHER,
        gp.TEE_MODE_ENCRYPT,
        params,
        src,
        into,
    )


@overload
def TEE_AsymmetricDecrypt(
    operation: OperationHandle, params: Sequence[TEE_Attribute], src: Data
) -> bytes: ...
@overload
def TEE_AsymmetricDecrypt(
    operation: OperationHandle, params: Sequence[TEE_Attribute], src: Data, into: Into
) -> int: ...
@results(*_CIPHER_RESULTS)
def TEE_AsymmetricDecrypt(
    operation: OperationHandle,
    params: Sequence[TEE_Attribute],
    src: Data,
    into: Into | None = None,
) -> bytes | int:
    """Decrypt (section 6.7.1).

    A service that tells its clients why this failed helps those who guess at plain texts.

    :raises BadParameters: this is not what was encrypted with this key.
    :raises ShortBuffer: ``into`` has too little room.
    """
    return _operate(
        operation,
        gp.TEE_OPERATION_ASYMMETRIC_CIPHER,
        gp.TEE_MODE_DECRYPT,
        params,
        src,
        into,
    )


@overload
def TEE_AsymmetricSignDigest(
    operation: OperationHandle, params: Sequence[TEE_Attribute], digest: Data
) -> bytes: ...
@overload
def TEE_AsymmetricSignDigest(
    operation: OperationHandle, params: Sequence[TEE_Attribute], digest: Data, into: Into
) -> int: ...
@results(TEE_ERROR_SHORT_BUFFER)
def TEE_AsymmetricSignDigest(
    operation: OperationHandle,
    params: Sequence[TEE_Attribute],
    digest: Data,
    into: Into | None = None,
) -> bytes | int:
    """The signature of a digest; of a message with Ed25519 (section 6.7.2).

    That of ECDSA, DSA and SM2 is its two numbers, each as long as the order.

    :param params: such as TEE_ATTR_RSA_PSS_SALT_LENGTH.
    :raises ShortBuffer: ``into`` has too little room.
    """
    return _operate(
        operation,
        gp.TEE_OPERATION_ASYMMETRIC_SIGNATURE,
        gp.TEE_MODE_SIGN,
        params,
        digest,
        into,
    )


@results(TEE_ERROR_SIGNATURE_INVALID)
def TEE_AsymmetricVerifyDigest(
    operation: OperationHandle, params: Sequence[TEE_Attribute], digest: Data, signature: Data
) -> None:
    """Check the signature of a digest; of a message with Ed25519 (section 6.7.3).

    :raises SignatureInvalid: it is not its signature with this key.
    """
    found = operation_of(operation, gp.TEE_OPERATION_ASYMMETRIC_SIGNATURE)
    if found.mode != gp.TEE_MODE_VERIFY:
        raise bad_parameters(f"an operation in mode {found.mode:#x}")
    states_asymmetric.verify(found.state, params, copy_of(digest), copy_of(signature))


@results()
def TEE_DeriveKey(
    operation: OperationHandle, params: Sequence[TEE_Attribute], derived_key: ObjectHandle
) -> bytes:
    """Derive a secret, which becomes the value of ``derived_key`` (section 6.8.1).

    :param params: what the algorithm needs, such as the public value of the other one.
    :param derived_key: of type TEE_TYPE_GENERIC_SECRET, without a value. Anything that is wrong
        with it, with the key or with ``params`` is a panic.
    :returns: what SM2_KEP has to send to the other one as its confirmation, as many bytes as
        TEE_ATTR_SM2_KEP_CONFIRMATION_OUT has; nothing with other algorithms.
    """
    found = operation_of(operation, gp.TEE_OPERATION_KEY_DERIVATION)
    derived = object_of(derived_key)
    if not found.has_key:
        raise bad_state("the operation has no key")
    if derived.obj_type != gp.TEE_TYPE_GENERIC_SECRET or derived.is_initialized:
        raise bad_parameters("not a generic secret without a value")
    return states_derive.derive_key(found.state, params, derived)
