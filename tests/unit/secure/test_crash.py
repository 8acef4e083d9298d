# SPDX-License-Identifier: BSD-2-Clause
"""Crash reports: what a TA's process writes, what is believed of it, and what a person sees."""

import errno
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gentee.abi.ta_channel import REPORT_MAX
from gentee.core.host import LOG_ERROR
from gentee.core.workers import WORKERS
from gentee.errors import TaPanic
from gentee.secure import crash
from gentee.secure.crash import CrashReports, parse_report, render, summary, wanted
from gentee.secure.symbols import Found, Named, Place, Symbols, Wanted
from gentee.ta import report as ta_report
from gentee.ta import unwind
from gentee.ta.engine.base import PROT_READ, Fault, FaultKind
from gentee.ta.report import crash_report
from tests.crashes import Command, CrashingTa
from tests.helpers import PATIENCE, LocalHost
from tests.ta_build import ARCHES
from tests.ta_run import UUID, uuid_text

TEXT_UUID = uuid_text(UUID)


@pytest.fixture(params=ARCHES)
def crashing(request: pytest.FixtureRequest) -> CrashingTa:
    return CrashingTa(request.param)


def a_report(**changes: Any) -> dict[str, Any]:
    """One that is right, but for what is changed."""
    report = {
        "arch": "arm",
        "doing": [2, 7, 3],
        "panic": 0xFFFF0006,
        "fault": None,
        "detail": "",
        "registers": {"pc": 0x10001000, "sp": 0x20000F00},
        "regions": [
            [0x10000000, 0x10002000, 5, "TA", 0],
            [0x10002000, 0x10003000, 3, "TA", 0],
            [0x20000000, 0x20001000, 3, "stack", -1],
        ],
        "modules": [["00" * 15 + "01", 0x10000000, 0x3000, "", 5]],
        "frames": [[0x10001000, 0], [0x10001101, 1]],
        "omitted": 0,
    }
    return {**report, **changes}


def parsed(**changes: Any) -> crash.Report:
    return parse_report(json.dumps(a_report(**changes)).encode())


def nothing(report: crash.Report) -> list[Found]:
    return [Found("", "", {}) for _ in report.modules]


class TestTables:
    """What is written twice, since the two sides import nothing of each other."""

    def test_faults(self) -> None:
        assert set(crash.FAULTS) == {kind.name for kind in FaultKind}
        for kind in FaultKind:
            assert kind.value in crash.FAULTS[kind.name]

    def test_kinds_of_frames(self) -> None:
        kinds = (crash.EXACT, crash.CALL, crash.LINK)
        assert kinds == (unwind.EXACT, unwind.CALL, unwind.LINK)
        assert crash.LAST_FRAMES == ta_report.LAST_FRAMES

    def test_limits(self) -> None:
        assert crash._MAX_FRAMES == ta_report.FIRST_FRAMES + ta_report.LAST_FRAMES
        assert crash._MAX_OMITTED > unwind.MAX_FRAMES
        assert crash._MAX_REGIONS == ta_report.MAX_REGIONS
        assert crash._MAX_DETAIL == ta_report.MAX_DETAIL

    def test_registers(self, crashing: CrashingTa) -> None:
        names = crash._ARCHES[crashing.arch]
        assert set(names) == crashing.engine.registers().keys()


