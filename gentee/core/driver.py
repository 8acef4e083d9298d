# SPDX-License-Identifier: BSD-2-Clause
"""API provided by the generic TEE driver to the specific TEE driver (<linux/tee_core.h>).

A specific driver is a :class:`TeeDriver`: asked to ``probe``, it answers with the devices that it
has, each a :class:`TeeDesc` (name, implementation, capabilities, what memory it needs) with the
:class:`TeeDriverOps` that serve it. The generic driver checks everything that all TEEs share
before an operation is called: lengths, ids, parameters, limits, identities.

An operation that takes time must not wait. ``open_session``, ``invoke_func``, ``supp_recv`` and
``object_invoke_func`` may return :data:`PENDING` and call ``arg.complete()`` later, exactly once,
from any thread. ``arg.cancel`` is how such a call is asked to end early: set it, then look whether
``arg.abandoned`` is set already. A driver that can only wait says ``blocking = True`` and is called
in threads of its own.

Two exceptions may leave an operation. ``OSError``: the ioctl fails with that errno. ``TeeError``:
the ioctl works, and code and origin (``TEE_ORIGIN_TEE`` unless the error says otherwise) reach the
client. Anything else is a bug and becomes EIO.
"""

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from gentee.core.calls import InvokeArg, ObjectInvokeArg, OpenSessionArg, SuppRecvArg
    from gentee.core.context import TeeContext, TeeSession
    from gentee.core.device import TeeDevice
    from gentee.core.host import Host
    from gentee.core.params import TeeParam
    from gentee.core.protected_memory import ProtectedHeap
    from gentee.core.shm import TeeShm, TeeShmPool
    from gentee.core.trusted_services import LoadTsArg, TsInfo

ENOTSUPP = 524  # the kernel's own errno for an absent shm_register; user space sees the number


class _Pending:
    """The type of :data:`PENDING`."""

    def __repr__(self) -> str:
        return "PENDING"


PENDING: "Final" = _Pending()
OpResult = _Pending | None


class ShmNeeds:
    """What shared memory a specific driver needs; the generic driver enforces it.

    All sizes are in bytes. A request below ``smallest`` is rounded up to it; one above ``largest``
    or over a total is ENOMEM. Every buffer starts at a page and is a multiple of ``alignment``.
    """

    __slots__ = ("alignment", "largest", "per_context", "per_device", "registered", "smallest")

    def __init__(
        self,
        *,
        smallest: int = 1,
        largest: int = 1 << 30,
        alignment: int = 4096,
        per_context: int = 1 << 32,
        per_device: int = 1 << 34,
        registered: bool = True,
    ) -> None:
        if alignment <= 0 or alignment & (alignment - 1):
            raise ValueError("alignment must be a power of two")
        if not 0 < smallest <= largest <= per_context <= per_device:
            raise ValueError("smallest <= largest <= per_context <= per_device")
        self.smallest = smallest
        self.largest = largest
        self.alignment = alignment
        self.per_context = per_context
        self.per_device = per_device
        self.registered = registered  # takes memory that the client allocated itself


class TeeDesc:
    """Describes one device of a driver (struct tee_desc, and what the design thread added).

    :param name: of the implementation, for people: ``soft``, ``loopback``.
    :param impl_id: TEE_IMPL_ID_*; decides which clients feel addressed.
    :param impl_caps: its meaning depends on impl_id (TEE_OPTEE_CAP_TZ).
    :param gen_caps: TEE_GEN_CAP_*. The generic driver adds PRIVILEGED itself.
    :param privileged: a ``teeprivN`` device, for a supplicant.
    :param shm: the memory that the driver needs.
    :param pool: allocates shared memory itself, for a driver with needs of its own.
    :param heap: protected memory that can be registered here.
    :param is_heap: it is the device of that heap itself, and no TEE.
    :param takes_ubuf: whether UBUF parameters are understood; otherwise they are EINVAL.
    :param takes_objref: likewise OBJREF parameters.
    :param max_contexts: open files at once; more are ENOMEM.
    :param max_sessions: sessions of one context at once; more are TEE_ERROR_OUT_OF_MEMORY.
    """

    __slots__ = (
        "gen_caps", "heap", "impl_caps", "impl_id", "is_heap", "max_contexts", "max_sessions",
        "name", "ops", "pool", "privileged", "revision", "shm", "takes_objref", "takes_ubuf",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        ops: "TeeDriverOps",
        *,
        impl_id: int,
        impl_caps: int = 0,
        gen_caps: int = 0,
        privileged: bool = False,
        shm: ShmNeeds | None = None,
        pool: "TeeShmPool | None" = None,
        heap: "ProtectedHeap | None" = None,
        is_heap: bool = False,
        takes_ubuf: bool = False,
        takes_objref: bool = False,
        max_contexts: int = 65536,
        max_sessions: int = 65536,
    ) -> None:
        self.name = name
        self.ops = ops
        self.impl_id = impl_id
        self.impl_caps = impl_caps
        self.gen_caps = gen_caps
        self.privileged = privileged
        self.shm = shm if shm is not None else ShmNeeds()
        self.pool = pool
        self.heap = heap
        self.is_heap = is_heap
        self.takes_ubuf = takes_ubuf
        self.takes_objref = takes_objref
        self.max_contexts = max_contexts
        self.max_sessions = max_sessions


