# SPDX-License-Identifier: BSD-2-Clause
"""A program of its own: names, files and lines for addresses in TAs, from unstripped ELF files.

It is started by :mod:`gentee.secure.symbols` with a request on standard input and answers on
standard output, both JSON. A file may be made to harm whoever reads it: it costs this process,
which has limits of time and memory, and nobody else. ELF and DWARF are read by pyelftools, C++ and
Rust names by LLVM's demangler (pycxxfilt).
"""

import mmap
import os
import stat
from bisect import bisect_right
from collections.abc import Iterator

from gentee.abi import elf
from gentee.abi.elf_identity import build_id, code_checksum, machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from elftools.dwarf.compileunit import CompileUnit
    from elftools.dwarf.die import DIE
    from elftools.dwarf.dwarfinfo import DWARFInfo

    # Function, file (empty if not known), line.
    Place = tuple[str, str, int]

CPU_SECONDS = 20
MEMORY = 2 << 30  # bytes of address space
MAX_NAME = 300  # characters
MAX_FILES = 2000  # in one folder that are looked at for a build id
MAX_INLINED = 16

_MACHINES = {"aarch64": elf.EM_AARCH64, "arm": elf.EM_ARM}
_SHT_SYMTAB = 2
_SHT_NOBITS = 8
_MANGLED = ("_Z", "_R")
_MAX_MANGLED = 4096  # characters: the demangler recurses, and has no limit of its own


def main() -> None:
    """Answer the request on standard input."""
    import json
    import sys

    _confine()
    request = json.loads(sys.stdin.buffer.read())
    sys.path += request["path"]
    answer = [read_module(request["arch"], request["dirs"], one) for one in request["modules"]]
    sys.stdout.buffer.write(json.dumps(answer).encode())


def _confine() -> None:
    """Give up what a reader does not need. pycxxfilt is native code: it may be made to do harm."""
    import resource
    import sys

    from gentee.linux import landlock
    from gentee.linux.libc import PR_SET_NO_NEW_PRIVS, prctl

    for limit, value in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (value, value))
    sys.dont_write_bytecode = True
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    version = landlock.abi_version()
    if version:
        ruleset = landlock.create_ruleset(version)
        access = landlock.ACCESS_FS_READ_FILE | landlock.ACCESS_FS_READ_DIR
        landlock.allow_beneath(ruleset, "/", access)
        landlock.restrict_self(ruleset)
        os.close(ruleset)


def read_module(arch: str, dirs: list[str], module: "dict[str, Any]") -> "dict[str, Any]":
    """What is known of the addresses of one file of a TA.

    :param module: ``uuid`` (text), ``build_id`` (hexadecimal digits), ``checksum``, ``addresses``:
        each an address in the file, and whether it is a return address.
    :return: ``file`` (its path, or empty), ``problem`` (why there is none, or empty), ``found``:
        for each address where its function starts (-1 if not known), and its places.
    """
    path, problem = find_file(arch, dirs, module["uuid"], module["build_id"], module["checksum"])
    if not path:
        return {"file": "", "problem": problem, "found": []}
    try:
        with open(path, "rb") as file:
            found = _Reader(file).read(module["addresses"])
    except Exception as error:  # pyelftools raises anything for what is damaged
        return {"file": "", "problem": f"{path}: {error or type(error).__name__}", "found": []}
    return {"file": path, "problem": "", "found": found}


# Which file.


def find_file(arch: str, dirs: list[str], uuid: str, build: str, checksum: int) -> tuple[str, str]:
    """The path of the unstripped file of a build; else empty, and why, where that may help."""
    problem = ""
    for path in _candidates(dirs, uuid, build):
        verdict = _examine(path, arch, build, checksum, named=True)
        if verdict is None:
            return path, ""
        problem = problem or (f"{path} {verdict}" if verdict else "")
    if build:
        for folder in dirs:
            for path in _files(folder):
                if _examine(path, arch, build, checksum, named=False) is None:
                    return path, ""
    return "", problem


def _candidates(dirs: list[str], uuid: str, build: str) -> Iterator[str]:
    """Paths that have the UUID or the build id in their name."""
    for folder in dirs:
        for name in (f"{uuid}.elf", f"{uuid}.debug", f"{uuid}.so", uuid):
            yield os.path.join(folder, name)
        inside = os.path.join(folder, uuid)
        yield from (path for path in _files(inside) if path.endswith((".elf", ".debug", ".so")))
        if len(build) > 2:  # as distributions and debuggers have it
            yield os.path.join(folder, ".build-id", build[:2], build[2:] + ".debug")


def _files(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry, _ in zip(entries, range(MAX_FILES), strict=False))
    except OSError:
        return []


