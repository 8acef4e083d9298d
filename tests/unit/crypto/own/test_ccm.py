# SPDX-License-Identifier: BSD-2-Clause
"""CCM in steps, with copies in between. NIST's and Wycheproof's vectors are in tests/vectors."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from hypothesis import given
from hypothesis import strategies as st

from gentee.crypto.own.ccm import Ccm
from gentee.errors import BadState

KEY = bytes(range(24))

parts = st.lists(st.tuples(st.binary(max_size=70), st.booleans()), max_size=6)


@given(
    st.binary(min_size=7, max_size=13),
    st.integers(2, 8).map(lambda n: 2 * n),
    parts,
    parts,
    st.booleans(),
)
def test_steps(
    nonce: bytes,
    tag_size: int,
    aad: list[tuple[bytes, bool]],
    plain: list[tuple[bytes, bool]],
    encrypt: bool,
) -> None:
    all_aad = b"".join(part for part, _ in aad)
    all_plain = b"".join(part for part, _ in plain)
    sealed = AESCCM(KEY, tag_size).encrypt(nonce, all_plain, all_aad)
    source = all_plain if encrypt else sealed
    ccm = Ccm(AES(KEY), encrypt, nonce, tag_size, len(all_aad), len(all_plain))
    for part, copy in aad:
        ccm = ccm.copy() if copy else ccm
        ccm.update_aad(part)
    made = b""
    for part, copy in plain:
        other = ccm.copy()
        ccm = other if copy else ccm
        out = memoryview(bytearray(len(part)))
        ccm.update_into(source[len(made) : len(made) + len(part)], out)
        made += bytes(out)
    assert made == (sealed[: len(all_plain)] if encrypt else all_plain)
    assert ccm.final()[:tag_size] == sealed[len(all_plain) :]


def test_much_additional_data() -> None:
    """Its length is written in six bytes then."""
    aad, plain = bytes(0xFF00), bytes(range(256)) * 300
    sealed = AESCCM(KEY, 16).encrypt(bytes(12), plain, aad)
    ccm = Ccm(AES(KEY), True, bytes(12), 16, len(aad), len(plain))
    ccm.update_aad(aad)
    out = memoryview(bytearray(plain))
    ccm.update_into(out, out)
    assert bytes(out) + ccm.final() == sealed


def test_a_nonce_that_leaves_no_room_for_the_length_is_cut() -> None:
    """OP-TEE's, where the standard has no such message."""
    plain = bytes(1 << 16)
    made = []
    for nonce in (b"thirteen byte", b"thirteen byt"):
        ccm = Ccm(AES(KEY), True, nonce, 16, 0, len(plain))
        out = memoryview(bytearray(len(plain)))
        ccm.update_into(plain, out)
        made.append(bytes(out) + ccm.final())
    assert made[0] == made[1] == AESCCM(KEY, 16).encrypt(b"thirteen byt", plain, None)


def test_what_was_announced_must_come() -> None:
    ccm = Ccm(AES(KEY), True, bytes(12), 16, 5, 20)
    out = memoryview(bytearray(32))
    with pytest.raises(BadState):
        ccm.update_into(b"", out)
    with pytest.raises(BadState):
        ccm.update_aad(b"123456")
    ccm.update_aad(b"12345")
    with pytest.raises(BadState):
        ccm.update_into(bytes(21), out)
    ccm.update_into(bytes(19), out)
    with pytest.raises(BadState):
        ccm.final()
    ccm.update_into(bytes(1), out)
    assert len(ccm.final()) == 16
    with pytest.raises(BadState):
        Ccm(AES(KEY), True, bytes(6), 16, 0, 0)
