# SPDX-License-Identifier: BSD-2-Clause
"""Asymmetric operations by system calls: codes, the order of checks, and what is written."""

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa as pyca_rsa

from gentee.abi import gp_crypto as gc
from gentee.abi import optee_ta as abi
from gentee.abi.gp import (
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_BAD_STATE,
    TEE_ERROR_CIPHERTEXT_INVALID,
    TEE_ERROR_GENERIC,
    TEE_ERROR_NOT_IMPLEMENTED,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_ERROR_SECURITY,
    TEE_ERROR_SHORT_BUFFER,
    TEE_ERROR_SIGNATURE_INVALID,
    TEE_SUCCESS,
)
from gentee.abi.gp_crypto import (
    TEE_MODE_DECRYPT,
    TEE_MODE_DIGEST,
    TEE_MODE_ENCRYPT,
    TEE_MODE_SIGN,
    TEE_MODE_VERIFY,
)
from gentee.crypto import edwards
from gentee.crypto.objects import CryptObject
from gentee.crypto.own.dsa import DsaNumbers
from gentee.ta.engine.base import AARCH64, ARM
from tests.svc_asymmetric import SIGNATURE, AsymmetricTa, Attr
from tests.svc_crypto import ATTRIBUTES, IN, OUT, SIZE, CallFailed
from tests.svc_ta import CODE, DATA, LENT, LENT2, NOWHERE, PAGE, STACK, STACK2, everything
from tests.unit.crypto.own.test_dsa import EXAMPLE

OPERATE = abi.TEE_SCN_ASYMM_OPERATE
VERIFY = abi.TEE_SCN_ASYMM_VERIFY
DENIED = TEE_ERROR_ACCESS_DENIED
BAD = TEE_ERROR_BAD_PARAMETERS
INVALID = TEE_ERROR_SIGNATURE_INVALID

RSA_PAIR, RSA_PUBLIC = gc.TEE_TYPE_RSA_KEYPAIR, gc.TEE_TYPE_RSA_PUBLIC_KEY
ECDSA_PAIR, ECDSA_PUBLIC = gc.TEE_TYPE_ECDSA_KEYPAIR, gc.TEE_TYPE_ECDSA_PUBLIC_KEY
RSASSA = gc.TEE_ALG_RSASSA_PKCS1_V1_5_SHA256
PSS = gc.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256
RSAES = gc.TEE_ALG_RSAES_PKCS1_V1_5
OAEP = gc.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA256
NOPAD = gc.TEE_ALG_RSA_NOPAD
ECDSA = gc.TEE_ALG_ECDSA_SHA256
P256: Attr = (gc.TEE_ATTR_ECC_CURVE, gc.TEE_ECC_CURVE_NIST_P256)
X, Y = gc.TEE_ATTR_ECC_PUBLIC_VALUE_X, gc.TEE_ATTR_ECC_PUBLIC_VALUE_Y
PRIVATE = gc.TEE_ATTR_ECC_PRIVATE_VALUE

DIGEST = bytes(range(32))

N, E, D = gc.TEE_ATTR_RSA_MODULUS, gc.TEE_ATTR_RSA_PUBLIC_EXPONENT, gc.TEE_ATTR_RSA_PRIVATE_EXPONENT
CRT = (
    gc.TEE_ATTR_RSA_PRIME1,
    gc.TEE_ATTR_RSA_PRIME2,
    gc.TEE_ATTR_RSA_EXPONENT1,
    gc.TEE_ATTR_RSA_EXPONENT2,
    gc.TEE_ATTR_RSA_COEFFICIENT,
)


@pytest.fixture(params=[AARCH64, ARM])
def ta(request: pytest.FixtureRequest) -> Iterator[AsymmetricTa]:
    tested = AsymmetricTa(request.param)
    yield tested
    tested.end()


def numbers() -> dict[int, int]:
    """The attributes of an RSA key of 1024 bits."""
    n = _KEY.private_numbers()
    values = (n.public_numbers.n, 65537, n.d, n.p, n.q, n.dmp1, n.dmq1, n.iqmp)
    return dict(zip((N, E, D, *CRT), values, strict=True))


_KEY = pyca_rsa.generate_private_key(65537, 1024)


def octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def rsa_key(ta: AsymmetricTa, *left_out: int, **changed: int) -> int:
    """The key; a name of an attribute with another number changes that."""
    values = numbers() | {getattr(gc, f"TEE_ATTR_RSA_{name}"): v for name, v in changed.items()}
    attrs = [(attr, octets(number)) for attr, number in values.items() if attr not in left_out]
    return ta.object(RSA_PAIR, 1024, *attrs)


def rsa_state(ta: AsymmetricTa, algo: int, mode: int, *left_out: int, **changed: int) -> int:
    return ta.state(algo, mode, rsa_key(ta, *left_out, **changed))


def ecdsa_states(ta: AsymmetricTa) -> tuple[int, int]:
    """Operations to sign and to verify with a new key."""
    pair = ta.generate(ECDSA_PAIR, 256, P256)
    public = ta.copy_of(pair, ECDSA_PUBLIC, 256)
    return ta.state(ECDSA, TEE_MODE_SIGN, pair), ta.state(ECDSA, TEE_MODE_VERIFY, public)


def operate_code(
    ta: AsymmetricTa, state: int, data: bytes | None, *attributes: Attr, room: int = 1024
) -> int:
    """The code of an operation that fails, after which nothing but a size was written."""
    ta.write(IN, data or b"")
    ta.put_u64(SIZE, room)
    attrs = ta.put_attributes(*attributes)
    before = everything(ta)
    address = 0 if data is None else IN
    code = ta.call(OPERATE, state, *attrs, address, len(data or b""), OUT, SIZE)
    if code == TEE_SUCCESS:
        return code
    size = ta.u64(SIZE)
    assert (size == room) is (code != TEE_ERROR_SHORT_BUFFER)
    ta.put_u64(SIZE, room)
    assert everything(ta) == before
    ta.put_u64(SIZE, size)
    return code


