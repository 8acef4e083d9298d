# SPDX-License-Identifier: BSD-2-Clause
"""The two CPUs as both engines set them up: which registers, and how to get to user mode.

Some facts about Unicorn's Arm CPUs
===================================

- They start in a privileged mode (EL1, AArch32 supervisor). PSTATE can be written, but takes
  effect only when the translator's flags are computed again, which a write of any system register
  through ``CP_REG`` does.
- Floating point traps until CPACR_EL1 (and, in AArch32, FPEXC) allows it.
- Pointer authentication is undefined at EL0 unless EL3 and EL2, which exist, delegate it. Only the
  instruction key A is switched on, as OP-TEE does; the other ``pac*`` instructions do nothing.
- Memory is flat as long as the MMU is off. What it is on for is told in
  :mod:`gentee.ta.engine.pages`. The public engine has it on to guard branches alone, with
  :func:`guarded_table`, which maps 512 GiB onto themselves by 1 GiB blocks. Tables are outside of
  what they map: the TA cannot reach them. Protections stay those of Unicorn's mappings.
- The AArch32 CPU runs in the non-secure state, though it starts in the secure one.
- An exception that nobody hooks ends the run with UC_ERR_EXCEPTION and does not say which.
  UC_HOOK_INTR callbacks get its number.
- In AArch32 ``yield`` and ``wfe`` end the run as an invalid instruction does, after the program
  counter went past them; ``wfi`` ends it without any error, in both.
"""

import os
from struct import Struct, pack_into
from typing import NamedTuple

from gentee.ta.engine import unicorn_abi as uc
from gentee.ta.engine.base import AARCH64, ARM, GUARDED_HIGH, GUARDED_LOW, FaultKind


class SystemRegister(NamedTuple):
    """An AArch64 system register as the architecture encodes it."""

    op0: int
    op1: int
    crn: int
    crm: int
    op2: int


class CoprocessorRegister(NamedTuple):
    """An AArch32 register of coprocessor 15 as the architecture encodes it."""

    crn: int
    crm: int
    opc1: int
    opc2: int
    is_64: int


SCTLR_EL1 = SystemRegister(3, 0, 1, 0, 0)
CPACR_EL1 = SystemRegister(3, 0, 1, 0, 2)
TTBR0_EL1 = SystemRegister(3, 0, 2, 0, 0)
TCR_EL1 = SystemRegister(3, 0, 2, 0, 2)
APIAKEYLO_EL1 = SystemRegister(3, 0, 2, 1, 0)
APIAKEYHI_EL1 = SystemRegister(3, 0, 2, 1, 1)
HCR_EL2 = SystemRegister(3, 4, 1, 1, 0)
SCR_EL3 = SystemRegister(3, 6, 1, 1, 0)

SCTLR = CoprocessorRegister(1, 0, 0, 0, 0)
TTBCR = CoprocessorRegister(2, 0, 0, 2, 0)
TTBR0 = CoprocessorRegister(0, 2, 0, 0, 1)

SCTLR_M = 1 << 0
TTBCR_EAE = 1 << 31  # the long format; all 4 GiB through TTBR0
SCTLR_ENIA = 1 << 31
CPACR_FPEN = 3 << 20
HCR_RW, HCR_APK, HCR_API = 1 << 31, 1 << 40, 1 << 41
SCR_NS, SCR_RW, SCR_APK, SCR_API = 1 << 0, 1 << 10, 1 << 16, 1 << 17
# 39 bits of addresses through TTBR0, 4 KiB pages, no walks through TTBR1, 40 bits out
TCR_GUARDED = 25 | 1 << 23 | 2 << 32

CPSR_USR = 0x10
CPSR_T = 1 << 5
ARM_CPACR_VFP = 0xF << 20
FPEXC_EN = 1 << 30

PSTATE_BTYPE = 3 << 10

TABLE_ADDRESS = 1 << 39
TABLE_SIZE = 4096


class Cpu(NamedTuple):
    """What the engines need to know of one architecture.

    ``stop`` lists what is read at a system call: eight argument registers first. ``names`` and
    ``all`` are what a fault report shows. ``vectors`` are cleared at each entry.
    """

    arch: str
    word: int
    uc_arch: int
    model: int
    stop: tuple[int, ...]
    arguments: tuple[int, ...]
    general: tuple[int, ...]
    sp: int
    pc: int
    flags: int
    thread: int
    vectors: tuple[int, ...]
    vector_size: int
    fp_status: tuple[int, ...]
    names: tuple[str, ...]
    all: tuple[int, ...]


_X = (*range(uc.UC_ARM64_REG_X0, uc.UC_ARM64_REG_X0 + 29), uc.UC_ARM64_REG_X29, uc.UC_ARM64_REG_X30)
_R = (*range(uc.UC_ARM_REG_R0, uc.UC_ARM_REG_R0 + 13), uc.UC_ARM_REG_LR)

