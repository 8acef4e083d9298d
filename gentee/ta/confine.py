# SPDX-License-Identifier: BSD-2-Clause
"""How a service's process is locked in. See docs/threat-model.md for what this holds against.

It happens in two steps. :func:`restrict` is for the warm parent, before it forks the first service:
all services inherit it. It leaves what importing modules takes, which is reading files, and a plain
fork. :func:`lock` is for a service's process, after the modules from outside that its code wants
have been imported, and before any of its own code runs. Both are system calls that only take away.

The processes of OP-TEE's TAs import nothing, and need far less than an interpreter may: they have a
table of their own, :data:`TA_TABLE`, and :func:`lock_ta`. What they do run is native code that the
engine makes of the TA's, in pages that it got before: whoever gets out of the engine can execute
what he likes there, and this table is all that he has. A process that has a TA ready and is forked
for each of its instances (:func:`lock_template`) may fork and lock, besides.

Some facts about memory
=======================

- RLIMIT_DATA counts private pages that can be written. So there must be no way to pages that are
  used up and not counted: none that are shared but of no file, none that grow like a stack, and no
  mprotect() of written pages to read-only, after which they are not counted any more.
- RLIMIT_AS is for the kernel's own tables, which mappings without content take.
- Nothing that can be written, or could once, may be executed: no native code but what was loaded.
"""

import ctypes
import errno
import fcntl
import os
import resource
from struct import Struct

from gentee.abi.ta_channel import TA_IOC_HELLO
from gentee.linux import arch, landlock
from gentee.linux.libc import (
    PR_SET_DUMPABLE,
    PR_SET_NAME,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    prctl,
    syscall,
)
from gentee.linux.seccomp import ALWAYS, NEVER, PreparedFilter, Rule, Test, allow_filter

_FIOCLEX, _FIONCLEX = 0x5451, 0x5450  # <asm-generic/ioctls.h>
_SIGCHLD = 17
_CLONE_TIDS = 0x0130_0000  # CHILD_CLEARTID, CHILD_SETTID, PARENT_SETTID: what fork() passes
_OPEN_FOR_WRITING = 0x0040_0243  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, __O_TMPFILE
_PROT_READ_WRITE, _PROT_EXEC = 3, 4
_MAP_PRIVATE_ANONYMOUS = 0x22
# What private memory may ask for besides: MAP_FIXED, _NORESERVE, _POPULATE, _STACK (which does
# nothing), _FIXED_NOREPLACE. Neither a place that grows down nor huge or locked pages.
_MAP_HARMLESS = 0x0012_C010
# MAP_ANONYMOUS, _GROWSDOWN, _LOCKED, _HUGETLB: what a map of a file must not be.
_MAP_UNCOUNTED = 0x0004_2120
_MADV_DONTNEED, _MADV_FREE = 4, 8
_F_DUPFD_CLOEXEC = 1030


def _one_of(argument: int, *values: int) -> Rule:
    return tuple((Test(argument, value),) for value in values)


_TA_IOCTL = (Test(0, 0), Test(1, TA_IOC_HELLO & ~0xF, 0xFFFF_FFF0))
_NO_EXEC = Test(2, 0, _PROT_EXEC)
_COUNTED_MAPS = (
    (_NO_EXEC, Test(3, 0, _MAP_UNCOUNTED)),
    (_NO_EXEC, Test(3, _MAP_PRIVATE_ANONYMOUS, 0xFFFF_FFFF ^ _MAP_HARMLESS)),
)
_FORK = ((Test(0, _SIGCHLD, 0xFFFF_FFFF ^ _CLONE_TIDS),),)


class Row:
    """A system call: its numbers, when it is permitted before and after the lock, and why."""

    __slots__ = ("aarch64", "loading", "locked", "name", "reason", "x86_64")

    def __init__(
        self,
        name: str,
        x86_64: int | None,
        aarch64: int | None,
        loading: Rule,
        locked: Rule,
        reason: str,
    ) -> None:
        self.name = name
        self.x86_64 = x86_64
        self.aarch64 = aarch64
        self.loading = loading
        self.locked = locked
        self.reason = reason


