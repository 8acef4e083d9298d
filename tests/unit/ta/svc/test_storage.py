# SPDX-License-Identifier: BSD-2-Clause
"""The system calls of persistent objects, against ``tee_svc_storage.c``, with real storage."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gentee.abi import gp_crypto as gp
from gentee.abi import gp_storage as gps
from gentee.abi import optee_ta as abi
from gentee.abi.gp import (
    TEE_ERROR_ACCESS_CONFLICT,
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_BAD_STATE,
    TEE_ERROR_CORRUPT_OBJECT,
    TEE_ERROR_GENERIC,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_OVERFLOW,
    TEE_ERROR_STORAGE_NO_SPACE,
)
from gentee.secure.state import FILE
from gentee.secure.storage.content import CHUNK
from gentee.ta.engine.base import AARCH64, ARM
from tests.storage_rig import (
    ALL,
    BUFFER,
    COUNT,
    FOUND,
    HANDLE,
    INFO,
    META,
    NAME,
    OVERWRITE,
    PRIVATE,
    READ,
    REE,
    RPMB,
    SHARE_READ,
    SHARE_WRITE,
    WRITE,
    Failed,
    StorageTa,
    Tee,
    Waits,
)
from tests.svc_ta import CODE, DATA, LENT, NOWHERE

DENIED = TEE_ERROR_ACCESS_DENIED
BAD_STATE = TEE_ERROR_BAD_STATE
BAD_PARAMETERS = TEE_ERROR_BAD_PARAMETERS
CONFLICT = TEE_ERROR_ACCESS_CONFLICT
NOT_FOUND = TEE_ERROR_ITEM_NOT_FOUND
CORRUPT = TEE_ERROR_CORRUPT_OBJECT
STORED = gp.TEE_HANDLE_FLAG_PERSISTENT | gp.TEE_HANDLE_FLAG_INITIALIZED
OTHER = bytes(range(16))

OPEN, CREATE, DEL = (
    abi.TEE_SCN_STORAGE_OBJ_OPEN,
    abi.TEE_SCN_STORAGE_OBJ_CREATE,
    abi.TEE_SCN_STORAGE_OBJ_DEL,
)


class fails:
    """The block ends with this result code."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: object, _traceback: object) -> bool:
        assert isinstance(error, Failed), f"no error, or {error!r}"
        assert error.code == self.code, hex(error.code)
        return True


@pytest.fixture
def system() -> Iterator[Tee]:
    tee = Tee()
    yield tee
    tee.close()
    assert not tee.host.warnings


@pytest.fixture(params=[AARCH64, ARM])
def ta(request: pytest.FixtureRequest, system: Tee) -> StorageTa:
    return system.ta(request.param)


@pytest.fixture(params=[PRIVATE, REE, RPMB])
def storage(request: pytest.FixtureRequest) -> int:
    chosen: int = request.param
    return chosen


# Objects and their data


def test_an_object(ta: StorageTa, storage: int) -> None:
    handle = ta.create(b"name", ALL, b"some data", storage)
    assert ta.info(handle) == (gp.TEE_TYPE_DATA, 0, 0, 0xFFFFFFFF, 9, 0, STORED | ALL)
    assert ta.read_data(handle, 4) == b"some"
    assert ta.info(handle)[5] == 4
    ta.write_data(handle, b"-DATA, longer")
    assert ta.info(handle)[4:6] == (17, 17)
    assert ta.read_data(handle, 10) == b""
    ta.shut(handle)
    assert ta.whole(b"name", storage) == b"some-DATA, longer"
    handle = ta.open(b"name", ALL, storage)
    ta.delete(handle)
    with fails(BAD_STATE):
        ta.info(handle)
    with fails(NOT_FOUND):
        ta.open(b"name", READ, storage)


def test_private_is_the_ree_storage(ta: StorageTa) -> None:
    ta.shut(ta.create(b"x", ALL, b"ree", PRIVATE))
    ta.shut(ta.create(b"x", ALL, b"rpmb", RPMB))
    assert ta.whole(b"x", REE) == b"ree"
    assert ta.whole(b"x", RPMB) == b"rpmb"


def test_no_such_storage(ta: StorageTa) -> None:
    for storage in (0, 2, 0x80000001, 0xFFFFFFFF):
        with fails(NOT_FOUND):
            ta.open(b"x", READ, storage)
        with fails(NOT_FOUND):
            ta.create(b"x", ALL, b"", storage)
        number = ta.enumeration()
        with fails(NOT_FOUND):
            ta.start(number, storage)


