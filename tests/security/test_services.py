# SPDX-License-Identifier: BSD-2-Clause
"""A hostile service, and what can go wrong with services when many are wanted or nobody waits."""

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from gentee.core.calls import InvokeArg
from gentee.linux.notify import Notifier
from gentee.secure.store import TaStore
from gentee.secure.tee import ServiceSession, SoftTee
from gentee.secure.warm_parent import Birth, WarmParent
from tests.functional.conftest import SERVICES
from tests.helpers import LocalHost, make_device
from tests.outside import wait_until

HERE = Path(__file__).parent


@pytest.mark.client(
    "hostile_services.c", "--quiet", "--ta-dir", SERVICES, "--ta-dir", HERE / "services"
)
def test_services(attack: Callable[[], None]) -> None:
    attack()


class _Notifier:
    """What of a notifier a warm parent needs."""

    def __init__(self) -> None:
        self.introductions: dict[int, Any] = {}


class _BusyHost(LocalHost):
    """A host whose warm parent does not read what it is sent, as long as it is busy."""

    def __init__(self) -> None:
        super().__init__()
        self._notifier = _Notifier()
        self.theirs: socket.socket | None = None

    def notifier(self) -> Notifier:
        return cast(Notifier, self._notifier)

    def spawn_trapped(self, module: str, socket_fd: int) -> None:
        self.theirs = socket.socket(fileno=os.dup(socket_fd))


def test_a_busy_warm_parent_holds_up_nobody() -> None:
    """Nobody waits for it in a send, while it waits for somebody who reads."""
    host = _BusyHost()
    warm_parent = WarmParent(host)
    failed: list[int] = []
    for number in range(2000):
        fail = partial(failed.append, number)
        warm_parent.spawn(Birth(lambda *_: None, lambda _: None, fail))
    assert len(host._notifier.introductions) == 2000
    assert not failed
    # When it ends all of them fail, also those that it was never asked for.
    assert host.theirs is not None
    host.theirs.close()
    wait_until(lambda: len(failed) == 2000)
    assert sorted(failed) == list(range(2000))
    assert not host._notifier.introductions
    host.close()


class _Instance:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def submit(self, command: object) -> None:
        self.asked.append("submit")

    def cancel(self, command: object) -> None:
        self.asked.append("cancel")


def test_a_call_that_nobody_waits_for_any_more_is_cancelled() -> None:
    """Its client may have gone before the service had it."""
    device = make_device()
    host = _BusyHost()
    tee = SoftTee(host, TaStore([]))
    instance = _Instance()
    arg = InvokeArg(cast(Any, type("Context", (), {"teedev": device})()), 0, 1, 0, [], print)
    arg.priv = ServiceSession(cast(Any, instance), 1)
    arg.abandon()
    tee.invoke(arg)
    assert instance.asked == ["submit", "cancel"]
    host.close()
