# SPDX-License-Identifier: BSD-2-Clause
"""The client API inside the program, against the loopback driver and small ones of our own."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

import pytest

from gentee.abi.gp import (
    TEE_ERROR_CANCEL,
    TEE_ERROR_COMMUNICATION,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_SHORT_BUFFER,
    TEE_ERROR_TARGET_DEAD,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_SUCCESS,
)
from gentee.abi.linux_tee import (
    TEE_GEN_CAP_GP,
    TEE_GEN_CAP_PRIVILEGED,
    TEE_IOCTL_LOGIN_APPLICATION,
    TEE_IOCTL_LOGIN_GROUP,
    TEE_IOCTL_LOGIN_PUBLIC,
    TEE_IOCTL_LOGIN_REE_KERNEL,
    TEE_IOCTL_LOGIN_USER,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT,
)
from gentee.core.calls import InvokeArg, OpenSessionArg
from gentee.core.context import TeeContext, TeeSession
from gentee.core.device import DeviceRegistry
from gentee.core.driver import ENOTSUPP, PENDING, OpResult, TeeDesc, TeeDriverOps
from gentee.core.login import NIL_UUID, TEE_CLIENT_UUID_NS, uuid_v5
from gentee.core.params import TeeParam
from gentee.core.shm import TeeShm
from gentee.device.kernel import (
    TeeIoctlCancelArg,
    TeeIoctlInvokeArg,
    TeeIoctlOpenSessionArg,
    tee_client_cancel_req,
    tee_client_close_context,
    tee_client_close_session,
    tee_client_get_version,
    tee_client_invoke_func,
    tee_client_open_context,
    tee_client_open_session,
    tee_client_system_session,
    tee_shm_alloc_kernel_buf,
    tee_shm_free,
    tee_shm_register_kernel_buf,
)
from gentee.drivers.loopback import driver
from tests.helpers import PATIENCE, LocalHost, MinimalOps, in_threads

UUID = bytes(range(16))
NOP, COPY, INCREMENT, FILL, RETURN, WAIT, RELEASE, SUPPLICANT, ERRNO = range(9)


@pytest.fixture
def registry() -> Iterator[DeviceRegistry]:
    """A loopback TEE: tee0 and teepriv0."""
    host, registry = LocalHost(), DeviceRegistry()
    devices = [registry.tee_device_register(desc) for desc in driver.probe(host, {})]
    yield registry
    for device in devices:
        registry.tee_device_unregister(device)
        assert device.wait_no_users(PATIENCE)
        assert not device.shm_bytes
    host.close()


@pytest.fixture
def ctx(registry: DeviceRegistry) -> Iterator[TeeContext]:
    ctx = tee_client_open_context(registry, is_for_clients)
    yield ctx
    tee_client_close_context(ctx)


@pytest.fixture
def session(ctx: TeeContext) -> int:
    return open_session(ctx)


def is_for_clients(version: tuple[int, int, int], data: object) -> bool:
    return not version[2] & TEE_GEN_CAP_PRIVILEGED


def open_session(ctx: TeeContext) -> int:
    arg = TeeIoctlOpenSessionArg(UUID)
    tee_client_open_session(ctx, arg)
    assert (arg.ret, arg.ret_origin) == (TEE_SUCCESS, TEE_ORIGIN_TRUSTED_APP)
    assert arg.session
    return arg.session


def invoke(
    ctx: TeeContext, session: int, func: int, *param: TeeParam, cancel_id: int = 0
) -> tuple[int, int]:
    arg = TeeIoctlInvokeArg(func, session, cancel_id)
    tee_client_invoke_func(ctx, arg, param)
    return arg.ret, arg.ret_origin


def value_in(a: int, b: int = 0) -> TeeParam:
    return TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT, a, b)


def memref(attr: int, shm: TeeShm | None, offset: int, size: int) -> TeeParam:
    return TeeParam(attr, offset, size, shm=shm)


def until(condition: Callable[[], object]) -> None:
    """Try ``condition``, which lets other threads run, until it is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"


