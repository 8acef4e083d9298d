# SPDX-License-Identifier: BSD-2-Clause
"""The system calls of operations: handles, keys, memory, and the codes in OP-TEE's order."""

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gentee.abi import gp_crypto as gp
from gentee.abi import optee_ta as abi
from gentee.abi.gp import (
    TEE_ERROR_ACCESS_DENIED,
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_BAD_STATE,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_MAC_INVALID,
    TEE_ERROR_NOT_IMPLEMENTED,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_SHORT_BUFFER,
    TEE_SUCCESS,
)
from gentee.ta.engine.base import AARCH64, ARM
from tests.svc_crypto import HANDLE, IN, IV, OUT, PAGES, SIZE, TAG, TAG_SIZE, CryptoTa
from tests.svc_ta import CODE, DATA, LENT, LENT2, NOWHERE, PAGE, STACK, everything

OK = TEE_SUCCESS
DENIED = TEE_ERROR_ACCESS_DENIED
BAD_PARAMETERS = TEE_ERROR_BAD_PARAMETERS
BAD_STATE = TEE_ERROR_BAD_STATE
SHORT = TEE_ERROR_SHORT_BUFFER

ALLOC = abi.TEE_SCN_CRYP_STATE_ALLOC
FREE = abi.TEE_SCN_CRYP_STATE_FREE
COPY = abi.TEE_SCN_CRYP_STATE_COPY
HASH_INIT = abi.TEE_SCN_HASH_INIT
HASH_UPDATE = abi.TEE_SCN_HASH_UPDATE
HASH_FINAL = abi.TEE_SCN_HASH_FINAL
CIPHER_INIT = abi.TEE_SCN_CIPHER_INIT
CIPHER_UPDATE = abi.TEE_SCN_CIPHER_UPDATE
CIPHER_FINAL = abi.TEE_SCN_CIPHER_FINAL
AE_INIT = abi.TEE_SCN_AUTHENC_INIT
AE_AAD = abi.TEE_SCN_AUTHENC_UPDATE_AAD
AE_UPDATE = abi.TEE_SCN_AUTHENC_UPDATE_PAYLOAD
AE_ENC = abi.TEE_SCN_AUTHENC_ENC_FINAL
AE_DEC = abi.TEE_SCN_AUTHENC_DEC_FINAL

ENCRYPT, DECRYPT = gp.TEE_MODE_ENCRYPT, gp.TEE_MODE_DECRYPT
KEY = bytes(range(16))
UNKNOWN = 0x7654  # a handle that nobody has


@pytest.fixture(params=[AARCH64, ARM])
def ta(request: pytest.FixtureRequest) -> Iterator[CryptoTa]:
    tested = CryptoTa(request.param)
    yield tested
    tested.end()


def aes(ta: CryptoTa, algo: int = gp.TEE_ALG_AES_CBC_NOPAD, mode: int = ENCRYPT) -> int:
    return ta.keyed(algo, mode, KEY)


def sha256(ta: CryptoTa) -> int:
    return ta.state(gp.TEE_ALG_SHA256, gp.TEE_MODE_DIGEST)


# Allocation, and whose the keys are.


@pytest.mark.parametrize(
    ("algo", "keys", "code"),
    [
        (gp.TEE_ALG_SHA256, 0, OK),
        (gp.TEE_ALG_SHA256, 1, BAD_PARAMETERS),  # a key of type AES is none of a digest
        (gp.TEE_ALG_MD5SHA1, 0, TEE_ERROR_NOT_IMPLEMENTED),
        (gp.TEE_ALG_AES_CBC_NOPAD, 1, OK),
        (gp.TEE_ALG_AES_CBC_NOPAD, 0, BAD_PARAMETERS),
        (gp.TEE_ALG_AES_CBC_NOPAD, 2, BAD_PARAMETERS),
        (gp.TEE_ALG_AES_XTS, 1, BAD_PARAMETERS),
        (gp.TEE_ALG_AES_XTS, 2, OK),
        (gp.TEE_ALG_AES_CMAC, 1, OK),
        (gp.TEE_ALG_AES_CMAC, 0, BAD_PARAMETERS),
        (gp.TEE_ALG_AES_CMAC, 2, BAD_PARAMETERS),
        (gp.TEE_ALG_AES_GCM, 1, OK),
        (gp.TEE_ALG_AES_GCM, 2, BAD_PARAMETERS),
        (0x10000910, 1, TEE_ERROR_NOT_IMPLEMENTED),  # a cipher of AES that there is not
        (0x30000910, 1, TEE_ERROR_NOT_SUPPORTED),  # a MAC
        (0x40000910, 1, TEE_ERROR_NOT_IMPLEMENTED),  # an authenticated encryption
        (0x20000010, 1, TEE_ERROR_NOT_SUPPORTED),  # a class
        (gp.TEE_ALG_DES_CBC_NOPAD, 1, BAD_PARAMETERS),  # a key of AES
        (0x100000EE, 1, BAD_PARAMETERS),  # an algorithm without keys
        (gp.TEE_ALG_HMAC_SHA256, 0, BAD_PARAMETERS),
    ],
)
def test_which_operations_there_are(ta: CryptoTa, algo: int, keys: int, code: int) -> None:
    handles = [ta.key(gp.TEE_TYPE_AES, KEY) for _ in range(keys)] + [0] * (2 - keys)
    assert ta.call(ALLOC, algo, ENCRYPT, *handles, HANDLE) == code
    for handle in handles[:keys]:
        # Its keys are the operation's. Where there is none they are still the TA's.
        expected = TEE_ERROR_ITEM_NOT_FOUND if code == OK else OK
        assert ta.call(abi.TEE_SCN_CRYP_OBJ_CLOSE, handle) == expected


