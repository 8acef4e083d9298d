# SPDX-License-Identifier: BSD-2-Clause
"""Asymmetric encryption, signatures and derivation by system calls, with vectors of others."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from gentee.abi import gp, gp_crypto
from gentee.abi.gp_crypto import (
    TEE_MODE_DECRYPT,
    TEE_MODE_DERIVE,
    TEE_MODE_ENCRYPT,
    TEE_MODE_SIGN,
    TEE_MODE_VERIFY,
)
from tests.svc_asymmetric import AsymmetricTa, Attr
from tests.svc_crypto import CallFailed
from tests.vector_files import chosen, nist, nist_path, wycheproof

MOST = 100  # vectors of one file, if not all are wanted
FEW = 12  # the same where a vector takes milliseconds

N = gp_crypto.TEE_ATTR_RSA_MODULUS
E = gp_crypto.TEE_ATTR_RSA_PUBLIC_EXPONENT
D = gp_crypto.TEE_ATTR_RSA_PRIVATE_EXPONENT
X = gp_crypto.TEE_ATTR_ECC_PUBLIC_VALUE_X
Y = gp_crypto.TEE_ATTR_ECC_PUBLIC_VALUE_Y
CURVE = gp_crypto.TEE_ATTR_ECC_CURVE
CURVES = {"192": 1, "224": 2, "256": 3, "384": 4, "521": 5}
ECDSA = {
    "192": gp_crypto.TEE_ALG_ECDSA_SHA1,
    "224": gp_crypto.TEE_ALG_ECDSA_SHA224,
    "256": gp_crypto.TEE_ALG_ECDSA_SHA256,
    "384": gp_crypto.TEE_ALG_ECDSA_SHA384,
    "521": gp_crypto.TEE_ALG_ECDSA_SHA512,
}


@pytest.fixture(scope="module")
def ta() -> Iterator[AsymmetricTa]:
    tested = AsymmetricTa()
    yield tested
    tested.end()


def digest(name: str, message: bytes) -> bytes:
    """:param name: ``SHA-256``, ``SHA256``"""
    return hashlib.new(name.lower().replace("-", ""), message).digest()


def algorithm(prefix: str, name: str) -> int | None:
    """OP-TEE's algorithm with a digest, where it has one."""
    found: int | None = getattr(gp_crypto, f"{prefix}_{name.upper().replace('-', '')}", None)
    return found


def octets(text: str) -> bytes:
    """Digits, as many as there are."""
    return bytes.fromhex(text if len(text) % 2 == 0 else "0" + text)


def natural(text: str) -> bytes:
    """A number without zeros before it: what indicates the size of a key must not be longer."""
    return octets(text).lstrip(b"\0")


def number(value: int, size: int = 0) -> bytes:
    return value.to_bytes(max(size, (value.bit_length() + 7) // 8), "big")


def code_of(call: Callable[..., object], *args: Any) -> int:
    """The code that a call fails with; TEE_SUCCESS."""
    try:
        call(*args)
    except CallFailed as failed:
        return failed.code
    return gp.TEE_SUCCESS


# RSA.


def rsa_attributes(private: Any) -> list[Attr]:
    """All attributes of a private key of pyca/cryptography."""
    numbers = private.private_numbers()
    values = (
        numbers.public_numbers.n,
        numbers.public_numbers.e,
        numbers.d,
        numbers.p,
        numbers.q,
        numbers.dmp1,
        numbers.dmq1,
        numbers.iqmp,
    )
    ids = (
        N,
        E,
        D,
        gp_crypto.TEE_ATTR_RSA_PRIME1,
        gp_crypto.TEE_ATTR_RSA_PRIME2,
        gp_crypto.TEE_ATTR_RSA_EXPONENT1,
        gp_crypto.TEE_ATTR_RSA_EXPONENT2,
        gp_crypto.TEE_ATTR_RSA_COEFFICIENT,
    )
    return [(attr, number(value)) for attr, value in zip(ids, values, strict=True)]


def rsa_state(ta: AsymmetricTa, algo: int, mode: int, *attributes: Attr) -> int:
    kind = gp_crypto.TEE_TYPE_RSA_KEYPAIR
    if len(attributes) == 2:
        kind = gp_crypto.TEE_TYPE_RSA_PUBLIC_KEY
    return ta.state(algo, mode, ta.object(kind, 4096, *attributes))


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("TEE_ALG_RSASSA_PKCS1_V1_5", "SigVer15_186-3"),
        ("TEE_ALG_RSASSA_PKCS1_PSS_MGF1", "SigVerPSS_186-3"),
    ],
)
def test_rsa_verification(ta: AsymmetricTa, prefix: str, name: str) -> None:
    results = set()
    for vector in chosen(nist(f"asymmetric/RSA/FIPS_186-2/{name}.rsp"), MOST):
        algo = algorithm(prefix, vector["shaalg"])
        assert algo is not None
        key: list[Attr] = [(N, octets(vector["n"])), (E, octets(vector["e"]))]
        state = rsa_state(ta, algo, TEE_MODE_VERIFY, *key)
        hashed = digest(vector["shaalg"], octets(vector["msg"]))
        salt = len(octets(vector["saltval"])) if "PSS" in name else 0
        attrs: list[Attr] = [(gp_crypto.TEE_ATTR_RSA_PSS_SALT_LENGTH, salt)]
        code = code_of(ta.verify, state, hashed, octets(vector["s"]), *attrs)
        good = vector["result"].startswith("P")
        assert code == (gp.TEE_SUCCESS if good else gp.TEE_ERROR_SIGNATURE_INVALID)
        results.add(good)
        ta.free(state)
    assert results == {True, False}


