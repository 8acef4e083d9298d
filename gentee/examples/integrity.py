# SPDX-License-Identifier: BSD-2-Clause
"""Integrity: remembers what a component looked like, and says later whether it still does.

The first measurement of a component is its reference and stays it: who changes the component later
cannot change the reference along with it. Each check is a task, a single call.
"""

import hashlib
import hmac
from typing import Any

from gentee.ta import (
    EMSG,
    AccessConflict,
    BadParameters,
    ItemNotFound,
    Memref,
    OutOfMemory,
    Params,
    SecurityError,
    TrustedApplication,
)

INTEGRITY_ENROL = 0  # memref in: name of the component, memref in: its bytes
INTEGRITY_CHECK = 1  # the same; TEE_ERROR_SECURITY where they are not those of the reference
INTEGRITY_DIGEST = 2  # memref in: name, memref out: SHA-256 of the reference, 32 bytes

MAX_NAME = 256  # bytes
MAX_COMPONENTS = 1024

# Values of param_types: TEE_PARAM_TYPES() of memory references, 5 in and 6 out.
_NAME_CONTENT = 0x055
_NAME_DIGEST = 0x065


class Integrity(TrustedApplication):
    uuid = "d2a0c7b4-1d0e-4f53-8f3b-2b8c3c5d9e71"
    name = "integrity"
    description = "checks that a component is what it was when it was enrolled"
    single_instance = True
    multi_session = True
    keep_alive = True

    def TA_CreateEntryPoint(self) -> None:
        self.references: dict[bytes, bytes] = {}

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        if param_types == _NAME_CONTENT and command_id == INTEGRITY_ENROL:
            self.enrol(_name(params), _digest(params))
        elif param_types == _NAME_CONTENT and command_id == INTEGRITY_CHECK:
            name = _name(params)
            if not hmac.compare_digest(self.reference(name), _digest(params)):
                EMSG(f"{name!r} is not what it was")
                raise SecurityError("the component has changed")
        elif param_types == _NAME_DIGEST and command_id == INTEGRITY_DIGEST:
            digest = params[1]
            assert isinstance(digest, Memref)
            digest.write(self.reference(_name(params)))
        else:
            raise BadParameters(f"command {command_id} with types {param_types:#06x}")

    def enrol(self, name: bytes, digest: bytes) -> None:
        """Make ``digest`` the reference, unless there is another one."""
        known = self.references.get(name)
        if known is None and len(self.references) >= MAX_COMPONENTS:
            raise OutOfMemory(f"{MAX_COMPONENTS} components are enrolled")
        if not hmac.compare_digest(self.references.setdefault(name, digest), digest):
            raise AccessConflict("enrolled with other bytes")

    def reference(self, name: bytes) -> bytes:
        """The SHA-256 of the component as it was enrolled."""
        reference = self.references.get(name)
        if reference is None:
            raise ItemNotFound("not enrolled")
        return reference


def _name(params: Params) -> bytes:
    name = params[0]
    assert isinstance(name, Memref)
    if not 0 < name.size <= MAX_NAME:
        raise BadParameters(f"a name has 1 to {MAX_NAME} bytes")
    return bytes(name)


def _digest(params: Params) -> bytes:
    # Straight from the client's pages: a component can be large.
    content = params[1]
    assert isinstance(content, Memref)
    return hashlib.sha256(b"" if content.buffer is None else content.buffer).digest()
