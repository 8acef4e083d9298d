# SPDX-License-Identifier: BSD-2-Clause
"""Encrypted images and chains of subkeys: each field wrong, in OP-TEE's order, with its codes."""

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from gentee.abi import gp, shdr
from gentee.abi.shdr import SIGNATURE_ALGORITHMS, Shdr, ShdrBootstrapTa, ShdrEncryptedTa
from gentee.errors import TaImageError, UserError
from gentee.secure import images, keys, subkeys, ta_encryption
from gentee.secure.keys import AcceptedKeys
from gentee.secure.ta_encryption import EncryptionKeys
from tests import signing
from tests.signing import UUID_BYTES, chain, key

PAYLOAD = b"some payload\x00\xff" * 10
PSS = SIGNATURE_ALGORITHMS[shdr.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256]
KEY = bytes(range(32))
NAME = b"a name".ljust(16, b"\0")


@pytest.fixture
def accepted(tmp_path: Path) -> AcceptedKeys:
    """The run's key, and a key to decrypt with."""
    path = tmp_path / "enc.key"
    path.write_bytes(KEY)
    encryption = EncryptionKeys(str(path))
    return AcceptedKeys([signing.key_file(tmp_path)], strict=True, encryption=encryption)


def refused(
    data: bytes,
    accepted: AcceptedKeys,
    uuid: bytes | None = None,
    code: int = gp.TEE_ERROR_SECURITY,
) -> str:
    with pytest.raises(TaImageError) as caught:
        images.verify(data, accepted, uuid)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Encrypted


def sealed(
    *,
    private: rsa.RSAPrivateKey | None = None,
    enc_key: bytes = KEY,
    more: bytes = b"",
    img_size: int = len(PAYLOAD),
    **changed: object,
) -> bytes:
    """An encrypted image with fields as they are asked for, rightly signed."""
    private = private or key()
    right, content = ta_encryption.encrypt(PAYLOAD, enc_key)
    fields = {"enc_algo": right.enc_algo, "flags": 0, "iv": right.iv, "tag": right.tag, **changed}
    header = ShdrEncryptedTa(**fields).build()  # type: ignore[arg-type]
    behind = ShdrBootstrapTa(UUID_BYTES, 3).build() + header
    size = private.key_size // 8
    blank = Shdr(shdr.SHDR_ENCRYPTED_TA, img_size, PSS.number, bytes(32), bytes(size))
    digest = hashlib.sha256(blank.fixed + behind + PAYLOAD).digest()
    signature = keys.sign_digest(private, PSS, digest)
    made = Shdr(shdr.SHDR_ENCRYPTED_TA, img_size, PSS.number, digest, signature)
    return made.build() + behind + content + more


ENCRYPTED_AT = 20 + 32 + 256 + 20  # struct shdr_encrypted_ta
CIPHER_AT = ENCRYPTED_AT + 12 + 12 + 16


@pytest.mark.parametrize("algo", SIGNATURE_ALGORITHMS)
def test_encrypted(algo: int, accepted: AcceptedKeys) -> None:
    data = images.sign(PAYLOAD, key(), UUID_BYTES, 9, algo, enc_key=KEY)
    assert PAYLOAD not in data
    found = images.verify(data, accepted, UUID_BYTES)
    assert (found.uuid, found.version, found.payload) == (UUID_BYTES, 9, PAYLOAD)
    assert images.form(found.img_type) == "encrypted"
    # A fresh initialization vector each time.
    assert data != images.sign(PAYLOAD, key(), UUID_BYTES, 9, algo, enc_key=KEY)


def test_optees_default_key(tmp_path: Path) -> None:
    """A key that follows from the root key; every other root key has another."""
    enc_key = ta_encryption.default_key(key().public_key())
    for class_wide in (False, True):
        data = images.sign(PAYLOAD, key(), UUID_BYTES, 1, enc_key=enc_key, class_wide=class_wide)
        assert images.verify(data, signing.accepted(tmp_path)).payload == PAYLOAD
    own = EncryptionKeys(huk=b"a board's own key")
    accepted = AcceptedKeys([signing.key_file(tmp_path)], strict=True, encryption=own)
    assert "cannot be decrypted" in refused(data, accepted)
    other = ta_encryption.default_key(key(2048, 1).public_key())
    data = images.sign(PAYLOAD, key(), UUID_BYTES, 1, enc_key=other)
    assert "cannot be decrypted" in refused(data, signing.accepted(tmp_path))