def verify_code(
    ta: AsymmetricTa, state: int, data: bytes, signature: bytes, *attributes: Attr
) -> int:
    try:
        ta.verify(state, data, signature, *attributes)
    except CallFailed as failed:
        return failed.code
    return TEE_SUCCESS


# Arguments.


def test_arguments_of_operate(ta: AsymmetricTa) -> None:
    """Each is looked at only when those before it are good."""
    state = ecdsa_states(ta)[0]
    ta.put_u64(SIZE, 64)
    good = [state, 0, 0, IN, 32, OUT, SIZE]
    wrong = {
        0: (state + 1000, BAD),
        3: (NOWHERE, DENIED),
        6: (NOWHERE, DENIED),
        5: (CODE, DENIED),
        1: (NOWHERE, DENIED),
    }
    args = list(good)
    args[2] = 1
    for place in (1, 5, 6, 3, 0):
        args[place], code = wrong[place]
        before = everything(ta)
        assert ta.call(OPERATE, *args) == code
        assert everything(ta) == before
    assert ta.call(OPERATE, *good) == TEE_SUCCESS
    ta.put_u64(SIZE, 1 << 40)
    assert ta.call(OPERATE, *good) == DENIED


def test_arguments_of_verify(ta: AsymmetricTa) -> None:
    sign, verify = ecdsa_states(ta)
    signature = ta.operate(sign, DIGEST)
    ta.verify(verify, DIGEST, signature)
    for place, value, code in (
        (0, verify + 1000, BAD),
        (0, sign, BAD),  # another mode
        (3, NOWHERE, DENIED),
        (5, NOWHERE, DENIED),
        (1, NOWHERE, DENIED),
    ):
        args = [verify, ATTRIBUTES, int(place == 1), IN, 32, SIGNATURE, 64]
        args[place] = value
        assert ta.call(VERIFY, *args) == code
    # The mode counts before memory does.
    assert ta.call(VERIFY, sign, 0, 0, NOWHERE, 32, NOWHERE, 64) == BAD


def test_operations_without_keys(ta: AsymmetricTa) -> None:
    digest = ta.state(gc.TEE_ALG_SHA256, TEE_MODE_DIGEST)
    assert operate_code(ta, digest, DIGEST) == TEE_ERROR_BAD_STATE
    verify = ta.state(gc.TEE_ALG_SHA256, TEE_MODE_VERIFY)
    assert verify_code(ta, verify, DIGEST, bytes(64)) == TEE_ERROR_BAD_STATE


def test_keys_without_a_value(ta: AsymmetricTa) -> None:
    sign = ta.state(RSASSA, TEE_MODE_SIGN, ta.alloc(RSA_PAIR, 1024))
    assert operate_code(ta, sign, DIGEST) == TEE_ERROR_GENERIC
    verify = ta.state(RSASSA, TEE_MODE_VERIFY, ta.alloc(RSA_PUBLIC, 1024))
    assert verify_code(ta, verify, DIGEST, bytes(128)) == BAD


def test_a_key_that_is_reset(ta: AsymmetricTa) -> None:
    """OP-TEE lets a TA reset the key of an operation, and give it another value."""
    handle = ta.generate(ECDSA_PAIR, 256, P256)
    state = ta.state(ECDSA, TEE_MODE_SIGN, handle)
    ta.operate(state, DIGEST)
    ta.must(abi.TEE_SCN_CRYP_OBJ_RESET, handle)
    assert operate_code(ta, state, DIGEST) == TEE_ERROR_GENERIC
    other = ta.generate(ECDSA_PAIR, 256, P256)
    ta.must(abi.TEE_SCN_CRYP_OBJ_COPY, handle, other)
    public = ta.copy_of(other, ECDSA_PUBLIC, 256)
    ta.verify(ta.state(ECDSA, TEE_MODE_VERIFY, public), DIGEST, ta.operate(state, DIGEST))


def test_other_classes_of_algorithms(ta: AsymmetricTa) -> None:
    secret = ta.key(gc.TEE_TYPE_AES, bytes(16))
    state = ta.state(gc.TEE_ALG_AES_CTR, TEE_MODE_VERIFY, secret)
    assert operate_code(ta, state, DIGEST) == BAD
    assert verify_code(ta, state, DIGEST, bytes(64)) == TEE_ERROR_NOT_SUPPORTED
    ecdh = ta.generate(gc.TEE_TYPE_ECDH_KEYPAIR, 256, P256)
    state = ta.state(gc.TEE_ALG_ECDH_DERIVE_SHARED_SECRET, TEE_MODE_VERIFY, ecdh)
    assert operate_code(ta, state, DIGEST) == BAD
    assert verify_code(ta, state, DIGEST, bytes(64)) == TEE_ERROR_NOT_SUPPORTED


def test_result_in_two_regions(ta: AsymmetricTa) -> None:
    sign, verify = ecdsa_states(ta)
    ta.write(IN, DIGEST)
    for at in (STACK2 - 10, LENT2 - 63):
        ta.put_u64(SIZE, 64)
        assert ta.call(OPERATE, sign, 0, 0, IN, 32, at, SIZE) == TEE_SUCCESS
        ta.verify(verify, DIGEST, ta.read(at, 64))
    # And so may be its size, and the message.
    ta.put_u64(STACK2 - 4, 64)
    ta.write(LENT2 - 16, DIGEST)
    assert ta.call(OPERATE, sign, 0, 0, LENT2 - 16, 32, STACK, STACK2 - 4) == TEE_SUCCESS
    ta.verify(verify, DIGEST, ta.read(STACK, 64))


