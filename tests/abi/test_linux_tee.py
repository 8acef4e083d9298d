# SPDX-License-Identifier: BSD-2-Clause
"""gentee.abi.linux_tee against gcc and the system's <linux/tee.h>, and against v6.18 written out.

A distribution's header may be older than ours. What it lacks is skipped row by row: in the C
program with #ifdef, here with a skip that names the row. The written-out table covers those rows.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from struct import Struct, calcsize

import pytest

from gentee.abi import linux_tee
from gentee.abi.ioctl import _IO, _IOC_DIR, _IOC_NR, _IOC_SIZE, _IOC_TYPE, _IOW

# The ioctl table of v6.18 (x86-64 and every other architecture with the generic encoding).
IOCTLS = {
    "TEE_IOC_VERSION": 0x800CA400,
    "TEE_IOC_SHM_ALLOC": 0xC010A401,
    "TEE_IOC_OPEN_SESSION": 0x8010A402,
    "TEE_IOC_INVOKE": 0x8010A403,
    "TEE_IOC_CANCEL": 0x8008A404,
    "TEE_IOC_CLOSE_SESSION": 0x8004A405,
    "TEE_IOC_SUPPL_RECV": 0x8010A406,
    "TEE_IOC_SUPPL_SEND": 0x8010A407,
    "TEE_IOC_SHM_REGISTER_FD": 0xC018A408,
    "TEE_IOC_SHM_REGISTER": 0xC018A409,
    "TEE_IOC_OBJECT_INVOKE": 0x8010A40A,
}

# Constants that headers older than v6.18 lack or have with another value.
LATE_CONSTANTS = {
    "TEE_MAX_ARG_SIZE": 4096,
    "TEE_GEN_CAP_GP": 1,
    "TEE_GEN_CAP_PRIVILEGED": 2,
    "TEE_GEN_CAP_REG_MEM": 4,
    "TEE_GEN_CAP_MEMREF_NULL": 8,
    "TEE_GEN_CAP_OBJREF": 16,
    "TEE_MEMREF_NULL": 2**64 - 1,
    "TEE_OBJREF_NULL": 2**64 - 1,
    "TEE_IMPL_ID_OPTEE": 1,
    "TEE_IMPL_ID_AMDTEE": 2,
    "TEE_IMPL_ID_TSTEE": 3,
    "TEE_IMPL_ID_QTEE": 4,
    "TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT": 8,
    "TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_OUTPUT": 9,
    "TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INOUT": 10,
    "TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT": 11,
    "TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_OUTPUT": 12,
    "TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INOUT": 13,
    "TEE_IOCTL_LOGIN_REE_KERNEL_MIN": 0x80000000,
    "TEE_IOCTL_LOGIN_REE_KERNEL_MAX": 0xBFFFFFFF,
    "TEE_IOCTL_LOGIN_REE_KERNEL": 0x80000000,
}

# What an older header may say instead: TEE_MAX_ARG_SIZE grew in bd5139306886 (in v6.18).
OLDER_VALUES = {"TEE_MAX_ARG_SIZE": {1024}}

# Our Struct -> its C struct is the same name in small letters, its size in v6.18, its fields in
# order, and the macro that is defined in every header that has the struct.
STRUCTS: dict[str, tuple[int, str, str]] = {
    "TEE_IOCTL_VERSION_DATA": (12, "impl_id impl_caps gen_caps", "TEE_IOC_VERSION"),
    "TEE_IOCTL_SHM_ALLOC_DATA": (16, "size flags id", "TEE_IOC_SHM_ALLOC"),
    "TEE_IOCTL_SHM_REGISTER_FD_DATA": (24, "fd size flags id", "TEE_IOC_SHM_REGISTER_FD"),
    "TEE_IOCTL_SHM_REGISTER_DATA": (24, "addr length flags id", "TEE_IOC_SHM_REGISTER"),
    "TEE_IOCTL_BUF_DATA": (16, "buf_ptr buf_len", "TEE_IOC_INVOKE"),
    "TEE_IOCTL_PARAM": (32, "attr a b c", "TEE_IOC_INVOKE"),
    "TEE_IOCTL_OPEN_SESSION_ARG": (
        56,
        "uuid clnt_uuid clnt_login cancel_id session ret ret_origin num_params",
        "TEE_IOC_OPEN_SESSION",
    ),
    "TEE_IOCTL_INVOKE_ARG": (
        24,
        "func session cancel_id ret ret_origin num_params",
        "TEE_IOC_INVOKE",
    ),
    "TEE_IOCTL_OBJECT_INVOKE_ARG": (24, "id op ret num_params", "TEE_IOC_OBJECT_INVOKE"),
    "TEE_IOCTL_CANCEL_ARG": (8, "cancel_id session", "TEE_IOC_CANCEL"),
    "TEE_IOCTL_CLOSE_SESSION_ARG": (4, "session", "TEE_IOC_CLOSE_SESSION"),
    "TEE_IOCL_SUPP_RECV_ARG": (8, "func num_params", "TEE_IOC_SUPPL_RECV"),
    "TEE_IOCL_SUPP_SEND_ARG": (8, "ret num_params", "TEE_IOC_SUPPL_SEND"),
}

# Of these the parameters follow at once, so that the C array begins where our Struct ends.
WITH_PARAMS = {
    "TEE_IOCTL_OPEN_SESSION_ARG",
    "TEE_IOCTL_INVOKE_ARG",
    "TEE_IOCTL_OBJECT_INVOKE_ARG",
    "TEE_IOCL_SUPP_RECV_ARG",
    "TEE_IOCL_SUPP_SEND_ARG",
}

CONSTANTS = {
    name: value
    for name, value in vars(linux_tee).items()
    if name.startswith("TEE_") and isinstance(value, int)
}


def fields_of(struct: Struct) -> list[tuple[int, int, int]]:
    """(offset, size, 1 if signed) of each field of a little-endian Struct, from its format."""
    fields = []
    done = "<"
    for count, letter in re.findall(r"(\d*)([a-zA-Z])", struct.format):
        if letter in "sx":
            if letter == "s":
                fields.append((calcsize(done), int(count or 1), 0))
            done += count + letter
            continue
        for _ in range(int(count or 1)):
            fields.append((calcsize(done), calcsize("<" + letter), int(letter.islower())))
            done += letter
    return fields


def c_program() -> str:
    """Prints "name value" for each constant, and "struct.field offset size signed" for each field.

    The arguments are what the header says, not what we think: only names go into the program.
    """
    lines = [
        "#include <stddef.h>",
        "#include <stdio.h>",
        "#include <linux/tee.h>",
        "int main(void) {",
    ]
    for name in CONSTANTS:
        lines += [
            f"#ifdef {name}",
            f'printf("{name} %llu\\n", (unsigned long long)({name}));',
            "#endif",
        ]
    for name, (_, fields, guard) in STRUCTS.items():
        tag = name.lower()
        lines += [f"#ifdef {guard}", "{", f"struct {tag} s;"]
        lines.append(f'printf("{name} %zu\\n", sizeof(s));')
        for field in fields.split():
            # An array (uuid) has no sign: ask its first element, and count __u8 as unsigned.
            signed = "0" if field.endswith("uuid") else f"((__typeof__(s.{field}))-1 < 1)"
            lines.append(
                f'printf("{name}.{field} %zu %zu %d\\n",'
                f" offsetof(struct {tag}, {field}), sizeof(s.{field}), (int){signed});"
            )
        if name in WITH_PARAMS:
            lines.append(f'printf("{name}.params %zu\\n", offsetof(struct {tag}, params));')
        lines += ["}", "#endif"]
    lines += ["return 0;", "}"]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, ...]]:
    """What gcc says about the installed <linux/tee.h>."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("linux_tee")
    source, program = folder / "tee.c", folder / "tee"
    probe = subprocess.run(
        ["gcc", "-E", "-x", "c", "-"], input="#include <linux/tee.h>\n", text=True, stderr=-1
    )
    if probe.returncode:
        pytest.skip("<linux/tee.h> is not installed")
    source.write_text(c_program())
    subprocess.run(["gcc", "-Wall", "-Werror", "-o", program, source], check=True)
    out = subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = (line.split() for line in out.splitlines())
    return {name: tuple(int(n) for n in numbers) for name, *numbers in rows}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constant_as_in_header(header: dict[str, tuple[int, ...]], name: str) -> None:
    if name not in header:
        pytest.skip(f"the installed <linux/tee.h> has no {name}")
    assert header[name][0] in {CONSTANTS[name]} | OLDER_VALUES.get(name, set())


