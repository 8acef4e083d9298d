# SPDX-License-Identifier: BSD-2-Clause
"""Trusted storage for tests, without processes: TAs that make system calls, and their storage.

Instances are those of :mod:`tests.svc_ta`; what they ask for is done at once, by the storage that a
TEE has, in a state folder or in memory.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, cast

from gentee.abi import gp_crypto as gp
from gentee.abi import gp_storage as gps
from gentee.abi import optee_ta as abi
from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_SUCCESS
from gentee.core.host import Host
from gentee.secure.instance import Instance
from gentee.secure.requests import Request
from gentee.secure.state import State
from gentee.secure.storage.door import StorageDoor
from gentee.secure.storage.service import Storage
from tests.svc_ta import DATA, PAGE, RW, UUID, TestedTa

READ = gps.TEE_DATA_FLAG_ACCESS_READ
WRITE = gps.TEE_DATA_FLAG_ACCESS_WRITE
META = gps.TEE_DATA_FLAG_ACCESS_WRITE_META
SHARE_READ = gps.TEE_DATA_FLAG_SHARE_READ
SHARE_WRITE = gps.TEE_DATA_FLAG_SHARE_WRITE
OVERWRITE = gps.TEE_DATA_FLAG_OVERWRITE
ALL = READ | WRITE | META

PRIVATE = gps.TEE_STORAGE_PRIVATE
REE = gps.TEE_STORAGE_PRIVATE_REE
RPMB = gps.TEE_STORAGE_PRIVATE_RPMB

# Where arguments are, in the TA's memory
NAME = DATA
HANDLE = DATA + 128
COUNT = DATA + 136
INFO = DATA + 192
FOUND = DATA + 256  # a name that an enumeration gives
BUFFER = 0x50000000  # data, two pages
BUFFER_SIZE = 2 * PAGE


class Window:
    """The call window of a FakeTee."""

    def __init__(self, ta: TestedTa) -> None:
        self._ta = ta

    @property
    def size(self) -> int:
        return len(self._ta.tee.memory or b"")

    def view(self, offset: int, size: int) -> memoryview:
        return memoryview(self._ta.tee.memory or b"")[offset : offset + size]


class Service:
    def __init__(self, uuid: bytes) -> None:
        self.uuid = uuid


class FakeInstance:
    """What storage uses of an instance."""

    def __init__(self, ta: TestedTa, uuid: bytes) -> None:
        self.service = Service(uuid)
        self.mailbox = ta.tee._words
        self.call_window: Window | None = Window(ta)
        self.storage = None
        self.uses_storage = True
        self.awaited: FakeInstance | None = None
        self.dead = False
        self.ending = False
        self.waiting: list[Callable[[], None]] = []
        self.replies: list[tuple[int, dict[int, int]]] = []

    def start_after(self, start: Callable[[], None]) -> bool:
        if not self.dead:
            self.waiting.append(start)
        return not self.dead

    def reply(self, notify_id: int, result: int, words: Iterable[tuple[int, int]]) -> None:
        self.replies.append((result, dict(words)))


class FakeNested:
    """Instances that wait for no other one."""

    def __init__(self) -> None:
        self.allows = True

    def await_end(self, waiter: FakeInstance, other: FakeInstance) -> bool:
        if self.allows:
            waiter.awaited = other
        return self.allows


class FakeHost:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def bug(self, error: BaseException) -> None:
        raise error


class FakeDoor:
    """Requests that had to wait are kept in ``later``."""

    def __init__(self) -> None:
        self.later: list[tuple[Request, int]] = []

    def again(self, request: Request, code: int) -> None:
        self.later.append((request, code))


class Tee:
    """A TEE's storage.

    :param folder: its state folder; None for storage in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.host = FakeHost()
        self.nested = FakeNested()
        self.door = FakeDoor()
        self.tas: list[StorageTa] = []
        self.open()

    def open(self) -> None:
        self.state = State(str(self.folder) if self.folder is not None else None)
        self.storage = Storage(
            cast(Host, self.host),
            cast(StorageDoor, self.door),
            lambda: self.state,
            cast(Any, self.nested),
        )

    def reopen(self) -> None:
        """As after the end of the TEE, and of all its instances."""
        for ta in self.tas:
            ta.end()
        self.tas.clear()
        self.state.close()
        self.open()

    def ta(self, arch: str = "aarch64", uuid: bytes = UUID) -> "StorageTa":
        """Another instance."""
        made = StorageTa(self, arch, uuid)
        self.tas.append(made)
        return made

    def close(self) -> None:
        for ta in self.tas:
            ta.end()
        self.state.close()


