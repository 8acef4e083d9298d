# SPDX-License-Identifier: BSD-2-Clause
"""The cryptographic API in real services: locked processes, clients' memory, panics."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gentee.abi.gp import TEE_ERROR_SHORT_BUFFER, TEE_ORIGIN_TRUSTED_APP
from gentee.client import Out, Value
from gentee.errors import ShortBuffer
from tests.functional.test_services import Tee, fails, is_dead
from tests.helpers import ServiceHost, wait_until


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture
def tee(host: ServiceHost, tmp_path: Path) -> Iterator[Tee]:
    tee = Tee(host, tmp_path)
    yield tee
    for line in tee.lines:
        print(line)
    tee.close()
    assert not host.bugs


@pytest.fixture(params=[False, True], ids=["shm-alloc", "reg-mem"])
def each_tee(request: pytest.FixtureRequest, host: ServiceHost, tmp_path: Path) -> Iterator[Tee]:
    """With shared pages and with copies."""
    tee = Tee(host, tmp_path, reg_mem=request.param)
    yield tee
    tee.close()
    assert not host.bugs


def put(tee: Tee, body: str, functions: str = "") -> None:
    """A service that has the whole API; ``body`` is that of its command, indented twice."""
    entry = "def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):"
    tee.put(f"\n    {entry}\n{body}\n\nfrom gentee.ta.crypto import *\n{functions}")


ENCRYPT = """
        key = TEE_AllocateTransientObject(TEE_TYPE_AES, 256)
        TEE_PopulateTransientObject(key, [TEE_InitRefAttribute(TEE_ATTR_SECRET_VALUE, bytes(32))])
        operation = TEE_AllocateOperation(TEE_ALG_AES_GCM, TEE_MODE_ENCRYPT, 256)
        TEE_SetOperationKey(operation, key)
        TEE_AEInit(operation, bytes(12), 128)
        size, tag = TEE_AEEncryptFinal(operation, params[0], params[1])
        params[2].write(tag)
"""


@pytest.mark.parametrize("size", [0, 1, 1000, 1 << 20])
def test_from_one_buffer_of_a_client_into_another(each_tee: Tee, size: int) -> None:
    put(each_tee, ENCRYPT)
    text = (bytes(range(251)) * (size // 251 + 1))[:size]
    out, tag = Out(size + 5), Out(16)
    each_tee.open().invoke(0, text, out, tag)
    assert AESGCM(bytes(32)).decrypt(bytes(12), out.data + tag.data, None) == text


def test_a_short_buffer_of_a_client(each_tee: Tee) -> None:
    """The client is told how much is needed."""
    put(each_tee, ENCRYPT)
    session = each_tee.open()
    out = Out(99)
    with pytest.raises(ShortBuffer):
        session.invoke(0, bytes(100), out, Out(16))
    assert out.out_size == 100
    fails(
        TEE_ERROR_SHORT_BUFFER,
        TEE_ORIGIN_TRUSTED_APP,
        lambda: session.invoke(0, bytes(100), Out(99), Out(16)),
    )
    session.invoke(0, bytes(100), Out(100), Out(16))


def test_a_panic_says_what_it_was(tee: Tee) -> None:
    put(
        tee,
        """
        operation = TEE_AllocateOperation(TEE_ALG_AES_CTR, TEE_MODE_ENCRYPT, 128)
        TEE_CipherUpdate(operation, b"x")
""",
    )
    session = tee.open()
    is_dead(lambda: session.invoke(0))
    wait_until(lambda: tee.lines)
    expected = "panic, code TEE_ERROR_BAD_STATE: TEE_CipherUpdate: the operation was not started"
    assert tee.lines == [expected]


def test_a_service_without_cryptography_has_nothing_of_it(tee: Tee) -> None:
    tee.put(
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        found = [name for name in sys.modules if "crypt" in name]
        assert not found, found
        IMSG(str(len(TEE_GenerateRandom(16))))
"""
    )
    tee.open().invoke(0)
    assert tee.lines == ["16"]


def test_instances_have_different_keys(tee: Tee) -> None:
    """They are forks of one process."""
    put(
        tee,
        """
        key = TEE_AllocateTransientObject(TEE_TYPE_ECDSA_KEYPAIR, 256)
        curve = TEE_InitValueAttribute(TEE_ATTR_ECC_CURVE, TEE_ECC_CURVE_NIST_P256)
        TEE_GenerateKey(key, 256, [curve])
        params[0].write(TEE_GetObjectBufferAttribute(key, TEE_ATTR_ECC_PUBLIC_VALUE_X))
        key = TEE_AllocateTransientObject(TEE_TYPE_AES, 256)
        TEE_GenerateKey(key, 256)
        params[1].write(TEE_GetObjectBufferAttribute(key, TEE_ATTR_SECRET_VALUE))
""",
    )
    seen = set()
    for _ in range(4):
        public, secret = Out(32), Out(32)
        tee.open().invoke(0, public, secret)
        seen |= {public.data, secret.data}
    assert len(seen) == 8


