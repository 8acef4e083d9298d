# SPDX-License-Identifier: BSD-2-Clause
"""Crash reports: why a TA of OP-TEE died, for its author, at the terminal.

The report comes from the TA's process (:mod:`gentee.ta.report`), which the TA may have taken over:
it is held against a schema, and of what is not exactly as expected nothing is shown. Addresses get
names by :mod:`gentee.secure.symbols`. Nobody waits for any of it but the end of the TEE.
"""

import json
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from gentee.abi.gp import result_name
from gentee.abi.optee_ta import (
    UTEE_ENTRY_FUNC_CLOSE_SESSION,
    UTEE_ENTRY_FUNC_DUMP_MEMSTATS,
    UTEE_ENTRY_FUNC_INVOKE_COMMAND,
    UTEE_ENTRY_FUNC_OPEN_SESSION,
)
from gentee.core.host import LOG_ERROR, Host
from gentee.core.workers import WORKERS
from gentee.secure.symbols import Found, Named, Symbols, Wanted

MAX_WAITING = 32  # reports that wait for their symbols; what comes then has none

# gentee.ta.engine.base.FaultKind
FAULTS = {
    "READ_UNMAPPED": "data abort, read of unmapped memory",
    "WRITE_UNMAPPED": "data abort, write to unmapped memory",
    "FETCH_UNMAPPED": "prefetch abort, jump to unmapped memory",
    "READ_PROTECTED": "data abort, read of memory that may not be read",
    "WRITE_PROTECTED": "data abort, write to read-only memory",
    "FETCH_PROTECTED": "prefetch abort, execution of data",
    "STACK_OVERFLOW": "data abort, stack overflow",
    "DATA_ABORT": "data abort, access to an address beyond all memory",
    "ALIGNMENT": "alignment fault, unaligned access",
    "UNDEFINED": "undefined instruction",
    "BREAKPOINT": "breakpoint instruction",
    "BRANCH_TARGET": "branch target exception, branch to what is no branch target",
    "ENGINE": "the engine failed",
}

# gentee.ta.unwind: what is known of the address of a frame
EXACT, CALL, LINK = 0, 1, 2
LAST_FRAMES = 16  # gentee.ta.report

_MAX_ALIKE = 3  # frames of one address that are shown

_NULL_PAGE = 4096
_ADDRESS = (1 << 39) - 1  # pointer authentication codes are above: gentee.ta.unwind


class Region(NamedTuple):
    """Memory of the TA; ``module`` is the number of the file that it is of, or -1."""

    start: int
    end: int
    prot: int
    name: str
    module: int


class LoadedModule(NamedTuple):
    """A file of the TA in its memory."""

    uuid: str
    load_addr: int
    size: int
    build_id: str
    checksum: int


class Report(NamedTuple):
    """A crash report that is what it should be. Either ``panic`` or ``fault`` is there.

    :ivar omitted: how many frames there were before the last LAST_FRAMES.
    """

    arch: str
    doing: tuple[int, int, int]
    panic: int | None
    fault: str
    address: int | None
    detail: str
    registers: tuple[tuple[str, int], ...]
    regions: tuple[Region, ...]
    modules: tuple[LoadedModule, ...]
    frames: tuple[tuple[int, int], ...]
    omitted: int


# The schema.

_ARCHES = {
    "aarch64": (*(f"x{n}" for n in range(31)), "sp", "pc", "pstate"),
    "arm": (*(f"r{n}" for n in range(13)), "sp", "lr", "pc", "cpsr"),
}
_MAX_WORD = (1 << 64) - 1
_MAX_NAME = 64
_MAX_DETAIL = 200
_MAX_REGIONS = 24
_MAX_MODULES = 64
_MAX_FRAMES = 64
_MAX_OMITTED = 4096
_KEYS = {
    "arch", "doing", "panic", "fault", "detail", "registers", "regions", "modules", "frames",
    "omitted",
}  # fmt: skip


