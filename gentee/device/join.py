# SPDX-License-Identifier: BSD-2-Clause
"""Running a program in a TEE that runs already: ``gentee run --tee NAME``.

The program has a trapped root, a ``/dev`` and signals as below any ``gentee run``. Its listener
goes to the TEE's own process, which answers its calls. This one waits for the program's end, brings
what the TEE may not look at itself (:mod:`gentee.device.reader`), and sees to it that nothing hangs
when the TEE ends first: where opens are trapped it keeps a duplicate of the listener for that.
"""

import errno
import fcntl
import os
import select
import socket
import threading
from collections.abc import Sequence

from gentee.device import control
from gentee.device.host import TerminalLog
from gentee.device.program import Program
from gentee.device.reader import Reader
from gentee.device.state_dir import StateDir, folder_of
from gentee.errors import UserError
from gentee.linux.peer import Peer
from gentee.linux.seccomp import (
    SECCOMP_IOCTL_NOTIF_RECV,
    SECCOMP_IOCTL_NOTIF_SEND,
    SECCOMP_NOTIF_RESP,
    SECCOMP_USER_NOTIF_FLAG_CONTINUE,
)

_LEAVE_SECONDS = 10.0
_PROBE_SECONDS = 10.0


def connect(name: str) -> control.Connection:
    """To the TEE of this name, or whose state folder this is. UserError: there is none for us."""
    folder = folder_of(name)
    start = f"start it with: gentee serve {name}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    state = None
    try:
        state = StateDir(folder, foreign=True)
        sock.connect(state.address())
        if "/" not in name and Peer(sock).uid not in (os.geteuid(), 0):
            raise UserError(f"TEE {name!r}: somebody else listens in your state folder")
    except FileNotFoundError as error:
        sock.close()
        raise UserError(f"no TEE {name!r} runs", start) from error
    except ConnectionRefusedError as error:  # the socket of one that was killed
        sock.close()
        raise UserError(f"no TEE {name!r} runs", start) from error
    except PermissionError as error:
        sock.close()
        raise UserError(
            f"TEE {name!r}: it belongs to somebody else",
            "only its owner may use it, or who is in the group that it was given",
        ) from error
    except OSError as error:
        sock.close()
        raise UserError(f"TEE {name!r}: {error.strerror or error}") from error
    except BaseException:
        sock.close()
        raise
    finally:
        if state is not None:
            state.close()
    return control.Connection(sock)


class JoinedRun:
    """One ``gentee run --tee``.

    :param argv: the program and its arguments; the program is looked for in PATH.
    :param name: of the TEE, or its state folder.
    :param way: ``auto``, ``namespace`` or ``open`` (docs/design.md).
    :param root: the socket of a trapped root that was forked before, for the first way to try.
    """

    def __init__(
        self,
        argv: Sequence[str],
        name: str,
        *,
        way: str,
        verbose: bool = False,
        root: socket.socket | None = None,
    ) -> None:
        self._name = name
        self._verbose = verbose
        self._terminal = TerminalLog()
        self._program = Program(
            argv, way=way, root=root, warn=self._terminal.warn if verbose else None
        )
        self._kept = -1  # the listener, where it is needed after the TEE's end
        self._first_id = 0
        self._lock = threading.Lock()  # protects _leaving and _gone
        self._leaving = False
        self._gone = False  # the TEE ended first
        self._reader = Reader()
        self._left = threading.Event()  # the TEE has let go of the program

    def run(self) -> int:
        """Run the program to its end; its exit status, 128 + N if signal N ended it."""
        connection = connect(self._name)
        answer, fds = connection.ask(control.JOIN, control.pid_namespace())
        control.close_all(fds)
        names = answer.decode("ascii", "replace").split()
        fds = self._program.listen(names)
        if self._program.serves_opens:
            self._kept = os.dup(fds[0])
            self._first_id = self._probe(self._kept)
        way = control.WAY.pack(control.WAY_CODES[self._program.way])
        try:
            connection.ask(control.LISTEN, way, tuple(fds))
        finally:
            control.close_all(fds)
        if self._verbose:
            self._terminal.warn(
                f"devices {', '.join(names)} of TEE {self._name} by way of {self._program.way}"
            )
        self._program.take_signals()
        watcher = threading.Thread(
            target=self._watch, args=(connection.socket,), name="gentee-join", daemon=True
        )
        watcher.start()
        try:
            return self._program.run()
        finally:
            self._leave(connection.socket, watcher)
            connection.close()
            self._program.close()

    def _probe(self, listener: int) -> int:
        """The number that the kernel gives to the first trapped call, which the root makes."""
        self._program.probe()
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        if not poller.poll(_PROBE_SECONDS * 1000):
            raise UserError("the trapped root does not answer")
        notification = bytearray(80)
        fcntl.ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, notification)
        number = int.from_bytes(notification[:8], "little")
        answer = SECCOMP_NOTIF_RESP.pack(number, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE)
        fcntl.ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, bytearray(answer))
        return number

    def _watch(self, sock: socket.socket) -> None:
        """What the TEE says, until its end or the program's."""
        while True:
            try:
                data, fds = control.receive(sock)
                code, _payload = control.decode(data) if data else (0, b"")
            except (OSError, control.ProtocolError):
                data, fds, code = b"", [], 0
            if not data:
                self._tee_ended()
                self._left.set()
                return
            if code == control.OK:
                self._left.set()
                return
            if code == control.READER and len(fds) == 1:
                self._reader.serve(socket.socket(fileno=fds.pop()))
            control.close_all(fds)

    def _tee_ended(self) -> None:
        with self._lock:
            self._gone = True
            leaving = self._leaving
        if leaving:  # the program's end came right after, and may be for that
            self._terminal.warn(f"TEE {self._name} has ended before its program")
            return
        self._terminal.warn(f"TEE {self._name} has ended: the program goes on without it")
        self._go_on(self._first_id)

    def _go_on(self, first_id: int | None) -> None:
        """Let calls go on for who needs it."""
        kept, self._kept = self._kept, -1
        if kept < 0:
            return
        from gentee.device.left_behind import let_calls_go_on

        let_calls_go_on(kept, first_id)
        os.close(kept)
        if first_id is not None:
            self._program.probe()  # a call with a number above those that are looked for

    def _leave(self, sock: socket.socket, watcher: threading.Thread) -> None:
        with self._lock:
            self._leaving = True
            gone = self._gone
        if gone:
            watcher.join()
            return
        try:
            sock.send(control.encode(control.LEAVE))
        except OSError as error:  # it ended just now
            if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                raise
        # Two must not receive from one listener; and who comes next finds the sessions closed.
        self._left.wait(_LEAVE_SECONDS)
        self._go_on(self._first_id if self._gone else None)
