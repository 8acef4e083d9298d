# SPDX-License-Identifier: BSD-2-Clause
"""A service that calls the TEE without end: others are served in between, and nothing piles up."""

import pytest

from gentee.client import Value
from gentee.secure import nested
from tests.functional.test_services import OTHER, UUID, Call
from tests.helpers import wait_until
from tests.security.raw import MakeCaptive, code_of, hostile, service_host

__all__ = ["hostile", "service_host"]

_FLOODS = {
    "wait": "raw(ch.TA_IOC_WAIT, 0)",
    "waits that are cut off": "raw(ch.TA_IOC_WAIT, 0x7fff_ffff) if cancelled() else None",
    "hello": "raw(ch.TA_IOC_HELLO, random.getrandbits(62))",
    "unknown calls": "raw(ch.TA_IOC_HELLO | 15, ANY)",
    "unknown requests": "raw(ch.TA_IOC_REQUEST, ANY)",
    "requests for time": "raw(ch.TA_IOC_REQUEST, ch.RQ_GET_PERSISTENT_TIME)",
    "times that are set": "ask(ch.RQ_SET_PERSISTENT_TIME, Q_SECONDS=5, Q_MILLIS=0)",
    "services that there are not": "ask(ch.RQ_OPEN_TA_SESSION, Q_UUID=1, Q_PARAM_TYPES=0)",
    "sessions of its own": "ask(ch.RQ_CLOSE_TA_SESSION, Q_SESSION=1)",
    "lines": "os.write(1, 64 * b'a line\\n')",
    "empty lines": "os.write(1, 4096 * b'\\n')",
    "lines in turn with waits": "(IMSG('x'), raw(ch.TA_IOC_WAIT, 0))",
    "call windows": "ask(ch.RQ_CALL_WINDOW, Q_FUNC=1)",
}


@pytest.mark.parametrize("flood", _FLOODS.values(), ids=list(_FLOODS))
def test_a_flood(hostile: MakeCaptive, flood: str) -> None:
    captive = hostile(
        f"""
    def attack(self, command, params):
        print("at work")
        while not cancelled():
            {flood}
        for _ in range(1000):
            {flood}
"""
    )
    call = Call(captive.session, 1)
    wait_until(lambda: "at work" in captive.said())
    for _ in range(8):
        captive.others_go_on()

    def ended() -> bool:
        call.operation.cancel()
        return call.is_done

    wait_until(ended)
    captive.others_go_on()


def test_answers_without_end(hostile: MakeCaptive) -> None:
    """It answers each command before it has looked at it: as fast as its own client asks."""
    captive = hostile(
        """
    def attack(self, command, params):
        while raw(ch.TA_IOC_NEXT) == ch.TA_INVOKE:
            pass
"""
    )
    for _ in range(1000):
        code_of(captive.session, 1, Value())
    captive.others_go_on()


def test_sessions_without_end(hostile: MakeCaptive) -> None:
    """An instance has so many sessions with others, and they end with it."""
    captive = hostile(
        f"""
    def attack(self, command, params):
        uuid = bytes.fromhex("{OTHER.replace("-", "")}")
        block = dict(Q_UUID=int.from_bytes(uuid[:8], "little"), Q_PARAM_TYPES=0, Q_TIMEOUT=ANY)
        words()[ch.Q_UUID + 1] = int.from_bytes(uuid[8:], "little")
        while not ask(ch.RQ_OPEN_TA_SESSION, **block):
            params[0].a += 1
        params[0].b = words()[ch.Q_RET]
"""
    )
    captive.tee.put(_HONEST, uuid=OTHER, name="honest", flags="single_instance, multi_session, ")
    alive = captive.tee.instances()
    session = captive.tee.open(UUID)
    value = Value()
    session.invoke(1, value)
    assert (value.a, value.b) == (nested.MAX_SESSIONS, 0xFFFF000C)
    captive.others_go_on()
    session.close()
    wait_until(lambda: captive.tee.instances() <= alive)


_HONEST = """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].a += 1
"""


def test_call_windows_are_no_way_to_memory(hostile: MakeCaptive) -> None:
    """They are shared pages, which no limit of its process counts: so there are only so many."""
    captive = hostile(
        """
    def attack(self, command, params):
        import mmap
        kept = []
        for size in [1 << 26] * 8 + [1 << 20] * 100 + [1] * 10000:
            if ask(ch.RQ_CALL_WINDOW, Q_FUNC=size):
                continue
            fd, size = words()[ch.Q_FUNC], words()[ch.Q_SIZE]
            kept.append(mmap.mmap(fd, size))
            os.close(fd)
            params[0].a += size >> 10
"""
    )
    value = Value()
    captive.session.invoke(1, value)
    assert value.a <= 128 << 10
    captive.others_go_on()


@pytest.mark.parametrize("size", [0, 1, (1 << 26) + 1, 1 << 32, 1 << 63, (1 << 64) - 1])
def test_sizes_of_call_windows(hostile: MakeCaptive, size: int) -> None:
    captive = hostile(
        f"""
    def attack(self, command, params):
        params[0].a = ask(ch.RQ_CALL_WINDOW, Q_FUNC={size})
"""
    )
    value = Value()
    captive.session.invoke(1, value)
    assert value.a == (0 if size <= 1 << 26 else 0xFFFF000C)
    captive.others_go_on()


def test_no_descriptor_is_left_to_take_a_window(hostile: MakeCaptive) -> None:
    captive = hostile(
        """
    def attack(self, command, params):
        while not ask(ch.RQ_CALL_WINDOW, Q_FUNC=1):
            params[0].a += 1
        params[0].b = words()[ch.Q_RET]
"""
    )
    value = Value()
    captive.session.invoke(1, value)
    assert 0 < value.a < 64
    assert value.b == 0xFFFF000C
    captive.others_go_on()
