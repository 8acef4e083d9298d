# SPDX-License-Identifier: BSD-2-Clause
"""Answers to clients: what goes back into their memory, and what is undone when nobody takes it."""

import errno
import os
from struct import Struct

from gentee.abi.gp import TEE_SUCCESS
from gentee.core import calls
from gentee.core.params import params_put, params_to_supp, params_to_user
from gentee.core.shm import TeeShm
from gentee.linux.events import EventLoop, HangUps
from gentee.linux.notify import Notifier
from gentee.linux.process_memory import write_memory
from gentee.linux.shm import CloseWatch, only_open, reopen

_RET_ORIGIN = Struct("<II").pack
_SESSION_RET_ORIGIN = Struct("<III").pack
_FUNC_NUM_PARAMS = Struct("<II").pack
_RET = Struct("<I").pack


class Ends:
    """What tells of ends: of pipes, of shared memory, of device files. All doors can share one.

    inotify instances are few (fs.inotify.max_user_instances), and slow to close.
    """

    def __init__(self, events: EventLoop) -> None:
        self.hang_ups = HangUps(events)
        self.shm_watch = self._new_watch(events)
        self._events = events
        self._file_watch: CloseWatch | None = None

    @staticmethod
    def _new_watch(events: EventLoop) -> CloseWatch:
        watch = CloseWatch(events.call_later)
        events.add(watch.fd, watch.read, settle=watch.settle)
        return watch

    def file_watch(self) -> CloseWatch:
        """Of device files; made at the first need."""
        if self._file_watch is None:
            self._file_watch = self._new_watch(self._events)
        return self._file_watch

    def watch_fds(self) -> list[int]:
        """The descriptors of watches. To close one is to wait: see ``RunHost.end``."""
        watches = (self.shm_watch, self._file_watch)
        return [watch.fd for watch in watches if watch is not None]


class Answers:
    """Completes calls of clients. Methods may run in any thread.

    ``write_memory`` writes into a client's memory, as the function of
    :mod:`gentee.linux.process_memory`.
    """

    def __init__(self, notifier: Notifier, events: EventLoop, ends: Ends | None = None) -> None:
        self.notifier = notifier
        self.events = events
        self.ends = ends if ends is not None else Ends(events)
        self.hang_ups = self.ends.hang_ups
        self.write_memory = write_memory
        self._watch = self.ends.shm_watch
        # What clients have of shared memory, and so what is left of it when the door closes.
        self._shm_files: dict[int, TeeShm] = {}  # by the watch's handle
        self._shm_handles: dict[int, TeeShm] = {}  # by the pipe's write end

    def finish(self, arg: calls.CallArg, pieces: list[tuple[int, bytes]]) -> bool:
        """Write ``pieces`` and let the ioctl return; whether the client got both."""
        notify_id, tid, _ = arg.door
        error = arg.error
        if not error:
            # The call may have taken long: the caller can be gone, and its number another's.
            if not self.notifier.is_valid(notify_id):
                return False
            try:
                self.write_memory(tid, pieces)
            except OSError:
                error = errno.EFAULT
        taken = self.notifier.answer(notify_id, 0, error)
        return taken and not error

    def invoked(self, arg: calls.InvokeArg) -> None:
        """TEE_IOC_INVOKE is done."""
        address = arg.door[2]
        params = arg.params
        pieces = [(address + 12, _RET_ORIGIN(arg.ret, arg.ret_origin))]
        if params:
            pieces += params_to_user(params, address + 24)
            self.finish(arg, pieces)
            params_put(params)
        else:
            self.finish(arg, pieces)

    def opened(self, arg: calls.OpenSessionArg) -> None:
        """TEE_IOC_OPEN_SESSION is done. A session that the client cannot learn of is closed."""
        address = arg.door[2]
        pieces = [(address + 40, _SESSION_RET_ORIGIN(arg.session, arg.ret, arg.ret_origin))]
        pieces += params_to_user(arg.params, address + 56)
        params = arg.params
        if not self.finish(arg, pieces) and arg.ret == TEE_SUCCESS and arg.session:
            try:
                calls.close_session(arg.ctx, arg.session)
            except OSError:  # the context was closed meanwhile, and the session with it
                pass
        params_put(params)

    def object_invoked(self, arg: calls.ObjectInvokeArg) -> None:
        """TEE_IOC_OBJECT_INVOKE is done."""
        address = arg.door[2]
        pieces = [(address + 12, _RET(arg.ret)), *params_to_user(arg.params, address + 24)]
        self.finish(arg, pieces)
        params_put(arg.params)

    def supp_received(self, arg: calls.SuppRecvArg) -> None:
        """TEE_IOC_SUPPL_RECV has a request."""
        address = arg.door[2]
        data = _FUNC_NUM_PARAMS(arg.func, len(arg.params)) + params_to_supp(arg.params)
        if not self.finish(arg, [(address, data)]):
            arg.abandon()  # the request waits for the next supplicant

    def answer_shm_file(self, notify_id: int, shm: TeeShm) -> None:
        """Answer with a descriptor of ``shm``'s pages, and end ``shm`` with its last user.

        The client's descriptor is an open file of its own: its end, mappings included, is what
        the watch reports. From here on the reference that the caller held is the client's.
        """
        client_fd = reopen(shm.fd, os.O_RDWR)
        try:
            watch: int

            def closed() -> bool:
                if not only_open(shm.fd):
                    return False
                if self._watch.remove(watch):
                    self._shm_files.pop(watch, None)
                    shm.put_owner()
                return True

            watch = self._watch.add(shm.fd, closed)
            self._shm_files[watch] = shm
            try:
                # As Linux's, the descriptor is not close-on-exec.
                self.notifier.answer_fd(notify_id, client_fd)
            except BaseException:
                self._shm_files.pop(watch, None)
                self._watch.remove(watch)
                raise
        finally:
            # If the client did not take it this is its last descriptor, and the watch says so.
            os.close(client_fd)
        if watch < 0:
            self.events.call_soon(self._watch.sweep)

    def answer_shm_handle(self, notify_id: int, shm: TeeShm) -> None:
        """Answer with a descriptor that stands for registered memory and cannot be mapped."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

        def closed() -> None:
            del self._shm_handles[writer]
            os.close(writer)
            shm.put_owner()

        try:
            self.notifier.answer_fd(notify_id, reader)
        except BaseException:
            os.close(reader)
            os.close(writer)
            raise
        os.close(reader)
        self._shm_handles[writer] = shm
        self.hang_ups.add(writer, closed)

    def forget_shms(self) -> None:
        """The door closes: shared memory of its clients ends, for the TEE."""
        for watch, shm in tuple(self._shm_files.items()):
            if self._watch.remove(watch):
                self._shm_files.pop(watch, None)
                shm.put_owner()
        for writer, shm in tuple(self._shm_handles.items()):
            if self.hang_ups.remove(writer):
                del self._shm_handles[writer]
                os.close(writer)
                shm.put_owner()
