# SPDX-License-Identifier: BSD-2-Clause
"""TEEC_Operation and TEEC_RequestCancellation: GP TEE Client API 1.0 §4.3 and §4.5."""

import itertools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from gentee.abi.gp import TEEC_CONFIG_PAYLOAD_REF_COUNT, TEEC_ORIGIN_API
from gentee.client.blocks import Block, MemorySource
from gentee.client.doors import NUM_WORDS, PARAM_WORDS, Door, comms_error
from gentee.client.memory import SharedMemory
from gentee.client.params import Parameter, as_parameter
from gentee.errors import BadParameters, BadState, Cancel

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_Answer = TypeVar("_Answer")

# Each operation has an id of its own, so that a cancellation means one call and not all those of
# its session (libteec says 0 for all). 0 is left out.
_cancel_ids = itertools.count(1)


class Operation:
    """One call: up to four parameters, and what is needed to cancel it.

    :param params: :class:`Value`, :class:`TempRef`, :class:`Out`, :class:`MemRef`, SharedMemory,
        a buffer (read-only: input; writable: inout) or None. ``params`` holds them as parameters.
    :raises TeeError: BadParameters (origin API) for more than four.

    An operation is for one call; its parameters can be used again in another operation.
    """

    def __init__(self, *params: "Parameter | SharedMemory | ReadableBuffer | None") -> None:
        if len(params) > TEEC_CONFIG_PAYLOAD_REF_COUNT:
            raise BadParameters("more than four parameters", TEEC_ORIGIN_API)
        self.params: tuple[Parameter | None, ...] = tuple(map(as_parameter, params))
        self.cancel_id = next(_cancel_ids) & 0xFFFF_FFFF or next(_cancel_ids) & 0xFFFF_FFFF
        self._lock = threading.Lock()  # protects the three below
        self._started = False
        self._cancelled = False
        self._target: tuple[Door, int] | None = None  # while the call runs

    def cancel(self) -> None:
        """TEEC_RequestCancellation, from another thread: ask the TEE to end the call early.

        Before the call it makes the call fail with Cancel (origin API); after it, nothing. Whether
        the TEE heeds it is the TA's decision. A request that overtakes its call on the way to the
        TEE is lost, as with libteec: ask again while the call lasts.
        """
        with self._lock:
            self._cancelled = True
            if self._target is None:
                return
            door, session = self._target
        try:
            door.cancel(session, self.cancel_id)
        except OSError:  # the call is over by now, or this TEE cancels nothing
            pass

    def run(
        self,
        source: MemorySource,
        session: int,
        call: Callable[[int, list[int]], _Answer],
    ) -> _Answer:
        """Make the call, for Context and Session: ``call(cancel_id, words)`` does it.

        :param source: of memory for temporary references.

        Results are in the parameters, also where the answer is an error.

        :raises TeeError: the call could not be made; origin API or COMMS.
        """
        self._start(source.door, session)
        blocks: list[Block | None] = []
        words = [0] * NUM_WORDS
        returned = True
        try:
            for at, param in enumerate(self.params):
                block = param.begin(source, words, PARAM_WORDS * at) if param else None
                blocks.append(block)
            returned = False
            try:
                answer = call(self.cancel_id, words)
            except OSError as error:
                raise comms_error(error) from error
            returned = True
            for at, (param, block) in enumerate(zip(self.params, blocks, strict=True)):
                if param:
                    param.end(words, PARAM_WORDS * at, block)
        finally:
            with self._lock:
                self._target = None
            for block in blocks:
                if block is not None:
                    block.release(reuse=returned)
        return answer

    def _start(self, door: Door, session: int) -> None:
        with self._lock:
            if self._started:
                raise BadState("an operation is for one call", TEEC_ORIGIN_API)
            self._started = True
            if self._cancelled:
                raise Cancel("cancelled before it began", TEEC_ORIGIN_API)
            self._target = (door, session)
