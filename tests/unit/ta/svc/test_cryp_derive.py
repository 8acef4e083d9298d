# SPDX-License-Identifier: BSD-2-Clause
"""Derivation of keys by system calls: parameters, codes, and what becomes of the object."""

from collections.abc import Iterator

import pytest

from gentee.abi import gp_crypto as gc
from gentee.abi import optee_ta as abi
from gentee.abi.gp import (
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_BAD_STATE,
    TEE_ERROR_NOT_IMPLEMENTED,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_SECURITY,
    TEE_SUCCESS,
)
from gentee.abi.gp_crypto import TEE_MODE_DERIVE
from gentee.ta.engine.base import AARCH64, ARM
from tests.svc_asymmetric import AsymmetricTa, Attr
from tests.svc_crypto import ATTRIBUTES, IN, CallFailed
from tests.svc_ta import NOWHERE

DERIVE = abi.TEE_SCN_CRYP_DERIVE_KEY
BAD = TEE_ERROR_BAD_PARAMETERS
GENERIC = gc.TEE_TYPE_GENERIC_SECRET

X, Y = gc.TEE_ATTR_ECC_PUBLIC_VALUE_X, gc.TEE_ATTR_ECC_PUBLIC_VALUE_Y
P256: Attr = (gc.TEE_ATTR_ECC_CURVE, gc.TEE_ECC_CURVE_NIST_P256)

SALT, INFO = gc.OPTEE_ATTR_HKDF_SALT, gc.OPTEE_ATTR_HKDF_INFO
OKM_LENGTH = gc.TEE_ATTR_HKDF_OKM_LENGTH


@pytest.fixture(params=[AARCH64, ARM])
def ta(request: pytest.FixtureRequest) -> Iterator[AsymmetricTa]:
    tested = AsymmetricTa(request.param)
    yield tested
    tested.end()


def derive_code(
    ta: AsymmetricTa, state: int, *attributes: Attr, obj_type: int = GENERIC, bits: int = 4096
) -> int:
    """The code of a derivation. Where it fails, the object has no value."""
    derived = ta.alloc(obj_type, bits)
    code = ta.call(DERIVE, state, *ta.put_attributes(*attributes), derived)
    assert ta.objects[derived].is_initialized is (code == TEE_SUCCESS)
    return code


def hkdf_state(ta: AsymmetricTa, algo: int = gc.TEE_ALG_HKDF_SHA256_DERIVE_KEY) -> int:
    key = ta.object(gc.TEE_TYPE_HKDF_IKM, 4096, (gc.TEE_ATTR_HKDF_IKM, b"input"))
    return ta.state(algo, TEE_MODE_DERIVE, key)


def concat_state(ta: AsymmetricTa) -> int:
    key = ta.object(gc.TEE_TYPE_CONCAT_KDF_Z, 4096, (gc.TEE_ATTR_CONCAT_KDF_Z, b"input"))
    return ta.state(gc.TEE_ALG_CONCAT_KDF_SHA256_DERIVE_KEY, TEE_MODE_DERIVE, key)


def pbkdf2_state(
    ta: AsymmetricTa,
    password: bytes = b"password",
    algo: int = gc.TEE_ALG_PBKDF2_HMAC_SHA256_DERIVE_KEY,
) -> int:
    attr: Attr = (gc.TEE_ATTR_PBKDF2_PASSWORD, password)
    key = ta.object(gc.TEE_TYPE_PBKDF2_PASSWORD, 4096, attr)
    return ta.state(algo, TEE_MODE_DERIVE, key)


def ecdh_state(ta: AsymmetricTa) -> tuple[int, list[Attr]]:
    """An operation, and the public key of another pair."""
    other = ta.generate(gc.TEE_TYPE_ECDH_KEYPAIR, 256, P256)
    point: list[Attr] = [(attr, ta.attribute(other, attr)) for attr in (X, Y)]
    key = ta.generate(gc.TEE_TYPE_ECDH_KEYPAIR, 256, P256)
    return ta.state(gc.TEE_ALG_ECDH_DERIVE_SHARED_SECRET, TEE_MODE_DERIVE, key), point


