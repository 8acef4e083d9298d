# SPDX-License-Identifier: BSD-2-Clause
"""What ``gentee run`` keeps: its state folder, whose it is, and what a later run finds there."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gentee.device.state_dir import StateDir, own_state
from gentee.secure.state import FILE, State
from gentee.secure.store import TaStore
from tests.functional.conftest import GenteeRun
from tests.outside import Gentee
from tests.signing import UUID, accepted, key_file, signed, source

NUMBER = 41

# Opens the service on the devices that it is given, and says what it answers.
CLIENT = f"""\
import sys
from gentee.client import Context, Value
from gentee.errors import ItemNotFound
for device in sys.argv[1:]:
    with Context(device) as context:
        try:
            session = context.open_session("{UUID}")
        except ItemNotFound:
            print("none")
            continue
        with session:
            value = Value()
            session.invoke(0, value)
            print(value.a)
"""
LOAD = """\
import sys
from gentee.client import Context
with Context(sys.argv[1]) as context:
    print(*context.load(sys.argv[2]))
"""


def client(*devices: str) -> list[str]:
    return [sys.executable, "-c", CLIENT, *(devices or ["/dev/tee0"])]


def home() -> Path:
    """The folder of state folders: this test's own."""
    return Path(os.environ["XDG_STATE_HOME"]) / "gentee"


def default() -> Path:
    return home() / "default"


@pytest.fixture
def keys(tmp_path: Path) -> list[str]:
    """Options for a TEE that takes what :func:`install` installs."""
    return ["--key", key_file(tmp_path), "--strict"]


def install(folder: Path, tmp_path: Path, *, number: int = NUMBER) -> None:
    """Install the service in a TEE that does not run, as ``gentee load`` does."""
    state_dir = own_state(str(folder))
    store = TaStore((), state=State(state_dir.path), keys=accepted(tmp_path))
    try:
        store.install(signed(source(number=number)))
    finally:
        store.close()
        state_dir.close()


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_of_the_users_own(gentee_run: GenteeRun) -> None:
    """It is private whatever the umask says, and has no more than is needed."""
    script = f"umask 0; exec {sys.executable} -m gentee run -- true"
    for _ in range(2):  # in a row: the first has let go of it
        finished = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        assert finished.stderr == ""
    assert mode(home()) == mode(default()) == 0o700
    assert entries(default()) == {"lock"}
    assert mode(default() / "lock") == 0o600
    with_folder = StateDir(str(default()))
    assert not with_folder.is_locked()
    with_folder.close()


def test_installed_services_are_found(
    gentee_run: GenteeRun, way: str, tmp_path: Path, keys: list[str]
) -> None:
    assert gentee_run(client(), options=keys, way=way).stdout == "none\n"
    install(default(), tmp_path)
    for _ in range(2):
        finished = gentee_run(client(), options=keys, way=way)
        assert (finished.stdout, finished.stderr) == (f"{NUMBER}\n", "")


def test_what_a_client_loads_is_kept(
    gentee_run: GenteeRun, way: str, tmp_path: Path, keys: list[str]
) -> None:
    image = tmp_path / "image.ta"
    image.write_bytes(signed(source(number=NUMBER)))
    options = [*keys, "--state", str(tmp_path / "state")]
    load = [sys.executable, "-c", LOAD, "/dev/tee0", str(image)]
    finished = gentee_run(load, options=options, way=way)
    assert finished.stdout == f"{UUID} 1\n", finished.stderr
    assert gentee_run(client(), options=options, way=way).stdout == f"{NUMBER}\n"
    assert not home().exists()
    assert gentee_run(client(), options=keys, way=way).stdout == "none\n"


def test_installed_images_want_their_key(gentee_run: GenteeRun, tmp_path: Path) -> None:
    """They are verified again, by the keys of the run that uses them."""
    install(default(), tmp_path)
    finished = gentee_run(client())
    assert finished.returncode == 1
    assert "0xFFFF000F" in finished.stderr or "SecurityError" in finished.stderr


def test_two_software_tees_keep_apart(
    gentee_run: GenteeRun, tmp_path: Path, keys: list[str]
) -> None:
    options = [*keys, "--driver", "soft", "--driver", "soft"]
    install(default(), tmp_path)
    image = tmp_path / "image.ta"
    image.write_bytes(signed(source(number=7)))
    both = client("/dev/tee0", "/dev/tee1")
    assert gentee_run(both, options=options).stdout == f"{NUMBER}\nnone\n"
    load = [sys.executable, "-c", LOAD, "/dev/tee1", str(image)]
    assert gentee_run(load, options=options).returncode == 0
    finished = gentee_run(both, options=options)
    assert (finished.stdout, finished.stderr) == (f"{NUMBER}\n7\n", "")
    assert mode(default() / "soft-2") == 0o700


def test_ephemeral(gentee_run: GenteeRun, tmp_path: Path, keys: list[str]) -> None:
    """Nothing is made, nothing found; and within the run it is a TEE like another."""
    finished = gentee_run(client(), options=[*keys, "--ephemeral"])
    assert (finished.stdout, finished.stderr) == ("none\n", "")
    assert not home().exists()
    install(default(), tmp_path)
    finished = gentee_run(client(), options=[*keys, "--ephemeral"])
    assert (finished.stdout, finished.stderr) == ("none\n", "")