def test_objects_belong_to_their_ta(system: Tee, ta: StorageTa, storage: int) -> None:
    other = system.ta(uuid=OTHER)
    ta.shut(ta.create(b"name", ALL, b"mine", storage))
    with fails(NOT_FOUND):
        other.open(b"name", READ, storage)
    other.shut(other.create(b"name", ALL, b"its", storage))
    assert ta.whole(b"name", storage) == b"mine"
    assert other.whole(b"name", storage) == b"its"
    assert other.names(storage) == ta.names(storage) == [b"name"]


def test_seek(ta: StorageTa, storage: int) -> None:
    handle = ta.create(b"x", ALL, bytes(range(100)), storage)
    for offset, whence, position in (
        (10, gps.TEE_DATA_SEEK_SET, 10),
        (5, gps.TEE_DATA_SEEK_CUR, 15),
        (-7, gps.TEE_DATA_SEEK_CUR, 8),
        (-100, gps.TEE_DATA_SEEK_CUR, 0),
        (-1, gps.TEE_DATA_SEEK_SET, 0),
        (-10, gps.TEE_DATA_SEEK_END, 90),
        (1000, gps.TEE_DATA_SEEK_END, 1100),
    ):
        ta.seek(handle, offset, whence)
        assert ta.info(handle)[5] == position
    with fails(BAD_PARAMETERS):
        ta.seek(handle, 0, 3)
    assert ta.read_data(handle, 5) == b""
    for _ in range(2):
        ta.seek(handle, 0x7FFFFFFF, gps.TEE_DATA_SEEK_CUR)
        if ta.info(handle)[5] > 0xFFFFFFFF - 0x7FFFFFFF:
            break
    with fails(BAD_PARAMETERS):
        ta.seek(handle, 0x7FFFFFFF, gps.TEE_DATA_SEEK_CUR)


def test_writing_behind_the_end_fills_with_zeros(ta: StorageTa, storage: int) -> None:
    handle = ta.create(b"x", ALL, b"abc", storage)
    ta.seek(handle, 5000)
    ta.write_data(handle, b"z")
    ta.seek(handle, 0)
    assert ta.read_data(handle, 6000) == b"abc" + bytes(4997) + b"z"


def test_nothing_written_behind_the_end_moves_the_size_of_the_handle_only(ta: StorageTa) -> None:
    """As OP-TEE does it."""
    handle = ta.create(b"x", ALL, b"abc")
    ta.seek(handle, 10)
    ta.write_data(handle, b"")
    assert ta.info(handle)[4] == 10
    ta.shut(handle)
    assert ta.info(ta.open(b"x"))[4] == 3


def test_truncate(ta: StorageTa, storage: int) -> None:
    handle = ta.create(b"x", ALL, bytes(range(1, 101)), storage)
    ta.seek(handle, 50)
    ta.truncate(handle, 10)
    assert ta.info(handle)[4:6] == (10, 50)
    ta.truncate(handle, 20)
    ta.seek(handle, 0)
    assert ta.read_data(handle, 100) == bytes(range(1, 11)) + bytes(10)
    ta.truncate(handle, 0)
    assert ta.info(handle)[4] == 0


def test_truncating_too_far_is_a_generic_error(ta: StorageTa) -> None:
    handle = ta.create(b"x", ALL, b"abc")
    if not ta.is_32bit:
        with fails(TEE_ERROR_GENERIC):
            ta.truncate(handle, 1 << 40)
        with fails(TEE_ERROR_OVERFLOW):
            ta.truncate(ta.create(b"key", ALL, attr=ta.key()), (1 << 64) - 1)
    ta.truncate(handle, 0xFFFFFFFF)  # nothing is stored for zeros
    ta.seek(handle, 0xFFFF_FFF0 - (1 << 32))  # a negative offset
    ta.seek(handle, -4, gps.TEE_DATA_SEEK_END)
    assert ta.read_data(handle, 10) == bytes(4)


def test_a_rpmb_is_small(ta: StorageTa) -> None:
    handle = ta.create(b"x", ALL, b"", RPMB)
    data = bytes(8192)
    written = 0
    with fails(TEE_ERROR_STORAGE_NO_SPACE):
        while written < 1 << 20:
            ta.write_data(handle, data)
            written += len(data)
    # What grows is written to another place first, so at most half can be used.
    assert 96 << 10 <= written <= 128 << 10
    assert ta.info(handle)[4] == written
    with fails(TEE_ERROR_GENERIC):
        ta.truncate(handle, 256 << 10)
    ta.truncate(handle, 10)
    ta.shut(handle)
    assert len(ta.whole(b"x", RPMB)) == 10


