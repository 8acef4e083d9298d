# SPDX-License-Identifier: BSD-2-Clause
"""The decoder of the control socket takes any bytes: a request as described, or ProtocolError."""

from hypothesis import given
from hypothesis import strategies as st

from gentee.device import control

CODES = (
    control.JOIN,
    control.LISTEN,
    control.LEAVE,
    control.STATUS,
    control.LIST,
    control.LOAD,
    control.UNLOAD,
    control.STOP,
)

u16s = st.one_of(st.sampled_from([*CODES, 0, 0x100, 0x101, 0x102, 0xFFFF]), st.integers(0, 0xFFFF))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Bytes that are a message but for a field or two."""
    magic = draw(st.one_of(st.just(control.MAGIC), st.binary(min_size=4, max_size=4)))
    version = draw(st.one_of(st.just(control.VERSION), st.integers(0, 0xFFFF)))
    payload = draw(st.one_of(st.sampled_from([b"", b"\x01", bytes(16)]), st.binary(max_size=64)))
    data = control.HEADER.pack(magic, version, draw(u16s)) + payload
    return data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))]


@given(st.one_of(st.binary(max_size=64), messages()), st.integers(0, 40))
def test_any_request(data: bytes, fds: int) -> None:
    try:
        code, payload = control.decode_request(data, fds)
    except control.ProtocolError:
        return
    assert code in CODES
    assert control.encode(code, payload) == data
    assert len(payload) <= 16
    assert fds <= control.MAX_FDS


@given(u16s, st.text(max_size=3000))
def test_any_text_fits(code: int, text: str) -> None:
    data = control.encode_text(code, text)
    assert len(data) <= control.HEADER.size + control.MAX_TEXT
    assert control.decode(data)[0] == code
