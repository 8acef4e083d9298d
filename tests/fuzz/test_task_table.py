# SPDX-License-Identifier: BSD-2-Clause
"""The table of tasks against any order of beginnings, ends, used numbers and looks.

Threads and processes are fakes that come and go; their numbers are few, so that each is used again
soon. Whatever the order, what is handed out belongs to the thread that asks, and every task and
process that was looked at is closed once, and only when nobody uses it.
"""

from contextlib import ExitStack
from typing import Any, cast
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gentee.linux import task_table as module
from gentee.linux.task import Process
from gentee.linux.task_table import TaskTable

TIDS = st.integers(1, 9)
PIDS = st.sampled_from([1, 4, 7])


class Thread:
    """A thread that was started; its number may be another's later."""

    def __init__(self, tid: int, process: "Program") -> None:
        self.tid = tid
        self.process = process
        self.alive = True


class Program:
    """A process, likewise."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.alive = True


class FakeProcess:
    """What the table keeps of a process."""

    def __init__(self, world: "Tasks", pid: int) -> None:
        self.pid = pid
        self.tasks: set[int] = set()
        self.closed = False
        self.program = world.programs[pid]
        world.kept.append(self)

    def has_ended(self) -> bool:
        return not self.program.alive

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class FakeTask:
    """What the table keeps of a thread."""

    def __init__(self, world: "Tasks", tid: int, process: FakeProcess) -> None:
        self.tid = tid
        self.process = process
        self.closed = False
        self.thread = world.threads[tid]
        self._world = world
        world.kept.append(self)

    def is_alive(self) -> bool:
        assert not self.closed
        return self.thread.alive

    def close(self) -> None:
        assert not self.closed
        assert self._world.at_work_for != self.tid
        self.closed = True


class SmallTable(TaskTable):
    _MAX_TASKS = 4


class Tasks(RuleBasedStateMachine):
    """What the door does with the table, and what clients do meanwhile."""

    @initialize()
    def begin(self) -> None:
        self.threads: dict[int, Thread] = {}
        self.programs: dict[int, Program] = {}
        self.kept: list[Any] = []
        self.ended: list[FakeProcess] = []  # whose end nobody has noticed
        self.at_work_for = 0
        self.table = SmallTable(
            lambda tid: tid == self.at_work_for,
            lambda tid, process: FakeTask(self, tid, process),  # type: ignore[arg-type, return-value]
        )
        self._patches = ExitStack()
        fakes = {
            "Process": lambda pid: FakeProcess(self, pid),
            "thread_group": lambda tid: self.threads[tid].process.pid,
        }
        for name, fake in fakes.items():
            self._patches.enter_context(mock.patch.object(module, name, fake))

    @rule(tid=TIDS, pid=PIDS)
    def start_thread(self, tid: int, pid: int) -> None:
        if tid in self.threads:
            return
        program = self.programs.setdefault(pid, Program(pid))
        self.threads[tid] = Thread(tid, program)

    @rule(tid=TIDS)
    def end_thread(self, tid: int) -> None:
        thread = self.threads.pop(tid, None)
        if thread is not None:
            thread.alive = False

    @rule(pid=PIDS)
    def end_process(self, pid: int) -> None:
        program = self.programs.pop(pid, None)
        if program is None:
            return
        program.alive = False
        for thread in list(self.threads.values()):
            if thread.process is program:
                self.end_thread(thread.tid)
        process = cast(FakeProcess | None, self.table.processes.get(pid))
        if process is not None and process.program is program:
            self.ended.append(process)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def notice_an_end(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self.ended))
        self.ended.remove(process)
        tasks = cast(list[FakeTask], self.table.pop_process(cast(Process, process)))
        for task in tasks:
            assert task.process is process
            if task.tid == self.at_work_for:
                self.at_work_for = 0  # it waits until that is over
            task.close()
        process.close()

    @rule(tid=TIDS, stays=st.booleans())
    def call(self, tid: int, stays: bool) -> None:
        """A thread makes a call, as Door.handle() treats it."""
        if tid not in self.threads:
            return
        thread = self.threads[tid]
        self.at_work_for = tid
        task = cast(FakeTask | None, self.table.tasks.get(tid))
        if task is not None and not task.is_alive():
            # Which the look-up of its descriptor says.
            self.at_work_for = 0
            self.table.discard(tid)
            self.at_work_for = tid
            task = None
        if task is None:
            found, is_new = self.table.add(tid)
            task = cast(FakeTask, found)
            assert is_new == (task.process.tasks == {tid}) or not is_new
        assert task.thread is thread
        assert task.process.program is thread.process
        assert not task.closed
        assert not task.process.closed
        if not stays:
            self.at_work_for = 0

    @rule()
    def end_of_the_call(self) -> None:
        self.at_work_for = 0

    @invariant()
    def what_is_in_the_table_is_open(self) -> None:
        if not hasattr(self, "table"):
            return
        for tid, task in self.table.tasks.items():
            fake = cast(FakeTask, task)
            assert not fake.closed
            assert fake.tid == tid
            assert tid in fake.process.tasks
        for process in self.table.processes.values():
            assert not cast(FakeProcess, process).closed
        assert len(self.table.tasks) <= SmallTable._MAX_TASKS + 1

    def teardown(self) -> None:
        if not hasattr(self, "table"):
            return
        self.at_work_for = 0
        for pid in list(self.programs):
            self.end_process(pid)
        for process in self.ended:
            for task in self.table.pop_process(cast(Process, process)):
                task.close()
            process.close()
        self._patches.close()
        assert not self.table.processes
        assert not self.table.tasks
        assert all(kept.closed for kept in self.kept)


TestTasks = Tasks.TestCase
