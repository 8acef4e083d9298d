# SPDX-License-Identifier: BSD-2-Clause
"""A TA that makes any system call with anything, in a TEE with an honest one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import optee_pta as pta
from gentee.abi import optee_ta as abi
from gentee.errors import TargetDead
from gentee.secure.service import parse_uuid
from gentee.ta.svc.properties import native_uuid
from tests import arm_tas
from tests.helpers import ServiceHost
from tests.security.arm_captive import (
    FOREVER,
    FREE,
    HONEST,
    PAGE,
    SCRATCH,
    ArmCaptive,
    SystemCall,
    Where,
    service_host,
)
from tests.security.test_ta_system_calls import ENDING, is_answer, pointers
from tests.ta_build import ARCHES

__all__ = ["service_host"]

UUIDS = b"".join(
    native_uuid(parse_uuid(uuid))
    for uuid in (pta.PTA_SYSTEM_UUID, pta.STATS_UUID, pta.PTA_DEVICE_UUID,
                 arm_tas.uuid_of(HONEST), arm_tas.uuid_of(77))
)  # fmt: skip
COUNT = len(UUIDS) // 16
PARAMS = 128  # where the parameters of calls to others are in scratch
RESULTS = 3 * PAGE  # and what may be written to

NUMBERS = st.one_of(
    st.sampled_from([n for n in range(abi.TEE_SCN_MAX + 1) if n not in ENDING]),
    st.sampled_from([5, 5, 6, 7, 7, 7, 8, 13, 33, 70]),
    st.integers(71, 100),
)
TYPES = st.sampled_from([0, 1, 3, 5, 6, 7, 0x131, 0x11, 0x15, 0x255, 0x65, 0x7777, 0xFFFF, 8])
WORDS = st.one_of(
    st.integers(0, 20),
    st.sampled_from([PAGE, PAGE - 1, 1 << 16, 1 << 20, FOREVER, 1 << 31, 1 << 32, (1 << 64) - 1]),
)


@pytest.fixture(scope="module", params=ARCHES)
def captive(
    request: pytest.FixtureRequest,
    service_host: ServiceHost,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ArmCaptive]:
    folder: Path = tmp_path_factory.mktemp("tas")
    captive = ArmCaptive(service_host, folder, str(request.param), cpu_limit=5)
    yield captive
    captive.tee.close()
    assert not service_host.bugs


def _places(where: Where, is_32bit: bool) -> st.SearchStrategy[int]:
    """Addresses that are good for something, and those that are not."""
    ours = (where.scratch, where.scratch + PARAMS, where.scratch + RESULTS, where.client + FREE)
    return st.one_of(
        st.sampled_from([where.scratch + 16 * index for index in range(COUNT)]),
        st.sampled_from(ours),
        st.sampled_from(pointers(where, is_32bit)),
    )


@given(data=st.data())
def test_any_calls(captive: ArmCaptive, data: st.DataObject) -> None:
    """Each has an answer, or the TA is dead of what it did to itself; the honest one goes on."""
    hostile = captive.hostile
    where = hostile.where()
    places = _places(where, captive.is_32bit)
    word = st.one_of(places, WORDS)
    params = b"".join(
        abi.UTEE_PARAMS.pack(data.draw(TYPES), *(data.draw(word) for _ in range(8)))
        for _ in range(data.draw(st.integers(1, 3)))
    )
    hostile.fill(UUIDS.ljust(PARAMS, b"\0") + params)
    calls = []
    for _ in range(data.draw(st.integers(1, 8))):
        number = data.draw(NUMBERS)
        args = [data.draw(word) for _ in range(8)]
        if number == abi.TEE_SCN_WAIT:
            args[0] %= 2
        if number in (abi.TEE_SCN_OPEN_TA_SESSION, abi.TEE_SCN_INVOKE_TA_COMMAND):
            at = where.scratch + PARAMS
            if number == abi.TEE_SCN_OPEN_TA_SESSION and data.draw(st.booleans()):
                args[:5] = (data.draw(places), FOREVER, at, where.scratch + RESULTS, 0)
            elif data.draw(st.booleans()):
                args[:5] = (data.draw(st.integers(1, 4)), FOREVER, data.draw(WORDS), at, 0)
        on_stack = data.draw(st.sampled_from([4, 4, 4, 0, 8, 9]))
        calls.append(SystemCall(number, args, on_stack))
    try:
        answers = hostile.call(*calls)
    except TargetDead:  # it may have written over its own stack
        captive.hostile.context.finalize()
        captive.tee.contexts.remove(captive.hostile.context)
        captive.hostile = captive.fresh()
    else:
        assert all(map(is_answer, answers)), answers
    captive.honest()


def test_the_honest_one_afterwards(captive: ArmCaptive) -> None:
    captive.others_go_on()
    assert captive.hostile.where().scratch % SCRATCH % PAGE == 0
