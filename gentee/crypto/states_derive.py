# SPDX-License-Identifier: BSD-2-Clause
"""Derivation of keys: ``syscall_cryp_derive_key()`` of OP-TEE's ``core/tee/tee_svc_cryp.c``.

Here are parameters, and what each algorithm takes of them; the rest is in the module of a family.
"""

from collections.abc import Callable, Sequence

from gentee.abi import gp_crypto as gp
from gentee.crypto import derive, ecc, montgomery, sm2
from gentee.crypto.objects import BOUNCE_BUFFER_SIZE
from gentee.crypto.states_asymmetric import key_of
from gentee.errors import BadParameters, BadState, NotSupported, OutOfMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.crypto.objects import Attribute, CryptObject
    from gentee.crypto.states import CryptState

    _Params = Sequence[Attribute]
    _Derive = Callable[[CryptState, CryptObject, _Params, CryptObject], bytes]

_BB_ALIGNMENT = 16


def derive_key(state: "CryptState", params: "_Params", derived: "CryptObject") -> bytes:
    """``syscall_cryp_derive_key()``: make a secret the value of ``derived``.

    :returns: what SM2_KEP has to send to the other to prove that it has the key, else nothing.
    :raises NotSupported: the object is no symmetric key, or there is no such algorithm.
    :raises BadParameters: parameters are missing, or wrong, or there is no room for the secret.
    And what the functions of the families raise.
    """
    key = key_of(state)
    if not derived.is_secret:
        raise NotSupported(f"a derived key of type {gp.type_name(derived.obj_type)}")
    work = _DERIVE.get(state.algo) or _DERIVE_MAIN.get(gp.TEE_ALG_GET_MAIN_ALG(state.algo))
    if work is None:
        raise NotSupported(f"{gp.algorithm_name(state.algo)} derives no key")
    return work(state, key, params, derived)


# Parameters.