def test_a_key_serves_one_operation(ta: CryptoTa) -> None:
    key = ta.key(gp.TEE_TYPE_AES, KEY)
    other = ta.key(gp.TEE_TYPE_AES, KEY)
    state = ta.state(gp.TEE_ALG_AES_CBC_NOPAD, ENCRYPT, key)
    assert ta.call(ALLOC, gp.TEE_ALG_AES_CTR, ENCRYPT, key, 0, HANDLE) == BAD_PARAMETERS
    assert ta.call(ALLOC, gp.TEE_ALG_AES_XTS, ENCRYPT, other, key, HANDLE) == BAD_PARAMETERS
    assert ta.call(ALLOC, gp.TEE_ALG_AES_CTR, ENCRYPT, UNKNOWN, 0, HANDLE) == BAD_STATE
    assert ta.call(ALLOC, gp.TEE_ALG_AES_XTS, ENCRYPT, key, UNKNOWN, HANDLE) == BAD_PARAMETERS
    assert ta.call(FREE, state) == OK
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_CLOSE, key) == BAD_STATE  # it is gone
    assert ta.call(FREE, state) == BAD_PARAMETERS
    assert len(ta.objects) == 1
    assert not ta.states


@pytest.mark.parametrize("address", [CODE, LENT, NOWHERE, 0])
def test_the_handle_goes_to_private_memory(ta: CryptoTa, address: int) -> None:
    key = ta.key(gp.TEE_TYPE_AES, KEY)
    assert ta.call(ALLOC, gp.TEE_ALG_AES_CTR, ENCRYPT, key, 0, address) == DENIED
    assert not ta.states
    assert ta.call(ALLOC, gp.TEE_ALG_AES_CTR, ENCRYPT, key, 0, HANDLE) == OK


def test_handles_have_32_bits(ta: CryptoTa) -> None:
    state = sha256(ta)
    if ta.arch == AARCH64:
        assert ta.call(HASH_INIT, state | 1 << 32) == OK
        assert ta.call(ALLOC, gp.TEE_ALG_AES_CTR, ENCRYPT, 1 << 32, 0, HANDLE) == BAD_STATE
        wide = gp.TEE_ALG_SHA256 | 1 << 32
        assert ta.call(ALLOC, wide, 5, 0, 0, HANDLE) == OK


@pytest.mark.parametrize(
    ("old", "new", "curve", "obj_type"),
    [
        (gp.OPTEE_ALG_ECDSA_P256, gp.TEE_ALG_ECDSA_SHA256, 256, gp.TEE_TYPE_ECDSA_KEYPAIR),
        (
            gp.OPTEE_ALG_ECDH_P521,
            gp.TEE_ALG_ECDH_DERIVE_SHARED_SECRET,
            521,
            gp.TEE_TYPE_ECDH_KEYPAIR,
        ),
    ],
)
def test_old_numbers_of_algorithms(
    ta: CryptoTa, old: int, new: int, curve: int, obj_type: int
) -> None:
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_ALLOC, obj_type, curve, HANDLE) == OK
    state = ta.state(old, gp.TEE_MODE_SIGN, ta.u32(HANDLE))
    assert ta.states[state].algo == new


# Copies.


def test_copy(ta: CryptoTa) -> None:
    a, b = sha256(ta), sha256(ta)
    other = ta.state(gp.TEE_ALG_SHA384, gp.TEE_MODE_DIGEST)
    assert ta.call(COPY, UNKNOWN, a) == BAD_PARAMETERS
    assert ta.call(COPY, a, UNKNOWN) == BAD_PARAMETERS
    assert ta.call(COPY, a, other) == BAD_PARAMETERS
    assert ta.call(COPY, aes(ta), aes(ta, mode=DECRYPT)) == BAD_PARAMETERS
    assert ta.call(COPY, a, b) == OK  # that are not initialised
    assert ta.call(HASH_UPDATE, a, IN, 1) == BAD_STATE
    ta.hash_init(a)
    ta.hash_update(a, b"abc")
    ta.copy(a, a)
    ta.copy(b, a)
    ta.hash_update(a, b"d")
    first = ta.hash_final(b)
    assert first.hex().startswith("ba7816bf")
    assert ta.hash_final(a).hex().startswith("88d4266f")
    assert ta.call(COPY, b, a) == OK  # that has ended


def test_copy_of_an_operation_without_state(ta: CryptoTa) -> None:
    states = []
    for _ in range(2):
        args = (gp.TEE_TYPE_ECDSA_KEYPAIR, 256, HANDLE)
        assert ta.call(abi.TEE_SCN_CRYP_OBJ_ALLOC, *args) == OK
        states.append(ta.state(gp.TEE_ALG_ECDSA_SHA256, gp.TEE_MODE_SIGN, ta.u32(HANDLE)))
    assert ta.call(COPY, *states) == BAD_STATE


