# SPDX-License-Identifier: BSD-2-Clause
"""TAs in images of every form under ``gentee run``: opened, or refused with OP-TEE's code."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gentee.abi import gp
from gentee.secure import images, subkeys
from gentee.secure.service import format_uuid, parse_uuid
from gentee.secure.ta_encryption import default_key
from tests import signing
from tests.functional.conftest import GenteeRun
from tests.signing import UUID, UUID_BYTES, chain, key
from tests.ta_build import ARCHES
from tests.ta_run import ta_bytes
from tests.unit.secure.test_images import made

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds

CLIENT = f"""\
from gentee.client import Context, Value
from gentee.errors import TeeError
import sys
for uuid in sys.argv[1:] or ["{UUID}"]:
    try:
        with Context() as context, context.open_session(uuid) as session:
            value = Value(3, 4)
            session.invoke(1, value)
            print(value.a, value.b)
    except TeeError as error:
        print(f"{{error.code:#x}}")
"""

NAME = b"hello".ljust(16, b"\0")


@pytest.fixture(params=ARCHES)
def hello(request: pytest.FixtureRequest) -> bytes:
    """The ELF file of a TA that swaps two numbers."""
    return ta_bytes("hello", request.param)


@pytest.fixture
def options(tmp_path: Path) -> list[str | Path]:
    """A TEE with a folder of TAs, the run's key, and nothing kept."""
    (tmp_path / "tas").mkdir()
    return ["--ephemeral", "--ta-dir", tmp_path / "tas", "--key", signing.key_file(tmp_path)]


def put(tmp_path: Path, data: bytes, uuid: str = UUID, end: str = ".ta") -> Path:
    path = tmp_path / "tas" / f"{uuid}{end}"
    path.write_bytes(data)
    return path


def opened(
    gentee_run: GenteeRun, options: list[str | Path], *more: str | Path, uuid: str = UUID
) -> tuple[str, str]:
    """What the client says, and what gentee says."""
    argv = [sys.executable, "-c", CLIENT, uuid]
    finished = gentee_run(argv, options=[*options, *more])
    assert finished.returncode == 0, finished.stderr
    return finished.stdout, finished.stderr


WORKS = "4 3\n"


def code(number: int) -> str:
    return f"{number:#x}\n"


def bootstrap(hello: bytes) -> bytes:
    return images.sign(hello, key(), UUID_BYTES, 1)


def legacy(hello: bytes) -> bytes:
    return made(img_type=0, middle=b"", payload=hello)


def encrypted(hello: bytes) -> bytes:
    enc_key = default_key(key().public_key())
    return images.sign(hello, key(), UUID_BYTES, 1, enc_key=enc_key)


def behind_subkeys(hello: bytes) -> bytes:
    before = chain(
        (UUID_BYTES, key(2048, 1), b"", {"max_depth": 5}),
        (UUID_BYTES, key(2048, 2), b"", {"max_depth": 4}),
    )
    return before + images.sign(hello, key(2048, 2), UUID_BYTES, 1)


@pytest.mark.parametrize("form", [bootstrap, legacy, encrypted, behind_subkeys])
def test_each_form(
    form: Callable[[bytes], bytes],
    hello: bytes,
    tmp_path: Path,
    options: list[str | Path],
    gentee_run: GenteeRun,
) -> None:
    data = form(hello)
    put(tmp_path, data)
    assert opened(gentee_run, options) == (WORKS, "")
    put(tmp_path, data[:-1] + bytes([data[-1] ^ 1]))
    said, warned = opened(gentee_run, options)
    assert said == code(gp.TEE_ERROR_SECURITY)
    assert "not offered" in warned
    # Under another name it is not what it says, unless it says none.
    other = signing.uuid_of(3)
    put(tmp_path, data, other)
    said, _warned = opened(gentee_run, options, uuid=other)
    assert said == (WORKS if form is legacy else code(gp.TEE_ERROR_SECURITY))


