# SPDX-License-Identifier: BSD-2-Clause
"""What ``gentee ta inspect`` says about an ELF file inside an image."""

from gentee.abi import elf
from gentee.abi import optee_ta as ta
from gentee.errors import TaImageError
from gentee.secure.elf_file import ElfFile
from gentee.secure.elf_properties import properties
from gentee.secure.elf_service import check_head, ta_head
from gentee.secure.service import format_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Report = dict[str, Any]

_MAX_SHOWN = 64  # of segments, and of libraries; more are only counted

_SEGMENT_TYPES = {
    elf.PT_LOAD: "LOAD",
    elf.PT_DYNAMIC: "DYNAMIC",
    elf.PT_NOTE: "NOTE",
    elf.PT_TLS: "TLS",
    elf.PT_GNU_PROPERTY: "GNU_PROPERTY",
    elf.PT_ARM_EXIDX: "ARM_EXIDX",
    0x6474E551: "GNU_STACK",
    0x6474E552: "GNU_RELRO",
}


def _flag_names() -> dict[int, str]:
    return {
        value: name.removeprefix("TA_FLAG_")
        for name, value in vars(ta).items()
        if name.startswith("TA_FLAG_") and isinstance(value, int)
    }


def elf_report(data: bytes) -> "Report":
    """All about the file, as JSON has it; what cannot be read is a ``problem``."""
    found: Report = {}
    try:
        file = ElfFile(data)
        found["arch"] = file.arch
        found["entry"] = f"0x{file.entry:x}"
        found["segments_count"] = len(file.segments)
        found["segments"] = [
            {
                "type": _SEGMENT_TYPES.get(segment.type, f"0x{segment.type:x}"),
                "permissions": _permissions(segment.flags),
                "vaddr": f"0x{segment.vaddr:x}",
                "filesz": segment.filesz,
                "memsz": segment.memsz,
            }
            for segment in file.segments[:_MAX_SHOWN]
        ]
        found["stripped"] = file.is_stripped
        found["bss"] = _bss(file)
        found["heap"] = _heap(file)
        found["exports"] = sum(1 for _ in file.symbols())
        found["needed"] = [_text(name) for name in file.needed()[:_MAX_SHOWN]]
        found["soname"] = _text(file.soname())
        found["build_id"] = file.build_id().hex()
        _head(found, file)
        _properties(found, file)
    except TaImageError as error:
        found["problem"] = str(error)
    return found


def _head(found: "Report", file: ElfFile) -> None:
    head = ta_head(file)
    found["kind"] = "library" if head is None else "TA"
    if head is None:
        return
    names = [name for bit, name in _flag_names().items() if head.flags & bit]
    unknown = head.flags & ~sum(_flag_names())
    if unknown:
        names.append(f"0x{unknown:x}")
    found["ta_head"] = {
        "uuid": format_uuid(head.uuid),
        "stack_size": head.stack_size,
        "flags": head.flags,
        "flag_names": names,
        "legacy": head.is_legacy,
    }
    check_head(file, head)


def _properties(found: "Report", file: ElfFile) -> None:
    """A library has none of its own."""
    if "ta_head" not in found:
        return
    known = properties(file)
    if known is None:
        found["properties"] = None
        found["properties_problem"] = "the symbols ta_props and ta_num_props are not in the file"
        return
    found["properties"] = [
        {"name": each.name, "type": each.type, "value": each.value} for each in known
    ]


def _bss(file: ElfFile) -> int:
    """Bytes that are zero at the start; the heap of a TA is among them."""
    return sum(max(0, segment.memsz - segment.filesz) for segment in file.loaded())


def _heap(file: ElfFile) -> int | None:
    """Bytes of libutee's heap; None where the file does not say where it is."""
    heap = file.any_symbols(b"ta_heap").get(b"ta_heap")
    return heap.size if heap is not None else None


def _permissions(flags: int) -> str:
    letters = ((elf.PF_R, "R"), (elf.PF_W, "W"), (elf.PF_X, "X"))
    return "".join(letter if flags & bit else "-" for bit, letter in letters)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def elf_rows(found: "Report") -> list[tuple[str, object]]:
    """The same for people: names with values."""
    rows: list[tuple[str, object]] = []
    if "arch" in found:
        kind = found.get("kind", "ELF")
        rows.append((kind, f"{found['arch']}, entry {found['entry']}"))
    head = found.get("ta_head")
    if head is not None:
        names = ", ".join(head["flag_names"]) or "none"
        rows.append(("  uuid", head["uuid"]))
        rows.append(("  flags", f"0x{head['flags']:x} ({names})"))
        rows.append(("  stack", f"{head['stack_size']} bytes"))
        if head["legacy"]:
            rows.append(("  entry", "legacy: in ta_head"))
    if head is not None:
        heap = found["heap"]
        known = f"{heap} bytes" if heap is not None else "no symbol ta_heap in the file"
        rows.append(("  heap", f"{known}; {found['bss']} bytes of .bss, with the heap"))
    for segment in found.get("segments", ()):
        size = f"{segment['filesz']} bytes of the file, {segment['memsz']} in memory"
        rows.append(
            ("  segment", f"{segment['type']} {segment['permissions']} {segment['vaddr']}: {size}")
        )
    more = found.get("segments_count", 0) - len(found.get("segments", ()))
    if more:
        rows.append(("  segment", f"and {more} more"))
    rows += [("  needs", name) for name in found.get("needed", ())]
    if found.get("soname"):
        rows.append(("  soname", found["soname"]))
    if "exports" in found:
        rows.append(("  exports", f"{found['exports']} symbols"))
        rows.append(("  build ID", found.get("build_id") or "none"))
    if "properties_problem" in found:
        rows.append(("  properties", found["properties_problem"]))
    for each in found.get("properties") or ():
        value = each["value"] if each["value"] is not None else "cannot be read"
        rows.append(("  property", f"{each['name']}: {value} ({each['type']})"))
    if "problem" in found:
        rows.append(("  problem", found["problem"]))
    return rows
