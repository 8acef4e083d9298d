# SPDX-License-Identifier: BSD-2-Clause
"""Trusted services as a TEE lists them (<gentee/tee.h>, struct tee_ts_info)."""

from typing import TYPE_CHECKING

from gentee.abi.gentee_tee import (
    TEE_TS_API_SIZE,
    TEE_TS_INFO,
    TEE_TS_INSTALLED,
    TEE_TS_MAX_APIS,
    TEE_TS_STATE_ACTIVE,
    TEE_TS_STATE_BUSY,
    TEE_TS_STATE_READY,
)

if TYPE_CHECKING:
    pass

_STATES = {
    TEE_TS_STATE_READY: "ready",
    TEE_TS_STATE_ACTIVE: "active",
    TEE_TS_STATE_BUSY: "busy",
}


class ServiceInfo:
    """A trusted service that a TEE has.

    ``uuid``, ``name``, ``version``; ``state`` is TEE_TS_STATE_*; ``instances`` are alive,
    ``sessions`` are open; ``installed`` says that it came as a signed image; ``apis`` names the
    APIs that it offers, such as ``GP_TEEv1.3``.
    """

    __slots__ = (
        "apis", "installed", "instances", "name", "sessions", "state", "uuid", "version",
    )  # fmt: skip

    def __init__(self, entry: bytes) -> None:
        from uuid import UUID

        fields = TEE_TS_INFO.unpack_from(entry)
        octets, self.version, self.state, self.instances, self.sessions = fields[:5]
        flags, num_apis, name, apis = fields[5:]
        self.uuid: UUID = UUID(bytes=octets)
        self.name: str = _text(name)
        self.installed = bool(flags & TEE_TS_INSTALLED)
        self.apis: tuple[str, ...] = tuple(
            _text(apis[TEE_TS_API_SIZE * at : TEE_TS_API_SIZE * (at + 1)])
            for at in range(min(num_apis, TEE_TS_MAX_APIS))
        )

    def __repr__(self) -> str:
        state = _STATES.get(self.state, str(self.state))
        return f"<ServiceInfo {self.uuid} {self.name!r}, version {self.version}, {state}>"


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")