def test_a_copy_keeps_its_key(ta: CryptoTa) -> None:
    """The state is copied with what was made of the key, and the next start takes the own one."""
    a = ta.keyed(gp.TEE_ALG_AES_CTR, ENCRYPT, KEY)
    b = ta.keyed(gp.TEE_ALG_AES_CTR, ENCRYPT, bytes(16))
    ta.cipher_init(a, bytes(16))
    ta.cipher_init(b, bytes(16))
    of_a, of_b = ta.cipher_update(a, bytes(16)), ta.cipher_update(b, bytes(16))
    assert of_a != of_b
    ta.cipher_init(a, bytes(16))
    ta.copy(b, a)
    assert ta.cipher_update(b, bytes(16)) == of_a
    ta.cipher_init(b, bytes(16))
    assert ta.cipher_update(b, bytes(16)) == of_b


# Digests and MACs.


def test_order_of_checks_of_digests(ta: CryptoTa) -> None:
    state = sha256(ta)
    assert ta.call(HASH_INIT, UNKNOWN) == BAD_PARAMETERS
    assert ta.call(HASH_INIT, aes(ta)) == BAD_PARAMETERS
    assert ta.call(HASH_UPDATE, UNKNOWN, 0, 1) == BAD_PARAMETERS
    assert ta.call(HASH_UPDATE, UNKNOWN, NOWHERE, 0) == OK  # nothing is looked at
    assert ta.call(HASH_UPDATE, UNKNOWN, NOWHERE, 1) == DENIED
    assert ta.call(HASH_UPDATE, UNKNOWN, IN, 1) == BAD_PARAMETERS
    assert ta.call(HASH_UPDATE, state, IN, 1) == BAD_STATE
    ta.put_u64(SIZE, 64)
    assert ta.call(HASH_FINAL, UNKNOWN, 0, 1, OUT, SIZE) == BAD_PARAMETERS
    assert ta.call(HASH_FINAL, UNKNOWN, NOWHERE, 1, OUT, SIZE) == DENIED
    assert ta.call(HASH_FINAL, UNKNOWN, IN, 1, OUT, NOWHERE) == DENIED
    assert ta.call(HASH_FINAL, UNKNOWN, IN, 1, NOWHERE, SIZE) == DENIED
    assert ta.call(HASH_FINAL, UNKNOWN, IN, 1, OUT, SIZE) == BAD_PARAMETERS
    assert ta.call(HASH_FINAL, state, IN, 1, OUT, SIZE) == BAD_STATE
    cipher = aes(ta)
    ta.cipher_init(cipher, bytes(16))
    assert ta.call(HASH_UPDATE, cipher, IN, 1) == BAD_PARAMETERS
    ta.put_u64(SIZE, 64)
    assert ta.call(HASH_FINAL, cipher, IN, 1, OUT, SIZE) == BAD_PARAMETERS
    assert ta.u64(SIZE) == 64


def test_room_for_a_digest(ta: CryptoTa) -> None:
    """All of what a TA gives must be its own, and only the digest is written."""
    state = sha256(ta)
    ta.hash_init(state)
    ta.write(IN, b"abc")
    ta.put_u64(SIZE, 31)
    before = everything(ta)
    assert ta.call(HASH_FINAL, state, IN, 3, OUT, SIZE) == SHORT
    assert ta.u64(SIZE) == 32
    ta.put_u64(SIZE, 31)
    assert everything(ta) == before
    ta.put_u64(SIZE, PAGES * PAGE + 1)
    assert ta.call(HASH_FINAL, state, IN, 3, OUT, SIZE) == DENIED
    ta.put_u64(SIZE, 40)
    ta.write(OUT, bytes(40))
    assert ta.call(HASH_FINAL, state, IN, 3, OUT, SIZE) == OK
    assert ta.u64(SIZE) == 32
    assert ta.read(OUT, 32).hex().startswith("ba7816bf8f01cfea")
    assert ta.read(OUT + 32, 8) == bytes(8)
    assert ta.call(HASH_FINAL, state, IN, 3, OUT, SIZE) == BAD_STATE  # it ended
    assert ta.call(HASH_UPDATE, state, IN, 3) == BAD_STATE


def test_extendable_output(ta: CryptoTa) -> None:
    state = ta.state(gp.TEE_ALG_SHAKE128, gp.TEE_MODE_DIGEST)
    ta.hash_init(state)
    whole = ta.hash_final(state, b"abc", 70_000)
    ta.hash_init(state)
    assert ta.hash_final(state, b"a", 0) == b""  # which does not end the input
    ta.hash_update(state, b"bc")
    parts = [ta.hash_final(state, b"", size) for size in (1, 0, 167, 168, 69_664)]
    assert b"".join(parts) == whole
    assert ta.call(HASH_UPDATE, state, IN, 1) == BAD_STATE
    ta.put_u64(SIZE, 9)
    assert ta.call(HASH_FINAL, state, IN, 1, OUT, SIZE) == BAD_STATE
    assert ta.u64(SIZE) == 9


def test_a_mac_needs_its_key(ta: CryptoTa) -> None:
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_ALLOC, gp.TEE_TYPE_HMAC_SHA256, 256, HANDLE) == OK
    state = ta.state(gp.TEE_ALG_HMAC_SHA256, gp.TEE_MODE_MAC, ta.u32(HANDLE))
    assert ta.call(HASH_INIT, state) == BAD_PARAMETERS