def test_result_over_the_data(ta: AsymmetricTa) -> None:
    sign, verify = ecdsa_states(ta)
    ta.write(IN, DIGEST)
    ta.put_u64(SIZE, 100)
    assert ta.call(OPERATE, sign, 0, 0, IN, 32, IN + 7, SIZE) == TEE_SUCCESS
    assert ta.u64(SIZE) == 64
    ta.verify(verify, DIGEST, ta.read(IN + 7, 64))


SIGNERS: list[tuple[int, int, int, tuple[Attr, ...], int, int]] = [
    # algorithm, key, its bits, attributes, bytes of a digest, bytes of a signature
    (RSASSA, RSA_PAIR, 1024, (), 32, 128),
    (PSS, RSA_PAIR, 1024, (), 32, 128),
    (gc.TEE_ALG_RSASSA_PKCS1_V1_5, RSA_PAIR, 1024, (), 32, 128),
    (ECDSA, ECDSA_PAIR, 256, (P256,), 32, 64),
    (gc.TEE_ALG_ECDSA_SHA512, ECDSA_PAIR, 521, ((gc.TEE_ATTR_ECC_CURVE, 5),), 64, 132),
    (gc.TEE_ALG_ED25519, gc.TEE_TYPE_ED25519_KEYPAIR, 256, (), 100, 64),
    (gc.TEE_ALG_SM2_DSA_SM3, gc.TEE_TYPE_SM2_DSA_KEYPAIR, 256, (), 32, 64),
]


@pytest.mark.parametrize(("algo", "kind", "bits", "attrs", "size", "signature_size"), SIGNERS)
def test_sign_and_verify(
    ta: AsymmetricTa,
    algo: int,
    kind: int,
    bits: int,
    attrs: tuple[Attr, ...],
    size: int,
    signature_size: int,
) -> None:
    pair = ta.generate(kind, bits, *attrs)
    public = ta.copy_of(pair, kind & ~0x01000000, bits)
    sign, verify = ta.state(algo, TEE_MODE_SIGN, pair), ta.state(algo, TEE_MODE_VERIFY, public)
    data = bytes(range(size))
    for room in (0, signature_size - 1):
        assert operate_code(ta, sign, data, room=room) == TEE_ERROR_SHORT_BUFFER
        assert ta.u64(SIZE) == signature_size
    signature = ta.operate(sign, data, room=signature_size)
    assert len(signature) == signature_size
    ta.verify(verify, data, signature)
    wrong = bytes((signature[0] ^ 1,)) + signature[1:]
    assert verify_code(ta, verify, data, wrong) == INVALID
    assert verify_code(ta, verify, data[::-1], signature) == INVALID
    # A public key signs nothing.
    if algo not in (RSASSA, PSS, gc.TEE_ALG_RSASSA_PKCS1_V1_5):
        assert operate_code(ta, verify, data) == BAD


# RSA.


def test_rsa_modes(ta: AsymmetricTa) -> None:
    for algo, mode, code in (
        (NOPAD, TEE_MODE_SIGN, TEE_ERROR_GENERIC),
        (RSAES, TEE_MODE_SIGN, BAD),
        (OAEP, TEE_MODE_VERIFY, BAD),
        (RSASSA, TEE_MODE_DECRYPT, BAD),
        (gc.TEE_ALG_RSASSA_PKCS1_V1_5_SHA3_256, TEE_MODE_SIGN, BAD),
        (gc.TEE_ALG_RSASSA_PKCS1_V1_5_MD5SHA1, TEE_MODE_SIGN, BAD),
        (gc.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA3_256, TEE_MODE_ENCRYPT, BAD),
    ):
        assert operate_code(ta, rsa_state(ta, algo, mode), DIGEST) == code
    for algo, code in (
        (gc.TEE_ALG_RSASSA_PKCS1_V1_5_SHA3_256, BAD),
        (gc.TEE_ALG_RSASSA_PKCS1_V1_5_MD5SHA1, TEE_ERROR_NOT_SUPPORTED),
        (NOPAD, TEE_ERROR_NOT_SUPPORTED),
        (RSAES, TEE_ERROR_NOT_SUPPORTED),
        (OAEP, TEE_ERROR_NOT_SUPPORTED),
    ):
        assert verify_code(ta, rsa_state(ta, algo, TEE_MODE_VERIFY), DIGEST, bytes(128)) == code


def test_rsa_digests(ta: AsymmetricTa) -> None:
    sign = rsa_state(ta, RSASSA, TEE_MODE_SIGN)
    verify = rsa_state(ta, RSASSA, TEE_MODE_VERIFY)
    signature = ta.operate(sign, DIGEST)
    for wrong in (b"", DIGEST[:31], DIGEST + b"x"):
        assert operate_code(ta, sign, wrong, room=0) == BAD  # before the room
        assert verify_code(ta, verify, wrong, signature) == BAD
    for size in (0, 127):
        assert verify_code(ta, verify, DIGEST, signature[:size]) == INVALID
    assert verify_code(ta, verify, DIGEST, signature + b"\0") == INVALID
    assert verify_code(ta, verify, DIGEST, b"\xff" * 128) == INVALID


def test_rsa_any_bytes(ta: AsymmetricTa) -> None:
    """TEE_ALG_RSASSA_PKCS1_V1_5 signs what it is given."""
    sign = rsa_state(ta, gc.TEE_ALG_RSASSA_PKCS1_V1_5, TEE_MODE_SIGN)
    verify = rsa_state(ta, gc.TEE_ALG_RSASSA_PKCS1_V1_5, TEE_MODE_VERIFY)
    for size in (0, 1, 20, 117):
        data = bytes(range(size))
        signature = ta.operate(sign, data)
        ta.verify(verify, data, signature)
        assert verify_code(ta, verify, data + b"x", signature) == INVALID
    assert operate_code(ta, sign, bytes(118)) == BAD
    assert operate_code(ta, sign, None) == BAD
    ta.write(SIGNATURE, ta.operate(sign, b""))
    assert ta.call(VERIFY, verify, 0, 0, 0, 0, SIGNATURE, 128) == TEE_ERROR_GENERIC


