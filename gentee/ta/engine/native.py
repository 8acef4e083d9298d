# SPDX-License-Identifier: BSD-2-Clause
"""The engine that runs TAs: Unicorn's C library through prepared ctypes calls.

A system call costs one ``uc_emu_start``, one ``uc_reg_read_batch`` into arrays that live as long as
the engine, and one ``uc_reg_write`` of the result. No Python code runs inside the emulation:

- Two hooks for interrupts stop it, and both callbacks are functions of the library itself:
  ``uc_emu_stop(uc)``, and ``uc_query(uc, type, result)`` whose second argument is the interrupt
  number. For a system call that is 2, UC_QUERY_PAGE_SIZE, and the page size appears in ``result``;
  no other interrupt makes it appear. So "it was a system call" is known for nothing.
- Any other end is looked at by executing the instruction once more with Python hooks in place:
  it has had no effect, so that it ends in the same way and says how.

Every address that Unicorn is given belongs to a buffer that ``_anchors`` holds in its place.
"""

import ctypes
import mmap
import os
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import Any

from gentee.errors import NotSupported, OutOfMemory
from gentee.ta.engine import cpu as cpus
from gentee.ta.engine import pages
from gentee.ta.engine import unicorn_abi as uc
from gentee.ta.engine.base import AARCH64, ARM, Engine, EngineError, Fault, FaultKind

_TCG_BUFFER_SIZE = 32 << 20  # translated code; address space, used as it is needed

_void_p = ctypes.c_void_p
_u64 = ctypes.c_uint64


class uc_arm64_cp_reg(ctypes.Structure):
    """``struct uc_arm64_cp_reg`` of <unicorn/arm64.h>."""

    _fields_ = [
        ("crn", ctypes.c_uint32),
        ("crm", ctypes.c_uint32),
        ("op0", ctypes.c_uint32),
        ("op1", ctypes.c_uint32),
        ("op2", ctypes.c_uint32),
        ("val", ctypes.c_uint64),
    ]


class uc_arm_cp_reg(ctypes.Structure):
    """``struct uc_arm_cp_reg`` of <unicorn/arm.h>."""

    _fields_ = [
        ("cp", ctypes.c_uint32),
        ("is64", ctypes.c_uint32),
        ("sec", ctypes.c_uint32),
        ("crn", ctypes.c_uint32),
        ("crm", ctypes.c_uint32),
        ("opc1", ctypes.c_uint32),
        ("opc2", ctypes.c_uint32),
        ("val", ctypes.c_uint64),
    ]


_INTR_CALLBACK = ctypes.CFUNCTYPE(None, _void_p, ctypes.c_uint32, _void_p)
_EDGE_CALLBACK = ctypes.CFUNCTYPE(None, _void_p, _void_p, _void_p, _void_p)
_MEM_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_bool, _void_p, ctypes.c_int, _u64, ctypes.c_int, ctypes.c_int64, _void_p
)


def _on_memory(accesses: list[int]) -> Any:
    """A callback that notes the address of an access and does not permit it."""

    def callback(_uc: int, _type: int, address: int, _size: int, _value: int, _data: int) -> bool:
        accesses.append(address)
        return False

    return _MEM_CALLBACK(callback)


def _on_edge(tell: list[Callable[[int, bool], None]], is_arm: bool) -> object:
    """A callback for UC_HOOK_EDGE_GENERATED that passes the new block on."""

    def callback(_uc: int, address: int, _previous: int, _data: int) -> None:
        block = uc_tb.from_address(address)
        # Arm instructions have four bytes; so may have those of a short Thumb block.
        if is_arm and (block.size != 4 * block.icount or block.pc & 2):
            tell[0](block.pc, True)
        else:
            tell[0](block.pc, False)
            if is_arm:
                tell[0](block.pc, True)

    return _EDGE_CALLBACK(callback)


def _on_interrupt(interrupts: list[int]) -> Any:
    """A callback that notes the number of an exception."""

    def callback(_uc: int, number: int, _data: int) -> None:
        interrupts.append(number)

    return _INTR_CALLBACK(callback)


class uc_tb(ctypes.Structure):
    """``struct uc_tb`` of <unicorn/unicorn.h>."""

    _fields_ = [
        ("pc", ctypes.c_uint64),
        ("icount", ctypes.c_uint16),
        ("size", ctypes.c_uint16),
    ]