def parse_report(data: bytes) -> Report:
    """The report of these bytes; ValueError where it is not exactly as it should be."""
    try:
        report = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(report, dict) or report.keys() != _KEYS:
        raise ValueError("not these keys")
    arch = report["arch"]
    if not isinstance(arch, str) or arch not in _ARCHES:
        raise ValueError("arch")
    panic = None if report["panic"] is None else _number(report["panic"], 0xFFFFFFFF)
    fault, address = "", None
    if report["fault"] is not None:
        kind, where = _items(report["fault"], 2, 2)
        fault = _text(kind, _MAX_NAME)
        address = None if where is None else _number(where)
        if fault not in FAULTS:
            raise ValueError("fault")
    if (panic is None) == (not fault):
        raise ValueError("neither panic nor fault, or both")
    function, session, command = _numbers(report["doing"], 3, 0xFFFFFFFF)
    return Report(
        arch,
        (function, session, command),
        panic,
        fault,
        address,
        _text(report["detail"], _MAX_DETAIL),
        _registers(report["registers"], _ARCHES[arch]),
        tuple(_region(one) for one in _items(report["regions"], 0, _MAX_REGIONS)),
        tuple(_module(one) for one in _items(report["modules"], 0, _MAX_MODULES)),
        tuple(_frame(one) for one in _items(report["frames"], 0, _MAX_FRAMES)),
        _number(report["omitted"], _MAX_OMITTED),
    )


def _number(value: object, most: int = _MAX_WORD, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError("not a number in its range")
    return value


def _items(value: object, least: int, most: int) -> list[object]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise ValueError(f"not a list of {least} to {most}")
    return value


def _numbers(value: object, count: int, most: int) -> list[int]:
    return [_number(one, most) for one in _items(value, count, count)]


def _text(value: object, most: int) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"not a text of up to {most}")
    return value


def _registers(value: object, names: Sequence[str]) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, dict) or not value.keys() <= set(names):
        raise ValueError("registers")
    return tuple((name, _number(value[name])) for name in names if name in value)


def _region(value: object) -> Region:
    start, end, prot, name, module = _items(value, 5, 5)
    return Region(
        _number(start),
        _number(end),
        _number(prot, 7),
        _text(name, _MAX_NAME),
        _number(module, _MAX_MODULES - 1, -1),
    )


def _module(value: object) -> LoadedModule:
    uuid, load_addr, size, build_id, checksum = _items(value, 5, 5)
    octets = bytes.fromhex(_text(uuid, 32))
    if len(octets) != 16:
        raise ValueError("not a UUID")
    from gentee.secure.service import format_uuid

    return LoadedModule(
        format_uuid(octets),
        _number(load_addr),
        _number(size),
        bytes.fromhex(_text(build_id, 128)).hex(),
        _number(checksum, 0xFFFFFFFF),
    )


def _frame(value: object) -> tuple[int, int]:
    address, kind = _items(value, 2, 2)
    return _number(address), _number(kind, LINK)


# What is shown.


def summary(report: Report) -> str:
    """The first line: what happened, and what it was doing."""
    if report.panic is not None:
        name, number = result_name(report.panic), f"0x{report.panic:08x}"
        text = "panicked: " + (name if name == number else f"{name} ({number})")
    else:
        text = "died: " + FAULTS[report.fault]
        if report.address is not None:
            text += f" at {report.address:#x}"
            place = _where(report, report.address)
            if report.address < _NULL_PAGE:
                place = "a null pointer"
            elif report.address > _ADDRESS and (meant := _where(report, report.address & _ADDRESS)):
                # As the address of a pointer comes out whose authentication failed.
                place = f"{meant}, but for its upper bits: was it signed for something else?"
            text += f" ({place})" if place else ""
    if report.detail:
        text += f", {report.detail}"
    return f"{text}, {_doing(report.doing)}"


def _doing(doing: tuple[int, int, int]) -> str:
    function, session, command = doing
    if function == UTEE_ENTRY_FUNC_INVOKE_COMMAND:
        return f"in command {command} of session {session}"
    if function == UTEE_ENTRY_FUNC_OPEN_SESSION:
        return f"while session {session} was opened"
    if function == UTEE_ENTRY_FUNC_CLOSE_SESSION:
        return f"while session {session} was closed"
    if function == UTEE_ENTRY_FUNC_DUMP_MEMSTATS:
        return "while it counted its memory"
    return f"in its entry function {function}"


