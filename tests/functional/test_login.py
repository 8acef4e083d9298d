# SPDX-License-Identifier: BSD-2-Clause
"""Logins: the identity that a service sees is Linux's, and where Linux has none, a stable one."""

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

import pytest

from gentee.abi.linux_tee import (
    TEE_IOCTL_LOGIN_APPLICATION,
    TEE_IOCTL_LOGIN_GROUP,
    TEE_IOCTL_LOGIN_GROUP_APPLICATION,
    TEE_IOCTL_LOGIN_PUBLIC,
    TEE_IOCTL_LOGIN_REE_KERNEL_MAX,
    TEE_IOCTL_LOGIN_REE_KERNEL_MIN,
    TEE_IOCTL_LOGIN_USER,
    TEE_IOCTL_LOGIN_USER_APPLICATION,
)

if TYPE_CHECKING:
    from tests.functional.conftest import CompileClient, GenteeRun

# tee_client_uuid_ns of drivers/tee/tee_core.c.
NAMESPACE = UUID("58ac9ca0-2086-4683-a1b8-ec4bc08e01b6")
FOREIGN_GID = 54321

USER, GROUP = TEE_IOCTL_LOGIN_USER, TEE_IOCTL_LOGIN_GROUP
APPLICATION = TEE_IOCTL_LOGIN_APPLICATION
USER_APPLICATION = TEE_IOCTL_LOGIN_USER_APPLICATION
GROUP_APPLICATION = TEE_IOCTL_LOGIN_GROUP_APPLICATION

Login = int | tuple[int, int]  # the method, and the gid for a group
Identities = Callable[..., list[UUID | int]]


@pytest.fixture
def identities(gentee_run: "GenteeRun", compile_client: "CompileClient", way: str) -> Identities:
    """Log in and return what each login became: an identity, or the errno of the ioctl."""

    def log_in(
        logins: Sequence[Login],
        *,
        before: Sequence[str] = (),
        options: Sequence[str] = (),
        program: Path | None = None,
    ) -> list[UUID | int]:
        words = [f"{n[0]}:{n[1]}" if isinstance(n, tuple) else str(n) for n in logins]
        argv: list[str | Path] = [*before, program or compile_client("login.c"), *options, *words]
        finished = gentee_run(argv, options=["--driver", "loopback"], way=way)
        assert finished.returncode == 0, finished.stderr
        answers: list[UUID | int] = []
        for word, line in zip(words, finished.stdout.splitlines(), strict=True):
            login, *answer = line.split()
            assert login == word
            answers.append(int(answer[1]) if answer[0] == "errno" else UUID(answer[0]))
        return answers

    return log_in


def identity(name: str) -> UUID:
    return uuid5(NAMESPACE, name)


def test_public_has_no_identity(identities: Identities) -> None:
    assert identities([TEE_IOCTL_LOGIN_PUBLIC]) == [UUID(int=0)]


def test_user_is_the_effective_user_in_hexadecimal(identities: Identities) -> None:
    assert identities([USER]) == [identity(f"uid={os.geteuid():x}")]


def test_group_needs_membership(identities: Identities) -> None:
    assert FOREIGN_GID not in os.getgroups()
    gid = os.getegid()
    answers = identities([(GROUP, gid), (GROUP, FOREIGN_GID), (GROUP, 0xFFFF_FFFF)])
    assert answers == [identity(f"gid={gid:x}"), errno.EPERM, errno.EPERM]


def test_logins_of_the_kernel_are_not_for_users(identities: Identities) -> None:
    first, last = TEE_IOCTL_LOGIN_REE_KERNEL_MIN, TEE_IOCTL_LOGIN_REE_KERNEL_MAX
    assert identities([first, first + 1, last]) == [errno.EPERM] * 3
    assert identities([first - 1, last + 1]) == [errno.EINVAL] * 2


def test_unknown_logins_are_refused(identities: Identities) -> None:
    assert identities([3, 7, 0xFFFF_FFFF]) == [errno.EINVAL] * 3


def test_application_logins_name_the_program(
    identities: Identities,
    compile_client: "CompileClient",
) -> None:
    uid, gid, app = os.geteuid(), os.getegid(), compile_client("login.c").resolve()
    logins = [
        APPLICATION,
        USER_APPLICATION,
        (GROUP_APPLICATION, gid),
        (GROUP_APPLICATION, FOREIGN_GID),
    ]
    assert identities(logins) == [
        identity(f"app={app}"),
        identity(f"uid={uid:x}:app={app}"),
        identity(f"gid={gid:x}:app={app}"),
        errno.EPERM,
    ]


def test_application_logins_are_the_same_in_each_run(identities: Identities) -> None:
    logins = [APPLICATION, USER_APPLICATION]
    assert identities(logins) == identities(logins)


def test_another_program_is_another_application(
    identities: Identities,
    compile_client: "CompileClient",
    tmp_path: Path,
) -> None:
    copy = tmp_path / "copy"
    shutil.copy(compile_client("login.c"), copy)
    linked = tmp_path / "linked"
    linked.symlink_to(compile_client("login.c"))
    original = identities([APPLICATION])
    assert identities([APPLICATION], program=copy) == [identity(f"app={copy}")] != original
    # A symbolic link is not another program.
    assert identities([APPLICATION], program=linked) == original


@pytest.mark.root
class TestAsRoot:
    @pytest.fixture(autouse=True)
    def _root(self) -> None:
        if os.geteuid():
            pytest.skip("only root can become somebody else")

    def test_the_effective_ids_count(self, identities: Identities) -> None:
        answers = identities([USER, (GROUP, 4242), (GROUP, 0)], options=["-g", "4242", "-e", "255"])
        assert answers[:2] == [identity("uid=ff"), identity("gid=1092")]

    def test_supplementary_groups_count(self, identities: Identities) -> None:
        before = ["setpriv", "--groups", "77,4242"]
        answers = identities([(GROUP, 77), (GROUP, 4242), (GROUP, 78)], before=before)
        assert answers == [identity("gid=4d"), identity("gid=1092"), errno.EPERM]

    def test_a_program_of_another_user(self, identities: Identities) -> None:
        before = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
        answers = identities([USER, (GROUP, 12345), (GROUP, 0)], before=before)
        assert answers == [identity("uid=3039"), identity("gid=3039"), errno.EPERM]
