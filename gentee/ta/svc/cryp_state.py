# SPDX-License-Identifier: BSD-2-Clause
"""Operations: the system calls 15 to 23 and 34 to 38 of OP-TEE's ``core/tee/tee_svc_cryp.c``.

Here is what concerns handles and the TA's memory, in OP-TEE's order of checks; the operations are
:mod:`gentee.crypto.states`. Data is computed on where the TA has it, without a copy, except where a
range spans regions, or a source overlaps its destination in another way than being the same.
"""

from collections.abc import Sequence
from struct import Struct

from gentee.abi import gp_crypto as gp
from gentee.abi import optee_ta as abi
from gentee.crypto.authenc import SPARE, ShortTag
from gentee.crypto.states import CryptState, check_key
from gentee.errors import BadParameters, BadState, MacInvalid, OutOfMemory, ShortBuffer
from gentee.ta.client_memory import SHARED
from gentee.ta.engine.base import PROT_READ, PROT_WRITE
from gentee.ta.engine.space import BadAddress
from gentee.ta.svc.cryp_obj import close_object
from gentee.ta.svc.memory import check_access_rights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.crypto.objects import CryptObject
    from gentee.ta.user_ta import UserTa

_Bytes = bytes | memoryview

_RW = PROT_READ | PROT_WRITE
_READ_ANY = abi.TEE_MEMORY_ACCESS_READ | abi.TEE_MEMORY_ACCESS_ANY_OWNER
_RW_ANY = _READ_ANY | abi.TEE_MEMORY_ACCESS_WRITE
_U32 = 0xFFFFFFFF
_U64 = Struct("<Q")
_EMPTY = memoryview(bytearray())
BOUNCE_BUFFER_SIZE = 4096  # OP-TEE has no room for longer initialisation vectors


def state_of(ta: "UserTa", handle: int) -> CryptState:
    """``tee_svc_cryp_get_state()``: raises BadParameters."""
    state = ta.states.get(handle & _U32)
    if state is None:
        raise BadParameters(f"no operation {handle:#x}")
    return state


def _key_of(ta: "UserTa", handle: int, algo: int, mode: int) -> "CryptObject | None":
    """The key of a new operation: None for the handle 0.

    :raises BadState: there is no such object.
    :raises BadParameters: it is not the operation's to have.
    """
    if not handle:
        return None
    key = ta.objects.get(handle & _U32)
    if key is None:
        raise BadState(f"no object {handle:#x}")
    check_key(key, algo, mode)
    return key


# Memory.


def source(ta: "UserTa", address: int, size: int) -> _Bytes:
    """Bytes that the TA may read: the memory itself where one region has it; BadAddress."""
    if not size:
        return b""
    try:
        return ta.space.view(address, size)
    except BadAddress:
        return ta.space.read(address, size)


def destination(ta: "UserTa", address: int, size: int) -> memoryview | None:
    """Memory that the TA may read and write, or None where more than one region has it.

    :raises BadAddress: the TA may not, or not all of it.
    """
    if not size:
        return _EMPTY
    try:
        return ta.space.view(address, size, _RW)
    except BadAddress:
        check_access_rights(ta, _RW_ANY, address, size)
        return None


def cell_of(ta: "UserTa", address: int) -> memoryview | None:
    """A ``u64`` that the TA may read and write, or None where it may not, or has it elsewhere."""
    try:
        return ta.space.view(address, 8, _RW)
    except BadAddress:
        return None


def get_u64(ta: "UserTa", address: int, cell: memoryview | None) -> int:
    """``get_user_u64()``. The cell is what :func:`cell_of` says; raises BadAddress."""
    return int(_U64.unpack(ta.space.read(address, 8) if cell is None else cell)[0])


def put_u64(ta: "UserTa", address: int, cell: memoryview | None, value: int) -> None:
    """``put_user_u64()``; raises BadAddress."""
    if cell is None:
        ta.space.write(address, _U64.pack(value))
    else:
        _U64.pack_into(cell, 0, value)


def _overlaps(address: int, other: int, size: int) -> bool:
    """Whether two ranges of the same size share some memory, and are not the same."""
    return address != other and -size < address - other < size


# Operations.


def syscall_cryp_state_alloc(ta: "UserTa", args: Sequence[int]) -> None:
    algo, mode = args[0] & _U32, args[1] & _U32
    key1 = _key_of(ta, args[2], algo, mode)
    key2 = _key_of(ta, args[3], algo, mode)
    state = CryptState(algo, mode, key1, key2)
    handle = ta.new_handle()
    try:
        ta.write_private(args[4], handle.to_bytes(4, "little"))
    except BadAddress:
        state.give_back_keys()
        raise
    state.key_handles = args[2] & _U32, args[3] & _U32
    ta.states[handle] = state


