# SPDX-License-Identifier: BSD-2-Clause
"""The parameters of a call as a pseudo TA sees them (OP-TEE core/kernel/pseudo_ta.c).

Shared pages are mapped into this process once, for as long as they last. Memory that only can be
copied is in a window of its own for the call: it looks to a pseudo TA as it does to a service
(:mod:`gentee.secure.window`).
"""

from gentee.abi.gp import (
    TEE_NUM_PARAMS,
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_VALUE_INOUT,
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_VALUE_OUTPUT,
)
from gentee.core.shm import TEE_SHM_PROTECTED, TEE_SHM_SECURE
from gentee.secure.pta.pseudo_ta import MemRef, Param, Value
from gentee.secure.window import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.params import TeeParam
    from gentee.secure.window import Layout

_32_BITS = 0xFFFF_FFFF
_64_BITS = 0xFFFF_FFFF_FFFF_FFFF
_VALUES_IN = (TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_VALUE_INOUT)


class CallParams:
    """The four parameters of one call.

    :param params: of the call, up to four, without META; outputs are put there by :meth:`put`.
    :param layout: of what must be copied, if anything.
    :raises OSError: EFAULT where the client's bytes are not there any more, ENOMEM or EMFILE where
        there is nothing to map them with.
    """

    def __init__(self, params: "list[TeeParam]", layout: "Layout | None") -> None:
        self._params = params
        self._layout = layout
        self._window: Window | None = None
        self.types = 0
        self.params: list[Param] = [None] * TEE_NUM_PARAMS
        if layout is not None:
            self._window = Window()
            self._window.fit(layout.size)
            self._window.mapped()
            self._window.copy_in(layout)
        try:
            for index, param in enumerate(params):
                self.types |= param.attr << 4 * index
                self.params[index] = self._seen(param)
        except BaseException:
            self.release()
            raise

    def _seen(self, param: "TeeParam") -> Param:
        kind = param.attr
        if kind < TEE_PARAM_TYPE_VALUE_INPUT:
            return None
        if kind < TEE_PARAM_TYPE_MEMREF_INPUT:
            # GP values have 32 bits. An output is 0 before, as in OP-TEE.
            given = kind in _VALUES_IN
            return Value(param.a & _32_BITS if given else 0, param.b & _32_BITS if given else 0)
        if param.shm is None:
            return MemRef(None, 0)  # OP-TEE core/tee/entry_std.c: whatever size it came with
        if not param.b:
            return MemRef(None, 0)
        if param.shm.backing is not None:
            assert self._window is not None
            assert self._layout is not None
            buffer = self._window.view(self._layout.place_of(param), param.b)
        else:
            buffer = param.shm.view()[param.a : param.a + param.b]
        flags = param.shm.flags
        return MemRef(
            buffer,
            param.b,
            is_secure=flags & TEE_SHM_SECURE != 0,
            is_protected=flags & TEE_SHM_PROTECTED != 0,
        )

    def put(self) -> None:
        """Numbers and sizes go back, whatever the result.

        As in OP-TEE a pseudo TA may say that memory takes more than there is.
        """
        for param, seen in zip(self._params, self.params, strict=False):
            kind = param.attr
            if isinstance(seen, Value):
                if kind in (TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_VALUE_INOUT):
                    param.a, param.b = seen.a & _32_BITS, seen.b & _32_BITS
            elif isinstance(seen, MemRef) and kind > TEE_PARAM_TYPE_MEMREF_INPUT:
                param.b = seen.size & _64_BITS

    @property
    def has_copies(self) -> bool:
        """Whether there are outputs to copy."""
        return self._layout is not None and bool(self._layout.outputs)

    def copy_out(self) -> None:
        """They are copied; OSError EFAULT where the client cannot be written."""
        if self._window is not None and self._layout is not None:
            self._window.copy_out(self._layout)

    def release(self) -> None:
        """The call is over: no buffer of it can be used any more."""
        for seen in self.params:
            if isinstance(seen, MemRef) and seen.buffer is not None:
                try:
                    seen.buffer.release()
                except BufferError:  # somebody made an object of it that is still there
                    pass
                seen.buffer = None
