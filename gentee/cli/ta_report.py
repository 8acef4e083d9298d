# SPDX-License-Identifier: BSD-2-Clause
"""What ``gentee ta inspect`` says about a file: everything that can be read of it, and a verdict.

A header whose fields are wrong is shown as far as it goes. Nothing that is shown was believed; the
verdict is :func:`gentee.secure.package.open_image`'s.
"""

import hashlib
import os

from gentee.abi import shdr as abi
from gentee.abi.gp import result_name
from gentee.abi.service_package import MAGIC as PACKAGE_MAGIC
from gentee.abi.shdr import Shdr, ShdrBootstrapTa, ShdrEncryptedTa, ShdrError, ShdrSubkey
from gentee.device.host import printable
from gentee.errors import TaImageError
from gentee.secure import package
from gentee.secure.images import form
from gentee.secure.keys import AcceptedKeys
from gentee.secure.store import IMAGE_END, format_uuid, parse_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Report = dict[str, Any]

_MAX_LAYERS = 8  # of subkeys; more are not shown

_ELF_MAGIC = b"\x7fELF"
_ELF_MACHINES = {40: "Arm, 32 bits", 183: "Arm, 64 bits"}


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
    try:
        _headers(found, data, keys)
    except ShdrError as error:
        found["header_problem"] = str(error)
    _verdict(found, path, data, keys)
    return found


def _verdict(found: "Report", path: str, data: bytes, keys: AcceptedKeys) -> None:
    name = os.path.basename(path)
    uuid = None
    try:
        if name.endswith(IMAGE_END):
            uuid = parse_uuid(name.removesuffix(IMAGE_END))
    except ValueError:  # not named by a UUID
        pass
    try:
        service, _package, image = package.open_image(data, keys, uuid)
    except TaImageError as error:
        found["accepted"] = False
        found["code"] = result_name(error.code)
        found["verdict"] = f"refused: {error} ({result_name(error.code)})"
        return
    found["accepted"] = True
    found["verdict"] = f"accepted: {service.name}, signed with {image.signer.name}"


def _headers(found: "Report", data: bytes, keys: AcceptedKeys) -> None:
    layers: list[Report] = []
    found["headers"] = layers
    offset = 0
    while True:
        shdr = Shdr.parse(data, offset)
        layer = _header(shdr, offset)
        layers.append(layer)
        found.setdefault("form", form(shdr.img_type))
        if offset == 0:
            found["signature"] = _signature(shdr, keys)
        offset += shdr.size
        if shdr.img_type != abi.SHDR_SUBKEY or len(layers) > _MAX_LAYERS:
            break
        offset = _subkey(layer, shdr, data, offset)
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
        found["encryption"] = {
            "enc_algo": f"0x{encrypted.enc_algo:08x}",
            "algorithm": abi.algorithm_name(encrypted.enc_algo),
            "flags": encrypted.flags,
            "iv": encrypted.iv.hex(),
            "tag": encrypted.tag.hex(),
        }
    payload = data[offset:]
    algorithm = abi.SIGNATURE_ALGORITHMS.get(shdr.algo)
    if algorithm is not None and shdr.img_type != abi.SHDR_ENCRYPTED_TA:  # over the plain text
        found["digest_ok"] = hashlib.new(algorithm.digest, covered + payload).digest() == shdr.hash
    if shdr.img_type in (abi.SHDR_TA, abi.SHDR_BOOTSTRAP_TA):
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


def _subkey(layer: "Report", shdr: Shdr, data: bytes, offset: int) -> int:
    """What a subkey says of itself; where the next header is."""
    end = offset + shdr.img_size
    if end > len(data):
        raise ShdrError(f"a subkey takes {shdr.img_size} bytes, {len(data) - offset} are left")
    subkey = ShdrSubkey.parse(data[offset:end])
    name = data[end : end + subkey.name_size].split(b"\0")[0]
    modulus = subkey.attrs.get(abi.TEE_ATTR_RSA_MODULUS, b"")
    layer["subkey"] = {
        "uuid": format_uuid(subkey.uuid),
        "subkey_version": subkey.subkey_version,
        "max_depth": subkey.max_depth,
        "algo": f"0x{subkey.algo:08x}",
        "algorithm": abi.algorithm_name(subkey.algo),
        "bits": int.from_bytes(modulus, "big").bit_length(),
        "name_size": subkey.name_size,
        "next_name": name.decode("utf-8", "replace"),
    }
    return end + subkey.name_size


def _signature(shdr: Shdr, keys: AcceptedKeys) -> "Report":
    try:
        key = keys.verify(shdr)
    except TaImageError as error:
        return {"known": False, "problem": str(error)}
    return {
        "known": True,
        "key": key.name,
        "bits": key.bits,
        "fingerprint": key.fingerprint,
        "development": key.development,
    }


def _payload(found: "Report", payload: bytes) -> None:
    kind = "unknown"
    if payload.startswith(_ELF_MAGIC):
        kind = "ELF"
        machine = int.from_bytes(payload[18:20], "little")
        if machine in _ELF_MACHINES:
            kind += f", {_ELF_MACHINES[machine]}"
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
    for layer in found.get("headers", ()):
        rows += _layer_rows(layer)
    for key in ("header_problem", "uuid", "ta_version"):
        if key in found:
            rows.append((key.replace("_problem", ""), found[key]))
    if "encryption" in found:
        encryption = found["encryption"]
        rows += [(key, encryption[key]) for key in ("algorithm", "flags", "iv", "tag")]
    if "digest_ok" in found:
        rows.append(("digest", "holds" if found["digest_ok"] else "does not hold"))
    signature = found.get("signature")
    if signature is not None and signature["known"]:
        rows.append(("signed with", f"{signature['key']}, RSA, {signature['bits']} bits"))
        rows.append(("fingerprint", signature["fingerprint"]))
    elif signature is not None:
        rows.append(("signed with", f"no accepted key: {signature['problem']}"))
    if "payload" in found:
        rows.append(("payload", f"{found['payload']['kind']}, {found['payload']['size']} bytes"))
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
    for key, value in layer.get("subkey", {}).items():
        rows.append((f"  subkey {key}", value))
    return rows
