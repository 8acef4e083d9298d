# SPDX-License-Identifier: BSD-2-Clause
"""Images of Arm TAs: what is loaded with them, how they are found, replaced, listed and limited."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gentee.abi.gp import (
    TEE_ERROR_ACCESS_CONFLICT,
    TEE_ERROR_BAD_FORMAT,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
)
from gentee.abi.optee_ta import (
    TA_FLAG_INSTANCE_KEEP_ALIVE,
    TA_FLAG_MULTI_SESSION,
    TA_FLAG_SINGLE_INSTANCE,
)
from gentee.client import SharedMemory, Value
from tests import arm_tas, signing
from tests.arm_tas import (
    BIG,
    BRANCHES,
    HELLO,
    INIT,
    LEGACY,
    LINKED,
    MEMORY_MULTI,
    MULTI,
    PLUGIN,
    TLS,
    TLS_LIBRARY,
    uuid_of,
)
from tests.functional.conftest import GenteeRun
from tests.functional.test_services import fails, is_dead
from tests.helpers import ServiceHost, wait_until
from tests.serving import Served
from tests.ta_build import ARCHES, build_library
from tests.ta_clients import ArmTee, Memory, Who, native_uuid
from tests.ta_run import LIBRARY, LIBRARY2, LIBRARY_TLS, library_path, ta_bytes, uuid_text

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds

Start = Callable[..., ArmTee]


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture(scope="module", params=ARCHES)
def arch(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def shared_tee(host: ServiceHost, arch: str) -> Iterator[ArmTee]:
    tee = ArmTee(host, arm_tas.all_of(arch), arch)
    yield tee
    tee.close()


@pytest.fixture
def tee(host: ServiceHost, shared_tee: ArmTee) -> Iterator[ArmTee]:
    """A TEE with the TAs that all tests have."""
    shared_tee.begin()
    yield shared_tee
    shared_tee.end()
    assert not host.bugs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the TAs of one test are."""
    folder = tmp_path / "tas"
    folder.mkdir()
    return folder


@pytest.fixture
def start(host: ServiceHost, folder: Path, arch: str) -> Iterator[Start]:
    """``start(...)``: a TEE with the TAs in ``folder`` and these options."""
    tees: list[ArmTee] = []

    def start(**options: object) -> ArmTee:
        tees.append(ArmTee(host, folder, arch, **options))
        return tees[-1]

    yield start
    for tee in tees:
        tee.close()
    assert not host.bugs


# What is loaded


def test_hello(tee: ArmTee) -> None:
    session = tee.actor(HELLO)
    value = Value(3, 4)
    session.invoke(1, value)
    assert (value.a, value.b) == (4, 3)
    value = Value(6, 7)
    session.invoke(4, value)  # floating point
    assert value.a == 9


def test_libraries_by_uuid(tee: ArmTee) -> None:
    """A TA that needs a library, which needs another one."""
    first, second, third = Value(), Value(), Value()
    tee.actor(LINKED, first, second, third)
    assert (first.a, first.b) == (1 + 2 + 100 + 1000, 77)
    assert (second.a, second.b) == (1, 0)
    assert (third.a, third.b) == (3, ord(uuid_text(LIBRARY)[0]))


def test_each_instance_has_its_libraries(tee: ArmTee) -> None:
    uuid = native_uuid(uuid_text(LIBRARY))
    value = Value()
    first, second = tee.actor(PLUGIN), tee.actor(PLUGIN)
    for session in first, second:
        session.invoke(0, uuid)
        for expected in 77, 78:
            session.invoke(2, uuid, value)
            assert value.a == expected


def test_library_at_run_time(tee: ArmTee) -> None:
    session = tee.actor(PLUGIN)
    uuid = native_uuid(uuid_text(LIBRARY))
    value = Value(1, 2)
    session.invoke(0, uuid)
    session.invoke(1, uuid, value)
    assert value.a == 1 + 2 + 100 + 1000
    # The TA is told of the new files; a symbol that no file has is an error of the pseudo TA.
    fails(TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TRUSTED_APP, lambda: session.invoke(3, uuid, value))
    assert value.a == 3
    session.invoke(0, uuid)  # once more is no other one
    nobody = native_uuid(uuid_of(0xDEAD))
    fails(TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TRUSTED_APP, lambda: session.invoke(0, nobody))
    session.invoke(1, uuid, Value(1, 2))


