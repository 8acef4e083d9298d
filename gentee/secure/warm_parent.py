# SPDX-License-Identifier: BSD-2-Clause
"""The warm parent, seen from the TEE: forks a service's process on request, in about 1 ms.

It is a fresh interpreter below the trapped root (:mod:`gentee.ta.warm_parent`). Each spawn carries
a token that only the two and the new process know; with it the process introduces itself in its
first trapped call, so no client can pass for a service. A process is collected only after the TEE
said that it knows of its end: until then its number cannot be used again.

One process is kept ahead: forked, introduced, and parked in its first trapped call before anybody
asks for it. That takes the fork, a third of an open, off the road. It is like any other new
process: it has no service, no descriptor of one and nothing of the one before it.
"""

import os
import socket
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from struct import Struct

from gentee.core.host import Host
from gentee.linux.notify import Notifier

_SPAWN = Struct("<cQ")  # 'S' token
_REAP = Struct("<ci")  # 'R' pid
_SPAWNED = Struct("<ciQ")  # 'P' pid token; -errno instead of a pid when it failed

_ASKED_AT_ONCE = 64  # a socket takes some hundreds of such messages

MODULE = "gentee.ta.warm_parent"  # of Python services
ARM_MODULE = "gentee.ta.arm_parent"  # of OP-TEE's TAs


class Birth:
    """A process that was asked for."""

    __slots__ = ("failed", "hello", "pid_known", "token")

    def __init__(
        self,
        hello: Callable[[int, int], None],
        pid_known: Callable[[int], None],
        failed: Callable[[], None],
    ) -> None:
        self.hello = hello  # (notification id, thread id), in any thread, once
        self.pid_known = pid_known  # (pid), in the events thread, before or after hello
        self.failed = failed  # there will be no process
        self.token = 0


class _Process:
    """A process on its way; ``birth`` is None as long as nobody wants it."""

    __slots__ = ("birth", "notify_id", "pid", "tid", "token")

    def __init__(self, birth: Birth | None) -> None:
        self.birth = birth
        self.token = int.from_bytes(os.urandom(8), "little") >> 2
        # Kept for whoever will want it.
        self.notify_id = self.tid = self.pid = 0


