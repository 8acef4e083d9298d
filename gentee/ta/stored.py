# SPDX-License-Identifier: BSD-2-Clause
"""Persistent objects, seen from a TA's process (gentee.secure.storage.service).

Bytes travel in the call window, at whose start attributes are, then data. Each method is one
request, and done when it returns; what the TEE answers is raised as a TeeError.
"""

from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_ERROR_SHORT_BUFFER, TEE_SUCCESS
from gentee.abi.gp_crypto import TEE_HANDLE_FLAG_INITIALIZED, TEE_HANDLE_FLAG_PERSISTENT
from gentee.abi.gp_storage import (
    TEE_DATA_FLAG_ACCESS_READ,
    TEE_DATA_FLAG_ACCESS_WRITE,
    TEE_DATA_FLAG_ACCESS_WRITE_META,
    TEE_DATA_FLAG_SHARE_READ,
    TEE_DATA_FLAG_SHARE_WRITE,
    TEE_OBJECT_ID_MAX_LEN,
)
from gentee.crypto.objects import CryptObject
from gentee.errors import OutOfMemory, StorageNoSpace, TeeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.requests import Channel

_U32 = 0xFFFF_FFFF
_SHARED = TEE_DATA_FLAG_SHARE_READ | TEE_DATA_FLAG_SHARE_WRITE
_ACCESS = TEE_DATA_FLAG_ACCESS_READ | TEE_DATA_FLAG_ACCESS_WRITE | TEE_DATA_FLAG_ACCESS_WRITE_META
_STORED = TEE_HANDLE_FLAG_PERSISTENT | TEE_HANDLE_FLAG_INITIALIZED


class Stored:
    """Where a persistent object is kept: CryptObject.stored.

    :ivar storage: TEE_STORAGE_* as it was opened.
    :ivar is_shared: whether somebody else can have it open, who may restrict its usage.
    """

    __slots__ = ("_handle", "_requests", "is_shared", "storage")

    def __init__(self, requests: "StorageRequests", handle: int, storage: int, flags: int) -> None:
        self._requests = requests
        self._handle = handle
        self.storage = storage
        self.is_shared = flags & _SHARED != 0 or not flags & _ACCESS

    def _ask(self, code: int) -> None:
        self._requests.channel[ch.S_HANDLE] = self._handle
        self._requests.ask(code)

    def close(self) -> None:
        """Give the handle back."""
        self._ask(ch.RQ_STORAGE_CLOSE)

    def delete(self) -> None:
        """Delete what has the name now; the handle stays."""
        self._ask(ch.RQ_STORAGE_DELETE)

    def rename(self, name: bytes) -> None:
        self._requests.put_name(name)
        self._ask(ch.RQ_STORAGE_RENAME)

    def read(self, position: int, size: int) -> memoryview:
        """Data, as much as there is; valid until the next request of any kind."""
        channel = self._requests.channel
        while True:
            channel[ch.S_HANDLE] = self._handle
            channel[ch.S_POSITION] = position
            channel[ch.S_LENGTH] = size
            if self._requests.try_to(ch.RQ_STORAGE_READ):
                break
        count = channel[ch.S_LENGTH]
        return self._requests.window(count)[:count] if count else memoryview(b"")

    def write(self, position: int, data: "bytes | memoryview") -> None:
        channel = self._requests.channel
        if len(data):
            self._requests.window(len(data))[: len(data)] = data
        channel[ch.S_POSITION] = position
        channel[ch.S_LENGTH] = len(data)
        self._ask(ch.RQ_STORAGE_WRITE)

    def truncate(self, size: int) -> None:
        self._requests.channel[ch.S_POSITION] = size
        self._ask(ch.RQ_STORAGE_TRUNCATE)

    def usage(self) -> int:
        """What the usage is now, whoever restricted it."""
        self._ask(ch.RQ_STORAGE_GET_USAGE)
        return self._requests.channel[ch.S_USAGE] & _U32

    def restrict_usage(self, usage: int) -> int:
        """Take away what is not in ``usage``; what it is then."""
        self._requests.channel[ch.S_USAGE] = usage
        self._ask(ch.RQ_STORAGE_SET_USAGE)
        return self._requests.channel[ch.S_USAGE] & _U32


class Found:
    """What the TEE says that an object is.

    :ivar flags: TEE_DATA_FLAG_* that somebody has it open with.
    """

    def __init__(self, requests: "StorageRequests") -> None:
        channel = requests.channel
        size, attrs = channel[ch.S_SIZE], channel[ch.S_ATTRS]
        self.handle = channel[ch.S_HANDLE]
        self.flags = channel[ch.S_FLAGS] & _U32
        self.name = requests.get_name()
        self.obj_type = channel[ch.S_TYPE] & _U32
        self.obj_size, self.max_obj_size = size & _U32, size >> 32
        self.obj_usage = channel[ch.S_USAGE] & _U32
        self.have_attrs = attrs & _U32
        self.data_size = channel[ch.S_DATA_SIZE]
        attrs_size = attrs >> 32
        self.attrs = bytes(requests.window(attrs_size)[:attrs_size]) if attrs_size else b""

    def object(self, flags: int) -> CryptObject:
        """Make it an object; tee_svc_storage_read_head().

        :raises NotSupported: there is no such type, or not with this size.
        :raises CorruptObject: the attributes are not those of an object of this type.
        """
        made = CryptObject(self.obj_type, self.max_obj_size)
        made.from_binary(self.attrs)
        made.data_size = self.data_size
        made.obj_size = self.obj_size
        made.obj_usage = self.obj_usage
        made.have_attrs = self.have_attrs
        made.handle_flags = _STORED | flags
        return made


