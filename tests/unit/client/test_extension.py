# SPDX-License-Identifier: BSD-2-Clause
"""What <gentee/tee.h> adds to the Client API, through the door inside the program."""

import threading
from pathlib import Path

import pytest

from gentee.abi.gp import TEEC_ORIGIN_API, TEEC_ORIGIN_COMMS
from gentee.client import INPUT, OUTPUT, Context, MemRef, Operation, Out, SharedMemory, Value
from gentee.client.doors import Door
from gentee.client.services import ServiceInfo
from gentee.drivers.loopback.call import COPY, FILL, INCREMENT, WAIT
from gentee.drivers.loopback.services import FIRST_UUID, make_image
from gentee.errors import (
    AccessConflict,
    BadParameters,
    BadState,
    Cancel,
    ItemNotFound,
    SecurityError,
)
from tests.helpers import wait_until

UUID = bytes(range(1, 17))


def test_task(context: Context) -> None:
    value, out = Value(41), Out(10)
    context.task(UUID, INCREMENT, value)
    context.task("loopback", COPY, b"hello", out)
    assert (value.a, out.data) == (42, b"hello")


def test_task_of_nobody(context: Context) -> None:
    with pytest.raises(ItemNotFound):
        context.task(bytes(16), INCREMENT)
    with pytest.raises(ItemNotFound) as caught:
        context.task("nobody", INCREMENT)
    assert caught.value.origin == TEEC_ORIGIN_API
    with pytest.raises(BadParameters):
        context.task(UUID, 1 << 32)


def test_task_is_cancelled(context: Context) -> None:
    operation = Operation()
    ended = threading.Event()

    def cancel() -> None:
        def over() -> bool:
            operation.cancel()
            return ended.is_set()

        # Not before the call: an operation that was cancelled before it began is not made at all.
        wait_until(lambda: operation._target is not None, "the begin of the task")
        wait_until(over, "the end of the task")

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(Cancel):
        context.task(UUID, WAIT, operation=operation)
    ended.set()
    thread.join()


def test_services(context: Context, tmp_path: Path) -> None:
    assert [info.name for info in context.services()] == ["loopback"]
    path = tmp_path / "image"
    path.write_bytes(make_image(UUID, 3, "grün"))
    uuid, version = context.load(path)
    assert (uuid.bytes, version) == (UUID, 3)
    (info,) = context.services(name="grün")
    assert (info.uuid, info.version, info.installed, info.apis) == (uuid, 3, True, ("GP_TEEv1.3",))
    assert "grün" in repr(info)
    assert context.find(name="grün") == uuid
    assert context.find(api="org.gentee.loopback").bytes == FIRST_UUID
    assert len(context.services(api="GP_TEEv1.3")) == 2
    assert context.services(name="x" * 64) == []
    with pytest.raises(TypeError):
        context.find()


def test_images_that_are_refused(context: Context) -> None:
    context.load(make_image(UUID, 3, "service"))
    with pytest.raises(AccessConflict):
        context.load(make_image(UUID, 2, "service"))
    image = bytearray(make_image(UUID, 4, "service"))
    image[-1] ^= 1
    with pytest.raises(SecurityError):
        context.load(image)
    with pytest.raises(BadParameters):
        context.load(b"")
    assert [info.version for info in context.services(name="service")] == [3]


def test_long_names_are_cut(context: Context) -> None:
    context.load(make_image(UUID, 1, "ü" * 31))
    assert context.find(name="ü" * 31).bytes == UUID


def test_freed_memory(context: Context) -> None:
    with SharedMemory.allocate(context, 100) as memory:
        context.task(UUID, FILL, Value(7, 0, INPUT), memory)
        memory.free()
        memory.free()
        assert bytes(memory.buffer) == b"\7" * 100
        with pytest.raises(BadState):
            context.task(UUID, FILL, Value(7, 0, INPUT), memory)
        assert "freed" in repr(memory)


def test_mapped_memory(context: Context) -> None:
    target = bytearray(8)
    with context.map(b"hello", INPUT) as source, context.map(target, OUTPUT) as memory:
        context.task(UUID, COPY, source, MemRef(memory, 0, 6))
        with pytest.raises(BadParameters):
            MemRef(memory, direction=INPUT)
        with pytest.raises(BadParameters):
            source.free()
    assert target == b"hello\0\0\0"
    target.clear()  # nothing holds it any more
    with pytest.raises(BadParameters):
        context.map(b"hello")


def test_a_tee_without_them() -> None:
    class PlainDoor(Door):
        version = (1, 1, 1)
        name = "plain"

        def open_session(self, *_: object) -> tuple[int, int, int]:
            raise NotImplementedError

        def invoke(self, *_: object) -> tuple[int, int]:
            raise NotImplementedError

        def cancel(self, *_: object) -> None:
            raise NotImplementedError

        def close_session(self, *_: object) -> None:
            raise NotImplementedError

        def shm_alloc(self, *_: object) -> None:  # type: ignore[override]
            raise NotImplementedError

        def shm_register(self, *_: object) -> None:  # type: ignore[override]
            raise NotImplementedError

        def close(self) -> None:
            pass

    with Context(door=PlainDoor()) as context:
        for call in (
            lambda: context.task(UUID, 0),
            lambda: context.load(b"image"),
            context.services,
        ):
            with pytest.raises(BadParameters) as caught:
                call()
            assert caught.value.origin == TEEC_ORIGIN_COMMS


def test_an_entry_of_a_list() -> None:
    assert ServiceInfo(bytes(360)).apis == ()
