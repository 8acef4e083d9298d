# SPDX-License-Identifier: BSD-2-Clause
"""Any sequence of system calls, by several instances, against a plain model of what they should do.

The model knows nothing of chunks, seals or tables: a file is a bytearray, a directory a list.
"""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from gentee.abi import gp_storage as gps
from gentee.abi.gp import (
    TEE_ERROR_ACCESS_CONFLICT,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_BAD_STATE,
    TEE_ERROR_ITEM_NOT_FOUND,
)
from gentee.secure.storage.content import CHUNK
from tests.storage_rig import (
    META,
    OVERWRITE,
    PRIVATE,
    READ,
    RPMB,
    SHARE_READ,
    SHARE_WRITE,
    WRITE,
    Failed,
    StorageTa,
    Tee,
)
from tests.svc_ta import UUID

OTHER = bytes(range(16))
CONFLICT = TEE_ERROR_ACCESS_CONFLICT
NOT_FOUND = TEE_ERROR_ITEM_NOT_FOUND
BAD_STATE = TEE_ERROR_BAD_STATE

NAMES = st.sampled_from([b"", b"a", b"b", b"c", b"x" * 64])
STORAGES = st.sampled_from([PRIVATE, PRIVATE, RPMB])
WHO = st.sampled_from([0, 0, 1, 2])  # two instances of a TA, one of another
FLAGS = st.one_of(
    st.just(READ | WRITE | META),
    st.just(READ | WRITE | SHARE_READ | SHARE_WRITE),
    st.just(READ | SHARE_READ),
    st.integers(0, 63).map(lambda bits: bits & (READ | WRITE | META | SHARE_READ | SHARE_WRITE)),
)
DATA = st.binary(max_size=40)
# Near the ends of chunks
POSITIONS = st.one_of(
    st.integers(0, 100),
    st.sampled_from([CHUNK - 20, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 10, 3 * CHUNK]),
)


