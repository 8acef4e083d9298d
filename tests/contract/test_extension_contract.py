# SPDX-License-Identifier: BSD-2-Clause
"""What <gentee/tee.h> adds, in every driver: tasks, freed and mapped memory, lists of services."""

import errno
import threading
from collections.abc import Iterator

import pytest

from gentee.abi.gentee_tee import TEE_MEM_MAP_READ, TEE_MEM_MAP_WRITE
from gentee.abi.gp import (
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_SECURITY,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_SUCCESS,
)
from gentee.abi.linux_tee import (
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT,
)
from gentee.core import tasks
from gentee.core.context import TeeContext, teedev_close_context, teedev_open
from gentee.core.params import TeeParam
from gentee.device import kernel, kernel_ext
from gentee.drivers.loopback.call import COPY, FILL, INCREMENT, WAIT
from tests.contract.drivers import DriverUnderTest, fails
from tests.helpers import PATIENCE, wait_until


@pytest.fixture
def ctx(tee_driver: DriverUnderTest) -> Iterator[TeeContext]:
    ctx = teedev_open(tee_driver.device)
    yield ctx
    teedev_close_context(ctx)


def run_task(
    ctx: TeeContext, uuid: bytes, func: int, *params: TeeParam, cancel_id: int = 0
) -> tuple[int, int]:
    arg = kernel_ext.TeeIoctlTaskArg(uuid, func, cancel_id=cancel_id)
    kernel_ext.tee_client_task(ctx, arg, params)
    return arg.ret, arg.ret_origin


def value(attr: int, a: int) -> TeeParam:
    return TeeParam(attr, a)


def test_a_task(tee_driver: DriverUnderTest, ctx: TeeContext) -> None:
    tee_driver.need(INCREMENT)
    param = value(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT, 41)
    assert run_task(ctx, tee_driver.uuid, INCREMENT, param) == (
        TEE_SUCCESS,
        TEE_ORIGIN_TRUSTED_APP,
    )
    assert param.a == 42
    assert not ctx.sessions
    assert not ctx.pending


def test_a_task_of_no_service(tee_driver: DriverUnderTest, ctx: TeeContext) -> None:
    assert run_task(ctx, bytes(16), 0) == (TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TEE)
    assert not ctx.pending


def test_many_tasks(tee_driver: DriverUnderTest, ctx: TeeContext) -> None:
    tee_driver.need(INCREMENT)
    for _ in range(20):
        assert run_task(ctx, tee_driver.uuid, 0)[0] == TEE_SUCCESS
    assert not ctx.sessions


def waiting_task(driver: DriverUnderTest, ctx: TeeContext, results: list[int]) -> threading.Thread:
    """A thread whose task waits in its function."""

    def run() -> None:
        try:
            results.append(run_task(ctx, driver.uuid, WAIT, cancel_id=7)[0])
        except OSError as error:
            results.append(-(error.errno or 0))

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: ctx.sessions or results, "the session of the task")
    return thread


def test_a_task_is_cancelled(tee_driver: DriverUnderTest, ctx: TeeContext) -> None:
    tee_driver.need(WAIT)
    results: list[int] = []
    thread = waiting_task(tee_driver, ctx, results)

    def cancelled() -> bool:
        kernel.tee_client_cancel_req(ctx, kernel.TeeIoctlCancelArg(7, 0))
        return bool(results)

    wait_until(cancelled, "the end of the task")
    thread.join(PATIENCE)
    assert results != [TEE_SUCCESS]
    wait_until(lambda: not ctx.pending, "pending calls")
    assert not ctx.sessions


def test_a_task_whose_context_closes(tee_driver: DriverUnderTest) -> None:
    tee_driver.need(WAIT)
    ctx = teedev_open(tee_driver.device)
    results: list[int] = []
    thread = waiting_task(tee_driver, ctx, results)
    teedev_close_context(ctx)
    thread.join(PATIENCE)
    assert results
    assert results != [TEE_SUCCESS]
    assert not ctx.sessions
    assert not ctx.pending


