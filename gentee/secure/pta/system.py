# SPDX-License-Identifier: BSD-2-Clause
"""The system pseudo TA: what TAs ask of the TEE beyond GlobalPlatform (OP-TEE core/pta/system.c).

Only TAs may use it. The commands about a TA's own address space (MAP_ZI, UNMAP, DLOPEN, DLSYM) are
done in the process of an OP-TEE TA and never come here; a service in Python has no such space.
"""

import os
from collections.abc import Callable
from struct import Struct

from gentee.abi import optee_pta as pta
from gentee.abi.gp import (
    TEE_PARAM_TYPE_MEMREF_INOUT,
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_MEMREF_OUTPUT,
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_VALUE_OUTPUT,
    TEE_SUCCESS,
)
from gentee.abi.linux_tee import (
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT,
    TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT,
)
from gentee.abi.optee_rpc import OPTEE_RPC_CMD_SUPP_PLUGIN, OPTEE_RPC_SUPP_PLUGIN_INVOKE
from gentee.abi.optee_ta import TA_FLAG_CONCURRENT
from gentee.core.params import TeeParam
from gentee.errors import (
    AccessDenied,
    BadParameters,
    GenericError,
    NotImplementedByTee,
    NotSupported,
    ShortBuffer,
    TeeError,
)
from gentee.secure.huk import HUK_SUBKEY_UNIQUE_TA, huk_subkey_derive
from gentee.secure.pta.pseudo_ta import (
    Later,
    MemRef,
    Param,
    PseudoTa,
    PtaSession,
    Value,
    expect,
    memref,
    value,
)
from gentee.secure.pta.uuids import UUID_SIZE, from_struct, to_struct
from gentee.secure.rpc import Payload, Rpc

_WORDS = Struct("<4I")
_ENTROPY_POOL = "/dev/urandom"


