# SPDX-License-Identifier: BSD-2-Clause
"""Services of the software TEE, by the client API of a program that hosts the TEE itself.

Everything is real: processes, pages, the trapped calls between them. Each test writes the services
that it needs.
"""

import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from gentee.abi.gp import (
    TEE_ERROR_BAD_FORMAT,
    TEE_ERROR_BUSY,
    TEE_ERROR_CANCEL,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_SHORT_BUFFER,
    TEE_ERROR_TARGET_DEAD,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
)
from gentee.client import (
    INPUT,
    OUTPUT,
    Context,
    MemRef,
    Operation,
    Out,
    Parameter,
    Session,
    SharedMemory,
    TempRef,
    Value,
)
from gentee.client.kernel_door import KernelDoor
from gentee.core.device import DeviceRegistry
from gentee.core.host import LOG_DEBUG, LOG_ERROR, LOG_FLOW, LOG_INFO
from gentee.drivers.soft.core import SoftDriver
from gentee.errors import TeeError
from gentee.linux.libc import PR_SET_CHILD_SUBREAPER, prctl
from tests.helpers import PATIENCE, ServiceHost, in_threads, open_descriptors, wait_until

UUID = "4bd4c3f0-7a0c-4c1b-9f0e-1d2c3b4a5f60"
OTHER = "4bd4c3f0-7a0c-4c1b-9f0e-1d2c3b4a5f61"

# What every service here begins with; the rest is its class.
HEAD = """
import os, sys, time
from gentee.ta import *

class Service(TrustedApplication):
    uuid = "{uuid}"
    name = "{name}"
    {flags}
"""


class Tee:
    """A software TEE and a folder of services."""

    def __init__(self, host: ServiceHost, folder: Path, **options: object) -> None:
        self.host = host
        self.folder = folder
        self._logged = len(host.logged)
        self._warned = len(host.warnings)
        self.driver = SoftDriver()
        self.registry = DeviceRegistry()
        descs = self.driver.probe(host, {"ta_dirs": [str(folder)], **options})
        self.devices = [self.registry.tee_device_register(desc) for desc in descs]
        self.contexts: list[Context] = []

    def put(self, body: str, *, flags: str = "", uuid: str = UUID, name: str = "service") -> None:
        """Write a service; ``body`` is that of its class, indented once."""
        head = HEAD.format(uuid=uuid, name=name, flags=flags.replace(", ", " = True; "))
        (self.folder / f"{name}.py").write_text(head + body)

    def context(self) -> Context:
        context = Context(door=KernelDoor(self.registry))
        self.contexts.append(context)
        return context

    def open(self, uuid: str = UUID, *params: Parameter) -> Session:
        """A session in a context of its own."""
        return self.context().open_session(uuid, *params)

    @property
    def logged(self) -> list[tuple[str, int, str]]:
        """What its services said."""
        return self.host.logged[self._logged :]

    @property
    def lines(self) -> list[str]:
        return [text for _, _, text in self.logged]

    @property
    def warnings(self) -> list[str]:
        return self.host.warnings[self._warned :]

    def instances(self) -> int:
        """How many are alive."""
        (tee,) = self.driver._tees
        return len(tee.instances())

    def close(self) -> None:
        for context in self.contexts:
            context.finalize()
        for device in self.registry.all():
            self.registry.tee_device_unregister(device)
            assert device.wait_no_users(PATIENCE)
        self.driver.remove()
        wait_until(lambda: not any(device.shm_bytes for device in self.devices), "leaked memory")


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


@pytest.fixture(params=[False, True], ids=["shm-alloc", "reg-mem"])
def each_tee(request: pytest.FixtureRequest, host: ServiceHost, tmp_path: Path) -> Iterator[Tee]:
    """With shared pages and with copies."""
    tee = Tee(host, tmp_path, reg_mem=request.param)
    yield tee
    tee.close()
    assert not host.bugs


def fails(code: int, origin: int, call: Callable[[], object]) -> None:
    """The result of ``call`` is this code from this origin."""
    with pytest.raises(TeeError) as caught:
        call()
    assert (caught.value.code, caught.value.origin) == (code, origin)


def is_dead(call: Callable[[], object]) -> None:
    fails(TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE, call)


def is_alive(pid: int) -> bool:
    """Not a zombie either."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


class Call:
    """An invoke in a thread of its own."""

    def __init__(self, session: Session, command: int, *params: object) -> None:
        self.operation = Operation(*params)  # type: ignore[arg-type]
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(session, command), daemon=True)
        self._thread.start()

    def _run(self, session: Session, command: int) -> None:
        try:
            session.invoke(command, operation=self.operation)
        except BaseException as error:
            self.error = error

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Wait for the answer; what is no success is raised."""
        self._thread.join(PATIENCE)
        assert self.is_done, "the call was not answered"
        if self.error is not None:
            raise self.error


# How services die


DYING = """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        if command_id == 0:
            params[0].a = os.getpid()
        elif command_id == 1:
            TEE_Panic(0x1234)
        elif command_id == 2:
            raise ValueError("as asked")
        elif command_id == 3:
            sys.exit("with a word")
        elif command_id == 4:
            raise KeyboardInterrupt
        elif command_id == 5:
            os._exit(0)
        elif command_id == 6:
            os.abort()
        elif command_id == 7:
            def deep(): return deep() + 1
            deep()
        elif command_id == 8:
            params[0].a = "no number"
        elif command_id == 9:
            params[0].nothing = 1
"""


def pid_of(session: Session) -> int:
    value = Value()
    session.invoke(0, value)
    return value.a


@pytest.mark.parametrize("command", range(1, 10))
def test_a_death_is_its_own(tee: Tee, command: int) -> None:
    tee.put(DYING)
    first, second = tee.open(), tee.open()
    pid, other = pid_of(first), pid_of(second)
    assert pid != other
    is_dead(lambda: first.invoke(command, Value()))
    wait_until(lambda: not is_alive(pid))
    # It stays dead, the other does not mind, and the next one is another.
    is_dead(lambda: first.invoke(0, Value()))
    assert pid_of(second) == other
    third = tee.open()
    assert pid_of(third) not in (pid, other)
    first.close()
    assert pid_of(second) == other


def test_a_panic_is_logged(tee: Tee) -> None:
    tee.put(DYING)
    session = tee.open()
    is_dead(lambda: session.invoke(1))
    wait_until(lambda: tee.logged)
    assert tee.logged == [("service", LOG_ERROR, "panic, code 0x00001234")]


