# SPDX-License-Identifier: BSD-2-Clause
"""A TA dies under ``gentee run``: its client, and what the terminal shows its author."""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.arm_tas import install, options, uuid_of
from tests.crashes import FLAGS, Command
from tests.functional.conftest import GenteeRun
from tests.ta_build import ARCHES, TAS
from tests.ta_run import ta_bytes

NUMBER = 40
UUID = uuid_of(NUMBER)
SOURCE = (TAS / "crashes.c").read_text().split("\n")

CLIENT = """
import sys
from gentee.client import Context, Value
from gentee.errors import TeeError
uuid, *commands = sys.argv[1:]
with Context() as context:
    for command in commands:
        number, _, value = command.partition(":")
        session = context.open_session(uuid)
        try:
            session.invoke(int(number), Value(int(value or "0", 16)))
        except TeeError as error:
            print(error)
        session.close()
"""

DEAD = "TEE_ERROR_TARGET_DEAD (origin TEE_ORIGIN_TEE)\n"


def elf(arch: str) -> bytes:
    return ta_bytes("crashes", arch, f"-DNUMBER={NUMBER}", *FLAGS)


@cache
def line_of(text: str) -> int:
    (number,) = (n for n, line in enumerate(SOURCE, 1) if line.strip() == text)
    return number


@pytest.fixture(params=ARCHES)
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tas(tmp_path: Path, arch: str) -> Path:
    """A folder with the signed TA."""
    folder = tmp_path / "tas"
    folder.mkdir()
    install(folder, NUMBER, "crashes", arch, *FLAGS)
    return folder


def frames(text: str) -> list[str]:
    """Of each frame what is beside its address."""
    return re.findall(r"^    #\d+ +0x[0-9a-f]{8}  (.*)$", text, re.M)


