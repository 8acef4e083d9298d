# SPDX-License-Identifier: BSD-2-Clause
"""The window: layouts, and copied memory against memory that is really shared."""

import errno
import mmap
import os
import resource
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi.linux_tee import (
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT,
)
from gentee.core.context import TeeContext
from gentee.core.params import TeeParam
from gentee.core.shm import TEE_SHM_DYNAMIC, TEE_SHM_USER_MAPPED, Backing, TeeShm
from gentee.linux.shm import PAGE_SIZE
from gentee.secure.window import Layout, Window
from tests.helpers import Child, Client, make_device, open_descriptors

INPUT = TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT
OUTPUT = TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT
INOUT = TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT


class Space:
    """An address space; its bytes start at ``base``."""

    def __init__(self, base: int, data: bytes) -> None:
        self.base = base
        self.data = bytearray(data)


class Registered(Backing):
    """Some bytes of a space that a client registered. What is outside cannot be reached."""

    def __init__(self, space: Space, address: int, size: int) -> None:
        self.space = space
        self.address = address
        self.size = size
        self.written: list[tuple[int, int]] = []

    def _slice(self, offset: int, size: int) -> slice:
        if offset < 0 or offset + size > self.size:
            raise OSError(errno.EFAULT, "not registered")
        start = self.address - self.space.base + offset
        assert 0 <= start <= start + size <= len(self.space.data)
        return slice(start, start + size)

    def copy_in(self, offset: int, view: memoryview) -> None:
        assert view
        view[:] = self.space.data[self._slice(offset, len(view))]

    def copy_out(self, offset: int, view: memoryview) -> None:
        assert view
        self.space.data[self._slice(offset, len(view))] = view
        self.written.append((self.address + offset, len(view)))

    def identity(self) -> tuple[object, int]:
        return (self.space, self.address)


@pytest.fixture(scope="module")
def ctx() -> Iterator[TeeContext]:
    with Client(make_device()) as client:
        yield client.ctx


def memref(ctx: TeeContext, kind: int, backing: Backing, offset: int, size: int) -> TeeParam:
    shm = TeeShm(ctx, 1 << 30, TEE_SHM_DYNAMIC | TEE_SHM_USER_MAPPED)
    shm.backing = backing
    return TeeParam(kind, offset, size, shm=shm)


class Reference(NamedTuple):
    """A memref by the addresses that it means."""

    kind: int
    space: Space
    address: int
    size: int


def layout_of(
    ctx: TeeContext, references: list[Reference]
) -> tuple[list[TeeParam], Layout, list[Registered]]:
    """Each reference into a registration of just its bytes."""
    backings = [Registered(r.space, r.address, r.size) for r in references]
    params = [
        memref(ctx, r.kind, backing, 0, r.size)
        for r, backing in zip(references, backings, strict=True)
    ]
    return params, Layout(params), backings


# Layouts


def test_nothing_to_copy(ctx: TeeContext) -> None:
    shared = TeeParam(INPUT, 0, 1, shm=TeeShm(ctx, 4096, TEE_SHM_DYNAMIC))  # real pages
    params = [TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT, 1, 2), TeeParam(INPUT), shared]
    layout = Layout(params)
    assert (layout.size, layout.total, layout.ranges, layout.outputs) == (0, 0, [], [])


@pytest.mark.parametrize("kind", [INPUT, OUTPUT, INOUT])
@pytest.mark.parametrize(
    ("address", "size", "place", "window"),
    [
        (0x10000, 1, 0, PAGE_SIZE),
        (0x10000, PAGE_SIZE, 0, PAGE_SIZE),
        (0x10001, PAGE_SIZE, 1, 2 * PAGE_SIZE),
        (0x10FFF, 1, PAGE_SIZE - 1, PAGE_SIZE),
        (0x10FFF, 2, PAGE_SIZE - 1, 2 * PAGE_SIZE),
        (0x10123, 0, 0x123, PAGE_SIZE),
        (0x10000, 0, 0, PAGE_SIZE),
    ],
)
def test_one_reference_keeps_its_alignment(
    ctx: TeeContext, kind: int, address: int, size: int, place: int, window: int
) -> None:
    space = Space(0x10000, bytes(1 << 16))
    (param,), layout, (backing,) = layout_of(ctx, [Reference(kind, space, address, size)])
    assert layout.place_of(param) == place
    assert layout.size == window
    assert layout.total == size
    expected = [(backing, 0, place, size)] if kind != INPUT and size else []
    assert layout.outputs == expected


