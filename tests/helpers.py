# SPDX-License-Identifier: BSD-2-Clause
"""A host, a door and a client for tests that need no other process.

The door is small but whole: parameters travel as the bytes of struct tee_ioctl_param, through the
same functions of gentee.core that the doors of gentee.device use, and answers are read from the
bytes that a client would find in its memory.
"""

import ctypes
import errno
import mmap
import os
import select
import signal
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import pytest

import gentee.device.host
from gentee.abi.linux_tee import (
    TEE_IOCTL_LOGIN_PUBLIC,
    TEE_IOCTL_PARAM,
    TEE_IOCTL_PARAM_ATTR_META,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT,
    TEE_MEMREF_NULL,
)
from gentee.core import calls
from gentee.core.context import TeeContext, teedev_close_context, teedev_open
from gentee.core.device import DeviceRegistry, TeeDevice
from gentee.core.driver import TeeDesc, TeeDriverOps
from gentee.core.host import Host
from gentee.core.params import (
    params_from_supp,
    params_from_user,
    params_put,
    params_to_supp,
    params_to_user,
)
from gentee.core.shm import (
    TEE_SHM_DYNAMIC,
    TEE_SHM_USER_MAPPED,
    Backing,
    TeeShm,
    tee_shm_alloc_user_buf,
    tee_shm_register,
)
from gentee.linux.events import EventLoop
from gentee.linux.libc import PR_SET_PDEATHSIG, prctl
from gentee.linux.notify import Notifier
from gentee.linux.process_memory import read_memory_into, write_memory_from

# Long enough for the slowest machine; a test that waits this long has failed.
PATIENCE = 20.0

Param = tuple[int, int, int, int]  # attr, a, b, c of struct tee_ioctl_param

NONE: Param = (0, 0, 0, 0)
META: Param = (TEE_IOCTL_PARAM_ATTR_META, 0, 0, 0)


def value_in(a: int = 0, b: int = 0, c: int = 0) -> Param:
    return (TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT, a, b, c)


def value_out() -> Param:
    return (TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT, 0, 0, 0)


def value_inout(a: int = 0, b: int = 0, c: int = 0) -> Param:
    return (TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT, a, b, c)


def _memref(attr: int, shm: TeeShm | None, offset: int, size: int | None) -> Param:
    if shm is None:
        return (attr, offset, size or 0, TEE_MEMREF_NULL)
    return (attr, offset, shm.size - offset if size is None else size, shm.id)


def memref_in(shm: TeeShm | None, offset: int = 0, size: int | None = None) -> Param:
    """``size`` None: to the end of the buffer. ``shm`` None: a NULL reference."""
    return _memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, shm, offset, size)


def memref_out(shm: TeeShm | None, offset: int = 0, size: int | None = None) -> Param:
    return _memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT, shm, offset, size)


def memref_inout(shm: TeeShm | None, offset: int = 0, size: int | None = None) -> Param:
    return _memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT, shm, offset, size)


def pack(params: Sequence[Param]) -> bytes:
    return b"".join(TEE_IOCTL_PARAM.pack(*param) for param in params)


def unpack(data: bytes) -> list[Param]:
    return list(TEE_IOCTL_PARAM.iter_unpack(data))


class ServiceHost(gentee.device.host.LocalHost):
    """The host of a program that uses trusted services: what they and gentee say is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[str, int, str]] = []
        self.warnings: list[str] = []
        self.bugs: list[BaseException] = []

    def log(self, source: str, level: int, text: str) -> None:
        self.logged.append((source, level, text))

    def log_block(self, source: str, level: int, lines: Sequence[str]) -> None:
        self.logged += [(source, level, line) for line in lines]

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def bug(self, error: BaseException) -> None:
        self.bugs.append(error)

    def close(self) -> None:
        """End the threads and the trapped root. What went wrong fails the test."""
        super().close()
        assert not self.bugs, self.bugs


class LocalHost(Host):
    """The surroundings of a driver in a test: real events, nothing to start processes with."""

    def __init__(self) -> None:
        self.events = EventLoop(self.bug)
        self.logged: list[tuple[str, int, str]] = []
        self.warnings: list[str] = []
        self.bugs: list[BaseException] = []
        self.events.start()

    def notifier(self) -> Notifier:
        raise OSError(errno.ENOSYS, "no listener in this test")

    def spawn_trapped(self, module: str, socket_fd: int) -> None:
        raise OSError(errno.ENOSYS, "no processes in this test")

    def log(self, source: str, level: int, text: str) -> None:
        self.logged.append((source, level, text))

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def bug(self, error: BaseException) -> None:
        self.bugs.append(error)

    def close(self) -> None:
        """End the events thread. What went wrong there fails the test."""
        self.events.stop()
        assert not self.bugs, self.bugs


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    """Look until ``condition`` is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it never came: {what or condition}")
        select.select([], [], [], 0.001)


