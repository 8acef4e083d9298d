# SPDX-License-Identifier: BSD-2-Clause
"""The loop of tests/tas/loop.h in Unicorn and nothing else.

bare_unicorn.py ARCH ELF: the ELF file exports ``measured_loop``. A line with a count is answered
with the nanoseconds of one round.
"""

import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

# Its types are not complete, and nothing here is worth more than running.
unicorn: Any = import_module("unicorn")

_CODE = 0x10000000
_STACK = 0x20000000
_END = 0x30000000  # where the function returns to


def main() -> int:
    arch, name = sys.argv[1:]
    with Path(name).open("rb") as file:
        elf = ELFFile(file)
        table = elf.get_section_by_name(".dynsym")
        assert isinstance(table, SymbolTableSection)
        symbols = table.get_symbol_by_name("measured_loop")
        assert symbols
        entry = _CODE + symbols[0]["st_value"]
        if arch == "aarch64":
            engine = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
            names = import_module("unicorn.arm64_const")
            sp, lr, x0 = (
                names.UC_ARM64_REG_SP,
                names.UC_ARM64_REG_LR,
                names.UC_ARM64_REG_X0,
            )
        else:
            engine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
            names = import_module("unicorn.arm_const")
            sp, lr, x0 = names.UC_ARM_REG_SP, names.UC_ARM_REG_LR, names.UC_ARM_REG_R0
        for segment in elf.iter_segments("PT_LOAD"):
            start = segment["p_vaddr"] & -4096
            end = (segment["p_vaddr"] + segment["p_memsz"] + 4095) & -4096
            engine.mem_map(_CODE + start, end - start)
            engine.mem_write(_CODE + segment["p_vaddr"], segment.data())
    engine.mem_map(_STACK, 0x10000)
    engine.mem_map(_END, 0x1000)
    for line in sys.stdin:
        count = int(line)
        engine.reg_write(sp, _STACK + 0x8000)
        engine.reg_write(lr, _END | (arch == "arm"))
        engine.reg_write(x0, count)
        begin = time.perf_counter()
        engine.emu_start(entry | (arch == "arm" and entry & 1), _END)
        print((time.perf_counter() - begin) * 1e9 / count, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