class StorageRequests:
    """Requests that open or find objects."""

    def __init__(self, channel: "Channel") -> None:
        self.channel = channel

    def window(self, size: int) -> memoryview:
        """The call window. It may be asked for: words of the block are put there after that.

        :raises StorageNoSpace: the TEE does not lend so much.
        """
        window = self.channel.window(size)
        if window is None:
            raise StorageNoSpace(f"{size} bytes in one request")
        return window

    def ask(self, code: int) -> None:
        result = self.channel.ask(code)
        if result != TEE_SUCCESS:
            raise TeeError.from_code(result)

    def try_to(self, code: int) -> bool:
        """Make a request; False if the window was too small, and is not now."""
        result = self.channel.ask(code)
        if result == TEE_ERROR_SHORT_BUFFER:
            if self.channel.window(self.channel[ch.S_LENGTH]) is None:
                raise OutOfMemory("no call window")
            return False
        if result != TEE_SUCCESS:
            raise TeeError.from_code(result)
        return True

    def put_name(self, name: bytes) -> None:
        channel = self.channel
        padded = name.ljust(TEE_OBJECT_ID_MAX_LEN, b"\0")
        channel[ch.S_ID_SIZE] = len(name)
        for index in range(TEE_OBJECT_ID_MAX_LEN // 8):
            part = padded[8 * index : 8 * index + 8]
            channel[ch.S_ID + index] = int.from_bytes(part, "little")

    def get_name(self) -> bytes:
        channel = self.channel
        words = (channel[ch.S_ID + index] for index in range(TEE_OBJECT_ID_MAX_LEN // 8))
        name = b"".join(word.to_bytes(8, "little") for word in words)
        return name[: channel[ch.S_ID_SIZE]]

    def open(self, storage: int, name: bytes, flags: int) -> tuple[Found, Stored]:
        """TEE_OpenPersistentObject: what it is, and a handle.

        :raises ItemNotFound: there is no such object, or no such storage.
        :raises AccessConflict: others have it open.
        :raises CorruptObject: it is damaged, and was deleted.
        """
        while True:
            self._put(storage, name, flags)
            if self.try_to(ch.RQ_STORAGE_OPEN):
                found = Found(self)
                return found, Stored(self, found.handle, storage, flags)

    def create(
        self, storage: int, name: bytes, flags: int, what: CryptObject, usage: int,
        data: "bytes | memoryview", *, creating: bool = False,
    ) -> Stored:  # fmt: skip
        """TEE_CreatePersistentObject: a handle of the new object.

        :param what: of which it gets type, sizes and attributes.
        :param creating: nobody else can open it as long as this handle is open.
        :raises AccessConflict: there is one, or others have it open.
        :raises StorageNoSpace: it does not fit.
        """
        attrs = what.to_binary()
        if len(attrs) > ch.MAX_ATTRS:
            raise StorageNoSpace(f"{len(attrs)} bytes of attributes")
        size = len(attrs) + len(data)
        if size:
            window = self.window(size)
            window[: len(attrs)] = attrs
            window[len(attrs) : size] = data
        self._put(storage, name, flags | (ch.S_CREATING if creating else 0))
        channel = self.channel
        channel[ch.S_TYPE] = what.obj_type
        channel[ch.S_SIZE] = what.obj_size | what.max_obj_size << 32
        channel[ch.S_USAGE] = usage
        channel[ch.S_ATTRS] = what.have_attrs | len(attrs) << 32
        channel[ch.S_LENGTH] = len(data)
        self.ask(ch.RQ_STORAGE_CREATE)
        return Stored(self, channel[ch.S_HANDLE], storage, flags)

    def may_create(self, storage: int, name: bytes, flags: int) -> None:
        """Whether others have the name open: AccessConflict. Nothing is made."""
        self._put(storage, name, flags | ch.S_PROBE)
        self.channel[ch.S_ATTRS] = self.channel[ch.S_LENGTH] = 0
        self.ask(ch.RQ_STORAGE_CREATE)

    def _put(self, storage: int, name: bytes, flags: int) -> None:
        self.channel[ch.S_STORAGE] = storage
        self.channel[ch.S_FLAGS] = flags
        self.put_name(name)

    # Enumerations have numbers of the TA's choice.

    def start_enum(self, number: int, storage: int) -> None:
        """TEE_StartPersistentObjectEnumerator; ItemNotFound if there are no objects."""
        self.channel[ch.S_HANDLE] = number
        self.channel[ch.S_STORAGE] = storage
        self.ask(ch.RQ_STORAGE_START_ENUM)

    def next_enum(self, number: int) -> Found:
        """TEE_GetNextPersistentObject.

        :raises ItemNotFound: there are no more, or it was not started.
        :raises CorruptObject: the next one is damaged. The one after it follows.
        """
        while True:
            self.channel[ch.S_HANDLE] = number
            if self.try_to(ch.RQ_STORAGE_NEXT_ENUM):
                return Found(self)

    def stop_enum(self, number: int) -> None:
        self.channel[ch.S_HANDLE] = number
        self.ask(ch.RQ_STORAGE_STOP_ENUM)
