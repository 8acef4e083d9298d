# SPDX-License-Identifier: BSD-2-Clause
"""Plugins of a supplicant, served by gentee itself: in C from a folder, in Python from installed
distributions. The one in C is tests/plugins/plugin.c, and tests/services/plugins.py calls them.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gentee.abi.gp import (
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_COMMUNICATION,
    TEE_ERROR_GENERIC,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_ERROR_TARGET_DEAD,
)
from gentee.client import Session, TempRef, Value
from gentee.errors import TeeError
from tests.functional.conftest import GenteeRun
from tests.functional.test_services import Call, Tee, is_alive
from tests.helpers import PATIENCE, ServiceHost, in_threads, open_descriptors, wait_until

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parents[1] / "plugins" / "plugin.c"
SERVICES = Path(__file__).parents[1] / "services"
SERVICE = "50c4e700-5b6c-4d7e-8f90-a1b2c3d4e506"

TURN, RETURN, CRASH, EXIT, LENGTH, COUNT, WAIT, ABOUT = range(8)
NUMBER, OTHER = 1, 2  # of plugins


def build(folder: Path, name: str, *flags: str) -> Path:
    compiler = shutil.which("gcc") or pytest.skip("there is no gcc")
    path = folder / name
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", *flags]
    command += ["-o", str(path), str(SOURCE)]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        pytest.fail(finished.stderr, pytrace=False)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugins")
    build(folder, "1.plugin", f"-DNUMBER={NUMBER}")
    build(folder, "2.plugin", f"-DNUMBER={OTHER}")
    return folder


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture
def tee(host: ServiceHost, folder: Path) -> Iterator[Tee]:
    tee = Tee(host, SERVICES, plugin_dirs=[str(folder)])
    yield tee
    tee.close()
    assert not host.bugs


def call(
    session: Session, command: int, sub_command: int = 0, data: bytes = b"", plugin: int = NUMBER
) -> tuple[bytes, int]:
    """The data after it, and the length that the plugin said."""
    memory = bytearray(data)
    second = Value(sub_command)
    session.invoke(0, Value(plugin, command), second, TempRef(memory if data else None))
    return bytes(memory), second.a


def code_of(call: Callable[[], object]) -> int:
    with pytest.raises(TeeError) as caught:
        call()
    return caught.value.code


def pids(tee: Tee) -> list[int]:
    """Of the processes of plugins."""
    children = Path("/proc/self/task").glob("*/children")
    found = [int(pid) for path in children for pid in path.read_text().split()]
    return [pid for pid in found if _name(pid) == "gentee-plugin"]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_a_plugin(tee: Tee) -> None:
    session = tee.open(SERVICE)
    assert call(session, TURN, 3, b"abcdef") == (b"fedcba"[:3] + b"def", 3)
    assert call(session, TURN, 6, b"abcdef") == (b"fedcba", 6)
    assert call(session, TURN, 0, b"abcdef") == (b"abcdef", 0)
    assert call(session, TURN, 100, b"abcdef") == (b"fedcba", 100)
    assert call(session, TURN) == (b"", 0)
    assert code_of(lambda: call(session, 99)) == TEE_ERROR_NOT_SUPPORTED
    for code in (TEE_ERROR_GENERIC, 1, 0x1234_5678):
        assert code_of(lambda c=code: call(session, RETURN, c)) == code  # type: ignore[misc]


def test_much_data(tee: Tee) -> None:
    session = tee.open(SERVICE)
    data = bytes(range(256)) * 4096
    assert call(session, TURN, len(data), data) == (data[::-1], len(data))


def test_a_plugin_keeps_what_it_has(tee: Tee) -> None:
    """init() was called once, and its variables stay."""
    session = tee.open(SERVICE)
    assert [call(session, COUNT, 0, b".")[0] for _ in range(3)] == [b"e", b"f", b"g"]
    assert call(session, COUNT, 0, b".", plugin=OTHER)[0] == b"e"


def test_lengths_of_more_bits(tee: Tee) -> None:
    session = tee.open(SERVICE)
    assert call(session, LENGTH, 7, b"abc") == (b"abc", 3)


def test_no_such_plugin(tee: Tee) -> None:
    session = tee.open(SERVICE)
    assert code_of(lambda: call(session, TURN, plugin=9)) == TEE_ERROR_ITEM_NOT_FOUND


def test_its_process(tee: Tee) -> None:
    session = tee.open(SERVICE)
    about, _ = call(session, ABOUT, 0, b"...")
    # The memory of this very call is one, its mapping a second one.
    assert (about[0], about[2]) == (1, 0)
    assert about[1] <= 2


@pytest.mark.parametrize("how", [CRASH, EXIT])
def test_a_crash_costs_its_call(tee: Tee, how: int) -> None:
    session = tee.open(SERVICE)
    call(session, COUNT, 0, b".")
    call(session, COUNT, 0, b".", plugin=OTHER)
    assert code_of(lambda: call(session, how)) == TEE_ERROR_COMMUNICATION
    assert any("ended in the middle of a call" in line for line in tee.host.warnings)
    assert call(session, COUNT, 0, b".")[0] == b"e"  # started again
    assert call(session, COUNT, 0, b".", plugin=OTHER)[0] == b"f"


def test_a_plugin_that_was_killed(tee: Tee) -> None:
    session = tee.open(SERVICE)
    call(session, TURN)
    before = pids(tee)
    assert len(before) == 2
    for pid in before:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda p=pid: not is_alive(p))  # type: ignore[misc]
    codes = []
    for _ in range(2):
        try:
            call(session, TURN)
        except TeeError as error:
            codes.append(error.code)
    assert codes in ([], [TEE_ERROR_COMMUNICATION])
    assert call(session, TURN, 2, b"ab") == (b"ba", 2)


def test_a_plugin_that_waits_without_end(tee: Tee) -> None:
    """Others are served, by the same plugin too; the call ends with its service."""
    session = tee.open(SERVICE)
    call(session, TURN)
    params = Value(NUMBER, WAIT), Value(), TempRef(None)
    waiting = Call(session, 0, *params)
    (soft,) = tee.driver.tees
    wait_until(lambda: soft.normal_world.plugins._calls)
    (caller,) = soft.instances()
    assert call(tee.open(SERVICE), TURN, 2, b"ab") == (b"ba", 2)
    caller.kill()
    assert code_of(waiting.wait) == TEE_ERROR_TARGET_DEAD
    wait_until(lambda: not soft.normal_world.plugins._calls)


def test_many_at_once(tee: Tee) -> None:
    def client() -> None:
        session = tee.open(SERVICE)
        for number in range(20):
            data = b"%d bytes" % number
            assert call(session, TURN, len(data), data)[0] == data[::-1]

    in_threads(*[client] * 4)


def test_processes_end_with_the_tee(host: ServiceHost, folder: Path) -> None:
    before = open_descriptors()
    tee = Tee(host, SERVICES, plugin_dirs=[str(folder)])
    call(tee.open(SERVICE), TURN)
    running = pids(tee)
    assert len(running) == 2
    tee.close()
    wait_until(lambda: not any(map(is_alive, running)))
    wait_until(lambda: len(open_descriptors()) <= len(before))


def test_files_that_are_no_plugins(host: ServiceHost, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    (plugins / "folder").mkdir(parents=True)
    (plugins / "a-text").write_text("no plugin")
    build(plugins, "b-nothing", "-DNUMBER=1", "-DNO_METHOD", "-Wno-unused")
    build(plugins, "c-refuses", "-DNUMBER=1", "-DINIT=return 7")
    build(plugins, "d-crashes", "-DNUMBER=1", "-DINIT=abort()")
    build(plugins, "e-good", f"-DNUMBER={NUMBER}")
    build(plugins, "f-same", f"-DNUMBER={NUMBER}")
    tee = Tee(host, SERVICES, plugin_dirs=[str(plugins), str(tmp_path / "nowhere")])
    assert call(tee.open(SERVICE), TURN, 2, b"ab") == (b"ba", 2)
    told = "\n".join(tee.warnings)
    for words in (
        "a-text' cannot be used", "b-nothing' cannot be used", "its init says 0x7",
        "d-crashes' cannot be used: it ended while it was loaded", "f-same' has the UUID of",
        "nowhere': No such file",
    ):  # fmt: skip
        assert words in told, told
    tee.close()


# In Python

PYTHON = """
from gentee.errors import BadState

