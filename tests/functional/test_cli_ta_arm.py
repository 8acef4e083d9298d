# SPDX-License-Identifier: BSD-2-Clause
"""``gentee ta`` with OP-TEE's TAs: signed in each form, and what inspect says of all of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gentee.abi import elf as abi
from gentee.abi import optee_ta as ta_abi
from gentee.abi import shdr
from gentee.abi.shdr import Shdr, ShdrBootstrapTa, ShdrEncryptedTa, ShdrSubkey
from gentee.cli.main import main
from gentee.cli.ta_report import report_text
from gentee.secure import images, subkeys
from gentee.secure.keys import AcceptedKeys, PublicKey, fingerprint
from gentee.secure.service import format_uuid
from tests import signing
from tests.elfwriter import DYNAMIC, ElfWriter
from tests.functional.test_cli_ta import Run, verdict
from tests.signing import UUID, UUID_BYTES, elf, key, signed, source

HEAD_UUID = "00000001-0002-0003-6162-636465666768"  # in the ta_head that ElfWriter writes
ENC_KEY = bytes(range(32))

Gentee = Callable[..., Run]


@pytest.fixture
def ta(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Gentee:
    """``ta("sign", ...)`` in a folder with ``ta.elf``, ``lib.elf`` and keys."""
    monkeypatch.chdir(tmp_path)
    Path("ta.elf").write_bytes(elf(flags=ta_abi.TA_FLAG_SINGLE_INSTANCE))
    Path("lib.elf").write_bytes(library())
    Path("key.pem").write_bytes(signing.private_pem(key()))
    Path("sub.pem").write_bytes(signing.private_pem(key(2048, 1)))
    Path("sub.pub.pem").write_bytes(signing.public_pem(key(2048, 1)))
    Path("enc.key").write_text(ENC_KEY.hex())

    def run(*arguments: str) -> Run:
        capfd.readouterr()
        status = main(["ta", *arguments])
        return Run(status, *capfd.readouterr())

    return run


def library() -> bytes:
    """A library whose DT_SONAME is its UUID, as OP-TEE's are."""
    plain = ElfWriter(is_main=False, needed=[UUID]).build()
    needed, soname = (tag.to_bytes(8, "little") for tag in (abi.DT_NEEDED, abi.DT_SONAME))
    at = plain.index(needed, DYNAMIC)
    return plain[:at] + soname + plain[at + 8 :]


def inspected(ta: Gentee, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ta("inspect", "--json", *arguments).out)
    return found


# Signing


def test_a_ta_is_signed(ta: Gentee) -> None:
    done = ta("sign", "--key", "key.pem", "--ta-version", "4", "ta.elf")
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{HEAD_UUID}.ta: 00000001 {HEAD_UUID}, version 4\n"
    looked = ta("inspect", "--key", "key.pem", "--strict", f"{HEAD_UUID}.ta")
    assert looked.status == 0
    assert looked.out.endswith("accepted: 00000001, signed with key.pem\n")
    found = inspected(ta, "--key", "key.pem", f"{HEAD_UUID}.ta")
    assert (found["form"], found["uuid"], found["ta_version"]) == ("bootstrap", HEAD_UUID, 4)
    assert (found["verified"], found["accepted"], found["digest_ok"]) == (True, True, True)
    assert images.verify(Path(f"{HEAD_UUID}.ta").read_bytes(), accepted()).payload == elf(
        flags=ta_abi.TA_FLAG_SINGLE_INSTANCE
    )


def accepted() -> AcceptedKeys:
    keys = AcceptedKeys(strict=True)
    keys._keys = [PublicKey("the test's", key().public_key())]
    return keys


def test_under_another_uuid(ta: Gentee) -> None:
    ta("sign", "--key", "key.pem", "--uuid", UUID, "--algo", "pkcs1", "ta.elf")
    found = inspected(ta, "--key", "key.pem", f"{UUID}.ta")
    assert (found["accepted"], found["uuid"]) == (True, UUID)
    assert found["elf"]["ta_head"]["uuid"] == HEAD_UUID
    assert found["headers"][0]["algorithm"] == "TEE_ALG_RSASSA_PKCS1_V1_5_SHA256"