class ProcessParent(ABC):
    """Who forks processes of services. Any thread may ask."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._lock = threading.Lock()  # protects the next two, and whose a process is
        self._processes: dict[int, _Process] = {}  # by token, until the pid is known
        self._spare: _Process | None = None  # the one ahead, perhaps still on its way

    @property
    @abstractmethod
    def notifier(self) -> Notifier:
        """The receiving end that the processes are trapped by."""

    @abstractmethod
    def _fork(self, token: int) -> None:
        """Have a process forked that introduces itself so. Then comes :meth:`_forked`."""

    @abstractmethod
    def reap(self, pid: int) -> None:
        """The end of ``pid`` is known here: its number may be used again."""

    def _is_busy(self) -> bool:
        """Whether more are wanted than there are: then none is made ahead. The lock is held."""
        return False

    def spawn(self, birth: Birth) -> None:
        """A process for ``birth``, whose callbacks follow, perhaps before this returns."""
        while True:
            with self._lock:
                process, self._spare = self._spare, None
                if process is not None:
                    # What comes from now on is passed on; what came before is here.
                    process.birth = birth
                    notify_id, tid, pid = process.notify_id, process.tid, process.pid
            if process is None:
                self._request(birth)
                return
            birth.token = process.token
            if notify_id and not self.notifier.is_valid(notify_id):
                # Somebody killed it while it waited: it is nobody's, and there is another.
                with self._lock:
                    pid = process.pid
                    process.birth = Birth(lambda *_: None, self.reap, lambda: None)
                if pid:
                    self.reap(pid)
                continue
            if notify_id:
                birth.hello(notify_id, tid)
            if pid:
                self._host.events.call_soon(partial(birth.pid_known, pid))
            self._request(None)
            return

    def _request(self, birth: Birth | None) -> None:
        """Have a process forked, for ``birth`` or as the one ahead."""
        process = _Process(birth)
        if birth is not None:
            birth.token = process.token
        self.notifier.introductions[process.token] = partial(self._hello, process)
        with self._lock:
            if birth is None:
                if self._spare is not None:
                    self.notifier.introductions.pop(process.token, None)
                    return
                self._spare = process
            self._processes[process.token] = process
        self._fork(process.token)

    def _hello(self, process: _Process, notify_id: int, tid: int) -> None:
        """Receiving thread: a process introduces itself."""
        with self._lock:
            process.notify_id, process.tid = notify_id, tid
            birth = process.birth
        if birth is not None:
            birth.hello(notify_id, tid)

    def _forked(self, token: int, pid: int) -> None:
        """Events thread: ``pid`` introduces itself with ``token``; below 0: there is none."""
        birth = None
        with self._lock:
            process = self._processes.pop(token, None)
            if process is not None:
                process.pid, birth = max(pid, 0), process.birth
                if pid < 0 and self._spare is process:
                    self._spare = None
            # Not while many are wanted: those come first.
            is_quiet = pid >= 0 and self._spare is None and not self._is_busy()
        if pid < 0:
            self.notifier.introductions.pop(token, None)
            if birth is not None:
                self._failed(birth)
        elif birth is not None:
            birth.pid_known(pid)
        if is_quiet:
            self._request(None)

    def _failed(self, birth: Birth) -> None:
        """There is no process for ``birth``."""
        birth.failed()

    def forget(self, birth: Birth) -> None:
        """Its process ended: nobody may introduce itself as it any more."""
        self.notifier.introductions.pop(birth.token, None)


class WarmParent(ProcessParent):
    """Starts a warm parent at first need and speaks with it.

    :param module: what it runs: MODULE or ARM_MODULE.
    """

    def __init__(self, host: Host, module: str = MODULE) -> None:
        super().__init__(host)
        self._module = module
        # Protected by the same lock:
        self._socket: socket.socket | None = None
        self._over = False  # the TEE ended
        self._asked = 0  # for how many there is no answer yet
        self._waiting: deque[int] = deque()  # tokens: those that were not asked for yet
        self._notifier: Notifier | None = None

    @property
    def notifier(self) -> Notifier:
        if self._notifier is None:
            self._notifier = self._host.notifier()
        return self._notifier

    def start(self) -> None:
        """Start it if it is not there yet; returns at once."""
        with self._lock:
            if self._socket is not None or self._over:
                return
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._notifier = self._host.notifier()
                self._host.spawn_trapped(self._module, theirs.fileno())
            self._socket = mine
        self._host.events.add(mine.fileno(), self._read)

    def spawn(self, birth: Birth) -> None:
        self.start()
        super().spawn(birth)

    def _is_busy(self) -> bool:
        return bool(self._asked or self._waiting)

    def _fork(self, token: int) -> None:
        with self._lock:
            self._waiting.append(token)
        self._ask()

    def _ask(self) -> None:
        """Ask for those that wait, but never for so many that either side could block in a send."""
        while True:
            with self._lock:
                if not self._waiting or self._asked >= _ASKED_AT_ONCE:
                    return
                token = self._waiting.popleft()
                self._asked += 1
                sock = self._socket
            try:
                if sock is None:  # it ended just now
                    raise BrokenPipeError
                sock.send(_SPAWN.pack(b"S", token))
            except OSError:
                with self._lock:
                    self._asked -= 1
                self._forked(token, -1)

    def reap(self, pid: int) -> None:
        sock = self._socket
        if sock is not None:
            try:
                sock.send(_REAP.pack(b"R", pid))
            except OSError:  # it is gone, and all its children with it
                pass

    def close(self) -> None:
        """End it for good; services that still run end with it."""
        with self._lock:
            self._over = True
        self._disconnect()

    def _disconnect(self) -> None:
        with self._lock:
            sock, self._socket = self._socket, None
            self._spare = None  # it ends with its parent
        if sock is not None:
            self._host.events.remove(sock.fileno())
            sock.close()

    def _read(self) -> None:
        sock = self._socket
        if sock is None:
            return
        try:
            data = sock.recv(64)
        except OSError:  # it was killed
            data = b""
        if len(data) != _SPAWNED.size:
            self._ended()
            return
        _kind, pid, token = _SPAWNED.unpack(data)
        with self._lock:
            self._asked -= 1
        self._forked(token, pid)
        self._ask()

    def _ended(self) -> None:
        self._disconnect()
        self._host.warn(
            "the warm parent of trusted services ended; the next session starts another"
        )
        with self._lock:
            tokens = tuple(self._processes)
            self._waiting.clear()
            self._asked = 0
        for token in tokens:
            self._forked(token, -1)