# Arguments and objects.


def test_arguments(ta: AsymmetricTa) -> None:
    state = hkdf_state(ta)
    derived = ta.alloc(GENERIC, 512)
    good = [state, *ta.put_attributes((OKM_LENGTH, 64)), derived]
    wrong = {0: (state + 1000, BAD), 1: (NOWHERE, TEE_ERROR_ACCESS_DENIED)}
    args = list(good)
    args[3] = derived + 1000
    assert ta.call(DERIVE, *args) == TEE_ERROR_BAD_STATE
    for place in (1, 0):
        args[place], code = wrong[place]
        assert ta.call(DERIVE, *args) == code
    assert ta.call(DERIVE, *good) == TEE_SUCCESS


def test_the_derived_object(ta: AsymmetricTa) -> None:
    state = hkdf_state(ta)
    derived = ta.alloc(gc.TEE_TYPE_AES, 256)
    ta.must(DERIVE, state, *ta.put_attributes((OKM_LENGTH, 32)), derived)
    first = ta.attribute(derived, gc.TEE_ATTR_SECRET_VALUE)
    assert len(first) == 32
    found = ta.objects[derived]
    assert found.has(gc.TEE_ATTR_SECRET_VALUE)
    assert (found.obj_size, found.max_obj_size) == (0, 256)  # OP-TEE leaves the size
    # And it derives once more into the same object.
    ta.must(DERIVE, state, *ta.put_attributes((OKM_LENGTH, 16)), derived)
    assert ta.attribute(derived, gc.TEE_ATTR_SECRET_VALUE) == first[:16]


@pytest.mark.parametrize(
    ("obj_type", "bits"),
    [
        (gc.TEE_TYPE_RSA_KEYPAIR, 1024),
        (gc.TEE_TYPE_HKDF_IKM, 1024),
        (gc.TEE_TYPE_PBKDF2_PASSWORD, 1024),
        (gc.TEE_TYPE_X25519_KEYPAIR, 256),
        (gc.TEE_TYPE_DATA, 0),
    ],
)
def test_objects_that_are_no_symmetric_key(ta: AsymmetricTa, obj_type: int, bits: int) -> None:
    code = derive_code(ta, hkdf_state(ta), (OKM_LENGTH, 32), obj_type=obj_type, bits=bits)
    assert code == TEE_ERROR_NOT_SUPPORTED


def test_other_operations(ta: AsymmetricTa) -> None:
    digest = ta.state(gc.TEE_ALG_SHA256, gc.TEE_MODE_DIGEST)
    assert derive_code(ta, digest) == TEE_ERROR_BAD_STATE
    aes = ta.keyed(gc.TEE_ALG_AES_CTR, TEE_MODE_DERIVE, bytes(16))
    assert derive_code(ta, aes) == TEE_ERROR_NOT_SUPPORTED
    rsa = ta.state(gc.TEE_ALG_RSA_NOPAD, TEE_MODE_DERIVE, ta.generate(gc.TEE_TYPE_RSA_KEYPAIR, 512))
    assert derive_code(ta, rsa) == TEE_ERROR_NOT_SUPPORTED


def test_sizes(ta: AsymmetricTa) -> None:
    """There is room for what the type can have, whatever the object may have."""
    cases: list[tuple[int, list[Attr], int]] = [
        (hkdf_state(ta), [], OKM_LENGTH),
        (concat_state(ta), [], gc.TEE_ATTR_CONCAT_KDF_DKM_LENGTH),
        (
            pbkdf2_state(ta),
            [(gc.TEE_ATTR_PBKDF2_ITERATION_COUNT, 1)],
            gc.TEE_ATTR_PBKDF2_DKM_LENGTH,
        ),
    ]
    for state, attrs, length in cases:
        for size in (0, 1, 31, 32, 33, 512):
            assert len(ta.derive(state, *attrs, (length, size), bits=8)) == size
        assert derive_code(ta, state, *attrs, (length, 513)) == BAD
        assert derive_code(ta, state, *attrs, (length, 0xFFFFFFFF)) == BAD
        code = derive_code(ta, state, *attrs, (length, 33), obj_type=gc.TEE_TYPE_AES, bits=128)
        assert code == BAD
        assert derive_code(ta, state, *attrs) == BAD  # no length


