# SPDX-License-Identifier: BSD-2-Clause
"""GCM in steps, with copies in between. NIST's and Wycheproof's vectors are in tests/vectors."""

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from hypothesis import given
from hypothesis import strategies as st

from gentee.crypto.own.gcm import GcmDecryption, GcmEncryption, GcmKey
from gentee.crypto.own.gf128 import gcm_multiply

KEY = bytes(range(16))

nonces = st.one_of(st.binary(min_size=12, max_size=12), st.binary(max_size=140))
# Data, and whether the operation is copied before it: 1 goes on with the original, 2 with the copy.
parts = st.lists(st.tuples(st.binary(max_size=70), st.integers(0, 2)), max_size=6)


def reference(nonce: bytes, aad: bytes, plain: bytes) -> tuple[bytes, bytes]:
    """Cipher text and tag, as NIST SP 800-38D 7.1 has it."""
    ecb = Cipher(AES(KEY), modes.ECB()).encryptor()

    def encrypt(block: int) -> int:
        return int.from_bytes(ecb.update(block.to_bytes(16, "big")), "big")

    h = encrypt(0)

    def ghash(data: bytes) -> int:
        total = 0
        for start in range(0, len(data), 16):
            total = gcm_multiply(total ^ int.from_bytes(data[start : start + 16], "big"), h)
        return total

    def whole(data: bytes) -> bytes:
        return data + bytes(-len(data) % 16)

    if len(nonce) == 12:
        first = int.from_bytes(nonce, "big") << 32 | 1
    else:
        first = ghash(whole(nonce) + bytes(8) + (len(nonce) * 8).to_bytes(8, "big"))
    cipher = b""
    counter = first
    for start in range(0, len(plain), 16):
        counter = counter & ~0xFFFFFFFF | counter + 1 & 0xFFFFFFFF
        block = int.from_bytes(whole(plain[start : start + 16]), "big") ^ encrypt(counter)
        cipher += block.to_bytes(16, "big")
    cipher = cipher[: len(plain)]
    lengths = (len(aad) * 8).to_bytes(8, "big") + (len(cipher) * 8).to_bytes(8, "big")
    tag = ghash(whole(aad) + whole(cipher) + lengths) ^ encrypt(first)
    return cipher, tag.to_bytes(16, "big")


@given(nonces, parts, parts)
def test_encryption(
    nonce: bytes, aad: list[tuple[bytes, int]], plain: list[tuple[bytes, int]]
) -> None:
    all_aad = b"".join(part for part, _ in aad)
    all_plain = b"".join(part for part, _ in plain)
    expected = reference(nonce, all_aad, all_plain)
    if 8 <= len(nonce) <= 128:
        sealed = AESGCM(KEY).encrypt(nonce, all_plain, all_aad)
        assert sealed == b"".join(expected)
    gcm = GcmEncryption(GcmKey(KEY), nonce)
    others = []
    for part, copy in aad:
        if copy:
            other = gcm.copy()
            gcm, other = (other, gcm) if copy == 2 else (gcm, other)
            others.append((other, all_aad[gcm.aad_size :], b"", all_plain))
        gcm.update_aad(part)
    cipher = b""
    for part, copy in plain:
        if copy:
            other = gcm.copy()
            gcm, other = (other, gcm) if copy == 2 else (gcm, other)
            if gcm.payload_size:
                others.append((other, b"", cipher, all_plain[len(cipher) :]))
            else:
                others.append((other, all_aad[gcm.aad_size :], b"", all_plain))
        if part:
            out = memoryview(bytearray(len(part) + 3))
            gcm.update_into(part, out)
            assert bytes(out[len(part) :]) == bytes(3)
            cipher += bytes(out[: len(part)])
    assert (cipher, gcm.final()) == expected
    for other, more_aad, done, rest in others:
        if more_aad:
            other.update_aad(more_aad)
        out = memoryview(bytearray(len(rest)))
        if rest:
            other.update_into(rest, out)
        assert (done + bytes(out), other.final()) == expected


