# SPDX-License-Identifier: BSD-2-Clause
"""The head of a stored object: what is known of it besides its data.

It is sealed as a whole, and written with every change. In it is what struct tee_svc_storage_head of
OP-TEE has, the name, and which chunks of data are current (:mod:`gentee.secure.storage.content`).
"""

from array import array
from struct import Struct

from gentee.abi.gp_storage import TEE_OBJECT_ID_MAX_LEN
from gentee.abi.ta_channel import MAX_ATTRS
from gentee.errors import CorruptObject

_FORMAT = 1
# format, levels, bytes of the name and of the attributes; obj_type, obj_size, max_obj_size,
# obj_usage, have_attrs; data_size, version, created, changed
_HEAD = Struct("<BBHI5I4Q")
_VERSION = 8  # bytes of one

OPTEE_HEAD_SIZE = 24  # sizeof(struct tee_svc_storage_head): what it is in OP-TEE's files


class ObjectType:
    """What an object is, as its TA says: nothing here understands it.

    :ivar attrs: attributes, as tee_obj_attr_to_binary() gives them.
    """

    __slots__ = ("attrs", "have_attrs", "max_obj_size", "obj_size", "obj_type", "obj_usage")

    def __init__(
        self,
        obj_type: int,
        obj_size: int = 0,
        max_obj_size: int = 0,
        obj_usage: int = 0xFFFF_FFFF,
        have_attrs: int = 0,
        attrs: bytes = b"",
    ) -> None:
        self.obj_type = obj_type
        self.obj_size = obj_size
        self.max_obj_size = max_obj_size
        self.obj_usage = obj_usage
        self.have_attrs = have_attrs
        self.attrs = attrs


class Head:
    """A head.

    :ivar data_size: bytes of the data stream.
    :ivar version: of the object: each change has a higher one.
    :ivar created: when it was made, and ``changed`` last; seconds, Unix time.
    :ivar levels: how far chunks are away: 0 if ``versions`` is of chunks, 1 if it is of nodes.
    :ivar versions: of each chunk or node the version of the object that wrote it, 0 if there is
        none.
    """

    __slots__ = (
        "changed", "created", "data_size", "kind", "levels", "name", "version", "versions",
    )  # fmt: skip

    def __init__(self, name: bytes, kind: ObjectType, created: int) -> None:
        self.name = name
        self.kind = kind
        self.data_size = 0
        self.version = 0
        self.created = self.changed = created
        self.levels = 0
        self.versions = array("Q")

    def copy(self) -> "Head":
        """A head that can be changed without changing this one."""
        other = Head(self.name, self.kind, self.created)
        other.data_size = self.data_size
        other.version = self.version
        other.changed = self.changed
        other.levels = self.levels
        other.versions = self.versions[:]
        return other

    @property
    def optee_size(self) -> int:
        """Bytes of the file that OP-TEE would have for it."""
        return OPTEE_HEAD_SIZE + len(self.kind.attrs) + self.data_size

    def encode(self) -> bytes:
        kind = self.kind
        fixed = _HEAD.pack(
            _FORMAT,
            self.levels,
            len(self.name),
            len(kind.attrs),
            kind.obj_type,
            kind.obj_size,
            kind.max_obj_size,
            kind.obj_usage,
            kind.have_attrs,
            self.data_size,
            self.version,
            self.created,
            self.changed,
        )
        return b"".join((fixed, self.name, kind.attrs, self.versions.tobytes()))

    @staticmethod
    def decode(data: bytes) -> "Head":
        """The head of bytes whose seal holds; CorruptObject if they are none."""
        if len(data) < _HEAD.size:
            raise CorruptObject("a head that is too short")
        (
            format_, levels, name_size, attrs_size, obj_type, obj_size, max_obj_size, obj_usage,
            have_attrs, data_size, version, created, changed,
        ) = _HEAD.unpack_from(data)  # fmt: skip
        if format_ != _FORMAT or levels > 1:
            raise CorruptObject(f"a head of format {format_}")
        attrs_at = _HEAD.size + name_size
        versions_at = attrs_at + attrs_size
        if (
            name_size > TEE_OBJECT_ID_MAX_LEN
            or attrs_size > MAX_ATTRS
            or versions_at > len(data)
            or (len(data) - versions_at) % _VERSION
        ):
            raise CorruptObject("a head of the wrong size")
        kind = ObjectType(
            obj_type, obj_size, max_obj_size, obj_usage, have_attrs, data[attrs_at:versions_at]
        )
        head = Head(data[_HEAD.size : attrs_at], kind, created)
        head.data_size = data_size
        head.version = version
        head.changed = changed
        head.levels = levels
        head.versions.frombytes(data[versions_at:])
        return head
