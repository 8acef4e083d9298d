# SPDX-License-Identifier: BSD-2-Clause
"""TAs and their libraries, built from tests/tas with the compiler of the PyPI package ziglang.

So no cross compiler is needed. The targets are Linux ones with ``-nostdlib -shared``: freestanding
targets refuse shared objects. TAs get OP-TEE's layout by tests/tas/ta.ld.
"""

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

TAS = Path(__file__).parent / "tas"
ARCHES = ("aarch64", "arm")

_TARGETS = {
    "aarch64": ("-target", "aarch64-linux-musl"),
    "arm": ("-target", "thumb-linux-musleabihf", "-mcpu=cortex_a53"),
}
_FLAGS = (
    "-nostdlib",
    "-shared",
    "-fPIC",
    "-Os",
    "-ffreestanding",
    "-fvisibility=hidden",
    "-fno-sanitize=all",
    "-fno-stack-protector",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wl,--hash-style=both",
    "-Wl,-z,max-page-size=4096",
)


def build_ta(
    folder: Path, name: str, arch: str, *flags: str, tls: bool = False, bti: bool = False
) -> Path:
    """Build tests/tas/``name``.c as a TA; the path of its ELF file, in ``folder``."""
    script = _script(folder, "ta.ld", name, arch, tls=tls, bti=bti)
    branches = ("-mbranch-protection=standard",) if bti else ()
    return _build(folder, name, arch, script, *branches, *flags)


def build_library(
    folder: Path, name: str, arch: str, uuid: str, *flags: str, tls: bool = False
) -> Path:
    """Build tests/tas/``name``.c as a shared library that TAs need by its UUID."""
    script = _script(folder, "library.ld", name, arch, tls=tls)
    return _build(folder, name, arch, script, f"-Wl,-soname,{uuid}", *flags)


def _script(folder: Path, source: str, name: str, arch: str, **wanted: bool) -> str:
    """The flag for a linker script without the lines for what is not wanted."""
    lines = (TAS / source).read_text().splitlines(keepends=True)
    for part, is_wanted in {"bti": False, **wanted}.items():
        if not is_wanted:
            lines = [line for line in lines if f":{part}" not in line and f"\t{part} " not in line]
    path = folder / f"{name}-{arch}.ld"
    path.write_text("".join(lines))
    return f"-Wl,-T,{path}"


def _zig() -> str:
    """The compiler; skips the test where it is not installed."""
    spec = find_spec("ziglang")
    if spec is None or spec.origin is None:
        pytest.skip("needs the PyPI package ziglang, which builds TAs")
    return str(Path(spec.origin).with_name("zig"))


def _build(folder: Path, name: str, arch: str, *flags: str) -> Path:
    zig = _zig()
    output = folder / f"{name}-{arch}.so"  # the compiler links with files of this name only
    # The compiler keeps what it makes; an ordinary user may have no home for that.
    cache = folder / "zig-cache"
    environment = {
        **os.environ,
        "ZIG_GLOBAL_CACHE_DIR": str(cache),
        "ZIG_LOCAL_CACHE_DIR": str(cache),
    }
    command: list[str | Path] = [zig, "cc", *_TARGETS[arch], *_FLAGS, f"-I{TAS}"]
    command += [TAS / f"{name}.c", "-o", output, *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"building {name} for {arch} failed:\n{done.stderr}")
    return output