def test_a_driver_without_a_state(gentee_run: GenteeRun) -> None:
    assert gentee_run(["true"], options=["--driver", "loopback"]).returncode == 0
    assert not home().exists()


# Whose it is.


def test_the_default_is_taken(gentee_run: GenteeRun, tmp_path: Path, keys: list[str]) -> None:
    """One line says so and by whom; the run goes on without it."""
    install(default(), tmp_path)
    taken = own_state(str(default()))
    try:
        finished = gentee_run(client(), options=keys)
    finally:
        taken.close()
    assert (finished.returncode, finished.stdout) == (0, "none\n")
    assert finished.stderr == (
        f"gentee: state folder {default()}: a TEE has it already, process {os.getpid()}; "
        "this run keeps nothing\n"
    )
    finished = gentee_run(client(), options=keys)
    assert (finished.stdout, finished.stderr) == (f"{NUMBER}\n", "")


def test_a_folder_that_is_named_is_taken(gentee_run: GenteeRun, tmp_path: Path) -> None:
    """Who names it wants that one: an error, and the program does not run."""
    taken = own_state(str(tmp_path / "state"))
    try:
        finished = gentee_run(["echo", "ran"], options=["--state", tmp_path / "state"])
    finally:
        taken.close()
    assert (finished.returncode, finished.stdout) == (1, "")
    line, hint = finished.stderr.splitlines()
    assert line == (
        f"gentee: state folder {tmp_path}/state: a TEE has it already, process {os.getpid()}"
    )
    assert hint == f"        to use that TEE: gentee run --tee {tmp_path}/state -- PROGRAM"


def test_a_run_has_it_to_its_end(gentee_run: GenteeRun, tmp_path: Path) -> None:
    """Also if that end is SIGKILL, and while its orphans live on."""
    gentee = Gentee(tmp_path / "messages", ["--state", tmp_path / "state"])
    try:
        folder = StateDir(str(tmp_path / "state"))
        assert folder.is_locked()
        assert folder.holder() == gentee.pid
        gentee.process.send_signal(signal.SIGKILL)
        gentee.process.wait()
        # The shell and the trapped root may still be there: neither has the lock.
        assert not folder.is_locked()
        folder.close()
    finally:
        gentee.kill()
    finished = gentee_run(["true"], options=["--state", tmp_path / "state"])
    assert (finished.returncode, finished.stderr) == (0, "")


def test_nothing_is_said_of_a_run_that_cannot_be(gentee_run: GenteeRun) -> None:
    """A run inside another one finds the state taken, but has something else to say."""
    inner = [sys.executable, "-m", "gentee", "run", "--", "true"]
    finished = gentee_run(inner)
    assert finished.returncode == 1
    assert "another program already listens" in finished.stderr.splitlines()[0]
    assert "state folder" not in finished.stderr


# What cannot be used.


def test_a_home_that_is_none(gentee_run: GenteeRun, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finished = gentee_run(["echo", "ran"], env={"XDG_STATE_HOME": str(tmp_path / "file")})
    assert (finished.returncode, finished.stdout) == (0, "ran\n")
    assert finished.stderr == (
        f"gentee: state folder {tmp_path}/file/gentee/default: Not a directory; "
        "this run keeps nothing\n"
    )
    finished = gentee_run(
        ["true"], env={"XDG_STATE_HOME": str(tmp_path / "file")}, options=["--ephemeral"]
    )
    assert (finished.returncode, finished.stderr) == (0, "")


def test_a_folder_that_others_may_enter(gentee_run: GenteeRun, tmp_path: Path) -> None:
    default().mkdir(parents=True)
    default().chmod(0o777)
    finished = gentee_run(["true"])
    assert finished.returncode == 0
    (line,) = finished.stderr.splitlines()
    assert "others may look into it or write there; this run keeps nothing" in line
    finished = gentee_run(["true"], options=["--state", default()])
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[1] == f"        chmod 700 {default()}"
    assert entries(default()) == set()


def test_a_damaged_state(gentee_run: GenteeRun, tmp_path: Path) -> None:
    """It is left as it is: who wants to run without it says so."""
    own_state(str(default())).close()
    path = default() / FILE
    path.write_bytes(b"not a database" * 10)
    path.chmod(0o600)
    finished = gentee_run(["true"])
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"gentee: {path}: not a TEE's state, or damaged\n")
    assert path.read_bytes() == b"not a database" * 10
    assert gentee_run(["true"], options=["--ephemeral"]).returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--state", "x", "--ephemeral"], "--state and --ephemeral contradict each other"),
        (["--state", ""], "--state '' is no folder"),
        (["--strict"], "strict without a key accepts nothing"),
    ],
)
def test_wrong_options(gentee_run: GenteeRun, options: list[str], message: str) -> None:
    finished = gentee_run(["true"], options=options)
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[0] == f"gentee: {message}"
