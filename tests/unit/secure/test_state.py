# SPDX-License-Identifier: BSD-2-Clause
"""The state of a TEE: versions that only grow, installs that are whole, files that are refused."""

import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gentee.abi import gp
from gentee.errors import (
    CorruptObject,
    GenericError,
    ItemNotFound,
    StorageNoSpace,
    TaImageError,
    UserError,
)
from gentee.secure import state as state_module
from gentee.secure.state import FILE, MIGRATIONS, SCHEMA, State

ROOT = Path(__file__).parents[3]
ONE, TWO = b"1" * 16, b"2" * 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def state(folder: Path) -> Iterator[State]:
    state = State(str(folder))
    yield state
    state.close()


def install(state: State, uuid: bytes = ONE, version: int = 1, image: bytes = b"image") -> None:
    state.install(uuid, "name", version, "{}", image, "signer")


def reopened(state: State) -> State:
    state.close()
    return State(state.folder)


# What is kept


@pytest.mark.parametrize("where", ["file", "memory"])
def test_install_and_uninstall(where: str, folder: Path) -> None:
    state = State(str(folder) if where == "file" else None)
    assert state.services() == []
    install(state, ONE, 3, b"one")
    install(state, TWO, 0, b"two")
    rows = {row.uuid: row for row in state.services()}
    assert (rows[ONE].name, rows[ONE].version, rows[ONE].signer) == ("name", 3, "signer")
    assert rows[ONE].manifest == "{}"
    assert rows[ONE].installed > 1_600_000_000
    assert (state.image(ONE), state.image(TWO)) == (b"one", b"two")
    install(state, ONE, 4, b"new")
    assert state.image(ONE) == b"new"
    state.uninstall(ONE)
    assert [row.uuid for row in state.services()] == [TWO]
    for operation in (state.uninstall, state.image):
        with pytest.raises(ItemNotFound):
            operation(ONE)
    assert state.floor(ONE) == 4
    state.close()


def test_it_is_there_again(state: State) -> None:
    install(state, ONE, 5)
    state.set_ta_time(TWO, -7)
    again = reopened(state)
    assert [(row.uuid, row.version) for row in again.services()] == [(ONE, 5)]
    assert again.image(ONE) == b"image"
    assert (again.ta_time(ONE), again.ta_time(TWO)) == (None, -7)
    assert again.floor(ONE) == 5
    again.close()


def test_memory_is_forgotten() -> None:
    state = State()
    assert not state.exists()
    install(state)
    assert state.exists()
    state.close()
    assert State().services() == []


def test_versions_only_grow(state: State) -> None:
    """check_update_version(): equal is fine, higher is remembered, lower is refused."""
    assert state.floor(ONE) == 0
    for version in (0, 3, 3, 7):
        install(state, ONE, version)
    state.admit(TWO, 0xFFFF_FFFF)
    for version in (6, 0):
        with pytest.raises(TaImageError, match="lower than 7") as caught:
            install(state, ONE, version, b"old")
        assert caught.value.code == gp.TEE_ERROR_ACCESS_CONFLICT
        with pytest.raises(TaImageError):
            state.admit(ONE, version)
    assert state.image(ONE) == b"image"
    state.uninstall(ONE)
    again = reopened(state)
    with pytest.raises(TaImageError):
        install(again, ONE, 6)
    with pytest.raises(TaImageError):
        again.admit(TWO, 0xFFFF_FFFE)
    again.admit(TWO, 0xFFFF_FFFF)
    install(again, ONE, 7)
    again.close()


def test_time_of_services(state: State) -> None:
    assert state.ta_time(ONE) is None
    assert not state.exists()  # to ask makes no file
    for offset in (0, 10**15, -(10**15)):
        state.set_ta_time(ONE, offset)
        assert state.ta_time(ONE) == offset
    assert state.ta_time(TWO) is None


def test_limits(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "MAX_SERVICES", 2)
    monkeypatch.setattr(state_module, "MAX_BYTES", 100)
    monkeypatch.setattr(state_module, "MAX_VERSIONS", 3)
    install(state, ONE)
    install(state, TWO, 1, bytes(90))
    with pytest.raises(StorageNoSpace):
        install(state, b"3" * 16)
    with pytest.raises(StorageNoSpace):
        install(state, ONE, 1, bytes(11))
    install(state, ONE, 2, bytes(10))
    state.uninstall(TWO)
    install(state, b"3" * 16)
    with pytest.raises(StorageNoSpace, match="3 versions"):
        state.admit(b"4" * 16, 1)
    state.admit(TWO, 2)