def test_a_key_of_the_device_and_one_of_its_class(tmp_path: Path) -> None:
    device, class_wide = tmp_path / "device", tmp_path / "class"
    device.write_text(KEY.hex() + "\n")
    class_wide.write_bytes(bytes(32))
    both = EncryptionKeys(str(device), str(class_wide))
    accepted = AcceptedKeys([signing.key_file(tmp_path)], strict=True, encryption=both)
    accepted.check_files()
    for enc_key, is_class_wide in ((KEY, False), (bytes(32), True)):
        data = images.sign(PAYLOAD, key(), UUID_BYTES, 1, enc_key=enc_key, class_wide=is_class_wide)
        assert images.verify(data, accepted).payload == PAYLOAD
        data = images.sign(
            PAYLOAD, key(), UUID_BYTES, 1, enc_key=enc_key, class_wide=not is_class_wide
        )
        assert "cannot be decrypted" in refused(data, accepted)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no key for AES-256"),
        (b"00" * 31, "no key"),
        (b"zz" * 32, "no key"),
        (bytes(33), "no key"),
        (b"\xff" * 64, "no key"),
        (b"x" * 5000, "no key"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_key(content: bytes | None, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "enc.key"
    if content is not None:
        path.write_bytes(content)
    encryption = EncryptionKeys(str(path))
    with pytest.raises(UserError, match=complaint):
        encryption.check_files()
    accepted = AcceptedKeys([signing.key_file(tmp_path)], strict=True, encryption=encryption)
    with pytest.raises(UserError, match=complaint):
        accepted.check_files()
    assert complaint in refused(sealed(), accepted)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (lambda: sealed(enc_key=bytes(32)), "cannot be decrypted"),
        (lambda: sealed(flags=2), "flags 0x2"),
        (lambda: sealed(flags=0xFFFF_FFFF), "flags"),
        (lambda: sealed(iv=b""), "iv_size 0"),
        (lambda: sealed(iv=bytes(11)), "iv_size 11"),
        (lambda: sealed(iv=bytes(13)), "iv_size 13"),
        (lambda: sealed(iv=bytes(12)), "cannot be decrypted"),
        (lambda: sealed(tag=b""), "tag_size 0"),
        (lambda: sealed(tag=bytes(15)), "tag_size 15"),
        (lambda: sealed(tag=bytes(16)), "cannot be decrypted"),
        (lambda: sealed(more=b"\0"), "img_size"),
        (lambda: sealed(img_size=len(PAYLOAD) - 1), "img_size"),
        (lambda: sealed(img_size=0), "img_size"),
        (lambda: sealed(img_size=0xFFFF_FFFF), "img_size"),
        (lambda: sealed(private=key(2048, 1)), "signed by no accepted key"),
    ],
    ids=range(15),
)
def test_an_encrypted_image_that_is_wrong(
    data: Callable[[], bytes], complaint: str, accepted: AcceptedKeys
) -> None:
    assert images.verify(sealed(), accepted).payload == PAYLOAD
    assert complaint in refused(data(), accepted)


def test_another_cipher(accepted: AcceptedKeys) -> None:
    """crypto_authenc_alloc_ctx() has a code of its own."""
    for enc_algo in (0, 0x40000710, 0x40000811):
        text = refused(sealed(enc_algo=enc_algo), accepted, code=gp.TEE_ERROR_NOT_IMPLEMENTED)
        assert f"0x{enc_algo:08x}" in text


def test_encrypted_and_cut_or_damaged(accepted: AcceptedKeys) -> None:
    data = bytearray(sealed())
    for size in range(len(data)):
        refused(bytes(data[:size]), accepted)
    for position in range(len(data)):
        data[position] ^= 1
        with pytest.raises(TaImageError):
            images.verify(bytes(data), accepted)
        data[position] ^= 1
    assert images.verify(bytes(data), accepted).payload == PAYLOAD


def test_the_digest_is_of_the_plain_text(accepted: AcceptedKeys) -> None:
    """Whoever has the key for AES can make another image decrypt, not verify."""
    data = sealed()
    header, content = ta_encryption.encrypt(b"!" * len(PAYLOAD), KEY)
    data = data[:ENCRYPTED_AT] + header.build() + content
    assert "digest" in refused(data, accepted)


