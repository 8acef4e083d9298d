# SPDX-License-Identifier: BSD-2-Clause
"""Calls between services: GP TEE Internal Core API 1.3.1 section 4.9, with OP-TEE's rules.

``A`` is the service that a client calls, ``B`` mostly the one that A calls.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gentee.abi.gp import (
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_BAD_FORMAT,
    TEE_ERROR_BAD_STATE,
    TEE_ERROR_CANCEL,
    TEE_ERROR_GENERIC,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_SHORT_BUFFER,
    TEE_ERROR_TARGET_DEAD,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
)
from gentee.client import OUTPUT, Operation, Session, SharedMemory, TempRef, Value
from gentee.errors import TeeError
from gentee.secure.instance import Instance
from gentee.secure.instance_memory import InstanceMemory
from tests.functional.test_services import Tee
from tests.helpers import ServiceHost, in_threads, open_descriptors, wait_until

A = "4bd4c3f0-7a0c-4c1b-9f0e-1d2c3b4a5f60"
B = "4bd4c3f0-7a0c-4c1b-9f0e-1d2c3b4a5f61"
C = "4bd4c3f0-7a0c-4c1b-9f0e-1d2c3b4a5f62"

NOBODY = "00000000-0000-0000-0000-00000000dead"

SHARED = "single_instance, multi_session, "
KEPT = "single_instance, multi_session, keep_alive, "


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture
def tee(host: ServiceHost, tmp_path: Path) -> Iterator[Tee]:
    tee = Tee(host, tmp_path)
    yield tee
    tee.close()
    assert not host.bugs


def put(tee: Tee, uuid: str, body: str, flags: str = "") -> None:
    """A service; its body is what its entry points have in common and do."""
    head = f'\n    A, B, C = "{A}", "{B}", "{C}"\n'
    tee.put(head + body, uuid=uuid, flags=flags, name=f"service-{uuid[-1]}")


def caller(tee: Tee, body: str, flags: str = "") -> None:
    """A: ``body`` is that of its commands."""
    lines = "\n".join(f"        {line}" for line in body.strip("\n").splitlines())
    put(
        tee,
        A,
        f"""
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        FOREVER = TEE_TIMEOUT_INFINITE
{lines}
""",
        flags,
    )


def failure(session: Session, command: int = 0, *params: object) -> TeeError:
    with pytest.raises(TeeError) as caught:
        session.invoke(command, *params)  # type: ignore[arg-type]
    return caught.value


def reported(tee: Tee) -> list[str]:
    """What services printed."""
    return [line for line in tee.lines if not line.startswith("Traceback")]


# Parameters and identity

ECHO = """
    def TA_OpenSessionEntryPoint(self, param_types, params):
        identity = TEE_GetPropertyAsIdentity(TEE_PROPSET_CURRENT_CLIENT, "gpd.client.identity")
        print("client", hex(identity.login), identity.uuid)
        if param_types & 0xf == 3:
            params[0].a, params[0].b = params[0].b, params[0].a

    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        if command_id == 1:  # values: in, out, in/out
            params[1].a, params[1].b = params[0].a + 1, params[0].b + 1
            params[2].a += params[2].b
        elif command_id == 2:  # copy
            params[1].write(bytes(params[0]))
        elif command_id == 3:  # in place
            params[0].buffer[:] = bytes(byte ^ 0xff for byte in params[0].buffer)
        elif command_id == 4:  # what is there
            for param in params:
                if param is not None:
                    print(param.buffer is None, param.size, bytes(param))
        elif command_id == 5:  # overlap: write by one, read by the other
            params[0].buffer[4:8] = b"here"
            print(bytes(params[1].buffer[:4]))
        elif command_id == 6:
            params[0].buffer[:3] = b"abc"
            raise BadFormat("but written")

    def TA_CloseSessionEntryPoint(self, session):
        print("closed")
"""


def test_who_calls(tee: Tee) -> None:
    put(tee, B, ECHO)
    caller(
        tee,
        """
mine = TEE_GetPropertyAsIdentity(TEE_PROPSET_CURRENT_CLIENT, "gpd.client.identity")
TEE_CloseTASession(TEE_OpenTASession(self.B))
assert mine == TEE_GetPropertyAsIdentity(TEE_PROPSET_CURRENT_CLIENT, "gpd.client.identity")
print("mine", mine.login)
""",
    )
    tee.open(A).invoke(0)
    wait_until(lambda: len(tee.lines) == 3)
    assert sorted(tee.lines) == ["client 0xf0000000 " + A, "closed", "mine 0"]


def test_values(tee: Tee) -> None:
    put(tee, B, ECHO)
    caller(
        tee,
        """