class TestReports:
    """Of TAs that really die."""

    def test_a_fault(self, crashing: CrashingTa) -> None:
        cause = crashing.crash(Command.LEAF, 0x40)
        assert isinstance(cause, Fault)
        data = crash_report(crashing, cause)
        assert b"\n" not in data
        report = parse_report(data)
        assert report.arch == crashing.arch
        assert report.doing == (2, 1, Command.LEAF)
        assert (report.fault, report.address, report.panic) == ("READ_UNMAPPED", 0x40, None)
        assert dict(report.registers) == cause.registers
        assert [module.uuid for module in report.modules] == [TEXT_UUID]
        names = [region.name for region in report.regions]
        assert names.count("TA") == 2
        assert "stack" in names

    def test_a_panic(self, crashing: CrashingTa) -> None:
        report = parse_report(crashing.report(Command.PANIC))
        assert (report.panic, report.fault) == (0xFFFF0006, "")
        assert report.address is None
        if crashing.arch == "arm":  # those of before the call of _utee_panic()
            assert dict(report.registers)["r0"] == 0xFFFF0006

    @pytest.mark.parametrize("address", [0, 1 << 20, (1 << 32) - 8, (1 << 64) - 8])
    def test_a_panic_with_a_wrong_pointer(self, crashing: CrashingTa, address: int) -> None:
        crashing.crash(Command.PANIC)
        crashing.panic_registers = address
        report = parse_report(crash_report(crashing, TaPanic(1, "some reason")))
        assert report.detail == "some reason"
        assert len(report.frames) >= 1

    def test_a_long_chain_is_cut_in_the_middle(self, crashing: CrashingTa) -> None:
        report = parse_report(crashing.report(Command.CLIMB))
        assert len(report.frames) == crash._MAX_FRAMES
        assert report.omitted > 300
        lines = render(report, TEXT_UUID, nothing(report))
        assert sum("again and again" in line for line in lines) == 1

    def test_the_largest(self, crashing: CrashingTa) -> None:
        """As many files, regions and frames as there can be, with the longest of everything."""
        cause = crashing.crash(Command.CLIMB)
        space, module = crashing.space, crashing.loader.modules[0]
        crashing.loader.modules += [module] * 63
        for _ in range(200):
            memory = space.allocate(4096)
            space.map(space.place(4096), memory, PROT_READ, "client memory" * 3)
        cause = TaPanic(0xFFFFFFFF, "\x00" * 1000)
        data = crash_report(crashing, cause)
        assert 8000 < len(data) < REPORT_MAX
        report = parse_report(data)
        assert len(report.regions) == crash._MAX_REGIONS
        names = {region.name for region in report.regions}
        assert {"TA", "stack"} <= names  # near to the program counter, and the stack pointer


class TestSchema:
    def test_right(self) -> None:
        report = parsed()
        assert report.panic == 0xFFFF0006
        assert report.frames == ((0x10001000, 0), (0x10001101, 1))

    @pytest.mark.parametrize(
        "changes",
        [
            {"arch": "x86"},
            {"arch": ["arm"]},
            {"doing": [2, 7]},
            {"doing": [2, 7, 1 << 32]},
            {"doing": [True, 7, 1]},
            {"doing": None},
            {"panic": -1},
            {"panic": 1 << 32},
            {"panic": 1.0},
            {"panic": None},
            {"fault": ["READ_UNMAPPED", 0]},
            {"panic": None, "fault": ["READ", 0]},
            {"panic": None, "fault": ["READ_UNMAPPED"]},
            {"panic": None, "fault": ["READ_UNMAPPED", 1 << 64]},
            {"panic": None, "fault": ["", None]},
            {"panic": None, "fault": [["READ_UNMAPPED"], 0]},
            {"detail": "x" * 201},
            {"detail": None},
            {"registers": {"x0": 1}},
            {"registers": {"pc": "1"}},
            {"registers": [1]},
            {"regions": [[0, 1, 8, "TA", 0]]},
            {"regions": [[0, 1, 1, "T" * 65, 0]]},
            {"regions": [[0, 1, 1, "TA", 64]]},
            {"regions": [[0, 1, 1, "TA"]]},
            {"regions": [[0, 1, 1, "TA", 0]] * 25},
            {"modules": [["0", 0, 0, "", 0]]},
            {"modules": [["00" * 17, 0, 0, "", 0]]},
            {"modules": [["00" * 16, 0, 0, "0", 0]]},
            {"modules": [["00" * 16, 0, 0, "../../etc", 0]]},
            {"modules": [["00" * 16, 0, 0, "", 1 << 32]]},
            {"modules": [["00" * 16, 0, 0, "", 0]] * 65},
            {"frames": [[0, 3]]},
            {"frames": [[0]]},
            {"frames": [[0, 0]] * 65},
            {"frames": {"0": 0}},
            {"omitted": 5000},
            {"omitted": -1},
            {"more": 1},
        ],
    )
    def test_wrong(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ValueError):
            parsed(**changes)

    @pytest.mark.parametrize("key", sorted(crash._KEYS))
    def test_something_is_missing(self, key: str) -> None:
        report = a_report()
        del report[key]
        with pytest.raises(ValueError):
            parse_report(json.dumps(report).encode())

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"[]",
            b"null",
            b"{",
            b"\xff\xfe",
            b"[" * 30000,
            b'{"a":' * 5000,
            b"1" * 30000,
            b'{"panic": NaN}',
            b"\x00" * 100,
        ],
    )
    def test_no_report(self, data: bytes) -> None:
        with pytest.raises(ValueError):
            parse_report(data)

    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        with pytest.raises(ValueError):
            parse_report(data)

    JSON = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=10,
    )

    @settings(max_examples=400)
    @given(key=st.sampled_from(sorted(crash._KEYS)), value=JSON)
    @example("regions", [[(1 << 64) - 1, 0, 7, "\x1b[2J", 63]])
    @example("modules", [])
    @example("frames", [[0, 0], [0, 1], [0, 2], [(1 << 64) - 1, 1]])
    @example("registers", {})
    def test_anything_in_one_place(self, key: str, value: object) -> None:
        """It is refused, or it can be shown."""
        try:
            report = parsed(**{key: value})
        except ValueError:
            return
        lines = render(report, TEXT_UUID, nothing(report))
        assert len(lines) < 300
        assert lines[0] == summary(report)
        assert len(wanted(report)) == len(report.modules)

    WORD = st.integers(0, (1 << 64) - 1)

    @settings(max_examples=200)
    @given(
        address=WORD | st.none(),
        regions=st.lists(st.tuples(WORD, WORD, st.integers(0, 7), st.text(max_size=9),
                                   st.integers(-1, 63)), max_size=24),
        modules=st.lists(st.tuples(st.just("11" * 16), WORD, WORD, st.just(""),
                                   st.just(0)), max_size=64),
        frames=st.lists(st.tuples(WORD, st.integers(0, 2)), max_size=64),
        omitted=st.integers(0, 4096),
    )  # fmt: skip
    def test_anything_that_is_right(
        self,
        address: int | None,
        regions: list[Any],
        modules: list[Any],
        frames: list[Any],
        omitted: int,
    ) -> None:
        report = parsed(
            panic=None, fault=["READ_UNMAPPED", address], regions=regions, modules=modules,
            frames=frames, omitted=omitted,
        )  # fmt: skip
        assert len(render(report, TEXT_UUID, nothing(report))) < 300