# Subkeys


def link(
    uuid: bytes = UUID_BYTES, private: int = 1, name: bytes = b"", **changed: int
) -> tuple[bytes, rsa.RSAPrivateKey, bytes, dict[str, int]]:
    return uuid, key(2048, private), name, changed


def ta(uuid: bytes = UUID_BYTES, private: int = 1, version: int = 3) -> bytes:
    return images.sign(PAYLOAD, key(2048, private), uuid, version)


def test_an_identity_subkey(accepted: AcceptedKeys) -> None:
    data = chain(link(version=4, max_depth=0)) + ta()
    found = images.verify(data, accepted, UUID_BYTES)
    assert (found.uuid, found.version, found.payload) == (UUID_BYTES, 3, PAYLOAD)
    assert found.subkey_versions == ((UUID_BYTES, 4),)
    assert found.signer.fingerprint == keys.fingerprint(key().public_key())
    assert images.verify(data, accepted).uuid == UUID_BYTES


def test_a_name_in_a_namespace(accepted: AcceptedKeys) -> None:
    uuid = subkeys.next_uuid(UUID_BYTES, NAME)
    data = chain(link(name=NAME)) + ta(uuid)
    assert images.verify(data, accepted, uuid).payload == PAYLOAD
    assert images.verify(data, accepted).uuid == uuid
    assert "UUID" in refused(data, accepted, UUID_BYTES)
    assert "not the subkey's" in refused(chain(link(name=NAME)) + ta(), accepted)
    assert "not the subkey's" in refused(chain(link(name=NAME)) + ta(), accepted, UUID_BYTES)


def test_a_long_chain(accepted: AcceptedKeys) -> None:
    links = []
    uuid, uuids = UUID_BYTES, []
    for depth in range(5):
        name = f"level {depth}".encode().ljust(20, b"\0")
        links.append(link(uuid, 1 + depth % 2, name, max_depth=9 - depth, version=depth))
        uuids.append(uuid)
        uuid = subkeys.next_uuid(uuid, name)
    data = chain(*links) + ta(uuid, 1)
    found = images.verify(data, accepted, uuid)
    assert found.subkey_versions == tuple(zip(uuids, range(5), strict=True))
    assert [subkey.name for subkey in found.subkeys] == [b"level %d" % n for n in range(5)]
    # The header of a subkey may not be left out, nor another put first.
    assert "accepted key" in refused(data[len(chain(links[0])) :], accepted)


def test_no_more_than_any_needs(accepted: AcceptedKeys) -> None:
    most = subkeys.MAX_SUBKEYS
    for count in (most, most + 1):
        data = chain(*(link(max_depth=99 - depth) for depth in range(count))) + ta()
        if count == most:
            assert len(images.verify(data, accepted).subkeys) == most
        else:
            assert f"more than {most} subkeys" in refused(data, accepted)


def test_an_encrypted_image_behind_a_subkey(tmp_path: Path) -> None:
    """The default key follows from the root key, whoever signed the TA."""
    enc_key = ta_encryption.default_key(key().public_key())
    inside = images.sign(PAYLOAD, key(2048, 1), UUID_BYTES, 3, enc_key=enc_key)
    data = chain(link()) + inside
    assert images.verify(data, signing.accepted(tmp_path), UUID_BYTES).payload == PAYLOAD


def test_a_legacy_image_behind_a_subkey(accepted: AcceptedKeys) -> None:
    """It has a UUID then: the one that the subkey says."""
    private = key(2048, 1)
    blank = Shdr(shdr.SHDR_TA, len(PAYLOAD), PSS.number, bytes(32), bytes(256))
    digest = hashlib.sha256(blank.fixed + PAYLOAD).digest()
    signature = keys.sign_digest(private, PSS, digest)
    legacy = Shdr(shdr.SHDR_TA, len(PAYLOAD), PSS.number, digest, signature).build() + PAYLOAD
    found = images.verify(chain(link()) + legacy, accepted)
    assert (found.uuid, found.version, found.payload) == (UUID_BYTES, 0, PAYLOAD)
    assert "UUID" in refused(chain(link()) + legacy, accepted, bytes(16))