@pytest.mark.parametrize("missing", [LIBRARY, LIBRARY2])
def test_a_library_is_missing(start: Start, folder: Path, arch: str, missing: bytes) -> None:
    for uuid in {LIBRARY, LIBRARY2} - {missing}:
        arm_tas.sign_into(folder, uuid_text(uuid), library_path(arch, uuid).read_bytes())
    arm_tas.install(folder, LINKED, "linked", arch, str(library_path(arch, LIBRARY)))
    tee = start()
    fails(TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TEE, lambda: tee.actor(LINKED))
    wait_until(lambda: not tee.instances())
    arm_tas.sign_into(folder, uuid_text(missing), library_path(arch, missing).read_bytes())
    tee.actor(LINKED)


def test_a_library_is_no_ta(tee: ArmTee) -> None:
    fails(TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TEE, lambda: tee.open(uuid_text(LIBRARY)))


@pytest.mark.parametrize("number", [TLS, TLS_LIBRARY])
def test_thread_local_storage(tee: ArmTee, number: int) -> None:
    sessions = [tee.actor(number), tee.actor(number)]
    for turn in 1, 2:
        for session in sessions:
            first, second = Value(), Value()
            session.invoke(0, first, second)
            assert (first.a, first.b) == (41 + turn, turn - 1)
            if number == TLS_LIBRARY:
                assert (second.a, second.b) == (1000 + 2 * turn - 1, 1000 + 2 * turn)


def test_constructors(tee: ArmTee) -> None:
    value = Value()
    tee.actor(INIT, value)
    assert (value.a, value.b) == (3, 123)


def test_legacy_entry_and_constructors(tee: ArmTee) -> None:
    first, second = Value(), Value()
    tee.actor(LEGACY, first, second)
    assert (first.a, first.b, second.a) == (5, 1, 1)


def test_branch_targets(tee: ArmTee) -> None:
    if tee.arch != "aarch64":
        pytest.skip("of 64 bits only")
    value = Value(21)
    session = tee.actor(BRANCHES)
    session.invoke(0, value)
    assert value.a == 42
    session.invoke(1, value)
    assert (value.a, value.b) == (1, 1)
    is_dead(lambda: session.invoke(3))
    second = tee.actor(BRANCHES)
    is_dead(lambda: second.invoke(2))


# Memory


def test_registered_memory_where_the_device_advertises_it(start: Start, folder: Path) -> None:
    tee = start(ta_dirs=[str(arm_tas.all_of("aarch64"))], reg_mem=True)
    session = tee.actor(MEMORY_MULTI)
    for size in 1, 100, 70_000:
        data = bytearray(b"\x0f" * size)
        session.invoke(Memory.TURN, data)
        assert data == b"\xf0" * size
    whole = bytearray(b"\x0f" * 10_000)
    with SharedMemory.register(session.context, whole) as memory:
        session.invoke(Memory.TURN, memory)
    assert whole == b"\xf0" * 10_000


def test_memory_limit(start: Start, folder: Path, arch: str) -> None:
    arm_tas.install(folder, BIG, "memory", arch, "-DFLAGS=0", f"-DBSS={12 << 20}")
    tee = start(memory_limit=8)
    for _ in range(2):
        fails(TEE_ERROR_OUT_OF_MEMORY, TEE_ORIGIN_TEE, lambda: tee.actor(BIG))
    wait_until(lambda: not tee.instances())
    enough = start(memory_limit=16)
    value = Value()
    enough.actor(BIG).invoke(Memory.GROWN, value)
    assert value.a == (12 << 20) // 4096


def test_more_memory_than_there_are_addresses(tee: ArmTee) -> None:
    session = tee.actor(MEMORY_MULTI)
    context, uuid = session.context, uuid_of(MEMORY_MULTI)
    memories = [SharedMemory.allocate(context, 1 << 30) for _ in range(2)]
    too_much = partial(session.invoke, Memory.NOTHING, *memories)
    for _ in range(2):
        fails(TEE_ERROR_OUT_OF_MEMORY, TEE_ORIGIN_TEE, too_much)
        fails(TEE_ERROR_NOT_SUPPORTED, TEE_ORIGIN_TRUSTED_APP, partial(session.invoke, 0xFFFF))
    session.invoke(Memory.NOTHING, memories[0])
    session.invoke(Memory.NOTHING, memories[1])
    fails(
        TEE_ERROR_OUT_OF_MEMORY,
        TEE_ORIGIN_TEE,
        partial(context.open_session, uuid, *memories),
    )
    wait_until(lambda: tee.instances() == 1)


