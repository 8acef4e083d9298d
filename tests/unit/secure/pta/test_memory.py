# SPDX-License-Identifier: BSD-2-Clause
"""Parameters of a pseudo TA: values, and memory as it is."""

import errno
import threading
from collections.abc import Iterator

import pytest

from gentee.abi.gp import (
    TEE_ERROR_CANCEL,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_SHORT_BUFFER,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_PARAM_TYPES,
    TEE_SUCCESS,
)
from gentee.abi.optee_pta import PTA_DEFAULT_FLAGS
from gentee.abi.optee_ta import TA_FLAG_CONCURRENT
from gentee.errors import ShortBuffer
from gentee.secure.pta import instance
from gentee.secure.pta.pseudo_ta import Later, MemRef, Param, PtaSession, Value
from tests.helpers import (
    NONE,
    PATIENCE,
    Call,
    OwnMemory,
    memref_in,
    memref_inout,
    memref_out,
    value_in,
    value_inout,
    value_out,
    wait_until,
)
from tests.pta_rig import Rig, ScriptedPta


def entry(pta: ScriptedPta, function: object) -> None:
    """``function`` gets the parameters of each command."""

    def invoke(session: PtaSession, command: int, types: int, params: list[Param]) -> Later | None:
        result: Later | None = function(types, *params)  # type: ignore[operator]
        return result

    pta.invoke = invoke


def test_values(rig: Rig) -> None:
    pta = rig.add()
    seen = []

    def look(types: int, given: Value, output: Value, both: Value, none: None) -> None:
        seen.append((types, given.a, given.b, output.a, output.b, both.a, both.b, none))
        given.a = 99
        output.a, output.b = -1, 1 << 40 | 5
        both.a += both.b

    entry(pta, look)
    call = rig.open().invoke(0, value_in(1, 2), value_out(), value_inout(3, 1 << 32 | 4), NONE)
    call.wait_done()
    assert seen == [(TEE_PARAM_TYPES(1, 2, 3, 0), 1, 2, 0, 0, 3, 4, None)]
    assert [param[1:3] for param in call.params[:3]] == [(1, 2), (0xFFFF_FFFF, 5), (7, 4)]


def test_no_parameters(rig: Rig) -> None:
    pta = rig.add()
    seen: list[object] = []
    entry(pta, lambda types, *params: seen.append((types, params)))
    rig.open().invoke().wait_done()
    assert seen == [(0, (None,) * 4)]


def test_shared_pages_are_the_pages(rig: Rig) -> None:
    pta = rig.add()
    session = rig.open()
    shm = session.client.shm_alloc(4096, b"abcdefgh")
    laters = []

    def later(types: int, reference: MemRef, *rest: None) -> Later:
        assert reference.read() == b"cdef"
        assert reference.buffer is not None
        reference.buffer[:2] = b"XY"
        laters.append((Later(), reference))
        return laters[-1][0]

    entry(pta, later)
    call = session.invoke(0, memref_inout(shm, 2, 4))
    wait_until(lambda: laters)
    assert bytes(shm.view()[:8]) == b"abXYefgh"  # at once
    shm.view()[4:6] = b"__"
    assert laters[0][1].read() == b"XY__"  # the other way too
    laters[0][0].done()
    call.wait_done()
    shm.put()


@pytest.mark.parametrize("size", [1, 5000, 70000])
def test_memory_that_is_copied(rig: Rig, size: int) -> None:
    pta = rig.add()
    session = rig.open()
    data = bytes(number * 7 & 0xFF for number in range(size))
    given, output, both = OwnMemory(data), OwnMemory(data), OwnMemory(data)

    def change(types: int, given: MemRef, output: MemRef, both: MemRef, none: None) -> None:
        for reference in (given, output, both):
            assert reference.read() == data  # of an output as well, as it is with shared pages
            assert reference.buffer is not None
            reference.buffer[:] = bytes(size)
        output.size = 1

    entry(pta, change)
    shms = [session.client.shm_register(memory, size) for memory in (given, output, both)]
    call = session.invoke(0, memref_in(shms[0]), memref_out(shms[1]), memref_inout(shms[2]))
    call.wait_done()
    assert given.data == data
    assert output.data == both.data == bytes(size)
    assert [param[2] for param in call.params] == [size, 1, size, 0][:3]
    for shm in shms:
        shm.put()


