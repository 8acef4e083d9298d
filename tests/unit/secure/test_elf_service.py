# SPDX-License-Identifier: BSD-2-Clause
"""TAs and libraries by their ELF files: what ta_head says, and files that are none."""

import struct
import time
from typing import Any

import pytest

from gentee.abi import elf, gp
from gentee.abi import optee_ta as ta
from gentee.errors import TaImageError
from gentee.secure import elf_service
from gentee.secure.elf_file import ElfFile
from gentee.secure.elf_properties import Property, properties
from gentee.secure.elf_service import describe_elf, ta_head
from gentee.secure.opening import described_by
from gentee.ta.loader.image import parse_image
from tests.elfwriter import CODE, DATA, ElfWriter, Phdr, Rel, Shdr, Sym
from tests.signing import UUID, UUID_BYTES

ARCHES = ("aarch64", "arm")
HEAD_UUID = bytes.fromhex("00000001000200036162636465666768")  # what ElfWriter writes

arches = pytest.mark.parametrize("arch", ARCHES)


def refused(data: bytes) -> str:
    with pytest.raises(TaImageError) as caught:
        describe_elf(data, UUID_BYTES)
    assert caught.value.code == gp.TEE_ERROR_BAD_FORMAT
    return str(caught.value)


@arches
def test_a_ta(arch: str) -> None:
    service = describe_elf(ElfWriter(arch).build(), UUID_BYTES)
    assert (service.uuid, service.name, service.arch) == (UUID_BYTES, UUID[:8], arch)
    assert (service.is_elf, service.is_library, service.ta_flags) == (True, False, 0)
    assert (service.single_instance, service.multi_session, service.keep_alive) == (False,) * 3
    assert service.properties == {}


SINGLE, MULTI = ta.TA_FLAG_SINGLE_INSTANCE, ta.TA_FLAG_MULTI_SESSION
KEEP, CRASHED = ta.TA_FLAG_INSTANCE_KEEP_ALIVE, ta.TA_FLAG_INSTANCE_KEEP_CRASHED


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (0, (False, False, False, False)),
        (SINGLE, (True, False, False, False)),
        (SINGLE | MULTI, (True, True, False, False)),
        (SINGLE | KEEP, (True, False, True, False)),
        (SINGLE | MULTI | KEEP, (True, True, True, False)),
        (SINGLE | KEEP | CRASHED, (True, False, True, True)),
        (SINGLE | CRASHED, (True, False, False, False)),
        (MULTI | KEEP | CRASHED, (False, False, False, False)),  # without SINGLE_INSTANCE: nothing
        (ta.TA_FLAGS_MASK & ~ta.TA_FLAG_CONCURRENT, (True, True, True, True)),
    ],
)
@arches
def test_flags(arch: str, flags: int, wanted: tuple[bool, ...]) -> None:
    service = describe_elf(ElfWriter(arch, head={"flags": flags}).build(), UUID_BYTES)
    assert service.ta_flags == flags
    found = service.single_instance, service.multi_session, service.keep_alive
    assert (*found, service.keep_crashed) == wanted


@arches
def test_the_head_is_where_the_symbol_says(arch: str) -> None:
    head = ta.TA_HEAD.pack(7, 8, 9, b"elsewher", 8192, SINGLE, ta.DEPR_ENTRY_NONE)
    writer = ElfWriter(arch, patches={CODE + 64: head})
    writer.symbols = [Sym("other", 0), Sym("ta_head", CODE + 64)]
    found = ta_head(ElfFile(writer.build()))
    assert found is not None
    assert (found.stack_size, found.flags, found.is_legacy) == (8192, SINGLE, False)
    assert found.uuid == bytes.fromhex("0000000700080009") + b"elsewher"
    # Without it, where the first segment begins.
    writer.symbols = [Sym("ta_head", CODE + 64, shndx=elf.SHN_UNDEF), Sym("x", 0)]
    found = ta_head(ElfFile(writer.build()))
    assert found is not None
    assert (found.uuid, found.stack_size) == (HEAD_UUID, 4096)
    # As the loader has it.
    assert parse_image(writer.build()).head == (*_as_loader(found), 0)


def _as_loader(head: elf_service.TaHead) -> tuple[Any, ...]:
    return head.uuid, head.stack_size, head.flags, head.depr_entry


@arches
def test_a_legacy_ta(arch: str) -> None:
    found = ta_head(ElfFile(ElfWriter(arch, head={"depr_entry": CODE}).build()))
    assert found is not None
    assert found.is_legacy
    assert found.depr_entry == CODE


@arches
def test_a_library(arch: str) -> None:
    data = ElfWriter(arch, is_main=False, needed=[UUID]).build()
    service = describe_elf(data, UUID_BYTES)
    assert (service.is_elf, service.is_library, service.arch) == (True, True, arch)
    assert ElfFile(data).needed() == [UUID.encode()]
    # It may ask for the program's ta_head, and has none for that.
    asks = ElfWriter(arch, is_main=False, symbols=[Sym("ta_head", 0, shndx=elf.SHN_UNDEF)])
    assert describe_elf(asks.build(), UUID_BYTES).is_library


