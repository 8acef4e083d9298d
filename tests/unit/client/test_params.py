# SPDX-License-Identifier: BSD-2-Clause
"""Parameters over both roads: values, temporary memory, shared memory whole and in part."""

import mmap
from array import array

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gentee.abi.gp import TEEC_ORIGIN_API
from gentee.abi.linux_tee import TEE_GEN_CAP_MEMREF_NULL, TEE_MEMREF_NULL
from gentee.client import (
    INOUT,
    INPUT,
    OUTPUT,
    Context,
    MemRef,
    Out,
    Session,
    SharedMemory,
    TempRef,
    Value,
)
from gentee.client.blocks import MemorySource
from gentee.client.doors import NUM_WORDS
from gentee.client.kernel_door import KernelDoor
from gentee.core.device import DeviceRegistry
from gentee.errors import BadParameters, BadState, ShortBuffer, TeeError

NOP, COPY, INCREMENT, FILL, RETURN, WAIT, RELEASE, SUPPLICANT, ERRNO = range(9)


# Values


def test_value_comes_back(session: Session) -> None:
    value = Value(41, 0xFFFF_FFFF)
    session.invoke(INCREMENT, value)
    assert (value.a, value.b) == (42, 0)
    assert repr(value) == "Value(0x2a, 0x0, INOUT)"


def test_direction_of_values(session: Session) -> None:
    source, target = Value(1, 2, INPUT), Value(8, 9, OUTPUT)
    session.invoke(COPY, source, None, target)
    assert (source.a, source.b, target.a, target.b) == (1, 2, 1, 2)


@pytest.mark.parametrize("number", [-1, 1 << 32])
def test_value_has_32_bits(session: Session, number: int) -> None:
    for value in (Value(number), Value(0, number)):
        with pytest.raises(BadParameters) as error:
            session.invoke(INCREMENT, value)
        assert error.value.origin == TEEC_ORIGIN_API


@pytest.mark.parametrize("direction", [0, 4, -1])
def test_direction_that_is_none(context: Context, direction: int) -> None:
    with SharedMemory.allocate(context, 1) as memory:
        for make in (
            lambda: Value(0, 0, direction),
            lambda: TempRef(bytearray(1), direction),
            lambda: MemRef(memory, 0, 1, direction),
            lambda: SharedMemory.allocate(context, 1, direction),
            lambda: SharedMemory.register(context, bytearray(1), direction),
        ):
            with pytest.raises(BadParameters) as error:
                make()
            assert error.value.origin == TEEC_ORIGIN_API


# Temporary memory


def test_bytes_in_and_out(session: Session) -> None:
    out = Out(100)
    session.invoke(COPY, b"hello", out)
    assert (out.data, out.out_size, out.size) == (b"hello", 5, 100)
    session.invoke(COPY, b"again!", out)
    assert out.data == b"again!"


def test_out_that_is_too_small(session: Session) -> None:
    out = Out(3)
    with pytest.raises(ShortBuffer):
        session.invoke(COPY, b"hello", out)
    assert out.out_size == 5
    assert len(out.data) == 3


def test_bytearray_goes_both_ways(session: Session) -> None:
    buffer = bytearray(b"abc")
    session.invoke(FILL, Value(ord("x"), 0, INPUT), buffer)
    assert buffer == b"xxx"
    buffer.append(0)  # the TEE has let go of it


@pytest.mark.parametrize("size", [1, 8, 4095, 4096, 4097, 100_000])
def test_sizes(session: Session, size: int) -> None:
    data = bytes(i * 7 & 0xFF for i in range(size))
    out, target = Out(size), bytearray(size)
    session.invoke(COPY, data, out, TempRef(target, OUTPUT))
    assert out.data == data == target


def test_any_buffer_will_do(session: Session) -> None:
    words = array("I", [1, 2, 3])
    pages = mmap.mmap(-1, 4096)
    part = memoryview(pages)[10:22]
    session.invoke(COPY, TempRef(words, INPUT), TempRef(part, OUTPUT))
    assert pages[10:22] == words.tobytes()
    part.release()
    pages.close()
    with pytest.raises(TypeError, match="not a parameter: str"):
        session.invoke(NOP, "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not a parameter"):
        session.invoke(NOP, memoryview(bytearray(8))[::2])


def test_size_of_a_temporary_reference(session: Session) -> None:
    target = TempRef(bytearray(b"........"), OUTPUT)
    session.invoke(COPY, b"hello", target)
    assert (target.size, target.out_size, bytes(target.data)) == (8, 5, b"hello")
    assert repr(target) == "TempRef(8 bytes, OUTPUT)"
    with pytest.raises(ShortBuffer):
        session.invoke(COPY, b"hello, world", target)
    assert (target.size, target.out_size) == (8, 12)
    session.invoke(COPY, b"bye", target)
    assert bytes(target.data) == b"bye"


