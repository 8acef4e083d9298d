# SPDX-License-Identifier: BSD-2-Clause
"""Which opens are of a device: paths in this very process's memory, looked at as a client's."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gentee.core.device import DeviceRegistry
from gentee.core.driver import TeeDesc
from gentee.device.open_path import DevicePaths
from gentee.linux import arch
from gentee.linux.buffers import PinnedBuffer
from gentee.linux.shm import PAGE_SIZE
from gentee.linux.task import Process, Task
from tests.helpers import Child, MinimalOps, stepwise
from tests.unit.linux.test_task import Pages, task_of

ARCH = arch.ARCHES[0]
AT_FDCWD = 0xFFFF_FF9C
NOWHERE = 0x1000


@pytest.fixture(scope="module")
def paths() -> DevicePaths:
    registry = DeviceRegistry()
    registry.tee_device_register(TeeDesc("test", MinimalOps(), impl_id=7))
    registry.tee_device_register(TeeDesc("test", MinimalOps(), impl_id=7, privileged=True))
    return DevicePaths(registry)


@pytest.fixture
def task() -> Iterator[Task]:
    process = Process(os.getpid())
    task = Task(os.getpid(), process)
    yield task
    task.close()
    process.close()


class Opens:
    """The calls of this process; each answers (device, flags)."""

    def __init__(self, paths: DevicePaths, task: Task) -> None:
        self._paths = paths
        self._task = task
        self._pinned: list[PinnedBuffer] = []

    def pin(self, data: bytes) -> int:
        self._pinned.append(PinnedBuffer(bytearray(data)))
        return self._pinned[-1].address

    def call(self, name: str, *args: int, audit: int = ARCH) -> tuple[str | None, int]:
        padded = (*args, *[0] * (4 - len(args)))
        return self._paths.device_of(
            self._task, arch.SYS[audit][name], audit, (padded[0], padded[1], padded[2], padded[3])
        )

    def open(self, path: str | bytes, flags: int = os.O_RDWR) -> tuple[str | None, int]:
        """openat(AT_FDCWD, path, flags), which every architecture has."""
        return self.openat(AT_FDCWD, path, flags)

    def openat(self, folder: int, path: str | bytes, flags: int = 0) -> tuple[str | None, int]:
        return self.call("openat", folder, self.pin(os.fsencode(path) + b"\0"), flags)


@pytest.fixture
def opens(paths: DevicePaths, task: Task) -> Opens:
    return Opens(paths, task)


@pytest.mark.parametrize(
    "path",
    [
        "/dev/tee0",
        "/dev/teepriv0",
        "//dev//tee0",
        "/dev/./tee0",
        "/dev/../dev/tee0",
        "/./dev/tee0",
        "/dev/" + "./" * 200 + "tee0",
        "/" * 3000 + "dev" + "/" * 1000 + "tee0",
    ],
    ids=range(8),
)
def test_paths_of_devices(opens: Opens, path: str) -> None:
    assert opens.open(path, os.O_RDWR | os.O_CLOEXEC) == (
        path.rpartition("/")[2],
        os.O_RDWR | os.O_CLOEXEC,
    )


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/dev",
        "/dev/",
        "/dev/null",
        "/dev/tee",
        "/dev/tee1",
        "/dev/teepriv1",
        "/dev/tee00",
        "/dev/tee0x",
        "/dev/xtee0",
        "/dev/tee0/",
        "/dev/tee0/.",
        "/dev/tee0/tee0",
        "/tee0",
        "/tmp/tee0",
        "/nowhere/tee0",
        "/dev/nowhere/../tee0",  # the kernel does not find it either
        "/dev/null/../tee0",
        b"/dev/tee0\xff",
        b"/d\xffv/tee0",
        "/dev/tée0",
        "/proc/self/fd/0",
    ],
)
def test_other_paths(opens: Opens, path: str | bytes) -> None:
    assert opens.open(path) == (None, 0)


def test_relative_paths(opens: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, path, device in (
        ("/dev", "tee0", "tee0"),
        ("/dev", "./tee0", "tee0"),
        ("/", "dev/tee0", "tee0"),
        ("/", "./dev//tee0", "tee0"),
        ("/", "tee0", None),
        (str(tmp_path), "tee0", None),
        (str(tmp_path), "dev/tee0", None),
    ):
        monkeypatch.chdir(folder)
        assert opens.open(path)[0] == device
        assert opens.openat(0xFFFF_FFFF_FFFF_FF9C, path)[0] == device


def test_paths_from_a_folder(opens: Opens, tmp_path: Path) -> None:
    dev, root, other = (os.open(path, os.O_PATH) for path in ("/dev", "/", tmp_path))
    file = os.open("/dev/null", os.O_RDONLY)
    for folder, path, device in (
        (dev, "tee0", "tee0"),
        (dev, "teepriv0", "teepriv0"),
        (dev, "../dev/tee0", "tee0"),
        (root, "dev/tee0", "tee0"),
        (root, "tee0", None),
        (other, "tee0", None),
        (other, "/dev/tee0", "tee0"),  # then the folder does not matter
        (file, "tee0", None),
        (1000, "tee0", None),
        (1000, "/dev/tee0", "tee0"),
        (dev | 0xABCD_0000_0000, "tee0", "tee0"),  # an int
    ):
        assert opens.openat(folder, path)[0] == device
    for fd in (dev, root, other, file):
        os.close(fd)


def test_links_to_the_folder(opens: Opens, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev")
    (tmp_path / "tee0").symlink_to("/dev/tee0")
    assert opens.open(f"{tmp_path}/link/tee0")[0] == "tee0"
    # Of the last component the name decides, and the folder that it is in.
    assert opens.open(f"{tmp_path}/tee0")[0] is None


def test_each_call_has_its_flags(opens: Opens) -> None:
    path = opens.pin(b"/dev/tee0\0")
    how = opens.pin((os.O_RDWR | os.O_CLOEXEC).to_bytes(8, "little") + bytes(16))
    for audit in arch.SYS:
        expected = {
            "open": (path, os.O_RDWR),
            "creat": (path, 0o644),
            "openat": (AT_FDCWD, path, os.O_RDWR),
            "openat2": (AT_FDCWD, path, how, 24),
        }
        flags = {
            "open": os.O_RDWR,
            "creat": os.O_CREAT | os.O_WRONLY | os.O_TRUNC,
            "openat": os.O_RDWR,
            "openat2": os.O_RDWR | os.O_CLOEXEC,
        }
        for name, args in expected.items():
            if name in arch.SYS[audit]:
                assert opens.call(name, *args, audit=audit) == ("tee0", flags[name])
        assert opens.call("ioctl", path, path, path, audit=audit) == (None, 0)
    assert opens.call("openat2", AT_FDCWD, path, NOWHERE, 24) == (None, 0)


def test_paths_that_are_not_there(opens: Opens) -> None:
    for address in (0, NOWHERE, 2**63, 2**64 - 1):
        assert opens.call("openat", AT_FDCWD, address, 0) == (None, 0)


def test_a_path_at_the_end_of_memory(paths: DevicePaths) -> None:
    """What follows it cannot be read, and need not be."""
    pages = Pages(3)
    whole = b"/dev/tee0\0"
    pages.map[2 * PAGE_SIZE - len(whole) : 2 * PAGE_SIZE] = whole
    with Child(stepwise(lambda: pages.unmap(2))) as child, task_of(child) as task:
        child.step()
        opens = Opens(paths, task)
        end = pages.address + 2 * PAGE_SIZE
        assert opens.call("openat", AT_FDCWD, end - len(whole), 0)[0] == "tee0"
        # Its end is not there: EFAULT, which the kernel says.
        assert opens.call("openat", AT_FDCWD, end - 1, 0) == (None, 0)
        assert opens.call("openat", AT_FDCWD, end, 0) == (None, 0)


def test_paths_without_an_end(opens: Opens) -> None:
    for size in (128, 4096, 10_000):
        address = opens.pin(b"/dev/tee0".rjust(size, b"/") + b"x" * 10_000)
        assert opens.call("openat", AT_FDCWD, address, 0) == (None, 0)
    # The longest that the kernel takes.
    path = b"/dev/tee0".rjust(4095, b"/")
    assert opens.open(path)[0] == "tee0"
    assert opens.open(b"/" + path)[0] is None
