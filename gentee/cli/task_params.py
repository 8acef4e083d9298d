# SPDX-License-Identifier: BSD-2-Clause
"""Parameters of ``gentee task``: from words of the command line, and as people see them after."""

from gentee.client import INOUT, INPUT, OUTPUT, Out, Parameter, TempRef, Value
from gentee.device.host import printable
from gentee.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_MEMORY = 256 << 20  # bytes of one parameter
_U32 = 0xFFFF_FFFF
_FORMS = "value:A,B  value-out  value-inout:A,B  in:TEXT  in:@FILE  in:hex:DIGITS  out:SIZE  none"


def parse_number(text: str, what: str, limit: int = _U32) -> int:
    """A number in decimal, or in hexadecimal behind 0x; UserError for anything else."""
    digits, base = (text[2:], 16) if text[:2].lower() == "0x" else (text, 10)
    allowed = "0123456789abcdef"[:base]
    if not digits or not set(digits.lower()) <= set(allowed) or int(digits, base) > limit:
        raise UserError(f"{what}: {text!r} is no number from 0 to {limit}", "such as 42 or 0x2a", 2)
    return int(digits, base)


def parse_param(word: str) -> Parameter | None:
    """The parameter that ``word`` describes; UserError where it describes none."""
    kind, colon, rest = word.partition(":")
    if kind in ("value", "value-inout") and colon:
        return _value(word, rest, INPUT if kind == "value" else INOUT)
    if kind in ("in", "inout") and colon:
        content = _content(word, rest)
        if kind == "in":
            return TempRef(content, INPUT)
        return TempRef(bytearray(content), INOUT)
    if kind == "out" and colon:
        return Out(parse_number(rest, word, MAX_MEMORY))
    if word == "value-out":
        return Value(direction=OUTPUT)
    if word == "none":
        return None
    raise UserError(f"parameter {word!r}: of no form that is known", f"they are: {_FORMS}", 2)


def _value(word: str, rest: str, direction: int) -> Value:
    numbers = rest.split(",")
    if len(numbers) > 2:
        raise UserError(f"parameter {word!r}: a value is two numbers", "such as value:1,2", 2)
    a, b = [*(parse_number(number, word) for number in numbers), 0][:2]
    return Value(a, b, direction)


def _content(word: str, rest: str) -> bytes:
    if rest.startswith("@"):
        try:
            with open(rest[1:], "rb") as file:
                content = file.read(MAX_MEMORY + 1)
        except OSError as error:
            raise UserError(
                f"{rest[1:]}: {error.strerror}", "in:hex:40... sends text that starts with @"
            ) from error
        if len(content) > MAX_MEMORY:
            raise UserError(f"{rest[1:]}: larger than {MAX_MEMORY >> 20} MiB")
        return content
    if rest.startswith("hex:"):
        try:
            return bytes.fromhex(rest[4:])
        except ValueError as error:
            raise UserError(
                f"parameter {word!r}: not hexadecimal digits", "two for each byte", 2
            ) from error
    return rest.encode("utf-8", "surrogateescape")


def output_bytes(param: Parameter | None) -> bytes | None:
    """The output of a memory reference; None for what has none."""
    if isinstance(param, Out):
        return param.data
    if isinstance(param, TempRef) and param.direction & OUTPUT:
        return bytes(param.data)
    return None


def is_short(param: Parameter | None) -> bool:
    """Whether the output did not fit: ``out_size`` is the size that would do."""
    return isinstance(param, Out | TempRef) and param.out_size > param.size


def as_json(param: Parameter | None) -> "dict[str, Any] | None":
    """What the call left in a parameter; None for an input."""
    if isinstance(param, Value) and param.direction & OUTPUT:
        return {"a": param.a, "b": param.b}
    data = output_bytes(param)
    if data is None:
        return None
    assert isinstance(param, Out | TempRef)
    return {"size": param.out_size, "hex": data.hex()}


def lines_of(number: int, param: Parameter | None) -> list[str]:
    """The same for people, the parameter's number in front."""
    if isinstance(param, Value) and param.direction & OUTPUT:
        return [f"{number}: value {param.a} (0x{param.a:x}), {param.b} (0x{param.b:x})"]
    data = output_bytes(param)
    if data is None:
        return []
    text = _as_text(data)
    head = f"{number}: {len(data)} bytes" if len(data) != 1 else f"{number}: 1 byte"
    if text is not None:
        return [f"{head}: {text}" if text else head]
    return [head, *hexdump(data)]


def _as_text(data: bytes) -> str | None:
    """``data`` where it is one line of text, with or without its end."""
    try:
        text = data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        return None
    return text if printable(text) == text else None


def hexdump(data: bytes) -> list[str]:
    """Sixteen bytes a line: offset, digits, and what of them is ASCII."""
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"  {at:08x}  {row.hex(' '):<47}  {text}")
    return lines
