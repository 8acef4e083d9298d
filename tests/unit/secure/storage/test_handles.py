# SPDX-License-Identifier: BSD-2-Clause
"""Which handles can be open at once: core/tee/tee_pobj.c."""

from itertools import product

import pytest

from gentee.errors import BadState
from gentee.secure.storage.handles import CREATE, OPEN, RENAME, Conflict, Pobjs, may_share
from tests.storage_rig import META, OVERWRITE, READ, SHARE_READ, SHARE_WRITE, WRITE

TA, OTHER = bytes(16), bytes(range(16))
FLAGS = (READ, WRITE, META, SHARE_READ, SHARE_WRITE)
ALL_FLAGS = [
    sum(flag for flag, chosen in zip(FLAGS, choice, strict=True) if chosen)
    for choice in product((False, True), repeat=len(FLAGS))
]


def check_access(o: int, n: int) -> bool:
    """tee_pobj_check_access(), line by line."""
    if o & META or n & META:
        return False
    if (o & READ or n & READ) and not (n & SHARE_READ and o & SHARE_READ):
        return False
    if n & SHARE_READ != o & SHARE_READ:
        return False
    if (o & WRITE or n & WRITE) and not (n & SHARE_WRITE and o & SHARE_WRITE):
        return False
    return n & SHARE_WRITE == o & SHARE_WRITE


def test_all_flags() -> None:
    for old, new in product(ALL_FLAGS, repeat=2):
        assert may_share(old, new) is check_access(old, new), (hex(old), hex(new))


def test_of_each_name_there_is_one() -> None:
    pobjs = Pobjs()
    one = pobjs.get(0, TA, b"x", SHARE_READ, OPEN)
    assert pobjs.get(0, TA, b"x", SHARE_READ, OPEN) is one
    assert one.refs == 2
    for others in ((1, TA, b"x"), (0, OTHER, b"x"), (0, TA, b"y")):
        assert pobjs.get(*others, META, OPEN) is not one
    with pytest.raises(Conflict) as raised:
        pobjs.get(0, TA, b"x", READ, OPEN)
    assert raised.value.pobj is one
    pobjs.release(one)
    assert pobjs.find(0, TA, b"x") is one
    pobjs.release(one)
    assert pobjs.find(0, TA, b"x") is None
    assert pobjs.get(0, TA, b"x", READ, OPEN) is not one


def test_creation() -> None:
    pobjs = Pobjs()
    one = pobjs.get(0, TA, b"x", SHARE_READ, CREATE)
    assert one.creating
    for usage in (OPEN, CREATE, RENAME):
        with pytest.raises(Conflict):
            pobjs.get(0, TA, b"x", SHARE_READ | OVERWRITE, usage)
    one.creating = False
    with pytest.raises(Conflict):
        pobjs.get(0, TA, b"x", SHARE_READ, CREATE)
    assert pobjs.get(0, TA, b"x", SHARE_READ | OVERWRITE, CREATE) is one
    assert not one.creating


def test_rename() -> None:
    pobjs = Pobjs()
    one = pobjs.get(0, TA, b"x", META, OPEN)
    pobjs.rename(one, pobjs.get(0, TA, b"y", META, RENAME))
    assert one.name == b"y"
    assert pobjs.find(0, TA, b"x") is None
    assert pobjs.find(0, TA, b"y") is one
    two = pobjs.get(0, TA, b"z", 0, OPEN)
    assert pobjs.get(0, TA, b"z", 0, OPEN) is two
    with pytest.raises(BadState):
        pobjs.rename(two, pobjs.get(0, TA, b"x", META, RENAME))
    assert pobjs.find(0, TA, b"x") is None
