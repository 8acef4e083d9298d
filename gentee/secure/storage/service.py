# SPDX-License-Identifier: BSD-2-Clause
"""Requests for trusted storage: what is left of OP-TEE core/tee/tee_svc_storage.c in the TEE.

The system calls with their checks are in the process of the TA (gentee.ta.svc.storage). Here is
what TAs share: the objects, and who has which of them open. An instance reaches only objects of its
own TA, whatever it asks for; which of its handles may be used how is its own affair.

Everything here is done by one thread at a time (:mod:`gentee.secure.storage.door`), which may wait
for the disk.

What an instance has open is released when its process has ended. Its client may have been told
before that the session is closed: OP-TEE has closed everything by then. So who wants an object that
an instance about to end has open waits for that.
"""

import contextlib
from functools import partial

from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_ERROR_SHORT_BUFFER, TEE_SUCCESS
from gentee.abi.gp_storage import TEE_DATA_FLAG_ACCESS_WRITE_META, TEE_DATA_FLAG_OVERWRITE
from gentee.abi.gp_storage import TEE_OBJECT_ID_MAX_LEN as MAX_NAME
from gentee.errors import (
    BadParameters,
    BadState,
    CorruptObject,
    ItemNotFound,
    OutOfMemory,
    StorageNotAvailable,
    TeeError,
)
from gentee.secure.storage.handles import (
    CREATE,
    MAX_ENUMERATIONS,
    MAX_HANDLES,
    OPEN,
    RENAME,
    Conflict,
    Enumeration,
    Handle,
    Owner,
    Pobj,
    Pobjs,
)
from gentee.secure.storage.head import Head, ObjectType
from gentee.secure.storage.store import AREAS, RPMB, ObjectStore, StoredObject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gentee.core.host import Host
    from gentee.secure.instance import Instance
    from gentee.secure.nested import NestedCalls
    from gentee.secure.requests import Request
    from gentee.secure.state import State
    from gentee.secure.storage.door import StorageDoor

    Words = tuple[tuple[int, int], ...]
    Handler = Callable[["Storage", Owner, Request], Words]

_U32 = 0xFFFF_FFFF
_NO_MORE = (1 << 63) - 1  # a slot that none is behind


