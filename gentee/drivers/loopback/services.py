# SPDX-License-Identifier: BSD-2-Clause
"""Services to load and to list. There is no code in them: what they do all services do (call.py).

An image has four bytes ``LOOP``, the version (32 bits, least significant byte first), the UUID, the
name (UTF-8, 1 to 63 bytes) and the SHA-256 digest of all that, which stands for a signature.
"""

import threading
from struct import Struct

from gentee.abi.gentee_tee import TEE_TS_INSTALLED
from gentee.abi.gp import TEE_ORIGIN_TEE
from gentee.core.trusted_services import LoadTsArg, TsInfo
from gentee.errors import AccessConflict, BadFormat, SecurityError

_HEADER = Struct("<4sI16s")  # magic version uuid
_DIGEST_SIZE = 32

FIRST_UUID = bytes(range(16))
API = "GP_TEEv1.3"  # of every service
FIRST_API = "org.gentee.loopback"  # of the one that is there from the start


def make_image(uuid: bytes, version: int, name: str) -> bytes:
    """An image that :meth:`Services.load` takes."""
    from hashlib import sha256

    body = _HEADER.pack(b"LOOP", version, uuid) + name.encode()
    return body + sha256(body).digest()


class Services:
    """The list of one TEE."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects the list
        first = TsInfo(FIRST_UUID, "loopback", apis=(API, FIRST_API))
        self._services = {FIRST_UUID: first}

    def load(self, arg: LoadTsArg) -> None:
        """Verify ``arg.image``, then put its service on the list; a lower version is refused."""
        from hashlib import sha256
        from hmac import compare_digest

        image = arg.image
        body, digest = image[:-_DIGEST_SIZE], image[-_DIGEST_SIZE:]
        if len(body) <= _HEADER.size or not body.startswith(b"LOOP"):
            raise BadFormat("no image of this TEE", TEE_ORIGIN_TEE)
        if not compare_digest(sha256(body).digest(), digest):
            raise SecurityError("digest", TEE_ORIGIN_TEE)
        _magic, version, uuid = _HEADER.unpack_from(body)
        try:
            name = body[_HEADER.size :].decode()
        except UnicodeDecodeError:
            raise BadFormat("name", TEE_ORIGIN_TEE) from None
        if len(name.encode()) > 63 or "\0" in name or not any(uuid):
            raise BadFormat("name or UUID", TEE_ORIGIN_TEE)
        with self._lock:
            known = self._services.get(uuid)
            if known is not None and known.version > version:
                raise AccessConflict(f"version {known.version} was loaded", TEE_ORIGIN_TEE)
            self._services[uuid] = TsInfo(uuid, name, version, apis=(API,), flags=TEE_TS_INSTALLED)
        arg.uuid, arg.version = uuid, version

    def list(self) -> "list[TsInfo]":
        """All of them."""
        with self._lock:
            return [*self._services.values()]
