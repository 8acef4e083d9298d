# SPDX-License-Identifier: BSD-2-Clause
"""What a pseudo TA is made of (OP-TEE core/include/kernel/pseudo_ta.h, core/kernel/pseudo_ta.c).

A pseudo TA is a class: a UUID, a name, flags, and entry points. An entry point is called in a
thread that may wait for a moment, never in the receiving one. It returns, or raises a TeeError: its
code is the result, with origin TEE_ORIGIN_TRUSTED_APP. Outputs are taken in both cases. Any other
exception is a bug, and costs that call only (TEE_ERROR_GENERIC, origin TEE).
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from gentee.abi.gp import TEE_LOGIN_TRUSTED_APP
from gentee.abi.optee_pta import PTA_DEFAULT_FLAGS
from gentee.errors import BadParameters, TeeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gentee.core.host import Host
    from gentee.secure.instance import Instance
    from gentee.secure.tee import SoftTee


class Value:
    """A parameter of two numbers of 32 bits; more bits of an output are dropped."""

    __slots__ = ("a", "b")

    def __init__(self, a: int = 0, b: int = 0) -> None:
        self.a = a
        self.b = b


class MemRef:
    """A parameter of memory.

    ``buffer`` are the bytes themselves, to read and to write: the pages that a client shares, or
    a copy of memory that can only be copied, which goes back after the call. It is None for a NULL
    reference and for one of no bytes. Whoever shares the pages may write them at any time: read
    once, and check what was read. After the call it cannot be used any more.

    ``is_secure`` and ``is_protected`` say whose the bytes are, where they are not those of the
    normal world: a service's own, or of a secure data path (also secure).

    ``size`` is that of ``buffer``; set to how many bytes of an output count, or to how many it
    takes, before a ShortBuffer is raised.
    """

    __slots__ = ("buffer", "is_protected", "is_secure", "size")

    def __init__(
        self,
        buffer: memoryview | None,
        size: int,
        *,
        is_secure: bool = False,
        is_protected: bool = False,
    ) -> None:
        self.buffer = buffer
        self.size = size
        self.is_secure = is_secure or is_protected
        self.is_protected = is_protected

    def read(self) -> bytes:
        """What is there now."""
        return bytes(self.buffer) if self.buffer is not None else b""


Param = Value | MemRef | None


class PtaSession:
    """A session with a pseudo TA. ``context`` is the pseudo TA's own.

    :ivar client: TEE_LOGIN_* and 16 bytes: who opened it.
    :ivar caller: the instance of the service that opened it, None for a client of the normal world.
    """

    __slots__ = ("caller", "client", "context", "id")

    def __init__(
        self, session_id: int, client: tuple[int, bytes], caller: "Instance | None"
    ) -> None:
        self.id = session_id
        self.client = client
        self.caller = caller
        self.context: Any = None

    @property
    def is_from_ta(self) -> bool:
        """Whether a service opened it, not a client of the normal world."""
        return self.caller is not None and self.client[0] == TEE_LOGIN_TRUSTED_APP


class Later:
    """Returned by an entry point whose result comes later: nothing waits meanwhile.

    :param cancel: called, in any thread, when nobody is left who waits for the result; it is still
        to come. It must not wait.
    :param ends_early: call it also when the caller's cancellation or timeout comes, which what
        pseudo TAs of OP-TEE do goes on after.
    """

    def __init__(
        self, cancel: Callable[[], None] | None = None, *, ends_early: bool = False
    ) -> None:
        self._lock = threading.Lock()
        self._then: Callable[[TeeError | None], None] | None = None
        self._is_done = False
        self._error: TeeError | None = None
        self.cancel = cancel
        self.ends_early = ends_early

    @property
    def is_done(self) -> bool:
        return self._is_done

    def done(self, error: TeeError | None = None) -> None:
        """The result: success, or an error. Once, from any thread."""
        with self._lock:
            if self._is_done:
                raise RuntimeError("the result is there already")
            self._is_done, self._error, then = True, error, self._then
            # What waited refers to this: the collector of cycles need not find that out.
            self._then = self.cancel = None
        if then is not None:
            then(error)

    def when_done(self, then: Callable[[TeeError | None], None]) -> None:
        """Call ``then`` with the result, now or when it is there."""
        with self._lock:
            now = self._is_done
            if not now:
                self._then = then
        if now:
            then(self._error)


class PseudoTa(ABC):
    """A pseudo TA. One object for each TEE, of which nothing is there yet when it is made.

    Sessions of a pseudo TA with TA_FLAG_CONCURRENT are served at the same time, the calls of one
    session one after the other; without that flag all calls come one after the other.
    """

    uuid: str
    name: str  # in the log
    flags: int = PTA_DEFAULT_FLAGS  # PTA_MANDATORY_FLAGS and others of PTA_ALLOWED_FLAGS

    def __init__(self, tee: "SoftTee", host: "Host") -> None:
        self.tee = tee
        self.host = host

    def create(self) -> None:
        """Before the first session is opened, and again after the last one was closed."""

    def destroy(self) -> None:
        """After the last session was closed."""

    def open_session(
        self, session: PtaSession, param_types: int, params: list[Param]
    ) -> Later | None:
        """A client or a service opens a session. TeeError refuses it."""
        return None

    def close_session(self, session: PtaSession) -> None:
        """A session that was opened ends."""

    @abstractmethod
    def invoke_command(
        self, session: PtaSession, command: int, param_types: int, params: list[Param]
    ) -> Later | None:
        """A command in an open session.

        :param param_types: TEE_PARAM_TYPES(); those of missing parameters are NONE.
        :param params: four, each as its type says; None for NONE.
        """


def expect(param_types: int, *kinds: int) -> None:
    """TEE_ERROR_BAD_PARAMETERS unless the parameters have these types, and the rest is NONE."""
    expected = sum(kind << 4 * index for index, kind in enumerate(kinds))
    if param_types != expected:
        raise BadParameters(f"parameter types {param_types:#06x}, not {expected:#06x}")


def memref(params: list[Param], index: int) -> MemRef:
    """Parameter ``index``, whose type :func:`expect` has checked."""
    param = params[index]
    assert isinstance(param, MemRef)
    return param


def value(params: list[Param], index: int) -> Value:
    """Parameter ``index``, whose type :func:`expect` has checked."""
    param = params[index]
    assert isinstance(param, Value)
    return param