def _where(report: Report, address: int) -> str:
    """What is at an address: in a file from its load address on, else from the region's start."""
    number = _module_of(report, address)
    if number is not None:
        return _offset(report, number, address)
    for region in report.regions:
        if region.start <= address < region.end:
            return f"{_region_name(report, region)} + {address - region.start:#x}"
    return ""


def _region_name(report: Report, region: Region) -> str:
    if 0 <= region.module < len(report.modules):
        return _module_name(report, region.module)
    return region.name


def _module_name(report: Report, number: int) -> str:
    return f"library {report.modules[number].uuid}" if number else "TA"


def _module_of(report: Report, address: int) -> int | None:
    for number, module in enumerate(report.modules):
        if module.load_addr <= address < module.load_addr + module.size:
            return number
    return None


def wanted(report: Report) -> list[Wanted]:
    """For each module the addresses in it whose names the report wants."""
    addresses: list[list[tuple[int, bool]]] = [[] for _ in report.modules]
    for address, kind in report.frames:
        number = _module_of(report, _code(address, kind))
        if number is not None:
            inside = (address - report.modules[number].load_addr, kind != EXACT)
            if inside not in addresses[number]:
                addresses[number].append(inside)
    return [
        Wanted(module.uuid, module.build_id, module.checksum, tuple(found))
        for module, found in zip(report.modules, addresses, strict=True)
    ]


def _code(address: int, kind: int) -> int:
    """Where a frame is: a call that does not return may be the last instruction of a file."""
    return address if kind == EXACT or not address else address - 1


def render(report: Report, uuid: str, found: Sequence[Found]) -> list[str]:
    """The lines to show, the summary first.

    :param found: for each module, in their order.
    """
    bits = "64-bit" if report.arch == "aarch64" else "32-bit"
    lines = [summary(report), f"  TA {uuid}, {bits} Arm"]
    lines += _backtrace(report, found)
    lines += _register_lines(report)
    lines += _memory(report)
    lines.append("  Loaded files")
    for module, one in zip(report.modules, found, strict=True):
        symbols = f"  symbols of {one.file}" if one.file else ""
        lines.append(f"    {module.load_addr:#010x}  {module.uuid}{symbols}")
    if report.fault == "ENGINE":
        lines.append("  This may be a bug of gentee's, not of the TA's: please report it")
    return lines


def _backtrace(report: Report, found: Sequence[Found]) -> list[str]:
    lines = ["  Backtrace"]
    number = alike = 0
    nameless = False
    start_before: tuple[int | None, int] = (None, -1)
    before = (-1, -1)
    for position, (address, kind) in enumerate(report.frames):
        if report.omitted and position == len(report.frames) - LAST_FRAMES:
            number += report.omitted
            lines.append(f"    ... {report.omitted} more frames")
        alike = alike + 1 if (address, kind) == before else 1
        before = (address, kind)
        if alike > _MAX_ALIKE:
            number += 1
            if alike == _MAX_ALIKE + 1:
                lines.append("    ... the same again and again")
            continue
        module = _module_of(report, _code(address, kind))
        named = _named(report, found, module, address, kind)
        start = (module, named.start)
        if kind == LINK and named.start >= 0 and start == start_before:
            continue  # of a call that the function made before
        start_before = start
        place = _offset(report, module, address)
        if not named.places:
            nameless = nameless or (module is not None and not found[module].file)
            doubt = "  (from the link register: the call may be over)" if kind == LINK else ""
            lines.append(f"    #{number:<2} {address:#010x}  {place or 'in no file'}{doubt}")
            number += 1
        for index, (function, file, line) in enumerate(named.places):
            at = f" at {file}:{line}" if file else f"  ({place})"
            inlined = "  (inlined)" if index < len(named.places) - 1 else ""
            lines.append(f"    #{number:<2} {address:#010x}  {function}{at}{inlined}")
            number += 1
    if nameless:
        lines.append(f"    {_hint(report, found)}")
    return lines


