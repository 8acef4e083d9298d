# SPDX-License-Identifier: BSD-2-Clause
"""gentee.secure.statistics: memory of processes."""

import mmap
import os

import pytest

from gentee.linux.libc import PR_SET_DUMPABLE, prctl
from gentee.secure.statistics import memory_of
from tests.helpers import Child

BYTES = 8 << 20


def test_memory_of_this_process() -> None:
    before = memory_of("self")
    with mmap.mmap(-1, BYTES) as pages:
        pages[:] = b"x" * BYTES
        after = memory_of(os.getpid())
    assert before.private is not None
    assert after.private is not None
    assert after.proportional is not None
    assert after.resident is not None
    assert after.private - before.private >= BYTES - (1 << 20)
    assert BYTES <= after.private <= after.proportional <= after.resident


def test_nobody() -> None:
    for pid in (0, 1 << 30):
        found = memory_of(pid)
        assert (found.resident, found.proportional, found.private) == (None, None, None)


def test_a_process_that_may_not_be_looked_at() -> None:
    """As services are to all but root."""
    if os.geteuid() == 0:
        pytest.skip("root may look at everything")
    with Child(lambda sock: (prctl(PR_SET_DUMPABLE, 0), sock.send(b"."), sock.recv(1))) as child:
        child.socket.recv(1)
        found = memory_of(child.pid)
        assert found.resident
        assert (found.proportional, found.private) == (None, None)