def test_overlapping_references_share_their_bytes(rig: Rig) -> None:
    pta = rig.add()
    session = rig.open()
    memory = OwnMemory(bytes(range(100)))
    shm = session.client.shm_register(memory, 100)

    def look(types: int, one: MemRef, other: MemRef, *rest: None) -> None:
        assert one.buffer is not None
        one.buffer[50:52] = b"hi"
        assert other.read()[10:12] == b"hi"

    entry(pta, look)
    session.invoke(0, memref_in(shm, 0, 60), memref_inout(shm, 40, 60)).wait_done()
    assert memory.data[50:52] == b"hi"
    shm.put()


def test_no_bytes(rig: Rig) -> None:
    """NULL, with whatever size, and no bytes of a buffer: OP-TEE's pseudo TAs see NULL and 0."""
    pta = rig.add()
    session = rig.open()
    shm = session.client.shm_alloc(4096)
    registered = session.client.shm_register(OwnMemory(b"x"), 1)
    seen: list[tuple[memoryview | None, int]] = []

    def look(types: int, *references: MemRef) -> None:
        seen.extend((reference.buffer, reference.size) for reference in references)
        references[1].size = 12

    entry(pta, look)
    none, small = memref_inout(shm, 8, 0), memref_in(registered, 1, 0)
    call = session.invoke(0, memref_in(None), memref_out(None, 0, 5), none, small).wait_done()
    assert seen == [(None, 0)] * 4
    assert [param[2] for param in call.params] == [0, 12, 0, 0]
    shm.put()
    registered.put()


def test_the_size_of_an_output(rig: Rig) -> None:
    pta = rig.add()
    session = rig.open()
    shm = session.client.shm_alloc(4096)

    def more(types: int, output: MemRef, *rest: None) -> None:
        output.size = 5000
        raise ShortBuffer("more")

    entry(pta, more)
    call = session.invoke(0, memref_out(shm, 0, 10))
    assert call.result == (TEE_ERROR_SHORT_BUFFER, TEE_ORIGIN_TRUSTED_APP)
    assert call.params[0][2] == 5000
    shm.put()


def test_buffers_end_with_the_call(rig: Rig) -> None:
    pta = rig.add()
    session = rig.open()
    shm = session.client.shm_alloc(4096)
    kept: list[tuple[MemRef, memoryview]] = []

    def keep(types: int, reference: MemRef, *rest: None) -> None:
        assert reference.buffer is not None
        kept.append((reference, reference.buffer))

    entry(pta, keep)
    session.invoke(0, memref_inout(shm)).wait_done()
    ((reference, buffer),) = kept
    wait_until(lambda: reference.buffer is None)
    with pytest.raises(ValueError, match="released"):
        buffer[0] = 1
    shm.put()


def test_memory_that_is_gone(rig: Rig) -> None:
    pta = rig.add()
    session = rig.open()
    called: list[object] = []
    entry(pta, lambda *arguments: called.append(arguments))
    shm = session.client.shm_register(OwnMemory(bytes(8), address=16), 8)
    call = session.invoke(0, memref_in(shm))
    call.wait_end()
    assert call.arg.error == errno.EFAULT
    assert not called
    client = rig.client()
    mine = client.shm_register(OwnMemory(bytes(8), address=16), 8)
    opening = client.begin_open_session(bytes.fromhex(pta.uuid.replace("-", "")), [memref_in(mine)])
    opening.wait_end()
    assert opening.arg.error == errno.EFAULT
    assert not client.ctx.sessions
    shm.put()
    mine.put()


class ReadOnly(OwnMemory):
    def copy_out(self, offset: int, view: memoryview) -> None:
        raise OSError(errno.EFAULT, "read-only")


