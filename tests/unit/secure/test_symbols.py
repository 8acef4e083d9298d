# SPDX-License-Identifier: BSD-2-Clause
"""Symbols: which file they are taken from, what is read, and files that were made to do harm."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gentee.abi.elf_identity import build_id, code_checksum, machine
from gentee.secure import symbol_reader, symbols
from gentee.secure.symbol_reader import demangle, read_module
from gentee.secure.symbols import Symbols, Wanted
from tests.crashes import FLAGS
from tests.helpers import PATIENCE, open_descriptors, wait_until
from tests.ta_build import ARCHES, TAS
from tests.ta_run import UUID, ta_bytes, uuid_text

TEXT_UUID = uuid_text(UUID)
WITH_ID = (*FLAGS, "-Wl,--build-id=sha1")
SOURCE = (TAS / "crashes.c").read_text().split("\n")


@cache
def function(arch: str, name: str, flags: tuple[str, ...] = FLAGS) -> int:
    """The address of a function, by pyelftools."""
    from io import BytesIO

    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    file = ELFFile(BytesIO(ta_bytes("crashes", arch, *flags)))
    table = file.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    symbols = table.get_symbol_by_name(name)
    assert symbols
    return int(symbols[0]["st_value"]) & ~1


def the_module(arch: str, flags: tuple[str, ...] = FLAGS, **changes: Any) -> dict[str, Any]:
    data = ta_bytes("crashes", arch, *flags)
    module = {
        "uuid": TEXT_UUID,
        "build_id": build_id(data).hex(),
        "checksum": code_checksum(data),
        "addresses": [(function(arch, "leaf", flags), False)],
    }
    return {**module, **changes}


def write(path: Path, arch: str, flags: tuple[str, ...] = FLAGS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ta_bytes("crashes", arch, *flags))
    return path


class TestIdentity:
    @pytest.mark.parametrize("arch", ARCHES)
    def test_build_id(self, arch: str) -> None:
        assert len(build_id(ta_bytes("crashes", arch, *WITH_ID))) == 20
        assert build_id(ta_bytes("crashes", arch, *FLAGS)) == b""

    @pytest.mark.parametrize("arch", ARCHES)
    def test_code(self, arch: str) -> None:
        """It is the same without symbols, and not the same when one instruction is another."""
        data = ta_bytes("crashes", arch, *FLAGS)
        assert code_checksum(data) == code_checksum(ta_bytes("crashes", arch, *FLAGS, "-Wl,-s"))
        changed = bytearray(data)
        changed[0x1000 + function(arch, "leaf")] ^= 1
        assert code_checksum(data) != code_checksum(bytes(changed))

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        for content in (data, b"\x7fELF\x01\x01" + data, b"\x7fELF\x02\x01" + data):
            assert isinstance(build_id(content), bytes)
            assert isinstance(code_checksum(content), int)
            assert isinstance(machine(content), int)

    @settings(max_examples=200, deadline=None)
    @given(
        arch=st.sampled_from(ARCHES),
        flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), max_size=8),
        headers=st.booleans(),
        end=st.integers(0, 1 << 20),
    )
    def test_damaged(
        self, arch: str, flips: list[tuple[int, int]], headers: bool, end: int
    ) -> None:
        data = bytearray(ta_bytes("crashes", arch, *WITH_ID))
        for at, mask in flips:
            data[at % (64 + 4 * 56 if headers else len(data))] ^= mask
        content = bytes(data[: end % len(data)] if end % 3 == 0 else data)
        assert isinstance(build_id(content), bytes)
        assert 0 <= code_checksum(content) < 1 << 32


@pytest.mark.parametrize("arch", ARCHES)
class TestWhichFile:
    """Found by its name, or by its build id; never one of another build."""

    @pytest.mark.parametrize(
        "name",
        [
            f"{TEXT_UUID}.elf",
            f"{TEXT_UUID}.debug",
            TEXT_UUID,
            f"{TEXT_UUID}/{TEXT_UUID}.elf",
            f"{TEXT_UUID}/anything.elf",
        ],
    )
    def test_by_uuid(self, tmp_path: Path, arch: str, name: str) -> None:
        path = write(tmp_path / name, arch)
        answer = read_module(arch, [str(tmp_path)], the_module(arch))
        assert (answer["file"], answer["problem"]) == (str(path), "")
        assert answer["found"][0][1][0][0] == "leaf"

    def test_the_first_folder_wins(self, tmp_path: Path, arch: str) -> None:
        folders = [tmp_path / name for name in ("none", "b", "a")]
        for folder in folders[1:]:
            write(folder / f"{TEXT_UUID}.elf", arch)
        answer = read_module(arch, [str(folder) for folder in folders], the_module(arch))
        assert answer["file"].startswith(str(folders[1]))

    @pytest.mark.parametrize("name", ["whatever", "vault.elf", ".build-id/{}/{}.debug"])
    def test_by_build_id(self, tmp_path: Path, arch: str, name: str) -> None:
        module = the_module(arch, WITH_ID)
        build = module["build_id"]
        path = write(tmp_path / name.format(build[:2], build[2:]), arch, WITH_ID)
        write(tmp_path / "another.elf", arch)
        assert read_module(arch, [str(tmp_path)], module)["file"] == str(path)

    def test_another_build(self, tmp_path: Path, arch: str) -> None:
        path = write(tmp_path / f"{TEXT_UUID}.elf", arch)
        answer = read_module(arch, [str(tmp_path)], the_module(arch, checksum=1))
        assert answer == {"file": "", "problem": f"{path} is of another build", "found": []}

    def test_another_build_id(self, tmp_path: Path, arch: str) -> None:
        write(tmp_path / f"{TEXT_UUID}.elf", arch, WITH_ID)
        module = the_module(arch, WITH_ID, build_id="11" * 20)
        assert "another build" in read_module(arch, [str(tmp_path)], module)["problem"]

    def test_without_symbols(self, tmp_path: Path, arch: str) -> None:
        """The file beside the image may be the stripped one; a better one may come later."""
        flags = (*FLAGS, "-Wl,-s")
        path = write(tmp_path / "a" / f"{TEXT_UUID}.elf", arch, flags)
        answer = read_module(arch, [str(tmp_path / "a")], the_module(arch))
        assert answer["problem"] == f"{path} has no symbols"
        better = write(tmp_path / "b" / f"{TEXT_UUID}.elf", arch)
        folders = [str(tmp_path / "a"), str(tmp_path / "b")]
        assert read_module(arch, folders, the_module(arch))["file"] == str(better)

    def test_the_other_architecture(self, tmp_path: Path, arch: str) -> None:
        (other,) = set(ARCHES) - {arch}
        write(tmp_path / f"{TEXT_UUID}.elf", other)
        answer = read_module(arch, [str(tmp_path)], the_module(arch))
        assert (answer["file"], answer["problem"]) == ("", "")

    def test_what_is_no_file(self, tmp_path: Path, arch: str) -> None:
        """Opening it waits for nobody."""
        os.mkfifo(tmp_path / f"{TEXT_UUID}.elf")
        (tmp_path / f"{TEXT_UUID}.debug").mkdir()
        (tmp_path / f"{TEXT_UUID}.so").write_bytes(b"")
        (tmp_path / TEXT_UUID).symlink_to(TEXT_UUID)
        module = the_module(arch, build_id="11" * 20)
        assert read_module(arch, [str(tmp_path)], module)["file"] == ""


def lines_of(answer: dict[str, Any]) -> list[list[tuple[str, str]]]:
    """For each address its places: the function, and the text of the line in crashes.c."""
    found = []
    for _start, places in answer["found"]:
        rows = []
        for name, file, line in places:
            assert file.endswith("crashes.c")
            rows.append((name, SOURCE[line - 1].strip()))
        found.append(rows)
    return found


@pytest.mark.parametrize("arch", ARCHES)
class TestReading:
    @pytest.mark.parametrize("dwarf", ["-gdwarf-4", "-gdwarf-5"])
    def test_functions_and_lines(self, tmp_path: Path, arch: str, dwarf: str) -> None:
        flags = (*FLAGS, dwarf)
        write(tmp_path / f"{TEXT_UUID}.elf", arch, flags)
        names = ("leaf", "recurse", "_ZN5vault5Store4openEPKjc")
        addresses = [(function(arch, name, flags), False) for name in names]
        module = the_module(arch, flags, addresses=addresses)
        answer = read_module(arch, [str(tmp_path)], module)
        assert [start for start, _ in answer["found"]] == [address for address, _ in addresses]
        ((leaf, text),), ((recurse, _),), ((cxx, _),) = lines_of(answer)
        assert leaf == "leaf"
        assert text in ("{", "return *address;")  # the first instruction may make the frame
        assert recurse == "recurse"
        assert cxx == "vault::Store::open(unsigned int const*, char)"

    def test_inlined(self, tmp_path: Path, arch: str) -> None:
        """Each of its instructions is of the function, some of the one that is inlined."""
        write(tmp_path / f"{TEXT_UUID}.elf", arch)
        start = function(arch, "has_inlined")
        addresses = [(at, False) for at in range(start, start + 32, 4)]
        answer = read_module(arch, [str(tmp_path)], the_module(arch, addresses=addresses))
        inlined = [rows for rows in lines_of(answer) if rows[0][0] == "inlined"]
        assert inlined
        for rows in inlined:
            assert rows[0][1] == "return *address + 1;"
            assert rows[1] == ("has_inlined", "return inlined(address);")

    def test_a_return_address_is_of_the_call(self, tmp_path: Path, arch: str) -> None:
        """The address after the last instruction of a function, where another one starts."""
        write(tmp_path / f"{TEXT_UUID}.elf", arch)
        start = function(arch, "leaf")
        addresses = [(start, False), (start, True)]
        answer = read_module(arch, [str(tmp_path)], the_module(arch, addresses=addresses))
        first, second = (places[0][0] if places else "" for _, places in answer["found"])
        assert first == "leaf"
        assert second != "leaf"

    def test_without_dwarf(self, tmp_path: Path, arch: str) -> None:
        data = ta_bytes("crashes", arch, *FLAGS).replace(b".debug_", b".other_")
        (tmp_path / f"{TEXT_UUID}.elf").write_bytes(data)
        (found,) = read_module(arch, [str(tmp_path)], the_module(arch))["found"]
        assert found[1] == [("leaf", "", 0)]

    def test_an_address_in_no_function(self, tmp_path: Path, arch: str) -> None:
        write(tmp_path / f"{TEXT_UUID}.elf", arch)
        module = the_module(arch, addresses=[(1 << 40, False), (0, True), ((1 << 64) - 1, True)])
        assert read_module(arch, [str(tmp_path)], module)["found"] == [(-1, [])] * 3

    @settings(max_examples=100, deadline=None)
    @given(
        flips=st.lists(
            st.tuples(st.integers(0, 1 << 24), st.integers(1, 255)), min_size=1, max_size=20
        ),
        after=st.sampled_from([0x4000, 0x2000]),
    )
    def test_damaged(
        self, tmp_path_factory: pytest.TempPathFactory, arch: str, flips: list[tuple[int, int]],
        after: int,
    ) -> None:  # fmt: skip
        """Damage outside of the code, where symbols and DWARF are, is a problem at most."""
        data = bytearray(ta_bytes("crashes", arch, *FLAGS))
        for at, mask in flips:
            data[after + at % (len(data) - after)] ^= mask
        folder = tmp_path_factory.mktemp("damaged")
        (folder / f"{TEXT_UUID}.elf").write_bytes(data)
        answer = read_module(arch, [str(folder)], the_module(arch))
        assert answer.keys() == {"file", "problem", "found"}
        assert bool(answer["file"]) == (len(answer["found"]) == 1)


class TestDemangle:
    @pytest.mark.parametrize(
        ("mangled", "name"),
        [
            ("TA_InvokeCommandEntryPoint", "TA_InvokeCommandEntryPoint"),
            ("_ZN5vault5Store4openEPKjc", "vault::Store::open(unsigned int const*, char)"),
            ("_ZNSt6vectorIiSaIiEE9push_backEOi", "std::vector<int, std::allocator<int>>::"
             "push_back(int&&)"),
            ("_ZN12_GLOBAL__N_13fooEv", "(anonymous namespace)::foo()"),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            ("_ZNK", "_ZNK"),
            ("_Z", "_Z"),
            ("_Rust", "_Rust"),
            ("", ""),
        ],
    )  # fmt: skip
    def test_names(self, mangled: str, name: str) -> None:
        assert demangle(mangled) == name

    def test_long_names(self) -> None:
        assert len(demangle("x" * 10000)) == symbol_reader.MAX_NAME
        assert len(demangle("_Z1f" + "P" * 4000 + "i")) == symbol_reader.MAX_NAME
        # The demangler would recurse until it has no stack left.
        assert demangle("_Z1f" + "P" * 1_000_000 + "i").startswith("_Z1fPPP")

    @given(st.text(alphabet="_ZRNKSt0123456789EILPabTvijc.$", max_size=200))
    def test_any(self, name: str) -> None:
        for text in (name, "_Z" + name, "_R" + name):
            assert len(demangle(text)) <= symbol_reader.MAX_NAME


def module_of(arch: str) -> Wanted:
    wanted = the_module(arch)
    return Wanted(
        wanted["uuid"], wanted["build_id"], wanted["checksum"], tuple(wanted["addresses"])
    )


class TestReader:
    """The process that reads."""

    @pytest.mark.parametrize("arch", ARCHES)
    def test_found(self, tmp_path: Path, arch: str) -> None:
        path = write(tmp_path / f"{TEXT_UUID}.elf", arch)
        module = module_of(arch)
        (found,) = Symbols([str(tmp_path)]).look_up(arch, [module])
        assert found.file == str(path)
        ((key, named),) = found.named.items()
        assert key == module.addresses[0]
        assert (named.start, named.places[0].function) == (key[0], "leaf")

    def test_remembered(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Once it was found nobody reads the file again; what was not found is looked for."""
        known = Symbols([str(tmp_path)])
        module = module_of("arm")
        assert known.look_up("arm", [module])[0].file == ""
        path = write(tmp_path / f"{TEXT_UUID}.elf", "arm")
        (first,) = known.look_up("arm", [module])
        assert first.file == str(path)
        monkeypatch.setattr(symbols, "_spawn", None)
        assert known.look_up("arm", [module]) == [first]

    def test_no_folders(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(symbols, "_spawn", None)
        (found,) = Symbols().look_up("arm", [module_of("arm")])
        assert (found.file, found.problem) == ("", "")

    def test_somebody_else_collects_it(self, tmp_path: Path) -> None:
        """``gentee run`` waits for any child, so the reader may be gone from the table."""
        write(tmp_path / f"{TEXT_UUID}.elf", "arm")
        stop = threading.Event()

        def collect() -> None:
            while not stop.is_set():
                try:
                    os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    pass
                stop.wait(0.001)

        thread = threading.Thread(target=collect)
        thread.start()
        try:
            (found,) = Symbols([str(tmp_path)]).look_up("arm", [module_of("arm")])
        finally:
            stop.set()
            thread.join()
        assert found.file

    @pytest.fixture
    def stand_in(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """Another program in the place of the reader."""

        def use(code: str) -> None:
            def spawn(stdin: int, stdout: int) -> int:
                actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)]
                argv = [sys.executable, "-I", "-c", code]
                return os.posix_spawn(sys.executable, argv, {}, file_actions=actions)

            monkeypatch.setattr(symbols, "_spawn", spawn)

        return use

    @pytest.mark.parametrize(
        ("code", "problem"),
        [
            ("", "the reader ended early"),
            ("import os; os.abort()", "the reader ended early"),
            ("print('[')", "Expecting value"),
            ("print('[' * 100000)", "recursion"),
            ("print('[]')", "the reader ended early"),
            ("print('[{}]')", "something else"),
            ("print('[1]')", "something else"),
            ("while True: print('x' * 100000)", "too many"),
            ("import time; time.sleep(1000)", "more than"),
        ],
    )
    def test_whatever_it_does(
        self,
        stand_in: Callable[[str], None],
        monkeypatch: pytest.MonkeyPatch,
        code: str,
        problem: str,
    ) -> None:
        monkeypatch.setattr(symbols, "SECONDS", 0.1 if "sleep" in code else PATIENCE)
        stand_in(code)
        (found,) = Symbols(["/"]).look_up("arm", [module_of("arm")])
        assert found.problem.startswith("symbols could not be read: ")
        assert problem in found.problem

    @settings(max_examples=300)
    @given(st.data())
    def test_any_answer(self, data: st.DataObject) -> None:
        """Types and counts of all that it says are looked at."""
        values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats()
        answer = {
            "file": data.draw(values | st.just("/x")),
            "problem": data.draw(values | st.just("")),
            "found": data.draw(
                st.lists(st.tuples(values, st.lists(st.tuples(values, values, values))).map(list))
                | values
                | st.just([[4, [["f", "a.c", 1]]]])
            ),
        }
        try:
            (found,) = symbols._checked(json.loads(json.dumps([answer])), [module_of("arm")])
        except ValueError:
            return
        assert isinstance(found.file, str)
        for named in found.named.values():
            assert isinstance(named.start, int)
            for function, file, line in named.places:
                assert isinstance(function, str)
                assert isinstance(file, str)
                assert isinstance(line, int)

    def test_stopped(
        self, stand_in: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(symbols, "SECONDS", PATIENCE)
        stand_in("import time; time.sleep(1000)")
        slow = Symbols(["/"])
        found = []
        thread = threading.Thread(
            target=lambda: found.extend(slow.look_up("arm", [module_of("arm")]))
        )
        thread.start()
        wait_until(lambda: slow._reader is not None)
        slow.stop()
        thread.join(PATIENCE)
        assert found[0].problem
        assert slow.look_up("arm", [module_of("arm")])[0].problem  # nor is another one waited for

    def test_nothing_is_left(self, stand_in: Callable[[str], None]) -> None:
        before = open_descriptors()
        for code in ("", "print('[]')"):
            stand_in(code)
            Symbols(["/"]).look_up("arm", [module_of("arm")])
        assert open_descriptors() == before

    @pytest.mark.slow
    def test_it_has_limits(self, tmp_path: Path) -> None:
        """A reader that is made to work without end, to take all memory or to write, ends."""
        write(tmp_path / f"{TEXT_UUID}.elf", "arm")
        code = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from gentee.secure import symbol_reader as r\n"
            "r.CPU_SECONDS = 1\n"
            "def work(*_): \n"
            "    if sys.argv[2] == 'memory': bytearray(8 << 30)\n"
            "    if sys.argv[2] == 'file': open(sys.argv[3], 'w').write('x' * 9999)\n"
            "    while True: pass\n"
            "r.read_module = work\n"
            "r.main()\n"
        )
        request = json.dumps({"arch": "arm", "dirs": [], "path": [], "modules": [1]})
        root = str(Path(__file__).parents[3])
        for kind in ("time", "memory", "file"):
            done = subprocess.run(
                [sys.executable, "-I", "-c", code, root, kind, str(tmp_path / "x")],
                input=request.encode(), capture_output=True, timeout=PATIENCE, check=False,
            )  # fmt: skip
            assert done.returncode != 0
            assert (b"MemoryError" in done.stderr) == (kind == "memory")
        written = tmp_path / "x"
        assert not written.exists() or not written.stat().st_size
