# SPDX-License-Identifier: BSD-2-Clause
"""gentee.core.login against Python's own UUIDv5, with the names that Linux forms."""

import errno
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import linux_tee as tee
from gentee.core.login import (
    NIL_UUID,
    TEE_CLIENT_UUID_NS,
    Credentials,
    tee_session_calc_client_uuid,
    uuid_v5,
)

NAMESPACE = uuid.UUID("58ac9ca0-2086-4683-a1b8-ec4bc08e01b6")  # tee_core.c
NO_DATA = bytes(16)


class Caller(Credentials):
    def __init__(self, uid: int = 1000, gids: tuple[int, ...] = (), exe: str = "/bin/ca") -> None:
        self._uid = uid
        self._gids = gids
        self._exe = exe

    def euid(self) -> int:
        return self._uid

    def in_egroup(self, gid: int) -> bool:
        return gid in self._gids

    def exe(self) -> str:
        return self._exe


def group(gid: int) -> bytes:
    return gid.to_bytes(4, "little") + bytes(12)


def expected(name: str) -> bytes:
    return uuid.uuid5(NAMESPACE, name).bytes


def test_name_space() -> None:
    assert NAMESPACE.bytes == TEE_CLIENT_UUID_NS


@given(st.uuids(), st.text(st.characters(exclude_categories=["Cs"])))
def test_uuid_v5(namespace: uuid.UUID, name: str) -> None:
    assert uuid_v5(namespace.bytes, name.encode()) == uuid.uuid5(namespace, name).bytes


@pytest.mark.parametrize("login", [tee.TEE_IOCTL_LOGIN_PUBLIC, tee.TEE_IOCTL_LOGIN_REE_KERNEL])
def test_nobody_in_particular(login: int) -> None:
    # Whatever the client writes beside it.
    assert tee_session_calc_client_uuid(login, b"\xff" * 16, Caller()) == NIL_UUID == bytes(16)


@pytest.mark.parametrize(
    ("uid", "name"),
    [(0, "uid=0"), (1000, "uid=3e8"), (0xABCDEF, "uid=abcdef"), (2**32 - 2, "uid=fffffffe")],
)
def test_user(uid: int, name: str) -> None:
    found = tee_session_calc_client_uuid(tee.TEE_IOCTL_LOGIN_USER, NO_DATA, Caller(uid))
    assert found == expected(name)


def test_root_by_its_number() -> None:
    # Python's uuid5() is not asked here: sha1sum(1) over the name space's 16 bytes and "uid=0".
    found = tee_session_calc_client_uuid(tee.TEE_IOCTL_LOGIN_USER, NO_DATA, Caller(0))
    assert str(uuid.UUID(bytes=found)) == "ef0180a3-13f3-5d1c-b7f5-888c0e21059a"


@pytest.mark.parametrize(("gid", "name"), [(0, "gid=0"), (1000, "gid=3e8"), (65534, "gid=fffe")])
def test_group(gid: int, name: str) -> None:
    caller = Caller(gids=(gid, 77))
    found = tee_session_calc_client_uuid(tee.TEE_IOCTL_LOGIN_GROUP, group(gid), caller)
    assert found == expected(name)


def test_only_the_first_four_bytes_are_the_group() -> None:
    data = (5).to_bytes(4, "little") + b"\xee" * 12
    found = tee_session_calc_client_uuid(tee.TEE_IOCTL_LOGIN_GROUP, data, Caller(gids=(5,)))
    assert found == expected("gid=5")


@pytest.mark.parametrize("gid", [6, 0, 0xFFFF_FFFF])
@pytest.mark.parametrize(
    "login", [tee.TEE_IOCTL_LOGIN_GROUP, tee.TEE_IOCTL_LOGIN_GROUP_APPLICATION]
)
def test_groups_of_others(login: int, gid: int) -> None:
    # (gid_t)-1 is nobody's, whatever the list of groups says.
    caller = Caller(gids=(5, 0xFFFF_FFFF))
    with pytest.raises(OSError) as caught:
        tee_session_calc_client_uuid(login, group(gid), caller)
    assert caught.value.errno == errno.EPERM


@pytest.mark.parametrize(
    ("login", "name"),
    [
        (tee.TEE_IOCTL_LOGIN_APPLICATION, "app=/usr/bin/über"),
        (tee.TEE_IOCTL_LOGIN_USER_APPLICATION, "uid=3e8:app=/usr/bin/über"),
        (tee.TEE_IOCTL_LOGIN_GROUP_APPLICATION, "gid=5:app=/usr/bin/über"),
    ],
)
def test_applications(login: int, name: str) -> None:
    caller = Caller(1000, (5,), "/usr/bin/über")
    assert tee_session_calc_client_uuid(login, group(5), caller) == expected(name)


def test_a_path_that_is_no_text() -> None:
    path = b"/bin/\xff\xfe"
    caller = Caller(exe=path.decode("utf-8", "surrogateescape"))
    found = tee_session_calc_client_uuid(tee.TEE_IOCTL_LOGIN_APPLICATION, NO_DATA, caller)
    assert found == uuid_v5(TEE_CLIENT_UUID_NS, b"app=" + path)


@pytest.mark.parametrize("login", [3, 7, 0x7FFF_FFFF, 0x8000_0001, 0xBFFF_FFFF, 0xFFFF_FFFF])
def test_unknown_logins(login: int) -> None:
    with pytest.raises(OSError) as caught:
        tee_session_calc_client_uuid(login, NO_DATA, Caller())
    assert caught.value.errno == errno.EINVAL


def test_identities_differ() -> None:
    caller = Caller(5, (5,))
    logins = (1, 2, 4, 5, 6)
    assert len({tee_session_calc_client_uuid(login, group(5), caller) for login in logins}) == 5