# From a secret.


def test_parameters_of_hkdf(ta: AsymmetricTa) -> None:
    state = hkdf_state(ta)
    size: Attr = (OKM_LENGTH, 40)
    plain = ta.derive(state, size)
    # An empty salt is none, and of several parameters the first counts.
    assert ta.derive(state, (SALT, b""), (INFO, b""), size, (OKM_LENGTH, 3)) == plain
    salted = ta.derive(state, (SALT, b"salt"), size)
    assert salted != plain
    assert ta.derive(state, (gc.TEE_ATTR_HKDF_SALT, b"salt"), (SALT, b"x"), size) == salted
    assert ta.derive(state, (SALT, bytes(32)), size) == plain  # HMAC pads so
    informed = ta.derive(state, (INFO, b"info"), (gc.TEE_ATTR_HKDF_INFO, b"x"), size)
    assert informed not in (plain, salted)
    # The algorithm says the digest already.
    hash_attr = gc.TEE_ATTR_HKDF_HASH_ALGORITHM
    assert ta.derive(state, (hash_attr, gc.TEE_ALG_SHA512), size) == plain
    general = hkdf_state(ta, gc.TEE_ALG_HKDF)
    assert ta.derive(general, size) == plain
    assert ta.derive(general, (hash_attr, gc.TEE_ALG_SHA512), size) != plain
    code = derive_code(ta, general, (hash_attr, gc.TEE_ALG_AES_CTR), size)
    assert code == TEE_ERROR_NOT_IMPLEMENTED
    assert derive_code(ta, state, (gc.TEE_ATTR_CONCAT_KDF_OTHER_INFO, b"x"), size) == BAD
    # A digest of 16 bytes, 255 times, is more than any object has room for.
    assert len(ta.derive(hkdf_state(ta, gc.TEE_ALG_HKDF_MD5_DERIVE_KEY), (OKM_LENGTH, 512))) == 512


def test_long_parameters(ta: AsymmetricTa) -> None:
    """OP-TEE has 4096 bytes for all of them together."""
    state = hkdf_state(ta)
    size: Attr = (OKM_LENGTH, 16)
    ta.derive(state, (SALT, bytes(4096)), size)
    ta.derive(state, (SALT, bytes(2000)), (INFO, bytes(2096)), size)
    for attrs in (
        [(SALT, bytes(4097))],
        [(SALT, bytes(2000)), (INFO, bytes(2097))],
        [(SALT, b"x"), (INFO, bytes(4081))],
    ):
        code = derive_code(ta, state, *attrs, size)
        assert code == TEE_ERROR_OUT_OF_MEMORY


def test_parameters_of_concat_kdf(ta: AsymmetricTa) -> None:
    state = concat_state(ta)
    size: Attr = (gc.TEE_ATTR_CONCAT_KDF_DKM_LENGTH, 40)
    info = gc.TEE_ATTR_CONCAT_KDF_OTHER_INFO
    plain = ta.derive(state, size)
    assert ta.derive(state, (info, b""), size, (size[0], 4)) == plain
    assert ta.derive(state, (info, b"x"), (info, b""), size) != plain
    assert derive_code(ta, state, (SALT, b""), size) == BAD