# Every other system call is EPERM. The trapped one is first: it alone is on the road of a call, and
# the kernel knows without running the filter which calls are permitted whatever their arguments.
# fmt: off
TABLE = (
    Row("ioctl", 16, 29, (_TA_IOCTL, *_one_of(1, _FIOCLEX, _FIONCLEX)), (_TA_IOCTL,),
        "the channel to the TEE; before the lock os.set_inheritable() too"),
    # Memory.
    Row("mmap", 9, 222, ALWAYS, _COUNTED_MAPS,
        "the pages of clients, and memory of its own that is counted"),
    Row("munmap", 11, 215, ALWAYS, ALWAYS, "to let go of memory"),
    Row("mremap", 25, 216, ALWAYS, ALWAYS, "realloc(), and maps that move (gentee.linux.maps)"),
    Row("mprotect", 10, 226, ALWAYS, _one_of(2, _PROT_READ_WRITE),
        "the allocator; read-only pages would not be counted, executable ones must not be"),
    Row("brk", 12, 214, ALWAYS, ALWAYS, "the allocator"),
    Row("madvise", 28, 233, ALWAYS, _one_of(2, _MADV_DONTNEED, _MADV_FREE),
        "the allocator gives pages back"),
    # Its log, and descriptors that it was given.
    Row("write", 1, 64, _one_of(0, 1, 2), _one_of(0, 1, 2), "the log"),
    Row("writev", 20, 66, _one_of(0, 1, 2), _one_of(0, 1, 2), "the log, from the C library"),
    Row("close", 3, 57, ALWAYS, ALWAYS, "descriptors that were mapped"),
    Row("dup", 32, 23, ALWAYS, ALWAYS, "the mmap module duplicates what it maps"),
    Row("fcntl", 72, 25, ALWAYS, _one_of(1, 0, 1, 2, 3, _F_DUPFD_CLOEXEC),
        "the same: F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC; no locks, leases, signals"),
    Row("fstat", 5, 80, ALWAYS, ALWAYS, "the size of what is mapped"),
    # The interpreter.
    Row("futex", 202, 98, ALWAYS, ALWAYS, "locks"),
    Row("sched_yield", 24, 124, ALWAYS, ALWAYS, "locks"),
    Row("rseq", 334, 293, ALWAYS, ALWAYS, "the C library, in a forked process"),
    Row("set_robust_list", 273, 99, ALWAYS, ALWAYS, "the C library, in a forked process"),
    Row("rt_sigaction", 13, 134, ALWAYS, ALWAYS, "handlers of its own signals"),
    Row("rt_sigprocmask", 14, 135, ALWAYS, ALWAYS, "the C library: abort()"),
    Row("rt_sigreturn", 15, 139, ALWAYS, ALWAYS, "the return from a handler"),
    Row("sigaltstack", 131, 132, ALWAYS, ALWAYS, "faulthandler"),
    Row("getpid", 39, 172, ALWAYS, ALWAYS, "logging, random; its own number only"),
    Row("getppid", 110, 173, ALWAYS, ALWAYS, "a number, which libraries trust to be there"),
    Row("getuid", 102, 174, ALWAYS, ALWAYS, "the same"),
    Row("geteuid", 107, 175, ALWAYS, ALWAYS, "the same"),
    Row("getgid", 104, 176, ALWAYS, ALWAYS, "the same"),
    Row("getegid", 108, 177, ALWAYS, ALWAYS, "the same"),
    Row("gettid", 186, 178, ALWAYS, ALWAYS, "threading.get_native_id()"),
    Row("prctl", 157, 167,
        _one_of(0, PR_SET_NAME, PR_SET_PDEATHSIG), _one_of(0, PR_SET_NAME),
        "its name; before the lock the lock itself, and to end with the warm parent"),
    Row("exit", 60, 93, ALWAYS, ALWAYS, "its end"),
    Row("exit_group", 231, 94, ALWAYS, ALWAYS, "its end"),
    # Time and random.
    Row("clock_gettime", 228, 113, ALWAYS, ALWAYS, "time, where the vDSO has no clock"),
    Row("clock_getres", 229, 114, ALWAYS, ALWAYS, "time.get_clock_info()"),
    Row("gettimeofday", 96, 169, ALWAYS, ALWAYS, "time"),
    Row("time", 201, None, ALWAYS, ALWAYS, "time"),
    Row("nanosleep", 35, 101, ALWAYS, ALWAYS, "sleep"),
    Row("clock_nanosleep", 230, 115, ALWAYS, ALWAYS, "sleep"),
    Row("restart_syscall", 219, 128, ALWAYS, ALWAYS, "a sleep that was stopped and goes on"),
    Row("getrandom", 318, 278, ALWAYS, ALWAYS, "random numbers"),
    # Only before the lock: to import modules from outside.
    Row("open", 2, None, ((Test(1, 0, _OPEN_FOR_WRITING),),), NEVER, "modules are read"),
    Row("openat", 257, 56, ((Test(2, 0, _OPEN_FOR_WRITING),),), NEVER, "modules are read"),
    Row("read", 0, 63, ALWAYS, NEVER, "modules are read"),
    Row("pread64", 17, 67, ALWAYS, NEVER, "its own code is read; shared libraries"),
    Row("lseek", 8, 62, ALWAYS, NEVER, "modules are read"),
    Row("stat", 4, None, ALWAYS, NEVER, "modules are found"),
    Row("lstat", 6, None, ALWAYS, NEVER, "modules are found"),
    Row("newfstatat", 262, 79, ALWAYS, NEVER, "modules are found"),
    Row("statx", 332, 291, ALWAYS, NEVER, "modules are found"),
    Row("access", 21, None, ALWAYS, NEVER, "shared libraries are found"),
    Row("faccessat", 269, 48, ALWAYS, NEVER, "shared libraries are found"),
    Row("faccessat2", 439, 439, ALWAYS, NEVER, "shared libraries are found"),
    Row("readlink", 89, None, ALWAYS, NEVER, "modules are found"),
    Row("readlinkat", 267, 78, ALWAYS, NEVER, "modules are found"),
    Row("getdents64", 217, 61, ALWAYS, NEVER, "modules are found"),
    Row("getcwd", 79, 17, ALWAYS, NEVER, "modules ask at import"),
    Row("statfs", 137, 43, ALWAYS, NEVER, "shared libraries ask at import"),
    Row("fstatfs", 138, 44, ALWAYS, NEVER, "shared libraries ask at import"),
    Row("uname", 63, 160, ALWAYS, NEVER, "modules ask at import"),
    Row("sysinfo", 99, 179, ALWAYS, NEVER, "shared libraries ask at import"),
    Row("sched_getaffinity", 204, 123, ALWAYS, NEVER, "modules ask at import"),
    Row("getrusage", 98, 165, ALWAYS, NEVER, "modules ask at import"),
    # And for the warm parent, and the lock.
    Row("clone", 56, 220, _FORK, NEVER,
        "fork(); neither threads, which the lock would not reach, nor namespaces"),
    Row("wait4", 61, 260, ALWAYS, NEVER, "the warm parent collects services"),
    Row("sendto", 44, 206, ALWAYS, NEVER, "the warm parent's socket; nobody can make another"),
    Row("recvfrom", 45, 207, ALWAYS, NEVER, "the warm parent's socket"),
    Row("prlimit64", 302, 261, _one_of(0, 0), NEVER, "limits of its own"),
    Row("seccomp", 317, 277, ALWAYS, NEVER, "the lock"),
    Row("landlock_restrict_self", 446, 446, ALWAYS, NEVER, "the lock"),
)
# fmt: on