def test_a_traceback_is_logged(tee: Tee) -> None:
    tee.put(DYING)
    session = tee.open()
    is_dead(lambda: session.invoke(2))
    wait_until(lambda: any("panic" in line for line in tee.lines))
    assert tee.lines[0] == "Traceback (most recent call last):"
    assert "ValueError: as asked" in tee.lines
    assert any("in TA_InvokeCommandEntryPoint" in line for line in tee.lines)
    assert {(source, level) for source, level, _ in tee.logged} == {("service", LOG_ERROR)}


@pytest.mark.parametrize("flags", ["", "single_instance = True; multi_session = True"])
@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("this is no Python", "SyntaxError"),
        ("\n1 / 0\n", "ZeroDivisionError"),
        ("\n    def TA_CreateEntryPoint(self): raise KeyError('create')", "KeyError: 'create'"),
        ("\n    def TA_CreateEntryPoint(self): TEE_Panic()", "panic"),
        ("\n    def TA_OpenSessionEntryPoint(self, t, p): raise KeyError('open')", "KeyError"),
        ("\n    def TA_OpenSessionEntryPoint(self): pass", "TypeError"),
        ("\n    def __init__(self): raise KeyError('init')", "KeyError: 'init'"),
        ("\ndel Service\n", "RuntimeError: no TrustedApplication"),
    ],
)
def test_a_service_that_does_not_come_to_life(tee: Tee, flags: str, code: str, word: str) -> None:
    tee.put(code, flags=flags)
    if word == "SyntaxError":
        # It never says which it is, so nobody can ask for it.
        fails(TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TEE, tee.open)
        return
    for _ in range(2):
        is_dead(tee.open)
    wait_until(lambda: sum(word in line for line in tee.lines) >= 2)
    wait_until(lambda: tee.instances() == 0)
    # It is mended, and lives.
    tee.put("    pass\n", flags=flags + "  # mended")
    tee.open().close()


@pytest.mark.parametrize("how", ["raise ValueError('close')", "TEE_Panic()", "os._exit(1)"])
def test_a_death_at_close(tee: Tee, how: str) -> None:
    tee.put(
        f"""
    def TA_CloseSessionEntryPoint(self, session):
        {how}
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].a = os.getpid()
""",
        flags="single_instance = True; multi_session = True",
    )
    first, second = tee.open(), tee.open()
    pid = pid_of(first)
    assert pid_of(second) == pid
    first.close()  # cannot fail
    is_dead(lambda: second.invoke(0, Value()))
    assert pid_of(tee.open()) != pid


def test_a_death_takes_all_sessions_and_queued_calls(tee: Tee) -> None:
    tee.put(WAITING, flags="single_instance = True; multi_session = True")
    context = tee.context()
    sessions = [context.open_session(UUID) for _ in range(3)]
    with SharedMemory.allocate(context, 8) as state:
        running = begin(sessions[0], COMPUTE, state)
        queued = [Call(session, NOTHING) for session in sessions * 2]
        wait_until(lambda: count_pending(tee) == 7)
        assert not any(call.is_done for call in queued)
        os.kill(pid_in(state), signal.SIGKILL)
        for call in (running, *queued):
            is_dead(call.wait)
    for session in sessions:
        is_dead(partial(session.invoke, NOTHING))
    context.open_session(UUID).invoke(NOTHING)


def test_killed_while_it_computes(tee: Tee) -> None:
    tee.put(WAITING)
    context = tee.context()
    session, other = context.open_session(UUID), context.open_session(UUID)
    with SharedMemory.allocate(context, 8) as state:
        call = begin(session, COMPUTE, state)
        os.kill(pid_in(state), signal.SIGKILL)
        is_dead(call.wait)
    other.invoke(NOTHING)
    context.open_session(UUID).invoke(NOTHING)


def test_killed_while_it_is_idle(tee: Tee) -> None:
    tee.put(DYING)
    session, other = tee.open(), tee.open()
    pid = pid_of(session)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    is_dead(lambda: session.invoke(0, Value()))
    assert pid_of(other)
    session.close()


def test_killed_while_it_waits(tee: Tee) -> None:
    tee.put(WAITING)
    context = tee.context()
    session = context.open_session(UUID)
    with SharedMemory.allocate(context, 8) as state:
        call = begin(session, WAIT, state)
        os.kill(pid_in(state), signal.SIGKILL)
        is_dead(call.wait)


def test_the_warm_parent_is_killed(tee: Tee) -> None:
    tee.put(
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].a, params[0].b = os.getpid(), os.getppid()
"""
    )
    sessions = [tee.open() for _ in range(3)]
    value = Value()
    sessions[0].invoke(0, value)
    os.kill(value.b, signal.SIGKILL)
    wait_until(lambda: not is_alive(value.a))
    for session in sessions:
        is_dead(partial(session.invoke, 0, Value()))
    wait_until(lambda: tee.warnings)
    assert "warm parent" in tee.warnings[0]
    wait_until(lambda: tee.instances() == 0)
    session = tee.open()
    again = Value()
    session.invoke(0, again)
    assert again.b != value.b


def children_of(pid: int) -> set[int]:
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:  # it ended meanwhile
            continue
        state, parent = stat.rpartition(") ")[2].split()[:2]
        if int(parent) == pid and state != "Z":
            found.add(int(folder.name))
    return found


def test_the_process_that_is_kept_ahead(tee: Tee) -> None:
    """It becomes the next instance; and nobody has to care if somebody kills it meanwhile."""
    tee.put(
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].a, params[0].b = os.getpid(), os.getppid()
"""
    )
    parent = tee.driver._tees[0]._warm_parent
    sessions = [tee.open()]
    value = Value()
    sessions[0].invoke(0, value)
    warm, known = value.b, {value.a}
    for kill in (False, True, False):
        wait_until(lambda: (spare := parent._spare) is not None and spare.notify_id and spare.pid)
        spare = parent._spare
        assert spare is not None
        ahead = spare.pid
        assert ahead in children_of(warm) - known
        if kill:
            os.kill(ahead, signal.SIGKILL)
            wait_until(lambda: ahead not in children_of(warm))  # noqa: B023 (now)
        session = tee.open()
        sessions.append(session)
        session.invoke(0, value)
        assert value.b == warm
        assert (value.a == ahead) is not kill
        known.add(value.a)
    for session in sessions:
        session.close()
    wait_until(lambda: tee.instances() == 0)
    wait_until(lambda: not children_of(warm) & known)


