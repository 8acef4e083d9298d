# SPDX-License-Identifier: BSD-2-Clause
"""Curve arithmetic: SM2's published key pairs, and OpenSSL's answers on P-256 in the same code."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from gentee.crypto.own.curves import SM2, Curve

# FIPS 186-4 D.1.2.3
P256 = Curve(
    "P-256",
    p=0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF,
    b=0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    n=0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    gx=0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    gy=0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)

# GB/T 32918.5-2017: annex A.2 (signature), and A and B of annex B.2 (key exchange)
SM2_KEYS = [
    (
        0x3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8,
        0x09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020,
        0xCCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13,
    ),
    (
        0x81EB26E941BB5AF16DF116495F90695272AE2CD63D6C4AE1678418BE48230029,
        0x160E12897DF4EDB61DD812FEB96748FBD3CCF4FFE26AA6F6DB9540AF49C94232,
        0x4A7DAD08BB9A459531694BEB20AA489D6649975E1BFCF8C4741B78B4B223007F,
    ),
    (
        0x785129917D45A9EA5437A59356B82338EAADDA6CEB199088F14AE10DEFA229B5,
        0x6AE848C57C53C7B1B5FA99EB2286AF078BA64C64591B8B566F7357D576F16DFB,
        0xEE489D771621A27B36C5C7992062E9CD09A9264386F3FBEA54DFF69305621C4D,
    ),
]


def openssl(factor: int) -> tuple[int, int]:
    """The multiple of P-256's base point."""
    numbers = ec.derive_private_key(factor, ec.SECP256R1()).public_key().public_numbers()
    return numbers.x, numbers.y


@pytest.mark.parametrize(("d", "x", "y"), SM2_KEYS)
def test_key_pairs_of_sm2(d: int, x: int, y: int) -> None:
    assert SM2.multiply(d, SM2.base) == (x, y)
    assert SM2.has((x, y))


def test_sm2_is_a_curve_of_its_order() -> None:
    assert SM2.has(SM2.base)
    assert SM2.multiply(SM2.n, SM2.base) is None
    assert SM2.multiply(0, SM2.base) is None
    assert SM2.multiply(1, SM2.base) == SM2.base
    minus = SM2.multiply(SM2.n - 1, SM2.base)
    assert minus == (SM2.gx, SM2.p - SM2.gy)
    assert SM2.add(minus, SM2.base) is None
    assert SM2.size == 32


@settings(max_examples=25, deadline=None)
@given(st.integers(1, P256.n - 1))
def test_multiples_are_openssls(factor: int) -> None:
    assert P256.multiply(factor, P256.base) == openssl(factor)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 15, 16, P256.n - 2, P256.n - 1, P256.n // 2])
def test_edges_are_openssls(factor: int) -> None:
    assert P256.multiply(factor, P256.base) == openssl(factor)
    assert P256.multiply(factor + P256.n, P256.base) == openssl(factor)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, P256.n - 1), st.integers(1, P256.n - 1))
def test_sums_are_openssls(first: int, second: int) -> None:
    total = (first + second) % P256.n
    expected = openssl(total) if total else None
    assert P256.add(openssl(first), openssl(second)) == expected


def test_sum_with_itself_and_with_nothing() -> None:
    assert P256.add(P256.base, P256.base) == openssl(2)
    assert P256.add(None, P256.base) == P256.base
    assert P256.add(P256.base, None) == P256.base
    assert P256.add(None, None) is None


@pytest.mark.parametrize(
    "point",
    [
        (0, 0),
        (SM2.gx, SM2.gy + 1),
        (SM2.gx, SM2.p - SM2.gy + 1),
        (SM2.gx + SM2.p, SM2.gy),
        (SM2.gx, -SM2.gy),
        P256.base,
    ],
)
def test_what_is_not_on_the_curve(point: tuple[int, int]) -> None:
    assert not SM2.has(point)