def test_parameters_of_pbkdf2(ta: AsymmetricTa) -> None:
    state = pbkdf2_state(ta)
    size: Attr = (gc.TEE_ATTR_PBKDF2_DKM_LENGTH, 40)
    once: Attr = (gc.TEE_ATTR_PBKDF2_ITERATION_COUNT, 1)
    salt = gc.TEE_ATTR_PBKDF2_SALT
    plain = ta.derive(state, size, once)
    assert ta.derive(state, (salt, b""), once, size, (once[0], 2)) == plain
    assert ta.derive(state, (salt, b"x"), once, size) != plain
    assert ta.derive(state, (once[0], 0), size) == bytes(40)
    assert derive_code(ta, state, size) == BAD
    assert derive_code(ta, state, once) == BAD
    assert derive_code(ta, state, once, size, (OKM_LENGTH, 4)) == BAD
    none = pbkdf2_state(ta, b"")
    assert derive_code(ta, none, once, size) == TEE_ERROR_BAD_STATE
    assert ta.derive(none, (once[0], 0), size) == bytes(40)
    sm3 = pbkdf2_state(ta, b"", gc.TEE_ALG_PBKDF2_HMAC_SM3_DERIVE_KEY)
    assert len(ta.derive(sm3, once, size)) == 40


# From another's public key.


def test_ecdh_parameters(ta: AsymmetricTa) -> None:
    state, (x, y) = ecdh_state(ta)
    assert len(ta.derive(state, x, y)) == 32
    for attrs in ([], [x], [y, x], [x, y, y], [x, x], [x, (SALT, b"")]):
        assert derive_code(ta, state, *attrs) == BAD
    # There must be room for all of it in objects of the type, and DES has 8 bytes.
    assert derive_code(ta, state, x, y, obj_type=gc.TEE_TYPE_DES, bits=64) == BAD
    assert len(ta.derive(state, x, y, obj_type=gc.TEE_TYPE_AES, bits=128)) == 32


def test_ecdh_with_points_of_no_curve(ta: AsymmetricTa) -> None:
    state, (x, y) = ecdh_state(ta)
    assert isinstance(y[1], bytes)
    prime = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
    for wrong in (b"", b"\1", y[1][::-1], prime.to_bytes(32, "big"), b"\xff" * 66):
        assert derive_code(ta, state, x, (Y, wrong)) == BAD
        assert derive_code(ta, state, (X, wrong), y) == BAD
    assert derive_code(ta, state, (X, b""), (Y, b"")) == BAD
    assert derive_code(ta, state, (X, bytes(2048)), (Y, bytes(2049))) == TEE_ERROR_OUT_OF_MEMORY


@pytest.mark.parametrize("curve", [gc.TEE_ECC_CURVE_SM2, gc.TEE_ECC_CURVE_25519])
def test_ecdh_on_other_curves(ta: AsymmetricTa, curve: int) -> None:
    point: list[Attr] = [(X, b"\1"), (Y, b"\1")]
    attrs: list[Attr] = [(gc.TEE_ATTR_ECC_PRIVATE_VALUE, b"\5"), *point]
    key = ta.object(gc.TEE_TYPE_ECDH_KEYPAIR, 256, *attrs, (gc.TEE_ATTR_ECC_CURVE, curve))
    state = ta.state(gc.TEE_ALG_ECDH_DERIVE_SHARED_SECRET, TEE_MODE_DERIVE, key)
    assert derive_code(ta, state, *point) == TEE_ERROR_NOT_IMPLEMENTED


def test_ecdh_without_a_private_value(ta: AsymmetricTa) -> None:
    _, point = ecdh_state(ta)
    attrs: list[Attr] = [(gc.TEE_ATTR_ECC_PRIVATE_VALUE, b""), *point, P256]
    key = ta.object(gc.TEE_TYPE_ECDH_KEYPAIR, 256, *attrs)
    state = ta.state(gc.TEE_ALG_ECDH_DERIVE_SHARED_SECRET, TEE_MODE_DERIVE, key)
    assert derive_code(ta, state, *point) == BAD


