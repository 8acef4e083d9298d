# SPDX-License-Identifier: BSD-2-Clause
"""Replies that come when nobody waits for them any more, and those of a service that was to end."""

import os
import signal
import threading
from collections.abc import Callable

import pytest

from gentee.abi.gp import (
    TEE_ERROR_CANCEL,
    TEE_ERROR_TARGET_DEAD,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_SUCCESS,
)
from gentee.client import Session, Value
from gentee.errors import TeeError
from gentee.linux.events import Timer
from gentee.secure.service import parse_uuid
from tests.functional.test_services import OTHER, UUID, Call
from tests.helpers import PATIENCE, Client, OwnMemory, ServiceHost, memref_inout, wait_until
from tests.security.captive import Captive
from tests.security.raw import RAW, MakeCaptive, code_of, hostile, result_of, service_host

__all__ = ["hostile", "service_host"]

SINGLE = "4bd4c3f0-7a0c-4c1b-9f0e-1d2c3b4a5f71"
SLOW = "4bd4c3f0-7a0c-4c1b-9f0e-1d2c3b4a5f72"

# Answers when it was asked to end, and a moment later.
_LATE = """
    def attack(self, command, params):
        IMSG("at work")
        while not cancelled():
            time.sleep(0.001)
        words()[ch.M_CANCEL] = 0
        time.sleep(0.05)
        for index in range(12):
            words()[ch.M_PARAMS + index] = ANY
        IMSG("late")
        answer(command)
"""


def at_work(captive: Captive, times: int = 1) -> None:
    wait_until(lambda: captive.said().count("at work") == times)


def cancel(call: Call) -> None:
    def done() -> bool:
        call.operation.cancel()
        return call.is_done

    wait_until(done)


def test_after_a_cancellation(hostile: MakeCaptive) -> None:
    """It is the result, as the service says."""
    captive = hostile(_LATE)
    call = Call(captive.session, 5, Value())
    at_work(captive)
    captive.others_go_on()
    cancel(call)
    assert (call.error.code, call.error.origin) == (5, TEE_ORIGIN_TRUSTED_APP)  # type: ignore[union-attr]
    captive.others_go_on()


def test_after_the_context_was_closed(hostile: MakeCaptive) -> None:
    """Its client is gone; what it was to get goes nowhere, and the instance ends."""
    captive = hostile(_LATE)
    alive = captive.tee.instances()
    context = captive.tee.context()
    session = context.open_session(UUID)
    value = Value(3, 4)
    call = Call(session, 1, value)
    at_work(captive)
    context.finalize()
    wait_until(lambda: call.is_done)
    wait_until(lambda: captive.tee.instances() == alive)
    assert "late" in captive.said()
    captive.others_go_on()


def test_a_reply_to_the_end(hostile: MakeCaptive) -> None:
    """Told to end, it asks for its next command instead: then it is ended."""
    captive = hostile(
        """
    def attack(self, command, params):
        while True:
            answer(M_CANCEL=1)
"""
    )
    alive = captive.tee.instances()
    session = captive.tee.open()
    assert code_of(session, 1) == TEE_SUCCESS
    session.close()
    wait_until(lambda: captive.tee.instances() == alive, "it lives on")
    captive.others_go_on()


