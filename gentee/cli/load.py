# SPDX-License-Identifier: BSD-2-Clause
"""``gentee load``: signed images become installed services of a TEE."""

import sys
from collections.abc import Sequence

from gentee.cli import tee_access
from gentee.cli.options import Command, Option
from gentee.cli.tee_options import TA_CLASS_KEY, TA_ENC_KEY
from gentee.errors import TeeError, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gentee.cli.options import Given
    from gentee.cli.tee_access import AnyTee, Row

COMMAND = Command(
    "load",
    "Install the services of signed images. The next session that is opened is with them.",
    [
        tee_access.TEE,
        tee_access.STATE,
        tee_access.KEY,
        tee_access.STRICT,
        TA_ENC_KEY,
        TA_CLASS_KEY,
        Option("--json", "for programs"),
    ],
    "FILE...",
    mixed=True,
)

_DETAILS = """\
Without --tee and --state: inside 'gentee run' the TEE of that run, elsewhere the one of plain
'gentee run'. A TEE that runs verifies with its own keys. Of one that does not run the state folder
is changed, and --key says whose images are accepted; give 'gentee run' the same keys.

The exit status is 0 if all images were installed, 1 if one was not.

  gentee ta pack keeper.py --key key.pem      writes UUID.ta
  gentee load UUID.ta --key key.pem"""

_HEADER = b"HSTO"
_PACKAGE = b"PK\x03\x04"
_ELF = b"\x7fELF"

# Words of a refusal that is about the image, which 'gentee ta inspect' can show.
_OF_THE_IMAGE = ("SECURITY", "BAD_FORMAT", "NOT_SUPPORTED", "digest", "header", "manifest", "magic")


def main(arguments: Sequence[str]) -> int:
    given = COMMAND.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(COMMAND.help(_DETAILS))
        return 0
    if not given.words:
        raise COMMAND.error("no image to load", "such as: gentee load UUID.ta")
    if given.has("--strict") and not given.has("--key"):
        raise COMMAND.error("--strict without --key accepts nothing", "add --key FILE")
    # One at a time: each may have 16 MiB.
    tee = _tee(given)
    failed = False
    found: list[dict[str, Any]] = []
    try:
        for path in given.words:
            try:
                result = _load(tee, path)
            except UserError as error:
                failed = True
                found.append({"file": path, "error": error.message, "hint": error.hint})
                if not given.has("--json"):
                    from gentee.cli.main import report

                    sys.stdout.flush()
                    report(error)
                continue
            found.append(result)
            if not given.has("--json"):
                print(_line(result))
    finally:
        tee.close()
    if given.has("--json"):
        import json

        print(json.dumps(found, indent=2))
    return 1 if failed else 0


def _tee(given: "Given") -> "AnyTee":
    from gentee.device.state_dir import DEFAULT_NAME, folder_of

    folder = tee_access.named_folder(COMMAND, given)
    if folder is None:
        tee = tee_access.device_tee()
        if tee is not None:
            if given.has("--key") or tee_access.given_encryption(given) is not None:
                tee.close()
                raise COMMAND.error(
                    "the TEE of this run has its keys",
                    "start it with 'gentee run --key FILE', or name a TEE by --tee or --state",
                )
            return tee
        folder = folder_of(DEFAULT_NAME)
    from gentee.device.host import TerminalLog

    return tee_access.tee_of(
        folder,
        keys=given.all("--key"),
        strict=given.has("--strict"),
        encryption=tee_access.given_encryption(given),
        create=True,
        warn=TerminalLog().warn,
    )


def _load(tee: "AnyTee", path: str) -> "dict[str, Any]":
    """Install one image; what was done. UserError says why not."""
    from gentee.device.control import Refused
    from gentee.secure.service import format_uuid

    image = _read(path)
    before = {row.uuid: row for row in tee.services() if row.installed}
    try:
        uuid, version = tee.install(image)
    except TeeError as error:
        raise _refusal(path, error.detail, error.code) from error
    except Refused as error:
        hint = error.hint or _hint(path, error.message)
        raise UserError(f"{path}: {error.message}", hint) from error
    row = _row(tee, uuid)
    replaced = before.get(uuid)
    return {
        "file": path,
        "uuid": format_uuid(uuid),
        "name": row.name if row is not None else "",
        "version": version,
        "signer": row.signer if row is not None else "",
        "replaced": replaced.version if replaced is not None else None,
    }


def _row(tee: "AnyTee", uuid: bytes) -> "Row | None":
    return next((row for row in tee.services() if row.uuid == uuid), None)


def _line(result: "dict[str, Any]") -> str:
    from gentee.cli.tee_access import shown_signer
    from gentee.device.host import printable

    line = f"{result['uuid']} {printable(result['name'])}, version {result['version']}"
    if result["signer"]:
        line += f", signed by {shown_signer(result['signer'])}"
    if result["replaced"] is None:
        return f"{line}: installed"
    return f"{line}: replaced version {result['replaced']}"


def _read(path: str) -> bytes:
    """The bytes of a signed image; UserError for what cannot be one."""
    from gentee.secure.images import MAX_IMAGE

    try:
        with open(path, "rb") as file:
            image = file.read(MAX_IMAGE + 1)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if len(image) > MAX_IMAGE:
        raise UserError(f"{path}: larger than {MAX_IMAGE >> 20} MiB", "no image may be")
    if image.startswith(_PACKAGE):
        raise UserError(
            f"{path}: a package that is not signed", f"gentee ta sign --key KEY.pem {path}"
        )
    if image.startswith(_ELF):
        raise UserError(
            f"{path}: an ELF file that is not signed",
            f"gentee ta sign --key KEY.pem {path}; without a key: 'gentee run --allow-unsigned'",
        )
    if not image.startswith(_HEADER):
        raise UserError(
            f"{path}: not a signed image",
            "'gentee ta pack SERVICE.py --key KEY.pem' makes one of a service",
        )
    return image


def _refusal(path: str, detail: str, code: int) -> UserError:
    from gentee.abi.gp import result_name

    name = result_name(code)
    return UserError(f"{path}: {detail or 'refused'} ({name})", _hint(path, f"{detail} {name}"))


def _hint(path: str, reason: str) -> str | None:
    """What to do about a refusal, as far as its words tell."""
    if "accepted key" in reason:
        return "--key FILE accepts a key; for a TEE that runs, give it when that is started"
    if "ACCESS_CONFLICT" in reason or "was there before" in reason:
        return "versions only grow: sign it again with a higher --ta-version"
    if "decrypted" in reason:
        return "--ta-enc-key FILE; for a TEE that runs, give it when that is started"
    if any(word in reason for word in _OF_THE_IMAGE):
        return f"'gentee ta inspect {path}' says more; with --key FILE for a key of yours"
    return None
