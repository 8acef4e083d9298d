# SPDX-License-Identifier: BSD-2-Clause
"""gentee.abi.gp_crypto against figures of the TEE Internal Core API, and against OP-TEE's headers.

The headers are those of a checkout of OP-TEE's sources, in the folder that the environment variable
GENTEE_OPTEE_OS names. Where there is none, that part is skipped.
"""

import os
import re
from pathlib import Path

import pytest

from gentee.abi import gp_crypto as gp

INCLUDE = Path("lib/libutee/include")
HEADERS = ("tee_api_defines.h", "tee_api_defines_extensions.h", "utee_defines.h")
FAMILIES = (
    "TEE_ALG_",
    "TEE_ATTR_",
    "TEE_CHAIN_MODE_",
    "TEE_CRYPTO_ELEMENT_",
    "TEE_ECC_CURVE_",
    "TEE_HANDLE_",
    "TEE_MAIN_ALGO_",
    "TEE_MODE_",
    "TEE_OPERATION_",
    "TEE_TYPE_",
    "TEE_USAGE_",
    "__OPTEE_",
)

# The specification's tables 5-3, 5-5, 6-4 and 6-11 to 6-14, one or two of every kind
FIGURES = {
    "TEE_MODE_DERIVE": 6,
    "TEE_USAGE_EXTRACTABLE": 1,
    "TEE_USAGE_DERIVE": 0x40,
    "TEE_HANDLE_FLAG_PERSISTENT": 0x10000,
    "TEE_HANDLE_FLAG_INITIALIZED": 0x20000,
    "TEE_HANDLE_FLAG_EXTRACTING": 0x100000,
    "TEE_OPERATION_KEY_DERIVATION": 8,
    "TEE_ALG_AES_ECB_NOPAD": 0x10000010,
    "TEE_ALG_AES_XTS": 0x10000410,
    "TEE_ALG_AES_CCM": 0x40000710,
    "TEE_ALG_DES3_CBC_MAC_PKCS5": 0x30000513,
    "TEE_ALG_RSASSA_PKCS1_V1_5_SHA256": 0x70004830,
    "TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA512": 0x70616930,
    "TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA1": 0x60210230,
    "TEE_ALG_RSA_NOPAD": 0x60000030,
    "TEE_ALG_DSA_SHA256": 0x70004131,
    "TEE_ALG_ECDSA_SHA256": 0x70003042,
    "TEE_ALG_ECDH_DERIVE_SHARED_SECRET": 0x80000042,
    "TEE_ALG_ED25519": 0x70006043,
    "TEE_ALG_X25519": 0x80000044,
    "TEE_ALG_HKDF": 0x80000047,
    "TEE_ALG_SM2_DSA_SM3": 0x70006045,
    "TEE_ALG_SHA3_512": 0x5000000B,
    "TEE_ALG_HMAC_SM3": 0x30000007,
    "TEE_ALG_PBKDF2_HMAC_SHA1_DERIVE_KEY": 0x800020C2,
    "TEE_TYPE_GENERIC_SECRET": 0xA0000000,
    "TEE_TYPE_RSA_KEYPAIR": 0xA1000030,
    "TEE_TYPE_X448_KEYPAIR": 0xA1000049,
    "TEE_TYPE_DATA": 0xA00000BF,
    "TEE_TYPE_HKDF_IKM": 0xA10000C0,
    "TEE_ATTR_SECRET_VALUE": 0xC0000000,
    "TEE_ATTR_RSA_COEFFICIENT": 0xC0000830,
    "TEE_ATTR_DH_X_BITS": 0xF0001332,
    "TEE_ATTR_ECC_CURVE": 0xF0000441,
    "TEE_ATTR_EDDSA_PREHASH": 0xF0000004,
    "TEE_ECC_CURVE_NIST_P521": 5,
    "TEE_ECC_CURVE_SM2": 0x400,
    "OPTEE_ALG_ECDSA_P256": 0x70003041,
    "OPTEE_ATTR_HKDF_SALT": 0xD00002C0,
}