def made(
    image: bytes | None = None,
    *,
    name: bytes = b"",
    algo: int = PSS.number,
    img_size: int | None = None,
    root: rsa.RSAPrivateKey | None = None,
    **changed: int,
) -> bytes:
    """A subkey with fields as they are asked for, rightly signed, and a TA."""
    if image is None:
        image = subkey_image(None, None, **changed)
    root = root or key()
    size = len(image) if img_size is None else img_size
    sig_size = root.key_size // 8
    blank = Shdr(shdr.SHDR_SUBKEY, size, algo, bytes(32), bytes(sig_size))
    digest = hashlib.sha256(blank.fixed + image).digest()
    signature = keys.sign_digest(root, PSS, digest)
    return Shdr(shdr.SHDR_SUBKEY, size, algo, digest, signature).build() + image + name + ta()


def subkey_image(
    attrs: dict[int, bytes] | None = None, count: int | None = None, **changed: int
) -> bytes:
    """struct shdr_subkey, its attributes and their values."""
    numbers = key(2048, 1).public_key().public_numbers()
    if attrs is None:
        attrs = {
            shdr.TEE_ATTR_RSA_MODULUS: numbers.n.to_bytes(256, "big"),
            shdr.TEE_ATTR_RSA_PUBLIC_EXPONENT: b"\x01\x00\x01",
        }
    fields = {"name_size": 0, "version": 1, "max_depth": 1, "algo": PSS.number, **changed}
    count = len(attrs) if count is None else count
    offs = 36 + 12 * len(attrs)
    table = b""
    for attr, value in attrs.items():
        table += struct.pack("<III", attr, offs, len(value))
        offs += len(value)
    fixed = UUID_BYTES + struct.pack("<IIIII", *fields.values(), count)
    return fixed + table + b"".join(attrs.values())


def attrs(modulus: bytes | None = None, exponent: bytes | None = None) -> bytes:
    values = {shdr.TEE_ATTR_RSA_MODULUS: modulus, shdr.TEE_ATTR_RSA_PUBLIC_EXPONENT: exponent}
    return subkey_image({attr: value for attr, value in values.items() if value is not None})


N = key(2048, 1).public_key().public_numbers().n.to_bytes(256, "big")
E = b"\x01\x00\x01"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (lambda: made(img_size=35), "too small for a subkey"),
        (lambda: made(img_size=0), "too small"),
        (lambda: made(img_size=0xFFFF_FFFF), "img_size"),
        (lambda: made(subkey_image() + b"x", img_size=len(subkey_image())), "digest of a subkey"),
        (lambda: made(algo=shdr.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA384), "hash_size"),
        (lambda: made(root=key(2048, 5)), "signed by no accepted key"),
        (lambda: made(subkey_image(count=17)), "more than 16"),
        (lambda: made(subkey_image(count=0xFFFF_FFFF)), "more than 16"),
        (lambda: made(subkey_image(count=0)), "without attribute 0xd0000130"),
        (lambda: made(subkey_image({}, count=2)), "attributes"),
        (lambda: made(attrs(N, None)), "without attribute 0xd0000230"),
        (lambda: made(attrs(None, E)), "without attribute 0xd0000130"),
        (lambda: made(attrs(b"", E)), "cannot be used: 0 bits"),
        (lambda: made(attrs(N[:128], E)), "1024 bits"),
        (lambda: made(attrs(b"\1" + bytes(600), E)), "more than 4096 bits"),
        (lambda: made(attrs(N, b"")), "cannot be used"),
        (lambda: made(attrs(N, b"\x02")), "cannot be used"),
        (lambda: made(attrs(N, b"\x01")), "cannot be used"),
        (lambda: made(attrs(N, bytes(600))), "more than 4096 bits"),
        (lambda: made(max_depth=0xFFFF_FFFF), "max_depth 4294967295 is not less"),
        (lambda: made(name_size=1), "are left"),
        (lambda: made(name_size=0xFFFF_FFFF), "name_size"),
        (lambda: made(name=b"x"), "are left"),
        (lambda: made(subkey_image(algo=0)), "algo 0x00000000 is no RSA"),
        (lambda: made(subkey_image(algo=0x70003041)), "is no RSA"),
        (lambda: chain(link()) + ta(private=2), "not signed by the subkey"),
        (lambda: chain(link()) + images.sign(PAYLOAD, key(), UUID_BYTES, 1), "not signed by the"),
        (lambda: chain(link()) + images.sign(PAYLOAD, key(3072), UUID_BYTES, 1), "sig_size 384"),
        (lambda: chain(link()), "struct shdr"),
        (lambda: chain(link()) + b"HSTO" + bytes(400), "no RSA"),
        (lambda: chain(link()) + ta(bytes(16)), "not the subkey's"),
        (lambda: chain(link(max_depth=1), link(max_depth=1)) + ta(), "is not less than the 1"),
        (lambda: chain(link(max_depth=0), link(max_depth=0)) + ta(), "is not less than the 0"),
        (lambda: chain(link(max_depth=1), link(bytes(16), max_depth=0)) + ta(), "a subkey's UUID"),
        (lambda: chain(link()) + ta() + b"\0", "img_size"),
        (lambda: chain(link()) + ta()[:-1], "img_size"),
    ],
    ids=range(36),
)
def test_a_subkey_that_is_wrong(
    data: Callable[[], bytes], complaint: str, accepted: AcceptedKeys
) -> None:
    assert images.verify(made(), accepted).payload == PAYLOAD
    with pytest.raises(TaImageError, match=complaint) as caught:
        images.verify(data(), accepted)
    assert caught.value.code == gp.TEE_ERROR_SECURITY


