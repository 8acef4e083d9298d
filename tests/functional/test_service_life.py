# SPDX-License-Identifier: BSD-2-Clause
"""What a service sees while it lives, in its locked process: properties, time, random, requests."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gentee.abi.gp import (
    TEE_ERROR_OVERFLOW,
    TEE_ERROR_TARGET_DEAD,
    TEE_ERROR_TIME_NEEDS_RESET,
    TEE_ERROR_TIME_NOT_SET,
    TEE_LOGIN_USER,
    TEE_ORIGIN_TEE,
)
from gentee.client import Session, TempRef, Value
from gentee.errors import TeeError
from tests.functional.test_services import OTHER, UUID, Tee
from tests.helpers import ServiceHost, wait_until


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


COMMAND = "\n    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):\n"


def command(body: str) -> str:
    return COMMAND + "\n".join(f"        {line}" for line in body.strip("\n").splitlines()) + "\n"


# Properties


def test_the_client_is_that_of_the_session(tee: Tee) -> None:
    tee.put(
        """
    def who(self, where):
        try:
            client = TEE_GetPropertyAsIdentity(TEE_PROPSET_CURRENT_CLIENT, "gpd.client.identity")
            print(where, client.login)
        except ItemNotFound:
            print(where, "nobody")

    def TA_CreateEntryPoint(self):
        self.who("create")

    def TA_OpenSessionEntryPoint(self, param_types, params):
        self.who("open")

    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        self.who("invoke")

    def TA_CloseSessionEntryPoint(self, session):
        self.who("close")

    def TA_DestroyEntryPoint(self):
        self.who("destroy")
""",
        flags="single_instance, multi_session, ",
    )
    context = tee.context()
    public = context.open_session(UUID)
    user = context.open_session(UUID, login=TEE_LOGIN_USER)
    public.invoke(0)
    user.invoke(0)
    public.invoke(0)
    public.close()
    user.close()
    wait_until(lambda: tee.instances() == 0)
    assert tee.lines == [
        "create nobody", "open 0", "open 1", "invoke 0", "invoke 1", "invoke 0", "close 0",
        "close 1", "destroy nobody",
    ]  # fmt: skip


def test_properties_of_a_service(host: ServiceHost, tmp_path: Path) -> None:
    tee = Tee(host, tmp_path, memory_limit=48)
    tee.put(
        '    properties = {"com.example.text": "words", "com.example.bytes": b"abc"}\n'
        + command(
            """
names = TEE_AllocatePropertyEnumerator()
TEE_StartPropertyEnumerator(names, TEE_PROPSET_CURRENT_TA)
for name in names:
    print(name, TEE_GetPropertyAsString(TEE_PROPSET_CURRENT_TA, name))
"""
        ),
        flags="single_instance, keep_alive, version = 12; ",
    )
    tee.open().invoke(0)
    lines = set(tee.lines)
    tee.close()
    assert lines >= {
        "gpd.ta.singleInstance true", "gpd.ta.multiSession false", "gpd.ta.instanceKeepAlive true",
        f"gpd.ta.dataSize {48 << 20}", "gpd.ta.version 12", f"gpd.ta.appID {UUID}",
        "com.example.text words", "com.example.bytes YWJj",
    }  # fmt: skip


# Time

PERSISTENT = command(
    """
try:
    if command_id == 0:
        got = TEE_GetTAPersistentTime()
        params[0].a, params[0].b = got.seconds, got.millis
    elif command_id == 1:
        TEE_SetTAPersistentTime(TEE_Time(params[0].a, params[0].b))
except TimeOverflow as error:
    params[0].a, params[0].b = error.time.seconds, error.time.millis
    raise
"""
)


def persistent(session: Session) -> tuple[int, int]:
    value = Value()
    session.invoke(0, value)
    return value.a, value.b


def code_of(session: Session, value: Value) -> int:
    with pytest.raises(TeeError) as caught:
        session.invoke(0, value)
    return caught.value.code


def test_persistent_time(tee: Tee) -> None:
    tee.put(PERSISTENT)
    tee.put(PERSISTENT, uuid=OTHER, name="other")
    one, two, other = tee.open(), tee.open(), tee.open(OTHER)
    assert code_of(one, Value()) == TEE_ERROR_TIME_NOT_SET
    one.invoke(1, Value(1000, 250))
    # For all instances of the service, and for no other service.
    assert (1000, 250) <= persistent(one) <= persistent(two) < (1060, 0)
    assert code_of(other, Value()) == TEE_ERROR_TIME_NOT_SET
    two.invoke(1, Value(5, 0))
    assert (5, 0) <= persistent(one) < (65, 0)


def test_persistent_time_overflows(tee: Tee) -> None:
    tee.put(PERSISTENT)
    session = tee.open()
    session.invoke(1, Value(0xFFFF_FFFF, 999))
    value = Value()

    def overflows() -> bool:
        try:
            session.invoke(0, value)
        except TeeError as error:
            return error.code == TEE_ERROR_OVERFLOW
        return False

    wait_until(overflows)
    assert value.a < 60


def test_persistent_time_that_was_turned_back(tee: Tee, monkeypatch: pytest.MonkeyPatch) -> None:
    tee.put(PERSISTENT)
    session = tee.open()
    session.invoke(1, Value(10, 0))
    (soft,) = tee.driver._tees
    clock = soft._clock
    with monkeypatch.context() as patched:
        patched.setattr(clock, "_now", lambda: time.time_ns() // 1_000_000 - 3_600_000)
        assert code_of(session, Value()) == TEE_ERROR_TIME_NEEDS_RESET
        session.invoke(1, Value(10, 0))
        assert persistent(session) < (70, 0)


def test_persistent_time_outlives_the_tee(host: ServiceHost, tmp_path: Path) -> None:
    services, state = tmp_path / "services", tmp_path / "state"
    services.mkdir()
    state.mkdir(mode=0o700)
    for expected in (TEE_ERROR_TIME_NOT_SET, 0):
        tee = Tee(host, services, state=str(state))
        tee.put(PERSISTENT)
        session = tee.open()
        if expected:
            assert code_of(session, Value()) == expected
            session.invoke(1, Value(7_000, 0))
        else:
            assert (7_000, 0) <= persistent(session) < (7_100, 0)
        tee.close()


def test_other_times(tee: Tee) -> None:
    tee.put(
        command(
            """
