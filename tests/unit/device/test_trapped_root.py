# SPDX-License-Identifier: BSD-2-Clause
"""The trapped root: forked by a child, which then serves the listener and plays gentee's part."""

import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gentee.abi.linux_tee import TEE_IOC_VERSION
from gentee.core.device import DeviceRegistry
from gentee.device.door import Door
from gentee.device.host import receive_listener
from gentee.device.trapped_root import (
    NUMBER,
    WAY_AUTO,
    WAY_NAMESPACE,
    WAY_OPEN,
    fork_root,
    signals_to_restore,
    tee_filter,
    ways_to_try,
)
from gentee.drivers.loopback import driver
from gentee.linux import arch
from gentee.linux.libc import PR_SET_CHILD_SUBREAPER, prctl
from gentee.linux.notify import Notifier
from gentee.linux.seccomp import install_filter
from tests.helpers import PATIENCE, Child, LocalHost, open_descriptors, wait_until

WAYS = [WAY_NAMESPACE, WAY_OPEN]


class Program:
    """A trapped root, and the receiving end of what is below it."""

    def __init__(self, argv: list[str], way: str, restore: list[int], *, serve: bool) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.socket = fork_root(argv, way, restore)
        self.socket.settimeout(PATIENCE)
        self.socket.send(b"tee0\nteepriv0")
        try:
            listener, *self.files = receive_listener(self.socket)
        except PermissionError as error:
            pytest.skip(f"no mount namespace here: {error}")
        self.exec_error = 0
        self.bugs: list[BaseException] = []
        self.calls: list[int] = []  # their commands, or 0 for an open
        self.notifier = Notifier(listener, self.bugs.append)
        if serve:
            self.notifier.calls = self._go_on
            self.notifier.start()

    def _go_on(self, notify_id: int, *call: int) -> None:
        is_ioctl = call[4] == TEE_IOC_VERSION
        self.calls.append(TEE_IOC_VERSION if is_ioctl else 0)
        if is_ioctl:
            self.notifier.answer(notify_id, 77)
        else:
            self.notifier.continue_(notify_id)

    def run(self) -> int:
        """Let the program run; its wait status."""
        self.socket.send(b"R")
        pid = 0
        while not pid:
            pid = self._message()
        status = os.waitpid(pid, 0)[1]
        if status == 127 << 8 and not self.exec_error:
            self._message()
        return status

    def _message(self) -> int:
        """The program's number, or 0 where it could not run, and why."""
        message = self.socket.recv(64)
        (number,) = NUMBER.unpack(message[1:])
        if message[:1] == b"C":
            return int(number)
        assert message[:1] == b"E"
        self.exec_error = int(number)
        return 0

    def close(self) -> None:
        self.socket.close()
        # All that was below the filter has ended, the root itself too.
        try:
            while True:
                assert os.wait()[1] == 0
        except ChildProcessError:
            pass
        self.notifier.stop()
        assert not self.bugs


@contextmanager
def program(
    argv: list[str], way: str, restore: list[int] | None = None, *, serve: bool = True
) -> Iterator[Program]:
    """:param serve: let its opens go on and answer its ioctls."""
    started = Program(argv, way, restore if restore is not None else [], serve=serve)
    yield started
    started.close()


def in_child(job: Callable[[], None]) -> None:
    with Child(lambda _socket: job()):
        pass


def test_ways() -> None:
    assert ways_to_try(WAY_AUTO) == [WAY_NAMESPACE, WAY_OPEN]
    for way in WAYS:
        assert ways_to_try(way) == [way]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("code", "status"), [("exit 7", 7 << 8), ("kill -9 $$", 9)])
def test_a_program_runs(way: str, code: str, status: int) -> None:
    def job() -> None:
        with program(["sh", "-c", code], way) as started:
            assert started.run() == status

    in_child(job)


def test_ways_differ_in_what_they_trap(tmp_path: Path) -> None:
    """The program's ioctls in both, its opens in one."""
    code = (
        "import fcntl, sys\n"
        f"sys.exit(fcntl.ioctl(0, {TEE_IOC_VERSION}, 0))"  # as good as any descriptor
    )

    def job() -> None:
        import sys

        for way in WAYS:
            with program([sys.executable, "-c", code], way) as started:
                assert os.WEXITSTATUS(started.run()) == 77
                assert started.calls.count(TEE_IOC_VERSION) == 1
                assert (0 in started.calls) == (way == WAY_OPEN)

    in_child(job)


X32_CLIENT = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
fd = os.open("/dev/tee0", os.O_RDWR)
for number in (16, 0x40000000 | 514):
    version = (ctypes.c_uint32 * 3)()
    words = number, fd, 0x800CA400, ctypes.addressof(version)
    if libc.syscall(*map(ctypes.c_long, words)) or version[0] != 0x4C4F4F50:
        sys.exit(f"ioctl of number {number:#x}")
