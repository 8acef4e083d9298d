# SPDX-License-Identifier: BSD-2-Clause
"""What an engine is: memory, registers, run to the next system call; and how it faults."""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum

PROT_READ = 1
PROT_WRITE = 2
PROT_EXEC = 4

AARCH64 = "aarch64"
ARM = "arm"

# Where branch targets are checked, once guard_branches() was called: images that were built with
# branch target identification are placed here, all others below.
GUARDED_LOW = 0x80000000
GUARDED_HIGH = 0xC0000000


class FaultKind(Enum):
    """Why a TA cannot go on. OP-TEE panics it, whichever it is."""

    READ_UNMAPPED = "read of unmapped memory"
    WRITE_UNMAPPED = "write to unmapped memory"
    FETCH_UNMAPPED = "jump to unmapped memory"
    READ_PROTECTED = "read of memory that may not be read"
    WRITE_PROTECTED = "write to read-only memory"
    FETCH_PROTECTED = "execution of data"
    STACK_OVERFLOW = "stack overflow"
    DATA_ABORT = "access to an address beyond all memory"  # 64-bit, and it is not known which
    ALIGNMENT = "unaligned access"
    UNDEFINED = "undefined instruction"
    BREAKPOINT = "breakpoint instruction"
    BRANCH_TARGET = "branch to what is no branch target"
    ENGINE = "the engine failed"


class Fault(Exception):
    """The TA faulted. It cannot be resumed.

    :ivar kind: what happened.
    :ivar address: the address that was read, written or jumped to, or None where it is unknown
        or there is none.
    :ivar pc: the address of the instruction; for a jump, where it went.
    :ivar registers: all integer registers by their names, with ``sp``, ``pc`` and the flags
        (``pstate`` or ``cpsr``), as they were before the instruction.
    """

    def __init__(
        self,
        kind: FaultKind,
        address: int | None,
        pc: int,
        registers: dict[str, int],
        detail: str = "",
    ) -> None:
        super().__init__(kind, address, pc, registers, detail)
        self.kind = kind
        self.address = address
        self.pc = pc
        self.registers = registers
        self.detail = detail

    def __str__(self) -> str:
        text = f"{self.kind.value} at pc {self.pc:#x}"
        if self.address is not None and self.address != self.pc:
            text += f", address {self.address:#x}"
        return f"{text}: {self.detail}" if self.detail else text


class EngineError(Exception):
    """A request that the engine refuses, such as a mapping over another one: a bug of ours."""


class Engine:
    """One CPU in user mode (EL0, or AArch32 user mode) with flat memory.

    The CPU has every feature that the engine knows, floating point and vectors included. What
    OP-TEE keeps from TAs traps: system registers, cache maintenance, the counters. Nothing stops
    a TA that does not make a system call: whoever watches kills the process from outside.

    :ivar arch: :data:`AARCH64` or :data:`ARM`.
    :ivar word: bytes in a register, 8 or 4.
    :ivar args: at a system call the argument registers, x0 to x7 or r0 to r7; valid until the
        next run. In AArch32 r0 to r3 are arguments, r5 points to further ones on the stack and
        r6 counts those (reference: OP-TEE's ``scall_do_call``).
    """

    arch: str
    word: int
    args: Sequence[int]

    def __init__(self) -> None:
        self._stack_guard = range(0)

    def map(self, address: int, memory: memoryview, prot: int) -> None:
        """Let the TA see ``memory`` (writable, contiguous) at ``address``.

        Both are whole pages. The engine holds an export of the buffer until :meth:`unmap`. What
        may be written or executed may be read.
        """
        raise NotImplementedError

    def unmap(self, address: int, size: int) -> None:
        """Take away one mapping, by the address and size that it was made with."""
        raise NotImplementedError

    def protect(self, address: int, size: int, prot: int) -> None:
        """Change what may be done with one mapping, by its address and size; 0: nothing."""
        raise NotImplementedError

    def invalidate(self) -> None:
        """Forget translated code, after instructions were written from outside."""
        raise NotImplementedError

    def guard_branches(self) -> None:
        """From now on indirect branches into the guarded window must find a ``bti`` there."""
        raise NotImplementedError

    def guard_stack(self, low: int, high: int) -> None:
        """Data faults in this range are stack overflows: the unmapped pages below the stack."""
        self._stack_guard = range(low, high)

    def record_blocks(self, tell: Callable[[int, bool], None]) -> None:
        """Call ``tell`` with each block of code that is translated: its address, whether Thumb.

        A hint: an engine may know none, and tell some blocks as both.
        """

    def translate(self, blocks: Iterable[tuple[int, bool]]) -> None:
        """Translate blocks now, which are executable memory; a hint as :meth:`record_blocks`."""

    def renew_keys(self) -> None:
        """Take new keys for pointer authentication, before anything was entered."""

    def enter(self, pc: int, sp: int, arguments: tuple[int, ...]) -> None:
        """Prepare an entry: at most four arguments in registers, everything else zero.

        The thread register keeps its value, the floating point registers do not. In AArch32 bit 0
        of ``pc`` selects Thumb.
        """
        raise NotImplementedError

    def run(self) -> int:
        """Run to the next system call; its number. Raises :exc:`Fault`."""
        raise NotImplementedError

    def resume(self, result: int) -> int:
        """Answer the system call with ``result`` (a TEE_Result) and run to the next one."""
        raise NotImplementedError

    def registers(self) -> dict[str, int]:
        """All integer registers by name, as in :class:`Fault`."""
        raise NotImplementedError

    @property
    def thread_register(self) -> int:
        """TPIDR_EL0, or TPIDRURO in AArch32."""
        raise NotImplementedError

    @thread_register.setter
    def thread_register(self, value: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Free everything; twice is once."""
        raise NotImplementedError

    def _data_fault(self, kind: FaultKind, address: int) -> FaultKind:
        return FaultKind.STACK_OVERFLOW if address in self._stack_guard else kind