def test_threads(state: State) -> None:
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for version in range(20):
                install(state, bytes([number]) * 16, version, b"%d" % version)
                state.set_ta_time(ONE, version)
                assert state.image(bytes([number]) * 16) == b"%d" % version
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert {row.version for row in state.services()} == {19}


# Files and folders


def test_modes(state: State, folder: Path) -> None:
    before = os.umask(0)
    try:
        install(state)
    finally:
        os.umask(before)
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert (folder / FILE).is_file()


def test_nothing_is_made_before_it_is_needed(state: State, folder: Path) -> None:
    state.check()
    assert state.services() == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o702])
def test_a_folder_that_others_may_write(mode: int, folder: Path, state: State) -> None:
    folder.chmod(mode)
    for operation in (state.check, state.open):
        with pytest.raises(UserError, match="others may write there"):
            operation()
    with pytest.raises(GenericError):
        install(state)
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    state = State(str(tmp_path / "missing"))
    assert not state.exists()
    with pytest.raises(UserError, match="No such file"):
        state.check()
    (tmp_path / "missing").write_text("")
    with pytest.raises(UserError, match="not a folder"):
        state.check()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_a_file_that_others_may_read(mode: int, state: State, folder: Path) -> None:
    install(state)
    again = reopened(state)
    (folder / FILE).chmod(mode)
    with pytest.raises(UserError, match="others may read"):
        again.open()


def test_a_file_that_is_none(state: State, folder: Path) -> None:
    (folder / FILE).symlink_to(folder / "elsewhere")
    with pytest.raises(UserError):
        state.open()
    (folder / FILE).unlink()
    os.mkfifo(folder / FILE, 0o600)
    with pytest.raises(UserError, match="no file of yours"):
        state.open()
    assert not (folder / "elsewhere").exists()


@pytest.mark.root
def test_somebody_elses(state: State, folder: Path) -> None:
    install(state)
    again = reopened(state)
    os.chown(folder / FILE, 12345, 12345)
    with pytest.raises(UserError, match="no file of yours"):
        again.check()
    os.chown(folder / FILE, 0, 0)
    os.chown(folder, 12345, 12345)
    with pytest.raises(UserError, match="belongs to somebody else"):
        again.check()


# What cannot be read is refused, and stays