class StorageTa(TestedTa):
    """An instance of a TA. Methods make system calls; they raise :class:`Failed`."""

    __test__ = False

    def __init__(self, tee: Tee, arch: str, uuid: bytes) -> None:
        super().__init__(arch)
        self.add(BUFFER, 2, RW, "buffer", UUID)
        self.uuid = uuid
        self.system = tee
        self.instance = FakeInstance(self, uuid)
        for code in range(ch.RQ_STORAGE_OPEN, ch.RQ_STORAGE_STOP_ENUM + 1):
            self.tee.answers[code] = partial(self._answer, code)

    def _answer(self, code: int, channel: object) -> int:
        request = Request(cast(Instance, self.instance), 7)
        self.system.storage.serve(request, code)
        if not self.instance.replies and self.instance.awaited is not None:
            raise Waits
        ((result, words),) = self.instance.replies
        self.instance.replies.clear()
        for index, value in words.items():
            self.tee[index] = value
        return result

    def release(self) -> None:
        """The instance has ended."""
        self.instance.dead = True
        self.system.storage.release(cast(Instance, self.instance))

    # System calls

    def do(self, number: int, *args: int) -> None:
        result = self.call(number, *args)
        if result != TEE_SUCCESS:
            raise Failed(result)

    def _name(self, name: bytes) -> tuple[int, int]:
        self.write(NAME, name)
        return NAME, len(name)

    def open(self, name: bytes, flags: int = ALL, storage: int = PRIVATE) -> int:
        self.do(abi.TEE_SCN_STORAGE_OBJ_OPEN, storage, *self._name(name), flags, HANDLE)
        return self.u32(HANDLE)

    def create(
        self, name: bytes, flags: int = ALL, data: bytes = b"", storage: int = PRIVATE,
        attr: int = 0, handle: int = HANDLE,
    ) -> int:  # fmt: skip
        self.write(BUFFER, data)
        self.do(
            abi.TEE_SCN_STORAGE_OBJ_CREATE,
            storage, *self._name(name), flags, attr, BUFFER, len(data), handle,
        )  # fmt: skip
        return self.u32(HANDLE) if handle else 0

    def shut(self, handle: int) -> None:
        self.do(abi.TEE_SCN_CRYP_OBJ_CLOSE, handle)

    def delete(self, handle: int) -> None:
        self.do(abi.TEE_SCN_STORAGE_OBJ_DEL, handle)

    def rename(self, handle: int, name: bytes) -> None:
        self.do(abi.TEE_SCN_STORAGE_OBJ_RENAME, handle, *self._name(name))

    def read_data(self, handle: int, size: int, buffer: int = BUFFER) -> bytes:
        self.do(abi.TEE_SCN_STORAGE_OBJ_READ, handle, buffer, size, COUNT)
        return self.read(buffer, int.from_bytes(self.read(COUNT, 8), "little"))

    def write_data(self, handle: int, data: bytes, buffer: int = BUFFER) -> None:
        self.write(buffer, data)
        self.do(abi.TEE_SCN_STORAGE_OBJ_WRITE, handle, buffer, len(data))

    def truncate(self, handle: int, size: int) -> None:
        self.do(abi.TEE_SCN_STORAGE_OBJ_TRUNC, handle, size)

    def seek(self, handle: int, offset: int, whence: int = gps.TEE_DATA_SEEK_SET) -> None:
        self.do(abi.TEE_SCN_STORAGE_OBJ_SEEK, handle, offset & 0xFFFFFFFF, whence)

    def info(self, handle: int) -> tuple[int, ...]:
        """type, size, max_size, usage, data_size, data_pos, handle_flags"""
        self.do(abi.TEE_SCN_CRYP_OBJ_GET_INFO, handle, INFO)
        return abi.UTEE_OBJECT_INFO.unpack(self.read(INFO, abi.UTEE_OBJECT_INFO.size))

    def restrict(self, handle: int, usage: int) -> None:
        self.do(abi.TEE_SCN_CRYP_OBJ_RESTRICT_USAGE, handle, usage)

    def enumeration(self) -> int:
        self.do(abi.TEE_SCN_STORAGE_ENUM_ALLOC, HANDLE)
        return self.u32(HANDLE)

    def start(self, number: int, storage: int = PRIVATE) -> None:
        self.do(abi.TEE_SCN_STORAGE_ENUM_START, number, storage)

    def next(self, number: int) -> tuple[bytes, tuple[int, ...]]:
        self.do(abi.TEE_SCN_STORAGE_ENUM_NEXT, number, INFO, FOUND, COUNT)
        size = int.from_bytes(self.read(COUNT, 8), "little")
        info = abi.UTEE_OBJECT_INFO.unpack(self.read(INFO, abi.UTEE_OBJECT_INFO.size))
        return self.read(FOUND, size), info

    def names(self, storage: int = PRIVATE) -> list[bytes]:
        """All of its objects, in the order of an enumeration."""
        number = self.enumeration()
        names = []
        try:
            self.start(number, storage)
            while True:
                names.append(self.next(number)[0])
        except Failed:
            pass
        self.do(abi.TEE_SCN_STORAGE_ENUM_FREE, number)
        return names

    def whole(self, name: bytes, storage: int = PRIVATE) -> bytes:
        """All data of an object, which is opened for it."""
        handle = self.open(name, READ, storage)
        parts = []
        while part := self.read_data(handle, BUFFER_SIZE):
            parts.append(part)
        self.shut(handle)
        return b"".join(parts)

    def key(self, secret: bytes = bytes(range(16))) -> int:
        """A transient AES key."""
        self.do(abi.TEE_SCN_CRYP_OBJ_ALLOC, gp.TEE_TYPE_AES, 256, HANDLE)
        handle = self.u32(HANDLE)
        self.write(BUFFER, secret)
        self.write(INFO, abi.UTEE_ATTRIBUTE.pack(BUFFER, len(secret), gp.TEE_ATTR_SECRET_VALUE))
        self.do(abi.TEE_SCN_CRYP_OBJ_POPULATE, handle, INFO, 1)
        return handle

    def secret(self, handle: int) -> bytes:
        self.write(COUNT, (64).to_bytes(8, "little"))
        attr = gp.TEE_ATTR_SECRET_VALUE
        self.do(abi.TEE_SCN_CRYP_OBJ_GET_ATTR, handle, attr, BUFFER, COUNT)
        return self.read(BUFFER, int.from_bytes(self.read(COUNT, 8), "little"))


class Failed(Exception):
    """A system call did not succeed.

    :ivar code: its result.
    """

    def __init__(self, code: int) -> None:
        super().__init__(hex(code))
        self.code = code


class Waits(Exception):
    """A request is not done before another instance has ended."""
