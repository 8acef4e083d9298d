# SPDX-License-Identifier: BSD-2-Clause
"""What the TAs of tests/tas understand, for clients: actor.c, memory.c, and TEEs that have them."""

import enum
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Any

from gentee.abi.gp import TEE_SUCCESS
from gentee.client import Session, Value
from gentee.secure.service import parse_uuid
from tests import arm_tas, signing
from tests.functional.test_services import Tee
from tests.helpers import ServiceHost, wait_until


class Do(enum.IntEnum):
    """Commands of actor.c."""

    WHO = 0
    RETURN = 1
    PANIC = 2
    FAULT = 3
    CLIENT = 4
    WAIT = 5
    POLL = 6
    CALL = 7
    DEEPER = 8
    SHAREABLE = 9
    TWICE = 10
    LOG_LINES = 11


class Die(enum.IntEnum):
    """What actor.c is told when a session is opened, in ``b``."""

    LIVE = 0
    NOW = 1
    AT_CLOSE = 2
    AT_DESTROY = 3
    BY_FAULT = 4


class Memory(enum.IntEnum):
    """Commands of memory.c."""

    NOTHING = 0
    LOOK = 1
    TURN = 2
    SET_SIZE = 3
    KEEP = 4
    READ_KEPT = 5
    WRITE_KEPT = 6
    PEEK = 7
    RIGHTS = 8
    RENDEZVOUS = 9
    SUM = 10
    STACK_OF = 11
    GROWN = 12
    POKE = 13
    CACHE = 14


class Place(enum.IntEnum):
    """Where memory.c looks."""

    PARAMETER = 0
    STACK = 1
    DATA = 2
    BSS = 3
    CONSTANT = 4
    CODE = 5
    NULL = 6
    KEPT = 7
    BELOW_STACK = 8


# What the address of a memory reference of a nested call counts from.
AT_ADDRESS, IN_PARAMETER, IN_PRIVATE = range(3)

OPEN, CLOSE, INVOKE = range(3)
UNMASKED = 0x100
_REQUEST = Struct("<IHH8s6I4I9Q")  # struct request
TIMEOUT_INFINITE = 0xFFFFFFFF


def native_uuid(uuid: str) -> bytes:
    """A UUID as a TEE_UUID has it."""
    octets = parse_uuid(uuid)
    return octets[3::-1] + octets[5:3:-1] + octets[7:5:-1] + octets[8:]


class Result:
    """What a nested call came to: result, origin, and the values after it."""

    def __init__(self, memory: bytes | bytearray) -> None:
        fields: tuple[int, ...] = _REQUEST.unpack(memory)
        self.session, self.result, self.origin = fields[5], fields[8], fields[9]
        self.vals = fields[15:]


class Request:
    """A call that an actor is to make, as a parameter of Do.CALL.

    :param where: what the address of each memory reference counts from.
    """

    def __init__(
        self, what: int, uuid: str, session: int, cmd: int, types: int = 0,
        vals: Sequence[int] = (), where: Sequence[int] = (), timeout: int = TIMEOUT_INFINITE,
    ) -> None:  # fmt: skip
        octets = parse_uuid(uuid) if uuid else bytes(16)
        self.memory = bytearray(
            _REQUEST.pack(
                int.from_bytes(octets[:4]), int.from_bytes(octets[4:6]),
                int.from_bytes(octets[6:8]), octets[8:], what, session, timeout, cmd, 0, 0,
                *_filled(where, 4), types, *_filled(vals, 8),
            )
        )  # fmt: skip

    def result(self) -> Result:
        return Result(self.memory)


def _filled(values: Sequence[int], count: int) -> tuple[int, ...]:
    return (*values, *(0,) * (count - len(values)))


class Caller:
    """A session with an actor that calls other services.

    ``memory`` is a parameter that the actor gets besides, for references IN_PARAMETER.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    def open(
        self, uuid: str, types: int = 0, vals: Sequence[int] = (), where: Sequence[int] = (),
        timeout: int = TIMEOUT_INFINITE, memory: object = None,
    ) -> Result:  # fmt: skip
        return self.call(Request(OPEN, uuid, 0, 0, types, vals, where, timeout), memory)

    def must_open(self, uuid: str) -> int:
        """The number of a new session."""
        opened = self.open(uuid)
        assert opened.result == TEE_SUCCESS, hex(opened.result)
        return opened.session

    def invoke(
        self, session: int, cmd: int, types: int = 0, vals: Sequence[int] = (),
        where: Sequence[int] = (), timeout: int = TIMEOUT_INFINITE, memory: object = None,
    ) -> Result:  # fmt: skip
        return self.call(Request(INVOKE, "", session, cmd, types, vals, where, timeout), memory)

    def close(self, session: int) -> Result:
        return self.call(Request(CLOSE, "", session, 0), None)

    def call(self, request: Request, memory: object) -> Result:
        more: tuple[Any, ...] = () if memory is None else (memory,)
        self.session.invoke(Do.CALL, request.memory, *more)
        return request.result()


class Who:
    """An actor about itself."""

    def __init__(self, session: Session) -> None:
        first, second = Value(), Value()
        session.invoke(Do.WHO, first, second)
        self.instance, self.sessions = first.a, first.b
        self.created, self.build = second.a, second.b


class ArmTee(Tee):
    """A software TEE with Arm TAs, for tests one after the other."""

    def __init__(self, host: ServiceHost, folder: Path, arch: str, **options: object) -> None:
        given: dict[str, object] = {
            "keys": [signing.key_file(folder)],
            "strict": True,
            "memory_limit": 64,
        }
        super().__init__(host, folder, **{**given, **options})
        self.arch = arch

    def begin(self) -> None:
        """Forget what was logged."""
        self._logged = len(self.host.logged)
        self._warned = len(self.host.warnings)

    def end(self, kept: int = 0) -> None:
        """Close what a test has opened; no instance is left but those that are kept alive."""
        for context in self.contexts:
            context.finalize()
        self.contexts.clear()
        wait_until(lambda: self.instances() <= kept, "instances without sessions")

    def wait_template(self, number: int) -> None:
        """Wait until new instances of this TA are forked from one that is loaded."""
        (soft,) = self.driver._tees
        templates = soft._templates._templates
        uuid = parse_uuid(arm_tas.uuid_of(number))
        wait_until(lambda: uuid in templates and templates[uuid].instance.is_ready)

    def actor(self, number: int, *params: object) -> Session:
        """A session with the TA of this number, in a context of its own."""
        return self.open(arm_tas.uuid_of(number), *params)  # type: ignore[arg-type]