def test_rsa_signature(ta: AsymmetricTa) -> None:
    """Signatures of PKCS #1 v1.5 are always the same. These keys have no primes."""
    for vector in chosen(nist("asymmetric/RSA/FIPS_186-2/SigGen15_186-2.txt"), 8):
        algo = algorithm("TEE_ALG_RSASSA_PKCS1_V1_5", vector["shaalg"])
        assert algo is not None
        hashed = digest(vector["shaalg"], octets(vector["msg"]))
        numbers = [(attr, octets(vector[n])) for attr, n in ((N, "n"), (E, "e"), (D, "d"))]
        state = rsa_state(ta, algo, TEE_MODE_SIGN, *numbers)
        signature = ta.operate(state, hashed)
        assert signature == octets(vector["s"])
        ta.free(state)


@pytest.mark.parametrize(
    ("bits", "name"),
    [
        (2048, "sha224"),
        *((bits, name) for bits in (2048, 3072, 4096) for name in ("sha256", "sha384", "sha512")),
    ],
)
def test_rsa_signature_of_wycheproof(ta: AsymmetricTa, bits: int, name: str) -> None:
    algo = algorithm("TEE_ALG_RSASSA_PKCS1_V1_5", name)
    assert algo is not None
    results = set()
    for group, test in chosen(wycheproof(f"rsa_signature_{bits}_{name}"), MOST):
        key = rsa_public(group)
        state = rsa_state(ta, algo, TEE_MODE_VERIFY, *key)
        hashed = digest(name, octets(test["msg"]))
        code = code_of(ta.verify, state, hashed, octets(test["sig"]))
        # libtomcrypt takes a DigestInfo without the NULL.
        good = test["result"] == "valid" or test["flags"] == ["MissingNull"]
        assert code == (gp.TEE_SUCCESS if good else gp.TEE_ERROR_SIGNATURE_INVALID), test
        results.add(good)
        ta.free(state)
    assert results == {True, False}


def rsa_public(group: dict[str, Any]) -> list[Attr]:
    if "publicKey" in group:
        key = group["publicKey"]
        return [(N, natural(key["modulus"])), (E, natural(key["publicExponent"]))]
    numbers = load_der_public_key(octets(group["publicKeyDer"])).public_numbers()  # type: ignore[union-attr]
    return [(N, number(numbers.n)), (E, number(numbers.e))]  # type: ignore[union-attr]


PSS = [
    ("2048_sha1_mgf1_20", "SHA1", 20),
    ("2048_sha256_mgf1_0", "SHA256", 0),
    ("2048_sha256_mgf1_32", "SHA256", 32),
    ("2048_sha384_mgf1_48", "SHA384", 48),
    ("3072_sha256_mgf1_32", "SHA256", 32),
    ("4096_sha256_mgf1_32", "SHA256", 32),
    ("4096_sha384_mgf1_48", "SHA384", 48),
    ("4096_sha512_mgf1_32", "SHA512", 32),
    ("4096_sha512_mgf1_64", "SHA512", 64),
]


