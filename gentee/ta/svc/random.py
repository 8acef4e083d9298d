# SPDX-License-Identifier: BSD-2-Clause
"""Random numbers: ``syscall_cryp_random_number_generate()`` of ``core/tee/tee_svc_cryp.c``.

OP-TEE has them in a buffer of 4 KiB first, and answers a wish for more with OUT_OF_MEMORY. Here a
TA gets as many as it has memory for.
"""

from collections.abc import Sequence
from os import urandom

from gentee.abi import optee_ta as abi
from gentee.ta.svc.memory import check_access_rights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.user_ta import UserTa

_CHUNK = 64 << 10
_WRITE = abi.TEE_MEMORY_ACCESS_WRITE | abi.TEE_MEMORY_ACCESS_ANY_OWNER


def syscall_cryp_random_number_generate(ta: "UserTa", args: Sequence[int]) -> None:
    """Fill ``args[1]`` bytes at ``args[0]``."""
    address, size = args[0], args[1]
    if size <= _CHUNK:
        ta.write(address, urandom(size))
        return
    check_access_rights(ta, _WRITE, address, size)
    for start in range(address, address + size, _CHUNK):
        ta.write(start, urandom(min(_CHUNK, address + size - start)))


ROWS = {abi.TEE_SCN_CRYP_RANDOM_NUMBER_GENERATE: syscall_cryp_random_number_generate}
