# SPDX-License-Identifier: BSD-2-Clause
"""What a warm parent runs."""

import os
import socket
from typing import Any, cast

import pytest

from gentee.linux.notify import Notifier
from gentee.secure.warm_parent import ARM_MODULE, MODULE, Birth, WarmParent
from tests.helpers import LocalHost


class _Notifier:
    """What of a notifier a warm parent needs."""

    def __init__(self) -> None:
        self.introductions: dict[int, Any] = {}


class _Host(LocalHost):
    """A host that notes what it is to start."""

    def __init__(self) -> None:
        super().__init__()
        self._notifier = _Notifier()
        self.modules: list[str] = []

    def notifier(self) -> Notifier:
        return cast(Notifier, self._notifier)

    def spawn_trapped(self, module: str, socket_fd: int) -> None:
        self.modules.append(module)
        self.theirs = socket.socket(fileno=os.dup(socket_fd))


@pytest.mark.parametrize(
    ("arguments", "module"), [((), MODULE), ((MODULE,), MODULE), ((ARM_MODULE,), ARM_MODULE)]
)
def test_it_is_started_once_with_its_module(arguments: tuple[str, ...], module: str) -> None:
    host = _Host()
    warm_parent = WarmParent(host, *arguments)
    for _ in range(2):
        warm_parent.spawn(Birth(lambda *_: None, lambda _: None, lambda: None))
    assert host.modules == [module]
    warm_parent.close()
    host.theirs.close()
    host.close()