def test_outputs_that_cannot_be_written(rig: Rig) -> None:
    """The call fails, and a session that the client never learns of is closed again."""
    pta = rig.add()
    client = rig.client()
    shm = client.shm_register(ReadOnly(bytes(8)), 8)
    opening = client.begin_open_session(
        bytes.fromhex(pta.uuid.replace("-", "")), [memref_inout(shm)]
    )
    opening.wait_end()
    assert opening.arg.error == errno.EFAULT
    assert not client.ctx.sessions
    wait_until(lambda: pta.told == ["create", ("open", 1), ("close", 1), "destroy"])
    session = rig.open()
    mine = session.client.shm_register(ReadOnly(bytes(8)), 8)
    call = session.invoke(0, memref_inout(mine))
    call.wait_end()
    assert call.arg.error == errno.EFAULT
    shm.put()
    mine.put()


# Memory that does not answer


class Unanswering(OwnMemory):
    """``copy_in`` or ``copy_out`` waits until the test lets it go on."""

    def __init__(self, gate: threading.Event, *, is_output: bool = False) -> None:
        super().__init__(bytes(8))
        self.entered = threading.Event()
        self._gate = gate
        self._is_output = is_output

    def copy_in(self, offset: int, view: memoryview) -> None:
        if not self._is_output:
            self._wait()
        super().copy_in(offset, view)

    def copy_out(self, offset: int, view: memoryview) -> None:
        if self._is_output:
            self._wait()
        super().copy_out(offset, view)

    def _wait(self) -> None:
        self.entered.set()
        assert self._gate.wait(PATIENCE)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Of all memory that does not answer; open at the end of the test in any case."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.mark.parametrize("is_output", [False, True], ids=["input", "output"])
@pytest.mark.parametrize(
    ("flags", "count"),
    [(None, 1), (PTA_DEFAULT_FLAGS | TA_FLAG_CONCURRENT, 20)],
    ids=["one lane", "all threads"],
)
def test_it_keeps_nobody_else_waiting(
    rig: Rig, gate: threading.Event, flags: int | None, count: int, is_output: bool
) -> None:
    rig.add(flags=flags)
    calls: list[Call] = []
    shms = []
    for _ in range(count):
        memory = Unanswering(gate, is_output=is_output)
        session = rig.open()
        shms.append(session.client.shm_register(memory, 8))
        calls.append(session.invoke(0, memref_inout(shms[-1])))
        assert memory.entered.wait(PATIENCE)
    other = rig.open()
    assert other.invoke(0, value_inout(1, 2)).result[0] == TEE_SUCCESS
    mine = other.client.shm_register(OwnMemory(bytes(8)), 8)
    assert other.invoke(0, memref_inout(mine)).result[0] == TEE_SUCCESS
    gate.set()
    for call in calls:
        assert call.result[0] == TEE_SUCCESS
    for shm in [*shms, mine]:
        shm.put()


def test_a_call_that_is_cancelled_while_its_memory_is_brought(
    rig: Rig, gate: threading.Event
) -> None:
    pta = rig.add()
    pta.invoke = lambda *_arguments: pytest.fail("it was cancelled")
    memory = Unanswering(gate)
    session = rig.open()
    shm = session.client.shm_register(memory, 8)
    call = session.invoke(0, memref_inout(shm), cancel_id=7)
    assert memory.entered.wait(PATIENCE)
    session.cancel(7)
    gate.set()
    assert call.result == (TEE_ERROR_CANCEL, TEE_ORIGIN_TEE)
    shm.put()


def test_only_so_much_is_brought(
    rig: Rig, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client has its memory once; copies of it for many calls would be the TEE's."""
    monkeypatch.setattr(instance, "_MAX_BROUGHT", 12)
    monkeypatch.setattr(instance, "_FEW_BYTES", 7)
    rig.add()
    memory = Unanswering(gate)
    session = rig.open()
    shm = session.client.shm_register(memory, 8)
    call = session.invoke(0, memref_inout(shm))
    assert memory.entered.wait(PATIENCE)
    other = rig.open()
    mine = other.client.shm_register(OwnMemory(bytes(8)), 8)
    few = memref_inout(mine, 0, 7)
    assert other.invoke(0, memref_inout(mine)).result == (TEE_ERROR_OUT_OF_MEMORY, TEE_ORIGIN_TEE)
    assert other.invoke(0, few).result[0] == TEE_SUCCESS
    gate.set()
    assert call.result[0] == TEE_SUCCESS
    assert other.invoke(0, memref_inout(mine)).result[0] == TEE_SUCCESS
    shm.put()
    mine.put()
