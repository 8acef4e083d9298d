# SPDX-License-Identifier: BSD-2-Clause
"""What an instance of a trusted service is asked to do: one object per command.

``write`` puts the command into the mailbox when the instance is free for it; ``done`` takes the
result out when the instance has come back; ``died`` is called instead when it never will.
"""

import errno
from struct import Struct

from gentee.abi import ta_channel as ch
from gentee.abi.gp import (
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_TARGET_DEAD,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_SUCCESS,
)
from gentee.abi.linux_tee import (
    TEE_IOCTL_PARAM_ATTR_META,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_NONE,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT,
)
from gentee.core.calls import CallArg, InvokeArg, OpenSessionArg
from gentee.errors import TeeError
from gentee.secure.window import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.secure.instance import Instance
    from gentee.secure.nested import NestedCall

_RESULT = Struct("<QQ").unpack_from  # ret flags
_RESULT_OFFSET = 8 * ch.M_RET
_PARAMS = Struct("<12Q").unpack_from
_PARAMS_OFFSET = 8 * ch.M_PARAMS
_MAX_PARAMS = 4  # TEE_NUM_PARAMS

# What a command without a number is called in the log.
_NAMES = {
    ch.TA_CREATE: "the creation of an instance",
    ch.TA_OPEN_SESSION: "the opening of a session",
    ch.TA_CLOSE_SESSION: "the closing of a session",
    ch.TA_DESTROY: "the destruction of an instance",
}


class Command:
    """A command without parameters and without anybody who waits."""

    __slots__ = ("op", "session")

    # How many calls are inside each other with this one: 1 is a client's (secure.nested).
    depth: int = 1
    # Where in the window memory is that must be copied, which may take as long as a client likes.
    layout: Layout | None = None

    def __init__(self, op: int, session: int = 0) -> None:
        self.op = op
        self.session = session

    def write(self, instance: "Instance") -> int:
        """Fill the mailbox; the command's code. OSError and TeeError end the command at once."""
        words = instance.words
        words[ch.M_SESSION] = self.session
        words[ch.M_CANCEL] = 0
        words[ch.M_PARAM_TYPES] = 0
        return self.op

    def bulk(self) -> int:
        """How many bytes must be copied on the way in."""
        return 0

    def is_wanted(self) -> bool:
        """Whether somebody waits for its end."""
        return False

    def describe(self) -> str:
        """What it is, for the log."""
        return _NAMES.get(self.op, "a command")

    def done(self, instance: "Instance") -> None:
        """The instance has come back."""

    def failed(self, instance: "Instance", error: OSError | TeeError) -> None:
        """The command could not be given."""

    def died(self, instance: "Instance") -> None:
        """The instance is gone."""


class CallCommand(Command):
    """Open or invoke: somebody waits, and there may be parameters."""

    __slots__ = ("arg", "cancelled", "instance", "layout")

    arg: "CallArg | NestedCall"

    def __init__(
        self, op: int, instance: "Instance", session: int, arg: "CallArg | NestedCall"
    ) -> None:
        self.op = op
        self.session = session
        self.arg = arg
        self.instance = instance
        self.layout = None if not arg.params else _layout(arg)
        self.cancelled = False

    def cancel(self) -> None:
        """The client asks to end the call early."""
        self.instance.cancel(self)

    def _complete(self) -> None:
        # Call and command refer to each other: the collector of cycles need not find that out.
        self.arg.cancel = None
        self.arg.complete()

    def bulk(self) -> int:
        return self.layout.total if self.layout is not None else 0

    def is_wanted(self) -> bool:
        return not self.arg.abandoned

    def write(self, instance: "Instance") -> int:
        words = instance.words
        arg = self.arg
        words[ch.M_SESSION] = self.session
        words[ch.M_CANCEL] = 0
        if self.cancelled:  # while its memory was copied; looked at after the word was cleared
            words[ch.M_CANCEL] = 1
        if arg.params:
            instance.write_params(arg.params, self.layout)
        else:
            words[ch.M_PARAM_TYPES] = 0
        return self.op

    def done(self, instance: "Instance") -> None:
        self._take_result(instance)
        self._complete()

    def _take_result(self, instance: "Instance") -> None:
        arg = self.arg
        ret, _flags = _RESULT(instance.mailbox, _RESULT_OFFSET)
        arg.ret = ret & 0xFFFF_FFFF
        arg.ret_origin = TEE_ORIGIN_TRUSTED_APP
        if arg.params:
            self._take_params(instance)

    def _take_params(self, instance: "Instance") -> None:
        # One look at the words that the service may write; only outputs are taken.
        words = _PARAMS(instance.mailbox, _PARAMS_OFFSET)
        arg = self.arg
        for index, param in enumerate(arg.params):
            kind = param.attr
            if kind <= TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT:
                continue
            if kind < TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT:
                # GP values have 32 bits; c is the ioctl's alone.
                param.a = words[3 * index] & 0xFFFF_FFFF
                param.b = words[3 * index + 1] & 0xFFFF_FFFF
            elif kind > TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT:
                param.b = words[3 * index + 1]
        if self.layout is not None and self.layout.outputs:
            try:
                instance.window.copy_out(self.layout)
            except OSError as error:
                arg.error = error.errno or errno.EFAULT

    def failed(self, instance: "Instance", error: OSError | TeeError) -> None:
        if isinstance(error, TeeError):
            self.arg.fail(error)
        else:
            self.arg.error = error.errno or errno.EIO
        self._complete()

    def died(self, instance: "Instance") -> None:
        self.arg.ret = TEE_ERROR_TARGET_DEAD
        self.arg.ret_origin = TEE_ORIGIN_TEE
        self._complete()