@arches
@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"head": {"stack_size": 0}}, "stack_size cannot be 0"),
        ({"head": {"stack_size": 4097}}, "stack_size cannot be 4097"),
        ({"head": {"flags": ta.TA_FLAG_CONCURRENT}}, "flags has 0x100"),
        ({"head": {"flags": 1 << 14}}, "flags has 0x4000"),
        ({"head": {"flags": 0xFFFF_FFFF}}, "flags has 0xffffc100"),
        ({"header": {"machine": 62}}, "another machine (62)"),
        ({"header": {"machine": 243}}, "another machine (243)"),
        ({"header": {"type": 2}}, "not a shared object"),
        ({"header": {"type": 1}}, "not a shared object"),
        ({"header": {"phentsize": 1}}, "program headers of an unknown size"),
        ({"header": {"shentsize": 1}}, "section headers of an unknown size"),
        ({"header": {"phnum": 0xFFFF}}, "program headers"),
        ({"header": {"shnum": 0xFFFF}}, "section headers"),
        ({"header": {"phoff": 0xFFFF_FFF0}}, "program headers beyond the end"),
        ({"header": {"shoff": 0xFFFF_FFF0}}, "section headers beyond the end"),
        ({"header": {"phnum": 0}}, "no ta_head"),
        ({"ident": {elf.EI_CLASS: 3}}, "neither of 32 nor of 64 bits"),
        ({"ident": {elf.EI_DATA: 2}}, "not little-endian"),
        ({"ident": {0: 0}}, "not an ELF file"),
    ],
)
def test_a_file_that_is_none(arch: str, changed: dict[str, Any], complaint: str) -> None:
    assert complaint in refused(ElfWriter(arch, **changed).build())


@arches
def test_the_class_of_the_other(arch: str) -> None:
    machine = elf.EM_AARCH64 if arch == "arm" else elf.EM_ARM
    assert "another machine" in refused(ElfWriter(arch, header={"machine": machine}).build())


@arches
def test_a_symbol_out_of_the_file(arch: str) -> None:
    for value in (0x10_0000, 0xFFFF_FFFF, DATA - 16, DATA + 0x1FF0):
        writer = ElfWriter(arch)
        writer.symbols = [Sym("ta_head", value)]
        assert "no ta_head" in refused(writer.build())
    writer = ElfWriter(arch)
    writer.shdrs = [Shdr(0, 0, 0), Shdr(elf.SHT_DYNSYM, 0, 0x100, 9)]
    assert "no table of names" in refused(writer.build())


def test_cut_at_every_length() -> None:
    for arch in ARCHES:
        data = ElfWriter(arch).build()
        for size in [*range(200), *range(200, len(data), 97)]:
            refused(data[:size])


@arches
def test_work_is_bounded(arch: str) -> None:
    """Many headers over the same bytes, which is all that a large file has."""
    many = ElfWriter(arch, more_shdrs=[Shdr(elf.SHT_NOTE, 0, 1 << 22)] * 4000).build()
    file = ElfFile(many + bytes(4 << 20))
    assert file.build_id() == b""
    kind = elf.SHT_REL if arch == "arm" else elf.SHT_RELA
    many = ElfWriter(arch, more_shdrs=[Shdr(kind, 0, 1 << 20)] * 4000).build()
    with pytest.raises(TaImageError, match="more relocations"):
        ElfFile(many + bytes(4 << 20)).pointers(1 << 28, 8)
    with pytest.raises(TaImageError, match="5005 section headers"):
        ElfFile(ElfWriter(arch, more_shdrs=[Shdr(kind, 0, 1 << 20)] * 5000).build())


# What the state keeps of an installed one


@arches
@pytest.mark.parametrize("is_main", [True, False])
def test_a_description_both_ways(arch: str, is_main: bool) -> None:
    flags = SINGLE | MULTI | KEEP | CRASHED
    data = ElfWriter(arch, is_main=is_main, head={"flags": flags}).build()
    service = describe_elf(data, UUID_BYTES)
    again = described_by(elf_service.manifest_of(service))
    for name in ("uuid", "name", "arch", "is_elf", "is_library", "ta_flags", "keep_crashed"):
        assert getattr(again, name) == getattr(service, name)
    for name in ("single_instance", "multi_session", "keep_alive"):
        assert getattr(again, name) is is_main


@pytest.mark.parametrize(
    "manifest",
    [
        '{"format": "elf"}',
        f'{{"format": "elf", "uuid": "x", "arch": "arm", "ta_flags": 0, "name": "{UUID}"}}',
        f'{{"format": "elf", "uuid": "{UUID}", "arch": "x86", "ta_flags": 0}}',
        f'{{"format": "elf", "uuid": "{UUID}", "arch": "arm", "ta_flags": -1}}',
        f'{{"format": "elf", "uuid": "{UUID}", "arch": "arm", "ta_flags": 16384}}',
        f'{{"format": "elf", "uuid": "{UUID}", "arch": "arm", "ta_flags": "0"}}',
        '{"format": "elf", "format": "elf"}',
        "[" * 100_000,
        "no JSON",
    ],
)
def test_a_description_that_is_none(manifest: str) -> None:
    with pytest.raises(TaImageError):
        described_by(manifest)