def test_pss_salts(ta: AsymmetricTa) -> None:
    sign, verify = rsa_state(ta, PSS, TEE_MODE_SIGN), rsa_state(ta, PSS, TEE_MODE_VERIFY)
    salt = gc.TEE_ATTR_RSA_PSS_SALT_LENGTH
    for size in (0, 1, 32, 94):
        signature = ta.operate(sign, DIGEST, (salt, size))
        ta.verify(verify, DIGEST, signature, (salt, size), (salt, 7))
        assert verify_code(ta, verify, DIGEST, signature, (salt, size + 1)) == INVALID
    assert operate_code(ta, sign, DIGEST, (salt, 95)) == BAD
    assert verify_code(ta, verify, DIGEST, bytes(128), (salt, 95)) == INVALID
    # Too large a number is none, and then the salt is as long as the digest.
    ta.verify(verify, DIGEST, ta.operate(sign, DIGEST, (salt, 0xFFFFFFFF)))
    ta.verify(verify, DIGEST, ta.operate(sign, DIGEST), (salt, 32))


def test_rsa_encryption(ta: AsymmetricTa) -> None:
    for algo, most in ((RSAES, 117), (OAEP, 62)):
        encrypt = rsa_state(ta, algo, TEE_MODE_ENCRYPT)
        decrypt = rsa_state(ta, algo, TEE_MODE_DECRYPT)
        assert operate_code(ta, encrypt, b"x", room=127) == TEE_ERROR_SHORT_BUFFER
        assert ta.u64(SIZE) == 128
        assert operate_code(ta, encrypt, bytes(most + 1)) == BAD
        assert operate_code(ta, encrypt, bytes(200), room=0) == TEE_ERROR_SHORT_BUFFER
        for data in (b"", b"x", bytes(range(most))):
            sealed = ta.operate(encrypt, data)
            assert len(sealed) == 128
            assert ta.operate(decrypt, sealed, room=len(data)) == data
            if data:
                code = operate_code(ta, decrypt, sealed, room=len(data) - 1)
                assert code == TEE_ERROR_SHORT_BUFFER
                assert ta.u64(SIZE) == len(data)
        for wrong in (b"", sealed[:-1], sealed + b"\0", b"\xff" * 128, b"\1" * 128):
            assert operate_code(ta, decrypt, wrong) == BAD
        assert operate_code(ta, decrypt, None) == TEE_ERROR_GENERIC
        # libtomcrypt's check of its own arithmetic does not expect this number.
        assert operate_code(ta, decrypt, octets(numbers()[N])) == TEE_ERROR_GENERIC
        ta.write(IN, b"")
        ta.put_u64(SIZE, 128)
        assert ta.call(OPERATE, encrypt, 0, 0, 0, 0, OUT, SIZE) == TEE_SUCCESS


def test_oaep_parameters(ta: AsymmetricTa) -> None:
    label, mgf = gc.TEE_ATTR_RSA_OAEP_LABEL, gc.TEE_ATTR_RSA_OAEP_MGF_HASH
    sha1: Attr = (mgf, gc.TEE_ALG_SHA1.to_bytes(4, "little"))
    encrypt = rsa_state(ta, OAEP, TEE_MODE_ENCRYPT)
    decrypt = rsa_state(ta, OAEP, TEE_MODE_DECRYPT)
    sealed = ta.operate(encrypt, b"data", (label, b"one"))
    assert ta.operate(decrypt, sealed, (label, b"one"), (label, b"two")) == b"data"
    assert operate_code(ta, decrypt, sealed, (label, b"two")) == BAD
    assert operate_code(ta, decrypt, sealed) == BAD
    sealed = ta.operate(encrypt, b"data", sha1)
    assert ta.operate(decrypt, sealed, sha1, (label, b"")) == b"data"
    assert operate_code(ta, decrypt, sealed) == BAD
    # What follows the label is not looked at.
    assert operate_code(ta, decrypt, sealed, (label, b""), sha1) == BAD
    rsa_algorithm: Attr = (mgf, PSS.to_bytes(4, "little"))
    sealed = ta.operate(encrypt, b"data", rsa_algorithm)  # its digest is SHA-256
    assert ta.operate(decrypt, sealed) == b"data"
    for content, code in (
        (b"\0" * 3, BAD),
        (b"", BAD),
        (gc.TEE_ALG_SM3.to_bytes(4, "little"), BAD),
        (gc.TEE_ALG_AES_CTR.to_bytes(4, "little"), BAD),
        (RSAES.to_bytes(4, "little"), TEE_ERROR_GENERIC),
    ):
        assert operate_code(ta, encrypt, b"data", (mgf, content)) == code
        assert operate_code(ta, decrypt, sealed, (mgf, content)) == code
    pkcs1 = rsa_state(ta, RSAES, TEE_MODE_ENCRYPT)
    assert len(ta.operate(pkcs1, b"data", (mgf, b"not looked at"))) == 128