class TeeDriverOps(ABC):
    """The operations of a specific driver (struct tee_driver_ops).

    ``get_version``, ``open`` and ``release`` are mandatory. What a driver does not override it does
    not have: the client gets EINVAL, and ENOTSUPP for registering memory.
    """

    blocking = False  # operations may wait: call them in threads of their own

    @abstractmethod
    def get_version(self, teedev: "TeeDevice") -> tuple[int, int, int]:
        """Returns version of driver: impl_id, impl_caps, gen_caps."""

    def get_tee_revision(self, teedev: "TeeDevice") -> str:
        """Returns the revision of the TEE as one line for people."""
        raise OSError(errno.ENODEV, "get_tee_revision")

    @abstractmethod
    def open(self, ctx: "TeeContext") -> None:
        """Called for a context when the device file is opened. ``ctx.data`` is the driver's."""

    def close_context(self, ctx: "TeeContext") -> None:
        """Called when the device file is closed."""

    @abstractmethod
    def release(self, ctx: "TeeContext") -> None:
        """Called to release the context, after its sessions were closed."""

    def open_session(
        self, ctx: "TeeContext", arg: "OpenSessionArg", params: "list[TeeParam]"
    ) -> OpResult:
        """Opens a new session. ``arg.priv`` becomes the session's ``priv``."""
        raise OSError(errno.EINVAL, "open_session")

    def close_session(self, ctx: "TeeContext", session: "TeeSession") -> None:
        """Closes a session. Must not wait and must not fail."""
        raise OSError(errno.EINVAL, "close_session")

    def system_session(self, ctx: "TeeContext", session: "TeeSession") -> None:
        """Declares a session as a system session, for callers inside this program."""
        raise OSError(errno.EINVAL, "system_session")

    def invoke_func(
        self, ctx: "TeeContext", arg: "InvokeArg", params: "list[TeeParam]"
    ) -> OpResult:
        """Invokes a trusted function."""
        raise OSError(errno.EINVAL, "invoke_func")

    def object_invoke_func(
        self, ctx: "TeeContext", arg: "ObjectInvokeArg", params: "list[TeeParam]"
    ) -> OpResult:
        """Invokes a TEE object."""
        raise OSError(errno.EINVAL, "object_invoke_func")

    def cancel_req(self, ctx: "TeeContext", cancel_id: int, session: int) -> None:
        """Requests cancellation of an ongoing invoke or open."""
        raise OSError(errno.EINVAL, "cancel_req")

    def supp_recv(self, ctx: "TeeContext", arg: "SuppRecvArg") -> OpResult:
        """Called for the supplicant to get a command."""
        raise OSError(errno.EINVAL, "supp_recv")

    def supp_send(self, ctx: "TeeContext", ret: int, params: "list[TeeParam]") -> None:
        """Called for the supplicant to send a response."""
        raise OSError(errno.EINVAL, "supp_send")

    def load_ts(self, ctx: "TeeContext", arg: "LoadTsArg") -> OpResult:
        """Verifies and installs the service of ``arg.image``; sets ``arg.uuid``, ``arg.version``.

        Called in a thread of its own: it may wait.
        """
        raise OSError(errno.EINVAL, "load_ts")

    def get_ts_list(self, ctx: "TeeContext") -> "list[TsInfo]":
        """The trusted services that there are. Called in a thread of its own: it may wait."""
        raise OSError(errno.EINVAL, "get_ts_list")

    def shm_register(self, ctx: "TeeContext", shm: "TeeShm") -> None:
        """Registers shared memory buffer in TEE."""
        raise OSError(ENOTSUPP, "shm_register")

    def shm_unregister(self, ctx: "TeeContext", shm: "TeeShm") -> None:
        """Unregisters shared memory buffer in TEE."""
        raise OSError(ENOTSUPP, "shm_unregister")

    def has(self, operation: str) -> bool:
        """Whether this driver implements ``operation``, by its name above."""
        return getattr(type(self), operation) is not getattr(TeeDriverOps, operation)


class TeeDriver(ABC):
    """A specific driver: what the entry-point group ``gentee.drivers`` names."""

    name: str

    @abstractmethod
    def probe(self, host: "Host", options: "Mapping[str, Any]") -> Iterable[TeeDesc]:
        """The devices of this driver, clients' ones first.

        :param host: what the program that hosts the driver lends it: threads, processes, the log.
        :param options: from the command line or a manifest; a driver ignores what it does not know.
        """

    def remove(self) -> None:
        """The devices are unregistered: end what ``probe`` began."""