# Results


@pytest.mark.parametrize("code", [TEE_ERROR_BAD_FORMAT, TEE_ERROR_BUSY, 0x8000_1234, 1])
def test_results_of_entry_points(tee: Tee, code: int) -> None:
    tee.put(
        f"""
    def TA_OpenSessionEntryPoint(self, param_types, params):
        if param_types:
            params[0].b = 7
            raise TeeError({code})
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].b = 8
        raise TeeError({code})
"""
    )
    value = Value(1, 2)
    fails(code, TEE_ORIGIN_TRUSTED_APP, lambda: tee.open(UUID, value))
    assert value.b == 7
    # It was not opened, so its instance ends.
    wait_until(lambda: tee.instances() == 0)
    session = tee.open()
    fails(code, TEE_ORIGIN_TRUSTED_APP, lambda: session.invoke(0, value))
    assert value.b == 8
    # An error is no death.
    fails(code, TEE_ORIGIN_TRUSTED_APP, lambda: session.invoke(0, value))
    assert tee.instances() == 1


@pytest.mark.parametrize("flags", ["", "single_instance = True; keep_alive = True"])
def test_create_refuses(tee: Tee, flags: str) -> None:
    tee.put(
        """
    def TA_CreateEntryPoint(self):
        IMSG("asked")
        raise OutOfMemory("as asked")
    def TA_DestroyEntryPoint(self):
        IMSG("never")
""",
        flags=flags,
    )
    for _ in range(3):
        fails(TEE_ERROR_OUT_OF_MEMORY, TEE_ORIGIN_TRUSTED_APP, tee.open)
    wait_until(lambda: tee.instances() == 0)
    assert tee.lines == ["asked"] * 3


def test_no_such_service(tee: Tee) -> None:
    tee.put("    pass\n", uuid=OTHER)
    fails(TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TEE, tee.open)
    tee.put("    pass\n", name="late")
    tee.open().close()
    (tee.folder / "late.py").unlink()
    fails(TEE_ERROR_ITEM_NOT_FOUND, TEE_ORIGIN_TEE, tee.open)


def test_a_service_that_changes(tee: Tee) -> None:
    """Who has a session keeps what it has."""

    def version(session: Session) -> int:
        value = Value()
        session.invoke(0, value)
        return value.a

    body = """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].a = {}
"""
    tee.put(body.format(1))
    first = tee.open()
    tee.put(body.format(222))
    second = tee.open()
    assert (version(first), version(second), version(first)) == (1, 222, 1)


# How instances live


LIVING = """
    def TA_CreateEntryPoint(self):
        self.calls = 0
        IMSG("created")
    def TA_DestroyEntryPoint(self):
        IMSG(f"destroyed after {self.calls}")
    def TA_OpenSessionEntryPoint(self, param_types, params):
        return [0]
    def TA_CloseSessionEntryPoint(self, session):
        IMSG(f"closed after {session[0]}")
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        session[0] += 1
        self.calls += 1
        params[0].a, params[0].b = session[0], self.calls
        params[1].a = os.getpid()
"""


def count(session: Session) -> tuple[int, int, int]:
    """Calls of the session, calls of the instance, its process."""
    value, process = Value(), Value()
    session.invoke(0, value, process)
    return value.a, value.b, process.a


def test_an_instance_for_each_session(tee: Tee) -> None:
    tee.put(LIVING)
    context = tee.context()
    one, two = context.open_session(UUID), context.open_session(UUID)
    assert count(one)[:2] == (1, 1)
    assert count(one)[:2] == (2, 2)
    assert count(two)[:2] == (1, 1)
    assert count(one)[2] != count(two)[2]
    one.close()
    wait_until(lambda: tee.instances() == 1)
    assert tee.lines == ["created", "created", "closed after 3", "destroyed after 3"]
    assert count(two)[:2] == (3, 3)


def test_one_session_at_a_time(tee: Tee) -> None:
    tee.put(LIVING, flags="single_instance = True")
    context = tee.context()
    one = context.open_session(UUID)
    pid = count(one)[2]
    for _ in range(2):
        fails(TEE_ERROR_BUSY, TEE_ORIGIN_TEE, lambda: context.open_session(UUID))
        fails(TEE_ERROR_BUSY, TEE_ORIGIN_TEE, tee.open)
    assert count(one) == (2, 2, pid)
    one.close()
    two = context.open_session(UUID)
    number, calls, other = count(two)
    assert (number, calls) == (1, 1)
    assert other != pid  # one after the other, and each begins anew
    two.close()
    wait_until(lambda: tee.instances() == 0)
    assert tee.lines == [
        *("created", "closed after 2", "destroyed after 2"),
        *("created", "closed after 1", "destroyed after 1"),
    ]


def test_a_shared_instance(tee: Tee) -> None:
    tee.put(LIVING, flags="single_instance = True; multi_session = True")
    context, other = tee.context(), tee.context()
    one, two = context.open_session(UUID), other.open_session(UUID)
    pid = count(one)[2]
    assert count(two) == (1, 2, pid)
    assert count(one) == (2, 3, pid)
    one.close()
    assert count(two) == (2, 4, pid)
    other.finalize()
    three = context.open_session(UUID)
    assert count(three)[:2] == (1, 1)
    assert count(three)[2] != pid


@pytest.mark.parametrize("flags", ["", "; multi_session = True"])
def test_an_instance_that_outlives_its_sessions(tee: Tee, flags: str) -> None:
    tee.put(LIVING, flags="single_instance = True; keep_alive = True" + flags)
    one = tee.open()
    pid = count(one)[2]
    one.close()
    two = tee.open()
    assert count(two) == (1, 2, pid)
    tee.contexts[-1].finalize()
    assert tee.instances() == 1
    three = tee.open()
    assert count(three) == (1, 3, pid)
    three.close()
    assert tee.instances() == 1
    # Its end comes with the TEE's.
    tee.close()
    wait_until(lambda: not is_alive(pid))
    assert tee.lines[-1] == "destroyed after 3"


def test_many_open_at_once(tee: Tee) -> None:
    tee.put(LIVING, flags="single_instance = True; multi_session = True")
    context = tee.context()
    sessions: list[Session] = []
    in_threads(*[lambda: sessions.append(context.open_session(UUID))] * 10)
    assert len({count(session)[2] for session in sessions}) == 1
    in_threads(*[session.close for session in sessions])
    wait_until(lambda: tee.instances() == 0)
    assert tee.lines.count("created") == 1