# Contexts


def test_open_context_asks_clients_devices_first(registry: DeviceRegistry) -> None:
    seen = []

    def match(version: tuple[int, int, int], data: object) -> bool:
        seen.append((version, data))
        return False

    with pytest.raises(OSError) as error:
        tee_client_open_context(registry, match, "mine")
    assert error.value.errno == errno.ENOENT
    assert [data for _, data in seen] == ["mine", "mine"]
    assert [bool(version[2] & TEE_GEN_CAP_PRIVILEGED) for version, _ in seen] == [False, True]


def test_open_context_goes_on_behind_start(registry: DeviceRegistry) -> None:
    second = registry.tee_device_register(TeeDesc("second", MinimalOps(), impl_id=7))
    first_ctx = tee_client_open_context(registry, is_for_clients)
    assert first_ctx.teedev.name == "tee0"
    second_ctx = tee_client_open_context(registry, is_for_clients, None, first_ctx)
    assert second_ctx.teedev is second
    with pytest.raises(OSError) as error:
        tee_client_open_context(registry, is_for_clients, None, second_ctx)
    assert error.value.errno == errno.ENOENT
    tee_client_close_context(first_ctx)
    registry.tee_device_unregister(second)
    # Where its device was is not known any more.
    again = tee_client_open_context(registry, is_for_clients, None, second_ctx)
    assert again.teedev.name == "tee0"
    tee_client_close_context(again)


class Refusing(MinimalOps):
    def __init__(self, number: int) -> None:
        self._number = number

    def open(self, ctx: TeeContext) -> None:
        raise OSError(self._number, os.strerror(self._number))


def test_open_context_passes_over_a_device_that_refuses() -> None:
    registry = DeviceRegistry()
    registry.tee_device_register(TeeDesc("refuses", Refusing(errno.EBUSY), impl_id=7))
    works = registry.tee_device_register(TeeDesc("works", MinimalOps(), impl_id=7))
    ctx = tee_client_open_context(registry, is_for_clients)
    assert ctx.teedev is works
    tee_client_close_context(ctx)


def test_open_context_stops_where_memory_ran_out() -> None:
    registry = DeviceRegistry()
    registry.tee_device_register(TeeDesc("refuses", Refusing(errno.ENOMEM), impl_id=7))
    registry.tee_device_register(TeeDesc("works", MinimalOps(), impl_id=7))
    with pytest.raises(OSError) as error:
        tee_client_open_context(registry, is_for_clients)
    assert error.value.errno == errno.ENOMEM


def test_get_version(ctx: TeeContext) -> None:
    assert tee_client_get_version(ctx) == ctx.teedev.version
    assert tee_client_get_version(ctx)[2] & TEE_GEN_CAP_GP


def test_close_context_twice_is_once(registry: DeviceRegistry) -> None:
    ctx = tee_client_open_context(registry, is_for_clients)
    tee_client_close_context(ctx)
    tee_client_close_context(ctx)


def test_services_do_not_wait_for_a_supplicant(ctx: TeeContext, session: int) -> None:
    assert invoke(ctx, session, SUPPLICANT, value_in(1))[0] == TEE_ERROR_COMMUNICATION


# Sessions and logins


def test_open_session_reports_the_result_of_the_tee(ctx: TeeContext) -> None:
    arg = TeeIoctlOpenSessionArg(bytes(16))
    tee_client_open_session(ctx, arg)
    assert (arg.ret, arg.ret_origin) == (TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TEE)
    assert not arg.session


def test_close_session(ctx: TeeContext, session: int) -> None:
    tee_client_close_session(ctx, session)
    for call in (
        lambda: tee_client_close_session(ctx, session),
        lambda: invoke(ctx, session, NOP),
        lambda: tee_client_cancel_req(ctx, TeeIoctlCancelArg(0, session)),
        lambda: tee_client_system_session(ctx, session),
    ):
        with pytest.raises(OSError) as error:
            call()
        assert error.value.errno == errno.EINVAL


