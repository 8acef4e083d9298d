# SPDX-License-Identifier: BSD-2-Clause
"""Images that were signed by another road than ours, in the byte order of OP-TEE's build."""

import hashlib
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from gentee.abi import shdr
from gentee.errors import TaImageError
from gentee.secure import images, keys
from gentee.secure.keys import AcceptedKeys
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
