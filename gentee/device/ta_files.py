# SPDX-License-Identifier: BSD-2-Clause
"""Files of TAs where a board has them: ``/lib/optee_armtz/UUID.ta``.

There tee-supplicant finds them, and some clients read one themselves. Where opens are trapped, one
of such a path that the client's machine does not have gets the file of the run's TA folders. In a
``/dev`` of its own a client opens what is there, and nothing can be put into a folder that is not.
"""

import errno
import os
import stat
from collections.abc import Sequence

from gentee.device.client_memory import TaskCredentials
from gentee.linux.task import Task

FOLDER = b"/lib/optee_armtz"  # CFG_TEE_CLIENT_LOAD_PATH and "optee_armtz"

_DIGITS = b"0123456789abcdef"


def name_of(path: bytes) -> str | None:
    """The file's name if ``path`` is that of a TA's file, written as OP-TEE writes it."""
    folder, _, name = path.rpartition(b"/")
    parts = name.removesuffix(b".ta").split(b"-")
    is_uuid = [len(part) for part in parts] == [8, 4, 4, 4, 12]
    if folder != FOLDER or not name.endswith(b".ta") or not is_uuid:
        return None
    return None if b"".join(parts).strip(_DIGITS) else name.decode("ascii")


def open_ta_file(folders: Sequence[str], task: Task, name: str) -> int:
    """A descriptor of the file ``name`` of the first folder that has it; this may wait for a disk.

    :raises OSError: the client is to have what the kernel says: there is such a file on its
        machine, or in no folder, or the client has another user's rights than we.
    """
    try:
        task.path_identity(b"../root%s/%s" % (FOLDER, name.encode()))
    except FileNotFoundError:
        pass
    else:
        raise FileExistsError(errno.EEXIST, "the machine has one")
    if TaskCredentials(task).euid() != os.geteuid():
        raise PermissionError(errno.EPERM, "another user")
    for folder in folders:
        try:
            fd = os.open(
                os.path.join(folder, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            )
        except FileNotFoundError:
            continue
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
    raise FileNotFoundError(errno.ENOENT, "no such TA")
