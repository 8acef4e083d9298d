# SPDX-License-Identifier: BSD-2-Clause
"""Digests, ciphers, MACs and authenticated encryption: TEE Internal Core API 1.3.1 sections 6.3 to
6.6, as OP-TEE's libutee has them (lib/libutee/tee_api_operations.c).

Output is returned as bytes. With ``into`` it goes into a buffer of the caller's, which may be that
of the input, and what is returned is how many bytes it is.
"""

from typing import overload

from gentee.abi import gp_crypto as gp
from gentee.abi.gp import TEE_ERROR_MAC_INVALID, TEE_ERROR_NOT_SUPPORTED, TEE_ERROR_SHORT_BUFFER
from gentee.crypto.authenc import SPARE
from gentee.crypto.constant_time import compare_digest
from gentee.errors import MacInvalid, NotSupported, ShortBuffer
from gentee.ta.crypto.algorithms import NO_IV, NO_PADDING
from gentee.ta.crypto.buffers import Data, Into, Output, copy_of, view_of
from gentee.ta.crypto.operations import OperationHandle, operation_of, reset_operation
from gentee.ta.crypto.results import bad_parameters, bad_state, results

__all__ = [
    "TEE_AEDecryptFinal",
    "TEE_AEEncryptFinal",
    "TEE_AEInit",
    "TEE_AEUpdate",
    "TEE_AEUpdateAAD",
    "TEE_CipherDoFinal",
    "TEE_CipherInit",
    "TEE_CipherUpdate",
    "TEE_DigestDoFinal",
    "TEE_DigestExtract",
    "TEE_DigestUpdate",
    "TEE_MACCompareFinal",
    "TEE_MACComputeFinal",
    "TEE_MACInit",
    "TEE_MACUpdate",
]

_INITIAL = gp.TEE_OPERATION_STATE_INITIAL
_ACTIVE = gp.TEE_OPERATION_STATE_ACTIVE
_EXTRACTING = gp.TEE_OPERATION_STATE_EXTRACTING

_GCM_TAG_BITS = range(96, 128 + 1, 8)


# Digests.


@results()
def TEE_DigestUpdate(operation: OperationHandle, chunk: Data) -> None:
    """Digest more data (section 6.3.1). A panic after TEE_DigestExtract."""
    found = operation_of(operation, gp.TEE_OPERATION_DIGEST)
    if found.is_extracting:
        raise bad_state("output was extracted")
    found.operation_state = _ACTIVE
    data = view_of(chunk)
    if len(data):
        found.state.hash_update(data)


@results(TEE_ERROR_SHORT_BUFFER)
def TEE_DigestDoFinal(
    operation: OperationHandle, chunk: Data = b"", hash_len: int | None = None
) -> bytes:
    """Digest the last data; the digest, or what is left of it to extract (section 6.3.2).

    The operation starts anew.

    :param hash_len: of an extendable output, how many bytes; of others, how many there is room for.
    :raises ShortBuffer: a digest is longer.
    """
    found = operation_of(operation, gp.TEE_OPERATION_DIGEST)
    data = view_of(chunk)
    if found.is_extracting and len(data):
        raise bad_parameters("data after output")
    if found.digest is not None:
        result = found.digest if hash_len is None else found.digest[: _size(hash_len)]
    else:
        size = _size(found.digest_length if hash_len is None else hash_len)
        if not found.digest_length and hash_len is None:
            raise bad_parameters("an extendable output has as many bytes as one asks for")
        if size < found.digest_length:
            raise ShortBuffer(f"{size} bytes for a digest", size=found.digest_length)
        result = _extract(found, data, found.digest_length or size)
    found.reset()
    return result