def test_an_abandoned_task(tee_driver: DriverUnderTest, ctx: TeeContext) -> None:
    tee_driver.need(WAIT)
    done: list[object] = []
    arg = tasks.TaskArg(ctx, tee_driver.uuid, bytes(16), 0, WAIT, 0, [], done.append)
    tasks.task(ctx.teedev.ops, arg)
    arg.abandon()  # in whichever phase it is
    wait_until(lambda: done, "the end of the task")
    wait_until(lambda: not ctx.pending, "pending calls")
    assert done == [arg]
    assert not ctx.sessions


def test_freed_memory(tee_driver: DriverUnderTest, ctx: TeeContext) -> None:
    tee_driver.need(FILL)
    shm = kernel.tee_shm_alloc_kernel_buf(ctx, 4096)
    fill = value(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT, ord("x"))
    out = TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT, 0, 4096, shm=shm)
    assert run_task(ctx, tee_driver.uuid, FILL, fill, out)[0] == TEE_SUCCESS
    kernel_ext.tee_client_shm_free(shm)
    fails(errno.EINVAL, lambda: run_task(ctx, tee_driver.uuid, FILL, fill, out))
    fails(errno.EINVAL, lambda: kernel_ext.tee_client_shm_free(shm))
    assert bytes(shm.view()) == b"x" * 4096
    assert ctx.shm_bytes == 4096
    kernel.tee_shm_free(shm)
    assert ctx.shm_bytes == 0


def test_a_mapping_keeps_its_directions(tee_driver: DriverUnderTest, ctx: TeeContext) -> None:
    tee_driver.need(COPY)
    source, target = b"hello", bytearray(b"z" * 8)
    readable = kernel_ext.tee_client_mem_map(ctx, source, TEE_MEM_MAP_READ)
    writable = kernel_ext.tee_client_mem_map(ctx, target, TEE_MEM_MAP_WRITE)
    into = TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT, 0, 7, shm=writable)
    out_of = TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, 0, 5, shm=readable)
    assert run_task(ctx, tee_driver.uuid, COPY, out_of, into)[0] == TEE_SUCCESS
    assert target == b"hello\0\0z"
    for shm, attr in (
        (readable, TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT),
        (writable, TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT),
    ):
        wrong = TeeParam(attr, 0, 5, shm=shm)
        fails(errno.EACCES, lambda wrong=wrong: run_task(ctx, tee_driver.uuid, COPY, wrong))  # type: ignore[misc]
    kernel_ext.tee_client_mem_unmap(readable)
    fails(errno.EINVAL, lambda: kernel_ext.tee_client_mem_unmap(readable))
    # The other one ends with the context, or the driver's end finds it.


def test_services_are_listed(tee_driver: DriverUnderTest, ctx: TeeContext) -> None:
    if "get_ts_list" not in ctx.teedev.operations:
        pytest.skip("no list of services")
    services = kernel_ext.tee_client_get_ts_list(ctx)
    assert len({info.uuid for info in services}) == len(services)
    (mine,) = (
        (info for info in services if info.uuid == tee_driver.uuid)
        if (tee_driver.case.processes)
        else services[:1]
    )
    assert mine.name
    assert "GP_TEEv1.3" in mine.apis
    assert mine.uuid in [i.uuid for i in kernel_ext.tee_client_get_ts_list(ctx, name=mine.name)]
    by_api = kernel_ext.tee_client_get_ts_list(ctx, api="GP_TEEv1.3")
    assert mine.uuid in [info.uuid for info in by_api]
    assert kernel_ext.tee_client_get_ts_list(ctx, name="nobody's name") == []
    assert len(mine.pack()) == 360


def test_what_is_no_image_is_refused(tee_driver: DriverUnderTest, ctx: TeeContext) -> None:
    if "load_ts" not in ctx.teedev.operations:
        pytest.skip("no loading")
    before = {info.uuid for info in kernel_ext.tee_client_get_ts_list(ctx)}
    arg = kernel_ext.TeeIoctlLoadTsData(b"LOOP" + bytes(100))
    kernel_ext.tee_client_load_ts(ctx, arg)
    assert arg.ret == TEE_ERROR_SECURITY
    assert arg.ret_origin == TEE_ORIGIN_TEE
    assert arg.uuid == bytes(16)
    assert {info.uuid for info in kernel_ext.tee_client_get_ts_list(ctx)} == before
    fails(
        errno.EINVAL,
        lambda: kernel_ext.tee_client_load_ts(ctx, kernel_ext.TeeIoctlLoadTsData(b"")),
    )