# The same for OP-TEE's TAs, after the first step: in a template, and in the process of an instance.
# fmt: off
TA_TABLE = (
    Row("ioctl", 16, 29, (_TA_IOCTL,), (_TA_IOCTL,), "the channel to the TEE"),
    # Memory. Neither mprotect nor mremap: the allocator of one thread gets along without them.
    Row("mmap", 9, 222, _COUNTED_MAPS, _COUNTED_MAPS,
        "memory of the TA, pages of clients, libraries; the allocator"),
    Row("munmap", 11, 215, ALWAYS, ALWAYS, "to let go of memory"),
    Row("brk", 12, 214, ALWAYS, ALWAYS, "the allocator"),
    # Its log, and descriptors that it was given.
    Row("write", 1, 64, _one_of(0, 1, 2), _one_of(0, 1, 2), "the log, the crash report"),
    Row("writev", 20, 66, _one_of(0, 2), _one_of(0, 2), "last words of the C library"),
    Row("close", 3, 57, ALWAYS, ALWAYS, "descriptors that were mapped"),
    Row("fcntl", 72, 25, _one_of(1, _F_DUPFD_CLOEXEC), _one_of(1, _F_DUPFD_CLOEXEC),
        "the mmap module duplicates what it maps"),
    # The interpreter.
    Row("futex", 202, 98, ALWAYS, ALWAYS, "locks; an instance that rests"),
    Row("clock_gettime", 228, 113, ALWAYS, ALWAYS, "time, where the vDSO has no clock"),
    Row("clock_nanosleep", 230, 115, ALWAYS, ALWAYS, "TEE_Wait that cannot be cancelled"),
    Row("restart_syscall", 219, 128, ALWAYS, ALWAYS, "a sleep that was stopped and goes on"),
    Row("getrandom", 318, 278, ALWAYS, ALWAYS, "random numbers, random places"),
    Row("getpid", 39, 172, ALWAYS, ALWAYS, "OpenSSL, to know that it was forked; fork()"),
    Row("exit_group", 231, 94, ALWAYS, ALWAYS, "its end"),
    # Of templates only: to fork, and to lock what was forked.
    Row("clone", 56, 220, _FORK, NEVER, "fork()"),
    Row("wait4", 61, 260, ALWAYS, NEVER, "instances are collected"),
    Row("rt_sigprocmask", 14, 135, ALWAYS, NEVER, "fork()"),
    Row("set_robust_list", 273, 99, ALWAYS, NEVER, "the C library, in a forked process"),
    Row("rseq", 334, 293, ALWAYS, NEVER, "the C library, in a forked process"),
    Row("getppid", 110, 173, ALWAYS, NEVER, "the same"),
    Row("gettid", 186, 178, ALWAYS, NEVER, "the C library, in a forked process"),
    Row("prctl", 157, 167, _one_of(0, PR_SET_PDEATHSIG), NEVER, "to end with the template"),
    Row("prlimit64", 302, 261, _one_of(0, 0), NEVER, "limits of its own"),
    Row("seccomp", 317, 277, ALWAYS, NEVER, "the lock"),
    Row("landlock_restrict_self", 446, 446, ALWAYS, NEVER, "the lock"),
)
# fmt: on


