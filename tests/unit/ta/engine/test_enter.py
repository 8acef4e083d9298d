# SPDX-License-Identifier: BSD-2-Clause
"""A TA of each architecture from its file to its answers, on both engines."""

from collections.abc import Iterator, Sequence
from struct import pack

import pytest

from gentee.abi import gp
from gentee.abi import optee_ta as ta
from gentee.errors import GenericError
from gentee.ta.engine.base import ARM
from gentee.ta.engine.calls import arguments
from gentee.ta.engine.space import BadAddress
from tests.ta_build import ARCHES
from tests.ta_run import ENGINES, RunningTa, ta_image

ADD, SWAP, LOG, EIGHT, FLOATS, COUNT, HEADERS = range(7)


@pytest.fixture(params=[(arch, engine) for arch in ARCHES for engine in ENGINES], ids="-".join)
def hello(request: pytest.FixtureRequest) -> Iterator[RunningTa]:
    arch, engine = request.param
    running = RunningTa(ta_image("hello", arch), engine)
    yield running
    running.end()


def test_open_invoke_close(hello: RunningTa) -> None:
    assert hello.open()[0] == gp.TEE_SUCCESS
    assert hello.open()[0] == gp.TEE_SUCCESS
    assert hello.invoke(ADD, 3, 4, 5) == (gp.TEE_SUCCESS, (7, 4, 5, 0, 0, 0, 0, 0))
    assert hello.invoke(SWAP, 3, 4)[1][:2] == (4, 3)
    assert hello.invoke(COUNT)[1][0] == 2
    assert hello.close()[0] == gp.TEE_SUCCESS
    assert hello.invoke(COUNT)[1][0] == 1
    assert hello.invoke(99)[0] == gp.TEE_ERROR_NOT_SUPPORTED
    assert hello.call(77)[0] == gp.TEE_ERROR_NOT_SUPPORTED


def test_head_and_place(hello: RunningTa) -> None:
    loaded = hello.ta
    assert loaded.flags == ta.TA_FLAG_SINGLE_INSTANCE | ta.TA_FLAG_MULTI_SESSION
    assert loaded.stack_top - loaded.stack == 8192
    head = hello.loader.modules[0].image.head
    assert head is not None
    assert head.uuid == bytes.fromhex("1122334455667788") + bytes(range(1, 9))


def test_log(hello: RunningTa) -> None:
    logged = []

    def log(running: RunningTa, args: Sequence[int]) -> int:
        logged.append(running.space.read(args[0], args[1]))
        return gp.TEE_SUCCESS

    hello.serve[ta.TEE_SCN_LOG] = log
    assert hello.invoke(LOG)[0] == gp.TEE_SUCCESS
    assert logged == [b"hello"]


def test_eight_arguments(hello: RunningTa) -> None:
    seen = []

    def create(running: RunningTa, args: Sequence[int]) -> int:
        seen.append(tuple(args[:8]))
        running.space.write(args[7], b"\x2a\0\0\0")
        return gp.TEE_ERROR_ACCESS_CONFLICT

    hello.serve[ta.TEE_SCN_STORAGE_OBJ_CREATE] = create
    result, vals = hello.invoke(EIGHT)
    assert result == gp.TEE_ERROR_ACCESS_CONFLICT
    assert vals[0] == 42
    (storage, identifier, size, flags, attributes, data, length, _object) = seen[0]
    assert (storage, size, flags, attributes, length) == (1, 3, 4, 5, 7)
    assert data == identifier + ta.UTEE_PARAMS.size


def test_floating_point(hello: RunningTa) -> None:
    assert hello.invoke(FLOATS, 10)[1][0] == 15


def test_the_loader_tells_of_the_files(hello: RunningTa) -> None:
    vals = hello.invoke(HEADERS)[1]
    module = hello.loader.modules[0]
    # One file, its program headers, of which the first is PT_LOAD; no name; its address
    assert vals[:5] == (1, module.image.phnum, 1, 0, module.load_addr)


def test_other_registers_survive_a_system_call(hello: RunningTa) -> None:
    is_arm = hello.engine.arch == ARM
    # Two system calls in a row: svc #0; svc #0
    code = pack("<2I", 0xEF000000, 0xEF000000) if is_arm else pack("<2I", 0xD4000001, 0xD4000001)
    memory = hello.space.allocate(4096)
    memory[:8] = code
    region = hello.space.map(hello.space.place(4096), memory, 5, "code")
    hello.engine.enter(region.address, 0x1000, (1, 2, 3, 4))
    hello.engine.run()
    before = hello.engine.registers()
    assert before["pc"] == region.address + 4
    hello.engine.resume(0xFFFF0007)
    first = "r0" if is_arm else "x0"
    assert hello.engine.registers() == {**before, first: 0xFFFF0007, "pc": region.address + 8}


def test_entry_clears_registers(hello: RunningTa) -> None:
    hello.invoke(FLOATS, 10)
    hello.engine.enter(hello.ta.entry, 0x1000, (1, 2))
    registers = hello.engine.registers()
    values = [value for name, value in registers.items() if name not in ("pc", "cpsr", "pstate")]
    assert sorted(values, reverse=True)[:4] == [0x1000, 2, 1, 0]
    assert registers["sp"] == 0x1000


def test_thread_register(hello: RunningTa) -> None:
    assert hello.engine.thread_register == 0
    hello.engine.thread_register = 0x12345678
    hello.invoke(ADD, 1, 2)
    assert hello.engine.thread_register == 0x12345678


def test_stack_arguments_are_checked() -> None:
    running = RunningTa(ta_image("hello", "arm"))

    class Stopped:
        arch = ARM
        args = (1, 2, 3, 4, 0, 0, 9, 42)

    stopped = Stopped()
    with pytest.raises(GenericError):
        arguments(stopped, running.space)  # type: ignore[arg-type]
    stopped.args = (1, 2, 3, 4, 0, 0, 4, 42)
    with pytest.raises(BadAddress):
        arguments(stopped, running.space)  # type: ignore[arg-type]
    stopped.args = (1, 2, 3, 4, 0, 0, 0, 42)
    assert tuple(arguments(stopped, running.space)) == (1, 2, 3, 4)  # type: ignore[arg-type]
    running.end()