@pytest.mark.parametrize(
    ("kind", "bits", "algo", "attr"),
    [
        (
            gc.TEE_TYPE_X25519_KEYPAIR,
            256,
            gc.TEE_ALG_X25519,
            gc.TEE_ATTR_X25519_PUBLIC_VALUE,
        ),
        (gc.TEE_TYPE_X448_KEYPAIR, 448, gc.TEE_ALG_X448, gc.TEE_ATTR_X448_PUBLIC_VALUE),
    ],
)
def test_montgomery(ta: AsymmetricTa, kind: int, bits: int, algo: int, attr: int) -> None:
    first, second = ta.generate(kind, bits), ta.generate(kind, bits)
    publics = [ta.attribute(handle, attr) for handle in (first, second)]
    states = [ta.state(algo, TEE_MODE_DERIVE, handle) for handle in (first, second)]
    secret = ta.derive(states[0], (attr, publics[1]))
    assert secret == ta.derive(states[1], (attr, publics[0]))
    assert len(secret) == bits // 8
    size = bits // 8
    for attrs in (
        [],
        [(attr, publics[1]), (attr, publics[1])],
        [(X, publics[1])],
        [(attr, b"")],
        [(attr, publics[1][1:])],
        [(attr, publics[1] + b"\0")],
    ):
        assert derive_code(ta, states[0], *attrs) == BAD
    for low in (0, 1):
        point = low.to_bytes(size, "little")
        assert derive_code(ta, states[0], (attr, point)) == TEE_ERROR_SECURITY
    code = derive_code(ta, states[0], (attr, publics[1]), obj_type=gc.TEE_TYPE_DES3, bits=192)
    assert code == BAD
    empty = ta.state(algo, TEE_MODE_DERIVE, ta.alloc(kind, bits))
    assert len(ta.derive(empty, (attr, publics[0]))) == size  # OP-TEE does not look


DH = (
    gc.TEE_ATTR_DH_PRIME,
    gc.TEE_ATTR_DH_BASE,
    gc.TEE_ATTR_DH_PUBLIC_VALUE,
    gc.TEE_ATTR_DH_PRIVATE_VALUE,
)


def dh_state(ta: AsymmetricTa, p: int, x: int) -> int:
    values = (p.to_bytes(32, "big"), b"\2", b"\4", x.to_bytes(2, "big"))
    key = ta.object(gc.TEE_TYPE_DH_KEYPAIR, 256, *zip(DH, values, strict=True))
    return ta.state(gc.TEE_ALG_DH_DERIVE_SHARED_SECRET, TEE_MODE_DERIVE, key)


def test_dh(ta: AsymmetricTa) -> None:
    p = 2**255 - 19
    state = dh_state(ta, p, 5)
    public = gc.TEE_ATTR_DH_PUBLIC_VALUE
    assert ta.derive(state, (public, b"\0\0\3")) == bytes((3**5,))
    assert ta.derive(state, (public, b"")) == b""
    assert ta.derive(state, (public, (p + 2).to_bytes(40, "big"))) == b"\x20"
    for attrs in ([], [(public, b"\3"), (public, b"\3")], [(X, b"\3")]):
        assert derive_code(ta, state, *attrs) == BAD
    long: Attr = (public, b"\x7e" * 32)
    assert derive_code(ta, state, long, obj_type=gc.TEE_TYPE_DES, bits=64) == BAD
    assert derive_code(ta, state, (public, bytes(4097))) == TEE_ERROR_OUT_OF_MEMORY
    assert derive_code(ta, dh_state(ta, p - 1, 5), (public, b"\3")) == BAD


# SM2.

KEP_ID = (gc.TEE_ATTR_SM2_ID_INITIATOR, gc.TEE_ATTR_SM2_ID_RESPONDER)
EPHEMERAL = (
    gc.TEE_ATTR_ECC_EPHEMERAL_PUBLIC_VALUE_X,
    gc.TEE_ATTR_ECC_EPHEMERAL_PUBLIC_VALUE_Y,
)
CONFIRMATION_IN = gc.TEE_ATTR_SM2_KEP_CONFIRMATION_IN
CONFIRMATION_OUT = gc.TEE_ATTR_SM2_KEP_CONFIRMATION_OUT
IDENTITY = b"1234567812345678"

