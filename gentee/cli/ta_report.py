# SPDX-License-Identifier: BSD-2-Clause
"""What ``gentee ta inspect`` says about a file: everything that can be read of it, and a verdict.

A header whose fields are wrong is shown as far as it goes, and so is what is inside an image that
does not verify: ``verified`` says whether it does. The verdict is
:func:`gentee.secure.opening.open_image`'s.
"""

import hashlib
import os

from gentee.abi import shdr as abi
from gentee.abi.elf import ELFMAG
from gentee.abi.gp import TEE_ERROR_SECURITY, result_name
from gentee.abi.service_package import MAGIC as PACKAGE_MAGIC
from gentee.abi.shdr import Shdr, ShdrBootstrapTa, ShdrEncryptedTa, ShdrError, ShdrSubkey
from gentee.cli.ta_report_elf import elf_report, elf_rows
from gentee.device.host import printable
from gentee.errors import TaImageError
from gentee.secure import package
from gentee.secure.images import form, verify
from gentee.secure.keys import AcceptedKeys, PublicKey, rsa_public_key, verify_by
from gentee.secure.opening import OpenedImage, open_image
from gentee.secure.service import IMAGE_END, format_uuid, parse_uuid
from gentee.secure.subkeys import next_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Report = dict[str, Any]

_MAGIC = abi.SHDR_MAGIC.to_bytes(4, "little")
_MAX_LAYERS = 17  # as many subkeys as an image may have, and one more; further ones are not shown


def report(path: str, data: bytes, keys: AcceptedKeys) -> "Report":
    """All about the file, as JSON has it. ``accepted`` and ``verdict`` are always there."""
    found: Report = {"file": path, "size": len(data)}
    if data.startswith(PACKAGE_MAGIC):
        found["form"] = "package"
        _payload(found, data)
        found["accepted"] = False
        problem = found.get("package_problem")
        found["verdict"] = f"refused: {problem}" if problem else "a package, not signed"
        return found
    if data.startswith(ELFMAG):
        found["form"] = "ELF file"
        _payload(found, data)
        found["accepted"] = found["verified"] = False
        found["verdict"] = "refused: an ELF file that is not signed; --allow-unsigned takes it"
        return found
    if not _may_be_image(data):
        found["accepted"] = found["verified"] = False
        found["code"] = result_name(TEE_ERROR_SECURITY)
        found["verdict"] = (
            f"refused: no signed image, for it does not begin with {_MAGIC.decode()} "
            f"({found['code']})"
        )
        return found
    opened = _verdict(found, path, data, keys)
    try:
        _headers(found, data, keys, opened)
    except ShdrError as error:
        found["header_problem"] = str(error)
    return found


def _may_be_image(data: bytes) -> bool:
    """Whether it is worth to be shown as an image: its magic, or at least its sizes, are right."""
    if data.startswith(_MAGIC[: len(data)]):
        return True
    try:
        shdr = Shdr.parse(data)
    except ShdrError:
        return False
    return bool(shdr.hash and shdr.sig)


def _verdict(found: "Report", path: str, data: bytes, keys: AcceptedKeys) -> OpenedImage | None:
    name = os.path.basename(path)
    uuid = None
    try:
        if name.endswith(IMAGE_END):
            uuid = parse_uuid(name.removesuffix(IMAGE_END))
    except ValueError:  # not named by a UUID
        pass
    try:
        opened = open_image(data, keys, uuid)
    except TaImageError as error:
        found["accepted"] = found["verified"] = False
        found["code"] = result_name(error.code)
        found["verdict"] = f"refused: {error} ({result_name(error.code)})"
        try:
            verify(data, keys, uuid)  # it may be what is inside that is refused
            found["verified"] = True
        except TaImageError:
            pass
        return None
    found["accepted"] = found["verified"] = True
    what = "library " if opened.service.is_library else ""
    found["verdict"] = f"accepted: {what}{opened.service.name}, signed with {_by(opened)}"
    return opened


