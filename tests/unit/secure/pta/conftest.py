# SPDX-License-Identifier: BSD-2-Clause
"""A software TEE for pseudo TAs: ``rig``."""

from collections.abc import Iterator

import pytest

from tests.pta_rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()