class _Library:
    """libunicorn with the signatures used here. Short calls keep the GIL; running lets it go."""

    def __init__(self) -> None:
        spec = find_spec("unicorn")
        if spec is None or spec.origin is None:
            raise NotSupported("OP-TEE's TAs need the Python package unicorn")
        path = os.path.join(os.path.dirname(spec.origin), "lib", "libunicorn.so.2")
        held = ctypes.PyDLL(path)
        free = ctypes.CDLL(path)

        def bind(library: ctypes.CDLL, name: str, *types: type) -> Any:
            function = library[name]
            function.argtypes = types
            function.restype = ctypes.c_int
            return function

        self.open = bind(held, "uc_open", ctypes.c_int, ctypes.c_int, _void_p)
        self.close = bind(held, "uc_close", _void_p)
        self.ctl = bind(held, "uc_ctl", _void_p, ctypes.c_int)  # and one int, see _control
        self.ctl1 = bind(free, "uc_ctl", _void_p, ctypes.c_int, ctypes.c_int)
        self.ctl2 = bind(held, "uc_ctl", _void_p, ctypes.c_int, _u64, _void_p)
        self.map_ptr = bind(held, "uc_mem_map_ptr", _void_p, _u64, _u64, ctypes.c_uint32, _void_p)
        self.unmap = bind(held, "uc_mem_unmap", _void_p, _u64, _u64)
        self.protect = bind(held, "uc_mem_protect", _void_p, _u64, _u64, ctypes.c_uint32)
        self.reg_read = bind(held, "uc_reg_read", _void_p, ctypes.c_int, _void_p)
        self.reg_write = bind(held, "uc_reg_write", _void_p, ctypes.c_int, _void_p)
        self.reg_read_batch = bind(
            held, "uc_reg_read_batch", _void_p, _void_p, _void_p, ctypes.c_int
        )
        self.reg_write_batch = bind(
            held, "uc_reg_write_batch", _void_p, _void_p, _void_p, ctypes.c_int
        )
        self.emu_start = bind(free, "uc_emu_start", _void_p, _u64, _u64, _u64, ctypes.c_size_t)
        self.hook_del = bind(held, "uc_hook_del", _void_p, ctypes.c_size_t)
        # Variadic in C; the callback's bounds 1 and 0 mean any address.
        self.hook_add = bind(
            held, "uc_hook_add", _void_p, _void_p, ctypes.c_int, _void_p, _void_p, _u64, _u64
        )
        self.strerror = free.uc_strerror
        self.strerror.argtypes = (ctypes.c_int,)
        self.strerror.restype = ctypes.c_char_p
        self.query = bind(held, "uc_query", _void_p, ctypes.c_int, _void_p)
        self.query_address = ctypes.cast(self.query, _void_p).value
        self.stop_address = ctypes.cast(free.uc_emu_stop, _void_p).value


_library: _Library | None = None


def library() -> _Library:
    """libunicorn, loaded at the first use; a warm parent may do that before it forks."""
    global _library
    if _library is None:
        _library = _Library()
    return _library


class _Batch:
    """Registers that are read or written together, 64 (AArch32: 32) bits each."""

    __slots__ = ("addresses", "count", "ids", "ids_array", "pointers", "values")

    def __init__(self, registers: Sequence[int], word: int, width: int = 1) -> None:
        self.count = len(registers)
        cell = ctypes.c_uint64 if word == 8 else ctypes.c_uint32
        self.values = (cell * (self.count * width))()
        base = ctypes.addressof(self.values)
        self.ids_array = (ctypes.c_int * self.count)(*registers)
        self.pointers = (_void_p * self.count)(
            *(base + n * word * width for n in range(self.count))
        )
        self.ids = ctypes.addressof(self.ids_array)
        self.addresses = ctypes.addressof(self.pointers)


