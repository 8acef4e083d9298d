# SPDX-License-Identifier: BSD-2-Clause
"""The supplicant's queue: between a driver that needs the normal world and who serves it.

Some facts about the protocol (drivers/tee/optee/supp.c and optee_client's tee-supplicant)
=========================================================================================

- One context of the privileged device is the supplicant. It receives with as many threads as it
  likes; each SUPPL_RECV is answered with the oldest request that waits.
- SUPPL_RECV offers room: parameters of type NONE, the first of them META. The answer is a META
  value with the request's id in ``a``, then the parameters of the request. With too little room
  it is EINVAL, and the request goes on waiting.
- SUPPL_SEND carries the id back in a META value, then as many parameters as the request had. Of
  these only values that are outputs, and the sizes of memory references that are, count.
- Who asked may give up. If the supplicant has not seen the request it never will; otherwise the id
  stays taken until the answer comes, and that is ENOENT.
- The ids of a request's memory references are the supplicant's own: it has lent that memory before.

Two differences. OP-TEE's driver also takes a SUPPL_RECV without META, then serves one request at a
time; that was for supplicants from before 2017 and is EINVAL here. And a request whose receiver
dies before it could read it is not lost with it, but goes to the next receiver.
"""

import errno
import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from gentee.abi.gp import TEE_ERROR_COMMUNICATION
from gentee.abi.linux_tee import (
    TEE_IOCTL_PARAM_ATTR_META,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT,
)
from gentee.core.calls import SuppRecvArg
from gentee.core.context import TeeContext
from gentee.core.device import IdAllocator
from gentee.core.driver import PENDING, OpResult
from gentee.core.params import TeeParam

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.shm import TeeShm

SuppDone = Callable[[int, list[TeeParam]], None]

_META_VALUE = TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT | TEE_IOCTL_PARAM_ATTR_META
_OFFERS = (0, TEE_IOCTL_PARAM_ATTR_META)
_VALUES_OUT = (TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT, TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT)
_MEMREFS_OUT = (TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT, TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT)


class SuppRequest:
    """A request on its way. Who asked keeps it to be able to give up."""

    __slots__ = ("_supp", "done", "func", "id", "params", "receiver")

    def __init__(
        self, supp: "Supplicant", func: int, params: list[TeeParam], done: SuppDone
    ) -> None:
        self._supp = supp
        self.func = func
        self.params = params
        self.done = done
        self.id = 0  # not 0 while the supplicant has it
        self.receiver: SuppRecvArg | None = None  # who took it

    def withdraw(self) -> None:
        """Give up: ``done`` gets TEE_ERROR_COMMUNICATION unless it was called already."""
        self._supp._withdraw(self)