def open_descriptors() -> set[int]:
    """Those of this process."""
    found = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}
    for fd in tuple(found):
        try:
            os.fstat(fd)
        except OSError:  # that of the folder
            found.discard(fd)
    return found


class Child:
    """A forked process that runs ``job`` with one end of ``socket``, and ends.

    A context manager that waits for its end: what goes wrong there fails the test, a skip there
    skips it.
    """

    def __init__(self, job: Callable[[socket.socket], object]) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        self._report, report = os.pipe()
        parent = os.getpid()
        with warnings.catch_warnings():
            # Of Python 3.12, about threads that hold locks: the child uses nothing of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            self.socket.close()
            os.close(self._report)
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() not in (parent, 0):  # 0: it is the first of a namespace
                os._exit(1)
            _run_and_exit(job, theirs, report)
        theirs.close()
        os.close(report)
        self._running = True

    def wait(self) -> None:
        """Wait for its end, which must be a good one, unless it was killed.

        It finds its socket closed, but what it sent can still be received.
        """
        text = b""
        if not self._running:
            return
        self.socket.shutdown(socket.SHUT_WR)
        try:
            while True:
                readable, _, _ = select.select([self._report], [], [], PATIENCE)
                if not readable:
                    raise TimeoutError("the child does not end")
                data = os.read(self._report, 65536)
                if not data:
                    break
                text += data
        finally:
            status = self.kill()
        if status == 2 << 8:
            pytest.skip(text.decode())
        assert status == 0, f"status {status:#x} of the child\n{text.decode()}"

    def step(self) -> None:
        """Let a :func:`stepwise` child do its next step."""
        self.socket.send(b".")
        self.socket.recv(1)

    def kill(self) -> int:
        """End it if it still runs; its wait status. Twice is once."""
        if not self._running:
            return 0
        self._running = False
        self.socket.close()
        if not select.select([self._report], [], [], 0)[0]:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self._report)
        return os.waitpid(self.pid, 0)[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.wait()
        else:
            self.kill()


def stepwise(*steps: Callable[[], object]) -> Callable[[socket.socket], None]:
    """A child's job: each step when the test says so, and then nothing until the test is over."""

    def job(sock: socket.socket) -> None:
        for step in steps:
            if not sock.recv(1):
                return
            step()
            sock.send(b".")
        sock.recv(1)

    return job


def _run_and_exit(
    job: Callable[[socket.socket], object], sock: socket.socket, report: int
) -> NoReturn:
    status = 1
    try:
        job(sock)
        status = 0
    except pytest.skip.Exception as skip:
        os.write(report, str(skip).encode())
        status = 2
    except BaseException:
        os.write(report, traceback.format_exc().encode())
    finally:
        os._exit(status)


class MinimalOps(TeeDriverOps):
    """The three operations that every driver has."""

    version = (0x7465_7374, 0, 0)

    def get_version(self, teedev: TeeDevice) -> tuple[int, int, int]:
        return self.version

    def open(self, ctx: TeeContext) -> None:
        pass

    def release(self, ctx: TeeContext) -> None:
        pass


def make_device(ops: TeeDriverOps | None = None, **desc: Any) -> TeeDevice:
    """A registered device ``tee0`` of ``ops``; ``desc`` goes to TeeDesc."""
    if ops is None:
        ops = MinimalOps()
    return DeviceRegistry().tee_device_register(TeeDesc("test", ops, impl_id=0x7465_7374, **desc))


class OwnMemory(Backing):
    """Memory of this very process, read and written as a client's is: by address."""

    def __init__(self, data: bytes, address: int | None = None) -> None:
        self.map = mmap.mmap(-1, max(len(data), 1))
        self.map[: len(data)] = data
        self.size = len(data)
        self.closed = 0
        self._anchor = ctypes.c_char.from_buffer(self.map)
        self.address = ctypes.addressof(self._anchor) if address is None else address

    def copy_in(self, offset: int, view: memoryview) -> None:
        read_memory_into(os.getpid(), self.address + offset, view)

    def copy_out(self, offset: int, view: memoryview) -> None:
        write_memory_from(os.getpid(), self.address + offset, view)

    def identity(self) -> tuple[object, int]:
        return (os.getpid(), self.address)

    def close(self) -> None:
        self.closed += 1

    @property
    def data(self) -> bytes:
        return bytes(self.map[: self.size])


class Call:
    """A call under way. ``params`` are what the client finds in its memory afterwards."""

    def __init__(self, params: Sequence[Param]) -> None:
        self.memory = bytearray(pack(params))
        self.arg: Any = None
        self.times_done = 0
        self._done = threading.Event()

    def done(self, arg: calls.CallArg) -> None:
        if not arg.error:
            for address, data in params_to_user(arg.params, 0):
                self.memory[address : address + len(data)] = data
        params_put(arg.params)
        self.finished()

    def received(self, arg: calls.SuppRecvArg) -> None:
        """As ``done``, of a SUPPL_RECV: what it got stays the requester's."""
        if not arg.error:
            data = params_to_supp(arg.params)
            self.memory[: len(data)] = data
        self.finished()

    def finished(self) -> None:
        self.times_done += 1
        self._done.set()

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    @property
    def params(self) -> list[Param]:
        return unpack(bytes(self.memory))

    def wait_end(self) -> None:
        """Wait for the answer, whatever it is."""
        if not self._done.wait(PATIENCE):
            raise TimeoutError("the call was not answered")
        assert self.times_done == 1

    def wait_done(self) -> Self:
        """Wait for the answer; the ioctl's errno is raised."""
        self.wait_end()
        if self.arg.error:
            raise OSError(self.arg.error, os.strerror(self.arg.error))
        return self

    @property
    def result(self) -> tuple[int, int]:
        """(ret, ret_origin) after the answer."""
        self.wait_done()
        return self.arg.ret, self.arg.ret_origin


class Client:
    """An open device file, and what a client does with it. Methods are named as the ioctls."""

    def __init__(self, device: TeeDevice) -> None:
        self.device = device
        self.ctx = teedev_open(device)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        teedev_close_context(self.ctx)

    def shm_alloc(self, size: int, data: bytes = b"") -> TeeShm:
        """Its reference is the client's descriptor: ``put`` closes it."""
        shm = tee_shm_alloc_user_buf(self.ctx, size)
        shm.view()[: len(data)] = data
        return shm

    def shm_register(self, memory: Backing, size: int) -> TeeShm:
        return tee_shm_register(
            self.ctx, size, TEE_SHM_DYNAMIC | TEE_SHM_USER_MAPPED, backing=memory
        )

    def begin_open_session(
        self,
        uuid: bytes,
        params: Sequence[Param] = (),
        *,
        login: int = TEE_IOCTL_LOGIN_PUBLIC,
        cancel_id: int = 0,
    ) -> Call:
        call = Call(params)
        decoded = params_from_user(self.ctx, bytes(call.memory), 0, len(params))
        call.arg = calls.OpenSessionArg(
            self.ctx, uuid, bytes(16), login, cancel_id, decoded, call.done
        )
        calls.open_session(self.device.ops, call.arg)
        return call

    def open_session(self, uuid: bytes, params: Sequence[Param] = ()) -> int:
        """The id of a new session, which must have come about."""
        call = self.begin_open_session(uuid, params).wait_done()
        assert call.arg.ret == 0, hex(call.arg.ret)
        session: int = call.arg.session
        return session

    def invoke(
        self, session: int, func: int, params: Sequence[Param] = (), *, cancel_id: int = 0
    ) -> Call:
        """Begins the call; look at ``result`` or use ``wait_done`` for its end."""
        call = Call(params)
        decoded = params_from_user(self.ctx, bytes(call.memory), 0, len(params))
        call.arg = calls.InvokeArg(self.ctx, func, session, cancel_id, decoded, call.done)
        calls.invoke(self.device.ops, call.arg)
        return call

    def object_invoke(self, object_id: int, op: int, params: Sequence[Param] = ()) -> Call:
        call = Call(params)
        decoded = params_from_user(self.ctx, bytes(call.memory), 0, len(params))
        call.arg = calls.ObjectInvokeArg(self.ctx, object_id, op, decoded, call.done)
        call.arg.run(self.device.ops.object_invoke_func, self.ctx, call.arg, decoded)
        return call

    def cancel(self, cancel_id: int, session: int) -> None:
        calls.cancel(self.ctx, cancel_id, session)

    def close_session(self, session: int) -> None:
        calls.close_session(self.ctx, session)

    def supp_recv(self, room: Sequence[Param] = (META, NONE, NONE, NONE, NONE)) -> Call:
        call = Call(room)
        offered = params_from_user(self.ctx, bytes(call.memory), 0, len(room))
        params_put(offered)
        call.arg = calls.SuppRecvArg(self.ctx, offered, call.received)
        call.arg.run(self.device.ops.supp_recv, self.ctx, call.arg)
        return call

    def supp_send(self, ret: int, params: Sequence[Param]) -> None:
        decoded = params_from_supp(pack(params), 0, len(params))
        self.device.ops.supp_send(self.ctx, ret, decoded)


def in_threads(*jobs: Callable[[], object]) -> None:
    """Run each job in a thread of its own, all at once; the first error of one is raised."""
    barrier = threading.Barrier(len(jobs))
    errors: list[BaseException] = []

    def run(job: Callable[[], object]) -> None:
        barrier.wait(PATIENCE)
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        if thread.is_alive():
            raise TimeoutError("a thread did not end")
    if errors:
        raise errors[0]
