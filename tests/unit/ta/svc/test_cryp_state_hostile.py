# SPDX-License-Identifier: BSD-2-Clause
"""Whatever a TA passes to the calls of operations that it has: a code, and nothing else."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import gp_crypto as gp
from gentee.abi import optee_ta as abi
from gentee.abi.gp import TEE_ERROR_OUT_OF_MEMORY
from gentee.crypto.authenc import AUTHENCS
from gentee.crypto.ciphers import CIPHERS
from gentee.crypto.digests import HASHES, XOFS
from gentee.crypto.macs import MACS
from gentee.ta.engine.base import PROT_WRITE
from gentee.ta.svc import cryp_state
from tests.svc_crypto import IN, IV, OUT, PAGES, SIZE, TAG, TAG_SIZE, CallFailed, CryptoTa
from tests.svc_ta import CODE, DATA, LENT, LENT2, NOWHERE, PAGE, STACK

FREE = abi.TEE_SCN_CRYP_STATE_FREE
CALLS = [number for number in cryp_state.ROWS if number != FREE]

KEYS = {gp.TEE_MAIN_ALGO_DES: 8, gp.TEE_MAIN_ALGO_DES3: 24, gp.TEE_MAIN_ALGO_SM4: 16}
MODES = (gp.TEE_MODE_ENCRYPT, gp.TEE_MODE_DECRYPT, gp.TEE_MODE_MAC)


class Operations(CryptoTa):
    """A TA that has an operation of each algorithm in each mode, two of each, started or not."""

    __test__ = False

    def __init__(self) -> None:
        super().__init__()
        self.handles: list[int] = []
        for algo in (*HASHES, *XOFS, *MACS, *CIPHERS, *AUTHENCS):
            algo_class = gp.TEE_ALG_GET_CLASS(algo)
            two = gp.TEE_ALG_GET_CHAIN_MODE(algo) == gp.TEE_CHAIN_MODE_XTS
            for mode in MODES:
                for _ in range(2):
                    if algo_class == gp.TEE_OPERATION_DIGEST:
                        self.handles.append(self.state(algo, mode))
                        continue
                    key = bytes(range(KEYS.get(gp.TEE_ALG_GET_MAIN_ALG(algo), 32)))
                    two_keys = two and algo_class == gp.TEE_OPERATION_CIPHER
                    self.handles.append(self.keyed(algo, mode, key, key if two_keys else None))


@pytest.fixture(scope="module")
def ta() -> Iterator[Operations]:
    tested = Operations()
    yield tested
    tested.end()


PLACES = [0, CODE, DATA, IN, IN + 7, IN + 16, OUT, IV, TAG, SIZE, TAG_SIZE, LENT, LENT2 - 3, STACK]
ENDS = [STACK + PAGE - 5, IN + PAGES * PAGE - 20, OUT + PAGES * PAGE, NOWHERE, (1 << 64) - 8]
addresses = st.sampled_from([*PLACES, *ENDS])
sizes = st.one_of(
    st.integers(0, 40),
    st.sampled_from([PAGE, 4097, 70_000, PAGES * PAGE, 1 << 31, 1 << 32, (1 << 64) - 1]),
)
words = st.one_of(addresses, sizes)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(CALLS),
            st.integers(0, 1 << 16),
            st.lists(words, min_size=7, max_size=7),
            sizes,
            sizes,
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_is_passed(
    ta: Operations, calls: list[tuple[int, int, list[int], int, int]]
) -> None:
    code = ta.space.find(CODE)
    assert code is not None
    assert not code.prot & PROT_WRITE
    before = bytes(code.memory)
    first = calls[0][1]
    for number, which, args, size, tag_size in calls:
        # Mostly one operation, so that it comes somewhere.
        handle = ta.handles[(first if which % 4 else which) % len(ta.handles)]
        ta.put_u64(SIZE, size)
        ta.put_u64(TAG_SIZE, tag_size)
        if number == abi.TEE_SCN_CRYP_STATE_COPY:
            args[0] = ta.handles[(first ^ 1) % len(ta.handles)]
        result = ta.call(number, handle, *args)
        assert result == 0 or result >> 16 == 0xFFFF
    assert bytes(code.memory) == before


def test_as_many_operations_as_there_are_handles(ta: Operations) -> None:
    made: list[int] = []

    def make() -> None:
        while True:
            made.append(ta.state(gp.TEE_ALG_SHA256, gp.TEE_MODE_DIGEST))

    with pytest.raises(CallFailed) as failed:
        make()
    assert failed.value.code == TEE_ERROR_OUT_OF_MEMORY
    assert len(set(made)) == len(made)
    ta.free(*made)
