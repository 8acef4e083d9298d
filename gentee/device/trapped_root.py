# SPDX-License-Identifier: BSD-2-Clause
"""The trapped root: the process with the filter, from which clients and the warm parent come.

It is forked from the program before that has threads or secrets, makes the clients' ``/dev``,
installs the filter, sends the listener up and then only forks on request. One filter above all of
them is what lets a single receive serve clients and trusted services (DESIGN 3.10).

Clients are forked twice, so that they become children of the program itself, which is a child
subreaper: they see the parent that started gentee's process, and it may read them under Yama.

Messages on the socket, each one packet. Down: first the names of the devices, one a line; then
``R`` run the program, ``S`` spawn a module (with a descriptor), ``E`` end what was spawned, ``P``
open a file, which is trapped where opens are, ``H`` hold descriptors to the end. Up: ``L`` listener
and device files (descriptors), ``N`` no way to listen, ``C`` client pid, ``E`` errno of a failed
exec, ``K`` what was spawned is killed.
"""

import errno
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Callable
from struct import Struct

from gentee.abi.dma_heap import DMA_HEAP_IOCTL_ALLOC, FOLDER
from gentee.abi.linux_tee import TEE_IOC_MAGIC
from gentee.linux import arch
from gentee.linux.libc import PR_SET_PDEATHSIG, prctl
from gentee.linux.namespaces import cover_dev, enter_mount_namespace, make_device_files
from gentee.linux.seccomp import FilterBuilder, install_filter

NUMBER = Struct("<q")

WAY_NAMESPACE = "namespace"
WAY_OPEN = "open"
WAY_AUTO = "auto"  # the first, or else the second: decided by who forks the trapped root
WAY_SERVICES = "services"  # no clients at all: only what spawned services do

OPEN_CALLS = ("open", "creat", "openat", "openat2")

# What a terminal sends to all of its foreground group is meant for the client alone.
TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
# What Python or this program changes, and what a client must find as it was.
_CHANGED = (*TERMINAL_SIGNALS, signal.SIGTERM, signal.SIGHUP, signal.SIGURG)
_CHANGED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def signals_to_restore() -> list[int]:
    """The signals to set to their default for a client; called before any is changed.

    One that was ignored from the start (``nohup``) stays ignored.
    """
    mine = [number for number in _CHANGED if signal.getsignal(number) != signal.SIG_IGN]
    return [*mine, *_CHANGED_BY_PYTHON]


def tee_filter(*, trap_open: bool, has_heap: bool = False) -> bytes:
    """The filter: ioctls with TEE's magic, and opens where there is no ``/dev`` of our own.

    :param has_heap: the one of a DMA heap as well.
    """
    builder = FilterBuilder()
    for audit_arch in arch.ARCHES:
        ioctls = [arch.SYS[audit_arch]["ioctl"]]
        if audit_arch == arch.AUDIT_ARCH_X86_64:
            # The x32 ABI has an ioctl of its own number.
            ioctls.append(arch.X32_SYSCALL_BIT | 514)
        for nr in ioctls:
            builder.notify_ioctl_magic(audit_arch, nr, TEE_IOC_MAGIC)
            if has_heap:
                builder.notify_ioctl(audit_arch, nr, DMA_HEAP_IOCTL_ALLOC)
        if trap_open:
            for name in OPEN_CALLS:
                if name in arch.SYS[audit_arch]:
                    builder.notify(audit_arch, arch.SYS[audit_arch][name])
    return builder.build()


def ways_to_try(way: str) -> list[str]:
    """The ways that ``way`` stands for, the best one first."""
    return [WAY_NAMESPACE, WAY_OPEN] if way == WAY_AUTO else [way]


def fork_root(argv: list[str], way: str, restore: list[int]) -> socket.socket:
    """Fork the trapped root of a program that will be run; our end of its socket.

    It makes its ``/dev`` at once and waits for the names of the devices. If the socket is closed
    before it gets them, it ends.
    """
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        mine.close()
        TrappedRoot(theirs, argv, way, restore).main()
    theirs.close()
    return mine


