# SPDX-License-Identifier: BSD-2-Clause
"""gentee.core.params: every byte a client may write, and exactly the bytes it gets back."""

import errno
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import linux_tee as tee
from gentee.core.params import (
    MAX_PARAMS,
    PARAM_SIZE,
    USER_ADDRESS_MAX,
    TeeParam,
    params_from_supp,
    params_from_user,
    params_put,
    params_to_supp,
    params_to_user,
)
from gentee.core.shm import TeeShm
from tests.helpers import Client, MinimalOps, Param, make_device, pack, unpack

META = tee.TEE_IOCTL_PARAM_ATTR_META
SIZE = 8192

VALUES = {1, 2, 3}
MEMREFS = {5, 6, 7}
UBUFS = {8, 9, 10}
OBJREFS = {11, 12, 13}
TYPES = {0} | VALUES | MEMREFS | UBUFS | OBJREFS

words = st.integers(0, 2**64 - 1)
# Where mistakes are likely: around nothing, a buffer's size, 32 bits, the end of user space, and
# the end of all numbers.
edges = st.sampled_from(
    sorted(
        {
            number + offset
            for number in (0, SIZE, 2**31, 2**32, USER_ADDRESS_MAX, 2**63, 2**64)
            for offset in (-1, 0, 1)
            if 0 <= number + offset < 2**64
        }
    )
)


class AllOps(MinimalOps):
    version = (1, 0, tee.TEE_GEN_CAP_MEMREF_NULL)


# Hypothesis wants no fixtures of one call's life; this client serves a whole module.
_client = Client(make_device(AllOps(), takes_ubuf=True, takes_objref=True))
_shm = _client.shm_alloc(SIZE)


@pytest.fixture(autouse=True)
def _references_are_balanced() -> Iterator[None]:
    yield
    assert _shm.refcount == 1
    assert set(_client.ctx.shms) == {_shm.id}


@pytest.fixture
def client() -> Client:
    return _client


@pytest.fixture
def shm() -> TeeShm:
    return _shm


@st.composite
def memrefs(draw: st.DrawFn) -> Param:
    attr = draw(st.sampled_from(sorted(MEMREFS))) | draw(st.sampled_from((0, META)))
    if draw(st.booleans()):
        return (attr, draw(words), draw(words), tee.TEE_MEMREF_NULL)
    offset = draw(st.integers(0, SIZE))
    return (attr, offset, draw(st.integers(0, SIZE - offset)), _shm.id)


@st.composite
def ubufs(draw: st.DrawFn) -> Param:
    attr = draw(st.sampled_from(sorted(UBUFS))) | draw(st.sampled_from((0, META)))
    address = draw(st.integers(0, USER_ADDRESS_MAX))
    return (attr, address, draw(st.integers(0, USER_ADDRESS_MAX - address)), draw(words))


@st.composite
def others(draw: st.DrawFn) -> Param:
    attr = draw(st.sampled_from(sorted({0} | VALUES | OBJREFS)))
    return (attr | draw(st.sampled_from((0, META))), draw(words), draw(words), draw(words))


valid_params = st.lists(st.one_of(memrefs(), ubufs(), others()), max_size=8)
any_params = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(sorted(TYPES | {4, 14, 15})), st.integers(0, 0x1FF), words),
        st.one_of(edges, words),
        st.one_of(edges, words),
        st.one_of(st.just(_shm.id), edges, words),
    ),
    max_size=8,
)


@given(valid_params)
def test_what_comes_in_is_what_the_client_wrote(uparams: list[Param]) -> None:
    params = params_from_user(_client.ctx, pack(uparams), 0, len(uparams))
    references = sum(param.shm is not None for param in params)
    assert _shm.refcount == 1 + references
    for (attr, a, b, c), param in zip(uparams, params, strict=True):
        assert param.attr == attr
        kind = attr & 0xFF
        if kind in {1, 3}:
            assert (param.a, param.b, param.c) == (a, b, c)
        elif kind in MEMREFS:
            assert (param.a, param.b) == (a, b)
            assert param.shm is (None if c == tee.TEE_MEMREF_NULL else _shm)
        elif kind in UBUFS | {11, 13}:
            assert (param.a, param.b) == (a, b)
        else:  # nothing of an output comes in
            assert (param.a, param.b, param.c, param.shm) == (0, 0, 0, None)
    params_put(params)
    assert _shm.refcount == 1