def test_nopad(ta: AsymmetricTa) -> None:
    encrypt = rsa_state(ta, NOPAD, TEE_MODE_ENCRYPT)
    decrypt = rsa_state(ta, NOPAD, TEE_MODE_DECRYPT)
    for state in (encrypt, decrypt):
        assert ta.operate(state, b"") == b"\0"
        assert ta.operate(state, b"\0\1") == b"\1"
        assert operate_code(ta, state, b"", room=0) == TEE_ERROR_SHORT_BUFFER
        assert ta.u64(SIZE) == 1
        assert operate_code(ta, state, octets(numbers()[N] + 1)) == BAD
        assert operate_code(ta, state, None) == TEE_ERROR_GENERIC
    sealed = ta.operate(encrypt, b"\0data")
    assert ta.operate(decrypt, bytes(3) + sealed, room=4) == b"data"
    assert operate_code(ta, decrypt, sealed, room=3) == TEE_ERROR_SHORT_BUFFER
    assert ta.u64(SIZE) == 4
    assert ta.operate(encrypt, octets(numbers()[N])) == b"\0"
    assert operate_code(ta, decrypt, octets(numbers()[N])) == TEE_ERROR_GENERIC


@pytest.mark.parametrize("algo", [RSASSA, PSS, gc.TEE_ALG_RSASSA_PKCS1_V1_5])
def test_rsa_keys_that_openssl_refuses(ta: AsymmetricTa, algo: int) -> None:
    """Numbers that do not belong together, or no primes, or none that there are."""
    public = rsa_state(ta, algo, TEE_MODE_VERIFY)
    plain = rsa_state(ta, algo, TEE_MODE_SIGN, *CRT)
    ta.verify(public, DIGEST, ta.operate(plain, DIGEST))
    # A private exponent that is none: OP-TEE computes with it.
    wrong = rsa_state(ta, algo, TEE_MODE_SIGN, *CRT, PRIVATE_EXPONENT=numbers()[D] - 2)
    assert verify_code(ta, public, DIGEST, ta.operate(wrong, DIGEST)) == INVALID
    # With primes it looks at the result.
    for change in ("EXPONENT1", "COEFFICIENT", "PRIME1"):
        broken = rsa_state(ta, algo, TEE_MODE_SIGN, **{change: 12345})
        assert operate_code(ta, broken, DIGEST) == BAD
    # The private exponent is not needed then.
    other = rsa_state(ta, algo, TEE_MODE_SIGN, PRIVATE_EXPONENT=4)
    ta.verify(public, DIGEST, ta.operate(other, DIGEST))
    even = rsa_state(ta, algo, TEE_MODE_SIGN, MODULUS=numbers()[N] - 1)
    assert operate_code(ta, even, DIGEST) == BAD
    even = rsa_state(ta, algo, TEE_MODE_VERIFY, MODULUS=numbers()[N] - 1)
    assert verify_code(ta, even, DIGEST, bytes(127) + b"\2") == TEE_ERROR_GENERIC


def test_encryption_with_numbers_that_are_no_key(ta: AsymmetricTa) -> None:
    for algo in (NOPAD, RSAES, OAEP):
        broken = rsa_state(ta, algo, TEE_MODE_DECRYPT, COEFFICIENT=7)
        assert operate_code(ta, broken, b"\5" * 128) == TEE_ERROR_GENERIC
        even = rsa_state(ta, algo, TEE_MODE_ENCRYPT, MODULUS=numbers()[N] - 1)
        assert operate_code(ta, even, b"data") == TEE_ERROR_GENERIC


def test_rsa_with_a_long_exponent(ta: AsymmetricTa) -> None:
    """OpenSSL takes no long exponents for a long modulus."""
    made = pyca_rsa.generate_private_key(65537, 3200).private_numbers()
    phi = (made.p - 1) * (made.q - 1)
    e = (1 << 200) + 235
    while True:
        try:
            d = pow(e, -1, phi)
            break
        except ValueError:
            e += 2
    attrs: list[Attr] = [(N, octets(made.p * made.q)), (E, octets(e)), (D, octets(d))]
    for algo in (RSASSA, PSS):
        sign = ta.state(algo, TEE_MODE_SIGN, ta.object(RSA_PAIR, 3200, *attrs))
        verify = ta.state(algo, TEE_MODE_VERIFY, ta.object(RSA_PUBLIC, 3200, *attrs[:2]))
        signature = ta.operate(sign, DIGEST)
        ta.verify(verify, DIGEST, signature)
        assert verify_code(ta, verify, DIGEST[::-1], signature) == INVALID
    encrypt = ta.state(OAEP, TEE_MODE_ENCRYPT, ta.object(RSA_PUBLIC, 3200, *attrs[:2]))
    decrypt = ta.state(OAEP, TEE_MODE_DECRYPT, ta.object(RSA_PAIR, 3200, *attrs))
    assert ta.operate(decrypt, ta.operate(encrypt, b"data")) == b"data"


def test_short_rsa_keys(ta: AsymmetricTa) -> None:
    """Signatures and padding that do not fit, and those that do."""
    pair = ta.generate(RSA_PAIR, 256)
    copies = [ta.copy_of(pair, RSA_PAIR, 256) for _ in range(3)]
    assert operate_code(ta, ta.state(RSASSA, TEE_MODE_SIGN, copies[0]), DIGEST) == BAD
    assert operate_code(ta, ta.state(OAEP, TEE_MODE_ENCRYPT, copies[1]), b"") == BAD
    assert operate_code(ta, ta.state(OAEP, TEE_MODE_DECRYPT, copies[2]), b"\1" * 32) == BAD
    sign = ta.state(gc.TEE_ALG_RSASSA_PKCS1_V1_5, TEE_MODE_SIGN, ta.copy_of(pair, RSA_PAIR, 256))
    verify = ta.state(gc.TEE_ALG_RSASSA_PKCS1_V1_5, TEE_MODE_VERIFY, pair)
    ta.verify(verify, b"short", ta.operate(sign, b"short"))


# ECDSA.


