# SPDX-License-Identifier: BSD-2-Clause
"""The inside of a service's process: commands in, entry points called, results out."""

import io
import mmap
import os
import sys
import traceback
from typing import Any

from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_ERROR_TARGET_DEAD, TEE_SUCCESS, result_name
from gentee.errors import NotSupported, TaPanic, TeeError
from gentee.linux.libc import set_process_name
from gentee.ta import confine, loading
from gentee.ta.api import TASK, Memref, Param, TrustedApplication, Value
from gentee.ta.memory import Memory
from gentee.ta.process import Process, introduce

_NO_PARAMS: list[Param] = [None, None, None, None]

# Given up when a service has used up its memory, so that it can still say so. Pages that nobody has
# touched: they take room in the limit, not in the machine.
_RESERVE = bytearray(2 << 20)


def prepare() -> None:
    """Import now, once, what each service will need."""
    import gentee.ta  # noqa: F401


class _LogStream(io.TextIOBase):
    """stdout and stderr of a service: whole lines, each with its level."""

    def __init__(self, service: "ServiceProcess", level: int) -> None:
        self._service = service
        self._level = level
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._service.log(self._level, line)
        return len(text)

    def flush(self) -> None:
        if self._rest:
            self._service.log(self._level, self._rest)
            self._rest = ""


class ServiceProcess(Process):
    """The one Python service of this process."""

    def __init__(self, mailbox: mmap.mmap) -> None:
        super().__init__(mailbox)
        self._memory = Memory()
        self._sessions: dict[int, Any] = {}
        self._service: TrustedApplication | None = None
        self._memory_limit = 0
        TASK.log = self.log
        TASK.wait = self.wait
        TASK.cancelled = self.cancelled

    def call(self, entry_point: Any) -> int:
        TASK.masked = True
        result = TEE_SUCCESS
        try:
            try:
                entry_point()
            except TeeError as error:
                result = error.code
            # The client's pages are the service's for this call only. Not before the exception is
            # gone: its frames may have views of them.
            if self._memory.lent:
                self._memory.take_back()
        except TaPanic as panic:
            self._panic(panic.code, panic.detail)
        except MemoryError:
            _RESERVE.clear()
            self.log(1, traceback.format_exc().rstrip())
            limit = self._memory_limit >> 20
            self.log(1, f"it wanted more memory than its limit of {limit} MiB (--memory-limit)")
            self._panic(TEE_ERROR_TARGET_DEAD)
        except BaseException:
            loading.show_lines()
            self.log(1, traceback.format_exc().rstrip())
            self._panic(TEE_ERROR_TARGET_DEAD)
        return result

    def _panic(self, code: int, detail: str = "") -> None:
        self._flush()
        self.log(1, f"panic, code {result_name(code)}" + (f": {detail}" if detail else ""))
        os._exit(1)

    def _flush(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()

    # Entry points.

    def create(self) -> None:
        fd = self._words[ch.M_FUNC]
        uuid = self._words[ch.M_UUID : ch.M_UUID + 2].tobytes().hex()
        self._memory_limit = self._words[ch.M_MEMORY_LIMIT]
        confine.limit_memory(self._memory_limit)
        if self._memory_limit:
            TASK.data_size = min(self._memory_limit, 0xFFFF_FFFF)
        try:
            payload = os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)
        code = loading.read(payload, f"<service {uuid}>")
        module = loading.run(code, confine.lock)
        for value in list(vars(module).values()):
            is_class = isinstance(value, type) and issubclass(value, TrustedApplication)
            if is_class and value.uuid.replace("-", "").lower() == uuid:
                TASK.service = value
                service = value()
                set_process_name(f"ta:{service.name or value.__name__}")
                service.TA_CreateEntryPoint()
                self._service = service
                return
        raise RuntimeError("no TrustedApplication with its UUID in the service's file")

    def open_session(self) -> None:
        assert self._service is not None
        words = self._words
        types_ = words[ch.M_PARAM_TYPES]
        params = self._params(types_) if types_ else list(_NO_PARAMS)
        session = words[ch.M_SESSION]
        uuid = words[ch.M_CLIENT_UUID : ch.M_CLIENT_UUID + 2].tobytes()
        TASK.clients[session] = (words[ch.M_LOGIN], uuid)
        TASK.session = session
        try:
            self._sessions[session] = self._service.TA_OpenSessionEntryPoint(types_, params)
        except BaseException:
            del TASK.clients[session]
            raise
        finally:
            if types_:
                self._write_params(types_, params)

    def invoke(self) -> None:
        assert self._service is not None
        words = self._words
        types_ = words[ch.M_PARAM_TYPES]
        TASK.session = session = words[ch.M_SESSION]
        context = self._sessions[session]
        if not types_:
            self._service.TA_InvokeCommandEntryPoint(context, words[ch.M_FUNC], 0, list(_NO_PARAMS))
            return
        params = self._params(types_)
        try:
            self._service.TA_InvokeCommandEntryPoint(context, words[ch.M_FUNC], types_, params)
        finally:
            self._write_params(types_, params)

    def close_session(self) -> None:
        assert self._service is not None
        TASK.session = session = self._words[ch.M_SESSION]
        context = self._sessions.pop(session, None)
        try:
            self._service.TA_CloseSessionEntryPoint(context)
        finally:
            TASK.clients.pop(session, None)

    def dump_memstats(self) -> None:
        raise NotSupported("a Python service has no heap of its own")

    def destroy(self) -> None:
        TASK.session = 0
        if self._service is not None:
            self.call(self._service.TA_DestroyEntryPoint)
        self._flush()

    # Parameters: values as objects, references as views of the client's pages.

    def _params(self, types_: int) -> list[Param]:
        words = self._words
        if words[ch.M_NUM_MAPS]:
            self.new_maps()
        params: list[Param] = []
        for index in range(4):
            kind = types_ >> 4 * index & 0xF
            if kind == 0:
                params.append(None)
                continue
            base = ch.M_PARAMS + 3 * index
            if kind <= 3:
                params.append(Value(words[base], words[base + 1]) if kind != 2 else Value())
            else:
                params.append(self._memref(kind, words[base], words[base + 1], words[base + 2]))
        return params

    def _memref(self, kind: int, offset: int, size: int, key: int) -> Memref:
        if key == ch.NULL_KEY:
            return Memref(None, size)
        view = self._memory.lend(key, offset, size, kind == 5)
        return Memref(view, size)

    def _write_params(self, types_: int, params: list[Param]) -> None:
        words = self._words
        for index, param in enumerate(params):
            if param is None:
                continue
            kind = types_ >> 4 * index & 0xF
            base = ch.M_PARAMS + 3 * index
            if isinstance(param, Value) and kind in (2, 3):
                words[base] = param.a & 0xFFFF_FFFF
                words[base + 1] = param.b & 0xFFFF_FFFF
            elif isinstance(param, Memref) and kind in (6, 7):
                words[base + 1] = param.size & 0xFFFF_FFFF_FFFF_FFFF

    def map(self, key: int, fd: int, size: int) -> None:
        self._memory.map(key, fd, size)

    def unmap(self, key: int) -> None:
        self._memory.unmap(key)


def serve(token: int) -> None:
    """Introduce this process with its token and serve; never returns."""
    process = ServiceProcess(introduce(token))
    sys.stdout = _LogStream(process, 2)
    sys.stderr = _LogStream(process, 1)
    process.run()
