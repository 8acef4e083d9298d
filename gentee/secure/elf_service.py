# SPDX-License-Identifier: BSD-2-Clause
"""OP-TEE's TAs as services: what the ``ta_head`` of an ELF file says.

optee_os lib/libutee/include/user_ta_header.h; where and when it is read, ldelf/ta_elf.c. A file
without a ``ta_head`` is a library that TAs need.
"""

from gentee.abi import elf
from gentee.abi import optee_ta as ta
from gentee.abi.service_package import FORMAT_ELF
from gentee.secure.elf_file import ElfFile, bad_format
from gentee.secure.service import Service, format_uuid, parse_uuid

_ARCHES = ("aarch64", "arm")


class TaHead:
    """``struct ta_head``. ``uuid`` has the 16 bytes in the order in which a UUID is written."""

    __slots__ = ("depr_entry", "flags", "stack_size", "uuid")

    def __init__(self, data: bytes) -> None:
        *uuid, stack_size, flags, depr_entry = ta.TA_HEAD.unpack(data)
        self.uuid = _octets(*uuid)
        self.stack_size: int = stack_size
        self.flags: int = flags
        self.depr_entry: int = depr_entry

    @property
    def is_legacy(self) -> bool:
        """Built for an OP-TEE before 3.0: its entry point is in the head."""
        return self.depr_entry != ta.DEPR_ENTRY_NONE


def _octets(low: int, mid: int, high: int, node: bytes) -> bytes:
    return low.to_bytes(4, "big") + mid.to_bytes(2, "big") + high.to_bytes(2, "big") + node


def native_uuid(data: bytes) -> str:
    """The usual form of a ``TEE_UUID`` as it is in a TA's memory."""
    return format_uuid(_octets(*ta.TEE_UUID.unpack(data)))


def ta_head(file: ElfFile) -> TaHead | None:
    """The head of a TA; None for a library.

    It is where the dynamic symbol ``ta_head`` is, or, without one, at the start of the first
    segment, where a library has its ELF header.

    :raises TaImageError: it is neither.
    """
    symbol = file.symbol(b"ta_head")
    data = file.read(symbol.value if symbol is not None else 0, ta.TA_HEAD.size)
    if data is None:
        raise bad_format("no ta_head")
    if symbol is None and data.startswith(elf.ELFMAG):
        return None
    return TaHead(data)


def check_head(file: ElfFile, head: TaHead) -> None:
    """:raises TaImageError: a field that ta_elf_load_main() would not take."""
    if not head.stack_size or head.stack_size % (8 if file.is_32bit else 16):
        raise bad_format(f"ta_head.stack_size cannot be {head.stack_size}")
    wrong = head.flags & (~ta.TA_FLAGS_MASK | ta.TA_FLAG_CONCURRENT)
    if wrong:
        raise bad_format(f"ta_head.flags has 0x{wrong:x}, which no TA may have")


def describe_elf(data: bytes, uuid: bytes) -> Service:
    """The service, or the library, that the ELF file ``data`` is under the name ``uuid``.

    OP-TEE does not compare ``ta_head.uuid`` with it.

    :raises TaImageError: it is neither, TEE_ERROR_BAD_FORMAT.
    """
    file = ElfFile(data)
    head = ta_head(file)
    if head is not None:
        check_head(file, head)
    return _service(uuid, file.arch, head.flags if head is not None else None)


def _service(uuid: bytes, arch: str, flags: int | None) -> Service:
    """:param flags: ta_head.flags; None for a library."""
    text = format_uuid(uuid)
    service = Service("", "", {"uuid": text, "name": text.partition("-")[0]})
    service.is_elf = True
    service.is_library = flags is None
    service.arch = arch
    service.description = f"{'library of TAs' if flags is None else 'TA'} for {arch}"
    service.ta_flags = flags or 0
    # The others mean something together with the first only: core/kernel/tee_ta_manager.c.
    service.single_instance = bool(service.ta_flags & ta.TA_FLAG_SINGLE_INSTANCE)
    if service.single_instance:
        service.multi_session = bool(service.ta_flags & ta.TA_FLAG_MULTI_SESSION)
        service.keep_alive = bool(service.ta_flags & ta.TA_FLAG_INSTANCE_KEEP_ALIVE)
        service.keep_crashed = service.keep_alive and bool(
            service.ta_flags & ta.TA_FLAG_INSTANCE_KEEP_CRASHED
        )
    return service


def manifest_of(service: Service) -> str:
    """What the TEE's state keeps of an installed one, so that its file need not be read."""
    import json

    flags = None if service.is_library else service.ta_flags
    manifest = {
        "format": FORMAT_ELF,
        "uuid": format_uuid(service.uuid),
        "arch": service.arch,
        "ta_flags": flags,
    }
    return json.dumps(manifest) + "\n"


def described_by(manifest: "dict[str, object]") -> Service:
    """The service that :func:`manifest_of` described; TaImageError if it is none."""
    uuid, arch, flags = manifest.get("uuid"), manifest.get("arch"), manifest.get("ta_flags")
    if isinstance(uuid, str) and isinstance(arch, str) and arch in _ARCHES:
        try:
            if flags is None:
                return _service(parse_uuid(uuid), arch, None)
            if isinstance(flags, int) and 0 <= flags <= ta.TA_FLAGS_MASK:
                return _service(parse_uuid(uuid), arch, flags)
        except ValueError:
            pass
    raise bad_format("its description in the TEE's state is damaged")