def test_a_library_is_signed(ta: Gentee) -> None:
    done = ta("sign", "--key", "key.pem", "lib.elf")
    assert done.out == f"{UUID}.ta: {UUID[:8]} {UUID}, version 0\n"
    looked = ta("inspect", "--key", "key.pem", f"{UUID}.ta")
    assert looked.out.endswith(f"accepted: library {UUID[:8]}, signed with key.pem\n")
    found = inspected(ta, "--key", "key.pem", f"{UUID}.ta")
    assert (found["elf"]["kind"], found["elf"]["soname"]) == ("library", UUID)
    assert "ta_head" not in found["elf"]


@pytest.mark.parametrize("class_wide", [False, True])
def test_encrypted(class_wide: bool, ta: Gentee) -> None:
    more = ["--class-wide"] if class_wide else []
    done = ta("sign", "--key", "key.pem", "--encrypt", "enc.key", *more, "ta.elf", "-o", "x.ta")
    assert done.status == 0
    assert b"\x7fELF" not in Path("x.ta").read_bytes()
    found = inspected(ta, "--key", "key.pem", "x.ta")
    assert (found["accepted"], found["verified"]) == (False, False)
    assert "cannot be decrypted" in found["verdict"]
    assert found["payload"]["kind"] == "encrypted"
    assert "elf" not in found
    found = inspected(ta, "--key", "key.pem", "--ta-enc-key", "enc.key", "x.ta")
    assert (found["accepted"], found["elf"]["arch"]) == (True, "aarch64")
    assert found["encryption"]["key"] == ("class-wide" if class_wide else "device-specific")
    assert found["encryption"]["decrypted"]


def test_encrypted_with_optees_default_key(ta: Gentee) -> None:
    ta("sign", "--key", "key.pem", "--encrypt", "default", "ta.elf", "-o", "x.ta")
    found = inspected(ta, "--key", "key.pem", "x.ta")
    assert (found["form"], found["accepted"]) == ("encrypted", True)


def test_by_a_subkey(ta: Gentee) -> None:
    done = ta("subkey", "--key", "key.pem", "--uuid", UUID, "-o", "sub.bin", "sub.pub.pem",
              "--name", "my_ta", "--subkey-version", "6")  # fmt: skip
    uuid = format_uuid(subkeys.next_uuid(UUID_BYTES, b"my_ta".ljust(64, b"\0")))
    assert done.out == f"sub.bin: subkey {UUID}, 2048 bits\nmy_ta is {uuid}\n"
    by = ["--key", "sub.pem", "--subkey", "sub.bin"]
    done = ta("sign", *by, "--name", "my_ta", "--uuid", uuid, "ta.elf")
    assert done.status == 0
    looked = ta("inspect", "--key", "key.pem", f"{uuid}.ta")
    assert looked.out.endswith(f"accepted: {uuid[:8]}, signed with key.pem through 1 subkey\n")
    found = inspected(ta, "--key", "key.pem", f"{uuid}.ta")
    first, second = found["headers"]
    assert (first["subkey"]["uuid"], first["subkey"]["subkey_version"]) == (UUID, 6)
    assert (first["subkey"]["next_name"], first["subkey"]["next_uuid"]) == ("my_ta", uuid)
    assert second["signature"]["fingerprint"] == fingerprint(key(2048, 1).public_key())
    # Without the root key nothing of it counts.
    found = inspected(ta, f"{uuid}.ta")
    assert not found["verified"]
    assert [layer["signature"]["known"] for layer in found["headers"]] == [False, True]


