# SPDX-License-Identifier: BSD-2-Clause
"""Backtraces of TAs that really died, of both arches, and of stacks that were made up."""

import itertools
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gentee.abi import optee_ta as ta
from gentee.errors import TaPanic
from gentee.ta.engine.base import Fault, FaultKind
from gentee.ta.engine.native import NativeEngine
from gentee.ta.engine.space import PROT_EXEC, PROT_READ, PROT_WRITE, AddressSpace, BadAddress
from gentee.ta.unwind import CALL, EXACT, LINK, MAX_FRAMES, Frame, _ByTables, _Refused, backtrace
from tests.crashes import FLAGS, SIGNED, Command, CrashingTa
from tests.ta_build import ARCHES

BUILDS = {"aarch64": ("aarch64", FLAGS), "signed": ("aarch64", SIGNED), "arm": ("arm", FLAGS)}
END = ["invoke", "__ta_entry"]  # ta_main() is inlined


@pytest.fixture(params=BUILDS)
def crashing(request: pytest.FixtureRequest) -> CrashingTa:
    arch, flags = BUILDS[request.param]
    return CrashingTa(arch, flags)


def frames_of(crashing: CrashingTa, command: int, *vals: int) -> list[Frame]:
    cause = crashing.crash(command, *vals)
    assert isinstance(cause, Fault)
    modules = crashing.loader.modules
    return backtrace(crashing.space, modules, crashing.arch, cause.registers)


def alike(names: list[str]) -> list[str]:
    """Names with those that follow themselves once only."""
    return [name for name, _ in itertools.groupby(names)]


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (Command.LEAF, ["leaf", "leaf_caller", *END]),
        (Command.INLINED, ["inlined", *END]),
        (Command.MIXED, ["leaf", "leaf_caller", "other_state", *END]),
        (
            Command.CXX,
            ["leaf", "leaf_caller", "vault::Store::open(unsigned int const*, char)", *END],
        ),
        (Command.JUMP, ["?", *END]),
    ],
)
def test_functions(
    crashing: CrashingTa, tmp_path: Path, command: Command, names: list[str]
) -> None:
    frames = frames_of(crashing, command, 0x40)
    assert crashing.functions(tmp_path, frames) == names
    assert frames[0].kind == EXACT


def test_recursion(crashing: CrashingTa, tmp_path: Path) -> None:
    names = crashing.functions(tmp_path, frames_of(crashing, Command.RECURSE, 20))
    assert names == ["leaf", "leaf_caller", *["recurse"] * 21, *END]


@pytest.mark.parametrize("command", [Command.OVERFLOW, Command.CLIMB])
def test_stack_overflow(crashing: CrashingTa, tmp_path: Path, command: Command) -> None:
    """From the very end of the stack to its beginning."""
    cause = crashing.crash(command)
    assert isinstance(cause, Fault)
    assert cause.kind is FaultKind.STACK_OVERFLOW
    frames = backtrace(crashing.space, crashing.loader.modules, crashing.arch, cause.registers)
    assert len(frames) > 30
    name = "overflow" if command == Command.OVERFLOW else "climb"
    assert alike(crashing.functions(tmp_path, frames)) == [name, *END]


def test_a_call_that_is_over_is_marked(crashing: CrashingTa, tmp_path: Path) -> None:
    """Without symbols nobody can tell it from a caller; with them it is the function itself."""
    frames = frames_of(crashing, Command.AFTER_CALL, 0)
    if crashing.arch == "aarch64":
        assert frames[1].kind == LINK
        assert crashing.functions(tmp_path, frames[1:2]) == ["after_call"]
        del frames[1]
    assert crashing.functions(tmp_path, frames) == ["after_call", *END]


def test_return_addresses_are_signed() -> None:
    """What the test above unwinds has authentication codes: they are on the stack."""
    crashing = CrashingTa(*BUILDS["signed"])
    frames = frames_of(crashing, Command.RECURSE, 30)
    assert all(frame.address < 1 << 32 for frame in frames)
    stack = crashing.space.find(crashing.ta.stack)
    assert stack is not None
    words = stack.memory.cast("Q").tolist()
    returns = {frame.address for frame in frames if frame.kind == CALL}
    signed = [word for word in words if word & 0xFFFFFFFF in returns and word >> 39]
    assert signed


