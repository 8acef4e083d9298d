# SPDX-License-Identifier: BSD-2-Clause
"""Transient objects: TEE Internal Core API 1.3.1 sections 5.5 and 5.6.

OP-TEE: the ``syscall_cryp_obj_*`` functions of ``core/tee/tee_svc_cryp.c``, with their checks, the
order of these and what they leave behind where they fail. What libutee checks of its own before it
calls them is not here.

Secrets are held in bytearrays, which are wiped when they go. That is as far as Python lets one:
whatever reads a secret makes a copy of it.
"""

import os
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from gentee.abi import gp_crypto as gp
from gentee.crypto import object_types as types
from gentee.crypto.generate import GENERATE
from gentee.crypto.object_types import TYPES, TypeAttr, TypeProps
from gentee.errors import (
    BadFormat,
    BadParameters,
    BadState,
    CorruptObject,
    ExcessData,
    ItemNotFound,
    NotImplementedByTee,
    NotSupported,
    OutOfMemory,
    SecurityError,
)

# Bytes of a number that are taken. OP-TEE copies a number through a buffer of this size.
BOUNCE_BUFFER_SIZE = 4096

_U32 = 0xFFFF_FFFF
_BE32 = Struct(">I")
_TEE_ATTR_FLAG_PUBLIC = gp.TEE_ATTR_FLAG_PUBLIC


class Attribute(NamedTuple):
    """A TEE_Attribute: bytes, or two values where the identifier has TEE_ATTR_FLAG_VALUE.

    :ivar data: not longer than BOUNCE_BUFFER_SIZE it is a copy. Longer bytes may be memory that
        somebody else writes to: whoever takes them copies them once.
    """

    id: int
    data: bytes | memoryview = b""
    a: int = 0
    b: int = 0