def test_a_cbc_mac_without_padding_wants_whole_blocks(ta: CryptoTa) -> None:
    state = ta.keyed(gp.TEE_ALG_AES_CBC_MAC_NOPAD, gp.TEE_MODE_MAC, KEY)
    ta.hash_init(state)
    ta.put_u64(SIZE, 16)
    assert ta.call(HASH_FINAL, state, IN, 0, OUT, SIZE) == BAD_STATE
    assert ta.call(HASH_FINAL, state, IN, 15, OUT, SIZE) == BAD_STATE  # and took them
    assert ta.call(HASH_FINAL, state, IN, 1, OUT, SIZE) == OK


# Ciphers.


@pytest.mark.parametrize(
    ("algo", "sizes", "code"),
    [
        (gp.TEE_ALG_AES_ECB_NOPAD, {0, 8, 16, 4096}, 0),
        (gp.TEE_ALG_AES_CBC_NOPAD, {16}, BAD_PARAMETERS),
        (gp.TEE_ALG_AES_CTR, {16}, BAD_PARAMETERS),
        (gp.TEE_ALG_AES_CTS, {16}, BAD_PARAMETERS),
        (gp.TEE_ALG_AES_XTS, {16}, BAD_PARAMETERS),
        (gp.TEE_ALG_DES_CBC_NOPAD, {8}, BAD_PARAMETERS),
        (gp.TEE_ALG_DES3_CBC_NOPAD, {8}, BAD_PARAMETERS),
        (gp.TEE_ALG_SM4_CTR, {16}, BAD_PARAMETERS),
        (gp.TEE_ALG_SM4_XTS, {16}, BAD_STATE),
    ],
)
def test_initialisation_vectors(ta: CryptoTa, algo: int, sizes: set[int], code: int) -> None:
    size = {gp.TEE_MAIN_ALGO_DES: 8, gp.TEE_MAIN_ALGO_DES3: 24}
    key = bytes(size.get(gp.TEE_ALG_GET_MAIN_ALG(algo), 16))
    two = gp.TEE_ALG_GET_CHAIN_MODE(algo) == gp.TEE_CHAIN_MODE_XTS
    state = ta.keyed(algo, ENCRYPT, key, key if two else None)
    for iv_size in (0, 8, 15, 16, 17, 4096):
        expected = OK if iv_size in sizes or not code else code
        assert ta.call(CIPHER_INIT, state, IV, iv_size) == expected
    assert ta.call(CIPHER_INIT, state, IN, 4097) == TEE_ERROR_OUT_OF_MEMORY
    assert ta.call(CIPHER_INIT, state, NOWHERE, 16) == DENIED


def test_order_of_checks_of_ciphers(ta: CryptoTa) -> None:
    assert ta.call(CIPHER_INIT, UNKNOWN, NOWHERE, 16) == BAD_PARAMETERS
    assert ta.call(CIPHER_INIT, sha256(ta), NOWHERE, 16) == BAD_STATE
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_ALLOC, gp.TEE_TYPE_AES, 128, HANDLE) == OK
    empty = ta.state(gp.TEE_ALG_AES_CBC_NOPAD, ENCRYPT, ta.u32(HANDLE))
    assert ta.call(CIPHER_INIT, empty, NOWHERE, 16) == BAD_PARAMETERS
    first = ta.key(gp.TEE_TYPE_AES, KEY)
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_ALLOC, gp.TEE_TYPE_AES, 128, HANDLE) == OK
    half = ta.state(gp.TEE_ALG_AES_XTS, ENCRYPT, first, ta.u32(HANDLE))
    assert ta.call(CIPHER_INIT, half, NOWHERE, 16) == DENIED
    assert ta.call(CIPHER_INIT, half, IV, 16) == BAD_PARAMETERS
    wrong_mode = aes(ta, mode=gp.TEE_MODE_MAC)
    assert ta.call(CIPHER_INIT, wrong_mode, NOWHERE, 16) == DENIED
    assert ta.call(CIPHER_INIT, wrong_mode, IV, 16) == BAD_PARAMETERS
    state = aes(ta)
    for number in (CIPHER_UPDATE, CIPHER_FINAL):
        assert ta.call(number, UNKNOWN, NOWHERE, 16, NOWHERE, NOWHERE) == BAD_PARAMETERS
        assert ta.call(number, state, NOWHERE, 16, NOWHERE, NOWHERE) == BAD_STATE
    ta.cipher_init(state, bytes(16))
    for number in (CIPHER_UPDATE, CIPHER_FINAL):
        ta.put_u64(SIZE, 15)
        assert ta.call(number, state, NOWHERE, 16, NOWHERE, NOWHERE) == DENIED
        assert ta.call(number, state, IN, 16, NOWHERE, NOWHERE) == DENIED
        assert ta.call(number, state, IN, 16, NOWHERE, SIZE) == DENIED
        assert ta.call(number, state, IN, 16, CODE, SIZE) == DENIED  # not to be written
        before = everything(ta)
        assert ta.call(number, state, IN, 16, OUT, SIZE) == SHORT
        assert ta.u64(SIZE) == 16
        ta.put_u64(SIZE, 15)
        assert everything(ta) == before
        assert ta.call(number, state, IN, 16, OUT, 0) == SHORT  # no size is a size of 0
        assert ta.call(number, state, IN, 15, OUT, SIZE) == BAD_PARAMETERS
        assert ta.call(number, state, IN, 0, OUT, 0) == OK
    digest = sha256(ta)
    ta.hash_init(digest)
    assert ta.call(CIPHER_UPDATE, digest, IN, 0, OUT, SIZE) == OK
    ta.put_u64(SIZE, 16)
    assert ta.call(CIPHER_UPDATE, digest, IN, 16, OUT, SIZE) == BAD_PARAMETERS


