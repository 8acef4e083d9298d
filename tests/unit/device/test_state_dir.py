# SPDX-License-Identifier: BSD-2-Clause
"""State folders: names, where they are, who may have them."""

import os
import socket
import stat
from pathlib import Path

import pytest

from gentee.device.state_dir import (
    DEFAULT_NAME,
    StateDir,
    StateTaken,
    check_name,
    folder_of,
    own_state,
    state_home,
)
from gentee.errors import UserError
from tests.helpers import Child, open_descriptors


@pytest.mark.parametrize("name", ["a", DEFAULT_NAME, "Keys-2.old_", "x" * 64])
def test_names(name: str) -> None:
    assert check_name(name) == name
    assert folder_of(name) == f"{state_home()}/{name}"


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a b", "ä", "a\n", "a\0", "x" * 65, "-rf\t", "a:b", "~"]
)
def test_no_names(name: str) -> None:
    with pytest.raises(UserError, match="cannot be the name"):
        folder_of(name)


def test_a_path_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert folder_of("./x") == str(tmp_path / "x")
    assert folder_of("/srv/../tee") == "/tee"


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    assert state_home() == "/home/somebody/.local/state/gentee"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert state_home() == "/home/somebody/.local/state/gentee"
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert state_home() == "/var/state/gentee"


def test_one_at_a_time(tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b" / "state")
    before = open_descriptors()
    first = own_state(path)
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o700
    assert first.is_locked()
    with pytest.raises(StateTaken, match=f"process {os.getpid()}") as error:
        own_state(path)
    assert error.value.holder == os.getpid()
    second = StateDir(path)
    assert second.is_locked()
    assert not second.lock()
    first.close()
    assert not second.is_locked()
    assert second.lock()
    second.close()
    second.close()
    assert open_descriptors() == before


def test_a_killed_holder(tmp_path: Path) -> None:
    """The lock decides, not the number that is left in the file."""

    def job(sock: socket.socket) -> None:
        state = own_state(str(tmp_path / "state"))
        sock.send(b".")
        sock.recv(1)
        state.close()

    with Child(job) as child:
        child.socket.recv(1)
        with pytest.raises(StateTaken, match=f"process {child.pid}"):
            own_state(str(tmp_path / "state"))
        child.kill()
        state = own_state(str(tmp_path / "state"))
        assert state.holder() == os.getpid()
        state.close()


def test_a_forked_process_does_not_keep_it(tmp_path: Path) -> None:
    state = own_state(str(tmp_path / "state"))
    with Child(lambda sock: sock.recv(1)):
        state.close()
        own_state(str(tmp_path / "state")).close()


def test_a_lock_file_that_says_nonsense(tmp_path: Path) -> None:
    state = own_state(str(tmp_path / "state"))
    for text in ("", "x", "-5", "9" * 50):
        (tmp_path / "state" / "lock").write_text(text)
        with pytest.raises(StateTaken):
            own_state(str(tmp_path / "state"))
    state.close()


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o750, 0o720, 0o701])
def test_a_folder_for_others(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(UserError, match="others may look into it"):
        own_state(str(path))
    path.chmod(0o710)  # as a TEE with a group leaves it
    own_state(str(path)).close()


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(0o700)
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with pytest.raises(UserError):
        own_state(str(tmp_path / "link"))
    target = tmp_path / "precious"
    target.write_text("precious")
    (tmp_path / "folder" / "lock").symlink_to(target)
    with pytest.raises(UserError):
        own_state(str(tmp_path / "folder"))
    assert target.read_text() == "precious"


@pytest.mark.root
def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir(0o700)
    os.chown(path, 12345, 12345)
    with pytest.raises(UserError, match="belongs to user 12345"):
        own_state(str(path))


def test_a_long_path_has_a_socket(tmp_path: Path) -> None:
    """A sockaddr_un has 108 bytes."""
    state = own_state(str(tmp_path / ("x" * 200)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(state.address())
        assert Path(state.path, "socket").is_socket()
    state.close()
