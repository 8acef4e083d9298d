# SPDX-License-Identifier: BSD-2-Clause
"""A script of storage operations, and what there is after each of them.

The same operations every time: they are drawn from a generator with a fixed seed. What there is
after each is kept in a plain table, which knows nothing of the store.
"""

import random
from collections.abc import Callable
from pathlib import Path

from gentee.errors import TeeError
from gentee.secure.counter import Counter
from gentee.secure.state import State
from gentee.secure.storage.admin import StoppedTurns, administer
from gentee.secure.storage.head import ObjectType
from gentee.secure.storage.store import REE, RPMB, ObjectStore
from gentee.secure.store import TaStore

TAS = (bytes(16), bytes(range(16)))
KIND = 0xA00000BF
SERVICE = b"S" * 16

_OPERATIONS = [
    "create",
    "create",
    "overwrite",
    "write",
    "write",
    "write",
    "truncate",
    "delete",
    "rename",
    "usage",
    "install",
]

Key = tuple[int, bytes, bytes]  # area, TA, name
Content = tuple[bytes, bytes, int]  # attributes, data, usage
Model = dict[Key, Content]


class Kept:
    """What is to be there: objects, and the version of the one installed service, 0 if none."""

    def __init__(self, objects: Model | None = None, version: int = 0) -> None:
        self.objects = objects or {}
        self.version = version

    def copy(self) -> "Kept":
        return Kept(dict(self.objects), self.version)

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Kept)
        return (self.objects, self.version) == (other.objects, other.version)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        lines = [
            f"{area} {ta[-1]:02x} {name!r}: {len(data)} bytes, usage {usage:#x}"
            for (area, ta, name), (_attrs, data, usage) in sorted(self.objects.items())
        ]
        return "\n".join([f"service version {self.version}", *lines])


Step = tuple[str, Callable[["Store"], None], Callable[[Kept], None]]


class Store:
    """The store of one run.

    :param counter: whether its changes are counted, in a file beside it.
    """

    def __init__(self, folder: Path, *, counter: bool = False) -> None:
        self.folder = folder
        counted = Counter(str(folder / "counter")) if counter else None
        self.state = State(str(folder), counted)
        self.objects = ObjectStore(lambda: self.state)

    def close(self) -> None:
        self.state.close()


def steps(count: int, seed: int = 6) -> list[Step]:
    """So many operations: of two TAs, in both areas, with data of any size up to some chunks."""
    draw = random.Random(seed)
    now: dict[Key, int] = {}  # size of the data
    made: list[Step] = []
    version = 0
    while len(made) < count:
        what = draw.choice(_OPERATIONS)
        area = draw.choice([REE, REE, REE, RPMB])
        ta = draw.choice(TAS)
        name = bytes((draw.choice(b"abcdefgh"),)) * draw.choice([1, 1, 1, 64])
        key = (area, ta, name)
        most = 70_000 if area == REE else 2_000
        size = draw.choice([0, 1, 100, 4096, 16384, 20_000, draw.randrange(most)])
        data = draw.randbytes(min(size, most))
        if what == "install":
            version += 1
            made.append(_install(version))
        elif what == "create" and key not in now:
            now[key] = len(data)
            made.append(_create(key, data, overwrite=False))
        elif what == "overwrite" and key in now:
            now[key] = len(data)
            made.append(_create(key, data, overwrite=True))
        elif what == "write" and key in now and data:
            position = draw.randrange(now[key] + 3_000 if area == REE else now[key] + 1)
            if area == RPMB and position + len(data) > 4_000:
                continue
            now[key] = max(now[key], position + len(data))
            made.append(_write(key, position, data))
        elif what == "truncate" and key in now:
            size = draw.randrange(now[key] + 100)
            if size != now[key]:
                now[key] = size
                made.append(_truncate(key, size))
        elif what == "delete" and key in now and len(now) > 6:
            del now[key]
            made.append(_delete(key))
        elif what == "rename" and key in now:
            other = (area, ta, bytes((draw.choice(b"abcdefgh"),)) * 3)
            if other not in now:
                now[other] = now.pop(key)
                made.append(_rename(key, other[2]))
        elif what == "usage" and key in now:
            made.append(_usage(key, draw.randrange(1 << 32)))
    return made