def test_an_open_that_is_refused_keeps_others(tee: Tee) -> None:
    tee.put(
        """
    def TA_OpenSessionEntryPoint(self, param_types, params):
        if param_types:
            raise BadFormat("not you")
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].a = os.getpid()
""".replace("BadFormat", f"TeeError({TEE_ERROR_BAD_FORMAT}) #"),
        flags="single_instance = True; multi_session = True",
    )
    one = tee.open()
    pid = pid_of(one)
    for _ in range(3):
        fails(TEE_ERROR_BAD_FORMAT, TEE_ORIGIN_TRUSTED_APP, lambda: tee.open(UUID, Value()))
    assert pid_of(one) == pid
    assert tee.instances() == 1


def test_not_destroyed_after_a_panic(tee: Tee) -> None:
    tee.put(
        """
    def TA_DestroyEntryPoint(self):
        IMSG("destroyed")
    def TA_CloseSessionEntryPoint(self, session):
        IMSG("closed")
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        TEE_Panic()
"""
    )
    session = tee.open()
    is_dead(lambda: session.invoke(0))
    session.close()
    wait_until(lambda: tee.instances() == 0)
    assert all("panic" in line for line in tee.lines)


def test_a_context_takes_its_instances_along(tee: Tee) -> None:
    tee.put(LIVING)
    context, other = tee.context(), tee.context()
    mine = [context.open_session(UUID) for _ in range(5)]
    theirs = other.open_session(UUID)
    pids = [count(session)[2] for session in mine]
    context.finalize()
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    wait_until(lambda: tee.instances() == 1)
    assert count(theirs)[:2] == (1, 1)
    wait_until(lambda: tee.lines.count("destroyed after 1") == 5)


@pytest.mark.slow
def test_fifty_instances(tee: Tee) -> None:
    tee.put(LIVING)
    context = tee.context()
    sessions: list[Session] = []

    def open_some() -> None:
        for _ in range(10):
            session = context.open_session(UUID)
            assert count(session)[:2] == (1, 1)
            sessions.append(session)

    in_threads(*[open_some] * 5)
    pids = {count(session)[2] for session in sessions}
    assert len(pids) == 50
    assert tee.instances() == 50
    assert all(is_alive(pid) for pid in pids)
    in_threads(*[session.close for session in sessions])
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    wait_until(lambda: tee.instances() == 0)
    # They can come again.
    assert count(context.open_session(UUID))[:2] == (1, 1)


def test_the_most_instances(host: ServiceHost, tmp_path: Path) -> None:
    tee = Tee(host, tmp_path, max_instances=3)
    tee.put(LIVING)
    tee.put(LIVING, flags="single_instance = True; multi_session = True", uuid=OTHER, name="other")
    sessions = [tee.open(), tee.open(), tee.open(OTHER)]
    fails(TEE_ERROR_OUT_OF_MEMORY, TEE_ORIGIN_TEE, tee.open)
    # An instance that is there takes more sessions.
    tee.open(OTHER).close()
    assert [count(session)[:2] for session in sessions] == [(1, 1)] * 3
    sessions[0].close()
    wait_until(lambda: tee.instances() == 2)
    assert count(tee.open())[:2] == (1, 1)
    fails(TEE_ERROR_OUT_OF_MEMORY, TEE_ORIGIN_TEE, tee.open)
    tee.close()


# Waiting and cancellation


NOTHING, WAIT, WAIT_MASKED, POLL, POLL_MASKED, COMPUTE, SHORT, FOREVER = range(8)

# The first byte of the memref becomes 1 when the command runs, and 2 if it ended by itself; the
# service goes on when the client sets the second.
WAITING = f"""
    def TA_OpenSessionEntryPoint(self, param_types, params):
        if param_types:
            self.TA_InvokeCommandEntryPoint(None, {WAIT}, param_types, params)
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        if command_id == {NOTHING}:
            return
        state = params[0].buffer
        if command_id not in ({WAIT_MASKED}, {POLL_MASKED}, {FOREVER}):
            TEE_UnmaskCancellation()
        if len(state) >= 8:
            state[4:8] = os.getpid().to_bytes(4, "little")
        state[0] = 1
        if command_id in ({WAIT}, {FOREVER}):
            TEE_Wait(0xFFFFFFFF)
        elif command_id == {WAIT_MASKED}:
            while not state[1]:
                TEE_Wait(1)
        elif command_id == {POLL}:
            while not TEE_GetCancellationFlag():
                pass
        elif command_id == {POLL_MASKED}:
            while not state[1]:
                if TEE_GetCancellationFlag():
                    raise BadState("it is masked")
            TEE_UnmaskCancellation()
            state[2] = TEE_GetCancellationFlag()
        elif command_id == {COMPUTE}:
            while True:
                pass
        elif command_id == {SHORT}:
            TEE_Wait(params[1].a)
        state[0] = 2
"""


def count_pending(tee: Tee) -> int:
    """Calls under way."""
    return sum(len(ctx.pending) for device in tee.registry.all() for ctx in device.contexts)


def pid_in(state: SharedMemory) -> int:
    """The process that the service above told of."""
    return int.from_bytes(state.buffer[4:8], "little")


@pytest.fixture
def waiting(tee: Tee) -> Iterator[tuple[Session, SharedMemory]]:
    """A session with the service above, and what it tells by."""
    tee.put(WAITING)
    context = tee.context()
    with SharedMemory.allocate(context, 8) as state:
        yield context.open_session(UUID), state


def begin(session: Session, command: int, state: SharedMemory, *more: object) -> Call:
    """A command that runs."""
    state.buffer[:] = bytes(8)
    call = Call(session, command, state, *more)
    wait_until(lambda: state.buffer[0])
    return call


def test_cancel_a_wait(waiting: tuple[Session, SharedMemory]) -> None:
    session, state = waiting
    for _ in range(3):
        call = begin(session, WAIT, state)
        assert not call.is_done
        call.operation.cancel()
        fails(TEE_ERROR_CANCEL, TEE_ORIGIN_TRUSTED_APP, call.wait)
        assert state.buffer[0] == 1
        session.invoke(NOTHING)