def test_system_session(ctx: TeeContext, session: int) -> None:
    assert not ctx.sessions[session].system
    tee_client_system_session(ctx, session)
    assert ctx.sessions[session].system


class Opening(MinimalOps):
    """Opens sessions when it is told to."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.arg: OpenSessionArg | None = None
        self.closed: list[int] = []
        self.pending = False

    def open_session(
        self, ctx: TeeContext, arg: OpenSessionArg, params: list[TeeParam]
    ) -> OpResult:
        self.arg = arg
        self.begun.set()
        return PENDING if self.pending else None

    def close_session(self, ctx: TeeContext, session: TeeSession) -> None:
        self.closed.append(session.id)


def open_device(ops: TeeDriverOps) -> TeeContext:
    registry = DeviceRegistry()
    registry.tee_device_register(TeeDesc("test", ops, impl_id=7))
    return tee_client_open_context(registry, is_for_clients)


@pytest.mark.parametrize(
    ("login", "name"),
    [
        (TEE_IOCTL_LOGIN_PUBLIC, None),
        (TEE_IOCTL_LOGIN_REE_KERNEL, None),
        (TEE_IOCTL_LOGIN_USER, f"uid={os.geteuid():x}"),
        (TEE_IOCTL_LOGIN_GROUP, f"gid={os.getegid():x}"),
        (TEE_IOCTL_LOGIN_APPLICATION, f"app={os.readlink('/proc/self/exe')}"),
    ],
)
def test_login_is_this_process(login: int, name: str | None) -> None:
    ops = Opening()
    ctx = open_device(ops)
    data = os.getegid().to_bytes(16, "little")
    tee_client_open_session(ctx, TeeIoctlOpenSessionArg(UUID, login, data))
    assert ops.arg is not None
    expected = NIL_UUID if name is None else uuid_v5(TEE_CLIENT_UUID_NS, name.encode())
    assert (ops.arg.clnt_login, ops.arg.clnt_uuid) == (login, expected)
    tee_client_close_context(ctx)


@pytest.mark.parametrize(
    ("login", "number"), [(TEE_IOCTL_LOGIN_GROUP, errno.EPERM), (3, errno.EINVAL)]
)
def test_login_that_cannot_be(ctx: TeeContext, login: int, number: int) -> None:
    # (gid_t)-1 is nobody's.
    arg = TeeIoctlOpenSessionArg(UUID, login, b"\xff" * 16)
    shm = tee_shm_alloc_kernel_buf(ctx, 1)
    param = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, shm, 0, 1)
    with pytest.raises(OSError) as error:
        tee_client_open_session(ctx, arg, [param])
    assert error.value.errno == number
    assert shm.refcount == 1
    tee_shm_free(shm)


def test_uuid_has_16_bytes() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        TeeIoctlOpenSessionArg(b"short")


def test_open_session_while_the_context_closes() -> None:
    ops = Opening()
    ops.pending = True
    ctx = open_device(ops)

    def close() -> None:
        assert ops.begun.wait(PATIENCE)
        tee_client_close_context(ctx)
        assert ops.arg is not None
        ops.arg.complete()

    def open_it() -> None:
        with pytest.raises(OSError) as error:
            tee_client_open_session(ctx, TeeIoctlOpenSessionArg(UUID))
        assert error.value.errno == errno.EBADF

    in_threads(open_it, close)
    assert len(ops.closed) == 1


def test_open_session_after_the_context_closed(ctx: TeeContext) -> None:
    tee_client_close_context(ctx)
    with pytest.raises(OSError) as error:
        tee_client_open_session(ctx, TeeIoctlOpenSessionArg(UUID))
    assert error.value.errno == errno.EBADF


def test_interrupted_open_is_closed_when_it_comes_about() -> None:
    ops = Opening()
    ops.pending = True
    ctx = open_device(ops)
    main = threading.main_thread().ident
    assert main is not None

    interrupted = threading.Event()

    def interrupt() -> None:
        assert ops.begun.wait(PATIENCE)
        # A signal just before the main thread sleeps does not wake it, so send more than one.
        while not interrupted.is_set():
            signal.pthread_kill(main, signal.SIGINT)
            interrupted.wait(0.01)

    def handle_first(number: int, frame: FrameType | None) -> None:
        if not interrupted.is_set():
            interrupted.set()
            signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, handle_first)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            tee_client_open_session(ctx, TeeIoctlOpenSessionArg(UUID))
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert ops.arg is not None
    assert ops.arg.abandoned
    ops.arg.complete()
    assert ops.closed == [1]
    assert not ctx.sessions
    tee_client_close_context(ctx)


# Calls


def test_values(ctx: TeeContext, session: int) -> None:
    value = TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT, 41, 1 << 32)
    assert invoke(ctx, session, INCREMENT, value) == (TEE_SUCCESS, TEE_ORIGIN_TRUSTED_APP)
    assert (value.a, value.b) == (42, (1 << 32) + 1)


def test_result_and_origin(ctx: TeeContext, session: int) -> None:
    assert invoke(ctx, session, RETURN, value_in(0xFFFF1234, 7)) == (0xFFFF1234, 7)


def test_errno_of_the_driver(ctx: TeeContext, session: int) -> None:
    with pytest.raises(OSError) as error:
        invoke(ctx, session, ERRNO, value_in(errno.EXDEV))
    assert error.value.errno == errno.EXDEV


def test_operations_that_the_driver_lacks() -> None:
    ctx = open_device(MinimalOps())
    with pytest.raises(OSError) as error:
        tee_client_open_session(ctx, TeeIoctlOpenSessionArg(UUID))
    assert error.value.errno == errno.EINVAL
    with pytest.raises(OSError) as error:
        tee_shm_register_kernel_buf(ctx, bytearray(8))
    assert error.value.errno == ENOTSUPP
    tee_client_close_context(ctx)


def test_call_that_another_thread_completes(ctx: TeeContext, session: int) -> None:
    results = []

    def release() -> None:
        count = TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT)
        until(lambda: invoke(ctx, session, RELEASE, count)[0] == TEE_SUCCESS and count.a)

    in_threads(lambda: results.append(invoke(ctx, session, WAIT)), release)
    assert results == [(TEE_SUCCESS, TEE_ORIGIN_TRUSTED_APP)]
    assert not ctx.pending


def test_cancel_means_one_call(ctx: TeeContext, session: int) -> None:
    results: dict[int, int] = {}

    def wait(cancel_id: int) -> None:
        results[cancel_id] = invoke(ctx, session, WAIT, cancel_id=cancel_id)[0]

    def cancel_then_release() -> None:
        until(lambda: len(ctx.pending) == 2)
        until(lambda: cancel(5) and 5 in results)
        assert 6 not in results
        until(lambda: invoke(ctx, session, RELEASE) and 6 in results)

    def cancel(cancel_id: int) -> bool:
        tee_client_cancel_req(ctx, TeeIoctlCancelArg(cancel_id, session))
        return True

    in_threads(lambda: wait(5), lambda: wait(6), cancel_then_release)
    assert results == {5: TEE_ERROR_CANCEL, 6: TEE_SUCCESS}


def test_closing_the_context_ends_what_waits(registry: DeviceRegistry) -> None:
    ctx = tee_client_open_context(registry, is_for_clients)
    session = open_session(ctx)
    results = []

    def close() -> None:
        until(lambda: ctx.pending)
        tee_client_close_context(ctx)

    in_threads(lambda: results.append(invoke(ctx, session, WAIT)[0]), close)
    assert results[0] in (TEE_ERROR_CANCEL, TEE_ERROR_TARGET_DEAD)


def test_many_threads_in_one_session(ctx: TeeContext, session: int) -> None:
    def count(start: int) -> None:
        shm = tee_shm_alloc_kernel_buf(ctx, 64)
        value = TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT, start, start)
        for _ in range(50):
            assert invoke(ctx, session, INCREMENT, value)[0] == TEE_SUCCESS
        out = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT, shm, 0, 64)
        assert invoke(ctx, session, FILL, value_in(start), out)[0] == TEE_SUCCESS
        assert value.a == value.b == start + 50
        assert bytes(shm.view()[:64]) == bytes([start]) * 64
        tee_shm_free(shm)

    in_threads(*(partial(count, start) for start in range(8)))


class Buggy(Opening):
    def invoke_func(self, ctx: TeeContext, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
        raise ZeroDivisionError


def test_bug_of_a_driver_reaches_the_caller() -> None:
    ctx = open_device(Buggy())
    arg = TeeIoctlOpenSessionArg(UUID)
    tee_client_open_session(ctx, arg)
    shm = tee_shm_alloc_kernel_buf(ctx, 1)
    with pytest.raises(ZeroDivisionError):
        invoke(ctx, arg.session, NOP, memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, shm, 0, 1))
    assert shm.refcount == 1
    assert not ctx.pending
    tee_shm_free(shm)
    tee_client_close_context(ctx)


class Blocking(Opening):
    """A driver that can only wait: the caller's thread is as good as any."""

    blocking = True

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def invoke_func(self, ctx: TeeContext, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
        if arg.func:
            self.go.set()
        assert self.go.wait(PATIENCE)
        return None


def test_driver_that_blocks() -> None:
    ctx = open_device(Blocking())
    arg = TeeIoctlOpenSessionArg(UUID)
    tee_client_open_session(ctx, arg)
    in_threads(lambda: invoke(ctx, arg.session, 0), lambda: invoke(ctx, arg.session, 1))
    tee_client_close_context(ctx)


# Shared memory


def test_allocated_memory_is_shared(ctx: TeeContext, session: int) -> None:
    shm = tee_shm_alloc_kernel_buf(ctx, 10)
    assert shm.size == 4096
    shm.view()[:5] = b"hello"
    source = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, shm, 0, 5)
    copy = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT, shm, 100, 8)
    assert invoke(ctx, session, COPY, source, copy)[0] == TEE_SUCCESS
    assert copy.b == 5
    assert bytes(shm.view()[100:108]) == b"hello\0\0\0"
    tee_shm_free(shm)


