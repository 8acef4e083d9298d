# SPDX-License-Identifier: BSD-2-Clause
"""Folders of signed Arm TAs, built from tests/tas: what ``gentee run --ta-dir`` serves.

``TA_UUID(n)`` in a TA's source is :func:`uuid_of` here. One that is built for several tests is in
the folder of :func:`all_of`, under the number that it has here.
"""

import atexit
import functools
import tempfile
from pathlib import Path

from gentee.abi.optee_ta import (
    TA_FLAG_INSTANCE_KEEP_ALIVE,
    TA_FLAG_INSTANCE_KEEP_CRASHED,
    TA_FLAG_MULTI_SESSION,
    TA_FLAG_SECURE_DATA_PATH,
    TA_FLAG_SINGLE_INSTANCE,
)
from gentee.secure import images
from gentee.secure.service import format_uuid, parse_uuid
from tests import signing
from tests.ta_run import (
    LIBRARY,
    LIBRARY2,
    LIBRARY_TLS,
    library_path,
    ta_bytes,
    uuid_text,
)

# tests/tas/actor.c, by what becomes of its instances
MULTI, SINGLE, SESSIONS, ALIVE, CRASHED, NO_CREATE, OTHER = range(0x10, 0x17)
# tests/tas/memory.c: with one instance, one for each session, and one for protected memory
MEMORY, MEMORY2, MEMORY_MULTI, MEMORY_PROTECTED = range(0x20, 0x24)
# What the linker and the loader have to do with
LINKED, TLS, TLS_LIBRARY, LEGACY, HELLO, BIG, DEEP, PLUGIN = range(0x30, 0x38)
BRANCHES = 0x38  # of 64 bits only
INIT = 0x39
# tests/tas/storage.c: with an instance for each session, another such TA, and with one instance
STORAGE, STORAGE2, STORAGE_SINGLE = range(0x50, 0x53)

_SHARED = TA_FLAG_SINGLE_INSTANCE | TA_FLAG_MULTI_SESSION
_KEPT = _SHARED | TA_FLAG_INSTANCE_KEEP_ALIVE

BIG_BSS = 12 << 20  # bytes
DEEP_STACK = 1 << 20


def uuid_of(number: int) -> str:
    """The UUID that a source names as ``TA_UUID(number)``."""
    return f"{number:08x}-7461-7461-7461-746174617461"


def sign_into(folder: Path, uuid: str, elf: bytes, version: int = 0) -> Path:
    """Put a signed image of ``elf`` into ``folder`` by its UUID."""
    path = folder / f"{format_uuid(parse_uuid(uuid))}.ta"
    path.write_bytes(images.sign(elf, signing.key(), parse_uuid(uuid), version))
    return path


@functools.cache
def _elf(name: str, arch: str, flags: tuple[str, ...], tls: bool, bti: bool) -> bytes:
    return ta_bytes(name, arch, *flags, tls=tls, bti=bti)


def install(
    folder: Path, number: int, name: str, arch: str, *flags: str, tls: bool = False,
    bti: bool = False, version: int = 0,
) -> str:  # fmt: skip
    """Build tests/tas/``name``.c, sign it and put it into ``folder``; its UUID."""
    uuid = uuid_of(number)
    elf = _elf(name, arch, (f"-DNUMBER={number}", *flags), tls, bti)
    sign_into(folder, uuid, elf, version)
    return uuid


def options(folder: Path) -> list[str]:
    """What ``gentee run`` needs to accept them."""
    key = Path(signing.key_file(folder))
    return ["--ta-dir", str(folder), "--key", str(key), "--strict"]


@functools.cache
def all_of(arch: str) -> Path:
    """A folder with all TAs of this module, for one architecture; nobody writes to it."""
    temporary = tempfile.TemporaryDirectory(prefix="gentee-arm-tas-")
    atexit.register(temporary.cleanup)
    folder = Path(temporary.name)

    def actor(number: int, flags: int, *more: str) -> None:
        install(folder, number, "actor", arch, f"-DFLAGS={flags}", *more)

    actor(MULTI, 0)
    actor(SINGLE, TA_FLAG_SINGLE_INSTANCE)
    actor(SESSIONS, _SHARED)
    actor(ALIVE, _KEPT)
    actor(CRASHED, _KEPT | TA_FLAG_INSTANCE_KEEP_CRASHED)
    actor(NO_CREATE, 0, "-DCREATE_FAILS")
    actor(OTHER, _SHARED)
    for number in MEMORY, MEMORY2:
        install(folder, number, "memory", arch)
    install(folder, MEMORY_MULTI, "memory", arch, "-DFLAGS=0")
    flags = _SHARED | TA_FLAG_SECURE_DATA_PATH
    install(folder, MEMORY_PROTECTED, "memory", arch, f"-DFLAGS={flags}")
    install(folder, BIG, "memory", arch, "-DFLAGS=0", f"-DBSS={BIG_BSS}")
    install(folder, DEEP, "memory", arch, "-DFLAGS=0", f"-DSTACK={DEEP_STACK}")
    install(folder, HELLO, "hello", arch)
    install(folder, LEGACY, "legacy", arch)
    libraries = {uuid: str(library_path(arch, uuid)) for uuid in (LIBRARY, LIBRARY2, LIBRARY_TLS)}
    for uuid, path in libraries.items():
        sign_into(folder, uuid_text(uuid), Path(path).read_bytes())
    install(folder, LINKED, "linked", arch, libraries[LIBRARY])
    install(folder, TLS, "tls", arch, tls=True)
    install(folder, TLS_LIBRARY, "tls", arch, "-DWITH_LIBRARY", libraries[LIBRARY_TLS], tls=True)
    install(folder, PLUGIN, "plugin", arch)
    install(folder, INIT, "init", arch)
    for number, flags in ((STORAGE, 0), (STORAGE2, 0), (STORAGE_SINGLE, _SHARED)):
        install(folder, number, "storage", arch, f"-DFLAGS={flags}")
    if arch == "aarch64":
        install(folder, BRANCHES, "branches", arch, bti=True)
    return folder
