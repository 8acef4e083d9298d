# SPDX-License-Identifier: BSD-2-Clause
"""check_access_rights and cache_operation."""

import pytest

from gentee.abi import optee_ta as abi
from gentee.abi.gp import (
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_SUCCESS,
)
from gentee.ta.client_memory import PROTECTED_MEMORY, SECURE_MEMORY, SHARED
from gentee.ta.svc.memory import MAP_ZI
from tests.svc_ta import CODE, DATA, LENT, LENT2, NOWHERE, PAGE, RW, STACK, STACK2, TestedTa

READ, WRITE, ANY = 1, 2, 4
SECURE, NONSECURE = 0x20000000, 0x10000000
OK, DENIED = TEE_SUCCESS, TEE_ERROR_ACCESS_DENIED


@pytest.mark.parametrize(
    ("flags", "address", "size", "result"),
    [
        (READ | WRITE, DATA, 2 * PAGE, OK),
        (READ, DATA + 2 * PAGE - 1, 1, OK),
        (READ, DATA + 2 * PAGE - 1, 2, DENIED),
        (READ, CODE, PAGE, OK),
        (WRITE, CODE, 1, DENIED),
        (READ | ANY, CODE + 1, 2 * PAGE, OK),  # over two regions
        (READ, CODE + 1, PAGE, DENIED),  # which is not inside one
        (READ | WRITE | ANY, CODE + 1, PAGE, DENIED),  # the first is read-only
        (READ | WRITE | ANY, STACK, 2 * PAGE, OK),
        (READ | WRITE, STACK, 2 * PAGE, DENIED),
        (READ | WRITE, STACK2, PAGE, OK),
        (READ, LENT, 1, DENIED),
        (0, LENT, 1, DENIED),
        (READ | WRITE | ANY, LENT, 3 * PAGE, OK),
        (READ | WRITE | ANY, LENT, 3 * PAGE + 1, DENIED),
        (READ | ANY, NOWHERE, 1, DENIED),
        (READ | ANY, 0, 1, DENIED),
        (READ, NOWHERE, 0, OK),
        (READ | ANY, (1 << 64) - 1, 2, DENIED),
        (READ | ANY, DATA, (1 << 64) - 1, DENIED),
        (READ | ANY | 1 << 32, DATA, 1, OK),  # uint32_t flags
        (SECURE | NONSECURE, DATA, 0, DENIED),
        (READ | SECURE, DATA, 1, OK),
        (READ | NONSECURE, DATA, 1, DENIED),
        (READ | ANY | SECURE, LENT, 1, DENIED),
        (READ | ANY | NONSECURE, LENT, 3 * PAGE, OK),
        (ANY, CODE, 1, OK),
    ],
)
def test_access_rights(ta: TestedTa, flags: int, address: int, size: int, result: int) -> None:
    assert ta.call(abi.TEE_SCN_CHECK_ACCESS_RIGHTS, flags, address, size) == result


def test_what_is_secure(ta: TestedTa) -> None:
    ta.add(NOWHERE, 1, RW, MAP_ZI, SHARED)
    shareable = NOWHERE
    check = abi.TEE_SCN_CHECK_ACCESS_RIGHTS
    assert ta.call(check, READ | ANY | SECURE, shareable, PAGE) == OK
    assert ta.call(check, READ, shareable, PAGE) == DENIED  # and not private
    assert ta.call(check, READ | ANY | SECURE, LENT, 1) == DENIED
    for address, name in ((NOWHERE + PAGE, SECURE_MEMORY), (NOWHERE + 2 * PAGE, PROTECTED_MEMORY)):
        ta.add(address, 1, RW, name, SHARED)
        assert ta.call(check, READ | ANY | SECURE, address, PAGE) == OK
        assert ta.call(check, READ | ANY | NONSECURE, address, PAGE) == DENIED
        assert ta.call(check, READ, address, PAGE) == DENIED  # and not private


@pytest.mark.parametrize(
    ("address", "size", "operation", "result"),
    [
        (LENT, 3 * PAGE, 0, OK),
        (LENT2, PAGE, 1, OK),
        (LENT, 1, 2, OK),
        (LENT, 1, 3, TEE_ERROR_NOT_SUPPORTED),
        (LENT, 3 * PAGE + 1, 0, DENIED),
        (DATA, 1, 0, DENIED),
        (DATA, 0, 0, OK),
        (NOWHERE, 1, 0, DENIED),
        (LENT, (1 << 64) - 1, 0, DENIED),
    ],
)
def test_caches(ta: TestedTa, address: int, size: int, operation: int, result: int) -> None:
    cache = abi.TEE_SCN_CACHE_OPERATION
    assert ta.call(cache, address, size, operation) == TEE_ERROR_NOT_SUPPORTED  # without the flag
    ta.flags = abi.TA_FLAG_CACHE_MAINTENANCE
    assert ta.call(cache, address, size, operation) == result