def test_read_only_memory_is_never_output(session: Session) -> None:
    assert TempRef(b"bytes").direction == INPUT
    for direction in (OUTPUT, INOUT):
        with pytest.raises(BadParameters) as error:
            TempRef(b"bytes", direction)
        assert error.value.origin == TEEC_ORIGIN_API


def test_empty_buffers(session: Session) -> None:
    out = Out(0)
    session.invoke(COPY, b"", out, bytearray())
    assert (out.data, out.out_size) == (b"", 0)
    with pytest.raises(BadParameters):
        Out(-1)


def test_null_reference(session: Session) -> None:
    null = TempRef(None, OUTPUT)
    with pytest.raises(ShortBuffer):
        session.invoke(COPY, b"hello", null)
    assert (null.out_size, bytes(null.data)) == (5, b"")
    assert repr(null) == "TempRef(NULL, OUTPUT)"


def test_null_reference_to_a_tee_that_knows_none(registry: DeviceRegistry) -> None:
    door = KernelDoor(registry)
    with Context(door=door) as context:
        words = [0] * NUM_WORDS
        source = MemorySource(door)
        assert TempRef(None, INPUT).begin(source, words, 4) is None
        assert words[4:8] == [5, 0, 0, TEE_MEMREF_NULL]
        impl_id, impl_caps, gen_caps = door.version
        door.version = (impl_id, impl_caps, gen_caps & ~TEE_GEN_CAP_MEMREF_NULL)
        block = TempRef(None, INPUT).begin(source, words, 4)
        assert block is not None
        assert words[4:8] == [5, 0, 0, block.id]
        block.release()
        context.open_session(bytes(range(16))).invoke(NOP, TempRef(None, INPUT))


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.binary(max_size=200), room=st.integers(0, 250), filler=st.integers(0, 255))
def test_copy_leaves_what_it_should(session: Session, data: bytes, room: int, filler: int) -> None:
    """Whatever the sizes: what fits arrives, what lies behind it stays."""
    out, target = Out(room), bytearray([filler]) * room
    reference = TempRef(target, INOUT)
    if len(data) > room:
        with pytest.raises(ShortBuffer):
            session.invoke(COPY, TempRef(data, INPUT), reference, out)
        assert target == bytes([filler]) * room
    else:
        session.invoke(COPY, TempRef(data, INPUT), reference, out)
        assert target == data + bytes([filler]) * (room - len(data))
        assert out.data == data
    assert reference.out_size == out.out_size == len(data)


# Shared memory


@pytest.mark.parametrize("how", ["allocate", "register"])
def test_whole_memory(context: Context, session: Session, how: str) -> None:
    memory = make(context, how, 10)
    memory.buffer[:] = b"0123456789"
    whole = MemRef(memory)
    session.invoke(FILL, Value(ord("x"), 0, INPUT), whole)
    assert bytes(memory.buffer) == b"xxxxxxxxxx"
    assert bytes(whole.data) == b"xxxxxxxxxx"
    session.invoke(FILL, Value(ord("y"), 0, INPUT), memory)  # the same, shorter
    assert bytes(memory.buffer) == b"yyyyyyyyyy"


@pytest.mark.parametrize("how", ["allocate", "register"])
def test_parts_of_memory(context: Context, session: Session, how: str) -> None:
    memory = make(context, how, 16)
    memory.buffer[:] = b"0123456789......"
    source = MemRef(memory, 2, 4, INPUT)
    target = MemRef(memory, 10, direction=OUTPUT)
    assert (target.size, target.out_size) == (6, 6)
    session.invoke(COPY, source, target)
    assert bytes(memory.buffer) == b"01234567892345.."
    assert (target.out_size, bytes(target.data)) == (4, b"2345")
    with pytest.raises(ShortBuffer):
        session.invoke(COPY, MemRef(memory, 0, 10, INPUT), target)
    assert target.out_size == 10
    assert len(target.data) == 6
    assert repr(source).endswith(", 2, 4, INPUT)")


def make(context: Context, how: str, size: int) -> SharedMemory:
    if how == "allocate":
        return SharedMemory.allocate(context, size)
    return SharedMemory.register(context, bytearray(size))


