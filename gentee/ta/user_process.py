# SPDX-License-Identifier: BSD-2-Clause
"""The inside of an OP-TEE TA's process: commands in, the TA entered, results out."""

import errno
import gc
import mmap
import os
import signal
import traceback
from collections.abc import Callable
from uuid import UUID

from gentee.abi import optee_ta as abi
from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_ERROR_OUT_OF_MEMORY, TEE_SUCCESS, result_name
from gentee.errors import TaImageError, TaPanic, TeeError
from gentee.linux.libc import PR_SET_PDEATHSIG, prctl, set_process_name
from gentee.ta import confine
from gentee.ta.client_memory import Reference
from gentee.ta.engine.base import AARCH64, ARM, PROT_EXEC, PROT_READ, Engine, Fault
from gentee.ta.engine.native import NativeEngine
from gentee.ta.hot_blocks import HotBlocks
from gentee.ta.loader.image import ElfImage, parse_image
from gentee.ta.process import Process, introduce
from gentee.ta.report import crash_report
from gentee.ta.requests import CHANNEL
from gentee.ta.user_ta import UserTa

# Of private memory, besides what the TA has: the interpreter, and the engine with the code that it
# has translated.
_ENGINE_MEMORY = 96 << 20

# Made by the warm parent: their pages are there, and the library has started.
ENGINES: dict[str, NativeEngine] = {}

_NO_VALS = (0,) * 8

_SVC = {AARCH64: 0xD4000001, ARM: 0xEF000000}  # svc #0
_REHEARSAL = 0xF0000000


def _content(fd: int, size: int) -> bytes:
    """The bytes of a descriptor, which is closed. By a map: nothing is read after the lock."""
    try:
        with mmap.mmap(fd, size, prot=mmap.PROT_READ) as content:
            return content[:]
    finally:
        os.close(fd)


def _image(fd: int, size: int, *, is_main: bool = True) -> ElfImage:
    """The image that a descriptor has; raises TaImageError."""
    try:
        return parse_image(_content(fd, size), is_main)
    except MemoryError:
        text = "it takes more memory than a TA may have (--memory-limit)"
        raise TaImageError(text, TEE_ERROR_OUT_OF_MEMORY) from None