first = Value(1, 2)
other = TEE_OpenTASession(self.B, FOREVER, 3, [first])
assert (first.a, first.b) == (2, 1)
given, got, both = Value(5, 0xffff_ffff), Value(7, 7), Value(3, 4)
types = TEE_PARAM_TYPES(
    TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_VALUE_INOUT, 0)
TEE_InvokeTACommand(other, FOREVER, 1, types, [given, got, both])
params[0].a, params[0].b = got.a, got.b
params[1].a, params[1].b = both.a, given.a
""",
    )
    one, two = Value(), Value()
    tee.open(A).invoke(0, one, two)
    assert (one.a, one.b, two.a, two.b) == (6, 0, 7, 5)


@pytest.mark.parametrize("size", [0, 1, 100, 5000, 100_000, 3 << 20])
def test_private_memory(tee: Tee, size: int) -> None:
    put(tee, B, ECHO)
    caller(
        tee,
        f"""
data = os.urandom({size})
other = TEE_OpenTASession(self.B)
for source in data, bytearray(data), memoryview(data), Memref(data):
    target = Memref(bytearray({size} + 10))
    TEE_InvokeTACommand(other, FOREVER, 2, 0x65, [source, target])
    assert target.size == {size} and bytes(target.buffer[:{size}]) == data
    assert bytes(target.buffer[{size}:]) == bytes(10)
if data:
    turned = bytearray(data)
    TEE_InvokeTACommand(other, FOREVER, 3, 7, [turned])
    assert bytes(turned) == bytes(byte ^ 0xff for byte in data)
""",
    )
    tee.open(A).invoke(0)


def test_memory_of_the_client(tee: Tee) -> None:
    put(tee, B, ECHO)
    caller(
        tee,
        """
other = TEE_OpenTASession(self.B)
whole = params[0].buffer
TEE_InvokeTACommand(other, FOREVER, 2, 0x65, [whole[:5], Memref(whole[8:])])
TEE_InvokeTACommand(other, FOREVER, 3, 7, [whole[5:8]])
TEE_InvokeTACommand(other, FOREVER, 2, 0x65, [whole[:2], params[1]])
""",
    )
    data, out = bytearray(b"hello...________"), TempRef(bytearray(6), OUTPUT)
    tee.open(A).invoke(0, data, out)
    assert bytes(data) == b"hello" + bytes([0x2E ^ 0xFF] * 3) + b"hello___"
    assert out.out_size == 2
    assert bytes(out.data) == b"he"


def test_null_and_empty_references(tee: Tee) -> None:
    put(tee, B, ECHO)
    caller(
        tee,
        """
other = TEE_OpenTASession(self.B)
nothing = Memref(None)
TEE_InvokeTACommand(other, FOREVER, 4, 0x6575, [nothing, Memref(bytearray(0)), b"", nothing])
""",
    )
    tee.open(A).invoke(0)
    assert tee.lines[1:] == ["True 0 b''", "False 0 b''", "False 0 b''", "True 0 b''"]


def test_null_with_a_size_is_misuse(tee: Tee) -> None:
    put(tee, B, ECHO)
    caller(tee, "TEE_OpenTASession(self.B, FOREVER, 5, [Memref(None, 4)])")
    error = failure(tee.open(A))
    assert error.origin == TEE_ORIGIN_TRUSTED_APP  # A passes on what it got


def test_short_buffer(tee: Tee) -> None:
    put(tee, B, ECHO)
    caller(
        tee,
        """
other = TEE_OpenTASession(self.B)
target = Memref(bytearray(3))
try:
    TEE_InvokeTACommand(other, FOREVER, 2, 0x65, [b"hello", target])
except ShortBuffer as error:
    assert error.origin == TEE_ORIGIN_TRUSTED_APP
    assert target.size == 5 and bytes(target) == bytes(3)
    raise
""",
    )
    assert failure(tee.open(A)).code == TEE_ERROR_SHORT_BUFFER


def test_overlap(tee: Tee) -> None:
    put(tee, B, ECHO)
    caller(
        tee,
        """
