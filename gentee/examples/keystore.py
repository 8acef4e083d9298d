# SPDX-License-Identifier: BSD-2-Clause
"""Key store: takes a key, never gives it back, and uses it for the client that brought it.

Each client identity has names of its own. The instance is kept alive, so a key that one call stored
is there for the next, without a session in between: the two are tasks, each a single call.
"""

import hashlib
import hmac
from typing import Any

from gentee.ta import (
    TEE_PROPSET_CURRENT_CLIENT,
    AccessConflict,
    BadParameters,
    ItemNotFound,
    Memref,
    OutOfMemory,
    Params,
    TEE_GetPropertyAsIdentity,
    TrustedApplication,
)

KEYSTORE_STORE = 0  # memref in: name, memref in: key of 16 to 64 bytes
KEYSTORE_MAC = 1  # memref in: name, memref in: message, memref out: HMAC-SHA256 of it, 32 bytes
KEYSTORE_FORGET = 2  # memref in: name

MAX_NAME = 64  # bytes
MAX_KEYS = 64  # of one client
MAX_CLIENTS = 64

# Values of param_types: TEE_PARAM_TYPES() of memory references, 5 in and 6 out.
_NAME = 0x005
_NAME_KEY = 0x055
_NAME_MESSAGE_MAC = 0x655


class KeyStore(TrustedApplication):
    uuid = "5c1f2a7e-9f0a-4d8f-a1d6-70b6b1c0f2e3"
    name = "keystore"
    description = "stores a client's keys and computes MACs with them"
    single_instance = True
    multi_session = True
    keep_alive = True

    def TA_CreateEntryPoint(self) -> None:
        self.keys: dict[tuple[int, bytes], dict[bytes, bytes]] = {}

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        identity = TEE_GetPropertyAsIdentity(TEE_PROPSET_CURRENT_CLIENT, "gpd.client.identity")
        owner = (identity.login, identity.uuid.bytes)
        if command_id == KEYSTORE_STORE and param_types == _NAME_KEY:
            self.store(owner, _name(params), _octets(params, 1))
        elif command_id == KEYSTORE_MAC and param_types == _NAME_MESSAGE_MAC:
            key = self.key(owner, _name(params))
            mac = params[2]
            assert isinstance(mac, Memref)
            mac.write(hmac.digest(key, _octets(params, 1), hashlib.sha256))
        elif command_id == KEYSTORE_FORGET and param_types == _NAME:
            self.forget(owner, _name(params))
        else:
            raise BadParameters(f"command {command_id} with types {param_types:#06x}")

    def store(self, owner: tuple[int, bytes], name: bytes, key: bytes) -> None:
        """Keep ``key``; AccessConflict where the name is taken: a key is never replaced."""
        if not 16 <= len(key) <= 64:
            raise BadParameters(f"a key of {len(key)} bytes")
        if owner not in self.keys and len(self.keys) >= MAX_CLIENTS:
            raise OutOfMemory(f"keys of {MAX_CLIENTS} clients are stored")
        keys = self.keys.setdefault(owner, {})
        if name in keys:
            raise AccessConflict("the name is taken")
        if len(keys) >= MAX_KEYS:
            raise OutOfMemory(f"{MAX_KEYS} keys are stored")
        keys[name] = key

    def forget(self, owner: tuple[int, bytes], name: bytes) -> None:
        """Drop the client's key of this name."""
        self.key(owner, name)
        del self.keys[owner][name]
        if not self.keys[owner]:
            del self.keys[owner]

    def key(self, owner: tuple[int, bytes], name: bytes) -> bytes:
        """The client's key of this name."""
        key = self.keys.get(owner, {}).get(name)
        if key is None:
            raise ItemNotFound("no key of this name")
        return key


def _octets(params: Params, index: int) -> bytes:
    # One copy: the client can change its memory at any time.
    memref = params[index]
    assert isinstance(memref, Memref)
    return bytes(memref)


def _name(params: Params) -> bytes:
    name = _octets(params, 0)
    if not 0 < len(name) <= MAX_NAME:
        raise BadParameters(f"a name has 1 to {MAX_NAME} bytes")
    return name
