# SPDX-License-Identifier: BSD-2-Clause
"""seccomp user notification, <linux/seccomp.h>: filters, and the listener's ioctls.

Some facts about seccomp notification
=====================================

A filter is a program of classic BPF over ``struct seccomp_data``. Where it returns
``SECCOMP_RET_USER_NOTIF`` the calling thread sleeps, and whoever holds the listener decides what
the call answers. Everything else runs at the kernel's own speed.

- A task can have one listener. A second filter with ``NEW_LISTENER`` is EBUSY, so neither a
  gentee inside a gentee nor one inside a container whose runtime listens can work.
- Installing a filter wants CAP_SYS_ADMIN in the task's user namespace, or no_new_privs.
- The receive buffer must be zero before each receive, or the kernel answers EINVAL.
- ``pid`` in a notification is a *thread* id, in the PID namespace of the receiver.
- What the caller's pointers point to can change at any time: read once, decide on the copy.
- ``ADDFD`` installs a descriptor in the caller; with ``SEND`` it also answers the call with that
  descriptor's number, in one step, so nothing can be lost between the two.
- ENOENT from SEND, ADDFD or RECV: the caller is gone or was interrupted. Undo what was done.
- A signal that is not fatal interrupts a waiting caller, who then repeats the call, unless the
  filter was made with ``WAIT_KILLABLE_RECV`` (Linux 5.19): from the receive on, only a fatal
  signal ends the wait.
- ``FD_SYNC_WAKE_UP`` (Linux 6.6) makes each side wake the other on its own CPU. A call then
  costs two switches instead of two wake-ups of an idle CPU, which is more than ten times less.
- A blocked receive ends by itself when no task has the filter any more only since Linux 6.11.
"""

import ctypes
import errno
import fcntl
from collections.abc import Iterable
from struct import Struct

from gentee.linux import arch
from gentee.linux.libc import PR_SET_NO_NEW_PRIVS, prctl, syscall

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_GET_NOTIF_SIZES = 3

SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5

SECCOMP_RET_KILL_PROCESS = 0x80000000
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_USER_NOTIF = 0x7FC00000
SECCOMP_RET_ALLOW = 0x7FFF0000

SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1 << 0
SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP = 1 << 0

SECCOMP_ADDFD_FLAG_SETFD = 1 << 0
SECCOMP_ADDFD_FLAG_SEND = 1 << 1

SECCOMP_IOCTL_NOTIF_RECV = 0xC0502100
SECCOMP_IOCTL_NOTIF_SEND = 0xC0182101
SECCOMP_IOCTL_NOTIF_ID_VALID = 0x40082102
SECCOMP_IOCTL_NOTIF_ADDFD = 0x40182103
SECCOMP_IOCTL_NOTIF_SET_FLAGS = 0x40082104

SECCOMP_NOTIF = Struct("<QIIiIQ6Q")  # id pid flags, nr arch instruction_pointer args[6]
SECCOMP_NOTIF_RESP = Struct("<QqiI")  # id val error flags
SECCOMP_NOTIF_ADDFD = Struct("<QIIII")  # id flags srcfd newfd newfd_flags

# struct sock_filter {u16 code; u8 jt, jf; u32 k} and the few instructions that we need.
SOCK_FILTER = Struct("<HBBI")
BPF_LD_W_ABS = 0x20
BPF_JEQ_K = 0x15
BPF_AND_K = 0x54
BPF_RET_K = 0x06

DATA_NR = 0  # offsets in struct seccomp_data
DATA_ARCH = 4
DATA_ARGS = 16


class FilterBuilder:
    """Assembles a filter that notifies for some calls and allows all others.

    ``jump_unless`` and friends keep the jumps short and readable: a rule is a list of
    instructions, and every comparison that fails leaves the whole rule.
    """

    def __init__(self) -> None:
        self._rules: list[list[tuple[int, int]]] = []  # (code, k); JEQ leaves the rule if unequal

    def notify(self, audit_arch: int, nr: int) -> None:
        """Notify for system call ``nr`` of ``audit_arch``, whatever its arguments."""
        self._rules.append(
            [
                (BPF_LD_W_ABS, DATA_ARCH),
                (BPF_JEQ_K, audit_arch),
                (BPF_LD_W_ABS, DATA_NR),
                (BPF_JEQ_K, nr),
                (BPF_RET_K, SECCOMP_RET_USER_NOTIF),
            ]
        )

    def notify_ioctl_magic(self, audit_arch: int, nr: int, magic: int) -> None:
        """Notify for an ``ioctl`` (call ``nr``) whose command has this magic, bits 8 to 15.

        Only the low 32 bits of the command count: the kernel's own ``cmd`` is an unsigned int.
        """
        self._rules.append(
            [
                (BPF_LD_W_ABS, DATA_ARCH),
                (BPF_JEQ_K, audit_arch),
                (BPF_LD_W_ABS, DATA_NR),
                (BPF_JEQ_K, nr),
                (BPF_LD_W_ABS, DATA_ARGS + 8),
                (BPF_AND_K, 0xFF00),
                (BPF_JEQ_K, magic << 8),
                (BPF_RET_K, SECCOMP_RET_USER_NOTIF),
            ]
        )

    def notify_ioctl(self, audit_arch: int, nr: int, command: int) -> None:
        """Notify for an ``ioctl`` (call ``nr``) with this command and no other."""
        self._rules.append(
            [
                (BPF_LD_W_ABS, DATA_ARCH),
                (BPF_JEQ_K, audit_arch),
                (BPF_LD_W_ABS, DATA_NR),
                (BPF_JEQ_K, nr),
                (BPF_LD_W_ABS, DATA_ARGS + 8),
                (BPF_JEQ_K, command),
                (BPF_RET_K, SECCOMP_RET_USER_NOTIF),
            ]
        )

    def build(self) -> bytes:
        """The program, as an array of ``struct sock_filter``."""
        program = bytearray()
        for rule in self._rules:
            for position, (code, k) in enumerate(rule):
                leave = len(rule) - position - 1 if code == BPF_JEQ_K else 0
                program += SOCK_FILTER.pack(code, 0, leave, k)
        program += SOCK_FILTER.pack(BPF_RET_K, 0, 0, SECCOMP_RET_ALLOW)
        return bytes(program)


