# SPDX-License-Identifier: BSD-2-Clause
"""Addresses of buffers: checked by reading this process's memory there."""

import mmap
import os

import pytest

from gentee.linux.buffers import PinnedBuffer
from gentee.linux.process_memory import read_memory_into


def bytes_at(address: int, size: int) -> bytes:
    data = bytearray(size)
    read_memory_into(os.getpid(), address, memoryview(data))
    return bytes(data)


def test_address_of_a_bytearray() -> None:
    buffer = bytearray(b"some bytes")
    pinned = PinnedBuffer(buffer)
    assert pinned.size == 10
    assert bytes_at(pinned.address, 10) == b"some bytes"
    with pytest.raises(BufferError):
        buffer.append(0)
    pinned.release()
    pinned.release()
    buffer.append(0)


def test_address_within_an_mmap() -> None:
    pages = mmap.mmap(-1, 8192)
    pages[100:105] = b"hello"
    with memoryview(pages)[100:105] as part:
        pinned = PinnedBuffer(part)
        assert pinned.address % 4096 == 100
        assert bytes_at(pinned.address, pinned.size) == b"hello" == bytes(pinned.view)
        pinned.release()
    pages.close()


@pytest.mark.parametrize("buffer", [b"read-only", memoryview(bytearray(8))[::2]])
def test_what_cannot_be_pinned(buffer: bytes) -> None:
    with pytest.raises(TypeError):
        PinnedBuffer(buffer)


def test_nothing_has_no_address() -> None:
    with pytest.raises(ValueError, match="empty"):
        PinnedBuffer(bytearray())
