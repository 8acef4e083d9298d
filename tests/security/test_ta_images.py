# SPDX-License-Identifier: BSD-2-Clause
"""Hostile ELF files, rightly signed, over the whole road: each costs one line and one code."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gentee.abi import gp
from tests import arm_tas
from tests.elfwriter import DATA, ElfWriter, Rel, Sym
from tests.functional.conftest import CLIENTS, GenteeRun
from tests.ta_build import ARCHES
from tests.ta_run import ta_bytes
from tests.unit.ta.loader.test_image import WRONG

DEAD = gp.TEE_ERROR_TARGET_DEAD
HONEST = 1
FIRST = 0x100  # number of the first of the others

NOBODY = "77777777-7777-7777-7777-777777777777"
RELATIVE = {"arm": 2, "aarch64": 257}  # R_ARM_ABS32, R_AARCH64_ABS64
UNDEFINED = {"arm": b"\xf0\x00\xf0\xe7", "aarch64": bytes(4)}  # udf #0

# What is wrong only when it is loaded.
UNLOADABLE: list[tuple[Callable[[str], ElfWriter], int]] = [
    (lambda arch: ElfWriter(arch, needed=[NOBODY]), gp.TEE_ERROR_ITEM_NOT_FOUND),
    (lambda arch: ElfWriter(arch, needed=[arm_tas.uuid_of(HONEST)]), gp.TEE_ERROR_GENERIC),
    (lambda arch: ElfWriter(arch, head={"stack_size": 1 << 31}), gp.TEE_ERROR_OUT_OF_MEMORY),
    (lambda arch: ElfWriter(arch, head={"stack_size": 0xFFFFFFF0}), gp.TEE_ERROR_OUT_OF_MEMORY),
    (
        lambda arch: ElfWriter(
            arch, symbols=[Sym("nowhere", 0, shndx=0)], relocations=[Rel(RELATIVE[arch], DATA, 2)]
        ),
        gp.TEE_ERROR_ITEM_NOT_FOUND,
    ),
    (lambda arch: ElfWriter(arch, code=UNDEFINED[arch], data_memory=60 << 20), DEAD),
    (lambda arch: ElfWriter(arch, code=UNDEFINED[arch]), DEAD),  # it loads
    (lambda arch: ElfWriter(arch, head={"depr_entry": 0x1000}), gp.TEE_ERROR_BAD_FORMAT),
]  # fmt: skip


def hostile_files(arch: str) -> list[tuple[bytes, int]]:
    """Files, and the code that opening a session gives."""
    found = []
    for change, code, _text in WRONG:
        writer = ElfWriter(arch)
        change(writer)
        found.append((writer.build(), code))
    found += [(make(arch).build(), code) for make, code in UNLOADABLE]
    right = ta_bytes("hostile", arch)
    found += [(right[:size], gp.TEE_ERROR_BAD_FORMAT) for size in (4, 51, 64, 4096, 8192)]
    return found


@pytest.mark.parametrize("arch", ARCHES)
def test_over_the_whole_road(gentee_run: GenteeRun, way: str, tmp_path: Path, arch: str) -> None:
    honest = arm_tas.uuid_of(HONEST)
    arm_tas.sign_into(tmp_path, honest, ta_bytes("hostile", arch))
    files = hostile_files(arch)
    uuids = [arm_tas.uuid_of(FIRST + index) for index in range(len(files))]
    for uuid, (data, _code) in zip(uuids, files, strict=True):
        arm_tas.sign_into(tmp_path, uuid, data)
    done = gentee_run(
        [sys.executable, CLIENTS / "hostile_tas.py", honest, *uuids],
        options=["--ephemeral", *arm_tas.options(tmp_path)],
        way=way,
    )
    assert done.returncode == 0, done.stderr
    assert "bug in gentee" not in done.stderr
    lines = done.stderr.splitlines()
    wrong = []
    for uuid, (_data, code), answer in zip(uuids, files, done.stdout.splitlines(), strict=True):
        named, found, _origin = answer.split()
        assert named == uuid
        short = uuid.partition("-")[0]
        said = [line for line in lines if f"{uuid}.ta" in line or line.startswith(f"[{short}]")]
        # What gentee itself sees to be no TA is BAD_FORMAT, before the loader has its reasons.
        if int(found, 16) not in (code, gp.TEE_ERROR_BAD_FORMAT) or len(said) != 1:
            wrong.append((answer, hex(code), said))
    assert not wrong
