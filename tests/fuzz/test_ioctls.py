# SPDX-License-Identifier: BSD-2-Clause
"""The ioctl decoder takes any bytes: it answers with Linux's errno, and nothing is left behind.

The client is this process: arguments lie in a page of its own, read and written through the same
/proc and process_vm_writev as any client's. Only the listener is missing, so a recorder takes the
answers. Pointers lead into the arena, past its end or nowhere, never into the rest of the process.
"""

import ctypes
import errno
import mmap
import os
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gentee.abi.gentee_tee import (
    TEE_IOC_GET_TS_LIST,
    TEE_IOC_LOAD_TS,
    TEE_IOC_MEM_MAP,
    TEE_IOC_MEM_UNMAP,
    TEE_IOC_SHM_FREE,
    TEE_IOC_TASK,
    TEE_IOCTL_GET_TS_LIST_DATA,
    TEE_IOCTL_LOAD_TS_DATA,
    TEE_IOCTL_MEM_MAP_DATA,
    TEE_IOCTL_TASK_ARG,
)
from gentee.abi.linux_tee import (
    TEE_IOC_CANCEL,
    TEE_IOC_CLOSE_SESSION,
    TEE_IOC_INVOKE,
    TEE_IOC_OBJECT_INVOKE,
    TEE_IOC_OPEN_SESSION,
    TEE_IOC_SHM_ALLOC,
    TEE_IOC_SHM_REGISTER,
    TEE_IOC_SUPPL_RECV,
    TEE_IOC_SUPPL_SEND,
    TEE_IOCTL_BUF_DATA,
    TEE_IOCTL_INVOKE_ARG,
    TEE_IOCTL_OPEN_SESSION_ARG,
    TEE_IOCTL_PARAM,
    TEE_IOCTL_SHM_ALLOC_DATA,
    TEE_IOCTL_SHM_REGISTER_DATA,
)
from gentee.core.context import TeeContext, teedev_close_context, teedev_open
from gentee.core.device import DeviceRegistry
from gentee.core.registry import load_driver
from gentee.device.answers import Answers
from gentee.device.ioctls import IOCTLS
from gentee.linux.notify import Notifier
from gentee.linux.task import Process, Task
from tests.helpers import LocalHost, wait_until

ARENA = 16384  # bytes that a client may name
ERRNOS = {
    errno.EINVAL, errno.EFAULT, errno.ENOMEM, errno.EPERM, errno.EBUSY, errno.ENOENT, errno.EBADF,
    errno.EINTR, errno.EACCES, 524,
}  # fmt: skip


class Recorder:
    """Takes answers, and the descriptors that a client would get."""

    listener = -1

    def __init__(self) -> None:
        self.answers: dict[int, int] = {}
        self.fds: list[int] = []

    def answer(self, notify_id: int, value: int, error: int = 0) -> bool:
        assert notify_id not in self.answers, "answered twice"
        self.answers[notify_id] = error
        return True

    def answer_fd(self, notify_id: int, fd: int, newfd_flags: int = 0) -> bool:
        self.fds.append(os.dup(fd))
        return self.answer(notify_id, 0)

    def is_valid(self, notify_id: int) -> bool:
        return notify_id not in self.answers