# Files that change


def put(folder: Path, arch: str, build: int, flags: int = 0, version: int = 0) -> None:
    """Install an actor that says ``build``, in one step, as whoever updates files should."""
    aside = folder.parent / "aside"
    aside.mkdir(exist_ok=True)
    more = (f"-DBUILD={build}", f"-DFLAGS={flags}")
    uuid = arm_tas.install(aside, MULTI, "actor", arch, *more, version=version)
    (aside / f"{uuid}.ta").replace(folder / f"{uuid}.ta")


def test_the_next_open_takes_the_new_image(start: Start, folder: Path, arch: str) -> None:
    put(folder, arch, 1)
    tee = start()
    first = tee.actor(MULTI)
    put(folder, arch, 2)
    assert Who(tee.actor(MULTI)).build == 2
    assert Who(first).build == 1
    (folder / f"{uuid_of(MULTI)}.ta").unlink()
    fails(TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TEE, lambda: tee.actor(MULTI))
    assert Who(first).build == 1


def test_the_next_open_takes_the_new_image_also_of_one_that_is_often_used(
    start: Start, folder: Path, arch: str
) -> None:
    put(folder, arch, 1)
    tee = start()
    tee.actor(MULTI)
    tee.wait_template(MULTI)
    old = tee.actor(MULTI)
    put(folder, arch, 2)
    assert Who(tee.actor(MULTI)).build == 2
    tee.wait_template(MULTI)
    assert Who(tee.actor(MULTI)).build == 2
    assert Who(old).build == 1


def test_the_next_open_takes_the_new_library(start: Start, folder: Path, arch: str) -> None:
    def put_library(value: int) -> None:
        second = str(library_path(arch, LIBRARY2))
        flags = ("-fsemantic-interposition", f"-DLIB_VALUE={value}", second)
        aside = folder.parent / "aside"
        aside.mkdir(exist_ok=True)
        elf = build_library(aside, "library", arch, uuid_text(LIBRARY), *flags)
        arm_tas.sign_into(aside, uuid_text(LIBRARY), elf.read_bytes()).replace(
            folder / f"{uuid_text(LIBRARY)}.ta"
        )

    def value(tee: ArmTee) -> int:
        first = Value()
        tee.actor(LINKED, first)
        return first.b

    arm_tas.sign_into(folder, uuid_text(LIBRARY2), library_path(arch, LIBRARY2).read_bytes())
    arm_tas.install(folder, LINKED, "linked", arch, str(library_path(arch, LIBRARY)))
    tee = start()
    put_library(80)
    assert value(tee) == 80
    tee.wait_template(LINKED)
    assert value(tee) == 80
    put_library(81)
    assert value(tee) == 81


def test_an_instance_with_sessions_takes_more(start: Start, folder: Path, arch: str) -> None:
    flags = TA_FLAG_SINGLE_INSTANCE | TA_FLAG_MULTI_SESSION | TA_FLAG_INSTANCE_KEEP_ALIVE
    put(folder, arch, 1, flags)
    tee = start()
    first = tee.actor(MULTI)
    put(folder, arch, 2, flags)
    second = tee.actor(MULTI)
    assert (Who(second).build, Who(second).sessions) == (1, 2)
    first.close()
    second.close()
    # Kept alive, but nobody has it: it makes room.
    assert Who(tee.actor(MULTI)).build == 2