@results()
def TEE_DigestExtract(operation: OperationHandle, hash_len: int) -> bytes:
    """The next bytes of a digest, at most ``hash_len``; of an extendable output exactly so many
    (section 6.3.3). No more data can be digested then.
    """
    found = operation_of(operation, gp.TEE_OPERATION_DIGEST)
    size = _size(hash_len)
    if found.digest_length and found.digest is None:
        found.digest = _extract(found, b"", found.digest_length)
    found.handle_state |= gp.TEE_HANDLE_FLAG_EXTRACTING
    found.operation_state = _EXTRACTING
    if found.digest is None:
        return _extract(found, b"", size)
    result, found.digest = found.digest[:size], found.digest[size:]
    return result


def _size(hash_len: int) -> int:
    if hash_len < 0:
        raise bad_parameters(f"{hash_len} bytes")
    return hash_len


def _extract(operation: OperationHandle, data: bytes | memoryview, size: int) -> bytes:
    out = bytearray(size)
    operation.state.hash_final_into(data, memoryview(out))
    return bytes(out)


# Ciphers.


@results()
def TEE_CipherInit(operation: OperationHandle, iv: Data = b"") -> None:
    """Start to encrypt or decrypt (section 6.4.1).

    :param iv: initialisation vector, counter or tweak; nothing for ECB.
    """
    found = operation_of(operation, gp.TEE_OPERATION_CIPHER)
    if not found.has_key:
        raise bad_state("the operation has no key")
    if found.operation_state != _INITIAL:
        reset_operation(found)
    vector = copy_of(iv)
    if vector and found.algorithm in NO_IV:
        raise bad_parameters("an initialisation vector of ECB")
    found.state.cipher_init(vector)
    found.operation_state = _ACTIVE
    found.blocks.wipe()
    found.handle_state |= gp.TEE_HANDLE_FLAG_INITIALIZED


def _started(operation: OperationHandle, operation_class: int) -> OperationHandle:
    found = operation_of(operation, operation_class)
    if not (found.is_initialized and found.is_active):
        raise bad_state("the operation was not started")
    return found


@overload
def TEE_CipherUpdate(operation: OperationHandle, src: Data) -> bytes: ...
@overload
def TEE_CipherUpdate(operation: OperationHandle, src: Data, into: Into) -> int: ...
@results(TEE_ERROR_SHORT_BUFFER)
def TEE_CipherUpdate(
    operation: OperationHandle, src: Data, into: Into | None = None
) -> bytes | int:
    """Encrypt or decrypt more data (section 6.4.2).

    What is no whole block waits for more; so do the last two blocks of CTS and XTS.

    :raises ShortBuffer: ``into`` has too little room; nothing was done.
    """
    found = _started(operation, gp.TEE_OPERATION_CIPHER)
    data = view_of(src)
    blocks = found.blocks
    if blocks.size == 1:
        output = Output(into, len(data))
        data = output.source(data, True)
        if len(data):
            found.state.cipher_update_into(data, output.view, False)
        return output.result(len(data))
    output = Output(into, blocks.ready(len(data)))
    data = output.source(data, not len(blocks))
    return output.result(blocks.feed(_Cipher(found), data, output.view))


class _Cipher:
    """Whole blocks of a cipher's data."""

    __slots__ = ("_state",)

    def __init__(self, operation: OperationHandle) -> None:
        self._state = operation.state

    def __call__(self, src: bytes | memoryview, dst: memoryview) -> None:
        self._state.cipher_update_into(src, dst, False)


@overload
def TEE_CipherDoFinal(operation: OperationHandle, src: Data = b"") -> bytes: ...
@overload
def TEE_CipherDoFinal(operation: OperationHandle, src: Data, into: Into) -> int: ...
@results(TEE_ERROR_SHORT_BUFFER)
def TEE_CipherDoFinal(
    operation: OperationHandle, src: Data = b"", into: Into | None = None
) -> bytes | int:
    """Encrypt or decrypt the last data (section 6.4.3).

    A panic if the data is not in whole blocks and the mode wants it so.

    :raises ShortBuffer: ``into`` has too little room; nothing was done.
    """
    found = _started(operation, gp.TEE_OPERATION_CIPHER)
    data = view_of(src)
    blocks = found.blocks
    total = len(blocks) + len(data)
    if found.algorithm in NO_PADDING and total % blocks.size:
        raise bad_parameters(f"{total} bytes are not in whole blocks")
    output = Output(into, total)
    data = output.source(data, not len(blocks))
    if blocks.size == 1:
        found.state.cipher_update_into(data, output.view, True)
    else:
        done = blocks.feed(_Cipher(found), data, output.view)
        found.state.cipher_update_into(blocks.rest(), output.view[done:], True)
    found.finish()
    return output.result(total)