# GM/T 0003.5-2012 annex B.2: private and public values of A and of B, and of both in this exchange
A = (
    "81eb26e941bb5af16df116495f90695272ae2cd63d6c4ae1678418be48230029",
    "160e12897df4edb61dd812feb96748fbd3ccf4ffe26aa6f6db9540af49c94232",
    "4a7dad08bb9a459531694beb20aa489d6649975e1bfcf8c4741b78b4b223007f",
)
RA = (
    "d4de15474db74d06491c440d305e012400990f3e390c7e87153c12db2ea60bb3",
    "64ced1bdbc99d590049b434d0fd73428cf608a5db8fe5ce07f15026940bae40e",
    "376629c7ab21e7db260922499ddb118f07ce8eaae3e7720afef6a5cc062070c0",
)
B = (
    "785129917d45a9ea5437a59356b82338eaadda6ceb199088f14ae10defa229b5",
    "6ae848c57c53c7b1b5fa99eb2286af078ba64c64591b8b566f7357d576f16dfb",
    "ee489d771621a27b36c5c7992062e9cd09a9264386f3fbea54dff69305621c4d",
)
RB = (
    "7e07124814b309489125eaed101113164ebf0f3458c5bd88335c1f9d596243d6",
    "acc27688a6f7b706098bc91ff3ad1bff7dc2802cdb14ccccdb0a90471f9bd707",
    "2fedac0494b2ffc4d6853876c79b8f301c6573ad0aa50f39fc87181e1a1b46fe",
)
KEY = bytes.fromhex("6c89347354de2484c60b4ab1fde4c6e5")
FROM_A = bytes.fromhex("18c7894b3816df16cf07b05c5ec0bef5d655d58f779cc1b400a4f3884644db88")
FROM_B = bytes.fromhex("d3a0fe15dee185ceae907a6b595cc32a266ed7b3367e9983a896dc32fa20f8eb")


def kep_state(ta: AsymmetricTa, *keys: tuple[str, str, str]) -> int:
    handles = []
    for private, x, y in keys:
        values = [bytes.fromhex(text) for text in (private, x, y)]
        attrs = zip((gc.TEE_ATTR_ECC_PRIVATE_VALUE, X, Y), values, strict=True)
        handles.append(ta.object(gc.TEE_TYPE_SM2_KEP_KEYPAIR, 256, *attrs))
    return ta.state(gc.TEE_ALG_SM2_KEP, TEE_MODE_DERIVE, *handles)


def kep_params(
    role: int, peer: tuple[str, str, str], ephemeral: tuple[str, str, str]
) -> list[Attr]:
    points = [bytes.fromhex(text) for text in (*peer[1:], *ephemeral[1:])]
    return [
        (gc.TEE_ATTR_SM2_KEP_USER, role),
        *zip((X, Y, *EPHEMERAL), points, strict=True),
        *((attr, IDENTITY) for attr in KEP_ID),
    ]


def test_sm2_kep(ta: AsymmetricTa) -> None:
    """OP-TEE makes as many bytes as the object has bits."""
    initiator, responder = kep_state(ta, A, RA), kep_state(ta, B, RB)
    to_b, to_a = kep_params(0, B, RB), kep_params(1, A, RA)
    first = ta.derive(initiator, *to_b, (CONFIRMATION_IN, FROM_B), bits=16)
    second = ta.derive(responder, *to_a, (CONFIRMATION_IN, FROM_A), bits=16)
    assert first == second == KEY
    long = ta.derive(initiator, *to_b, bits=512)
    assert (len(long), long[:16]) == (512, KEY)
    assert derive_code(ta, initiator, *to_b, bits=520) == BAD
    assert derive_code(ta, initiator, *to_b, obj_type=gc.TEE_TYPE_AES, bits=128) == BAD
    # OP-TEE's older identifiers of the ephemeral key.
    older = {
        EPHEMERAL[0]: gc.OPTEE_SM2_KEP_ATTR_ECC_EPHEMERAL_PUBLIC_VALUE_X,
        EPHEMERAL[1]: gc.OPTEE_SM2_KEP_ATTR_ECC_EPHEMERAL_PUBLIC_VALUE_Y,
    }
    renamed: list[Attr] = [(older.get(attr[0], attr[0]), *attr[1:]) for attr in to_b]
    assert ta.derive(initiator, *renamed, bits=16) == KEY