@pytest.mark.parametrize(("name", "hash_name", "salt"), PSS)
def test_rsa_pss_of_wycheproof(ta: AsymmetricTa, name: str, hash_name: str, salt: int) -> None:
    algo = algorithm("TEE_ALG_RSASSA_PKCS1_PSS_MGF1", hash_name)
    assert algo is not None
    attr: Attr = (gp_crypto.TEE_ATTR_RSA_PSS_SALT_LENGTH, salt)
    for group, test in chosen(wycheproof(f"rsa_pss_{name}"), MOST // 2):
        state = rsa_state(ta, algo, TEE_MODE_VERIFY, *rsa_public(group))
        hashed = digest(hash_name, octets(test["msg"]))
        code = code_of(ta.verify, state, hashed, octets(test["sig"]), attr)
        good = test["result"] == "valid"
        assert code == (gp.TEE_SUCCESS if good else gp.TEE_ERROR_SIGNATURE_INVALID), test
        ta.free(state)


def rsa_pair(group: dict[str, Any]) -> list[Attr]:
    """A key pair, with its primes."""
    return rsa_attributes(load_der_private_key(octets(group["privateKeyPkcs8"]), None))


class PairStates:
    """Operations for one key after another: a key that was there before is not prepared again."""

    def __init__(self, ta: AsymmetricTa, algo: int, mode: int) -> None:
        self.ta, self.algo, self.mode = ta, algo, mode
        self._key = ""
        self._state = 0

    def of(self, group: dict[str, Any]) -> int:
        """The operation with the key of a group."""
        if group["privateKeyPkcs8"] != self._key:
            self.end()
            self._key = group["privateKeyPkcs8"]
            self._state = rsa_state(self.ta, self.algo, self.mode, *rsa_pair(group))
        return self._state

    def end(self) -> None:
        if self._state:
            self.ta.free(self._state)


@pytest.mark.parametrize(
    ("name", "hash_name", "mgf"),
    [
        ("2048_sha1_mgf1sha1", "SHA1", ""),
        ("2048_sha224_mgf1sha1", "SHA224", "SHA1"),
        ("2048_sha224_mgf1sha224", "SHA224", ""),
        ("2048_sha256_mgf1sha1", "SHA256", "SHA1"),
        ("2048_sha256_mgf1sha256", "SHA256", ""),
        ("2048_sha384_mgf1sha1", "SHA384", "SHA1"),
        ("2048_sha384_mgf1sha384", "SHA384", ""),
        ("2048_sha512_mgf1sha1", "SHA512", "SHA1"),
        ("2048_sha512_mgf1sha512", "SHA512", "SHA512"),
        ("3072_sha256_mgf1sha1", "SHA256", "SHA1"),
        ("3072_sha256_mgf1sha256", "SHA256", ""),
        ("3072_sha512_mgf1sha1", "SHA512", "SHA1"),
        ("3072_sha512_mgf1sha512", "SHA512", ""),
        ("4096_sha256_mgf1sha1", "SHA256", "SHA1"),
        ("4096_sha256_mgf1sha256", "SHA256", ""),
        ("4096_sha512_mgf1sha1", "SHA512", "SHA1"),
        ("4096_sha512_mgf1sha512", "SHA512", ""),
    ],
)
def test_rsa_oaep_of_wycheproof(ta: AsymmetricTa, name: str, hash_name: str, mgf: str) -> None:
    algo = algorithm("TEE_ALG_RSAES_PKCS1_OAEP_MGF1", hash_name)
    assert algo is not None
    attrs: list[Attr] = []
    if mgf:
        found = algorithm("TEE_ALG", mgf)
        assert found is not None
        attrs.append((gp_crypto.TEE_ATTR_RSA_OAEP_MGF_HASH, found.to_bytes(4, "little")))
    results = set()
    states = PairStates(ta, algo, TEE_MODE_DECRYPT)
    for group, test in chosen(wycheproof(f"rsa_oaep_{name}"), FEW * 2):
        label: Attr = (gp_crypto.TEE_ATTR_RSA_OAEP_LABEL, octets(test["label"]))
        state = states.of(group)
        good = test["result"] == "valid"
        results.add(good)
        if good:
            assert ta.operate(state, octets(test["ct"]), *attrs, label) == octets(test["msg"])
        else:
            code = code_of(ta.operate, state, octets(test["ct"]), *attrs, label)
            assert code == gp.TEE_ERROR_BAD_PARAMETERS
    states.end()
    assert results == {True, False}


def test_rsa_oaep_misc_of_wycheproof(ta: AsymmetricTa) -> None:
    """Any digest with any mask generation function, and keys of up to 4096 bits."""
    done = 0
    for group, test in chosen(wycheproof("rsa_oaep_misc"), FEW * 3):
        algo = algorithm("TEE_ALG_RSAES_PKCS1_OAEP_MGF1", group["sha"])
        mgf = algorithm("TEE_ALG", group["mgfSha"])
        if algo is None or mgf is None or group["keySize"] > 4096:
            continue
        attr: Attr = (gp_crypto.TEE_ATTR_RSA_OAEP_MGF_HASH, mgf.to_bytes(4, "little"))
        label: Attr = (gp_crypto.TEE_ATTR_RSA_OAEP_LABEL, octets(test["label"]))
        state = rsa_state(ta, algo, TEE_MODE_DECRYPT, *rsa_pair(group))
        assert test["result"] != "invalid"  # acceptable: a small ciphertext
        assert ta.operate(state, octets(test["ct"]), attr, label) == octets(test["msg"]), test
        ta.free(state)
        done += 1
    assert done >= FEW


def test_rsa_pss_misc_of_wycheproof(ta: AsymmetricTa) -> None:
    """Any digest with any salt. OP-TEE has no other digest for the mask generation function."""
    done = 0
    for group, test in wycheproof("rsa_pss_misc"):
        algo = algorithm("TEE_ALG_RSASSA_PKCS1_PSS_MGF1", group["sha"])
        if algo is None or group["mgfSha"] != group["sha"]:
            continue
        state = rsa_state(ta, algo, TEE_MODE_VERIFY, *rsa_public(group))
        attr: Attr = (gp_crypto.TEE_ATTR_RSA_PSS_SALT_LENGTH, group["sLen"])
        hashed = digest(group["sha"], octets(test["msg"]))
        assert test["result"] == "valid"
        ta.verify(state, hashed, octets(test["sig"]), attr)
        ta.free(state)
        done += 1
    assert done >= 20


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_rsa_pkcs1_of_wycheproof(ta: AsymmetricTa, bits: int) -> None:
    """A wrong padding is an error, and no other than one of the size."""
    results = set()
    states = PairStates(ta, gp_crypto.TEE_ALG_RSAES_PKCS1_V1_5, TEE_MODE_DECRYPT)
    for group, test in chosen(wycheproof(f"rsa_pkcs1_{bits}"), FEW * 4096 // bits):
        state = states.of(group)
        good = test["result"] == "valid"
        results.add(good)
        if good:
            assert ta.operate(state, octets(test["ct"])) == octets(test["msg"])
        else:
            code = code_of(ta.operate, state, octets(test["ct"]))
            # libtomcrypt finds a fault in its arithmetic where this is the modulus itself.
            is_modulus = test["comment"] == "c = n"
            assert code == (gp.TEE_ERROR_GENERIC if is_modulus else gp.TEE_ERROR_BAD_PARAMETERS)
    states.end()
    assert results == {True, False}


# DSA.


@pytest.mark.parametrize("edition", ["FIPS_186-2", "FIPS_186-3"])
def test_dsa(ta: AsymmetricTa, edition: str) -> None:
    results = set()
    sizes = set()
    vectors = nist(f"asymmetric/DSA/{edition}/SigVer.rsp")
    for vector in chosen(vectors, MOST):
        name = vector.get("section", "SHA-1").strip()
        algo = algorithm("TEE_ALG_DSA", name)
        if algo is None:
            continue  # OP-TEE has no DSA with this digest
        key = dsa_key(vector)
        bits = (int(vector["p"], 16).bit_length() + 63) // 64 * 64
        state = ta.state(
            algo, TEE_MODE_VERIFY, ta.object(gp_crypto.TEE_TYPE_DSA_PUBLIC_KEY, bits, *key)
        )
        size = len(octets(vector["q"]))
        r, s = (number(int(vector[part], 16), size) for part in ("r", "s"))
        code = code_of(ta.verify, state, digest(name, octets(vector["msg"])), r + s)
        good = vector["result"].startswith("P")
        assert code == (gp.TEE_SUCCESS if good else gp.TEE_ERROR_SIGNATURE_INVALID)
        results.add(good)
        sizes.add(bits)
        ta.free(state)
    assert results == {True, False}
    assert sizes == ({1024} if edition == "FIPS_186-2" else {1024, 2048, 3072})


def dsa_key(vector: dict[str, str]) -> list[Attr]:
    return [
        (gp_crypto.TEE_ATTR_DSA_PRIME, natural(vector["p"])),
        (gp_crypto.TEE_ATTR_DSA_SUBPRIME, octets(vector["q"])),
        (gp_crypto.TEE_ATTR_DSA_BASE, natural(vector["g"])),
        (gp_crypto.TEE_ATTR_DSA_PUBLIC_VALUE, natural(vector["y"])),
    ]


@pytest.mark.parametrize(
    "name", ["2048_224_sha224", "2048_224_sha256", "2048_256_sha256", "3072_256_sha256"]
)
def test_dsa_of_wycheproof(ta: AsymmetricTa, name: str) -> None:
    hash_name = name.rpartition("_")[2]
    algo = algorithm("TEE_ALG_DSA", hash_name)
    assert algo is not None
    results = set()
    for group, test in chosen(wycheproof(f"dsa_{name}_p1363"), MOST // 2):
        part = group["publicKey"]
        key = dsa_key({attr: part[attr] for attr in ("p", "q", "g", "y")})
        bits = int(name[:4])
        state = ta.state(
            algo, TEE_MODE_VERIFY, ta.object(gp_crypto.TEE_TYPE_DSA_PUBLIC_KEY, bits, *key)
        )
        hashed = digest(hash_name, octets(test["msg"]))
        signature = octets(test["sig"])
        code = code_of(ta.verify, state, hashed, signature)
        good = test["result"] == "valid"
        assert code == (gp.TEE_SUCCESS if good else gp.TEE_ERROR_SIGNATURE_INVALID), test
        results.add(good)
        ta.free(state)
    assert results == {True, False}


# ECDSA and ECDH.


def ecdsa_state(ta: AsymmetricTa, bits: str, x: bytes, y: bytes) -> int:
    key = ta.object(
        gp_crypto.TEE_TYPE_ECDSA_PUBLIC_KEY, int(bits), (X, x), (Y, y), (CURVE, CURVES[bits])
    )
    return ta.state(ECDSA[bits], TEE_MODE_VERIFY, key)


DIGITS = {48: "192", 56: "224", 64: "256", 96: "384", 131: "521", 132: "521"}


def test_ecdsa(ta: AsymmetricTa) -> None:
    """With any digest: OP-TEE's algorithms only say the curve."""
    done = set()
    vectors = [
        vector
        for vector in nist("asymmetric/ECDSA/FIPS_186-3/SigVer.rsp")
        if len(vector["qx"]) in DIGITS
    ]
    for vector in chosen(vectors, MOST * 2):
        bits = DIGITS[len(vector["qx"])]
        state = ecdsa_state(ta, bits, octets(vector["qx"]), octets(vector["qy"]))
        size = (int(bits) + 7) // 8
        r, s = (number(int(vector[part], 16), size) for part in ("r", "s"))
        hashed = digest(vector["section"], octets(vector["msg"]))
        code = code_of(ta.verify, state, hashed, r + s)
        good = vector["result"].startswith("P")
        assert code == (gp.TEE_SUCCESS if good else gp.TEE_ERROR_SIGNATURE_INVALID)
        done.add((bits, good))
        ta.free(state)
    assert len(done) == 10


@pytest.mark.parametrize(
    "name",
    [
        "192r1_sha256",
        "224r1_sha224",
        "224r1_sha256",
        "224r1_sha512",
        "256r1_sha256",
        "256r1_sha512",
        "384r1_sha384",
        "384r1_sha512",
        "521r1_sha512",
    ],
)
def test_ecdsa_of_wycheproof(ta: AsymmetricTa, name: str) -> None:
    bits, _, hash_name = name.partition("r1_")
    results = set()
    for group, test in chosen(wycheproof(f"ecdsa_secp{name}_p1363"), MOST):
        key = group["publicKey"]
        state = ecdsa_state(ta, bits, octets(key["wx"]), octets(key["wy"]))
        signature = octets(test["sig"])
        code = code_of(ta.verify, state, digest(hash_name, octets(test["msg"])), signature)
        if len(signature) != (int(bits) + 7) // 8 * 2:
            assert code == gp.TEE_ERROR_BAD_PARAMETERS
        else:
            good = test["result"] == "valid"
            assert code == (gp.TEE_SUCCESS if good else gp.TEE_ERROR_SIGNATURE_INVALID), test
            results.add(good)
        ta.free(state)
    assert results == {True, False}


def ecdh_state(ta: AsymmetricTa, bits: str, private: bytes) -> int:
    key = ta.object(
        gp_crypto.TEE_TYPE_ECDH_KEYPAIR,
        int(bits),
        (gp_crypto.TEE_ATTR_ECC_PRIVATE_VALUE, private),
        (X, b"\1"),
        (Y, b"\1"),  # not looked at
        (CURVE, CURVES[bits]),
    )
    return ta.state(gp_crypto.TEE_ALG_ECDH_DERIVE_SHARED_SECRET, TEE_MODE_DERIVE, key)


SETS = {"EA": "192", "EB": "224", "EC": "256", "ED": "384", "EE": "521"}


@pytest.mark.parametrize("side", ["init", "resp"])
def test_ecdh(ta: AsymmetricTa, side: str) -> None:
    results = set()
    name = f"KASValidityTest_ECCStaticUnified_NOKC_ZZOnly_{side}"
    for vector in chosen(nist(f"asymmetric/ECDH/{name}.fax"), MOST):
        bits = SETS[vector["section"][:2]]
        state = ecdh_state(ta, bits, octets(vector["dsiut"]))
        point: list[Attr] = [(X, octets(vector["qscavsx"])), (Y, octets(vector["qscavsy"]))]
        try:
            secret = ta.derive(state, *point)
        except CallFailed:
            secret = b""
        good = vector["result"].startswith("P")
        size = (int(bits) + 7) // 8
        if good:
            assert secret == octets(vector["z"]).rjust(size, b"\0")
        elif "Z changed" in vector["result"] or "Static public key" in vector["result"]:
            assert secret != octets(vector["z"]).rjust(size, b"\0")
        results.add((bits, good))
        ta.free(state)
    assert {bits for bits, good in results if good} == set(CURVES)


@pytest.mark.parametrize("bits", ["224", "256", "384", "521"])
def test_ecdh_of_wycheproof(ta: AsymmetricTa, bits: str) -> None:
    """Points that are not on the curve are refused."""
    refused = 0
    vectors = [test for _, test in wycheproof(f"ecdh_secp{bits}r1_ecpoint")]
    invalid = [test for test in vectors if test["result"] != "valid"]
    for test in [*chosen(vectors, MOST), *invalid]:
        public = octets(test["public"])
        if public[:1] != b"\4" or len(public) % 2 == 0:
            continue  # a TA decodes points itself
        size = len(public) // 2
        state = ecdh_state(ta, bits, octets(test["private"]))
        point: list[Attr] = [(X, public[1 : 1 + size]), (Y, public[1 + size :])]
        if test["result"] == "valid":
            assert ta.derive(state, *point) == octets(test["shared"])
        else:
            assert code_of(ta.derive, state, *point) == gp.TEE_ERROR_BAD_PARAMETERS
            refused += 1
        ta.free(state)
    assert refused >= 4


# Ed25519, X25519, X448.


def test_ed25519(ta: AsymmetricTa) -> None:
    lines = nist_path("asymmetric/Ed25519/sign.input").read_text().splitlines()
    for line in chosen(lines, MOST):
        private, public, message, signed = (octets(part) for part in line.split(":")[:4])
        key: list[Attr] = [
            (gp_crypto.TEE_ATTR_ED25519_PRIVATE_VALUE, private[:32]),
            (gp_crypto.TEE_ATTR_ED25519_PUBLIC_VALUE, public),
        ]
        handle = ta.object(gp_crypto.TEE_TYPE_ED25519_KEYPAIR, 256, *key)
        state = ta.state(gp_crypto.TEE_ALG_ED25519, TEE_MODE_SIGN, handle)
        assert ta.operate(state, message) == signed[:64]
        ta.free(state)


def test_ed25519_of_wycheproof(ta: AsymmetricTa) -> None:
    results = set()
    for group, test in wycheproof("ed25519"):
        key: Attr = (gp_crypto.TEE_ATTR_ED25519_PUBLIC_VALUE, octets(group["publicKey"]["pk"]))
        handle = ta.object(gp_crypto.TEE_TYPE_ED25519_PUBLIC_KEY, 256, key)
        state = ta.state(gp_crypto.TEE_ALG_ED25519, TEE_MODE_VERIFY, handle)
        signature = octets(test["sig"])
        code = code_of(ta.verify, state, octets(test["msg"]), signature)
        good = test["result"] == "valid"
        if len(signature) != 64:
            assert code == gp.TEE_ERROR_BAD_PARAMETERS
        else:
            assert code == (gp.TEE_SUCCESS if good else gp.TEE_ERROR_SIGNATURE_INVALID), test
            results.add(good)
        ta.free(state)
    assert results == {True, False}


MONTGOMERY = {
    "x25519": (
        gp_crypto.TEE_TYPE_X25519_KEYPAIR,
        256,
        gp_crypto.TEE_ALG_X25519,
        gp_crypto.TEE_ATTR_X25519_PRIVATE_VALUE,
        gp_crypto.TEE_ATTR_X25519_PUBLIC_VALUE,
    ),
    "x448": (
        gp_crypto.TEE_TYPE_X448_KEYPAIR,
        448,
        gp_crypto.TEE_ALG_X448,
        gp_crypto.TEE_ATTR_X448_PRIVATE_VALUE,
        gp_crypto.TEE_ATTR_X448_PUBLIC_VALUE,
    ),
}


def montgomery(ta: AsymmetricTa, name: str, private: bytes, public: bytes) -> bytes | int:
    """The shared secret, or the code of the error."""
    kind, bits, algo, private_attr, public_attr = MONTGOMERY[name]
    key = ta.object(kind, bits, (private_attr, private), (public_attr, bytes(bits // 8)))
    state = ta.state(algo, TEE_MODE_DERIVE, key)
    try:
        return ta.derive(state, (public_attr, public))
    except CallFailed as failed:
        return failed.code
    finally:
        ta.free(state)


@pytest.mark.parametrize("name", ["x25519", "x448"])
def test_montgomery(ta: AsymmetricTa, name: str) -> None:
    vectors = nist(f"asymmetric/{name.upper()}/rfc7748.txt")
    assert len(vectors) >= 2
    for vector in vectors[:2]:  # the rest is thousands of rounds
        scalar, u, output = (
            octets(vector[part]) for part in ("input_scalar", "input_u", "output_u")
        )
        assert montgomery(ta, name, scalar, u) == output


@pytest.mark.parametrize("name", ["x25519", "x448"])
def test_montgomery_of_wycheproof(ta: AsymmetricTa, name: str) -> None:
    refused = 0
    for _group, test in chosen(wycheproof(name), MOST * 2):
        result = montgomery(ta, name, octets(test["private"]), octets(test["public"]))
        if "ZeroSharedSecret" in test["flags"]:
            assert result == gp.TEE_ERROR_SECURITY
            refused += 1
        elif test["result"] == "invalid":
            assert result == gp.TEE_ERROR_BAD_PARAMETERS
        else:
            assert result == octets(test["shared"])
    assert refused >= 3


# Diffie-Hellman over finite fields.


@pytest.mark.parametrize("name", ["vec", "RFC5114"])
def test_dh(ta: AsymmetricTa, name: str) -> None:
    done = 0
    for vector in dh_vectors(name):
        p, g, x, y, peer, secret = vector
        if p.bit_length() > 2048:
            continue  # OP-TEE has no longer keys
        key = ta.object(
            gp_crypto.TEE_TYPE_DH_KEYPAIR,
            p.bit_length(),
            (gp_crypto.TEE_ATTR_DH_PRIME, number(p)),
            (gp_crypto.TEE_ATTR_DH_BASE, number(g)),
            (gp_crypto.TEE_ATTR_DH_PUBLIC_VALUE, number(y)),
            (gp_crypto.TEE_ATTR_DH_PRIVATE_VALUE, number(x)),
        )
        state = ta.state(gp_crypto.TEE_ALG_DH_DERIVE_SHARED_SECRET, TEE_MODE_DERIVE, key)
        attr: Attr = (gp_crypto.TEE_ATTR_DH_PUBLIC_VALUE, number(peer))
        assert ta.derive(state, attr) == secret.lstrip(b"\0")
        ta.free(state)
        done += 1
    assert done >= 3


def dh_vectors(name: str) -> Iterator[tuple[int, int, int, int, int, bytes]]:
    """p, g, x, y, the public value of the other, and the secret."""
    if name == "vec":
        for vector in nist_lines("asymmetric/DH/vec.txt", "k"):
            p, g, x, peer = (int(vector[part]) for part in ("p", "g", "x", "y"))
            yield p, g, x, pow(g, x, p), peer, octets(vector["k"])
    else:
        for vector in nist_lines("asymmetric/DH/RFC5114.txt", "z"):
            p, g, x, y, peer = (
                int(vector[part], 16) for part in ("p", "g", "xstatiut", "ystatiut", "ystatcavs")
            )
            yield p, g, x, y, peer, octets(vector["z"])


def nist_lines(name: str, last: str) -> Iterator[dict[str, str]]:
    """Vectors of several blocks, each of which ends with a value of this name."""
    vector: dict[str, str] = {}
    for line in Path(nist_path(name)).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(("#", "[")):
            vector[key.strip().lower()] = value.strip()
            if key.strip().lower() == last:
                yield vector
                vector = {}


# Derivation of keys from a secret.


def kdf_state(ta: AsymmetricTa, algo: int, kind: int, attr: int, secret: bytes) -> int:
    return ta.state(algo, TEE_MODE_DERIVE, ta.object(kind, 4096, (attr, secret)))


def hkdf_is(ta: AsymmetricTa, name: str, values: tuple[bytes, bytes, bytes], okm: bytes) -> None:
    """Check with OP-TEE's algorithm, and with that of GlobalPlatform."""
    algo = algorithm("TEE_ALG_HKDF", f"{name}_DERIVE_KEY")
    hash_algo = algorithm("TEE_ALG", name)
    assert algo is not None
    assert hash_algo is not None
    secret, salt, info = values
    kind, attr = gp_crypto.TEE_TYPE_HKDF_IKM, gp_crypto.TEE_ATTR_HKDF_IKM
    state = kdf_state(ta, algo, kind, attr, secret)
    attrs: list[Attr] = [
        (gp_crypto.OPTEE_ATTR_HKDF_SALT, salt),
        (gp_crypto.OPTEE_ATTR_HKDF_INFO, info),
        (gp_crypto.TEE_ATTR_HKDF_OKM_LENGTH, len(okm)),
    ]
    assert ta.derive(state, *attrs) == okm
    ta.free(state)
    state = kdf_state(ta, gp_crypto.TEE_ALG_HKDF, kind, attr, secret)
    attrs = [
        (gp_crypto.TEE_ATTR_HKDF_HASH_ALGORITHM, hash_algo),
        (gp_crypto.TEE_ATTR_HKDF_SALT, salt),
        (gp_crypto.TEE_ATTR_HKDF_INFO, info),
        (gp_crypto.TEE_ATTR_KDF_KEY_SIZE, len(okm)),
    ]
    assert ta.derive(state, *attrs) == okm
    ta.free(state)


@pytest.mark.parametrize("name", ["SHA1", "SHA256"])
def test_hkdf(ta: AsymmetricTa, name: str) -> None:
    vectors = nist(f"KDF/rfc-5869-HKDF-{name}.txt")
    assert len(vectors) >= 3
    for vector in vectors:
        secret, salt, info = (octets(vector.get(part, "")) for part in ("ikm", "salt", "info"))
        hkdf_is(ta, name, (secret, salt, info), octets(vector["okm"]))


@pytest.mark.parametrize("name", ["sha1", "sha256", "sha384", "sha512"])
def test_hkdf_of_wycheproof(ta: AsymmetricTa, name: str) -> None:
    for _group, test in chosen(wycheproof(f"hkdf_{name}"), MOST):
        if test["result"] == "valid" and test["size"] <= 512:
            values = octets(test["ikm"]), octets(test["salt"]), octets(test["info"])
            hkdf_is(ta, name.upper(), values, octets(test["okm"]))


def pbkdf2_is(ta: AsymmetricTa, algo: int, values: tuple[bytes, bytes, int], key: bytes) -> None:
    password, salt, iterations = values
    kind, attr = gp_crypto.TEE_TYPE_PBKDF2_PASSWORD, gp_crypto.TEE_ATTR_PBKDF2_PASSWORD
    state = kdf_state(ta, algo, kind, attr, password)
    attrs: list[Attr] = [
        (gp_crypto.TEE_ATTR_PBKDF2_SALT, salt),
        (gp_crypto.TEE_ATTR_PBKDF2_ITERATION_COUNT, iterations),
        (gp_crypto.TEE_ATTR_PBKDF2_DKM_LENGTH, len(key)),
    ]
    assert ta.derive(state, *attrs) == key
    ta.free(state)


def test_pbkdf2(ta: AsymmetricTa) -> None:
    algo = gp_crypto.TEE_ALG_PBKDF2_HMAC_SHA1_DERIVE_KEY
    vectors = nist("KDF/rfc-6070-PBKDF2-SHA1.txt")
    assert len(vectors) == 6
    for vector in vectors:
        password, salt = (
            vector[part].replace("\\0", "\0").encode() for part in ("password", "salt")
        )
        iterations = int(vector["iterations"])
        if iterations <= 4096:
            pbkdf2_is(ta, algo, (password, salt, iterations), octets(vector["derived_key"]))


@pytest.mark.parametrize("name", ["SHA1", "SHA224", "SHA256", "SHA384", "SHA512"])
def test_pbkdf2_of_wycheproof(ta: AsymmetricTa, name: str) -> None:
    algo = algorithm("TEE_ALG_PBKDF2_HMAC", f"{name}_DERIVE_KEY")
    assert algo is not None
    done = 0
    for _group, test in chosen(wycheproof(f"pbkdf2_hmac{name.lower()}"), MOST // 2):
        password, salt = octets(test["password"]), octets(test["salt"])
        if not password or len(password) > 512 or test["iterationCount"] > 4096:
            continue  # libtomcrypt has no HMAC without a key
        key = octets(test["dk"])
        pbkdf2_is(ta, algo, (password, salt, test["iterationCount"]), key)
        done += 1
    assert done >= 10


def test_encryption_is_undone(ta: AsymmetricTa) -> None:
    """What is encrypted with each algorithm is decrypted, too: there are no vectors for that."""
    pair = ta.generate(gp_crypto.TEE_TYPE_RSA_KEYPAIR, 1024)
    for algo in (
        gp_crypto.TEE_ALG_RSA_NOPAD,
        gp_crypto.TEE_ALG_RSAES_PKCS1_V1_5,
        gp_crypto.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_MD5,
        gp_crypto.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA1,
        gp_crypto.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA256,
    ):
        public = ta.copy_of(pair, gp_crypto.TEE_TYPE_RSA_PUBLIC_KEY, 1024)
        private = ta.copy_of(pair, gp_crypto.TEE_TYPE_RSA_KEYPAIR, 1024)
        encrypt = ta.state(algo, TEE_MODE_ENCRYPT, public)
        decrypt = ta.state(algo, TEE_MODE_DECRYPT, private)
        first = ta.operate(encrypt, b"secret")
        assert ta.operate(decrypt, first) == b"secret"
        assert (ta.operate(encrypt, b"secret") == first) is (algo == gp_crypto.TEE_ALG_RSA_NOPAD)
        ta.free(encrypt, decrypt)