class _Bounce:
    """Bytes of attributes, as many as OP-TEE has room for in a call; bb_memdup_user()."""

    def __init__(self) -> None:
        self._used = 0

    def __call__(self, param: "Attribute") -> bytes:
        """The bytes of one; raises OutOfMemory."""
        size = len(param.data)
        if self._used + size > BOUNCE_BUFFER_SIZE:
            raise OutOfMemory(f"{size} bytes of {gp.attribute_name(param.id)}")
        self._used += -(-size // _BB_ALIGNMENT) * _BB_ALIGNMENT
        return bytes(param.data)

    def number(self, param: "Attribute") -> int:
        """The same, as a number: its bytes are not kept."""
        used = self._used
        number = int.from_bytes(self(param), "big")
        self._used = used
        return number


def _the_params(params: "_Params", *wanted: int) -> "_Params":
    """The parameters, which must be these in this order; raises BadParameters."""
    if tuple(param.id for param in params) != wanted:
        raise BadParameters("other parameters than wanted")
    return params


def _fits(size: int, derived: "CryptObject") -> int:
    if size > derived.secret_size:
        raise BadParameters(f"{size} bytes for {derived.secret_size} of a key")
    return size


def _dh(
    state: "CryptState", key: "CryptObject", params: "_Params", derived: "CryptObject"
) -> bytes:
    (public,) = _the_params(params, gp.TEE_ATTR_DH_PUBLIC_VALUE)
    secret = derive.dh(key, _Bounce().number(public))
    _fits(len(secret), derived)
    derived.set_secret(secret)
    return b""


def _ecdh(
    state: "CryptState", key: "CryptObject", params: "_Params", derived: "CryptObject"
) -> bytes:
    wanted = gp.TEE_ATTR_ECC_PUBLIC_VALUE_X, gp.TEE_ATTR_ECC_PUBLIC_VALUE_Y
    x, y = _the_params(params, *wanted)
    bounce = _Bounce()
    point = int.from_bytes(bounce(x), "big"), int.from_bytes(bounce(y), "big")
    derived.set_secret(ecc.shared_secret(key, *point, derived.secret_size))
    return b""


def _x25519(
    state: "CryptState", key: "CryptObject", params: "_Params", derived: "CryptObject"
) -> bytes:
    (public,) = _the_params(params, gp.TEE_ATTR_X25519_PUBLIC_VALUE)
    if len(public.data) != montgomery.X25519_SIZE:
        raise BadParameters(f"{len(public.data)} bytes of a public key")
    derived.set_secret(montgomery.x25519(key, bytes(public.data), derived.secret_size))
    return b""


def _x448(
    state: "CryptState", key: "CryptObject", params: "_Params", derived: "CryptObject"
) -> bytes:
    (public,) = _the_params(params, gp.TEE_ATTR_X448_PUBLIC_VALUE)
    if len(public.data) != montgomery.X448_SIZE:
        raise BadParameters(f"{len(public.data)} bytes of a public key")
    derived.set_secret(montgomery.x448(key, bytes(public.data), derived.secret_size))
    return b""


class _Found:
    """Parameters by identifier. Of several with one meaning the first counts."""

    def __init__(self, params: "_Params", octets: dict[int, str], values: dict[int, str]) -> None:
        self.octets: dict[str, bytes] = {}
        self.values: dict[str, int] = {}
        bounce = _Bounce()
        for param in params:
            name = octets.get(param.id)
            if name is not None:
                if name not in self.octets:
                    self.octets[name] = bounce(param)
                continue
            name = values.get(param.id)
            if name is None:
                raise BadParameters(f"{gp.attribute_name(param.id)} for a derivation")
            self.values.setdefault(name, param.a)

    def value(self, name: str) -> int:
        """A value that must be there; raises BadParameters."""
        if name not in self.values:
            raise BadParameters(f"no {name}")
        return self.values[name]


_HKDF_OCTETS = {
    gp.OPTEE_ATTR_HKDF_SALT: "salt",
    gp.TEE_ATTR_HKDF_SALT: "salt",
    gp.OPTEE_ATTR_HKDF_INFO: "info",
    gp.TEE_ATTR_HKDF_INFO: "info",
}
_HKDF_VALUES = {
    gp.TEE_ATTR_KDF_KEY_SIZE: "size",
    gp.TEE_ATTR_HKDF_OKM_LENGTH: "size",
    gp.TEE_ATTR_HKDF_HASH_ALGORITHM: "hash",
}


def _hkdf(
    state: "CryptState", key: "CryptObject", params: "_Params", derived: "CryptObject"
) -> bytes:
    """With TEE_ALG_HKDF a parameter says the digest. In OP-TEE 4.10 that algorithm gives no key."""
    found = _Found(params, _HKDF_OCTETS, _HKDF_VALUES)
    size = _fits(found.value("size"), derived)
    if state.algo == gp.TEE_ALG_HKDF:
        algo = found.values.get("hash", gp.TEE_ALG_SHA256)
    else:
        algo = gp.TEE_DIGEST_HASH_TO_ALGO(state.algo)
    salt, info = found.octets.get("salt", b""), found.octets.get("info", b"")
    derived.set_secret(derive.hkdf(algo, key.secret(), salt, info, size))
    return b""


_CONCAT_KDF_OCTETS = {gp.TEE_ATTR_CONCAT_KDF_OTHER_INFO: "info"}
_CONCAT_KDF_VALUES = {gp.TEE_ATTR_CONCAT_KDF_DKM_LENGTH: "size"}


def _concat_kdf(
    state: "CryptState", key: "CryptObject", params: "_Params", derived: "CryptObject"
) -> bytes:
    found = _Found(params, _CONCAT_KDF_OCTETS, _CONCAT_KDF_VALUES)
    size = _fits(found.value("size"), derived)
    algo = gp.TEE_DIGEST_HASH_TO_ALGO(state.algo)
    info = found.octets.get("info", b"")
    derived.set_secret(derive.concat_kdf(algo, key.secret(), info, size))
    return b""


_PBKDF2_OCTETS = {gp.TEE_ATTR_PBKDF2_SALT: "salt"}
_PBKDF2_VALUES = {
    gp.TEE_ATTR_PBKDF2_DKM_LENGTH: "size",
    gp.TEE_ATTR_PBKDF2_ITERATION_COUNT: "iterations",
}


def _pbkdf2(
    state: "CryptState", key: "CryptObject", params: "_Params", derived: "CryptObject"
) -> bytes:
    found = _Found(params, _PBKDF2_OCTETS, _PBKDF2_VALUES)
    size, iterations = found.value("size"), found.value("iterations")
    _fits(size, derived)
    algo = gp.TEE_DIGEST_HASH_TO_ALGO(state.algo)
    salt = found.octets.get("salt", b"")
    derived.set_secret(derive.pbkdf2(algo, key.secret(), salt, iterations, size))
    return b""


_KEP_X = (
    gp.TEE_ATTR_ECC_EPHEMERAL_PUBLIC_VALUE_X,
    gp.OPTEE_SM2_KEP_ATTR_ECC_EPHEMERAL_PUBLIC_VALUE_X,
)
_KEP_Y = (
    gp.TEE_ATTR_ECC_EPHEMERAL_PUBLIC_VALUE_Y,
    gp.OPTEE_SM2_KEP_ATTR_ECC_EPHEMERAL_PUBLIC_VALUE_Y,
)
_KEP_NUMBERS = {
    gp.TEE_ATTR_ECC_PUBLIC_VALUE_X: "x",
    gp.TEE_ATTR_ECC_PUBLIC_VALUE_Y: "y",
    **dict.fromkeys(_KEP_X, "ephemeral x"),
    **dict.fromkeys(_KEP_Y, "ephemeral y"),
}
_KEP_OCTETS = {
    gp.TEE_ATTR_SM2_ID_INITIATOR: "initiator",
    gp.TEE_ATTR_SM2_ID_RESPONDER: "responder",
    gp.TEE_ATTR_SM2_KEP_CONFIRMATION_IN: "in",
    gp.TEE_ATTR_SM2_KEP_CONFIRMATION_OUT: "out",
}


def _kep_params(params: "_Params") -> sm2.KepParams:
    """get_sm2_kep_params(): of several parameters with one meaning the last counts."""
    bounce = _Bounce()
    numbers: dict[str, int] = {}
    octets: dict[str, bytes] = {}
    for param in params:
        if param.id == gp.TEE_ATTR_SM2_KEP_USER:
            numbers["user"] = param.a
        elif param.id in _KEP_NUMBERS:
            numbers[_KEP_NUMBERS[param.id]] = bounce.number(param)
        elif param.id in _KEP_OCTETS:
            octets[_KEP_OCTETS[param.id]] = bounce(param)
        else:
            raise BadParameters(f"{gp.attribute_name(param.id)} for SM2_KEP")
    out = octets.get("out")
    try:
        return sm2.KepParams(
            not numbers["user"],
            (numbers["x"], numbers["y"]),
            (numbers["ephemeral x"], numbers["ephemeral y"]),
            octets["initiator"],
            octets["responder"],
            octets.get("in"),
            None if out is None else len(out),
        )
    except KeyError as error:
        raise BadParameters(f"no {error}") from None


def _kep(
    state: "CryptState", key: "CryptObject", params: "_Params", derived: "CryptObject"
) -> bytes:
    """OP-TEE takes the size of the object, which is in bits, for that of the key in bytes."""
    if state.key2 is None:
        raise BadState("an operation without an ephemeral key")
    kep_params = _kep_params(params)
    size = _fits(derived.max_obj_size, derived)
    secret, confirmation = sm2.exchange(key, state.key2, kep_params, size)
    derived.set_secret(secret)
    return confirmation


_DERIVE: "dict[int, _Derive]" = {
    gp.TEE_ALG_DH_DERIVE_SHARED_SECRET: _dh,
    gp.TEE_ALG_ECDH_DERIVE_SHARED_SECRET: _ecdh,
    gp.TEE_ALG_SM2_KEP: _kep,
    gp.TEE_ALG_X25519: _x25519,
    gp.TEE_ALG_X448: _x448,
}
_DERIVE_MAIN: "dict[int, _Derive]" = {
    gp.TEE_MAIN_ALGO_HKDF: _hkdf,
    gp.TEE_MAIN_ALGO_CONCAT_KDF: _concat_kdf,
    gp.TEE_MAIN_ALGO_PBKDF2: _pbkdf2,
}
