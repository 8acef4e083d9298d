# SPDX-License-Identifier: BSD-2-Clause
"""The filter: its program run by a small interpreter, and installed for real in a child."""

import ctypes
import errno
import fcntl
import os
import socket
from pathlib import Path
from struct import Struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi.linux_tee import TEE_IOC_INVOKE, TEE_IOC_MAGIC, TEE_IOC_VERSION
from gentee.device.trapped_root import tee_filter
from gentee.linux import arch
from gentee.linux.arch import (
    AUDIT_ARCH_AARCH64,
    AUDIT_ARCH_ARM,
    AUDIT_ARCH_I386,
    AUDIT_ARCH_X86_64,
    X32_SYSCALL_BIT,
)
from gentee.linux.libc import syscall
from gentee.linux.seccomp import (
    BPF_AND_K,
    BPF_JEQ_K,
    BPF_LD_W_ABS,
    BPF_RET_K,
    SECCOMP_GET_NOTIF_SIZES,
    SECCOMP_NOTIF,
    SECCOMP_NOTIF_RESP,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_USER_NOTIF,
    SOCK_FILTER,
    FilterBuilder,
    install_filter,
    set_sync_wake_up,
)
from tests.helpers import Child

SECCOMP_DATA = Struct("<iIQ6Q")  # nr arch instruction_pointer args[6]
X32_IOCTL = X32_SYSCALL_BIT | 514
ARCHES = {
    "x86_64": (AUDIT_ARCH_X86_64, AUDIT_ARCH_I386),
    "aarch64": (AUDIT_ARCH_AARCH64, AUDIT_ARCH_ARM),
}
OPENS = ("open", "openat", "openat2", "creat")


def run(program: bytes, data: bytes) -> int:
    """What a filter returns for one struct seccomp_data; as strict as the kernel's checker."""
    instructions = list(SOCK_FILTER.iter_unpack(program))
    accumulator = at = 0
    while True:
        code, jump_true, jump_false, k = instructions[at]
        at += 1
        if code == BPF_LD_W_ABS:
            assert k % 4 == 0
            (accumulator,) = Struct("<I").unpack_from(data, k)
        elif code == BPF_AND_K:
            accumulator &= k
        elif code == BPF_JEQ_K:
            at += jump_true if accumulator == k else jump_false
        elif code == BPF_RET_K:
            assert isinstance(k, int)
            return k
        else:
            raise AssertionError(f"unknown instruction {code:#x}")


def result(program: bytes, audit_arch: int, nr: int, *args: int) -> int:
    words = [*args, *[0] * (6 - len(args))]
    nr = nr - (1 << 32) if nr >= 1 << 31 else nr
    return run(program, SECCOMP_DATA.pack(nr, audit_arch, 0x7F00_1234_5678, *words))


def notifies(program: bytes, audit_arch: int, nr: int, *args: int) -> bool:
    found = result(program, audit_arch, nr, *args)
    assert found in (SECCOMP_RET_USER_NOTIF, SECCOMP_RET_ALLOW)
    return found == SECCOMP_RET_USER_NOTIF


def should_notify(machine: str, trap_open: bool, audit_arch: int, nr: int, command: int) -> bool:
    """The same in plain words."""
    if audit_arch not in ARCHES[machine]:
        return False
    numbers = arch.SYS[audit_arch]
    ioctls = [numbers["ioctl"]]
    if audit_arch == AUDIT_ARCH_X86_64:
        ioctls.append(X32_IOCTL)
    if nr in ioctls:
        return command >> 8 & 0xFF == TEE_IOC_MAGIC
    return trap_open and nr in [numbers[name] for name in OPENS if name in numbers]


@pytest.fixture(scope="module")
def programs() -> dict[tuple[str, bool], bytes]:
    """The filter of each machine and way."""
    built = {}
    with pytest.MonkeyPatch.context() as patch:
        for machine, arches in ARCHES.items():
            patch.setattr(arch, "ARCHES", arches)
            for trap_open in (False, True):
                built[machine, trap_open] = tee_filter(trap_open=trap_open)
    return built


@pytest.mark.parametrize("trap_open", [False, True])
@pytest.mark.parametrize(
    ("machine", "audit_arch", "nr"),
    [
        ("x86_64", AUDIT_ARCH_X86_64, 16),
        ("x86_64", AUDIT_ARCH_X86_64, X32_IOCTL),
        ("x86_64", AUDIT_ARCH_I386, 54),
        ("aarch64", AUDIT_ARCH_AARCH64, 29),
        ("aarch64", AUDIT_ARCH_ARM, 54),
    ],
)
def test_ioctls_of_tees(
    programs: dict[tuple[str, bool], bytes],
    machine: str,
    trap_open: bool,
    audit_arch: int,
    nr: int,
) -> None:
    program = programs[machine, trap_open]
    for command in (TEE_IOC_VERSION, TEE_IOC_INVOKE, 0xA400, 0xA4FF, 0xFFFF_A4FF):
        assert notifies(program, audit_arch, nr, 3, command)
        # The kernel's own cmd has 32 bits: what is above is not looked at.
        assert notifies(program, audit_arch, nr, 3, 0xDEAD_BEEF_0000_0000 | command)
    for command in (0, 0x5401, 0xA3FF, 0xA500, 0xA4, 0xA4_0000, 0xA400_0000_0000, 0x24FF):
        assert not notifies(program, audit_arch, nr, 3, command)
    # The command is the second argument and no other.
    assert not notifies(program, audit_arch, nr, TEE_IOC_VERSION, 0, *[TEE_IOC_VERSION] * 4)


