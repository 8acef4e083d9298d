# SPDX-License-Identifier: BSD-2-Clause
"""Sessions, functions and objects.

Every UUID but the nil one has a trusted service, and all of them are the same. Its functions:

==  ==========  ===================================================================================
no  name        does
==  ==========  ===================================================================================
0   NOP         nothing
1   COPY        the first input (value or memref) to every other parameter that is an output, all
                of the same kind; TEE_ERROR_SHORT_BUFFER and the needed size where one is too small
2   INCREMENT   a and b of every VALUE_INOUT by one, modulo 2**64
3   FILL        every memref that is an output with the byte ``params[0].a``
4   RETURN      answers ``params[0].a`` with the origin ``params[0].b``
5   WAIT        waits for RELEASE, or for a cancellation: TEE_ERROR_CANCEL
6   RELEASE     ends every WAIT of this TEE; how many is ``params[0].a`` of a VALUE_OUTPUT
7   SUPPLICANT  asks the supplicant for function ``params[0].a`` with the other parameters, which
                must be values, and answers what it answers
8   ERRNO       the ioctl fails with the errno ``params[0].a``, 1 to 4095
9   CLIENT      who opened the session, in every VALUE_OUTPUT: a and b the 16 bytes of its UUID as
                two words of 64 bits, least significant byte first, c its login
==  ==========  ===================================================================================

Another number is TEE_ERROR_NOT_SUPPORTED, and a wrong ``params[0]`` TEE_ERROR_BAD_PARAMETERS. The
origin is TEE_ORIGIN_TRUSTED_APP, also of successes. When a session ends, what waits in it ends with
TEE_ERROR_TARGET_DEAD and origin TEE_ORIGIN_TEE: the service that would have answered is gone.

Every object answers operation 0, ECHO: the first objref that comes in goes to every OBJREF_OUTPUT,
and the size of the first ubuf that comes in to every UBUF_OUTPUT. Others are
TEE_ERROR_NOT_SUPPORTED.
"""

import threading
from functools import partial

from gentee.abi.gp import (
    TEE_ERROR_CANCEL,
    TEE_ERROR_TARGET_DEAD,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_SUCCESS,
)
from gentee.abi.linux_tee import (
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT,
)
from gentee.core.calls import InvokeArg, ObjectInvokeArg, OpenSessionArg, find_pending
from gentee.core.context import TeeContext, TeeSession
from gentee.core.driver import PENDING, OpResult
from gentee.core.params import TeeParam
from gentee.core.supp import Supplicant, SuppRequest
from gentee.drivers.loopback.services import Services
from gentee.drivers.loopback.shm import OpenWindows
from gentee.errors import BadParameters, Cancel, ItemNotFound, NotSupported, ShortBuffer, TargetDead

# Functions of every service
NOP = 0
COPY = 1
INCREMENT = 2
FILL = 3
RETURN = 4
WAIT = 5
RELEASE = 6
SUPPLICANT = 7
ERRNO = 8
CLIENT = 9

# Operations of every object
ECHO = 0

_U64 = 0xFFFF_FFFF_FFFF_FFFF
_MAX_ERRNO = 4095  # <linux/err.h>

_VALUES_IN = (TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT, TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT)
_VALUES_OUT = (TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT, TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT)
_MEMREFS_IN = (TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT)
_MEMREFS_OUT = (TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT, TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT)
_OBJREFS_IN = (TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT, TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INOUT)
_UBUFS_IN = (TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT, TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INOUT)


class Session:
    """A session of a client with a trusted service."""

    __slots__ = ("closed", "clnt_login", "clnt_uuid")

    def __init__(self, clnt_uuid: bytes, clnt_login: int) -> None:
        self.closed = False
        self.clnt_uuid = clnt_uuid
        self.clnt_login = clnt_login


class Parked:
    """A call that waits, in its session."""

    __slots__ = ("is_wait", "request", "session")

    def __init__(self, session: Session, *, is_wait: bool) -> None:
        self.session = session
        self.is_wait = is_wait  # what RELEASE ends
        self.request: SuppRequest | None = None


