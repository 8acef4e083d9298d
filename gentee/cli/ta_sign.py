# SPDX-License-Identifier: BSD-2-Clause
"""``gentee ta sign`` and ``gentee ta subkey``: what OP-TEE's scripts/sign_encrypt.py does."""

import os
import sys
from collections.abc import Sequence

from gentee.cli.options import Command, Option
from gentee.cli.ta_files import (
    ALGO,
    ALGORITHMS,
    KEY,
    OUTPUT,
    TA_VERSION,
    number,
    read,
    shown,
    the_one,
    write,
)
from gentee.errors import TaImageError, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

    from gentee.cli.options import Given

_DEFAULT_KEY = "default"  # the word for OP-TEE's own key, where a file's name can stand
_NAME_SIZE = 64  # bytes of room that a subkey has for a name, unless it is said

_SUBKEY = Option("--subkey", "a file that 'gentee ta subkey' wrote, of this key", metavar="FILE")
_NAME = Option(
    "--name", "the name from which the UUID follows, in the namespace of the subkey", metavar="NAME"
)

SIGN = Command(
    "ta sign",
    "Sign a package or an ELF file: the image can be loaded, or put into a folder as UUID.ta.",
    [
        KEY,
        TA_VERSION,
        Option("--uuid", "of an ELF file, by default what its ta_head says", metavar="UUID"),
        Option(
            "--encrypt",
            "encrypt it, with the key in the file; or with OP-TEE's default key: default",
            metavar="FILE|default",
        ),
        Option("--class-wide", "say that this key is for a class of devices"),
        _SUBKEY,
        _NAME,
        ALGO,
        OUTPUT,
    ],
    "PACKAGE | TA.elf",
    mixed=True,
)
SUBKEY = Command(
    "ta subkey",
    "Sign a public key: whoever has its private half may sign TAs, or further subkeys.",
    [
        KEY,
        Option("--uuid", "of the subkey; its namespace", metavar="UUID"),
        Option(
            "--name-size",
            f"bytes of the names of what it signs, by default {_NAME_SIZE}; 0: all with its UUID",
            metavar="N",
        ),
        Option("--max-depth", "subkeys that may follow, by default 0", metavar="N"),
        Option("--subkey-version", "which may only grow, by default 0", metavar="N"),
        _SUBKEY,
        _NAME,
        ALGO,
        OUTPUT,
    ],
    "PUBLIC.pem",
    mixed=True,
)

_SIGN_DETAILS = """\
  gentee ta sign --key key.pem keeper.zip        writes UUID.ta
  gentee ta sign --key key.pem --ta-version 3 ta.elf
  gentee ta sign --key sub.pem --subkey sub.bin --name my_ta --uuid UUID ta.elf"""

_SUBKEY_DETAILS = """\
Options are those of OP-TEE's sign_encrypt.py sign-subkey. The UUID of what a subkey signs follows
from its own and from a name; the command says it when --name is given without --subkey.

  gentee ta subkey --key root.pem --uuid UUID -o sub.bin sub.pub.pem"""


def sign(arguments: Sequence[str]) -> int:
    """``gentee ta sign``."""
    given = SIGN.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(SIGN.help(_SIGN_DETAILS))
        return 0
    path = the_one(SIGN, given, "package or ELF file to sign")
    if not given.has("--key"):
        raise SIGN.error("no key to sign with", "--key FILE; 'gentee ta keygen FILE' makes one")
    for option, needed in (("--class-wide", "--encrypt"), ("--name", "--subkey")):
        if given.has(option) and not given.has(needed):
            raise SIGN.error(f"{option} says nothing without {needed}")
    data = read(path)
    if data[:4] == b"HSTO":
        raise UserError(f"{path}: it is signed already", "sign what is in it")
    return sign_payload(SIGN, given, data, path)


def sign_payload(command: Command, given: "Given", data: bytes, path: str = "") -> int:
    """Sign a package or an ELF file as ``given`` says, and write the image."""
    from gentee.abi import shdr
    from gentee.secure import images, keys
    from gentee.secure.service import IMAGE_END, format_uuid, parse_uuid

    service_uuid, name, version = _described(command, given, data, path)
    version = number(command, given, "--ta-version", version)
    if not 0 <= version <= shdr.U32_MAX:
        raise UserError(
            f"version {version} does not fit the header",
            f"it can be 0 to {shdr.U32_MAX}; --ta-version gives another",
        )
    uuid = format_uuid(service_uuid)
    target = given.value("--output", uuid + IMAGE_END)
    file_name = os.path.basename(target)
    if file_name.endswith(IMAGE_END):
        try:
            if parse_uuid(file_name.removesuffix(IMAGE_END)) != service_uuid:
                raise command.error(
                    f"{target}: the service's UUID is {uuid}",
                    "an image that is named by another UUID is refused",
                )
        except ValueError:  # not named by a UUID
            pass
    private = keys.load_private_key(given.value("--key", ""))
    public = private.public_key()
    chain = b""
    if given.has("--subkey"):
        chain, expected = _chain(command, given, public)
        if expected != service_uuid:
            raise UserError(
                f"the subkey signs {format_uuid(expected)}, and this is {uuid}",
                "another --name gives another UUID",
            )
    image = images.sign(
        data,
        private,
        service_uuid,
        version,
        getattr(shdr, ALGORITHMS[given.value("--algo", "pss")]),
        enc_key=_encryption_key(given, public),
        class_wide=given.has("--class-wide"),
    )
    if len(chain) + len(image) > images.MAX_IMAGE:
        raise UserError(f"{path or target}: the image would be larger than any may be")
    write(target, chain + image)
    print(f"{shown(target)}: {shown(name)} {uuid}, version {version}")
    for development in keys.development_keys():
        if development.fingerprint == keys.fingerprint(public):
            print(f"signed with {development.name}, which everybody has: for development only")
    return 0