def test_a_chain_cut_or_damaged(accepted: AcceptedKeys) -> None:
    uuid = subkeys.next_uuid(UUID_BYTES, NAME)
    data = bytearray(chain(link(name=NAME)) + ta(uuid))
    for size in range(len(data)):
        refused(bytes(data[:size]), accepted)
    name_at = 20 + 32 + 256 + len(subkey_image())
    behind_the_nul = range(name_at + NAME.index(b"\0") + 1, name_at + len(NAME))
    for position in range(len(data)):
        data[position] ^= 1
        if position in behind_the_nul:  # calc_next_uuid() does not look there
            assert images.verify(bytes(data), accepted).uuid == uuid
        else:
            refused(bytes(data), accepted)
        data[position] ^= 1


def test_nothing_of_a_subkey_is_looked_at_before_its_signature(
    accepted: AcceptedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(chain(link()) + ta())
    data[60] ^= 1
    looked: list[str] = []
    monkeypatch.setattr(images, "read_subkey", lambda *_: looked.append("subkey"))
    monkeypatch.setattr(hashlib, "new", lambda *_: looked.append("digest"))
    refused(bytes(data), accepted)
    assert looked == []


def test_names_end_at_their_nul() -> None:
    assert subkeys.next_uuid(UUID_BYTES, b"a\0") == subkeys.next_uuid(UUID_BYTES, b"a\0b")
    assert subkeys.next_uuid(UUID_BYTES, b"a") == subkeys.next_uuid(UUID_BYTES, b"a\0\0")
    assert subkeys.next_uuid(UUID_BYTES, b"") == UUID_BYTES
    empty = subkeys.next_uuid(UUID_BYTES, bytes(8))  # room for a name, and none in it
    assert empty != UUID_BYTES
    assert (empty[6] >> 4, empty[8] >> 6) == (5, 2)


def test_a_file_to_sign_with() -> None:
    one = chain(link(max_depth=1))
    (found,) = subkeys.unverified_chain(one)
    assert (found.uuid, found.name_size, found.max_depth) == (UUID_BYTES, 0, 1)
    named = chain(link(name=NAME))[: -len(NAME)]
    (found,) = subkeys.unverified_chain(named)
    assert found.name_size == len(NAME)
    two = chain(link(max_depth=1), link(max_depth=0, private=2))
    assert [each.max_depth for each in subkeys.unverified_chain(two)] == [1, 0]
    for wrong in (b"", b"HSTO", one[:-1], one + b"\0", ta(), one + ta()):
        with pytest.raises((TaImageError, shdr.ShdrError)):
            subkeys.unverified_chain(wrong)
    huge = made(subkey_image(name_size=0xFFFF_FFFF))[: -len(ta())]
    with pytest.raises(shdr.ShdrError, match="name_size"):
        subkeys.unverified_chain(huge)