def _named(
    report: Report, found: Sequence[Found], module: int | None, address: int, kind: int
) -> Named:
    if module is not None:
        inside = (address - report.modules[module].load_addr, kind != EXACT)
        named = found[module].named.get(inside)
        if named is not None:
            return named
    return Named(-1, ())


def _offset(report: Report, module: int | None, address: int) -> str:
    if module is None:
        return ""
    offset = address - report.modules[module].load_addr
    return f"{_module_name(report, module)} + {offset:#x}"


def _hint(report: Report, found: Sequence[Found]) -> str:
    problems = [one.problem for one in found if one.problem]
    if problems:
        return problems[0]
    return "no symbols; --symbols DIR with the unstripped ELF shows functions and lines"


def _register_lines(report: Report) -> list[str]:
    digits, columns = (16, 4) if report.arch == "aarch64" else (8, 6)
    cells = [f"{name:>8} {value:0{digits}x}" for name, value in report.registers]
    rows = range(0, len(cells), columns)
    return ["  Registers", *("  " + "".join(cells[row : row + columns]) for row in rows)]


def _memory(report: Report) -> list[str]:
    """The regions, and where the address of the fault is in them or between them."""
    address = report.address
    regions = sorted(report.regions)
    lines = []
    for region in regions:
        rights = "".join(c if region.prot & 1 << bit else "-" for bit, c in enumerate("rwx"))
        is_it = address is not None and region.start <= address < region.end
        mark = f"  <- the fault, at {address:#x}" if is_it else ""
        name = _region_name(report, region)
        lines.append(f"    {region.start:#010x}-{region.end:#010x} {rights}  {name}{mark}")
    if address is not None:
        after = bisect_right([region.start for region in regions], address)
        if not after or address >= regions[after - 1].end:
            place = _beside(report, address, regions[:after][-1:], regions[after : after + 1])
            lines.insert(after, f"    {address:#010x}             <- the fault{place}")
    return ["  Memory", *lines]


def _beside(report: Report, address: int, below: list[Region], above: list[Region]) -> str:
    """How far from an address the nearer one of its neighbours is."""
    to_below = address - below[0].end if below else _MAX_WORD
    to_above = above[0].start - address if above else _MAX_WORD
    if below and to_below < to_above:
        return f", {to_below:#x} bytes after {_region_name(report, below[0])}"
    if above:
        return f", {to_above:#x} bytes before {_region_name(report, above[0])}"
    return ""


class CrashReports:
    """The reports of one TEE. One is looked at after the other: a flood of them has one thread."""

    def __init__(self, host: Host, symbols: Symbols) -> None:
        self._host = host
        self._symbols = symbols
        self._lock = threading.Lock()  # protects the two below
        self._waiting: deque[tuple[str, str, Report]] = deque()
        self._working = False
        self._idle = threading.Event()
        self._idle.set()

    def submit(self, name: str, uuid: str, data: bytes) -> None:
        """Events thread: the TA of this name and UUID died and has left these bytes."""
        try:
            report = parse_report(data)
        except ValueError as error:
            text = f"died, and left a crash report that cannot be read ({error})"
            self._host.log(name, LOG_ERROR, text)
            return
        with self._lock:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append((name, uuid, report))
                if self._working:
                    return
                self._working = True
                self._idle.clear()
            else:
                self._host.log(name, LOG_ERROR, summary(report))
                return
        try:
            WORKERS.submit(self._work)
        except OSError:  # no thread can be had, so there is no time for names
            self._work(look_up=False)

    def _work(self, look_up: bool = True) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._working = False
                    self._idle.set()
                    return
                name, uuid, report = self._waiting.popleft()
            try:
                found = [Found("", "", {}) for _ in report.modules]
                if look_up:
                    found = self._symbols.look_up(report.arch, wanted(report))
                self._host.log_block(name, LOG_ERROR, render(report, uuid, found))
            except Exception as error:
                self._host.log(name, LOG_ERROR, summary(report))
                self._host.bug(error)

    def close(self, timeout: float = 5.0) -> None:
        """Wait until all were shown; those that take longer are shown without symbols."""
        if not self._idle.wait(timeout):
            self._symbols.stop()
            self._idle.wait(timeout)


__all__ = ["CrashReports", "parse_report", "render", "summary", "wanted"]