def test_overflows(ta: StorageTa) -> None:
    if ta.is_32bit:
        return
    handle = ta.create(b"x", ALL, b"abc")
    ta.seek(handle, 3)
    for number in (abi.TEE_SCN_STORAGE_OBJ_READ, abi.TEE_SCN_STORAGE_OBJ_WRITE):
        with fails(TEE_ERROR_OVERFLOW):
            ta.do(number, handle, BUFFER, (1 << 64) - 2, COUNT)


def test_a_large_object(ta: StorageTa) -> None:
    """More than one chunk, written and read across their ends."""
    handle = ta.create(b"x")
    piece = bytes(range(251)) * 32
    for _ in range(10):
        ta.write_data(handle, piece)
    ta.seek(handle, CHUNK - 4)
    ta.write_data(handle, b"12345678")
    ta.shut(handle)
    expected = bytearray(10 * piece)
    expected[CHUNK - 4 : CHUNK + 4] = b"12345678"
    assert ta.whole(b"x") == expected


# Names


def test_names(ta: StorageTa, storage: int) -> None:
    longest = bytes(64)
    for name in (b"", b"\0", longest, b"a", b"a\0"):
        ta.shut(ta.create(name, ALL, b"of " + name, storage))
    for name in (b"", b"\0", longest, b"a", b"a\0"):
        assert ta.whole(name, storage) == b"of " + name
    with fails(BAD_PARAMETERS):
        ta.open(bytes(65), READ, storage)
    with fails(BAD_PARAMETERS):
        ta.create(bytes(65), READ, b"", storage)
    handle = ta.open(b"a", META, storage)
    with fails(BAD_PARAMETERS):
        ta.rename(handle, bytes(65))
    # OP-TEE finds no empty name in the directory of an RPMB.
    nameless = [b""] if storage != RPMB else []
    assert ta.names(storage) == [*nameless, b"\0", longest, b"a", b"a\0"]


def test_rename(ta: StorageTa, storage: int) -> None:
    handle = ta.create(b"old", ALL, b"data", storage)
    ta.shut(ta.create(b"taken", ALL, b"", storage))
    with fails(CONFLICT):
        ta.rename(handle, b"taken")
    with fails(CONFLICT):
        ta.rename(handle, b"old")
    ta.rename(handle, b"new")
    ta.rename(handle, b"newer")
    assert ta.read_data(handle, 10) == b"data"
    ta.shut(handle)
    assert ta.whole(b"newer", storage) == b"data"
    for name in (b"old", b"new"):
        with fails(NOT_FOUND):
            ta.open(name, READ, storage)
    handle = ta.open(b"newer", READ, storage)
    with fails(BAD_STATE):
        ta.rename(handle, b"other")
    with fails(BAD_STATE):
        ta.rename(ta.key(), b"other")
    with fails(BAD_STATE):
        ta.rename(handle + 1000, b"other")


def test_an_open_name_is_not_taken(ta: StorageTa, storage: int) -> None:
    ta.create(b"open", READ | SHARE_READ, b"", storage)
    handle = ta.create(b"x", ALL, b"", storage)
    with fails(CONFLICT):
        ta.rename(handle, b"open")


# Creating


def test_create_what_is_there(ta: StorageTa, storage: int) -> None:
    ta.shut(ta.create(b"x", ALL, b"first", storage))
    with fails(CONFLICT):
        ta.create(b"x", ALL, b"second", storage)
    ta.shut(ta.create(b"x", ALL | OVERWRITE, b"second", storage))
    assert ta.whole(b"x", storage) == b"second"
    assert ta.names(storage) == [b"x"]


def test_overwrite_what_is_open(ta: StorageTa, storage: int) -> None:
    """Who has it open goes on with what it was."""
    flags = READ | SHARE_READ
    ta.shut(ta.create(b"x", ALL, b"first", storage))
    old = ta.open(b"x", flags, storage)
    with fails(CONFLICT):
        ta.create(b"x", flags, b"second", storage)
    with fails(CONFLICT):
        ta.create(b"x", ALL | OVERWRITE, b"second", storage)
    new = ta.create(b"x", flags | OVERWRITE, b"second", storage)
    assert ta.read_data(old, 10) == b"first"
    assert ta.read_data(new, 10) == b"second"
    ta.seek(old, 2)
    assert ta.read_data(old, 10) == b"rst"
    ta.shut(old)
    ta.shut(new)
    assert ta.whole(b"x", storage) == b"second"