def python_name(name: str) -> str:
    """A header's name as it is in Python."""
    return name.lstrip("_").replace("OPTEE_TEE_", "OPTEE_")


@pytest.mark.parametrize(("name", "value"), FIGURES.items())
def test_figure(name: str, value: int) -> None:
    assert getattr(gp, name) == value


def test_all_figures_of_the_headers() -> None:
    root = os.environ.get("GENTEE_OPTEE_OS")
    if not root:
        pytest.skip("GENTEE_OPTEE_OS names no checkout of OP-TEE's sources")
    defined: dict[str, str] = {}
    for header in HEADERS:
        text = (Path(root) / INCLUDE / header).read_text()
        for name, value in re.findall(r"^#define[ \t]+(\w+)[ \t]+(\w+)", text, re.MULTILINE):
            if name.startswith(FAMILIES):
                defined[name] = value
    del defined["__OPTEE_CORE_API_COMPAT_1_1"]
    del defined["TEE_ATTR_BIT_PROTECTED"]  # deprecated names of TEE_ATTR_FLAG_*
    del defined["TEE_ATTR_BIT_VALUE"]
    assert len(defined) > 300
    wrong = []
    for name, value in defined.items():
        while value in defined:
            value = defined[value]
        if re.fullmatch(r"0x[0-9A-Fa-f]+|\d+", value) is None:
            continue  # a macro with arguments
        ours = getattr(gp, python_name(name), None)
        if ours != int(value, 0):
            wrong.append(f"{name} is {value}, not {ours}")
    assert not wrong


def names(prefix: str) -> list[str]:
    return [name for name in vars(gp) if name.startswith(prefix)]


def test_private_attributes_are_not_public() -> None:
    private = {name for name in names("TEE_ATTR_") if "PRIVATE" in name or "SECRET" in name}
    assert len(private) == 8
    for name in private:
        assert not getattr(gp, name) & gp.TEE_ATTR_FLAG_PUBLIC, name
    for name in names("TEE_ATTR_"):
        if "PUBLIC_" in name:
            assert getattr(gp, name) & gp.TEE_ATTR_FLAG_PUBLIC, name


def test_key_pairs_and_public_keys_differ_by_one_bit() -> None:
    for name in names("TEE_TYPE_"):
        if name.endswith("_PUBLIC_KEY"):
            pair = getattr(gp, name.replace("_PUBLIC_KEY", "_KEYPAIR"))
            assert pair == getattr(gp, name) | 1 << 24


def helpers(algo: int) -> tuple[int, int, int, int, int]:
    return (
        gp.TEE_ALG_GET_CLASS(algo),
        gp.TEE_ALG_GET_MAIN_ALG(algo),
        gp.TEE_ALG_GET_CHAIN_MODE(algo),
        gp.TEE_ALG_GET_DIGEST_HASH(algo),
        gp.TEE_ALG_GET_INTERNAL_HASH(algo),
    )


