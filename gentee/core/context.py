# SPDX-License-Identifier: BSD-2-Clause
"""Contexts and sessions (tee_core.c): what an open device file is, and what it holds."""

import errno
import os
from collections.abc import Callable

from gentee.abi.linux_tee import TEE_GEN_CAP_MEMREF_NULL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gentee.core.calls import CallArg
    from gentee.core.device import TeeDevice
    from gentee.core.shm import TeeShm


class TeeSession:
    """An open session of a context. ``priv`` is the specific driver's."""

    __slots__ = ("ctx", "id", "priv", "system", "uuid")

    def __init__(self, ctx: "TeeContext", session_id: int, uuid: bytes, priv: "Any") -> None:
        self.ctx = ctx
        self.id = session_id
        self.uuid = uuid
        self.priv = priv
        self.system = False


class TeeContext:
    """An open device file (struct tee_context). ``data`` is the specific driver's.

    ``sessions`` and ``shms`` are keyed by the ids that the client uses; an id of another context is
    as unknown as one that never was. ``pending`` holds the calls that are under way.
    """

    __slots__ = (
        "cap_memref_null", "data", "idle", "pending", "releasing", "sessions", "shm_bytes", "shms",
        "supp_nowait", "teedev",
    )  # fmt: skip

    def __init__(self, teedev: "TeeDevice") -> None:
        self.teedev = teedev
        self.data: Any = None
        self.sessions: dict[int, TeeSession] = {}
        self.shms: dict[int, TeeShm] = {}
        self.shm_bytes = 0
        self.pending: set[CallArg] = set()
        self.idle: Callable[[], None] | None = None  # waits for the last pending call
        self.releasing = False
        self.supp_nowait = False  # set for callers inside this program
        self.cap_memref_null = bool(teedev.version[2] & TEE_GEN_CAP_MEMREF_NULL)

    def wait_idle(self, then: Callable[[], None]) -> bool:
        """Call ``then`` once no call is pending; False, and nothing is called, if none is now.

        A call in the kernel holds its file: a context does not end under it.
        """
        self.idle = then
        if self.pending:
            return True
        # If the last one ended just now, whoever takes the callback away decides.
        with self.teedev.mutex:
            mine, self.idle = self.idle, None
        return mine is None

    def call_idle(self) -> None:
        """A call ended while somebody waits for the last one."""
        if not self.pending:
            with self.teedev.mutex:
                then, self.idle = self.idle, None
            if then is not None:
                then()

    def shm_get_from_id(self, shm_id: int) -> "TeeShm":
        """Find shared memory by id and take a reference; EINVAL if it is not this context's."""
        with self.teedev.mutex:
            shm = self.shms.get(shm_id)
            if shm is None:
                raise OSError(errno.EINVAL, "shm id")
            shm.refcount += 1
        return shm

    def remember_shm(self, shm: "TeeShm") -> None:
        """Give ``shm`` its id and count its bytes; ENOMEM over the driver's totals."""
        teedev, needs = self.teedev, self.teedev.desc.shm
        with teedev.mutex:
            if self.shm_bytes + shm.size > needs.per_context:
                raise OSError(errno.ENOMEM, "shared memory of this context")
            if teedev.shm_bytes + shm.size > needs.per_device:
                raise OSError(errno.ENOMEM, "shared memory of this device")
            shm.id = teedev.shm_ids.alloc()
            self.shms[shm.id] = shm
            self.shm_bytes += shm.size
            teedev.shm_bytes += shm.size

    def forget_shm(self, shm: "TeeShm") -> None:
        """The opposite; the device's mutex is held."""
        self.forget_shm_id(shm)
        self.shm_bytes -= shm.size
        self.teedev.shm_bytes -= shm.size

    def forget_shm_id(self, shm: "TeeShm") -> None:
        """No further call finds ``shm``; the device's mutex is held. Twice is once."""
        # By then the number may be that of another one.
        if self.shms.get(shm.id) is shm:
            del self.shms[shm.id]
            self.teedev.shm_ids.free(shm.id)


def teedev_open(teedev: "TeeDevice") -> TeeContext:
    """A new context of ``teedev``; OSError as the specific driver's ``open`` says."""
    teedev.get()
    try:
        ctx = TeeContext(teedev)
        with teedev.mutex:
            if len(teedev.contexts) >= teedev.desc.max_contexts:
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            teedev.contexts.add(ctx)
        try:
            teedev.ops.open(ctx)
        except BaseException:
            with teedev.mutex:
                teedev.contexts.discard(ctx)
            raise
    except BaseException:
        teedev.put()
        raise
    return ctx


def end_session(ctx: TeeContext, session: TeeSession) -> None:
    """A session that the context no longer has: tell the driver, then its id may be used again.

    As in the kernel, a driver without ``close_session`` ends its sessions in ``release``.
    """
    teedev = ctx.teedev
    try:
        if "close_session" in teedev.operations:
            teedev.ops.close_session(ctx, session)
    finally:
        teedev.session_ids.free(session.id)


def teedev_close_context(ctx: TeeContext) -> None:
    """The last descriptor of the context was closed: its sessions end, its shared memory stays.

    Memory that was mapped (TEE_IOC_MEM_MAP) has no descriptor of its own, and ends here too.
    In Linux each shared buffer keeps its whole context alive. Here sessions end with the last
    descriptor, and each buffer at its own end; see docs/device-abi.md.
    """
    teedev = ctx.teedev
    with teedev.mutex:
        if ctx.releasing:
            return
        ctx.releasing = True
        teedev.contexts.discard(ctx)
        sessions = list(ctx.sessions.values())
        ctx.sessions.clear()
        mappings = [shm for shm in ctx.shms.values() if shm.is_mapping]
    for arg in tuple(ctx.pending):
        arg.abandon()
    try:
        for session in sessions:
            end_session(ctx, session)
        for shm in mappings:
            shm.put_owner()
        teedev.ops.close_context(ctx)
    finally:
        teedev.ops.release(ctx)
        teedev.put()