other = TEE_OpenTASession(self.B)
data = bytearray(b"0123456789ab")
TEE_InvokeTACommand(other, FOREVER, 5, 0x57, [data, memoryview(data).toreadonly()[4:]])
assert data == b"0123here89ab"
data = bytearray(b"0123456789ab")
TEE_InvokeTACommand(other, FOREVER, 4, 0x565, [data, Memref(memoryview(data)[8:]), data])
""",
    )
    tee.open(A).invoke(0)
    # An output that overlaps with an input has its bytes.
    whole = "False 12 b'0123456789ab'"
    assert tee.lines[1:] == ["b'here'", whole, "False 4 b'89ab'", whole]


def test_outputs_come_back_with_an_error(tee: Tee) -> None:
    put(tee, B, ECHO)
    caller(
        tee,
        """
other = TEE_OpenTASession(self.B)
data = bytearray(b"......")
try:
    TEE_InvokeTACommand(other, FOREVER, 6, 7, [data])
except BadFormat:
    assert data == b"abc..."
    raise
""",
    )
    error = failure(tee.open(A))
    assert (error.code, error.origin) == (TEE_ERROR_BAD_FORMAT, TEE_ORIGIN_TRUSTED_APP)


def test_no_service_sees_what_another_one_got(tee: Tee) -> None:
    put(tee, B, ECHO)
    put(tee, C, ECHO)
    caller(
        tee,
        """
first, second = TEE_OpenTASession(self.B), TEE_OpenTASession(self.C)
TEE_InvokeTACommand(first, FOREVER, 2, 0x65, [b"secret" * 100, Memref(bytearray(600))])
TEE_InvokeTACommand(second, FOREVER, 4, 0x66, [bytearray(8), bytearray(8)])
""",
    )
    tee.open(A).invoke(0)
    assert tee.lines[2:] == [f"False 8 {bytes(8)!r}"] * 2


def test_more_memory_than_a_call_can_have(tee: Tee) -> None:
    put(tee, B, ECHO)
    caller(
        tee,
        """
other = TEE_OpenTASession(self.B)
memory = params[0].buffer
try:
    TEE_InvokeTACommand(other, FOREVER, 4, 5, [memory])
except OutOfMemory as error:
    assert error.origin == TEE_ORIGIN_TEE
    TEE_InvokeTACommand(other, FOREVER, 4, 5, [memory[:4]])
    raise
""",
    )
    context = tee.context()
    with (
        context.open_session(A) as session,
        SharedMemory.allocate(context, (64 << 20) + 1) as memory,
    ):
        error = failure(session, 0, memory)
    assert (error.code, error.origin) == (TEE_ERROR_OUT_OF_MEMORY, TEE_ORIGIN_TRUSTED_APP)


# Errors and their origins


@pytest.mark.parametrize(
    ("body", "code", "origin"),
    [
        ("TEE_OpenTASession(NOBODY)", TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TEE),
        ("TEE_OpenTASession(self.B)", TEE_ERROR_ACCESS_DENIED, TEE_ORIGIN_TRUSTED_APP),
        (
            "TEE_OpenTASession(self.B, FOREVER, 1, [Value()])",
            TEE_ERROR_TARGET_DEAD,
            TEE_ORIGIN_TEE,
        ),
        ("TEE_OpenTASession(self.C)", TEE_ERROR_BAD_STATE, TEE_ORIGIN_TRUSTED_APP),
    ],
)
def test_refused_sessions(tee: Tee, body: str, code: int, origin: int) -> None:
    put(
        tee,
        B,
        """
    def TA_OpenSessionEntryPoint(self, param_types, params):
        if param_types:
            TEE_Panic(5)
        raise AccessDenied()
""",
    )
    put(
        tee,
        C,
        """
    def TA_CreateEntryPoint(self):
        raise BadState()
""",
    )
    caller(
        tee,
        f"""
NOBODY = "{NOBODY}"
try:
    {body}
except TeeError as error:
    params[0].a, params[0].b = error.code, error.origin