"""


@pytest.mark.skipif(arch.MACHINE != "x86_64", reason="x32 is a way to use x86-64")
def test_ioctls_of_x32() -> None:
    """Their ioctl has a number of its own."""

    def job() -> None:
        import sys

        host, registry = LocalHost(), DeviceRegistry()
        for desc in driver.probe(host, {}):
            registry.tee_device_register(desc)
        with program([sys.executable, "-c", X32_CLIENT], WAY_OPEN, serve=False) as started:
            Door(started.notifier, host, registry)
            started.notifier.start()
            assert started.run() == 0
        host.close()

    in_child(job)


def test_device_files() -> None:
    def job() -> None:
        code = "test -w /dev/tee0 && test -w /dev/teepriv0 && echo hello > /dev/tee0"
        with program(["sh", "-c", code], WAY_NAMESPACE) as started:
            assert len(started.files) == 2
            assert started.run() == 0
            assert os.pread(started.files[0], 10, 0) == b"hello\n"
        assert not Path("/dev/tee0").is_file()

    in_child(job)


@pytest.mark.parametrize(
    ("name", "number"), [("/nowhere/at-all", errno.ENOENT), ("no-such-program", errno.ENOENT)]
)
def test_a_program_that_is_not_there(name: str, number: int) -> None:
    def job() -> None:
        with program([name], WAY_OPEN) as started:
            assert started.run() == 127 << 8
            assert started.exec_error == number

    in_child(job)


def test_a_program_that_cannot_run(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("no program")

    def job() -> None:
        with program([str(file)], WAY_OPEN) as started:
            assert started.run() == 127 << 8
            assert started.exec_error == errno.EACCES

    in_child(job)


@pytest.mark.parametrize("way", WAYS)
def test_signals_are_as_they_were(way: str, tmp_path: Path) -> None:
    """What Python and gentee change, the program does not see; what was ignored stays so."""
    status = tmp_path / "status"

    def job() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        restore = signals_to_restore()
        assert signal.SIGHUP not in restore
        code = f"exec grep -E 'Sig(Ign|Blk)' /proc/self/status > {status}"
        with program(["sh", "-c", code], way, restore) as started:
            assert started.run() == 0

    in_child(job)
    masks = {line.split()[0]: int(line.split()[1], 16) for line in status.read_text().splitlines()}
    ignored = [number for number in range(1, 32) if masks["SigIgn:"] >> number - 1 & 1]
    assert ignored == [signal.SIGHUP]
    assert masks["SigBlk:"] == 0


def test_programs_have_this_one_as_parent(tmp_path: Path) -> None:
    """Not the root: who may read their memory, and whom they see, depends on it."""
    note = tmp_path / "parent"

    def job() -> None:
        with program(["sh", "-c", f"echo $PPID > {note}"], WAY_OPEN) as started:
            assert started.run() == 0
        assert int(note.read_text()) == os.getpid()

    in_child(job)


def test_nothing_more_is_inherited(tmp_path: Path) -> None:
    note = tmp_path / "descriptors"

    def job() -> None:
        inheritable = {fd for fd in open_descriptors() if os.get_inheritable(fd)}
        with program(["sh", "-c", f"ls /proc/self/fd > {note}"], WAY_OPEN) as started:
            assert started.run() == 0
        found = {int(name) for name in note.read_text().split()}
        assert len(found - inheritable) <= 1  # that of the folder

    in_child(job)


def test_no_run_after_all() -> None:
    """The one who forked it ends, or wants none, before it says which devices there are."""

    def job() -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        for way in WAYS:
            fork_root(["true"], way, []).close()
            assert os.wait()[1] == 0

    in_child(job)


def test_it_ends_with_who_forked_it() -> None:
    def job() -> None:
        def fork(sock: socket.socket) -> None:
            root = fork_root(["true"], WAY_OPEN, [])
            sock.send(b".")
            sock.recv(1)
            root.close()

        prctl(PR_SET_CHILD_SUBREAPER, 1)
        program = Child(fork)
        program.socket.recv(1)
        program.kill()
        wait_until(nobody_left)

    in_child(job)


def nobody_left() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def test_where_somebody_listens_already() -> None:
    def job() -> None:
        install_filter(tee_filter(trap_open=False))
        sock = fork_root(["true"], WAY_OPEN, [])
        sock.send(b"tee0")
        with pytest.raises(OSError) as caught:
            receive_listener(sock)
        assert caught.value.errno == errno.EBUSY
        assert os.wait()[1] == 0

    in_child(job)
