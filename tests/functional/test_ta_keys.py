# SPDX-License-Identifier: BSD-2-Clause
"""New keys of every type, made by Arm TAs in their processes: nothing can be loaded there any more,
and each process has random numbers of its own.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gentee.abi import gp_crypto as gp
from gentee.abi import optee_ta as abi
from gentee.crypto import object_types as types
from tests import arm_tas
from tests.arm_tas import uuid_of
from tests.calling_ta import CALLS, CallingTa
from tests.helpers import ServiceHost
from tests.ta_build import ARCHES
from tests.ta_clients import ArmTee

# Where things are in the TA's memory
HANDLE, SIZE, ATTRS, BYTES = 0, 8, 64, 1024

P = (1 << 521) - 1
Q = (1 << 89) - 1

# Type, size, what is given, and an attribute that no two keys have alike
KEYS: list[tuple[int, int, dict[int, int], int]] = [
    (gp.TEE_TYPE_AES, 256, {}, gp.TEE_ATTR_SECRET_VALUE),
    (gp.TEE_TYPE_DES3, 192, {}, gp.TEE_ATTR_SECRET_VALUE),
    (gp.TEE_TYPE_HMAC_SHA512, 1024, {}, gp.TEE_ATTR_SECRET_VALUE),
    (gp.TEE_TYPE_GENERIC_SECRET, 4096, {}, gp.TEE_ATTR_SECRET_VALUE),
    (gp.TEE_TYPE_RSA_KEYPAIR, 512, {}, gp.TEE_ATTR_RSA_PRIME1),
    (gp.TEE_TYPE_RSA_KEYPAIR, 1024, {}, gp.TEE_ATTR_RSA_PRIVATE_EXPONENT),
    (
        gp.TEE_TYPE_RSA_KEYPAIR,
        1024,
        {gp.TEE_ATTR_RSA_PUBLIC_EXPONENT: 65539},
        gp.TEE_ATTR_RSA_MODULUS,
    ),
    (
        gp.TEE_TYPE_DSA_KEYPAIR,
        576,
        {
            gp.TEE_ATTR_DSA_PRIME: P | 1 << 575,
            gp.TEE_ATTR_DSA_SUBPRIME: Q,
            gp.TEE_ATTR_DSA_BASE: 3,
        },
        gp.TEE_ATTR_DSA_PUBLIC_VALUE,
    ),
    (
        gp.TEE_TYPE_DH_KEYPAIR,
        528,
        {gp.TEE_ATTR_DH_PRIME: P, gp.TEE_ATTR_DH_BASE: 3, gp.TEE_ATTR_DH_X_BITS: 160},
        gp.TEE_ATTR_DH_PRIVATE_VALUE,
    ),
    *(
        (obj_type, types.CURVE_BITS[curve], {gp.TEE_ATTR_ECC_CURVE: curve}, attr)
        for curve in range(gp.TEE_ECC_CURVE_NIST_P192, gp.TEE_ECC_CURVE_NIST_P521 + 1)
        for obj_type, attr in (
            (gp.TEE_TYPE_ECDSA_KEYPAIR, gp.TEE_ATTR_ECC_PRIVATE_VALUE),
            (gp.TEE_TYPE_ECDH_KEYPAIR, gp.TEE_ATTR_ECC_PUBLIC_VALUE_X),
        )
    ),
    *((obj_type, 256, {}, gp.TEE_ATTR_ECC_PUBLIC_VALUE_Y) for obj_type in types.SM2_KEYPAIRS),
    (gp.TEE_TYPE_ED25519_KEYPAIR, 256, {}, gp.TEE_ATTR_ED25519_PRIVATE_VALUE),
    (gp.TEE_TYPE_X25519_KEYPAIR, 256, {}, gp.TEE_ATTR_X25519_PUBLIC_VALUE),
    (gp.TEE_TYPE_X448_KEYPAIR, 448, {}, gp.TEE_ATTR_X448_PUBLIC_VALUE),
]


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture(scope="module", params=ARCHES)
def tee(
    request: pytest.FixtureRequest, host: ServiceHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ArmTee]:
    folder: Path = tmp_path_factory.mktemp("tas")
    arm_tas.install(folder, CALLS, "calls", request.param)
    tee = ArmTee(host, folder, request.param)
    yield tee
    tee.close()
    assert not host.bugs


@pytest.fixture(scope="module")
def tas(tee: ArmTee) -> list[CallingTa]:
    """Three instances, none of which was asked for a key before."""
    return [CallingTa(tee.open(uuid_of(CALLS))) for _ in range(3)]


def new_key(ta: CallingTa, obj_type: int, size: int, given: dict[int, int]) -> int:
    """The handle of a new object with a new key."""
    address = ta.write(HANDLE, bytes(8))
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_ALLOC, obj_type, size, address) == 0
    handle = int.from_bytes(ta.read(HANDLE, 4), "little")
    array = b""
    at = BYTES
    for attr, number in given.items():
        if attr & gp.TEE_ATTR_FLAG_VALUE:
            array += abi.UTEE_ATTRIBUTE.pack(number, 0, attr)
            continue
        content = number.to_bytes((number.bit_length() + 7) // 8, "big")
        array += abi.UTEE_ATTRIBUTE.pack(ta.write(at, content), len(content), attr)
        at += len(content)
    args = (handle, size, ta.write(ATTRS, array), len(given))
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_GENERATE_KEY, *args) == 0
    return handle


def get(ta: CallingTa, handle: int, attr: int) -> bytes:
    """An attribute that has bytes."""
    size = ta.write(SIZE, (512).to_bytes(8, "little"))
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_GET_ATTR, handle, attr, ta.address + BYTES, size) == 0
    return ta.read(BYTES, int.from_bytes(ta.read(SIZE, 8), "little"))


@pytest.mark.parametrize(
    ("obj_type", "size", "given", "attr"),
    KEYS,
    ids=[f"{gp.type_name(row[0])[9:]}-{row[1]}-{len(row[2])}" for row in KEYS],
)
def test_every_instance_makes_another_key(
    tas: list[CallingTa], obj_type: int, size: int, given: dict[int, int], attr: int
) -> None:
    seen: set[bytes] = set()
    for ta in tas:
        handles = [new_key(ta, obj_type, size, given) for _ in range(2)]
        seen.update(get(ta, handle, attr) for handle in handles)
        for handle in handles:
            assert ta.call(abi.TEE_SCN_CRYP_OBJ_CLOSE, handle) == 0
    assert len(seen) == 6


def test_a_key_is_one_that_others_take(tas: list[CallingTa]) -> None:
    curve = {gp.TEE_ATTR_ECC_CURVE: gp.TEE_ECC_CURVE_NIST_P384}
    handle = new_key(tas[0], gp.TEE_TYPE_ECDSA_KEYPAIR, 384, curve)
    d, x, y = (
        int.from_bytes(get(tas[0], handle, attr), "big")
        for attr in (
            gp.TEE_ATTR_ECC_PRIVATE_VALUE,
            gp.TEE_ATTR_ECC_PUBLIC_VALUE_X,
            gp.TEE_ATTR_ECC_PUBLIC_VALUE_Y,
        )
    )
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP384R1())
    assert (
        ec.EllipticCurvePrivateNumbers(d, public).private_key().private_numbers().public_numbers
        == public
    )