def test_attributes(ta: StorageTa, storage: int) -> None:
    key = ta.key(b"sixteen bytes ky")
    ta.restrict(key, gp.TEE_USAGE_EXTRACTABLE | gp.TEE_USAGE_ENCRYPT)
    handle = ta.create(b"key", ALL, b"data", storage, attr=key)
    flags = STORED | ALL
    usage = gp.TEE_USAGE_EXTRACTABLE | gp.TEE_USAGE_ENCRYPT
    assert ta.info(handle) == (gp.TEE_TYPE_AES, 128, 256, usage, 4, 0, flags)
    assert ta.secret(handle) == ta.secret(key) == b"sixteen bytes ky"
    ta.shut(handle)
    handle = ta.open(b"key", ALL, storage)
    assert ta.info(handle) == (gp.TEE_TYPE_AES, 128, 256, usage, 4, 0, flags)
    assert ta.secret(handle) == b"sixteen bytes ky"
    assert ta.read_data(handle, 10) == b"data"
    with fails(BAD_PARAMETERS):
        ta.do(abi.TEE_SCN_CRYP_OBJ_RESET, handle)
    ta.restrict(handle, gp.TEE_USAGE_ENCRYPT)
    with fails(BAD_PARAMETERS):
        ta.secret(handle)
    ta.shut(handle)
    assert ta.info(ta.open(b"key", ALL, storage))[3] == gp.TEE_USAGE_ENCRYPT


def test_attributes_of_a_persistent_object(ta: StorageTa) -> None:
    """OP-TEE looks for the usage where that of a persistent object is not."""
    ta.create(b"one", ALL, attr=ta.key())
    one = ta.u32(HANDLE)
    two = ta.create(b"two", ALL, attr=one)
    assert ta.info(two)[:4] == (gp.TEE_TYPE_AES, 128, 256, 0)
    copy = ta.create(b"three", ALL, attr=ta.create(b"data", ALL, b"x"))
    assert ta.info(copy)[:5] == (gp.TEE_TYPE_DATA, 0, 0, 0, 0)


def test_an_object_becomes_persistent(ta: StorageTa, storage: int) -> None:
    key = ta.key(b"sixteen bytes ky")
    ta.create(b"key", READ | SHARE_READ, b"data", storage, attr=key, handle=0)
    assert ta.info(key) == (
        gp.TEE_TYPE_AES, 128, 256, 0xFFFFFFFF, 4, 0, STORED | READ | SHARE_READ,
    )  # fmt: skip
    assert ta.read_data(key, 10) == b"data"
    # OP-TEE does not finish the creation here.
    with fails(CONFLICT):
        ta.open(b"key", READ | SHARE_READ, storage)
    ta.shut(key)
    ta.shut(ta.open(b"key", READ | SHARE_READ, storage))


def test_create_without_a_handle(ta: StorageTa, storage: int) -> None:
    ta.create(b"data", ALL, b"data", storage, handle=0)
    assert ta.whole(b"data", storage) == b"data"
    persistent = ta.create(b"key", ALL, b"", storage, attr=ta.key())
    ta.create(b"key2", ALL, b"more", storage, attr=persistent, handle=0)
    assert ta.info(persistent)[4] == 0
    assert ta.whole(b"key2", storage) == b"more"


def test_what_create_refuses(ta: StorageTa, system: Tee) -> None:
    empty = ta.call(abi.TEE_SCN_CRYP_OBJ_ALLOC, gp.TEE_TYPE_AES, 256, HANDLE) or ta.u32(HANDLE)
    with fails(BAD_PARAMETERS):
        ta.create(b"x", ALL, attr=empty)
    with fails(BAD_STATE):
        ta.create(b"x", ALL, attr=empty + 1000)
    with fails(BAD_PARAMETERS):
        ta.create(b"x", ALL | 0x800)
    with fails(BAD_PARAMETERS):
        ta.do(CREATE, PRIVATE, NAME, 1, ALL, 0, 0, 1, HANDLE)
    with fails(DENIED):
        ta.do(CREATE, PRIVATE, NAME, 1, ALL, 0, NOWHERE, 1, HANDLE)
    with fails(DENIED):
        ta.do(CREATE, PRIVATE, LENT, 1, ALL, 0, BUFFER, 1, HANDLE)
    with fails(DENIED):
        ta.do(CREATE, PRIVATE, NAME, 1, ALL, 0, BUFFER, 1, LENT)
    # Of which the last one was made before.
    assert len(ta.names()) == 1
    ta.create(b"open", READ)
    with fails(CONFLICT):  # is looked at before attributes and data
        ta.create(b"open", ALL, attr=empty)
    ta.write(NAME, b"open")
    with fails(CONFLICT):
        ta.do(CREATE, PRIVATE, NAME, 4, ALL, 0, NOWHERE, 1, HANDLE)


