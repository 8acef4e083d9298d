# SPDX-License-Identifier: BSD-2-Clause
"""Other tasks: children whose memory and descriptors are known, and threads of this process."""

import ctypes
import errno
import mmap
import os
import select
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.linux.libc import PR_SET_DUMPABLE, libc, prctl
from gentee.linux.namespaces import enter_mount_namespace, mount, unshare
from gentee.linux.process_memory import read_memory_into, write_memory, write_memory_from
from gentee.linux.shm import PAGE_SIZE
from gentee.linux.task import Process, Task, pidfd_getfd, same_file, thread_group
from gentee.linux.task_table import TaskTable
from tests.helpers import PATIENCE, Child, open_descriptors, stepwise, wait_until

CLONE_FILES = 0x400
CLONE_NEWPID = 0x20000000


class Pages:
    """Private memory of this process: children have the same at the same address."""

    def __init__(self, count: int, data: bytes = b"") -> None:
        self.map = mmap.mmap(-1, count * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.map[: len(data)] = data
        self._anchor = ctypes.c_char.from_buffer(self.map)
        self.address = ctypes.addressof(self._anchor)

    def unmap(self, page: int, count: int = 1) -> None:
        """In a child only: this object would not know of it."""
        address = ctypes.c_void_p(self.address + page * PAGE_SIZE)
        assert libc.munmap(address, ctypes.c_size_t(count * PAGE_SIZE)) == 0

    def protect(self, page: int, protection: int) -> None:
        address = ctypes.c_void_p(self.address + page * PAGE_SIZE)
        assert libc.mprotect(address, ctypes.c_size_t(PAGE_SIZE), protection) == 0


@contextmanager
def task_of(child: Child) -> Iterator[Task]:
    process = Process(child.pid)
    task = Task(child.pid, process)
    try:
        yield task
    finally:
        task.close()
        process.close()


def fails(number: int) -> "pytest.RaisesExc[OSError]":
    return pytest.raises(OSError, check=lambda error: error.errno == number)


# Descriptors


def test_link_names_what_the_number_means_now(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    reader, writer = os.pipe()
    file = os.open(path, os.O_RDONLY)
    number = 200
    job = stepwise(
        lambda: os.dup2(reader, number),
        lambda: os.dup2(file, number),
        lambda: os.close(number),
        lambda: os.dup2(writer, number),
    )
    pipe = b"pipe:[%d]" % os.fstat(reader).st_ino
    with Child(job) as child, task_of(child) as task:
        with fails(errno.ENOENT):
            task.link(number)
        child.step()
        assert task.link(number) == pipe
        child.step()
        assert task.link(number) == os.fsencode(path)
        child.step()
        with fails(errno.ENOENT):
            task.link(number)
        child.step()
        assert task.link(number) == pipe
    for fd in (reader, writer, file):
        os.close(fd)


def test_more_links_than_are_kept() -> None:
    pipes = [os.pipe() for _ in range(8)]
    with Child(stepwise()) as child, task_of(child) as task:
        for _ in range(2):
            for pipe in pipes:
                for fd in pipe:
                    assert task.link(fd) == b"pipe:[%d]" % os.fstat(fd).st_ino
        assert len(task.links) == Task._MAX_LINKS
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


def test_file_identity(tmp_path: Path) -> None:
    files = [os.memfd_create("identity"), os.open(tmp_path, os.O_RDONLY), os.open("/dev/null", 0)]
    with Child(stepwise()) as child, task_of(child) as task:
        for fd in files:
            status = os.fstat(fd)
            assert task.file_identity(fd) == (status.st_dev, status.st_ino)
        with fails(errno.ENOENT):
            task.file_identity(1000)
    for fd in files:
        os.close(fd)


def test_get_fd_is_the_same_open_file() -> None:
    fd = os.memfd_create("shared")
    os.ftruncate(fd, 100)
    with Child(stepwise(lambda: os.lseek(fd, 77, os.SEEK_SET))) as child, task_of(child) as task:
        own = task.get_fd(fd)
        child.step()
        assert os.lseek(own, 0, os.SEEK_CUR) == 77
        assert not os.get_inheritable(own)
        assert b"pos:\t77" in task.fdinfo(fd)
        assert same_file(child.pid, fd, own)
        other = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        assert not same_file(child.pid, fd, other)
        with fails(errno.EBADF):
            task.get_fd(1000)
        with fails(errno.EBADF):
            pidfd_getfd(task.process.pidfd, 1000)
        for each in (own, other):
            os.close(each)
    os.close(fd)


def kernel_version() -> tuple[int, ...]:
    return tuple(int(part) for part in os.uname().release.split(".")[:2])


@pytest.mark.skipif(kernel_version() < (6, 9), reason="pidfds of threads are of Linux 6.9")
def test_get_fd_of_a_thread_with_descriptors_of_its_own() -> None:
    ready, over = threading.Event(), threading.Event()
    fd = os.memfd_create("everybody's")

    def run() -> None:
        unshare(CLONE_FILES)
        own = os.memfd_create("its own")
        os.dup2(own, fd)
        ready.set()
        over.wait(PATIENCE)

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(PATIENCE)
    assert thread.native_id is not None
    process = Process(os.getpid())
    task = Task(thread.native_id, process)
    got = task.get_fd(fd)
    assert b"its own" in task.link(fd)
    assert "its own" in os.readlink(f"/proc/self/fd/{got}")
    over.set()
    thread.join()
    os.close(got)
    os.close(fd)
    task.close()
    process.close()


# Memory


def test_read() -> None:
    data = bytes(range(256)) * 48
    pages = Pages(4, data)
    with Child(stepwise(lambda: pages.unmap(3))) as child, task_of(child) as task:
        child.step()
        end = 3 * PAGE_SIZE
        assert task.read(pages.address, 10) == data[:10]
        assert task.read(pages.address + PAGE_SIZE - 5, 10) == data[PAGE_SIZE - 5 : PAGE_SIZE + 5]
        assert task.read(pages.address, end) == data[:end]
        assert task.read(pages.address + end - 7, 7) == data[end - 7 : end]
        assert task.read_some(pages.address + end - 7, 4096) == data[end - 7 : end]
        for address, size in ((end - 7, 8), (end, 1), (end - 1, 2)):
            with fails(errno.EFAULT):
                task.read(pages.address + address, size)
        with fails(errno.EFAULT):
            task.read_some(pages.address + end, 1)
        assert task.read(pages.address, 10) == data[:10]


@pytest.mark.parametrize("address", [0, 0x1000, 2**47, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 4096])
def test_read_where_nothing_is(address: int) -> None:
    pages = Pages(1, b"something")
    with Child(stepwise()) as child, task_of(child) as task:
        for _ in range(2):
            with fails(errno.EFAULT):
                task.read(address, 1)
            with fails(errno.EFAULT):
                task.read_some(address, 4096)
        assert task.read(pages.address, 9) == b"something"


def test_read_sees_what_is_there_now() -> None:
    pages = Pages(1, b"before")

    def change() -> None:
        pages.map[:6] = b"after!"

    with Child(stepwise(change)) as child, task_of(child) as task:
        assert task.read(pages.address, 6) == b"before"
        child.step()
        assert task.read(pages.address, 6) == b"after!"
    assert pages.map[:6] == b"before"


def test_execve_leaves_the_memory_behind() -> None:
    pages = Pages(1, b"old program")
    cat = shutil.which("cat")
    assert cat is not None

    def become_another(sock: socket.socket) -> None:
        sock.recv(1)
        os.dup2(sock.fileno(), 0)
        os.dup2(sock.fileno(), 1)
        os.execv(cat, [cat])

    with Child(become_another) as child, task_of(child) as task:
        assert task.read(pages.address, 11) == b"old program"
        assert task.exe() == os.readlink("/proc/self/exe")
        child.socket.send(b".")
        child.socket.send(b"running?")
        assert child.socket.recv(64) == b"running?"
        assert task.exe() == os.path.realpath(cat)
        assert task.status()["Name"] == "cat"
        (start, end, permissions), *_ = task.maps()
        assert permissions.startswith("r")
        assert task.read(start, 4) == b"\x7fELF"
        assert task.is_alive()
        ours = (pages.address, pages.address + PAGE_SIZE)
        if not any(s < ours[1] and ours[0] < e for s, e, _ in task.maps()):
            with fails(errno.EFAULT):
                task.read(pages.address, 11)
        assert task.read(start, end - start)[:4] == b"\x7fELF"


def test_nothing_to_read_of_the_dead() -> None:
    pages = Pages(1, b"alive")
    with Child(stepwise()) as child, task_of(child) as task:
        assert task.read(pages.address, 5) == b"alive"
        task.process.check_alive()
        child.kill()
        for use in (task.process.check_alive, lambda: task.read(pages.address, 5)):
            with pytest.raises(OSError):
                use()
        with fails(errno.EFAULT):
            task.write([(pages.address, b"x")])


def test_who_may_not_be_read() -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everybody")
    with Child(stepwise(lambda: prctl(PR_SET_DUMPABLE, 0))) as child:
        process = Process(child.pid)
        task = Task(child.pid, process)
        child.step()
        with pytest.raises(PermissionError):
            Task(child.pid, process)
        with pytest.raises(OSError) as caught:
            task.read(0x1000, 1)
        assert isinstance(caught.value.__cause__ or caught.value, PermissionError)
        with fails(errno.EFAULT):
            read_memory_into(child.pid, Pages(1).address, memoryview(bytearray(1)))
        task.close()
        process.close()


def test_write() -> None:
    pages = Pages(2, b"." * 20)
    with Child(stepwise()) as child, task_of(child) as task:
        task.write([(pages.address + 2, b"ab"), (pages.address + PAGE_SIZE - 1, b"cd")])
        assert task.read(pages.address, 6) == b"..ab.."
        assert task.read(pages.address + PAGE_SIZE - 1, 2) == b"cd"
        task.write([])
        task.write([(pages.address, b"")])
        task.write([(pages.address, bytes(4096))])
        assert task.read(pages.address, 20) == bytes(20)
    assert pages.map[:20] == b"." * 20


@pytest.mark.parametrize("protection", [0, mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_EXEC])
def test_write_respects_protection(protection: int) -> None:
    pages = Pages(3, b"protected")
    pages.map[PAGE_SIZE : PAGE_SIZE + 9] = b"protected"

    with Child(stepwise(lambda: pages.protect(1, protection))) as child, task_of(child) as task:
        child.step()
        inside = pages.address + PAGE_SIZE
        for address, size in ((inside, 1), (inside - 1, 2), (inside + PAGE_SIZE - 1, 2)):
            with fails(errno.EFAULT):
                task.write([(address, b"x" * size)])
            with fails(errno.EFAULT):
                write_memory_from(child.pid, address, memoryview(b"x" * size))
        with fails(errno.EFAULT):
            task.write([(pages.address, b"fine"), (inside, b"x")])
        child.kill()


@pytest.mark.parametrize(
    ("count", "size"), [(31, 4), (32, 4), (33, 4), (300, 8), (2, 4096), (5, 3000), (100, 100)]
)
def test_many_pieces(count: int, size: int) -> None:
    pages = Pages((count * (size + 1)) // PAGE_SIZE + 1)
    pieces = [
        (pages.address + number * (size + 1), bytes([number % 255 + 1]) * size)
        for number in range(count)
    ]
    with Child(stepwise()) as child, task_of(child) as task:
        task.write(pieces)
        expected = b"".join(piece + b"\0" for _, piece in pieces)
        assert task.read(pages.address, len(expected)) == expected
        # The last of them cannot be written.
        with fails(errno.EFAULT):
            task.write([*pieces, (0x1000, b"x")])


def test_large_copies() -> None:
    size = 3 << 20
    pages = Pages(size // PAGE_SIZE + 1)
    with Child(stepwise(lambda: pages.unmap(size // PAGE_SIZE))) as child:
        child.step()
        data = os.urandom(size - 100)
        write_memory_from(child.pid, pages.address + 50, memoryview(data))
        back = bytearray(size)
        read_memory_into(child.pid, pages.address, memoryview(back))
        assert back == bytes(50) + data + bytes(50)
        with fails(errno.EFAULT):
            read_memory_into(child.pid, pages.address + 1, memoryview(back))
        read_memory_into(child.pid, 0x1000, memoryview(bytearray()))
        write_memory_from(child.pid, 0x1000, memoryview(b""))


@given(
    offset=st.integers(0, 6 * PAGE_SIZE),
    size=st.one_of(st.integers(1, 50), st.integers(1, 6 * PAGE_SIZE)),
)
def test_any_range(memory_with_a_hole: tuple[Task, int, bytes], offset: int, size: int) -> None:
    """Pages 0, 1 and 4 are there, 2 and 3 are not, and nobody knows about 5."""
    task, address, data = memory_with_a_hole
    offset = min(offset, 5 * PAGE_SIZE - 1)
    size = min(size, 5 * PAGE_SIZE - offset)
    hole = range(2 * PAGE_SIZE, 4 * PAGE_SIZE)
    view = memoryview(bytearray(size))
    if offset in hole:
        with fails(errno.EFAULT):
            task.read_some(address + offset, size)
    else:
        end = hole.start if offset < hole.start else 5 * PAGE_SIZE
        there = data[offset : min(offset + size, end)]
        assert task.read_some(address + offset, size) == there
        if len(there) == size:
            assert task.read(address + offset, size) == there
            read_memory_into(task.tid, address + offset, view)
            assert view == there
            write_memory_from(task.tid, address + offset, memoryview(there))
            return
    for use in (
        lambda: task.read(address + offset, size),
        lambda: read_memory_into(task.tid, address + offset, view),
    ):
        with fails(errno.EFAULT):
            use()


@pytest.fixture(scope="module")
def memory_with_a_hole() -> Iterator[tuple[Task, int, bytes]]:
    data = os.urandom(5 * PAGE_SIZE)
    pages = Pages(5, data)
    with Child(stepwise(lambda: pages.unmap(2, 2))) as child, task_of(child) as task:
        child.step()
        yield task, pages.address, data


# Who it is


def test_status_exe_and_maps() -> None:
    pages = Pages(3)
    with Child(stepwise(lambda: pages.protect(1, mmap.PROT_READ))) as child:
        child.step()
        with task_of(child) as task:
            status = task.status()
            assert int(status["Pid"]) == int(status["Tgid"]) == child.pid
            uids = [*os.getresuid(), os.geteuid()]
            assert [int(uid) for uid in status["Uid"].split()] == uids
            assert task.exe() == os.readlink("/proc/self/exe")
            maps = task.maps()
            assert maps == sorted(maps)
            assert all(start < end for start, end, _ in maps)
            address = pages.address + PAGE_SIZE
            assert [found for found in maps if found[0] <= address < found[1]] == [
                (address, address + PAGE_SIZE, "r--p")
            ]
            null = task.open_file("/dev/null", os.O_RDWR)
            assert os.fstat(null).st_rdev == os.makedev(1, 3)
            assert not os.get_inheritable(null)
            os.close(null)


def test_threads_and_their_process() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    tid = thread.native_id
    assert tid is not None
    assert thread_group(tid) == thread_group(os.getpid()) == os.getpid()
    process = Process(os.getpid())
    task = Task(tid, process)
    assert task.is_alive()
    pages = Pages(1, b"ours")
    assert task.read(pages.address, 4) == b"ours"
    over.set()
    thread.join()
    wait_until(lambda: not task.is_alive())
    with pytest.raises(OSError):
        task.link(0)
    with pytest.raises(OSError):
        thread_group(tid)
    task.close()
    process.close()


def test_a_zombie_is_still_there() -> None:
    with Child(stepwise()) as child, task_of(child) as task:
        assert not task.process.has_ended()
        os.kill(child.pid, signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert task.is_alive()
        assert task.process.has_ended()
        child.kill()
        assert not task.is_alive()
        assert task.process.has_ended()


# Numbers that are used again


def fork_idle() -> int:
    """A process that waits to be killed."""
    pid = os.fork()
    if not pid:
        signal.pause()
        os._exit(0)
    return pid


def fork_with_number(pid: int) -> int:
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
    return fork_idle()


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def numbers_again(_: socket.socket) -> None:
    """The first process of a PID namespace, where nobody else takes numbers."""
    mount("proc", "/proc", "proc", 0)
    pid = fork_idle()
    table = TaskTable()
    task, is_new = table.add(pid)
    assert is_new
    assert task.is_alive()
    assert task.link(0)
    assert task.read(task.maps()[0][0], 1)
    assert table.add(pid) == (task, False)
    process = task.process
    end(pid)
    assert fork_with_number(pid) == pid
    # By number it would be there.
    assert Path(f"/proc/{pid}").exists()
    assert not task.is_alive()
    assert process.has_ended()
    for use in (
        lambda: task.link(0),
        lambda: task.link(1),
        lambda: task.get_fd(0),
        lambda: task.file_identity(0),
        lambda: task.read(task.maps()[0][0], 1),
        task.exe,
        task.status,
        lambda: task.fdinfo(0),
        process.check_alive,
    ):
        with pytest.raises(OSError):
            use()
    # The table gives the new one, even if nobody has told it of the end of the old.
    new_task, is_new = table.add(pid)
    assert is_new
    assert new_task is not task
    assert new_task.process is not process
    assert new_task.link(0)
    assert not new_task.process.has_ended()
    # And to be told late does no harm to it.
    assert new_task not in table.pop_process(process)
    assert table.tasks == {pid: new_task}
    assert table.processes == {pid: new_task.process}
    end(pid)
    assert table.pop_process(new_task.process) == [new_task]
    assert not table.tasks
    assert not table.processes


def test_a_number_is_used_again() -> None:
    def enter(_: socket.socket) -> None:
        try:
            enter_mount_namespace()
            unshare(CLONE_NEWPID)
        except OSError as error:
            pytest.skip(f"no namespaces here: {error}")
        with Child(numbers_again):
            pass

    with Child(enter):
        pass


# The table


class SmallTable(TaskTable):
    _MAX_TASKS = 3


@contextmanager
def threads(count: int) -> Iterator[list[int]]:
    """Thread ids of this process."""
    over = threading.Event()
    running = [threading.Thread(target=over.wait) for _ in range(count)]
    for thread in running:
        thread.start()
    yield [thread.native_id or 0 for thread in running]
    over.set()
    for thread in running:
        thread.join()


def close_all(table: TaskTable) -> None:
    for process in list(table.processes.values()):
        for task in table.pop_process(process):
            task.close()
        process.close()


def test_the_table_knows_one_process() -> None:
    table = TaskTable()
    with threads(2) as (one, two):
        first, is_new = table.add(one)
        assert is_new
        second, is_new = table.add(two)
        assert not is_new
        assert first.process is second.process
        assert first.process.tasks == {one, two}
        table.discard(one)
        table.discard(one)
        assert table.tasks == {two: second}
        assert first.process.tasks == {two}
        close_all(table)
    assert not table.tasks
    with pytest.raises(OSError):
        table.add(2**22 + 1)  # no thread has such a number
    assert not table.processes


def test_the_table_has_a_limit() -> None:
    table = SmallTable()
    before = len(open_descriptors())
    with threads(10) as tids:
        for tid in tids:
            table.add(tid)
            assert tid in table.tasks
            assert len(table.tasks) <= 3
        assert tids[0] not in table.tasks
        (process,) = table.processes.values()
        assert process.tasks == set(table.tasks)
        close_all(table)
    assert len(open_descriptors()) <= before


def test_the_table_keeps_who_is_in_use() -> None:
    busy: set[int] = set()
    table = SmallTable(busy.__contains__)
    with threads(10) as tids:
        task, _ = table.add(tids[0])
        busy.add(tids[0])
        for tid in tids[1:]:
            table.add(tid)
        assert table.tasks[tids[0]] is task
        assert task.link(0)
        busy.clear()
        close_all(table)


def is_no_thread(tid: int) -> bool:
    return not Path(f"/proc/self/task/{tid}").exists()


def test_the_table_forgets_threads_that_ended() -> None:
    table = TaskTable()
    with threads(1) as (stays,):
        table.add(stays)
        for _ in range(100):
            with threads(1) as (goes,):
                table.add(goes)
            wait_until(partial(is_no_thread, goes))
        assert stays in table.tasks
        assert len(table.tasks) < 10
        close_all(table)


def test_a_process_ends() -> None:
    table = TaskTable()
    with Child(stepwise()) as child:
        task, _ = table.add(child.pid)
        process = task.process
        assert not select.select([process.pidfd], [], [], 0)[0]
        child.kill()
        assert select.select([process.pidfd], [], [], PATIENCE)[0]
        assert table.pop_process(process) == [task]
        assert table.pop_process(process) == []
        task.close()
        process.close()
    with pytest.raises(OSError):
        table.add(child.pid)
    assert not table.processes


def test_memory_of_a_thread_is_the_processs() -> None:
    pages = Pages(1)
    with threads(1) as (tid,):
        write_memory(tid, [(pages.address, b"by thread")])
    assert pages.map[:9] == b"by thread"
