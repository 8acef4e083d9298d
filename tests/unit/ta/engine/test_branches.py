# SPDX-License-Identifier: BSD-2-Clause
"""Pointer authentication and branch target identification (AArch64), on both engines."""

from collections.abc import Iterator

import pytest

from gentee.ta.engine.base import AARCH64, GUARDED_HIGH, GUARDED_LOW, Fault, FaultKind
from tests.ta_run import ENGINES, RunningTa, ta_image

CALL, SIGN, CORRUPT, INTO_THE_MIDDLE, WILD = range(5)


@pytest.fixture(params=ENGINES)
def branches(request: pytest.FixtureRequest) -> Iterator[RunningTa]:
    running = RunningTa(ta_image("branches", AARCH64, bti=True), request.param)
    yield running
    running.end()


def test_calls_work(branches: RunningTa) -> None:
    assert branches.loader.modules[0].image.is_bti
    assert GUARDED_LOW <= branches.ta.load_addr < GUARDED_HIGH
    assert branches.invoke(CALL, 21)[1][0] == 42


def test_pointers_are_signed(branches: RunningTa) -> None:
    assert branches.invoke(SIGN)[1][:2] == (1, 1)


def test_a_corrupted_pointer_faults(branches: RunningTa) -> None:
    with pytest.raises(Fault) as caught:
        branches.invoke(CORRUPT)
    assert caught.value.kind is FaultKind.FETCH_UNMAPPED
    assert caught.value.pc >> 48


def test_a_branch_needs_a_target(branches: RunningTa) -> None:
    with pytest.raises(Fault) as caught:
        branches.invoke(INTO_THE_MIDDLE)
    assert caught.value.kind is FaultKind.BRANCH_TARGET
    branches.engine.registers()


@pytest.mark.parametrize(
    ("address", "kind"),
    [(0x0F000000, FaultKind.READ_UNMAPPED), (1 << 40, FaultKind.DATA_ABORT)],
)
def test_other_faults_are_as_ever(branches: RunningTa, address: int, kind: FaultKind) -> None:
    with pytest.raises(Fault) as caught:
        branches.invoke(WILD, address)
    assert caught.value.kind is kind


def test_without_the_note_any_target_does() -> None:
    image = ta_image("branches", AARCH64)
    assert not image.is_bti
    running = RunningTa(image)
    assert running.ta.load_addr < GUARDED_LOW
    assert running.invoke(CALL, 4)[1][0] == 8
    running.end()
