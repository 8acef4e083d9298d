# SPDX-License-Identifier: BSD-2-Clause
"""How Linux encodes an ioctl command: <asm-generic/ioctl.h>.

The names are the header's, leading underscore included; they are public here. Where C takes a type,
these take its size. x86, Arm, RISC-V and s390 use the generic layout; alpha, mips, parisc, powerpc
and sparc place the direction bits differently and are not served.
"""

__all__ = [
    "_IOC_NONE",
    "_IOC_WRITE",
    "_IOC_READ",
    "_IOC",
    "_IO",
    "_IOR",
    "_IOW",
    "_IOWR",
    "_IOC_DIR",
    "_IOC_TYPE",
    "_IOC_NR",
    "_IOC_SIZE",
]

_IOC_NRBITS = 8
_IOC_TYPEBITS = 8
_IOC_SIZEBITS = 14
_IOC_DIRBITS = 2

_IOC_NRMASK = (1 << _IOC_NRBITS) - 1
_IOC_TYPEMASK = (1 << _IOC_TYPEBITS) - 1
_IOC_SIZEMASK = (1 << _IOC_SIZEBITS) - 1
_IOC_DIRMASK = (1 << _IOC_DIRBITS) - 1

_IOC_NRSHIFT = 0
_IOC_TYPESHIFT = _IOC_NRSHIFT + _IOC_NRBITS
_IOC_SIZESHIFT = _IOC_TYPESHIFT + _IOC_TYPEBITS
_IOC_DIRSHIFT = _IOC_SIZESHIFT + _IOC_SIZEBITS

# Seen from the program: "write" hands bytes to the kernel, "read" takes them from it.
_IOC_NONE = 0
_IOC_WRITE = 1
_IOC_READ = 2


def _IOC(dir: int, type: int, nr: int, size: int) -> int:
    """The command number with this direction, magic, number and argument size."""
    return (
        (dir << _IOC_DIRSHIFT)
        | (type << _IOC_TYPESHIFT)
        | (nr << _IOC_NRSHIFT)
        | (size << _IOC_SIZESHIFT)
    )


def _IO(type: int, nr: int) -> int:
    """A command without an argument."""
    return _IOC(_IOC_NONE, type, nr, 0)


def _IOR(type: int, nr: int, size: int) -> int:
    """A command whose argument the kernel fills in."""
    return _IOC(_IOC_READ, type, nr, size)


def _IOW(type: int, nr: int, size: int) -> int:
    """A command whose argument the kernel reads."""
    return _IOC(_IOC_WRITE, type, nr, size)


def _IOWR(type: int, nr: int, size: int) -> int:
    """A command whose argument the kernel reads and fills in."""
    return _IOC(_IOC_READ | _IOC_WRITE, type, nr, size)


def _IOC_DIR(cmd: int) -> int:
    """The direction bits of a command."""
    return (cmd >> _IOC_DIRSHIFT) & _IOC_DIRMASK


def _IOC_TYPE(cmd: int) -> int:
    """The magic of a command."""
    return (cmd >> _IOC_TYPESHIFT) & _IOC_TYPEMASK


def _IOC_NR(cmd: int) -> int:
    """The number of a command within its magic."""
    return (cmd >> _IOC_NRSHIFT) & _IOC_NRMASK


def _IOC_SIZE(cmd: int) -> int:
    """The argument size of a command, in bytes."""
    return (cmd >> _IOC_SIZESHIFT) & _IOC_SIZEMASK
