# SPDX-License-Identifier: BSD-2-Clause
"""The rest of the Trusted Core Framework that means something in Python: instance data, memory,
random (GP TEE Internal Core API 1.3.1 sections 4.11 and 6.9).

What is missing is the language's: TEE_Malloc, TEE_Realloc, TEE_Free, TEE_MemMove, TEE_MemFill.
"""

import mmap
import os
from _operator import _compare_digest
from typing import Any

from gentee.abi.gp import (
    TEE_ERROR_BAD_PARAMETERS,
    TEE_MEMORY_ACCESS_ANY_OWNER,
    TEE_MEMORY_ACCESS_READ,
    TEE_MEMORY_ACCESS_WRITE,
)
from gentee.errors import AccessDenied, TaPanic

Buffer = bytes | bytearray | memoryview

_KNOWN_FLAGS = TEE_MEMORY_ACCESS_READ | TEE_MEMORY_ACCESS_WRITE | TEE_MEMORY_ACCESS_ANY_OWNER

_instance_data: list[Any] = [None]


def TEE_SetInstanceData(data: Any) -> None:
    """Keep an object for this instance (section 4.11.2). Attributes of the service do as well."""
    _instance_data[0] = data


def TEE_GetInstanceData() -> Any:
    """The object that was kept, None before (section 4.11.3)."""
    return _instance_data[0]


def TEE_CheckMemoryAccessRights(access_flags: int, buffer: Buffer) -> None:
    """Whether this service may use ``buffer`` so (section 4.11.1).

    :param access_flags: TEE_MEMORY_ACCESS_*. Without ANY_OWNER the memory must be the service's
        own: a reference to a client's memory can change while it is looked at.
    :raises AccessDenied: it may not.
    """
    if access_flags & ~_KNOWN_FLAGS:
        raise TaPanic(TEE_ERROR_BAD_PARAMETERS, f"access flags {access_flags:#x}")
    with memoryview(buffer) as view:
        if not view.nbytes:
            return
        if access_flags & TEE_MEMORY_ACCESS_WRITE and view.readonly:
            raise AccessDenied("read-only memory")
        # Views of a client's pages belong to no object of Python's, or to a map.
        if not access_flags & TEE_MEMORY_ACCESS_ANY_OWNER and (
            view.obj is None or isinstance(view.obj, mmap.mmap)
        ):
            raise AccessDenied("memory of a client")


def TEE_MemCompare(buffer1: Buffer, buffer2: Buffer) -> int:
    """0 if two buffers of one size are equal, else 1; in constant time (section 4.11.8).

    C also says which of them is greater, which takes a second look at what is secret.
    """
    if len(buffer1) != len(buffer2):
        raise TaPanic(TEE_ERROR_BAD_PARAMETERS, "buffers of different sizes")
    return 0 if _compare_digest(buffer1, buffer2) else 1


def TEE_GenerateRandom(size: int) -> bytes:
    """``size`` random bytes, from the kernel's generator (section 6.9.1)."""
    if size < 0:
        raise TaPanic(TEE_ERROR_BAD_PARAMETERS, "random bytes")
    return os.urandom(size)
