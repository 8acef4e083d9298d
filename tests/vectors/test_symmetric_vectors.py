# SPDX-License-Identifier: BSD-2-Clause
"""Digests, MACs, ciphers and authenticated encryption by system calls, with vectors of others."""

from collections.abc import Iterator
from typing import Any

import pytest

from gentee.abi import gp, gp_crypto
from gentee.abi.gp_crypto import TEE_MODE_DECRYPT, TEE_MODE_DIGEST, TEE_MODE_ENCRYPT, TEE_MODE_MAC
from tests.svc_crypto import CallFailed, CryptoTa
from tests.vector_files import chosen, nist, wycheproof

MOST = 150  # vectors of one file, if not all are wanted


@pytest.fixture(scope="module")
def ta() -> Iterator[CryptoTa]:
    tested = CryptoTa()
    yield tested
    tested.end()


def halves(data: bytes) -> list[bytes]:
    """Two parts that are not in whole blocks, unless there is too little for that."""
    cut = len(data) // 2 | 1
    return [part for part in (data[:cut], data[cut:]) if part]


# Digests.

DIGESTS = [
    (algo, f"hashes/{folder}/{name}{kind}Msg.rsp")
    for algo, folder, name in (
        (gp_crypto.TEE_ALG_SHA1, "SHA1", "SHA1"),
        (gp_crypto.TEE_ALG_SHA224, "SHA2", "SHA224"),
        (gp_crypto.TEE_ALG_SHA256, "SHA2", "SHA256"),
        (gp_crypto.TEE_ALG_SHA384, "SHA2", "SHA384"),
        (gp_crypto.TEE_ALG_SHA512, "SHA2", "SHA512"),
        (gp_crypto.TEE_ALG_SHA3_224, "SHA3", "SHA3_224"),
        (gp_crypto.TEE_ALG_SHA3_256, "SHA3", "SHA3_256"),
        (gp_crypto.TEE_ALG_SHA3_384, "SHA3", "SHA3_384"),
        (gp_crypto.TEE_ALG_SHA3_512, "SHA3", "SHA3_512"),
    )
    for kind in ("Short", "Long")
] + [
    (gp_crypto.TEE_ALG_MD5, "hashes/MD5/rfc-1321.txt"),
    (gp_crypto.TEE_ALG_SM3, "hashes/SM3/oscca.txt"),
]