def run(
    gentee_run: GenteeRun, way: str | None, tas: Path, *commands: str, more: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the commands, each in a session of its own, and expect that each is the TA's end."""
    finished = gentee_run(
        [sys.executable, "-c", CLIENT, UUID, *commands],
        options=["--ephemeral", *options(tas), *more],
        way=way,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == DEAD * len(commands), finished.stderr
    return finished


def test_function_file_and_line(
    gentee_run: GenteeRun, way: str, tas: Path, tmp_path: Path, arch: str
) -> None:
    symbols = tmp_path / "symbols"
    symbols.mkdir()
    (symbols / f"{UUID}.elf").write_bytes(elf(arch))
    text = run(gentee_run, way, tas, f"{Command.CXX:d}:40", more=("--symbols", str(symbols))).stderr
    # One line says it, for who looks for lines.
    assert re.search(
        r"^\[\w+\] ERROR: died: data abort, read of unmapped memory at 0x40 \(a null pointer\), "
        rf"in command {Command.CXX:d} of session \d+$",
        text,
        re.M,
    ), text
    names = frames(text)
    assert re.fullmatch(rf"leaf at .*crashes\.c:{line_of('return *address;')}", names[0])
    at = line_of("return leaf(address) + 1;")
    assert re.fullmatch(rf"leaf_caller at .*crashes\.c:{at}", names[1])
    at = line_of("return leaf_caller(address) + (uintptr_t)c;")
    called = "vault::Store::open(unsigned int const*, char)"
    assert re.fullmatch(rf"{re.escape(called)} at .*crashes\.c:{at}", names[2])
    assert f"  TA {UUID}, " in text
    assert f"symbols of {symbols / f'{UUID}.elf'}" in text
    assert "--symbols DIR" not in text
    assert "\x1b" not in text  # nobody looks at a pipe in colours


def test_a_panic(gentee_run: GenteeRun, tas: Path, arch: str) -> None:
    """Beside the image is looked without being told."""
    (tas / f"{UUID}.elf").write_bytes(elf(arch))
    text = run(gentee_run, None, tas, f"{Command.PANIC:d}").stderr
    assert "ERROR: panicked: TEE_ERROR_BAD_PARAMETERS (0xffff0006), in command 0 of" in text
    names = [frame.split(" at ")[0] for frame in frames(text)]
    wanted = ["inner", "middle", "invoke", "__ta_entry"]
    assert [name for name in names if name in wanted] == wanted


def test_without_symbols(gentee_run: GenteeRun, tas: Path, arch: str) -> None:
    """Places in the file, and one plain line that says what would show more."""
    text = run(gentee_run, None, tas, f"{Command.LEAF:d}").stderr
    assert re.fullmatch(r"TA \+ 0x[0-9a-f]+", frames(text)[0])
    assert text.count("no symbols; --symbols DIR with the unstripped ELF shows functions") == 1


def test_everything_else_that_is_shown(gentee_run: GenteeRun, tas: Path, arch: str) -> None:
    text = run(gentee_run, None, tas, f"{Command.OVERFLOW:d}").stderr
    assert "died: data abort, stack overflow at 0x" in text
    assert re.search(
        r"^    0x[0-9a-f]{8} +<- the fault, 0x[0-9a-f]+ bytes before stack$", text, re.M
    )
    assert re.search(r"^    0x[0-9a-f]{8}-0x[0-9a-f]{8} r-x  TA$", text, re.M)
    pc = "x30" if arch == "aarch64" else "lr"
    assert re.search(rf" {pc} [0-9a-f]+", text)
    assert "again and again" in text


def test_another_build(gentee_run: GenteeRun, tas: Path, tmp_path: Path, arch: str) -> None:
    """Lines of another build would lead its author astray."""
    path = tas / f"{UUID}.elf"
    path.write_bytes(ta_bytes("crashes", arch, f"-DNUMBER={NUMBER}", "-DSTACK=16384", *FLAGS))
    text = run(gentee_run, None, tas, f"{Command.LEAF:d}").stderr
    assert f"    {path} is of another build" in text
    assert "crashes.c" not in text


def test_damaged_symbols(gentee_run: GenteeRun, tas: Path, arch: str) -> None:
    """They cost the report its names, and the client nothing."""
    data = bytearray(elf(arch))
    start = data.find(b".debug_info")
    assert start > 0
    table = data.rfind(b"crashes.c")
    data[table - 2048 : table + 2048] = b"\xff" * 4096
    (tas / f"{UUID}.elf").write_bytes(data)
    text = run(gentee_run, None, tas, f"{Command.LEAF:d}").stderr
    assert "died: data abort" in text
    assert len(frames(text)) >= 3


def test_one_after_the_other(gentee_run: GenteeRun, tas: Path, arch: str) -> None:
    """Each of many has its report, also those that were not shown when the client ended."""
    count = 12
    (tas / f"{UUID}.elf").write_bytes(elf(arch))
    text = run(gentee_run, None, tas, *[f"{Command.LEAF:d}:40"] * count).stderr
    assert text.count("died: data abort") == count
    assert text.count("  Backtrace\n    #0  ") == count  # nothing came in between


def test_quiet(gentee_run: GenteeRun, tas: Path, arch: str) -> None:
    assert run(gentee_run, None, tas, f"{Command.LEAF:d}", more=("--quiet",)).stderr == ""


def test_no_such_folder(gentee_run: GenteeRun, tmp_path: Path) -> None:
    finished = gentee_run(["true"], options=["--symbols", tmp_path / "none"])
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[0].endswith("none: No such file or directory")


def test_on_a_terminal(tas: Path, arch: str) -> None:
    """In colour, and with its lines together."""
    script = shutil.which("script")
    if script is None:
        pytest.skip("needs script(1), which has a terminal to lend")
    command = [
        sys.executable, "-m", "gentee", "run", "--ephemeral", *options(tas), "--",
        sys.executable, "-c", CLIENT, UUID, f"{Command.LEAF:d}",
    ]  # fmt: skip
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    environment.pop("NO_COLOR", None)
    import shlex

    finished = subprocess.run(
        [script, "-qec", shlex.join(command), os.devnull],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert re.search(r"\x1b\[31m\[\w+\] ERROR:\x1b\[0m died: data abort", finished.stdout)
