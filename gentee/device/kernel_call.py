# SPDX-License-Identifier: BSD-2-Clause
"""How a call of this program is made: parameters are held, and its caller waits (kernel.py)."""

import errno
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gentee.abi.linux_tee import (
    TEE_IOCTL_PARAM_ATTR_MASK,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_NONE,
    TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT,
)
from gentee.core import calls
from gentee.core.context import TeeContext
from gentee.core.params import MAX_PARAMS, TeeParam, check_direction
from gentee.core.shm import TEE_SHM_LIMITED, TeeShm


def check_open(ctx: TeeContext) -> None:
    if ctx.releasing:
        raise OSError(errno.EBADF, "the context is closed")


def hold(ctx: TeeContext, param: Sequence[TeeParam]) -> list[TeeShm]:
    """Check parameters as params_from_user() does and hold their shared memory for the call."""
    if len(param) > MAX_PARAMS:
        raise OSError(errno.EINVAL, "num_params")
    held: list[TeeShm] = []
    try:
        for one in param:
            if one.attr & ~TEE_IOCTL_PARAM_ATTR_MASK or one.a < 0 or one.b < 0:
                raise OSError(errno.EINVAL, "parameter")
            kind = one.type
            if TEE_IOCTL_PARAM_ATTR_TYPE_NONE <= kind <= TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT:
                continue
            if (
                TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT
                <= kind
                <= TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT
            ):
                _hold_memref(ctx, one, held)
            elif not (
                ctx.teedev.desc.takes_objref
                and TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT
                <= kind
                <= TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INOUT
            ):
                # UBUF too: it names an address of user space, and there is none here.
                raise OSError(errno.EINVAL, "attribute type")
    except BaseException:
        drop(held)
        raise
    return held


def _hold_memref(ctx: TeeContext, param: TeeParam, held: list[TeeShm]) -> None:
    if param.shm is None:
        if not ctx.cap_memref_null:
            raise OSError(errno.EINVAL, "NULL memref")
        return
    # By id and not by the object: one that was freed is no longer there.
    shm = ctx.shm_get_from_id(param.shm.id)
    held.append(shm)
    if shm is not param.shm:
        raise OSError(errno.EINVAL, "shared memory that was freed")
    if param.a + param.b > shm.size:
        raise OSError(errno.EINVAL, "memref beyond the shared memory")
    if shm.flags & TEE_SHM_LIMITED:
        check_direction(param, shm)


def drop(shms: Iterable[TeeShm]) -> None:
    for shm in shms:
        shm.put()


class Waiter:
    """Waits for one call and drops the shared memory that it holds."""

    __slots__ = ("_done", "_finished", "_left", "_mutex", "_shms")

    def __init__(self, shms: list[TeeShm]) -> None:
        self._shms = shms
        self._done = threading.Lock()  # taken until the call is done; an Event costs ten times that
        self._done.acquire()
        self._mutex = threading.Lock()  # protects the two below
        self._finished = False
        self._left = False

    def done(self, call: calls.CallArg) -> None:
        """The call is complete; in whatever thread."""
        drop(self._shms)
        with self._mutex:
            self._finished = True
            left = self._left
        if left:
            _end_session_of(call)
        self._done.release()

    def run(self, start: Callable[[Any, Any], None], call: calls.CallArg) -> None:
        """Start the call and wait; OSError when it failed as an ioctl does."""
        try:
            start(call.ctx.teedev.ops, call)
            self._done.acquire()
        except BaseException:
            self._leave(call)
            raise
        if call.error:
            raise OSError(call.error, os.strerror(call.error))

    def _leave(self, call: calls.CallArg) -> None:
        """The caller was interrupted, or the driver has a bug: nobody takes the answer."""
        with self._mutex:
            self._left = True
            finished = self._finished
        if finished:
            _end_session_of(call)
        else:
            call.abandon()


def _end_session_of(call: calls.CallArg) -> None:
    """Close what a call opened for a caller that is not there any more."""
    if isinstance(call, calls.OpenSessionArg) and call.session:
        try:
            calls.close_session(call.ctx, call.session)
        except OSError:  # the context was closed meanwhile, and the session with it
            pass