class CryptObject:
    """An object (struct tee_obj). A new one is not initialized.

    :ivar props: its type; None of TEE_TYPE_DATA, which has no attributes.
    :ivar busy: whether it is a key of an operation, so that its owner must not close it.
    :ivar have_attrs: bit n: it has attribute n of its type.
    :ivar handle_flags: TEE_HANDLE_FLAG_INITIALIZED and, by who stores objects, PERSISTENT.
    :ivar prepared: what an asymmetric algorithm made of the attributes; it ends with them.

    :param obj_type: TEE_TYPE_*
    :param max_obj_size: in bits.
    :raises NotSupported: there is no such type, or not with this size.
    """

    __slots__ = (
        "props",
        "obj_type",
        "obj_size",
        "max_obj_size",
        "obj_usage",
        "data_size",
        "data_pos",
        "handle_flags",
        "busy",
        "have_attrs",
        "prepared",
        "_bytes",
        "_values",
    )

    def __init__(self, obj_type: int, max_obj_size: int) -> None:
        props = TYPES.get(obj_type)
        if props is None:
            if obj_type != gp.TEE_TYPE_DATA or max_obj_size:
                raise NotSupported(f"an object of type {gp.type_name(obj_type)}")
        elif not types.is_key_size(props, max_obj_size):
            raise NotSupported(f"{gp.type_name(obj_type)} of {max_obj_size} bits")
        self.props: TypeProps | None = props
        self.obj_type = obj_type
        self.obj_size = 0
        self.max_obj_size = max_obj_size
        self.obj_usage = gp.TEE_USAGE_DEFAULT
        self.data_size = 0
        self.data_pos = 0
        self.handle_flags = 0
        self.busy = False
        self.have_attrs = 0
        self.prepared: object = None
        self._bytes: dict[int, bytearray] = {}
        self._values: dict[int, int] = {}
        if obj_type in types.SM2_TYPES:
            self._values[gp.TEE_ATTR_ECC_CURVE] = gp.TEE_ECC_CURVE_SM2

    # What operations take of a key. As in OP-TEE, an attribute that is not there is 0.

    @property
    def is_initialized(self) -> bool:
        """Whether it has attributes, or data."""
        return self.handle_flags & gp.TEE_HANDLE_FLAG_INITIALIZED != 0

    @property
    def is_secret(self) -> bool:
        """Whether it is a key of a symmetric algorithm, the only kind that one can derive."""
        return self.props is not None and self.props.attrs is types.SECRET_VALUE

    @property
    def is_one_secret(self) -> bool:
        """Whether it is nothing but a secret: a symmetric key, or input of a derivation."""
        return self.props is not None and self.props.attrs[0].kind == types.SECRET

    @property
    def secret_size(self) -> int:
        """Bytes that there is room for in an object that is one secret, else 0."""
        return self.props.secret_size if self.props is not None else 0

    def has(self, attr: int) -> bool:
        """Whether it has an attribute."""
        index = self.props.place.get(attr) if self.props is not None else None
        return index is not None and self.have_attrs >> index & 1 != 0

    def secret(self) -> bytes:
        """The bytes of an object that is one secret: a symmetric key, or input of a derivation."""
        assert self.props is not None
        return bytes(self._bytes.get(self.props.attrs[0].id, b""))

    def octets(self, attr: int) -> bytes:
        """A key of a fixed length; a number by its bytes, without zeros before it."""
        return bytes(self._bytes.get(attr, b""))

    def number(self, attr: int) -> int:
        """A number."""
        return int.from_bytes(self._bytes.get(attr, b""), "big")

    def value(self, attr: int) -> tuple[int, int]:
        """Two values. Of those that an object has, the second one is always 0."""
        return self._values.get(attr, 0), 0

    def set_secret(self, data: bytes | bytearray) -> None:
        """Make derived bytes the secret of this object, which is initialized then.

        It fits (:attr:`secret_size`), and the object is one (:attr:`is_secret`). OP-TEE leaves the
        size of the object as it is.
        """
        assert self.is_secret
        assert len(data) <= self.secret_size
        self._put(gp.TEE_ATTR_SECRET_VALUE, data)
        self.handle_flags |= gp.TEE_HANDLE_FLAG_INITIALIZED
        self.have_attrs |= 1

    # The system calls.

    def restrict_usage(self, usage: int) -> None:
        """Take away what is not in ``usage``, TEE_USAGE_*."""
        self.obj_usage &= usage

    def get_attr(self, attr: int) -> bytes | tuple[int, int]:
        """The bytes of an attribute, or its two values.

        :raises BadParameters: the object is not initialized, or this is not to be had.
        :raises ItemNotFound: it has no such attribute.
        """
        if not self.handle_flags & gp.TEE_HANDLE_FLAG_INITIALIZED:
            raise BadParameters("the object is not initialized")
        if not attr & _TEE_ATTR_FLAG_PUBLIC and not self.obj_usage & gp.TEE_USAGE_EXTRACTABLE:
            raise BadParameters(f"{gp.attribute_name(attr)} is not extractable")
        if self.props is None:
            raise BadState("an object without attributes")
        if not self.has(attr):
            raise ItemNotFound(gp.attribute_name(attr))
        if attr & gp.TEE_ATTR_FLAG_VALUE:
            return self.value(attr)
        return self.octets(attr)

    def reset(self) -> None:
        """Forget the attributes and what the usage was restricted to."""
        if self.handle_flags & gp.TEE_HANDLE_FLAG_PERSISTENT:
            raise BadParameters("a persistent object")
        self.wipe()
        self.obj_size = 0
        self.obj_usage = gp.TEE_USAGE_DEFAULT
        self.handle_flags &= ~gp.TEE_HANDLE_FLAG_INITIALIZED

    def wipe(self) -> None:
        """Overwrite the attributes: they are all 0 now. Also of an object that is not used on."""
        for data in self._bytes.values():
            data[:] = bytes(len(data))
        self.prepared = None
        self._bytes.clear()
        curve = self._values.get(gp.TEE_ATTR_ECC_CURVE)
        self._values.clear()
        if curve is not None and self.obj_type in types.SM2_TYPES:
            self._values[gp.TEE_ATTR_ECC_CURVE] = curve

    def may_populate(self) -> TypeProps:
        """What :meth:`populate` checks before it looks at attributes.

        :raises BadParameters: the object is persistent, or initialized already.
        :raises NotImplementedByTee: it has no attributes.
        """
        if self.handle_flags & (gp.TEE_HANDLE_FLAG_PERSISTENT | gp.TEE_HANDLE_FLAG_INITIALIZED):
            raise BadParameters("the object is initialized, or persistent")
        if self.props is None:
            raise NotImplementedByTee("an object without attributes")
        return self.props

    def populate(self, attributes: Sequence[Attribute]) -> None:
        """Give a new object its attributes. Some of them may be there after an error, too.

        :raises ItemNotFound: attributes are missing, or one is there twice or has no place here.
        :raises BadState: one is longer than the object may be.
        :raises BadParameters: the size that one indicates is not one of the type's.
        :raises SecurityError: one has more bytes than there is room for, or not as many as it must.
        :raises OutOfMemory: a number has too many bytes.
        :raises NotSupported: there is no such curve.
        """
        props = self.may_populate()
        _check_attributes(props, attributes, types.REQUIRED, types.OPTIONAL_GROUP, True)
        self._take(props, attributes)
        self.handle_flags |= gp.TEE_HANDLE_FLAG_INITIALIZED

    def copy(self, source: "CryptObject") -> None:
        """Take over attributes, size and usage of another object of this type.

        A public key also takes them from a key pair.

        :raises BadParameters: the source is not initialized, this object is, or it is persistent;
            or the source has another type.
        """
        if not source.handle_flags & gp.TEE_HANDLE_FLAG_INITIALIZED:
            raise BadParameters("the source is not initialized")
        if self.handle_flags & (gp.TEE_HANDLE_FLAG_PERSISTENT | gp.TEE_HANDLE_FLAG_INITIALIZED):
            raise BadParameters("the object is initialized, or persistent")
        props = self.props
        if props is not None:
            if source.obj_type == self.obj_type:
                have_attrs = source.have_attrs
            elif types.PUBLIC_OF.get(self.obj_type) == source.obj_type:
                have_attrs = (1 << len(props.attrs)) - 1
            else:
                raise BadParameters(f"attributes of {gp.type_name(source.obj_type)}")
            for attr in props.attrs:
                if attr.kind == types.VALUE:
                    self._values[attr.id] = source._values.get(attr.id, 0)
                else:
                    self._put(attr.id, source._bytes.get(attr.id, b""))
            self.have_attrs = have_attrs
        self.handle_flags |= gp.TEE_HANDLE_FLAG_INITIALIZED
        self.obj_size = source.obj_size
        self.obj_usage = source.obj_usage

    def may_generate(self, key_size: int) -> TypeProps:
        """What :meth:`generate` checks before it looks at attributes.

        :raises BadState: the object is persistent, or initialized already.
        :raises NotSupported: it has no attributes, or its type has no keys of this size.
        """
        if self.handle_flags & (gp.TEE_HANDLE_FLAG_PERSISTENT | gp.TEE_HANDLE_FLAG_INITIALIZED):
            raise BadState("the object is initialized, or persistent")
        if self.props is None or not types.is_key_size(self.props, key_size):
            raise NotSupported(f"{gp.type_name(self.obj_type)} of {key_size} bits")
        return self.props

    def generate(self, key_size: int, attributes: Sequence[Attribute] = ()) -> None:
        """Make a new key. As in OP-TEE, it may be longer than the object was allocated for.

        :param key_size: in bits.
        :param attributes: that a key of this type needs or takes.
        :raises BadFormat: keys of this type are not generated.
        :raises ExcessData: there is no room for so long a key.
        :raises BadParameters: there is no such key.
        And what :meth:`populate` raises.
        """
        props = self.may_generate(key_size)
        _check_attributes(props, attributes, types.GEN_KEY_REQ, types.GEN_KEY_OPT, False)
        if self.is_secret:
            self._generate_secret(key_size)
        else:
            generate = GENERATE.get(self.obj_type)
            if generate is None:
                raise BadFormat(f"keys of {gp.type_name(self.obj_type)} are not generated")
            self._take(props, attributes)
            generate(self, key_size)
        self.obj_size = key_size
        self.handle_flags |= gp.TEE_HANDLE_FLAG_INITIALIZED

    # Attributes, in and out.

    def _put(self, attr: int, data: bytes | bytearray | memoryview) -> None:
        """Set an attribute that has bytes."""
        self.prepared = None
        old = self._bytes.get(attr)
        if old is not None:
            old[:] = bytes(len(old))
        self._bytes[attr] = bytearray(data)

    def set_number(self, attr: int, number: int) -> None:
        """Set a number that was made here."""
        assert self.props is not None
        self._put(attr, number.to_bytes((number.bit_length() + 7) // 8, "big"))
        self.have_attrs |= 1 << self.props.place[attr]

    def set_octets(self, attr: int, data: bytes) -> None:
        """Set a key of a fixed length that was made here."""
        assert self.props is not None
        self._put(attr, data)
        self.have_attrs |= 1 << self.props.place[attr]

    def _from_user(self, attr: TypeAttr, given: Attribute) -> int:
        """Set an attribute that was given; the size in bits that it indicates."""
        data = given.data
        size = len(data)
        kind = attr.kind
        if kind == types.VALUE:
            self._values[attr.id] = given.a & _U32
            return 0
        if kind == types.SECRET:
            if size > self.secret_size:
                raise SecurityError(f"{size} bytes of a secret")
        elif kind == types.OCTETS:
            if size != attr.size:
                raise SecurityError(f"{size} bytes of {gp.attribute_name(attr.id)}")
        else:
            if size > BOUNCE_BUFFER_SIZE:
                raise OutOfMemory(f"{size} bytes of {gp.attribute_name(attr.id)}")
            data = bytes(data).lstrip(b"\0")
        self._put(attr.id, data)
        return size * 8

    def _take(self, props: TypeProps, attributes: Sequence[Attribute]) -> None:
        """Set attributes whose presence has been checked; tee_svc_cryp_obj_populate_type()."""
        have_attrs = 0
        obj_size = 0
        legacy = types.is_gp_legacy_des_key_size(self.obj_type, self.max_obj_size)
        for given in attributes:
            index = props.place[given.id]
            attr = props.attrs[index]
            have_attrs |= 1 << index
            size = self._from_user(attr, given)
            if attr.flags & types.SIZE_INDICATOR:
                if attr.id == gp.TEE_ATTR_ECC_CURVE:
                    curve = types.CURVE_BITS.get(given.a & _U32)
                    if curve is None:
                        raise NotSupported(f"curve {given.a:#x}")
                    size = curve
                elif legacy:
                    size -= size // 8
                obj_size = size
                if size > self.max_obj_size:
                    raise BadState(f"{size} bits, and {self.max_obj_size} at most")
                if not types.is_key_size(props, size):
                    raise BadParameters(f"{gp.type_name(self.obj_type)} of {size} bits")
            if attr.flags & types.BIGNUM_MAXBITS:
                bits = self.number(attr.id).bit_length()
                if bits > self.max_obj_size:
                    raise BadState(f"{bits} bits, and {self.max_obj_size} at most")
        self.have_attrs = have_attrs
        # OP-TEE takes the parity bits off once more here.
        self.obj_size = obj_size - (obj_size // 8 if legacy else 0)

    # Attributes as a stored object has them: their order is that of the type.

    def to_binary(self) -> bytes:
        """All attributes, also those that it does not have; tee_obj_attr_to_binary()."""
        parts: list[bytes | bytearray] = []
        for attr in self.props.attrs if self.props is not None else ():
            if attr.kind == types.VALUE:
                parts.append(_BE32.pack(self._values.get(attr.id, 0)))
            else:
                data = self._bytes.get(attr.id, b"")
                parts += (_BE32.pack(len(data)), data)
        return b"".join(parts)

    def from_binary(self, data: bytes | memoryview) -> None:
        """Take over attributes from what :meth:`to_binary` gave; tee_obj_attr_from_binary().

        Which of them the object has, and whether it is initialized, is stored elsewhere.

        :raises CorruptObject: this is not such a thing, or not of this type.
        """
        offset = 0
        for attr in self.props.attrs if self.props is not None else ():
            if offset + _BE32.size > len(data):
                raise CorruptObject(f"{gp.attribute_name(attr.id)} is missing")
            (size,) = _BE32.unpack_from(data, offset)
            offset += _BE32.size
            if attr.kind == types.VALUE:
                self._values[attr.id] = size
                continue
            room = len(data) - offset
            if attr.kind == types.SECRET:
                room = min(room, self.secret_size)
            elif attr.kind == types.OCTETS:
                room = min(room, attr.size)
            if size > room:
                raise CorruptObject(f"{size} bytes of {gp.attribute_name(attr.id)}")
            part = bytes(data[offset : offset + size])
            offset += size
            if attr.kind == types.BIGNUM:
                part = part.lstrip(b"\0")
            elif attr.kind == types.OCTETS:
                part = part.ljust(attr.size, b"\0")
            self._put(attr.id, part)

    def _generate_secret(self, key_size: int) -> None:
        size = key_size // 8
        if types.is_gp_legacy_des_key_size(self.obj_type, key_size):
            size = (key_size + key_size // 7) // 8
        if size > self.secret_size:
            raise ExcessData(f"{size} bytes of a secret")
        self._put(gp.TEE_ATTR_SECRET_VALUE, os.urandom(size))
        self.have_attrs = 1


def _check_attributes(
    props: TypeProps, attributes: Sequence[Attribute], required: int, optional: int, whole: bool
) -> None:
    """Check which attributes are there; tee_svc_cryp_check_attr().

    :param whole: optional ones must be there all or not at all.
    :raises ItemNotFound: they are not those that this needs.
    """
    needed = 0
    allowed = 0
    for index, attr in enumerate(props.attrs):
        if attr.flags & required:
            needed |= 1 << index
        elif attr.flags & optional:
            allowed |= 1 << index
    found = 0
    for given in attributes:
        place = props.place.get(given.id)
        if place is None or found >> place & 1 or not (needed | allowed) >> place & 1:
            raise ItemNotFound(f"{gp.attribute_name(given.id)} here, or once more")
        found |= 1 << place
    if found & needed != needed:
        raise ItemNotFound("an attribute is missing")
    if whole and found & allowed not in (0, allowed):
        raise ItemNotFound("an optional attribute is missing")
