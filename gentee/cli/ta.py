# SPDX-License-Identifier: BSD-2-Clause
"""``gentee ta``: keys, packages and signed images of trusted services."""

import sys
from collections.abc import Sequence

from gentee.cli.options import Command, Option, columns, similar
from gentee.cli.ta_files import ALGO, KEY, OUTPUT, TA_VERSION, read, shown, the_one, write
from gentee.errors import TaImageError, UserError

_SIZES = ("2048", "3072", "4096")

KEYGEN = Command(
    "ta keygen",
    "Make an RSA key to sign images with, in a new file that only you can read.",
    [Option("--size", "bits, by default 4096", choices=_SIZES)],
    "FILE",
    mixed=True,
)
PACK = Command(
    "ta pack",
    "Put a service in Python into a package; with --key, sign it too. None of its code runs.",
    [OUTPUT, KEY, TA_VERSION, ALGO],
    "SERVICE.py | FOLDER",
    mixed=True,
)
INSPECT = Command(
    "ta inspect",
    "Say what is in an image, a package or an ELF file of a TA, and whether gentee would take it.",
    [
        Option(
            "--key",
            "a PEM file with a key that images may be signed with",
            metavar="FILE",
            repeat=True,
        ),
        Option("--strict", "these keys only, not OP-TEE's public development keys"),
        Option(
            "--ta-enc-key",
            "a file with the key that an image is encrypted with, by default OP-TEE's",
            metavar="FILE",
        ),
        Option("--json", "for programs"),
    ],
    "FILE",
    mixed=True,
)

_COMMANDS = {
    "keygen": "make a key to sign with",
    "pack": "put a service in Python into a package, and sign it",
    "sign": "sign a package or an ELF file of a TA, and encrypt it",
    "subkey": "sign a key that may sign TAs",
    "inspect": "say what is in an image, and whether gentee would take it",
}

_KEYGEN_DETAILS = """\
The file has the private key, without a passphrase. The public half, for 'gentee run --key':

  openssl pkey -in key.pem -pubout -out key.pub.pem"""

_PACK_DETAILS = """\
A service is one file, or a folder where one module at the top has the class that derives from
TrustedApplication; all other modules, packages and data files there go along. The same source
gives the same bytes.

  gentee ta pack keeper.py                       writes UUID.zip
  gentee ta pack keeper.py --key key.pem         writes UUID.ta, signed"""

_INSPECT_DETAILS = """\
The exit status is 0 if gentee would take the image, 1 if not."""


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        text = _help()
        (sys.stdout if arguments else sys.stderr).write(text)
        return 0 if arguments else 2
    name, *rest = arguments
    if name == "keygen":
        return keygen(rest)
    if name == "pack":
        return pack(rest)
    if name in ("sign", "subkey"):
        from gentee.cli import ta_sign

        return ta_sign.sign(rest) if name == "sign" else ta_sign.subkey(rest)
    if name == "inspect":
        return inspect(rest)
    near = similar(name, list(_COMMANDS))
    hint = f"did you mean 'gentee ta {near}'?" if near else f"there are {', '.join(_COMMANDS)}"
    raise UserError(f"ta: no command {name!r}", hint, 2)


def _help() -> str:
    lines = [
        "usage: gentee ta COMMAND [OPTIONS]",
        "",
        "Keys, packages and signed images of trusted services, in the form of OP-TEE's.",
        "",
        "commands:",
        *columns(list(_COMMANDS.items())),
        "",
        "'gentee ta COMMAND --help' says more about one of them.",
    ]
    return "\n".join(lines) + "\n"


def keygen(arguments: Sequence[str]) -> int:
    """``gentee ta keygen``."""
    given = KEYGEN.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(KEYGEN.help(_KEYGEN_DETAILS))
        return 0
    path = the_one(KEYGEN, given, "file to write the key to")
    from gentee.secure.keys import fingerprint, generate_key

    key = generate_key(path, int(given.value("--size", "4096")))
    print(f"{shown(path)}: RSA, {key.key_size} bits, {fingerprint(key)}")
    return 0


def pack(arguments: Sequence[str]) -> int:
    """``gentee ta pack``."""
    given = PACK.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(PACK.help(_PACK_DETAILS))
        return 0
    path = the_one(PACK, given, "service to pack")
    if not given.has("--key"):
        for option in ("--ta-version", "--algo"):
            if given.has(option):
                raise PACK.error(f"{option} is for signed images", "add --key FILE")
    from gentee.cli.ta_sign import sign_payload
    from gentee.secure import package
    from gentee.secure.service import format_uuid

    try:
        service, data = package.pack(path)
    except TaImageError as error:
        raise UserError(str(error), "'gentee ta pack --help' says what can be packed") from error
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else path
        raise UserError(f"{where}: {error.strerror}") from error
    if given.has("--key"):
        return sign_payload(PACK, given, data)
    target = given.value("--output", format_uuid(service.uuid) + ".zip")
    write(target, data)
    print(f"{shown(target)}: {shown(service.name)}, not signed")
    return 0


def inspect(arguments: Sequence[str]) -> int:
    """``gentee ta inspect``."""
    given = INSPECT.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(INSPECT.help(_INSPECT_DETAILS))
        return 0
    path = the_one(INSPECT, given, "file to look at")
    if given.has("--strict") and not given.has("--key"):
        raise INSPECT.error("--strict without --key accepts nothing", "add --key FILE")
    from gentee.cli.ta_report import report, report_text
    from gentee.secure.keys import AcceptedKeys
    from gentee.secure.ta_encryption import EncryptionKeys

    encryption = EncryptionKeys(given.value("--ta-enc-key", ""))
    encryption.check_files()
    keys = AcceptedKeys(given.all("--key"), strict=given.has("--strict"), encryption=encryption)
    keys.all()  # a file that holds no key is the command's error, not the image's
    found = report(path, read(path), keys)
    if given.has("--json"):
        import json

        print(json.dumps(found, indent=2))
    else:
        sys.stdout.write(report_text(found))
    return 0 if found["accepted"] else 1
