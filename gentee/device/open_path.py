# SPDX-License-Identifier: BSD-2-Clause
"""Which open means a TEE device, for clients without a ``/dev`` of their own.

Every open of the client passes here, so the first look is a cheap one: the last component of the
path. Only a name such as ``tee0`` is resolved further. The client may change the path afterwards;
the answer is then still a TEE device, which it may open anyway.
"""

import os
from struct import Struct

from gentee.abi.dma_heap import FOLDER
from gentee.core.device import DeviceRegistry
from gentee.device import ta_files
from gentee.linux import arch
from gentee.linux.task import Task

_HEAPS = b"/dev/" + FOLDER.encode()
_PATH_MAX = 4096
_FIRST_READ = 128
_OPEN_HOW_FLAGS = Struct("<Q")  # of struct open_how
_AT_FDCWD = 0xFFFF_FF9C

# Of each call: (folder descriptor, path, flags) by argument index; None where it has none.
_ARGUMENTS = {
    "open": (None, 0, 1),
    "creat": (None, 0, None),
    "openat": (0, 1, 2),
    "openat2": (0, 1, 2),
}
_CALLS: dict[tuple[int, int], str] = {
    (audit, numbers[name]): name
    for audit, numbers in arch.SYS.items()
    for name in _ARGUMENTS
    if name in numbers
}


class DevicePaths:
    """Tells the paths of devices from all others.

    :ivar ta_files: whether those of TAs' files are told as well (:mod:`gentee.device.ta_files`).
    """

    def __init__(self, registry: DeviceRegistry) -> None:
        self._registry = registry
        self.ta_files = False

    def device_of(
        self, task: Task, nr: int, audit_arch: int, args: tuple[int, int, int, int]
    ) -> tuple[str | None, int]:
        """The device that the call opens, if any, and its open(2) flags.

        Of a TA's file it is the name of that, which ends in ``.ta``.
        """
        name = _CALLS.get((audit_arch, nr))
        if name is None:
            return None, 0
        dir_index, path_index, flags_index = _ARGUMENTS[name]
        try:
            path = self._read_path(task, args[path_index])
            last = path[path.rfind(b"/") + 1 :]
            if last.startswith(b"tee"):
                device = last.decode("ascii", "replace")
                if self._registry.get(device) is None:
                    return None, 0
                if not self._is_dev(task, path, args[dir_index] if dir_index is not None else None):
                    return None, 0
            elif path.startswith(_HEAPS):
                # By its name as it is written: the machine need not have such a folder.
                device = path[len(_HEAPS) - len(FOLDER) :].decode("ascii", "replace")
                if self._registry.get(device) is None:
                    return None, 0
            else:
                if not self.ta_files or not last.endswith(b".ta"):
                    return None, 0
                found = ta_files.name_of(path)
                if found is None:
                    return None, 0
                device = found
            if flags_index is None:
                flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
            elif name == "openat2":
                flags = _OPEN_HOW_FLAGS.unpack(task.read(args[flags_index], 8))[0]
            else:
                flags = args[flags_index]
        except OSError:
            # Whatever is wrong with the call, the kernel finds it and says it better.
            return None, 0
        return device, flags

    def _read_path(self, task: Task, address: int) -> bytes:
        data = task.read_some(address, _FIRST_READ)
        end = data.find(b"\0")
        if end < 0:
            data = task.read_some(address, _PATH_MAX)
            end = data.find(b"\0")
        return data[: max(end, 0)]  # without an end it is EFAULT or ENAMETOOLONG

    def _is_dev(self, task: Task, path: bytes, dir_fd: int | None) -> bool:
        """Whether the folder that ``path`` is in is the task's ``/dev``."""
        # Slashes in a row are one: what is put before it must not make the path too long.
        folder = b"/".join(filter(None, os.path.dirname(path).split(b"/")))
        if path.startswith(b"/"):
            folder = b"../root/" + folder
        elif dir_fd is None or dir_fd & 0xFFFF_FFFF == _AT_FDCWD:
            folder = b"../cwd/" + folder
        else:
            folder = b"%d/%s" % (dir_fd & 0xFFFF_FFFF, folder)
        return task.path_identity(folder) == task.path_identity(b"../root/dev")