class Test:
    """Whether ``argument & mask == value``, of the low 32 bits of argument 0 to 5 of a call."""

    __slots__ = ("argument", "mask", "value")

    def __init__(self, argument: int, value: int, mask: int = 0xFFFF_FFFF) -> None:
        self.argument = argument
        self.value = value
        self.mask = mask


# When a system call is permitted: all tests of one of the alternatives hold.
Rule = tuple[tuple[Test, ...], ...]
ALWAYS: Rule = ((),)
NEVER: Rule = ()


def allow_filter(audit_arch: int, rules: Iterable[tuple[int, Rule]], error: int) -> bytes:
    """A filter that permits what ``rules`` say, by number; all else fails with errno ``error``.

    A program of another architecture is killed, for its numbers mean something else.
    """
    refuse = (BPF_RET_K, 0, 0, SECCOMP_RET_ERRNO | error)
    allow = (BPF_RET_K, 0, 0, SECCOMP_RET_ALLOW)
    program = [
        (BPF_LD_W_ABS, 0, 0, DATA_ARCH),
        (BPF_JEQ_K, 1, 0, audit_arch),
        (BPF_RET_K, 0, 0, SECCOMP_RET_KILL_PROCESS),
        (BPF_LD_W_ABS, 0, 0, DATA_NR),
    ]
    for nr, rule in rules:
        body = []
        for tests in rule:
            for position, test in enumerate(tests):
                leave = 3 * (len(tests) - position - 1) + 1  # to the next alternative
                body += [
                    (BPF_LD_W_ABS, 0, 0, DATA_ARGS + 8 * test.argument),
                    (BPF_AND_K, 0, 0, test.mask),
                    (BPF_JEQ_K, 0, leave, test.value),
                ]
            body.append(allow)
        if () not in rule:
            body.append(refuse)
        program += [(BPF_JEQ_K, 0, len(body), nr), *body]
    program.append(refuse)
    return b"".join(SOCK_FILTER.pack(*instruction) for instruction in program)


class _SockFprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class PreparedFilter:
    """A filter without listener, ready to be installed by one system call."""

    __slots__ = ("_array", "_fprog")

    def __init__(self, program: bytes) -> None:
        self._array = ctypes.create_string_buffer(program, len(program))
        length = len(program) // SOCK_FILTER.size
        self._fprog = _SockFprog(length, ctypes.addressof(self._array))

    def install(self) -> None:
        """On the calling thread, which has no_new_privs."""
        number = arch.NATIVE["seccomp"]
        address = ctypes.addressof(self._fprog)
        syscall("seccomp", number, SECCOMP_SET_MODE_FILTER, 0, address)


def install_filter(program: bytes, *, notify: bool = True) -> int:
    """Install ``program`` on the calling thread and return the listener's descriptor.

    Sets no_new_privs only where the kernel wants it, so that root's programs keep what setuid
    and capabilities give them. Raises ``OSError``: EBUSY where the task already has a listener.
    """
    array = ctypes.create_string_buffer(program, len(program))
    fprog = _SockFprog(len(program) // SOCK_FILTER.size, ctypes.addressof(array))
    address = ctypes.addressof(fprog)
    flags = SECCOMP_FILTER_FLAG_NEW_LISTENER if notify else 0
    attempts = [flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, flags] if notify else [flags]
    for attempt in attempts:
        try:
            return _seccomp_set_filter(attempt, address)
        except OSError as error:
            # EINVAL: a kernel before 5.19 does not know WAIT_KILLABLE_RECV.
            if error.errno != errno.EINVAL or attempt is attempts[-1]:
                raise
    raise AssertionError("unreachable")


def _seccomp_set_filter(flags: int, address: int) -> int:
    number = arch.NATIVE["seccomp"]
    try:
        return syscall("seccomp", number, SECCOMP_SET_MODE_FILTER, flags, address)
    except OSError as error:
        if error.errno != errno.EACCES:
            raise
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    return syscall("seccomp", number, SECCOMP_SET_MODE_FILTER, flags, address)


def set_sync_wake_up(listener: int, on: bool = True) -> bool:
    """Turn ``FD_SYNC_WAKE_UP`` on or off and say whether the kernel has it (Linux 6.6)."""
    flags = SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP if on else 0
    try:
        fcntl.ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTTY):
            raise
        return False
    return True
