# SPDX-License-Identifier: BSD-2-Clause
"""Readers of signed images take any bytes: an image that holds, or one error with a code."""

import hashlib
from collections.abc import Callable
from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import gp, shdr
from gentee.abi.shdr import (
    Shdr,
    ShdrBootstrapTa,
    ShdrEncryptedTa,
    ShdrError,
    ShdrSubkey,
)
from gentee.cli.ta_report import report, report_text
from gentee.errors import TaImageError
from gentee.secure import images
from gentee.secure.keys import AcceptedKeys, PublicKey, sign_digest
from gentee.secure.opening import open_image
from gentee.secure.subkeys import next_uuid
from gentee.secure.ta_encryption import default_key
from tests import signing

CODES = {
    gp.TEE_ERROR_SECURITY,
    gp.TEE_ERROR_BAD_FORMAT,
    gp.TEE_ERROR_NOT_IMPLEMENTED,
    gp.TEE_ERROR_OUT_OF_MEMORY,
}

PSS = shdr.SIGNATURE_ALGORITHMS[shdr.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256]
MODULUS = signing.key(2048, 1).public_key().public_numbers().n.to_bytes(256, "big")
E = b"\1\0\1"
NAME_AT = 20 + 32 + 256 + 319 + 6  # in chained(): the name's NUL, and the end of its field
NAME_END = NAME_AT + 2

u16s = st.one_of(st.sampled_from([0, 1, 12, 16, 31, 32, 33, 256, 512, 0xFFFF]), st.integers(0, 600))
u32s = st.one_of(
    st.sampled_from([0, 1, 2, 3, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]),
    st.integers(0, 0xFFFF_FFFF),
)


@cache
def keys() -> AcceptedKeys:
    """Keys of which the only one is the run's."""
    accepted = AcceptedKeys(strict=True)
    accepted._keys = [PublicKey("test", signing.key().public_key())]
    return accepted