class NativeEngine(Engine):
    """Unicorn, driven for speed. See the module."""

    def __init__(self, arch: str) -> None:
        super().__init__()
        self._lib = lib = library()
        self._cpu = cpu = cpus.CPUS[arch]
        self.arch = arch
        self.word = cpu.word
        self._anchors: dict[int, object] = {}
        self._is_guarded = False
        self._executable: set[int] = set()
        self._is_arm = arch == ARM
        handle = _void_p()
        self._uc = None
        self._check(lib.open(cpu.uc_arch, uc.UC_MODE_ARM, ctypes.addressof(handle)))
        self._uc = handle.value
        self._control(uc.UC_CTL_CPU_MODEL, cpu.model)
        self._control(uc.UC_CTL_TCG_BUFFER_SIZE, _TCG_BUFFER_SIZE)
        # Exits by address are on and there are none: every address can be jumped to and faults.
        self._control(uc.UC_CTL_UC_USE_EXITS, 1)

        self._stop = _Batch(cpu.stop, cpu.word)
        self._entry = _Batch((*cpu.general, cpu.sp, cpu.flags), cpu.word)
        self._vectors = _Batch(
            (*cpu.vectors, *cpu.fp_status), 8, width=2 if cpu.vector_size == 16 else 1
        )
        self._all = _Batch(cpu.all, cpu.word)
        self._result = ctypes.c_uint64()
        self._result_address = ctypes.addressof(self._result)
        self._result_register = cpu.arguments[0]
        self.args = self._stop.values  # type: ignore[assignment]
        self._pc = 0

        # For a look at a fault. Made now: each takes memory that can be executed, which a process
        # that is locked in cannot get.
        self._accesses: list[int] = []
        self._interrupts: list[int] = []
        self._tell: list[Callable[[int, bool], None]] = []
        self._edge_callback = _on_edge(self._tell, self._is_arm)
        self._memory_callback = _on_memory(self._accesses)
        self._interrupt_callback = _on_interrupt(self._interrupts)

        self._interrupt = ctypes.c_uint64()
        self._add_hook(uc.UC_HOOK_INTR, lib.query_address, ctypes.addressof(self._interrupt))
        self._add_hook(uc.UC_HOOK_INTR, lib.stop_address, None)
        self._to_user_mode()
        memory = mmap.mmap(-1, pages.SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._tables_memory = (ctypes.c_char * pages.SIZE).from_buffer(memory)
        self._tables = pages.PageTables(memoryview(memory))
        self._use_tables()
        self._page_size = self._probe_page_size()

    def _check(self, error: int) -> None:
        if error:
            text = self._lib.strerror(error).decode()
            if error == uc.UC_ERR_NOMEM:
                raise OutOfMemory(text)
            raise EngineError(text)

    def _control(self, control: int, *values: int) -> None:
        command = control | len(values) << 26 | uc.UC_CTL_IO_WRITE << 30
        if values:
            self._check(self._lib.ctl1(self._uc, command, *values))
        else:
            self._check(self._lib.ctl(self._uc, command))

    def _add_hook(self, kind: int, callback: object, data: int | None) -> int:
        handle = ctypes.c_size_t()
        self._check(
            self._lib.hook_add(self._uc, ctypes.addressof(handle), kind, callback, data, 1, 0)
        )
        return handle.value

    def _write(self, register: int, value: int) -> None:
        cell = ctypes.c_uint64(value)
        self._check(self._lib.reg_write(self._uc, register, ctypes.addressof(cell)))

    def _read(self, register: int) -> int:
        cell = ctypes.c_uint64()
        self._check(self._lib.reg_read(self._uc, register, ctypes.addressof(cell)))
        return cell.value

    def _system_register(self, name: cpus.SystemRegister, value: int | None = None) -> int:
        cell = uc_arm64_cp_reg(name.crn, name.crm, name.op0, name.op1, name.op2, value or 0)
        operation = self._lib.reg_read if value is None else self._lib.reg_write
        self._check(operation(self._uc, uc.UC_ARM64_REG_CP_REG, ctypes.addressof(cell)))
        return int(cell.val)

    def _to_user_mode(self) -> None:
        if self.arch == AARCH64:
            self._write(uc.UC_ARM64_REG_PSTATE, 0)
            sctlr = self._system_register(cpus.SCTLR_EL1)
            for register, value in cpus.system_registers(sctlr):
                self._system_register(register, value)
        else:
            self._write(uc.UC_ARM_REG_C1_C0_2, cpus.ARM_CPACR_VFP)
            self._write(uc.UC_ARM_REG_FPEXC, cpus.FPEXC_EN)
            self._write(uc.UC_ARM_REG_CPSR, cpus.CPSR_USR)

    def _coprocessor_register(
        self, name: cpus.CoprocessorRegister, value: int | None = None
    ) -> int:
        cell = uc_arm_cp_reg(
            15, name.is_64, 0, name.crn, name.crm, name.opc1, name.opc2, value or 0
        )
        operation = self._lib.reg_read if value is None else self._lib.reg_write
        self._check(operation(self._uc, uc.UC_ARM_REG_CP_REG, ctypes.addressof(cell)))
        return int(cell.val)

    def _use_tables(self) -> None:
        if self._is_arm:
            self._coprocessor_register(cpus.TTBCR, cpus.TTBCR_EAE)
            self._coprocessor_register(cpus.TTBR0, pages.ADDRESS)
        else:
            self._system_register(cpus.TTBR0_EL1, pages.ADDRESS)
            self._system_register(cpus.TCR_EL1, cpus.TCR_GUARDED)
        self._translate_addresses(True)

    def _translate_addresses(self, on: bool) -> None:
        """Switch the MMU. The tables are there as long as no address of the TA leads to them."""
        if on:
            where = ctypes.addressof(self._tables_memory)
            self._check(self._lib.map_ptr(self._uc, pages.ADDRESS, pages.SIZE, 1, where))
        else:
            self._check(self._lib.unmap(self._uc, pages.ADDRESS, pages.SIZE))
        if self._is_arm:
            sctlr = self._coprocessor_register(cpus.SCTLR) & ~cpus.SCTLR_M
            self._coprocessor_register(cpus.SCTLR, sctlr | on)
        else:
            sctlr = self._system_register(cpus.SCTLR_EL1) & ~cpus.SCTLR_M
            self._system_register(cpus.SCTLR_EL1, sctlr | on)
        self._control(uc.UC_CTL_TLB_FLUSH)

    def _probe_page_size(self) -> int:
        """What uc_query answers for UC_QUERY_PAGE_SIZE: the mark of a system call."""
        cell = ctypes.c_uint64()
        self._check(self._lib.query(self._uc, uc.UC_QUERY_PAGE_SIZE, ctypes.addressof(cell)))
        if cell.value < 16:  # the other answers are a mode, an architecture and a flag
            raise EngineError("Unicorn's page size cannot be told from its other answers")
        return cell.value

    def map(self, address: int, memory: memoryview, prot: int) -> None:
        anchor = (ctypes.c_char * memory.nbytes).from_buffer(memory)
        self._check(
            self._lib.map_ptr(self._uc, address, memory.nbytes, prot, ctypes.addressof(anchor))
        )
        self._anchors[address] = anchor
        if prot & 4:
            self._executable.add(address)
            self._set_code(address, memory.nbytes, True)

    def unmap(self, address: int, size: int) -> None:
        self._check(self._lib.unmap(self._uc, address, size))
        self._anchors.pop(address, None)
        if address in self._executable:
            self._executable.discard(address)
            self._set_code(address, size, False)
            self.invalidate()

    def _set_code(self, address: int, size: int, code: bool) -> None:
        self._tables.set_code(address, size, code=code)
        self._control(uc.UC_CTL_TLB_FLUSH)

    def protect(self, address: int, size: int, prot: int) -> None:
        self._check(self._lib.protect(self._uc, address, size, prot))
        # Unicorn looks at the right to read when it fills its TLB, and leaves what is there.
        self._control(uc.UC_CTL_TLB_FLUSH)
        if prot & 4:
            self._executable.add(address)
            self._set_code(address, size, True)
        elif address in self._executable:
            self._executable.discard(address)
            self._set_code(address, size, False)
            self.invalidate()

    def invalidate(self) -> None:
        self._control(uc.UC_CTL_TB_FLUSH)

    def guard_branches(self) -> None:
        if not self._is_arm:
            self._is_guarded = True
            self._tables.guard()

    def record_blocks(self, tell: Callable[[int, bool], None]) -> None:
        self._tell.append(tell)
        self._add_hook(uc.UC_HOOK_EDGE_GENERATED, self._edge_callback, None)

    def translate(self, blocks: Iterable[tuple[int, bool]]) -> None:
        block = uc_tb()
        where = ctypes.addressof(block)
        command = uc.UC_CTL_TB_REQUEST_CACHE | 2 << 26 | uc.UC_CTL_IO_READ_WRITE << 30
        was_thumb = False
        for address, is_thumb in blocks:
            if is_thumb is not was_thumb:
                # The state that the CPU is in now is what a block is translated for.
                self._write(uc.UC_ARM_REG_CPSR, cpus.CPSR_USR | (is_thumb and cpus.CPSR_T))
                was_thumb = is_thumb
            # What cannot be translated now will be when it is run, or fault then.
            self._lib.ctl2(self._uc, command, address, where)

    def renew_keys(self) -> None:
        if self.arch == AARCH64:
            for register, value in cpus.authentication_keys():
                self._system_register(register, value)

    def enter(self, pc: int, sp: int, arguments: tuple[int, ...]) -> None:
        batch = self._entry
        values = batch.values
        ctypes.memset(values, 0, ctypes.sizeof(values))
        for index, value in enumerate(arguments):
            values[index] = value
        values[batch.count - 2] = sp
        if self._is_arm:
            values[batch.count - 1] = cpus.CPSR_USR
        self._check(self._lib.reg_write_batch(self._uc, batch.ids, batch.addresses, batch.count))
        batch = self._vectors
        self._check(self._lib.reg_write_batch(self._uc, batch.ids, batch.addresses, batch.count))
        self._pc = pc

    def resume(self, result: int) -> int:
        self._result.value = result
        self._lib.reg_write(self._uc, self._result_register, self._result_address)
        return self.run()

    def run(self) -> int:
        interrupt = self._interrupt
        interrupt.value = 0
        lib = self._lib
        error = lib.emu_start(self._uc, self._pc, 0, 0, 0)
        if error or interrupt.value != self._page_size:
            self._look(error)
        batch = self._stop
        lib.reg_read_batch(self._uc, batch.ids, batch.addresses, 10)
        values = batch.values
        if self._is_arm:
            self._pc = values[9] | values[8] >> 5 & 1
            return values[7]
        self._pc = values[9]
        return values[8]

    def _look(self, error: int) -> None:
        """A run ended, and not with a system call: go on to one, or raise Fault."""
        lib = self._lib
        accesses, interrupts = self._accesses, self._interrupts
        accesses.clear()
        interrupts.clear()
        hooks = [
            self._add_hook(uc.UC_HOOK_MEM_INVALID, self._memory_callback, None),
            self._add_hook(uc.UC_HOOK_INTR, self._interrupt_callback, None),
        ]
        # With flat memory a fault says what it is and where. But guarded branches want the tables.
        flat = not self._is_guarded
        try:
            if flat:
                self._translate_addresses(False)
            while True:
                registers = self.registers()
                pc = registers["pc"]
                # The TLB has the page by now, whatever its protection: see protect().
                self._control(uc.UC_CTL_TLB_FLUSH)
                if self._is_arm:
                    self._write(uc.UC_ARM_REG_ESR, 0)
                    pc |= registers["cpsr"] >> 5 & 1
                error = lib.emu_start(self._uc, pc, 0, 0, 0)
                if interrupts == [uc.EXCP_SWI]:
                    return
                if error or interrupts:
                    if (
                        error == uc.UC_ERR_INSN_INVALID
                        and self._is_arm
                        and not self._read(uc.UC_ARM_REG_ESR)
                    ):
                        continue  # yield or wfe
                    raise self._fault(error, interrupts, accesses)
        finally:
            for hook in hooks:
                lib.hook_del(self._uc, hook)
            if flat:
                self._translate_addresses(True)

    def _fault(self, error: int, interrupts: list[int], accesses: list[int]) -> Fault:
        registers = self.registers()
        pc = registers["pc"]
        if interrupts:
            code = self._code(pc)
            kind, address = cpus.exception_kind(
                self._cpu, interrupts[0], registers, code, self._is_guarded
            )
            if kind is FaultKind.FETCH_UNMAPPED and code:
                kind = FaultKind.FETCH_PROTECTED  # the tables have it as no code
            return Fault(kind, address, pc, registers)
        if error in cpus.MEMORY_FAULTS:
            kind = cpus.MEMORY_FAULTS[error]
            # Unicorn names the page of a fetch, or its first byte; the program counter is exact.
            if kind in (FaultKind.FETCH_UNMAPPED, FaultKind.FETCH_PROTECTED):
                return Fault(kind, pc, pc, registers)
            address = accesses[0] if accesses else None
            if address is not None:
                kind = self._data_fault(kind, address)
            return Fault(kind, address, pc, registers)
        if error in (uc.UC_ERR_INSN_INVALID, uc.UC_ERR_EXCEPTION):
            return Fault(FaultKind.UNDEFINED, None, pc, registers)
        detail = self._lib.strerror(error).decode()
        return Fault(FaultKind.ENGINE, None, pc, registers, detail)

    def _code(self, pc: int) -> bytes:
        for address, anchor in self._anchors.items():
            size = ctypes.sizeof(anchor)  # type: ignore[arg-type]
            if address <= pc < address + size:
                offset = pc - address
                return bytes(memoryview(anchor)[offset : offset + 4])  # type: ignore[arg-type]
        return b""

    def registers(self) -> dict[str, int]:
        batch = self._all
        self._check(self._lib.reg_read_batch(self._uc, batch.ids, batch.addresses, batch.count))
        values = list(batch.values)
        if not self._is_arm:
            values[-1] &= 0xFFFFFFFF  # written as 32 bits
        return dict(zip(self._cpu.names, values, strict=True))

    @property
    def thread_register(self) -> int:
        value = self._read(self._cpu.thread)
        return value if self.word == 8 else value & 0xFFFFFFFF

    @thread_register.setter
    def thread_register(self, value: int) -> None:
        self._write(self._cpu.thread, value)

    def close(self) -> None:
        if self._uc is not None:
            self._lib.close(self._uc)
            self._uc = None
            self._anchors.clear()
