# SPDX-License-Identifier: BSD-2-Clause
"""TAs of tests/tas/crashes.c that die, and where they were."""

from collections.abc import Sequence
from enum import IntEnum, auto
from pathlib import Path

from gentee.abi import optee_ta as ta
from gentee.abi.elf_identity import code_checksum
from gentee.errors import TaPanic
from gentee.secure.symbol_reader import read_module
from gentee.ta.engine.base import Fault
from gentee.ta.report import crash_report
from tests.ta_run import UUID, RunningTa, Served, ta_bytes, ta_image, uuid_text

FLAGS = ("-g", "-fno-omit-frame-pointer", "-funwind-tables")
# Return addresses are signed, and checked before they are used.
SIGNED = (*FLAGS, "-mbranch-protection=pac-ret")


class Command(IntEnum):
    """What crashes.c does."""

    PANIC = 0
    PANIC_BARE = auto()
    LEAF = auto()
    RECURSE = auto()
    OVERFLOW = auto()
    CLIMB = auto()
    LOOP = auto()
    WILD = auto()
    INLINED = auto()
    JUMP = auto()
    CXX = auto()
    MIXED = auto()
    AFTER_CALL = auto()


class CrashingTa(RunningTa):
    """One that has what a report needs besides."""

    def __init__(self, arch: str, flags: Sequence[str] = FLAGS) -> None:
        self.panic_registers = 0
        self.doing = (0, 0, 0)
        self.arch = arch
        self.elf = ta_bytes("crashes", arch, *flags)
        serve: dict[int, Served] = {ta.TEE_SCN_PANIC: self._panic}
        super().__init__(ta_image("crashes", arch, *flags), serve=serve)

    def _panic(self, _ta: RunningTa, args: Sequence[int]) -> int:
        self.panic_registers = args[1]
        raise TaPanic(args[0] & 0xFFFFFFFF)

    def crash(self, command: int, *vals: int) -> Fault | TaPanic:
        """Have it die of a command; of what it died."""
        self.doing = (ta.UTEE_ENTRY_FUNC_INVOKE_COMMAND, 1, command)
        try:
            result = self.invoke(command, *vals)
        except (Fault, TaPanic) as cause:
            return cause
        raise AssertionError(f"command {command} did not die but returned {result}")

    def report(self, command: int, *vals: int) -> bytes:
        """Have it die of a command; its report."""
        return crash_report(self, self.crash(command, *vals))

    def keep_elf(self, folder: Path) -> Path:
        """Put the unstripped file into a folder, by its UUID."""
        path = folder / f"{uuid_text(UUID)}.elf"
        path.write_bytes(self.elf)
        return path

    def functions(self, folder: Path, frames: Sequence[tuple[int, int]]) -> list[str]:
        """The names of the functions of frames; "?" where there is none."""
        self.keep_elf(folder)
        low = self.ta.load_addr
        module = {
            "uuid": uuid_text(UUID),
            "build_id": "",
            "checksum": code_checksum(self.elf),
            "addresses": [(address - low, kind != 0) for address, kind in frames],
        }
        answer = read_module(self.arch, [str(folder)], module)
        assert not answer["problem"], answer
        return [places[0][0] if places else "?" for _start, places in answer["found"]]
