# SPDX-License-Identifier: BSD-2-Clause
"""Which tasks make calls, and the processes that they belong to."""

import errno
import itertools
import resource
import threading
from collections.abc import Callable

from gentee.linux.task import Process, Task, thread_group


class TaskTable:
    """The tasks that made a call, by thread id, and their processes.

    ``tasks`` may be looked up by any thread; all changes are made here, under a lock. Dead threads
    tell nobody of their end, so each new one has some old ones looked after.

    :param in_use: whether somebody is at work for the task of a thread id: it is not closed then.
    :param make_task: the task of a thread id and its process.
    """

    _MAX_TASKS = 1024
    _SHARE = 8  # of all descriptors that this program may have, as many are tasks at most
    _LOOKED_AFTER = 2  # old tasks for each new one

    def __init__(
        self,
        in_use: Callable[[int], bool] = lambda _tid: False,
        make_task: Callable[[int, Process], Task] = Task,
    ) -> None:
        limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._max_tasks = self._MAX_TASKS
        if limit != resource.RLIM_INFINITY:
            self._max_tasks = max(1, min(self._MAX_TASKS, limit // self._SHARE))
        self.tasks: dict[int, Task] = {}
        self.processes: dict[int, Process] = {}
        self._in_use = in_use
        self._make_task = make_task
        self._lock = threading.Lock()  # protects both, and which tasks a process has

    def add(self, tid: int) -> tuple[Task, bool]:
        """The task of ``tid``, new in the table, and whether its process is new too."""
        pid = thread_group(tid)
        with self._lock:
            known = self.tasks.get(tid)
            if known is not None:
                if known.is_alive():
                    return known, False
                self._discard(tid)
            process = self.processes.get(pid)
            if process is not None and process.has_ended():
                process = None  # its end was not yet noticed, and its number is another's already
            is_new = process is None
            if process is None:
                process = Process(pid)
            try:
                task = self._new_task(tid, process)
            except OSError:
                if is_new:
                    process.close()
                raise
            if is_new:
                self.processes[pid] = process
            self._look_after()
            process.tasks.add(tid)
            self.tasks[tid] = task
        return task, is_new

    def _new_task(self, tid: int, process: Process) -> Task:
        try:
            return self._make_task(tid, process)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        # No descriptor left: those of the oldest tasks are the easiest to do without.
        for old in tuple(itertools.islice(self.tasks, len(self.tasks) // 2 + 1)):
            if not self._in_use(old):
                self._discard(old)
        return self._make_task(tid, process)

    def _look_after(self) -> None:
        for tid in tuple(itertools.islice(self.tasks, self._LOOKED_AFTER)):
            if self._in_use(tid):
                continue
            task = self.tasks[tid]
            # A program may start threads without end. Forgetting one that lives costs its next call
            # a look-up.
            if len(self.tasks) >= self._max_tasks or not task.is_alive():
                self._discard(tid)
            else:
                del self.tasks[tid]  # to the end of the order
                self.tasks[tid] = task

    def discard(self, tid: int) -> None:
        """Forget a task: it is gone, or its number belongs to another by now."""
        with self._lock:
            self._discard(tid)

    def _discard(self, tid: int) -> None:
        task = self.tasks.pop(tid, None)
        if task is not None:
            task.process.tasks.discard(tid)
            task.close()

    def pop_process(self, process: Process) -> list[Task]:
        """Forget a process that ended; its tasks, which the caller closes, and the process too."""
        with self._lock:
            if self.processes.get(process.pid) is process:
                del self.processes[process.pid]
            tasks = (self.tasks.get(tid) for tid in process.tasks)
            mine = [task for task in tasks if task is not None and task.process is process]
            for task in mine:
                del self.tasks[task.tid]
            process.tasks.clear()
        return mine