def test_size_may_come_back_larger(ctx: TeeContext, session: int) -> None:
    shm = tee_shm_alloc_kernel_buf(ctx, 10)
    source = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, shm, 0, 3000)
    copy = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT, shm, 4000, 8)
    assert invoke(ctx, session, COPY, source, copy)[0] == TEE_ERROR_SHORT_BUFFER
    assert copy.b == 3000
    tee_shm_free(shm)


def test_registered_memory_looks_shared(ctx: TeeContext, session: int) -> None:
    buffer = bytearray(b"abcdefgh")
    shm = tee_shm_register_kernel_buf(ctx, buffer)
    assert shm.size == 8
    with pytest.raises(BufferError):
        buffer.append(0)
    out = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT, shm, 2, 3)
    assert invoke(ctx, session, FILL, value_in(ord("x")), out)[0] == TEE_SUCCESS
    assert buffer == b"abxxxfgh"
    tee_shm_free(shm)
    buffer.append(0)


def test_overlapping_registrations_share_one_window(ctx: TeeContext, session: int) -> None:
    buffer = bytearray(b"abcdefgh")
    view = memoryview(buffer)
    left = tee_shm_register_kernel_buf(ctx, view[:6])
    right = tee_shm_register_kernel_buf(ctx, view[2:])
    source = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, left, 0, 6)
    out = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT, right, 0, 6)
    assert invoke(ctx, session, COPY, source, out)[0] == TEE_SUCCESS
    assert buffer == b"ababcdef"
    tee_shm_free(left)
    tee_shm_free(right)


