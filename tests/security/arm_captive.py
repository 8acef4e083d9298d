# SPDX-License-Identifier: BSD-2-Clause
"""A hostile OP-TEE TA beside an honest one, in one TEE: tests/tas/hostile.c.

The honest one is the same binary under a UUID of its own, asked for nothing but to count. It has a
session that is open before the attack, and must have right answers during and after it.
"""

import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from gentee.abi.gp import TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE
from gentee.client import Context, Session, SharedMemory, Value
from gentee.errors import TeeError
from tests import arm_tas, signing
from tests.functional.test_services import Tee
from tests.helpers import ServiceHost, wait_until
from tests.security.captive import service_host
from tests.ta_build import ARCHES
from tests.ta_run import ta_bytes

HOSTILE, HONEST = 1, 2  # numbers of UUIDs

# Commands of tests/tas/hostile.c
(
    PING, WHERE, CALLS, LOOP, DEEPER, PEEK, POKE, JUMP, RUN_STACK, WRITE_CODE, KEEP, USE_KEPT,
    CALL_FOR_EVER, LOG_FOR_EVER, FILL, MAP_ALL, MODIFY,
) = range(17)  # fmt: skip

PAGE = 4096
SCRATCH = 4 * PAGE  # bytes of its memory that a test can fill
STACK = 16384

_CALL = struct.Struct("<16Q")
MOST_CALLS = 128  # of one command
FREE = MOST_CALLS * _CALL.size  # from here on the client's memory is not used, for a page

FOREVER = 0xFFFF_FFFF  # TEE_TIMEOUT_INFINITE
TA_FLAG_SINGLE_INSTANCE = 1 << 2
TA_FLAG_MULTI_SESSION = 1 << 3


class Where(NamedTuple):
    """Addresses in the TA: what it has there it owns, but for ``client``."""

    code: int
    constant: int
    data: int
    scratch: int
    stack: int
    params: int
    client: int
    head: int


class SystemCall(NamedTuple):
    """A system call as the TA is to make it.

    :ivar args: up to eight: registers, in a 32-bit TA words of the stack from the fifth on.
    :ivar on_stack: r6: how many are there; of 32-bit TAs only, as ``stack``.
    :ivar stack: r5, 0 for the right place.
    :ivar times: how often it is made, as long as it succeeds.
    """

    number: int
    args: Sequence[int] = ()
    on_stack: int = 4
    stack: int = 0
    times: int = 1


class Answer(NamedTuple):
    """What came of it: how often it was made, and the last result."""

    done: int
    result: int
    high: int  # upper half of the result register
    kept: bool  # all other registers are as they were


class Hostile:
    """A session of the hostile TA, with memory that is shared with it."""

    def __init__(self, context: Context, number: int = HOSTILE) -> None:
        self.context = context
        self.session = context.open_session(arm_tas.uuid_of(number))
        self.memory = SharedMemory.allocate(context, MOST_CALLS * _CALL.size + PAGE)

    def invoke(self, command: int, a: int = 0, b: int = 0, c: int = 0) -> int:
        """A command with its value and the memory; what it returns in the value."""
        value, memory, third = self.params(a, b, c)
        self.session.invoke(command, value, memory, third)
        return value.a

    def params(self, a: int = 0, b: int = 0, c: int = 0) -> tuple[Value, SharedMemory, Value]:
        """Those of each command."""
        return Value(a, b), self.memory, Value(c, 0)

    def where(self) -> Where:
        self.invoke(WHERE)
        return Where(*struct.unpack_from("<8Q", self.memory.buffer))

    def fill(self, data: bytes) -> None:
        """Put bytes at the start of its scratch memory."""
        assert len(data) <= min(SCRATCH, self.memory.size)
        self.memory.buffer[: len(data)] = data
        self.invoke(FILL, len(data))

    def call(self, *calls: SystemCall) -> list[Answer]:
        """Make system calls one after the other."""
        self.start(*calls)
        self.invoke(CALLS, len(calls))
        return self.answers(len(calls))

    def start(self, *calls: SystemCall) -> None:
        """Put calls into the memory."""
        for index, call in enumerate(calls):
            args = (*call.args, *(0,) * (8 - len(call.args)))
            words = (call.number, *args, call.on_stack, call.stack, call.times, 0, 0, 0, 0)
            _CALL.pack_into(
                self.memory.buffer,
                index * _CALL.size,
                *(word & 0xFFFF_FFFF_FFFF_FFFF for word in words),
            )

    def answers(self, count: int) -> list[Answer]:
        """What stands in the memory now."""
        found = []
        for index in range(count):
            words = _CALL.unpack_from(self.memory.buffer, index * _CALL.size)
            found.append(Answer(words[12], words[13], words[14], bool(words[15])))
        return found