@given(nonces, parts, parts, st.integers(0, 16), st.integers(-1, 130))
def test_decryption(
    nonce: bytes,
    aad: list[tuple[bytes, int]],
    cipher: list[tuple[bytes, int]],
    tag_size: int,
    wrong_bit: int,
) -> None:
    all_aad = b"".join(part for part, _ in aad)
    all_cipher = b"".join(part for part, _ in cipher)
    # The key stream is the same both ways.
    stream = reference(nonce, b"", bytes(len(all_cipher)))[0]
    plain = bytes(a ^ b for a, b in zip(stream, all_cipher, strict=True))
    tag = reference(nonce, all_aad, plain)[1][:tag_size]
    valid = not 0 <= wrong_bit < tag_size * 8
    if not valid:
        tag = (int.from_bytes(tag, "big") ^ 1 << wrong_bit).to_bytes(tag_size, "big")
    gcm = GcmDecryption(GcmKey(KEY), nonce)
    others = []
    for part, copy in aad:
        if copy:
            other = gcm.copy()
            gcm, other = (other, gcm) if copy == 2 else (gcm, other)
            others.append((other, all_aad[gcm.aad_size :], b"", all_cipher))
        gcm.update_aad(part)
    made = b""
    for part, copy in cipher[:-1]:
        if copy and gcm.payload_size:
            other = gcm.copy()
            gcm, other = (other, gcm) if copy == 2 else (gcm, other)
            others.append((other, b"", made, all_cipher[len(made) :]))
        if part:
            out = memoryview(bytearray(len(part)))
            gcm.update_into(part, out)
            made += bytes(out)
    last = all_cipher[len(made) :]
    out = memoryview(bytearray(len(last)))
    assert gcm.final_into(last, out, tag) is valid
    assert made + bytes(out) == plain
    for other, more_aad, done, rest in others:
        other.update_aad(more_aad)
        out = memoryview(bytearray(len(rest)))
        assert other.final_into(rest, out, tag) is valid
        assert done + bytes(out) == plain


def test_payload_of_no_bytes_ends_a_block_of_additional_data() -> None:
    """As in OP-TEE, which also takes more of it then."""
    expected = reference(b"n" * 12, b"abc" + bytes(13) + b"def", b"text")
    # Lengths count what was given, so only the hash of the blocks is the same.
    tags = []
    for steps in ((b"abc", None, b"def"), (b"abc", None, None, b"def")):
        gcm = GcmEncryption(GcmKey(KEY), b"n" * 12)
        for step in steps:
            if step is None:
                gcm.end_aad()
            else:
                gcm.update_aad(step)
        out = memoryview(bytearray(4))
        gcm.update_into(b"text", out)
        assert bytes(out) == expected[0]
        tags.append(gcm.final())
    ecb = Cipher(AES(KEY), modes.ECB()).encryptor()
    h = int.from_bytes(ecb.update(bytes(16)), "big")
    change = gcm_multiply((19 * 8 << 64) ^ (6 * 8 << 64), h)
    tag = (int.from_bytes(expected[1], "big") ^ change).to_bytes(16, "big")
    assert tags == [tag, tag]
    gcm2 = GcmDecryption(GcmKey(KEY), b"n" * 12)
    gcm2.update_aad(b"abc")
    gcm2.end_aad()
    gcm2.update_aad(b"def")
    out = memoryview(bytearray(4))
    assert gcm2.final_into(expected[0], out, tag)
    assert bytes(out) == b"text"


def test_much_data() -> None:
    """More than what is worked on at once, and more additional data than is kept."""
    aad, plain = bytes(range(251)) * 40, bytes(range(241)) * 900
    sealed = AESGCM(KEY).encrypt(bytes(12), plain, aad)
    cipher, tag = sealed[:-16], sealed[-16:]
    gcm = GcmEncryption(GcmKey(KEY), bytes(12))
    gcm.update_aad(aad)
    gcm = gcm.copy()
    out = memoryview(bytearray(plain))  # in place
    gcm.update_into(out[:100_001], out)
    gcm = gcm.copy()
    gcm.update_into(out[100_001:], out[100_001:])
    assert (bytes(out), gcm.final()) == (cipher, tag)
    back = GcmDecryption(GcmKey(KEY), bytes(12))
    back.update_aad(aad)
    back = back.copy()
    back.update_into(out[:100_001], out)
    back = back.copy()
    assert back.final_into(out[100_001:], out[100_001:], tag)
    assert bytes(out) == plain