@pytest.mark.parametrize(
    ("algo", "size", "update", "final"),
    [
        (gp.TEE_ALG_AES_ECB_NOPAD, 17, BAD_PARAMETERS, BAD_PARAMETERS),
        (gp.TEE_ALG_AES_CBC_NOPAD, 15, BAD_PARAMETERS, BAD_PARAMETERS),
        (gp.TEE_ALG_AES_CTR, 15, OK, OK),
        (gp.TEE_ALG_AES_CTS, 17, BAD_PARAMETERS, OK),
        (gp.TEE_ALG_AES_CTS, 16, OK, BAD_STATE),
        (gp.TEE_ALG_AES_CTS, 32, OK, OK),
        (gp.TEE_ALG_AES_XTS, 17, BAD_PARAMETERS, OK),
        (gp.TEE_ALG_AES_XTS, 15, BAD_PARAMETERS, BAD_STATE),
        (gp.TEE_ALG_AES_XTS, 16, OK, OK),
        (gp.TEE_ALG_SM4_ECB_NOPAD, 15, BAD_PARAMETERS, BAD_PARAMETERS),
        (gp.TEE_ALG_SM4_CBC_NOPAD, 15, BAD_PARAMETERS, BAD_PARAMETERS),
        (gp.TEE_ALG_SM4_CTR, 15, BAD_PARAMETERS, TEE_ERROR_NOT_SUPPORTED),
        (gp.TEE_ALG_SM4_XTS, 17, BAD_PARAMETERS, OK),
    ],
)
def test_blocks_that_are_not_whole(
    ta: CryptoTa, algo: int, size: int, update: int, final: int
) -> None:
    two = gp.TEE_ALG_GET_CHAIN_MODE(algo) == gp.TEE_CHAIN_MODE_XTS
    state = ta.keyed(algo, ENCRYPT, KEY, KEY if two else None)
    for number, code in ((CIPHER_UPDATE, update), (CIPHER_FINAL, final)):
        ta.cipher_init(state, bytes(16))
        ta.put_u64(SIZE, 64)
        assert ta.call(number, state, IN, size, OUT, SIZE) == code
        assert ta.u64(SIZE) == (size if code == OK else 64)


def test_after_the_last_data(ta: CryptoTa) -> None:
    """AES goes on, as OP-TEE's does. SM4 has forgotten its key."""
    for algo, code in ((gp.TEE_ALG_AES_CBC_NOPAD, OK), (gp.TEE_ALG_SM4_CBC_NOPAD, BAD_STATE)):
        state = ta.keyed(algo, ENCRYPT, KEY)
        ta.cipher_init(state, bytes(16))
        whole = ta.cipher_update(state, bytes(32))
        ta.cipher_init(state, bytes(16))
        first = ta.cipher_update(state, bytes(16), True)
        ta.put_u64(SIZE, 16)
        assert ta.call(CIPHER_UPDATE, state, IN, 16, OUT, SIZE) == code
        assert first == whole[:16]
        if code == OK:
            assert ta.read(OUT, 16) == whole[16:]


# Memory.


@pytest.mark.parametrize("algo", [gp.TEE_ALG_AES_CBC_NOPAD, gp.TEE_ALG_AES_CTR])
@pytest.mark.parametrize("mode", [ENCRYPT, DECRYPT])
@pytest.mark.parametrize("shift", [0, 1, 16, -1, -16, 60, 64, -64])
def test_input_and_output_in_the_same_memory(
    ta: CryptoTa, algo: int, mode: int, shift: int
) -> None:
    data = bytes(range(64))
    state = aes(ta, algo, mode)
    ta.cipher_init(state, bytes(16))
    expected = ta.cipher_update(state, data)
    ta.cipher_init(state, bytes(16))
    ta.write(IN + 100, data)
    ta.put_u64(SIZE, 64)
    assert ta.call(CIPHER_UPDATE, state, IN + 100, 64, IN + 100 + shift, SIZE) == OK
    assert ta.read(IN + 100 + shift, 64) == expected


def test_memory_across_regions(ta: CryptoTa) -> None:
    """Neighbouring regions are one range to a TA: the two of the stack, and of the client."""
    data = bytes(range(200))
    state = aes(ta, gp.TEE_ALG_AES_CTR)
    ta.cipher_init(state, bytes(16))
    expected = ta.cipher_update(state, data)
    ta.cipher_init(state, bytes(16))
    source, target = STACK + PAGE - 100, LENT2 - 50
    ta.write(source, data)
    ta.put_u64(SIZE, 200)
    ta.write(target - 1, bytes(202))
    assert ta.call(CIPHER_UPDATE, state, source, 200, target, SIZE) == OK
    assert ta.read(target - 1, 202) == b"\0" + expected + b"\0"
    digest = sha256(ta)
    ta.hash_init(digest)
    ta.hash_update(digest, data)
    expected = ta.hash_final(digest)
    ta.hash_init(digest)
    cell = STACK + PAGE - 4
    ta.write(IN, data)
    ta.put_u64(cell, 40)
    assert ta.call(HASH_UPDATE, digest, IN, 100) == OK
    assert ta.call(HASH_FINAL, digest, IN + 100, 100, LENT2 - 20, cell) == OK
    assert ta.u64(cell) == 32
    assert ta.read(LENT2 - 20, 32) == expected
    ta.write(source, data)
    ta.hash_init(digest)
    assert ta.call(HASH_UPDATE, digest, source, 200) == OK
    assert ta.hash_final(digest) == expected
    ta.put_u64(DATA + 64, 100)
    assert ta.call(CIPHER_UPDATE, state, IN, 100, CODE + PAGE - 50, DATA + 64) == DENIED


