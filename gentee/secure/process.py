# SPDX-License-Identifier: BSD-2-Clause
"""The process of an instance: its birth, what it is given, and its end.

It comes from a warm parent (:mod:`gentee.secure.warm_parent`). With its first trapped call it gets
its log and its mailbox, the page through which it is given commands. Its number is not used again
before its end is known here.
"""

import errno
import mmap
import os
import signal
import threading
from collections.abc import Callable
from functools import partial

from gentee.abi import ta_channel as ch
from gentee.core.host import Host
from gentee.linux.shm import create_shm
from gentee.secure.log import ServiceLog
from gentee.secure.warm_parent import Birth, ProcessParent

Trapped = Callable[[int, int, int], None]  # (notification id, request, argument)


class ServiceProcess:
    """One process and its mailbox.

    What is called back is kept by the birth alone and goes with it: an instance and its process
    are not to hold each other when nobody uses them any more.

    :param name: of the service, for the log.
    :param crashed: events thread: is given the crash report of a TA that dies; for TAs of OP-TEE.
    :raises OSError: no descriptor is left for the mailbox.
    """

    __slots__ = (
        "_birth",
        "_closed",
        "_crashed",
        "_doomed",
        "_host",
        "_lock",
        "_log",
        "_name",
        "_notifier",
        "_page",
        "_pidfd",
        "_tid",
        "_warm_parent",
        "mailbox",
        "pid",
        "words",
    )

    def __init__(
        self,
        host: Host,
        warm_parent: ProcessParent,
        name: str,
        crashed: Callable[[bytes], None] | None = None,
    ) -> None:
        self.pid = 0  # as long as it is not known
        self._host = host
        self._warm_parent = warm_parent
        self._notifier = warm_parent.notifier
        self._name = name
        self._crashed = crashed
        self._lock = threading.Lock()  # protects _closed; the process gets all or nothing
        self._closed = False
        self._doomed = False
        self._birth: Birth | None = None
        self._tid = 0
        self._pidfd = -1
        self._log: ServiceLog | None = None
        self._page = create_shm(ch.MAILBOX_SIZE, "tee_mailbox")
        try:
            self.mailbox = mmap.mmap(self._page, ch.MAILBOX_SIZE)
        except OSError:  # it takes a descriptor too
            os.close(self._page)
            raise
        self.words = memoryview(self.mailbox).cast("Q")

    def spawn(
        self, introduced: Callable[[int], None], trapped: Trapped, ended: Callable[[], None]
    ) -> None:
        """Have it forked.

        :param introduced: (thread id), in any thread, before the first of its trapped calls.
        :param trapped: receiving thread: it made a trapped call.
        :param ended: events thread: it is gone, or there never was one. Calls :meth:`close`.
        """
        self._birth = Birth(
            partial(self._hello, introduced, trapped),
            partial(self._pid_known, ended),
            partial(self._host.events.call_soon, ended),
        )
        self._warm_parent.spawn(self._birth)

    def _hello(
        self, introduced: Callable[[int], None], trapped: Trapped, notify_id: int, tid: int
    ) -> None:
        """The new process introduces itself and gets log and mailbox. Any thread."""
        notifier = self._notifier
        with self._lock:
            if self._closed:  # it was killed right after this call; its number may be used again
                return
            if self.pid not in (0, tid):  # a template may name one process and introduce another
                self.kill()
                notifier.answer(notify_id, 0, errno.EINVAL)
                return
            try:
                self._log = ServiceLog(self._host, self._name, self._crashed)
            except OSError as error:  # no descriptor left: then it ends
                notifier.answer(notify_id, 0, error.errno or errno.EMFILE)
                return
            self._tid = tid
            introduced(tid)
            notifier.services[tid] = trapped
            for number in (1, 2):
                notifier.replace_fd(notify_id, self._log.writer, number, 0)
            self._log.started()
            notifier.answer_fd(notify_id, self._page, os.O_CLOEXEC)
            os.close(self._page)
            self._page = -1

    def _pid_known(self, ended: Callable[[], None], pid: int) -> None:
        """Events thread. The process is not collected before we say so, so the pid is its own."""
        with self._lock:
            self.pid = pid
            if self._tid not in (0, pid):
                self._doomed = True
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:  # no descriptor left: its end would not be noticed, so it comes now
            os.kill(pid, signal.SIGKILL)
            self._ended(ended)
            return
        self._host.events.add(self._pidfd, partial(self._pidfd_readable, ended))
        if self._doomed:  # before it was known
            self.kill()

    def drain_log(self) -> None:
        """Events thread: take what it has said so far."""
        if self._log is not None:
            self._log.drain()

    def kill(self) -> None:
        """End it at once; also one that is still to come."""
        self._doomed = True
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _pidfd_readable(self, ended: Callable[[], None]) -> None:
        """Events thread: the process is gone."""
        self._host.events.remove(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._ended(ended)

    def _ended(self, ended: Callable[[], None]) -> None:
        assert self._birth is not None
        self._warm_parent.forget(self._birth)
        self._birth = None  # it knows the instance, which is to go with its last user
        ended()
        # From here on its number may be used again.
        self._warm_parent.reap(self.pid)

    def close(self) -> None:
        """Events thread: nothing comes from it any more. Give back what it had.

        The mailbox is left to the last reference: another thread may be using it.
        """
        with self._lock:
            self._closed = True
        self._notifier.services.pop(self._tid, None)
        self._notifier.wake_ups.end(self._tid)
        if self._log is not None:
            self._log.close()
        if self._page >= 0:
            os.close(self._page)
            self._page = -1