@cache
def good() -> bytes:
    return signing.signed(signing.source())


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A header of any form with fields of any value, and something behind it."""
    fixed = shdr.STRUCT_SHDR.pack(
        draw(st.one_of(st.just(shdr.SHDR_MAGIC), u32s)),
        draw(st.one_of(st.integers(0, 4), u32s)),
        draw(st.one_of(st.integers(0, 200), u32s)),
        draw(st.one_of(st.sampled_from(sorted(shdr.SIGNATURE_ALGORITHMS)), u32s)),
        draw(u16s),
        draw(u16s),
    )
    rest = draw(
        st.lists(
            st.one_of(
                st.binary(max_size=100),
                st.integers(0, 600).map(bytes),
                st.builds(
                    shdr.STRUCT_SHDR_BOOTSTRAP_TA.pack, st.binary(min_size=16, max_size=16), u32s
                ),
                st.builds(shdr.STRUCT_SHDR_ENCRYPTED_TA.pack, u32s, u32s, u16s, u16s),
                st.builds(
                    shdr.STRUCT_SHDR_SUBKEY.pack,
                    st.binary(min_size=16, max_size=16),
                    *[u32s] * 5,
                ),
                st.builds(shdr.STRUCT_SHDR_SUBKEY_ATTR.pack, u32s, u32s, u32s),
            ),
            max_size=6,
        )
    )
    return fixed + b"".join(rest)


def look(data: bytes) -> bool:
    """Whether ``data`` was taken. All readers see it."""
    for offset in (0, 1, 20, len(data)):
        for parse in (Shdr.parse, ShdrBootstrapTa.parse, ShdrEncryptedTa.parse):
            try:
                parsed = parse(data, offset)
            except ShdrError:
                continue
            built = parsed.build()
            assert data[offset : offset + len(built)] == built
        try:
            ShdrSubkey.parse(data[offset:])
        except ShdrError:
            pass
    found = report("x.ta", data, keys())
    text = report_text(found)
    assert text.count("\n") < 1500
    codes = {_code(images.verify, data), _code(open_image, data)}
    assert codes <= CODES | {gp.TEE_SUCCESS}
    taken = _code(open_image, data) == gp.TEE_SUCCESS
    assert found["accepted"] == taken
    return taken


def _code(read: Callable[[bytes, AcceptedKeys], object], data: bytes) -> int:
    try:
        read(data, keys())
    except TaImageError as error:
        return error.code
    return gp.TEE_SUCCESS


@given(st.binary(max_size=700))
def test_any_bytes(data: bytes) -> None:
    assert not look(data)
    assert not look(b"HSTO" + data)


@given(headers())
def test_any_header(data: bytes) -> None:
    assert not look(data)


@cache
def chained() -> bytes:
    """An encrypted TA behind two subkeys."""
    name = b"a name".ljust(8, b"\0")
    uuid = next_uuid(signing.UUID_BYTES, name)
    before = signing.chain(
        (signing.UUID_BYTES, signing.key(2048, 1), name, {"max_depth": 2}),
        (uuid, signing.key(2048, 2), b"", {"max_depth": 1}),
    )
    enc_key = default_key(signing.key().public_key())
    return before + images.sign(signing.elf(), signing.key(2048, 2), uuid, 1, enc_key=enc_key)


@given(st.data())
def test_an_image_with_damage(data: st.DataObject) -> None:
    right = data.draw(st.sampled_from([good, chained]))()
    image = bytearray(right)
    for _ in range(data.draw(st.integers(1, 5))):
        kind = data.draw(st.integers(0, 3))
        at = data.draw(st.integers(0, max(0, len(image) - 1)))
        if kind == 0:
            image[at : at + 1] = data.draw(st.binary(min_size=1, max_size=4))
        elif kind == 1:
            del image[at:]
        elif kind == 2:
            image += data.draw(st.binary(max_size=8))
        else:
            del image[at : at + data.draw(st.integers(1, 40))]
    if bytes(image[:NAME_AT]) == right[:NAME_AT] and bytes(image[NAME_END:]) == right[NAME_END:]:
        look(bytes(image))  # what follows a name's NUL says nothing
    else:
        assert look(bytes(image)) == (bytes(image) == right)


@given(st.data())
def test_subkeys_that_are_signed(data: st.DataObject) -> None:
    """Whoever has a key may put anything into a subkey, and behind it."""
    attrs = {}
    for attr in data.draw(st.lists(st.sampled_from([*shdr.RSA_ATTRS, 1]), max_size=3)):
        attrs[attr] = data.draw(st.one_of(st.binary(max_size=40), st.just(MODULUS), st.just(E)))
    image = ShdrSubkey(
        data.draw(st.sampled_from([signing.UUID_BYTES, bytes(16)])),
        data.draw(st.one_of(st.just(0), u32s)),
        data.draw(u32s),
        data.draw(u32s),
        data.draw(st.one_of(st.just(PSS.number), u32s)),
        attrs,
    ).build()
    image = image[: data.draw(st.one_of(st.just(len(image)), st.integers(0, len(image))))]
    blank = Shdr(shdr.SHDR_SUBKEY, len(image), PSS.number, bytes(32), bytes(256))
    digest = hashlib.sha256(blank.fixed + image).digest()
    signature = sign_digest(signing.key(), PSS, digest)
    header = Shdr(shdr.SHDR_SUBKEY, len(image), PSS.number, digest, signature).build()
    behind = data.draw(
        st.one_of(
            st.just(signing.signed(signing.source(), private=signing.key(2048, 1))),
            st.just(header + image),
            st.binary(max_size=200),
            headers(),
        )
    )
    look(header + image + behind)


@given(st.binary(max_size=400))
def test_any_payload_that_is_signed(payload: bytes) -> None:
    """Whoever has a key may put anything inside."""
    assert not look(images.sign(payload, signing.key(), signing.UUID_BYTES, 1))