CPUS = {
    AARCH64: Cpu(
        arch=AARCH64,
        word=8,
        uc_arch=uc.UC_ARCH_ARM64,
        model=uc.UC_CPU_ARM64_MAX,
        stop=(*_X[:9], uc.UC_ARM64_REG_PC),
        arguments=_X[:8],
        general=_X,
        sp=uc.UC_ARM64_REG_SP,
        pc=uc.UC_ARM64_REG_PC,
        flags=uc.UC_ARM64_REG_NZCV,
        thread=uc.UC_ARM64_REG_TPIDR_EL0,
        vectors=tuple(range(uc.UC_ARM64_REG_Q0, uc.UC_ARM64_REG_Q0 + 32)),
        vector_size=16,
        fp_status=(uc.UC_ARM64_REG_FPCR, uc.UC_ARM64_REG_FPSR),
        names=(*(f"x{n}" for n in range(31)), "sp", "pc", "pstate"),
        all=(*_X, uc.UC_ARM64_REG_SP, uc.UC_ARM64_REG_PC, uc.UC_ARM64_REG_PSTATE),
    ),
    ARM: Cpu(
        arch=ARM,
        word=4,
        uc_arch=uc.UC_ARCH_ARM,
        model=uc.UC_CPU_ARM_MAX,
        stop=(*_R[:8], uc.UC_ARM_REG_CPSR, uc.UC_ARM_REG_PC),
        arguments=_R[:4],
        general=_R,
        sp=uc.UC_ARM_REG_SP,
        pc=uc.UC_ARM_REG_PC,
        flags=uc.UC_ARM_REG_CPSR,
        thread=uc.UC_ARM_REG_C13_C0_3,
        vectors=tuple(range(uc.UC_ARM_REG_D0, uc.UC_ARM_REG_D0 + 32)),
        vector_size=8,
        fp_status=(uc.UC_ARM_REG_FPSCR,),
        names=(*(f"r{n}" for n in range(13)), "lr", "sp", "pc", "cpsr"),
        all=(*_R, uc.UC_ARM_REG_SP, uc.UC_ARM_REG_PC, uc.UC_ARM_REG_CPSR),
    ),
}

MEMORY_FAULTS = {
    uc.UC_ERR_READ_UNMAPPED: FaultKind.READ_UNMAPPED,
    uc.UC_ERR_WRITE_UNMAPPED: FaultKind.WRITE_UNMAPPED,
    uc.UC_ERR_FETCH_UNMAPPED: FaultKind.FETCH_UNMAPPED,
    uc.UC_ERR_WRITE_PROT: FaultKind.WRITE_PROTECTED,
    uc.UC_ERR_READ_PROT: FaultKind.READ_PROTECTED,
    uc.UC_ERR_FETCH_PROT: FaultKind.FETCH_PROTECTED,
}


def authentication_keys() -> list[tuple[SystemRegister, int]]:
    """What to write for new random keys of pointer authentication."""
    keys = os.urandom(16)
    return [
        (APIAKEYLO_EL1, int.from_bytes(keys[:8], "little")),
        (APIAKEYHI_EL1, int.from_bytes(keys[8:], "little")),
    ]


def system_registers(sctlr: int) -> list[tuple[SystemRegister, int]]:
    """What to write, in this order, so that AArch64 user mode is as OP-TEE's TAs find it.

    :param sctlr: SCTLR_EL1 as the CPU came with it.
    """
    return [
        (SCR_EL3, SCR_NS | SCR_RW | SCR_APK | SCR_API),
        (HCR_EL2, HCR_RW | HCR_APK | HCR_API),
        *authentication_keys(),
        (CPACR_EL1, CPACR_FPEN),
        (SCTLR_EL1, sctlr | SCTLR_ENIA),
    ]


def guarded_table(table: memoryview) -> list[tuple[SystemRegister, int]]:
    """Fill in the page table that guards branches; what to write to switch it on, SCTLR last."""
    for block in range(512):
        # A valid block, user read and write, accessed, inner shareable; then GP
        descriptor = block << 30 | 1 | 1 << 6 | 1 << 10 | 3 << 8
        if block == GUARDED_LOW >> 30:
            descriptor |= 1 << 50
        pack_into("<Q", table, block * 8, descriptor)
    return [(TTBR0_EL1, TABLE_ADDRESS), (TCR_EL1, TCR_GUARDED)]


def exception_kind(
    cpu: Cpu, number: int, registers: dict[str, int], code: bytes, guarded: bool
) -> tuple[FaultKind, int | None]:
    """The fault for an exception that is no system call, and its address where it is known.

    :param code: the four bytes at the program counter, fewer where there are none.
    :param guarded: whether guard_branches() was called.
    """
    pc = registers["pc"]
    if number == uc.EXCP_PREFETCH_ABORT:
        return FaultKind.FETCH_UNMAPPED, pc
    if number == uc.EXCP_BKPT:
        return FaultKind.BREAKPOINT, None
    if number == uc.EXCP_DATA_ABORT:
        address = _exclusive_address(cpu, registers, code)
        if cpu.arch == ARM or (address is not None and address % 16):
            return FaultKind.ALIGNMENT, address
        return FaultKind.DATA_ABORT, None
    if number == uc.EXCP_UDEF and cpu.arch == AARCH64:
        if pc & 3:
            return FaultKind.ALIGNMENT, pc
        is_guarded = guarded and GUARDED_LOW <= pc < GUARDED_HIGH
        if is_guarded and registers["pstate"] & PSTATE_BTYPE:
            return FaultKind.BRANCH_TARGET, pc
    return FaultKind.UNDEFINED, None


_INSTRUCTION = Struct("<I")


def _exclusive_address(cpu: Cpu, registers: dict[str, int], code: bytes) -> int | None:
    """What an exclusive or atomic instruction would access: only those must be aligned."""
    if len(code) < 4:
        return None
    (word,) = _INSTRUCTION.unpack(code)
    if cpu.arch == AARCH64:
        exclusive = word & 0x3F000000 == 0x08000000
        atomic = word & 0x3F200C00 == 0x38200000
        if not exclusive and not atomic:
            return None
        base = word >> 5 & 31
        return registers["sp" if base == 31 else f"x{base}"]
    if registers["cpsr"] & CPSR_T:
        base, offset = word & 15, 0
        if word & 0xFFE0 == 0xE840:  # ldrex and strex have an offset, the others have none
            offset = (word >> 16 & 0xFF) * 4
    else:
        base, offset = word >> 16 & 15, 0
    name = {13: "sp", 14: "lr", 15: "pc"}.get(base, f"r{base}")
    return registers[name] + offset
