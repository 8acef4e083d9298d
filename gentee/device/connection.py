# SPDX-License-Identifier: BSD-2-Clause
"""A connection to the control socket of a TEE: its requests, one at a time, and its end."""

import socket
from collections.abc import Callable

from gentee.core.workers import WORKERS
from gentee.device import control
from gentee.errors import TeeError, UserError
from gentee.linux.peer import Peer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from gentee.core.host import Host
    from gentee.device.joined_program import JoinedProgram

    class Server(Protocol):
        """Who has the connections. All is called in the events thread."""

        host: Host

        def handle(
            self, connection: "Connection", code: int, payload: bytes, fds: list[int]
        ) -> None:
            """One request. What is left in ``fds`` is closed by the caller."""

        def forget(self, connection: "Connection") -> None:
            """It is closed."""

        def close_program(self, program: JoinedProgram, *, left: bool) -> None:
            """The program that it stood for is to be left."""


_IDLE_SECONDS = 30.0  # that a connection may take to ask for something


class Connection:
    """One connection to the control socket."""

    def __init__(self, server: "Server", sock: socket.socket, peer: Peer) -> None:
        self.sock = sock
        self.peer = peer
        self.program: JoinedProgram | None = None
        self.joining = False  # the names were told
        self.busy = False  # a worker is at work for it
        self.problem = ""  # why it may not come in: told when it asks for something
        self._server = server
        self._timer = server.host.events.call_later(_IDLE_SECONDS, self._too_slow)

    def _too_slow(self) -> None:
        if self.program is None and not self.busy:
            self.close()

    def read(self) -> None:
        """Events thread: a request, or the end."""
        if self.busy:  # one request at a time: the end is looked at when it is answered
            self._server.host.events.remove(self.sock.fileno())
            return
        try:
            data, fds = control.receive(self.sock)
        except BlockingIOError:
            return
        except control.ProtocolError as error:
            self.refuse(str(error))
            self.close()
            return
        except OSError:
            data, fds = b"", []
        try:
            if not data:
                self.close()
                return
            self._timer.cancel()
            if self.problem:
                self.refuse(self.problem)
                self.close()
                return
            code, payload = control.decode_request(data, len(fds))
            self._server.handle(self, code, payload, fds)
            self._watch_idle()
        except control.ProtocolError as error:
            self.refuse(str(error))
            self.close()
        except OSError as error:  # of a descriptor that came, or the machine has run short
            self.refuse(error.strerror or str(error))
            self.close()
        except Exception:  # our own bug, which the events thread reports
            self.refuse("the TEE has a problem of its own")
            self.close()
            raise
        finally:
            control.close_all(fds)

    def _watch_idle(self) -> None:
        if self.program is None and not self.busy and self.sock.fileno() >= 0:
            self._timer.cancel()
            self._timer = self._server.host.events.call_later(_IDLE_SECONDS, self._too_slow)

    def answer(self, payload: bytes = b"", fds: tuple[int, ...] = ()) -> None:
        self._send(control.encode(control.OK, payload), fds)

    def refuse(self, text: str) -> None:
        self._send(control.encode_text(control.REFUSED, text))

    def _send(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        try:
            socket.send_fds(self.sock, [data], fds, socket.MSG_DONTWAIT)
        except OSError:  # it is gone, or does not read: its end follows
            self._server.host.events.call_soon(self.close)

    def work(self, job: Callable[[], None]) -> None:
        """Do ``job``, which answers, in a thread of its own."""
        self.busy = True

        def run() -> None:
            try:
                job()
            except (TeeError, UserError) as error:
                text = error.detail if isinstance(error, TeeError) else error.message
                self.refuse(text or str(error))
            except OSError as error:
                self.refuse(error.strerror or str(error))
            except Exception as error:  # our own bug
                self._server.host.bug(error)
                self.refuse("the TEE has a problem of its own")
            finally:
                self._server.host.events.call_soon(self._worked)

        try:
            WORKERS.submit(run)
        except OSError as error:  # no thread can be had
            self.busy = False
            self.refuse(f"the TEE has run short of something: {error.strerror}")

    def _worked(self) -> None:
        self.busy = False
        if self.sock.fileno() >= 0:
            # Once more, if its end was seen meanwhile.
            self._server.host.events.remove(self.sock.fileno())
            self._server.host.events.add(self.sock.fileno(), self.read)
            self._watch_idle()

    def close(self, *, left: bool = True) -> None:
        """Events thread: the end of the connection, and of what it stands for."""
        self._timer.cancel()
        if self.sock.fileno() >= 0:
            self._server.host.events.remove(self.sock.fileno())
            self.sock.close()
        self._server.forget(self)
        program, self.program = self.program, None
        if program is not None:
            self._server.close_program(program, left=left)
