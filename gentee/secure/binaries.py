# SPDX-License-Identifier: BSD-2-Clause
"""The libraries of OP-TEE's TAs, for the loader in a TA's process (ldelf's open_bin).

A library travels as a TA does: a signed file that its UUID names. It is verified here; what it has
inside is for the TA's own process to read. Any TA can be had so, as with ldelf: what is in a TA's
file is no secret from other TAs.
"""

import os

from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_SUCCESS
from gentee.core.workers import WORKERS
from gentee.errors import NotSupported, OutOfMemory, TaImageError, TeeError
from gentee.linux.shm import readonly_copy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.secure.requests import Request
    from gentee.secure.store import TaStore

MAX_BYTES = 128 << 20  # of what one instance gets


class Binaries:
    """What the TAs of one TEE may load."""

    def __init__(self, store: "TaStore") -> None:
        self._store = store

    def open_bin(self, request: "Request") -> None:
        """Give a TA the library that it names. Files are read: not in the receiving thread."""
        WORKERS.submit(lambda: request.run(self._open_bin))

    def _open_bin(self, request: "Request") -> None:
        instance = request.instance
        if not instance.service.is_elf:
            raise NotSupported("binaries for what is no TA of OP-TEE")
        try:
            service, binary = self._store.binary(request.uuid)
        except TaImageError as error:
            raise TeeError.from_code(error.code, detail=str(error)) from error
        # It may keep each one, and such pages are not counted as its own.
        if instance.binary_bytes + len(binary) > MAX_BYTES:
            raise OutOfMemory("more libraries than a TA can need")
        instance.binary_bytes += len(binary)
        instance.binaries.append(service)
        try:
            fd = readonly_copy(binary, "tee_library")
            try:
                number = instance.install_for(request.notify_id, fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise OutOfMemory(f"a library: {error}") from error
        request.reply(TEE_SUCCESS, (ch.Q_FUNC, number), (ch.Q_SIZE, len(binary)))