# MACs.


@results()
def TEE_MACInit(operation: OperationHandle, iv: Data = b"") -> None:
    """Start a MAC (section 6.5.1). No algorithm has an initialisation vector: it is ignored."""
    found = operation_of(operation, gp.TEE_OPERATION_MAC)
    if not found.has_key:
        raise bad_state("the operation has no key")
    if found.operation_state != _INITIAL:
        reset_operation(found)
    found.operation_state = _ACTIVE
    found.state.hash_init()
    found.handle_state |= gp.TEE_HANDLE_FLAG_INITIALIZED


@results()
def TEE_MACUpdate(operation: OperationHandle, chunk: Data) -> None:
    """Take more data (section 6.5.2)."""
    found = _started(operation, gp.TEE_OPERATION_MAC)
    data = view_of(chunk)
    if len(data):
        found.state.hash_update(data)


def _mac(operation: OperationHandle, message: Data) -> bytes:
    found = _started(operation, gp.TEE_OPERATION_MAC)
    mac = _extract(found, view_of(message), found.digest_length)
    found.finish()
    return mac


@results()
def TEE_MACComputeFinal(operation: OperationHandle, message: Data = b"") -> bytes:
    """Take the last data; the MAC (section 6.5.3)."""
    return _mac(operation, message)


@results(TEE_ERROR_MAC_INVALID)
def TEE_MACCompareFinal(operation: OperationHandle, message: Data, mac: Data) -> None:
    """Take the last data, and compare its MAC in constant time (section 6.5.4).

    :raises MacInvalid: it is another one.
    """
    expected = copy_of(mac)
    if not compare_digest(_mac(operation, message), expected):
        raise MacInvalid("another MAC")


# Authenticated encryption.


