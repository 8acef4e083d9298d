# SPDX-License-Identifier: BSD-2-Clause
"""Digests, ciphers, MACs and authenticated encryption under their GlobalPlatform names."""

import hashlib
import hmac
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gentee.abi.gp import TEE_ERROR_ACCESS_DENIED, TEE_ERROR_BAD_PARAMETERS, TEE_ERROR_BAD_STATE
from gentee.errors import MacInvalid, NotSupported, ShortBuffer, TaPanic
from gentee.ta import Memref
from gentee.ta.crypto import (
    TEE_ALG_AES_CBC_MAC_NOPAD,
    TEE_ALG_AES_CBC_NOPAD,
    TEE_ALG_AES_CCM,
    TEE_ALG_AES_CMAC,
    TEE_ALG_AES_CTR,
    TEE_ALG_AES_CTS,
    TEE_ALG_AES_ECB_NOPAD,
    TEE_ALG_AES_GCM,
    TEE_ALG_AES_XTS,
    TEE_ALG_DES3_CBC_NOPAD,
    TEE_ALG_GET_KEY_TYPE,
    TEE_ALG_HMAC_SHA256,
    TEE_ALG_SHA256,
    TEE_ALG_SHAKE256,
    TEE_ALG_SM4_CTR,
    TEE_MODE_DECRYPT,
    TEE_MODE_DIGEST,
    TEE_MODE_ENCRYPT,
    TEE_MODE_MAC,
    TEE_TYPE_HMAC_SHA256,
    ObjectHandle,
    OperationHandle,
    TEE_AEDecryptFinal,
    TEE_AEEncryptFinal,
    TEE_AEInit,
    TEE_AEUpdate,
    TEE_AEUpdateAAD,
    TEE_AllocateOperation,
    TEE_CipherDoFinal,
    TEE_CipherInit,
    TEE_CipherUpdate,
    TEE_CopyOperation,
    TEE_DigestDoFinal,
    TEE_DigestExtract,
    TEE_DigestUpdate,
    TEE_FreeOperation,
    TEE_MACCompareFinal,
    TEE_MACComputeFinal,
    TEE_MACInit,
    TEE_MACUpdate,
    TEE_ResetOperation,
    TEE_SetOperationKey,
)
from tests.ta_crypto import keyed, panics, secret
from tests.vector_files import chosen, nist

KEY = bytes(range(32))
IV = bytes(range(16))
MOST = 60  # vectors of a file


def halves(data: bytes) -> tuple[bytes, bytes]:
    """Two parts that are not in whole blocks, unless there is too little for that."""
    cut = len(data) // 2 | 1
    return data[:cut], data[cut:]


# Digests


def digest_operation(algorithm: int = TEE_ALG_SHA256) -> OperationHandle:
    return TEE_AllocateOperation(algorithm, TEE_MODE_DIGEST)