def _by(opened: OpenedImage) -> str:
    count = len(opened.image.subkeys)
    through = f" through {count} subkey{'s' if count > 1 else ''}" if count else ""
    return opened.image.signer.name + through


def _headers(found: "Report", data: bytes, keys: AcceptedKeys, opened: OpenedImage | None) -> None:
    layers: list[Report] = []
    found["headers"] = layers
    offset = 0
    key: PublicKey | None = None
    while True:
        shdr = Shdr.parse(data, offset)
        layer = _header(shdr, offset)
        layers.append(layer)
        found.setdefault("form", form(shdr.img_type))
        layer["signature"] = _signature(shdr, keys if offset == 0 else key)
        if offset == 0:
            found["signature"] = layer["signature"]
        offset += shdr.size
        if shdr.img_type != abi.SHDR_SUBKEY or len(layers) > _MAX_LAYERS:
            break
        offset, key = _subkey(layer, shdr, data, offset)
    covered = shdr.fixed
    if shdr.img_type in (abi.SHDR_BOOTSTRAP_TA, abi.SHDR_ENCRYPTED_TA):
        bootstrap = ShdrBootstrapTa.parse(data, offset)
        offset += bootstrap.size
        covered += bootstrap.build()
        found["uuid"] = format_uuid(bootstrap.uuid)
        found["ta_version"] = bootstrap.ta_version
    if shdr.img_type == abi.SHDR_ENCRYPTED_TA:
        encrypted = ShdrEncryptedTa.parse(data, offset)
        offset += encrypted.size
        key_type = encrypted.flags & abi.SHDR_ENC_KEY_TYPE_MASK
        found["encryption"] = {
            "enc_algo": f"0x{encrypted.enc_algo:08x}",
            "algorithm": abi.algorithm_name(encrypted.enc_algo),
            "flags": encrypted.flags,
            "key": "class-wide" if key_type else "device-specific",
            "iv": encrypted.iv.hex(),
            "tag": encrypted.tag.hex(),
            "decrypted": opened is not None,
        }
    payload = data[offset:]
    algorithm = abi.SIGNATURE_ALGORITHMS.get(shdr.algo)
    if algorithm is not None and shdr.img_type != abi.SHDR_ENCRYPTED_TA:  # over the plain text
        found["digest_ok"] = hashlib.new(algorithm.digest, covered + payload).digest() == shdr.hash
    if opened is not None:
        _payload(found, opened.image.payload)
    elif shdr.img_type in (abi.SHDR_TA, abi.SHDR_BOOTSTRAP_TA):
        _payload(found, payload)
    else:
        found["payload"] = {"size": len(payload), "kind": "encrypted"}


def _header(shdr: Shdr, offset: int) -> "Report":
    return {
        "offset": offset,
        "magic": f"0x{shdr.magic:08x}",
        "img_type": shdr.img_type,
        "img_type_name": abi.img_type_name(shdr.img_type),
        "img_size": shdr.img_size,
        "algo": f"0x{shdr.algo:08x}",
        "algorithm": abi.algorithm_name(shdr.algo),
        "hash_size": len(shdr.hash),
        "sig_size": len(shdr.sig),
        "hash": shdr.hash.hex(),
    }


def _subkey(layer: "Report", shdr: Shdr, data: bytes, offset: int) -> tuple[int, PublicKey | None]:
    """What a subkey says of itself; where the next header is, and the key for it, if any."""
    end = offset + shdr.img_size
    if end > len(data):
        raise ShdrError(f"a subkey takes {shdr.img_size} bytes, {len(data) - offset} are left")
    subkey = ShdrSubkey.parse(data[offset:end])
    name = data[end : end + subkey.name_size]
    modulus = subkey.attrs.get(abi.TEE_ATTR_RSA_MODULUS, b"")
    exponent = subkey.attrs.get(abi.TEE_ATTR_RSA_PUBLIC_EXPONENT, b"")
    key = None
    try:
        key = PublicKey(f"subkey {format_uuid(subkey.uuid)}", rsa_public_key(modulus, exponent))
    except ValueError:
        pass
    layer["subkey"] = {
        "uuid": format_uuid(subkey.uuid),
        "subkey_version": subkey.subkey_version,
        "max_depth": subkey.max_depth,
        "algo": f"0x{subkey.algo:08x}",
        "algorithm": abi.algorithm_name(subkey.algo),
        "bits": int.from_bytes(modulus, "big").bit_length(),
        "name_size": subkey.name_size,
        "next_name": name.partition(b"\0")[0].decode("utf-8", "replace"),
        "next_uuid": format_uuid(next_uuid(subkey.uuid, name)),
    }
    return end + subkey.name_size, key


