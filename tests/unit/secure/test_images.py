# SPDX-License-Identifier: BSD-2-Clause
"""Signed images and accepted keys: OP-TEE's checks and codes, each field of the header wrong."""

import hashlib
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from gentee.abi import gp, shdr
from gentee.abi.shdr import SIGNATURE_ALGORITHMS, Shdr, ShdrBootstrapTa
from gentee.errors import TaImageError, UserError
from gentee.secure import images, keys
from gentee.secure.keys import AcceptedKeys
from tests import signing
from tests.signing import UUID_BYTES, key

PAYLOAD = b"some payload\x00\xff" * 10
PSS = SIGNATURE_ALGORITHMS[shdr.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256]

HASH = slice(20, 52)
SIG = slice(52, 308)
BOOTSTRAP = 308
PAYLOAD_AT = 328


@pytest.fixture
def accepted(tmp_path: Path) -> AcceptedKeys:
    return signing.accepted(tmp_path)


def image(payload: bytes = PAYLOAD, version: int = 3) -> bytes:
    return images.sign(payload, key(), UUID_BYTES, version)


def made(
    *,
    img_type: int = shdr.SHDR_BOOTSTRAP_TA,
    middle: bytes | None = None,
    payload: bytes = PAYLOAD,
    private: rsa.RSAPrivateKey | None = None,
    **changed: int,
) -> bytes:
    """An image with fields as they are asked for, rightly signed."""
    private = private or key()
    fields = {
        "magic": shdr.SHDR_MAGIC,
        "img_size": len(payload),
        "algo": PSS.number,
        "hash_size": 32,
        "sig_size": private.key_size // 8,
        **changed,
    }
    fixed = struct.pack(
        "<IIIIHH",
        fields["magic"],
        img_type,
        fields["img_size"],
        fields["algo"],
        fields["hash_size"],
        fields["sig_size"],
    )
    if middle is None:
        middle = ShdrBootstrapTa(UUID_BYTES, 3).build()
    digest = hashlib.sha256(fixed + middle + payload).digest()
    signature = keys.sign_digest(private, PSS, digest)
    hashed = digest.ljust(fields["hash_size"], b"\0")[: fields["hash_size"]]
    signed = signature.ljust(fields["sig_size"], b"\0")[: fields["sig_size"]]
    return fixed + hashed + signed + middle + payload


def refused(data: bytes, accepted: AcceptedKeys, uuid: bytes | None = None) -> TaImageError:
    with pytest.raises(TaImageError) as caught:
        images.verify(data, accepted, uuid)
    return caught.value


# What is right


@pytest.mark.parametrize("algo", SIGNATURE_ALGORITHMS)
@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_signed_and_verified(algo: int, bits: int, tmp_path: Path) -> None:
    private = key(bits)
    accepted = AcceptedKeys([signing.key_file(tmp_path, private)], strict=True)
    data = images.sign(PAYLOAD, private, UUID_BYTES, 9, algo)
    found = images.verify(data, accepted, UUID_BYTES)
    assert (found.uuid, found.version, found.payload) == (UUID_BYTES, 9, PAYLOAD)
    assert (found.img_type, found.shdr.algo) == (shdr.SHDR_BOOTSTRAP_TA, algo)
    assert found.signer.bits == bits
    assert not found.signer.development
    assert found.signer.fingerprint == keys.fingerprint(private.public_key())


def test_what_the_helper_makes_is_right(accepted: AcceptedKeys) -> None:
    assert images.verify(made(), accepted).payload == PAYLOAD
    assert images.verify(made(payload=b"", img_size=0), accepted).payload == b""


def test_the_legacy_form(accepted: AcceptedKeys) -> None:
    found = images.verify(made(img_type=shdr.SHDR_TA, middle=b""), accepted, UUID_BYTES)
    assert (found.uuid, found.version, found.payload) == (None, 0, PAYLOAD)
    assert images.form(found.img_type) == "legacy"