def test_registering_what_cannot_be(ctx: TeeContext) -> None:
    with pytest.raises(OSError) as error:
        tee_shm_register_kernel_buf(ctx, bytearray())
    assert error.value.errno == errno.ENOMEM
    with pytest.raises(TypeError):
        tee_shm_register_kernel_buf(ctx, memoryview(bytearray(8))[::2])
    with pytest.raises(TypeError):
        tee_shm_register_kernel_buf(ctx, memoryview(b"read-only"))
    with pytest.raises(OSError) as error:
        tee_shm_alloc_kernel_buf(ctx, 0)
    assert error.value.errno == errno.ENOMEM


def test_memory_of_a_closed_context(ctx: TeeContext) -> None:
    shm = tee_shm_alloc_kernel_buf(ctx, 1)
    tee_client_close_context(ctx)
    makes: list[Callable[[], TeeShm]] = [
        lambda: tee_shm_alloc_kernel_buf(ctx, 1),
        lambda: tee_shm_register_kernel_buf(ctx, bytearray(1)),
    ]
    for make in makes:
        with pytest.raises(OSError) as error:
            make()
        assert error.value.errno == errno.EBADF
    shm.view()[0] = 1  # it lives to its own end
    tee_shm_free(shm)


def test_memory_outlives_its_freeing_while_a_call_uses_it(ctx: TeeContext, session: int) -> None:
    shm = tee_shm_alloc_kernel_buf(ctx, 1)
    param = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, shm, 0, 1)

    def free_then_release() -> None:
        until(lambda: ctx.pending)
        tee_shm_free(shm)
        assert shm.id in ctx.shms
        until(lambda: invoke(ctx, session, RELEASE) and not ctx.pending)

    in_threads(lambda: invoke(ctx, session, WAIT, param), free_then_release)
    assert not ctx.shms