def test_cancel_before_the_wait(waiting: tuple[Session, SharedMemory]) -> None:
    """The flag is set when the service comes to wait."""
    session, state = waiting
    call = begin(session, POLL, state)
    call.operation.cancel()
    call.wait()
    assert state.buffer[0] == 2


def test_masked_cancellation_is_not_seen(waiting: tuple[Session, SharedMemory]) -> None:
    session, state = waiting
    call = begin(session, WAIT_MASKED, state)
    call.operation.cancel()
    state.buffer[1] = 1
    call.wait()
    assert state.buffer[0] == 2
    call = begin(session, POLL_MASKED, state)
    call.operation.cancel()
    state.buffer[1] = 1
    call.wait()
    # It is still there when it is unmasked.
    assert bytes(state.buffer[:3]) == b"\x02\x01\x01"


def test_a_masked_wait_for_ever(tee: Tee, waiting: tuple[Session, SharedMemory]) -> None:
    session, state = waiting
    call = begin(session, FOREVER, state)
    call.operation.cancel()
    # The same threads serve others meanwhile, after the request.
    other = tee.open()
    with SharedMemory.allocate(tee.contexts[-1], 8) as short:
        for _ in range(20):
            other.invoke(SHORT, short, Value(1, 0, INPUT))
    assert not call.is_done
    os.kill(pid_in(state), signal.SIGKILL)
    is_dead(call.wait)


def test_each_call_is_asked_for_itself(waiting: tuple[Session, SharedMemory]) -> None:
    session, state = waiting
    call = begin(session, POLL, state)
    call.operation.cancel()
    call.wait()
    call = begin(session, POLL_MASKED, state)
    state.buffer[1] = 1
    call.wait()
    assert bytes(state.buffer[:3]) == b"\x02\x01\x00"


def cancel_until(operation: Operation, is_done: Callable[[], bool]) -> None:
    """A request that overtakes its call is lost: ask again."""

    def ask() -> bool:
        operation.cancel()
        return is_done()

    wait_until(ask)


def test_cancel_a_queued_call(tee: Tee, waiting: tuple[Session, SharedMemory]) -> None:
    session, state = waiting
    running = begin(session, WAIT_MASKED, state)
    queued = [Call(session, NOTHING) for _ in range(3)]
    wait_until(lambda: count_pending(tee) == 4)
    cancel_until(queued[1].operation, lambda: queued[1].is_done)
    fails(TEE_ERROR_CANCEL, TEE_ORIGIN_TEE, queued[1].wait)
    assert not queued[0].is_done
    assert not queued[2].is_done
    assert not running.is_done
    state.buffer[1] = 1
    for call in (running, queued[0], queued[2]):
        call.wait()
    assert state.buffer[0] == 2


def test_cancel_an_open(tee: Tee) -> None:
    tee.put(WAITING)
    context = tee.context()
    with SharedMemory.allocate(context, 8) as state:
        operation = Operation(state)
        results: list[BaseException] = []

        def open_session() -> None:
            try:
                context.open_session(UUID, operation=operation)
            except BaseException as error:
                results.append(error)

        thread = threading.Thread(target=open_session)
        thread.start()
        wait_until(lambda: state.buffer[0])
        operation.cancel()
        thread.join(PATIENCE)
        (error,) = results
        assert isinstance(error, TeeError)
        assert (error.code, error.origin) == (TEE_ERROR_CANCEL, TEE_ORIGIN_TRUSTED_APP)
    wait_until(lambda: tee.instances() == 0)


@pytest.mark.parametrize("flags", ["", "single_instance = True; multi_session = True"])
def test_cancel_an_open_before_it_runs(tee: Tee, flags: str) -> None:
    """The instance is still being created."""
    tee.put(
        """
    def TA_CreateEntryPoint(self):
        import signal
        go_on = []
        signal.signal(signal.SIGUSR1, lambda *_: go_on.append(True))
        IMSG("creating")
        while not go_on:
            TEE_Wait(1)
    def TA_DestroyEntryPoint(self):
        IMSG("destroyed")
""",
        flags=flags,
    )
    context = tee.context()
    operation = Operation()
    results: list[BaseException] = []

    def open_session() -> None:
        try:
            context.open_session(UUID, operation=operation)
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=open_session)
    thread.start()
    cancel_until(operation, lambda: not thread.is_alive())
    (error,) = results
    assert isinstance(error, TeeError)
    assert (error.code, error.origin) == (TEE_ERROR_CANCEL, TEE_ORIGIN_TEE)
    # Nobody needs it any more; it ends when it can.
    assert tee.instances() == 1
    wait_until(lambda: tee.lines == ["creating"])
    ((instance,),) = [soft.instances() for soft in tee.driver._tees]
    os.kill(instance.pid, signal.SIGUSR1)
    wait_until(lambda: tee.instances() == 0)
    wait_until(lambda: tee.lines == ["creating", "destroyed"])
    tee.put("    pass\n", flags=flags)
    context.open_session(UUID).close()


def test_closed_while_it_is_used(tee: Tee, waiting: tuple[Session, SharedMemory]) -> None:
    """By another thread: the call ends first, then the session."""
    session, state = waiting
    call = begin(session, WAIT_MASKED, state)
    session.close()
    assert not call.is_done
    assert tee.instances() == 1
    state.buffer[1] = 1
    call.wait()
    wait_until(lambda: tee.instances() == 0)


def test_cancel_what_is_over(waiting: tuple[Session, SharedMemory]) -> None:
    session, state = waiting
    over = Call(session, NOTHING)
    over.wait()
    call = begin(session, WAIT_MASKED, state)
    over.operation.cancel()
    state.buffer[1] = 1
    call.wait()


def test_waits_end_by_themselves(waiting: tuple[Session, SharedMemory]) -> None:
    session, state = waiting
    for milliseconds in (0, 1, 30):
        before = time.monotonic()
        session.invoke(SHORT, state, Value(milliseconds, 0, INPUT))
        assert time.monotonic() - before >= milliseconds / 1000
        assert state.buffer[0] == 2
    # One that is cancelled early does not disturb the next.
    call = begin(session, SHORT, state, Value(3_600_000, 0, INPUT))
    call.operation.cancel()
    fails(TEE_ERROR_CANCEL, TEE_ORIGIN_TRUSTED_APP, call.wait)
    session.invoke(SHORT, state, Value(1, 0, INPUT))


