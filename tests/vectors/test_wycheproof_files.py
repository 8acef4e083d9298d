# SPDX-License-Identifier: BSD-2-Clause
"""Each of Wycheproof's files is a test's, or it is said why not."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.crypto.own import test_primes
from tests.vector_files import WYCHEPROOF
from tests.vectors import test_asymmetric_vectors, test_symmetric_vectors

# The file of a test with its parameters.
FILE_OF: dict[str, Callable[..., str]] = {
    "test_mac_of_wycheproof": lambda algo, name: name,
    "test_authenc_of_wycheproof": lambda algo, name: name,
    "test_aes_xts_of_wycheproof": lambda: "aes_xts",
    "test_rsa_signature_of_wycheproof": lambda bits, name: f"rsa_signature_{bits}_{name}",
    "test_rsa_pss_of_wycheproof": lambda name, hash_name, salt: f"rsa_pss_{name}",
    "test_rsa_oaep_of_wycheproof": lambda name, hash_name, mgf: f"rsa_oaep_{name}",
    "test_rsa_oaep_misc_of_wycheproof": lambda: "rsa_oaep_misc",
    "test_rsa_pss_misc_of_wycheproof": lambda: "rsa_pss_misc",
    "test_rsa_pkcs1_of_wycheproof": lambda bits: f"rsa_pkcs1_{bits}",
    "test_dsa_of_wycheproof": lambda name: f"dsa_{name}_p1363",
    "test_ecdsa_of_wycheproof": lambda name: f"ecdsa_secp{name}_p1363",
    "test_ecdh_of_wycheproof": lambda bits: f"ecdh_secp{bits}r1_ecpoint",
    "test_ed25519_of_wycheproof": lambda: "ed25519",
    "test_montgomery_of_wycheproof": lambda name: name,
    "test_hkdf_of_wycheproof": lambda name: f"hkdf_{name}",
    "test_pbkdf2_of_wycheproof": lambda name: f"pbkdf2_hmac{name.lower()}",
    "test_primes_of_wycheproof": lambda: "primality",
}

# What OP-TEE has no algorithm for.
NOT_OF_OPTEE = (
    (r"rsa_signature_.*_sha3_.*", "no RSASSA PKCS1 v1.5 with SHA-3"),
    (r".*_sha512_(224|256).*", "no SHA-512/224 and SHA-512/256"),
    (r"rsa_pss_.*_sha256_mgf1sha1_20", "the mask generation function of PSS has the same digest"),
)


def parameters(test: Any) -> Iterator[tuple[Any, ...]]:
    """The parameters of a test, one tuple for each time that it runs."""
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    if not marks:
        yield ()
    for mark in marks:
        for values in mark.args[1]:
            yield values if isinstance(values, tuple) else (values,)


def test_all_files_are_tested() -> None:
    if not WYCHEPROOF.is_dir():
        pytest.skip(f"needs Wycheproof's vectors in {WYCHEPROOF}")
    used = set()
    for module in (test_asymmetric_vectors, test_symmetric_vectors, test_primes):
        for name, test in vars(module).items():
            if name.startswith("test_") and name.endswith("_of_wycheproof"):
                used |= {FILE_OF[name](*values) for values in parameters(test)}
    there = {path.name.removesuffix("_test.json") for path in WYCHEPROOF.glob("*_test.json")}
    assert len(there) > 100
    assert used <= there
    without = {name for name in there if any(re.fullmatch(p, name) for p, _ in NOT_OF_OPTEE)}
    assert not used & without
    assert there - used - without == set()
