# SPDX-License-Identifier: BSD-2-Clause
"""TAs of random instructions: the engine runs them, and whatever they do is their own death."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import elf
from gentee.errors import TeeError
from tests import arm_tas
from tests.elfwriter import CODE, NAMES, PAGE, ElfWriter, Sym
from tests.helpers import ServiceHost
from tests.security.arm_captive import ArmCaptive, service_host
from tests.ta_build import ARCHES

__all__ = ["service_host"]

_numbers = itertools.count(0x1000)

# What is worth more than chance: system calls, loads and stores, branches, system registers,
# exclusive and vector instructions, of both instruction sets of 32-bit TAs.
HOT = {
    "aarch64": (
        0xD4000001, 0xD65F03C0, 0xD63F0000, 0x14000000, 0xF9400000, 0xF9000000, 0xD53B0000,
        0xD51B0000, 0xD503201F, 0xD5033FDF, 0xC85F7C00, 0xC8007C00, 0x4C407000, 0x1E620000,
        0x4E284800, 0xDAC10000, 0xD71F0800, 0xD50B7520, 0xD4200000, 0x88207C00, 0x48207C00,
    ),
    "arm": (
        0xEF000000, 0xE12FFF1E, 0xE12FFF30, 0xEA000000, 0xE5900000, 0xE5800000, 0xEE1D0F70,
        0xEE0D0F70, 0xE320F003, 0xF57FF05F, 0xE1900F9F, 0xE1800F90, 0xF4200A0F, 0xEE300A00,
        0xF3B00300, 0xDF00DF00, 0x47704770, 0xE7FEE7FE, 0xE1200070, 0xF1010200, 0xE9BD8000,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=ARCHES)
def captive(
    request: pytest.FixtureRequest,
    service_host: ServiceHost,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ArmCaptive]:
    folder: Path = tmp_path_factory.mktemp("tas")
    captive = ArmCaptive(service_host, folder, str(request.param), cpu_limit=0.05)
    yield captive
    captive.tee.close()
    assert not service_host.bugs


@st.composite
def code(draw: st.DrawFn, arch: str) -> bytes:
    words = []
    for _ in range(draw(st.integers(1, 40))):
        if draw(st.booleans()):
            # One of those, with some bits changed: other registers, other offsets.
            word = draw(st.sampled_from(HOT[arch])) ^ draw(st.integers(0, 31))
            word ^= draw(st.integers(0, 31)) << draw(st.sampled_from([5, 10, 12, 16]))
        else:
            word = draw(st.integers(0, 0xFFFFFFFF))
        words.append(word & 0xFFFFFFFF)
    return b"".join(word.to_bytes(4, "little") for word in words)[: NAMES - CODE]


@given(data=st.data())
def test_random_instructions(captive: ArmCaptive, data: st.DataObject) -> None:
    arch = captive.arch
    writer = ElfWriter(arch, code=data.draw(code(arch)), head={"stack_size": PAGE})
    # Sometimes code is on pages that can be written as well, which must not be.
    if data.draw(st.integers(0, 9)) == 0:
        writer.phdrs[0].flags |= elf.PF_W
    if data.draw(st.booleans()):
        writer.symbols.append(Sym("__elf_phdr_info", PAGE + 64))
    uuid = arm_tas.uuid_of(next(_numbers))
    path = arm_tas.sign_into(captive.folder, uuid, writer.build())
    context = captive.tee.context()
    try:
        context.open_session(uuid).invoke(0)
    except TeeError:  # each may be refused, and most die
        pass
    finally:
        context.finalize()
        captive.tee.contexts.remove(context)
        path.unlink()
    captive.honest()