def test_subkeys_of_subkeys(ta: Gentee) -> None:
    Path("two.pub.pem").write_bytes(signing.public_pem(key(2048, 2)))
    Path("two.pem").write_bytes(signing.private_pem(key(2048, 2)))
    ta("subkey", "--key", "key.pem", "--uuid", UUID, "--name-size", "0", "--max-depth", "3",
       "-o", "one.bin", "sub.pub.pem")  # fmt: skip
    done = ta("subkey", "--key", "sub.pem", "--subkey", "one.bin", "--uuid", UUID, "--name-size",
              "0", "--max-depth", "2", "-o", "two.bin", "two.pub.pem")  # fmt: skip
    assert done.status == 0
    ta("sign", "--key", "two.pem", "--subkey", "two.bin", "--uuid", UUID, "ta.elf")
    found = inspected(ta, "--key", "key.pem", f"{UUID}.ta")
    assert found["accepted"]
    assert [layer["subkey"]["max_depth"] for layer in found["headers"][:2]] == [3, 2]


def test_with_the_development_key(ta: Gentee, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_if() -> list[PublicKey]:
        return [PublicKey("everybody's", key().public_key(), development=True)]

    monkeypatch.setattr("gentee.secure.keys.development_keys", as_if)
    done = ta("sign", "--key", "key.pem", "ta.elf")
    assert done.out.endswith("signed with everybody's, which everybody has: for development only\n")


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["sign", "ta.elf"], "no key to sign with", 2),
        (["sign", "--key", "key.pem"], "no package or ELF file", 2),
        (["sign", "--key", "key.pem", "--uuid", "x", "ta.elf"], "--uuid cannot be 'x'", 2),
        (["sign", "--key", "key.pem", "--name", "x", "ta.elf"], "nothing without --subkey", 2),
        (["sign", "--key", "key.pem", "--class-wide", "ta.elf"], "nothing without --encrypt", 2),
        (["sign", "--key", "key.pem", "--encrypt", "no", "ta.elf"], "no: No such file", 1),
        (["sign", "--key", "key.pem", "--encrypt", "key.pem", "ta.elf"], "no key for AES-256", 1),
        (["sign", "--key", "key.pem", "bad.elf"], "bad.elf: ELF: for another machine", 1),
        (["sign", "--key", "key.pem", "flags.elf"], "ta_head.flags has 0x100", 1),
        (["sign", "--key", "key.pem", "nameless.elf"], "it does not say its UUID", 2),
        (["sign", "--key", "key.pem", "--uuid", UUID, "x.zip"], "--uuid is for ELF files", 2),
        (["sign", "--key", "key.pem", "--subkey", "no", "ta.elf"], "no: No such file", 1),
        (["sign", "--key", "key.pem", "--subkey", "ta.elf", "ta.elf"], "'gentee ta subkey'", 1),
        (["sign", "--key", "key.pem", "--subkey", "sub.bin", "ta.elf"], "another key", 1),
        (["sign", "--key", "sub.pem", "--subkey", "sub.bin", "ta.elf"], "no name for the UUID", 2),
        (
            ["sign", "--key", "sub.pem", "--subkey", "sub.bin", "--name", "x" * 65, "ta.elf"],
            "more than 64 bytes",
            2,
        ),
        (
            ["sign", "--key", "sub.pem", "--subkey", "sub.bin", "--name", "x", "ta.elf"],
            f"and this is {HEAD_UUID}",
            1,
        ),
        (["sign", "--key", "key.pem", "-o", f"{UUID}.ta", "ta.elf"], "named by another UUID", 2),
        (["subkey"], "no key to sign", 2),
        (["subkey", "sub.pub.pem"], "no --key", 2),
        (["subkey", "--key", "key.pem", "sub.pub.pem"], "no --uuid", 2),
        (["subkey", "--key", "key.pem", "--uuid", UUID, "sub.pub.pem"], "no --output", 2),
        (["subkey", "--key", "key.pem", "--uuid", UUID, "-o", "x", "ta.elf"], "no key", 1),
        (
            ["subkey", "--key", "key.pem", "--uuid", UUID, "-o", "x", "--max-depth", "4294967295",
             "sub.pub.pem"],
            "more than any subkey may have",
            2,
        ),
        (
            ["subkey", "--key", "key.pem", "--uuid", UUID, "-o", "x", "--name-size", "4294967296",
             "sub.pub.pem"],
            "does not fit its field",
            1,
        ),
        (
            ["subkey", "--key", "sub.pem", "--subkey", "sub.bin", "--name", "x", "--uuid", UUID,
             "-o", "x", "sub.pub.pem"],
            "the subkey signs",
            1,
        ),
        (["inspect", "--ta-enc-key", "key.pem", "ta.elf"], "no key for AES-256", 1),
    ],
    ids=range(27),
)  # fmt: skip
def test_errors(arguments: list[str], message: str, status: int, ta: Gentee) -> None:
    Path("bad.elf").write_bytes(ElfWriter(header={"machine": 62}).build())
    Path("flags.elf").write_bytes(elf(flags=ta_abi.TA_FLAG_CONCURRENT))
    Path("nameless.elf").write_bytes(elf(is_main=False))
    Path("x.zip").write_bytes(signing.packed(source()))
    Path("sub.bin").write_bytes(
        subkeys.sign_subkey(key(), key(2048, 1).public_key(), UUID_BYTES, name_size=64)
    )
    before = {path: path.read_bytes() for path in Path().iterdir()}
    run = ta(*arguments)
    assert run.status == status
    assert message in run.err
    assert run.err.startswith("gentee: ")
    assert run.out == ""
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