# What is wrong, each field of the header. The code is SECURITY, as OP-TEE's, unless it is said.


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (lambda: made(magic=0x4F545349), "magic"),
        (lambda: made(img_type=4), "img_type 4 is unknown"),
        (lambda: made(img_type=0xFFFF_FFFF), "img_type"),
        (lambda: made(img_type=shdr.SHDR_TA), "img_size"),  # its bootstrap header is payload
        (lambda: made(img_size=len(PAYLOAD) - 1), "img_size"),
        (lambda: made(img_size=len(PAYLOAD) + 1), "img_size"),
        (lambda: made(img_size=0), "img_size"),
        (lambda: made(img_size=0xFFFF_FFFF), "img_size"),
        (lambda: made(algo=0), "algo"),
        (lambda: made(algo=0x70002830), "algo"),
        (lambda: made(algo=shdr.TEE_ALG_RSASSA_PKCS1_V1_5_SHA256), "signed by no accepted key"),
        (lambda: made(algo=shdr.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA384), "hash_size"),
        (lambda: made(hash_size=20), "hash_size"),
        (lambda: made(hash_size=64), "hash_size"),
        (lambda: made(hash_size=0xFFFF), "hash"),
        (lambda: made(sig_size=255), "sig_size"),
        (lambda: made(sig_size=257), "sig_size"),
        (lambda: made(sig_size=0), "sig_size"),
        (lambda: made(sig_size=0xFFFF), "sig_size"),
        (lambda: made(middle=b""), "img_size"),
        (lambda: made(middle=bytes(16)), "img_size"),
        (lambda: made(middle=b"", payload=b""), "shdr_bootstrap_ta"),
        (lambda: made() + b"\0", "img_size"),
        (lambda: b"", "struct shdr"),
        (lambda: b"HSTO", "struct shdr"),
        (lambda: made(private=key(2048, 1)), "signed by no accepted key"),
        (lambda: made(private=key(3072)), "sig_size 384 is not the 256"),
    ],
    ids=range(27),
)
def test_a_field_that_is_wrong(
    data: Callable[[], bytes], complaint: str, accepted: AcceptedKeys
) -> None:
    error = refused(data(), accepted)
    assert complaint in str(error)
    assert error.code == gp.TEE_ERROR_SECURITY
    assert "\n" not in str(error)


def test_cut_at_every_length(accepted: AcceptedKeys) -> None:
    data = image()
    for size in range(len(data)):
        assert refused(data[:size], accepted).code == gp.TEE_ERROR_SECURITY


def test_every_byte_counts(accepted: AcceptedKeys) -> None:
    data = bytearray(image())
    for position in range(len(data)):
        for bit in (0x01, 0x80):
            data[position] ^= bit
            assert refused(bytes(data), accepted).code == gp.TEE_ERROR_SECURITY
            data[position] ^= bit
    assert images.verify(bytes(data), accepted).payload == PAYLOAD


def test_a_digest_that_was_made_anew(accepted: AcceptedKeys) -> None:
    """Whoever changes the payload can make the digest, not the signature."""
    data = bytearray(image())
    data[-1] ^= 1
    assert "digest" in str(refused(bytes(data), accepted))
    data[HASH] = hashlib.sha256(data[:20] + data[BOOTSTRAP:]).digest()
    assert "signed by no accepted key" in str(refused(bytes(data), accepted))


def test_another_uuid_than_asked_for(accepted: AcceptedKeys) -> None:
    error = refused(image(), accepted, bytes(16))
    assert "UUID" in str(error)
    assert error.code == gp.TEE_ERROR_SECURITY


def test_the_salt_has_the_digests_length(accepted: AcceptedKeys) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, utils

    data = bytearray(image())
    for salt in (0, 20, 31, 33, 190):
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
        data[SIG] = key().sign(bytes(data[HASH]), pss, utils.Prehashed(hashes.SHA256()))
        assert "signed by no accepted key" in str(refused(bytes(data), accepted))
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    data[SIG] = key().sign(bytes(data[HASH]), pss, utils.Prehashed(hashes.SHA256()))
    assert images.verify(bytes(data), accepted).version == 3


def test_an_image_that_is_too_large(accepted: AcceptedKeys) -> None:
    error = refused(bytes(images.MAX_IMAGE + 1), accepted)
    assert error.code == gp.TEE_ERROR_OUT_OF_MEMORY