def _examine(path: str, arch: str, build: str, checksum: int, named: bool) -> str | None:
    """None for the file that is wanted, else what is wrong with it, empty if that is no news.

    :param named: it has the right name, so a checksum is enough to know it by.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return ""
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as content:
            return _compare(content, arch, build, checksum, named)  # type: ignore[arg-type]
    except OSError as error:
        return error.strerror or ""
    finally:
        os.close(fd)


def _compare(data: bytes, arch: str, build: str, checksum: int, named: bool) -> str | None:
    if machine(data) != _MACHINES[arch]:
        return ""
    own = build_id(data).hex()
    if build and own:
        same = own == build
    else:
        same = named and code_checksum(data) == checksum
    if not same:
        return "is of another build"
    is_32bit = data[elf.EI_CLASS] == elf.ELFCLASS32
    layout = elf.Elf32_Shdr if is_32bit else elf.Elf64_Shdr
    fields = (elf.Elf32_Ehdr if is_32bit else elf.Elf64_Ehdr).unpack_from(data)
    shoff, count = fields[6], fields[12]
    for index in range(count):
        if shoff + (index + 1) * layout.size > len(data):
            break
        if layout.unpack_from(data, shoff + index * layout.size)[1] == _SHT_SYMTAB:
            return None
    return "has no symbols"


# What is in it.


class _Reader:
    def __init__(self, file: "Any") -> None:
        from elftools.elf.elffile import ELFFile

        self._elf = ELFFile(file)
        self._symbols = sorted(self._functions())
        self._starts = [symbol[0] for symbol in self._symbols]
        self._dwarf: DWARFInfo | None = None
        if self._elf.has_dwarf_info():
            self._dwarf = self._elf.get_dwarf_info(relocate_dwarf_sections=False)
        self._units: dict[int, CompileUnit] = {}
        self._rows: dict[int, list[tuple[int, int, str, int]]] = {}

    def read(self, addresses: list[tuple[int, bool]]) -> "list[tuple[int, list[Place]]]":
        """For each address the start of its function, and places, of inlined functions first."""
        found = []
        for address, is_return in addresses:
            # Where the call is: the next instruction may be of another line, or function.
            at = address - 1 if is_return else address
            start, name = self._function(at)
            places: list[Place] = []
            problem = None
            if self._dwarf is not None:
                try:
                    places = self._places(at, name)
                except Exception as error:  # a name is better than nothing
                    problem = error
            if not places and (name or problem):
                places = [(demangle(name) or "?", "", 0)]
            found.append((start, places))
        return found

    def _functions(self) -> Iterator[tuple[int, int, str]]:
        """Address, size and name of each function of the symbol table."""
        section = self._elf.get_section_by_name(".symtab")
        if section is None:
            return
        strings = self._elf.get_section(section["sh_link"]).data()
        layout = elf.Elf32_Sym if self._elf.elfclass == 32 else elf.Elf64_Sym
        data = section.data()
        for fields in layout.iter_unpack(data[: len(data) // layout.size * layout.size]):
            if self._elf.elfclass == 32:
                name, value, size, info, _other, shndx = fields
                value &= ~1  # Thumb
            else:
                name, info, _other, shndx, value, size = fields
            if info & 15 == elf.STT_FUNC and shndx != elf.SHN_UNDEF:
                end = strings.find(b"\0", name)
                yield value, size, strings[name:end].decode("utf-8", "replace")

    def _function(self, address: int) -> tuple[int, str]:
        index = bisect_right(self._starts, address) - 1
        if index >= 0:
            start, size, name = self._symbols[index]
            if not size or address < start + size:
                return start, name
        return -1, ""

    # DWARF.

    def _places(self, address: int, symbol: str) -> "list[Place]":
        dwarf = self._dwarf
        assert dwarf is not None
        unit = self._unit(address)
        if unit is None:
            return []
        file, line = self._line(unit, address)
        chain = self._chain(unit, address)
        places: list[Place] = []
        for die in reversed(chain):  # the innermost first
            is_inlined = die.tag == "DW_TAG_inlined_subroutine"
            # The symbol of a copy that the compiler made has an ending: .constprop.0
            use_symbol = not is_inlined and symbol.startswith(_MANGLED)
            name = demangle(symbol) if use_symbol else _name(die)
            places.append((name or demangle(symbol) or "?", file, line))
            if is_inlined:
                number = die.attributes.get("DW_AT_call_file")
                at = die.attributes.get("DW_AT_call_line")
                program = dwarf.line_program_for_CU(unit)
                file = ""
                if number is not None and program is not None:
                    file = _file_name(program, number.value)
                line = at.value if at is not None else 0
        if not places and (symbol or file):
            places.append((demangle(symbol) or "?", file, line))
        return places

    def _unit(self, address: int) -> "CompileUnit | None":
        dwarf = self._dwarf
        assert dwarf is not None
        aranges = dwarf.get_aranges()
        offset = None if aranges is None else aranges.cu_offset_at_addr(address)
        if offset is not None:
            return dwarf.get_CU_at(offset)
        for unit in dwarf.iter_CUs():
            if _covers(dwarf, unit, unit.get_top_DIE(), address):
                return unit
        return None

    def _line(self, unit: "CompileUnit", address: int) -> tuple[str, int]:
        rows = self._rows.get(unit.cu_offset)
        if rows is None:
            rows = self._rows[unit.cu_offset] = self._read_rows(unit)
        # Sequences may come in any order and may be many, rows of one are in order.
        for low, high, file, line in rows:
            if low <= address < high:
                return file, line
        return "", 0

    def _read_rows(self, unit: "CompileUnit") -> list[tuple[int, int, str, int]]:
        assert self._dwarf is not None
        program = self._dwarf.line_program_for_CU(unit)
        if program is None:
            return []
        names: dict[int, str] = {}
        rows = []
        previous = None
        for entry in program.get_entries():
            state = entry.state
            if state is None:
                continue
            if previous is not None and state.address > previous.address:
                number = previous.file
                if number not in names:
                    names[number] = _file_name(program, number)
                rows.append((previous.address, state.address, names[number], previous.line))
            previous = None if state.end_sequence else state
        return rows

    def _chain(self, unit: "CompileUnit", address: int) -> "list[DIE]":
        """The function at ``address`` and the functions that are inlined there, from outside."""
        assert self._dwarf is not None
        chain: list[DIE] = []
        level = list(unit.iter_DIE_children(unit.get_top_DIE()))
        while level:
            inner: list[DIE] = []
            for die in level:
                if die.tag == "DW_TAG_namespace" and not chain:
                    inner += unit.iter_DIE_children(die)
                    continue
                if die.tag not in _SCOPES or not _covers(self._dwarf, unit, die, address):
                    continue
                if die.tag != "DW_TAG_lexical_block":
                    chain.append(die)
                inner = list(unit.iter_DIE_children(die))
                break
            if len(chain) > MAX_INLINED:
                break
            level = inner
        return chain


_SCOPES = ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine", "DW_TAG_lexical_block")


def _covers(dwarf: "DWARFInfo", unit: "CompileUnit", die: "DIE", address: int) -> bool:
    """Whether the code of an entry has this address."""
    from elftools.dwarf.ranges import BaseAddressEntry

    attributes = die.attributes
    low = attributes.get("DW_AT_low_pc")
    high = attributes.get("DW_AT_high_pc")
    if low is not None and high is not None:
        end = high.value
        if high.form != "DW_FORM_addr" and not high.form.startswith("DW_FORM_addrx"):
            end += low.value
        return bool(low.value <= address < end)
    ranges = attributes.get("DW_AT_ranges")
    lists = dwarf.range_lists() if ranges is not None else None
    if ranges is None or lists is None:
        return False
    top = unit.get_top_DIE().attributes.get("DW_AT_low_pc")
    base = top.value if top is not None else 0
    for entry in lists.get_range_list_at_offset(ranges.value, unit):
        if isinstance(entry, BaseAddressEntry):
            base = entry.base_address
            continue
        offset = 0 if entry.is_absolute else base
        if offset + entry.begin_offset <= address < offset + entry.end_offset:
            return True
    return False


def _name(die: "DIE") -> str:
    """The name of a function, where it is declared if need be."""
    for _ in range(4):
        for key in ("DW_AT_linkage_name", "DW_AT_MIPS_linkage_name", "DW_AT_name"):
            attribute = die.attributes.get(key)
            if attribute is not None and isinstance(attribute.value, bytes):
                return demangle(attribute.value.decode("utf-8", "replace"))
        for key in ("DW_AT_abstract_origin", "DW_AT_specification"):
            if key in die.attributes:
                die = die.get_DIE_from_attribute(key)
                break
        else:
            break
    return ""


def _file_name(program: "Any", number: int) -> str:
    """The path of a file as the compiler was given it: before DWARF 5 both tables start at 1."""
    header = program.header
    files = header["file_entry"]
    dirs = header["include_directory"]
    start = 0 if header["version"] >= 5 else 1
    if not 0 <= number - start < len(files):
        return ""
    entry = files[number - start]
    name = entry.name.decode("utf-8", "replace")
    # Number 0 is the folder of the compilation.
    at = entry.dir_index
    if at and not name.startswith("/") and 0 <= at - start < len(dirs):
        name = os.path.join(dirs[at - start].decode("utf-8", "replace"), name)
    return _short(name)


def _short(text: str) -> str:
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 3] + "..."


def demangle(name: str) -> str:
    """The name as it is in the source; what is not mangled stays as it is."""
    if name.startswith(_MANGLED) and len(name) <= _MAX_MANGLED:
        import pycxxfilt

        try:
            name = pycxxfilt.demangle(name) or name
        except ValueError:
            pass
    return _short(name)
