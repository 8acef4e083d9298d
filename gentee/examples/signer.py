# SPDX-License-Identifier: BSD-2-Clause
"""Signer: makes a key that never leaves it, and signs with it what clients pass.

The key is on the curve P-256 and lives as long as the instance, which is kept alive: a client can
ask for the public key once and check signatures with it as long as the TEE runs.
"""

from typing import Any

from gentee.ta import BadParameters, Memref, Params, TrustedApplication
from gentee.ta.crypto import (
    TEE_ALG_ECDSA_SHA256,
    TEE_ALG_SHA256,
    TEE_ATTR_ECC_CURVE,
    TEE_ATTR_ECC_PUBLIC_VALUE_X,
    TEE_ATTR_ECC_PUBLIC_VALUE_Y,
    TEE_ECC_CURVE_NIST_P256,
    TEE_MODE_DIGEST,
    TEE_MODE_SIGN,
    TEE_TYPE_ECDSA_KEYPAIR,
    TEE_USAGE_SIGN,
    TEE_AllocateOperation,
    TEE_AllocateTransientObject,
    TEE_AsymmetricSignDigest,
    TEE_DigestDoFinal,
    TEE_GenerateKey,
    TEE_GetObjectBufferAttribute,
    TEE_InitValueAttribute,
    TEE_RestrictObjectUsage1,
    TEE_SetOperationKey,
)

SIGNER_PUBLIC_KEY = 0  # memref out: the public key as a point, 65 bytes (SEC 1, not compressed)
SIGNER_SIGN = 1  # memref in: message, memref out: its signature, r and s of 32 bytes each

CURVE_BITS = 256
COORDINATE = CURVE_BITS // 8

# Values of param_types: TEE_PARAM_TYPES() of memory references, 5 in and 6 out.
_POINT = 0x006
_MESSAGE_SIGNATURE = 0x065


class Signer(TrustedApplication):
    uuid = "a3f7c9d1-5e42-4b86-9c0d-2f18e6b7d430"
    name = "signer"
    description = "signs with a key that it makes and never gives away"
    single_instance = True
    multi_session = True
    keep_alive = True

    def TA_CreateEntryPoint(self) -> None:
        key = TEE_AllocateTransientObject(TEE_TYPE_ECDSA_KEYPAIR, CURVE_BITS)
        curve = TEE_InitValueAttribute(TEE_ATTR_ECC_CURVE, TEE_ECC_CURVE_NIST_P256)
        TEE_GenerateKey(key, CURVE_BITS, [curve])
        TEE_RestrictObjectUsage1(key, TEE_USAGE_SIGN)
        x, y = (
            TEE_GetObjectBufferAttribute(key, attribute).rjust(COORDINATE, b"\0")
            for attribute in (TEE_ATTR_ECC_PUBLIC_VALUE_X, TEE_ATTR_ECC_PUBLIC_VALUE_Y)
        )
        self.public_key = b"\x04" + x + y
        self.digest = TEE_AllocateOperation(TEE_ALG_SHA256, TEE_MODE_DIGEST)
        self.sign = TEE_AllocateOperation(TEE_ALG_ECDSA_SHA256, TEE_MODE_SIGN, CURVE_BITS)
        TEE_SetOperationKey(self.sign, key)

    def TA_InvokeCommandEntryPoint(
        self, session: Any, command_id: int, param_types: int, params: Params
    ) -> None:
        if command_id == SIGNER_PUBLIC_KEY and param_types == _POINT:
            point = params[0]
            assert isinstance(point, Memref)
            point.write(self.public_key)
        elif command_id == SIGNER_SIGN and param_types == _MESSAGE_SIGNATURE:
            message, signature = params[0], params[1]
            assert isinstance(message, Memref)
            assert isinstance(signature, Memref)
            # Straight from the client's pages, read once: what changes later is not signed.
            digest = TEE_DigestDoFinal(self.digest, message)
            TEE_AsymmetricSignDigest(self.sign, [], digest, signature)
        else:
            raise BadParameters(f"command {command_id} with types {param_types:#06x}")
