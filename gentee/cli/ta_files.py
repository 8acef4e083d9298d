# SPDX-License-Identifier: BSD-2-Clause
"""What the commands of ``gentee ta`` share: options, and files that are read and written."""

import os

from gentee.cli.options import Command, Option
from gentee.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.cli.options import Given

# Those of scripts/sign_encrypt.py, by the names of gentee.abi.shdr.
ALGORITHMS = {
    "pss": "TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256",
    "pkcs1": "TEE_ALG_RSASSA_PKCS1_V1_5_SHA256",
}

OUTPUT = Option("--output", "the file to write", short="-o", metavar="FILE")
KEY = Option("--key", "a PEM file with the private key to sign with", metavar="FILE")
TA_VERSION = Option(
    "--ta-version",
    "the version in the header, which may only grow; by default the service's own",
    metavar="N",
)
ALGO = Option(
    "--algo", "RSA PSS (the default) or PKCS1 v1.5, with SHA-256", choices=tuple(ALGORITHMS)
)


def the_one(command: Command, given: "Given", what: str) -> str:
    """The one word that the command takes."""
    if not given.words:
        raise command.error(f"no {what}")
    if len(given.words) > 1:
        raise command.error(f"what to do with {given.words[1]!r}?")
    return given.words[0]


def number(command: Command, given: "Given", name: str, default: int) -> int:
    """The value of an option that is a number from 0 up."""
    text = given.value(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 20:
        raise command.error(f"{name} cannot be {text!r}", "it is a number from 0 up")
    return int(text)


def read(path: str) -> bytes:
    """The bytes of an image or what goes into one; more than any may have are not all read."""
    from gentee.secure.images import MAX_IMAGE

    try:
        with open(path, "rb") as file:
            data = file.read(MAX_IMAGE + 1)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return data


def write(path: str, data: bytes) -> None:
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


def shown(text: str) -> str:
    """Text of somebody else as a terminal can have it."""
    from gentee.device.host import printable

    return printable(text)
