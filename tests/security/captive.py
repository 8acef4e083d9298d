# SPDX-License-Identifier: BSD-2-Clause
"""A hostile service beside an honest one, in one TEE."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gentee.abi.gp import TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE
from gentee.client import Session, Value
from gentee.errors import TeeError
from tests.functional.test_services import OTHER, UUID, Tee
from tests.helpers import ServiceHost

_HONEST = """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].a += 1
"""

# The first command works, so that a fresh instance can be tried; the others are the attack.
_HOSTILE = """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        if command_id:
            self.attack(command_id, params)
"""


class Captive:
    """The TEE, with a session of the honest service that was open before the attack."""

    def __init__(self, tee: Tee, attack: str) -> None:
        self.tee = tee
        tee.put(_HONEST, uuid=OTHER, name="honest")
        tee.put(_HOSTILE + attack, name="hostile")
        self._other = tee.open(OTHER)
        self.session = tee.open()
        self.session.invoke(0)

    def dies(self, command: int, *params: object) -> None:
        """The attack costs its own session."""
        with pytest.raises(TeeError) as raised:
            self.session.invoke(command, *params)  # type: ignore[arg-type]
        error = raised.value
        assert (error.code, error.origin) == (TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE)
        self.others_go_on()
        self.session = self.tee.open()

    def others_go_on(self) -> None:
        """The other service's session, and a fresh instance of this one."""
        value = Value(41)
        self._other.invoke(0, value)
        assert value.a == 42
        fresh = self.tee.open()
        fresh.invoke(0)
        fresh.close()

    def said(self) -> list[str]:
        return self.tee.lines


MakeCaptive = Callable[..., Captive]


@pytest.fixture(scope="module")
def service_host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture
def captive(service_host: ServiceHost, tmp_path: Path) -> Iterator[MakeCaptive]:
    """``captive(attack, **options)``: the body of ``def attack(self, command, params)``."""
    tees: list[Tee] = []

    def make(attack: str, **options: object) -> Captive:
        tee = Tee(service_host, tmp_path, **options)
        tees.append(tee)
        return Captive(tee, attack)

    yield make
    for tee in tees:
        for source, _level, line in tee.logged:  # pytest shows it of a test that fails
            print(f"{source}: {line}")
        tee.close()
    assert not service_host.bugs


__all__ = ["UUID", "Captive", "MakeCaptive", "Session", "captive", "service_host"]
