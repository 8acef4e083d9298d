# SPDX-License-Identifier: BSD-2-Clause
"""``gentee ta``: keys, packages, images, and what inspect says of right and wrong ones."""

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gentee.abi import shdr
from gentee.abi.shdr import Shdr
from gentee.cli.main import main
from gentee.cli.ta_report import report, report_text
from gentee.secure import keys, package
from gentee.secure.keys import AcceptedKeys
from tests import signing
from tests.signing import UUID, signed, source

ROOT = Path(__file__).parents[2]
IMAGE = f"{UUID}.ta"


class Run:
    """A command that has run, in this process."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


Gentee = Callable[..., Run]


@pytest.fixture
def ta(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Gentee:
    """``ta("pack", ...)`` in a folder with ``service.py``, ``key.pem`` and ``key.pub.pem``."""
    monkeypatch.chdir(tmp_path)
    Path("service.py").write_text(source(version=3))
    Path("key.pem").write_bytes(signing.private_pem(signing.key()))
    signing.key_file(tmp_path)

    def run(*arguments: str) -> Run:
        capfd.readouterr()
        status = main(["ta", *arguments])
        return Run(status, *capfd.readouterr())

    return run


def inspected(ta: Gentee, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ta("inspect", "--json", *arguments).out)
    return found


def test_from_a_key_to_an_image(ta: Gentee) -> None:
    made = ta("keygen", "--size", "2048", "new.pem")
    assert (made.status, made.err) == (0, "")
    public = keys.load_public_key("new.pem")
    assert made.out == f"new.pem: RSA, 2048 bits, {keys.fingerprint(public)}\n"
    assert stat.S_IMODE(Path("new.pem").stat().st_mode) == 0o600

    assert ta("pack", "service.py").out == f"{UUID}.zip: signed, not signed\n"
    assert ta("sign", "--key", "new.pem", f"{UUID}.zip").out == (
        f"{IMAGE}: signed {UUID}, version 3\n"
    )
    looked = ta("inspect", "--key", "new.pem", "--strict", IMAGE)
    assert looked.status == 0
    assert looked.out.endswith("accepted: signed, signed with new.pem\n")
    found = inspected(ta, "--key", "new.pem", IMAGE)
    assert found["form"] == "bootstrap"
    assert (found["uuid"], found["ta_version"], found["digest_ok"]) == (UUID, 3, True)
    assert found["signature"]["fingerprint"] == keys.fingerprint(public)
    assert found["headers"][0]["algorithm"] == "TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256"
    assert found["manifest"]["name"] == "signed"
    assert set(found["files"]) == {"manifest.json", "service.py"}
    # A key that is not told is not known.
    assert ta("inspect", IMAGE).status == 1


def test_pack_and_sign_in_one(ta: Gentee) -> None:
    ta("pack", "service.py", "--key", "key.pem", "-o", "one.ta")
    found = inspected(ta, "one.ta", "--key", "key.pub.pem")
    assert found["accepted"]
    ta("pack", "service.py", "-o", "two.zip")
    done = ta("sign", "two.zip", "--key", "key.pem", "--ta-version", "9", "--algo", "pkcs1")
    assert done.status == 0
    found = inspected(ta, IMAGE, "--key", "key.pub.pem")
    assert (found["ta_version"], found["accepted"]) == (9, True)
    assert found["headers"][0]["algorithm"] == "TEE_ALG_RSASSA_PKCS1_V1_5_SHA256"


def test_a_folder(ta: Gentee) -> None:
    Path("service").mkdir()
    Path("service/main.py").write_text(source())
    Path("service/help.py").write_text("x = 1\n")
    assert ta("pack", "service", "-o", "a.zip").status == 0
    assert ta("pack", "service", "-o", "b.zip").status == 0
    assert Path("a.zip").read_bytes() == Path("b.zip").read_bytes()
    assert set(inspected(ta, "a.zip")["files"]) == {"manifest.json", "main.py", "help.py"}


def test_nothing_of_the_service_runs(ta: Gentee) -> None:
    Path("service.py").write_text(source() + "\nopen('it ran', 'w')\n")
    assert ta("pack", "service.py", "--key", "key.pem").status == 0
    assert ta("inspect", IMAGE, "--key", "key.pem").status == 0
    assert not Path("it ran").exists()


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["keygen"], "no file to write", 2),
        (["keygen", "key.pem"], "there already", 1),
        (["keygen", "a.pem", "b.pem"], "what to do with 'b.pem'", 2),
        (["keygen", "a.pem", "--size", "1024"], "cannot be '1024'", 2),
        (["keygen", "no/a.pem"], "No such file", 1),
        (["pack"], "no service", 2),
        (["pack", "missing.py"], "missing.py: No such file", 1),
        (["pack", "key.pem"], "key.pem", 1),
        (["pack", "."], "key.pem: a private key", 1),
        (["pack", "service.py", "--ta-version", "1"], "for signed images", 2),
        (["pack", "service.py", "--key", "missing"], "missing: No such file", 1),
        (["pack", "service.py", "--key", "service.py"], "no key", 1),
        (["pack", "service.py", "--key", "key.pub.pem"], "cannot sign", 1),
        (["pack", "service.py", "--key", "key.pem", "--ta-version", "x"], "cannot be 'x'", 2),
        (["pack", "service.py", "--key", "key.pem", "--ta-version", "-1"], "cannot be '-1'", 2),
        (["pack", "service.py", "--key", "key.pem", "--ta-version", "4294967296"], "fit", 1),
        (["pack", "service.py", "-o", "no/x.zip"], "No such file", 1),
        (["pack", "service.py", "--key", "key.pem", "-o", f"{'0' * 8}{UUID[8:]}.ta"], "UUID", 2),
        (["sign"], "no package", 2),
        (["sign", "service.py"], "no key", 2),
        (["sign", "service.py", "--key", "key.pem"], "no ZIP file", 1),
        (["inspect"], "no file", 2),
        (["inspect", "missing"], "missing: No such file", 1),
        (["inspect", "service.py", "--strict"], "accepts nothing", 2),
        (["inspect", "service.py", "--key", "service.py"], "no key", 1),
        (["sing"], "no command 'sing'", 2),
    ],
    ids=range(26),
)
def test_errors(arguments: list[str], message: str, status: int, ta: Gentee) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir()}
    run = ta(*arguments)
    assert run.status == status
    assert message in run.err
    assert run.err.startswith("gentee: ")
    assert run.out == ""
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_an_image_is_not_signed_twice(ta: Gentee) -> None:
    ta("pack", "service.py", "--key", "key.pem")
    assert "signed already" in ta("sign", IMAGE, "--key", "key.pem").err


@pytest.mark.parametrize("command", ["", "keygen", "pack", "sign", "subkey", "inspect"])
def test_help(command: str, ta: Gentee) -> None:
    run = ta(*([command] if command else []), "--help")
    assert run.status == 0
    assert run.out.startswith(f"usage: gentee ta {command}".rstrip())
    assert max(map(len, run.out.splitlines())) <= 100
    if not command:
        assert ta().status == 2


def test_as_a_program(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(source())
    command = [sys.executable, "-m", "gentee", "ta", "pack", str(tmp_path / "service.py")]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "x.zip")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert package.read((tmp_path / "x.zip").read_bytes()).service.name == "signed"


# Inspect, whatever it is given


def verdict(data: bytes, tmp_path: Path, name: str = "x.ta") -> dict[str, Any]:
    accepted = signing.accepted(tmp_path)
    found = report(name, data, accepted)
    json.dumps(found)
    text = report_text(found)
    assert text.splitlines()[-1] == found["verdict"]
    assert all(line.isprintable() for line in text.splitlines())
    return found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("magic", 0),
        ("img_type", 4),
        ("img_type", shdr.SHDR_TA),
        ("img_type", shdr.SHDR_ENCRYPTED_TA),
        ("img_type", shdr.SHDR_SUBKEY),
        ("img_size", 0),
        ("img_size", 0xFFFF_FFFF),
        ("algo", 0),
        ("algo", 0x70002830),
        ("algo", shdr.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA512),
        ("hash", b""),
        ("hash", bytes(31)),
        ("sig", b""),
        ("sig", bytes(1000)),
    ],
)
def test_a_wrong_field_is_shown(field: str, value: int | bytes, tmp_path: Path) -> None:
    data = signed(source())
    header = Shdr.parse(data)
    rest = data[header.size :]
    setattr(header, field, value)
    found = verdict(header.build() + rest, tmp_path)
    assert not found["accepted"]
    assert found["verdict"].startswith("refused: ")
    assert found["code"] == "TEE_ERROR_SECURITY"
    assert not found["verified"]
    shown = found["headers"][0]
    sizes = {"hash": "hash_size", "sig": "sig_size"}
    wanted = len(value) if isinstance(value, bytes) else value
    if field in ("magic", "algo"):
        assert shown[field] == f"0x{wanted:08x}"
    else:
        assert shown[sizes.get(field, field)] == wanted


def test_cut_at_every_length(tmp_path: Path) -> None:
    data = signed(source())
    accepted = signing.accepted(tmp_path)
    for size in [*range(0, 400), *range(400, len(data), 50)]:
        found = report("x.ta", data[:size], accepted)
        assert not found["accepted"]
        report_text(found)


def test_another_name(tmp_path: Path) -> None:
    data = signed(source())
    assert verdict(data, tmp_path, IMAGE)["accepted"]
    found = verdict(data, tmp_path, f"{signing.uuid_of(2)}.ta")
    assert "UUID" in found["verdict"]


@pytest.mark.parametrize("data", [b"", b"HSTO", b"\x7fELF", b"text\x1b[2J\n", b"PK\x03\x04junk"])
def test_something_else(data: bytes, tmp_path: Path) -> None:
    found = verdict(data, tmp_path)
    assert not found["accepted"]
    assert found["verdict"].startswith("refused: ")


def test_the_development_key(tmp_path: Path) -> None:
    found = report("x.ta", signed(source()), AcceptedKeys())
    assert not found["signature"]["known"]
    assert "signed by no accepted key" in found["signature"]["problem"]
    assert not found["verified"]
    assert "no: what follows is what the file says of itself" in report_text(found)
