# SPDX-License-Identifier: BSD-2-Clause
"""ELF, as far as a trusted application uses it: the System V gABI's <elf.h>, both classes.

Structures are named as in the header; the comment beside each one lists its fields. Arm's parts
come from "ELF for the Arm Architecture" and "ELF for the Arm 64-bit Architecture" (aaelf32,
aaelf64). Everything is little-endian, since TAs are.
"""

from struct import Struct

EI_NIDENT = 16
EI_CLASS = 4
EI_DATA = 5
EI_VERSION = 6
EI_OSABI = 7
ELFMAG = b"\x7fELF"
ELFCLASS32 = 1
ELFCLASS64 = 2
ELFDATA2LSB = 1
EV_CURRENT = 1
ELFOSABI_NONE = 0
ELFOSABI_ARM = 97

ET_DYN = 3
EM_ARM = 40
EM_AARCH64 = 183

# e_flags of EM_ARM
EF_ARM_ABIMASK = 0xFF000000
EF_ARM_ABI_UNKNOWN = 0x00000000
EF_ARM_ABI_V5 = 0x05000000
EF_ARM_ABI_FLOAT_HARD = 0x00000400

# e_ident e_type e_machine e_version e_entry e_phoff e_shoff e_flags e_ehsize e_phentsize e_phnum
# e_shentsize e_shnum e_shstrndx
Elf32_Ehdr = Struct("<16sHHIIIIIHHHHHH")
Elf64_Ehdr = Struct("<16sHHIQQQIHHHHHH")

# The two classes order the fields of a program header differently.
Elf32_Phdr = Struct("<IIIIIIII")  # type offset vaddr paddr filesz memsz flags align
Elf64_Phdr = Struct("<IIQQQQQQ")  # type flags offset vaddr paddr filesz memsz align

PT_LOAD = 1
PT_DYNAMIC = 2
PT_NOTE = 4
PT_TLS = 7
PT_GNU_PROPERTY = 0x6474E553
PT_ARM_EXIDX = 0x70000001
PF_X = 1
PF_W = 2
PF_R = 4

# name type flags addr offset size link info addralign entsize
Elf32_Shdr = Struct("<IIIIIIIIII")
Elf64_Shdr = Struct("<IIQQQQIIQQ")

SHN_UNDEF = 0
SHN_XINDEX = 0xFFFF
SHT_SYMTAB = 2
SHT_RELA = 4
SHT_HASH = 5
SHT_NOTE = 7
SHT_NOBITS = 8
SHT_REL = 9
SHT_DYNSYM = 11
SHT_GNU_HASH = 0x6FFFFFF6

Elf32_Sym = Struct("<IIIBBH")  # name value size info other shndx
Elf64_Sym = Struct("<IBBHQQ")  # name info other shndx value size

STB_LOCAL = 0
STB_GLOBAL = 1
STB_WEAK = 2
STT_NOTYPE = 0
STT_OBJECT = 1
STT_FUNC = 2
STT_TLS = 6

Elf32_Rel = Struct("<II")  # offset info, info = symbol << 8 | type
Elf64_Rela = Struct("<QQq")  # offset info addend, info = symbol << 32 | type

Elf32_Dyn = Struct("<II")  # tag value
Elf64_Dyn = Struct("<QQ")

DT_NULL = 0
DT_NEEDED = 1
DT_STRTAB = 5
DT_STRSZ = 10
DT_SONAME = 14
DT_INIT_ARRAY = 25
DT_FINI_ARRAY = 26
DT_INIT_ARRAYSZ = 27
DT_FINI_ARRAYSZ = 28

# Dynamic relocations: aaelf32 §5.6.1, aaelf64 §5.7.14
R_ARM_NONE = 0
R_ARM_ABS32 = 2
R_ARM_REL32 = 3
R_ARM_TLS_DTPMOD32 = 17
R_ARM_TLS_DTPOFF32 = 18
R_ARM_GLOB_DAT = 21
R_ARM_JUMP_SLOT = 22
R_ARM_RELATIVE = 23
R_AARCH64_NONE = 0
R_AARCH64_ABS64 = 257
R_AARCH64_GLOB_DAT = 1025
R_AARCH64_JUMP_SLOT = 1026
R_AARCH64_RELATIVE = 1027
R_AARCH64_TLS_TPREL = 1030
R_AARCH64_TLSDESC = 1031

# .note.gnu.property: the x86-64 and AArch64 psABI
ELF_NOTE_GNU = b"GNU\0"
NT_GNU_PROPERTY_TYPE_0 = 5
NT_GNU_BUILD_ID = 3
GNU_PROPERTY_AARCH64_FEATURE_1_AND = 0xC0000000
GNU_PROPERTY_AARCH64_FEATURE_1_BTI = 1 << 0
ELF_NOTE = Struct("<III")  # namesz descsz type
ELF_PROPERTY = Struct("<II")  # type datasz


def elf_hash(name: bytes) -> int:
    """The hash of DT_HASH: gABI, "Hash Table"."""
    h = 0
    for byte in name:
        h = (h << 4) + byte
        g = h & 0xF0000000
        h = (h ^ (g >> 24)) & ~g & 0xFFFFFFFF
    return h


def gnu_hash(name: bytes) -> int:
    """The hash of DT_GNU_HASH."""
    h = 5381
    for byte in name:
        h = (h * 33 + byte) & 0xFFFFFFFF
    return h
