# SPDX-License-Identifier: BSD-2-Clause
"""What tells one build of an ELF file from another, in stripped and unstripped files alike.

Reads whatever it is given: what does not hold together has no build id and no code.
"""

from binascii import crc32
from struct import error as StructError

from gentee.abi import elf

SHT_NOTE = 7
NT_GNU_BUILD_ID = 3  # of notes named "GNU"

_MAX_HEADERS = 4096
_MAX_NOTES = 1 << 16  # bytes of one section
_MAX_BUILD_ID = 64  # bytes


def _headers(data: bytes) -> tuple[bool, list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Whether it is a 32-bit file, its program headers and its section headers, as in the file."""
    if len(data) < elf.Elf64_Ehdr.size or data[:4] != elf.ELFMAG:
        return False, [], []
    is_32bit = data[elf.EI_CLASS] == elf.ELFCLASS32
    fields = (elf.Elf32_Ehdr if is_32bit else elf.Elf64_Ehdr).unpack_from(data)
    _ident, _type, _machine, _version, _entry, phoff, shoff = fields[:7]
    phnum, shnum = fields[10], fields[12]
    found = []
    for offset, count, layout in (
        (phoff, phnum, elf.Elf32_Phdr if is_32bit else elf.Elf64_Phdr),
        (shoff, shnum, elf.Elf32_Shdr if is_32bit else elf.Elf64_Shdr),
    ):
        headers: list[tuple[int, ...]] = []
        try:
            for index in range(min(count, _MAX_HEADERS)):
                headers.append(layout.unpack_from(data, offset + index * layout.size))
        except (StructError, OverflowError):  # beyond the end
            headers = []
        found.append(headers)
    return is_32bit, found[0], found[1]


def machine(data: bytes) -> int:
    """e_machine, or 0 for what is no little-endian ELF file."""
    if len(data) < elf.Elf64_Ehdr.size or data[:4] != elf.ELFMAG:
        return 0
    if data[elf.EI_DATA] != elf.ELFDATA2LSB:
        return 0
    return int.from_bytes(data[18:20], "little")


def build_id(data: bytes) -> bytes:
    """What the linker's --build-id put into the file; empty if there is none.

    By section headers: a TA's linker script gives notes no program header.
    """
    _is_32bit, _programs, sections = _headers(data)
    for section in sections:
        _name, type, _flags, _addr, offset, size = section[:6]
        if type != SHT_NOTE or size > _MAX_NOTES:
            continue
        notes = data[offset : offset + size]
        position = 0
        while position + elf.ELF_NOTE.size <= len(notes):
            name_size, desc_size, kind = elf.ELF_NOTE.unpack_from(notes, position)
            position += elf.ELF_NOTE.size
            name = notes[position : position + name_size]
            position += name_size + 3 & -4
            desc = notes[position : position + desc_size]
            position += desc_size + 3 & -4
            if kind == NT_GNU_BUILD_ID and name == elf.ELF_NOTE_GNU and len(desc) == desc_size:
                return desc[:_MAX_BUILD_ID]
    return b""


def code_checksum(data: bytes) -> int:
    """CRC-32 of the file's first executable segment, 0 if there is none.

    Stripping changes the ELF header, which is in the first segment of a library: it is left out.
    """
    is_32bit, programs, _sections = _headers(data)
    for program in programs:
        if is_32bit:
            type, offset, _vaddr, _paddr, size, _memsz, flags = program[:7]
        else:
            type, flags, offset, _vaddr, _paddr, size = program[:6]
        if type == elf.PT_LOAD and flags & elf.PF_X:
            header = (elf.Elf32_Ehdr if is_32bit else elf.Elf64_Ehdr).size
            return crc32(memoryview(data)[max(offset, header) : offset + size])
    return 0