def test_a_size_that_cannot_be_written(ta: CryptoTa) -> None:
    """OP-TEE reads it, works, and then fails: so the output is there."""
    state = aes(ta)
    ta.cipher_init(state, bytes(16))
    expected = ta.cipher_update(state, bytes(16))
    ta.cipher_init(state, bytes(16))
    region = ta.space.find(CODE)
    assert region is not None
    region.memory[:8] = (16).to_bytes(8, "little")
    ta.write(OUT, bytes(16))
    assert ta.call(CIPHER_UPDATE, state, IN, 16, OUT, CODE) == DENIED
    assert ta.read(OUT, 16) == expected


@pytest.mark.parametrize("algo", [gp.TEE_ALG_AES_GCM, gp.TEE_ALG_AES_CCM])
def test_authenc_in_place_and_across_regions(ta: CryptoTa, algo: int) -> None:
    data = bytes(range(200))
    state = aes(ta, algo)
    ta.authenc_init(state, bytes(12), 16, 0, 200)
    cipher, tag = ta.authenc_enc_final(state, data)
    decryption = aes(ta, algo, DECRYPT)
    for address, target in (
        (IN, IN),
        (IN, IN + 7),
        (IN + 7, IN),
        (STACK + PAGE - 99, LENT2 - 70),
        (LENT2 - 100, LENT2 - 101),
    ):
        for handle, number, given, expected in (
            (state, AE_ENC, data, cipher),
            (decryption, AE_DEC, cipher, data),
        ):
            ta.authenc_init(handle, bytes(12), 16, 0, 200)
            ta.write(address, given)
            ta.put_u64(SIZE, 50)
            assert ta.call(AE_UPDATE, handle, address, 50, OUT, SIZE) == OK
            assert ta.u64(SIZE) == 50
            ta.put_u64(SIZE, 150)
            ta.put_u64(TAG_SIZE, 16)
            args = (handle, address + 50, 150, target + 50, SIZE, TAG)
            ta.write(TAG, bytes(16) if number == AE_ENC else tag)
            assert ta.call(number, *args, TAG_SIZE if number == AE_ENC else 16) == OK
            assert ta.read(OUT, 50) + ta.read(target + 50, 150) == expected
            assert ta.read(TAG, 16) == tag


# Authenticated encryption.


@pytest.mark.parametrize(
    ("algo", "nonce", "tag", "aad", "payload", "code"),
    [
        (gp.TEE_ALG_AES_GCM, 0, 16, 0, 0, OK),
        (gp.TEE_ALG_AES_GCM, 4096, 0, 0, 0, OK),
        (gp.TEE_ALG_AES_GCM, 12, 17, 0, 0, BAD_PARAMETERS),
        (gp.TEE_ALG_AES_CCM, 13, 4, 0, 0, OK),
        (gp.TEE_ALG_AES_CCM, 14, 16, 0, 0, BAD_PARAMETERS),
        (gp.TEE_ALG_AES_CCM, 12, 16, 0x80000000, 0, BAD_PARAMETERS),
        (gp.TEE_ALG_AES_CCM, 12, 16, 0, 0x80000000, BAD_PARAMETERS),
        (gp.TEE_ALG_AES_CCM, 12, 2, 0, 0, TEE_ERROR_NOT_SUPPORTED),
        (gp.TEE_ALG_AES_CCM, 12, 5, 0, 0, TEE_ERROR_NOT_SUPPORTED),
        (gp.TEE_ALG_AES_CCM, 12, 18, 0, 0, TEE_ERROR_NOT_SUPPORTED),
        (gp.TEE_ALG_AES_CCM, 6, 16, 0, 0, BAD_STATE),
        (gp.TEE_ALG_AES_CCM, 7, 16, 0x7FFFFFFF, 0x7FFFFFFF, OK),
    ],
)
def test_start_of_an_authenticated_encryption(
    ta: CryptoTa, algo: int, nonce: int, tag: int, aad: int, payload: int, code: int
) -> None:
    assert ta.call(AE_INIT, aes(ta, algo), IN, nonce, tag, aad, payload) == code