def places(ctx: TeeContext, *spans: tuple[int, int], spaces: int = 1) -> list[int]:
    made = [Space(0, bytes(1 << 16)) for _ in range(spaces)]
    references = [
        Reference(INOUT, made[number % spaces], address, size)
        for number, (address, size) in enumerate(spans)
    ]
    params, layout, _ = layout_of(ctx, references)
    return [layout.place_of(param) for param in params]


def test_what_overlaps_is_together(ctx: TeeContext) -> None:
    assert places(ctx, (100, 50), (120, 100)) == [100, 120]
    assert places(ctx, (120, 100), (100, 50)) == [120, 100]
    assert places(ctx, (100, 50), (100, 50), (100, 20), (149, 1)) == [100, 100, 100, 149]
    # One that joins two others; the order does not matter.
    assert places(ctx, (100, 10), (5000, 10), (105, 5000)) == [100, 5000, 105]
    # Contained, and further away than where the last of them ends.
    assert places(ctx, (0, 1000), (10, 5), (500, 100)) == [0, 10, 500]


def test_neighbouring_pages_stay_neighbours(ctx: TeeContext) -> None:
    assert places(ctx, (100, 50), (150, 50)) == [100, 150]
    assert places(ctx, (150, 50), (100, 50)) == [150, 100]
    assert places(ctx, (100, 50), (PAGE_SIZE + 7, 50)) == [100, PAGE_SIZE + 7]
    assert places(ctx, (PAGE_SIZE, 0), (PAGE_SIZE + 9, 0)) == [0, 9]
    wide = 2 * PAGE_SIZE
    assert places(ctx, (10, wide), (10 + wide, wide), (5 * PAGE_SIZE, 1)) == [
        10,
        10 + wide,
        5 * PAGE_SIZE,
    ]


def test_the_rest_of_the_pages_is_gaps(ctx: TeeContext) -> None:
    space = Space(0, bytes(1 << 16))
    for spans, gaps in (
        ([(0, PAGE_SIZE)], []),
        ([(1, PAGE_SIZE - 1)], [(0, 1)]),
        ([(0, 10)], [(10, PAGE_SIZE)]),
        ([(5, 0)], [(0, 5), (5, PAGE_SIZE)]),
        ([(5, 10), (100, 10)], [(0, 5), (15, 100), (110, PAGE_SIZE)]),
        ([(0, 10), (5 * PAGE_SIZE + 9, PAGE_SIZE)], [(10, PAGE_SIZE + 9), (8201, 3 * PAGE_SIZE)]),
    ):
        _, layout, _ = layout_of(ctx, [Reference(INPUT, space, *span) for span in spans])
        assert layout.gaps == gaps


def test_what_does_not_overlap_is_apart(ctx: TeeContext) -> None:
    assert places(ctx, (100, 50), (100 + 2 * PAGE_SIZE, 50)) == [100, PAGE_SIZE + 100]
    # The same addresses, but not in the same space.
    one, two = places(ctx, (100, 50), (100, 50), spaces=2)
    assert abs(one - two) >= PAGE_SIZE
    assert one % PAGE_SIZE == two % PAGE_SIZE == 100


def test_total_counts_shared_bytes_once(ctx: TeeContext) -> None:
    space = Space(0, bytes(1 << 16))
    references = [Reference(INPUT, space, address, 100) for address in (0, 50, 99, 500)]
    _, layout, _ = layout_of(ctx, references)
    assert layout.total == 199 + 100


# Copies


class Service:
    """The other side of a window, which maps it as a service does."""

    def __init__(self, window: Window, layout: Layout) -> None:
        window.fit(layout.size)
        self.map = mmap.mmap(window.fd, window.size)
        window.mapped()

    def read(self, place: int, size: int) -> bytes:
        return self.map[place : place + size]

    def write(self, place: int, data: bytes) -> None:
        self.map[place : place + len(data)] = data