@given(valid_params, st.tuples(words, words, words))
def test_what_goes_back_is_what_the_driver_wrote(
    uparams: list[Param], answer: tuple[int, int, int]
) -> None:
    address = 0x1000
    memory = bytearray(pack(uparams))
    params = params_from_user(_client.ctx, bytes(memory), 0, len(uparams))
    for param in params:
        param.a, param.b, param.c = answer
    for where, data in params_to_user(params, address):
        memory[where - address : where - address + len(data)] = data
    params_put(params)
    for before, after in zip(uparams, unpack(bytes(memory)), strict=True):
        attr, a, _, c = before
        if attr in {2, 3}:
            assert after == (attr, *answer)
        elif attr in {6, 7, 9, 10}:  # of memory only the size
            assert after == (attr, a, answer[1], c)
        elif attr in {12, 13}:
            assert after == (attr, answer[0], answer[1], c)
        else:  # inputs, and all that have META set
            assert after == before


def _decode(data: bytes) -> list[TeeParam] | None:
    """The parameters, or None when they were refused with an errno that the kernel has for it."""
    try:
        return params_from_user(_client.ctx, data, 0, len(data) // 32)
    except OSError as error:
        number = error.errno
    assert number in (errno.EINVAL, errno.EFAULT)
    return None


@given(any_params)
def test_no_parameter_raises_anything_but_the_two_errnos(uparams: list[Param]) -> None:
    params = _decode(pack(uparams))
    if params is not None:
        for attr, a, b, c in uparams:
            assert attr & ~0x1FF == 0
            assert attr & 0xFF in TYPES
            if attr & 0xFF in MEMREFS and c != tee.TEE_MEMREF_NULL:
                assert a + b <= SIZE
        params_to_user(params, 0)
        params_to_supp(params)
        params_put(params)
    assert _shm.refcount == 1


@given(st.integers(0, 6).flatmap(lambda n: st.binary(min_size=n * 32, max_size=n * 32)))
def test_no_bytes_raise_anything_but_the_two_errnos(data: bytes) -> None:
    params = _decode(data)
    if params is not None:
        params_put(params)
    assert _shm.refcount == 1
    try:
        params_from_supp(data, 0, len(data) // 32)
    except OSError as error:
        number = error.errno
    else:
        number = 0
    assert number in (0, errno.EINVAL, errno.EFAULT)


def test_as_many_as_an_argument_can_hold(client: Client, shm: TeeShm) -> None:
    uparams: list[Param] = [(5, 0, 1, shm.id)] * MAX_PARAMS
    params = params_from_user(client.ctx, pack(uparams), 0, MAX_PARAMS)
    assert shm.refcount == 1 + MAX_PARAMS
    params_put(params)
    params_put(params)  # the references are gone, a second time drops nothing


def test_they_start_where_the_argument_says(client: Client) -> None:
    data = b"head" + pack([(1, 7, 8, 9)])
    (param,) = params_from_user(client.ctx, data, 4, 1)
    assert (param.attr, param.a, param.b, param.c) == (1, 7, 8, 9)


@pytest.mark.parametrize("bad", [0x200, 0x100_0000_0001, 4, 14, 15, 0x10, 0xFF, 0x104])
def test_unknown_attributes(client: Client, shm: TeeShm, bad: int) -> None:
    # The good one before it must not leave a reference.
    uparams: list[Param] = [(7, 0, SIZE, shm.id), (bad, 0, 0, 0)]
    with pytest.raises(OSError) as caught:
        params_from_user(client.ctx, pack(uparams), 0, 2)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, SIZE + 1), (SIZE, 1), (1, SIZE), (2**64 - 1, 2), (1, 2**64 - 1), (2**63, 2**63)],
)
def test_memref_beyond_its_memory(client: Client, shm: TeeShm, offset: int, size: int) -> None:
    with pytest.raises(OSError) as caught:
        params_from_user(client.ctx, pack([(6, offset, size, shm.id)]), 0, 1)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(("offset", "size"), [(0, SIZE), (SIZE, 0), (SIZE - 1, 1), (0, 0)])
def test_memref_to_the_very_end(client: Client, shm: TeeShm, offset: int, size: int) -> None:
    params = params_from_user(client.ctx, pack([(6, offset, size, shm.id)]), 0, 1)
    assert (params[0].a, params[0].b, params[0].shm) == (offset, size, shm)
    params_put(params)


def test_unknown_memory(client: Client, shm: TeeShm) -> None:
    for number in (0, shm.id + 1, 2**31, 2**32 - 1, 2**63):
        with pytest.raises(OSError) as caught:
            params_from_user(client.ctx, pack([(5, 0, 0, number)]), 0, 1)
        assert caught.value.errno == errno.EINVAL


