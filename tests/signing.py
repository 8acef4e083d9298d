# SPDX-License-Identifier: BSD-2-Clause
"""Keys, packages and signed images for tests, made in memory."""

from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gentee.abi.shdr import TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256
from gentee.secure import images, package, subkeys
from gentee.secure.keys import AcceptedKeys
from gentee.secure.service import Service, describe, parse_uuid
from tests.elfwriter import ElfWriter

UUID = "5e0f4d22-9a55-4c1b-8a7b-0c51d1a3e001"

SOURCE = """\
from gentee.ta import TrustedApplication

class Signed(TrustedApplication):
    uuid = "{uuid}"
    name = "{name}"
    version = {version}
    {flags}

    def TA_OpenSessionEntryPoint(self, param_types, params):
        if param_types & 0xF == 2:
            params[0].a = {number}

    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].a = {number}
"""


def source(
    uuid: str = UUID,
    *,
    name: str = "signed",
    version: int = 1,
    number: int | None = None,
    flags: str = "",
) -> str:
    """A service whose command answers with ``number``, by default its version."""
    number = version if number is None else number
    return SOURCE.format(uuid=uuid, name=name, version=version, number=number, flags=flags)


def packed(text: str) -> bytes:
    """A package of one module."""
    return package.write("service.py", _described(text), {"service.py": text.encode()})


def _described(text: str) -> Service:
    service = describe("service.py", text.encode())
    assert service is not None
    return service


def key(bits: int = 2048, number: int = 0) -> rsa.RSAPrivateKey:
    """A private key of the test's run."""
    return _key(bits, number)


@cache
def _key(bits: int, number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def private_pem(private: rsa.RSAPrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(private: rsa.RSAPrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_file(folder: Path, private: rsa.RSAPrivateKey | None = None) -> str:
    """A file with the public half of a key, by default of :func:`key`."""
    path = folder / "key.pub.pem"
    path.write_bytes(public_pem(private or key()))
    return str(path)


def accepted(folder: Path) -> AcceptedKeys:
    """Keys of which the only one is :func:`key`."""
    return AcceptedKeys([key_file(folder)], strict=True)


def signed(
    text: str,
    version: int | None = None,
    *,
    private: rsa.RSAPrivateKey | None = None,
    algo: int = TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256,
) -> bytes:
    """The signed image of a service's source."""
    service = _described(text)
    version = service.version if version is None else version
    return images.sign(packed(text), private or key(), service.uuid, version, algo)


def elf(arch: str = "aarch64", flags: int = 0, **changed: object) -> bytes:
    """An ELF file that is a TA; ``is_main=False``: a library."""
    return ElfWriter(arch, head={"flags": flags}, **changed).build()  # type: ignore[arg-type]


def chain(
    *links: tuple[bytes, rsa.RSAPrivateKey, bytes, dict[str, int]],
    root: rsa.RSAPrivateKey | None = None,
) -> bytes:
    """Subkeys: UUID, key, the field of the name that follows, and what else it says."""
    data = b""
    signer = root or key()
    for uuid, private, name, changed in links:
        fields = {"max_depth": len(links), "name_size": len(name), **changed}
        data += subkeys.sign_subkey(signer, private.public_key(), uuid, **fields) + name
        signer = private
    return data


def uuid_of(number: int) -> str:
    """One of many UUIDs."""
    return f"5e0f4d22-9a55-4c1b-8a7b-{number:012x}"


UUID_BYTES = parse_uuid(UUID)
