# SPDX-License-Identifier: BSD-2-Clause
"""Types of the TEE Internal Core API 1.3.1 section 4.2 and 7.1.2 in Python form."""

from typing import NamedTuple
from uuid import UUID

from gentee.abi.gp import TEE_ERROR_BAD_PARAMETERS, login_name
from gentee.errors import TaPanic

UuidLike = UUID | str | bytes


class TEE_Identity(NamedTuple):
    """Who a client is: TEE_LOGIN_* and what goes with it (section 4.2.2)."""

    login: int
    uuid: UUID

    def __str__(self) -> str:
        return f"{login_name(self.login)} {self.uuid}"


class TEE_Time(NamedTuple):
    """A time (section 7.1.2)."""

    seconds: int
    millis: int = 0


def uuid_bytes(uuid: UuidLike) -> bytes:
    """The 16 bytes of a UUID as GlobalPlatform orders them; a panic for what is none."""
    if isinstance(uuid, bytes) and len(uuid) == 16:
        return uuid
    if isinstance(uuid, UUID):
        return uuid.bytes
    if isinstance(uuid, str):
        try:
            return UUID(uuid).bytes
        except ValueError:
            pass
    raise TaPanic(TEE_ERROR_BAD_PARAMETERS, f"no UUID: {uuid!r}")