@pytest.mark.parametrize(
    ("audit_arch", "nr", "what"),
    [
        (AUDIT_ARCH_I386, 16, "i386: lchown"),
        (AUDIT_ARCH_I386, X32_IOCTL, "i386 has no x32"),
        (AUDIT_ARCH_X86_64, 54, "x86-64: setsockopt"),
        (AUDIT_ARCH_X86_64, 514, "not without the x32 bit"),
        (AUDIT_ARCH_X86_64, X32_SYSCALL_BIT | 16, "x32: its ioctl has a number of its own"),
        (AUDIT_ARCH_X86_64, 0xFFFF_FFFF, "-1: skipped by a tracer"),
        (AUDIT_ARCH_AARCH64, 29, "another machine's"),
        (0, 16, "no architecture"),
    ],
)
def test_other_numbers_go_through(
    programs: dict[tuple[str, bool], bytes], audit_arch: int, nr: int, what: str
) -> None:
    for trap_open in (False, True):
        assert not notifies(programs["x86_64", trap_open], audit_arch, nr, 3, TEE_IOC_VERSION)


@pytest.mark.parametrize(
    ("machine", "audit_arch", "numbers"),
    [
        ("x86_64", AUDIT_ARCH_X86_64, [2, 85, 257, 437]),
        ("x86_64", AUDIT_ARCH_I386, [5, 8, 295, 437]),
        ("aarch64", AUDIT_ARCH_AARCH64, [56, 437]),
        ("aarch64", AUDIT_ARCH_ARM, [5, 8, 322, 437]),
    ],
)
def test_opens_where_they_are_asked_for(
    programs: dict[tuple[str, bool], bytes], machine: str, audit_arch: int, numbers: list[int]
) -> None:
    trapped = [nr for nr in range(600) if notifies(programs[machine, True], audit_arch, nr)]
    assert trapped == numbers
    assert not [nr for nr in range(600) if notifies(programs[machine, False], audit_arch, nr)]


u64 = st.integers(0, 2**64 - 1)
commands = st.one_of(
    u64, st.integers(0, 255).map(lambda number: 0xA400 | number), st.just(TEE_IOC_INVOKE)
)
numbers = st.one_of(
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted({nr for table in arch.SYS.values() for nr in table.values()})),
    st.sampled_from([X32_IOCTL, 514, X32_SYSCALL_BIT | 2, X32_SYSCALL_BIT | 257]),
)
arches = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from(sorted(arch.SYS)))


@given(
    machine=st.sampled_from(sorted(ARCHES)),
    trap_open=st.booleans(),
    audit_arch=arches,
    nr=numbers,
    command=commands,
    others=st.tuples(u64, u64, u64, u64, u64),
)
def test_any_call(
    programs: dict[tuple[str, bool], bytes],
    machine: str,
    trap_open: bool,
    audit_arch: int,
    nr: int,
    command: int,
    others: tuple[int, int, int, int, int],
) -> None:
    found = notifies(programs[machine, trap_open], audit_arch, nr, others[0], command, *others[1:])
    assert found == should_notify(machine, trap_open, audit_arch, nr, command)


def test_nothing_asked_nothing_trapped() -> None:
    assert result(FilterBuilder().build(), AUDIT_ARCH_X86_64, 16, 0, 0xA400) == SECCOMP_RET_ALLOW


# The real thing


def test_sizes_are_the_kernels() -> None:
    sizes = (ctypes.c_uint16 * 3)()
    syscall("seccomp", arch.NATIVE["seccomp"], SECCOMP_GET_NOTIF_SIZES, 0, ctypes.addressof(sizes))
    assert list(sizes) == [SECCOMP_NOTIF.size, SECCOMP_NOTIF_RESP.size, SECCOMP_DATA.size]


def no_new_privs() -> bool:
    return "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()


@pytest.mark.parametrize("trap_open", [False, True])
def test_the_kernel_takes_it(trap_open: bool) -> None:
    def install(_: socket.socket) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        listener = install_filter(tee_filter(trap_open=trap_open))
        assert not os.get_inheritable(listener)
        assert isinstance(set_sync_wake_up(listener), bool)
        # Another magic goes to the kernel.
        with pytest.raises(OSError) as caught:
            fcntl.ioctl(null, 0x5401, bytes(64))
        assert caught.value.errno == errno.ENOTTY

    with Child(install):
        pass


def test_one_listener_a_task() -> None:
    def install(_: socket.socket) -> None:
        program = tee_filter(trap_open=False)
        install_filter(program)
        with pytest.raises(OSError) as caught:
            install_filter(program)
        assert caught.value.errno == errno.EBUSY
        install_filter(FilterBuilder().build(), notify=False)

    with Child(install):
        pass


def test_no_new_privs_only_where_it_is_needed() -> None:
    def install(_: socket.socket) -> None:
        before = no_new_privs()
        effective = next(
            int(line.split()[1], 16)
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("CapEff:")
        )
        install_filter(tee_filter(trap_open=False))
        may_without = bool(effective >> 21 & 1)  # CAP_SYS_ADMIN
        assert no_new_privs() == (before or not may_without)

    with Child(install):
        pass


def test_a_program_that_the_kernel_refuses() -> None:
    def install(_: socket.socket) -> None:
        with pytest.raises(OSError) as caught:
            install_filter(SOCK_FILTER.pack(BPF_LD_W_ABS, 0, 0, 3))  # not a word, and no return
        assert caught.value.errno == errno.EINVAL

    with Child(install):
        pass