class Loopback:
    """One TEE: what its two devices share.

    ``lock`` protects ``parked`` and whether sessions are closed. A parked call is completed by
    whoever takes it out, after letting go of the lock.
    """

    def __init__(self) -> None:
        self.supplicant = Supplicant()
        self.services = Services()
        self.lock = threading.Lock()
        self.parked: dict[InvokeArg, Parked] = {}

    def park(self, arg: InvokeArg, *, is_wait: bool) -> Parked:
        """From here on ``arg`` can be ended by anybody, once."""
        session: Session = arg.priv
        parked = Parked(session, is_wait=is_wait)
        with self.lock:
            if session.closed:
                raise TargetDead("the session was closed", TEE_ORIGIN_TEE)
            arg.cancel = partial(self.end, arg, TEE_ERROR_CANCEL)
            # abandon() sets its mark before it looks for cancel: one of us sees the other.
            if arg.abandoned:
                raise Cancel("abandoned", TEE_ORIGIN_TRUSTED_APP)
            self.parked[arg] = parked
        return parked

    def end(self, arg: InvokeArg, ret: int, origin: int = TEE_ORIGIN_TRUSTED_APP) -> None:
        """Complete ``arg`` if it is still parked."""
        with self.lock:
            parked = self.parked.pop(arg, None)
            request = parked.request if parked is not None else None
        if parked is None:
            return
        if request is not None:
            request.withdraw()
        arg.ret, arg.ret_origin = ret, origin
        arg.complete()

    def parked_in(self, session: Session) -> list[InvokeArg]:
        """The session is closed: the calls that are to be ended."""
        with self.lock:
            session.closed = True
            return [arg for arg, parked in self.parked.items() if parked.session is session]

    def waits(self) -> list[InvokeArg]:
        with self.lock:
            return [arg for arg, parked in self.parked.items() if parked.is_wait]


def open_session(tee: Loopback, arg: OpenSessionArg) -> OpResult:
    """A session with the service ``arg.uuid``."""
    if not any(arg.uuid):
        raise ItemNotFound("the nil UUID", TEE_ORIGIN_TEE)
    arg.priv = Session(arg.clnt_uuid, arg.clnt_login)
    arg.ret_origin = TEE_ORIGIN_TRUSTED_APP
    return None


def close_session(tee: Loopback, session: TeeSession) -> None:
    for arg in tee.parked_in(session.priv):
        tee.end(arg, TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE)


def cancel_req(ctx: TeeContext, cancel_id: int, session: int) -> None:
    """As in OP-TEE a cancellation that finds nothing to cancel is no error."""
    for arg in find_pending(ctx, cancel_id, session):
        if arg.cancel is not None:
            arg.cancel()


def invoke_func(tee: Loopback, arg: InvokeArg) -> OpResult:
    """Run one of the functions of the table above."""
    arg.ret_origin = TEE_ORIGIN_TRUSTED_APP
    function = _FUNCTIONS.get(arg.func)
    if function is None:
        raise NotSupported(f"function {arg.func}", TEE_ORIGIN_TRUSTED_APP)
    return function(tee, arg, arg.params)


def object_invoke_func(arg: ObjectInvokeArg) -> OpResult:
    """Run an operation of an object; all objects are the same."""
    if arg.op != ECHO:
        raise NotSupported(f"operation {arg.op}", TEE_ORIGIN_TRUSTED_APP)
    params = arg.params
    objref = next((param for param in params if param.type in _OBJREFS_IN), None)
    ubuf = next((param for param in params if param.type in _UBUFS_IN), None)
    for param in params:
        if param.type == TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_OUTPUT:
            if objref is None:
                raise _bad_parameters("no objref to echo")
            param.a, param.b = objref.a, objref.b
        elif param.type == TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_OUTPUT:
            if ubuf is None:
                raise _bad_parameters("no ubuf to echo")
            param.b = ubuf.b
    return None


def _bad_parameters(detail: str) -> BadParameters:
    return BadParameters(detail, TEE_ORIGIN_TRUSTED_APP)


