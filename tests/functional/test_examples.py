# SPDX-License-Identifier: BSD-2-Clause
"""The example clients: key store and integrity check, in C and in Python; signer, in Python."""

import hashlib
import hmac
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "examples" / "clients"

KEY = "sixteen bytes or more"
Client = Callable[[str], str]


@pytest.fixture(params=["c", "py"])
def client(request: pytest.FixtureRequest, compile_client: Any) -> Client:
    """``client("keystore")``: how a shell calls that client."""

    def call(name: str) -> str:
        source = CLIENTS / f"{name}_client.{request.param}"
        if request.param == "py":
            return f"{sys.executable} {source}"
        # As cc does without options, but strictly.
        return str(compile_client(str(source), flags=["-std=gnu11"]))

    return call


def mac(message: str) -> str:
    return hmac.digest(KEY.encode(), message.encode(), "sha256").hex()


def run(gentee_run: Any, way: str, *lines: str) -> list[str]:
    """What the lines of a shell say, each with its status behind it; errors are there too."""
    script = "\n".join(f"{line} 2>&1; echo status $?" for line in lines)
    finished = gentee_run(["sh", "-c", script], way=way, options=["-q"])
    assert (finished.returncode, finished.stderr) == (0, "")
    shown: list[str] = finished.stdout.splitlines()
    return shown


def test_keystore_demo(gentee_run: Any, way: str, client: Client) -> None:
    """As the comment at the top of the client says."""
    shown = run(gentee_run, way, f"{client('keystore')} demo")
    code = hmac.digest(b"a key of 16 to 64 bytes", b"a message", "sha256").hex()
    assert shown == ["stored demo", code, "forgot demo", "status 0"]


def test_keystore(gentee_run: Any, way: str, client: Client) -> None:
    keystore = client("keystore")
    shown = run(
        gentee_run,
        way,
        f"{keystore} store mine '{KEY}'",
        f"{keystore} mac mine hello",
        f"{keystore} mac other hello",
        f"{keystore} store mine 'another key, long enough'",
        f"{keystore} mac mine hello",
        f"{keystore} store short key",
        f"{keystore} forget mine",
        f"{keystore} mac mine hello",
        f"{keystore} forget",
    )
    text = "\n".join(shown)
    statuses = [line for line in shown if line.startswith("status ")]
    assert statuses == [f"status {number}" for number in (0, 0, 1, 1, 0, 1, 0, 1, 2)]
    assert shown[0] == "stored mine"
    assert text.count(mac("hello")) == 2  # it was not replaced
    assert text.count("you have no key of this name") == 2
    assert text.count("a key is never replaced") == 1
    assert text.count("a key 16 to 64") == 1
    assert "forgot mine" in shown


def test_keystore_of_two_identities(gentee_run: Any, way: str, client: Client) -> None:
    """The same name is another key for the user, and nothing for another login."""
    keystore = client("keystore")
    shown = run(
        gentee_run,
        way,
        f"{keystore} -a store mine '{KEY}'",
        f"{keystore} mac mine hello",
        f"{keystore} store mine 'the key of the user'",
        f"{keystore} -a mac mine hello",
        f"{keystore} mac mine hello",
    )
    theirs = hmac.digest(b"the key of the user", b"hello", "sha256").hex()
    assert [line for line in shown if not line.startswith("keystore_client: you have no")] == [
        *["stored mine", "status 0", "status 1", "stored mine", "status 0"],
        *[mac("hello"), "status 0", theirs, "status 0"],
    ]


def test_keystore_of_two_programs(
    gentee_run: Any, way: str, compile_client: Any, tmp_path: Path
) -> None:
    """A program's identity is the path of its file."""
    program = compile_client(str(CLIENTS / "keystore_client.c"), flags=["-std=gnu11"])
    copy = shutil.copy(program, tmp_path / "copy")
    shown = run(gentee_run, way, f"{program} -a store mine '{KEY}'", f"{copy} -a mac mine hello")
    assert shown[:2] == ["stored mine", "status 0"]
    assert shown[2].startswith("keystore_client: you have no key of this name")
    assert shown[3] == "status 1"