def test_what_open_refuses(ta: StorageTa) -> None:
    ta.shut(ta.create(b"x"))
    with fails(BAD_PARAMETERS):
        ta.open(b"x", READ | OVERWRITE)
    with fails(BAD_PARAMETERS):  # before the storage is looked at
        ta.open(b"x", 0x800, 5)
    with fails(NOT_FOUND):  # before the identifier is
        ta.do(OPEN, 5, NAME, 65, READ, HANDLE)
    for address in (LENT, NOWHERE, 0):
        with fails(DENIED):
            ta.do(OPEN, PRIVATE, address, 1, READ, HANDLE)
    ta.write(NAME, b"x")
    for address in (LENT, CODE, 0):
        with fails(DENIED):
            ta.do(OPEN, PRIVATE, NAME, 1, ALL, address)
    ta.open(b"x")  # nothing of that is open


# Sharing


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (READ, READ, False),
        (READ | SHARE_READ, READ | SHARE_READ, True),
        (READ | SHARE_READ, SHARE_READ, True),
        (READ | SHARE_READ, READ, False),
        (READ, READ | SHARE_READ, False),
        (WRITE | SHARE_WRITE, WRITE | SHARE_WRITE, True),
        (WRITE | SHARE_WRITE, READ | SHARE_READ, False),
        (READ | WRITE | SHARE_READ | SHARE_WRITE, WRITE | SHARE_READ | SHARE_WRITE, True),
        (READ | SHARE_READ, META | SHARE_READ, False),
        (META, 0, False),
        (SHARE_READ, SHARE_WRITE, False),
        (SHARE_READ, SHARE_READ, True),
        (0, 0, True),
        (0, READ, False),
    ],
)
def test_sharing(system: Tee, ta: StorageTa, first: int, second: int, together: bool) -> None:
    ta.shut(ta.create(b"x"))
    ta.open(b"x", first)
    for other in (ta, system.ta()):
        if together:
            other.open(b"x", second)
        else:
            with fails(CONFLICT):
                other.open(b"x", second)


def test_shared_data(system: Tee, ta: StorageTa) -> None:
    flags = READ | WRITE | SHARE_READ | SHARE_WRITE
    other = system.ta()
    mine = ta.create(b"x", flags, b"abc")
    its = other.open(b"x", flags)
    other.write_data(its, b"ABCDEF")
    assert ta.info(mine)[4] == 3  # the size is that which the handle has seen
    assert ta.read_data(mine, 10) == b"ABCDEF"
    ta.truncate(mine, 2)
    other.seek(its, 0)
    assert other.read_data(its, 10) == b"AB"


def test_shared_usage(system: Tee, ta: StorageTa) -> None:
    flags = READ | SHARE_READ
    other = system.ta()
    mine = ta.create(b"key", flags, attr=ta.key())
    its = other.open(b"key", flags)
    other.restrict(its, gp.TEE_USAGE_DECRYPT)
    assert ta.info(mine)[3] == gp.TEE_USAGE_DECRYPT
    with fails(BAD_PARAMETERS):
        ta.secret(mine)


def test_handles_say_what_may_be_done(ta: StorageTa) -> None:
    handle = ta.create(b"x", 0, b"abc")
    with fails(CONFLICT):
        ta.read_data(handle, 1)
    with fails(CONFLICT):
        ta.write_data(handle, b"x")
    with fails(CONFLICT):
        ta.truncate(handle, 1)
    with fails(CONFLICT):
        ta.delete(handle)
    with fails(CONFLICT):
        ta.delete(ta.key())
    for unknown in (0, handle + 1000):
        with fails(BAD_STATE):
            ta.delete(unknown)
    for transient in (ta.key(), 0):
        for call in (ta.read_data, ta.truncate, ta.seek):
            with fails(BAD_STATE):
                call(transient, 1)
        with fails(BAD_STATE):
            ta.write_data(transient, b"x")


