# SPDX-License-Identifier: BSD-2-Clause
"""What the TEE asks of the normal world, by the supplicant (OP-TEE core/kernel/thread_rpc*).

Memory for it is the supplicant's own: a first request has it allocate some, a last one gives it
back. Nothing here waits: who asks is called back, in a thread that may wait for a moment. Without a
supplicant a request fails at once; in OP-TEE it waits until there is one.
"""

import threading
from collections.abc import Callable
from functools import partial

from gentee.abi import optee_rpc as rpc
from gentee.abi.gp import TEE_ERROR_COMMUNICATION, TEE_SUCCESS
from gentee.abi.linux_tee import (
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT,
)
from gentee.core.params import TeeParam
from gentee.core.workers import WORKERS
from gentee.errors import CommunicationError, OutOfMemory, TeeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.host import Host
    from gentee.core.shm import TeeShm
    from gentee.core.supp import Supplicant, SuppRequest


class Payload:
    """Memory of the supplicant, of ``size`` bytes."""

    def __init__(self, shm: "TeeShm | None", size: int) -> None:
        self.shm = shm
        self.size = size

    def write(self, data: bytes) -> None:
        """Put ``data`` at its start; OSError EFAULT where the supplicant's memory is gone."""
        if self.shm is None or not data:
            return
        if self.shm.backing is not None:
            self.shm.backing.copy_out(0, memoryview(data))
        else:
            self.shm.view()[: len(data)] = data

    def read(self, size: int) -> bytes:
        """The first ``size`` bytes, as they are now."""
        if self.shm is None or not size:
            return b""
        if self.shm.backing is not None:
            data = bytearray(size)
            self.shm.backing.copy_in(0, memoryview(data))
            return bytes(data)
        return bytes(self.shm.view()[:size])

    def param(self, attr: int = TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT) -> TeeParam:
        """It as a parameter of a request; a NULL reference for no bytes."""
        return TeeParam(attr, 0, self.size, shm=self.shm)


class Rpc:
    """One thing that is asked, in a few requests after each other.

    :param failed: told the error instead of what was expected next, once at most.
    """

    def __init__(
        self, supplicant: "Supplicant | None", host: "Host", failed: Callable[[TeeError], None]
    ) -> None:
        self._supplicant = supplicant
        self._host = host
        self._failed = failed
        self._lock = threading.Lock()  # protects the request
        self._request: SuppRequest | None = None
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Nobody waits for the answer any more: it will be TEE_ERROR_COMMUNICATION. Any thread."""
        self._cancelled.set()
        request = self._request
        if request is not None:
            request.withdraw()

    def call(
        self, func: int, params: list[TeeParam], then: Callable[[int, list[TeeParam]], None]
    ) -> None:
        """Ask for ``func``; ``then`` gets the result and the parameters, of this call's own."""
        if self._supplicant is None or self._cancelled.is_set():
            then(TEE_ERROR_COMMUNICATION, params)
            return

        is_over = False

        def done(ret: int, answers: list[TeeParam]) -> None:
            # By whichever thread the supplicant's answer came; it may not wait.
            nonlocal is_over
            with self._lock:
                is_over, self._request = True, None
            step = partial(self._go_on, partial(then, ret, answers))
            try:
                WORKERS.submit(step)
            except OSError:  # no thread can be had
                step()

        request = self._supplicant.request(func, params, done, nowait=True)
        with self._lock:
            if not is_over:  # else the next one may be under way already
                self._request = request
        if self._cancelled.is_set():  # before that: nobody else will take it back
            self.cancel()

    def _go_on(self, step: Callable[[], None]) -> None:
        try:
            step()
        except TeeError as error:
            self._failed(error)
        except OSError as error:
            self._failed(CommunicationError(str(error)))
        except BaseException as bug:  # ours
            self._failed(CommunicationError("a bug"))
            self._host.bug(bug)

    def alloc(self, size: int, then: Callable[[Payload], None]) -> None:
        """Have the supplicant allocate ``size`` bytes; TEE_ERROR_OUT_OF_MEMORY where it cannot.

        As OP-TEE's driver in Linux does (drivers/tee/optee/rpc.c, optee_rpc_cmd_alloc_suppl()).
        """
        if not size:
            then(Payload(None, 0))
            return
        param = TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT, rpc.OPTEE_RPC_SHM_TYPE_APPL, size)

        def allocated(ret: int, answers: list[TeeParam]) -> None:
            if ret != TEE_SUCCESS or self._supplicant is None:
                raise OutOfMemory("the supplicant has no memory")
            try:
                shm = self._supplicant.shm_get_from_id(answers[0].c & 0xFFFF_FFFF)
            except OSError as error:
                raise OutOfMemory("the supplicant lent memory that it has not") from error
            payload = Payload(shm, size)
            if shm.size < size:
                self.free(payload)
                raise OutOfMemory("the supplicant lent too little memory")
            try:
                then(payload)
            except BaseException:
                self.free(payload)
                raise

        self.call(rpc.OPTEE_RPC_CMD_SHM_ALLOC, [param], allocated)

    def free(self, payload: Payload) -> None:
        """Give memory back, and wait for no answer. Twice is once."""
        shm, payload.shm = payload.shm, None
        if shm is None or self._supplicant is None:
            return
        param = TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT, rpc.OPTEE_RPC_SHM_TYPE_APPL, shm.id)
        shm.put()
        # Also where nobody waits for the rest: it is the supplicant's memory.
        self._supplicant.request(
            rpc.OPTEE_RPC_CMD_SHM_FREE, [param], lambda _ret, _params: None, nowait=True
        )
