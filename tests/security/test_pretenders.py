# SPDX-License-Identifier: BSD-2-Clause
"""A client that pretends to be a trusted service."""

from collections.abc import Callable

import pytest

from tests.functional.conftest import SERVICES


@pytest.mark.client("hostile_pretenders.c", "--driver", "loopback")
def test_pretenders(attack: Callable[[], None]) -> None:
    attack()


@pytest.mark.client("hostile_pretenders.c", "--ta-dir", SERVICES)
def test_pretenders_among_services(
    attack: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEE_CLIENT_SERVICE", "3e304217-6a0d-4f6b-8f6a-1b2c3d4e5f02")
    attack()
