# SPDX-License-Identifier: BSD-2-Clause
"""Services that want all of the machine's memory get their limit of it."""

import pytest

from tests.security.captive import MakeCaptive, captive, service_host

__all__ = ["captive", "service_host"]

LIMIT = 48  # MiB

# Ways to pages that RLIMIT_DATA does not count. Each must be refused, or be counted.
_NATIVE = """
    def attack(self, command, params):
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        size_t, number = ctypes.c_size_t, ctypes.c_int
        libc.mmap.argtypes = [ctypes.c_void_p, size_t, number, number, number, ctypes.c_long]
        libc.mprotect.argtypes = [ctypes.c_void_p, size_t, number]
        size, got = 8 << 20, 0
        prot, flags = {prot}, {flags}
        for _ in range(40):
            place = libc.mmap(None, size, prot, flags, -1, 0)
            if place == ctypes.c_void_p(-1).value:
                break
            if prot & 2:
                ctypes.memset(place, 1, size)
            {then}
            got += size
        IMSG(f"{{got >> 20}} MiB")
"""


def test_a_hog(captive: MakeCaptive) -> None:
    hostile = captive(
        """
    def attack(self, command, params):
        hoard = []
        while True:
            hoard.append(bytearray(1 << 16))
""",
        memory_limit=LIMIT,
    )
    hostile.dies(1)
    line = f"it wanted more memory than its limit of {LIMIT} MiB (--memory-limit)"
    assert line in hostile.said()


def test_many_small_objects(captive: MakeCaptive) -> None:
    hostile = captive(
        """
    def attack(self, command, params):
        hoard = None
        while True:
            hoard = [hoard]
""",
        memory_limit=LIMIT,
    )
    hostile.dies(1)


def test_a_hog_that_goes_on(captive: MakeCaptive) -> None:
    """What it caught it may live with."""
    hostile = captive(
        """
    def attack(self, command, params):
        try:
            bytearray(1 << 30)
        except MemoryError:
            IMSG("refused")
""",
        memory_limit=LIMIT,
    )
    hostile.session.invoke(1)
    assert hostile.said() == ["refused"]
    hostile.others_go_on()


@pytest.mark.parametrize(
    ("prot", "flags", "then"),
    [
        (3, 0x22, ""),
        (3, 0x21, ""),  # shared by nobody
        (3, 0x122, ""),  # grows down as a stack
        (3, 0x22, "assert libc.mprotect(place, size, 1) == -1"),  # read-only pages do not count
        (3, 0x22, "assert libc.mprotect(place, size, 5) == -1"),
        (3, 0x40022, ""),  # huge pages
        (3, 0x2022, ""),  # locked pages
        (7, 0x22, ""),  # executable
    ],
)
def test_native_ways(captive: MakeCaptive, prot: int, flags: int, then: str) -> None:
    hostile = captive(
        _NATIVE.format(prot=prot, flags=flags, then=then or "pass"), memory_limit=LIMIT
    )
    hostile.session.invoke(1)
    (line,) = hostile.said()
    assert int(line.split()[0]) <= LIMIT
    hostile.others_go_on()