@pytest.mark.parametrize(
    ("curve", "bits", "algo"),
    [
        (1, 192, gc.TEE_ALG_ECDSA_SHA1),
        (2, 224, gc.TEE_ALG_ECDSA_SHA224),
        (3, 256, gc.TEE_ALG_ECDSA_SHA256),
        (4, 384, gc.TEE_ALG_ECDSA_SHA384),
        (5, 521, gc.TEE_ALG_ECDSA_SHA512),
    ],
)
def test_ecdsa_digests(ta: AsymmetricTa, curve: int, bits: int, algo: int) -> None:
    """Of any size: a short one is a number, of a long one the first bits of the order count."""
    pair = ta.generate(ECDSA_PAIR, bits, (gc.TEE_ATTR_ECC_CURVE, curve))
    public = ta.copy_of(pair, ECDSA_PUBLIC, bits)
    sign, verify = ta.state(algo, TEE_MODE_SIGN, pair), ta.state(algo, TEE_MODE_VERIFY, public)
    size = (bits + 7) // 8
    for length in (0, 1, 20, size - 1, size, size + 1, 200):
        data = bytes(n & 0xFF for n in range(1, length + 1))
        signature = ta.operate(sign, data)
        ta.verify(verify, data, signature)
        if length < bits // 8:
            ta.verify(verify, b"\0" + data, signature)
        elif length > size:
            ta.verify(verify, data[:size], signature)
    if bits == 521:  # seven bits of the last byte are none of the order's
        signature = ta.operate(sign, bytes(65) + b"\x80")
        ta.verify(verify, bytes(65) + b"\xff", signature)
    assert operate_code(ta, sign, None) == TEE_ERROR_GENERIC
    ta.write(SIGNATURE, signature)
    assert ta.call(VERIFY, verify, 0, 0, 0, 0, SIGNATURE, 2 * size) == TEE_ERROR_GENERIC
    for wrong in (b"", signature[1:], signature + b"\0"):
        assert verify_code(ta, verify, b"data", wrong) == BAD
    for wrong in (bytes(2 * size), b"\xff" * 2 * size, bytes(size) + signature[size:]):
        assert verify_code(ta, verify, b"data", wrong) == INVALID


def test_ecdsa_algorithms_say_the_curve(ta: AsymmetricTa) -> None:
    for algo, code in (
        (gc.TEE_ALG_ECDSA_SHA384, BAD),
        (gc.OPTEE_ALG_ECDSA_P521, BAD),
        (gc.OPTEE_ALG_ECDSA_P256, TEE_SUCCESS),
    ):
        pair = ta.generate(ECDSA_PAIR, 256, P256)
        assert operate_code(ta, ta.state(algo, TEE_MODE_SIGN, pair), DIGEST) == code
        verify = ta.state(algo, TEE_MODE_VERIFY, ta.generate(ECDSA_PAIR, 256, P256))
        expected = INVALID if code == TEE_SUCCESS else code
        assert verify_code(ta, verify, DIGEST, b"\1" * 64) == expected
    for curve, code in (
        (gc.TEE_ECC_CURVE_SM2, BAD),
        (gc.TEE_ECC_CURVE_25519, TEE_ERROR_NOT_SUPPORTED),
    ):
        attrs: list[Attr] = [(X, b"\1"), (Y, b"\1"), (gc.TEE_ATTR_ECC_CURVE, curve)]
        key = ta.object(ECDSA_PAIR, 256, (PRIVATE, b"\5"), *attrs)
        assert operate_code(ta, ta.state(ECDSA, TEE_MODE_SIGN, key), DIGEST) == code
        key = ta.object(ECDSA_PUBLIC, 256, *attrs)
        assert verify_code(ta, ta.state(ECDSA, TEE_MODE_VERIFY, key), DIGEST, bytes(64)) == code


def test_ecdsa_values(ta: AsymmetricTa) -> None:
    """A private value counts modulo the order, and a public one only where it is used."""
    pair = ta.generate(ECDSA_PAIR, 256, P256)
    d, x, y = (ta.attribute(pair, attr) for attr in (PRIVATE, X, Y))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    verify = ta.state(ECDSA, TEE_MODE_VERIFY, ta.object(ECDSA_PUBLIC, 256, (X, x), (Y, y), P256))
    for private in (d, octets(int.from_bytes(d, "big") + 3 * order)):
        key = ta.object(ECDSA_PAIR, 256, (PRIVATE, private), (X, b"\1"), (Y, b"\1"), P256)
        ta.verify(verify, DIGEST, ta.operate(ta.state(ECDSA, TEE_MODE_SIGN, key), DIGEST))
    for private in (b"", octets(order)):
        key = ta.object(ECDSA_PAIR, 256, (PRIVATE, private), (X, x), (Y, y), P256)
        code = operate_code(ta, ta.state(ECDSA, TEE_MODE_SIGN, key), DIGEST)
        assert code == TEE_ERROR_GENERIC
    signature = ta.operate(ta.state(ECDSA, TEE_MODE_SIGN, pair), DIGEST)
    off = ta.object(ECDSA_PUBLIC, 256, (X, x), (Y, b"\1"), P256)
    state = ta.state(ECDSA, TEE_MODE_VERIFY, off)
    assert verify_code(ta, state, DIGEST, signature) == INVALID


# DSA.


def dsa_attributes(key: DsaNumbers) -> list[Attr]:
    return [
        (gc.TEE_ATTR_DSA_PRIME, octets(key.p)),
        (gc.TEE_ATTR_DSA_SUBPRIME, octets(key.q)),
        (gc.TEE_ATTR_DSA_BASE, octets(key.g)),
        (gc.TEE_ATTR_DSA_PUBLIC_VALUE, octets(key.y)),
        (gc.TEE_ATTR_DSA_PRIVATE_VALUE, octets(key.x)),
    ]