@pytest.mark.parametrize("name", ["SHA256ShortMsg", "SHA256LongMsg"])
def test_digest_vectors(name: str) -> None:
    operation = digest_operation()
    for vector in chosen(nist(f"hashes/SHA2/{name}.rsp"), MOST):
        message = bytes.fromhex(vector["msg"])[: int(vector["len"]) // 8]
        first, second = halves(message)
        TEE_DigestUpdate(operation, first)
        assert TEE_DigestDoFinal(operation, second).hex() == vector["md"]


def test_digest_of_any_buffer() -> None:
    operation = digest_operation()
    for data in (b"abcd", bytearray(b"abcd"), memoryview(b"abcd"), Memref(b"abcdef", 4)):
        TEE_DigestUpdate(operation, data)
    TEE_DigestUpdate(operation, memoryview(b"dcba")[::-1])
    TEE_DigestUpdate(operation, memoryview(b"abcd").cast("H"))
    TEE_DigestUpdate(operation, Memref(None))
    expected = hashlib.sha256(b"abcd" * 6).digest()
    assert TEE_DigestDoFinal(operation) == expected


def test_digest_in_pieces() -> None:
    operation = digest_operation()
    expected = hashlib.sha256(b"abc").digest()
    TEE_DigestUpdate(operation, b"abc")
    assert TEE_DigestExtract(operation, 10) == expected[:10]
    assert TEE_DigestExtract(operation, 0) == b""
    assert TEE_DigestDoFinal(operation) == expected[10:]
    assert TEE_DigestDoFinal(operation, b"abc", 64) == expected
    assert TEE_DigestExtract(operation, 100) == hashlib.sha256().digest()
    assert TEE_DigestExtract(operation, 100) == b""
    TEE_ResetOperation(operation)
    assert TEE_DigestExtract(operation, 100) == hashlib.sha256().digest()


def test_digest_without_room() -> None:
    operation = digest_operation()
    with pytest.raises(ShortBuffer) as caught:
        TEE_DigestDoFinal(operation, b"abc", 31)
    assert caught.value.size == 32
    assert TEE_DigestDoFinal(operation, b"abc") == hashlib.sha256(b"abc").digest()


def test_extendable_output() -> None:
    operation = digest_operation(TEE_ALG_SHAKE256)
    expected = hashlib.shake_256(b"abc").digest(1000)
    TEE_DigestUpdate(operation, b"ab")
    assert TEE_DigestDoFinal(operation, b"c", 1000) == expected
    TEE_DigestUpdate(operation, b"abc")
    assert TEE_DigestExtract(operation, 3) + TEE_DigestExtract(operation, 200) == expected[:203]
    copy = digest_operation(TEE_ALG_SHAKE256)
    TEE_CopyOperation(copy, operation)
    assert TEE_DigestDoFinal(operation, b"", 797) == expected[203:]
    assert TEE_DigestExtract(copy, 797) == expected[203:]
    panics(lambda: TEE_DigestDoFinal(operation, b"abc"), TEE_ERROR_BAD_PARAMETERS)


def test_digests_that_are_misuse() -> None:
    operation = digest_operation()
    panics(lambda: TEE_DigestExtract(operation, -1))
    TEE_DigestExtract(operation, 1)
    panics(lambda: TEE_DigestUpdate(operation, b"x"), TEE_ERROR_BAD_STATE)
    panics(lambda: TEE_DigestDoFinal(operation, b"x"), TEE_ERROR_BAD_PARAMETERS)
    TEE_FreeOperation(operation)
    panics(lambda: TEE_DigestUpdate(operation, b"x"))


class DigestModel:
    """What a digest is, by Python's own."""

    def __init__(self) -> None:
        self.data = b""
        self.taken: int | None = None  # bytes of the digest that were extracted

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.data).digest()

    def update(self, data: bytes) -> bytes | None:
        if self.taken is not None:
            return None
        self.data += data
        return b""

    def final(self, data: bytes) -> bytes | None:
        if self.taken is not None and data:
            return None
        self.data += data
        result = self.digest[self.taken or 0 :]
        self.data, self.taken = b"", None
        return result

    def extract(self, size: int) -> bytes | None:
        start = self.taken or 0
        self.taken = min(start + size, 32)
        return self.digest[start : start + size]

    def reset(self) -> bytes | None:
        self.data, self.taken = b"", None
        return b""

    def copy(self) -> "DigestModel":
        other = DigestModel()
        other.data, other.taken = self.data, self.taken
        return other


DIGEST_FUNCTIONS: dict[str, Callable[..., bytes | None]] = {
    "update": TEE_DigestUpdate,
    "final": TEE_DigestDoFinal,
    "extract": TEE_DigestExtract,
    "reset": TEE_ResetOperation,
}
DIGEST_CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("update"), st.binary(max_size=80)),
        st.tuples(st.just("final"), st.binary(max_size=20)),
        st.tuples(st.just("final"), st.just(b"")),
        st.tuples(st.just("extract"), st.integers(0, 40)),
        st.tuples(st.just("reset")),
        st.tuples(st.just("copy")),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(DIGEST_CALLS)
def test_any_order_of_digest_calls(calls: list[tuple[Any, ...]]) -> None:
    """What the document permits gives its result, the rest is a panic."""
    operation, model = digest_operation(), DigestModel()
    for name, *args in calls:
        if name == "copy":
            other = digest_operation()
            TEE_DigestUpdate(other, b"something else")
            TEE_CopyOperation(other, operation)
            operation, model = other, model.copy()
            continue
        expected = getattr(model, name)(*args)
        call = partial(DIGEST_FUNCTIONS[name], operation, *args)
        if expected is None:
            panics(call)
            return  # the service is dead
        assert (call() or b"") == expected