def _garbage(size: int) -> bytes:
    return (b"garbage " * (size // 8 + 1))[:size]


@pytest.mark.parametrize("size", [1, 99, 100, 5000])
def test_no_database(size: int, state: State, folder: Path) -> None:
    content = _garbage(size)
    (folder / FILE).write_bytes(content)
    (folder / FILE).chmod(0o600)
    for operation in (state.check, state.open):
        with pytest.raises(UserError, match="not a TEE's state, or damaged"):
            operation()
    with pytest.raises(GenericError):
        state.services()
    assert (folder / FILE).read_bytes() == content


def test_a_database_of_something_else(state: State, folder: Path) -> None:
    connection = sqlite3.connect(folder / FILE)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    (folder / FILE).chmod(0o600)
    with pytest.raises(UserError, match="something else"):
        state.open()
    connection = sqlite3.connect(folder / FILE)
    connection.execute("PRAGMA application_id = 5")
    connection.close()
    for operation in (state.check, state.open):
        with pytest.raises(UserError, match="something else"):
            operation()
    connection = sqlite3.connect(folder / FILE)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("notes",)]
    connection.close()


def test_a_newer_schema(state: State, folder: Path) -> None:
    install(state)
    state.close()
    connection = sqlite3.connect(folder / FILE)
    connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    connection.commit()
    connection.close()
    content = (folder / FILE).read_bytes()
    again = State(str(folder))
    for operation in (again.check, again.open):
        with pytest.raises(UserError, match=f"schema {SCHEMA + 1} is newer"):
            operation()
    assert (folder / FILE).read_bytes() == content


def test_damage_inside(state: State, folder: Path) -> None:
    install(state, ONE, 1, bytes(200_000))
    state.close()
    path = folder / FILE
    content = bytearray(path.read_bytes())
    content[4096:] = _garbage(len(content) - 4096)
    path.write_bytes(content)
    again = State(str(folder))
    with pytest.raises((GenericError, CorruptObject), match=r"damaged|malformed"):
        again.services()
    again.close()
    assert path.read_bytes() == content


def test_damage_that_is_met_later(state: State, folder: Path) -> None:
    install(state, ONE, 1, bytes(400_000))
    install(state, TWO, 1, b"small")
    state.close()
    path = folder / FILE
    content = bytearray(path.read_bytes())
    # The middle of the large image is a chain of overflow pages: their links.
    for page in range(20, 60):
        content[page * 4096 : page * 4096 + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    again = State(str(folder))
    assert len(again.services()) == 2
    with pytest.raises(CorruptObject):
        again.image(ONE)
    assert again.image(TWO) == b"small"
    again.close()


def test_no_room(state: State) -> None:
    install(state)
    connection = state._connection
    assert connection is not None
    connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StorageNoSpace, match="full"):
        install(state, ONE, 2, bytes(200_000))
    assert state.floor(ONE) == 1
    assert state.image(ONE) == b"image"
    install(state, ONE, 2)


def test_a_folder_that_cannot_be_written(state: State, folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    folder.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        state.open()
    assert state.services() == []
    with pytest.raises(GenericError):
        install(state)
    folder.chmod(0o700)
    install(state)


def test_two_programs(state: State, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "_BUSY_SECONDS", 0.01)
    install(state)
    other = State(str(folder))
    with pytest.raises(UserError, match="another program has it open"):
        other.open()
    state.close()
    assert len(other.services()) == 1
    other.close()


def test_after_the_end(state: State) -> None:
    install(state)
    state.close()
    with pytest.raises(GenericError, match="ended"):
        install(state)


def test_schema(state: State, folder: Path) -> None:
    install(state)
    state.close()
    connection = sqlite3.connect(folder / FILE)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert {"meta", "services", "versions", "ta_time"} <= tables
    rows = connection.execute("SELECT version FROM meta").fetchall()
    assert rows == [(number + 1,) for number in range(len(MIGRATIONS))]
    connection.close()


def test_a_migration_is_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = State(str(folder))
    install(old)
    old.close()
    broken = (*MIGRATIONS, "CREATE TABLE later (x); CREATE TABLE meta (x);")
    monkeypatch.setattr(state_module, "MIGRATIONS", broken)
    monkeypatch.setattr(state_module, "SCHEMA", SCHEMA + 1)
    with pytest.raises(UserError, match="damaged"):
        State(str(folder)).open()
    monkeypatch.setattr(state_module, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE later (x)"))
    new = State(str(folder))
    assert len(new.services()) == 1
    new.close()
    monkeypatch.undo()
    with pytest.raises(UserError, match="newer"):
        State(str(folder)).open()


@pytest.mark.parametrize("schema", range(1, SCHEMA))
def test_what_an_older_gentee_wrote(
    schema: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is all there, and what came later can be used."""
    path = folder / FILE
    path.touch(0o600)
    connection = sqlite3.connect(path)
    for number in range(schema):
        connection.executescript(MIGRATIONS[number])
        connection.execute("INSERT INTO meta VALUES (?, 0)", (number + 1,))
    connection.execute("INSERT INTO versions VALUES (?, 7)", (ONE,))
    connection.execute(f"PRAGMA application_id = {state_module.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {schema}")
    connection.commit()
    connection.close()
    state = State(str(folder))
    state.open()
    assert (state.floor(ONE), state.subkey_floor(ONE)) == (7, 0)
    state.admit(ONE, 7, ((TWO, 3),))
    again = reopened(state)
    again.open()
    assert (again.floor(ONE), again.subkey_floor(TWO)) == (7, 3)
    again.close()


def test_versions_of_subkeys_only_grow(state: State) -> None:
    """All or nothing: what is refused for one of them leaves the others as they were."""
    state.admit(ONE, 1, ((ONE, 4), (TWO, 2)))
    for refused in (((ONE, 3), (TWO, 2)), ((ONE, 9), (TWO, 1))):
        with pytest.raises(TaImageError, match="of a subkey is lower") as caught:
            state.admit(ONE, 5, refused)
        assert caught.value.code == gp.TEE_ERROR_SECURITY
    with pytest.raises(TaImageError) as caught:
        state.admit(ONE, 0, ((ONE, 9), (TWO, 9)))
    assert caught.value.code == gp.TEE_ERROR_ACCESS_CONFLICT
    again = reopened(state)
    again.open()
    assert (again.floor(ONE), again.subkey_floor(ONE), again.subkey_floor(TWO)) == (1, 4, 2)
    again.close()


def test_a_subkey_table_that_is_full(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "MAX_VERSIONS", 1)
    state.admit(ONE, 1, ((ONE, 1),))
    with pytest.raises(StorageNoSpace):
        state.admit(ONE, 1, ((TWO, 1),))


# Killed at any moment

_INSTALLER = """
import sys
from gentee.secure.state import State
state = State(sys.argv[1])
version = int(sys.argv[2])
while True:
    version += 1
    image = version.to_bytes(4, "little") * 30_000
    state.install(b"1" * 16, f"v{version}", version, f"m{version}", image, "s")
    sys.stdout.write(f"{version}\\n")
    sys.stdout.flush()
"""


@pytest.mark.slow
def test_killed_while_it_installs(folder: Path) -> None:
    """What was reported is there; what is there is whole, be it the old or the new."""
    version = 0
    for installs in range(1, 9):
        process = subprocess.Popen(
            [sys.executable, "-c", _INSTALLER, str(folder), str(version)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        assert process.stdout is not None
        reported = 0
        for _ in range(installs):
            reported = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read()
        process.wait()
        process.stdout.close()
        whole = re.findall(r"(\d+)\n", rest)
        reported = int(whole[-1]) if whole else reported
        state = State(str(folder))
        (row,) = state.services()
        assert row.version in (reported, reported + 1)
        assert (row.name, row.manifest) == (f"v{row.version}", f"m{row.version}")
        assert state.image(b"1" * 16) == row.version.to_bytes(4, "little") * 30_000
        assert state.floor(b"1" * 16) == row.version
        version = row.version
        state.close()


# Values that a damaged file has


def damaged(state: State, statement: str) -> State:
    """After a change that SQLite would not let pass."""
    state.close()
    connection = sqlite3.connect(state.path)
    with connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement)
    connection.close()
    return State(state.folder)


@pytest.mark.parametrize("table", ["versions", "subkey_versions"])
@pytest.mark.parametrize("what", ["version = 'text'", "version = 1.5", "uuid = 7"])
def test_damaged_versions(state: State, table: str, what: str) -> None:
    """Which versions there were cannot be told: it is refused, as a version could go down."""
    state.admit(ONE, 2, ((TWO, 3),))
    state = damaged(state, f"UPDATE {table} SET {what}")
    with pytest.raises(UserError, match="damaged: a row with values of the wrong types"):
        state.open()
    state.close()


@pytest.mark.parametrize(
    "what", ["uuid = 7", "name = x'00'", "version = 'text'", "manifest = x'00'", "signer = x'00'"]
)
def test_damaged_services(state: State, what: str) -> None:
    install(state)
    state = damaged(state, f"UPDATE services SET {what}")
    with pytest.raises(CorruptObject):
        state.services()
    state.close()


def test_damaged_texts_and_images(state: State) -> None:
    install(state)
    state = damaged(state, "UPDATE services SET image = 5, name = CAST(x'61ff' AS TEXT)")
    assert [row.name for row in state.services()] == ["a\N{REPLACEMENT CHARACTER}"]
    with pytest.raises(CorruptObject):
        state.image(ONE)
    state.close()


def test_a_damaged_time(state: State) -> None:
    state.set_ta_time(ONE, 5)
    state = damaged(state, "UPDATE ta_time SET offset_ms = 'text'")
    with pytest.raises(CorruptObject):
        state.ta_time(ONE)
    state.set_ta_time(ONE, 6)
    assert state.ta_time(ONE) == 6
    state.close()


def test_a_constraint_of_a_damaged_file(state: State) -> None:
    """Only damage breaks one."""
    install(state)
    with pytest.raises(CorruptObject):
        state.run(
            lambda connection: connection.execute("INSERT INTO versions VALUES (?, 1)", (ONE,)),
            write=True,
        )