@pytest.mark.parametrize(("algo", "name"), DIGESTS)
def test_digest(ta: CryptoTa, algo: int, name: str) -> None:
    state = ta.state(algo, TEE_MODE_DIGEST)
    vectors = chosen(nist(name), MOST)
    assert len(vectors) >= 6
    for vector in vectors:
        message = bytes.fromhex(vector["msg"])[: int(vector["len"]) // 8]
        assert ta.hash(state, halves(message)).hex() == vector["md"].lower()
    ta.free(state)


@pytest.mark.parametrize("kind", ["ShortMsg", "LongMsg", "VariableOut"])
@pytest.mark.parametrize("bits", [128, 256])
def test_shake(ta: CryptoTa, bits: int, kind: str) -> None:
    algo = gp_crypto.TEE_ALG_SHAKE128 if bits == 128 else gp_crypto.TEE_ALG_SHAKE256
    state = ta.state(algo, TEE_MODE_DIGEST)
    for vector in chosen(nist(f"hashes/SHAKE/SHAKE{bits}{kind}.rsp"), MOST):
        message = bytes.fromhex(vector["msg"])
        message = message[: int(vector["len"]) // 8] if "len" in vector else message
        output = bytes.fromhex(vector["output"])
        room = int(vector.get("outputlen", len(output) * 8)) // 8
        assert ta.hash(state, halves(message), room) == output
        ta.hash_init(state)  # and in two steps
        first = ta.hash_final(state, message, room // 3)
        assert first + ta.hash_final(state, b"", room - room // 3) == output
    ta.free(state)


# MACs.


@pytest.mark.parametrize(
    ("algo", "name"),
    [
        (gp_crypto.TEE_ALG_HMAC_MD5, "rfc-2202-md5"),
        (gp_crypto.TEE_ALG_HMAC_SHA1, "rfc-2202-sha1"),
        (gp_crypto.TEE_ALG_HMAC_SHA224, "rfc-4231-sha224"),
        (gp_crypto.TEE_ALG_HMAC_SHA256, "rfc-4231-sha256"),
        (gp_crypto.TEE_ALG_HMAC_SHA384, "rfc-4231-sha384"),
        (gp_crypto.TEE_ALG_HMAC_SHA512, "rfc-4231-sha512"),
    ],
)
def test_hmac(ta: CryptoTa, algo: int, name: str) -> None:
    done = 0
    for vector in nist(f"HMAC/{name}.txt"):
        message = bytes.fromhex(vector["msg"])
        done += mac_is(ta, algo, bytes.fromhex(vector["key"]), message, vector["md"])
    assert done >= 1


def mac_is(ta: CryptoTa, algo: int, key: bytes, message: bytes, expected: str) -> bool:
    """Check a MAC of which some bytes are known; False where OP-TEE has no keys of this size."""
    if gp_crypto.TEE_ALG_GET_MAIN_ALG(algo) < gp_crypto.TEE_MAIN_ALGO_AES:
        key = key.ljust(32, b"\0")  # the same key to an HMAC, and long enough for all of them
    try:
        state = ta.keyed(algo, TEE_MODE_MAC, key)
    except CallFailed as failed:
        # OP-TEE has objects for HMAC-SM3 with up to 1024 bits, and room for 512.
        if failed.code not in (gp.TEE_ERROR_NOT_SUPPORTED, gp.TEE_ERROR_SECURITY):
            raise
        return False
    assert ta.hash(state, halves(message)).hex().startswith(expected.lower())
    ta.free(state)
    return True


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_aes_cmac(ta: CryptoTa, bits: int) -> None:
    for vector in nist(f"CMAC/nist-800-38b-aes{bits}.txt"):
        message, key = bytes.fromhex(vector["message"]), bytes.fromhex(vector["key"])
        assert mac_is(ta, gp_crypto.TEE_ALG_AES_CMAC, key, message, vector["output"])


def test_des3_cmac(ta: CryptoTa) -> None:
    vectors = nist("CMAC/nist-800-38b-3des.txt")
    assert len(vectors) == 8
    for vector in vectors:
        key = bytes.fromhex(vector["key1"] + vector["key2"] + vector["key3"])
        message = bytes.fromhex(vector["message"])
        assert mac_is(ta, gp_crypto.TEE_ALG_DES3_CMAC, key, message, vector["output"])


@pytest.mark.parametrize(
    ("algo", "name"),
    [
        (gp_crypto.TEE_ALG_HMAC_SHA1, "hmac_sha1"),
        (gp_crypto.TEE_ALG_HMAC_SHA224, "hmac_sha224"),
        (gp_crypto.TEE_ALG_HMAC_SHA256, "hmac_sha256"),
        (gp_crypto.TEE_ALG_HMAC_SHA384, "hmac_sha384"),
        (gp_crypto.TEE_ALG_HMAC_SHA512, "hmac_sha512"),
        (gp_crypto.TEE_ALG_HMAC_SHA3_224, "hmac_sha3_224"),
        (gp_crypto.TEE_ALG_HMAC_SHA3_256, "hmac_sha3_256"),
        (gp_crypto.TEE_ALG_HMAC_SHA3_384, "hmac_sha3_384"),
        (gp_crypto.TEE_ALG_HMAC_SHA3_512, "hmac_sha3_512"),
        (gp_crypto.TEE_ALG_HMAC_SM3, "hmac_sm3"),
        (gp_crypto.TEE_ALG_AES_CMAC, "aes_cmac"),
    ],
)
def test_mac_of_wycheproof(ta: CryptoTa, algo: int, name: str) -> None:
    done = 0
    for group, test in chosen(wycheproof(name), MOST):
        key, message = bytes.fromhex(test["key"]), bytes.fromhex(test["msg"])
        tag = test["tag"]
        if test["result"] == "valid":
            done += mac_is(ta, algo, key, message, tag)
        elif len(tag) * 4 == group["tagSize"] and test["result"] == "invalid":
            with pytest.raises((AssertionError, CallFailed)):
                assert mac_is(ta, algo, key, message, tag), "a key that does not exist"
    assert done >= 20


# Ciphers.


def cipher_is(
    ta: CryptoTa,
    algo: int,
    keys: tuple[bytes, bytes | None],
    iv: bytes,
    plain: bytes,
    cipher: bytes,
    block: int = 1,
) -> None:
    """Check both directions, in two steps.

    :param block: the first of which has whole blocks of so many bytes.
    """
    cut = len(plain) // 2 // block * block
    for mode, data, expected in (
        (TEE_MODE_ENCRYPT, plain, cipher),
        (TEE_MODE_DECRYPT, cipher, plain),
    ):
        state = ta.keyed(algo, mode, *keys)
        ta.cipher_init(state, iv)
        first = ta.cipher_update(state, data[:cut])
        assert first + ta.cipher_update(state, data[cut:], True) == expected
        ta.cipher_init(state, iv)  # and at once
        assert ta.cipher_update(state, data, True, spare=32) == expected
        ta.free(state)


NIST_AES = ("GFSbox", "KeySbox", "VarKey", "VarTxt", "MMT")
NIST_3DES = ("invperm", "permop", "subtab", "varkey", "vartext", "MMT1", "MMT2", "MMT3")
CIPHERS = (
    [
        (getattr(gp_crypto, f"TEE_ALG_AES_{mode}_NOPAD"), f"AES/{mode}/{mode}{kind}{bits}.rsp", 16)
        for mode in ("ECB", "CBC")
        for kind in NIST_AES
        for bits in (128, 192, 256)
    ]
    + [(gp_crypto.TEE_ALG_AES_CTR, f"AES/CTR/aes-{bits}-ctr.txt", 1) for bits in (128, 192, 256)]
    + [
        (getattr(gp_crypto, f"TEE_ALG_DES3_{mode}_NOPAD"), f"3DES/{mode}/T{mode}{kind}.rsp", 8)
        for mode in ("ECB", "CBC")
        for kind in NIST_3DES
    ]
    + [
        (algo, f"SM4/draft-ribose-cfrg-sm4-10-{mode}.txt", 16)
        for algo, mode in (
            (gp_crypto.TEE_ALG_SM4_ECB_NOPAD, "ecb"),
            (gp_crypto.TEE_ALG_SM4_CBC_NOPAD, "cbc"),
            (gp_crypto.TEE_ALG_SM4_CTR, "ctr"),
        )
    ]
)


@pytest.mark.parametrize(("algo", "name", "block"), CIPHERS)
def test_cipher(ta: CryptoTa, algo: int, name: str, block: int) -> None:
    vectors = chosen(nist(f"ciphers/{name}"), MOST // 4)
    assert vectors
    for vector in vectors:
        key = bytes.fromhex(vector.get("key") or vector.get("keys", ""))
        if not key:
            key = b"".join(bytes.fromhex(vector[f"key{n}"]) for n in (1, 2, 3))
        elif len(key) == 8:
            key *= 3
        iv = bytes.fromhex(vector.get("iv", ""))
        plain, cipher = (bytes.fromhex(vector[name]) for name in ("plaintext", "ciphertext"))
        cipher_is(ta, algo, (key, None), iv, plain, cipher, block)
        if block == 8 and key[:8] == key[8:16] == key[16:]:
            single = gp_crypto.TEE_ALG_DES_CBC_NOPAD if iv else gp_crypto.TEE_ALG_DES_ECB_NOPAD
            cipher_is(ta, single, (key[:8], None), iv, plain, cipher, block)
        elif block == 8 and key[:8] == key[16:]:
            cipher_is(ta, algo, (key[:16], None), iv, plain, cipher, block)


@pytest.mark.parametrize("folder", ["tweak-128hexstr", "tweak-dataunitseqno"])
@pytest.mark.parametrize("bits", [128, 256])
def test_aes_xts(ta: CryptoTa, bits: int, folder: str) -> None:
    done = 0
    for vector in chosen(nist(f"ciphers/AES/XTS/{folder}/XTSGenAES{bits}.rsp"), MOST):
        if int(vector["dataunitlen"]) % 8:
            continue  # OP-TEE has no bits
        done += 1
        key = bytes.fromhex(vector["key"])
        keys = key[: len(key) // 2], key[len(key) // 2 :]
        tweak = bytes.fromhex(vector.get("i", ""))
        if "dataunitseqnumber" in vector:
            tweak = int(vector["dataunitseqnumber"]).to_bytes(16, "little")
        plain, cipher = bytes.fromhex(vector["pt"]), bytes.fromhex(vector["ct"])
        xts_is(ta, gp_crypto.TEE_ALG_AES_XTS, keys, tweak, plain, cipher)
    assert done > 50


def xts_is(
    ta: CryptoTa,
    algo: int,
    keys: tuple[bytes, bytes],
    tweak: bytes,
    plain: bytes,
    cipher: bytes,
) -> None:
    # What is left to the last step must be a block at least, and two where one is not whole.
    cut = max(len(plain) - 16 - (len(plain) % 16 or 16), 0) // 32 * 16
    for mode, data, expected in (
        (TEE_MODE_ENCRYPT, plain, cipher),
        (TEE_MODE_DECRYPT, cipher, plain),
    ):
        state = ta.keyed(algo, mode, *keys)
        ta.cipher_init(state, tweak)
        first = ta.cipher_update(state, data[:cut])
        assert first + ta.cipher_update(state, data[cut:], True) == expected
        ta.free(state)


def test_aes_xts_of_wycheproof(ta: CryptoTa) -> None:
    sizes = set()
    for _group, test in chosen(wycheproof("aes_xts"), MOST):
        key = bytes.fromhex(test["key"])
        plain, cipher = bytes.fromhex(test["msg"]), bytes.fromhex(test["ct"])
        keys = key[: len(key) // 2], key[len(key) // 2 :]
        tweak = bytes.fromhex(test["iv"]).ljust(16, b"\0")
        xts_is(ta, gp_crypto.TEE_ALG_AES_XTS, keys, tweak, plain, cipher)
        sizes.add(len(key))
    assert sizes == {32, 48, 64}


# Authenticated encryption.


def authenc_is(
    ta: CryptoTa,
    algo: int,
    key: bytes,
    nonce: bytes,
    aad: bytes,
    plain: bytes,
    cipher: bytes,
    tag: bytes,
) -> None:
    """Check both directions, in steps and at once."""
    sizes = len(tag), len(aad), len(plain)
    state = ta.keyed(algo, TEE_MODE_ENCRYPT, key)
    for parts in ([], [plain[: len(plain) // 2]]):
        ta.authenc_init(state, nonce, *sizes)
        for part in halves(aad):
            ta.authenc_aad(state, part)
        first = b"".join(ta.authenc_update(state, part) for part in parts)
        rest, made = ta.authenc_enc_final(state, plain[len(first) :])
        assert (first + rest, made) == (cipher, tag)
    ta.free(state)
    state = ta.keyed(algo, TEE_MODE_DECRYPT, key)
    for parts in ([], [cipher[: len(plain) // 2]]):
        ta.authenc_init(state, nonce, *sizes)
        for part in halves(aad):
            ta.authenc_aad(state, part)
        first = b"".join(ta.authenc_update(state, part) for part in parts)
        assert first + ta.authenc_dec_final(state, cipher[len(first) :], tag) == plain
    ta.free(state)


def authenc_refuses(
    ta: CryptoTa, algo: int, key: bytes, nonce: bytes, aad: bytes, cipher: bytes, tag: bytes
) -> None:
    """Check that a tag is found to be wrong, in steps and at once."""
    state = ta.keyed(algo, TEE_MODE_DECRYPT, key)
    for part in (b"", cipher[: len(cipher) // 2]):
        ta.authenc_init(state, nonce, len(tag), len(aad), len(cipher))
        if aad:
            ta.authenc_aad(state, aad)
        if part:
            ta.authenc_update(state, part)
        with pytest.raises(CallFailed) as failed:
            ta.authenc_dec_final(state, cipher[len(part) :], tag)
        assert failed.value.code == gp.TEE_ERROR_MAC_INVALID
    ta.free(state)


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_aes_gcm(ta: CryptoTa, bits: int) -> None:
    algo = gp_crypto.TEE_ALG_AES_GCM
    for vector in chosen(nist(f"ciphers/AES/GCM/gcmEncryptExtIV{bits}.rsp"), MOST):
        data = [bytes.fromhex(vector[name]) for name in ("key", "iv", "aad", "pt", "ct", "tag")]
        authenc_is(ta, algo, *data)
    refused = 0
    for vector in chosen(nist(f"ciphers/AES/GCM/gcmDecrypt{bits}.rsp"), MOST):
        key, iv, aad, cipher, tag = (
            bytes.fromhex(vector[name]) for name in ("key", "iv", "aad", "ct", "tag")
        )
        if "pt" in vector:
            authenc_is(ta, algo, key, iv, aad, bytes.fromhex(vector["pt"]), cipher, tag)
        else:
            authenc_refuses(ta, algo, key, iv, aad, cipher, tag)
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("bits", [128, 192, 256])
@pytest.mark.parametrize("kind", ["VADT", "VNT", "VPT", "VTT"])
def test_aes_ccm(ta: CryptoTa, kind: str, bits: int) -> None:
    for vector in chosen(nist(f"ciphers/AES/CCM/{kind}{bits}.rsp"), MOST // 4):
        key, nonce, aad, payload, text = ccm_of(vector)
        cipher, tag = text[: len(payload)], text[len(payload) :]
        authenc_is(ta, gp_crypto.TEE_ALG_AES_CCM, key, nonce, aad, payload, cipher, tag)


def ccm_of(vector: dict[str, str]) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Key, nonce, additional data, payload, cipher text with tag: what is empty is written 00."""
    names = ("key", "nonce", "adata", "payload", "ct")
    key, nonce, aad, payload, text = (bytes.fromhex(vector.get(name, "")) for name in names)
    return key, nonce, aad[: int(vector["alen"])], payload[: int(vector["plen"])], text


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_aes_ccm_decryption(ta: CryptoTa, bits: int) -> None:
    algo = gp_crypto.TEE_ALG_AES_CCM
    results = set()
    for vector in chosen(nist(f"ciphers/AES/CCM/DVPT{bits}.rsp"), MOST):
        key, nonce, aad, payload, text = ccm_of(vector)
        size = int(vector["plen"])
        results.add(vector["result"])
        if vector["result"] == "Pass":
            authenc_is(ta, algo, key, nonce, aad, payload, text[:size], text[size:])
        else:
            authenc_refuses(ta, algo, key, nonce, aad, text[:size], text[size:])
    assert results == {"Pass", "Fail"}


@pytest.mark.parametrize(
    ("algo", "name"),
    [(gp_crypto.TEE_ALG_AES_GCM, "aes_gcm"), (gp_crypto.TEE_ALG_AES_CCM, "aes_ccm")],
)
def test_authenc_of_wycheproof(ta: CryptoTa, algo: int, name: str) -> None:
    done = 0
    for group, test in chosen(wycheproof(name), MOST * 2):
        key, nonce, aad, plain, cipher, tag = (
            bytes.fromhex(test[part]) for part in ("key", "iv", "aad", "msg", "ct", "tag")
        )
        if not is_nonce(algo, group):
            continue
        if test["result"] == "invalid" and "ZeroLengthIv" not in test["flags"]:  # OP-TEE takes it
            if len(tag) * 8 == group["tagSize"] and not is_refused_at_once(algo, group):
                authenc_refuses(ta, algo, key, nonce, aad, cipher, tag)
        else:
            authenc_is(ta, algo, key, nonce, aad, plain, cipher, tag)
            done += 1
    assert done >= 50


def is_nonce(algo: int, group: dict[str, Any]) -> bool:
    """Whether OP-TEE takes nonces of this size, and not a part of them."""
    return algo == gp_crypto.TEE_ALG_AES_GCM or 56 <= group["ivSize"] <= 104


def is_refused_at_once(algo: int, group: dict[str, Any]) -> bool:
    """Whether OP-TEE refuses tags of this size already when it starts."""
    size = group["tagSize"] // 8
    return algo == gp_crypto.TEE_ALG_AES_CCM and not (4 <= size <= 16 and size % 2 == 0)