# Ciphers


def cipher(algorithm: int, mode: int = TEE_MODE_ENCRYPT) -> OperationHandle:
    if algorithm == TEE_ALG_AES_XTS:
        return keyed(algorithm, mode, KEY[:16], KEY[16:])
    return keyed(algorithm, mode, KEY[: 24 if algorithm == TEE_ALG_DES3_CBC_NOPAD else 16])


def key_of(algorithm: int) -> ObjectHandle:
    """The key of :func:`cipher`."""
    size = 24 if algorithm == TEE_ALG_DES3_CBC_NOPAD else 16
    return secret(TEE_ALG_GET_KEY_TYPE(algorithm, False), KEY[:size])


def start(operation: OperationHandle, algorithm: int) -> None:
    sizes = {TEE_ALG_AES_ECB_NOPAD: 0, TEE_ALG_DES3_CBC_NOPAD: 8}
    TEE_CipherInit(operation, IV[: sizes.get(algorithm, 16)])


CIPHERS = {
    TEE_ALG_AES_ECB_NOPAD: 16,
    TEE_ALG_AES_CBC_NOPAD: 16,
    TEE_ALG_AES_CTR: 1,
    TEE_ALG_AES_CTS: 16,
    TEE_ALG_AES_XTS: 16,
    TEE_ALG_DES3_CBC_NOPAD: 8,
    TEE_ALG_SM4_CTR: 16,
}


@pytest.mark.parametrize("name", ["CBCGFSbox128", "CBCVarKey192", "CBCMMT256"])
@pytest.mark.parametrize("mode", [TEE_MODE_ENCRYPT, TEE_MODE_DECRYPT])
def test_cipher_vectors(name: str, mode: int) -> None:
    wanted = ("decrypt", "encrypt")[mode == TEE_MODE_ENCRYPT]
    found = [v for v in nist(f"ciphers/AES/CBC/{name}.rsp") if v["section"].lower() == wanted]
    assert len(found) >= 6
    for vector in chosen(found, MOST):
        operation = keyed(TEE_ALG_AES_CBC_NOPAD, mode, bytes.fromhex(vector["key"]))
        TEE_CipherInit(operation, bytes.fromhex(vector["iv"]))
        texts = [bytes.fromhex(vector[text]) for text in ("plaintext", "ciphertext")]
        src, dst = texts if mode == TEE_MODE_ENCRYPT else texts[::-1]
        first, second = halves(src)
        assert TEE_CipherUpdate(operation, first) + TEE_CipherDoFinal(operation, second) == dst


@pytest.mark.parametrize("algorithm", CIPHERS)
def test_there_and_back(algorithm: int) -> None:
    """Also in place, and from one client's buffer into another."""
    whole = algorithm not in (TEE_ALG_AES_CTR, TEE_ALG_AES_CTS, TEE_ALG_AES_XTS)
    text = bytes(range(256)) + (b"" if whole else b"abc")
    operation = cipher(algorithm)
    start(operation, algorithm)
    buffer = bytearray(text)
    assert TEE_CipherDoFinal(operation, buffer, buffer) == len(text)
    assert bytes(buffer) != text
    back = cipher(algorithm, TEE_MODE_DECRYPT)
    start(back, algorithm)
    output = Memref(bytearray(300))
    first, second = halves(bytes(buffer))
    plain = TEE_CipherUpdate(back, first)
    assert TEE_CipherDoFinal(back, Memref(second), output) == output.size
    assert output.buffer is not None
    assert plain + bytes(output.buffer[: output.size]) == text