def dsa_states(ta: AsymmetricTa, algo: int, key: DsaNumbers) -> tuple[int, int]:
    attrs = dsa_attributes(key)
    pair = ta.object(gc.TEE_TYPE_DSA_KEYPAIR, 512, *attrs)
    public = ta.object(gc.TEE_TYPE_DSA_PUBLIC_KEY, 512, *attrs[:4])
    return ta.state(algo, TEE_MODE_SIGN, pair), ta.state(algo, TEE_MODE_VERIFY, public)


def test_dsa(ta: AsymmetricTa) -> None:
    sign, verify = dsa_states(ta, gc.TEE_ALG_DSA_SHA256, EXAMPLE)
    for size in (0, 19, 21, 32):
        assert operate_code(ta, sign, bytes(size), room=0) == TEE_ERROR_SECURITY
    data = bytes(range(20))
    assert operate_code(ta, sign, data, room=39) == TEE_ERROR_SHORT_BUFFER
    assert ta.u64(SIZE) == 40
    signature = ta.operate(sign, data)
    ta.verify(verify, data, signature)
    ta.verify(verify, data + bytes(12), signature)
    ta.verify(verify, data, signature + b"x")  # the halves are what they were
    assert verify_code(ta, verify, bytes(20), signature) == INVALID
    assert verify_code(ta, verify, data, signature + b"xx") == INVALID
    for wrong in (b"", bytes(40), b"\xff" * 40, signature[::-1]):
        assert verify_code(ta, verify, data, wrong) == INVALID
    for size in (0, 19, 21, 31, 33):
        assert verify_code(ta, verify, bytes(size), signature) == BAD
    assert operate_code(ta, verify, data) == BAD


def test_dsa_with_numbers_that_are_no_key(ta: AsymmetricTa) -> None:
    for key in (EXAMPLE._replace(g=0), EXAMPLE._replace(p=EXAMPLE.p - 1)):
        sign = dsa_states(ta, gc.TEE_ALG_DSA_SHA1, key)[0]
        assert operate_code(ta, sign, bytes(20)) == TEE_ERROR_GENERIC
    even = EXAMPLE._replace(p=EXAMPLE.p - 1)
    verify = dsa_states(ta, gc.TEE_ALG_DSA_SHA1, even)[1]
    assert verify_code(ta, verify, bytes(20), b"\1" * 40) == TEE_ERROR_GENERIC


def test_dsa_algorithms(ta: AsymmetricTa) -> None:
    sign, verify = dsa_states(ta, gc.TEE_ALG_DSA_SHA3_256, EXAMPLE)
    assert operate_code(ta, sign, bytes(20)) == BAD
    assert verify_code(ta, verify, bytes(20), bytes(40)) == TEE_ERROR_NOT_IMPLEMENTED


# Ed25519.

CONTEXT, PREHASH = gc.TEE_ATTR_EDDSA_CTX, gc.TEE_ATTR_EDDSA_PREHASH


def ed25519_states(ta: AsymmetricTa) -> tuple[int, int]:
    pair = ta.generate(gc.TEE_TYPE_ED25519_KEYPAIR, 256)
    public = ta.copy_of(pair, gc.TEE_TYPE_ED25519_PUBLIC_KEY, 256)
    algo = gc.TEE_ALG_ED25519
    return ta.state(algo, TEE_MODE_SIGN, pair), ta.state(algo, TEE_MODE_VERIFY, public)


def test_ed25519_parameters(ta: AsymmetricTa) -> None:
    """Whatever is signed in one way is not a signature in another one."""
    sign, verify = ed25519_states(ta)
    ways: list[list[Attr]] = [
        [],
        [(CONTEXT, b"foo")],
        [(CONTEXT, b"f" * 255)],
        [(PREHASH, 1)],
        [(CONTEXT, b"foo"), (PREHASH, 1)],
    ]
    signatures = [ta.operate(sign, b"message", *way) for way in ways]
    assert len(set(signatures)) == len(ways)
    for way in ways:
        for other, signature in zip(ways, signatures, strict=True):
            code = TEE_SUCCESS if way == other else INVALID
            assert verify_code(ta, verify, b"message", signature, *way) == code
    same: list[list[Attr]] = [[(CONTEXT, b"")], [(PREHASH, 0)], [(PREHASH, 1), (PREHASH, 0)]]
    for way in same:
        assert ta.operate(sign, b"message", *way) == signatures[0]
        ta.verify(verify, b"message", signatures[0], *way)
    assert ta.operate(sign, b"message", (CONTEXT, b""), (CONTEXT, b"foo")) == signatures[1]


@pytest.mark.parametrize(
    "way",
    [
        [(CONTEXT, b"f" * 256)],
        [(CONTEXT, b"foo"), (CONTEXT, b"")],
        [(PREHASH, 2)],
        [(PREHASH, 1, 1)],
        [(gc.TEE_ATTR_RSA_OAEP_LABEL, b"foo")],
    ],
)
def test_wrong_ed25519_parameters(ta: AsymmetricTa, way: list[Attr]) -> None:
    sign, verify = ed25519_states(ta)
    assert operate_code(ta, sign, b"message", *way, room=0) == BAD
    assert verify_code(ta, verify, b"message", bytes(64), *way) == BAD


def test_ed25519_arguments(ta: AsymmetricTa) -> None:
    sign, verify = ed25519_states(ta)
    signature = ta.operate(sign, b"")
    ta.verify(verify, b"", signature)
    prehash: Attr = (PREHASH, 1)
    ta.verify(verify, b"", ta.operate(sign, b"", prehash), prehash)
    for wrong in (b"", signature[:63], signature + b"\0"):
        assert verify_code(ta, verify, b"", wrong) == BAD
    for attrs in ((), (prehash,)):
        assert operate_code(ta, sign, None, *attrs) == BAD
        assert operate_code(ta, sign, b"", *attrs, room=63) == TEE_ERROR_SHORT_BUFFER
        assert ta.u64(SIZE) == 64
    long = bytes(range(256)) * 200
    ta.verify(verify, long, ta.operate(sign, long))
    none = ta.object(
        gc.TEE_TYPE_ED25519_PUBLIC_KEY, 256, (gc.TEE_ATTR_ED25519_PUBLIC_VALUE, b"\2" + bytes(31))
    )
    state = ta.state(gc.TEE_ALG_ED25519, TEE_MODE_VERIFY, none)
    for attrs in ((), (prehash,)):
        assert verify_code(ta, state, b"", bytes(64), *attrs) == BAD


