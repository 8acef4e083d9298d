# SPDX-License-Identifier: BSD-2-Clause
"""Files that change their size while they are shared memory, and shared memory that must not."""

from collections.abc import Callable

import pytest

from tests.functional.conftest import SERVICES


@pytest.mark.client("hostile_memfds.c", "--driver", "loopback")
def test_memfds(attack: Callable[[], None]) -> None:
    attack()


@pytest.mark.client("hostile_memfds.c", "--ta-dir", SERVICES)
def test_memfds_in_a_service(attack: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEE_CLIENT_SERVICE", "3e304217-6a0d-4f6b-8f6a-1b2c3d4e5f02")
    attack()