def test_a_namespace(
    hello: bytes, tmp_path: Path, options: list[str | Path], gentee_run: GenteeRun
) -> None:
    uuid = subkeys.next_uuid(UUID_BYTES, NAME)
    text = format_uuid(uuid)
    before = chain((UUID_BYTES, key(2048, 1), NAME, {}))
    put(tmp_path, before + images.sign(hello, key(2048, 1), uuid, 1), text)
    assert opened(gentee_run, options, uuid=text) == (WORKS, "")


def test_keys_to_decrypt_with(
    hello: bytes, tmp_path: Path, options: list[str | Path], gentee_run: GenteeRun
) -> None:
    device, class_wide = tmp_path / "device.key", tmp_path / "class.key"
    device.write_bytes(b"d" * 32)
    class_wide.write_text((b"c" * 32).hex())
    put(tmp_path, images.sign(hello, key(), UUID_BYTES, 1, enc_key=b"d" * 32))
    other = signing.uuid_of(4)
    put(
        tmp_path,
        images.sign(
            hello, key(), parse_uuid(other), 1, enc_key=b"c" * 32, class_wide=True
        ),
        other,
    )  # fmt: skip
    both = ("--ta-enc-key", device, "--ta-class-key", class_wide)
    assert opened(gentee_run, options, *both) == (WORKS, "")
    assert opened(gentee_run, options, *both, uuid=other) == (WORKS, "")
    for more in ((), ("--ta-enc-key", class_wide)):
        said, warned = opened(gentee_run, options, *more)
        assert said == code(gp.TEE_ERROR_SECURITY)
        assert "cannot be decrypted" in warned


def test_a_key_that_is_none(
    tmp_path: Path, options: list[str | Path], gentee_run: GenteeRun
) -> None:
    """It is told before the program starts."""
    (tmp_path / "enc.key").write_text("not a key")
    finished = gentee_run(["true"], options=[*options, "--ta-enc-key", tmp_path / "enc.key"])
    assert finished.returncode != 0
    assert "no key for AES-256" in finished.stderr


@pytest.mark.parametrize("end", [".ta", ".elf"])
def test_without_a_signature(
    end: str, hello: bytes, tmp_path: Path, options: list[str | Path], gentee_run: GenteeRun
) -> None:
    path = put(tmp_path, hello, end=end)
    said, warned = opened(gentee_run, options, "--allow-unsigned")
    assert said == WORKS
    assert warned == f"gentee: {path}: not signed, accepted by --allow-unsigned\n"
    said, warned = opened(gentee_run, options)
    if end == ".ta":
        assert said == code(gp.TEE_ERROR_SECURITY)
        assert "--allow-unsigned takes it" in warned
    else:
        assert said == code(gp.TEE_ERROR_ITEM_NOT_FOUND)
        assert warned == ""


def test_listed_as_they_are_run(hello: bytes, tmp_path: Path, options: list[str | Path]) -> None:
    """gentee ls, told what gentee run is told: also what is encrypted or not signed."""
    device, class_wide = tmp_path / "device.key", tmp_path / "class.key"
    device.write_bytes(b"d" * 32)
    class_wide.write_bytes(b"c" * 32)
    put(tmp_path, hello, end=".elf")
    others = [signing.uuid_of(number) for number in (4, 5)]
    for uuid, is_class_wide, enc_key in zip(
        others, (False, True), (b"d" * 32, b"c" * 32), strict=True
    ):
        image = images.sign(
            hello, key(), parse_uuid(uuid), 1, enc_key=enc_key, class_wide=is_class_wide
        )
        put(tmp_path, image, uuid)
    keys: list[str | Path] = ["--ta-enc-key", device, "--ta-class-key", class_wide]
    listed = gentee("ls", *options[1:], *keys, "--allow-unsigned")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert all(uuid in listed.stdout for uuid in (UUID, *others))
    listed = gentee("ls", *options[1:])
    assert listed.returncode == 0
    assert not any(uuid in listed.stdout for uuid in (UUID, *others))
    assert listed.stderr.count("cannot be decrypted") == 2
    wrong = gentee("ls", *options[1:], "--strict", "--allow-unsigned")
    assert wrong.returncode == 2
    assert "contradict each other" in wrong.stderr


