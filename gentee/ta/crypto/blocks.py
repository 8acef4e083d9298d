# SPDX-License-Identifier: BSD-2-Clause
"""Data in whole blocks: tee_buffer_update() of OP-TEE's lib/libutee/tee_api_operations.c."""

from collections.abc import Callable

_Bytes = bytes | memoryview
_Work = Callable[[_Bytes, memoryview], None]


class Blocks:
    """What was given and is not processed yet: less than a block, or the last two blocks.

    :param size: bytes of a block; 1: nothing is held back.
    :param two: two blocks are held back, of which the last one may not be whole.
    """

    __slots__ = ("_held", "_two", "size")

    def __init__(self, size: int, two: bool) -> None:
        self.size = size
        self._two = two
        self._held = bytearray()

    def __len__(self) -> int:
        return len(self._held)

    def wipe(self) -> None:
        """Forget what is held."""
        self._held[:] = bytes(len(self._held))
        self._held.clear()

    def copy_from(self, other: "Blocks") -> None:
        """Hold what ``other`` does."""
        self._held[:] = bytes(other._held)

    def ready(self, more: int) -> int:
        """How many bytes can be processed when ``more`` are given: as many come out."""
        size = self.size
        total = len(self._held) + more
        if self._two:
            left = total - 2 * size
            return -(-left // size) * size if left > 0 else 0
        return total // size * size

    def feed(self, work: _Work, src: _Bytes, dst: memoryview) -> int:
        """Process what can be, and hold the rest; how many bytes came out.

        :param work: processes whole blocks of a source into a destination.
        :param dst: has room for :meth:`ready`.
        """
        held = self._held
        ready = self.ready(len(src))
        if not ready:
            held += src
            return 0
        used = done = 0
        if held:
            if ready > len(held):
                used = -len(held) % self.size
                held += src[:used]
            done = min(ready, len(held))
            work(bytes(held[:done]), dst)
            del held[:done]
        if done < ready:
            end = used + ready - done
            work(src[used:end], dst[done:])
            used = end
        held += src[used:]
        return ready

    def rest(self) -> bytes:
        """All that is held, for the last step: it is not held any more."""
        rest = bytes(self._held)
        self.wipe()
        return rest
