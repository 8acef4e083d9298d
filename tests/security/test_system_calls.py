# SPDX-License-Identifier: BSD-2-Clause
"""Every system call by its number, as native code in a service would make it."""

import ast

import pytest

from gentee.linux import arch
from gentee.linux.seccomp import (
    BPF_JEQ_K,
    BPF_LD_W_ABS,
    BPF_RET_K,
    DATA_ARCH,
    SECCOMP_RET_KILL_PROCESS,
    SOCK_FILTER,
)
from gentee.ta import confine
from tests.security.captive import MakeCaptive, captive, service_host

__all__ = ["captive", "service_host"]

# What is permitted and would end the caller or take the descriptors of its channel away.
_NOT_TRIED = ("exit", "exit_group", "rt_sigreturn", "close", "ioctl", "restart_syscall", "futex")

# uretprobe and uprobe of x86-64: filters do not see them, and the kernel ends who calls them
# without a probe.
_OF_PROBES = (335, 336)

_ATTACK = """
    def attack(self, command, params):
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        let_through = []
        for number in NUMBERS:
            ctypes.set_errno(0)
            done = libc.syscall(ctypes.c_long(number), *ARGUMENTS[command]) >= 0
            if done or ctypes.get_errno() != 1:
                let_through.append(number)
        IMSG(repr(let_through))

import ctypes
ARGUMENTS = {1: 6 * [ctypes.c_long(0)], 2: 6 * [ctypes.c_long(-1)]}
NUMBERS = """


def _number(row: confine.Row) -> int | None:
    return row.x86_64 if arch.ARCHES[0] == arch.AUDIT_ARCH_X86_64 else row.aarch64


@pytest.mark.parametrize("command", [1, 2])
def test_every_number(captive: MakeCaptive, command: int) -> None:
    """What is not in the table fails with EPERM, and so does the ABI of x32."""
    permitted = {_number(row) for row in confine.TABLE if row.locked}
    skipped = {_number(row) for row in confine.TABLE if row.name in _NOT_TRIED}
    numbers = [number for number in range(600) if number not in {*skipped, *_OF_PROBES}]
    numbers += [arch.X32_SYSCALL_BIT | number for number in range(600)]
    hostile = captive(_ATTACK + repr(numbers) + "\n")
    hostile.session.invoke(command)
    (line,) = hostile.said()
    assert set(ast.literal_eval(line)) <= permitted
    hostile.others_go_on()


def test_another_architecture(captive: MakeCaptive) -> None:
    """Its numbers mean other calls: who uses them ends. Native code cannot be made to try."""
    program = confine.filter_of(arch.ARCHES[0], locked=True)
    instructions = [SOCK_FILTER.unpack_from(program, at) for at in range(0, len(program), 8)]
    assert instructions[:3] == [
        (BPF_LD_W_ABS, 0, 0, DATA_ARCH),
        (BPF_JEQ_K, 1, 0, arch.ARCHES[0]),
        (BPF_RET_K, 0, 0, SECCOMP_RET_KILL_PROCESS),
    ]
