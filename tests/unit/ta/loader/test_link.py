# SPDX-License-Identifier: BSD-2-Clause
"""TAs with libraries, thread-local storage and old headers, built and run."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from gentee.abi import gp
from gentee.abi import optee_ta as ta
from gentee.errors import BadParameters, ItemNotFound, TaImageError
from gentee.ta.loader.image import ElfImage, parse_image
from tests.elfwriter import DATA, ElfWriter
from tests.ta_build import ARCHES
from tests.ta_run import (
    LIBRARY,
    LIBRARY2,
    LIBRARY_TLS,
    UUID,
    RunningTa,
    library_image,
    library_path,
    ta_image,
)

NOW = ta.RTLD_NOW | ta.RTLD_GLOBAL | ta.RTLD_NODELETE


@pytest.fixture(params=ARCHES)
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def linked(arch: str) -> Iterator[RunningTa]:
    running = RunningTa(ta_image("linked", arch, str(library_path(arch, LIBRARY))))
    yield running
    running.end()


def test_libraries(linked: RunningTa) -> None:
    assert [module.uuid for module in linked.loader.modules] == [UUID, LIBRARY, LIBRARY2]
    vals = linked.invoke(0)[1]
    assert vals[0] == 1 + 2 + 100 + 1000  # functions and data across three files
    assert vals[1] == 77  # a pointer in data to a library's variable
    assert vals[2] == 1  # the TA's own symbol goes before the library's
    assert vals[3] == 0  # undefined and weak
    assert vals[4:6] == (3, ord("0"))  # __elf_phdr_info: three files, the second one's name


def test_a_missing_library(arch: str) -> None:
    image = ta_image("linked", arch, str(library_path(arch, LIBRARY)))

    def library(uuid: bytes) -> ElfImage:
        if uuid == LIBRARY2:
            raise ItemNotFound("no such library")
        return library_image(arch, uuid)

    with pytest.raises(ItemNotFound):
        RunningTa(image, libraries=library)


def test_a_library_of_the_other_architecture(arch: str) -> None:
    image = ta_image("linked", arch, str(library_path(arch, LIBRARY)))
    other = "arm" if arch == "aarch64" else "aarch64"
    with pytest.raises(TaImageError, match="other architecture"):
        RunningTa(image, libraries=lambda uuid: library_image(other, uuid))


def test_a_missing_symbol(arch: str) -> None:
    image = ta_image("linked", arch, str(library_path(arch, LIBRARY)))
    with pytest.raises(TaImageError, match="is not found") as caught:
        RunningTa(image, libraries=lambda _uuid: library_image(arch, LIBRARY2))
    assert caught.value.code == gp.TEE_ERROR_ITEM_NOT_FOUND


def test_dlopen_and_dlsym(arch: str) -> None:
    running = RunningTa(ta_image("hello", arch))
    loader = running.loader
    with pytest.raises(BadParameters):
        loader.dlopen(LIBRARY2, ta.RTLD_NOW)
    with pytest.raises(ItemNotFound):
        loader.dlsym(LIBRARY2, b"second_value")
    loader.dlopen(bytes(16), NOW)
    loader.dlopen(LIBRARY2, NOW)
    loader.dlopen(LIBRARY2, NOW)
    assert [module.uuid for module in loader.modules] == [UUID, LIBRARY2]
    address = loader.dlsym(LIBRARY2, b"second_value")
    assert address == loader.dlsym(bytes(16), b"second_value")
    region = running.space.find(address)
    assert region is not None
    assert region.owner == LIBRARY2
    with pytest.raises(ItemNotFound):
        loader.dlsym(LIBRARY2, b"no_such_symbol")
    assert running.invoke(6)[1][0] == 2  # the TA sees that there are two files
    running.end()


def test_dlopen_that_fails_leaves_nothing(arch: str) -> None:
    running = RunningTa(ta_image("hello", arch))
    before = [region.address for region in running.space], running.space.used
    with pytest.raises(TaImageError, match="main_value is not found"):
        running.loader.dlopen(LIBRARY, NOW)  # it wants a symbol of its TA
    assert ([region.address for region in running.space], running.space.used) == before
    assert len(running.loader.modules) == 1
    assert running.invoke(0, 1, 2)[1][0] == 3
    running.end()


@pytest.mark.parametrize("model", ["global-dynamic", "initial-exec"])
def test_thread_local_storage(arch: str, model: str) -> None:
    flags = f"-ftls-model={model}"
    if arch == "arm" and model == "initial-exec":
        # ldelf does not know R_ARM_TLS_TPOFF32, since TPIDRURO is not used.
        with pytest.raises(TaImageError, match="unknown relocation type 19"):
            ta_image("tls", arch, flags, tls=True)
        return
    running = RunningTa(ta_image("tls", arch, flags, tls=True))
    assert running.open()[0] == 0
    assert running.invoke(0)[1][:2] == (42, 0)
    assert running.invoke(0)[1][:2] == (43, 1)
    if arch == "aarch64":
        region = running.space.find(running.engine.thread_register)
        assert region is not None
        assert region.owner == UUID
    running.end()


def test_thread_local_storage_of_a_library(arch: str) -> None:
    path = str(library_path(arch, LIBRARY_TLS))
    running = RunningTa(ta_image("tls", arch, path, "-DWITH_LIBRARY", tls=True))
    assert running.open()[0] == 0
    assert running.invoke(0)[1][:4] == (42, 0, 1001, 1002)
    expected = [1, 2] if arch == "arm" else [0, 0]
    assert [module.tls_mod_id for module in running.loader.modules] == expected
    running.end()


def test_legacy_ta(arch: str) -> None:
    image = ta_image("legacy", arch, "-Wl,-z,notext")
    assert image.is_legacy
    running = RunningTa(image)
    assert running.open()[1][:3] == (5, 1, 1)  # its constructor ran, by __init_fini_info
    running.end()


def test_instances_are_at_random_places(arch: str) -> None:
    places = set()
    for _ in range(4):
        running = RunningTa(ta_image("hello", arch))
        places |= {region.address for region in running.space}
        running.end()
    assert len(places) > 16  # of 20


def test_regions_are_apart(linked: RunningTa) -> None:
    regions = list(linked.space)
    for low, high in pairwise(regions):
        assert low.owner == high.owner or low.end + 4096 <= high.address
    for region in regions:
        assert region.prot & 6 != 6  # never writable and executable


def test_writable_segments_are_not_executed(arch: str) -> None:
    writer = ElfWriter(arch)
    writer.phdrs[1].flags = 7
    running = RunningTa(parse_image(writer.build()))
    region = running.space.find(running.ta.load_addr + DATA)
    assert region is not None
    assert region.prot == 3
    running.end()