""",
    )
    value = Value()
    session = tee.open(A)
    session.invoke(0, value)
    assert (value.a, value.b) == (code, origin)
    wait_until(lambda: tee.instances() == 1)
    session.invoke(0, value)
    assert (value.a, value.b) == (code, origin)


def test_panic_of_the_called(tee: Tee) -> None:
    put(
        tee,
        B,
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].buffer[:] = b"!" * 4
        TEE_Panic(5)
""",
    )
    caller(
        tee,
        """
other = TEE_OpenTASession(self.B)
data = bytearray(b"left")
for _ in range(2):
    try:
        TEE_InvokeTACommand(other, FOREVER, 0, 7, [data])
    except TargetDead as error:
        assert error.origin == TEE_ORIGIN_TEE
        params[0].a += 1
assert data == b"left"
TEE_CloseTASession(other)
TEE_CloseTASession(TEE_OpenTASession(self.B))
""",
    )
    value = Value()
    tee.open(A).invoke(0, value)
    assert value.a == 2


def test_busy(tee: Tee) -> None:
    put(tee, B, "    pass", flags="single_instance, ")
    caller(
        tee,
        """
other = TEE_OpenTASession(self.B)
try:
    TEE_OpenTASession(self.B)
except Busy as error:
    params[0].a = error.origin
TEE_CloseTASession(other)
TEE_CloseTASession(TEE_OpenTASession(self.B))
""",
    )
    value = Value()
    tee.open(A).invoke(0, value)
    assert value.a == TEE_ORIGIN_TEE


@pytest.mark.parametrize(
    "body",
    [
        "TEE_OpenTASession('no uuid')",
        "TEE_OpenTASession(self.B, -1)",
        "TEE_OpenTASession(self.B, FOREVER, 1 << 16, [])",
        "TEE_OpenTASession(self.B, FOREVER, 4, [])",
        "TEE_OpenTASession(self.B, FOREVER, 1, [])",
        "TEE_OpenTASession(self.B, FOREVER, 1, [b''])",
        "TEE_OpenTASession(self.B, FOREVER, 5, [Value()])",
        "TEE_OpenTASession(self.B, FOREVER, 6, [b'read-only'])",
        "TEE_OpenTASession(self.B, FOREVER, 0, [None] * 5)",
        "TEE_InvokeTACommand(TEE_OpenTASession(self.B), FOREVER, 1 << 32)",
        "s = TEE_OpenTASession(self.B); TEE_CloseTASession(s); TEE_CloseTASession(s)",
        "s = TEE_OpenTASession(self.B); TEE_CloseTASession(s); TEE_InvokeTACommand(s, FOREVER, 0)",
    ],
)
def test_misuse_is_a_panic(tee: Tee, body: str) -> None:
    put(tee, B, "    pass")
    caller(tee, body)
    error = failure(tee.open(A))
    assert (error.code, error.origin) == (TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE)
    assert any("panic, code TEE_ERROR_BAD_PARAMETERS" in line for line in tee.lines)
    wait_until(lambda: tee.instances() == 0)


def test_closing_nothing(tee: Tee) -> None:
    caller(tee, "TEE_CloseTASession(TEE_HANDLE_NULL)")
    tee.open(A).invoke(0)


# Calls inside each other

DEEPER = """
    def deeper(self):
        return TEE_OpenTASession(self.uuid)

    def TA_OpenSessionEntryPoint(self, param_types, params):
        print("open")
        try:
            self.other = self.deeper()
        except OutOfMemory as error:
            print("the end", error.origin)
"""


def test_recursion_ends(tee: Tee) -> None:
    put(tee, A, DEEPER)
    session = tee.open(A)
    assert tee.lines == ["open"] * 4 + ["the end 3"]
    assert tee.instances() == 4
    session.close()
    wait_until(lambda: tee.instances() == 0)


def test_recursion_of_create_entry_points(tee: Tee) -> None:
    put(
        tee,
        A,
        DEEPER.replace(
            "TA_OpenSessionEntryPoint(self, param_types, params", "TA_CreateEntryPoint(self"
        ),
    )
    tee.open(A).close()
    assert tee.lines == ["open"] * 4 + ["the end 3"]
    wait_until(lambda: tee.instances() == 0)


@pytest.mark.parametrize(
    "entry_point", ["TA_DestroyEntryPoint(self)", "TA_CloseSessionEntryPoint(self, session)"]
)
def test_ends_that_make_others_end(tee: Tee, entry_point: str) -> None:
    put(
        tee,
        A,
        f"""
    def {entry_point}:
        print("ends")
        try:
            TEE_CloseTASession(TEE_OpenTASession(self.uuid))
        except OutOfMemory:
            print("the last one")
""",
    )
    tee.open(A).close()
    wait_until(lambda: tee.instances() == 0)
    assert tee.lines == ["ends"] * 4 + ["the last one"]


