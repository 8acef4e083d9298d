# SPDX-License-Identifier: BSD-2-Clause
"""Parameters of a call: struct tee_param, and its way from and to struct tee_ioctl_param."""

import errno
from struct import Struct
from struct import error as StructError

from gentee.abi.linux_tee import (
    TEE_IOCTL_PARAM,
    TEE_IOCTL_PARAM_ATTR_MASK,
    TEE_IOCTL_PARAM_ATTR_TYPE_MASK,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_NONE,
    TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT,
    TEE_MAX_ARG_SIZE,
    TEE_MEMREF_NULL,
)
from gentee.core.shm import TEE_SHM_LIMITED, TEE_SHM_NO_READ, TEE_SHM_NO_WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.context import TeeContext
    from gentee.core.shm import TeeShm

PARAM_SIZE = TEE_IOCTL_PARAM.size
MAX_PARAMS = TEE_MAX_ARG_SIZE // PARAM_SIZE

# The end of user space of 64-bit machines with four-level page tables (x86-64) or 48-bit addresses
# (aarch64): access_ok() refuses what lies above.
USER_ADDRESS_MAX = 0x7FFF_FFFF_F000

_WORDS = [Struct(f"<{4 * n}Q") for n in range(MAX_PARAMS + 1)]
_VALUE = Struct("<QQQ")
_WORD = Struct("<Q")

_VALUES = (TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT, TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT)
_MEMREFS = (
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
)
_UBUFS = (
    TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INOUT,
)
_OBJREFS = (TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT, TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INOUT)
_VALUES_OUT = (TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT, TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT)
_SIZES_OUT = (
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_OUTPUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INOUT,
)
_OBJREFS_OUT = (TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_OUTPUT, TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INOUT)


class TeeParam:
    """One parameter (struct tee_param).

    ``attr`` is the ioctl's attribute, META bit included. By its type:

    - value: ``a``, ``b``, ``c``;
    - memref: ``shm`` (None for a NULL reference), ``a`` its offset there, ``b`` its size;
    - ubuf: ``a`` the client's address, ``b`` the size;
    - objref: ``a`` the object's id, ``b`` flags.

    A driver writes outputs in place. The size of a memref may grow beyond the buffer: that is how
    TEE_ERROR_SHORT_BUFFER tells the client what it needs.
    """

    __slots__ = ("a", "attr", "b", "c", "shm")

    def __init__(
        self, attr: int = 0, a: int = 0, b: int = 0, c: int = 0, shm: "TeeShm | None" = None
    ) -> None:
        self.attr = attr
        self.a = a
        self.b = b
        self.c = c
        self.shm = shm

    @property
    def type(self) -> int:
        """The attribute without META."""
        return self.attr & TEE_IOCTL_PARAM_ATTR_TYPE_MASK

    def is_memref(self) -> bool:
        return self.attr & TEE_IOCTL_PARAM_ATTR_TYPE_MASK in _MEMREFS

    def __repr__(self) -> str:
        return f"TeeParam({self.attr:#x}, {self.a:#x}, {self.b:#x}, {self.c:#x}, {self.shm!r})"


def memref_from_user(ctx: "TeeContext", param: TeeParam, c: int) -> None:
    """Resolve the shared memory of a memref and take a reference; EINVAL as in tee_core.c."""
    if c == TEE_MEMREF_NULL:
        if not ctx.cap_memref_null:
            raise OSError(errno.EINVAL, "NULL memref")
        return
    shm = ctx.shm_get_from_id(c & 0xFFFF_FFFF)
    # Python's integers do not wrap, so one comparison does what the kernel needs two for.
    if param.a + param.b > shm.size:
        shm.put()
        raise OSError(errno.EINVAL, "memref beyond the shared memory")
    if shm.flags & TEE_SHM_LIMITED:
        try:
            check_direction(param, shm)
        except OSError:
            shm.put()
            raise
    param.shm = shm


def check_direction(param: TeeParam, shm: "TeeShm") -> None:
    """EACCES for a memref that goes against the directions of mapped memory."""
    kind = param.attr & TEE_IOCTL_PARAM_ATTR_TYPE_MASK
    if (shm.flags & TEE_SHM_NO_READ and kind != TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT) or (
        shm.flags & TEE_SHM_NO_WRITE and kind != TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT
    ):
        raise OSError(errno.EACCES, "direction of a mapping")


