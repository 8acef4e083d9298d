# SPDX-License-Identifier: BSD-2-Clause
"""Trusted storage with Arm TAs in processes of their own: what lasts, and what ends when.

The system calls one by one are in tests/unit/ta/svc/test_storage.py.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gentee.abi.gp import (
    TEE_ERROR_ACCESS_CONFLICT,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_STORAGE_NOT_AVAILABLE,
    TEE_ERROR_TARGET_DEAD,
)
from gentee.client import INPUT, Out, Session, Value
from gentee.errors import TeeError
from gentee.secure.storage.seal import SECRET_FILE
from tests import arm_tas
from tests.arm_tas import STORAGE, STORAGE2, STORAGE_SINGLE, uuid_of
from tests.helpers import ServiceHost, wait_until
from tests.storage_rig import ALL, OVERWRITE, PRIVATE, READ, RPMB, SHARE_READ, WRITE
from tests.ta_build import ARCHES
from tests.ta_clients import ArmTee

(
    OPEN, CREATE, CLOSE, DELETE, RENAME, READ_DATA, WRITE_DATA, TRUNCATE, SEEK, START, NEXT, KEY,
    PANIC,
) = range(13)  # fmt: skip


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture(scope="module", params=ARCHES)
def arch(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    return state


class StorageTee(ArmTee):
    """A TEE that can be stopped and started."""

    def __init__(self, host: ServiceHost, arch: str, state: Path | None) -> None:
        super().__init__(
            host, arm_tas.all_of(arch), arch, state=str(state) if state is not None else None
        )

    def client(self, number: int = STORAGE) -> "Client":
        return Client(self.open(uuid_of(number)))


class Client:
    """A session with tests/tas/storage.c."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def call(
        self, cmd: int, a: int, b: int = 0, name: bytes = b"", data: Any = INPUT, more: int = 0
    ) -> tuple[int, bytes]:
        value = Value(more)
        out = data if isinstance(data, Out) else None
        given = data if isinstance(data, (bytes, Out)) else b""
        self.session.invoke(cmd, Value(a, b), name, given, value)
        return value.a, bytes(out.data) if out is not None else b""

    def open(self, name: bytes, flags: int = ALL, storage: int = PRIVATE) -> int:
        return self.call(OPEN, storage, flags, name)[0]

    def create(
        self, name: bytes, data: bytes = b"", flags: int = ALL, storage: int = PRIVATE, key: int = 0
    ) -> int:
        return self.call(CREATE, storage, flags, name, data, key)[0]

    def read(self, handle: int, size: int) -> bytes:
        return self.call(READ_DATA, handle, data=Out(size))[1]

    def write(self, handle: int, data: bytes) -> None:
        self.call(WRITE_DATA, handle, data=data)

    def shut(self, handle: int) -> None:
        self.call(CLOSE, handle)