class Plugin:
    name = "in python"
    uuid = "70c4e700-5b6c-4d7e-8f90-a1b2c3d4e507"

    def init(self):
        self.calls = 0

    def invoke(self, command, sub_command, data):
        self.calls += 1
        if command == 1:
            raise BadState("not now")
        if command == 2:
            raise RuntimeError("a bug of its own")
        data[:2] = bytes([self.calls, sub_command])
        return 2
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a distribution that has a plugin, and one that has a broken one."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "acme_plugin.py").write_text(PYTHON)
    for name, value in (("acme", "acme_plugin:Plugin"), ("broken", "acme_plugin:Nothing")):
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[gentee.plugins]\n{name} = {value}\n")
    return site


def test_a_plugin_in_python(host: ServiceHost, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    tee = Tee(host, SERVICES)
    session = tee.open(SERVICE)
    assert call(session, 0, 9, b"....", plugin=7) == (b"\x01\x09..", 2)
    assert code_of(lambda: call(session, 1, 0, b"....", plugin=7)) == 0xFFFF_0007  # BAD_STATE
    assert code_of(lambda: call(session, 2, 0, b"....", plugin=7)) == TEE_ERROR_GENERIC
    assert call(session, 0, 9, b"....", plugin=7) == (b"\x04\x09..", 2)
    assert any("'broken = acme_plugin:Nothing' cannot be used" in line for line in tee.warnings)
    tee.close()


def test_the_one_of_the_documentation(
    host: ServiceHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/normal-world.md, with a UUID that the service here calls."""
    text = (ROOT / "docs" / "normal-world.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"^```python plugin\n(.*?)^```$", text, re.M | re.S)
    (entry,) = re.findall(r'^greeter = "(.*)"$', text, re.M)
    source = re.sub(r'uuid = ".*"', 'uuid = "70c4e700-5b6c-4d7e-8f90-a1b2c3d4e508"', source)
    (tmp_path / "greeter.py").write_text(source)
    info = tmp_path / "greeter-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[gentee.plugins]\ngreeter = {entry}\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    tee = Tee(host, SERVICES)
    session = tee.open(SERVICE)
    assert call(session, 0, 0, b"......", plugin=8) == (b"hello.", 5)
    assert code_of(lambda: call(session, 1, 0, b"......", plugin=8)) == TEE_ERROR_BAD_PARAMETERS
    tee.close()


# The command line

CLIENT = """
import sys
from gentee.client import *
with Context() as context, context.open_session(sys.argv[1]) as session:
    data = bytearray(b"abc")
    session.invoke(0, Value(1, 0), Value(3), TempRef(data))
    print(data.decode())
"""


def test_the_option(gentee_run: GenteeRun, way: str, folder: Path) -> None:
    argv = [sys.executable, "-c", CLIENT, SERVICE]
    options = ["--ephemeral", "--ta-dir", str(SERVICES), "--plugin-dir", str(folder)]
    finished = gentee_run(argv, options=options, way=way, timeout=PATIENCE)
    assert finished.stdout == "cba\n", finished.stderr


def test_a_folder_that_is_none(gentee_run: GenteeRun) -> None:
    finished = gentee_run(["true"], options=["--plugin-dir", "/nowhere/at/all"])
    assert finished.returncode == 1
    assert "--plugin-dir /nowhere/at/all: No such file or directory" in finished.stderr
