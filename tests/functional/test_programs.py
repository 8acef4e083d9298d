# SPDX-License-Identifier: BSD-2-Clause
"""Programs however they are built: static, of 32 bits, in Python, in Rust, behind a shell."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.conftest import CompileClient, GenteeRun

CLIENTS = Path(__file__).parents[1] / "clients"

Hello = Callable[[Sequence[str | Path]], None]


@pytest.fixture
def says_hello(gentee_run: "GenteeRun", way: str) -> Hello:
    """Run a program that is hello.c in some form."""

    def run(argv: Sequence[str | Path]) -> None:
        finished = gentee_run(argv, way=way)
        assert (finished.returncode, finished.stdout) == (0, "ok hello\n"), finished.stderr

    return run


def compiles(source: str, flags: Sequence[str]) -> bool:
    """Whether gcc has what these flags need."""
    command = ["gcc", "-x", "c", "-", "-o", os.devnull, *flags]
    finished = subprocess.run(command, input=source, text=True, capture_output=True)
    return finished.returncode == 0


C_LIBRARY = '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n'


def test_dynamic_program(says_hello: Hello, compile_client: "CompileClient") -> None:
    says_hello([compile_client("hello.c")])


def test_static_program(says_hello: Hello, compile_client: "CompileClient") -> None:
    if not compiles(C_LIBRARY, ["-static"]):
        pytest.skip("there is no static C library")
    says_hello([compile_client("hello.c", flags=["-static"])])


def test_program_at_fixed_addresses(says_hello: Hello, compile_client: "CompileClient") -> None:
    says_hello([compile_client("hello.c", flags=["-no-pie"])])


def test_program_that_was_stripped_and_hardened(
    says_hello: Hello, compile_client: "CompileClient"
) -> None:
    flags = ["-s", "-O2", "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-Wl,-z,now"]
    says_hello([compile_client("hello.c", flags=flags)])


def test_32_bit_program(says_hello: Hello, compile_client: "CompileClient") -> None:
    if not compiles(C_LIBRARY, ["-m32"]):
        pytest.skip("there is no 32-bit C library")
    says_hello([compile_client("hello.c", flags=["-m32"])])


def test_32_bit_program_without_c_library(
    says_hello: Hello, compile_client: "CompileClient", tmp_path: Path
) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("only x86-64 runs i386 programs")
    # gcc -m32 does not look where a 64-bit Debian has the kernel's headers.
    triplet = subprocess.run(["gcc", "-print-multiarch"], text=True, capture_output=True)
    flags = ["-m32", "-nostdlib", "-static", "-ffreestanding", "-fno-stack-protector"]
    flags.append(f"-I/usr/include/{triplet.stdout.strip()}")
    probe = "void _start(void);\nvoid _start(void) {}\n"
    if not compiles(probe, flags):
        pytest.skip("this gcc does not compile for i386")
    program = compile_client("hello_i386.c", flags=flags)
    try:
        subprocess.run([program], capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"this kernel does not run i386 programs: {error.strerror}")
    says_hello([program])


def test_python_program(says_hello: Hello) -> None:
    says_hello([sys.executable, "-I", CLIENTS / "hello.py"])


def test_rust_program(says_hello: Hello, tmp_path: Path) -> None:
    compiler = shutil.which("rustc")
    if compiler is None:
        pytest.skip("there is no rustc")
    program = tmp_path / "hello"
    finished = subprocess.run(
        [compiler, "--edition", "2021", "-o", program, CLIENTS / "hello.rs"],
        capture_output=True,
        text=True,
    )
    if finished.returncode and "no default toolchain" in finished.stderr:
        pytest.skip("rustc has no toolchain")
    assert finished.returncode == 0, finished.stderr
    says_hello([program])


def test_program_behind_a_shell(says_hello: Hello, compile_client: "CompileClient") -> None:
    says_hello(["sh", "-c", f"true; {compile_client('hello.c')}; exit $?"])


def test_program_in_a_pipeline(says_hello: Hello, compile_client: "CompileClient") -> None:
    says_hello(["sh", "-c", f"echo | {compile_client('hello.c')} | cat"])


def test_programs_one_after_the_other(
    gentee_run: "GenteeRun", compile_client: "CompileClient", way: str
) -> None:
    program = compile_client("hello.c")
    finished = gentee_run(["sh", "-c", f"{program} && {program} & {program}; wait"], way=way)
    assert (finished.returncode, finished.stdout) == (0, "ok hello\n" * 3), finished.stderr


def test_program_that_outlives_gentee(
    gentee_run: "GenteeRun", compile_client: "CompileClient", way: str
) -> None:
    """Its device is gone, and each call says so: nothing hangs."""
    finished = gentee_run([compile_client("outlives.c")], way=way)
    assert (finished.returncode, finished.stdout) == (3, "ok outlives\n"), finished.stderr


def test_program_whose_gentee_is_killed(
    gentee_run: "GenteeRun", compile_client: "CompileClient", way: str
) -> None:
    """It waits in a command then, and is told."""
    program = compile_client("deserted.c")
    finished = gentee_run([program], options=["--driver", "loopback"], way=way)
    assert (finished.returncode, finished.stdout) == (-9, "ok deserted\n"), finished.stderr