before = TEE_GetSystemTime()
TEE_Wait(20)
after = TEE_GetSystemTime()
params[0].a = (after.seconds - before.seconds) * 1000 + after.millis - before.millis
params[1].a, params[1].b = TEE_GetREETime()
"""
        )
    )
    waited, ree = Value(), Value()
    before = time.time_ns() // 1_000_000
    tee.open().invoke(0, waited, ree)
    assert waited.a >= 19
    assert before <= ree.a * 1000 + ree.b <= time.time_ns() // 1_000_000


@pytest.mark.parametrize("body", ["TEE_SetTAPersistentTime(TEE_Time(0, 1000))", "TEE_Panic(6)"])
def test_misuse_is_a_panic(tee: Tee, body: str) -> None:
    tee.put(command(body))
    with pytest.raises(TeeError) as caught:
        tee.open().invoke(0)
    assert (caught.value.code, caught.value.origin) == (TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE)


# Memory and random


def test_memory_and_random(tee: Tee) -> None:
    tee.put(
        command(
            """
assert len(set(TEE_GenerateRandom(16) for _ in range(100))) == 100
lent = params[0].buffer
READ, WRITE, ANY = TEE_MEMORY_ACCESS_READ, TEE_MEMORY_ACCESS_WRITE, TEE_MEMORY_ACCESS_ANY_OWNER
TEE_CheckMemoryAccessRights(READ | WRITE | ANY, lent)
TEE_CheckMemoryAccessRights(READ | WRITE, bytearray(4))
for flags, memory in (READ, lent), (WRITE | ANY, params[1].buffer), (WRITE, b"constant"):
    try:
        TEE_CheckMemoryAccessRights(flags, memory)
    except AccessDenied:
        params[2].a += 1
assert TEE_MemCompare(lent, b"data") == 0
if command_id == 0:
    TEE_SetInstanceData({"kept": 1})
else:
    assert TEE_GetInstanceData() == {"kept": 1}
"""
        )
    )
    session = tee.open()
    for number in range(2):
        value = Value()
        session.invoke(number, TempRef(bytearray(b"data")), b"input", value)
        assert value.a == 3


# Requests


def test_any_request_costs_its_service_only(tee: Tee) -> None:
    """Blocks of random words, for each request that there is and for some that there are not."""
    tee.put(
        "    pass",
        uuid=OTHER,
        name="other",
    )
    tee.put(
        command(
            """
from gentee.ta.requests import CHANNEL
import random
chooser = random.Random(params[0].a)
interesting = [0, 1, 2, 5, 0x65, 0x7777, 0xffff, (1 << 26) + 1, (1 << 32) - 1, (1 << 64) - 1]
results = set()
for turn in range(400):
    for word in range(128, 150):
        if chooser.random() < 0.7:
            CHANNEL[word] = chooser.choice(interesting)
        else:
            CHANNEL[word] = chooser.getrandbits(64)
    code = chooser.choice([0, 1, 2, 3, 5, 6, 7, 100, 0xffff])
    results.add(CHANNEL.ask(code))
params[0].b = len(results)
"""
        )
    )
    other, session = tee.open(OTHER), tee.open()
    for seed in range(3):
        value = Value(seed)
        session.invoke(0, value)
        assert value.b >= 3
    (soft,) = tee.driver._tees
    assert all(not one.nested_sessions and one.nested is None for one in soft.instances())
    other.close()


def test_a_second_request_at_a_time_ends_the_process(tee: Tee) -> None:
    """Our runtime waits for the reply; who does not is not our runtime any more."""
    tee.put(command("TEE_OpenTASession(self.uuid)"))
    session = tee.open()
    (soft,) = tee.driver._tees
    (instance,) = soft.instances()
    instance._requesting = True
    with pytest.raises(TeeError) as caught:
        session.invoke(0)
    assert (caught.value.code, caught.value.origin) == (TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE)
    wait_until(lambda: tee.instances() == 0)
    assert not tee.lines