def test_memory_of_another_context_is_unknown(client: Client, shm: TeeShm) -> None:
    with Client(client.device) as other:
        with pytest.raises(OSError) as caught:
            params_from_user(other.ctx, pack([(5, 0, 0, shm.id)]), 0, 1)
        assert caught.value.errno == errno.EINVAL


def test_null_memref_needs_its_capability(client: Client) -> None:
    null = pack([(7, 3, 5, tee.TEE_MEMREF_NULL)])
    (param,) = params_from_user(client.ctx, null, 0, 1)
    assert (param.shm, param.a, param.b) == (None, 3, 5)
    with Client(make_device()) as without:
        with pytest.raises(OSError) as caught:
            params_from_user(without.ctx, null, 0, 1)
        assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("attr", sorted(UBUFS | OBJREFS))
def test_ubufs_and_objrefs_only_where_the_driver_takes_them(client: Client, attr: int) -> None:
    uparam = pack([(attr, 0x1000, 16, 0)])
    params_put(params_from_user(client.ctx, uparam, 0, 1))
    with Client(make_device()) as without:
        with pytest.raises(OSError) as caught:
            params_from_user(without.ctx, uparam, 0, 1)
        assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("address", "size"), [(USER_ADDRESS_MAX, 1), (2**63, 0), (0, 2**64 - 1), (1, 2**64 - 1)]
)
def test_ubuf_outside_of_user_space(client: Client, address: int, size: int) -> None:
    for attr in sorted(UBUFS):
        with pytest.raises(OSError) as caught:
            params_from_user(client.ctx, pack([(attr, address, size, 0)]), 0, 1)
        assert caught.value.errno == errno.EFAULT


def test_numbers_that_grew_too_large_are_cut(client: Client) -> None:
    params = [TeeParam(3, 2**64, 2**64 + 5, -1), TeeParam(6, 0, 2**64 + 7)]
    assert params_to_user(params, 0) == [
        (8, (0).to_bytes(8, "little") + (5).to_bytes(8, "little") + b"\xff" * 8),
        (PARAM_SIZE + 16, (7).to_bytes(8, "little")),
    ]


def test_a_request_as_the_supplicant_sees_it(shm: TeeShm) -> None:
    params = [
        TeeParam(META | 3, 1, 2, 3),
        TeeParam(2, 4, 5, 6),
        TeeParam(7, 16, 32, 0, shm),
        TeeParam(6, 16, 32),
        TeeParam(9, 0x1000, 8),
        TeeParam(11, 7, 1),
        TeeParam(12, 7, 1),
        TeeParam(0, 1, 1, 1),
    ]
    assert unpack(params_to_supp(params)) == [
        (META | 3, 1, 2, 3),
        (2, 0, 0, 0),
        (7, 16, 32, shm.id),
        (6, 0, 32, tee.TEE_MEMREF_NULL),
        (9, 0x1000, 8, 0),
        (11, 7, 1, 0),
        (12, 0, 0, 0),
        (0, 0, 0, 0),
    ]


def test_an_answer_of_the_supplicant(shm: TeeShm) -> None:
    uparams: list[Param] = [
        (META | 3, 1, 2, 3),
        (1, 4, 5, 6),
        (7, 16, 32, shm.id),
        (10, 0x1000, 8, 9),
        (13, 7, 1, 9),
        (0, 1, 1, 1),
    ]
    params = params_from_supp(b"x" + pack(uparams), 1, len(uparams))
    assert [(p.attr, p.a, p.b, p.c, p.shm) for p in params] == [
        (META | 3, 1, 2, 3, None),
        (1, 0, 0, 0, None),  # an input cannot be updated
        (7, 0, 32, 0, None),  # of a memref only the size can
        (10, 0x1000, 8, 0, None),
        (13, 7, 1, 0, None),
        (0, 0, 0, 0, None),
    ]


def test_bad_answers_of_the_supplicant() -> None:
    for uparam, error in (((0x200, 0, 0, 0), errno.EINVAL), ((9, 2**63, 1, 0), errno.EFAULT)):
        with pytest.raises(OSError) as caught:
            params_from_supp(pack([uparam]), 0, 1)
        assert caught.value.errno == error


def test_param_tells_what_it_is(shm: TeeShm) -> None:
    param = TeeParam(META | 7, 1, 2, 0, shm)
    assert (param.type, param.is_memref()) == (7, True)
    assert repr(param).startswith("TeeParam(0x107, 0x1, 0x2, 0x0, <")
    assert not TeeParam(8).is_memref()
