# SPDX-License-Identifier: BSD-2-Clause
"""Transient objects: TEE Internal Core API 1.3.1 sections 5.5 and 5.6, as OP-TEE's libutee has them
(lib/libutee/tee_api_objects.c). The objects themselves are :mod:`gentee.crypto.objects`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gentee.abi import gp_crypto as gp
from gentee.abi.gp import (
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_CORRUPT_OBJECT,
    TEE_ERROR_ITEM_NOT_FOUND,
    TEE_ERROR_NOT_SUPPORTED,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_STORAGE_NOT_AVAILABLE,
)
from gentee.crypto.objects import Attribute as TEE_Attribute
from gentee.crypto.objects import CryptObject
from gentee.errors import BadParameters, NotSupported
from gentee.ta.crypto.buffers import Data, copy_of
from gentee.ta.crypto.results import bad_parameters, bad_state, results

__all__ = [
    "ObjectHandle",
    "TEE_AllocateTransientObject",
    "TEE_Attribute",
    "TEE_CloseObject",
    "TEE_CopyObjectAttributes1",
    "TEE_FreeTransientObject",
    "TEE_GenerateKey",
    "TEE_GetObjectBufferAttribute",
    "TEE_GetObjectInfo1",
    "TEE_GetObjectValueAttribute",
    "TEE_InitRefAttribute",
    "TEE_InitValueAttribute",
    "TEE_ObjectInfo",
    "TEE_PopulateTransientObject",
    "TEE_ResetTransientObject",
    "TEE_RestrictObjectUsage1",
]

_U32 = 0xFFFF_FFFF
_BROKEN = TEE_ERROR_CORRUPT_OBJECT, TEE_ERROR_STORAGE_NOT_AVAILABLE  # of stored objects only


class ObjectHandle:
    """An object of this service (TEE_ObjectHandle). Its secrets are wiped when it goes."""

    __slots__ = ("_object",)

    def __init__(self, found: CryptObject) -> None:
        self._object: CryptObject | None = found

    def __repr__(self) -> str:
        found = self._object
        if found is None:
            return "ObjectHandle(freed)"
        size = f"{found.obj_size} bits" if found.is_initialized else "not initialized"
        return f"ObjectHandle({gp.type_name(found.obj_type)}, {size})"

    def __del__(self) -> None:
        self.free()

    def free(self) -> None:
        """Wipe it. Any further use is a panic."""
        found, self._object = self._object, None
        if found is not None:
            found.wipe()


class TEE_ObjectInfo(NamedTuple):
    """What an object is (section 5.3); sizes in bits, those of data in bytes."""

    object_type: int
    object_size: int
    max_object_size: int
    object_usage: int
    data_size: int
    data_position: int
    handle_flags: int


def object_of(handle: ObjectHandle | None) -> CryptObject:
    """The object of a handle; a panic if there is none."""
    found = handle._object if handle is not None else None
    if found is None:
        raise bad_state("no object, or one that was freed")
    return found


def _transient(handle: ObjectHandle | None) -> CryptObject:
    found = object_of(handle)
    if found.handle_flags & gp.TEE_HANDLE_FLAG_PERSISTENT:
        raise bad_parameters("a persistent object")
    return found


# Any object.


@results(*_BROKEN)
def TEE_GetObjectInfo1(object: ObjectHandle) -> TEE_ObjectInfo:
    """What an object is, and how it may be used (section 5.5.1)."""
    found = object_of(object)
    return TEE_ObjectInfo(
        found.obj_type,
        found.obj_size,
        found.max_obj_size,
        found.obj_usage,
        found.data_size,
        found.data_pos,
        found.handle_flags,
    )


@results(*_BROKEN)
def TEE_RestrictObjectUsage1(object: ObjectHandle, object_usage: int) -> None:
    """Take away the usages that are not in ``object_usage``, TEE_USAGE_* (section 5.5.2)."""
    object_of(object).restrict_usage(object_usage & _U32)


@results(TEE_ERROR_ITEM_NOT_FOUND, *_BROKEN)
def TEE_GetObjectBufferAttribute(object: ObjectHandle, attribute_id: int) -> bytes:
    """An attribute that has bytes; a number is big-endian, without zeros before it (5.5.3).

    A panic if it is protected and the object not extractable, or if the object has no value yet.

    :raises ItemNotFound: the object has no such attribute.
    """
    found = object_of(object)
    if attribute_id & gp.TEE_ATTR_FLAG_VALUE:
        raise bad_parameters(f"{gp.attribute_name(attribute_id)} has no bytes")
    content = found.get_attr(attribute_id)
    assert isinstance(content, bytes)
    return content


@results(TEE_ERROR_ITEM_NOT_FOUND, *_BROKEN)
def TEE_GetObjectValueAttribute(object: ObjectHandle, attribute_id: int) -> tuple[int, int]:
    """An attribute that is two numbers of 32 bits (section 5.5.4). Else as the one for bytes."""
    found = object_of(object)
    if not attribute_id & gp.TEE_ATTR_FLAG_VALUE:
        raise bad_parameters(f"{gp.attribute_name(attribute_id)} has no values")
    content = found.get_attr(attribute_id)
    assert isinstance(content, tuple)
    return content


@results()
def TEE_CloseObject(object: ObjectHandle | None) -> None:
    """Close an object, which ends a transient one (section 5.5.5). Python does not need it."""
    if object is not None:
        object_of(object)
        object.free()


# Transient objects.


@results(TEE_ERROR_OUT_OF_MEMORY, TEE_ERROR_NOT_SUPPORTED)
def TEE_AllocateTransientObject(object_type: int, max_object_size: int) -> ObjectHandle:
    """An object without a value (section 5.6.1).

    :param object_type: TEE_TYPE_*
    :param max_object_size: in bits.
    :raises NotSupported: there is no such type, or not with this size.
    """
    if object_type == gp.TEE_TYPE_DATA:
        raise NotSupported("data is in stored objects only")
    return ObjectHandle(CryptObject(object_type, max_object_size))


@results()
def TEE_FreeTransientObject(object: ObjectHandle | None) -> None:
    """Wipe an object; any further use is a panic (section 5.6.2). Python does not need it."""
    if object is not None:
        _transient(object)
        object.free()


@results()
def TEE_ResetTransientObject(object: ObjectHandle | None) -> None:
    """Wipe an object's value, which may be used for another one then (section 5.6.3)."""
    if object is not None:
        _transient(object).reset()