def test_what_an_instance_had_open_is_released(system: Tee, ta: StorageTa) -> None:
    first = system.ta()
    first.create(b"x")
    with fails(CONFLICT):
        ta.open(b"x")
    first.release()
    ta.open(b"x")


def test_a_dead_instance_is_not_in_the_way(system: Tee, ta: StorageTa) -> None:
    first = system.ta()
    first.create(b"x")
    first.instance.dead = True  # and nobody has released anything yet
    ta.open(b"x")


def test_an_ending_instance_is_waited_for(system: Tee, ta: StorageTa) -> None:
    first = system.ta()
    first.create(b"x")
    first.instance.ending = True
    with pytest.raises(Waits):
        ta.open(b"x")
    assert ta.instance.awaited is first.instance
    first.release()
    (again,) = first.instance.waiting
    again()
    ((request, code),) = system.door.later
    system.storage.serve(request, code)
    ((result, _words),) = ta.instance.replies
    assert result == 0


def test_an_ending_instance_that_waits_itself_is_in_the_way(system: Tee, ta: StorageTa) -> None:
    first = system.ta()
    first.create(b"x")
    first.instance.ending = True
    system.nested.allows = False
    with fails(CONFLICT):
        ta.open(b"x")


# Memory


def test_memory_of_data(ta: StorageTa) -> None:
    handle = ta.create(b"x", ALL, b"abc")
    with fails(DENIED):
        ta.read_data(handle, 3, NOWHERE)
    with fails(DENIED):
        ta.do(abi.TEE_SCN_STORAGE_OBJ_READ, handle, CODE, 3, COUNT)
    assert ta.info(handle)[5] == 0
    with fails(DENIED):  # the position has moved by then
        ta.do(abi.TEE_SCN_STORAGE_OBJ_READ, handle, BUFFER, 3, LENT)
    assert ta.info(handle)[5] == 3
    with fails(DENIED):
        ta.do(abi.TEE_SCN_STORAGE_OBJ_WRITE, handle, NOWHERE, 3)
    # Behind the end nothing is written, wherever that would be.
    ta.do(abi.TEE_SCN_STORAGE_OBJ_READ, handle, NOWHERE, 3, COUNT)


def test_address_0_as_optee_has_it(ta: StorageTa) -> None:
    handle = ta.create(b"x", ALL, b"abcdef")
    ta.do(abi.TEE_SCN_STORAGE_OBJ_READ, handle, 0, 2, COUNT)
    ta.do(abi.TEE_SCN_STORAGE_OBJ_WRITE, handle, 0, 2)
    ta.seek(handle, 0)
    assert ta.read_data(handle, 10) == b"ab\0\0ef"
    rpmb = ta.create(b"x", ALL, b"abcdef", RPMB)
    ta.do(abi.TEE_SCN_STORAGE_OBJ_WRITE, rpmb, 0, 2)
    ta.seek(rpmb, 0)
    assert ta.read_data(rpmb, 10, DATA + 512) == b"abcdef"


def test_data_of_the_rpmb_is_in_private_memory(ta: StorageTa) -> None:
    handle = ta.create(b"x", ALL, b"abc", RPMB)  # but not that of create
    with fails(DENIED):
        ta.read_data(handle, 3, LENT)
    with fails(DENIED):
        ta.write_data(handle, b"abc", LENT)
    ta.write_data(handle, b"ABC", DATA + 512)


# Enumerations


def test_the_order_of_names(ta: StorageTa) -> None:
    """Each object has a place, and a new one the first that is free."""
    for name in (b"a", b"b", b"c", b"d"):
        ta.shut(ta.create(name))
    assert ta.names() == [b"a", b"b", b"c", b"d"]
    ta.delete(ta.open(b"b"))
    ta.shut(ta.create(b"e"))
    ta.shut(ta.create(b"f"))
    assert ta.names() == [b"a", b"e", b"c", b"d", b"f"]
    ta.shut(ta.create(b"c", ALL | OVERWRITE))
    handle = ta.open(b"a")
    ta.rename(handle, b"z")
    ta.shut(handle)
    assert ta.names() == [b"z", b"e", b"c", b"d", b"f"]


