# SPDX-License-Identifier: BSD-2-Clause
"""The engine over Unicorn's Python package: plain, several times slower, the same behaviour.

Tests run both engines on the same TAs. It is of use for debugging too: hooks of the package can be
added to ``PublicEngine.uc``.
"""

import ctypes
from importlib import import_module
from typing import Any

from unicorn import arm64_const, arm_const, unicorn_const

from gentee.ta.engine import cpu as cpus
from gentee.ta.engine import unicorn_abi as abi
from gentee.ta.engine.base import AARCH64, ARM, Engine, EngineError, Fault, FaultKind

_unicorn: Any = import_module("unicorn")  # its type annotations are partial
UcError: type[Exception] = _unicorn.UcError


class PublicEngine(Engine):
    """Unicorn through ``unicorn.Uc``."""

    def __init__(self, arch: str) -> None:
        super().__init__()
        self._cpu = cpu = cpus.CPUS[arch]
        self.arch = arch
        self.word = cpu.word
        uc_arch = unicorn_const.UC_ARCH_ARM if arch == ARM else unicorn_const.UC_ARCH_ARM64
        self.uc: Any = _unicorn.Uc(uc_arch, unicorn_const.UC_MODE_ARM)
        uc = self.uc
        uc.ctl_set_cpu_model(
            arm_const.UC_CPU_ARM_MAX if arch == ARM else arm64_const.UC_CPU_ARM64_MAX
        )
        uc.ctl_exits_enabled(True)
        self._anchors: dict[int, memoryview] = {}
        self._interrupts: list[int] = []
        self._accesses: list[int] = []
        uc.hook_add(unicorn_const.UC_HOOK_INTR, self._on_interrupt)
        uc.hook_add(unicorn_const.UC_HOOK_MEM_INVALID, self._on_memory)
        if arch == AARCH64:
            uc.reg_write(arm64_const.UC_ARM64_REG_PSTATE, 0)
            for register, value in cpus.system_registers(self._system_register(cpus.SCTLR_EL1)):
                self._system_register(register, value)
        else:
            uc.reg_write(arm_const.UC_ARM_REG_C1_C0_2, cpus.ARM_CPACR_VFP)
            uc.reg_write(arm_const.UC_ARM_REG_FPEXC, cpus.FPEXC_EN)
            uc.reg_write(arm_const.UC_ARM_REG_CPSR, cpus.CPSR_USR)
        self._pc = 0
        self._table: object = None

    def _on_interrupt(self, uc: Any, number: int, _data: object) -> None:
        self._interrupts.append(number)
        uc.emu_stop()

    def _on_memory(
        self, _uc: Any, _type: int, address: int, _size: int, _value: int, _data: object
    ) -> bool:
        self._accesses.append(address)
        return False

    def _system_register(self, name: cpus.SystemRegister, value: int | None = None) -> int:
        key = (name.crn, name.crm, name.op0, name.op1, name.op2)
        if value is None:
            return int(self.uc.reg_read(arm64_const.UC_ARM64_REG_CP_REG, key))
        self.uc.reg_write(arm64_const.UC_ARM64_REG_CP_REG, (*key, value))
        return value

    def map(self, address: int, memory: memoryview, prot: int) -> None:
        anchor = (ctypes.c_char * memory.nbytes).from_buffer(memory)
        try:
            self.uc.mem_map_ptr(address, memory.nbytes, prot, ctypes.addressof(anchor))
        except UcError as error:
            raise EngineError(str(error)) from error
        self._anchors[address] = memoryview(anchor)

    def unmap(self, address: int, size: int) -> None:
        try:
            self.uc.mem_unmap(address, size)
        except UcError as error:
            raise EngineError(str(error)) from error
        del self._anchors[address]
        self.invalidate()

    def protect(self, address: int, size: int, prot: int) -> None:
        try:
            self.uc.mem_protect(address, size, prot)
        except UcError as error:
            raise EngineError(str(error)) from error
        self._flush_tlb()
        self.invalidate()

    def _flush_tlb(self) -> None:
        self.uc.ctl(unicorn_const.UC_CTL_TLB_FLUSH, unicorn_const.UC_CTL_IO_WRITE)

    def invalidate(self) -> None:
        self.uc.ctl_flush_tb()

    def guard_branches(self) -> None:
        if self.arch != AARCH64 or self._table is not None:
            return
        table = memoryview(bytearray(cpus.TABLE_SIZE))
        registers = cpus.guarded_table(table)
        self.uc.mem_map(cpus.TABLE_ADDRESS, cpus.TABLE_SIZE, unicorn_const.UC_PROT_READ)
        self.uc.mem_write(cpus.TABLE_ADDRESS, bytes(table))
        self._table = table
        for register, value in registers:
            self._system_register(register, value)
        sctlr = self._system_register(cpus.SCTLR_EL1)
        self._system_register(cpus.SCTLR_EL1, sctlr | cpus.SCTLR_M)
        self._flush_tlb()
        self.invalidate()

    def enter(self, pc: int, sp: int, arguments: tuple[int, ...]) -> None:
        cpu = self._cpu
        for register in cpu.general:
            self.uc.reg_write(register, 0)
        for register, value in zip(cpu.arguments, arguments, strict=False):
            self.uc.reg_write(register, value)
        self.uc.reg_write(cpu.sp, sp)
        self.uc.reg_write(cpu.flags, cpus.CPSR_USR if self.arch == ARM else 0)
        for register in (*cpu.vectors, *cpu.fp_status):
            self.uc.reg_write(register, 0)
        self._pc = pc

    def resume(self, result: int) -> int:
        self.uc.reg_write(self._cpu.arguments[0], result)
        return self.run()

    def run(self) -> int:
        while True:
            self._interrupts.clear()
            self._accesses.clear()
            error = abi.UC_ERR_OK
            if self.arch == ARM:
                self.uc.reg_write(arm_const.UC_ARM_REG_ESR, 0)
            try:
                self.uc.emu_start(self._pc, 0)
            except UcError as caught:
                error = int(caught.errno)  # type: ignore[attr-defined]
            registers = self.registers()
            self._pc = registers["pc"]
            if self.arch == ARM:
                self._pc |= registers["cpsr"] >> 5 & 1
            if not error and self._interrupts == [abi.EXCP_SWI]:
                names = self._cpu.names
                self.args = [registers[name] for name in names[:8]]
                return registers["r7" if self.arch == ARM else "x8"]
            if error or self._interrupts:
                yielded = (
                    error == abi.UC_ERR_INSN_INVALID
                    and self.arch == ARM
                    and not self.uc.reg_read(arm_const.UC_ARM_REG_ESR)
                )
                if not yielded:
                    raise self._fault(error, registers)

    def _fault(self, error: int, registers: dict[str, int]) -> Fault:
        pc = registers["pc"]
        if self._interrupts:
            try:
                code = bytes(self.uc.mem_read(pc, 4))
            except UcError:
                code = b""
            kind, address = cpus.exception_kind(
                self._cpu, self._interrupts[0], registers, code, self._table is not None
            )
            return Fault(kind, address, pc, registers)
        kind = cpus.MEMORY_FAULTS.get(error, FaultKind.ENGINE)
        if kind in (FaultKind.FETCH_UNMAPPED, FaultKind.FETCH_PROTECTED):
            return Fault(kind, pc, pc, registers)
        if kind is not FaultKind.ENGINE:
            address = self._accesses[0] if self._accesses else None
            if address is not None:
                kind = self._data_fault(kind, address)
            return Fault(kind, address, pc, registers)
        if error in (abi.UC_ERR_INSN_INVALID, abi.UC_ERR_EXCEPTION):
            return Fault(FaultKind.UNDEFINED, None, pc, registers)
        return Fault(FaultKind.ENGINE, None, pc, registers, str(UcError(error)))

    def registers(self) -> dict[str, int]:
        values = [int(self.uc.reg_read(register)) for register in self._cpu.all]
        return dict(zip(self._cpu.names, values, strict=True))

    @property
    def thread_register(self) -> int:
        return int(self.uc.reg_read(self._cpu.thread))

    @thread_register.setter
    def thread_register(self, value: int) -> None:
        self.uc.reg_write(self._cpu.thread, value)

    def close(self) -> None:
        for region in tuple(self.uc.mem_regions()):
            self.uc.mem_unmap(region[0], region[1] - region[0] + 1)
        self._anchors.clear()