def test_recursion_by_commands(tee: Tee) -> None:
    put(
        tee,
        A,
        """
    def TA_OpenSessionEntryPoint(self, param_types, params):
        return params[0].a if params[0] else 0

    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        print(session)
        other = TEE_OpenTASession(self.A, TEE_TIMEOUT_INFINITE, 1, [Value(session + 1)])
        TEE_InvokeTACommand(other, TEE_TIMEOUT_INFINITE, 0)
""",
    )
    assert failure(tee.open(A)).code == TEE_ERROR_OUT_OF_MEMORY
    assert tee.lines == ["0", "1", "2", "3"]


def test_a_service_cannot_wait_for_itself(tee: Tee) -> None:
    """A calls B, and B calls A, whose one instance is at work for the first call."""
    put(
        tee,
        B,
        """
    def TA_OpenSessionEntryPoint(self, param_types, params):
        if params[0] is not None:
            self.back = TEE_OpenTASession(self.A)

    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        try:
            TEE_OpenTASession(self.A)
        except Busy as error:
            print("open", error.origin)
        TEE_InvokeTACommand(self.back, TEE_TIMEOUT_INFINITE, 1)
""",
        KEPT,
    )
    caller(
        tee,
        """
if command_id == 0:
    other = TEE_OpenTASession(self.B)
    try:
        TEE_InvokeTACommand(other, FOREVER, 0)
    except Busy as error:
        print("invoke", error.origin)
    TEE_CloseTASession(other)
    try:
        TEE_OpenTASession(self.A)
    except Busy as error:
        print("self", error.origin)
""",
        KEPT,
    )
    session = tee.open(A)
    other = tee.open(B, Value())  # B has a session with A before A is at work
    session.invoke(0)
    # Of the TEE for B, whose answer it then is for A.
    assert tee.lines == ["open 3", "invoke 4", "self 3"]
    session.invoke(1)
    other.close()


def test_two_services_cannot_wait_for_each_other(tee: Tee) -> None:
    """Two clients: A calls B while B calls A. One of the two gets BUSY, and none waits for ever."""
    for uuid, peer in ((A, "B"), (B, "A")):
        put(
            tee,
            uuid,
            f"""
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        if command_id == 0:
            params[0].buffer[0] = 1
            while not params[0].buffer[1]:
                TEE_Wait(1)
            try:
                TEE_CloseTASession(TEE_OpenTASession(self.{peer}))
            except Busy:
                params[0].buffer[2] = 1
""",
            KEPT,
        )
    context = tee.context()
    sessions = [context.open_session(A), context.open_session(B)]
    states = [SharedMemory.allocate(context, 16) for _ in sessions]

    def call(index: int) -> None:
        sessions[index].invoke(0, states[index])

    def start() -> None:
        wait_until(lambda: all(state.buffer[0] for state in states))
        for state in states:
            state.buffer[1] = 1

    in_threads(lambda: call(0), lambda: call(1), start)
    assert sum(state.buffer[2] for state in states) >= 1
    for session in sessions:
        session.invoke(1)