def test_parameters_that_cannot_be(registry: DeviceRegistry, ctx: TeeContext, session: int) -> None:
    other_ctx = tee_client_open_context(registry, is_for_clients)
    foreign = tee_shm_alloc_kernel_buf(other_ctx, 1)
    shm = tee_shm_alloc_kernel_buf(ctx, 4096)
    freed = tee_shm_alloc_kernel_buf(ctx, 4096)
    tee_shm_free(freed)
    attr = TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT
    for param in (
        TeeParam(1 << 9),
        TeeParam(4),
        TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT, 0x1000, 16),
        memref(attr, shm, 4090, 7),
        memref(attr, shm, -1, 1),
        memref(attr, freed, 0, 1),
        memref(attr, foreign, 0, 1),
    ):
        good = memref(attr, shm, 0, 4096)
        with pytest.raises(OSError) as error:
            invoke(ctx, session, NOP, good, param)
        assert error.value.errno == errno.EINVAL, param
    with pytest.raises(OSError) as error:
        invoke(ctx, session, NOP, *[TeeParam()] * 129)
    assert error.value.errno == errno.EINVAL
    assert shm.refcount == 1
    objref = TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT, 1)
    null = memref(attr, None, 0, 0)
    assert invoke(ctx, session, NOP, objref, null)[0] == TEE_SUCCESS
    tee_shm_free(shm)
    tee_shm_free(foreign)
    tee_client_close_context(other_ctx)


def test_null_memref_needs_the_capability() -> None:
    ctx = open_device(Opening())
    with pytest.raises(OSError) as error:
        tee_client_open_session(
            ctx,
            TeeIoctlOpenSessionArg(UUID),
            [memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, None, 0, 0)],
        )
    assert error.value.errno == errno.EINVAL
    tee_client_close_context(ctx)
