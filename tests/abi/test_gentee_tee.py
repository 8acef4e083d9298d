# SPDX-License-Identifier: BSD-2-Clause
"""gentee.abi.gentee_tee against gcc and <gentee/tee.h>: C11 and C++17, of 64 and 32 bits."""

import shutil
import subprocess
from pathlib import Path
from struct import Struct

import pytest

from gentee.abi import gentee_tee
from gentee.cli.include_dir import include_dir
from tests.abi.test_linux_tee import fields_of

IOCTLS = {
    "TEE_IOC_SHM_FREE": 0x4008A440,
    "TEE_IOC_MEM_MAP": 0xC018A441,
    "TEE_IOC_MEM_UNMAP": 0x4008A442,
    "TEE_IOC_TASK": 0x8010A443,
    "TEE_IOC_LOAD_TS": 0xC030A444,
    "TEE_IOC_GET_TS_LIST": 0xC088A445,
}

# Our Struct -> its size and the fields of the C struct, which is the same name in small letters.
STRUCTS = {
    "TEE_IOCTL_SHM_FREE_DATA": (8, "id flags"),
    "TEE_IOCTL_MEM_MAP_DATA": (24, "addr length flags id"),
    "TEE_IOCTL_MEM_UNMAP_DATA": (8, "id flags"),
    "TEE_IOCTL_TASK_ARG": (
        64,
        "uuid clnt_uuid clnt_login cancel_id func flags ret ret_origin num_params reserved",
    ),
    "TEE_IOCTL_LOAD_TS_DATA": (48, "image_ptr image_len flags version uuid ret ret_origin"),
    "TEE_TS_INFO": (360, "uuid version state instances sessions flags num_apis name apis"),
    "TEE_IOCTL_GET_TS_LIST_DATA": (
        136,
        "buf_ptr buf_len flags entry_size count ret ret_origin reserved name api",
    ),
}
ARRAYS = {"uuid", "clnt_uuid", "name", "api", "apis"}

CONSTANTS = {
    name: value
    for name, value in vars(gentee_tee).items()
    if name.startswith("TEE_") and isinstance(value, int)
    # of <linux/tee.h>
    if name not in ("TEE_IOC_MAGIC",)
}

STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wpadded"]
WAYS = {
    "c11": ["-x", "c", "-std=c11"],
    "c++17": ["-x", "c++", "-std=c++17"],
    "c11-m32": ["-x", "c", "-std=c11", "-m32"],
    "c++17-m32": ["-x", "c++", "-std=c++17", "-m32"],
}


def c_program() -> str:
    """Static assertions on the header: only names and our numbers go into it."""
    lines = ["#include <gentee/tee.h>", "#include <gentee/tee.h>"]  # twice is once
    checks = [f"({name}) == {value}u" for name, value in CONSTANTS.items()]
    for name, (_size, fields) in STRUCTS.items():
        struct: Struct = getattr(gentee_tee, name)
        tag = f"struct {name.lower()}"
        checks.append(f"sizeof({tag}) == {struct.size}")
        for field, (offset, size, signed) in zip(fields.split(), fields_of(struct), strict=True):
            checks.append(f"__builtin_offsetof({tag}, {field}) == {offset}")
            checks.append(f"sizeof((({tag} *)0)->{field}) == {size}")
            if field not in ARRAYS:
                checks.append(f"((__typeof__((({tag} *)0)->{field}))-1 < 1) == {signed}")
    checks.append("__builtin_offsetof(struct tee_ioctl_task_arg, params) == 64")
    lines += ["#ifdef __cplusplus", "#define _Static_assert static_assert", "#endif"]
    lines += [f'_Static_assert({check}, "{number}");' for number, check in enumerate(checks)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("way", WAYS)
def test_header_as_gcc_sees_it(tmp_path: Path, way: str) -> None:
    compiler = shutil.which("gcc") or pytest.skip("gcc is not installed")
    flags = list(WAYS[way])
    if "-m32" in flags:
        machine = subprocess.run(
            [compiler, "-dumpmachine"], capture_output=True, text=True, check=True
        ).stdout.strip()
        if not machine.startswith("x86_64"):
            pytest.skip("no 32-bit programs here")
        # The machine's headers serve both kinds of program.
        flags += ["-idirafter", "/usr/include/x86_64-linux-gnu"]
    probe = subprocess.run(
        [compiler, *flags, "-fsyntax-only", "-"],
        input="#include <linux/tee.h>\n",
        text=True,
        capture_output=True,
    )
    if probe.returncode:
        pytest.skip(f"<linux/tee.h> does not compile here: {probe.stderr}")
    source = tmp_path / "tee.c"
    source.write_text(c_program())
    done = subprocess.run(
        [compiler, *flags, *STRICT, "-I", include_dir(), "-fsyntax-only", str(source)],
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "value"), IOCTLS.items())
def test_number(name: str, value: int) -> None:
    assert CONSTANTS[name] == value


@pytest.mark.parametrize("name", STRUCTS)
def test_struct(name: str) -> None:
    size, fields = STRUCTS[name]
    struct: Struct = getattr(gentee_tee, name)
    assert struct.size == size
    assert len(struct.unpack(bytes(size))) == len(fields.split())


def test_tables_here_are_complete() -> None:
    structs = {name for name, value in vars(gentee_tee).items() if isinstance(value, Struct)}
    assert structs - {"TEE_IOCTL_BUF_DATA"} == set(STRUCTS)
    numbers = {name for name in CONSTANTS if name.startswith("TEE_IOC_")}
    assert numbers - {"TEE_IOC_EXT_BASE"} == set(IOCTLS)
