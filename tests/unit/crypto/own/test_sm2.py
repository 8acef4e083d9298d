# SPDX-License-Identifier: BSD-2-Clause
"""SM2 on integers: the examples of GM/T 0003.5-2012, and what OpenSSL 3.0 made."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gentee.crypto.own import sm2
from gentee.crypto.own.curves import SM2, Point

KEY = 0x3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8
POINT = (
    0x09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020,
    0xCCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13,
)
ID = b"1234567812345678"

# A key of OpenSSL's, and what it signed and encrypted with that.
OPENSSL_KEY = 0xAF09F5750C25F60F9EC29ACE549F45483EBD65799E84B3696176AD1B78C4D841
OPENSSL_POINT = (
    0xAFE52464C8A3012C741AB39DA5D0CA8C97C7EAD73CB4E1F1E22CFCBE1282B619,
    0x0789424F8769972F8823DF2C578A6CB71E3585FA4128794138156CB56018FF42,
)
OPENSSL_MESSAGE = b"A message that OpenSSL signs"
OPENSSL_SIGNATURE = (
    0x96B53F106D1649A22B318038DEFE67C2662999201A0937CD9ACCA95137E3116D,
    0x709A86242D1EBC87B0643E765AAF8A7DDE96C10092EDE03C78BB14F714D1A897,
)
OPENSSL_C1 = (
    0x9A15EF38FD4D2AD34ACFEF833020703B689814882970748AFC4C1BE5FFD0FD41,
    0xF02F5E50B8ED039DB281086A2EFA7FDA142A219545B1B839492E7F2199D28352,
)
OPENSSL_C3 = bytes.fromhex("88ed474a56ab2ef848bdd7481af297e05fc64a436663e9076dc7b78a52e85815")
OPENSSL_C2 = bytes.fromhex("baf83bd76d01e512692ea731234b15d039448864e53a9bc8efa71607")

messages = st.binary(min_size=8, max_size=100)  # shorter ones may meet a key stream of 0
privates = st.integers(1, SM2.n - 2)


def digest(message: bytes, point: Point) -> int:
    """e of a message: Z of the signer, and the message."""
    return int.from_bytes(sm2.sm3(sm2.identity_digest(ID, point), message), "big")


def test_signature_of_the_standard() -> None:
    """GM/T 0003.5 annex A.2"""
    assert sm2.identity_digest(ID, POINT).hex() == (
        "b2e14c5c79c6df5b85f4fe7ed8db7a262b9da7e07ccb0ea9f4747b8ccda8a4f3"
    )
    e = digest(b"message digest", POINT)
    r = 0xF5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3
    s = 0xB1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA
    assert sm2.is_valid(POINT, e, r, s)
    for wrong in ((r + 1, s), (r, s + 1), (0, s), (r, 0), (SM2.n, s), (r, SM2.n), (r, SM2.n - r)):
        assert not sm2.is_valid(POINT, e, *wrong)
    assert not sm2.is_valid(POINT, e + 1, r, s)
    assert not sm2.is_valid(OPENSSL_POINT, e, r, s)


def test_signature_of_openssl() -> None:
    assert SM2.multiply(OPENSSL_KEY, SM2.base) == OPENSSL_POINT
    e = digest(OPENSSL_MESSAGE, OPENSSL_POINT)
    assert sm2.is_valid(OPENSSL_POINT, e, *OPENSSL_SIGNATURE)
    assert not sm2.is_valid(OPENSSL_POINT, e, OPENSSL_SIGNATURE[1], OPENSSL_SIGNATURE[0])


@settings(max_examples=10)
@given(privates, st.integers(0, (1 << 300) - 1))
def test_signatures(private: int, e: int) -> None:
    point = SM2.multiply(private, SM2.base)
    assert point is not None
    r, s = sm2.sign(private, e)
    assert sm2.is_valid(point, e, r, s)
    assert not sm2.is_valid(point, e + 1, r, s)


def test_encryption_of_the_standard() -> None:
    """GM/T 0003.5 annex C.2"""
    first = (
        0x04EBFC718E8D1798620432268E77FEB6415E2EDE0E073C0F4F640ECD2E149A73,
        0xE858F9D81E5430A57B36DAAB8F950A3C64E6EE6A63094D99283AFF767E124DF0,
    )
    shared = SM2.multiply(KEY, first)
    assert shared is not None
    opened = sm2.decrypt(shared, bytes.fromhex("21886ca989ca9c7d58087307ca93092d651efa"))
    assert opened == (
        b"encryption standard",
        bytes.fromhex("59983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766"),
    )


def test_encryption_of_openssl() -> None:
    shared = SM2.multiply(OPENSSL_KEY, OPENSSL_C1)
    assert shared is not None
    assert sm2.decrypt(shared, OPENSSL_C2) == (OPENSSL_MESSAGE, OPENSSL_C3)


@settings(max_examples=10)
@given(privates, messages)
def test_encryption(private: int, message: bytes) -> None:
    point = SM2.multiply(private, SM2.base)
    assert point is not None
    parts = sm2.encrypt(point, message)
    assert parts is not None
    first = int.from_bytes(parts[0][1:33], "big"), int.from_bytes(parts[0][33:], "big")
    assert parts[0][0] == 4
    assert SM2.has(first)
    shared = SM2.multiply(private, first)
    assert shared is not None
    assert sm2.decrypt(shared, parts[1]) == (message, parts[2])


def test_nothing_has_no_key_stream() -> None:
    assert sm2.encrypt(POINT, b"") is None
    assert sm2.decrypt(POINT, b"") is None


def test_exchange_of_the_standard() -> None:
    """GM/T 0003.5 annex B.2, from both sides"""
    a = 0x81EB26E941BB5AF16DF116495F90695272AE2CD63D6C4AE1678418BE48230029
    b = 0x785129917D45A9EA5437A59356B82338EAADDA6CEB199088F14AE10DEFA229B5
    ra = 0xD4DE15474DB74D06491C440D305E012400990F3E390C7E87153C12DB2EA60BB3
    rb = 0x7E07124814B309489125EAED101113164EBF0F3458C5BD88335C1F9D596243D6
    pa, pb, ea, eb = (SM2.multiply(number, SM2.base) for number in (a, b, ra, rb))
    assert pa is not None
    assert pb is not None
    assert ea is not None
    assert eb is not None
    shared = sm2.exchange(a, ra, ea[0], pb, eb)
    assert shared is not None
    assert shared == sm2.exchange(b, rb, eb[0], pa, ea)
    digests = sm2.identity_digest(ID, pa) + sm2.identity_digest(ID, pb)
    key = sm2.kdf(sm2.point_octets(shared) + digests, 16)
    assert key.hex() == "6c89347354de2484c60b4ab1fde4c6e5"
    assert sm2.confirmation(True, shared, digests, ea, eb).hex() == (
        "d3a0fe15dee185ceae907a6b595cc32a266ed7b3367e9983a896dc32fa20f8eb"
    )
    assert sm2.confirmation(False, shared, digests, ea, eb).hex() == (
        "18c7894b3816df16cf07b05c5ec0bef5d655d58f779cc1b400a4f3884644db88"
    )


@settings(max_examples=5)
@given(privates, privates, privates, privates)
def test_exchange(a: int, ra: int, b: int, rb: int) -> None:
    """Both sides have the base point times both of the numbers that only one of them knows."""
    pa, pb, ea, eb = (SM2.multiply(number, SM2.base) for number in (a, b, ra, rb))
    assert pa is not None
    assert pb is not None
    assert ea is not None
    assert eb is not None
    w = 1 << 127
    ta = a + (w | ea[0] % w) * ra
    tb = b + (w | eb[0] % w) * rb
    expected = SM2.multiply(ta * tb, SM2.base)
    assert sm2.exchange(a, ra, ea[0], pb, eb) == expected
    assert sm2.exchange(b, rb, eb[0], pa, ea) == expected


def test_long_identities_wrap() -> None:
    """OP-TEE writes the lower 16 bits of a length in bits."""
    assert sm2.identity_digest(bytes(8193), POINT) != sm2.identity_digest(b"\0", POINT)
    assert len(sm2.identity_digest(bytes(1 << 13), POINT)) == 32