def test_waits_of_many_instances(tee: Tee) -> None:
    tee.put(WAITING)
    context = tee.context()
    calls = []
    for _ in range(5):
        state = SharedMemory.allocate(context, 8)
        calls.append(begin(context.open_session(UUID), WAIT, state))
    calls[3].operation.cancel()
    fails(TEE_ERROR_CANCEL, TEE_ORIGIN_TRUSTED_APP, calls[3].wait)
    assert [call.is_done for call in calls] == [False, False, False, True, False]
    for call in calls[:3] + calls[4:]:
        call.operation.cancel()
        fails(TEE_ERROR_CANCEL, TEE_ORIGIN_TRUSTED_APP, call.wait)


# Parameters


SEEING = """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        # Each is described in a line of the last parameter; outputs change.
        lines = [f"{param_types:#06x}"]
        for param in params[:3]:
            if isinstance(param, Value):
                lines.append(f"value {param.a:#x} {param.b:#x}")
                param.a, param.b = 0xFFFFFFFF, 7
            elif isinstance(param, Memref) and param.buffer is None:
                lines.append(f"null {param.size}")
                param.size = 9
            elif isinstance(param, Memref):
                flags = "ro" if param.buffer.readonly else "rw"
                lines.append(f"memref {param.size} {flags} {bytes(param.buffer)}")
                if not param.buffer.readonly:
                    param.buffer[:] = bytes(param.buffer).upper()
            else:
                lines.append(f"{param}")
        params[3].write("; ".join(lines).encode())
"""


def seen(session: Session, *params: Parameter | None) -> str:
    out = Out(1000)
    session.invoke(0, *params, *[None] * (3 - len(params)), out)
    return out.data.decode()


def test_values(each_tee: Tee) -> None:
    each_tee.put(SEEING)
    session = each_tee.open()
    values = [Value(1, 2, INPUT), Value(3, 4, OUTPUT), Value(0xFFFF_FFFF, 6)]
    assert seen(session, *values) == ("0x6321; value 0x1 0x2; value 0x0 0x0; value 0xffffffff 0x6")
    assert [(value.a, value.b) for value in values] == [(1, 2), (0xFFFF_FFFF, 7), (0xFFFF_FFFF, 7)]
    assert seen(session) == "0x6000; None; None; None"
    assert seen(session, None, None, Value(0, 0, INPUT)) == "0x6100; None; None; value 0x0 0x0"


def test_temporary_memory(each_tee: Tee) -> None:
    each_tee.put(SEEING)
    session = each_tee.open()
    data, inout, output = b"input", bytearray(b"inout"), bytearray(b"output")
    params = [TempRef(data), TempRef(inout), TempRef(output, OUTPUT)]
    text = seen(session, *params)
    assert text.startswith("0x6675; memref 5 ro b'input'; memref 5 rw b'inout'; memref 6 rw ")
    assert data == b"input"
    assert inout == b"INOUT"
    # What an output holds before is not promised where it is not the client's own memory.
    assert output.upper() in (b"OUTPUT", bytes(6))
    assert [param.out_size for param in params] == [5, 5, 6]


def test_empty_and_null_memory(each_tee: Tee) -> None:
    each_tee.put(SEEING)
    session = each_tee.open()
    params = [TempRef(b""), TempRef(None, INPUT), TempRef(None, OUTPUT)]
    assert seen(session, *params) == "0x6655; memref 0 ro b''; null 0; null 0"
    assert [param.out_size for param in params] == [0, 0, 9]
    params = [TempRef(bytearray()), TempRef(None), Out(0)]  # type: ignore[list-item]
    assert seen(session, *params) == "0x6677; memref 0 rw b''; null 0; memref 0 rw b''"


@pytest.mark.parametrize("road", ["allocate", "register"])
def test_shared_memory(each_tee: Tee, road: str) -> None:
    each_tee.put(SEEING)
    session = each_tee.open()
    context = each_tee.contexts[0]
    buffer = bytearray(10_000)
    if road == "allocate":
        memory = SharedMemory.allocate(context, 10_000)
    else:
        memory = SharedMemory.register(context, buffer)
    memory.buffer[:5] = b"hello"
    memory.buffer[4094:4098] = b"over"
    params = [
        MemRef(memory, 0, 5, INPUT),
        MemRef(memory, 4094, 4),
        MemRef(memory, 9990, 10, OUTPUT),
    ]
    text = seen(session, *params)
    assert text.startswith("0x6675; memref 5 ro b'hello'; memref 4 rw b'over'; memref 10 rw ")
    assert bytes(memory.buffer[4093:4099]) == b"\0OVER\0"
    assert bytes(memory.buffer[:5]) == b"hello"
    # Two references to the same bytes, one of them an output.
    text = seen(session, MemRef(memory, 0, 5), MemRef(memory, 3, 4, INPUT), MemRef(memory, 0, 2))
    assert text == ("0x6757; memref 5 rw b'hello'; memref 4 ro b'LO\\x00\\x00'; memref 2 rw b'HE'")
    assert bytes(memory.buffer[:5]) == b"HELLO"
    memory.release()


def test_registrations_that_overlap(host: ServiceHost, tmp_path: Path) -> None:
    """Memory that was registered twice is one memory all the same."""
    tee = Tee(host, tmp_path, reg_mem=True)
    tee.put(SEEING)
    session = tee.open()
    context = tee.contexts[0]
    buffer = bytearray(b"abcdefghijklmnopqrstuvwxyz")
    with memoryview(buffer) as view:
        first = SharedMemory.register(context, view[:10])
        second = SharedMemory.register(context, view[5:])
        text = seen(session, MemRef(first), MemRef(second, 0, 21, INPUT), MemRef(second, 0, 8))
        assert "memref 10 rw b'abcdefghij'" in text
        assert "memref 21 ro b'FGHIJklmnopqrstuvwxyz'" in text
        assert "memref 8 rw b'FGHIJklm'" in text
        first.release()
        second.release()
    assert buffer == b"ABCDEFGHIJKLMnopqrstuvwxyz"
    tee.close()


