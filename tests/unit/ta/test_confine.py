# SPDX-License-Identifier: BSD-2-Clause
"""The table of system calls: its numbers are the kernel's, and its filters do what it says."""

import errno
import os
import re
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from gentee.cli.probe_confinement import in_locked_child
from gentee.linux import arch
from gentee.linux.seccomp import ALWAYS, NEVER, SOCK_FILTER, Rule
from gentee.ta import confine

_X86_64 = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
_GENERIC = Path("/usr/include/asm-generic/unistd.h")  # aarch64's


def numbers_in(header: Path) -> dict[str, int]:
    if not header.exists():
        pytest.skip(f"no {header}")
    found = re.findall(r"#define __NR(3264)?_(\w+)\s+(\d+)$", header.read_text(), re.M)
    return {name: int(number) for _, name, number in found}


TABLES = {"services": confine.TABLE, "TAs": confine.TA_TABLE}
each_table = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


@each_table
def test_numbers_of_x86_64(table: tuple[confine.Row, ...]) -> None:
    numbers = numbers_in(_X86_64)
    for row in table:
        assert row.x86_64 == numbers.get(row.name), row.name


@each_table
def test_numbers_of_aarch64(table: tuple[confine.Row, ...]) -> None:
    numbers = numbers_in(_GENERIC)
    numbers["newfstatat"] = numbers.pop("fstatat")
    for row in table:
        assert row.aarch64 == numbers.get(row.name), row.name


@each_table
def test_each_row_once_and_with_a_reason(table: tuple[confine.Row, ...]) -> None:
    names = [row.name for row in table]
    assert len(set(names)) == len(names)
    assert all(row.reason for row in table)


@each_table
def test_the_lock_only_takes_away(table: tuple[confine.Row, ...]) -> None:
    """Nothing is permitted after it that was not before."""
    for row in table:
        assert row.loading != NEVER, row.name


def test_tas_have_less_than_services() -> None:
    """Before and after the lock: what comes first in time permits all that comes later."""
    of_services = {row.name: row for row in confine.TABLE}
    for row in confine.TA_TABLE:
        service = of_services[row.name]
        assert (row.x86_64, row.aarch64) == (service.x86_64, service.aarch64)
        for mine, theirs in ((row.loading, service.loading), (row.locked, service.locked)):
            assert theirs in (ALWAYS, mine) or mine in (NEVER, theirs) or _within(mine, theirs)


def _within(rule: Rule, other: Rule) -> bool:
    """Whether each alternative is one of the other's."""
    shapes = [[(test.argument, test.value, test.mask) for test in tests] for tests in other]
    return all(
        [(test.argument, test.value, test.mask) for test in tests] in shapes for tests in rule
    )


@each_table
@pytest.mark.parametrize("audit_arch", [arch.AUDIT_ARCH_X86_64, arch.AUDIT_ARCH_AARCH64])
@pytest.mark.parametrize("locked", [False, True])
def test_a_filter_is_one_that_the_kernel_takes(
    audit_arch: int, locked: bool, table: tuple[confine.Row, ...]
) -> None:
    program = confine.filter_of(audit_arch, locked=locked, table=table)
    count = len(program) // SOCK_FILTER.size
    assert count < 4096  # BPF_MAXINSNS
    for at in range(count):
        code, jump_true, jump_false, _k = SOCK_FILTER.unpack_from(program, 8 * at)
        if code == 0x15:
            assert at + 1 + max(jump_true, jump_false) < count


def data_size() -> int:
    """The bytes that RLIMIT_DATA counts of this process: those of the tests may be many."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[5]) * resource.getpagesize()


def locked(probe: Callable[[], str]) -> str:
    """What ``probe`` returns in a locked process."""

    def confined() -> str:
        confine.restrict(1)
        confine.limit_memory(data_size() + (1 << 30))
        confine.lock()
        return probe()

    return in_locked_child(confined)


def test_limits() -> None:
    limits = (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)

    def probe() -> str:
        confine._limit(resource.RLIMIT_CORE, 1 << 20)  # nobody may raise it again
        return str([resource.getrlimit(kind) for kind in limits])

    with pytest.raises(OSError, match="not permitted"):
        locked(probe)


def test_memory_grows_up_to_the_limit() -> None:
    def probe() -> str:
        parts = [bytes(1 << 20) for _ in range(20)]
        try:
            bytes(1 << 30)
        except MemoryError:
            return str(len(parts))
        return "more"

    assert locked(probe) == "20"


def test_a_child_cannot_be_made() -> None:
    def probe() -> str:
        try:
            os.fork()
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "made"

    assert locked(probe) == "EPERM"


def test_descriptors_from_before_are_closed() -> None:
    def probe() -> str:
        try:
            os.dup(reader)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "open"

    reader, writer = os.pipe()
    try:
        assert locked(probe) == "EBADF"
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("lock", [confine.lock, confine.lock_ta, confine.lock_template])
def test_lock_needs_the_first_step(lock: Callable[[], None]) -> None:
    with pytest.raises(RuntimeError):
        lock()


def test_a_template_forks_what_is_locked() -> None:
    """What it forks can be locked further, and has no more than a TA then."""

    def probe() -> str:
        confine.restrict(1)
        confine.lock_template()
        try:
            list(Path("/").iterdir())
        except PermissionError:
            pid = os.fork()
            if not pid:
                confine.lock_ta()
                try:
                    os.fork()
                except PermissionError:
                    os._exit(7)
                os._exit(0)
            return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        return "files"

    assert in_locked_child(probe) == "7"