def syscall_cryp_state_copy(ta: "UserTa", args: Sequence[int]) -> None:
    target = state_of(ta, args[0])
    target.copy_from(state_of(ta, args[1]))


def syscall_cryp_state_free(ta: "UserTa", args: Sequence[int]) -> None:
    """The keys end with the operation: a TA gave them away."""
    state = state_of(ta, args[0])
    del ta.states[args[0] & _U32]
    for handle, key in zip(state.key_handles, (state.key1, state.key2), strict=True):
        # Not what has the handle of a key that was deleted meanwhile.
        if key is not None and ta.objects.get(handle) is key:
            close_object(ta, handle)
    state.end()


# Digests and MACs.


def syscall_hash_init(ta: "UserTa", args: Sequence[int]) -> None:
    """Neither digests nor MACs have an initialisation vector: it is not looked at."""
    state_of(ta, args[0]).hash_init()


def syscall_hash_update(ta: "UserTa", args: Sequence[int]) -> None:
    address, size = args[1], args[2]
    if not size:
        return
    if not address:
        raise BadParameters("data at address 0")
    data = source(ta, address, size)
    state_of(ta, args[0]).hash_update(data)


def syscall_hash_final(ta: "UserTa", args: Sequence[int]) -> None:
    address, size, out_address, out_size = args[1], args[2], args[3], args[4]
    if size and not address:
        raise BadParameters("data at address 0")
    data = source(ta, address, size)
    cell = cell_of(ta, out_size)
    room = get_u64(ta, out_size, cell)
    out = destination(ta, out_address, room)
    state = state_of(ta, args[0])
    result_size = state.hash_final_size(room)
    if room < result_size:
        put_u64(ta, out_size, cell, result_size)
        raise ShortBuffer(f"{room} bytes for {result_size}")
    if out is None:
        scratch = memoryview(bytearray(result_size))
        state.hash_final_into(data, scratch)
        ta.space.write(out_address, scratch)
    else:
        state.hash_final_into(data, out[:result_size])
    if state.digest_size:  # an extendable output has what the TA asked for
        put_u64(ta, out_size, cell, result_size)


# Ciphers.


def _iv(ta: "UserTa", address: int, size: int) -> bytes:
    """``bb_memdup_user()``: a copy of an initialisation vector or a nonce.

    :raises OutOfMemory: OP-TEE has no room for it.
    """
    if size > BOUNCE_BUFFER_SIZE:
        raise OutOfMemory(f"an initialisation vector of {size} bytes")
    return ta.space.read(address, size) if size else b""


def syscall_cipher_init(ta: "UserTa", args: Sequence[int]) -> None:
    state = state_of(ta, args[0])
    state.check_cipher_init()
    state.start_cipher(_iv(ta, args[1], args[2]))


def _cipher_update(ta: "UserTa", args: Sequence[int], last: bool) -> None:
    """``tee_svc_cipher_update_helper()``."""
    address, size, out_address, out_size = args[1], args[2], args[3], args[4]
    state = state_of(ta, args[0])
    if not state.initialized:
        raise BadState("not initialised")
    src = source(ta, address, size)
    cell, room = None, 0
    if out_size:
        cell = cell_of(ta, out_size)
        room = get_u64(ta, out_size, cell)
    out = destination(ta, out_address, room)
    if room < size:
        if out_size:
            put_u64(ta, out_size, cell, size)
        raise ShortBuffer(f"{room} bytes for {size}")
    if out is None or _overlaps(address, out_address, size):
        scratch = memoryview(bytearray(size))
        state.cipher_update_into(src, scratch, last)
        ta.space.write(out_address, scratch)
    else:
        state.cipher_update_into(src, out, last)
    if out_size:
        put_u64(ta, out_size, cell, size)


def syscall_cipher_update(ta: "UserTa", args: Sequence[int]) -> None:
    _cipher_update(ta, args, False)


def syscall_cipher_final(ta: "UserTa", args: Sequence[int]) -> None:
    _cipher_update(ta, args, True)


# Authenticated encryption.


def syscall_authenc_init(ta: "UserTa", args: Sequence[int]) -> None:
    state = state_of(ta, args[0])
    state.check_authenc_init()
    state.start_authenc(_iv(ta, args[1], args[2]), args[3], args[4], args[5])


def syscall_authenc_update_aad(ta: "UserTa", args: Sequence[int]) -> None:
    address = args[1]
    data = source(ta, address, args[2])
    context = state_of(ta, args[0]).check_authenc()
    context.update_aad(data if address else None)


