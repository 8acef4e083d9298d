# SPDX-License-Identifier: BSD-2-Clause
"""Signed services in a software TEE: load, list, unload, versions, and what a restart finds."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gentee.abi import gp
from gentee.abi.gentee_tee import (
    TEE_TS_INSTALLED,
    TEE_TS_STATE_ACTIVE,
    TEE_TS_STATE_BUSY,
    TEE_TS_STATE_READY,
)
from gentee.client import Session, Value
from gentee.errors import AccessConflict, ItemNotFound, SecurityError, TeeError, UserError
from gentee.secure import images
from gentee.secure.service import format_uuid, parse_uuid
from gentee.secure.state import FILE
from gentee.secure.store import TaStore
from gentee.secure.tee import SoftTee
from tests import signing
from tests.functional.test_services import Tee
from tests.helpers import ServiceHost, wait_until
from tests.signing import UUID, UUID_BYTES, signed, source

Start = Callable[..., Tee]


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the services of a test's TEEs are."""
    folder = tmp_path / "services"
    folder.mkdir()
    return folder


@pytest.fixture
def start(host: ServiceHost, tmp_path: Path, folder: Path) -> Iterator[Start]:
    """``start()``: a TEE with the test's key, folder and state; again after its end."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    running: list[Tee] = []

    def start(**options: Any) -> Tee:
        given = {"state": str(state), "keys": [signing.key_file(tmp_path)], "strict": True}
        tee = Tee(host, folder, **{**given, **options})
        running.append(tee)
        return tee

    yield start
    for tee in running:
        tee.close()
    assert not host.bugs


def soft(tee: Tee) -> SoftTee:
    (found,) = tee.driver._tees
    return found


def number(session: Session) -> int:
    """What the service's code is: the number that it answers with."""
    value = Value()
    session.invoke(0, value)
    return value.a


def listed(tee: Tee) -> list[tuple[str, int, int, int, int, int]]:
    return sorted(
        (info.name, info.version, info.state, info.instances, info.sessions, info.flags)
        for info in soft(tee).list_ts()
    )


# Loaded, used, replaced


def test_load_and_use(start: Start) -> None:
    tee = start()
    with pytest.raises(ItemNotFound):
        tee.open(UUID)
    service = soft(tee).load_ts(signed(source(version=3)))
    assert (service.uuid, service.version, service.installed) == (UUID_BYTES, 3, True)
    assert listed(tee) == [("signed", 3, TEE_TS_STATE_READY, 0, 0, TEE_TS_INSTALLED)]
    session = tee.open(UUID)
    assert number(session) == 3
    assert listed(tee) == [("signed", 3, TEE_TS_STATE_ACTIVE, 1, 1, TEE_TS_INSTALLED)]


def test_the_next_open_takes_the_new_version(start: Start) -> None:
    tee = start()
    soft(tee).load_ts(signed(source(version=1)))
    old = tee.open(UUID)
    soft(tee).load_ts(signed(source(version=2)))
    new = tee.open(UUID)
    assert (number(old), number(new), number(old)) == (1, 2, 1)
    # Of one version another build: the last one that was loaded.
    soft(tee).load_ts(signed(source(version=2, number=22)))
    assert number(tee.open(UUID)) == 22
    assert (number(old), number(new)) == (1, 2)


def test_a_lower_version_is_refused(start: Start) -> None:
    tee = start()
    soft(tee).load_ts(signed(source(version=5)))
    for version in (4, 0):
        with pytest.raises(AccessConflict):
            soft(tee).load_ts(signed(source(version=version)))
    assert number(tee.open(UUID)) == 5
    soft(tee).unload_ts(UUID_BYTES)
    with pytest.raises(AccessConflict):
        soft(tee).load_ts(signed(source(version=4)))
    tee.close()
    again = start()
    with pytest.raises(AccessConflict):
        soft(again).load_ts(signed(source(version=4)))
    soft(again).load_ts(signed(source(version=5)))
    assert number(again.open(UUID)) == 5
    assert "lower than 5" in again.warnings[0]


def test_the_headers_version_counts(start: Start) -> None:
    tee = start()
    soft(tee).load_ts(signed(source(version=1), 7))
    assert listed(tee)[0][1] == 7
    with pytest.raises(AccessConflict):
        soft(tee).load_ts(signed(source(version=9), 6))


def test_unload(start: Start) -> None:
    tee = start()
    with pytest.raises(ItemNotFound):
        soft(tee).unload_ts(UUID_BYTES)
    soft(tee).load_ts(signed(source()))
    session = tee.open(UUID)
    soft(tee).unload_ts(UUID_BYTES)
    assert listed(tee) == []
    assert number(session) == 1  # it runs on
    with pytest.raises(ItemNotFound):
        tee.open(UUID)
    with pytest.raises(ItemNotFound):
        soft(tee).unload_ts(UUID_BYTES)
    soft(tee).load_ts(signed(source(number=8)))
    assert number(tee.open(UUID)) == 8


