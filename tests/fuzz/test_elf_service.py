# SPDX-License-Identifier: BSD-2-Clause
"""ELF files of TAs take any bytes: what the file says, or one error with a code."""

import json
from collections.abc import Callable
from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import gp
from gentee.cli.ta_report import report, report_text
from gentee.errors import TaImageError
from gentee.secure import images
from gentee.secure.elf_file import ElfFile
from gentee.secure.elf_properties import properties
from gentee.secure.elf_service import describe_elf
from gentee.secure.keys import AcceptedKeys, PublicKey
from tests import signing
from tests.elfwriter import ElfWriter
from tests.signing import UUID, UUID_BYTES, key

ARCHES = ("aarch64", "arm")


@cache
def accepted() -> AcceptedKeys:
    """Keys of which the only one is the run's."""
    keys = AcceptedKeys(strict=True)
    keys._keys = [PublicKey("the test's", key().public_key())]
    return keys


@given(st.data())
def test_any_damage(data: st.DataObject) -> None:
    arch = data.draw(st.sampled_from(ARCHES))
    writer = ElfWriter(arch, needed=[UUID], is_main=data.draw(st.booleans()))
    made = bytearray(writer.build())
    headers = [*range(0x140), *range(len(made) - 64 * 5, len(made))]
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.one_of(st.sampled_from(headers), st.integers(0, len(made) - 1)))
        made[at] = data.draw(st.integers(0, 255))
    _look(bytes(made))


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes(data: bytes, is_32bit: bool) -> None:
    _look(data)
    _look(b"\x7fELF" + bytes([1 if is_32bit else 2, 1, 1]) + bytes(9) + data)


def _look(data: bytes) -> None:
    """Whatever there is: what it says, or one error."""
    codes = {_code(describe_elf, data, UUID_BYTES)}
    try:
        file = ElfFile(data)
    except TaImageError:
        assert codes == {gp.TEE_ERROR_BAD_FORMAT}
        return
    codes |= {_code(read) for read in (file.needed, file.soname, file.build_id)}
    codes |= {_code(lambda: list(file.symbols())), _code(file.any_symbols, b"ta_heap")}
    assert codes <= {gp.TEE_SUCCESS, gp.TEE_ERROR_BAD_FORMAT}
    assert _code(properties, file) in (
        gp.TEE_SUCCESS,
        gp.TEE_ERROR_BAD_FORMAT,
    )


def _code(read: Callable[..., object], *arguments: object) -> int:
    try:
        read(*arguments)
    except TaImageError as error:
        return error.code
    return gp.TEE_SUCCESS


@given(st.data())
def test_any_elf_file(data: st.DataObject) -> None:
    """Whatever a signer put inside: a report, and one of few codes."""
    writer = ElfWriter(
        data.draw(st.sampled_from(ARCHES)),
        is_main=data.draw(st.booleans()),
        needed=[signing.uuid_of(3)],
    )
    made = bytearray(writer.build())
    for _ in range(data.draw(st.integers(0, 6))):
        made[data.draw(st.integers(0, len(made) - 1))] = data.draw(st.integers(0, 255))
    found = report("x.ta", images.sign(bytes(made), key(), UUID_BYTES, 1), accepted())
    json.dumps(found)
    text = report_text(found)
    assert all(line.isprintable() for line in text.splitlines())
    assert text.count("\n") < 500
    assert found["accepted"] or found["code"] in ("TEE_ERROR_BAD_FORMAT", "TEE_ERROR_SECURITY")