EVERYTHING = """
def secret(algorithm, size):
    kind = TEE_ALG_GET_KEY_TYPE(algorithm, False)
    key = TEE_AllocateTransientObject(kind, size)
    TEE_GenerateKey(key, size)
    return key

def operation(algorithm, mode, size, *keys):
    made = TEE_AllocateOperation(algorithm, mode, size * max(1, len(keys)))
    if len(keys) == 2:
        TEE_SetOperationKey2(made, *keys)
    elif keys:
        TEE_SetOperationKey(made, *keys)
    return made

SIZES = {
    TEE_MAIN_ALGO_AES: 256,
    TEE_MAIN_ALGO_SM4: 128,
    TEE_MAIN_ALGO_DES: 64,
    TEE_MAIN_ALGO_DES3: 192,
}

def symmetric(algorithm):
    family = TEE_ALG_GET_CLASS(algorithm)
    if family == TEE_OPERATION_DIGEST:
        digest = operation(algorithm, TEE_MODE_DIGEST, 0)
        TEE_DigestUpdate(digest, b"x")
        TEE_DigestDoFinal(digest, b"x", 64)
        return
    size = SIZES.get(TEE_ALG_GET_MAIN_ALG(algorithm), 256)
    keys = [secret(algorithm, size) for _ in range(2 if "XTS" in name_of(algorithm) else 1)]
    if family == TEE_OPERATION_MAC:
        mac = operation(algorithm, TEE_MODE_MAC, size, *keys)
        TEE_MACInit(mac)
        TEE_MACComputeFinal(mac, bytes(64))
        return
    for mode in (TEE_MODE_ENCRYPT, TEE_MODE_DECRYPT):
        made = operation(algorithm, mode, size, *keys)
        if family == TEE_OPERATION_AE:
            TEE_AEInit(made, bytes(12), 128, 3, 64)
            TEE_AEUpdateAAD(made, b"aad")
            if mode == TEE_MODE_ENCRYPT:
                text, tag = TEE_AEEncryptFinal(made, bytes(64))
            else:
                assert TEE_AEDecryptFinal(made, text, tag) == bytes(64)
        else:
            ecb = algorithm in (TEE_ALG_AES_ECB_NOPAD, TEE_ALG_DES_ECB_NOPAD,
                                TEE_ALG_DES3_ECB_NOPAD, TEE_ALG_SM4_ECB_NOPAD)
            TEE_CipherInit(made, b"" if ecb else bytes(8 if "DES" in name_of(algorithm) else 16))
            if mode == TEE_MODE_ENCRYPT:
                text = TEE_CipherDoFinal(made, bytes(64))
            else:
                assert TEE_CipherDoFinal(made, text) == bytes(64)

def pair(kind, size, curve=None):
    key = TEE_AllocateTransientObject(kind, size)
    params = [TEE_InitValueAttribute(TEE_ATTR_ECC_CURVE, curve)] if curve else []
    TEE_GenerateKey(key, size, params)
    return key

def signature(algorithm, key, size, digest):
    made = TEE_AsymmetricSignDigest(operation(algorithm, TEE_MODE_SIGN, size, key), [], digest)
    verify = operation(algorithm, TEE_MODE_VERIFY, size, key)
    TEE_AsymmetricVerifyDigest(verify, [], digest, made)

def encryption(algorithm, key, size):
    text = TEE_AsymmetricEncrypt(operation(algorithm, TEE_MODE_ENCRYPT, size, key), [], b"x")
    decrypt = operation(algorithm, TEE_MODE_DECRYPT, size, key)
    assert TEE_AsymmetricDecrypt(decrypt, [], text) == b"x"

CURVES = (
    (TEE_ALG_ECDSA_SHA1, TEE_ECC_CURVE_NIST_P192, 192),
    (TEE_ALG_ECDSA_SHA224, TEE_ECC_CURVE_NIST_P224, 224),
    (TEE_ALG_ECDSA_SHA256, TEE_ECC_CURVE_NIST_P256, 256),
    (TEE_ALG_ECDSA_SHA384, TEE_ECC_CURVE_NIST_P384, 384),
    (TEE_ALG_ECDSA_SHA512, TEE_ECC_CURVE_NIST_P521, 521),
)

def asymmetric():
    for size in (512, 2048):
        key = pair(TEE_TYPE_RSA_KEYPAIR, size)
        encryption(TEE_ALG_RSAES_PKCS1_V1_5, key, size)
        encryption(TEE_ALG_RSA_NOPAD, key, size)
        signature(TEE_ALG_RSASSA_PKCS1_V1_5_SHA1, key, size, bytes(20))
        signature(TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA1, key, size, bytes(20))
    encryption(TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA512, key, size)
    for algorithm, curve, size in CURVES:
        signature(algorithm, pair(TEE_TYPE_ECDSA_KEYPAIR, size, curve), size, bytes(20))
    signature(TEE_ALG_ED25519, pair(TEE_TYPE_ED25519_KEYPAIR, 256), 256, b"message")
    for kind, public, algorithm, size in (
        (TEE_TYPE_X25519_KEYPAIR, TEE_ATTR_X25519_PUBLIC_VALUE, TEE_ALG_X25519, 256),
        (TEE_TYPE_X448_KEYPAIR, TEE_ATTR_X448_PUBLIC_VALUE, TEE_ALG_X448, 448),
    ):
        key = pair(kind, size)
        value = TEE_InitRefAttribute(public, TEE_GetObjectBufferAttribute(key, public))
        secret = TEE_AllocateTransientObject(TEE_TYPE_GENERIC_SECRET, size)
        TEE_DeriveKey(operation(algorithm, TEE_MODE_DERIVE, size, key), [value], secret)

def derivation():
    for algorithm, kind, attribute, params in (
        (TEE_ALG_HKDF_SHA256_DERIVE_KEY, TEE_TYPE_HKDF_IKM, TEE_ATTR_HKDF_IKM,
         [(TEE_ATTR_HKDF_OKM_LENGTH, 32)]),
        (TEE_ALG_CONCAT_KDF_SHA256_DERIVE_KEY, TEE_TYPE_CONCAT_KDF_Z, TEE_ATTR_CONCAT_KDF_Z,
         [(TEE_ATTR_CONCAT_KDF_DKM_LENGTH, 32)]),
        (TEE_ALG_PBKDF2_HMAC_SM3_DERIVE_KEY, TEE_TYPE_PBKDF2_PASSWORD, TEE_ATTR_PBKDF2_PASSWORD,
         [(TEE_ATTR_PBKDF2_ITERATION_COUNT, 10), (TEE_ATTR_PBKDF2_DKM_LENGTH, 32)]),
    ):
        key = TEE_AllocateTransientObject(kind, 128)
        TEE_PopulateTransientObject(key, [TEE_InitRefAttribute(attribute, bytes(16))])
        made = TEE_AllocateTransientObject(TEE_TYPE_GENERIC_SECRET, 256)
        values = [TEE_InitValueAttribute(*param) for param in params]
        TEE_DeriveKey(operation(algorithm, TEE_MODE_DERIVE, 128, key), values, made)

def name_of(algorithm):
    return NAMES[algorithm]
"""

