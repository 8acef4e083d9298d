# SPDX-License-Identifier: BSD-2-Clause
"""All system calls of OP-TEE's TAs, by number: <tee_syscall_numbers.h>, <utee_syscalls.h>.

``docs/system-calls.md`` is this table for people.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gentee.abi import optee_ta as abi
from gentee.abi.gp import TEE_ERROR_NOT_SUPPORTED
from gentee.ta.svc import (
    cancellation,
    control,
    cryp_asymm,
    cryp_obj,
    cryp_state,
    memory,
    properties,
    random,
    sessions,
    storage,
    time,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.ta.user_ta import UserTa

Handler = Callable[["UserTa", Sequence[int]], int | None]

SUPPORTED = "supported"
DEPRECATED = "deprecated"  # TEE_ERROR_NOT_SUPPORTED, as in OP-TEE, and a line in the log

MAX_TOLD = 32  # numbers that an instance is told about that they are not supported


class Row(NamedTuple):
    """One system call.

    :ivar name: that of libutee, without ``_utee_``.
    :ivar parameters: as in C. A ``ulong`` and a ``size_t`` are as wide as the TA's registers.
    :ivar level: SUPPORTED or DEPRECATED.
    """

    number: int
    name: str
    parameters: str
    level: str
    handler: Handler


_FAMILIES: tuple[Mapping[int, Handler], ...] = (
    control.ROWS,
    properties.ROWS,
    sessions.ROWS,
    memory.ROWS,
    cancellation.ROWS,
    time.ROWS,
    random.ROWS,
    cryp_obj.ROWS,
    cryp_state.ROWS,
    storage.ROWS,
    cryp_asymm.ROWS,
)

_STATE = "ulong state"
_OUT = "void *dst, u64 *dst_len"
_SRC = "const void *src, size_t src_len"
_ATTRS = "const struct utee_attribute *params, ulong num_params"

_CALLS: tuple[tuple[str, str], ...] = (
    ("return", "ulong ret"),
    ("log", "const void *buf, size_t len"),
    ("panic", "ulong code, void *saved_registers"),
    (
        "get_property",
        "ulong set, ulong index, void *name, u32 *name_len, void *buf, u32 *blen, u32 *type",
    ),
    ("get_property_name_to_index", "ulong set, const void *name, ulong name_len, u32 *index"),
    (
        "open_ta_session",
        "const TEE_UUID *dest, ulong cancel_req_to, struct utee_params *params, u32 *sess, "
        "u32 *ret_orig",
    ),
    ("close_ta_session", "ulong sess"),
    (
        "invoke_ta_command",
        "ulong sess, ulong cancel_req_to, ulong cmd_id, struct utee_params *params, "
        "u32 *ret_orig",
    ),
    ("check_access_rights", "u32 flags, const void *buf, size_t len"),
    ("get_cancellation_flag", "u32 *cancel"),
    ("unmask_cancellation", "u32 *old_mask"),
    ("mask_cancellation", "u32 *old_mask"),
    ("wait", "ulong timeout"),
    ("get_time", "ulong cat, TEE_Time *time"),
    ("set_ta_time", "const TEE_Time *time"),
    ("cryp_state_alloc", "ulong algo, ulong op_mode, ulong key1, ulong key2, u32 *state"),
    ("cryp_state_copy", "ulong dst, ulong src"),
    ("cryp_state_free", _STATE),
    ("hash_init", f"{_STATE}, const void *iv, size_t iv_len"),
    ("hash_update", f"{_STATE}, const void *chunk, size_t chunk_size"),
    (
        "hash_final",
        f"{_STATE}, const void *chunk, size_t chunk_size, void *hash, u64 *hash_len",
    ),
    ("cipher_init", f"{_STATE}, const void *iv, size_t iv_len"),
    ("cipher_update", f"{_STATE}, {_SRC}, {_OUT}"),
    ("cipher_final", f"{_STATE}, {_SRC}, {_OUT}"),
    ("cryp_obj_get_info", "ulong obj, struct utee_object_info *info"),
    ("cryp_obj_restrict_usage", "ulong obj, ulong usage"),
    ("cryp_obj_get_attr", "ulong obj, ulong attr_id, void *buffer, u64 *size"),
    ("cryp_obj_alloc", "ulong type, ulong max_size, u32 *obj"),
    ("cryp_obj_close", "ulong obj"),
    ("cryp_obj_reset", "ulong obj"),
    ("cryp_obj_populate", "ulong obj, struct utee_attribute *attrs, ulong attr_count"),
    ("cryp_obj_copy", "ulong dst_obj, ulong src_obj"),
    ("cryp_derive_key", f"{_STATE}, {_ATTRS}, ulong derived_key"),
    ("cryp_random_number_generate", "void *buf, size_t blen"),
    (
        "authenc_init",
        f"{_STATE}, const void *nonce, size_t nonce_len, size_t tag_len, size_t aad_len, "
        "size_t payload_len",
    ),
    ("authenc_update_aad", f"{_STATE}, const void *aad_data, size_t aad_data_len"),
    ("authenc_update_payload", f"{_STATE}, {_SRC}, {_OUT}"),
    ("authenc_enc_final", f"{_STATE}, {_SRC}, {_OUT}, void *tag, u64 *tag_len"),
    ("authenc_dec_final", f"{_STATE}, {_SRC}, {_OUT}, const void *tag, size_t tag_len"),
    ("asymm_operate", f"{_STATE}, {_ATTRS}, {_SRC}, {_OUT}"),
    (
        "asymm_verify",
        f"{_STATE}, {_ATTRS}, const void *data, size_t data_len, const void *sig, size_t sig_len",
    ),
    (
        "storage_obj_open",
        "ulong storage_id, const void *object_id, size_t object_id_len, ulong flags, u32 *obj",
    ),
    (
        "storage_obj_create",
        "ulong storage_id, const void *object_id, size_t object_id_len, ulong flags, ulong attr, "
        "const void *data, size_t len, u32 *obj",
    ),
    ("storage_obj_del", "ulong obj"),
    ("storage_obj_rename", "ulong obj, const void *new_obj_id, size_t new_obj_id_len"),
    ("storage_alloc_enum", "u32 *obj_enum"),
    ("storage_free_enum", "ulong obj_enum"),
    ("storage_reset_enum", "ulong obj_enum"),
    ("storage_start_enum", "ulong obj_enum, ulong storage_id"),
    (
        "storage_next_enum",
        "ulong obj_enum, struct utee_object_info *info, void *obj_id, u64 *len",
    ),
    ("storage_obj_read", "ulong obj, void *data, size_t len, u64 *count"),
    ("storage_obj_write", "ulong obj, const void *data, size_t len"),
    ("storage_obj_trunc", "ulong obj, size_t len"),
    ("storage_obj_seek", "ulong obj, i32 offset, ulong whence"),
    ("cryp_obj_generate_key", f"ulong obj, ulong key_size, {_ATTRS}"),
    ("se_service_open", ""),
    ("se_service_close", ""),
    ("se_service_get_readers", ""),
    ("se_reader_get_prop", ""),
    ("se_reader_get_name", ""),
    ("se_reader_open_session", ""),
    ("se_reader_close_sessions", ""),
    ("se_session_is_closed", ""),
    ("se_session_get_atr", ""),
    ("se_session_open_channel", ""),
    ("se_session_close", ""),
    ("se_channel_select_next", ""),
    ("se_channel_get_select_resp", ""),
    ("se_channel_transmit", ""),
    ("se_channel_close", ""),
    ("cache_operation", "void *va, size_t len, ulong op"),
)  # fmt: skip


def not_supported(ta: "UserTa", number: int) -> int:
    """Numbers that are no system call, or no more. The log says so, once for each number."""
    told = ta.unsupported
    if number not in told and len(told) < MAX_TOLD:
        told.add(number)
        name = f" ({_CALLS[number][0]})" if number < len(_CALLS) else ""
        ta.log(control.INFO, f"system call {number}{name} is not supported")
    return TEE_ERROR_NOT_SUPPORTED


def _deprecated(number: int) -> Handler:
    def handler(ta: "UserTa", args: Sequence[int]) -> int:
        return not_supported(ta, number)

    return handler


def _table() -> tuple[Row, ...]:
    handlers: dict[int, Handler] = {}
    for family in _FAMILIES:
        handlers.update(family)
    deprecated = range(
        abi.TEE_SCN_SE_SERVICE_OPEN__DEPRECATED, abi.TEE_SCN_SE_CHANNEL_CLOSE__DEPRECATED + 1
    )
    rows = []
    for number, (name, parameters) in enumerate(_CALLS):
        if number in deprecated:
            row = Row(number, name, parameters, DEPRECATED, _deprecated(number))
        else:
            row = Row(number, name, parameters, SUPPORTED, handlers[number])
        rows.append(row)
    return tuple(rows)


TABLE = _table()
HANDLERS: tuple[Handler, ...] = tuple(row.handler for row in TABLE)
