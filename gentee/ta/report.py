# SPDX-License-Identifier: BSD-2-Clause
"""What a TA leaves behind for its author when it dies: one line of JSON, for the log.

gentee checks and renders it (:mod:`gentee.secure.crash`), and finds names for the addresses. All
integers are plain, addresses those of the TA. Keys:

- ``arch``; ``doing``: function of the entry point, session and command.
- ``panic``: the code, or null; ``fault``: ``[name of a FaultKind, address or null]``, or null; one
  of them is there. ``detail``: text, mostly empty.
- ``registers``: by name.
- ``regions``: ``[start, end, PROT_*, name, number of a module or -1]``, ascending; of many those
  near to what matters.
- ``modules``: ``[UUID, load address, size, build id, checksum of the code]``, the TA first.
- ``frames``: ``[address, EXACT or CALL or LINK]``, the innermost first (:mod:`gentee.ta.unwind`);
  ``omitted``: how many frames there were before the last LAST_FRAMES of these.
"""

from json import dumps
from struct import Struct

from gentee.abi.elf_identity import build_id, code_checksum
from gentee.abi.ta_channel import REPORT_MAX
from gentee.errors import TaPanic
from gentee.ta.engine.base import AARCH64, Fault
from gentee.ta.engine.space import AddressSpace, BadAddress, Region
from gentee.ta.loader.link import Loader
from gentee.ta.unwind import CALL, EXACT, backtrace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from gentee.ta.engine.base import Engine

    class Crashed(Protocol):
        """What a report needs of a TA: a UserTa, or one in a test."""

        @property
        def engine(self) -> Engine: ...
        @property
        def space(self) -> AddressSpace: ...
        @property
        def loader(self) -> Loader: ...
        @property
        def panic_registers(self) -> int: ...
        @property
        def doing(self) -> tuple[int, int, int]: ...


MAX_REGIONS = 24
FIRST_FRAMES = 48
LAST_FRAMES = 16
MAX_DETAIL = 200  # characters

# What _utee_panic() pushes before its system call: core/arch/arm/kernel/arch_scall.c
_PANIC_A64 = Struct("<2Q")  # x29, x30
_PANIC_A32 = Struct("<14I")  # pc, r0 to r11, lr


def crash_report(ta: "Crashed", cause: Fault | TaPanic) -> bytes:
    """The report, without a newline, at most REPORT_MAX bytes."""
    engine, space = ta.engine, ta.space
    panic = fault = None
    first = EXACT
    if isinstance(cause, TaPanic):
        panic = cause.code
        registers = engine.registers()
        points, first = [], CALL
        unwound = _panic_registers(space, engine.arch, ta.panic_registers)
        if unwound is None:  # after the system call, so in the function that made it
            unwound = registers
        elif engine.arch == AARCH64:
            registers = {**registers, "x29": unwound["x29"], "pc": unwound["pc"]}
        else:
            registers, first = unwound, EXACT
    else:
        fault = [cause.kind.name, cause.address]
        unwound = registers = cause.registers
        points = [] if cause.address is None else [cause.address]
    modules = ta.loader.modules
    frames = backtrace(space, modules, engine.arch, unwound, first)
    omitted = max(0, len(frames) - FIRST_FRAMES - LAST_FRAMES)
    if omitted:
        frames[FIRST_FRAMES:-LAST_FRAMES] = []
    regions = _regions(space, [*points, registers["sp"], registers["pc"]])
    owners = {id(region): n for n, module in enumerate(modules) for region in module.regions}
    report = {
        "arch": engine.arch,
        "doing": ta.doing,
        "panic": panic,
        "fault": fault,
        "detail": cause.detail[:MAX_DETAIL],
        "registers": registers,
        "regions": [
            (region.address, region.end, region.prot, region.name, owners.get(id(region), -1))
            for region in regions
        ],
        "modules": [
            (
                module.uuid.hex(),
                module.load_addr,
                module.image.span,
                build_id(module.image.data).hex(),
                code_checksum(module.image.data),
            )
            for module in modules
        ],
        "frames": frames,
        "omitted": omitted,
    }
    data = dumps(report, separators=(",", ":")).encode()
    if len(data) > REPORT_MAX:
        raise ValueError(f"a crash report of {len(data)} bytes")
    return data


def _panic_registers(space: AddressSpace, arch: str, address: int) -> dict[str, int] | None:
    """The registers that a TA saved before it panicked; None where there are none."""
    layout = _PANIC_A64 if arch == AARCH64 else _PANIC_A32
    try:
        values = layout.unpack(space.read(address, layout.size))
    except BadAddress:
        return None
    if arch == AARCH64:
        return {"x29": values[0], "pc": values[1] & (1 << 39) - 1}
    names = ("pc", *(f"r{n}" for n in range(12)), "lr")
    return {**dict(zip(names, values, strict=True)), "sp": address, "r12": 0}


def _regions(space: AddressSpace, points: list[int]) -> list[Region]:
    """Those that are near to any of the addresses, ascending."""
    regions = list(space)
    if len(regions) <= MAX_REGIONS:
        return regions

    def distance(region: Region) -> int:
        return min(max(region.address - point, point - region.end + 1, 0) for point in points)

    near = sorted(regions, key=distance)[:MAX_REGIONS]
    return sorted(near, key=lambda region: region.address)