def test_by_manifest(hello: bytes, tmp_path: Path, gentee_run: GenteeRun) -> None:
    (tmp_path / "tas").mkdir()
    put(tmp_path, hello)
    other = signing.uuid_of(5)
    put(
        tmp_path,
        images.sign(hello, key(), parse_uuid(other), 1, enc_key=b"k" * 32),
        other,
    )
    (tmp_path / "enc.key").write_bytes(b"k" * 32)
    signing.key_file(tmp_path)
    (tmp_path / "tee.toml").write_text(
        'ta-dirs = ["tas"]\nkeys = ["key.pub.pem"]\nta-enc-key = "enc.key"\n'
        "allow-unsigned = true\nephemeral = true\n"
    )
    options: list[str | Path] = ["--manifest", tmp_path / "tee.toml"]
    assert opened(gentee_run, options)[0] == WORKS
    assert opened(gentee_run, options, uuid=other)[0] == WORKS


def test_subkeys_do_not_roll_back(hello: bytes, tmp_path: Path, gentee_run: GenteeRun) -> None:
    """Not in a later run either: TEE_ERROR_SECURITY, where a TA's own version has another code."""
    (tmp_path / "tas").mkdir()
    options: list[str | Path] = [
        "--state", tmp_path / "state", "--ta-dir", tmp_path / "tas",
        "--key", signing.key_file(tmp_path),
    ]  # fmt: skip

    def image(subkey_version: int, version: int) -> bytes:
        before = chain((UUID_BYTES, key(2048, 1), b"", {"version": subkey_version}))
        return before + images.sign(hello, key(2048, 1), UUID_BYTES, version)

    put(tmp_path, image(2, 5))
    assert opened(gentee_run, options) == (WORKS, "")
    put(tmp_path, image(1, 6))
    assert opened(gentee_run, options)[0] == code(gp.TEE_ERROR_SECURITY)
    put(tmp_path, image(2, 4))
    assert opened(gentee_run, options)[0] == code(gp.TEE_ERROR_ACCESS_CONFLICT)
    put(tmp_path, image(3, 5))
    assert opened(gentee_run, options) == (WORKS, "")


def test_loaded_while_nothing_runs(hello: bytes, tmp_path: Path, gentee_run: GenteeRun) -> None:
    """An encrypted image into the state of a TEE, and then used by a run of it."""
    (tmp_path / "enc.key").write_bytes(b"k" * 32)
    image = tmp_path / "image.ta"
    image.write_bytes(images.sign(hello, key(), UUID_BYTES, 1, enc_key=b"k" * 32))
    state: list[str | Path] = ["--state", tmp_path / "state", "--key", signing.key_file(tmp_path)]
    refused = gentee("load", *state, image)
    assert refused.returncode == 1
    assert "cannot be decrypted" in refused.stderr
    assert "--ta-enc-key" in refused.stderr
    keys: list[str | Path] = ["--ta-enc-key", tmp_path / "enc.key"]
    loaded = gentee("load", *state, *keys, image)
    assert (loaded.returncode, loaded.stderr) == (0, "")
    assert opened(gentee_run, [*state, *keys]) == (WORKS, "")


def test_a_library_that_is_loaded(tmp_path: Path) -> None:
    image = tmp_path / "image.ta"
    image.write_bytes(images.sign(signing.elf(is_main=False), key(), UUID_BYTES, 1))
    state = ["--state", str(tmp_path / "state")]
    loaded = gentee("load", *state, "--key", signing.key_file(tmp_path), image)
    assert loaded.stdout.startswith(f"{UUID} {UUID[:8]}, version 1, signed by ")
    listed = gentee("ls", *state)
    assert "library of TAs for aarch64" in listed.stdout
    unloaded = gentee("unload", *state, UUID)
    assert unloaded.stdout == f"{UUID} {UUID[:8]}, version 1: unloaded\n"


def gentee(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    paths = [os.environ.get("PYTHONPATH", ""), str(ROOT)]
    return subprocess.run(
        [sys.executable, "-m", "gentee", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
    )
