# SPDX-License-Identifier: BSD-2-Clause
"""The data of a stored object: in chunks, so that a part of it costs what the part costs.

Each chunk is sealed on its own, bound to its number and to the version of the object that wrote it.
Which versions are current is in the head, or in *nodes* of which the head has the versions, where
there are more chunks than FANOUT. So a chunk can neither be put in another one's place nor be an
older one of its own, and one that is missing is missed. Where data was never written there is no
chunk, and it is zeros; behind the end of its bytes a chunk is zeros as well.

Functions here run inside a transaction, and change a copy of the head.
"""

from array import array
from struct import Struct

from gentee.errors import CorruptObject, StorageNoSpace
from gentee.secure.storage.head import Head
from gentee.secure.storage.seal import OVERHEAD, Sealer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

CHUNK = 32 << 10  # bytes: less, and reading costs more for rows than for bytes
FANOUT = 512
MAX_SIZE = 4 << 30  # positions have 32 bits
_WHOLE = CHUNK + OVERHEAD

# A row's number: the object's, and within it that of a chunk, or NODES and that of a node.
ROW_SHIFT = 20
NODES = 1 << (ROW_SHIFT - 1)

_PLACE = Struct("<cIQ")  # "c", number within the object, version


def _place(number: int, version: int) -> bytes:
    return _PLACE.pack(b"c", number, version)


def first_row(row: int) -> int:
    """Where the rows of an object begin; those of the next one end them."""
    return row << ROW_SHIFT


