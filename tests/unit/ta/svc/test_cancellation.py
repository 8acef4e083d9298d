# SPDX-License-Identifier: BSD-2-Clause
"""Cancellation and waiting."""

from gentee.abi import optee_ta as abi
from gentee.abi.gp import TEE_ERROR_ACCESS_DENIED, TEE_ERROR_CANCEL
from tests.svc_ta import CODE, DATA, LENT, NOWHERE, TestedTa


def test_the_flag_and_its_mask(ta: TestedTa) -> None:
    ta.is_cancelled = True
    for address in (DATA, LENT):  # any memory will do
        ta.masked = True
        ta.write(address, b"\xff" * 8)
        assert ta.call(abi.TEE_SCN_GET_CANCELLATION_FLAG, address) == 0
        assert ta.read(address, 8) == b"\0\0\0\0\xff\xff\xff\xff"
        assert ta.call(abi.TEE_SCN_UNMASK_CANCELLATION, address) == 0
        assert ta.u32(address) == 1  # it was masked
        assert ta.call(abi.TEE_SCN_GET_CANCELLATION_FLAG, address) == 0
        assert ta.u32(address) == 1
        assert ta.call(abi.TEE_SCN_UNMASK_CANCELLATION, address) == 0
        assert ta.u32(address) == 0
        assert ta.call(abi.TEE_SCN_MASK_CANCELLATION, address) == 0
        assert ta.u32(address) == 0
        assert ta.masked
    ta.is_cancelled = False
    ta.masked = False
    assert ta.call(abi.TEE_SCN_GET_CANCELLATION_FLAG, DATA) == 0
    assert ta.u32(DATA) == 0


def test_bad_pointers(ta: TestedTa) -> None:
    for address in (0, NOWHERE, CODE, LENT + 3 * 4096 - 3):
        assert ta.call(abi.TEE_SCN_GET_CANCELLATION_FLAG, address) == TEE_ERROR_ACCESS_DENIED
    # The mask has changed all the same, as in OP-TEE.
    assert ta.call(abi.TEE_SCN_UNMASK_CANCELLATION, 0) == TEE_ERROR_ACCESS_DENIED
    assert not ta.masked
    assert ta.call(abi.TEE_SCN_MASK_CANCELLATION, 0) == TEE_ERROR_ACCESS_DENIED
    assert ta.masked


def test_wait(ta: TestedTa) -> None:
    assert ta.call(abi.TEE_SCN_WAIT, 0) == 0
    assert ta.waited == []
    assert ta.call(abi.TEE_SCN_WAIT, 20) == 0
    assert ta.call(abi.TEE_SCN_WAIT, 0xFFFFFFFF) == 0
    assert ta.call(abi.TEE_SCN_WAIT, 1 << 63) == 0
    assert ta.waited == [(20, True), (0xFFFFFFFF, True), (0xFFFFFFFF, True)]


def test_wait_is_cancelled(ta: TestedTa) -> None:
    ta.is_cancelled = True
    assert ta.call(abi.TEE_SCN_WAIT, 1) == 0  # masked
    ta.masked = False
    assert ta.call(abi.TEE_SCN_WAIT, 0) == TEE_ERROR_CANCEL
    assert ta.call(abi.TEE_SCN_WAIT, 1) == TEE_ERROR_CANCEL
    assert ta.waited == [(1, True)]  # it did not even begin