# Inspect


@pytest.mark.parametrize("arch", ["aarch64", "arm"])
def test_what_is_in_a_ta(arch: str, tmp_path: Path) -> None:
    flags = ta_abi.TA_FLAG_SINGLE_INSTANCE | ta_abi.TA_FLAG_INSTANCE_KEEP_ALIVE
    payload = ElfWriter(arch, head={"flags": flags}, needed=[signing.uuid_of(3)]).build()
    found = verdict(images.sign(payload, key(), UUID_BYTES, 1), tmp_path)
    assert found["accepted"]
    assert found["payload"] == {"size": len(payload), "kind": "ELF"}
    inside = found["elf"]
    assert (inside["arch"], inside["kind"], inside["stripped"]) == (arch, "TA", True)
    assert inside["ta_head"] == {
        "uuid": HEAD_UUID,
        "stack_size": 4096,
        "flags": flags,
        "flag_names": ["SINGLE_INSTANCE", "INSTANCE_KEEP_ALIVE"],
        "legacy": False,
    }
    assert inside["needed"] == [signing.uuid_of(3)]
    assert [(each["type"], each["permissions"]) for each in inside["segments"]] == [
        ("LOAD", "R-X"),
        ("LOAD", "RW-"),
        ("DYNAMIC", "RW-"),
    ]
    assert (inside["bss"], inside["heap"], inside["exports"]) == (4096, None, 1)
    assert inside["build_id"] == ""
    assert inside["properties"] is None
    text = report_text(found)
    for line in (
        "(SINGLE_INSTANCE, INSTANCE_KEEP_ALIVE)",
        "4096 bytes of .bss",
        "LOAD R-X 0x0: 4096 bytes of the file, 4096 in memory",
        signing.uuid_of(3),
        "ta_props and ta_num_props are not in the file",
    ):
        assert line in text


@pytest.mark.parametrize("flags", [1 << 31, ta_abi.TA_FLAG_CONCURRENT | 1])
def test_flags_that_no_ta_may_have(flags: int, tmp_path: Path) -> None:
    found = verdict(images.sign(elf(flags=flags), key(), UUID_BYTES, 1), tmp_path)
    assert (found["verified"], found["accepted"]) == (True, False)
    assert found["code"] == "TEE_ERROR_BAD_FORMAT"
    assert found["elf"]["ta_head"]["flags"] == flags
    assert "which no TA may have" in found["elf"]["problem"]


def test_half_an_elf_file(tmp_path: Path) -> None:
    half = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00" + bytes(100)
    found = verdict(images.sign(half, key(), UUID_BYTES, 1), tmp_path)
    assert (found["verified"], found["accepted"]) == (True, False)
    assert found["code"] == "TEE_ERROR_BAD_FORMAT"
    assert found["elf"]["problem"] == "ELF: no ta_head"