@pytest.mark.parametrize("algo", [gp.TEE_ALG_AES_GCM, gp.TEE_ALG_AES_CCM])
def test_order_of_checks_of_authenticated_encryption(ta: CryptoTa, algo: int) -> None:
    assert ta.call(AE_INIT, UNKNOWN, NOWHERE, 12, 16, 0, 0) == BAD_PARAMETERS
    assert ta.call(AE_INIT, sha256(ta), NOWHERE, 12, 16, 0, 0) == BAD_STATE
    assert ta.call(abi.TEE_SCN_CRYP_OBJ_ALLOC, gp.TEE_TYPE_AES, 128, HANDLE) == OK
    empty = ta.state(algo, ENCRYPT, ta.u32(HANDLE))
    assert ta.call(AE_INIT, empty, NOWHERE, 12, 16, 0, 0) == BAD_PARAMETERS
    state, decryption = aes(ta, algo), aes(ta, algo, DECRYPT)
    assert ta.call(AE_INIT, state, IN, 4097, 16, 0, 0) == TEE_ERROR_OUT_OF_MEMORY
    assert ta.call(AE_INIT, state, NOWHERE, 12, 16, 0, 0) == DENIED
    assert ta.call(AE_AAD, UNKNOWN, NOWHERE, 1) == DENIED
    assert ta.call(AE_AAD, UNKNOWN, IN, 1) == BAD_PARAMETERS
    assert ta.call(AE_AAD, state, IN, 1) == BAD_STATE
    for number in (AE_UPDATE, AE_ENC, AE_DEC):
        assert ta.call(number, UNKNOWN, NOWHERE, 1, NOWHERE, NOWHERE) == BAD_PARAMETERS
        assert ta.call(number, state, NOWHERE, 1, NOWHERE, NOWHERE) == BAD_STATE
    digest = sha256(ta)
    ta.hash_init(digest)
    assert ta.call(AE_AAD, digest, IN, 1) == BAD_STATE
    assert ta.call(AE_UPDATE, digest, NOWHERE, 1, NOWHERE, NOWHERE) == BAD_STATE
    assert ta.call(AE_ENC, digest, NOWHERE, 1, NOWHERE, NOWHERE) == BAD_PARAMETERS  # its mode
    ta.authenc_init(state, bytes(12), 16, 3, 20)
    ta.authenc_init(decryption, bytes(12), 16, 3, 20)
    assert ta.call(AE_ENC, decryption, NOWHERE, 1, NOWHERE, NOWHERE) == BAD_PARAMETERS
    assert ta.call(AE_DEC, state, NOWHERE, 1, NOWHERE, NOWHERE) == BAD_PARAMETERS
    ta.put_u64(SIZE, 19)
    ta.put_u64(TAG_SIZE, 15)
    for handle, number in ((state, AE_UPDATE), (state, AE_ENC), (decryption, AE_DEC)):
        assert ta.call(number, handle, NOWHERE, 20, OUT, SIZE, TAG, TAG_SIZE) == DENIED
        assert ta.call(number, handle, IN, 20, OUT, NOWHERE, TAG, TAG_SIZE) == DENIED
        assert ta.call(number, handle, IN, 20, NOWHERE, SIZE, TAG, TAG_SIZE) == DENIED
        before = everything(ta)
        assert ta.call(number, handle, IN, 20, OUT, SIZE, TAG, TAG_SIZE) == SHORT
        if number == AE_ENC:
            assert ta.u64(TAG_SIZE) == 0  # OP-TEE had not looked at it yet
            ta.put_u64(TAG_SIZE, 15)
        assert everything(ta) == before
    ta.put_u64(SIZE, 20)
    assert ta.call(AE_ENC, state, IN, 20, OUT, SIZE, TAG, NOWHERE) == DENIED
    assert ta.call(AE_ENC, state, IN, 20, OUT, SIZE, NOWHERE, TAG_SIZE) == DENIED
    assert ta.call(AE_DEC, decryption, IN, 20, OUT, SIZE, NOWHERE, 16) == DENIED


def test_no_room_for_a_tag(ta: CryptoTa) -> None:
    """GCM changes nothing, and says what there was. CCM has taken the payload by then."""
    state = aes(ta, gp.TEE_ALG_AES_GCM)
    ta.authenc_init(state, bytes(12), 16)
    ta.put_u64(SIZE, 20)
    ta.put_u64(TAG_SIZE, 15)
    before = everything(ta)
    assert ta.call(AE_ENC, state, IN, 20, OUT, SIZE, TAG, TAG_SIZE) == SHORT
    assert everything(ta) == before
    ta.put_u64(TAG_SIZE, 16)
    assert ta.call(AE_ENC, state, IN, 20, OUT, SIZE, TAG, TAG_SIZE) == OK
    assert ta.call(AE_ENC, state, IN, 20, OUT, SIZE, TAG, TAG_SIZE) == BAD_STATE  # it ended
    state = aes(ta, gp.TEE_ALG_AES_CCM)
    ta.authenc_init(state, bytes(12), 8, 0, 20)
    ta.put_u64(TAG_SIZE, 7)
    assert ta.call(AE_ENC, state, IN, 20, OUT, SIZE, TAG, TAG_SIZE) == SHORT
    assert (ta.u64(SIZE), ta.u64(TAG_SIZE)) == (20, 8)
    assert ta.call(AE_ENC, state, IN, 20, OUT, SIZE, TAG, TAG_SIZE) == BAD_STATE
    assert ta.call(AE_ENC, state, IN, 0, OUT, SIZE, TAG, TAG_SIZE) == OK
    assert (ta.u64(SIZE), ta.u64(TAG_SIZE)) == (0, 8)