SYMMETRIC = """
        count = 0
        for algorithm in filter(TEE_IsAlgorithmSupported, NAMES):
            if TEE_ALG_GET_CLASS(algorithm) <= TEE_OPERATION_DIGEST:
                symmetric(algorithm)
                count += 1
        params[0].a = count
"""
ASYMMETRIC = """
        asymmetric()
        derivation()
        params[0].a = 1
"""


@pytest.mark.parametrize(
    ("body", "least"), [(SYMMETRIC, 40), (ASYMMETRIC, 1)], ids=["symmetric", "asymmetric"]
)
def test_everything_works_in_a_locked_process(tee: Tee, body: str, least: int) -> None:
    """Nothing is left to be loaded at its first use."""
    names = "{value: name for name, value in globals().items() if name[:8] == 'TEE_ALG_'}"
    put(tee, body, f"{EVERYTHING}\nNAMES = {names}\n")
    value = Value()
    tee.open().invoke(0, value)
    assert value.a >= least


def test_properties(tee: Tee) -> None:
    put(
        tee,
        """
        get = TEE_GetPropertyAsBool
        assert get(TEE_PROPSET_TEE_IMPLEMENTATION, "gpd.tee.cryptography.ecc")
        assert not get(TEE_PROPSET_TEE_IMPLEMENTATION, "gpd.tee.cryptography.ietf")
""",
    )
    tee.open().invoke(0)
