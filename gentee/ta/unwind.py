# SPDX-License-Identifier: BSD-2-Clause
"""Where a TA was when it died: the chain of its calls, found in its memory.

AArch64 by frame records (AAPCS64, "The Frame Pointer"), AArch32 by the index tables that its
compilers make for exceptions ("Exception Handling ABI for the Arm Architecture", EHABI32, sections
6 and 10), as ldelf does it (lib/libunw). The TA may have prepared its stack for us: only memory
that it can read itself is read, each step goes up the stack, and the number of steps is limited.
"""

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import NamedTuple

from gentee.abi import elf
from gentee.ta.engine.base import AARCH64, PROT_EXEC
from gentee.ta.engine.space import AddressSpace, BadAddress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.loader.link import Module

MAX_FRAMES = 2048

# What is known of the address of a frame.
EXACT = 0  # of the instruction that ran
CALL = 1  # a return address: the call is the instruction before it
LINK = 2  # a return address that the link register still had; it may be of a call that is over

_PAIR = Struct("<2Q")
_WORD = Struct("<I")
_ENTRY = Struct("<2I")

# Pointer authentication codes are above the address: 39 bits is the least that gentee.ta.engine
# gives to a TA.
_ADDRESS = (1 << 39) - 1

_FP, _LR = 29, 30  # AArch64
_SP, _LR32, _PC = 13, 14, 15  # AArch32

EXIDX_CANTUNWIND = 1
_MAX_OPERATIONS = 4 * 256  # bytes: what a table's entry can have at most


class Frame(NamedTuple):
    """An address in the code; the first one is the innermost."""

    address: int
    kind: int


def backtrace(
    space: AddressSpace,
    modules: "Iterable[Module]",
    arch: str,
    registers: dict[str, int],
    first: int = EXACT,
) -> list[Frame]:
    """The frames from the innermost one on; at least the program counter's.

    :param registers: with the names that :class:`~gentee.ta.engine.base.Fault` has.
    :param first: whether the program counter is EXACT, or a return address itself (CALL).
    """
    if arch == AARCH64:
        return _by_frame_records(space, registers, first)
    return _ByTables(space, modules).backtrace(registers, first)


def _is_code(space: AddressSpace, address: int) -> bool:
    region = space.find(address)
    return region is not None and bool(region.prot & PROT_EXEC)


def _by_frame_records(space: AddressSpace, registers: dict[str, int], first: int) -> list[Frame]:
    frames = [Frame(registers["pc"], first)]
    link = registers.get("x30", 0) & _ADDRESS
    fp = registers.get("x29", 0)
    is_first = True
    while len(frames) < MAX_FRAMES:
        try:
            saved, lr = _PAIR.unpack(space.read(fp, _PAIR.size)) if not fp & 7 else (0, 0)
        except BadAddress:
            saved = lr = 0
        lr &= _ADDRESS
        if is_first:
            is_first = False
            # A function that calls none has no record: then the link register has its caller.
            # Else it has what the record has, or where a call returned to that is over.
            if link not in (lr, registers["pc"]) and _is_code(space, link - 4):
                frames.append(Frame(link, LINK))
        if not _is_code(space, lr - 4):
            break
        frames.append(Frame(lr, CALL))
        if saved <= fp:  # records go up the stack; the last one says 0
            break
        fp = saved
    return frames


class _Refused(Exception):
    """No further: a table, or the stack, does not say."""