class TestLines:
    def lines(self, found: Sequence[Found] = (), **changes: Any) -> list[str]:
        report = parsed(**changes)
        return render(report, TEXT_UUID, found or nothing(report))

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            ({}, "panicked: TEE_ERROR_BAD_PARAMETERS (0xffff0006), in command 3 of session 7"),
            ({"panic": 7, "doing": [0, 4, 0]}, "panicked: 0x00000007, while session 4 was opened"),
            ({"panic": 0, "doing": [1, 4, 0], "detail": "why"},
             "panicked: TEE_SUCCESS (0x00000000), why, while session 4 was closed"),
            ({"doing": [3, 0, 0], "panic": 7}, "panicked: 0x00000007, while it counted its memory"),
            ({"panic": None, "fault": ["READ_UNMAPPED", 8]},
             "died: data abort, read of unmapped memory at 0x8 (a null pointer), "
             "in command 3 of session 7"),
            ({"panic": None, "fault": ["WRITE_PROTECTED", 0x10001234]},
             "died: data abort, write to read-only memory at 0x10001234 (TA + 0x1234), "
             "in command 3 of session 7"),
            ({"panic": None, "fault": ["FETCH_PROTECTED", 0x20000008]},
             "died: prefetch abort, execution of data at 0x20000008 (stack + 0x8), "
             "in command 3 of session 7"),
            ({"panic": None, "fault": ["FETCH_UNMAPPED", 0x2000000010001234]},
             "died: prefetch abort, jump to unmapped memory at 0x2000000010001234 (TA + 0x1234, "
             "but for its upper bits: was it signed for something else?), "
             "in command 3 of session 7"),
            ({"panic": None, "fault": ["UNDEFINED", None]},
             "died: undefined instruction, in command 3 of session 7"),
        ],
    )  # fmt: skip
    def test_the_first(self, changes: dict[str, Any], line: str) -> None:
        assert self.lines(**changes)[0] == line

    def test_without_symbols(self) -> None:
        lines = self.lines()
        assert "    #0  0x10001000  TA + 0x1000" in lines
        assert "    #1  0x10001101  TA + 0x1101" in lines
        hints = [line for line in lines if "--symbols DIR" in line]
        assert len(hints) == 1

    def test_a_problem_with_symbols(self) -> None:
        lines = self.lines([Found("", "/x/a.elf is of another build", {})])
        assert "    /x/a.elf is of another build" in lines
        assert not [line for line in lines if "--symbols DIR" in line]

    def test_with_symbols(self) -> None:
        places = (Place("inner", "a.c", 3), Place("outer", "b.c", 7))
        named = {(0x1000, False): Named(0xF00, places), (0x1101, True): Named(0x1100, ())}
        lines = self.lines([Found("/x/a.elf", "", named)])
        assert "    #0  0x10001000  inner at a.c:3  (inlined)" in lines
        assert "    #1  0x10001000  outer at b.c:7" in lines
        assert "    #2  0x10001101  TA + 0x1101" in lines
        assert any(line.endswith("symbols of /x/a.elf") for line in lines)

    def test_a_name_without_a_line(self) -> None:
        named = {(0x1000, False): Named(0xF00, (Place("some", "", 0),))}
        assert "    #0  0x10001000  some  (TA + 0x1000)" in self.lines([Found("x", "", named)])

    def test_the_link_register(self) -> None:
        """Kept where it may be a caller, and left out where it is the same function."""
        frames = [[0x10001000, 0], [0x10001100, 2], [0x10001200, 1]]
        assert any("#1  0x10001100" in line and "may be over" in line
                   for line in self.lines(frames=frames))  # fmt: skip
        same = {
            (0x1000, False): Named(0xF00, (Place("f", "", 0),)),
            (0x1100, True): Named(0xF00, (Place("f", "", 0),)),
            (0x1200, True): Named(0x1180, (Place("g", "", 0),)),
        }
        lines = self.lines([Found("x", "", same)], frames=frames)
        assert not [line for line in lines if "0x10001100" in line]
        assert any("#1  0x10001200  g" in line for line in lines)
        other = {**same, (0x1100, True): Named(0x1080, (Place("h", "", 0),))}
        lines = self.lines([Found("x", "", other)], frames=frames)
        assert any("#1  0x10001100  h" in line for line in lines)

    def test_omitted_frames(self) -> None:
        frames = [[0x10001000 + 2 * n, 1] for n in range(64)]
        lines = self.lines(frames=frames, omitted=100)
        at = lines.index("    ... 100 more frames")
        assert lines[at + 1].startswith("    #148 ")

    def test_recursion(self) -> None:
        lines = self.lines(frames=[*[[0x10001000, 1]] * 20, [0x10001100, 1]])
        assert sum("0x10001000" in line for line in lines) == 3
        assert any(line.startswith("    #20 0x10001100") for line in lines)

    @pytest.mark.parametrize(
        ("address", "line"),
        [
            (0x10001004, "    0x10000000-0x10002000 r-x  TA  <- the fault, at 0x10001004"),
            (0x4, "    0x00000004             <- the fault, 0xffffffc bytes before TA"),
            (0x1FFFFFF0, "    0x1ffffff0             <- the fault, 0x10 bytes before stack"),
            (0x20001010, "    0x20001010             <- the fault, 0x10 bytes after stack"),
            (0x10003000, "    0x10003000             <- the fault, 0x0 bytes after TA"),
        ],
    )
    def test_memory(self, address: int, line: str) -> None:
        lines = self.lines(panic=None, fault=["READ_UNMAPPED", address])
        memory = lines[lines.index("  Memory") : lines.index("  Loaded files")]
        assert line in memory
        starts = [text.split()[0][:10] for text in memory[1:]]
        assert starts == sorted(starts)

    def test_registers_are_in_columns(self, crashing: CrashingTa) -> None:
        report = parse_report(crashing.report(Command.LEAF, 0))
        lines = render(report, TEXT_UUID, nothing(report))
        rows = lines[lines.index("  Registers") + 1 : lines.index("  Memory")]
        assert sum(len(row.split()) for row in rows) == 2 * len(report.registers)
        assert len({len(row) for row in rows[:-1]}) == 1
        assert all(len(row) <= 110 for row in rows)

    def test_the_engine(self) -> None:
        assert "report it" in self.lines(panic=None, fault=["ENGINE", None])[-1]