def filter_of(audit_arch: int, *, locked: bool, table: "tuple[Row, ...]" = TABLE) -> bytes:
    """The filter of a step, for x86-64 or aarch64."""
    rules = []
    for row in table:
        number = row.x86_64 if audit_arch == arch.AUDIT_ARCH_X86_64 else row.aarch64
        rule = row.locked if locked else row.loading
        if number is not None and rule != NEVER:
            rules.append((number, rule))
    return allow_filter(audit_arch, rules, errno.EPERM)


_MAX_FDS = 64  # of a service: it is given one at a time, and closes it when it is mapped
_MAX_STACK = 8 << 20
# Of address space, besides private memory: room for the pages of clients. The kernel needs 1/512 of
# it for its own tables.
_MAX_ADDRESS_SPACE = 64 << 30

_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_LINUX_CAPABILITY_VERSION_3 = 0x20080522


class _Lock:
    """What the locks need, made ahead: each service pays for the system calls only."""

    __slots__ = ("filter", "ruleset", "ta_filter", "template_filter")

    def __init__(self, version: int) -> None:
        native = arch.ARCHES[0]
        self.filter = PreparedFilter(filter_of(native, locked=True))
        self.ta_filter = PreparedFilter(filter_of(native, locked=True, table=TA_TABLE))
        self.template_filter = PreparedFilter(filter_of(native, locked=False, table=TA_TABLE))
        self.ruleset = -1
        if version:
            ruleset = landlock.create_ruleset(version)
            # Not a number that the log will have: gentee may have been started with 1 or 2 closed.
            self.ruleset = fcntl.fcntl(ruleset, fcntl.F_DUPFD_CLOEXEC, 3)
            os.close(ruleset)