def test_sm2_kep_confirmations(ta: AsymmetricTa) -> None:
    state, params = kep_state(ta, A, RA), kep_params(0, B, RB)
    given = (CONFIRMATION_IN, FROM_B + b"what follows does not count")
    assert ta.derive(state, *params, given, bits=16) == KEY
    for wrong, code in (
        (FROM_A, TEE_ERROR_BAD_STATE),
        (bytes(32), TEE_ERROR_BAD_STATE),
        (FROM_B[:31], BAD),
        (b"", BAD),
    ):
        assert derive_code(ta, state, *params, (CONFIRMATION_IN, wrong), bits=16) == code
    assert derive_code(ta, state, *params, (CONFIRMATION_OUT, bytes(31)), bits=16) == BAD
    # What OP-TEE 4.10 makes to be sent does not come back to the TA.
    assert ta.derive(state, *params, (CONFIRMATION_OUT, bytes(32)), bits=16) == KEY


def test_sm2_kep_parameters(ta: AsymmetricTa) -> None:
    state, params = kep_state(ta, A, RA), kep_params(0, B, RB)
    for left_out in range(len(params)):
        rest = params[:left_out] + params[left_out + 1 :]
        assert derive_code(ta, state, *rest, bits=16) == BAD
    assert derive_code(ta, state, *params, (SALT, b""), bits=16) == BAD
    # Of several with one meaning the last counts.
    assert ta.derive(state, (X, b"\5"), *params, bits=16) == KEY
    for attr in (X, Y, *EPHEMERAL):
        for wrong in (b"", b"\5", b"\xff" * 40):
            code = derive_code(ta, state, *params, (attr, wrong), bits=16)
            assert code == TEE_ERROR_BAD_STATE
    other = ta.derive(state, *params, (gc.TEE_ATTR_SM2_KEP_USER, 1), bits=16)
    assert other != KEY
    assert ta.derive(state, *params, (KEP_ID[0], b"x" * 4000), bits=16) != KEY


def test_sm2_kep_keys(ta: AsymmetricTa) -> None:
    params = kep_params(0, B, RB)
    public = (X, bytes.fromhex(A[1])), (Y, bytes.fromhex(A[2]))
    keys = [
        ta.object(gc.TEE_TYPE_SM2_KEP_PUBLIC_KEY, 256, *public),
        ta.object(
            gc.TEE_TYPE_SM2_KEP_KEYPAIR, 256, (gc.TEE_ATTR_ECC_PRIVATE_VALUE, b"\1"), *public
        ),
    ]
    state = ta.state(gc.TEE_ALG_SM2_KEP, TEE_MODE_DERIVE, *keys)
    assert derive_code(ta, state, *params, bits=16) == BAD
    empty = [ta.alloc(gc.TEE_TYPE_SM2_KEP_KEYPAIR, 256) for _ in range(2)]
    state = ta.state(gc.TEE_ALG_SM2_KEP, TEE_MODE_DERIVE, *empty)
    assert derive_code(ta, state, *params, bits=16) == TEE_ERROR_BAD_STATE
    with pytest.raises(CallFailed) as failed:
        ta.state(gc.TEE_ALG_SM2_KEP, TEE_MODE_DERIVE, ta.alloc(gc.TEE_TYPE_SM2_KEP_KEYPAIR, 256))
    assert failed.value.code == BAD


def test_parameters_are_read_from_where_they_are(ta: AsymmetricTa) -> None:
    """An attribute whose bytes the TA may not read is refused before anything else."""
    state = hkdf_state(ta)
    ta.write(ATTRIBUTES, abi.UTEE_ATTRIBUTE.pack(NOWHERE, 8, SALT))
    assert ta.call(DERIVE, state, ATTRIBUTES, 1, 0) == TEE_ERROR_ACCESS_DENIED
    ta.write(ATTRIBUTES, abi.UTEE_ATTRIBUTE.pack(IN, 8, SALT))
    assert ta.call(DERIVE, state, ATTRIBUTES, 1, 0) == TEE_ERROR_BAD_STATE
