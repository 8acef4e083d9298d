# SPDX-License-Identifier: BSD-2-Clause
"""What a disk may have after a power cut, by what fault.c wrote down.

What was written before the last fsync of its file is there. Of what came after it some may be there
and some not, in any order, and the last of that cut at a sector. Names come and go in their order.
"""

import random
from pathlib import Path
from typing import NamedTuple

SECTOR = 512


class Call(NamedTuple):
    """A system call: w, s, t, r, u, or m for what the program said of its progress."""

    what: str
    name: str
    number: int = 0  # offset, length, or that of the operation
    data: bytes = b""
    other: str = ""


def parse(log: bytes) -> list[Call]:
    """The calls of a log."""
    calls = []
    at = 0
    while at < len(log):
        end = log.index(b"\n", at)
        what, *words = log[at:end].decode().split(" ")
        at = end + 1
        if what == "w":
            size = int(words[1])
            calls.append(Call("w", words[2], int(words[0]), log[at : at + size]))
            at += size
        elif what == "s" or what == "u":
            calls.append(Call(what, words[0]))
        elif what == "t":
            calls.append(Call("t", words[1], int(words[0])))
        elif what == "r":
            calls.append(Call("r", words[0], other=words[1]))
        else:
            calls.append(Call("m", "", int(words[0])))
    return calls


class Disk:
    """The files of a folder, as a disk and its cache have them."""

    def __init__(self) -> None:
        self._durable: dict[str, bytearray] = {}
        self._pending: dict[str, list[Call]] = {}

    def do(self, call: Call) -> None:
        """One call more that has happened."""
        if call.what in "wt":
            self._durable.setdefault(call.name, bytearray())
            self._pending.setdefault(call.name, []).append(call)
        elif call.what == "s":
            for pending in self._pending.pop(call.name, []):
                _apply(self._durable[call.name], pending, len(pending.data))
        elif call.what == "u":
            self._durable.pop(call.name, None)
            self._pending.pop(call.name, None)
        elif call.what == "r":
            self._durable[call.other] = self._durable.pop(call.name, bytearray())
            self._pending[call.other] = self._pending.pop(call.name, [])

    def cut(self, folder: Path, draw: random.Random, how: str) -> None:
        """Write the files as they may be after a power cut now.

        :param how: of what is not on disk: ``none``, ``all``, or ``some`` of it.
        """
        for name, durable in self._durable.items():
            data = bytearray(durable)
            for call in self._pending.get(name, ()):
                if how == "none" or (how == "some" and draw.random() < 0.5):
                    continue
                size = len(call.data)
                if how == "some" and draw.random() < 0.2:
                    size = draw.randrange(0, size + 1, SECTOR)
                _apply(data, call, size)
            path = folder / name
            path.write_bytes(data)
            path.chmod(0o600)


def _apply(data: bytearray, call: Call, size: int) -> None:
    if call.what == "t":
        del data[call.number :]
        data.extend(bytes(call.number - len(data)))
        return
    if size:
        data.extend(bytes(max(call.number - len(data), 0)))
        data[call.number : call.number + size] = call.data[:size]