class TrappedRoot:
    """The process itself; ``main`` never returns."""

    def __init__(
        self,
        sock: socket.socket,
        argv: list[str],
        way: str,
        restore: list[int],
    ) -> None:
        self._sock = sock
        self._argv = argv
        self._way = way
        self._restore = restore
        self._spawned: list[int] = []  # pidfds

    def main(self) -> None:
        status = 1
        try:
            if self._way != WAY_SERVICES:  # whose parent is gone: it ends with its socket
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            for number in TERMINAL_SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            if self._prepare():
                self._serve()
            status = 0
        except BrokenPipeError:
            status = 0
        except BaseException as error:  # nothing may unwind into the program's own stack
            os.write(2, f"gentee: trapped root: {error!r}\n".encode())
        finally:
            os._exit(status)

    def _prepare(self) -> bool:
        """Make ``/dev``, install the filter, send both up."""
        files: list[int] = []
        names: list[str] = []
        reason = ""
        if self._way == WAY_NAMESPACE:
            try:
                enter_mount_namespace()
                cover_dev()
            except OSError as error:
                # It may be in half of a namespace, which cannot be left: this one is of no use.
                reason = error.strerror or str(error)
        if self._way != WAY_SERVICES:
            message = self._sock.recv(4096)
            if not message:  # there will be no run
                return False
            names = message.decode().split()
            if self._way == WAY_NAMESPACE and not reason:
                files = make_device_files(names)
        if reason:
            self._sock.send(b"N" + NUMBER.pack(errno.EPERM) + reason.encode())
            return False
        try:
            has_heap = any(name.startswith(FOLDER) for name in names)
            listener = install_filter(
                tee_filter(trap_open=self._way == WAY_OPEN, has_heap=has_heap)
            )
        except OSError as error:
            reason = error.strerror or "seccomp"
            self._sock.send(b"N" + NUMBER.pack(error.errno or errno.EIO) + reason.encode())
            return False
        socket.send_fds(self._sock, [b"L"], [listener, *files])
        for fd in (listener, *files):
            os.close(fd)
        return True

    def _serve(self) -> None:
        while True:
            message, fds, _flags, _address = socket.recv_fds(self._sock, 4096, 4)
            if not message:
                os.closerange(0, 3)  # somebody may read to the end what we could have written
                return
            if message[:1] == b"R":
                pid = self._fork_away(self._exec_client)
                self._sock.send(b"C" + NUMBER.pack(pid))
            elif message[:1] == b"S":
                module = message[1:].decode()
                socket_fd = fds[0]
                pid = self._fork_away(lambda: exec_module(module, socket_fd))  # noqa: B023 (now)
                os.close(socket_fd)
                try:
                    self._spawned.append(os.pidfd_open(pid))
                except ProcessLookupError:  # it has ended already
                    pass
            elif message[:1] == b"E":
                self._end_spawned()
                self._sock.send(b"K")
            elif message[:1] == b"P":
                os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def _end_spawned(self) -> None:
        """Kill what was spawned: by now it has nothing to do, or is just starting."""
        for pidfd in self._spawned:
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _fork_away(self, then: Callable[[], None]) -> int:
        """Run ``then`` in a grandchild, which becomes the program's own child; its pid.

        It starts when it is that: one that asks for a signal at its parent's end would otherwise
        get it for the end of the child in between.
        """
        reader, writer = os.pipe()
        gate, opener = os.pipe()
        child = os.fork()
        if child == 0:
            grandchild = os.fork()
            if grandchild:
                os.write(writer, NUMBER.pack(grandchild))
                os._exit(0)
            try:
                for fd in (reader, writer, opener):
                    os.close(fd)
                os.read(gate, 1)
                os.close(gate)
                then()
            finally:
                os._exit(127)
        os.close(writer)
        (pid,) = NUMBER.unpack(os.read(reader, 8))
        os.waitpid(child, 0)
        for fd in (reader, gate, opener):
            os.close(fd)
        return int(pid)

    def _exec_client(self) -> None:
        for number in self._restore:
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execvp(self._argv[0], self._argv)
        except OSError as error:
            number = error.errno or errno.EIO
            # A folder in PATH that this user may not enter is no news, as for a shell.
            if number == errno.EACCES and not _is_found(self._argv[0]):
                number = errno.ENOENT
            self._sock.send(b"E" + NUMBER.pack(number))


def _is_found(name: str) -> bool:
    """Whether there is such a program, though perhaps not for this user to run."""
    if "/" in name:
        return True
    return any(os.path.exists(os.path.join(folder, name)) for folder in os.get_exec_path())


_TIOCNOTTY = 0x5422  # <asm-generic/ioctls.h>


def _leave_terminal() -> None:
    """The terminal's signals are for the client, and no service can open or feed the terminal.

    By a process group and TIOCNOTTY, not by setsid(): the scheduler shares a busy CPU out among
    sessions first (autogroup), and a call that goes from one session to another and back would lose
    its turn each time, milliseconds.
    """
    os.setpgid(0, 0)
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # there is none
        return
    try:
        fcntl.ioctl(terminal, _TIOCNOTTY)
    finally:
        os.close(terminal)


def exec_module(module: str, socket_fd: int) -> None:
    """Become a fresh interpreter that runs ``module.main(socket_fd)``, and nothing else.

    Isolated (-I): no environment, no user site; the folder that gentee was imported from is added,
    so that a checkout works as an installation does.
    """
    _leave_terminal()
    os.set_inheritable(socket_fd, True)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = (
        "import sys; sys.path.append(sys.argv[1]); import importlib; "
        "importlib.import_module(sys.argv[2]).main(int(sys.argv[3]))"
    )
    argv = [sys.executable, "-I", "-c", code, package_parent, module, str(socket_fd)]
    os.execve(sys.executable, argv, {})
