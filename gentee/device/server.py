# SPDX-License-Identifier: BSD-2-Clause
"""A TEE that other programs join: its control socket, and what is asked there.

The socket is in the state folder. Connections are looked after by the events thread, which never
waits for one: who does not take its answer is disconnected. A program that has joined has a
receiving thread of its own, so that what it does there costs nobody else's calls; the services stay
with the TEE's own listener.
"""

import errno
import os
import socket
import stat
import threading
import time
from collections.abc import Callable

from gentee.core.device import DeviceRegistry
from gentee.core.host import Host
from gentee.device import control
from gentee.device.answers import Ends
from gentee.device.connection import Connection
from gentee.device.joined_program import JoinedProgram, is_device_file, is_listener
from gentee.device.state_dir import SOCKET, StateDir
from gentee.errors import UserError
from gentee.linux.peer import Peer
from gentee.linux.shm import memory_file_seals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Protocol

    from gentee.core.context import TeeContext

    class Manager(Protocol):
        """The services of a TEE, as who administers it sees them. Methods may wait for a disk."""

        def list(self) -> "list[dict[str, Any]]":
            """Each service, in words for JSON."""

        def instances(self) -> int:
            """How many are alive."""

        def stats(self) -> "dict[str, Any]":
            """What is alive and what it takes, in words for JSON."""

        def load(self, image: bytes) -> tuple[bytes, int]:
            """Install; UUID and version. TeeError with the reason."""

        def unload(self, uuid: bytes) -> None:
            """Forget what is installed; TeeError with the reason."""

        def storage(self, request: object, file: "BinaryIO | None") -> "dict[str, Any]":
            """What the operator asks of stored objects, in words for JSON."""


MAX_CONNECTIONS = 256
_MAX_IDLE = 32  # of them, that have not joined
# Requests that members of the group may not make.
_OWNERS = (control.UNLOAD, control.STOP, control.STORAGE)
_BACKLOG = 64