@pytest.mark.parametrize("algorithm", CIPHERS)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_buffers_that_overlap(algorithm: int, data: st.DataObject) -> None:
    """Whatever source and destination have in common, the result is the same."""
    size = data.draw(st.integers(2, 8)) * 16
    before = data.draw(st.integers(0, 40))
    memory = bytearray(size * 3)
    memory[size : 2 * size] = bytes(index & 0xFF for index in range(size))
    text = bytes(memory[size : 2 * size])
    expected, operation = cipher(algorithm), cipher(algorithm)
    for each in (expected, operation):
        start(each, algorithm)
        TEE_CipherUpdate(each, bytes(before))
    whole = TEE_CipherUpdate(expected, text)
    place = data.draw(st.integers(0, 2 * size - len(whole)))
    view = memoryview(memory)
    written = TEE_CipherUpdate(operation, view[size : 2 * size], view[place : place + len(whole)])
    assert memory[place : place + written] == whole


def test_short_buffers_change_nothing() -> None:
    operation, other = cipher(TEE_ALG_AES_CBC_NOPAD), cipher(TEE_ALG_AES_CBC_NOPAD)
    for each in (operation, other):
        start(each, TEE_ALG_AES_CBC_NOPAD)
        TEE_CipherUpdate(each, b"12345")
    small = Memref(bytearray(31))
    with pytest.raises(ShortBuffer) as caught:
        TEE_CipherUpdate(operation, bytes(27), small)
    assert (caught.value.size, small.size) == (32, 32)
    with pytest.raises(ShortBuffer) as caught:
        TEE_CipherDoFinal(operation, bytes(27), bytearray(31))
    assert caught.value.size == 32
    with pytest.raises(ShortBuffer):
        TEE_CipherDoFinal(operation, bytes(27), Memref(None))
    assert bytes(small) == bytes(31)
    assert TEE_CipherDoFinal(operation, bytes(27)) == TEE_CipherDoFinal(other, bytes(27))


def test_output_that_cannot_be_written() -> None:
    operation = cipher(TEE_ALG_AES_CTR)
    start(operation, TEE_ALG_AES_CTR)
    panics(
        lambda: TEE_CipherUpdate(operation, b"abc", memoryview(bytes(3))), TEE_ERROR_ACCESS_DENIED
    )


def test_ciphers_that_are_misuse() -> None:
    ecb, cbc = cipher(TEE_ALG_AES_ECB_NOPAD), cipher(TEE_ALG_AES_CBC_NOPAD)
    panics(lambda: TEE_CipherInit(ecb, IV), TEE_ERROR_BAD_PARAMETERS)
    panics(lambda: TEE_CipherInit(cbc, IV[:15]))
    ecb, cbc = cipher(TEE_ALG_AES_ECB_NOPAD), cipher(TEE_ALG_AES_CBC_NOPAD)
    for call in (TEE_CipherUpdate, TEE_CipherDoFinal):
        panics(lambda call=call: call(cbc, bytes(16)), TEE_ERROR_BAD_STATE)  # type: ignore[misc]
    TEE_CipherInit(ecb)
    panics(lambda: TEE_CipherDoFinal(ecb, bytes(17)), TEE_ERROR_BAD_PARAMETERS)
    cts = cipher(TEE_ALG_AES_CTS)
    TEE_CipherInit(cts, IV)
    panics(lambda: TEE_CipherDoFinal(cts, bytes(16)))