def _first_value(params: list[TeeParam]) -> TeeParam:
    if not params or params[0].type not in _VALUES_IN:
        raise _bad_parameters("params[0] must be a value that comes in")
    return params[0]


def _nop(tee: Loopback, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
    return None


def _copy(tee: Loopback, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
    source = next((p for p in params if p.type in _VALUES_IN or p.type in _MEMREFS_IN), None)
    if source is None:
        raise _bad_parameters("nothing comes in")
    outputs = [
        param
        for param in params
        if param is not source and (param.type in _VALUES_OUT or param.type in _MEMREFS_OUT)
    ]
    if any(output.is_memref() != source.is_memref() for output in outputs):
        raise _bad_parameters("values and memrefs do not mix")
    if not source.is_memref():
        for output in outputs:
            output.a, output.b, output.c = source.a, source.b, source.c
        return None
    if source.shm is None and source.b:
        raise _bad_parameters("a NULL reference with a size")
    short = False
    with OpenWindows(params) as windows:
        by_param = dict(zip(params, windows, strict=True))
        # Bytes, since an output may lie over the input.
        data = bytes(by_param[source] or b"")
        for output in outputs:
            window = by_param[output]
            if len(data) > (len(window) if window is not None else 0):
                short = True
            elif window is not None:
                window[: len(data)] = data
            output.b = len(data)
    if short:
        raise ShortBuffer(f"{len(data)} bytes", TEE_ORIGIN_TRUSTED_APP)
    return None


def _increment(tee: Loopback, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
    for param in params:
        if param.type == TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT:
            param.a = param.a + 1 & _U64
            param.b = param.b + 1 & _U64
    return None


def _fill(tee: Loopback, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
    byte = _first_value(params).a
    if byte > 0xFF:
        raise _bad_parameters("no byte")
    with OpenWindows(params) as windows:
        for param, window in zip(params, windows, strict=True):
            if param.type in _MEMREFS_OUT and window is not None:
                window[:] = bytes([byte]) * len(window)
    return None


def _return(tee: Loopback, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
    value = _first_value(params)
    arg.ret = value.a & 0xFFFF_FFFF
    arg.ret_origin = value.b & 0xFFFF_FFFF
    return None


def _wait(tee: Loopback, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
    tee.park(arg, is_wait=True)
    return PENDING


def _release(tee: Loopback, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
    waits = tee.waits()
    for wait in waits:
        tee.end(wait, TEE_SUCCESS)
    if params and params[0].type == TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT:
        params[0].a = len(waits)
    return None


def _supplicant(tee: Loopback, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
    func = _first_value(params).a & 0xFFFF_FFFF
    asked = params[1:]
    if any(param.is_memref() for param in asked):
        # The supplicant knows its own memory only, by ids of its own context.
        raise _bad_parameters("a memref for the supplicant")
    parked = tee.park(arg, is_wait=False)
    request = tee.supplicant.request(
        func, asked, lambda ret, _params: tee.end(arg, ret), nowait=arg.ctx.supp_nowait
    )
    with tee.lock:
        parked.request = request
        ended = arg not in tee.parked
    if ended:
        # By the supplicant, and this does nothing; or otherwise, by one who did not know of it.
        request.withdraw()
    return PENDING


def _errno(tee: Loopback, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
    number = _first_value(params).a
    if not 0 < number <= _MAX_ERRNO:
        raise _bad_parameters("no errno")
    raise OSError(number, "as asked")


def _client(tee: Loopback, arg: InvokeArg, params: list[TeeParam]) -> OpResult:
    session: Session = arg.priv
    for param in params:
        if param.type == TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT:
            param.a = int.from_bytes(session.clnt_uuid[:8], "little")
            param.b = int.from_bytes(session.clnt_uuid[8:], "little")
            param.c = session.clnt_login
    return None


_FUNCTIONS = {
    NOP: _nop,
    COPY: _copy,
    INCREMENT: _increment,
    FILL: _fill,
    RETURN: _return,
    WAIT: _wait,
    RELEASE: _release,
    SUPPLICANT: _supplicant,
    ERRNO: _errno,
    CLIENT: _client,
}