def test_outputs_start_with_the_clients_bytes(ctx: TeeContext) -> None:
    space = Space(0x1000, b"abcdefgh")
    params, layout, _ = layout_of(
        ctx, [Reference(OUTPUT, space, 0x1000, 4), Reference(INPUT, space, 0x1004, 4)]
    )
    window = Window()
    service = Service(window, layout)
    window.copy_in(layout)
    assert service.read(layout.place_of(params[0]), 4) == b"abcd"
    assert service.read(layout.place_of(params[1]), 4) == b"efgh"
    service.write(layout.place_of(params[0]), b"AB")
    service.write(layout.place_of(params[1]), b"EF")  # which it must not
    params[0].b = 1  # the size that the service returns does not matter
    window.copy_out(layout)
    assert space.data == b"ABcdefgh"


def test_what_the_window_keeps_of_others_does_not_go_out(ctx: TeeContext) -> None:
    """A call's references never bring bytes of an earlier call."""
    window = Window()
    secret = Space(0, b"secret" * 100)
    _, layout, _ = layout_of(ctx, [Reference(INPUT, secret, 0, 600)])
    Service(window, layout)
    window.copy_in(layout)
    other = Space(0, b"." * 600)
    _, layout, _ = layout_of(ctx, [Reference(OUTPUT, other, 100, 400)])
    window.fit(layout.size)
    window.copy_in(layout)
    window.copy_out(layout)
    assert other.data == b"." * 600


@pytest.mark.parametrize("size", [5 << 20, (1 << 20) + 1, (3 << 20) + 12345])
def test_long_copies(ctx: TeeContext, size: int) -> None:
    data = os.urandom(size)
    space = Space(0x777, data)
    references = [
        Reference(INOUT, space, 0x777, size),
        Reference(OUTPUT, space, 0x777 + 1000, size - 5000),
    ]
    params, layout, backings = layout_of(ctx, references)
    window = Window()
    service = Service(window, layout)
    window.copy_in(layout)
    place = layout.place_of(params[0])
    assert service.read(place, size) == data
    service.write(place, data[::-1])
    window.copy_out(layout)
    assert space.data == data[::-1]
    for backing, reference in zip(backings, references, strict=True):
        assert sum(count for _, count in backing.written) == reference.size


class Broken(Registered):
    """Memory that ends early."""

    def copy_in(self, offset: int, view: memoryview) -> None:
        if offset + len(view) > self.size - 10:
            raise OSError(errno.EFAULT, "gone")
        super().copy_in(offset, view)

    def copy_out(self, offset: int, view: memoryview) -> None:
        if offset + len(view) > self.size - 10:
            raise OSError(errno.EFAULT, "gone")
        super().copy_out(offset, view)


@pytest.mark.parametrize("size", [100, 5 << 20])
def test_memory_that_is_gone(ctx: TeeContext, size: int) -> None:
    backing = Broken(Space(0, bytes(size)), 0, size)
    layout = Layout([memref(ctx, INOUT, backing, 0, size)])
    window = Window()
    Service(window, layout)
    for copy in (window.copy_in, window.copy_out):
        with pytest.raises(OSError) as caught:
            copy(layout)
        assert caught.value.errno == errno.EFAULT
    # Of the same window, what is there can be copied.
    layout = Layout([memref(ctx, INOUT, backing, 0, size - 10)])
    window.copy_in(layout)
    window.copy_out(layout)


# Against a plain model: the service writes the client's bytes themselves


@st.composite
def calls(draw: st.DrawFn) -> tuple[list[tuple[int, int, int, int]], list[tuple[int, int, bytes]]]:
    """References (kind, space, address, size), and writes (reference, offset, bytes)."""
    small = st.integers(0, 40)
    big = st.integers(0, 3 * PAGE_SIZE)
    references = []
    for _ in range(draw(st.integers(1, 4))):
        address = draw(st.one_of(small, big, big.map(lambda n: n & -PAGE_SIZE)))
        references.append(
            (
                draw(st.sampled_from([INPUT, OUTPUT, INOUT])),
                draw(st.integers(0, 1)),
                address,
                draw(st.one_of(small, big)),
            )
        )
    writes = draw(
        st.lists(
            st.tuples(st.integers(0, len(references) - 1), big, st.binary(max_size=50)),
            max_size=8,
        )
    )
    return references, writes


