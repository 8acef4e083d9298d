# SPDX-License-Identifier: BSD-2-Clause
"""Encryption and signatures with asymmetric keys: ``syscall_asymm_operate()`` and
``syscall_asymm_verify()`` of OP-TEE's ``core/tee/tee_svc_cryp.c``.

Here are parameters, and what each algorithm takes of them; the rest is in the module of a family.
"""

from collections.abc import Callable, Sequence

from gentee.abi import gp_crypto as gp
from gentee.crypto import dsa, ecc, edwards, rsa, sm2
from gentee.errors import (
    BadParameters,
    BadState,
    GenericError,
    NotSupported,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.crypto.objects import Attribute, CryptObject
    from gentee.crypto.states import CryptState

    _Params = Sequence[Attribute]
    _Operate = Callable[[CryptState, CryptObject, _Params, bytes | None, int], bytes]
    _Verify = Callable[[CryptState, CryptObject, _Params, bytes | None, bytes], None]

_INT_MAX = 0x7FFFFFFF


def key_of(state: "CryptState") -> "CryptObject":
    """The key of an operation; raises BadState: it has none."""
    if state.key1 is None:
        raise BadState("an operation without a key")
    return state.key1


def operate(state: "CryptState", params: "_Params", data: bytes | None, room: int) -> bytes:
    """``syscall_asymm_operate()``: encrypt, decrypt or sign.

    :param data: what to encrypt, decrypt or sign; None where a TA passed the address 0.
    :param room: bytes that the result may have.
    :raises ShortBuffer: it has more; ``size`` says how many.
    :raises GenericError: the key is not initialized, or none, or there is no data.
    :raises BadParameters: there is no such algorithm, or not in this mode.
    And what the functions of the families raise.
    """
    key = key_of(state)
    if not key.handle_flags & gp.TEE_HANDLE_FLAG_INITIALIZED:
        raise GenericError("the key has no value")
    work = _OPERATE.get(state.algo)
    if work is None:
        raise BadParameters(f"{gp.algorithm_name(state.algo)} is no asymmetric algorithm")
    return work(state, key, params, data, room)


def verify(state: "CryptState", params: "_Params", data: bytes | None, signature: bytes) -> None:
    """``syscall_asymm_verify()``: whether this is the signature of a digest or a message.

    The caller has checked with :func:`check_verify` before it looked at anything.

    :raises SignatureInvalid: it is not.
    :raises BadParameters: the key is not initialized, or what is given has a wrong size.
    :raises NotSupported: there is no such algorithm.
    And what the functions of the families raise.
    """
    key = key_of(state)
    if not key.handle_flags & gp.TEE_HANDLE_FLAG_INITIALIZED:
        raise BadParameters("the key has no value")
    work = _VERIFY.get(gp.TEE_ALG_GET_MAIN_ALG(state.algo))
    if work is None:
        raise NotSupported(f"{gp.algorithm_name(state.algo)} is no signature algorithm")
    work(state, key, params, data, signature)


def check_verify(state: "CryptState") -> None:
    """Raises BadParameters: the operation is not for verification."""
    if state.mode != gp.TEE_MODE_VERIFY:
        raise BadParameters(f"verification in mode {state.mode:#x}")


# Parameters.


def _salt_size(params: "_Params", default: int | None) -> int | None:
    """pkcs1_get_salt_len()"""
    for param in params:
        if param.id == gp.TEE_ATTR_RSA_PSS_SALT_LENGTH:
            return param.a if param.a < _INT_MAX else default
    return default


def _oaep_params(algo: int, params: "_Params") -> tuple[bytes, int]:
    """Label and mask generation function of OAEP. As in OP-TEE, the label ends the search."""
    label, mgf_algo = b"", 0
    for param in params:
        if param.id == gp.TEE_ATTR_RSA_OAEP_LABEL:
            label = bytes(param.data)
            break
        if algo != gp.TEE_ALG_RSAES_PKCS1_V1_5 and param.id == gp.TEE_ATTR_RSA_OAEP_MGF_HASH:
            if len(param.data) != 4:
                raise BadParameters(f"{len(param.data)} bytes of an algorithm")
            mgf_algo = int.from_bytes(param.data, "little")
    return label, mgf_algo or gp.TEE_INTERNAL_HASH_TO_ALGO(algo)


def _eddsa_params(params: "_Params") -> tuple[bool, bytes]:
    """Prehash and context; tee_svc_obj_ed25519_parse_params()."""
    prehash, context = False, b""
    for param in params:
        if param.id == gp.TEE_ATTR_EDDSA_PREHASH:
            if param.b or param.a > 1:
                raise BadParameters(f"prehash {param.a}, {param.b}")
            prehash = param.a == 1
        elif param.id == gp.TEE_ATTR_EDDSA_CTX:
            if context or len(param.data) > edwards.MAX_CONTEXT_SIZE:
                raise BadParameters("several contexts, or a long one")
            context = bytes(param.data)
        else:
            raise BadParameters(f"{gp.attribute_name(param.id)} for Ed25519")
    return prehash, context


# Encryption and signatures.


def _nopad(
    state: "CryptState", key: "CryptObject", params: "_Params", data: bytes | None, room: int
) -> bytes:
    if state.mode not in (gp.TEE_MODE_ENCRYPT, gp.TEE_MODE_DECRYPT):
        raise GenericError(f"RSA_NOPAD in mode {state.mode:#x}")
    return rsa.nopad(key, data, room, state.mode == gp.TEE_MODE_DECRYPT)


def _rsaes(
    state: "CryptState", key: "CryptObject", params: "_Params", data: bytes | None, room: int
) -> bytes:
    label, mgf_algo = _oaep_params(state.algo, params)
    if state.mode == gp.TEE_MODE_ENCRYPT:
        return rsa.encrypt(key, state.algo, data, room, label, mgf_algo)
    if state.mode == gp.TEE_MODE_DECRYPT:
        return rsa.decrypt(key, state.algo, data, room, label, mgf_algo)
    raise BadParameters(f"encryption in mode {state.mode:#x}")


def _rsassa(
    state: "CryptState", key: "CryptObject", params: "_Params", data: bytes | None, room: int
) -> bytes:
    if state.mode != gp.TEE_MODE_SIGN:
        raise BadParameters(f"a signature in mode {state.mode:#x}")
    size = len(data or b"")
    salt_size = _salt_size(params, size) if params else size
    assert salt_size is not None
    return rsa.sign(key, state.algo, salt_size, data, room)


def _rsassa_verify(
    state: "CryptState",
    key: "CryptObject",
    params: "_Params",
    data: bytes | None,
    signature: bytes,
) -> None:
    rsa.verify(key, state.algo, _salt_size(params, None), data, signature)


def _dsa(
    state: "CryptState", key: "CryptObject", params: "_Params", data: bytes | None, room: int
) -> bytes:
    return dsa.sign(key, state.algo, data, room)


def _dsa_verify(
    state: "CryptState",
    key: "CryptObject",
    params: "_Params",
    data: bytes | None,
    signature: bytes,
) -> None:
    dsa.verify(key, state.algo, data, signature)


def _ecdsa(
    state: "CryptState", key: "CryptObject", params: "_Params", data: bytes | None, room: int
) -> bytes:
    return ecc.sign(key, state.algo, data, room)


def _ecdsa_verify(
    state: "CryptState",
    key: "CryptObject",
    params: "_Params",
    data: bytes | None,
    signature: bytes,
) -> None:
    ecc.verify(key, state.algo, data, signature)


def _ed25519(
    state: "CryptState", key: "CryptObject", params: "_Params", data: bytes | None, room: int
) -> bytes:
    return edwards.sign(key, data, room, *_eddsa_params(params))


def _ed25519_verify(
    state: "CryptState",
    key: "CryptObject",
    params: "_Params",
    data: bytes | None,
    signature: bytes,
) -> None:
    edwards.verify(key, data, signature, *_eddsa_params(params))


def _sm2_dsa(
    state: "CryptState", key: "CryptObject", params: "_Params", data: bytes | None, room: int
) -> bytes:
    return sm2.sign(key, data or b"", room)


def _sm2_dsa_verify(
    state: "CryptState",
    key: "CryptObject",
    params: "_Params",
    data: bytes | None,
    signature: bytes,
) -> None:
    sm2.verify(key, data or b"", signature)


def _sm2_pke(
    state: "CryptState", key: "CryptObject", params: "_Params", data: bytes | None, room: int
) -> bytes:
    if state.mode == gp.TEE_MODE_ENCRYPT:
        return sm2.encrypt(key, data or b"", room)
    if state.mode == gp.TEE_MODE_DECRYPT:
        return sm2.decrypt(key, data or b"", room)
    raise GenericError(f"SM2_PKE in mode {state.mode:#x}")


RSASSA = (
    gp.TEE_ALG_RSASSA_PKCS1_V1_5,
    gp.TEE_ALG_RSASSA_PKCS1_V1_5_MD5,
    gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA1,
    gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA224,
    gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA256,
    gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA384,
    gp.TEE_ALG_RSASSA_PKCS1_V1_5_SHA512,
    gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_MD5,
    gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA1,
    gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA224,
    gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256,
    gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA384,
    gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA512,
)
RSAES = (
    gp.TEE_ALG_RSAES_PKCS1_V1_5,
    gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_MD5,
    gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA1,
    gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA224,
    gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA256,
    gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA384,
    gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA512,
)
DSA = (gp.TEE_ALG_DSA_SHA1, gp.TEE_ALG_DSA_SHA224, gp.TEE_ALG_DSA_SHA256)
ECDSA = (
    gp.TEE_ALG_ECDSA_SHA1,
    gp.TEE_ALG_ECDSA_SHA224,
    gp.TEE_ALG_ECDSA_SHA256,
    gp.TEE_ALG_ECDSA_SHA384,
    gp.TEE_ALG_ECDSA_SHA512,
)

_OPERATE: "dict[int, _Operate]" = {
    gp.TEE_ALG_RSA_NOPAD: _nopad,
    gp.TEE_ALG_SM2_PKE: _sm2_pke,
    **dict.fromkeys(RSAES, _rsaes),
    **dict.fromkeys(RSASSA, _rsassa),
    **dict.fromkeys(DSA, _dsa),
    gp.TEE_ALG_ED25519: _ed25519,
    **dict.fromkeys(ECDSA, _ecdsa),
    gp.TEE_ALG_SM2_DSA_SM3: _sm2_dsa,
}
_VERIFY: "dict[int, _Verify]" = {
    gp.TEE_MAIN_ALGO_RSA: _rsassa_verify,
    gp.TEE_MAIN_ALGO_DSA: _dsa_verify,
    gp.TEE_MAIN_ALGO_ED25519: _ed25519_verify,
    gp.TEE_MAIN_ALGO_ECDSA: _ecdsa_verify,
    gp.TEE_MAIN_ALGO_SM2_DSA_SM3: _sm2_dsa_verify,
}
