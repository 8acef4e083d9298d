# SPDX-License-Identifier: BSD-2-Clause
"""Asymmetric encryption, signatures and derivation of keys: the system calls 32, 39 and 40 of
OP-TEE's ``core/tee/tee_svc_cryp.c``.

Here are arguments, handles and the memory of the TA, in OP-TEE's order of checks. What they do is
in :mod:`gentee.crypto.states_asymmetric` and :mod:`gentee.crypto.states_derive`. Input is copied
before anything looks at it: a client may write to what it shares at any time, and a message that
changes while it is signed gives away the key.
"""

from collections.abc import Sequence

from gentee.abi import optee_ta as abi
from gentee.crypto.states_asymmetric import check_verify, operate, verify
from gentee.crypto.states_derive import derive_key
from gentee.errors import ShortBuffer
from gentee.ta.svc.attributes import copy_in_attrs
from gentee.ta.svc.cryp_obj import get_object
from gentee.ta.svc.cryp_state import cell_of, destination, get_u64, put_u64, state_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.user_ta import UserTa


def _copy(ta: "UserTa", address: int, size: int) -> bytes | None:
    """Bytes that the TA may read; None at the address 0. Raises BadAddress."""
    if size:
        return ta.read(address, size)
    return b"" if address else None


def syscall_asymm_operate(ta: "UserTa", args: Sequence[int]) -> None:
    """Encrypt, decrypt or sign.

    Where the result does not fit, its size is written to ``args[6]`` and nothing else. OP-TEE
    leaves intermediate results in the output then, and after some other errors.
    """
    state = state_of(ta, args[0])
    data = _copy(ta, args[3], args[4])
    cell = cell_of(ta, args[6])
    room = get_u64(ta, args[6], cell)
    out = destination(ta, args[5], room)
    params = copy_in_attrs(ta, args[1], args[2]) if args[2] else ()
    try:
        result = operate(state, params, data, room)
    except ShortBuffer as error:
        put_u64(ta, args[6], cell, error.size or 0)
        raise
    if out is None:
        ta.write(args[5], result)
    else:
        out[: len(result)] = result
    put_u64(ta, args[6], cell, len(result))


def syscall_asymm_verify(ta: "UserTa", args: Sequence[int]) -> None:
    """Verify a signature."""
    state = state_of(ta, args[0])
    check_verify(state)
    data = _copy(ta, args[3], args[4])
    signature = _copy(ta, args[5], args[6]) or b""
    params = copy_in_attrs(ta, args[1], args[2]) if args[2] else ()
    verify(state, params, data, signature)


def syscall_cryp_derive_key(ta: "UserTa", args: Sequence[int]) -> None:
    """Derive a key into the object ``args[3]``.

    OP-TEE 4.10 makes the outgoing confirmation of SM2 KEP in a buffer of its own, and the TA never
    sees it. So does this.
    """
    state = state_of(ta, args[0])
    params = copy_in_attrs(ta, args[1], args[2])
    derive_key(state, params, get_object(ta, args[3]))


ROWS = {
    abi.TEE_SCN_CRYP_DERIVE_KEY: syscall_cryp_derive_key,
    abi.TEE_SCN_ASYMM_OPERATE: syscall_asymm_operate,
    abi.TEE_SCN_ASYMM_VERIFY: syscall_asymm_verify,
}
