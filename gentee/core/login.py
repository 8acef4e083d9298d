# SPDX-License-Identifier: BSD-2-Clause
"""Login identities: tee_session_calc_client_uuid() of tee_core.c, and the three it leaves out.

The identity of a client is a UUIDv5 (RFC 9562) over a name in the TEE client name space:

=================  ==========================  ==================================
login              name                        as in
=================  ==========================  ==================================
PUBLIC             nil UUID                    Linux
USER               ``uid=<euid in hex>``       Linux
GROUP              ``gid=<gid in hex>``        Linux; EPERM unless a member
APPLICATION        ``app=<path>``              gentee (Linux: EINVAL)
USER_APPLICATION   ``uid=<euid>:app=<path>``   gentee (Linux: EINVAL)
GROUP_APPLICATION  ``gid=<gid>:app=<path>``    gentee (Linux: EINVAL)
=================  ==========================  ==================================

``path`` is that of the program's file as the kernel knows it. It is stable over updates of the
program and as trustworthy as the folders of the machine are; for a script it is the interpreter's.
"""

import errno
from abc import ABC, abstractmethod

from gentee.abi.linux_tee import (
    TEE_IOCTL_LOGIN_APPLICATION,
    TEE_IOCTL_LOGIN_GROUP,
    TEE_IOCTL_LOGIN_GROUP_APPLICATION,
    TEE_IOCTL_LOGIN_PUBLIC,
    TEE_IOCTL_LOGIN_REE_KERNEL,
    TEE_IOCTL_LOGIN_USER,
    TEE_IOCTL_LOGIN_USER_APPLICATION,
)

TEE_CLIENT_UUID_NS = bytes.fromhex("58ac9ca020864683a1b8ec4bc08e01b6")
NIL_UUID = bytes(16)


class Credentials(ABC):
    """Who calls, as the door that the call came through knows it."""

    @abstractmethod
    def euid(self) -> int:
        """The effective user id."""

    @abstractmethod
    def in_egroup(self, gid: int) -> bool:
        """Whether ``gid`` is the effective group or a supplementary one."""

    @abstractmethod
    def exe(self) -> str:
        """The path of the program."""


def uuid_v5(namespace: bytes, name: bytes) -> bytes:
    """The 16 bytes of a name-based UUID, RFC 9562 section 5.5."""
    # Imported here: most clients log in as PUBLIC, and it brings all of OpenSSL along.
    import hashlib

    digest = bytearray(hashlib.sha1(namespace + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def tee_session_calc_client_uuid(
    connection_method: int, connection_data: bytes, credentials: Credentials
) -> bytes:
    """The 16 bytes of the client's identity for a login.

    :param connection_data: 16 bytes; for the group logins the first four are the gid, host order.
    :raises OSError: EPERM for a group that the client is not in, EINVAL for an unknown login.
    """
    if connection_method in (TEE_IOCTL_LOGIN_PUBLIC, TEE_IOCTL_LOGIN_REE_KERNEL):
        return NIL_UUID
    names: list[str] = []
    if connection_method in (TEE_IOCTL_LOGIN_USER, TEE_IOCTL_LOGIN_USER_APPLICATION):
        names.append(f"uid={credentials.euid():x}")
    elif connection_method in (TEE_IOCTL_LOGIN_GROUP, TEE_IOCTL_LOGIN_GROUP_APPLICATION):
        gid = int.from_bytes(connection_data[:4], "little")
        # (gid_t)-1 is no group: gid_valid() of the kernel.
        if gid == 0xFFFF_FFFF or not credentials.in_egroup(gid):
            raise OSError(errno.EPERM, "not a member of the group")
        names.append(f"gid={gid:x}")
    elif connection_method != TEE_IOCTL_LOGIN_APPLICATION:
        raise OSError(errno.EINVAL, "login method")
    if connection_method in (
        TEE_IOCTL_LOGIN_APPLICATION,
        TEE_IOCTL_LOGIN_USER_APPLICATION,
        TEE_IOCTL_LOGIN_GROUP_APPLICATION,
    ):
        names.append(f"app={credentials.exe()}")
    return uuid_v5(TEE_CLIENT_UUID_NS, ":".join(names).encode("utf-8", "surrogateescape"))
