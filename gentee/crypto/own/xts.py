# SPDX-License-Identifier: BSD-2-Clause
"""XTS of one data unit from a block cipher in ECB: IEEE 1619, NIST SP 800-38E.

For what pyca/cryptography's does not take: SM4, AES with keys of 192 bits, and two equal keys.
"""

from cryptography.hazmat.primitives.ciphers import CipherContext

from gentee.crypto.own.gf128 import times_x

_BLOCK = 16
_LANE = 128
_GROUP = 64  # blocks whose tweaks are made together
_CHUNK = 4096  # bytes that are worked on together


def _lanes(pattern: int, count: int) -> int:
    return int.from_bytes(pattern.to_bytes(_BLOCK, "little") * count, "little")


def _times_x_each(elements: int, count: int, power: int) -> int:
    """Each of ``count`` elements side by side, times ``x**power``; at most 64."""
    high = elements >> (_LANE - power) & _lanes((1 << power) - 1, count)
    low = elements & _lanes((1 << _LANE - power) - 1, count)
    return low << power ^ high ^ high << 1 ^ high << 2 ^ high << 7


def tweaks(first: int, count: int) -> bytes:
    """``count`` tweaks, each the one before it times x."""
    group = first
    made = 1
    while made < min(count, _GROUP):
        group |= _times_x_each(group, made, made) << _LANE * made
        made *= 2
    parts = [group.to_bytes(_BLOCK * made, "little")]
    for _ in range(made, count, made):
        group = _times_x_each(group, made, made)
        parts.append(group.to_bytes(_BLOCK * made, "little"))
    return b"".join(parts)[: _BLOCK * count]


def _xor(a: bytes | memoryview, b: bytes) -> bytes:
    size = len(b)
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(size, "little")


def _blocks(context: CipherContext, tweak: int, src: bytes | memoryview, dst: memoryview) -> None:
    for start in range(0, len(src), _CHUNK):
        part = src[start : start + _CHUNK]
        masks = tweaks(tweak, len(part) // _BLOCK)
        dst[start : start + len(part)] = _xor(context.update(_xor(part, masks)), masks)
        tweak = times_x(tweak, len(part) // _BLOCK)


def xts_into(
    context: CipherContext,
    decrypt: bool,
    tweak: int,
    src: bytes | memoryview,
    dst: memoryview,
) -> None:
    """One data unit of at least 16 bytes.

    :param context: ECB with the first key.
    :param tweak: of the first block: encrypted with the second key, as a little-endian number.
    """
    size = len(src)
    rest = size % _BLOCK
    whole = size - rest
    if not rest:
        _blocks(context, tweak, src, dst)
        return
    # The last whole block and the rest share two blocks of cipher; decryption has them swapped.
    last = whole - _BLOCK
    tail = bytes(src[whole:])
    block = bytes(src[last:whole])
    _blocks(context, tweak, src[:last], dst)
    first = times_x(tweak, last // _BLOCK)
    second = times_x(first)
    if decrypt:
        first, second = second, first
    mask = first.to_bytes(_BLOCK, "little")
    block = _xor(context.update(_xor(block, mask)), mask)
    mask = second.to_bytes(_BLOCK, "little")
    dst[whole:size] = block[:rest]
    dst[last:whole] = _xor(context.update(_xor(tail + block[rest:], mask)), mask)