class Content:
    """The data of an object as ``head`` has it.

    :param row: the object's.
    """

    def __init__(
        self, connection: "sqlite3.Connection", row: int, sealer: Sealer, head: Head
    ) -> None:
        self._connection = connection
        self._rows = first_row(row)
        self._sealer = sealer
        self._head = head
        self._nodes: dict[int, array[int]] = {}  # those that were looked at

    # Versions of chunks.

    def _node(self, number: int) -> "array[int]":
        """The versions of the chunks of a node; all of an object that has no nodes."""
        head = self._head
        if head.levels == 0:
            return head.versions
        node = self._nodes.get(number)
        if node is None:
            version = head.versions[number] if number < len(head.versions) else 0
            node = array("Q")
            if version:
                node.frombytes(self._open(NODES + number, version))
            self._nodes[number] = node
        return node

    def _version(self, chunk: int) -> int:
        levels = self._head.levels
        node = self._node(chunk // FANOUT) if levels else self._head.versions
        index = chunk % FANOUT if levels else chunk
        return node[index] if index < len(node) else 0

    def _versions(self, first: int, end: int) -> "array[int]":
        """Those of a range of chunks."""
        if self._head.levels == 0:
            found = self._head.versions[first:end]
        else:
            found = array("Q")
            for number in range(first // FANOUT, (end - 1) // FANOUT + 1):
                start = number * FANOUT
                found.extend(self._node(number)[max(first - start, 0) : end - start])
                found.extend([0] * (min(end, start + FANOUT) - first - len(found)))
        found.extend([0] * (end - first - len(found)))
        return found

    def _load(self, number: int) -> bytes:
        found = self._connection.execute(
            "SELECT chunk FROM object_chunks WHERE id = ?", (self._rows + number,)
        ).fetchone()
        if found is None:
            raise CorruptObject(f"chunk {number} is missing")
        return _blob(found[0])

    def _open(self, number: int, version: int) -> bytes:
        return self._sealer.open(_place(number, version), self._load(number))

    def _chunk(self, chunk: int) -> bytes:
        version = self._version(chunk)
        return self._open(chunk, version) if version else b""

    # Reading.

    def read(self, position: int, out: memoryview) -> None:
        """Read data that there is to a buffer, which is as long as this shall be.

        :raises CorruptObject: some of it is damaged. What is in the buffer is unknown then.
        """
        if not len(out):
            return
        size = len(out)
        first, last = position // CHUNK, (position + size - 1) // CHUNK
        versions = self._versions(first, last + 1)
        rows = self._connection.execute(
            "SELECT id - ?, chunk FROM object_chunks WHERE id BETWEEN ? AND ? ORDER BY id",
            (self._rows, self._rows + first, self._rows + last),
        )
        open_into, pack = self._sealer.open_into, _PLACE.pack
        following = first
        for chunk, sealed in rows:
            if not following <= chunk <= last:  # a damaged tree: SQLite goes by what it finds there
                raise CorruptObject("chunks in disorder")
            version = versions[chunk - first]
            if not version:
                continue  # nobody's: a check finds it
            if chunk != following:
                self._read_zeros(following, chunk, versions[following - first :], position, out)
            following = chunk + 1
            start = chunk * CHUNK - position
            if start >= 0 and start + CHUNK <= size and len(_blob(sealed)) == _WHOLE:
                open_into(pack(b"c", chunk, version), sealed, out[start : start + CHUNK])
                continue
            data = self._sealer.open(_place(chunk, version), _blob(sealed))
            part = out[max(start, 0) : start + CHUNK]
            data = data[max(-start, 0) :][: len(part)]
            part[: len(data)] = data
            part[len(data) :] = bytes(len(part) - len(data))
        self._read_zeros(following, last + 1, versions[following - first :], position, out)

    def _read_zeros(
        self, first: int, end: int, versions: "array[int]", position: int, out: memoryview
    ) -> None:
        """Chunks that there are not, if they are not to be."""
        if any(versions[: end - first]):
            raise CorruptObject("a chunk is missing")
        part = out[max(first * CHUNK - position, 0) : end * CHUNK - position]
        part[:] = bytes(len(part))

    def check(self) -> None:
        """Open everything; CorruptObject for the first that is damaged, or has no place here."""
        expected = []
        levels = self._head.levels
        for number, version in enumerate(self._head.versions):
            if not version:
                continue
            expected.append((NODES if levels else 0) + number)
            if levels:
                node = self._node(number)
                expected += [number * FANOUT + i for i, there in enumerate(node) if there]
        rows = self._connection.execute(
            "SELECT id FROM object_chunks WHERE id >= ? AND id < ? ORDER BY id",
            (self._rows, self._rows + (1 << ROW_SHIFT)),
        )
        if [row - self._rows for (row,) in rows] != sorted(expected):
            raise CorruptObject("chunks that are missing, or too many")
        for number in expected:
            if number < NODES:
                self._chunk(number)


class Change(Content):
    """A change of the data. ``head`` is changed; :meth:`write_back` writes what is not yet.

    :ivar chunks: how many chunks there are more than before.
    """

    def __init__(
        self, connection: "sqlite3.Connection", row: int, sealer: Sealer, head: Head
    ) -> None:
        super().__init__(connection, row, sealer, head)
        head.version += 1
        self.chunks = 0
        self._changed: set[int] = set()  # nodes
        self._new: list[tuple[int, bytearray]] = []

    def write(self, position: int, data: memoryview) -> None:
        """Write data; what is between it and the end before is zeros.

        :raises StorageNoSpace: an object is not so long.
        :raises CorruptObject: what some of it is to be merged with is damaged.
        """
        if not len(data):
            return
        end = position + len(data)
        if end > MAX_SIZE:
            raise StorageNoSpace(f"an object of {end} bytes")
        for chunk in range(position // CHUNK, (end - 1) // CHUNK + 1):
            start = max(position, chunk * CHUNK)
            stop = min(end, (chunk + 1) * CHUNK)
            part = data[start - position : stop - position]
            offset = start - chunk * CHUNK
            old = self._chunk(chunk) if len(part) < CHUNK else b""
            if offset or len(old) > len(part):
                merged = bytearray(old.ljust(offset, b"\0"))
                merged[offset : offset + len(part)] = part
                self._put(chunk, merged)
            else:
                self._put(chunk, part)
        self._head.data_size = max(self._head.data_size, end)

    def truncate(self, size: int) -> None:
        """Cut the data, or let it be longer by zeros.

        :raises StorageNoSpace: an object is not so long.
        :raises CorruptObject: the chunk in which it ends is damaged.
        """
        if size > MAX_SIZE:
            raise StorageNoSpace(f"an object of {size} bytes")
        head = self._head
        if size < head.data_size:
            chunks, rest = divmod(size, CHUNK)
            if rest:
                old = self._chunk(chunks)
                if len(old) > rest:
                    self._put(chunks, memoryview(old)[:rest])
                chunks += 1
            self._drop(chunks)
        head.data_size = size

    def _put(self, chunk: int, data: bytearray | memoryview) -> None:
        head = self._head
        if not head.levels and chunk >= FANOUT:
            self._raise()
        if head.levels:
            number, index = divmod(chunk, FANOUT)
            versions = self._node(number)
            self._changed.add(number)
        else:
            versions, index = head.versions, chunk
        if index >= len(versions):
            versions.extend([0] * (index + 1 - len(versions)))
        if not versions[index]:
            self.chunks += 1
        versions[index] = head.version
        self._new.append((self._rows + chunk, self._seal(chunk, data)))
        if len(self._new) >= 64:
            self._flush()

    def _seal(self, number: int, data: bytes | bytearray | memoryview) -> bytearray:
        return self._sealer.seal(_place(number, self._head.version), data)

    def _flush(self) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO object_chunks VALUES (?, ?)", self._new
        )
        self._new.clear()

    def _raise(self) -> None:
        """Put a node between the head and its chunks."""
        head = self._head
        self._nodes[0] = head.versions
        self._changed.add(0)
        head.versions = array("Q", [0])
        head.levels = 1

    def _drop(self, first: int) -> None:
        """Forget chunks from ``first`` on, and nodes that have none then."""
        head = self._head
        self._flush()
        self.chunks -= self._delete(first, NODES)
        if not head.levels:
            del head.versions[first:]
            return
        nodes, rest = divmod(first, FANOUT)
        if rest:
            node = self._node(nodes)
            if len(node) > rest:
                del node[rest:]
                self._changed.add(nodes)
            nodes += 1
        self._delete(NODES + nodes, NODES + FANOUT)
        del head.versions[nodes:]
        self._changed = {number for number in self._changed if number < nodes}
        self._nodes = {number: node for number, node in self._nodes.items() if number < nodes}
        if not nodes:
            head.levels = 0

    def _delete(self, first: int, end: int) -> int:
        return self._connection.execute(
            "DELETE FROM object_chunks WHERE id >= ? AND id < ?",
            (self._rows + first, self._rows + end),
        ).rowcount

    def write_back(self) -> None:
        """Write what is left to write, but for the head."""
        head = self._head
        for number in sorted(self._changed):
            if number >= len(head.versions):
                head.versions.extend([0] * (number + 1 - len(head.versions)))
            head.versions[number] = head.version
            node = self._nodes[number].tobytes()
            self._new.append((self._rows + NODES + number, self._seal(NODES + number, node)))
        self._changed.clear()
        if self._new:
            self._flush()


def _blob(value: object) -> bytes:
    """A value of a column that has bytes; another one is damage, which SQLite does not see."""
    if not isinstance(value, bytes):
        raise CorruptObject("no bytes where bytes were stored")
    return value