class Entry:
    """A file, with the name that it has or had."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)


class Opened:
    """A handle."""

    def __init__(self, who: int, number: int, key: "Key", entry: Entry, flags: int) -> None:
        self.who = who
        self.number = number
        self.key = key
        self.entry = entry
        self.flags = flags
        self.position = 0
        self.size = len(entry.data)


Key = tuple[int, bytes, bytes]  # storage, TA, name


def conflict(o: int, n: int) -> bool:
    """What the API says, in its words: section 5.7.3 as OP-TEE reads it."""
    if (o | n) & META:
        return True
    for access, share in ((READ, SHARE_READ), (WRITE, SHARE_WRITE)):
        shared = o & share and n & share
        if (o | n) & access and not shared:
            return True
        if bool(o & share) != bool(n & share):
            return True
    return False


class Objects(RuleBasedStateMachine):
    handles = Bundle("handles")

    @initialize()
    def begin(self) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        self.tee = Tee(Path(self.temporary.name))
        self.directories: dict[int, list[Key | None]] = {PRIVATE: [], RPMB: []}
        self.files: dict[Key, Entry] = {}
        self.open: list[Opened] = []
        self._instances()

    def _instances(self) -> None:
        self.tas: list[StorageTa] = [
            self.tee.ta("aarch64"), self.tee.ta("arm"), self.tee.ta("aarch64", OTHER),
        ]  # fmt: skip

    def teardown(self) -> None:
        if hasattr(self, "tee"):
            self.tee.close()
            self.temporary.cleanup()

    def expect(self, code: int, call: Any, *args: Any) -> Any:
        """The result of a call that shall end with ``code``."""
        ended, result = 0, None
        try:
            result = call(*args)
        except Failed as error:
            ended = error.code
        assert ended == code, f"{ended:#x} and not {code:#x}"
        return result

    def key(self, who: int, storage: int, name: bytes) -> Key:
        return storage, UUID if who < 2 else OTHER, name

    def others(self, key: Key) -> list[Opened]:
        return [opened for opened in self.open if opened.key == key]

    @rule(target=handles, who=WHO, storage=STORAGES, name=NAMES, flags=FLAGS)
    def open_object(self, who: int, storage: int, name: bytes, flags: int) -> Any:
        key = self.key(who, storage, name)
        others = self.others(key)
        code = 0
        if others and conflict(others[0].flags, flags):
            code = CONFLICT
        elif key not in self.files:
            code = NOT_FOUND
        number = self.expect(code, self.tas[who].open, name, flags, storage)
        if code:
            return multiple()
        opened = Opened(who, number, key, self.files[key], flags)
        self.open.append(opened)
        return opened

    @rule(
        target=handles, who=WHO, storage=STORAGES, name=NAMES, flags=FLAGS,
        overwrite=st.booleans(), data=DATA,
    )  # fmt: skip
    def create(
        self, who: int, storage: int, name: bytes, flags: int, overwrite: bool, data: bytes
    ) -> Any:
        key = self.key(who, storage, name)
        others = self.others(key)
        code = 0
        if (others and (not overwrite or conflict(others[0].flags, flags))) or (
            key in self.files and not overwrite
        ):
            code = CONFLICT
        given = flags | (OVERWRITE if overwrite else 0)
        number = self.expect(code, self.tas[who].create, name, given, data, storage)
        if code:
            return multiple()
        self._place(key)
        self.files[key] = Entry(data)
        opened = Opened(who, number, key, self.files[key], flags)
        self.open.append(opened)
        return opened

    def _place(self, key: Key) -> None:
        places = self.directories[key[0]]
        old = places.index(key) if key in places else None
        if old is not None and key[0] == PRIVATE:
            return
        if None not in places:
            places.append(None)
        places[places.index(None)] = key
        if old is not None:
            places[old] = None

    @rule(opened=consumes(handles))
    def close(self, opened: Opened) -> None:
        if opened in self.open:
            self.tas[opened.who].shut(opened.number)
            self.open.remove(opened)

    @rule(opened=handles, data=DATA)
    def write(self, opened: Opened, data: bytes) -> None:
        if opened not in self.open:
            return
        code = 0 if opened.flags & WRITE else CONFLICT
        self.expect(code, self.tas[opened.who].write_data, opened.number, data)
        if code:
            return
        entry = opened.entry.data
        end = opened.position + len(data)
        if data:
            entry.extend(bytes(max(opened.position - len(entry), 0)))
            entry[opened.position : end] = data
        opened.position = end
        opened.size = max(opened.size, end)

    @rule(opened=handles, size=st.one_of(st.integers(0, 100), st.just(8192)))
    def read(self, opened: Opened, size: int) -> None:
        if opened not in self.open:
            return
        code = 0 if opened.flags & READ else CONFLICT
        data = self.expect(code, self.tas[opened.who].read_data, opened.number, size)
        if not code:
            assert data == opened.entry.data[opened.position : opened.position + size]
            opened.position += len(data)

    @rule(opened=handles, position=POSITIONS, whence=st.sampled_from([0, 0, 1, 2, 3]))
    def seek(self, opened: Opened, position: int, whence: int) -> None:
        if opened not in self.open:
            return
        code = TEE_ERROR_BAD_PARAMETERS if whence == 3 else 0
        if whence == gps.TEE_DATA_SEEK_CUR:
            position -= 50
        elif whence == gps.TEE_DATA_SEEK_END:
            position = -position
        self.expect(code, self.tas[opened.who].seek, opened.number, position, whence)
        if not code:
            base = (0, opened.position, opened.size)[whence]
            opened.position = max(base + position, 0)

    @rule(opened=handles, size=POSITIONS)
    def truncate(self, opened: Opened, size: int) -> None:
        if opened not in self.open:
            return
        code = 0 if opened.flags & WRITE else CONFLICT
        self.expect(code, self.tas[opened.who].truncate, opened.number, size)
        if not code:
            entry = opened.entry.data
            entry.extend(bytes(max(size - len(entry), 0)))
            del entry[size:]
            opened.size = size

    @rule(opened=handles)
    def info(self, opened: Opened) -> None:
        if opened in self.open:
            info = self.tas[opened.who].info(opened.number)
            assert info[4:6] == (opened.size, opened.position)

    @rule(opened=consumes(handles))
    def delete(self, opened: Opened) -> None:
        if opened not in self.open:
            return
        code = 0 if opened.flags & META else CONFLICT
        self.expect(code, self.tas[opened.who].delete, opened.number)
        if code:
            self.tas[opened.who].shut(opened.number)
        else:
            del self.files[opened.key]
            places = self.directories[opened.key[0]]
            places[places.index(opened.key)] = None
        self.open.remove(opened)

    @rule(opened=handles, name=NAMES)
    def rename(self, opened: Opened, name: bytes) -> None:
        if opened not in self.open:
            return
        key = self.key(opened.who, opened.key[0], name)
        code = 0
        if not opened.flags & META:
            code = BAD_STATE
        elif self.others(key) or key in self.files:
            code = CONFLICT
        self.expect(code, self.tas[opened.who].rename, opened.number, name)
        if not code:
            places = self.directories[key[0]]
            places[places.index(opened.key)] = key
            self.files[key] = self.files.pop(opened.key)
            opened.key = key

    @rule(who=WHO, storage=STORAGES)
    def enumerate(self, who: int, storage: int) -> None:
        uuid = UUID if who < 2 else OTHER
        names = [
            key[2]
            for key in self.directories[storage]
            if key is not None and key[1] == uuid and (key[2] or storage != RPMB)
        ]
        assert self.tas[who].names(storage) == names

    @rule(who=WHO)
    def instance_ends(self, who: int) -> None:
        self.tas[who].release()
        self.tas[who] = self.tee.ta(uuid=UUID if who < 2 else OTHER)
        self.open = [opened for opened in self.open if opened.who != who]

    @rule()
    def restart(self) -> None:
        self.tee.reopen()
        self.open.clear()
        self._instances()

    @invariant()
    def nothing_went_wrong(self) -> None:
        if hasattr(self, "tee"):
            assert not self.tee.host.warnings


TestObjects = Objects.TestCase
TestObjects.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
