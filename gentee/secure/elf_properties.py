# SPDX-License-Identifier: BSD-2-Clause
"""The properties that a TA was built with, as far as its ELF file shows them.

``ta_props`` and ``ta_num_props`` of optee_os lib/libutee/include/user_ta_header.h are for libutee
inside the TA: nobody else needs them, and a stripped file does not say where they are.
"""

from base64 import b64decode
from struct import Struct

from gentee.abi import optee_ta as ta
from gentee.secure.elf_file import ElfFile, bad_format
from gentee.secure.elf_service import native_uuid

# struct user_ta_property: name type value, as a 32-bit and as a 64-bit TA has it.
_PROPERTY32 = Struct("<III")
_PROPERTY64 = Struct("<QI4xQ")
_MAX_PROPERTIES = 256

_TYPES = {
    ta.USER_TA_PROP_TYPE_BOOL: "bool",
    ta.USER_TA_PROP_TYPE_U32: "u32",
    ta.USER_TA_PROP_TYPE_UUID: "uuid",
    ta.USER_TA_PROP_TYPE_IDENTITY: "identity",
    ta.USER_TA_PROP_TYPE_STRING: "string",
    ta.USER_TA_PROP_TYPE_BINARY_BLOCK: "binary",
    ta.USER_TA_PROP_TYPE_U64: "u64",
}
_SIZES = {
    ta.USER_TA_PROP_TYPE_BOOL: 1,
    ta.USER_TA_PROP_TYPE_U32: 4,
    ta.USER_TA_PROP_TYPE_U64: 8,
    ta.USER_TA_PROP_TYPE_UUID: ta.TEE_UUID.size,
    ta.USER_TA_PROP_TYPE_IDENTITY: ta.TEE_IDENTITY.size,
}


class Property:
    """A property of a TA. ``value`` is what people read; None where the file does not say it."""

    __slots__ = ("name", "type", "value")

    def __init__(self, name: str, type: str, value: str | int | bool | None) -> None:
        self.name = name
        self.type = type
        self.value = value


def properties(file: ElfFile) -> list[Property] | None:
    """The properties; None where the file does not say where they are.

    :raises TaImageError: they are not where it says.
    """
    symbols = file.any_symbols(b"ta_props", b"ta_num_props")
    if len(symbols) != 2:
        return None
    layout = _PROPERTY32 if file.is_32bit else _PROPERTY64
    word = 4 if file.is_32bit else 8
    count = file.read(symbols[b"ta_num_props"].value, word)
    number = int.from_bytes(count or b"", "little")
    start = symbols[b"ta_props"].value
    table = file.read(start, number * layout.size) if number <= _MAX_PROPERTIES else None
    if count is None or table is None:
        raise bad_format("ta_props and ta_num_props are not in the file")
    pointers = file.pointers(start, len(table))
    found = []
    for index, (_name, type, _value) in enumerate(layout.iter_unpack(table)):
        at = start + index * layout.size
        name = file.text(pointers.get(at, -1))
        value = pointers.get(at + layout.size - word, -1)
        found.append(
            Property(
                (name or b"?").decode("utf-8", "replace"),
                _TYPES.get(type, str(type)),
                _value_of(file, type, value),
            )
        )
    return found


def _value_of(file: ElfFile, type: int, vaddr: int) -> str | int | bool | None:
    if type in (ta.USER_TA_PROP_TYPE_STRING, ta.USER_TA_PROP_TYPE_BINARY_BLOCK):
        text = file.text(vaddr)
        if text is None:
            return None
        if type == ta.USER_TA_PROP_TYPE_STRING:
            return text.decode("utf-8", "replace")
        try:
            return b64decode(text).hex()
        except ValueError:
            return None
    data = file.read(vaddr, _SIZES.get(type, 0))
    if not data:
        return None
    if type == ta.USER_TA_PROP_TYPE_BOOL:
        return data != b"\0"
    if type == ta.USER_TA_PROP_TYPE_UUID:
        return native_uuid(data)
    if type == ta.USER_TA_PROP_TYPE_IDENTITY:
        return f"{int.from_bytes(data[:4], 'little'):08x}:{native_uuid(data[4:])}"
    return int.from_bytes(data, "little")
