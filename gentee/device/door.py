# SPDX-License-Identifier: BSD-2-Clause
"""The device door: calls of unmodified programs, from the notification to the handler.

Everything here runs in the receiving thread and must not wait. What ends at its own time (contexts,
processes) is noticed by the events thread; see ``_process_ended`` for how the two stay apart.

A client can make the receiving thread wait all the same (see :mod:`gentee.linux.notify`). The calls
of a process that did are handled by threads of their own, until they are quick again.
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Sequence
from struct import Struct

from gentee.core.context import TeeContext
from gentee.core.device import DeviceRegistry
from gentee.core.host import Host
from gentee.core.workers import Workers
from gentee.device.answers import Answers, Ends
from gentee.device.ioctls import IOCTLS
from gentee.device.open_files import OpenFiles
from gentee.device.open_path import DevicePaths
from gentee.device.ta_files import open_ta_file
from gentee.linux import arch
from gentee.linux.notify import Notifier
from gentee.linux.seccomp import SECCOMP_IOCTL_NOTIF_SEND, SECCOMP_NOTIF_RESP
from gentee.linux.task import Process, Task, thread_group
from gentee.linux.task_table import TaskTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.calls import CallArg

_IOCTL_NRS = {audit: numbers["ioctl"] for audit, numbers in arch.SYS.items()}
_X32_IOCTL_NR = arch.X32_SYSCALL_BIT | 514
_RESP: Struct = SECCOMP_NOTIF_RESP

Call = tuple[int, int, int, int, int, int]  # nr, arch, arg0..arg3

_SLOW_CALLS = 32  # quick ones in a row, before a process is no longer a slow one
_SLOW_SECONDS = 0.005
_SLOW_AT_ONCE = 64


class Door(Answers):
    """Serves the clients of one listener with the devices of a registry.

    :param ends: shared by several doors of one program, as ``contexts`` are (by link).
    :param make_task: for tasks that are not looked at directly (:mod:`gentee.device.reader`).
    """

    def __init__(
        self,
        notifier: Notifier,
        host: Host,
        registry: DeviceRegistry,
        ends: Ends | None = None,
        contexts: dict[bytes, TeeContext] | None = None,
        make_task: Callable[[int, Process], Task] = Task,
    ) -> None:
        super().__init__(notifier, host.events, ends)
        self.host = host
        self.registry = registry
        self.files = OpenFiles(
            host.events,
            self.hang_ups,
            registry.get,
            self._abandon_orphans,
            self.ends.file_watch,
            contexts,
        )
        self.paths = DevicePaths(registry)
        self.ta_folders: tuple[str, ...] = ()
        self._table = TaskTable(notifier.is_at_work_for, make_task)
        self._closed = False
        self._tasks = self._table.tasks
        self._contexts = self.files.contexts
        self._slow_calls = Workers(_SLOW_AT_ONCE)
        notifier.calls = self.handle
        notifier.stuck = self._stuck

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
        task = self._tasks.get(tid)
        if task is None:
            task = self._add_task(notify_id, tid, (nr, audit_arch, arg0, arg1, arg2, arg3))
            if task is None:
                return
        if task.process.slow:
            self._hand_over(notify_id, tid, (nr, audit_arch, arg0, arg1, arg2, arg3))
            return
        self._handle(notify_id, task, nr, audit_arch, arg0, arg1, arg2, arg3)

    def _handle(
        self,
        notify_id: int,
        task: Task,
        nr: int,
        audit_arch: int,
        arg0: int,
        arg1: int,
        arg2: int,
        arg3: int,
    ) -> None:
        if nr != _IOCTL_NRS.get(audit_arch) and nr != _X32_IOCTL_NR:
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
            self._no_link(error, notify_id, task, (nr, audit_arch, arg0, arg1, arg2, arg3))
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
        # A bytearray: half the cost of bytes, which fcntl.ioctl copies twice.
        response = bytearray(_RESP.pack(notify_id, value, -error_number, 0))
        try:
            fcntl.ioctl(self.notifier.listener, SECCOMP_IOCTL_NOTIF_SEND, response)
        except OSError as failure:
            # EINPROGRESS: answered by a program that joined and kept its listener.
            if failure.errno not in (errno.ENOENT, errno.EINPROGRESS):
                raise

    def _stuck(self, tid: int) -> None:
        """The thread that looks at the receiver: this call takes long."""
        task = self._tasks.get(tid)
        if task is not None:
            task.process.slow = _SLOW_CALLS

    def _hand_over(self, notify_id: int, tid: int, call: Call) -> None:
        self._slow_calls.submit(lambda: self._handle_slowly(notify_id, tid, call))

    def _handle_slowly(self, notify_id: int, tid: int, call: Call) -> None:
        """A call of a process that made the receiving thread wait, in a thread of its own."""

        def handle() -> None:
            task = self._tasks.get(tid) or self._add_task(notify_id, tid, call)
            if task is None:
                return
            process = task.process
            before = time.monotonic()
            self._handle(notify_id, task, *call)
            if time.monotonic() - before < _SLOW_SECONDS:
                process.slow = max(process.slow - 1, 0)

        self.notifier.help(notify_id, tid, handle)

    def _add_task(self, notify_id: int, tid: int, call: Call) -> Task | None:
        try:
            task, new_process = self._table.add(tid)
        except OSError as error:
            self._no_task(error, notify_id, tid, call)
            return None
        if new_process:
            process = task.process
            self.host.events.add(process.pidfd, lambda: self._process_ended(process))
        if not self.notifier.is_valid(notify_id):
            # It ended while we looked: what its number led to may be another's.
            self._table.discard(tid)
            return None
        if self._closed:  # while this call came
            self._forget(task.process)
            self.notifier.continue_(notify_id)
            return None
        return task

    def _no_task(self, error: OSError, notify_id: int, tid: int, call: Call) -> None:
        """What is to be known of a caller could not be found out."""
        nr, audit_arch, _arg0, command, _arg2, _arg3 = call
        if error.errno in (errno.ESRCH, errno.ENOENT):
            # Gone already, or it has just been reaped: nobody waits for this answer.
            self.notifier.answer(notify_id, 0, errno.ESRCH)
        elif (
            nr not in (_IOCTL_NRS.get(audit_arch), _X32_IOCTL_NR)
            or command & 0xFFFF_FFFF not in IOCTLS
        ):
            # An open, or an ioctl of another driver: not ours, as far as can be seen.
            self.notifier.continue_(notify_id)
        elif error.errno in (errno.EACCES, errno.EPERM):
            self._warn_unreadable(thread_group(tid))
            self.notifier.answer(notify_id, 0, errno.EFAULT)
        else:  # out of descriptors or memory ourselves: this call only
            self.notifier.answer(notify_id, 0, error.errno or errno.EIO)

    def _no_link(self, error: OSError, notify_id: int, task: Task, call: Call) -> None:
        """The descriptor could not be looked up."""
        if error.errno in (errno.ESRCH, errno.ENOENT) and not task.is_alive():
            # The number belongs to another thread by now.
            self._table.discard(task.tid)
            self.handle(notify_id, task.tid, *call)
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
        if not process.told and not task.is_readable():
            process.told = True
            self._warn_unreadable(process.pid)

    def _warn_unreadable(self, pid: int) -> None:
        self.host.warn(
            f"the memory of process {pid} cannot be read (not dumpable, or protected by "
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
        if name.endswith(".ta"):
            tid = task.tid
            self._slow_calls.submit(lambda: self._open_ta_file(notify_id, tid, name, flags))
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

    def _open_ta_file(self, notify_id: int, tid: int, name: str, flags: int) -> None:
        """A thread of its own, as a disk is waited for: the open of a TA's file."""

        def answer() -> None:
            try:
                task = self._tasks.get(tid)
                if task is None or flags & (os.O_ACCMODE | os.O_CREAT | os.O_DIRECTORY):
                    raise OSError(errno.EINVAL, "gone, or not to read it")
                fd = open_ta_file(self.ta_folders, task, name)
            except OSError:
                self.notifier.continue_(notify_id)
                return
            try:
                self.notifier.answer_fd(notify_id, fd, flags & os.O_CLOEXEC)
            except OSError as error:
                self.notifier.answer(notify_id, 0, error.errno or errno.EMFILE)
            finally:
                os.close(fd)

        self.notifier.help(notify_id, tid, answer)

    def serve_ta_files(self, folders: Sequence[str]) -> None:
        """Clients find the files of these folders where a board has its TAs."""
        self.ta_folders = tuple(folders)
        self.paths.ta_files = bool(folders)

    def _abandon_orphans(self, ctx: TeeContext) -> None:
        """Nobody has a descriptor of ``ctx`` any more, but calls are under way: end the forgotten.

        That is, those of threads that an execve of their process ended. Others hold the context.
        """
        for arg in tuple(ctx.pending):
            # Those of another door's clients, to whom the descriptor was sent, that one knows.
            if arg.owner is None or not self._owns(arg.owner):
                continue
            if not self.notifier.is_valid(arg.door[0]):
                arg.abandon()

    def _owns(self, process: Process) -> bool:
        return self._table.processes.get(process.pid) is process

    def _process_ended(self, process: Process) -> None:
        """Events thread: a client process is gone; end its calls, forget its tasks.

        The tasks leave the table first. Only who was at work for one before that can still use what
        it found there, so their descriptors are closed once nobody is.
        """
        self.host.events.remove(process.pidfd)
        for arg in self._pending():
            if arg.owner is process:
                arg.abandon()
        self._close_tasks(process, self._table.pop_process(process))

    def _pending(self) -> list["CallArg"]:
        """All calls under way, of clients of other doors too."""
        contexts = [ctx for device in self.registry.all() for ctx in tuple(device.contexts)]
        return [arg for ctx in contexts for arg in tuple(ctx.pending)]

    def close(self) -> None:
        """Serve nobody any more: calls that wait are ENODEV, new ones go on without us.

        Contexts, sessions and shared memory of the clients end, whatever they still hold. For one
        of several doors, while the listener is still there; not in the events thread.
        """
        self._closed = True
        self.notifier.calls = self._let_go
        for arg in self._pending():
            if arg.owner is not None and self._owns(arg.owner):
                self.notifier.answer(arg.door[0], 0, errno.ENODEV)
                arg.abandon()
        self.files.close()
        self.forget_shms()
        for process in tuple(self._table.processes.values()):
            self._forget(process)

    def _let_go(self, notify_id: int, *_call: int) -> None:
        self.notifier.continue_(notify_id)

    def _forget(self, process: Process) -> None:
        """What ``_process_ended`` does, for a process that lives on."""
        self.host.events.call_soon(
            lambda: self._process_ended(process) if self._owns(process) else None
        )

    def _close_tasks(self, process: Process, tasks: list[Task]) -> None:
        left = []
        for task in tasks:
            if self.notifier.is_at_work_for(task.tid):
                left.append(task)
            else:
                task.close()
        if left:
            self.host.events.call_later(0.01, lambda: self._close_tasks(process, left))
        else:
            process.close()

    def watch_fds(self) -> list[int]:
        """The descriptors of watches. To close one is to wait: see ``RunHost.end``."""
        return self.ends.watch_fds()

    def statistics(self) -> dict[str, int]:
        """Numbers for tests and for people: what is open now."""
        return {
            "contexts": self.files.count(),
            "processes": len(self._table.processes),
            "tasks": len(self._tasks),
            "shms": sum(len(c.shms) for d in self.registry.all() for c in tuple(d.contexts)),
        }
