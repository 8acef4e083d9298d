# SPDX-License-Identifier: BSD-2-Clause
"""A /dev of our own, made in a child and looked at from there."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from gentee.linux.namespaces import cover_dev, enter_mount_namespace, make_device_files
from tests.helpers import Child

NAMES = ["tee0", "tee1", "teepriv0"]
DEV = Path("/dev")


def names() -> list[str]:
    """What is in /dev now."""
    return sorted(path.name for path in DEV.iterdir())


def ids() -> tuple[object, ...]:
    return os.getresuid(), os.getresgid(), os.umask(0o022)


def entries() -> dict[str, tuple[int, int, int]]:
    """Of the present /dev: kind, device number and inode of what is not a TEE's."""
    found = {}
    for name in names():
        # ptmx: see test_terminals.
        if not name.startswith("tee") and name not in (".host", "ptmx"):
            status = (DEV / name).lstat()
            is_link = stat.S_ISLNK(status.st_mode)
            inode = 0 if is_link else status.st_ino  # links are made anew
            found[name] = (stat.S_IFMT(status.st_mode), status.st_rdev, inode)
    return found


def in_namespace(job: Callable[[], None]) -> None:
    """Run ``job`` in a child that entered a mount namespace, or skip the test."""

    def run(_: socket.socket) -> None:
        try:
            enter_mount_namespace()
        except OSError as error:
            pytest.skip(f"no mount namespace here: {error}")
        job()

    with Child(run):
        pass


def test_dev_is_covered() -> None:
    before = entries()

    def job() -> None:
        cover_dev()
        assert entries() == before
        assert not [name for name in names() if name.startswith("tee")]

    in_namespace(job)


def test_device_files() -> None:
    def job() -> None:
        os.umask(0o777)
        cover_dev()
        files = make_device_files(NAMES)
        os.umask(0o022)
        assert [name for name in names() if name.startswith("tee")] == NAMES
        for name, fd in zip(NAMES, files, strict=True):
            status = (DEV / name).stat()
            assert stat.S_ISREG(status.st_mode)
            assert stat.S_IMODE(status.st_mode) == 0o666
            assert (status.st_dev, status.st_ino) == (os.fstat(fd).st_dev, os.fstat(fd).st_ino)
            assert not os.get_inheritable(fd)
            opened = os.open(DEV / name, os.O_RDWR)
            os.close(opened)
        assert len({os.fstat(fd).st_ino for fd in files}) == len(NAMES)
        with pytest.raises(FileExistsError):
            make_device_files(["tee0"])

    in_namespace(job)


def test_old_entries_work(tmp_path: Path) -> None:
    shm = Path("/dev/shm")
    is_there = shm.is_dir() and os.access(shm, os.W_OK)
    note = shm / f"gentee-test-{os.getpid()}"

    def job() -> None:
        cover_dev()
        with (DEV / "null").open("wb") as null:
            null.write(b"gone")
        with (DEV / "zero").open("rb") as zero:
            assert zero.read(3) == b"\0\0\0"
        with (DEV / "urandom").open("rb") as random:
            assert len(random.read(3)) == 3
        # Links lead where they led: these three to /proc.
        for name in ("fd", "stdin", "stdout"):
            if (DEV / name).is_symlink():
                assert os.readlink(DEV / name).startswith("/proc/")
        if is_there:
            note.write_text("shared with the others")

    in_namespace(job)
    if note.exists():
        assert note.read_text() == "shared with the others"
        note.unlink()


def has_terminals() -> bool:
    try:
        for fd in os.openpty():
            os.close(fd)
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_terminals(), reason="no terminals here")
@pytest.mark.parametrize("times", [1, 2])
def test_terminals(times: int) -> None:
    def job() -> None:
        for _ in range(times):
            cover_dev()
        assert (DEV / "ptmx").stat().st_rdev == os.makedev(5, 2)
        master, slave = os.openpty()
        os.write(slave, b"terminal")
        assert os.read(master, 8) == b"terminal"
        # By its name too, as another program would.
        number = os.ttyname(slave).rpartition("/")[2]
        again = os.open(DEV / "pts" / number, os.O_RDWR | os.O_NOCTTY)
        assert os.fstat(again).st_rdev == os.fstat(slave).st_rdev

    in_namespace(job)


def test_ids_are_the_same(tmp_path: Path) -> None:
    before = ids()
    mine = tmp_path / "mine"
    mine.touch()

    def job() -> None:
        assert ids() == before
        cover_dev()
        assert ids() == before
        status = mine.stat()
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
        new = tmp_path / "new"
        new.touch()

    in_namespace(job)
    new = tmp_path / "new"
    if new.exists():
        assert (new.stat().st_uid, new.stat().st_gid) == (os.geteuid(), os.getegid())


def test_nothing_shows_outside() -> None:
    before = names(), DEV.stat().st_dev
    mounts = Path("/proc/self/mounts").read_text()

    def job() -> None:
        cover_dev()
        make_device_files(["tee9"])
        assert DEV.stat().st_dev != before[1]
        assert "gentee-dev" in Path("/proc/self/mounts").read_text()

    in_namespace(job)
    assert (names(), DEV.stat().st_dev) == before
    assert Path("/proc/self/mounts").read_text() == mounts


def test_twice() -> None:
    """A TEE of the machine is not shown: ours take the names."""

    def job() -> None:
        cover_dev()
        make_device_files(["tee0", "teepriv0"])
        for name in ("team", "tee", "teex0", "tee0x"):  # no TEE's names
            (DEV / name).touch()
        cover_dev()
        left = [name for name in names() if name.startswith("te")]
        assert left == ["team", "tee", "tee0x", "teex0"]
        make_device_files(["tee0", "teepriv0"])

    in_namespace(job)
