# SPDX-License-Identifier: BSD-2-Clause
"""``gentee ta``: keys, packages and signed images of trusted services."""

import os
import sys
from collections.abc import Sequence

from gentee.cli.options import Command, Option, columns, similar
from gentee.errors import TaImageError, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.cli.options import Given

_SIZES = ("2048", "3072", "4096")

# Those of scripts/sign_encrypt.py, by the names of gentee.abi.shdr.
_ALGORITHMS = {
    "pss": "TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256",
    "pkcs1": "TEE_ALG_RSASSA_PKCS1_V1_5_SHA256",
}

_OUTPUT = Option("--output", "the file to write", short="-o", metavar="FILE")
_KEY = Option("--key", "a PEM file with the private key to sign with", metavar="FILE")
_TA_VERSION = Option(
    "--ta-version",
    "the version in the header, which may only grow; by default the service's own",
    metavar="N",
)
_ALGO = Option(
    "--algo", "RSA PSS (the default) or PKCS1 v1.5, with SHA-256", choices=tuple(_ALGORITHMS)
)

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
    [_OUTPUT, _KEY, _TA_VERSION, _ALGO],
    "SERVICE.py | FOLDER",
    mixed=True,
)
SIGN = Command(
    "ta sign",
    "Sign a package: the image can be loaded, or put into a folder of services as UUID.ta.",
    [_KEY, _TA_VERSION, _ALGO, _OUTPUT],
    "PACKAGE",
    mixed=True,
)
INSPECT = Command(
    "ta inspect",
    "Say what is in an image or a package, and whether gentee would take it.",
    [
        Option(
            "--key",
            "a PEM file with a key that images may be signed with",
            metavar="FILE",
            repeat=True,
        ),
        Option("--strict", "these keys only, not OP-TEE's public development key"),
        Option("--json", "for programs"),
    ],
    "FILE",
    mixed=True,
)

_COMMANDS = {
    "keygen": "make a key to sign with",
    "pack": "put a service in Python into a package, and sign it",
    "sign": "sign a package",
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

_SIGN_DETAILS = """\
  gentee ta sign --key key.pem keeper.zip        writes UUID.ta"""

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
    if name == "sign":
        return sign(rest)
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


def _the_one(command: Command, given: "Given", what: str) -> str:
    if not given.words:
        raise command.error(f"no {what}")
    if len(given.words) > 1:
        raise command.error(f"what to do with {given.words[1]!r}?")
    return given.words[0]


def keygen(arguments: Sequence[str]) -> int:
    """``gentee ta keygen``."""
    given = KEYGEN.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(KEYGEN.help(_KEYGEN_DETAILS))
        return 0
    path = _the_one(KEYGEN, given, "file to write the key to")
    from gentee.secure.keys import fingerprint, generate_key

    key = generate_key(path, int(given.value("--size", "4096")))
    print(f"{_shown(path)}: RSA, {key.key_size} bits, {fingerprint(key)}")
    return 0


def pack(arguments: Sequence[str]) -> int:
    """``gentee ta pack``."""
    given = PACK.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(PACK.help(_PACK_DETAILS))
        return 0
    path = _the_one(PACK, given, "service to pack")
    if not given.has("--key"):
        for option in ("--ta-version", "--algo"):
            if given.has(option):
                raise PACK.error(f"{option} is for signed images", "add --key FILE")
    from gentee.secure import package
    from gentee.secure.store import format_uuid

    try:
        service, data = package.pack(path)
    except TaImageError as error:
        raise UserError(str(error), "'gentee ta pack --help' says what can be packed") from error
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else path
        raise UserError(f"{where}: {error.strerror}") from error
    if given.has("--key"):
        return _sign(PACK, given, data)
    target = given.value("--output", format_uuid(service.uuid) + ".zip")
    _write(target, data)
    print(f"{_shown(target)}: {_shown(service.name)}, not signed")
    return 0


def sign(arguments: Sequence[str]) -> int:
    """``gentee ta sign``."""
    given = SIGN.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(SIGN.help(_SIGN_DETAILS))
        return 0
    path = _the_one(SIGN, given, "package to sign")
    if not given.has("--key"):
        raise SIGN.error("no key to sign with", "--key FILE; 'gentee ta keygen FILE' makes one")
    data = _read(path)
    if data[:4] == b"HSTO":
        raise UserError(f"{path}: it is signed already", "sign the package that is in it")
    return _sign(SIGN, given, data, path)


def _sign(command: Command, given: "Given", data: bytes, path: str = "") -> int:
    from gentee.abi import shdr
    from gentee.secure import images, keys, package
    from gentee.secure.store import IMAGE_END, format_uuid, parse_uuid

    try:
        service = package.read(data).service
    except TaImageError as error:
        raise UserError(f"{path}: {error}", "'gentee ta pack' makes packages") from error
    version = service.version
    text = given.value("--ta-version", "")
    if text:
        if not (text.isascii() and text.isdigit()):
            raise command.error(f"--ta-version cannot be {text!r}", "it is a number from 0 up")
        version = int(text)
    if not 0 <= version <= shdr.U32_MAX:
        raise UserError(
            f"version {version} does not fit the header",
            f"it can be 0 to {shdr.U32_MAX}; --ta-version gives another",
        )
    uuid = format_uuid(service.uuid)
    target = given.value("--output", uuid + IMAGE_END)
    name = os.path.basename(target)
    if name.endswith(IMAGE_END):
        try:
            if parse_uuid(name.removesuffix(IMAGE_END)) != service.uuid:
                raise command.error(
                    f"{target}: the service's UUID is {uuid}",
                    "an image that is named by another UUID is refused",
                )
        except ValueError:  # not named by a UUID
            pass
    private = keys.load_private_key(given.value("--key", ""))
    algo: int = getattr(shdr, _ALGORITHMS[given.value("--algo", "pss")])
    _write(target, images.sign(data, private, service.uuid, version, algo))
    print(f"{_shown(target)}: {_shown(service.name)} {uuid}, version {version}")
    if keys.fingerprint(private.public_key()) == keys.fingerprint(keys.development_key()):
        print(f"signed with {keys.DEVELOPMENT}, which everybody has: for development only")
    return 0


def inspect(arguments: Sequence[str]) -> int:
    """``gentee ta inspect``."""
    given = INSPECT.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(INSPECT.help(_INSPECT_DETAILS))
        return 0
    path = _the_one(INSPECT, given, "file to look at")
    if given.has("--strict") and not given.has("--key"):
        raise INSPECT.error("--strict without --key accepts nothing", "add --key FILE")
    from gentee.cli.ta_report import report, report_text
    from gentee.secure.keys import AcceptedKeys

    keys = AcceptedKeys(given.all("--key"), strict=given.has("--strict"))
    keys.all()  # a file that holds no key is the command's error, not the image's
    found = report(path, _read(path), keys)
    if given.has("--json"):
        import json

        print(json.dumps(found, indent=2))
    else:
        sys.stdout.write(report_text(found))
    return 0 if found["accepted"] else 1


def _read(path: str) -> bytes:
    from gentee.secure.images import MAX_IMAGE

    try:
        with open(path, "rb") as file:
            data = file.read(MAX_IMAGE + 1)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return data


def _write(path: str, data: bytes) -> None:
    """Write a whole file, or leave what was there."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with open(fd, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _shown(text: str) -> str:
    from gentee.device.host import printable

    return printable(text)
