# SPDX-License-Identifier: BSD-2-Clause
"""Data in whole blocks: any split processes the same, and holds back what libutee does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.ta.crypto.blocks import Blocks


class Work:
    """What is processed, as it came."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []

    def __call__(self, src: bytes | memoryview, dst: memoryview) -> None:
        assert len(src) % 4 == 0
        self.calls.append(bytes(src))
        dst[: len(src)] = bytes(src)


def left(total: int, two: bool) -> int:
    """How much is held of so many bytes."""
    if not two:
        return total % 4
    return total if total <= 8 else (total - 1) % 4 + 5


@given(st.lists(st.binary(max_size=21), max_size=8), st.booleans())
def test_any_split(chunks: list[bytes], two: bool) -> None:
    blocks, work, out = Blocks(4, two), Work(), b""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        dst = bytearray(blocks.ready(len(chunk)))
        assert blocks.feed(work, chunk, memoryview(dst)) == len(dst)
        out += dst
        assert len(blocks) == left(total, two)
    assert out == b"".join(work.calls)
    assert out + blocks.rest() == b"".join(chunks)
    assert len(blocks) == 0


def test_bulk_data_is_not_copied() -> None:
    """What comes in whole blocks is processed where it is."""
    blocks = Blocks(4, False)
    seen: list[bytes | memoryview] = []
    data = memoryview(bytes(1000))
    blocks.feed(lambda src, dst: seen.append(src), data, memoryview(bytearray(1000)))
    (src,) = seen
    assert isinstance(src, memoryview)
    assert src.obj is data.obj


def test_copies_are_apart() -> None:
    one, other = Blocks(4, False), Blocks(4, False)
    one.feed(Work(), b"abc", memoryview(b""))
    other.copy_from(one)
    one.wipe()
    assert other.rest() == b"abc"
    assert len(one) == 0


@pytest.mark.parametrize("size", [1, 16])
def test_nothing(size: int) -> None:
    blocks = Blocks(size, False)
    assert blocks.feed(Work(), b"", memoryview(b"")) == 0
    assert blocks.rest() == b""
