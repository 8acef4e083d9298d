# SPDX-License-Identifier: BSD-2-Clause
"""The device door: calls of unmodified programs, from the notification to the handler.

Everything here runs in the receiving thread and must not wait. What ends at its own time (contexts,
processes) is noticed by the events thread; see ``_process_ended`` for how the two stay apart.
"""

import errno
import fcntl
import os
from struct import Struct

from gentee.core.context import TeeContext
from gentee.core.device import DeviceRegistry
from gentee.core.host import Host
from gentee.device.answers import Answers
from gentee.device.ioctls import IOCTLS
from gentee.device.open_files import OpenFiles
from gentee.device.open_path import DevicePaths
from gentee.linux import arch
from gentee.linux.notify import Notifier
from gentee.linux.seccomp import SECCOMP_IOCTL_NOTIF_SEND, SECCOMP_NOTIF_RESP
from gentee.linux.task import Process, Task, TaskTable

_IOCTL_NRS = {audit: numbers["ioctl"] for audit, numbers in arch.SYS.items()}
_RESP: Struct = SECCOMP_NOTIF_RESP


class Door(Answers):
    """Serves the clients of one listener with the devices of a registry."""

    def __init__(self, notifier: Notifier, host: Host, registry: DeviceRegistry) -> None:
        super().__init__(notifier, host.events)
        self.host = host
        self.registry = registry
        self.files = OpenFiles(host.events, registry.get)
        self.paths = DevicePaths(registry)
        self._table = TaskTable()
        self._tasks = self._table.tasks
        self._contexts = self.files.contexts
        self._response = bytearray(24)  # of the receiving thread alone
        self._busy = False  # the receiving thread is using what it found in the table
        notifier.calls = self.handle

    def handle(
        self,
        notify_id: int,
        tid: int,
        nr: int,
        audit_arch: int,
        arg0: int,
        arg1: int,
        arg2: int,
        arg3: int,
    ) -> None:
        """One trapped call of a client: an ioctl with TEE's magic, or an open."""
        self._busy = True
        try:
            task = self._tasks.get(tid)
            if task is None:
                task = self._add_task(notify_id, tid)
                if task is None:
                    return
            if nr != _IOCTL_NRS.get(audit_arch):
                self._handle_open(notify_id, task, nr, audit_arch, (arg0, arg1, arg2, arg3))
                return
            fd = arg0 & 0xFFFF_FFFF
            try:
                handle = task.links.get(fd)
                if handle is not None:
                    link = os.readlink(b"", dir_fd=handle)
                else:
                    link = task.link(fd)
            except OSError as error:
                self._no_link(error, notify_id, tid, (nr, audit_arch, arg0, arg1, arg2, arg3))
                return
            ctx = self._contexts.get(link)
            if ctx is None:
                ctx = self._first_ioctl(notify_id, task, fd)
                if ctx is None:
                    return
            value = 0
            error_number = 0
            try:
                ioctl = IOCTLS.get(arg1 & 0xFFFF_FFFF)
                if ioctl is None:
                    raise OSError(errno.EINVAL, "ioctl")
                answer = ioctl(self, notify_id, task, ctx, arg2)
                if answer is None:
                    return
                value = answer
            except OSError as failure:
                error_number = failure.errno or errno.EIO
                if error_number == errno.EFAULT:
                    self._tell_unreadable(task)
            response = self._response
            _RESP.pack_into(response, 0, notify_id, value, -error_number, 0)
            try:
                fcntl.ioctl(self.notifier.listener, SECCOMP_IOCTL_NOTIF_SEND, response)
            except OSError as failure:
                if failure.errno != errno.ENOENT:
                    raise
        finally:
            self._busy = False

    def _add_task(self, notify_id: int, tid: int) -> Task | None:
        try:
            task, new_process = self._table.add(tid)
        except OSError as error:
            if error.errno in (errno.ESRCH, errno.ENOENT):
                # Gone already, or it has just been reaped: nobody waits for this answer.
                self.notifier.answer(notify_id, 0, errno.ESRCH)
            elif error.errno in (errno.EACCES, errno.EPERM):
                self.host.warn(
                    f"thread {tid} cannot be read ({os.strerror(error.errno)}): "
                    "its TEE calls fail with EFAULT; see 'gentee doctor'"
                )
                self.notifier.answer(notify_id, 0, errno.EFAULT)
            else:  # out of descriptors or memory ourselves: this call only
                self.notifier.answer(notify_id, 0, error.errno or errno.EIO)
            return None
        if new_process:
            process = task.process
            self.host.events.add(process.pidfd, lambda: self._process_ended(process))
        return task

    def _no_link(
        self, error: OSError, notify_id: int, tid: int, call: tuple[int, int, int, int, int, int]
    ) -> None:
        """The descriptor could not be looked up."""
        task = self._tasks[tid]
        if error.errno in (errno.ESRCH, errno.ENOENT) and not task.is_alive():
            # The number belongs to another thread by now.
            self._table.discard(tid)
            self.handle(notify_id, tid, *call)
            return
        if error.errno in (errno.EACCES, errno.EPERM) and call[3] & 0xFFFF_FFFF in IOCTLS:
            self._tell_unreadable(task)
            self.notifier.answer(notify_id, 0, errno.EFAULT)
            return
        # Not open: the kernel itself says EBADF.
        self.notifier.continue_(notify_id)

    def _tell_unreadable(self, task: Task) -> None:
        """Tell the user, once a process, why its calls fail, if it is for lack of rights."""
        process = task.process
        if process.told:
            return
        try:
            task.read_some(0x1000, 1)
        except OSError as error:
            cause = error.__cause__
            if not isinstance(cause, PermissionError) and not isinstance(error, PermissionError):
                return
        else:
            return
        process.told = True
        self.host.warn(
            f"the memory of process {process.pid} cannot be read (not dumpable, or protected by "
            "ptrace_scope): its TEE calls fail with EFAULT; see 'gentee doctor'"
        )

    def _first_ioctl(self, notify_id: int, task: Task, fd: int) -> TeeContext | None:
        """A descriptor that is no context yet: the plain file of a device, or none of ours."""
        try:
            ctx = self.files.first_ioctl(
                task,
                fd,
                lambda reader, flags: self.notifier.replace_fd(notify_id, reader, fd, flags),
            )
        except OSError as error:
            # ENOENT: another thread closed the descriptor meanwhile.
            number = error.errno if error.errno not in (None, errno.ENOENT) else errno.EBADF
            self.notifier.answer(notify_id, 0, number)
            return None
        if ctx is None:
            # Another driver with the same magic (SGX), or no device at all.
            self.notifier.continue_(notify_id)
        return ctx

    def _handle_open(
        self,
        notify_id: int,
        task: Task,
        nr: int,
        audit_arch: int,
        args: tuple[int, int, int, int],
    ) -> None:
        """open, openat, openat2 or creat, where there is no ``/dev`` of our own."""
        name, flags = self.paths.device_of(task, nr, audit_arch, args)
        if name is None or flags & os.O_PATH:
            self.notifier.continue_(notify_id)
            return
        if flags & os.O_CREAT and flags & os.O_EXCL:
            self.notifier.answer(notify_id, 0, errno.EEXIST)
            return
        if flags & os.O_DIRECTORY:
            self.notifier.answer(notify_id, 0, errno.ENOTDIR)
            return
        try:
            ctx, reader = self.files.open(name)
        except OSError as error:
            self.notifier.answer(notify_id, 0, error.errno or errno.EIO)
            return
        try:
            self.notifier.answer_fd(notify_id, reader, flags & os.O_CLOEXEC)
        except OSError as error:
            self.notifier.answer(notify_id, 0, error.errno or errno.EMFILE)
        finally:
            # If the client did not take it this was the last descriptor, and the context ends.
            os.close(reader)
            self.files.watch(ctx)

    def _process_ended(self, process: Process) -> None:
        """Events thread: a client process is gone; end its calls, forget its tasks.

        The tasks leave the table first. Only what the receiving thread found before that can still
        be in use there, so their descriptors are closed once it was seen idle.
        """
        self.host.events.remove(process.pidfd)
        for device in self.registry.all():
            for ctx in tuple(device.contexts):
                for arg in tuple(ctx.pending):
                    if arg.owner is process:
                        arg.abandon()
        tasks = self._table.pop_process(process)

        def close() -> None:
            if self._busy:
                self.host.events.call_later(0.001, close)
                return
            for task in tasks:
                task.close()
            process.close()

        close()

    def statistics(self) -> dict[str, int]:
        """Numbers for tests and for people: what is open now."""
        return {
            "contexts": self.files.count(),
            "processes": len(self._table.processes),
            "tasks": len(self._tasks),
            "shms": sum(len(c.shms) for d in self.registry.all() for c in tuple(d.contexts)),
        }
