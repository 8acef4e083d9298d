# SPDX-License-Identifier: BSD-2-Clause
"""gentee.secure.normal_world.plugins: what a plugin that takes its time to load costs."""

import threading
from collections.abc import Callable

import pytest

from gentee.abi.gp import TEE_ERROR_COMMUNICATION, TEE_ERROR_ITEM_NOT_FOUND, TEE_ERROR_OUT_OF_MEMORY
from gentee.core.workers import WORKERS
from gentee.errors import TeeError
from gentee.secure.normal_world.plugins import MAX_CALLS, Plugins
from tests.helpers import PATIENCE, LocalHost, wait_until


def test_calls_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are given up again and again while the plugins are loaded."""
    host = LocalHost()
    plugins = Plugins(host, [])
    go_on = threading.Event()

    def sources() -> list[tuple[str, dict[str, object]]]:
        assert go_on.wait(PATIENCE)
        return []

    monkeypatch.setattr(plugins, "_sources", sources)
    codes: list[int] = []

    def failed(error: TeeError) -> None:
        codes.append(error.code)

    def invoke() -> Callable[[], None]:
        return plugins.invoke(bytes(16), 0, 0, b"", lambda *_: pytest.fail("there is none"), failed)

    for _ in range(MAX_CALLS):
        invoke()()
    assert codes == [TEE_ERROR_COMMUNICATION] * MAX_CALLS
    invoke()()
    assert codes[MAX_CALLS:] == [TEE_ERROR_OUT_OF_MEMORY]
    others = threading.Semaphore(0)
    for _ in range(100):  # the TEE's other threads are as free as before
        WORKERS.submit(others.release)
    for _ in range(100):
        assert others.acquire(timeout=PATIENCE)
    go_on.set()
    wait_until(lambda: plugins._beginning == 0)
    del codes[:]
    invoke()
    wait_until(lambda: codes == [TEE_ERROR_ITEM_NOT_FOUND])
    plugins.close()
    host.close()
