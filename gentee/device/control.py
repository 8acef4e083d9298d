# SPDX-License-Identifier: BSD-2-Clause
"""The messages on a TEE's control socket: one packet each (SOCK_SEQPACKET), fixed layouts.

::

    header: magic "GTEE", u16 version, u16 code     then the payload of that code, to the end

A request is answered by ``OK`` or ``REFUSED``, in order. A program joins in two steps: ``JOIN``
tells the names of the devices, and ``LISTEN`` hands over the listener and the files that stand for
the devices. From then on the connection stands for the program: its end is the program's, and the
server may send ``READER`` on it, a socket on which it asks for what only the joiner may look at
(:mod:`gentee.device.reader`).

Both sides decode strictly: what is not exactly as described here ends the connection.
"""

import os
import socket
from struct import Struct

from gentee.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

MAGIC = b"GTEE"
VERSION = 1

# Requests.
JOIN = 1  # payload: device and inode of the joiner's PID namespace; OK: names, one a line
LISTEN = 2  # payload: way; descriptors: listener, device files (in the order of the names)
LEAVE = 3  # the program has ended; OK when nothing of it is left
STATUS = 4  # OK: a descriptor of a memory file with JSON
LIST = 5  # the same: the services
LOAD = 6  # descriptor: the image; OK: uuid, version
UNLOAD = 7  # payload: uuid
STOP = 8  # end the TEE
STATS = 9  # as LIST: what is alive, and what it takes
STORAGE = 10  # descriptors: a memory file with JSON, a regular file or none; answered as LIST
# Answers, and what the server says unasked.
OK = 0x100
REFUSED = 0x101  # payload: text for a person, UTF-8
READER = 0x102  # descriptor: one end of a socket

HEADER = Struct("<4sHH")
PID_NAMESPACE = Struct("<QQ")
WAY = Struct("<B")
IMAGE = Struct("<16sI")  # uuid, version
_FD = Struct("i")

WAY_CODES = {"namespace": 1, "open": 2}

MAX_MESSAGE = 4096  # bytes
MAX_TEXT = 1024
MAX_IMAGE = 16 << 20  # bytes, as TEE_IOC_LOAD_TS takes
MAX_JSON = 1 << 20  # bytes of a request
MAX_FDS = 1 + 32  # a listener, and a file for each of TEE_NUM_DEVICES

# How many bytes of payload a request has, and how many descriptors: at least, at most.
_REQUESTS: dict[int, tuple[int, int, int]] = {
    JOIN: (PID_NAMESPACE.size, 0, 0),
    LISTEN: (WAY.size, 1, MAX_FDS),
    LEAVE: (0, 0, 0),
    STATUS: (0, 0, 0),
    LIST: (0, 0, 0),
    LOAD: (0, 1, 1),
    UNLOAD: (16, 0, 0),
    STOP: (0, 0, 0),
    STATS: (0, 0, 0),
    STORAGE: (0, 1, 2),
}


class ProtocolError(Exception):
    """A message that is none of those above."""


class Refused(UserError):
    """The TEE says no, and why."""


def decode(data: bytes) -> tuple[int, bytes]:
    """Code and payload of a message; ProtocolError for anything else."""
    if len(data) < HEADER.size:
        raise ProtocolError("a message without a header")
    magic, version, code = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ProtocolError("not a message of gentee")
    if version != VERSION:
        raise ProtocolError(f"version {version} of the protocol; this TEE speaks {VERSION}")
    return code, data[HEADER.size :]


def decode_request(data: bytes, fds: int) -> tuple[int, bytes]:
    """Code and payload of a request that came with ``fds`` descriptors."""
    code, payload = decode(data)
    shape = _REQUESTS.get(code)
    if shape is None:
        raise ProtocolError(f"no request {code}")
    size, least, most = shape
    if len(payload) != size:
        raise ProtocolError(f"request {code} with {len(payload)} bytes")
    if not least <= fds <= most:
        raise ProtocolError(f"request {code} with {fds} descriptors")
    return code, payload


def encode(code: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(MAGIC, VERSION, code) + payload


def encode_text(code: int, text: str) -> bytes:
    """A message with a line for a person, cut where it is too long."""
    return encode(code, text.encode("utf-8", "backslashreplace")[:MAX_TEXT])


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One message and its descriptors, close-on-exec; no bytes at the end of the connection.

    A message that is too long, or with too many descriptors, is ProtocolError, and nothing of it
    stays open.
    """
    # A descriptor more than may be: whether the kernel had to leave some out shows in the flags.
    # Not recv_fds(), which leaves them open for whatever is executed.
    room = socket.CMSG_LEN((MAX_FDS + 1) * _FD.size)
    data, ancillary, flags, _address = sock.recvmsg(MAX_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds += (fd for (fd,) in _FD.iter_unpack(content[: len(content) // 4 * 4]))
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(fds) > MAX_FDS:
        close_all(fds)
        raise ProtocolError("a message that is too long")
    return data, fds


def close_all(fds: list[int]) -> None:
    """Close each of ``fds``, and forget them."""
    while fds:
        os.close(fds.pop())


def pid_namespace() -> bytes:
    """The payload of ``JOIN``: which PID namespace this process is in."""
    status = os.stat("/proc/self/ns/pid")
    return PID_NAMESPACE.pack(status.st_dev, status.st_ino)


class Connection:
    """The asking side of a control socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    def ask(
        self, code: int, payload: bytes = b"", fds: tuple[int, ...] = ()
    ) -> tuple[bytes, list[int]]:
        """Send a request; payload and descriptors of the answer.

        :raises Refused: with the server's reason.
        """
        try:
            socket.send_fds(self.socket, [encode(code, payload)], fds)
            data, received = receive(self.socket)
        except ProtocolError as error:
            _no_gentee(error)
        except OSError as error:
            raise Refused(f"the TEE does not answer: {error.strerror or error}") from error
        try:
            if not data:
                raise Refused("the TEE ended the connection")
            answer, text = decode(data)
            if answer == REFUSED:
                raise Refused(text.decode("utf-8", "replace"))
            if answer != OK:
                raise ProtocolError(f"answer {answer}")
        except BaseException as error:
            close_all(received)
            if isinstance(error, ProtocolError):
                _no_gentee(error)
            raise
        return text, received

    def ask_json(self, code: int, fds: tuple[int, ...] = ()) -> object:
        """Send a request that is answered by JSON in a memory file."""
        import json

        _text, received = self.ask(code, fds=fds)
        try:
            if len(received) != 1:
                raise Refused("the TEE did not answer as expected")
            with open(received.pop(), "rb") as file:
                file.seek(0)
                return json.load(file)
        finally:
            close_all(received)

    def wait_end(self) -> None:
        """Wait until the other side ends the connection."""
        try:
            while self.socket.recv(MAX_MESSAGE):
                pass
        except OSError:  # that was it, in another way
            pass

    def close(self) -> None:
        self.socket.close()


def _no_gentee(error: ProtocolError) -> "NoReturn":
    raise Refused(
        f"the TEE is of another version of gentee, or none: {error}",
        "both sides must be of one version: start the TEE again",
    ) from error
