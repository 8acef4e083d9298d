# SPDX-License-Identifier: BSD-2-Clause
"""What of a file is mapped where: ldelf's ``adjust_segments`` and ``populate_segments``.

Most checks are assertions there: a file that fails one cannot be loaded by OP-TEE either, and its
client gets TEE_ERROR_GENERIC. So here.
"""

from gentee.abi import elf, gp
from gentee.abi.optee_ta import SMALL_PAGE_SIZE
from gentee.errors import TaImageError

_MASK = SMALL_PAGE_SIZE - 1


class Segment:
    """Memory of one kind, from ``vaddr`` on, of which ``filesz`` bytes come from the file.

    ``vaddr`` and ``offset`` (in the file) are whole pages; ``end`` is ``vaddr`` + ``memsz``.
    """

    __slots__ = ("end", "filesz", "flags", "memsz", "offset", "vaddr")

    def __init__(self, offset: int, vaddr: int, filesz: int, memsz: int, flags: int) -> None:
        self.offset = offset
        self.vaddr = vaddr
        self.filesz = filesz
        self.memsz = memsz
        self.flags = flags
        self.end = vaddr + memsz

    def __repr__(self) -> str:
        return f"<{self.vaddr:#x}-{self.end:#x} flags {self.flags} file {self.offset:#x}>"


class ProgramHeader:
    """A program header of either class."""

    __slots__ = ("align", "filesz", "flags", "memsz", "offset", "type", "vaddr")

    def __init__(
        self, type: int, flags: int, offset: int, vaddr: int, filesz: int, memsz: int, align: int
    ) -> None:
        self.type = type
        self.flags = flags
        self.offset = offset
        self.vaddr = vaddr
        self.filesz = filesz
        self.memsz = memsz
        self.align = align


def _require(condition: bool, detail: str) -> None:
    if not condition:
        raise TaImageError(detail, gp.TEE_ERROR_GENERIC)


def load_segments(
    headers: list[ProgramHeader], file_size: int, limit: int, is_main: bool
) -> list[Segment]:
    """The segments of a file in ascending order; raises TaImageError.

    :param limit: how many bytes all of them may span.
    """
    loads = [header for header in headers if header.type == elf.PT_LOAD]
    if not loads:
        raise TaImageError("no loadable segments", gp.TEE_ERROR_BAD_FORMAT)
    previous = None
    for load in loads:
        if load.memsz < load.filesz:
            raise TaImageError("a segment is smaller than its data", gp.TEE_ERROR_BAD_FORMAT)
        _require(load.align >= SMALL_PAGE_SIZE, "a segment is aligned to less than a page")
        _require(load.align == loads[0].align, "segments differ in alignment")
        _require(not load.align & (load.align - 1), "an alignment is no power of two")
        _require(load.offset & _MASK == load.vaddr & _MASK, "offset and address do not match")
        if load.vaddr + load.memsz > limit:
            raise TaImageError(f"segments need more than {limit} bytes", gp.TEE_ERROR_OUT_OF_MEMORY)
        if load.offset + load.filesz > file_size:
            raise TaImageError("a segment is beyond the end", gp.TEE_ERROR_BAD_FORMAT)
        if not load.memsz:
            raise TaImageError("an empty segment", gp.TEE_ERROR_BAD_FORMAT)
        if previous is not None:
            _require(load.vaddr >= previous.vaddr + previous.memsz, "segments overlap or descend")
            _require(
                load.offset >= previous.offset + previous.filesz,
                "segments overlap or descend in the file",
            )
        previous = load
    _check_first(loads[0], is_main)
    return _check_protections(_merge(loads))


def _check_first(first: ProgramHeader, is_main: bool) -> None:
    # ldelf takes where the first segment ends up for the load address.
    _require(first.vaddr == 0, "the first segment is not at address 0")
    if is_main:
        # Its first page is mapped apart, for the program headers.
        _require(first.offset >= SMALL_PAGE_SIZE, "the ELF header of a TA is in a segment")
    else:
        _require(first.offset == 0, "the ELF header of a library is in no segment")


def _merge(loads: list[ProgramHeader]) -> list[Segment]:
    first = loads[0]
    segments = [Segment(first.offset, 0, first.filesz, first.memsz, first.flags)]
    mask = first.align - 1
    for load in loads[1:]:
        previous = segments[-1]
        low = load.vaddr & ~_MASK
        if low < previous.end:
            # Both are on one page, which gets the rights of both.
            _require(load.vaddr & mask == load.offset & mask, "a shared page does not match")
            _require(previous.memsz == previous.filesz, "a shared page has data after zeros")
            _require(
                load.offset - previous.offset == load.vaddr - previous.vaddr,
                "a shared page is not shared in the file",
            )
            segments[-1] = Segment(
                previous.offset,
                previous.vaddr,
                load.vaddr + load.filesz - previous.vaddr,
                load.vaddr + load.memsz - previous.vaddr,
                previous.flags | load.flags,
            )
            continue
        if load.offset & mask and load.offset & ~_MASK < previous.offset + previous.filesz:
            _require(bool(load.flags & elf.PF_W), "two read-only segments share a page of the file")
        skip = load.vaddr - low
        segments.append(
            Segment(load.offset - skip, low, load.filesz + skip, load.memsz + skip, load.flags)
        )
    return segments


def _check_protections(segments: list[Segment]) -> list[Segment]:
    for segment in segments:
        if not segment.flags & elf.PF_R:
            raise TaImageError("a segment is not readable", gp.TEE_ERROR_NOT_SUPPORTED)
        if not segment.flags & elf.PF_W and segment.filesz != segment.memsz:
            raise TaImageError("a read-only segment has zeros", gp.TEE_ERROR_BAD_FORMAT)
    return segments