class TeeServer:
    """Listens in the state folder of a TEE.

    :param state: locked, and kept open until :meth:`close`.
    :param ends: of the TEE's own door, if it has one, as ``contexts``.
    :param group: the id of a group whose members may join, besides owner and root.
    :param stop: called, in the events thread, when somebody asks for the end of the TEE.
    :param look: whether programs' tasks are looked at directly, as far as that is permitted; False
        asks their joiners for everything, to try it where all is permitted.
    """

    def __init__(
        self,
        host: Host,
        registry: DeviceRegistry,
        state: StateDir,
        *,
        manager: "Manager | None" = None,
        ends: Ends | None = None,
        contexts: "dict[bytes, TeeContext] | None" = None,
        group: int | None = None,
        stop: Callable[[], None] | None = None,
        look: bool = True,
    ) -> None:
        self.host = host
        self.registry = registry
        self._state = state
        self._manager = manager
        self._ends = ends if ends is not None else Ends(host.events)
        self._contexts: dict[bytes, TeeContext] = contexts if contexts is not None else {}
        self._group = group
        self._stop = stop
        self._look = look
        self._since = time.monotonic()
        self._connections: set[Connection] = set()
        self._closing: set[threading.Thread] = set()
        self._left: set[JoinedProgram] = set()
        self._pid_namespace = control.pid_namespace()
        self._sock: socket.socket | None = None

    def listen(self) -> None:
        """Make the socket; what a dead TEE left in its place goes. UserError where it cannot be."""
        path = self._state.address()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            try:
                os.unlink(SOCKET, dir_fd=self._state.fd)
            except FileNotFoundError:
                pass
            sock.bind(path)
            # The folder is the owner's alone until the socket has its rights.
            os.chmod(path, 0o600)
            if self._group is not None:
                os.chown(path, -1, self._group)
                os.chmod(path, 0o660)
                os.fchown(self._state.fd, -1, self._group)
                os.fchmod(self._state.fd, 0o710)
            elif stat.S_IMODE(os.fstat(self._state.fd).st_mode) != 0o700:
                os.fchmod(self._state.fd, 0o700)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            raise UserError(
                f"no control socket in {self._state.path}: {error.strerror or error}",
                "the folder must be on a file system that can hold sockets; --state names another",
            ) from error
        self._sock = sock
        self.host.events.add(sock.fileno(), self._accept)

    def _accept(self) -> None:
        if self._sock is None:
            return
        try:
            sock, _address = self._sock.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                self._pause()
            return
        sock.setblocking(False)
        try:
            peer = Peer(sock)
        except OSError:  # it is gone
            sock.close()
            return
        connection = Connection(self, sock, peer)
        connection.problem = self._problem(peer)
        if self._is_full():
            connection.refuse("too many programs are connected to this TEE")
            connection.close()
            return
        self._connections.add(connection)
        self.host.events.add(sock.fileno(), connection.read)

    def _pause(self) -> None:
        """No descriptor is left. Who waits to be accepted must not keep this thread busy."""
        assert self._sock is not None
        fd = self._sock.fileno()
        self.host.events.remove(fd)

        def again() -> None:
            if self._sock is not None:
                self.host.events.add(fd, self._accept)

        self.host.events.call_later(0.1, again)

    def _problem(self, peer: Peer) -> str:
        """Why ``peer`` may not come in; empty if it may."""
        allowed = _is_owner(peer)
        if self._group is not None:
            allowed = allowed or peer.in_group(self._group)
        if not allowed:
            return "only its owner may use this TEE" + (
                "" if self._group is None else ", or who is in its group"
            )
        return ""

    def _is_full(self) -> bool:
        idle = sum(1 for connection in self._connections if connection.program is None)
        return len(self._connections) >= MAX_CONNECTIONS or idle >= _MAX_IDLE

    def handle(self, connection: Connection, code: int, payload: bytes, fds: list[int]) -> None:
        """Events thread: one request. What is left in ``fds`` is closed by the caller."""
        if connection.program is not None and code != control.LEAVE:
            raise control.ProtocolError(f"request {code} of a program that has joined")
        if code in _OWNERS and not _is_owner(connection.peer):
            connection.refuse("only the owner of this TEE may do that")
            return
        if code == control.JOIN:
            self._join(connection, payload)
        elif code == control.LISTEN:
            self._listen(connection, payload, fds)
        elif code == control.LEAVE:
            self._leave(connection)
        elif code == control.STATUS:
            self._answer_json(connection, self.status())
        elif code == control.STOP:
            if self._stop is None:
                connection.refuse("this TEE ends with the program that it was started for")
            else:
                connection.answer()
                self._stop()
        elif self._manager is None:
            connection.refuse("this TEE has no services to manage")
        elif code == control.LIST:
            manager = self._manager
            connection.work(lambda: self._answer_json(connection, {"services": manager.list()}))
        elif code == control.STATS:
            manager = self._manager
            connection.work(lambda: self._answer_json(connection, manager.stats()))
        elif code == control.LOAD:
            self._load(connection, self._manager, fds)
        elif code == control.UNLOAD:
            self._unload(connection, self._manager, payload)
        elif code == control.STORAGE:
            self._storage(connection, self._manager, fds)

    # Programs.

    def _join(self, connection: Connection, payload: bytes) -> None:
        if payload != self._pid_namespace or not connection.peer.pid:
            connection.refuse("the program is in another PID namespace (a container) than this TEE")
            return
        connection.joining = True
        connection.answer("\n".join(d.name for d in self.registry.all()).encode())

    def _listen(self, connection: Connection, payload: bytes, fds: list[int]) -> None:
        names = [device.name for device in self.registry.all()]
        ways = {number: way for way, number in control.WAY_CODES.items()}
        way = ways.get(payload[0])
        listener, *files = fds
        if not connection.joining or way is None:
            raise control.ProtocolError("LISTEN out of turn")
        if len(files) != (len(names) if way == "namespace" else 0):
            raise control.ProtocolError(f"{len(files)} device files for {len(names)} devices")
        if not is_listener(listener):
            raise control.ProtocolError("a descriptor that is no listener")
        if not all(is_device_file(fd) for fd in files):
            raise control.ProtocolError("a descriptor that is no device file")
        connection.joining = False
        try:
            program = JoinedProgram(
                self.host,
                self.registry,
                self._ends,
                self._contexts,
                listener,
                way,
                connection.sock,
                connection.peer,
                look=self._look,
            )
        except OSError as error:
            connection.refuse(f"the TEE has run short of something: {error.strerror}")
            return
        finally:
            del fds[0]  # the notifier's, and closed by it
        try:
            program.start(names, files)
        except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
            self.close_program(program, left=False)
            connection.refuse(f"the TEE has run short of something: {error}")
            return
        finally:
            fds.clear()
        connection.program = program
        connection.answer()

    def _leave(self, connection: Connection) -> None:
        program, connection.program = connection.program, None
        if program is None:
            raise control.ProtocolError("LEAVE of a program that has not joined")
        self.close_program(program, left=False, then=connection.answer)

    def close_program(
        self,
        program: JoinedProgram,
        *,
        left: bool,
        then: Callable[[], None] | None = None,
    ) -> None:
        """End what is kept of ``program``, in a thread of its own; then call ``then`` there.

        :param left: its joiner ended without a word. Where opens are trapped, what it left behind
            would find none of its files: its calls go on without a TEE until the last task is gone.
        """

        def close() -> None:
            try:
                if left and program.way == "open":
                    program.leave()
                    self.host.events.call_soon(lambda: self._watch_left(program))
                else:
                    program.close()
            except Exception as error:  # our own bug
                self.host.bug(error)
            if then is not None:
                then()
            self._closing.discard(thread)

        thread = threading.Thread(target=close, name="gentee-leaving", daemon=True)
        self._closing.add(thread)
        try:
            thread.start()
        except RuntimeError:  # no more threads: then this one
            close()

    def _watch_left(self, program: JoinedProgram) -> None:
        """Events thread: keep the listener until all tasks that have its filter are gone."""
        listener = program.notifier.listener
        self._left.add(program)

        def hung_up() -> None:
            self.host.events.remove(listener)
            self._left.discard(program)
            self.close_program(program, left=False)

        self.host.events.add(listener, hung_up, 0)

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def programs(self) -> list[JoinedProgram]:
        """Those that have joined."""
        programs = [connection.program for connection in tuple(self._connections)]
        return [program for program in programs if program is not None]

    # What people ask.

    def status(self) -> "dict[str, Any]":
        """What is there now, for JSON."""
        now = time.monotonic()
        devices = self.registry.all()
        return {
            "pid": os.getpid(),
            "uptime": round(now - self._since, 3),
            "devices": [
                {"name": d.name, "driver": d.desc.name, "contexts": len(d.contexts)}
                for d in devices
            ],
            "instances": self._manager.instances() if self._manager is not None else 0,
            "sessions": sum(len(c.sessions) for d in devices for c in tuple(d.contexts)),
            "programs": [
                {
                    "pid": program.peer.pid,
                    "uid": program.peer.uid,
                    "way": program.way,
                    "seconds": round(now - program.since, 3),
                    **program.door.statistics(),
                }
                for program in self.programs()
            ],
            "leaving": len(self._closing),
        }

    def _answer_json(self, connection: Connection, answer: object) -> None:
        import json

        fd = os.memfd_create("answer", os.MFD_CLOEXEC)
        try:
            data = json.dumps(answer).encode()
            os.ftruncate(fd, len(data))
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            connection.answer(fds=(fd,))
        finally:
            os.close(fd)

    def _load(self, connection: Connection, manager: "Manager", fds: list[int]) -> None:
        fd = fds[0]
        # Memory files only: any other could be one that never answers.
        if memory_file_seals(fd) is None:
            raise control.ProtocolError("an image that is not a memory file")
        size = os.fstat(fd).st_size
        if not 0 < size <= control.MAX_IMAGE:
            connection.refuse(f"an image of {size} bytes")
            return
        image = os.pread(fd, size, 0)

        def load() -> None:
            connection.answer(control.IMAGE.pack(*manager.load(image)))

        connection.work(load)

    def _unload(self, connection: Connection, manager: "Manager", uuid: bytes) -> None:
        def unload() -> None:
            manager.unload(uuid)
            connection.answer()

        connection.work(unload)

    def _storage(self, connection: Connection, manager: "Manager", fds: list[int]) -> None:
        import json

        if memory_file_seals(fds[0]) is None:
            raise control.ProtocolError("a request that is not in a memory file")
        size = os.fstat(fds[0]).st_size
        if not 0 < size <= control.MAX_JSON:
            raise control.ProtocolError(f"a request of {size} bytes")
        # Its owner's own file, and no pipe: that could be one that nobody reads.
        if len(fds) > 1 and not stat.S_ISREG(os.fstat(fds[1]).st_mode):
            raise control.ProtocolError("an archive that is no regular file")
        try:
            request = json.loads(os.pread(fds[0], size, 0))
        except (ValueError, RecursionError):
            raise control.ProtocolError("a request that is no JSON") from None
        file = os.fdopen(os.dup(fds[1]), "r+b") if len(fds) > 1 else None

        def storage() -> None:
            try:
                answer = manager.storage(request, file)
            finally:
                if file is not None:
                    file.close()
            self._answer_json(connection, answer)

        connection.work(storage)

    def close(self) -> list[int]:
        """End all connections and wait until nothing of the programs is left. Not in the events
        thread.

        Returns listeners of what was left behind, for :mod:`gentee.device.left_behind`.
        """
        if self._sock is not None:
            sock, self._sock = self._sock, None
            self.host.events.remove(sock.fileno())
            sock.close()
            try:
                os.unlink(SOCKET, dir_fd=self._state.fd)
            except OSError:
                pass
        done = threading.Event()

        def end() -> None:
            for connection in tuple(self._connections):
                connection.close(left=False)
            done.set()

        self.host.events.call_soon(end)
        done.wait(5.0)
        for thread in tuple(self._closing):
            thread.join(5.0)
        kept = []
        for program in tuple(self._left):
            self.host.events.remove(program.notifier.listener)
            kept.append(os.dup(program.notifier.listener))
            program.close()
        self._left.clear()
        return kept


def _is_owner(peer: Peer) -> bool:
    return peer.uid in (os.geteuid(), 0)


__all__ = ["TeeServer"]