@results(TEE_ERROR_NOT_SUPPORTED)
def TEE_AEInit(
    operation: OperationHandle, nonce: Data, tag_len: int, aad_len: int = 0, payload_len: int = 0
) -> None:
    """Start an authenticated encryption or decryption (section 6.6.1).

    :param tag_len: in bits.
    :param aad_len: bytes of additional data that will come; only CCM looks at it.
    :param payload_len: bytes of payload that will come; likewise.
    :raises NotSupported: there are no such tags.
    """
    found = operation_of(operation, gp.TEE_OPERATION_AE)
    if found.operation_state != _INITIAL:
        raise bad_state("the operation was started")
    if found.algorithm == gp.TEE_ALG_AES_GCM and tag_len not in _GCM_TAG_BITS:
        raise NotSupported(f"a tag of {tag_len} bits")
    if min(tag_len, aad_len, payload_len) < 0:
        raise bad_parameters("a size below 0")
    found.state.authenc_init(copy_of(nonce), tag_len // 8, aad_len, payload_len)
    found.digest_length = tag_len // 8
    found.blocks.wipe()
    found.handle_state |= gp.TEE_HANDLE_FLAG_INITIALIZED


def _authenc(operation: OperationHandle) -> OperationHandle:
    found = operation_of(operation, gp.TEE_OPERATION_AE)
    if not found.is_initialized:
        raise bad_state("the operation was not started")
    return found


@results()
def TEE_AEUpdateAAD(operation: OperationHandle, aad_data: Data) -> None:
    """Take more additional data (section 6.6.2). A panic once there was payload."""
    found = _authenc(operation)
    if found.operation_state != _INITIAL:
        raise bad_state("additional data behind payload")
    found.state.check_authenc().update_aad(view_of(aad_data))


@overload
def TEE_AEUpdate(operation: OperationHandle, src: Data) -> bytes: ...
@overload
def TEE_AEUpdate(operation: OperationHandle, src: Data, into: Into) -> int: ...
@results(TEE_ERROR_SHORT_BUFFER)
def TEE_AEUpdate(operation: OperationHandle, src: Data, into: Into | None = None) -> bytes | int:
    """Encrypt or decrypt more payload (section 6.6.3). Of CCM, what is no whole block waits.

    What is decrypted is not authentic before TEE_AEDecryptFinal says so.

    :raises ShortBuffer: ``into`` has too little room; nothing was done.
    """
    found = _authenc(operation)
    data = view_of(src)
    output = Output(into, found.blocks.ready(len(data)))
    data = output.source(data, not len(found.blocks))
    done = found.blocks.feed(found.state.check_authenc().update_into, data, output.view)
    if len(data):
        found.operation_state = _ACTIVE
    return output.result(done)


@overload
def TEE_AEEncryptFinal(operation: OperationHandle, src: Data = b"") -> tuple[bytes, bytes]: ...
@overload
def TEE_AEEncryptFinal(operation: OperationHandle, src: Data, into: Into) -> tuple[int, bytes]: ...
@results(TEE_ERROR_SHORT_BUFFER)
def TEE_AEEncryptFinal(
    operation: OperationHandle, src: Data = b"", into: Into | None = None
) -> tuple[bytes | int, bytes]:
    """Encrypt the last payload; its cipher text, and the tag of all (section 6.6.4).

    :raises ShortBuffer: ``into`` has too little room; nothing was done.
    """
    found = _authenc(operation)
    blocks, data = found.blocks, view_of(src)
    total = len(blocks) + len(data)
    output = Output(into, total, SPARE)
    data = output.source(data, not len(blocks))
    context = found.state.check_authenc()
    if blocks.size == 1:
        rest, dst, spare = data, output.view, output.spare
    else:
        done = blocks.feed(context.update_into, data, output.view)
        rest, dst, spare = blocks.rest(), output.view[done:], None
    context = found.state.check_authenc(gp.TEE_MODE_ENCRYPT)
    tag = context.encrypt_final(rest, dst, found.digest_length, spare)
    found.finish()
    return output.result(total), tag


@overload
def TEE_AEDecryptFinal(operation: OperationHandle, src: Data, tag: Data) -> bytes: ...
@overload
def TEE_AEDecryptFinal(operation: OperationHandle, src: Data, tag: Data, into: Into) -> int: ...
@results(TEE_ERROR_SHORT_BUFFER, TEE_ERROR_MAC_INVALID)
def TEE_AEDecryptFinal(
    operation: OperationHandle, src: Data, tag: Data, into: Into | None = None
) -> bytes | int:
    """Decrypt the last payload, and check the tag of all (section 6.6.5).

    :raises MacInvalid: it is another one: what was decrypted is not to be used. As in OP-TEE,
        ``into`` has its last part, and the operation must be reset before it can be used again.
    :raises ShortBuffer: ``into`` has too little room; nothing was done.
    """
    found = _authenc(operation)
    expected = copy_of(tag)
    blocks, data = found.blocks, view_of(src)
    total = len(blocks) + len(data)
    output = Output(into, total)
    data = output.source(data, not len(blocks))
    context = found.state.check_authenc()
    if blocks.size == 1:
        rest, dst = data, output.view
    else:
        done = blocks.feed(context.update_into, data, output.view)
        rest, dst = blocks.rest(), output.view[done:]
    found.state.check_authenc(gp.TEE_MODE_DECRYPT).decrypt_final(rest, dst, expected)
    found.finish()
    if len(expected) != found.digest_length:
        raise MacInvalid(f"a tag of {len(expected)} bytes")
    return output.result(total)