def test_nobody_waits_for_the_end_of_a_single_instance(hostile: MakeCaptive) -> None:
    """The next instance starts when the one before has ended, which it cannot put off."""
    captive = hostile("\n    def attack(self, command, params): pass\n")
    captive.tee.put(
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        while command_id:
            raw(ch.TA_IOC_NEXT)
"""
        + RAW,
        flags="single_instance, ",
        name="single",
        uuid=SINGLE,
    )
    for _ in range(3):
        session = captive.tee.open(SINGLE)
        session.invoke(0)
        session.invoke(1)
        session.close()
    captive.others_go_on()


@pytest.mark.parametrize(
    "waits", ["raw(ch.TA_IOC_WAIT, ANY)", "raw(ch.TA_IOC_WAIT, 0xffff_ffff)", "time.sleep(86400)"]
)
@pytest.mark.parametrize("entry_point", ["TA_CloseSessionEntryPoint", "TA_DestroyEntryPoint"])
def test_waits_at_the_end(hostile: MakeCaptive, entry_point: str, waits: str) -> None:
    """Nobody waits for what it does there; its time is that of a command."""
    captive = hostile(
        f"""
    def {entry_point}(self, *arguments):
        {waits}
    def attack(self, command, params): pass
""",
        cpu_limit=0.2,
    )
    alive = captive.tee.instances()
    session = captive.tee.open()
    session.close()
    captive.others_go_on()
    wait_until(lambda: captive.tee.instances() <= alive)


def test_wait_with_any_argument(hostile: MakeCaptive) -> None:
    """32 bits of milliseconds; a cancellation ends the longest one, and every one after it."""
    captive = hostile(
        """
    def attack(self, command, params):
        assert {raw(ch.TA_IOC_WAIT, odd) for odd in (0, 1 << 32, 1 << 63, 1, 3)} == {0}
        IMSG("at work")
        results = {raw(ch.TA_IOC_WAIT, 0x7fff_ffff)}
        results |= {raw(ch.TA_IOC_WAIT, odd) for odd in (ANY, 0xffff_ffff, 0xffff_fffe, 1 << 31)}
        params[0].a = results == {1}
"""
    )
    value = Value()
    call = Call(captive.session, 1, value)
    at_work(captive)
    cancel(call)
    call.wait()
    assert value.a == 1
    captive.others_go_on()


def test_its_own_cancellation(hostile: MakeCaptive) -> None:
    """The word in the mailbox is for itself: gentee knows by itself what was cancelled."""
    captive = hostile(
        """
    def attack(self, command, params):
        words()[ch.M_CANCEL] = ANY
        params[0].a = raw(ch.TA_IOC_WAIT, 1)
        answer(M_CANCEL=ANY)
        params[0].b = words()[ch.M_CANCEL]
"""
    )
    value = Value(7, 7)
    captive.session.invoke(1, value)
    captive.others_go_on()


# Requests


_SLOW = """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        IMSG("at work")
        while not cancelled():
            time.sleep(0.001)
        IMSG("late")
        params[0].a = 99
"""


def _asks_slow(captive: Captive, session: Session) -> tuple[Call, int]:
    """A session of the hostile one waits for the slow service; its process."""
    captive.tee.put(_SLOW + RAW, uuid=SLOW, name="slow")
    value = Value()
    session.invoke(1, value)
    call = Call(session, 2, Value())
    at_work(captive)
    return call, value.a


_ASKS = f"""
    def attack(self, command, params):
        if command == 1:
            params[0].a = os.getpid()
            self.slow = TEE_OpenTASession("{SLOW}")
        else:
            TEE_InvokeTACommand(self.slow, TEE_TIMEOUT_INFINITE, 1, 3, params[:1])
"""


def test_death_before_the_reply(hostile: MakeCaptive) -> None:
    """What it asked for is cancelled, its session is closed, the reply goes nowhere."""
    captive = hostile(_ASKS)
    alive = captive.tee.instances()
    session = captive.tee.open()
    call, pid = _asks_slow(captive, session)
    captive.others_go_on()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: call.is_done)
    assert call.error.code == TEE_ERROR_TARGET_DEAD  # type: ignore[union-attr]
    wait_until(lambda: captive.tee.instances() == alive)
    wait_until(lambda: "late" in captive.said())
    captive.others_go_on()


def test_the_called_one_answers_late(hostile: MakeCaptive) -> None:
    """After its caller's client was gone."""
    captive = hostile(_ASKS)
    alive = captive.tee.instances()
    context = captive.tee.context()
    call, pid = _asks_slow(captive, context.open_session(UUID))
    context.finalize()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: call.is_done)
    wait_until(lambda: captive.tee.instances() == alive)
    captive.others_go_on()


@pytest.mark.parametrize("session", ["0", "1", "2", "3", "17", "1 << 32 | 1", "ANY"])
def test_sessions_of_others(hostile: MakeCaptive, session: str) -> None:
    """Numbers mean its own sessions only, and it has none."""
    captive = hostile(
        f"""
    def attack(self, command, params):
        block = dict(Q_SESSION={session}, Q_FUNC=0, Q_PARAM_TYPES=3, Q_TIMEOUT=ANY)
        results = {{ask(ch.RQ_INVOKE_TA_COMMAND, **block), ask(ch.RQ_CLOSE_TA_SESSION, **block)}}
        params[0].a = results == {{0xffff0006}}
"""
    )
    for uuid in (UUID, OTHER):  # which do have numbers like these
        captive.tee.open(uuid).invoke(0, Value())
    value = Value()
    captive.session.invoke(1, value)
    assert value.a == 1
    captive.others_go_on()


