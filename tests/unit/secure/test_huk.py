# SPDX-License-Identifier: BSD-2-Clause
"""gentee.secure.huk: keys as OP-TEE derives them."""

import hashlib
import hmac
from pathlib import Path

import pytest

from gentee.errors import BadParameters, UserError
from gentee.secure.huk import (
    DEVELOPMENT_HUK,
    HUK_SUBKEY_DIE_ID,
    HUK_SUBKEY_TA_ENC,
    HUK_SUBKEY_UNIQUE_TA,
    huk_subkey_derive,
    load_huk,
)

KEY = bytes(range(16))


def test_rfc_4231() -> None:
    # Test case 1: its data is "Hi There", of which four bytes stand for the usage.
    usage = int.from_bytes(b"Hi T", "little")
    expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    assert huk_subkey_derive(usage, b"here", 32, b"\x0b" * 20).hex() == expected


def test_it_is_a_mac_of_usage_and_data() -> None:
    message = b"\x03\0\0\0" + b"data"
    expected = hmac.new(bytes(16), message, hashlib.sha256).digest()
    assert huk_subkey_derive(HUK_SUBKEY_UNIQUE_TA, b"data", 32) == expected
    assert huk_subkey_derive(HUK_SUBKEY_UNIQUE_TA, b"data", 16) == expected[:16]
    assert huk_subkey_derive(HUK_SUBKEY_UNIQUE_TA, b"data", 0) == b""


def test_all_that_goes_in_counts() -> None:
    keys = {
        huk_subkey_derive(HUK_SUBKEY_UNIQUE_TA, b"data", 32),
        huk_subkey_derive(HUK_SUBKEY_TA_ENC, b"data", 32),
        huk_subkey_derive(HUK_SUBKEY_DIE_ID, b"", 32),
        huk_subkey_derive(HUK_SUBKEY_UNIQUE_TA, b"date", 32),
        huk_subkey_derive(HUK_SUBKEY_UNIQUE_TA, b"data", 32, KEY),
    }
    assert len(keys) == 5


@pytest.mark.parametrize("size", [-1, 33])
def test_sizes(size: int) -> None:
    with pytest.raises(BadParameters):
        huk_subkey_derive(HUK_SUBKEY_UNIQUE_TA, b"", size)


def test_the_default_is_no_secret() -> None:
    assert bytes(16) == DEVELOPMENT_HUK


@pytest.mark.parametrize(
    "data", [KEY, KEY.hex().encode(), b" " + KEY.hex().upper().encode() + b"\n"]
)
def test_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "huk"
    path.write_bytes(data)
    assert load_huk(str(path)) == KEY


@pytest.mark.parametrize("data", [b"", KEY[:15], KEY + b"x", b"z" * 32, KEY.hex().encode() * 2])
def test_files_that_are_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "huk"
    path.write_bytes(data)
    with pytest.raises(UserError, match="no hardware unique key"):
        load_huk(str(path))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        load_huk(str(tmp_path / "huk"))
