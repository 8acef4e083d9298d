# SPDX-License-Identifier: BSD-2-Clause
"""Images that were signed by another road than ours, in the byte order of OP-TEE's build."""

import hashlib
import hmac
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gentee.abi import shdr
from gentee.errors import TaImageError
from gentee.secure import images, keys
from gentee.secure.keys import AcceptedKeys
from gentee.secure.subkeys import next_uuid, sign_subkey
from gentee.secure.ta_encryption import EncryptionKeys, default_key
from tests import signing

UUID = uuid.UUID("8aaaf200-2450-11e4-abe2-0002a5d5c51b")

OPENSSL = {
    shdr.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256: [
        "rsa_padding_mode:pss",
        "rsa_pss_saltlen:32",
        "rsa_mgf1_md:sha256",
    ],
    shdr.TEE_ALG_RSASSA_PKCS1_V1_5_SHA256: ["rsa_padding_mode:pkcs1"],
}


def little(*values: int, size: int) -> bytes:
    return b"".join(value.to_bytes(size, "little") for value in values)


@pytest.mark.parametrize("algo", OPENSSL)
@pytest.mark.parametrize("bits", [2048, 4096])
def test_signed_by_openssl(algo: int, bits: int, tmp_path: Path) -> None:
    """scripts/sign_encrypt.py digest, openssl pkeyutl, scripts/sign_encrypt.py stitch."""
    openssl = shutil.which("openssl") or pytest.skip("there is no openssl")
    key, digest_file, signature_file = (tmp_path / name for name in ("key", "digest", "sig"))
    key.write_bytes(signing.private_pem(signing.key(bits)))
    payload = b"a TA, as far as signing goes"
    header = b"HSTO" + little(1, len(payload), algo, size=4) + little(32, bits // 8, size=2)
    bootstrap = UUID.bytes + little(5, size=4)
    digest = hashlib.sha256(header + bootstrap + payload).digest()
    digest_file.write_bytes(digest)
    options = [word for option in OPENSSL[algo] for word in ("-pkeyopt", option)]
    subprocess.run(
        [
            openssl, "pkeyutl", "-sign", "-inkey", key, "-pkeyopt", "digest:sha256", *options,
            "-in", digest_file, "-out", signature_file,
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    image = header + digest + signature_file.read_bytes() + bootstrap + payload
    accepted = AcceptedKeys([str(key)], strict=True)
    found = images.verify(image, accepted, UUID.bytes)
    assert (found.uuid, found.version, found.payload) == (UUID.bytes, 5, payload)
    # PKCS1 v1.5 has no salt: the same image in every byte.
    ours = images.sign(payload, signing.key(bits), UUID.bytes, 5, algo)
    assert len(ours) == len(image)
    if algo == shdr.TEE_ALG_RSASSA_PKCS1_V1_5_SHA256:
        assert ours == image
    with pytest.raises(TaImageError):
        images.verify(image[:-1] + b"!", accepted)


def test_the_fingerprint_is_openssls(tmp_path: Path) -> None:
    openssl = shutil.which("openssl") or pytest.skip("there is no openssl")
    path = signing.key_file(tmp_path)
    der = subprocess.run(
        [openssl, "pkey", "-pubin", "-in", path, "-outform", "DER"],
        check=True,
        capture_output=True,
    ).stdout
    assert keys.fingerprint(keys.load_public_key(path)) == hashlib.sha256(der).hexdigest()


# Facts of OP-TEE's own test TAs "subkey1" and "subkey2": their namespace and their names.
NAMESPACE = uuid.UUID("f04fa996-148a-453c-b037-1dcfbad120a6")
NEXT = {
    b"mid_level_subkey": uuid.UUID("1a5948c5-1aa0-518c-86f4-be6f6a057b16"),
    b"subkey1_ta": uuid.UUID("5c206987-16a3-59cc-ab0f-64b9cfc9e758"),
}


def test_the_uuids_that_follow_from_names() -> None:
    """As scripts/sign_encrypt.py subkey-uuid has them, from one to the next."""
    found = NAMESPACE.bytes
    for name, wanted in NEXT.items():
        found = next_uuid(found, name.ljust(64, b"\0"))
        assert found == wanted.bytes
        assert uuid.UUID(bytes=found).version == 5


def test_a_chain_by_another_road(tmp_path: Path) -> None:
    """Each header put together octet by octet, and signed by openssl."""
    openssl = shutil.which("openssl") or pytest.skip("there is no openssl")
    root, middle = signing.key(), signing.key(2048, 1)
    algo = shdr.TEE_ALG_RSASSA_PKCS1_V1_5_SHA256

    def sign(private: rsa.RSAPrivateKey, digest: bytes) -> bytes:
        key, digest_file, signature = (tmp_path / name for name in ("key", "digest", "sig"))
        key.write_bytes(signing.private_pem(private))
        digest_file.write_bytes(digest)
        subprocess.run(
            [
                openssl, "pkeyutl", "-sign", "-inkey", key, "-pkeyopt", "digest:sha256",
                "-pkeyopt", "rsa_padding_mode:pkcs1", "-in", digest_file, "-out", signature,
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip
        return signature.read_bytes()

    def header(img_type: int, size: int) -> bytes:
        return b"HSTO" + little(img_type, size, algo, size=4) + little(32, 256, size=2)

    modulus = middle.public_key().public_numbers().n.to_bytes(256, "big")
    image = NAMESPACE.bytes + little(64, 1, 4, algo, 2, size=4)
    image += little(0xD0000130, 60, 256, 0xD0000230, 316, 3, size=4) + modulus + b"\1\0\1"
    digest = hashlib.sha256(header(3, len(image)) + image).digest()
    name = b"mid_level_subkey"
    subkey = header(3, len(image)) + digest + sign(root, digest) + image + name.ljust(64, b"\0")
    # PKCS1 v1.5 has no salt: the same in every byte.
    ours = sign_subkey(
        root,
        middle.public_key(),
        NAMESPACE.bytes,
        version=1,
        max_depth=4,
        name_size=64,
        algo=algo,
    )
    assert ours + name.ljust(64, b"\0") == subkey

    payload = b"a TA, as far as signing goes"
    enc_key, iv = bytes(range(32)), bytes(12)
    sealed = AESGCM(enc_key).encrypt(iv, payload, None)
    behind = NEXT[name].bytes + little(5, size=4)
    behind += little(0x40000810, 1, size=4) + little(12, 16, size=2) + iv + sealed[-16:]
    digest = hashlib.sha256(header(2, len(payload)) + behind + payload).digest()
    ta = header(2, len(payload)) + digest + sign(middle, digest) + behind + sealed[:-16]
    (tmp_path / "class.key").write_bytes(enc_key)
    accepted = AcceptedKeys(
        [signing.key_file(tmp_path)],
        strict=True,
        encryption=EncryptionKeys(class_wide=str(tmp_path / "class.key")),
    )
    found = images.verify(subkey + ta, accepted, NEXT[name].bytes)
    assert (found.uuid, found.version, found.payload) == (NEXT[name].bytes, 5, payload)
    assert found.subkey_versions == ((NAMESPACE.bytes, 1),)


def test_optees_default_encryption_key() -> None:
    """What a board without a hardware unique key derives; OP-TEE's own build encrypts with it."""
    today = keys.development_keys()[0]
    modulus = today.key.public_numbers().n.to_bytes(512, "big")
    wanted = hmac.new(bytes(16), b"\4\0\0\0" + modulus, "sha256").hexdigest()
    assert wanted == "e3ff381eb7859bb961c52f9b78b693f725c261e75eb488ef5893d6de5d097e6a"
    assert default_key(today.key).hex() == wanted