def _described(command: Command, given: "Given", data: bytes, path: str) -> tuple[bytes, str, int]:
    """UUID, name and version of what is to be signed."""
    from gentee.abi.elf import ELFMAG
    from gentee.secure import elf_service, package
    from gentee.secure.elf_file import ElfFile
    from gentee.secure.service import parse_uuid

    if not data.startswith(ELFMAG):
        if given.has("--uuid"):
            raise command.error("--uuid is for ELF files", "the manifest of a package says its own")
        try:
            service = package.read(data).service
        except TaImageError as error:
            raise UserError(f"{path}: {error}", "'gentee ta pack' makes packages") from error
        return service.uuid, service.name, service.version
    try:
        file = ElfFile(data)
        head = elf_service.ta_head(file)
        if head is not None:
            uuid = head.uuid
        else:  # a library, which its DT_SONAME names
            try:
                uuid = parse_uuid(file.soname().decode("ascii", "replace"))
            except ValueError:
                uuid = b""
        if given.has("--uuid"):
            uuid = _uuid(command, given)
        if not uuid:
            raise command.error(f"{path}: it does not say its UUID", "--uuid UUID says it")
        service = elf_service.describe_elf(data, uuid)
    except TaImageError as error:
        raise UserError(f"{path}: {error}", "it should be a TA for Arm, or a library") from error
    return uuid, service.name, 0


def _uuid(command: Command, given: "Given") -> bytes:
    from gentee.secure.service import parse_uuid

    text = given.value("--uuid", "")
    try:
        return parse_uuid(text)
    except ValueError:
        raise command.error(
            f"--uuid cannot be {text!r}", "it is a UUID in its usual form"
        ) from None


def _encryption_key(given: "Given", signer: "RSAPublicKey") -> bytes | None:
    if not given.has("--encrypt"):
        return None
    from gentee.secure.ta_encryption import default_key, load_key

    path = given.value("--encrypt", "")
    return default_key(signer) if path == _DEFAULT_KEY else load_key(path)


def _chain(command: Command, given: "Given", public: "RSAPublicKey") -> tuple[bytes, bytes]:
    """What comes before the header, with the name; and the UUID of what may follow.

    :param public: the key that will sign the header, which the last subkey has to be.
    """
    from gentee.abi.shdr import ShdrError
    from gentee.secure.keys import fingerprint
    from gentee.secure.subkeys import next_uuid, unverified_chain

    path = given.value("--subkey", "")
    data = read(path)
    try:
        last = unverified_chain(data)[-1]
    except (ShdrError, TaImageError) as error:
        raise UserError(f"{path}: {error}", "'gentee ta subkey' writes such files") from error
    if last.key.fingerprint != fingerprint(public):
        raise UserError(
            f"{path}: the subkey is another key than --key", "sign with its private half"
        )
    name = given.value("--name", "").encode()
    if len(name) > last.name_size or b"\0" in name:
        raise command.error(f"--name has more than {last.name_size} bytes")
    if last.name_size and not name:
        raise command.error("no name for the UUID to follow from", "--name NAME")
    field = name.ljust(last.name_size, b"\0")
    return data + field, next_uuid(last.uuid, field)


def subkey(arguments: Sequence[str]) -> int:
    """``gentee ta subkey``."""
    given = SUBKEY.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(SUBKEY.help(_SUBKEY_DETAILS))
        return 0
    path = the_one(SUBKEY, given, "key to sign")
    for option in ("--key", "--uuid", "--output"):
        if not given.has(option):
            raise SUBKEY.error(f"no {option}", "'gentee ta subkey --help' has an example")
    from gentee.abi import shdr
    from gentee.secure import keys
    from gentee.secure.service import format_uuid
    from gentee.secure.subkeys import next_uuid, sign_subkey

    uuid = _uuid(SUBKEY, given)
    public = keys.load_public_key(path)
    private: RSAPrivateKey = keys.load_private_key(given.value("--key", ""))
    chain = b""
    if given.has("--subkey"):
        chain, expected = _chain(SUBKEY, given, private.public_key())
        if expected != uuid:
            raise UserError(
                f"the subkey signs {format_uuid(expected)}, not {format_uuid(uuid)}",
                "another --name gives another UUID",
            )
    name_size = number(SUBKEY, given, "--name-size", _NAME_SIZE)
    max_depth = number(SUBKEY, given, "--max-depth", 0)
    if max_depth >= shdr.U32_MAX:
        raise SUBKEY.error(f"--max-depth {max_depth} is more than any subkey may have")
    try:
        data = sign_subkey(
            private,
            public,
            uuid,
            version=number(SUBKEY, given, "--subkey-version", 0),
            max_depth=max_depth,
            name_size=name_size,
            algo=getattr(shdr, ALGORITHMS[given.value("--algo", "pss")]),
        )
    except shdr.ShdrError as error:
        raise UserError(str(error)) from error
    target = given.value("--output", "")
    write(target, chain + data)
    print(f"{shown(target)}: subkey {format_uuid(uuid)}, {public.key_size} bits")
    name = given.value("--name", "")
    if name and not given.has("--subkey"):
        field = name.encode().ljust(name_size, b"\0")
        print(f"{shown(name)} is {format_uuid(next_uuid(uuid, field))}")
    return 0