def test_the_caller_is_busy_meanwhile(tee: Tee) -> None:
    put(
        tee,
        B,
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        print("B begins")
        TEE_Wait(100)
        print("B ends")
""",
    )
    caller(
        tee,
        """
if command_id == 0:
    print("A begins")
    TEE_InvokeTACommand(TEE_OpenTASession(self.B), FOREVER, 0)
    print("A ends")
else:
    print("next")
""",
        SHARED,
    )
    one, two = tee.open(A), tee.open(A)

    def second() -> None:
        wait_until(lambda: "B begins" in tee.lines)
        two.invoke(1)

    # Lines of a service come when its command is done, or when it calls another one.
    put_first = threading.Thread(target=lambda: one.invoke(0))
    put_first.start()
    wait_until(lambda: "A begins" in tee.lines)
    two.invoke(1)
    put_first.join()
    assert tee.lines == ["A begins", "B begins", "B ends", "A ends", "next"]


# Deadlines and cancellation

WAITER = """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        if command_id == 1:
            TEE_Wait(20)
            print("flag", TEE_GetCancellationFlag())
            TEE_UnmaskCancellation()
            print("flag", TEE_GetCancellationFlag())
            return
        TEE_UnmaskCancellation()
        print("waits")
        try:
            TEE_Wait(TEE_TIMEOUT_INFINITE)
        except Cancel:
            print("cancelled")
            raise

    def TA_CloseSessionEntryPoint(self, session):
        print("closed")
"""


def test_deadline(tee: Tee) -> None:
    put(tee, B, WAITER)
    caller(tee, "TEE_InvokeTACommand(TEE_OpenTASession(self.B), 10, command_id)")
    session = tee.open(A)
    error = failure(session)
    assert (error.code, error.origin) == (TEE_ERROR_CANCEL, TEE_ORIGIN_TRUSTED_APP)
    assert tee.lines == ["waits", "cancelled"]
    session.invoke(1)
    assert tee.lines[2:] == ["flag False", "flag True"]


def test_deadline_of_a_call_that_waits_for_its_turn(tee: Tee) -> None:
    """As in OP-TEE it is not taken back: its flag is set when it begins."""
    put(
        tee,
        B,
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        if command_id == 0:
            params[0].buffer[0] = 1
            while not params[0].buffer[1]:
                TEE_Wait(1)
        else:
            TEE_UnmaskCancellation()
            TEE_Wait(0xFFFF_FFFF)
""",
        SHARED,
    )
    caller(
        tee,
        """
if command_id == 9:
    self.other = TEE_OpenTASession(self.B)
    return
try:
    TEE_InvokeTACommand(self.other, 0, 1)
except Cancel as error:
    params[0].buffer[3] = error.origin
""",
    )
    context = tee.context()
    busy, session = context.open_session(B), context.open_session(A)
    state = SharedMemory.allocate(context, 16)
    session.invoke(9)

    def then() -> None:
        wait_until(lambda: state.buffer[0])
        session.invoke(0, state)

    def go_on() -> None:
        (soft,) = tee.driver._tees
        wait_until(lambda: any(one.nested is not None for one in soft.instances()))
        state.buffer[1] = 1

    in_threads(lambda: busy.invoke(0, state), then, go_on)
    assert state.buffer[3] == TEE_ORIGIN_TRUSTED_APP


@pytest.mark.parametrize("masked", [False, True])
def test_cancellation_goes_on(tee: Tee, masked: bool) -> None:
    """The client cancels A's command; unless A masks it, what A waits for is cancelled too."""
    put(tee, B, WAITER)
    caller(
        tee,
        """
if command_id == 0:
    TEE_UnmaskCancellation()
other = TEE_OpenTASession(self.B)
params[0].buffer[0] = 1
TEE_InvokeTACommand(other, 300 if command_id else FOREVER, 0)
""",
    )
    context = tee.context()
    session = context.open_session(A)
    state = SharedMemory.allocate(context, 16)
    operation = Operation(state)

    def call() -> None:
        with pytest.raises(TeeError) as caught:
            session.invoke(int(masked), operation=operation)
        assert caught.value.code == TEE_ERROR_CANCEL

    def cancel() -> None:
        wait_until(lambda: state.buffer[0])
        operation.cancel()

    in_threads(call, cancel)
    assert tee.lines == ["waits", "cancelled"]


def test_cancelled_before_it_calls(tee: Tee) -> None:
    put(tee, B, WAITER)
    caller(
        tee,
        """
TEE_UnmaskCancellation()
other = TEE_OpenTASession(self.B)
params[0].buffer[0] = 1
while not TEE_GetCancellationFlag():
    pass
TEE_InvokeTACommand(other, FOREVER, 0)
""",
    )
    context = tee.context()
    session = context.open_session(A)
    state = SharedMemory.allocate(context, 16)
    operation = Operation(state)

    def call() -> None:
        with pytest.raises(TeeError) as caught:
            session.invoke(0, operation=operation)
        assert caught.value.code == TEE_ERROR_CANCEL

    def cancel() -> None:
        wait_until(lambda: state.buffer[0])
        operation.cancel()

    in_threads(call, cancel)


# Ends