class InvokeCommand(CallCommand):
    """TA_InvokeCommandEntryPoint."""

    __slots__ = ()
    arg: "InvokeArg | NestedCall"

    def write(self, instance: "Instance") -> int:
        instance.words[ch.M_FUNC] = self.arg.func
        return super().write(instance)

    def describe(self) -> str:
        return f"command {self.arg.func}"


class OpenCommand(CallCommand):
    """TA_OpenSessionEntryPoint."""

    __slots__ = ()
    arg: "OpenSessionArg | NestedCall"

    def write(self, instance: "Instance") -> int:
        arg = self.arg
        words = instance.words
        words[ch.M_LOGIN] = arg.clnt_login
        words[ch.M_CLIENT_UUID] = int.from_bytes(arg.clnt_uuid[:8], "little")
        words[ch.M_CLIENT_UUID + 1] = int.from_bytes(arg.clnt_uuid[8:], "little")
        return super().write(instance)

    def done(self, instance: "Instance") -> None:
        self._take_result(instance)
        if self.arg.ret != TEE_SUCCESS:
            instance.session_refused(self.session)
        elif self.arg.error:
            # The outputs did not reach the client, which so never learns of the session.
            instance.submit(Command(ch.TA_CLOSE_SESSION, self.session))
            instance.session_refused(self.session)
        self._complete()

    def failed(self, instance: "Instance", error: OSError | TeeError) -> None:
        instance.session_refused(self.session)
        self.arg.priv = None
        super().failed(instance, error)

    def died(self, instance: "Instance") -> None:
        # Who keeps the call, such as an exception's frames, does not keep the instance.
        self.arg.priv = None
        if instance.create_error:
            # Why there is no instance; mostly the create entry point said so.
            self.arg.ret = instance.create_error
            self.arg.ret_origin = instance.create_origin
            self._complete()
        else:
            super().died(instance)


def _layout(arg: "CallArg | NestedCall") -> Layout | None:
    for param in arg.params:
        shm = param.shm
        if shm is not None and shm.backing is not None:
            return Layout(arg.params)
    return None


def check_gp_params(arg: CallArg) -> None:
    """TEE_ERROR_BAD_PARAMETERS for what a GlobalPlatform service cannot get."""
    params = arg.params
    if len(params) > _MAX_PARAMS:
        if any(p.attr != TEE_IOCTL_PARAM_ATTR_TYPE_NONE for p in params[_MAX_PARAMS:]):
            raise TeeError(TEE_ERROR_BAD_PARAMETERS, TEE_ORIGIN_TEE, "more than four parameters")
        del params[_MAX_PARAMS:]
    for param in params:
        if param.attr & TEE_IOCTL_PARAM_ATTR_META:
            raise TeeError(TEE_ERROR_BAD_PARAMETERS, TEE_ORIGIN_TEE, "META parameter")
