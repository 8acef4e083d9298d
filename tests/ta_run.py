# SPDX-License-Identifier: BSD-2-Clause
"""A TA in this process: loaded, entered, and its system calls served by the test."""

import atexit
import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gentee.abi import optee_ta as ta
from gentee.errors import ItemNotFound
from gentee.ta.engine.base import Engine
from gentee.ta.engine.calls import arguments, params_address
from gentee.ta.engine.native import NativeEngine
from gentee.ta.engine.public import PublicEngine
from gentee.ta.engine.space import AddressSpace
from gentee.ta.loader.image import ElfImage, parse_image
from gentee.ta.loader.link import Loader
from tests.ta_build import build_library, build_ta

ENGINES: dict[str, type[NativeEngine] | type[PublicEngine]] = {
    "native": NativeEngine,
    "public": PublicEngine,
}

UUID = bytes(range(16))
LIBRARY = bytes(15) + b"\1"
LIBRARY2 = bytes(15) + b"\2"
LIBRARY_TLS = bytes(15) + b"\3"

Served = Callable[["RunningTa", Sequence[int]], int]


@functools.cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="gentee-tas-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def uuid_text(uuid: bytes) -> str:
    """A UUID as DT_NEEDED has it."""
    digits = uuid.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


@functools.cache
def library_path(arch: str, uuid: bytes) -> Path:
    """The built library of this UUID."""
    names = {LIBRARY: "library", LIBRARY2: "library2", LIBRARY_TLS: "library_tls"}
    flags = ["-fsemantic-interposition"]
    if uuid == LIBRARY:
        flags.append(str(library_path(arch, LIBRARY2)))
    is_tls = uuid == LIBRARY_TLS
    return build_library(_folder(), names[uuid], arch, uuid_text(uuid), *flags, tls=is_tls)


@functools.cache
def ta_bytes(name: str, arch: str, *flags: str, tls: bool = False, bti: bool = False) -> bytes:
    """The ELF file of tests/tas/``name``.c; a flag may be the UUID of a library."""
    return build_ta(_folder(), name, arch, *flags, tls=tls, bti=bti).read_bytes()


@functools.cache
def ta_image(name: str, arch: str, *flags: str, tls: bool = False, bti: bool = False) -> ElfImage:
    return parse_image(ta_bytes(name, arch, *flags, tls=tls, bti=bti))


@functools.cache
def library_image(arch: str, uuid: bytes) -> ElfImage:
    return parse_image(library_path(arch, uuid).read_bytes(), is_main=False)


class RunningTa:
    """One instance; :meth:`call` enters it."""

    def __init__(
        self,
        image: ElfImage,
        engine: str = "native",
        serve: Mapping[int, Served] | None = None,
        libraries: Callable[[bytes], ElfImage] | None = None,
    ) -> None:
        self.engine: Engine = ENGINES[engine](image.arch)
        self.space = AddressSpace(self.engine)
        self.loader = Loader(self.space, libraries or self._library)
        self.serve = dict(serve or {})
        self.ta = self.loader.load(UUID, image)

    def _library(self, uuid: bytes) -> ElfImage:
        if uuid not in (LIBRARY, LIBRARY2, LIBRARY_TLS):
            raise ItemNotFound(uuid_text(uuid))
        return library_image(self.engine.arch, uuid)

    def call(self, func: int, cmd: int = 0, *vals: int) -> tuple[int, tuple[int, ...]]:
        """Enter the TA; its result and the eight values afterwards."""
        address = params_address(self.ta.stack_top)
        filled = (*vals, *(0,) * (8 - len(vals)))
        self.space.write(address, ta.UTEE_PARAMS.pack(0x3333, *filled))
        self.engine.enter(self.ta.entry, address, (func, 1, address, cmd))
        number = self.engine.run()
        while number != ta.TEE_SCN_RETURN:
            result = self.serve[number](self, arguments(self.engine, self.space))
            number = self.engine.resume(result)
        result = self.engine.args[0] & 0xFFFFFFFF
        after = ta.UTEE_PARAMS.unpack(self.space.read(address, ta.UTEE_PARAMS.size))
        return result, after[1:]

    def open(self) -> tuple[int, tuple[int, ...]]:
        return self.call(ta.UTEE_ENTRY_FUNC_OPEN_SESSION)

    def invoke(self, cmd: int, *vals: int) -> tuple[int, tuple[int, ...]]:
        return self.call(ta.UTEE_ENTRY_FUNC_INVOKE_COMMAND, cmd, *vals)

    def close(self) -> tuple[int, tuple[int, ...]]:
        return self.call(ta.UTEE_ENTRY_FUNC_CLOSE_SESSION)

    def end(self) -> None:
        """Free the instance."""
        self.engine.close()
