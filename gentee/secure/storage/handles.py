# SPDX-License-Identifier: BSD-2-Clause
"""Who has which object open, and how: OP-TEE core/tee/tee_pobj.c.

Of each name that somebody has open there is one :class:`Pobj`, whichever instances have it. The
flags that it was opened with first say how others may open it. One thread at a time uses this.
"""

from gentee.abi.gp_storage import (
    TEE_DATA_FLAG_ACCESS_READ,
    TEE_DATA_FLAG_ACCESS_WRITE,
    TEE_DATA_FLAG_ACCESS_WRITE_META,
    TEE_DATA_FLAG_OVERWRITE,
    TEE_DATA_FLAG_SHARE_READ,
    TEE_DATA_FLAG_SHARE_WRITE,
)
from gentee.errors import AccessConflict, BadState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.secure.instance import Instance
    from gentee.secure.storage.store import StoredObject

# enum tee_pobj_usage, but for that of enumerations, which are done before anybody sees them
OPEN, RENAME, CREATE = range(3)

# Of one instance:
MAX_HANDLES = 4096
MAX_ENUMERATIONS = 256


class Conflict(AccessConflict):
    """Other handles are in the way.

    :ivar pobj: theirs.
    """

    def __init__(self, detail: str, pobj: "Pobj") -> None:
        super().__init__(detail)
        self.pobj = pobj


class Pobj:
    """An object that somebody has open, by its name.

    :ivar flags: TEE_DATA_FLAG_* of who opened it first.
    :ivar usage: TEE_USAGE_* of the object, which all handles share.
    :ivar creating: nobody else opens it.
    :ivar refs: handles that it has, and names that are reserved.
    """

    __slots__ = ("area", "creating", "flags", "handles", "name", "refs", "ta", "usage")

    def __init__(self, area: int, ta: bytes, name: bytes, flags: int) -> None:
        self.area = area
        self.ta = ta
        self.name = name
        self.flags = flags
        self.usage = 0
        self.creating = False
        self.refs = 1
        self.handles: set[Handle] = set()

    @property
    def stored(self) -> "StoredObject | None":
        """What has this name now, if one of the handles is open on it."""
        for handle in self.handles:
            if handle.stored.lookup is not None:
                return handle.stored
        return None


class Handle:
    """An open object.

    :ivar stored: what was opened. In the meantime another one may have its name.
    """

    __slots__ = ("flags", "owner", "pobj", "stored")

    def __init__(self, owner: "Owner", pobj: Pobj, stored: "StoredObject", flags: int) -> None:
        self.owner = owner
        self.pobj = pobj
        self.stored = stored
        self.flags = flags
        pobj.handles.add(self)
        stored.opens += 1


class Enumeration:
    """An enumeration that was started.

    :ivar slot: of the last object that it gave, in the area REE.
    :ivar lookups: in the RPMB, of the objects that there were at its start and that are to come.
    """

    __slots__ = ("area", "lookups", "slot")

    def __init__(self, area: int, lookups: list[bytes]) -> None:
        self.area = area
        self.slot = -1
        self.lookups = lookups


class Owner:
    """What an instance has open."""

    __slots__ = ("enumerations", "handles", "instance", "last_handle")

    def __init__(self, instance: "Instance") -> None:
        self.instance = instance
        self.handles: dict[int, Handle] = {}
        self.enumerations: dict[int, Enumeration] = {}
        self.last_handle = 0


class Pobjs:
    """All objects that anybody has open."""

    def __init__(self) -> None:
        self._pobjs: dict[tuple[int, bytes, bytes], Pobj] = {}

    def all(self) -> list[Pobj]:
        """Those that somebody has open."""
        return list(self._pobjs.values())

    def find(self, area: int, ta: bytes, name: bytes) -> Pobj | None:
        """The one of a name, if somebody has it open."""
        return self._pobjs.get((area, ta, name))

    def get(self, area: int, ta: bytes, name: bytes, flags: int, usage: int) -> Pobj:
        """One handle more for a name; tee_pobj_get().

        :raises Conflict: other handles are in the way.
        """
        pobj = self._pobjs.get((area, ta, name))
        if pobj is None:
            pobj = self._pobjs[area, ta, name] = Pobj(area, ta, name, flags)
            pobj.creating = usage == CREATE
            return pobj
        if pobj.creating or (usage == CREATE and not flags & TEE_DATA_FLAG_OVERWRITE):
            raise Conflict("it is open", pobj)
        if not may_share(pobj.flags, flags):
            raise Conflict("it is open, and not to be shared so", pobj)
        pobj.refs += 1
        return pobj

    def release(self, pobj: Pobj, handle: Handle | None = None) -> None:
        """One handle less; tee_pobj_release()."""
        if handle is not None:
            pobj.handles.discard(handle)
            handle.stored.opens -= 1
        pobj.refs -= 1
        if not pobj.refs:
            del self._pobjs[pobj.area, pobj.ta, pobj.name]

    def rename(self, pobj: Pobj, reserved: Pobj) -> None:
        """Give an object the name of ``reserved``, which is released; tee_pobj_rename().

        :raises BadState: somebody else has it open, too.
        """
        name = reserved.name
        self.release(reserved)
        if pobj.refs != 1:
            raise BadState("others have it open")
        del self._pobjs[pobj.area, pobj.ta, pobj.name]
        pobj.name = name
        self._pobjs[pobj.area, pobj.ta, name] = pobj


def may_share(old: int, new: int) -> bool:
    """Whether handles with these flags can be open at once; tee_pobj_check_access()."""
    either, both = old | new, old & new
    if either & TEE_DATA_FLAG_ACCESS_WRITE_META:
        return False
    for access, share in (
        (TEE_DATA_FLAG_ACCESS_READ, TEE_DATA_FLAG_SHARE_READ),
        (TEE_DATA_FLAG_ACCESS_WRITE, TEE_DATA_FLAG_SHARE_WRITE),
    ):
        if either & access and not both & share:
            return False
        if (old ^ new) & share:
            return False
    return True