_lock: _Lock | None = None


def restrict(keep_fd: int) -> None:
    """The first step, for the warm parent; what it has open besides ``keep_fd`` is closed.

    Raises ``OSError`` where the kernel has no filters. Without Landlock the rest still holds.
    """
    global _lock
    os.environ.clear()
    os.closerange(3, keep_fd)
    os.closerange(max(3, keep_fd + 1), (1 << 31) - 1)
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_MEMLOCK):
        _limit(kind, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    _drop_capabilities()
    version = landlock.abi_version()
    _lock = _Lock(version)
    if version:
        _read_files_only(version)
    # Others of this user can neither trace nor look into what is not dumpable.
    prctl(PR_SET_DUMPABLE, 0)
    PreparedFilter(filter_of(arch.ARCHES[0], locked=False)).install()


def lock() -> None:
    """The last step, for a service's process: from here on only what it needs to serve commands."""
    _without_files().filter.install()


def lock_ta() -> None:
    """The same for the process of an OP-TEE TA, before it looks at anything that the TA says."""
    _without_files().ta_filter.install()


def lock_template() -> None:
    """The same for a process that is to be forked for instances of a TA: each of them is to call
    :func:`lock_ta`.
    """
    _without_files().template_filter.install()


def _without_files() -> _Lock:
    """What a lock does besides its filter."""
    prepared = _lock
    if prepared is None:
        raise RuntimeError("restrict() comes first")
    _limit(resource.RLIMIT_NOFILE, _MAX_FDS)
    if prepared.ruleset >= 0:
        landlock.restrict_self(prepared.ruleset)
        os.close(prepared.ruleset)
        prepared.ruleset = -1  # what a template forks has it already
    return prepared


def limit_memory(memory_limit: int) -> None:
    """Bytes of private memory that this process may have, with what the interpreter has already."""
    _limit(resource.RLIMIT_DATA, memory_limit)
    _limit(resource.RLIMIT_AS, memory_limit + _MAX_ADDRESS_SPACE)
    _limit(resource.RLIMIT_STACK, _MAX_STACK)


def _limit(kind: int, most: int) -> None:
    _soft, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:  # nobody may raise a limit that is lower already
        most = min(most, hard)
    resource.setrlimit(kind, (most, most))


def _drop_capabilities() -> None:
    """All sets, so that root is nobody special in here but the owner of its files."""
    try:
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
        for number in range(64):
            prctl(_PR_CAPBSET_DROP, number)
    except OSError as error:
        # EINVAL: no such capability. EPERM: an ordinary user, who has nothing to drop there.
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
    header = ctypes.create_string_buffer(Struct("<Ii").pack(_LINUX_CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(24)
    number = arch.NATIVE["capset"]
    syscall("capset", number, ctypes.addressof(header), ctypes.addressof(data))


def _read_files_only(version: int) -> None:
    """Landlock's part of the first step."""
    ruleset = landlock.create_ruleset(version)
    try:
        access = landlock.ACCESS_FS_READ_FILE | landlock.ACCESS_FS_READ_DIR
        landlock.allow_beneath(ruleset, "/", access)
        landlock.restrict_self(ruleset)
    finally:
        os.close(ruleset)
