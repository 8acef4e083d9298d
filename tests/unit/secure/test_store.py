# SPDX-License-Identifier: BSD-2-Clause
"""The store of services: what it reads of a file, which file wins, and that it runs none."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.errors import TaImageError
from gentee.secure.service import Service, describe, format_uuid, parse_uuid
from gentee.secure.store import TaStore

ONE = "11111111-2222-4333-8444-555555555555"
TWO = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
HEAD = "from gentee.ta import TrustedApplication\n"


def service(uuid: str = ONE, *lines: str, name: str = "Some") -> str:
    body = [f'uuid = "{uuid}"', *lines]
    return HEAD + f"class {name}(TrustedApplication):\n" + "".join(f"    {line}\n" for line in body)


def described(source: str | bytes) -> Service | None:
    return describe("x.py", source.encode() if isinstance(source, str) else source)


def problem(source: str | bytes) -> str:
    with pytest.raises(TaImageError) as caught:
        described(source)
    return str(caught.value)


# UUIDs


@given(st.binary(min_size=16, max_size=16))
def test_uuids_both_ways(uuid: bytes) -> None:
    text = format_uuid(uuid)
    assert parse_uuid(text) == uuid == parse_uuid(text.upper())
    assert len(text) == 36


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        ONE[:-1],
        ONE + "0",
        ONE.replace("-", ""),
        "{" + ONE + "}",
        ONE.replace("1", "g", 1),
        ONE.replace("1", "१", 1),  # a digit, but not of these
        ONE.replace("1", "_", 1),
        " " + ONE[1:],
        "1111111-12222-4333-8444-555555555555",
    ],
)
def test_what_is_no_uuid(text: str) -> None:
    with pytest.raises(ValueError, match="not a UUID"):
        parse_uuid(text)


# What a file says


def test_all_attributes() -> None:
    found = described(
        service(
            TWO,
            'name = "the name"',
            "version: int = 7",
            'description: str = "what " "for"',
            "single_instance = True",
            "multi_session = True",
            "keep_alive = True",
            "other = 5",
            "another = {}",
        )
    )
    assert found is not None
    assert (found.uuid, found.name, found.version) == (parse_uuid(TWO), "the name", 7)
    assert (found.description, found.class_name, found.path) == ("what for", "Some", "x.py")
    assert (found.single_instance, found.multi_session, found.keep_alive) == (True, True, True)


def test_defaults() -> None:
    found = described(service())
    assert found is not None
    assert (found.name, found.version, found.description) == ("some", 0, "")
    assert (found.single_instance, found.multi_session, found.keep_alive) == (False, False, False)


@pytest.mark.parametrize(
    "head",
    [
        "from gentee.ta import TrustedApplication as T\nclass X(gentee.ta.TrustedApplication):",
        "class X(Mixin, TrustedApplication):",
        "class X(TrustedApplication, metaclass=M):",
        "@decorated\nclass X(TrustedApplication):",
    ],
)
def test_ways_to_be_a_service(head: str) -> None:
    found = described(f'{head}\n    uuid = "{ONE}"\n')
    assert found is not None
    assert found.class_name == "X"


@pytest.mark.parametrize(
    "source",
    [
        "",
        "\n\n# nothing\n",
        "print('hello')\n",
        HEAD,
        f'class X:\n    uuid = "{ONE}"\n',
        f'class X(Other):\n    uuid = "{ONE}"\n',
        f'def f():\n    class X(TrustedApplication):\n        uuid = "{ONE}"\n',
    ],
)
def test_what_is_no_service(source: str) -> None:
    assert described(source) is None


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["uuid = 5"], "uuid must be a str"),
        (["uuid = None"], "uuid must be a str"),
        ([f'uuid = b"{ONE}"'], "uuid must be a str"),
        (["uuid = 'not one'"], "not a UUID"),
        (["name = 5"], "name must be a str"),
        (["description = None"], "description must be a str"),
        (["version = '1'"], "version must be a int"),
        (["version = 1.5"], "version must be a int"),
        (["version = True"], "version must be a int"),
        (["single_instance = 1"], "single_instance must be a bool"),
        (["multi_session = 'yes'"], "multi_session must be a bool"),
        (["keep_alive = None"], "keep_alive must be a bool"),
        (["multi_session = True"], "need single_instance"),
        (["keep_alive = True"], "need single_instance"),
        (["uuid = str(uuid4())"], "uuid must be a literal"),
        (["uuid = UUID"], "uuid must be a literal"),
        (["name = 'a' + 'b'"], "name must be a literal"),
        (["name = f'{x}'"], "name must be a literal"),
        (["name = 'x' * 10**10"], "name must be a literal"),
        (["version = 1 << 100"], "version must be a literal"),
        (["name = {[]: 1}"], "name must be a literal"),
        (["name = {{}}"], "name must be a literal"),
    ],
)
def test_attributes_that_cannot_be(lines: list[str], complaint: str) -> None:
    text = problem(service(ONE, *lines))
    assert text.startswith("x.py: ")
    assert complaint in text


def test_what_is_there_is_what_python_would_find() -> None:
    found = described(service(TWO, f'uuid = "{ONE}"', "name = 'first'", "name = 'last'"))
    assert found is not None
    assert (found.uuid, found.name) == (parse_uuid(ONE), "last")
    # Only declared, or set in another way: not what a client could know.
    for lines in (["name: str"], ["a = name = 'x'"], ["name += 'x'"], ["if 1:", "    name = 'x'"]):
        found = described(service(ONE, *lines))
        assert found is not None
        assert found.name == "some"


def test_no_uuid() -> None:
    assert "uuid must be a str" in problem(HEAD + "class X(TrustedApplication): pass\n")


def test_two_services_in_a_file() -> None:
    assert "more than one" in problem(service() + service(TWO, name="Other"))


DEEP = 5000  # levels: more than any service needs


@pytest.mark.parametrize(
    "source",
    [
        "class X(",
        "\tx\n  y",
        b"\xff\xfe\x00",
        b"x = 1\x00",
        b"# coding: no-such-thing\n",
        "(" * DEEP + ")" * DEEP,
        "-" * DEEP + "1",
        f"class X({'-' * DEEP}TrustedApplication): pass",
        service(ONE, "version = " + "-" * DEEP + "1"),
        service(ONE, "version = " + "-" * 400 + "1"),
        service(ONE, "version = " + "[" * 90 + "]" * 90),
        "x" + ".y" * DEEP,
        f"class X({'x' + '.y' * DEEP}.TrustedApplication): pass",
    ],
    ids=range(13),
)
def test_what_cannot_be_read(source: str | bytes) -> None:
    """No matter what is in a file: a problem of it, or no service."""
    try:
        assert described(source) is None
    except TaImageError as error:
        assert str(error).startswith("x.py: ")  # noqa: PT017 (either is right)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for source in (data, HEAD.encode() + b"class X(TrustedApplication):\n uuid = " + data):
        try:
            described(source)
        except TaImageError:
            pass


def test_nothing_runs(tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    touch = f"open({str(marker)!r}, 'w').close()"
    source = "\n".join(
        [
            touch,
            "import os, sys",
            f"class Meta(type):\n    def __new__(*a, **k): {touch}",
            f"def decorate(x={touch!r}): {touch}",
            "@decorate",
            "class Evil(TrustedApplication, metaclass=Meta):",
            f'    uuid = "{ONE}"',
            f"    {touch}",
            f"    name = 'evil'; {touch}",
            f"    def TA_CreateEntryPoint(self, x={touch}): {touch}",
        ]
    )
    path = tmp_path / "evil.py"
    path.write_text(source)
    store = TaStore([str(tmp_path)])
    found = store.find(parse_uuid(ONE))
    assert found is not None
    assert found.name == "evil"
    assert found.read() == source.encode()
    assert [each.name for each in store.all()] == ["evil"]
    assert store.problems() == []
    assert not marker.exists()
    # But it would.
    exec(compile(touch, "x", "exec"))
    assert marker.exists()


# Folders


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    return folders


@pytest.fixture
def store(folders: list[Path]) -> TaStore:
    return TaStore(str(folder) for folder in folders)


_versions: Iterator[int] = iter(range(1 << 30))


def put(path: Path, source: str) -> None:
    """Write a file, and make sure that its change can be seen, however coarse the clock is."""
    path.write_text(source)
    later = path.stat().st_mtime_ns + next(_versions) * 1_000_000
    for each in (path, path.parent):
        os.utime(each, ns=(later, later))


def test_an_empty_store(store: TaStore, tmp_path: Path) -> None:
    assert store.find(parse_uuid(ONE)) is None
    assert store.all() == []
    assert store.problems() == []
    assert TaStore([]).all() == []
    assert TaStore([str(tmp_path / "missing")]).find(parse_uuid(ONE)) is None


def test_a_file_that_is_dropped_in(store: TaStore, folders: list[Path]) -> None:
    assert store.find(parse_uuid(ONE)) is None
    put(folders[1] / "one.py", service(ONE))
    found = store.find(parse_uuid(ONE))
    assert found is not None
    assert found.path == str(folders[1] / "one.py")
    assert store.find(parse_uuid(ONE)) is found
    put(folders[0] / "two.py", service(TWO))
    assert store.find(parse_uuid(ONE)) is found
    assert store.find(parse_uuid(TWO)) is not None
    assert [each.uuid for each in store.all()] == [parse_uuid(TWO), parse_uuid(ONE)]


def test_a_folder_that_appears(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    store = TaStore([str(folder)])
    assert store.all() == []
    folder.mkdir()
    put(folder / "one.py", service(ONE))
    assert store.find(parse_uuid(ONE)) is not None


def test_a_file_that_changes(store: TaStore, folders: list[Path]) -> None:
    path = folders[0] / "one.py"
    put(path, service(ONE, "version = 1"))
    before = store.find(parse_uuid(ONE))
    assert before is not None
    put(path, service(ONE, "version = 2"))
    after = store.find(parse_uuid(ONE))
    assert after is not None
    assert (before.version, after.version) == (1, 2)
    # In place, so that the folder stays as it is.
    times = folders[0].stat()
    put(path, service(TWO, "version = 3"))
    os.utime(folders[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.find(parse_uuid(ONE)) is None
    changed = store.find(parse_uuid(TWO))
    assert changed is not None
    assert changed.version == 3


def test_a_file_that_goes(store: TaStore, folders: list[Path]) -> None:
    path = folders[0] / "one.py"
    put(path, service(ONE))
    assert store.find(parse_uuid(ONE)) is not None
    path.unlink()
    assert store.find(parse_uuid(ONE)) is None
    assert store.all() == []


def test_a_file_that_takes_anothers_place(store: TaStore, folders: list[Path]) -> None:
    """Same size and time, as tools that keep times do."""
    path, other = folders[0] / "one.py", folders[0] / "other"
    put(path, service(ONE, "version = 1"))
    put(other, service(ONE, "version = 2"))
    times = path.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.find(parse_uuid(ONE)) is not None
    other.replace(path)
    found = store.find(parse_uuid(ONE))
    assert found is not None
    assert found.version == 2


def test_the_earlier_folder_wins(store: TaStore, folders: list[Path]) -> None:
    put(folders[1] / "a.py", service(ONE, "version = 2"))
    assert [each.version for each in store.all()] == [2]
    put(folders[0] / "z.py", service(ONE, "version = 1"))
    found = store.find(parse_uuid(ONE))
    assert found is not None
    assert found.version == 1
    assert [each.version for each in store.all()] == [1]
    (folders[0] / "z.py").unlink()
    found = store.find(parse_uuid(ONE))
    assert found is not None
    assert found.version == 2


def test_the_earlier_name_wins(store: TaStore, folders: list[Path]) -> None:
    put(folders[0] / "b.py", service(ONE, "version = 2"))
    put(folders[0] / "a.py", service(ONE, "version = 1"))
    assert [each.version for each in store.all()] == [1]


def test_other_files_do_not_count(store: TaStore, folders: list[Path]) -> None:
    for name in ("one", "one.txt", "one.py~", "one.pyc", ".one.py.swp"):
        put(folders[0] / name, service(ONE))
    (folders[0] / "folder.py").mkdir()
    (folders[0] / "dangling.py").symlink_to("nowhere")
    os.mkfifo(folders[0] / "pipe.py")
    os.mkfifo(folders[0] / f"{ONE}.ta")
    put(folders[0] / "helper.py", "x = 1\n")
    assert store.all() == []
    assert store.find(parse_uuid(ONE)) is None
    assert store.problems() == []
    put(folders[1] / "link.py", service(TWO))
    (folders[0] / "link.py").symlink_to(folders[1] / "link.py")
    found = store.find(parse_uuid(TWO))
    assert found is not None
    assert found.path == str(folders[0] / "link.py")


def test_a_folder_is_where_it_was(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    put(folders[0] / "one.py", service(ONE))
    monkeypatch.chdir(folders[0].parent)
    store = TaStore(["first"])
    monkeypatch.chdir("/")
    assert store.find(parse_uuid(ONE)) is not None


@pytest.mark.parametrize(
    "bad",
    [
        "class X(",
        HEAD + "class X(TrustedApplication): pass\n",
        service(ONE, "name = {[]: 1}"),
        service(ONE, "version = " + "-" * DEEP + "1"),
    ],
    ids=range(4),
)
def test_a_problem_is_its_own_files(store: TaStore, folders: list[Path], bad: str) -> None:
    put(folders[0] / "bad.py", bad)
    put(folders[0] / "good.py", service(TWO))
    assert store.find(parse_uuid(TWO)) is not None
    assert [each.uuid for each in store.all()] == [parse_uuid(TWO)]
    (line,) = store.problems()
    assert line.startswith(f"{folders[0] / 'bad.py'}: ")
    assert "\n" not in line
    # It is mended, broken again, and gone.
    put(folders[0] / "bad.py", service(ONE))
    assert store.problems() == []
    assert store.find(parse_uuid(ONE)) is not None
    put(folders[0] / "bad.py", bad)
    assert len(store.problems()) == 1
    assert store.find(parse_uuid(ONE)) is None
    (folders[0] / "bad.py").unlink()
    assert store.problems() == []


def test_a_file_that_cannot_be_opened(store: TaStore, folders: list[Path]) -> None:
    if os.geteuid() == 0:
        pytest.skip("root opens everything")
    put(folders[0] / "secret.py", service(ONE))
    (folders[0] / "secret.py").chmod(0)
    put(folders[0] / "two.py", service(TWO))
    assert store.find(parse_uuid(ONE)) is None
    assert store.find(parse_uuid(TWO)) is not None
    assert len(store.problems()) == 1
    # To let it be opened does not change what the store knows it by.
    (folders[0] / "secret.py").chmod(0o600)
    assert store.find(parse_uuid(ONE)) is not None
    assert store.problems() == []
    (folders[0] / "secret.py").unlink()
    put(folders[0] / "secret.py", service(ONE))
    (folders[0] / "secret.py").chmod(0)
    assert len(store.problems()) == 1
    (folders[0] / "secret.py").unlink()
    assert store.problems() == []


def test_the_source_is_read_when_it_is_needed(store: TaStore, folders: list[Path]) -> None:
    path = folders[0] / "one.py"
    put(path, service(ONE))
    found = store.find(parse_uuid(ONE))
    assert found is not None
    path.write_text("changed")
    assert found.read() == b"changed"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        found.read()


def test_what_is_known_is_not_read_again(
    store: TaStore, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        put(folders[0] / f"{number}.py", service(format_uuid(bytes([number]) * 16)))
    found = store.find(bytes([7]) * 16)
    assert found is not None
    # A file that cannot be read any more, and whose signature is the same, is not asked for.
    times = [(path, path.stat()) for path in folders[0].iterdir()]
    before = folders[0].stat()
    for path, status in times:
        size = status.st_size
        path.write_bytes(b"#" * size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.utime(folders[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.find(bytes([7]) * 16) is found
    assert len(store.all()) == 20
