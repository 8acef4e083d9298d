# SPDX-License-Identifier: BSD-2-Clause
"""The decoder of trapped opens takes any call and any path, and finds the devices among them."""

import errno
import os
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from gentee.core.device import DeviceRegistry
from gentee.device.open_path import DevicePaths
from gentee.linux import arch
from gentee.linux.task import Task
from tests.helpers import make_device

BASE = 0x10000
SIZE = 8192
AT_FDCWD = 0xFFFF_FF9C

DEV = (1, 1)  # the identity of /dev


class Client:
    """What of a task the decoder needs: memory, and which folder a path means."""

    def __init__(self, memory: bytes, folders: dict[bytes, tuple[int, int]]) -> None:
        self.memory = memory
        self.folders = folders

    def read_some(self, address: int, size: int) -> bytes:
        data = b""
        if BASE <= address < BASE + len(self.memory):
            data = self.memory[address - BASE : address - BASE + size]
        if not data:
            raise OSError(errno.EFAULT, "client memory")
        return data

    def read(self, address: int, size: int) -> bytes:
        data = self.read_some(address, size)
        if len(data) != size:
            raise OSError(errno.EFAULT, "client memory")
        return data

    def path_identity(self, name: bytes) -> tuple[int, int]:
        assert len(name) < 2 * 4096
        assert b"\0" not in name
        try:
            return self.folders[os.path.normpath(name)]
        except KeyError:
            raise OSError(errno.ENOENT, "no such folder") from None


FOLDERS = {
    b"../root/dev": DEV,
    b"../cwd": DEV,
    b"5": DEV,
    b"../root/tmp": (1, 2),
    b"../root": (1, 3),
    b"../cwd/dev": (1, 2),
}

COMPONENT = st.sampled_from(
    [
        b"dev",
        b"tee0",
        b"teepriv0",
        b"tee1",
        b"tee",
        b"tmp",
        b".",
        b"",
        b"tee\xff",
        b"tee0\n",
        b"etc",
    ]
)
PATH = st.one_of(
    st.lists(COMPONENT, max_size=6).map(b"/".join),
    st.lists(COMPONENT, max_size=6).map(lambda parts: b"/" + b"/".join(parts)),
    st.binary(max_size=300).map(lambda data: data.replace(b"\0", b"/") + b"/tee0"),
    st.integers(4000, 4200).map(lambda count: b"/" * count + b"dev/tee0"),
    st.binary(max_size=5000),
)
NUMBER = st.one_of(
    st.sampled_from([0, 5, AT_FDCWD, AT_FDCWD | 0xFFFF_FFFF << 32, 1 << 31, (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
)
CALL = st.sampled_from(
    [(nr, audit) for audit, numbers in arch.SYS.items() for nr in numbers.values()]
)


def registry() -> DeviceRegistry:
    found = DeviceRegistry()
    found.tee_device_register(make_device().desc)
    return found


PATHS = DevicePaths(registry())


@given(call=CALL, path=PATH, ended=st.booleans(), numbers=st.tuples(NUMBER, NUMBER, NUMBER))
def test_any_open(
    call: tuple[int, int], path: bytes, ended: bool, numbers: tuple[int, int, int]
) -> None:
    nr, audit = call
    client = cast(Task, Client(path + b"\0" * ended, FOLDERS))
    names = {number: name for name, number in arch.SYS[audit].items()}
    for where in (BASE, BASE + 1, BASE + len(path), numbers[0]):
        if names[nr] in ("openat", "openat2"):
            args = (numbers[0], where, numbers[1], numbers[2])
        else:
            args = (where, numbers[0], numbers[1], numbers[2])
        device, flags = PATHS.device_of(client, nr, audit, args)
        assert flags >= 0
        if device is not None:
            assert device == "tee0"
            assert names[nr] in ("open", "creat", "openat", "openat2")
            start = path[where - BASE :].split(b"\0")[0]
            assert start == b"tee0" or start.endswith(b"/tee0")


def test_the_devices_are_found() -> None:
    """So that the test above is about something."""
    openat = arch.NATIVE["openat"]
    found = {}
    for path in (b"/dev/tee0", b"//dev///tee0", b"tee0", b"./tee0", b"/tmp/tee0", b"/dev/tee1"):
        client = cast(Task, Client(path + b"\0", FOLDERS))
        found[path] = PATHS.device_of(client, openat, arch.ARCHES[0], (AT_FDCWD, BASE, 2, 0))[0]
    assert [path for path, device in found.items() if device] == [
        b"/dev/tee0",
        b"//dev///tee0",
        b"tee0",
        b"./tee0",
    ]