@pytest.mark.parametrize("name", STRUCTS)
def test_struct_as_in_header(header: dict[str, tuple[int, ...]], name: str) -> None:
    if name not in header:
        pytest.skip(f"the installed <linux/tee.h> has no struct {name.lower()}")
    struct: Struct = getattr(linux_tee, name)
    names = STRUCTS[name][1].split()
    assert header[name] == (struct.size,)
    assert [header[f"{name}.{field}"] for field in names] == fields_of(struct)
    if name in WITH_PARAMS:
        assert header[f"{name}.params"] == (struct.size,)


@pytest.mark.parametrize(("name", "value"), (IOCTLS | LATE_CONSTANTS).items())
def test_constant_as_in_v6_18(name: str, value: int) -> None:
    assert CONSTANTS[name] == value


@pytest.mark.parametrize("name", STRUCTS)
def test_struct_as_in_v6_18(name: str) -> None:
    size, fields, _ = STRUCTS[name]
    struct: Struct = getattr(linux_tee, name)
    assert struct.size == size
    assert len(struct.unpack(bytes(size))) == len(fields.split())


def test_tables_here_are_complete() -> None:
    structs = {name for name, value in vars(linux_tee).items() if isinstance(value, Struct)}
    assert structs == set(STRUCTS)
    numbers = {n for n in CONSTANTS if n.startswith("TEE_IOC_")}
    assert numbers - {"TEE_IOC_MAGIC", "TEE_IOC_BASE"} == set(IOCTLS)


