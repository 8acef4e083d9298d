# SPDX-License-Identifier: BSD-2-Clause
"""Trusted storage with Arm TAs in processes of their own: what lasts, and what ends when.

The system calls one by one are in tests/unit/ta/svc/test_storage.py.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gentee.abi.gp import (
    TEE_ERROR_ACCESS_CONFLICT,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_STORAGE_NOT_AVAILABLE,
    TEE_ERROR_TARGET_DEAD,
)
from gentee.client import Out, Session, Value
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
        self,
        cmd: int,
        a: int,
        b: int = 0,
        name: bytes = b"",
        data: bytes | Out = b"",
        more: int = 0,
    ) -> tuple[int, bytes]:
        """The handle and the data that come back."""
        value = Value(more)
        self.session.invoke(cmd, Value(a, b), name, data, value)
        return value.a, data.data if isinstance(data, Out) else b""

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


@pytest.fixture(scope="module")
def shared_tee(host: ServiceHost, arch: str) -> Iterator[StorageTee]:
    tee = StorageTee(host, arch, None)
    yield tee
    tee.close()


@pytest.fixture
def tee(host: ServiceHost, shared_tee: StorageTee) -> Iterator[StorageTee]:
    """One TEE for all tests of an architecture, which leave no instance behind."""
    shared_tee.begin()
    yield shared_tee
    shared_tee.end()
    assert not host.bugs


class fails:
    """The block raises a TeeError with this code."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: object, _traceback: object) -> bool:
        assert isinstance(error, TeeError), f"no error, or {error!r}"
        assert error.code == self.code, str(error)
        return True


def test_an_object(tee: StorageTee) -> None:
    client = tee.client()
    for storage in (PRIVATE, RPMB):
        handle = client.create(b"name", b"some data", storage=storage)
        assert client.read(handle, 4) == b"some"
        client.write(handle, b"-DATA")
        client.call(SEEK, handle, 2)
        assert client.read(handle, 100) == b"me-DATA"
        client.call(TRUNCATE, handle, 3)
        client.call(RENAME, handle, 0, b"other name")
        client.shut(handle)
        handle = client.open(b"other name", storage=storage)
        assert client.read(handle, 100) == b"som"
        client.call(START, storage)
        assert client.call(NEXT, 0, data=Out(64))[1] == b"other name"
        client.call(DELETE, handle)
        with fails(TEE_ERROR_ITEM_NOT_FOUND):
            client.open(b"other name", storage=storage)


def test_keys(tee: StorageTee) -> None:
    client = tee.client()
    key, _ = client.call(KEY, 0, 1, data=bytes(range(16)))
    client.shut(client.create(b"key", key=key))
    client = tee.client()
    handle = client.open(b"key")
    assert client.call(KEY, handle, data=Out(64))[1] == bytes(range(16))
    client.call(DELETE, handle)


def test_large_data(tee: StorageTee) -> None:
    client = tee.client()
    data = bytes(range(251)) * 4000
    handle = client.create(b"large", data)
    client.write(handle, data[::-1])
    client.call(SEEK, handle, 0)
    assert client.read(handle, 1 << 20) == data[::-1]
    client.call(DELETE, handle)


def test_sessions_of_several_instances(tee: StorageTee) -> None:
    one, two, other = tee.client(), tee.client(), tee.client(STORAGE2)
    handle = one.create(b"x", b"data", READ | SHARE_READ)
    with fails(TEE_ERROR_ACCESS_CONFLICT):
        two.open(b"x", READ)
    assert two.read(two.open(b"x", READ | SHARE_READ), 10) == b"data"
    with fails(TEE_ERROR_ITEM_NOT_FOUND):
        other.open(b"x", READ)
    one.shut(handle)
    one.session.close()
    two.session.close()
    last = tee.client()
    last.call(DELETE, last.open(b"x"))


def test_sessions_of_one_instance(tee: StorageTee) -> None:
    one, two = tee.client(STORAGE_SINGLE), tee.client(STORAGE_SINGLE)
    handle = one.create(b"x", b"data")
    assert two.read(handle, 10) == b"data"
    with fails(TEE_ERROR_ACCESS_CONFLICT):
        two.open(b"x", READ)
    two.call(DELETE, handle)


def test_what_was_open_is_open_no_more_when_the_session_is_closed(tee: StorageTee) -> None:
    """The process may end a little later: nobody sees that."""
    first = tee.client()
    first.create(b"x", b"data")
    for _ in range(20):
        first.session.close()
        first = tee.client()
        first.open(b"x")
    first.session.close()
    last = tee.client()
    last.call(DELETE, last.open(b"x"))


def test_what_was_open_is_open_no_more_after_a_panic(tee: StorageTee) -> None:
    first = tee.client()
    first.create(b"x", b"data")
    for _ in range(5):
        with fails(TEE_ERROR_TARGET_DEAD):
            first.call(PANIC, 1)
        first = tee.client()
        handle = first.open(b"x")
    first.call(DELETE, handle)


def test_many_at_once(tee: StorageTee) -> None:
    """Each has its own object; all of them have what was written last."""
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            client = tee.client()
            name = bytes((number,))
            handle = client.create(name, bytes(100))
            for count in range(20):
                client.call(SEEK, handle, 10)
                client.write(handle, bytes((number, count)))
            client.call(SEEK, handle, 9)
            assert client.read(handle, 4) == bytes((0, number, 19, 0))
            client.call(DELETE, handle)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_it_is_kept(host: ServiceHost, arch: str, folder: Path) -> None:
    tee = StorageTee(host, arch, folder)
    client = tee.client()
    key, _ = client.call(KEY, 0, 1, data=bytes(range(16)))
    client.shut(client.create(b"name", b"first"))
    client.shut(client.create(b"name", b"second", ALL | OVERWRITE, key=key))
    client.shut(client.create(b"name", b"of the other storage", storage=RPMB))
    handle = client.open(b"name", READ | WRITE)
    client.write(handle, b"S")
    tee.close()
    assert (folder / SECRET_FILE).stat().st_mode & 0o777 == 0o600
    tee = StorageTee(host, arch, folder)
    client = tee.client()
    handle = client.open(b"name")
    assert client.read(handle, 100) == b"Second"
    assert client.call(KEY, handle, data=Out(64))[1] == bytes(range(16))
    assert client.read(client.open(b"name", storage=RPMB), 100) == b"of the other storage"
    tee.close()
    (folder / SECRET_FILE).write_bytes(bytes(32))
    tee = StorageTee(host, arch, folder)
    for _ in range(2):
        with fails(TEE_ERROR_STORAGE_NOT_AVAILABLE):
            tee.client().open(b"name")
    wait_until(lambda: bool(tee.warnings))
    (warning,) = tee.warnings
    assert "another device secret" in warning
    tee.close()