class TestPanic:
    """TEE_Panic(): by the registers that the TA saved, or without them."""

    def test_saved_registers(self, crashing: CrashingTa, tmp_path: Path) -> None:
        cause = crashing.crash(Command.PANIC)
        assert isinstance(cause, TaPanic)
        registers, first = self.saved(crashing)
        frames = backtrace(crashing.space, crashing.loader.modules, crashing.arch, registers, first)
        names = crashing.functions(tmp_path, frames)
        assert names[-4:] == ["inner", "middle", *END]

    def test_no_saved_registers(self, crashing: CrashingTa, tmp_path: Path) -> None:
        crashing.crash(Command.PANIC_BARE)
        registers = crashing.engine.registers()
        frames = backtrace(crashing.space, crashing.loader.modules, crashing.arch, registers, CALL)
        assert crashing.functions(tmp_path, frames)[:2] == ["utee_panic", "inner"]
        assert frames[1].kind == LINK

    @staticmethod
    def saved(crashing: CrashingTa) -> tuple[dict[str, int], int]:
        at = crashing.panic_registers
        if crashing.arch == "aarch64":
            words = [int.from_bytes(crashing.space.read(at + 8 * n, 8), "little") for n in (0, 1)]
            return {"x29": words[0], "pc": words[1] & (1 << 39) - 1}, CALL
        words = [int.from_bytes(crashing.space.read(at + 4 * n, 4), "little") for n in range(14)]
        names = ("pc", *(f"r{n}" for n in range(12)), "lr")
        return {**dict(zip(names, words, strict=True)), "sp": at}, EXACT