def test_a_restart(start: Start) -> None:
    tee = start()
    soft(tee).load_ts(signed(source(version=4)))
    other = signing.uuid_of(2)
    soft(tee).load_ts(signed(source(other, name="other", flags="single_instance = True")))
    tee.close()
    again = start()
    assert [info[0] for info in listed(again)] == ["other", "signed"]
    assert number(again.open(UUID)) == 4
    kept = again.open(other)
    assert number(kept) == 1
    assert listed(again)[0] == ("other", 1, TEE_TS_STATE_BUSY, 1, 1, TEE_TS_INSTALLED)


def test_without_a_state_folder_it_is_forgotten(start: Start) -> None:
    tee = start(state=None)
    soft(tee).load_ts(signed(source()))
    assert number(tee.open(UUID)) == 1
    tee.close()
    assert listed(start(state=None)) == []


# Single instances


def test_a_single_instance_takes_sessions_until_its_end(start: Start) -> None:
    """OP-TEE looks for a running instance first, whatever the file has become."""
    flags = "single_instance = True; multi_session = True"
    tee = start()
    soft(tee).load_ts(signed(source(version=1, flags=flags)))
    one = tee.open(UUID)
    soft(tee).load_ts(signed(source(version=2, flags=flags)))
    two = tee.open(UUID)
    assert (number(one), number(two)) == (1, 1)
    one.close()
    two.close()
    assert number(tee.open(UUID)) == 2


def test_an_instance_that_is_kept_makes_room(start: Start) -> None:
    flags = "single_instance = True; keep_alive = True"
    tee = start()
    soft(tee).load_ts(signed(source(version=1, flags=flags)))
    one = tee.open(UUID)
    soft(tee).load_ts(signed(source(version=2, flags=flags)))
    assert number(one) == 1
    one.close()
    assert tee.instances() == 1
    two = tee.open(UUID)
    assert number(two) == 2
    wait_until(lambda: tee.instances() == 1)
    two.close()
    soft(tee).unload_ts(UUID_BYTES)
    wait_until(lambda: tee.instances() == 0)


# Refused


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (lambda: b"", gp.TEE_ERROR_SECURITY),
        (lambda: source().encode(), gp.TEE_ERROR_SECURITY),
        (lambda: signing.packed(source()), gp.TEE_ERROR_SECURITY),
        (lambda: signed(source())[:-1], gp.TEE_ERROR_SECURITY),
        (lambda: signed(source()) + b"\0", gp.TEE_ERROR_SECURITY),
        (lambda: signed(source(), private=signing.key(2048, 1)), gp.TEE_ERROR_SECURITY),
        (lambda: images.sign(b"x", signing.key(), UUID_BYTES, 1), gp.TEE_ERROR_BAD_FORMAT),
        (
            lambda: images.sign(signing.packed(source()), signing.key(), bytes(16), 1),
            gp.TEE_ERROR_SECURITY,
        ),
    ],
    ids=range(8),
)
def test_refused(image: Callable[[], bytes], code: int, start: Start, tmp_path: Path) -> None:
    tee = start()
    with pytest.raises(TeeError) as caught:
        soft(tee).load_ts(image())
    assert caught.value.code == code
    assert tee.warnings[-1].startswith("image refused: ")
    assert listed(tee) == []
    assert not (tmp_path / "state" / FILE).exists()
    soft(tee).load_ts(signed(source(version=0)))  # and no version was noted


def test_what_keys_decide_again_at_the_next_start(start: Start, tmp_path: Path) -> None:
    tee = start()
    soft(tee).load_ts(signed(source()))
    tee.close()
    other = tmp_path / "other.pem"
    other.write_bytes(signing.public_pem(signing.key(2048, 1)))
    again = start(keys=[str(other)])
    assert [info[0] for info in listed(again)] == ["signed"]
    with pytest.raises(SecurityError):
        again.open(UUID)


def test_a_state_that_cannot_be_used(start: Start, tmp_path: Path) -> None:
    (tmp_path / "state" / FILE).write_bytes(b"x" * 500)
    (tmp_path / "state" / FILE).chmod(0o600)
    with pytest.raises(UserError, match="not a TEE's state"):
        start()
    (tmp_path / "state" / FILE).unlink()
    with pytest.raises(UserError, match="not a PEM file"):
        start(keys=["/etc/hostname"])


# In folders


def put(folder: Path, image: bytes, name: str = f"{UUID}.ta") -> Path:
    """A file whose change is seen, however coarse the clock is."""
    path = folder / name
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_bytes(image)
    later = max(before, path.stat().st_mtime_ns) + 1_000_000
    for each in (path, folder):
        os.utime(each, ns=(later, later))
    return path


