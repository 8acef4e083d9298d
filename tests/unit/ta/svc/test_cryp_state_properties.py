# SPDX-License-Identifier: BSD-2-Clause
"""Operations by system calls: any split of the data gives the same, in any order that is allowed.

Two operations of one algorithm are taken through random calls, copies of their states included.
Beside them goes a model that says the code of each call, and keeps what was passed. What comes out
is compared with pyca's result for all of that at once, or with an operation's that was not split.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import gp_crypto as gp
from gentee.abi.gp import TEE_ERROR_BAD_PARAMETERS, TEE_ERROR_BAD_STATE, TEE_ERROR_MAC_INVALID
from gentee.crypto.authenc import AUTHENCS
from gentee.crypto.ciphers import CIPHERS
from gentee.crypto.digests import HASHES, XOFS
from gentee.crypto.macs import MACS
from tests.svc_crypto import IN, OUT, CallFailed, CryptoTa

BAD_PARAMETERS = TEE_ERROR_BAD_PARAMETERS
BAD_STATE = TEE_ERROR_BAD_STATE
MAC_INVALID = TEE_ERROR_MAC_INVALID
ENCRYPT, DECRYPT = gp.TEE_MODE_ENCRYPT, gp.TEE_MODE_DECRYPT

KEY = bytes(range(1, 33))
IV = bytes(range(100, 116))
NONCE = bytes(range(50, 62))
TAG_SIZE = 12

IN_BLOCKS = (
    gp.TEE_ALG_AES_CBC_MAC_NOPAD,
    gp.TEE_ALG_DES_CBC_MAC_NOPAD,
    gp.TEE_ALG_DES3_CBC_MAC_NOPAD,
)
KEY_SIZES = {gp.TEE_MAIN_ALGO_DES: 8, gp.TEE_MAIN_ALGO_DES3: 24, gp.TEE_MAIN_ALGO_SM4: 16}


@pytest.fixture(scope="module")
def ta() -> Iterator[CryptoTa]:
    tested = CryptoTa()
    yield tested
    tested.end()


def key_of(algo: int) -> bytes:
    return KEY[: KEY_SIZES.get(gp.TEE_ALG_GET_MAIN_ALG(algo), 32)]


def block_of(algo: int) -> int:
    return (
        8 if gp.TEE_ALG_GET_MAIN_ALG(algo) in (gp.TEE_MAIN_ALGO_DES, gp.TEE_MAIN_ALGO_DES3) else 16
    )


@contextlib.contextmanager
def operations(ta: CryptoTa, algo: int, mode: int) -> Iterator[list[int]]:
    """Two operations."""
    states = []
    for _ in range(2):
        if gp.TEE_ALG_GET_CLASS(algo) == gp.TEE_OPERATION_DIGEST:
            states.append(ta.state(algo, mode))
        else:
            two = gp.TEE_ALG_GET_CHAIN_MODE(algo) == gp.TEE_CHAIN_MODE_XTS
            two = two and gp.TEE_ALG_GET_CLASS(algo) == gp.TEE_OPERATION_CIPHER
            key = key_of(algo)
            states.append(ta.keyed(algo, mode, key, key[::-1] if two else None))
    yield states
    ta.free(*states)


def code_of(call: Callable[[], Any]) -> tuple[int, Any]:
    """The code of a call, and what it gave."""
    try:
        return 0, call()
    except CallFailed as failed:
        return failed.code, None


# Splits.


def pieces(data: bytes, cuts: Sequence[int], unit: int = 1) -> list[bytes]:
    """``data`` cut at numbers from 0 to 1000, a thousandth of its length each, to whole units."""
    places = sorted(len(data) * cut // 1000 // unit * unit for cut in cuts)
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


cuts = st.lists(st.integers(0, 1000), max_size=5)
datas = st.one_of(
    st.binary(max_size=100),
    st.integers(0, 9000).map(lambda n: bytes(range(1, 251)) * (n // 250 + 1)),
)
jumps = st.integers(0, 63)  # bit n: the other operation takes over before piece n, by a copy


@pytest.mark.parametrize("algo", [*HASHES, *XOFS, *MACS])
@given(data=datas, cuts=cuts, jumps=jumps)
def test_splits_of_digests_and_macs(
    ta: CryptoTa, algo: int, data: bytes, cuts: list[int], jumps: int
) -> None:
    if algo in IN_BLOCKS:
        data = (data + bytes(16))[: len(data) // 16 * 16 + 16]
    with operations(ta, algo, gp.TEE_MODE_MAC) as states:
        expected = ta.hash(states[0], [data] if data else [], 100 if algo in XOFS else 64)
        current = 0
        ta.hash_init(states[0])
        *parts, last = pieces(data, cuts)
        for n, part in enumerate(parts):
            if jumps >> n & 1:
                ta.copy(states[1 - current], states[current])
                current = 1 - current
            ta.hash_update(states[current], part)
        ta.copy(states[1 - current], states[current])
        for state in states:
            if algo in XOFS:
                cut = cuts[0] % 100 if cuts else 50
                out = ta.hash_final(state, last, cut) + ta.hash_final(state, b"", 100 - cut)
                assert out == expected
            else:
                assert ta.hash_final(state, last) == expected


def restrictions(algo: int, data: bytes) -> tuple[int, bytes, int]:
    """Unit of splits, data that can be passed at once, how much of it the last step must have."""
    block = block_of(algo)
    chain = gp.TEE_ALG_GET_CHAIN_MODE(algo)
    if algo == gp.TEE_ALG_AES_CTR:
        return 1, data, 0
    if chain == gp.TEE_CHAIN_MODE_CTS:
        return block, data + bytes(17), 17
    if chain == gp.TEE_CHAIN_MODE_XTS:
        return block, data + bytes(16), 16
    return block, data[: len(data) // block * block], 0


@pytest.mark.parametrize("mode", [ENCRYPT, DECRYPT])
@pytest.mark.parametrize("algo", CIPHERS)
@given(data=datas, cuts=cuts, jumps=jumps, in_place=st.booleans())
def test_splits_of_ciphers(
    ta: CryptoTa, algo: int, mode: int, data: bytes, cuts: list[int], jumps: int, in_place: bool
) -> None:
    unit, data, least = restrictions(algo, data)
    iv = (
        b""
        if gp.TEE_ALG_GET_CHAIN_MODE(algo) == gp.TEE_CHAIN_MODE_ECB_NOPAD
        else IV[: block_of(algo)]
    )
    free = data[: len(data) - least - (unit if least else 0)] if len(data) > 2 * unit else b""
    *parts, last = pieces(free[: len(free) // unit * unit], cuts, unit)
    last += data[sum(map(len, parts)) + len(last) :]
    spare, out = (0, IN) if in_place else (20, OUT)
    with operations(ta, algo, mode) as states:
        ta.cipher_init(states[0], iv)
        expected = ta.cipher_update(states[0], data, True)
        current = 0
        ta.cipher_init(states[0], iv)
        made = b""
        for n, part in enumerate(parts):
            if jumps >> n & 1:
                ta.copy(states[1 - current], states[current])
                current = 1 - current
            made += ta.cipher_update(states[current], part, False, spare, out)
        ta.copy(states[1 - current], states[current])
        for state in states:
            assert made + ta.cipher_update(state, last, True, spare, out) == expected


@pytest.mark.parametrize("algo", AUTHENCS)
@given(
    aad=st.binary(max_size=80),
    data=datas,
    aad_cuts=cuts,
    cuts=cuts,
    jumps=jumps,
    in_place=st.booleans(),
)
def test_splits_of_authenticated_encryption(
    ta: CryptoTa,
    algo: int,
    aad: bytes,
    data: bytes,
    aad_cuts: list[int],
    cuts: list[int],
    jumps: int,
    in_place: bool,
) -> None:
    key = key_of(algo)
    aead = AESGCM(key) if algo == gp.TEE_ALG_AES_GCM else AESCCM(key, TAG_SIZE)
    sealed = aead.encrypt(NONCE, data, aad)
    cipher, tag = sealed[: len(data)], sealed[len(data) :][:TAG_SIZE]
    out = IN if in_place else OUT
    for mode, given_data, expected in ((ENCRYPT, data, cipher), (DECRYPT, cipher, data)):
        with operations(ta, algo, mode) as states:
            current = 0
            ta.authenc_init(states[0], NONCE, TAG_SIZE, len(aad), len(data))
            made = b""
            *parts, last = pieces(given_data, cuts)
            aads = pieces(aad, aad_cuts)
            for n, part in enumerate([*aads, *parts]):
                if jumps >> n & 1:
                    ta.copy(states[1 - current], states[current])
                    current = 1 - current
                if n < len(aads):
                    ta.authenc_aad(states[current], part)
                elif part:
                    made += ta.authenc_update(states[current], part, out)
            ta.copy(states[1 - current], states[current])
            for state in states:
                if mode == ENCRYPT:
                    rest, made_tag = ta.authenc_enc_final(state, last, 16, out)
                    assert (made + rest, made_tag) == (expected, tag)
                else:
                    assert made + ta.authenc_dec_final(state, last, tag, out) == expected


# Orders of calls.


@dataclass
class Model:
    """One operation, as it should be.

    :ivar started: it was initialised.
    :ivar ended: the result was put out.
    """

    started: bool = False
    ended: bool = False
    extracting: bool = False
    aad: bytes = b""
    data: bytes = b""
    made: bytes = b""

    def start(self) -> None:
        self.__init__(started=True)  # type: ignore[misc]


def steps(*names: str) -> st.SearchStrategy[list[tuple[str, int, bytes]]]:
    """Calls: their name, which of two operations, and data."""
    return st.lists(
        st.tuples(st.sampled_from(names), st.integers(0, 1), st.binary(max_size=40)), max_size=12
    )


@pytest.mark.parametrize(
    "algo", [gp.TEE_ALG_SHA256, gp.TEE_ALG_SM3, gp.TEE_ALG_HMAC_SHA1, gp.TEE_ALG_AES_CMAC]
)
@given(steps=steps("init", "update", "update", "final", "copy"))
def test_orders_of_digests_and_macs(
    ta: CryptoTa, algo: int, steps: list[tuple[str, int, bytes]]
) -> None:
    models = [Model(), Model()]
    with operations(ta, algo, gp.TEE_MODE_MAC) as states, contextlib.ExitStack() as stack:
        fresh = stack.enter_context(operations(ta, algo, gp.TEE_MODE_MAC))[0]
        for name, which, data in steps:
            state, model = states[which], models[which]
            if name == "init":
                ta.hash_init(state)
                model.start()
            elif name == "copy":
                ta.copy(state, states[1 - which])
                models[which] = copy.copy(models[1 - which])
            elif name == "update":
                code, _ = code_of(partial(ta.hash_update, state, data))
                working = model.started and not model.ended
                assert code == (0 if working or not data else BAD_STATE)
                model.data += data if working else b""
            else:
                code, made = code_of(partial(ta.hash_final, state, data))
                if not model.started or model.ended:
                    assert code == BAD_STATE
                    continue
                assert code == 0
                whole = model.data + data
                assert made == ta.hash(fresh, [whole] if whole else [])
                model.ended = True


@given(steps=steps("init", "update", "extract", "extract", "copy"))
def test_orders_of_extendable_output(ta: CryptoTa, steps: list[tuple[str, int, bytes]]) -> None:
    models = [Model(), Model()]
    algo = gp.TEE_ALG_SHAKE256
    with operations(ta, algo, gp.TEE_MODE_DIGEST) as states:
        fresh = ta.state(algo, gp.TEE_MODE_DIGEST)
        for name, which, data in steps:
            state, model = states[which], models[which]
            if name == "init":
                ta.hash_init(state)
                model.start()
            elif name == "copy":
                ta.copy(state, states[1 - which])
                models[which] = copy.copy(models[1 - which])
            elif name == "update":
                code, _ = code_of(partial(ta.hash_update, state, data))
                working = model.started and not model.extracting
                assert code == (0 if working or not data else BAD_STATE)
                model.data += data if working else b""
            else:
                code, made = code_of(partial(ta.hash_final, state, b"", len(data)))
                assert code == (0 if model.started else BAD_STATE)
                if code == 0:
                    model.made += made
                    model.extracting |= data != b""
                    whole = [model.data] if model.data else []
                    assert model.made == ta.hash(fresh, whole, len(model.made))
        ta.free(fresh)


@pytest.mark.parametrize(
    "algo", [gp.TEE_ALG_AES_CTR, gp.TEE_ALG_AES_CBC_NOPAD, gp.TEE_ALG_DES3_ECB_NOPAD]
)
@given(steps=steps("init", "update", "update", "final", "copy"))
def test_orders_of_ciphers(ta: CryptoTa, algo: int, steps: list[tuple[str, int, bytes]]) -> None:
    """AES and DES go on after the last data."""
    models = [Model(), Model()]
    block = 1 if algo == gp.TEE_ALG_AES_CTR else block_of(algo)
    with operations(ta, algo, ENCRYPT) as states:
        fresh = ta.keyed(algo, ENCRYPT, key_of(algo))
        for name, which, data in steps:
            state, model = states[which], models[which]
            if name == "init":
                ta.cipher_init(state, IV) if block != 8 else ta.cipher_init(state)
                model.start()
            elif name == "copy":
                ta.copy(state, states[1 - which])
                models[which] = copy.copy(models[1 - which])
            else:
                code, made = code_of(partial(ta.cipher_update, state, data, name == "final"))
                if not model.started:
                    assert code == BAD_STATE
                elif len(data) % block:
                    assert code == BAD_PARAMETERS
                else:
                    assert code == 0
                    model.data += data
                    model.made += made
                    ta.cipher_init(fresh, IV)
                    assert model.made == ta.cipher_update(fresh, model.data)
        ta.free(fresh)


@pytest.mark.parametrize("mode", [ENCRYPT, DECRYPT])
@given(steps=steps("init", "aad", "update", "update", "enc_final", "dec_final", "copy"))
def test_orders_of_gcm(ta: CryptoTa, mode: int, steps: list[tuple[str, int, bytes]]) -> None:
    models = [Model(), Model()]
    algo = gp.TEE_ALG_AES_GCM
    with operations(ta, algo, mode) as states:
        for name, which, data in steps:
            state, model = states[which], models[which]
            if name == "init":
                ta.authenc_init(state, NONCE, TAG_SIZE)
                model.start()
                continue
            if name == "copy":
                ta.copy(state, states[1 - which])
                models[which] = copy.copy(models[1 - which])
                continue
            if name == "aad":
                code, made = code_of(partial(ta.authenc_aad, state, data))
                expected = BAD_PARAMETERS if model.data else 0
            elif name == "update":
                data = data or b"0"  # nothing would end a block of additional data
                code, made = code_of(partial(ta.authenc_update, state, data))
                expected = 0
            elif name == "enc_final":
                code, made = code_of(partial(ta.authenc_enc_final, state, data))
                expected = 0 if mode == ENCRYPT else BAD_PARAMETERS
            else:
                code, made = code_of(partial(ta.authenc_dec_final, state, data, bytes(TAG_SIZE)))
                expected = MAC_INVALID if mode == DECRYPT else BAD_PARAMETERS
            ended = model.ended and (expected == 0 or name in ("aad", "update"))
            if not model.started or ended:
                expected = BAD_STATE
            assert code == expected
            if name == "dec_final":
                model.ended |= code == MAC_INVALID
            elif code == 0 and name == "aad":
                model.aad += data
            elif code == 0 and name == "update":
                model.data += data
                model.made += made
            elif code == 0:
                rest, tag = made
                sealed = AESGCM(KEY).encrypt(NONCE, model.data + data, model.aad)
                whole = len(model.data) + len(data)
                assert model.made + rest == sealed[:whole]
                assert tag == sealed[whole:][:TAG_SIZE]
                model.ended = True


CCM_AAD, CCM_PAYLOAD = 9, 21  # bytes that come, as the operation is told


@pytest.mark.parametrize("mode", [ENCRYPT, DECRYPT])
@given(steps=steps("init", "aad", "aad", "update", "enc_final", "dec_final", "copy", "rest"))
def test_orders_of_ccm(ta: CryptoTa, mode: int, steps: list[tuple[str, int, bytes]]) -> None:
    models = [Model(), Model()]
    encrypts = mode == ENCRYPT
    with operations(ta, gp.TEE_ALG_AES_CCM, mode) as states:
        for name, which, data in steps:
            state, model = states[which], models[which]
            if name == "init":
                ta.authenc_init(state, NONCE, TAG_SIZE, CCM_AAD, CCM_PAYLOAD)
                model.start()
                continue
            if name == "copy":
                ta.copy(state, states[1 - which])
                models[which] = copy.copy(models[1 - which])
                continue
            if name == "rest":  # of additional data, so that payload is met with more often
                name, data = "aad", data.ljust(CCM_AAD)[: CCM_AAD - len(model.aad)]
            if name == "aad":
                code, made = code_of(partial(ta.authenc_aad, state, data))
            elif name == "update":
                code, made = code_of(partial(ta.authenc_update, state, data))
            elif name == "enc_final":
                code, made = code_of(partial(ta.authenc_enc_final, state, data))
            else:
                code, made = code_of(partial(ta.authenc_dec_final, state, data, bytes(TAG_SIZE)))
            if not model.started:
                assert code == BAD_STATE
                continue
            if name == ("dec_final" if encrypts else "enc_final"):
                assert code == BAD_PARAMETERS
                continue
            if model.ended:
                again = name == "dec_final" and not data
                assert code == (MAC_INVALID if again else BAD_STATE)
                continue
            if name == "aad":
                fits = len(model.aad) + len(data) <= CCM_AAD
                assert code == (0 if fits else BAD_STATE)
                model.aad += data if fits else b""
                continue
            if len(model.aad) < CCM_AAD or len(model.data) + len(data) > CCM_PAYLOAD:
                assert code == BAD_STATE
                continue
            model.data += data
            if name == "update":
                assert code == 0
                model.made += made
            elif len(model.data) < CCM_PAYLOAD:
                # The payload was taken, and what it became was not put out where that is encrypted.
                assert code == BAD_STATE
                model.start()
                ta.authenc_init(state, NONCE, TAG_SIZE, CCM_AAD, CCM_PAYLOAD)
            elif name == "enc_final":
                assert code == 0
                rest, tag = made
                sealed = AESCCM(KEY, TAG_SIZE).encrypt(NONCE, model.data, model.aad)
                assert model.made + rest + tag == sealed
                model.ended = True
            else:
                assert code == MAC_INVALID
                model.ended = True