class _ByTables:
    """AArch32. The state of one unwinding is its virtual registers."""

    def __init__(self, space: AddressSpace, modules: "Iterable[Module]") -> None:
        self._space = space
        self._tables = [
            (module.load_addr, module.load_addr + module.image.span, *table)
            for module in modules
            if (table := _index_table(module.image.data, module.load_addr))
        ]
        self._vrs = [0] * 16

    def backtrace(self, registers: dict[str, int], first: int) -> list[Frame]:
        names = [*(f"r{n}" for n in range(13)), "sp", "lr", "pc"]
        self._vrs = vrs = [registers.get(name, 0) for name in names]
        thumb = registers.get("cpsr", 0) >> 5 & 1
        frames = [Frame(vrs[_PC], first)]
        seen = set()
        while len(frames) < MAX_FRAMES:
            state = (vrs[_PC], vrs[_SP])
            sp = vrs[_SP]
            seen.add(state)
            innermost = len(frames) == 1
            try:
                self._step(frames[-1].kind, thumb if innermost else vrs[_PC] & 1)
            except (_Refused, BadAddress):
                # As it is in a function without a table: perhaps it has its caller in a register.
                link = registers.get("lr", 0)
                if innermost and _is_code(self._space, (link & ~1) - 2):
                    frames.append(Frame(link & ~1, LINK))
                break
            target = vrs[_PC] & ~1
            # A function that calls none needs no stack, so the stack pointer may stay, once.
            if vrs[_SP] < sp or (vrs[_PC], vrs[_SP]) in seen:
                break
            if not _is_code(self._space, target - 2):
                break
            frames.append(Frame(target, CALL))
        return frames

    def _step(self, kind: int, thumb: int) -> None:
        """Restore the registers of the caller; its program counter is a return address."""
        vrs = self._vrs
        pc = vrs[_PC] & ~1
        if kind != EXACT:
            # A call that never returns may be the last instruction of its function.
            pc -= 2
        elif not _is_code(self._space, pc):  # a jump to nowhere
            vrs[_PC] = vrs[_LR32]
            return
        start, operations = self._operations(pc)
        if kind == EXACT and (pushed := self._pushed(start, pc, thumb)) is not None:
            # The function has not saved anything yet, which its table takes for granted.
            vrs[_SP] += pushed
            vrs[_PC] = vrs[_LR32]
            return
        vrs[_PC] = 0
        self._execute(operations)
        if not vrs[_PC]:
            vrs[_PC] = vrs[_LR32]

    def _word(self, address: int) -> int:
        (word,) = _WORD.unpack(self._space.read(address & 0xFFFFFFFF, 4))
        return int(word)

    def _table(self, pc: int) -> tuple[int, int]:
        for low, high, table, count in self._tables:
            if low <= pc < high:
                return table, count
        raise _Refused

    def _operations(self, pc: int) -> tuple[int, bytes]:
        """Start and unwinding operations of the function at ``pc``."""
        table, count = self._table(pc)
        first, last = 0, count - 1
        while first < last:
            middle = (first + last + 1) // 2
            at = table + 8 * middle
            if _prel31(self._word(at), at) <= pc:
                first = middle
            else:
                last = middle - 1
        at = table + 8 * first
        function, word = _ENTRY.unpack(self._space.read(at, _ENTRY.size))
        start = _prel31(function, at)
        if start > pc or word == EXIDX_CANTUNWIND:
            raise _Refused
        if word >> 31:
            return start, self._inline(word, at + 4)
        at = _prel31(word, at + 4)
        word = self._word(at)
        if word >> 31:
            return start, self._inline(word, at)
        # The generic model: a personality routine, then what the compilers of C++ put there.
        word = self._word(at + 4)
        return start, self._more(word, at + 4, word >> 24, 3)

    def _inline(self, word: int, at: int) -> bytes:
        personality = word >> 24 & 0x7F
        if personality == 0:
            return word.to_bytes(4, "big")[1:]
        if personality in (1, 2):
            return self._more(word, at, word >> 16 & 0xFF, 2)
        raise _Refused

    def _more(self, word: int, at: int, count: int, rest: int) -> bytes:
        """The last ``rest`` bytes of a word, then ``count`` words after it."""
        data = self._space.read(at + 4, 4 * count)
        words = (data[position : position + 4][::-1] for position in range(0, len(data), 4))
        return word.to_bytes(4, "big")[4 - rest :] + b"".join(words)

    def _pop(self, registers: Sequence[int]) -> None:
        vsp = self._vrs[_SP]
        values = [self._word(vsp + 4 * index) for index in range(len(registers))]
        self._vrs[_SP] = vsp + 4 * len(registers)
        for register, value in zip(registers, values, strict=True):
            self._vrs[register] = value

    def _execute(self, operations: bytes) -> None:
        """EHABI32 section 10.3."""
        vrs = self._vrs
        stream = iter(operations[:_MAX_OPERATIONS])
        for op in stream:
            if op < 0x40:
                vrs[_SP] += ((op & 0x3F) << 2) + 4
            elif op < 0x80:
                vrs[_SP] -= ((op & 0x3F) << 2) + 4
            elif op < 0x90:
                mask = (op & 0xF) << 8 | next(stream, 0)
                if not mask:
                    raise _Refused
                self._pop([4 + bit for bit in range(12) if mask >> bit & 1])
            elif op < 0xA0:
                if op & 0xF in (13, 15):
                    raise _Refused
                vrs[_SP] = vrs[op & 0xF]
            elif op < 0xB0:
                self._pop([*range(4, 5 + (op & 7)), *([_LR32] if op & 8 else [])])
            elif op == 0xB0:
                return
            elif op == 0xB1:
                mask = next(stream, 0)
                if not mask or mask & 0xF0:
                    raise _Refused
                self._pop([bit for bit in range(4) if mask >> bit & 1])
            elif op == 0xB2:
                vrs[_SP] += 0x204 + (_uleb128(stream) << 2)
            elif op == 0xB3:
                vrs[_SP] += ((next(stream, 0) & 0xF) + 1) * 8 + 4
            elif op == 0xB4:
                vrs[_SP] += 4  # a return address' authentication code
            elif 0xB8 <= op < 0xC0:
                vrs[_SP] += ((op & 7) + 1) * 8 + 4
            elif op in (0xC8, 0xC9):
                vrs[_SP] += ((next(stream, 0) & 0xF) + 1) * 8
            elif 0xD0 <= op < 0xD8:
                vrs[_SP] += ((op & 7) + 1) * 8
            else:
                raise _Refused
            if not 0 <= vrs[_SP] < 1 << 32:
                raise _Refused

    def _pushed(self, start: int, pc: int, thumb: int) -> int | None:
        """Bytes that were pushed from ``start`` to ``pc``, where the return address comes next.

        None where that is not so: then the function is under way.
        """
        pushed = 0
        at = start & ~1
        for _ in range(4):
            size, registers = self._push_at(at, thumb)
            if at >= pc:
                return pushed if registers >> _LR32 & 1 and at == pc else None
            if not registers or registers >> _LR32 & 1:
                return None
            pushed += 4 * registers.bit_count()
            at += size
        return None

    def _push_at(self, at: int, thumb: int) -> tuple[int, int]:
        """The size of the instruction at ``at``, and the registers that it pushes."""
        if not thumb:
            word = self._word(at)
            if word & 0x0FFF0000 == 0x092D0000:  # stmdb sp!, {...}
                return 4, word & 0xFFFF
            return 4, 1 << _LR32 if word == 0xE52DE004 else 0  # push {lr}
        low = int.from_bytes(self._space.read(at, 2), "little")
        if low & 0xFE00 == 0xB400:
            return 2, low & 0xFF | (1 << _LR32 if low & 0x100 else 0)
        if low < 0xE800:
            return 2, 0
        high = int.from_bytes(self._space.read(at + 2, 2), "little")
        if low == 0xE92D:
            return 4, high
        return 4, 1 << _LR32 if (low, high) == (0xF84D, 0xED04) else 0


def _prel31(word: int, at: int) -> int:
    """The address that a place-relative offset of 31 bits at ``at`` means."""
    offset = word & 0x7FFFFFFF
    return at + offset - (offset >> 30 << 31) & 0xFFFFFFFF


def _uleb128(stream: Iterable[int]) -> int:
    value = 0
    for shift, byte in zip(range(0, 35, 7), stream, strict=False):
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value
    raise _Refused


def _index_table(data: bytes, load_addr: int) -> tuple[int, int] | None:
    """Address and number of entries of a file's PT_ARM_EXIDX."""
    fields = elf.Elf32_Ehdr.unpack_from(data)
    phoff, phnum = fields[5], fields[10]
    layout = elf.Elf32_Phdr
    for header in layout.iter_unpack(data[phoff : phoff + phnum * layout.size]):
        type, _offset, vaddr, _paddr, _filesz, memsz = header[:6]
        if type == elf.PT_ARM_EXIDX and memsz >= 8:
            return load_addr + vaddr, memsz // 8
    return None