def test_a_file_without_a_signature(tmp_path: Path) -> None:
    found = verdict(elf(), tmp_path, f"{UUID}.ta")
    assert (found["form"], found["verified"], found["accepted"]) == ("ELF file", False, False)
    assert "--allow-unsigned" in found["verdict"]
    assert found["elf"]["arch"] == "aarch64"


def test_what_does_not_verify_is_shown_and_said_so(tmp_path: Path) -> None:
    data = bytearray(images.sign(elf(), key(), UUID_BYTES, 7))
    data[60] ^= 1
    found = verdict(bytes(data), tmp_path)
    assert (found["verified"], found["accepted"]) == (False, False)
    assert (found["uuid"], found["ta_version"], found["elf"]["kind"]) == (UUID, 7, "TA")
    assert "verified" in report_text(found)
    assert "no: what follows is what the file says of itself" in report_text(found)


@pytest.mark.parametrize("data", [b"a text, and longer than a header", bytes(100)])
def test_a_file_of_another_kind(data: bytes, tmp_path: Path) -> None:
    """It is not taken for a header with strange sizes."""
    found = verdict(data, tmp_path)
    assert (found["verified"], found["accepted"]) == (False, False)
    assert found["code"] == "TEE_ERROR_SECURITY"
    assert "no signed image, for it does not begin with HSTO" in found["verdict"]
    text = report_text(found)
    assert "none that is known" in text
    assert "magic" not in text


def test_an_encrypted_ta(tmp_path: Path) -> None:
    header = Shdr(shdr.SHDR_ENCRYPTED_TA, 5, 0x70414930, bytes(32), bytes(256))
    encrypted = ShdrEncryptedTa(shdr.TEE_ALG_AES_GCM, 1, b"i" * 12, b"t" * 16)
    data = header.build() + ShdrBootstrapTa(UUID_BYTES, 4).build() + encrypted.build() + b"12345"
    found = verdict(data, tmp_path)
    assert found["form"] == "encrypted"
    assert (found["uuid"], found["ta_version"]) == (UUID, 4)
    assert found["encryption"]["algorithm"] == "TEE_ALG_AES_GCM"
    assert (found["encryption"]["flags"], found["encryption"]["decrypted"]) == (1, False)
    assert found["payload"] == {"size": 5, "kind": "encrypted"}


def test_subkeys(tmp_path: Path) -> None:
    modulus = key().public_key().public_numbers().n.to_bytes(257, "big")
    subkey = ShdrSubkey(
        UUID_BYTES, 16, 2, 1, 0x70414930, {0xD0000130: modulus, 0xD0000230: b"\1\0\1"}
    ).build()
    header = Shdr(shdr.SHDR_SUBKEY, len(subkey), 0x70414930, bytes(32), bytes(256))
    data = header.build() + subkey + b"the name".ljust(16, b"\0") + signed(source())
    found = verdict(data, tmp_path)
    assert found["form"] == "subkey"
    assert [layer["img_type"] for layer in found["headers"]] == [3, 1]
    inside = found["headers"][0]["subkey"]
    assert (inside["uuid"], inside["subkey_version"], inside["max_depth"]) == (UUID, 2, 1)
    assert (inside["bits"], inside["next_name"]) == (2048, "the name")
    assert found["manifest"]["name"] == "signed"
    # A subkey without a key is shown as far as it goes.
    none = ShdrSubkey(UUID_BYTES, 0, 2, 1, 0x70414930, {}).build()
    header = Shdr(shdr.SHDR_SUBKEY, len(none), 0x70414930, bytes(32), bytes(256))
    found = verdict(header.build() + none + signed(source()), tmp_path)
    assert "key cannot be used" in found["headers"][1]["signature"]["problem"]
    # More of them than anybody has.
    many = (header.build() + none) * 100
    assert len(verdict(many, tmp_path)["headers"]) < 20