@pytest.mark.parametrize(
    ("algo", "expected"),
    [
        (gp.TEE_ALG_AES_CTR, (1, 0x10, 2, 0, 0)),
        (gp.TEE_ALG_SM4_XTS, (1, 0x14, 4, 0, 0)),
        (gp.TEE_ALG_DES3_CMAC, (3, 0x13, 6, 0, 0)),
        (gp.TEE_ALG_AES_GCM, (4, 0x10, 8, 0, 0)),
        (gp.TEE_ALG_SHAKE128, (5, 0xC3, 1, 0, 0)),
        (gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA384, (7, 0x30, 9, 5, 5)),
        (gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA3_256, (7, 0x30, 9, 9, 1)),
        (gp.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_MD5, (7, 0x30, 9, 1, 1)),
        (gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_MD5, (6, 0x30, 2, 0, 1)),
        (gp.TEE_ALG_RSASSA_PKCS1_V1_5, (7, 0x30, 8, 0, 0)),
        (gp.TEE_ALG_ECDSA_SHA224, (7, 0x41, 0, 2, 0)),
        (gp.TEE_ALG_ECDSA_SHA3_224, (7, 0x42, 0, 6, 0)),
        (gp.OPTEE_ALG_ECDSA_P521, (7, 0x41, 0, 5, 0)),
        (gp.TEE_ALG_ED25519, (7, 0x43, 0, 6, 0)),
        (gp.TEE_ALG_SM2_DSA_SM3, (7, 0x45, 0, 7, 0)),
        (gp.TEE_ALG_SM2_PKE, (6, 0x47, 0, 0, 0)),
        (gp.TEE_ALG_SM2_KEP, (8, 0x46, 0, 0, 0)),
        (gp.TEE_ALG_X25519, (8, 0x44, 0, 0, 0)),
        (gp.TEE_ALG_X448, (8, 0x49, 0, 0, 0)),
        (gp.TEE_ALG_HKDF, (8, 0xC0, 0, 0, 0)),
        (gp.TEE_ALG_ILLEGAL_VALUE, (14, 0xFF, 15, 15, 7)),
    ],
    ids=lambda value: gp.algorithm_name(value) if isinstance(value, int) else "",
)
def test_parts_of_an_identifier(algo: int, expected: tuple[int, ...]) -> None:
    assert helpers(algo) == expected


def test_key_types() -> None:
    assert gp.TEE_ALG_GET_KEY_TYPE(gp.TEE_ALG_AES_CMAC, False) == gp.TEE_TYPE_AES
    assert gp.TEE_ALG_GET_KEY_TYPE(gp.TEE_ALG_ECDSA_SHA1, True) == gp.TEE_TYPE_ECDSA_KEYPAIR
    assert gp.TEE_ALG_GET_KEY_TYPE(gp.TEE_ALG_SM2_KEP, False) == gp.TEE_TYPE_SM2_KEP_PUBLIC_KEY
    assert gp.TEE_ALG_GET_KEY_TYPE(gp.TEE_ALG_HKDF_SHA256_DERIVE_KEY, True) == gp.TEE_TYPE_HKDF_IKM


def test_digests_of_an_identifier() -> None:
    assert gp.TEE_DIGEST_HASH_TO_ALGO(gp.TEE_ALG_DSA_SHA224) == gp.TEE_ALG_SHA224
    assert gp.TEE_DIGEST_HASH_TO_ALGO(gp.TEE_ALG_SM2_DSA_SM3) == gp.TEE_ALG_SM3
    oaep = gp.TEE_ALG_RSAES_PKCS1_OAEP_MGF1_SHA512
    assert gp.TEE_INTERNAL_HASH_TO_ALGO(oaep) == gp.TEE_ALG_SHA512
    assert gp.TEE_ALG_HMAC_ALGO(gp.TEE_MAIN_ALGO_SHA384) == gp.TEE_ALG_HMAC_SHA384


@pytest.mark.parametrize(
    ("algo", "size"),
    [
        (gp.TEE_ALG_MD5, 16),
        (gp.TEE_ALG_HMAC_SHA3_384, 48),
        (gp.TEE_ALG_SM3, 32),
        (gp.TEE_ALG_AES_CMAC, 16),
        (gp.TEE_ALG_DES_CBC_MAC_PKCS5, 8),
        (gp.TEE_ALG_SHAKE256, 0),
        (gp.TEE_ALG_AES_CTR, 0),
    ],
)
def test_digest_size(algo: int, size: int) -> None:
    assert gp.TEE_ALG_GET_DIGEST_SIZE(algo) == size


def test_names() -> None:
    assert gp.algorithm_name(0x70003042) == "TEE_ALG_ECDSA_SHA256"  # not its deprecated name
    assert gp.type_name(gp.TEE_TYPE_SM4) == "TEE_TYPE_SM4"
    assert gp.attribute_name(gp.TEE_ATTR_ECC_CURVE) == "TEE_ATTR_ECC_CURVE"
    assert gp.type_name(0x12345678) == "0x12345678"