def test_nothing_is_looked_at_before_the_signature(
    accepted: AcceptedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(image())
    data[60] ^= 1
    looked: list[str] = []
    monkeypatch.setattr(ShdrBootstrapTa, "parse", lambda *_: looked.append("bootstrap"))
    monkeypatch.setattr(hashlib, "new", lambda *_: looked.append("digest"))
    refused(bytes(data), accepted)
    assert looked == []


# Keys


def test_the_development_keys() -> None:
    today, before = keys.development_keys()
    assert (today.bits, before.bits) == (4096, 2048)
    assert {each.key.public_numbers().e for each in (today, before)} == {65537}
    # The fingerprints of optee_os keys/default.pem, and of keys/default_ta.pem up to 4.6.
    assert today.fingerprint == "cac7bcfaf8674a57e5eaa8ef1a7c9b67af1fd5562a06440d88d5e3c632e88c48"
    assert before.fingerprint == "3a21983aeeda3a503f4d3de2ff6fedbaa8b4389ab6ef7261cbdb1de85434fcc3"
    assert [each.development for each in AcceptedKeys().all()] == [True, True]
    assert AcceptedKeys(strict=True).all() == []


def test_which_keys_are_accepted(tmp_path: Path) -> None:
    path = signing.key_file(tmp_path)
    both = AcceptedKeys([path])
    assert [(each.name, each.development) for each in both.all()] == [
        (path, False),
        (keys.DEVELOPMENT, True),
        (keys.DEVELOPMENT_2048, True),
    ]
    assert images.verify(image(), both).signer.name == path
    assert "signed by no accepted key" in str(refused(image(), AcceptedKeys()))
    large = images.sign(PAYLOAD, key(3072), UUID_BYTES, 1)
    assert "sig_size 384 is not the 256 or 512" in str(refused(large, AcceptedKeys()))
    assert "no accepted key" in str(refused(image(), AcceptedKeys(strict=True)))


def test_two_keys_of_one_size(tmp_path: Path) -> None:
    paths = []
    for number in (1, 0):
        paths.append(str(tmp_path / f"{number}.pem"))
        Path(paths[-1]).write_bytes(signing.public_pem(key(2048, number)))
    assert images.verify(image(), AcceptedKeys(paths, strict=True)).signer.name == paths[1]


def test_a_private_key_counts_as_its_public_half(tmp_path: Path) -> None:
    path = tmp_path / "private.pem"
    path.write_bytes(signing.private_pem(key()))
    assert images.verify(image(), AcceptedKeys([str(path)], strict=True)).version == 3


def _pem(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, passphrase: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (lambda: b"", "no key"),
        (lambda: b"hello", "no key"),
        (lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no key"),
        (lambda: b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no key"),
        (lambda: b"\xff" * 100, "no key"),
        (lambda: b"x" * (1 << 17), "too large"),
        (lambda: _pem(ec.generate_private_key(ec.SECP256R1())), "not an RSA key"),
        (lambda: _pem(rsa.generate_private_key(65537, 1024)), "1024 bits"),
        (lambda: _pem(key(), b"secret"), "passphrase"),
    ],
    ids=range(9),
)
def test_a_file_that_is_no_key(
    content: Callable[[], bytes], complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content())
    with pytest.raises(UserError, match=complaint) as caught:
        keys.load_public_key(str(path))
    assert str(path) in caught.value.message
    if b"PUBLIC" not in content():
        with pytest.raises(UserError, match=complaint):
            keys.load_private_key(str(path))
    # A TEE with such a key takes no image at all, rather than fewer keys than it was told.
    assert complaint in str(refused(image(), AcceptedKeys([str(path)])))


def test_files_are_looked_at_early(tmp_path: Path) -> None:
    AcceptedKeys([signing.key_file(tmp_path)]).check_files()
    (tmp_path / "no.pem").write_text("hello")
    for name, complaint in (("no.pem", "not a PEM file"), ("missing", "No such file")):
        with pytest.raises(UserError, match=complaint):
            AcceptedKeys([str(tmp_path / name)]).check_files()


def test_a_public_key_cannot_sign(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot sign"):
        keys.load_private_key(signing.key_file(tmp_path))


def test_a_key_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new.pem"
    before = os.umask(0)
    try:
        public = keys.generate_key(str(path), 2048)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.load_private_key(str(path)).public_key() == public
    content = path.read_bytes()
    with pytest.raises(UserError, match="there already"):
        keys.generate_key(str(path), 2048)
    assert path.read_bytes() == content
    with pytest.raises(UserError, match="No such file"):
        keys.generate_key(str(tmp_path / "missing" / "new.pem"), 2048)


def test_forms_have_names() -> None:
    names = [images.form(number) for number in range(5)]
    assert names == ["legacy", "bootstrap", "encrypted", "subkey", "4"]
    assert Shdr.parse(image()).img_type == 1