@pytest.mark.parametrize("algo", [gp.TEE_ALG_AES_GCM, gp.TEE_ALG_AES_CCM])
@pytest.mark.parametrize("before", [0, 7])
def test_a_wrong_tag(ta: CryptoTa, algo: int, before: int) -> None:
    """What was decrypted is there, as in OP-TEE; its size is not reported."""
    data = bytes(range(40))
    state, decryption = aes(ta, algo), aes(ta, algo, DECRYPT)
    ta.authenc_init(state, bytes(12), 16, 0, 40)
    cipher, tag = ta.authenc_enc_final(state, data)
    ta.authenc_init(decryption, bytes(12), 16, 0, 40)
    ta.authenc_update(decryption, cipher[:before])
    rest = cipher[before:]
    ta.write(IN, rest)
    ta.write(TAG, tag[:15] + bytes((tag[15] ^ 1,)))
    ta.put_u64(SIZE, 60)
    args = (decryption, IN, len(rest), OUT, SIZE, TAG)
    if algo == gp.TEE_ALG_AES_GCM:
        assert ta.call(AE_DEC, *args, 15) == TEE_ERROR_MAC_INVALID  # and nothing was done
    else:
        assert ta.call(AE_DEC, *args, 0) == SHORT
        assert ta.u64(SIZE) == len(rest)
        ta.put_u64(SIZE, 60)
        assert ta.call(AE_DEC, *args, 17) == BAD_STATE
    assert ta.call(AE_DEC, *args, 16) == TEE_ERROR_MAC_INVALID
    assert ta.u64(SIZE) == 60
    assert ta.read(OUT, len(rest)) == data[before:]
    assert ta.call(AE_DEC, decryption, IN, 0, OUT, SIZE, TAG, 16) == TEE_ERROR_MAC_INVALID
    assert ta.call(AE_UPDATE, decryption, IN, 1, OUT, SIZE) == BAD_STATE


def test_ccm_checks_as_much_of_a_tag_as_it_is_given(ta: CryptoTa) -> None:
    """libutee refuses another size than that of the start, after this."""
    state, decryption = (aes(ta, gp.TEE_ALG_AES_CCM, mode) for mode in (ENCRYPT, DECRYPT))
    ta.authenc_init(state, bytes(12), 16, 0, 3)
    cipher, tag = ta.authenc_enc_final(state, b"abc")
    ta.authenc_init(decryption, bytes(12), 16, 0, 3)
    assert ta.authenc_dec_final(decryption, cipher, tag[:9]) == b"abc"


def test_additional_data_comes_first(ta: CryptoTa) -> None:
    state = aes(ta, gp.TEE_ALG_AES_GCM)
    ta.authenc_init(state, bytes(12), 16)
    assert ta.call(AE_AAD, state, 0, 0) == OK
    ta.put_u64(SIZE, 8)
    assert ta.call(AE_UPDATE, state, IN, 0, OUT, SIZE) == OK
    assert ta.call(AE_AAD, state, IN, 3) == OK
    ta.put_u64(SIZE, 8)
    assert ta.call(AE_UPDATE, state, IN, 1, OUT, SIZE) == OK
    assert ta.call(AE_AAD, state, IN, 3) == BAD_PARAMETERS
    state = aes(ta, gp.TEE_ALG_AES_CCM)
    ta.authenc_init(state, bytes(12), 16, 3, 8)
    assert ta.call(AE_AAD, state, 0, 0) == BAD_STATE  # no address
    ta.put_u64(SIZE, 8)
    assert ta.call(AE_UPDATE, state, IN, 1, OUT, SIZE) == BAD_STATE
    assert ta.call(AE_AAD, state, IN, 4) == BAD_STATE
    assert ta.call(AE_AAD, state, IN, 3) == OK
    assert ta.call(AE_UPDATE, state, IN, 1, OUT, SIZE) == OK


def test_gcm_at_once_touches_what_it_puts_out(ta: CryptoTa) -> None:
    """What lies behind the output is as it was, wherever that is; a tag may lie there."""
    behind = bytes(range(200, 224))
    end = OUT + PAGES * PAGE
    state = aes(ta, gp.TEE_ALG_AES_GCM)
    for size in (0, 1, 16, 100, 5000):
        data = bytes(range(1, 251)) * 20
        data = data[:size]
        for aad in (b"", b"additional", bytes(5000)):
            sealed = AESGCM(KEY).encrypt(bytes(12), data, aad)
            for out in (OUT, IN, end - size, end - size - 15, end - size - 16, LENT, LENT + 7):
                ta.authenc_init(state, bytes(12), 16)
                ta.authenc_aad(state, aad)
                ta.write(IN, data)
                room = min(len(behind), end - out - size) if out > IN else len(behind)
                ta.write(out + size, behind[:room])
                ta.put_u64(SIZE, size)
                ta.put_u64(TAG_SIZE, 16)
                ta.must(AE_ENC, state, IN, size, out, SIZE, TAG, TAG_SIZE)
                assert ta.read(out, size) + ta.read(TAG, 16) == sealed
                assert ta.read(out + size, room) == behind[:room]
            # The tag right behind the cipher text, as it is sent.
            ta.authenc_init(state, bytes(12), 16)
            ta.authenc_aad(state, aad)
            ta.write(OUT, data)
            ta.must(AE_ENC, state, OUT, size, OUT, SIZE, OUT + size, TAG_SIZE)
            assert ta.read(OUT, size + 16) == sealed


def test_gcm_with_the_key_of_now(ta: CryptoTa) -> None:
    """An operation keeps what follows from its key for the next message, and only from that."""
    handle = ta.key(gp.TEE_TYPE_AES, KEY)
    state = ta.state(gp.TEE_ALG_AES_GCM, ENCRYPT, handle)
    for key in (KEY, KEY, KEY[::-1], bytes(32)):
        found = ta.objects[handle]
        found.wipe()
        found._put(gp.TEE_ATTR_SECRET_VALUE, key)
        ta.authenc_init(state, bytes(12), 16)
        assert b"".join(ta.authenc_enc_final(state, b"data")) == AESGCM(key).encrypt(
            bytes(12), b"data", b""
        )