class SystemPta(PseudoTa):
    """A session knows the service that opened it by ``session.caller``."""

    uuid = pta.PTA_SYSTEM_UUID
    name = "system.pta"
    flags = pta.PTA_DEFAULT_FLAGS | TA_FLAG_CONCURRENT

    def open_session(self, session: PtaSession, param_types: int, params: list[Param]) -> None:
        if not session.is_from_ta:
            raise AccessDenied("only TAs may use the system pseudo TA")

    def invoke_command(
        self, session: PtaSession, command: int, param_types: int, params: list[Param]
    ) -> Later | None:
        if command == pta.PTA_SYSTEM_ADD_RNG_ENTROPY:
            _add_rng_entropy(param_types, params)
        elif command == pta.PTA_SYSTEM_DERIVE_TA_UNIQUE_KEY:
            self._derive_ta_unique_key(session, param_types, params)
        elif command == pta.PTA_SYSTEM_GET_TPM_EVENT_LOG:
            expect(param_types, TEE_PARAM_TYPE_MEMREF_OUTPUT)
            self._get_tpm_event_log(memref(params, 0))
        elif command == pta.PTA_SYSTEM_SUPP_PLUGIN_INVOKE:
            return self._supp_plugin_invoke(param_types, params)
        elif command in (
            pta.PTA_SYSTEM_MAP_ZI,
            pta.PTA_SYSTEM_UNMAP,
            pta.PTA_SYSTEM_DLOPEN,
            pta.PTA_SYSTEM_DLSYM,
        ):
            raise NotSupported("the caller has no address space of the TEE's")
        else:
            raise NotImplementedByTee(f"command {command}")
        return None

    def _get_tpm_event_log(self, output: MemRef) -> None:
        """What firmware measured (core/kernel/tpm.c); its size where there is no room for it."""
        log = self.tee.tpm_event_log
        if log is None:
            # As an OP-TEE without CFG_CORE_TPM_EVENT_LOG: no firmware before us measured anything.
            raise NotSupported("no TPM event log")
        room, output.size = output.size, len(log)
        if room < len(log):
            raise ShortBuffer(f"{len(log)} bytes")
        if output.buffer is None:
            raise BadParameters("no bytes")
        output.buffer[: len(log)] = log

    def _derive_ta_unique_key(
        self, session: PtaSession, param_types: int, params: list[Param]
    ) -> None:
        """A key of the device and the calling service. That its buffer is not a client's memory,
        the caller's own process looks at: what comes here is a copy.
        """
        expect(param_types, TEE_PARAM_TYPE_MEMREF_INPUT, TEE_PARAM_TYPE_MEMREF_OUTPUT)
        extra, key = memref(params, 0), memref(params, 1)
        if extra.size > pta.TA_DERIVED_EXTRA_DATA_MAX_SIZE:
            raise BadParameters(f"{extra.size} bytes of extra data")
        if not pta.TA_DERIVED_KEY_MIN_SIZE <= key.size <= pta.TA_DERIVED_KEY_MAX_SIZE:
            raise BadParameters(f"a key of {key.size} bytes")
        assert session.caller is not None
        assert key.buffer is not None
        data = to_struct(session.caller.service.uuid) + extra.read()
        key.buffer[:] = huk_subkey_derive(HUK_SUBKEY_UNIQUE_TA, data, key.size, self.tee.huk)

    def _supp_plugin_invoke(self, param_types: int, params: list[Param]) -> Later:
        """Have a plugin of the supplicant do something (core/tee/tee_supp_plugin_rpc.c)."""
        expect(
            param_types,
            TEE_PARAM_TYPE_MEMREF_INPUT,
            TEE_PARAM_TYPE_VALUE_INPUT,
            TEE_PARAM_TYPE_MEMREF_INOUT,
            TEE_PARAM_TYPE_VALUE_OUTPUT,
        )
        if memref(params, 0).size != UUID_SIZE:
            raise BadParameters("no UUID of a plugin")
        uuid = from_struct(memref(params, 0).read())
        command, data, length = value(params, 1), memref(params, 2), value(params, 3)
        if self.tee.supplicant is None or not self.tee.supplicant.is_there:
            return self._plugin_invoke(uuid, command, data, length)
        words = _WORDS.unpack(uuid)

        def failed(error: TeeError) -> None:
            later.done(error)

        def allocated(payload: Payload) -> None:
            payload.write(data.read())

            def answered(ret: int, answers: list[TeeParam]) -> None:
                try:
                    outlen = answers[2].b
                    if data.buffer is not None and outlen:
                        size = min(outlen, data.size)
                        data.buffer[:size] = payload.read(size)
                finally:
                    rpc.free(payload)
                length.a = outlen
                later.done(None if ret == TEE_SUCCESS else TeeError.from_code(ret & 0xFFFF_FFFF))

            value_in = TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT
            arguments = [
                TeeParam(value_in, OPTEE_RPC_SUPP_PLUGIN_INVOKE, words[0], words[1]),
                TeeParam(value_in, words[2], words[3], command.a),
                TeeParam(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT, command.b),
                payload.param(),
            ]
            rpc.call(OPTEE_RPC_CMD_SUPP_PLUGIN, arguments, answered)

        rpc = Rpc(self.tee.supplicant, self.host, failed)
        later = Later(rpc.cancel)
        rpc.alloc(data.size, allocated)
        return later

    def _plugin_invoke(self, uuid: bytes, command: Value, data: MemRef, length: Value) -> Later:
        """The same by a plugin of gentee's own normal world."""
        cancel: Callable[[], None] | None = None

        def answered(ret: int, output: bytes, outlen: int) -> None:
            if data.buffer is not None:
                data.buffer[: len(output)] = output
            length.a = outlen & 0xFFFF_FFFF
            later.done(None if ret == TEE_SUCCESS else TeeError.from_code(ret))

        def cancelled() -> None:
            if cancel is not None:
                cancel()

        later = Later(cancelled)
        cancel = self.tee.normal_world.plugins.invoke(
            uuid, command.a, command.b, data.read(), answered, later.done
        )
        return later


def _add_rng_entropy(param_types: int, params: list[Param]) -> None:
    """Mix bytes into the kernel's pool, from which all random numbers here come.

    It counts none of them as entropy, as OP-TEE takes a TA's for CRYPTO_RNG_SRC_NONSECURE.
    """
    expect(param_types, TEE_PARAM_TYPE_MEMREF_INPUT)
    data = memref(params, 0).read()
    if not data:
        raise BadParameters("no entropy")
    try:
        fd = os.open(_ENTROPY_POOL, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
    except OSError as error:
        raise GenericError(f"{_ENTROPY_POOL}: {error}") from error