class ArmCaptive:
    """A TEE with both TAs."""

    def __init__(self, host: ServiceHost, folder: Path, arch: str, **options: object) -> None:
        self.arch = arch
        self.is_32bit = arch == "arm"
        self.folder = folder
        flags = str(options.pop("flags", ""))  # of the hostile one
        plain = ta_bytes("hostile", arch)
        elf = ta_bytes("hostile", arch, f"-DFLAGS={flags}") if flags else plain
        arm_tas.sign_into(folder, arm_tas.uuid_of(HOSTILE), elf)
        arm_tas.sign_into(folder, arm_tas.uuid_of(HONEST), plain)
        key = signing.key_file(folder)
        self.tee = Tee(host, folder, keys=[key], strict=True, **options)
        self.name = arm_tas.uuid_of(HOSTILE).partition("-")[0]  # in the log
        self._other = self.tee.open(arm_tas.uuid_of(HONEST))
        self.hostile = self.fresh()

    def fresh(self) -> Hostile:
        """A new instance of the hostile TA."""
        return Hostile(self.tee.context())

    def fresh_honest(self) -> Hostile:
        """A new instance of the other one, which can do the same."""
        return Hostile(self.tee.context(), HONEST)

    def others_go_on(self) -> None:
        """The honest TA's session, and a fresh instance of the hostile one."""
        self.honest()
        fresh = self.tee.open(arm_tas.uuid_of(HOSTILE))
        ping(fresh)
        fresh.close()

    def honest(self) -> None:
        """The honest TA's session that was there before."""
        ping(self._other)

    def dies(self, attack: Callable[[], object]) -> None:
        """The attack costs its own session; another one is there afterwards."""
        with pytest.raises(TeeError) as raised:
            attack()
        error = raised.value
        assert (error.code, error.origin) == (TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE)
        self.others_go_on()
        self.hostile = self.fresh()

    def during(self, attack: Callable[[], object], turns: int = 30) -> BaseException | None:
        """Others go on while the attack lasts; what it raised at last."""
        raised: list[BaseException | None] = []

        def run() -> None:
            try:
                attack()
            except BaseException as error:
                raised.append(error)
            else:
                raised.append(None)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        for _ in range(turns):
            self.honest()
        self.others_go_on()
        wait_until(lambda: raised)
        thread.join()
        self.others_go_on()
        return raised[0]

    @property
    def lines(self) -> list[str]:
        return self.tee.lines

    def instances(self) -> int:
        return self.tee.instances()


def ping(session: Session) -> None:
    value = Value(41)
    session.invoke(PING, value)
    assert value.a == 42


MakeArmCaptive = Callable[..., ArmCaptive]


@pytest.fixture(params=ARCHES)
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def arm_captive(service_host: ServiceHost, tmp_path: Path) -> Iterator[MakeArmCaptive]:
    """``arm_captive(arch, **options)``; ``flags``: those of the hostile TA."""
    captives: list[ArmCaptive] = []

    def make(arch: str, **options: object) -> ArmCaptive:
        folder = tmp_path / str(len(captives))
        folder.mkdir()
        captive = ArmCaptive(service_host, folder, arch, **options)
        captives.append(captive)
        return captive

    yield make
    for captive in captives:
        for source, _level, line in captive.tee.logged:  # pytest shows it of a test that fails
            print(f"{source}: {line}")
        captive.tee.close()
    assert not service_host.bugs


__all__ = [
    "ArmCaptive",
    "Hostile",
    "MakeArmCaptive",
    "SystemCall",
    "arch",
    "arm_captive",
    "service_host",
]
