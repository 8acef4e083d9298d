# SPDX-License-Identifier: BSD-2-Clause
"""System calls of an Arm TA in a process of its own, one by one: tests/tas/calls.c.

Calls are made as TestedTa of tests/svc_ta.py makes them, without a process.
"""

from struct import Struct

from gentee.client import Session, Value

CALLS = 0x70  # the TA's number
_WHERE = 0x100
_ARGS = Struct("<8Q")


class CallingTa:
    """A session with such a TA. What is at :attr:`address` is its private memory."""

    def __init__(self, session: Session) -> None:
        where = Value()
        session.invoke(_WHERE, where)
        self.session = session
        self.address, size = where.a, where.b
        self._memory = bytearray(_ARGS.size + size)

    def write(self, offset: int, data: bytes) -> int:
        """Put bytes into its memory; their address there."""
        start = _ARGS.size + offset
        assert start + len(data) <= len(self._memory)
        self._memory[start : start + len(data)] = data
        return self.address + offset

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of its memory, as the last call left them."""
        return bytes(self._memory[_ARGS.size + offset : _ARGS.size + offset + size])

    def call(self, number: int, *args: int) -> int:
        """The result of a system call; arguments that are not given are 0."""
        _ARGS.pack_into(self._memory, 0, *args, *(0,) * (8 - len(args)))
        self.session.invoke(number, self._memory)
        return int.from_bytes(self._memory[:4], "little")