# Notes and properties


@arches
def test_the_build_id(arch: str) -> None:
    note = struct.pack("<III", 4, 5, 1) + b"GNU\0" + b"hello\0\0\0"
    note += struct.pack("<III", 4, 20, 3) + b"GNU\0" + bytes(range(20))
    writer = ElfWriter(arch, patches={CODE: note})
    assert ElfFile(writer.build()).build_id() == b""
    writer.more_shdrs = [Shdr(elf.SHT_NOTE, CODE, len(note))]
    assert ElfFile(writer.build()).build_id() == bytes(range(20))
    writer = ElfWriter(arch, patches={CODE: note})
    writer.more_phdrs = [
        Phdr(elf.PT_NOTE, 4, writer.base + CODE, CODE, len(note), len(note), 4),
    ]
    assert ElfFile(writer.build()).build_id() == bytes(range(20))


PROPERTIES = DATA + 0x100
VALUES = CODE + 0x80


def with_properties(arch: str, count: int | None = None, **changed: Any) -> ElfFile:
    """A TA with one property of each type, as a linker lays them out."""
    is_32bit = arch == "arm"
    word = 4 if is_32bit else 8
    values = [
        (0, b"\x01"),
        (1, struct.pack("<I", 42)),
        (2, bytes.fromhex("0403020106050807") + b"abcdefgh"),
        (3, struct.pack("<I", 1) + bytes.fromhex("0403020106050807") + b"abcdefgh"),
        (4, b"some text\0"),
        (5, b"AP8=\0"),
        (6, struct.pack("<Q", 1 << 40)),
        (7, b"what is this"),
    ]
    patches, relocations, table = {}, [], b""
    at = VALUES
    kind = elf.R_ARM_RELATIVE if is_32bit else elf.R_AARCH64_RELATIVE
    for index, (type, value) in enumerate(values):
        name = f"property.{index}\0".encode()
        patches[at], patches[at + 32] = name, value
        entry = PROPERTIES + index * (12 if is_32bit else 24)
        if is_32bit:
            table += struct.pack("<III", at, type, at + 32)
        else:
            table += struct.pack("<QI4xQ", 0, type, 0)
        relocations += [Rel(kind, entry, 0, at), Rel(kind, entry + 2 * word, 0, at + 32)]
        at += 64
    patches[PROPERTIES] = table
    count = len(values) if count is None else count
    patches[PROPERTIES - 16] = count.to_bytes(word, "little")
    symbols = [Sym("ta_props", PROPERTIES), Sym("ta_num_props", PROPERTIES - 16)]
    writer = ElfWriter(arch, symbols=symbols, relocations=relocations, patches=patches, **changed)
    return ElfFile(writer.build())


@arches
def test_properties(arch: str) -> None:
    found = properties(with_properties(arch))
    assert found is not None
    assert [_shown(each) for each in found] == [
        ("property.0", "bool", True),
        ("property.1", "u32", 42),
        ("property.2", "uuid", "01020304-0506-0708-6162-636465666768"),
        ("property.3", "identity", "00000001:01020304-0506-0708-6162-636465666768"),
        ("property.4", "string", "some text"),
        ("property.5", "binary", "00ff"),
        ("property.6", "u64", 1 << 40),
        ("property.7", "7", None),
    ]


def _shown(found: Property) -> tuple[str, str, object]:
    return found.name, found.type, found.value


@arches
def test_properties_that_are_not_there(arch: str) -> None:
    assert properties(ElfFile(ElfWriter(arch).build())) is None
    for count in (257, 0xFFFF_FFFF):
        with pytest.raises(TaImageError, match="not in the file"):
            properties(with_properties(arch, count))
    assert properties(with_properties(arch, 0)) == []


def test_notes_over_each_other() -> None:
    """Many headers of the same notes, each as long as may be: work has an end all the same."""
    count, size = 4000, 64 << 10
    offset = elf.Elf64_Ehdr.size
    data = bytearray(offset + count * elf.Elf64_Phdr.size + size)
    ident = elf.ELFMAG + bytes([elf.ELFCLASS64, elf.ELFDATA2LSB, 1]) + bytes(9)
    elf.Elf64_Ehdr.pack_into(
        data, 0, ident, elf.ET_DYN, elf.EM_AARCH64, 1, 0, offset, 0, 0,
        elf.Elf64_Ehdr.size, elf.Elf64_Phdr.size, count, 0, 0, 0,
    )  # fmt: skip
    for _ in range(count):
        fields = (elf.PT_NOTE, 0, len(data) - size, 0, 0, size, size, 4)
        elf.Elf64_Phdr.pack_into(data, offset, *fields)
        offset += elf.Elf64_Phdr.size
    file = ElfFile(bytes(data))
    before = time.thread_time()
    assert file.build_id() == b""
    assert time.thread_time() - before < 0.5