def test_a_reply_to_a_command_that_is_a_request(hostile: MakeCaptive) -> None:
    """Every word of a request wrong, one after the other, and commands in between."""
    captive = hostile(
        f"""
    def attack(self, command, params):
        chooser = random.Random(command)
        uuid = bytes.fromhex("{OTHER.replace("-", "")}")
        for turn in range(300):
            words()[ch.Q_UUID] = int.from_bytes(uuid[:8], "little")
            words()[ch.Q_UUID + 1] = int.from_bytes(uuid[8:], "little")
            words()[ch.Q_TIMEOUT] = ANY
            words()[ch.Q_PARAM_TYPES] = chooser.choice([0, 3, 5, 6, 7, 0x3333, 0x7777])
            words()[ch.Q_BLOCK + turn % ch.Q_WORDS] = chooser.choice(WORDS)
            result = raw(ch.TA_IOC_REQUEST, chooser.choice([1, 1, 2, 3, 4, 5, 6, 0, 7, ANY]))
            assert result == 0, result
            if not words()[ch.Q_RET] and chooser.random() < 0.5:
                raw(ch.TA_IOC_REQUEST, ch.RQ_CLOSE_TA_SESSION)
        answer(turn)
"""
    )
    for seed in range(1, 4):
        assert result_of(captive.tee.open(), seed) == (299, TEE_ORIGIN_TRUSTED_APP)
        captive.others_go_on()


class _Slow(OwnMemory):
    """Memory that takes the answer when the test says so."""

    def __init__(self) -> None:
        super().__init__(bytes(64))
        self.let = threading.Event()
        self.asked = threading.Event()

    def copy_out(self, offset: int, view: memoryview) -> None:
        self.asked.set()
        assert self.let.wait(PATIENCE)
        super().copy_out(offset, view)


def test_memory_that_does_not_answer(hostile: MakeCaptive) -> None:
    """A service that logs is answered for by way of the events thread, which must not be held up:
    the waits and the deaths of all others are its business.
    """
    captive = hostile(
        """
    def attack(self, command, params):
        if command == 1:
            IMSG("a line")
            params[0].buffer[:4] = b"done"
        elif command == 2:
            params[0].a = raw(ch.TA_IOC_WAIT, 5)
        else:
            os._exit(0)
"""
    )
    memory = _Slow()
    with Client(captive.tee.devices[0]) as client:
        shm = client.shm_register(memory, 64)
        session = client.open_session(parse_uuid(UUID))
        call = client.invoke(session, 1, [memref_inout(shm)])
        assert memory.asked.wait(PATIENCE)
        value = Value(9)
        captive.session.invoke(2, value)
        assert value.a == 0
        captive.dies(3)
        assert not call.is_done
        memory.let.set()
        assert call.result == (TEE_SUCCESS, TEE_ORIGIN_TRUSTED_APP)
        assert memory.data[:4] == b"done"
        shm.put()


def test_a_deadline_before_its_call(
    hostile: MakeCaptive, service_host: ServiceHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time can be up before the called service is asked: it is asked with the flag set."""
    captive = hostile(
        f"""
    def attack(self, command, params):
        other = TEE_OpenTASession("{SLOW}")
        TEE_InvokeTACommand(other, 0, 1)
"""
    )
    captive.tee.put(
        """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        TEE_UnmaskCancellation()
        TEE_Wait(TEE_TIMEOUT_INFINITE)
""",
        uuid=SLOW,
        name="slow",
    )
    later = service_host.events.call_later

    def at_once(seconds: float, callback: Callable[[], None]) -> object:
        if seconds:
            return later(seconds, callback)
        callback()
        return Timer(callback)

    monkeypatch.setattr(service_host.events, "call_later", at_once)
    call = Call(captive.session, 1)
    with pytest.raises(TeeError) as caught:
        call.wait()
    assert caught.value.code == TEE_ERROR_CANCEL
