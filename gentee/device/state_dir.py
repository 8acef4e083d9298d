# SPDX-License-Identifier: BSD-2-Clause
"""Where a TEE keeps its state, and who owns it: ``$XDG_STATE_HOME/gentee/NAME``.

The folder is the owner's alone. Whoever holds the lock on its file ``lock`` is the TEE of that
name; the kernel lets go of it when that program ends, however it ends. The number in the file is
for messages only. The control socket (:mod:`gentee.device.server`) is in the folder as well.

XDG Base Directory Specification: ``$XDG_STATE_HOME`` is used if it is an absolute path, otherwise
``~/.local/state``.
"""

import errno
import fcntl
import os
import stat

from gentee.errors import UserError

DEFAULT_NAME = "default"  # of a TEE that nobody gave a name

_LOCK = "lock"
SOCKET = "socket"

_MAX_NAME = 64
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def check_name(name: str) -> str:
    """``name`` if it can be a TEE's; UserError otherwise."""
    if not name or len(name) > _MAX_NAME or name[0] == "." or not _NAME_CHARACTERS.issuperset(name):
        raise UserError(
            f"{name!r} cannot be the name of a TEE",
            f"a name has letters, digits, - _ . and at most {_MAX_NAME} of them; it does not start "
            "with a dot",
        )
    return name


def state_home() -> str:
    """The folder that has a folder for each TEE; it need not exist. UserError: there is none."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):  # the specification: a relative path is to be ignored
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            raise UserError(
                "this user has no home folder for the TEE's state",
                "set HOME or XDG_STATE_HOME, or name a folder with --state",
            )
        base = os.path.join(home, ".local", "state")
    return os.path.join(base, "gentee")


def folder_of(name: str) -> str:
    """The state folder of the TEE ``name``, or the folder itself where ``name`` is a path."""
    if "/" in name:
        return os.path.abspath(name)
    return os.path.join(state_home(), check_name(name))


class StateDir:
    """The state folder of a TEE, open. ``path`` is absolute.

    :param create: make it where it is missing.
    :param foreign: it may be another user's, of whom only the socket is wanted. Then what goes
        wrong when it is opened is OSError.
    :raises UserError: it cannot be used, and why.
    """

    def __init__(self, path: str, *, create: bool = True, foreign: bool = False) -> None:
        self.path = path
        self._lock = -1
        self.fd = -1
        if foreign:
            self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            return
        try:
            self.fd = _open(path, create)
        except OSError as error:
            raise UserError(f"state folder {path}: {error.strerror or error}") from error
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        status = os.fstat(self.fd)
        if status.st_uid != os.geteuid():
            raise UserError(
                f"state folder {self.path}: it belongs to user {status.st_uid}, not to you",
                "each user has TEEs of its own; --state names another folder",
            )
        # 0710 is what is left of a TEE that a group may join: its members pass to the socket.
        if stat.S_IMODE(status.st_mode) & 0o067:
            raise UserError(
                f"state folder {self.path}: others may look into it or write there",
                f"chmod 700 {self.path}",
            )

    def lock(self) -> bool:
        """Become the TEE of this folder; False: another one is it.

        :raises OSError: the lock cannot be made here.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(_LOCK, flags, 0o600, dir_fd=self.fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise
        self._lock = fd
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except OSError:  # no room: then messages cannot say who it is
            pass
        return True

    def holder(self) -> int:
        """The process that holds the lock, as it wrote there; 0 if it is not known."""
        try:
            fd = os.open(_LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.fd)
        except OSError:
            return 0
        try:
            text = os.read(fd, 32)
        finally:
            os.close(fd)
        return int(text) if text.strip().isdigit() else 0

    def is_locked(self) -> bool:
        """Whether a TEE has this folder now."""
        if self._lock >= 0:
            return True
        try:
            fd = os.open(_LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.fd)
        except OSError:
            return False
        try:
            # Shared: two that only ask do not take each other for a TEE.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    def address(self) -> str:
        """The path of the control socket, short enough for a sockaddr_un whatever the folder's."""
        return f"/proc/self/fd/{self.fd}/{SOCKET}"

    def close(self) -> None:
        """Let go of folder and lock.

        Unlocked by name, not by closing alone: a process that was forked meanwhile has the same
        open file, and may live a moment longer.
        """
        lock, self._lock = self._lock, -1
        if lock >= 0:
            try:
                fcntl.flock(lock, fcntl.LOCK_UN)
            finally:
                os.close(lock)
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _open(path: str, create: bool) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOFOLLOW)
    except FileNotFoundError:
        if not create:
            raise
    # The folder of all TEEs is made as private as each of them; those above as mkdir does it.
    os.makedirs(os.path.dirname(os.path.dirname(path)), exist_ok=True)
    for folder in (os.path.dirname(path), path):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:  # another gentee was quicker, or the folder of folders was there
            pass
    return os.open(path, flags | os.O_NOFOLLOW)


def own_state(path: str) -> StateDir:
    """The folder at ``path``, locked. UserError where it cannot be, or another TEE has it."""
    state = StateDir(path)
    try:
        if state.lock():
            return state
    except OSError as error:
        state.close()
        raise UserError(f"state folder {path}: {error.strerror or error}") from error
    holder = state.holder()
    state.close()
    raise StateTaken(path, holder)


def _named(path: str) -> str:
    """What :func:`folder_of` takes for ``path``: a name where it can."""
    folder, name = os.path.split(path)
    try:
        return name if folder == state_home() else path
    except UserError:  # no home, so no names
        return path


class StateTaken(UserError):
    """Another TEE has the state folder."""

    def __init__(self, path: str, holder: int) -> None:
        who = f"process {holder}" if holder else "another process"
        super().__init__(
            f"state folder {path}: a TEE has it already, {who}",
            f"to use that TEE: gentee run --tee {_named(path)} -- PROGRAM",
        )
        self.holder = holder


__all__ = [
    "DEFAULT_NAME",
    "SOCKET",
    "StateDir",
    "StateTaken",
    "check_name",
    "folder_of",
    "own_state",
    "state_home",
]