class CipherModel:
    """What a cipher operation is. None: a panic; a number: so many bytes come out."""

    def __init__(self, algorithm: int) -> None:
        self.algorithm = algorithm
        self.block = CIPHERS[algorithm]
        self.two = algorithm in (TEE_ALG_AES_CTS, TEE_ALG_AES_XTS)
        self.has_key = True
        self.text: bytes | None = None  # of an operation that was started
        self.out = b""

    def init(self) -> int | None:
        if not self.has_key:
            return None
        self.text, self.out = b"", b""
        return 0

    def update(self, data: bytes) -> int | None:
        if self.text is None:
            return None
        self.text += data
        ready = len(self.text) // self.block * self.block
        if self.two:
            ready = max(0, -(-(len(self.text) - 32) // 16) * 16)
        return ready - len(self.out)

    def final(self, data: bytes) -> int | None:
        if self.text is None:
            return None
        text = self.text + data
        if self.algorithm == TEE_ALG_AES_CTS:
            allowed = not 0 < len(text) <= 16
        elif self.algorithm == TEE_ALG_AES_XTS:
            allowed = not 0 < len(text) < 16
        else:
            allowed = len(text) % self.block == 0
        if not allowed:
            return None
        self.text = text
        return len(text) - len(self.out)

    def reset(self) -> int | None:
        if not self.has_key:
            return None
        self.text = None
        return 0

    def set_key(self) -> int | None:
        return None if self.text is not None else self._key(True)

    def clear_key(self) -> int | None:
        return None if self.text is not None else self._key(False)

    def _key(self, has: bool) -> int:
        self.has_key = has
        return 0

    def whole(self) -> bytes:
        """All of the text at once, by another operation."""
        assert self.text is not None
        operation = cipher(self.algorithm)
        start(operation, self.algorithm)
        return TEE_CipherDoFinal(operation, self.text)


CIPHER_FUNCTIONS: dict[str, Callable[..., bytes | None]] = {
    "init": lambda operation: start(operation, operation.algorithm),
    "update": TEE_CipherUpdate,
    "final": TEE_CipherDoFinal,
    "reset": TEE_ResetOperation,
    "set_key": TEE_SetOperationKey,
    "clear_key": lambda operation: TEE_SetOperationKey(operation, None),
}
CIPHER_CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("init")),
        st.tuples(st.just("update"), st.binary(max_size=50)),
        st.tuples(st.just("update"), st.sampled_from([bytes(16), bytes(32), b""])),
        st.tuples(st.just("final"), st.binary(max_size=50)),
        st.tuples(st.just("final"), st.sampled_from([bytes(16), bytes(48), b""])),
        st.tuples(st.sampled_from(["reset", "set_key", "clear_key", "copy"])),
    ),
    max_size=10,
)


@pytest.mark.parametrize(
    "algorithm", [algorithm for algorithm in CIPHERS if algorithm != TEE_ALG_AES_XTS]
)
@settings(max_examples=60, deadline=None)
@given(CIPHER_CALLS)
def test_any_order_of_cipher_calls(algorithm: int, calls: list[tuple[Any, ...]]) -> None:
    _any_order(algorithm, [("init",), *calls])
    _any_order(algorithm, calls)


@settings(max_examples=60, deadline=None)
@given(CIPHER_CALLS)
def test_any_order_of_calls_of_two_keys(calls: list[tuple[Any, ...]]) -> None:
    """The keys stay: a copy goes into an operation that was not started."""
    _any_order(TEE_ALG_AES_XTS, [call for call in calls if not call[0].endswith("_key")])


def _any_order(algorithm: int, calls: list[tuple[Any, ...]]) -> None:
    operation, model = cipher(algorithm), CipherModel(algorithm)
    for name, *args in calls:
        if name == "copy":
            other = cipher(algorithm)
            TEE_CopyOperation(other, operation)
            operation = other
            continue
        expected = getattr(model, name)(*args)
        if name == "set_key":
            args = [key_of(algorithm)]
        call = partial(CIPHER_FUNCTIONS[name], operation, *args)
        if expected is None:
            panics(call)
            return
        result = call() or b""
        assert len(result) == expected
        model.out += result
        if name == "final":
            assert model.out == model.whole()
            model.text = None


# MACs


@pytest.mark.parametrize("algorithm", [TEE_ALG_HMAC_SHA256, TEE_ALG_AES_CMAC])
def test_mac(algorithm: int) -> None:
    operation = keyed(algorithm, TEE_MODE_MAC, KEY)
    TEE_MACInit(operation)
    mac = TEE_MACComputeFinal(operation, b"abcdef")
    if algorithm == TEE_ALG_HMAC_SHA256:
        assert mac == hmac.digest(KEY, b"abcdef", "sha256")
    TEE_MACInit(operation, b"is ignored")
    TEE_MACUpdate(operation, b"abc")
    TEE_MACUpdate(operation, b"")
    copy = keyed(algorithm, TEE_MODE_MAC, bytes(32))
    TEE_CopyOperation(copy, operation)
    TEE_MACCompareFinal(operation, b"def", mac)
    assert TEE_MACComputeFinal(copy, Memref(b"def")) == mac
    for wrong in (mac[:-1], mac + b"\0", bytes(len(mac)), b""):
        TEE_MACInit(operation)
        with pytest.raises(MacInvalid):
            TEE_MACCompareFinal(operation, b"abcdef", wrong)


