# SPDX-License-Identifier: BSD-2-Clause
"""Cryptography as a service in Python does it: keys and operations for tests."""

from collections.abc import Callable

import pytest

from gentee.errors import TaPanic
from gentee.ta.crypto import (
    TEE_ALG_GET_KEY_TYPE,
    TEE_ATTR_SECRET_VALUE,
    ObjectHandle,
    OperationHandle,
    TEE_AllocateOperation,
    TEE_AllocateTransientObject,
    TEE_InitRefAttribute,
    TEE_PopulateTransientObject,
    TEE_SetOperationKey,
    TEE_SetOperationKey2,
)


def panics(call: Callable[[], object], code: int | None = None) -> None:
    """``call`` is a panic, of this code."""
    with pytest.raises(TaPanic) as caught:
        call()
    assert code is None or caught.value.code == code


def secret(object_type: int, value: bytes, attribute: int = TEE_ATTR_SECRET_VALUE) -> ObjectHandle:
    """An object that is a secret."""
    made = TEE_AllocateTransientObject(object_type, len(value) * 8)
    TEE_PopulateTransientObject(made, [TEE_InitRefAttribute(attribute, value)])
    return made


def keyed(algorithm: int, mode: int, *values: bytes) -> OperationHandle:
    """An operation with one or two symmetric keys."""
    size = sum(map(len, values)) * 8
    operation = TEE_AllocateOperation(algorithm, mode, size)
    keys = [secret(TEE_ALG_GET_KEY_TYPE(algorithm, False), value) for value in values]
    if len(keys) == 2:
        TEE_SetOperationKey2(operation, *keys)
    else:
        TEE_SetOperationKey(operation, *keys)
    return operation