def test_parts_that_cannot_be(context: Context) -> None:
    with SharedMemory.allocate(context, 16, INPUT) as memory:
        for offset, size in ((0, 17), (17, 0), (-1, 1), (1, -1), (17, None)):
            with pytest.raises(BadParameters) as error:
                MemRef(memory, offset, size)
            assert error.value.origin == TEEC_ORIGIN_API
        for direction in (OUTPUT, INOUT):
            with pytest.raises(BadParameters, match="flags"):
                MemRef(memory, direction=direction)
        assert MemRef(memory).direction == INPUT


def test_memory_of_another_context(
    registry: DeviceRegistry, context: Context, session: Session
) -> None:
    with Context(door=KernelDoor(registry)) as other:
        memory = SharedMemory.allocate(other, 1)
        with pytest.raises(BadState) as error:
            session.invoke(NOP, memory)
        assert error.value.origin == TEEC_ORIGIN_API


def test_memory_that_was_released(context: Context, session: Session) -> None:
    memory = SharedMemory.allocate(context, 8)
    reference = MemRef(memory)
    rest = memory.buffer[:4]
    memory.release()
    memory.release()
    rest[:] = b"mine"  # who still looks at it keeps it
    with pytest.raises(BadState):
        session.invoke(NOP, reference)
    with pytest.raises(BadState):
        _ = memory.buffer
    assert repr(memory) == "<SharedMemory 8 bytes, released>"


def test_registered_memory_stays_in_its_place(context: Context) -> None:
    buffer = bytearray(8)
    with SharedMemory.register(context, buffer) as memory:
        with pytest.raises(BufferError):
            buffer.append(0)
        assert memory.size == 8
    buffer.append(0)


def test_registered_memory_that_is_read_only(context: Context, session: Session) -> None:
    out = Out(8)
    with SharedMemory.register(context, b"constant", INPUT) as memory:
        session.invoke(COPY, memory, out)
    assert out.data == b"constant"
    with pytest.raises(BadParameters):
        SharedMemory.register(context, b"constant", INOUT)


@pytest.mark.parametrize("how", ["allocate", "register"])
def test_empty_memory(context: Context, session: Session, how: str) -> None:
    with make(context, how, 0) as memory:
        assert memory.size == 0
        out = Out(1)
        session.invoke(COPY, memory, out)
        assert out.data == b""


def test_memory_that_there_is_not(context: Context) -> None:
    for size in (1 << 40, 1 << 70):
        with pytest.raises(TeeError) as error:
            SharedMemory.allocate(context, size)
        assert (error.value.code, error.value.origin) == (0xFFFF000C, TEEC_ORIGIN_API)
    with pytest.raises(BadParameters):
        SharedMemory.allocate(context, -1)


def test_nothing_is_left_when_a_parameter_is_wrong(
    registry: DeviceRegistry, session: Session
) -> None:
    (ctx,) = registry.all()[0].contexts
    with pytest.raises(BadParameters):
        session.invoke(NOP, b"one", bytearray(2), Out(100_000), Value(-1))
    session.close()
    assert not ctx.shms


# Memory of calls


def test_session_uses_its_memory_again(registry: DeviceRegistry, session: Session) -> None:
    (ctx,) = registry.all()[0].contexts
    session.invoke(COPY, b"secret of the first call", Out(30))
    kept = set(ctx.shms)
    assert kept
    out = Out(50)
    session.invoke(NOP, b"second", out)
    assert set(ctx.shms) == kept
    assert out.data == bytes(50)  # nothing of the first call
    session.close()
    assert not ctx.shms


def test_session_keeps_little(registry: DeviceRegistry, session: Session) -> None:
    (ctx,) = registry.all()[0].contexts
    for size in (0, 1, 10, 5000, 70_000, 65536):
        session.invoke(COPY, bytes(size), Out(size), Out(size), Out(size))
    assert len(ctx.shms) <= 8
    assert ctx.shm_bytes <= 8 * 65536


def test_memory_of_a_call_that_was_left_is_not_used_again(
    registry: DeviceRegistry, session: Session
) -> None:
    (ctx,) = registry.all()[0].contexts
    with pytest.raises(TeeError):
        session.invoke(ERRNO, Value(5, 0, INPUT), b"in", Out(10))
    assert not ctx.shms


def test_sessions_do_not_share_memory(registry: DeviceRegistry, context: Context) -> None:
    (ctx,) = registry.all()[0].contexts
    with context.open_session(bytes(range(16)), b"a") as one:
        first = set(ctx.shms)
        with context.open_session(bytes(range(16)), b"b"):
            assert len(ctx.shms) == 2
        assert set(ctx.shms) == first
        one.invoke(NOP, b"c")
        assert set(ctx.shms) == first