class Machine:
    """Devices of the loopback driver, a door and a client."""

    def __init__(self) -> None:
        self.host = LocalHost()
        self.registry = DeviceRegistry()
        driver = load_driver("loopback")
        # Ordinary errno values only: function ERRNO gives any that the client asks for.
        self.devices = [
            self.registry.tee_device_register(desc) for desc in driver.probe(self.host, {})
        ]
        self.recorder = Recorder()
        self.door = Answers(cast(Notifier, self.recorder), self.host.events)
        self.task = Task(threading.get_native_id(), Process(os.getpid()))
        # The page behind the arena is never there.
        self.memory = mmap.mmap(-1, ARENA + mmap.PAGESIZE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        protect = ctypes.CDLL(None).mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        assert protect(self.base + ARENA, mmap.PAGESIZE, 0) == 0
        self.next_id = 0

    def ioctl(self, ctx: TeeContext, cmd: int, uarg: int) -> int | None:
        """The errno of the call, None while it is pending."""
        self.next_id += 1
        notify_id = self.next_id
        try:
            answer = IOCTLS[cmd](self.door, notify_id, self.task, ctx, uarg)
        except OSError as error:
            assert notify_id not in self.recorder.answers
            return error.errno
        if answer is not None:
            return 0
        return self.recorder.answers.get(notify_id)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    for device in machine.devices:
        machine.registry.tee_device_unregister(device)
    machine.task.close()
    machine.task.process.close()
    machine.host.close()


def pointers(base: int) -> st.SearchStrategy[int]:
    inside = st.integers(0, ARENA + 64).map(lambda offset: base + offset)
    near = st.sampled_from([base, base + 16, base + 64, base + ARENA - 8, base + ARENA])
    wild = st.sampled_from([0, 1, 8, 1 << 47, (1 << 63) - 8, 1 << 63, (1 << 64) - 16])
    return st.one_of(near, inside, wild)


WORD = st.one_of(
    st.integers(0, 5), st.sampled_from([16, 4096, 1 << 20, (1 << 31), (1 << 32) - 1, (1 << 64) - 1])
)
U32 = WORD.map(lambda word: word & 0xFFFF_FFFF)
PARAM = st.tuples(
    st.one_of(st.integers(0, 14), st.sampled_from([0x100, 0x103, 0x200, 1 << 63])), WORD, WORD, WORD
)


@st.composite
def calls(draw: st.DrawFn, base: int) -> tuple[int, bytes, int]:
    """An ioctl: command, the bytes that the arena starts with, the address of its argument."""
    cmd = draw(st.sampled_from(sorted(IOCTLS)))
    params = b"".join(TEE_IOCTL_PARAM.pack(*p) for p in draw(st.lists(PARAM, max_size=5)))
    count = draw(st.one_of(st.just(len(params) // 32), U32))
    if cmd == TEE_IOC_OPEN_SESSION:
        uuid = draw(st.sampled_from([bytes(16), bytes(range(16))]))
        login = draw(st.sampled_from([0, 0, 1, 2, 3, 4, 5, 6, 0x80000000, 0xFFFFFFFF]))
        fixed = TEE_IOCTL_OPEN_SESSION_ARG.pack(uuid, bytes(16), login, 1, 0, 0, 0, count)
    elif cmd == TEE_IOC_INVOKE:
        # 8 (ERRNO) answers with any errno by request.
        func = draw(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 9, 0xFFFFFFFF]))
        fixed = TEE_IOCTL_INVOKE_ARG.pack(func, draw(U32), 1, 0, 0, count)
    elif cmd == TEE_IOC_TASK:
        uuid = draw(st.sampled_from([bytes(16), bytes(range(16))]))
        login = draw(st.sampled_from([0, 0, 1, 2, 3, 6, 0x80000000]))
        func = draw(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 9, 0xFFFFFFFF]))
        flags, reserved = draw(st.sampled_from([(0, 0), (0, 0), (0, 0), (1, 0), (0, 1)]))
        fixed = TEE_IOCTL_TASK_ARG.pack(
            uuid, bytes(16), login, 1, func, flags, 0, 0, count, reserved
        )
    elif cmd == TEE_IOC_MEM_MAP:
        map_data = (draw(pointers(base)), draw(WORD), draw(st.integers(0, 4)), 0)
        return cmd, TEE_IOCTL_MEM_MAP_DATA.pack(*map_data), base
    elif cmd in (TEE_IOC_SHM_FREE, TEE_IOC_MEM_UNMAP):
        flags = draw(st.sampled_from([0, 0, 0, 1]))
        return cmd, draw(U32).to_bytes(4, "little") + flags.to_bytes(4, "little"), base
    elif cmd == TEE_IOC_LOAD_TS:
        # Beside the argument: a driver gets bytes that are never an image.
        load = (draw(pointers(base)), draw(WORD), draw(st.sampled_from([0, 0, 0, 1])))
        return cmd, TEE_IOCTL_LOAD_TS_DATA.pack(*load, 0, bytes(16), 0, 0), base
    elif cmd == TEE_IOC_GET_TS_LIST:
        entry = draw(st.sampled_from([360, 360, 368, 352, 4096, 4104, 0]))
        name = draw(st.sampled_from([b"", b"loopback", b"x" * 64]))
        api = draw(st.sampled_from([b"", b"GP_TEEv1.3", b"x" * 32]))
        ts_list = (draw(pointers(base)), draw(WORD), 0, entry, 0, 0, 0, 0, name, api)
        return cmd, TEE_IOCTL_GET_TS_LIST_DATA.pack(*ts_list), base
    elif cmd == TEE_IOC_OBJECT_INVOKE:
        fixed = draw(WORD).to_bytes(8, "little") + draw(U32).to_bytes(4, "little") + bytes(4)
        fixed += count.to_bytes(4, "little") + bytes(4)
    elif cmd in (TEE_IOC_SUPPL_RECV, TEE_IOC_SUPPL_SEND):
        fixed = draw(U32).to_bytes(4, "little") + count.to_bytes(4, "little")
    elif cmd == TEE_IOC_SHM_ALLOC:
        size = draw(st.sampled_from([0, 1, 4096, 1 << 16, 1 << 62, (1 << 64) - 1]))
        return cmd, TEE_IOCTL_SHM_ALLOC_DATA.pack(size, draw(st.sampled_from([0, 0, 1])), 0), base
    elif cmd == TEE_IOC_SHM_REGISTER:
        data = (draw(pointers(base)), draw(WORD), draw(st.sampled_from([0, 0, 2])), 0)
        return cmd, TEE_IOCTL_SHM_REGISTER_DATA.pack(*data), base
    elif cmd in (TEE_IOC_CANCEL, TEE_IOC_CLOSE_SESSION):
        return cmd, draw(U32).to_bytes(4, "little") * 2, draw(pointers(base))
    else:
        return cmd, draw(st.binary(max_size=64)), draw(pointers(base))
    arg = fixed + params
    length = draw(st.one_of(st.just(len(arg)), WORD))
    pointer = draw(st.one_of(st.just(base + 16), st.just(base + 1024), pointers(base)))
    head = TEE_IOCTL_BUF_DATA.pack(pointer, length)
    place = pointer - base
    if 16 <= place <= ARENA - len(arg):
        return cmd, head + bytes(place - 16) + arg, base
    return cmd, head + arg, base


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_calls(machine: Machine, data: st.DataObject) -> None:
    contexts: list[Any] = [teedev_open(device) for device in machine.devices]
    started = machine.next_id
    try:
        for _ in range(data.draw(st.integers(1, 6))):
            ctx = data.draw(st.sampled_from(contexts))
            cmd, start, uarg = data.draw(calls(machine.base))
            machine.memory[: len(start)] = start
            result = machine.ioctl(ctx, cmd, uarg)
            assert result is None or result == 0 or result in ERRNOS, errno.errorcode.get(result)
    finally:
        for ctx in contexts:
            teedev_close_context(ctx)
        for fd in machine.recorder.fds:
            os.close(fd)
        machine.recorder.fds.clear()
    # What was pending has ended, what was shared is released.
    wait_until(lambda: all(not ctx.pending for ctx in contexts), "pending calls")
    for device in machine.devices:
        wait_until(lambda device=device: device.shm_bytes == 0, "shared memory")  # type: ignore[misc]
        assert not device.contexts
    assert all(not ctx.sessions for ctx in contexts)
    assert set(machine.recorder.answers) <= set(range(machine.next_id + 1))
    assert machine.next_id > started