def _signature(shdr: Shdr, by: AcceptedKeys | PublicKey | None) -> "Report":
    """:param by: the keys, one of which should have signed it; None: a subkey that is none."""
    try:
        if isinstance(by, AcceptedKeys):
            by = by.verify(shdr)
        elif by is not None:
            verify_by(by, shdr)
        else:
            raise TaImageError("the subkey's key cannot be used")
    except TaImageError as error:
        return {"known": False, "problem": str(error)}
    return {
        "known": True,
        "key": by.name,
        "bits": by.bits,
        "fingerprint": by.fingerprint,
        "development": by.development,
    }


def _payload(found: "Report", payload: bytes) -> None:
    kind = "unknown"
    if payload.startswith(ELFMAG):
        kind = "ELF"
        found["elf"] = elf_report(payload)
    elif payload.startswith(PACKAGE_MAGIC):
        kind = "package"
        try:
            read = package.read(payload)
        except TaImageError as error:
            found["package_problem"] = str(error)
        else:
            found["manifest"] = read.manifest
            found["files"] = {name: len(content) for name, content in read.files.items()}
    found["payload"] = {"size": len(payload), "kind": kind}


def report_text(found: "Report") -> str:
    """The same for people."""
    rows: list[tuple[str, object]] = [("file", found["file"]), ("size", f"{found['size']} bytes")]
    rows.append(("form", found.get("form", "none that is known")))
    if "form" in found and not found.get("verified", True):
        rows.append(("verified", "no: what follows is what the file says of itself"))
    for layer in found.get("headers", ()):
        rows += _layer_rows(layer)
    for key in ("header_problem", "uuid", "ta_version"):
        if key in found:
            rows.append((key.replace("_problem", ""), found[key]))
    if "encryption" in found:
        encryption = found["encryption"]
        rows += [(key, encryption[key]) for key in ("algorithm", "flags", "key", "iv", "tag")]
    if "digest_ok" in found:
        rows.append(("digest", "holds" if found["digest_ok"] else "does not hold"))
    if "payload" in found:
        rows.append(("payload", f"{found['payload']['kind']}, {found['payload']['size']} bytes"))
    rows += elf_rows(found.get("elf", {}))
    if "package_problem" in found:
        rows.append(("package", found["package_problem"]))
    for key, value in found.get("manifest", {}).items():
        rows.append((f"  {key}", value))
    for name, size in found.get("files", {}).items():
        rows.append(("  file", f"{name}, {size} bytes"))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {printable(str(value))}".rstrip() for name, value in rows]
    return "\n".join([*lines, printable(found["verdict"])]) + "\n"


def _layer_rows(layer: "Report") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("shdr", f"at {layer['offset']}"),
        ("  magic", layer["magic"]),
        ("  img_type", f"{layer['img_type']} ({layer['img_type_name']})"),
        ("  img_size", layer["img_size"]),
        ("  algo", f"{layer['algo']} ({layer['algorithm']})"),
        ("  hash_size", layer["hash_size"]),
        ("  sig_size", layer["sig_size"]),
        ("  hash", layer["hash"]),
    ]
    signature = layer["signature"]
    if signature["known"]:
        rows.append(("  signed with", f"{signature['key']}, RSA, {signature['bits']} bits"))
        rows.append(("  fingerprint", signature["fingerprint"]))
    else:
        rows.append(("  signed with", f"no accepted key: {signature['problem']}"))
    for key, value in layer.get("subkey", {}).items():
        rows.append((f"  subkey {key}", value))
    return rows
