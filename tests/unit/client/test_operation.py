# SPDX-License-Identifier: BSD-2-Clause
"""Operations: cancellation from another thread, and several threads in one context."""

import threading
import time
from functools import partial

import pytest

from gentee.abi.gp import TEE_ORIGIN_TRUSTED_APP, TEEC_ORIGIN_API, TEEC_ORIGIN_TEE
from gentee.client import OUTPUT, Context, Operation, Out, Session, SharedMemory, Value
from gentee.client.blocks import SessionMemory
from gentee.client.kernel_door import KernelDoor
from gentee.core.device import DeviceRegistry
from gentee.errors import BadParameters, BadState, Cancel, TargetDead
from tests.helpers import PATIENCE, in_threads

NOP, COPY, INCREMENT, FILL, RETURN, WAIT, RELEASE, SUPPLICANT, ERRNO = range(9)


def test_operation_is_for_one_call(session: Session) -> None:
    value = Value(1)
    operation = Operation(value)
    session.invoke(INCREMENT, operation=operation)
    with pytest.raises(BadState) as error:
        session.invoke(INCREMENT, operation=operation)
    assert error.value.origin == TEEC_ORIGIN_API, TEEC_ORIGIN_TEE
    session.invoke(INCREMENT, operation=Operation(value))
    assert value.a == 3


def test_at_most_four_parameters(session: Session) -> None:
    session.invoke(NOP, *[Value()] * 4)
    with pytest.raises(BadParameters) as error:
        session.invoke(NOP, *[Value()] * 5)
    assert error.value.origin == TEEC_ORIGIN_API, TEEC_ORIGIN_TEE


def test_parameters_or_an_operation(session: Session) -> None:
    with pytest.raises(TypeError, match="not both"):
        session.invoke(NOP, Value(), operation=Operation())


def test_ids_of_operations_differ() -> None:
    assert len({Operation().cancel_id for _ in range(100)} - {0}) == 100


def wait_until_pending(registry: DeviceRegistry, count: int) -> None:
    """Until the TEE has ``count`` calls of the one context that there is."""
    (ctx,) = registry.all()[0].contexts
    deadline = time.monotonic() + PATIENCE
    while len(ctx.pending) < count:
        assert time.monotonic() < deadline


def test_cancel_from_another_thread(registry: DeviceRegistry, session: Session) -> None:
    operation = Operation()
    over = threading.Event()

    def wait() -> None:
        try:
            with pytest.raises(Cancel) as error:
                session.invoke(WAIT, operation=operation)
            assert error.value.origin == TEE_ORIGIN_TRUSTED_APP
        finally:
            over.set()

    def cancel() -> None:
        wait_until_pending(registry, 1)
        # It is pending before the driver has parked it: the first request may come too early.
        while not over.is_set():
            operation.cancel()

    in_threads(wait, cancel)
    operation.cancel()  # too late, which is no error


def test_cancel_means_its_own_call(registry: DeviceRegistry, session: Session) -> None:
    cancelled, kept = Operation(), Operation()
    over = threading.Event()
    results: list[str] = []

    def wait_for_cancel() -> None:
        with pytest.raises(Cancel):
            session.invoke(WAIT, operation=cancelled)
        results.append("cancelled")
        over.set()

    def wait_for_release() -> None:
        session.invoke(WAIT, operation=kept)
        results.append("released")

    def cancel_then_release() -> None:
        wait_until_pending(registry, 2)
        while not over.is_set():
            cancelled.cancel()
        count = Value(0, 0, OUTPUT)
        while not count.a:
            session.invoke(RELEASE, count)

    in_threads(wait_for_cancel, wait_for_release, cancel_then_release)
    assert results == ["cancelled", "released"]


def test_cancel_before_the_call(session: Session) -> None:
    operation = Operation(Value())
    operation.cancel()
    with pytest.raises(Cancel) as error:
        session.invoke(INCREMENT, operation=operation)
    assert error.value.origin == TEEC_ORIGIN_API, TEEC_ORIGIN_TEE


def test_closing_a_session_ends_what_waits_in_it(
    registry: DeviceRegistry, context: Context
) -> None:
    other = context.open_session(bytes(range(16)))

    def wait() -> None:
        with pytest.raises(TargetDead) as error:
            other.invoke(WAIT)
        assert error.value.origin == TEEC_ORIGIN_TEE

    def close() -> None:
        wait_until_pending(registry, 1)
        other.close()

    in_threads(wait, close)


def test_many_threads_in_one_context(context: Context, session: Session) -> None:
    def use(number: int) -> None:
        with (
            context.open_session(bytes(range(16))) as own,
            SharedMemory.allocate(context, 5000) as memory,
        ):
            for one in (own, session):
                value, out = Value(number, number), Out(1000)
                for _ in range(20):
                    one.invoke(INCREMENT, value)
                    one.invoke(COPY, bytes([number]) * 1000, out)
                    assert out.data == bytes([number]) * 1000
                assert value.a == value.b == number + 20
                one.invoke(FILL, Value(number), memory)
                assert bytes(memory.buffer) == bytes([number]) * 5000

    in_threads(*(partial(use, number) for number in range(8)))


def test_contexts_do_not_know_one_another(registry: DeviceRegistry, session: Session) -> None:
    with Context(door=KernelDoor(registry)) as other:
        stranger = Session(other, session.id, SessionMemory(other.door))
        with pytest.raises(BadParameters):
            stranger.invoke(NOP)
