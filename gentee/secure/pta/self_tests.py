# SPDX-License-Identifier: BSD-2-Clause
"""Self tests of the TEE, on the machine that it runs on: what calls rest on.

OP-TEE's (core/pta/tests/misc.c) are of its C: overflows, its allocators, its page tables. Each test
here raises AssertionError, or whatever goes wrong.
"""

import mmap
import os
import time
from collections.abc import Callable

from gentee.abi import ta_channel as ch
from gentee.abi.linux_tee import (
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT,
)
from gentee.core.device import IdAllocator
from gentee.core.params import TeeParam
from gentee.core.shm import Backing, TeeShm
from gentee.linux.shm import PAGE_SIZE, create_shm
from gentee.secure.huk import huk_subkey_derive
from gentee.secure.pta.uuids import from_struct, to_struct
from gentee.secure.window import Layout, Window


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def test_shared_memory() -> None:
    """Two maps of shared memory are the same pages; its size cannot be changed."""
    fd = create_shm(PAGE_SIZE, "self_test")
    try:
        with mmap.mmap(fd, PAGE_SIZE) as one, mmap.mmap(fd, PAGE_SIZE) as other:
            _require(one[:] == bytes(PAGE_SIZE), "new memory is not zero")
            one[17] = 0x5A
            _require(other[17] == 0x5A, "two maps are not the same pages")
        for size in (0, 2 * PAGE_SIZE):
            try:
                os.ftruncate(fd, size)
            except OSError:
                continue
            raise AssertionError(f"its size could be made {size}")
    finally:
        os.close(fd)


class _Bytes(Backing):
    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)

    def copy_in(self, offset: int, view: memoryview) -> None:
        view[:] = self.data[offset : offset + len(view)]

    def copy_out(self, offset: int, view: memoryview) -> None:
        self.data[offset : offset + len(view)] = view


class _BytesShm(TeeShm):
    __slots__ = ()

    def __init__(self, backing: _Bytes) -> None:
        self.backing = backing
        self.size = len(backing.data)
        self.fd = -1


def test_window() -> None:
    """References to the same bytes share them; an output alone goes back."""
    backing = _Bytes(bytes(range(100)))
    shm = _BytesShm(backing)
    given = TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, 0, 60, shm=shm)
    both = TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT, 40, 30, shm=shm)
    layout = Layout([given, both])
    window = Window()
    window.fit(layout.size)
    window.mapped()
    window.copy_in(layout)
    one = window.view(layout.place_of(given), given.b)
    other = window.view(layout.place_of(both), both.b)
    _require(bytes(one) == bytes(range(60)), "the bytes of a reference")
    other[:2] = b"xy"
    one[:2] = b"no"
    _require(bytes(one[40:42]) == b"xy", "overlapping references have other bytes")
    window.copy_out(layout)
    expected = bytearray(range(100))
    expected[40:42] = b"xy"
    _require(backing.data == expected, "what went back")


def test_mailbox() -> None:
    """The words of commands and of requests have places of their own in one page."""
    command_end = max(ch.M_UNMAPS + ch.MAX_UNMAPS, ch.M_MEMORY_LIMIT + 1)
    _require(ch.M_MAPS + 3 * ch.MAX_MAPS <= ch.M_NUM_UNMAPS, "maps")
    _require(command_end <= ch.Q_BLOCK, "commands")
    _require(8 * (ch.Q_BLOCK + ch.Q_WORDS) <= ch.MAILBOX_SIZE, "requests")


def test_ids() -> None:
    """No id is given twice while it is taken."""
    ids = IdAllocator()
    first = [ids.alloc() for _ in range(100)]
    for number in first[::2]:
        ids.free(number)
    taken = first[1::2] + [ids.alloc() for _ in range(100)]
    _require(len(set(taken)) == len(taken), "an id was given twice")
    _require(min(taken) >= 1, "0 is no id")


def test_unique_key() -> None:
    """RFC 4231 test case 1, whose first four bytes stand for the usage."""
    usage = int.from_bytes(b"Hi T", "little")
    key = huk_subkey_derive(usage, b"here", 32, b"\x0b" * 20)
    expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    _require(key.hex() == expected, "HMAC-SHA256")


def test_uuids() -> None:
    """The order of a UUID's bytes in a TA, and in its text."""
    octets = bytes(range(16))
    _require(to_struct(octets).hex() == "030201000504070608090a0b0c0d0e0f", "TEE_UUID")
    _require(from_struct(to_struct(octets)) == octets, "and back")


def test_random_numbers() -> None:
    """They are not the same twice."""
    _require(os.urandom(16) != os.urandom(16), "random numbers repeat")


def test_time() -> None:
    """It does not go back."""
    last = 0
    for _ in range(100):
        now = time.monotonic_ns()
        _require(now >= last, "time went back")
        last = now


TESTS = (
    test_shared_memory,
    test_window,
    test_mailbox,
    test_ids,
    test_unique_key,
    test_uuids,
    test_random_numbers,
    test_time,
)


def failures(*tests: Callable[[], None]) -> list[str]:
    """Run these: a line for each that failed."""
    found = []
    for test in tests:
        try:
            test()
        except Exception as error:  # whatever it is, the test has failed
            found.append(f"{test.__name__}: {type(error).__name__}: {error}")
    return found