# SM2.


def sm2_pke_states(ta: AsymmetricTa) -> tuple[int, int]:
    pair = ta.generate(gc.TEE_TYPE_SM2_PKE_KEYPAIR, 256)
    public = ta.copy_of(pair, gc.TEE_TYPE_SM2_PKE_PUBLIC_KEY, 256)
    algo = gc.TEE_ALG_SM2_PKE
    return ta.state(algo, TEE_MODE_ENCRYPT, public), ta.state(algo, TEE_MODE_DECRYPT, pair)


def test_sm2_pke(ta: AsymmetricTa) -> None:
    encrypt, decrypt = sm2_pke_states(ta)
    message = b"a message of some bytes"
    size = 65 + len(message) + 32
    assert operate_code(ta, encrypt, message, room=64) == TEE_ERROR_BAD_STATE
    for room in (65, size - 1):
        assert operate_code(ta, encrypt, message, room=room) == TEE_ERROR_SHORT_BUFFER
        assert ta.u64(SIZE) == size
    assert operate_code(ta, encrypt, b"") == TEE_ERROR_CIPHERTEXT_INVALID
    sealed = ta.operate(encrypt, message, room=size)
    assert ta.operate(decrypt, sealed) == message
    assert ta.operate(decrypt, sealed, room=5) == message[:5]  # as OP-TEE does
    assert ta.operate(decrypt, sealed, room=0) == b""
    for place, code in (
        (0, BAD),
        (1, BAD),
        (64, BAD),
        (65, TEE_ERROR_CIPHERTEXT_INVALID),
        (size - 1, TEE_ERROR_CIPHERTEXT_INVALID),
    ):
        wrong = bytearray(sealed)
        wrong[place] ^= 0x80
        assert operate_code(ta, decrypt, bytes(wrong)) == code
    for form in (2, 3, 6, 7):
        code = operate_code(ta, decrypt, bytes((form,)) + sealed[1:])
        assert code == TEE_ERROR_NOT_SUPPORTED
    for short in (b"", sealed[:1], sealed[:64], sealed[:97]):
        assert operate_code(ta, decrypt, short) == BAD
    assert operate_code(ta, decrypt, None) == BAD


def test_sm2_modes(ta: AsymmetricTa) -> None:
    pair = ta.generate(gc.TEE_TYPE_SM2_PKE_KEYPAIR, 256)
    state = ta.state(gc.TEE_ALG_SM2_PKE, TEE_MODE_SIGN, pair)
    assert operate_code(ta, state, b"data") == TEE_ERROR_GENERIC
    off: list[Attr] = [(X, b"\1"), (Y, b"\1")]
    public = ta.object(gc.TEE_TYPE_SM2_PKE_PUBLIC_KEY, 256, *off)
    state = ta.state(gc.TEE_ALG_SM2_PKE, TEE_MODE_ENCRYPT, public)
    assert operate_code(ta, state, b"data") == TEE_ERROR_BAD_STATE
    public = ta.object(gc.TEE_TYPE_SM2_DSA_PUBLIC_KEY, 256, *off)
    state = ta.state(gc.TEE_ALG_SM2_DSA_SM3, TEE_MODE_VERIFY, public)
    assert verify_code(ta, state, DIGEST, b"\1" * 64) == INVALID
    for size in (0, 63, 65):
        assert verify_code(ta, state, DIGEST, bytes(size)) == BAD


def test_sm2_private_values(ta: AsymmetricTa) -> None:
    order = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
    off: list[Attr] = [(X, b"\1"), (Y, b"\1")]
    key = ta.object(gc.TEE_TYPE_SM2_DSA_KEYPAIR, 256, (PRIVATE, octets(order - 1)), *off)
    state = ta.state(gc.TEE_ALG_SM2_DSA_SM3, TEE_MODE_SIGN, key)
    assert operate_code(ta, state, DIGEST) == TEE_ERROR_BAD_STATE
    sealed = ta.operate(sm2_pke_states(ta)[0], b"data")
    key = ta.object(gc.TEE_TYPE_SM2_PKE_KEYPAIR, 256, (PRIVATE, octets(order)), *off)
    state = ta.state(gc.TEE_ALG_SM2_PKE, TEE_MODE_DECRYPT, key)
    assert operate_code(ta, state, sealed) == TEE_ERROR_BAD_STATE


def test_what_a_client_shares_is_signed_as_a_copy(
    ta: AsymmetricTa, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that changes between two looks at it would give away the private key."""
    sign, verify = ed25519_states(ta)
    ta.write(LENT, b"shared message")
    ta.put_u64(SIZE, 64)
    given: list[object] = []
    original = edwards.sign

    def sign_later(key: CryptObject, data: bytes | None, *args: object) -> bytes:
        given.append(data)
        ta.write(LENT, b"another message")
        return original(key, data, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(edwards, "sign", sign_later)
    assert ta.call(OPERATE, sign, 0, 0, LENT, 14, DATA + PAGE, SIZE) == TEE_SUCCESS
    assert given == [b"shared message"]
    assert isinstance(given[0], bytes)
    ta.verify(verify, b"shared message", ta.read(DATA + PAGE, 64))
