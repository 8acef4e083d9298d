# SPDX-License-Identifier: BSD-2-Clause
"""Blocks that one instance ran, told to a template: hints, from a process that is not trusted."""

import os
from collections.abc import Iterator
from struct import pack

import pytest

from gentee.linux.shm import create_shm
from gentee.ta.engine.base import PROT_EXEC, PROT_READ
from gentee.ta.hot_blocks import SIZE, HotBlocks
from tests.ta_run import RunningTa, ta_image


@pytest.fixture(params=["aarch64", "arm"])
def ta(request: pytest.FixtureRequest) -> Iterator[RunningTa]:
    running = RunningTa(ta_image("hello", request.param))
    yield running
    running.end()


@pytest.fixture
def shared() -> Iterator[int]:
    fd = create_shm(SIZE)
    yield fd
    os.close(fd)


def blocks(fd: int, ta: RunningTa) -> HotBlocks:
    return HotBlocks(os.dup(fd), ta.loader.modules, ta.space)


def test_what_runs_is_noted_for_another_place(ta: RunningTa, shared: int) -> None:
    ta.engine.record_blocks(blocks(shared, ta).add)
    ta.open()
    other = RunningTa(ta_image("hello", ta.engine.arch))
    try:
        found = list(blocks(shared, other))
        assert len(found) > 3
        other.engine.translate(found)
        assert other.open() == ta.open()
    finally:
        other.end()


def test_new_memory_has_none(ta: RunningTa, shared: int) -> None:
    assert list(blocks(shared, ta)) == []


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * SIZE,
        pack("<II", 0xFFFF_FFF0, 0),  # outside
        pack("<II", 0, 63 << 1),  # no such module
        os.urandom(SIZE),
    ],
)
def test_hostile_hints(ta: RunningTa, shared: int, content: bytes) -> None:
    os.pwrite(shared, content, 0)
    found = list(blocks(shared, ta))
    ta.engine.translate(found)
    for address, _thumb in found:
        region = ta.space.find(address)
        assert region is not None
        assert region.prot & (PROT_READ | PROT_EXEC) == PROT_READ | PROT_EXEC
    assert ta.open()[0] == 0


def test_there_is_only_so_much_room(ta: RunningTa, shared: int) -> None:
    noted = blocks(shared, ta)
    for _ in range(SIZE):
        noted.add(ta.ta.load_addr, False)
    assert len(list(blocks(shared, ta))) == SIZE // 8 - 1
