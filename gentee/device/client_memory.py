# SPDX-License-Identifier: BSD-2-Clause
"""What clients bring: registered memory, files, and their identity (tee_shm.c, cred.h)."""

import errno
import fcntl
import os

from gentee.core.context import TeeContext
from gentee.core.login import Credentials
from gentee.core.params import USER_ADDRESS_MAX
from gentee.core.shm import (
    TEE_SHM_DMA_BUF,
    TEE_SHM_DYNAMIC,
    TEE_SHM_NO_READ,
    TEE_SHM_NO_WRITE,
    TEE_SHM_PROTECTED,
    TEE_SHM_USER_MAPPED,
    Backing,
    TeeShm,
    tee_shm_map,
    tee_shm_register,
)
from gentee.linux.shm import SEALS, WRITE_SEALS, memory_file_seals
from gentee.linux.task import AddressSpace, Task


class ClientMemory(Backing):
    """Memory of a client's address space, by address. Linux would pin its pages; we copy."""

    __slots__ = ("_address", "_space")

    def __init__(self, space: AddressSpace, address: int) -> None:
        self._space = space
        self._address = address

    def copy_in(self, offset: int, view: memoryview) -> None:
        address = self._address + offset
        self._space.check_current(address)
        self._space.read_into(address, view)

    def copy_out(self, offset: int, view: memoryview) -> None:
        address = self._address + offset
        self._space.check_current(address)
        self._space.write_from(address, view)

    def identity(self) -> tuple[object, int]:
        return (self._space.process, self._address)

    def close(self) -> None:
        self._space.put()


class WriteOnlyMemory(ClientMemory):
    """Memory of a client that the TEE may not see: it starts from zeros."""

    __slots__ = ()

    def copy_in(self, offset: int, view: memoryview) -> None:
        self._space.check_current(self._address + offset)
        view[:] = bytes(len(view))

    def identity(self) -> tuple[object, int]:
        # Never one window with memory that may be seen.
        return ((self._space.process, "write-only"), self._address)


class ClientFile(Backing):
    """A file of a client that is not sealed: mapped, a truncation would kill who maps it."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def copy_in(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._fd, [view[done:]], offset + done)
            except OSError as error:
                raise OSError(errno.EFAULT, "the file cannot be read") from error
            if not count:
                raise OSError(errno.EFAULT, "the file was truncated")
            done += count

    def copy_out(self, offset: int, view: memoryview) -> None:
        # A truncated file must not grow again by our writing.
        if os.fstat(self._fd).st_size < offset + len(view):
            raise OSError(errno.EFAULT, "the file was truncated")
        done = 0
        try:
            while done < len(view):
                done += os.pwritev(self._fd, [view[done:]], offset + done)
        except OSError as error:  # not open for writing, or sealed against it
            raise OSError(errno.EFAULT, "the file cannot be written") from error

    def close(self) -> None:
        os.close(self._fd)


def check_present(task: Task, address: int, length: int, wanted: str) -> None:
    """As pinning for DMA: EFAULT unless the range starts in memory that can be used as ``wanted``.

    :param wanted: "rw", or "r" for memory that is only read.

    ENOMEM, as in register_shm_helper(), where only its end is not there.
    """
    position, end = address, address + length
    for start, stop, permissions in task.maps():
        if stop <= position:
            continue
        if start > position or not permissions.startswith(wanted):
            break
        position = stop
        if position >= end:
            return
    raise OSError(errno.EFAULT if position == address else errno.ENOMEM, "registered memory")


def register_user_buf(ctx: TeeContext, task: Task, address: int, length: int) -> TeeShm:
    """TEE_IOC_SHM_REGISTER: ``length`` bytes at ``address`` of the caller."""
    if address + length > USER_ADDRESS_MAX:
        raise OSError(errno.EFAULT, "registered memory")
    teedev = ctx.teedev
    if 0 < length <= teedev.desc.shm.largest and "shm_register" in teedev.operations:
        check_present(task, address, length, "rw")
    flags = TEE_SHM_DYNAMIC | TEE_SHM_USER_MAPPED
    space = task.address_space()
    try:
        return tee_shm_register(ctx, length, flags, backing=ClientMemory(space, address))
    except BaseException:
        space.put()
        raise


def map_user_buf(ctx: TeeContext, task: Task, address: int, length: int, limits: int) -> TeeShm:
    """TEE_IOC_MEM_MAP: as :func:`register_user_buf`, less what ``limits`` (TEE_SHM_NO_*) forbid."""
    if address + length > USER_ADDRESS_MAX:
        raise OSError(errno.EFAULT, "mapped memory")
    if 0 < length <= ctx.teedev.desc.shm.largest:
        check_present(task, address, length, "r" if limits & TEE_SHM_NO_WRITE else "rw")
    space = task.address_space()
    if limits & TEE_SHM_NO_READ:
        backing: ClientMemory = WriteOnlyMemory(space, address)
    else:
        backing = ClientMemory(space, address)
    return tee_shm_map(ctx, length, TEE_SHM_USER_MAPPED | limits, backing)


def register_fd(ctx: TeeContext, task: Task, fd: int) -> TeeShm:
    """TEE_IOC_SHM_REGISTER_FD: the file of the caller's descriptor, from its start to its end."""
    if not 0 <= fd < 1 << 31:
        raise OSError(errno.EBADF, "fd")
    flags = TEE_SHM_DYNAMIC | TEE_SHM_DMA_BUF
    if ctx.teedev.desc.heap is not None:
        found = ctx.teedev.desc.heap.open(task.link(fd))
        if found is not None:
            own, size = found
            try:
                return tee_shm_register(ctx, size, flags | TEE_SHM_PROTECTED, fd=own)
            except BaseException:
                os.close(own)
                raise
    own = task.get_fd(fd)
    try:
        # Memory files only (memfds, files of a tmpfs). Any other file system may be one that never
        # answers, or that the client itself serves (FUSE): not even its fstat is asked.
        seals = memory_file_seals(own)
        if seals is None:
            raise OSError(errno.EINVAL, "not a memory file")
        # A client that may only read it must not write it through a service.
        access = fcntl.fcntl(own, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND)
        if access != os.O_RDWR or seals & WRITE_SEALS:
            raise OSError(errno.EINVAL, "not writable")
        size = os.fstat(own).st_size
        # Without the last seal it could be sealed against writing before a service maps it.
        if seals & SEALS == SEALS:
            return tee_shm_register(ctx, size, flags, fd=own)
        return tee_shm_register(ctx, size, flags, backing=ClientFile(own))
    except BaseException:
        os.close(own)
        raise


class TaskCredentials(Credentials):
    """The identity of a client, from /proc as this process sees it."""

    __slots__ = ("_status", "_task")

    def __init__(self, task: Task) -> None:
        self._task = task
        self._status: dict[str, str] | None = None

    def _field(self, name: str) -> list[int]:
        if self._status is None:
            self._status = self._task.status()
        return [int(word) for word in self._status[name].split()]

    def euid(self) -> int:
        return self._field("Uid")[1]

    def in_egroup(self, gid: int) -> bool:
        return gid == self._field("Gid")[1] or gid in self._field("Groups")

    def exe(self) -> str:
        return self._task.exe()
