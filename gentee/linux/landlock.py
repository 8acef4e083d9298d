# SPDX-License-Identifier: BSD-2-Clause
"""Landlock, <linux/landlock.h>: a process gives up files, network and signals by itself.

Some facts about it
===================

- What a ruleset handles is denied, unless a rule of it says otherwise. A kernel knows the rights
  up to its ABI version only, and refuses others, so what is asked for depends on the version.
- It needs no_new_privs, or CAP_SYS_ADMIN. It holds for what is opened from then on, not for
  descriptors that are there already, and children inherit it.
- A further ruleset can only take more away.
- A container's own seccomp profile may hide it: then it looks as if the kernel had none.
"""

import ctypes
import os
from struct import Struct

from gentee.linux import arch
from gentee.linux.libc import syscall

_CREATE_RULESET_VERSION = 1 << 0
_RULE_PATH_BENEATH = 1

ACCESS_FS_READ_FILE = 1 << 2
ACCESS_FS_READ_DIR = 1 << 3

# The highest bit of each kind of right, by the ABI version that brought it.
_FS_BITS = {1: 13, 2: 14, 3: 15, 5: 16}
_NET_BITS = {4: 2}  # TCP: bind, connect
_SCOPE_BITS = {6: 2}  # abstract UNIX sockets, signals

_RULESET_ATTR = Struct("<QQQ")  # handled_access_fs handled_access_net scoped
_PATH_BENEATH_ATTR = Struct("<Qi")  # allowed_access parent_fd, packed


def abi_version() -> int:
    """The ABI version of this kernel, 0 where there is no Landlock, or none that is turned on."""
    number = arch.NATIVE["landlock_create_ruleset"]
    try:
        return syscall("landlock_create_ruleset", number, 0, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def _all_of(bits: dict[int, int], version: int) -> int:
    known = max((number for since, number in bits.items() if since <= version), default=0)
    return (1 << known) - 1


def create_ruleset(version: int) -> int:
    """A ruleset that denies all that ABI ``version`` knows; its descriptor."""
    attr = ctypes.create_string_buffer(
        _RULESET_ATTR.pack(
            _all_of(_FS_BITS, version),
            _all_of(_NET_BITS, version),
            _all_of(_SCOPE_BITS, version),
        ),
        _RULESET_ATTR.size,
    )
    number = arch.NATIVE["landlock_create_ruleset"]
    address = ctypes.addressof(attr)
    return syscall("landlock_create_ruleset", number, address, _RULESET_ATTR.size, 0)


def allow_beneath(ruleset: int, path: str, access: int) -> None:
    """Permit ``access`` to what is at ``path`` and below."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        attr = ctypes.create_string_buffer(_PATH_BENEATH_ATTR.pack(access, fd))
        number = arch.NATIVE["landlock_add_rule"]
        address = ctypes.addressof(attr)
        syscall("landlock_add_rule", number, ruleset, _RULE_PATH_BENEATH, address, 0)
    finally:
        os.close(fd)


def restrict_self(ruleset: int) -> None:
    """Put the calling thread, and what it starts, under ``ruleset``."""
    syscall("landlock_restrict_self", arch.NATIVE["landlock_restrict_self"], ruleset, 0)
