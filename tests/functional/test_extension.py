# SPDX-License-Identifier: BSD-2-Clause
"""The ioctls of <gentee/tee.h>, from C and Python, both ways to the device; and the header."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.conftest import GenteeRun

ROOT = Path(__file__).parents[2]


@pytest.mark.client("extension.c", "--driver", "loopback")
def test_extension(run_case: Callable[[], None]) -> None:
    run_case()


def test_header_for_c(tmp_path: Path) -> None:
    """What ``gentee include-dir`` prints is all that a compiler needs."""
    done = subprocess.run(
        [sys.executable, "-m", "gentee", "include-dir"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    folder = Path(done.stdout.strip())
    assert folder.is_absolute()
    assert (folder / "gentee" / "tee.h").is_file()
    source = tmp_path / "client.c"
    source.write_text("#include <gentee/tee.h>\nint main(void) { return TEE_IOC_TASK == 0; }\n")
    compiler = shutil.which("gcc") or pytest.skip("there is no gcc")
    program = tmp_path / "client"
    subprocess.run([compiler, "-I", folder, source, "-o", program], check=True)
    subprocess.run([program], check=True)


def test_python_clients(gentee_run: "GenteeRun", way: str, tmp_path: Path) -> None:
    """The same from Python, by ioctl, on the loopback TEE."""
    client = tmp_path / "client.py"
    client.write_text(CLIENT, encoding="utf-8")
    options = ["--driver", "loopback"]
    done = gentee_run([sys.executable, "-W", "error", client], options=options, way=way)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


CLIENT = """
from gentee.client import INPUT, OUTPUT, Context, MemRef, SharedMemory, Value
from gentee.drivers.loopback.services import make_image
from gentee.errors import AccessConflict, SecurityError

with Context() as context:
    value = Value(41)
    context.task("loopback", 2, value)
    assert value.a == 42
    for number in range(1, 41):
        uuid, version = context.load(make_image(bytes([number] * 16), number, f"service {number}"))
        assert version == number
    assert len(context.services()) == 41
    assert context.find(name="service 40").bytes == bytes([40] * 16)
    for image, error in (
        (make_image(bytes([40] * 16), 39, "old"), AccessConflict),
        (make_image(bytes([41] * 16), 1, "new")[:-1] + b"x", SecurityError),
    ):
        try:
            context.load(image)
        except error:
            continue
        raise AssertionError(error)
    target = bytearray(8)
    with context.map(b"hello", INPUT) as source, context.map(target, OUTPUT) as memory:
        context.task(bytes(range(16)), 1, source, MemRef(memory, 0, 6))
    assert target == b"hello\\0\\0\\0", target
    with SharedMemory.allocate(context, 100) as memory:
        context.task(bytes(range(16)), 3, Value(7, 0, INPUT), memory)
        memory.free()
        assert bytes(memory.buffer) == b"\\7" * 100
print("done")
"""