def test_short_buffers(each_tee: Tee) -> None:
    each_tee.put(
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].write(b"x" * 1000)
"""
    )
    session = each_tee.open()
    for size in (0, 1, 999):
        out = Out(size)
        fails(
            TEE_ERROR_SHORT_BUFFER,
            TEE_ORIGIN_TRUSTED_APP,
            partial(session.invoke, 0, out),
        )
        assert out.out_size == 1000
        assert out.data == bytes(size)
    out = Out(1000)
    session.invoke(0, out)
    assert out.data == b"x" * 1000


@pytest.mark.parametrize("size", [100_000, 300_000, 5 << 20])
def test_large_memory(each_tee: Tee, size: int) -> None:
    each_tee.put(
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[1].buffer[:] = bytes(params[0].buffer)[::-1]
"""
    )
    session = each_tee.open()
    context = each_tee.contexts[0]
    source, target = bytearray(os.urandom(size)), bytearray(size)
    with (
        SharedMemory.register(context, source) as one,
        SharedMemory.register(context, target) as two,
    ):
        for _ in range(3):
            session.invoke(0, MemRef(one, direction=INPUT), MemRef(two, direction=OUTPUT))
            assert target == source[::-1]
            source[:4] = os.urandom(4)


def test_numbers_are_cut_to_what_they_are(tee: Tee) -> None:
    tee.put(
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].a, params[0].b = 1 << 40 | 5, -1
        params[1].size = 1 << 40
        params[2].a = 6  # an input
"""
    )
    session = tee.open()
    value, out, kept = Value(), Out(4), Value(1, 2, INPUT)
    session.invoke(0, value, out, kept)
    assert (value.a, value.b) == (5, 0xFFFF_FFFF)
    assert out.out_size == 1 << 40
    assert (kept.a, kept.b) == (1, 2)


def test_a_service_may_take_its_parameters_apart(tee: Tee) -> None:
    tee.put(
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        if command_id == 0:
            params[0] = Value(5, 6)
        elif command_id == 1:
            params.append(Value(1, 1))
            params[0] = None
        elif command_id == 2:
            params[0] = params[1]
        else:
            params.clear()
"""
    )
    session = tee.open()
    results = []
    for command in range(4):
        value = Value(1, 2)
        session.invoke(command, value, bytearray(1))
        results.append((value.a, value.b))
    assert results == [(5, 6), (1, 2), (1, 2), (1, 2)]


def test_parameters_of_an_open(each_tee: Tee) -> None:
    each_tee.put(
        SEEING.replace(
            "TA_InvokeCommandEntryPoint(self, session, command_id, ",
            "TA_OpenSessionEntryPoint(self, ",
        )
    )
    value, buffer, out = Value(1, 2), bytearray(b"some"), Out(1000)
    each_tee.context().open_session(UUID, value, buffer, None, out)
    assert out.data == b"0x6073; value 0x1 0x2; memref 4 rw b'some'; None"
    assert value.a == 0xFFFF_FFFF
    assert buffer == b"SOME"


def test_inputs_cannot_be_written(each_tee: Tee) -> None:
    each_tee.put(
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        try:
            params[0].buffer[0] = 1
        except TypeError:
            params[1].a = 1
        try:
            params[0].write(b"x")
        except TypeError:
            params[1].b = 1
"""
    )
    session = each_tee.open()
    value = Value()
    session.invoke(0, b"input", value)
    assert (value.a, value.b) == (1, 1)


def test_views_end_with_the_call(each_tee: Tee) -> None:
    each_tee.put(
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        if command_id == 0:
            self.kept = [param.buffer for param in params[:3]]
            self.memrefs = params[:3]
            return
        count = 0
        for view in self.kept + [memref.buffer for memref in self.memrefs]:
            for use in (lambda: view[0], lambda: bytes(view), lambda: view[0:1]):
                try:
                    use()
                except ValueError:
                    count += 1
        params[0].a = count
"""
    )
    session = each_tee.open()
    session.invoke(0, b"input", bytearray(b"inout"), Out(5))
    value = Value()
    session.invoke(1, value)
    assert value.a == 18


def test_a_service_that_still_uses_a_view(each_tee: Tee) -> None:
    """As arrays of numbers and the like do: the view cannot be taken away, but that is no death."""
    each_tee.put(
        f"""
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        import pickle
        user = pickle.PickleBuffer(params[0].buffer)
        if command_id == 0:
            raise TeeError({TEE_ERROR_BAD_FORMAT})
        if command_id == 1:
            self.user = user
        params[0].size = 3
"""
    )
    session = each_tee.open()
    buffer = TempRef(bytearray(b"some"))
    for _ in range(2):
        fails(TEE_ERROR_BAD_FORMAT, TEE_ORIGIN_TRUSTED_APP, lambda: session.invoke(0, buffer))
        session.invoke(1, buffer)
        assert buffer.out_size == 3
    session.invoke(2, buffer)


@pytest.mark.root
def test_memory_that_ended_is_unmapped(tee: Tee) -> None:
    tee.put(DYING + "        elif command_id == 20: params[0].buffer[0] = 1\n")
    session = tee.open()
    context = tee.contexts[0]
    pid = pid_of(session)

    def mapped() -> int:
        # Root's to see: a service is not dumpable.
        return Path(f"/proc/{pid}/maps").read_text().count("memfd:tee_shm")

    memories = [SharedMemory.allocate(context, 100) for _ in range(70)]
    for memory in memories:
        session.invoke(20, memory)
    assert mapped() == 70
    memories[0].release()
    wait_until(lambda: mapped() == 69)
    for memory in memories[1:]:
        memory.release()
    wait_until(lambda: mapped() == 0)
    assert pid_of(session) == pid


def test_calls_of_many_threads(each_tee: Tee) -> None:
    """One session is used by several threads: one call after the other."""
    each_tee.put(
        """
    def TA_CreateEntryPoint(self):
        self.inside = 0
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        self.inside += 1
        params[1].write(bytes(params[0].buffer)[::-1])
        params[2].a = self.inside
        self.inside -= 1
"""
    )
    session = each_tee.open()

    def use() -> None:
        for _ in range(30):
            data, out, value = os.urandom(2000), Out(2000), Value()
            session.invoke(0, data, out, value)
            assert out.data == data[::-1]
            assert value.a == 1

    in_threads(*[use] * 5)


# The log