def models(script: list[Step]) -> list[Kept]:
    """What there is before the first operation, and after each."""
    found = [Kept()]
    for _name, _do, expect in script:
        after = found[-1].copy()
        expect(after)
        found.append(after)
    return found


def _create(key: Key, data: bytes, *, overwrite: bool) -> Step:
    area, ta, name = key
    attrs = data[:20]

    def do(store: Store) -> None:
        kind = ObjectType(KIND, attrs=attrs)
        store.objects.create(area, ta, name, kind, memoryview(data), overwrite=overwrite)

    def expect(kept: Kept) -> None:
        kept.objects[key] = (attrs, data, 0xFFFF_FFFF)

    return ("overwrite" if overwrite else "create", do, expect)


def _write(key: Key, position: int, data: bytes) -> Step:
    def do(store: Store) -> None:
        store.objects.write(store.objects.find(*key), position, memoryview(data))

    def expect(kept: Kept) -> None:
        attrs, old, usage = kept.objects[key]
        new = bytearray(old.ljust(position, b"\0"))
        new[position : position + len(data)] = data
        kept.objects[key] = (attrs, bytes(new), usage)

    return ("write", do, expect)


def _truncate(key: Key, size: int) -> Step:
    def do(store: Store) -> None:
        store.objects.truncate(store.objects.find(*key), size)

    def expect(kept: Kept) -> None:
        attrs, old, usage = kept.objects[key]
        kept.objects[key] = (attrs, old[:size].ljust(size, b"\0"), usage)

    return ("truncate", do, expect)


def _delete(key: Key) -> Step:
    def do(store: Store) -> None:
        store.objects.delete(*key)

    def expect(kept: Kept) -> None:
        del kept.objects[key]

    return ("delete", do, expect)


def _rename(key: Key, name: bytes) -> Step:
    def do(store: Store) -> None:
        store.objects.rename(store.objects.find(*key), name)

    def expect(kept: Kept) -> None:
        kept.objects[key[0], key[1], name] = kept.objects.pop(key)

    return ("rename", do, expect)


def _usage(key: Key, usage: int) -> Step:
    def do(store: Store) -> None:
        store.objects.set_usage(store.objects.find(*key), usage)

    def expect(kept: Kept) -> None:
        attrs, data, _usage = kept.objects[key]
        kept.objects[key] = (attrs, data, usage)

    return ("usage", do, expect)


def _install(version: int) -> Step:
    def do(store: Store) -> None:
        store.state.install(SERVICE, "service", version, "{}", bytes(3_000), "signer")

    def expect(kept: Kept) -> None:
        kept.version = version

    return ("install", do, expect)


# Looking at a store


def found_in(store: Store, names: set[Key]) -> Kept:
    """All that is there.

    :param names: where objects may be.
    """
    kept = Kept()
    for key in names:
        try:
            stored = store.objects.find(*key)
        except TeeError as error:
            if "no such object" not in str(error):
                raise
            continue
        data = bytearray(stored.head.data_size)
        store.objects.read(stored, 0, memoryview(data))
        kept.objects[key] = (stored.head.kind.attrs, bytes(data), stored.head.kind.obj_usage)
    rows = store.state.services()
    kept.version = rows[0].version if rows else 0
    assert store.state.floor(SERVICE) == kept.version
    return kept


def names_of(kept: list[Kept]) -> set[Key]:
    """All names that a script ever uses."""
    return {key for each in kept for key in each.objects}


def findings(store: Store) -> list[str]:
    """What a check finds of objects and of the file."""
    services = TaStore((), state=store.state)
    answer = administer(StoppedTurns(store.objects), services, {"do": "check"})
    # The service of the script is no image.
    found = [finding["what"] for finding in answer["findings"]]
    return [what for what in found if "installed image" not in what]
