# SPDX-License-Identifier: BSD-2-Clause
"""What is read when a TA dies: its report, its stack, files with symbols; all of them damaged."""

import json
import tempfile
from functools import cache
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gentee.abi.elf_identity import code_checksum
from gentee.secure.crash import parse_report, render, wanted
from gentee.secure.symbol_reader import read_module
from gentee.secure.symbols import Found
from gentee.ta.unwind import MAX_FRAMES, backtrace
from tests.crashes import FLAGS, Command, CrashingTa
from tests.ta_build import ARCHES
from tests.ta_run import ta_bytes

UUID = "00000028-7461-7461-7461-746174617461"
FLIPS = st.lists(st.tuples(st.integers(0, 1 << 24), st.integers(1, 255)), min_size=1, max_size=12)


def damage(data: bytes, flips: list[tuple[int, int]], start: int = 0) -> bytes:
    damaged = bytearray(data)
    for at, mask in flips:
        damaged[start + at % (len(data) - start)] ^= mask
    return bytes(damaged)


@cache
def a_report(arch: str) -> bytes:
    return CrashingTa(arch).report(Command.RECURSE, 3)


@given(arch=st.sampled_from(ARCHES), flips=FLIPS)
def test_a_damaged_report(arch: str, flips: list[tuple[int, int]]) -> None:
    try:
        report = parse_report(damage(a_report(arch), flips))
    except ValueError:
        return
    assert len(wanted(report)) == len(report.modules)
    assert render(report, UUID, [Found("", "", {}) for _ in report.modules])


@given(arch=st.sampled_from(ARCHES), flips=FLIPS)
def test_damaged_symbols(arch: str, flips: list[tuple[int, int]]) -> None:
    """All but the code is damaged: the headers, the symbol table, DWARF."""
    data = ta_bytes("crashes", arch, *FLAGS)
    report = json.loads(a_report(arch))
    low = report["modules"][0][1]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{UUID}.elf").write_bytes(damage(data, flips, 0x2000))
        module = {
            "uuid": UUID,
            "build_id": "",
            "checksum": code_checksum(data),
            "addresses": [(address - low, kind != 0) for address, kind in report["frames"]],
        }
        answer = read_module(arch, [folder], module)
    assert len(answer["found"]) == (len(report["frames"]) if answer["file"] else 0)
    json.dumps(answer)


@cache
def a_dead_ta(arch: str) -> tuple[CrashingTa, dict[str, int], bytes]:
    """With its registers, and the stack as it was."""
    crashing = CrashingTa(arch)
    crashing.crash(Command.RECURSE, 20)
    stack = crashing.space.find(crashing.ta.stack)
    assert stack is not None
    return crashing, crashing.engine.registers(), bytes(stack.memory)


@given(arch=st.sampled_from(ARCHES), flips=FLIPS, data=st.data())
def test_a_damaged_stack(arch: str, flips: list[tuple[int, int]], data: st.DataObject) -> None:
    crashing, registers, content = a_dead_ta(arch)
    stack = crashing.space.find(crashing.ta.stack)
    assert stack is not None
    used = registers["sp"] - stack.address
    stack.memory[:] = damage(content, flips, used)
    changed = data.draw(st.sampled_from(sorted(registers)))
    wrong = {**registers, changed: data.draw(st.integers(0, (1 << 64) - 1))}
    for one in (registers, wrong):
        frames = backtrace(crashing.space, crashing.loader.modules, arch, one)
        assert 1 <= len(frames) <= MAX_FRAMES
    stack.memory[:] = content