class Slow(Symbols):
    """Symbols that take until somebody lets them go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.go = threading.Event()
        self.stopped = False

    def look_up(self, arch: str, modules: Sequence[Wanted]) -> list[Found]:
        self.asked.set()
        assert self.go.wait(PATIENCE)
        return [Found("", "", {}) for _ in modules]

    def stop(self) -> None:
        self.stopped = True
        self.go.set()


@pytest.fixture
def host() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    host.close()


class TestCrashReports:
    DATA = json.dumps(a_report()).encode()

    def test_shown(self, host: LocalHost) -> None:
        reports = CrashReports(host, Symbols())
        reports.submit("vault", TEXT_UUID, self.DATA)
        reports.close()
        assert {(source, level) for source, level, _ in host.logged} == {("vault", LOG_ERROR)}
        assert host.logged[0][2].startswith("panicked: TEE_ERROR_BAD_PARAMETERS")
        assert f"  TA {TEXT_UUID}, 32-bit Arm" in [text for _, _, text in host.logged]

    def test_what_is_none_is_one_line(self, host: LocalHost) -> None:
        reports = CrashReports(host, Symbols())
        reports.submit("vault", TEXT_UUID, b"{}")
        reports.close()
        ((_, level, text),) = host.logged
        assert level == LOG_ERROR
        assert text == "died, and left a crash report that cannot be read (not these keys)"

    def test_a_flood(self, host: LocalHost) -> None:
        """One thread for all of them, and of most the first line only."""
        symbols = Slow()
        reports = CrashReports(host, symbols)
        reports.submit("vault", TEXT_UUID, self.DATA)
        assert symbols.asked.wait(PATIENCE)
        for _ in range(500):
            reports.submit("vault", TEXT_UUID, self.DATA)
        assert len(host.logged) == 500 - crash.MAX_WAITING
        symbols.go.set()
        reports.close()
        firsts = [text for _, _, text in host.logged if text.startswith("panicked")]
        assert len(firsts) == 501

    def test_no_thread(self, host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is shown where it came, and nobody looks for names there."""

        def submit(_job: Any) -> None:
            raise OSError(errno.EAGAIN, "no thread")

        monkeypatch.setattr(WORKERS, "submit", submit)
        symbols = Slow()
        reports = CrashReports(host, symbols)
        reports.submit("vault", TEXT_UUID, self.DATA)
        reports.close()
        assert not symbols.asked.is_set()
        assert host.logged[0][2].startswith("panicked")

    def test_a_bug(self, host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
        """One of ours costs that report, and is told."""
        symbols = Symbols()
        monkeypatch.setattr(symbols, "look_up", None)
        reports = CrashReports(host, symbols)
        reports.submit("vault", TEXT_UUID, self.DATA)
        reports.close()
        assert [type(bug) for bug in host.bugs] == [TypeError]
        host.bugs.clear()
        assert len(host.logged) == 1
        assert host.logged[0][2].startswith("panicked")

    def test_the_end_does_not_wait_for_ever(self, host: LocalHost) -> None:
        symbols = Slow()
        reports = CrashReports(host, symbols)
        reports.submit("vault", TEXT_UUID, self.DATA)
        reports.close(timeout=0.01)
        reports.close(timeout=PATIENCE)
        assert symbols.stopped
        assert host.logged[0][2].startswith("panicked")

    def test_with_the_unstripped_file(
        self, host: LocalHost, crashing: CrashingTa, tmp_path: Path
    ) -> None:
        path = crashing.keep_elf(tmp_path)
        reports = CrashReports(host, Symbols([str(tmp_path)]))
        reports.submit("vault", TEXT_UUID, crashing.report(Command.CXX, 0x10))
        reports.close(PATIENCE)
        texts = [text for _, _, text in host.logged]
        assert "(a null pointer)" in texts[0]
        frames = [text.split("  ", 4)[-1] for text in texts if text.startswith("    #")]
        line = (Path(__file__).parents[2] / "tas/crashes.c").read_text().split("\n")
        at = 1 + next(n for n, text in enumerate(line) if "return *address;" in text)
        assert frames[0].endswith(f"leaf at {frames[0].split(' at ')[1].split(':')[0]}:{at}")
        assert "crashes.c:" in frames[0]
        assert frames[2].startswith("vault::Store::open(unsigned int const*, char) at ")
        assert any(text.endswith(f"symbols of {path}") for text in texts)