def params_from_user(
    ctx: "TeeContext", uparams: bytes, offset: int, num_params: int
) -> list[TeeParam]:
    """Decode ``num_params`` struct tee_ioctl_param at ``offset`` of a copy of the client's bytes.

    The copy may end early, where the client's memory does: EFAULT, unless it is wrong before.
    Takes a reference to the shared memory of every memref; :func:`params_put` drops them. Raises
    ``OSError`` EINVAL or EFAULT, holding none.
    """
    try:
        words = _WORDS[num_params].unpack_from(uparams, offset)
    except StructError:
        # The client's memory ends early. Linux comes as far as the first that it cannot read.
        readable = (len(uparams) - offset) // PARAM_SIZE
        params_put(params_from_user(ctx, uparams, offset, readable))
        raise OSError(errno.EFAULT, "parameters") from None
    desc = ctx.teedev.desc
    params: list[TeeParam] = []
    try:
        for i in range(0, 4 * num_params, 4):
            attr = words[i]
            if attr & ~TEE_IOCTL_PARAM_ATTR_MASK:
                raise OSError(errno.EINVAL, "attribute bits")
            kind = attr & TEE_IOCTL_PARAM_ATTR_TYPE_MASK
            if kind in _VALUES:
                param = TeeParam(attr, words[i + 1], words[i + 2], words[i + 3])
            elif kind in _MEMREFS:
                param = TeeParam(attr, words[i + 1], words[i + 2])
                memref_from_user(ctx, param, words[i + 3])
            elif kind in (
                TEE_IOCTL_PARAM_ATTR_TYPE_NONE,
                TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT,
            ):
                param = TeeParam(attr)
            elif kind in _UBUFS and desc.takes_ubuf:
                if words[i + 1] + words[i + 2] > USER_ADDRESS_MAX:
                    raise OSError(errno.EFAULT, "ubuf")
                param = TeeParam(attr, words[i + 1], words[i + 2])
            elif kind in _OBJREFS and desc.takes_objref:
                param = TeeParam(attr, words[i + 1], words[i + 2])
            elif kind == TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_OUTPUT and desc.takes_objref:
                param = TeeParam(attr)
            else:
                raise OSError(errno.EINVAL, "attribute type")
            params.append(param)
    except OSError:
        params_put(params)
        raise
    return params


def params_put(params: list[TeeParam]) -> None:
    """Drop the references to shared memory that :func:`params_from_user` took."""
    for param in params:
        if param.shm is not None:
            param.shm.put()
            param.shm = None


def params_to_user(params: list[TeeParam], uparams: int) -> list[tuple[int, bytes]]:
    """What goes back to the client's array at address ``uparams``: ``(address, bytes)`` pieces.

    Only the fields that the kernel writes: the client may use the others while the call runs.
    """
    pieces: list[tuple[int, bytes]] = []
    for param in params:
        # As in the kernel a parameter with META set is not written back here.
        kind = param.attr
        if kind in _VALUES_OUT:
            value = (param.a & _U64, param.b & _U64, param.c & _U64)
            pieces.append((uparams + 8, _VALUE.pack(*value)))
        elif kind in _SIZES_OUT:
            pieces.append((uparams + 16, _WORD.pack(param.b & _U64)))
        elif kind in _OBJREFS_OUT:
            pieces.append((uparams + 8, _WORD.pack(param.a & _U64)))
            pieces.append((uparams + 16, _WORD.pack(param.b & _U64)))
        uparams += PARAM_SIZE
    return pieces


_U64 = 0xFFFF_FFFF_FFFF_FFFF


def params_to_supp(params: list[TeeParam]) -> bytes:
    """A request's parameters as the supplicant sees them: struct tee_ioctl_param, all fields."""
    result = bytearray()
    for param in params:
        kind = param.attr & TEE_IOCTL_PARAM_ATTR_TYPE_MASK
        a = b = c = 0
        if kind in _VALUES:
            a, b, c = param.a, param.b, param.c
        elif kind in _UBUFS or kind in _OBJREFS:
            a, b = param.a, param.b
        elif kind in _MEMREFS:
            b = param.b
            if param.shm is None:
                c = TEE_MEMREF_NULL
            else:
                a, c = param.a, param.shm.id
        result += TEE_IOCTL_PARAM.pack(param.attr, a, b, c)
    return bytes(result)


def params_from_supp(uparams: bytes, offset: int, num_params: int) -> list[TeeParam]:
    """Decode a supplicant's answer. Only outputs can be updated; of a memref, only its size."""
    try:
        words = _WORDS[num_params].unpack_from(uparams, offset)
    except StructError:
        params_from_supp(uparams, offset, (len(uparams) - offset) // PARAM_SIZE)
        raise OSError(errno.EFAULT, "parameters") from None
    params: list[TeeParam] = []
    for i in range(0, 4 * num_params, 4):
        attr = words[i]
        if attr & ~TEE_IOCTL_PARAM_ATTR_MASK:
            raise OSError(errno.EINVAL, "attribute bits")
        kind = attr & TEE_IOCTL_PARAM_ATTR_TYPE_MASK
        param = TeeParam(attr)
        if kind in _VALUES_OUT:
            param.a, param.b, param.c = words[i + 1], words[i + 2], words[i + 3]
        elif kind in _OBJREFS_OUT:
            param.a, param.b = words[i + 1], words[i + 2]
        elif kind in _UBUFS[1:]:
            if words[i + 1] + words[i + 2] > USER_ADDRESS_MAX:
                raise OSError(errno.EFAULT, "ubuf")
            param.a, param.b = words[i + 1], words[i + 2]
        elif kind in _MEMREFS[1:]:
            param.b = words[i + 2]
        params.append(param)
    return params
