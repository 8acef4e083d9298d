# SPDX-License-Identifier: BSD-2-Clause
"""What an instance of a trusted service is asked to do: one object per command.

``write`` puts the command into the mailbox when the instance is free for it; ``done`` takes the
result out when the instance has come back; ``died`` is called instead when it never will.
"""

import errno
import os
from struct import Struct

from gentee.abi import ta_channel as ch
from gentee.abi.gp import (
    TEE_ERROR_BAD_PARAMETERS,
    TEE_ERROR_OUT_OF_MEMORY,
    TEE_ERROR_TARGET_DEAD,
    TEE_ORIGIN_TEE,
    TEE_ORIGIN_TRUSTED_APP,
    TEE_PARAM_TYPE_VALUE_OUTPUT,
    TEE_PARAM_TYPES,
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
    from collections.abc import Callable

    from gentee.secure.instance import Instance
    from gentee.secure.nested import NestedCall
    from gentee.secure.pta.instance import PseudoInstance

_RESULT = Struct("<QQ").unpack_from  # ret flags
_RESULT_OFFSET = 8 * ch.M_RET
_PARAMS = Struct("<12Q").unpack_from
_PARAMS_OFFSET = 8 * ch.M_PARAMS
_MAX_PARAMS = 4  # TEE_NUM_PARAMS

_THREE_VALUES_OUT = TEE_PARAM_TYPES(
    TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_VALUE_OUTPUT, 0
)

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


class CreateCommand(Command):
    """Load the service and create the instance; what follows waits until it is done.

    :param kind: CREATE_*, for TAs of OP-TEE.
    :param blocks: descriptor of its noted blocks, which goes with this object; -1 for none.
    """

    __slots__ = ("_blocks", "_kind", "depth")

    def __init__(self, depth: int, kind: int = ch.CREATE_PLAIN, blocks: int = -1) -> None:
        super().__init__(ch.TA_CREATE)
        self.depth = depth
        self._kind = kind
        self._blocks = blocks

    @property
    def is_forked(self) -> bool:
        """Whether the process is a fork of one in which all this was done."""
        return self._kind == ch.CREATE_FORKED

    def __del__(self) -> None:
        if self._blocks >= 0:
            os.close(self._blocks)

    def write(self, instance: "Instance") -> int:
        super().write(instance)
        words = instance.words
        words[ch.M_KIND] = self._kind
        memory, parked = instance.memory, instance.parked
        words[ch.M_FUNC] = memory.install_source(parked, instance.source)
        if self._blocks >= 0:
            words[ch.M_BLOCKS] = memory.install(parked, self._blocks)
        words[ch.M_UUID] = int.from_bytes(instance.service.uuid[:8], "little")
        words[ch.M_UUID + 1] = int.from_bytes(instance.service.uuid[8:], "little")
        words[ch.M_MEMORY_LIMIT] = instance.memory_limit << 20
        return self.op

    def done(self, instance: "Instance") -> None:
        # Nothing of an OP-TEE TA runs at its creation: what failed is the loading.
        origin = TEE_ORIGIN_TEE if instance.service.is_elf else TEE_ORIGIN_TRUSTED_APP
        instance.created(instance.words[ch.M_RET] & 0xFFFF_FFFF, origin)
        if self._kind in (ch.CREATE_RECORDED, ch.CREATE_TEMPLATE):
            instance.noted()

    def failed(self, instance: "Instance", error: OSError | TeeError) -> None:
        code = error.code if isinstance(error, TeeError) else TEE_ERROR_OUT_OF_MEMORY
        instance.created(code, TEE_ORIGIN_TEE)
        self.died(instance)

    def died(self, instance: "Instance") -> None:
        if self._kind == ch.CREATE_RECORDED:  # another one is to be the first
            instance.noted()


class DestroyCommand(Command):
    """Call the destroy entry point; the process ends by itself."""

    __slots__ = ("depth",)

    def __init__(self, depth: int) -> None:
        super().__init__(ch.TA_DESTROY)
        # That of the create entry point: else instances whose ends make others would never end.
        self.depth = depth

    def done(self, instance: "Instance") -> None:
        # It came back for more: not ours any more, and what waits for its end would wait for ever.
        instance.kill()


class DumpMemStatsCommand(Command):
    """What the heap of an OP-TEE TA has, as its libutee says (CFG_TA_STATS): six numbers.

    :param answer: called once, in any thread: allocated, most allocated so far, size, failed
        allocations, the largest of them, what was allocated then; None where there is no answer.
    """

    __slots__ = ("_answer",)

    def __init__(self, answer: "Callable[[tuple[int, ...] | None], None]") -> None:
        super().__init__(ch.TA_DUMP_MEMSTATS)
        self._answer = answer

    def write(self, instance: "Instance") -> int:
        super().write(instance)
        instance.words[ch.M_NUM_MAPS] = 0
        instance.words[ch.M_PARAM_TYPES] = _THREE_VALUES_OUT
        return self.op

    def describe(self) -> str:
        return "heap statistics"

    def done(self, instance: "Instance") -> None:
        ret, _flags = _RESULT(instance.mailbox, _RESULT_OFFSET)
        words = _PARAMS(instance.mailbox, _PARAMS_OFFSET)
        numbers = (words[0], words[1], words[3], words[4], words[6], words[7])
        is_answered = ret & 0xFFFF_FFFF == TEE_SUCCESS
        self._answer(tuple(n & 0xFFFF_FFFF for n in numbers) if is_answered else None)

    def failed(self, instance: "Instance", error: OSError | TeeError) -> None:
        self._answer(None)

    def died(self, instance: "Instance") -> None:
        self._answer(None)


class CallCommand(Command):
    """Open or invoke: somebody waits, and there may be parameters."""

    __slots__ = ("arg", "cancelled", "instance", "layout")

    arg: "CallArg | NestedCall"

    def __init__(
        self,
        op: int,
        instance: "Instance | PseudoInstance",
        session: int,
        arg: "CallArg | NestedCall",
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
            instance.memory.write_params(instance, arg.params, self.layout)
        else:
            words[ch.M_PARAM_TYPES] = 0
        return self.op

    def done(self, instance: "Instance") -> None:
        self._take_result(instance)
        self._complete()

    def answer(self, instance: "PseudoInstance", result: int, origin: int) -> None:
        """A pseudo TA has done it; outputs are where they belong."""
        self.arg.ret, self.arg.ret_origin = result, origin
        self._complete()

    def _take_result(self, instance: "Instance") -> None:
        arg = self.arg
        ret, flags = _RESULT(instance.mailbox, _RESULT_OFFSET)
        arg.ret = ret & 0xFFFF_FFFF
        arg.ret_origin = TEE_ORIGIN_TRUSTED_APP
        if flags:
            instance.words[ch.M_FLAGS] = 0
            # Of nothing else: a caller may panic for what comes from the TEE.
            if flags & ch.R_REFUSED and arg.ret == TEE_ERROR_OUT_OF_MEMORY:
                arg.ret_origin = TEE_ORIGIN_TEE
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

    def failed(self, instance: "Instance | PseudoInstance", error: OSError | TeeError) -> None:
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
        self._conclude(instance)

    def answer(self, instance: "PseudoInstance", result: int, origin: int) -> None:
        self.arg.ret, self.arg.ret_origin = result, origin
        self._conclude(instance)

    def _conclude(self, instance: "Instance | PseudoInstance") -> None:
        if self.arg.ret != TEE_SUCCESS:
            instance.session_refused(self.session)
        elif self.arg.error:
            # The outputs did not reach the client, which so never learns of the session.
            instance.submit(Command(ch.TA_CLOSE_SESSION, self.session))
            instance.session_refused(self.session)
        self._complete()

    def failed(self, instance: "Instance | PseudoInstance", error: OSError | TeeError) -> None:
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