class Supplicant:
    """The requests of one TEE to its supplicant, and the supplicant's threads that wait for some.

    Every method may be called from any thread. One lock protects all fields and the states of the
    requests; ``done`` of requests and ``complete`` of receivers are called without it. Receivers
    and queued requests never wait at the same time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ctx: TeeContext | None = None
        self._queue: deque[SuppRequest] = deque()  # not yet seen by the supplicant
        self._taken: dict[int, SuppRequest | None] = {}  # by id; None: who asked has given up
        self._ids = IdAllocator()
        self._receivers: deque[SuppRecvArg] = deque()  # what waits in SUPPL_RECV

    # The supplicant's context

    def open(self, ctx: TeeContext) -> None:
        """``ctx`` is the supplicant from now on; EBUSY while another one is."""
        with self._lock:
            if self._ctx is not None:
                raise OSError(errno.EBUSY, "a supplicant is there already")
            self._ctx = ctx

    def close(self, ctx: TeeContext) -> None:
        """The supplicant is gone: every request ends with TEE_ERROR_COMMUNICATION."""
        with self._lock:
            if self._ctx is not ctx:
                return
            self._ctx = None
            requests = [request for request in self._taken.values() if request is not None]
            requests += self._queue
            for number in self._taken:
                self._ids.free(number)
            self._taken.clear()
            self._queue.clear()
            for request in requests:
                request.id, request.receiver = 0, None
            receivers = list(self._receivers)
            self._receivers.clear()
        for receiver in receivers:
            receiver.error = errno.EINTR
            receiver.complete()
        for request in requests:
            request.done(TEE_ERROR_COMMUNICATION, request.params)

    @property
    def is_there(self) -> bool:
        """Whether there is a supplicant now."""
        return self._ctx is not None

    # Who asks

    def request(
        self, func: int, params: list[TeeParam], done: SuppDone, *, nowait: bool = False
    ) -> SuppRequest:
        """Ask the supplicant for ``func``.

        :param params: outputs are updated in place. Memory references stay the caller's: it holds
            them until ``done``.
        :param done: called once with the supplicant's result and ``params``, from any thread and
            perhaps before this returns.
        :param nowait: without a supplicant fail at once (TEE_ERROR_COMMUNICATION), as for callers
            inside the program (``ctx.supp_nowait``). Otherwise the request waits for one to come.
        """
        request = SuppRequest(self, func, params, done)
        with self._lock:
            nobody = nowait and self._ctx is None
            if not nobody:
                self._queue.append(request)
            served = self._match()
        for receiver in served:
            receiver.complete()
        if nobody:
            done(TEE_ERROR_COMMUNICATION, params)
        return request

    def shm_get_from_id(self, number: int) -> "TeeShm":
        """Memory that the supplicant has lent, by its id; takes a reference.

        :raises OSError: EINVAL for an id that is not the supplicant's, or without a supplicant.
        """
        with self._lock:
            ctx = self._ctx
        if ctx is None:
            raise OSError(errno.EINVAL, "no supplicant")
        return ctx.shm_get_from_id(number)

    def _withdraw(self, request: SuppRequest) -> None:
        with self._lock:
            if request.id:
                # The supplicant is at work on it: its id must not mean another request yet.
                self._taken[request.id] = None
                request.id, request.receiver = 0, None
            elif request in self._queue:
                self._queue.remove(request)
            else:
                return
        request.done(TEE_ERROR_COMMUNICATION, request.params)

    # The supplicant

    def recv(self, arg: SuppRecvArg) -> OpResult:
        """SUPPL_RECV: fill ``func`` and ``params`` of ``arg`` with a request, now or later.

        What arrives in ``arg.params`` holds no references of its own. Until the supplicant has
        answered, ``arg.abandon()`` takes the request back for the next receiver: a door calls it
        when the receiver did not live to read what it got.

        :raises OSError: EINVAL for room that is not NONE, starts without META or is too little,
            EINTR when nobody waits any more, EBADF when the context is not the supplicant.
        """
        params = arg.params
        if not params or params[0].attr != TEE_IOCTL_PARAM_ATTR_META:
            raise OSError(errno.EINVAL, "no META parameter")
        if any(param.attr not in _OFFERS for param in params):
            raise OSError(errno.EINVAL, "room for parameters must be NONE")
        with self._lock:
            if arg.ctx is not self._ctx:
                raise OSError(errno.EBADF, "not the supplicant")
            arg.cancel = partial(self._recv_cancelled, arg)
            # abandon() sets its mark before it looks for cancel: one of us sees the other.
            if arg.abandoned:
                raise OSError(errno.EINTR, "abandoned")
            if not self._queue:
                self._receivers.append(arg)
                return PENDING
            self._give(self._queue[0], arg)
        return None

    def _recv_cancelled(self, arg: SuppRecvArg) -> None:
        """Whoever called SUPPL_RECV waits no longer, or did not get its answer."""
        with self._lock:
            served: list[SuppRecvArg] = []
            if arg in self._receivers:
                self._receivers.remove(arg)
                arg.error = errno.EINTR
                served.append(arg)
            else:
                request = next((r for r in self._taken.values() if r and r.receiver is arg), None)
                if request is not None:
                    del self._taken[request.id]
                    self._ids.free(request.id)
                    request.id, request.receiver = 0, None
                    self._queue.appendleft(request)
                    served += self._match()
        for receiver in served:
            receiver.complete()

    def send(self, ret: int, params: list[TeeParam]) -> None:
        """SUPPL_SEND: the answer to the request whose id ``params[0]`` has.

        :raises OSError: EINVAL without that META value or with another number of parameters than
            the request has, ENOENT for a request that is not under way.
        """
        if not params or params[0].attr != _META_VALUE:
            raise OSError(errno.EINVAL, "no id")
        number = params[0].a & 0xFFFF_FFFF  # an int in the kernel
        answers = params[1:]
        with self._lock:
            if number not in self._taken:
                raise OSError(errno.ENOENT, "no such request")
            request = self._taken[number]
            if request is not None and len(answers) != len(request.params):
                raise OSError(errno.EINVAL, "num_params")
            del self._taken[number]
            self._ids.free(number)
            if request is None:
                raise OSError(errno.ENOENT, "nobody waits for it")
            request.id, request.receiver = 0, None
            for param, answer in zip(request.params, answers, strict=True):
                # What a parameter is says the request, not the answer.
                if param.type in _VALUES_OUT:
                    param.a, param.b, param.c = answer.a, answer.b, answer.c
                elif param.type in _MEMREFS_OUT:
                    param.b = answer.b
        request.done(ret, request.params)

    # With the lock held

    def _match(self) -> list[SuppRecvArg]:
        """Give requests to receivers while there are both; the receivers to complete."""
        served = []
        while self._queue and self._receivers:
            receiver = self._receivers.popleft()
            if receiver.abandoned:
                receiver.error = errno.EINTR
            else:
                try:
                    self._give(self._queue[0], receiver)
                except OSError as failure:
                    receiver.error = failure.errno or errno.EIO
            served.append(receiver)
        return served

    def _give(self, request: SuppRequest, arg: SuppRecvArg) -> None:
        """The first request of the queue goes to ``arg``, or is EINVAL for lack of room."""
        if len(arg.params) <= len(request.params):
            raise OSError(errno.EINVAL, "too little room for the parameters")
        self._queue.popleft()
        request.id = self._ids.alloc()
        request.receiver = arg
        self._taken[request.id] = request
        arg.func = request.func
        # Copies: the request's own are for the answer.
        arg.params[:] = [
            TeeParam(_META_VALUE, request.id),
            *(TeeParam(p.attr, p.a, p.b, p.c, p.shm) for p in request.params),
        ]
