# SPDX-License-Identifier: BSD-2-Clause
"""Keys and seals: what is sealed opens with its key, at its place, unchanged, and not otherwise."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.errors import CorruptObject, StorageNotAvailable
from gentee.secure.storage.seal import OVERHEAD, SECRET_FILE, SECRET_SIZE, Keys, load_secret

SECRET = bytes(range(32))
TA, OTHER = bytes(16), bytes(range(16))
SEAL = b"s" * 16


@given(data=st.binary(max_size=100), place=st.binary(max_size=20))
def test_seals(data: bytes, place: bytes) -> None:
    sealer = Keys(SECRET).sealer(TA, SEAL)
    sealed = bytes(sealer.seal(place, data))
    assert len(sealed) == len(data) + OVERHEAD
    assert sealer.open(place, sealed) == data
    out = bytearray(len(data))
    sealer.open_into(place, sealed, memoryview(out))
    assert out == data
    assert sealer.seal(place, data) != sealed  # a nonce is not used twice


@given(st.data())
def test_any_damage_is_found(given_: st.DataObject) -> None:
    sealer = Keys(SECRET).sealer(TA, SEAL)
    sealed = bytearray(sealer.seal(b"place", b"some data"))
    sealed[given_.draw(st.integers(0, len(sealed) - 1))] ^= 1 << given_.draw(st.integers(0, 7))
    with pytest.raises(CorruptObject):
        sealer.open(b"place", bytes(sealed))
    out = bytearray(9)
    with pytest.raises(CorruptObject):
        sealer.open_into(b"place", bytes(sealed), memoryview(out))
    assert out == bytes(9)


@pytest.mark.parametrize("size", [0, 11, 12, 27, 36])
def test_cut(size: int) -> None:
    sealer = Keys(SECRET).sealer(TA, SEAL)
    sealed = bytes(sealer.seal(b"place", b"some data"))[:size]
    with pytest.raises(CorruptObject):
        sealer.open(b"place", sealed)
    with pytest.raises(CorruptObject):
        sealer.open_into(b"place", sealed, memoryview(bytearray(9)))


def test_a_seal_is_of_its_place_and_key() -> None:
    keys = Keys(SECRET)
    sealed = bytes(keys.sealer(TA, SEAL).seal(b"place", b"some data"))
    for sealer, place in (
        (keys.sealer(TA, SEAL), b"other"),
        (keys.sealer(OTHER, SEAL), b"place"),
        (keys.sealer(TA, b"t" * 16), b"place"),
        (Keys(bytes(32)).sealer(TA, SEAL), b"place"),
    ):
        with pytest.raises(CorruptObject):
            sealer.open(place, sealed)


def test_lookups_are_of_area_ta_and_name() -> None:
    keys = Keys(SECRET)
    found = {
        keys.lookup(0, TA, b"name"),
        keys.lookup(1, TA, b"name"),
        keys.lookup(0, OTHER, b"name"),
        keys.lookup(0, TA, b"other"),
        Keys(bytes(32)).lookup(0, TA, b"name"),
    }
    assert len(found) == 5
    assert keys.lookup(0, TA, b"name") in found
    assert keys.check == Keys(SECRET).check != Keys(bytes(32)).check


def test_keys_stay_what_they_are() -> None:
    """What was stored with them must be readable: RFC 5869 section 2.3, one block."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

    def expand(key: bytes, info: bytes) -> bytes:
        return HKDFExpand(SHA256(), 32, info).derive(key)

    of_ta = expand(SECRET, b"gentee storage TA" + TA)
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = bytes(12)
    sealed = nonce + AESGCM(expand(of_ta, b"object" + SEAL)).encrypt(nonce, b"data", b"place")
    assert Keys(SECRET).sealer(TA, SEAL).open(b"place", sealed) == b"data"
    assert Keys(SECRET).check == expand(SECRET, b"gentee storage check")


# The device secret


def test_the_secret_is_made_once(tmp_path: Path) -> None:
    folder = str(tmp_path)
    with pytest.raises(StorageNotAvailable, match="missing"):
        load_secret(folder, may_make=False)
    assert not list(tmp_path.iterdir())
    secret = load_secret(folder, may_make=True)
    assert len(secret) == SECRET_SIZE
    path = tmp_path / SECRET_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == secret
    assert load_secret(folder, may_make=True) == load_secret(folder, may_make=False) == secret
    assert [file.name for file in tmp_path.iterdir()] == [SECRET_FILE]


def test_one_that_was_not_finished_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / f"{SECRET_FILE}.new").write_bytes(b"half")
    assert len(load_secret(str(tmp_path), may_make=True)) == SECRET_SIZE


def test_without_a_folder_each_is_another() -> None:
    assert load_secret(None, may_make=False) != load_secret(None, may_make=False)


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(33)])
def test_no_secret(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / SECRET_FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StorageNotAvailable, match="32 bytes"):
        load_secret(str(tmp_path), may_make=True)
    assert path.read_bytes() == content


def test_a_secret_that_others_may_read(tmp_path: Path) -> None:
    path = tmp_path / SECRET_FILE
    path.write_bytes(SECRET)
    path.chmod(0o640)
    with pytest.raises(StorageNotAvailable, match="others may read"):
        load_secret(str(tmp_path), may_make=True)


def test_a_secret_somewhere_else(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(SECRET)
    other.chmod(0o600)
    (tmp_path / SECRET_FILE).symlink_to(other)
    with pytest.raises(StorageNotAvailable):
        load_secret(str(tmp_path), may_make=True)