def test_a_mac_that_is_started_anew() -> None:
    operation = keyed(TEE_ALG_HMAC_SHA256, TEE_MODE_MAC, KEY)
    TEE_MACInit(operation)
    TEE_MACUpdate(operation, b"something else")
    TEE_MACInit(operation)
    assert TEE_MACComputeFinal(operation) == hmac.digest(KEY, b"", "sha256")


def test_macs_that_are_misuse() -> None:
    operation = keyed(TEE_ALG_HMAC_SHA256, TEE_MODE_MAC, KEY)
    for call in (
        lambda: TEE_MACUpdate(operation, b"x"),
        lambda: TEE_MACComputeFinal(operation),
        lambda: TEE_MACCompareFinal(operation, b"", bytes(32)),
    ):
        panics(call, TEE_ERROR_BAD_STATE)
    empty = TEE_AllocateOperation(TEE_ALG_HMAC_SHA256, TEE_MODE_MAC, 256)
    panics(lambda: TEE_MACInit(empty), TEE_ERROR_BAD_STATE)
    unpadded = keyed(TEE_ALG_AES_CBC_MAC_NOPAD, TEE_MODE_MAC, KEY)
    TEE_MACInit(unpadded)
    panics(lambda: TEE_MACComputeFinal(unpadded, b"no block"))


# Authenticated encryption


def authenc(algorithm: int, mode: int, key: bytes = KEY) -> OperationHandle:
    return keyed(algorithm, mode, key)


@pytest.mark.parametrize("decrypts", [False, True])
def test_gcm_vectors(decrypts: bool) -> None:
    name = "gcmDecrypt128" if decrypts else "gcmEncryptExtIV128"
    count = 0
    for vector in chosen(nist(f"ciphers/AES/GCM/{name}.rsp"), 3 * MOST):
        if int(vector["taglen"]) < 96:
            continue
        mode = TEE_MODE_DECRYPT if decrypts else TEE_MODE_ENCRYPT
        operation = authenc(TEE_ALG_AES_GCM, mode, bytes.fromhex(vector["key"]))
        TEE_AEInit(operation, bytes.fromhex(vector["iv"]), int(vector["taglen"]))
        TEE_AEUpdateAAD(operation, bytes.fromhex(vector["aad"]))
        text, tag = bytes.fromhex(vector["ct"]), bytes.fromhex(vector["tag"])
        plain = None if "fail" in vector else bytes.fromhex(vector["pt"])
        first, second = halves(text if decrypts else plain or b"")
        out = TEE_AEUpdate(operation, first)
        count += 1
        if not decrypts:
            rest, made = TEE_AEEncryptFinal(operation, second)
            assert (out + rest, made) == (text, tag)
        elif plain is not None:
            assert out + TEE_AEDecryptFinal(operation, second, tag) == plain
        else:
            with pytest.raises(MacInvalid):
                TEE_AEDecryptFinal(operation, second, tag)
    assert count >= MOST


@pytest.mark.parametrize("algorithm", [TEE_ALG_AES_GCM, TEE_ALG_AES_CCM])
@settings(max_examples=40, deadline=None)
@given(
    text=st.binary(max_size=100),
    aad=st.binary(max_size=40),
    cuts=st.lists(st.integers(0, 100), max_size=4),
)
def test_any_split_of_a_payload(algorithm: int, text: bytes, aad: bytes, cuts: list[int]) -> None:
    places = sorted({0, *cuts, len(text)})
    parts = [text[a:b] for a, b in zip(places, [*places[1:], len(text)], strict=True)]
    whole = authenc(algorithm, TEE_MODE_ENCRYPT)
    TEE_AEInit(whole, IV[:12], 128, len(aad), len(text))
    TEE_AEUpdateAAD(whole, aad)
    expected, tag = TEE_AEEncryptFinal(whole, text)
    for mode, source in ((TEE_MODE_ENCRYPT, parts), (TEE_MODE_DECRYPT, None)):
        pieces = source or [expected[a:b] for a, b in pairwise(places)]
        operation = authenc(algorithm, mode)
        TEE_AEInit(operation, IV[:12], 128, len(aad), len(text))
        TEE_AEUpdateAAD(operation, aad[:7])
        TEE_AEUpdateAAD(operation, aad[7:])
        out = b"".join(TEE_AEUpdate(operation, piece) for piece in pieces)
        if mode == TEE_MODE_ENCRYPT:
            rest, made = TEE_AEEncryptFinal(operation)
            assert (out + rest, made) == (expected, tag)
        else:
            assert out + TEE_AEDecryptFinal(operation, b"", tag) == text