class _Output:
    """Input, output and sizes of a part of a payload, checked.

    :ivar src: the input.
    :ivar out: where the output is put.
    :raises BadAddress: the TA has not got all of that memory.
    """

    __slots__ = ("_address", "_cell", "_in_place", "_size", "_size_address", "_ta", "out", "src")

    def __init__(self, ta: "UserTa", args: Sequence[int], needs_size: bool) -> None:
        """:param needs_size: the address of the output's size may not be 0."""
        self._ta = ta
        self._size = size = args[2]
        self._address = args[3]
        self._size_address = args[4]
        self.src = source(ta, args[1], size)
        self._cell = None
        room = 0
        if args[4] or needs_size:
            self._cell = cell_of(ta, args[4])
            room = get_u64(ta, args[4], self._cell)
        out = destination(ta, args[3], room)
        if room < size:
            raise ShortBuffer(f"{room} bytes for {size}")  # OP-TEE reports what there was
        self._in_place = out is not None and not _overlaps(args[1], args[3], size)
        self.out = out if out is not None and self._in_place else memoryview(bytearray(size))

    def spare(self) -> memoryview | None:
        """The output and SPARE bytes behind it that are the TA's own; None where they are not."""
        region = self._ta.space.find(self._address) if self._in_place else None
        if region is None or region.owner == SHARED or region.prot & _RW != _RW:
            return None
        start = self._address - region.address
        end = start + self._size + SPARE
        return region.memory[start:end] if end <= region.size else None

    def put(self) -> None:
        """Have the output where the TA wants it."""
        if not self._in_place:
            self._ta.space.write(self._address, self.out)

    def put_size(self) -> None:
        """Tell the TA how much it is."""
        if self._size_address:
            put_u64(self._ta, self._size_address, self._cell, self._size)


def syscall_authenc_update_payload(ta: "UserTa", args: Sequence[int]) -> None:
    context = state_of(ta, args[0]).check_authenc()
    output = _Output(ta, args, True)
    context.update_into(output.src, output.out)
    output.put()
    output.put_size()


def syscall_authenc_enc_final(ta: "UserTa", args: Sequence[int]) -> None:
    tag_address, tag_size = args[5], args[6]
    context = state_of(ta, args[0]).check_authenc(gp.TEE_MODE_ENCRYPT)
    cell = cell_of(ta, tag_size)
    try:
        output = _Output(ta, args, False)
    except ShortBuffer:
        put_u64(ta, tag_size, cell, 0)  # as OP-TEE does, which has not looked at it yet
        raise
    room = get_u64(ta, tag_size, cell)
    tag_out = destination(ta, tag_address, room)
    try:
        tag = context.encrypt_final(output.src, output.out, room, output.spare())
    except ShortTag as short:
        output.put()
        output.put_size()
        put_u64(ta, tag_size, cell, short.reported)
        raise
    output.put()
    if tag_out is None:
        ta.space.write(tag_address, tag)
    else:
        tag_out[: len(tag)] = tag
    output.put_size()
    put_u64(ta, tag_size, cell, len(tag))


def syscall_authenc_dec_final(ta: "UserTa", args: Sequence[int]) -> None:
    """What was decrypted is put out also where the tag is wrong; the size is not."""
    context = state_of(ta, args[0]).check_authenc(gp.TEE_MODE_DECRYPT)
    output = _Output(ta, args, False)
    tag = source(ta, args[5], args[6])
    try:
        context.decrypt_final(output.src, output.out, tag)
    except ShortTag:
        output.put_size()
        raise
    except MacInvalid:
        output.put()
        raise
    output.put()
    output.put_size()


ROWS = {
    abi.TEE_SCN_CRYP_STATE_ALLOC: syscall_cryp_state_alloc,
    abi.TEE_SCN_CRYP_STATE_COPY: syscall_cryp_state_copy,
    abi.TEE_SCN_CRYP_STATE_FREE: syscall_cryp_state_free,
    abi.TEE_SCN_HASH_INIT: syscall_hash_init,
    abi.TEE_SCN_HASH_UPDATE: syscall_hash_update,
    abi.TEE_SCN_HASH_FINAL: syscall_hash_final,
    abi.TEE_SCN_CIPHER_INIT: syscall_cipher_init,
    abi.TEE_SCN_CIPHER_UPDATE: syscall_cipher_update,
    abi.TEE_SCN_CIPHER_FINAL: syscall_cipher_final,
    abi.TEE_SCN_AUTHENC_INIT: syscall_authenc_init,
    abi.TEE_SCN_AUTHENC_UPDATE_AAD: syscall_authenc_update_aad,
    abi.TEE_SCN_AUTHENC_UPDATE_PAYLOAD: syscall_authenc_update_payload,
    abi.TEE_SCN_AUTHENC_ENC_FINAL: syscall_authenc_enc_final,
    abi.TEE_SCN_AUTHENC_DEC_FINAL: syscall_authenc_dec_final,
}