class _ShortWindow(Exception):
    """The call window must have ``size`` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class _Later(Exception):
    """The request is done when another instance has ended."""


class Storage:
    """Trusted storage of one TEE.

    :param door: whose thread this is.
    :param state: gives where it is kept, when it is needed.
    """

    def __init__(
        self,
        host: "Host",
        door: "StorageDoor",
        state: "Callable[[], State]",
        nested: "NestedCalls",
    ) -> None:
        self._host = host
        self._door = door
        self._nested = nested
        self._store = ObjectStore(state)
        self._pobjs = Pobjs()
        self._told = ""

    def serve(self, request: "Request", code: int) -> None:
        """Answer a request, RQ_STORAGE_*."""
        instance = request.instance
        instance.awaited = None
        if instance.dead:
            return  # and what it has open was released, or will be
        owner = instance.storage
        if owner is None:
            owner = instance.storage = Owner(instance)
        try:
            words = _HANDLERS[code](self, owner, request)
        except _Later:
            return
        except _ShortWindow as error:
            request.reply(TEE_ERROR_SHORT_BUFFER, (ch.S_LENGTH, error.size))
        except StorageNotAvailable as error:
            self._tell(error)
            request.fail(error)
        except TeeError as error:
            request.fail(error)
        except BaseException:
            request.fail(StorageNotAvailable("a bug"))
            raise
        else:
            request.reply(TEE_SUCCESS, *words)

    def _tell(self, error: StorageNotAvailable) -> None:
        """The person at the terminal is told once, and again where it is something else."""
        if error.detail != self._told:
            self._told = error.detail
            self._host.warn(f"trusted storage cannot be used: {error.detail}")

    # Instances that end

    def release(self, instance: "Instance") -> None:
        """An instance has ended."""
        owner = instance.storage
        if owner is not None:
            owner.enumerations.clear()
            while owner.handles:
                self._close(owner.handles.popitem()[1])

    def _close(self, handle: Handle) -> None:
        stored = handle.stored
        self._pobjs.release(handle.pobj, handle)
        if stored.lookup is None and not stored.opens and not stored.deleted:
            stored.deleted = True
            # What cannot be deleted now is when the state is opened next.
            with contextlib.suppress(TeeError):
                self._store.forget(stored)

    def _reserve(
        self, request: "Request", code: int, area: int, name: bytes, flags: int, usage: int
    ) -> Pobj:
        """tee_pobj_get(). Instances that are gone, or about to go, are not in the way.

        :raises _Later: the request is done again when one of them has ended.
        """
        waiter = request.instance
        while True:
            try:
                return self._pobjs.get(area, waiter.service.uuid, name, flags, usage)
            except Conflict as conflict:
                others = {handle.owner.instance for handle in conflict.pobj.handles}
                dead = [other for other in others if other.dead]
                for other in dead:
                    self.release(other)
                if dead:
                    continue
                for other in others - {waiter}:
                    if other.ending and self._nested.await_end(waiter, other):
                        again = partial(self._door.again, request, code)
                        if not other.start_after(again):
                            again()
                        raise _Later from None
                raise

    # For the operator

    @property
    def objects(self) -> ObjectStore:
        """The objects of this TEE."""
        return self._store

    def wipe(self, row: int) -> None:
        """Delete an object. Who has it open finds that another one deleted it."""
        open_ = [
            handle
            for pobj in self._pobjs.all()
            for handle in pobj.handles
            if handle.stored.row == row
        ]
        self._store.delete_row(row, keep=bool(open_))
        for handle in open_:
            handle.stored.lookup = None

    # Requests

    def _open(self, owner: Owner, request: "Request") -> "Words":
        area, name = _area(request), _name(request)
        ta = request.instance.service.uuid
        flags = request.word(ch.S_FLAGS) & _U32
        pobj = self._reserve(request, ch.RQ_STORAGE_OPEN, area, name, flags, OPEN)
        try:
            stored = pobj.stored
            if stored is None:
                try:
                    stored = self._store.find(area, ta, name)
                except CorruptObject:
                    # remove_corrupt_obj()
                    with contextlib.suppress(TeeError):
                        self._store.delete(area, ta, name, keep=bool(pobj.handles))
                    raise
            words = _what(request, stored.head)
            number = _new_handle(owner)
        except BaseException:
            self._pobjs.release(pobj)
            raise
        pobj.usage = stored.head.kind.obj_usage
        owner.handles[number] = Handle(owner, pobj, stored, flags)
        return ((ch.S_HANDLE, number), *words)

    def _create(self, owner: Owner, request: "Request") -> "Words":
        area, name = _area(request), _name(request)
        ta = request.instance.service.uuid
        flags = request.word(ch.S_FLAGS)
        kind, data = _given(request)
        pobj = self._reserve(request, ch.RQ_STORAGE_CREATE, area, name, flags & _U32, CREATE)
        try:
            if flags & ch.S_PROBE:
                self._pobjs.release(pobj)
                return ()
            number = _new_handle(owner)
            old = pobj.stored
            stored = self._store.create(
                area,
                ta,
                name,
                kind,
                memoryview(data),
                overwrite=flags & TEE_DATA_FLAG_OVERWRITE != 0,
                keep=old is not None,
            )
        except BaseException:
            self._pobjs.release(pobj)
            raise
        if old is not None:
            old.lookup = None
        pobj.usage = kind.obj_usage
        if not flags & ch.S_CREATING:
            pobj.creating = False
        owner.handles[number] = Handle(owner, pobj, stored, flags & _U32)
        return ((ch.S_HANDLE, number),)

    def _close_handle(self, owner: Owner, request: "Request") -> "Words":
        self._close(_handle(owner, request))
        del owner.handles[request.word(ch.S_HANDLE)]
        return ()

    def _delete(self, owner: Owner, request: "Request") -> "Words":
        handle = _handle(owner, request)
        pobj, mine = handle.pobj, handle.stored
        stored = pobj.stored
        keep = stored is not None and stored.opens > (1 if stored is mine else 0)
        self._store.delete(pobj.area, pobj.ta, pobj.name, keep=keep)
        if stored is not None:
            stored.lookup = None
            stored.deleted = not keep
        return ()

    def _rename(self, owner: Owner, request: "Request") -> "Words":
        handle, name = _handle(owner, request), _name(request)
        if not handle.flags & TEE_DATA_FLAG_ACCESS_WRITE_META:
            raise BadState("a handle that may not rename")
        flags = TEE_DATA_FLAG_ACCESS_WRITE_META
        area = handle.pobj.area
        reserved = self._reserve(request, ch.RQ_STORAGE_RENAME, area, name, flags, RENAME)
        try:
            self._store.rename(_there(handle), name)
        except BaseException:
            self._pobjs.release(reserved)
            raise
        self._pobjs.rename(handle.pobj, reserved)
        return ()

    def _read(self, owner: Owner, request: "Request") -> "Words":
        stored = _there(_handle(owner, request))
        position = request.word(ch.S_POSITION)
        left = max(stored.head.data_size - position, 0)
        size = min(request.word(ch.S_LENGTH), left, ch.MAX_CALL_WINDOW)
        size = self._store.read(stored, position, _window(request, size))
        return ((ch.S_LENGTH, size),)

    def _write(self, owner: Owner, request: "Request") -> "Words":
        stored = _there(_handle(owner, request))
        data = bytes(_window(request, request.word(ch.S_LENGTH)))
        self._store.write(stored, request.word(ch.S_POSITION), memoryview(data))
        return ()

    def _truncate(self, owner: Owner, request: "Request") -> "Words":
        self._store.truncate(_there(_handle(owner, request)), request.word(ch.S_POSITION))
        return ()

    def _get_usage(self, owner: Owner, request: "Request") -> "Words":
        return ((ch.S_USAGE, _handle(owner, request).pobj.usage),)

    def _set_usage(self, owner: Owner, request: "Request") -> "Words":
        """What is not in the one that is given is taken away."""
        handle = _handle(owner, request)
        stored = _there(handle)
        usage = handle.pobj.usage & request.word(ch.S_USAGE)
        if usage != stored.head.kind.obj_usage:
            self._store.set_usage(stored, usage)
        handle.pobj.usage = usage
        return ((ch.S_USAGE, usage),)

    def _start_enum(self, owner: Owner, request: "Request") -> "Words":
        number = request.word(ch.S_HANDLE)
        owner.enumerations.pop(number, None)
        area, ta = _area(request), request.instance.service.uuid
        if len(owner.enumerations) >= MAX_ENUMERATIONS:
            raise OutOfMemory(f"{MAX_ENUMERATIONS} enumerations")
        lookups: list[bytes] = []
        if area == RPMB:
            lookups = self._store.lookups(area, ta)
        if not lookups and (area == RPMB or self._store.after(area, ta, -1) is None):
            raise ItemNotFound("no objects")
        owner.enumerations[number] = Enumeration(area, lookups)
        return ()

    def _next_enum(self, owner: Owner, request: "Request") -> "Words":
        enumeration = owner.enumerations.get(request.word(ch.S_HANDLE))
        if enumeration is None:
            raise ItemNotFound("an enumeration that was not started")
        area, ta = enumeration.area, request.instance.service.uuid
        slot, lookups = enumeration.slot, enumeration.lookups
        if area == RPMB:
            if not lookups:
                raise ItemNotFound("no more objects")
            lookup = lookups[0]
            enumeration.lookups = lookups[1:]
        else:
            try:
                found = self._store.after(area, ta, slot)
            except CorruptObject:
                enumeration.slot = _NO_MORE
                raise
            if found is None:
                raise ItemNotFound("no more objects")
            enumeration.slot, lookup = found
        head = self._store.at(area, ta, lookup).head
        try:
            words = _what(request, head)
        except _ShortWindow:
            enumeration.slot, enumeration.lookups = slot, lookups
            raise
        pobj = self._pobjs.find(area, ta, head.name)
        name = head.name.ljust(MAX_NAME, b"\0")
        return (
            *words,
            (ch.S_FLAGS, pobj.flags if pobj is not None else 0),
            (ch.S_ID_SIZE, len(head.name)),
            *(
                (ch.S_ID + index, int.from_bytes(name[8 * index : 8 * index + 8], "little"))
                for index in range(MAX_NAME // 8)
            ),
        )

    def _stop_enum(self, owner: Owner, request: "Request") -> "Words":
        owner.enumerations.pop(request.word(ch.S_HANDLE), None)
        return ()


_HANDLERS: "dict[int, Handler]" = {
    ch.RQ_STORAGE_OPEN: Storage._open,
    ch.RQ_STORAGE_CREATE: Storage._create,
    ch.RQ_STORAGE_CLOSE: Storage._close_handle,
    ch.RQ_STORAGE_DELETE: Storage._delete,
    ch.RQ_STORAGE_RENAME: Storage._rename,
    ch.RQ_STORAGE_READ: Storage._read,
    ch.RQ_STORAGE_WRITE: Storage._write,
    ch.RQ_STORAGE_TRUNCATE: Storage._truncate,
    ch.RQ_STORAGE_GET_USAGE: Storage._get_usage,
    ch.RQ_STORAGE_SET_USAGE: Storage._set_usage,
    ch.RQ_STORAGE_START_ENUM: Storage._start_enum,
    ch.RQ_STORAGE_NEXT_ENUM: Storage._next_enum,
    ch.RQ_STORAGE_STOP_ENUM: Storage._stop_enum,
}


def _area(request: "Request") -> int:
    area = AREAS.get(request.word(ch.S_STORAGE))
    if area is None:
        raise ItemNotFound("no such storage")
    return area


def _name(request: "Request") -> bytes:
    size = request.word(ch.S_ID_SIZE)
    if size > MAX_NAME:
        raise BadParameters("the identifier is too long")
    words = (request.word(ch.S_ID + index) for index in range(MAX_NAME // 8))
    return b"".join(word.to_bytes(8, "little") for word in words)[:size]


def _handle(owner: Owner, request: "Request") -> Handle:
    handle = owner.handles.get(request.word(ch.S_HANDLE))
    if handle is None:
        raise BadParameters("no such handle")
    return handle


def _there(handle: Handle) -> StoredObject:
    if handle.stored.deleted:
        raise CorruptObject("it was deleted")
    return handle.stored


def _new_handle(owner: Owner) -> int:
    if len(owner.handles) >= MAX_HANDLES:
        raise OutOfMemory(f"{MAX_HANDLES} handles")
    owner.last_handle += 1
    return owner.last_handle


def _window(request: "Request", size: int) -> memoryview:
    """The first bytes of the call window."""
    if not size:
        return memoryview(bytearray())
    window = request.instance.call_window
    if window is None or size > window.size:
        raise _ShortWindow(size)
    return window.view(0, size)


def _what(request: "Request", head: Head) -> "Words":
    """What an object is, in words; its attributes are put into the window."""
    kind = head.kind
    _window(request, len(kind.attrs))[:] = kind.attrs
    return (
        (ch.S_TYPE, kind.obj_type),
        (ch.S_SIZE, kind.obj_size | kind.max_obj_size << 32),
        (ch.S_USAGE, kind.obj_usage),
        (ch.S_ATTRS, kind.have_attrs | len(kind.attrs) << 32),
        (ch.S_DATA_SIZE, head.data_size),
    )


def _given(request: "Request") -> tuple[ObjectType, bytes]:
    """What the object is that shall be made, and its data: a copy."""
    size = request.word(ch.S_SIZE)
    attrs = request.word(ch.S_ATTRS)
    attrs_size = attrs >> 32
    if attrs_size > ch.MAX_ATTRS:
        raise OutOfMemory(f"{attrs_size} bytes of attributes")
    content = bytes(_window(request, attrs_size + request.word(ch.S_LENGTH)))
    kind = ObjectType(
        request.word(ch.S_TYPE) & _U32,
        size & _U32,
        size >> 32,
        request.word(ch.S_USAGE) & _U32,
        attrs & _U32,
        content[:attrs_size],
    )
    return kind, content[attrs_size:]