def test_places_are_shared_with_other_tas(system: Tee, ta: StorageTa) -> None:
    other = system.ta(uuid=OTHER)
    ta.shut(ta.create(b"a"))
    other.shut(other.create(b"b"))
    ta.shut(ta.create(b"c"))
    other.delete(other.open(b"b"))
    ta.shut(ta.create(b"d"))
    assert ta.names() == [b"a", b"d", b"c"]


def test_the_order_in_a_rpmb(ta: StorageTa) -> None:
    """A new object is whole before the one that it overwrites goes."""
    for name in (b"a", b"b", b"c"):
        ta.shut(ta.create(name, ALL, b"", RPMB))
    ta.shut(ta.create(b"a", ALL | OVERWRITE, b"", RPMB))
    assert ta.names(RPMB) == [b"b", b"c", b"a"]
    ta.shut(ta.create(b"d", ALL, b"", RPMB))
    assert ta.names(RPMB) == [b"d", b"b", b"c", b"a"]


def test_enumerations(ta: StorageTa, storage: int) -> None:
    number = ta.enumeration()
    with fails(NOT_FOUND):
        ta.next(number)
    with fails(NOT_FOUND):
        ta.start(number, storage)
    with fails(NOT_FOUND):
        ta.next(number)
    ta.shut(ta.create(b"data", ALL, b"1234", storage))
    ta.shut(ta.create(b"key", ALL, b"", storage, attr=ta.key()))
    ta.start(number, storage)
    assert ta.next(number) == (
        b"data",
        (gp.TEE_TYPE_DATA, 0, 0, 0xFFFFFFFF, 4, 0, STORED),
    )
    ta.open(b"key", READ | SHARE_READ, storage)
    name, info = ta.next(number)
    assert name == b"key"
    assert info[:3] == (gp.TEE_TYPE_AES, 128, 256)
    assert info[6] == STORED | READ | SHARE_READ  # of who has it open
    with fails(NOT_FOUND):
        ta.next(number)
    ta.start(number, storage)
    assert ta.next(number)[0] == b"data"
    ta.do(abi.TEE_SCN_STORAGE_ENUM_RESET, number)
    with fails(NOT_FOUND):
        ta.next(number)
    ta.do(abi.TEE_SCN_STORAGE_ENUM_FREE, number)
    for call in (abi.TEE_SCN_STORAGE_ENUM_FREE, abi.TEE_SCN_STORAGE_ENUM_RESET):
        with fails(BAD_PARAMETERS):
            ta.do(call, number)
    with fails(BAD_PARAMETERS):
        ta.start(number)
    with fails(BAD_PARAMETERS):
        ta.next(number)
    with fails(BAD_PARAMETERS):
        ta.do(abi.TEE_SCN_STORAGE_ENUM_ALLOC, 0)


def test_what_changes_during_an_enumeration(ta: StorageTa) -> None:
    for storage in (PRIVATE, RPMB):
        for name in (b"a", b"b", b"c"):
            ta.shut(ta.create(name, ALL, b"", storage))
        number = ta.enumeration()
        ta.start(number, storage)
        assert ta.next(number)[0] == b"a"
        ta.delete(ta.open(b"b", ALL, storage))
        if storage == RPMB:  # names are taken at the start
            with fails(NOT_FOUND):
                ta.next(number)
        assert ta.next(number)[0] == b"c"


def test_memory_of_an_enumeration(ta: StorageTa) -> None:
    ta.shut(ta.create(b"a"))
    number = ta.enumeration()
    ta.start(number)
    for info, name in ((LENT, FOUND), (INFO, LENT), (CODE, FOUND), (INFO, DATA + 2 * 4096 - 63)):
        with fails(DENIED):
            ta.do(abi.TEE_SCN_STORAGE_ENUM_NEXT, number, info, name, COUNT)
    assert ta.next(number)[0] == b"a"


# Damage


def damage(system: Tee, sql: str, *values: object) -> None:
    """Change the state behind the back of the TEE, which is stopped for it."""
    assert system.folder is not None
    system.reopen()
    system.state.close()
    connection = sqlite3.connect(system.folder / FILE)
    with connection:
        assert connection.execute(sql, values).rowcount
    connection.close()
    system.open()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Tee]:
    tmp_path.chmod(0o700)
    tee = Tee(tmp_path)
    yield tee
    tee.close()


FLIP = "substr({0}, 1, length({0}) - 3) || x'00' || substr({0}, length({0}) - 1)"