@pytest.mark.parametrize("algorithm", [TEE_ALG_AES_GCM, TEE_ALG_AES_CCM])
def test_into_a_buffer(algorithm: int) -> None:
    text = bytes(range(100))
    operation = authenc(algorithm, TEE_MODE_ENCRYPT)
    TEE_AEInit(operation, IV[:12], 128, 0, len(text))
    buffer = bytearray(text)
    small = Memref(bytearray(99))
    with pytest.raises(ShortBuffer):
        TEE_AEEncryptFinal(operation, text, small)
    assert small.size == 100
    size, tag = TEE_AEEncryptFinal(operation, buffer, buffer)
    assert size == 100
    back = authenc(algorithm, TEE_MODE_DECRYPT)
    TEE_AEInit(back, IV[:12], 128, 0, len(text))
    output = Memref(bytearray(120))
    assert TEE_AEDecryptFinal(back, buffer, tag, output) == 100
    assert output.buffer is not None
    assert (output.size, bytes(output.buffer[:100])) == (100, text)


@pytest.mark.parametrize("algorithm", [TEE_ALG_AES_GCM, TEE_ALG_AES_CCM])
def test_a_wrong_tag(algorithm: int) -> None:
    for size in (15, 16):
        operation = authenc(algorithm, TEE_MODE_DECRYPT)
        TEE_AEInit(operation, IV[:12], 128, 0, 20)
        with pytest.raises(MacInvalid):
            TEE_AEDecryptFinal(operation, bytes(20), bytes(size))
        TEE_ResetOperation(operation)
        TEE_AEInit(operation, IV[:12], 128, 0, 20)


@pytest.mark.parametrize("bits", [0, 88, 97, 136])
def test_tags_that_there_are_not(bits: int) -> None:
    with pytest.raises(NotSupported):
        TEE_AEInit(authenc(TEE_ALG_AES_GCM, TEE_MODE_ENCRYPT), IV, bits)


def test_authenticated_encryption_that_is_misuse() -> None:
    operation = authenc(TEE_ALG_AES_GCM, TEE_MODE_ENCRYPT)
    for call in (
        lambda: TEE_AEUpdateAAD(operation, b"x"),
        lambda: TEE_AEUpdate(operation, b"x"),
        lambda: TEE_AEEncryptFinal(operation),
    ):
        panics(call, TEE_ERROR_BAD_STATE)
    TEE_AEInit(operation, IV, 128)
    TEE_AEInit(operation, IV, 128)  # as long as there was no payload
    TEE_AEUpdate(operation, b"x")
    for call in (
        lambda: TEE_AEUpdateAAD(operation, b"x"),
        lambda: TEE_AEInit(operation, IV, 128),
        lambda: TEE_AEDecryptFinal(operation, b"", bytes(16)),
    ):
        with pytest.raises(TaPanic):
            call()
    without = TEE_AllocateOperation(TEE_ALG_AES_GCM, TEE_MODE_ENCRYPT, 128)
    panics(lambda: TEE_AEInit(without, IV, 128), TEE_ERROR_BAD_PARAMETERS)
    short = authenc(TEE_ALG_AES_CCM, TEE_MODE_ENCRYPT)
    panics(lambda: TEE_AEInit(short, IV[:12], 128, -1))


def test_secrets_of_other_types() -> None:
    """A key of another type is refused when it is set."""
    operation = TEE_AllocateOperation(TEE_ALG_AES_GCM, TEE_MODE_ENCRYPT, 256)
    panics(lambda: TEE_SetOperationKey(operation, secret(TEE_TYPE_HMAC_SHA256, KEY)))
