# SPDX-License-Identifier: BSD-2-Clause
"""OP-TEE's TAs in the store: found, verified, of a version that only grows; libraries; unsigned."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gentee.abi import gp
from gentee.abi import optee_ta as ta
from gentee.errors import ItemNotFound, TaImageError
from gentee.secure import images, subkeys
from gentee.secure.keys import AcceptedKeys, PublicKey
from gentee.secure.service import Service, format_uuid, parse_uuid
from gentee.secure.state import State
from gentee.secure.store import TaStore
from tests import signing
from tests.signing import UUID, UUID_BYTES, chain, elf, key

SINGLE = ta.TA_FLAG_SINGLE_INSTANCE
LIBRARY = parse_uuid(signing.uuid_of(77))

Open = Callable[..., TaStore]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tas"
    folder.mkdir()
    return folder


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def opened(tmp_path: Path, folder: Path, warnings: list[str]) -> Iterator[Open]:
    """A store of ``folder`` with a state that is kept: each call is another run."""
    stores: list[TaStore] = []
    (tmp_path / "state").mkdir(mode=0o700)

    def run(keys: AcceptedKeys | None = None, *, allow_unsigned: bool = False) -> TaStore:
        for store in stores:
            store.close()
        stores[:] = [
            TaStore(
                [str(folder)],
                state=State(str(tmp_path / "state")),
                keys=keys or signing.accepted(tmp_path),
                allow_unsigned=allow_unsigned,
                warn=warnings.append,
            )
        ]
        return stores[0]

    yield run
    for store in stores:
        store.close()


def put(folder: Path, data: bytes, uuid: bytes = UUID_BYTES, end: str = ".ta") -> Path:
    path = folder / f"{format_uuid(uuid)}{end}"
    path.write_bytes(data)
    # A change within the clock's tick is a change too.
    os.utime(folder, ns=(0, folder.stat().st_mtime_ns + 1_000_000))
    return path


def signed(payload: bytes = b"", version: int = 1, uuid: bytes = UUID_BYTES) -> bytes:
    return images.sign(payload or elf(), key(), uuid, version)


def found(store: TaStore, uuid: bytes = UUID_BYTES) -> Service:
    service = store.find(uuid)
    assert service is not None
    return service


def refused(store: TaStore, uuid: bytes = UUID_BYTES) -> TaImageError:
    for read in (store.find, store.binary):
        with pytest.raises(TaImageError) as caught:
            read(uuid)
    return caught.value


@pytest.mark.parametrize("arch", ["aarch64", "arm"])
def test_a_ta_in_a_folder(arch: str, folder: Path, opened: Open) -> None:
    payload = elf(arch, SINGLE)
    path = put(folder, signed(payload, 7))
    service = found(opened())
    assert (service.name, service.path, service.version) == (UUID[:8], str(path), 7)
    assert (service.is_elf, service.arch, service.ta_flags) == (True, arch, SINGLE)
    assert (service.single_instance, service.signed, service.installed) == (True, True, False)
    assert service.read() == payload


def test_it_is_known_without_being_read(folder: Path, opened: Open) -> None:
    put(folder, signed())
    store = opened()
    assert store.known(UUID_BYTES) is None
    service = found(store)
    assert store.known(UUID_BYTES) is service
    assert store.all() == [service]


def test_a_ta_that_is_loaded(opened: Open, folder: Path) -> None:
    payload = elf(flags=SINGLE | ta.TA_FLAG_MULTI_SESSION)
    installed = opened().install(signed(payload, 3))
    assert (installed.is_elf, installed.installed, installed.version) == (True, True, 3)
    # In the next run it is known before its image was read, and read when it is used.
    store = opened()
    (listed,) = store.all()
    assert (listed.is_elf, listed.arch, listed.name) == (True, "aarch64", UUID[:8])
    assert (listed.single_instance, listed.multi_session) == (True, True)
    assert listed.payload is None
    assert found(store).read() == payload
    assert store.binary(UUID_BYTES)[1] == payload
    store.uninstall(UUID_BYTES)
    assert store.find(UUID_BYTES) is None


@pytest.mark.parametrize("how", ["folder", "installed"])
def test_a_library(how: str, folder: Path, opened: Open) -> None:
    payload = elf(is_main=False)
    image = signed(payload, uuid=LIBRARY)
    store = opened()
    if how == "folder":
        put(folder, image, LIBRARY)
    else:
        store.install(image)
        store = opened()
    for _ in range(2):
        assert store.find(LIBRARY) is None
        assert store.known(LIBRARY) is None
        assert store.binary(LIBRARY)[1] == payload
    # It is no service; what is installed is listed, so that it can be uninstalled.
    assert [each.uuid for each in store.all()] == ([LIBRARY] if how == "installed" else [])
    with pytest.raises(ItemNotFound):
        store.binary(UUID_BYTES)


@pytest.mark.parametrize("how", ["folder", "installed"])
def test_whether_a_library_is_still_the_same(how: str, folder: Path, opened: Open) -> None:
    store = opened()

    def give(version: int) -> None:
        image = signed(elf(is_main=False), version, uuid=LIBRARY)
        if how == "folder":
            put(folder, image, LIBRARY)
        else:
            store.install(image)

    give(1)
    first, _ = store.binary(LIBRARY)
    assert store.is_current(first)
    give(2)
    assert not store.is_current(first)
    second, _ = store.binary(LIBRARY)
    assert (second.version, store.is_current(second)) == (2, True)
    if how == "folder":
        (folder / f"{format_uuid(LIBRARY)}.ta").unlink()
    else:
        store.uninstall(LIBRARY)
    assert not store.is_current(second)


def test_binaries_are_elf_files(folder: Path, opened: Open) -> None:
    (folder / "service.py").write_text(signing.source())
    store = opened()
    found(store)
    with pytest.raises(ItemNotFound):
        store.binary(UUID_BYTES)


def test_a_library_that_is_refused(folder: Path, opened: Open) -> None:
    put(folder, signed(elf(is_main=False), uuid=LIBRARY)[:-1], LIBRARY)
    assert refused(opened(), LIBRARY).code == gp.TEE_ERROR_SECURITY


def test_an_elf_file_that_is_none(folder: Path, opened: Open) -> None:
    put(folder, signed(elf(flags=1 << 20)))
    error = refused(opened())
    assert error.code == gp.TEE_ERROR_BAD_FORMAT
    assert "ta_head.flags" in str(error)


# The legacy form


def legacy(payload: bytes) -> bytes:
    """An image of type 0, which has no UUID."""
    from tests.unit.secure.test_images import made

    return made(img_type=0, middle=b"", payload=payload)


def test_the_legacy_form_is_named_by_its_file(folder: Path, opened: Open) -> None:
    path = put(folder, legacy(elf()))
    store = opened()
    service = found(store)
    assert (service.is_elf, service.version) == (True, 0)
    assert store.binary(UUID_BYTES)[1] == elf()
    with pytest.raises(TaImageError, match="has no UUID"):
        store.install(path.read_bytes())
    (folder / "some.ta").write_bytes(path.read_bytes())
    assert any("has no UUID" in problem for problem in opened().problems())


def test_the_legacy_form_is_no_way_back(folder: Path, opened: Open) -> None:
    """Its version counts as 0, so that it cannot stand for an older one."""
    put(folder, signed(version=2))
    found(opened())
    put(folder, legacy(elf()))
    assert refused(opened()).code == gp.TEE_ERROR_ACCESS_CONFLICT


# Versions


def test_an_older_ta_is_refused_in_every_later_run(folder: Path, opened: Open) -> None:
    put(folder, signed(version=5))
    found(opened())
    put(folder, signed(version=4))
    for _ in range(2):
        error = refused(opened())
        assert error.code == gp.TEE_ERROR_ACCESS_CONFLICT
        assert "version 4 is lower than 5" in str(error)
    put(folder, signed(version=5))
    found(opened())
    put(folder, signed(version=6))
    found(opened())


def test_an_older_library_is_refused(folder: Path, opened: Open) -> None:
    for version in (2, 1):
        put(folder, signed(elf(is_main=False), version, LIBRARY), LIBRARY)
        store = opened()
        if version == 2:
            store.binary(LIBRARY)
        else:
            assert refused(store, LIBRARY).code == gp.TEE_ERROR_ACCESS_CONFLICT


def behind_a_subkey(subkey_version: int, version: int) -> bytes:
    """A TA that has the UUID of its subkey."""
    before = chain((UUID_BYTES, key(2048, 1), b"", {"version": subkey_version}))
    return before + images.sign(elf(), key(2048, 1), UUID_BYTES, version)


NAME = b"second".ljust(8, b"\0")
SECOND = subkeys.next_uuid(UUID_BYTES, NAME)


def in_a_namespace(first: int, second: int, version: int = 1) -> bytes:
    """A TA behind two subkeys of these versions."""
    data = chain(
        (UUID_BYTES, key(2048, 1), NAME, {"version": first, "max_depth": 2}),
        (SECOND, key(2048, 2), b"", {"version": second, "max_depth": 1}),
    )
    return data + images.sign(elf(), key(2048, 2), SECOND, version)


def test_versions_of_subkeys(folder: Path, opened: Open) -> None:
    """Each has its own, kept over runs; what is lower is TEE_ERROR_SECURITY, as in OP-TEE."""
    put(folder, in_a_namespace(3, 7), SECOND)
    service = found(opened(), SECOND)
    assert service.subkeys == ((UUID_BYTES, 3), (SECOND, 7))
    for first, second in ((2, 7), (3, 6), (2, 8), (4, 6)):
        put(folder, in_a_namespace(first, second, 9), SECOND)
        error = refused(opened(), SECOND)
        assert error.code == gp.TEE_ERROR_SECURITY
        assert "of a subkey is lower than" in str(error)
    # What was refused left nothing behind: neither a subkey's version nor the TA's.
    put(folder, in_a_namespace(3, 7), SECOND)
    found(opened(), SECOND)
    put(folder, in_a_namespace(4, 7), SECOND)
    found(opened(), SECOND)
    put(folder, in_a_namespace(3, 7), SECOND)
    assert "version 3 of a subkey is lower than 4" in str(refused(opened(), SECOND))


def test_a_subkeys_version_is_not_a_tas(folder: Path, opened: Open) -> None:
    """subkey_ver.db and ta_ver.db: one UUID may be in both."""
    put(folder, behind_a_subkey(9, version=1))
    found(opened())
    put(folder, signed(version=1))
    found(opened())


def test_a_subkey_outdates_what_is_ready(folder: Path, opened: Open) -> None:
    """Within one run: another TA came with a later version of the same subkey."""
    put(folder, behind_a_subkey(1, version=1))
    store = opened()
    found(store)
    name = b"other".ljust(8, b"\0")
    other = subkeys.next_uuid(UUID_BYTES, name)
    later = chain((UUID_BYTES, key(2048, 1), name, {"version": 2}))
    store.install(later + images.sign(elf(), key(2048, 1), other, 1))
    assert store.known(UUID_BYTES) is None
    assert refused(store).code == gp.TEE_ERROR_SECURITY


def test_an_installed_ta_behind_subkeys(opened: Open) -> None:
    opened().install(in_a_namespace(2, 2))
    with pytest.raises(TaImageError) as caught:
        opened().install(in_a_namespace(1, 2, 5))
    assert caught.value.code == gp.TEE_ERROR_SECURITY
    assert found(opened(), SECOND).version == 1


# Keys


def test_one_line_for_all_with_the_development_key(
    folder: Path, opened: Open, warnings: list[str]
) -> None:
    keys = AcceptedKeys(strict=True)
    keys._keys = [PublicKey("everybody's", key().public_key(), development=True)]
    for number in range(3):
        uuid = parse_uuid(signing.uuid_of(number))
        put(folder, signed(uuid=uuid), uuid)
    store = opened(keys)
    for number in range(3):
        found(store, parse_uuid(signing.uuid_of(number)))
    (line,) = warnings
    assert "public development key" in line
    assert "--strict" in line


# Without a signature


@pytest.mark.parametrize("end", [".ta", ".elf"])
def test_unsigned(end: str, folder: Path, opened: Open, warnings: list[str]) -> None:
    path = put(folder, elf("arm", SINGLE), end=end)
    store = opened()
    if end == ".ta":
        error = refused(store)
        assert error.code == gp.TEE_ERROR_SECURITY
        assert "--allow-unsigned" in str(error)
    else:  # it may be there for its symbols
        assert store.find(UUID_BYTES) is None
        assert store.problems() == []
    warnings.clear()
    store = opened(allow_unsigned=True)
    service = found(store)
    assert (service.is_elf, service.arch, service.signed) == (True, "arm", False)
    assert (service.single_instance, service.signer) == (True, "")
    assert service.read() == elf("arm", SINGLE)
    assert store.binary(UUID_BYTES)[1] == service.read()
    assert warnings == [f"{path}: not signed, accepted by --allow-unsigned"]


def test_unsigned_libraries_too(folder: Path, opened: Open) -> None:
    put(folder, elf(is_main=False), LIBRARY)
    assert opened(allow_unsigned=True).binary(LIBRARY)[1] == elf(is_main=False)


def test_allowing_unsigned_takes_no_broken_signature(folder: Path, opened: Open) -> None:
    data = bytearray(signed())
    data[60] ^= 1
    put(folder, bytes(data))
    assert "accepted key" in str(refused(opened(allow_unsigned=True)))
    put(folder, signed()[:-1])
    assert "img_size" in str(refused(opened(allow_unsigned=True)))


def test_unsigned_is_not_installed(opened: Open) -> None:
    """A client may load images; whoever allows unsigned files allows those in a folder."""
    with pytest.raises(TaImageError) as caught:
        opened(allow_unsigned=True).install(elf())
    assert caught.value.code == gp.TEE_ERROR_SECURITY


def test_what_is_signed_comes_before(folder: Path, opened: Open) -> None:
    put(folder, elf("arm"), end=".elf")
    put(folder, signed(elf("aarch64")))
    assert found(opened(allow_unsigned=True)).arch == "aarch64"
    # And what is refused is not replaced.
    put(folder, signed()[:-1])
    refused(opened(allow_unsigned=True))


def test_unsigned_has_no_version_that_counts(folder: Path, opened: Open) -> None:
    put(folder, signed(version=5))
    found(opened())
    put(folder, elf())
    found(opened(allow_unsigned=True))
    put(folder, signed(version=4))
    assert refused(opened(allow_unsigned=True)).code == gp.TEE_ERROR_ACCESS_CONFLICT


def test_unsigned_and_not_named_by_a_uuid(folder: Path, opened: Open) -> None:
    (folder / "some.ta").write_bytes(elf())
    (folder / "some.elf").write_bytes(elf())
    store = opened(allow_unsigned=True)
    assert store.all() == []
    (problem,) = store.problems()
    assert "must be called by its UUID" in problem


def test_unsigned_and_no_ta(folder: Path, opened: Open) -> None:
    put(folder, b"\x7fELF" + bytes(100))
    assert refused(opened(allow_unsigned=True)).code == gp.TEE_ERROR_BAD_FORMAT
    put(folder, elf() + bytes(17 << 20))
    assert refused(opened(allow_unsigned=True)).code == gp.TEE_ERROR_OUT_OF_MEMORY


# How much is read


def test_only_what_is_looked_for_is_verified(folder: Path, opened: Open) -> None:
    """A folder may have hundreds of TAs; a session needs one."""
    others = [parse_uuid(signing.uuid_of(number)) for number in range(5)]
    for uuid in others:
        put(folder, b"no image at all", uuid)
    put(folder, signed())
    store = opened()
    found(store)
    assert store._problems == {}
    assert len(store._files) == 1
    for uuid in others:
        refused(store, uuid)
    assert len(store.problems()) == 5


def test_order_holds_where_little_is_read(tmp_path: Path) -> None:
    """What waits in an earlier folder is not passed over for what a later one has."""
    first, second = tmp_path / "1", tmp_path / "2"
    for each in (first, second):
        each.mkdir()
    other = parse_uuid(signing.uuid_of(1))
    put(first, signed()[:-1])
    put(first, signed(uuid=other), other)
    (second / "service.py").write_text(signing.source())
    store = TaStore([str(first), str(second)], keys=signing.accepted(tmp_path))
    found(store, other)
    assert store.known(UUID_BYTES) is None
    refused(store)
    put(first, signed(version=3))
    found(store, other)
    assert found(store).is_elf


def test_prepared(folder: Path, opened: Open, tmp_path: Path) -> None:
    """Where images are, what verifies them is loaded before the first session."""
    assert opened().is_prepared
    put(folder, signed())
    store = opened()
    before = store.is_prepared
    store.prepare()
    assert (before, store.is_prepared) == (False, True)
    # A key that is none is told to whoever opens a session, not here.
    (tmp_path / "no.pem").write_text("-----BEGIN nothing")
    store = opened(AcceptedKeys([str(tmp_path / "no.pem")]))
    store.prepare()
    refused(store)