def test_what_a_service_says(tee: Tee) -> None:
    tee.put(
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        EMSG("error")
        IMSG("two\\nlines")
        DMSG("debug")
        FMSG("flow")
        print("printed")
        print("to stderr", file=sys.stderr)
        print("no newline", end="")
        os.write(1, b"raw\\n")
        sys.stdout.write("\\x1b[31mred\\n")
"""
    )
    session = tee.open()
    session.invoke(0)
    # All of it is there before the client goes on.
    assert tee.logged == [
        ("service", level, text)
        for level, text in (
            (LOG_ERROR, "error"),
            (LOG_INFO, "two"),
            (LOG_INFO, "lines"),
            (LOG_DEBUG, "debug"),
            (LOG_FLOW, "flow"),
            (LOG_INFO, "printed"),
            (LOG_ERROR, "to stderr"),
            (LOG_INFO, "raw"),
            (LOG_INFO, "no newline\x1b[31mred"),
        )
    ]


def test_last_words(tee: Tee) -> None:
    tee.put(
        """
    def TA_DestroyEntryPoint(self):
        print("that is", end=" ")
        print("all", end="")
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        print("about to die", end="")
        TEE_Panic()
"""
    )
    tee.open().close()
    wait_until(lambda: tee.instances() == 0)
    assert tee.lines == ["that is all"]
    session = tee.open()
    is_dead(lambda: session.invoke(0))
    assert tee.lines[1] == "about to die"


def test_many_lines(tee: Tee) -> None:
    tee.put(
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        for number in range(5000):
            print(f"line {number} " + "x" * 50)
"""
    )
    session = tee.open()
    session.invoke(0)
    assert [line.split()[1] for line in tee.lines] == [str(number) for number in range(5000)]


@pytest.mark.parametrize(
    "how", ["print('x' * 1000)", "os.write(1, b'x' * 4095 + b'\\n')", "os.write(1, b'x' * 65536)"]
)
def test_a_flood(tee: Tee, how: str) -> None:
    """It does not end, and others live on."""
    tee.put(
        f"""
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].buffer[0] = 1
        params[0].buffer[4:8] = os.getpid().to_bytes(4, "little")
        while True:
            {how}
""",
        name="flood",
    )
    tee.put(WAITING, uuid=OTHER, name="other")
    context = tee.context()
    with SharedMemory.allocate(context, 8) as flood, SharedMemory.allocate(context, 8) as state:
        call = begin(context.open_session(UUID), 0, flood)
        other = context.open_session(OTHER)
        for _ in range(3):
            other.invoke(SHORT, state, Value(1, 0, INPUT))
        wait = begin(other, WAIT, state)
        wait.operation.cancel()
        fails(TEE_ERROR_CANCEL, TEE_ORIGIN_TRUSTED_APP, wait.wait)
        pid = pid_in(state)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid))
        is_dead(lambda: other.invoke(NOTHING))
        assert not call.is_done
        os.kill(pid_in(flood), signal.SIGKILL)
        is_dead(call.wait)
    del tee.host.logged[tee._logged :]


# When descriptors run out


@pytest.fixture
def descriptors() -> Iterator[Callable[[int], None]]:
    """``descriptors(n)``: leave this process room for ``n`` more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(open_descriptors())
    holes = [os.dup(0)]
    while holes[-1] < used:
        holes.append(os.dup(0))
    yield lambda room: resource.setrlimit(resource.RLIMIT_NOFILE, (holes[-1] + room + 1, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for fd in holes:
        os.close(fd)


@pytest.mark.slow
def test_no_descriptors_left(tee: Tee, descriptors: Callable[[int], None]) -> None:
    """An open that fails for it, wherever that is noticed, fails alone and leaves nothing."""
    tee.put(LIVING)
    context = tee.context()
    context.open_session(UUID).close()
    wait_until(lambda: tee.instances() == 0)
    before = len(open_descriptors())
    sessions: list[Session] = []

    def open_session() -> None:
        sessions.append(context.open_session(UUID))
        count(sessions[-1])

    opened = failed = 0
    for room in range(16):
        descriptors(room)
        for _ in range(4):
            try:
                in_threads(open_session)
                opened += 1
            except TeeError:
                failed += 1
        for session in sessions:
            session.close()
        sessions.clear()
        wait_until(lambda: tee.instances() == 0)
    assert opened
    assert failed
    descriptors(100)
    assert count(context.open_session(UUID))[:2] == (1, 1)
    context.finalize()
    wait_until(lambda: tee.instances() == 0)
    wait_until(lambda: len(open_descriptors()) <= before, "descriptors were leaked")


def test_no_descriptors_left_to_look_for_a_service(
    tee: Tee, descriptors: Callable[[int], None]
) -> None:
    tee.put(LIVING)
    context = tee.context()
    tee.put("    pass\n", uuid=OTHER, name="other")
    descriptors(0)
    for uuid in (UUID, OTHER):
        with pytest.raises(TeeError):
            context.open_session(uuid)
    descriptors(100)
    for uuid in (UUID, OTHER):
        context.open_session(uuid).close()


# The end


def children() -> set[int]:
    """Of this process, without those that have ended."""
    found = set()
    for process in Path("/proc").iterdir():
        try:
            stat = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat[1]) == os.getpid() and stat[0] != "Z":
            found.add(int(process.name))
    return found


@pytest.fixture
def subreaper() -> Iterator[None]:
    """Orphans of what is started here come to this process."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield
    prctl(PR_SET_CHILD_SUBREAPER, 0)


@pytest.mark.parametrize("end", ["orderly", "at once"])
def test_nothing_is_left_behind(subreaper: None, tmp_path: Path, end: str) -> None:
    children_before = children()
    threads_before = threading.active_count()
    host = ServiceHost()
    tee = Tee(host, tmp_path)
    tee.put(LIVING, flags="single_instance = True; keep_alive = True")
    tee.put(WAITING, uuid=OTHER, name="other")
    context = tee.context()
    pids = [count(context.open_session(UUID))[2]]
    state = SharedMemory.allocate(context, 8)
    call = begin(context.open_session(OTHER), COMPUTE, state)  # it never ends
    pids.append(pid_in(state))
    started = children() - children_before
    assert len(started) >= 2  # the trapped root, the warm parent
    assert all(is_alive(pid) for pid in pids)
    if end == "orderly":
        for device in tee.devices:
            tee.registry.tee_device_unregister(device)
        assert not call.is_done
        tee.driver.remove()
        is_dead(call.wait)
        tee.close()
        wait_until(lambda: not any(is_alive(pid) for pid in pids))
    host.close()
    wait_until(lambda: children() <= children_before)
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    for pid in started:
        os.waitpid(pid, os.WNOHANG)
    if end == "orderly":
        wait_until(lambda: threading.active_count() <= threads_before + 1)  # an idle worker