class TestHostileStacks:
    """It ends, soon, and reads nothing that the TA could not read."""

    @pytest.mark.parametrize("link", [0xDEADBEE8, 0x40, 0x7FFFFFF8, 0xFFFFFFF8])
    def test_a_frame_that_leads_anywhere(self, crashing: CrashingTa, link: int) -> None:
        assert 2 < len(frames_of(crashing, Command.WILD, link)) < 8

    def test_a_frame_that_leads_to_itself(self, crashing: CrashingTa) -> None:
        assert 2 < len(frames_of(crashing, Command.LOOP)) < 8

    @pytest.mark.parametrize("arch", ARCHES)
    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_any_stack_and_registers(self, arch: str, data: st.DataObject) -> None:
        crashing = _shared(arch)
        stack = crashing.space.find(crashing.ta.stack)
        code = crashing.loader.modules[0].regions[0]
        assert stack is not None
        near = st.one_of(
            st.integers(stack.address - 64, stack.end + 64),
            st.integers(code.address - 64, code.end + 64),
            st.integers(0, (1 << 64) - 1 if arch == "aarch64" else (1 << 32) - 1),
        )
        word = 8 if arch == "aarch64" else 4
        words = data.draw(st.lists(near, min_size=64, max_size=64))
        content = b"".join(value.to_bytes(word, "little") for value in words)
        stack.memory[:] = (content * (stack.size // len(content) + 1))[: stack.size]
        names = crashing.engine.registers()
        registers = {name: data.draw(near) for name in names}
        modules = crashing.loader.modules
        frames = backtrace(crashing.space, modules, arch, registers)
        assert 1 <= len(frames) <= MAX_FRAMES
        assert frames[0] == (registers["pc"], EXACT)
        for frame in frames[1:]:
            region = crashing.space.find(frame.address - 4 if word == 8 else frame.address - 2)
            assert region is not None
            assert region.prot & PROT_EXEC

    def test_the_deepest(self) -> None:
        """A chain that fills the largest stack is cut, not followed for ever."""
        engine = NativeEngine("aarch64")
        space = AddressSpace(engine)
        code = space.allocate(4096)
        space.map(0x10000000, code, PROT_READ | PROT_EXEC, "TA")
        stack = space.allocate(1 << 20)
        space.map(0x20000000, stack, PROT_READ | PROT_WRITE, "stack")
        for at in range(0, len(stack), 16):
            stack[at : at + 16] = pack("<2Q", 0x20000000 + at + 16, 0x10000100)
        frames = backtrace(space, (), "aarch64", {"pc": 0x10000000, "x29": 0x20000000, "x30": 0})
        assert len(frames) == MAX_FRAMES
        engine.close()


_kept: dict[str, CrashingTa] = {}


def _shared(arch: str) -> CrashingTa:
    if arch not in _kept:
        crashing = _kept[arch] = CrashingTa(arch)
        assert crashing.call(ta.UTEE_ENTRY_FUNC_OPEN_SESSION)[0] == 0
    return _kept[arch]


class TestOperations:
    """Each of EHABI32 section 10.3, Table 4: from where the stack pointer is to where it goes."""

    BASE = 0x20000000

    @pytest.fixture
    def unwinder(self) -> "_ByTables":
        space = AddressSpace(NativeEngine("arm"))
        stack = space.allocate(4096)
        for at in range(0, len(stack), 4):
            stack[at : at + 4] = (at // 4 + 100).to_bytes(4, "little")
        space.map(self.BASE, stack, PROT_READ | PROT_WRITE, "stack")
        unwinder = _ByTables(space, ())
        unwinder._vrs = [0] * 13 + [self.BASE, 0, 0]
        return unwinder

    @pytest.mark.parametrize(
        ("operations", "moved", "popped"),
        [
            ("00", 4, {}),
            ("3f", 0x100, {}),
            ("3f 40", 0x100 - 4, {}),
            ("80 01", 4, {4: 100}),
            ("88 09", 12, {4: 100, 7: 101, 15: 102}),
            ("84 80", 8, {11: 100, 14: 101}),
            ("a0", 4, {4: 100}),
            ("a3", 16, {4: 100, 7: 103}),
            ("a9", 12, {4: 100, 5: 101, 14: 102}),
            ("b1 0f", 16, {0: 100, 3: 103}),
            ("b1 02", 4, {1: 100}),
            ("b2 00", 0x204, {}),
            ("b2 81 01", 0x204 + (0x81 << 2), {}),
            ("b3 81", 20, {}),
            ("b4", 4, {}),
            ("b8", 12, {}),
            ("bb", 36, {}),
            ("c8 01", 16, {}),
            ("c9 83", 32, {}),
            ("d1", 16, {}),
            ("b0 00 00", 0, {}),
            ("a8 b0 b0", 8, {4: 100, 14: 101}),
        ],
    )
    def test_each(
        self, unwinder: "_ByTables", operations: str, moved: int, popped: dict[int, int]
    ) -> None:
        unwinder._execute(bytes.fromhex(operations))
        assert unwinder._vrs[13] == self.BASE + moved
        for register, value in popped.items():
            assert unwinder._vrs[register] == value

    def test_from_a_register(self, unwinder: "_ByTables") -> None:
        unwinder._vrs[7] = self.BASE + 0x80
        unwinder._execute(bytes.fromhex("97 a8"))
        assert unwinder._vrs[13] == self.BASE + 0x88
        assert unwinder._vrs[14] == 133

    def test_the_stack_pointer_itself(self, unwinder: "_ByTables") -> None:
        unwinder._execute(bytes.fromhex("82 00"))
        assert unwinder._vrs[13] == 100

    @pytest.mark.parametrize(
        "operations", ["80 00", "9d", "9f", "b1 00", "b1 10", "b5", "c7 00", "d8", "ff", "b2 ff"]
    )
    def test_refused(self, unwinder: "_ByTables", operations: str) -> None:
        with pytest.raises(_Refused):
            unwinder._execute(bytes.fromhex(operations))

    @given(st.binary(max_size=64))
    def test_any(self, operations: bytes) -> None:
        space = AddressSpace(NativeEngine("arm"))
        unwinder = _ByTables(space, ())
        unwinder._vrs = [0] * 13 + [self.BASE, 0, 0]
        try:
            unwinder._execute(operations)
        except (_Refused, BadAddress):
            return
        finally:
            space.engine.close()
        assert 0 <= unwinder._vrs[13] < 1 << 32
