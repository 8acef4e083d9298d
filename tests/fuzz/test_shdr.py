# SPDX-License-Identifier: BSD-2-Clause
"""Readers of signed images take any bytes: an image that holds, or one error with a code."""

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
from gentee.secure import images, package
from gentee.secure.keys import AcceptedKeys, PublicKey
from tests import signing

CODES = {
    gp.TEE_ERROR_SECURITY,
    gp.TEE_ERROR_BAD_FORMAT,
    gp.TEE_ERROR_NOT_SUPPORTED,
    gp.TEE_ERROR_OUT_OF_MEMORY,
}

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
    codes = {_code(images.verify, data), _code(package.open_image, data)}
    assert codes <= CODES | {gp.TEE_SUCCESS}
    taken = _code(package.open_image, data) == gp.TEE_SUCCESS
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


@given(st.data())
def test_an_image_with_damage(data: st.DataObject) -> None:
    image = bytearray(good())
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
    assert look(bytes(image)) == (bytes(image) == good())


@given(st.binary(max_size=400))
def test_any_payload_that_is_signed(payload: bytes) -> None:
    """Whoever has a key may put anything inside."""
    assert not look(images.sign(payload, signing.key(), signing.UUID_BYTES, 1))
