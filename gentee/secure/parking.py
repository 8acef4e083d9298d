# SPDX-License-Identifier: BSD-2-Clause
"""Which instances wait in a trapped call, and which rest.

The kernel keeps all trapped calls of a listener in one list, which it walks at each receive and at
each answer (kernel/seccomp.c): with a thousand services waiting there, every call of everybody
would take four times as long. So only as many wait there as have been in use lately. The others
wait for a word of their mailbox, and come back to a trapped call when they get a command, which
costs that command one more wake-up.
"""

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.secure.instance import Instance

MOST = 32


class Parking:
    """The instances that wait in a trapped call, or are at work and will be back there.

    Who leaves is found by the clock algorithm: a pass over them in the order in which they came,
    that spares once whoever was used since the last one. So a call itself only sets a flag.

    :param most: how many, as long as that many are idle.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()  # taken before that of an instance
        self._places: dict[Instance, None] = {}

    def enter(self, instance: "Instance") -> None:
        """``instance`` waits in a trapped call from now on; another may have to leave for it."""
        with self._lock:
            places = self._places
            if instance.dead:  # and has left already
                return
            places[instance] = None
            # Twice around: the first time may only have cleared what spares them.
            for _ in range(2 * len(places)):
                if len(places) <= self._most:
                    return
                candidate = next(iter(places))
                del places[candidate]
                if candidate is instance or candidate.touched or not candidate.rest():
                    candidate.touched = False
                    places[candidate] = None

    def leave(self, instance: "Instance") -> None:
        """``instance`` has ended."""
        with self._lock:
            self._places.pop(instance, None)
