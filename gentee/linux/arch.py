# SPDX-License-Identifier: BSD-2-Clause
"""System call numbers and audit architectures, <asm/unistd.h> and <linux/audit.h>.

A filter must look at the architecture before the number: the same number means different calls
to x86-64, i386 and aarch64 programs, and one kernel runs several of them.
"""

import os

AUDIT_ARCH_X86_64 = 0xC000003E
AUDIT_ARCH_I386 = 0x40000003
AUDIT_ARCH_AARCH64 = 0xC00000B7
AUDIT_ARCH_ARM = 0x40000028

X32_SYSCALL_BIT = 0x40000000

# fmt: off
SYS: dict[int, dict[str, int]] = {
    AUDIT_ARCH_X86_64: {
        "open": 2, "ioctl": 16, "creat": 85, "openat": 257, "openat2": 437,
        "futex": 202, "kcmp": 312, "seccomp": 317, "memfd_create": 319, "pidfd_open": 434,
        "pidfd_getfd": 438, "open_tree": 428, "move_mount": 429,
        "capset": 126, "landlock_create_ruleset": 444, "landlock_add_rule": 445,
        "landlock_restrict_self": 446,
    },
    AUDIT_ARCH_I386: {
        "open": 5, "creat": 8, "ioctl": 54, "openat": 295, "openat2": 437,
        "futex": 240, "kcmp": 349, "seccomp": 354, "memfd_create": 356, "pidfd_open": 434,
        "pidfd_getfd": 438, "open_tree": 428, "move_mount": 429,
        "capset": 185, "landlock_create_ruleset": 444, "landlock_add_rule": 445,
        "landlock_restrict_self": 446,
    },
    AUDIT_ARCH_AARCH64: {
        "ioctl": 29, "openat": 56, "openat2": 437,
        "futex": 98, "kcmp": 272, "seccomp": 277, "memfd_create": 279, "pidfd_open": 434,
        "pidfd_getfd": 438, "open_tree": 428, "move_mount": 429,
        "capset": 91, "landlock_create_ruleset": 444, "landlock_add_rule": 445,
        "landlock_restrict_self": 446,
    },
    AUDIT_ARCH_ARM: {
        "open": 5, "creat": 8, "ioctl": 54, "openat": 322, "openat2": 437,
        "futex": 240, "kcmp": 378, "seccomp": 383, "memfd_create": 385, "pidfd_open": 434,
        "pidfd_getfd": 438, "open_tree": 428, "move_mount": 429,
        "capset": 185, "landlock_create_ruleset": 444, "landlock_add_rule": 445,
        "landlock_restrict_self": 446,
    },
}
# fmt: on

# The architectures whose programs a kernel of ours can run, its own first.
_COMPATIBLE = {
    "x86_64": (AUDIT_ARCH_X86_64, AUDIT_ARCH_I386),
    "aarch64": (AUDIT_ARCH_AARCH64, AUDIT_ARCH_ARM),
}

MACHINE = os.uname().machine
ARCHES: tuple[int, ...] = _COMPATIBLE.get(MACHINE, ())
NATIVE: dict[str, int] = SYS[ARCHES[0]] if ARCHES else {}
