# SPDX-License-Identifier: BSD-2-Clause
"""API provided by a door to the TEE Client API: what a client needs of a TEE.

A door is one open context of one TEE, in the terms of <linux/tee.h>. Its methods carry the names of
the ioctls, raise ``OSError`` as those fail, and may be called from several threads at once.
"""

import errno
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from gentee.abi.gp import TEEC_CONFIG_PAYLOAD_REF_COUNT, TEEC_ORIGIN_COMMS
from gentee.abi.linux_tee import (
    TEE_GEN_CAP_GP,
    TEE_GEN_CAP_PRIVILEGED,
    TEE_IMPL_ID_OPTEE,
    TEE_OPTEE_CAP_TZ,
)
from gentee.errors import BadParameters, GenericError, OutOfMemory, TeeError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

# A call always has four parameters; attr, a, b and c of each stand one after the other.
PARAM_WORDS = 4
NUM_WORDS = PARAM_WORDS * TEEC_CONFIG_PAYLOAD_REF_COUNT

Version = tuple[int, int, int]  # impl_id, impl_caps, gen_caps


class DoorMemory(ABC):
    """Memory that a TEE knows by ``id``. ``view`` is its bytes, at least as many as were asked."""

    id: int
    view: memoryview

    @abstractmethod
    def release(self) -> None:
        """The TEE forgets it. Twice is once."""

    def free(self) -> None:
        """TEE_IOC_SHM_FREE: the TEE forgets it, ``view`` stays until :meth:`release`."""
        raise OSError(errno.EINVAL, "this memory cannot be freed")


class Door(ABC):
    """An open context. ``version`` is what TEE_IOC_VERSION said; ``name`` is for messages."""

    version: Version
    name: str

    @abstractmethod
    def open_session(
        self, uuid: bytes, login: int, data: bytes, cancel_id: int, words: list[int]
    ) -> tuple[int, int, int]:
        """TEE_IOC_OPEN_SESSION.

        :param uuid: of the trusted service, 16 bytes.
        :param login: TEE_IOCTL_LOGIN_*.
        :param data: connection data, 16 bytes.
        :param words: NUM_WORDS numbers, updated in place.
        :returns: ret, ret_origin, session.
        """

    @abstractmethod
    def invoke(self, session: int, func: int, cancel_id: int, words: list[int]) -> tuple[int, int]:
        """TEE_IOC_INVOKE; returns ret and ret_origin, ``words`` are updated in place."""

    @abstractmethod
    def cancel(self, session: int, cancel_id: int) -> None:
        """TEE_IOC_CANCEL; ``session`` 0 means an open that is under way."""

    @abstractmethod
    def close_session(self, session: int) -> None:
        """TEE_IOC_CLOSE_SESSION."""

    @abstractmethod
    def shm_alloc(self, size: int) -> DoorMemory:
        """TEE_IOC_SHM_ALLOC, mapped."""

    @abstractmethod
    def shm_register(self, buffer: "WriteableBuffer") -> DoorMemory:
        """TEE_IOC_SHM_REGISTER of a buffer that is not empty; it stays in its place meanwhile."""

    @abstractmethod
    def close(self) -> None:
        """End the context. Twice is once."""

    # Of <gentee/tee.h>. A door whose TEE lacks them fails as such a TEE does.

    def task(
        self,
        uuid: bytes,
        func: int,
        login: int,
        data: bytes,
        cancel_id: int,
        words: list[int],
    ) -> tuple[int, int]:
        """TEE_IOC_TASK; returns ret and ret_origin, ``words`` are updated in place."""
        raise OSError(errno.EINVAL, "TEE_IOC_TASK")

    def mem_map(self, buffer: "ReadableBuffer", flags: int) -> DoorMemory:
        """TEE_IOC_MEM_MAP of a buffer that is not empty; it stays in its place meanwhile."""
        raise OSError(errno.EINVAL, "TEE_IOC_MEM_MAP")

    def load_ts(self, image: bytes) -> tuple[int, int, bytes, int]:
        """TEE_IOC_LOAD_TS; returns ret, ret_origin, UUID and version."""
        raise OSError(errno.EINVAL, "TEE_IOC_LOAD_TS")

    def get_ts_list(self, name: bytes, api: bytes) -> tuple[int, int, list[bytes]]:
        """TEE_IOC_GET_TS_LIST; returns ret, ret_origin and a struct tee_ts_info each."""
        raise OSError(errno.EINVAL, "TEE_IOC_GET_TS_LIST")


def is_wanted(version: Version, name: str | None) -> bool:
    """Whether libteec would take a TEE for TEEC_InitializeContext(name, ...).

    It takes the first one that speaks GlobalPlatform, and for the name ``optee-tz`` the first
    OP-TEE in a TrustZone. Other names are not known to it.
    """
    impl_id, impl_caps, gen_caps = version
    if not gen_caps & TEE_GEN_CAP_GP or gen_caps & TEE_GEN_CAP_PRIVILEGED:
        return False
    if name == "optee-tz":
        return impl_id == TEE_IMPL_ID_OPTEE and bool(impl_caps & TEE_OPTEE_CAP_TZ)
    return name is None


def comms_error(error: OSError, origin: int = TEEC_ORIGIN_COMMS) -> TeeError:
    """The result that libteec makes of a failed ioctl's errno."""
    detail = error.strerror or str(error)
    if error.errno == errno.ENOMEM:
        return OutOfMemory(detail, origin)
    if error.errno == errno.EINVAL:
        return BadParameters(detail, origin)
    return GenericError(detail, origin)