@results(TEE_ERROR_BAD_PARAMETERS)
def TEE_PopulateTransientObject(object: ObjectHandle, attributes: Sequence[TEE_Attribute]) -> None:
    """Give an object its value (section 5.6.4).

    A panic if it has one, or if these are not the attributes that its type wants.

    :raises BadParameters: the size of the value is not one of the type's.
    """
    found = _transient(object)
    if found.is_initialized:
        raise bad_parameters("the object has a value")
    found.populate(attributes)


@results()
def TEE_InitRefAttribute(attribute_id: int, buffer: Data) -> TEE_Attribute:
    """An attribute that has bytes, which are copied (section 5.6.5)."""
    if attribute_id & gp.TEE_ATTR_FLAG_VALUE:
        raise bad_parameters(f"{gp.attribute_name(attribute_id)} has no bytes")
    return TEE_Attribute(attribute_id, copy_of(buffer))


@results()
def TEE_InitValueAttribute(attribute_id: int, a: int, b: int = 0) -> TEE_Attribute:
    """An attribute that is two numbers of 32 bits (section 5.6.5)."""
    if not attribute_id & gp.TEE_ATTR_FLAG_VALUE:
        raise bad_parameters(f"{gp.attribute_name(attribute_id)} has no values")
    if not (0 <= a <= _U32 and 0 <= b <= _U32):
        raise bad_parameters("values have 32 bits")
    return TEE_Attribute(attribute_id, b"", a, b)


@results(*_BROKEN)
def TEE_CopyObjectAttributes1(destination: ObjectHandle, source: ObjectHandle) -> None:
    """Give an object the value of another one, with its usage (section 5.6.6).

    Both have the same type, or ``destination`` is for the public half of the key pair ``source``;
    all else is a panic.
    """
    copy_object(_transient(destination), object_of(source))


def copy_object(destination: CryptObject, source: CryptObject) -> None:
    """TEE_CopyObjectAttributes1 of objects."""
    if not source.is_initialized:
        raise bad_parameters("the source has no value")
    if destination.is_initialized:
        raise bad_parameters("the destination has a value")
    destination.copy(source)


@results(TEE_ERROR_BAD_PARAMETERS)
def TEE_GenerateKey(
    object: ObjectHandle, key_size: int, params: Sequence[TEE_Attribute] = ()
) -> None:
    """Give an object a new random key (section 5.6.7).

    A panic if it has a value, or if keys of its type want other parameters or sizes.

    :param key_size: in bits.
    :param params: such as TEE_ATTR_ECC_CURVE of keys on elliptic curves.
    :raises BadParameters: there is no key with these parameters.
    """
    found = _transient(object)
    if key_size < 0:
        raise BadParameters(f"a key of {key_size} bits")
    found.generate(key_size, params)