@given(call=calls(), base=st.integers(0, 2 * PAGE_SIZE), seed=st.binary(min_size=1, max_size=9))
def test_copied_memory_looks_shared(
    ctx: TeeContext,
    call: tuple[list[tuple[int, int, int, int]], list[tuple[int, int, bytes]]],
    base: int,
    seed: bytes,
) -> None:
    length = 6 * PAGE_SIZE + 100
    data = (seed * length)[:length]
    spaces = [Space(base, data), Space(base, data[::-1])]
    shared = [bytearray(space.data) for space in spaces]
    references = [
        Reference(kind, spaces[number], base + address, size)
        for kind, number, address, size in call[0]
    ]
    params, layout, backings = layout_of(ctx, references)
    window = Window()
    service = Service(window, layout)
    window.copy_in(layout)

    def memory(at: int) -> slice:
        reference = references[at]
        start = reference.address - base
        return slice(start, start + reference.size)

    def check() -> None:
        for at, param in enumerate(params):
            place, reference = layout.place_of(param), references[at]
            assert place % PAGE_SIZE == reference.address % PAGE_SIZE
            assert place + reference.size <= layout.size
            assert service.read(place, reference.size) == shared[call[0][at][1]][memory(at)]

    check()
    for at, offset, written in call[1]:
        reference = references[at]
        if reference.kind == INPUT:
            continue
        offset = min(offset, reference.size)
        written = written[: reference.size - offset]
        service.write(layout.place_of(params[at]) + offset, written)
        start = reference.address - base + offset
        shared[call[0][at][1]][start : start + len(written)] = written
        check()
    window.copy_out(layout)
    assert [space.data for space in spaces] == shared
    # What was written is what outputs were passed, no more and no less.
    for reference, backing in zip(references, backings, strict=True):
        expected = reference.size if reference.kind != INPUT else 0
        assert sum(size for _, size in backing.written) == expected
        for address, size in backing.written:
            assert reference.address <= address
            assert address + size <= reference.address + reference.size


# The area


def test_the_area_grows() -> None:
    window = Window()
    assert window.fd == -1
    sizes = []
    for size in (1, 1 << 16, (1 << 16) + 1, 5, 1 << 20, (1 << 20) + 1):
        window.fit(size)
        assert window.size >= size
        assert window.size & (window.size - 1) == 0
        if window.fd >= 0:
            assert os.fstat(window.fd).st_size == window.size
            sizes.append(window.size)
        window.mapped()
        window.mapped()
        assert window.fd == -1
    assert sizes == [1 << 16, 1 << 17, 1 << 20, 1 << 21]


def test_an_area_that_nobody_took() -> None:
    window = Window()
    window.fit(1)
    first = os.fstat(window.fd)
    window.fit(1 << 17)  # it was never given away
    second = os.fstat(window.fd)
    assert second.st_size == 1 << 17
    window.mapped()
    assert not descriptors_of(first)
    assert len(descriptors_of(second)) == 1  # Python's mmap keeps one of its own


def descriptors_of(file: os.stat_result) -> list[int]:
    """The descriptors of this process that are of one file."""
    return [fd for fd in open_descriptors() if os.path.samestat(os.fstat(fd), file)]


def test_no_area_to_be_had(ctx: TeeContext) -> None:
    """The call fails, and the next one finds the window as it was."""

    def run(_socket: socket.socket) -> None:
        window = Window()
        window.fit(1)
        window.mapped()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        for size in (1 << 17, 1 << 17):
            with pytest.raises(OSError) as caught:
                window.fit(size)
            assert caught.value.errno == errno.EMFILE
        assert (window.size, window.fd) == (1 << 16, -1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        space = Space(0, b"x" * 100_000)
        _params, layout, _backings = layout_of(ctx, [Reference(INOUT, space, 0, 100_000)])
        service = Service(window, layout)
        window.copy_in(layout)
        assert service.read(0, 100_000) == b"x" * 100_000

    with Child(run):
        pass