@pytest.mark.parametrize(("name", "value"), IOCTLS.items())
def test_ioctl_name(name: str, value: int) -> None:
    assert linux_tee.ioctl_name(value) == name
    assert linux_tee.ioctl_name(value - 2**32) == name  # as C's int


def test_ioctl_name_of_unknown_commands() -> None:
    # The magic of SGX is the same, and a size that is not ours is not our command.
    assert linux_tee.ioctl_name(0x4008A402) == "_IOW(0xa4, 2, 8)"
    assert linux_tee.ioctl_name(0x5401) == "_IO(0x54, 1, 0)"
    assert linux_tee.ioctl_name(linux_tee.TEE_IOC_INVOKE + 1) == "_IOR(0xa4, 4, 16)"


def test_ioctl_encoding_and_back() -> None:
    assert _IO(0x12, 3) == 0x1203
    assert _IOW(0xA4, 2, 8) == 0x4008A402
    cmd = linux_tee.TEE_IOC_SHM_REGISTER
    parts = _IOC_DIR(cmd), _IOC_TYPE(cmd), _IOC_NR(cmd), _IOC_SIZE(cmd)
    assert parts == (3, 0xA4, 9, 24)


def test_import_is_cheap() -> None:
    """No enum, dataclasses, re or typing behind these modules: each start of gentee pays for it."""
    root = Path(__file__).parents[2]
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); before = set(sys.modules)\n"
        "import gentee.abi.linux_tee, gentee.errors\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert {m for m in out.split() if not m.startswith("gentee")} <= {"struct", "_struct"}
