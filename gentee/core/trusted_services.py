# SPDX-License-Identifier: BSD-2-Clause
"""Trusted services as things to load and to list: TEE_IOC_LOAD_TS and TEE_IOC_GET_TS_LIST.

To verify an image and to look at folders takes time, so drivers' operations for them are called in
threads of their own.
"""

from collections.abc import Callable

from gentee.abi.gentee_tee import (
    TEE_TS_API_SIZE,
    TEE_TS_INFO,
    TEE_TS_MAX_APIS,
    TEE_TS_NAME_SIZE,
    TEE_TS_STATE_READY,
)
from gentee.core.calls import CallArg, Done
from gentee.core.context import TeeContext
from gentee.core.driver import OpResult, TeeDriverOps
from gentee.core.workers import WORKERS, Workers

# An image may have 16 MiB, and is here while it is verified: few at a time.
_LOADERS = Workers(4)

_U32 = 0xFFFF_FFFF


class TsInfo:
    """A trusted service (struct tee_ts_info).

    :param uuid: 16 bytes in the order of RFC 9562.
    :param state: TEE_TS_STATE_*.
    :param instances: how many of it are alive; ``sessions``: how many of it are open.
    :param apis: names of the APIs that it offers, such as ``GP_TEEv1.3``.
    :param flags: TEE_TS_INSTALLED.
    """

    __slots__ = ("apis", "flags", "instances", "name", "sessions", "state", "uuid", "version")

    def __init__(
        self,
        uuid: bytes,
        name: str = "",
        version: int = 0,
        state: int = TEE_TS_STATE_READY,
        instances: int = 0,
        sessions: int = 0,
        apis: tuple[str, ...] = (),
        flags: int = 0,
    ) -> None:
        self.uuid = uuid
        self.name = name
        self.version = version
        self.state = state
        self.instances = instances
        self.sessions = sessions
        self.apis = apis
        self.flags = flags

    def pack(self) -> bytes:
        """struct tee_ts_info."""
        apis = [cut(api, TEE_TS_API_SIZE) for api in self.apis[:TEE_TS_MAX_APIS]]
        return TEE_TS_INFO.pack(
            self.uuid,
            self.version & _U32,
            self.state,
            self.instances,
            self.sessions,
            self.flags,
            len(self.apis),
            cut(self.name, TEE_TS_NAME_SIZE),
            b"".join(api.ljust(TEE_TS_API_SIZE, b"\0") for api in apis),
        )

    def __repr__(self) -> str:
        return f"TsInfo({self.uuid.hex()}, {self.name!r}, {self.version}, {self.apis})"


def cut(text: str, size: int) -> bytes:
    """``text`` as it fits into ``size`` bytes of UTF-8 with a 0 behind it, whole characters only.

    A 0 in the text would end it, so it ends there.
    """
    octets = text.partition("\0")[0].encode("utf-8", "replace")[: size - 1]
    return octets.decode("utf-8", "ignore").encode()


class LoadTsArg(CallArg):
    """struct tee_ioctl_load_ts_data. ``uuid`` and ``version`` are the driver's to set.

    :param fetch: brings the image, in the thread that loads it; OSError where it is not there.
    """

    __slots__ = ("_fetch", "image", "uuid", "version")

    def __init__(self, ctx: TeeContext, fetch: Callable[[], bytes], done: Done) -> None:
        super().__init__(ctx, 0, 0, [], done)
        self._fetch = fetch
        self.image = b""
        self.uuid = bytes(16)
        self.version = 0

    def load(self) -> OpResult:
        """Fetch the image, once, and have the driver install it."""
        self.image = self._fetch()
        return self.ctx.teedev.ops.load_ts(self.ctx, self)

    def complete(self) -> None:
        self.image = b""
        super().complete()


class GetTsListArg(CallArg):
    """struct tee_ioctl_get_ts_list_data. ``services`` is the answer.

    :param name: only services of this name; all if it is empty. As bytes, cut as an entry's are.
    :param api: only services that offer this API; all if it is empty.
    """

    __slots__ = ("api", "name", "services")

    def __init__(self, ctx: TeeContext, name: bytes, api: bytes, done: Done) -> None:
        super().__init__(ctx, 0, 0, [], done)
        self.name = name
        self.api = api
        self.services: list[TsInfo] = []

    def list(self) -> OpResult:
        """Ask the driver, and keep those that are wanted."""
        name, api = self.name, self.api
        self.services = [
            info
            for info in self.ctx.teedev.ops.get_ts_list(self.ctx)
            if (not name or cut(info.name, TEE_TS_NAME_SIZE) == name)
            and (not api or any(cut(one, TEE_TS_API_SIZE) == api for one in info.apis))
        ]
        return None


def load_ts(ops: TeeDriverOps, arg: LoadTsArg) -> None:
    """TEE_IOC_LOAD_TS after all checks of the client's bytes."""
    arg.run_in(_LOADERS, arg.load)


def get_ts_list(ops: TeeDriverOps, arg: GetTsListArg) -> None:
    """TEE_IOC_GET_TS_LIST after all checks of the client's bytes."""
    arg.run_in(WORKERS, arg.list)