def test_no_older_version(start: Start, folder: Path, arch: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    put(folder, arch, 1, version=2)
    tee = start(state=str(state))
    assert Who(tee.actor(MULTI)).build == 1
    put(folder, arch, 2, version=1)
    fails(TEE_ERROR_ACCESS_CONFLICT, TEE_ORIGIN_TEE, lambda: tee.actor(MULTI))
    put(folder, arch, 3, version=3)
    assert Who(tee.actor(MULTI)).build == 3


def test_what_is_no_elf_file_inside(start: Start, folder: Path, arch: str) -> None:
    whole = ta_bytes("hello", arch)
    for number, data in enumerate((whole[:100], whole[: len(whole) // 2], b"\x7fELF", b"")):
        arm_tas.sign_into(folder, uuid_of(number), data)
    tee = start()
    for number in range(4):
        fails(TEE_ERROR_BAD_FORMAT, TEE_ORIGIN_TEE, partial(tee.actor, number))
    assert not tee.instances()


def test_installed_in_a_tee(start: Start, arch: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    image = (arm_tas.all_of(arch) / f"{uuid_of(MULTI)}.ta").read_bytes()
    tee = start(state=str(state))
    context = tee.context()
    fails(TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TEE, lambda: tee.actor(MULTI))
    uuid, version = context.load(image)
    assert (str(uuid), version) == (uuid_of(MULTI), 0)
    assert Who(tee.actor(MULTI)).sessions == 1
    tee.end()
    tee.close()
    # And is there the next time.
    again = start(state=str(state))
    assert Who(again.actor(MULTI)).sessions == 1


# Commands


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


def listed(*options: str | Path) -> dict[str, dict[str, Any]]:
    finished = gentee("ls", "--json", *options)
    assert finished.returncode == 0, finished.stderr
    return {row["uuid"]: row for row in json.loads(finished.stdout)["services"]}


def task_output(a: int, b: int) -> str:
    """What ``gentee task`` prints for a value that came back."""
    return f"0: value {a} ({a:#x}), {b} ({b:#x})\n"


def test_load_list_and_task(tmp_path: Path, arch: str) -> None:
    """A TA is installed in a TEE that is served, and used there, by commands alone."""
    key = signing.key_file(tmp_path)
    image = arm_tas.all_of(arch) / f"{uuid_of(HELLO)}.ta"
    with Served(tmp_path / "messages", "arm", ["--key", key, "--strict"]) as served:
        finished = gentee("load", "--tee", "arm", image)
        assert finished.returncode == 0, finished.stderr
        assert finished.stdout.startswith(uuid_of(HELLO))
        row = listed("--tee", "arm")[uuid_of(HELLO)]
        assert (row["installed"], row["version"]) == (True, 0)
        finished = gentee("task", "--tee", "arm", uuid_of(HELLO), "1", "value-inout:5,6")
        assert finished.returncode == 0, finished.stderr
        assert finished.stdout == task_output(6, 5)
        assert served.status()["sessions"] == 0
        finished = gentee("unload", "--tee", "arm", uuid_of(HELLO))
        assert finished.returncode == 0, finished.stderr
        assert uuid_of(HELLO) not in listed("--tee", "arm")


def test_listed_from_a_folder(arch: str) -> None:
    folder = arm_tas.all_of(arch)
    rows = listed(*arm_tas.options(folder))
    for number in HELLO, MULTI, LEGACY:
        assert uuid_of(number) in rows
    # A library is no service.
    assert uuid_text(LIBRARY_TLS) not in rows


def test_task_with_a_ta_of_a_folder(arch: str) -> None:
    finished = gentee(
        "task", *arm_tas.options(arm_tas.all_of(arch)), uuid_of(HELLO), "1", "value-inout:5,6"
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == task_output(6, 5)


def test_what_a_program_sees_when_a_ta_dies(gentee_run: GenteeRun, arch: str, way: str) -> None:
    """Its call comes back, and the person at the terminal is told why."""
    script = (
        "from gentee.client import Context, Value\n"
        "from gentee.errors import TargetDead\n"
        "with Context() as context:\n"
        f"    with context.open_session('{uuid_of(MULTI)}') as session:\n"
        "        try:\n"
        "            session.invoke(2, Value(0x1234))\n"
        "        except TargetDead as error:\n"
        "            print('origin', error.origin)\n"
        f"    with context.open_session('{uuid_of(MULTI)}') as session:\n"
        "        session.invoke(0, Value(), Value())\n"
        "        print('again')\n"
    )
    options = arm_tas.options(arm_tas.all_of(arch))
    finished = gentee_run([sys.executable, "-c", script], options=options, way=way)
    assert (finished.returncode, finished.stdout) == (0, "origin 3\nagain\n"), finished.stderr
    assert "0x00001234" in finished.stderr