class UserProcess(Process):
    """The one TA of this process."""

    def __init__(self, mailbox: mmap.mmap) -> None:
        super().__init__(mailbox)
        self._ta: UserTa | None = None

    def call(self, entry_point: Callable[[], int | None]) -> int:
        try:
            return entry_point() or TEE_SUCCESS
        except TeeError as error:  # before the TA was entered
            self._words[ch.M_FLAGS] |= ch.R_REFUSED
            return error.code
        except TaImageError as error:
            self.log(1, str(error))
            return error.code
        except (Fault, TaPanic) as cause:
            self._dies(cause)
        except BaseException:
            self.log(1, traceback.format_exc().rstrip())
        os._exit(1)

    def _dies(self, cause: Fault | TaPanic) -> None:
        """Say why. The TA is gone: a report that cannot be made is no reason to stay."""
        assert self._ta is not None
        try:
            report = crash_report(self._ta, cause)
        except Exception:
            code = f"code {result_name(cause.code)}" if isinstance(cause, TaPanic) else str(cause)
            self.log(1, f"panic, {code}\n{traceback.format_exc().rstrip()}")
            return
        self._words[ch.M_FLAGS] |= ch.R_LOGGED
        self._write(b"\x02" + report + b"\n")

    def create(self) -> None:
        words = self._words
        uuid = words[ch.M_UUID : ch.M_UUID + 2].tobytes()
        limit = words[ch.M_MEMORY_LIMIT]
        kind = words[ch.M_KIND]
        set_process_name(f"ta:{uuid.hex()[:8]}")
        fd = words[ch.M_FUNC]
        confine.limit_memory(limit + _ENGINE_MEMORY)
        image = _image(fd, os.fstat(fd).st_size)
        engine = ENGINES.pop(image.arch)
        engine.renew_keys()
        self._take(UserTa(uuid, engine, limit, self._library, CHANNEL))
        assert self._ta is not None
        # Before anything that the image says is done: what comes needs memory and the channel, in
        # a template also forks.
        if kind == ch.CREATE_TEMPLATE:
            confine.lock_template()
        else:
            confine.lock_ta()
        try:
            self._ta.load(image)
        except TeeError as error:
            self.log(1, f"not loaded: {error}")
            raise
        if kind != ch.CREATE_PLAIN:
            blocks = HotBlocks(words[ch.M_BLOCKS], self._ta.loader.modules, self._ta.space)
            if kind == ch.CREATE_RECORDED:
                engine.record_blocks(blocks.add)
            else:
                engine.translate(blocks)
                gc.collect()
                gc.freeze()  # so that a child's collector does not write to what they share

    def _take(self, ta: UserTa) -> None:
        """From now on ``ta`` is this process's."""
        ta.log, ta.wait, ta.cancelled = self.log, self.wait, self.cancelled  # type: ignore[method-assign]
        self._ta = ta

    def fork(self) -> int:
        parent = os.getpid()
        token = self._words[ch.M_FUNC]
        try:
            pid = os.fork()
        except OSError as error:
            return error.errno or errno.EAGAIN
        if pid:
            self._words[ch.M_SESSION] = pid
            return 0
        try:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent and self._ta is not None:
                # What can be done before anybody wants it: introduce() waits for that.
                self._ta.engine.renew_keys()
                rehearse(self._ta.engine)
                confine.lock_ta()
                child = UserProcess(introduce(token))
                child._take(self._ta)
                child.run()
        finally:
            os._exit(1)

    def reap(self) -> None:
        try:
            os.waitpid(self._words[ch.M_FUNC], 0)
        except ChildProcessError:  # asked twice
            pass

    def _library(self, uuid: bytes) -> ElfImage:
        """The image of a library; raises ItemNotFound and what else the store has to say."""
        CHANNEL[ch.Q_UUID] = int.from_bytes(uuid[:8], "little")
        CHANNEL[ch.Q_UUID + 1] = int.from_bytes(uuid[8:], "little")
        result = CHANNEL.ask(ch.RQ_OPEN_BIN)
        if result != TEE_SUCCESS:
            raise TeeError.from_code(result, detail=f"library {UUID(bytes=uuid)}")
        try:
            return _image(CHANNEL[ch.Q_FUNC], CHANNEL[ch.Q_SIZE], is_main=False)
        except TaImageError as error:
            raise TaImageError(f"library {UUID(bytes=uuid)}: {error}", error.code) from error

    def open_session(self) -> int:
        assert self._ta is not None
        words = self._words
        session = words[ch.M_SESSION]
        uuid = words[ch.M_CLIENT_UUID : ch.M_CLIENT_UUID + 2].tobytes()
        self._ta.clients[session] = (words[ch.M_LOGIN] & 0xFFFF_FFFF, uuid)
        result = self._enter(abi.UTEE_ENTRY_FUNC_OPEN_SESSION, session, 0)
        if result != TEE_SUCCESS:
            del self._ta.clients[session]
        return result

    def invoke(self) -> int:
        words = self._words
        func = abi.UTEE_ENTRY_FUNC_INVOKE_COMMAND
        return self._enter(func, words[ch.M_SESSION], words[ch.M_FUNC] & 0xFFFF_FFFF)

    def close_session(self) -> None:
        assert self._ta is not None
        session = self._words[ch.M_SESSION]
        try:
            self._enter(abi.UTEE_ENTRY_FUNC_CLOSE_SESSION, session, 0)
        finally:
            self._ta.clients.pop(session, None)

    def dump_memstats(self) -> int:
        return self._enter(abi.UTEE_ENTRY_FUNC_DUMP_MEMSTATS, 0, 0)

    def destroy(self) -> None:
        """libutee called the destroy entry point when the last session was closed."""

    def map(self, key: int, fd: int, size: int) -> None:
        assert self._ta is not None
        self._ta.client_memory.add(key, fd, size)

    def unmap(self, key: int) -> None:
        if self._ta is not None:
            self._ta.client_memory.drop(key)

    def _enter(self, func: int, session: int, cmd: int) -> int:
        ta, words = self._ta, self._words
        assert ta is not None
        ta.session = session
        types = words[ch.M_PARAM_TYPES]
        if not types:
            ta.client_memory.hide()
            return ta.enter(func, cmd, 0, _NO_VALS)
        if words[ch.M_NUM_MAPS]:
            self.new_maps()
        result = ta.enter(func, cmd, types, self._vals(ta, types))
        after = ta.params()
        for index in range(4):
            kind = types >> 4 * index & 0xF
            base = ch.M_PARAMS + 3 * index
            if kind in (2, 3):
                words[base] = after[2 * index] & 0xFFFF_FFFF
                words[base + 1] = after[2 * index + 1] & 0xFFFF_FFFF
            elif kind in (6, 7):
                words[base + 1] = after[2 * index + 1]
        return result

    def _vals(self, ta: UserTa, types: int) -> tuple[int, ...]:
        words = self._words
        vals = [0] * 8
        references: list[Reference] = []
        places: list[int] = []
        for index in range(4):
            kind = types >> 4 * index & 0xF
            a, b, key = words[ch.M_PARAMS + 3 * index : ch.M_PARAMS + 3 * index + 3]
            if kind in (1, 3):
                vals[2 * index], vals[2 * index + 1] = a, b
            elif kind > 3:
                vals[2 * index + 1] = b
                if key != ch.NULL_KEY:
                    references.append(Reference(key, a, b))
                    places.append(2 * index)
        for place, address in zip(places, ta.client_memory.show(references), strict=True):
            vals[place] = address
        return tuple(vals)


def make_engines() -> None:
    """For the warm parent: an engine of each architecture, which has run."""
    for arch in (AARCH64, ARM):
        engine = ENGINES[arch] = NativeEngine(arch)
        map_rehearsal(engine)
        rehearse(engine)


def map_rehearsal(engine: Engine) -> None:
    """Map the code that :func:`rehearse` runs, at an address that no TA has."""
    memory = memoryview(mmap.mmap(-1, abi.SMALL_PAGE_SIZE))
    memory[:4] = _SVC[engine.arch].to_bytes(4, "little")
    engine.map(_REHEARSAL, memory, PROT_READ | PROT_EXEC)


def rehearse(engine: Engine) -> None:
    """Return from nothing, by a system call.

    A fork copies the pages that it writes to one by one, which is most of what a first entry costs.
    This writes to many of them before anybody waits.
    """
    engine.enter(_REHEARSAL, 0, (0, 0, 0, 0))
    engine.run()


def serve(token: int) -> None:
    """Introduce this process with its token and serve; never returns."""
    process = UserProcess(introduce(token))

    process.run()