def test_integrity(gentee_run: Any, way: str, client: Client, tmp_path: Path) -> None:
    integrity = client("integrity")
    file = tmp_path / "component"
    file.write_bytes(bytes(range(256)) * 1000 + b"and no whole page")
    (tmp_path / "empty").touch()
    shown = run(
        gentee_run,
        way,
        f"{integrity} enrol it {file}",
        f"{integrity} check it {file}",
        f"{integrity} check else {file}",
        f"printf X | dd of={file} bs=1 seek=70000 conv=notrunc status=none",
        f"{integrity} check it {file}",
        f"{integrity} enrol it {file}",
        f"{integrity} check it {tmp_path / 'empty'}",
        f"{integrity} check it {tmp_path / 'nothing'}",
        f"{integrity} check it",
    )
    statuses = [line for line in shown if line.startswith("status ")]
    assert statuses == [f"status {number}" for number in (0, 0, 1, 0, 3, 1, 1, 1, 2)]
    assert shown[:4] == ["it: enrolled", "status 0", "it: unchanged", "status 0"]
    assert shown[4].startswith("integrity_client: else: not enrolled")
    assert shown[7:9] == ["it: CHANGED", "status 3"]
    assert shown[9] == "integrity_client: it: enrolled with other bytes"
    assert "not a file with anything in it" in shown[11]
    assert "No such file" in shown[13]


def test_the_digest_is_of_the_whole_file(
    gentee_run: Any, way: str, client: Client, tmp_path: Path
) -> None:
    """The TEE saw the file's bytes, and as many as there are."""
    file = tmp_path / "component"
    file.write_bytes(b"x" * 5000)
    shown = run(
        gentee_run,
        way,
        f"{client('integrity')} enrol it {file}",
        f"{sys.executable} -m gentee task integrity 2 in:it out:32 -o {tmp_path / 'digest'}",
    )
    assert shown[0] == "it: enrolled"
    assert (tmp_path / "digest").read_bytes() == hashlib.sha256(b"x" * 5000).digest()


SIGNER = f"{sys.executable} {CLIENTS / 'signer_client.py'}"


def test_signer_demo(gentee_run: Any, way: str) -> None:
    """As the comment at the top of the client says."""
    shown = run(gentee_run, way, f"{SIGNER} demo")
    assert shown[0] == "-----BEGIN PUBLIC KEY-----"
    assert shown[-2:] == ["the signature is that of the message", "status 0"]


def test_signer(gentee_run: Any, way: str, tmp_path: Path) -> None:
    """The key stays as long as the TEE does, and signatures are checked without it."""
    key, other, file, signature = (tmp_path / name for name in ("key", "other", "file", "made"))
    file.write_bytes(bytes(range(256)) * 100)
    shown = run(
        gentee_run,
        way,
        f"{SIGNER} sign {file} {signature}",
        f"{SIGNER} key {key}",
        f"{SIGNER} verify {key} {file} {signature}",
        f"{SIGNER} verify {key} {key} {signature}",
        f"{SIGNER} verify {file} {file} {signature}",
        f"{SIGNER} sign {tmp_path / 'nothing'} {signature}",
        f"{SIGNER} sign",
    )
    statuses = [line for line in shown if line.startswith("status ")]
    assert statuses == [f"status {number}" for number in (0, 0, 0, 1, 1, 1, 2)]
    assert f"{file}: signed by this key" in shown
    assert "signer_client: not signed by this key" in shown
    # Another TEE has another key.
    assert run(gentee_run, way, f"{SIGNER} key {other}") == ["status 0"]
    assert key.read_bytes() != other.read_bytes()


def test_without_a_device(client: Client) -> None:
    import subprocess

    if Path("/dev/tee0").exists():
        pytest.skip("this machine has a TEE")
    command = f"{client('keystore')} demo"
    finished = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert finished.returncode == 1
    assert "/dev/tee0" in finished.stderr
