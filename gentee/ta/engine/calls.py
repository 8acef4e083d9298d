# SPDX-License-Identifier: BSD-2-Clause
"""How the core and a TA pass arguments: at its entry, and in system calls.

OP-TEE: ``core/kernel/user_ta.c``, ``core/arch/arm/kernel/arch_scall_a32.S`` and ``_a64.S``.
"""

from collections.abc import Sequence
from struct import Struct

from gentee.abi import optee_ta as ta
from gentee.errors import GenericError
from gentee.ta.engine.base import AARCH64, Engine
from gentee.ta.engine.space import AddressSpace

_STACK_ARGUMENTS = tuple(Struct(f"<{count}I") for count in range(ta.TEE_SVC_MAX_ARGS + 1))


def params_address(stack_top: int) -> int:
    """Where ``struct utee_params`` goes for an entry; the stack starts there, too."""
    return stack_top - (ta.UTEE_PARAMS.size + ta.STACK_ALIGNMENT - 1 & -ta.STACK_ALIGNMENT)


def arguments(engine: Engine, space: AddressSpace) -> Sequence[int]:
    """The arguments of the system call that the engine stopped at; further ones are junk.

    :raises GenericError: a 32-bit TA passes more than eight. Answer the call with it.
    :raises BadAddress: those on its stack cannot be read. Answer the call with it.
    """
    args = engine.args
    if engine.arch == AARCH64:
        return args
    count = args[6]
    if count > ta.TEE_SVC_MAX_ARGS:
        raise GenericError(f"{count} system call arguments on the stack")
    if not count:
        return args[:4]
    layout = _STACK_ARGUMENTS[count]
    return (*args[:4], *layout.unpack(space.read(args[5], layout.size)))
