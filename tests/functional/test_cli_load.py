# SPDX-License-Identifier: BSD-2-Clause
"""``gentee load``, ``unload`` and ``ls`` on TEEs that run and on those that do not."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gentee.cli.main import main
from gentee.device import control
from gentee.device.state_dir import StateDir, own_state
from gentee.errors import TaImageError, TeeError
from gentee.secure.keys import AcceptedKeys, fingerprint
from gentee.secure.service import format_uuid
from gentee.secure.state import State
from gentee.secure.store import TaStore
from tests.signing import UUID, UUID_BYTES, key, key_file, packed, signed, source, uuid_of

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds
SIGNER = fingerprint(key().public_key())
OTHER = uuid_of(7)

Finished = subprocess.CompletedProcess[str]


def gentee(*arguments: str | Path) -> Finished:
    paths = [os.environ.get("PYTHONPATH", ""), str(ROOT)]
    return subprocess.run(
        [sys.executable, "-m", "gentee", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
    )


@pytest.fixture
def public(tmp_path: Path) -> str:
    """The file of the key that signs here."""
    return key_file(tmp_path)


def image(folder: Path, version: int = 1, uuid: str = UUID, name: str = "signed") -> Path:
    """The file of a signed image."""
    path = folder / f"{name}-{version}.ta"
    path.write_bytes(signed(source(uuid, version=version, name=name)))
    return path


def rows(*options: str | Path) -> dict[str, dict[str, Any]]:
    """What ``gentee ls`` shows, by UUID."""
    finished = gentee("ls", "--json", *options)
    assert finished.returncode == 0, finished.stderr
    return {row["uuid"]: row for row in json.loads(finished.stdout)["services"]}


# A TEE that does not run


def test_load_and_unload(tmp_path: Path, public: str) -> None:
    state = tmp_path / "state"
    first, second = image(tmp_path), image(tmp_path, 2)
    finished = gentee("load", "--state", state, first, "--key", public)
    line = f"{UUID} signed, version 1, signed by {SIGNER[:16]}: installed\n"
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, line, "")
    finished = gentee("load", "--state", state, second, "--key", public)
    assert finished.stdout.endswith(f"version 2, signed by {SIGNER[:16]}: replaced version 1\n")

    row = rows("--state", state)[UUID]
    assert (row["name"], row["version"], row["installed"]) == ("signed", 2, True)
    assert (row["signer"], row["file"], row["state"]) == (SIGNER, "", "")
    shown = gentee("ls", "--state", state).stdout
    assert f"installed, signed by {SIGNER[:16]}\n" in shown

    finished = gentee("unload", "--state", state, "signed")
    line = f"{UUID} signed, version 2: unloaded\n"
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, line, "")
    assert UUID not in rows("--state", state)
    # Its version stays known.
    finished = gentee("load", "--state", state, first, "--key", public)
    assert finished.returncode == 1
    assert finished.stdout == ""
    error, hint = finished.stderr.splitlines()
    assert error == (
        f"gentee: {first}: version 1 is lower than 2, which was there before "
        "(TEE_ERROR_ACCESS_CONFLICT)"
    )
    assert "--ta-version" in hint


def test_default_state(tmp_path: Path, public: str) -> None:
    """Without an option it is the state of plain gentee run, which ls shows too."""
    assert gentee("load", image(tmp_path), "--key", public).returncode == 0
    assert rows()[UUID]["installed"]
    assert rows("--tee", "default")[UUID]["installed"]
    assert UUID not in rows("--state", make_state(tmp_path / "another"))
    assert gentee("unload", UUID).returncode == 0
    assert UUID not in rows()


def make_state(path: Path) -> Path:
    path.mkdir(mode=0o700)
    return path


def test_name_of_a_tee(tmp_path: Path, public: str) -> None:
    assert gentee("load", "--tee", "mine", image(tmp_path), "--key", public).returncode == 0
    assert UUID in rows("--tee", "mine")
    assert UUID not in rows()
    finished = gentee("load", "--tee", "a b", image(tmp_path))
    assert finished.returncode == 1
    assert finished.stderr.startswith("gentee: 'a b' cannot be the name of a TEE\n")


def test_several_images(tmp_path: Path, public: str) -> None:
    """One that is refused does not keep the others out."""
    state = tmp_path / "state"
    good, other = image(tmp_path), image(tmp_path, 1, OTHER, "other")
    (tmp_path / "notes").write_text("notes")
    finished = gentee("load", "--state", state, "--key", public, good, tmp_path / "notes", other)
    assert finished.returncode == 1
    assert len(finished.stdout.splitlines()) == 2
    assert finished.stderr.startswith(f"gentee: {tmp_path / 'notes'}: not a signed image\n")
    assert {UUID, OTHER} <= rows("--state", state).keys()

    finished = gentee("unload", "--state", state, "nobody", UUID, "--json", "other", UUID)
    assert finished.returncode == 1
    found = json.loads(finished.stdout)
    assert [entry.get("uuid") for entry in found] == [None, UUID, OTHER, None]
    assert found[0]["error"] == "nobody: not installed"


def test_load_json(tmp_path: Path, public: str) -> None:
    arguments = ["load", "--json", "--state", str(tmp_path / "s"), "--key", public]
    first = image(tmp_path)
    finished = gentee(*arguments, first, tmp_path / "nothing")
    assert (finished.returncode, finished.stderr) == (1, "")
    done, failed = json.loads(finished.stdout)
    assert done == {
        "file": str(first),
        "uuid": UUID,
        "name": "signed",
        "version": 1,
        "signer": SIGNER,
        "replaced": None,
    }
    assert failed["error"].endswith("nothing: No such file or directory")
    finished = gentee(*arguments, first)
    assert json.loads(finished.stdout)[0]["replaced"] == 1


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"class Keeper(TrustedApplication): pass\n", "not a signed image", "gentee ta pack"),
        (packed(source()), "a package that is not signed", "gentee ta sign"),
        (b"\x7fELF" + bytes(60), "an ELF file that is not signed", "gentee ta sign"),
        (b"", "not a signed image", "gentee ta pack"),
        (signed(source()), "signature is damaged (TEE_ERROR_SECURITY)", "--key FILE"),
        (signed(source())[:-1], "signature is damaged (TEE_ERROR_SECURITY)", "--key FILE"),
        (b"HSTO" + bytes(60), "(TEE_ERROR_SECURITY)", "gentee ta inspect"),
    ],
    ids=["source", "package", "elf", "empty", "key", "cut", "header"],
)
def test_refused(tmp_path: Path, content: bytes, message: str, hint: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    finished = gentee("load", "--state", tmp_path / "state", path)
    assert (finished.returncode, finished.stdout) == (1, "")
    line, advice = finished.stderr.splitlines()
    assert line.startswith(f"gentee: {path}: ")
    assert line.endswith(message)
    assert hint in advice


def test_damaged_payload(tmp_path: Path, public: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(signed(source())[:-1] + b"x")
    finished = gentee("load", "--state", tmp_path / "state", path, "--key", public)
    assert finished.returncode == 1
    assert "the digest is another" in finished.stderr
    assert "gentee ta inspect" in finished.stderr


def test_two_of_a_name(tmp_path: Path, public: str) -> None:
    state = tmp_path / "state"
    gentee("load", "--state", state, image(tmp_path), "--key", public)
    gentee("load", "--state", state, image(tmp_path, 2, OTHER), "--key", public)
    finished = gentee("unload", "--state", state, "signed")
    assert finished.returncode == 1
    line, hint = finished.stderr.splitlines()
    assert line == "gentee: signed: 2 services have this name"
    assert UUID in hint
    assert OTHER in hint
    assert gentee("unload", "--state", state, OTHER).returncode == 0
    assert gentee("unload", "--state", state, "signed").returncode == 0


def test_no_state(tmp_path: Path) -> None:
    finished = gentee("unload", "--state", tmp_path / "nowhere", "signed")
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"gentee: state folder {tmp_path / 'nowhere'}: there is none")
    assert not (tmp_path / "nowhere").exists()
    assert gentee("ls", "--state", tmp_path / "nowhere").returncode == 1


def test_a_state_below_a_file(tmp_path: Path) -> None:
    """What cannot be looked at is not said to be missing."""
    (tmp_path / "file").write_text("")
    finished = gentee("ls", "--state", tmp_path / "file" / "state")
    assert finished.returncode == 1
    assert finished.stderr == f"gentee: state folder {tmp_path}/file/state: Not a directory\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["load"], "load: no image to load"),
        (["load", "x", "--strict"], "load: --strict without --key accepts nothing"),
        (["load", "x", "--tee", "a", "--state", "b"], "load: --tee and --state both say which TEE"),
        (["unload"], "unload: no service to unload"),
        (["ls", "--strict"], "ls: --strict without --key accepts nothing"),
    ],
)
def test_wrong_command_lines(
    capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    assert capfd.readouterr().err.startswith(f"gentee: {message}\n        ")


# The TEE of a run


def test_inside_a_run(gentee_run: Any, way: str, tmp_path: Path, public: str) -> None:
    """The device loads, by the keys of the run; what is loaded is used at once."""
    first = image(tmp_path)
    script = (
        f"{sys.executable} -m gentee load {first} && "
        f"{sys.executable} -m gentee task signed 0 value-out"
    )
    finished = gentee_run(["sh", "-c", script], way=way, options=["--key", public])
    assert finished.returncode == 0, finished.stderr
    line, result = finished.stdout.splitlines()
    assert line == f"{UUID} signed, version 1: installed"
    assert result == "0: value 1 (0x1), 0 (0x0)"


def test_loaded_before_a_run(gentee_run: Any, way: str, tmp_path: Path, public: str) -> None:
    """A run has what was loaded into its state, by the keys of the run."""
    assert gentee("load", image(tmp_path), "--key", public).returncode == 0
    argv = [sys.executable, "-m", "gentee", "task", "signed", "0", "value-out"]
    finished = gentee_run(argv, way=way, options=["--key", public, "--strict"])
    assert (finished.returncode, finished.stdout) == (0, "0: value 1 (0x1), 0 (0x0)\n")
    finished = gentee_run(argv, way=way)
    assert finished.returncode == 1
    assert "TEE_ERROR_SECURITY" in finished.stderr


def test_inside_a_run_keys_are_the_runs(gentee_run: Any, tmp_path: Path, public: str) -> None:
    argv = [sys.executable, "-m", "gentee", "load", image(tmp_path), "--key", public]
    finished = gentee_run(argv)
    assert finished.returncode == 2
    assert finished.stderr.startswith("gentee: load: the TEE of this run has its keys\n")


# A TEE that runs: here only its control socket, with a real store behind it.


class Server:
    """Answers LIST, LOAD and UNLOAD of one connection after the other, as the TEE does."""

    def __init__(self, state_dir: StateDir, public: str) -> None:
        self.store = TaStore(
            [], state=State(state_dir.path), keys=AcceptedKeys([public], strict=True)
        )
        import socket

        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(state_dir.address())
        self.socket.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while True:
            sock, _address = self.socket.accept()
            with sock:
                while self.answer(sock):
                    pass

    def answer(self, sock: Any) -> bool:
        import socket

        data, fds = control.receive(sock)
        if not data:
            return False
        code, payload = control.decode_request(data, len(fds))
        try:
            if code == control.LIST:
                fd = os.memfd_create("list")
                with open(fd, "w+") as file:
                    json.dump(self.listed(), file)
                    file.flush()
                    socket.send_fds(sock, [control.encode(control.OK)], [fd])
            elif code == control.LOAD:
                with open(fds.pop(), "rb") as image_file:
                    service = self.store.install(image_file.read())
                answer = control.IMAGE.pack(service.uuid, service.version)
                sock.send(control.encode(control.OK, answer))
            elif code == control.UNLOAD:
                self.store.uninstall(payload)
                sock.send(control.encode(control.OK))
        except (TaImageError, TeeError) as error:
            sock.send(control.encode_text(control.REFUSED, str(error)))
        return True

    def listed(self) -> list[dict[str, Any]]:
        return [
            {
                "uuid": format_uuid(service.uuid),
                "name": service.name,
                "version": service.version,
                "installed": service.installed,
                "signer": service.signer,
                "state": "active",
                "sessions": 2,
            }
            for service in self.store.all()
        ]


@pytest.fixture
def server(tmp_path: Path, public: str) -> Iterator[Server]:
    state_dir = own_state(str(tmp_path / "running"))
    server = Server(state_dir, public)
    yield server
    state_dir.close()


def test_a_tee_that_runs(server: Server, tmp_path: Path) -> None:
    state = tmp_path / "running"
    finished = gentee("load", "--state", state, image(tmp_path), image(tmp_path, 2))
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[1].endswith(": replaced version 1")
    assert server.store.all()[0].version == 2
    assert rows("--state", state)[UUID]["state"] == "active"
    shown = gentee("ls", "--state", state).stdout.splitlines()
    assert shown[0].split() == ["UUID", "NAME", "VERSION", "FLAGS", "STATE", "FILE"]
    assert shown[1].split()[:5] == [UUID, "signed", "2", "-", "active"]

    finished = gentee("load", "--state", state, tmp_path / "signed-1.ta")
    assert finished.returncode == 1
    assert "version 1 is lower than 2" in finished.stderr
    assert "--ta-version" in finished.stderr
    finished = gentee("unload", "--state", state, "signed")
    assert finished.stdout == f"{UUID} signed, version 2: unloaded\n"
    assert server.store.all() == []
    assert server.store.state.floor(UUID_BYTES) == 2


def test_keys_of_a_tee_that_runs(server: Server, tmp_path: Path, public: str) -> None:
    state = tmp_path / "running"
    stranger = tmp_path / "stranger.ta"
    stranger.write_bytes(signed(source(), private=key(2048, 1)))
    finished = gentee("load", "--state", state, stranger)
    assert finished.returncode == 1
    assert "accepted key" in finished.stderr
    assert "when that is started" in finished.stderr
    for command in (["load", stranger], ["ls"]):
        finished = gentee(*command, "--state", state, "--key", public)
        assert finished.returncode == 1
        assert "its keys were given when it was started" in finished.stderr


def test_a_tee_that_takes_no_commands(tmp_path: Path) -> None:
    state_dir = own_state(str(tmp_path / "running"))
    for command in (["load", image(tmp_path)], ["unload", "signed"], ["ls"]):
        finished = gentee(*command, "--state", tmp_path / "running")
        assert finished.returncode == 1
        assert f"process {os.getpid()}, takes no commands" in finished.stderr
    state_dir.close()


def test_the_default_state_is_taken() -> None:
    from gentee.device.state_dir import folder_of

    state_dir = own_state(folder_of("default"))
    finished = gentee("ls")
    assert finished.returncode == 0
    assert finished.stderr.startswith("gentee: a TEE has the default state: ")
    assert "keystore" in finished.stdout
    state_dir.close()


@pytest.mark.parametrize("command", [["load"], ["unload", "signed"], ["ls"]])
def test_damaged_state(tmp_path: Path, public: str, command: list[str]) -> None:
    """One plain line, and the state is left as it is."""
    state = tmp_path / "state"
    first = image(tmp_path)
    assert gentee("load", "--state", state, first, "--key", public).returncode == 0
    database = state / "tee.db"
    content = bytearray(database.read_bytes())
    content[100:] = bytes(len(content) - 100)
    database.write_bytes(content)
    arguments = [*command, str(first)] if command == ["load"] else command
    finished = gentee(*arguments, "--state", state)
    assert finished.returncode == 1
    assert finished.stderr.startswith("gentee: ")
    assert "tee.db" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert database.read_bytes() == content