def test_sessions_of_a_service_end_with_it(tee: Tee) -> None:
    put(tee, B, ECHO, KEPT)
    caller(
        tee,
        """
self.sessions = [TEE_OpenTASession(self.B) for _ in range(3)]
if command_id == 1:
    TEE_Panic(0)
""",
    )
    tee.open(A).invoke(0)
    tee.contexts.pop().finalize()
    wait_until(lambda: tee.lines.count("closed") == 3)
    failure(tee.open(A), 1)
    wait_until(lambda: tee.lines.count("closed") == 6)


def test_a_session_outlives_the_clients_where_the_service_does(tee: Tee) -> None:
    put(tee, B, ECHO)
    caller(
        tee,
        """
if not hasattr(self, "other"):
    self.other = TEE_OpenTASession(self.B)
both = Value(command_id, 1)
TEE_InvokeTACommand(self.other, FOREVER, 1, 0x321, [Value(), Value(), both])
params[0].a = both.a
""",
        KEPT,
    )
    value = Value()
    with tee.context() as context, context.open_session(A) as session:
        session.invoke(1, value)
    with tee.open(A) as session:
        session.invoke(2, value)
    assert value.a == 3
    assert tee.lines == ["client 0xf0000000 " + A]


def waiting_caller(tee: Tee) -> Instance:
    """The instance that waits for another one, as soon as that waits in TEE_Wait."""
    (soft,) = tee.driver._tees
    wait_until(lambda: any(one.waits.notify_id for one in soft.instances()))
    (found,) = [one for one in soft.instances() if one.nested is not None]
    return found


def test_the_caller_dies(tee: Tee) -> None:
    """What it waits for is asked to end; then its session is closed."""
    put(tee, B, WAITER, KEPT)
    caller(tee, "TEE_InvokeTACommand(TEE_OpenTASession(self.B), FOREVER, 0)")
    session = tee.open(A)

    def call() -> None:
        error = failure(session)
        assert (error.code, error.origin) == (TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE)

    def kill() -> None:
        waiting_caller(tee).kill()

    in_threads(call, kill)
    wait_until(lambda: tee.lines[-1:] == ["closed"])
    wait_until(lambda: tee.instances() == 1)


def test_a_session_that_nobody_takes_is_closed(tee: Tee) -> None:
    """The caller dies while the session is opened."""
    put(
        tee,
        B,
        """
    def TA_OpenSessionEntryPoint(self, param_types, params):
        TEE_UnmaskCancellation()
        try:
            TEE_Wait(TEE_TIMEOUT_INFINITE)
        except Cancel:
            pass

    def TA_CloseSessionEntryPoint(self, session):
        print("closed")
""",
        KEPT,
    )
    caller(tee, "TEE_OpenTASession(self.B, FOREVER, 7, [bytearray(4)])")
    session = tee.open(A)

    def kill() -> None:
        waiting_caller(tee).kill()

    in_threads(lambda: failure(session), kill)
    wait_until(lambda: tee.lines == ["closed"])
    (soft,) = tee.driver._tees
    (kept,) = soft.instances()
    assert not kept.sessions


def test_nothing_is_left_behind(tee: Tee) -> None:
    put(tee, B, ECHO)
    caller(
        tee,
        """
other = TEE_OpenTASession(self.B)
TEE_InvokeTACommand(other, 1000, 2, 0x65, [bytes(1000), Memref(bytearray(1000))])
TEE_CloseTASession(other)
""",
    )
    session = tee.open(A)
    session.invoke(0)
    wait_until(lambda: tee.instances() == 1)
    before = len(open_descriptors())
    for _ in range(20):
        session.invoke(0)
    wait_until(lambda: tee.instances() == 1)
    wait_until(lambda: len(open_descriptors()) <= before)
    (soft,) = tee.driver._tees
    (instance,) = soft.instances()
    assert not instance.nested_sessions
    assert instance.nested is None


def test_a_bug_in_a_command_costs_one_call(
    tee: Tee, host: ServiceHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that gentee does not expect ends the call for which it came."""
    put(tee, B, ECHO)
    session = tee.open(B)
    with monkeypatch.context() as patched:
        patched.setattr(InstanceMemory, "write_params", lambda *_args: 1 / 0)
        error = failure(session, 4, b"x")
    assert (error.code, error.origin) == (TEE_ERROR_GENERIC, TEE_ORIGIN_TEE)
    session.invoke(4, b"x")
    assert [type(bug) for bug in host.bugs] == [ZeroDivisionError]
    host.bugs.clear()