def test_an_image_in_a_folder(start: Start, folder: Path) -> None:
    tee = start()
    path = put(folder, signed(source(version=2)))
    assert number(tee.open(UUID)) == 2
    assert listed(tee) == [("signed", 2, TEE_TS_STATE_ACTIVE, 1, 1, 0)]
    put(folder, signed(source(version=3)))
    assert number(tee.open(UUID)) == 3
    put(folder, signed(source(version=2)))
    with pytest.raises(AccessConflict):
        tee.open(UUID)
    put(folder, signed(source(version=3, number=33)))
    assert number(tee.open(UUID)) == 33
    path.unlink()
    with pytest.raises(ItemNotFound):
        tee.open(UUID)
    tee.close()
    again = start()
    put(folder, signed(source(version=2)))
    with pytest.raises(AccessConflict):
        again.open(UUID)


def test_to_look_is_not_to_use(start: Start, folder: Path) -> None:
    """A version counts when it is used: listing a folder does not raise it."""
    tee = start()
    put(folder, signed(source(version=9)))
    assert listed(tee)[0][1] == 9
    put(folder, signed(source(version=8)))
    assert number(tee.open(UUID)) == 8


def test_what_is_installed_comes_first(start: Start, folder: Path) -> None:
    tee = start()
    put(folder, signed(source(version=1)))
    assert number(tee.open(UUID)) == 1
    soft(tee).load_ts(signed(source(version=2)))
    assert number(tee.open(UUID)) == 2
    put(folder, signed(source(version=3)))
    assert number(tee.open(UUID)) == 2
    (folder / "plain.py").write_text(source(version=4))
    assert number(tee.open(UUID)) == 2
    assert len(soft(tee).list_ts()) == 1
    soft(tee).unload_ts(UUID_BYTES)
    assert number(tee.open(UUID)) == 3  # the image: its name comes before plain.py


def test_an_image_that_is_damaged(start: Start, folder: Path) -> None:
    tee = start()
    image = bytearray(signed(source()))
    image[-1] ^= 1
    path = put(folder, bytes(image))
    put(folder, signed(source(signing.uuid_of(2), name="good")), "good.ta")
    for _ in range(2):
        with pytest.raises(SecurityError):
            tee.open(UUID)
    (line,) = [line for line in tee.warnings if "not offered" in line]
    assert str(path) in line
    assert "digest" in line
    assert number(tee.open(signing.uuid_of(2))) == 1
    put(folder, signed(source()))
    assert number(tee.open(UUID)) == 1


def test_an_image_under_anothers_name(start: Start, folder: Path) -> None:
    tee = start()
    put(folder, signed(source()), f"{signing.uuid_of(2)}.ta")
    with pytest.raises(SecurityError):
        tee.open(signing.uuid_of(2))
    with pytest.raises(ItemNotFound):
        tee.open(UUID)
    put(folder, signed(source()), "any name.ta")
    assert number(tee.open(UUID)) == 1


def test_a_later_folder_does_not_mend_it(start: Start, folder: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    (later / "service.py").write_text(source())
    tee = start(ta_dirs=[str(folder), str(later)])
    put(folder, signed(source())[:-1])
    with pytest.raises(SecurityError):
        tee.open(UUID)


def test_the_development_key_is_told(start: Start, host: ServiceHost, tmp_path: Path) -> None:
    tee = start(strict=False)
    soft(tee).load_ts(signed(source()))
    assert tee.warnings == []
    soft(tee).store.keys.all()[0].development = True  # as if it were the development key
    soft(tee).load_ts(signed(source()))
    (line,) = tee.warnings
    assert "public development key" in line
    assert "--strict" in line


# The cost of an open does not grow


def test_work_per_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an open looks at is counted, with one service installed and with a thousand."""
    store = TaStore([str(tmp_path)], keys=signing.accepted(tmp_path))
    uuids = [signing.uuid_of(number) for number in range(1000)]
    looked: list[object] = []
    plain_stat = os.stat

    def count_stat(path: Any, **options: Any) -> os.stat_result:
        looked.append(path)
        return plain_stat(path, **options)

    def opens(uuids: list[str]) -> int:
        """Find each; how many files were looked at."""
        looked.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", count_stat)
            patch.setattr(store, "_scan", lambda **_: pytest.fail("folders were read"))
            patch.setattr(store.state, "_run", lambda *_, **__: pytest.fail("the state was read"))
            for uuid in uuids:
                found = store.known(parse_uuid(uuid))
                assert found is not None
                assert format_uuid(found.uuid) == uuid
        return len(looked)

    store.install(signed(source(uuids[0])))
    with_one = opens(uuids[:1])
    for uuid in uuids[1:]:
        store.install(signed(source(uuid)))
    assert opens(uuids) == with_one * len(uuids)
    store.close()
