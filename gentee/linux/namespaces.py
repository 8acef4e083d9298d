# SPDX-License-Identifier: BSD-2-Clause
"""Namespaces and mounts: a ``/dev`` with device files of our own, as root or as anybody.

Some facts about this
=====================

- An ordinary user may mount in a user namespace of its own. Its ids are mapped to themselves, never
  to root: a program must not believe that it has rights it has not.
- Supplementary groups cannot be mapped without privilege; in there they read as the overflow group.
- Debian allows user namespaces to everybody, Ubuntu 24.04 by its default only to programs with an
  AppArmor profile, many containers to nobody: then the caller has to do without.
- As root only a mount namespace is made, so that nothing else changes for the program.
- The old ``/dev`` stays reachable through a descriptor of it while it is covered, which is how its
  entries are bound into the new one.
- A ``ptmx`` that is a device finds ``pts`` in its own folder of its own file system, so bound
  elsewhere it opens no terminals. It must be reached through that folder as a whole.
"""

import ctypes
import errno
import os
import stat

from gentee.linux import arch
from gentee.linux.libc import libc, oserror, syscall

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

MS_NOSUID = 2
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19

AT_FDCWD = -100
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 4

_unshare = libc.unshare
_unshare.restype = ctypes.c_int
_unshare.argtypes = (ctypes.c_int,)

_mount = libc.mount
_mount.restype = ctypes.c_int
_mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)


def unshare(flags: int) -> None:
    """unshare(2)."""
    if _unshare(flags) < 0:
        raise oserror("unshare")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode(), flags, data.encode())
    if _mount(*arguments) < 0:
        raise oserror("mount", target)


def clone_tree(path: str) -> int:
    """open_tree(2): a copy of what is mounted at ``path`` and below, attached to nothing."""
    buffer = ctypes.create_string_buffer(os.fsencode(path))
    flags = OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC
    number = arch.NATIVE["open_tree"]
    return syscall("open_tree", number, AT_FDCWD, ctypes.addressof(buffer), flags)


def move_mount(fd: int, target: str) -> None:
    """move_mount(2): attach what :func:`clone_tree` returned."""
    empty = ctypes.create_string_buffer(b"")
    buffer = ctypes.create_string_buffer(os.fsencode(target))
    syscall(
        "move_mount",
        arch.NATIVE["move_mount"],
        fd,
        ctypes.addressof(empty),
        AT_FDCWD,
        ctypes.addressof(buffer),
        MOVE_MOUNT_F_EMPTY_PATH,
    )


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def enter_mount_namespace() -> None:
    """A mount namespace for this process and its children; raises ``OSError`` if forbidden."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        try:
            unshare(CLONE_NEWNS)
        except OSError as error:
            # Root of a container without CAP_SYS_ADMIN is like anybody, but must not be remapped.
            raise OSError(errno.EPERM, "no mount namespace for this root") from error
    else:
        unshare(CLONE_NEWUSER | CLONE_NEWNS)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    # Nothing that is mounted here shows outside; what is mounted outside still shows here.
    mount("none", "/", "", MS_REC | MS_SLAVE)


_OLD_DEV = "/dev/.host"  # where the old one is as a whole, for its ptmx


def cover_dev() -> None:
    """Cover ``/dev`` with one that can be written to.

    All that is in it is bound from the old one, but for TEE devices of the machine: ours take their
    names. Raises ``OSError``; the caller then gives the namespace up.
    """
    old = os.open("/dev", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        has_ptmx = _is_device(f"/proc/self/fd/{old}/ptmx")
        whole = clone_tree("/dev") if has_ptmx else -1
        mount("gentee-dev", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=1m")
        if has_ptmx:
            os.mkdir(_OLD_DEV, 0o755)
            move_mount(whole, _OLD_DEV)
            os.close(whole)
            os.symlink(f"{_OLD_DEV}/ptmx", "/dev/ptmx")
        base = f"/proc/self/fd/{old}"
        for name in sorted(os.listdir(base)):
            if (
                name.startswith("tee")
                and name.removeprefix("teepriv").removeprefix("tee").isdigit()
            ):
                continue
            if name != "ptmx" or not has_ptmx:
                _bind_entry(f"{base}/{name}", f"/dev/{name}")
    finally:
        os.close(old)


def make_device_files(names: list[str]) -> list[int]:
    """Make a file for each of ``names`` in a ``/dev`` of our own; their descriptors.

    A folder that a name is in is a new one: what the machine has there is covered.
    """
    files = []
    folders: set[str] = set()
    for name in names:
        folder = os.path.dirname(name)
        if folder and folder not in folders:
            os.makedirs(f"/dev/{folder}", 0o755, exist_ok=True)
            mount("gentee-dev", f"/dev/{folder}", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755")
            folders.add(folder)
        fd = os.open(f"/dev/{name}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        os.fchmod(fd, 0o666)  # whatever the umask says
        files.append(fd)
    return files


def _is_device(path: str) -> bool:
    try:
        return stat.S_ISCHR(os.lstat(path).st_mode)
    except OSError:
        return False


def _bind_entry(source: str, target: str) -> None:
    try:
        mode = os.lstat(source).st_mode
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(source), target)
            return
        if stat.S_ISDIR(mode):
            os.mkdir(target, 0o755)
        else:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        mount(source, target, "", MS_BIND | MS_REC)
    except OSError as error:
        # Gone meanwhile, or not ours to see (a folder of another user's): it is not shown.
        if error.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EINVAL):
            raise