def test_a_damaged_head(kept: Tee) -> None:
    ta = kept.ta()
    for name in (b"a", b"b", b"c"):
        ta.shut(ta.create(name, ALL, name * 10))
    flip = FLIP.format("head")
    damage(kept, f"UPDATE objects SET head = CAST({flip} AS BLOB) WHERE slot = 1")
    ta = kept.ta()
    number = ta.enumeration()
    ta.start(number)
    assert ta.next(number)[0] == b"a"
    with fails(CORRUPT):
        ta.next(number)
    assert ta.next(number)[0] == b"c"
    with fails(CORRUPT):
        ta.open(b"b")
    # It is deleted, and its neighbours are as they were.
    with fails(NOT_FOUND):
        ta.open(b"b")
    assert (ta.whole(b"a"), ta.whole(b"c")) == (b"a" * 10, b"c" * 10)
    ta.shut(ta.create(b"b", ALL, b"new"))
    assert ta.names() == [b"a", b"b", b"c"]


@pytest.mark.parametrize("how", ["flipped", "gone", "swapped", "older", "no bytes"])
def test_a_damaged_chunk(kept: Tee, how: str) -> None:
    ta = kept.ta()
    for name in (b"a", b"b"):
        handle = ta.create(name, ALL, b"1" * 8192)
        ta.seek(handle, 8192)
        for _ in range(8):
            ta.write_data(handle, b"2" * 8192)
        ta.shut(handle)
    (row,) = kept.state.run(
        lambda connection: connection.execute("SELECT id FROM objects WHERE slot = 1").fetchone(),
        write=False,
    )
    first = row << 20
    if how == "flipped":
        sql = f"UPDATE object_chunks SET chunk = CAST({FLIP.format('chunk')} AS BLOB) WHERE id = ?"
        damage(kept, sql, first)
    elif how == "gone":
        damage(kept, "DELETE FROM object_chunks WHERE id = ?", first)
    elif how == "no bytes":
        damage(kept, "UPDATE object_chunks SET chunk = 5 WHERE id = ?", first)
    elif how == "swapped":
        sql = "(SELECT chunk FROM object_chunks WHERE id = ?)"
        damage(kept, f"UPDATE object_chunks SET chunk = {sql} WHERE id = ?", first + 1, first)
    else:
        (chunk,) = kept.state.run(
            lambda connection: connection.execute(
                "SELECT chunk FROM object_chunks WHERE id = ?", (first,)
            ).fetchone(),
            write=False,
        )
        handle = ta.open(b"b")
        ta.write_data(handle, b"1" * 10)
        damage(kept, "UPDATE object_chunks SET chunk = ? WHERE id = ?", chunk, first)
    ta = kept.ta()
    handle = ta.open(b"b", READ | SHARE_READ)
    ta.seek(handle, CHUNK + 4000)
    assert ta.read_data(handle, 10) == b"2" * 10  # another chunk
    ta.seek(handle, 0)
    with fails(CORRUPT):
        ta.read_data(handle, 10)
    with fails(BAD_STATE):
        ta.info(handle)
    with fails(NOT_FOUND):
        ta.open(b"b")
    assert ta.whole(b"a") == b"1" * 8192 + b"2" * 8 * 8192


def test_a_ta_that_keeps_handles_of_corrupt_objects(kept: Tee) -> None:
    ta = kept.ta()
    ta.shut(ta.create(b"a", ALL, b"1" * 100))
    damage(kept, "DELETE FROM object_chunks")
    ta = kept.ta()
    ta.flags |= abi.TA_FLAG_DONT_CLOSE_HANDLE_ON_CORRUPT_OBJECT
    handle = ta.open(b"a")
    for _ in range(2):
        with fails(CORRUPT):
            ta.read_data(handle, 10)
    with fails(CORRUPT):
        ta.write_data(handle, b"x")
    assert ta.info(handle)[4] == 100
    ta.shut(handle)
    with fails(NOT_FOUND):
        ta.open(b"a")


def test_writing_to_a_damaged_chunk(kept: Tee) -> None:
    ta = kept.ta()
    for name in (b"a", b"b"):
        ta.shut(ta.create(name, ALL, b"1" * 100))
    damage(kept, "DELETE FROM object_chunks")
    ta = kept.ta()
    handle = ta.open(b"a")
    with fails(CORRUPT):
        ta.write_data(handle, b"x")
    handle = ta.open(b"b")
    with fails(CORRUPT):
        ta.truncate(handle, 50)
    assert ta.names() == []
